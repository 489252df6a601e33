"""
A network of machines on a virtual clock, and everything that can go wrong in it.

>>> from py2p_twisted.simulation import Simulation
>>> sim = Simulation(seed=7)
>>> ada, ben, cyd = sim.add(3)
>>> sim.join(ben, ada)
>>> sim.join(cyd, ben)
>>> sim.run(3)
>>> sim.send(ada, "storm", "north").count
0
>>> sim.run(1)
>>> sim.history.figures().coverage
100.0

Nodes are those of `py2p_twisted.core`, byte for byte as they ship; only what is below them, TCP
and clocks, is made up. All that is random comes from the seed.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from py2p_twisted.core.actions import Dial
from py2p_twisted.core.network import Address, Network, node_id
from py2p_twisted.core.settings import Settings
from py2p_twisted.errors import ConnectTimeout
from py2p_twisted.simulation.history import History, Sent
from py2p_twisted.simulation.host import Host
from py2p_twisted.simulation.machine import Birth, Machine
from py2p_twisted.simulation.timeline import Timeline
from py2p_twisted.simulation.wires import GONE, PENDING, End

#: Seconds to the other end of a connection, drawn for each direction. Source: docs/delivery.rst.
LATENCY: Final = (0.010, 0.100)

#: What time it is when a run begins: seconds since 1970, and on monotonic clocks.
WALL: Final = 1_700_000_000.0
UPTIME: Final = 100_000.0

#: A kernel repeats the request for a connection after this long, then twice as long, and so on.
FIRST_SYN_RETRY: Final = 1.0

_PORT: Final = 4444


class _Attempt:
    """A dial under way."""

    __slots__ = ("back", "deadline", "dial", "interval", "machine", "near", "there")

    near: End

    def __init__(
        self, machine: Machine, dial: Dial, deadline: float, there: float, back: float
    ) -> None:
        self.machine = machine
        self.dial = dial
        self.deadline = deadline
        self.there = there
        self.back = back
        self.interval = FIRST_SYN_RETRY


class Simulation(Timeline):
    """
    Machines, wires between them, faults, and the history of it all.

    :ivar machines: every participant there ever was, by its index.
    :ivar history: what has happened.
    :ivar dials: dials so far; ``connections``: those that led to one.
    """

    def __init__(
        self,
        seed: int | str = 0,
        *,
        latency: tuple[float, float] = LATENCY,
        bandwidth: float = 0.0,
        settings: Settings | None = None,
        network: Network | None = None,
    ) -> None:
        """
        :param latency: least and most seconds to the other end of a connection.
        :param bandwidth: bytes a second on each connection and direction; 0 for any number.
        :param settings: of the nodes that are added.
        """
        super().__init__()
        self.seed = seed
        self.network = network or Network("mesh")
        self.settings = settings or Settings()
        self.latency = latency
        self.bandwidth = bandwidth
        self.history = History()
        self.machines: list[Machine] = self.history.machines
        self.dials = self.connections = 0
        #: The chance of a frame to break its connection.
        self.fragile = 0.0
        self._listening: dict[Address, Machine] = {}
        self._latencies = self.rng("latency")
        self._breaks = self.rng("breaks")
        self._churning = 0

    def rng(self, purpose: str) -> random.Random:
        """A random generator of its own for some purpose, from the seed."""
        return random.Random(f"{self.seed}/{purpose}")

    # --- machines --------------------------------------------------------------------------------

    def add(
        self, count: int = 1, *, kind: type[Machine] = Host, settings: Settings | None = None
    ) -> list[Machine]:
        """
        Start machines. They listen, and know nobody.

        :param kind: `Host`, or `PlainHost` for plain 0.6 nodes.
        """
        return [self._start(kind, self._address(), settings) for _ in range(count)]

    def _address(self) -> Address:
        number = len(self._listening) + 1
        return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", _PORT

    def _start(self, kind: type[Machine], address: Address, settings: Settings | None) -> Machine:
        index = len(self.machines)
        ident = node_id(address, self.network.id, f"{self.seed}/{index}")
        rng = self.rng(f"node {index}")
        machine = kind(Birth(self, index, address, ident, settings or self.settings, rng))
        # Monotonic clocks have nothing to do with each other.
        machine.skew = UPTIME + float(int(rng.random() * UPTIME))
        machine.wall_skew = WALL
        self.machines.append(machine)
        self._listening[address] = machine
        return machine

    @property
    def alive(self) -> list[Machine]:
        """Those whose process exists."""
        return [machine for machine in self.machines if machine.died is None]

    def at_address(self, address: Address) -> Machine:
        """Who lives at an address, or was the last to."""
        return self._listening[address]

    def join(self, machine: Machine, *others: Machine | Address, after: float = 0.0) -> None:
        """
        Have a machine join the network, through others or addresses.

        :param after: seconds from now.
        """
        if after:
            self.call(after, lambda: self.join(machine, *others))
            return
        for other in others:
            address = other.address if isinstance(other, Machine) else other
            machine.bootstrap.append(address)
            if machine.running:
                machine.connect(address)

    def build(
        self,
        count: int,
        *,
        kind: type[Machine] | Sequence[type[Machine]] = Host,
        bootstraps: int = 2,
        interval: float = 0.05,
        hub: bool = False,
        settle: float = 15.0,
    ) -> list[Machine]:
        """
        A network of some size: nodes that join one after the other.

        :param kind: what the machines are; of several kinds, in turn.
        :param bootstraps: how many addresses each is given.
        :param interval: seconds between two joins.
        :param hub: whether all are given the first nodes' addresses, not those of any that
            have joined before.
        :param settle: seconds that it is left alone afterwards.
        """
        machines = self.plan(count, kind=kind, bootstraps=bootstraps, interval=interval, hub=hub)
        self.run(interval * count + settle)
        return machines

    def plan(
        self,
        count: int,
        *,
        kind: type[Machine] | Sequence[type[Machine]] = Host,
        bootstraps: int = 2,
        interval: float = 0.05,
        hub: bool = False,
    ) -> list[Machine]:
        """As `build`, but time has still to pass."""
        kinds = [kind] if isinstance(kind, type) else list(kind)
        machines = [self.add(kind=kinds[number % len(kinds)])[0] for number in range(count)]
        self.plan_joins(machines, bootstraps=bootstraps, interval=interval, hub=hub)
        return machines

    def plan_joins(
        self,
        machines: Sequence[Machine],
        *,
        bootstraps: int = 2,
        interval: float = 0.05,
        hub: bool = False,
    ) -> None:
        """Have machines join one after the other, as `build` does."""
        rng = self.rng("joins")
        for number, machine in enumerate(machines):
            known = machines[: min(number, bootstraps) if hub else number]
            chosen = rng.sample(known, min(bootstraps, len(known)))
            self.join(machine, *chosen, after=interval * number)

    # --- time ---------------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.run_to(self.now + seconds)

    def run_until(
        self, predicate: Callable[[], object], limit: float, *, step: float = 0.1
    ) -> bool:
        """
        Let time pass until something is true; it is looked at every ``step`` seconds.

        :param limit: seconds at most.
        :return: whether it came true.
        """
        end = self.now + limit
        while not predicate():
            if self.now >= end:
                return False
            self.run_to(min(end, self.now + step))
        return True

    def call(self, delay: float, action: Callable[[], object]) -> None:
        """Have something done after some seconds."""
        self.at(self.now + delay, _call, action)

    # --- what applications do -------------------------------------------------------------------------

    def send(self, machine: Machine, *packets: Any) -> Sent:
        """
        Send to everybody.

        :raises ValueError: this machine does not run.
        """
        _require_running(machine)
        return machine.broadcast(packets)

    def confirm(self, machine: Host, *packets: Any, timeout: float = 10.0) -> tuple[Sent, int]:
        """
        Send to everybody, and find out who gets it.

        :return: what was sent, and the key of the `Receipt` in ``machine.receipts``, when that is
            there: after ``timeout`` seconds at most.
        :raises ValueError: this machine does not run.
        """
        _require_running(machine)
        return machine.confirm(packets, timeout)

    def reply(self, machine: Machine, to: Machine | bytes, *packets: Any) -> int:
        """
        Send to one node, wherever it is.

        :return: a token for ``machine.outcomes``.
        """
        _require_running(machine)
        return machine.reply(to.id if isinstance(to, Machine) else to, packets)

    def check_sizes(self) -> None:
        """See that every container of every node is within its cap; else it is a violation."""
        for machine in self.machines:
            if machine.alive:
                for name, (size, cap) in machine.sizes().items():
                    if size > cap:
                        self.history.violation(
                            f"{machine.name} holds {size} in {name}, of {cap} at most"
                        )

    def traffic(self) -> tuple[int, int, int]:
        """Frames that all nodes have received, duplicates among them, and bytes."""
        frames = duplicates = size = 0
        for machine in self.machines:
            more = machine.traffic()
            frames += more[0]
            duplicates += more[1]
            size += more[2]
        return frames, duplicates, size

    def counters(self) -> Counter[str]:
        """What all nodes have counted, by name: grafts, prunes, digests and the like."""
        total: Counter[str] = Counter()
        for machine in self.machines:
            total.update(machine.counters())
        return total

    # --- dials --------------------------------------------------------------------------------------------

    def reachable(self, one: Machine, other: Machine) -> bool:
        """Whether what one sends arrives at the other."""
        return one.powered and other.powered and one.group == other.group

    def dial(self, machine: Machine, dial: Dial) -> None:
        """Make a connection."""
        self.dials += 1
        draw = self._latencies.uniform
        there, back = draw(*self.latency), draw(*self.latency)
        attempt = _Attempt(machine, dial, self.now + dial.timeout, there, back)
        self.at(self.now + there, self._requested, attempt)

    def _requested(self, attempt: _Attempt) -> None:
        """The request for a connection has come to whoever listens."""
        machine = attempt.machine
        if not machine.alive:
            return
        target = self._listening.get(attempt.dial.address)
        if target is not None and not self.reachable(machine, target):
            again = self.now + attempt.interval
            attempt.interval *= 2
            if again < attempt.deadline:
                self.at(again, self._requested, attempt)
            else:
                error = ConnectTimeout("there was no answer in time")
                self.at(attempt.deadline, self._failed, (attempt, error))
            return
        if target is None or not target.alive or target is machine:
            error_ = ConnectionRefusedError("nobody listens there")
            self.at(self.now + attempt.back, self._failed, (attempt, error_))
            return
        near = End(machine, attempt.dial, attempt.there, self.bandwidth)
        far = End(target, None, attempt.back, self.bandwidth)
        near.other, far.other = far, near
        attempt.near = near
        target.ends[far] = None
        self.at(self.now + attempt.back, self._answered, attempt)

    def _failed(self, outcome: tuple[_Attempt, Exception]) -> None:
        attempt, error = outcome
        machine = attempt.machine
        if machine.frozen:
            machine.postpone(self._failed, outcome)
        elif machine.alive:
            machine.dial_failed((attempt.dial, error))

    def _answered(self, attempt: _Attempt) -> None:
        """The answer has come to who dialled."""
        near = attempt.near
        far, machine = near.other, near.machine
        if not machine.alive:
            far.leave()
            return
        if far.state == GONE or not self.reachable(machine, far.machine):
            far.leave()
            error: Exception = ConnectionRefusedError("nobody listens there any more")
            if not self.reachable(machine, far.machine):
                error = ConnectTimeout("there was no answer in time")
            self._failed((attempt, error))
            return
        self.connections += 1
        machine.ends[near] = None
        # Before anything that the dialling end writes.
        self.at(self.now + near.latency, self._accepted, far)
        if machine.frozen:
            machine.postpone(self._open, near)
        else:
            self._open(near)

    def _accepted(self, far: End) -> None:
        machine = far.machine
        if machine.frozen:
            machine.postpone(self._open, far)
        else:
            self._open(far)

    def _open(self, end: End) -> None:
        if end.state == PENDING and end.machine.alive:
            end.machine.opened(end)

    # --- faults ---------------------------------------------------------------------------------------------

    def kill(self, machines: Iterable[Machine], *, in_flight: bool = False) -> None:
        """
        End processes, all in one instant. Their peers see a reset after the latency.

        :param in_flight: what they have written and nobody has received still arrives.
        """
        for machine in [machine for machine in machines if machine.alive]:
            self.history.note("killed", machine)
            machine.stop()
            for end in list(machine.ends):
                end.abort(in_flight=in_flight)

    def leave(self, machine: Machine) -> None:
        """Have a machine leave in good order: queues are flushed, goodbyes said."""
        self.history.note("left", machine)
        machine.leave()
        machine.stop()

    def power_loss(self, machines: Iterable[Machine]) -> None:
        """Take away their power: nobody is told anything."""
        for machine in [machine for machine in machines if machine.powered]:
            self.history.note("power loss", machine)
            machine.powered = False
            machine.stop()
            for end in list(machine.ends):
                end.lose_power()

    def restart(self, machine: Machine) -> Machine:
        """
        Start a process anew where one is or has been, with a new id; it joins as that one did.

        :return: the new participant.
        """
        self.kill([machine])
        again = self._start(type(machine), machine.address, machine.settings)
        again.group = machine.group
        again.wall_skew = machine.wall_skew
        self.history.note("restarted", again, machine)
        if not machine.powered:
            # Its kernel answers again, and knows of no connections.
            for end in machine.cut_off:
                if end.state != GONE:
                    end.recover()
        self.join(again, *machine.bootstrap)
        return again

    def partition(self, groups: Sequence[Iterable[Machine]], *, reset: bool = True) -> None:
        """
        Cut the network into groups; whoever is in none of them is in another one together.

        :param reset: whether connections between groups are reset at once. Else they fall
            silent: what is written waits, and kernels give up in their own time.
        """
        for number, group in enumerate(groups, 1):
            for machine in group:
                machine.group = number
        for machine in self.machines:
            for end in list(machine.ends):
                if end.other.machine.group != machine.group:
                    if reset:
                        end.break_both()
                    else:
                        end.stall()

    def heal(self) -> None:
        """End a partition."""
        for machine in self.machines:
            machine.group = 0
        for machine in self.machines:
            for end in list(machine.ends):
                if self.reachable(machine, end.other.machine):
                    end.recover()

    def break_frames(self, probability: float) -> None:
        """Give every frame that is written a chance to break its connection."""
        self.fragile = probability
        for machine in self.machines:
            for end in machine.ends:
                end.review()

    def breaks(self, frame: bytes) -> bool:
        """Whether this frame breaks its connection."""
        return self._breaks.random() < self.fragile

    def churn(
        self, rate: float, seconds: float, *, spare: Iterable[Machine] = (), bootstraps: int = 2
    ) -> None:
        """
        Replace nodes: one after the other is killed, and a new one joins.

        :param rate: the share of all that is replaced in a minute.
        :param spare: who is left alone.
        """
        self._churning += 1
        rng = self.rng(f"churn {self._churning}")
        spared = list(spare)
        end = self.now + seconds

        def replace() -> None:
            if self.now >= end:
                return
            alive = self.alive
            victims = [machine for machine in alive if machine not in spared]
            victim = rng.choice(victims)
            self.kill([victim])
            (newcomer,) = self.add(kind=type(victim))
            others = [machine for machine in alive if machine is not victim]
            self.join(newcomer, *rng.sample(others, min(bootstraps, len(others))))
            wait()

        def wait() -> None:
            self.call(rng.expovariate(rate * len(self.alive) / 60.0), replace)

        wait()

    def clock_step(self, machine: Machine, seconds: float) -> None:
        """Set a wall clock forward, or back."""
        self.history.note("clock step", machine, None, f"{seconds:+.3f}")
        machine.wall_skew += seconds

    def suspend(self, machine: Machine, seconds: float, *, asleep: bool = False) -> None:
        """
        Stop a process for a while. Its sockets stay, and fill.

        :param asleep: the whole machine sleeps, and its monotonic clock with it.
        """
        self.history.note("suspended", machine, None, f"{seconds:.3f}")
        machine.freeze()

        def resume() -> None:
            if asleep:
                machine.skew -= seconds
            machine.thaw()

        self.call(seconds, resume)

    def slow(self, machine: Machine, bytes_per_second: float) -> None:
        """Have a process read only so much."""
        machine.read_slowly(bytes_per_second)

    def stop_reading(self, machine: Machine) -> None:
        """Have a process read nothing at all; its timers run, and it writes."""
        machine.read_slowly(-1.0)

    def resume(self, machine: Machine) -> None:
        """Have it read again as fast as it can."""
        machine.read_slowly(0.0)


def _call(action: Callable[[], object]) -> None:
    action()


def _require_running(machine: Machine) -> None:
    if not machine.running:
        raise ValueError(f"{machine.name} does not run")
