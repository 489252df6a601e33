"""
``py2p demo``: a network of real nodes on this machine, in one process.

It shows that the mesh delivers, loses two nodes, heals and delivers again; and it ends with
exit code 0 only if every node got every broadcast exactly once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Coroutine
from contextlib import closing
from typing import Any

from twisted.internet.defer import Deferred

from py2p_twisted.cli.report import Report
from py2p_twisted.cli.running import run as run_reactor
from py2p_twisted.cli.scenario import FEWEST, Plan, Scenario
from py2p_twisted.cli.terminal import can_redraw, size_of, wants_colour
from py2p_twisted.cli.views import Lines, Live

MOST = 200
NODES = 12

#: Seconds that the live table rests after a step, so that it can be read.
HOLD = 0.5

DESCRIPTION = """\
Start a network of real nodes on this machine (TCP over 127.0.0.1, one
process), send a broadcast, drop two nodes without warning (of three nodes
one), watch the mesh heal, send another broadcast.

Ends with exit code 0 only if every node that is there gets every broadcast
exactly once.
"""

EXAMPLES = """\
examples:
  py2p demo
  py2p demo --nodes 50 --tls --json
"""


def add_to(commands: Any) -> None:
    """Add the command to a parser's commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "demo",
        help="watch a network of real nodes deliver, lose two of them, and heal",
        description=DESCRIPTION,
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "--nodes",
        type=node_count,
        default=NODES,
        metavar="N",
        help=f"how many nodes, from {FEWEST} to {MOST} (default: %(default)s)",
    )
    parser.add_argument(
        "--tls",
        action="store_true",
        help="encrypt all links (without verifying who is at the other end)",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="write one JSON object to standard output at the end; progress goes to standard error",
    )
    parser.add_argument(
        "--seed",
        type=int,
        metavar="SEED",
        help="a number that decides who is dropped and who sends (default: another each time)",
    )
    parser.set_defaults(run=run)


def node_count(text: str) -> int:
    """
    A number of nodes as it was typed.

    :raises argparse.ArgumentTypeError: it is none, or too small or large.
    """
    if text.isdecimal() and FEWEST <= int(text) <= MOST:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a number from {FEWEST} to {MOST}, not {text!r}")


def run(options: argparse.Namespace) -> int:
    """
    Run the demo.

    :return: 0 if all went as it should, else 1.
    """
    began = time.perf_counter()
    seed = options.seed if options.seed is not None else random.randrange(1_000_000)
    mistakes: list[str] = []
    with closing(_view(as_json=options.json)) as view:
        plan = Plan(
            nodes=options.nodes,
            encryption="TLS" if options.tls else "TCP",
            seed=seed,
            hold=HOLD if isinstance(view, Live) else 0.0,
        )
        view.say(
            f"py2p demo: {plan.nodes} nodes over {plan.encryption} on 127.0.0.1, "
            f"in one process (--seed {seed})"
        )
        # Only now, after the first line: this takes a tenth of a second.
        from py2p_twisted.cli.nodes import LoopbackNode, make_room

        make_room(plan.nodes)

        def work(reactor: Any) -> Coroutine[Deferred[Any], Any, Report]:
            def make_node() -> LoopbackNode:
                return LoopbackNode(reactor, plan.nodes, tls=options.tls)

            return Scenario(plan, make_node, reactor, view, time.perf_counter, began).run()

        report = run_reactor(work, mistakes)
        view.finish(report)
    if options.json:
        print(json.dumps(report.as_json(), indent=2))
    for mistake in mistakes:
        print(f"py2p demo: logged: {mistake}", file=sys.stderr)
    return 0 if report.ok else 1


def _view(*, as_json: bool) -> Live | Lines:
    now = time.perf_counter
    if as_json:
        return Lines(sys.stderr, now, details=False)
    out = sys.stdout
    if can_redraw(out, os.environ):
        return Live(out, lambda: size_of(out), now, colour=wants_colour(os.environ))
    return Lines(out, now, details=True)
