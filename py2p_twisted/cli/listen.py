"""
``py2p listen``: what is said in a network, line by line.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from twisted.internet.defer import Deferred

from py2p_twisted.cli import control
from py2p_twisted.cli.lines import Writer
from py2p_twisted.cli.member import Member, add_options, typed
from py2p_twisted.cli.running import CommandFailed
from py2p_twisted.cli.running import run as run_reactor
from py2p_twisted.control import ControlError
from py2p_twisted.control.events import as_object
from py2p_twisted.core.connection import Connection
from py2p_twisted.daemon.options import number, seconds
from py2p_twisted.errors import MeshError
from py2p_twisted.net import Delivery, plainjson
from py2p_twisted.net.reports import printable

DESCRIPTION = """\
Join a network and print every message that comes, one a line, until Ctrl-C:
the time, the beginning of the sender's id, and the packets. When the link is
lost it is made again.

With --json each line is an object: packets, sender, via, id, time, type.

With --control the node that runs on this machine tells what it hears; what it
sends itself is not among that.
"""

EXAMPLES = """\
examples:
  py2p listen
  py2p listen --join=192.0.2.7:4444 --count=1 --json
  py2p listen --control
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
    control.add_option(parser)
    add_options(parser)
    parser.set_defaults(run=run, parser=parser)


def run(options: argparse.Namespace) -> int:
    """
    Listen.

    :return: 0 when as many messages have come as were asked for.
    """
    control.check(options)

    def work(reactor: Any) -> Coroutine[Deferred[Any], Any, None]:
        listening = _Listening(reactor, options)
        if options.control is not None:
            return _listen_through(reactor, options, listening)
        return _listen(reactor, options, listening)

    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a message may hold any character
    run_reactor(work)
    return 0


def as_line(delivery: Delivery) -> str:
    """A message for people: nothing in it can move the cursor or colour the screen."""
    return _line(delivery.sender, delivery.packets[1:])


def _line(sender: bytes | str, packets: Iterable[Any]) -> str:
    moment = time.strftime("%H:%M:%S", time.localtime())
    return f"{moment} {printable(sender)[:_ID]}  {'  '.join(as_text(one) for one in packets)}"


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


class _Listening:
    """
    What has been heard, and how much more there is to hear.

    It writes to standard output and error without waiting for either.
    """

    def __init__(self, reactor: Any, options: argparse.Namespace) -> None:
        self._reactor = reactor
        self._count: int | None = options.count
        self._left: int | None = options.count
        self._seconds: float | None = options.wait
        self._enough: Deferred[None] = Deferred()
        self._timer: Any = None
        self._late = self._gap = False
        self._problem: Exception | None = None
        self._writer = Writer(reactor, _write_to("stdout"), self.fail)
        self._notes = Writer(reactor, _write_to("stderr"), lambda error: None)

    def note(self, text: str) -> None:
        """Say something on standard error."""
        self._notes.put(f"py2p listen: {text}\n")

    def heard(self, line: Callable[[], str]) -> None:
        """A message has come."""
        if self._left == 0:
            return
        if not self._writer.put(line() + "\n") and not self._gap:
            self._gap = True
            # Perhaps nobody reads that either, as in "2>&1 | less".
            self.note("gap: messages are lost, nobody reads them")
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                self._end()

    def fail(self, error: Exception) -> None:
        """Nothing more can be heard, or written."""
        if not self._enough.called:
            self._enough.errback(error)
        elif self._problem is None:
            self._problem = error

    def _end(self) -> None:
        if not self._enough.called:
            self._enough.callback(None)

    def _too_late(self) -> None:
        self._late = True
        self._end()

    async def to_the_end(self) -> None:
        """
        Wait until there is nothing more to hear.

        :raises CommandFailed: too little has come.
        """
        if self._seconds is not None:
            self._timer = self._reactor.callLater(self._seconds, self._too_late)
        try:
            await self._enough
            await self._writer.drained()
            if self._problem is not None:
                raise self._problem
        finally:
            if self._timer is not None and self._timer.active():
                self._timer.cancel()

    def check(self) -> None:
        """
        Look whether all has come that was asked for.

        :raises CommandFailed: it has not.
        """
        if self._late and self._count is not None:
            raise CommandFailed(
                f"{self._count - (self._left or 0)} of {self._count} messages have come within "
                f"{self._seconds:g} s"
            )


def _write_to(name: str) -> Callable[[str], None]:
    def write(text: str) -> None:
        stream = getattr(sys, name)
        stream.write(text)
        stream.flush()

    return write


async def _listen(reactor: Any, options: argparse.Namespace, listening: _Listening) -> None:
    def lost(link: Connection, error: MeshError) -> None:
        if not member.service.settled:
            where = link.owner.peer_name
            listening.note(f"the link to {where} is lost ({error}); trying again")

    def back(link: Connection) -> None:
        if len(member.service.settled) == 1:
            listening.note(f"joined through {link.owner.peer_name}")

    def told(delivery: Delivery) -> None:
        listening.heard(
            lambda: json.dumps(as_object(delivery)) if options.json else as_line(delivery)
        )

    member = Member(reactor, "py2p listen", options)
    member.service.on_message = told
    try:
        where = await member.join()
        listening.note(f"joined through {where}")
        member.service.on_leave = lost
        member.service.on_join = back
        await listening.to_the_end()
    finally:
        member.service.on_leave = member.service.on_join = None
        await member.leave()
    listening.check()


async def _listen_through(reactor: Any, options: argparse.Namespace, listening: _Listening) -> None:
    def told(event: dict[str, Any]) -> None:
        kind = event.pop("event")
        if kind == "message":
            listening.heard(lambda: json.dumps(event) if options.json else event_line(event))
        elif kind == "dropped":
            listening.note(f"gap: {event['dropped']} messages are lost, nobody reads them")
        elif kind == "gap":
            listening.note(f"gap: {printable(event['error'])}")

    def gone(error: ControlError) -> None:
        listening.fail(CommandFailed(printable(str(error))))

    asked = await control.find(reactor, options.control.place, options.network, options.timeout)
    try:
        asked.on_event = told
        answer = await control.ask(asked, "status")
        await control.ask(asked, "listen", events=["message", "gap"])
        asked.closed.addCallback(gone)
        status = answer["status"]
        listening.note(
            f"through the node at {status['address']}, which has {answer['settled']} peers"
        )
        await listening.to_the_end()
    finally:
        asked.close()
    listening.check()


def event_line(event: dict[str, Any]) -> str:
    """The same of one that a node tells of."""
    return _line(event["sender"], [plainjson.from_plain(one) for one in event["packets"]])
