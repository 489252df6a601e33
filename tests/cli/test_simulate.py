"""
``py2p simulate`` as it is typed: what is played, who is told meanwhile, and exit codes.

Most of what is played here is made up and takes no time; a few runs are real, with as few nodes as
there may be.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted import cli
from py2p_twisted.cli import simulate
from py2p_twisted.cli.figures import Run, Task
from py2p_twisted.cli.simulate import (
    LineBoard,
    LiveBoard,
    flooding,
    networks,
    observe,
    plan,
    play,
    scenarios,
)
from py2p_twisted.simulation import Simulation
from py2p_twisted.simulation.scenarios import FLOOD, MESH_EXT, SCENARIOS, Scenario, Stage
from tests.cli.screen import ToyTerminal


def idle(stage: Stage) -> None:
    """Nothing happens, and is reported."""
    stage.phase("nothing", [])


def spoilt(stage: Stage) -> None:
    """A message comes twice."""
    stage.sim.history.violation("n3 was delivered it twice")
    stage.phase("something", [])


def stuck(stage: Stage) -> None:
    """A mistake in the scenario."""
    raise KeyError(3)


def die(*_: object) -> None:
    """In the place of a process that plays."""
    os._exit(3)


class SimulateTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.out: io.StringIO = io.StringIO()
        self.err: io.StringIO = io.StringIO()
        for name in ("out", "err"):
            self.patch(sys, f"std{name}", getattr(self, name))

    def main(self, *arguments: str) -> int:
        """Type the command; the exit code."""
        try:
            return cli.main(["simulate", *arguments])
        except SystemExit as end:
            return int(end.code or 0)

    def have(self, **plays: Callable[[Stage], None]) -> None:
        """Have these scenarios and no others."""
        there = {name: Scenario(name, f"what {name} is", one) for name, one in plays.items()}
        self.patch(simulate, "scenarios", lambda: there)

    def printed(self) -> str:
        return self.out.getvalue()


class ArgumentTests(SimulateTestCase):
    """Wrong usage is answered by one line that says what is right."""

    def refused(self, *arguments: str) -> str:
        """Exit code 2, nothing on standard output; the line."""
        self.err.truncate(self.err.seek(0))
        self.assertEqual(self.main(*arguments), 2, arguments)
        self.assertEqual(self.printed(), "")
        line = self.err.getvalue()
        self.assertEqual((line.count("\n"), line[-1:]), (1, "\n"), line)
        return line

    def test_numbers(self) -> None:
        """They have limits."""
        for option, wrong, limits in (
            ("--nodes", ("7", "20001", "x", "", "-5", "²", "1e1"), "from 8 to 20000"),
            ("--seeds", ("0", "1001", "x"), "from 1 to 1000"),
            ("--jobs", ("0", "257", "-1"), "from 1 to 256"),
        ):
            for text in wrong:
                line = self.refused(option, text)
                self.assertIn(f"argument {option}: expected a number {limits}, not {text!r}", line)
        self.assertIn("--seed", self.refused("--seed", "x"))

    def test_an_unknown_scenario(self) -> None:
        """The closest name is offered, or the way to see all."""
        self.assertEqual(
            self.refused("--scenario", "kil-80"),
            "py2p simulate: argument --scenario: there is no scenario 'kil-80'; did you mean "
            "kill-80? (see py2p simulate --help)\n",
        )
        self.assertIn("py2p simulate --list names them", self.refused("--scenario", "zzz"))

    def test_an_unknown_mode(self) -> None:
        self.assertIn("'flood', 'mesh-ext'", self.refused("--mode", "pigeons"))

    def test_help(self) -> None:
        """It fits, and explains every key of a row."""
        self.patch(os, "environ", {**os.environ, "COLUMNS": "80"})
        self.assertEqual(self.main("--help"), 0)
        text = self.printed()
        self.assertTrue(max(map(len, text.splitlines())) < 80)
        options = ("nodes", "seed", "seeds", "scenario", "mode", "jobs", "json", "list")
        for option in options:
            self.assertIn(f"--{option}", text)

    def test_the_list(self) -> None:
        """A line for each scenario."""
        self.assertEqual(self.main("--list"), 0)
        lines = self.printed().splitlines()
        self.assertEqual([line.split()[0] for line in lines], [*SCENARIOS, "one-door"])
        self.assertIn("kill-80     80 % of the processes die in one instant", lines)
        self.assertIn("(not by default)", next(line for line in lines if line.startswith("long")))


class PlanTests(SynchronousTestCase):
    """What is played."""

    def plan(self, *arguments: str) -> Any:
        return plan(cli.build_parser().parse_args(["simulate", *arguments]))

    def test_by_default(self) -> None:
        """All that does not take too long, in both modes, the longest first."""
        results, tasks = self.plan()
        self.assertEqual(
            set(scenarios()) - set(results.titles), {"long-churn", "long-cut", "receipts", "slow"}
        )
        self.assertEqual((results.nodes, results.seeds, results.modes), (100, (1,), ("flood", "mesh-ext")))  # fmt: skip
        self.assertEqual((len(tasks), tasks[0]), (30, Task("break-5", MESH_EXT, 1, 100)))

    def test_what_is_asked_for(self) -> None:
        """Once, in the order in which it is asked for."""
        results, tasks = self.plan("--scenario", "cut", "--scenario", "steady", "--scenario", "cut",
                                   "--mode", "mesh-ext", "--seed", "7", "--seeds", "3",
                                   "--nodes", "9")  # fmt: skip
        self.assertEqual(list(results.titles), ["cut", "steady"])
        self.assertEqual((results.modes, results.seeds), ((MESH_EXT,), (7, 8, 9)))
        self.assertEqual(
            set(tasks),
            {Task(name, MESH_EXT, seed, 9) for name in ("cut", "steady") for seed in (7, 8, 9)},
        )

    def test_everything(self) -> None:
        results, _ = self.plan("--scenario", "all", "--scenario", "cut")
        self.assertEqual(list(results.titles), list(scenarios()))


class EndTests(SimulateTestCase):
    """How it ends."""

    def test_all_is_well(self) -> None:
        """The table and the verdict on standard output, progress on standard error."""
        self.have(idle=idle)
        self.assertEqual(self.main("--jobs", "1"), 0)
        lines = self.printed().splitlines()
        self.assertIn("py2p simulate: 100 nodes, seed 1", lines[0])
        self.assertTrue(lines[-1].startswith("verdict: PASS, 2 runs in 0 s; mesh-ext:"), lines)
        self.assertEqual(
            [line.split("runs  ")[1] for line in self.err.getvalue().splitlines()],
            ["idle mesh-ext, seed 1: 0 s", "idle flood, seed 1: 0 s"],
        )

    def test_a_broken_promise(self) -> None:
        """Exit code 1; what was wrong is printed."""
        self.have(idle=idle, spoilt=spoilt)
        self.assertEqual(self.main("--jobs", "1", "--seed", "5"), 1)
        self.assertIn("spoilt mesh-ext, seed 5: n3 was delivered it twice", self.printed())
        self.assertIn("verdict: FAIL", self.printed())

    def test_flooding_has_none(self) -> None:
        """What is wrong is printed all the same."""
        self.have(spoilt=spoilt)
        self.assertEqual(self.main("--jobs", "1", "--mode", "flood"), 0)
        self.assertIn("spoilt flood, seed 1: n3 was delivered it twice", self.printed())

    def test_a_mistake(self) -> None:
        """Of one run: the others are played, but all is not well."""
        self.have(stuck=stuck, idle=idle)
        self.assertEqual(self.main("--jobs", "1", "--mode", "flood"), 1)
        self.assertIn("stuck flood, seed 1: did not come to its end: KeyError: 3", self.printed())
        self.assertIn("  nothing", self.printed())
        self.assertIn("NO, KeyError: 3", self.err.getvalue())

    def test_json(self) -> None:
        """One object on standard output, progress on standard error."""
        self.have(spoilt=spoilt)
        self.assertEqual(self.main("--jobs", "1", "--json"), 1)
        told = json.loads(self.printed())
        self.assertEqual(
            {key: told[key] for key in ("ok", "complete", "nodes", "seeds", "modes", "jobs")},
            {"ok": False, "complete": True, "nodes": 100, "seeds": [1],
             "modes": ["flood", "mesh-ext"], "jobs": 1},
        )  # fmt: skip
        self.assertEqual([row["violations"] for row in told["rows"]], [["n3 was delivered it twice"]] * 2)  # fmt: skip
        self.assertIn("2 of 2 runs", self.err.getvalue())

    def test_every_key_is_explained(self) -> None:
        """By the help."""
        self.have(idle=idle)
        self.main("--jobs", "1", "--json")
        told = json.loads(self.printed())
        for key in (*told, *told["rows"][0]):
            if key != "version":
                self.assertRegex(simulate.DESCRIPTION, rf"\b{key}\b")

    def interrupted(self, *arguments: str, by: Callable[[], object]) -> int:
        """Be interrupted in the second run; the exit code."""
        for one in (signal.SIGINT, signal.SIGTERM):
            self.addCleanup(signal.signal, one, signal.getsignal(one))
        count = 0

        def second(stage: Stage) -> None:
            nonlocal count
            count += 1
            if count > 1:
                by()
            idle(stage)

        self.have(second=second)
        return self.main("--jobs", "1", *arguments)

    def test_ctrl_c(self) -> None:
        """What is finished is printed."""

        def interrupt() -> None:
            raise KeyboardInterrupt

        self.assertEqual(self.interrupted("--seeds", "2", by=interrupt), 130)
        self.assertIn("verdict: INCOMPLETE, 1 of 4 runs", self.printed())
        self.assertEqual(self.err.getvalue().splitlines()[-1], "py2p simulate: interrupted")

    def test_sigterm(self) -> None:
        """The same."""
        code = self.interrupted("--json", by=lambda: os.kill(os.getpid(), signal.SIGTERM))
        self.assertEqual(code, 143)
        told = json.loads(self.printed())
        self.assertEqual((told["complete"], told["ok"], len(told["rows"])), (False, False, 1))
        self.assertEqual(self.err.getvalue().splitlines()[-1], "py2p simulate: terminated")

    def test_signals_are_as_before(self) -> None:
        before = signal.getsignal(signal.SIGTERM)
        self.have(idle=idle)
        self.main("--jobs", "1")
        self.assertIs(signal.getsignal(signal.SIGTERM), before)

    def test_a_terminal(self) -> None:
        """Progress in place, which is taken away; then the table in colour."""
        terminal = ToyTerminal(80, 50)
        self.patch(sys, "stdout", terminal)
        self.patch(sys, "stderr", terminal)
        self.patch(simulate, "size_of", lambda stream: terminal.size())
        self.patch(os, "environ", {"TERM": "xterm"})
        self.have(idle=idle)
        self.assertEqual(self.main("--jobs", "1"), 0)
        self.assertTrue(terminal.text[0].startswith("py2p simulate: 100 nodes"), terminal.text)
        self.assertEqual((terminal.above, terminal.wraps, terminal.cursor), ([], 0, True))
        self.assertIn("32", terminal.looks)


class ProcessTests(SimulateTestCase):
    """Several processes, which are real."""

    ARGUMENTS = ("--nodes", "8", "--scenario", "steady", "--scenario", "kill-50", "--json")

    def rows(self, jobs: str) -> list[dict[str, Any]]:
        """Play; what came of it, without what it took."""
        self.out.truncate(self.out.seek(0))
        self.assertEqual(self.main(*self.ARGUMENTS, "--jobs", jobs), 0, self.err.getvalue())
        told = json.loads(self.printed())
        self.assertEqual((told["jobs"], told["ok"]), (int(jobs), True))
        for row in told["rows"]:
            self.assertGreater(row.pop("wall"), 0)
        return [told["goals"], *told["rows"]]

    def test_figures_do_not_depend_on_jobs(self) -> None:
        """Nor on who plays what: other processes hash otherwise."""
        one = self.rows("1")
        self.assertEqual(len(one), 1 + 2 * 5)
        self.assertEqual(self.rows("2"), one)

    def test_a_process_that_dies(self) -> None:
        """Its run has failed; nobody waits for it."""
        task = Task("steady", FLOOD, 1, 8)
        board = simulate.Board([], 2, lambda: 0.0)
        self.patch(simulate, "_work", die)
        (run,) = simulate.perform([task], 2, board)
        self.assertEqual(run.error, "its process ended with exit code 3")

    def test_processes_end_with_the_command(self) -> None:
        """Whoever is interrupted leaves none behind."""
        board = simulate.Board([], 2, lambda: 0.0)
        tasks = [Task("churn", MESH_EXT, seed, 512) for seed in (1, 2)]
        begun: list[Any] = []
        before = simulate.multiprocessing.active_children()

        def told(task: Task, *_: Any) -> None:
            begun.extend(simulate.multiprocessing.active_children())
            raise KeyboardInterrupt

        board.told = told  # type: ignore[method-assign]
        with self.assertRaises(KeyboardInterrupt):
            list(simulate.perform(tasks, 2, board))
        self.assertEqual(len(set(begun) - set(before)), 2)
        self.assertEqual(simulate.multiprocessing.active_children(), before)

    def test_how_it_ended(self) -> None:
        """A signal is likely to be the system's, which was short of memory."""
        self.assertIn("killed by signal 9; if memory is short, try --jobs 1", simulate._ending(-9))
        self.assertIn("exit code 3", simulate._ending(3))


