"""
Running under the reactor: what a command returns, and how a signal ends it.

The reactor is a toy, the signals are real.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

import twisted.internet
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.cli import running
from py2p_twisted.cli.running import CommandFailed, Interrupted, LogKeeper

#: Turns after which a reactor that nobody stops gives up.
_PATIENCE = 100


class ToyReactor:
    """
    A reactor that runs what it is given, turn by turn.

    :ivar turns: something to do in each turn, as if it came from outside.
    :ivar errors: what went wrong in a call.
    """

    def __init__(self) -> None:
        self.turns: list[Callable[[], object]] = []
        self.errors: list[Exception] = []
        self._calls: list[Callable[[], object]] = []
        self._running = False

    def callWhenRunning(self, call: Callable[[], object]) -> None:
        self._calls.append(call)

    def callFromThread(self, call: Callable[[], object]) -> None:
        self._calls.append(call)

    def run(self) -> None:
        """Run until somebody stops it."""
        self._running = True
        # As the real one does, if nobody else has.
        signal.signal(signal.SIGTERM, self._sigterm)
        for _ in range(_PATIENCE):
            while self._calls:
                try:
                    self._calls.pop(0)()
                except Exception as error:
                    # The real one logs it, and goes on.
                    self.errors.append(error)
            if not self._running:
                return
            if self.turns:
                self.turns.pop(0)()
        raise AssertionError("nobody stops the reactor")

    def stop(self) -> None:
        if not self._running:
            raise ReactorNotRunning
        self._running = False

    def _sigterm(self, number: int, frame: object) -> NoReturn:
        raise AssertionError("the reactor got a signal that the command was to get")


class ToyLog:
    """Stands for the log of the process, which belongs to trial."""

    def __init__(self) -> None:
        self.observers: list[Any] = []

    def beginLoggingTo(self, observers: list[Any], **options: object) -> None:
        self.observers += observers
        self.options = options


class RunTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = ToyReactor()
        self.log = ToyLog()
        self.install(self.reactor)
        self.patch(running, "globalLogBeginner", self.log)
        for number in (signal.SIGINT, signal.SIGTERM):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        self.mistakes: list[str] = []
        self.cancelled: list[str] = []

    def tearDown(self) -> None:
        self.assertEqual(self.reactor.errors, [])

    def install(self, reactor: object) -> None:
        """Stand in for the reactor, which perhaps nobody has imported so far."""
        names = vars(twisted.internet)
        before = names.get("reactor")
        names["reactor"] = reactor
        self.addCleanup(lambda: names.update(reactor=before) if before else names.pop("reactor"))

    def run_work(self, work: Callable[[Any], Coroutine[Deferred[Any], Any, Any]]) -> Any:
        return running.run(work, self.mistakes)

    async def wait_for_ever(self, reactor: object) -> None:
        """Work that ends only when it is cancelled."""
        try:
            await Deferred()
        except CancelledError:
            self.cancelled.append("cancelled")
            raise

    def interrupted(self, work: Callable[[Any], Coroutine[Deferred[Any], Any, Any]]) -> int:
        """By which signal the work was ended."""
        return self.assertRaises(Interrupted, self.run_work, work).signal

    def test_the_result(self) -> None:
        """What the coroutine returns, at once or later."""
        pending: Deferred[str] = Deferred()

        async def later(reactor: object) -> str:
            self.assertIs(reactor, self.reactor)
            return await pending

        async def at_once(reactor: object) -> str:
            return "done"

        self.assertEqual(self.run_work(at_once), "done")
        self.reactor.turns = [lambda: pending.callback("done later")]
        self.assertEqual(self.run_work(later), "done later")

    def test_what_it_raises(self) -> None:
        """It is raised where the command is."""

        async def fail(reactor: object) -> None:
            raise CommandFailed("no room")

        error = self.assertRaises(CommandFailed, self.run_work, fail)
        self.assertEqual(str(error), "no room")

    def test_work_that_does_not_even_begin(self) -> None:
        """A mistake in making the coroutine ends it as well."""

        def broken(reactor: object) -> Any:
            raise ValueError("broken")

        self.assertRaises(ValueError, self.run_work, broken)

    def test_a_signal_cancels(self) -> None:
        """The work is told, and then its caller, by which signal."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self.reactor.turns = [lambda number=number: os.kill(os.getpid(), number)]
            self.assertEqual(self.interrupted(self.wait_for_ever), number)
        self.assertEqual(self.cancelled, ["cancelled"] * 2)

    def test_work_may_take_its_time_to_stop(self) -> None:
        """The first signal waits for it."""
        ended: list[str] = []
        closing: Deferred[None] = Deferred()

        async def slow(reactor: object) -> None:
            try:
                await Deferred()
            finally:
                await closing
                ended.append("ended")

        self.reactor.turns = [
            lambda: os.kill(os.getpid(), signal.SIGINT),
            lambda: self.assertEqual(ended, []),
            lambda: closing.callback(None),
        ]
        self.assertEqual(self.interrupted(slow), signal.SIGINT)
        self.assertEqual(ended, ["ended"])

    def test_the_second_signal_does_not_wait(self) -> None:
        """Nor does it change which was the first."""

        async def deaf(reactor: object) -> None:
            while True:
                with contextlib.suppress(CancelledError):
                    await Deferred()

        self.reactor.turns = [
            lambda: os.kill(os.getpid(), signal.SIGTERM),
            lambda: os.kill(os.getpid(), signal.SIGINT),
        ]
        self.assertEqual(self.interrupted(deaf), signal.SIGTERM)

    def test_two_signals_at_once(self) -> None:
        """The reactor has stopped already when the second one is to stop it."""

        def twice() -> None:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)

        self.reactor.turns = [twice]
        self.assertEqual(self.interrupted(self.wait_for_ever), signal.SIGINT)

    def test_one_more_ctrl_c_is_no_news(self) -> None:
        """While the process ends it must not become a traceback."""
        self.reactor.turns = [lambda: os.kill(os.getpid(), signal.SIGINT)]
        self.interrupted(self.wait_for_ever)
        os.kill(os.getpid(), signal.SIGINT)

    def test_handlers_are_given_back(self) -> None:
        """After good work Ctrl-C does what it did before."""

        async def work(reactor: object) -> None:
            self.assertNotIn(signal.getsignal(signal.SIGINT), (before, signal.SIG_DFL))

        before = signal.getsignal(signal.SIGINT)
        self.run_work(work)
        self.assertIs(signal.getsignal(signal.SIGINT), before)
        self.assertIs(signal.getsignal(signal.SIGTERM), signal.SIG_DFL)

    def test_somebody_stops_the_reactor(self) -> None:
        """Then there is no result, and it says so."""
        self.reactor.turns = [self.reactor.stop]
        error = self.assertRaises(CommandFailed, self.run_work, self.wait_for_ever)
        self.assertIn("stopped", str(error))

    def test_logged_errors_are_kept(self) -> None:
        """And nothing is printed meanwhile: a table may be on the screen."""

        async def work(reactor: object) -> None:
            for observer in self.log.observers:
                Logger(namespace="test", observer=observer).error("something went wrong")

        self.run_work(work)
        self.assertEqual(self.mistakes, ["something went wrong"])
        self.assertEqual(self.log.options, {"discardBuffer": True, "redirectStandardIO": False})


class LogKeeperTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.lines: list[str] = []
        self.log = Logger(namespace="test", observer=LogKeeper(self.lines))

    def test_only_errors(self) -> None:
        """From "error" on."""
        for level in ("debug", "info", "warn", "error", "critical"):
            getattr(self.log, level)("{what} happened", what=level)
        self.assertEqual(self.lines, ["error happened", "critical happened"])

    def test_one_line_each(self) -> None:
        """Whatever the message looks like."""
        self.log.error("first line\n  second\tline\n")
        self.assertEqual(self.lines, ["first line second line"])

    def test_failures(self) -> None:
        """What was raised, and what it said, without the traceback."""
        self.log.failure("Unhandled error", Failure(ValueError("two\nlines")))
        self.assertEqual(self.lines, ["Unhandled error (ValueError: two lines)"])


class InterruptedTests(SynchronousTestCase):
    def test_by_which_signal(self) -> None:
        """It can be told, and read."""
        error = Interrupted(signal.SIGTERM)
        self.assertEqual(error.signal, signal.SIGTERM)
        self.assertEqual(str(error), f"stopped by signal {int(signal.SIGTERM)}")
