"""
``py2p bench``: how fast a network is, as seen from a node that runs.

It sends messages that ask for receipts, some at a time, and waits for those before it sends more::

    |<- 10 messages, until the last receipt of the last of them ->|<- quiet ->|<- 10 messages ...
      counts                                                         does not

Before that it sends `FIRST` that do not count. They build the tree; and whoever has been missing so
often is forgotten by the node, which cannot tell members that are down from those that have left,
such as every ``py2p listen`` that has ended.

A node waits a moment after the last receipt, in case somebody else has it as well: that is not
the network's time, and left out. Receipts themselves are gathered for 50 ms at each hop, so they
take longer than messages. Source: docs/delivery.rst.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred, DeferredList, DeferredSemaphore
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from py2p_twisted.cli import control
from py2p_twisted.cli.member import typed
from py2p_twisted.cli.peers import size
from py2p_twisted.cli.progress import Progress, bar
from py2p_twisted.cli.receipts import INCOMPLETE, Outcome, from_answer, patience
from py2p_twisted.cli.report import many
from py2p_twisted.cli.running import CommandFailed
from py2p_twisted.cli.running import run as run_reactor
from py2p_twisted.control import ControlClient, ControlError
from py2p_twisted.core.receipts import MISSES
from py2p_twisted.daemon.options import number
from py2p_twisted.net import plainjson
from py2p_twisted.net.reports import printable
from py2p_twisted.net.service import CONFIRM_TIMEOUT

#: The type of its messages, by which applications can tell them: "p2pb", as a number.
TYPE: Final = int.from_bytes(b"p2pb")

#: Messages beforehand. Source: `core.receipts.MISSES`.
FIRST: Final = MISSES

#: Seconds from one look to the next whether something has failed.
LOOK_AGAIN: Final = 1.0

#: Messages under way at most: a node takes 16 requests of one client.
MOST_AT_ONCE: Final = 15

DESCRIPTION = f"""\
Measure how fast messages go from the node that runs on this machine to all
members: it sends some, waits until everybody has said that they have them, and
sends the next.

Every member's application is given these messages, and {FIRST} that come first and
do not count. They have the type {TYPE}, so that it can leave them alone; in
a network that is at work, use small numbers.

The exit code is 3 when somebody has not said so in time, or nobody is there
who can. Ctrl-C ends it and prints what was measured.
"""

EXAMPLES = """\
examples:
  py2p bench
  py2p bench --count=20 --size=100000
  py2p bench --rate=5 --json
"""


def add_to(commands: Any) -> None:
    """Add the command to a parser's commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "bench",
        help="how fast the network is, as seen from a node",
        description=DESCRIPTION,
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "--count",
        type=typed(number(1, 1_000_000), "100"),
        default=100,
        metavar="N",
        help="messages (default: %(default)s)",
    )
    parser.add_argument(
        "--size",
        type=typed(number(0, 2**20), "64"),
        default=64,
        metavar="BYTES",
        help="of each message's packet (default: %(default)s)",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--at-once",
        type=typed(number(1, MOST_AT_ONCE), "10"),
        default=10,
        metavar="N",
        help=f"messages that are sent together, up to {MOST_AT_ONCE} (default: %(default)s)",
    )
    how.add_argument(
        "--rate",
        type=typed(_rate, "5"),
        metavar="N",
        help="send so many a second instead, one by one; if receipts take long, fewer",
    )
    parser.add_argument(
        "--wait",
        type=typed(patience, "30"),
        default=CONFIRM_TIMEOUT,
        metavar="SECONDS",
        help="how long receipts are waited for (default: %(default)g)",
    )
    parser.add_argument("--json", action="store_true", help="the result as one JSON object")
    control.add_options(parser)
    parser.set_defaults(run=run)


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.001 <= value <= 10_000:
        raise ValueError("a number of messages a second")
    return value


def run(options: argparse.Namespace) -> int:
    """
    Measure.

    :return: 0 if all members have all messages, else `INCOMPLETE`.
    """

    def work(reactor: Any) -> Coroutine[Deferred[Any], Any, int]:
        return Bench(reactor, options).run()

    return run_reactor(work)


@dataclass(slots=True)
class Measured:
    """
    What has come of it so far.

    :ivar size: bytes of each message's packet.
    :ivar messages: how many are done with.
    :ivar times: of those that all members have, how long the last receipt took, in seconds.
    :ivar members: how many have one, at most.
    :ivar missing: ids of members that had one not in time.
    :ivar unknown: ids of nodes of py2p 0.6.
    :ivar silent: ids of members that had none of the first messages: they are down, or have left.
    :ivar busy: seconds in which something was on its way.
    :ivar interrupted: whether more was to come.
    """

    size: int
    messages: int = 0
    times: list[float] = field(default_factory=list)
    members: int = 0
    missing: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    busy: float = 0.0
    interrupted: bool = False

    def add(self, outcome: Outcome) -> None:
        """A message is done with."""
        self.messages += 1
        if outcome.complete and outcome.delivered:
            self.times.append(outcome.last)
        self.members = max(self.members, len(outcome.delivered))
        self.missing.update(outcome.missing)
        self.unknown.update(outcome.unknown)

    @property
    def fields(self) -> dict[str, Any]:
        """The result, for ``json``; what is not known is ``None``."""
        times = sorted(self.times)
        return {
            "messages": self.messages,
            "complete": len(times),
            "size": self.size,
            "members": self.members,
            "per_second": len(times) / self.busy if self.busy > 0 and times else None,
            "p50": percentile(times, 0.5) if times else None,
            "p99": percentile(times, 0.99) if times else None,
            "worst": times[-1] if times else None,
            "missing": sorted(self.missing),
            "unknown": sorted(self.unknown),
            "silent": sorted(self.silent),
            "interrupted": self.interrupted,
        }

    @property
    def lines(self) -> list[str]:
        """The result, for people."""
        told = self.fields
        text = (
            f"{many(told['messages'], 'message')} of {size(self.size)} to "
            f"{many(told['members'], 'member')}, {told['complete']} complete"
        )
        lines = [text + (" (interrupted)" if self.interrupted else "")]
        if told["per_second"] is not None:
            lines.append(f"messages/s     {told['per_second']:.1f}")
        if told["p50"] is not None:
            times = ", ".join(
                f"{name} {1000 * told[name]:.0f} ms" for name in ("p50", "p99", "worst")
            )
            lines.append(f"last receipt   {times}")
        lines += [f"missing        {printable(one)}" for one in told["missing"]]
        lines += [f"silent         {printable(one)}" for one in told["silent"]]
        if told["unknown"]:
            lines.append(f"unknown        {many(len(told['unknown']), 'node')} of py2p 0.6")
        return lines


