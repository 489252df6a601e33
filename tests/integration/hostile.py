"""
What a hostile peer has at hand: a raw socket, and bytes that no honest node would send.

Nothing in here comes from the package under test. Frames are made by hand, so a mistake that the
package makes both when writing and when reading is not made a third time.

Sizes are in bytes. Source: docs/protocol/wire.rst.
"""

from __future__ import annotations

import bz2
import functools
import gzip
import lzma
import os
import random
import select
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from hashlib import sha256
from struct import pack
from typing import Any, Self

import msgpack

from tests.integration.driver import HOST, MIB

#: The protocol id of ``Protocol('mesh', 'Plaintext')``. Source: docs/protocol/wire.rst.
NETWORK = "3G7Q2i4H2XcZWUWhByww5s8rn2XnP6XTkNngXKuHVm5P"

BROADCAST, RENEGOTIATE, WHISPER = 0, 1, 2
HANDSHAKE, PEERS, REQUEST = 5, 7, 8

#: What a node accepts by default: as the body of a message, and as the first frame of a peer.
#: Source: the package's settings.
MAX_MESSAGE = 8 * 1024 * 1024
MAX_GREETING = 16 * 1024

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

CODECS: dict[str, Callable[[bytes], bytes]] = {
    "zlib": functools.partial(zlib.compress, level=9),
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "lzma": lzma.compress,
}


def new_id() -> bytes:
    """An id like those of honest nodes."""
    return "".join(random.choices(_ALPHABET, k=66)).encode()


# --- Bytes -----------------------------------------------------------------------


def frame(content: bytes, size: int | None = None) -> bytes:
    """
    A frame around any content.

    :param size: what it says it holds, if that is to be a lie.
    """
    return pack("!I", len(content) if size is None else size) + content


def sealed(body: bytes) -> bytes:
    """A body behind its checksum: what an uncompressed frame holds."""
    return sha256(body).digest() + body


def packed(*items: Any) -> bytes:
    """A body."""
    body: bytes = msgpack.packb(items)
    return body


def message(*items: Any) -> bytes:
    """A well-formed frame, whatever the items may be."""
    return frame(sealed(packed(*items)))


def whisper(sender: bytes, *payload: Any) -> bytes:
    """A message to a neighbour."""
    return message(WHISPER, sender, int(time.time()), *payload)


def broadcast(sender: bytes, *payload: Any) -> bytes:
    """A message to everybody."""
    return message(BROADCAST, sender, int(time.time()), *payload)


def raw_whisper(sender: bytes, packet: bytes, packets: int = 1) -> bytes:
    """
    A body whose last part is given as bytes, and may be anything.

    :param packets: how many packets that part is said to be.
    """
    head = packed(WHISPER, sender, int(time.time()), 0)
    return bytes([0x94 + packets]) + head[1:] + packet


def handshake(ident: bytes, **fields: Any) -> bytes:
    """
    A handshake with an honest value in every field that is not named.

    :param fields: ``flag``, ``sender``, ``time``, ``id``, ``network``, ``address``, ``methods``.
    """
    value = {
        "flag": WHISPER,
        "sender": ident,
        "time": int(time.time()),
        "id": ident,
        "network": NETWORK,
        "address": [HOST, 9],
        "methods": [19, 17, 16, 18],
        **fields,
    }
    return message(
        *(value[name] for name in ("flag", "sender", "time")),
        HANDSHAKE,
        *(value[name] for name in ("id", "network", "address", "methods")),
    )


@functools.cache
def bomb(codec: str, size: int = 64 * MIB) -> bytes:
    """Some bytes that become very many: 79 of bz2, for 64 MiB."""
    return CODECS[codec](bytes(size))


def greedy_lzma() -> bytes:
    """An lzma stream, in the older container, that asks for a dictionary of a gigabyte."""
    return b"\x5d" + pack("<I", 1 << 30) + b"\xff" * 8 + bytes(64)


