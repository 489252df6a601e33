"""
A whole mesh in one process, measured: 16 real nodes that are linked over loopback.

Started by `bench.tree`, twice: as ``extended`` it grows an overlay of its own and says which
links its active views have, as ``flooding`` it links plain nodes in that very shape. Then it
does one transfer after another, as it is told on its standard input, one JSON object a line::

    runner                                   members
      | <----- ready, edges -------------------+
      +------ size, origins, count, ... ------>|  warm up, rest
      |                                        |  clocks and counters start
      |                                        |  all messages, to all nodes
      | <----- progress ... -------------------+
      |                                        |  0.12 s later they stop
      | <----- result -------------------------+

The rest at the end is for announcements, which leave a little later than their messages. It
costs no processor time where there is nothing to do.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import random
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.protocol import connectionDone
from twisted.internet.stdio import StandardIO
from twisted.internet.task import deferLater
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure

from bench.worker import COUNTER, HOST, SEED, payload_tail
from py2p_twisted.core import flags
from py2p_twisted.core.connection import Connection
from py2p_twisted.core.message import Message
from py2p_twisted.net.factory import Application
from py2p_twisted.net.service import MeshService, compose

reactor: Any = installed_reactor

#: Nodes of the mesh.
MEMBERS = 16

#: Seconds without a change after which the overlay is taken for grown, and what it may take.
_STABLE = 2.0
_GROWING = 20.0

#: Seconds in which all that a transfer has led to is on the wire, announcements included.
_REST = 0.12

#: Seconds without one more delivery after which a transfer is given up.
_PATIENCE = 5.0

#: Seconds between two messages while the trees grow: a round trip and more.
_WARMING = 0.02


class Member(Application):
    """
    One node, and what it has received.

    :ivar counters: the first bytes of each payload, in the order of arrival.
    :ivar ever: all connections that have ever been used, since ended ones count as well.
    """

    def __init__(self, number: int, **options: Any) -> None:
        self.counters: list[bytes] = []
        self.ever: dict[Connection, None] = {}
        self.service = MeshService(
            reactor,
            "bench",
            listen=[f"tcp:0:interface={HOST}"],
            application=self,
            rng=random.Random(f"{SEED} {number}"),
            **options,
        )

    def messages_received(self, messages: Sequence[Message], link: Connection) -> None:
        """Keep their counters: the least that an application can do."""
        append = self.counters.append
        for message in messages:
            append(message.items[4][:8])

    def table_changed(self, table: Mapping[bytes, Connection]) -> None:
        """Remember who is there."""
        self.ever.update(dict.fromkeys(table.values()))

    def send(self, payloads: list[bytes]) -> None:
        """Send as a script does through its socket: what is there in one turn goes together."""
        factory = self.service.factory
        factory.sending.items.extend(
            compose(factory, flags.BROADCAST, flags.BROADCAST, (payload,)) for payload in payloads
        )
        factory.sending.pump()

    @property
    def links(self) -> list[Connection]:
        """Its connections."""
        return list(self.service.routing_table.values())


def _sleep(seconds: float) -> Deferred[None]:
    return deferLater(reactor, seconds)


class Mesh:
    """All nodes, and one transfer at a time."""

    def __init__(self) -> None:
        self.members: list[Member] = []
        self._number = 0

    async def grow(self) -> None:
        """Start extended nodes that join through earlier ones, and wait for a stable overlay."""
        rng = random.Random(SEED)
        for number in range(MEMBERS):
            known = rng.choice(self.members).service.address if self.members else None
            member = Member(number, peers=[known] if known else [])
            await member.service.start()
            self.members.append(member)
            if known:
                while not member.links:
                    await _sleep(0.02)
        edges, since = self.edges(), time.monotonic()
        begun = since
        while time.monotonic() - since < _STABLE and time.monotonic() - begun < _GROWING:
            await _sleep(0.1)
            if self.edges() != edges:
                edges, since = self.edges(), time.monotonic()

    async def link(self, edges: list[list[int]]) -> None:
        """Start plain nodes, and link them in this shape."""
        for number in range(MEMBERS):
            member = Member(number, extensions=False, max_outgoing=0)
            await member.service.start()
            self.members.append(member)
        for one, other in edges:
            await self.members[one].service.connect(*self.members[other].service.address)
        await _sleep(0.5)

    def edges(self) -> list[list[int]]:
        """The links that carry messages, as pairs of numbers: extended ones at both ends."""
        numbers = {member.service.id: number for number, member in enumerate(self.members)}
        ends = [
            (number, numbers[link.id])
            for number, member in enumerate(self.members)
            for link in member.links
            if link.id in numbers and (link.ext is None or link.ext.active)
        ]
        both = set(ends)
        return sorted([one, other] for one, other in ends if one < other and (other, one) in both)

    def _totals(self) -> dict[str, float]:
        """Counters that only grow, over all nodes."""
        links = [link for member in self.members for link in member.ever]
        counts = [member.service.factory.node.mesh.counters for member in self.members]
        return {
            "cpu": time.process_time(),
            "bytes": sum(link.bytes for link in links),
            "frames": sum(link.frames for link in links),
            "duplicates": sum(link.duplicates for link in links),
            "prunes": sum(count["prunes"] for count in counts),
            "grafts": sum(count["grafts"] for count in counts),
        }

    async def transfer(self, task: dict[str, Any]) -> dict[str, Any]:
        """
        Carry messages from some nodes to all others.

        :param task: ``size``, ``origins``, ``count`` of messages in all, ``rate`` a second or
            ``None`` for as many as possible with ``window`` on their way, ``warm`` messages of
            each origin before.
        """
        tail, origins = payload_tail(task["size"]), [self.members[one] for one in task["origins"]]
        for _ in range(task["warm"]):
            for origin in origins:
                origin.send([self._payload(tail)])
            await _sleep(_WARMING)
        await _sleep(_REST)
        for member in self.members:
            member.counters.clear()
        first, edges = self._number, self.edges()
        before, started = self._totals(), time.monotonic()
        if task["rate"]:
            await self._pace(origins, tail, task["count"], task["rate"])
        else:
            await self._flat_out(origins, tail, task["count"], task["window"])
        expected = task["count"] * (MEMBERS - 1)
        have, moved = -1, time.monotonic()
        while (now := self._delivered()) < expected and time.monotonic() - moved < _PATIENCE:
            if now != have:
                have, moved = now, time.monotonic()
            await _sleep(0.002)
        ended = time.monotonic()
        await _sleep(_REST)
        after = self._totals()
        return {
            "delivered": self._delivered(),
            "distinct": self._distinct(first, origins),
            "expected": expected,
            "seconds": ended - started,
            "reshaped": self.edges() != edges,
            **{name: after[name] - before[name] for name in before},
        }

    def _payload(self, tail: bytes) -> bytes:
        self._number += 1
        return COUNTER.pack(self._number - 1) + tail

    def _delivered(self) -> int:
        return sum(len(member.counters) for member in self.members)

    def _distinct(self, first: int, origins: list[Member]) -> int:
        """Deliveries that there should be, each counted once."""
        distinct = 0
        for member in self.members:
            sent = {
                COUNTER.pack(number)
                for number in range(first, self._number)
                if origins[(number - first) % len(origins)] is not member
            }
            distinct += len(sent.intersection(member.counters))
        return distinct

    async def _pace(self, origins: list[Member], tail: bytes, count: int, rate: float) -> None:
        """One after the other, each in its own turn of the reactor; late ones are made up for."""
        begun = time.monotonic()
        for number in range(count):
            delay = begun + number / rate - time.monotonic()
            await _sleep(max(0.0, delay))
            origins[number % len(origins)].send([self._payload(tail)])

    async def _flat_out(self, origins: list[Member], tail: bytes, count: int, window: int) -> None:
        """So many that ``window`` messages have not been received by everybody."""
        sent, moved, have = 0, time.monotonic(), 0
        share = max(1, window // 4)
        while sent < count and time.monotonic() - moved < _PATIENCE:
            delivered = self._delivered()
            if delivered != have:
                have, moved = delivered, time.monotonic()
            room = min(count - sent, window - (sent - delivered // (MEMBERS - 1)))
            if room >= min(share, count - sent):
                batch = [self._payload(tail) for _ in range(room)]
                for turn, origin in enumerate(origins):
                    mine = batch[(turn - sent) % len(origins) :: len(origins)]
                    if mine:
                        origin.send(mine)
                sent += room
            await _sleep(0)


class Conversation(LineReceiver):
    """What is said between this process and the runner."""

    delimiter = b"\n"

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh

    def say(self, what: str, **facts: Any) -> None:
        """Tell the runner something."""
        self.sendLine(json.dumps({"say": what, **facts}).encode())  # type: ignore[no-untyped-call]

    def lineReceived(self, line: bytes) -> None:
        """Do a transfer."""
        doing = ensureDeferred(self._mesh.transfer(json.loads(line)))
        doing.addCallbacks(lambda result: self.say("result", **result), self.failed)

    def failed(self, failure: Failure) -> None:
        """Something went wrong here."""
        failure.printTraceback(file=sys.stderr)
        self.say("failed", why=f"{type(failure.value).__name__}: {failure.value}")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The runner has gone, or wants this process to go."""
        os._exit(0)


def main() -> None:
    """Be the mesh that the command line names, until dismissed."""
    parser = argparse.ArgumentParser(description="a mesh in one process")
    parser.add_argument("role", choices=["extended", "flooding"])
    parser.add_argument("--edges", type=json.loads, help="links of plain nodes, as pairs, in JSON")
    parser.add_argument("--limit", type=float, required=True, help="seconds to live")
    task = parser.parse_args()
    # Whatever hangs, this process ends by itself and says where it stood.
    faulthandler.dump_traceback_later(task.limit, exit=True)
    mesh = Mesh()
    conversation = Conversation(mesh)
    StandardIO(conversation)
    making = ensureDeferred(mesh.grow() if task.role == "extended" else mesh.link(task.edges))
    making.addCallbacks(
        lambda _: conversation.say("ready", edges=mesh.edges()), conversation.failed
    )
    reactor.run()


if __name__ == "__main__":
    main()
