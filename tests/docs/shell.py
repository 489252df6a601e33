"""
Find what a page has its readers type into a shell, and the files it has them write.

`parts_of` cuts a page into `ShellBlock` and `File`, `problems_of` says what is wrong with them
before anything is run, `ended_as` and `shown_in` compare what a terminal shows with what the page
does. How pages are written is told in `tests.docs`; `tests.integration.shell_check` runs them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.docs import blocks
from tests.docs.blocks import CONSOLE, ROOT, Piece, pieces_of

#: Languages of blocks that are typed as they stand, without what comes back.
SCRIPTS = ("sh", "bash", "shell")

#: Languages of blocks that are nothing but text: drawings, dumps, ...
PLAIN = ("", "text", "none", "default")

#: The terminal that a page means when it names none.
FIRST = "first"

#: The length that a reason has at least.
REASON = 10

#: The line that stands for any number of lines.
DOTS = "..."

_KEY = re.compile(r"(?P<prompt>(\S*[>:?%] )?)\^(?P<key>[CD])")
_HEREDOC = re.compile(r"(?<!<)<<(?P<tabs>-?)\s*(['\"]?)(?P<end>[A-Za-z_]\w*)\2")
_TOOLS = "python3?|pip|pipx|py2p|twistd?|trial|sudo|systemctl|journalctl|git|curl|docker|podman"
_TYPED = re.compile(rf"(\$ |# |({_TOOLS}|\.?\.?/\S+|\w+/bin/\S+) )")


def pages() -> list[Path]:
    """All pages that may have commands in them."""
    return [*blocks.pages(), ROOT / "bench/README.md", ROOT / "examples/README.md"]


@dataclass
class Step:
    """
    Something that is done at a terminal.

    :ivar line: the number of its line in the page.
    :ivar kind: "command", "key", "line", which is typed into a program that runs, or "output",
        which is nothing but looking.
    :ivar text: what is typed; of a key its letter, as in Ctrl-C; the terminal that is looked at.
    :ivar prompt: of a key or a line: what stands before it.
    :ivar want: the lines that come back; ``None`` when the page does not say.
    """

    line: int
    kind: str
    text: str
    prompt: str = ""
    want: list[str] | None = field(default_factory=list)

    def __str__(self) -> str:
        how = {"command": "$ {}", "key": "Ctrl-{}", "line": "typed: {}", "output": "shown at {}"}
        return how[self.kind].format(self.text)


@dataclass
class ShellBlock:
    """
    What is done at one terminal, and what it shows.

    :ivar first: lines that it shows before anything is done.
    :ivar root: whether it is the administrator's.
    """

    piece: Piece
    first: list[str]
    steps: list[Step]
    root: bool = False

    @property
    def excused(self) -> bool:
        """Whether it is not run."""
        return "no-run" in self.piece.comments

    @property
    def terminal(self) -> str:
        """The terminal's name."""
        comments = self.piece.comments
        return comments.get("shows") or comments.get("terminal") or FIRST

    @property
    def running(self) -> str | None:
        """Until when what was started last goes on running; ``None`` if it ends by itself."""
        return self.piece.comments.get("running")

    @property
    def silent(self) -> bool:
        """Whether what goes on running shows nothing when it is ready."""
        return (self.running or "").startswith("silently")

    def statuses(self, step: Step) -> set[int]:
        """The exit statuses that something may have that ends behind a step."""
        if "exits" in self.piece.comments and step is self.steps[-1]:
            return {int(self.piece.comments["exits"])}
        # Some programs end well when they are interrupted, others as the shell expects it.
        return {0, 130} if (step.kind, step.text) == ("key", "C") else {0}

    @property
    def is_script(self) -> bool:
        """Whether the page does not show what comes back."""
        return self.piece.language in SCRIPTS

    @property
    def name(self) -> str:
        """What it is known by: its first command, or its first line."""
        return str(self.steps[0]) if self.steps else "".join(self.first[:1])


@dataclass
class File:
    """A file that the page has its readers write."""

    piece: Piece

    @property
    def path(self) -> str:
        """Where it belongs, as the page says."""
        return self.piece.caption

    @property
    def name(self) -> str:
        """What it is known by."""
        return self.path

    @property
    def excused(self) -> bool:
        """Whether it is not written."""
        return "no-run" in self.piece.comments

    @property
    def source(self) -> str:
        """What is in it."""
        piece = self.piece
        if piece.include is not None:
            return piece.include.read_text(encoding="utf-8")
        return piece.source + "\n"

    @property
    def names(self) -> set[str]:
        """What it may be called by who uses it."""
        path = Path(self.path)
        return {self.path, path.name, *([path.stem] if path.suffix == ".py" else [])}


