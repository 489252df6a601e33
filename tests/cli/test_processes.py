"""
The demo's processes: how they are started, what is read in their logs, and that none is left.

No process runs here: the reactor is a toy that remembers what it should have started.
"""

from __future__ import annotations

import builtins
import io
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.cli import processes
from py2p_twisted.cli.processes import GRACE, Guard, Processes, ProcessFailed, ProcessNode
from py2p_twisted.cli.scenario import NeedsPreparation, Times
from py2p_twisted.core.network import PLAINTEXT, SSL
from py2p_twisted.daemon.configuration import configure
from py2p_twisted.tap import Options


class ToyProcess:
    """
    A process that was started, from both sides.

    :ivar signals: what it was sent.
    """

    def __init__(self, protocol: Any, arguments: list[str], env: dict[str, str]) -> None:
        self.protocol = protocol
        self.arguments = arguments
        self.env = env
        self.signals: list[str] = []
        self.stdin_closed = False
        self.pid: int | None = None

    def closeStdin(self) -> None:
        self.stdin_closed = True

    def signalProcess(self, name: str) -> None:
        if self.pid is None:
            raise ProcessExitedAlready
        self.signals.append(name)

    def log(self, **event: Any) -> None:
        """It logs something."""
        record = {"log_level": {"name": "info"}, "log_format": "", **event}
        self.protocol.outReceived(b"\x1e" + json.dumps(record).encode() + b"\n")

    def listen(self, number: int) -> None:
        """It listens, as n1 at port 40001 or the like."""
        self.log(event="listening", node=f"n{number}", address=f"127.0.0.1:{40000 + number}")

    def show(self, via: str, *packets: Any, kind: int = 0) -> None:
        """Its program has been given a message."""
        self.log(
            event="exec",
            log_namespace="py2p_twisted.exec",
            line=f"{via} {kind} {json.dumps(packets)}",
        )

    def end(self, status: int | None = 0, signal: int | None = None) -> None:
        """It ends."""
        error = ProcessTerminated(status, signal) if status or signal else ProcessDone(0)
        self.pid = None
        self.protocol.processExited(Failure(error))
        self.protocol.processEnded(Failure(error))


