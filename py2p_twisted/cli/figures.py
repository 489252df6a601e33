"""
What came of simulated runs: as a table, as goals, and for programs; pure functions.

::

    scenario, phase     flood                   mesh-ext
    kill-80: 80 % of the processes die in one instant
      in flight         61.2 / 5.71 / 0.2 s      100 / 1.09 / 1.4 s
      next 2 s          96.2 / 5.10 / 0.1 s      100 / 0.43 / 1.1 s

    ok  G1   everybody gets it, after kill-80    100.000 %, 0 missing

A `Run` is one scenario in one mode with one seed. Where there are several seeds, a phase has a
line with the means and one with the worst. Goals are those of the delivery design, section 4,
as far as the runs tell; every figure comes from the runs. Times are in seconds.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from math import log2
from typing import Any, Final

from py2p_twisted.cli.report import many
from py2p_twisted.cli.table import Line, Span, clip
from py2p_twisted.simulation.history import Figures
from py2p_twisted.simulation.scenarios import MESH_EXT, Row

#: Violations of one run that are printed; ``--json`` has all that the history has kept.
MOST_SHOWN: Final = 5

_GAP = "  "


@dataclass(frozen=True, slots=True)
class Task:
    """
    What is to be played.

    :ivar scenario: its name.
    :ivar mode: how nodes deliver.
    """

    scenario: str
    mode: str
    seed: int
    nodes: int

    def __str__(self) -> str:
        return f"{self.scenario} {self.mode}"


@dataclass(frozen=True, slots=True)
class Facts:
    """
    What a run tells besides the figures of its phases.

    :ivar degree: most extended neighbours that a node had, at the end.
    :ivar alone: how long nodes were that had lost their last neighbour, until they had one
        again; those that never found one: until the end.
    :ivar outside: living nodes that never had a neighbour.
    :ivar noticed: after a power loss, the longest that a survivor had a dead neighbour;
        ``None`` where there was none.
    :ivar flooded: the 99th percentile of the times to the last delivery when the same senders flood
        the same overlay; ``None`` where that was not tried.
    """

    degree: int = 0
    alone: tuple[float, ...] = ()
    outside: int = 0
    noticed: float | None = None
    flooded: float | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """
    What came of a task.

    :ivar rows: one for each phase.
    :ivar wall: seconds that it took here.
    :ivar error: why it did not come to its end, if so.
    """

    task: Task
    rows: tuple[Row, ...] = ()
    facts: Facts = Facts()
    wall: float = 0.0
    error: str = ""

    @property
    def violations(self) -> tuple[str, ...]:
        """What was wrong in it."""
        return tuple(dict.fromkeys(text for row in self.rows for text in row.violations))

    @property
    def broken(self) -> bool:
        """Whether it broke the promise, which only mesh-ext makes; or did not come to its end."""
        return bool(self.error) or (self.task.mode == MESH_EXT and bool(self.violations))


@dataclass(slots=True)
class Results:
    """
    All that was asked for, and what has come of it so far.

    :ivar titles: the scenarios, in the order in which they are shown, and what they are.
    :ivar jobs: how many processes played.
    :ivar wall: seconds that it took.
    """

    nodes: int
    seeds: tuple[int, ...]
    modes: tuple[str, ...]
    titles: dict[str, str]
    jobs: int = 1
    wall: float = 0.0
    runs: list[Run] = field(default_factory=list)

    @property
    def planned(self) -> int:
        """How many runs there are to be."""
        return len(self.seeds) * len(self.modes) * len(self.titles)

    @property
    def complete(self) -> bool:
        """Whether all have been made."""
        return len(self.runs) == self.planned

    @property
    def ok(self) -> bool:
        """Whether all have been made, and none has broken the promise."""
        return self.complete and not any(run.broken for run in self.runs)

    def of(self, scenario: str, mode: str) -> list[Run]:
        """The runs of a scenario in a mode, by seed."""
        return sorted(
            (
                run
                for run in self.runs
                if (run.task.scenario, run.task.mode) == (scenario, mode) and not run.error
            ),
            key=lambda run: run.task.seed,
        )

    def rows(self, scenario: str, mode: str, phase: str) -> list[Row]:
        """The same phase of all of them."""
        return [row for run in self.of(scenario, mode) for row in run.rows if row.phase == phase]

    def phases(self, scenario: str) -> list[str]:
        """The phases of a scenario, as far as they are known."""
        return list(
            dict.fromkeys(
                row.phase for mode in self.modes for run in self.of(scenario, mode) for row in run.rows
            )
        )  # fmt: skip

    @property
    def verdict(self) -> str:
        """The last line."""
        mesh = [run for run in self.runs if run.task.mode == MESH_EXT]
        owed = sum(row.figures.pairs for run in mesh for row in run.rows)
        missing = sum(row.figures.missing for run in mesh for row in run.rows)
        violations = sum(len(run.violations) for run in mesh)
        unfinished = sum(bool(run.error) for run in self.runs)
        if self.complete:
            word = f"{'PASS' if self.ok else 'FAIL'}, {many(len(self.runs), 'run')}"
        else:
            word = f"INCOMPLETE, {len(self.runs)} of {many(self.planned, 'run')}"
        if unfinished:
            word += f", {unfinished} failed"
        kept = f"mesh-ext: {missing} of {owed} missing, {many(violations, 'violation')}"
        if not mesh:
            kept = "plain flooding promises nothing"
        return f"verdict: {word} in {self.wall:.0f} s; {kept}"


# --- texts ---------------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    """A time that somebody waits, roughly."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def percent(share: float, missing: float) -> str:
    """
    A coverage, which is 100 only if nothing is missing.

    :param share: in percent.
    """
    if not missing:
        return "100"
    if share >= 99.995:
        return "99.99+"
    return f"{share:.2f}" if share >= 99 else f"{share:.1f}"


