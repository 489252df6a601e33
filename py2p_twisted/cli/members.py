"""
``py2p members``: who is in the network of a node on this machine.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred

from py2p_twisted.cli import control
from py2p_twisted.cli.running import run as run_reactor
from py2p_twisted.control import ControlClient
from py2p_twisted.core.survey import LONGEST
from py2p_twisted.net.reports import printable

DESCRIPTION = """\
Ask the node that runs on this machine who is in its network: it has its
neighbours ask theirs, and all answer. One line a member, with the beginning
of its id, how many links away it is, the time there and back (the way that
the question took, which need not be the shortest), how many neighbours it
has, and its version of py2p_twisted.

Nodes of py2p 0.6 cannot answer; they are listed because somebody is linked to
them. "no answer": named as a neighbour, has not answered.

Ends with exit code 0 when everybody has answered; with 1 when somebody has
not, or there is no node.
"""

EXAMPLES = """\
examples:
  py2p members
  py2p members --timeout=20 --json
"""

#: Characters of an id that are shown.
ID: Final = 8

_HEAD: Final = ("id", "address", "hops", "round trip", "neighbours", "version")


def add_to(commands: Any) -> None:
    """Add the command to a parser's commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "members",
        help="who is in the network of the node on this machine",
        description=DESCRIPTION,
        epilog=EXAMPLES,
    )
    parser.add_argument("--json", action="store_true", help="one JSON object with all of it")
    control.add_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """
    Show them.

    :return: 0 if everybody has answered.
    """

    def work(reactor: Any) -> Coroutine[Deferred[Any], Any, dict[str, Any]]:
        return _ask(reactor, options)

    answer = run_reactor(work)
    if options.json:
        print(json.dumps({key: answer[key] for key in answer if key not in ("id", "ok")}))
    else:
        print("\n".join(as_table(answer)))
    return 0 if answer["complete"] else 1


async def _ask(reactor: Any, options: argparse.Namespace) -> dict[str, Any]:
    asked = await control.find(reactor, options.control, options.network, options.timeout)
    try:
        return await survey(asked, options.timeout)
    finally:
        asked.close()


async def survey(asked: ControlClient, timeout: float) -> dict[str, Any]:
    """
    Ask a node who is in its network.

    :param timeout: seconds that all of it may take.
    :raises CommandFailed: it cannot.
    """
    # A little earlier the node says who has answered; one that has stopped says nothing.
    most = min(timeout - min(1.0, timeout / 4), LONGEST)
    return await control.ask(asked, "members", patience=timeout, timeout=most)


def as_table(answer: Mapping[str, Any]) -> list[str]:
    """Aligned lines, the nearest first, and one that says how many there are."""
    members = answer["members"]
    rows = [_HEAD, *(_cells(member) for member in members)]
    rows += [(_short(one), "-", "-", "-", "-", "py2p 0.6") for one in answer["plain"]]
    rows += [(_short(one), "-", "-", "no answer", "-", "-") for one in answer["silent"]]
    return [*aligned(rows, left=(0, 1, 5)), "", in_short(answer)]


def _cells(member: Mapping[str, Any]) -> tuple[str, ...]:
    here = member["hops"] == 0
    return (
        _short(member["id"]),
        "-" if member["address"] is None else printable(str(member["address"])),
        str(member["hops"]),
        "this node" if here else milliseconds(member["rtt"]),
        str(len(member["neighbours"]) + len(member["plain"])),
        printable(str(member["version"])) or "-",
    )


def _short(ident: object) -> str:
    return printable(str(ident))[:ID]


def in_short(answer: Mapping[str, Any]) -> str:
    """How many there are, in one line."""
    parts = [count(len(answer["members"]), "member")]
    if answer["plain"]:
        parts.append(count(len(answer["plain"]), "node") + " of py2p 0.6")
    if answer["silent"]:
        parts.append(f"{len(answer['silent'])} without an answer")
    elif not answer["complete"]:
        parts.append("maybe more")
    return f"{', '.join(parts)}; it took {answer['seconds']:.2f} s"


def count(number: int, noun: str) -> str:
    """So many of something."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def milliseconds(seconds: float | None) -> str:
    """A round trip; as ping(8) has it, with more digits where it is short."""
    if seconds is None:
        return "-"
    value = 1000 * seconds
    return f"{value:.3f} ms" if value < 10 else f"{value:.1f} ms"


def aligned(rows: Sequence[Sequence[str]], *, left: Sequence[int]) -> list[str]:
    """
    Cells below each other, the first row being the head.

    :param left: columns of text; those of numbers are aligned to the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if number in left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
