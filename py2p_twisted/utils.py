"""
The few helpers that py2p keeps here and its users' code and tests call.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from py2p_twisted.net.service import lan_address


def intersect(*args: Iterable[Any]) -> tuple[Any, ...]:
    """
    What all iterables have in common, in the order of the first.

    :return: a tuple; empty if any of them is, or if there are none.
    """
    if not args:
        return ()
    first, *others = (tuple(items) for items in args)
    kept = [set(items) for items in others]
    return tuple(item for item in first if all(item in items for items in kept))


def getUTC() -> int:  # noqa: N802 - py2p's name
    """Whole seconds since 1970, UTC."""
    return int(time.time())


def get_lan_ip() -> str:
    """This machine's LAN address, or ``127.0.0.1`` when it has no network."""
    return lan_address()
