"""
``py2p status``: how a node on this machine is.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Coroutine
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from py2p_twisted.cli import control
from py2p_twisted.cli.running import CommandFailed
from py2p_twisted.cli.running import run as run_reactor
from py2p_twisted.cli.table import clip
from py2p_twisted.cli.terminal import Screen, can_redraw, size_of, wants_colour
from py2p_twisted.control import ControlClient
from py2p_twisted.net import plainjson
from py2p_twisted.net.reports import printable
from py2p_twisted.net.status import Status

DESCRIPTION = """\
Ask the node that runs on this machine how it is. Ends with exit code 0 when it
has joined, that is, has a peer that is here to stay; with 1 when it has none,
or there is no node.

With --json all of it is printed as one object, its limits included.
"""

EXAMPLES = """\
examples:
  py2p status
  py2p status --watch
  py2p status --quiet || echo "alone" >&2
"""

#: Seconds from one look to the next.
INTERVAL: Final = 2.0

#: What is of use to programs only.
_LEFT_OUT: Final = ("limits", "containers")


def add_to(commands: Any) -> None:
    """Add the command to a parser's commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "status",
        help="how the node on this machine is",
        description=DESCRIPTION,
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "--watch",
        action="store_true",
        help=f"look again every {INTERVAL:g} s, until Ctrl-C",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="one JSON object a look")
    how.add_argument(
        "--quiet", action="store_true", help="print nothing, not even why: the exit code says it"
    )
    control.add_options(parser)
    parser.set_defaults(run=run, parser=parser)


def run(options: argparse.Namespace) -> int:
    """
    Show it.

    :return: 0 if the node has joined.
    """
    if options.watch and options.quiet:
        options.parser.error("there is nothing to watch with --quiet")

    def work(reactor: Any) -> Coroutine[Deferred[Any], Any, bool]:
        return _watch(reactor, options) if options.watch else _look(reactor, options)

    try:
        return 0 if run_reactor(work) else 1
    except CommandFailed:
        if options.quiet:
            return 1
        raise


async def _look(reactor: Any, options: argparse.Namespace) -> bool:
    asked = await control.find(reactor, options.control, options.network, options.timeout)
    try:
        answer = await control.ask(asked, "status")
    finally:
        asked.close()
    if options.json:
        print(as_json(answer))
    elif not options.quiet:
        print("\n".join(as_lines(answer)))
    return bool(answer["joined"])


async def _watch(reactor: Any, options: argparse.Namespace) -> bool:
    """Look again and again; a node that goes away may come back."""
    asked: ControlClient | None = await control.find(
        reactor, options.control, options.network, options.timeout
    )
    screen = None
    if not options.json and can_redraw(sys.stdout, os.environ):
        screen = Screen(sys.stdout, lambda: size_of(sys.stdout), colour=wants_colour(os.environ))
    first = True
    try:
        while True:
            try:
                if asked is None:
                    asked = await control.find(
                        reactor, options.control, options.network, options.timeout
                    )
                answer = await control.ask(asked, "status")
                shown = [as_json(answer)] if options.json else as_lines(answer)
            except CommandFailed as error:
                if asked is not None:
                    asked.close()
                asked = None
                text = str(error)
                shown = [json.dumps({"joined": False, "error": text}) if options.json else text]
            if screen is not None:
                columns, lines = size_of(sys.stdout)
                screen.draw([clip([(line, "")], columns) for line in shown[: lines - 1]])
            else:
                between = [] if first or options.json else [""]
                print("\n".join([*between, *shown]), flush=True)
            first = False
            await deferLater(reactor, INTERVAL)
    finally:
        if screen is not None:
            screen.close()
        if asked is not None:
            asked.close()


def as_json(answer: dict[str, Any]) -> str:
    """All of it, for programs."""
    return json.dumps(
        {"joined": answer["joined"], "settled": answer["settled"], **answer["status"]}
    )


def as_lines(answer: dict[str, Any]) -> list[str]:
    """Most of it, for people: nothing in it can move the cursor."""
    values = plainjson.from_plain(answer["status"])
    shown = Status({name: value for name, value in values.items() if name not in _LEFT_OUT})
    count = answer["settled"]
    joined = f"yes, {count} peer{'s' if count != 1 else ''}" if answer["joined"] else "no"
    return [f"joined: {joined}", *(printable(line) for line in str(shown).split("\n"))]
