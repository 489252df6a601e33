"""The service of a process: where it listens, what it says, what it runs, and how it stops."""

from __future__ import annotations

import errno
import gc
import os
import random
import traceback
from itertools import pairwise
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core import flags
from py2p_twisted.core.network import Address
from py2p_twisted.daemon import descriptors
from py2p_twisted.daemon.configuration import configure
from py2p_twisted.daemon.node import NodeService, why_not
from py2p_twisted.errors import CannotStart
from py2p_twisted.net import service
from py2p_twisted.net.plainjson import loads
from py2p_twisted.net.service import MeshService
from py2p_twisted.testing.memory import MemoryNetwork
from tests.core.support import frame, pack_body
from tests.daemon.toys import HOSTILE, WALL, ToyReactor

HERE = ("10.0.0.1", 4444)


def taken(port: int, number: int, interface: str = "") -> CannotListenError:
    """What Twisted raises for a port that cannot be had."""
    return CannotListenError(interface, port, OSError(number, os.strerror(number)))


class NodeTestCase(SynchronousTestCase):
    """A node that listens on ports of toys, and is linked to others in memory."""

    def setUp(self) -> None:
        self.reactor = ToyReactor()
        self.network = MemoryNetwork(self.reactor)
        catching = capturedLogs()
        self.events = catching.__enter__()
        self.addCleanup(catching.__exit__, None, None, None)

    def tools(self, here: Address) -> dict[str, Any]:
        """What makes a service one of this test's."""
        return {
            "endpoint_for": lambda there, _: self.network.client(here, there),
            "now": self.reactor.seconds,
            "wall": lambda: WALL + self.reactor.seconds(),
            "rng": random.Random(1),
            "salt": str(here),
        }

    def make(self, **given: Any) -> NodeService:
        """A node from what was typed; underscores stand for dashes."""
        typed = {name.replace("_", "-"): value for name, value in given.items()}
        typed.setdefault("listen", ["tcp:4444:interface=10.0.0.1"])
        typed.setdefault("control", "none")
        return NodeService(self.reactor, configure(typed), **self.tools(HERE))

    def start(self, **given: Any) -> NodeService:
        """The same, started as twistd starts it, where others can dial it."""
        node = self.make(**given)
        node.privilegedStartService()
        node.startService()
        self.network.server(HERE).listen(node.factory)
        return node

    def peer(self, number: int, node: NodeService | None = None) -> MeshService:
        """Another node, which dials the first one."""
        address = (f"10.0.0.{number}", 4444)
        peer = MeshService(
            self.reactor,
            node.network if node else "mesh",
            listen=[self.network.server(address)],
            advertise=address,
            max_outgoing=0,
            **self.tools(address),
        )
        peer.startService()
        if node is not None:
            peer.connect(*HERE).addErrback(lambda _: None)
        self.network.settle()
        return peer

    def said(self, namespace: str = "py2p_twisted.node") -> list[str]:
        """What was logged, in one namespace."""
        return [formatEvent(event) for event in self.events if event["log_namespace"] == namespace]

    def named(self, name: str) -> list[dict[str, Any]]:
        """The events of one name."""
        return [event for event in self.events if event.get("event") == name]

    def cannot(self, node: NodeService) -> str:
        """Why it cannot start: one line."""
        text = str(self.assertRaises(CannotStart, node.privilegedStartService))
        self.assertTrue(text.isprintable(), repr(text))
        return text


