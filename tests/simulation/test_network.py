"""Tests of `py2p_twisted.simulation.network` and ``host``: the core's nodes, and their faults."""

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core.actions import Dial
from py2p_twisted.core.settings import Settings
from py2p_twisted.simulation import Simulation
from py2p_twisted.simulation.scenarios import FLOOD, settings_for

ROOT = Path(__file__).parent.parent.parent
PLAINLY = settings_for(FLOOD)


def network(count=8, *, seed=1, **options):
    """A network of plainly flooding nodes that has come to rest."""
    sim = Simulation(seed, settings=PLAINLY, **options)
    return sim, sim.build(count, settle=10.0)


class NodeTests(SynchronousTestCase):
    def test_a_message_reaches_everybody_once(self):
        sim, nodes = network()
        sent = sim.send(nodes[2], "storm", b"north")
        sim.run(2)
        self.assertEqual((sent.count, sim.history.check()), (7, []))
        self.assertEqual(sim.history.figures().coverage, 100.0)

    def test_copies_that_were_sent_are_those_that_nodes_have_counted(self):
        """Redundancy is told from what senders do, and nodes count what comes: they agree."""
        sim, nodes = network(16)
        before = sim.traffic()[1]
        for node in nodes:
            sim.send(node, "storm", node.name)
            sim.run(1)
        duplicates = sim.traffic()[1] - before
        figures = sim.history.figures()
        self.assertEqual(sum(sent.count for sent in sim.history.sent), 16 * 15)
        self.assertAlmostEqual(figures.rmr, duplicates / (16 * 15))
        self.assertTrue(duplicates)

    def test_equal_messages_are_several_also_after_a_clock_was_set_back(self):
        sim, nodes = network(4)
        first = [sim.send(nodes[0], "again") for _ in range(3)]
        sim.run(1)
        sim.clock_step(nodes[0], -5.0)
        second = [sim.send(nodes[0], "again") for _ in range(3)]
        sim.run(1)
        self.assertEqual(len({sent.id for sent in first + second}), 6)
        self.assertEqual([sent.count for sent in first + second], [3] * 6)
        self.assertEqual(sim.history.check(), [])

    def test_hops_are_counted_along_the_way(self):
        sim = Simulation(1, settings=Settings(max_outgoing=0))
        chain = sim.add(4)
        for one, other in zip(chain[1:], chain, strict=False):
            sim.join(one, other)
            sim.run(1)
        for machine in chain:  # newcomers were told of others, and may have dialled them
            for end in list(machine.ends):
                if abs(end.other.machine.index - machine.index) > 1:
                    end.break_both()
        sent = sim.send(chain[0], "storm")
        sim.run(1)
        self.assertEqual(sent.count, 3)
        self.assertEqual(sent.hops[0], 1)
        self.assertTrue(max(sent.hops) - 1 <= 3)

    def test_replies_find_their_way(self):
        sim, nodes = network(16)
        far = next(
            node
            for node in nodes
            if node is not nodes[15] and node.id not in nodes[15].node.links.table
        )
        token = sim.reply(nodes[15], far, "yes")
        sim.run(5)
        self.assertIsNone(nodes[15].outcomes[token])
        (whisper,) = [entry for entry in sim.history.whispers if entry[2] == (2, "yes")]
        self.assertEqual(whisper[1], far.index)

    def test_an_unknown_action_is_not_passed_over(self):
        _, nodes = network(2)
        with self.assertRaises(KeyError):
            nodes[0].perform([object()])

    def test_timers_are_one_event(self):
        """Nodes that have nothing to do cost nothing: no tick, and no event for a dead timer."""
        sim, _ = network(8)
        sim.run(60)
        before = len(sim.heap)
        sim.run(600)
        self.assertTrue(len(sim.heap) <= before + 8, (before, len(sim.heap)))

    def test_sizes_above_their_caps_are_violations(self):
        sim, nodes = network(4)
        sim.check_sizes()
        self.assertEqual(sim.history.violations, [])
        nodes[1].sizes = lambda: {"seen ids": (11, 10)}
        sim.check_sizes()
        self.assertEqual(sim.history.violations, ["n1 holds 11 in seen ids, of 10 at most"])

    def test_who_is_congested_is_told_to_the_core_and_when_it_is_over(self):
        sim, nodes = network(4)
        told = []
        for node in nodes[:3]:
            node.node.drained = lambda link, now, wall: told.append(link) or ()
        sim.stop_reading(nodes[3])
        noise = sim.rng("test")
        for number in range(30):
            sim.send(nodes[0], number, noise.randbytes(100_000))
            sim.run(0.1)
        crowded = [
            link for node in nodes[:3] for link in node.node.links.open
            if getattr(link, "congested", False)
        ]  # fmt: skip
        self.assertTrue(crowded)
        self.assertEqual(told, [])
        sim.resume(nodes[3])
        sim.run(20)
        self.assertEqual(set(told), set(crowded))
        self.assertFalse(any(link.congested for link in crowded))
        self.assertEqual(sim.history.check(), [])


