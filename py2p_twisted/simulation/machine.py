"""
A machine with one process on it: its clocks, its connections, and whether it runs at all.

`Machine` is what the core's nodes and the models of plain 0.6 nodes have in common. What its process
cannot take at the moment, because it is suspended, slow or does not read, waits in
``backlog`` in the order in which it came, as it would in sockets.

::

    timeline --> End.arrive --> [backlog] --> received, ended, opened --> flush --> timeline
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from heapq import heappush
from typing import TYPE_CHECKING, Any

from py2p_twisted.core.actions import Dial
from py2p_twisted.core.network import Address
from py2p_twisted.core.queues import QUEUE_LIMIT, TURN
from py2p_twisted.core.settings import Settings
from py2p_twisted.errors import LinkError, MeshError
from py2p_twisted.simulation import wires
from py2p_twisted.simulation.wires import WINDOW, End

if TYPE_CHECKING:
    from py2p_twisted.simulation.history import Sent
    from py2p_twisted.simulation.network import Simulation

#: What a process asks of a socket at a time, as Twisted does.
READ = 64 * 1024


@dataclass(frozen=True, slots=True)
class Birth:
    """
    What a machine is made with, whatever its kind.

    :ivar sim: the network that it is part of.
    :ivar index: its number among all participants of the run.
    :ivar address: where it listens.
    :ivar ident: its node id.
    :ivar settings: its node's.
    :ivar rng: what is random about it.
    """

    sim: Simulation
    index: int
    address: Address
    ident: bytes
    settings: Settings
    rng: random.Random


class Machine:
    """
    One participant, from its start to its end: who is restarted is another one.

    :ivar index: its number among all participants of the run.
    :ivar name: the same for people.
    :ivar address: where it listens.
    :ivar id: its node id.
    :ivar born: when it was started, in virtual seconds.
    :ivar joined: when it first had a peer, or ``None``.
    :ivar died: when it ended, or ``None``.
    :ivar alive: whether its process exists.
    :ivar powered: whether the machine has power.
    :ivar group: which side of a partition it is on.
    :ivar skew: what has to be added to the virtual time to get its monotonic clock.
    :ivar wall_skew: the same for its wall clock.
    :ivar bootstrap: addresses it was told to join by.
    :ivar ends: its connections.
    :ivar closings: how many connections it has ended, by reason.
    """

    #: What its kernel was told; 0: nothing.
    keepalive = wires.KEEPALIVE
    user_timeout = wires.USER_TIMEOUT
    #: Whether it runs the core of this package.
    ours = True

    def __init__(self, birth: Birth) -> None:
        self.sim = birth.sim
        self.index = birth.index
        self.name = f"n{birth.index}"
        self.address = birth.address
        self.id = birth.ident
        self.settings = birth.settings
        self.rng = birth.rng
        self.born = birth.sim.now
        self.joined: float | None = None
        self.died: float | None = None
        self.alive = True
        self.powered = True
        self.group = 0
        self.skew = 0.0
        self.wall_skew = 0.0
        self.bootstrap: list[Address] = []
        self.ends: dict[End, None] = {}
        #: After a power loss: the other ends of its connections, which know nothing of it.
        self.cut_off: list[End] = []
        self.dirty: list[End] = []
        self.closings: Counter[str] = Counter()
        self.queue_limit = QUEUE_LIMIT + birth.settings.max_message
        #: What waits for the process, or ``None`` while it takes everything at once.
        self.backlog: deque[tuple[Callable[[Any], Any], Any]] | None = None
        #: How many reasons there are for it to stand still.
        self.frozen = 0
        #: Bytes a second that the process reads; 0: all at once; negative: none.
        self.reads = 0.0
        self._reading = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    @property
    def has_peers(self) -> bool:
        """Whether there is anybody in its routing table."""
        raise NotImplementedError

    @property
    def running(self) -> bool:
        """Whether it can do anything at this moment."""
        return self.alive and not self.frozen

    @property
    def now(self) -> float:
        """Its monotonic clock."""
        return self.sim.now + self.skew

    @property
    def wall(self) -> float:
        """Its wall clock, in seconds since 1970."""
        return self.sim.now + self.wall_skew

    # --- what a kind of node does; see `Host` and `PlainHost` ------------------------------------

    def received(self, end: End, data: bytes) -> None:
        """Bytes have come in."""
        raise NotImplementedError

    def ended(self, end: End, error: MeshError | None) -> None:
        """A connection is gone, and not because we closed it; ``None``: in good order."""
        raise NotImplementedError

    def opened(self, end: End) -> None:
        """A connection has been made."""
        raise NotImplementedError

    def dial_failed(self, outcome: tuple[Dial, Exception]) -> None:
        """A dial has come to nothing."""
        raise NotImplementedError

    def too_slow(self, what: tuple[End, LinkError]) -> None:
        """A peer does not take what it is sent."""
        raise NotImplementedError

    def woken(self) -> None:
        """The process runs again after it was suspended."""

    def congested(self, end: End) -> None:
        """So much waits for a peer that it should not get more."""

    def relieved(self, end: End) -> None:
        """It has fallen below low water again."""

    def connect(self, address: Address) -> None:
        """Join the network at an address, and stay connected to it if this kind of node can."""
        raise NotImplementedError

    def leave(self) -> None:
        """Say goodbye to everybody."""
        raise NotImplementedError

    def broadcast(self, packets: tuple[Any, ...]) -> Sent:
        """Send to everybody, and tell the history."""
        raise NotImplementedError

    def reply(self, target: bytes | str, packets: tuple[Any, ...]) -> int:
        """Send to one node, wherever it is."""
        raise NotImplementedError

    def sizes(self) -> Mapping[str, tuple[int, int]]:
        """What every container holds, and may hold."""
        return {}

    def counters(self) -> Mapping[str, int]:
        """What it has counted, by name."""
        return {}

    def traffic(self) -> tuple[int, int, int]:
        """Frames that have come in, duplicates among them, and bytes: of all connections ever."""
        return 0, 0, 0

    # --- writing ---------------------------------------------------------------------------

    def flush(self) -> None:
        """End a turn: one write for every peer for which something was queued."""
        dirty, self.dirty = self.dirty, []
        sim = self.sim
        heap, serial, now = sim.heap, sim.serial, sim.now
        for end in dirty:
            end.dirty = False
            if end.smooth and end.size <= TURN:
                frames = end.frames
                if not frames:
                    continue
                data = frames[0] if len(frames) == 1 else b"".join(frames)
                end.frames = []
                end.size = 0
                end.written += len(data)
                heappush(heap, (now + end.latency, next(serial), end.other.arrive, data))
                if end.written >= WINDOW:
                    end.pause()
            else:
                end.flush()

    # --- not running, or not reading ------------------------------------------------------------

    def postpone(self, action: Callable[[Any], Any], argument: Any) -> None:
        """Keep what has come until the process takes it."""
        if self.backlog is None:
            action(argument)
            return
        self.backlog.append((action, argument))
        self._read_next(0.0)

    def _read_next(self, delay: float) -> None:
        """Read after a while: also when nothing waits yet, what it has read takes its time."""
        if self.reads > 0 and (self.backlog or delay) and not self._reading:
            self._reading = True
            self.sim.at(self.sim.now + delay, self._read_on)

    def _read_on(self, _: None) -> None:
        """Read the next piece, and wait as long as that takes."""
        self._reading = False
        if self.frozen or self.reads <= 0 or not self.backlog or not self.alive:
            return
        action, argument = self.backlog.popleft()
        action(argument)
        self._read_next(len(argument) / self.reads if isinstance(argument, bytes) else 0.0)

    def freeze(self) -> None:
        """The process stops; its sockets stay."""
        self.frozen += 1
        if self.backlog is None:
            self.backlog = deque()

    def thaw(self) -> None:
        """It runs again: timers first, as in a reactor, then what has come meanwhile."""
        if not self.alive:
            return
        self.frozen -= 1
        if self.frozen:
            return
        self.woken()
        self.catch_up()

    def catch_up(self) -> None:
        """Take all that waits, unless the process is still slow, or stopped reading."""
        if self.frozen or not self.alive:
            return
        if self.reads:
            self._read_next(0.0)
            return
        backlog = self.backlog
        while backlog:
            action, argument = backlog.popleft()
            action(argument)
            if self.frozen or self.reads or self.backlog is not backlog:
                return  # what it has read has stopped it, or ended it
        self.backlog = None

    def read_slowly(self, rate: float) -> None:
        """
        Read as many bytes a second from now on.

        :param rate: 0: all at once; negative: none.
        """
        self.reads = rate
        if rate and self.backlog is None:
            self.backlog = deque()
        self.catch_up()

    # --- ending ---------------------------------------------------------------------------------

    def stop(self) -> None:
        """The process is no more; what it counted is kept."""
        self.alive = False
        self.died = self.sim.now
        self.backlog = None
        self.frozen = 0
        self.dirty = []
