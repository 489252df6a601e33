"""
How many files and connections a process may have open at once.

Every link is a file descriptor to the system, and most systems allow a process 1,024 of them unless
it asks for more: the *soft* limit, which anybody may raise up to the *hard* one. A node does so when
it starts. Where that is not enough for what its configuration allows, the log says so then, not when
somebody is turned away.

A node that has run out all the same accepts connections and closes them at once (Twisted keeps one
descriptor back for that), dials nobody, and goes on with the links that it has.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from types import ModuleType
from typing import Any, Final

from py2p_twisted.core.settings import Settings

resource: ModuleType | None
try:
    import resource
except ImportError:  # Windows, where the number of sockets is not limited like this
    resource = None

#: As many as a node asks for at most. Source: contrib/systemd/py2p.service, ``LimitNOFILE``.
MOST: Final = 65_536

#: What ``select`` can look at. Source: select(2), ``FD_SETSIZE``.
_OF_SELECT: Final = 1_024

#: For everything but links and programs: ports, the log, the state directory, the clients that talk
#: with the node, the reactor itself, libraries that are loaded.
SPARE: Final = 64

#: Source: docs/reference/web.rst, "Limits".
_OF_THE_PAGE: Final = 64

#: Pipes of a program, and what is open while it is being started.
_OF_A_PROGRAM: Final = 6


def _by_select() -> bool:
    return "twisted.internet.selectreactor" in sys.modules


def raise_limit() -> None:
    """Have the system allow this process more, as far as anybody may ask for that."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    most = _OF_SELECT if _by_select() else MOST
    if hard != unlimited:
        most = min(hard, most)
    if soft != unlimited and soft < most:
        # macOS has one more limit, which it does not tell; then it stays as it is.
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def limit() -> int | None:
    """How many may be open; ``None``: as many as there are."""
    if resource is None:
        return None
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if _by_select():
        return _OF_SELECT if soft == resource.RLIM_INFINITY else min(soft, _OF_SELECT)
    return None if soft == resource.RLIM_INFINITY else int(soft)


def in_use() -> int | None:
    """How many are open; ``None`` where the system does not tell."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return len(os.listdir(folder)) - 1  # without the one that has just been read
        except OSError as error:
            if error.errno == errno.EMFILE:
                return limit()
    return None


def needed(settings: Settings, programs: int, *, page: bool = False) -> int:
    """
    How many a node may come to need.

    :param programs: that run at once.
    :param page: whether it has a status page.
    """
    # Links that are replaced or tried come on top of those that are kept, hence twice.
    links = settings.max_inbound + settings.max_half_open
    links += 2 * (settings.max_outgoing + settings.active_view)
    return links + _OF_A_PROGRAM * programs + (_OF_THE_PAGE if page else 0) + SPARE


def status() -> dict[str, Any]:
    """Both numbers, for ``status``."""
    return {"open": in_use(), "limit": limit()}
