"""
Four codecs, always capped; and zlib streams that cost next to nothing.

A frame's content (checksum and body) is compressed as a whole or not at all. Plain 0.6
nodes reassemble frames wrongly when a read ends exactly four bytes into the next frame;
as they read 1,024 bytes at a time, that cannot happen while every frame's total length is
a multiple of eight. Our own bodies are encoded so that plain frames are (`outgoing`). For
others' the padding stands *behind a compressed stream*, where every decompressor ignores
it, so the body and its id stay as they are::

    00 00 00 5c   78 01 | 01 | 4d 00 b2 ff | content... | adler32 | 00 00 00 00
    length        zlib    last, stored: size and ~size    checksum  padding

A *stored* zlib stream wraps the content without compressing it. Writing and reading one
takes about a microsecond, zlib itself about sixteen (64 bytes, level 6).

Sizes are in bytes. Whatever is damaged or grows beyond its limit is a `BadCompression`.

Source: docs/protocol/wire.rst, "Compression" and "Padding"; RFC 1950 and RFC 1951, 3.2.4.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterable, Sequence
from struct import Struct
from typing import Final

from py2p_twisted.core import flags
from py2p_twisted.errors import BadCompression

#: What this node can decompress, in its order of preference. Source: wire, "Compression".
METHODS: Final = (flags.ZLIB, flags.GZIP, flags.BZ2, flags.LZMA)

#: Total frame lengths towards plain nodes are multiples of this. It divides the 1,024
#: bytes that they read at a time. Source: wire, "Padding".
GRID: Final = 8

#: Bytes of a plain frame before its body: the length and the checksum.
FRAME_HEAD: Final = 36

#: Bodies from this size on are worth a try at compressing them.
WORTH_COMPRESSING: Final = 4096

_SAMPLE: Final = 1024

_SIZE = Struct("!I")
_pack_size = _SIZE.pack
_STORED_BLOCK = Struct("<BHH")
_stored_head = Struct("<3sHH").unpack_from
_LARGEST_BLOCK: Final = 0xFFFF

#: lzma's dictionary is allocated as the stream's header asks; this bounds it. The
#: default preset, which every 0.6 node uses, asks for 8 MiB.
_LZMA_MEMORY: Final = 16 * 1024 * 1024


def compress(data: bytes, method: int, level: int = 6) -> bytes:
    """
    Compress with one of `METHODS`.

    :param level: for zlib and gzip, 0 to 9; the others use their defaults, as 0.6 does.
    :raises ValueError: the method is unknown.
    """
    if method == flags.ZLIB:
        return zlib.compress(data, level)
    if method == flags.GZIP:
        return gzip.compress(data, level, mtime=0)
    if method == flags.BZ2:
        return bz2.compress(data)
    if method == flags.LZMA:
        return lzma.compress(data)
    raise ValueError(f"unknown compression method {method!r}")


def decompress(data: bytes | memoryview, method: int, limit: int) -> bytes:
    """
    Decompress one stream; what stands behind it is ignored.

    :param limit: the largest result, in bytes; no more than that is ever produced.
    :raises BadCompression: damaged, incomplete, or larger than the limit.
    :raises ValueError: the method is unknown.
    """
    try:
        result, complete = _DECOMPRESSORS[method](data, limit + 1)
    except KeyError:
        raise ValueError(f"unknown compression method {method!r}") from None
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
        raise BadCompression(f"a compressed frame is damaged: {error}") from error
    if len(result) > limit:
        raise BadCompression(f"a compressed frame inflates beyond {limit} bytes")
    if not complete:
        raise BadCompression("a compressed frame is cut short")
    return result


def _inflate(data: bytes | memoryview, room: int) -> tuple[bytes, bool]:
    # 32: zlib or gzip, told apart by the header, as 0.6 nodes do
    machine = zlib.decompressobj(zlib.MAX_WBITS | 32)
    result = machine.decompress(data, room)
    return result, machine.eof


def _unbzip(data: bytes | memoryview, room: int) -> tuple[bytes, bool]:
    machine = bz2.BZ2Decompressor()
    result = machine.decompress(data, room)
    return result, machine.eof


def _unlzma(data: bytes | memoryview, room: int) -> tuple[bytes, bool]:
    machine = lzma.LZMADecompressor(lzma.FORMAT_AUTO, memlimit=_LZMA_MEMORY)
    result = machine.decompress(data, room)
    return result, machine.eof


_DECOMPRESSORS: Final[dict[int, Callable[[bytes | memoryview, int], tuple[bytes, bool]]]] = {
    flags.ZLIB: _inflate,
    flags.GZIP: _inflate,
    flags.BZ2: _unbzip,
    flags.LZMA: _unlzma,
}


def looks_like(data: bytes | memoryview, start: int) -> int | None:
    """
    Guess from its first bytes how a frame's content is compressed.

    A checksum can begin like a compressed stream by chance (about one in 500), so this
    only says what to try.

    :return: a method, or ``None`` for plain content.
    """
    first, second = data[start], data[start + 1]
    if first & 0x0F == 8 and first >> 4 <= 7 and (first << 8 | second) % 31 == 0:
        return flags.ZLIB
    if first == 0x1F and second == 0x8B:
        return flags.GZIP
    if first == 0x42 and second == 0x5A and data[start + 2] == 0x68:
        return flags.BZ2
    if first == 0xFD and second == 0x37 and data[start + 2] == 0x7A:
        return flags.LZMA
    # lzma's older container, which FORMAT_AUTO readers take as well
    if first == 0x5D and second == 0 and data[start + 2] == 0:
        return flags.LZMA
    return None


def wrap_plain(ident: bytes, body: bytes | memoryview) -> bytes:
    """
    A whole frame, uncompressed and unpadded.

    :param ident: the checksum, which stands before the body.
    """
    return b"".join((_pack_size(len(body) + 32), ident, body))


def wrap_stored(ident: bytes, body: bytes | memoryview) -> bytes:
    """
    A whole frame with its content in a stored zlib stream, padded to the grid.

    :param ident: the checksum, which stands before the body.
    """
    size = len(ident) + len(body)
    checksum = zlib.adler32(body, zlib.adler32(ident)).to_bytes(4, "big")
    if size <= _LARGEST_BLOCK:
        ends = _ends.get(size)
        if ends is None:
            ends = _make_ends(size)
        return b"".join((ends[0], ident, body, checksum, ends[1]))
    view = memoryview(b"".join((ident, body)))
    parts: list[bytes | memoryview] = [b"", b"\x78\x01"]
    for start in range(0, size, _LARGEST_BLOCK):
        block = view[start : start + _LARGEST_BLOCK]
        last = start + _LARGEST_BLOCK >= size
        parts += [_STORED_BLOCK.pack(last, len(block), len(block) ^ 0xFFFF), block]
    parts.append(checksum)
    return _pad(parts, sum(map(len, parts)))


#: What stands before and behind a stored content of one block, by its size: messages
#: of an application tend to be of few sizes.
_ends: dict[int, tuple[bytes, bytes]] = {}
_MOST_ENDS: Final = 4096


def _make_ends(size: int) -> tuple[bytes, bytes]:
    length = 11 + size
    padding = -(4 + length) % GRID
    head = _SIZE.pack(length + padding) + b"\x78\x01" + _STORED_BLOCK.pack(1, size, size ^ 0xFFFF)
    if len(_ends) >= _MOST_ENDS:
        _ends.clear()
    ends = _ends[size] = (head, bytes(padding))
    return ends


def wrap_compressed(stream: bytes, method: int = flags.ZLIB) -> bytes:
    """
    A whole frame from a compressed stream, padded to the grid.

    Python's one-shot ``lzma.decompress`` takes zeros behind a stream for the beginning of
    another one and refuses the whole. No stream begins with 0xff: that it ignores.
    """
    return _pad([b"", stream], len(stream), b"\xff" if method == flags.LZMA else b"\0")


def _pad(parts: list[bytes | memoryview], length: int, filler: bytes = b"\0") -> bytes:
    padding = -(4 + length) % GRID
    parts[0] = _SIZE.pack(length + padding)
    parts.append(filler * padding)
    return b"".join(parts)


def unwrap_stored(data: bytes, start: int, stop: int) -> tuple[int, int] | None:
    """
    Find the content of a stored zlib stream that is a single block.

    The stream's own checksum is not looked at: the content begins with a better one.

    :return: where the content begins and ends, or ``None`` if this is another kind of
        stream.
    """
    magic, size, inverse = _stored_head(data, start)
    end = start + 7 + size
    if magic == b"\x78\x01\x01" and size ^ inverse == 0xFFFF and end + 4 <= stop:
        return start + 7, end
    return None


def stored_is_sound(data: bytes, begin: int, end: int, stop: int) -> bool:
    """
    Whether a stored stream can be passed on as it is: others look at its checksum.

    :param begin: where its content begins; it ends at ``end``, the frame at ``stop``.
    """
    return (
        stop - end < 4 + GRID
        and zlib.adler32(data[begin:end]) == int.from_bytes(data[end : end + 4], "big")
        and not any(data[end + 4 : stop])
    )


def choose(ours: Iterable[int], theirs: Sequence[int]) -> int | None:
    """The method a sender uses: the first of its own list that the peer listed."""
    return next((method for method in ours if method in theirs), None)


def shrinks(content: bytes | memoryview) -> bool:
    """
    Whether compressing promises anything, told from a kilobyte of its middle.

    Ten microseconds here save milliseconds on content that is compressed already.
    """
    middle = len(content) // 2
    sample = content[middle : middle + _SAMPLE]
    return len(zlib.compress(sample, 1)) < 0.9 * len(sample)
