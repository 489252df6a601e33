"""
Flooding: every broadcast goes on to every neighbour but the one it came from.

That is the whole of 0.6's delivery, and what every node understands. Two things are done
differently from the reference. A message never goes back on the link it came by, while the
sender it *claims* plays no part in whom we skip: a forged one must not keep a message from
somebody. And what the application sends while there is no peer is kept for a while, and
given to the first who comes.

Source: docs/protocol/wire.rst, "Flooding"; docs/design.rst, "Delivery".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from py2p_twisted.core.actions import Effects
from py2p_twisted.core.connection import Connection
from py2p_twisted.core.links import Links
from py2p_twisted.core.message import Message
from py2p_twisted.core.outgoing import OwnBroadcasts
from py2p_twisted.core.seen import SeenCache
from py2p_twisted.core.settings import Settings

#: Bytes of one read that wait to be relayed at most: compressed, a read of 64 KiB can
#: hold a thousand times as much.
_MOST_WAITING: Final = 256 * 1024


class Flood:
    """Passes broadcasts on, each once."""

    def __init__(self, seen: SeenCache, links: Links, effects: Effects, settings: Settings) -> None:
        self._seen = seen
        #: Makes broadcasts of our own distinct, and notes them as seen.
        self.note_own = OwnBroadcasts(seen).note
        self._links = links
        self._effects = effects
        self._settings = settings
        # what the read that is being dealt with has brought for others
        self._onward: list[Message] = []
        self._waiting = 0
        # (when it was sent, message), while there was nobody to send it to
        self._unsent: deque[tuple[float, Message]] = deque(maxlen=settings.unsent_messages)

    @property
    def unsent(self) -> int:
        """Own messages that wait for a first peer."""
        return len(self._unsent)

    def originate(self, messages: Sequence[Message], now: float) -> None:
        """Send broadcasts of our own to every peer."""
        if not messages:
            return
        messages = self.note_own(messages, now)
        peers = self._links.open
        if peers:
            self._effects.relay(messages, peers)
        elif self._unsent.maxlen:
            self._unsent.extend((now, message) for message in messages)

    def relay(self, message: Message, came_by: Connection, now: float) -> None:
        """Pass on a broadcast that has not been seen before, with the next `flush`."""
        self._seen.add(message.id, now)
        self._onward.append(message)
        self._waiting += len(message.body)
        if self._waiting > _MOST_WAITING:
            self.flush(came_by)

    def relay_run(self, messages: Sequence[Message], came_by: Connection) -> None:
        """Pass on broadcasts that are noted as seen already, behind what waits."""
        self._onward.extend(messages)
        self.flush(came_by)

    def flush(self, came_by: Connection) -> None:
        """Pass on what one read has brought: to everybody but the peer it came by."""
        messages = self._onward
        if not messages:
            return
        self._onward = []
        self._waiting = 0
        peers = self._links.open
        # While one connection to a peer gives way to another, the peer has two.
        came_from = self._links.table.get(came_by.id, came_by)
        if len(peers) > 1 or peers[:1] != (came_from,):
            self._effects.relay(messages, [link for link in peers if link is not came_from])

    def peer_joined(self, link: Connection, now: float) -> None:
        """Give a first peer what was sent before it came."""
        while self._unsent:
            sent, message = self._unsent.popleft()
            if now - sent <= self._settings.unsent_age:
                self._effects.send(message, link)
