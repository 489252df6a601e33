"""
One line on standard error that says how far a command is, for people who look on.

It is there only while it is of interest, on a terminal, and begins with a moment of silence: what
is done at once says nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.task import LoopingCall

from py2p_twisted.cli.terminal import can_redraw, size_of

#: Seconds from one look to the next, and before the first.
INTERVAL: Final = 0.5

_BAR: Final = 20


class Progress:
    """
    A line that is drawn again and again until it is closed::

        with Progress(reactor, lambda seconds: f"{seconds:.0f} s of 10"):
            await something
    """

    def __init__(self, reactor: Any, text: Callable[[float], str]) -> None:
        """
        :param text: what is to be said after so many seconds.
        """
        self._reactor = reactor
        self._text = text
        self._shown = False
        self._since = reactor.seconds()
        self._call: LoopingCall | None = None
        if can_redraw(sys.stderr, os.environ):
            self._call = LoopingCall(self.draw)
            self._call.clock = reactor
            self._call.start(INTERVAL, now=False).addErrback(lambda _: None)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def draw(self) -> None:
        """Say how far it is now."""
        room = size_of(sys.stderr).columns - 1
        text = self._text(self._reactor.seconds() - self._since)
        self._shown = True
        sys.stderr.write(f"\r{text[:room]}\x1b[K")
        sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away, so that something else can be said; it comes again."""
        if self._shown:
            self._shown = False
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def close(self) -> None:
        """Take the line away for good."""
        call, self._call = self._call, None
        if call is not None and call.running:
            call.stop()
        self.clear()


def bar(done: int, of: int) -> str:
    """So much of it, as a bar: ``[#####---------------]``."""
    filled = _BAR * done // max(1, of)
    return f"[{'#' * filled}{'-' * (_BAR - filled)}]"


__all__ = ["INTERVAL", "Progress", "bar"]
