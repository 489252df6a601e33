"""
Log lines that a peer can cause: at most one a minute for the same peer and reason.

A hostile peer must not be able to fill a disk, and an operator reads a line better once
than a thousand times. What is left out is counted, and said with the next line.
"""

from __future__ import annotations

from collections.abc import Callable

from constantly import NamedConstant
from twisted.logger import Logger, LogLevel

#: Seconds between two lines about the same thing. Source: docs/design.rst, "Limits".
INTERVAL = 60.0

#: Pairs of peer and reason that are told apart.
_REMEMBERED = 1024


class Reports:
    """A logger that holds back repetition."""

    def __init__(self, log: Logger, now: Callable[[], float]) -> None:
        self._log = log
        self._now = now
        # (reason, peer) -> [when it was last said, how often not since]
        self._said: dict[tuple[str, str], list[float]] = {}

    def say(
        self, level: NamedConstant, reason: str, peer: str, text: str, **fields: object
    ) -> bool:
        """
        Write one line, unless the same was said within the last minute.

        :param reason: with ``peer``, what counts as the same.
        :param text: a format for ``fields``, as twisted.logger takes it.
        :return: whether it was written.
        """
        now = self._now()
        key = (reason, peer)
        said = self._said.get(key)
        if said is not None and now - said[0] < INTERVAL:
            said[1] += 1
            return False
        self._said.pop(key, None)
        if len(self._said) >= _REMEMBERED:
            del self._said[next(iter(self._said))]
        self._said[key] = [now, 0]
        if said is not None and said[1]:
            text += " ({unsaid:.0f} more of these since)"
            fields["unsaid"] = said[1]
        self._log.emit(level, text, reason=reason, peer=peer, **fields)
        return True


__all__ = ["INTERVAL", "LogLevel", "Reports"]
