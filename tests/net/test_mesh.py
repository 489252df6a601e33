"""
Whole meshes in memory: floods, failures and healing of real factories and real TLS.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import Any
from unittest import mock

from OpenSSL import SSL as OPENSSL
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core.compression import wrap_plain
from py2p_twisted.core.connection import State
from py2p_twisted.core.network import Network
from py2p_twisted.errors import BadArgument, DuplicateConnection, LinkUnresponsive
from py2p_twisted.net.protocol import MeshProtocol
from py2p_twisted.net.reports import BURST, Reports
from py2p_twisted.net.tls import Expecting, SelfMade, credentials_for
from py2p_twisted.testing import MemoryMesh
from py2p_twisted.testing.mesh import EPOCH

TLS = Network("mesh", "SSL")


class FloodingTests(SynchronousTestCase):
    def test_a_broadcast_is_told_once(self) -> None:
        """In a triangle every node hears a broadcast twice and tells it once."""
        mesh = MemoryMesh("ada", "ben", "cyd")
        for pair in [("ada", "ben"), ("ben", "cyd"), ("cyd", "ada")]:
            mesh.link(*pair)
        mesh["ada"].broadcast("storm", "north")
        mesh.settle()
        self.assertEqual(mesh.inbox("ben"), [("storm", "north")])
        self.assertEqual(mesh.inbox("cyd"), [("storm", "north")])
        self.assertEqual(mesh.inbox("ada"), [])

    def test_the_same_over_tls(self) -> None:
        """The triangle again, with real TLS over the transports in memory."""
        mesh = MemoryMesh("ada", "ben", "cyd", network=TLS)
        for pair in [("ada", "ben"), ("ben", "cyd"), ("cyd", "ada")]:
            mesh.link(*pair)
        for number in range(20):
            mesh["ada"].broadcast("storm", number)
        mesh.settle()
        for name in ("ben", "cyd"):
            self.assertEqual(mesh.inbox(name), [("storm", number) for number in range(20)])

    def test_a_large_message_crosses_a_chain(self) -> None:
        """Eight megabytes less a little pass through a relay unharmed."""
        mesh = MemoryMesh("ada", "ben", "cyd")
        mesh.link("ada", "ben")
        mesh.link("ben", "cyd")
        payload = bytes(range(256)) * 32_000
        mesh["ada"].send(payload)
        mesh.settle()
        self.assertEqual(mesh.inbox("cyd"), [(payload,)])

    def test_thirty_nodes_through_one(self) -> None:
        """Nodes that all join through the first one find others, and all hear a broadcast."""
        mesh = MemoryMesh(*(f"n{number}" for number in range(30)), max_outgoing=4)
        for number in range(1, 30):
            mesh.link(f"n{number}", "n0")
        mesh.advance(5)
        mesh["n17"].send("hello")
        mesh.settle()
        for node in mesh:
            expected = [] if node.name == "n17" else [("hello",)]
            self.assertEqual(mesh.inbox(node.name), expected, node.name)
            self.assertGreaterEqual(len(node.peers), 4, node.name)

    def test_the_mesh_outlives_its_first_node(self) -> None:
        """When the node that all had joined through dies, the others still hear each other."""
        mesh = MemoryMesh(*(f"n{number}" for number in range(12)), max_outgoing=4)
        for number in range(1, 12):
            mesh.link(f"n{number}", "n0")
        mesh.advance(5)
        mesh.kill("n0")
        mesh.advance(5)
        mesh["n5"].send("still here")
        mesh.settle()
        self.assertEqual(
            [mesh.inbox(node.name) for node in mesh if node.name != "n5"], [[("still here",)]] * 10
        )


class HealingTests(SynchronousTestCase):
    def test_a_broken_link_comes_back(self) -> None:
        """A link that breaks is dialled again within seconds, by the end that had dialled."""
        mesh = MemoryMesh("ada", "ben")
        mesh.link("ada", "ben")
        mesh.cut("ada", "ben")
        self.assertFalse(mesh.linked("ada", "ben"))
        mesh.advance(1)
        self.assertTrue(mesh.linked("ada", "ben"))
        self.assertTrue(mesh["ada"].service.routing_table[mesh["ben"].id].outgoing)

    def test_flapping_links_are_dialled_ever_less_often(self) -> None:
        """The back-off grows while links break at once, up to fifteen seconds."""
        mesh = MemoryMesh("ada", "ben", "cyd")
        mesh.link("ada", "cyd")
        mesh.link("ada", "ben")
        times = []
        for _ in range(8):
            mesh.cut("ada", "ben")
            began = mesh.clock.seconds()
            while not mesh.linked("ada", "ben"):
                mesh.advance(0.1)
            times.append(mesh.clock.seconds() - began)
        self.assertLess(times[0], 1)
        self.assertGreater(times[-1], 5)
        self.assertLess(max(times), 15 * 1.3 + 2)

    def test_crossed_dials_leave_one_connection(self) -> None:
        """Two nodes that dial each other at the same moment keep one link, the same one."""
        mesh = MemoryMesh("ada", "ben")
        ada, ben = mesh["ada"], mesh["ben"]
        dials = [ada.connect(ben), ben.connect(ada)]
        mesh.advance(3)
        for dial in dials:
            self.successResultOf(dial)
        self.assertEqual(len(mesh.transports("ada", "ben")), 1)
        self.assertEqual(len(mesh.transports("ben", "ada")), 1)
        self.assertTrue(mesh.linked("ada", "ben"))
        closed = ada.service.status["closed links"]
        self.assertEqual(set(closed) - {DuplicateConnection.reason}, set())
        ada.send("over the one that stayed")
        mesh.settle()
        self.assertEqual(len(mesh["ben"].received), 1)

    def test_a_link_that_died_silently_gives_way(self) -> None:
        """A peer that comes back while its old link looks alive here is let in."""
        for first, second in (("ada", "ben"), ("ben", "ada")):
            mesh = MemoryMesh("ada", "ben", probe_timeout=2)
            mesh.link("ada", "ben")
            mesh.advance(60)
            mesh.silence("ada", "ben")
            # Only one of them notices that the old link is dead.
            link = mesh[first].service.routing_table[mesh[second].id]
            mesh[first].service.factory.close_link(link, LinkUnresponsive(1))
            mesh.advance(10)
            self.assertTrue(mesh.linked("ada", "ben"))
            mesh[first].send("back")
            mesh[second].send("welcome")
            mesh.settle()
            self.assertEqual(mesh.inbox(second)[-1:], [("back",)])
            self.assertEqual(mesh.inbox(first)[-1:], [("welcome",)])

    def test_a_full_node_tells_newcomers_others(self) -> None:
        """A node with all the peers it accepts sends newcomers on to them."""
        mesh = MemoryMesh(max_outgoing=2)
        mesh.add("hub", max_inbound=3)
        for number in range(3):
            mesh.add(f"n{number}")
            mesh.link(f"n{number}", "hub")
        late = mesh.add("late")
        late.connect(mesh["hub"]).addErrback(lambda _: None)
        with capturedLogs() as events:
            mesh.advance(5)
        said = [formatEvent(event) for event in events]
        self.assertEqual(len([line for line in said if "accepts 3 incoming peers" in line]), 1)
        self.assertIn("too many peers", mesh["hub"].service.status["closed links"])
        self.assertNotIn(late.id, mesh["hub"].peers)
        self.assertTrue(late.peers)

    def much_from_ben(self, mesh: MemoryMesh) -> MeshProtocol:
        """Four messages that come to ada with one read, and take a turn each."""
        protocol = mesh["ada"].service.factory.routing_table[mesh["ben"].id].owner
        composer = mesh["ben"].service.factory.node.composer
        frames = [
            wrap_plain(made.id, made.body)
            for number in range(4)
            for made in [composer.compose(0, 0, [[number] * 9_000], EPOCH)]
        ]
        protocol.dataReceived(b"".join(frames))
        self.assertTrue(protocol.link.unread)
        return protocol

    def test_an_error_in_a_later_turn_ends_the_link(self) -> None:
        """As one in the first turn does: a link must not stay that nothing is read from."""
        mesh = MemoryMesh("ada", "ben")
        mesh.link("ben", "ada")
        protocol = self.much_from_ben(mesh)
        with mock.patch.object(mesh["ada"].service, "messages_received", side_effect=OSError):
            self.assertRaises(OSError, mesh.clock.advance, 0)
        mesh.settle()
        self.assertIs(protocol.link.state, State.CLOSED)

    def test_hanging_up_does_not_wait_for_a_transport_that_rests(self) -> None:
        """Over TLS the peer's goodbye has to be read, or it takes until the deadline."""
        for network in (Network("mesh", "Plaintext"), TLS):
            mesh = MemoryMesh("ada", "ben", network=network)
            mesh.link("ben", "ada")
            self.much_from_ben(mesh)
            stopped = mesh["ada"].service.stopService()
            mesh.settle()
            self.successResultOf(stopped)

    def test_what_takes_long_is_read_turn_by_turn(self) -> None:
        """One read that holds much must not keep others waiting; its transport rests so long."""
        mesh = MemoryMesh("ada", "ben", "cyd")
        mesh.link("ben", "ada")
        mesh.link("cyd", "ada")
        protocol = self.much_from_ben(mesh)
        self.assertEqual(len(mesh["ada"].received), 1)
        transport: Any = protocol.transport
        self.assertFalse(transport._reading)
        mesh["cyd"].send("meanwhile")
        mesh.settle()
        self.assertEqual(len(mesh["ada"].received), 5)
        self.assertNotEqual(mesh["ada"].received[-1].packets, ("meanwhile",))
        self.assertTrue(transport._reading)
        mesh["ben"].send("goes on")
        mesh.settle()
        self.assertEqual(len(mesh["ada"].received), 6)

    def test_half_open_connections_are_bounded(self) -> None:
        """Silent connections make room for newer ones, and end after their deadline."""
        from twisted.internet.protocol import Factory, Protocol

        mesh = MemoryMesh("ada", "ben", max_half_open=5)
        ada = mesh["ada"]
        for number in range(20):
            silent = mesh.network.client((f"10.1.0.{number}", 1), ada.address)
            silent.connect(Factory.forProtocol(Protocol))
            mesh.settle()
        self.assertEqual(ada.service.status["greeting"], 5)
        mesh.link("ben", "ada")
        mesh.advance(11)
        self.assertEqual(ada.service.status["greeting"], 0)
        self.assertTrue(mesh.linked("ada", "ben"))


