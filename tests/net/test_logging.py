"""What an operator reads in the log: a line for each event, never more than needed, and safe."""

from __future__ import annotations

from typing import Any, ClassVar
from unittest import mock

from hypothesis import example, given
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet import error as twisted_error
from twisted.internet.defer import ensureDeferred
from twisted.logger import Logger, LogLevel, capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core import flags
from py2p_twisted.core.connection import HandshakeError
from py2p_twisted.core.network import Network
from py2p_twisted.errors import LinkUnresponsive, MeshClosed
from py2p_twisted.net import service
from py2p_twisted.net.protocol import MeshProtocol
from py2p_twisted.net.reports import (
    BURST,
    INTERVAL,
    LOCAL_BURST,
    Reports,
    printable,
    reason_of,
    source_of,
)
from py2p_twisted.net.status import status_of
from py2p_twisted.testing import MemoryMesh
from tests.core.support import WALL, frame, handshake, raw, whisper
from tests.net.wires import Host, gone, wire

#: What a peer may call itself to write into a log or onto a terminal.
HOSTILE = "a\r\nb\x1b[2J\x1b]0;owned\x07\x00\x9b31m\u202e\u2028\x85z"


class LogTestCase(SynchronousTestCase):
    limits: ClassVar[dict[str, Any]] = {}

    def setUp(self) -> None:
        self.host = Host(**self.limits)
        catching = capturedLogs()
        self.events = catching.__enter__()
        self.addCleanup(catching.__exit__, None, None, None)

    def named(self, name: str) -> list[dict[str, Any]]:
        """The events of one name."""
        return [event for event in self.events if event.get("event") == name]

    def lines(self, name: str) -> list[str]:
        """Their texts."""
        return [formatEvent(event) for event in self.named(name)]

    def names(self) -> list[str]:
        """All names of events, in order."""
        return [event["event"] for event in self.events if "event" in event]

    def assert_event(self, event: dict[str, Any], level: Any, **fields: Any) -> None:
        """An event has these fields, is of the links' namespace, and its text is one line."""
        self.assertEqual({name: event.get(name) for name in fields}, fields)
        self.assertEqual(event["log_namespace"], "py2p_twisted.net")
        self.assertIs(event["log_level"], level)
        self.assertTrue(formatEvent(event).isprintable(), repr(formatEvent(event)))


class SettlingTests(LogTestCase):
    """Who merely has a look is no news; such links come and go all the time."""

    def test_a_plain_peer(self) -> None:
        """It is one when it has not announced anything for two seconds."""
        wire = self.host.join(b"Ada")
        self.assertEqual(self.names(), ["joined"])
        self.host.clock.advance(2)
        self.assertEqual(self.names(), ["joined", "peer up"])
        gone(wire)
        self.assertEqual(self.names(), ["joined", "peer up", "peer down", "alone"])

    def test_how_many_there_are(self) -> None:
        """Those who are called up, and not down again."""
        ada = self.host.join(b"Ada")
        self.host.clock.advance(1)
        self.host.join(b"Ben", peer=("10.0.1.1", 1))
        self.host.clock.advance(1)
        self.assertEqual(self.lines("peer up"), ["peer up: Ada at 10.0.0.9:50000, 1 in all"])
        gone(ada)
        self.assertTrue(self.lines("peer down")[0].endswith("; 0 remain"))

    def test_somebody_who_goes_before_that(self) -> None:
        """Is told to those alone who want to know it all."""
        self.host.join(b"Ada")
        self.host.clock.advance(3)
        gone(self.host.join(b"Ben", peer=("10.0.1.1", 1)))
        (down,) = self.named("peer down")
        self.assert_event(down, LogLevel.debug, peer="Ben")
        self.host.clock.advance(3)
        self.assertEqual(len(self.named("peer up")), 1)


