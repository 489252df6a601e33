"""
One peer's life on one connection: greeting, handshake, conversation.

Both ends send their handshake at once and wait for the other's; until it has come nothing
else is accepted. Legal moves are the rows of `TRANSITIONS`; what has no row is illegal.

::

                 handshake                     a better connection
    GREETING ----------------> OPEN ----------------------------------> DRAINING
        |                       |  handshake (the same), messages,          |
        |                       |  renegotiation                            |  still read,
        +----------> CLOSED <---+------------------------------------------+   not written

Frames are read in place. A message's id is looked up in the seen cache before anything is
hashed or decoded, so a duplicate costs a slice and a probe. What is wrong with the stream
or the conversation is raised as a `LinkError`; what is wrong with one message's content is
counted, and the link goes on.

Source: docs/protocol/wire.rst, "Life of a connection", "Handshake", "Renegotiation".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, Protocol

from msgpack import unpackb

from py2p_twisted.core import compression, flags
from py2p_twisted.core.codec import NARROW, SCALARS, encode_aligned
from py2p_twisted.core.framing import MAX_GREETING, SMALLEST_FRAME, FrameDecoder, largest_frame
from py2p_twisted.core.message import MAX_ID, Message, as_bytes, parse
from py2p_twisted.core.network import Address
from py2p_twisted.core.policy import PlainPolicy, Policy
from py2p_twisted.errors import (
    BadCompression,
    ChecksumMismatch,
    ContentError,
    FrameTooLarge,
    HandshakeError,
    IdentityChanged,
    IllegalInState,
    RenegotiationLoop,
    TooManyContentErrors,
)

if TYPE_CHECKING:
    from py2p_twisted.core.actions import Dial
    from py2p_twisted.core.extended import Extended
    from py2p_twisted.core.seen import SeenCache
    from py2p_twisted.core.settings import Settings
    from py2p_twisted.core.timers import Timer

_HEAD: Final = compression.FRAME_HEAD
_size_at = Struct("!I").unpack_from

#: How much may come out of one read in one turn of the reactor, besides its plain bytes:
#: bytes by inflating, and values (which count as so many) in lists and dicts. Then others
#: have their turn: 64 KiB can hold 800 frames that are 8 MiB each when inflated.
WORK: Final = 64 * 1024
_WORK_OF_A_VALUE: Final = 8

#: Frames from this size on are hashed and decoded in place; below it a copy is cheaper
#: than a view (measured; see docs/design.rst, "Speed").
_VIEW_FROM: Final = 16 * 1024

#: Bytes of a frame around its content, at most.
_AROUND: Final = 64

#: The main flag of a whisper, in a body behind the head of its array.
_WHISPER: Final = bytes([flags.WHISPER])

#: Compression methods that a handshake or renegotiation may list; there are 17 known ones.
_MOST_METHODS: Final = 64


class State(Enum):
    """Where a connection is in its life."""

    GREETING = "greeting"
    OPEN = "open"
    DRAINING = "draining"
    CLOSED = "closed"


class Kind(Enum):
    """What the state table tells apart."""

    HANDSHAKE = "handshake"
    RENEGOTIATION = "renegotiation"
    MESSAGE = "message"


#: Every legal move. A pair without a row ends the connection.
TRANSITIONS: Final[dict[State, dict[Kind, State]]] = {
    State.GREETING: {Kind.HANDSHAKE: State.OPEN},
    State.OPEN: {
        Kind.HANDSHAKE: State.OPEN,
        Kind.RENEGOTIATION: State.OPEN,
        Kind.MESSAGE: State.OPEN,
    },
    State.DRAINING: {
        Kind.HANDSHAKE: State.DRAINING,
        Kind.RENEGOTIATION: State.DRAINING,
        Kind.MESSAGE: State.DRAINING,
    },
    State.CLOSED: {},
}


@dataclass(frozen=True, slots=True)
class Handshake:
    """
    How a peer introduces itself.

    :ivar id: its node id, as bytes.
    :ivar raw_id: the same in the type it was sent in.
    :ivar network: its protocol id.
    :ivar address: where it says it can be dialled; ``None`` when that makes no sense.
    :ivar methods: compression methods it understands.
    :ivar stamp: what its clock says, in seconds since 1970.
    """

    id: bytes
    raw_id: bytes | str
    network: str
    address: Address | None
    methods: tuple[int, ...]
    stamp: float


class Router(Protocol):
    """Who acts on what a connection has read: the node."""

    #: Called with a debug level, a format and its arguments, when set.
    trace: Callable[..., None] | None

    @property
    def relays(self) -> bool:
        """Whether there is anybody to relay to, so that received frames are worth keeping."""

    def introduced(self, link: Connection, handshake: Handshake) -> None:
        """A first, well-formed handshake has come."""

    def timely(self, stamp: float) -> bool:
        """Whether a broadcast's stamp is of our time."""

    def received_run(
        self, link: Connection, messages: Sequence[Message], shorts: Sequence[bytes]
    ) -> None:
        """Broadcasts for the application have come, checked, new, and noted as seen."""

    def received(self, link: Connection, message: Message) -> None:
        """An ordinary message has come; a broadcast among them is not in the seen cache."""

    def repeated(self, link: Connection, idents: Sequence[bytes]) -> None:
        """An extended peer has brought messages that had come before."""

    def congestion_changed(self, link: Connection) -> None:
        """A link has become congested, or is not any more."""

    def dropped(self, link: Connection, error: ContentError) -> None:
        """A message was unusable."""


