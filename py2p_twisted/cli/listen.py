"""
``py2p listen``: what is said in a network, line by line.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred

from py2p_twisted.cli.lines import Writer
from py2p_twisted.cli.member import Member, add_options, typed
from py2p_twisted.cli.running import CommandFailed
from py2p_twisted.cli.running import run as run_reactor
from py2p_twisted.core.connection import Connection
from py2p_twisted.daemon import plainjson
from py2p_twisted.daemon.options import number, seconds
from py2p_twisted.errors import MeshError
from py2p_twisted.net import Delivery
from py2p_twisted.net.reports import printable

DESCRIPTION = """\
Join a network and print every message that comes, one a line, until Ctrl-C:
the time, the beginning of the sender's id, and the packets. When the link is
lost it is made again.

With --json each line is an object: packets, sender, via, id, time, type.
"""

EXAMPLES = """\
examples:
  py2p listen
  py2p listen --join=192.0.2.7:4444 --count=1 --json
"""

#: Characters of an id that are shown.
_ID = 8


def add_to(commands: Any) -> None:
    """Add the command to a parser's commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "listen",
        help="print what is said",
        description=DESCRIPTION,
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "--count",
        type=typed(number(1), "10"),
        metavar="N",
        help="end after so many messages (default: never)",
    )
    parser.add_argument(
        "--wait",
        type=typed(seconds, "60"),
        metavar="SECONDS",
        help="end after so long, counted from joining; with --count the exit code is 1 then "
        "(default: never)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    add_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """
    Listen.

    :return: 0 when as many messages have come as were asked for.
    """

    def work(reactor: Any) -> Coroutine[Deferred[Any], Any, None]:
        return _listen(reactor, options)

    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a message may hold any character
    run_reactor(work)
    return 0


def as_object(delivery: Delivery) -> dict[str, Any]:
    """What there is to know of a message, for ``json``."""
    return {
        "packets": [plainjson.to_plain(packet) for packet in delivery.packets[1:]],
        "sender": id_text(delivery.sender),
        "via": id_text(delivery.link.id),
        "id": delivery.id.hex(),
        "time": delivery.time,
        "type": plainjson.to_plain(delivery.packets[0]),
    }


def id_text(ident: bytes | str) -> str:
    """An id as text, whatever a peer calls itself."""
    return ident if isinstance(ident, str) else ident.decode("utf-8", "backslashreplace")


def as_line(delivery: Delivery) -> str:
    """A message for people: nothing in it can move the cursor or colour the screen."""
    moment = time.strftime("%H:%M:%S", time.localtime())
    sender = printable(delivery.sender)[:_ID]
    return f"{moment} {sender}  {'  '.join(as_text(one) for one in delivery.packets[1:])}"


def as_text(packet: Any) -> str:
    """A packet for people: text as it is, everything else as JSON."""
    if isinstance(packet, str):
        return printable(packet)
    if isinstance(packet, bytes):
        try:
            return printable(packet.decode("utf-8"))
        except UnicodeDecodeError:
            pass
    return json.dumps(plainjson.to_plain(packet))


async def _listen(reactor: Any, options: argparse.Namespace) -> None:
    enough: Deferred[None] = Deferred()
    left = [options.count]
    gap: list[bool] = []
    problems: list[Exception] = []

    def failed(error: Exception) -> None:
        problems.append(error)
        if not enough.called:
            enough.errback(error)

    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    def note(text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()

    def lost(link: Connection, error: MeshError) -> None:
        if not member.service.settled:
            where = link.owner.peer_name
            notes.put(f"py2p listen: the link to {where} is lost ({error}); trying again\n")

    def back(link: Connection) -> None:
        if len(member.service.settled) == 1:
            notes.put(f"py2p listen: joined through {link.owner.peer_name}\n")

    def told(delivery: Delivery) -> None:
        if left[0] == 0:
            return
        line = json.dumps(as_object(delivery)) if options.json else as_line(delivery)
        if not writer.put(line + "\n") and not gap:
            gap.append(True)
            # Perhaps nobody reads that either, as in "2>&1 | less".
            notes.put("py2p listen: gap: messages are lost, nobody reads them\n")
        if left[0] is not None:
            left[0] -= 1
            if left[0] == 0 and not enough.called:
                enough.callback(None)

    def too_long() -> None:
        late.append(options.wait)
        if not enough.called:
            enough.callback(None)

    late: list[float] = []
    timer: Any = None
    writer = Writer(reactor, write, failed)
    notes = Writer(reactor, note, lambda error: None)
    member = Member(reactor, "py2p listen", options)
    member.service.on_message = told
    try:
        where = await member.join()
        notes.put(f"py2p listen: joined through {where}\n")
        member.service.on_leave = lost
        member.service.on_join = back
        if options.wait is not None:
            timer = reactor.callLater(options.wait, too_long)
        await enough
        await writer.drained()
        if problems:
            raise problems[0]
    finally:
        member.service.on_leave = member.service.on_join = None
        if timer is not None and timer.active():
            timer.cancel()
        await member.leave()
    if late and options.count is not None:
        raise CommandFailed(
            f"{options.count - (left[0] or 0)} of {options.count} messages have come within "
            f"{options.wait:g} s"
        )
