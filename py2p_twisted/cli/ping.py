"""
``py2p ping``: how long it takes to the members of a network and back.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from py2p_twisted.cli import control
from py2p_twisted.cli.member import typed
from py2p_twisted.cli.members import ID, milliseconds, survey
from py2p_twisted.cli.running import run as run_reactor
from py2p_twisted.core.survey import MOST_ROWS, SPACING
from py2p_twisted.daemon.options import number, seconds
from py2p_twisted.net.reports import printable

DESCRIPTION = """\
Have the node that runs on this machine measure the time to each member of its
network and back: the way that its neighbours pass the question on, which is
not always the shortest. "hops": how many links away it is, by the shortest.

Ends with exit code 0 when each ID that was named has answered at least once
(without any: when somebody has), and else with 1. Ctrl-C ends it earlier; what
is known is said in any case.
"""

EXAMPLES = """\
examples:
  py2p ping
  py2p ping 6VnYj9Lj --count=10 --interval=0.5
  py2p ping --count=0 --json
"""

#: Rounds, unless another number is given.
COUNT: Final = 4

#: Members that are followed: as many as answer a survey. Others can invent more each time.
MOST: Final = MOST_ROWS


def add_to(commands: Any) -> None:
    """Add the command to a parser's commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "ping",
        help="how long it takes to the members and back",
        description=DESCRIPTION,
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "ids", nargs="*", metavar="ID", help="the beginning of a member's id (default: all)"
    )
    parser.add_argument(
        "--count",
        type=typed(number(0), "10"),
        default=COUNT,
        metavar="N",
        help="how many times; 0: until Ctrl-C (default: %(default)s)",
    )
    parser.add_argument(
        "--interval",
        type=typed(_interval, "2"),
        default=1.0,
        metavar="SECONDS",
        help=f"from one time to the next, {SPACING:g} or more (default: %(default)g)",
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON object an answer, and one with the summary"
    )
    control.add_options(parser)
    parser.set_defaults(run=run, parser=parser)


def _interval(text: str) -> float:
    value = seconds(text)
    if value < SPACING:
        raise ValueError(f"{SPACING:g} seconds or more")
    return value


def run(options: argparse.Namespace) -> int:
    """
    Do it.

    :return: 0 if those that were named have answered.
    """
    if not all(options.ids):
        options.parser.error("an ID has one character at least")
    tally = Tally(options.ids)

    def work(reactor: Any) -> Coroutine[Deferred[Any], Any, None]:
        return _ping(reactor, options, tally)

    try:
        run_reactor(work)
    finally:
        if tally.rounds:
            summary = tally.as_object()
            lines = [json.dumps(summary)] if options.json else ["", *as_summary(summary)]
            print("\n".join(lines))
    return 0 if tally.answered else 1


async def _ping(reactor: Any, options: argparse.Namespace, tally: Tally) -> None:
    asked = await control.find(reactor, options.control, options.network, options.timeout)
    try:
        while True:
            begun = reactor.seconds()
            for row in tally.add(await survey(asked, options.timeout)):
                print(json.dumps(row) if options.json else as_line(row))
            # Somebody may follow it through a pipe.
            sys.stdout.flush()
            if tally.rounds == options.count:
                return
            pause = begun + options.interval - reactor.seconds()
            await deferLater(reactor, max(0.0, pause))
    finally:
        asked.close()


class _Target:
    """
    A member, or the beginning of an id of which nothing is known.

    :ivar times: how many were measured, of which there is the ``total``, the least and the most.
    """

    def __init__(self, ident: str) -> None:
        self.ident = ident
        self.address: str | None = None
        self.hops: int | None = None
        self.sent = 0
        self.answered = 0
        self.times = 0
        self.total = 0.0
        self.least: float | None = None
        self.most: float | None = None

    def measured(self, rtt: float) -> None:
        """It has answered; all of the times are not kept, as this may go on for days."""
        self.times += 1
        self.total += rtt
        self.least = rtt if self.least is None else min(self.least, rtt)
        self.most = rtt if self.most is None else max(self.most, rtt)


class Tally:
    """
    Who has answered, how often, how fast.

    :ivar rounds: how often all were asked.
    """

    def __init__(self, wanted: Sequence[str]) -> None:
        """:param wanted: what ids have to begin with; nothing: all members."""
        self.rounds = 0
        self._wanted = list(dict.fromkeys(wanted))
        self._targets: dict[str, _Target] = {}
        #: Those of what is wanted of whom nobody has answered yet.
        self._unknown = {one: _Target(one) for one in self._wanted}

    @property
    def answered(self) -> bool:
        """Whether everything that was named has answered; or anybody, if nothing was."""
        if self._wanted:
            return not self._unknown
        return any(target.answered for target in self._targets.values())

    def add(self, answer: Mapping[str, Any]) -> list[dict[str, Any]]:
        """
        Another time all were asked.

        :return: what has become of it, an object for each that was asked.
        """
        self.rounds += 1
        rtts: dict[str, float | None] = {}
        for member in answer["members"]:
            ident = str(member["id"])
            if not member["hops"] or not self._is_wanted(ident):
                continue
            if len(self._targets) >= MOST and ident not in self._targets:
                continue
            target = self._targets.setdefault(ident, _Target(ident))
            target.address, target.hops = member["address"], member["hops"]
            rtts[ident] = member["rtt"]
            for start in [one for one in self._unknown if ident.startswith(one)]:
                target.sent = max(target.sent, self._unknown.pop(start).sent)
        rows = []
        for target in (*self._targets.values(), *self._unknown.values()):
            target.sent += 1
            here = target.ident in rtts
            rtt = rtts.get(target.ident)
            target.answered += here
            if rtt is not None:
                target.measured(rtt)
            rows.append(
                {
                    "round": self.rounds,
                    "id": target.ident,
                    "address": target.address,
                    "answered": here,
                    "hops": target.hops if here else None,
                    "rtt": rtt,
                }
            )
        return rows

    def _is_wanted(self, ident: str) -> bool:
        return not self._wanted or any(ident.startswith(one) for one in self._wanted)

    def as_object(self) -> dict[str, Any]:
        """All of it."""
        return {
            "rounds": self.rounds,
            "summary": [
                {
                    "id": target.ident,
                    "address": target.address,
                    "hops": target.hops,
                    "sent": target.sent,
                    "answered": target.answered,
                    "min": target.least,
                    "avg": target.total / target.times if target.times else None,
                    "max": target.most,
                }
                for target in (*self._targets.values(), *self._unknown.values())
            ],
        }


def as_line(row: Mapping[str, Any]) -> str:
    """One answer, or none."""
    start = f"{_name(row)}: round={row['round']}"
    if not row["answered"]:
        return f"{start} no answer"
    return f"{start} hops={row['hops']} time={milliseconds(row['rtt'])}"


def as_summary(summary: Mapping[str, Any]) -> list[str]:
    """What has come of it, a line for each."""
    lines = []
    for one in summary["summary"]:
        line = f"{_name(one)}: {one['answered']} of {one['sent']} answered"
        if one["avg"] is not None:
            times = "/".join(f"{1000 * one[key]:.3f}" for key in ("min", "avg", "max"))
            line += f", min/avg/max = {times} ms"
        lines.append(line)
    return lines or ["there is nobody but this node"]


def _name(row: Mapping[str, Any]) -> str:
    ident = printable(str(row["id"]))[:ID]
    return ident if row["address"] is None else f"{ident} {printable(str(row['address']))}"
