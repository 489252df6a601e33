"""
The demo's scenario: what it does, what it waits for, and that its verdict can be trusted.
"""

from __future__ import annotations

from itertools import pairwise

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.cli import scenario
from py2p_twisted.cli.report import PROCESSES, Progress
from py2p_twisted.cli.scenario import Times, linked, neighbourhoods, parts
from tests.cli.toys import HOP, ToyNode, Toys, ToyThatPrepares

TIMES = Times()


class GoodDemoTests(SynchronousTestCase):
    """A mesh that keeps its promises."""

    def test_everybody_gets_everything_once(self) -> None:
        """All but the sender get the first broadcast, all survivors but the sender the second."""
        report = Toys(6).run()
        self.assertTrue(report.ok)
        self.assertEqual((report.got, report.expected, report.duplicates), (8, 8, 0))
        self.assertEqual([len(broadcast.receipts) for broadcast in report.broadcasts], [5, 3])

    def test_the_steps_in_their_order(self) -> None:
        """Six steps, each of them done."""
        report = Toys(6).run()
        titles = [step.title for step in report.steps]
        self.assertEqual(titles, ["start", "join", "broadcast", "drop", "heal", "broadcast"])
        self.assertEqual({step.progress for step in report.steps}, {Progress.DONE})

    def test_a_receipt_says_when_and_from_whom(self) -> None:
        """Latency counts from the sending, in milliseconds; the neighbour has a name."""
        toys = Toys(6)
        report = toys.run()
        first = report.broadcasts[0]
        self.assertEqual(first.sender, "n06")
        self.assertEqual({receipt.via for receipt in first.receipts.values()}, {"n06"})
        for place, receipt in enumerate(first.receipts.values(), 1):
            self.assertAlmostEqual(receipt.latency, HOP * 1000 * place)

    def test_two_nodes_are_dropped_without_a_word(self) -> None:
        """They are dropped, the others leave in good order, and everybody is gone at the end."""
        toys = Toys(8)
        report = toys.run()
        dropped = [node for node in toys.net.nodes if node.dropped]
        self.assertEqual(len(dropped), 2)
        self.assertFalse(any(node.left for node in dropped))
        self.assertTrue(all(node.left for node in toys.net.nodes if not node.dropped))
        self.assertEqual(sum(row.alive for row in report.rows), 6)

    def test_the_best_connected_is_dropped(self) -> None:
        """It is the one that all others have joined through, as nothing may depend on it."""
        report = Toys(8).run()
        assert report.healing is not None
        self.assertEqual(report.healing.dropped[0], "n01")

    def test_the_sender_is_never_dropped(self) -> None:
        """Whatever the seed, the first sender stays, and another one sends next."""
        for seed in range(30):
            report = Toys(5, seed=seed).run()
            assert report.healing is not None
            first, second = report.broadcasts
            self.assertNotIn(first.sender, report.healing.dropped)
            self.assertNotIn(second.sender, (first.sender, *report.healing.dropped))

    def test_a_seed_repeats_who_is_dropped(self) -> None:
        """The same seed drops the same nodes, and different seeds do not always."""

        def dropped(seed: int) -> tuple[str, ...]:
            healing = Toys(12, seed=seed).run().healing
            assert healing is not None
            return healing.dropped

        self.assertEqual(dropped(7), dropped(7))
        self.assertTrue(len({dropped(seed) for seed in range(8)}) > 1)

    def test_of_three_nodes_one_is_dropped(self) -> None:
        """Two must remain: one to send, one to receive."""
        report = Toys(3).run()
        assert report.healing is not None
        self.assertTrue(report.ok)
        self.assertEqual(report.healing.dropped, ("n01",))
        self.assertEqual([broadcast.expected for broadcast in report.broadcasts][1], ("n03",))

    def test_healing_is_measured(self) -> None:
        """Links before, links that were left, links when no more were made, and when that was."""
        toys = Toys(12)
        report = toys.run()
        healing = report.healing
        assert healing is not None
        assert healing.links_healed is not None
        assert healing.seconds is not None
        self.assertTrue(healing.links_after < healing.links_healed)
        self.assertTrue(healing.links_after < healing.links_before)
        # The toys mend their mesh 0.2 s after the loss.
        self.assertTrue(0.2 <= healing.seconds <= 0.2 + 2 * scenario.TICK, healing.seconds)

    def test_many_join_in_groups(self) -> None:
        """No more than a group joins at a time, and the progress can be seen."""
        toys = Toys(70)
        seen: list[str] = []
        toys.view.look = lambda report: seen.append(report.steps[-1].text)  # type: ignore[method-assign]
        toys.run()
        joined = [text for text in dict.fromkeys(seen) if "have joined" in text]
        self.assertEqual(joined, [f"{count} of 70 nodes have joined" for count in (33, 65, 70)])

    def test_names_are_as_wide_as_the_largest(self) -> None:
        """So that they sort and stand below each other."""
        self.assertEqual(Toys(9).scenario.members[0].name, "n01")
        self.assertEqual(Toys(100).scenario.members[0].name, "n001")

    def test_every_receipt_is_told(self) -> None:
        """One line for each node and broadcast, with its address, the time and the neighbour."""
        toys = Toys(6)
        toys.run()
        told = [line for line in toys.view.details if "has it after" in line]
        self.assertEqual(len(told), 8)
        self.assertRegex(told[0], r"n01 at 127\.0\.0\.1:40001 has it after +\d+\.\d ms, from n06")

    def test_every_step_is_told_twice(self) -> None:
        """What is about to happen, and what came of it."""
        toys = Toys(6)
        report = toys.run()
        for step in report.steps:
            lines = [line for line in toys.view.lines if line.startswith(step.title)]
            self.assertTrue(len(lines) >= 2, step)
            self.assertIn(f"{step.title}: {step.text}", lines)

    def test_nobody_looks_while_a_broadcast_is_under_way(self) -> None:
        """Drawing takes time that would be counted as the network's."""
        toys = Toys(6)
        toys.net.lost.add((2, 0))
        toys.begin()
        toys.turn(5.0)
        sent = toys.scenario._sent_at[0]
        self.assertFalse([time for time in toys.view.looks if sent < time < sent + TIMES.unwatched])
        self.assertTrue([time for time in toys.view.looks if time > sent + TIMES.unwatched])

    def test_preparation_is_no_latency(self) -> None:
        """Nodes that need time before they can send get it, and then it counts from the sending."""
        toys = Toys(6, make=ToyThatPrepares)
        report = toys.run()
        self.assertTrue(report.ok)
        for broadcast in report.broadcasts:
            assert broadcast.worst is not None
            self.assertTrue(broadcast.worst.latency < HOP * 1000 * 7)
        self.assertGreater(report.elapsed, 2 * ToyThatPrepares.takes)
        self.assertEqual(
            [node.number for node in toys.net.nodes if node.prepared],
            [
                number + 1
                for number, member in enumerate(toys.scenario.members)
                if member.name in {broadcast.sender for broadcast in report.broadcasts}
            ],
        )

    def test_who_listens_already(self) -> None:
        """The table fills while others are still being started."""
        toys = Toys(6)
        toys.net.deaf["start"] = {3}
        toys.begin()
        toys.turn(1.0)
        report = toys.scenario.report
        self.assertEqual(
            [row.address is None for row in report.rows], [False] * 2 + [True] + [False] * 3
        )
        self.assertEqual(report.steps[-1].text, "5 of 6 nodes listen")

    def test_other_times(self) -> None:
        """A plan may allow more time; the words are the plan's as well."""
        toys = Toys(6, times=Times(settled=3.0), sort=PROCESSES)
        report = toys.run()
        self.assertGreater(report.elapsed, 6.0)
        self.assertEqual(report.steps[0].text, "6 processes listen on 127.0.0.1")
        self.assertTrue(
            [line for line in toys.view.lines if line.startswith("drop: kill -9 n01 and n")]
        )
        self.assertIs(report.sort, PROCESSES)

    def test_a_hold_leaves_time_to_read(self) -> None:
        """On a terminal it rests after the first broadcast and after healing."""
        with_hold, without = Toys(6, hold=0.5), Toys(6)
        difference = with_hold.run().elapsed - without.run().elapsed
        self.assertTrue(0.95 <= difference <= 1.1, difference)


