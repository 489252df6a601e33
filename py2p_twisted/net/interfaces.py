"""
Which network interfaces this machine has, and which of them lead to the local network.

The system's ``getifaddrs`` is asked (Linux, the BSDs, macOS). Where there is none, an address is
taken for an interface: the one that packets to the local network would leave from.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

#: Addresses that a UDP socket is connected to, which sends nothing: then it has the address of the
#: interface that leads there. The one of IPv4 is a multicast group, so that a route for multicast
#: counts; the other one is for documentation, since a group of the link leads nowhere by itself.
_TOWARDS: Final = ((socket.AF_INET, "239.255.44.44"), (socket.AF_INET6, "2001:db8::9"))

_UP, _LOOPBACK = 0x1, 0x8
_MULTICAST: Final = 0x1000 if sys.platform.startswith("linux") else 0x8000


@dataclass(frozen=True, slots=True)
class Interface:
    """
    One interface that is up.

    :ivar name: as the system calls it.
    :ivar index: its number; 0 where nobody knows.
    :ivar four: its IPv4 addresses.
    :ivar six: its IPv6 addresses, without a scope.
    """

    name: str
    index: int
    four: tuple[str, ...] = ()
    six: tuple[str, ...] = ()
    loopback: bool = False
    multicast: bool = True

    def has(self, address: str) -> bool:
        """Whether an address is one of its own, however it is written."""
        with suppress(ValueError):
            address = str(ip_address(address.partition("%")[0]))
        return address in self.four or address in self.six


def interfaces() -> list[Interface]:
    """The interfaces that are up and have an address, in the system's order."""
    try:
        return _from_system()
    except (OSError, AttributeError, TypeError):
        return [
            Interface(address, 0, four=(address,))
            for family, address in _outward()
            if family == socket.AF_INET
        ]


def can_look() -> bool:
    """
    Whether the system can be asked for interfaces, which takes a file to open: without one they all
    seem to be gone.
    """
    try:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()
    except OSError as error:
        return error.errno not in (errno.EMFILE, errno.ENFILE)
    return True


def leading_outside(all_of_them: Sequence[Interface]) -> list[Interface]:
    """
    Those that multicast or everything else is routed to; else all that can multicast.
    """
    outward = [address for _, address in _outward()]
    chosen = [one for one in all_of_them if not one.loopback and any(map(one.has, outward))]
    return chosen or [one for one in all_of_them if one.multicast and not one.loopback]


def _outward() -> list[tuple[socket.AddressFamily, str]]:
    found = []
    for family, towards in _TOWARDS:
        address = source_towards(family, towards)
        if address is not None:
            found.append((family, address))
    return found


def source_towards(family: socket.AddressFamily, towards: str) -> str | None:
    """The address of this machine that packets to another would leave from, if there is a way."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((towards, 9))
            return str(probe.getsockname()[0]).partition("%")[0]
    except OSError:
        return None


# --- the system --------------------------------------------------------------------------


class _IfAddrs(ctypes.Structure):
    """``struct ifaddrs``, as far as it is the same everywhere. Source: getifaddrs(3)."""


_IfAddrs._fields_ = [
    ("next", ctypes.POINTER(_IfAddrs)),
    ("name", ctypes.c_char_p),
    ("flags", ctypes.c_uint),
    ("address", ctypes.c_void_p),
]


def _from_system() -> list[Interface]:
    libc = ctypes.CDLL(None, use_errno=True)
    first = ctypes.POINTER(_IfAddrs)()
    if libc.getifaddrs(ctypes.byref(first)) != 0:
        raise OSError(ctypes.get_errno(), "getifaddrs")
    flags: dict[str, int] = {}
    four: dict[str, list[str]] = {}
    six: dict[str, list[str]] = {}
    try:
        one = first
        while one:
            item = one.contents
            # Linux calls a second IPv4 address "eth0:1" if it is told to.
            name = item.name.decode("utf-8", "surrogateescape").partition(":")[0]
            flags[name] = item.flags
            family, address = _address(item.address)
            if address:
                (four if family == socket.AF_INET else six).setdefault(name, []).append(address)
            one = item.next
    finally:
        libc.freeifaddrs(first)
    return [
        Interface(
            name,
            _index(name),
            tuple(four.get(name, ())),
            tuple(six.get(name, ())),
            bool(flag & _LOOPBACK),
            bool(flag & _MULTICAST),
        )
        for name, flag in flags.items()
        if flag & _UP and (name in four or name in six)
    ]


def _address(where: int | None) -> tuple[int, str]:
    """A ``struct sockaddr``: on the BSDs and macOS its length comes before the family."""
    if not where:
        return 0, ""
    head = ctypes.string_at(where, 2)
    family = int.from_bytes(head, sys.byteorder) if sys.platform.startswith("linux") else head[1]
    if family == socket.AF_INET:
        return family, socket.inet_ntop(socket.AF_INET, ctypes.string_at(where + 4, 4))
    if family == socket.AF_INET6:
        packed = bytearray(ctypes.string_at(where + 8, 16))
        if packed[0] == 0xFE and packed[1] & 0xC0 == 0x80:
            packed[2:4] = bytes(2)  # where the BSDs keep the scope
        return family, socket.inet_ntop(socket.AF_INET6, bytes(packed))
    return family, ""


def _index(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0


Look = Callable[[], Iterable[Interface]]

__all__ = ["Interface", "Look", "can_look", "interfaces", "leading_outside", "source_towards"]
