"""
What the core's tests stand on: frames made by hand, one node alone, and a world of nodes.

`Solo` is a node whose peers are played by the test, frame by frame. `World` joins real nodes by
wires on one clock that only the test turns. On each wire the bytes of one direction keep their
order; among wires and directions the test chooses, so that every interleaving can be tried::

    ada.node --Effects--> End ==incoming==> End --receive--> ben.node
             --Dial/Close/WakeAt--> World

Nothing in here sleeps, draws a number that is not seeded, or knows what time it really is.
"""

from __future__ import annotations

import random
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from struct import pack
from typing import Any, TypeVar

import msgpack

from py2p_twisted.core import compression, flags
from py2p_twisted.core.actions import Action, Close, Connected, ConnectFailed, Dial, Joined, WakeAt
from py2p_twisted.core.codec import decode
from py2p_twisted.core.connection import Connection, State
from py2p_twisted.core.message import Message, parse
from py2p_twisted.core.network import Address, Network, node_id
from py2p_twisted.core.node import Node
from py2p_twisted.core.settings import Settings
from py2p_twisted.errors import ConnectTimeout, MeshError, Unreachable

#: What everybody's clock says when a test begins, in seconds since 1970.
WALL = 1_700_000_000
#: And the monotonic clock.
START = 1000.0

MESH = Network("mesh")
#: What a 0.6 node on Python lists.
METHODS = (19, 17, 16, 18)

T = TypeVar("T")


# --- frames made by hand -------------------------------------------------------------


def frame(body: bytes) -> bytes:
    """A plain frame around a body, whatever that is."""
    return pack("!I", len(body) + 32) + sha256(body).digest() + body


def pack_body(*items: Any) -> bytes:
    """A body by msgpack itself, which writes more than a node may send."""
    return bytes(msgpack.packb(items, use_bin_type=True))


def raw(
    *payload: Any, flag: int = flags.BROADCAST, sender: bytes | str = b"Peer", time: Any = WALL
) -> bytes:
    """A plain frame with a message in it."""
    return frame(pack_body(flag, sender, time, *payload))


def whisper(*payload: Any, **options: Any) -> bytes:
    """A plain frame with a whisper in it."""
    return raw(*payload, flag=flags.WHISPER, **options)


def handshake(
    ident: bytes | str = b"Peer",
    *,
    network: str = MESH.id,
    address: Any = ("10.0.0.9", 4444),
    methods: Any = METHODS,
    time: Any = WALL,
) -> bytes:
    """A plain frame in which a node introduces itself."""
    return whisper(flags.HANDSHAKE, ident, network, address, methods, sender=ident, time=time)


def unwrap(data: bytes) -> Message:
    """The message in one frame of our own making, read as a plain node would read it."""
    content = data[4:]
    method = compression.looks_like(content, 0)
    if method is not None:
        content = compression.decompress(content, method, len(content) * 1100)
    return parse(content[:32], content[32:])


@contextmanager
def memory_peak() -> Iterator[Callable[[], int]]:
    """Bytes that the block allocates at its worst, as a function to call after it."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    peak = 0
    try:
        yield lambda: peak
    finally:
        peak = tracemalloc.get_traced_memory()[1] - before
        tracemalloc.stop()


def only(kind: type[T], actions: Iterable[object]) -> list[T]:
    """The actions of one kind."""
    return [action for action in actions if isinstance(action, kind)]


# --- one node, whose peers the test plays ---------------------------------------------------


class Sink:
    """
    What a node's data goes into, one by one.

    :ivar delivered: what the application would have got.
    """

    def __init__(self) -> None:
        self.delivered: list[tuple[Message, Connection]] = []

    def send(self, message: Message, link: Connection) -> None:
        raise NotImplementedError

    def relay(self, messages: Sequence[Message], links: Sequence[Connection]) -> None:
        for link in links:
            for message in messages:
                self.send(message, link)

    def deliver(self, messages: Sequence[Message], link: Connection) -> None:
        self.delivered.extend((message, link) for message in messages)

    @property
    def inbox(self) -> list[tuple[Any, ...]]:
        """The packets that were delivered, without their sub-flags."""
        return [message.payload[1:] for message, _ in self.delivered]


class Recorder(Sink):
    """
    An `Effects` that keeps what goes into it.

    :ivar written: what every peer would have got: (message, link), in the order of writing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.written: list[tuple[Message, Connection]] = []

    def send(self, message: Message, link: Connection) -> None:
        self.written.append((message, link))

    def to(self, link: Connection, sub: int | None = None) -> list[tuple[Any, ...]]:
        """What was written to a peer, or of that what has a certain sub-flag."""
        return [
            payload
            for message, receiver in self.written
            if receiver is link
            # What was held is given without having been read.
            for payload in (tuple(decode(message.body)[3:]),)
            if sub in (None, payload[0])
        ]


