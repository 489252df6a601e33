"""
Where threads meet: the reactor in a thread of its own, and what crosses over to it.

A script has no reactor. The first socket starts the process's reactor in a daemon thread,
all sockets share it, and it is stopped when the interpreter ends. Where an application
runs the reactor itself, it is borrowed instead.

Three ways across, by price (one way, measured: docs/design.rst, "Threads"):

* `Handover`: messages through a deque, one wake-up for a whole burst;
* `ReactorThread.post`: a function to be called, one wake-up each;
* `ReactorThread.ask`: a function whose result is waited for.

Callbacks of users run in a `Worker`, one thread a socket, so they may take as long as they
like. Only this module starts threads.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from itertools import repeat, starmap
from time import monotonic, sleep
from typing import Any, Final, TypeVar

from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadable import isInIOThread

from py2p_twisted.core.message import Message
from py2p_twisted.errors import BlockingInReactor, MeshClosed, WouldBlock
from py2p_twisted.net.flow import SendQueue

_log = Logger(namespace="py2p_twisted.mesh")

T = TypeVar("T")

#: Seconds that the reactor may take to start, and to stop at exit.
START_TIMEOUT: Final = 10.0
STOP_TIMEOUT: Final = 7.0

#: Bytes that may wait to leave this process before ``send`` waits too.
#: Source: docs/design.rst, "Flow control".
HANDOVER_LIMIT: Final = 4 * 1024 * 1024

#: Bytes that wait before a sender lets the reactor's thread have the interpreter for a
#: moment, and again after as many more. What is taken soon is still in the processor's
#: caches, and has not been looked at by the garbage collector.
STEP: Final = 256 * 1024


class ReactorThread:
    """
    The process's reactor, made to run, or one that the application runs.

    May be used from any thread.
    """

    def __init__(self, reactor: Any = None) -> None:
        """
        :param reactor: one that the application runs or is going to run; by default the
            global one, which is started in a thread unless it runs already.
        """
        self._given = reactor
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._gone = ""
        self._watchers: dict[Callable[[bool], None], None] = {}

    def ensure_running(self) -> Any:
        """
        The reactor, running, or about to be run by the application.

        :raises MeshClosed: it has ended, or this is a forked child without it.
        """
        if self._given is not None:
            return self._given
        from twisted.internet import reactor

        with self._lock:
            if self._gone:
                raise MeshClosed(self._gone)
            if self._thread is None and not reactor.running:
                self._start(reactor)
        return reactor

    def _start(self, reactor: Any) -> None:
        up = threading.Event()
        reactor.callWhenRunning(up.set)
        # A daemon thread, and stopped at exit: as a daemon alone it would skip its
        # clean-up, as anything else it would keep the interpreter from ending.
        self._thread = threading.Thread(
            target=self._run, args=(reactor,), name="py2p-reactor", daemon=True
        )
        self._thread.start()
        if not up.wait(START_TIMEOUT):
            raise MeshClosed(f"the reactor did not start within {START_TIMEOUT:g} s")
        atexit.register(self._stop, reactor)

    def _run(self, reactor: Any) -> None:
        try:
            reactor.run(installSignalHandlers=False)
        finally:
            self._gone = "the reactor has ended"
            for watcher in list(self._watchers):
                watcher(False)

    def _stop(self, reactor: Any) -> None:
        thread = self._thread
        if thread is not None and thread.is_alive():
            self._gone = "the interpreter is ending"
            reactor.callFromThread(reactor.stop)
            thread.join(STOP_TIMEOUT)

    def forked(self) -> None:
        """This is a child of ``fork``: its reactor thread stayed behind in the parent."""
        self._lock = threading.Lock()
        if self._thread is not None:
            self._gone = "the reactor stayed in the parent process: make sockets after the fork"
            self._thread = None
            for watcher in list(self._watchers):
                watcher(True)

    @property
    def gone(self) -> str:
        """Why there is no reactor any more, or an empty text."""
        return self._gone

    def when_gone(self, action: Callable[[bool], None]) -> None:
        """
        Have ``action`` called, in whatever thread, when the reactor has ended.

        Its argument says whether this is a forked child, where a lock that another thread
        held at the fork stays held for ever.
        """
        self._watchers[action] = None

    def forget(self, action: Callable[[bool], None]) -> None:
        """Take back `when_gone`."""
        self._watchers.pop(action, None)

    def before_stop(self, reactor: Any, action: Callable[[], Any]) -> Callable[[], None]:
        """
        Have ``action`` called in the reactor's thread when the reactor is about to stop.

        The reactor waits for the Deferred that it returns.

        :return: takes it back; call that in the reactor's thread.
        """
        trigger: list[Any] = []

        def forget() -> None:
            if trigger:
                reactor.removeSystemEventTrigger(trigger.pop())

        def stopping() -> Any:
            trigger.clear()
            self._gone = self._gone or "the reactor has ended"
            return action()

        self.post(
            lambda: trigger.append(reactor.addSystemEventTrigger("before", "shutdown", stopping))
        )
        return forget

    def inside(self) -> bool:
        """Whether this is the reactor's thread, in which nothing may wait."""
        return isInIOThread() and self._is_running()

    def _is_running(self) -> bool:
        if self._given is not None:
            return bool(getattr(self._given, "running", True))
        from twisted.internet import reactor

        return bool(reactor.running)

    def post(self, function: Callable[..., object], *args: Any) -> None:
        """Call ``function`` in the reactor's thread, soon; in that thread: at once."""
        reactor = self.ensure_running()
        if self.inside() or not reactor.running:
            function(*args)
        else:
            reactor.callFromThread(function, *args)

    def ask(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """
        Call ``function`` in the reactor's thread; its result may be a Deferred.

        :return: a future of the result. Waiting for it is the caller's business, and must
            not be done in the reactor's thread.
        """
        result: Future[Any] = Future()

        def succeed(value: Any) -> None:
            if not result.done():
                result.set_result(value)

        def fail(failure: Failure) -> None:
            if not result.done():
                result.set_exception(failure.value or failure)

        self.post(lambda: maybeDeferred(function, *args).addCallbacks(succeed, fail) and None)
        return result

    def refuse_inside(self, what: str) -> None:
        """
        Refuse to wait where waiting would last for ever.

        :raises BlockingInReactor: this is the reactor's thread.
        """
        if self.inside():
            raise BlockingInReactor(
                f"{what} waits, and this is the reactor's thread: nothing would ever come"
            )


_default = ReactorThread()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _default.forked())


