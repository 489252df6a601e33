"""
Drawing in place on a terminal: a few escape sequences that all of them know.

What was drawn last is overwritten from its first line on; what the terminal showed before
stays where it was, and can be scrolled back to.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Protocol, TextIO

from py2p_twisted.cli.table import Line, length, paint

#: Smaller than that, a table is of no use.
LEAST_COLUMNS = 40
LEAST_LINES = 12

_FALLBACK = os.terminal_size((80, 24))


class Size(Protocol):
    """Tells how large a terminal is at the moment."""

    def __call__(self) -> os.terminal_size: ...


def size_of(stream: TextIO) -> os.terminal_size:
    """How large the terminal behind a stream is; 80 x 24 when it does not say."""
    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return _FALLBACK
    return os.terminal_size((size.columns or _FALLBACK.columns, size.lines or _FALLBACK.lines))


def can_redraw(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether a stream leads to a terminal that can be drawn on."""
    if not stream.isatty():
        return False
    if os.name == "nt":
        # Older consoles print the sequences instead of following them.
        if "WT_SESSION" not in environ:
            return False
    elif environ.get("TERM", "dumb") in ("", "dumb"):
        return False
    size = size_of(stream)
    return size.columns >= LEAST_COLUMNS and size.lines >= LEAST_LINES


def wants_colour(environ: Mapping[str, str]) -> bool:
    """Whether colours are welcome. Source: https://no-color.org."""
    return not environ.get("NO_COLOR")


class Screen:
    """
    Some lines of a terminal that are drawn again and again.

    ``close`` must be called in any case: it gives the cursor back.
    """

    def __init__(self, stream: TextIO, size: Size, *, colour: bool) -> None:
        self._stream = stream
        self._size = size
        self._colour = colour
        self._drawn: list[int] = []
        self._hidden = False

    def draw(self, lines: Sequence[Line]) -> None:
        """Put these lines where the last ones were."""
        parts = [] if self._hidden else ["\x1b[?25l"]
        self._hidden = True
        # A terminal that has become narrower has wrapped what it shows.
        columns = self._size().columns
        above = sum(max(1, -(-drawn // columns)) for drawn in self._drawn)
        parts.append(f"\x1b[{above}A\r" if above else "\r")
        parts += [paint(line, colour=self._colour) + "\x1b[K\n" for line in lines]
        parts.append("\x1b[J")
        self._drawn = [length(line) for line in lines]
        self._write("".join(parts))

    def close(self) -> None:
        """Show the cursor again, below what has been drawn."""
        if self._hidden:
            self._hidden = False
            self._write("\r\x1b[K\x1b[?25h")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
