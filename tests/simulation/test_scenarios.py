"""Tests of `py2p_twisted.simulation.scenarios` and of the package's examples."""

import doctest

from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted import simulation
from py2p_twisted.core.settings import Settings
from py2p_twisted.errors import BadArgument
from py2p_twisted.simulation import network, randomized, scenarios
from py2p_twisted.simulation.scenarios import FLOOD, MODES, SCENARIOS, settings_for


class FloodingTests(SynchronousTestCase):
    """What plain flooding comes to, with 32 nodes."""

    def play(self, name, nodes=32, seed=1):
        return {row.phase: row for row in SCENARIOS[name].run(nodes, seed, FLOOD)}

    def test_while_all_is_well_it_is_fast_complete_and_redundant(self):
        rows = self.play("steady")
        for phase in ("5 senders", "any sender"):
            figures = rows[phase].figures
            self.assertEqual((figures.sends, figures.coverage), (60, 100.0))
            self.assertTrue(4 < figures.rmr < 8, figures)
            self.assertTrue(figures.mean < 0.3 and figures.p99 < 0.5, figures)
            self.assertTrue(1 < figures.hops < 6, figures)
        self.assertEqual(rows["5 senders"].violations, ())

    def test_kills_cost_what_is_in_flight_at_most(self):
        rows = self.play("kill-50")
        self.assertEqual(list(rows), ["in flight", "next 2 s", "20 s later"])
        self.assertEqual({row.figures.sends for row in rows.values()}, {20})
        self.assertTrue(rows["in flight"].figures.coverage > 90)
        self.assertEqual(rows["20 s later"].figures.coverage, 100.0)

    def test_a_cut_keeps_what_is_sent_during_it_from_the_other_half(self):
        rows = self.play("cut")
        during = rows["sent during the cut"].figures.coverage
        self.assertTrue(40 < during < 60, during)
        self.assertEqual(rows["sent 30 s after it"].figures.coverage, 100.0)

    def test_a_node_that_does_not_read_fills_outboxes(self):
        rows = self.play("slow", 16)
        notes = rows["one node slow, one stopped"].notes
        self.assertTrue(notes["outbox for them"] > 1024 * 1024, notes)
        self.assertEqual(rows["before"].figures.coverage, 100.0)

    def test_what_others_took_before_is_asked_of_the_same_nodes(self):
        """The slowest of all, in this network, is one of those that are stopped later."""
        rows = self.play("slow", 12, seed=5)
        notes = rows["one node slow, one stopped"].notes
        self.assertTrue(0 < notes["p99 before"] < rows["before"].figures.p99, notes)

    def test_plain_nodes_are_reported_by_themselves(self):
        rows = self.play("mixed", 10)
        steady = rows["steady, our senders"]
        self.assertEqual((steady.figures.coverage, steady.plain.coverage), (100.0, 100.0))
        self.assertIsNone(self.play("steady", 8)["5 senders"].plain)


class ScenarioTests(SynchronousTestCase):
    def test_all_scenarios_can_be_played(self):
        """With as few nodes as they need; what they come to is not asked here."""
        for name, scenario in SCENARIOS.items():
            rows = scenario.run(10, 1, FLOOD)
            self.assertTrue(rows, name)
            for row in rows:
                self.assertTrue(row.figures.sends, (name, row.phase))
                self.assertEqual(row.violations, (), (name, row.phase))

    def test_progress_is_told(self):
        told = []
        SCENARIOS["steady"].run(8, 1, FLOOD, lambda *progress: told.append(progress))
        phases = list(dict.fromkeys(phase for phase, _, _ in told))
        self.assertEqual(phases, ["joining", "warm-up", "5 senders", "any sender"])
        self.assertEqual(sorted(seconds for _, seconds, _ in told), [it[1] for it in told])
        self.assertTrue(0.95 < told[-1][2] <= 1.0, told[-1])

    def test_what_clocks_cost_is_not_what_trees_cost_that_grow(self):
        """Nor is it in any other scenario that measures what its senders' trees do."""
        row = SCENARIOS["clocks"].run(12, 1)[0]
        self.assertLess(row.figures.rmr, 0.05)
        for name in ("steady", "clocks", "slow"):
            told = []
            SCENARIOS[name].run(8, 1, FLOOD, lambda *progress, told=told: told.append(progress))
            self.assertIn("warm-up", {phase for phase, _, _ in told}, name)
            self.assertTrue(0.85 < told[-2][2] < 1.0, (name, told[-2]))

    def test_a_run_can_be_had_again(self):
        first, second = (SCENARIOS["kill-30"].run(12, 5, FLOOD) for _ in range(2))
        self.assertEqual(first, second)
        self.assertNotEqual(first, SCENARIOS["kill-30"].run(12, 6, FLOOD))

    def test_modes_are_settings(self):
        with self.assertRaises(BadArgument):
            settings_for("carrier pigeons")
        for mode in MODES:
            settings = settings_for(mode, Settings(max_outgoing=3))
            self.assertEqual((settings.max_outgoing, settings.extensions), (3, mode != FLOOD))

    def test_the_examples_in_the_documents_are_true(self):
        for module in (simulation, network, scenarios, randomized):
            failed, tried = doctest.testmod(module)
            self.assertEqual((failed, tried > 0), (0, True), module.__name__)