def reactor_thread(reactor: Any = None) -> ReactorThread:
    """The process's shared reactor thread, or one around a reactor that is handed in."""
    return _default if reactor is None else ReactorThread(reactor)


class Handover:
    """
    Messages on their way from any thread to the reactor's.

    They cross in a deque; the reactor is woken when it was empty, and takes all that has
    come until then. A sender waits while more than `HANDOVER_LIMIT` bytes have not left.
    """

    def __init__(self, thread: ReactorThread, reactor: Any, queue: SendQueue) -> None:
        self._thread = thread
        self._reactor = reactor
        self._queue = queue
        self._room = threading.Condition()
        # Bytes ever put. Threads add to it without a lock, before they append. Should the sum
        # be wrong by that, it is put right when there is nothing left to take, and nobody
        # waits while there is nothing to take.
        self._given = 0
        #: The next amount of waiting bytes at which a sender stops for a moment.
        self._stop_at = STEP
        self._blocked = 0
        self._closed = ""
        queue.progressed = self._progressed

    @property
    def waiting(self) -> int:
        """Bytes that have not left yet."""
        return self._given - self._queue.taken

    def put(self, message: Message, timeout: float | None) -> None:
        """
        Hand a message over; in the order of the calls, for each thread.

        :param timeout: seconds to wait for room; ``None``: as long as it takes.
        :raises WouldBlock: there was no room in that time; at once in the reactor's thread.
        :raises MeshClosed: the socket has been closed.
        """
        # No lock: it would be a tenth of a send. Appending is atomic, and whoever finds the
        # queue unarmed behind it asks for a pump; two do no harm.
        queue = self._queue
        if self._given - queue.taken > self._stop_at:
            self._give_way(timeout)
        if self._closed:
            raise MeshClosed(self._closed)
        self._given += len(message.body)
        queue.items.append(message)
        if not queue.armed:
            self._wake()

    def call(self, function: Callable[[], object]) -> None:
        """Have ``function`` called in the reactor's thread, after what was put before."""
        if self._closed:
            raise MeshClosed(self._closed)
        self._queue.items.append(function)
        if not self._queue.armed:
            self._wake()

    def _give_way(self, timeout: float | None) -> None:
        """Let the reactor's thread run; beyond the limit, wait until it has made room."""
        if self._full():
            with self._room:
                self._wait(timeout)
        elif not self._thread.inside():
            sleep(0)
        self._set_next_stop()

    def _full(self) -> bool:
        return self.waiting > HANDOVER_LIMIT and bool(self._queue.items)

    def _set_next_stop(self) -> None:
        self._stop_at = min(self.waiting + STEP, HANDOVER_LIMIT)

    def _wake(self) -> None:
        try:
            self._queue.armed = True
            if self._thread.inside():
                # Not at once: the caller may be in the middle of something.
                self._reactor.callLater(0, self._queue.pump)
            else:
                self._reactor.callFromThread(self._queue.pump)
        except BaseException:  # Ctrl-C: the next one has to ask again.
            self._queue.armed = False
            raise

    def _wait(self, timeout: float | None) -> None:
        if self._thread.inside():
            raise WouldBlock(f"{self.waiting} bytes wait to be sent, and the reactor cannot wait")
        until = None if timeout is None else monotonic() + timeout
        self._blocked += 1
        try:
            while self._full() and not self._closed:
                left = None if until is None else until - monotonic()
                if left is not None and left <= 0:
                    raise WouldBlock(
                        f"{self.waiting} bytes still wait to be sent after {timeout:g} s"
                    )
                # Never without a limit: Ctrl-C has to get through.
                self._room.wait(1.0 if left is None else min(1.0, left))
        finally:
            self._blocked -= 1

    def _progressed(self) -> None:
        if not self._queue.items:
            self._given = self._queue.taken
        self._set_next_stop()
        if self._blocked:
            with self._room:
                self._room.notify_all()

    def close(self, why: str) -> None:
        """Take nothing more; who waits for room is told so."""
        with self._room:
            self._closed = self._closed or why
            self._room.notify_all()

    def forked(self, why: str) -> None:
        """This is a child of ``fork``: take nothing more, and forget who held the lock."""
        self._room = threading.Condition()
        self.close(why)


