"""
A model of plain py2p 0.6.757 nodes: neighbours that our own have to live with.

It speaks the real wire, over the same connections as our nodes, and does what the reference
does on Python 3, its faults included:

* relays to everybody but the *origin* of a message, so also back to who brought it;
* forgets ids after 60 seconds, and at once those of messages that are just that old; takes any
  stamp from the future, and none that is older;
* answers ``b'*'`` alone with its peers, hangs up on ``'*'``, and itself sends that around
  whenever a connection is gone: so one loss costs plain neighbours each other;
* dials entries of peers lists whose ids are text, one after the other, while it has fewer than
  four outgoing connections, and does nothing else meanwhile;
* resolves crossed connections so that often none is left;
* does not dial again, repair or ping; its kernel is told of no keepalive;
* takes 1,024 bytes at a time, and loses track when a read ends four bytes into a frame;
* a burst that does not fit into the socket's buffer is cut off.

Not modelled: the quadratic cost of its dedupe set, ``select``'s limit, renegotiation beyond hanging
up, what it does in the same read behind a dial (here at once, there after it).

Source: docs/protocol/wire.rst; faults R1 to R12; py2p 0.6.757, ``mesh.py``, ``base.py``.
"""

from __future__ import annotations

import zlib
from collections import Counter, deque
from collections.abc import Mapping
from hashlib import sha384
from typing import TYPE_CHECKING, Any, Final

from py2p_twisted.core import base58, compression, flags
from py2p_twisted.core.actions import Dial
from py2p_twisted.core.message import Message, as_bytes, build, parse
from py2p_twisted.core.network import Address
from py2p_twisted.errors import LinkError, MeshError, RemoteError
from py2p_twisted.simulation.machine import Birth, Machine
from py2p_twisted.simulation.wires import OPEN, WINDOW, End

if TYPE_CHECKING:
    from py2p_twisted.simulation.history import Sent

#: Outgoing connections up to which a peers list is followed. Source: ``mesh.max_outgoing``.
MAX_OUTGOING: Final = 4
#: Seconds that a message may be old, and is remembered. Source: ``handle_waterfall``.
MEMORY: Final = 60
#: Seconds that a connect may take. Source: ``MeshSocket.connect``.
CONNECT_TIMEOUT: Final = 1.0
#: Bytes of a read. Source: ``BaseDaemon.process_data``.
READ: Final = 1024
#: Seconds without a byte in the middle of a frame. Source: ``BaseDaemon.kill_old_nodes``.
STUCK: Final = 60.0
#: How long a kernel goes on sending to who does not answer. Source: Linux, tcp_retries2.
RETRIES: Final = 924.0
#: Without snappy, which the reference uses where it is installed.
METHODS: Final = (flags.ZLIB, flags.GZIP, flags.BZ2, flags.LZMA)

_LARGEST: Final = 64 * 1024 * 1024


class _Peer:
    """What the reference keeps of a connection."""

    __slots__ = (
        "active", "address", "buffer", "expected", "heard", "id", "methods", "outgoing",
        "watched",
    )  # fmt: skip

    def __init__(self, outgoing: bool) -> None:
        self.id: bytes | str = b""
        self.address: Any = None
        self.methods: list[int] = []
        self.outgoing = outgoing
        self.buffer = b""
        self.expected = 4
        self.active = False
        self.heard = 0.0
        self.watched = False


class _Raised(Exception):
    """Something that the reference's loop catches by hanging up on the peer."""


