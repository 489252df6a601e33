"""
``py2p reload``: have a node on this machine read its configuration again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred

from py2p_twisted.cli import control
from py2p_twisted.cli.running import run as run_reactor
from py2p_twisted.net.reports import printable

DESCRIPTION = """\
Have the node that runs on this machine read its configuration file again, as
SIGHUP does, and print what has changed. What it was given on its command line
stays as it is, and wins. Peers, certificates, levels of the log and some limits
are changed at once; what takes a restart is named. A mistake in the file changes
nothing.
"""

EXAMPLES = """\
examples:
  py2p reload
  py2p reload --control=/var/lib/py2p/state/control.sock
"""

#: What is printed, and is in the answer.
_KEYS = ("changed", "waiting", "certificates")


def add_to(commands: Any) -> None:
    """Add the command to a parser's commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "reload",
        help="have the node on this machine read its configuration again",
        description=DESCRIPTION,
        epilog=EXAMPLES,
    )
    parser.add_argument("--json", action="store_true", help="what has changed as one JSON object")
    control.add_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """
    Reload.

    :return: 0 when the configuration is right, whatever has changed.
    """

    def work(reactor: Any) -> Coroutine[Deferred[Any], Any, dict[str, Any]]:
        return _reload(reactor, options)

    done = run_reactor(work)
    if options.json:
        print(json.dumps({name: done[name] for name in _KEYS}))
    else:
        print("\n".join(as_lines(done)))
    return 0


async def _reload(reactor: Any, options: argparse.Namespace) -> dict[str, Any]:
    asked = await control.find(reactor, options.control, options.network, options.timeout)
    try:
        return await control.ask(asked, "reload")
    finally:
        asked.close()


def as_lines(done: dict[str, Any]) -> list[str]:
    """What has changed, for people."""
    lines = [f"{one['name']}: {one['before']} -> {one['after']}" for one in done["changed"]]
    lines += [
        f"{one['name']}: {one['before']} -> {one['after']}, when the node is started again"
        for one in done["waiting"]
    ]
    lines += [f"{listen}: the certificate was read again" for listen in done["certificates"]]
    return [printable(line) for line in lines] or ["nothing has changed"]