class ComingAndGoingTests(LogTestCase):
    """Without the extension, where everybody who joins is here to stay."""

    limits: ClassVar[dict[str, Any]] = {"extensions": False}

    def test_joined(self) -> None:
        """The first peer means that the node has joined: which network, and through whom."""
        self.host.join(b"Ada")
        self.assertEqual(self.names(), ["joined", "peer up"])
        joined, up = self.events
        self.assert_event(joined, LogLevel.info, network="mesh", where="10.0.0.9:50000")
        self.assertEqual(formatEvent(joined), "joined network mesh through 10.0.0.9:50000")
        self.assert_event(up, LogLevel.info, peer="Ada", where="10.0.0.9:50000", count=1)
        self.assertEqual(formatEvent(up), "peer up: Ada at 10.0.0.9:50000, 1 in all")

    def test_more_peers(self) -> None:
        """Those that follow are peers, with their number."""
        for number in range(3):
            self.host.join(b"Peer %d" % number, peer=("10.0.1.1", number + 1))
        self.assertEqual(self.names(), ["joined", "peer up", "peer up", "peer up"])
        self.assertEqual([event["count"] for event in self.named("peer up")], [1, 2, 3])

    def test_a_dialled_peer(self) -> None:
        """A peer that was dialled has the address that was dialled."""
        endpoint, _ = self.host.dial()
        self.host.answered(endpoint).dataReceived(handshake(b"Ada"))
        self.assertEqual(self.lines("peer up"), ["peer up: Ada at 10.0.0.9:4444, 1 in all"])

    def test_peer_down(self) -> None:
        """A peer that goes: which one, why, and how many remain."""
        one = self.host.join(b"Ada")
        self.host.join(b"Ben", peer=("10.0.1.1", 1))
        gone(one)
        (event,) = self.named("peer down")
        self.assert_event(
            event,
            LogLevel.info,
            peer="Ada",
            reason="closed by peer",
            where="10.0.0.9:50000",
            count=1,
        )
        self.assertEqual(
            formatEvent(event),
            "peer down: Ada at 10.0.0.9:50000, because the peer closed the connection; 1 remain",
        )

    def test_reasons(self) -> None:
        """Each way to go has its own word, which stays the same."""
        for number, (end, reason) in enumerate(
            [
                (lambda peer: gone(peer), "closed by peer"),
                (lambda peer: gone(peer, well=False), "transport"),
                (lambda peer: peer.dataReceived(b"\0\0\0\x40" + bytes(64)), "checksum"),
                (lambda peer: peer.dataReceived(b"\xff" * 100), "frame too large"),
                (lambda peer: peer.dataReceived(handshake(b"Else")), "identity changed"),
                (lambda peer: self.host.factory.disconnect(peer.link), "disconnected"),
                (
                    lambda peer: self.host.factory.close_link(peer.link, LinkUnresponsive(1)),
                    "unresponsive",
                ),
            ]
        ):
            end(self.host.join(b"Peer %d" % number, peer=("10.0.1.1", number + 1)))
            event = self.named("peer down")[-1]
            self.assert_event(event, LogLevel.info, reason=reason)
            self.assertIn(f"because {event['error']};", formatEvent(event))
            self.assertTrue(event["error"])
        self.assertEqual(len(self.named("peer down")), 7)

    def test_alone(self) -> None:
        """When the last peer goes, a warning says what that means."""
        one, other = self.host.join(b"Ada"), self.host.join(b"Ben", peer=("10.0.1.1", 1))
        gone(one)
        self.assertEqual(self.named("alone"), [])
        gone(other)
        (event,) = self.named("alone")
        self.assert_event(event, LogLevel.warn, network="mesh")
        self.assertIn("no peers left", formatEvent(event))
        self.assertEqual(self.names()[-2:], ["peer down", "alone"])

    def test_back_again(self) -> None:
        """When one is back, the node has joined again."""
        gone(self.host.join(b"Ada"))
        self.host.join(b"Ben", peer=("10.0.1.1", 1))
        self.assertEqual(
            self.names(), ["joined", "peer up", "peer down", "alone", "joined", "peer up"]
        )

    def test_leaving_is_no_loneliness(self) -> None:
        """A node that closes does not complain that it is alone."""
        peer = self.host.join(b"Ada")
        self.host.factory.close()
        gone(peer)
        self.assertEqual(self.named("alone"), [])
        self.assertEqual(self.named("peer down")[0]["reason"], "closed")

    def test_a_peer_that_flaps(self) -> None:
        """Each time that it is up it is down as well, so that a reader of the log knows who is there."""
        for _ in range(10):
            gone(self.host.join(b"Ada"))
            self.host.advance(1)
        self.assertEqual(len(self.named("peer up")), 10)
        self.assertEqual(len(self.named("peer down")), 10)

    def test_nobody_fills_the_disk(self) -> None:
        """A host from outside causes so many lines a minute, however often it comes and goes."""
        for _ in range(300):
            gone(self.host.join(b"Eve", peer=("8.8.8.8", 1)))
        self.assertLessEqual(len(self.events), BURST)
        before = len(self.events)
        self.host.join(b"Ada", peer=("9.9.9.9", 1))
        self.assertEqual(self.names()[before:], ["joined", "peer up"])

    def test_neighbours_do_not_fill_it_either(self) -> None:
        """A private network has more room, but not without end."""
        for _ in range(LOCAL_BURST):
            gone(self.host.join(b"Eve", peer=("10.0.0.66", 1)))
        self.assertLessEqual(len(self.events), LOCAL_BURST)

    def test_not_under_many_names_either(self) -> None:
        """Whatever its nodes call themselves, and whatever they do."""
        for number in range(300):
            peer = self.host.join(b"Eve %d" % number, peer=("8.8.8.8", number + 1))
            peer.dataReceived(raw(0, "x", time=WALL - 100_000))
            peer.dataReceived(b"\0\0\0\x40" + bytes(64))
            self.host.accept(peer=("8.8.8.8", number)).dataReceived(b"GET / HTTP/1.1\r\n\r\n" * 9)
        self.assertLessEqual(len(self.events), BURST)

    def test_what_was_left_out_is_said(self) -> None:
        """After a minute there are lines again, the first of which says how many there were not."""
        for _ in range(100):
            gone(self.host.join(b"Eve", peer=("8.8.8.8", 1)))
        before = len(self.events)
        self.host.advance(INTERVAL)
        self.host.join(b"Eve", peer=("8.8.8.8", 1))
        self.assertRegex(
            formatEvent(self.events[before]), r"\d+ lines about this host were left out"
        )
        self.assertEqual(self.names()[before:], ["joined", "peer up"])

    def test_neighbours_are_believed(self) -> None:
        """On this machine and in its own network a mesh of a hundred nodes has all its lines."""
        for number in range(100):
            self.host.join(b"Peer %d" % number, peer=("10.0.0.9", number + 1))
        self.assertEqual(len(self.named("peer up")), min(100, self.host.factory.settings.max_inbound))  # fmt: skip

    def test_two_links_to_one_peer(self) -> None:
        """A second connection to a peer is neither up nor down: the peer was there all the time."""
        mesh = MemoryMesh("ada", "ben")
        mesh["ada"].connect(mesh["ben"])
        mesh["ben"].connect(mesh["ada"])
        mesh.advance(5)
        self.assertTrue(mesh.linked("ada", "ben"))
        self.assertEqual(len(self.named("peer up")), 2)
        self.assertEqual(self.named("peer down"), [])


