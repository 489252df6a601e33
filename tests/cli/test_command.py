"""
``py2p`` as it is typed: arguments, what is written where, and exit codes.

The nodes are toys and so is the clock; everything between them and the command is real.
"""

from __future__ import annotations

import io
import json
import re
import signal
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted import __version__, cli
from py2p_twisted.cli import demo, nodes, processes
from py2p_twisted.cli.demo import MOST, node_count
from py2p_twisted.cli.running import CommandFailed, Interrupted
from py2p_twisted.cli.scenario import FEWEST
from tests.cli.screen import ToyTerminal
from tests.cli.toys import ToyNet, Toys

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]


class CommandTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.out: io.StringIO = io.StringIO()
        self.err = io.StringIO()
        for name in ("out", "err"):
            self.patch(sys, f"std{name}", getattr(self, name))

    def main(self, *arguments: str) -> int:
        """Type a command; the exit code."""
        try:
            return cli.main(arguments)
        except SystemExit as end:
            return int(end.code or 0)


class ArgumentTests(CommandTestCase):
    """Wrong usage is answered by one line that says what is right."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(demo, "run", lambda options: self.fail(f"it runs: {options}"))

    def refused(self, *arguments: str) -> str:
        """Exit code 2, nothing on standard output; the line."""
        self.assertEqual(self.main(*arguments), 2, arguments)
        self.assertEqual(self.out.getvalue(), "")
        line = self.err.getvalue()
        self.err.truncate(self.err.seek(0))
        self.assertEqual((line.count("\n"), line[-1:]), (1, "\n"), line)
        return line

    def test_numbers_of_nodes(self) -> None:
        """What is no number, and too few and too many, is told which numbers are right."""
        for text in ("1", "x", "2", "201", "0", "-5", "3.5", "", "1e1", " 12", "²"):
            line = self.refused("demo", "--nodes", text)
            self.assertEqual(
                line,
                f"py2p demo: argument --nodes: expected a number from 3 to 200, not {text!r} "
                "(see py2p demo --help)\n",
            )

    def test_an_unknown_command(self) -> None:
        """It is told which there are."""
        line = self.refused("dmo")
        self.assertIn("'dmo'", line)
        self.assertIn("'demo'", line)
        self.assertIn("(see py2p --help)", line)

    def test_no_command(self) -> None:
        self.assertIn("COMMAND", self.refused())

    def test_unknown_options(self) -> None:
        """Also shortened ones; the help that is named is the command's."""
        for arguments in (["--nod", "5"], ["--frobnicate"], ["twice"]):
            line = self.refused("demo", *arguments)
            self.assertIn(arguments[0], line)
            self.assertIn("(see py2p demo --help)", line)

    def test_a_seed_that_is_no_number(self) -> None:
        self.assertIn("--seed", self.refused("demo", "--seed", "x"))

    def test_numbers_that_are_right(self) -> None:
        """Both ends of the range."""
        self.assertEqual([node_count(str(number)) for number in (FEWEST, MOST)], [FEWEST, MOST])

    def test_help(self) -> None:
        """Each parser explains itself on standard output."""
        self.assertEqual(self.main("--help"), 0)
        self.assertIn("demo", self.out.getvalue())
        self.assertEqual(self.main("demo", "--help"), 0)
        for option in (
            *("--nodes N", "--processes", "--tls", "--json", "--seed SEED"),
            *("--web [ENDPOINT]", "--open"),
        ):
            self.assertIn(option, self.out.getvalue())
        text = " ".join(self.out.getvalue().split())
        self.assertIn("from 3 to 200 (default: 12); with --processes to 64 (default: 8)", text)
        self.assertIn("latencies include the start of that program", text)
        self.assertEqual(self.err.getvalue(), "")

    def test_help_fits(self) -> None:
        """On the usual terminal."""
        self.patch(cli.os, "environ", {**cli.os.environ, "COLUMNS": "80"})
        for arguments in (["--help"], ["demo", "--help"]):
            self.main(*arguments)
        self.assertTrue(max(map(len, self.out.getvalue().splitlines())) < 80)

    def test_version(self) -> None:
        self.assertEqual(self.main("--version"), 0)
        self.assertEqual(self.out.getvalue(), f"py2p_twisted {__version__}\n")

    def test_defaults(self) -> None:
        """What a bare command means."""
        options = cli.build_parser().parse_args(["demo"])
        # How many nodes that are depends on what sort they are.
        self.assertEqual(
            (options.nodes, options.processes, options.tls, options.json, options.seed),
            (None, False, False, False, None),
        )
        self.assertEqual((options.web, options.open), (None, False))