class ToyReactor(Clock):
    """
    A clock that starts toys.

    :ivar started: what was started, in order.
    :ivar full: the system allows no more processes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.started: list[ToyProcess] = []
        self.full = False

    def spawnProcess(
        self, protocol: Any, executable: str, arguments: list[str], env: dict[str, str]
    ) -> ToyProcess:
        if self.full:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        assert executable == arguments[0] == sys.executable
        process = ToyProcess(protocol, arguments, env)
        self.started.append(process)
        process.pid = 1000 + len(self.started)
        return process


class ToyGuard:
    """
    Writes down what it is told.

    :ivar told: in order.
    """

    def __init__(self) -> None:
        self.told: list[str] = []

    def start(self) -> None:
        self.told.append("start")

    def watch(self, number: int) -> None:
        self.told.append(f"+{number}")

    def forget(self, number: int) -> None:
        self.told.append(f"-{number}")

    def close(self) -> None:
        self.told.append("close")


class ProcessesTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = ToyReactor()
        self.guard: Any = ToyGuard()
        self.lost: list[tuple[ProcessNode, str]] = []
        self.begin()

    def begin(self, *, tls: bool = False) -> None:
        """Another demo."""
        self.processes = Processes(tls=tls, guard=self.guard)
        self.processes.on_lost = lambda node, how: self.lost.append((node, how))

    def make(self, count: int) -> list[ProcessNode]:
        """Some nodes."""
        return [self.processes.make_node(self.reactor) for _ in range(count)]

    def running(self) -> tuple[ProcessNode, ToyProcess]:
        """A node that listens, and its process."""
        (node,) = self.make(1)
        started = node.start()
        process = self.reactor.started[-1]
        process.listen(1)
        self.successResultOf(started)
        return node, process


class StartTests(ProcessesTestCase):
    def test_what_is_started(self) -> None:
        """A ``twist py2p`` on a port that the system chooses, for this machine alone."""
        (first,) = self.make(1)
        started = first.start()
        (process,) = self.reactor.started
        self.assertEqual(
            process.arguments[1:6], ["-P", "-m", "twisted", "--log-format=json", "py2p"]
        )
        options = Options()
        options.parseOptions(process.arguments[6:])
        made = options.configuration
        self.assertEqual(made["listen"], ("tcp:0:interface=127.0.0.1",))
        self.assertEqual((made["join"], made["tls"]), ((), False))
        self.assertEqual(made.network, self.processes.network)
        self.assertEqual((made["exec-parallel"], made["debug-level"]), (1, 3))
        self.assertTrue(process.stdin_closed)
        self.assertNoResult(started)
        process.listen(7)
        self.successResultOf(started)
        self.assertEqual((first.id, first.address), (b"n7", ("127.0.0.1", 40007)))

    def test_the_page(self) -> None:
        """It is there when its log says so; the link has the token that stands in the file."""
        node = self.processes.make_node(self.reactor, "tcp:0")
        started = node.start()
        (process,) = self.reactor.started
        self.assertIn("--web=tcp:0", process.arguments)
        process.listen(1)
        self.assertNoResult(started)
        file = Path(self.mktemp())
        file.write_text("secret\n")
        process.log(event="status page", url="http://127.0.0.1:8123/", token=f"token in {file}")
        self.successResultOf(started)
        self.assertEqual(node.page, "http://127.0.0.1:8123/#token=secret")
        # One that nobody can send from.
        process.log(event="status page", url="http://127.0.0.1:8123/", token="no token: nothing")
        self.assertEqual(node.page, "http://127.0.0.1:8123/")

    def test_the_program(self) -> None:
        """It prints who brought a message, its type, and the packets, on one line."""
        for name, program in (("posix", "sh"), ("nt", sys.executable)):
            self.patch(processes, "os", SimpleNamespace(name=name, environ={}))
            self.begin()
            (node,) = self.make(1)
            node.start()
            (word,) = [w for w in self.reactor.started[-1].arguments if w.startswith("--exec=")]
            command = configure({"exec": word.removeprefix("--exec=")})["exec"]
            self.assertEqual(command[0], program)
            self.assertRegex(command[-1], "PY2P_VIA.*PY2P_TYPE")
            self.assertEqual(shlex.join(command), word.removeprefix("--exec="))

    def test_tls(self) -> None:
        """``--tls`` is passed on, and only then; whoever sends for a node speaks it as well."""
        for tls, encryption in ((True, SSL), (False, PLAINTEXT)):
            self.begin(tls=tls)
            self.assertEqual(self.processes.network.encryption, encryption)
            self.make(1)[0].start()
            self.assertIs("--tls" in self.reactor.started[-1].arguments, tls)

    def test_each_demo_is_a_network_of_its_own(self) -> None:
        """Two at the same time do not meet."""
        names = {Processes(tls=False, guard=self.guard).network.name for _ in range(20)}
        self.assertEqual(len(names), 20)

    def test_the_others_join_through_the_first(self) -> None:
        """They are started as soon as it listens, and told its address."""
        nodes = self.make(3)
        started = [node.start() for node in nodes]
        self.assertEqual(len(self.reactor.started), 1)
        self.reactor.started[0].listen(1)
        self.assertEqual(len(self.reactor.started), 3)
        for process in self.reactor.started[1:]:
            self.assertIn("--join=127.0.0.1:40001", process.arguments)
            self.assertIn(f"--network={self.processes.network.name}", process.arguments)
        self.reactor.started[2].listen(3)
        self.reactor.started[1].listen(2)
        for one in started:
            self.successResultOf(one)
        self.assertEqual([node.id for node in nodes], [b"n1", b"n2", b"n3"])

    def test_a_few_at_a_time(self) -> None:
        """One more for each that listens: starts that share a core take all the longer."""
        self.patch(processes, "AT_ONCE", 2)
        self.begin()
        for node in self.make(6):
            node.start()
        counts = []
        for number in range(6):
            self.reactor.started[number].listen(number + 1)
            counts.append(len(self.reactor.started))
        self.assertEqual(counts, [3, 4, 5, 6, 6, 6])

    def test_it_ends_instead(self) -> None:
        """The error says how, and what it has written last to standard error."""
        (node,) = self.make(1)
        started = node.start()
        (process,) = self.reactor.started
        process.protocol.errReceived(b"Traceback ...\nOSError: no room")
        process.protocol.errReceived(b" on device\n\n")
        process.end(1)
        error = self.failureResultOf(started, ProcessFailed).value
        self.assertEqual(
            str(error), "twist py2p ended with exit status 1: OSError: no room on device"
        )
        # Whoever has asked is told, so nobody else is.
        self.assertEqual(self.lost, [])

    def test_a_lot_of_errors(self) -> None:
        """The end of them is kept."""
        (node,) = self.make(1)
        started = node.start()
        (process,) = self.reactor.started
        for _ in range(1000):
            process.protocol.errReceived(b"x" * 1000)
        process.protocol.errReceived(b"\nthe last line")
        process.end(3)
        error = str(self.failureResultOf(started, ProcessFailed).value)
        self.assertEqual(error, "twist py2p ended with exit status 3: the last line")
        self.assertTrue(len(node._errors) <= 4096)

    def test_no_more_processes(self) -> None:
        """The system's own reason is passed on, and the others get their turn."""
        self.patch(processes, "AT_ONCE", 1)
        self.begin()
        _, second, third = nodes = self.make(3)
        nodes[0].start()
        waiting = second.start(), third.start()
        self.reactor.full = True
        self.reactor.started[0].listen(1)
        for one in waiting:
            error = self.failureResultOf(one, OSError).value
            self.assertIn("temporarily unavailable", str(error))

    def test_told_to_end_before_it_was_started(self) -> None:
        """It is not started any more, whatever the others do."""
        self.patch(processes, "AT_ONCE", 1)
        self.begin()
        nodes = self.make(4)
        started = [node.start() for node in nodes]
        self.reactor.started[0].listen(1)
        for node in nodes:
            node.drop()
        for process in self.reactor.started:
            process.end(None, 9)
        self.assertEqual(len(self.reactor.started), 2)
        for one in started[1:]:
            self.failureResultOf(one, ProcessFailed)

    def test_limits(self) -> None:
        """More time than for nodes in one process, and more of it for more processes."""
        few, many = processes.times_for(3), processes.times_for(64)
        self.assertTrue(Times().start < few.start < many.start)
        self.assertTrue(Times().spread < few.spread < many.spread)
        self.assertTrue(few.leave > GRACE)


