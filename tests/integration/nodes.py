"""
Our nodes in processes of their own, for tests of what goes wrong.

A process holds any number of sockets, and works for a test: it sends from many threads, answers,
counts, measures. The test sees what the process costs from outside, as the system accounts for
it, and may stop or kill it::

    the test                          the process
    Process()            --starts->   python -m tests.integration.nodes
        .ask("open")     --stdin-->   {"op": "open", "args": {...}}
                         <-stdout--   {"value": {...}} or {"error": ["ValueError", "..."]}

`driver` does the same with one socket, for the original as well, and nothing but the documented
names. Here faults are injected too, and for that the program reaches below them in one place,
:meth:`Program.cut`.

Times are in seconds, sizes in bytes. Times that two processes compare come from ``time.monotonic``,
which is one clock for the whole system on Linux.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.integration.driver import HOST, OURS, Remote, decode, encode, moments, serve
from tests.integration.reference import PROJECT

_MODULE = "tests.integration.nodes"

#: Seconds that anything may take before a test fails. Nearly everything takes a tenth of one; the
#: rest is for busy machines.
PATIENCE = 20.0


# --- In the process --------------------------------------------------------------


def percentile(values: list[float], share: float) -> float:
    """The value that this share of all values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Program:
    """The requests, one method each; the names of their arguments are the keys of ``args``."""

    def __init__(self) -> None:
        from py2p_twisted import base, mesh

        self.base: Any = base
        self.mesh: Any = mesh
        self.socks: dict[str, Any] = {}
        #: What `gather` has read so far, by socket: (packets, when it was read).
        self.taken: dict[str, list[tuple[tuple[Any, ...], float]]] = {}
        self.connects: Counter[str] = Counter()
        #: Messages that `answer` was not asked by.
        self.others = 0
        self._logged: Counter[str] = Counter()
        globalLogPublisher.addObserver(self._note)
        self._tasks: dict[str, tuple[threading.Thread, list[Any]]] = {}
        self._stopping = threading.Event()
        self._pongs: dict[int, list[float]] = {}

    # Life

    def open(
        self,
        name: str = "node",
        port: int = 0,
        encryption: str = "Plaintext",
        **options: Any,
    ) -> dict[str, Any]:
        """Make a socket; port 0 takes a free one."""
        prot = self.base.Protocol("mesh", encryption)
        sock = self.mesh.mesh_socket(HOST, port, prot=prot, **options)
        sock.on("connect", lambda _: self.connects.update([name]))
        self.socks[name] = sock
        return {"id": encode(sock.id), "port": sock.out_addr[1]}

    def connect(self, port: int, name: str = "node", wait: float | None = 15.0) -> None:
        """Dial a node."""
        connecting = self.socks[name].connect(HOST, port)
        if wait is not None:
            connecting.wait(wait)

    def connect_at(self, when: float, ports: dict[str, int], word: int) -> None:
        """
        Dial a node from each of these sockets, at a moment that is agreed on, and send a word to
        whoever answers.
        """
        time.sleep(max(0.0, when - time.monotonic() - 0.01))
        while time.monotonic() < when:
            pass
        for name, port in ports.items():
            self.socks[name].connect(HOST, port)
            self.socks[name].send("word", word)

    def ports(self) -> dict[str, int]:
        """The port of each socket."""
        return {name: sock.out_addr[1] for name, sock in self.socks.items()}

    def close(self, name: str = "node") -> None:
        """Leave the network properly."""
        self.socks.pop(name).close()

    # Looking

    def members(self, name: str = "node") -> list[Any]:
        """The ids of those who answer a survey, its asker among them."""
        survey = self.socks[name].survey(5.0).wait(PATIENCE)
        return [encode(member.id) for member in survey.members]

    def table(self, name: str = "node") -> list[Any]:
        """The ids in the routing table."""
        return [encode(ident) for ident in list(self.socks[name].routing_table)]

    def tables(self) -> dict[str, list[Any]]:
        """The ids in the routing table of each socket, and whether that socket has dialled them."""
        return {
            name: [[encode(ident), peer.outgoing] for ident, peer in sock.routing_table.items()]
            for name, sock in self.socks.items()
        }

    def status(self, name: str = "node") -> dict[str, Any]:
        """The socket's status."""
        return json.loads(json.dumps(dict(self.socks[name].status)))  # type: ignore[no-any-return]

    def logged(self) -> dict[str, int]:
        """How many lines of the log name a reason, by that."""
        return dict(self._logged)

    def _note(self, event: dict[str, Any]) -> None:
        if "reason" in event:
            self._logged[event["reason"]] += 1

    def connect_events(self, name: str = "node") -> int:
        """How often the event 'connect' fired."""
        return self.connects[name]

    def limit(self, extra: int) -> None:
        """From now on the process may ask the system for so much more address space, no more."""
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + extra
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

    # Messages

    def send(self, packets: list[Any], name: str = "node", flag: str = "broadcast") -> None:
        """Send one message."""
        self.socks[name].send(*packets, flag=getattr(self.base.flags, flag))

    def gather(self, name: str = "node") -> None:
        """From now on read whatever comes to a socket."""
        sock = self.socks[name]
        taken = self.taken[name] = []

        def read() -> None:
            for message in sock:
                taken.append((tuple(message.packets)[1:], time.monotonic()))

        threading.Thread(target=read, daemon=True).start()

    def count(self, name: str = "node") -> int:
        """How many messages `gather` has read."""
        return len(self.taken[name])

    def gathered(self, name: str = "node") -> list[Any]:
        """The packets of each message that `gather` has read, without the sub-flag."""
        return [encode(list(packets)) for packets, _ in list(self.taken[name])]

    def delays(self, first: int = 0, name: str = "node") -> list[float]:
        """How long each message that `gather` has read was under way; see `stamps`."""
        taken = self.taken[name][first:]
        return [when - float.fromhex(packets[0]) for packets, when in taken]

    def answer(self, name: str = "node") -> None:
        """Answer the pings of others, and take every other message without a word."""
        whisper = self.base.flags.whisper

        def handler(message: Any, connection: Any) -> bool:
            packets = message.packets
            if len(packets) == 3 and packets[1] == "ping":
                connection.send(whisper, whisper, "pong", packets[2])
            else:
                self.others += 1
            return True

        self.socks[name].register_handler(handler)

    def taken_from_others(self) -> int:
        """How many messages `answer` was given that were no pings."""
        return self.others

    def misbehave(self, how: str, seconds: float = 0.0, name: str = "node") -> None:
        """
        Register a handler that sleeps when it is told to, or raises the error it is told.
        """

        def handler(message: Any, connection: Any) -> bool:
            if message.packets[1:2] != (how,):
                return False
            if how == "raise":
                raise getattr(builtins, message.packets[2])("a mistake in a handler")
            time.sleep(seconds)
            return True

        self.socks[name].register_handler(handler)

    # Work that takes a while

    def begin(self, task: str, **arguments: Any) -> None:
        """Start one of the methods below in a thread of its own."""
        outcome: list[Any] = []

        def run() -> None:
            try:
                outcome.append({"value": getattr(self, task)(**arguments)})
            except Exception as error:
                outcome.append({"error": f"{type(error).__name__}: {error}"})

        thread = threading.Thread(target=run, daemon=True)
        self._stopping.clear()
        self._tasks[task] = (thread, outcome)
        thread.start()

    def stop(self) -> None:
        """Have the tasks that work until they are stopped end soon."""
        self._stopping.set()

    def outcome(self, task: str, wait: float) -> Any:
        """What a task has returned; waits for it."""
        thread, outcome = self._tasks[task]
        thread.join(wait)
        if not outcome:
            raise TimeoutError(f"{task} is not done after {wait:g} s")
        if "error" in outcome[0]:
            raise RuntimeError(outcome[0]["error"])
        return outcome[0]["value"]

    def pings(self, rate: float, seconds: float = 600.0, name: str = "node") -> dict[str, Any]:
        """
        Whisper to the neighbours at a fixed rate until told to stop, and see each acknowledged.

        The latency of a ping counts from the moment at which it was due, so a stall is not hidden
        by what was not sent meanwhile.
        """
        sock, pongs = self.socks[name], self._pongs
        if not pongs:
            sock.register_handler(self._pong)
        first = max(pongs, default=0) + 1
        due: dict[int, float] = {}
        start = time.monotonic()
        while not self._stopping.is_set() and time.monotonic() - start < seconds:
            when = start + len(due) / rate
            time.sleep(max(0.0, when - time.monotonic()))
            number = first + len(due)
            due[number] = when
            pongs[number] = []
            sock.send("ping", number, flag=self.base.flags.whisper)
        until = time.monotonic() + PATIENCE / 2
        while time.monotonic() < until and not all(pongs[number] for number in due):
            time.sleep(0.01)
        latencies = [pongs[number][0] - when for number, when in due.items() if pongs[number]]
        return {
            "sent": len(due),
            "lost": sum(not pongs[number] for number in due),
            "twice": sum(len(pongs[number]) > 1 for number in due),
            "p50": percentile(latencies, 0.5) if latencies else -1.0,
            "p99": percentile(latencies, 0.99) if latencies else -1.0,
            "worst": max(latencies, default=-1.0),
        }

    def _pong(self, message: Any, connection: Any) -> bool:
        packets = message.packets
        if len(packets) != 3 or packets[1] != "pong":
            return False
        self._pongs[packets[2]].append(time.monotonic())
        return True

    def stamps(self, rate: float, seconds: float, name: str = "node") -> int:
        """Broadcast the time at a fixed rate; whoever gathers finds out how long it took."""
        sock, start, sent = self.socks[name], time.monotonic(), 0
        while time.monotonic() - start < seconds:
            time.sleep(max(0.0, start + sent / rate - time.monotonic()))
            sock.send(time.monotonic().hex())
            sent += 1
        return sent

    def confirm(
        self, count: int, rate: float, timeout: float = 10.0, name: str = "node"
    ) -> list[dict[str, Any]]:
        """Broadcast at a fixed rate, each message with receipts, and wait for all of those."""
        sock, start, asked = self.socks[name], time.monotonic(), []
        for number in range(count):
            time.sleep(max(0.0, start + number / rate - time.monotonic()))
            asked.append(sock.send("confirm", number, confirm=True, timeout=timeout))
        receipts = [one.wait(timeout + PATIENCE) for one in asked]
        return [
            {
                "delivered": [encode(ident) for ident in receipt.delivered],
                "missing": [encode(ident) for ident in receipt.missing],
                "unknown": [encode(ident) for ident in receipt.unknown],
                "seconds": receipt.seconds,
                "complete": receipt.complete,
            }
            for receipt in receipts
        ]

    def storm(self, threads: int, count: int, names: list[str]) -> float:
        """
        Send from many threads at once, the sockets dealt out among them: the number of the
        thread, and that of the message.

        :return: how long it took.
        """
        ready = threading.Barrier(threads + 1)
        problems: list[BaseException] = []

        def work(number: int) -> None:
            sock = self.socks[names[number % len(names)]]
            ready.wait()
            try:
                for turn in range(count):
                    sock.send(number, turn)
            except BaseException as error:
                problems.append(error)

        workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        # Taken first: the others do not wait until this thread gets its turn.
        start = time.monotonic()
        ready.wait()
        for worker in workers:
            worker.join(PATIENCE * 3)
        if problems:
            raise problems[0]
        return time.monotonic() - start

    def push(
        self,
        size: int,
        count: int,
        short: int = 0,
        patience: float | None = None,
        name: str = "node",
    ) -> dict[str, Any]:
        """
        Broadcast large messages that cannot be compressed: a number and ``size`` bytes each.

        :param short: messages with a number alone that follow each of these.
        :param patience: the timeout of each.
        :return: how many were sent, how long the longest `send` has taken, and what ended it.
        """
        sock, longest, sent = self.socks[name], 0.0, 0
        for _ in range(count):
            for packets in ((os.urandom(size),), *[()] * short):
                before = time.monotonic()
                try:
                    sock.send(sent, *packets, timeout=patience)
                except Exception as error:
                    failure = f"{type(error).__name__}: {error}"
                    longest = max(longest, time.monotonic() - before)
                    return {"sent": sent, "longest": longest, "failure": failure}
                longest = max(longest, time.monotonic() - before)
                sent += 1
        return {"sent": sent, "longest": longest, "failure": ""}

    def pushed(self, name: str = "node") -> list[int]:
        """The numbers of the messages of `push` that `gather` has read, in order."""
        return [packets[0] for packets, _ in list(self.taken[name])]

    # Faults

    def cut(self, peer: bytes, name: str = "node") -> None:
        """Have the link to a peer break, without a word to either end's node."""
        from twisted.internet import reactor

        transport = self.socks[name].routing_table[peer]._link.owner.transport
        reactor.callFromThread(transport.abortConnection)  # type: ignore[attr-defined]