class BadDemoTests(SynchronousTestCase):
    """A mesh that does not: the demo ends in time, fails, and says what was missing."""

    def fails(self, toys: Toys, *words: str) -> None:
        """It fails for this reason."""
        report = toys.run()
        self.assertFalse(report.ok)
        assert report.problem is not None
        for word in words:
            self.assertIn(word, report.problem)
        self.assertIn(f"NOT REACHED: {report.problem}", toys.view.lines)
        self.assertIs(report.steps[-1].progress, Progress.FAILED)
        self.assertTrue(all(node.left or node.dropped for node in toys.net.nodes))

    def test_first_broadcast_is_lost(self) -> None:
        """A node that does not get the first broadcast is named, and nothing else is tried."""
        toys = Toys(6)
        toys.net.lost = {(2, 0), (4, 0)}
        self.fails(toys, "n02 and n04", "n06", f"within {TIMES.spread:g} s")
        self.assertEqual(len(toys.scenario.report.broadcasts), 1)
        self.assertEqual(toys.scenario.report.got, 3)

    def test_second_broadcast_is_lost(self) -> None:
        """After healing as before."""
        toys = Toys(3)
        toys.net.lost = {(3, 1)}
        self.fails(toys, "n03")

    def test_a_node_is_shown_a_broadcast_twice(self) -> None:
        """Everybody has everything, and yet that is not what was promised."""
        toys = Toys(6)
        toys.net.repeated = {(2, 0)}
        report = toys.run()
        self.assertEqual((report.got, report.expected, report.duplicates), (8, 8, 1))
        self.assertFalse(report.ok)
        self.assertIn("1 DUPLICATES", report.steps[2].text)

    def test_the_second_time_comes_late(self) -> None:
        """It counts for as long as the demo runs, whatever that is busy with."""
        toys = Toys(6)
        toys.net.repeated = {(2, 0)}
        toys.net.late = 0.3
        report = toys.run()
        self.assertEqual((report.got, report.duplicates), (8, 1))
        self.assertFalse(report.ok)

    def test_a_sender_is_shown_its_own(self) -> None:
        """Nobody hears itself."""
        toys = Toys(6)
        toys.net.echo = True
        report = toys.run()
        self.assertEqual((report.got, report.duplicates), (8, 2))
        self.assertFalse(report.ok)

    def test_a_node_cannot_listen(self) -> None:
        """The reason is the node's own."""
        toys = Toys(6)
        toys.net.broken["start"] = {3, 4}
        self.fails(toys, "n03 cannot listen", "start is broken", "1 more")

    def test_a_node_never_listens(self) -> None:
        toys = Toys(6)
        toys.net.deaf["start"] = {3}
        self.fails(toys, "no answer for n03", f"{TIMES.start:g} s")

    def test_a_node_cannot_join(self) -> None:
        toys = Toys(6)
        toys.net.broken["join"] = {5}
        self.fails(toys, "n05 cannot join through n01", "join is broken")

    def test_a_node_never_joins(self) -> None:
        toys = Toys(6)
        toys.net.deaf["join"] = {5}
        self.fails(toys, "no answer for n05", f"{TIMES.join:g} s")

    def test_nobody_makes_links(self) -> None:
        """A star is whole, but would not survive the loss of its middle."""
        toys = Toys(6)
        toys.net.heals = False
        self.fails(toys, "3 links each", "n02, n03, n04 and 2 more", f"{TIMES.mesh:g} s")

    def test_the_mesh_does_not_heal(self) -> None:
        """Whoever has too few links after the loss is named."""
        self.patch(scenario, "ENOUGH", 4)  # as many as toys seek
        toys = Toys(12)
        done = toys.begin()
        toys.turn(0.2)
        self.assertEqual(toys.scenario.report.steps[-1].title, "join")
        toys.net.heals = False
        results: list[object] = []
        done.addBoth(results.append)
        toys.turn(60)
        report = toys.scenario.report
        self.assertEqual(results, [report])
        self.assertEqual(report.steps[-1].title, "heal")
        self.assertIn("4 links each were not reached by", str(report.problem))
        assert report.healing is not None
        self.assertEqual((report.healing.links_healed, report.healing.seconds), (None, None))

    def test_the_dropped_are_not_noticed(self) -> None:
        """A routing table must not hold whoever is gone."""
        toys = Toys(6)
        toys.net.forgets = False
        self.fails(toys, "a dropped node has not left the table of")

    def test_the_links_never_settle(self) -> None:
        """A mesh that makes and breaks links for ever has not healed."""
        toys = Toys(6)
        toys.net.restless = True
        self.fails(toys, "the links have not settled")

    def test_a_node_does_not_end(self) -> None:
        """That is not at stake: the demo waits for a moment, and keeps its verdict."""
        toys = Toys(6)
        toys.net.deaf["leave"] = {1, 2}
        report = toys.run()
        self.assertTrue(report.ok)
        self.assertTrue(toys.net.clock.seconds() < 10)

    def test_a_node_is_lost(self) -> None:
        """One that was not sent away: nothing more is waited for."""
        for seconds in (0.0, 0.2, 0.35, 0.5):
            toys = Toys(6)
            toys.net.lost = {(number, 0) for number in range(7)}
            results: list[object] = []
            toys.begin().addBoth(results.append)
            toys.turn(seconds)
            toys.scenario.lost(toys.net.nodes[2], "is gone: it was ended by signal 9")
            toys.turn(1.5)
            report = toys.scenario.report
            self.assertEqual(results, [report], seconds)
            self.assertEqual(report.problem, "n03 is gone: it was ended by signal 9")
            self.assertFalse(report.ok)

    def test_a_node_is_lost_in_the_last_moment(self) -> None:
        """Everybody has everything, but that is no demo that went well."""
        toys = Toys(6)
        rest = toys.scenario._rest

        async def last() -> None:
            await rest()
            if len(toys.scenario.report.broadcasts) == 2:
                toys.scenario.lost(toys.net.nodes[5], "is gone")

        self.patch(toys.scenario, "_rest", last)
        report = toys.run()
        self.assertEqual((report.got, report.expected), (8, 8))
        self.assertEqual((report.ok, report.problem), (False, "n06 is gone"))

    def test_a_node_cannot_be_prepared(self) -> None:
        """To send; the reason is its own."""
        toys = Toys(6, make=ToyThatPrepares)
        toys.net.broken["prepare"] = {6}
        self.fails(toys, "n06 cannot send", "prepare is broken")
        self.assertEqual(toys.scenario.report.broadcasts, [])

    def test_a_send_never_ends(self) -> None:
        """Nor does the demo wait for it for ever."""
        toys = Toys(6)
        toys.net.deaf["send"] = {6}
        self.fails(toys, "no answer for n06", f"{TIMES.spread:g} s")