class EndTests(CommandTestCase):
    """How a command may end."""

    def end(self, action: Callable[[Any], int]) -> int:
        """Run a command that does this; the exit code."""
        self.patch(demo, "run", action)
        # It is set to be ignored, so that a second Ctrl-C is no traceback.
        self.addCleanup(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))
        return self.main("demo")

    def raising(self, error: BaseException) -> int:
        """Run a command that raises this; the exit code."""

        def action(options: object) -> int:
            raise error

        return self.end(action)

    def test_its_own_code(self) -> None:
        for code in (0, 1):
            self.assertEqual(self.end(lambda options, code=code: code), code)
        self.assertEqual(self.err.getvalue(), "")

    def test_it_cannot(self) -> None:
        """The reason is one line."""
        self.assertEqual(self.raising(CommandFailed("no room")), 1)
        self.assertEqual(self.err.getvalue(), "py2p demo: no room\n")

    def test_signals(self) -> None:
        """As shells count them, with a word that says which."""
        self.assertEqual(self.raising(Interrupted(signal.SIGINT)), 130)
        self.assertEqual(self.raising(Interrupted(signal.SIGTERM)), 143)
        self.assertEqual(self.err.getvalue(), "py2p demo: interrupted\npy2p demo: terminated\n")

    def test_ctrl_c_before_the_reactor_runs(self) -> None:
        """It looks the same."""
        self.assertEqual(self.raising(KeyboardInterrupt()), 130)
        self.assertEqual(self.err.getvalue(), "py2p demo: interrupted\n")
        self.assertIs(signal.getsignal(signal.SIGINT), signal.SIG_IGN)

    def test_the_reader_has_gone(self) -> None:
        """Nobody is left to complain to."""
        self.assertEqual(self.raising(BrokenPipeError()), 1)
        self.assertEqual(self.err.getvalue(), "")

    def test_the_reader_goes_at_the_end(self) -> None:
        """What is still in the buffer is written before Python would do it, and complain."""

        def flush() -> None:
            raise BrokenPipeError

        self.out.flush = flush  # type: ignore[method-assign]
        self.assertEqual(self.end(lambda options: 0), 1)
        self.assertEqual(self.err.getvalue(), "")

    def test_the_reader_of_help_goes(self) -> None:
        """The same."""

        def flush() -> None:
            raise BrokenPipeError

        self.out.flush = flush  # type: ignore[method-assign]
        self.assertEqual(self.main("--help"), 1)
        self.assertEqual(self.err.getvalue(), "")

    def test_nobody_reads_errors(self) -> None:
        """A command that cannot even complain ends with the same code."""

        def write(text: str) -> int:
            raise BrokenPipeError

        self.err.write = write  # type: ignore[method-assign]
        for error, code in (
            (CommandFailed("no room"), 1),
            (OSError(28, "No space left on device"), 1),
            (Interrupted(signal.SIGTERM), 143),
            (KeyboardInterrupt(), 130),
        ):
            self.assertEqual(self.raising(error), code, error)

    def test_a_full_disk(self) -> None:
        self.assertEqual(self.raising(OSError(28, "No space left on device")), 1)
        self.assertEqual(self.err.getvalue(), "py2p demo: No space left on device\n")

    def test_streams_that_are_closed(self) -> None:
        """Python has none then; the command is run all the same."""
        self.patch(sys, "stdout", None)
        self.patch(sys, "stderr", None)

        def action(options: object) -> int:
            print("nobody reads this")
            sys.stderr.write("nor this")
            for stream in (sys.stdout, sys.stderr):
                self.addCleanup(stream.close)
            return 0

        self.assertEqual(self.end(action), 0)


