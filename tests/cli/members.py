"""
Commands that join a network in memory: no transports but those, and one clock.

What a command reads, what it prints and how it ends is what it would be at a shell; what happens
meanwhile is arranged before, with ``self.later``.
"""

from __future__ import annotations

import contextlib
import io
import os
import queue
import random
import sys
from argparse import Namespace
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted import cli
from py2p_twisted.cli import member
from py2p_twisted.cli.running import CommandFailed, Interrupted
from py2p_twisted.core.network import Address, Network
from py2p_twisted.net import MeshService, service
from py2p_twisted.net.tls import credentials_for
from py2p_twisted.testing import MemoryMesh
from py2p_twisted.testing.mesh import EPOCH

#: Where the first node of a mesh is.
FIRST = "10.0.0.1:4444"

#: Seconds by the clock after which a command that does not end is a mistake.
LIMIT = 1000.0


def options(*join: Address, **values: Any) -> Namespace:
    """What a command gets that joins through these addresses."""
    return Namespace(
        **{
            "join": list(join),
            "network": "mesh",
            "tls": False,
            "timeout": 10.0,
            "control": None,
            **values,
        }
    )


class Hand:
    """
    The reactor of code with threads of its own: what they hand over waits until it is taken.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[..., object], tuple[Any, ...]]]
        self._calls = queue.SimpleQueue()

    def callFromThread(self, call: Callable[..., object], *arguments: Any) -> None:
        self._calls.put((call, arguments))

    def take(self, patience: float = 30.0) -> None:
        """
        Carry out the next call, and wait for it if need be.

        :raises AssertionError: there is none.
        """
        try:
            call, arguments = self._calls.get(timeout=patience)
        except queue.Empty:
            raise AssertionError("no thread has handed over anything") from None
        call(*arguments)

    def take_until(self, condition: Callable[[], object]) -> None:
        """Carry out calls until a condition holds."""
        while not condition():
            self.take()


class InlineReader:
    """In place of `lines.Reader`: reads in the reactor's next turn, without a thread."""

    def __init__(self, reactor: Any, read: Callable[[], Any]) -> None:
        self._reactor = reactor
        self._read = read

    def next(self) -> Deferred[Any]:
        result: Deferred[Any] = Deferred()
        self._reactor.callLater(0, self._fire, result)
        return result

    def _fire(self, result: Deferred[Any]) -> None:
        if result.called:
            return
        try:
            value = self._read()
        except Exception:
            result.errback(Failure())
            return
        if isinstance(value, Deferred):
            value.chainDeferred(result)
        else:
            result.callback(value)


class InlineWriter:
    """
    In place of `lines.Writer`: writes at once, without a thread.

    :ivar most: lines that it takes; of those that come later it says that there was no room.
    """

    most: float = float("inf")

    def __init__(
        self,
        reactor: Any,
        write: Callable[[str], object],
        failed: Callable[[Exception], object],
        **_: Any,
    ) -> None:
        self.lost = 0
        self._reactor = reactor
        self._write = write
        self._failed = failed
        self._broken = False
        self._count = 0

    def put(self, line: str) -> bool:
        self._count += 1
        if self._broken:
            return True
        if self._count > self.most:
            self.lost += 1
            return False
        try:
            self._write(line)
        except Exception as error:
            self._broken = True
            self._reactor.callLater(0, self._failed, error)
        return True

    def drained(self) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self._reactor.callLater(0, done.callback, None)
        return done


class ToyStdin:
    """
    Standard input.

    :ivar buffer: the same as bytes.
    """

    def __init__(self, data: bytes, *, terminal: bool = False) -> None:
        self.buffer = io.BytesIO(data)
        self._terminal = terminal
        # A pipe holds as much as any test needs, so nobody has to wait at either end of it.
        self._number, pen = os.pipe()
        os.write(pen, data)
        os.close(pen)

    def isatty(self) -> bool:
        return self._terminal

    def fileno(self) -> int:
        return self._number

    def readline(self) -> str:
        return self.buffer.readline().decode()

    def close(self) -> None:
        os.close(self._number)


