"""
Find the blocks of a page: all of them, and those in Python.
"""

from __future__ import annotations

import doctest
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

#: What comments can say, as `tests.docs` explains.
_WORDS = (
    "no-run",
    "no-live",
    "session",
    "project",
    "terminal",
    "running",
    "exits",
    "typed",
    "shows",
)

_DIRECTIVE = re.compile(r"\.\. (?P<name>[\w-]+):: *(?P<argument>\S*)")
_COMMENT = re.compile(rf"(?:\.\.|<!--) (?P<word>{'|'.join(_WORDS)}):(?!:)(?P<text>.*?)(?:-->)?$")
_FENCE = re.compile(r"(?P<marks>```+|~~~+) *(?P<language>[\w+-]*)")
_OPTION = re.compile(r":(?P<name>[\w-]+): *(?P<value>.*)")
_FILE = re.compile(r"[\w.+@~/-]+")

_PYTHON = ("python", "python3", "py", "pycon", "python-console")
_CODE = ("code-block", "code", "sourcecode")

#: What is typed into a shell, with or without what comes back. Never a file.
CONSOLE = ("console", "shell-session")


@dataclass
class Piece:
    """
    One block of code in a page, whatever its language.

    :ivar page: the file it stands in.
    :ivar line: the number of its first line, from 1.
    :ivar language: as the page calls it; empty when it does not.
    :ivar source: the text, without its indentation.
    :ivar caption: what is written above it.
    :ivar include: the file that is included instead, for ``literalinclude``.
    :ivar comments: what the comments before it say, by their word; what is said with the same
        word again stands in another line.
    """

    page: Path
    line: int
    language: str
    source: str
    caption: str = ""
    include: Path | None = None
    comments: dict[str, str] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """Page and line, as editors understand them."""
        return where(self.page, self.line)

    @property
    def is_python(self) -> bool:
        """Whether it is run as a part of the page's Python session."""
        if self.include is not None:
            return self.include.suffix == ".py"
        return not self.is_file and (self.language in _PYTHON or _is_session(self.source))

    @property
    def is_file(self) -> bool:
        """Whether the caption is a file's name: that is where the text belongs."""
        return _FILE.fullmatch(self.caption) is not None and self.language not in CONSOLE


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
        return where(self.page, self.line)

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


def where(page: Path, line: int) -> str:
    """A page and a line of it, as editors understand them."""
    return f"{page.relative_to(ROOT) if page.is_relative_to(ROOT) else page.name}:{line}"


def blocks_of(page: Path) -> list[Block]:
    """The Python blocks of a page, in order."""
    blocks, anew = [], False
    for piece in pieces_of(page):
        # A new session may be announced anywhere before the block that it begins with.
        anew = "session" in piece.comments or anew
        if piece.is_python:
            said = {word: text for word, text in piece.comments.items() if word != "session"}
            blocks.append(Block(page, piece.line, piece.source, piece.include, said, anew))
            anew = False
    return blocks


def pieces_of(page: Path) -> list[Piece]:
    """All blocks of a page, in order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    return list((_in_markdown if page.suffix == ".md" else _in_rst)(page, lines))


class _Comments:
    """What has been said since the last block."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def take(self) -> dict[str, str]:
        said, self._said = self._said, {}
        return said

    def read(self, line: str) -> bool:
        match = _COMMENT.match(line)
        if match:
            word, text = match["word"], match["text"].strip()
            self._said[word] = "\n".join(filter(None, [self._said.get(word), text]))
        return match is not None

    def forget(self) -> None:
        """Ordinary text: only a new session may still be waited for."""
        self._said = {word: text for word, text in self._said.items() if word == "session"}


def _in_rst(page: Path, lines: list[str]) -> Iterator[Piece]:
    comments = _Comments()
    number = 0
    while number < len(lines):
        line = lines[number]
        stripped = line.strip()
        indent = _indent(line)
        directive = _DIRECTIVE.match(stripped)
        number += 1
        if not stripped:
            continue
        if _COMMENT.match(stripped):
            # What is indented goes on with it.
            while number < len(lines) and lines[number].strip() and _indent(lines[number]) > indent:
                stripped += f" {lines[number].strip()}"
                number += 1
            comments.read(stripped)
        elif directive and directive["name"] in (*_CODE, "literalinclude", "doctest"):
            first, body, number = _indented(lines, number, indent)
            caption = ""
            while body and (not body[0].strip() or (option := _OPTION.match(body[0]))):
                if body[0].strip() and option and option["name"] == "caption":
                    caption = option["value"].strip()
                first, body = first + 1, body[1:]
            source = "\n".join(body)
            if directive["name"] == "literalinclude":
                include = (page.parent / directive["argument"]).resolve()
                yield Piece(page, number, "", "", caption, include, comments.take())
            else:
                language = directive["argument"]
                yield Piece(page, first, language, source, caption, None, comments.take())
        elif stripped.startswith(">>>"):
            start = number - 1
            while number < len(lines) and lines[number].strip():
                number += 1
            source = "\n".join(line[indent:] for line in lines[start:number])
            yield Piece(page, start + 1, "", source, comments=comments.take())
        elif stripped.endswith("::") and not stripped.startswith(".. "):
            first, body, number = _indented(lines, number, indent)
            yield Piece(page, first, "", "\n".join(body), comments=comments.take())
        else:
            comments.forget()


def _in_markdown(page: Path, lines: list[str]) -> Iterator[Piece]:
    comments = _Comments()
    number = 0
    while number < len(lines):
        stripped = lines[number].strip()
        fence = _FENCE.match(stripped)
        indent = _indent(lines[number])
        number += 1
        # Comments to somebody else do not stand between a comment and its block.
        if not stripped or comments.read(stripped) or _is_comment(stripped):
            continue
        if fence:
            start = number
            while number < len(lines) and not lines[number].strip().startswith(fence["marks"]):
                number += 1
            source = "\n".join(line[indent:] for line in lines[start:number])
            number += 1
            language = fence["language"]
            yield Piece(page, start + 1, language, source, comments=comments.take())
        comments.forget()


def _is_comment(line: str) -> bool:
    return line.startswith("<!--") and line.endswith("-->")


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
