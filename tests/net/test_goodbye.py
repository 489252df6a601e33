"""How connections end: everything is written, the peer is told, and it has its time to read."""

from __future__ import annotations

import random

from twisted.internet.interfaces import IHalfCloseableProtocol, ISSLTransport
from twisted.internet.tcp import Connection as TCPConnection
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core import flags
from py2p_twisted.core.network import Network
from py2p_twisted.errors import ClosedByPeer, FrameTooLarge, LinkUnresponsive
from py2p_twisted.net.protocol import (
    CLOSE_TIMEOUT,
    MOST_CLOSING,
    REFUSAL_TIMEOUT,
    MeshProtocol,
)
from py2p_twisted.testing import MemoryMesh
from tests.core.support import WALL, raw, whisper
from tests.net.wires import HalfWire, Host, TLSWire, UncutWire, Wire, gone, wire


class GoodbyeTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.host = Host()

    def say(self, *packets: object) -> None:
        """The node sends to everybody."""
        factory = self.host.factory
        factory.sending.items.append(factory.node.composer.compose(0, 0, packets, factory.wall()))
        factory.sending.pump()

    def said(self, protocol: MeshProtocol) -> list[object]:
        """The packets of messages that were written to a peer."""
        return [
            message.payload[1]
            for message in wire(protocol).frames()
            if message.flag == 0 and message.payload[0] == 0
        ]

    def assert_quiet(self) -> None:
        """Nothing is left to be done."""
        self.assertEqual(self.host.clock.getDelayedCalls(), [])


