"""
``py2p peers``: whom a node on this machine is linked to.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Coroutine, Mapping
from typing import Any, Final

from twisted.internet.defer import Deferred

from py2p_twisted.cli import control
from py2p_twisted.cli.running import run as run_reactor
from py2p_twisted.net.reports import printable

DESCRIPTION = """\
Ask the node that runs on this machine whom it is linked to: one line a peer,
with the beginning of its id, where it is, and what it is to the node.

  neighbour   a link of the mesh
  plain       a node that speaks 0.6 alone
  probe       a link that was made to have a look
  other       one that has not decided yet, or has a look itself

A ">" behind the address: this node has dialled; "<": that one has.
"""

EXAMPLES = """\
examples:
  py2p peers
  py2p peers --json
"""

#: Characters of an id that are shown.
_ID: Final = 8

_HEAD: Final = ("id", "address", "kind", "rtt", "since", "in", "waiting", "dropped")


def add_to(commands: Any) -> None:
    """Add the command to a parser's commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "peers",
        help="whom the node on this machine is linked to",
        description=DESCRIPTION,
        epilog=EXAMPLES,
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a peer and line")
    control.add_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """
    Show them.

    :return: 0.
    """

    def work(reactor: Any) -> Coroutine[Deferred[Any], Any, list[dict[str, Any]]]:
        return _ask(reactor, options)

    peers = run_reactor(work)
    if options.json:
        for peer in peers:
            print(json.dumps(peer))
    else:
        print("\n".join(as_table(peers)))
    return 0


async def _ask(reactor: Any, options: argparse.Namespace) -> list[dict[str, Any]]:
    asked = await control.find(reactor, options.control, options.network, options.timeout)
    try:
        answer = await control.ask(asked, "peers")
    finally:
        asked.close()
    peers: list[dict[str, Any]] = answer["peers"]
    return peers


def as_table(peers: list[dict[str, Any]]) -> list[str]:
    """Aligned lines, the longest link first."""
    ordered = sorted(peers, key=lambda peer: -float(peer["since"]))
    rows = [_HEAD, *(_cells(peer) for peer in ordered)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return [
        "  ".join(
            # Numbers to the right, so that they can be compared at a glance.
            cell.ljust(width) if column < 3 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _cells(peer: Mapping[str, Any]) -> tuple[str, ...]:
    rtt = peer["rtt"]
    return (
        printable(str(peer["id"]))[:_ID],
        printable(str(peer["where"])) + (" >" if peer["outgoing"] else " <"),
        str(peer["kind"]) + (", slow" if peer["slow"] else ""),
        "-" if rtt is None else f"{1000 * rtt:.1f} ms",
        span(peer["since"]),
        size(peer["bytes_in"]),
        size(peer["bytes_waiting"]),
        str(sum(peer["drops"].values())),
    )


def span(seconds: float) -> str:
    """A time in the largest unit of which there is one."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def size(count: int) -> str:
    """Bytes in the largest unit of which there is one."""
    for unit, length in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= length:
            return f"{count / length:.1f} {unit}"
    return f"{count} B"
