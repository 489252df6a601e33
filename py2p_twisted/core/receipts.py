"""
Receipts: who has delivered a message, gathered on the way back along its tree.

A broadcast that carries a `marker` is answered by everybody who delivers it, but not to its origin:
to the neighbour that brought it, which adds itself and passes all of it on. So the origin gets
few frames, however many members there are::

    origin <--[b c d e f]-- b <--[c d]-- c <--[d]-- d         RECEIPT: message, who has it,
                            ^                                 which plain nodes were given it
                            '----[e f]-- e <--[f]-- f

What waits for a neighbour goes into one frame, of all messages, once in `DELAY`. An id goes up once.
But if the way up ends, *everything* that is known goes up another way: through a neighbour that has
not been tried for this message. So a node that dies takes nothing with it; the receipts are
sets, and what comes twice does no harm.

Another way may lead back here. That is found out in two ways: the neighbour that should pass
receipts up sends us some of that message itself; or our own id comes back, which we give along
when we change the way, with a number (*moved*), and which all others pass on even if they know
it. Then the next neighbour is tried.

Receipts are not signed: whoever passes them on can invent them. Times are in seconds.
Source: docs/protocol/mesh-ext.rst, "Receipts".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Final

from py2p_twisted.core.actions import Receipted
from py2p_twisted.core.connection import Connection, State
from py2p_twisted.core.extension import PAGE, Kind
from py2p_twisted.core.links import Links
from py2p_twisted.core.message import MAX_ID
from py2p_twisted.core.seen import SHORT
from py2p_twisted.core.timers import Timer, Timers
from py2p_twisted.errors import BadExtension

#: How long receipts wait for others to go with.
DELAY: Final = 0.05

#: Bytes of a frame of receipts: what is more goes with the next. `extension.LARGEST` is accepted.
ROOM: Final = 16 * 1024
#: Bytes of an id's header, and around the ids of one message.
_OF_AN_ID: Final = 3
_OF_A_ROW: Final = SHORT + 16

#: Messages whose receipts are passed on, and that we wait for ourselves, at most.
MOST: Final = 1024
#: Ids in all of those that are passed on, and in all that we wait for ourselves.
MOST_IDS: Final = 100_000
#: Messages that have not come, whose receipts have.
MOST_EARLY: Final = 64
#: How long those are kept.
EARLY: Final = 15.0
#: How much longer than the origin waits receipts are passed on.
LONGER: Final = 5.0
#: Nodes that have changed their way, of one message, and how often one may have.
MOST_MOVED: Final = 256
MOST_TURNS: Final = 1024

#: How often a neighbour is told that there is no way up here.
_REFUSALS: Final = 2

#: Members that are known, for how long, and how often in a row they may be missing.
MOST_MEMBERS: Final = 20_000
MEMBER_FOR: Final = 600.0
MISSES: Final = 3

#: A confirmation is complete when nothing new has come for so long; if only neighbours were known
#: before, for so long, and not before so much has passed.
QUIET: Final = 0.3
UNKNOWN_QUIET: Final = 1.0
UNKNOWN_LEAST: Final = 1.5

#: What a message's receipts say: its short id; who has delivered it; which plain nodes were given
#: it; who has changed its way, and how often.
Row = tuple[bytes, list[bytes], list[bytes], list[tuple[bytes, int]]]


@dataclass(frozen=True, slots=True, repr=False)
class Receipt:
    """
    Who has a message, as far as that is known.

    Members are named by their ids. Nothing of it is signed: it says what the members on the way say.

    :ivar delivered: those that have given it to their application.
    :ivar missing: those that are known, and have not said so in time.
    :ivar unknown: nodes of py2p 0.6 that were given it: they cannot tell.
    :ivar seconds: how long it took to find out.
    :ivar complete: whether there was somebody to ask, and nobody is missing.
    :ivar last: how long it took until the last receipt came; 0 if none has.
    """

    delivered: frozenset[bytes]
    missing: frozenset[bytes]
    unknown: frozenset[bytes]
    seconds: float
    complete: bool
    last: float = 0.0

    def __repr__(self) -> str:
        return (
            f"<Receipt {'complete' if self.complete else 'incomplete'} after {self.seconds:.1f} s: "
            f"{_count('delivered', self.delivered)}, {_count('missing', self.missing)}, "
            f"{_count('unknown', self.unknown)}>"
        )


def _count(word: str, idents: frozenset[bytes]) -> str:
    """So many, and the first few by name."""
    if not idents:
        return f"0 {word}"
    names = [one[:10].decode("ascii", "backslashreplace") for one in sorted(idents)[:4]]
    more = ", ..." if len(idents) > len(names) else ""
    return f"{len(idents)} {word} ({', '.join(names)}{more})"


def read_rows(field: Any) -> list[Row]:
    """
    What a frame of receipts says.

    :raises BadExtension: it makes no sense, or is more than a page.
    """
    if type(field) is not list or len(field) > PAGE:
        raise BadExtension(f"expected receipts of up to {PAGE} messages")
    rows: list[Row] = []
    total = 0
    for row in field:
        if type(row) is not list or len(row) < 3:
            raise BadExtension("receipts name a message, and two lists of nodes")
        short, delivered, plain = row[:3]
        moved = row[3] if len(row) > 3 else []
        if type(short) is not bytes or len(short) != SHORT:
            raise BadExtension(f"receipts are for an id of {SHORT} bytes, not {short!r:.40}")
        if not type(delivered) is type(plain) is type(moved) is list:
            raise BadExtension("receipts name a message, and lists of nodes")
        total += len(delivered) + len(plain) + len(moved)
        if total > PAGE:
            raise BadExtension(f"receipts name up to {PAGE} nodes in a frame")
        for ident in (*delivered, *plain):
            _check_id(ident)
        for one in moved:
            if type(one) is not list or len(one) != 2 or type(one[1]) is not int:
                raise BadExtension("who has moved is named with a number")
            _check_id(one[0])
            if not 0 < one[1] <= MOST_TURNS:
                raise BadExtension(f"nobody moves {one[1]} times")
        rows.append((short, delivered, plain, [(ident, turn) for ident, turn in moved]))
    return rows


def _check_id(ident: Any) -> None:
    if type(ident) is not bytes or not 0 < len(ident) <= MAX_ID:
        raise BadExtension(f"a node has an id of 1 to {MAX_ID} bytes, not {ident!r:.40}")


class _Page:
    """One frame of receipts, as long as there is room in it."""

    __slots__ = ("_count", "_size", "rows")

    def __init__(self) -> None:
        self.rows: list[list[Any]] = []
        self._size = self._count = 0

    def begin(self, short: bytes) -> list[Any]:
        self._size += _OF_A_ROW
        row: list[Any] = [short, [], [], []]
        self.rows.append(row)
        return row

    @property
    def full(self) -> bool:
        return self._count >= PAGE or len(self.rows) >= PAGE or self._size >= ROOM - _OF_A_ROW

    def take(self, idents: Iterable[bytes]) -> list[bytes]:
        """As many of them as there is room for."""
        taken: list[bytes] = []
        for ident in idents:
            size = self._size + len(ident) + _OF_AN_ID
            if self._count >= PAGE or size > ROOM:
                break
            self._size = size
            self._count += 1
            taken.append(ident)
        return taken


class _Entry:
    """
    What is known of one message that somebody else wants receipts of.

    :ivar delivered: who has it, in the order in which we heard of it; ``told`` of them have
        been passed on. Likewise ``plain``.
    :ivar up: the link over which they are, if there is one.
    :ivar tried: those over which they have been.
    :ivar below: those that have brought some.
    :ivar here: whether the message has come.
    :ivar turn: how often we have changed the way.
    :ivar moved: how often others have, and ``news``: what of that has to be passed on.
    :ivar bounced: whether we have sent it all back to where it came from.
    :ivar refused: how often neighbours have been told that there is no way up here; ``backs``:
        how much of everything those have been given that are being told.
    """

    __slots__ = (
        "backs",
        "below",
        "bounced",
        "delivered",
        "here",
        "moved",
        "news",
        "plain",
        "refused",
        "told",
        "told_plain",
        "tried",
        "turn",
        "up",
    )

    def __init__(self) -> None:
        self.delivered: dict[bytes, None] = {}
        self.plain: dict[bytes, None] = {}
        self.told = self.told_plain = self.turn = 0
        self.up: Connection | None = None
        self.tried: set[Connection] = set()
        self.below: set[Connection] = set()
        self.moved: dict[bytes, int] = {}
        self.news: dict[bytes, int] = {}
        self.here = self.bounced = False
        self.refused: dict[Connection, int] = {}
        self.backs: dict[Connection, tuple[int, int]] = {}

    @property
    def size(self) -> int:
        """How many ids it holds."""
        return len(self.delivered) + len(self.plain) + len(self.moved)

    @property
    def waits(self) -> bool:
        """Whether there is anything to be passed on."""
        return self.up is not None and bool(
            self.told < len(self.delivered) or self.told_plain < len(self.plain) or self.news
        )

    def give(self, short: bytes, page: _Page) -> None:
        """Put into a page what fits."""
        row = page.begin(short)
        row[1] = page.take(islice(self.delivered, self.told, None))
        self.told += len(row[1])
        row[2] = page.take(islice(self.plain, self.told_plain, None))
        self.told_plain += len(row[2])
        for ident in page.take(list(self.news)):
            row[3].append([ident, self.news.pop(ident)])

    def give_back(self, short: bytes, page: _Page, link: Connection) -> None:
        """The same for a neighbour that is refused."""
        told, told_plain = self.backs[link]
        row = page.begin(short)
        row[1] = page.take(islice(self.delivered, told, None))
        row[2] = page.take(islice(self.plain, told_plain, None))
        told, told_plain = told + len(row[1]), told_plain + len(row[2])
        if told < len(self.delivered) or told_plain < len(self.plain):
            self.backs[link] = told, told_plain
        else:
            del self.backs[link]


class _Own:
    """
    A message of ours that we wait for receipts of.

    :ivar expected: how many members were known when it was sent.
    :ivar awaited: those of them that have not said anything.
    :ivar far: whether others than neighbours were.
    """

    __slots__ = (
        "awaited",
        "check",
        "deadline",
        "delivered",
        "expected",
        "far",
        "latest",
        "plain",
        "since",
        "token",
    )

    def __init__(self, token: int, awaited: set[bytes], far: bool, now: float) -> None:
        self.token = token
        self.awaited = awaited
        self.expected = len(awaited)
        self.far = far
        self.since = self.latest = now
        self.delivered: set[bytes] = set()
        self.plain: set[bytes] = set()
        self.check: Timer | None = None
        self.deadline: Timer | None = None

    @property
    def size(self) -> int:
        """How many ids it holds."""
        return len(self.awaited) + len(self.delivered) + len(self.plain)


class _Member:
    """
    Somebody who has given a receipt.

    :ivar heard: when that was last.
    :ivar missed: how often in a row it has been missing since.
    """

    __slots__ = ("heard", "id", "missed")

    def __init__(self, ident: bytes) -> None:
        self.id = ident
        self.heard = 0.0
        self.missed = 0


class Receipts:
    """Gathers receipts, passes them on, and knows whose are missing."""

    def __init__(
        self,
        own_id: bytes,
        links: Links,
        timers: Timers,
        counters: Counter[str],
        *,
        seen: Container[bytes],
        send: Callable[..., None],
        decide: Callable[[Receipted], None],
        now: Callable[[], float],
    ) -> None:
        """
        :param seen: the short ids of messages that have come.
        :param send: sends an extension frame: to whom, kind, fields.
        :param decide: takes what is known in the end.
        """
        self._own_id = own_id
        self._links = links
        self._timers = timers
        self._counters = counters
        self._seen = seen
        self._send = send
        self._decide = decide
        self._now = now
        #: By short id, oldest first.
        self._entries: dict[bytes, _Entry] = {}
        self._early: dict[bytes, _Entry] = {}
        self._own: dict[bytes, _Own] = {}
        self._ids = self._own_ids = 0
        #: Those with something to pass on, and when that is done.
        self._waiting: dict[bytes, _Entry] = {}
        self._timer: Timer | None = None
        #: Whose receipts we have seen, those first that we have not heard of for longest.
        self._members: dict[bytes, _Member] = {}

    def __len__(self) -> int:
        return len(self._entries) + len(self._early)

    @property
    def members(self) -> frozenset[bytes]:
        """The members that are known by their receipts."""
        return frozenset(self._members)

    def know(self, idents: Iterable[bytes], now: float) -> None:
        """
        Learn of members in another way: they are waited for like those whose receipts have come.

        :param idents: such as those that have answered a survey.
        """
        for ident in idents:
            self._heard(ident, now)

    def sizes(self) -> dict[str, tuple[int, int]]:
        """What grows, by name: how much there is, and how much there can be."""
        return {
            "receipts passed on": (len(self), MOST + MOST_EARLY),
            "ids in receipts": (self._ids, MOST_IDS),
            "receipts awaited": (len(self._own), MOST),
            "ids awaited": (self._own_ids, MOST_IDS),
            "members known": (len(self._members), MOST_MEMBERS),
        }

    # --- messages of others -----------------------------------------------------------

    def delivered(self, short: bytes, seconds: float, link: Connection, now: float) -> None:
        """
        A message with a marker has come, and is given to the application.

        :param short: its short id.
        :param seconds: how long its origin waits for receipts.
        :param link: what has brought it.
        """
        entry = self._early.pop(short) if short in self._early else _Entry()
        self._entries[short] = entry
        entry.here = True
        before = entry.size
        entry.delivered.setdefault(self._own_id)
        entry.plain.update(dict.fromkeys(self._plain()))
        self._ids += entry.size - before
        self._timers.at(now + seconds + LONGER, partial(self._forget, short, entry))
        if link.ext is not None and link.ext.active and link.state is State.OPEN:
            entry.up = link
            entry.tried.add(link)
            self._wait(short, entry)
        else:
            self._turn(short, entry, None)
        self._make_room()

    def _plain(self) -> list[bytes]:
        """Neighbours that cannot tell."""
        return [link.id for link in self._links.open if link.ext is None]

    def received(self, link: Connection, rows: Sequence[Row], now: float) -> None:
        """A neighbour passes on receipts."""
        for short, delivered, plain, moved in rows:
            own = self._own.get(short)
            if own is not None:
                self._confirmed(short, own, delivered, plain, now)
                continue
            entry = self._entries.get(short)
            if entry is None:
                entry = self._early.get(short)
            if entry is None:
                if short in self._seen:
                    self._counters["receipts too late"] += 1
                    continue
                # Whoever sends this has lost its way up, and we have not got the message yet.
                entry = self._early[short] = _Entry()
                self._timers.at(now + EARLY, partial(self._forget_early, short, entry))
            before = entry.size
            for ident in delivered:
                if ident not in entry.delivered:
                    entry.delivered[self._heard(ident, now)] = None
            entry.plain.update(dict.fromkeys(plain))
            back = False
            for ident, turn in moved:
                if ident == self._own_id:
                    back |= turn == entry.turn
                elif turn > entry.moved.get(ident, 0) and (
                    ident in entry.moved or len(entry.moved) < MOST_MOVED
                ):
                    entry.moved[ident] = entry.news[ident] = turn
            self._ids += entry.size - before
            entry.below.add(link)
            if entry.up is link:
                self._turn(short, entry, link)
            elif back and entry.up is not None:
                self._turn(short, entry, None)
            elif entry.up is None and entry.here:
                self._refuse(short, entry)
            elif entry.waits:
                self._wait(short, entry)
        self._make_room()

    def _turn(self, short: bytes, entry: _Entry, back: Connection | None) -> None:
        """
        Pass everything that is known on by another way, if there is one.

        :param back: the neighbour that was the way up, and wants us to be its own. If there is
            no other it is told so, once, by getting it all; then everybody is who thinks that here is a way up.
        """
        others = [link for link in self._neighbours() if link not in entry.tried]
        up = next((link for link in others if link not in entry.below), None)
        if up is None and others:
            up = others[0]
        if up is None and back is not None and not entry.bounced and back.state is State.OPEN:
            entry.bounced = True
            up = back
        entry.up = up
        if up is None or entry.turn >= MOST_TURNS:
            entry.up = None
            self._refuse(short, entry)
            return
        self._counters["receipts by another way"] += 1
        entry.tried.add(up)
        entry.turn += 1
        entry.told = entry.told_plain = 0
        entry.news = {**entry.moved, self._own_id: entry.turn}
        self._wait(short, entry)

    def _refuse(self, short: bytes, entry: _Entry) -> None:
        """
        There is no way up: those who think that here is theirs take it all back.

        Twice at most: the first time they may send it here once more, if they have no other way.
        """
        for link in self._neighbours():
            if link in entry.below and link not in entry.backs:
                told = entry.refused.get(link, 0)
                if told < _REFUSALS:
                    entry.refused[link] = told + 1
                    entry.backs[link] = (0, 0)
        self._wait(short, entry)

    def _neighbours(self) -> list[Connection]:
        return [link for link in self._links.open if link.ext is not None and link.ext.active]

    def _wait(self, short: bytes, entry: _Entry) -> None:
        """Something is to be passed on."""
        if entry.up is None and not entry.backs:
            self._waiting.pop(short, None)
            return
        self._waiting[short] = entry
        if self._timer is None:
            self._timer = self._timers.at(self._now() + DELAY, self._pass_on)

    def _pass_on(self) -> None:
        """Write one frame to every neighbour that something waits for."""
        self._timer = None
        pages: dict[Connection, _Page] = {}
        for short, entry in list(self._waiting.items()):
            up = entry.up
            if up is not None and entry.waits and not up.congested:
                page = pages.setdefault(up, _Page())
                if not page.full:
                    entry.give(short, page)
            for link in list(entry.backs):
                page = pages.setdefault(link, _Page())
                if not page.full and not link.congested:
                    entry.give_back(short, page, link)
            if not entry.waits and not entry.backs:
                del self._waiting[short]
        for link, page in pages.items():
            if not page.rows:
                continue
            self._counters["receipts"] += 1
            self._send(link, Kind.RECEIPT, page.rows)
        if self._waiting:
            self._timer = self._timers.at(self._now() + DELAY, self._pass_on)

    def _forget(self, short: bytes, entry: _Entry) -> None:
        """Nobody waits for these any more."""
        if self._entries.get(short) is entry:
            del self._entries[short]
            self._waiting.pop(short, None)
            self._ids -= entry.size

    def _forget_early(self, short: bytes, entry: _Entry) -> None:
        if self._early.get(short) is entry:
            del self._early[short]
            self._ids -= entry.size

    def _make_room(self) -> None:
        """The oldest give way."""
        while len(self._early) > MOST_EARLY or (self._ids > MOST_IDS and self._early):
            self._forget_early(*next(iter(self._early.items())))
        while len(self._entries) > MOST or self._ids > MOST_IDS:
            self._counters["receipts forgotten"] += 1
            self._forget(*next(iter(self._entries.items())))
        while len(self._own) > MOST or self._own_ids > MOST_IDS:
            self._end(next(iter(self._own)), counts=False)

    # --- links ----------------------------------------------------------------------------

    def gone(self, link: Connection) -> None:
        """A link has left the active view, or has ended."""
        for short, entry in list(self._entries.items()):
            entry.below.discard(link)
            entry.backs.pop(link, None)
            if entry.up is link:
                self._turn(short, entry, None)

    def activated(self) -> None:
        """A link has entered the active view: a way up for what has none."""
        for short, entry in list(self._entries.items()):
            if entry.up is None:
                self._turn(short, entry, None)

    # --- messages of ours -------------------------------------------------------------------

    def expect(self, short: bytes, token: int, timeout: float, now: float) -> None:
        """
        A message of ours with a marker is about to be sent.

        :param token: what `Receipted` will name.
        """
        neighbours = {link.id for link in self._neighbours()}
        plain = set(self._plain())
        members = self._members
        while members and now - members[oldest := next(iter(members))].heard >= MEMBER_FOR:
            del members[oldest]
        awaited = (neighbours | members.keys()) - plain - {self._own_id}
        own = self._own[short] = _Own(token, awaited, not awaited <= neighbours, now)
        own.plain = plain
        own.deadline = self._timers.at(now + timeout, partial(self._end, short))
        self._own_ids += own.size
        self._look(short, own)
        self._make_room()

    def _confirmed(
        self,
        short: bytes,
        own: _Own,
        delivered: Iterable[bytes],
        plain: Iterable[bytes],
        now: float,
    ) -> None:
        before, size = len(own.delivered) + len(own.plain), own.size
        fresh = [self._heard(one, now) for one in delivered if one not in own.delivered]
        own.delivered.update(fresh)
        own.delivered.discard(self._own_id)
        own.awaited.difference_update(fresh)
        own.plain.update(plain)
        self._own_ids += own.size - size
        if len(own.delivered) + len(own.plain) != before:
            own.latest = now
            self._look(short, own)

    def _look(self, short: bytes, own: _Own) -> None:
        """Whether everybody has confirmed; then it is done when nothing new comes for a while."""
        if own.check is not None:
            own.check.cancel()
            own.check = None
        if own.awaited or not (own.expected or own.delivered or own.plain):
            return  # without anybody there, somebody may come
        if own.far:
            when = own.latest + QUIET
        else:
            when = max(own.latest + UNKNOWN_QUIET, own.since + UNKNOWN_LEAST)
        own.check = self._timers.at(when, partial(self._end, short))

    def _heard(self, ident: bytes, now: float) -> bytes:
        """
        Note a member.

        :return: its id, as it is kept: of equal ones there is one.
        """
        if ident == self._own_id:
            return ident
        members = self._members
        # At the end again.
        member = members.pop(ident, None) or _Member(ident)
        member.heard = now
        member.missed = 0
        members[member.id] = member
        if len(members) > MOST_MEMBERS:
            del members[next(iter(members))]
        return member.id

    def _end(self, short: bytes, *, counts: bool = True) -> None:
        """
        Say what is known.

        :param counts: whether those who are missing had time enough.
        """
        own = self._own.pop(short, None)
        if own is None:
            return
        self._own_ids -= own.size
        for timer in (own.check, own.deadline):
            if timer is not None:
                timer.cancel()
        for ident in own.awaited if counts else ():
            member = self._members.get(ident)
            if member is not None and member.heard <= own.since:
                member.missed += 1
                if member.missed >= MISSES:
                    del self._members[ident]
        receipt = Receipt(
            delivered=frozenset(own.delivered),
            missing=frozenset(own.awaited),
            unknown=frozenset(own.plain - own.delivered - own.awaited),
            seconds=max(0.0, self._now() - own.since),
            complete=not own.awaited and bool(own.delivered or own.plain),
            last=max(0.0, own.latest - own.since),
        )
        self._decide(Receipted(own.token, receipt))

    def stop(self) -> None:
        """The node is closing: pass on what waits, and say what is known."""
        if self._waiting:
            self._pass_on()
        for short in list(self._own):
            self._end(short, counts=False)