class ConfiguredTests(NodeTestCase):
    def test_as_configured(self) -> None:
        """Network, addresses and limits are those of the configuration."""
        node = self.start(
            network="alerts",
            max_peers="3",
            max_message="1MiB",
            limit=["max_outgoing=2", "frame_timeout=7.5"],
            advertise="203.0.113.21:44565",
        )
        settings = node.factory.settings
        self.assertEqual(
            (settings.max_inbound, settings.max_message, settings.max_outgoing),
            (3, 2**20, 2),
        )
        self.assertEqual(settings.frame_timeout, 7.5)
        self.assertEqual(node.network.name, "alerts")
        self.assertEqual(node.address, ("203.0.113.21", 44565))
        self.assertIsNone(node.programs)
        self.assertEqual(node.configuration["max-peers"], 3)

    def test_it_joins_and_goes_on_trying(self) -> None:
        """Nodes to join through are dialled until they are there."""
        node = self.start(join=["10.0.0.2:4444"])
        self.network.advance(600)
        self.assertEqual(len(node.routing_table), 0)
        peer = self.peer(2)
        self.network.advance(30)
        self.assertEqual(set(node.routing_table), {peer.id})

    def test_a_state_directory(self) -> None:
        """Who starts again there is the same node, and finds its peers without being told."""
        directory = self.mktemp()
        peer = self.peer(2)
        node = self.start(state_dir=directory, join=["10.0.0.2:4444"])
        self.network.advance(5)
        self.assertEqual(set(node.routing_table), {peer.id})
        ident = node.id
        node.stopService()
        self.network.advance(10)
        again = self.make(state_dir=directory, listen=["tcp:4445:interface=10.0.0.1"])
        again.startService()
        self.network.advance(5)
        self.assertEqual(again.id, ident)
        self.assertEqual(set(again.routing_table), {peer.id})
        self.assertEqual(again.status["state directory"]["trouble"], "none")

    def test_a_state_directory_that_cannot_be_used(self) -> None:
        """Whoever starts it is told in one line, as of a port."""
        node = self.make(state_dir="/nowhere/at/all")
        error = self.assertRaises(CannotStart, node.startService)
        self.assertIn("/nowhere/at/all cannot be made", str(error))

    def test_several_ports(self) -> None:
        """It listens wherever it was told to, IPv4 and IPv6."""
        self.start(listen=["tcp:1:interface=10.0.0.1", r"tcp6:2:interface=\:\:1", "tcp:0"])
        self.assertEqual([port.getHost().port for port in self.reactor.ports], [1, 2, 40002])
        self.assertEqual(
            self.named("listening")[0]["listening"], "10.0.0.1:1, [::1]:2, 0.0.0.0:40002"
        )

    def test_advertise_without_a_port(self) -> None:
        """A host alone is told to others with the port that is listened on."""
        node = self.start(listen=["tcp:4447"], advertise="node.example")
        self.assertEqual(node.address, ("node.example", 4447))


