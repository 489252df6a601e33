"""
What came of simulated runs: the table fits every width, goals are judged by what was measured.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.cli.figures import (
    MOST_SHOWN,
    Facts,
    Goal,
    Results,
    Run,
    Task,
    as_json,
    duration,
    goals,
    page,
    percent,
)
from py2p_twisted.cli.table import length, paint
from py2p_twisted.simulation.history import Figures
from py2p_twisted.simulation.scenarios import FLOOD, MESH_EXT, MODES, Row


def figures(missing: int = 0, pairs: int = 1000, **values: Any) -> Figures:
    """Good ones, but for these."""
    usual = {"sends": 10, "rmr": 0.01, "mean": 0.25, "p50": 0.25, "p99": 0.3, "most": 0.3,
             "hops": 4.5, "most_hops": 6}  # fmt: skip
    coverage = 100.0 * (pairs - missing) / pairs
    return Figures(pairs=pairs, missing=missing, coverage=coverage, **{**usual, **values})


def row(phase: str = "in flight", *violations: str, **values: Any) -> Row:
    """A phase with these figures."""
    after = values.pop("after", None)
    plain = values.pop("plain", None)
    notes = values.pop("notes", {})
    return Row(phase, figures(**values), plain, after, violations, notes)


def results(
    runs: dict[str, list[Row]], flood: dict[str, list[Row]] | None = None, **options: Any
) -> Results:
    """What came of these scenarios, with one seed, in one mode or in both."""
    facts = options.pop("facts", Facts())
    modes = (MESH_EXT,) if flood is None else MODES
    made = Results(128, (1,), modes, {name: f"what {name} is" for name in runs}, **options)
    for mode, some in ((FLOOD, flood or {}), (MESH_EXT, runs)):
        made.runs += [
            Run(Task(name, mode, 1, made.nodes), tuple(rows), facts, 2.0)
            for name, rows in some.items()
        ]
    return made


def seen(made: Results, width: int = 79) -> list[str]:
    """What is printed."""
    return [paint(line, colour=False) for line in page(made, width)]


def kills() -> Results:
    """Something with both modes."""
    return results(
        {"kill-50": [row("in flight", rmr=0.8, mean=1.1), row("20 s later")]},
        {"kill-50": [row("in flight", missing=61, rmr=10.13), row("20 s later", missing=1)]},
    )


class TextTests(SynchronousTestCase):
    def test_a_coverage_is_100_only_if_nothing_is_missing(self) -> None:
        """However many deliveries there were."""
        for missing, said in ((0, "100"), (1, "99.99+"), (60, "99.99"), (400, "99.96"),
                              (9_000, "99.10"), (10_001, "99.0"), (500_000, "50.0"),
                              (1_000_000, "0.0")):  # fmt: skip
            share = 100.0 * (1_000_000 - missing) / 1_000_000
            self.assertEqual(percent(share, missing), said)

    def test_durations(self) -> None:
        for seconds, said in ((0.2, "0 s"), (99, "99 s"), (99.6, "2 min"), (3600, "60 min"),
                              (9000, "2 h 30 min")):  # fmt: skip
            self.assertEqual(duration(seconds), said)


class TableTests(SynchronousTestCase):
    def test_both_modes_stand_side_by_side(self) -> None:
        """As in the delivery design, aligned."""
        lines = seen(kills())
        at = lines.index("kill-50: what kill-50 is")
        self.assertEqual(
            lines[at - 1 : at + 3],
            [
                "scenario, phase          flood               mesh-ext",
                "kill-50: what kill-50 is",
                "  in flight       93.9 / 10.13 / 0.2 s  100 / 0.80 / 1.1 s",
                "  20 s later     99.90 /  0.01 / 0.2 s  100 / 0.01 / 0.2 s",
            ],
        )

    def test_a_wide_terminal_is_told_more(self) -> None:
        (line,) = (line for line in seen(kills(), 119) if "in flight" in line)
        self.assertTrue(line.endswith("100 / 0.80 / 1.1 s / 0.3 s / 4.5"), line)

    def test_nothing_is_wider_than_the_screen(self) -> None:
        """Also what is not reached, and what is wrong."""
        spoilt = results(
            {"steady": [row("5 senders", "n5 was delivered <Sent 01020304> twice " * 3)],
             "cut": [row("sent during the cut", missing=7, after=9.0)],
             "slow": [row("one node slow, one stopped", notes={"outbox for them": 4703640.0})],
             "mixed": [row("steady, plain senders", plain=figures(3))]},
            {"steady": [row("5 senders", rmr=12.5)]},
        )  # fmt: skip
        for made in (kills(), spoilt, results({})):
            for width in (1, 10, 39, 45, 60, 79, 100, 119, 200):
                longest = max(length(line) for line in page(made, width))
                self.assertTrue(longest <= width, f"{longest} in {width}")

    def test_further_figures(self) -> None:
        """Plain nodes, the last delivery after an event, and what a scenario notes."""
        lines = seen(
            results({"x": [row("p", after=1.26, plain=figures(500), notes={"held": 1234567.0})]})
        )
        at = lines.index(next(line for line in lines if line.startswith("  p ")))
        self.assertEqual(
            [" ".join(line.split()) for line in lines[at + 1 : at + 4]],
            [
                "at plain 0.6 nodes 50.0 / - / 0.2 s / 0.3 s / 4.5",
                "last one, after the end 1.3 s",
                "held 1,234,567",
            ],
        )

    def test_several_seeds(self) -> None:
        """Means, and the worst of each figure, which may be of different seeds."""
        made = results({"x": [row("p", missing=10, rmr=1.0, mean=0.5)]})
        made.seeds = (1, 2)
        made.runs.append(Run(Task("x", MESH_EXT, 2, 128), (row("p", rmr=2.0, mean=0.3),)))
        lines = [" ".join(line.split()) for line in seen(made)]
        self.assertIn("p 99.50 / 1.50 / 0.4 s / 0.3 s / 4.5", lines)
        self.assertIn("worst of 2 seeds 99.00 / 2.00 / 0.5 s / 0.3 s / 4.5", lines)
        self.assertIn("seeds 1 to 2", lines[0])

    def test_one_mode_alone_is_one_column(self) -> None:
        lines = seen(results({"x": [row("p")]}))
        self.assertNotIn("flood", "\n".join(lines))
        self.assertIn("  p              100 / 0.01 / 0.2 s / 0.3 s / 4.5", lines)

    def test_a_phase_that_is_not_there_yet(self) -> None:
        """Its place stays empty: the other mode has been interrupted."""
        made = kills()
        made.runs = [run for run in made.runs if run.task.mode == FLOOD]
        (line,) = (line for line in seen(made) if "in flight" in line)
        self.assertTrue(line.endswith("93.9 / 10.13 / 0.2 s / 0.3 s / 4.5"), line)

    def test_what_is_missing_in_mesh_ext_mode_is_red(self) -> None:
        """And what is not is green; flooding promises nothing."""
        made = results({"x": [row("p", missing=1)], "y": [row("q")]}, {"x": [row("p", missing=1)]})
        looks = {
            look: text for line in page(made, 79) for text, look in line if "0.01 / 0.2 s" in text
        }
        self.assertEqual(set(looks), {"bad", "good", ""})
        self.assertIn("100 /", looks["good"])


class VerdictTests(SynchronousTestCase):
    def test_all_is_well(self) -> None:
        made = results({"x": [row(pairs=1000), row("q", pairs=500)]}, {"x": [row(missing=3)]})
        made.wall = 12.3
        self.assertTrue(made.ok)
        self.assertEqual(
            made.verdict,
            "verdict: PASS, 2 runs in 12 s; mesh-ext: 0 of 1500 missing, 0 violations",
        )

    def test_a_violation(self) -> None:
        """In mesh-ext mode it fails, is counted once for a run, and is printed."""
        made = results({"x": [row("p", "n3 was delivered it twice"), row("q", "n3 was delivered it twice")]})  # fmt: skip
        self.assertFalse(made.ok)
        self.assertEqual(
            seen(made)[-3:],
            [
                "x mesh-ext, seed 1: n3 was delivered it twice",
                "",
                "verdict: FAIL, 1 run in 0 s; mesh-ext: 0 of 2000 missing, 1 violation",
            ],
        )

    def test_a_violation_while_flooding(self) -> None:
        """It is printed; the promise is mesh-ext's."""
        made = results({}, {"x": [row("p", "n3 holds 9 of 8")]})
        made.titles = {"x": "it"}
        made.modes = (FLOOD,)
        self.assertTrue(made.ok)
        self.assertIn("x flood, seed 1: n3 holds 9 of 8", seen(made))
        self.assertEqual(
            made.verdict, "verdict: PASS, 1 run in 0 s; plain flooding promises nothing"
        )

    def test_many_violations(self) -> None:
        """Some are printed, and how many more there are."""
        lines = seen(results({"x": [row("p", *(f"it {number}" for number in range(9)))]}))
        shown = [line for line in lines if line.startswith("x mesh-ext, seed 1: it ")]
        self.assertEqual(len(shown), MOST_SHOWN)
        self.assertIn("x mesh-ext, seed 1: and 4 more (--json has them)", lines)

    def test_a_run_that_did_not_come_to_its_end(self) -> None:
        """In any mode."""
        made = results({"x": [row()]}, {})
        made.runs.append(Run(Task("x", FLOOD, 1, 128), error="KeyError: 3"))
        self.assertFalse(made.ok)
        lines = seen(made)
        self.assertIn("x flood, seed 1: did not come to its end: KeyError: 3", lines)
        self.assertTrue(made.verdict.startswith("verdict: FAIL, 2 runs, 1 failed in 0 s; "))

    def test_incomplete(self) -> None:
        made = kills()
        del made.runs[0]
        self.assertFalse(made.ok)
        self.assertTrue(made.verdict.startswith("verdict: INCOMPLETE, 1 of 2 runs in "))


