"""
The demo's nodes as processes of their own: real ``twist py2p``, some of them killed with -9.

::

    ProcessNode --starts--> twist py2p --exec=...    one for each node
                <--JSON---  its log, on its standard output
    guest ------sends-----> one of them              a short-lived member, in our process

What a node does is known from its log alone, as an operator knows it. A message is known by
what the node's ``--exec`` program prints, so its latency includes that program's start.

No process outlives the demo: those that are left are killed when it ends, by whatever, and
if it is itself killed with -9 a `Guard` does that.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import subprocess
import sys
import uuid
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredSemaphore, succeed
from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger, formatEvent
from twisted.python.failure import Failure

import py2p_twisted
from py2p_twisted.cli.scenario import Times
from py2p_twisted.core.network import PLAINTEXT, SSL, Network
from py2p_twisted.net import MeshService, plainjson

_log = Logger(namespace="py2p_twisted.demo")

LOOPBACK: Final = "127.0.0.1"

#: Processes that start at the same time: a start is half a second's work for one core.
AT_ONCE: Final = 2 * (os.cpu_count() or 1)
#: Seconds after which a process that was told to end is killed.
GRACE: Final = 5.0
#: Seconds for the guard to end when its work is done.
GUARD_GRACE: Final = 5.0

#: Bytes of standard error that are kept, and of a log line that does not end.
_ERRORS_KEPT: Final = 4096
_LONGEST_LINE: Final = 2**20
#: Log lines of a node that are passed on, because something is wrong there.
_MOST_COMPLAINTS: Final = 3

#: What stands in front of a JSON record. Source: RFC 7464.
_RECORD: Final = "\x1e"

#: Prints the neighbour's id, the type and the packets, on one line.
_SHELL: Final = ("sh", "-c", 'read -r line; printf "%s %s %s\\n" "$PY2P_VIA" "$PY2P_TYPE" "$line"')
_PYTHON: Final = (
    sys.executable,
    *("-S", "-E", "-c"),
    "import os; print(os.environ['PY2P_VIA'], os.environ['PY2P_TYPE'], input())",
)

#: Levels that matter to the demo, of what a node logs about its programs and about the rest.
_TROUBLE: Final = ("error", "critical")
_PROGRAM_TROUBLE: Final = ("warn", *_TROUBLE)


class ProcessFailed(Exception):
    """A process has ended that should not have; the text says how."""


def times_for(nodes: int) -> Times:
    """Limits for so many processes: each of them is to have time also on a slow machine."""
    return Times(
        start=30.0 + 3.0 * nodes,
        join=30.0 + nodes,
        mesh=60.0,
        spread=30.0 + nodes,
        leave=GRACE + 5.0,
        settled=0.5,
        quiet=0.3,
        unwatched=1.0,
    )


class Processes:
    """
    All processes of a demo.

    ``close`` must be called in any case.

    :ivar network: the network that the nodes make up; its name is of this demo alone.
    :ivar turns: who holds one may start.
    :ivar guard: is told of every process.
    :ivar on_lost: called with a node that has ended unasked, and how.
    """

    def __init__(self, *, tls: bool, guard: Guard | None = None) -> None:
        self.network = Network(f"demo-{secrets.token_hex(4)}", SSL if tls else PLAINTEXT)
        self.turns = DeferredSemaphore(AT_ONCE)
        self.guard = guard or Guard(f"--network={self.network.name}")
        self.on_lost: Callable[[ProcessNode, str], None] = lambda node, how: None
        self._nodes: list[ProcessNode] = []

    def make_node(self, reactor: Any, web: str | None = None) -> ProcessNode:
        """One more node. All others join through the first one."""
        node = ProcessNode(reactor, self, self._nodes[0] if self._nodes else None, web)
        self._nodes.append(node)
        return node

    def close(self) -> None:
        """Kill whoever is left, whether the reactor still runs or not."""
        for node in self._nodes:
            node.kill()
        self.guard.close()


class ProcessNode:
    """
    A node in a process of its own; see `scenario.Participant`.

    :ivar page: where its status page is, once started; empty without one.
    """

    def __init__(
        self,
        reactor: Any,
        processes: Processes,
        first: ProcessNode | None,
        web: str | None = None,
    ) -> None:
        """
        :param reactor: provides ``IReactorProcess``, ``IReactorTime`` and TCP.
        :param first: the node to join through; without one this is the first.
        :param web: what goes behind ``--web=``, if it shows its status page.
        """
        self.page = ""
        self._web = web
        self.on_message: Callable[[tuple[Any, ...], bytes], None] = lambda packets, via: None
        self._reactor = reactor
        self._processes = processes
        self._first = first
        self._id = b""
        self._address = ("", 0)
        self._table: set[bytes] = set()
        self._frames = self._copies = 0
        #: Sends for this node.
        self._guest: MeshService | None = None
        #: Ids that are no nodes of the demo; and those whose message has not come yet.
        self._guests: set[bytes] = set()
        self._unheard: set[bytes] = set()

        self._transport: Any = None
        self._number = 0
        self._told_to_end = False
        self._over: ProcessFailed | None = None
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []
        self._ends: list[Deferred[None]] = []
        self._output = b""
        self._errors = b""
        self._complaints = 0

    # --- what the demo asks for ---------------------------------------------------------

    @property
    def id(self) -> bytes:
        """Its id, once started."""
        return self._id

    @property
    def address(self) -> tuple[str, int]:
        """Where it can be dialled, once started."""
        return self._address

    def start(self) -> Deferred[Any]:
        """
        Start the process, as soon as there is a node to join through and a core to run on.

        :return: fires when it listens; fails with `ProcessFailed` if it ends instead, or
            with ``OSError`` if there cannot be one more process.
        """
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        if self._first is not None:
            await self._first.listens()
        turns = self._processes.turns
        await turns.acquire()
        try:
            if self._told_to_end:
                raise ProcessFailed("was told to end before it was started")
            self._spawn()
            await self.listens()
        finally:
            turns.release()

    def listens(self) -> Deferred[None]:
        """A Deferred that fires when it has an address, and its page if it is to have one."""
        return self._when(lambda: bool(self._id) and bool(self.page or not self._web))

    def join(self, address: tuple[str, int]) -> Deferred[Any]:
        """Wait until it has joined: it was told through whom when it was started."""
        return self._when(lambda: bool(self._table))

    def peers(self) -> Collection[bytes]:
        """The ids in its routing table, as its log tells."""
        return self._table - self._guests

    def traffic(self) -> tuple[int, int]:
        """Frames that have come in on its links, and how many of them it had already."""
        return self._frames, self._copies

    def prepare(self) -> Deferred[Any]:
        """Have somebody join this node alone, who is going to send for it."""
        return Deferred.fromCoroutine(self._prepare())

    async def _prepare(self) -> None:
        network = self._processes.network
        # Two guests of one process would have the same id.
        guest = MeshService(
            self._reactor, network, listen=(), max_outgoing=0, salt=str(uuid.uuid4())
        )
        self._guest = guest
        await guest.start()
        self._guests.add(guest.id)
        await guest.connect(*self._address)
        # The node's side of the link takes a moment more.
        await self._when(lambda: guest.id in self._table)

    def send(self, *packets: Any) -> Deferred[Any]:
        """
        Broadcast through this node, once `prepare` is done.

        :return: fires when whoever has sent it for the node has left again.
        """
        return Deferred.fromCoroutine(self._send(packets))

    async def _send(self, packets: tuple[Any, ...]) -> None:
        guest, self._guest = self._guest, None
        if guest is None:
            raise ProcessFailed("is not prepared to send")
        self._unheard.add(guest.id)
        try:
            await guest.send(*packets)
        finally:
            await guest.stopService()

    def drop(self) -> Deferred[Any]:
        """Kill it: no signal handler runs, nobody is told."""
        self.kill()
        return self._end()

    def leave(self) -> Deferred[Any]:
        """Tell it to end, and kill it if that takes too long."""
        self._told_to_end = True
        self._signal("TERM")
        ended = self._end()
        if ended.called:
            return ended
        kill = self._reactor.callLater(GRACE, self._signal, "KILL")

        def cancel(_: None) -> None:
            if kill.active():
                kill.cancel()

        return ended.addCallback(cancel)

    def kill(self) -> None:
        """Kill it, and wait for nothing."""
        self._told_to_end = True
        self._signal("KILL")

    def _end(self) -> Deferred[None]:
        guest, self._guest = self._guest, None
        if guest is not None:
            guest.stopService()
        if self._transport is None or self._over is not None:
            return succeed(None)
        ended: Deferred[None] = Deferred()
        self._ends.append(ended)
        return ended

    def _signal(self, name: str) -> None:
        if self._transport is not None:
            with suppress(ProcessExitedAlready, OSError):
                self._transport.signalProcess(name)

    # --- the process --------------------------------------------------------------------

    def _spawn(self) -> None:
        command = self._command()
        # Before, so that there is no moment in which nobody would kill it.
        self._processes.guard.start()
        self._transport = self._reactor.spawnProcess(
            _Watcher(self), command[0], command, env=_environment()
        )
        self._number = self._transport.pid
        self._processes.guard.watch(self._number)
        self._transport.closeStdin()

    def _command(self) -> list[str]:
        network = self._processes.network
        return [
            sys.executable,
            # Not from the current folder, where anything may lie about.
            *("-P", "-m", "twisted", "--log-format=json", "py2p"),
            f"--listen=tcp:0:interface={LOOPBACK}",
            f"--network={network.name}",
            "--control=none",
            *(["--join={}:{}".format(*self._first.address)] if self._first is not None else []),
            *(["--tls"] if network.encryption == SSL else []),
            *([f"--web={self._web}"] if self._web else []),
            f"--exec={shlex.join(_SHELL if os.name == 'posix' else _PYTHON)}",
            # What is shown stands in the log in the order in which it was shown.
            "--exec-parallel=1",
            # From this level on, copies are told.
            "--debug-level=3",
        ]

    def exited(self) -> None:
        """The process is gone, and its number may be another one's soon."""
        self._processes.guard.forget(self._number)

    def ended(self, reason: Failure) -> None:
        """The process is gone, and all that it has written is read."""
        why = f"twist py2p {_how(reason)}"
        lines = self._errors.decode("utf-8", "backslashreplace").strip().splitlines()
        if lines:
            why += f": {lines[-1]}"
        self._over = ProcessFailed(why)
        waiting, self._waiting = self._waiting, []
        for _, done in waiting:
            done.errback(self._over)
        ends, self._ends = self._ends, []
        for ended in ends:
            ended.callback(None)
        if not self._told_to_end and not waiting:
            self._processes.on_lost(self, f"is gone: {why}")

    def failed(self, data: bytes) -> None:
        """It has written to standard error."""
        self._errors = (self._errors + data)[-_ERRORS_KEPT:]

    # --- its log ------------------------------------------------------------------------

    def read(self, data: bytes) -> None:
        """It has written to its log."""
        *lines, rest = (self._output + data).split(b"\n")
        self._output = rest if len(rest) <= _LONGEST_LINE else b""
        for line in lines:
            event = _event(line)
            if event is not None:
                self._happened(event)
        for item in list(self._waiting):
            condition, done = item
            if condition():
                self._waiting.remove(item)
                done.callback(None)

    def _happened(self, event: dict[str, Any]) -> None:
        peer = str(event.get("peer", ""))
        match event.get("event"):
            case "listening":
                host, _, port = str(event["address"]).rpartition(":")
                self._address = (host, int(port))
                self._id = str(event["node"]).encode("ascii")
            case "status page":
                self.page = str(event["url"]) + _fragment(str(event["token"]))
            case "peer up":
                self._table.add(peer.encode("ascii"))
            case "peer down":
                self._table.discard(peer.encode("ascii"))
            case "alone":
                self._table.clear()
            case "exec" if "line" in event and _level(event) == "info":
                self._shown(str(event["line"]))
            case _:
                self._read_along(event)

    def _shown(self, line: str) -> None:
        """The program has been given a message."""
        try:
            via, kind, packets = line.split(" ", 2)
            brought = via.encode("ascii")
            message = (json.loads(kind), *plainjson.loads(packets))
        except ValueError:
            return  # nothing that our nodes have sent
        if brought in self._unheard:
            # What a guest sends for this node is its own, and nobody hears itself. Once.
            self._unheard.discard(brought)
        else:
            self.on_message(message, brought)

    def _read_along(self, event: dict[str, Any]) -> None:
        """Count frames; pass on what is not as it should be."""
        namespace = event.get("log_namespace")
        text = str(event.get("text", ""))
        if namespace == "py2p_twisted.debug":
            self._frames += text.startswith(("message received", "not relaying again"))
            self._copies += text.startswith("not relaying again")
            return
        trouble = _PROGRAM_TROUBLE if namespace == "py2p_twisted.exec" else _TROUBLE
        if _level(event) in trouble and self._complaints < _MOST_COMPLAINTS:
            self._complaints += 1
            where = "{}:{}".format(*self._address)
            _log.error("the process at {where} says: {said}", where=where, said=formatEvent(event))

    def _when(self, condition: Callable[[], bool]) -> Deferred[None]:
        """A Deferred that fires when the log has told so; fails when the process ends."""
        done: Deferred[None] = Deferred()
        if condition():
            done.callback(None)
        elif self._over is not None:
            done.errback(self._over)
        else:
            self._waiting.append((condition, done))
        return done