class EnvironmentTests(ProcessesTestCase):
    """Processes find the same package as the demo, wherever that came from."""

    def start(self, first: str, **environ: str) -> dict[str, str]:
        """The environment of a process of a demo whose search path begins with this."""
        self.patch(sys, "path", [first, *sys.path])
        self.patch(os, "environ", environ)
        self.begin()
        (node,) = self.make(1)
        node.start()
        return self.reactor.started[-1].env

    def test_it_is_installed(self) -> None:
        """Then the environment is ours."""
        self.assertEqual(self.start("/usr/bin", PATH="/bin"), {"PATH": "/bin"})

    def test_it_is_in_the_current_folder(self) -> None:
        """Which Python does not search for the processes: it is named to them."""
        home = os.path.dirname(os.path.dirname(os.path.dirname(processes.__file__)))
        self.assertEqual(self.start(home), {"PYTHONPATH": home})
        both = os.pathsep.join([home, "/elsewhere"])
        self.assertEqual(self.start(home, PYTHONPATH="/elsewhere"), {"PYTHONPATH": both})


class LogTests(ProcessesTestCase):
    """What a node is known to do."""

    def test_joined(self) -> None:
        """A node that was told whom to join through has joined when it has a peer."""
        node, process = self.running()
        joined = node.join(("127.0.0.1", 40001))
        self.assertNoResult(joined)
        process.log(event="peer up", peer="n2")
        self.successResultOf(joined)
        self.successResultOf(node.join(("127.0.0.1", 40001)))

    def test_it_ends_before_it_has_joined(self) -> None:
        node, process = self.running()
        joined = node.join(("127.0.0.1", 40001))
        process.end(None, 9)
        error = self.failureResultOf(joined, ProcessFailed).value
        self.assertEqual(str(error), "twist py2p was ended by signal 9")
        self.failureResultOf(node.join(("127.0.0.1", 40001)), ProcessFailed)

    def test_peers(self) -> None:
        """They come and go."""
        node, process = self.running()
        self.assertEqual(node.peers(), set())
        for peer in ("n2", "n3", "n4"):
            process.log(event="peer up", peer=peer)
        process.log(event="peer down", peer="n3")
        self.assertEqual(node.peers(), {b"n2", b"n4"})
        process.log(event="peer down", peer="n9")
        self.assertEqual(node.peers(), {b"n2", b"n4"})

    def test_alone(self) -> None:
        """Whoever is still thought to be a peer then is none."""
        node, process = self.running()
        process.log(event="peer up", peer="n2")
        process.log(event="alone")
        self.assertEqual(node.peers(), set())

    def test_however_it_is_cut(self) -> None:
        """Lines are put together from what the pipe brings."""
        record = b'\x1e{"event": "peer up", "peer": "n%d"}\n'
        data = b"".join(record % number for number in range(9))
        for size in (1, 7, 40, 1000):
            node, process = self.running()
            for at in range(0, len(data), size):
                process.protocol.outReceived(data[at : at + size])
            self.assertEqual(len(node.peers()), 9, size)

    def test_what_is_no_log(self) -> None:
        """Somebody may print something in between."""
        node, process = self.running()
        for line in (b"hello", b"\xff\xfe", b"[1]", b"7", b"\x1e{", b"", b'{"event": []}'):
            process.protocol.outReceived(line + b"\n")
        process.log(event="peer up", peer="n2")
        self.assertEqual(node.peers(), {b"n2"})

    def test_a_line_without_an_end(self) -> None:
        """It is not kept for ever."""
        node, process = self.running()
        for _ in range(40):
            process.protocol.outReceived(b"x" * 100_000)
        self.assertTrue(len(node._output) <= 2**20 + 100_000)

    def test_messages(self) -> None:
        """With their type in front, and who brought them."""
        node, process = self.running()
        process.show("n3", "nobody hears this")
        got: list[object] = []
        node.on_message = lambda packets, via: got.append((packets, via))
        process.show("n2", "demo", 0, "storm from the north")
        process.show("n3", {"$base64": "AP8="}, kind=7)
        self.assertEqual(
            got,
            [((0, "demo", 0, "storm from the north"), b"n2"), ((7, b"\x00\xff"), b"n3")],
        )

    def test_what_a_program_says_besides(self) -> None:
        """No message is made of it."""
        node, process = self.running()
        got: list[object] = []
        node.on_message = lambda packets, via: got.append(packets)
        for line in ("", "hello", "a b c", "n2 0", "n2 0 {}", "\u20ac 0 []"):
            process.log(event="exec", line=line)
        process.log(event="exec", line="n2 0 []", log_level={"name": "warn"})
        process.log(event="exec", problem="ended with exit status 1")
        self.assertEqual(got, [])
        process.log(event="exec", line="n2 0 []")
        self.assertEqual(got, [(0,)])

    def test_traffic(self) -> None:
        """Frames, and those of them that were copies; nothing else counts."""
        node, process = self.running()
        self.assertEqual(node.traffic(), (0, 0))
        for text, namespace in (
            ("message received: message(...)", "py2p_twisted.debug"),
            ("not relaying again: 00ff", "py2p_twisted.debug"),
            ("not relaying again: 00ff", "py2p_twisted.debug"),
            ("sent to 3 peers: not relaying again", "py2p_twisted.debug"),
            ("not relaying again: 00ff", "py2p_twisted.net"),
        ):
            process.log(text=text, log_namespace=namespace)
        self.assertEqual(node.traffic(), (3, 2))

    def complaints(self, process: ToyProcess, *events: dict[str, Any]) -> list[str]:
        """What the demo logs as an error, when the node logs that."""
        logged: list[str] = []

        def observe(event: Any) -> None:
            if event["log_level"].name == "error":
                logged.append(event["log_format"].format(**event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        for event in events:
            process.log(**event)
        return logged

    def test_trouble_is_passed_on(self) -> None:
        """Errors, and why a program has not run; warnings of other kinds are the node's."""
        _, process = self.running()
        warning, error = {"name": "warn"}, {"name": "error"}
        logged = self.complaints(
            process,
            {"log_format": "no peers left", "event": "alone", "log_level": warning},
            {"log_format": "by the way", "log_namespace": "py2p_twisted.net"},
            {"log_format": "in {callback}", "callback": "f", "log_level": error},
            {
                "log_format": "{program} {problem}",
                "log_namespace": "py2p_twisted.exec",
                "event": "exec",
                "program": "sh",
                "problem": "ended with exit status 1",
                "log_level": warning,
            },
        )
        self.assertEqual(
            logged,
            [
                "the process at 127.0.0.1:40001 says: in f",
                "the process at 127.0.0.1:40001 says: sh ended with exit status 1",
            ],
        )

    def test_a_lot_of_trouble(self) -> None:
        """Three lines of a node are enough."""
        _, process = self.running()
        trouble = {"log_format": "broken", "log_level": {"name": "critical"}}
        self.assertEqual(len(self.complaints(process, *[trouble] * 50)), 3)


class ToyGuest:
    """
    Stands for the `MeshService` that sends for a node.

    :ivar made: all of them.
    """

    made: list[ToyGuest] = []

    def __init__(self, reactor: object, network: object, **settings: Any) -> None:
        self.network = network
        self.settings = settings
        self.happened: list[Any] = []
        self.id = f"guest{len(self.made)}".encode()
        self.connecting: Deferred[Any] = succeed(None)
        self.stopped: Deferred[None] = Deferred()
        self.made.append(self)

    def start(self) -> Deferred[Any]:
        return succeed(self)

    def connect(self, host: str, port: int) -> Deferred[Any]:
        self.happened.append(("connect", host, port))
        return self.connecting

    def send(self, *packets: Any) -> Deferred[None]:
        self.happened.append(("send", *packets))
        return succeed(None)

    def stopService(self) -> Deferred[None]:
        self.happened.append("stop")
        return self.stopped


class SendTests(ProcessesTestCase):
    """Somebody joins the node, sends for it, and leaves."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(processes, "MeshService", ToyGuest)
        self.patch(ToyGuest, "made", [])
        self.node, self.process = self.running()
        self.got: list[object] = []
        self.node.on_message = lambda packets, via: self.got.append((packets[1:], via))

    def prepare(self) -> ToyGuest:
        """A guest that has joined."""
        prepared = self.node.prepare()
        guest = ToyGuest.made[-1]
        self.process.log(event="peer up", peer=guest.id.decode())
        self.successResultOf(prepared)
        return guest

    def test_the_scenario_knows(self) -> None:
        """That this takes time, which is no latency."""
        self.assertIsInstance(self.node, NeedsPreparation)

    def test_it_joins_that_node_alone(self) -> None:
        """It listens nowhere and seeks nobody; it is ready when the node knows it."""
        prepared = self.node.prepare()
        (guest,) = ToyGuest.made
        self.assertEqual(guest.network, self.processes.network)
        self.assertEqual((guest.settings["listen"], guest.settings["max_outgoing"]), ((), 0))
        self.assertEqual(guest.happened, [("connect", "127.0.0.1", 40001)])
        self.assertNoResult(prepared)
        self.process.log(event="peer up", peer="guest0")
        self.successResultOf(prepared)

    def test_no_two_are_the_same(self) -> None:
        """Else the second would be taken for the first."""
        for _ in range(2):
            self.prepare()
            self.node.send("x")
        salts = {guest.settings["salt"] for guest in ToyGuest.made}
        self.assertEqual(len(salts), 2)

    def test_it_is_no_peer(self) -> None:
        """Of those that are shown and counted."""
        self.prepare()
        self.process.log(event="peer up", peer="n2")
        self.assertEqual(self.node.peers(), {b"n2"})

    def test_sending(self) -> None:
        """At once; it is done when whoever sent it has left."""
        guest = self.prepare()
        sending = self.node.send("demo", 0, "storm")
        self.assertEqual(guest.happened[1:], [("send", "demo", 0, "storm"), "stop"])
        self.assertNoResult(sending)
        guest.stopped.callback(None)
        self.successResultOf(sending)

    def test_nobody_hears_itself(self) -> None:
        """What its guest has brought is the node's own. But if it comes twice, that counts."""
        guest = self.prepare()
        self.node.send("storm")
        self.process.show(guest.id.decode(), "storm")
        self.assertEqual(self.got, [])
        self.process.show(guest.id.decode(), "storm")
        self.process.show("n2", "storm")
        self.assertEqual(self.got, [(("storm",), guest.id), (("storm",), b"n2")])

    def test_not_prepared(self) -> None:
        """It is not sent; and what was prepared is used up."""
        self.failureResultOf(self.node.send("x"), ProcessFailed)
        self.prepare().stopped.callback(None)
        self.successResultOf(self.node.send("x"))
        self.failureResultOf(self.node.send("x"), ProcessFailed)

    def test_it_cannot_join(self) -> None:
        """The reason is passed on."""

        class Refused(ToyGuest):
            def connect(self, host: str, port: int) -> Deferred[Any]:
                return fail(ConnectionRefusedError("refused"))

        self.patch(processes, "MeshService", Refused)
        self.failureResultOf(self.node.prepare(), ConnectionRefusedError)
        self.node.drop()
        self.assertEqual(ToyGuest.made[-1].happened, ["stop"])

    def test_the_node_goes(self) -> None:
        """So does its guest."""
        for go in (self.node.leave, self.node.drop):
            guest = self.prepare()
            go()
            self.assertEqual(guest.happened[-1], "stop")


class EndTests(ProcessesTestCase):
    def test_dropped(self) -> None:
        """It is killed, and nothing else; that is no loss to report."""
        node, process = self.running()
        dropped = node.drop()
        self.assertEqual(process.signals, ["KILL"])
        self.assertNoResult(dropped)
        process.end(None, 9)
        self.successResultOf(dropped)
        self.assertEqual(self.lost, [])

    def test_leaving(self) -> None:
        """It is told to end; nobody waits any longer than that takes."""
        node, process = self.running()
        left = node.leave()
        self.assertEqual(process.signals, ["TERM"])
        process.end(0)
        self.successResultOf(left)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.lost, [])

    def test_leaving_takes_too_long(self) -> None:
        """It is killed."""
        node, process = self.running()
        left = node.leave()
        self.reactor.advance(GRACE)
        self.assertEqual(process.signals, ["TERM", "KILL"])
        self.assertNoResult(left)
        process.end(None, 9)
        self.successResultOf(left)

    def test_what_it_says_last(self) -> None:
        """A message that its log tells while it leaves is not lost."""
        node, process = self.running()
        got: list[object] = []
        node.on_message = lambda packets, via: got.append(packets)
        node.leave()
        process.show("n2", "twice")
        process.end(0)
        self.assertEqual(got, [(0, "twice")])

    def test_it_is_not_there(self) -> None:
        """Not started yet, or ended already: there is nobody to wait for."""
        (node,) = self.make(1)
        self.successResultOf(node.leave())
        self.successResultOf(node.drop())
        self.begin()
        node, process = self.running()
        process.end(1)
        self.successResultOf(node.leave())
        self.successResultOf(node.drop())
        self.assertEqual(process.signals, [])

    def test_it_ends_unasked(self) -> None:
        """The demo is told who, and how."""
        for status, signal, how in (
            (1, None, "ended with exit status 1"),
            (0, None, "ended with exit status 0"),
            (None, 9, "was ended by signal 9"),
        ):
            node, process = self.running()
            process.end(status, signal)
            self.assertEqual(self.lost, [(node, f"is gone: twist py2p {how}")])
            self.lost.clear()

    def test_the_end_of_the_demo(self) -> None:
        """Whoever is left is killed, whether it was told to end or not."""
        nodes = self.make(3)
        started = [node.start() for node in nodes]
        self.reactor.started[0].listen(1)
        nodes[1].leave()
        self.reactor.started[2].end(1)
        self.failureResultOf(started[2], ProcessFailed)
        self.processes.close()
        self.assertEqual(
            [process.signals for process in self.reactor.started], [["KILL"], ["TERM", "KILL"], []]
        )
        self.assertEqual(self.guard.told[-1], "close")

    def test_the_guard_knows_who_is_there(self) -> None:
        """It is there before the first process, and a number is its own no longer than it runs."""
        node, process = self.running()
        self.assertEqual(self.guard.told, ["start", "+1001"])
        node.drop()
        self.assertEqual(self.guard.told, ["start", "+1001"])
        process.end(None, 9)
        self.assertEqual(self.guard.told, ["start", "+1001", "-1001"])


class ToyPopen:
    """
    Stands for the guard's process.

    :ivar made: how it was started, each time.
    """

    made: list[ToyPopen] = []

    def __init__(self, command: list[str], **settings: Any) -> None:
        self.command = command
        self.settings = settings
        self.stdin: Any = io.BytesIO()
        self.hangs = False
        self.happened: list[str] = []
        self.made.append(self)

    def wait(self, timeout: float | None = None) -> int:
        assert self.stdin.closed
        self.happened.append("wait")
        if self.hangs and timeout is not None:
            raise subprocess.TimeoutExpired(self.command, timeout)
        return 0

    def kill(self) -> None:
        self.happened.append("kill")


class GuardTests(SynchronousTestCase):
    """What remains to be done when the demo itself is killed."""

    def setUp(self) -> None:
        self.patch(subprocess, "Popen", ToyPopen)
        self.patch(ToyPopen, "made", [])

    def started(self) -> tuple[Guard, ToyPopen]:
        """A guard, and its process."""
        guard = Guard()
        guard.start()
        guard.start()
        (process,) = ToyPopen.made
        return guard, process

    def test_it_is_started_once(self) -> None:
        """Where Ctrl-C does not reach it."""
        _, process = self.started()
        self.assertIs(process.settings["start_new_session"], True)

    def test_what_it_is_told(self) -> None:
        """At once, while there is somebody to tell it."""
        guard, process = self.started()
        guard.watch(17)
        guard.watch(18)
        guard.forget(17)
        self.assertEqual(process.stdin.getvalue(), b"+17\n+18\n-17\n")
        self.assertEqual(process.settings["bufsize"], 0)

    def test_closing(self) -> None:
        """It reads the end of what it is told, and is waited for; once."""
        guard, process = self.started()
        guard.close()
        guard.close()
        self.assertEqual(process.happened, ["wait"])

    def test_it_does_not_end(self) -> None:
        """Then it is killed: nothing may be left."""
        guard, process = self.started()
        process.hangs = True
        guard.close()
        self.assertEqual(process.happened, ["wait", "kill", "wait"])

    def test_somebody_has_killed_it(self) -> None:
        """The demo goes on without one."""

        class Gone(io.BytesIO):
            def write(self, data: Any) -> int:
                raise BrokenPipeError

        guard, process = self.started()
        process.stdin = Gone()
        guard.watch(17)
        guard.close()
        self.assertEqual(process.happened, ["wait"])

    def test_those_it_was_not_told_of(self) -> None:
        """When the demo is killed in the middle of starting one, that one has a mark."""
        killed: list[int] = []
        lines = {"17": b"twist\0--network=demo-1\0", "18": b"twist\0--network=demo-2\0", "x": b""}
        self.patch(os, "listdir", lambda path: [*lines, str(os.getpid()), "19"])
        self.patch(os.path, "isdir", lambda path: True)
        self.patch(time, "sleep", lambda seconds: None)

        def shown(path: str, mode: str) -> Any:
            name = path.split("/")[2]
            if name == "19":
                raise FileNotFoundError
            return io.BytesIO(lines.get(name, b"--network=demo-1"))

        self.patch(builtins, "open", shown)
        guard = Guard("--network=demo-1")
        guard.start()
        (process,) = ToyPopen.made
        for told, expected in (("+5\n", {5, 17}), ("+5\n.\n", {5})):
            killed.clear()
            self.patch(sys, "stdin", io.StringIO(told))
            self.patch(os, "kill", lambda number, signal: killed.append(number))
            exec(process.command[-1], {})
            self.assertEqual(set(killed), expected)

    def test_without_a_process(self) -> None:
        """Nothing is started only to be ended."""
        guard = Guard()
        guard.close()
        self.assertEqual(ToyPopen.made, [])

    def run_program(self, told: str, kill: Callable[[int, int], None]) -> None:
        """Run what the guard's process runs, in this one."""
        _, process = self.started()
        self.patch(sys, "stdin", io.StringIO(told))
        self.patch(os, "kill", kill)
        exec(process.command[-1], {})

    def test_its_program(self) -> None:
        """It kills who is left in the end; who has ended meanwhile is no obstacle."""
        killed: list[tuple[int, int]] = []

        def kill(number: int, signal: int) -> None:
            if number == 18:
                raise ProcessLookupError
            killed.append((number, signal))

        self.run_program("+17\n+18\n-17\n+19\n+17\n-17\n+20\n", kill)
        self.assertEqual(sorted(killed), [(19, 9), (20, 9)])

    def test_its_program_has_nothing_to_do(self) -> None:
        killed: list[int] = []
        self.run_program("+17\n-17\n", lambda number, signal: killed.append(number))
        self.assertEqual(killed, [])
