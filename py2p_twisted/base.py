"""
What goes with a mesh socket: ``Protocol``, ``flags``, ``message``, and the socket's base.

The names are those of the seed document (docs/mesh_socket) and of py2p 0.6.757, in both
spellings. Everything in here may be used from any thread.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from pyee import EventEmitter
from twisted.logger import Logger

from py2p_twisted.core import base58, codec
from py2p_twisted.core import compression as _compression
from py2p_twisted.core import flags as _flags
from py2p_twisted.core.framing import MAX_MESSAGE
from py2p_twisted.core.message import Message as _CoreMessage
from py2p_twisted.core.message import parse as _parse
from py2p_twisted.core.network import PROTOCOL_VERSION, protocol_id
from py2p_twisted.core.receipts import Receipt
from py2p_twisted.core.survey import Survey
from py2p_twisted.errors import (
    BadArgument,
    BadCompression,
    FrameTooLarge,
    MalformedMessage,
)
from py2p_twisted.net.service import SALT

if TYPE_CHECKING:
    from collections.abc import Generator

    from py2p_twisted.mesh import mesh_connection, mesh_socket
    from py2p_twisted.reactor_thread import ReactorThread

_log = Logger(namespace="py2p_twisted.mesh")

T = TypeVar("T")

#: The version of the wire format; part of every protocol id.
protocol_version = PROTOCOL_VERSION

#: What can be sent: text, bytes, numbers, None, booleans, and lists, tuples and dicts of them.
MsgPackable = Any

#: Random, the same for all nodes of this process; part of every node id.
user_salt = SALT.encode()

#: Compression methods that this node understands, in its order of preference.
compression: list[int] = list(_compression.METHODS)

#: The digits of ids.
base_58 = base58.ALPHABET


class flags:
    """
    The numbers of the protocol.

    ``broadcast`` asks nodes to relay a message, ``whisper`` asks them not to.
    """

    #: Numbers that belong to the library; applications' own sub-flags begin at 0x30.
    reserved = tuple(range(_flags.FIRST_FREE))

    broadcast = _flags.BROADCAST
    renegotiate = _flags.RENEGOTIATE
    whisper = _flags.WHISPER
    ping = 3
    pong = 4
    compression = _flags.COMPRESSION
    handshake = _flags.HANDSHAKE
    notify = 6
    peers = _flags.PEERS
    request = _flags.REQUEST
    resend = _flags.RESEND
    response = _flags.RESPONSE
    store = 11
    retrieve = 12
    retrieved = 13
    bz2 = _flags.BZ2
    gzip = _flags.GZIP
    lzma = _flags.LZMA
    zlib = _flags.ZLIB
    bwtc = 20
    context1 = 21
    defsum = 22
    dmc = 23
    fenwick = 24
    huffman = 25
    lzjb = 26
    lzjbr = 27
    lzp3 = 28
    mtf = 29
    ppmd = 30
    simple = 31
    snappy = 32


class Protocol(NamedTuple):
    """
    Which network a socket belongs to. Sockets connect only if theirs are equal.

    :ivar subnet: the network's name, any text.
    :ivar encryption: ``"Plaintext"`` or ``"SSL"``. SSL stops whoever reads along, **not**
        whoever pretends to be a node: nobody's certificate is verified.
    """

    subnet: str
    encryption: str

    @property
    def id(self) -> str:
        """The protocol id: base 58 of a hash over name, encryption and protocol version."""
        return protocol_id(str(self.subnet), str(self.encryption))


#: The network of a bare ``base_socket``; that of mesh sockets is ``mesh.default_protocol``.
default_protocol = Protocol("", "Plaintext")


class Packets(tuple[Any, ...]):
    """A message's packets: a tuple that prints like a list and equals lists as well."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(list(self))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, list):
            return list(self) == other
        return tuple.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = tuple.__hash__


#: What calling a subclass of tuple comes to, at half the price.
_make = tuple.__new__


# --- helpers that py2p keeps here ----------------------------------------------------------


def pack_value(length: int, value: int) -> bytes:
    """
    Write a number as big-endian bytes.

    :raises ValueError: it does not fit.
    """
    try:
        return int(value).to_bytes(length, "big")
    except OverflowError as error:
        raise ValueError(f"{value} does not fit into {length} bytes") from error


def unpack_value(string: bytes | bytearray | str) -> int:
    """Read big-endian bytes as a number."""
    data = string.encode() if isinstance(string, str) else bytes(string)
    return int.from_bytes(data, "big")


