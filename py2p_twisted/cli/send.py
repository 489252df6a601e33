"""
``py2p send``: one message, or one for each line of standard input.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from py2p_twisted.cli import CommandParser, control
from py2p_twisted.cli.lines import FileLines, Reader
from py2p_twisted.cli.member import Member, add_options, typed
from py2p_twisted.cli.progress import Progress
from py2p_twisted.cli.receipts import INCOMPLETE, Outcome, patience
from py2p_twisted.cli.running import CommandFailed
from py2p_twisted.cli.running import run as run_reactor
from py2p_twisted.control import ControlError
from py2p_twisted.core import flags
from py2p_twisted.daemon.options import number
from py2p_twisted.errors import LocalError
from py2p_twisted.net import plainjson
from py2p_twisted.net.reports import printable
from py2p_twisted.net.service import CONFIRM_TIMEOUT

DESCRIPTION = """\
Join a network for a moment and send a message to everybody in it. Every
argument is a packet of text; "-" stands for what standard input holds, and so
does no argument at all.

Ends with exit code 0 when a neighbour has read it all: from there it goes its
way. With 1 when nobody could be joined, or a link broke before that; what was
sent may have arrived all the same.

With --control the node that runs on this machine sends it, as a message of its
own: it goes to all that node's peers, and not to the programs of the node
itself. The exit code is 0 when it has taken it.

With --wait it says who has the message: a line, and one for each member that
is missing; with --json an object with the keys delivered, missing, unknown
(nodes of py2p 0.6: they cannot tell), seconds, complete. The exit code is 0
when all have it, 3 when it was sent and somebody is missing or nobody was
there, and 1 when it was not sent. A node that runs knows the members for
longer than a command that has just joined: see --control.
"""

EXAMPLES = """\
examples:
  py2p send storm north
  df -h | py2p send --join=192.0.2.7:4444 "disk report" -
  py2p send --control storm north
  py2p send --wait=30 storm north || echo "not everybody knows" >&2
"""

#: Messages whose receipts are waited for at the same time.
MOST_WAITED: Final = 10


def add_to(commands: Any) -> None:
    """Add the command to a parser's commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "send",
        help="send a message to everybody",
        description=DESCRIPTION,
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "packets", nargs="*", metavar="PACKET", help='a packet; "-" is standard input'
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--lines", action="store_true", help="one message for each line of standard input"
    )
    how.add_argument(
        "--json",
        action="store_true",
        help="the same, where each line is a JSON array of packets, or what listen --json prints; "
        "with --wait, packets may be arguments, and what is printed is JSON",
    )
    parser.add_argument(
        "--whisper",
        action="store_true",
        help="only to the node that is joined through, which keeps it to itself",
    )
    parser.add_argument(
        "--type",
        type=typed(number(flags.FIRST_FREE, 2**63 - 1), "48"),
        default=flags.BROADCAST,
        metavar="N",
        help=f"the message's type, from {flags.FIRST_FREE} on: for handlers (default: none)",
    )
    parser.add_argument(
        "--wait",
        type=typed(patience, "30"),
        metavar="[=SECONDS]",
        help=f"find out who gets it, and wait so long for that (default: {CONFIRM_TIMEOUT:g})",
    )
    if isinstance(parser, CommandParser):
        parser.may_be_bare |= {"--wait"}
    control.add_option(parser)
    add_options(parser)
    parser.set_defaults(run=run, parser=parser)


def run(options: argparse.Namespace) -> int:
    """
    Send.

    :return: 0 when a neighbour has read it; with ``--wait`` when all have it, else `INCOMPLETE`.
    """
    streaming = options.lines or options.json
    control.check(options)
    if options.wait is not None and options.whisper:
        options.parser.error("--whisper is for one node alone: --wait does not go with it")
    if options.json and options.packets and options.wait is not None:
        streaming = False
    if streaming and options.packets:
        options.parser.error("--lines and --json take messages from standard input, not arguments")
    if options.packets.count("-") > 1:
        options.parser.error('standard input can be one packet: give "-" once')
    if not options.packets and sys.stdin.isatty() and not streaming:
        options.parser.error("nothing to send: give packets, or pipe something in")
    packets = [] if streaming else packets_of(options.packets or ["-"], sys.stdin.buffer)

    def work(reactor: Any) -> Coroutine[Deferred[Any], Any, int]:
        if streaming:
            return _send_lines(reactor, options, FileLines(sys.stdin.fileno()))
        return _send(reactor, options, packets)

    return run_reactor(work)


def packets_of(arguments: Iterable[str], stdin: BinaryIO) -> list[str | bytes]:
    """The packets that arguments stand for. What is no UTF-8 becomes a packet of bytes."""
    return [as_packet(stdin.read()) if one == "-" else _as_typed(one) for one in arguments]


