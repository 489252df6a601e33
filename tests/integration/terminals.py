"""
Terminals with a shell, as readers of the documents have them, and a runner for pages.

A `Terminal` is a pseudo terminal of 100 columns with an interactive bash. What it shows is what a
`Screen` makes of it. Bash says in sequences that a screen does not show when a command begins
and when it has ended, with its status::

    typing       bash                                 the screen
    "ls\\n"   ->  PS0: it begins                       (the echo of what is typed)
                 the output of ls                     -> what is compared
                 PS1: it has ended, and its status

All terminals of a page stand on one `Desk`: one folder, one home, one set of made-up ports and
addresses. `perform` takes a page through it. Times are in seconds; every wait has an end.

How pages are written is told in `tests.docs`.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import random
import re
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.docs.blocks import ROOT, where
from tests.docs.shell import (
    DOTS,
    File,
    ShellBlock,
    Step,
    ended_as,
    in_project,
    is_in_vain,
    parts_of,
    problems_of,
    shown_in,
    without_prompt,
)

if sys.platform != "linux":
    raise SkipTest("the terminals need Linux: /proc, and 127.0.2.x for this machine")

import fcntl
import struct
import termios

COLUMNS, LINES = 100, 40

#: Seconds that anything may take that takes no time.
_A_MOMENT = 30.0

_ERROR = "Traceback (most recent call last)"

#: What children of a page are known by.
_MARK = "PY2P_PAGE"

#: What is kept of our own environment, for pip and for the original py2p.
_KEPT = re.compile(
    r"PIP_\w+|\w+_PROXY|\w+_proxy|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE"
    r"|PY2P_REFERENCE_PYTHON|TMPDIR|USER|LOGNAME"
)

#: What is left out of a copy of the project when there is no git to ask.
_NOT_OURS = (".*", "__pycache__", "*.pyc", "*.egg-info", "build", "dist", "_trial_temp*")


@dataclass(frozen=True)
class Patience:
    """
    How long a page may take, in seconds.

    :ivar command: a command, from beginning to end.
    :ivar show: what a program that goes on running is to show.
    :ivar end: a program that is told to end.
    :ivar turn: another page, before this one begins.
    """

    command: float = 300.0
    show: float = 30.0
    end: float = 10.0
    turn: float = 600.0


# --- the screen -------------------------------------------------------------------------------

_PIECE = re.compile(
    r"(?P<text>[^\x00-\x1f\x7f]+)"
    r"|\x1b\[(?P<number>[0-?]*)[ -/]*(?P<letter>[@-~])"
    r"|\x1b\](?P<word>.*?)(?:\x07|\x1b\\)"
    r"|\x1b[PX^_].*?\x1b\\"
    r"|\x1b[ -/]*[0-OQ-WYZ`-~]"
    r"|(?P<control>[\x00-\x1a\x1c-\x1f\x7f])",
    re.DOTALL,
)


class Screen:
    """
    What can be seen on a terminal, and has been: it is as long as it has to be, and as wide.

    Colours and whatever else it does not know leave no trace.

    :ivar rows: the lines, from the first on.
    :ivar x: the column of the cursor, from 0.
    :ivar y: its line, from 0.
    """

    def __init__(self, told: Callable[[str], None] = lambda word: None) -> None:
        self.rows = [""]
        self.x = self.y = 0
        self._told = told
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, data: bytes) -> None:
        """Show what has been written; a word to the terminal itself is passed on."""
        text = self._rest + self._decoder.decode(data)
        at = 0
        while at < len(text) and (piece := _PIECE.match(text, at)):
            at = piece.end()
            if piece["text"]:
                self._put(piece["text"])
            elif piece["control"]:
                self._control(piece["control"])
            elif piece["letter"]:
                self._move(piece["number"], piece["letter"])
            elif piece["word"] is not None:
                self._told(piece["word"])
        # A sequence whose end has not come yet.
        self._rest = text[at:]

    def _put(self, text: str) -> None:
        row = self.rows[self.y].ljust(self.x)
        self.rows[self.y] = row[: self.x] + text + row[self.x + len(text) :]
        self.x += len(text)

    def _control(self, character: str) -> None:
        if character == "\n":
            self._go_to(self.x, self.y + 1)
        elif character == "\r":
            self.x = 0
        elif character == "\b":
            self.x = max(0, self.x - 1)
        elif character == "\t":
            self.x += 8 - self.x % 8

    def _move(self, number: str, letter: str) -> None:
        first = re.match(r"\d*", number)
        count = int(first[0]) if first and first[0] else 0
        row = self.rows[self.y]
        if letter in "ABCD":
            steps = max(1, count)
            x, y = {"A": (0, -1), "B": (0, 1), "C": (1, 0), "D": (-1, 0)}[letter]
            self._go_to(self.x + x * steps, self.y + y * steps)
        elif letter == "G":
            self.x = max(1, count) - 1
        elif letter in "Hf":
            column = re.search(r";(\d+)", number)
            top = max(0, len(self.rows) - LINES)
            self._go_to(int(column[1]) - 1 if column else 0, top + max(1, count) - 1)
        elif letter == "K":
            self.rows[self.y] = ["", row[: self.x], ""][(count + 1) % 3]
            if count == 1:
                self.rows[self.y] = " " * self.x + row[self.x :]
        elif letter == "J" and count in (0, 2):
            top = self.y if count == 0 else max(0, len(self.rows) - LINES)
            keep = row[: self.x] if count == 0 else ""
            self.rows[top:] = [""] * (self.y - top) + [keep]

    def _go_to(self, x: int, y: int) -> None:
        self.x, self.y = max(0, x), max(0, y)
        while len(self.rows) <= self.y:
            self.rows.append("")


# --- names for what a page makes up -----------------------------------------------------------

_PORT = re.compile(r"(?<![\w.])44\d\d(?!\w|\.\d)")
_ADDRESS = re.compile(r"\b192\.0\.2\.(\d{1,3})\b")
_LOOPBACK = re.compile(r"\b127\.0\.2\.(\d{1,3})\b")


class Disguise:
    """
    What stands for the ports and addresses of a page while it is run.

    44xx is another port if somebody on this machine has it. Otherwise it is itself: commands that
    name no port mean one that is documented. 192.0.2.x is 127.0.2.x, which is this machine.

    :param text: the page; no number in it is chosen for a port.
    :param own: whether the page may have its own ports, as far as they are free.
    :ivar ports: those that have become others.
    """

    def __init__(self, text: str, own: bool = True) -> None:
        self._taken = {int(number) for number in re.findall(r"\d+", text)}
        self._own = own
        self._seen: set[str] = set()
        self.ports: dict[str, str] = {}

    def real(self, text: str) -> str:
        """What is typed for what stands in the page."""
        return _ADDRESS.sub(r"127.0.2.\1", _PORT.sub(lambda found: self._port(found[0]), text))

    def shown(self, text: str) -> str:
        """What would stand in the page for what is shown."""
        for documented, real in self.ports.items():
            text = re.sub(rf"\b{real}\b", documented, text)
        return _LOOPBACK.sub(r"192.0.2.\1", text)

    def _port(self, documented: str) -> str:
        if documented not in self._seen:
            self._seen.add(documented)
            if not self._own or not is_free(int(documented)):
                self.ports[documented] = str(self._free_port())
        return self.ports.get(documented, documented)

    def _free_port(self) -> int:
        """
        A port that nobody uses.

        It has four digits, so that tables keep their shape, and is none of those that systems
        give to whoever wants any.
        """
        for _ in range(10_000):
            port = random.randrange(5000, 10_000)
            if port not in self._taken and is_free(port):
                self._taken.add(port)
                return port
        raise OSError(errno.EADDRINUSE, "no port is free")


def is_free(port: int) -> bool:
    """Whether nobody listens on a port, at any address."""
    with socket.socket() as probe:
        # What is left of old connections is in nobody's way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


def take_turn(seconds: float) -> socket.socket | None:
    """
    Wait until no other page is run on this machine: they have the same ports.

    :return: what is to be closed when the page is done; ``None`` if it was not our turn.
    """
    turn = socket.socket(socket.AF_UNIX)
    until = time.monotonic() + seconds
    while True:
        try:
            # A name without a file, which is gone with whoever has it.
            turn.bind("\0py2p_twisted: a page is run")
        except OSError:
            if time.monotonic() > until:
                turn.close()
                return None
            time.sleep(0.1)
        else:
            return turn


# --- terminals --------------------------------------------------------------------------------


class Stuck(Exception):
    """A terminal does not show what the page says, and the page cannot go on."""


def difference(want: list[str], got: str, more: str = "") -> str:
    """What should have been shown, and what was."""
    return "\n".join(["should show", *want, f"and shows{more}", got])


class Terminal:
    """
    A terminal with a shell.

    :ivar screen: what it shows.
    :ivar runs: whether something runs that was typed.
    :ivar gone: whether the shell itself has ended.
    :ivar last: the command that was typed last.
    :ivar status: the exit status of what has ended last.
    :ivar shown: what that has shown since the page has looked last.
    :ivar left: what the page has left running, with the exit statuses that it may end with.
    :ivar carry: lines of the page that come before those that it shows next.
    """

    def __init__(self, name: str, desk: Desk) -> None:
        self.name = name
        self.screen = Screen(self._told)
        self.runs, self.gone = True, False
        self.status = 0
        self.shown = ""
        self.last = "the shell"
        self.left: tuple[Step, set[int]] | None = None
        self.carry: list[str] = []
        self._desk = desk
        self._mark = (0, 0)
        self._begun = self._more = False
        self._secret = secrets.token_hex(8)
        self._ours, theirs = os.openpty()
        os.set_blocking(self._ours, False)
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        # Keys leave no trace: where "^C" is shown depends on what is printed at that moment.
        modes = termios.tcgetattr(theirs)
        modes[3] &= ~termios.ECHOCTL
        termios.tcsetattr(theirs, termios.TCSANOW, modes)
        signs = {"PS0": "begun", "PS1": "ended;$?", "PS2": "more"}
        prompts = {key: f"\x1b]{self._secret};{sign}\x07" for key, sign in signs.items()}
        self.shell = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "--noediting", "-i"],
            cwd=desk.folder,
            env={**desk.environment, **prompts},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            # Without that, Ctrl-C on it would go to nobody.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)

    def start(self) -> None:
        """Wait for the shell."""
        self.await_end(None)
        # Shells that a page may start have prompts of their own.
        self.enter("export -n PS0 PS1 PS2; unset HISTFILE MAILCHECK")
        self.await_end(None)

    def fileno(self) -> int:
        """The descriptor from which is read what it shows."""
        return self._ours

    def read(self) -> None:
        """Show what has been written."""
        try:
            self.screen.feed(os.read(self._ours, 65536))
        except BlockingIOError:
            return
        except OSError:  # so Linux says that nobody writes any more
            self.runs, self.gone = False, True
            self.status = self.shell.wait(_A_MOMENT)

    def is_free(self) -> bool:
        """Whether nothing runs, and a command can be typed."""
        return not self.runs

    def kill(self) -> None:
        """End what runs in the foreground, whatever it thinks of that."""
        group = os.tcgetpgrp(self._ours)
        if group not in (0, self.shell.pid):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)

    def close(self) -> None:
        """Close its window."""
        os.close(self._ours)

    def _told(self, word: str) -> None:
        secret, _, sign = word.partition(";")
        if secret != self._secret:
            return
        if sign == "more":
            self._more = True
        elif sign == "begun" and not self._begun:
            self._begun = True
            self._mark = (self.screen.y, self.screen.x)
        elif sign.startswith("ended;"):
            self.runs = False
            self.status = int(sign.removeprefix("ended;"))

    # Typing

    def enter(self, command: str, following: Iterable[str] = ()) -> None:
        """
        Type a command, and wait until it begins.

        :param following: lines with which it goes on if the shell wants more of it.
        :raises Stuck: it does not begin, or begins before its end.
        """
        self._forget()
        self.runs, self._begun = True, False
        more = iter(following)
        lines = command.split("\n")
        while lines:
            self._more = False
            self.type(lines.pop(0))
            if not self._desk.wait(lambda: self._begun or self._more or not self.runs):
                raise Stuck(f"the command does not begin\n{self.rest()}")
            if self._more and not lines:
                line = next(more, None)
                if line is None:
                    raise Stuck("the shell waits for more of this command")
                lines.append(line)
            elif lines and not self._more:
                raise Stuck(f"the command begins before its line {lines[0]!r}")

    def type(self, text: str) -> None:
        """Type a line."""
        data = f"{text}\n".encode()
        if len(data) > 4000:
            raise Stuck("no terminal takes a line of that length")
        while data:
            if not self._desk.wait(lambda: bool(select.select([], [self], [], 0)[1])):
                raise Stuck(f"what is typed is not read: {text!r}")
            data = data[os.write(self._ours, data) :]

    def press(self, key: str) -> None:
        """Press Ctrl and a key."""
        # Ctrl-C makes a terminal throw away what it has not shown yet.
        self._desk.settle(0.05)
        os.write(self._ours, bytes([ord(key) & 0x1F]))

    # Looking

    def lines(self) -> tuple[list[str], str]:
        """What the page has not shown yet: whole lines, and the one that the cursor is in."""
        y, x = self._mark
        # A program may have gone up again, and have erased what was there.
        first, *others = self.screen.rows[y:] or [""]
        *whole, current = [self._desk.disguise.shown(row) for row in (first[x:], *others)]
        return whole, current

    def rest(self) -> str:
        """The same as one text."""
        whole, current = self.lines()
        return "\n".join([*whole, current]).rstrip()

    def await_lines(self, want: list[str]) -> None:
        """
        Wait until what runs has shown these lines.

        :raises Stuck: it shows others, or not all of them, or has ended before.
        """
        want = [*self.carry, *want]
        ran = self.left is not None

        def found() -> tuple[int, bool] | None:
            return shown_in(want, *self.lines())

        def in_vain() -> bool:
            return is_in_vain(want, self.lines()[0])

        def ended() -> bool:
            return ran and not self.runs

        until = time.monotonic() + self._desk.patience.show
        while (left := until - time.monotonic()) > 0:
            had_ended = ended()
            self._desk.wait(lambda: found() is not None or in_vain() or ended(), left)
            if (at := found()) and not at[1]:
                break
            # It may be the beginning of a longer line, or be drawn anew.
            self._desk.settle(0.5)
            if found() or in_vain() or had_ended:
                break
        at = found()
        if at is None:
            how = f" and has ended with status {self.status}" if ended() else ""
            raise Stuck(difference(want, self.rest(), how))
        count, with_current = at
        if error := unshown_error(want, self.lines()[0][:count]):
            raise Stuck(error)
        if count:
            self._mark = (self._mark[0] + count, 0)
        self.carry = want[-1:] if with_current or is_dots(want[-1:]) else []

    def await_start(self) -> None:
        """
        Wait until a program runs that shows nothing.

        :raises Stuck: none does, or it ends at once.
        """
        self._desk.wait(lambda: os.tcgetpgrp(self._ours) != self.shell.pid or not self.runs)
        self._desk.settle(0.5)
        if not self.runs or os.tcgetpgrp(self._ours) == self.shell.pid:
            raise Stuck(f"it has ended with status {self.status}\n{self.rest()}")

    def await_end(
        self, want: list[str] | None, patience: float = _A_MOMENT, after_key: bool = False
    ) -> str | None:
        """
        Wait until what runs has ended.

        :param want: lines that it should have shown; ``None`` when that does not matter.
        :param after_key: whether it may begin a new line, as the shell does then.
        :return: what is wrong with what it has shown.
        :raises Stuck: it does not end.
        """
        if not self._desk.wait(lambda: not self.runs, patience):
            raise Stuck(f"it does not end, and shows\n{self.rest()}")
        whole, current = self.lines()
        got, wanted = [*whole, current], [*self.carry, *(want or [])]
        self.shown = "\n".join(got).rstrip()
        self._forget()
        if after_key and not got[0].strip() and not ended_as(wanted, got):
            del got[0]
        if want is None or ended_as(wanted, got):
            return unshown_error(wanted, got)
        return difference(wanted, self.shown)

    def _forget(self) -> None:
        self._mark = (self.screen.y, self.screen.x)
        self.carry = []


def unshown_error(want: list[str], got: list[str]) -> str | None:
    """What is wrong with lines that a page has not looked at closely."""
    if any(_ERROR in line for line in got) and not any(_ERROR in line for line in want):
        return "\n".join(["shows an error that the page does not", *got]).rstrip()
    return None


def is_dots(lines: list[str]) -> bool:
    """Whether the last of these lines stands for any number of lines."""
    return bool(lines) and lines[-1].strip() == DOTS


# --- the desk ---------------------------------------------------------------------------------


class Desk:
    """
    Where the terminals of a page stand.

    :ivar folder: the folder that they begin in.
    :ivar environment: the environment of their shells.
    """

    def __init__(self, page: Path, patience: Patience) -> None:
        self.patience = patience
        self._turn = take_turn(patience.turn)
        self.disguise = Disguise(page.read_text(encoding="utf-8"), self._turn is not None)
        self.terminals: dict[str, Terminal] = {}
        self._whole = Path(tempfile.mkdtemp(prefix="py2p-page-")).resolve()
        self.folder, self.home = self._whole / "work", self._whole / "home"
        self.home.mkdir()
        if in_project(page):
            copy_project(self.folder)
        else:
            self.folder.mkdir()
        self._mark = f"{_MARK}={secrets.token_hex(8)}"
        self.environment = self._make_environment()

    def _make_environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if _KEPT.fullmatch(name)}
        ours = Path(os.path.expanduser("~"))
        for name, place in (
            ("PIP_CONFIG_FILE", ours / ".config/pip/pip.conf"),
            ("PIP_CONFIG_FILE", ours / ".pip/pip.conf"),
            ("PIP_CACHE_DIR", ours / ".cache/pip"),
        ):
            if place.exists():
                kept.setdefault(name, str(place))
        # Not resolved: in a virtual environment the interpreter is a link.
        path = [os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)]
        name, _, value = self._mark.partition("=")
        return {
            **kept,
            name: value,
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "PATH": os.pathsep.join(path),
            "SHELL": "/bin/bash",
            "TERM": "xterm",
            # It would stand in what is compared.
            "VIRTUAL_ENV_DISABLE_PROMPT": "1",
        }

    def terminal(self, name: str) -> Terminal:
        """The terminal of that name; a new one, if there is none yet or its shell has ended."""
        old = self.terminals.get(name)
        if old is not None and not old.gone:
            return old
        if old is not None:
            old.close()
        new = self.terminals[name] = Terminal(name, self)
        new.start()
        return new

    def write(self, file: File) -> None:
        """Write a file of the page."""
        place = file.path
        path = self.home / place[2:] if place.startswith("~/") else self.folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.disguise.real(file.source), encoding="utf-8")

    # Waiting

    def wait(self, condition: Callable[[], bool], seconds: float = _A_MOMENT) -> bool:
        """
        Read what all terminals show until a condition holds.

        :param seconds: how long it may take; half a minute, if not given.
        :return: whether it holds.
        """
        until = time.monotonic() + seconds
        while not condition():
            left = until - time.monotonic()
            if left <= 0:
                return False
            self._pump(min(left, 0.05))
        return True

    def settle(self, seconds: float) -> None:
        """Read until no terminal has shown anything for some time."""
        until = time.monotonic() + _A_MOMENT
        while self._pump(seconds) and time.monotonic() < until:
            pass

    def _pump(self, seconds: float) -> bool:
        """Read once; whether there was anything."""
        open_ones = [terminal for terminal in self.terminals.values() if not terminal.gone]
        ready, _, _ = select.select(open_ones, [], [], seconds)
        for terminal in ready:
            terminal.read()
        return bool(ready)

    # The end

    def close(self) -> tuple[list[str], list[str]]:
        """
        End everything: as a user would, and then whatever it takes.

        :return: what could not be ended by Ctrl-C, and what has ended with an error then.
        """
        problems, errors = [], []
        try:
            for terminal in reversed(self.terminals.values()):
                if not terminal.runs:
                    continue
                terminal.press("C")
                if not self.wait(terminal.is_free, self.patience.end):
                    problems.append(f"{terminal.last} does not end with Ctrl-C")
                    terminal.kill()
                elif _ERROR in terminal.rest():
                    errors.append(f"{terminal.last} has left an error:\n{terminal.rest()}")
            problems += self._end_children()
        finally:
            for terminal in self.terminals.values():
                terminal.close()
            for number in self._children():
                # The shells too: whoever has one of their descriptors keeps their terminal open.
                _send(number, signal.SIGKILL)
            for terminal in self.terminals.values():
                terminal.shell.wait()
            shutil.rmtree(self._whole, ignore_errors=True)
            if self._turn is not None:
                self._turn.close()
        until = time.monotonic() + self.patience.end
        while (rest := self._children()) and time.monotonic() < until:
            time.sleep(0.05)
        return problems + [f"{name} is still there" for name in rest.values()], errors

    def _end_children(self) -> list[str]:
        """End what runs in the background."""
        shells = {terminal.shell.pid for terminal in self.terminals.values()}

        def others() -> dict[int, str]:
            return {pid: name for pid, name in self._children().items() if pid not in shells}

        if others():
            # What has just been started may not be itself yet.
            self.settle(0.2)
        for pid in others():
            _send(pid, signal.SIGCONT)
            _send(pid, signal.SIGINT)
        self.wait(lambda: not others(), self.patience.end)
        return [f"{name} does not end when it is interrupted" for name in others().values()]

    def _children(self) -> dict[int, str]:
        """All processes that come from here, with what they are called."""
        found = {}
        mark = self._mark.encode()
        for place in Path("/proc").iterdir():
            if place.name.isdecimal():
                # It may belong to somebody else, or have ended meanwhile.
                with contextlib.suppress(OSError):
                    if mark in (place / "environ").read_bytes().split(b"\0"):
                        words = (place / "cmdline").read_bytes().split(b"\0")
                        found[int(place.name)] = b" ".join(words).decode(errors="replace").strip()
        return found


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def copy_project(folder: Path) -> None:
    """Copy what is in version control, or belongs there, as it is in this folder now."""
    asked = None
    with contextlib.suppress(FileNotFoundError):
        asked = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=False,
        )
    if asked is None or asked.returncode:  # without git, or as it comes from an archive
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*_NOT_OURS))
        return
    for name in filter(None, asked.stdout.decode().split("\0")):
        # What was deleted is still listed until that is recorded.
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


# --- a page -----------------------------------------------------------------------------------


def perform(page: Path, patience: Patience | None = None) -> tuple[int, list[str]]:
    """
    Do what a page says, from top to bottom.

    :return: how many steps were taken, and what was not as the page says.
    """
    problems = problems_of(page)
    if problems:
        return 0, problems
    performance = _Performance(page, patience or Patience())
    try:
        performance.run()
    finally:
        problems = performance.end()
    return performance.steps, problems


class _Performance:
    def __init__(self, page: Path, patience: Patience) -> None:
        self.steps = 0
        self._page = page
        self._desk = Desk(page, patience)
        self._problems: list[str] = []

    def run(self) -> None:
        """Go through the page, until what follows has no sense any more."""
        for part in parts_of(self._page):
            if part.excused:
                continue
            if isinstance(part, File):
                self._desk.write(part)
                continue
            at = Step(part.piece.line, "output", f"the terminal {part.terminal!r}")
            try:
                for at in self._block(part):  # noqa: B007 - it is named when that goes wrong
                    self.steps += 1
            except Stuck as stuck:
                self._complain(at, str(stuck))
                break

    def end(self) -> list[str]:
        """Close everything; all that was not as the page says."""
        for terminal in self._desk.terminals.values():
            if terminal.left is not None and not terminal.runs and not self._problems:
                self._await_left(terminal)
        at_the_end, errors = self._desk.close()
        if not self._problems:
            # Otherwise it was ended in the middle of something.
            at_the_end += errors
        return [*self._problems, *(f"{self._page.name}: {text}" for text in at_the_end)]

    def _complain(self, step: Step, text: str | None) -> None:
        if text is not None:
            for documented, real in self._desk.disguise.ports.items():
                text += f"\n({documented} was taken, so it was {real}.)"
            self._problems.append(f"{where(self._page, step.line)}: {step}\n{text}")

    def _block(self, block: ShellBlock) -> Iterator[Step]:
        """Take the steps of a block; each comes out before it is taken."""
        terminal = self._desk.terminal(block.terminal)
        # It need not show what comes while it is about something else.
        terminal.carry = [DOTS]
        if block.first:
            yield Step(block.piece.line, "output", f"the terminal {terminal.name!r}")
            terminal.await_lines(block.first)
        steps = deque(block.steps)
        while steps:
            step = steps.popleft()
            yield step
            self._take(terminal, block, step, steps)

    def _take(self, terminal: Terminal, block: ShellBlock, step: Step, others: deque[Step]) -> None:
        """
        Take one step.

        :param others: those of the block that come after it.
        :raises Stuck: none of these has sense any more.
        """
        want = list(step.want or [])
        real = self._desk.disguise.real
        if step.kind == "command":
            self._await_left(terminal)
            terminal.last = str(step)
            terminal.enter(real(step.text), map(real, _following(block, want, others)))
        elif not terminal.runs:
            raise Stuck(f"{terminal.last} has ended before with status {terminal.status}")
        else:
            prompt = step.prompt.rstrip()
            if prompt and terminal.carry != [prompt]:
                terminal.await_lines([prompt])
            if step.kind == "key":
                if prompt:
                    # What is shown next begins in the same line.
                    terminal.carry = [prompt + DOTS]
                terminal.press(step.text)
            else:
                if prompt:
                    terminal.carry = []
                terminal.type(real(step.text))
                # The terminal shows it, or the program does.
                want.insert(0, step.prompt + step.text)
        statuses = block.statuses(step)
        if others[0].kind != "command" if others else block.running or step.kind == "line":
            terminal.left = (step, statuses)
            if block.silent and not others:
                terminal.await_start()
            else:
                terminal.await_lines(want)
            return
        terminal.left = None
        patience = self._desk.patience
        text = terminal.await_end(
            None if step.want is None else want,
            patience.end if step.kind == "key" else patience.command,
            after_key=step.kind == "key",
        )
        self._complain(step, text or _wrong_status(terminal, statuses))

    def _await_left(self, terminal: Terminal) -> None:
        """What was left running at this terminal has to come to its end by itself now."""
        if terminal.left is None:
            return
        terminal.carry = [DOTS]
        step, statuses = terminal.left
        terminal.left = None
        try:
            text = terminal.await_end([], self._desk.patience.show)
        except Stuck as stuck:
            raise Stuck(f"{terminal.last} has not ended: {stuck}") from stuck
        self._complain(step, text or _wrong_status(terminal, statuses))


def _wrong_status(terminal: Terminal, statuses: set[int]) -> str | None:
    if terminal.status in statuses:
        return None
    which = " or ".join(map(str, sorted(statuses)))
    return f"should end with status {which}, not {terminal.status}\n{terminal.shown}"


def _following(block: ShellBlock, want: list[str], others: deque[Step]) -> Iterator[str]:
    """The lines of a block with which a command may go on, as the shell asks for them."""
    while block.is_script and others:
        yield from others.popleft().text.split("\n")
    while want and want[0].startswith(">"):
        yield without_prompt(want.pop(0))