class TLSTests(SynchronousTestCase):
    def test_credentials_follow_the_encryption(self) -> None:
        """Plain networks need none, SSL makes its own, other words are refused."""
        self.assertIsNone(credentials_for(Network()))
        self.assertIsInstance(credentials_for(TLS), SelfMade)
        with self.assertRaises(BadArgument):
            credentials_for(Network("mesh", "ROT13"))

    def test_certificates_differ(self) -> None:
        """Every process makes a certificate of its own, EC P-256, valid from yesterday."""
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec

        from py2p_twisted.net.tls import _make_certificate

        certificates = [_make_certificate()[1] for _ in range(2)]
        self.assertNotEqual(*(certificate.serial_number for certificate in certificates))
        for certificate in certificates:
            self.assertIsInstance(certificate, x509.Certificate)
            key = certificate.public_key()
            self.assertIsInstance(key, ec.EllipticCurvePublicKey)
            self.assertEqual(key.curve.name, "secp256r1")

    def test_old_versions_are_refused(self) -> None:
        """Nothing below TLS 1.2 is spoken, at either end."""
        made = SelfMade()
        for options in (made.server(), made.client()):
            context = options.getContext()
            refused = ssl.OP_NO_TLSv1 | ssl.OP_NO_TLSv1_1
            self.assertEqual(context.set_options(0) & refused, refused)

    def test_a_certificate_can_be_kept(self) -> None:
        """Who loads it shows it, also to endpoints that were made before; rubbish changes nothing."""
        kept, other = SelfMade(), SelfMade()
        shown = other.server()
        self.assertNotEqual(kept.fingerprint, other.fingerprint)
        mixed = kept.as_pem().split(b"-----BEGIN CERT")[0] + other.as_pem()
        for rubbish in (b"", b"\x00" * 100, kept.as_pem()[:200], kept.as_pem()[-200:], mixed[:500]):
            with self.assertRaises(ValueError):
                other.load(rubbish)
        halves = [one.as_pem().split(b"-----BEGIN CERT") for one in (kept, other)]
        with self.assertRaises(ValueError):
            other.load(halves[0][0] + b"-----BEGIN CERT" + halves[1][1])
        self.assertIsNone(self.shake_hands(other.server(), Expecting(other.fingerprint)))
        other.load(kept.as_pem())
        self.assertEqual(other.fingerprint, kept.fingerprint)
        self.assertIsNone(self.shake_hands(shown, Expecting(kept.fingerprint)))

    def test_one_certificate_alone_is_accepted(self) -> None:
        """Whoever has another one is refused while hands are shaken."""
        ada, eve = SelfMade(), SelfMade()
        for _ in range(2):
            self.assertIsNone(self.shake_hands(ada.server(), Expecting(ada.fingerprint)))
            error = self.shake_hands(eve.server(), Expecting(ada.fingerprint))
            self.assertIn("certificate verify failed", str(error))

    def shake_hands(self, server: Any, client: Any) -> Exception | None:
        """Let two ends of TLS talk in memory; gives what went wrong."""
        ends = [OPENSSL.Connection(one.getContext(), None) for one in (server, client)]
        ends[0].set_accept_state()
        ends[1].set_connect_state()
        for _ in range(10):
            for end, other in (ends, ends[::-1]):
                try:
                    end.do_handshake()
                except OPENSSL.WantReadError:
                    pass
                except OPENSSL.Error as error:
                    return error
                with contextlib.suppress(OPENSSL.WantReadError):
                    other.bio_write(end.bio_read(2**16))
        return None


