"""
``py2p demo``: a network of real nodes on this machine, in one process or in many.

It shows that the mesh delivers, loses two nodes, heals and delivers again; and it ends with
exit code 0 only if every node got every broadcast exactly once.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred

from py2p_twisted.cli.report import IN_PROCESS, PROCESSES, Report
from py2p_twisted.cli.running import Interrupted
from py2p_twisted.cli.running import run as run_reactor
from py2p_twisted.cli.scenario import FEWEST, Participant, Plan, Scenario, Times
from py2p_twisted.cli.terminal import can_redraw, size_of, wants_colour
from py2p_twisted.cli.views import Lines, Live

MOST = 200
NODES = 12

#: The same with --processes: each takes about 50 MB.
MOST_PROCESSES = 64
NODES_IN_PROCESSES = 8

#: Seconds that the live table rests after a step, so that it can be read.
HOLD = 0.5

#: The same with --web, where the mesh itself is to be watched; until the first broadcast, in
#: which somebody may open the page; and between the broadcasts that follow.
PACE = 4.0
LOOK = 8.0
EVERY = 2.0

#: Makes the coroutine of a demo, given the reactor.
Work = Callable[[Any], Coroutine[Deferred[Any], Any, Report]]

DESCRIPTION = """\
Start a network of real nodes on this machine (TCP over 127.0.0.1, one
process), send a broadcast, drop two nodes without warning (of three nodes
one), watch the mesh heal, send another broadcast.

With --processes each node is a process of its own, "twist py2p" as an operator
runs it, and two are killed with -9. A message counts as received when the
program that the node runs for it (--exec) has printed it, so latencies include
the start of that program.

With --web one of the nodes shows its status page: open the link that is
printed. Then everything takes longer, and when the demo is done broadcasts go
on until Ctrl-C, which ends it in good order.

Ends with exit code 0 only if every node that is there gets every broadcast
exactly once.
"""

EXAMPLES = """\
examples:
  py2p demo
  py2p demo --nodes 50 --tls --json
  py2p demo --processes
  py2p demo --nodes 24 --web --open
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
        metavar="N",
        help=f"how many nodes, from {FEWEST} to {MOST} (default: {NODES}); "
        f"with --processes to {MOST_PROCESSES} (default: {NODES_IN_PROCESSES})",
    )
    parser.add_argument(
        "--processes",
        action="store_true",
        help='real "twist py2p" processes instead of nodes in this one; some are killed with -9',
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
        "--web",
        nargs="?",
        const="0",
        metavar="ENDPOINT",
        help="show the status page of one node: at a free port, or at this port or endpoint",
    )
    parser.add_argument(
        "--open", action="store_true", help="open the page of --web in the web browser"
    )
    parser.add_argument(
        "--seed",
        type=int,
        metavar="SEED",
        help="a number that decides who is dropped and who sends (default: another each time)",
    )
    parser.set_defaults(run=run, complain=parser.error)


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
    nodes = options.nodes or (NODES_IN_PROCESSES if options.processes else NODES)
    if options.processes and nodes > MOST_PROCESSES:
        options.complain(
            f"argument --nodes: with --processes expected a number from {FEWEST} to "
            f"{MOST_PROCESSES}, not '{nodes}'"
        )
    if options.open and options.web is None:
        options.complain("argument --open: there is no page without --web")
    web = None if options.web is None else _endpoint(options)
    seed = options.seed if options.seed is not None else random.randrange(1_000_000)
    mistakes: list[str] = []
    with ExitStack() as stack:
        view = stack.enter_context(closing(_view(as_json=options.json)))
        plan = Plan(
            nodes=nodes,
            encryption="TLS" if options.tls else "TCP",
            seed=seed,
            hold=PACE if web else HOLD if isinstance(view, Live) else 0.0,
            look=LOOK if web else 0.0,
            every=EVERY if web else 0.0,
            sort=PROCESSES if options.processes else IN_PROCESS,
        )
        what, where = "nodes", "127.0.0.1, in one process"
        if options.processes:
            what, where = "processes of twist py2p", "127.0.0.1"
        view.say(f"py2p demo: {nodes} {what} over {plan.encryption} on {where} (--seed {seed})")
        scenarios: list[Scenario] = []

        def play(reactor: Any, make_node: Callable[[str | None], Participant]) -> Scenario:
            # The last one is never dropped.
            pages = itertools.chain([None] * (plan.nodes - 1), [web])
            scenarios.append(
                Scenario(
                    plan, lambda: make_node(next(pages)), reactor, view, time.perf_counter, began,
                    _open if options.open else lambda page: None,
                )
            )  # fmt: skip
            return scenarios[0]

        if options.processes:
            view.say(plan.sort.note)
            plan = replace(plan, times=_process_times(plan.nodes))
            work = _with_processes(plan, play, stack)
        else:
            work = _in_process(plan, play)
        try:
            report = run_reactor(work, mistakes)
        except Interrupted:
            if not scenarios or not scenarios[0].going_on:
                raise
            # All that was promised is done: this is how it ends.
            report = scenarios[0].report
        view.finish(report)
    if options.json:
        print(json.dumps(report.as_json(), indent=2))
    for mistake in mistakes:
        print(f"py2p demo: logged: {mistake}", file=sys.stderr)
    return 0 if report.ok else 1


