"""
``py2p chat --control``: through a node in memory.
"""

from __future__ import annotations

import signal
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from py2p_twisted.cli import chat
from py2p_twisted.cli.chat import Chat
from py2p_twisted.cli.control import Given
from py2p_twisted.control.places import UnixPlace
from tests.cli.members import FIRST, options
from tests.cli.test_chat import ToyConsole
from tests.cli.test_control import ADA, ControlTestCase


class ThroughTests(ControlTestCase):
    """
    A conversation through ada.

    :ivar console: what is typed and shown.
    """

    def setUp(self) -> None:
        super().setUp()
        self.use(chat)
        self.console = ToyConsole()
        self.talk: Deferred[Any] = Deferred()
        self.mesh.advance(1)

    def begin(self, path: str = ADA) -> None:
        """Begin to talk."""
        where = options(control=Given(UnixPlace(path)))
        made = Chat(self.mesh.clock, where, "cyd", self.console)  # type: ignore[arg-type]
        self.talk = Deferred.fromCoroutine(made.run())
        self.addCleanup(self.talk.addErrback, lambda failure: failure.trap(CancelledError))
        self.addCleanup(self.talk.cancel)
        self.mesh.settle()

    def type(self, line: str | None) -> list[str]:
        """Type a line; what is shown then."""
        before = len(self.console.shown)
        self.console.type(line)
        self.mesh.settle()
        return self.console.shown[before:]

    def test_talking(self) -> None:
        """Nobody joins; own lines are shown by whoever types them alone."""
        self.begin()
        self.assertEqual(
            self.console.shown,
            [
                "* through the node at 10.0.0.1:4444, which has 1 peer as cyd; "
                "Ctrl-D leaves, /help helps"
            ],
        )
        self.assertEqual(self.type("hello"), [])
        self.assertEqual(self.inbox("ben"), [("cyd", "hello")])
        self.mesh["ben"].send("ben", "hi\x1b")
        self.mesh["ben"].send("storm", b"\xff", 7)
        self.mesh.settle()
        self.assertEqual(self.console.shown[1], "ben: hi\\x1b")
        self.assertIn("  storm  ", self.console.shown[2])
        self.assertEqual(self.members, [])
        self.type(None)
        self.assertIsNone(self.outcome(self.talk))
        self.mesh.settle()
        self.assertEqual(self.factories[ADA].clients, {})

    def test_peers(self) -> None:
        """Who they are, who comes, and who goes."""
        self.begin()
        ben = self.mesh["ben"].id.decode()
        self.assertEqual(self.type("/peers"), [f"* {ben} at 10.0.0.2:4444"])
        self.mesh.stop("ben")
        self.mesh.settle()
        self.assertIn("* peer down at 10.0.0.2:4444, because", self.console.shown[-1])
        self.mesh.add("dan")
        self.mesh.link("dan", "ada")
        self.mesh.advance(1)
        self.assertRegex(self.console.shown[-1], r"^\* peer up at 10\.0\.0\.3:\d+$")

    def test_what_cannot_be_sent(self) -> None:
        """It is said, and the conversation goes on."""
        self.begin()
        (said,) = self.type("\udcff")
        self.assertIn("* not sent: ", said)
        self.assertEqual(self.type("better"), [])
        self.assertEqual(self.inbox("ben"), [("cyd", "better")])

    def test_the_node_goes(self) -> None:
        """That ends it."""
        self.begin()
        self.factories[ADA].close()
        outcome = self.outcome(self.talk)
        self.assertIsInstance(outcome, Failure)
        self.assertIn("the node has hung up", str(outcome.value))

    def test_no_node(self) -> None:
        code = self.main("chat", "--control=nowhere.sock")
        self.assertEqual(code, 1)
        self.assertIn("py2p chat: no running node at nowhere.sock", self.said())

    def test_usage(self) -> None:
        for arguments in ([f"--join={FIRST}"], ["--tls"]):
            self.assert_line(
                self.main("chat", f"--control={ADA}", *arguments), 2, "does not go with it"
            )

    def test_interrupted(self) -> None:
        """While it waits for a node that does not answer."""
        self.mesh.network.connected = lambda near, far: setattr(far, "stalled", True)
        self.later(1, self.interrupt, signal.SIGINT)
        self.assertEqual(self.main("chat", f"--control={ADA}"), 130)
        self.assertIn("py2p chat: interrupted\n", self.said())
