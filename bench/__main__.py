"""
``python -m bench``: the pair, all cases in turn, a table at the end.

Progress goes to standard error, the table to standard output. The exit status
is 0 when everything was measured, :data:`LOST` when messages were lost or a
process failed, and with ``--strict`` 1 when a mark was missed. A case that is
missing on this machine is named and left out, and never counted either way.

``python -m bench tree`` is the other benchmark, see :mod:`bench.tree`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench import tree
from bench.report import Progress, Report, Series
from bench.runner import CASES, Case, CaseMissing, TransferFailed, transfer
from bench.worker import COUNTER

#: Exit status of a run that lost messages or a process: its table is not whole.
LOST = 3

_SIZES = [64, 64 * 1024]

#: Each case should run for about a second: long enough for a rate, short
#: enough for many rounds. These hold down small and large payloads.
_MOST_MESSAGES = 200_000
_MOST_BYTES = 256 * 1024 * 1024

#: The same for py2p. Its rate falls with the number of messages in the last
#: minute, so this is part of the result and stays the same in a quick run.
_MOST_PY2P_MESSAGES = 1_000
_MOST_PY2P_BYTES = 16 * 1024 * 1024


def _count_for(case: str, size: int, options: argparse.Namespace) -> int:
    given: int | None
    if case == "py2p":
        given = options.py2p_count
        return given or max(1, min(_MOST_PY2P_MESSAGES, _MOST_PY2P_BYTES // size))
    given = options.count
    count = given or max(10, min(_MOST_MESSAGES, _MOST_BYTES // size))
    return count if given or not options.quick else count // 10


def _window_for(size: int, options: argparse.Namespace) -> int:
    """
    Choose how many messages py2p may have outstanding.

    As many as fit, with their headers, into one of its reads: more lose its
    link sooner or later. Two at least, because large ones survived that in all
    of our trials, and at half its rate nobody would call it py2p's best.
    """
    given: int | None = options.py2p_window
    return given or max(2, 1024 // (size + 192))


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _payload_size(text: str) -> int:
    value = int(text)
    if value < COUNTER.size:
        raise argparse.ArgumentTypeError(f"must hold a counter of {COUNTER.size} bytes")
    return value


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Pair benchmark: one process sends to one other over loopback.",
        epilog="python -m bench tree is another one; bench/README.md says what the figures mean.",
    )
    parser.add_argument("--rounds", type=_positive, help="default: 5, quick: 1")
    parser.add_argument(
        "--size",
        type=_payload_size,
        action="append",
        help="payload bytes, may be repeated; default: 64 and 65536",
    )
    parser.add_argument("--count", type=_positive, help="messages per transfer of ours and bare")
    parser.add_argument("--case", choices=list(CASES), action="append", help="default: all")
    parser.add_argument("--quick", action="store_true", help="one round, a tenth of the messages")
    parser.add_argument("--py2p-count", type=_positive, help="messages per transfer of py2p")
    parser.add_argument("--py2p-window", type=_positive, help="its unacknowledged messages")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples to FILE")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a mark is missed")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.size = options.size or _SIZES
    options.case = options.case or list(CASES)
    return options


async def measure(options: argparse.Namespace, progress: Progress) -> Report:
    """Run every round of every size and case; failures are noted, not raised."""
    report = Report(options.rounds)
    cases: list[Case] = []
    for name in dict.fromkeys(options.case):
        try:
            cases.append(CASES[name]())
        except CaseMissing as missing:
            report.skipped[name] = str(missing)
            progress.note(f"skipping {name}: {missing}")
    plan: dict[tuple[str, int], Series] = {}
    for size in dict.fromkeys(options.size):
        for case in cases:
            window = _window_for(size, options) if case.name == "py2p" else None
            count = _count_for(case.name, size, options)
            plan[case.name, size] = Series(case.name, size, count, window)
    report.series += plan.values()
    for number in range(1, options.rounds + 1):
        # Each round begins with another case, so that none always follows the
        # same neighbour, or always has a processor that just rested.
        first = number % len(cases) if cases else 0
        for size in report.sizes():
            for case in cases[first:] + cases[:first]:
                await _one(case, plan[case.name, size], number, report, progress)
    return report


async def _one(case: Case, series: Series, number: int, report: Report, progress: Progress) -> None:
    what = f"round {number} of {report.rounds}, {series.size:,} B, {case.name}:"
    progress.begin(what, series.count, time.monotonic())

    def arrived(messages: int) -> None:
        progress.messages(messages, time.monotonic())

    try:
        sample = await transfer(case, series.size, series.count, series.window or 1, arrived)
    except TransferFailed as failure:
        report.failures.append(f"{what} {failure}")
        progress.end(f"FAILED, {failure}{failure.details}")
    else:
        series.samples[number] = sample
        progress.end(f"{sample.rate:,.0f} messages/s, {sample.cpu:,.2f} us of CPU each")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, report, and tell the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["tree"]:
        return tree.main(arguments[1:])
    options = _parse(arguments)
    try:
        report = asyncio.run(measure(options, Progress()))
    except KeyboardInterrupt:
        print("interrupted, nothing to report", file=sys.stderr)
        return 130
    print(report.text())
    if options.json is not None:
        options.json.write_text(json.dumps(report.document(), indent=2) + "\n", encoding="utf-8")
    if report.failures:
        return LOST
    if options.strict and not report.marks_kept():
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
