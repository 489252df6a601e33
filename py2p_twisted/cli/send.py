"""
``py2p send``: one message, or one for each line of standard input.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Coroutine, Iterable
from typing import Any, BinaryIO

from twisted.internet.defer import Deferred

from py2p_twisted.cli import control
from py2p_twisted.cli.lines import FileLines, Reader
from py2p_twisted.cli.member import Member, add_options, typed
from py2p_twisted.cli.running import CommandFailed
from py2p_twisted.cli.running import run as run_reactor
from py2p_twisted.control import ControlError
from py2p_twisted.core import flags
from py2p_twisted.daemon.options import number
from py2p_twisted.errors import LocalError
from py2p_twisted.net import plainjson
from py2p_twisted.net.reports import printable

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
"""

EXAMPLES = """\
examples:
  py2p send storm north
  df -h | py2p send --join=192.0.2.7:4444 "disk report" -
  py2p send --control storm north
"""


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
        help="the same, where each line is a JSON array of packets, or what listen --json prints",
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
    control.add_option(parser)
    add_options(parser)
    parser.set_defaults(run=run, parser=parser)


def run(options: argparse.Namespace) -> int:
    """
    Send.

    :return: 0 when a neighbour has read it.
    """
    streaming = options.lines or options.json
    control.check(options)
    if streaming and options.packets:
        options.parser.error("--lines and --json take messages from standard input, not arguments")
    if options.packets.count("-") > 1:
        options.parser.error('standard input can be one packet: give "-" once')
    if not options.packets and sys.stdin.isatty() and not streaming:
        options.parser.error("nothing to send: give packets, or pipe something in")
    packets = [] if streaming else packets_of(options.packets or ["-"], sys.stdin.buffer)

    def work(reactor: Any) -> Coroutine[Deferred[Any], Any, None]:
        if streaming:
            return _send_lines(reactor, options, FileLines(sys.stdin.fileno()))
        return _send(reactor, options, packets)

    run_reactor(work)
    return 0


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


async def _send(reactor: Any, options: argparse.Namespace, packets: list[Any]) -> None:
    member = _way(reactor, options)
    try:
        await member.join()
        await _give(member, options, packets, "")
        await member.confirm()
    finally:
        await member.leave()


async def _send_lines(reactor: Any, options: argparse.Namespace, stdin: FileLines) -> None:
    member = _way(reactor, options)
    reader = Reader(reactor, stdin.readline)
    count = 0
    try:
        await member.join()
        while line := await reader.next():
            count += 1
            where = f"line {count} of standard input: "
            if not options.json:
                await _give(member, options, [as_packet(line)], where)
            elif line.strip():
                try:
                    packets = plainjson.loads(line.decode("utf-8"))
                except ValueError as error:
                    raise CommandFailed(f"{where}{error}") from error
                await _give(member, options, packets, where)
        await member.confirm()
    finally:
        await member.leave()


async def _give(
    member: Member | control.Through, options: argparse.Namespace, packets: list[Any], where: str
) -> None:
    flag = flags.WHISPER if options.whisper else flags.BROADCAST
    try:
        await member.send(*packets, flag=flag, type=options.type)
    except LocalError as error:
        raise CommandFailed(f"{where}{error}") from error
    except ControlError as error:
        raise CommandFailed(f"{where}{printable(str(error))}") from error
