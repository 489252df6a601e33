"""
Extended peers for tests: played by hand towards a `Solo`, or real ones that can reach only some.

::

    Mesh.neighbour():  handshake, HELLO, NEIGHBOR  --> the node under test
    Net:               a World in which a dial comes through only between chosen nodes
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from py2p_twisted.core import flags
from py2p_twisted.core.connection import Connection
from py2p_twisted.core.extension import Kind
from py2p_twisted.core.message import Message
from tests.core.support import Solo, World, raw, whisper

NONCE = b"\0" * 8


def hello(version: Any = 1, caps: Any = 0, nonce: Any = NONCE, **options: Any) -> bytes:
    """The frame by which a peer announces the extension."""
    return whisper(flags.EXTENSION, 1, version, caps, nonce, **{"sender": b"", **options})


def ext(kind: Any, *fields: Any, **options: Any) -> bytes:
    """Any other frame of the extension."""
    number = int(kind) if isinstance(kind, Kind) else kind
    return whisper(flags.EXTENSION, number, *fields, **{"sender": b"", **options})


class Mesh(Solo):
    """A node that speaks mesh-ext, alone with the test."""

    def __init__(self, ident: bytes = b"Me", **options: Any) -> None:
        super().__init__(ident, **{"extensions": True, **options})

    @property
    def counters(self) -> Any:
        return self.node.mesh.counters

    def extended(self, ident: bytes = b"Ext", **said: Any) -> Connection:
        """A peer that has introduced itself and announced the extension."""
        link = self.peer(ident, **said)
        self.receive(link, hello(time=int(self.wall)))
        return link

    def neighbour(self, ident: bytes = b"Ext", **said: Any) -> Connection:
        """One that is in our active view."""
        link = self.extended(ident, **said)
        self.receive(link, ext(Kind.NEIGHBOR, 1))
        assert self.node.mesh.membership.is_active(link)
        return link

    def frames(self, link: Connection, kind: Kind | None = None) -> list[tuple[Any, ...]]:
        """Extension frames that were written to a peer, or those of one kind: their fields."""
        payloads = self.effects.to(link, flags.EXTENSION)
        if kind is None:
            return [(Kind(payload[1]), *payload[2:]) for payload in payloads]
        return [payload[2:] for payload in payloads if payload[1] == kind]

    def said(self, link: Connection, text: Any, **options: Any) -> Message:
        """A peer brings a broadcast; the message as the node holds it."""
        options.setdefault("time", int(self.wall))
        data = raw(0, text, **options)
        self.receive(link, data)
        return self.node.mesh.recent.held[data[4:20]]

    def answer(self, target: bytes | str, message: Message, *packets: Any) -> int:
        """The application replies to a message."""
        answer = self.node.composer.compose(flags.WHISPER, 2, packets, self.wall)
        token, actions = self.node.reply(target, answer, self.now, self.wall, answered=message.id)
        self.note(actions)
        return token


class Net(World):
    """
    A world in which not everybody can dial everybody.

    :ivar ways: pairs of nodes between which a dial comes through; ``None``: all.
    """

    def __init__(self, *names: str, **options: Any) -> None:
        self.ways: set[frozenset[str]] | None = None
        super().__init__(*names, **options)

    def add(self, name: str, **options: Any) -> Any:
        """Start another node; with ``extensions=False`` a plain one."""
        return super().add(name, **{"extensions": True, **options})

    def chain(self, *names: str) -> None:
        """Nobody but neighbours in this row can dial each other, and they do."""
        self.ways = {frozenset(pair) for pair in pairwise(names)}
        for one, other in pairwise(names):
            self[one].connect(self[other].address)
            self.advance(0.1)
        self.advance(4.0)

    def _dial(self, host: Any) -> None:
        dial = host.dials[0]
        target = next((it for it in self.hosts.values() if it.address == dial.address), None)
        if (
            self.ways is not None
            and target is not None
            and frozenset((host.name, target.name)) not in self.ways
        ):
            host.dials.popleft()
            error = ConnectionRefusedError("no way")
            host.perform(host.node.dial_failed(dial, error, self.now, host.wall))
            return
        super()._dial(host)

    def answer(self, name: str, text: Any, *packets: Any) -> int:
        """A node replies to the message with this text that it has got."""
        host = self[name]
        message = next(it for it, _ in host.delivered if it.payload[1:] == (text,))
        answer = host.node.composer.compose(flags.WHISPER, 2, packets, host.wall)
        token, actions = host.node.reply(
            message.sender, answer, self.now, host.wall, answered=message.id
        )
        host.perform(actions)
        return token
