"""
Message bodies as MessagePack: checked on the way out, bounded on the way in.

A body is one array, ``[main flag, sender id, time, *payload]``. Bytes behind the array
are allowed, ignored by every implementation, and count for checksum and id.

What may be sent is exactly what the wire format lists (text, bytes, numbers, ``None``,
booleans, lists, tuples, dicts); anything else is a `NotSendable` that names the value,
raised in the thread that called ``send``.

What comes in is bounded before memory grows: at most `MAX_ELEMENTS` values in a message,
nested at most `MAX_DEPTH` deep. The C decoder reserves room for as many items as an array
header *claims*, so a few bytes could otherwise cost gigabytes. Two steps keep the usual
message fast::

    body up to 100,000 bytes     decoded at once, arrays and maps of up to 256 items
    larger, or wider             measured first (headers only), then decoded

A body that is no message at all is a `MalformedMessage`, which costs the link: no honest
node passes it on. A body that is one, but unusable, is a `ContentError`: honest 0.6
nodes relay more than they check.

Sizes are in bytes. Source: docs/protocol/wire.rst, "MessagePack"; docs/design.rst,
"Bad input".
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from itertools import chain
from typing import Any, Final

import msgpack

from py2p_twisted.errors import (
    BadField,
    BadText,
    MalformedMessage,
    NotSendable,
    TooDeep,
    TooManyElements,
)

#: Values in one message, containers and their items alike. 4 MiB of empty lists (one
#: byte each) would otherwise become 292 MiB of Python objects (measured with msgpack 1.1).
MAX_ELEMENTS: Final = 100_000

#: How deep lists and dicts may nest, the message's own array included.
MAX_DEPTH: Final = 32

#: Items per container in the one-step decoder. The C decoder nests 1,024 deep and
#: reserves 8 bytes an item: 1,024 x 256 x 8 bytes = 2 MiB at the very worst.
NARROW: Final = 256

SCALARS: Final = frozenset({str, bytes, int, float, bool, type(None)})

# Packers are reused because each one allocates its buffer; a deque hands them to any
# number of threads without a lock.
_packers: deque[msgpack.Packer] = deque(maxlen=32)


def encode(items: tuple[Any, ...]) -> bytes:
    """
    Write a body.

    May be called from any thread.

    :param items: main flag, sender, time (whole seconds since 1970, UTC), sub-flag, packets.
    :raises NotSendable: a value has no encoding, is nested too deeply, or there are
        too many of them.
    """
    return _pack(items)


def encode_aligned(
    flag: int, sender: bytes, time: int, payload: tuple[Any, ...], offset: int
) -> bytes:
    """
    Write a body whose length, plus ``offset``, is a multiple of eight.

    MessagePack has several encodings for most values. The headers of the array, the sender
    and the time are chosen so wide that the sum comes out; every decoder reads them alike.

    May be called from any thread.

    :param payload: sub-flag and packets.
    :raises NotSendable: see `encode`.
    """
    packed = _pack(payload, 3)
    skip, prefixes = _prefixes(flag, sender, time, len(payload), offset)
    return prefixes[len(packed) & 7] + packed[skip:]


def prefixes_for_one(sender: bytes, time: int, offset: int) -> tuple[bytes, ...]:
    """
    What stands before the only packet of a broadcast, by its packed length modulo eight.

    With it the usual message of one value is put together from two pieces, see `pack_one`.

    :return: eight of them, or none where `encode_aligned` cannot align either.
    """
    if not 0 <= time < 2**32:
        return ()
    # The main flag is broadcast, and so is the sub-flag.
    pieces = [_prefix(0, sender, time, 2, more) + b"\0" for more in range(8)]
    return tuple(pieces[-(offset + len(pieces[0]) + length) % 8] for length in range(8))


def pack_one(packet: Any) -> bytes:
    """
    MessagePack of one scalar (its type is one of `SCALARS`).

    :raises NotSendable: see `encode`.
    """
    try:
        packer = _packers.pop()
    except IndexError:
        packer = msgpack.Packer(use_bin_type=True)
    try:
        packed: bytes = packer.pack(packet)
    except (OverflowError, UnicodeEncodeError, ValueError):
        return _pack((packet,))  # which says what is wrong
    _packers.append(packer)
    return packed


#: Bytes to be added -> wider by so much: the array's header, the sender's, the time.
_WIDER: Final = (
    (0, 0, 0), (0, 1, 0), (2, 0, 0), (0, 3, 0), (0, 0, 4), (0, 1, 4), (2, 0, 4), (0, 3, 4),
)  # fmt: skip


@lru_cache(maxsize=16)
def _prefixes(
    flag: int, sender: bytes, time: int, count: int, offset: int
) -> tuple[int, tuple[bytes, ...]]:
    """
    What stands before a payload of ``count`` items, by its packed length modulo eight.

    Kept, because the messages of one second share it.

    :return: how many bytes of the packed payload to leave out (an array's header of its
        own, while its items are wanted in a longer array), and the eight prefixes.
    """
    skip = 1 if count < 16 else 3 if count < 0x10000 else 5
    if not 0 <= time < 2**32:
        # A clock like that has other problems; such frames are wrapped.
        head: bytes = msgpack.packb((flag, sender, time, *[0] * count))
        return skip, (head[:-count],) * 8
    by_length = []
    shortest = len(_prefix(flag, sender, time, count, 0))
    for length in range(8):
        missing = -(offset + shortest + length - skip) % 8
        by_length.append(_prefix(flag, sender, time, count, missing))
    return skip, tuple(by_length)


def _prefix(flag: int, sender: bytes, time: int, count: int, more: int) -> bytes:
    for_array, for_sender, for_time = _WIDER[more]
    items = count + 3
    if items < 16:
        array = bytes([0x90 + items]) if not for_array else b"\xdc" + items.to_bytes(2, "big")
    elif items < 0x10000 and not for_array:
        array = b"\xdc" + items.to_bytes(2, "big")
    else:
        array = b"\xdd" + items.to_bytes(4, "big")
    size = len(sender)
    who = {
        0: b"\xc4" + size.to_bytes(1, "big"),
        1: b"\xc5" + size.to_bytes(2, "big"),
        3: b"\xc6" + size.to_bytes(4, "big"),
    }[for_sender]
    when = b"\xcf" + time.to_bytes(8, "big") if for_time else b"\xce" + time.to_bytes(4, "big")
    return array + bytes(_pack_flag(flag)) + who + sender + when


def _pack_flag(flag: int) -> bytes:
    packed: bytes = msgpack.packb(flag)
    return packed


def _pack(items: tuple[Any, ...], others: int = 0) -> bytes:
    """MessagePack of a tuple, after a check of what is in it, besides so many others."""
    if len(items) + others >= MAX_ELEMENTS:
        raise NotSendable(f"a message holds at most {MAX_ELEMENTS} values")
    for item in items:
        if type(item) not in SCALARS:
            _check_sendable(items, others)
            break
    try:
        packer = _packers.pop()
    except IndexError:
        packer = msgpack.Packer(use_bin_type=True)
    try:
        packed: bytes = packer.pack(items)
        _packers.append(packer)
    except OverflowError as error:
        raise NotSendable(
            f"integers reach from -2**63 to 2**64-1: {_name_overflow(items)}"
        ) from error
    except UnicodeEncodeError as error:
        raise NotSendable(f"text with lone surrogates cannot be sent: {error.object!r}") from error
    except (TypeError, ValueError) as error:
        raise NotSendable(f"a packet cannot be sent: {error}") from error
    return packed


def _check_sendable(items: tuple[Any, ...], others: int) -> None:
    """
    Walk through nested packets, because the encoder itself is more generous than the wire.

    It would quietly write bytearrays as bytes and extension types as such.
    """
    count = others
    # (value, depth); a plain stack, so that deep nesting cannot exhaust Python's own
    todo: list[tuple[Any, int]] = [(items, 1)]
    while todo:
        value, depth = todo.pop()
        count += 1
        if isinstance(value, (list, tuple)) and not isinstance(value, msgpack.ExtType):
            children: Iterable[Any] = value
        elif isinstance(value, dict):
            children = (part for pair in value.items() for part in pair)
        elif isinstance(value, (str, bytes, int, float, bool)) or value is None:
            continue
        else:
            raise NotSendable(
                f"{_short(value)} is a {type(value).__name__}; what can be sent is "
                "str, bytes, int, float, bool, None, and lists, tuples and dicts of those"
            )
        if depth > MAX_DEPTH:
            raise NotSendable(f"packets nest at most {MAX_DEPTH - 1} deep")
        todo.extend((child, depth + 1) for child in children)
        if count + len(todo) > MAX_ELEMENTS:
            raise NotSendable(f"a message holds at most {MAX_ELEMENTS} values")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _name_overflow(items: tuple[Any, ...]) -> str:
    """Find the integer that the encoder refused without naming it."""
    todo: list[Any] = list(items)
    while todo:
        value = todo.pop()
        if isinstance(value, (list, tuple)):
            todo.extend(value)
        elif isinstance(value, dict):
            todo.extend(value.keys())
            todo.extend(value.values())
        elif isinstance(value, int) and not -(2**63) <= value < 2**64:
            return _short(value)
    return "a number is out of range"


def decode(body: bytes | memoryview) -> Sequence[Any]:
    """
    Read a body's array; bytes behind it are ignored.

    :return: at least three items, whose types are not checked yet. Arrays among them are
        lists, as they are in every implementation.
    :raises MalformedMessage: no MessagePack array of three or more items.
    :raises ContentError: an array, but one that this node is not willing or able to hold.
    """
    return decode_and_count(body)[0]


def decode_and_count(body: bytes | memoryview) -> tuple[Sequence[Any], int]:
    """
    The same, and how many values there are in it, nested ones as well.

    Of an array of scalars, which shows its number itself, it is 0.
    """
    count = 0
    if len(body) <= MAX_ELEMENTS:
        try:
            # As tuples: of scalars alone, as most are, the garbage collector lets go of them.
            value = _unpack_flat(body)
        except msgpack.ExtraData as extra:
            value = extra.unpacked
        except (ValueError, TypeError, OverflowError):
            # Wide, damaged or odd. Which of them, the careful way tells.
            value, count = _decode_carefully(body)
        else:
            if type(value) is tuple:
                for item in value:
                    if type(item) not in SCALARS:
                        break
                else:
                    if len(value) > 2:
                        return value, 0
    else:
        value, count = _decode_carefully(body)
    if type(value) is tuple:
        # Something nested in it: once more, with lists.
        value, count = _decode_carefully(body)
    if type(value) is not list:
        raise MalformedMessage(f"a message is an array, not {type(value).__name__}")
    if len(value) < 3:
        raise MalformedMessage(f"a message has at least 3 items, not {len(value)}")
    for item in value:
        if type(item) not in SCALARS:
            _check_depth(value)
            break
    return value, count


def decode_head(body: bytes) -> tuple[Any, Any, Any]:
    """
    Read the first three items of a body that has been decoded before, or of its beginning.

    A few microseconds, however large the body is.
    """
    unpacker = msgpack.Unpacker(use_list=False, raw=False, strict_map_key=False)
    unpacker.feed(body)
    unpacker.read_array_header()
    return unpacker.unpack(), unpacker.unpack(), unpacker.unpack()


def end_of(body: bytes | memoryview) -> int:
    """Where the array of a body ends that has been decoded before; bytes may follow."""
    unpacker = msgpack.Unpacker(max_buffer_size=max(1, len(body)))
    unpacker.feed(body)
    unpacker.skip()
    end: int = unpacker.tell()
    return end


#: MessagePack of one flat array, as a tuple; raises ``ValueError`` or ``TypeError`` for
#: whatever it does not take, and never builds more than a body's bytes allow.
_unpack_flat: Final = partial(
    msgpack.unpackb,
    use_list=False,
    raw=False,
    strict_map_key=False,
    max_array_len=NARROW,
    max_map_len=NARROW,
)


def _decode_carefully(body: bytes | memoryview) -> tuple[object, int]:
    """Decode what has been measured: every header is then known to speak the truth."""
    count = measure(body)
    pairs: Callable[[Any], Any] | None = None
    for _ in range(2):
        try:
            value = msgpack.unpackb(
                body,
                use_list=True,
                raw=False,
                strict_map_key=False,
                max_array_len=MAX_ELEMENTS,
                max_map_len=MAX_ELEMENTS,
                object_pairs_hook=pairs,
            )
            return value, count
        except msgpack.ExtraData as extra:
            return extra.unpacked, count
        except UnicodeDecodeError as error:
            raise BadText(f"a text is not UTF-8: {error.reason}") from error
        except msgpack.StackError as error:
            raise TooDeep(f"a message nests at most {MAX_DEPTH} deep") from error
        except (TypeError, OverflowError) as error:
            if pairs is not None:
                raise BadField(f"a dict's key cannot be a key: {error}") from error
            # Lists as keys: the reference takes them as tuples, so do we, the slow way.
            pairs = _pairs_with_frozen_keys
        except ValueError as error:
            raise BadField(f"a value cannot be read: {error}") from error
    raise BadField("a dict's key cannot be a key")  # pragma: no cover


def _pairs_with_frozen_keys(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    return {_freeze(key): value for key, value in pairs}


def _freeze(key: Any, depth: int = 1) -> Any:
    if depth > MAX_DEPTH:
        raise TooDeep(f"a message nests at most {MAX_DEPTH} deep")
    if isinstance(key, list):
        return tuple([_freeze(item, depth + 1) for item in key])
    return key


_NESTING: Final = frozenset({list, tuple, dict})


def _check_depth(value: object) -> None:
    level: list[Any] = [value]
    depth = 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise TooDeep(f"a message nests at most {MAX_DEPTH} deep")
        below: list[Any] = []
        for container in level:
            items = chain(container, container.values()) if type(container) is dict else container
            below += [item for item in items if type(item) in _NESTING]
        level = below


# One step of the measuring: what follows a first byte. Runs of one-byte values (small
# numbers, None, booleans, empty text, lists and dicts) go by in C.
_ONE_BYTE: Final = re.compile(rb"[\x00-\x80\x90\xa0\xc0\xc2\xc3\xe0-\xff]+")

#: First byte -> bytes of a fixed-size value behind it.
_FIXED: Final = {
    0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8,
    0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17,
    **{0xA0 + size: size for size in range(1, 32)},
}  # fmt: skip

#: First byte -> (width of the length behind it, bytes besides the content).
_SIZED: Final = {
    0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0),
    0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1),
    0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0),
}  # fmt: skip

#: First byte -> (width of the count behind it, values per item).
_CONTAINERS: Final = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}


def measure(body: bytes | memoryview) -> int:
    """
    Count the values of a body from its headers alone, building none of them.

    :return: how many values the first object holds, itself included.
    :raises MalformedMessage: the object is not complete, or a byte has no meaning.
    :raises TooManyElements: the headers claim more than `MAX_ELEMENTS`.
    """
    total = awaited = 1
    position, end = 0, len(body)
    while awaited:
        if position >= end:
            raise MalformedMessage("a message is cut short")
        first = body[position]
        if run := _ONE_BYTE.match(body, position, min(end, position + awaited)):
            taken = run.end() - position
            position += taken
            awaited -= taken
            continue
        awaited -= 1
        position += 1
        if first in _FIXED:
            position += _FIXED[first]
            continue
        if first in _SIZED:
            width, extra = _SIZED[first]
            size = int.from_bytes(body[position : position + width], "big")
            position += width + extra + size
            continue
        if first in _CONTAINERS:
            width, each = _CONTAINERS[first]
            if position + width > end:
                raise MalformedMessage("a message is cut short")
            items = int.from_bytes(body[position : position + width], "big") * each
            position += width
        elif 0x91 <= first <= 0x9F:
            items = first - 0x90
        elif 0x81 <= first <= 0x8F:
            items = 2 * (first - 0x80)
        else:
            raise MalformedMessage(f"0x{first:02x} begins no MessagePack value")
        total += items
        awaited += items
        if total > MAX_ELEMENTS:
            raise TooManyElements(
                f"a message holds at most {MAX_ELEMENTS} values, this one claims {total}"
            )
    if position > end:
        raise MalformedMessage("a message is cut short")
    return total