# --- finding ----------------------------------------------------------------------------------


def parts_of(page: Path) -> list[ShellBlock | File]:
    """The shell blocks and files of a page, in order."""
    return [part for piece in pieces_of(page) if (part := _part(piece)) is not None]


def blocks_of(page: Path) -> list[ShellBlock]:
    """The shell blocks of a page, in order."""
    return [part for part in parts_of(page) if isinstance(part, ShellBlock)]


def excuses_of(page: Path) -> list[str]:
    """What is neither run nor written of a page, outside Python: what each is known by."""
    found = []
    for piece in pieces_of(page):
        if "no-run" in piece.comments and not piece.is_python:
            part = _part(piece)
            first = piece.include.name if piece.include else piece.source.split("\n")[0]
            found.append(first if part is None else part.name)
    return found


def in_project(page: Path) -> bool:
    """Whether the commands are typed in the project's folder; otherwise in an empty one."""
    return page.suffix == ".md" or any("project" in piece.comments for piece in pieces_of(page))


def _part(piece: Piece) -> ShellBlock | File | None:
    if "shows" in piece.comments:
        return ShellBlock(piece, piece.source.splitlines(), [])
    if piece.is_file:
        return File(piece)
    if piece.language in CONSOLE:
        return _console(piece)
    if piece.language in SCRIPTS:
        return _script(piece)
    return None


def _console(piece: Piece) -> ShellBlock:
    lines = piece.source.splitlines()
    prompts = [line[:2] for line in lines if line.startswith(("$ ", "# "))]
    # Behind another prompt, "# " is what many programs print.
    prompt = prompts[0] if prompts else "$ "
    typed = piece.comments.get("typed", "").splitlines()
    block = ShellBlock(piece, [], [], prompt == "# ")
    want: list[str] = block.first
    number = 0
    while number < len(lines):
        line, at = lines[number], piece.line + number
        number += 1
        key = _KEY.fullmatch(line)
        if line.startswith(prompt):
            command, number = _command(line.removeprefix(prompt), lines, number)
            step = Step(at, "command", command)
        elif key:
            step = Step(at, "key", key["key"], key["prompt"])
        elif typed and (line == typed[0] or line.endswith(f" {typed[0]}")):
            text = typed.pop(0)
            step = Step(at, "line", text, line.removesuffix(text))
        else:
            want.append(line)
            continue
        block.steps.append(step)
        assert step.want is not None
        want = step.want
    for lines in (block.first, *(step.want or [] for step in block.steps)):
        while lines and not lines[-1].strip():
            lines.pop()
    return block


def _script(piece: Piece) -> ShellBlock:
    lines = piece.source.splitlines()
    block = ShellBlock(piece, [], [])
    number = 0
    while number < len(lines):
        line, at = lines[number], piece.line + number
        number += 1
        if line.strip() and not line.lstrip().startswith("#"):
            command, number = _command(line, lines, number)
            block.steps.append(Step(at, "command", command, want=None))
    return block


def _command(first: str, lines: list[str], number: int) -> tuple[str, int]:
    """
    A command that begins in one line, and may go on in others: behind a backslash, or with a
    text that ends with a word of its own.

    :return: the command, and where to go on.
    """
    command = [first]
    texts = list(_HEREDOC.finditer(first))
    while number < len(lines) and (texts or command[-1].endswith("\\")):
        line = lines[number]
        number += 1
        command.append(without_prompt(line))
        if texts:
            last = command[-1].lstrip("\t") if texts[0]["tabs"] else command[-1]
            if last == texts[0]["end"]:
                texts.pop(0)
        else:
            texts = list(_HEREDOC.finditer(command[-1]))
    return "\n".join(command), number


def without_prompt(line: str) -> str:
    """A line with which a command goes on, without the prompt that a shell gives then."""
    return line.removeprefix(">") if line == ">" else line.removeprefix("> ")


# --- what is wrong with a page ----------------------------------------------------------------


def problems_of(page: Path) -> list[str]:
    """What is wrong with the shell blocks and files of a page, by its looks alone."""
    return [f"{piece.where}: {problem}" for piece, problem in _problems(page)]


