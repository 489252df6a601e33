"""
Who our neighbours are: HyParView's active view, and how it stays full.

A few neighbours (the active view), symmetric: both ends of a link agree on being neighbours.
Addresses of some more nodes (the passive view) to replace them from. Newcomers are led to random
places by walks, so that nobody becomes a hub, not even the one address that everybody knows::

    newcomer --JOIN--> contact --FORWARD_JOIN(newcomer, 6)--> a --(5)--> ... --(0)--> z
    newcomer <------------------------ dials, NEIGHBOR(JOIN) ------------------------ z

What a link is to us is a table of its own on either end. Whoever wants the other asks
(JOIN or NEIGHBOR); a yes is NEIGHBOR_OK. Frames of one connection keep their order, so two
questions can only cross when neither end has answered: both then take the other's question for
a yes. That makes the relation symmetric on every connection, whoever dialled and whoever asks::

              we ask               yes, or the other asks as well
      IDLE ----------> ASKING ---------------------------------------> ACTIVE
     ^  |                 | no                                         |    |
     |  |                 v                              DISCONNECT in |    | we evict: DISCONNECT
     |  |     closed, or a probe for a while                           v    v out, read to the end
     |  '--- the other asks: yes, to ACTIVE; or no, and it hangs up    closed
    hello

A link that takes the place of another one to the same peer (`Membership.replaced`) begins this anew:
what we wanted of the old one we ask on the new one, as being neighbours is asked for with high
priority. What still arrives on the old one counts no more. Frames of one connection thus never
decide about another one, and any interleaving ends in agreement.

A *leaf* is a peer that cannot be dialled. Leaves come on top of the active view, are never
evicted, and nobody is told of them.

Bytes from a peer can lead to `BadExtension` and to nothing else. Times are in seconds, `now` is
monotonic. Source: HyParView (Leitao et al. 2007); docs/protocol/mesh-ext.rst, "Membership".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from enum import Enum, IntEnum
from typing import Any, Final

from py2p_twisted.core.connection import Connection
from py2p_twisted.core.dialer import MOST_AT_ONCE, Random
from py2p_twisted.core.extension import Entry, Kind, need, read_entry, write_entry
from py2p_twisted.core.network import Address
from py2p_twisted.core.settings import Settings
from py2p_twisted.core.shuffle import MOST_ROUTES, Shuffles
from py2p_twisted.core.timers import Timer, Timers
from py2p_twisted.core.views import MOST_ATTEMPTS, Attempts, PassiveView, pick, sample
from py2p_twisted.errors import BadExtension, MeshError, ProbeEnded, ViewFull

#: Of the neighbours that are not leaves, so many stay that we have dialled ourselves, if there
#: are as many: who dials us can do so under as many names as it likes.
#: Source: docs/design.rst, "Limits".
OWN_CHOICE: Final = 2
#: How many neighbours a leaf seeks: three ways out survive the loss of two, and it is a burden.
LEAF_VIEW: Final = 3
#: Refill: after everybody asked has refused, the next attempt waits; doubled each time.
FIRST_PAUSE: Final = 0.5
#: The longest such pause by urgency: without any neighbour, with too few of them to be sure of
#: the mesh, and with enough of them. A mesh whose views are all full is left alone.
LONELY_PAUSE: Final = 2.0
SPARSE_PAUSE: Final = 8.0
LONGEST_PAUSE: Final = 60.0
#: How much a pause varies, so that nodes that lost the same neighbour do not move in step.
JITTER: Final = 0.3
#: With so few neighbours, and refused so many times in a row, a node asks with high priority: two
#: neighbours are lost too easily, and whoever gives way for it has four more.
SPARSE: Final = 2
PATIENCE: Final = 3
#: While some neighbours are still missing, it is looked at least this often who could be asked.
DIAL_PAUSE: Final = 0.5
#: How long a link that is of no use yet is left to what its peer may say, before we ask.
IDLE_TIME: Final = 1.0
#: After an abnormal loss somebody outside the view is asked what it has; between these.
#: Source: docs/protocol/mesh-ext.rst, "Parameters".
PROBE_SOON: Final = (1.0, 5.0)
#: How much the intervals of shuffles and probes vary.
SHUFFLE_JITTER: Final = 0.3
PROBE_JITTER: Final = 0.5
#: Walks of newcomers that one neighbour may bring: a second, and at once. More end where they
#: are, in the passive view; so 2,048 nodes can join through one within ten seconds.
WALKS: Final = (10.0, 64)
#: Walks of addresses that one neighbour may bring. Six pass through a node in half a minute.
SHUFFLES: Final = (1.0, 8)
#: Questions and answers that one peer may come with on one connection: a handful in its life.
QUESTIONS: Final = (1.0, 16)
#: A peer that joins again within so many seconds is not announced again.
JOIN_INTERVAL: Final = 10.0
#: Newcomers remembered for that.
MOST_JOINED: Final = 256
#: Purposes of dials remembered at a time. The dialler has fewer dials under way.
MOST_TRIES: Final = 16


class Priority(IntEnum):
    """How much somebody wants a neighbour: the field of `Kind.NEIGHBOR`."""

    #: If there is room.
    LOW = 0
    #: Somebody has to give way.
    HIGH = 1
    #: The end of a walk asks a newcomer, and makes room at its own end: if there is room.
    JOIN = 2


class Wish(IntEnum):
    """What we want of a link; of two, the greater one counts."""

    PROBE = 1
    #: A random node of the passive view, to fill the active one.
    REFILL = 2
    #: A newcomer whose walk has ended here.
    WALK = 3
    #: A link that somebody else wanted: the application, the dialler.
    ANY = 4
    #: It has been a neighbour on another connection, or has something that we missed.
    KEEP = 5


class Phase(Enum):
    """What a link is to us."""

    IDLE = "idle"
    ASKING = "asking"
    ACTIVE = "active"
    PROBE = "probe"


class _Allowance:
    """A bucket of so many a second, and so many at once."""

    __slots__ = ("_burst", "_left", "_rate", "_when")

    def __init__(self, limits: tuple[float, int], now: float) -> None:
        self._rate, self._burst = limits
        self._left = float(self._burst)
        self._when = now

    def take(self, now: float) -> bool:
        self._left = min(self._burst, self._left + (now - self._when) * self._rate)
        self._when = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class _Peer:
    """An extended link."""

    __slots__ = (
        "deadline", "led", "link", "phase", "questions", "shuffles", "since", "walks", "wish", "yields",
    )  # fmt: skip

    def __init__(self, link: Connection, now: float) -> None:
        self.link = link
        self.since = now
        self.phase = Phase.IDLE
        #: Why we asked; ``None`` if we have not.
        self.wish: Wish | None = None
        #: Whether we dialled it because a neighbour said so: it is not of our own choice.
        self.led = False
        #: Whether it goes again if its place has been taken before it says yes.
        self.yields = False
        self.deadline: Timer | None = None
        self.walks = _Allowance(WALKS, now)
        self.shuffles = _Allowance(SHUFFLES, now)
        self.questions = _Allowance(QUESTIONS, now)

    @property
    def entry(self) -> Entry | None:
        """Where it can be dialled; ``None`` for a leaf."""
        address = self.link.address
        return (address, self.link.id) if address is not None else None


class _Try:
    """A dial that we have asked for."""

    __slots__ = ("ident", "until", "wish")

    def __init__(self, ident: bytes, wish: Wish, until: float) -> None:
        self.ident = ident
        self.wish = wish
        self.until = until


class Membership:
    """
    The views of one node.

    :ivar active: our neighbours, leaves included, in the order in which they became it.
    :ivar passive: extended nodes that could become neighbours.
    :ivar counters: what has happened how many times.
    """

    def __init__(
        self,
        own_id: bytes,
        settings: Settings,
        timers: Timers,
        rng: Random,
        *,
        own_address: Callable[[], Address | None],
        send: Callable[..., None],
        dial: Callable[[Address, bytes], bool],
        close: Callable[[Connection, MeshError], None],
        drain: Callable[[Connection, MeshError], None],
        activated: Callable[[Connection], None],
        deactivated: Callable[[Connection], None],
        probing: Callable[[Connection], None],
        pinned: Callable[[Connection], bool],
        candidates: Callable[[], Sequence[Entry]],
        acceptable: Callable[[Address], bool] = lambda address: True,
    ) -> None:
        """
        :param own_address: where we can be dialled; ``None``: nowhere, we are a leaf.
        :param send: sends one extension frame: to whom, its kind and its fields.
        :param dial: dials a node once, now; false if that is not possible or not needed.
        :param close: ends a link in good order.
        :param drain: after our DISCONNECT: nothing more is written, and read until the peer closes.
        :param activated: a link has entered the active view.
        :param deactivated: it has left it, and is still open.
        :param probing: what both ends have is to be compared on a link.
        :param pinned: whether the application asked for a link: we never evict it.
        :param candidates: nodes of the book, for when the passive view is exhausted.
        :param acceptable: whether an address may ever be dialled.
        """
        self._own_id = own_id
        self._settings = settings
        self._timers = timers
        self._rng = rng
        self._own_address = own_address
        self._send = send
        self._dial = dial
        self._close = close
        self._drain = drain
        self._activated = activated
        self._deactivated = deactivated
        self._probing = probing
        self._pinned = pinned
        self._candidates = candidates
        self._acceptable = acceptable
        self.active: dict[Connection, None] = {}
        self.counters: Counter[str] = Counter()
        self.passive = PassiveView(settings.passive_view, rng, acceptable=self._belongs)
        self._shuffles = Shuffles(
            own_id, settings, rng, self.passive, neighbours=self._neighbours, send=send
        )
        self._attempts = Attempts()
        self._peers: dict[Connection, _Peer] = {}
        self._by_id: dict[bytes, _Peer] = {}
        #: What is wanted of links whose hello has not come yet, taken over from others.
        self._carried: dict[Connection, Wish] = {}
        self._tries: dict[Address, _Try] = {}
        self._joined: dict[bytes, float] = {}
        self._now = 0.0
        #: How many times in a row we were refused, and before when nobody is asked again.
        self._setbacks = 0
        self._refill_at = 0.0
        #: Whether the last attempt came to nothing because the dialler had no room for it.
        self._busy = False
        #: When it came to nothing because nobody was known: how many had been till then.
        self._starved = 0
        self._refill_timer: Timer | None = None
        self._shuffle_timer: Timer | None = None
        self._probe_timer: Timer | None = None
        self._stopped = False

    # --- what it is like -----------------------------------------------------------

    @property
    def degree(self) -> int:
        """How many neighbours there are, without leaves."""
        return sum(link.address is not None for link in tuple(self.active))

    @property
    def goal(self) -> int:
        """How many we seek."""
        most = self._settings.active_view
        return most if self._own_address() is not None else min(most, LEAF_VIEW)

    @property
    def wants_more(self) -> bool:
        """Whether there are fewer neighbours than there should be."""
        return self.degree < self.goal

    def is_active(self, link: Connection) -> bool:
        """Whether a link is one to a neighbour."""
        return link in self.active

    def sizes(self) -> dict[str, tuple[int, int]]:
        """How full everything is that peers can make grow, and how full it can get."""
        settings = self._settings
        return {
            "active view": (self.degree, settings.active_view),
            "leaves": (len(self.active) - self.degree, settings.max_inbound),
            "passive view": (len(self.passive), self.passive.capacity),
            "dials for the view": (len(self._tries), MOST_TRIES),
            "attempts": (len(self._attempts), MOST_ATTEMPTS),
            "walks": (len(self._shuffles), MOST_ROUTES),
            "newcomers": (len(self._joined), MOST_JOINED),
        }

    def _neighbours(self) -> list[Connection]:
        return [link for link in self.active if link.address is not None]

    def _belongs(self, entry: Entry) -> bool:
        """Whether a node may stand in the passive view."""
        address, ident = entry
        if ident == self._own_id or address == self._own_address():
            return False
        peer = self._by_id.get(ident)
        return (peer is None or peer.phase is not Phase.ACTIVE) and self._acceptable(address)

    # --- links come and go -----------------------------------------------------------

    def extended(self, link: Connection, now: float) -> None:
        """A peer has said HELLO on an open link: ask it for what we want, if anything."""
        self._now = now
        if self._stopped or link in self._peers:
            return
        self._begin()
        before = self._by_id.get(link.id)
        if before is not None:
            self._take_over(before.link, link)
        self._peers[link] = self._by_id[link.id] = peer = _Peer(link, now)
        wishes = [self._carried.pop(link, None), self._tried(link)]
        wish = max((item for item in wishes if item is not None), default=None)
        peer.led = wish is Wish.WALK
        if wish is None and (link.outgoing or self._pinned(link)):
            wish = Wish.ANY
        if wish is not None:
            self._want(peer, wish)
        else:
            self._idle(peer)
        self._seek(dialled=link.outgoing)

    def _idle(self, peer: _Peer) -> None:
        """Leave it to a peer to ask. A probe says what it has, and then hangs up by itself."""
        peer.phase, peer.wish = Phase.IDLE, None
        seconds = max(self._settings.handshake_timeout, 2 * self._settings.probe_time)
        self._give(peer, seconds, ViewFull(f"it was of no use within {seconds:g} s"))

    def replaced(self, old: Connection, new: Connection, now: float) -> None:
        """
        Another connection to the same peer has taken the place of one.

        What is still read from the old one counts no more; what we wanted of it we want of
        the new one, as soon as that has said HELLO.
        """
        self._now = now
        if not self._stopped:
            self._take_over(old, new)

    def _take_over(self, old: Connection, new: Connection) -> None:
        wish = self._carried.pop(old, None)
        peer = self._forget(old)
        if peer is None:
            if old.outgoing and wish is None and new not in self._peers:
                wish = self._tried(old, answered=False) or Wish.ANY
        elif peer.phase is Phase.ACTIVE:
            wish = Wish.KEEP
            self._deactivated(old)
        elif peer.phase is not Phase.IDLE:
            wish = peer.wish
        if wish is None:
            return
        known = self._peers.get(new)
        if known is None:
            self._carried[new] = max(wish, self._carried.get(new, wish))
        elif known.phase in (Phase.IDLE, Phase.PROBE):
            self._want(known, wish)

    def left(self, link: Connection, now: float, *, abnormal: bool) -> None:
        """
        A link has left the routing table, whatever it was to us.

        :param abnormal: nobody meant it to.
        """
        self._now = now
        carried = self._carried.pop(link, None)
        peer = self._forget(link)
        if self._stopped:
            return
        if peer is None:
            # It has not said hello: a plain node, or a node that turned us away.
            wish = self._tried(link, answered=False)
            if (wish is not None or carried is not None) and link.address is not None:
                self._attempts.refused(link.address, now)
                self._set_back()
        elif peer.phase is Phase.ACTIVE:
            self.counters["lost" if abnormal else "parted"] += 1
            if abnormal:
                self._shaken()
        elif peer.phase is Phase.ASKING:
            self._refused(peer)
        self._seek()

    def dial_failed(self, address: Address, now: float) -> None:
        """A dial, whoever wanted it, came to nothing."""
        self._now = now
        self.passive.discard_address(address)
        self._attempts.failed(address, now)
        attempt = self._tries.pop(address, None)
        if attempt is not None and attempt.wish is Wish.REFILL and self.degree > SPARSE:
            # There is no hurry, and a book may hold hundreds of liars' addresses.
            self._set_back()
        self._seek(dialled=True)

    def noted(self, entry: Entry, now: float) -> None:
        """A node is known to be an extended one."""
        self._now = now
        if self.passive.add(entry):
            self._seek()

    def repaired(self, link: Connection, now: float) -> None:
        """
        A probe has brought or given something that should long have been there.

        The mesh is, or was, in parts: keep the link that joins them.
        """
        self._now = now
        peer = self._peers.get(link)
        if peer is not None and peer.phase in (Phase.IDLE, Phase.PROBE):
            self.counters["repairs"] += 1
            self._want(peer, Wish.KEEP)

    def asked_for(self, link: Connection, now: float) -> None:
        """The application wants a link that is there already: it is no mere probe any more."""
        self._now = now
        peer = self._peers.get(link)
        if peer is not None and peer.phase in (Phase.IDLE, Phase.PROBE):
            self._want(peer, Wish.KEEP)

    def stop(self) -> None:
        """Ask and dial nobody any more."""
        self._stopped = True
        for timer in (self._refill_timer, self._shuffle_timer, self._probe_timer):
            if timer is not None:
                timer.cancel()
        for peer in self._peers.values():
            if peer.deadline is not None:
                peer.deadline.cancel()

    def _forget(self, link: Connection) -> _Peer | None:
        """Take a link out of everything."""
        peer = self._peers.pop(link, None)
        if peer is None:
            return None
        if self._by_id.get(link.id) is peer:
            del self._by_id[link.id]
        if peer.deadline is not None:
            peer.deadline.cancel()
        if link in self.active:
            del self.active[link]
            self._shuffles.gone(link)
        return peer

    def _give(self, peer: _Peer, seconds: float, error: MeshError) -> None:
        """End a link unless something comes of it in time."""
        if peer.deadline is not None:
            peer.deadline.cancel()

        def end() -> None:
            self._now = self._timers.now
            phase = peer.phase
            if self._forget(peer.link) is None:
                return
            if phase is Phase.ASKING:
                self._refused(peer)
            elif peer.entry is not None:
                self.passive.add(peer.entry)
            self._close(peer.link, error)
            self._seek()

        peer.deadline = self._timers.at(self._now + seconds, end)

    # --- asking -----------------------------------------------------------------------

    def _want(self, peer: _Peer, wish: Wish) -> None:
        """Say what we want of a link that is nothing to us yet."""
        # Only who dials for the application insists. If every meeting with a node that was asked for
        # once did, the node where everybody joins would change its neighbours without end.
        insists = wish is Wish.ANY and peer.link.outgoing and self._pinned(peer.link)
        full = self.degree >= self.goal
        if wish is Wish.PROBE or (
            # It would cost another neighbour its place, for nothing. But it may know what we
            # do not: it could be the one link between two parts of the mesh.
            full and wish in (Wish.REFILL, Wish.ANY) and not insists
        ):
            self._probe_on(peer, wish)
            return
        peer.phase, peer.wish = Phase.ASKING, wish
        seconds = self._settings.dead_after
        self._give(peer, seconds, ViewFull(f"it has not answered a question for {seconds:g} s"))
        if wish is Wish.ANY and not self.degree:
            peer.yields = False
            self._send(peer.link, Kind.JOIN)
            return
        priority = Priority.LOW
        if wish is Wish.WALK:
            priority = Priority.JOIN
        elif wish is Wish.KEEP or insists or not self.degree:
            priority = Priority.HIGH
        elif self.degree <= min(SPARSE, self.goal // 2) and self._setbacks >= PATIENCE:
            self.counters["urged"] += 1
            priority = Priority.HIGH
        peer.yields = priority is Priority.LOW
        self._send(peer.link, Kind.NEIGHBOR, int(priority))

    def _probe_on(self, peer: _Peer, wish: Wish) -> None:
        peer.phase, peer.wish = Phase.PROBE, wish
        self.counters["probes"] += 1
        self._give(peer, self._settings.probe_time, ProbeEnded())
        self._probing(peer.link)

    def received(self, link: Connection, kind: Kind, fields: Sequence[Any], now: float) -> None:
        """
        A frame of ours has come, one of `Kind.JOIN` to `Kind.SHUFFLE_REPLY`.

        :raises BadExtension: it makes no sense.
        """
        self._now = now
        peer = self._peers.get(link)
        if peer is None or self._stopped:
            return  # another connection has taken its place, or we have evicted it
        if kind is Kind.JOIN:
            self._asked(peer, Priority.HIGH, joins=True)
        elif kind is Kind.NEIGHBOR:
            self._asked(peer, need(fields, int)[0], joins=False)
        elif kind is Kind.NEIGHBOR_OK:
            if peer.phase is Phase.ASKING:
                self._accepted(peer)
        elif kind is Kind.NEIGHBOR_NO:
            if peer.phase is Phase.ASKING:
                self._declined(peer)
        elif kind is Kind.DISCONNECT:
            self._evicted(peer)
        elif kind is Kind.FORWARD_JOIN:
            self._walked(peer, fields)
        elif kind is Kind.SHUFFLE:
            if self._may(peer, peer.shuffles):
                self._shuffles.walked(link, fields, now)
                self._seek()
        elif kind is Kind.SHUFFLE_REPLY:
            if self._may(peer, peer.shuffles):
                self._shuffles.answered(link, fields, now)
                self._seek()
        else:
            raise BadExtension(f"{kind!r} is nothing that decides who is a neighbour")

    def _may(self, peer: _Peer, allowance: _Allowance) -> bool:
        """Whether a neighbour may come with one more walk."""
        if peer.phase is not Phase.ACTIVE:
            return False
        if not allowance.take(self._now):
            self.counters["limited"] += 1
            return False
        return True

    def _asked(self, peer: _Peer, priority: int, *, joins: bool) -> None:
        """A peer wants us for a neighbour."""
        if not peer.questions.take(self._now):
            raise BadExtension("a peer asks the same question without end")
        link = peer.link
        if peer.phase is Phase.ASKING:
            # Both asked at once, and both will take it for a yes.
            self._accepted(peer)
        elif peer.phase is Phase.ACTIVE or self._has_room(link, priority):
            self._send(link, Kind.NEIGHBOR_OK)
            self._activate(peer)
        else:
            self.counters["refused"] += 1
            self._send(link, Kind.NEIGHBOR_NO)
            if peer.entry is not None:
                self.passive.add(peer.entry)
        if joins:
            self._introduce(peer)

    def _has_room(self, link: Connection, priority: int) -> bool:
        """Whether a peer can become a neighbour; if need be, another one gives way."""
        if link.address is None or self.degree < self._settings.active_view:
            return True
        if priority != Priority.HIGH:
            return False
        if self._pinned(link):
            return True
        going = self._evictable()
        if not going:
            return False
        self._evict(pick(self._rng, going))
        return True

    def _accepted(self, peer: _Peer) -> None:
        """It is agreed that a peer is our neighbour; somebody else may have to go."""
        self._setbacks = 0
        self._activate(peer)

    def _activate(self, peer: _Peer) -> None:
        if peer.phase is Phase.ACTIVE:
            return
        if peer.deadline is not None:
            peer.deadline.cancel()
        yields, link = peer.yields, peer.link
        peer.phase, peer.wish, peer.yields = Phase.ACTIVE, None, False
        self.active[link] = None
        self.passive.discard(link.id)
        self.counters["neighbours"] += 1
        self._activated(link)
        while self.degree > self._settings.active_view:
            if yields:
                # Its place has been taken meanwhile. Nobody else shall suffer.
                self._evict(link)
                break
            going = self._evictable(link) or self._evictable(own_choice=0)
            if not going:
                break  # the application wants them all
            self._evict(pick(self._rng, going))

    def _declined(self, peer: _Peer) -> None:
        """A peer does not want us for a neighbour."""
        self._refused(peer)
        if peer.wish is Wish.ANY and not self._pinned(peer.link):
            # Made for another reason than a place in the view, it serves as a probe.
            self._probe_on(peer, Wish.ANY)
        elif peer.wish is Wish.REFILL and not peer.link.outgoing:
            # It came for something else, and may still do that.
            self._idle(peer)
        else:
            self._forget(peer.link)
            self._close(peer.link, ViewFull())
        self._seek()

    def _refused(self, peer: _Peer) -> None:
        """Whom we asked has said no, or nothing: not too soon again."""
        self.counters["refusals"] += 1
        if peer.entry is None:
            return
        self.passive.add(peer.entry)
        self._attempts.refused(peer.entry[0], self._now)
        if peer.wish is not Wish.WALK:
            self._set_back()

    # --- giving way ------------------------------------------------------------------

    def _evictable(
        self, staying: Connection | None = None, own_choice: int = OWN_CHOICE
    ) -> list[Connection]:
        """
        Who can give way: nobody whom the application asked for, and not the last that we dialled.

        :param staying: who cannot besides.
        :param own_choice: how many that we dialled have to stay.
        """
        neighbours = self._neighbours()
        own_choice = min(own_choice, self._settings.active_view // 2)
        # Not whom neighbours have led here: one alone could lead any number of its own names.
        ours = {link for link in neighbours if link.outgoing and not self._peers[link].led}
        ours_stay = len(ours) <= own_choice
        return [
            link
            for link in neighbours
            if link is not staying and not (link in ours and ours_stay) and not self._pinned(link)
        ]

    def _evict(self, link: Connection) -> None:
        self.counters["evictions"] += 1
        peer = self._forget(link)
        if peer is not None and peer.entry is not None:
            self.passive.add(peer.entry)
        self._deactivated(link)
        self._send(link, Kind.DISCONNECT)
        self._drain(link, ViewFull())

    def _evicted(self, peer: _Peer) -> None:
        """A peer has given our place to another one."""
        link = peer.link
        self._forget(link)
        if peer.phase is Phase.ACTIVE:
            self.counters["evicted"] += 1
            self._deactivated(link)
        if peer.entry is not None:
            self.passive.add(peer.entry)
            self._attempts.refused(peer.entry[0], self._now)
        self._close(link, ViewFull("the peer has given our place to another one"))
        # That happens in a mesh that lives: one attempt is worth making.
        self._setbacks = min(self._setbacks, PATIENCE)
        self._refill_at = min(self._refill_at, self._now + self._vary(FIRST_PAUSE, JITTER))
        self._seek()

    # --- newcomers -------------------------------------------------------------------

    def _introduce(self, newcomer: _Peer) -> None:
        """Lead a peer that has joined to other places."""
        entry = newcomer.entry
        if entry is None:
            return
        self.counters["joins"] += 1
        last = self._joined.pop(newcomer.link.id, None)
        if last is not None and self._now < last + JOIN_INTERVAL:
            self._joined[newcomer.link.id] = last
            return
        self._joined[newcomer.link.id] = self._now
        if len(self._joined) > MOST_JOINED:
            del self._joined[next(iter(self._joined))]
        for link in self._neighbours():
            if link is not newcomer.link:
                self._send(link, Kind.FORWARD_JOIN, write_entry(entry), self._settings.join_walk)

    def _walked(self, peer: _Peer, fields: Sequence[Any]) -> None:
        """A newcomer's address has come by: it goes on, or we take the newcomer."""
        field, hops = need(fields, list, int)[:2]
        if hops < 0:
            raise BadExtension(f"a walk has {hops} hops to go")
        entry = read_entry(field)
        if entry is None or peer.phase is not Phase.ACTIVE:
            return
        address, ident = entry
        if ident == self._own_id or not self._acceptable(address):
            return
        source = peer.link
        if not peer.walks.take(self._now):
            self.counters["limited"] += 1
            self.passive.add(entry, source.id)
            return
        hops = min(hops, self._settings.join_walk)
        onward = [link for link in self._neighbours() if link is not source and link.id != ident]
        if hops == self._settings.passive_walk:
            self.passive.add(entry, source.id)
        if hops and self.degree > 1 and onward:
            self._send(pick(self._rng, onward), Kind.FORWARD_JOIN, field[:2], hops - 1)
            return
        known = self._by_id.get(ident)
        if known is None:
            if not self._try(entry, Wish.WALK):
                self.passive.add(entry, source.id)
        elif known.phase is Phase.IDLE or known.phase is Phase.PROBE:
            self._want(known, Wish.WALK)

    # --- dialling ----------------------------------------------------------------------

    def _try(self, entry: Entry, wish: Wish) -> bool:
        """Have a node dialled, and remember what for."""
        address, ident = entry
        if (
            len(self._tries) >= MOST_TRIES
            or address in self._tries
            or not self._attempts.may(address, self._now, lonely=not self.degree)
        ):
            return False
        settings = self._settings
        # The dial, the handshake, and the hello right behind it.
        seconds = settings.dial_timeout + settings.dial_handshake_timeout + 1.0
        self._tries[address] = _Try(ident, wish, self._now + seconds)
        if self._dial(address, ident):
            return True
        self._tries.pop(address, None)
        return False

    def _tried(self, link: Connection, *, answered: bool = True) -> Wish | None:
        """What a link was dialled for, by us; forgotten with that."""
        wishes: list[Wish] = []
        dialled = link.dial.address if link.dial is not None else None
        for address, attempt in list(self._tries.items()):
            if address == dialled or (answered and attempt.ident == link.id):
                del self._tries[address]
                wishes.append(attempt.wish)
        if answered and dialled is not None:
            self._attempts.answered(dialled)
        return max(wishes, default=None)

    def _expire(self) -> None:
        """Give up dials that have led to a node that does not speak the extension."""
        for address, attempt in list(self._tries.items()):
            if self._now >= attempt.until:
                del self._tries[address]
                self.passive.discard_address(address)
                self._attempts.failed(address, self._now)

    def _options(self) -> list[Entry]:
        """Nodes that could be dialled now, in random order; those of the book last."""
        entries = self._usable(self.passive.entries) or self._usable(self._candidates())
        return sample(self._rng, entries, len(entries))

    def _usable(self, entries: Sequence[Entry]) -> list[Entry]:
        """Those of some nodes that could be dialled now."""
        lonely = not self.degree
        own_address = self._own_address()
        return [
            (address, ident)
            for address, ident in entries
            if ident != self._own_id
            and ident not in self._by_id
            and address not in self._tries
            and address != own_address
            and self._attempts.may(address, self._now, lonely=lonely)
        ]

    # --- filling the active view ---------------------------------------------------------

    def _set_back(self) -> None:
        """Nobody wants us just now: wait, longer each time. A wave of questions counts once."""
        if self._now >= self._refill_at:
            self._setbacks += 1
            pause = FIRST_PAUSE * 2.0 ** min(self._setbacks, 16)
            self._refill_at = self._now + self._vary(min(pause, self._longest_pause), JITTER)

    @property
    def _longest_pause(self) -> float:
        degree = self.degree
        if degree > SPARSE:
            return LONGEST_PAUSE
        return SPARSE_PAUSE if degree else LONELY_PAUSE

    def _shaken(self) -> None:
        """A neighbour has been lost, maybe many have: others have room now, too."""
        self._setbacks = 0
        self._refill_at = self._now
        self._attempts.pardon()
        first, last = PROBE_SOON
        self._arm_probe(first + (last - first) * self._rng.random())

    def _seek(self, *, dialled: bool = False) -> None:
        """
        Look for neighbours if there are too few, now or when it is time.

        :param dialled: the dialler has just ended something.
        """
        if self._stopped:
            return
        if dialled and self._busy:
            self._busy = False
            self._refill_at = self._now
        self._expire()
        asking = sum(peer.phase is Phase.ASKING for peer in self._peers.values())
        dialling = sum(attempt.wish is not Wish.PROBE for attempt in self._tries.values())
        missing = self.goal - self.degree - asking - dialling
        times = [attempt.until for attempt in self._tries.values()]
        if missing > 0:
            if self._starved and self.passive.added > self._starved:
                self._starved = 0
                self._refill_at = self._now  # somebody has become known
            if self._now >= self._refill_at:
                missing -= self._fill(min(missing, MOST_AT_ONCE - dialling))
            if missing > 0:
                times.append(max(self._refill_at, self._now + DIAL_PAUSE))
        self._arm_refill(min(times, default=None))

    def _fill(self, wanted: int) -> int:
        """
        Ask or dial some.

        :param wanted: how many.
        :return: how many.
        """
        if wanted <= 0:
            return 0
        count = 0
        for peer in list(self._peers.values()):
            if (
                count < wanted
                and peer.phase in (Phase.IDLE, Phase.PROBE)
                and peer.entry is not None
                and (not self.degree or self._now >= peer.since + IDLE_TIME)
                and self._attempts.may(peer.entry[0], self._now, lonely=not self.degree)
            ):
                self._want(peer, Wish.ANY if not self.degree else Wish.REFILL)
                count += 1
        options = self._options() if count < wanted else []
        for entry in options[: 2 * MOST_AT_ONCE]:
            if count < wanted and self._try(entry, Wish.REFILL):
                count += 1
        if not count:
            # Nobody is left to ask, or the dialler is busy: look again, less and less often.
            self._busy, self._starved = bool(options), 0 if options else self.passive.added
            self._set_back()
        return count

    # --- now and then --------------------------------------------------------------------

    def _begin(self) -> None:
        """There are links: start what is done at intervals. A leaf does neither."""
        if self._own_address() is None:
            return
        if self._shuffle_timer is None:
            self._arm_shuffle()
        if self._probe_timer is None:
            self._arm_probe(self._vary(self._settings.probe_interval, PROBE_JITTER))

    def _arm_refill(self, when: float | None) -> None:
        timer = self._refill_timer
        if timer is not None:
            if timer.active and timer.when == when:
                return
            timer.cancel()
        self._refill_timer = None if when is None else self._timers.at(when, self._refill_due)

    def _refill_due(self) -> None:
        self._now = self._timers.now
        self._seek()

    def _arm_shuffle(self) -> None:
        seconds = self._vary(self._settings.shuffle_interval, SHUFFLE_JITTER)
        self._shuffle_timer = self._timers.at(self._now + seconds, self._shuffle_due)

    def _shuffle_due(self) -> None:
        self._now = self._timers.now
        address = self._own_address()
        if address is not None:
            self._shuffles.start((address, self._own_id), self._now)
            self.counters["shuffles"] = self._shuffles.started
        self._arm_shuffle()

    def _arm_probe(self, seconds: float) -> None:
        if self._probe_timer is not None:
            self._probe_timer.cancel()
        self._probe_timer = self._timers.at(self._now + seconds, self._probe_due)

    def _probe_due(self) -> None:
        """Ask a random node that is no neighbour what it has."""
        self._now = self._timers.now
        self._arm_probe(self._vary(self._settings.probe_interval, PROBE_JITTER))
        for entry in self._options()[:MOST_AT_ONCE]:
            if self._try(entry, Wish.PROBE):
                break
        self._seek()

    def _vary(self, seconds: float, jitter: float) -> float:
        return seconds * (1 + jitter * (2 * self._rng.random() - 1))
