"""
``--exec``: a program for every message.

The program gets the packets as one line of JSON on its standard input (see `plainjson`), and
the rest in its environment:

=================  =================================================================
``PY2P_SENDER``    the id of the node that the message says it is from
``PY2P_VIA``       the id of the neighbour that brought it
``PY2P_ID``        the message's id, 64 hexadecimal digits
``PY2P_TIME``      the sender's stamp, seconds since 1970
``PY2P_TYPE``      the message's type as JSON; 0 unless its sender chose another
``PY2P_NETWORK``   the network's name
``PY2P_NODE``      this node's id
=================  =================================================================

No shell is involved, so nothing in a message can be taken for a command; what the program
makes of its input is its own affair. What it prints is logged.

So many run at once, so many messages wait; when one more comes the oldest is lost, which
is logged as a gap. A program that takes too long is told to end, and then made to; what it
has started itself is not, so a shell script had better end with ``exec``. The mesh waits for
none of this: messages go on before any program is started.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import (
    ConnectionDone,
    ProcessDone,
    ProcessExitedAlready,
    ProcessTerminated,
)
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from py2p_twisted.core.message import Message, weigh
from py2p_twisted.net import plainjson
from py2p_twisted.net.reports import Reports, printable

_log = Logger(namespace="py2p_twisted.exec")

#: Bytes that waiting messages may hold altogether; the same as for a socket's receive
#: queue. Source: docs/design.rst, "Limits".
MAX_BYTES: Final = 64 * 2**20

#: Seconds between the signal that asks a program to end and the one that makes it, and
#: that programs have when the node stops.
GRACE: Final = 5.0

#: The same for a child that a program leaves behind while the node stops.
LINGER: Final = 0.5

#: Programs that have exited while a child of theirs holds their output open. Each costs
#: open files; with more than that besides those that may run, the oldest is let go of.
MOST_LINGERING: Final = 32

#: What passes: no processes, no memory, no open files left. Seconds until it is tried again.
_FOR_A_MOMENT: Final = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
RETRY: Final = 1.0

#: Bytes of a line that are logged; the rest of it is left out.
LINE: Final = 4096


class Job:
    """One message on its way to a program."""

    __slots__ = ("message", "via")

    def __init__(self, message: Message, via: bytes) -> None:
        self.message = message
        self.via = via


class Programs:
    """
    Runs a program for every message.

    :ivar counts: what came of them: ``started``, ``exit 0`` and the like, ``signal 9``,
        ``timed out``, ``stopped`` with the node, ``not started``, ``lost``.
    """

    def __init__(
        self,
        reactor: Any,
        command: Sequence[str],
        *,
        parallel: int = 4,
        queue: int = 1000,
        timeout: float = 60.0,
        metadata: Callable[[], Mapping[str, str]] = dict,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        :param reactor: provides ``IReactorProcess`` and ``IReactorTime``.
        :param command: the program and its arguments.
        :param parallel: how many run at once.
        :param queue: how many messages may wait.
        :param timeout: seconds that one may take.
        :param metadata: more environment variables, the same for all messages.
        """
        self._reactor = reactor
        self._command = list(command)
        self._parallel = parallel
        self._most = queue
        self._timeout = timeout
        self._metadata = metadata
        self._waiting: deque[Job] = deque()
        self._waiting_bytes = 0
        self._running: dict[_Program, None] = {}
        self._lingering: dict[_Program, None] = {}
        self._stopping = False
        self._filling = False
        #: Set while the system has no room for another process.
        self._retry: IDelayedCall | None = None
        self._reports = Reports(_log, now)
        self.counts: Counter[str] = Counter()

    @property
    def status(self) -> dict[str, int]:
        """How many wait, run and have ended, by how."""
        return {"waiting": len(self._waiting), "running": len(self._running), **self.counts}

    def offer(self, message: Message, via: bytes) -> None:
        """Have a program run for a message, now or when there is room."""
        if self._stopping:
            return
        self._waiting.append(Job(message, via))
        self._waiting_bytes += weigh((message,))
        self._fill()
        while len(self._waiting) > self._most or (
            self._waiting_bytes > MAX_BYTES and len(self._waiting) > 1
        ):
            self._lose(self._take())

    def stop(self) -> Deferred[None]:
        """
        Start no more programs, and end those that run.

        :return: fires when all have ended: at once, or after twice five seconds at most.
        """
        self._stopping = True
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._waiting:
            _log.warn(
                "gap: {count} messages were waiting for their program and are lost",
                event="gap", reason="stopping", count=len(self._waiting),
            )  # fmt: skip
            self.counts["lost"] += len(self._waiting)
            self._waiting.clear()
            self._waiting_bytes = 0
        programs = [*self._running, *self._lingering]
        gone = [program.gone for program in programs]
        for program in programs:
            program.stop()
        done: Deferred[Any] = DeferredList(gone)
        return done.addCallback(lambda _: None)

    def _take(self) -> Job:
        job = self._waiting.popleft()
        self._waiting_bytes -= weigh((job.message,))
        return job

    def _lose(self, job: Job) -> None:
        self.counts["lost"] += 1
        self._reports.say(
            LogLevel.warn, "queue full", "exec",
            "gap: a message of {sender} is lost, because too many or too large ones are waiting "
            "for their program: {waiting}",
            event="gap", sender=printable(job.message.sender), waiting=len(self._waiting) + 1,
        )  # fmt: skip

    def _start(self, job: Job) -> None:
        program = _Program(self, self._reactor, self._timeout)
        try:
            line = plainjson.dumps(job.message.payload[1:]) + "\n"
            # Looked up each time, as a shell does: it may just have been replaced.
            executable = shutil.which(self._command[0]) or self._command[0]
            self._running[program] = None
            self._reactor.spawnProcess(
                program, executable, self._command, env=self._environment(job)
            )
        except Exception as error:  # noqa: BLE001 - no memory, no processes left, ...
            self._running.pop(program, None)
            if getattr(error, "errno", None) in _FOR_A_MOMENT and not self._stopping:
                self._waiting.appendleft(job)
                self._waiting_bytes += weigh((job.message,))
                self._retry = self._reactor.callLater(RETRY, self._try_again)
            else:
                self.counts["not started"] += 1
            self._reports.say(
                LogLevel.error, "not started", "exec",
                "{program} cannot be started: {error}",
                event="exec", program=self._command[0], error=str(error),
            )  # fmt: skip
            return
        self.counts["started"] += 1
        program.begin(line.encode("ascii"))

    def _environment(self, job: Job) -> dict[str, str]:
        message = job.message
        sub = plainjson.dumps(message.payload[:1])[1:-1]
        return {
            **os.environ,
            **{name: _text(value) for name, value in self._metadata().items()},
            "PY2P_SENDER": _text(message.sender),
            "PY2P_VIA": _text(job.via),
            "PY2P_ID": message.id.hex(),
            "PY2P_TIME": f"{message.time}",
            "PY2P_TYPE": sub if len(sub) <= 256 else "",
        }

    # --- called by programs -------------------------------------------------------------

    def exited(self, program: _Program, how: str, problem: str | None) -> None:
        """A program has exited, and its place is free."""
        self._running.pop(program, None)
        self._lingering[program] = None
        if len(self._lingering) > self._parallel + MOST_LINGERING:
            next(iter(self._lingering)).let_go()
        self.counts[how] += 1
        if problem is not None:
            self._reports.say(
                LogLevel.warn, how, "exec",
                "{program} {problem}", event="exec", program=self._command[0], problem=problem,
            )  # fmt: skip
        self._fill()

    def ended(self, program: _Program) -> None:
        """Its output is closed as well."""
        self._running.pop(program, None)
        self._lingering.pop(program, None)

    def _fill(self) -> None:
        """Start what there is room for."""
        if self._filling:
            return  # a program that was over at once
        self._filling = True
        try:
            while (
                self._waiting
                and len(self._running) < self._parallel
                and self._retry is None
                and not self._stopping
            ):
                self._start(self._take())
        finally:
            self._filling = False

    def _try_again(self) -> None:
        self._retry = None
        self._fill()

    def said(self, line: bytes, *, as_error: bool) -> None:
        """A program has printed a line."""
        level = LogLevel.warn if as_error else LogLevel.info
        # It may well repeat what it was given.
        text = printable(line[:LINE].decode("utf-8", "backslashreplace").rstrip("\r"))
        _log.emit(level, "{program}: {line}", event="exec", program=self._command[0], line=text)