class HalfCloseTests(GoodbyeTestCase):
    def test_only_our_half(self) -> None:
        """Where halves can be closed by themselves, ours is closed and nothing else."""
        peer = self.host.join(kind=HalfWire)
        self.host.factory.close()
        self.assertEqual(wire(peer).calls, ["loseWriteConnection"])

    def test_behind_what_is_queued(self) -> None:
        """What was sent last is written before that."""
        peer = self.host.join(kind=HalfWire)
        for number in range(20):
            self.say(number)
        self.host.factory.close()
        self.assertEqual(self.said(peer), list(range(20)))
        self.assertEqual(wire(peer).calls, ["loseWriteConnection"])

    def test_the_last_word_of_a_large_queue(self) -> None:
        """A queue that takes several turns is written to its end first."""
        peer = self.host.join(kind=HalfWire)
        data = random.Random(1).randbytes(2_000_000)
        self.say(data)
        self.say("the end")
        self.host.factory.close()
        self.assertEqual(wire(peer).calls, [])
        self.host.advance(1)
        self.assertEqual(self.said(peer), [data, "the end"])
        self.assertEqual(wire(peer).calls, ["loseWriteConnection"])

    def test_it_waits_for_the_peer(self) -> None:
        """The node has closed when the peer has closed its half, and not before."""
        peer = self.host.join(kind=HalfWire)
        closed = self.host.factory.close()
        self.host.advance(CLOSE_TIMEOUT - 0.1)
        self.assertNoResult(closed)
        self.assertEqual(wire(peer).calls, ["loseWriteConnection"])
        gone(peer)
        self.successResultOf(closed)
        self.assertEqual(wire(peer).calls, ["loseWriteConnection"])
        self.assert_quiet()

    def test_it_waits_for_all(self) -> None:
        """As long as there is one that reads, the node is there."""
        peers = [
            self.host.join(b"Peer %d" % number, HalfWire, peer=("10.0.1.1", number + 1))
            for number in range(3)
        ]
        closed = self.host.factory.close()
        for peer in peers:
            self.assertNoResult(closed)
            gone(peer)
        self.successResultOf(closed)
        self.assert_quiet()

    def test_a_peer_that_does_not_close(self) -> None:
        """A peer has a few seconds; then the connection is cut, and the node has closed."""
        peer = self.host.join(kind=HalfWire)
        closed = self.host.factory.close()
        self.host.advance(CLOSE_TIMEOUT)
        self.assertEqual(wire(peer).calls, ["loseWriteConnection", "abortConnection"])
        gone(peer, well=False)
        self.successResultOf(closed)
        self.assert_quiet()

    def test_a_peer_that_does_not_read(self) -> None:
        """A transport that takes nothing more is cut then, too, without a goodbye."""
        peer = self.host.join(kind=HalfWire)
        wire(peer).producer.pauseProducing()
        self.say("unread")
        closed = self.host.factory.close()
        self.host.advance(CLOSE_TIMEOUT - 0.1)
        self.assertEqual(wire(peer).calls, [])
        self.host.advance(0.1)
        self.assertEqual(wire(peer).calls, ["abortConnection"])
        self.assertEqual(self.said(peer), [])
        gone(peer, well=False)
        self.successResultOf(closed)
        self.assert_quiet()

    def test_a_peer_that_reads_late(self) -> None:
        """A transport that takes the rest in time gets its goodbye behind it."""
        peer = self.host.join(kind=HalfWire)
        wire(peer).producer.pauseProducing()
        self.say("late")
        self.host.factory.close()
        self.host.advance(CLOSE_TIMEOUT / 2)
        wire(peer).producer.resumeProducing()
        self.assertEqual(self.said(peer), ["late"])
        self.assertEqual(wire(peer).calls, ["loseWriteConnection"])

    def test_what_still_comes_is_ignored(self) -> None:
        """After our goodbye nothing is read any more: no messages, no answers, no mistakes."""
        peer = self.host.join(kind=HalfWire)
        self.host.factory.close()
        before = wire(peer).written
        for data in (
            raw("too late", "x", time=WALL),
            whisper(flags.REQUEST, b"*"),
            raw(0, "one", time=WALL) + raw(0, "two", time=WALL),
            b"\xff" * 1000,
            bytes(1000),
        ):
            peer.dataReceived(data)
        self.host.advance(0.1)
        self.assertEqual(self.host.application.messages, [])
        self.assertEqual(wire(peer).written, before)
        self.assertEqual(wire(peer).calls, ["loseWriteConnection"])
        self.assertTrue(wire(peer).reading)

    def test_what_comes_before_it_is_not(self) -> None:
        """What came before the goodbye has been delivered, and only once."""
        peer = self.host.join(kind=HalfWire)
        data = raw(0, "in time", time=WALL)
        peer.dataReceived(data)
        self.host.factory.close()
        peer.dataReceived(data)
        self.assertEqual(self.host.application.messages, [("in time",)])

    def test_asking_to_close_twice(self) -> None:
        """Who asks again waits with the first, and the peer is told once."""
        peer = self.host.join(kind=HalfWire)
        first, second = self.host.factory.close(), self.host.factory.close()
        self.host.advance(1)
        self.assertEqual(wire(peer).calls, ["loseWriteConnection"])
        gone(peer)
        self.successResultOf(first)
        self.successResultOf(second)
        self.successResultOf(self.host.factory.close())

    def test_hanging_up_twice(self) -> None:
        """A connection that is being closed is not closed again, nor cut before its time."""
        peer = self.host.join(kind=HalfWire)
        for flush in (True, True, False):
            peer.close(flush)
        self.assertEqual(wire(peer).calls, ["loseWriteConnection"])
        self.host.advance(CLOSE_TIMEOUT)
        self.assertEqual(wire(peer).calls, ["loseWriteConnection", "abortConnection"])

    def test_with_something_left_to_read(self) -> None:
        """What was left for the next turn is not read any more; the peer's goodbye is."""
        peer = self.host.join(kind=HalfWire)
        peer.dataReceived(b"".join(raw(0, [number] * 9_000) for number in range(4)))
        self.assertFalse(wire(peer).reading)
        heard = len(self.host.application.messages)
        closed = self.host.factory.close()
        self.assertTrue(wire(peer).reading)
        self.host.advance(1)
        self.assertEqual(len(self.host.application.messages), heard)
        gone(peer)
        self.successResultOf(closed)
        self.assert_quiet()

    def test_lost_with_something_left_to_read(self) -> None:
        """A transport that is gone is not touched in the next turn."""
        peer = self.host.join(kind=HalfWire)
        peer.dataReceived(b"".join(raw(0, [number] * 9_000) for number in range(4)))
        heard = len(self.host.application.messages)
        gone(peer, well=False)
        self.host.advance(0)
        self.assertFalse(wire(peer).reading)
        self.assertEqual(len(self.host.application.messages), heard)
        self.assertEqual(wire(peer).calls, [])

    def test_a_refusal_is_told_the_same_way(self) -> None:
        """Who is turned away because the node is full reads whom else to ask first."""
        host = Host(max_inbound=1)
        host.join(b"First", HalfWire, peer=("10.0.1.1", 1), address=("10.0.1.1", 4444))
        late = host.join(b"Late", HalfWire, peer=("10.0.1.2", 2))
        self.assertEqual(wire(late).calls, ["loseWriteConnection"])
        lists = [
            message.payload for message in wire(late).frames() if message.payload[0] == flags.PEERS
        ]
        told = [payload for payload in lists if payload[1]]
        self.assertEqual(len(told), 1, wire(late).frames())

    def test_a_broken_rule_is_not(self) -> None:
        """Who breaks the protocol is cut off at once."""
        peer = self.host.join(kind=HalfWire)
        peer.dataReceived(b"\0\0\0\x40" + bytes(64))
        self.assertEqual(wire(peer).calls, ["abortConnection"])

    def test_a_link_that_is_ended_at_once(self) -> None:
        """A link that is not flushed gets no goodbye, and what waits for it is not written."""
        peer = self.host.join(kind=HalfWire)
        wire(peer).producer.pauseProducing()
        self.say("waits")
        self.host.factory.close_link(peer.link, LinkUnresponsive(1))
        self.assertEqual(wire(peer).calls, ["abortConnection"])
        self.assertEqual(self.said(peer), [])
        gone(peer, well=False)
        self.host.advance(CLOSE_TIMEOUT)
        self.assertEqual(wire(peer).calls, ["abortConnection"])

    def test_disconnecting(self) -> None:
        """One peer alone is said goodbye to as well, and the node goes on."""
        peer = self.host.join(kind=HalfWire)
        other = self.host.join(b"Other", HalfWire, peer=("10.0.1.1", 1))
        self.say("last")
        self.host.factory.disconnect(peer.link)
        self.assertEqual(self.said(peer), ["last"])
        self.assertEqual(wire(peer).calls, ["loseWriteConnection"])
        self.assertEqual(wire(other).calls, [])
        gone(peer)
        self.assertEqual((self.host.factory.parted, self.host.factory.cut_short), ([], []))

    def test_peers_need_not_be_able_to(self) -> None:
        """A protocol of ours takes a closed half for the end, so that it closes its own."""
        self.assertFalse(IHalfCloseableProtocol.providedBy(self.host.accept()))
        self.assertTrue(hasattr(TCPConnection, "loseWriteConnection"))


