"""
One node in a process of its own, driven from a test.

The same script drives the original and ours. All that it asks of a node it asks through the
documented names, so each test that passes with both shows, besides what it tests, that ``py2p``
can be replaced by ``py2p_twisted``::

    the test                               the process
    Node("py2p", interpreter)  --starts->  python driver.py py2p
        .start(...)            --stdin-->  {"op": "start", "args": {...}}
                               <-stdout--  {"value": {...}} or {"error": ["ValueError", "..."]}

One JSON object a line, one answer for each request, in order. What JSON cannot say is tagged, see
:func:`encode`.

The file holds both ends. The upper half (what runs in the process) must work with nothing but the
standard library and whatever package it is told to drive: the original's interpreter has neither
Twisted nor this project.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import importlib
import json
import os
import queue
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

#: Everything listens here and dials here; no test leaves the machine.
HOST = "127.0.0.1"

MIB = 1024 * 1024

ORIGINAL = "py2p"
OURS = "py2p_twisted"


# --- Values as JSON --------------------------------------------------------------


def encode(value: Any) -> Any:
    """
    Put a value into what JSON can hold, keeping its exact type.

    ``None``, ``bool``, ``int``, ``str`` and lists stand for themselves. The rest becomes an
    object with one key that names the type. Floats are written in hexadecimal, so that nan equals
    nan and -0.0 differs from 0.0 when two encoded values are compared. Types nobody expects keep
    their ``repr``, for the message of the failing test.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return {"float": value.hex()}
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, list):
        return [encode(item) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [encode(item) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[encode(key), encode(item)] for key, item in value.items()]}
    return {"other": repr(value)}


