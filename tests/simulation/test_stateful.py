"""
The promise as a property: whatever Hypothesis has happen, every message comes to everybody, once.

The faults are those of `py2p_twisted.simulation.randomized`; which, in which order and with what
between them is Hypothesis's choice, and what it finds it makes as short as it can.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.simulation.randomized import _Play
from py2p_twisted.simulation.scenarios import MESH_EXT
from tests import profile

profile.load()


class Histories(RuleBasedStateMachine):
    """A network to which things happen."""

    @initialize(seed=st.integers(0, 10**6), nodes=st.integers(4, 12))
    def begin(self, seed, nodes):
        self.play = _Play(seed, MESH_EXT, None)
        self.play.sim.build(nodes, settle=5.0)

    @rule()
    def send(self):
        self.play.send()

    @rule()
    def everybody_sends(self):
        self.play.everybody_sends()

    @rule(seconds=st.sampled_from((0.05, 1.0, 7.0)))
    def wait(self, seconds):
        self.play.sim.run(seconds)

    @rule()
    def kill(self):
        self.play.kill()

    @rule()
    def power_loss(self):
        self.play.power_loss()

    @rule()
    def restart(self):
        self.play.restart()

    @rule()
    def newcomer(self):
        self.play.newcomer()

    @rule()
    def leave(self):
        self.play.leave()

    @rule()
    def cut_or_heal(self):
        self.play.cut_or_heal()

    @rule()
    def break_frames(self):
        self.play.break_frames()

    @rule()
    def clock_step(self):
        self.play.clock_step()

    @rule()
    def suspend(self):
        self.play.suspend()

    @rule()
    def slow(self):
        self.play.slow()

    def teardown(self):
        if not hasattr(self, "play"):
            return
        sim = self.play.sim
        sim.check_sizes()
        self.play.mend()
        sim.check_sizes()
        violations = sim.history.check()
        assert not violations, (violations, self.play.steps)


class StatefulTests(SynchronousTestCase):
    def test_every_message_comes_to_everybody_once(self):
        """A dozen histories here; ``PY2P_EXAMPLES`` plays as many as one likes."""
        examples = settings().max_examples
        run_state_machine_as_test(
            Histories,
            settings=settings(max_examples=max(1, examples // 5), stateful_step_count=15),
        )
