"""
``py2p doctor`` in a network in memory.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.cli import doctor, probe, progress
from py2p_twisted.core.network import Network
from tests.cli.members import Hand
from tests.cli.screen import ToyTerminal
from tests.cli.test_control import ADA, ControlTestCase

BEN_ADDRESS = "10.0.0.2:4444"


class DoctorTestCase(ControlTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.use(doctor)
        self.patch(probe, "MeshService", self._make_service)
        self.patch(doctor, "is_own", lambda host: host.startswith("10.0.0."))
        self.mesh.advance(1)

    def doctor(self, *arguments: str, code: int = 0) -> list[tuple[str, str]]:
        """What it says, as levels and subjects; it must end with this code."""
        ended = self.main("doctor", *arguments, "--json")
        said = [json.loads(line) for line in self.printed().splitlines()]
        self.assertEqual(ended, code, said)
        self.assertEqual(self.said(), "")
        self.lines = [f"{one['what']} - {one['do']}" for one in said]
        self.assertEqual({tuple(one) for one in said}, {("level", "about", "what", "do")})
        return [(one["level"], one["about"]) for one in said]


class NodeTests(DoctorTestCase):
    """The node on this machine."""

    def test_well(self) -> None:
        """It is dialled where it says; it has noticed nothing, and all links are gone."""
        before = self.mesh["ada"].service.settled
        told: list[object] = []
        self.mesh["ada"].service.on_join = told.append
        self.assertEqual(
            self.doctor(f"--control={ADA}"),
            [("ok", "joined"), ("ok", "clock"), ("ok", "address")],
        )
        self.assertEqual((self.mesh["ada"].service.settled, told), (before, []))
        self.assertEqual(self.mesh["ada"].service.errors, type(self.mesh["ada"].service.errors)())
        self.assertFalse(any(one.running for one in self.members))

    def test_lines(self) -> None:
        """For people."""
        self.assertEqual(self.main("doctor", f"--control={ADA}"), 0)
        self.assertRegex(
            self.printed(), r"^ok    node \w{8} of network mesh \(Plaintext\) has 1 peer\n"
        )

    def test_alone(self) -> None:
        self.mesh.stop("ben")
        found = self.doctor(f"--control={ADA}", code=1)
        self.assertEqual(found[0], ("FAIL", "joined"))

    def test_an_address_that_leads_nowhere(self) -> None:
        """What it tells others is of no use."""
        self.mesh["ada"].service.factory.node.address = ("10.0.0.77", 4444)
        self.assertEqual(self.doctor(f"--control={ADA}", code=1)[-1], ("FAIL", "address"))
        self.assertIn("it cannot be dialled where it says: 10.0.0.77:4444 refuses", self.lines[-1])

    def test_somebody_elses_address(self) -> None:
        self.mesh["ada"].service.factory.node.address = ("10.0.0.2", 4444)
        self.assertEqual(self.doctor(f"--control={ADA}", code=1)[-1], ("FAIL", "address"))
        self.assertIn("another node answers", self.lines[-1])

    def test_no_node(self) -> None:
        """That is what is wrong, unless there is an address to look at."""
        self.assertEqual(self.doctor(code=1), [("FAIL", "node")])
        self.assertIn("no running node found", self.lines[0])
        self.assertEqual(self.doctor("--control=x.sock", BEN_ADDRESS, code=1)[0], ("FAIL", "node"))
        self.assertEqual(self.doctor(BEN_ADDRESS)[0], ("ok", "connection"))

    def test_one_that_does_not_answer(self) -> None:
        self.mesh.network.connected = lambda near, far: setattr(far, "stalled", True)
        self.assertEqual(self.doctor(f"--control={ADA}", "--timeout=3", code=1), [("FAIL", "node")])
        self.assertIn("does not answer within 3 s", self.lines[0])


class AddressTests(DoctorTestCase):
    """A node that is dialled."""

    def test_well(self) -> None:
        self.assertEqual(
            self.doctor(BEN_ADDRESS), [("ok", "connection"), ("ok", "clock"), ("ok", "round trip")]
        )

    def test_both(self) -> None:
        """First the node that runs here; its network is that of the address."""
        self.assertEqual(len(self.doctor(f"--control={ADA}", BEN_ADDRESS)), 6)

    def test_itself(self) -> None:
        found = self.doctor(f"--control={ADA}", "10.0.0.1:4444")
        self.assertEqual(found[-1], ("warn", "identity"))

    def test_refused(self) -> None:
        self.assertEqual(self.doctor("10.0.0.9:4444", code=1), [("FAIL", "connection")])

    def test_networks(self) -> None:
        """Another name, and another encryption."""
        self.assertEqual(self.doctor(BEN_ADDRESS, "--network=x", code=1), [("FAIL", "network")])
        self.assertEqual(self.doctor(BEN_ADDRESS, "--tls", code=1), [("FAIL", "encryption")])
        self.assertIn("speaks plain text, and we speak TLS", self.lines[0])

    def test_silence(self) -> None:
        """Somebody accepts and does nothing; or a node does nothing but say who it is."""
        self.silent()
        self.assertEqual(self.doctor("10.0.0.8:22", code=1), [("FAIL", "handshake")])
        self.assertIn("accepts connections, and says nothing", self.lines[0])
        self.mesh.network.connected = lambda near, far: setattr(far, "stalled", True)
        self.assertEqual(self.doctor(BEN_ADDRESS, code=1)[0], ("FAIL", "handshake"))
        self.assertIn("and says nothing more", self.lines[0])

    def silent(self) -> None:
        """Have something listen at 10.0.0.8:22 that never says a word."""
        self.mesh.network.server(("10.0.0.8", 22)).listen(Factory.forProtocol(Protocol))

    def test_full(self) -> None:
        """It has introduced itself, and is gone."""
        self.mesh.add("cid", max_inbound=1)
        self.mesh.link("ada", "cid")
        self.mesh.advance(1)
        self.assertEqual(self.doctor("10.0.0.3:4444")[0], ("warn", "full"))

    def test_an_original(self) -> None:
        """Or what speaks as one."""
        self.mesh.add("old", extensions=False)
        self.assertEqual(self.doctor("10.0.0.3:4444")[0], ("ok", "connection"))
        self.assertIn("an original of py2p 0.6", self.lines[0])

    def test_names(self) -> None:
        """All its addresses are dialled."""
        known = {"both": ["10.0.0.9", "10.0.0.2"], "nobody": []}

        def resolve(reactor: object, host: str) -> Deferred[list[str]]:
            done: Deferred[list[str]] = Deferred()
            done.callback(known.get(host, [host]))
            return done

        self.patch(doctor, "resolve", resolve)
        self.assertEqual(
            self.doctor("both:4444")[:3],
            [("ok", "name"), ("warn", "connection"), ("ok", "connection")],
        )
        self.assertEqual(self.doctor("nobody:4444", code=1), [("FAIL", "name")])

    def test_interrupted(self) -> None:
        self.mesh.network.connected = lambda near, far: setattr(far, "stalled", True)
        self.later(2, self.interrupt, signal.SIGINT)
        self.assertEqual(self.main("doctor", BEN_ADDRESS), 130)
        self.assertEqual(self.said(), "py2p doctor: interrupted\n")

    def test_progress(self) -> None:
        """On a terminal, what it is about."""
        terminal = ToyTerminal(70, 14)
        self.patch(progress.sys, "stderr", terminal)
        self.patch(progress, "can_redraw", lambda stream, environ: True)
        self.patch(progress, "size_of", lambda stream: os.terminal_size((70, 14)))
        self.silent()
        seen: list[str] = []
        self.later(4.2, lambda: seen.append(terminal.rows[0]))
        self.assertEqual(self.main("doctor", "10.0.0.8:22"), 1)
        self.assertEqual(seen, ["py2p doctor: dialling 10.0.0.8:22, 4 s"])
        self.assertEqual(terminal.text, [])

    def test_usage(self) -> None:
        for arguments in (["x"], ["a:0"], ["a:1", "b:1"], ["--tls"]):
            self.assertEqual(self.main("doctor", *arguments), 2)
            self.assertIn("(see py2p doctor --help)", self.said())


class LookupTests(SynchronousTestCase):
    """Names, and what is ours."""

    def look(self, host: str, answer: Any) -> list[str]:
        def getaddrinfo(*_: object, **__: object) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return [(0, 0, 0, "", (one, 0)) for one in answer]

        self.patch(probe.socket, "getaddrinfo", getaddrinfo)
        hand = Hand()
        looking = probe.resolve(hand, host)
        if not looking.called:
            hand.take()
        return self.successResultOf(looking)

    def test_names(self) -> None:
        """Each address once."""
        self.assertEqual(self.look("a", ["10.0.0.1", "::1", "10.0.0.1"]), ["10.0.0.1", "::1"])
        self.assertEqual(self.look("a", socket.gaierror("no")), [])
        self.assertEqual(self.look("\udcff", UnicodeError()), [])
        self.assertEqual(threading.current_thread(), threading.main_thread())

    def test_addresses(self) -> None:
        """They need not be looked up."""
        for host in ("192.0.2.7", "2001:db8::7"):
            self.assertEqual(self.look(host, AssertionError()), [host])

    def test_own(self) -> None:
        self.assertTrue(probe.is_own("127.0.0.1"))
        self.assertFalse(probe.is_own("192.0.2.7"))
        self.assertFalse(probe.is_own("no name"))

    def test_network(self) -> None:
        """An attempt says how it was made."""
        self.assertEqual(probe.Attempt("x", Network("mesh").encryption).encryption, "Plaintext")
