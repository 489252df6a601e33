"""
A network of toys for the demo's scenario: no transports, one hand-turned clock, and every
fault that a mesh must not have.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from py2p_twisted.cli.report import Report
from py2p_twisted.cli.scenario import Plan, Scenario

#: Seconds from one toy to another.
HOP = 0.001


class ToyNet:
    """
    The toys and their links.

    :ivar lost: pairs of a node's number and a broadcast's that never come together.
    :ivar repeated: the same, shown once more ``late`` seconds after the first time.
    :ivar echo: whoever sends hears itself.
    :ivar deaf: nodes whose ``start``, ``join``, ``send`` or ``leave`` never ends.
    :ivar broken: nodes where one of these fails.
    :ivar heals: links are made, by whoever has too few.
    :ivar forgets: whoever is dropped leaves the tables of the others.
    :ivar restless: a link comes and goes, for ever.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.nodes: list[ToyNode] = []
        self.links: set[frozenset[int]] = set()
        self.lost: set[tuple[int, int]] = set()
        self.repeated: set[tuple[int, int]] = set()
        self.late = HOP
        self.echo = False
        self.deaf: dict[str, set[int]] = {}
        self.broken: dict[str, set[int]] = {}
        self.heals = True
        self.forgets = True
        self.restless = False
        self.most_links = 4

    def make_node(self, make: type[ToyNode] | None = None) -> ToyNode:
        """One more toy."""
        node = (make or ToyNode)(self, len(self.nodes) + 1)
        self.nodes.append(node)
        return node

    def number_of(self, node: ToyNode) -> int:
        """How many links a toy has."""
        return sum(node.number in link for link in self.links)

    def link(self, one: int, other: int) -> None:
        """Link two toys."""
        self.links.add(frozenset((one, other)))

    def mend(self) -> None:
        """Give everybody links enough."""
        there = [node for node in self.nodes if node.listening]
        for node in there:
            for other in there:
                if self.number_of(node) >= self.most_links:
                    break
                if other is not node:
                    self.link(node.number, other.number)

    def flicker(self) -> None:
        """A link comes and goes, for ever."""
        self.links ^= {frozenset((2, 3))}
        self.clock.callLater(0.1, self.flicker)

    def after(self, what: str, node: ToyNode, action: Callable[[], object]) -> Deferred[Any]:
        """Something that takes a moment, or for ever, or fails."""
        done: Deferred[Any] = Deferred()
        if node.number in self.deaf.get(what, ()):
            return done

        def now() -> None:
            if node.number in self.broken.get(what, ()):
                done.errback(OSError(f"{what} is broken"))
            else:
                action()
                done.callback(None)

        self.clock.callLater(HOP, now)
        return done


class ToyNode:
    """One toy; see `scenario.Participant`."""

    def __init__(self, net: ToyNet, number: int) -> None:
        self.net = net
        self.number = number
        self.id = str(number).encode()
        self.address = ("127.0.0.1", 40000 + number)
        self.listening = False
        self.dropped = False
        self.left = False
        self.frames = 0
        self.on_message: Callable[[tuple[Any, ...], bytes], None] = lambda packets, via: None

    def start(self) -> Deferred[Any]:
        return self.net.after("start", self, lambda: setattr(self, "listening", True))

    def join(self, address: tuple[str, int]) -> Deferred[Any]:
        def joined() -> None:
            self.net.link(self.number, address[1] - 40000)
            if self.net.heals:
                self.net.clock.callLater(0.05, self.net.mend)
            if self.net.restless and self.number == 3:
                self.net.flicker()

        return self.net.after("join", self, joined)

    def peers(self) -> Collection[bytes]:
        return {
            str(number).encode()
            for link in self.net.links
            if self.number in link
            for number in link - {self.number}
        }

    def traffic(self) -> tuple[int, int]:
        return self.frames, self.frames // 2

    def send(self, *packets: Any) -> Deferred[Any]:
        net = self.net
        for place, node in enumerate(net.nodes, 1):
            if node is self and not net.echo:
                continue
            key = (node.number, packets[1])
            if node.listening and key not in net.lost:
                net.clock.callLater(HOP * place, node.receive, packets, self.id)
                if key in net.repeated:
                    net.clock.callLater(HOP * place + net.late, node.receive, packets, self.id)
        return net.after("send", self, lambda: None)

    def receive(self, packets: tuple[Any, ...], via: bytes) -> None:
        """Something has come; the sub-flag goes in front."""
        if self.listening:
            self.frames += 2
            self.on_message((0, *packets), via)

    def drop(self) -> Deferred[Any]:
        self.dropped = True
        self.listening = False
        if self.net.forgets:
            self.net.links = {link for link in self.net.links if self.number not in link}
        if self.net.heals:
            self.net.clock.callLater(0.2, self.net.mend)
        return self.net.after("leave", self, lambda: None)

    def leave(self) -> Deferred[Any]:
        self.left = True
        return self.net.after("leave", self, lambda: None)


class ToyThatPrepares(ToyNode):
    """
    A toy that needs time before it can send.

    :ivar takes: so many seconds.
    :ivar prepared: how often it was told to.
    """

    takes = 5.0
    prepared = 0

    def prepare(self) -> Deferred[Any]:
        self.prepared += 1
        done: Deferred[Any] = Deferred()
        ready = self.net.after("prepare", self, lambda: None)
        self.net.clock.callLater(self.takes, ready.chainDeferred, done)
        return done


class Notebook:
    """
    A view that writes everything down.

    :ivar looks: when it was told to look, by the clock.
    """

    def __init__(self, clock: Clock) -> None:
        self.lines: list[str] = []
        self.details: list[str] = []
        self.looks: list[float] = []
        self._clock = clock

    def say(self, text: str, *, detail: bool = False) -> None:
        (self.details if detail else self.lines).append(text)

    def look(self, report: Report) -> None:
        self.looks.append(self._clock.seconds())


class Toys:
    """A scenario with toys, ready to run."""

    def __init__(self, nodes: int = 6, *, make: type[ToyNode] | None = None, **plan: Any) -> None:
        """
        :param make: what sort of toys.
        :param plan: see `Plan`.
        """
        self.net = ToyNet()
        self.view = Notebook(self.net.clock)
        self.scenario = Scenario(
            Plan(nodes, **plan),
            lambda: self.net.make_node(make),
            self.net.clock,
            self.view,
            self.net.clock.seconds,
        )

    def begin(self) -> Deferred[Report]:
        """Start it, and turn nothing."""
        return Deferred.fromCoroutine(self.scenario.run())

    def step(self, end: float) -> None:
        """Turn the clock to the moment when something happens next, or to the end."""
        clock = self.net.clock
        times = [call.getTime() for call in clock.getDelayedCalls()]
        clock.advance(max(0.0, min([*times, end]) - clock.seconds()))

    def turn(self, seconds: float) -> None:
        """Let time pass."""
        end = self.net.clock.seconds() + seconds
        while self.net.clock.seconds() < end:
            self.step(end)

    def run(self, limit: float = 120.0) -> Report:
        """Run it to its end, which must come."""
        results: list[Any] = []
        self.begin().addBoth(results.append)
        while not results and self.net.clock.seconds() < limit:
            self.step(limit)
        assert results, "the demo does not end"
        assert isinstance(results[0], Report), results[0]
        return results[0]