class OtherTransportTests(GoodbyeTestCase):
    def test_tls(self) -> None:
        """Over TLS the connection is closed, which waits for the peer's goodbye by itself."""
        peer = self.host.join(kind=TLSWire)
        self.assertTrue(ISSLTransport.providedBy(wire(peer)))
        self.say("last")
        closed = self.host.factory.close()
        self.assertEqual(wire(peer).calls, ["loseConnection"])
        self.assertEqual(self.said(peer), ["last"])
        self.assertNoResult(closed)
        gone(peer)
        self.successResultOf(closed)
        self.assert_quiet()

    def test_tls_that_does_not_end(self) -> None:
        """There too a peer has a few seconds."""
        peer = self.host.join(kind=TLSWire)
        self.host.factory.close()
        self.host.advance(CLOSE_TIMEOUT)
        self.assertEqual(wire(peer).calls, ["loseConnection", "abortConnection"])
        gone(peer, well=False)
        self.assertEqual(self.host.factory.cut_short, ["10.0.0.9:50000"])
        self.assert_quiet()

    def test_transports_without_halves(self) -> None:
        """A transport that has no halves is closed as a whole."""
        peer = self.host.join(kind=Wire)
        self.host.factory.close()
        self.assertEqual(wire(peer).calls, ["loseConnection"])
        gone(peer)
        self.assertEqual(self.host.factory.parted, ["10.0.0.9:50000"])

    def test_transports_that_cannot_be_cut(self) -> None:
        """One that cannot be cut is closed."""
        peer = self.host.join(kind=UncutWire)
        self.host.factory.close_link(peer.link, LinkUnresponsive(1))
        self.assertEqual(wire(peer).calls, ["loseConnection"])

    def test_in_memory(self) -> None:
        """Nodes in memory part from each other without loss, in plain text and over TLS."""
        for network in (Network("mesh"), Network("mesh", "SSL")):
            mesh = MemoryMesh("ada", "ben", "cyd", network=network)
            mesh.link("ada", "ben")
            mesh.link("cyd", "ada")
            factory = mesh["ada"].service.factory
            for number in range(50):
                mesh["ada"].send(number)
            mesh.stop("ada")
            for name in ("ben", "cyd"):
                self.assertEqual(mesh.inbox(name), [(number,) for number in range(50)])
            self.assertEqual(len(factory.parted), 2)
            self.assertEqual(factory.cut_short, [])