def decode(value: Any) -> Any:
    """The value that :func:`encode` was given."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "float":
        return float.fromhex(content)
    if kind == "bytes":
        return base64.b64decode(content)
    if kind == "tuple":
        return tuple(decode(item) for item in content)
    if kind == "dict":
        return {decode(key): decode(item) for key, item in content}
    return content


# --- In the process --------------------------------------------------------------


def _free_port() -> int:
    """
    A port that nobody uses at this moment.

    The node cannot choose one itself: the original announces the number it was given, so 0 would
    be useless to its peers.
    """
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class Driver:
    """
    The requests, one method each; the names of their arguments are the keys of ``args``.

    Messages that were taken from the socket stay in ``taken`` for ever, so a test can ask for all
    that ever arrived, and see what came twice.
    """

    def __init__(self, package: str) -> None:
        self.package = package
        self.base: Any = importlib.import_module(package + ".base")
        self.mesh: Any = importlib.import_module(package + ".mesh")
        self.sock: Any = None
        self.taken: list[Any] = []
        self.connects = 0

    def start(
        self,
        subnet: str = "mesh",
        encryption: str = "Plaintext",
        codecs: list[int] | None = None,
        max_outgoing: int | None = None,
    ) -> dict[str, Any]:
        """
        Make the socket, on a free port.

        :param codecs: the only compression methods it knows (the original alone; it keeps them in
            a global).
        :param max_outgoing: how many learned peers it may dial; 0 makes a network keep the shape
            it was given.
        """
        options: dict[str, Any] = {}
        if self.package == ORIGINAL:
            # Two names for one list, and no argument for either setting: so it is changed in
            # place.
            if codecs is not None:
                self.base.compression[:] = codecs
            if max_outgoing is not None:
                self.mesh.max_outgoing = max_outgoing
        elif codecs is not None:
            raise ValueError("only the original's compression methods can be chosen here")
        elif max_outgoing is not None:
            options["max_outgoing"] = max_outgoing

        protocol = self.base.Protocol(subnet, encryption)
        for attempt in range(20):
            # Between finding a port and using it another process may have taken it.
            try:
                self.sock = self.mesh.MeshSocket(HOST, _free_port(), prot=protocol, **options)
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE or attempt == 19:
                    raise
        self.sock.on("connect", self._count_connect)
        return {"id": encode(self.sock.id), "port": self.sock.out_addr[1]}

    def _count_connect(self, sock: Any) -> None:
        self.connects += 1

    def connect_events(self) -> int:
        """How often the event 'connect' fired."""
        return self.connects

    def connect(self, port: int, wait: float | None = None) -> None:
        """
        Dial a node.

        :param wait: seconds for the outcome to become known, where `connect` offers to wait for
            it.
        """
        connecting = self.sock.connect(HOST, port)
        if wait is not None:
            connecting.wait(wait)

    def send(self, packets: list[Any], flag: str = "broadcast", times: int = 1) -> None:
        """Send the same packets once, or more often as fast as it goes."""
        number = getattr(self.base.flags, flag)
        for _ in range(times):
            self.sock.send(*packets, flag=number)

    def burst(self, prefix: str, count: int) -> None:
        """Send many short messages as fast as it goes: the prefix and a number each."""
        for number in range(count):
            self.sock.send(f"{prefix}{number}")

    def _take(self) -> None:
        """Empty the socket's queue."""
        while batch := self.sock.recv(1000):
            self.taken += batch

    def count(self) -> int:
        """How many messages the application has got so far."""
        self._take()
        return len(self.taken)

    def received(self) -> list[Any]:
        """All messages that the application has got so far."""
        self._take()
        return [
            {
                "packets": encode(list(message.packets)),
                "sender": encode(message.sender),
                "id": encode(message.id),
            }
            for message in self.taken
        ]

    def reply(self, to: Any, answers: list[list[Any]]) -> None:
        """
        Reply to the last message whose first packet is ``to``, several times in a row if several
        answers are given.
        """
        self._take()
        message = next(message for message in reversed(self.taken) if message.packets[1] == to)
        for answer in answers:
            message.reply(*answer)

    def answer(self, to: Any, with_: list[Any], via: str) -> None:
        """
        Register a handler that answers a message, in one of the two ways that the documentation
        shows.

        :param via: "reply" to answer the sender, "relay" to answer the neighbour that passed the
            message on.
        """
        flags = self.base.flags

        def handler(message: Any, connection: Any) -> bool:
            if message.packets[1:2] != (to,):
                return False
            if via == "reply":
                message.reply(*with_)
            else:
                connection.send(flags.whisper, flags.whisper, *with_)
            return True

        self.sock.register_handler(handler)

    def answer_event(self, with_: list[Any]) -> None:
        """
        Listen for the event 'message' and reply to whatever comes, as the documentation shows.
        """

        def listener(sock: Any) -> None:
            message = sock.recv()
            if message is not None:
                self.taken.append(message)
                message.reply(*with_)

        self.sock.on("message", listener)

    def peers(self) -> list[Any]:
        """The ids in the routing table."""
        return [encode(peer) for peer in list(self.sock.routing_table)]

    def awaiting(self) -> int:
        """How many connections have not finished their handshake."""
        return len(self.sock.awaiting_ids)

    def codecs(self) -> list[list[int]]:
        """
        For each peer of the original: the compression methods it may choose from when it sends
        there, best first.
        """
        return [
            [method for method in self.base.compression if method in connection.compression]
            for connection in list(self.sock.routing_table.values())
        ]

    def status(self) -> str:
        """What the socket says about itself, as text."""
        return str(self.sock.status)

    def close(self) -> None:
        """Leave the network properly."""
        self.sock.close()


def serve(target: object) -> None:
    """
    Call the methods of an object as standard input asks, until it asks for nothing more. What an
    operation raises is an answer too.

    Answers go to the real standard output; what anything prints goes to standard error.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        request = json.loads(line)
        arguments = {name: decode(value) for name, value in request["args"].items()}
        answer: dict[str, Any]
        try:
            answer = {"value": getattr(target, request["op"])(**arguments)}
        except Exception as error:
            answer = {"error": [type(error).__name__, str(error)]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


# --- In the test -----------------------------------------------------------------


class RemoteFailure(Exception):
    """What an operation raised in the process: ``kind`` is the name of the class."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


class NodeLost(Exception):
    """The process ended, or did not answer in time; the text ends with what it printed last."""


