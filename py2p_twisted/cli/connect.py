"""
``py2p connect``: have a node on this machine connect to another.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Coroutine
from typing import Any, Final

from twisted.internet.defer import Deferred

from py2p_twisted.cli import control
from py2p_twisted.cli.member import typed
from py2p_twisted.cli.running import run as run_reactor
from py2p_twisted.daemon.options import BY_NAME, address, show_address
from py2p_twisted.net.reports import printable

DESCRIPTION = """\
Ask the node that runs on this machine to connect to another, and wait for what
comes of it. It stays connected: a link that breaks is dialled again, until the
node ends. (A node that is to connect whenever it is started gets --join.)
"""

EXAMPLES = """\
examples:
  py2p connect 192.0.2.7:4444
"""

#: Seconds that the node may take besides: it gives up after about ten.
_PATIENCE: Final = 20.0


def add_to(commands: Any) -> None:
    """Add the command to a parser's commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "connect",
        help="have the node on this machine connect to another",
        description=DESCRIPTION,
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "address",
        type=typed(address, BY_NAME["join"].example),
        metavar="HOST:PORT",
        help="where the other one listens",
    )
    parser.add_argument("--json", action="store_true", help="the peer as one JSON object")
    control.add_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """
    Connect.

    :return: 0 when they are connected.
    """

    def work(reactor: Any) -> Coroutine[Deferred[Any], Any, dict[str, Any]]:
        return _connect(reactor, options)

    peer = run_reactor(work)
    if options.json:
        print(json.dumps({name: peer[name] for name in ("peer", "address", "where")}))
    else:
        print(f"connected to {printable(peer['peer'])} at {printable(peer['where'])}")
    return 0


async def _connect(reactor: Any, options: argparse.Namespace) -> dict[str, Any]:
    asked = await control.find(reactor, options.control, options.network, options.timeout)
    try:
        return await control.ask(
            asked,
            "connect",
            timeout=options.timeout + _PATIENCE,
            address=show_address(options.address),
        )
    finally:
        asked.close()
