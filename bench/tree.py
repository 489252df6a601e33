"""
``python -m bench tree``: broadcast trees beside plain flooding, on one and the same overlay.

Sixteen extended nodes in one process grow an overlay; sixteen plain ones in another process are
linked exactly as the active views of those are. Then they take turns, transfer by transfer::

    case          payload   senders   pace
    64 B, one        64 B      1      150 messages a second, one at a time
    ...                        5      the same, in turn
    64 B, flat out   64 B      1      as many as 400 on their way allow
    16 KB, ...                        the same three

What is compared is taken within a round, between neighbours in time, and the median over the
rounds is what counts; see `bench.report`. All bytes that come in over any connection are
counted: payloads, announcements, prunes, pings. A transfer in which anybody has not got every
message exactly once gives no figures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.report import Progress, Spread
from bench.runner import Case, Process, TransferFailed, start

#: Seconds that a transfer may take.
_LIMIT: Final = 40.0

#: Messages a second of a paced transfer: of all senders together.
_RATE: Final = 150.0

#: Messages of each origin while its tree grows, which are not measured.
_WARM: Final = 3

EXTENDED: Final = "extended"
FLOODING: Final = "flooding"


@dataclass(frozen=True)
class Task:
    """
    One kind of transfer.

    :ivar rate: messages a second; ``None``: as many as ``window`` on their way allows.
    :ivar cpu_mark: the promise for CPU per delivery, as a share of flooding's.
    :ivar bytes_mark: the same for bytes on the wire.
    """

    name: str
    size: int
    senders: int
    count: int
    rate: float | None = None
    window: int = 0
    cpu_mark: float | None = None
    bytes_mark: float | None = None

    def order(self) -> str:
        """What the members are told."""
        # Spread over the mesh; the numbers say in which order nodes have joined.
        origins = [3, 0, 6, 9, 12][: self.senders]
        order = {
            "size": self.size,
            "origins": origins,
            "count": self.count,
            "rate": self.rate,
            "window": self.window,
            "warm": _WARM,
        }
        return json.dumps(order)


_KIB: Final = 1024

TASKS: Final = (
    Task("64 B, one sender", 64, 1, 90, rate=_RATE, cpu_mark=1.0),
    Task("64 B, five senders", 64, 5, 90, rate=_RATE, cpu_mark=1.0),
    Task("64 B, one sender, flat out", 64, 1, 4_000, window=400, cpu_mark=1.0),
    Task("16 KB, one sender", 16 * _KIB, 1, 60, rate=_RATE, cpu_mark=1.0, bytes_mark=0.4),
    Task("16 KB, five senders", 16 * _KIB, 5, 60, rate=_RATE, cpu_mark=1.0, bytes_mark=0.4),
    Task("16 KB, one sender, flat out", 16 * _KIB, 1, 200, window=16, cpu_mark=1.0, bytes_mark=0.4),
)


@dataclass(frozen=True)
class Sample:
    """
    What one transfer showed, for each delivery but ``rate``.

    :ivar cpu: microseconds of processor time of the whole process.
    :ivar wire: bytes that came in on all connections.
    :ivar duplicates: frames that had come before.
    :ivar rate: deliveries a second.
    """

    cpu: float
    wire: float
    frames: float
    duplicates: float
    prunes: float
    grafts: float
    rate: float

    @classmethod
    def of(cls, result: dict[str, Any]) -> Sample:
        """
        Take what the members have counted.

        :raises TransferFailed: something got lost, or came twice.
        """
        number = result["expected"]
        if not result["delivered"] == result["distinct"] == number:
            raise TransferFailed(
                f"coverage {result['distinct'] / number:.3%}: {result['distinct']:,} of {number:,}"
                f" deliveries, in {result['delivered']:,} receipts"
            )
        return cls(
            result["cpu"] / number * 1e6,
            result["bytes"] / number,
            result["frames"] / number,
            result["duplicates"] / number,
            result["prunes"] / number,
            result["grafts"] / number,
            number / result["seconds"],
        )


#: What is shown of a sample: title, value, decimal places.
_COLUMNS: Final[tuple[tuple[str, Callable[[Sample], float], int], ...]] = (
    ("CPU us", lambda sample: sample.cpu, 1),
    ("wire bytes", lambda sample: sample.wire, 0),
    ("frames", lambda sample: sample.frames, 2),
    ("duplicates", lambda sample: sample.duplicates, 3),
    ("deliveries/s", lambda sample: sample.rate, 0),
)


@dataclass
class Series:
    """All rounds of one task."""

    task: Task
    samples: dict[str, dict[int, Sample]] = field(
        default_factory=lambda: {EXTENDED: {}, FLOODING: {}}
    )

    def ratio(self, of: Callable[[Sample], float]) -> Spread | None:
        """Extended over flooding, round by round."""
        extended, flooding = self.samples[EXTENDED], self.samples[FLOODING]
        both = sorted(extended.keys() & flooding.keys())
        ratios = [of(extended[number]) / of(flooding[number]) for number in both]
        return Spread.of(ratios) if ratios else None


@dataclass
class TreeReport:
    """Everything a run has found."""

    rounds: int
    edges: list[list[int]]
    series: list[Series]
    reshaped: int = 0
    failures: list[str] = field(default_factory=list)

    def marks(self) -> list[tuple[str, float, float | None]]:
        """The promises: what, at most, and what was measured."""
        found: list[tuple[str, float, float | None]] = []
        for series in self.series:
            task = series.task
            for what, mark, of in (
                ("CPU", task.cpu_mark, _COLUMNS[0][1]),
                ("wire bytes", task.bytes_mark, _COLUMNS[1][1]),
            ):
                if mark is not None:
                    ratio = series.ratio(of)
                    median = ratio.median if ratio else None
                    found.append((f"{what}, {task.name}", mark, median))
        return found

    def text(self) -> str:
        """Write tables and verdicts."""
        degree = 2 * len(self.edges) / (1 + max(max(edge) for edge in self.edges))
        lines = [
            f"tree: {len(self.edges)} links, {degree:.1f} a node;"
            f" per delivery, {self.rounds} rounds: median (lowest-highest)"
        ]
        for series in self.series:
            task = series.task
            pace = f"{task.rate:g} a second" if task.rate else f"{task.window} on their way"
            lines += ["", f"{task.name}: {task.count:,} messages, {pace}"]
            rows = [["", *(title for title, _, _ in _COLUMNS)]]
            for mode, samples in series.samples.items():
                cells = [
                    Spread.of(map(of, samples.values())).text(places) if samples else "-"
                    for _, of, places in _COLUMNS
                ]
                rows.append([mode, *cells])
            ratios = [series.ratio(of) for _, of, _ in _COLUMNS[:3]]
            blanks = [""] * (len(_COLUMNS) - len(ratios))
            rows.append(["ratio", *(ratio.text(2) if ratio else "-" for ratio in ratios), *blanks])
            widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
            for first, *rest in rows:
                cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
                lines.append("  ".join(["", first.ljust(widths[0]), *cells]).rstrip())
        lines.append("")
        for what, mark, ratio in self.marks():
            verdict = "not measured" if ratio is None else f"{ratio:.2f} "
            if ratio is not None:
                verdict += "pass" if ratio <= mark else "miss"
            lines.append(f"mark      {what}, extended / flooding, at most {mark:g}: {verdict}")
        if self.reshaped:
            lines.append(f"note      the overlay changed during {self.reshaped} transfers")
        lines += [f"FAILED    {failure}" for failure in self.failures]
        return "\n".join(lines)

    def marks_kept(self) -> bool:
        """Whether every mark that was measured is reached."""
        return all(ratio is None or ratio <= mark for _, mark, ratio in self.marks())

    def document(self) -> dict[str, Any]:
        """Describe the run as what JSON can hold."""
        return {
            "benchmark": "tree",
            "rounds": self.rounds,
            "edges": self.edges,
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "series": [
                {
                    "task": asdict(series.task),
                    "samples": [
                        {"mode": mode, "round": number, **asdict(sample)}
                        for mode, samples in series.samples.items()
                        for number, sample in sorted(samples.items())
                    ],
                    "medians": {
                        mode: {
                            name: statistics.median(getattr(one, name) for one in samples.values())
                            for name in Sample.__dataclass_fields__
                        }
                        for mode, samples in series.samples.items()
                        if samples
                    },
                }
                for series in self.series
            ],
            "marks": [
                {"name": what, "at_most": mark, "measured": ratio}
                for what, mark, ratio in self.marks()
            ],
            "overlay_changes": self.reshaped,
            "failures": self.failures,
        }


async def measure(rounds: int, tasks: Sequence[Task], progress: Progress) -> TreeReport:
    """
    Run every round of every task; failures of transfers are noted, not raised.

    :raises TransferFailed: there is no mesh to measure.
    """
    case = Case("ours", "bench.members")
    progress.note("growing an overlay")
    async with start(case, EXTENDED) as extended:
        edges = (await extended.hear("ready"))["edges"]
        async with start(case, FLOODING, "--edges", json.dumps(edges)) as flooding:
            same = (await flooding.hear("ready"))["edges"]
            if same != edges:
                raise TransferFailed("the plain nodes are not linked as the extended ones are")
            report = TreeReport(rounds, edges, [Series(task) for task in tasks])
            modes = [(EXTENDED, extended), (FLOODING, flooding)]
            for number in range(1, rounds + 1):
                for series in report.series:
                    # Each goes first in every other round.
                    for mode, members in modes if number % 2 else reversed(modes):
                        what = f"round {number} of {rounds}, {series.task.name}, {mode}:"
                        await _one(members, series, mode, number, what, report, progress)
    return report


async def _one(
    members: Process,
    series: Series,
    mode: str,
    number: int,
    what: str,
    report: TreeReport,
    progress: Progress,
) -> None:
    progress.begin(what, series.task.count, time.monotonic())
    members.tell(series.task.order())
    result = await members.hear("result", within=_LIMIT)
    report.reshaped += result["reshaped"]
    try:
        sample = series.samples[mode][number] = Sample.of(result)
    except TransferFailed as failure:
        report.failures.append(f"{what} {failure}")
        progress.end(f"FAILED, {failure}")
    else:
        progress.end(f"{sample.cpu:.1f} us of CPU and {sample.wire:,.0f} bytes a delivery")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench tree",
        description="Broadcast trees beside flooding, on one overlay of 16 nodes.",
        epilog="bench/README.md says what the figures mean.",
    )
    parser.add_argument("--rounds", type=int, choices=range(1, 100), metavar="N", default=5)
    parser.add_argument("--task", action="append", metavar="TEXT", help="only those named so")
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples to FILE")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a mark is missed")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, report, and tell the exit status, as `bench.__main__` does."""
    options = _parse(arguments)
    wanted = options.task or [""]
    tasks = [task for task in TASKS if any(text in task.name for text in wanted)]
    try:
        report = asyncio.run(measure(1 if options.quick else options.rounds, tasks, Progress()))
    except TransferFailed as failure:
        print(f"FAILED    {failure}{failure.details}")
        return 3
    except KeyboardInterrupt:
        print("interrupted, nothing to report", file=sys.stderr)
        return 130
    print(report.text())
    if options.json is not None:
        options.json.write_text(json.dumps(report.document(), indent=2) + "\n", encoding="utf-8")
    if report.failures:
        return 3
    return 1 if options.strict and not report.marks_kept() else 0


if __name__ == "__main__":
    sys.exit(main())