# --- the table -----------------------------------------------------------------------------------

#: What one cell says: coverage, RMR and so on, which are aligned among themselves.
_Parts = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Form:
    """
    One way to write the table.

    :ivar legend: what is in a cell.
    :ivar parts: how many of the figures.
    :ivar between: what stands between them.
    """

    legend: str
    parts: int
    between: str


_LEGEND: Final = "coverage % / RMR / mean time to the last delivery"
_FORMS: Final = (
    _Form(_LEGEND + " / 99th percentile of it / hops there", 5, " / "),
    _Form(_LEGEND, 3, " / "),
    _Form(_LEGEND, 3, " "),
)


@dataclass(frozen=True, slots=True)
class _Entry:
    """
    A line of the table.

    :ivar label: what it is about.
    :ivar cells: for each mode the figures, or one text; ``None``: nothing.
    :ivar look: of the label.
    """

    label: str
    cells: tuple[tuple[_Parts | str, str] | None, ...] = ()
    look: str = ""


def table(results: Results, width: int) -> list[Line]:
    """
    All phases of all scenarios, one column for each mode.

    :param width: no line is longer.
    """
    entries = _entries(results)
    label = max((len(entry.label) for entry in entries if entry.cells), default=0)
    label = max(label, len("scenario, phase"))
    for form in _FORMS:
        columns = [_sizes(entries, number, form) for number in range(len(results.modes))]
        cells = [max(_whole(sizes, form), len(mode)) for sizes, mode in zip(columns, results.modes, strict=True)]  # fmt: skip
        if label + sum(len(_GAP) + cell for cell in cells) <= width:
            break
    head: Line = [("scenario, phase".ljust(label), "head")]
    for mode, cell in zip(results.modes, cells, strict=True):
        head.append((_GAP + mode.center(cell), "head"))
    lines: list[Line] = [head]
    for entry in entries:
        if not entry.cells:
            lines.append([(entry.label, entry.look)])
            continue
        line: Line = [(entry.label.ljust(label), entry.look)]
        for given, sizes, cell in zip(entry.cells, columns, cells, strict=True):
            text, look = _cell(given, sizes, form)
            line.append((_GAP + text.rjust(cell), look))
        lines.append(line)
    lines.append([])
    legend = f"{form.legend}; RMR: copies sent for each delivery, minus 1"
    lines += [[(text, "dim")] for text in textwrap.wrap(legend, max(10, width))]
    return [clip(line, width) for line in lines]