class StartingTests(NodeTestCase):
    def test_before_privileges_are_gone(self) -> None:
        """It listens in the privileged start, and the second one changes nothing."""
        node = self.make()
        node.privilegedStartService()
        (port,) = self.reactor.ports
        node.startService()
        self.assertEqual(self.reactor.ports, [port])
        self.assertEqual(len(self.named("listening")), 1)

    def test_without_a_privileged_start(self) -> None:
        """It listens as well when there is only the ordinary start."""
        self.make().startService()
        self.assertEqual(len(self.reactor.ports), 1)

    def test_as_part_of_an_application(self) -> None:
        """It starts and stops with its parent, as under twistd."""
        parent = MultiService()
        node = self.make()
        node.setServiceParent(parent)
        parent.privilegedStartService()
        parent.startService()
        self.assertEqual(len(self.reactor.ports), 1)
        stopped = parent.stopService()
        self.network.settle()
        self.successResultOf(stopped)
        self.assertEqual(self.reactor.ports, [])

    def test_it_says_where(self) -> None:
        """One line says where it listens, in which network, and what others are told."""
        self.patch(descriptors, "limit", lambda: 4096)
        node = self.start(network="alerts")
        (event,) = self.named("listening")
        self.assertEqual(
            formatEvent(event),
            "listening on 10.0.0.1:4444 in network alerts (Plaintext), "
            "others are told to dial 10.0.0.1:4444; 4096 files may be open",
        )
        self.assertEqual(event["node"], node.id.decode())
        self.assertIs(event["log_level"], LogLevel.info)

    def test_public_plain_text(self) -> None:
        """Whoever is told to strangers at a public address, in plain text, is warned."""
        for advertise, tls, warned in (
            ("1.1.1.1:4444", False, True),
            ("[2606:4700::1]:4444", False, True),
            ("1.1.1.1:4444", True, False),
            ("10.0.0.1:4444", False, False),
            ("127.0.0.1:4444", False, False),
            ("[::1]:4444", False, False),
            ("[fe80::1%eth0]:4444", False, False),
            ("node.example:4444", False, False),
        ):
            self.setUp()
            self.start(advertise=advertise, **({"tls": True} if tls else {}))
            warnings = [event for event in self.events if event["log_level"] is LogLevel.warn]
            self.assertEqual(len(warnings), int(warned), advertise)

    def test_taken(self) -> None:
        """A port that somebody else has: one line that says what to do."""
        self.reactor.taken[4444] = taken(4444, errno.EADDRINUSE)
        text = self.cannot(self.make())
        self.assertIn("port 4444 is in use", text)
        self.assertIn("--listen", text)

    def test_either_start_says_so(self) -> None:
        """The same from the ordinary start, and no traceback of Twisted's behind it."""
        self.reactor.taken[4444] = taken(4444, errno.EADDRINUSE)
        error = self.assertRaises(CannotStart, self.make().startService)
        self.assertTrue(error.__suppress_context__ or error.__context__ is None)

    def test_one_of_several_taken(self) -> None:
        """When one port cannot be had, the others are given back."""
        self.reactor.taken[2] = taken(2, errno.EADDRINUSE)
        node = self.make(listen=["tcp:1:interface=10.0.0.1", "tcp:2", "tcp:3"])
        self.assertIn("port 2 ", self.cannot(node))
        self.assertEqual(self.reactor.ports, [])

    def test_after_it_could_not_start(self) -> None:
        """A node that could not start stops without a word."""
        self.reactor.taken[4444] = taken(4444, errno.EADDRINUSE)
        node = self.make(exec="true")
        self.cannot(node)
        self.successResultOf(node.stopService())
        self.assertEqual(self.named("stopping"), [])

    def test_no_address_to_tell(self) -> None:
        """Who listens on nothing that others could dial is told which option says where."""
        self.assertIn("--advertise", self.cannot(self.make(listen=["unix:/run/py2p.sock"])))

    def test_listening_nowhere(self) -> None:
        """A node that only dials says so, and names no address that nobody can dial."""
        self.patch(service, "lan_address", lambda: "10.0.0.1")
        self.make(listen=[]).privilegedStartService()
        self.assertEqual(self.reactor.ports, [])
        (text,) = self.said()
        self.assertNotIn(":0", text)
        self.assertNotIn("  ", text)

    def test_ports_that_there_are_not(self) -> None:
        """Whatever a listening port raises, an operator reads one line."""
        self.reactor.taken[4444] = OverflowError("bind(): port must be 0-65535.")
        self.assertIn("4444", self.cannot(self.make()))

    def test_endpoints_that_take_their_time(self) -> None:
        """An endpoint of another package may listen later; then the node says where."""
        node = self.make()
        (endpoint,) = node._listen
        ready: Deferred[Any] = Deferred()

        class Later:
            def listen(self, factory: Any) -> Deferred[Any]:
                return ready

        node._listen = [Later()]
        node.privilegedStartService()
        self.assertEqual(self.named("listening"), [])
        endpoint.listen(node.factory).chainDeferred(ready)
        self.assertEqual(len(self.named("listening")), 1)

    def test_endpoints_that_fail_later(self) -> None:
        """If it cannot after all, that does not stay a secret."""
        node = self.make()
        ready: Deferred[Any] = Deferred()

        class Later:
            def listen(self, factory: Any) -> Deferred[Any]:
                return ready

        node._listen = [Later()]
        node.privilegedStartService()
        ready.errback(taken(4444, errno.EADDRINUSE))
        self.failureResultOf(node.start(), CannotListenError)
        self.assertEqual(self.named("listening"), [])
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])
        texts = [
            formatEvent(event) for event in self.events if event["log_level"] >= LogLevel.error
        ]
        self.assertIn("port 4444 is in use", " ".join(texts))
        self.assertTrue(self.reactor.hasStopped)


