"""
``py2p simulate``: the table of the delivery design, from the nodes that ship.

Every scenario is played by simulated machines that run the product's own core, on a virtual
clock; it depends on nothing but its name, mode, seed and number of nodes. So they are played in
several processes at once, each in one of its own, the longest first::

    tasks --> play --> pipe: ("progress", ...), ..., ("done", run) --> board, results

With one job all is played in this process. Times are in seconds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from difflib import get_close_matches
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

from py2p_twisted import __version__
from py2p_twisted.cli.figures import Facts, Results, Run, Task, as_json, duration, page
from py2p_twisted.cli.table import Line, clip, paint
from py2p_twisted.cli.terminal import Screen, Size, can_redraw, size_of, wants_colour
from py2p_twisted.simulation.history import Figures
from py2p_twisted.simulation.network import Simulation
from py2p_twisted.simulation.scenarios import (
    MESH_EXT,
    MODES,
    SCENARIOS,
    Scenario,
    Stage,
    join_interval,
)

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

FEWEST = 8
MOST = 20_000
NODES = 100
MOST_SEEDS = 1000
MOST_JOBS = 256

#: What is not played unless it is asked for: it takes long, or shows something else.
NOT_BY_DEFAULT: Final = ("long-churn", "long-cut", "receipts", "slow")

#: How long scenarios take compared with each other, in both modes. Only estimates and the order
#: in which they are begun come from it. Source: CPU seconds with 128 nodes.
COSTS: Final[dict[str, tuple[float, float]]] = {
    "steady": (1.5, 18.0),
    "kill-30": (2.2, 7.8),
    "kill-50": (1.6, 7.5),
    "kill-80": (1.3, 6.3),
    "power-loss": (1.3, 6.8),
    "churn": (3.1, 21.0),
    "break-1": (3.0, 17.6),
    "break-5": (12.6, 62.9),
    "cut": (3.0, 13.5),
    "silent-cut": (2.4, 13.5),
    "mixed": (3.0, 8.0),
    "mixed-kill": (1.0, 3.0),
    "mixed-cut": (2.5, 6.0),
    "clocks": (1.5, 6.0),
    "one-door": (1.2, 5.0),
}
#: The same for others, for each virtual second.
COST_OF_A_SECOND: Final = (0.02, 0.12)

#: Seconds between two drawings, two reports of a process, and two lines of a long run.
REDRAW: Final = 0.2
REPORT: Final = 0.25
STILL_PLAYING: Final = 30.0

DESCRIPTION = """\
Play what can happen to a network - kills, cuts, churn, broken links - with the
very nodes that ship, on a virtual clock, and print what share of messages
reached everybody, at what cost and how fast: with plain flooding (our nodes
without their extension) and with mesh-ext, side by side. The same seed gives
the same figures.

Ends with exit code 0 only if mesh-ext has kept its promise in every run: every
message at everybody who is owed it, exactly once, no container over its cap.
Goals below the table that are not reached do not change the exit code.

With --json one object is written to standard output: version, ok, complete,
nodes, seeds, modes, scenarios, jobs, wall, and the lists rows, failed and
goals. A row has scenario, phase, mode, nodes, seed; sends, deliveries,
missing, coverage (percent), rmr (copies sent for each delivery, minus 1);
mean, p99 and max (of the seconds to the last delivery of a message), hops and
max_hops (to there); after (seconds from the end of a cut to the last delivery,
or null); violations (texts, of the whole run); plain (the same figures at
plain 0.6 nodes, or null); notes (further figures by name); and wall (seconds
that the run took).
"""

EXAMPLES = """\
examples:
  py2p simulate
  py2p simulate --scenario kill-80 --scenario cut --seeds 20 --mode mesh-ext
  py2p simulate --nodes 10000 --scenario kill-80 --jobs 1
  py2p simulate --json > figures.json