class Worker:
    """
    A thread that calls users' functions, one after the other.

    :ivar busy: the time (monotonic seconds) at which the running call began, or ``None``.
    """

    def __init__(self, name: str) -> None:
        self._jobs: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._wake = threading.Condition()
        self._idle = False
        self._ended = False
        self.busy: float | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return len(self._jobs)

    def put(self, function: Callable[..., object], *args: Any) -> None:
        """Have a function called; what it raises is logged."""
        self._jobs.append((function, args))
        if self._idle:
            with self._wake:
                self._wake.notify()

    def _run(self) -> None:
        jobs = self._jobs
        while True:
            try:
                function, args = jobs.popleft()
            except IndexError:
                with self._wake:
                    self._idle = True
                    while not jobs and not self._ended:
                        self._wake.wait()
                    self._idle = False
                if self._ended:
                    return
                continue
            if self._ended:
                return
            self.busy = monotonic()
            try:
                function(*args)
            except BaseException:  # noqa: BLE001 - a thread that ends would end all callbacks
                _log.failure("in the thread of callbacks")
            self.busy = None

    def inside(self) -> bool:
        """Whether this is the worker's own thread."""
        return threading.current_thread() is self._thread

    def forked(self) -> None:
        """This is a child of ``fork``: the thread stayed behind."""
        self._wake = threading.Condition()
        self._ended = True

    def close(self, timeout: float) -> bool:
        """
        Let the running call end, start no other.

        :return: whether it has ended within ``timeout`` seconds.
        """
        with self._wake:
            self._ended = True
            self._wake.notify()
        if not self.inside():
            self._thread.join(timeout)
        return not self._thread.is_alive()


