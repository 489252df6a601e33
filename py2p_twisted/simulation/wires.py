"""
Connections as TCP makes them: in order, with a latency, bounded, and breakable in every way.

A connection has two `End`\\ s; each belongs to a machine and holds what its process has queued
(the outbox of `py2p_twisted.net.flow`, by the same rules) and how much is under way::

    frames --flush--> written, not yet read by the other process (at most WINDOW)
                          |  latency, size / rate
                          v
                      arrive() -> machine.received()

How connections end:

===============  ================================================================================
closed           everything queued is written, then the end of the stream; the peer's answer is
                 awaited for a while, then it is aborted
aborted, killed  what is under way to the peer is lost; the peer sees a reset after the latency
broken           what is under way both ways is lost, both ends see a reset
stalled          a cut: nothing arrives and nobody says so. What was written waits for the next
                 retransmission after the heal; before that the kernel's own timers may
                 give the connection up
===============  ================================================================================

Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappush
from typing import TYPE_CHECKING, Any, Final

from py2p_twisted.core.actions import Dial
from py2p_twisted.core.queues import HIGH_WATER, LOW_WATER, STALLED, STUCK_AFTER, TURN
from py2p_twisted.errors import LinkError, PeerTooSlow, TransportFailed

if TYPE_CHECKING:
    from py2p_twisted.simulation.machine import Machine

#: As in `py2p_twisted.net.protocol`, on which this package does not stand: how long a goodbye may
#: take, and that of a refusal.
CLOSE_TIMEOUT: Final = 5.0
REFUSAL_TIMEOUT: Final = 1.0
#: What a kernel is told there: a silent peer is given up after this long, written data
#: may go unacknowledged for this long.
KEEPALIVE: Final = 10 + 3 * 5.0
KEEPALIVE_IDLE: Final = 10.0
USER_TIMEOUT: Final = 20.0

#: The sockets' buffers of one direction: what is written and not yet read by the other process.
WINDOW: Final = 256 * 1024

#: A kernel's first retransmission, and its longest interval; doubled in between.
#: Source: Linux, TCP_RTO_MIN and TCP_RTO_MAX.
FIRST_RETRY: Final = 0.2
LONGEST_RETRY: Final = 120.0

#: States of an end.
PENDING: Final = 0
OPEN: Final = 1
CLOSING: Final = 2
FINISHED: Final = 3
GONE: Final = 4


class End:
    """
    One end of a connection, with its outbox.

    :ivar machine: whose it is.
    :ivar other: the other end.
    :ivar dial: what led to it, at the end that dialled.
    :ivar link: what the machine keeps for it: the core's ``Connection``.
    :ivar frames: the outbox; who adds to it adds to ``size`` and sees to a flush.
    :ivar size: bytes in the outbox.
    :ivar written: bytes written that the other process has not read.
    :ivar latency: seconds to the other end.
    :ivar rate: bytes a second to the other end, 0 for any number.
    :ivar smooth: nothing special about writing: one event a write.
    :ivar ready: nothing special about reading.
    :ivar dirty: the machine knows that there is something to flush.
    """

    __slots__ = (
        "broken", "congested", "dial", "dirty", "frames", "free_at", "heard", "held", "latency",
        "link", "machine", "other", "paused", "rate", "ready", "size", "smooth", "stalled",
        "state", "timeout", "unacked", "written",
    )  # fmt: skip

    other: End

    def __init__(self, machine: Machine, dial: Dial | None, latency: float, rate: float) -> None:
        self.machine = machine
        self.dial = dial
        self.link: Any = None
        self.frames: list[bytes] = []
        self.size = 0
        self.written = 0
        self.latency = latency
        self.rate = rate
        self.state = PENDING
        self.dirty = False
        self.smooth = False
        self.ready = False
        self.congested = False
        #: When the writer was stopped by a full window: nothing has moved since.
        self.paused: float | None = None
        #: When the last byte written will have left, where there is a rate.
        self.free_at = 0.0
        #: What arrives is lost; a reset is on its way.
        self.broken = False
        #: Since when nothing arrives here, and what would have, in order.
        self.stalled: float | None = None
        self.held: list[Any] = []
        #: Since when something we wrote has not been acknowledged, during a stall.
        self.unacked: float | None = None
        self.heard = 0.0
        #: How long a goodbye may take.
        self.timeout = CLOSE_TIMEOUT

    def __repr__(self) -> str:
        return f"<End {self.machine.name} -> {self.other.machine.name}>"

    def review(self) -> None:
        """Something has changed: find out again whether anything is special."""
        other = self.other
        self.ready = self.state == OPEN and not self.broken and self.stalled is None
        self.smooth = (
            self.state == OPEN
            and self.paused is None
            and not self.rate
            and not self.machine.sim.fragile
            and other.stalled is None
        )

    def opened(self) -> None:
        """The process has it."""
        self.state = OPEN
        self.heard = self.machine.sim.now
        self.review()

    # --- writing -----------------------------------------------------------------------

    def put(self, frames: Sequence[bytes]) -> None:
        """Queue frames for the end of this turn."""
        if self.state != OPEN or (self.size > HIGH_WATER and self.overflows()):
            return
        self.frames += frames
        for frame in frames:
            self.size += len(frame)
        machine = self.machine
        if not self.dirty:
            self.dirty = True
            machine.dirty.append(self)
        if self.size > HIGH_WATER:
            self.crowd()

    def overflows(self) -> bool:
        """The outbox is above high water, and more is to come: whether that costs the link."""
        if self.size - len(self.frames[0]) <= self.machine.queue_limit:
            return False
        self.fail(PeerTooSlow(f"{self.size} bytes wait for this peer, which does not read"))
        return True

    def crowd(self) -> None:
        """The outbox is above high water: whoever does not read, or not fast enough, gets no more."""
        machine = self.machine
        stalled = self.paused is not None and machine.sim.now - self.paused > STALLED
        if not self.congested and (stalled or self.size > machine.queue_limit):
            self.congested = True
            machine.congested(self)

    def fail(self, error: LinkError) -> None:
        """The peer is too slow to keep; said after this turn, as the real driver does."""
        self.frames = []
        self.size = 0
        self.congested = False
        sim = self.machine.sim
        sim.at(sim.now, self.machine.too_slow, (self, error))

    def flush(self) -> None:
        """Write what is queued, as far as the window lets it."""
        sim = self.machine.sim
        while self.frames and self.paused is None and self.state in (OPEN, CLOSING):
            frames = self.frames
            if self.size <= TURN:
                batch, self.frames = frames, []
                size = self.size
            else:
                size = count = 0
                for frame in frames:
                    if size + len(frame) > TURN:
                        break
                    size += len(frame)
                    count += 1
                batch = frames[:count]
                del frames[:count]
                if not batch:  # of a frame that is larger than that, a piece
                    batch = [frames[0][:TURN]]
                    frames[0] = frames[0][TURN:]
                    size = TURN
            self.size -= size
            self._write(batch[0] if len(batch) == 1 else b"".join(batch))
            if self.written >= WINDOW:
                self.pause()
            if sim.fragile and any(sim.breaks(frame) for frame in batch):
                self.break_both()
                return
        if self.congested and self.size <= LOW_WATER:
            self.congested = False
            self.machine.relieved(self)
        if self.state == CLOSING and not self.frames:
            self._finish()

    def _write(self, data: bytes) -> None:
        sim = self.machine.sim
        other = self.other
        self.written += len(data)
        if other.stalled is not None and self.unacked is None:
            self._doubt()
        when = sim.now
        if self.rate:
            when = self.free_at = max(when, self.free_at) + len(data) / self.rate
        heappush(sim.heap, (when + self.latency, next(sim.serial), other.arrive, data))

    def pause(self) -> None:
        """The window is full."""
        sim = self.machine.sim
        self.paused = sim.now
        self.smooth = False
        sim.at(sim.now + STUCK_AFTER, self._is_stuck, sim.now)

    def _is_stuck(self, since: float) -> None:
        if self.machine.frozen:
            self.machine.postpone(self._is_stuck, since)
        elif self.paused == since and self.state == OPEN and self.machine.alive:
            self.fail(PeerTooSlow(f"this peer has read nothing for {STUCK_AFTER:.0f} s"))

    def room(self) -> None:
        """The other process has read: go on writing after the latency."""
        if self.written <= WINDOW // 2:
            self.paused = None
            self.review()
            sim = self.machine.sim
            sim.at(sim.now + self.other.latency, self._go_on)

    def _go_on(self, _: None) -> None:
        if self.machine.frozen:
            self.machine.postpone(self._go_on, None)
        elif self.state in (OPEN, CLOSING):
            self.flush()
            self.machine.flush()

    # --- reading -----------------------------------------------------------------------

    def arrive(self, data: bytes) -> None:
        """Bytes have come to this machine."""
        machine = self.machine
        if self.ready and machine.backlog is None:
            other = self.other
            other.written -= len(data)
            if other.paused is not None:
                other.room()
            machine.received(self, data)
        elif self.stalled is not None:
            if self.state != GONE:  # else the machine has no power
                self.held.append((self.arrive, data))
        elif self.state in (PENDING, OPEN) and not self.broken:
            machine.postpone(self.take, data)
        else:
            # Nobody will read it any more; the window must not keep a goodbye from coming.
            other = self.other
            other.written -= len(data)
            if other.paused is not None:
                other.room()
            if self.state == GONE and other.state == OPEN and not other.broken:
                # The kernel knows of no such connection, which was given up during a stall.
                other.broken = True
                other.review()
                sim = machine.sim
                sim.at(sim.now + self.latency, other.reset)

    def take(self, data: bytes) -> None:
        """The process reads what had come."""
        other = self.other
        other.written -= len(data)
        if other.paused is not None:
            other.room()
        if self.state == OPEN:
            self.machine.received(self, data)

    def finished(self, _: None) -> None:
        """The peer will write no more."""
        if self.stalled is not None:
            self.held.append((self.finished, None))
        elif self.machine.backlog is not None and self.state in (PENDING, OPEN):
            self.machine.postpone(self._take_end, None)
        else:
            self._take_end(None)

    def reset(self, _: None) -> None:
        """The peer, or somebody on the way, has reset the connection."""
        if self.machine.backlog is not None and self.state in (PENDING, OPEN):
            self.machine.postpone(self._take_end, TransportFailed("the connection was lost"))
        else:
            self._take_end(TransportFailed("the connection was lost"))

    def _take_end(self, error: TransportFailed | None) -> None:
        state = self.state
        if state == GONE:
            return
        self.leave()
        if self.other.state not in (FINISHED, GONE):
            self.other.broken = True
        self.other.review()
        if error is None and self.other.state == FINISHED:
            self.other.leave()  # both halves are closed
        if state == OPEN and self.machine.alive:
            self.machine.ended(self, error)

    # --- ending ------------------------------------------------------------------------

    def leave(self) -> None:
        """This end is no more."""
        self.state = GONE
        self.frames = []
        self.size = 0
        self.held = []
        self.ready = self.smooth = False
        self.machine.ends.pop(self, None)

    def close(self, flush: bool, timeout: float = CLOSE_TIMEOUT) -> None:
        """Hang up; with ``flush``, when everything queued is written and received."""
        if self.state != OPEN:
            return
        if not flush:
            self.abort()
            return
        self.state = CLOSING
        self.timeout = timeout
        self.review()
        sim = self.machine.sim
        sim.at(sim.now + timeout, self._cut_off)
        if self.frames:
            self.flush()
        else:
            self._finish()

    def _finish(self) -> None:
        self.state = FINISHED
        sim = self.machine.sim
        sim.at(max(sim.now, self.free_at) + self.latency, self.other.finished)

    def _cut_off(self, _: None) -> None:
        """The goodbye has taken too long."""
        if self.machine.frozen:
            self.machine.postpone(self._cut_off, None)
        elif self.state in (CLOSING, FINISHED):
            self.abort()

    def abort(self, *, in_flight: bool = False) -> None:
        """
        Hang up at once, or die.

        :param in_flight: what is under way to the peer still arrives.
        """
        if self.state == GONE:
            return
        self.leave()
        other = self.other
        if other.state == GONE:
            return
        sim = self.machine.sim
        when = sim.now + self.latency
        if in_flight:
            when = max(when, self.free_at + self.latency)
        else:
            other.broken = True
            other.review()
        if other.stalled is None:
            sim.at(when, other.reset)

    def break_both(self) -> None:
        """Something on the way resets the connection; what is under way is lost both ways."""
        sim = self.machine.sim
        for end in (self, self.other):
            if end.state != GONE and not end.broken:
                end.broken = True
                end.review()
                sim.at(sim.now + end.other.latency, end.reset)

    # --- silence -----------------------------------------------------------------------

    def stall(self) -> None:
        """From now on nothing arrives here."""
        if self.stalled is not None or self.state == GONE:
            return
        machine = self.machine
        sim = machine.sim
        self.stalled = sim.now
        self.review()
        self.other.review()
        idle = (sim.now - self.heard) % KEEPALIVE_IDLE
        if machine.keepalive:
            sim.at(sim.now + machine.keepalive - idle, self._no_sign, sim.now)
        if self.other.written:
            self.other._doubt()

    def lose_power(self) -> None:
        """This end's machine is dark: nothing arrives, and nobody is told."""
        other = self.other
        self.leave()
        self.stalled = self.machine.sim.now
        if other.state == PENDING:
            other.leave()
        elif other.state != GONE:
            self.machine.cut_off.append(other)
            other.stall()
            if other.written:
                other._doubt()

    def _doubt(self) -> None:
        """Something written is not acknowledged."""
        machine = self.machine
        sim = machine.sim
        if self.unacked is None:
            self.unacked = sim.now
            sim.at(sim.now + machine.user_timeout, self._no_answer, sim.now)

    def _no_sign(self, since: float) -> None:
        if self.stalled == since:
            self._time_out()

    def _no_answer(self, since: float) -> None:
        if self.unacked == since and self.other.stalled is not None:
            self._time_out()

    def _time_out(self) -> None:
        state = self.state
        if state == GONE or not self.machine.alive:
            return
        self.leave()
        if state == OPEN:
            self.machine.postpone(self._tell, TransportFailed("the connection failed: timed out"))

    def _tell(self, error: TransportFailed) -> None:
        if self.machine.alive:
            self.machine.ended(self, error)

    def recover(self) -> None:
        """The way to here is free again: what is held comes with the next retransmission."""
        if self.stalled is None:
            return
        other = self.other
        sim = self.machine.sim
        since = other.unacked
        if other.state == GONE:
            # A kernel that knows of no such connection answers the next question.
            self.held = []
            since = self.unacked
            if since is None and not self.machine.keepalive:
                self.stalled = None  # which may never come
                self.review()
                other.stalled = None
                return
            if since is None:
                wait = KEEPALIVE_IDLE - (sim.now - self.heard) % KEEPALIVE_IDLE
                sim.at(sim.now + wait + other.latency, self._release, self.stalled)
                return
        wait = next_retry(since, sim.now) if since is not None else 0.0
        sim.at(sim.now + wait + other.latency, self._release, self.stalled)

    def _release(self, since: float) -> None:
        if self.stalled != since or self.state == GONE:
            return
        other = self.other
        self.stalled = None
        other.unacked = None
        self.review()
        other.review()
        held, self.held = self.held, []
        for action, argument in held:
            action(argument)
        if other.state == GONE and self.state != GONE:
            self.reset(None)


def next_retry(since: float, now: float) -> float:
    """
    Seconds until a kernel tries again to send what has waited since some time.

    After a cut of half a minute that can be another half: the intervals double.
    """
    when, interval = since, FIRST_RETRY
    while when < now:
        when += interval
        interval = min(2 * interval, LONGEST_RETRY)
    return when - now
