"""
What can happen to a network, played on the product's own nodes, and the figures it comes to.

>>> from py2p_twisted.simulation.scenarios import SCENARIOS
>>> rows = SCENARIOS["steady"].run(nodes=12, seed=1)
>>> rows[0].phase, rows[0].figures.coverage
('5 senders', 100.0)

A scenario of your own is a function of a `Stage`, which has the network and keeps the phases:

>>> from py2p_twisted.simulation.scenarios import Scenario, Stage
>>> def lightning(stage: Stage) -> None:
...     nodes = stage.build()
...     before = stage.send(nodes[:3], count=6, seconds=2.0)
...     stage.sim.power_loss(nodes[6:])
...     after = stage.send(nodes[:3], count=6, seconds=2.0)
...     stage.settle(30.0)
...     stage.phase("before", before)
...     stage.phase("after", after)
>>> for row in Scenario("lightning", "half of the machines go dark", lightning).run(12, seed=5):
...     print(row.phase, row.figures.sends)
before 6
after 6

Figures are taken at the end, because who is owed a message depends on who is still there.
Source: docs/delivery.rst.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Final

from py2p_twisted.core import flags
from py2p_twisted.core.connection import Connection
from py2p_twisted.core.extension import Kind
from py2p_twisted.core.message import Message
from py2p_twisted.core.settings import Settings
from py2p_twisted.errors import BadArgument
from py2p_twisted.simulation.history import Figures, Sent, quantile
from py2p_twisted.simulation.host import Host
from py2p_twisted.simulation.machine import Birth, Machine
from py2p_twisted.simulation.network import Simulation

#: How nodes of ours deliver among each other: by plain flooding, or by the extension protocol.
FLOOD: Final = "flood"
MESH_EXT: Final = "mesh-ext"
MODES: Final = (FLOOD, MESH_EXT)

#: Told how far a run has got: the phase, virtual seconds so far, and the share of all (0 to 1).
Progress = Callable[[str, float, float], object]


def settings_for(mode: str, settings: Settings | None = None) -> Settings:
    """
    The settings of nodes that deliver in some mode.

    :raises BadArgument: the mode is unknown.
    """
    if mode not in MODES:
        raise BadArgument(f"unknown mode {mode!r}; there are {', '.join(MODES)}")
    return replace(settings or Settings(), extensions=mode == MESH_EXT)


@dataclass(frozen=True, slots=True)
class Row:
    """
    One phase of a scenario, in figures.

    :ivar phase: its name.
    :ivar figures: what its messages came to at our own nodes.
    :ivar plain: the same at plain 0.6 nodes, if there were any.
    :ivar after: seconds from a certain event, such as the end of a cut, to the last delivery
        of all; ``None`` where there is none.
    :ivar violations: what was wrong in the whole run, as `History.check` says it. Under plain
        flooding missing messages are none: it promises nothing about them.
    :ivar notes: further figures by name.
    """

    phase: str
    figures: Figures
    plain: Figures | None
    after: float | None
    violations: tuple[str, ...]
    notes: dict[str, float]


class Stage:
    """
    A scenario that is being played.

    :ivar sim: the network.
    :ivar nodes: how many it is to have.
    :ivar mode: how its nodes deliver.
    :ivar rng: for the choices of the scenario.
    """

    def __init__(
        self, nodes: int, seed: int | str, mode: str, progress: Progress | None, planned: float
    ) -> None:
        self.nodes = nodes
        self.mode = mode
        self.sim = Simulation(f"{seed}", settings=settings_for(mode))
        self.rng = self.sim.rng("scenario")
        self.now_playing = "joining"
        self._serial = 0
        self._progress = progress
        self._planned = planned
        self._phases: list[tuple[str, list[Sent], float | None, dict[str, float]]] = []

    # --- playing -----------------------------------------------------------------------------

    def build(self, kind: type[Machine] | Sequence[type[Machine]] = Host) -> list[Machine]:
        """Have all nodes join, one after the other."""
        interval = join_interval(self.nodes)
        machines = self.sim.plan(self.nodes, kind=kind, interval=interval)
        self.settle(interval * self.nodes + 15.0)
        # A third of the time would go into looking for garbage in what is there to stay.
        gc.freeze()
        return machines

    def pick(self, machines: Sequence[Machine], count: int) -> list[Machine]:
        """Some of them, at random."""
        return self.rng.sample(list(machines), min(count, len(machines)))

    def settle(self, seconds: float) -> None:
        """Let time pass, a second at a time."""
        end = self.sim.now + seconds
        while self.sim.now < end:
            self.sim.run_to(min(end, self.sim.now + 1.0))
            if self._progress is not None:
                share = min(1.0, self.sim.now / self._planned) if self._planned else 0.0
                self._progress(self.now_playing, self.sim.now, share)

    def send(
        self, senders: Sequence[Machine], *, count: int, seconds: float, size: int = 0
    ) -> list[Sent]:
        """
        Have some nodes send in turn, evenly over some time, which passes meanwhile.

        :param size: bytes that a message has at least.
        """
        sent: list[Sent] = []
        for number in range(count):
            sender = senders[number % len(senders)]
            self._serial += 1
            if sender.running:
                # Noise: what can be compressed would be.
                noise = (self.rng.randbytes(size),) if size else ()
                sent.append(self.sim.send(sender, self._serial, *noise))
            self.settle(seconds / count)
        return sent

    def phase(
        self,
        name: str,
        sends: Sequence[Sent],
        *,
        since: float | None = None,
        **notes: float,
    ) -> None:
        """
        Keep a phase for the report.

        :param since: a time from which the last delivery of all is measured.
        """
        self._phases.append((name, list(sends), since, notes))

    # --- reporting ---------------------------------------------------------------------------

    def rows(self) -> list[Row]:
        """The figures of every phase."""
        self.sim.check_sizes()
        history = self.sim.history
        violations = tuple(history.check(complete=self.mode != FLOOD))
        mixed = any(not machine.ours for machine in self.sim.machines)
        rows = []
        for name, sends, since, notes in self._phases:
            after = None
            if since is not None:
                lasts = [
                    sent.time + sent.after[machine.index]
                    for sent in sends
                    for machine in history.eligible(sent)
                    if sent.has(machine)
                ]
                after = max(max(lasts, default=since) - since, 0.0)
            rows.append(
                Row(
                    phase=name,
                    figures=history.figures(sends),
                    plain=history.figures(sends, plain=True) if mixed else None,
                    after=after,
                    violations=violations,
                    notes=dict(notes),
                )
            )
        return rows


def join_interval(nodes: int) -> float:
    """Seconds between two joins: networks of all sizes come up in about half a minute."""
    return min(0.05, 40.0 / nodes)


@dataclass(frozen=True, slots=True)
class Scenario:
    """
    Something that can happen to a network.

    :ivar name: how it is asked for.
    :ivar title: what happens, in a line.
    :ivar play: does it.
    :ivar seconds: virtual seconds that it takes after the joins, about.
    """

    name: str
    title: str
    play: Callable[[Stage], None]
    seconds: float = 0.0

    def run(
        self,
        nodes: int = 128,
        seed: int | str = 1,
        mode: str = MESH_EXT,
        progress: Progress | None = None,
    ) -> list[Row]:
        """
        Play it.

        :param mode: ``"flood"`` or ``"mesh-ext"``.
        :param progress: called about once a virtual second.
        """
        planned = join_interval(nodes) * nodes + 15.0 + self.seconds if self.seconds else 0.0
        stage = Stage(nodes, seed, mode, progress, planned)
        try:
            self.play(stage)
            return stage.rows()
        finally:
            gc.unfreeze()


# --- the scenarios --------------------------------------------------------

_SENDERS: Final = 5


def _warm_up(stage: Stage, senders: Sequence[Machine]) -> list[Sent]:
    stage.now_playing = "warm-up"
    sent = stage.send(senders, count=40, seconds=8.0)
    stage.settle(2.0)
    return sent


def _steady(stage: Stage) -> None:
    machines = stage.build()
    senders = stage.pick(machines, _SENDERS)
    _warm_up(stage, senders)
    stage.now_playing = "5 senders"
    five = stage.send(senders, count=60, seconds=12.0)
    stage.settle(3.0)
    stage.now_playing = "any sender"
    everybody = stage.send(stage.pick(machines, 60), count=60, seconds=12.0)
    stage.settle(5.0)
    stage.phase("5 senders", five)
    stage.phase("any sender", everybody)


def _kinds(mixed: bool) -> Sequence[type[Machine]]:
    """Of what kinds the nodes of a network are, in turn."""
    from py2p_twisted.simulation.plain import PlainHost

    return (Host, PlainHost) if mixed else (Host,)


def _strike(
    stage: Stage,
    share: float,
    fault: Callable[[Simulation, list[Machine]], None],
    *,
    mixed: bool = False,
) -> None:
    machines = stage.build(_kinds(mixed))
    ours = [one for one in machines if one.ours]
    plain = [one for one in machines if not one.ours]
    # Of each kind as many, or in a small network all of one might be gone.
    victims = [one for kind in (ours, plain) for one in stage.pick(kind, round(share * len(kind)))]
    struck = set(victims)
    senders = stage.pick([one for one in ours if one not in struck], _SENDERS)
    _warm_up(stage, senders)
    stage.now_playing = "in flight"
    flying = stage.send(senders, count=20, seconds=0.1)
    fault(stage.sim, victims)
    stage.now_playing = "next 2 s"
    soon = stage.send(senders, count=20, seconds=2.0)
    stage.now_playing = "20 s later"
    stage.settle(18.0)
    later = stage.send(senders, count=20, seconds=2.0)
    stage.settle(30.0)
    stage.phase("in flight", flying)
    stage.phase("next 2 s", soon)
    stage.phase("20 s later", later)


def _killing(share: float, *, mixed: bool = False) -> Callable[[Stage], None]:
    return lambda stage: _strike(stage, share, lambda sim, victims: sim.kill(victims), mixed=mixed)


def _power_loss(stage: Stage) -> None:
    _strike(stage, 0.5, lambda sim, victims: sim.power_loss(victims))


def _churning(seconds: float) -> Callable[[Stage], None]:
    def play(stage: Stage) -> None:
        machines = stage.build()
        senders = stage.pick(machines, _SENDERS)
        _warm_up(stage, senders)
        stage.now_playing = "churn"
        stage.sim.churn(0.1, seconds, spare=senders)
        sent = stage.send(senders, count=round(seconds / 2.0), seconds=seconds)
        stage.settle(30.0)
        stage.phase("churn 10 %/min", sent)

    return play


def _breaking(probability: float) -> Callable[[Stage], None]:
    def play(stage: Stage) -> None:
        machines = stage.build()
        senders = stage.pick(machines, _SENDERS)
        _warm_up(stage, senders)
        stage.now_playing = "breaking"
        stage.sim.break_frames(probability)
        sent = stage.send(senders, count=40, seconds=40.0)
        stage.settle(10.0)
        stage.sim.break_frames(0.0)
        stage.settle(30.0)
        stage.phase(f"break {100 * probability:g} %", sent)

    return play


def _cutting(seconds: float, *, reset: bool = True, mixed: bool = False) -> Callable[[Stage], None]:
    def play(stage: Stage) -> None:
        machines = stage.build(_kinds(mixed))
        senders = stage.pick([one for one in machines if one.ours], _SENDERS)
        _warm_up(stage, senders)
        stage.now_playing = "cut"
        stage.sim.partition([stage.pick(machines, len(machines) // 2)], reset=reset)
        during = stage.send(senders, count=30, seconds=seconds)
        stage.sim.heal()
        healed = stage.sim.now
        stage.now_playing = "healed"
        stage.settle(30.0)
        after = stage.send(senders, count=20, seconds=4.0)
        stage.settle(30.0)
        stage.phase("sent during the cut", during, since=healed)
        stage.phase("sent 30 s after it", after)

    return play


def _clocks(stage: Stage) -> None:
    machines = stage.sim.add(stage.nodes)
    for number, machine in enumerate(machines):
        machine.wall_skew += (0.0, 3600.0, 0.0, -3600.0)[number % 4]
    interval = join_interval(stage.nodes)
    stage.sim.plan_joins(machines, interval=interval)
    stage.settle(interval * stage.nodes + 15.0)
    senders = stage.pick(machines, _SENDERS)
    _warm_up(stage, senders)
    stage.now_playing = "skewed"
    skewed = stage.send(senders, count=40, seconds=8.0)
    stage.settle(5.0)
    stage.now_playing = "stepping"
    stepping = []
    for machine in stage.pick(machines, max(4, len(machines) // 10)):
        stage.sim.clock_step(machine, stage.rng.choice((-3600.0, -90.0, 90.0, 3600.0)))
        stepping += stage.send([machine, *senders], count=4, seconds=1.0)
    stage.settle(5.0)
    stage.now_playing = "suspended"
    rest = [machine for machine in machines if machine not in senders]
    for number, machine in enumerate(stage.pick(rest, max(2, len(machines) // 10))):
        stage.sim.suspend(machine, 15.0, asleep=bool(number % 2))
    suspended = stage.send(senders, count=20, seconds=10.0)
    stage.settle(40.0)
    stage.phase("a quarter each +1 h, -1 h", skewed)
    stage.phase("clocks step", stepping)
    stage.phase("a tenth suspended 15 s", suspended)


def _slow(stage: Stage) -> None:
    machines = stage.build()
    senders = stage.pick(machines, _SENDERS)
    _warm_up(stage, senders)
    stage.now_playing = "all well"
    size = 16 * 1024
    before = stage.send(senders, count=100, seconds=10.0, size=size)
    stage.settle(3.0)
    rest = [machine for machine in machines if machine not in senders]
    slow, stopped = stage.pick(rest, 2)
    stage.now_playing = "slow"
    stage.sim.slow(slow, 20_000.0)
    stage.sim.stop_reading(stopped)
    most = 0
    during = []
    for _ in range(30):
        during += stage.send(senders, count=10, seconds=1.0, size=size)
        held = [
            end.other.size
            for machine in (slow, stopped)
            for end in machine.ends
        ]  # fmt: skip
        most = max([most, *held])
    stage.sim.resume(slow)
    stage.sim.resume(stopped)
    resumed = stage.sim.now
    stage.settle(60.0)
    struck = {slow, stopped}
    stage.phase("before", before)
    stage.phase(
        "one node slow, one stopped",
        during,
        since=resumed,
        **{
            "outbox for them": float(most),
            "missing at slow": float(sum(not sent.has(slow) for sent in during)),
            "missing at stopped": float(sum(not sent.has(stopped) for sent in during)),
            "p99 of the others": _others_p99(stage, during, struck),
            "p99 before": _others_p99(stage, before, struck),
        },
    )


def _others_p99(stage: Stage, sends: Sequence[Sent], without: set[Machine]) -> float:
    """Seconds in which 99 % of some messages had come to all but these."""
    lasts = sorted(
        max(
            (
                sent.after[machine.index]
                for machine in stage.sim.history.eligible(sent)
                if machine not in without and sent.has(machine)
            ),
            default=0.0,
        )
        for sent in sends
    )
    return quantile(lasts, 0.99)


def _mixed(stage: Stage) -> None:
    machines = stage.build(_kinds(True))
    ours = [machine for machine in machines if machine.ours]
    victims = stage.pick(machines, round(0.3 * len(machines)))
    struck = set(victims)
    senders = stage.pick([one for one in ours if one not in struck], _SENDERS)
    plain = [one for one in machines if not one.ours and one not in struck]
    steady = _warm_up(stage, senders)
    stage.now_playing = "plain senders"
    theirs = stage.send(stage.pick(plain, _SENDERS), count=20, seconds=25.0)
    stage.settle(5.0)
    stage.now_playing = "kill 30 %"
    flying = stage.send(senders, count=20, seconds=0.1)
    stage.sim.kill(victims)
    soon = stage.send(senders, count=20, seconds=2.0)
    stage.settle(18.0)
    later = stage.send(senders, count=20, seconds=2.0)
    stage.settle(40.0)
    stage.phase("steady, our senders", steady)
    stage.phase("steady, plain senders", theirs)
    stage.phase("kill 30 %, in flight", flying)
    stage.phase("kill 30 %, next 2 s", soon)
    stage.phase("kill 30 %, 20 s later", later)


class _Counting(Host):
    """A node that counts the receipts it writes, for every link and second."""

    def __init__(self, birth: Birth) -> None:
        super().__init__(birth)
        self.written: Counter[tuple[Connection, int]] = Counter()

    def send(self, message: Message, link: Connection) -> None:
        """Queue one message for one peer."""
        if message.items[3:5] == (flags.EXTENSION, Kind.RECEIPT):
            self.written[link, int(self.sim.now)] += 1
        super().send(message, link)


def _confirm(
    stage: Stage, senders: Sequence[Host], count: int, seconds: float
) -> list[tuple[Host, Sent, int]]:
    """Have some nodes send in turn, and ask for receipts."""
    asked = []
    for number in range(count):
        sender = senders[number % len(senders)]
        asked.append((sender, *stage.sim.confirm(sender, f"{stage.now_playing} {number}")))
        stage.settle(seconds / count)
    return asked


def _receipts(stage: Stage) -> None:
    machines = [one for one in stage.build(_Counting) if isinstance(one, _Counting)]
    senders = machines[:_SENDERS]
    everybody = {one.id for one in machines}
    phases = []
    stage.now_playing = "first"
    phases.append(("first of a sender", _confirm(stage, senders, _SENDERS, 0.5), set[bytes]()))
    stage.settle(5.0)
    stage.now_playing = "steady"
    phases.append(("5 senders", _confirm(stage, senders, 60, 12.0), set[bytes]()))
    stage.settle(5.0)
    stage.now_playing = "5 killed"
    flying = _confirm(stage, senders, 20, 0.1)
    victims = stage.rng.sample(machines[_SENDERS:], min(5, len(machines) - _SENDERS))
    stage.sim.kill(victims)
    phases.append(("5 killed in flight", flying, {one.id for one in victims}))
    stage.settle(15.0)
    most = max((number for one in machines for number in one.written.values()), default=0)
    for name, asked, gone in phases:
        receipts = [sender.receipts[key] for sender, _, key in asked]
        told = [
            receipt.delivered | receipt.missing == everybody - {sender.id}
            and receipt.missing <= gone
            for (sender, _, _), receipt in zip(asked, receipts, strict=True)
        ]
        stage.phase(
            name,
            [sent for _, sent, _ in asked],
            **{
                "right receipts, %": 100.0 * sum(told) / len(told),
                "median seconds": median(receipt.seconds for receipt in receipts),
                "most seconds": max(receipt.seconds for receipt in receipts),
                "receipts a link and second, at most": float(most),
            },
        )


_ALL: Final = (
    Scenario("steady", "nothing goes wrong", _steady, 42.0),
    Scenario("kill-30", "30 % of the processes die in one instant", _killing(0.3), 62.0),
    Scenario("kill-50", "half of the processes die in one instant", _killing(0.5), 62.0),
    Scenario("kill-80", "80 % of the processes die in one instant", _killing(0.8), 62.0),
    Scenario("power-loss", "half of the machines go dark, nobody is told", _power_loss, 62.0),
    Scenario("churn", "10 % of the nodes are replaced every minute", _churning(180.0), 220.0),
    Scenario("long-churn", "the same, for 10 min", _churning(600.0), 640.0),
    Scenario("break-1", "1 % of all frames break their connection", _breaking(0.01), 90.0),
    Scenario("break-5", "5 % of all frames break their connection", _breaking(0.05), 90.0),
    Scenario("cut", "random halves, connections reset, for 30 s", _cutting(30.0), 104.0),
    Scenario(
        "silent-cut", "random halves, connections silent, for 30 s",
        _cutting(30.0, reset=False), 104.0,
    ),
    Scenario("long-cut", "random halves, connections reset, for 9 min", _cutting(540.0), 614.0),
    Scenario("mixed", "half of the nodes are plain 0.6, then 30 % die", _mixed, 102.0),
    Scenario("mixed-kill", "the same, then 80 % die in one instant", _killing(0.8, mixed=True), 62.0),
    Scenario("mixed-cut", "the same, random halves for 30 s", _cutting(30.0, mixed=True), 104.0),
    Scenario("clocks", "clocks are wrong, step, and stand still", _clocks, 90.0),
    Scenario("receipts", "every message is confirmed, then 5 processes die", _receipts, 40.0),
    Scenario("slow", "one node reads slowly, another not at all, for 30 s", _slow, 115.0),
)  # fmt: skip

#: The scenarios by name.
SCENARIOS: Final[dict[str, Scenario]] = {scenario.name: scenario for scenario in _ALL}