class _Watcher(ProcessProtocol):
    """Twisted's side of a process."""

    def __init__(self, node: ProcessNode) -> None:
        self._node = node

    def outReceived(self, data: bytes) -> None:  # noqa: N802
        self._node.read(data)

    def errReceived(self, data: bytes) -> None:  # noqa: N802
        self._node.failed(data)

    def processExited(self, reason: Failure) -> None:  # noqa: N802
        self._node.exited()

    def processEnded(self, reason: Failure) -> None:  # noqa: N802
        self._node.ended(reason)


def _event(line: bytes) -> dict[str, Any] | None:
    """A log event, unless the line is something else that was printed."""
    try:
        event = json.loads(line.decode("utf-8").removeprefix(_RECORD))
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None


def _level(event: dict[str, Any]) -> str:
    """The name of a log event's level."""
    level = event.get("log_level")
    return str(level.get("name", "")) if isinstance(level, dict) else ""


def _fragment(told: str) -> str:
    """What a link needs at its end so that its page may send; empty if it may not."""
    try:
        return "#token=" + Path(told.removeprefix("token in ")).read_text("ascii").strip()
    except (OSError, ValueError):
        return ""


def _how(reason: Failure) -> str:
    """How a process has ended, as the end of a sentence."""
    error = reason.value
    if isinstance(error, ProcessTerminated) and error.signal is not None:
        return f"was ended by signal {error.signal}"
    return f"ended with exit status {getattr(error, 'exitCode', None) or 0}"


