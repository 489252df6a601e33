"""
``py2p ticket``: all that it takes to join a network, as one word.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Coroutine, Mapping
from ipaddress import ip_address
from typing import Any, Final

from twisted.internet.defer import Deferred

from py2p_twisted.cli import control
from py2p_twisted.cli.member import typed
from py2p_twisted.cli.running import CommandFailed
from py2p_twisted.cli.running import run as run_reactor
from py2p_twisted.control.words import ticket_fields
from py2p_twisted.core import ticket
from py2p_twisted.core.network import PLAINTEXT, SSL, Network
from py2p_twisted.core.ticket import Ticket
from py2p_twisted.daemon.options import BY_NAME, address
from py2p_twisted.errors import BadArgument
from py2p_twisted.net.reports import printable

DESCRIPTION = """\
Print a ticket: one word that names a network, how it is encrypted, and nodes to
join through. Whoever gets it joins with --join=TICKET and needs nothing else. It
is no password: but for the network's name it says what any member tells whoever
connects to it.

The node that runs on this machine is asked for it; it names itself and some of its
neighbours. With --join the ticket is made of what is given, and nobody is asked.

"py2p ticket show TICKET" prints what a ticket says.
"""

EXAMPLES = """\
examples:
  py2p ticket
  py2p ticket --network=alerts --tls --join=192.0.2.7:4444 --join=192.0.2.8:4444
  py2p node --join=$(ssh ada py2p ticket)
"""

_SHOW: Final = "show"


def add_to(commands: Any) -> None:
    """Add the command to a parser's commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "ticket",
        help="print one word that holds all it takes to join",
        description=DESCRIPTION,
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "words", nargs="*", metavar="show TICKET", help="print what this ticket says instead"
    )
    parser.add_argument("--json", action="store_true", help="all of it as one JSON object")
    control.add_options(parser)
    group = parser.add_argument_group("a ticket of what is given")
    group.add_argument(
        "--join",
        "-j",
        action="append",
        type=typed(address, BY_NAME["join"].example),
        metavar="HOST:PORT",
        help="where a node can be joined through (may be repeated); "
        "--network is the network's name then",
    )
    group.add_argument("--tls", action="store_true", help="the network's links are encrypted")
    parser.set_defaults(run=run, parser=parser)


def run(options: argparse.Namespace) -> int:
    """
    Print it.

    :return: 0.
    """
    words = options.words
    if words and (words[0] != _SHOW or len(words) != 2):
        options.parser.error(f"expected nothing, or {_SHOW} and a ticket, not {' '.join(words)!r}")
    if words and (options.join or options.tls or options.network or options.control):
        options.parser.error(f"{_SHOW} takes a ticket, and nothing but --json besides")
    if options.join and options.control:
        options.parser.error("--join makes a ticket without a node, and --control names one")
    if options.tls and not options.join:
        options.parser.error("--tls goes with --join; a node that runs knows it itself")
    try:
        if words:
            return _show(ticket_fields(ticket.read(words[1])), options)
        if options.join:
            name = options.network or str(BY_NAME["network"].default)
            network = Network(name, SSL if options.tls else PLAINTEXT)
            return _print(ticket_fields(Ticket(network, tuple(options.join))), options)
    except BadArgument as error:
        raise CommandFailed(printable(str(error))) from error

    def work(reactor: Any) -> Coroutine[Deferred[Any], Any, dict[str, Any]]:
        return _ask(reactor, options)

    return _print(run_reactor(work), options)


async def _ask(reactor: Any, options: argparse.Namespace) -> dict[str, Any]:
    asked = await control.find(reactor, options.control, options.network, options.timeout)
    try:
        return await control.ask(asked, "ticket")
    finally:
        asked.close()


def _print(fields: Mapping[str, Any], options: argparse.Namespace) -> int:
    if options.json:
        print(_as_json(fields))
    else:
        print(printable(str(fields["ticket"])))
    if all(map(_is_loopback, fields["addresses"])):
        print(
            "py2p ticket: its addresses are of use on this machine alone, see py2p node --advertise",
            file=sys.stderr,
        )
    return 0


def _show(fields: Mapping[str, Any], options: argparse.Namespace) -> int:
    if options.json:
        print(_as_json(fields))
        return 0
    print(f"network:     {printable(fields['network'])}")
    print(f"encryption:  {'TLS' if fields['encryption'] == SSL else 'none'}")
    for number, one in enumerate(fields["addresses"]):
        print(f"{'' if number else 'join:':<12} {printable(one)}")
    if fields["fingerprint"] is not None:
        print(f"certificate: {fields['fingerprint']} (SHA-256, of the node at the first address)")
    return 0


def _as_json(fields: Mapping[str, Any]) -> str:
    names = ("ticket", "network", "encryption", "addresses", "fingerprint")
    return json.dumps({name: fields[name] for name in names})


def _is_loopback(text: str) -> bool:
    host = text.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