def _entries(results: Results) -> list[_Entry]:
    entries: list[_Entry] = []
    for name, title in results.titles.items():
        phases = results.phases(name)
        if not phases:
            continue
        entries.append(_Entry(f"{name}: {title}", look="title"))
        for phase in phases:
            columns = [results.rows(name, mode, phase) for mode in results.modes]
            entries += _phase(phase, columns, results.modes, len(results.seeds))
    return entries


def _phase(
    phase: str, columns: Sequence[list[Row]], modes: Sequence[str], seeds: int
) -> Iterable[_Entry]:
    """The lines of one phase."""

    def entry(label: str, make: Callable[[list[Row], str], Any], look: str = "dim") -> _Entry:
        cells = tuple(
            make(rows, mode) if rows else None for rows, mode in zip(columns, modes, strict=True)
        )
        return _Entry(label, cells, look)

    def figures(
        choose: Callable[[Row], Figures | None], fold: Callable[[list[Figures]], _Parts]
    ) -> Callable[[list[Row], str], Any]:
        def make(rows: list[Row], mode: str) -> Any:
            chosen = [one for row in rows if (one := choose(row)) is not None]
            if not chosen:
                return None
            lost = any(one.missing for one in chosen)
            look = ("bad" if lost else "good") if mode == MESH_EXT else ""
            parts = fold(chosen)
            if choose is _plain:
                # Copies are not counted apart.
                return (parts[0], "-", *parts[2:]), "dim"
            return parts, look

        return make

    yield entry(f"  {phase}", figures(_ours, _mean), look="")
    if seeds > 1:
        count = max(map(len, columns))
        yield entry(f"    worst of {many(count, 'seed')}", figures(_ours, _worst))
    if any(row.plain for rows in columns for row in rows):
        yield entry("    at plain 0.6 nodes", figures(_plain, _mean))
    if any(row.after is not None for rows in columns for row in rows):
        yield entry("    last one, after the end", lambda rows, _: (_time(_after(rows)), "dim"))
    names = dict.fromkeys(name for rows in columns for row in rows for name in row.notes)
    for name in names:

        def worst(rows: list[Row], _: str, name: str = name) -> Any:
            return _number(max(row.notes.get(name, 0.0) for row in rows)), "dim"

        yield entry(f"    {name}", worst)


def _ours(row: Row) -> Figures:
    return row.figures


def _plain(row: Row) -> Figures | None:
    return row.plain


def _after(rows: Iterable[Row]) -> float:
    """The latest delivery after an event, of several runs."""
    return max((row.after for row in rows if row.after is not None), default=0.0)


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s"


def _number(value: float) -> str:
    """A figure of which nothing is known but its name."""
    return f"{value:,.0f}" if value == int(value) else f"{value:.2f}"


def _mean(figures: list[Figures]) -> _Parts:
    missing = sum(one.missing for one in figures)
    pairs = sum(one.pairs for one in figures)
    count = len(figures)
    return (
        percent(100.0 * (pairs - missing) / pairs if pairs else 100.0, missing),
        f"{sum(one.rmr for one in figures) / count:.2f}",
        _time(sum(one.mean for one in figures) / count),
        _time(sum(one.p99 for one in figures) / count),
        f"{sum(one.hops for one in figures) / count:.1f}",
    )


def _worst(figures: list[Figures]) -> _Parts:
    least = min(figures, key=lambda one: one.coverage)
    return (
        percent(least.coverage, least.missing),
        f"{max(one.rmr for one in figures):.2f}",
        _time(max(one.mean for one in figures)),
        _time(max(one.p99 for one in figures)),
        f"{max(one.hops for one in figures):.1f}",
    )