def percentile(ordered: Sequence[float], part: float) -> float:
    """The value that this part of all is not above (nearest rank)."""
    return ordered[max(0, ceil(part * len(ordered)) - 1)]


class Bench:
    """One measurement."""

    def __init__(self, reactor: Any, options: argparse.Namespace) -> None:
        self._reactor = reactor
        self._options = options
        self._measured = Measured(options.size)
        self._packet = plainjson.to_plain(bytes(options.size))
        self._asked: ControlClient | None = None

    async def run(self) -> int:
        """
        Measure, and print the result.

        :return: the exit code.
        """
        options, measured = self._options, self._measured
        self._asked = await control.find(
            self._reactor, options.control, options.network, options.timeout
        )
        try:
            # One that has stopped is not waited for as long as receipts may take.
            await control.ask(self._asked, "status")
            print(
                "py2p bench: every member's application is given "
                f"{many(options.count + FIRST, 'message')} of type {TYPE}",
                file=sys.stderr,
                flush=True,
            )
            with Progress(self._reactor, self._progress):
                first = await self._all([self._send() for _ in range(FIRST)])
                measured.silent = set.intersection(*(set(one.missing) for one in first))
                if options.rate is None:
                    await self._in_batches()
                else:
                    await self._at_a_rate()
        except CancelledError:
            measured.interrupted = True
            raise
        finally:
            self._asked.close()
            if measured.messages:
                told = json.dumps(measured.fields)
                print(told if options.json else "\n".join(measured.lines), flush=True)
        return 0 if len(measured.times) == measured.messages else INCOMPLETE

    async def _in_batches(self) -> None:
        left = self._options.count
        while left:
            count = min(left, self._options.at_once)
            left -= count
            sendings = [self._send().addCallback(self._note) for _ in range(count)]
            self._measured.busy += max(map(_busy, await self._all(sendings)))

    async def _at_a_rate(self) -> None:
        """One by one; no more are under way than a node takes."""
        options, begun, measured = self._options, self._reactor.seconds(), self._measured
        places = DeferredSemaphore(MOST_AT_ONCE)
        problems: list[Exception] = []

        def arrived(outcome: Outcome, since: float) -> None:
            measured.busy = max(measured.busy, since + _busy(outcome))

        def failed(failure: Failure) -> None:
            problems.append(_told(failure.value))  # type: ignore[arg-type]

        for sent in range(options.count):
            # A look now and then, so that what has failed is not told a thousand seconds later.
            while not problems:
                due = begun + sent / options.rate - self._reactor.seconds()
                if due <= 0:
                    break
                await deferLater(self._reactor, min(due, LOOK_AGAIN))
            await places.acquire()
            if problems:
                places.release()
                break
            sending = self._send().addCallback(self._note)
            sending.addCallbacks(arrived, failed, (self._reactor.seconds() - begun,))
            sending.addBoth(lambda _: places.release())
        for _ in range(MOST_AT_ONCE):
            await places.acquire()
        if problems:
            raise problems[0]

    async def _all(self, sendings: list[Deferred[Outcome]]) -> list[Outcome]:
        """
        Wait for all.

        :raises CommandFailed: the node does not do it.
        """
        waiting: Any = DeferredList(sendings, fireOnOneErrback=True, consumeErrors=True)
        try:
            results = await waiting
        except Exception as error:  # noqa: BLE001 - raised again
            raise _told(error) from None
        return [outcome for _, outcome in results]

    def _send(self) -> Deferred[Outcome]:
        assert self._asked is not None  # noqa: S101 - found before
        options = self._options
        asking: Deferred[Any] = self._asked.ask(
            "send",
            patience=options.wait + options.timeout,
            packets=[self._packet],
            type=TYPE,
            confirm=True,
            timeout=options.wait,
        )
        return asking.addCallback(from_answer)

    def _note(self, outcome: Outcome) -> Outcome:
        self._measured.add(outcome)
        return outcome

    def _progress(self, passed: float) -> str:
        done, count = self._measured.messages, self._options.count
        return f"py2p bench: {bar(done, count)} {done} of {count}, {passed:.0f} s"


def _busy(outcome: Outcome) -> float:
    """How long a message was on its way, as far as that is known."""
    return outcome.last if outcome.complete and outcome.delivered else outcome.seconds


def _told(error: Exception) -> Exception:
    """What a node says, or does not, in one line."""
    first: Any = getattr(error, "subFailure", None)
    if isinstance(first, Failure):
        error = first.value  # type: ignore[assignment]
    if isinstance(error, ControlError):
        return CommandFailed(printable(str(error)))
    return error


__all__ = ["TYPE", "Bench", "Measured", "percentile"]
