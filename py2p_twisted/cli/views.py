"""
Who shows a demo: a live table on a terminal, plain lines for everything else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TextIO

from py2p_twisted.cli.report import Progress, Report
from py2p_twisted.cli.table import frame
from py2p_twisted.cli.terminal import Screen, Size

#: Seconds between two drawings; the eye does not want more.
REDRAW: Final = 0.05
#: Seconds after which a wait is worth another line.
STILL_WAITING: Final = 1.0


class Live:
    """A table that is redrawn in place."""

    def __init__(
        self, stream: TextIO, size: Size, now: Callable[[], float], *, colour: bool
    ) -> None:
        self._screen = Screen(stream, size, colour=colour)
        self._size = size
        self._now = now
        self._drawn = float("-inf")
        self._steps = -1

    def say(self, text: str, *, detail: bool = False) -> None:
        """Nothing: the table shows it."""

    def look(self, report: Report) -> None:
        """Draw it again, if that is worth while."""
        now = self._now()
        steps = sum(step.progress is not Progress.RUNNING for step in report.steps)
        if now - self._drawn >= REDRAW or steps != self._steps:
            self._drawn, self._steps = now, steps
            self._draw(report, whole=False)

    def finish(self, report: Report) -> None:
        """Draw everything, also what a terminal of this height had no room for."""
        self._draw(report, whole=True)
        self._screen.close()

    def close(self) -> None:
        """Leave the terminal as it was found."""
        self._screen.close()

    def _draw(self, report: Report, *, whole: bool) -> None:
        size = self._size()
        # The last column stays free: terminals differ in what happens behind it. The
        # last line is the cursor's.
        height = None if whole else size.lines - 1
        self._screen.draw(frame(report, size.columns - 1, height))


class Lines:
    """One line after the other, each with the seconds since the beginning."""

    def __init__(self, stream: TextIO, now: Callable[[], float], *, details: bool) -> None:
        """
        :param details: whether to tell what happens to single nodes.
        """
        self._stream = stream
        self._now = now
        self._details = details
        self._began = self._said = now()

    def say(self, text: str, *, detail: bool = False) -> None:
        """Write a line."""
        if detail and not self._details:
            return
        self._said = self._now()
        indent = "  " if detail else ""
        # At once: a log that is read while it grows must not lag behind.
        print(f"{self._said - self._began:6.2f} s  {indent}{text}", file=self._stream, flush=True)

    def look(self, report: Report) -> None:
        """Say how far a long wait has come."""
        if self._now() - self._said < STILL_WAITING:
            return
        for step in report.steps:
            if step.progress is Progress.RUNNING:
                self.say(f"{step.title}: {step.text} ...")

    def finish(self, report: Report) -> None:
        """Write the verdict."""
        self.say(report.verdict)

    def close(self) -> None:
        """Nothing: lines need no cleaning up."""