def _sizes(entries: Sequence[_Entry], column: int, form: _Form) -> list[int]:
    """The widths of the figures in a column."""
    sizes = [0] * form.parts
    for entry in entries:
        given = entry.cells[column] if entry.cells else None
        if given is not None and not isinstance(given[0], str):
            sizes = [max(pair) for pair in zip(sizes, map(len, given[0][: form.parts]), strict=True)]  # fmt: skip
    return sizes


def _whole(sizes: Sequence[int], form: _Form) -> int:
    return sum(sizes) + len(form.between) * (len(sizes) - 1)


def _cell(given: tuple[_Parts | str, str] | None, sizes: Sequence[int], form: _Form) -> Span:
    if given is None:
        return "", ""
    said, look = given
    if isinstance(said, str):
        return said, look
    padded = (text.rjust(size) for text, size in zip(said, sizes, strict=False))
    return form.between.join(padded), look


# --- goals ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Goal:
    """
    A goal of the delivery design, and how far it is.

    :ivar number: its name there.
    :ivar wanted: what is to be reached.
    :ivar figure: what was.
    :ivar reached: whether that is enough.
    """

    number: str
    wanted: str
    figure: str
    reached: bool


def goals(results: Results) -> list[Goal]:
    """The goals that the runs in mesh-ext mode tell something about, each with the worst seed."""
    if MESH_EXT not in results.modes:
        return []
    judged = (_mass_kill, _partition, _redundancy, _latency, _churn_cost, _mixed, _clocks, _churn,
              _breaks, _power_loss, _overlay)  # fmt: skip
    return [goal for judge in judged if (goal := judge(results)) is not None]


def _rows_of(results: Results, *names: str) -> tuple[list[str], list[Row]]:
    """Which of these scenarios there are, and all rows of them in mesh-ext mode."""
    there = [name for name in names if results.of(name, MESH_EXT)]
    return there, [row for name in there for run in results.of(name, MESH_EXT) for row in run.rows]


def _missing(rows: Iterable[Row]) -> int:
    return sum(row.figures.missing for row in rows)


def _covered(rows: Sequence[Row]) -> str:
    """The least coverage of some rows, and what is missing in all of them, if anything."""
    missing = _missing(rows)
    least = min(row.figures.coverage for row in rows)
    # 99.9996 % is not 100.000 %.
    return f"{min(least, 99.999):.3f} %, {missing} missing" if missing else "100.000 %"


def _mass_kill(results: Results) -> Goal | None:
    names, rows = _rows_of(results, "kill-30", "kill-50", "kill-80")
    if not rows:
        return None
    shares = ", ".join(name.removeprefix("kill-") for name in names)
    return Goal("G1", f"kill {shares} %: 100 %", _covered(rows), not _missing(rows))


def _partition(results: Results) -> Goal | None:
    _, rows = _rows_of(results, "cut", "silent-cut", "long-cut")
    if not rows:
        return None
    last = _after(rows)
    return Goal(
        "G3",
        "cut: 100 %, the last <= 5 s after it",
        f"{_covered(rows)}, {_time(last)}",
        not _missing(rows) and last <= 5.0,
    )


def _redundancy(results: Results) -> Goal | None:
    rows = results.rows("steady", MESH_EXT, "5 senders")
    if not rows:
        return None
    rmr = max(row.figures.rmr for row in rows)
    return Goal("G4", "steady: RMR <= 0.05 from the 2nd message on", f"{rmr:.3f}", rmr <= 0.05)


def _latency(results: Results) -> Goal | None:
    """Plain flooding is no measure: it has another overlay, with more links."""
    pairs = [
        (row.figures.p99, run.facts.flooded)
        for run in results.of("steady", MESH_EXT)
        for row in run.rows
        if row.phase == "5 senders" and run.facts.flooded
    ]
    if not pairs:
        return None
    ours, theirs = max(pairs, key=lambda pair: pair[0] / pair[1])
    return Goal(
        "G4",
        "steady: p99 <= 1.25 x flood's on its overlay",
        f"{ours / theirs:.2f} x ({ours:.2f} s, {theirs:.2f} s)",
        ours <= 1.25 * theirs,
    )