class ReportTests(SynchronousTestCase):
    def test_once_a_minute(self) -> None:
        """The same thing is said once a minute, with a count of what was held back."""
        from twisted.logger import Logger, LogLevel, formatEvent

        said: list[str] = []
        now = [0.0]
        reports = Reports(
            Logger(observer=lambda event: said.append(formatEvent(event))), lambda: now[0]
        )
        for _ in range(1000):
            reports.say(LogLevel.info, "checksum", "eve", "bad frame from {peer}")
        reports.say(LogLevel.info, "checksum", "mallory", "bad frame from {peer}")
        self.assertEqual(said, ["bad frame from eve", "bad frame from mallory"])
        now[0] = 61.0
        reports.say(LogLevel.info, "checksum", "eve", "bad frame from {peer}")
        self.assertEqual(said[2], "bad frame from eve (999 more of these since)")

    def test_what_a_host_was_not_allowed_is_counted(self) -> None:
        """A line that was held back for its host stands in the number of those left out."""
        from twisted.logger import Logger, LogLevel, formatEvent

        said: list[str] = []
        now = [0.0]
        reports = Reports(
            Logger(observer=lambda event: said.append(formatEvent(event))), lambda: now[0]
        )
        for number in range(BURST):
            reports.note(LogLevel.info, "up {number}", number=number, host="8.8.8.8")
        self.assertFalse(reports.say(LogLevel.info, "checksum", "eve", "bad", host="8.8.8.8"))
        now[0] = 61.0
        self.assertTrue(reports.say(LogLevel.info, "checksum", "eve", "bad", host="8.8.8.8"))
        self.assertEqual(
            said[-1], "bad (1 more of these since) (1 lines about this host were left out)"
        )

    def test_it_forgets(self) -> None:
        """A million peers cannot fill the memory with what was said about them."""
        from twisted.logger import Logger, LogLevel

        reports = Reports(Logger(observer=lambda event: None), lambda: 0.0)
        for number in range(3000):
            reports.say(LogLevel.info, "checksum", str(number), "x")
        self.assertLessEqual(len(reports._said), 1024)