def to_base_58(number: int) -> bytes:
    """
    Write a number in base 58.

    :raises TypeError: it is not an integer.
    """
    return base58.encode(number)


def from_base_58(string: str | bytes | bytearray) -> int:
    """
    Read a base 58 number.

    :raises ValueError: a character is no base 58 digit.
    """
    return base58.decode(string)


def compress(msg: bytes, method: int) -> bytes:
    """
    Compress with one of `compression`.

    :raises ValueError: the method is unknown.
    """
    return _compression.compress(msg, method)


def decompress(msg: bytes, method: int) -> bytes:
    """
    Decompress, up to 8 MiB.

    :raises ValueError: the method is unknown.
    :raises BadCompression: the data is damaged or too large.
    """
    return _compression.decompress(msg, method, MAX_MESSAGE)


class InternalMessage:
    """
    A message in its wire form, for code and tests written for py2p.

    :ivar msg_type: the main flag.
    :ivar compression: methods it may be compressed with; the first that is known is used.
    """

    def __init__(
        self,
        msg_type: int,
        sender: bytes | str,
        payload: Iterable[MsgPackable],
        compression: Iterable[int] | None = None,
        timestamp: int | None = None,
    ) -> None:
        """
        :param payload: the sub-flag and the packets.
        :param timestamp: seconds since 1970; default: now.
        """
        self.msg_type = msg_type
        self.sender = sender
        self.payload = tuple(payload)
        self.time = int(time.time()) if timestamp is None else timestamp
        self.compression: Iterable[int] = tuple(compression or ())
        #: Whether a received message was in none of the methods it was said to be in.
        self.compression_fail = False
        self._received: bytes | None = None

    @classmethod
    def feed_string(
        cls,
        string: bytes | bytearray,
        sizeless: bool = False,
        compressions: Iterable[int] | None = None,
    ) -> InternalMessage:
        """
        Read a frame.

        :param sizeless: the four length bytes are missing.
        :param compressions: the methods it may be compressed with.
        :raises RemoteError: it is no frame, or no message.
        """
        data = bytes(string)
        if not sizeless:
            if len(data) < 4 or unpack_value(data[:4]) != len(data) - 4:
                raise MalformedMessage("the length does not fit the frame")
            data = data[4:]
        if len(data) > MAX_MESSAGE + 32:
            raise FrameTooLarge(len(data), MAX_MESSAGE)
        methods = tuple(compressions or ())
        failed = False
        for method in methods:
            if method not in _compression.METHODS:
                continue
            try:
                data = decompress(data, method)
            except BadCompression:
                failed = True
                continue
            failed = False
            break
        if len(data) < 32:
            raise MalformedMessage("a frame without a checksum")
        found = cls._of(_parse(data[:32], data[32:], least=3))
        found.compression = methods
        found.compression_fail = failed
        return found

    @classmethod
    def _of(cls, message: _CoreMessage) -> InternalMessage:
        found = cls(message.flag, message.sender, message.payload, timestamp=message.time)  # type: ignore[arg-type]
        found._received = bytes(message.body)
        return found

    @property
    def __non_len_string(self) -> bytes:
        """The body: what the id is a hash of."""
        if self._received is not None:
            return self._received
        return codec.encode((self.msg_type, self.sender, self.time, *self.payload))

    @property
    def packets(self) -> tuple[MsgPackable, ...]:
        """Everything: main flag, sender, time and payload."""
        return (self.msg_type, self.sender, self.time, *self.payload)

    #: As a message of the core calls it.
    items = packets

    @property
    def id(self) -> bytes:
        """32 bytes: SHA-256 of the body."""
        from hashlib import sha256

        return sha256(self.__non_len_string).digest()

    @property
    def time_58(self) -> bytes:
        """The stamp in base 58."""
        return base58.encode(int(self.time))

    @property
    def compression_used(self) -> int | None:
        """The method it is compressed with."""
        return next((method for method in compression if method in tuple(self.compression)), None)

    @property
    def string(self) -> bytes:
        """The whole frame."""
        content = self.id + self.__non_len_string
        method = self.compression_used
        if method is not None:
            content = compress(content, method)
        return pack_value(4, len(content)) + content

    def __len__(self) -> int:
        return len(self.string)


# --- what sockets hand out ------------------------------------------------------------------