def _churn_cost(results: Results) -> Goal | None:
    _, rows = _rows_of(results, "churn", "long-churn")
    if not rows:
        return None
    rmr = max(row.figures.rmr for row in rows)
    return Goal("G4", "churn: RMR <= 0.25", f"{rmr:.3f}", rmr <= 0.25)


def _mixed(results: Results) -> Goal | None:
    _, rows = _rows_of(results, "mixed", "mixed-kill", "mixed-cut")
    if not rows:
        return None
    least = min(row.figures.coverage for row in rows)
    return Goal("G5", "mixed: 99.9 % at extended nodes", _covered(rows), least >= 99.9)


def _clocks(results: Results) -> Goal | None:
    _, rows = _rows_of(results, "clocks")
    if not rows:
        return None
    return Goal("G8", "clocks: 100 %", _covered(rows), not _missing(rows))


def _churn(results: Results) -> Goal | None:
    _, rows = _rows_of(results, "churn", "long-churn")
    if not rows:
        return None
    runs = results.of("churn", MESH_EXT) + results.of("long-churn", MESH_EXT)
    alone = sorted(seconds for run in runs for seconds in run.facts.alone)
    outside = sum(run.facts.outside for run in runs)
    p99 = alone[min(len(alone) - 1, int(0.99 * len(alone)))] if alone else 0.0
    said = f"{_time(p99)} (of {len(alone)})" if alone else "nobody alone"
    if outside:
        said += f", {outside} never joined"
    return Goal(
        "G9",
        "churn: 100 %, alone <= 5 s (p99)",
        f"{_covered(rows)}, {said}",
        not _missing(rows) and p99 <= 5.0 and not outside,
    )


def _breaks(results: Results) -> Goal | None:
    _, rows = _rows_of(results, "break-1", "break-5")
    if not rows:
        return None
    p99 = max(row.figures.p99 for row in rows)
    return Goal(
        "G10",
        "break: 100 %, p99 <= 3 s",
        f"{_covered(rows)}, {_time(p99)}",
        not _missing(rows) and p99 <= 3.0,
    )


def _power_loss(results: Results) -> Goal | None:
    _, rows = _rows_of(results, "power-loss")
    if not rows:
        return None
    noticed = max(run.facts.noticed or 0.0 for run in results.of("power-loss", MESH_EXT))
    last = max(row.figures.most for row in rows)
    return Goal(
        "G11",
        "power loss: 100 %, seen <= 6 s, last <= 8 s",
        f"{_covered(rows)}, {_time(noticed)}, {_time(last)}",
        not _missing(rows) and noticed <= 6.0 and last <= 8.0,
    )


def _overlay(results: Results) -> Goal | None:
    runs = [run for name in results.titles for run in results.of(name, MESH_EXT)]
    door = results.of("one-door", MESH_EXT)
    if not door:
        return None
    degree = max(run.facts.degree for run in runs)
    networks = max(row.notes["networks"] for run in door for row in run.rows)
    hops = max(row.figures.most_hops for run in door for row in run.rows)
    most = 2 * log2(results.nodes)
    return Goal(
        "G14",
        f"one door: degree <= 5, 1 network, hops <= {most:.0f}",
        f"{degree}, {networks:.0f}, {hops}",
        degree <= 5 and networks == 1 and hops <= most,
    )


def goal_lines(judged: Sequence[Goal], width: int) -> list[Line]:
    """
    Goals as a list.

    :param width: no line is longer.
    """
    if not judged:
        return []
    lines: list[Line] = [[("goals of mesh-ext", "head")]]
    wanted = max(len(goal.wanted) for goal in judged)
    room = width - 9 - wanted - len(_GAP)
    for goal in judged:
        word, look = ("ok", "good") if goal.reached else ("NO", "bad")
        begin: Line = [(word, look), (f"  {goal.number:<5}", "")]
        if room >= 20:
            first, *more = textwrap.wrap(goal.figure, room) or [""]
            lines.append([*begin, (goal.wanted.ljust(wanted) + _GAP, ""), (first, look)])
            lines += [[(" " * (9 + wanted + len(_GAP)), ""), (text, look)] for text in more]
        else:
            lines.append([*begin, (goal.wanted, "")])
            lines += [[(" " * 9 + text, look)] for text in textwrap.wrap(goal.figure, max(10, width - 9))]  # fmt: skip
    return [clip(line, width) for line in lines]


