"""
Log lines that a peer can cause: at most one a minute for the same peer and reason.

A hostile peer must not be able to fill a disk, and an operator reads a line better once
than a thousand times. What is left out is counted, and said with the next line.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final, TypeVar

from constantly import NamedConstant
from twisted.logger import Logger, LogLevel

_Key = TypeVar("_Key")

#: Seconds between two lines about the same thing. Source: docs/design.rst, "Limits".
INTERVAL = 60.0

#: Lines about one host in that time, however many names its nodes go by: one from outside,
#: and one in a private network, where many nodes may well live together.
BURST = 60
LOCAL_BURST = 600

#: Pairs of peer and reason, and hosts, that are told apart.
_REMEMBERED = 1024

#: Characters of an error's text that are logged: a peer may have had its say in it.
_LONGEST = 500


class Reports:
    """A logger that holds back repetition."""

    def __init__(self, log: Logger, now: Callable[[], float]) -> None:
        self._log = log
        self._now = now
        # What counts as the same -> [when it was said, 1, how often not since]
        self._said: dict[tuple[str, str], list[float]] = {}
        # host -> [when its minute began, lines in it, lines held back in it]
        self._hosts: dict[str, list[float]] = {}

    def say(
        self,
        level: NamedConstant,
        reason: str,
        peer: str,
        text: str,
        *,
        host: str = "",
        **fields: object,
    ) -> bool:
        """
        Write one line, unless the same was said within the last minute.

        :param reason: with ``peer``, what counts as the same.
        :param text: a format for ``fields``, as twisted.logger takes it.
        :param host: where what it is about came from, if that is to be limited as well.
        :return: whether it was written.
        """
        key = (reason, peer)
        held_back = self._again(self._said, key, 1)
        if held_back is None:
            return False
        if held_back:
            text += " ({unsaid:.0f} more of these since)"
            fields["unsaid"] = held_back
        written = self.note(level, text, host=host, reason=reason, peer=peer, **fields)
        if not written:
            self._said[key][2] += held_back + 1
        return written

    def note(self, level: NamedConstant, text: str, *, host: str = "", **fields: object) -> bool:
        """
        Write one line, unless its host has caused too many within the last minute.

        :return: whether it was written.
        """
        if host:
            host, most = source_of(host)
            held_back = self._again(self._hosts, host, most)
            if held_back is None:
                return False
            if held_back:
                text += " ({held_back:.0f} lines about this host were left out)"
                fields["held_back"] = held_back
        self._log.emit(level, text, **fields)
        return True

    def _again(self, book: dict[_Key, list[float]], key: _Key, most: int) -> float | None:
        """
        Count something that happens again.

        :return: how often it was held back before, or ``None`` when this is held back, too.
        """
        now = self._now()
        entry = book.get(key)
        if entry is not None and now - entry[0] < INTERVAL:
            if entry[1] < most:
                entry[1] += 1
                return 0
            entry[2] += 1
            return None
        book.pop(key, None)
        if len(book) >= _REMEMBERED:
            del book[next(iter(book))]
        book[key] = [now, 1, 0]
        return entry[2] if entry is not None else 0


def source_of(host: str) -> tuple[str, int]:
    """
    What counts as one host, and how many lines it may cause in a minute.

    Of IPv6 that is a network of 64 bits, for whoever has one has all addresses in it.
    """
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host, LOCAL_BURST  # no address, so nobody from outside
    # A socket that takes both families shows IPv4 like this.
    address = getattr(address, "ipv4_mapped", None) or address
    most = BURST if address.is_global else LOCAL_BURST
    if isinstance(address, IPv6Address):
        return str(ip_network((address, 64), strict=False)), most
    return str(address), most


def printable(text: str | bytes) -> str:
    """
    What a peer has had a say in, for a log or a terminal: no line breaks, no escape sequences.

    :param text: an id, as it came over the wire, or the text of an error.
    """
    shown = text if isinstance(text, str) else text.decode("ascii", "backslashreplace")
    if shown.isascii() and shown.isprintable():
        return shown
    return shown.translate(_ESCAPES)


class _Escapes(dict[int, str]):
    """What stands for each character; for the few that come often it is kept."""

    def __missing__(self, code: int) -> str:
        one = chr(code)
        shown = one if one.isprintable() else one.encode("unicode_escape").decode("ascii")
        if code < _KEPT:
            self[code] = shown
        return shown


_KEPT: Final = 0x800
_ESCAPES: Final = _Escapes()


def reason_of(error: BaseException) -> str:
    """An error's text, printable and of a length that a line can hold."""
    text = printable(str(error))
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


__all__ = [
    "BURST",
    "INTERVAL",
    "LOCAL_BURST",
    "LogLevel",
    "Reports",
    "printable",
    "reason_of",
    "source_of",
]
