"""
A reactor without processes and ports: the test plays the programs, and turns the clock.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.abstract import isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import Logger
from twisted.python.failure import Failure

from py2p_twisted.core import flags
from py2p_twisted.core.message import Message, build

_log = Logger()

#: What everybody's clock shows, in seconds since 1970.
WALL = 1_790_000_000

#: What a message may bring to harm a log or a terminal: line breaks, a title, a cleared
#: screen, the eight-bit introducer of such sequences, text that runs backwards.
HOSTILE = "a\r\nb\x1b[2J\x1b]0;owned\x07\x00\x9b31m\u202e\u2028\x85z"


def message(*packets: Any, sender: bytes | str = b"Ada", sub: Any = 0, time: int = WALL) -> Message:
    """A message that has arrived."""
    made = build(flags.BROADCAST, b"Ada", time, (sub, *packets))
    return Message(made.id, made.body, (flags.BROADCAST, sender, time, sub, *packets))


class ToyProcess:
    """
    A process, played by the test; the transport of its protocol.

    :ivar args: its command line.
    :ivar env: its environment.
    :ivar stdin: what it could have read so far.
    :ivar stdin_closed: whether it would have come to the end of that.
    :ivar signals: the names of those it was sent.
    :ivar running: whether it has not exited.
    :ivar holds_output: somebody, if only a child of its own, could still print.
    :ivar holds_input: somebody could still read what it has not; such a pipe closes when it
        is empty, however often it is closed, unless its ``connectionLost`` is called.
    """

    def __init__(
        self, reactor: ToyReactor, protocol: Any, executable: str, args: Any, env: Any
    ) -> None:
        self.executable, self.args, self.env = executable, list(args), dict(env)
        self.stdin = b""
        self.stdin_closed = False
        self.signals: list[str] = []
        self.running = True
        self.holds_output = True
        self.holds_input = False
        self.pipes = {0: self}
        self.denies_signals = False
        self._reactor = reactor
        self._protocol = protocol
        self._reason: Failure | None = None

    # --- as its protocol's transport ------------------------------------------------------

    def write(self, data: bytes) -> None:
        assert isinstance(data, bytes)
        if not self.stdin_closed:
            self.stdin += data

    def closeStdin(self) -> None:
        self.stdin_closed = True

    def signalProcess(self, name: str) -> None:
        if not self.running:
            raise ProcessExitedAlready
        if self.denies_signals:
            raise PermissionError(1, "Operation not permitted")
        self.signals.append(name)

    def loseConnection(self) -> None:
        self.stdin_closed = True
        if self.holds_output:
            self._reactor.callLater(0, self.closes_output)

    def connectionLost(self, reason: Failure) -> None:
        """Its standard input, as one of its pipes, is closed whatever is in it."""
        self.holds_input = False
        self.pipes.pop(0, None)
        self._over()

    # --- played by the test ------------------------------------------------------------------

    def prints(self, data: bytes, *, on: int = 1) -> None:
        """It prints something, on standard output or error."""
        assert self.holds_output
        self._tell("childDataReceived", on, data)

    def exits(
        self,
        status: int = 0,
        *,
        signal: int | None = None,
        orphan: bool = False,
        unread: bool = False,
    ) -> None:
        """
        It ends.

        :param orphan: a child of its own goes on, and holds its output open.
        :param unread: that one also holds its standard input, and never reads it.
        """
        assert self.running
        self.running = False
        self.stdin_closed = True
        self.holds_input = unread
        if not unread:
            self.pipes.pop(0, None)
        if signal is None and status == 0:
            self._reason = Failure(ProcessDone(0))
        else:
            self._reason = Failure(ProcessTerminated(None if signal else status, signal, 0))
        self._tell("processExited", self._reason)
        if not orphan:
            self.closes_output()

    def closes_output(self) -> None:
        """Nobody holds its output open any more."""
        if self.holds_output:
            self.holds_output = False
            self._over()

    def _over(self) -> None:
        if not (self.running or self.holds_output or self.holds_input):
            self._tell("processEnded", self._reason)

    def _tell(self, what: str, *arguments: Any) -> None:
        # A mistake goes to the log, as with Twisted's processes.
        try:
            getattr(self._protocol, what)(*arguments)
        except Exception:
            _log.failure("in {what}", what=what)


class ToyReactor(MemoryReactorClock):
    """
    A clock, ports in memory, and processes that the test plays.

    :ivar processes: all that were started, oldest first.
    :ivar refuses: what `spawnProcess` raises, when set.
    :ivar at_once: the status with which processes end before `spawnProcess` has returned, as
        short ones may: Twisted has looked after them by then.
    :ivar ports: what is listened on.
    :ivar taken: what `listenTCP` raises, by port.
    """

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[ToyProcess] = []
        self.refuses: Exception | None = None
        self.at_once: int | None = None
        self.ports: list[ToyPort] = []
        self.taken: dict[int, Exception] = {}

    def spawnProcess(
        self,
        processProtocol: Any,
        executable: str,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        **more: Any,
    ) -> ToyProcess:
        if self.refuses is not None:
            raise self.refuses
        assert env is not None
        for word in (executable, *args, *env, *env.values()):
            if b"\0" in os.fsencode(word):
                raise ValueError("embedded null byte")
        process = ToyProcess(self, processProtocol, executable, args, env)
        self.processes.append(process)
        processProtocol.makeConnection(process)
        if self.at_once is not None:
            process.exits(self.at_once)
        return process

    @property
    def alive(self) -> list[ToyProcess]:
        """Those that have not exited."""
        return [process for process in self.processes if process.running]

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> ToyPort:
        if port in self.taken:
            raise self.taken[port]
        made = ToyPort(self, port or 40_000 + len(self.ports), interface)
        self.ports.append(made)
        return made


class ToyPort:
    """A port in memory; it stands in its reactor's ``ports`` as long as it is listened on."""

    def __init__(self, reactor: ToyReactor, port: int, interface: str) -> None:
        self._reactor = reactor
        if isIPv6Address(interface):
            self._host: IPv4Address | IPv6Address = IPv6Address("TCP", interface, port)
        else:
            self._host = IPv4Address("TCP", interface or "0.0.0.0", port)

    def startListening(self) -> None:
        """It does already."""

    def stopListening(self) -> None:
        if self in self._reactor.ports:
            self._reactor.ports.remove(self)

    def getHost(self) -> IPv4Address | IPv6Address:
        return self._host