class RefusingTests(LogTestCase):
    def refused(self, *pieces: bytes) -> dict[str, Any]:
        """What is said of somebody who connects and sends this."""
        peer = self.host.accept()
        for piece in pieces:
            peer.dataReceived(piece)
        (event,) = self.named("refused")
        return event

    def test_another_network(self) -> None:
        """A node of another network: where it is, and that both need the same."""
        event = self.refused(handshake(b"Eve", network="other"))
        self.assert_event(
            event, LogLevel.info, reason="network mismatch", where="10.0.0.9:50000", peer="10.0.0.9"
        )
        text = formatEvent(event)
        self.assertTrue(text.startswith("refused 10.0.0.9:50000: "), text)
        self.assertIn("other", text)

    def test_no_node_at_all(self) -> None:
        """Something that is no node: what was wrong with what it sent."""
        for data, reason in (
            (b"GET / HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n", "frame too large"),
            (b"\x16\x03\x01\x02\x00\x01" + bytes(100), "frame too large"),
            (b"\0\0\0\x40" + bytes(64), "checksum"),
            (b"\0\0\0\x01x", "frame too small"),
            (frame(b"\xc1"), "malformed"),
            (whisper(0, b"x", 1), "illegal in this state"),
            (handshake(b"", network=Network("mesh").id), "handshake"),
        ):
            self.setUp()
            self.assert_event(self.refused(data), LogLevel.info, reason=reason)

    def test_silence(self) -> None:
        """Somebody who says nothing is refused when its time is up."""
        self.host.accept()
        self.host.advance(11)
        (event,) = self.named("refused")
        self.assert_event(event, LogLevel.info, reason="handshake timeout")

    def test_who_goes_before_it_has_begun(self) -> None:
        """Somebody who hangs up without a word may have been looking for something else."""
        gone(self.host.accept())
        (event,) = self.named("refused")
        self.assertIn("before introducing itself", formatEvent(event))

    def test_transports_that_fail(self) -> None:
        """What broke below is said in words that help."""
        for reason, words, others in (
            (twisted_error.ConnectionLost(), "speaks TLS and we do not", "failed"),
            (OSError(113, "No route to host"), "No route to host", "TLS"),
            (
                SSL.Error([("SSL routines", "", "wrong version number")]),
                "may not speak TLS at all",
                "[(",
            ),
            (SSL.Error([("SSL routines", "", "no shared cipher")]), "no shared cipher", "may not"),
            (SSL.Error(), "TLS failed: Error", "may not"),
        ):
            self.setUp()
            self.host.accept().connectionLost(Failure(reason))
            (event,) = self.named("refused")
            self.assert_event(event, LogLevel.info, reason="transport")
            self.assertIn(words, formatEvent(event))
            self.assertNotIn(others, formatEvent(event))

    def test_transports_that_fail_later(self) -> None:
        """A peer that was there is not suspected of speaking something else."""
        gone(self.host.join(b"Ada"), well=False)
        self.assertIn("because the connection was lost;", self.lines("peer down")[0])

    def test_full(self) -> None:
        """A newcomer to a node that is full."""
        host = Host(max_inbound=1)
        host.join(b"Ada")
        host.join(b"Ben", peer=("10.0.1.1", 1))
        (event,) = self.named("refused")
        self.assert_event(
            event, LogLevel.info, reason="too many peers", where="10.0.1.1:1", peer="10.0.1.1"
        )

    def test_refused_only_once_a_minute(self) -> None:
        """A host that comes again and again is named once a minute, whatever its port is."""
        for port in range(1, 300):
            self.host.accept(peer=("10.0.0.9", port)).dataReceived(handshake(network="other"))
        self.assertEqual(len(self.named("refused")), 1)
        self.host.accept(peer=("10.0.0.8", 1)).dataReceived(handshake(network="other"))
        self.assertEqual(len(self.named("refused")), 2)
        self.host.advance(INTERVAL)
        self.host.accept(peer=("10.0.0.9", 400)).dataReceived(handshake(network="other"))
        self.assertIn("298 more", self.lines("refused")[-1])

    def test_refused_is_not_up(self) -> None:
        """Nobody who was refused is a peer, and nobody leaves."""
        self.refused(handshake(network="other"))
        self.assertEqual(self.names(), ["refused"])