class PartedTests(GoodbyeTestCase):
    def test_who_has_read_everything(self) -> None:
        """Who closes its half after our goodbye has read all of it."""
        peer = self.host.join(kind=HalfWire)
        self.host.factory.close()
        gone(peer)
        self.assertTrue(peer.closed_well)
        self.assertEqual(self.host.factory.parted, ["10.0.0.9:50000"])
        self.assertEqual(self.host.factory.cut_short, [])

    def test_whose_connection_broke(self) -> None:
        """Of a connection that breaks nobody knows how much was read."""
        peer = self.host.join(kind=HalfWire)
        self.host.factory.close()
        gone(peer, well=False)
        self.assertFalse(peer.closed_well)
        self.assertEqual(self.host.factory.parted, [])
        self.assertEqual(self.host.factory.cut_short, ["10.0.0.9:50000"])

    def test_who_went_before_the_goodbye(self) -> None:
        """Who goes while there is still something to be written has not read that."""
        peer = self.host.join(kind=HalfWire)
        wire(peer).producer.pauseProducing()
        self.say("unread")
        self.host.factory.close()
        gone(peer)
        self.assertEqual(self.host.factory.parted, [])
        self.assertEqual(self.host.factory.cut_short, ["10.0.0.9:50000"])
        self.assert_quiet()

    def test_who_ran_out_of_time(self) -> None:
        """Who does not close in time counts as cut short, however the cut is reported."""
        for well in (False, True):
            host = Host()
            peer = host.join(kind=HalfWire)
            host.factory.close()
            host.advance(CLOSE_TIMEOUT)
            gone(peer, well=well)
            self.assertEqual(host.factory.parted, [], well)
            self.assertEqual(host.factory.cut_short, ["10.0.0.9:50000"], well)

    def test_who_had_not_joined(self) -> None:
        """Connections that never introduced themselves are in neither list."""
        silent = self.host.accept(HalfWire, peer=("10.0.1.1", 1))
        closed = self.host.factory.close()
        gone(silent)
        self.successResultOf(closed)
        self.assertEqual((self.host.factory.parted, self.host.factory.cut_short), ([], []))

    def test_who_left_long_before(self) -> None:
        """Nor is who went while the node was running."""
        peer = self.host.join(kind=HalfWire)
        gone(peer)
        self.successResultOf(self.host.factory.close())
        self.assertEqual((self.host.factory.parted, self.host.factory.cut_short), ([], []))

    def test_everybody(self) -> None:
        """Each peer is in exactly one of the lists."""
        peers = [
            self.host.join(b"Peer %d" % number, HalfWire, peer=("10.0.1.1", number + 1))
            for number in range(10)
        ]
        closed = self.host.factory.close()
        for number, peer in enumerate(peers):
            gone(peer, well=number % 3 > 0)
        self.successResultOf(closed)
        factory = self.host.factory
        self.assertEqual((len(factory.parted), len(factory.cut_short)), (6, 4))
        self.assertEqual(
            sorted(factory.parted + factory.cut_short),
            sorted(f"10.0.1.1:{number + 1}" for number in range(10)),
        )

    def test_over_before_it_had_begun(self) -> None:
        """A node without peers closes at once, also one that never started."""
        self.successResultOf(self.host.factory.close())
        self.successResultOf(MemoryMesh("ada")["ada"].service.factory.close())
        self.assert_quiet()


