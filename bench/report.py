"""
Turn samples into medians, ratios, verdicts, a table and JSON.

A machine that others use too changes its speed from minute to minute, by a
factor of two and more. So a ratio is taken within each round, between
transfers that ran seconds apart, and what is reported is the median of these
ratios with the lowest and the highest; it need not equal the ratio of the two
medians in the table.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from bench.runner import REFERENCE_VERSION, Sample


@dataclass(frozen=True)
class Spread:
    """A median, and how far the rounds lie apart."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Take the spread of at least one value."""
        ordered = sorted(values)
        return cls(statistics.median(ordered), ordered[0], ordered[-1])

    def text(self, places: int) -> str:
        """Write it as ``median (low-high)``, or alone where all are one."""
        if self.low == self.high:
            return f"{self.median:,.{places}f}"
        shown = [f"{value:,.{places}f}" for value in (self.median, self.low, self.high)]
        return f"{shown[0]} ({shown[1]}-{shown[2]})"


@dataclass
class Series:
    """
    All rounds of one case at one size.

    :ivar samples: by round; a round that failed has none.
    """

    case: str
    size: int
    count: int
    window: int | None
    samples: dict[int, Sample] = field(default_factory=dict)


@dataclass(frozen=True)
class Ratio:
    """
    One case beside another, at one size.

    :ivar mark: what it should reach at least, where that was promised.
    """

    name: str
    size: int
    spread: Spread
    mark: float | None

    @property
    def passed(self) -> bool:
        """Whether the promise is kept; true where there is none."""
        return self.mark is None or self.spread.median >= self.mark


#: The first marks, and the payload size that they were promised for.
MARKED_SIZE = 64
CEILING_SHARE = "ceiling share (bare CPU / ours CPU)"
CEILING_MARK = 0.35
OVER_PY2P = "rate over py2p, acknowledged (ours / py2p)"
PY2P_MARK = 50.0


