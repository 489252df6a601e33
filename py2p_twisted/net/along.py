"""
Hearing along: others than the application who want to know what happens in a node.

::

    node --- factory --- Along ---> those who hear along
                           |
                           '------> the application, as before

A node to which nobody listens is not changed at all: `Along` is there only while somebody does.
What goes wrong in one who hears along is logged, and is nothing to the node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from py2p_twisted.core.connection import Connection
from py2p_twisted.core.message import Message
from py2p_twisted.errors import MeshError
from py2p_twisted.net.factory import Application

if TYPE_CHECKING:
    from py2p_twisted.net.factory import MeshFactory

_log = Logger(namespace="py2p_twisted.net")


class Along(Application):
    """
    An application in front of another one, which tells others, too.

    :ivar inner: the application that it stands in front of.
    :ivar hearing: those who hear along.
    """

    def __init__(self, inner: Application) -> None:
        self.inner = inner
        self.hearing: list[Application] = []

    def _tell(self, call: Callable[[Application], Any]) -> None:
        for one in list(self.hearing):
            with _log.failuresHandled("in one who hears along: {one}", one=one):
                call(one)
        call(self.inner)

    def messages_received(self, messages: Sequence[Message], link: Connection) -> None:
        """Messages have come in."""
        self._tell(lambda one: one.messages_received(messages, link))

    def message_received(self, message: Message, link: Connection) -> None:
        """A message has come in."""
        self._tell(lambda one: one.message_received(message, link))

    def peer_joined(self, link: Connection, first: bool) -> None:
        """A peer stands in the routing table."""
        self._tell(lambda one: one.peer_joined(link, first))

    def peer_left(self, link: Connection, error: MeshError, last: bool) -> None:
        """A peer has left the routing table."""
        self._tell(lambda one: one.peer_left(link, error, last))

    def peer_settled(self, link: Connection) -> None:
        """A peer is here to stay."""
        self._tell(lambda one: one.peer_settled(link))

    def peer_gone(self, link: Connection, error: MeshError) -> None:
        """Such a peer has left."""
        self._tell(lambda one: one.peer_gone(link, error))

    def table_changed(self, table: Mapping[bytes, Connection]) -> None:
        """The routing table has changed."""
        self._tell(lambda one: one.table_changed(table))

    def link_failed(self, error: Exception, where: str) -> None:
        """A connection was refused, lost or never made."""
        self._tell(lambda one: one.link_failed(error, where))

    def reply_failed(self, error: MeshError) -> None:
        """A reply has not reached its receiver."""
        self._tell(lambda one: one.reply_failed(error))

    def missed(self, count: int, reason: str, detail: str) -> None:
        """Messages cannot be had any more."""
        self._tell(lambda one: one.missed(count, reason, detail))

    def sent(self, message: Message, links: Sequence[Connection]) -> None:
        """A message goes out."""
        self._tell(lambda one: one.sent(message, links))

    def originated(self, messages: Sequence[Message]) -> None:
        """This node sends messages of its own."""
        self._tell(lambda one: one.originated(messages))


def hear(factory: MeshFactory, one: Application) -> Callable[[], None]:
    """
    From now on ``one`` is told what the application of a node is, before it.

    :return: ends that. When it was the last, the node is as it was.
    """
    found = factory.application
    along = found if isinstance(found, Along) else Along(found)
    factory.application = along
    along.hearing.append(one)
    factory.watch_own = True

    def leave() -> None:
        along.hearing = [other for other in along.hearing if other is not one]
        # Somebody else may have put an application in front of it meanwhile: then it stays there.
        if not along.hearing and factory.application is along:
            factory.application = along.inner
            factory.watch_own = False

    return leave


__all__ = ["Along", "hear"]
