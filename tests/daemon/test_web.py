"""When and where a node that is a process has a status page."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError

from py2p_twisted.control import places
from py2p_twisted.daemon.configuration import ConfigurationError, configure
from py2p_twisted.errors import CannotStart
from py2p_twisted.web import server
from tests.daemon.test_node import NodeTestCase, taken


class WebTests(NodeTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir(parents=True)
        here = os.open(".", os.O_RDONLY)
        self.addCleanup(os.close, here)
        os.chdir(self.folder)
        self.addCleanup(os.fchdir, here)
        self.patch(os, "environ", {})

    def pages(self) -> list[tuple[int, str]]:
        """The ports that status pages listen on, with their interfaces."""
        hosts = [port.getHost() for port in self.reactor.ports]
        return [(host.port, host.host) for host in hosts if host.port not in (4444, 4445)]

    def token(self) -> str:
        """What the log says of the token."""
        (event,) = self.named("status page")
        return str(event["token"])

    def test_off(self) -> None:
        """Unless it is asked for."""
        node = self.start()
        self.assertIsNone(node.web)
        self.assertEqual(self.pages(), [])

    def test_where(self) -> None:
        """For this machine alone, unless an interface is named; and not before the node."""
        node = self.make(web="8080")
        node.privilegedStartService()
        self.assertEqual(self.pages(), [])
        node.startService()
        self.assertEqual(self.pages(), [(8080, "127.0.0.1")])
        node.startService()
        self.assertEqual(len(self.pages()), 1)
        self.start(listen=["tcp:4445"], advertise="10.0.0.2", web="tcp:81:interface=0.0.0.0")
        self.assertEqual(self.pages()[1:], [(81, "0.0.0.0")])

    def test_hosts(self) -> None:
        """Names that it may be asked for by."""
        node = self.start(web="8080", web_host=["Node1.example", "b"])
        assert node.web is not None
        self.assertEqual(node.web.hosts, {"node1.example", "b"})

    def test_values(self) -> None:
        """What the options take."""
        self.assertEqual(configure({"web": "8080"})["web"], "tcp:8080")
        for value in ("", "x", "70000", "tcp:70000", "127.0.0.1:8080", "tcp:"):
            with self.assertRaises(ConfigurationError) as caught:
                configure({"web": value})
            self.assertIn("--web=", str(caught.exception))
        for value in ("", "a b", "name:80", "http://x", "x/y"):
            with self.assertRaises(ConfigurationError):
                configure({"web-host": [value]})

    def test_no_place_for_a_token(self) -> None:
        self.start(web="8080")
        self.assertEqual(self.token(), "no token: nothing can be sent from it")

    def test_beside_the_control_socket(self) -> None:
        self.start(web="8080", control="x.sock")
        self.assertEqual(self.token(), "token in x.web.token")
        self.assertEqual(os.stat("x.web.token").st_mode & 0o777, 0o600)

    def test_in_its_own_folder(self) -> None:
        """Also when it cannot be talked with."""
        self.start(web="8080", state_dir="state")
        self.assertEqual(self.token(), "token in state/web.token")
        self.assertTrue(os.path.exists("state/web.token"))

    def test_in_the_users_folder(self) -> None:
        os.environ["XDG_RUNTIME_DIR"] = "."
        self.start(web="8080")
        self.assertEqual(self.token(), "token in ./py2p/mesh-4444.web.token")
        self.assertEqual(os.stat("py2p").st_mode & 0o777, 0o700)

    def test_where_there_are_no_sockets(self) -> None:
        self.patch(places, "HAVE_UNIX", False)
        os.environ["XDG_RUNTIME_DIR"] = "."
        self.start(web="8080")
        self.assertEqual(self.token(), "token in ./py2p/4444.web.token")

    def test_the_control_token(self) -> None:
        """It is one and the same, if there is one."""
        node = self.start(web="8080", control="tcp:127.0.0.1:9:token=x.token")
        self.assertEqual(self.token(), "token in x.token")
        assert node.web is not None
        self.assertEqual(node.web._token, Path("x.token").read_text().strip())
        self.assertEqual(len(node.web._token or ""), 64)

    def test_taken(self) -> None:
        """One line that says what to do."""
        self.reactor.taken[8080] = taken(8080, errno.EADDRINUSE)
        node = self.make(web="8080")
        error = self.assertRaises(CannotStart, node.startService)
        self.assertEqual(
            str(error), "--web=tcp:8080: port 8080 is in use: stop its owner or use another one"
        )

    def test_other_problems(self) -> None:
        """The same in one line each."""
        self.reactor.taken[80] = taken(80, errno.EACCES)
        error = self.assertRaises(CannotStart, self.make(web="80").startService)
        self.assertEqual(str(error), "--web=tcp:80: Permission denied")
        error = self.assertRaises(CannotStart, self.make(web="localhost:80").startService)
        self.assertRegex(
            str(error), r"^--web=localhost:80: expected a port, or an endpoint such as"
        )
        Path("file").touch()
        node = self.make(web="81", control="x.sock")
        self.patch(places, "write_token", lambda *_: os.mkdir("file/x"))
        error = self.assertRaises(CannotStart, node.startService)
        self.assertEqual(str(error), "--web=tcp:81: Not a directory")
        self.assertEqual(self.pages(), [])

    def test_taken_late(self) -> None:
        """The process ends, and the log says why."""
        stopped: list[object] = []
        self.reactor.stop = lambda: stopped.append(None)
        node = self.make(web="8080")
        late: Deferred[None] = Deferred()

        class Later:
            def listen(self, factory: object) -> Deferred[None]:
                return late

        self.patch(server, "serverFromString", lambda *_: Later())
        node.startService()
        self.assertEqual(stopped, [])
        late.errback(CannotListenError("x", 8080, OSError(errno.EADDRINUSE, "in use")))
        self.assertEqual(len(stopped), 1)
        self.assertIn("port 8080 is in use", node.start_error or "")

    def test_it_stops_with_the_node(self) -> None:
        node = self.start(web="8080", control="x.sock")
        done: list[object] = []
        node.stopService().addCallback(done.append)
        self.network.advance(10)
        self.assertEqual(len(done), 1)
        assert node.web is not None
        self.assertFalse(node.web.running)
        self.assertFalse(os.path.exists("x.web.token"))
