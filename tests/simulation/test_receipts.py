"""Receipts among many nodes: complete while all is well, and true when it is not."""

from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.simulation import Simulation
from py2p_twisted.simulation.scenarios import FLOOD, SCENARIOS


class ManyTests(SynchronousTestCase):
    def test_64_nodes_and_100_messages_then_5_are_killed(self):
        """All are named each time; then those who have died, and nobody else."""
        sim = Simulation(seed=1)
        nodes = sim.build(64)
        sim.run(5)
        everybody = {node.id for node in nodes}
        asked = []
        for number in range(100):
            sender = nodes[number % 5]
            asked.append((sender, sim.confirm(sender, number)[1]))
            sim.run(0.05)
        sim.run(3)
        for sender, key in asked:
            receipt = sender.receipts[key]
            self.assertEqual(receipt.delivered, everybody - {sender.id})
            self.assertEqual((receipt.missing, receipt.complete), (frozenset(), True))
            self.assertLess(receipt.seconds, 3)
        flying = [(sender, sim.confirm(sender, "late")[1]) for sender in nodes[:5]]
        sim.run(0.1)
        victims = sim.rng("victims").sample(nodes[5:], 5)
        sim.kill(victims)
        sim.run(11)
        gone = {node.id for node in victims}
        for sender, key in flying:
            receipt = sender.receipts[key]
            self.assertEqual(receipt.delivered | receipt.missing, everybody - {sender.id})
            self.assertLessEqual(receipt.missing, gone)
            self.assertGreaterEqual(receipt.delivered, everybody - gone - {sender.id})
        # Some had got it, and said so, before they died.
        self.assertTrue(any(sender.receipts[key].missing for sender, key in flying))
        sim.check_sizes()


class ScenarioTests(SynchronousTestCase):
    def test_the_scenario_says_how_many_frames_there_are(self):
        """At most one in 50 ms and link, whatever is confirmed; and the receipts are right."""
        rows = SCENARIOS["receipts"].run(24, 1)
        self.assertEqual(len(rows), 3)
        for row in rows:
            self.assertEqual(row.notes["right receipts, %"], 100.0, row.phase)
            self.assertTrue(1 <= row.notes["receipts a link and second, at most"] <= 20)
            self.assertEqual((row.violations, row.figures.coverage), ((), 100.0))
        self.assertEqual(rows[-1].notes["most seconds"], 10.0)

    def test_plain_flooding_has_none(self):
        rows = SCENARIOS["receipts"].run(8, 1, FLOOD)
        self.assertEqual(rows[0].notes["receipts a link and second, at most"], 0.0)
