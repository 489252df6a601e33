"""
Which network a node belongs to, and under which id it goes there.

Two nodes talk only if their *protocol ids* are equal: the hash of the network's name,
its encryption and the protocol version. A *node id* is a hash of the outward address,
the protocol id and a salt drawn once a process; nobody can check it.

Source: docs/protocol/wire.rst, "Ids".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256, sha384

from py2p_twisted.core import base58
from py2p_twisted.errors import BadArgument

#: The wire format's version. Part of every protocol id, so formats do not mix.
PROTOCOL_VERSION = "0.6"

PLAINTEXT = "Plaintext"
SSL = "SSL"

#: A host and a port, as they travel in handshakes and peers lists.
Address = tuple[str, int]


def address_text(host: str, port: int) -> str:
    """An address as it is typed: one of IPv6 stands in brackets, ``[2001:db8::7]:4444``."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True)
class Network:
    """
    A network's name and how its links are encrypted.

    :ivar name: any text; ``mesh`` by default, as in py2p.
    :ivar encryption: ``Plaintext`` or ``SSL``; other words make an id as well, but no
        node can be started with them.
    """

    name: str = "mesh"
    encryption: str = PLAINTEXT

    @cached_property
    def id(self) -> str:
        """The protocol id: base 58 of SHA-256 over name, encryption and version."""
        return protocol_id(self.name, self.encryption)

    def require_known_encryption(self) -> None:
        """
        Refuse what no transport exists for.

        :raises BadArgument: the encryption is neither ``Plaintext`` nor ``SSL``.
        """
        if self.encryption not in (PLAINTEXT, SSL):
            raise BadArgument(
                f"unknown encryption {self.encryption!r}: choose {PLAINTEXT!r} or {SSL!r}"
            )


def protocol_id(name: str, encryption: str) -> str:
    """The protocol id of a network, 43 or 44 characters."""
    digest = sha256(f"{name}{encryption}{PROTOCOL_VERSION}".encode()).digest()
    return base58.encode(int.from_bytes(digest, "big")).decode("ascii")


def node_id(address: Address, network_id: str, salt: str) -> bytes:
    """
    The id of the node at an outward address.

    :param salt: random text, the same for all nodes of one process.
    :return: 65 or 66 base 58 digits.
    """
    seed = f"{address!r}{network_id}{salt}".encode()
    return base58.encode(int.from_bytes(sha384(seed).digest(), "big"))
