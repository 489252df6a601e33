"""
What a node calls into its local network, so that others of its mesh find it.

::

    {"py2p":1,"net":"5e6c...32 digits","id":"2fQx...","port":4444}

One datagram, JSON, 512 bytes at most. It does not say the name of the network but a hash of it: who
does not know the name cannot read it, who can guess it can check the guess. It says no host, unless
the node has been told which address to advertise: whoever hears it knows where it came from.

Nobody vouches for a beacon. What is in it is looked at, and is then a suggestion: an address that
may be dialled.

Source: docs/protocol/discovery.rst, "Beacons".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from py2p_twisted.core.connection import read_address
from py2p_twisted.core.message import MAX_ID
from py2p_twisted.core.network import Network

#: Of the format.
VERSION: Final = 1

#: Bytes of a datagram that are read. Ours have some 140, and a host name up to 253 more.
LARGEST: Final = 512

#: Hexadecimal digits of the network's hash: 128 bits.
TAG_DIGITS: Final = 32


class NotOurs(ValueError):
    """A beacon of another network, or none at all: the commonest case, which has to be cheap."""


class BadBeacon(ValueError):
    """It says that it is for this network, and is of no use."""


@dataclass(frozen=True, slots=True)
class Beacon:
    """
    One beacon.

    :ivar ident: the id of the node, as it says.
    :ivar port: where it listens; 0 if nobody can dial it, and it wants to hear of others.
    :ivar host: where it is to be dialled; ``None``: where the beacon came from.
    """

    ident: bytes
    port: int
    host: str | None = None


def network_tag(network: Network) -> str:
    """What stands for a network in its beacons."""
    return sha256(b"py2p beacon:" + network.id.encode("ascii")).hexdigest()[:TAG_DIGITS]


def write(beacon: Beacon, tag: str) -> bytes:
    """A beacon as a datagram."""
    said: dict[str, Any] = {
        "py2p": VERSION,
        "net": tag,
        "id": beacon.ident.decode("ascii"),
        "port": beacon.port,
    }
    if beacon.host is not None:
        said["host"] = beacon.host
    return json.dumps(said, separators=(",", ":")).encode("ascii")


def read(data: bytes, tag: str) -> Beacon:
    """
    Read a datagram.

    :param tag: of our network.
    :raises NotOurs: it is of another network, or no beacon.
    :raises BadBeacon: it is of ours, and something in it is wrong.
    """
    if tag.encode("ascii") not in data:
        raise NotOurs
    if len(data) > LARGEST:
        raise BadBeacon(f"{len(data)} bytes, {LARGEST} are allowed")
    try:
        said = json.loads(data.decode("ascii"))
    except (ValueError, RecursionError):
        raise BadBeacon("no JSON") from None
    if not isinstance(said, dict) or said.get("net") != tag:
        raise NotOurs
    version, ident, port = (said.get(name) for name in ("py2p", "id", "port"))
    if type(version) is not int or version != VERSION:
        raise BadBeacon("another version")
    if (
        not isinstance(ident, str)
        or not 0 < len(ident) <= MAX_ID
        or not (ident.isascii() and ident.isalnum())
    ):
        raise BadBeacon("no id")
    if type(port) is not int or not 0 <= port < 65536:
        raise BadBeacon("no port")
    host = said.get("host")
    # A scope is a name of the reader's own interfaces: nobody else has a say in that.
    if host is not None and (read_address((host, port or 1)) is None or "%" in host):
        raise BadBeacon("no host")
    return Beacon(ident.encode("ascii"), port, host)


class Bucket:
    """So many at once, and so many a second after that."""

    __slots__ = ("_burst", "_left", "_rate", "_when")

    def __init__(self, burst: int, rate: float, now: float) -> None:
        self._burst, self._rate = burst, rate
        self._left = float(burst)
        self._when = now

    def take(self, now: float) -> bool:
        """Take one, if there is one."""
        self._left = min(self._burst, self._left + max(0.0, now - self._when) * self._rate)
        self._when = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


__all__ = [
    "LARGEST",
    "VERSION",
    "BadBeacon",
    "Beacon",
    "Bucket",
    "NotOurs",
    "network_tag",
    "read",
    "write",
]
