"""
One message: its id, its body, and what the body says.

A message's *body* is a MessagePack array, its *id* the SHA-256 of the body as it was
sent. A relay passes the body on byte for byte, so every node knows a message by the same
id. The frames a message is wrapped in may differ from link to link; they are made when
first needed and kept, so that sending to a hundred peers encodes once.

Source: docs/protocol/wire.rst, "Frames" and "Ids".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any

from py2p_twisted.core import codec, flags
from py2p_twisted.errors import BadField, ChecksumMismatch, ContentError

#: Longest id that is accepted. Ids of 0.6 have 66 characters; nothing says they must.
MAX_ID = 256

_LATEST = 2**64


#: Bytes of memory that a value takes at most, besides those that it has on the wire
#: (measured with CPython 3.11: dicts of one pair, 86 for each of three values).
PER_VALUE = 96


class Message:
    """
    A message, checked and decoded.

    :ivar id: 32 bytes, SHA-256 of ``body``.
    :ivar body: the bytes that were hashed; large ones are a view of the frame they came in.
    :ivar items: what the body says: main flag, sender, time, sub-flag, packets.
    :ivar frames: frames made so far, by how they are wrapped (see `policy`).
    :ivar values: how many values ``items`` holds, those in lists and dicts as well; 0 if
        there are no such.
    :ivar via: the id of the neighbour that brought it; empty for our own.
    """

    __slots__ = ("body", "frames", "id", "items", "values", "via")

    def __init__(self, ident: bytes, body: bytes | memoryview, items: Sequence[Any]) -> None:
        self.id = ident
        self.body = body
        self.items = items
        self.frames: dict[object, bytes] | None = None
        self.values = 0
        self.via = b""

    def __repr__(self) -> str:
        return f"<Message {self.id[:4].hex()} flag={self.flag} payload={self.payload!r:.80}>"

    @property
    def flag(self) -> int:
        """How it travels: broadcast (0), whisper (2), ..."""
        return self.items[0]  # type: ignore[no-any-return]

    @property
    def sender(self) -> bytes | str:
        """
        The id of the node that says it sent this; nobody vouches for it.

        In the type it was sent in: bytes, or str from JavaScript nodes.
        """
        return self.items[1]  # type: ignore[no-any-return]

    @property
    def time(self) -> float:
        """The sender's stamp, in seconds since 1970, UTC."""
        return self.items[2]  # type: ignore[no-any-return]

    @property
    def payload(self) -> tuple[Any, ...]:
        """The sub-flag and the packets."""
        return tuple(self.items[3:])

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return len(self.body)

    @property
    def content(self) -> bytes:
        """Checksum and body: what a frame wraps."""
        return b"".join((self.id, self.body))


def weigh(messages: Sequence[Message]) -> int:
    """Bytes of memory, about: a dict of one number takes 3 bytes on the wire, and 250 here."""
    return sum([len(one.body) + PER_VALUE * (one.values or len(one.items)) for one in messages])


def build(
    flag: int,
    sender: bytes | str,
    time: int,
    payload: Iterable[Any],
    *,
    appendix: bytes = b"",
) -> Message:
    """
    Make a message of our own.

    :param appendix: bytes behind the array: they change the id and nothing else.
    :raises NotSendable: see `codec.encode`.
    """
    items = (flag, sender, time, *payload)
    body = codec.encode(items)
    if appendix:
        body += appendix
    return Message(sha256(body).digest(), body, items)


def with_appendix(message: Message, appendix: bytes) -> Message:
    """The same message under another id: ``appendix`` is put behind its array."""
    body = bytes(message.body) + appendix
    return Message(sha256(body).digest(), body, message.items)


def parse(ident: bytes, body: bytes | memoryview, *, least: int = 4) -> Message:
    """
    Check and read a received body.

    :param ident: the 32 bytes that stood before it.
    :param least: items it has to have; nodes have no use for one without a sub-flag.
    :raises ChecksumMismatch: they are not the body's SHA-256.
    :raises MalformedMessage: the body is no message.
    :raises ContentError: it is one that cannot be used.
    """
    if sha256(body).digest() != ident:
        raise ChecksumMismatch
    try:
        items, values = codec.decode_and_count(body)
        _check_fields(items, least)
    except ContentError as error:
        error.message_id = ident
        raise
    message = Message(ident, body, items)
    message.values = values
    return message


def _check_fields(items: Sequence[Any], least: int) -> None:
    flag, sender, time = items[:3]
    if (
        type(flag) is int
        and type(sender) is bytes
        and type(time) is int
        and len(items) >= least
        and len(sender) <= MAX_ID
    ):
        return  # what every node but JavaScript ones sends
    if type(flag) is not int:
        raise BadField(f"a main flag is an integer, not {type(flag).__name__}")
    if type(sender) is not bytes and type(sender) is not str:
        raise BadField(f"a sender is an id, not {type(sender).__name__}")
    if len(sender) > MAX_ID:
        raise BadField(f"an id has at most {MAX_ID} characters, not {len(sender)}")
    if type(time) is not int and (type(time) is not float or not 0 <= time < _LATEST):
        raise BadField(f"a time stamp is a number of seconds, not {time!r:.40}")
    if len(items) < least:
        raise BadField("a message without a sub-flag")


def as_bytes(ident: bytes | str) -> bytes:
    """An id in the form in which ids are compared: JavaScript nodes send theirs as text."""
    return ident if type(ident) is bytes else str(ident).encode("utf-8", "surrogatepass")


def is_broadcast(message: Message) -> bool:
    """Whether other nodes are meant to relay the message."""
    return message.flag == flags.BROADCAST