class GoalTests(SynchronousTestCase):
    """Each is reached, and is not when the figure it is about is too bad."""

    def judge(self, made: Results) -> Goal:
        """The only goal that there is something about."""
        (goal,) = goals(made)
        return goal

    def check(
        self, number: str, good: dict[str, list[Row]], *bad: dict[str, list[Row]], **options: Any
    ) -> Goal:
        """The good one reaches it, the others do not; what it says of the first bad one."""
        goal = self.judge(results(good, **options))
        self.assertEqual((goal.number, goal.reached), (number, True), goal)
        missed = [self.judge(results(rows, **options)) for rows in bad]
        for one in missed:
            self.assertEqual((one.number, one.reached), (number, False), one)
        return missed[0] if missed else goal

    def test_mass_kills(self) -> None:
        """Only what was killed is named; 100.000 % is never rounded to."""
        goal = self.check(
            "G1",
            {"kill-30": [row()], "kill-80": [row()]},
            {"kill-30": [row()], "kill-80": [row(missing=1, pairs=10_000_000)]},
        )
        self.assertEqual(goal.wanted, "kill 30, 80 %: 100 %")
        self.assertEqual(goal.figure, "99.999 %, 1 missing")

    def test_cuts(self) -> None:
        goal = self.check(
            "G3",
            {"cut": [row(after=5.0), row()], "silent-cut": [row(after=1.0)]},
            {"cut": [row(after=5.1)]},
            {"cut": [row(after=1.0, missing=1)]},
        )
        self.assertEqual(goal.figure, "100.000 %, 5.1 s")

    def test_trees(self) -> None:
        """Redundancy, and latency against that of flooding the same overlay, if it was tried."""

        def told(flooded: float | None = 0.4, **values: Any) -> list[tuple[str, bool]]:
            rows = [row("5 senders", **values), row("any sender", p99=9.0)]
            made = results({"steady": rows}, facts=Facts(flooded=flooded))
            return [(goal.figure, goal.reached) for goal in goals(made)]

        self.assertEqual(told(), [("0.010", True), ("0.75 x (0.30 s, 0.40 s)", True)])
        self.assertEqual(
            told(rmr=0.051, p99=0.51), [("0.051", False), ("1.27 x (0.51 s, 0.40 s)", False)]
        )
        self.assertEqual(told(None), [("0.010", True)])

    def test_mixed_networks_and_clocks(self) -> None:
        """Of plain nodes nothing is wanted."""
        self.check("G5", {"mixed": [row(missing=1, plain=figures(500))]},
                   {"mixed": [row(missing=2)]})  # fmt: skip
        self.check("G8", {"clocks": [row()]}, {"clocks": [row(missing=1)]})

    def test_churn(self) -> None:
        """What it costs, and how long nodes are alone."""

        def told(rmr: float = 0.2, missing: int = 0, **facts: Any) -> list[tuple[str, bool]]:
            made = results({"churn": [row(rmr=rmr, missing=missing)]}, facts=Facts(**facts))
            return [(goal.figure, goal.reached) for goal in goals(made)]

        self.assertEqual(told(), [("0.200", True), ("100.000 %, nobody alone", True)])
        self.assertEqual(told(rmr=0.3)[0], ("0.300", False))
        self.assertEqual(told(alone=(1.0, 4.9))[1], ("100.000 %, 4.9 s (of 2)", True))
        self.assertEqual(told(alone=(1.0, 5.1))[1], ("100.000 %, 5.1 s (of 2)", False))
        self.assertEqual(told(missing=1)[1], ("99.900 %, 1 missing, nobody alone", False))
        self.assertEqual(told(outside=2)[1], ("100.000 %, nobody alone, 2 never joined", False))

    def test_links_that_break(self) -> None:
        self.check("G10", {"break-1": [row()], "break-5": [row(p99=3.0)]},
                   {"break-5": [row(p99=3.1)]}, {"break-1": [row(missing=1)]})  # fmt: skip

    def test_power_loss(self) -> None:
        rows = {"power-loss": [row(most=8.0)]}
        goal = self.check(
            "G11", rows, {"power-loss": [row(most=8.1)]}, {"power-loss": [row(missing=1)]},
            facts=Facts(noticed=6.0),
        )  # fmt: skip
        self.assertEqual(goal.figure, "100.000 %, 6.0 s, 8.1 s")
        self.assertFalse(self.judge(results(rows, facts=Facts(noticed=6.1))).reached)

    def test_overlay(self) -> None:
        """Twice the logarithm of 128 is 14; degrees count of all scenarios."""
        one, two = {"networks": 1.0}, {"networks": 2.0}
        good = {"one-door": [row(most_hops=14, notes=one)]}
        self.check("G14", good, {"one-door": [row(most_hops=15, notes=one)]},
                   {"one-door": [row(notes=two)]}, facts=Facts(degree=5))  # fmt: skip
        self.assertFalse(self.judge(results(good, facts=Facts(degree=6))).reached)
        made = results({**good, "toy": [row()]})
        made.runs[1] = replace(made.runs[1], facts=Facts(degree=6))
        self.assertFalse(self.judge(made).reached)

    def test_the_worst_seed_counts(self) -> None:
        made = results({"clocks": [row()]})
        made.runs.append(Run(Task("clocks", MESH_EXT, 2, 128), (row(missing=1),)))
        self.assertFalse(self.judge(made).reached)

    def test_flooding_has_no_goals(self) -> None:
        made = results({}, {"kill-80": [row()]})
        made.titles, made.modes = {"kill-80": "it"}, (FLOOD,)
        self.assertEqual(goals(made), [])

    def test_they_are_printed(self) -> None:
        """With what was wanted, what was measured, and whether that is enough."""
        made = results({"kill-80": [row(missing=5)], "break-1": [row()]})
        self.assertIn("NO  G1   kill 80 %: 100 %          99.500 %, 5 missing", seen(made))
        self.assertIn("ok  G10  break: 100 %, p99 <= 3 s  100.000 %, 0.3 s", seen(made))
        # Goals are no promise.
        self.assertTrue(made.ok)


