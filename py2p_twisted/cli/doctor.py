"""
``py2p doctor``: why a link fails, or why a node does not join.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from twisted.internet.defer import Deferred

from py2p_twisted.cli import control
from py2p_twisted.cli.findings import (
    FAIL,
    Finding,
    Own,
    network_of,
    of_address,
    of_attempts,
    of_name,
    of_node,
    of_peers,
    wants_second,
)
from py2p_twisted.cli.member import typed
from py2p_twisted.cli.probe import MOST_ADDRESSES, Attempt, attempt, is_own, resolve
from py2p_twisted.cli.progress import Progress
from py2p_twisted.cli.running import CommandFailed
from py2p_twisted.cli.running import run as run_reactor
from py2p_twisted.core.network import PLAINTEXT, SSL, Address, Network
from py2p_twisted.daemon.options import BY_NAME, address, show_address
from py2p_twisted.errors import BadArgument
from py2p_twisted.net.service import to_address

DESCRIPTION = """\
Say what is wrong, and what to do about it: a line for each thing that was
looked at, beginning with ok, warn or FAIL. The exit code is 1 when one of them
failed.

Without an address it looks at the node that runs on this machine: its peers,
what has failed, its clock, connections that ended, limits, dropped messages,
and whether others can dial it where it tells them to.

With an address it dials that one, as a node would, and says what happens. It
is a node of --network then, and with --tls of an encrypted one; if a node runs
on this machine, of that one's network.
"""

EXAMPLES = """\
examples:
  py2p doctor
  py2p doctor 192.0.2.7:4444
  py2p doctor 192.0.2.7:4444 --network=alerts --tls
"""


def add_to(commands: Any) -> None:
    """Add the command to a parser's commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "doctor",
        help="say what is wrong, and what to do",
        description=DESCRIPTION,
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "address",
        nargs="?",
        type=typed(address, "192.0.2.7:4444"),
        metavar="HOST:PORT",
        help="a node that should be linked to (default: only look at the one that runs here)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a finding and line")
    parser.add_argument("--tls", action="store_true", help="dial it encrypted")
    control.add_options(parser)
    parser.set_defaults(run=run, parser=parser)


def run(options: argparse.Namespace) -> int:
    """
    Look.

    :return: 0 if nothing fails.
    """
    if options.tls and options.address is None:
        options.parser.error("--tls says how to dial an address: give one")

    def work(reactor: Any) -> Coroutine[Deferred[Any], Any, bool]:
        return Doctor(reactor, options).run()

    return 0 if run_reactor(work) else 1


class Doctor:
    """One visit. What is found is printed as it is found."""

    def __init__(self, reactor: Any, options: argparse.Namespace) -> None:
        self._reactor = reactor
        self._options = options
        self._well = True
        self._doing = "looking"
        self._progress: Progress | None = None

    async def run(self) -> bool:
        """
        Look at the node that runs here, and at the address.

        :return: whether nothing fails.
        """
        with Progress(self._reactor, self._how_far) as self._progress:
            status = await self._look_at_node()
            if self._options.address is not None:
                await self._look_at_address(self._options.address, status)
        return self._well

    def _how_far(self, passed: float) -> str:
        return f"py2p doctor: {self._doing}, {passed:.0f} s"

    def _say(self, findings: Sequence[Finding]) -> None:
        if self._progress is not None:
            self._progress.clear()
        for one in findings:
            self._well &= one.level != FAIL
            print(json.dumps(asdict(one)) if self._options.json else one.line, flush=True)

    async def _look_at_node(self) -> Mapping[str, Any]:
        """
        Say how the node here is.

        :return: its status; empty if there is none.
        """
        options = self._options
        self._doing = "asking the node on this machine"
        try:
            asked = await control.find(
                self._reactor, options.control, options.network, options.timeout
            )
            try:
                answer = await control.ask(asked, "status")
                peers = (await control.ask(asked, "peers"))["peers"]
            finally:
                asked.close()
        except CommandFailed as error:
            # Without one, an address can be looked at all the same.
            if options.address is None or options.control is not None:
                what, _, do = str(error).partition("; ")
                if not do and "nodes run here" in what:
                    do = "name it with --control or --network"
                do = do or "its process hangs, was stopped, or is stopping: see its log"
                self._say([Finding(FAIL, "node", what, do)])
            return {}
        status: Mapping[str, Any] = answer["status"]
        self._say([*of_node(answer["joined"], answer["settled"], status), *of_peers(peers)])
        await self._look_at_own_address(status, peers)
        return status

    async def _look_at_own_address(
        self, status: Mapping[str, Any], peers: Sequence[Mapping[str, Any]]
    ) -> None:
        text, network = str(status.get("address")), network_of(status)
        try:
            host, port = to_address(text)
        except BadArgument:
            return
        self._doing = f"dialling {text}"
        seen: Attempt | None = None
        own = is_own(host)
        if port and network is not None:
            found = await resolve(self._reactor, host)
            own = own or any(map(is_own, found))
            if found:
                seen = await attempt(self._reactor, network, (found[0], port), glance=True)
        self._say(of_address(text, peers, own=own, ident=str(status.get("id")), attempt=seen))

    async def _look_at_address(self, where: Address, status: Mapping[str, Any]) -> None:
        network = self._network(status)
        host, port = where
        self._doing = f"looking up {host}"
        found = await resolve(self._reactor, host)
        self._say(of_name(host, found))
        attempts = []
        for one in found[:MOST_ADDRESSES]:
            self._doing = f"dialling {show_address((one, port))}"
            # Who we are ourselves is found out without being noticed.
            first = await attempt(self._reactor, network, (one, port), glance=True)
            other = None
            if first.error is None and first.id != status.get("id"):
                first = await attempt(self._reactor, network, (one, port))
            elif wants_second(first):
                changed = SSL if network.encryption == PLAINTEXT else PLAINTEXT
                second = Network(network.name, changed)
                other = await attempt(self._reactor, second, (one, port), glance=True)
            attempts.append((first, other))
        self._say(of_attempts(attempts, network, Own(str(status.get("id", "")))))

    def _network(self, status: Mapping[str, Any]) -> Network:
        """The network that an address is looked at as a member of."""
        options = self._options
        running = network_of(status)
        if running is not None and options.network is None and not options.tls:
            return running
        name = options.network or (running.name if running else str(BY_NAME["network"].default))
        return Network(name, SSL if options.tls else PLAINTEXT)


__all__ = ["Doctor"]
