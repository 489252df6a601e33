"""
The numbers of the wire.

Main flags say how a message travels, sub-flags (the first item of the payload) what it
means, methods how a frame is compressed. 0 to 47 are reserved for the library; numbers
from 48 on are free for applications' own sub-flags.

Source: docs/protocol/wire.rst, "Flags"; py2p 0.6.757, ``base.flags``.
"""

from __future__ import annotations

# main flags
BROADCAST = 0
RENEGOTIATE = 1
WHISPER = 2

# sub-flags (0 and 2 are those of ordinary messages)
COMPRESSION = 1
HANDSHAKE = 5
PEERS = 7
REQUEST = 8
RESEND = 9
RESPONSE = 10

#: The sub-flag of mesh-ext frames. Source: docs/protocol/mesh-ext.rst, "Frames".
EXTENSION = 0x2E

# compression methods
BZ2 = 16
GZIP = 17
LZMA = 18
ZLIB = 19

#: Every number of 0.6, by the name that ``base.flags`` documents.
NAMES: dict[str, int] = {
    "broadcast": BROADCAST,
    "renegotiate": RENEGOTIATE,
    "whisper": WHISPER,
    "ping": 3,
    "pong": 4,
    "compression": COMPRESSION,
    "handshake": HANDSHAKE,
    "notify": 6,
    "peers": PEERS,
    "request": REQUEST,
    "resend": RESEND,
    "response": RESPONSE,
    "store": 11,
    "retrieve": 12,
    "retrieved": 13,
    "bz2": BZ2,
    "gzip": GZIP,
    "lzma": LZMA,
    "zlib": ZLIB,
    "bwtc": 20,
    "context1": 21,
    "defsum": 22,
    "dmc": 23,
    "fenwick": 24,
    "huffman": 25,
    "lzjb": 26,
    "lzjbr": 27,
    "lzp3": 28,
    "mtf": 29,
    "ppmd": 30,
    "simple": 31,
    "snappy": 32,
}

#: First number that is not the library's.
FIRST_FREE = 48

#: Sub-flags that nodes act on by themselves; an application that sent them would be
#: speaking in its node's name.
PRIVILEGED = frozenset({COMPRESSION, HANDSHAKE, PEERS, REQUEST, RESEND, RESPONSE})

#: Sub-flags set aside for extensions between nodes of this package. Source:
#: docs/protocol/mesh-ext.rst.
EXTENSIONS = range(0x21, 0x30)