class DiallingTests(LogTestCase):
    def test_why_not(self) -> None:
        """A dial that comes to nothing says where to, and why."""
        for error, words in (
            (twisted_error.ConnectionRefusedError(), "refuses connections"),
            (twisted_error.TimeoutError(), "did not answer within"),
            (twisted_error.DNSLookupError("no such host"), "is no known host"),
            (twisted_error.ConnectError(113, "No route to host"), "No route to host"),
            (
                twisted_error.ConnectError(string=Failure(twisted_error.ConnectionDone())),
                "cannot be reached: Connection was closed cleanly.",
            ),
            (ValueError("a mistake of somebody's"), "a mistake of somebody's"),
        ):
            self.setUp()
            endpoint, done = self.host.dial(("node.example", 4444))
            endpoint.done.errback(Failure(error))
            done.addErrback(lambda _: None)
            (event,) = self.named("no connection")
            self.assert_event(event, LogLevel.info, peer="node.example:4444")
            text = formatEvent(event)
            self.assertTrue(text.startswith("no connection to node.example:4444: "), text)
            self.assertIn(words, text)

    def test_endpoints_that_refuse_their_address(self) -> None:
        """So does one that could not even be tried."""
        with mock.patch.object(self.host.factory, "_endpoint_for", side_effect=ValueError("no")):
            self.host.factory.connect(("node.example", 1)).addErrback(lambda _: None)
        self.assertEqual(
            self.lines("no connection"),
            ["no connection to node.example:1: this address cannot be dialled: no"],
        )

    def test_answered_by_the_wrong_one(self) -> None:
        """A node of another network that was dialled is no connection, rather than refused."""
        endpoint, done = self.host.dial()
        self.host.answered(endpoint).dataReceived(handshake(network="other"))
        done.addErrback(lambda _: None)
        (event,) = self.named("no connection")
        self.assert_event(event, LogLevel.info, reason="network mismatch", where="10.0.0.9:4444")
        self.assertEqual(self.names(), ["no connection"])

    def test_answered_by_nobody(self) -> None:
        """What answers and hangs up is no connection either."""
        endpoint, done = self.host.dial()
        gone(self.host.answered(endpoint))
        done.addErrback(lambda _: None)
        self.assertIn("encryption", self.lines("no connection")[0])

    def test_once_a_minute(self) -> None:
        """A bootstrap node that is away for a day is named once a minute."""
        self.host.factory.pin(("10.0.0.9", 4444))
        for _ in range(100):
            for endpoint in self.host.dials:
                if not endpoint.done.called:
                    endpoint.done.errback(Failure(twisted_error.ConnectionRefusedError()))
            self.host.advance(10)
        self.assertGreater(len(self.host.dials), 30)
        self.assertLessEqual(len(self.named("no connection")), 1000 / INTERVAL + 1)
        self.assertGreater(len(self.named("no connection")), 5)

    def test_not_while_closing(self) -> None:
        """A node that closes gives up its dials without a word."""
        endpoint, done = self.host.dial()
        done.addErrback(lambda _: None)
        self.host.factory.close()
        self.assertTrue(endpoint.done.called)
        self.assertEqual(self.names(), [])