def _environment() -> dict[str, str]:
    """Ours; and if it was from the current folder that we were imported, with that folder."""
    environment = dict(os.environ)
    home = str(Path(py2p_twisted.__file__).parents[1])
    if sys.path and sys.path[0] == home:
        search = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = home + (os.pathsep + search if search else "")
    return environment


# --- when we are killed ourselves -----------------------------------------------------------

#: Reads numbers of processes, and kills those that are left when nothing more is to be read.
#: If it has not been told that this is the end, it looks for those that it was not told of
#: in time: by the mark that is on their command lines, where the system shows these.
_GUARD: Final = """
import os, sys, time
left, told = set(), False
for line in sys.stdin:
    if line[0] == ".":
        told = True
    else:
        (left.add if line[0] == "+" else left.discard)(int(line[1:]))
def kill(number):
    try:
        os.kill(number, 9)
    except OSError:
        pass
for number in left:
    kill(number)
for _ in range(0 if told or not mark or not os.path.isdir("/proc") else 5):
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                marked = mark.encode() in file.read()
        except OSError:
            continue
        if marked and int(name) != os.getpid():
            kill(int(name))
    time.sleep(0.2)
"""


class Guard:
    """
    A small process that kills others when this one is no more, however that came about.

    Ctrl-C is not for it: it is in a session of its own.
    """

    def __init__(self, mark: str = "") -> None:
        """
        :param mark: what stands on the command lines of all it is to watch, and on no other.
        """
        self._mark = mark
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, if that has not been done."""
        if self._process is None:
            self._process = subprocess.Popen(  # noqa: S603 - it is a constant
                [sys.executable, "-S", "-E", "-c", f"mark = {self._mark!r}{_GUARD}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )

    def watch(self, number: int) -> None:
        """There is one more process."""
        self._tell(f"+{number}\n")

    def forget(self, number: int) -> None:
        """A process is gone, and its number free."""
        self._tell(f"-{number}\n")

    def close(self) -> None:
        """Have those killed that are left."""
        process, self._process = self._process, None
        if process is None or process.stdin is None:
            return
        with suppress(OSError):
            process.stdin.write(b".\n")
        with suppress(OSError):
            process.stdin.close()
        try:
            process.wait(GUARD_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _tell(self, line: str) -> None:
        # Somebody may have killed it: then there is none.
        with suppress(OSError, ValueError):
            if self._process is not None and self._process.stdin is not None:
                self._process.stdin.write(line.encode("ascii"))
