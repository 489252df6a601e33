"""
What a node tells those who listen, one object an event.

The node itself is not changed for that: while somebody listens, a `Tap` stands between it and
its application, which hears everything as before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    packets: Sequence[Any], sender: bytes | str, link: Connection, ident: bytes, stamp: float
) -> dict[str, Any]:
    return {
        "packets": [plainjson.to_plain(packet) for packet in packets[1:]],
        "sender": id_text(sender),
        "via": id_text(link.id),
        "id": ident.hex(),
        "time": stamp,
        "type": plainjson.to_plain(packets[0]),
    }


def id_text(ident: bytes | str) -> str:
    """An id as text, whatever a peer calls itself."""
    return ident if isinstance(ident, str) else ident.decode("utf-8", "backslashreplace")


class Tap(Application):
    """
    An application that hears along.

    :ivar inner: the application that it stands in front of.
    """

    def __init__(
        self, inner: Application, tell: Callable[[str, Callable[[], dict[str, Any]]], None]
    ) -> None:
        """
        :param tell: gets the kind of every event, and a function that makes its fields.
        """
        self.inner = inner
        self._tell = tell

    def _say(self, kind: str, make: Callable[[], dict[str, Any]]) -> None:
        # Whatever goes wrong in here is nothing to the node.
        with _log.failuresHandled("while telling of {kind}", kind=kind):
            self._tell(kind, make)

    def messages_received(self, messages: Sequence[Message], link: Connection) -> None:
        """Messages have come in."""
        for message in messages:
            self._say("message", lambda message=message: _of(message, link))  # type: ignore[misc]
        self.inner.messages_received(messages, link)

    def message_received(self, message: Message, link: Connection) -> None:
        """A message has come in."""
        self._say("message", lambda: _of(message, link))
        self.inner.message_received(message, link)

    def peer_settled(self, link: Connection) -> None:
        """A peer is here to stay."""
        self._say("up", lambda: _peer(link))
        self.inner.peer_settled(link)

    def peer_gone(self, link: Connection, error: MeshError) -> None:
        """Such a peer has left."""
        fields = {"reason": error.reason, "error": reason_of(error)}
        self._say("down", lambda: {**_peer(link), **fields})
        self.inner.peer_gone(link, error)

    def missed(self, count: int, reason: str, detail: str) -> None:
        """Messages cannot be had any more."""
        fields = {"count": count, "reason": reason, "error": printable(detail)}
        self._say("gap", lambda: fields)
        self.inner.missed(count, reason, detail)

    # --- what nobody listens to ---------------------------------------------------------------

    def peer_joined(self, link: Connection, first: bool) -> None:
        """Passed on."""
        self.inner.peer_joined(link, first)

    def peer_left(self, link: Connection, error: MeshError, last: bool) -> None:
        """Passed on."""
        self.inner.peer_left(link, error, last)

    def table_changed(self, table: Mapping[bytes, Connection]) -> None:
        """Passed on."""
        self.inner.table_changed(table)

    def link_failed(self, error: Exception, where: str) -> None:
        """Passed on."""
        self.inner.link_failed(error, where)

    def reply_failed(self, error: MeshError) -> None:
        """Passed on."""
        self.inner.reply_failed(error)

    def sent(self, message: Message, links: Sequence[Connection]) -> None:
        """Passed on."""
        self.inner.sent(message, links)


def _of(message: Message, link: Connection) -> dict[str, Any]:
    return _object(message.payload, message.sender, link, message.id, message.time)


def _peer(link: Connection) -> dict[str, Any]:
    address = None if link.address is None else address_text(*link.address)
    return {"peer": printable(link.id), "address": address, "where": link.owner.peer_name}


__all__ = ["KINDS", "Heard", "Tap", "as_object", "id_text"]