class DroppingTests(LogTestCase):
    """Messages of no use, which cost nobody a link."""

    def setUp(self) -> None:
        super().setUp()
        self.peer = self.host.join(b"Ada")

    def stale(self, number: int = 0, peer: MeshProtocol | None = None) -> None:
        """Somebody brings a message from long ago."""
        (peer or self.peer).dataReceived(raw(0, number, time=WALL - 100_000))

    def test_each_reason(self) -> None:
        """A message that is of no use: who brought it, and what was wrong."""
        self.host.advance(1)
        for data, reason, words in (
            (raw(0, "x", time=WALL - 100_000), "stale", "away from our clock"),
            (raw(0, "x", time=WALL + 100_000), "stale", "+"),
            (raw(next(iter(flags.EXTENSIONS)), "x"), "unknown extension", "does not know"),
            (raw(0, "x", sender=7), "bad field", "sender"),  # type: ignore[arg-type]
            (frame(b"\x95\x00\xc4\x01s\x00\x00\xa2\xff\xff"), "bad text", "UTF-8"),
            (whisper(flags.PEERS, "no list"), "bad field", "list"),
        ):
            self.events.clear()
            self.host.factory._reports._said.clear()
            self.peer.dataReceived(data)
            (event,) = self.named("dropped")
            self.assert_event(
                event, LogLevel.info, reason=reason, peer="Ada", where="10.0.0.9:50000"
            )
            text = formatEvent(event)
            self.assertTrue(
                text.startswith(f"dropped a message from 10.0.0.9:50000: {reason}: "), text
            )
            self.assertIn(words, text)
        self.assertEqual(self.host.application.messages, [])
        self.assertEqual(wire(self.peer).calls, [])

    def test_lists_that_nobody_asked_for(self) -> None:
        """A peers list too many is dropped as well."""
        for _ in range(3):
            self.peer.dataReceived(whisper(flags.PEERS, [], time=WALL + _))
        self.assertEqual([event["reason"] for event in self.named("dropped")], ["unasked peers list"])  # fmt: skip

    def test_once_a_minute(self) -> None:
        """One line a minute, with the number of those that were held back."""
        for number in range(200):
            self.stale(number)
        self.assertEqual(len(self.named("dropped")), 1)
        self.host.advance(INTERVAL - 1)
        self.stale(1000)
        self.assertEqual(len(self.named("dropped")), 1)
        self.host.advance(1)
        self.stale(1001)
        self.assertEqual(len(self.named("dropped")), 2)
        self.assertIn("200 more", self.lines("dropped")[1])
        self.assertEqual(self.host.factory.node.drops["stale"], 202)

    def test_for_each_reason(self) -> None:
        """Another reason is another line."""
        for number in range(5):
            self.stale(number)
            self.peer.dataReceived(raw(next(iter(flags.EXTENSIONS)), number))
        self.assertEqual(
            [event["reason"] for event in self.named("dropped")], ["stale", "unknown extension"]
        )

    def test_for_each_peer(self) -> None:
        """Another peer is another line; the same one on another connection is not."""
        other = self.host.join(b"Ben", peer=("10.0.1.1", 1))
        for number in range(5):
            self.stale(number)
            self.stale(number + 100, other)
        self.assertEqual([event["peer"] for event in self.named("dropped")], ["Ada", "Ben"])
        gone(self.peer)
        self.stale(1000, self.host.join(b"Ada", peer=("10.0.2.2", 2)))
        self.assertEqual(len(self.named("dropped")), 2)

    def test_a_whole_read_of_them(self) -> None:
        """Thousands in one read are dealt with, and are one line."""
        data = b"".join(raw(0, number, time=WALL - 100_000) for number in range(3000))
        self.peer.dataReceived(data)
        self.host.advance(1)
        self.assertEqual(self.host.factory.node.drops["stale"], 3000)
        self.assertEqual(len(self.named("dropped")), 1)

    def test_good_ones_say_nothing(self) -> None:
        """A message that is delivered, and its copies, are not worth a line."""
        self.events.clear()
        for _ in range(3):
            self.peer.dataReceived(raw(0, "good"))
        self.assertEqual(self.events, [])
        self.assertEqual(self.host.application.messages, [("good",)])

    def test_too_many(self) -> None:
        """Who brings too many that are broken goes down for it, and the lines say both."""
        for number in range(20):
            self.peer.dataReceived(raw(0, number, sender=7))  # type: ignore[arg-type]
        self.assertEqual([event["reason"] for event in self.named("dropped")], ["bad field"])
        (event,) = self.named("peer down")
        self.assertEqual(event["reason"], "too many content errors")


