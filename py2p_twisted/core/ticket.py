"""
All that it takes to join a network, as one word.

::

    py2p1 + base 58 of   version, encryption, name, addresses, records, checksum
                         1        1 byte      text  up to 16   any     4 bytes

    py2p1BUVQvN...

A ticket names a network, how its links are encrypted, and nodes to join through. There may be more
in it: records of a type and a length, of which a reader skips those that it need not know. One is
the fingerprint of a certificate, that of the node at the first address. The checksum finds a mistake in copying, four billion times out of
one; it proves nothing about who has made a ticket. Nor is a ticket a password: what it says, anybody
says who has seen it.

Source: docs/protocol/discovery.rst, "Tickets".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from py2p_twisted.core import base58
from py2p_twisted.core.connection import read_address
from py2p_twisted.core.network import PLAINTEXT, SSL, Address, Network
from py2p_twisted.errors import BadArgument

#: What every ticket of this format begins with. No address does: it has a colon.
PREFIX: Final = "py2p1"

#: The first byte of what stands behind it. It is not 0, which base 58 would lose.
VERSION: Final = 1

#: Characters of a ticket that are read: of ten nodes with IPv6 addresses it has some 320.
LONGEST: Final = 2048

#: Addresses in one ticket. One is enough; the others are for when that node is gone.
MOST_ADDRESSES: Final = 16

#: Bytes of the name of a network, as UTF-8.
LONGEST_NAME: Final = 512

#: Bytes of the checksum. Of random changes one in 2**32 is not noticed.
CHECKSUM: Final = 4

#: Bytes of a fingerprint: SHA-256 of a certificate.
FINGERPRINT: Final = 32

_ENCRYPTIONS: Final = (PLAINTEXT, SSL)

#: Kinds of addresses.
_NAME, _FOUR, _SIX = 0, 4, 6

#: Types of records. A reader that does not know one from here on has to refuse the ticket.
_FINGERPRINT: Final = 1
_NEEDED: Final = 128


@dataclass(frozen=True, slots=True)
class Ticket:
    """
    What a ticket says.

    :ivar network: the network, with its encryption.
    :ivar addresses: nodes to join through, the best first.
    :ivar fingerprint: SHA-256 of the certificate of the node at the first of them, which whoever
        dials it insists on; ``None``: anybody is accepted there.
    """

    network: Network
    addresses: tuple[Address, ...]
    fingerprint: bytes | None = None

    def __str__(self) -> str:
        return write(self)

    @property
    def fingerprints(self) -> dict[Address, bytes]:
        """The fingerprint, by the address that it belongs to."""
        return {} if self.fingerprint is None else {self.addresses[0]: self.fingerprint}


def is_ticket(text: str) -> bool:
    """Whether a text is meant to be a ticket, and not an address: it need not be a good one."""
    return ":" not in text and text.strip().lower().startswith("py2p")


def write(ticket: Ticket) -> str:
    """
    A ticket as text.

    :raises BadArgument: it has no address or too many, one that nobody can dial, a name that is
        too long, or another encryption than the two that there are.
    """
    name = _utf8(ticket.network.name)
    if not 0 < len(name) <= LONGEST_NAME:
        raise BadArgument(f"a ticket holds a name of 1 to {LONGEST_NAME} bytes, not {len(name)}")
    ticket.network.require_known_encryption()
    if not 0 < len(ticket.addresses) <= MOST_ADDRESSES:
        count = len(ticket.addresses)
        raise BadArgument(f"a ticket holds 1 to {MOST_ADDRESSES} addresses, not {count}")
    encryption = _ENCRYPTIONS.index(ticket.network.encryption)
    body = bytearray((VERSION, encryption))
    body += len(name).to_bytes(2, "big") + name
    body.append(len(ticket.addresses))
    for address in ticket.addresses:
        body += _write_address(address)
    if ticket.fingerprint is not None:
        if len(ticket.fingerprint) != FINGERPRINT:
            raise BadArgument(f"a fingerprint has {FINGERPRINT} bytes")
        body += bytes((_FINGERPRINT, FINGERPRINT)) + ticket.fingerprint
    number = int.from_bytes(body + _checksum(body), "big")
    text = PREFIX + base58.encode(number).decode("ascii")
    if len(text) > LONGEST:
        raise BadArgument(f"a ticket has {LONGEST} characters at most: name fewer addresses")
    return text


def read(text: str) -> Ticket:
    """
    Read a ticket. Blanks and line breaks in it do not count.

    :raises BadArgument: it is none, or was damaged; the text says which, in one sentence.
    """
    if len(text) > 2 * LONGEST:
        raise BadArgument(f"a ticket has {LONGEST} characters at most")
    text = "".join(text.split())
    if not text.startswith(PREFIX):
        if is_ticket(text) and text[4:5].isdecimal() and text[:4] == PREFIX[:4]:
            raise BadArgument("this ticket is of another version of the format")
        raise BadArgument(f"a ticket begins with {PREFIX}")
    if len(text) > LONGEST:
        raise BadArgument(f"a ticket has {LONGEST} characters at most")
    try:
        number = base58.decode(text.removeprefix(PREFIX))
    except ValueError as error:
        raise BadArgument(f"this ticket has a mistake in it: {error}") from None
    data = number.to_bytes((number.bit_length() + 7) // 8, "big")
    body, checksum = data[:-CHECKSUM], data[-CHECKSUM:]
    if not body or checksum != _checksum(body):
        raise BadArgument(
            "this ticket has a mistake in it, or its end is missing: copy all of it again"
        )
    if body[0] != VERSION:
        raise BadArgument("this ticket is of another version of the format")
    # The checksum is right, so what is wrong now somebody has made like that.
    try:
        ticket = _read_body(_Bytes(body[1:]))
        write(ticket)
    except (BadArgument, ValueError) as error:
        raise BadArgument(f"this ticket makes no sense: {error}") from None
    return ticket


class _Bytes:
    """What has not been read yet."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise ValueError("it ends too soon")
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, size: int = 1) -> int:
        return int.from_bytes(self.take(size), "big")