class DemoTests(CommandTestCase):
    """The command with toys in place of nodes."""

    def setUp(self) -> None:
        super().setUp()
        self.toys = Toys(0)
        self.net: ToyNet = self.toys.net
        self.tls: list[bool] = []
        self.logged: list[str] = []
        self.environ: dict[str, str] = {}

        def make(reactor: object, count: int, *, tls: bool, web: str | None) -> object:
            self.tls.append(tls)
            return self.with_page(web)

        def run(work: Callable[[Any], Any], mistakes: list[str]) -> Any:
            results: list[Any] = []
            Deferred.fromCoroutine(work(self.net.clock)).addBoth(results.append)
            while not results:
                assert self.net.clock.seconds() < 120, "the demo does not end"
                self.toys.step(120)
            mistakes += self.logged
            return results[0]

        self.patch(nodes, "LoopbackNode", make)
        self.patch(nodes, "make_room", lambda count: None)
        self.patch(demo, "run_reactor", run)
        self.patch(demo, "time", SimpleNamespace(perf_counter=self.net.clock.seconds))
        self.patch(demo, "os", SimpleNamespace(environ=self.environ))

    def with_page(self, web: str | None) -> Any:
        """A toy, with a status page if it is to have one."""
        node: Any = self.net.make_node()
        if web is not None:
            node.page = f"http://{web}/#token=secret"
        return node

    def stop_after(self, seconds: float) -> None:
        """Have somebody press Ctrl-C then."""

        def run(work: Callable[[Any], Any], mistakes: list[str]) -> Any:
            doing = Deferred.fromCoroutine(work(self.net.clock))
            self.toys.turn(seconds)
            ended: list[Any] = []
            doing.addBoth(ended.append)
            doing.cancel()
            self.toys.turn(10)
            self.assertEqual(len(ended), 1)
            raise Interrupted(signal.SIGINT)

        self.patch(demo, "run_reactor", run)
        self.addCleanup(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))

    def crowds(self) -> list[Any]:
        """Have toys instead of processes, too; all that were made."""
        made: list[Any] = []
        with_page = self.with_page

        class ToyProcesses:
            on_lost: Any = None
            closed = False

            def __init__(self, *, tls: bool) -> None:
                self.tls = tls
                made.append(self)

            def make_node(self, reactor: object, web: str | None) -> object:
                return with_page(web)

            def close(self) -> None:
                self.closed = True

        self.patch(processes, "Processes", ToyProcesses)
        return made

    def test_lines(self) -> None:
        """Where there is no terminal: every receipt, and the verdict as the last line."""
        self.assertEqual(self.main("demo"), 0)
        lines = self.out.getvalue().splitlines()
        self.assertRegex(
            lines[0],
            r"^  0\.00 s  py2p demo: 12 nodes over TCP on 127\.0\.0\.1, in one process "
            r"\(--seed \d+\)$",
        )
        self.assertEqual(len([line for line in lines if "has it after" in line]), 11 + 9)
        self.assertRegex(lines[-1], r" s  verdict: PASS, 20 of 20 deliveries, 0 duplicates shown,")
        self.assertEqual(self.err.getvalue(), "")

    def test_the_seed(self) -> None:
        """The one that was drawn is shown, so that it can be typed; one that is typed is used."""
        self.main("demo", "--json")
        seed = json.loads(self.out.getvalue())["seed"]
        self.assertIn(f"(--seed {seed})", self.err.getvalue())
        self.out.truncate(self.out.seek(0))
        self.main("demo", "--json", "--seed", "-4")
        self.assertEqual(json.loads(self.out.getvalue())["seed"], -4)

    def test_tls(self) -> None:
        """All nodes are told, and it is shown."""
        self.assertEqual(self.main("demo", "--nodes", "5", "--tls"), 0)
        self.assertEqual(self.tls, [True] * 5)
        self.assertIn("5 nodes over TLS", self.out.getvalue())

    def test_without_tls(self) -> None:
        self.main("demo", "--nodes", "4")
        self.assertEqual(self.tls, [False] * 4)
        self.assertIn("4 nodes over TCP", self.out.getvalue())

    def test_too_many_processes(self) -> None:
        """Wrong usage: nothing is started, and one line says how many there may be."""
        self.assertEqual(self.main("demo", "--nodes", "65", "--processes"), 2)
        self.assertEqual(self.out.getvalue(), "")
        self.assertEqual(
            self.err.getvalue(),
            "py2p demo: argument --nodes: with --processes expected a number from 3 to 64, "
            "not '65' (see py2p demo --help)\n",
        )
        self.assertEqual(self.net.nodes, [])

    def test_processes(self) -> None:
        """Eight of them; it says what they are, and what a latency means."""
        crowds = self.crowds()
        self.assertEqual(self.main("demo", "--processes"), 0)
        lines = self.out.getvalue().splitlines()
        self.assertRegex(
            lines[0],
            r"^  0\.00 s  py2p demo: 8 processes of twist py2p over TCP on 127\.0\.0\.1 "
            r"\(--seed \d+\)$",
        )
        self.assertIn("each latency includes the start of a program", lines[1])
        self.assertTrue(
            [line for line in lines if re.search(r"drop: kill -9 n\d+ and n\d+$", line)]
        )
        self.assertRegex(lines[-1], r" s  verdict: PASS, 12 of 12 deliveries, 0 duplicates shown,")
        self.assertEqual([(crowd.tls, crowd.closed) for crowd in crowds], [(False, True)])

    def test_a_status_page(self) -> None:
        """It is shown by a node that stays; when all is done, it goes on until it is stopped."""
        self.stop_after(60)
        self.assertEqual(self.main("demo", "--nodes", "5", "--web=8123"), 0)
        lines = self.out.getvalue().splitlines()
        (told,) = [line for line in lines if "status page" in line]
        self.assertIn("status page of n05: http://tcp:8123/#token=secret", told)
        self.assertFalse(self.net.nodes[-1].dropped)
        self.assertTrue(
            [line for line in lines if "go on: " in line and "'s came to 2 of 2" in line]
        )
        self.assertRegex(lines[-1], "verdict: PASS, 6 of 6")
        self.assertEqual(self.err.getvalue(), "")
        there = [node for node in self.net.nodes if not node.dropped]
        self.assertTrue(all(node.left for node in there), there)

    def test_stopped_before_it_is_done(self) -> None:
        """That is no different with a page."""
        self.stop_after(2)
        self.assertEqual(self.main("demo", "--nodes", "5", "--web"), 130)
        self.assertEqual(self.err.getvalue(), "py2p demo: interrupted\n")

    def test_a_page_of_a_process(self) -> None:
        """The same with processes; programs are told where it is, and whoever it is opened for."""
        self.crowds()
        self.stop_after(60)
        opened: list[str] = []
        self.patch(demo, "_open", opened.append)
        self.assertEqual(self.main("demo", "--processes", "--web", "--open", "--json"), 0)
        told = json.loads(self.out.getvalue())
        self.assertEqual((told["ok"], told["page"]), (True, "http://tcp:0/#token=secret"))
        self.assertEqual(opened, [told["page"]])

    def test_no_page(self) -> None:
        """What cannot be is said before anything is started."""
        for arguments, problem in (
            (["--web=here"], "expected a port from 0 to 65535, or an endpoint, not 'here'"),
            (["--open"], "there is no page without --web"),
        ):
            self.assertEqual(self.main("demo", *arguments), 2)
            self.assertIn(problem, self.err.getvalue())
        self.assertEqual(self.net.nodes, [])

    def test_processes_over_tls(self) -> None:
        """As many as were asked for; programs are told that they are processes."""
        crowds = self.crowds()
        self.assertEqual(self.main("demo", "--processes", "--nodes", "64", "--tls", "--json"), 0)
        told = json.loads(self.out.getvalue())
        self.assertEqual((told["processes"], len(told["nodes"])), (True, 64))
        self.assertEqual([(crowd.tls, crowd.closed) for crowd in crowds], [(True, True)])

    def test_a_process_that_is_lost(self) -> None:
        """The demo fails at once, and kills the others."""
        crowds = self.crowds()
        self.net.clock.callLater(0.6, lambda: crowds[-1].on_lost(self.net.nodes[3], "is gone"))
        self.assertEqual(self.main("demo", "--processes"), 1)
        self.assertIn("NOT REACHED: n04 is gone", self.out.getvalue())
        self.assertTrue(crowds[-1].closed)

    def test_processes_are_killed_in_any_case(self) -> None:
        """Whatever goes wrong here."""
        crowds = self.crowds()

        def run(work: Callable[[Any], Any], mistakes: list[str]) -> Any:
            work(self.net.clock).close()
            raise Interrupted(signal.SIGINT)

        self.patch(demo, "run_reactor", run)
        self.addCleanup(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))
        self.assertEqual(self.main("demo", "--processes"), 130)
        self.assertEqual([crowd.closed for crowd in crowds], [True])

    def test_json(self) -> None:
        """One object on standard output; progress without details on standard error."""
        self.assertEqual(self.main("demo", "--nodes", "6", "--json", "--tls"), 0)
        told = json.loads(self.out.getvalue())
        self.assertEqual(
            (told["ok"], told["deliveries"], told["transport"], len(told["nodes"])),
            (True, {"got": 8, "expected": 8}, "TLS", 6),
        )
        progress = self.err.getvalue()
        self.assertIn("verdict: PASS", progress.splitlines()[-1])
        self.assertNotIn("has it after", progress)

    def test_a_mesh_that_loses_something(self) -> None:
        """Exit code 1, in lines and in JSON."""
        self.net.lost = {(2, 0)}
        self.assertEqual(self.main("demo", "--nodes", "6"), 1)
        lines = self.out.getvalue().splitlines()
        self.assertIn("NOT REACHED: the broadcast of n06 has not come to n02", lines[-2])
        self.assertIn("verdict: FAIL, 4 of 5 deliveries", lines[-1])

    def test_a_mesh_that_shows_something_twice(self) -> None:
        """The same, though everybody has got it."""
        self.net.repeated = {(2, 0)}
        self.assertEqual(self.main("demo", "--nodes", "6", "--json"), 1)
        told = json.loads(self.out.getvalue())
        self.assertEqual((told["ok"], told["duplicates"]), (False, 1))

    def test_what_was_logged(self) -> None:
        """It is told at the end, and does not change what is true."""
        self.logged = ["Unhandled error (ValueError: broken)"]
        self.assertEqual(self.main("demo", "--nodes", "3"), 0)
        self.assertEqual(
            self.err.getvalue(), "py2p demo: logged: Unhandled error (ValueError: broken)\n"
        )

    def test_a_terminal(self) -> None:
        """The table, in colour, at a pace that can be followed."""
        self.patch(demo, "HOLD", 2.0)
        self.environ["TERM"] = "xterm"
        terminal = ToyTerminal(80, 24)
        self.patch(sys, "stdout", terminal)
        self.assertEqual(self.main("demo"), 0)
        self.assertIn("verdict: PASS", terminal.text[-1])
        self.assertEqual((terminal.above, terminal.wraps, terminal.cursor), ([], 0, True))
        self.assertIn("32", terminal.looks)
        self.assertGreater(self.net.clock.seconds(), 4)

    def test_a_terminal_without_colour(self) -> None:
        self.environ.update(TERM="xterm", NO_COLOR="1")
        terminal = ToyTerminal(80, 24)
        self.patch(sys, "stdout", terminal)
        self.assertEqual(self.main("demo"), 0)
        self.assertIn("verdict: PASS", terminal.text[-1])
        self.assertEqual(terminal.looks, set())

    def test_a_dumb_terminal(self) -> None:
        """It gets lines."""
        self.environ["TERM"] = "dumb"
        terminal = ToyTerminal(200, 100)
        self.patch(sys, "stdout", terminal)
        self.assertEqual(self.main("demo"), 0)
        self.assertIn("0.00 s  py2p demo:", terminal.text[0])

    def test_the_cursor_comes_back_in_any_case(self) -> None:
        """Also when it was told to stop."""
        self.environ["TERM"] = "xterm"
        terminal = ToyTerminal(80, 24)
        self.patch(sys, "stdout", terminal)
        self.addCleanup(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))
        hidden: list[bool] = []

        def run(work: Callable[[Any], Any], mistakes: list[str]) -> Any:
            done = Deferred.fromCoroutine(work(self.net.clock))
            self.toys.turn(0.3)
            hidden.append(terminal.cursor)
            done.cancel()
            self.failureResultOf(done)
            raise Interrupted(signal.SIGINT)

        self.patch(demo, "run_reactor", run)
        self.assertEqual(self.main("demo"), 130)
        self.assertEqual((hidden, terminal.cursor), ([False], True))
        self.assertEqual(self.err.getvalue(), "py2p demo: interrupted\n")


