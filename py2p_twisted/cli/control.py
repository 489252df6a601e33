"""
A node that runs on this machine: finding it, and asking it something.

``status``, ``peers``, ``connect`` and their like do nothing else; ``send``, ``listen`` and ``chat`` do
it with ``--control``.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any, Final

from py2p_twisted.cli import CommandParser
from py2p_twisted.cli.member import LOOK, option, typed
from py2p_twisted.cli.receipts import Outcome, from_answer
from py2p_twisted.cli.running import CommandFailed
from py2p_twisted.control import ControlClient, ControlError, client
from py2p_twisted.control.places import SOCKET, Place, UnixPlace, place, sockets_of
from py2p_twisted.core import flags
from py2p_twisted.daemon.options import seconds
from py2p_twisted.net import plainjson
from py2p_twisted.net.reports import printable

_EXAMPLE: Final = "/run/py2p/control.sock"

#: What can be done when nobody is found.
_ADVICE: Final = (
    "start a node with py2p node --control=PATH, and name the same PATH here with --control=PATH"
)


def read_place(text: str) -> Place | None:
    """
    Where a node is: a path, a folder that belongs to a node, or a loopback port.

    :return: ``None`` for the empty text: wherever one is found.
    :raises ValueError: it is none of these.
    """
    if not text:
        return None
    where = place(text)
    if isinstance(where, UnixPlace) and os.path.isdir(where.path):
        return UnixPlace(os.path.join(where.path, SOCKET))
    return where


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what every command needs that asks a node."""
    group = parser.add_argument_group("which node")
    group.add_argument(
        "--control",
        type=typed(read_place, _EXAMPLE),
        metavar="PATH",
        help="where it can be talked with, as with py2p node --control; a folder means "
        f"{SOCKET} in it (default: the one node in $XDG_RUNTIME_DIR/py2p)",
    )
    group.add_argument(
        "--network",
        type=option("network"),
        metavar="NAME",
        help="without --control: a node of this network (default: of any)",
    )
    group.add_argument(
        "--timeout",
        type=typed(seconds, "5"),
        default=client.TIMEOUT,
        metavar="SECONDS",
        help="how long an answer may take (default: %(default)g)",
    )


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--control`` to a command that can join by itself as well."""
    if isinstance(parser, CommandParser):
        parser.may_be_bare |= {"--control"}
    parser.add_argument(
        "--control",
        type=typed(_given_place, _EXAMPLE),
        metavar="[=PATH]",
        help="through the node that runs on this machine, instead of joining; PATH as with "
        "py2p status (default: the one node of --network in $XDG_RUNTIME_DIR/py2p)",
    )


class Given:
    """
    What ``--control`` was given.

    :ivar place: where the node is; ``None``: to be found.
    """

    def __init__(self, place: Place | None) -> None:
        self.place = place


def _given_place(text: str) -> Given:
    return Given(read_place(text))


def check(options: argparse.Namespace) -> None:
    """Refuse, with one line, what does not go with ``--control``."""
    for name in ("join", "tls"):
        if options.control is not None and getattr(options, name):
            options.parser.error(
                f"--control talks with a node that has joined already: --{name} does not go with it"
            )


async def find(
    reactor: Any, where: Place | None, network: str | None, timeout: float
) -> ControlClient:
    """
    Connect to a node on this machine.

    :param where: where it is; ``None``: the one that is found.
    :param network: of which network, if it has to be found.
    :raises CommandFailed: there is none, or there are several.
    """
    if where is not None:
        try:
            return await client.reach(reactor, where, timeout)
        except ControlError as error:
            raise CommandFailed(
                f"no running node at {printable(str(where))}: {printable(str(error))}; {_ADVICE}"
            ) from error
    folder, paths = sockets_of(network)
    found: dict[str, ControlClient] = {}
    try:
        for path in paths:
            try:
                found[path] = await client.reach(reactor, UnixPlace(path), timeout)
            except ControlError:
                continue  # what a dead process has left
    finally:
        if len(found) != 1:
            for one in found.values():
                one.close()
    if len(found) == 1:
        return found.popitem()[1]
    if found:
        raise CommandFailed(
            f"{len(found)} nodes run here, say which with --control=PATH: "
            + ", ".join(map(printable, found))
        )
    if folder is None:
        looked = "XDG_RUNTIME_DIR is not set, so there is no place to look for one"
    else:
        of = "" if network is None else f" of network {printable(network)}"
        looked = f"none{of} in {printable(folder)}"
    raise CommandFailed(f"no running node found: {looked}; {_ADVICE}")


class Through:
    """A way to send through a node that runs: what a `Member` is for those who join."""

    def __init__(self, reactor: Any, name: str, options: argparse.Namespace) -> None:
        """
        :param name: the command's, for what it says meanwhile.
        """
        self._reactor = reactor
        self._name = name
        self._options = options
        self._asked: ControlClient | None = None
        self._peers: int | None = None
        self._silent: list[str] = []

    async def join(self) -> None:
        """
        Find the node.

        :raises CommandFailed: there is none.
        """
        options = self._options
        self._asked = await find(
            self._reactor, options.control.place, options.network, options.timeout
        )

    async def send(self, *packets: Any, flag: int = flags.BROADCAST, type: int = 0) -> None:
        """
        Have it send a message, and wait until its peers are being written to.

        :raises ControlError: it cannot be sent.
        """
        assert self._asked is not None  # noqa: S101 - joined before
        try:
            plain = plainjson.to_plain(packets)
            asking = self._asked.ask(
                "send", packets=plain, type=type, whisper=flag == flags.WHISPER
            )
        except RecursionError:
            raise ControlError("not sendable", "it is nested too deeply") from None
        answer = await asking
        self._peers = answer["peers"]

    async def look_around(self, timeout: float) -> None:
        """
        Have it find out who is a member, so that it knows whom to wait for.

        :param timeout: seconds that this may take; `LOOK` at most.
        :raises CommandFailed: the node does not answer.
        """
        assert self._asked is not None  # noqa: S101 - joined before
        look = min(timeout, LOOK)
        try:
            answer = await self._asked.ask(
                "members", patience=look + self._options.timeout, timeout=look
            )
        except ControlError as error:
            if error.reason in ("no answer", "gone"):
                raise CommandFailed(f"{printable(str(error))}; nothing was sent") from error
            return  # then it waits for its neighbours, and for whoever has given a receipt lately
        self._silent = answer["silent"]

    async def send_confirmed(self, *packets: Any, timeout: float, type: int = 0) -> Outcome:
        """
        Have it send a message, and find out who gets it.

        :param timeout: seconds after which it says who is missing.
        :raises ControlError: it cannot be sent.
        """
        assert self._asked is not None  # noqa: S101 - joined before
        try:
            asking = self._asked.ask(
                "send",
                # The node says when it is over; this is for one that has stopped.
                patience=timeout + self._options.timeout,
                packets=plainjson.to_plain(packets),
                type=type,
                confirm=True,
                timeout=timeout,
            )
        except RecursionError:
            raise ControlError("not sendable", "it is nested too deeply") from None
        return from_answer(await asking, self._silent)

    async def confirm(self) -> None:
        """Say so if nobody has it yet but the node, which keeps it."""
        if self._peers == 0:
            print(
                f"{self._name}: the node has no peers at the moment; it keeps what was sent for "
                "those who come soon",
                file=sys.stderr,
            )

    async def leave(self) -> None:
        """Hang up."""
        if self._asked is not None:
            self._asked.close()


async def ask(asked: ControlClient, word: str, **what: Any) -> dict[str, Any]:
    """
    Ask a node for something.

    :raises CommandFailed: it cannot do it.
    """
    try:
        answer: dict[str, Any] = await asked.ask(word, **what)
    except ControlError as error:
        raise CommandFailed(printable(str(error))) from error
    return answer


__all__ = ["Given", "Through", "add_option", "add_options", "ask", "check", "find"]
