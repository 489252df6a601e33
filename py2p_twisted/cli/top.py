"""
``py2p top``: what goes over the links of a node, once a second.

The numbers are differences between two looks; `rates_of` and `as_lines` are pure.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from py2p_twisted.cli import control
from py2p_twisted.cli.chat import terminal_restored
from py2p_twisted.cli.lines import Reader
from py2p_twisted.cli.member import typed
from py2p_twisted.cli.peers import size, span
from py2p_twisted.cli.report import many
from py2p_twisted.cli.running import CommandFailed
from py2p_twisted.cli.running import run as run_reactor
from py2p_twisted.cli.table import Line, clip
from py2p_twisted.cli.terminal import Screen, can_redraw, size_of, wants_colour
from py2p_twisted.control import ControlClient
from py2p_twisted.daemon.options import number
from py2p_twisted.net.reports import printable

DESCRIPTION = """\
Show what goes over the links of the node that runs on this machine, once a
second: bytes in and out, frames in, how many of them had come before, the round
trip, and what waits to be read.

On a terminal the table is drawn in place. Keys: i, o, f, d, r, w, s, n sort it by
bytes in, bytes out, frames, duplicates, round trip, waiting bytes, age, id; q
leaves. Elsewhere it is printed again and again, or with --json as one object a
line.

When the node does not answer it says so, on standard error or with --json in
place of the object, and looks again. Ends with exit code 1 if no look of
--count has succeeded.
"""

EXAMPLES = """\
examples:
  py2p top
  py2p top --sort=waiting
  py2p top --json --count=1
"""

#: Seconds from one look to the next.
INTERVAL: Final = 1.0

#: Characters of an id that are shown.
_ID: Final = 8

#: What matters most comes first: a narrow terminal shows that.
_HEAD: Final = (
    *("id", "address", "kind", "in/s", "out/s"),
    *("rtt", "waiting", "frames/s", "dup/s", "age"),
)
#: Columns that hold no numbers.
_TEXTS: Final = 3


@dataclass(frozen=True, slots=True)
class Rates:
    """
    What has gone over a link lately; bytes and frames a second, times in seconds.

    :ivar bytes_out: ``None`` if the node does not tell.
    :ivar rtt: ``None`` if nobody knows.
    :ivar waiting: bytes that wait for the peer.
    :ivar age: how long the link is there.
    """

    id: str
    where: str
    outgoing: bool
    kind: str
    slow: bool
    bytes_in: float
    bytes_out: float | None
    frames: float
    duplicates: float
    rtt: float | None
    waiting: int
    age: float


#: What a table can be sorted by: the key that is pressed, and what of a row counts; the largest
#: first, and what is unknown last.
SORTS: Final[dict[str, tuple[str, Callable[[Rates], Any]]]] = {
    "in": ("i", lambda row: -row.bytes_in),
    "out": ("o", lambda row: -(row.bytes_out or 0.0)),
    "frames": ("f", lambda row: -row.frames),
    "duplicates": ("d", lambda row: -row.duplicates),
    "rtt": ("r", lambda row: -(-1.0 if row.rtt is None else row.rtt)),
    "waiting": ("w", lambda row: -row.waiting),
    "age": ("s", lambda row: -row.age),
    "id": ("n", lambda row: row.id),
}

_BY_KEY: Final = {key: name for name, (key, _) in SORTS.items()}


def add_to(commands: Any) -> None:
    """Add the command to a parser's commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "top",
        help="what goes over a node's links, live",
        description=DESCRIPTION,
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "--sort",
        choices=list(SORTS),
        default="in",
        help="what the table is sorted by (default: %(default)s)",
    )
    parser.add_argument(
        "--count",
        type=typed(number(1), "10"),
        metavar="N",
        help="end after so many looks (default: never)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a look and line")
    control.add_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """
    Show it.

    :return: 0 when it is enough; 1 if there was nothing to show.
    """
    drawn = not options.json and can_redraw(sys.stdout, os.environ)
    with keys_unbuffered(drawn) as keys:

        def work(reactor: Any) -> Coroutine[Deferred[Any], Any, bool]:
            return Top(reactor, options, drawn=drawn, keys=keys).run()

        return 0 if run_reactor(work) else 1


