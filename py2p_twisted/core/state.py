"""
What a node keeps between two runs, as bytes: its id, whom it knew, and what it has delivered.

Three kinds of files, each with its name and version in the first line. What is damaged is told from
what is not by checksums or by its form, and everything that can be read is::

    identity     py2p identity 1
                 <id> <CRC-32, 8 hexadecimal digits>

    addresses    py2p addresses 1
                 <protocol id of the network>
                 ["192.0.2.7", 4444, "<id>"]            one node a line, as JSON, the best first

    ids          py2p ids 1
                 [mark 2][how many 2][when 4][CRC-32 4][ids, 32 each] ...

The ids of one write stand together, with one time: whole seconds of the wall clock. They are in the
order in which they came, which is the truth; a clock that is set makes times wrong, and no id is lost
for that (`with_ages`). A reader that meets damage looks for the next mark whose checksum is right.

Nothing here touches a file. Source: docs/howto/operating.rst, docs/delivery.rst.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from struct import Struct
from typing import Final
from zlib import crc32

from py2p_twisted.core import base58
from py2p_twisted.core.connection import read_address
from py2p_twisted.core.message import MAX_ID
from py2p_twisted.core.network import Address

#: The version of all three formats that is written, and the greatest one that is read.
VERSION: Final = 1

#: Bytes of a message id.
ID: Final = 32

#: What stands before ids that were written together: a mark, how many they are, the time, and a
#: checksum over the rest.
_MARK: Final = b"\xa5\x1d"
_COUNTED: Final = Struct(">HI")
_CHECKSUM: Final = Struct(">I")
HEAD: Final = len(_MARK) + _COUNTED.size + _CHECKSUM.size

#: Ids that stand together at most; a turn that brought more writes several such runs.
MOST_TOGETHER: Final = 4096

#: Between two writes no more is believed to have passed than this, in seconds: the clock may have
#: been set.
_LONGEST_STEP: Final = 60

#: Bytes of a line that names a node: a host of 253 characters, an id of 256 bytes, all escaped.
_LONGEST_LINE: Final = 6 * (253 + MAX_ID) + 64

_TITLE: Final = re.compile(rb"py2p (identity|addresses|ids) ([0-9]{1,9})\n")

#: Ids that came together: when, and which.
Run = tuple[int, Sequence[bytes]]


class NewerVersion(ValueError):
    """
    A file was written by a newer version of this package, and might be read wrongly.

    :ivar version: that of its format.
    """

    def __init__(self, version: int) -> None:
        super().__init__(f"its format has the version {version}, and this package reads {VERSION}")
        self.version = version


class Damaged(ValueError):
    """Nothing of a file can be used."""


def title(kind: str) -> bytes:
    """The first line of a file."""
    return b"py2p %b %d\n" % (kind.encode("ascii"), VERSION)


def _behind_title(data: bytes, kind: str) -> int | None:
    """
    Where a file's content begins; ``None`` if its first line is damaged.

    :raises NewerVersion: it is from a newer version.
    """
    match = _TITLE.match(data)
    if match is None or match[1] != kind.encode("ascii") or int(match[2]) < 1:
        return None
    if int(match[2]) > VERSION:
        raise NewerVersion(int(match[2]))
    return match.end()


# --- who we are ----------------------------------------------------------------------------


def encode_identity(ident: bytes) -> bytes:
    """A node's id as a file."""
    return title("identity") + b"%b %08x\n" % (ident, crc32(ident))


def decode_identity(data: bytes) -> bytes:
    """
    A node's id from a file.

    :raises Damaged: it cannot be told any more.
    :raises NewerVersion: the file is from a newer version.
    """
    start = _behind_title(data, "identity")
    fields = data[start:].split(b" ") if start is not None else ()
    if len(fields) != 2 or not 0 < len(fields[0]) <= MAX_ID:
        raise Damaged("no id stands in it")
    ident, checksum = fields
    if checksum != b"%08x\n" % crc32(ident) or ident.strip(base58.ALPHABET):
        raise Damaged("the id in it does not agree with its checksum")
    return ident


# --- whom we know --------------------------------------------------------------------------


def encode_book(peers: Iterable[tuple[Address, bytes]], network: str) -> bytes:
    """Addresses, and who lives there, as a file."""
    lines = [
        json.dumps([host, port, ident.decode("latin-1")]) + "\n" for (host, port), ident in peers
    ]
    return title("addresses") + f"{network}\n{''.join(lines)}".encode("ascii")


