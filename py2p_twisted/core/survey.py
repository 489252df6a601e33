"""
Surveys: who is in the network, how far away, and who is whose neighbour.

A question goes from neighbour to neighbour, once to each node, and to plain nodes not at all. Who
gets it answers with a row about itself, back over the link that brought it first; and passes on
the rows that come from those to whom it has passed the question::

    asker ---SURVEY(token, 0)--> b ---SURVEY(token, 1)--> c       a row: id, address, hops, how
          <--[b] [c]------------   <--[c]----------------         long it was held, neighbours,
                                                                  plain neighbours, version

What waits for a neighbour goes into one frame, of all surveys, once in `DELAY`. Each who holds a row
adds for how long, so the asker knows the time there and back without what was waited on the
way; no two clocks are compared.

A row names the neighbours. So the asker knows that it is done when everybody who was named has
answered. Somebody may not: a node that has died, or knows no surveys. Then it is done when
nothing new has come for a while.

When the way back ends, another one is taken, over which the question has come as well: if the
node there is nearer to the asker than this one, so that nothing goes round in a circle. What was
under way is lost, and the survey not complete.

Rows are not signed: whoever passes them on can invent them. Times are in seconds.
Source: docs/protocol/mesh-ext.rst, "Surveys".
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, NamedTuple

from py2p_twisted.core.actions import Surveyed
from py2p_twisted.core.connection import Connection, read_address
from py2p_twisted.core.extension import PAGE, Kind, need
from py2p_twisted.core.links import Links
from py2p_twisted.core.message import MAX_ID
from py2p_twisted.core.network import Address
from py2p_twisted.core.timers import Timer, Timers
from py2p_twisted.errors import BadExtension

#: Bytes of a token: nobody guesses one.
TOKEN: Final = 16
#: Bytes of an id by which a row names neighbours.
SHORT_NAME: Final = 12
#: Neighbours, and plain neighbours, that a row names.
MOST_NAMED: Final = 256
#: Characters of a version.
MOST_VERSION: Final = 32

#: How long rows wait for others to go with.
DELAY: Final = 0.05
#: Bytes of a frame of rows: what is more goes with the next. `extension.LARGEST` is accepted.
ROOM: Final = 16 * 1024
#: Bytes around an answer, a row, and a name.
_OF_AN_ANSWER: Final = TOKEN + 8
_OF_A_ROW: Final = 40
_OF_A_NAME: Final = 2

#: How far a survey goes.
MOST_HOPS: Final = 64
#: How long one lasts at most, and how much longer its rows are passed on.
LONGEST: Final = 60.0
LONGER: Final = 1.0
#: Longer than this nobody has held a row; and by so much all who have held it may be wrong together.
MOST_HELD: Final = 3600.0
_INEXACT: Final = 0.001

#: Surveys of one neighbour that are passed on, a second and at once.
RATE: Final = 4.0
BURST: Final = 16
#: Surveys that are passed on at a time: in all, and of one neighbour.
MOST: Final = 64
MOST_OF_ONE: Final = 16
#: Tokens that are remembered: of a survey that is forgotten questions may still be under way.
MOST_SEEN: Final = 4096
#: Rows of one survey, and ids in all that are passed on.
MOST_ROWS: Final = 10_000
MOST_IDS: Final = 100_000
#: Bytes of rows that wait to be passed on.
MOST_BYTES: Final = 4 * 1024 * 1024
#: Neighbours that are named in the rows of a survey of our own.
MOST_NAMES: Final = 100_000

#: From one survey of our own to the next: half of what our neighbours pass on.
SPACING: Final = 0.5
#: A survey in which somebody has not answered ends when nothing new has come for so long, and not
#: before so much has passed.
QUIET: Final = 1.0
LEAST: Final = 1.5


@dataclass(frozen=True, slots=True)
class Member:
    """
    An extended node that has answered.

    All but the time there and back is what the node says, and those on the way.

    :ivar id: its id.
    :ivar address: where it can be dialled; ``None``: nowhere.
    :ivar hops: how many links away it is, by what all say whom they are linked to; else the way
        that the question came, which need not be the shortest.
    :ivar rtt: seconds there and back that way; ``None`` if what was said makes no sense.
    :ivar neighbours: whom it is linked to: the first 12 bytes of each id.
    :ivar plain: which nodes of py2p 0.6 it is linked to, likewise.
    :ivar version: its version of py2p_twisted.
    """

    id: bytes
    address: Address | None
    hops: int
    rtt: float | None
    neighbours: tuple[bytes, ...]
    plain: tuple[bytes, ...]
    version: str


@dataclass(frozen=True, slots=True)
class Survey:
    """
    Who is in the network, as far as that is known.

    :ivar members: those that have answered, this node first, then by distance.
    :ivar seconds: how long it took to find out.
    :ivar complete: whether everybody has answered who is named as a neighbour. ``False``, too, when
        there were more than fit.
    """

    members: tuple[Member, ...]
    seconds: float
    complete: bool

    @property
    def silent(self) -> frozenset[bytes]:
        """Who is named as a neighbour and has not answered: the first 12 bytes of each id."""
        named = {one for member in self.members for one in member.neighbours}
        return frozenset(named - {member.id[:SHORT_NAME] for member in self.members})

    @property
    def plain(self) -> frozenset[bytes]:
        """The nodes of py2p 0.6 that somebody is linked to: the first 12 bytes of each id."""
        named = {one for member in self.members for one in member.plain}
        return frozenset(named - {member.id[:SHORT_NAME] for member in self.members})


class Row(NamedTuple):
    """
    What a node says of itself, as it travels.

    :ivar held: for how long those who have passed it on have held it, in seconds.
    """

    id: bytes
    hops: int
    held: float
    address: Address | None
    neighbours: tuple[bytes, ...]
    plain: tuple[bytes, ...]
    version: str

    @property
    def size(self) -> int:
        """How many bytes it takes at most, or the next node would blame us for a large frame."""
        names = sum(len(one) + _OF_A_NAME for one in (*self.neighbours, *self.plain))
        host = "" if self.address is None else self.address[0]
        return _OF_A_ROW + len(self.id) + len(host.encode()) + names + len(self.version.encode())

    def write(self, held: float) -> list[Any]:
        """As a field, after it has been held here for some time more."""
        return [
            self.id,
            self.hops,
            round(1e6 * min(MOST_HELD, max(0.0, self.held + held))),
            [] if self.address is None else list(self.address),
            list(self.neighbours),
            list(self.plain),
            self.version,
        ]


def read_request(fields: Sequence[Any]) -> tuple[bytes, int, float]:
    """
    A question: its token, how far away who asks it is from who has sent it, and for how many
    seconds that one waits.

    :raises BadExtension: it makes no sense.
    """
    token, hops, timeout = need(fields, bytes, int, int)[:3]
    if len(token) != TOKEN:
        raise BadExtension(f"a survey has a token of {TOKEN} bytes, not {token!r:.40}")
    if hops < 0 or timeout < 0:
        raise BadExtension(f"no survey comes {hops} links far, or lasts {timeout} ms")
    return token, hops, min(LONGEST, timeout / 1000)


def read_answers(field: Any) -> list[tuple[bytes, list[Row]]]:
    """
    The rows in a frame, by the token of the survey that they belong to.

    :raises BadExtension: they make no sense, or are more than a page.
    """
    if type(field) is not list or len(field) > PAGE:
        raise BadExtension(f"expected answers to up to {PAGE} surveys")
    answers: list[tuple[bytes, list[Row]]] = []
    total = 0
    for answer in field:
        if type(answer) is not list or len(answer) < 2 or type(answer[1]) is not list:
            raise BadExtension("an answer names a survey, and has rows")
        token, rows = answer[:2]
        if type(token) is not bytes or len(token) != TOKEN:
            raise BadExtension(f"a survey has a token of {TOKEN} bytes, not {token!r:.40}")
        total += len(rows)
        if total > PAGE:
            raise BadExtension(f"up to {PAGE} rows are in a frame")
        answers.append((token, [_read_row(row) for row in rows]))
    return answers


def _read_row(row: Any) -> Row:
    if type(row) is not list:
        raise BadExtension("a row is an array")
    ident, hops, held, address, neighbours, plain, version = need(
        row, bytes, int, int, list, list, list, str
    )[:7]
    if not 0 < len(ident) <= MAX_ID:
        raise BadExtension(f"a node has an id of 1 to {MAX_ID} bytes, not {ident!r:.40}")
    if not 0 < hops <= MOST_HOPS or not 0 <= held <= 1e6 * MOST_HELD:
        raise BadExtension(f"no row comes {hops} links far, or is held for {held} us")
    if len(version) > MOST_VERSION:
        raise BadExtension(f"a version has up to {MOST_VERSION} characters")
    return Row(
        ident,
        hops,
        held / 1e6,
        read_address(address),
        _read_names(neighbours),
        _read_names(plain),
        version,
    )


def _read_names(names: list[Any]) -> tuple[bytes, ...]:
    if len(names) > MOST_NAMED:
        raise BadExtension(f"a row names up to {MOST_NAMED} neighbours of a kind")
    for name in names:
        if type(name) is not bytes or not 0 < len(name) <= SHORT_NAME:
            raise BadExtension(f"a neighbour is named by 1 to {SHORT_NAME} bytes, not {name!r:.40}")
    return tuple(names)


class _Allowance:
    """How many surveys of one neighbour are passed on."""

    __slots__ = ("_left", "_when")

    def __init__(self, now: float) -> None:
        self._left = float(BURST)
        self._when = now

    def take(self, now: float) -> bool:
        self._left = min(BURST, self._left + (now - self._when) * RATE)
        self._when = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class _Entry:
    """
    A survey of somebody else.

    :ivar up: the link over which rows go back, if there is one.
    :ivar hops: how far away the asker is.
    :ivar ways: the links that have brought the question, and how far the asker is from there.
    :ivar asked: those over which it was passed on.
    :ivar known: the ids of the rows that have come.
    :ivar waiting: the rows to be passed on, and since when we have held them; ``size`` bytes.
    """

    __slots__ = ("asked", "deadline", "hops", "known", "size", "up", "waiting", "ways")

    def __init__(self, up: Connection, hops: int) -> None:
        self.deadline: Timer | None = None
        self.up: Connection | None = up
        self.hops = hops + 1
        self.ways = {up: hops}
        self.asked: set[Connection] = set()
        self.known: set[bytes] = set()
        self.waiting: deque[tuple[Row, float]] = deque()
        self.size = 0


class _Own:
    """
    A survey of our own.

    :ivar waiting: who waits for it, and how long at most.
    :ivar asked: those that were asked; ``None``: it has not begun.
    :ivar missing: who is named, and has not answered.
    :ivar crowded: whether somebody has more neighbours than a row names.
    :ivar full: whether there were more rows than fit.
    """

    __slots__ = (
        "asked", "check", "crowded", "full", "latest", "members", "missing", "names", "short",
        "since", "token", "waiting",
    )  # fmt: skip

    def __init__(self, token: bytes, now: float) -> None:
        self.token = token
        self.waiting: dict[int, Timer] = {}
        self.asked: set[Connection] | None = None
        self.since = self.latest = now
        self.members: dict[bytes, Member] = {}
        self.short: set[bytes] = set()
        self.missing: set[bytes] = set()
        self.names = 0
        self.crowded = self.full = False
        self.check: Timer | None = None

    def add(self, member: Member) -> None:
        """Somebody has answered."""
        names = len(member.neighbours) + len(member.plain)
        if len(self.members) >= MOST_ROWS or self.names + names > MOST_NAMES:
            self.full = True
            return
        self.names += names
        self.members[member.id] = member
        self.short.add(member.id[:SHORT_NAME])
        self.missing.discard(member.id[:SHORT_NAME])
        self.missing.update(one for one in member.neighbours if one not in self.short)
        self.crowded |= len(member.neighbours) >= MOST_NAMED


class Surveys:
    """Asks who is there, answers, and passes on questions and answers."""

    def __init__(
        self,
        own_id: bytes,
        version: str,
        links: Links,
        timers: Timers,
        counters: Counter[str],
        *,
        address: Callable[[], Address | None],
        is_plain: Callable[[Connection], bool],
        token: Callable[[int], bytes],
        send: Callable[..., None],
        decide: Callable[[Surveyed], None],
        now: Callable[[], float],
    ) -> None:
        """
        :param version: what we say our version is.
        :param address: where we can be dialled.
        :param is_plain: whether a peer has turned out to speak 0.6 alone.
        :param token: makes a token of so many bytes.
        :param send: sends an extension frame: to whom, kind, fields.
        :param decide: takes what is known in the end.
        """
        self._own_id = own_id
        self._version = version[:MOST_VERSION]
        self._links = links
        self._timers = timers
        self._counters = counters
        self._address = address
        self._is_plain = is_plain
        self._token = token
        self._send = send
        self._decide = decide
        self._now = now
        self._own: _Own | None = None
        self._own_since = float("-inf")
        #: Those that have ever answered us: their ids by what others name them by.
        self._names: dict[bytes, bytes] = {}
        #: By token, oldest first.
        self._entries: dict[bytes, _Entry] = {}
        self._seen: dict[bytes, None] = {}
        self._ids = self._bytes = 0
        #: Those with rows to pass on, and when that is done.
        self._waiting: dict[bytes, _Entry] = {}
        self._timer: Timer | None = None
        self._allowances: dict[Connection, _Allowance] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def sizes(self) -> dict[str, tuple[int, int]]:
        """What grows, by name: how much there is, and how much there can be."""
        own = self._own
        return {
            "surveys passed on": (len(self), MOST),
            "surveys seen": (len(self._seen), MOST_SEEN),
            "ids in surveys": (self._ids, MOST_IDS),
            "bytes in surveys": (self._bytes, MOST_BYTES),
            "members surveyed": (0 if own is None else len(own.members), MOST_ROWS),
            "names surveyed": (0 if own is None else own.names, MOST_NAMES),
            "ids by name": (len(self._names), MOST_ROWS),
        }

    def named(self, name: bytes) -> bytes | None:
        """The id of who is named so, if it has ever answered us."""
        return self._names.get(name)

    def _neighbours(self) -> list[Connection]:
        return [link for link in self._links.open if link.ext is not None and link.ext.active]

    def _row(self, hops: int) -> Row:
        """What we say of ourselves."""
        plain = [link.id[:SHORT_NAME] for link in self._links.open if self._is_plain(link)]
        return Row(
            self._own_id,
            hops,
            0.0,
            self._address(),
            tuple(link.id[:SHORT_NAME] for link in self._neighbours()[:MOST_NAMED]),
            tuple(plain[:MOST_NAMED]),
            self._version,
        )

    # --- our own ----------------------------------------------------------------------

    def ask(self, token: int, timeout: float, now: float) -> None:
        """
        Find out who is there. Who asks while a survey is under way gets its outcome.

        :param token: what `Surveyed` will name.
        """
        own = self._own
        if own is None:
            own = self._own = _Own(self._token(TOKEN), now)
            self._see(own.token)
        own.waiting[token] = self._timers.at(now + timeout, partial(self._time_is_up, own, token))
        if own.asked is None and own.check is None:
            begin = self._own_since + SPACING
            if begin <= now:
                self._begin(own)
            else:
                own.check = self._timers.at(begin, partial(self._begin, own))

    def _begin(self, own: _Own) -> None:
        now = self._now()
        own.check = None
        own.since = own.latest = self._own_since = now
        neighbours = self._neighbours()
        own.asked = set(neighbours)
        own.add(self._myself())
        latest = max(timer.when for timer in own.waiting.values())
        for link in neighbours:
            self._send_request(link, own.token, 0, latest - now)
        self._look(own)

    def _myself(self) -> Member:
        row = self._row(0)
        return Member(row.id, row.address, 0, 0.0, row.neighbours, row.plain, row.version)

    def _send_request(self, link: Connection, token: bytes, hops: int, timeout: float) -> None:
        self._counters["surveys"] += 1
        self._send(link, Kind.SURVEY, token, hops, max(0, round(1000 * timeout)))

    def _answered(self, own: _Own, rows: Sequence[Row], now: float) -> None:
        """Rows have come to us who asked for them."""
        before = len(own.members)
        for row in rows:
            if row.id not in own.members:
                own.add(_member(row, now - own.since))
                self._names.pop(row.id[:SHORT_NAME], None)
                self._names[row.id[:SHORT_NAME]] = row.id
                if len(self._names) > MOST_ROWS:
                    del self._names[next(iter(self._names))]
        if len(own.members) != before:
            own.latest = now
            self._look(own)

    def _look(self, own: _Own) -> None:
        """Whether everybody has answered who was named; else it is done after a while."""
        if own.check is not None:
            own.check.cancel()
            own.check = None
        if own.missing or own.crowded:
            when = max(own.latest + QUIET, own.since + LEAST)
            own.check = self._timers.at(when, partial(self._end, own))
        else:
            self._end(own)

    def _time_is_up(self, own: _Own, token: int) -> None:
        """One who waits has waited long enough."""
        self._tell(own, token)
        if not own.waiting:
            self._end(own)

    def _tell(self, own: _Own, token: int) -> None:
        del own.waiting[token]
        # Without any it has not begun.
        members = _measured(list(own.members.values()) or [self._myself()])
        survey = Survey(
            members=tuple(sorted(members, key=lambda one: (one.hops, one.id))),
            seconds=max(0.0, self._now() - own.since),
            complete=own.asked is not None and not own.missing and not own.full,
        )
        self._decide(Surveyed(token, survey))

    def _end(self, own: _Own) -> None:
        """Tell everybody who waits what is known."""
        if self._own is own:
            self._own = None
        if own.check is not None:
            own.check.cancel()
        for token, timer in list(own.waiting.items()):
            timer.cancel()
            self._tell(own, token)

    # --- those of others ----------------------------------------------------------------

    def asked(self, link: Connection, token: bytes, hops: int, timeout: float, now: float) -> None:
        """A neighbour passes on the question who is there."""
        if link.ext is None or not link.ext.active:
            self._counters["surveys of strangers"] += 1
            return
        if token in self._seen:
            entry = self._entries.get(token)
            if entry is not None:
                entry.ways[link] = hops
                if entry.up is None:
                    self._turn(token, entry)
            return
        if hops >= MOST_HOPS or not self._allowed(link, now):
            self._counters["surveys dropped"] += 1
            return
        same = [key for key, other in self._entries.items() if other.up is link]
        if len(same) >= MOST_OF_ONE:
            self._forget(same[0], self._entries[same[0]])
        self._see(token)
        entry = self._entries[token] = _Entry(link, hops)
        until = now + timeout + LONGER
        entry.deadline = self._timers.at(until, partial(self._forget, token, entry))
        self._take(token, entry, [self._row(entry.hops)], now)
        for other in self._neighbours():
            if other is not link:
                entry.asked.add(other)
                self._send_request(other, token, entry.hops, timeout)
        self._make_room()

    def _see(self, token: bytes) -> None:
        self._seen[token] = None
        if len(self._seen) > MOST_SEEN:
            del self._seen[next(iter(self._seen))]

    def _allowed(self, link: Connection, now: float) -> bool:
        allowance = self._allowances.get(link)
        if allowance is None:
            allowance = self._allowances[link] = _Allowance(now)
        return allowance.take(now)

    def received(
        self, link: Connection, answers: Sequence[tuple[bytes, list[Row]]], now: float
    ) -> None:
        """A neighbour passes on rows."""
        for token, rows in answers:
            own, entry = self._own, self._entries.get(token)
            if own is not None and own.token == token and link in (own.asked or ()):
                self._answered(own, rows, now)
            elif entry is not None and link in entry.asked:
                self._take(token, entry, rows, now)
            else:
                self._counters["survey rows unasked"] += len(rows)
        self._make_room()

    def _take(self, token: bytes, entry: _Entry, rows: Sequence[Row], now: float) -> None:
        """Keep rows until they are passed on."""
        for row in rows:
            if row.id in entry.known:
                continue
            if len(entry.known) >= MOST_ROWS:
                self._counters["survey rows dropped"] += 1
                continue
            entry.known.add(row.id)
            self._ids += 1
            if entry.up is not None:
                entry.waiting.append((row, now))
                entry.size += row.size
                self._bytes += row.size
        self._wait(token, entry)

    def _wait(self, token: bytes, entry: _Entry) -> None:
        if not entry.waiting or entry.up is None:
            return
        self._waiting[token] = entry
        if self._timer is None:
            self._timer = self._timers.at(self._now() + DELAY, self._pass_on)

    def _pass_on(self) -> None:
        """Write one frame to every neighbour that rows wait for."""
        self._timer = None
        now = self._now()
        pages: dict[Connection, list[Any]] = {}
        left: dict[Connection, int] = {}
        for token, entry in list(self._waiting.items()):
            up = entry.up
            if up is None or up.congested:
                continue
            room = left.get(up, ROOM) - _OF_AN_ANSWER
            rows: list[Any] = []
            while entry.waiting and (size := entry.waiting[0][0].size) <= room:
                row, since = entry.waiting.popleft()
                rows.append(row.write(now - since))
                room -= size
                entry.size -= size
                self._bytes -= size
            if not rows:
                continue
            left[up] = room
            pages.setdefault(up, []).append([token, rows])
            # At the end again: a large survey does not keep others waiting.
            del self._waiting[token]
            if entry.waiting:
                self._waiting[token] = entry
        for up, answers in pages.items():
            self._counters["survey answers"] += 1
            self._send(up, Kind.SURVEY_ANSWER, answers)
        if self._waiting:
            self._timer = self._timers.at(now + DELAY, self._pass_on)

    def _turn(self, token: bytes, entry: _Entry) -> None:
        """Take another way back, if there is one that leads nearer to the asker."""
        ways = [(hops, link) for link, hops in entry.ways.items() if hops < entry.hops]
        if not ways:
            entry.up = None
            self._waiting.pop(token, None)
            return
        self._counters["surveys by another way"] += 1
        entry.up = min(ways, key=lambda way: way[0])[1]
        self._wait(token, entry)

    def gone(self, link: Connection) -> None:
        """A link has left the active view, or has ended."""
        self._allowances.pop(link, None)
        for token, entry in list(self._entries.items()):
            entry.asked.discard(link)
            entry.ways.pop(link, None)
            if entry.up is link:
                self._turn(token, entry)

    def _forget(self, token: bytes, entry: _Entry) -> None:
        """Nobody waits for these any more."""
        if self._entries.get(token) is entry:
            del self._entries[token]
            self._waiting.pop(token, None)
            self._ids -= len(entry.known)
            self._bytes -= entry.size
            if entry.deadline is not None:
                entry.deadline.cancel()

    def _make_room(self) -> None:
        """The oldest give way, and the largest."""
        while len(self._entries) > MOST:
            self._counters["surveys forgotten"] += 1
            self._forget(*next(iter(self._entries.items())))
        while self._ids > MOST_IDS:
            self._counters["surveys forgotten"] += 1
            self._forget(*max(self._entries.items(), key=lambda item: len(item[1].known)))
        while self._bytes > MOST_BYTES:
            self._counters["surveys forgotten"] += 1
            self._forget(*max(self._entries.items(), key=lambda item: item[1].size))

    def stop(self) -> None:
        """The node is closing: pass on what waits, and say what is known."""
        if self._waiting:
            self._pass_on()
        if self._own is not None:
            self._own.full = True
            self._end(self._own)


def _member(row: Row, elapsed: float) -> Member:
    """
    What we know of somebody who has answered.

    :param elapsed: seconds since we have asked.
    """
    rtt = elapsed - row.held
    return Member(
        row.id,
        row.address,
        row.hops,
        max(0.0, rtt) if rtt >= -_INEXACT else None,
        row.neighbours,
        row.plain,
        row.version,
    )


def _measured(members: list[Member]) -> list[Member]:
    """
    The same with the shortest distances.

    The question took the fastest way, which is now this one and now that.

    :param members: the asker is the first.
    """
    unknown: dict[bytes, list[Member]] = {}
    for member in members[1:]:
        unknown.setdefault(member.id[:SHORT_NAME], []).append(member)
    found = members[:1]
    for member in found:  # those are appended who are one link further
        for name in member.neighbours:
            further = member.hops + 1
            for one in unknown.pop(name, ()):
                found.append(one if one.hops == further else replace(one, hops=further))
    return found + [one for left in unknown.values() for one in left]