class PlayTests(SynchronousTestCase):
    """Real runs."""

    def test_the_smallest_networks(self) -> None:
        """Every scenario can be played with as few nodes as there may be."""
        for name in scenarios():
            if not name.startswith("long-"):
                run = play(Task(name, FLOOD, 1, simulate.FEWEST))
                self.assertTrue(run.rows, name)

    def test_one_door(self) -> None:
        """All joined through one, and it has no more neighbours than others."""
        run = play(Task("one-door", MESH_EXT, 1, 12))
        self.assertEqual(run.violations, ())
        self.assertEqual((run.rows[0].notes, run.facts.outside), ({"networks": 1.0}, 0))
        self.assertTrue(2 <= run.facts.degree <= 5, run.facts)
        self.assertEqual(run.rows[0].figures.coverage, 100.0)

    def test_what_flooding_takes(self) -> None:
        """It is tried in the same network, where there are no trees then."""
        task = Task("steady", MESH_EXT, 1, 16)
        run, flooded = play(task), flooding(task)
        self.assertEqual(run.facts.flooded, flooded.p99)
        self.assertTrue(0.05 < flooded.p99 < 0.6, flooded)
        self.assertTrue(run.rows[0].figures.rmr < 0.2 < 1.5 < flooded.rmr, flooded)
        self.assertIsNone(play(Task("steady", FLOOD, 1, 8)).facts.flooded)

    def test_progress_is_told(self) -> None:
        told: list[Any] = []
        play(Task("one-door", FLOOD, 1, 8), lambda *progress: told.append(progress))
        self.assertTrue(0.95 < told[-1][2] <= 1.0, told[-1])