def decode_book(data: bytes, network: str, most: int) -> tuple[list[tuple[Address, bytes]], int]:
    """
    Addresses from a file, as far as they can be read.

    :param network: the protocol id of our network; the addresses of another one are of no use.
    :param most: how many are wanted.
    :return: the addresses with the ids that live there, and how many lines made no sense.
    :raises NewerVersion: the file is from a newer version.
    """
    start = _behind_title(data, "addresses")
    *lines, rest = data[start or 0 :].split(b"\n")
    damaged = int(bool(rest)) + int(start is None)
    peers: dict[Address, bytes] = {}
    if lines and not lines[0].startswith(b"["):
        if start is not None and lines[0] != network.encode("ascii"):
            return [], 0
        del lines[0]
    for line in lines:
        peer = _read_peer(line)
        if peer is None:
            damaged += 1
        elif len(peers) < most:
            peers.setdefault(*peer)
    return list(peers.items()), damaged


def _read_peer(line: bytes) -> tuple[Address, bytes] | None:
    if len(line) > _LONGEST_LINE:
        return None
    try:
        host, port, told = json.loads(line)
        ident = told.encode("latin-1")
        address = read_address((host, port))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    if address is None or len(ident) > MAX_ID or not isinstance(host, str):
        return None
    return address, ident


# --- what we have delivered ----------------------------------------------------------------


def encode_ids(idents: Sequence[bytes], seconds: int) -> bytes:
    """
    Ids that came together, to be appended to a file.

    :param seconds: when: seconds since 1970.
    """
    when = min(max(seconds, 0), 2**32 - 1)
    parts: list[bytes] = []
    for first in range(0, len(idents), MOST_TOGETHER):
        run = idents[first : first + MOST_TOGETHER]
        body = b"".join(run)
        counted = _COUNTED.pack(len(run), when)
        parts += (_MARK, counted, _CHECKSUM.pack(crc32(body, crc32(counted))), body)
    return b"".join(parts)


def decode_ids(data: bytes) -> tuple[list[Run], int]:
    """
    Ids from a file, as far as they can be read.

    :return: the runs in which they came, oldest first, and how many bytes made no sense.
    :raises NewerVersion: the file is from a newer version.
    """
    position = _behind_title(data, "ids") or 0
    runs: list[Run] = []
    lost = 0
    start = position
    while (start := data.find(_MARK, start)) >= 0:
        body = start + HEAD
        if body > len(data):
            break
        count, when = _COUNTED.unpack_from(data, start + 2)
        stop = body + ID * count
        if 0 < count <= MOST_TOGETHER and stop <= len(data):
            (checksum,) = _CHECKSUM.unpack_from(data, body - 4)
            if checksum == crc32(data[body:stop], crc32(data[start + 2 : body - 4])):
                runs.append((when, [data[at : at + ID] for at in range(body, stop, ID)]))
                lost += start - position
                start = position = stop
                continue
        start += 1
    return runs, lost + len(data) - position


def with_ages(
    runs: Sequence[Run], wall: float, oldest: float
) -> list[tuple[float, Sequence[bytes]]]:
    """
    How long ago ids came, whatever has become of the clock since.

    :param wall: what time it is, seconds since 1970.
    :param oldest: no age is greater: an id that was kept is known for a while yet. (Else a clock that
        was set forward would have all forgotten at once.)
    :return: the age of each run, in seconds, and its ids; in the same order, ages never growing.
    """
    aged: list[tuple[float, Sequence[bytes]]] = []
    least = 0.0
    for when, idents in reversed(runs):
        # What came before is no younger than what came after.
        least = min(max(least, wall - when), oldest)
        aged.append((least, idents))
    aged.reverse()
    return aged


def latest(runs: Sequence[Run], most: int) -> Sequence[Run]:
    """The last of them, as many as hold so many ids."""
    count = 0
    for place in range(len(runs) - 1, -1, -1):
        count += len(runs[place][1])
        if count >= most:
            return runs[place:]
    return runs


def span(runs: Sequence[Run]) -> float:
    """
    How many seconds the ids of a file have taken to come, at least.

    Steps of the clock do not count, nor does the time in which a node did not run.
    """
    total = 0.0
    for place in range(1, len(runs)):
        total += min(max(runs[place][0] - runs[place - 1][0], 0), _LONGEST_STEP)
    return total