def large_body(sender: bytes, flag: int = WHISPER) -> bytes:
    """A body that is nearly as large as is allowed, unlike all others, and mostly NUL bytes."""
    return packed(flag, sender, int(time.time()), 0, os.urandom(16), bytes(MAX_MESSAGE - 1024))


def large_message(sender: bytes, codec: str, flag: int = WHISPER) -> bytes:
    """A small frame with a message that is nearly as large as is allowed once it is inflated."""
    return frame(CODECS[codec](sealed(large_body(sender, flag))))


def peers_list(sender: bytes, entry: bytes, count: int) -> bytes:
    """A frame with a list of so many peers, compressed; the entry is given as it is packed."""
    head = packed(WHISPER, sender, int(time.time()), PEERS, None)[:-1]
    return frame(zlib.compress(sealed(head + b"\xdd" + pack("!I", count) + entry * count)))


def nests() -> dict[str, bytes]:
    """Packets that nest too deeply, and apart from that hold no more than is allowed."""
    return {
        "arrays, 33 deep": b"\x91" * 33 + b"\xc0",
        "arrays, 99,000 deep": b"\x91" * 99_000 + b"\xc0",
        "maps, 49,000 deep": b"\x81\xc0" * 49_000 + b"\xc0",
        "maps as keys, 49,000 deep": b"\x81" * 49_000 + b"\xc0" * 49_001,
        "array32 headers, 1,000 deep": b"\xdd\0\0\0\1" * 1000 + b"\xc0",
        "array32 headers, 99,000 deep": b"\xdd\0\0\0\1" * 99_000 + b"\xc0",
    }


def crowds() -> dict[str, bytes]:
    """Packets with too many elements, whose headers tell the truth."""
    empty = b"\x90" * (4 * MIB)
    groups = (b"\xdc\xff\xff" + b"\x90" * 0xFFFF) * 64
    return {
        "arrays, 101,000 deep": b"\x91" * 101_000 + b"\xc0",
        "an array of 4 Mi lists": b"\xdd" + pack("!I", 4 * MIB) + empty,
        "64 arrays of 65,535 lists": b"\xdc\0\x40" + groups,
        "a map of 2 Mi pairs": b"\xdf" + pack("!I", 2 * MIB) + b"\xc0" * (4 * MIB),
        "120,000 small maps": b"\xdd" + pack("!I", 120_000) + b"\x81\xc0\xc0" * 120_000,
        "120,000 numbers": b"\xdd" + pack("!I", 120_000) + b"\xcc\xff" * 120_000,
    }


def lies() -> dict[str, bytes]:
    """Packets whose headers promise what is not there."""
    return {
        "an array of 4 Gi": b"\xdd\xff\xff\xff\xff\x90",
        "an array of 99,000": b"\xdd" + pack("!I", 99_000) + b"\x90",
        "a map of 4 Gi": b"\xdf\xff\xff\xff\xff\xc0",
        "a text of 4 GiB": b"\xdb\xff\xff\xff\xffx",
        "4 GiB of bytes": b"\xc6\xff\xff\xff\xffx",
        "an extension of 4 GiB": b"\xc9\xff\xff\xff\xff\1x",
        "array32 headers of 2 Gi each, 1,000 deep": b"\xdd\x7f\xff\xff\xff" * 1000,
        "array32 headers of 90,000 each, 1,000 deep": (b"\xdd" + pack("!I", 90_000)) * 1000,
        "array16 headers of 255 each, 1,000 deep": b"\xdc\x00\xff" * 1000,
    }


def as_messages(packets: dict[str, bytes]) -> dict[str, bytes]:
    """A whole frame around each of these packets, from somebody new."""
    return {name: frame(sealed(raw_whisper(new_id(), packet))) for name, packet in packets.items()}