class ObserveTests(SynchronousTestCase):
    """What is seen of a network besides its messages."""

    def network(self) -> Simulation:
        """Eight nodes that are up."""
        sim = Simulation(1)
        sim.build(8)
        return sim

    def test_all_is_well(self) -> None:
        sim = self.network()
        facts = observe(sim)
        self.assertEqual(networks(sim), 1)
        self.assertEqual((facts.alone, facts.outside, facts.noticed), ((), 0, None))

    def test_who_is_cut_off(self) -> None:
        """Alone until it has somebody again, or until the end; meanwhile there are two networks."""
        sim = self.network()
        sim.partition([[sim.machines[3]]])
        sim.run(4.0)
        facts = observe(sim)
        (alone,) = facts.alone
        self.assertTrue(3.8 < alone <= 4.0, alone)
        self.assertEqual(networks(sim), 2)
        sim.heal()
        sim.run(10.0)
        facts = observe(sim)
        (alone,) = facts.alone
        self.assertTrue(4.0 < alone < 14.0, alone)
        self.assertEqual(networks(sim), 1)

    def test_who_never_came_in(self) -> None:
        sim = self.network()
        sim.add()
        facts = observe(sim)
        self.assertEqual((facts.outside, networks(sim)), (1, 2))

    def test_the_dead_are_not_alone(self) -> None:
        """Nor those that died alone."""
        sim = self.network()
        sim.partition([[sim.machines[3]]])
        sim.run(4.0)
        sim.kill([sim.machines[3]])
        self.assertEqual(observe(sim).alone, ())

    def test_when_a_power_loss_is_noticed(self) -> None:
        """By the last who has to do with it; those that have not noticed yet count until now."""
        sim = self.network()
        sim.power_loss(sim.machines[6:])
        sim.run(1.0)
        self.assertAlmostEqual(observe(sim).noticed or 0.0, 1.0)
        sim.run(20.0)
        noticed = observe(sim).noticed
        assert noticed is not None
        self.assertTrue(3.0 < noticed < 10.0, noticed)