class Inbox:
    """
    What has arrived and has not been read, bounded in number and bytes.

    One thread puts, any number take. Neither side takes a lock of the other's while there
    is something to take, so a reader can never hold up the reactor.
    """

    def __init__(
        self, max_messages: int, max_bytes: int, size_of: Callable[[Sequence[Any]], int]
    ) -> None:
        """
        :param size_of: the bytes of some items, together.
        """
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._size_of = size_of
        self._items: deque[Any] = deque()
        self._changed = threading.Condition()
        self._taking = threading.Lock()
        self._sleeping = False
        self._closed = False
        # How often something was taken, and had been when it was looked at last.
        self._takes = self._takes_before = 0
        # Bytes ever put, and how many there may be before room has to be made for certain.
        # What is taken is not counted, since that would cost every reader.
        self._put_bytes = 0
        self._room_until = max_bytes

    def __len__(self) -> int:
        return len(self._items)

    def extend(self, items: Sequence[Any]) -> Sequence[Any]:
        """
        Add messages; called by one thread only.

        :return: the oldest ones, where they had to make room.
        """
        self._items.extend(items)
        self._put_bytes += self._size_of(items)
        if len(self._items) > self._max_messages // 2 and self._takes != self._takes_before:
            # Somebody reads, and is left behind: let that thread have the interpreter.
            self._takes_before = self._takes
            sleep(0)
        lost: Sequence[Any] = ()
        if len(self._items) > self._max_messages or self._put_bytes > self._room_until:
            lost = self._make_room()
        if self._sleeping:
            self._sleeping = False
            with self._changed:
                self._changed.notify_all()
        return lost

    def _make_room(self) -> list[Any]:
        items = self._items
        lost: list[Any] = []
        with suppress(IndexError):  # a reader may be faster
            while len(items) > self._max_messages:
                lost.append(items.popleft())
            if self._put_bytes > self._room_until:
                present, most = self._size_of(list(items)), self._max_bytes
                if present > most:
                    # More than has to be, or each message that comes would count all again.
                    most -= most // 64
                while present > most and len(items) > 1:
                    lost.append(items.popleft())
                    present -= self._size_of(lost[-1:])
                self._room_until = self._put_bytes + self._max_bytes - present
        return lost

    def take(self, most: int = 1) -> list[Any]:
        """The oldest messages, up to ``most``; none if there are none."""
        found: list[Any] = []
        with self._taking:
            # One by one, but in C: what was taken before there was nothing left is kept.
            with suppress(IndexError):
                found.extend(starmap(self._items.popleft, repeat((), most)))
            self._takes += 1
        return found

    def wait(self, timeout: float | None, most: int = 1) -> list[Any]:
        """The oldest messages, as soon as there is one; none after the timeout."""
        until = None if timeout is None else monotonic() + timeout
        while True:
            found = self.take(most)
            if found or self._closed:
                return found
            left = None if until is None else until - monotonic()
            if left is not None and left <= 0:
                return found
            with self._changed:
                self._sleeping = True
                if not self._items and not self._closed:
                    # Never without a limit: Ctrl-C has to get through.
                    self._changed.wait(1.0 if left is None else min(1.0, left))

    def close(self) -> None:
        """Nothing more will come: who waits gets what is left, and then nothing."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def forked(self) -> None:
        """
        This is a child of ``fork``: nothing more will come, and forget who held a lock.

        What was waiting is the parent's to read.
        """
        self._items = deque()
        self._changed = threading.Condition()
        self._taking = threading.Lock()
        self.close()
