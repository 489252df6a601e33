"""
``py2p chat``: talk with whoever is in the network.

A line that is typed becomes a message of two packets, the name and the text. On a terminal
readline edits the line, and what others say appears above it. Without a terminal, standard
input is what is said.
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred

from py2p_twisted.cli.lines import FileLines, Reader, Writer
from py2p_twisted.cli.listen import as_line
from py2p_twisted.cli.member import Member, add_options, typed
from py2p_twisted.cli.running import run as run_reactor
from py2p_twisted.core.connection import Connection
from py2p_twisted.daemon.options import text as any_text
from py2p_twisted.errors import LocalError, MeshError
from py2p_twisted.net import Delivery
from py2p_twisted.net.reports import printable

DESCRIPTION = """\
Talk with everybody in a network. What you type is a message of two packets,
your name and the line; what others say appears above. Ctrl-D leaves.
"""

EXAMPLES = """\
examples:
  py2p chat
  py2p chat --name=ada --join=192.0.2.7:4444
"""

PROMPT: Final = "> "

HELP: Final = "* /peers lists the peers, /quit or Ctrl-D leaves"


def add_to(commands: Any) -> None:
    """Add the command to a parser's commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "chat",
        help="talk with everybody",
        description=DESCRIPTION,
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "--name",
        type=typed(any_text, "ada"),
        metavar="NAME",
        help="who you say you are (default: your login name)",
    )
    add_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """
    Chat.

    :return: 0 when the user has left, and a neighbour has read all that was said.
    """
    name = options.name or login_name()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a message may hold any character

    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="replace")  # and may be typed in any encoding
    talk = console()

    def work(reactor: Any) -> Coroutine[Deferred[Any], Any, None]:
        return Chat(reactor, options, name, talk).run()

    with terminal_restored():
        try:
            run_reactor(work)
        finally:
            talk.end_line()
    return 0


def login_name() -> str:
    """What the system calls the user; ``somebody`` if it has no name for them."""
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):
        return "somebody"


class Console:
    """Standard input and output when they are no terminal."""

    prompt = ""

    def __init__(self, lines: FileLines) -> None:
        """
        :param lines: what is said.
        """
        self._lines = lines

    def read(self) -> str | None:
        """The next line without its end; ``None`` when there is none."""
        line = self._lines.readline()
        return line.decode("utf-8", "replace").rstrip("\r\n") if line else None

    def write(self, text: str) -> None:
        """Write lines."""
        sys.stdout.write(text)
        sys.stdout.flush()

    def end_line(self) -> None:
        """Let what comes next begin a line of its own."""


class TerminalConsole(Console):
    """A terminal: what is typed is kept below what is shown."""

    prompt = PROMPT

    def __init__(self, line_buffer: Callable[[], str]) -> None:
        """
        :param line_buffer: what has been typed so far.
        """
        self._line_buffer = line_buffer
        self._reading = False

    def read(self) -> str | None:
        """Let the user edit a line."""
        self._reading = True
        try:
            return input(self.prompt)
        except EOFError:
            return None
        finally:
            self._reading = False

    def write(self, text: str) -> None:
        """Put lines where the line is that is being typed, and that one below them."""
        if self._reading:
            text = f"\r\x1b[K{text}{self.prompt}{self._line_buffer()}"
        sys.stdout.write(text)
        sys.stdout.flush()

    def end_line(self) -> None:
        """Leave the line that is being typed."""
        if self._reading:
            sys.stdout.write("\n")
            sys.stdout.flush()


def console() -> Console:
    """The console of this process."""
    if sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        try:
            import readline
        except ImportError:  # Windows
            return TerminalConsole(lambda: "")
        return TerminalConsole(readline.get_line_buffer)
    return Console(FileLines(sys.stdin.fileno()))


@contextmanager
def terminal_restored() -> Iterator[None]:
    """Give the terminal back as it was, even when a line is still being edited."""
    try:
        import termios

        number = sys.stdin.fileno()
        before = termios.tcgetattr(number)
    except (ImportError, OSError, ValueError, termios.error):
        yield
        return
    try:
        yield
    finally:
        with suppress(termios.error):
            termios.tcsetattr(number, termios.TCSADRAIN, before)


class Chat:
    """One conversation."""

    def __init__(
        self, reactor: Any, options: argparse.Namespace, name: str, console: Console
    ) -> None:
        self._name = name
        self._failed: Exception | None = None
        self._waiting: Deferred[Any] | None = None
        self._said = False
        self._reader = Reader(reactor, console.read)
        self._writer = Writer(reactor, console.write, self._cannot_write)
        self.member = Member(reactor, "py2p chat", options)
        self.member.service.on_message = self._heard

    async def run(self) -> None:
        """
        Join, talk, leave.

        :raises CommandFailed: it could not join, or what was said last has not arrived.
        """
        service = self.member.service
        try:
            where = await self.member.join()
            service.on_join, service.on_leave = self._peer_up, self._peer_down
            self._show(
                f"* joined through {where} as {printable(self._name)}; Ctrl-D leaves, /help helps"
            )
            while True:
                self._waiting = self._reader.next()
                line = await self._waiting
                if line is None or not await self._typed(line.strip()):
                    break
            await self._writer.drained()
            if self._said:
                await self.member.confirm()
        except CancelledError:
            if self._failed is None:
                raise
        finally:
            service.on_join = service.on_leave = None
            await self.member.leave()
        if self._failed is not None:
            raise self._failed

    async def _typed(self, line: str) -> bool:
        if line in ("/quit", "/q"):
            return False
        if line == "/peers":
            service = self.member.service
            for ident, link in service.routing_table.items():
                if ident in service.settled:
                    self._show(f"* {printable(ident)} at {link.owner.peer_name}")
        elif line == "/help":
            self._show(HELP)
        elif line.startswith("/") and not line.startswith("//"):
            self._show(f"* there is no {line.split()[0]}; {HELP[2:]}")
        elif line:
            try:
                await self._say(line.removeprefix("/") if line.startswith("//") else line)
            except (LocalError, UnicodeEncodeError) as error:
                self._show(f"* not sent: {error}")
        return True

    async def _say(self, text: str) -> None:
        await self.member.service.send(self._name, text)
        self._said = True

    def _heard(self, delivery: Delivery) -> None:
        packets = delivery.packets[1:]
        if len(packets) == 2 and all(isinstance(one, str) for one in packets):
            self._show(f"{printable(packets[0])}: {printable(packets[1])}")
        else:
            self._show(as_line(delivery))

    def _peer_up(self, link: Connection) -> None:
        self._show(f"* peer up at {link.owner.peer_name}, {self._peers()}")

    def _peer_down(self, link: Connection, error: MeshError) -> None:
        left = self._peers()
        more = "" if self.member.service.settled else "; trying to get back"
        self._show(f"* peer down at {link.owner.peer_name}, because {error}; {left}{more}")

    def _peers(self) -> str:
        count = len(self.member.service.settled)
        return f"{count} peer{'' if count == 1 else 's'}"

    def _show(self, line: str) -> None:
        self._writer.put(line + "\n")

    def _cannot_write(self, error: Exception) -> None:
        self._failed = error
        if self._waiting is not None:
            self._waiting.cancel()