"""


def add_to(commands: Any) -> None:
    """Add the command to a parser's commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "simulate",
        help="kill, cut and churn a simulated network of the nodes that ship, and count",
        description=DESCRIPTION,
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "--nodes",
        type=whole("a number", FEWEST, MOST),
        default=NODES,
        metavar="N",
        help=f"how many nodes, from {FEWEST} to {MOST} (default: {NODES})",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=1,
        metavar="SEED",
        help="a number that all chance comes from (default: 1)",
    )
    parser.add_argument(
        "--seeds",
        type=whole("a number", 1, MOST_SEEDS),
        default=1,
        metavar="K",
        help="play everything with K seeds, from --seed on, and print means and the worst",
    )
    parser.add_argument(
        "--scenario",
        type=scenario_name,
        action="append",
        metavar="NAME",
        help="what to play, see --list; can be given several times; all: everything "
        f"(default: everything but {', '.join(NOT_BY_DEFAULT)})",
    )
    parser.add_argument(
        "--mode",
        choices=MODES,
        action="append",
        help="how nodes deliver; can be given several times (default: both)",
    )
    parser.add_argument(
        "--jobs",
        type=whole("a number", 1, MOST_JOBS),
        metavar="J",
        help="how many processes play at once; figures do not depend on it "
        "(default: one for each processor)",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="write one JSON object to standard output at the end; progress goes to standard error",
    )
    parser.add_argument("--list", action="store_true", help="print the scenarios, and end")
    parser.set_defaults(run=run)


def whole(what: str, least: int, most: int) -> Callable[[str], int]:
    """A converter for whole numbers within limits, as `argparse` wants it."""

    def convert(text: str) -> int:
        if text.isdecimal() and text.isascii() and least <= int(text) <= most:
            return int(text)
        raise argparse.ArgumentTypeError(f"expected {what} from {least} to {most}, not {text!r}")

    return convert


def scenario_name(text: str) -> str:
    """
    The name of a scenario as it was typed.

    :raises argparse.ArgumentTypeError: there is none of that name.
    """
    names = [*scenarios(), "all"]
    if text in names:
        return text
    close = get_close_matches(text, names, 1, 0.4)
    hint = f"did you mean {close[0]}?" if close else "py2p simulate --list names them"
    raise argparse.ArgumentTypeError(f"there is no scenario {text!r}; {hint}")


def run(options: argparse.Namespace) -> int:
    """
    Play what was asked for, and print what came of it.

    :return: 0 if mesh-ext has kept its promise, else 1.
    :raises Interrupted: a signal has ended it; what was finished is printed.
    """
    if options.list:
        print("\n".join(listing()))
        return 0
    results, tasks = plan(options)
    began = time.perf_counter()
    results.jobs = min(options.jobs or processors(), len(tasks))
    caught = 0
    with closing(_board(tasks, results.jobs)) as board:
        try:
            with sigterm_raises(), closing(perform(tasks, results.jobs, board)) as runs:
                for one in runs:
                    results.runs.append(one)
        except KeyboardInterrupt:
            caught = signal.SIGINT
        except _Terminated:
            caught = signal.SIGTERM
    results.wall = time.perf_counter() - began
    if options.json:
        print(json.dumps({"version": __version__, **as_json(results)}, indent=2))
    elif results.runs or not caught:
        show(page(results, size_of(sys.stdout).columns - 1), sys.stdout)
    if caught:
        from py2p_twisted.cli.running import Interrupted

        raise Interrupted(caught)
    return 0 if results.ok else 1


def plan(options: argparse.Namespace) -> tuple[Results, list[Task]]:
    """What has to be played, the longest first."""
    there = scenarios()
    asked = list(dict.fromkeys(options.scenario or ()))
    if "all" in asked:
        asked = list(there)
    names = asked or [name for name in there if name not in NOT_BY_DEFAULT]
    results = Results(
        nodes=options.nodes,
        seeds=tuple(range(options.seed, options.seed + options.seeds)),
        modes=tuple(mode for mode in MODES if mode in (options.mode or MODES)),
        titles={name: there[name].title for name in names},
    )
    tasks = [
        Task(name, mode, seed, options.nodes)
        for name in names
        for seed in results.seeds
        for mode in results.modes
    ]
    return results, sorted(tasks, key=cost, reverse=True)


def listing() -> list[str]:
    """The scenarios, a line for each."""
    there = scenarios()
    size = max(map(len, there))
    return [
        f"{name:{size}}  {scenario.title}" + (" (not by default)" * (name in NOT_BY_DEFAULT))
        for name, scenario in there.items()
    ]


