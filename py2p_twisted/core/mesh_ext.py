"""
mesh-ext 1: its mechanisms put together, and its frames routed to where they belong.

::

    frame --> MeshExtension.received --> membership   who is a neighbour
                     |-----------------> trees        who gets messages, and who hears of them
                     |-----------------> repair       what is missing
                     |-----------------> anti_entropy what two ends differ in
                     |-----------------> liveness     who is still there
                     |-----------------> routing      replies on their way
                     |-----------------> receipts     who has got a message
                     '-----------------> surveys      who is there
    plain nodes ----------------------> shepherd

The node tells it when links come and go. A link is plain until the peer's HELLO has come:
until then, and for ever if none comes, it is flooded, as 0.6 does. With it, payloads and
announcements go over the link only while it is in the active view.

Source: docs/protocol/mesh-ext.rst.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from py2p_twisted.core import flags
from py2p_twisted.core.actions import Settled, Surveyed
from py2p_twisted.core.anti_entropy import BUCKETS, AntiEntropy
from py2p_twisted.core.connection import Connection, State
from py2p_twisted.core.extended import Extended
from py2p_twisted.core.extension import LARGEST, VERSION, Kind, need, read_ids
from py2p_twisted.core.liveness import Liveness
from py2p_twisted.core.membership import Membership
from py2p_twisted.core.message import MAX_ID, Message, build
from py2p_twisted.core.policy import ExtendedPolicy
from py2p_twisted.core.receipts import Receipts, read_rows
from py2p_twisted.core.recent import RecentMessages
from py2p_twisted.core.repair import Repair
from py2p_twisted.core.routing import TOKEN, Routing
from py2p_twisted.core.seen import SHORT
from py2p_twisted.core.shepherd import Shepherd
from py2p_twisted.core.survey import Surveys, read_answers, read_request
from py2p_twisted.core.trees import Trees
from py2p_twisted.errors import (
    BadExtension,
    BadField,
    ClosedByPeer,
    ContentError,
    Disconnected,
    DuplicateConnection,
    MeshClosed,
    MeshError,
    ProbeEnded,
    ViewFull,
)

if TYPE_CHECKING:
    from py2p_twisted.core.node import Node

#: Ends of links that are nobody's failure.
_IN_GOOD_ORDER: Final = (
    ClosedByPeer,
    Disconnected,
    DuplicateConnection,
    MeshClosed,
    ProbeEnded,
    ViewFull,
)

#: Seconds that a newcomer takes until it has what is sent.
_JOINING: Final = 2.0
#: Seconds in which what several peers say about one cut is told once.
_ONE_GAP: Final = 60.0

#: Frames of the membership.
_OF_MEMBERSHIP: Final = range(Kind.JOIN, Kind.SHUFFLE_REPLY + 1)


class MeshExtension:
    """
    The extension's side of one node.

    :ivar counters: what has happened, by name.
    """

    def __init__(self, node: Node) -> None:
        settings, links, timers = node.settings, node.links, node.timers
        self._node = node
        self._settings = settings
        self._links = links
        self.counters: Counter[str] = Counter()
        self._serial = 0
        #: When the last link ended; ``None`` while there is one, or has never been.
        self._alone_since: float | None = None
        #: When the first link had come.
        self._first_joined: float | None = None
        self._gap_told = float("-inf")
        self.recent = RecentMessages(
            settings.effective_retention,
            settings.effective_retention_messages,
            settings.retention_bytes,
        )
        self.trees = Trees(settings, links, self.recent, timers, self.counters, send=self.send)
        self.anti_entropy = AntiEntropy(
            self.recent, self.counters, send=self.send, timers=timers, now=lambda: node.now
        )
        self.repair = Repair(
            settings,
            node.seen,
            self.recent,
            self.trees,
            node.effects,
            timers,
            self.counters,
            send=self.send,
            decide=node.decide,
            proved=self._proved,
            complete=self.anti_entropy.compare,
        )
        self.liveness = Liveness(
            settings,
            links,
            timers,
            send=self.send,
            close=lambda link, error: node.end(link, error, flush=False),
        )
        self.membership = Membership(
            node.id,
            settings,
            timers,
            node.rng,
            own_address=lambda: node.address if node.address[1] else None,
            send=self._send_of_membership,
            dial=self._dial,
            close=self._close,
            drain=node.evict,
            activated=self._activated,
            deactivated=self._deactivated,
            probing=self._probing,
            pinned=node.dialer.is_pinned,
            candidates=node.dialer.candidates,
            acceptable=node.dialer.acceptable,
        )
        self.shepherd = Shepherd(
            settings,
            links,
            self.recent,
            timers,
            node.rng,
            self.counters,
            dial=self._dial,
            ask=node.ask_for_list,
            settled=lambda link: node.decide(Settled(link)),
            give=node.effects.send,
        )
        self.routing = Routing(
            node.id,
            settings,
            links,
            self.recent,
            timers,
            self.counters,
            token=self._token,
            send=self.send,
            whisper=lambda link, message: node.effects.send(message, link),
            arrived=lambda message, link: node.effects.deliver((message,), link),
            done=node.replied,
        )
        self.receipts = Receipts(
            node.id,
            links,
            timers,
            self.counters,
            seen=node.seen.shorts,
            send=self.send,
            decide=node.decide,
            now=lambda: node.now,
        )
        self.surveys = Surveys(
            node.id,
            node.version,
            links,
            timers,
            self.counters,
            address=lambda: node.address if node.address[1] else None,
            is_plain=self.shepherd.is_plain,
            token=self._token,
            send=self.send,
            decide=self._surveyed,
            now=lambda: node.now,
        )

    # --- frames -----------------------------------------------------------------------

    def send(self, link: Connection, kind: Kind, *fields: Any) -> None:
        """Send a frame to an extended peer, unless its link is only read any more."""
        if link.state is not State.OPEN:
            return
        payload = (flags.EXTENSION, int(kind), *fields)
        self._node.effects.send(build(flags.WHISPER, b"", self._node.stamp(), payload), link)

    def greet(self, link: Connection) -> None:
        """
        Announce the extension: the only one of its frames that a plain node may get.

        With four packets behind the sub-flag: handlers that are written as the documents of
        0.6 show read the first, and raise if there is none.
        """
        node = self._node
        fields = (int(Kind.HELLO), VERSION, 0, self._token())
        hello = node.composer.compose(flags.WHISPER, flags.EXTENSION, fields, node.wall)
        node.effects.send(hello, link)

    def _surveyed(self, surveyed: Surveyed) -> None:
        """Who has answered is waited for by confirmations as well."""
        self.receipts.know((one.id for one in surveyed.survey.members), self._node.now)
        self._node.decide(surveyed)

    def _token(self, size: int = TOKEN) -> bytes:
        self._serial += 1
        seed = b"%b %d %d" % (self._node.id, self._serial, int(self._node.rng.random() * 2**53))
        return sha256(seed).digest()[:size]

    def received(self, link: Connection, message: Message) -> None:
        """
        A frame has come.

        :raises BadExtension: the peer does not know how to speak, although it said so.
        :raises BadField: it has never said so, and what it says makes no sense.
        """
        kind, *fields = message.items[4:] or (None,)
        if type(kind) is not int:
            raise BadField("an extension frame without a kind")
        if kind == Kind.HELLO:
            self._introduced(link, fields, message.time)
            return
        if link.ext is None:
            raise BadExtension("a frame of an extension that was not announced")
        now = self._node.now
        if kind in _OF_MEMBERSHIP:
            self.counters["membership frames"] += 1
            self.membership.received(link, Kind(kind), fields, now)
            if kind == Kind.NEIGHBOR_NO and link.ext.asking:
                link.ext.asking = False
                self.trees.relinked()
            return
        handle = _HANDLERS.get(kind)
        if handle is None:
            self.counters["unknown kinds"] += 1
            return
        handle(self, link, fields, message)

    def _introduced(self, link: Connection, fields: Sequence[Any], stamp: float) -> None:
        try:
            version, caps, _ = need(fields, int, int, bytes)[:3]
        except BadExtension as error:
            raise BadField(str(error)) from None
        if version < 1 or link.ext is not None:
            return
        # Also of a link that is only read any more: frames of its peer may follow.
        now = self._node.now
        link.ext = Extended(version, caps, now)
        link.ext.offset = stamp - self._node.wall
        policy = ExtendedPolicy()
        policy.negotiate(link.methods)
        link.policy = policy
        link.allow(LARGEST)
        if self._links.table.get(link.id) is link:
            self._extended(link)
        # Else it is on standby: it may never come to count.

    def _extended(self, link: Connection) -> None:
        now = self._node.now
        self.shepherd.hello_came(link)
        self.trees.relinked()
        self.liveness.start(now)
        self.liveness.measure(link, now)
        self.membership.extended(link, now)

    # --- links ------------------------------------------------------------------------

    def joined(self, link: Connection, replaced: Connection | None) -> None:
        """A link stands in the routing table, maybe in the place of another one."""
        node = self._node
        if replaced is not None:
            self.membership.replaced(replaced, link, node.now)
            if replaced.ext is not None:
                replaced.ext.active = False
                self.repair.gone(replaced, node.now)
            self.trees.gone(replaced)
            self.receipts.gone(replaced)
            self.surveys.gone(replaced)
        self.trees.relinked()
        if link.ext is not None:
            self._extended(link)
        self.shepherd.joined(link, node.now)
        if self._first_joined is None:
            self._first_joined = node.now
        if self._alone_since is not None:
            away, self._alone_since = node.now - self._alone_since, None
            retention = self._settings.effective_retention
            if away > retention:
                self._gap_told = node.now
                node.note_gap(
                    "apart for too long",
                    f"this node was without links for {away:.0f} s, and others keep messages "
                    f"for {retention:.0f} s",
                )

    def left(self, link: Connection, error: MeshError) -> None:
        """A link has left the routing table."""
        now = self._node.now
        # A neighbour that means to go says so first; a killed process just closes.
        abnormal = not isinstance(error, _IN_GOOD_ORDER) or (
            isinstance(error, ClosedByPeer) and link.ext is not None and link.ext.active
        )
        if link.ext is not None:
            link.ext.active = False
        self.trees.gone(link)
        self.membership.left(link, now, abnormal=abnormal)
        self.repair.gone(link, now)
        self.receipts.gone(link)
        self.surveys.gone(link)
        self.shepherd.left(link, now)
        if not self._links.open:
            self._alone_since = now

    def congestion_changed(self, link: Connection) -> None:
        """A peer reads too slowly, or keeps up again."""
        if link.ext is None:
            return
        if link.congested:
            self.counters["congested"] += 1
        self.trees.relinked()

    def drained(self, link: Connection) -> None:
        """There is room in the queue of a peer: it is told what it has missed, and answered."""
        ext = link.ext
        if ext is None or link.congested:
            return
        if ext.behind and ext.active:
            ext.behind = False
            self.anti_entropy.compare(link, mutual=True)
        self.repair.serve(link, self._node.now)

    def _send_of_membership(self, link: Connection, kind: Kind, *fields: Any) -> None:
        self.send(link, kind, *fields)
        if link.ext is not None and kind in (Kind.JOIN, Kind.NEIGHBOR):
            # It may say no. But what is sent meanwhile should not wait for that.
            link.ext.asking = True
            self.trees.relinked()

    def _activated(self, link: Connection) -> None:
        if link.ext is None:
            return
        link.ext.active = True
        link.ext.asking = False
        if link.ext.offset is not None:
            self._node.learn_clock(link, self._node.wall + link.ext.offset)
        self.trees.activated(link, self._node.now)
        self.anti_entropy.compare(link)
        self.receipts.activated()
        self._node.decide(Settled(link))

    def _deactivated(self, link: Connection) -> None:
        if link.ext is not None:
            link.ext.active = link.ext.asking = False
        self.trees.gone(link)
        self.receipts.gone(link)
        self.surveys.gone(link)

    def _probing(self, link: Connection) -> None:
        if link.ext is not None:
            link.ext.probe = True
            link.ext.asking = False
            self.trees.relinked()
        self.anti_entropy.compare(link, mutual=True)

    def _proved(self, link: Connection) -> None:
        """Something was repaired over a link that is no branch of anything: we were apart."""
        if link.ext is not None and link.ext.probe:
            self.membership.repaired(link, self._node.now)

    def _close(self, link: Connection, error: MeshError) -> None:
        self._node.end(link, error, flush=True)

    def _dial(self, address: Any, ident: bytes) -> bool:
        return self._node.visit(address, ident)

    def dial_failed(self, address: Any) -> None:
        """A dial has come to nothing."""
        self.membership.dial_failed(address, self._node.now)
        self.shepherd.dial_failed(address)

    def stop(self) -> None:
        """The node is closing."""
        self.membership.stop()
        self.shepherd.stop()
        self.liveness.stop()
        self.routing.stop()
        self.receipts.stop()
        self.surveys.stop()

    def sizes(self) -> dict[str, tuple[int, int]]:
        """What grows, by name: how much there is, and how much there can be."""
        settings = self._settings
        peers = [link.ext for link in self._links.open if link.ext is not None]
        most = settings.missing_per_peer
        return {
            "recent messages": (len(self.recent), settings.effective_retention_messages),
            "recent bytes": (self.recent.size, settings.retention_bytes),
            "trees": (len(self.trees), settings.tree_origins),
            "missing messages": (len(self.repair.missing), most * max(1, len(peers))),
            "missing of one peer": (max((ext.missing for ext in peers), default=0), most),
            "asked by one peer": (max((len(ext.wanted) for ext in peers), default=0), most),
            "replies passed on": (len(self.routing), 2 * settings.routed_replies),
            "plain nodes known": (len(self.shepherd), 256),
            **self.membership.sizes(),
            **self.receipts.sizes(),
            **self.surveys.sizes(),
        }

    # --- what peers say -----------------------------------------------------------------

    def _ihave(self, link: Connection, fields: Sequence[Any], message: Message) -> None:
        shorts = read_ids(need(fields, bytes)[0])
        self.repair.announced(link, shorts, self._node.now, digest=False)

    def _digest_ids(self, link: Connection, fields: Sequence[Any], message: Message) -> None:
        shorts = read_ids(need(fields, bytes)[0])
        self.repair.announced(link, shorts, self._node.now, digest=True)

    def _graft(self, link: Connection, fields: Sequence[Any], message: Message) -> None:
        field, mode = need(fields, bytes, int)[:2]
        shorts = read_ids(field)
        if mode in (0, 2) and link.ext and link.ext.active:
            self.trees.grafted(link, shorts)
        if mode in (0, 1):
            self.repair.wanted(link, shorts, self._node.now)
            # Ids that nobody has prove nothing: anybody can make them up.
            if link.ext and link.ext.probe and any(short in self.recent for short in shorts):
                self._proved(link)

    def _prune(self, link: Connection, fields: Sequence[Any], message: Message) -> None:
        if link.ext and link.ext.active:
            self.trees.pruned(link, need(fields, bytes)[0], self._node.now)

    def _digest(self, link: Connection, fields: Sequence[Any], message: Message) -> None:
        _, sums, mutual = need(fields, int, bytes, int)[:3]
        if len(sums) not in (SHORT, SHORT * BUCKETS):
            raise BadExtension(f"a digest of {len(sums)} bytes")
        self.anti_entropy.asked(link, sums, self._node.now, mutual=bool(mutual))
        edge = fields[3:5]
        if len(edge) == 2:
            forgotten, age = need(edge, bytes, int)[:2]
            if len(forgotten) not in (0, SHORT) or age < 0:
                raise BadExtension("a digest whose edge makes no sense")
            if link.ext and (link.ext.active or link.ext.probe):
                # Strangers do not alarm the application: anybody can connect to us.
                self._see_edge(forgotten, age / 1000)

    def _see_edge(self, forgotten: bytes, age: float) -> None:
        """A peer has forgotten this message, and those before it."""
        if not forgotten or forgotten in self._node.seen.shorts or self._first_joined is None:
            return
        now = self._node.now
        # Who has come later is owed nothing of that time. One such cut is told once.
        if now - self._first_joined > age + _JOINING and now >= self._gap_told + _ONE_GAP:
            self._gap_told = now
            self._node.note_gap(
                "apart for too long",
                f"others have sent messages that are kept no longer: from more than {age:.0f} s "
                "ago, while this node was apart from them",
            )

    def _ping(self, link: Connection, fields: Sequence[Any], message: Message) -> None:
        self.liveness.asked(link, need(fields, int)[0])
        self._heard_time(link, message.time)

    def _pong(self, link: Connection, fields: Sequence[Any], message: Message) -> None:
        self.liveness.answered(link, need(fields, int)[0], self._node.now)
        self._heard_time(link, message.time)

    def _heard_time(self, link: Connection, stamp: float) -> None:
        if link.ext is not None:
            link.ext.offset = stamp - self._node.wall
        self._node.learn_clock(link, stamp)

    def _not_held(self, link: Connection, fields: Sequence[Any], message: Message) -> None:
        self.repair.not_held(link, read_ids(need(fields, bytes)[0]), self._node.now)

    def _routed(self, link: Connection, fields: Sequence[Any], message: Message) -> None:
        token, target, short, hops, body = need(fields, bytes, bytes, bytes, int, bytes)[:5]
        if len(token) != TOKEN or len(short) != SHORT or not 0 < len(target) <= MAX_ID:
            # The next node would blame us for a frame that is larger than it takes.
            raise BadExtension("a routed reply with ids of a wrong length")

        def read() -> Message:
            return self._node.read_routed(body)

        try:
            self.routing.passed(link, token, target, short, hops, read, body, self._node.now)
        except ContentError:
            self.send(link, Kind.ROUTED_ANSWER, token, 0)
            raise

    def _routed_answer(self, link: Connection, fields: Sequence[Any], message: Message) -> None:
        token, arrived = need(fields, bytes, int)[:2]
        self.routing.answered(token, bool(arrived))

    def _receipt(self, link: Connection, fields: Sequence[Any], message: Message) -> None:
        rows = read_rows(need(fields, list)[0])
        self.receipts.received(link, rows, self._node.now)

    def _survey(self, link: Connection, fields: Sequence[Any], message: Message) -> None:
        self.surveys.asked(link, *read_request(fields), self._node.now)

    def _survey_answer(self, link: Connection, fields: Sequence[Any], message: Message) -> None:
        answers = read_answers(need(fields, list)[0])
        self.surveys.received(link, answers, self._node.now)


_HANDLERS: Final[dict[int, Callable[[MeshExtension, Connection, Sequence[Any], Message], None]]] = {
    Kind.IHAVE: MeshExtension._ihave,
    Kind.GRAFT: MeshExtension._graft,
    Kind.PRUNE: MeshExtension._prune,
    Kind.DIGEST: MeshExtension._digest,
    Kind.DIGEST_IDS: MeshExtension._digest_ids,
    Kind.PING: MeshExtension._ping,
    Kind.PONG: MeshExtension._pong,
    Kind.NOT_HELD: MeshExtension._not_held,
    Kind.ROUTED: MeshExtension._routed,
    Kind.ROUTED_ANSWER: MeshExtension._routed_answer,
    Kind.RECEIPT: MeshExtension._receipt,
    Kind.SURVEY: MeshExtension._survey,
    Kind.SURVEY_ANSWER: MeshExtension._survey_answer,
}