class OtherEventTests(LogTestCase):
    def dial(self, number: int, ahead: int) -> MeshProtocol:
        """A dialled peer's clock is so far ahead."""
        endpoint, _ = self.host.dial(("10.0.1.1", number))
        peer = self.host.answered(endpoint)
        peer.dataReceived(handshake(b"Peer %d" % number, time=int(self.host.factory.wall()) + ahead))  # fmt: skip
        return peer

    def test_clock(self) -> None:
        """When several peers agree on another time, a warning says by how much."""
        for number in range(1, 5):
            self.dial(number, 3600)
        (event,) = self.named("clock")
        self.assert_event(event, LogLevel.warn, seconds=3600)
        self.assertIn("3600 s", formatEvent(event))
        self.assertIn("set the clock", formatEvent(event))

    def test_clock_is_right_again(self) -> None:
        """When they agree with it again, that is said, and is no warning."""
        for number in range(1, 4):
            self.dial(number, 3600)
        for number in range(4, 10):
            self.dial(number, 0)
        self.assertEqual(
            [event["log_level"] for event in self.named("clock")], [LogLevel.warn, LogLevel.info]
        )
        self.assert_event(self.named("clock")[1], LogLevel.info)

    def test_small_disagreement(self) -> None:
        """A few seconds are put down to the way."""
        for number in range(1, 6):
            self.dial(number, 10)
        self.assertEqual(self.named("clock"), [])

    def test_gap(self) -> None:
        """A reader of messages that is too slow has a gap, told once a minute."""
        self.patch(service, "_BACKLOG", 10)
        mesh = MemoryMesh("ada", "ben")
        mesh.link("ada", "ben")
        reader = mesh["ben"].service.messages()
        waiting = ensureDeferred(reader.__anext__())
        for number in range(100):
            mesh["ada"].send(number)
        mesh.settle()
        self.assertEqual(self.successResultOf(waiting).packets[1], 0)
        (event,) = self.named("gap")
        self.assertEqual(event["log_namespace"], "py2p_twisted.service")
        self.assertIs(event["log_level"], LogLevel.warn)
        self.assertIn("gap", formatEvent(event))
        mesh.advance(INTERVAL)
        for number in range(2):
            mesh["ada"].send(number)
        mesh.settle()
        self.assertIn("88 more", self.lines("gap")[1])

    def test_no_gap(self) -> None:
        """A reader that keeps up has none."""
        self.patch(service, "_BACKLOG", 10)
        mesh = MemoryMesh("ada", "ben")
        mesh.link("ada", "ben")
        reader = mesh["ben"].service.messages()
        for number in range(50):
            waiting = ensureDeferred(reader.__anext__())
            mesh["ada"].send(number)
            mesh.settle()
            self.successResultOf(waiting)
        self.assertEqual(self.named("gap"), [])