def show(lines: Sequence[Line], stream: TextIO) -> None:
    """Print lines, in colour where that is welcome."""
    colour = can_redraw(stream, os.environ) and wants_colour(os.environ)
    for line in lines:
        print(paint(line, colour=colour), file=stream)


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# --- what is played ------------------------------------------------------------------------------


def scenarios() -> dict[str, Scenario]:
    """All scenarios by name: those of the design, and one for the overlay's own goal."""
    door = Scenario("one-door", "all nodes join through one and the same", _one_door, 12.0)
    return {**SCENARIOS, door.name: door}


def _one_door(stage: Stage) -> None:
    interval = join_interval(stage.nodes)
    machines = stage.sim.plan(stage.nodes, bootstraps=1, interval=interval, hub=True)
    # Goal G14: ten seconds after the last join there is one network.
    stage.settle(interval * stage.nodes + 10.0)
    count = networks(stage.sim)
    stage.now_playing = "any sender"
    sent = stage.send(stage.pick(machines, 60), count=60, seconds=12.0)
    stage.settle(5.0)
    stage.phase("10 s after the last join", sent, networks=float(count))


def cost(task: Task) -> float:
    """How long a task takes, compared with others of as many nodes."""
    which = MODES.index(task.mode)
    if task.scenario in COSTS:
        return COSTS[task.scenario][which]
    scenario = scenarios()[task.scenario]
    return (join_interval(task.nodes) * task.nodes + 15.0 + scenario.seconds) * COST_OF_A_SECOND[which]  # fmt: skip


#: Is told the phase, virtual seconds so far, and the share of all (0 to 1).
Told = Callable[[str, float, float], object]


def play(task: Task, progress: Told | None = None) -> Run:
    """Play a scenario to its end."""
    began = time.perf_counter()
    scenario = scenarios()[task.scenario]
    facts = Facts()

    def observed(stage: Stage) -> None:
        nonlocal facts
        scenario.play(stage)
        facts = observe(stage.sim)

    rows = replace(scenario, play=observed).run(task.nodes, task.seed, task.mode, progress)
    if task.scenario == "steady" and task.mode == MESH_EXT:
        facts = replace(facts, flooded=flooding(task, progress).p99)
    return Run(task, tuple(rows), facts, time.perf_counter() - began)


def flooding(task: Task, progress: Told | None = None) -> Figures:
    """What the first phase comes to with trees that are forgotten at once: flooding, but here."""
    scenario = scenarios()[task.scenario]

    def without_trees(stage: Stage) -> None:
        stage.sim.settings = replace(stage.sim.settings, tree_age=0.0, tree_rest=0.0)
        scenario.play(stage)

    again = replace(scenario, play=without_trees)
    return again.run(task.nodes, task.seed, task.mode, progress)[0].figures


def observe(sim: Simulation) -> Facts:
    """What a network tells at the end of a run."""
    ours = [machine for machine in sim.alive if machine.ours]
    peers: dict[int, set[int]] = {machine.index: set() for machine in sim.machines}
    since: dict[int, float] = {}
    lost: dict[int, float] = {}
    alone: list[float] = []
    noticed: float | None = None
    for when, what, index, other, _ in sim.history.events:
        if what == "up":
            peers[index].add(other)
            if index in since:
                alone.append(when - since.pop(index))
        elif what == "down":
            peers[index].discard(other)
            if other in lost:
                noticed = max(noticed or 0.0, when - lost[other])
            if not peers[index]:
                since.setdefault(index, when)
        elif what == "power loss":
            lost[index] = when
            noticed = noticed or 0.0
    here = {machine.index for machine in ours}
    alone += [sim.now - when for index, when in since.items() if index in here]
    for index in here:
        for other in peers[index] & lost.keys():
            noticed = max(noticed or 0.0, sim.now - lost[other])
    return Facts(
        degree=max((machine.sizes().get("active view", (0, 0))[0] for machine in ours), default=0),
        alone=tuple(alone),
        outside=sum(machine.joined is None for machine in ours),
        noticed=noticed,
    )


