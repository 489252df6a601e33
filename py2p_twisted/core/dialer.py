"""
Whom to dial, and when again.

One policy for every reason to dial:

=========  =============================================================================
asked      the application's ``connect``: at once, one attempt, an answer in any case
pinned     asked for, and once connected (or a bootstrap address): for ever, with back-off; but
           15 minutes after it last was, if one of us had no place for the other
lost       a link that broke: 0.5 s x 2^n, at most 15 s, +-30 %, 14 attempts; as many if
           it breaks within `LONG_LIVED` again and again
learned    told by a peer: while fewer than ``max_outgoing`` links are ours, 3 attempts,
           then a pause of 15 minutes
isolated   no peer at all: any known address, one every 2 s, for ever
recalled   known before this node was started anew: in turn, until there are links enough;
           then like a learned one
=========  =============================================================================

At most four dials are under way by our own choice, and at most one a second goes to the
same host unless that is on a private network. An address never leaves the book while it
is pinned; apart from that the oldest go first, and no peer can fill more than its share.

The random generator and the time are handed in; times are in seconds. Source:
docs/design.rst, "Dialling" and "Limits".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, Protocol

from py2p_twisted.core.actions import Dial
from py2p_twisted.core.connection import Connection
from py2p_twisted.core.links import Links
from py2p_twisted.core.message import MAX_ID
from py2p_twisted.core.network import Address
from py2p_twisted.core.settings import Settings
from py2p_twisted.core.timers import Timer, Timers
from py2p_twisted.errors import NetworkMismatch, SameId, SelfConnection, WrongPeer

#: Back-off: the first delay, doubled each time; the longest; how much both vary.
FIRST_DELAY: Final = 0.5
LONGEST_DELAY: Final = 15.0
JITTER: Final = 0.3
LOST_TRIES: Final = 14
#: A link that lived this long starts the back-off anew; else flapping links would be
#: dialled at full speed for ever.
LONG_LIVED: Final = 30.0
#: Links that broke and are dialled again; more of them are merely remembered.
MOST_LOST: Final = 8
#: What a liar's address can cost: attempts, and seconds until the next ones.
LEARNED_TRIES: Final = 3
LEARNED_PAUSE: Final = 15 * 60.0
MOST_AT_ONCE: Final = 4
HOST_INTERVAL: Final = 1.0
#: Who has named the addresses that were dialled for a mechanism, and have not answered yet. No
#: peer has an id of this length.
_VISITED: Final = b"visited" + bytes(MAX_ID)
#: Ports of services that must not be bothered by a liar's peers list: 25 is mail.
REFUSED_PORTS: Final = frozenset({25})
#: A node without any peer tries one address this often.
ISOLATED_INTERVAL: Final = 2.0
#: Addresses that lead to this node, which are never dialled. A liar can send what we say back to us
#: from any number of ports.
MOST_OWN: Final = 256
#: How long an address that has led to this very node is left alone. Behind one address there may be
#: several nodes in turn: a load balancer, a service of Kubernetes.
LED_HERE: Final = 900.0
#: The node that had dialled has the head start in dialling again, so that the two seldom
#: cross.
ACCEPTOR_HANDICAP: Final = 1.0
#: A learned address is dialled after a moment of up to this length: two nodes that learn
#: of each other at the same time would cross otherwise.
LEARNED_SPREAD: Final = 0.2


class Random(Protocol):
    """What is used of ``random.Random``."""

    def random(self) -> float:
        """A number from 0 to 1."""

    def shuffle(self, x: list[Connection]) -> None:
        """Put a list into random order."""


class _Entry:
    """One address of the book."""

    __slots__ = (
        "address", "dial", "expected", "ident", "level", "lost", "next", "pinned",
        "source", "tokens", "tries", "visited",
    )  # fmt: skip

    def __init__(self, address: Address, source: bytes) -> None:
        self.address = address
        self.source = source
        self.ident = b""
        self.expected: bytes | None = None
        self.pinned = False
        self.lost = False
        #: Who waits for a connection, and for which node if that matters.
        self.tokens: list[tuple[int, bytes | None]] = []
        self.dial: Dial | None = None
        #: Whether it is being dialled for a mechanism, which itself knows when to try again.
        self.visited = False
        self.tries = 0
        self.level = 0
        #: When it may be dialled next; ``None``: not by itself.
        self.next: float | None = None


class Dialer:
    """The address book, and the decisions what of it to dial."""

    def __init__(
        self,
        settings: Settings,
        links: Links,
        timers: Timers,
        rng: Random,
        *,
        dial: Callable[[Dial], None],
        needed: Callable[[], bool],
        failed: Callable[[int, Exception], None],
    ) -> None:
        """
        :param dial: carries out a dial.
        :param needed: whether links of our own choice should be sought.
        :param failed: tells who asked for a connection that there will be none.
        """
        self._settings = settings
        self._links = links
        self._timers = timers
        self._rng = rng
        self._dial = dial
        self._needed = needed
        self._failed = failed
        self._book: dict[Address, _Entry] = {}
        self._under_way: dict[int, _Entry] = {}
        self._ours: set[Address] = set()
        #: Those of them that are so for a while, and whether they are wanted then.
        self._led_here: dict[Address, bool] = {}
        self._live_on_loopback = False
        self._hosts: dict[str, float] = {}
        self._serial = 0
        self._timer: Timer | None = None
        self._stopped = False
        #: Addresses from an earlier run that have not had their turn yet, the best first.
        self._recalled: deque[Address] = deque()
        #: When this node became isolated, or last tried any address because of that.
        self._isolated_at: float | None = None

    # --- what is known -----------------------------------------------------------

    @property
    def known(self) -> list[Address]:
        """The addresses in the book."""
        return list(self._book)

    @property
    def under_way(self) -> list[Address]:
        """The addresses that are being dialled."""
        return [entry.address for entry in list(self._under_way.values())]

    def is_ours(self, address: Address) -> bool:
        """Whether an address is known to lead to this very node."""
        return address in self._ours

    def addresses_of(self, ident: bytes) -> list[Address]:
        """Where a node lives, or has lived, as far as we know."""
        return [entry.address for entry in self._book.values() if entry.ident == ident]

    def asked_for(self, link: Connection) -> bool:
        """Whether a link that introduces itself is one that the application has asked for."""
        if link.dial is None:
            return False
        entry = self._under_way.get(link.dial.serial)
        wanted = link.dial.expected == link.id
        return wanted or (entry is not None and (entry.pinned or bool(entry.tokens)))

    def add_own(self, address: Address) -> None:
        """An address leads to this very node: it is never dialled, unless there are too many."""
        if len(self._ours) < MOST_OWN:
            self._ours.add(address)
        entry = self._book.pop(address, None)
        if entry is not None and entry.dial is not None:
            self._under_way.pop(entry.dial.serial, None)
        if _is_loopback(address[0]):
            self._live_on_loopback = True

    def led_here(self, address: Address, now: float) -> None:
        """An address has led to this very node: for `LED_HERE` seconds it is not dialled."""
        if address in self._ours:
            return
        wanted = address in self._book and self._book[address].pinned
        self.add_own(address)
        if address in self._ours:
            self._led_here[address] = wanted
            again = now + LED_HERE
            self._timers.at(again, partial(self._may_lead_elsewhere, address, again))

    def _may_lead_elsewhere(self, address: Address, now: float) -> None:
        wanted = self._led_here.pop(address, False)
        self._ours.discard(address)
        if wanted and not self._stopped:
            self.pin(address, now)

    def _entry(self, address: Address, source: bytes) -> _Entry:
        entry = self._book.get(address)
        if entry is None:
            entry = self._book[address] = _Entry(address, source)
            self._make_room(source)
        return entry

    def _make_room(self, source: bytes) -> None:
        """Forget the oldest address of a greedy source, or of all, when there are too many."""
        of_source = [item for item in self._book.values() if item.source == source]
        share = self._settings.book_share
        if source and len(of_source) > share:
            self._forget_one(of_source)
        if len(self._book) > self._settings.book_size:
            self._forget_one(self._book.values())

    def _forget_one(self, entries: Iterable[_Entry]) -> None:
        for entry in entries:
            if not entry.pinned and entry.dial is None and not entry.tokens:
                del self._book[entry.address]
                return

    # --- what is wanted ----------------------------------------------------------

    def connect(
        self, address: Address, token: int, now: float, expected: bytes | None = None
    ) -> None:
        """The application wants a connection: dial now, whatever happened before."""
        entry = self._entry(address, b"")
        entry.tokens.append((token, expected))
        if entry.dial is None:
            entry.expected = expected
            self._start(entry, now)
        self._arm(now)

    def seek_peer(self, address: Address, ident: bytes, now: float) -> None:
        """A certain node is wanted, and somebody says it lives here: dial it once."""
        if not self.acceptable(address):
            return
        entry = self._entry(address, b"")
        if entry.dial is None and not self._is_connected(entry):
            entry.expected = ident
            self._start(entry, now)
        self._arm(now)

    def visit(self, address: Address, ident: bytes, now: float) -> bool:
        """
        One of the mechanisms wants a connection: dial once, now.

        :param ident: the node that should live there; another one will do.
        :return: whether that is possible: the address makes sense, nobody there is connected
            or being dialled, and not too many others are.
        """
        if (
            self._stopped
            or not self.acceptable(address)
            or ident in self._links.table
            or len(self._under_way) >= MOST_AT_ONCE
            or self._hosts.get(address[0], 0.0) > now
        ):
            return False
        # Somebody has named it, and can name any number: a share is for those who never answer.
        entry = self._entry(address, _VISITED)
        if entry.dial is not None or self._is_connected(entry):
            return False
        entry.visited = True
        self._start(entry, now)
        self._arm(now)
        return True

    def is_pinned(self, link: Connection) -> bool:
        """Whether the application has asked for a link."""
        if not link.outgoing or link.dial is None:
            return False
        entry = self._book.get(link.dial.address)
        return entry is not None and entry.pinned

    def is_wanted(self, address: Address) -> bool:
        """Whether the application wants a connection to an address, now or for ever."""
        entry = self._book.get(address)
        return entry is not None and (entry.pinned or bool(entry.tokens))

    def candidates(self) -> list[tuple[Address, bytes]]:
        """Addresses of the book that a link may be made to, and who lives there, if known."""
        return [
            (entry.address, entry.ident)
            for entry in self._book.values()
            if entry.dial is None and self.acceptable(entry.address)
        ]

    def pin(self, address: Address, now: float) -> None:
        """Keep connected to an address for ever, from now on: a bootstrap address."""
        if address in self._ours:
            if address in self._led_here:
                self._led_here[address] = True
            return
        entry = self._entry(address, b"")
        entry.pinned = True
        if entry.dial is None and self._links.at(address) is None:
            entry.ident = b""  # what others say of it must not keep us from it
            entry.next = now
        self._arm(now)

    def unpin(self, address: Address) -> None:
        """An address is one among others again. A connection to it stays."""
        if address in self._led_here:
            self._led_here[address] = False
        entry = self._book.get(address)
        if entry is not None and entry.pinned:
            entry.pinned = entry.lost = False

    def learned(
        self, addresses: Iterable[tuple[Address, bytes]], source: bytes, now: float
    ) -> None:
        """A peer has named other nodes; some of them may be dialled."""
        for address, ident in addresses:
            if not self.acceptable(address):
                continue
            entry = self._entry(address, source)
            if entry.pinned:
                continue
            entry.ident = entry.ident or ident
            if entry.next is None and not entry.lost:
                entry.next = now + LEARNED_SPREAD * self._rng.random()
        self._arm(now)

    def recall(self, peers: Sequence[tuple[Address, bytes]], now: float) -> None:
        """
        Go back to nodes that were known before this one was started anew.

        :param peers: where they lived, and who they were, the best first.
        """
        fresh = [
            (address, ident)
            for address, ident in peers[: self._settings.book_size]
            if address not in self._ours and address not in self._book
        ]
        # The oldest of the book are forgotten first, and these are to be the worst.
        for address, ident in reversed(fresh):
            self._entry(address, b"").ident = ident
        self._recalled.extend(address for address, _ in fresh)
        self._recall_next(now)
        self._arm(now)

    def _recall_next(self, now: float) -> None:
        """Dial those that have not had their turn, as many as are needed."""
        recalled = self._recalled
        while recalled and len(self._under_way) < MOST_AT_ONCE and self._needed():
            entry = self._book.get(recalled.popleft())
            if entry is None or entry.dial is not None or self._is_connected(entry):
                continue
            if entry.ident and any(
                other.ident == entry.ident for other in self._under_way.values()
            ):
                continue  # another address of the same node
            wait = self._hosts.get(entry.address[0], 0.0) - now
            if wait > 0:
                entry.next = now + wait
            else:
                self._start(entry, now)

    def worth_keeping(self) -> list[tuple[Address, bytes]]:
        """Addresses to know after a restart, the latest first, and who lives there, if known."""
        return [
            (entry.address, entry.ident)
            for entry in reversed(self._book.values())
            if entry.pinned or self.acceptable(entry.address)
        ]

    def acceptable(self, address: Address) -> bool:
        """Whether an address that others name may be dialled."""
        host, port = address
        if address in self._ours or port in REFUSED_PORTS:
            return False
        ip = _ip(host)
        if ip is None:
            # A resolver reads "127.1" and "0x7f000001" as addresses, too.
            last = host.lower().rstrip(".").rpartition(".")[2]
            if last.isdigit() or last.startswith("0x"):
                return False
            return not _is_loopback(host) or self._live_on_loopback
        if ip.is_multicast or ip.is_unspecified or ip == IPv4Address("255.255.255.255"):
            return False
        return not ip.is_loopback or self._live_on_loopback

    # --- what became of it -------------------------------------------------------

    def connected(self, link: Connection, now: float) -> list[int]:
        """
        A connection has joined the table, or given way to a better one.

        :return: the tokens of those who asked for it.
        """
        entry = self._finish(link.dial)
        by_address = self._book.get(link.address) if link.address else None
        if (
            by_address is not None
            and by_address is not entry
            and by_address.expected not in (None, link.id)
        ):
            by_address = None  # anybody can say that it lives there
        tokens: list[int] = []
        for item in {id(item): item for item in (entry, by_address) if item}.values():
            item.ident = link.id
            item.visited = False
            if item.source == _VISITED:
                item.source = link.id
            item.tries = 0
            item.next = None
            item.lost = False
            for token, expected in item.tokens:
                if expected is not None and expected != link.id:
                    # Who asked while another dial was under way.
                    self._failed(token, WrongPeer(expected, link.id))
                    continue
                tokens.append(token)
                # Asked for once, wanted from now on.
                item.pinned = True
            item.tokens = []
            item.expected = None
        for item in self._book.values():
            if item.ident == link.id:
                # It came back by itself, maybe from another address.
                item.lost = False
                item.next = None
        if link.address and by_address is None and self.acceptable(link.address):
            self._entry(link.address, link.id).ident = link.id
        self._arm(now)
        return tokens

    def dial_failed(self, dial: Dial | None, error: Exception, now: float) -> None:
        """A dial came to nothing, before or after the transport was connected."""
        entry = self._finish(dial)
        if entry is None:
            return
        asked, entry.tokens = entry.tokens, []
        visited, entry.visited = entry.visited, False
        entry.expected = None
        if isinstance(error, WrongPeer) and any(expected is None for _, expected in asked):
            # Not everybody who asked minds which node it is that lives there.
            entry.tokens = [item for item in asked if item[1] is None]
            self._start(entry, now)
            for token, expected in asked:
                if expected is not None:
                    self._failed(token, error)
            self._arm(now)
            return
        tokens = [token for token, _ in asked]
        entry.tries += 1
        delay = self._delay(entry.level)
        entry.level += 1
        if isinstance(error, (NetworkMismatch, SameId, SelfConnection)):
            # Trying again changes nothing, unless an operator changes the other end.
            entry.lost = False
            if entry.pinned:
                entry.next = now + LONGEST_DELAY
            else:
                self._book.pop(entry.address, None)
        elif (
            entry.pinned
            or (entry.lost and entry.tries < LOST_TRIES)
            or (entry.tries < LEARNED_TRIES and not (entry.lost or tokens or visited))
        ):
            entry.next = now + delay
        else:
            entry.lost = False
            entry.tries = 0
            entry.next = now + LEARNED_PAUSE
        for token in tokens:
            self._failed(token, error)
        self._recall_next(now)
        self._arm(now)

    def lost(self, link: Connection, now: float, *, again: bool, full: bool = False) -> None:
        """
        A connection has left the table.

        :param again: whether it is worth dialling again.
        :param full: one of the two nodes keeps others instead, or it was a look: even who asked
            for this link is served by the mesh, and comes back to it later, or when it is alone.
            Of a hundred nodes that have all asked for the same one, each would take another's place
            there as soon as it may. Source: docs/design.rst, "Dialling".
        """
        address = link.dial.address if link.dial is not None else link.address
        if address is not None and (link.dial is not None or self.acceptable(address)):
            self._entry(address, link.id).ident = link.id
        for entry in self._book.values():
            # A pinned address may be another name of the one that the peer announces.
            if entry.address != address and not (entry.pinned and entry.ident == link.id):
                continue
            if now - link.since >= LONG_LIVED:
                entry.level = 0
            if entry.dial is not None:
                continue
            if full:
                entry.lost = False
                entry.next = now + LEARNED_PAUSE
                continue
            # Who hangs up again and again, soon after each greeting, does not want us.
            if entry.pinned or (again and entry.level < LOST_TRIES and self._few_lost()):
                entry.lost = True
                entry.tries = 0
                entry.next = now + self._delay(entry.level)
                if not link.outgoing:
                    entry.next += ACCEPTOR_HANDICAP
                entry.level += 1
            else:
                entry.next = now + LEARNED_PAUSE
        self._arm(now)

    def forget(self, address: Address) -> None:
        """Do not seek a connection to an address any more, whoever wanted one."""
        entry = self._book.get(address)
        if entry is None:
            return
        if entry.dial is None:
            del self._book[address]
        else:
            entry.pinned = entry.lost = False  # so that nobody has `asked_for` what comes of it

    def stop(self, error: Exception) -> None:
        """Dial nobody any more; who waits for a connection is told why there is none."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        for entry in self._book.values():
            asked, entry.tokens = entry.tokens, []
            for token, _ in asked:
                self._failed(token, error)

    def _few_lost(self) -> bool:
        return sum(entry.lost for entry in self._book.values()) < MOST_LOST

    def _finish(self, dial: Dial | None) -> _Entry | None:
        if dial is None:
            return None
        entry = self._under_way.pop(dial.serial, None)
        if entry is not None:
            entry.dial = None
        return entry

    def _delay(self, level: int) -> float:
        delay = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(level, 16))
        return delay * (1 + JITTER * (2 * self._rng.random() - 1))

    # --- when ---------------------------------------------------------------------

    def wake(self, now: float) -> None:
        """Dial what is due."""
        if self._stopped:
            return
        for entry in sorted(
            (item for item in self._book.values() if item.next is not None and item.next <= now),
            key=lambda item: (not item.pinned, not item.lost, item.next),
        ):
            if not self._wanted(entry):
                # Being dialled, connected in another way, or not needed. It stays in the
                # book; left due, it would wake us again at once and for ever.
                entry.next = None
                continue
            if len(self._under_way) >= MOST_AT_ONCE:
                break
            wait = self._hosts.get(entry.address[0], 0.0) - now
            if wait > 0:
                entry.next = now + wait
                continue
            self._start(entry, now)
        if (
            self._isolated_at is not None
            and self._isolated()
            and now >= self._isolated_at + ISOLATED_INTERVAL
        ):
            self._isolated_at = now
            self._try_any(now)
        self._arm(now)

    def seek(self, now: float) -> None:
        """There may be room for another link: look through the book again."""
        if self._needed():
            for entry in self._book.values():
                if (
                    entry.next is None
                    and entry.dial is None
                    and entry.tries < LEARNED_TRIES
                    and self.acceptable(entry.address)
                ):
                    entry.next = now + LEARNED_SPREAD * self._rng.random()
        self._arm(now)

    def _is_connected(self, entry: _Entry) -> bool:
        return bool(entry.ident and entry.ident in self._links.table) or (
            self._links.at(entry.address) is not None
        )

    def _wanted(self, entry: _Entry) -> bool:
        if entry.dial is not None or self._is_connected(entry):
            return False
        return entry.pinned or entry.lost or self._needed()

    def _isolated(self) -> bool:
        return not self._links.open and not self._under_way and bool(self._book)

    def _try_any(self, now: float) -> None:
        """Nobody is left: try the address that has been left alone longest."""
        entries = [entry for entry in self._book.values() if entry.dial is None]
        if entries:
            entry = min(entries, key=lambda item: item.tries)
            # Move it to the end, so that equals take turns.
            self._book[entry.address] = self._book.pop(entry.address)
            self._start(entry, now)

    def _start(self, entry: _Entry, now: float) -> None:
        if self._stopped:
            return
        self._serial += 1
        entry.next = None
        entry.dial = Dial(entry.address, entry.expected, self._settings.dial_timeout, self._serial)
        self._under_way[self._serial] = entry
        host = entry.address[0]
        if not _is_private(host):
            if len(self._hosts) > self._settings.book_size:
                self._hosts.clear()
            self._hosts[host] = now + HOST_INTERVAL
        self._dial(entry.dial)

    def _arm(self, now: float) -> None:
        """One timer, for whatever comes first."""
        if self._stopped:
            return
        times = [entry.next for entry in self._book.values() if entry.next is not None]
        if not self._isolated():
            self._isolated_at = None if self._links.open else self._isolated_at
        else:
            if self._isolated_at is None:
                self._isolated_at = now
            times.append(self._isolated_at + ISOLATED_INTERVAL)
        when = min(times, default=None)
        if when is not None and len(self._under_way) >= MOST_AT_ONCE:
            when = max(when, now + FIRST_DELAY)
        if self._timer is not None:
            if self._timer.active and self._timer.when == when:
                return
            self._timer.cancel()
            self._timer = None
        if when is not None:
            self._timer = self._timers.at(max(when, now), self._timer_fired)

    def _timer_fired(self) -> None:
        if self._timer is not None:
            self.wake(self._timers.now)


@lru_cache(4096)
def _ip(host: str) -> IPv4Address | IPv6Address | None:
    try:
        ip = ip_address(host)
    except ValueError:
        return None
    # ::ffff:127.0.0.1 is 127.0.0.1, whatever Python's older versions think of it.
    return getattr(ip, "ipv4_mapped", None) or ip


def is_name(host: str) -> bool:
    """Whether a host is given by a name, which may have several addresses, and others tomorrow."""
    return _ip(host) is None


def _is_loopback(host: str) -> bool:
    ip = _ip(host)
    if ip is not None:
        return ip.is_loopback
    return host.lower().rstrip(".").rpartition(".")[2] == "localhost"


def _is_private(host: str) -> bool:
    ip = _ip(host)
    return ip.is_private if ip is not None else _is_loopback(host)