class Connection:
    """
    What is known about one peer on one connection, and how its bytes are read.

    :ivar id: the peer's id, ``b""`` until it has introduced itself.
    :ivar raw_id: the same in the type in which the peer announced it.
    :ivar address: where the peer says it can be dialled, or ``None``.
    :ivar methods: the compression methods it listed.
    :ivar ahead: seconds that its clock was ahead of ours when it introduced itself.
    :ivar outgoing: whether we dialled.
    :ivar dial: what led to it, if we dialled.
    :ivar policy: the rules towards this peer.
    :ivar owner: free for whoever drives the node, such as its transport.
    :ivar since: when the transport was connected; monotonic seconds, as all times here.
    :ivar heard: when bytes last came in.
    :ivar frames: how many have come in.
    :ivar bytes: how many bytes have come in.
    :ivar duplicates: frames among them that had come before, from whomever.
    :ivar drops: messages that were of no use, by reason.
    :ivar onward: whether what came last has gone on to others as it was, not just announced. Frames
        are kept for that; who was mistaken makes them anew.
    """

    def __init__(
        self,
        router: Router,
        seen: SeenCache,
        settings: Settings,
        *,
        dial: Dial | None,
        now: float,
    ) -> None:
        self.id = b""
        self.raw_id: bytes | str = b""
        self.address: Address | None = None
        self.methods: tuple[int, ...] = ()
        self.ahead = 0.0
        self.outgoing = dial is not None
        self.dial = dial
        self._state = State.GREETING
        self._talking = False
        self.policy: Policy = PlainPolicy()
        #: What mesh-ext keeps of the peer; ``None`` while it has not announced it.
        self.ext: Extended | None = None
        self._congested = False
        self.owner: Any = None
        self.since = self.heard = now
        self.frames = self.bytes = self.duplicates = 0
        #: Whether whole frames are left for the next turn: call `receive_data` again.
        self.unread = False
        self.drops: Counter[str] = Counter()
        self.onward = True
        #: Peers lists that the peer was asked for and has not sent yet.
        self.lists_awaited = 0
        #: When an unasked list was last used.
        self.list_used = float("-inf")
        #: The deadline of the handshake, of a probe, of draining: never two at once.
        self.deadline: Timer | None = None
        #: The deadline of an unfinished frame.
        self.progress: Timer | None = None
        #: A newer connection to the same peer that waits for this one to prove alive.
        self.standby: Connection | None = None
        #: What was last sent, for a peer that asks for it again.
        self.last_sent: Message | None = None
        self._resent = float("-inf")
        self._router = router
        self._seen = seen.ids
        self._refuse = seen.refuse
        self._note = seen.added
        self._settings = settings
        self._decoder = FrameDecoder(MAX_GREETING)
        # checksum and body
        self._largest = self._most = settings.max_message + 32
        self._renegotiations = 0
        self._errors_allowed = float(settings.content_errors)
        self._errors_at = now
        self._wanted_again: Callable[[Connection], None] | None = None

    def __repr__(self) -> str:
        who = repr(self.id[:8])[2:-1] or "?"
        return f"<Connection {'to' if self.outgoing else 'from'} {who} {self.state.value}>"

    @property
    def state(self) -> State:
        """Where it is in its life."""
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        self._state = state
        # Looked up once here, not for every message.
        self._talking = Kind.MESSAGE in TRANSITIONS[state]

    @property
    def congested(self) -> bool:
        """
        Whether so much waits to be written to the peer that it should get no more.

        The driver sets it, and calls ``Node.drained`` when it has become ``False``. Extended
        peers are told later what they have missed.
        """
        return self._congested

    @congested.setter
    def congested(self, congested: bool) -> None:
        if congested != self._congested:
            self._congested = congested
            self._router.congestion_changed(self)

    # --- reading -----------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Bytes of an unfinished frame that are held."""
        return self._decoder.waiting

    def receive_data(self, data: bytes, now: float) -> None:
        """
        Read what the transport delivered, however it was cut.

        What takes long is left, `unread`, for another call with no data.

        :param now: monotonic seconds.
        :raises LinkError: the connection cannot go on; what came before has been dealt with.
        """
        if not TRANSITIONS[self._state]:
            return  # closed: a peer may go on sending while the last of our own is being written
        self.heard = now
        self.bytes += len(data)
        decoder, seen, router = self._decoder, self._seen, self._router
        trace = router.trace
        decoder.receive_data(data)
        if self._talking and trace is None:
            while self._read_run(now):
                pass
        self.unread = False
        work = 0
        copies: list[bytes] = []
        for chunk, start, stop in decoder.frames():
            if work >= WORK:
                decoder.read_to(start - 4)
                self.unread = True
                break
            self.frames += 1
            begin, end = start, stop
            # Most frames are stored zlib streams: look through the wrapping.
            if chunk[start] == 0x78 and (place := compression.unwrap_stored(chunk, start, stop)):
                begin, end = place
            ident = chunk[begin : begin + 32]
            if ident in seen:
                self.duplicates += 1
                copies.append(ident)
                if trace is not None:
                    trace(3, "not relaying again: {}", ident.hex())
                continue
            try:
                message = self._read(chunk, start, stop, begin, end, ident)
            except ContentError as error:
                work += WORK // 4
                self._tolerate(error, error.message_id, now)
                continue
            if message.values:
                work += _WORK_OF_A_VALUE * message.values
            inflated = len(message.body) - (stop - start)
            if inflated > 0 or message is _DUPLICATE:
                # (A duplicate that had to be inflated has no body any more.)
                work += max(inflated, WORK if message is _DUPLICATE else 0)
            try:
                items = message.items
                if items[0] == flags.BROADCAST and len(message.body) + 32 > self._most:
                    raise FrameTooLarge(len(message.body) + 32, self._most)
                if self._talking and items[0] != flags.RENEGOTIATE and items[3] != flags.HANDSHAKE:
                    router.received(self, message)
                else:
                    self._dispatch(message, now)
            except ContentError as error:
                self._tolerate(error, message.id, now)
            if self._state is State.CLOSED:
                return
        if copies and self.ext is not None:
            router.repeated(self, copies)

    def _read_run(self, now: float) -> bool:
        """
        Read ordinary broadcasts, one after the other, and route them together.

        Ordinary: in a plain frame, small, flat, of a known time, for the application. The
        first frame that is anything else ends the run and is left to the careful way, which
        does the same and knows what is wrong. (Half the time of a busy node is spent in
        this loop: everything it needs is looked up before it begins.)

        :return: whether there may be another run behind this one.
        """
        decoder, seen, router = self._decoder, self._seen, self._router
        data, start = decoder.chunk()
        begun, end = start, len(data)
        most = min(_VIEW_FROM, self._most + 1)
        # At the end of a branch nothing goes on, and frames need not be kept for that.
        timely, keep = router.timely, self.onward and router.relays
        broadcast: object = flags.BROADCAST
        # A local name is found faster than a global one.
        digest_of, narrow, scalars = sha256, NARROW, SCALARS
        fresh: list[Message] = []
        idents: list[bytes] = []
        copies: list[bytes] = []
        stamp_before: object = None
        while end - start > _HEAD:
            (size,) = _size_at(data, start)
            stop = start + 4 + size
            if stop > end or not SMALLEST_FRAME + 1 < size < most:
                break
            ident = data[start + 4 : start + _HEAD]
            if ident in seen:
                copies.append(ident)
                start = stop
                continue
            if data[start + _HEAD + 1 : start + _HEAD + 2] == _WHISPER:
                break  # as most frames of an extended peer begin that are no broadcasts
            body = data[start + _HEAD : stop]
            if digest_of(body).digest() != ident:
                break
            try:
                items = unpackb(body, use_list=False, max_array_len=narrow, max_map_len=narrow)
                if len(items) == 5:
                    flag, sender, stamp, sub, packet = items
                    flat = type(packet) in scalars
                else:
                    flag, sender, stamp, sub = items[:4]
                    flat = scalars.issuperset(map(type, items))
            except (ValueError, TypeError, KeyError):
                break
            if flag is not broadcast or sub is not broadcast or not flat:
                break
            if type(sender) is not bytes or len(sender) > MAX_ID or type(stamp) is not int:
                break
            if stamp != stamp_before:
                if not timely(stamp):
                    break
                stamp_before = stamp
            message = Message(ident, body, items)
            if keep:
                # Off the grid of eight only extended peers take it as it is.
                method = None if (size + 4) % compression.GRID else flags.ZLIB
                message.frames = {method: data[start:stop]}
            seen[ident] = None
            idents.append(ident)
            fresh.append(message)
            start = stop
        decoder.read_to(start)
        if copies:
            self.duplicates += len(copies)
            self.frames += len(copies)
            if self.ext is not None:
                router.repeated(self, copies)
        if fresh:
            self.frames += len(fresh)
            router.received_run(self, fresh, self._note(idents, now))
        return start == end and start != begun

    def _read(
        self, chunk: bytes, start: int, stop: int, begin: int, end: int, ident: bytes
    ) -> Message:
        """Check and decode a frame; ``begin`` and ``end`` are those of its probable content."""
        if begin == start and compression.looks_like(chunk, start) is not None:
            return self._read_compressed(chunk, start, stop)
        if end - begin > self._largest:
            raise FrameTooLarge(end - begin, self._largest)
        body: bytes | memoryview
        # Nor may a view keep everything else alive that came with it: applications keep messages.
        if end - begin < _VIEW_FROM or len(chunk) > stop - start + _AROUND:
            body = chunk[begin + 32 : end]
        else:
            body = memoryview(chunk)[begin + 32 : end]
        if begin == start:
            message = parse(ident, body)
            if self._router.relays:
                method = None if (stop - start + 4) % compression.GRID else flags.ZLIB
                message.frames = {method: chunk[start - 4 : stop]}
            return message
        try:
            message = parse(ident, body)
        except ChecksumMismatch:
            # By a rare chance a plain checksum looks like a stored stream.
            return parse(chunk[start : start + 32], chunk[start + 32 : stop])
        if (
            self._router.relays
            and not (stop - start + 4) % compression.GRID
            and compression.stored_is_sound(chunk, begin, end, stop)
        ):
            message.frames = {flags.ZLIB: chunk[start - 4 : stop]}
        return message

    def _read_compressed(self, chunk: bytes, start: int, stop: int) -> Message:
        method = compression.looks_like(chunk, start)
        limit = self._largest if self.id else MAX_GREETING
        try:
            content = compression.decompress(memoryview(chunk)[start:stop], method or 0, limit)
        except BadCompression:
            try:
                # By a rare chance a plain checksum looks like a compressed stream.
                if stop - start <= self._largest:
                    return parse(chunk[start : start + 32], chunk[start + 32 : stop])
            except ChecksumMismatch:
                pass
            raise
        ident = content[:32]
        if ident in self._seen:
            return _DUPLICATE
        message = parse(ident, memoryview(content)[32:])
        if method == flags.ZLIB and self._router.relays:
            # What came compressed goes on compressed, without doing the work again.
            if (stop - start + 4) % compression.GRID:
                message.frames = {flags.ZLIB: compression.wrap_compressed(chunk[start:stop])}
            else:
                message.frames = {flags.ZLIB: chunk[start - 4 : stop]}
        return message

    def _dispatch(self, message: Message, now: float) -> None:
        """Find the row of the state table, and act."""
        if message is _DUPLICATE:
            self.duplicates += 1
            if self._router.trace is not None:
                self._router.trace(3, "not relaying again: a message that came compressed")
            return
        flag, sub = message.items[0], message.items[3]
        if flag == flags.RENEGOTIATE:
            kind = Kind.RENEGOTIATION
        elif sub == flags.HANDSHAKE and flag != flags.BROADCAST:
            kind = Kind.HANDSHAKE
        else:
            kind = Kind.MESSAGE
        after = TRANSITIONS[self._state].get(kind)
        if after is None:
            raise IllegalInState(f"a {kind.value} came while {self._state.value}")
        if kind is Kind.MESSAGE:
            self._router.received(self, message)
            return
        if self._router.trace is not None:
            self._router.trace(1, "message received: {}", message)
        if kind is Kind.HANDSHAKE:
            self._introduce(message)
        else:
            self._renegotiate(message, now)

    def _tolerate(self, error: ContentError, ident: bytes, now: float) -> None:
        """
        Count a message that cannot be used.

        Its checksum was right, so its id is remembered: the copies that other neighbours
        bring cost nothing, and nobody is blamed twice.
        """
        self._refuse(ident)
        self.drops[error.reason] += 1
        allowed = self._settings.content_errors
        refill = (now - self._errors_at) * allowed / 60.0
        self._errors_at = now
        self._errors_allowed = min(allowed, self._errors_allowed + refill) - 1
        if self.state is State.GREETING:
            raise HandshakeError(f"the first message is unusable: {error}") from error
        if self._errors_allowed < 0:
            raise TooManyContentErrors(
                f"more than {allowed} unusable messages a minute, the last one: {error}"
            ) from error
        self._router.dropped(self, error)

    # --- handshake ---------------------------------------------------------------

    def _introduce(self, message: Message) -> None:
        payload = message.payload
        if len(payload) != 5:
            if self.state is State.GREETING:
                raise HandshakeError(f"a handshake has 5 items, not {len(payload)}")
            return  # ignored, as 0.6 does
        handshake = read_handshake(message)
        if not self.id:
            self._router.introduced(self, handshake)
            return
        # JavaScript nodes introduce themselves twice.
        if handshake.id != self.id:
            raise IdentityChanged(self.id, handshake.id)
        self.agree(handshake)

    def agree(self, handshake: Handshake) -> None:
        """Take over what the peer says of itself."""
        self.id = handshake.id
        self.raw_id = handshake.raw_id
        self.address = handshake.address or self.address
        self.methods = handshake.methods
        self.policy.negotiate(handshake.methods)

    def forget(self) -> None:
        """It is closed: keep nothing of what was read and written."""
        self._decoder.clear()
        self.last_sent = None
        self.unread = False

    def opened(self) -> None:
        """The peer is accepted: from now on frames of any legal size may come."""
        self.state = State.OPEN
        self._decoder.limit = largest_frame(self._settings.max_message)

    def allow(self, size: int) -> None:
        """Accept frames between neighbours of so many bytes, even if messages may have fewer."""
        self._largest = max(self._largest, size + 32)
        self._decoder.limit = largest_frame(self._largest - 32)

    # --- renegotiation -----------------------------------------------------------

    def _renegotiate(self, message: Message, now: float) -> None:
        """
        Do what a peer asks about the form of what we send it. We never ask ourselves.

        ``[1, [methods]]``: use these from now on. ``[9]``: send the last message again.
        """
        self._renegotiations += 1
        if self._renegotiations > self._settings.renegotiations:
            raise RenegotiationLoop(
                f"more than {self._settings.renegotiations} renegotiations on one connection"
            )
        payload = message.payload
        if payload[0] == flags.COMPRESSION and len(payload) > 1:
            self.policy.negotiate(read_methods(payload[1]))
        elif payload[0] == flags.RESEND and self._wanted_again and now - self._resent >= 1.0:
            self._resent = now
            self._wanted_again(self)

    def on_resend(self, action: Callable[[Connection], None]) -> None:
        """Have ``action`` called when the peer wants `last_sent` again."""
        self._wanted_again = action


