"""
Processes whose wall clock is wrong, with libfaketime.

The program faketime knows which library is preloaded for that. The monotonic clock stays what it is:
nobody can set that one, and processes compare it.
"""

from __future__ import annotations

import functools
import subprocess

#: Seconds that the program may take, on a busy machine.
_PATIENCE = 20.0

_UNITS = {"s": 1.0, "h": 3600.0}


class FaketimeMissing(Exception):
    """There is no libfaketime; the text says what would help."""


@functools.cache
def _found() -> tuple[str, str]:
    """What is to be preloaded, and why not."""
    command = ["faketime", "-f", "+0", "printenv", "LD_PRELOAD"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except OSError:
        return "", "clocks cannot be faked: install the package faketime"
    except subprocess.TimeoutExpired:
        return "", "clocks cannot be faked: faketime hangs"
    if done.returncode != 0 or "faketime" not in done.stdout:
        return "", f"clocks cannot be faked: {done.stderr.strip() or 'there is no library'}"
    return done.stdout.strip(), ""


def find_faketime() -> str:
    """
    The library that fakes clocks.

    :raises FaketimeMissing: the program faketime is missing, or does not work here.
    """
    library, reason = _found()
    if reason:
        raise FaketimeMissing(reason)
    return library


def wrong_by(offset: str) -> dict[str, str]:
    """
    The environment variables of a process whose wall clock is ahead.

    :param offset: by how much, as ``+90s``, ``-61s`` or ``+1h``; nothing for a true clock.
    :raises FaketimeMissing: clocks cannot be faked.
    """
    library = find_faketime()
    if not offset:
        return {}
    return {
        "LD_PRELOAD": library,
        "FAKETIME": offset,
        # By version it has one name or the other.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


def seconds_of(offset: str) -> float:
    """An offset in seconds."""
    return float(offset[:-1]) * _UNITS[offset[-1]] if offset else 0.0