class FaultTests(SynchronousTestCase):
    def test_the_dead_are_noticed_and_not_owed_anything(self):
        sim, nodes = network(8)
        sim.kill(nodes[5:])
        sim.run(5)
        sent = sim.send(nodes[0], "storm")
        sim.run(2)
        self.assertEqual(sent.count, 4)
        self.assertEqual(sim.history.figures().pairs, 4)
        with self.assertRaises(ValueError):
            sim.send(nodes[5], "nobody there")

    def test_who_leaves_in_good_order_is_heard_to_the_end(self):
        sim, nodes = network(8)
        sent = sim.send(nodes[0], "last words")
        sim.leave(nodes[0])
        sim.run(2)
        self.assertEqual(sent.count, 7)
        self.assertEqual(nodes[0].ends, {})

    def test_a_restarted_process_is_another_participant_at_the_same_address(self):
        sim, nodes = network(8)
        again = sim.restart(nodes[3])
        sim.run(20)
        self.assertEqual((again.index, again.address), (8, nodes[3].address))
        self.assertNotEqual(again.id, nodes[3].id)
        self.assertEqual(again.bootstrap, nodes[3].bootstrap)
        sent = sim.send(nodes[0], "storm")
        sim.run(2)
        self.assertTrue(sent.has(again))
        self.assertFalse(sent.has(nodes[3]))

    def test_a_cut_keeps_messages_on_their_side(self):
        for reset in (True, False):
            sim, nodes = network(8)
            sim.partition([nodes[:4]], reset=reset)
            sim.run(5)
            sent = sim.send(nodes[0], "storm")
            sim.run(5)
            self.assertTrue(all(not sent.has(node) for node in nodes[4:]))
            sim.heal()
            sim.run(60)
            after = sim.send(nodes[0], "all clear")
            sim.run(2)
            self.assertEqual(after.count, 7, reset)

    def test_churn_replaces_about_as_many_as_it_should(self):
        sim, nodes = network(20)
        sim.churn(0.5, 60.0, spare=nodes[:2])
        sim.run(70)
        killed = len(sim.machines) - 20
        self.assertTrue(4 <= killed <= 18, killed)  # ten on average
        self.assertEqual(len(sim.alive), 20)
        self.assertTrue(all(node.alive for node in nodes[:2]))

    def test_clocks_are_everybodys_own(self):
        sim, nodes = network(4)
        self.assertEqual(len({node.now for node in nodes}), 4)
        before, now = nodes[1].wall, nodes[1].now
        sim.clock_step(nodes[1], 90.0)
        self.assertEqual((nodes[1].wall, nodes[1].now), (before + 90.0, now))
        sent = sim.send(nodes[1], "storm")
        sim.run(1)
        self.assertEqual(sent.count, 3)

    def test_a_machine_that_sleeps_loses_the_time_by_its_monotonic_clock(self):
        for asleep in (False, True):
            sim, nodes = network(4)
            now, wall = nodes[1].now, nodes[1].wall
            sim.suspend(nodes[1], 8.0, asleep=asleep)
            sent = sim.send(nodes[0], "storm")
            sim.run(7.0)
            self.assertFalse(sent.has(nodes[1]))
            sim.run(3.0)
            self.assertTrue(sent.has(nodes[1]))
            self.assertAlmostEqual(nodes[1].now - now, 2.0 if asleep else 10.0)
            self.assertAlmostEqual(nodes[1].wall - wall, 10.0)

    def test_timers_of_a_suspended_process_wait(self):
        sim, nodes = network(4)
        woken = []
        node = nodes[1].node
        node.timers.at(nodes[1].now + 2.0, lambda: woken.append(sim.now))
        nodes[1].act(node.woken(nodes[1].now, nodes[1].wall))
        start = sim.now
        sim.suspend(nodes[1], 8.0)
        sim.run(10)
        self.assertEqual(woken, [start + 8.0])


class DeterminismTests(SynchronousTestCase):
    def test_another_seed_is_another_history(self):
        self.assertNotEqual(self.digest(1), self.digest(2))
        self.assertEqual(self.digest(1), self.digest(1))

    def digest(self, seed):
        sim, nodes = network(6, seed=seed)
        sim.send(nodes[0], "storm")
        sim.run(2)
        return sim.history.digest()

    def test_a_seed_is_one_history_whatever_the_hashes(self):
        """Sets of ids have another order in each process; nothing may depend on that."""
        code = (
            "from py2p_twisted.simulation.randomized import random_history\n"
            "for seed in (3, 11):\n"
            "    print(random_history(seed, steps=25).digest)\n"
        )
        outputs = {
            subprocess.run(
                [sys.executable, "-c", code],
                capture_output=True, text=True, cwd=ROOT, timeout=120, check=True,
                env={"PYTHONHASHSEED": number, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(ROOT)},
            ).stdout
            for number in ("1", "2")
        }  # fmt: skip
        self.assertEqual(len(outputs), 1)
        self.assertEqual(len(outputs.pop().split()), 2)


class DialTests(SynchronousTestCase):
    def test_the_core_dials_through_the_simulation(self):
        sim = Simulation(1, latency=(0.05, 0.05))
        ada, ben = sim.add(2)
        dialled = []
        carry_out = sim.dial

        def note(machine, dial):
            dialled.append((machine, type(dial), dial.address))
            carry_out(machine, dial)

        sim.dial = note
        sim.join(ada, ben)
        sim.run(1)
        self.assertEqual(dialled, [(ada, Dial, ben.address)])
        self.assertEqual(list(ada.node.links.table), [ben.id])
        self.assertTrue(0.1 < ada.joined < 0.3, ada.joined)

    def test_joins_can_wait(self):
        sim = Simulation(1)
        ada, ben = sim.add(2)
        sim.join(ada, ben, after=5.0)
        sim.run(4.0)
        self.assertIsNone(ada.joined)
        self.assertTrue(sim.run_until(lambda: ada.joined, 5.0))
        self.assertTrue(5.0 < sim.now < 6.0)
        self.assertFalse(sim.run_until(lambda: False, 1.0))
