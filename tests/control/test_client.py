"""
The other end: what a program gets that asks a node.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from py2p_twisted.control import client, places
from py2p_twisted.control.client import ControlClient, endpoint_for, reach
from py2p_twisted.control.lines import ControlError
from py2p_twisted.control.places import TcpPlace, UnixPlace
from py2p_twisted.control.server import ControlService
from py2p_twisted.errors import BadArgument
from py2p_twisted.net import MeshService
from tests.control.people import CONTROL, ControlTestCase
from tests.control.test_places import FolderTestCase

HERE = UnixPlace("x.sock")


class ClientTestCase(ControlTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(
            client,
            "endpoint_for",
            lambda reactor, where, timeout: self.mesh.network.client(("10.0.9.1", 1), CONTROL),
        )

    def wait(self, doing: Any) -> Any:
        """What something comes to."""
        results: list[Any] = []
        Deferred.fromCoroutine(doing).addBoth(results.append) if hasattr(
            doing, "send"
        ) else doing.addBoth(results.append)
        self.mesh.settle()
        (result,) = results
        return result

    def reach(self) -> ControlClient:
        reached = self.wait(reach(self.mesh.clock, HERE))
        self.assertIsInstance(reached, ControlClient)
        return reached  # type: ignore[no-any-return]

    def refused(self, doing: Any) -> tuple[str, str]:
        """With what word and text something fails."""
        failure = self.wait(doing)
        self.assertIsInstance(failure, Failure)
        failure.trap(ControlError)
        return failure.value.reason, str(failure.value)


class AskingTests(ClientTestCase):
    def test_answers(self) -> None:
        """Each belongs to its question, whatever the order."""
        later: Deferred[dict[str, Any]] = Deferred()
        words = {"now": lambda request: {"x": request["y"]}, "later": lambda request: later}
        self.patch(self.factory.words, "_words", words)
        reached = self.reach()
        slow = reached.ask("later")
        self.assertEqual(self.wait(reached.ask("now", y=7))["x"], 7)
        later.callback({"x": 8})
        self.assertEqual(self.wait(slow)["x"], 8)

    def test_refusals(self) -> None:
        reached = self.reach()
        self.assertEqual(self.refused(reached.ask("nothing"))[0], "unknown request")
        self.assertEqual(self.wait(reached.ask("peers"))["ok"], True)

    def test_no_answer(self) -> None:
        """It is not waited for for ever, and ignored when it comes."""
        later: Deferred[dict[str, Any]] = Deferred()
        self.patch(self.factory.words, "_words", {"later": lambda request: later})
        reached = self.reach()
        asked = reached.ask("later", patience=3)
        self.mesh.advance(4)
        self.assertEqual(self.refused(asked), ("no answer", "the node does not answer within 3 s"))
        later.callback({})
        self.mesh.settle()
        self.patch(self.factory.words, "_words", {"later": lambda request: Deferred()})
        asked = reached.ask("later")
        asked.cancel()
        self.assertTrue(self.wait(asked).check(Exception))

    def test_the_node_goes(self) -> None:
        """Whoever waits is told, and so is whoever asks later."""
        self.patch(self.factory.words, "_words", {"later": lambda request: Deferred()})
        reached = self.reach()
        asked = reached.ask("later")
        self.factory.close()
        self.assertEqual(self.refused(asked)[0], "gone")
        self.assertEqual(self.refused(reached.ask("later"))[0], "gone")
        self.assertEqual(self.wait(reached.closed).reason, "gone")

    def test_the_last_word(self) -> None:
        """Why the node hangs up is what who asks is told."""
        for _ in range(16):
            self.reach()
        self.assertEqual(self.refused(self.reach().ask("peers"))[0], "too many clients")

    def test_events(self) -> None:
        reached = self.reach()
        told: list[Any] = []
        reached.on_event = told.append
        self.wait(reached.ask("listen"))
        self.mesh["ben"].send("x")
        self.mesh.settle()
        self.assertEqual([one["packets"] for one in told], [["x"]])
        reached.close()
        self.mesh.settle()
        self.assertEqual(self.factory.clients, {})

    def test_what_is_no_node(self) -> None:
        """Its words are not believed."""
        reached = self.reach()
        asked = reached.ask("peers")
        reached.dataReceived(b"220 mail.example ESMTP\r\n")
        self.assertEqual(self.refused(asked)[0], "bad answer")
        self.mesh.settle()
        self.assertEqual(self.factory.clients, {})

    def test_nobody_there(self) -> None:
        """Each with what is wrong."""
        for error, text in (
            (ConnectError(2), "there is no such socket"),
            (ConnectError(111), "nobody answers there any more"),
            (ConnectError(13), "it belongs to somebody else"),
        ):

            class Failing:
                def connect(self, factory: object, error: Exception = error) -> Deferred[Any]:
                    done: Deferred[Any] = Deferred()
                    done.errback(Failure(error))
                    return done

            self.patch(client, "endpoint_for", lambda *what, made=Failing: made())
            self.assertEqual(self.refused(reach(self.mesh.clock, HERE)), ("no node", text))

    def test_endpoints(self) -> None:
        """What a place stands for."""
        reactor = MemoryReactorClock()
        for where in (HERE, TcpPlace("127.0.0.1", 9, "t"), TcpPlace("::1", 9, "t")):
            _endpoint_for(reactor, where, 5.0).connect(None)  # type: ignore[arg-type]
        self.assertEqual(reactor.unixClients[0][0], "x.sock")
        self.assertEqual([one[:2] for one in reactor.tcpClients], [("127.0.0.1", 9), ("::1", 9)])


_endpoint_for = endpoint_for


class TokenTests(ClientTestCase):
    token = "secret"

    def test_it_is_said_first(self) -> None:
        path = self.mktemp()
        where = TcpPlace("127.0.0.1", 9, path)
        reason, text = self.refused(reach(self.mesh.clock, where))
        self.assertEqual(reason, "no node")
        self.assertIn(f"its token cannot be read from {path}: No such file", text)
        Path(path).write_text("wrong\n")
        self.assertEqual(self.refused(reach(self.mesh.clock, where))[0], "gone")
        Path(path).write_text("secret\n")
        reached = self.wait(reach(self.mesh.clock, where))
        self.assertEqual(self.wait(reached.ask("peers"))["ok"], True)


class ServiceTests(FolderTestCase):
    """The service listens where it is told to, and tidies up."""

    def setUp(self) -> None:
        super().setUp()
        self.reactor = MemoryReactorClock()

    def make(self, where: Any) -> ControlService:
        mesh = SimpleNamespace(factory=SimpleNamespace(settings=SimpleNamespace(max_message=1024)))
        return ControlService(self.reactor, cast(MeshService, mesh), where)

    def test_a_socket(self) -> None:
        service = self.make("x.sock")
        service.startService()
        service.startService()
        ((path, _, backlog, mode, _),) = self.reactor.unixServers
        self.assertEqual((path, backlog, mode), ("x.sock", 16, 0o600))
        done: list[object] = []
        service.stopService().addCallback(done.append)
        service.stopService().addCallback(done.append)
        self.assertEqual(done, [None, None])

    def test_a_port(self) -> None:
        """With a token that is new each time, and goes with it."""
        tokens = []
        for _ in range(2):
            service = self.make("tcp:127.0.0.1:4500:token=t")
            service.startService()
            tokens.append(places.read_token("t"))
            service.stopService()
            self.assertFalse(os.path.exists("t"))
        self.assertEqual(
            [(one[0], one[3]) for one in self.reactor.tcpServers], [(4500, "127.0.0.1")] * 2
        )
        self.assertEqual([len(token) for token in tokens], [64, 64])
        self.assertNotEqual(*tokens)

    def test_a_token_that_cannot_be_written(self) -> None:
        """Nobody could say it, so nothing is listened on."""
        Path("file").touch()
        service = self.make("tcp:127.0.0.1:4500:token=file/t")
        self.assertRaises(OSError, service.startService)
        self.assertFalse(service.running)

    def test_a_place_that_is_taken(self) -> None:
        """It is found out before anything is started."""
        self.bind("x.sock")
        self.assertRaises(BadArgument, self.make, "x.sock")
        self.assertRaises(BadArgument, self.make, "tcp:192.0.2.7:1")
