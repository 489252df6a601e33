"""
What ``py2p demo`` does, step by step.

::

    start -> join -> broadcast -> drop -> heal -> broadcast [-> go on] -> leave

Nodes come in as `Participant`, so that the same steps run with real nodes over loopback
and, in tests, with toys that lose and repeat messages. What happens is written into a
`Report`; a `View` is told where to look.

Every wait has an end. One that comes to it makes the demo fail, and says what was missing.
Times are in seconds, latencies in milliseconds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from py2p_twisted.cli.report import (
    IN_PROCESS,
    Broadcast,
    Healing,
    Progress,
    Receipt,
    Report,
    Row,
    Sort,
    Step,
    many,
    some,
)

#: Nodes that there must be: one is dropped, one sends, one receives.
FEWEST: Final = 3
#: How often the demo looks whether what it waits for has come.
TICK: Final = 0.02
#: Nodes that join at the same time; the others wait for them.
AT_ONCE: Final = 32
#: Links that each node should have, as far as there are nodes. It seeks five neighbours, and
#: gets them unless all others have theirs; three ways out survive the loss of two.
ENOUGH: Final = 3

#: What is broadcast, after a word that names the demo and a number.
TEXTS: Final = ("storm from the north", "the storm has passed")
WORD: Final = "demo"
#: What is broadcast afterwards, in turn, where the demo goes on.
MORE: Final = (
    "all is well",
    "wind from the west",
    "the ferry has left",
    "gate 4 is open",
    "rain by noon",
)


class NotReached(Exception):
    """Something did not come about in time; the text says what."""


class Participant(Protocol):
    """
    What the demo wants of a node.

    :ivar on_message: called with the packets and the id of the neighbour that brought them.
    """

    on_message: Callable[[tuple[Any, ...], bytes], None]

    @property
    def id(self) -> bytes:
        """Its id, once started."""

    @property
    def address(self) -> tuple[str, int]:
        """Where it can be dialled, once started."""

    def start(self) -> Deferred[Any]:
        """Listen."""

    def join(self, address: tuple[str, int]) -> Deferred[Any]:
        """Connect to a first node."""

    def peers(self) -> Collection[bytes]:
        """The ids in its routing table."""

    def traffic(self) -> tuple[int, int]:
        """Frames that have come in on its links, and how many of them it had already."""

    def send(self, *packets: Any) -> Deferred[Any]:
        """Broadcast."""

    def drop(self) -> Deferred[Any]:
        """Be gone at once, without a word to anybody."""

    def leave(self) -> Deferred[Any]:
        """Leave in good order."""


@runtime_checkable
class NeedsPreparation(Protocol):
    """A participant that cannot send at once."""

    def prepare(self) -> Deferred[Any]:
        """Get ready for one `Participant.send`. It comes before, so no latency counts it."""


@runtime_checkable
class HasPage(Protocol):
    """
    A participant that may show a status page.

    :ivar page: where that is, with what it takes to send from there; empty: it shows none.
    """

    page: str


class View(Protocol):
    """Who shows a demo."""

    def say(self, text: str, *, detail: bool = False) -> None:
        """Something worth a line has happened; ``detail``: to one node of many."""

    def look(self, report: Report) -> None:
        """Something may have changed. Called several times a second."""


@dataclass(frozen=True, slots=True)
class Times:
    """
    How long things may take, and how long to look before they count as done; in seconds.

    The defaults are for nodes in one process.

    :ivar start: limit until all nodes listen.
    :ivar join: limit until a group of nodes has joined, or one is ready to send.
    :ivar mesh: limit until the mesh is whole, and has healed.
    :ivar spread: limit until a broadcast has come to everybody.
    :ivar leave: after so long nobody waits any more for nodes to end.
    :ivar settled: a mesh is settled when no link has come or gone for so long: longer than
        a node waits before it dials an address that it has learned.
    :ivar quiet: a broadcast has come to rest when no frame has come in anywhere for so long.
    :ivar unwatched: a broadcast is not watched for so long, unless it has arrived everywhere.
    """

    start: float = 20.0
    join: float = 15.0
    mesh: float = 30.0
    spread: float = 10.0
    leave: float = 3.0
    settled: float = 0.3
    quiet: float = 0.1
    unwatched: float = 0.3


@dataclass(frozen=True, slots=True)
class Plan:
    """
    What sort of demo it is to be.

    :ivar nodes: how many nodes, `FEWEST` at least.
    :ivar encryption: ``"TCP"`` or ``"TLS"``; only shown.
    :ivar seed: decides who is dropped, and who sends the second broadcast.
    :ivar hold: seconds to show what has been reached, before the next step.
    :ivar look: seconds to show the mesh, before the first broadcast.
    :ivar every: seconds between the broadcasts that follow until the demo is told to stop; 0:
        it ends by itself.
    :ivar sort: what sort of nodes they are; only shown.
    :ivar times: how long things may take.
    """

    nodes: int
    encryption: str = "TCP"
    seed: int = 0
    hold: float = 0.0
    look: float = 0.0
    every: float = 0.0
    sort: Sort = IN_PROCESS
    times: Times = Times()

    @property
    def to_drop(self) -> int:
        """How many nodes are dropped: two, but two must remain."""
        return min(2, self.nodes - 2)


class Member:
    """A participant, its name, and whether it is still there."""

    def __init__(self, name: str, node: Participant) -> None:
        self.name = name
        self.node = node
        self.alive = True
        self.address: tuple[str, int] | None = None


class Scenario:
    """
    One demo.

    :ivar report: what has come of it so far.
    :ivar going_on: whether all that was promised is done, and more follows.
    """

    def __init__(
        self,
        plan: Plan,
        make_node: Callable[[], Participant],
        clock: IReactorTime,
        view: View,
        now: Callable[[], float],
        began: float | None = None,
        on_page: Callable[[str], object] = lambda page: None,
    ) -> None:
        """
        :param clock: what the waits are timed by.
        :param now: a monotonic clock that is fine enough for latencies.
        :param began: what that clock showed when it all began; by default it begins now.
        :param on_page: called when there is a status page, with where that is.
        """
        self.plan = plan
        width = max(2, len(str(plan.nodes)))
        self.members = [
            Member(f"n{number:0{width}}", make_node()) for number in range(1, plan.nodes + 1)
        ]
        self.report = Report(plan.encryption, plan.seed, promised=len(TEXTS), sort=plan.sort)
        self._clock = clock
        self._view = view
        self._now = now
        self._began = now() if began is None else began
        self._rng = random.Random(plan.seed)
        self._names: dict[bytes, str] = {}
        self._sent_at: list[float] = []
        self._told = 0
        self._lost: list[str] = []
        self._on_page = on_page
        self.going_on = False
        #: Of the broadcasts that follow: the number of the latest, and who has it.
        self._number = len(TEXTS) - 1
        self._have: set[str] = set()

    async def run(self) -> Report:
        """Do it all. What goes wrong in the network stands in the report."""
        try:
            try:
                await self._start()
                await self._join()
                await self._hold(self.plan.look)
                first = self.members[-1]
                await self._broadcast(first)
                await self._hold()
                victims, second = self._cast(first)
                await self._drop_and_heal(victims)
                await self._broadcast(second)
                self._miss_nobody()
                self.report.finished = True
                if self.plan.every:
                    await self._go_on()
            except NotReached as error:
                self.report.problem = str(error)
                self._view.say(f"NOT REACHED: {error}")
            self._refresh()
            # What is received from now on is received twice, and still counts as such.
            await self._gone([member.node.leave() for member in self._alive])
        except BaseException:
            # Told to stop, or a mistake of ours: there is no time for good order.
            for member in self._alive:
                member.node.drop()
            raise
        return self.report

    def lost(self, node: Participant, why: str) -> None:
        """
        A node is gone that the demo has not sent away: then it fails, soon.

        Once the demo merely goes on that is no failure: somebody wants to see how it heals.

        :param why: what goes behind the node's name.
        """
        if self.going_on:
            for member in self.members:
                member.alive = member.alive and member.node is not node
            return
        self._lost += [f"{member.name} {why}" for member in self.members if member.node is node]

    def _miss_nobody(self) -> None:
        if self._lost:
            raise NotReached(self._lost[0])

    # --- steps --------------------------------------------------------------------------

    async def _start(self) -> None:
        count, nodes = self.plan.nodes, self.plan.sort.nodes
        with self._step("start", f"starting {count} {nodes}") as step:
            for member in self.members:
                member.node.on_message = self._receiver(member)

            def listens(_: object, member: Member) -> None:
                member.address = member.node.address
                self._names[member.node.id] = member.name
                step.text = f"{len(self._names)} of {count} {nodes} listen"

            await self._all(
                [
                    (member, member.node.start().addCallback(listens, member))
                    for member in self.members
                ],
                self.plan.times.start,
                "cannot listen",
            )
            step.text = f"{count} {nodes} listen on {self.members[0].node.address[0]}"
        for member in self.members:
            if isinstance(member.node, HasPage) and member.node.page:
                self.report.page = member.node.page
                self._view.say(f"status page of {member.name}: {self.report.page}")
                self._on_page(self.report.page)

    async def _join(self) -> None:
        first = self.members[0]
        where = first.node.address
        with self._step("join", f"joining through {first.name} at {where[0]}:{where[1]}") as step:
            for start in range(1, len(self.members), AT_ONCE):
                group = self.members[start : start + AT_ONCE]
                await self._all(
                    [(member, member.node.join(where)) for member in group],
                    self.plan.times.join,
                    f"cannot join through {first.name}",
                )
                step.text = (
                    f"{start + len(group)} of {len(self.members)} "
                    f"{self.plan.sort.nodes} have joined"
                )
                self._refresh()
            links, _ = await self._settle(step)
            step.text = links

    async def _broadcast(self, sender: Member) -> None:
        number = len(self.report.broadcasts)
        names = tuple(member.name for member in self._alive if member is not sender)
        broadcast = Broadcast(sender.name, TEXTS[number], names)
        with self._step("broadcast", f"{sender.name} sends {broadcast.text!r}") as step:
            if isinstance(sender.node, NeedsPreparation):
                await self._all(
                    [(sender, sender.node.prepare())], self.plan.times.join, "cannot send"
                )
            self.report.broadcasts.append(broadcast)
            self._told = 0
            copies = self._traffic()[1]
            self._sent_at.append(self._now())
            sending = sender.node.send(WORD, number, broadcast.text)

            # Whoever draws or prints now keeps the nodes from passing it on: the latencies
            # would be those of the screen.
            unwatched = self.plan.times.unwatched
            while broadcast.missing and self._now() - self._sent_at[number] < unwatched:
                await self._pause()

            def spread() -> str:
                self._tell(broadcast)
                step.text = (
                    f"{sender.name} to {len(broadcast.receipts)} of {many(len(names), 'node')}"
                )
                if not broadcast.missing:
                    return ""
                return f"the broadcast of {sender.name} has not come to {some(broadcast.missing)}"

            await self._all([(sender, sending)], self.plan.times.spread, "cannot send")
            await self._until(spread, self.plan.times.spread)
            await self._rest()
            broadcast.copies = max(0, self._traffic()[1] - copies)
            worst = broadcast.worst
            if worst is not None:
                step.text += f", worst {worst.latency:.1f} ms"
            if broadcast.duplicates:
                step.text += f", {broadcast.duplicates} DUPLICATES"
        self._view.say(
            f"{many(broadcast.copies, 'more copy', 'more copies')} came in on other links "
            "and went no further",
            detail=True,
        )

    async def _drop_and_heal(self, victims: Sequence[Member]) -> None:
        before = len(self._links())
        names = [member.name for member in victims]
        with self._step("drop", f"{self.plan.sort.drop} {some(names)}") as step:
            for member in victims:
                member.alive = False
            after = len(self._links())
            leaving = [member.node.drop() for member in victims]
            dropped_at = self._now()
            healing = Healing(tuple(names), before, after)
            self.report.healing = healing
            step.text = f"{some(names)} gone: {many(before, 'link')}, now {after}"
            self._refresh()
        with self._step("heal", "waiting for the others to make new links") as step:
            links, settled_at = await self._settle(step)
            seconds = max(0.0, settled_at - dropped_at)
            healed = len(self._links())
            self.report.healing = Healing(tuple(names), before, after, healed, seconds)
            mended = f"after {seconds:.2f} s" if healed > after else "enough as it was"
            step.text = f"{links}, {mended}"
        # They have no part in this any more; whether they end well is not at stake.
        await self._gone(leaving)
        await self._hold()

    async def _go_on(self) -> None:
        """Broadcast now and then, until somebody stops it: that is its proper end."""
        step = Step("go on", "Ctrl-C ends it", Progress.DONE)
        self.report.steps.append(step)
        self._view.say(self.report.verdict)
        self._view.say("go on: broadcasts from changing nodes, until Ctrl-C")
        self.going_on = True
        sender: Member | None = None
        expected = 0
        try:
            while True:
                await self._hold(self.plan.every)
                there = self._alive
                if len(there) < 2:
                    raise NotReached("nobody is left to go on with")
                if sender is not None:
                    came = f"{sender.name}'s came to {len(self._have)} of {many(expected, 'node')}"
                    step.text = f"{came}, {self._number - len(TEXTS) + 1} so far; Ctrl-C ends it"
                    self._view.say(f"go on: {came}", detail=True)
                sender = self._rng.choice([member for member in there if member is not sender])
                await self._say_more(sender)
                expected = len(there) - 1
        except CancelledError:
            step.text = f"{many(self._number - len(TEXTS) + 1, 'more broadcast')}, and told to stop"

    async def _say_more(self, sender: Member) -> None:
        """One broadcast more. Who cannot send will have been lost, which is no failure now."""

        async def say() -> None:
            if isinstance(sender.node, NeedsPreparation):
                await sender.node.prepare()
            self._number += 1
            self._have = set()
            await sender.node.send(WORD, self._number, MORE[self._number % len(MORE)])

        done: list[object] = []
        # Not awaited: whoever is told to stop while nodes do something has to notice here.
        Deferred.fromCoroutine(say()).addBoth(done.append)
        while not done:
            await self._pause()
            self._refresh()

    def _cast(self, first: Member) -> tuple[Sequence[Member], Member]:
        """
        Who is dropped, and who sends after that; never the one that has sent.

        The seed decides, except for one victim: of those whom it leaves out, the node with most
        links. Which one that is depends on how the links have come about.
        """
        candidates = [member for member in self.members if member is not first]
        second, *dropped = self._rng.sample(candidates, self.plan.to_drop)
        others = [member for member in candidates if member not in (second, *dropped)]
        best = max(others, key=lambda member: len(member.node.peers()))
        return [best, *dropped], second

    # --- waiting ------------------------------------------------------------------------

    @contextmanager
    def _step(self, title: str, text: str) -> Iterator[Step]:
        step = Step(title, text)
        self.report.steps.append(step)
        self._refresh()
        self._view.say(f"{title}: {text}")
        try:
            yield step
        except NotReached:
            step.progress = Progress.FAILED
            raise
        step.progress = Progress.DONE
        self._refresh()
        self._view.say(f"{title}: {step.text}")

    async def _pause(self, seconds: float = TICK) -> None:
        await deferLater(self._clock, seconds)

    async def _hold(self, seconds: float | None = None) -> None:
        until = self._now() + (self.plan.hold if seconds is None else seconds)
        while self._now() < until:
            await self._pause()
            self._refresh()

    async def _until(self, missing: Callable[[], str], limit: float) -> None:
        """Wait until ``missing`` has nothing to say."""
        began = self._now()
        while text := missing():
            self._miss_nobody()
            self._refresh()
            if self._now() - began >= limit:
                raise NotReached(f"{text} within {limit:g} s")
            await self._pause()
        self._refresh()

    async def _all(
        self, doing: Sequence[tuple[Member, Deferred[Any]]], limit: float, cannot: str
    ) -> None:
        """Wait until all of them have succeeded."""
        waiting = {member.name for member, _ in doing}
        failed: dict[str, str] = {}
        for member, deferred in doing:
            deferred.addCallbacks(
                lambda _, name=member.name: waiting.discard(name),
                lambda failure, name=member.name: failed.setdefault(
                    name, failure.getErrorMessage()
                ),
            )

        def missing() -> str:
            if failed:
                name, why = next(iter(failed.items()))
                more = f" ({len(failed) - 1} more likewise)" if len(failed) > 1 else ""
                raise NotReached(f"{name} {cannot}: {why}{more}")
            return f"no answer for {some(sorted(waiting))}" if waiting else ""

        await self._until(missing, limit)

    async def _settle(self, step: Step) -> tuple[str, float]:
        """
        Wait for a mesh that is whole, has links enough, and makes no more.

        :return: what it looks like, and since when.
        """
        links: object = None
        since = self._now()

        def missing() -> str:
            nonlocal links, since
            tables = self._tables()
            current = linked(tables)
            if current != links:
                links, since = current, self._now()
            step.text, text = self._shape(tables)
            if text:
                return text
            return (
                ""
                if self._now() - since >= self.plan.times.settled
                else "the links have not settled"
            )

        await self._until(missing, self.plan.times.mesh)
        return step.text, since

    def _shape(self, tables: Mapping[bytes, Collection[bytes]]) -> tuple[str, str]:
        """What the mesh looks like, and what it still lacks (empty: nothing)."""
        neighbours = neighbourhoods(tables)
        gone = {member.node.id for member in self.members if not member.alive}
        counts = [len(found) for found in neighbours.values()]
        fewest, most = min(counts), max(counts)
        spread = f"{fewest}" if fewest == most else f"{fewest} to {most}"
        text = f"{many(sum(counts) // 2, 'link')}, {spread} a node"
        enough = min(ENOUGH, len(tables) - 1)
        if believers := [self._names[one] for one in tables if gone & set(tables[one])]:
            return text, f"a dropped node has not left the table of {some(believers)}"
        if poor := [self._names[one] for one in neighbours if len(neighbours[one]) < enough]:
            return text, f"{enough} links each were not reached by {some(poor)}"
        pieces = parts(neighbours)
        return text, "" if pieces == 1 else f"the mesh has not become one, it is in {pieces} parts"

    async def _rest(self) -> None:
        """Wait until no more frames come in, but not for ever: a late copy must not be missed."""
        quiet = self.plan.times.quiet
        frames, since = self._traffic()[0], self._now()
        limit = since + 10 * quiet
        while self._now() - since < quiet and self._now() < limit:
            await self._pause()
            self._refresh()
            current = self._traffic()[0]
            if current != frames:
                frames, since = current, self._now()

    async def _gone(self, leaving: Sequence[Deferred[Any]]) -> None:
        """Let nodes end, but do not wait for ever: the process is about to end anyway."""
        ended: list[object] = []
        DeferredList(leaving, consumeErrors=True).addCallback(ended.append)
        began = self._now()
        while not ended and self._now() - began < self.plan.times.leave:
            await self._pause()

    # --- what is there ------------------------------------------------------------------

    @property
    def _alive(self) -> list[Member]:
        return [member for member in self.members if member.alive]

    def _tables(self) -> dict[bytes, Collection[bytes]]:
        return {member.node.id: member.node.peers() for member in self._alive}

    def _links(self) -> set[frozenset[bytes]]:
        return linked(self._tables())

    def _traffic(self) -> tuple[int, int]:
        counts = [member.node.traffic() for member in self._alive]
        return sum(frames for frames, _ in counts), sum(copies for _, copies in counts)

    def _receiver(self, member: Member) -> Callable[[tuple[Any, ...], bytes], None]:
        def received(packets: tuple[Any, ...], via: bytes) -> None:
            now = self._now()
            # The sub-flag stands in front.
            for number, broadcast in enumerate(self.report.broadcasts):
                if packets[1:] == (WORD, number, broadcast.text):
                    latency = (now - self._sent_at[number]) * 1000
                    brought = self._names.get(via, "?")
                    broadcast.record(Receipt(member.name, latency, brought))
            if self.going_on and packets[1:3] == (WORD, self._number):
                self._have.add(member.name)

        return received

    def _tell(self, broadcast: Broadcast) -> None:
        """Say who has got it since the last time: not at once, which would cost the others time."""
        addresses = {member.name: member.address for member in self.members}
        for receipt in list(broadcast.receipts.values())[self._told :]:
            host, port = addresses[receipt.node] or ("?", 0)
            self._view.say(
                f"{receipt.node} at {host}:{port} has it after {receipt.latency:5.1f} ms, "
                f"from {receipt.via}",
                detail=True,
            )
        self._told = len(broadcast.receipts)

    def _refresh(self) -> None:
        report = self.report
        report.elapsed = self._now() - self._began
        report.rows = [
            Row(
                member.name,
                member.address,
                len(member.node.peers()) if member.alive and member.address else 0,
                member.alive,
            )
            for member in self.members
        ]
        self._view.look(report)


# --- meshes ---------------------------------------------------------------------------------


def neighbourhoods(tables: Mapping[bytes, Collection[bytes]]) -> dict[bytes, set[bytes]]:
    """Who is linked with whom: those who stand in each other's routing table."""
    return {
        one: {other for other in table if other in tables and one in tables[other]}
        for one, table in tables.items()
    }


def linked(tables: Mapping[bytes, Collection[bytes]]) -> set[frozenset[bytes]]:
    """The links of a mesh, each as the pair of its ends."""
    return {
        frozenset((one, other))
        for one, others in neighbourhoods(tables).items()
        for other in others
    }


def parts(neighbours: Mapping[bytes, Collection[bytes]]) -> int:
    """Into how many parts a mesh has fallen: one, if everybody can be reached."""
    unseen = set(neighbours)
    count = 0
    while unseen:
        count += 1
        frontier = {unseen.pop()}
        while frontier:
            reached = {other for one in frontier for other in neighbours[one]}
            frontier = reached & unseen
            unseen -= frontier
    return count