class MemberTestCase(SynchronousTestCase):
    """
    Tests of what joins a network.

    :ivar mesh: the network; the node ``ada`` is there, at `FIRST`.
    :ivar doing: what the command waits for, while it runs.
    """

    def setUp(self) -> None:
        self.mesh = MemoryMesh("ada")
        self.out = io.StringIO()
        self.err = io.StringIO()
        self.doing: Deferred[Any] | None = None
        self.members: list[MeshService] = []
        self._signal: int | None = None
        self.patch(member, "MeshService", self._make_service)
        # It asks the system, which no test does.
        self.patch(service, "lan_address", lambda: "10.9.9.9")
        self.patch(sys, "stdout", self.out)
        self.patch(sys, "stderr", self.err)

    def _make_service(self, reactor: Any, network: Network, **how: Any) -> MeshService:
        number = len(self.members) + 1
        here = (f"10.1.0.{number}", 50000 + number)
        credentials = credentials_for(network)
        clock, memory = self.mesh.clock, self.mesh.network
        made = MeshService(
            reactor,
            network,
            credentials=credentials,
            endpoint_for=lambda there, _: memory.client(here, there, credentials),
            now=clock.seconds,
            wall=lambda: EPOCH + clock.seconds(),
            rng=random.Random(number),
            salt=f"member {number}",
            **how,
        )
        self.members.append(made)
        return made

    # --- time ---------------------------------------------------------------------------

    def later(self, when: float, action: Callable[..., object], *arguments: Any) -> None:
        """Have something happen when so many seconds have passed."""
        self.mesh.clock.callLater(when, action, *arguments)

    def step(self, end: float) -> None:
        """Turn the clock to the moment when something happens next, or to the end."""
        clock = self.mesh.clock
        times = [call.getTime() for call in clock.getDelayedCalls()]
        self.mesh.advance(max(0.0, min([*times, end]) - clock.seconds()))

    def outcome(self, doing: Deferred[Any]) -> Any:
        """What something comes to, a value or a `Failure`; it must come to its end."""
        results: list[Any] = []
        doing.addBoth(results.append)
        while not results:
            self.assertLess(self.mesh.clock.seconds(), LIMIT, "it does not end")
            self.step(LIMIT)
        return results[0]

    def failed(self, doing: Deferred[Any]) -> str:
        """What a command says that cannot do what it is for."""
        outcome = self.outcome(doing)
        self.assertIsInstance(outcome, Failure)
        outcome.trap(CommandFailed)
        return str(outcome.value)

    # --- commands -----------------------------------------------------------------------

    def use(self, module: Any) -> None:
        """Have a command run in here, without threads."""
        self.patch(module, "run_reactor", self._run_reactor)
        for name, inline in (("Reader", InlineReader), ("Writer", InlineWriter)):
            if hasattr(module, name):
                self.patch(module, name, inline)

    def _run_reactor(self, work: Callable[[Any], Coroutine[Deferred[Any], Any, Any]]) -> Any:
        self.doing = Deferred.fromCoroutine(work(self.mesh.clock))
        outcome = self.outcome(self.doing)
        if self._signal is not None:
            raise Interrupted(self._signal)
        if isinstance(outcome, Failure):
            outcome.raiseException()
        return outcome

    def interrupt(self, number: int) -> None:
        """Send the command that runs a signal."""
        self._signal = number
        assert self.doing is not None
        self.doing.cancel()

    def main(self, *arguments: str, stdin: ToyStdin | bytes | None = None) -> int:
        """
        Type a command.

        :param stdin: what it can read; by default nothing, from no terminal.
        :return: the exit code.
        """
        toy = stdin if isinstance(stdin, ToyStdin) else ToyStdin(stdin or b"")
        self.patch(sys, "stdin", toy)
        with contextlib.closing(toy):
            try:
                return cli.main(arguments)
            except SystemExit as end:
                return int(end.code or 0)

    def said(self) -> str:
        """What has been written to standard error since the last time."""
        text = self.err.getvalue()
        self.err.truncate(self.err.seek(0))
        return text

    def printed(self) -> str:
        """What has been written to standard output since the last time."""
        text = self.out.getvalue()
        self.out.truncate(self.out.seek(0))
        return text

    def inbox(self, name: str = "ada") -> list[tuple[Any, ...]]:
        """The packets of the messages that a node has got."""
        return self.mesh.inbox(name)