@contextmanager
def keys_unbuffered(wanted: bool) -> Any:
    """
    Have keys come as they are pressed, and the terminal be as it was afterwards.

    :return: in ``with``, what waits for keys and gives them; ``None`` where there are none.
    """
    if not wanted or not sys.stdin.isatty():
        yield None
        return
    try:
        import tty
    except ImportError:  # Windows
        yield None
        return
    with terminal_restored():
        file = sys.stdin.fileno()
        with suppress(OSError, ValueError):
            tty.setcbreak(file)
        yield lambda: os.read(file, 64)


class Top:
    """One session."""

    def __init__(
        self,
        reactor: Any,
        options: argparse.Namespace,
        *,
        drawn: bool,
        keys: Callable[[], bytes] | None,
    ) -> None:
        """
        :param drawn: whether standard output is a terminal to draw on.
        :param keys: waits for keys, and gives them.
        """
        self._reactor = reactor
        self._options = options
        self._sort: str = options.sort
        self._left: int | None = options.count
        self._asked: ControlClient | None = None
        self._before: dict[str, Mapping[str, Any]] = {}
        self._before_at = 0.0
        self._screen: Screen | None = None
        self._keys = None if keys is None else Reader(reactor, keys)
        self._latest: tuple[Mapping[str, Any], list[Rates]] | None = None
        self._looking: Deferred[None] | None = None
        self._answered = self._quit = False
        self._first = True
        if drawn:
            self._screen = Screen(
                sys.stdout, lambda: size_of(sys.stdout), colour=wants_colour(os.environ)
            )

    async def run(self) -> bool:
        """
        Look, and show, until it is enough.

        :return: whether there was anything to show, or somebody did not want to wait for that.
        """
        options = self._options
        reading: Deferred[Any] | None = None
        try:
            self._asked = await control.find(
                self._reactor, options.control, options.network, options.timeout
            )
            if self._keys is not None:
                reading = Deferred.fromCoroutine(self._read_keys(self._keys))
                reading.addErrback(lambda _: None)
            self._looking = Deferred.fromCoroutine(self._look_on())
            await self._looking
        except CancelledError:
            if not self._quit:
                raise
        finally:
            if reading is not None:
                reading.cancel()
            if self._screen is not None:
                self._screen.close()
            if self._asked is not None:
                self._asked.close()
        return self._answered or self._quit

    async def _look_on(self) -> None:
        await self._look()  # rates begin with the second
        while self._left != 0:
            await deferLater(self._reactor, INTERVAL)
            problem = await self._look()
            self._answered |= not problem
            self._show(problem)
            if self._left is not None:
                self._left -= 1

    async def _look(self) -> str:
        """
        Ask the node.

        :return: why that was in vain, or nothing; a node that goes away may come back.
        """
        options = self._options
        try:
            if self._asked is None:
                self._asked = await control.find(
                    self._reactor, options.control, options.network, options.timeout
                )
            status = await control.ask(self._asked, "status")
            peers = (await control.ask(self._asked, "peers"))["peers"]
        except CommandFailed as error:
            if self._asked is not None:
                self._asked.close()
            self._asked, self._latest, self._before = None, None, {}
            return str(error)
        now = self._reactor.seconds()
        self._latest = status, rates_of(self._before, peers, now - self._before_at)
        self._before = {str(peer["id"]): peer for peer in peers}
        self._before_at = now
        return ""

    async def _read_keys(self, keys: Reader) -> None:
        while data := await keys.next():
            for key in data.decode("latin-1").lower():
                if key == "q":
                    self._quit = True
                    if self._looking is not None:
                        self._looking.cancel()
                    return
                if key in _BY_KEY:
                    self._sort = _BY_KEY[key]
                    if self._latest is not None:
                        self._show("")

    def _show(self, problem: str) -> None:
        status, rows = self._latest if self._latest is not None else ({}, [])
        if self._options.json:
            said = {"error": problem} if problem else as_object(status, rows, self._sort)
            print(json.dumps({"time": time.time(), **said}), flush=True)
            return
        lines = [[(problem, "bad")]] if problem else as_lines(status, rows, self._sort)
        if self._screen is None and problem:
            print(f"py2p top: {problem}", file=sys.stderr, flush=True)
            return
        if self._screen is None:
            text = "\n".join("".join(text for text, _ in line) for line in lines)
            print(text if self._first else f"\n{text}", flush=True)
            self._first = False
            return
        columns, height = size_of(sys.stdout)
        foot = f"sorted by {self._sort}; keys: {' '.join(_BY_KEY)} sort, q leaves"
        room = height - 2
        if len(lines) > room:
            hidden = len(lines) - room + 1
            lines = [*lines[: room - 1], [(f"and {many(hidden, 'more peer')}", "dim")]]
        shown = [*lines, [(foot, "dim")]]
        self._screen.draw([clip(line, columns) for line in shown])