#: Stands for a message whose id, once inflated, turned out to have been seen.
_DUPLICATE: Final = Message(b"", b"", (flags.RENEGOTIATE, b"", 0, 0))


def read_handshake(message: Message) -> Handshake:
    """
    Understand a handshake's five items.

    :raises HandshakeError: an item has a type that 0.6 does not know.
    """
    _, raw_id, network, address, methods = message.payload
    if not isinstance(raw_id, (bytes, str)) or not 0 < len(raw_id) <= MAX_ID:
        raise HandshakeError(f"an id is a text of 1 to {MAX_ID} characters, not {raw_id!r:.80}")
    if not isinstance(network, (bytes, str)):
        raise HandshakeError(f"a protocol id is a text, not {network!r:.80}")
    if isinstance(network, bytes):
        network = network.decode("utf-8", "replace")
    return Handshake(
        as_bytes(raw_id),
        raw_id,
        network[:MAX_ID],
        read_address(address),
        read_methods(methods),
        float(message.time),
    )


def read_methods(value: object) -> tuple[int, ...]:
    """
    A list of compression methods; entries that are no integers are passed over.

    :raises HandshakeError: it is no list, or an endless one.
    """
    if not isinstance(value, list) or len(value) > _MOST_METHODS:
        raise HandshakeError(f"compression methods are a short list, not {value!r:.80}")
    return tuple(item for item in value if type(item) is int)


def read_address(value: object) -> Address | None:
    """A ``[host, port]`` pair, or ``None`` if it is nothing that could be dialled."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return None
    host, port = value
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if not isinstance(host, str) or not 0 < len(host) <= 253:
        return None
    if not host.isprintable() or any(character in " /?#@[]\\" for character in host):
        return None
    if type(port) is not int or not 0 < port < 65536:
        return None
    return host, port


def greeting(
    own_id: bytes, network: str, address: Address, wall: int, methods: tuple[int, ...]
) -> Message:
    """Our handshake, of a length that puts the frames behind it on the grid."""
    payload = (flags.HANDSHAKE, own_id, network, list(address), list(methods))
    body = encode_aligned(flags.WHISPER, own_id, wall, payload, compression.FRAME_HEAD)
    return Message(sha256(body).digest(), body, (flags.WHISPER, own_id, wall, *payload))