def as_packet(data: bytes) -> str | bytes:
    """Text without its last line break, where it is text."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return data
    return text.removesuffix("\r\n") if text.endswith("\r\n") else text.removesuffix("\n")


def _as_typed(argument: str) -> str | bytes:
    try:
        argument.encode("utf-8")
    except UnicodeEncodeError:
        # What was typed is no UTF-8; Python keeps its bytes as surrogates.
        return argument.encode("utf-8", "surrogateescape")
    return argument


def _way(reactor: Any, options: argparse.Namespace) -> Member | control.Through:
    if options.control is not None:
        return control.Through(reactor, "py2p send", options)
    return Member(reactor, "py2p send", options, max_outgoing=0)


async def _send(reactor: Any, options: argparse.Namespace, packets: list[Any]) -> int:
    member = _way(reactor, options)
    sending = _Sending(reactor, member, options)
    try:
        await member.join()
        await sending.begin()
        await sending.give(packets)
        return await sending.end()
    finally:
        sending.give_up()
        await member.leave()


async def _send_lines(reactor: Any, options: argparse.Namespace, stdin: FileLines) -> int:
    member = _way(reactor, options)
    sending = _Sending(reactor, member, options)
    reader = Reader(reactor, stdin.readline)
    count = 0
    try:
        await member.join()
        await sending.begin()
        while line := await reader.next():
            count += 1
            if not options.json:
                await sending.give([as_packet(line)], count)
            elif line.strip():
                try:
                    packets = plainjson.loads(line.decode("utf-8"))
                except ValueError as error:
                    raise CommandFailed(f"{_where(count)}{error}") from error
                await sending.give(packets, count)
        return await sending.end()
    except CommandFailed:
        await sending.results()  # of what was sent before
        raise
    finally:
        sending.give_up()
        await member.leave()


def _where(line: int) -> str:
    return f"line {line} of standard input: " if line else ""


class _Sending:
    """
    What is being sent: one message after the other, or several while their receipts are waited for.

    Results are printed in the order of the messages, each as soon as it is known.
    """

    def __init__(
        self, reactor: Any, way: Member | control.Through, options: argparse.Namespace
    ) -> None:
        self._reactor = reactor
        self._way = way
        self._options = options
        #: What is waited for, with the line that it stood in, oldest first.
        self._waiting: deque[tuple[int, Deferred[Outcome]]] = deque()
        self._known: dict[int, Outcome] = {}
        self._problem: CommandFailed | None = None
        self._changed: Deferred[None] | None = None
        self._progress: Progress | None = None
        self._code = 0
        self._unread = False

    async def begin(self) -> None:
        """Find out who there is, if receipts are waited for."""
        if self._options.wait is not None:
            with Progress(
                self._reactor, lambda passed: f"py2p send: looking around, {passed:.0f} s"
            ):
                await self._way.look_around(self._options.wait)

    async def give(self, packets: list[Any], line: int = 0) -> None:
        """
        Send a message, or say that it should be.

        :param line: of standard input; 0: it stood nowhere there.
        :raises CommandFailed: this one, or one before it, cannot be sent.
        """
        if self._options.wait is None:
            flag = flags.WHISPER if self._options.whisper else flags.BROADCAST
            with _at_line(line):
                await self._way.send(*packets, flag=flag, type=self._options.type)
            return
        doing = Deferred.fromCoroutine(self._confirmed(packets, line))
        self._waiting.append((line, doing))
        doing.addBoth(self._done, line)
        while len(self._waiting) >= MOST_WAITED:
            await self._change()
        if self._problem is not None:
            raise self._problem

    async def end(self) -> int:
        """
        Wait until all is done.

        :return: the exit code.
        :raises CommandFailed: something was not sent.
        """
        if self._options.wait is None:
            await self._way.confirm()
            return 0
        await self.results()
        if self._problem is not None:
            raise self._problem
        if self._unread:
            # There are none but nodes that send no receipts: at least one of them has read it.
            await self._way.confirm()
        return self._code

    async def results(self) -> None:
        """Wait for what is not known yet."""
        with Progress(self._reactor, self._how_far) as self._progress:
            while self._waiting:
                await self._change()

    def give_up(self) -> None:
        """Nobody waits any longer."""
        for _, doing in list(self._waiting):
            doing.cancel()

    async def _confirmed(self, packets: list[Any], line: int) -> Outcome:
        with _at_line(line):
            return await self._way.send_confirmed(
                *packets, type=self._options.type, timeout=self._options.wait
            )

    def _done(self, result: Any, line: int) -> None:
        if isinstance(result, Failure):
            if isinstance(result.value, CommandFailed):
                self._problem = self._problem or result.value
            elif not result.check(CancelledError):
                self._problem = CommandFailed(f"{_where(line)}{result.value}")
        else:
            self._known[line] = result
        while self._waiting and self._waiting[0][1].called:
            line, _ = self._waiting.popleft()
            if line in self._known:
                self._show(line, self._known.pop(line))
        changed, self._changed = self._changed, None
        if changed is not None and not changed.called:
            changed.callback(None)

    def _change(self) -> Deferred[None]:
        self._changed = Deferred()
        return self._changed

    def _show(self, line: int, outcome: Outcome) -> None:
        if not outcome.complete:
            self._code = INCOMPLETE
        self._unread |= outcome.complete and not outcome.delivered
        if self._options.json:
            said = [json.dumps({"line": line, **outcome.fields} if line else outcome.fields)]
        else:
            said = [outcome.text, *outcome.names]
            if line:
                said = [f"line {line}: {one}" for one in said]
        if self._progress is not None:
            self._progress.clear()
        print("\n".join(said), flush=True)

    def _how_far(self, passed: float) -> str:
        of = f" of {len(self._waiting)} messages" if len(self._waiting) > 1 else ""
        return (
            f"py2p send: waiting for receipts{of}, {passed:.0f} s of {self._options.wait:g} s "
            "at most"
        )


@contextmanager
def _at_line(line: int) -> Iterator[None]:
    """Say in which line of standard input it stood what cannot be sent."""
    try:
        yield
    except LocalError as error:
        raise CommandFailed(f"{_where(line)}{error}") from error
    except ControlError as error:
        raise CommandFailed(f"{_where(line)}{printable(str(error))}") from error
