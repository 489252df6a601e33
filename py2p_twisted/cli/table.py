"""
A demo as lines of text: pure functions from a `Report` and a width to what is seen.

::

    py2p demo: 12 nodes over TCP on 127.0.0.1                    1.4 s
    node  address          peers  1st broadcast   2nd broadcast   state
    n01   127.0.0.1:40113         0.8 ms via n12                  dropped
    n02   127.0.0.1:40115      6  1.1 ms via n01  2.0 ms via n05  alive

A `Line` is a list of spans, each a text and the name of how it looks, so that widths are
counted in characters and colours come last. Text is ASCII: a terminal that shows anything
shows this. Widths are in columns, heights in lines.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from py2p_twisted.cli.report import Broadcast, Progress, Report, Row, Step, many

#: A text, and how it looks: a key of `LOOKS`.
Span = tuple[str, str]
Line = list[Span]

#: How spans look, as ANSI "select graphic rendition" codes.
LOOKS: Final = {"": "", "title": "1", "head": "2", "good": "32", "bad": "31", "dim": "2"}

_GAP = "  "
#: From this width on the texts of steps stand in a column.
_ROOMY: Final = 58
_WORDS: Final = {
    Progress.RUNNING: ("..", ""),
    Progress.DONE: ("ok", "good"),
    Progress.FAILED: ("NO", "bad"),
}


def frame(report: Report, width: int, height: int | None = None) -> list[Line]:
    """
    All that there is to see.

    :param width: no line is longer.
    :param height: no more lines than that; nodes are left out first, then the oldest steps.
        ``None``: everything.
    """
    steps = [line for step in report.steps for line in _step(step, width)]
    last = [[], *_last(report, width)] if report.finished or report.problem else []
    page = _page(report, width)
    room = None
    if height is not None:
        # Besides the steps: title, page, head, one line about nodes, an empty line.
        spare = max(1, height - 4 - len(page) - len(last))
        steps = steps[-spare:]
        room = max(1, height - 3 - len(page) - len(steps) - len(last))
    lines = [_title(report, width), *page, *_nodes(report, width, room), [], *steps, *last]
    if height is not None:
        # A long explanation may need it all.
        lines = lines[-max(1, height) :]
    return [clip(line, width) for line in lines]


def _title(report: Report, width: int) -> Line:
    what = f"{len(report.rows)} {report.sort.nodes} over {report.encryption}"
    elapsed = f"{report.elapsed:.1f} s"
    for text in (f"py2p demo: {what} on 127.0.0.1", what):
        space = width - len(text) - len(elapsed)
        if space >= len(_GAP):
            return [(text, "title"), (" " * space + elapsed, "dim")]
    return [(what, "title")]


def _page(report: Report, width: int) -> list[Line]:
    """Where the status page is; if need be without the token, for half a link leads nowhere."""
    links = (report.page, report.page.partition("#")[0])
    fitting = [link for link in links if link and len(link) <= width]
    return [[(fitting[0], "title")]] if fitting else []


def _step(step: Step, width: int) -> list[Line]:
    word, look = _WORDS[step.progress]
    title = f"{step.title:9}"
    if width >= _ROOMY:
        title += _GAP
    else:
        title = f"{step.title}: "
    first, *others = textwrap.wrap(title + step.text, max(10, width - 4)) or [title]
    return [
        [(word, look), (_GAP + first, "")],
        *([(" " * 4 + other, "")] for other in others),
    ]


def _last(report: Report, width: int) -> list[Line]:
    look = "good" if report.ok else "bad"
    texts = [(report.sort.note, "dim"), (report.problem or "", look), (report.verdict, look)]
    return [
        [(piece, look)] for text, look in texts for piece in textwrap.wrap(text, max(10, width))
    ]


# --- nodes ------------------------------------------------------------------------------------


def _nodes(report: Report, width: int, room: int | None) -> list[Line]:
    rows = report.rows
    hidden: Sequence[Row] = ()
    if room is not None and len(rows) > room:
        rows, hidden = rows[: room - 1], rows[room - 1 :]
    lines = _widest(report, rows, width)
    if hidden:
        lines.append([(_summary(report, hidden, width), "dim")])
    return lines


def _summary(report: Report, rows: Sequence[Row], width: int) -> str:
    """What there is to say about rows that are not shown, as far as it fits."""
    names = {row.name for row in rows}
    text = f"... {many(len(rows), 'more node')}: {sum(row.alive for row in rows)} alive"
    for broadcast, ordinal in zip(report.broadcasts, ("1st", "2nd"), strict=False):
        # The sender is not among them, nor who had gone before.
        expected = names.intersection(broadcast.expected)
        count = f", {ordinal} {len(expected & broadcast.receipts.keys())} of {len(expected)}"
        if len(text + count) > width:
            break
        text += count
    return text


def _widest(report: Report, rows: Sequence[Row], width: int) -> list[Line]:
    """The table in the most talkative form that fits, also once all cells are filled."""
    for form in _FORMS:
        table = [form.head(), *(form.cells(report, row) for row in rows)]
        sizes = [max(len(text) for text, _ in column) for column in zip(*table, strict=True)]
        sizes = [max(pair) for pair in zip(sizes, form.least(report, rows), strict=True)]
        if sum(sizes) + len(_GAP) * (len(sizes) - 1) <= width:
            break
    return [_row(cells, sizes) for cells in table]


def _row(cells: Sequence[Span], sizes: Sequence[int]) -> Line:
    line: Line = []
    for (text, look), size in zip(cells, sizes, strict=True):
        # Numbers to the right, so that they can be compared at a glance.
        padded = text.rjust(size) if text.isdigit() or text == "peers" else text.ljust(size)
        line.append((padded if not line else _GAP + padded, look))
    return line


@dataclass(frozen=True, slots=True)
class _Form:
    """
    One way to write the table.

    :ivar titles: of the columns.
    :ivar address: how an address is written; empty: not at all.
    :ivar receipt: how a receipt is written.
    """

    titles: tuple[str, ...]
    address: str
    receipt: str

    def head(self) -> list[Span]:
        return [(title, "head") for title in self.titles]

    def cells(self, report: Report, row: Row) -> list[Span]:
        """One node."""
        address = "" if row.address is None else self.address.format(*row.address)
        return [
            (row.name, ""),
            *([(address, "")] if self.address else []),
            (str(row.peers) if row.alive and row.address else "", ""),
            _receipt(report, 0, row, self.receipt),
            _receipt(report, 1, row, self.receipt),
            _state(report, row),
        ]

    def least(self, report: Report, rows: Sequence[Row]) -> list[int]:
        """The widths of the columns once there is something in them, so that they do not jump."""
        name = rows[-1].name if rows else ""
        receipt = len(self.receipt.format(latency=_latency(0.0), via=name))
        address = [len(self.address.format("127.0.0.1", 65535))] if self.address else []
        return [len(name), *address, 0, receipt, receipt, len(report.sort.dropped)]


_FORMS: Final = (
    _Form(
        ("node", "address", "peers", "1st broadcast", "2nd broadcast", "state"),
        "{}:{}",
        "{latency} ms via {via}",
    ),
    _Form(("node", "port", "peers", "1st", "2nd", "state"), ":{1}", "{latency} ms {via}"),
    _Form(("node", "peers", "1st", "2nd", "state"), "", "{latency} ms"),
    _Form(("node", "peers", "1st", "2nd", "state"), "", "{latency}"),
)


def _state(report: Report, row: Row) -> Span:
    """Whether a node is there, was there, or is to come."""
    if not row.alive:
        return (report.sort.dropped, "bad")
    return ("alive", "good") if row.address is not None else ("", "")


def _receipt(report: Report, number: int, row: Row, form: str) -> Span:
    """What a node has to do with a broadcast."""
    if number >= len(report.broadcasts):
        return ("", "")
    broadcast: Broadcast = report.broadcasts[number]
    name = row.name
    times = 1 + broadcast.surplus.get(name, 0)
    if name == broadcast.sender:
        return ("sent", "dim") if times == 1 else ("sent, RECEIVED", "bad")
    receipt = broadcast.receipts.get(name)
    if receipt is None:
        if name not in broadcast.expected:
            return ("", "")
        return ("waiting", "dim") if report.problem is None else ("MISSING", "bad")
    text = form.format(latency=_latency(receipt.latency), via=receipt.via)
    return (text, "good") if times == 1 else (f"{text} x{times}", "bad")


def _latency(milliseconds: float) -> str:
    return f"{milliseconds:5.1f}"


# --- lines ------------------------------------------------------------------------------------


def length(line: Line) -> int:
    """How many columns a line takes."""
    return sum(len(text) for text, _ in line)


def clip(line: Line, width: int) -> Line:
    """What of a line fits."""
    clipped: Line = []
    for text, look in line:
        if width <= 0:
            break
        clipped.append((text[:width], look))
        width -= len(text)
    return clipped


def paint(line: Line, *, colour: bool) -> str:
    """A line as it is written to a terminal."""
    if not colour:
        return "".join(text for text, _ in line).rstrip()
    return "".join(
        f"\x1b[{LOOKS[look]}m{text}\x1b[0m" if LOOKS[look] else text for text, look in line
    )
