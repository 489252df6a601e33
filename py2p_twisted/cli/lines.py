"""
Standard input and output for commands that must not wait for either.

A terminal or a pipe may block for as long as somebody likes: ``py2p listen | less``. If the
reactor waited for it, the command would be a peer that does not read, and lose its links.
So reading and writing happen in threads of their own, which are daemons: a command that is
told to stop does not wait for a key to be pressed.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

#: Lines that may wait to be written. Then the oldest are lost, which is said.
MOST_WAITING: Final = 10_000

#: Characters that may wait.
MOST_CHARACTERS: Final = 64 * 2**20

_CHUNK: Final = 65_536


class FileLines:
    """
    The lines of an open file, by its number.

    Not a buffered stream of Python's: those have a lock, and a thread that holds it while the
    process ends makes the interpreter abort.
    """

    def __init__(self, number: int) -> None:
        """
        :param number: the file's.
        """
        self._number = number
        self._chunks: list[bytes] = []
        self._lines: deque[bytes] = deque()
        self._ended = False

    def readline(self) -> bytes:
        """The next line with its end; the last one may have none; then ``b""``."""
        while not self._lines and not self._ended:
            data = os.read(self._number, _CHUNK)
            *lines, rest = data.split(b"\n")
            if lines:
                self._lines.append(b"".join([*self._chunks, lines[0], b"\n"]))
                self._lines.extend(line + b"\n" for line in lines[1:])
                self._chunks.clear()
            if rest:
                self._chunks.append(rest)
            if not data:
                self._ended = True
                if self._chunks:
                    self._lines.append(b"".join(self._chunks))
        return self._lines.popleft() if self._lines else b""


class Threads:
    """A thread pool, as far as a name resolver needs one: threads that nobody waits for."""

    @staticmethod
    def callInThreadWithCallback(  # noqa: N802
        told: Callable[[bool, Any], object], function: Callable[..., Any], *arguments: Any
    ) -> None:
        """Call a function in a thread of its own, and tell what came of it."""

        def run() -> None:
            outcome: tuple[bool, Any]
            try:
                outcome = (True, function(*arguments))
            except BaseException:  # noqa: BLE001 - it belongs to whoever waits
                outcome = (False, Failure())
            with suppress(Exception):  # the reactor may have ended meanwhile
                told(*outcome)

        threading.Thread(target=run, name="py2p-name", daemon=True).start()


class Reader:
    """Calls a function that blocks, such as reading a line, again and again."""

    def __init__(self, reactor: Any, read: Callable[[], Any]) -> None:
        """
        :param reactor: whose thread gets what was read.
        :param read: waits, and returns something; called in a thread of the reader's own,
            once for every `next`.
        """
        self._reactor = reactor
        self._read = read
        self._asked = threading.Semaphore(0)
        self._waiting: deque[Deferred[Any]] = deque()
        self._thread: threading.Thread | None = None

    def next(self) -> Deferred[Any]:
        """A Deferred of what the next call returns, or raises."""
        result: Deferred[Any] = Deferred(self._cancel)
        self._waiting.append(result)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="py2p-input", daemon=True)
            self._thread.start()
        self._asked.release()
        return result

    def _cancel(self, result: Deferred[Any]) -> None:
        with suppress(ValueError):
            self._waiting.remove(result)

    def _run(self) -> None:
        while True:
            self._asked.acquire()
            try:
                value = self._read()
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits
                self._tell(error, failed=True)
            else:
                self._tell(value, failed=False)

    def _tell(self, value: Any, *, failed: bool) -> None:
        # The reactor may have ended meanwhile.
        with suppress(Exception):
            self._reactor.callFromThread(self._told, value, failed)

    def _told(self, value: Any, failed: bool) -> None:
        if not self._waiting:
            return
        result = self._waiting.popleft()
        if failed:
            result.errback(value)
        else:
            result.callback(value)


class Writer:
    """
    Writes lines without making anybody wait.

    :ivar lost: lines that could not be written in time.
    """

    def __init__(
        self,
        reactor: Any,
        write: Callable[[str], object],
        failed: Callable[[Exception], object],
        most: int = MOST_WAITING,
    ) -> None:
        """
        :param write: writes and flushes a text; called in a thread of the writer's own.
        :param failed: called in the reactor's thread when it cannot be written, once.
        :param most: lines that may wait.
        """
        self.lost = 0
        self._reactor = reactor
        self._write = write
        self._failed = failed
        self._most = most
        self._lines: deque[str] = deque()
        self._size = 0
        self._idle: list[Deferred[None]] = []
        self._changed = threading.Condition()
        self._busy = False
        #: Whether it cannot be written, and whether somebody knows.
        self._broken = self._told = False
        self._thread: threading.Thread | None = None

    def put(self, line: str) -> bool:
        """
        Have a line written, soon.

        :return: whether there was room; else the oldest that waited has been lost.
        """
        with self._changed:
            if self._broken:
                return True  # somebody has been told
            self._lines.append(line)
            self._size += len(line)
            full = False
            while len(self._lines) > self._most or (
                self._size > MOST_CHARACTERS and len(self._lines) > 1
            ):
                self._size -= len(self._lines.popleft())
                self.lost += 1
                full = True
            self._changed.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="py2p-output", daemon=True)
            self._thread.start()
        return not full

    def drained(self) -> Deferred[None]:
        """A Deferred that fires when everything is written, or never will be."""
        done: Deferred[None] = Deferred()
        with self._changed:
            if self._told or not (self._broken or self._lines or self._busy):
                done.callback(None)
            else:
                self._idle.append(done)
        return done

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                if not self._lines:
                    self._call(self._rest)
                while not self._lines:
                    self._changed.wait()
                lines = list(self._lines)
                self._lines.clear()
                self._size = 0
                self._busy = True
            try:
                self._write("".join(lines))
            except Exception as error:  # noqa: BLE001 - whatever a stream may raise
                with self._changed:
                    self._broken = True
                    self._lines.clear()
                self._call(self._tell, error)
                self._call(self._rest)
                return

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        # The reactor may have ended meanwhile.
        with suppress(Exception):
            self._reactor.callFromThread(function, *arguments)

    def _tell(self, error: Exception) -> None:
        self._told = True
        self._failed(error)

    def _rest(self) -> None:
        with self._changed:
            if not self._broken and (self._lines or self._busy):
                return  # more has come since
            waiting, self._idle = self._idle, []
        for done in waiting:
            if not done.called:
                done.callback(None)
