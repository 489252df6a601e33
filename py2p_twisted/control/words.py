"""
What can be asked of a node, and what is done then.

A word is a method of `Words`: it takes the request and gives the fields of the answer, at once
or later, or raises `ControlError`. What it cannot know it does not trust: all that stands in a
request is looked at before it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

from twisted.internet.defer import Deferred

from py2p_twisted.control.lines import ControlError
from py2p_twisted.core import flags
from py2p_twisted.core.connection import Connection
from py2p_twisted.core.network import address_text
from py2p_twisted.core.receipts import Receipt
from py2p_twisted.core.ticket import Ticket
from py2p_twisted.errors import BadArgument, MeshError
from py2p_twisted.net import plainjson
from py2p_twisted.net.reports import printable, reason_of
from py2p_twisted.net.service import CONFIRM_TIMEOUT, SURVEY_TIMEOUT, MeshService, to_address
from py2p_twisted.net.status import members_of, peers_of

#: Of the protocol, in case it has to change. Source: docs/reference/control.rst.
VERSION: Final = 1

#: Characters of an id that are enough to name a peer.
SHORTEST: Final = 6

Answer = dict[str, Any]


class Words:
    """What one node can be asked."""

    def __init__(self, mesh: MeshService) -> None:
        self._mesh = mesh
        self._words: dict[str, Callable[[Answer], Answer | Deferred[Answer]]] = {
            "status": self._status,
            "peers": self._peers,
            "members": self._members,
            "send": self._send,
            "connect": self._connect,
            "disconnect": self._disconnect,
            "reload": self._reload,
            "ticket": self._ticket,
        }

    def __contains__(self, word: object) -> bool:
        return isinstance(word, str) and word in self._words

    def __iter__(self) -> Any:
        return iter(self._words)

    def do(self, word: str, request: Answer) -> Answer | Deferred[Answer]:
        """
        Do what is asked.

        :raises ControlError: it cannot be done.
        :raises MeshError: the same, by the node.
        """
        if not self._mesh.factory.started:
            raise ControlError("not started", "the node has not started yet: ask again")
        return self._words[word](request)

    def _status(self, request: Answer) -> Answer:
        mesh = self._mesh
        return {
            "version": VERSION,
            "joined": bool(mesh.settled),
            "settled": len(mesh.settled),
            "status": plainjson.to_plain(dict(mesh.status)),
        }

    def _peers(self, request: Answer) -> Answer:
        return {"peers": plainjson.to_plain(peers_of(self._mesh.factory))}

    def _members(self, request: Answer) -> Deferred[Answer]:
        timeout: Any = request.get("timeout", SURVEY_TIMEOUT)
        try:
            surveying = self._mesh.survey(timeout)
        except BadArgument as error:
            raise ControlError("bad request", reason_of(error)) from None
        return surveying.addCallback(lambda survey: members_of(self._mesh.factory, survey))

    def _ticket(self, request: Answer) -> Answer:
        return ticket_fields(self._mesh.ticket())

    def _send(self, request: Answer) -> Answer | Deferred[Answer]:
        packets = request.get("packets")
        if not isinstance(packets, list):
            raise ControlError("bad request", "packets: expected a list")
        kind = request.get("type", flags.BROADCAST)
        if type(kind) is not int or not (
            kind == flags.BROADCAST or flags.FIRST_FREE <= kind < 2**63
        ):
            raise ControlError("bad request", f"type: expected a number from {flags.FIRST_FREE} on")
        whisper, confirm = request.get("whisper", False), request.get("confirm", False)
        for name, value in (("whisper", whisper), ("confirm", confirm)):
            if not isinstance(value, bool):
                raise ControlError("bad request", f"{name}: expected true or false")
        try:
            sendable = [plainjson.from_plain(packet) for packet in packets]
        except (ValueError, RecursionError) as error:
            raise ControlError("bad request", f"packets: {reason_of(error)}") from None
        flag = flags.WHISPER if whisper else flags.BROADCAST
        if confirm:
            # What is no number of seconds `send` refuses itself.
            timeout: Any = request.get("timeout", CONFIRM_TIMEOUT)
            confirming = self._mesh.send(
                *sendable, flag=flag, type=kind, confirm=True, timeout=timeout
            )
            return confirming.addCallback(receipt_fields)
        sending = self._mesh.send(*sendable, flag=flag, type=kind)
        return sending.addCallback(lambda _: {"peers": len(self._mesh.routing_table)})

    def _connect(self, request: Answer) -> Deferred[Answer]:
        address = request.get("address")
        try:
            if not isinstance(address, str):
                raise BadArgument("expected text")
            host, port = to_address(address)
            if not port:
                raise BadArgument("expected host:port, with a port that can be dialled")
        except BadArgument as error:
            raise ControlError("bad request", f"address: {reason_of(error)}") from None
        return self._mesh.connect(host, port).addCallback(_connected)

    def _disconnect(self, request: Answer) -> Answer:
        wanted = request.get("peer")
        if not isinstance(wanted, str) or len(wanted) < SHORTEST:
            raise ControlError("bad request", f"peer: expected {SHORTEST} characters of its id")
        table = self._mesh.routing_table
        found = [link for link in table.values() if printable(link.id).startswith(wanted)]
        if len(found) != 1:
            text = f"{len(found)} peers have an id that begins with {printable(wanted)[:80]}"
            raise ControlError("no such peer", text)
        self._mesh.factory.disconnect(found[0])
        return {"peer": printable(found[0].id)}

    def _reload(self, request: Answer) -> Answer:
        # Only a node that is a process of its own has a configuration.
        reload: Callable[[], Any] | None = getattr(self._mesh, "reload", None)
        if reload is None:
            raise ControlError("no configuration", "this node was not made from a configuration")
        try:
            done = reload()
        except ValueError as error:
            raise ControlError("bad configuration", f"nothing has changed: {error}") from None
        return {
            "changed": [asdict(change) for change in done.changed],
            "waiting": [asdict(change) for change in done.waiting],
            "certificates": list(done.certificates),
        }


def ticket_fields(ticket: Ticket) -> Answer:
    """What a ticket holds, for ``json``."""
    fingerprint = ticket.fingerprint
    return {
        "ticket": str(ticket),
        "network": ticket.network.name,
        "encryption": ticket.network.encryption,
        "addresses": [address_text(*address) for address in ticket.addresses],
        "fingerprint": None if fingerprint is None else fingerprint.hex(),
    }


def receipt_fields(receipt: Receipt) -> Answer:
    """What is known of a message's way, for ``json``: ids as text, in order."""
    return {
        "delivered": sorted(map(printable, receipt.delivered)),
        "missing": sorted(map(printable, receipt.missing)),
        "unknown": sorted(map(printable, receipt.unknown)),
        "seconds": receipt.seconds,
        "last": receipt.last,
        "complete": receipt.complete,
    }


def _connected(link: Connection) -> Answer:
    address = None if link.address is None else address_text(*link.address)
    return {"peer": printable(link.id), "address": address, "where": link.owner.peer_name}


def why(error: BaseException) -> tuple[str, str] | None:
    """A word and a sentence for what keeps something from being done; ``None``: it is our bug."""
    if isinstance(error, MeshError):
        return error.reason, reason_of(error)
    if isinstance(error, OSError):
        return "refused" if isinstance(error, ConnectionRefusedError) else "unreachable", reason_of(
            error
        )
    return None


__all__ = ["SHORTEST", "VERSION", "Words", "receipt_fields", "ticket_fields", "why"]