def as_deflated(packets: dict[str, bytes]) -> dict[str, bytes]:
    """The same, compressed to next to nothing."""
    return {
        name: frame(CODECS["zlib"](sealed(raw_whisper(new_id(), packet))))
        for name, packet in packets.items()
    }


#: One of each type that a field should not have, and values at the edge of those it may have.
ODD: dict[str, Any] = {
    "nothing": None,
    "yes": True,
    "a negative number": -1,
    "a huge number": 2**64 - 1,
    "a fraction": 1.5,
    "not a number": float("nan"),
    "infinity": float("inf"),
    "text": "text",
    "bytes": b"bytes",
    "empty text": "",
    "a list": [1, 2],
    "an empty list": [],
    "a map": {"a": 1},
    "an extension": msgpack.ExtType(7, b"x"),
    "long text": "x" * 5000,
}


# --- A connection ----------------------------------------------------------------


class Stranger:
    """
    A connection of somebody who knows the protocol and does not keep to it.

    :ivar id: what it calls itself, once it does.
    """

    def __init__(self, port: int, receive_buffer: int | None = None) -> None:
        """
        :param receive_buffer: what the system may hold for us before we read, if it is to be
            little.
        """
        self.id = new_id()
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(20.0)
        self.socket.connect((HOST, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Go."""
        self.socket.close()

    def introduce(self, **fields: Any) -> Self:
        """
        Say the right words, and wait until the other end takes us for a node.

        :param fields: see :func:`handshake`.
        """
        self.id = fields.get("id", self.id)
        self.send(handshake(self.id, **fields))
        self.read_frame()  # its handshake
        self.read_frame()  # its peers list: we are in its table
        return self

    def send(self, data: bytes) -> bool:
        """
        Send everything.

        :return: whether the other end was there to take it.
        """
        try:
            self.socket.sendall(data)
        except (ConnectionError, TimeoutError):
            return False
        return True

    def pour(self, data: bytes, seconds: float) -> int:
        """
        Send the same again and again, as fast as it goes, until the other end hangs up.

        :return: how many bytes have left us.
        """
        until, poured = time.monotonic() + seconds, 0
        self.socket.settimeout(0.2)
        try:
            while time.monotonic() < until:
                try:
                    poured += self.socket.send(data)
                except TimeoutError:
                    continue
                except ConnectionError:
                    break
        finally:
            self.socket.settimeout(20.0)
        return poured

    def dribble(self, data: bytes, interval: float, seconds: float) -> float:
        """
        Send a byte at a time, until the other end hangs up.

        :return: for how long it has listened.
        """
        start = time.monotonic()
        pieces: Iterator[int] = iter(data)
        while time.monotonic() - start < seconds and not self.is_closed(interval):
            try:
                self.socket.send(bytes([next(pieces)]))
            except (ConnectionError, StopIteration):
                break
        return time.monotonic() - start

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            if not piece:
                raise ConnectionResetError("the other end has hung up")
            data += piece
        return data

    def read_frame(self) -> bytes:
        """What the other end says next, without the size in front."""
        return self._exactly(int.from_bytes(self._exactly(4), "big"))

    def is_closed(self, within: float) -> bool:
        """Whether the other end hangs up in that time; what it says meanwhile is read."""
        until = time.monotonic() + within
        while True:
            ready, _, _ = select.select([self.socket], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                return False
            try:
                if not self.socket.recv(65536):
                    return True
            except ConnectionError:
                return True

    def is_served(self, within: float = 30.0) -> bool:
        """
        Whether the other end still deals with us, and has dealt with all that we sent: asked for
        its peers, an honest node answers.
        """
        # What it has said before now is no answer.
        if self.is_closed(0.05):
            return False
        if not self.send(whisper(self.id, REQUEST, b"*")):
            return False
        self.socket.settimeout(within)
        try:
            self.read_frame()
        except (ConnectionError, TimeoutError):
            return False
        finally:
            self.socket.settimeout(20.0)
        return True