def rates_of(
    before: Mapping[str, Mapping[str, Any]], peers: Sequence[Mapping[str, Any]], seconds: float
) -> list[Rates]:
    """
    What has gone over each link since the last look.

    :param before: what was said of them then, by id; a link that is younger began with nothing.
    :param seconds: how long ago that was.
    """
    return [_rates(before.get(str(peer["id"])), peer, seconds) for peer in peers]


def _rates(old: Mapping[str, Any] | None, peer: Mapping[str, Any], seconds: float) -> Rates:
    age = float(peer["since"])
    if old is not None and age < float(old["since"]):
        old = None  # another connection to the same peer
    passed = max(0.001, seconds if old is not None else min(age, seconds))

    def rate(name: str) -> float:
        return float(max(0, peer[name] - (old[name] if old is not None else 0))) / passed

    known = "bytes_out" in peer and (old is None or "bytes_out" in old)
    return Rates(
        id=printable(str(peer["id"])),
        where=printable(str(peer["where"])),
        outgoing=bool(peer["outgoing"]),
        kind=printable(str(peer["kind"])),
        slow=bool(peer["slow"]),
        bytes_in=rate("bytes_in"),
        bytes_out=rate("bytes_out") if known else None,
        frames=rate("frames_in"),
        duplicates=rate("duplicates"),
        rtt=peer["rtt"],
        waiting=int(peer["bytes_waiting"]),
        age=age,
    )


def in_order(rows: Sequence[Rates], sort: str) -> list[Rates]:
    """Sorted by a key of `SORTS`; equal ones by id, so that they stay where they are."""
    by = SORTS[sort][1]
    return sorted(rows, key=lambda row: (by(row), row.id))


def as_object(status: Mapping[str, Any], rows: Sequence[Rates], sort: str) -> dict[str, Any]:
    """A look, for programs."""
    of = status.get("status", {})
    return {
        "id": of.get("id"),
        "network": of.get("network"),
        "joined": status.get("joined"),
        "peers": [asdict(row) for row in in_order(rows, sort)],
    }


def as_lines(status: Mapping[str, Any], rows: Sequence[Rates], sort: str) -> list[Line]:
    """A look, for people: nothing in it can move the cursor."""
    of = status.get("status", {})
    title = (
        f"node {printable(str(of.get('id', '?')))[:_ID]} of {printable(str(of.get('network', '?')))}"
        f", {many(len(rows), 'peer')}"
    )
    total = f": in {size(round(sum(row.bytes_in for row in rows)))}/s"
    if rows and all(row.bytes_out is not None for row in rows):
        total += f", out {size(round(sum(row.bytes_out or 0.0 for row in rows)))}/s"
    total += f", {sum(row.frames for row in rows):.0f} frames/s"
    ordered = in_order(rows, sort)
    cells = [_HEAD, *map(_cells, ordered)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_HEAD))]
    looks = ["head", *("bad" if row.slow else "" for row in ordered)]
    return [
        [(title, "title"), (total, "")],
        *([(_aligned(row, widths), look)] for row, look in zip(cells, looks, strict=True)),
    ]


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(
        cell.ljust(width) if column < _TEXTS else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ).rstrip()


def _cells(row: Rates) -> tuple[str, ...]:
    return (
        row.id[:_ID],
        row.where + (" >" if row.outgoing else " <"),
        row.kind + (", slow" if row.slow else ""),
        size(round(row.bytes_in)),
        "-" if row.bytes_out is None else size(round(row.bytes_out)),
        "-" if row.rtt is None else f"{1000 * row.rtt:.1f} ms",
        size(row.waiting),
        f"{row.frames:.0f}",
        f"{row.duplicates:.0f}",
        span(row.age),
    )


__all__ = ["INTERVAL", "SORTS", "Rates", "Top", "as_lines", "as_object", "in_order", "rates_of"]
