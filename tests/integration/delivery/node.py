"""
``twist py2p`` that keeps a record of what it delivers, and sends when it is told to.

::

    the test                          the process
    Recorder()           --starts->   python -m tests.integration.delivery.node RECORD
        .ask("run")      --stdin-->   {"op": "run", "args": {"arguments": ["--join=...", ...]}}
                         <-stdout--   {"value": {"id": ..., "port": ...}}
                                      RECORD: a line for each message, see `Recording`

What runs is Twisted's own ``twist``, our plugin and the service it makes, from the same options. The
service's class alone is another one, which differs in that it writes a line where ``--exec`` would
start a program: to start one for each message of twelve nodes would measure this machine.

The process ends when the test's does, however that ends, even while it is stopped.

Times are ``time.monotonic``, one clock for all processes on Linux; a process whose wall clock is
faked keeps it.
"""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import sys
import threading
import time
from typing import Any

from tests.integration.driver import encode, serve

#: The first packet of what is recorded. Everything else is not.
TAG = "delivery"

#: The environment variable that makes nodes do no more than flood, when it is set.
FLOOD = "PY2P_DELIVERY_FLOOD"

#: Seconds until a node listens, on a busy machine.
_START = 60.0


def end_with_parent() -> None:
    """Have the system kill this process when the one that has started it ends."""
    set_parent_death_signal = 1  # as in linux/prctl.h
    parent = os.getppid()
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the test is gone")


class Program:
    """The requests, one method each; the names of their arguments are the keys of ``args``."""

    def __init__(self, record: str) -> None:
        #: Lines are appended whole, and survive the process.
        self.record = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.arguments: queue.Queue[list[str]] = queue.Queue()
        self.started: queue.Queue[Any] = queue.Queue()
        self.service: Any = None
        self._traffic: Any = None
        self._sent = 0

    def note(self, sender: str, number: int, sent: float, now: float) -> None:
        """Record one delivery."""
        os.write(self.record, f"{sender} {number} {sent!r} {now!r}\n".encode())

    def run(self, arguments: list[str]) -> dict[str, Any]:
        """Be a node with these options; answered when it listens."""
        self.arguments.put(arguments)
        self.service = self.started.get(timeout=_START)
        return {"id": encode(self.service.id), "port": self.service.address[1]}

    def ready(self) -> None:
        """Nothing: once it is answered, all is imported."""

    def wall(self) -> float:
        """What this process takes the time to be."""
        return time.time()

    def monotonic(self) -> float:
        """The clock that all processes are to share."""
        return time.monotonic()

    def _in_reactor(self, call: Any, *arguments: Any) -> Any:
        from twisted.internet import reactor, threads

        return threads.blockingCallFromThread(reactor, call, *arguments)

    def peers(self) -> list[Any]:
        """The ids in the routing table."""
        return [encode(ident) for ident in list(self.service.routing_table)]

    def status(self) -> dict[str, Any]:
        """What the node says about itself, texts and numbers."""
        return {
            name: value if isinstance(value, (int, float, dict, list)) else str(value)
            for name, value in self._in_reactor(lambda: self.service.status).items()
        }

    def waiting(self, peer: bytes) -> int:
        """Bytes that wait in this process for a neighbour; 0 when it is none."""

        def look() -> int:
            link = self.service.routing_table.get(peer)
            if link is None:
                return 0
            transport = link.owner.transport
            # What Twisted's transport holds itself, which has no public name.
            held = len(getattr(transport, "dataBuffer", b"")) + sum(
                map(len, getattr(transport, "_tempDataBuffer", ()))
            )
            return int(link.owner.outbox.size) + held

        return int(self._in_reactor(look))

    def traffic(self, name: str, rate: float, size: int = 100) -> None:
        """
        From now on broadcast numbered messages at a fixed rate.

        :param name: what the record calls this sender.
        :param size: bytes of each that cannot be compressed.
        """
        self._in_reactor(self._begin, name, rate, size)

    def _begin(self, name: str, rate: float, size: int) -> None:
        from twisted.internet import reactor
        from twisted.internet.task import LoopingCall

        def send(count: int) -> None:
            for _ in range(count):
                now = time.monotonic()
                self.service.send(TAG, name, self._sent, now, os.urandom(size))
                self.note(name, self._sent, now, now)
                self._sent += 1

        self._traffic = LoopingCall.withCount(send)
        self._traffic.clock = reactor
        self._traffic.start(1 / rate)

    def quiet(self) -> int:
        """
        End `traffic`, if there is any.

        :return: how many messages have been sent, ever.
        """
        self._in_reactor(self._end)
        return self._sent

    def _end(self) -> None:
        if self._traffic is not None:
            self._traffic.stop()
            self._traffic = None

    def send(self, name: str, count: int) -> int:
        """
        Broadcast so many numbered messages at once.

        :return: how many have been sent, ever.
        """

        def send_all() -> None:
            for _ in range(count):
                now = time.monotonic()
                self.service.send(TAG, name, self._sent, now)
                self.note(name, self._sent, now, now)
                self._sent += 1

        self._in_reactor(send_all)
        return self._sent


def recording(program: Program) -> None:
    """Have the plugin make services that record."""
    from py2p_twisted.core.connection import Connection
    from py2p_twisted.core.message import Message
    from py2p_twisted.daemon import start

    class Recording(start.NodeService):
        """A node that writes down what it delivers: sender, number, when sent, when delivered."""

        def __init__(self, reactor: Any, configuration: Any) -> None:
            tools = {"extensions": False} if FLOOD in os.environ else {}
            super().__init__(reactor, configuration, **tools)

        def message_received(self, message: Message, link: Connection) -> None:
            """Write it down, and do what every node does."""
            payload = message.payload
            if len(payload) > 4 and payload[1] == TAG:
                program.note(*payload[2:5], time.monotonic())
            super().message_received(message, link)

        def startService(self) -> None:
            """Tell the test when it listens."""
            first = not self.running
            super().startService()
            if first:
                self.start().addCallback(program.started.put)

    start.NodeService = Recording  # type: ignore[misc]


def main(record: str) -> None:
    """Wait to be told the options, and be a node."""
    end_with_parent()
    program = Program(record)
    recording(program)

    from twisted.application.twist._twist import Twist

    threading.Thread(target=_serve, args=(program,), daemon=True).start()
    Twist.main(["twist", "--log-format=json", "py2p", *program.arguments.get()])


def _serve(program: Program) -> None:
    serve(program)
    # Nobody is there any more to ask for anything.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
