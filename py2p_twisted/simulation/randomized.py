"""
Histories of random faults, to be judged by what must hold in every one of them.

>>> from py2p_twisted.simulation.randomized import random_history
>>> outcome = random_history(42)
>>> outcome.violations
()
>>> outcome == random_history(42)
True

From a seed come a network of 4 to 32 nodes and some dozens of steps: sends of all sizes, kills,
power losses, restarts, newcomers, cuts with and without resets, connections that break, clocks that
step, processes that stand still, read slowly or not at all. Then everything is mended that can be,
the network is left alone for a while, and `History.check` looks back.

What no protocol can be blamed for is avoided: clocks stay within ten minutes of the true time, and a
node whose every bootstrap address is dead, and that has no neighbour left, is told a new one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from py2p_twisted.core.settings import Settings
from py2p_twisted.simulation.history import Sent
from py2p_twisted.simulation.host import Host
from py2p_twisted.simulation.machine import Machine
from py2p_twisted.simulation.network import WALL, Simulation
from py2p_twisted.simulation.plain import PlainHost
from py2p_twisted.simulation.scenarios import FLOOD, MESH_EXT, settings_for

#: Nodes in the beginning, and at any time.
FEWEST: Final = 4
MOST: Final = 32
#: How far clocks may be wrong, in seconds: stamps are refused from 20 minutes on.
MOST_SKEW: Final = 600.0
#: How long the network is left alone at the end. The longest wait is that for a kernel that has
#: doubled its intervals during a silent cut.
SETTLE: Final = 100.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What came of a history.

    :ivar seed: what it was made from; with the mode, it makes it again.
    :ivar nodes: participants there were, the restarted counted anew.
    :ivar steps: what was done, as text.
    :ivar sends: broadcasts.
    :ivar deliveries: of them.
    :ivar coverage: percent of what was owed to our own nodes.
    :ivar rescued: nodes that had to be told a new address.
    :ivar seconds: virtual time.
    :ivar violations: what was wrong.
    :ivar digest: a checksum over everything that happened.
    """

    seed: int | str
    nodes: int
    steps: tuple[str, ...]
    sends: int
    deliveries: int
    coverage: float
    rescued: int
    seconds: float
    violations: tuple[str, ...]
    digest: str