class JsonTests(SynchronousTestCase):
    def test_rows(self) -> None:
        """Everything, in the order of the table, whatever was ready first."""
        made = results(
            {"x": [row("p", "twice", missing=10, after=1.5, plain=figures(500), notes={"held": 7.0})]},
            {"x": [row("p", rmr=6.5)]},
        )  # fmt: skip
        made.runs.reverse()
        told = json.loads(json.dumps(as_json(made)))
        self.assertEqual((told["ok"], told["complete"], told["failed"]), (False, True, []))
        self.assertEqual([one["mode"] for one in told["rows"]], ["flood", "mesh-ext"])
        mesh = told["rows"][1]
        plain = mesh.pop("plain")
        self.assertEqual(
            mesh,
            {
                "scenario": "x", "phase": "p", "mode": "mesh-ext", "nodes": 128, "seed": 1,
                "sends": 10, "deliveries": 990, "missing": 10, "coverage": 99.0, "rmr": 0.01,
                "mean": 0.25, "p99": 0.3, "max": 0.3, "hops": 4.5, "max_hops": 6,
                "after": 1.5, "violations": ["twice"], "notes": {"held": 7.0}, "wall": 2.0,
            },
        )  # fmt: skip
        self.assertEqual((plain["missing"], plain["coverage"]), (500, 50.0))
        self.assertIsNone(told["rows"][0]["plain"])
        self.assertIsNone(told["rows"][0]["after"])

    def test_goals_and_failures(self) -> None:
        made = results({"clocks": [row()]}, {})
        made.runs.append(Run(Task("clocks", FLOOD, 1, 128), error="no room"))
        told = as_json(made)
        self.assertEqual(
            told["failed"], [{"scenario": "clocks", "mode": "flood", "seed": 1, "error": "no room"}]
        )
        self.assertEqual(
            told["goals"],
            [{"number": "G8", "wanted": "clocks: 100 %", "figure": "100.000 %", "reached": True}],
        )
