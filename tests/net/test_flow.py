"""
The queues: bounded, in order, one write a turn, and nobody waits for a slow peer for long.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core.message import Message, build
from py2p_twisted.errors import LinkError, PeerTooSlow
from py2p_twisted.net.flow import (
    HIGH_WATER,
    LOW_WATER,
    PATIENCE,
    QUEUE_LIMIT,
    STUCK_AFTER,
    TURN,
    Outbox,
    Pace,
    SendQueue,
)


class Transport:
    """A consumer that records its writes."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.producer: object = None

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def registerProducer(self, producer: object, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None


class OutboxTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.pace = Pace(self.clock)
        self.transport = Transport()
        self.failures: list[LinkError] = []
        self.outbox = self.make()

    def make(self, record: int | None = None) -> Outbox:
        return Outbox(self.clock, self.transport, self.pace, self.failures.append, record)  # type: ignore[arg-type]

    def test_a_turn_is_one_write(self) -> None:
        """What one turn queues for a peer is written at once."""
        for frame in (b"a", b"bc", b"def"):
            self.outbox.put([frame])
        self.assertEqual(self.transport.writes, [])
        self.outbox.flush()
        self.outbox.flush()
        self.assertEqual(self.transport.writes, [b"abcdef"])
        self.assertEqual(self.outbox.size, 0)

    def test_what_is_sent_is_counted(self) -> None:
        """In small writes, in pieces of what is large, and in records."""
        self.outbox.put([b"abc", b"de"])
        self.outbox.flush()
        self.assertEqual(self.outbox.sent, 5)
        self.outbox.put([b"x" * (3 * TURN), b"y" * 10])
        self.assertEqual(self.outbox.sent, 5)
        self.outbox.flush()
        self.clock.advance(0)
        self.assertEqual(self.outbox.sent, 3 * TURN + 15)
        self.assertEqual(self.outbox.sent, len(b"".join(self.transport.writes)))

    def test_a_full_transport_is_not_written_to(self) -> None:
        """A paused outbox holds what comes, in order, until there is room."""
        self.outbox.pauseProducing()
        self.outbox.put([b"a"])
        self.outbox.flush()
        self.outbox.put([b"b"])
        self.assertEqual(self.transport.writes, [])
        self.outbox.resumeProducing()
        self.assertEqual(self.transport.writes, [b"ab"])

    def test_a_large_frame_goes_in_turns(self) -> None:
        """No turn hands more than TURN bytes to one transport; nothing is lost or reordered."""
        frame = bytes(range(256)) * (TURN // 256) * 3 + b"end"
        self.outbox.put([b"before"])
        self.outbox.put([frame])
        self.outbox.put([b"behind"])
        self.outbox.flush()
        self.assertEqual(len(self.transport.writes), 1)
        self.clock.advance(0)
        self.assertEqual(b"".join(self.transport.writes), b"before" + frame + b"behind")
        self.assertLessEqual(max(map(len, self.transport.writes)), TURN)
        self.assertGreaterEqual(len(self.transport.writes), 4)
        self.assertEqual(self.outbox.size, 0)

    def test_records_hold_one_kilobyte_or_one_frame(self) -> None:
        """Over TLS, plain peers get one record a turn: up to 1,024 bytes, or a single frame."""
        outbox = self.make(record=lambda: 1024)
        sizes = [400, 400, 400, 3000, 8, 1024, 8]
        for size in sizes:
            outbox.put([bytes(size)])
        outbox.flush()
        self.assertEqual(len(self.transport.writes), 1)
        self.clock.advance(0)
        self.assertEqual(
            [len(data) for data in self.transport.writes], [800, 400, 3000, 8, 1024, 8]
        )
        self.assertEqual(outbox.sent, sum(sizes))

    def test_a_peer_that_never_reads_is_given_up(self) -> None:
        """A queue that is full costs the peer its link, once, and takes no more memory."""
        self.outbox.pauseProducing()
        frame = bytes(100_000)
        for _ in range(200):
            self.outbox.put([frame])
        self.assertEqual([type(error) for error in self.failures], [PeerTooSlow])
        self.assertEqual(self.outbox.size, 0)
        self.assertFalse(self.pace.held)

    def test_the_queue_never_grows_beyond_its_limit(self) -> None:
        """It is counted behind the frame that is being written, without the last one."""
        self.outbox.pauseProducing()
        most = 0
        while not self.failures:
            self.outbox.put([bytes(60_000)])
            most = max(most, self.outbox.size)
        self.assertLessEqual(most, QUEUE_LIMIT + 2 * 60_000)

    def test_large_messages_cost_no_link(self) -> None:
        """Two of the largest size, one behind the other, and small ones behind them."""
        size = 8 * 1024 * 1024
        outbox = Outbox(self.clock, self.transport, self.pace, self.failures.append, largest=size)
        for data in (bytes(size), b"x" * size, b"small", b"small"):
            outbox.put([data])
        outbox.flush()
        outbox.put([b"small"])
        self.assertEqual(self.failures, [])
        for _ in range(80):
            self.clock.advance(0)
        self.assertEqual(sum(map(len, self.transport.writes)), 2 * size + 15)

    def test_a_stuck_transport_is_given_up(self) -> None:
        """A transport that takes nothing for a minute has lost its peer."""
        self.outbox.put([b"x"])
        self.outbox.pauseProducing()
        self.clock.advance(STUCK_AFTER - 1)
        self.assertEqual(self.failures, [])
        self.clock.advance(1)
        self.assertEqual(len(self.failures), 1)

    def test_progress_resets_the_minute(self) -> None:
        """A transport that takes something now and then is not stuck."""
        for _ in range(3):
            self.outbox.pauseProducing()
            self.clock.advance(STUCK_AFTER - 1)
            self.outbox.resumeProducing()
        self.assertEqual(self.failures, [])

    def test_abandoned_means_silent(self) -> None:
        """An abandoned outbox takes nothing, writes nothing and leaves no timers behind."""
        self.outbox.put([bytes(TURN * 2)])
        self.outbox.flush()
        self.outbox.pauseProducing()
        self.outbox.abandon()
        self.outbox.abandon()
        self.outbox.put([b"x"])
        self.outbox.flush()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertIsNone(self.transport.producer)
        self.assertEqual(self.outbox.size, 0)

    def test_when_empty(self) -> None:
        """One can wait for everything to have been handed to the transport."""
        done: list[bool] = []
        self.outbox.pauseProducing()
        self.outbox.put([b"x"])
        self.outbox.when_empty(lambda: done.append(True))
        self.assertEqual(done, [])
        self.outbox.resumeProducing()
        self.assertEqual(done, [True])
        self.outbox.when_empty(lambda: done.append(True))
        self.assertEqual(done, [True, True])


class PaceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.pace = Pace(self.clock)
        self.resumed = 0
        self.pace.resumed = self.count
        self.outbox = Outbox(self.clock, Transport(), self.pace, lambda error: None)  # type: ignore[arg-type]
        self.outbox.pauseProducing()

    def count(self) -> None:
        self.resumed += 1

    def fill(self) -> None:
        while not self.pace.held:
            self.outbox.put([bytes(100_000)])

    def test_a_full_queue_holds_our_own_sends(self) -> None:
        """Above high water our sends wait; below low water they go on."""
        self.fill()
        self.assertGreater(self.outbox.size, HIGH_WATER)
        self.outbox.resumeProducing()
        while self.outbox.size > LOW_WATER:
            self.assertTrue(self.pace.held)
            self.clock.advance(0)
        self.assertFalse(self.pace.held)
        self.assertEqual(self.resumed, 1)

    def test_nobody_waits_for_long(self) -> None:
        """After PATIENCE a slow peer holds nobody up any more, until it has caught up."""
        self.fill()
        self.clock.advance(PATIENCE)
        self.assertFalse(self.pace.held)
        self.assertEqual(self.resumed, 1)
        self.assertTrue(self.outbox.slow)
        self.outbox.put([bytes(100_000)])
        self.assertFalse(self.pace.held)
        self.outbox.resumeProducing()
        for _ in range(10):
            self.clock.advance(0)
        self.assertFalse(self.outbox.slow)

    def test_a_lost_peer_holds_nobody(self) -> None:
        """When its connection goes, whoever waited for a peer goes on."""
        self.fill()
        self.outbox.abandon()
        self.assertFalse(self.pace.held)
        self.assertEqual(self.resumed, 1)
        self.assertEqual([call for call in self.clock.getDelayedCalls() if call.active()], [])


class SendQueueTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.pace = Pace(self.clock)
        self.sent: list[object] = []
        self.queue = SendQueue(self.clock, self.pace, self.sent.extend)

    def message(self, size: int = 10) -> Message:
        return build(0, b"me", 0, (0, bytes(size)))

    def test_in_order_with_whatever_else_has_a_place_in_line(self) -> None:
        """Messages and other calls leave in the order in which they came."""
        one, other = self.message(), self.message()
        self.queue.items.extend([one, lambda: self.sent.append("between"), other])
        self.queue.pump()
        self.assertEqual(self.sent, [one, "between", other])

    def test_a_turn_at_a_time(self) -> None:
        """A burst is spread over turns, so that reading goes on meanwhile."""
        for _ in range(10):
            self.queue.items.append(self.message(100_000))
        self.queue.pump()
        self.assertEqual(len(self.sent), 3)
        while self.clock.getDelayedCalls():
            self.clock.advance(0)
        self.assertEqual(len(self.sent), 10)
        self.assertEqual(self.queue.taken, sum(len(item.body) for item in self.sent))  # type: ignore[attr-defined]

    def test_a_turn_of_large_ones_behind_small_ones(self) -> None:
        """How many are taken at once follows from the first; what does not fit is put back."""
        items = [self.message(), *[self.message(200_000) for _ in range(9)], self.message()]
        self.queue.items.extend(items)
        self.queue.pump()
        self.assertEqual(self.sent, items[:3])
        while self.clock.getDelayedCalls():
            self.clock.advance(0)
        self.assertEqual(self.sent, items)

    def test_an_error_in_between_costs_nothing_else(self) -> None:
        """What is behind a mistake does not wait for ever."""
        one, other = self.message(), self.message()
        self.queue.items.extend([one, lambda: 1 / 0, other])
        self.queue.pump()
        self.assertEqual(self.sent, [one, other])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_it_waits_for_a_slow_peer(self) -> None:
        """While a peer holds our sends nothing is taken; afterwards it goes on by itself."""
        outbox = Outbox(self.clock, Transport(), self.pace, lambda error: None)  # type: ignore[arg-type]
        self.pace.hold(outbox)
        self.queue.items.append(self.message())
        self.queue.pump()
        self.assertEqual(self.sent, [])
        self.pace.release(outbox)
        self.clock.advance(0)
        self.assertEqual(len(self.sent), 1)

    def test_drain_takes_everything(self) -> None:
        """When the node closes, what waits leaves whoever is slow."""
        self.pace.hold(Outbox(self.clock, Transport(), self.pace, lambda error: None))  # type: ignore[arg-type]
        self.queue.items.extend([self.message(), lambda: self.sent.append("call")])
        self.queue.drain()
        self.assertEqual(len(self.sent), 2)

    def test_closed(self) -> None:
        """A closed queue takes nothing, and leaves no timer of its own."""
        for _ in range(10):
            self.queue.items.append(self.message(100_000))
        self.queue.pump()
        self.queue.close()
        self.queue.pump()
        self.assertEqual(len(self.sent), 3)
        self.assertEqual(self.clock.getDelayedCalls(), [])
