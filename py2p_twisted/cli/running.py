"""
Run a coroutine under the reactor, and end in good order whatever happens.

``twisted.internet.task.react`` would do most of it, but it ends the process by itself and
answers Ctrl-C by dying of the signal. A command has an exit code and a last line to say.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogBeginner
from twisted.python.failure import Failure
from zope.interface import implementer

_Result = TypeVar("_Result")


class CommandFailed(Exception):
    """A command cannot do what it is for; the text is one line that says what to do."""


class Interrupted(Exception):
    """
    A command was told to stop.

    :ivar signal: by which signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by signal {number}")
        self.signal = number


def run(
    work: Callable[[Any], Coroutine[Deferred[Any], Any, _Result]],
    mistakes: list[str] | None = None,
    observer: ILogObserver | None = None,
) -> _Result:
    """
    Run the reactor until a coroutine has ended.

    The first Ctrl-C (or SIGTERM) cancels what the coroutine waits for, the second does not
    even wait for that.

    :param work: makes the coroutine, given the reactor.
    :param mistakes: gets one line for each error that was logged meanwhile; by default
        they are written to standard error.
    :param observer: gets all that is logged, instead.
    :return: what the coroutine returns; what it raises is raised.
    :raises Interrupted: a signal has ended it.
    """
    from twisted.internet import reactor as installed

    reactor = cast(Any, installed)
    caught: list[int] = []
    outcome: list[_Result | Failure] = []
    doing: Deferred[_Result] | None = None

    async def begin() -> _Result:
        return await work(reactor)

    def started() -> None:
        nonlocal doing
        # The reactor has just set its own handler for SIGTERM, but respects one for SIGINT.
        signal.signal(signal.SIGTERM, told_to_stop)
        doing = Deferred.fromCoroutine(begin())
        doing.addBoth(ended)

    def told_to_stop(number: int, _frame: object) -> None:
        caught.append(number)
        reactor.callFromThread(give_up)

    def give_up() -> None:
        if doing is None or len(caught) > 1:
            stop()
        else:
            doing.cancel()

    def ended(result: _Result | Failure) -> None:
        outcome.append(result)
        stop()

    def stop() -> None:
        with suppress(ReactorNotRunning):
            reactor.stop()

    if observer is None:
        observer = LogKeeper(mistakes) if mistakes is not None else LogKeeper(Complaints())
    globalLogBeginner.beginLoggingTo([observer], discardBuffer=True, redirectStandardIO=False)
    before = signal.signal(signal.SIGINT, told_to_stop)
    reactor.callWhenRunning(started)
    reactor.run()
    if caught:
        # Our handler stays: one more Ctrl-C while the process ends is no news.
        raise Interrupted(caught[0])
    signal.signal(signal.SIGINT, before)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if not outcome:
        raise CommandFailed("the reactor was stopped before the work was done")
    result = outcome[0]
    if isinstance(result, Failure):
        result.raiseException()
    return result


class Complaints:
    """Standard error, for one line at a time."""

    def append(self, line: str) -> None:
        """Write a line, if that is possible."""
        with suppress(OSError, ValueError):
            print(f"logged: {line}", file=sys.stderr, flush=True)


@implementer(ILogObserver)
class LogKeeper:
    """
    A log observer that keeps one line for each error.

    Tracebacks have no place on a screen that is drawn on, but are no secret either.
    """

    def __init__(self, lines: list[str] | Complaints) -> None:
        self._lines = lines

    def __call__(self, event: LogEvent) -> None:
        """Something has been logged."""
        if event.get("log_level") not in (LogLevel.error, LogLevel.critical):
            return
        text = formatEvent(event)
        failure = event.get("log_failure")
        if isinstance(failure, Failure):
            text += f" ({type(failure.value).__name__}: {failure.getErrorMessage()})"
        self._lines.append(" ".join(text.split()))
