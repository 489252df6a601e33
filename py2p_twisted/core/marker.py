"""
The marker that asks for receipts: some bytes behind a broadcast's array.

::

    [0, sender, time, 0, packet, ...]  c1 52 45 43 45 49 50 54  01  00 0a  <13 bytes>
    the array, as ever                 the magic                 |  |      the nonce
                                                 version 1 ------'  '-- deadline: 10 s

Every node ignores what stands behind the array, and passes it on byte for byte; so the request
travels with its message, through plain nodes and repairs as well, and costs no frame. No
MessagePack value begins with ``c1``. The nonce makes the id unlike any other, so that no counter
is put behind it (`outgoing`). In all these are 24 bytes, which keep the frames of plain nodes on
their grid of eight.

Source: docs/protocol/mesh-ext.rst, "Receipts".
"""

from __future__ import annotations

from typing import Final

from py2p_twisted.core.codec import end_of
from py2p_twisted.core.message import Message, with_appendix

#: What a marker begins with, and the version behind it.
MAGIC: Final = b"\xc1RECEIPT"
VERSION: Final = 1

#: Bytes of the nonce, and of the whole.
NONCE: Final = 13
MARKER: Final = len(MAGIC) + 1 + 2 + NONCE

#: Seconds that somebody may wait for receipts at most.
MOST_SECONDS: Final = 600

_HEAD: Final = MAGIC + bytes([VERSION])
_HEAD_END: Final = len(_HEAD) - MARKER


def mark(message: Message, seconds: int, nonce: bytes) -> Message:
    """
    The same message, with a request for receipts.

    :param seconds: how long somebody waits for them, from 1 to `MOST_SECONDS`.
    :param nonce: `NONCE` bytes that nobody has used before.
    """
    return with_appendix(message, _HEAD + seconds.to_bytes(2, "big") + nonce)


def asked_seconds(body: bytes | memoryview) -> int:
    """
    How many seconds somebody waits for receipts of a message; 0 if nobody does.

    :param body: one that has been decoded.
    """
    if body[-MARKER:_HEAD_END] != _HEAD:
        return 0  # nearly always
    seconds = int.from_bytes(body[_HEAD_END : _HEAD_END + 2], "big")
    # The bytes may also be the end of what an application says.
    if not 0 < seconds <= MOST_SECONDS or end_of(body) != len(body) - MARKER:
        return 0
    return seconds