def networks(sim: Simulation) -> int:
    """How many networks there are that know nothing of each other."""
    left = {machine.index for machine in sim.alive}
    both: dict[int, set[int]] = {index: set() for index in left}
    for _, what, index, other, _ in sim.history.events:
        if index in left and other in left and what in ("up", "down"):
            change = set.add if what == "up" else set.discard
            change(both[index], other)
            change(both[other], index)
    count = 0
    while left:
        count += 1
        found = [left.pop()]
        while found:
            more = both[found.pop()] & left
            left -= more
            found += more
    return count


# --- in how many processes -----------------------------------------------------------------------


class _Terminated(BaseException):
    """SIGTERM has come; not an error that anything in between would deal with."""


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Have SIGTERM end what is done, as Ctrl-C does."""

    def told(_number: int, _frame: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, told)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def perform(tasks: Sequence[Task], jobs: int, board: Board) -> Generator[Run, None, None]:
    """
    Play all tasks.

    :param jobs: how many processes play at once; 1: this one.
    :return: what came of each, in the order in which they ended.
    """
    if jobs > 1:
        yield from _in_processes(tasks, jobs, board)
        return
    for task in tasks:
        board.begun(task)
        one = _safely(task, lambda *told, task=task: board.told(task, *told))
        board.ended(one)
        yield one


def _safely(task: Task, progress: Told) -> Run:
    """Play, and take a mistake for what came of it: the others are not in vain."""
    try:
        return play(task, progress)
    except Exception as error:  # noqa: BLE001
        return Run(task, error=f"{type(error).__name__}: {error}")


def _in_processes(tasks: Sequence[Task], jobs: int, board: Board) -> Generator[Run, None, None]:
    context = multiprocessing.get_context("spawn")
    waiting = deque(tasks)
    playing: dict[Connection, tuple[Task, SpawnProcess]] = {}
    try:
        while waiting or playing:
            while waiting and len(playing) < jobs:
                task = waiting.popleft()
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_work, args=(theirs, task), daemon=True)
                with _deaf():
                    process.start()
                theirs.close()
                playing[ours] = task, process
                board.begun(task)
            for pipe in cast(list[Connection], wait(list(playing), REDRAW)):
                task, process = playing[pipe]
                try:
                    told = pipe.recv()
                except EOFError:
                    process.join()
                    told = Run(task, error=_ending(process.exitcode))
                if not isinstance(told, Run):
                    board.told(task, *told)
                    continue
                del playing[pipe]
                pipe.close()
                process.join()
                board.ended(told)
                yield told
            board.look()
    finally:
        for _, process in playing.values():
            process.kill()
        for pipe, (_, process) in playing.items():
            process.join()
            pipe.close()


def _ending(code: int | None) -> str:
    text = f"its process ended with exit code {code}"
    if code is not None and code < 0:
        text = f"its process was killed by signal {-code}; if memory is short, try --jobs 1"
    return text


@contextmanager
def _deaf() -> Iterator[None]:
    """
    Have processes that are started ignore Ctrl-C from their first moment: a terminal sends it to
    all, but only this one answers.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _work(pipe: Connection, task: Task) -> None:
    """Play one task in a process of its own, and tell through a pipe."""
    said = float("-inf")

    def progress(phase: str, now: float, share: float) -> None:
        nonlocal said
        moment = time.monotonic()
        if moment - said >= REPORT:
            said = moment
            pipe.send((phase, now, share))

    try:
        pipe.send(_safely(task, progress))
    except BrokenPipeError:
        # Nobody waits for it any more.
        return


# --- who is told meanwhile -----------------------------------------------------------------------


