"""
What a node tells those who listen, one object an event.

The node itself is not changed for that: while somebody listens, a `Tap` hears along with its
application.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from twisted.logger import Logger

from py2p_twisted.core.connection import Connection
from py2p_twisted.core.message import Message
from py2p_twisted.core.network import address_text
from py2p_twisted.errors import MeshError
from py2p_twisted.net import plainjson
from py2p_twisted.net.factory import Application
from py2p_twisted.net.reports import printable, reason_of

_log = Logger(namespace="py2p_twisted.control")

#: What there is to listen to.
KINDS: Final = ("message", "up", "down", "gap")


class Heard(Protocol):
    """A message as far as it is shown, such as a `Delivery`."""

    @property
    def packets(self) -> Sequence[Any]:
        """The sub-flag, and what was sent."""

    @property
    def sender(self) -> bytes | str:
        """Whom it says it is from."""

    @property
    def id(self) -> bytes:
        """Its own id."""

    @property
    def time(self) -> float:
        """The sender's stamp."""

    @property
    def link(self) -> Connection:
        """The neighbour that brought it."""


def as_object(message: Heard) -> dict[str, Any]:
    """What there is to know of a message, for ``json``."""
    return _object(message.packets, message.sender, message.link, message.id, message.time)


def _object(
    packets: Sequence[Any], sender: bytes | str, link: Connection | None, ident: bytes, stamp: float
) -> dict[str, Any]:
    return {
        "packets": [plainjson.to_plain(packet) for packet in packets[1:]],
        "sender": id_text(sender),
        "via": None if link is None else id_text(link.id),
        "id": ident.hex(),
        "time": stamp,
        "type": plainjson.to_plain(packets[0]),
    }


def id_text(ident: bytes | str) -> str:
    """An id as text, whatever a peer calls itself."""
    return ident if isinstance(ident, str) else ident.decode("utf-8", "backslashreplace")


class Tap(Application):
    """
    Somebody who hears along; see `along.hear`.

    Besides the `KINDS` there is ``own``, what the node sends itself.
    """

    def __init__(self, tell: Callable[[str, Callable[[], dict[str, Any]]], None]) -> None:
        """
        :param tell: gets the kind of every event, and a function that makes its fields.
        """
        self._told = tell

    def _tell(self, kind: str, make: Callable[[], dict[str, Any]]) -> None:
        # One message that cannot be shown must not take those with it that came in the same read.
        with _log.failuresHandled("while telling of {kind}", kind=kind):
            self._told(kind, make)

    def message_received(self, message: Message, link: Connection) -> None:
        """A message has come in."""
        self._tell("message", lambda: _of(message, link))

    def originated(self, messages: Sequence[Message]) -> None:
        """This node sends messages of its own."""
        for message in messages:
            self._tell("own", lambda message=message: _of(message, None))  # type: ignore[misc]

    def peer_settled(self, link: Connection) -> None:
        """A peer is here to stay."""
        self._tell("up", lambda: peer_object(link))

    def peer_gone(self, link: Connection, error: MeshError) -> None:
        """Such a peer has left."""
        fields = {"reason": error.reason, "error": reason_of(error)}
        self._tell("down", lambda: {**peer_object(link), **fields})

    def missed(self, count: int, reason: str, detail: str) -> None:
        """Messages cannot be had any more."""
        fields = {"count": count, "reason": reason, "error": printable(detail)}
        self._tell("gap", lambda: fields)


def _of(message: Message, link: Connection | None) -> dict[str, Any]:
    return _object(message.payload, message.sender, link, message.id, message.time)


def peer_object(link: Connection) -> dict[str, Any]:
    """Which peer is meant."""
    address = None if link.address is None else address_text(*link.address)
    return {"peer": printable(link.id), "address": address, "where": link.owner.peer_name}


__all__ = ["KINDS", "Heard", "Tap", "as_object", "id_text", "peer_object"]