class WhyNotTests(SynchronousTestCase):
    def test_remedies(self) -> None:
        """Each cause has its own remedy."""
        for number, words in (
            (errno.EADDRINUSE, ("port 4444 is in use", "--listen")),
            (errno.EACCES, ("port 4444 needs privileges", "above 1023", "--listen")),
            (errno.EADDRNOTAVAIL, ("192.0.2.1 is no address of this machine", "--listen")),
            (errno.EMFILE, ("4444", os.strerror(errno.EMFILE))),
        ):
            text = why_not(taken(4444, number, "192.0.2.1"))
            for word in words:
                self.assertIn(word, text)

    def test_sockets_of_files(self) -> None:
        """A socket that is a file is called by its path, and no port is recommended for it."""
        for number in (errno.EADDRINUSE, errno.EACCES):
            error = CannotListenError("", "/run/py2p.sock", OSError(number, "no"))  # type: ignore[arg-type]
            text = why_not(error)
            self.assertIn("/run/py2p.sock", text)
            self.assertNotIn("port /run", text)
            self.assertNotIn("1023", text)

    def test_no_interface(self) -> None:
        """A machine without IPv6 is told a whole sentence."""
        text = why_not(taken(4444, errno.EADDRNOTAVAIL, ""))
        self.assertRegex(text, r"^\S")
        self.assertNotIn("  ", text)

    def test_other_causes(self) -> None:
        """What has no number is said in its own words."""
        error = CannotListenError("", 4444, "odd")  # type: ignore[arg-type]
        self.assertIn("odd", why_not(error))

    def test_in_the_background(self) -> None:
        """twistd in the background shows 100 bytes of an error: enough for cause and remedy."""
        for number in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
            error = CannotStart(why_not(taken(65535, number, "192.168.100.100")))
            line = traceback.format_exception_only(type(error), error)[-1].strip()
            self.assertLessEqual(len(f"1 {line}"), 100, line)


class RunningTests(NodeTestCase):
    def test_a_program_for_every_message(self) -> None:
        """What arrives is given to a program, and to whoever else listens."""
        node = self.start(exec="on-alert -v")
        heard: list[Any] = []
        node.on_message = lambda delivery: heard.append(delivery.packets)
        peer = self.peer(2, node)
        peer.send("storm", b"\xff")
        peer.send("whispered", flag=flags.WHISPER)
        self.network.settle()
        first, second = self.reactor.processes
        self.assertEqual(loads(first.stdin.decode()), ["storm", b"\xff"])
        self.assertEqual(loads(second.stdin.decode()), ["whispered"])
        self.assertEqual(first.args, ["on-alert", "-v"])
        self.assertEqual(first.env["PY2P_SENDER"], peer.id.decode())
        self.assertEqual(first.env["PY2P_VIA"], peer.id.decode())
        self.assertEqual(first.env["PY2P_NETWORK"], "mesh")
        self.assertEqual(first.env["PY2P_NODE"], node.id.decode())
        self.assertEqual(first.env["PY2P_TIME"], str(WALL))
        self.assertEqual([packets[1:] for packets in heard], [("storm", b"\xff"), ("whispered",)])

    def test_what_it_sends_itself_runs_nothing(self) -> None:
        """A node's own messages are no news to it."""
        node = self.start(exec="on-alert")
        self.peer(2, node)
        node.send("mine")
        self.network.settle()
        self.assertEqual(self.reactor.processes, [])

    def test_how_many(self) -> None:
        """Limits of programs are those of the configuration."""
        node = self.start(exec="run", exec_parallel="2", exec_queue="3", exec_timeout="7")
        peer = self.peer(2, node)
        for number in range(10):
            peer.send(number)
        self.network.settle()
        self.assertEqual(
            node.status["programs"], {"waiting": 3, "running": 2, "started": 2, "lost": 5}
        )
        self.network.advance(7)
        self.assertEqual([process.signals for process in self.reactor.processes], [["TERM"]] * 2)

    def test_the_mesh_does_not_wait(self) -> None:
        """Messages go on to others whatever becomes of programs."""
        node = self.start(exec="on-alert", exec_parallel="1", exec_queue="1")
        self.reactor.refuses = OSError("no processes left")
        sender, receiver = self.peer(2, node), self.peer(3, node)
        heard: list[Any] = []
        receiver.on_message = heard.append
        for number in range(5):
            sender.send(number)
        self.network.settle()
        self.assertEqual([delivery.packets[1] for delivery in heard], [0, 1, 2, 3, 4])
        self.assertEqual(node.status["programs"]["not started"], 5)
        self.assertEqual(len(node.routing_table), 2)

    def test_status(self) -> None:
        """The status has programs in it if there are any, and can be printed."""
        self.assertNotIn("programs", self.start().status)
        self.setUp()
        node = self.start(exec="run")
        self.assertEqual(node.status["programs"], {"waiting": 0, "running": 0})
        self.assertIn("programs: waiting 0, running 0", str(node.status))
        self.assertEqual(node.status, "Nominal")