def _endpoint(options: argparse.Namespace) -> str:
    """What was typed behind --web, if a page can be there."""
    from py2p_twisted.daemon.options import web

    try:
        return web(options.web)
    except ValueError as error:
        options.complain(f"argument --web: expected {error}, not {options.web!r}")
        raise


def _open(page: str) -> None:
    """Have the page opened, however long that takes: a browser may stay in the foreground."""
    subprocess.Popen(  # noqa: S603 - the address is our own
        # Isolated: else a webbrowser.py of the folder that one happens to be in would be run.
        [sys.executable, "-I", "-m", "webbrowser", page],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


# The modules that need Twisted's network are imported only now, after the first line: this
# takes a tenth of a second.

#: Makes the scenario, given the reactor and what makes a node, with or without a page.
Play = Callable[[Any, Callable[[str | None], Participant]], Scenario]


def _in_process(plan: Plan, play: Play) -> Work:
    """A demo with nodes in this process."""
    from py2p_twisted.cli.nodes import LoopbackNode, make_room

    make_room(plan.nodes)

    def work(reactor: Any) -> Coroutine[Deferred[Any], Any, Report]:
        def make_node(web: str | None) -> LoopbackNode:
            return LoopbackNode(reactor, plan.nodes, tls=plan.encryption == "TLS", web=web)

        return play(reactor, make_node).run()

    return work


def _process_times(nodes: int) -> Times:
    from py2p_twisted.cli.processes import times_for

    return times_for(nodes)


def _with_processes(plan: Plan, play: Play, stack: ExitStack) -> Work:
    """
    A demo with processes.

    :param stack: kills those that are left, at the end.
    """
    from py2p_twisted.cli.processes import Processes

    processes = stack.enter_context(closing(Processes(tls=plan.encryption == "TLS")))

    def work(reactor: Any) -> Coroutine[Deferred[Any], Any, Report]:
        def make_node(web: str | None) -> Participant:
            return processes.make_node(reactor, web)

        scenario = play(reactor, make_node)
        processes.on_lost = scenario.lost
        return scenario.run()

    return work


def _view(*, as_json: bool) -> Live | Lines:
    now = time.perf_counter
    if as_json:
        return Lines(sys.stderr, now, details=False)
    out = sys.stdout
    if can_redraw(out, os.environ):
        return Live(out, lambda: size_of(out), now, colour=wants_colour(os.environ))
    return Lines(out, now, details=True)