class _Program(ProcessProtocol):
    """
    One run of the program.

    It *exits*, and has *ended* when its output is closed as well: a child that it leaves in
    the background may hold that open for long, and is let go of after a while.
    """

    def __init__(self, programs: Programs, reactor: Any, timeout: float) -> None:
        self.gone: Deferred[None] = Deferred()
        self.exited = False
        self._programs = programs
        self._reactor = reactor
        self._timeout = timeout
        self._timed_out = False
        self._stopping = False
        self._timer: IDelayedCall | None = None
        self._lines = {1: bytearray(), 2: bytearray()}

    def begin(self, line: bytes) -> None:
        """It has been started: give it its message, and a time."""
        if self.exited:
            return
        self._after(self._timeout, self._too_long)
        if self.transport is not None:
            self.transport.write(line)
            self.transport.closeStdin()

    def stop(self) -> None:
        """The node is stopping: some seconds more, then a signal, and then a stronger one."""
        if self._stopping:
            return
        self._stopping = True
        if self.exited:
            self.let_go()
        elif not self._timed_out:
            self._after(GRACE, self._terminate)

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        self._cancel()
        self._timer = self._reactor.callLater(seconds, action)

    def _cancel(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _too_long(self) -> None:
        self._timed_out = True
        self._terminate()

    def _terminate(self) -> None:
        self._signal("TERM")
        self._after(GRACE, self._kill)

    def _kill(self) -> None:
        self._signal("KILL")

    def _signal(self, name: str) -> None:
        # It may have been faster.
        with suppress(ProcessExitedAlready, OSError):
            if self.transport is not None:
                self.transport.signalProcess(name)

    def let_go(self) -> None:
        """Close what a child of its own still holds open."""
        self._cancel()
        transport: Any = self.transport
        if transport is None:
            return
        writer = getattr(transport, "pipes", {}).get(0)
        if writer is not None:
            # Else what nobody reads would have to be written first.
            writer.connectionLost(Failure(ConnectionDone()))
        transport.loseConnection()

    # --- called by Twisted --------------------------------------------------------------

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """It has printed something."""
        pending = self._lines[childFD]
        *lines, rest = (bytes(pending) + data).split(b"\n")
        for line in lines:
            self._programs.said(line, as_error=childFD == 2)
        # Of a line that does not end, the beginning is all that would be logged.
        self._lines[childFD] = bytearray(rest[:LINE])

    def processExited(self, reason: Failure) -> None:
        """It has exited; a child of its own may still hold its output open."""
        self.exited = True
        how, problem = self._explain(reason)
        self._after(LINGER if self._stopping else GRACE, self.let_go)
        self._programs.exited(self, how, problem)

    def processEnded(self, reason: Failure) -> None:
        """It has exited, and its output is read."""
        self._cancel()
        for number, rest in self._lines.items():
            if rest:
                self._programs.said(bytes(rest), as_error=number == 2)
                self._lines[number] = bytearray()
        self._programs.ended(self)
        if not self.gone.called:
            self.gone.callback(None)

    def _explain(self, reason: Failure) -> tuple[str, str | None]:
        if self._stopping and not self._timed_out and not reason.check(ProcessDone):
            return "stopped", "was ended, because the node is stopping"
        if self._timed_out:
            return "timed out", f"was ended after {self._timeout:g} s"
        if reason.check(ProcessDone):
            return "exit 0", None
        error = reason.value
        if isinstance(error, ProcessTerminated) and error.signal is not None:
            try:
                name = signal.Signals(error.signal).name
            except ValueError:
                name = str(error.signal)
            return f"signal {error.signal}", f"was ended by {name}"
        status = getattr(error, "exitCode", None)
        return f"exit {status}", f"ended with exit status {status}"


def _text(ident: bytes | str) -> str:
    """An id for an environment, which takes no NUL."""
    text = ident if isinstance(ident, str) else ident.decode("utf-8", "backslashreplace")
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\x00")
