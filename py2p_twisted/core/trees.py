"""
One broadcast tree for every origin, grown out of flooding.

The first message of an origin is flooded: the most robust thing there is. Whoever gets it a
second time tells the bringer to merely announce the origin's messages from now on (PRUNE);
so what remains is a tree along which this very origin is fastest, and announcements (IHAVE)
on all other links::

            first message                 from then on

          o ---- a ---- c              o ==== a ==== c        == payload
          |      |      |              ||     :      :        :: announcement
          '----- b -----'              '===== b :::::'

A tree is forgotten after some messages or minutes and grown anew: repairs bend it, and the
shortest paths change. But not at once: while a tree grows everything that is under way is
flooded, which for a busy origin is a lot. Which links an origin's messages take is worked out once for every
change, not for every message.

Each end of a link decides for what comes to it, and for nothing else: two copies that meet on
their way say nothing about who needs whom. And a bringer is told only if the one that was
faster has not been told itself, or a node that gets one message sooner from here and the next
from there would in the end have told everybody.

An announcement is due from the moment in which the message comes, not from that in which
it is written: a link that turns eager in between would otherwise miss one.

Source: docs/protocol/mesh-ext.rst, "Trees"; Leitao, Pereira, Rodrigues, *Epidemic Broadcast
Trees*, 2007 (with one tree for all origins, whose prunes cut each other's branches).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from py2p_twisted.core.connection import Connection
from py2p_twisted.core.extension import PAGE, Kind, write_ids
from py2p_twisted.core.links import Links
from py2p_twisted.core.message import as_bytes
from py2p_twisted.core.recent import RecentMessages
from py2p_twisted.core.seen import SHORT
from py2p_twisted.core.settings import Settings
from py2p_twisted.core.timers import Timer, Timers

Some = tuple[Connection, ...]

#: Seconds that messages may still be under way after their bringer was told to announce them:
#: several round trips. Source: docs/protocol/mesh-ext.rst, "Trees".
UNDER_WAY: Final = 1.0

#: Announcements that follow others within so many times their delay wait so many times as long.
#: A frame costs as much as a message, whatever it announces; and what is announced later has
#: usually come by then, which costs next to nothing. Source: docs/protocol/mesh-ext.rst, "Trees".
BUSY: Final = 4


class Tree:
    """
    How the messages of one origin leave this node.

    :ivar lazy: links over which they are merely announced.
    :ivar told: neighbours that were told to merely announce them to us, and when.
    :ivar bringer: the neighbour that brought one first, lately.
    :ivar latest: the short id of a late message, by which neighbours know which tree is meant.
    :ivar eager: the links over which they are sent.
    :ivar announced: those of ``lazy`` that are there.
    """

    __slots__ = ("announced", "born", "bringer", "count", "eager", "latest", "lazy", "made", "told")

    def __init__(self, now: float) -> None:
        self.lazy: set[Connection] = set()
        self.told: dict[Connection, float] = {}
        self.bringer: Connection | None = None
        self.latest = b""
        self.eager: Some = ()
        self.announced: Some = ()
        #: Of which version of the links these two are.
        self.made = -1
        self.count = 0
        self.born = now


class Trees:
    """
    The trees that this node is part of.

    :ivar targets: links that get every message of an origin without a tree: to plain nodes,
        and those of the active view whose peers keep up.
    :ivar behind: those of the active view whose peers do not: they hear of what has come when
        they have read what waits for them.
    """

    def __init__(
        self,
        settings: Settings,
        links: Links,
        recent: RecentMessages,
        timers: Timers,
        counters: Counter[str],
        *,
        send: Callable[..., None],
    ) -> None:
        """
        :param send: sends an extension frame: to whom, kind, fields.
        """
        self.targets: Some = ()
        self.behind: Some = ()
        self._settings = settings
        self._links = links
        self._recent = recent
        self._timers = timers
        self._counters = counters
        self._send = send
        self._trees: dict[bytes, Tree] = {}
        self._version = 0
        #: Links with something to announce.
        self._announcing: dict[Connection, None] = {}
        self._timer: Timer | None = None
        #: When announcements were written last.
        self._announced_at = float("-inf")

    def __len__(self) -> int:
        return len(self._trees)

    def knows(self, origin: bytes | str) -> bool:
        """Whether there is a tree of an origin."""
        return as_bytes(origin) in self._trees

    @property
    def pending(self) -> int:
        """Announcements that wait for others to go with. May be read from any thread."""
        return sum(len(link.ext.pending) for link in list(self._announcing) if link.ext)

    def counts(self) -> tuple[int, int]:
        """
        Branches of all trees here, and links that they merely announce on.

        May be called from any thread, so it changes nothing: a tree that another thread works out
        while links come and go would miss a link, and be taken for up to date.
        """
        targets, trees = self.targets, list(self._trees.values())
        lazy = sum(link in tree.lazy for tree in trees for link in targets)
        return len(targets) * len(trees) - lazy, lazy

    # --- links come and go ------------------------------------------------------------

    def relinked(self) -> None:
        """Links have come, gone, or changed what they are."""
        self._version += 1
        self.targets = tuple(
            link
            for link in self._links.open
            if link.ext is None or ((link.ext.active or link.ext.asking) and not link.congested)
        )
        self.behind = tuple(
            link
            for link in self._links.open
            if link.congested and link.ext is not None and link.ext.active
        )

    def activated(self, link: Connection, now: float) -> None:
        """
        A link has entered the active view.

        Who has other links gets the known origins' messages over those, and their
        announcements over this one; who has none wants everything here.
        """
        if any(other.ext and other.ext.active for other in self._links.open if other is not link):
            for tree in self._trees.values():
                tree.lazy.add(link)
                # The other end does the same, unless it is a newcomer, and says so. What it has
                # sent until it knows, while it asked, makes it no bringer.
                tree.told.setdefault(link, now)
        else:
            self._eager_for_all(link)
            self._send(link, Kind.GRAFT, b"", 2)
        self.relinked()

    def gone(self, link: Connection) -> None:
        """A link has left the active view, or has ended."""
        orphaned = [tree for tree in self._trees.values() if tree.told and link not in tree.told]
        for tree in self._trees.values():
            tree.lazy.discard(link)
            tree.told.pop(link, None)
            if tree.bringer is link:
                tree.bringer = None
        self._announcing.pop(link, None)
        self.relinked()
        self._adopt(orphaned)

    def _adopt(self, trees: Sequence[Tree]) -> None:
        """
        Find new bringers for trees that have lost theirs, before their next message is missed.

        Those are asked first to which we do not send these messages ourselves: they are less
        likely to wait for ours.
        """
        asked: dict[Connection, list[bytes]] = {}
        neighbours = [link for link in self.targets if link.ext is not None and link.ext.active]
        for tree in trees:
            if not tree.latest or any(link not in tree.told for link in neighbours):
                continue
            others = [link for link in neighbours if link in tree.lazy] or neighbours
            if others:
                chosen = min(others, key=lambda link: tree.told[link])
                del tree.told[chosen]
                asked.setdefault(chosen, []).append(tree.latest)
        for link, shorts in asked.items():
            self._counters["adoptions"] += len(shorts)
            for start in range(0, len(shorts), PAGE):
                self._send(link, Kind.GRAFT, write_ids(shorts[start : start + PAGE]), 2)

    def _eager_for_all(self, link: Connection) -> None:
        for tree in self._trees.values():
            tree.lazy.discard(link)
        self._version += 1

    # --- messages ---------------------------------------------------------------------

    def routes(
        self,
        origin: bytes | str,
        count: int,
        came_by: Connection | None,
        now: float,
        latest: bytes = b"",
    ) -> tuple[Some, Some]:
        """
        Where new messages of an origin go.

        :param count: how many there are.
        :param came_by: the link that brought them, which becomes, or stays, a branch.
        :param latest: the short id of one of them.
        :return: links that get them, and links over which they are announced; ``came_by`` may
            be among them.
        """
        tree = self._trees.pop(as_bytes(origin), None)
        if tree is None:
            return self.targets, ()
        tree.count += count
        tree.latest = latest
        settings, age = self._settings, now - tree.born
        if age > settings.tree_rest and (
            tree.count > settings.tree_messages or age > settings.tree_age
        ):
            return self.targets, ()
        # At the end again: the first is the one that was used least recently.
        self._trees[as_bytes(origin)] = tree
        if tree.told and came_by in tree.told and now - tree.told[came_by] > UNDER_WAY:
            del tree.told[came_by]  # it has forgotten, and is a branch again
        if tree.made != self._version:
            self._make(tree)
        if came_by is not None:
            if came_by.ext is not None and came_by.ext.active:
                tree.bringer = came_by
            elif tree.bringer in tree.eager:
                # A link that was made for a look has been faster, once. If our bringer had this
                # from us, it could take us for its own bringer, and each would wait for the other.
                others = tuple(link for link in tree.eager if link is not tree.bringer)
                return others, (*tree.announced, tree.bringer)
        return tree.eager, tree.announced

    def _make(self, tree: Tree) -> None:
        lazy = tree.lazy
        tree.eager = tuple(link for link in self.targets if link not in lazy)
        tree.announced = tuple(link for link in self.targets if link in lazy)
        tree.made = self._version

    def announce(self, shorts: Sequence[bytes], links: Sequence[Connection], now: float) -> None:
        """Announce messages, by their short ids, on some links, soon, together with others."""
        for link in links:
            ext = link.ext
            if ext is None:
                continue
            ext.pending += shorts
            self._announcing[link] = None
            if len(ext.pending) >= self._settings.announce_batch:
                self._flush(link)
        if self._announcing and self._timer is None:
            delay = self._settings.announce_delay
            if now - self._announced_at < BUSY * delay:
                delay *= BUSY
            self._timer = self._timers.at(now + delay, self._flush_all)

    def _flush_all(self) -> None:
        self._timer = None
        self._announced_at = self._timers.now
        for link in list(self._announcing):
            self._flush(link)

    def _flush(self, link: Connection) -> None:
        self._announcing.pop(link, None)
        if link.ext is None or not link.ext.pending:
            return
        shorts, link.ext.pending = link.ext.pending, []
        # A batch of a read may be larger than a frame.
        for start in range(0, len(shorts), PAGE):
            page = shorts[start : start + PAGE]
            self._counters["announced"] += len(page)
            self._send(link, Kind.IHAVE, write_ids(page))

    def repeated(self, link: Connection, idents: Sequence[bytes], now: float) -> None:
        """
        A neighbour has brought messages that had come before.

        It is told to announce their origins' messages; one PRUNE for each origin and read.
        """
        done: set[bytes] = set()
        for ident in idents:
            short = ident[:SHORT]
            via = self._recent.via(short)
            if via is None or via == link.id:
                continue  # forgotten; or brought twice by our branch of the tree itself
            origin = self._recent.origin(short)
            if origin is None or origin in done:
                continue
            tree = self._tree(origin, now)
            if via:
                first = self._links.table.get(via)
                if first is None or first in tree.told or first.ext is None or not first.ext.active:
                    # What brought it sooner is gone, was merely under way, or is no neighbour: a
                    # link that was made for a look would cut us off when it ends.
                    continue
                if tree.bringer is None:
                    tree.bringer = first
            done.add(origin)
            if now - tree.told.get(link, float("-inf")) > UNDER_WAY:
                tree.told[link] = now
                self._counters["prunes"] += 1
                self._send(link, Kind.PRUNE, short)

    def pruned(self, link: Connection, short: bytes, now: float) -> None:
        """A neighbour wants the messages of this one's origin announced."""
        origin = self._recent.origin(short)
        if origin is None:
            return
        tree = self._tree(origin, now)
        if link not in tree.lazy:
            tree.lazy.add(link)
            tree.made = -1

    def _tree(self, origin: bytes, now: float) -> Tree:
        tree = self._trees.get(origin)
        if tree is None:
            tree = self._trees[origin] = Tree(now)
            if len(self._trees) > self._settings.tree_origins:
                del self._trees[next(iter(self._trees))]
        return tree

    def grafted(self, link: Connection, shorts: Sequence[bytes]) -> None:
        """A neighbour wants the messages of these ones' origins; of all, if there are none."""
        if not shorts:
            for known in self._trees.values():
                if known.bringer is link:
                    known.bringer = None
            self._eager_for_all(link)
            return
        for short in shorts:
            origin = self._recent.origin(short)
            tree = self._trees.get(origin) if origin is not None else None
            if tree is None:
                continue
            if tree.bringer is link:
                tree.bringer = None
            if link in tree.lazy:
                tree.lazy.discard(link)
                tree.made = -1

    def branch(self, origin: bytes | str, link: Connection) -> None:
        """A neighbour was asked for an origin's messages, and sends them from now on."""
        tree = self._trees.get(as_bytes(origin))
        if tree is not None:
            tree.told.pop(link, None)
