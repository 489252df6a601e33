"""What the simulation's tests stand on: machines that write down what happens to them."""

from __future__ import annotations

from py2p_twisted.core.actions import Dial
from py2p_twisted.simulation import Simulation
from py2p_twisted.simulation.machine import Machine


class Probe(Machine):
    """
    A machine whose process is the test.

    :ivar log: what has happened: (when, what, detail).
    """

    def __init__(self, birth):
        super().__init__(birth)
        self.log = []
        self.failures = []

    def note(self, what, detail=None):
        self.log.append((round(self.sim.now, 6), what, detail))

    @property
    def told(self):
        """What has happened, without the times."""
        return [what for _, what, _ in self.log]

    @property
    def got(self):
        """The bytes that have come in."""
        return b"".join(detail for _, what, detail in self.log if what == "data")

    def times(self, what):
        return [when for when, it, _ in self.log if it == what]

    @property
    def end(self):
        """Its first connection."""
        return next(iter(self.ends))

    def connect(self, address):
        self.sim.dial(self, Dial(address, None, 4.0, 1))

    def write(self, *frames):
        """Write to the first connection, now."""
        self.end.put(frames)
        self.flush()

    def opened(self, end):
        end.opened()
        end.link = self
        self.note("opened")

    def received(self, end, data):
        end.heard = self.sim.now
        self.note("data", data)

    def ended(self, end, error):
        self.note("end" if error is None else "reset", error)

    def dial_failed(self, outcome):
        self.note("failed", type(outcome[1]).__name__)

    def too_slow(self, what):
        self.note("too slow", what[1])

    def congested(self, end):
        self.note("congested")

    def relieved(self, end):
        self.note("relieved")


def probes(count=2, *, latency=(0.05, 0.05), **options):
    """A network of probes, of which the first has dialled the second."""
    sim = Simulation(1, latency=latency, **options)
    machines = sim.add(count, kind=Probe)
    machines[0].connect(machines[1].address)
    sim.run(1.0)
    for machine in machines:
        machine.log.clear()
    return sim, *machines