class Pending(Future[T]):
    """
    Something that is under way: a ``concurrent.futures.Future`` that can also be awaited.

    Not waiting is fine: what fails is logged, shown in ``status``, and emitted as ``error``.
    """

    def __init__(self, thread: ReactorThread) -> None:
        super().__init__()
        self._thread = thread

    def __repr__(self) -> str:
        if self.cancelled():
            state = "cancelled"
        elif not self.done():
            state = "under way"
        elif (error := super().exception()) is not None:
            state = f"failed: {error}"
        else:
            state = f"done: {super().result()!r}"
        return f"<{type(self).__name__}, {state}>"

    def wait(self, timeout: float | None = None) -> T:
        """
        Wait for the outcome.

        :param timeout: in seconds.
        :raises TimeoutError: it has not come in that time.
        :raises BlockingInReactor: this is the reactor's thread.
        """
        return self.result(timeout)

    def result(self, timeout: float | None = None) -> T:
        """The outcome, waited for; see `wait`."""
        if not self.done():
            self._thread.refuse_inside("wait()")
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What went wrong, waited for; ``None`` if nothing did."""
        if not self.done():
            self._thread.refuse_inside("exception()")
        return super().exception(timeout)

    def __await__(self) -> Generator[Any, None, T]:
        return asyncio.wrap_future(self).__await__()


class Connecting(Pending["mesh_connection"]):
    """
    A connection under way.

    Resolves to the connection once both ends have introduced themselves, or raises why
    there is none: `NetworkMismatch`, `HandshakeTimeout`, `SelfConnection`,
    ``ConnectionRefusedError``, ... within about ten seconds.
    """


class Replying(Pending[None]):
    """
    A reply on its way to the sender's link.

    Raises `ReplyFailed` when no way to the sender was found in time.
    """


class Confirming(Pending[Receipt]):
    """
    A message whose receipts are gathered.

    Resolves to the `Receipt` when everybody has the message, or the time is over.
    """


class Surveying(Pending[Survey]):
    """
    A survey under way.

    Resolves to the `Survey` when everybody has answered, or the time is over.
    """


class message:
    """
    A message that has arrived.

    >>> print(msg)
    message(type=2, packets=[b'yes', b'I did'], sender=b'6VnYj9LjoVLTvU3uPhy4nxm6yv2wEv...')
    >>> print(msg.packets)
    [2, b'yes', b'I did']
    """

    __slots__ = ("_msg", "server")

    def __init__(self, msg: _CoreMessage | InternalMessage, server: mesh_socket | None) -> None:
        """
        :param server: the socket it came to.
        """
        self._msg = msg
        self.server = server

    @property
    def packets(self) -> Packets:
        """The sub-flag, and then what the sender gave to ``send`` or ``reply``."""
        return _make(Packets, self._msg.items[3:])

    @property
    def sender(self) -> bytes | str:
        """The id of the node it says it comes from: bytes, or str from JavaScript nodes."""
        return self._msg.sender

    @property
    def id(self) -> bytes:
        """32 bytes that tell it from every other message."""
        return self._msg.id

    @property
    def time(self) -> int:
        """When it was sent, by the sender's clock, in seconds since 1970."""
        return int(self._msg.time)

    @property
    def time_58(self) -> bytes:
        """The same in base 58."""
        return base58.encode(self.time)

    @property
    def msg(self) -> InternalMessage:
        """The message in its wire form."""
        found = self._msg
        return found if isinstance(found, InternalMessage) else InternalMessage._of(found)

    def reply(self, *packets: MsgPackable) -> Replying:
        """
        Answer the sender directly, neighbour or not.

        :return: may be waited for, or left alone.
        :raises NotSendable: a packet has no encoding.
        :raises MeshClosed: the socket is closed.
        """
        if self.server is None:
            raise BadArgument("this message came from no socket, so there is nobody to answer")
        return self.server._reply_to(self.sender, packets, self.id)

    def __len__(self) -> int:
        return len(self.msg)

    def __repr__(self) -> str:
        sub, *packets = self._msg.payload or (None,)
        return f"message(type={sub!r}, packets={packets!r}, sender={self.sender!r})"


class base_connection:
    """
    A peer, as handlers and the routing table show it.

    :ivar server: the socket it belongs to.
    """

    def __init__(self, link: Any, server: mesh_socket) -> None:
        self._link = link
        self.server = server

    @property
    def id(self) -> bytes:
        """The peer's id; empty until it has introduced itself."""
        return bytes(self._link.id)

    @property
    def addr(self) -> tuple[str, int] | None:
        """Where the peer says it can be dialled."""
        return self._link.address  # type: ignore[no-any-return]

    @property
    def outgoing(self) -> bool:
        """Whether we dialled."""
        return bool(self._link.outgoing)

    @property
    def compression(self) -> list[int]:
        """The compression methods that the peer understands."""
        return list(self._link.methods)

    @property
    def protocol(self) -> Protocol:
        """The network."""
        return self.server.protocol

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id.decode('latin-1') or 'not introduced yet'}>"