class StoppedDemoTests(SynchronousTestCase):
    def test_everybody_is_dropped(self) -> None:
        """Told to stop, in any step, it is gone in the same moment."""
        for seconds in (0.0, 0.02, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8):
            toys = Toys(6)
            done = toys.begin()
            toys.turn(seconds)
            done.cancel()
            self.failureResultOf(done, CancelledError)
            self.assertTrue(all(node.dropped for node in toys.net.nodes), seconds)


class GoingOnTests(SynchronousTestCase):
    """What follows where somebody watches, until it is stopped."""

    def going_on(self, nodes: int = 6, make: type[ToyNode] | None = None) -> Toys:
        """A demo that has done what it promised, ten seconds ago."""
        toys = Toys(nodes, make=make, every=2.0)
        self.done = toys.begin()
        for _ in range(1000):
            if toys.scenario.going_on:
                break
            toys.turn(0.1)
        toys.turn(10.5)
        self.assertNoResult(self.done)
        return toys

    def test_broadcasts(self) -> None:
        """One every two seconds, never two in a row from one node; all survivors get it."""
        toys = self.going_on()
        said = [line for line in toys.view.details if line.startswith("go on: ")]
        self.assertEqual(len(said), 4)
        self.assertTrue(all(line.endswith("'s came to 3 of 3 nodes") for line in said), said)
        senders = [line[:10] for line in said]
        self.assertTrue(all(one != other for one, other in pairwise(senders)))
        # The promise is about the first two.
        report = toys.scenario.report
        self.assertEqual((len(report.broadcasts), report.ok), (2, True))

    def test_its_proper_end(self) -> None:
        """Told to stop, it leaves in good order, also while somebody gets ready to send."""
        for make in (None, ToyThatPrepares):
            toys = self.going_on(make=make)
            self.done.cancel()
            toys.turn(10)
            self.assertTrue(self.successResultOf(self.done).ok)
            self.assertTrue(all(node.left or node.dropped for node in toys.net.nodes))
            self.assertFalse(any(node.left and node.dropped for node in toys.net.nodes))

    def test_a_node_is_lost(self) -> None:
        """Somebody may want to see that: then there is one less to send to."""
        toys = self.going_on()
        there = [node for node in toys.net.nodes if not node.dropped]
        there[0].drop()
        toys.scenario.lost(there[0], "is gone")
        toys.turn(4)
        self.assertNoResult(self.done)
        self.assertTrue(toys.view.details[-1].endswith("came to 2 of 2 nodes"))

    def test_nobody_is_left(self) -> None:
        """That is the end."""
        toys = self.going_on(4)
        for node in toys.net.nodes:
            toys.scenario.lost(node, "is gone")
        toys.turn(4)
        self.assertEqual(self.successResultOf(self.done).problem, "nobody is left to go on with")

    def test_one_who_cannot_send(self) -> None:
        """Is no reason to stop."""
        toys = self.going_on()
        toys.net.broken["send"] = {node.number for node in toys.net.nodes}
        toys.turn(10)
        self.assertNoResult(self.done)


class MeshTests(SynchronousTestCase):
    """What the tables of several nodes make together."""

    def test_a_link_needs_both_ends(self) -> None:
        """One that only one end knows of is none."""
        tables = {b"a": [b"b", b"c"], b"b": [b"a"], b"c": []}
        self.assertEqual(neighbourhoods(tables), {b"a": {b"b"}, b"b": {b"a"}, b"c": set()})
        self.assertEqual(linked(tables), {frozenset((b"a", b"b"))})

    def test_strangers_do_not_count(self) -> None:
        """Nor does a link to somebody who is not asked any more."""
        self.assertEqual(linked({b"a": [b"x"]}), set())

    def test_parts(self) -> None:
        """Whoever cannot be reached is a part of its own."""
        chain = {b"a": [b"b"], b"b": [b"a", b"c"], b"c": [b"b"]}
        self.assertEqual(parts(chain), 1)
        self.assertEqual(parts({**chain, b"d": []}), 2)
        self.assertEqual(parts({b"a": [b"b"], b"b": [b"a"], b"c": [b"d"], b"d": [b"c"]}), 2)
