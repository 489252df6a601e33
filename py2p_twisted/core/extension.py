"""
The frames of mesh-ext: what extended nodes say to each other besides 0.6.

Every one is a whisper, from neighbour to neighbour, with the sub-flag `flags.EXTENSION`
and a `Kind`::

    [2, sender, time, 0x2E, kind, ...]

The first, `Kind.HELLO`, is the only one that a node ever sends to a peer that has not sent
its own. In all others the sender is empty: the link says who it is.

A message is known by its short id, the first `SHORT` bytes of its id. Eight would do against
chance, but an attacker could make two messages that share them.

What a peer says wrongly in here is a `BadExtension`, and costs it the link: it has
announced that it knows how to speak. Source: docs/protocol/mesh-ext.rst, "Frames".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum
from struct import unpack
from typing import Any, Final

from py2p_twisted.core.connection import read_address
from py2p_twisted.core.message import MAX_ID
from py2p_twisted.core.network import Address
from py2p_twisted.core.seen import SHORT
from py2p_twisted.errors import BadExtension

#: The version that this node speaks. Nodes of a higher one are spoken to in this one.
VERSION: Final = 1

#: Ids in one frame at most: more are sent in pages. Source: docs/protocol/mesh-ext.rst.
PAGE: Final = 1000

#: One short id, as struct has it.
_ONE_ID: Final = f"{SHORT}s"

#: Bytes of a page of ids, and of what stands around it: an extended node accepts as much,
#: however small the messages of its application have to be.
LARGEST: Final = 20 * 1024

#: Addresses in one frame at most.
MOST_ENTRIES: Final = 32


class Kind(IntEnum):
    """What a frame of the extension says."""

    HELLO = 1
    JOIN = 2
    FORWARD_JOIN = 3
    NEIGHBOR = 4
    NEIGHBOR_OK = 5
    NEIGHBOR_NO = 6
    DISCONNECT = 7
    SHUFFLE = 8
    SHUFFLE_REPLY = 9
    IHAVE = 10
    GRAFT = 11
    PRUNE = 12
    DIGEST = 13
    DIGEST_IDS = 14
    PING = 15
    PONG = 16
    NOT_HELD = 17
    ROUTED = 18
    ROUTED_ANSWER = 19
    RECEIPT = 20
    SURVEY = 21
    SURVEY_ANSWER = 22


#: Where a node can be dialled, and its id.
Entry = tuple[Address, bytes]


def need(fields: Sequence[Any], *types: type) -> Sequence[Any]:
    """
    The first fields of a frame, checked; more may follow, from later versions.

    :raises BadExtension: there are fewer, or they are of other types.
    """
    if len(fields) < len(types) or not all(
        type(field) is wanted for field, wanted in zip(fields, types, strict=False)
    ):
        names = ", ".join(wanted.__name__ for wanted in types)
        raise BadExtension(f"expected fields {names}, not {fields!r:.80}")
    return fields


def write_ids(idents: Iterable[bytes]) -> bytes:
    """Short ids as one field."""
    return b"".join(idents)


def read_ids(field: Any) -> list[bytes]:
    """
    The short ids in a field.

    :raises BadExtension: it holds half ones, or more than `PAGE`.
    """
    if type(field) is not bytes or len(field) % SHORT or len(field) > SHORT * PAGE:
        raise BadExtension(f"expected up to {PAGE} ids of {SHORT} bytes, not {field!r:.40}")
    # (A quarter of the time that slices take.)
    return list(unpack(_ONE_ID * (len(field) // SHORT), field))


def write_entry(entry: Entry) -> list[Any]:
    """An address and an id as one field."""
    (host, port), ident = entry
    return [[host, port], ident]


def read_entry(field: Any) -> Entry | None:
    """The address and the id in a field; ``None`` if nobody could be dialled by it."""
    if type(field) is not list or len(field) != 2:
        return None
    address, ident = read_address(field[0]), field[1]
    if address is None or type(ident) is not bytes or not 0 < len(ident) <= MAX_ID:
        return None
    return address, ident


def read_entries(field: Any) -> list[Entry]:
    """
    The usable entries of a list; others are passed over.

    :raises BadExtension: it is no list, or longer than `MOST_ENTRIES`.
    """
    if type(field) is not list or len(field) > MOST_ENTRIES:
        raise BadExtension(f"expected a list of up to {MOST_ENTRIES} addresses")
    return [entry for entry in map(read_entry, field) if entry is not None]
