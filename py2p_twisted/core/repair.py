"""
Messages that we know of and do not have, and those that others ask us for.

An announced message usually comes by itself, along its tree; if it has not after a while,
the tree is broken here, and who announced it is asked for it (GRAFT)::

    IHAVE(m) --- graft_timeout ---> GRAFT(m) to the 1st announcer --- m ---> done
                                       | no answer in time, link gone, or NOT_HELD
                                       v
                                    GRAFT(m) to the 2nd announcer ... nobody left: given up

Ids that a digest has brought are asked for in the same way, but sooner, and without making
the link a branch of the tree. A neighbour is asked for a few messages at a time, and answers
as fast as its own outgoing queue allows, so that what was missed for minutes neither fills a
queue nor keeps today's messages waiting.

Who announces and does not deliver is believed less: after three such announcements in a row
what it announces is ignored for a minute. Times are in seconds. Source:
docs/protocol/mesh-ext.rst, "Repair".
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Final

from py2p_twisted.core.actions import Effects, Gap
from py2p_twisted.core.connection import Connection, State
from py2p_twisted.core.extended import Extended
from py2p_twisted.core.extension import PAGE, Kind, write_ids
from py2p_twisted.core.message import Message
from py2p_twisted.core.recent import RecentMessages
from py2p_twisted.core.seen import SHORT, SeenCache
from py2p_twisted.core.settings import Settings
from py2p_twisted.core.timers import Timers
from py2p_twisted.core.trees import Trees

#: Messages that one neighbour is asked for at a time: at 100 ms to it and back, some 2,500
#: a second.
WINDOW: Final = 256

#: Timeouts in a row without anything from the neighbour that was asked, and for how long
#: what it announces is ignored then. Source: docs/design.rst, "Limits".
STRIKES: Final = 3
PENANCE: Final = 60.0

#: The timeout of an announcement follows what is observed: so many times the usual time
#: between an announcement and its message, within these bounds.
LAG_FACTOR: Final = 4.0
SHORTEST: Final = 0.1
LONGEST: Final = 2.0

#: An answer may take so many round trips, and so much more; and longer while others come from
#: the neighbour, but no longer than this: who withholds one message may well bring others.
ROUND_TRIPS: Final = 2.5
MARGIN: Final = 0.05
LONGEST_ANSWER: Final = 10.0

#: Seconds by which sums of times may be off.
_ROUNDING: Final = 0.000001

#: Bytes a second that one neighbour is given in answers, and at once. Source:
#: docs/design.rst, "Limits".
SERVED: Final = 8 * 1024 * 1024

#: What could not be had is told together, after a moment, and once in so many seconds.
TELL_AFTER: Final = 1.0
TELL_INTERVAL: Final = 60.0

#: Bytes of answers after which is looked whether the neighbour reads them.
HELPING: Final = 64 * 1024


class Missing:
    """One message that we know of and do not have."""

    __slots__ = ("announcers", "asked", "digest", "not_held", "since", "until")

    def __init__(self, now: float, *, digest: bool) -> None:
        self.announcers: list[Connection] = []
        self.asked: Connection | None = None
        #: Whether nobody has announced it but in a digest.
        self.digest = digest
        self.not_held = False
        self.since = now
        #: When who is asked has had time enough, whatever else comes from it.
        self.until = now


class Repair:
    """Asks for what is missing, and answers those who ask."""

    def __init__(
        self,
        settings: Settings,
        seen: SeenCache,
        recent: RecentMessages,
        trees: Trees,
        effects: Effects,
        timers: Timers,
        counters: Counter[str],
        *,
        send: Callable[..., None],
        decide: Callable[[Gap], None],
        proved: Callable[[Connection], None],
        complete: Callable[[Connection], None],
    ) -> None:
        """
        :param send: sends an extension frame: to whom, kind, fields.
        :param decide: takes a `Gap`.
        :param proved: called with a link outside the active view over which something was
            repaired that should have come by itself.
        :param complete: called with a link when what it announced has been dealt with and it
            may have more to announce.
        """
        self.missing: dict[bytes, Missing] = {}
        self._settings = settings
        self._known = seen.shorts
        self._recent = recent
        self._trees = trees
        self._effects = effects
        self._timers = timers
        self._counters = counters
        self._send = send
        self._decide = decide
        self._proved = proved
        self._complete = complete
        #: Smoothed seconds between an announcement and its message.
        self._lag = settings.graft_timeout / LAG_FACTOR
        self._allowance: dict[Connection, tuple[float, float]] = {}
        self._lost = 0
        self._told = float("-inf")
        self._now = 0.0

    @property
    def timeout(self) -> float:
        """Seconds after which an announced message is asked for."""
        least = min(SHORTEST, self._settings.graft_timeout)
        return max(least, min(LONGEST, LAG_FACTOR * self._lag))

    # --- what we miss -----------------------------------------------------------------

    def announced(
        self, link: Connection, shorts: Sequence[bytes], now: float, *, digest: bool
    ) -> None:
        """A neighbour has messages; note those that we do not have."""
        ext = link.ext
        # What comes by a link that is ending is in the next digest of that peer.
        if ext is None or now < ext.ignored_until or link.state is not State.OPEN:
            return
        known, missing = self._known, self.missing
        if known.issuperset(shorts):
            return  # nearly always: an announcement comes after its message
        shorts = [short for short in shorts if short not in known]
        fresh: list[bytes] = []
        for short in shorts:
            entry = missing.get(short)
            if entry is not None and (link is entry.asked or link in entry.announcers):
                entry.digest = entry.digest and digest
                continue
            if ext.missing >= self._settings.missing_per_peer:
                # It is still in the neighbour's next digest.
                self._counters["announcements deferred"] += 1
                ext.incomplete = True
                continue
            if entry is None:
                entry = missing[short] = Missing(now, digest=digest)
                fresh.append(short)
            entry.digest = entry.digest and digest
            entry.announcers.append(link)
            ext.missing += 1
        if fresh:
            delay = self._settings.repair_timeout if digest else self.timeout
            self._timers.at(now + delay, partial(self._due, fresh))

    def obtained(self, message: Message, link: Connection, now: float) -> bool:
        """
        A message has come that may have been missing. It is held already.

        :return: whether we had to ask for it because of a digest: it is of an earlier time, and
            others will have it.
        """
        short = message.id[:SHORT]
        entry = self.missing.pop(short, None)
        if entry is None:
            return False
        self._now = now
        asked = entry.asked
        if asked is link:
            self._counters["repaired"] += 1
        elif not entry.digest:
            # By itself, maybe when we had lost patience already.
            self._lag += (min(LONGEST, now - entry.since) - self._lag) / 8
        self._release(short, entry)
        ext = link.ext
        if ext is not None:
            ext.strikes = 0
            ext.obtained_at = now
            if asked is link:
                if not ext.active:
                    self._proved(link)
                elif not entry.digest:
                    self._trees.branch(message.items[1], link)
        return entry.digest and asked is link

    def not_held(self, link: Connection, shorts: Sequence[bytes], now: float) -> None:
        """A neighbour has been asked for messages that it does not have any more."""
        self._now = now
        again: list[bytes] = []
        for short in shorts:
            entry = self.missing.get(short)
            if entry is not None and link.ext is not None and short in link.ext.asked:
                # Strangers do not alarm the application: anybody can connect to us.
                entry.not_held |= link.ext.active or link.ext.probe
                again.append(short)
        self._ask(again)

    def gone(self, link: Connection, now: float) -> None:
        """A link has ended: what it was asked for is asked of others."""
        self._now = now
        ext = link.ext
        self._allowance.pop(link, None)
        if ext is None:
            return
        if ext.serving is not None:
            ext.serving.cancel()
        ext.wanted.clear()
        ext.incomplete = False
        if ext.missing:
            for entry in self.missing.values():
                if link in entry.announcers:
                    self._discard(entry, link)
        again = [*ext.asked, *ext.asks_waiting]
        ext.asked.clear()
        ext.asks_waiting.clear()
        self._ask(short for short in again if self._asked_of(short) is link)

    def _asked_of(self, short: bytes) -> Connection | None:
        entry = self.missing.get(short)
        return entry.asked if entry is not None else None

    def _due(self, shorts: Sequence[bytes]) -> None:
        """The time for these to come by themselves, or to be answered, is over."""
        self._now = self._timers.now
        again: list[bytes] = []
        unanswered: dict[Connection, list[bytes]] = {}
        for short in shorts:
            entry = self.missing.get(short)
            if entry is None:
                continue
            if short in self._known:
                # It has come, and could not be used.
                del self.missing[short]
                self._release(short, entry)
                continue
            link = entry.asked
            if link is None:
                again.append(short)
            elif link.ext is not None and link.ext.asked.get(short, self._now + 1) <= self._now:
                unanswered.setdefault(link, []).append(short)
            # Else it waits for its turn, or has been asked for anew.
        for link, ids in unanswered.items():
            ext = link.ext
            assert ext is not None  # noqa: S101 - see above
            # Who is in the middle of answering gets on to these, too.
            moving = max(ext.obtained_at, link.heard if link.waiting else 0.0)
            patience = self._patience(ext)
            if link.state is State.OPEN and self._now < moving + patience:
                if patient := [short for short in ids if self._now < self.missing[short].until]:
                    ext.asked.update(dict.fromkeys(patient, moving + patience))
                    self._timers.at(moving + patience, partial(self._due, patient))
                ids = [short for short in ids if self.missing[short].until <= self._now]
                if not ids:
                    continue
            again += ids
            self._counters["unanswered"] += 1
            # All that was asked before the last strike is the same silence. A neighbour that
            # pauses for a moment in busy times would be struck thrice at once.
            asked = max(self.missing[short].until for short in ids) - LONGEST_ANSWER
            if asked > ext.struck_at - _ROUNDING:
                again += self._strike(link, ext)
        self._ask(again)

    def _patience(self, ext: Extended) -> float:
        """Seconds that an answer may take."""
        rtt = ext.rtt if ext.rtt is not None else 0.0
        return max(self._settings.repair_timeout, ROUND_TRIPS * rtt + MARGIN)

    def _strike(self, link: Connection, ext: Extended) -> list[bytes]:
        """
        A neighbour has not answered.

        :return: what it was to be asked for next, as far as others can be instead.
        """
        ext.strikes += 1
        ext.struck_at = self._now
        if ext.strikes < STRIKES:
            return []
        ext.strikes = 0
        ext.ignored_until = self._now + PENANCE
        # What it announces meanwhile is in its next digest.
        self._timers.at(ext.ignored_until, partial(self._complete, link))
        waiting = [short for short in ext.asks_waiting if self._asked_of(short) is link]
        others = [short for short in waiting if self.missing[short].announcers]
        ext.asks_waiting = deque(short for short in waiting if not self.missing[short].announcers)
        return others

    def _ask(self, shorts: Iterable[bytes]) -> None:
        """Ask an announcer of each; for several of one in one frame."""
        asked: dict[Connection, None] = {}
        for short in shorts:
            entry = self.missing.get(short)
            if entry is None:
                continue
            self._unask(short, entry)
            link = self._choose(entry)
            if link is None or link.ext is None:
                del self.missing[short]
                self._give_up(entry)
                continue
            entry.asked = link
            waiting = link.ext.asks_waiting
            if len(waiting) > 2 * self._settings.missing_per_peer:
                # Most of these have come in other ways.
                valid = [one for one in waiting if self._asked_of(one) is link]
                waiting.clear()
                waiting.extend(valid)
            waiting.append(short)
            asked[link] = None
        for link in asked:
            self._ask_next(link)

    def _choose(self, entry: Missing) -> Connection | None:
        """
        The announcer that is asked for least; it is taken out, and so are those that are gone.

        Neighbours come first: anybody can connect to us and announce what it withholds.
        """
        best: Connection | None = None
        least = (True, 0)
        for link in list(entry.announcers):
            ext = link.ext
            if ext is None or link.state is not State.OPEN:
                self._discard(entry, link)
                continue
            load = (not ext.active, len(ext.asked) + len(ext.asks_waiting))
            if best is None or load < least:
                best, least = link, load
        if best is not None:
            entry.announcers.remove(best)
        return best

    def _discard(self, entry: Missing, link: Connection) -> None:
        """A neighbour that has announced something is none that could be asked for it."""
        entry.announcers.remove(link)
        self._less(link)

    def _less(self, link: Connection) -> None:
        """One thing less is missing of what a neighbour has announced."""
        ext = link.ext
        if ext is None:
            return
        ext.missing -= 1
        if ext.incomplete and ext.missing <= self._settings.missing_per_peer // 2:
            ext.incomplete = False
            self._complete(link)

    def _unask(self, short: bytes, entry: Missing) -> None:
        """It is not asked for any more: there is room to ask for the next."""
        link, entry.asked = entry.asked, None
        if link is None or link.ext is None:
            return
        self._less(link)
        if link.ext.asked.pop(short, None) is not None and len(link.ext.asked) <= WINDOW // 2:
            self._ask_next(link)

    def _ask_next(self, link: Connection) -> None:
        """Ask a neighbour for more, if it has answered most of what it was asked for."""
        ext = link.ext
        if ext is None or link.state is not State.OPEN:
            return
        grafts: tuple[list[bytes], list[bytes]] = ([], [])
        until = self._now + self._patience(ext)
        while ext.asks_waiting and len(ext.asked) < WINDOW:
            short = ext.asks_waiting.popleft()
            entry = self.missing.get(short)
            if entry is not None and entry.asked is link:
                ext.asked[short] = until
                entry.until = self._now + LONGEST_ANSWER
                grafts[entry.digest or not ext.active].append(short)
        for mode, shorts in enumerate(grafts):
            if shorts:
                self._counters["grafts"] += len(shorts)
                self._send(link, Kind.GRAFT, write_ids(shorts), mode)
                self._timers.at(until, partial(self._due, shorts))

    def _release(self, short: bytes, entry: Missing) -> None:
        """It is not missing any more."""
        for link in entry.announcers:
            self._less(link)
        self._unask(short, entry)

    def _give_up(self, entry: Missing) -> None:
        self._counters["unobtainable"] += 1
        if not entry.not_held:
            return  # its announcers are gone; whoever comes next has it in a digest
        if not self._lost:
            when = max(self._now + TELL_AFTER, self._told + TELL_INTERVAL)
            self._timers.at(when, self._tell)
        self._lost += 1

    def _tell(self) -> None:
        lost, self._lost = self._lost, 0
        self._told = self._timers.now
        self._decide(
            Gap(
                "not held any more",
                lost,
                f"{lost} announced messages could not be had from anybody who announced them",
            )
        )

    # --- what others miss -------------------------------------------------------------

    def wanted(self, link: Connection, shorts: Sequence[bytes], now: float) -> None:
        """A neighbour asks for messages."""
        ext = link.ext
        if ext is None:
            return
        room = self._settings.missing_per_peer - len(ext.wanted)
        ext.wanted.extend(islice(shorts, max(0, room)))
        self.serve(link, now)

    def serve(self, link: Connection, now: float) -> None:
        """Answer a neighbour, as far as it reads and is entitled to."""
        ext = link.ext
        if ext is None or link.state is not State.OPEN:
            return
        allowed, at = self._allowance.get(link, (float(SERVED), now))
        allowed = min(float(SERVED), allowed + (now - at) * SERVED)
        answers: list[Message] = []
        size = 0
        not_held: list[bytes] = []
        while ext.wanted and allowed > 0 and not link.congested:
            short = ext.wanted.popleft()
            message = self._recent.get(short)
            if message is None:
                not_held.append(short)
                continue
            allowed -= len(message.body)
            size += len(message.body)
            answers.append(message)
            if len(answers) >= WINDOW or size >= HELPING:
                # The driver says when the link is congested, once it has these.
                self._give(link, answers)
                answers, size = [], 0
        self._give(link, answers)
        for start in range(0, len(not_held), PAGE):
            self._send(link, Kind.NOT_HELD, write_ids(not_held[start : start + PAGE]))
        self._allowance[link] = (allowed, now)
        if ext.wanted and not link.congested and ext.serving is None:
            ext.serving = self._timers.at(now + 0.1, partial(self._serve_more, link))

    def _serve_more(self, link: Connection) -> None:
        if link.ext is not None:
            link.ext.serving = None
            self.serve(link, self._timers.now)

    def _give(self, link: Connection, messages: list[Message]) -> None:
        if not messages:
            return
        self._counters["repairs given"] += len(messages)
        self._effects.relay(messages, (link,))