class Solo:
    """
    A node alone with the test.

    :ivar actions: everything that the node has decided.
    """

    def __init__(
        self, ident: bytes = b"Me", *, address: Address = ("10.0.0.1", 4444), **options: Any
    ) -> None:
        self.effects = Recorder()
        self.now = START
        self.actions: list[Action] = []
        self.node = Node(
            ident=ident,
            network=MESH,
            address=address,
            effects=self.effects,
            rng=random.Random(1),
            settings=Settings(**{"extensions": False, **options}),
        )

    @property
    def wall(self) -> float:
        return WALL + self.now - START

    def note(self, actions: Sequence[Action]) -> Sequence[Action]:
        """Keep what the node has decided."""
        self.actions += actions
        return actions

    def all(self, kind: type[T]) -> list[T]:
        """All decisions of one kind so far."""
        return only(kind, self.actions)

    def closed(self, link: Connection) -> MeshError | None:
        """Why the node has hung up on a peer, or ``None``."""
        errors = [action.error for action in self.all(Close) if action.link is link]
        return errors[0] if errors else None

    def accept(self, dial: Dial | None = None) -> Connection:
        """A transport has been connected."""
        link = self.node.link(dial, self.now)
        self.note(self.node.opened(link, self.now, self.wall))
        return link

    def receive(self, link: Connection, data: bytes) -> Sequence[Action]:
        """Bytes have come in."""
        actions = [*self.note(self.node.receive(link, data, self.now, self.wall))]
        while link.unread:
            actions += self.note(self.node.receive(link, b"", self.now, self.wall))
        return actions

    def peer(
        self, ident: bytes | str = b"Peer", *, dial: Dial | None = None, **said: Any
    ) -> Connection:
        """A peer that has introduced itself, by default after dialling us."""
        link = self.accept(dial)
        said.setdefault("time", int(self.wall))
        self.receive(link, handshake(ident, **said))
        return link

    def connect(self, address: Address, **options: Any) -> int:
        """The application asks for a connection."""
        token, actions = self.node.connect(address, self.now, self.wall, **options)
        self.note(actions)
        return token

    def lost(self, link: Connection, error: MeshError | None = None) -> None:
        """A transport is gone."""
        self.note(self.node.lost(link, error, self.now, self.wall))

    def refuse(self, dial: Dial, error: Exception | None = None) -> None:
        """A dial has come to nothing."""
        self.note(
            self.node.dial_failed(dial, error or ConnectionRefusedError(), self.now, self.wall)
        )

    def broadcast(self, *packets: Any) -> Message:
        """The application sends to everybody."""
        message = self.node.composer.compose(flags.BROADCAST, 0, packets, self.wall)
        self.node.broadcast([message], self.now)
        return message

    def reply(self, target: bytes | str, *packets: Any) -> int:
        """The application replies to somebody, wherever that is."""
        message = self.node.composer.compose(flags.WHISPER, 2, packets, self.wall)
        token, actions = self.node.reply(target, message, self.now, self.wall)
        self.note(actions)
        return token

    def advance(self, seconds: float) -> None:
        """Let time pass, waking the node whenever it wants to be woken."""
        target = self.now + seconds
        for _ in range(10_000):
            when = self.node.timers.next()
            if when is None or when > target:
                break
            self.now = max(self.now, when)
            self.note(self.node.woken(self.now, self.wall))
        else:
            raise AssertionError("the node wants to be woken without end")
        self.now = target


# --- a world of nodes ---------------------------------------------------------------------------

_END_OF_STREAM = None


