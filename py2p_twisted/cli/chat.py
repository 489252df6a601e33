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
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, Protocol

from twisted.internet.defer import CancelledError, Deferred

from py2p_twisted.cli import control
from py2p_twisted.cli.lines import FileLines, Reader, Writer
from py2p_twisted.cli.listen import as_line, event_line
from py2p_twisted.cli.member import Member, add_options, typed
from py2p_twisted.cli.report import many
from py2p_twisted.cli.running import CommandFailed
from py2p_twisted.cli.running import run as run_reactor
from py2p_twisted.control import ControlClient
from py2p_twisted.core.connection import Connection
from py2p_twisted.daemon.options import text as any_text
from py2p_twisted.errors import LocalError, MeshError
from py2p_twisted.net import Delivery, plainjson
from py2p_twisted.net.reports import printable

DESCRIPTION = """\
Talk with everybody in a network. What you type is a message of two packets,
your name and the line; what others say appears above. Ctrl-D leaves.

With --control it goes through the node that runs on this machine. What that
node says itself, such as what somebody else types here through it, it does not
hear.
"""

EXAMPLES = """\
examples:
  py2p chat
  py2p chat --name=ada --join=192.0.2.7:4444
  py2p chat --control
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
    control.add_option(parser)
    add_options(parser)
    parser.set_defaults(run=run, parser=parser)


def run(options: argparse.Namespace) -> int:
    """
    Chat.

    :return: 0 when the user has left, and a neighbour has read all that was said.
    """
    control.check(options)
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


class Way(Protocol):
    """How a chat takes part in a network."""

    async def join(self) -> str:
        """Begin; what there is to say about that."""

    async def say(self, *packets: str) -> None:
        """Send a message."""

    async def peers(self) -> list[str]:
        """A line for each peer."""

    async def confirm(self) -> None:
        """Wait until what was said will go its way."""

    async def leave(self) -> None:
        """End."""


class Joined:
    """As a member of its own."""

    def __init__(self, reactor: Any, options: argparse.Namespace, show: Callable[[str], None]):
        """
        :param show: shows a line.
        """
        self._show = show
        self._member = Member(reactor, "py2p chat", options)
        self._member.service.on_message = self._heard

    async def join(self) -> str:
        """Join."""
        where = await self._member.join()
        service = self._member.service
        service.on_join, service.on_leave = self._peer_up, self._peer_down
        return f"joined through {where}"

    async def say(self, *packets: str) -> None:
        """Send a message."""
        await self._member.service.send(*packets)

    async def peers(self) -> list[str]:
        """A line for each peer."""
        service = self._member.service
        return [
            f"{printable(ident)} at {link.owner.peer_name}"
            for ident, link in service.routing_table.items()
            if ident in service.settled
        ]

    async def confirm(self) -> None:
        """Wait until a neighbour has read it all."""
        await self._member.confirm()

    async def leave(self) -> None:
        """Leave the network."""
        self._member.service.on_join = self._member.service.on_leave = None
        await self._member.leave()

    def _heard(self, delivery: Delivery) -> None:
        self._show(_said(delivery.packets[1:]) or as_line(delivery))

    def _peer_up(self, link: Connection) -> None:
        self._show(f"* peer up at {link.owner.peer_name}, {self._peers()}")

    def _peer_down(self, link: Connection, error: MeshError) -> None:
        left = self._peers()
        more = "" if self._member.service.settled else "; trying to get back"
        self._show(f"* peer down at {link.owner.peer_name}, because {error}; {left}{more}")

    def _peers(self) -> str:
        return many(len(self._member.service.settled), "peer")


class Through:
    """Through a node that runs."""

    def __init__(
        self,
        reactor: Any,
        options: argparse.Namespace,
        show: Callable[[str], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """
        :param show: shows a line.
        :param failed: is told when the node has gone.
        """
        self._reactor = reactor
        self._options = options
        self._show = show
        self._failed = failed
        self._asked: ControlClient | None = None

    async def join(self) -> str:
        """Find the node."""
        options = self._options
        asked = self._asked = await control.find(
            self._reactor, options.control.place, options.network, options.timeout
        )
        asked.on_event = self._told
        answer = await control.ask(asked, "status")
        await control.ask(asked, "listen", events=["message", "up", "down"])
        asked.closed.addCallback(lambda error: self._failed(CommandFailed(printable(str(error)))))
        where, count = answer["status"]["address"], answer["settled"]
        return f"through the node at {printable(str(where))}, which has {many(count, 'peer')}"

    async def say(self, *packets: str) -> None:
        """Have the node send a message."""
        assert self._asked is not None  # noqa: S101 - joined before
        await control.ask(self._asked, "send", packets=list(packets))

    async def peers(self) -> list[str]:
        """A line for each peer of the node."""
        assert self._asked is not None  # noqa: S101 - joined before
        rows = (await control.ask(self._asked, "peers"))["peers"]
        return [f"{printable(str(row['id']))} at {printable(str(row['where']))}" for row in rows]

    async def confirm(self) -> None:
        """Nothing: the node has taken each message."""

    async def leave(self) -> None:
        """Hang up."""
        if self._asked is not None:
            self._asked.close()

    def _told(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "message":
            packets = [plainjson.from_plain(one) for one in event["packets"]]
            self._show(_said(packets) or event_line(event))
        elif kind == "up":
            self._show(f"* peer up at {printable(str(event['where']))}")
        elif kind == "down":
            where, error = printable(str(event["where"])), printable(str(event["error"]))
            self._show(f"* peer down at {where}, because {error}")
        elif kind == "dropped":
            self._show(f"* {event['dropped']} lines are lost")


def _said(packets: Sequence[Any]) -> str:
    """What somebody says in a chat; nothing if it is something else."""
    if len(packets) == 2 and all(isinstance(one, str) for one in packets):
        return f"{printable(packets[0])}: {printable(packets[1])}"
    return ""


class Chat:
    """One conversation."""

    def __init__(
        self, reactor: Any, options: argparse.Namespace, name: str, console: Console
    ) -> None:
        self._name = name
        self._failed: Exception | None = None
        self._waiting: Deferred[Any] | None = None
        self._spoken = False
        self._reader = Reader(reactor, console.read)
        self._writer = Writer(reactor, console.write, self._cannot_go_on)
        self._way: Way
        if options.control is None:
            self._way = Joined(reactor, options, self._show)
        else:
            self._way = Through(reactor, options, self._show, self._cannot_go_on)

    async def run(self) -> None:
        """
        Join, talk, leave.

        :raises CommandFailed: it could not join, or what was said last has not arrived.
        """
        way = self._way
        try:
            where = await way.join()
            self._show(f"* {where} as {printable(self._name)}; Ctrl-D leaves, /help helps")
            while True:
                self._waiting = self._reader.next()
                line = await self._waiting
                if line is None or not await self._typed(line.strip()):
                    break
            await self._writer.drained()
            if self._spoken:
                await way.confirm()
        except CancelledError:
            if self._failed is None:
                raise
        finally:
            await way.leave()
        if self._failed is not None:
            raise self._failed

    async def _typed(self, line: str) -> bool:
        if line in ("/quit", "/q"):
            return False
        if line == "/peers":
            try:
                for text in await self._way.peers():
                    self._show(f"* {text}")
            except CommandFailed as error:
                self._show(f"* {error}")
        elif line == "/help":
            self._show(HELP)
        elif line.startswith("/") and not line.startswith("//"):
            self._show(f"* there is no {line.split()[0]}; {HELP[2:]}")
        elif line:
            try:
                await self._say(line.removeprefix("/") if line.startswith("//") else line)
            except (LocalError, UnicodeEncodeError, CommandFailed) as error:
                self._show(f"* not sent: {error}")
        return True

    async def _say(self, text: str) -> None:
        await self._way.say(self._name, text)
        self._spoken = True

    def _show(self, line: str) -> None:
        self._writer.put(line + "\n")

    def _cannot_go_on(self, error: Exception) -> None:
        """Nothing can be written, or the node has gone."""
        if self._failed is None:
            self._failed = error
        if self._waiting is not None:
            self._waiting.cancel()
