"""
Cut a byte stream into frames.

A frame is an unsigned big-endian size and that many bytes; the size counts the bytes
behind it alone::

    00 00 00 05  68 65 6c 6c 6f        one frame of five bytes

The decoder hands out *places* in a chunk of bytes, not copies: ``(data, start, stop)``.
In the usual case the chunk is what the transport delivered, and nothing is copied at
all. What is left of a chunk waits; a frame larger than a read is gathered in a list and
joined once, when it is complete.

It is pulled, one frame at a time, because a frame may change how the next must be read,
even inside one TCP segment.

Sizes are in bytes. A size out of bounds raises from the four bytes alone, before any of
the frame is awaited. Source: docs/protocol/wire.rst, "Frames".
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final

from py2p_twisted.errors import FrameTooLarge, FrameTooSmall

_SIZE = Struct("!I")
_unpack_size = _SIZE.unpack_from

#: A frame holds at least a checksum, and compression cannot shrink a checksum.
SMALLEST_FRAME: Final = 32

#: Default for the largest message body a node sends, receives or inflates. The format
#: allows 4 GiB, and a node that buffers what a stranger announces can be emptied of
#: memory by one stranger. Source: docs/design.rst, "Limits".
MAX_MESSAGE: Final = 8 * 1024 * 1024

#: What a first frame may take. A handshake has about 250 bytes.
MAX_GREETING: Final = 16 * 1024

#: Reads below this size are put together before they are kept.
_CRUMB: Final = 4 * 1024
_LOAF: Final = 64 * 1024

#: How TLS records begin: alerts and handshakes.
_TLS_RECORDS: Final = (b"\x15\x03", b"\x16\x03")


def largest_frame(max_message: int) -> int:
    """
    The largest frame that a body of ``max_message`` bytes can need.

    A checksum is 32 bytes; a codec can make incompressible content larger by at most
    about 1 % (bz2) and some header bytes.
    """
    return max_message + max_message // 64 + 1024


class FrameDecoder:
    """
    Bytes in, whole frames out, in order.

    :ivar limit: the largest size that is accepted from now on.
    """

    __slots__ = ("_crumbs", "_data", "_have", "_need", "_parts", "_start", "_tail", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._data = b""
        self._start = 0
        # what is gathered of a frame that did not fit into one read
        self._parts: list[bytes] = []
        self._crumbs = bytearray()
        self._have = 0
        self._need = 0
        # what came behind a gathered frame
        self._tail = b""

    @property
    def waiting(self) -> int:
        """Bytes of an unfinished frame that are held."""
        return self._have or len(self._data) - self._start

    def receive_data(self, data: bytes) -> None:
        """Take in what the transport delivered, however it was cut."""
        if not data:
            return
        if self._need:
            over = self._have + len(data) - self._need
            if over < 0:
                self._collect(data)
                return
            if over:
                # The frame gets a chunk of its own, so that it need not be copied out.
                self._tail = data[-over:]
                data = data[:-over]
            self._collect(data)
            self._parts.append(bytes(self._crumbs))
            self._data = b"".join(self._parts)
            self._start = 0
            self._parts = []
            self._crumbs = bytearray()
            self._have = self._need = 0
            return
        if self._start < len(self._data):
            data = self._data[self._start :] + data
        self._data = data
        self._start = 0

    def _collect(self, data: bytes) -> None:
        self._have += len(data)
        if len(data) < _CRUMB:
            # A peer that sends two bytes at a time must not cost us forty for each.
            self._crumbs += data
            if len(self._crumbs) < _LOAF:
                return
            data = b""
        if self._crumbs:
            self._parts.append(bytes(self._crumbs))
            self._crumbs = bytearray()
        self._parts.append(data)

    def frames(self) -> Iterator[tuple[bytes, int, int]]:
        """
        The complete frames that are there, found one at a time.

        Each is a chunk, and where in it the frame's content begins and ends. The four
        size bytes stand before the beginning, so ``chunk[start - 4 : stop]`` is the frame
        as it was received.

        :raises FrameTooLarge: the stream cannot be read any further.
        :raises FrameTooSmall: likewise.
        """
        while True:
            data, start = self._data, self._start
            end = len(data)
            while end - start >= 4:
                (size,) = _unpack_size(data, start)
                if not SMALLEST_FRAME <= size <= self.limit:
                    self._refuse(size, data, start)
                stop = start + 4 + size
                if stop > end:
                    self._gather(data, start, stop)
                    return
                self._start = stop
                yield data, start + 4, stop
                start = stop
            if start < end:
                return
            self._data, self._start, self._tail = self._tail, 0, b""
            if not self._data:
                return

    def chunk(self) -> tuple[bytes, int]:
        """What is there to be read, and from where on: for a reader that finds frames itself."""
        if self._start == len(self._data) and self._tail:
            self._data, self._start, self._tail = self._tail, 0, b""
        return self._data, self._start

    def read_to(self, start: int) -> None:
        """Such a reader has dealt with the chunk up to here, where a frame begins."""
        self._start = start

    def clear(self) -> None:
        """Nothing more will be read: keep nothing."""
        self._data = self._tail = b""
        self._parts = []
        self._crumbs = bytearray()
        self._start = self._have = self._need = 0

    def next_frame(self) -> tuple[bytes, int, int] | None:
        """The next of the `frames`, or ``None`` until more data has come."""
        return next(self.frames(), None)

    def _gather(self, data: bytes, begin: int, stop: int) -> None:
        """Keep the beginning of an incomplete frame, without the frames before it."""
        self._parts = [data[begin:]]
        self._have = len(data) - begin
        self._need = stop - begin
        self._data, self._start = b"", 0

    def _refuse(self, size: int, data: bytes, start: int) -> None:
        if size < SMALLEST_FRAME:
            raise FrameTooSmall(size)
        hint = ""
        if data[start : start + 2] in _TLS_RECORDS:
            hint = "; it looks like TLS, while this node speaks plain text"
        raise FrameTooLarge(size, self.limit, hint)
