"""
One JSON object a line.

What a line may cost is limited before it is read: its length, and the number of values in it,
which may take a hundred times as much memory as their text.
"""

from __future__ import annotations

import json
import re
from collections import deque
from typing import Any, Final

from py2p_twisted.errors import MeshError

#: Bytes of a line besides what the packets of a message may take: twice ``max_message``, since
#: bytes become base64 and characters may be escaped. Source: docs/reference/control.rst, "Limits".
LINE: Final = 2**20

#: Values in a line. A message has 100,000 at most, and needs some around them.
MOST_VALUES: Final = 110_000

_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_SEPARATORS: Final = (b",", b"[", b"{")


class ControlError(MeshError):
    """
    Something that was asked for cannot be done.

    :ivar reason: a short word that does not change.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def longest_line(max_message: int) -> int:
    """How many bytes a line may have at a node that takes messages of this size."""
    return LINE + 2 * max_message


class LineBuffer:
    """
    Bytes as they come, and lines.

    :ivar longest: bytes of a line, without its end; may be changed.
    """

    def __init__(self, longest: int) -> None:
        self.longest = longest
        self._lines: deque[bytes] = deque()
        self._rest: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> None:
        """
        Take what has come.

        :raises ControlError: a line is too long; the buffer is of no use then.
        """
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._grow(line)
            self._lines.append(b"".join(self._rest))
            self._rest.clear()
            self._size = 0
        if rest:
            self._grow(rest)

    def _grow(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self.longest:
            raise ControlError("line too long", f"a line may have {self.longest} bytes")
        self._rest.append(piece)

    @property
    def waiting(self) -> bool:
        """Whether there is a whole line."""
        return bool(self._lines)

    def next(self) -> bytes | None:
        """The next line, without its end; ``None`` while none is whole."""
        return self._lines.popleft() if self._lines else None


def parse(line: bytes, most: int | None = MOST_VALUES) -> dict[str, Any]:
    """
    The object that a line holds.

    :param most: values that it may have; ``None``: who has sent it is trusted.
    :raises ControlError: it is none, or has too much in it.
    """
    if most is not None and _separators(line) > most and _separators(_STRING.sub(b"", line)) > most:
        raise ControlError("too many values", f"a line may have {most} values")
    try:
        value = json.loads(line.decode("utf-8"), parse_constant=_refuse)
    except RecursionError:
        raise ControlError("bad json", "it is nested too deeply") from None
    except ValueError as error:
        # No UTF-8, no JSON, or a number that Python does not want to read.
        raise ControlError("bad json", f"this is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise ControlError("bad json", "expected an object, one a line")
    return value


def _separators(line: bytes) -> int:
    return sum(map(line.count, _SEPARATORS))


def _refuse(word: str) -> None:
    raise ValueError(f"there is no {word}")


def line_of(value: dict[str, Any]) -> bytes:
    """An object as a line, with its end: ASCII."""
    return json.dumps(value, allow_nan=False).encode("ascii") + b"\n"


__all__ = ["ControlError", "LineBuffer", "line_of", "longest_line", "parse"]
