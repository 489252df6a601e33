"""When and where a node that is a process can be talked with."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError

from py2p_twisted.control.server import ControlFactory
from py2p_twisted.daemon.node import NodeService
from py2p_twisted.errors import BadArgument, CannotStart
from tests.daemon.test_node import NodeTestCase


class ControlTests(NodeTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir(parents=True)
        # A socket's name is short.
        here = os.open(".", os.O_RDONLY)
        self.addCleanup(os.close, here)
        os.chdir(self.folder)
        self.addCleanup(os.fchdir, here)
        self.patch(os, "environ", {})

    @property
    def sockets(self) -> list[str]:
        """Where it listens for those who want to talk."""
        return [one[0] for one in self.reactor.unixServers]

    def by_default(self, **given: Any) -> NodeService:
        """A node that is told nothing."""
        made = self.make(**given, control="none")
        made.configuration.settings["control"] = type(made.configuration.settings["control"])(
            None, "default"
        )
        return made

    def test_nothing_to_stand_on(self) -> None:
        """Without a folder of its own or the user's, and when it is told so."""
        for node in (self.by_default(), self.make(control="none")):
            node.startService()
            self.assertEqual((self.sockets, node.control), ([], None))
            node.stopService()

    def test_the_users_folder(self) -> None:
        """Named for the network and the port that it has got."""
        os.environ["XDG_RUNTIME_DIR"] = "."
        node = self.by_default(listen=["tcp:0:interface=10.0.0.1"], network="a/b")
        node.privilegedStartService()
        self.assertEqual(self.sockets, [])  # it may be somebody else's process yet
        node.startService()
        self.assertEqual(self.sockets, ["./py2p/a%2Fb-40000.sock"])
        self.assertIn("it can be talked with at ./py2p/a%2Fb-40000.sock", self.said())

    def test_its_own_folder(self) -> None:
        """That of its state."""
        os.environ["XDG_RUNTIME_DIR"] = "."
        node = self.by_default()
        settings = node.configuration.settings
        settings["state-dir"] = type(settings["control"])("state", "default")
        node.startService()
        self.assertEqual(self.sockets, ["state/control.sock"])

    def test_where_it_is_told_to(self) -> None:
        node = self.start(control="x.sock")
        self.assertEqual(self.sockets, ["x.sock"])
        assert node.control is not None
        self.assertTrue(node.control.running)
        node.startService()
        self.assertEqual(len(self.sockets), 1)

    def test_it_stops_with_the_node(self) -> None:
        node = self.start(control="x.sock")
        done: list[object] = []
        node.stopService().addCallback(done.append)
        self.network.advance(10)
        self.assertEqual(len(done), 1)
        assert node.control is not None
        self.assertFalse(node.control.running)

    def test_a_place_that_is_taken(self) -> None:
        """It is found out before anything is started."""
        listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(listening.close)
        listening.bind("x.sock")
        listening.listen()
        error = self.assertRaises(BadArgument, self.make, control="x.sock")
        self.assertIn("a node is there already that can be talked with at x.sock", str(error))

    def test_a_place_of_no_use(self) -> None:
        """Who has named it is told, in one line."""
        Path("file").touch()
        node = self.make(control="file/x.sock")
        error = self.assertRaises(CannotStart, node.startService)
        self.assertEqual(str(error), "--control=file/x.sock: Not a directory")

        def listen_unix(*arguments: object) -> None:
            raise CannotListenError(None, b"x.sock", OSError(28, "No space left on device"))

        self.reactor.listenUNIX = listen_unix
        node = self.make(control="x.sock")
        error = self.assertRaises(CannotStart, node.startService)
        self.assertEqual(str(error), "--control=x.sock: No space left on device")

    def test_a_default_of_no_use(self) -> None:
        """A node does without what nobody has asked for."""
        os.mkdir("py2p", 0o755)
        os.chmod("py2p", 0o755)
        os.environ["XDG_RUNTIME_DIR"] = "."
        node = self.by_default()
        node.startService()
        self.assertTrue(node.factory.started)
        self.assertIsNone(node.control)
        self.assertIn("nobody can talk with this node: ./py2p is open to others", self.said()[-1])

    def test_an_endpoint_that_takes_its_time(self) -> None:
        """It can be talked with when it is a node; if that fails late, the process ends."""
        Path("file").touch()
        stopped: list[object] = []
        self.reactor.stop = lambda: stopped.append(None)
        for control, problem in (
            ("x.sock", None), ("file/x.sock", "--control=file/x.sock: Not a directory"),
        ):  # fmt: skip
            node = self.make(control=control)
            later: Deferred[Any] = Deferred()
            node._listen[0].listen = lambda factory, later=later: later
            node.startService()
            self.assertFalse(node.control is not None and node.control.running)
            later.callback(self.reactor.listenTCP(4444, None))
            self.assertEqual(node.start_error, problem)
        self.assertEqual((self.sockets, len(stopped)), (["x.sock"], 1))

    def test_what_is_asked(self) -> None:
        """It is the node's own status, with what an operator wants besides."""
        node = self.start(control="x.sock", exec="/bin/cat")
        ((_, factory, *_),) = self.reactor.unixServers
        assert isinstance(factory, ControlFactory)
        self.assertIn("programs", factory.words.do("status", {})["status"])  # type: ignore[index]
        self.assertIs(factory.mesh, node)