# --- In the test -----------------------------------------------------------------


def settings() -> dict[str, str]:
    """The environment of a process that finds this project, wherever it is started."""
    path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}


class Process(Remote):
    """
    A process with sockets of ours.

    :ivar id: the id of the socket that `open` has made last.
    :ivar port: its port.
    """

    def __init__(self) -> None:
        self.id = b""
        self.port = 0
        super().__init__([sys.executable, "-m", _MODULE], settings(), cwd=PROJECT)

    def __repr__(self) -> str:
        return f"<{OURS} in process {self._process.pid}, port {self.port}>"

    def begin_open(self, **options: Any) -> None:
        """Have it make a socket; `opened` waits for it."""
        self.tell("open", **options)

    def opened(self) -> Process:
        """Wait for `begin_open`."""
        made = self.hear("open", 60.0)
        self.id, self.port = decode(made["id"]), made["port"]
        return self

    def open(self, **options: Any) -> Process:
        """Make a socket; takes what :meth:`Program.open` takes."""
        self.begin_open(**options)
        return self.opened()

    def table(self, name: str = "node") -> set[bytes]:
        """The ids in a socket's routing table."""
        return {decode(ident) for ident in self.ask("table", name=name)}

    def outcome(self, task: str, wait: float = PATIENCE * 3) -> Any:
        """What a task has come to."""
        return self.ask("outcome", timeout=wait + 10.0, task=task, wait=wait)

    # What it costs

    def _figure(self, name: str) -> int:
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
        raise SkipTest(f"this system does not tell a process's {name}")

    @property
    def memory(self) -> int:
        """Bytes of memory that the process has now."""
        return self._figure("VmRSS")

    @property
    def most_memory(self) -> int:
        """Bytes of memory that it has ever had, or has had since `forget_memory`."""
        return self._figure("VmHWM")

    def forget_memory(self) -> None:
        """Begin `most_memory` anew, where that is allowed; else it errs on the safe side."""
        with contextlib.suppress(OSError):
            Path(f"/proc/{self._process.pid}/clear_refs").write_text("5")

    @property
    def turns(self) -> tuple[int, int]:
        """Nanoseconds that it has had a core, and that it has waited for one; zeros if unknown."""
        ran = waited = 0
        for thread in Path(f"/proc/{self._process.pid}/task").iterdir():
            # The thread may have ended, or the system may not tell.
            with contextlib.suppress(OSError):
                figures = (thread / "schedstat").read_text().split()
                ran, waited = ran + int(figures[0]), waited + int(figures[1])
        return ran, waited

    @property
    def descriptors(self) -> int:
        """How many files and sockets it has open."""
        return len(os.listdir(f"/proc/{self._process.pid}/fd"))

    # The end

    def halt(self) -> None:
        """Have the system give it no time any more."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """End a `halt`."""
        self._process.send_signal(signal.SIGCONT)


_notes: list[str] = []


@atexit.register
def _print_notes() -> None:
    if _notes:
        print("\nMeasured:", *_notes, sep="\n    ")


class ProcessTestCase(SynchronousTestCase):
    """
    Tests with processes. After each all of them are killed, and none of them has printed a
    traceback, unless the test names what it must be about.
    """

    #: What must stand below each traceback: the text of errors that the test itself has caused.
    expected_traceback = ""

    def setUp(self) -> None:
        if not Path("/proc/self/status").exists():
            raise SkipTest("these tests read from /proc what processes cost")
        self.processes: list[Process] = []

    def tearDown(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            text = process.printed()
            expected = text.count(self.expected_traceback) if self.expected_traceback else 0
            self.assertLessEqual(
                text.count("Traceback"), expected, f"{process} has met an error:\n{text}"
            )

    def note(self, figures: str) -> None:
        """Have what was measured printed when all tests have run."""
        _notes.append(f"{self.id().removeprefix(__package__ + '.')}: {figures}")

    def spawn(self, number: int, **options: Any) -> list[Process]:
        """Start processes with a socket each, all with the same options."""
        new = [Process() for _ in range(number)]
        self.processes += new
        for process in new:
            process.begin_open(**options)
        return [process.opened() for process in new]

    def link(self, dialler: Process, other: Process) -> None:
        """Connect two nodes and wait until both have the other in their table."""
        dialler.ask("connect", port=other.port)
        self.wait_for(
            lambda: other.id in dialler.table() and dialler.id in other.table(),
            f"{dialler} and {other} to be neighbours",
        )

    def wait_for(self, condition: Callable[[], bool], what: str, timeout: float = PATIENCE) -> None:
        """Look until the condition holds."""
        for _ in moments(timeout, interval=0.02):
            if condition():
                return
        self.fail(f"waited {timeout:g} s in vain for {what}")


@contextlib.contextmanager
def seconds() -> Iterator[Callable[[], float]]:
    """How long the block has taken so far."""
    start = time.monotonic()
    yield lambda: time.monotonic() - start


def run(source: str, timeout: float = 60.0, **variables: str) -> subprocess.CompletedProcess[str]:
    """
    Run a program as a user would write it, to its end.

    :raises subprocess.TimeoutExpired: it does not end.
    """
    return subprocess.run(
        [sys.executable, "-c", source],
        capture_output=True,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
        cwd=PROJECT,
        env={**settings(), **variables},
        check=False,
    )


if __name__ == "__main__":
    serve(Program())