#: Handlers take a message and the connection it came by; true means: dealt with.
Handler = Callable[[message, "mesh_connection"], object]

#: Texts of failures that are kept for ``status``.
ERRORS_KEPT: Final = 50

_printing = threading.Lock()


class base_socket(EventEmitter):
    """
    What every socket has: events, handlers, and a debug level.

    Listeners and handlers run in one thread of the socket's own, in order, each guarded by
    itself: what one raises is logged, kept for ``status``, and costs nobody anything.
    """

    def __init__(self, prot: Protocol, debug_level: int) -> None:
        super().__init__()
        self.protocol = prot
        self._debug_level = debug_level
        self._handlers: list[Handler] = []
        self._errors: deque[str] = deque(maxlen=ERRORS_KEPT)

    # --- handlers ---------------------------------------------------------------------

    def register_handler(self, method: Handler) -> None:
        """
        Add a handler behind the others.

        Handlers are asked in the manner of ``Array.some()``: one that returns something
        true has dealt with the message, and nothing and nobody after it gets to see it.

        :param method: takes a `message` and a ``mesh_connection``.
        :raises ValueError: it does not take exactly two arguments (three, if one is ``self``).
        :raises TypeError: it cannot be called, or is a coroutine function.
        """
        if not callable(method):
            raise TypeError(f"a handler must be callable, {method!r} is not")
        _refuse_coroutines(method)
        parameters = inspect.signature(method).parameters
        if len(parameters) != (3 if "self" in parameters else 2):
            raise ValueError(
                "a handler takes exactly two arguments, a message and a connection "
                f"(or three if one is self); {_name(method)} takes {len(parameters)}"
            )
        self._handlers.append(method)
        self._callbacks_wanted()

    def _callbacks_wanted(self) -> None:
        """The first callback has been registered."""

    # --- events -----------------------------------------------------------------------

    def _add_event_handler(self, event: str, k: Callable[..., Any], v: Callable[..., Any]) -> None:
        # pyee calls this for on() and once(), in all their forms.
        _refuse_coroutines(k)
        super()._add_event_handler(event, k, v)
        self._callbacks_wanted()

    def _emit_run(
        self, f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        # pyee's emit() stops at the first listener that raises. Ours does not.
        self._guarded(f, *args, **kwargs)

    def _guarded(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call what a user has registered."""
        try:
            return function(*args, **kwargs)
        except BaseException:  # noqa: BLE001 - whatever a user's code may raise, SystemExit too
            text = traceback.format_exc()
            self._errors.append(text)
            _log.failure("in {callback}, which was registered here", callback=_name(function))
            self._print(0, "an exception in {}, see status:\n{}", _name(function), text)
            return None

    # --- debugging --------------------------------------------------------------------

    @property
    def debug_level(self) -> int:
        """
        How much is printed: 0 little, 1 connections and messages, ... 5 everything.

        At 5 one sees entry into every handler and every message that goes in or out. It
        can be set at any time.
        """
        return self._debug_level

    @debug_level.setter
    def debug_level(self, value: int) -> None:
        self._debug_level = value
        self._debug_level_changed()

    def _debug_level_changed(self) -> None:
        """Have the floors below say more, or less."""

    def _print(self, level: int, text: str, *args: object) -> None:
        """Print a line behind the port number. Only what is printed is formatted."""
        if level <= self._debug_level:
            line = f"{self._port_text()} {text.format(*args)}\n"
            encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
            line = line.encode(encoding, "backslashreplace").decode(encoding)
            # A terminal that is gone must not cost a link.
            with _printing, suppress(OSError, ValueError):
                # In one piece, or what the program itself prints would come in between.
                print(line, end="", flush=True)

    def _port_text(self) -> str:
        return "?"


def _refuse_coroutines(function: Callable[..., Any]) -> None:
    if inspect.iscoroutinefunction(function):
        raise TypeError(
            f"{_name(function)} is a coroutine function, which a socket would call and never "
            "await; register a function that schedules it, e.g. "
            "lambda sock: asyncio.run_coroutine_threadsafe(f(sock), loop)"
        )


def _name(function: Callable[..., Any]) -> str:
    # functools.partial has no __name__
    return str(getattr(function, "__qualname__", None) or repr(function))


# the spellings of py2p 0.6.757
Message = message
BaseConnection = base_connection
BaseSocket = base_socket
