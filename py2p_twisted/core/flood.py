"""
Broadcasts: every one goes on, once, to every neighbour but the one it came from.

To plain nodes that is all there is, and what 0.6 understands: they are flooded. Extended
neighbours get it as itself or announced, as the tree of its origin says (`trees`). Three
things are done differently from the reference. A message never goes back on the link it
came by, while the sender it *claims* plays no part in whom we skip: a forged one must not
keep a message from somebody. What has come or been sent lately is held, for those who missed
it (`recent`). And what the application sends while there is no peer is kept for a while, and
given to the first who comes.

Source: docs/protocol/wire.rst, "Flooding"; docs/protocol/mesh-ext.rst; docs/design.rst,
"Delivery".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, Final

from py2p_twisted.core.actions import Effects
from py2p_twisted.core.connection import Connection
from py2p_twisted.core.links import Links
from py2p_twisted.core.message import MAX_ID, Message
from py2p_twisted.core.outgoing import OwnBroadcasts
from py2p_twisted.core.recent import RecentMessages
from py2p_twisted.core.repair import Repair
from py2p_twisted.core.seen import SHORT, SeenCache
from py2p_twisted.core.settings import Settings
from py2p_twisted.core.trees import Trees

#: Bytes of one read that wait to be relayed at most: compressed, a read of 64 KiB can
#: hold a thousand times as much.
_MOST_WAITING: Final = 256 * 1024

#: Seconds by a plain node's clock from which on it is given nothing. It drops what is older than
#: 60 s, and its neighbours are a moment further on.
OLDEST: Final = 55


class Flood:
    """Passes broadcasts on, each once."""

    def __init__(
        self,
        seen: SeenCache,
        links: Links,
        effects: Effects,
        settings: Settings,
        trees: Trees,
        recent: RecentMessages,
        repair: Repair,
        *,
        wall: Callable[[], float],
    ) -> None:
        """:param wall: says what time it is by our own clock."""
        self._wall = wall
        self._seen = seen
        #: Makes broadcasts of our own distinct, and notes them as seen.
        self.note_own = OwnBroadcasts(seen).note
        self._links = links
        self._effects = effects
        self._settings = settings
        self._trees = trees
        self._recent = recent
        self._repair = repair
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
        if not self._trees.targets and self._unsent.maxlen:
            self._unsent.extend((now, message) for message in messages)
        self._spread(messages, None, now)

    def hold(self, messages: Sequence[Message], now: float) -> None:
        """Keep broadcasts of our own that go to one peer first, for those who miss them."""
        if self._settings.extensions:
            # Under a name that nobody would take they are nobody's loss.
            fit = [message for message in messages if len(message.items[1]) <= MAX_ID]
            self._recent.hold(fit, b"", now)

    def relay(self, message: Message, came_by: Connection, now: float) -> None:
        """Pass on a broadcast that has not been seen before, with the next `flush`."""
        self._seen.add(message.id, now)
        self._onward.append(message)
        self._waiting += len(message.body)
        if self._waiting > _MOST_WAITING:
            self.flush(came_by, now)

    def relay_run(
        self,
        messages: Sequence[Message],
        came_by: Connection,
        now: float,
        shorts: Sequence[bytes],
    ) -> None:
        """
        Pass on broadcasts that are noted as seen already, behind what waits.

        :param shorts: their short ids.
        """
        if self._onward:
            self.flush(came_by, now)
        self._pass_on(messages, came_by, now, shorts)

    def flush(self, came_by: Connection, now: float) -> None:
        """Pass on what one read has brought: to everybody but the peer it came by."""
        messages = self._onward
        if not messages:
            return
        self._onward = []
        self._waiting = 0
        self._pass_on(messages, came_by, now)

    def _pass_on(
        self,
        messages: Sequence[Message],
        came_by: Connection,
        now: float,
        shorts: Sequence[bytes] | None = None,
    ) -> None:
        # While one connection to a peer gives way to another, the peer has two.
        came_from = self._links.table.get(came_by.id, came_by)
        came_by.onward = self._spread(messages, came_from, now, shorts)

    def _spread(
        self,
        messages: Sequence[Message],
        came_from: Connection | None,
        now: float,
        shorts: Sequence[bytes] | None = None,
    ) -> bool:
        """
        Keep messages, and pass them on.

        :return: whether any goes to anybody, other than announced.
        """
        trees, onward = self._trees, False
        if self._settings.extensions:
            via = came_from.id if came_from is not None else b""
            shorts = self._recent.hold(messages, via, now, shorts)
            missing = self._repair.missing
            if missing and came_from is not None and not missing.keys().isdisjoint(shorts):
                obtained = self._repair.obtained
                late: list[Message] = []
                others: list[Message] = []
                for message in messages:
                    (late if obtained(message, came_from, now) else others).append(message)
                if late:
                    self._catch_up(late, came_from, now)
                    messages, shorts = others, None
        if not messages:
            pass
        elif not len(trees):
            onward = self._to(trees.targets, messages, came_from)
        elif len(messages) == 1 or len({message.items[1] for message in messages}) == 1:
            onward = self._by_tree(messages[0].items[1], messages, came_from, now, shorts)
        else:
            for origin, run in groupby(messages, _origin):
                onward |= self._by_tree(origin, list(run), came_from, now)
        # After that, since a link may have become congested by it.
        for link in trees.behind:
            if link.ext is not None and link is not came_from:
                link.ext.behind = True
        if self._settings.extensions:
            # The frames are with those who write them; an application may keep messages for long.
            for message in messages:
                message.frames = None
        return onward

    def _catch_up(self, late: Sequence[Message], came_from: Connection, now: float) -> None:
        """
        Pass on what a digest has brought.

        Usually it is we who had missed it, such as a newcomer what was said before it came; if
        it is all on our side, those who hear of it will ask. So without a tree it is announced,
        and not flooded.
        """
        for message in late:
            if self._trees.knows(message.items[1]):
                self._by_tree(message.items[1], (message,), came_from, now)
            else:
                others = [link for link in self._trees.targets if link is not came_from]
                self._to([link for link in others if link.ext is None], (message,), came_from)
                self._trees.announce(
                    (message.id[:SHORT],), [link for link in others if link.ext is not None], now
                )
            message.frames = None

    def _by_tree(
        self,
        origin: bytes | str,
        messages: Sequence[Message],
        came_from: Connection | None,
        now: float,
        shorts: Sequence[bytes] | None = None,
    ) -> bool:
        latest = messages[-1].id[:SHORT]
        eager, announced = self._trees.routes(origin, len(messages), came_from, now, latest)
        onward = self._to(eager, messages, came_from)
        if announced:
            others = [link for link in announced if link is not came_from]
            if others:
                shorts = shorts or [message.id[:SHORT] for message in messages]
                self._trees.announce(shorts, others, now)
        return onward

    def _to(
        self, links: Sequence[Connection], messages: Sequence[Message], came_from: Connection | None
    ) -> bool:
        if came_from is not None:
            links = [link for link in links if link is not came_from]
        if links and came_from is not None and came_from.ext is not None:
            links = self._but_stale(links, messages)
        if links:
            self._effects.relay(messages, links)
        return bool(links)

    def _but_stale(
        self, links: Sequence[Connection], messages: Sequence[Message]
    ) -> Sequence[Connection]:
        """
        Give plain nodes what they take of messages that may be old; return who is left to be given.

        They drop what is more than 60 s old. What is just that old they pass on, and forget at
        once, so that it comes back, for a second: repairs bring them such messages.
        """
        oldest = min([message.items[2] for message in messages])
        wall = self._wall()
        slow = [link for link in links if link.ext is None and oldest < wall + link.ahead - OLDEST]
        if not slow:
            return links
        for link in slow:
            since = wall + link.ahead - OLDEST
            if timely := [message for message in messages if message.items[2] >= since]:
                self._effects.relay(timely, (link,))
        return [link for link in links if link not in slow]

    def peer_joined(self, link: Connection, now: float) -> None:
        """Give a first peer what was sent before it came."""
        while self._unsent:
            sent, message = self._unsent.popleft()
            if now - sent <= self._settings.unsent_age:
                self._effects.send(message, link)


def _origin(message: Message) -> Any:
    return message.items[1]
