"""Tests of `py2p_twisted.simulation.randomized`: random faults, and mistakes put in on purpose."""

from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.simulation.host import Host
from py2p_twisted.simulation.randomized import random_history
from py2p_twisted.simulation.scenarios import FLOOD, MESH_EXT


class RandomHistoryTests(SynchronousTestCase):
    def test_nothing_comes_twice_whatever_happens(self):
        deliveries = 0
        kinds = set()
        for seed in range(8):
            outcome = random_history(seed, FLOOD)
            self.assertEqual(outcome.violations, (), f"seed {seed}")
            deliveries += outcome.deliveries
            kinds.update(step.split()[1] for step in outcome.steps)
        self.assertTrue(deliveries > 2000, deliveries)
        self.assertTrue(kinds >= {"kill", "restart", "cut", "heal", "break", "suspend"}, kinds)

    def test_nothing_is_missing_either(self):
        for seed in range(4):
            outcome = random_history(seed, MESH_EXT)
            self.assertEqual(outcome.violations, (), f"seed {seed}")

    def test_a_driver_that_delivers_twice_is_found_out(self):
        deliver = Host.deliver

        def twice(self, messages, link):
            deliver(self, messages, link)
            deliver(self, messages[:1], link)

        with patch.object(Host, "deliver", twice):
            found = self.violations()
        self.assertTrue(any("twice" in text for text in found), found)

    def violations(self):
        return [
            text
            for seed in range(3)
            for text in random_history(seed, FLOOD, steps=20).violations
        ]  # fmt: skip

    def test_what_is_missing_is_found_when_it_is_owed(self):
        """Plain flooding keeps no promise of completeness, so the check must say so."""
        with patch("py2p_twisted.simulation.randomized.FLOOD", "nothing promised"):
            found = [random_history(seed, "flood").violations for seed in range(3)]
        self.assertTrue(any("without" in text for each in found for text in each), found)