class Remote:
    """
    A process that does what it is asked to, see :func:`serve`.

    It starts at once, so that several can get up side by side.
    """

    def __init__(
        self, command: Sequence[str], environment: dict[str, str], cwd: Path | None = None
    ) -> None:
        # A file, not a pipe: nobody has to empty it while the process runs. It goes with this
        # object, because a test may want to read it when the process is long dead.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=cwd,
            env=environment,
            text=True,
        )
        self._answers: queue.Queue[str | None] = queue.Queue()
        # Reading in a thread of its own is the portable way to wait for a line with a deadline.
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put(None)

    def ask(self, op: str, timeout: float = 30.0, **arguments: Any) -> Any:
        """
        Let the process carry out one operation.

        :raises RemoteFailure: the operation raised.
        :raises NodeLost: no answer.
        """
        self.tell(op, **arguments)
        return self.hear(op, timeout)

    def tell(self, op: str, **arguments: Any) -> None:
        """Ask, and leave it to `hear` to wait for the answer."""
        request = {"op": op, "args": {name: encode(value) for name, value in arguments.items()}}
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except (OSError, ValueError) as error:
            raise NodeLost(
                f"{self} cannot be asked to {op}: {error!r}\n{self.printed()}"
            ) from error

    def hear(self, op: str, timeout: float = 30.0) -> Any:
        """The answer to the oldest question that is open."""
        try:
            line = self._answers.get(timeout=timeout)
        except queue.Empty as error:
            raise NodeLost(f"{self} did not answer to {op}\n{self.printed()}") from error
        if line is None:
            raise NodeLost(f"{self} ended during {op}\n{self.printed()}")
        answer = json.loads(line)
        if "error" in answer:
            raise RemoteFailure(*answer["error"])
        return answer["value"]

    def printed(self) -> str:
        """The end of what the process wrote to standard output and standard error."""
        # Read by position: the process writes through the same open file, and a seek here would
        # move its pen as well.
        number = self._errors.fileno()
        size = os.fstat(number).st_size
        return os.pread(number, 20_000, max(0, size - 20_000)).decode(errors="replace")

    def kill(self) -> None:
        """End the process at once, as a crash or ``kill -9`` would; may be repeated."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


class Node(Remote):
    """
    A node in a process of its own; :meth:`start` waits until it is up.

    :param package: which of the two to drive, ORIGINAL or OURS.
    :param environment: the process's environment variables.
    """

    def __init__(self, package: str, python: Path, environment: dict[str, str]) -> None:
        self.package = package
        self.id = b""
        self.port = 0
        # -P keeps this folder off the path of a program that is to see nothing but an installed
        # package.
        super().__init__([str(python), "-P", str(Path(__file__).resolve()), package], environment)

    def __repr__(self) -> str:
        return f"<{self.package} node on port {self.port}>"

    def start(self, **options: Any) -> None:
        """Make the socket; takes what :meth:`Driver.start` takes."""
        started = self.ask("start", timeout=60.0, **options)
        self.id, self.port = decode(started["id"]), started["port"]

    def connect(self, other: Node, wait: float | None = None) -> None:
        """Dial another node."""
        for attempt in range(3):
            try:
                self.ask("connect", port=other.port, wait=wait)
                break
            except RemoteFailure as failure:
                # The original allows a dial one second, TLS included, which a busy machine may
                # need.
                if (
                    self.package != ORIGINAL
                    or failure.kind not in ("TimeoutError", "timeout")
                    or attempt == 2
                ):
                    raise

    def send(self, *packets: Any, flag: str = "broadcast", times: int = 1) -> None:
        """Send packets to everybody, or, as a whisper, to the neighbours."""
        self.ask("send", packets=list(packets), flag=flag, times=times)

    def messages(self) -> list[list[Any]]:
        """The packets of everything received so far, first the sub-flag of each."""
        return [decode(message["packets"]) for message in self.ask("received")]

    def senders(self) -> list[Any]:
        """Who sent what was received so far, in the same order."""
        return [decode(message["sender"]) for message in self.ask("received")]

    def peers(self) -> set[bytes]:
        """The ids in the routing table."""
        return {decode(peer) for peer in self.ask("peers")}

    def finish(self, timeout: float) -> int:
        """
        Ask for nothing more, and wait for the program to end by itself.

        :return: its exit status.
        :raises subprocess.TimeoutExpired: it did not.
        """
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(timeout)


def moments(timeout: float, interval: float = 0.05) -> Iterator[float]:
    """
    Yield, again and again, the seconds that are left, with a pause in between.

    The last one is after the deadline, so whatever is polled gets its chance even when one look
    takes long.
    """
    deadline = time.monotonic() + timeout
    while (left := deadline - time.monotonic()) > 0:
        yield left
        time.sleep(interval)
    yield 0.0


if __name__ == "__main__":
    serve(Driver(sys.argv[1]))