class BoardTests(SynchronousTestCase):
    """Who is told meanwhile."""

    def setUp(self) -> None:
        self.now = 100.0
        self.patch(simulate, "cost", lambda task: 10.0 if task.mode == MESH_EXT else 5.0)
        self.tasks = [Task("cut", MESH_EXT, 1, 8), Task("cut", FLOOD, 1, 8)]

    def lines(self) -> tuple[LineBoard, io.StringIO]:
        stream = io.StringIO()
        return LineBoard(self.tasks, 1, lambda: self.now, stream), stream

    def test_how_far_it_is(self) -> None:
        """By what things cost; the rest is estimated from what it has taken so far."""
        board, _ = self.lines()
        self.assertIsNone(board.rest)
        board.begun(self.tasks[0])
        board.told(self.tasks[0], "cut", 33.3, 0.5)
        self.now += 20.0
        self.assertEqual((round(board.share, 3), board.rest), (0.333, 40.0))
        self.assertEqual(board.summary(), " 33 %  0 of 2 runs  40 s left")
        self.assertEqual(board.details(), "cut mesh-ext 33 s (cut)")
        board.ended(Run(self.tasks[0]))
        self.assertEqual(board.summary(), " 67 %  1 of 2 runs  10 s left")

    def test_the_last_one_has_no_help(self) -> None:
        """When the others have nothing to do any more it takes as long as it takes."""
        board = simulate.Board(self.tasks, 2, lambda: self.now)
        for task in self.tasks:
            board.begun(task)
        board.ended(Run(self.tasks[1]))
        board.told(self.tasks[0], "cut", 50.0, 0.5)
        self.now += 10.0
        self.assertEqual(board.rest, 10.0)

    def test_lines(self) -> None:
        """One for each run that has ended, one now and then, and no more."""
        board, stream = self.lines()
        board.begun(self.tasks[0])
        for _ in range(100):
            self.now += 0.5
            board.told(self.tasks[0], "cut", 1.0, 0.3)
        self.now += 2.0
        board.ended(Run(self.tasks[0], wall=52.0))
        board.begun(self.tasks[1])
        board.ended(Run(self.tasks[1], wall=0.4))
        self.assertEqual(
            stream.getvalue().splitlines(),
            [
                "   30.0 s   20 %  0 of 2 runs  2 min left  cut mesh-ext 1 s (cut)",
                "   52.0 s   67 %  1 of 2 runs  26 s left  cut mesh-ext, seed 1: 52 s",
                "   52.0 s  100 %  2 of 2 runs  cut flood, seed 1: 0 s",
            ],
        )

    def test_a_line_in_place(self) -> None:
        """Never wider than the terminal, not drawn too often, and gone in the end."""
        terminal = ToyTerminal(60, 24)
        board = LiveBoard(self.tasks, 2, lambda: self.now, terminal, terminal.size)
        for task in self.tasks:
            board.begun(task)
        for number in range(100):
            self.now += 0.05
            board.told(self.tasks[0], "sent during the cut", number, number / 100)
        # There is no room for the phases.
        self.assertEqual(
            terminal.text, [" 66 %  0 of 2 runs  5 s left  cut mesh-ext 99 s, cut flood"]
        )
        self.assertEqual((len(terminal.text), terminal.wraps), (1, 0))
        self.assertTrue(terminal.draws < 30, terminal.draws)
        board.close()
        self.assertEqual((terminal.text, terminal.cursor), ([], True))