@dataclass
class Report:
    """
    Everything a run has found.

    :ivar skipped: cases that could not run here, with the reason.
    :ivar failures: transfers that gave no figures, with the reason.
    """

    rounds: int
    series: list[Series] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def sizes(self) -> list[int]:
        """Tell the measured payload sizes, in the order they were asked for."""
        return list(dict.fromkeys(series.size for series in self.series))

    def _samples(self, case: str, size: int) -> dict[int, Sample]:
        for series in self.series:
            if (series.case, series.size) == (case, size):
                return series.samples
        return {}

    def ratios(self) -> Iterator[Ratio]:
        """Compare ours with the others, round by round."""
        for size in self.sizes():
            marked = size == MARKED_SIZE
            ours = self._samples("ours", size)
            bare = self._samples("bare", size)
            py2p = self._samples("py2p", size)
            shares = [bare[n].cpu / ours[n].cpu for n in ours.keys() & bare.keys()]
            if shares:
                mark = CEILING_MARK if marked else None
                yield Ratio(CEILING_SHARE, size, Spread.of(shares), mark)
            times = [ours[n].rate / py2p[n].rate for n in ours.keys() & py2p.keys()]
            if times:
                mark = PY2P_MARK if marked else None
                yield Ratio(OVER_PY2P, size, Spread.of(times), mark)

    def marks_kept(self) -> bool:
        """Whether every mark that was measured is reached."""
        return all(ratio.passed for ratio in self.ratios())

    # For people

    def text(self) -> str:
        """Write tables and verdicts."""
        lines: list[str] = []
        for size in self.sizes():
            lines += ["", *self._table(size)]
        lines += ["", *self._verdicts()]
        lines += [f"skipped   {case}: {reason}" for case, reason in self.skipped.items()]
        lines += [f"FAILED    {failure}" for failure in self.failures]
        return "\n".join(lines)

    def _table(self, size: int) -> list[str]:
        rows = [
            (
                "case",
                "messages",
                "messages/s",
                "CPU us/message",
                "sender",
                "receiver",
                "coverage",
            )
        ]
        for series in self.series:
            if series.size != size:
                continue
            samples = list(series.samples.values())
            count = f"{series.count:,}"
            if not samples:
                rows.append((series.case, count, "no figures", "", "", "", "see below"))
                continue
            whole = len(samples) == self.rounds
            rows.append(
                (
                    series.case,
                    count,
                    Spread.of(sample.rate for sample in samples).text(0),
                    Spread.of(sample.cpu for sample in samples).text(2),
                    f"{statistics.median(sample.sender_cpu for sample in samples):,.2f}",
                    f"{statistics.median(sample.receiver_cpu for sample in samples):,.2f}",
                    "100 %" if whole else f"{len(samples)} of {self.rounds} rounds",
                )
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        rounds = "1 round" if self.rounds == 1 else f"{self.rounds} rounds: median (lowest-highest)"
        lines = [f"pair, {size:,} B payload, {rounds}"]
        for row in rows:
            cells = [row[0].ljust(widths[0])]
            cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
            lines.append("  " + "  ".join(cells).rstrip())
        for ratio in self.ratios():
            if ratio.size == size:
                lines.append(f"  {ratio.name}: {ratio.spread.text(2)}")
        return lines

    def _verdicts(self) -> list[str]:
        lines = []
        found = {ratio.name: ratio for ratio in self.ratios() if ratio.mark is not None}
        for name, mark in ((CEILING_SHARE, CEILING_MARK), (OVER_PY2P, PY2P_MARK)):
            promise = f"{name} at {MARKED_SIZE} B, at least {mark:g}"
            ratio = found.get(name)
            if ratio is None:
                lines.append(f"mark      {promise}: not measured")
            else:
                verdict = "pass" if ratio.passed else "miss"
                lines.append(f"mark      {promise}: {ratio.spread.median:,.2f} {verdict}")
        return lines

    # For programs

    def document(self) -> dict[str, Any]:
        """Describe the run as what JSON can hold."""
        return {
            "benchmark": "pair",
            "rounds": self.rounds,
            "machine": {
                "system": platform.system(),
                "processor": platform.machine(),
                "cores": os.cpu_count(),
            },
            "versions": {
                "python": platform.python_version(),
                "py2p": REFERENCE_VERSION,
                **{name: _version(name) for name in ("py2p_twisted", "twisted", "msgpack")},
            },
            "series": [
                {
                    "case": series.case,
                    "size": series.size,
                    "count": series.count,
                    "window": series.window,
                    "samples": [
                        {"round": number, "cpu": sample.cpu, **asdict(sample)}
                        for number, sample in sorted(series.samples.items())
                    ],
                }
                for series in self.series
            ],
            "ratios": [
                {
                    "name": ratio.name,
                    "size": ratio.size,
                    **asdict(ratio.spread),
                    "mark": ratio.mark,
                    "passed": ratio.passed,
                }
                for ratio in self.ratios()
            ],
            "skipped": self.skipped,
            "failures": self.failures,
        }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        # Ours runs from a checkout too, without having been installed.
        return None


class Progress:
    """
    Say on standard error what is going on.

    A terminal gets one line that is written over; anything else gets a line
    when something has changed, and not too many of them.
    """

    #: Seconds between two lines about one transfer, where lines cannot be
    #: written over.
    INTERVAL = 5.0

    def __init__(self) -> None:
        self._stream = sys.stderr
        self._live = self._stream.isatty()
        self._what = ""
        self._count = 0
        self._shown = 0.0

    def begin(self, what: str, count: int, now: float) -> None:
        """A transfer starts."""
        self._what, self._count, self._shown = what, count, now
        if self._live:
            self._write(f"{what} starting", "")

    def messages(self, so_far: int, now: float) -> None:
        """So many messages have arrived."""
        if self._live:
            self._write(f"{self._what} {so_far:,} of {self._count:,}", "")
        elif now - self._shown >= self.INTERVAL:
            self._shown = now
            self._write(f"{self._what} {so_far:,} of {self._count:,}", "\n")

    def end(self, outcome: str) -> None:
        """The transfer is over."""
        self._write(f"{self._what} {outcome}", "\n")

    def note(self, text: str) -> None:
        """Say something that stays."""
        self._write(text, "\n")

    def _write(self, text: str, end: str) -> None:
        clear = "\r\x1b[K" if self._live else ""
        self._stream.write(clear + text + end)
        self._stream.flush()