class _Play:
    """A history in the making."""

    def __init__(self, seed: int | str, mode: str, settings: Settings | None) -> None:
        self.sim = Simulation(f"random {seed}", settings=settings_for(mode, settings))
        self.rng = self.sim.rng("history")
        self.steps: list[str] = []
        self.cut = False
        self.rescued = 0
        self._serial = 0

    def choose(self, *, running: bool = True) -> Machine:
        """One of those that are alive."""
        machines = [one for one in self.sim.alive if one.running or not running]
        return self.rng.choice(machines or self.sim.alive)

    def note(self, text: str) -> None:
        self.steps.append(f"{self.sim.now:.2f} {text}")

    # --- steps -------------------------------------------------------------------------------

    def send(self) -> None:
        """One node sends a few, in one instant or over a second."""
        sender = self.choose()
        count = self.rng.randint(1, 8)
        pause = self.rng.choice((0.0, 0.0, 0.02, 0.2))
        size = self.rng.choice((1, 1, 1, 10, 200, 2_000, 60_000))
        self.note(f"{sender.name} sends {count} of {size} bytes")
        for _ in range(count):
            if not sender.running:
                break
            self._serial += 1
            # Now and then the same again: two sends are two messages.
            again = size == 1 and self.rng.random() < 0.2
            content = b"again" if again else self.rng.randbytes(size)
            self.sim.send(sender, 0 if again else self._serial, content)
            if pause:
                self.sim.run(pause)

    def everybody_sends(self) -> None:
        """Several send at once."""
        alive = [one for one in self.sim.alive if one.running]
        senders = self.rng.sample(alive, min(len(alive), self.rng.randint(2, 6)))
        self.note(f"{len(senders)} send at once")
        for sender in senders:
            self._serial += 1
            self.sim.send(sender, self._serial)

    def kill(self) -> None:
        """Some processes die; more than half of the network does not."""
        alive = self.sim.alive
        most = max(0, min(len(alive) // 2, len(alive) - FEWEST + 1))
        victims = self.rng.sample(alive, self.rng.randint(0, most))
        in_flight = self.rng.random() < 0.3
        self.note(f"kill {[one.name for one in victims]}")
        self.sim.kill(victims, in_flight=in_flight)

    def power_loss(self) -> None:
        """A machine goes dark."""
        if len(self.sim.alive) > FEWEST:
            victim = self.choose(running=False)
            self.note(f"power loss at {victim.name}")
            self.sim.power_loss([victim])

    def restart(self) -> None:
        """One that is dead comes back, or one that is alive is restarted."""
        dead = [
            one
            for one in self.sim.machines
            if not one.alive and not self.sim.at_address(one.address).alive
        ]
        victim = self.rng.choice(dead) if dead and self.rng.random() < 0.8 else self.choose()
        self.note(f"restart {victim.name}")
        self.sim.restart(victim)

    def newcomer(self) -> None:
        """Somebody joins."""
        alive = self.sim.alive
        if len(alive) < MOST:
            (machine,) = self.sim.add(kind=type(self.rng.choice(alive)))
            others = self.rng.sample(alive, min(3, len(alive)))
            machine.group = others[0].group
            self.note(f"{machine.name} joins")
            self.sim.join(machine, *others)

    def leave(self) -> None:
        """Somebody leaves in good order."""
        if len(self.sim.alive) > FEWEST:
            machine = self.choose()
            self.note(f"{machine.name} leaves")
            self.sim.leave(machine)

    def cut_or_heal(self) -> None:
        """The network falls in two, or is one again."""
        if self.cut:
            self.note("heal")
            self.sim.heal()
        else:
            alive = self.sim.alive
            part = self.rng.sample(alive, self.rng.randint(1, len(alive) - 1))
            reset = self.rng.random() < 0.5
            self.note(f"cut off {[one.name for one in part]}{', reset' if reset else ''}")
            self.sim.partition([part], reset=reset)
        self.cut = not self.cut

    def break_frames(self) -> None:
        """Frames break their connections, or do not any more."""
        probability = 0.0 if self.sim.fragile else self.rng.choice((0.01, 0.05))
        self.note(f"break {probability:.0%}")
        self.sim.break_frames(probability)

    def clock_step(self) -> None:
        """A clock is set."""
        machine = self.choose(running=False)
        error = machine.wall_skew - WALL
        step = self.rng.uniform(-MOST_SKEW, MOST_SKEW) - error
        self.note(f"clock of {machine.name} {step:+.0f} s")
        self.sim.clock_step(machine, step)

    def suspend(self) -> None:
        """A process, or its whole machine, stands still."""
        machine = self.choose()
        if machine.running:
            seconds = self.rng.choice((0.3, 1.5, 8.0, 30.0))
            self.note(f"suspend {machine.name} for {seconds} s")
            self.sim.suspend(machine, seconds, asleep=self.rng.random() < 0.3)

    def slow(self) -> None:
        """A process does not read as it should, or does again."""
        slow = [one for one in self.sim.alive if one.reads]
        if slow and self.rng.random() < 0.5:
            machine = self.rng.choice(slow)
            self.note(f"{machine.name} reads again")
            self.sim.resume(machine)
            return
        machine = self.choose()
        if self.rng.random() < 0.5:
            self.note(f"{machine.name} stops reading")
            self.sim.stop_reading(machine)
        else:
            self.note(f"{machine.name} reads slowly")
            self.sim.slow(machine, 3_000.0)

    def reply(self) -> None:
        """Somebody answers somebody, wherever that is."""
        one, other = self.choose(), self.choose(running=False)
        if one is not other and one.running:
            self._serial += 1
            self.sim.reply(one, other, self._serial)

    # --- the end -----------------------------------------------------------------------------

    def mend(self) -> None:
        """End all faults that are still there."""
        self.note("mend")
        self.sim.break_frames(0.0)
        if self.cut:
            self.sim.heal()
        for machine in self.sim.alive:
            self.sim.resume(machine)
        self.sim.run(40.0)  # who is suspended wakes up meanwhile
        for machine in self.sim.alive:
            if machine.ours and self._is_stranded(machine):
                others = [one for one in self.sim.alive if one is not machine]
                self.rescued += 1
                self.sim.join(machine, self.rng.choice(others))
        self.sim.run(SETTLE - 40.0)

    def _is_stranded(self, machine: Machine) -> bool:
        return not machine.has_peers and not any(
            self.sim.at_address(address).alive for address in machine.bootstrap
        )


#: What may be done, and how often compared with the others.
_STEPS: Final[tuple[tuple[Callable[[_Play], None], int], ...]] = (
    (_Play.send, 30),
    (_Play.everybody_sends, 8),
    (_Play.kill, 4),
    (_Play.power_loss, 2),
    (_Play.restart, 6),
    (_Play.newcomer, 5),
    (_Play.leave, 2),
    (_Play.cut_or_heal, 5),
    (_Play.break_frames, 4),
    (_Play.clock_step, 3),
    (_Play.suspend, 4),
    (_Play.slow, 5),
    (_Play.reply, 4),
)


def random_history(
    seed: int | str,
    mode: str = MESH_EXT,
    *,
    nodes: int | None = None,
    steps: int = 50,
    plain: float | None = None,
    settings: Settings | None = None,
) -> Outcome:
    """
    Play a history of random faults, and judge it.

    :param mode: ``"flood"`` or ``"mesh-ext"``; only the latter promises that nothing is missing.
    :param nodes: how many there are at first, by default from the seed.
    :param steps: how many things are done.
    :param plain: the share of plain 0.6 nodes, by default from the seed, and mostly none.
    """
    play = _Play(seed, mode, settings)
    sim, rng = play.sim, play.rng
    count = rng.randint(FEWEST, MOST // 2) if nodes is None else nodes
    share = rng.choice((0.0, 0.0, 0.3)) if plain is None else plain
    kinds = [PlainHost if number < share * count else Host for number in range(count)]
    rng.shuffle(kinds)
    sim.build(count, kind=kinds, interval=rng.choice((0.0, 0.05, 0.5)), settle=5.0)
    actions = [action for action, _ in _STEPS]
    weights = [weight for _, weight in _STEPS]
    for _ in range(steps):
        (action,) = rng.choices(actions, weights)
        action(play)
        sim.run(rng.expovariate(1.0) if rng.random() < 0.7 else 0.0)
    sim.check_sizes()
    play.mend()
    sim.check_sizes()
    history = sim.history
    figures = history.figures()
    sent: list[Sent] = history.sent
    return Outcome(
        seed=seed,
        nodes=len(sim.machines),
        steps=tuple(play.steps),
        sends=len(sent),
        deliveries=history.deliveries,
        coverage=figures.coverage,
        rescued=play.rescued,
        seconds=sim.now,
        violations=tuple(history.check(complete=mode != FLOOD)),
        digest=history.digest(),
    )