class SafetyTests(LogTestCase):
    """What strangers call themselves is shown, not obeyed."""

    def assert_safe(self) -> None:
        """No text in any event, formatted or not, could write on a terminal."""
        self.assertTrue(self.events)
        for event in self.events:
            self.assertTrue(formatEvent(event).isprintable(), repr(formatEvent(event)))
            for name in ("peer", "where", "error", "reason", "network", "id"):
                self.assertTrue(str(event.get(name, "")).isprintable(), (name, event))

    def everything(self, ident: bytes | str, word: Any) -> None:
        """Somebody of this name does everything that leads to a line."""
        host = self.host
        host.join(ident, peer=("10.0.1.1", 1), network=word)
        host.join(ident, peer=("10.0.1.2", 2), network=HOSTILE)
        peer = host.join(ident, peer=("10.0.1.3", 3), address=[word, 1])
        peer.dataReceived(raw(word, word, sender=ident, time=WALL - 100_000))
        peer.dataReceived(raw(word, word, sender=None, time=WALL))  # type: ignore[arg-type]
        peer.dataReceived(
            whisper(flags.PEERS, [[[word, 4444], ident], [[HOSTILE, 1], word]], sender=ident)
        )
        peer.dataReceived(whisper(flags.REQUEST, ident, sender=ident))
        host.join(ident, peer=("10.0.1.4", 4))
        host.advance(5)
        for other in (ident, b"Else"):
            peer.dataReceived(handshake(other))
        for protocol in list(host.factory._protocols):
            gone(protocol)
        host.advance(1)
        host.factory.reply(ident or b"x", host.message()).addErrback(lambda _: None)
        host.advance(20)

    def test_names(self) -> None:
        """Line breaks and escape sequences in ids do not reach the log, in bytes or text."""
        for ident in (HOSTILE, HOSTILE.encode(), HOSTILE.encode("latin-1", "replace")):
            self.setUp()
            self.everything(ident, HOSTILE)
            self.assert_safe()
            self.assertGreaterEqual(
                {event.get("event") for event in self.events},
                {"joined", "peer up", "peer down", "dropped", "refused", "alone"},
            )

    @given(
        ident=st.binary(min_size=1, max_size=12) | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12),
        word=st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.binary(max_size=12),
    )  # fmt: skip
    @example(ident=b"\x1b[2J", word="\x1b[2J")
    @example(ident="{peer} {0} %s", word="{nonesuch}")
    @example(ident=b"\xc2\x9b31m", word=b"\xff\n")
    def test_any_name(self, ident: bytes | str, word: str | bytes) -> None:
        """Nor does anything else that cannot be printed."""
        self.host = Host()
        self.events.clear()
        self.everything(ident, word)
        self.assert_safe()

    def test_replies_that_find_nobody(self) -> None:
        """A reply that was lost names whom it was for, safely."""
        self.host.join(b"Ada")
        self.host.factory.reply(HOSTILE.encode(), self.host.message()).addErrback(lambda _: None)
        self.host.advance(20)
        lost = [event for event in self.events if "reply was lost" in formatEvent(event)]
        self.assertEqual(len(lost), 1)
        self.assert_safe()

    def test_other_networks(self) -> None:
        """The name of a stranger's network is shown safely as well, and what it says remains."""
        self.host.accept().dataReceived(handshake(b"Eve", network="\x1b[2Jother"))
        self.assert_safe()
        self.assertIn("other", self.lines("refused")[0])

    def test_a_dialled_one_that_is_somebody_else(self) -> None:
        """An id that was expected, and the one that was found."""
        self.host.factory.connect(("10.0.0.9", 1), HOSTILE.encode()).addErrback(lambda _: None)
        self.host.answered(self.host.dials[0]).dataReceived(handshake(b"\x1b[2J"))
        self.assertEqual(self.named("no connection")[0]["reason"], "wrong peer")
        self.assert_safe()

    def test_connections(self) -> None:
        """A connection's own description, which logs of other programs may hold, is safe."""
        peer = self.host.join(HOSTILE.encode())
        self.assertTrue(repr(peer.link).isprintable(), repr(repr(peer.link)))
        self.assertTrue(repr(peer).isprintable())

    def test_status(self) -> None:
        """A status, which is there to be printed, shows names as safely as the log."""
        self.host.join(HOSTILE.encode())
        self.host.accept(peer=("10.0.1.1", 1)).dataReceived(handshake(b"Eve", network=HOSTILE))
        self.host.factory.reply(HOSTILE + "x", self.host.message()).addErrback(
            lambda failure: self.host.application.failed.append(failure.value)
        )
        self.host.advance(20)
        errors = [str(error) for error in self.host.application.failed]
        self.assertEqual(len(errors), 2)
        for line in str(status_of(self.host.factory, errors=errors)).split("\n"):
            self.assertTrue(line.isprintable(), repr(line))

    def test_handshakes_that_make_no_sense(self) -> None:
        """What is quoted from a handshake is quoted safely."""
        for said in (
            {"ident": b""},
            {"network": 7},
            {"methods": HOSTILE},
            {"methods": [HOSTILE] * 100},
        ):
            self.host.accept(peer=(f"10.0.1.{len(self.events) + 1}", 1)).dataReceived(
                handshake(**{"network": Network("mesh").id, **said})  # type: ignore[arg-type]
            )
        self.assertEqual(
            {event["reason"] for event in self.named("refused")}, {HandshakeError.reason}
        )
        self.assertEqual(len(self.named("refused")), 4)
        self.assert_safe()