class End:
    """
    One end of a wire: what a transport is to a real node.

    :ivar incoming: chunks on their way to this end, in order; at last the end of the stream.
    :ivar link: the core's side; ``None`` until the connection has been opened here.
    """

    def __init__(self, world: World, host: Host, dial: Dial | None) -> None:
        self.world = world
        self.host = host
        self.dial = dial
        self.link: Connection | None = None
        self.other: End
        self.incoming: deque[bytes | None] = deque()
        self.closed = False
        #: Whether the wire swallows what is written, as after a power loss.
        self.dead = False

    def open(self) -> None:
        """The transport is connected."""
        host, world = self.host, self.world
        self.link = host.node.link(self.dial, world.now)
        self.link.owner = self
        host.perform(host.node.opened(self.link, world.now, host.wall))

    def write(self, data: bytes) -> None:
        if not (self.closed or self.dead or self.other.closed):
            self.other.incoming.append(data)

    def close(self, flush: bool) -> None:
        """Hang up; without ``flush`` what is still on its way to the other end is lost."""
        if self.closed:
            return
        self.closed = True
        self.incoming.clear()
        if not flush:
            self.other.incoming.clear()
        if not self.dead and not self.other.closed:
            self.other.incoming.append(_END_OF_STREAM)

    def deliver(self) -> None:
        """Hand the next chunk, or the end of the stream, to the node."""
        host, world = self.host, self.world
        assert self.link is not None
        data = self.incoming.popleft()
        if data is not None:
            for chunk in world.chop(data):
                if self.closed:
                    return
                host.perform(host.node.receive(self.link, chunk, world.now, host.wall))
                while self.link.unread:
                    host.perform(host.node.receive(self.link, b"", world.now, host.wall))
            return
        self.lose(None)

    def lose(self, error: MeshError | None) -> None:
        """The transport is gone."""
        host = self.host
        self.closed = True
        self.incoming.clear()
        if self.link is not None:
            host.perform(host.node.lost(self.link, error, self.world.now, host.wall))


class Host(Sink):
    """
    One node of a world, and everything that it has decided.

    :ivar skew: seconds by which its wall clock is fast.
    :ivar dials: dials that wait to be carried out.
    """

    def __init__(
        self, world: World, name: str, address: Address, ident: bytes, **options: Any
    ) -> None:
        super().__init__()
        network = options.pop("network", MESH)
        self.world = world
        self.name = name
        self.address = address
        self.skew = 0.0
        self.actions: list[Action] = []
        self.dials: deque[Dial] = deque()
        self.wake: float | None = None
        self.node = Node(
            ident=ident,
            network=network,
            address=address,
            effects=self,
            rng=random.Random(name),
            settings=Settings(**{"extensions": False, **options}),
        )

    @property
    def wall(self) -> float:
        return WALL + self.world.now - START + self.skew

    @property
    def peers(self) -> set[str]:
        """The names of the nodes in the routing table."""
        return {self.world.name_of(ident) for ident in self.node.links.table}

    def all(self, kind: type[T]) -> list[T]:
        """All decisions of one kind so far."""
        return only(kind, self.actions)

    def closings(self) -> list[type[MeshError]]:
        """Why this node hung up, each time."""
        return [type(action.error) for action in self.all(Close)]

    # Effects

    def send(self, message: Message, link: Connection) -> None:
        if link.owner is not None:
            link.owner.write(link.policy.frame(message))

    # what the application does

    def connect(self, address: Address, **options: Any) -> int:
        token, actions = self.node.connect(address, self.world.now, self.wall, **options)
        self.perform(actions)
        return token

    def broadcast(self, *packets: Any) -> Message:
        message = self.node.composer.compose(flags.BROADCAST, 0, packets, self.wall)
        self.node.broadcast([message], self.world.now)
        return message

    def reply(self, target: bytes | str, *packets: Any) -> int:
        message = self.node.composer.compose(flags.WHISPER, 2, packets, self.wall)
        token, actions = self.node.reply(target, message, self.world.now, self.wall)
        self.perform(actions)
        return token

    def outcome(self, token: int) -> Connection | Exception | None:
        """What became of a `connect`: a link, an error, or nothing yet."""
        for action in self.actions:
            if isinstance(action, Connected) and action.token == token:
                return action.link
            if isinstance(action, ConnectFailed) and action.token == token:
                return action.error
        return None

    def close(self) -> None:
        self.perform(self.node.close(self.world.now, self.wall))

    # what a driver does

    def perform(self, actions: Sequence[Action]) -> None:
        """Carry out what the node has decided."""
        for action in actions:
            if isinstance(action, Dial):
                self.dials.append(action)
            elif isinstance(action, Close):
                if action.link.owner is not None:
                    action.link.owner.close(action.flush)
            elif isinstance(action, WakeAt):
                self.wake = action.when
                continue
            self.actions.append(action)
            if isinstance(action, Joined) and self.world.on_joined is not None:
                self.world.on_joined(self)