class PlainHost(Machine):
    """
    A machine with a plain 0.6 node.

    :ivar table: its routing table.
    :ivar awaiting: connections that have not introduced themselves.
    :ivar handled: messages of sub-flags that are the application's, or unknown, by sub-flag: they
        go to the user's handlers, which read the packet behind the sub-flag.
    :ivar frames: frames that have come in; ``duplicates``: those that it knew.
    """

    ours = False
    keepalive = 0.0
    user_timeout = RETRIES

    def __init__(self, birth: Birth) -> None:
        super().__init__(birth)
        self.table: dict[bytes | str, End] = {}
        self.awaiting: dict[End, None] = {}
        self.handled: Counter[Any] = Counter()
        self.frames = self.duplicates = self.bytes = 0
        #: Ids and stamps of what has been here.
        self.memory: dict[bytes, float] = {}
        self.requests: dict[bytes, tuple[Any, ...]] = {}
        self._cleaned = 0
        self._to_dial: deque[tuple[Address, bytes | None, tuple[Any, ...] | None]] = deque()
        self._dialling: tuple[bytes | None, tuple[Any, ...] | None] | None = None
        self._serial = 0
        self._rate = 0.0

    def traffic(self) -> tuple[int, int, int]:
        """Frames that have come in, duplicates among them, and bytes."""
        return self.frames, self.duplicates, self.bytes

    def sizes(self) -> Mapping[str, tuple[int, int]]:
        """What is bounded: its sockets' buffers."""
        return {f"buffer for {end.other.machine.name}": (end.size, WINDOW) for end in self.ends}

    @property
    def has_peers(self) -> bool:
        """Whether there is anybody in its routing table."""
        return bool(self.table)

    @property
    def stamp(self) -> int:
        """What it stamps: whole seconds since 1970."""
        return int(self.wall)

    # --- what users do ----------------------------------------------------------------------

    def connect(self, address: Address) -> None:
        """Connect, once."""
        self._to_dial.append((address, None, None))
        self._dial_next()

    def broadcast(self, packets: tuple[Any, ...]) -> Sent:
        """Send to everybody: equal messages of one second are one, as in the reference."""
        history = self.sim.history
        history.early = 0
        message = build(flags.BROADCAST, self.id, self.stamp, (flags.BROADCAST, *packets))
        sent = history.sending(message.id, self)
        self._tell_all(message)
        self.flush()
        return sent

    def reply(self, target: bytes | str, packets: tuple[Any, ...]) -> int:
        """Send to one node, wherever it is; what becomes of it nobody learns."""
        end = self.table.get(target)
        if end is not None:
            self._say(end, flags.WHISPER, flags.WHISPER, *packets)
        else:
            seed = as_bytes(target) + base58.encode(self.stamp)
            request = base58.encode(int.from_bytes(sha384(seed).digest(), "big"))
            self._tell_all(
                build(flags.BROADCAST, self.id, self.stamp, (flags.REQUEST, request, target))
            )
            self.requests[request] = (flags.WHISPER, flags.WHISPER, *packets)
        self.flush()
        return 0

    def leave(self) -> None:
        """Shut everything down."""
        for end in list(self.ends):
            end.close(True)

    # --- sending ----------------------------------------------------------------------------

    def _write(self, end: End, message: Message) -> None:
        """``sock.send``: what does not fit at once is lost."""
        room = WINDOW - end.written - end.size
        if room <= 0:
            self._disconnect(end)
            return
        end.put((_frame(message, end.link.methods)[:room],))

    def _say(self, end: End, flag: int, *payload: Any) -> None:
        message = build(flag, self.id, self.stamp, payload)
        self.memory.setdefault(message.id, message.time)
        if end.state == OPEN:
            self._write(end, message)

    def _tell_all(self, message: Message) -> None:
        ends = list(self.table.values())
        if ends:
            self.memory[message.id] = message.time
        for end in ends:
            self._write(end, message)
        self.sim.history.relayed((message,), len(ends))

    def _introduce(self, end: End) -> None:
        payload = (flags.HANDSHAKE, self.id, self.sim.network.id, list(self.address), list(METHODS))
        self._say(end, flags.WHISPER, *payload)

    def _send_peers(self, end: End) -> None:
        entries = [
            [list(other.link.address), ident]
            for ident, other in self.table.items()
            if other.link.address
        ]
        self.rng.shuffle(entries)
        self._say(end, flags.WHISPER, flags.PEERS, entries)

    def _request_peers(self) -> None:
        """As text: on Python 3 the reference hangs up on that."""
        for end in list(self.table.values()):
            self._say(end, flags.WHISPER, flags.REQUEST, "*")

    # --- connections --------------------------------------------------------------------------

    def opened(self, end: End) -> None:
        """A connection has been made."""
        end.opened()
        end.link = _Peer(end.dial is not None)
        if end.dial is None:
            self._introduce(end)
            self.awaiting[end] = None
            self.flush()
            return
        expected, then = self._dialling or (None, None)
        self._introduce(end)
        if expected is None:
            self.awaiting[end] = None
        else:
            self._enter(expected, end)
        if then is not None:
            self._say(end, *then)
        self._dialled()

    def dial_failed(self, outcome: tuple[Dial, Exception]) -> None:
        """It printed something, at best."""
        self._dialled()

    def _dialled(self) -> None:
        self._dialling = None
        self.flush()
        super().read_slowly(self._rate)
        self._dial_next()

    def _dial_next(self) -> None:
        """Connect to the next address; nothing else is done meanwhile."""
        while self._to_dial and self._dialling is None and self.alive:
            address, expected, then = self._to_dial.popleft()
            if address == self.address or (expected is not None and expected in self.table):
                continue
            if expected is not None and then is None and self._outgoing() >= MAX_OUTGOING:
                continue
            self._serial += 1
            self._dialling = (expected, then)
            super().read_slowly(-1.0)
            self.sim.dial(self, Dial(address, expected, CONNECT_TIMEOUT, self._serial))

    def _outgoing(self) -> int:
        return sum(end.link.outgoing for end in self.table.values())

    def read_slowly(self, rate: float) -> None:
        """Read as many bytes a second from now on."""
        self._rate = rate
        if self._dialling is None:
            super().read_slowly(rate)

    def _enter(self, ident: bytes | str, end: End) -> None:
        self.table[ident] = end
        if self.joined is None:
            self.joined = self.sim.now

    def _disconnect(self, end: End) -> None:
        peer = end.link
        if end in self.awaiting:
            del self.awaiting[end]
        elif self.table.get(peer.id) is end:
            del self.table[peer.id]
        self.closings["disconnected"] += 1
        end.close(True)

    def ended(self, end: End, error: MeshError | None) -> None:
        """A transport is gone: forget the peer, and ask around in the way that makes it worse."""
        if not self._selects(end):
            return
        self._disconnect(end)
        for ident in [ident for ident, other in self.table.items() if other is end]:
            del self.table[ident]  # entered under an id that was expected
        self.sim.history.note("down", self, end.other.machine)
        self._request_peers()
        self.flush()

    def too_slow(self, what: tuple[End, LinkError]) -> None:
        """Nothing notices that."""

    def _selects(self, end: End) -> bool:
        """Whether this connection is looked at, at all."""
        return end in self.awaiting or any(other is end for other in self.table.values())

    # --- reading ----------------------------------------------------------------------------------

    def received(self, end: End, data: bytes) -> None:
        """Bytes have come in."""
        end.heard = self.sim.now
        self.bytes += len(data)
        peer: _Peer = end.link
        if not self._selects(end):
            return
        peer.heard = self.sim.now
        try:
            for start in range(0, len(data), READ):
                self._collect(end, peer, data[start : start + READ])
                if end.state != OPEN:
                    break
        except _Raised:
            self._disconnect(end)
            self._request_peers()
        if peer.active and not peer.watched:
            peer.watched = True
            self.sim.at(self.sim.now + STUCK, self._look, end)
        self.flush()

    def _look(self, end: End) -> None:
        """Give up a connection that has been silent in the middle of a frame."""
        peer: _Peer = end.link
        peer.watched = False
        if end.state != OPEN or not peer.active or not self.alive:
            return
        left = peer.heard + STUCK - self.sim.now
        if left <= 0:
            self._disconnect(end)
        else:
            peer.watched = True
            self.sim.at(self.sim.now + left, self._look, end)

    def _collect(self, end: End, peer: _Peer, data: bytes) -> None:
        peer.buffer += data
        if not peer.active and len(peer.buffer) >= peer.expected:
            peer.expected = int.from_bytes(peer.buffer[:4], "big") + 4
            peer.active = True
        while len(peer.buffer) >= peer.expected:
            raw, peer.buffer = peer.buffer[: peer.expected], peer.buffer[peer.expected :]
            # Four bytes that are left over are taken for a whole frame.
            peer.active = len(peer.buffer) > 4
            size = int.from_bytes(peer.buffer[:4], "big") + 4 if peer.active else 4
            peer.expected = size
            self._read(end, peer, raw)
            if end.state != OPEN:
                return

    def _read(self, end: End, peer: _Peer, raw: bytes) -> None:
        self.frames += 1
        content = raw[4:]
        if len(content) != int.from_bytes(raw[:4], "big") or len(content) < 32:
            raise _Raised
        if content[:32] in self.memory:
            self.duplicates += 1  # it would find that out later, and do the same
            return
        method = compression.looks_like(content, 0)
        try:
            if method is not None and method in peer.methods:
                content = compression.decompress(content, method, _LARGEST)
                if content[:32] in self.memory:
                    self.duplicates += 1
                    return
            message = parse(content[:32], content[32:])
        except RemoteError:
            raise _Raised from None
        self._handle(end, peer, message)

    def _handle(self, end: End, peer: _Peer, message: Message) -> None:
        flag = message.flag
        if flag == flags.BROADCAST:
            if message.time < self.stamp - MEMORY:
                return
            self._pass_on(message)
        elif flag == flags.RENEGOTIATE:
            raise _Raised
        payload = message.payload
        sub = payload[0]
        if sub == flags.HANDSHAKE and len(payload) == 5:
            self._introduced(end, peer, payload)
        elif sub == flags.PEERS:
            self._read_peers(payload)
        elif sub == flags.RESPONSE:
            self._answered(payload)
        elif sub == flags.REQUEST:
            self._asked(end, payload)
        elif sub in (flags.BROADCAST, flags.WHISPER):
            self.sim.history.delivered(self, (message,), end.other.machine)
        else:
            self.handled[sub] += 1
            if len(payload) < 2:
                raise _Raised  # a handler as the documents show it reads the next packet

    def _pass_on(self, message: Message) -> None:
        """Remember a message, and relay it to all but the node that says it has made it."""
        receivers = [end for end in self.table.values() if end.link.id != message.sender]
        for end in receivers:
            self._write(end, message)
        self.sim.history.relayed((message,), len(receivers))
        oldest = self.stamp - MEMORY
        if oldest != self._cleaned:
            self._cleaned = oldest
            self.memory = {ident: time for ident, time in self.memory.items() if time > oldest}
        if message.time > oldest:
            self.memory[message.id] = message.time

    # --- built-in handlers ------------------------------------------------------------------------

    def _introduced(self, end: End, peer: _Peer, payload: tuple[Any, ...]) -> None:
        _, ident, network, address, methods = payload
        if network != self.sim.network.id:
            self._disconnect(end)
            return
        old = self.table.get(ident, end)
        first = peer.address is None and not self.table
        if not first and old is not end:
            greater = base58.decode(self.id) > base58.decode(as_bytes(ident))
            if greater != peer.outgoing:
                # This one is to go. The reference stores it all the same, cannot write to it,
                # and drops it: nothing refers to either connection any more.
                self._disconnect(end)
                del self.table[ident]
                old.close(True)
                return
            self._disconnect(old)
        peer.id, peer.address, peer.methods = ident, address, list(methods)
        self.awaiting.pop(end, None)
        self._enter(ident, end)
        self.sim.history.note("up", self, end.other.machine)
        self._send_peers(end)

    def _read_peers(self, payload: tuple[Any, ...]) -> None:
        for entry in payload[1]:
            (host, port), ident = entry
            if isinstance(ident, str) and self._outgoing() < MAX_OUTGOING:  # bytes: no `encode`
                self._to_dial.append(((host, port), ident.encode(), None))
        self._dial_next()

    def _answered(self, payload: tuple[Any, ...]) -> None:
        whisper = self.requests.pop(payload[1], None)
        if whisper is not None:
            (host, port), ident = payload[2]
            if ident in self.table:
                self._say(self.table[ident], *whisper)
            else:
                self._to_dial.append(((host, port), ident, whisper))
                self._dial_next()

    def _asked(self, end: End, payload: tuple[Any, ...]) -> None:
        if payload[1] == b"*":
            self._send_peers(end)
            return
        if len(payload) < 3:
            raise _Raised
        known = self.table.get(payload[2])
        if known is not None:
            found = [known.link.address, payload[2]]
            self._say(end, flags.BROADCAST, flags.RESPONSE, payload[1], found)


def _frame(message: Message, methods: list[int]) -> bytes:
    """A frame as the reference makes it: with the first codec in common, however small."""
    method = compression.choose(METHODS, methods)
    frames = message.frames
    if frames is None:
        frames = message.frames = {}
    key = ("0.6", method)
    frame = frames.get(key)
    if frame is None:
        content = message.content
        if method == flags.ZLIB:
            content = zlib.compress(content)
        elif method is not None:
            content = compression.compress(content, method)
        frame = frames[key] = len(content).to_bytes(4, "big") + content
    return frame