# --- everything ----------------------------------------------------------------------------------


def page(results: Results, width: int) -> list[Line]:
    """
    All that is printed in the end: title, table, goals, what was wrong, verdict.

    :param width: no line is longer.
    """
    seeds = results.seeds
    which = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
    title = f"py2p simulate: {results.nodes} nodes, {which}, links of 10-100 ms, virtual clock"
    lines: list[Line] = [[(title, "title")], []]
    if any(run.rows for run in results.runs):
        lines += [*table(results, width), []]
    judged = goal_lines(goals(results), width)
    lines += [*judged, []] if judged else []
    wrong = [line for run in results.runs for line in _wrong(run, width)]
    lines += [*wrong, []] if wrong else []
    look = "good" if results.ok else "bad"
    lines += [[(text, look)] for text in textwrap.wrap(results.verdict, max(10, width))]
    return [clip(line, width) for line in lines]


def _wrong(run: Run, width: int) -> list[Line]:
    said = list(run.violations[:MOST_SHOWN])
    if len(run.violations) > MOST_SHOWN:
        said.append(f"and {len(run.violations) - MOST_SHOWN} more (--json has them)")
    if run.error:
        said.append(f"did not come to its end: {run.error}")
    task = run.task
    look = "bad" if run.broken else "dim"
    return [
        [(piece, look)]
        for text in said
        for piece in textwrap.wrap(f"{task}, seed {task.seed}: {text}", max(10, width))
    ]


def as_json(results: Results) -> dict[str, Any]:
    """Everything, in what JSON can hold."""
    order = {name: number for number, name in enumerate(results.titles)}
    modes = {mode: number for number, mode in enumerate(results.modes)}
    runs = sorted(
        results.runs,
        key=lambda run: (order[run.task.scenario], modes[run.task.mode], run.task.seed),
    )
    return {
        "ok": results.ok,
        "complete": results.complete,
        "nodes": results.nodes,
        "seeds": list(results.seeds),
        "modes": list(results.modes),
        "scenarios": list(results.titles),
        "jobs": results.jobs,
        "wall": round(results.wall, 3),
        "rows": [_row_as_json(run, row) for run in runs for row in run.rows],
        "failed": [
            {
                "scenario": run.task.scenario,
                "mode": run.task.mode,
                "seed": run.task.seed,
                "error": run.error,
            }
            for run in runs
            if run.error
        ],
        "goals": [asdict(goal) for goal in goals(results)],
    }


def _row_as_json(run: Run, row: Row) -> dict[str, Any]:
    return {
        "scenario": run.task.scenario,
        "phase": row.phase,
        "mode": run.task.mode,
        "nodes": run.task.nodes,
        "seed": run.task.seed,
        **_figures_as_json(row.figures),
        "after": _rounded(row.after),
        "violations": list(row.violations),
        "plain": None if row.plain is None else _figures_as_json(row.plain),
        "notes": {name: _rounded(value) for name, value in row.notes.items()},
        "wall": round(run.wall, 3),
    }


def _figures_as_json(figures: Figures) -> dict[str, Any]:
    return {
        "sends": figures.sends,
        "deliveries": figures.pairs - figures.missing,
        "missing": figures.missing,
        "coverage": figures.coverage,
        "rmr": _rounded(figures.rmr),
        "mean": _rounded(figures.mean),
        "p99": _rounded(figures.p99),
        "max": _rounded(figures.most),
        "hops": _rounded(figures.hops),
        "max_hops": figures.most_hops,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