class RoomTests(SynchronousTestCase):
    """A process may have so many open files; a demo needs some for each node."""

    if resource is None:
        skip = "no such limit on this system"

    def limits(self, soft: int, hard: int) -> list[tuple[int, int]]:
        """Set them; what they are changed to."""
        changes: list[tuple[int, int]] = []

        def getrlimit(which: int) -> tuple[int, int]:
            self.assertEqual(which, resource.RLIMIT_NOFILE)
            return soft, hard

        self.patch(resource, "getrlimit", getrlimit)
        self.patch(resource, "setrlimit", lambda which, both: changes.append(both))
        return changes

    def test_there_is_enough(self) -> None:
        """Nothing is changed."""
        for soft in (220, 100_000, resource.RLIM_INFINITY):
            changes = self.limits(soft, resource.RLIM_INFINITY)
            nodes.make_room(12)
            self.assertEqual(changes, [])

    def test_there_may_be_more(self) -> None:
        """The limit is raised to what is needed, and no further."""
        for hard in (220, 4096, resource.RLIM_INFINITY):
            changes = self.limits(219, hard)
            nodes.make_room(12)
            self.assertEqual(changes, [(220, hard)])

    def test_there_may_not(self) -> None:
        """It says what would be possible, and that is."""
        changes = self.limits(100, 219)
        error = self.assertRaises(CommandFailed, nodes.make_room, 12)
        self.assertIn("12 nodes need about 220 open files", str(error))
        self.assertIn("allows 219", str(error))
        self.assertTrue(str(error).endswith("or try --nodes 11"), error)
        nodes.make_room(11)
        self.assertEqual(changes, [(207, 219)])

    def test_not_even_for_the_fewest(self) -> None:
        """No number is named that would be refused."""
        self.limits(90, 90)
        error = self.assertRaises(CommandFailed, nodes.make_room, 12)
        self.assertTrue(str(error).endswith("raise the limit (ulimit -n)"), error)