class PrintableTests(SynchronousTestCase):
    def test_as_it_is(self) -> None:
        """What can be printed stays as it is."""
        for text in ("Ada", "4rYbzcdR", "ä ö", "名前", "{x} %s", ""):
            self.assertEqual(printable(text), text)
        self.assertEqual(printable(b"Ada"), "Ada")

    def test_escaped(self) -> None:
        """What cannot is escaped, as Python would write it."""
        for text, shown in (
            ("a\nb", "a\\nb"),
            ("\x1b[2J", "\\x1b[2J"),
            ("\u202e", "\\u202e"),
            ("\ud800", "\\ud800"),
            ("\U000e0001", "\\U000e0001"),
            (b"\xff", "\\xff"),
            (b"a\r", "a\\r"),
            ("ä".encode(), "\\xc3\\xa4"),
        ):
            self.assertEqual(printable(text), shown)

    @given(st.text(st.characters(exclude_categories=[])) | st.binary())
    def test_anything(self, text: str | bytes) -> None:
        """The result is one printable line that can be encoded, whatever was given."""
        shown = printable(text)
        self.assertTrue(shown.isprintable())
        shown.encode("utf-8")

    def test_reasons(self) -> None:
        """The text of an error is printable, and has an end."""
        self.assertEqual(reason_of(ValueError("a\nb")), "a\\nb")
        text = reason_of(ValueError("\x1b" * 100_000))
        self.assertLess(len(text), 600)
        self.assertTrue(text.isprintable())

    def test_how_many_lines(self) -> None:
        """This machine, private networks and names may cause more than the rest of the world."""
        for host in ("127.0.0.1", "10.0.0.9", "192.168.1.1", "::1", "fe80::1%eth0", "node.example"):
            self.assertEqual(source_of(host)[1], LOCAL_BURST, host)
        for host in ("8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8"):
            self.assertEqual(source_of(host)[1], BURST, host)

    def test_one_network_one_host(self) -> None:
        """Whoever has an IPv6 address has a network of them, which counts as one."""
        self.assertEqual(source_of("2001:4860::1"), source_of("2001:4860::ffff:1"))
        self.assertNotEqual(source_of("2001:4860::1")[0], source_of("2001:4860:0:1::1")[0])
        self.assertEqual(source_of("::ffff:8.8.8.8"), source_of("8.8.8.8"))


class ReportsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 0.0
        self.said: list[str] = []
        log = Logger(observer=lambda event: self.said.append(formatEvent(event)))
        self.reports = Reports(log, lambda: self.now)

    def test_whether_it_was_said(self) -> None:
        """Whoever reports something learns whether that was written."""
        say = self.reports.say
        self.assertTrue(say(LogLevel.info, "stale", "Ada", "one"))
        self.assertFalse(say(LogLevel.info, "stale", "Ada", "two"))
        self.assertTrue(say(LogLevel.info, "stale", "Ben", "three"))
        self.assertTrue(self.reports.note(LogLevel.info, "four"))
        self.assertEqual(self.said, ["one", "three", "four"])

    def test_so_many_for_a_host(self) -> None:
        """A host has so many lines in a minute; after it the number of the others is exact."""
        written = [
            self.reports.say(LogLevel.info, "stale", str(number), "x", host="8.8.8.8")
            for number in range(BURST + 7)
        ]
        self.assertEqual(written, [True] * BURST + [False] * 7)
        self.assertEqual(self.said, ["x"] * BURST)
        self.assertFalse(self.reports.note(LogLevel.info, "y", host="8.8.8.8"))
        self.assertTrue(self.reports.note(LogLevel.info, "z", host="9.9.9.9"))
        self.now = INTERVAL
        self.assertTrue(self.reports.note(LogLevel.info, "y", host="8.8.8.8"))
        self.assertEqual(self.said[BURST:], ["z", "y (8 lines about this host were left out)"])
        self.reports.note(LogLevel.info, "y", host="8.8.8.8")
        self.assertEqual(self.said[-1], "y")

    def test_those_near_have_all_they_want(self) -> None:
        """A host of our own network is not counted."""
        for _ in range(BURST * 3):
            self.assertTrue(self.reports.note(LogLevel.info, "x", host="192.168.1.1"))


class ClosingTests(LogTestCase):
    def test_nobody_is_blamed(self) -> None:
        """A node that stops writes one line for each peer, and no warning."""
        mesh = MemoryMesh("ada", "ben", "cyd")
        mesh.link("ada", "ben")
        mesh.link("cyd", "ada")
        self.events.clear()
        mesh["ada"].service.stopService()
        mesh.settle()
        mine = [event for event in self.named("peer down") if event["reason"] == MeshClosed.reason]
        self.assertEqual(len(mine), 2)
        warned = [event for event in self.events if event["log_level"] > LogLevel.info]
        self.assertEqual([event["event"] for event in warned], ["alone", "alone"])