def _read_body(data: _Bytes) -> Ticket:
    number = data.number()
    if number >= len(_ENCRYPTIONS):
        raise ValueError("it has an encryption of an unknown kind")
    encryption = _ENCRYPTIONS[number]
    name = data.take(data.number(2)).decode("utf-8")
    addresses = tuple(_read_address(data) for _ in range(data.number()))
    fingerprint = None
    while data.left:
        kind = data.number()
        value = data.take(data.number())
        if kind == _FINGERPRINT and len(value) == FINGERPRINT:
            fingerprint = value
        elif kind == _FINGERPRINT or kind >= _NEEDED:
            raise ValueError(f"a newer py2p may understand it (record {kind})")
    return Ticket(Network(name, encryption), addresses, fingerprint)


def _write_address(address: Address) -> bytes:
    if read_address(address) is None:
        raise BadArgument(f"no host and port that could be dialled: {address!r}")
    host, port = address
    last = port.to_bytes(2, "big")
    ip = _ip(host)
    if ip is not None:
        return bytes((_FOUR if ip.version == 4 else _SIX,)) + ip.packed + last
    name = _utf8(host)
    if len(name) > 255:
        raise BadArgument(f"a host's name has 255 bytes at most, not {len(name)}")
    return bytes((_NAME, len(name))) + name + last


def _read_address(data: _Bytes) -> Address:
    kind = data.number()
    if kind == _FOUR:
        host = str(IPv4Address(data.take(4)))
    elif kind == _SIX:
        host = str(IPv6Address(data.take(16)))
    elif kind == _NAME:
        host = data.take(data.number()).decode("utf-8")
    else:
        raise ValueError("it has an address of an unknown kind")
    address = read_address((host, data.number(2)))
    if address is None:
        raise ValueError("it has an address that nobody can dial")
    return address


def _ip(host: str) -> IPv4Address | IPv6Address | None:
    try:
        ip = ip_address(host)
    except ValueError:
        return None
    # With a scope it leads somewhere on this machine alone; as a name it stays what it is.
    return None if getattr(ip, "scope_id", None) else ip


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise BadArgument("a ticket holds text that UTF-8 can say") from None


def _checksum(body: bytes | bytearray) -> bytes:
    return sha256(b"py2p ticket" + body).digest()[:CHECKSUM]


def agree(tickets: Sequence[Ticket]) -> Network | None:
    """
    The network that tickets are for; ``None`` without any.

    :raises BadArgument: they are for several.
    """
    networks = list(dict.fromkeys(ticket.network for ticket in tickets))
    if len(networks) > 1:
        names = " and ".join(map(describe, networks))
        raise BadArgument(f"these tickets are for different networks: {names}")
    return networks[0] if networks else None


def fingerprints_of(peers: Iterable[object]) -> dict[Address, bytes]:
    """
    Which certificates tickets insist on, by address.

    :param peers: tickets, also as text; what else there is says nothing.
    :raises BadArgument: a text is meant to be a ticket, and is none.
    """
    found: dict[Address, bytes] = {}
    for peer in peers:
        one = read(peer) if isinstance(peer, str) and is_ticket(peer) else peer
        if isinstance(one, Ticket):
            found |= one.fingerprints
    return found


def mismatch(of_ticket: Network | None, wanted: Network | None) -> str:
    """One sentence about a ticket that does not fit what somebody has said besides."""
    shown = [describe(one) if one is not None else "none" for one in (of_ticket, wanted)]
    return f"this ticket is for network {shown[0]}, not for {shown[1]}"


def describe(network: Network) -> str:
    """A network in a sentence: ``'alerts' (plain text)``."""
    return f"{network.name!r} ({'TLS' if network.encryption == SSL else 'plain text'})"


__all__ = [
    "LONGEST",
    "PREFIX",
    "Ticket",
    "agree",
    "describe",
    "fingerprints_of",
    "is_ticket",
    "mismatch",
    "read",
    "write",
]
