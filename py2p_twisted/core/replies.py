"""
How a reply finds a sender that is not a neighbour.

::

    us                    the mesh                  a neighbour of the sender
    |-- request(rid, id) --> flooded ------------------------>|
    |<---------------------- flooded <-- response(rid, addr) -|
    |-- dial addr, handshake, then the replies as whispers -->| (the sender itself)

All replies to one sender wait together; every request has an id of its own, so several
replies in one second do not get into each other's way. After a while without an answer the
request is repeated once; after ``reply_timeout`` everything that waits has failed, visibly.

Times are in seconds. Source: docs/protocol/wire.rst, "Messages of the node".
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha384
from typing import Final

from py2p_twisted.core import base58
from py2p_twisted.core.message import Message, as_bytes
from py2p_twisted.core.network import Address
from py2p_twisted.core.settings import Settings
from py2p_twisted.core.timers import Timer, Timers
from py2p_twisted.errors import MeshError, ReplyFailed

#: Addresses tried for one sender: the first may be a liar's, or out of date.
_TRIES: Final = 3


class _Search:
    """What waits for one sender."""

    __slots__ = ("dials", "replies", "request_ids", "target", "timers")

    def __init__(self, target: bytes | str) -> None:
        self.target = target
        self.replies: list[tuple[int, Message]] = []
        self.request_ids: list[bytes] = []
        self.timers: list[Timer] = []
        self.dials = 0


class Replies:
    """Replies that are looking for their receiver."""

    def __init__(
        self,
        own_id: bytes,
        settings: Settings,
        timers: Timers,
        *,
        ask: Callable[[bytes, bytes | str], None],
        dial: Callable[[Address, bytes], None],
        done: Callable[[int, MeshError | None], None],
    ) -> None:
        """
        :param ask: floods a request: its id, and whose address is wanted.
        :param dial: dials an address where a certain id should answer.
        :param done: reports what became of a reply.
        """
        self._own_id = own_id
        self._settings = settings
        self._timers = timers
        self._ask = ask
        self._dial = dial
        self._done = done
        self._searches: dict[bytes, _Search] = {}
        self._by_request: dict[bytes, bytes] = {}
        self._serial = 0

    def __len__(self) -> int:
        return sum(len(search.replies) for search in list(self._searches.values()))

    def search(
        self,
        target: bytes | str,
        token: int,
        whisper: Message,
        now: float,
        wall: float,
        *,
        until: float | None = None,
    ) -> None:
        """
        Find a node by its id, and keep a whisper for it meanwhile.

        :param until: when it has failed; ``None``: ``reply_timeout`` from now.
        """
        if len(self) >= self._settings.max_replies:
            self._done(token, ReplyFailed("too many replies are waiting for their receivers"))
            return
        key = as_bytes(target)
        search = self._searches.get(key)
        if search is None:
            search = self._searches[key] = _Search(target)
            end = now + self._settings.reply_timeout if until is None else until
            search.timers = [
                self._timers.at(now + (end - now) / 3, lambda: self._request(key, wall)),
                self._timers.at(end, lambda: self._give_up(key)),
            ]
            search.replies.append((token, whisper))
            self._request(key, wall)
        else:
            search.replies.append((token, whisper))

    def _request(self, key: bytes, wall: float) -> None:
        search = self._searches.get(key)
        if search is None:
            return
        # As the reference makes them, but never the same one twice.
        self._serial += 1
        seed = self._own_id + base58.encode(int(wall)) + base58.encode(self._serial)
        request_id = base58.encode(int.from_bytes(sha384(seed).digest(), "big"))
        search.request_ids.append(request_id)
        self._by_request[request_id] = key
        self._ask(request_id, search.target)

    def answered(self, request_id: bytes, address: Address) -> bool:
        """
        A response has come in.

        :return: whether it was ours.
        """
        key = self._by_request.get(request_id)
        if key is None:
            return False
        search = self._searches[key]
        if search.dials < _TRIES:
            search.dials += 1
            self._dial(address, key)
        return True

    def found(self, key: bytes) -> list[tuple[int, Message]]:
        """A node has become a neighbour: hand out what waits for it."""
        search = self._drop(key)
        return search.replies if search else []

    def stop(self, error: MeshError) -> None:
        """Give up everything that waits."""
        for key in list(self._searches):
            search = self._drop(key)
            for token, _ in search.replies if search else ():
                self._done(token, error)

    def _give_up(self, key: bytes) -> None:
        search = self._drop(key)
        if search is None:
            return
        seconds = self._settings.reply_timeout
        who = ascii(key.decode("latin-1"))[1:-1]  # it may have chosen its id to be printed
        what = "its address did not answer" if search.dials else "nobody knows where it is"
        for token, _ in search.replies:
            self._done(token, ReplyFailed(f"no way to {who} within {seconds:g} s: {what}"))

    def _drop(self, key: bytes) -> _Search | None:
        search = self._searches.pop(key, None)
        if search is not None:
            for timer in search.timers:
                timer.cancel()
            for request_id in search.request_ids:
                del self._by_request[request_id]
        return search