class StoppingTests(NodeTestCase):
    def test_goodbye(self) -> None:
        """A node that stops tells its peers, and says so in the log."""
        node = self.start()
        peer = self.peer(2, node)
        stopped = node.stopService()
        self.network.settle()
        self.successResultOf(stopped)
        self.assertEqual(len(peer.routing_table), 0)
        (event,) = self.named("stopping")
        self.assertEqual(event["count"], 1)
        self.assertEqual(self.reactor.ports, [])

    def test_it_waits_for_its_programs(self) -> None:
        """It has stopped when its programs have ended as well."""
        node = self.start(exec="run")
        peer = self.peer(2, node)
        peer.send("x")
        self.network.settle()
        stopped = node.stopService()
        self.network.settle()
        self.assertNoResult(stopped)
        self.reactor.processes[0].exits()
        self.successResultOf(stopped)

    def test_programs_that_do_not_end(self) -> None:
        """Programs have ten seconds altogether."""
        node = self.start(exec="run", exec_timeout="3600")
        self.peer(2, node).send("x")
        self.network.settle()
        stopped = node.stopService()
        self.network.advance(10)
        (process,) = self.reactor.processes
        self.assertEqual(process.signals, ["TERM", "KILL"])
        process.exits(signal=9)
        self.successResultOf(stopped)

    def test_messages_that_come_then(self) -> None:
        """What arrives while the node stops runs nothing."""
        node = self.start(exec="run")
        peer = self.peer(2, node)
        peer.send("x")
        node.stopService()
        self.network.settle()
        self.assertEqual(self.reactor.processes, [])

    def test_twice(self) -> None:
        """Stopping twice says so once."""
        node = self.start(exec="run")
        for _ in range(2):
            stopped = node.stopService()
            self.network.settle()
            self.successResultOf(stopped)
        self.assertEqual(len(self.named("stopping")), 1)

    def test_never_started(self) -> None:
        """A node that was never started stops without a word."""
        self.successResultOf(self.make(exec="run").stopService())
        self.assertEqual(self.events, [])

    def test_nothing_is_left(self) -> None:
        """A node that has stopped leaves no timer behind."""
        node = self.start(exec="run", join=["10.0.0.9:1"])
        self.network.settle()
        node.stopService()
        self.network.settle()
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class DebugTests(NodeTestCase):
    def lines(self, level: int) -> list[str]:
        """What is logged when a message comes, another that is broken, and one goes out."""
        self.setUp()
        node = self.start(debug_level=str(level))
        first, second = self.peer(2, node), self.peer(3, node)
        first.connect("10.0.0.3", 4444).addErrback(lambda _: None)
        self.network.settle()
        first.send("storm {0} {nonesuch}")
        self.network.settle()
        link = node.routing_table[first.id]
        link.owner.dataReceived(frame(pack_body(0, first.id, 7, 0, "long ago")))
        link.owner.dataReceived(frame(pack_body(0, None, 7, 0, "by nobody")))
        node.send("mine")
        self.network.settle()
        self.assertEqual(len(second.routing_table), 2)
        return self.said("py2p_twisted.debug")

    def test_silent_unless_asked(self) -> None:
        """Level 0 logs nothing of messages, and costs them nothing."""
        self.assertEqual(self.lines(0), [])
        node = self.start(debug_level="0")
        self.assertIsNone(node.factory.node.trace)
        self.assertFalse(node.factory.watch_traffic)

    def test_levels(self) -> None:
        """Each level adds its lines to those below it."""
        of_level = [self.lines(level) for level in range(6)]
        for lower, upper in pairwise(of_level):
            self.assertLessEqual(len(lower), len(upper))
        for level, words in (
            (1, "storm {0} {nonesuch}"),
            (2, "dropped"),
            (3, "not relaying again"),
            (4, "sent to"),
        ):
            self.assertFalse([line for line in of_level[level - 1] if words in line], words)
            self.assertTrue([line for line in of_level[level] if words in line], words)

    def test_terminals_are_safe(self) -> None:
        """What strangers call themselves, and what they say, is shown, not obeyed."""
        node = self.start(debug_level="5", exec="run")
        peer = self.peer(2, node)
        link = node.routing_table[peer.id]
        link.id = HOSTILE.encode()
        for sender in (HOSTILE, HOSTILE.encode(), None, 7):
            for stamp in (WALL, 7):
                link.owner.dataReceived(frame(pack_body(0, sender, stamp, HOSTILE, HOSTILE)))
        self.network.settle()
        self.assertGreater(len(self.said("py2p_twisted.debug")), 3)
        for event in self.events:
            text = formatEvent(event)
            self.assertTrue(text.isprintable(), repr(text))
