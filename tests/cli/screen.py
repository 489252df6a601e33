"""
A terminal of a given size that shows what a program writes to it.

It follows what ``py2p`` writes, and refuses any other sequence.
"""

from __future__ import annotations

import io
import os
import re

#: The beginning of a sequence whose end has not come yet.
_BEGINNING = re.compile(r"\x1b(\[[?\d;]*)?$")
_PIECE = re.compile(r"\x1b\[(\??[\d;]*)([A-Za-z])|(.)", re.DOTALL)


class ToyTerminal(io.StringIO):
    """
    A terminal, as a text stream.

    :ivar rows: what is on the screen, from the top.
    :ivar above: what has been scrolled out of it, from the first line on.
    :ivar wraps: how many lines have gone on in the next one.
    :ivar cursor: whether the cursor can be seen.
    :ivar looks: all colours and the like that were used.
    :ivar draws: how often something was written at once.
    """

    def __init__(self, columns: int = 80, lines: int = 24) -> None:
        super().__init__()
        self.columns, self.lines = columns, lines
        self.rows = [""]
        self.above: list[str] = []
        self.wraps = 0
        self.cursor = True
        self.looks: set[str] = set()
        self.draws = 0
        self._x = self._y = 0
        self._rest = ""

    def size(self) -> os.terminal_size:
        """Its size, as the operating system tells it."""
        return os.terminal_size((self.columns, self.lines))

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.draws += 1
        whole = self._rest + text
        begun = _BEGINNING.search(whole)
        self._rest = begun[0] if begun else ""
        for found in _PIECE.finditer(whole[: len(whole) - len(self._rest)]):
            number, letter, character = found.groups()
            if character is None:
                self._follow(number, letter)
            elif character == "\n":
                # The driver of a terminal puts a carriage return in front.
                self._x = 0
                self._down()
            elif character == "\r":
                self._x = 0
            else:
                self._put(character)
        return len(text)

    @property
    def text(self) -> list[str]:
        """What is on the screen, without empty space."""
        shown = [row.rstrip() for row in self.rows]
        while shown and not shown[-1]:
            shown.pop()
        return shown

    def narrow(self, columns: int) -> None:
        """Become narrower: lines that are too long go on in the next one."""
        wrapped: list[str] = []
        for row in self.rows:
            full = row.rstrip()
            wrapped += [full[at : at + columns] for at in range(0, max(1, len(full)), columns)]
        self.columns = columns
        self._y += len(wrapped) - len(self.rows)
        self.rows = wrapped

    def _follow(self, number: str, letter: str) -> None:
        row = self.rows[self._y]
        if letter == "A":
            self._y = max(0, self._y - int(number))
        elif letter == "K" and not number:
            self.rows[self._y] = row[: self._x]
        elif letter == "J" and not number:
            self.rows[self._y] = row[: self._x]
            del self.rows[self._y + 1 :]
        elif letter == "m":
            self.looks.add(number)
        elif number == "?25" and letter in "lh":
            self.cursor = letter == "h"
        else:
            raise AssertionError(f"no sequence for everybody: {number}{letter}")

    def _put(self, character: str) -> None:
        assert character.isprintable(), repr(character)
        if self._x == self.columns:
            self.wraps += 1
            self._x = 0
            self._down()
        row = self.rows[self._y].ljust(self._x)
        self.rows[self._y] = row[: self._x] + character + row[self._x + 1 :]
        self._x += 1

    def _down(self) -> None:
        self._y += 1
        if self._y == len(self.rows):
            self.rows.append("")
        if self._y == self.lines:
            self.above.append(self.rows.pop(0).rstrip())
            self._y -= 1