def _problems(page: Path) -> Iterator[tuple[Piece, str]]:
    parts = []
    for piece in pieces_of(page):
        part = _part(piece)
        if part is not None:
            parts.append(part)
            continue
        typed = [line for line in piece.source.splitlines() if _TYPED.match(line)]
        if piece.is_python:
            continue
        if "no-run" in piece.comments:
            yield from _excuse(piece)
        elif piece.include is not None or piece.language not in PLAIN:
            what = piece.language or "what is included"
            yield piece, f"a block ({what}) that is neither run, nor a file, nor excused"
        elif typed:
            yield piece, f"a block without a shell's language that looks like one: {typed[0]}"
    for number, part in enumerate(parts):
        if part.excused:
            yield from _excuse(part.piece)
        elif isinstance(part, File):
            if part.path.startswith("/") or ".." in Path(part.path).parts:
                yield part.piece, "a file out of the page's reach has to be excused"
            elif not _is_used(part, parts, number):
                yield part.piece, f"no command below uses {part.path}"
        else:
            yield from _mistakes(part)


def _excuse(piece: Piece) -> Iterator[tuple[Piece, str]]:
    if len(piece.comments["no-run"]) <= REASON:
        yield piece, "an excuse needs a reason"


def _mistakes(block: ShellBlock) -> Iterator[tuple[Piece, str]]:
    piece, steps, comments = block.piece, block.steps, block.piece.comments
    if block.root:
        yield piece, "what the administrator types is not run, and has to be excused"
    if not steps and not any(line != DOTS for line in block.first):
        yield piece, "there is nothing in this block"
    if not comments.get("exits", "0").isdecimal():
        yield piece, f"{comments['exits']!r} is no exit status"
    if "shows" in comments and not comments["shows"]:
        yield piece, "which terminal shows this?"
    lines = [step.text for step in steps if step.kind == "line"]
    if comments.get("typed", "").splitlines() != lines:
        yield piece, f"the lines to be typed should stand in the block, in order; found {lines}"
    if block.running is not None:
        if not block.running:
            yield piece, "until when does it go on running?"
        if not steps or (steps[-1].kind == "key" and steps[-1].text == "D"):
            yield piece, "nothing goes on running"
        elif not block.silent and not any(line != DOTS for line in steps[-1].want or []):
            yield piece, "what goes on running has to show that it is ready"


def _is_used(file: File, parts: list[ShellBlock | File], number: int) -> bool:
    """Whether something that is run below a file names it, or another file that is used."""
    seen: set[int] = set()

    def used(at: int) -> bool:
        seen.add(at)
        mine = parts[at]
        assert isinstance(mine, File)
        for place, part in enumerate(parts):
            if part.excused or place in seen:
                continue
            if isinstance(part, File):
                if _names(mine, [part.source]) and used(place):
                    return True
            elif place > at and _names(mine, (step.text for step in part.steps)):
                return True
        return False

    return used(number)


def _names(file: File, texts: Iterable[str]) -> bool:
    names = "|".join(re.escape(name) for name in file.names)
    pattern = re.compile(rf"(?<![\w.-])({names})(?![\w-]|\.\w)")
    return any(pattern.search(text) for text in texts)


# --- what a terminal shows --------------------------------------------------------------------


def ended_as(want: list[str], got: list[str]) -> bool:
    """Whether these are all lines that a command was to print."""
    got = [line.rstrip() for line in got]
    while got and not got[-1]:
        got.pop()
    return len(got) in _ends(want, got)[0]


def shown_in(want: list[str], got: list[str], current: str = "") -> tuple[int, bool] | None:
    """
    Look for lines in what a program has printed so far, from its beginning.

    :param current: the beginning of one more line, where the cursor is.
    :return: how many lines have been found, as few as will do, and whether the current one is
        needed too; ``None`` when there are not enough yet, or others.
    """
    if ends := _ends(want, got)[0]:
        return min(ends), False
    if current.strip() and len(got) + 1 in _ends(want, [*got, current])[0]:
        return len(got), True
    return None


def is_in_vain(want: list[str], got: list[str]) -> bool:
    """Whether nothing that a program may print after these lines makes them what is wanted."""
    ends, hope = _ends(want, got)
    return not ends and not hope


def _ends(want: list[str], got: list[str]) -> tuple[set[int], bool]:
    """
    The numbers of lines, from the beginning, that are what was wanted.

    :return: these, and whether there may be others when there are more lines.
    """
    ends, hope = {0}, False
    for line in want:
        if not ends:
            break
        if line.strip() == DOTS:
            ends = set(range(min(ends), len(got) + 1))
            continue
        hope = hope or len(got) in ends
        pattern = _pattern(line.rstrip())
        ends = {end + 1 for end in ends if end < len(got) and pattern.fullmatch(got[end].rstrip())}
    return ends, hope


@functools.lru_cache(maxsize=1024)
def _pattern(line: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in line.split(DOTS)))
