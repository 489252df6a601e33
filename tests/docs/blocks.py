"""
Find the Python blocks of a page.
"""

from __future__ import annotations

import doctest
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_DIRECTIVE = re.compile(r"\.\. (?P<name>[\w-]+):: *(?P<argument>\S*)")
_COMMENT = re.compile(r"(?:\.\.|<!--) (?P<word>no-run|no-live|session): (?P<text>.*?)(?: -->)?$")
_FENCE = re.compile(r"(?P<marks>```+|~~~+) *(?P<language>[\w+-]*)")
_OPTION = re.compile(r":[\w-]+:")

_PYTHON = ("python", "python3", "py", "pycon", "python-console")
_CODE = ("code-block", "code", "sourcecode")


@dataclass
class Block:
    """
    One piece of Python in a page.

    :ivar page: the file it stands in.
    :ivar line: the number of its first line, from 1.
    :ivar source: the text, without its indentation.
    :ivar include: the file that is included instead, for ``literalinclude``.
    :ivar comments: what the comments before it say, by their word.
    :ivar session: whether it begins anew.
    """

    page: Path
    line: int
    source: str
    include: Path | None = None
    comments: dict[str, str] = field(default_factory=dict)
    session: bool = False

    @property
    def where(self) -> str:
        """Page and line, as editors understand them."""
        page = self.page
        return f"{page.relative_to(ROOT) if page.is_relative_to(ROOT) else page.name}:{self.line}"

    @property
    def is_session(self) -> bool:
        """Whether it is typed line by line, with what comes back in between."""
        return _is_session(self.source)

    def examples(self) -> list[doctest.Example]:
        """Its statements with what they should print; a program is one statement."""
        if not self.is_session:
            return [doctest.Example(self.source, "", lineno=0)]
        return doctest.DocTestParser().get_examples(self.source, self.where)


def pages() -> list[Path]:
    """README.md, if it is there, and everything in docs/."""
    found = sorted((ROOT / "docs").rglob("*.rst"))
    readme = ROOT / "README.md"
    return [readme, *found] if readme.exists() else found


def blocks_of(page: Path) -> list[Block]:
    """The Python blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    find = _in_markdown if page.suffix == ".md" else _in_rst
    return list(find(page, text.splitlines()))


class _Comments:
    """What has been said since the last block."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def take(self, page: Path, line: int, source: str, include: Path | None = None) -> Block:
        said, self._said = self._said, {}
        session = said.pop("session", None) is not None
        return Block(page, line, source, include, said, session)

    def read(self, line: str) -> bool:
        match = _COMMENT.match(line)
        if match:
            self._said[match["word"]] = match["text"].strip()
        return match is not None

    def forget(self) -> None:
        """Ordinary text: only a new session may still be waited for."""
        self._said = {word: text for word, text in self._said.items() if word == "session"}


def _in_rst(page: Path, lines: list[str]) -> Iterator[Block]:
    comments = _Comments()
    number = 0
    while number < len(lines):
        line = lines[number]
        stripped = line.strip()
        indent = _indent(line)
        directive = _DIRECTIVE.match(stripped)
        number += 1
        if not stripped or comments.read(stripped):
            continue
        if directive and directive["name"] in (*_CODE, "literalinclude", "doctest"):
            first, body, number = _indented(lines, number, indent)
            while body and (not body[0].strip() or _OPTION.match(body[0])):
                first, body = first + 1, body[1:]
            source = "\n".join(body)
            if directive["name"] == "literalinclude":
                if directive["argument"].endswith(".py"):
                    include = (page.parent / directive["argument"]).resolve()
                    yield comments.take(page, number, "", include)
            elif directive["argument"] in _PYTHON or _is_session(source):
                yield comments.take(page, first, source)
            comments.forget()
        elif stripped.startswith(">>>"):
            start = number - 1
            while number < len(lines) and lines[number].strip():
                number += 1
            source = "\n".join(line[indent:] for line in lines[start:number])
            yield comments.take(page, start + 1, source)
        elif stripped.endswith("::") and not stripped.startswith(".. "):
            first, body, number = _indented(lines, number, indent)
            if _is_session("\n".join(body)):
                yield comments.take(page, first, "\n".join(body))
            comments.forget()
        else:
            comments.forget()


def _in_markdown(page: Path, lines: list[str]) -> Iterator[Block]:
    comments = _Comments()
    number = 0
    while number < len(lines):
        stripped = lines[number].strip()
        fence = _FENCE.match(stripped)
        indent = _indent(lines[number])
        number += 1
        if not stripped or comments.read(stripped):
            continue
        if fence:
            start = number
            while number < len(lines) and not lines[number].strip().startswith(fence["marks"]):
                number += 1
            source = "\n".join(line[indent:] for line in lines[start:number])
            number += 1
            if fence["language"] in _PYTHON or _is_session(source):
                yield comments.take(page, start + 1, source)
        comments.forget()


def _is_session(source: str) -> bool:
    return any(line.lstrip().startswith(">>>") for line in source.splitlines())


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _indented(lines: list[str], number: int, outer: int) -> tuple[int, list[str], int]:
    """
    The lines behind a directive that are indented more than it is.

    :return: the number of the first (from 1), the lines themselves, and where to go on.
    """
    start = number
    while number < len(lines) and (not lines[number].strip() or _indent(lines[number]) > outer):
        number += 1
    body = lines[start:number]
    while body and not body[0].strip():
        start, body = start + 1, body[1:]
    while body and not body[-1].strip():
        body.pop()
    inner = min((_indent(line) for line in body if line.strip()), default=0)
    return start + 1, [line[inner:] for line in body], number