class StrangerTests(GoodbyeTestCase):
    """Those that are told to go, and stay."""

    def setUp(self) -> None:
        self.host = Host(max_inbound=1)
        self.host.join(b"Ada", HalfWire)

    def refused(self, number: int) -> MeshProtocol:
        return self.host.join(b"Eve%d" % number, HalfWire, peer=("10.0.1.1", number + 1))

    def test_a_second(self) -> None:
        """Whoever is refused has a second to go, not as long as a peer."""
        eve = self.refused(1)
        self.assertEqual(wire(eve).calls, ["loseWriteConnection"])
        self.host.advance(REFUSAL_TIMEOUT)
        self.assertEqual(wire(eve).calls, ["loseWriteConnection", "abortConnection"])

    def test_many(self) -> None:
        """They cannot use up the open files: the oldest make room."""
        eves = [self.refused(number) for number in range(MOST_CLOSING + 10)]
        cut = [number for number, eve in enumerate(eves) if "abortConnection" in wire(eve).calls]
        self.assertEqual(cut, list(range(10)))

    def test_those_that_go(self) -> None:
        """Who has gone does not count."""
        for number in range(MOST_CLOSING * 2):
            gone(self.refused(number))
        last = self.refused(1000)
        self.assertEqual(wire(last).calls, ["loseWriteConnection"])


class UnreadTests(GoodbyeTestCase):
    """What is left for later turns when a peer says goodbye, as over TLS it may in one read."""

    def setUp(self) -> None:
        super().setUp()
        self.peer = self.host.join(b"Ada", TLSWire)
        numbers = list(range(3000))
        self.peer.dataReceived(b"".join(raw(0, n, numbers, sender=b"Ada") for n in range(100)))

    def heard(self) -> int:
        return len(self.host.application.messages)

    def test_it_is_read(self) -> None:
        """All of it, and then the peer has left."""
        self.assertLess(self.heard(), 100)
        gone(self.peer)
        self.assertEqual(self.host.application.left, [])
        self.host.advance(1)
        self.assertEqual(self.heard(), 100)
        self.assertEqual([type(error) for error in self.host.application.left], [ClosedByPeer])

    def test_what_is_left_is_no_message(self) -> None:
        """Then it ends there, and is told once."""
        told: list[object] = []
        lost = self.host.factory.connection_lost
        self.patch(
            self.host.factory,
            "connection_lost",
            lambda *reason: (told.append(reason), lost(*reason)),
        )
        self.peer.dataReceived(b"\xff" * 100)
        gone(self.peer)
        self.host.advance(1)
        self.assertEqual(len(told), 1)
        self.assertEqual(self.heard(), 100)
        self.assertEqual([type(error) for error in self.host.application.left], [FrameTooLarge])

    def test_not_from_one_that_was_cut_off(self) -> None:
        """Of a connection that broke nobody has been told that it was read."""
        gone(self.peer, well=False)
        heard = self.heard()
        self.assertEqual(len(self.host.application.left), 1)
        self.host.advance(1)
        self.assertEqual(self.heard(), heard)

    def test_the_node_closes_meanwhile(self) -> None:
        """Then it is over at once."""
        gone(self.peer)
        closed = self.host.factory.close()
        self.successResultOf(closed)
        self.host.advance(1)
        self.assert_quiet()