class World:
    """
    Nodes, wires, and a clock that is turned by hand.

    :ivar chop: how chunks are cut before they are handed to a node.
    :ivar on_joined: called with a node that has just got a peer.
    """

    def __init__(self, *names: str, **options: Any) -> None:
        self.now = START
        self.hosts: dict[str, Host] = {}
        self.ends: list[End] = []
        #: Addresses that swallow whoever dials them.
        self.silent: set[Address] = set()
        self.chop: Callable[[bytes], Iterable[bytes]] = lambda data: (data,)
        self.on_joined: Callable[[Host], None] | None = None
        for name in names:
            self.add(name, **options)

    def add(self, name: str, *, ident: bytes | None = None, **options: Any) -> Host:
        """Start another node; its address is 10.0.0.1 for the first, and so on."""
        address = (f"10.0.0.{len(self.hosts) + 1}", 4444)
        ident = ident or node_id(address, MESH.id, name)
        host = self.hosts[name] = Host(self, name, address, ident, **options)
        return host

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def name_of(self, ident: bytes) -> str:
        """Whose id this is."""
        return next((host.name for host in self.hosts.values() if host.node.id == ident), "?")

    # wires

    def wire(self, dialler: Host, dial: Dial, host: Host) -> tuple[End, End]:
        """Join two nodes by a wire, whose ends are still to be opened."""
        near, far = End(self, dialler, dial), End(self, host, None)
        near.other, far.other = far, near
        self.ends += [near, far]
        return near, far

    def link(self, *pairs: tuple[str, str]) -> None:
        """Have the first of each pair connect to the second, and let things settle."""
        for dialler, host in pairs:
            self[dialler].connect(self[host].address)
            self.settle()

    def between(self, one: str, other: str) -> list[End]:
        """The ends, at the first node, of live wires to the second."""
        return [
            end
            for end in self.ends
            if end.host is self[one] and end.other.host is self[other] and not end.closed
        ]

    def cut(self, one: str, other: str) -> None:
        """Break every wire between two nodes; both notice at once."""
        for end in self.between(one, other):
            far = end.other
            end.lose(Unreachable("cut"))
            if not far.closed:
                far.lose(Unreachable("cut"))

    def silence(self, one: str, other: str) -> None:
        """Have every wire between two nodes swallow what is written to it."""
        for end in self.between(one, other):
            end.dead = end.other.dead = True

    def remove(self, name: str) -> None:
        """Kill a node: its peers see their connections end, its address refuses dials."""
        host = self.hosts.pop(name)
        host.wake = None
        for end in [end for end in self.ends if end.host is host and not end.closed]:
            end.close(flush=False)

    # events

    def runnable(self) -> list[tuple[tuple[Any, ...], Callable[[], None]]]:
        """Everything that may happen next, by a name that says what it is."""
        events: list[tuple[tuple[Any, ...], Callable[[], None]]] = []
        for host in self.hosts.values():
            if host.dials:
                events.append((("dial", host.name), lambda host=host: self._dial(host)))
        for number, end in enumerate(self.ends):
            if end.host.name not in self.hosts:
                continue
            if end.link is None:
                if not end.closed:
                    events.append((("open", number), end.open))
            elif end.incoming and not end.closed:
                events.append((("read", number), end.deliver))
        return events

    def _dial(self, host: Host) -> None:
        dial = host.dials.popleft()
        target = next((it for it in self.hosts.values() if it.address == dial.address), None)
        error: Exception
        if dial.address in self.silent:
            error = ConnectTimeout("no answer")
        elif target is None:
            error = ConnectionRefusedError("nobody there")
        else:
            self.wire(host, dial, target)
            return
        host.perform(host.node.dial_failed(dial, error, self.now, host.wall))

    def settle(self, choose: Callable[[int], int] = lambda number: 0) -> None:
        """
        Let everything happen that needs no time.

        :param choose: of so many things that may happen next, which one does.
        """
        for _ in range(100_000):
            events = self.runnable()
            if not events:
                self.ends = [end for end in self.ends if not (end.closed and end.other.closed)]
                return
            events[choose(len(events))][1]()
        raise AssertionError("these nodes never come to rest")

    def advance(self, seconds: float) -> None:
        """Let time pass, and everything happen that it brings."""
        target = self.now + seconds
        self.settle()
        for _ in range(100_000):
            awake = [host for host in self.hosts.values() if host.wake is not None]
            host = min(awake, key=lambda it: it.wake or 0.0, default=None)
            if host is None or host.wake is None or host.wake > target:
                self.now = target
                return
            self.now = max(self.now, host.wake)
            host.wake = None
            host.perform(host.node.woken(self.now, host.wall))
            self.settle()
        raise AssertionError("these nodes wake up without end")

    def live_links(self, name: str) -> list[Connection]:
        """A node's connections that have not ended, in whatever state."""
        return [link for link in self[name].node.links if link.state is not State.CLOSED]


def interleavings(sequences: Sequence[Sequence[T]]) -> Iterator[list[T]]:
    """Every way to merge several sequences, each keeping its own order."""
    if not any(sequences):
        yield []
        return
    for index, sequence in enumerate(sequences):
        if sequence:
            rest = [*sequences[:index], sequence[1:], *sequences[index + 1 :]]
            for tail in interleavings(rest):
                yield [sequence[0], *tail]
