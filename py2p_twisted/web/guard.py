"""
Who is let in: hosts, origins, tokens, sizes.

A browser runs other people's programs, and all of them can reach a port of this machine. They
are told from our page by what the browser itself says of them:

===================  ========================================================================
``Host``             a name that leads here only by somebody's name server is refused, so no
                     other site's page can take itself for ours (DNS rebinding)
``Origin``           has to be the host that was asked for
``Sec-Fetch-Site``   the same, and is also there where ``Origin`` is not
``Content-Type``     ``application/json``, which no form can send
a token              in a header, which no form can send either
===================  ========================================================================

Source: docs/reference/web.rst, "Who is let in".
"""

from __future__ import annotations

import hmac
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final, Protocol

# Limits. Source: docs/reference/web.rst, "Limits".

#: Bytes of a request's body.
MOST_BODY: Final = 64 * 2**10

#: Wrong tokens that one address may say in a row, and seconds after which it may say one more.
WRONG_TOKENS: Final = 10
WRONG_AGAIN: Final = 6.0

#: Addresses whose wrong tokens are counted.
_REMEMBERED: Final = 1024

#: The header with the token.
TOKEN: Final = b"x-py2p-token"

_HOST: Final = re.compile(rb"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,255})(?::[0-9]{1,5})?")


class Refused(Exception):
    """
    A request that is not dealt with.

    :ivar code: of HTTP.
    :ivar reason: a short word that does not change.
    """

    def __init__(self, code: int, reason: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.reason = reason


class Headers(Protocol):
    """The part of Twisted's ``Headers`` that is needed here."""

    def getRawHeaders(self, name: bytes, default: None = None) -> Sequence[bytes] | None: ...


def check_host(headers: Headers, hosts: Iterable[str] = ()) -> str:
    """
    See to it that a request was meant for this machine.

    An address cannot be somebody else's name, so any is let in.

    :param hosts: further names, in lower case; ``localhost`` always is one.
    :return: the host with its port, as it was asked for, in lower case.
    :raises Refused: it is another one, or there is not exactly one.
    """
    said = headers.getRawHeaders(b"host") or ()
    match = _HOST.fullmatch(said[0]) if len(said) == 1 else None
    if match is None:
        raise Refused(403, "foreign host", "a request needs one Host header that can be read")
    name = match[1].decode("ascii").lower().removesuffix(".")
    if name != "localhost" and name not in hosts and not _is_address(name.strip("[]")):
        text = f"this page is not {name}: if it should be, start the node with --web-host={name}"
        raise Refused(403, "foreign host", text)
    return said[0].decode("ascii").lower()


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def check_origin(headers: Headers, host: str, *, changes: bool) -> None:
    """
    See to it that no page of another site has made a browser ask.

    Who is no browser says nothing of all this, and is let in.

    :param host: what `check_host` has returned.
    :param changes: whether the request does something. Else a link may lead to it.
    :raises Refused: one has.
    """
    for origin in headers.getRawHeaders(b"origin") or ():
        said = origin.decode("latin-1").lower()
        if said not in (f"http://{host}", f"https://{host}"):
            raise Refused(403, "foreign origin", "pages of other sites may not ask for this")
    sites = headers.getRawHeaders(b"sec-fetch-site") or ()
    if all(site in (b"same-origin", b"none") for site in sites):
        return
    modes = headers.getRawHeaders(b"sec-fetch-mode") or ()
    if changes or list(modes) != [b"navigate"]:
        raise Refused(403, "foreign origin", "pages of other sites may not ask for this")


def check_json(headers: Headers) -> None:
    """
    See to it that a body is said to be JSON.

    :raises Refused: it is not.
    """
    said = headers.getRawHeaders(b"content-type") or ()
    kinds = [one.split(b";")[0].strip().lower() for one in said]
    if kinds != [b"application/json"]:
        raise Refused(415, "no json", "Content-Type: expected application/json")


class TokenGuard:
    """
    Compares tokens, and turns those away who guess.

    How long a comparison takes says nothing, and an address that has said too many wrong ones has
    to wait, with a right one, too. Addresses of IPv6 count by networks of 64 bits.
    """

    def __init__(self, token: str | None, now: Callable[[], float]) -> None:
        """
        :param token: ``None``: there is none, and nobody can say it.
        :param now: a clock, in seconds.
        """
        self.token = token
        self._now = now
        #: By address: how many wrong ones, and when that was.
        self._wrong: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def check(self, headers: Headers, address: str) -> None:
        """
        See to it that a request has the token.

        :param address: where it comes from.
        :raises Refused: it has none, a wrong one, or there were too many of those.
        """
        if self.token is None:
            raise Refused(401, "no token", "nothing can be sent from here: the node has no token")
        said = headers.getRawHeaders(TOKEN) or ()
        if not said:
            raise Refused(401, "no token", "the header X-Py2p-Token is missing")
        source = _source(address)
        wrong = self._count(source)
        if wrong > WRONG_TOKENS - 1:
            raise Refused(429, "too many", "too many wrong tokens: try again in a minute")
        if len(said) == 1 and hmac.compare_digest(said[0], self.token.encode("utf-8")):
            return
        self._wrong[source] = (wrong + 1, self._now())
        self._wrong.move_to_end(source)
        if len(self._wrong) > _REMEMBERED:
            self._wrong.popitem(last=False)
        raise Refused(401, "wrong token", "this token is not the node's, or not any more")

    def _count(self, source: str) -> float:
        count, when = self._wrong.get(source, (0.0, 0.0))
        return max(0.0, count - (self._now() - when) / WRONG_AGAIN)


def _source(address: str) -> str:
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, IPv6Address) and found.ipv4_mapped is None:
        return str(ip_network((found, 64), strict=False))
    return str(found)


__all__ = [
    "MOST_BODY",
    "TOKEN",
    "WRONG_AGAIN",
    "WRONG_TOKENS",
    "Headers",
    "Refused",
    "TokenGuard",
    "check_host",
    "check_json",
    "check_origin",
]