class Board:
    """
    How far everything is. It says nothing; see `LiveBoard`, `LineBoard`.

    :ivar playing: phase, virtual seconds and share of what is being played.
    :ivar count: how many tasks have ended.
    """

    def __init__(self, tasks: Sequence[Task], jobs: int, now: Callable[[], float]) -> None:
        self.playing: dict[Task, tuple[str, float, float]] = {}
        self.count = 0
        self._tasks = len(tasks)
        self._jobs = jobs
        self._now = now
        self._began = now()
        self._all = sum(map(cost, tasks))
        self._done = 0.0

    # --- what happens ----------------------------------------------------------------

    def begun(self, task: Task) -> None:
        """It is being played from now on."""
        self.playing[task] = "starting", 0.0, 0.0
        self.look()

    def told(self, task: Task, phase: str, seconds: float, share: float) -> None:
        """It has come so far."""
        self.playing[task] = phase, seconds, share
        self.look()

    def ended(self, run: Run) -> None:
        """It has been played."""
        self.playing.pop(run.task)
        self.count += 1
        self._done += cost(run.task)

    def look(self) -> None:
        """Show it, if that is worth while."""

    def close(self) -> None:
        """It is over."""

    # --- what it amounts to -------------------------------------------------------------

    @property
    def elapsed(self) -> float:
        """Seconds so far."""
        return self._now() - self._began

    @property
    def share(self) -> float:
        """How much of all has been done, by its cost."""
        under_way = sum(cost(task) * share for task, (_, _, share) in self.playing.items())
        return min(1.0, (self._done + under_way) / self._all) if self._all else 1.0

    @property
    def rest(self) -> float | None:
        """How long it will still take, about; ``None``: that cannot be said yet."""
        share = self.share
        if share < 0.01 or self.elapsed < 1.0:
            return None
        for_all = self.elapsed / share
        # At the end some of the processes have nothing to do.
        longest = max(
            (cost(task) * (1 - share) for task, (_, _, share) in self.playing.items()), default=0.0
        )
        return max(for_all - self.elapsed, for_all * longest * self._jobs / self._all)

    def summary(self) -> str:
        """Percent, tasks, and the estimated rest."""
        rest = self.rest
        text = f"{100 * self.share:3.0f} %  {self.count} of {self._tasks} runs"
        return (
            text if rest is None or self.count == self._tasks else f"{text}  {duration(rest)} left"
        )

    def details(self, *, phases: bool = True) -> str:
        """What is being played, and at which virtual second it is."""
        return ", ".join(
            f"{task} {seconds:.0f} s" + f" ({phase})" * phases
            for task, (phase, seconds, _) in self.playing.items()
        )


class LiveBoard(Board):
    """One line of a terminal that is drawn again and again."""

    def __init__(
        self,
        tasks: Sequence[Task],
        jobs: int,
        now: Callable[[], float],
        stream: TextIO,
        size: Size,
    ) -> None:
        super().__init__(tasks, jobs, now)
        self._screen = Screen(stream, size, colour=False)
        self._size = size
        self._drawn = float("-inf")

    def look(self) -> None:
        """Draw it again."""
        now = self._now()
        if now - self._drawn >= REDRAW:
            self._drawn = now
            width = self._size().columns - 1
            text = f"{self.summary()}  {self.details()}"
            if len(text) > width:
                text = f"{self.summary()}  {self.details(phases=False)}"
            self._screen.draw([clip([(text, "")], width)])

    def close(self) -> None:
        """Take the line away: what comes after it is worth more."""
        self._screen.draw([])
        self._screen.close()


class LineBoard(Board):
    """A line for every run that has ended, and now and then one in between."""

    def __init__(
        self, tasks: Sequence[Task], jobs: int, now: Callable[[], float], stream: TextIO
    ) -> None:
        super().__init__(tasks, jobs, now)
        self._stream = stream
        self._said = now()

    def ended(self, run: Run) -> None:
        """Say so."""
        super().ended(run)
        what = f"{run.task}, seed {run.task.seed}"
        self._say(f"{what}: {'NO, ' + run.error if run.error else duration(run.wall)}")

    def look(self) -> None:
        """Say how far a long run has come."""
        if self._now() - self._said >= STILL_PLAYING:
            self._say(self.details())

    def _say(self, text: str) -> None:
        self._said = self._now()
        print(f"{self.elapsed:7.1f} s  {self.summary()}  {text}", file=self._stream, flush=True)


def _board(tasks: Sequence[Task], jobs: int) -> Board:
    now = time.perf_counter
    stream = sys.stderr
    if can_redraw(stream, os.environ):
        return LiveBoard(tasks, jobs, now, stream, lambda: size_of(stream))
    return LineBoard(tasks, jobs, now, stream)
