"""
The Twisted face: a service, its Deferreds, its errors, on transports in memory.
"""

from __future__ import annotations

import random
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred, ensureDeferred, fail
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from py2p_twisted.core import flags
from py2p_twisted.core.connection import Connection
from py2p_twisted.core.network import Network
from py2p_twisted.errors import (
    BadArgument,
    HandshakeTimeout,
    MeshClosed,
    MessageTooLarge,
    NetworkMismatch,
    NotSendable,
    ReplyFailed,
    SelfConnection,
)
from py2p_twisted.net import Delivery, MeshFactory, MeshService
from py2p_twisted.net import service as service_module
from py2p_twisted.net.factory import Application
from py2p_twisted.net.flow import HIGH_WATER
from py2p_twisted.net.service import lan_address, to_address
from py2p_twisted.testing import MemoryMesh, MemoryTransport
from py2p_twisted.testing.mesh import EPOCH
from tests.net.wires import look, mute


class ServiceTests(SynchronousTestCase):
    def test_interfaces(self) -> None:
        """The service is an IService, its factory an IProtocolFactory."""
        service = MemoryMesh("ada")["ada"].service
        verifyObject(IService, service)
        verifyObject(IProtocolFactory, service.factory)

    def test_as_part_of_an_application(self) -> None:
        """A service starts and stops with its parent."""
        mesh = MemoryMesh("ada", "ben")
        parent = MultiService()
        mesh["ada"].service.setServiceParent(parent)
        parent.startService()
        mesh.link("ben", "ada")
        self.successResultOf(self.later(mesh, parent.stopService()))
        self.assertFalse(mesh["ben"].peers)

    def test_stopped_before_it_listens(self) -> None:
        """An endpoint that takes its time is through with it when the node is no more: no port stays."""
        waiting: list[Deferred[Any]] = []

        class Slow:
            def listen(self, factory: object) -> Deferred[Any]:
                waiting.append(Deferred())
                return waiting[-1]

        class Port:
            open = True

            def stopListening(self) -> None:
                self.open = False

        service = MeshService(Clock(), listen=[Slow()], now=lambda: 0.0)
        starting = service.start()
        service.stopService()
        port = Port()
        waiting[0].callback(port)
        self.failureResultOf(starting, MeshClosed)
        self.assertFalse(port.open)
        self.assertFalse(service.factory.started)

    def later(self, mesh: MemoryMesh, waiting: Deferred[Any], seconds: float = 1) -> Deferred[Any]:
        mesh.advance(seconds)
        return waiting

    def test_connect(self) -> None:
        """``connect`` gives the connection, once both ends have introduced themselves."""
        mesh = MemoryMesh("ada", "ben")
        link = self.successResultOf(self.later(mesh, mesh["ada"].connect(mesh["ben"])))
        self.assertIsInstance(link, Connection)
        self.assertEqual(link.id, mesh["ben"].id)
        self.assertIs(mesh["ada"].service.routing_table[link.id], link)

    def test_connect_fails_with_the_reason(self) -> None:
        """Refused, wrong network, oneself, silence: each fails with an error of its own."""
        mesh = MemoryMesh("ada")
        mesh.add("eve", Network("another"))
        ada = mesh["ada"]
        for node, error in (
            (ada, SelfConnection),
            (mesh["eve"], NetworkMismatch),
        ):
            self.failureResultOf(self.later(mesh, ada.connect(node)), error)
        self.failureResultOf(
            self.later(mesh, ada.service.connect("10.9.9.9", 1)), ConnectionRefusedError
        )

    def test_both_ends_know_why(self) -> None:
        """Who is refused for its network learns the reason as well as who refuses."""
        mesh = MemoryMesh("ada")
        mesh.add("eve", Network("another"))
        mesh["eve"].connect(mesh["ada"]).addErrback(lambda _: None)
        mesh.settle()
        for name in ("ada", "eve"):
            service = mesh[name].service
            self.assertIn("network", service.status["errors"][0])
            self.assertEqual(service.status["closed links"], {"network mismatch": 1})

    def test_tls_and_plain_text_do_not_mix(self) -> None:
        """A plain node that dials a TLS node is told what may be wrong, and so the other way."""
        mesh = MemoryMesh("ada", handshake_timeout=3, dial_handshake_timeout=3)
        mesh.add("eve", Network("mesh", "SSL"))
        failure = self.failureResultOf(self.later(mesh, mesh["ada"].connect(mesh["eve"]), 4))
        self.assertIn("encryption", str(failure.value))
        failure = self.failureResultOf(self.later(mesh, mesh["eve"].connect(mesh["ada"]), 4))
        self.assertIn("TLS", str(failure.value))
        self.assertFalse(mesh["ada"].peers or mesh["eve"].peers)

    def test_silence_is_a_timeout(self) -> None:
        """A connection whose other end says nothing ends after its deadline."""
        mesh = MemoryMesh("ada", "ben")
        connecting = mesh["ada"].connect(mesh["ben"])
        for transport in mesh.transports("ada", "ben"):
            transport.silent = transport.other.silent = True
        mesh.advance(9)
        self.failureResultOf(connecting, HandshakeTimeout)

    def test_send_fires_when_the_queues_have_it(self) -> None:
        """``send`` is a Deferred, by which a sender keeps to the network's pace."""
        mesh = MemoryMesh("ada", "ben")
        mesh.link("ada", "ben")
        self.successResultOf(mesh["ada"].send("x"))
        mesh.stall("ben")
        noise = random.Random(1).randbytes(500_000)
        waiting = [mesh["ada"].send(noise) for _ in range(6)]
        mesh.settle()
        self.assertNoResult(waiting[-1])
        mesh.unstall("ben")
        for done in waiting:
            self.successResultOf(done)
        mesh.settle()
        self.assertEqual(len(mesh["ben"].received), 7)

    def test_a_stalled_peer_costs_the_others_nothing(self) -> None:
        """It is held little for, loses its link, and has everything when it is back."""
        mesh = MemoryMesh("ada", "ben", "cyd", max_message=200_000)
        mesh.link("ada", "ben")
        mesh.link("ada", "cyd")
        mesh.stall("cyd")
        noise = random.Random(1).randbytes(100_000)
        for _ in range(80):
            mesh["ada"].send(noise)
        mesh.advance(4)
        self.assertEqual(len(mesh["ben"].received), 80)
        (outbox,) = (
            link.owner.outbox
            for link in mesh["ada"].service.routing_table.values()
            if link.id == mesh["cyd"].id
        )
        self.assertLessEqual(outbox.size, HIGH_WATER + 200_000)
        mesh.advance(20)
        self.assertEqual(len(mesh["cyd"].received), 80)

    def test_after_it_has_stopped(self) -> None:
        """Nobody waits for what cannot come any more."""
        mesh = MemoryMesh("ada")
        service = mesh["ada"].service
        self.successResultOf(service.stopService())
        self.failureResultOf(service.when_connected(), MeshClosed)

        async def read() -> list[Any]:
            return [delivery async for delivery in service.messages()]

        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(read())), [])

    def test_what_cannot_be_sent(self) -> None:
        """Mistakes are raised where they are made."""
        mesh = MemoryMesh("ada", max_message=2000)
        with self.assertRaises(NotSendable):
            mesh["ada"].send(object())
        with self.assertRaises(MessageTooLarge):
            mesh["ada"].send(bytes(3000))
        with self.assertRaises(BadArgument):
            mesh["ada"].send("x", type=7)

    def test_messages_by_callback(self) -> None:
        """``on_message`` gets a Delivery that can be replied to."""
        mesh = MemoryMesh("ada", "ben", "cyd")
        mesh.link("ada", "ben")
        mesh.link("ben", "cyd")
        mesh["ada"].send("who?")
        mesh.settle()
        delivery = mesh["cyd"].received[0]
        self.assertIsInstance(delivery, Delivery)
        self.assertEqual(delivery.packets, (0, "who?"))
        self.assertEqual(delivery.link.id, mesh["ben"].id)
        self.successResultOf(self.later(mesh, delivery.reply("me")))
        mesh.settle()
        self.assertEqual(mesh.inbox("ada"), [("me",)])

    def test_a_callback_that_raises(self) -> None:
        """A mistake in a callback, or in a coroutine it returns, is logged and costs no link."""
        mesh = MemoryMesh("ada", "ben")
        mesh.link("ada", "ben")

        def bad(delivery: Delivery) -> None:
            raise RuntimeError("oops")

        async def worse(delivery: Delivery) -> None:
            raise RuntimeError("oops")

        for callback in (bad, worse):
            mesh["ben"].service.on_message = callback
            mesh["ada"].send("x")
            mesh.settle()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)
        self.assertTrue(mesh.linked("ada", "ben"))

    def test_messages_by_iteration(self) -> None:
        """``async for`` gets the messages in order, and ends with the service."""
        mesh = MemoryMesh("ada", "ben")
        mesh.link("ada", "ben")
        seen: list[Any] = []

        async def read() -> str:
            async for delivery in mesh["ben"].service.messages():
                seen.append(delivery.packets[1])
            return "ended"

        reading = ensureDeferred(read())
        mesh["ada"].send(1)
        mesh.settle()
        mesh["ada"].send(2)
        mesh["ada"].send(3)
        mesh.settle()
        self.assertEqual(seen, [1, 2, 3])
        mesh["ben"].service.stopService()
        mesh.advance(1)
        self.assertEqual(self.successResultOf(reading), "ended")

    def test_when_connected(self) -> None:
        """One can wait for a number of peers."""
        mesh = MemoryMesh("ada", "ben", "cyd")
        waiting = mesh["ada"].service.when_connected(2)
        mesh.link("ada", "ben")
        self.assertNoResult(waiting)
        mesh.link("ada", "cyd")
        self.assertIs(self.successResultOf(waiting), mesh["ada"].service)
        self.successResultOf(mesh["ada"].service.when_connected())

    def test_join_and_leave(self) -> None:
        """Peers that come and go are told, with the reason."""
        mesh = MemoryMesh("ada", "ben")
        told: list[Any] = []
        mesh["ada"].service.on_join = lambda link: told.append(("join", link.id))
        mesh["ada"].service.on_leave = lambda link, error: told.append(("leave", link.id))
        mesh.link("ada", "ben")
        ben = mesh["ben"].id
        mesh.kill("ben")
        self.assertEqual(told, [("join", ben), ("leave", ben)])

    def test_peers_that_are_told_stay(self) -> None:
        """Who has a look and goes again neither joins nor leaves, and nobody waits for it."""
        mesh = MemoryMesh("ada", "ben", "cyd", "dan", active_view=1)
        mesh.link("ada", "ben")
        mesh.link("cyd", "dan")
        told: list[Any] = []
        for node in mesh:
            node.service.on_join = lambda link: told.append(("join", link.id))
            node.service.on_leave = lambda link, error: told.append(("leave", link.id))
        waiting = [mesh[name].service.when_connected(2) for name in ("ada", "cyd")]
        look(mesh["cyd"].service.factory, mesh["ada"].address, mesh["ada"].id)
        mesh.settle()
        self.assertTrue(mesh.linked("ada", "cyd"))
        waiting.append(mesh["ada"].service.when_connected(2))
        mesh.advance(60)
        self.assertFalse(mesh.linked("ada", "cyd"))
        self.assertEqual(mesh["cyd"].service.status["closed links"], {"probe ended": 1})
        self.assertEqual(told, [])
        for one in waiting:
            self.assertNoResult(one)
        self.assertEqual(mesh["ada"].service.settled, {mesh["ben"].id})

    def test_a_plain_peer_stays(self) -> None:
        """It is one when its list of peers comes, and nothing was announced before."""
        mesh = MemoryMesh("ada")
        mesh.add("ben", extensions=False)
        mesh.link("ada", "ben")
        for name in ("ada", "ben"):
            self.successResultOf(mesh[name].service.when_connected())
        self.assertEqual(mesh["ada"].service.settled, {mesh["ben"].id})

    def test_a_plain_peer_that_says_nothing_stays(self) -> None:
        """It is one when it has not announced anything for two seconds; to it, all are at once."""
        mesh = MemoryMesh("ada")
        mute(mesh.add("ben", extensions=False).service.factory)
        joined: list[bytes] = []
        mesh["ada"].service.on_join = lambda link: joined.append(link.id)
        waiting = mesh["ada"].service.when_connected()
        mesh.link("ada", "ben")
        self.successResultOf(mesh["ben"].service.when_connected())
        mesh.advance(1.9)
        self.assertNoResult(waiting)
        mesh.advance(0.2)
        self.successResultOf(waiting)
        self.assertEqual(joined, [mesh["ben"].id])

    def test_those_who_have_not_decided_do_not_count(self) -> None:
        """Neither when another peer settles."""
        mesh = MemoryMesh("ada", "cyd")
        mute(mesh.add("ben", extensions=False).service.factory)
        waiting = mesh["ada"].service.when_connected(2)
        mesh.link("ada", "ben")
        mesh.link("ada", "cyd")
        self.successResultOf(mesh["ada"].service.when_connected(1))
        self.assertNoResult(waiting)
        mesh.advance(2)
        self.successResultOf(waiting)

    def test_a_peer_that_goes_before_that(self) -> None:
        """Was never here."""
        mesh = MemoryMesh("ada")
        mute(mesh.add("ben", extensions=False).service.factory)
        told: list[Any] = []
        service = mesh["ada"].service
        service.on_join = service.on_leave = lambda *what: told.append(what)
        mesh.link("ada", "ben")
        mesh.kill("ben")
        mesh.advance(10)
        self.assertEqual(told, [])
        self.assertEqual(service.settled, frozenset())

    def test_the_application_hangs_up_at_once(self) -> None:
        """What was decided together with the connection comes too late then."""
        for extensions in (True, False):
            mesh = MemoryMesh("ada", "ben", extensions=extensions)
            service, told = mesh["ada"].service, []
            service.on_join = lambda link, told=told: told.append("join")
            service.on_leave = lambda link, error, told=told: told.append("leave")
            mesh["ada"].connect(mesh["ben"]).addCallback(service.factory.disconnect)
            mesh.settle()
            self.assertEqual((service.settled, told), (frozenset(), []))
            self.assertNoResult(service.when_connected())

    def test_another_connection_to_a_peer(self) -> None:
        """It is told once, whichever connections to it there are."""
        for extensions in (True, False):
            mesh = MemoryMesh("ada", "ben", extensions=extensions)
            told: list[Any] = []
            replaced = 0
            for node in mesh:
                node.service.on_join = node.service.on_leave = lambda *what, told=told: told.append(
                    what
                )
            for one, other in (("ada", "ben"), ("ben", "ada"), ("ada", "ben")):
                before = mesh[one].service.routing_table.get(mesh[other].id)
                factory = mesh[one].service.factory
                factory.node.dialer.connect(mesh[other].address, 999, factory.now())
                factory.perform(factory.node._decisions())
                mesh.advance(10)
                now = mesh[one].service.routing_table[mesh[other].id]
                replaced += before is not None and now is not before
            self.assertTrue(replaced)
            self.assertEqual(len(told), 2)

    def test_what_an_application_is_told(self) -> None:
        """Of each link that it is there and gone; of a peer that stays both once more."""
        mesh = MemoryMesh("ada", "ben")
        ben = mesh["ben"].id
        told: list[Any] = []
        names = ["peer_joined", "peer_settled", "peer_left", "peer_gone"]
        application = mesh["ada"].service.factory.application = Application()
        for name in names:
            note = lambda link, *_, name=name: told.append((name, link.id))  # noqa: E731
            setattr(application, name, note)
        mesh.link("ada", "ben")
        mesh.kill("ben")
        self.assertEqual(told, [(name, ben) for name in names])

    def test_bootstrap_addresses_are_dialled_for_ever(self) -> None:
        """A bootstrap peer that is not there yet is joined when it comes."""
        mesh = MemoryMesh("ada", "ben")
        address = mesh["ben"].address
        mesh.kill("ben")
        ada = mesh["ada"]
        ada.service.factory.pin(address)
        mesh.advance(3600)
        again = mesh.add("ben again")
        again.service.ports[0].stopListening()
        mesh.network.server(address).listen(again.service.factory)
        mesh.advance(30)
        self.assertIn(again.id, ada.peers)

    def test_a_port_that_is_taken(self) -> None:
        """A service that cannot listen says so, from ``start`` and from ``startService``."""

        class Taken:
            def listen(self, factory: object) -> Deferred[Any]:
                return fail(CannotListenError("", 4444, OSError("in use")))

        for start in ("start", "startService"):
            service = MeshService(
                MemoryMesh().clock,
                "mesh",
                listen=[Taken()],
                advertise=("10.0.0.1", 1),
            )
            if start == "start":
                self.failureResultOf(service.start(), CannotListenError)
            else:
                with self.assertRaises(CannotListenError):
                    service.startService()

    def test_after_stopping(self) -> None:
        """A stopped service refuses politely, and stops only once."""
        mesh = MemoryMesh("ada", "ben")
        mesh.link("ada", "ben")
        service = mesh["ada"].service
        waiting = service.when_connected(5)
        self.successResultOf(self.later(mesh, service.stopService()))
        self.successResultOf(service.stopService())
        self.failureResultOf(waiting, MeshClosed)
        for call in (lambda: service.send("x"), lambda: service.connect("10.0.0.2", 1)):
            with self.assertRaises(MeshClosed):
                call()
        self.assertEqual(service.status["state"], "closed")
        self.assertEqual(mesh.clock.getDelayedCalls()[:0], [])

    def test_stopping_leaves_no_timer(self) -> None:
        """A stopped mesh has nothing more to do."""
        mesh = MemoryMesh("ada", "ben", max_outgoing=4)
        mesh.link("ada", "ben")
        for node in mesh:
            node.service.stopService()
        mesh.advance(10)
        self.assertEqual(mesh.clock.getDelayedCalls(), [])

    def test_a_far_reply_that_finds_nobody(self) -> None:
        """A reply whose receiver is gone fails, and the status says so."""
        mesh = MemoryMesh("ada", "ben", "cyd")
        mesh.link("ada", "ben")
        mesh.link("ben", "cyd")
        mesh["ada"].send("bye")
        mesh.settle()
        mesh.kill("ada")
        done = mesh["cyd"].received[0].reply("too late")
        self.failureResultOf(self.later(mesh, done, 11), ReplyFailed)
        self.assertIn("no way to", str(mesh["cyd"].service.status))

    def test_factory_refuses_before_it_has_started(self) -> None:
        """Connections that come before the node exists are refused."""
        factory = MeshFactory(MemoryMesh().clock, Network(), lambda *_: None)  # type: ignore[arg-type,return-value]
        self.assertIsNone(factory.buildProtocol(None))


class ListenNowhereTests(SynchronousTestCase):
    """A node that listens nowhere joins others, and nobody tries to dial it."""

    def setUp(self) -> None:
        self.patch(service_module, "lan_address", lambda: "10.9.9.9")
        self.mesh = MemoryMesh("ada", "ben", "cyd", max_outgoing=4)
        self.mesh.link("ada", "ben")
        self.mesh.link("ben", "cyd")
        self.mesh.advance(10)
        self.dialled: list[Any] = []
        before = self.mesh.network.connected

        def connected(near: MemoryTransport, far: MemoryTransport) -> None:
            self.dialled.append(near.getPeer())
            before(near, far)

        self.mesh.network.connected = connected

    def member(self, name: str = "guest", **options: Any) -> MeshService:
        """A service that listens nowhere, started."""
        memory, clock = self.mesh.network, self.mesh.clock
        made = MeshService(
            clock,
            "mesh",
            listen=(),
            endpoint_for=lambda there, _: memory.client(("10.9.9.9", 50000), there),
            now=clock.seconds,
            wall=lambda: EPOCH + clock.seconds(),
            rng=random.Random(name),
            salt=name,
            **options,
        )
        made.startService()
        return made

    def join(self, member: MeshService, *names: str) -> None:
        """Connect it to nodes."""
        for name in names:
            connecting = member.connect(*self.mesh[name].address)
            self.mesh.settle()
            self.successResultOf(connecting)

    def known(self) -> set[Any]:
        """All addresses that nodes of the mesh have heard of."""
        return {address for node in self.mesh for address in node.service.factory.node.dialer.known}

    def test_it_opens_no_port(self) -> None:
        """It has an id, and an address that cannot be dialled."""
        member = self.member()
        self.assertEqual((member.ports, member.address), ([], ("10.9.9.9", 0)))
        self.assertNotEqual(member.id, self.member("another").id)

    def test_an_address_that_was_named(self) -> None:
        """Who says where it can be dialled, through a tunnel perhaps, is believed."""
        member = self.member(advertise="192.0.2.9:4444")
        self.assertEqual(member.address, ("192.0.2.9", 4444))

    def test_it_takes_part(self) -> None:
        """It sends, hears, relays and answers like everybody."""
        mesh, member = self.mesh, self.member(max_outgoing=0)
        heard: list[Delivery] = []
        member.on_message = heard.append
        self.join(member, "ada", "cyd")
        member.send("hello")
        mesh.settle()
        self.assertEqual([mesh.inbox(name) for name in ("ada", "ben", "cyd")], [[("hello",)]] * 3)
        mesh["ben"].send("who?")
        mesh.settle()
        self.assertEqual([delivery.packets for delivery in heard], [(0, "who?")])
        answering = heard[0].reply("me")
        mesh.advance(5)
        self.successResultOf(answering)
        self.assertEqual(mesh.inbox("ben")[1:], [("me",)])

    def test_a_bridge(self) -> None:
        """It relays between nodes that have no other way."""
        mesh = self.mesh = MemoryMesh("ada", "ben")
        member = self.member(max_outgoing=0)
        self.join(member, "ada", "ben")
        for number in range(3):
            mesh["ada"].send(number)
        mesh.settle()
        self.assertEqual(mesh.inbox("ben"), [(0,), (1,), (2,)])

    def test_nobody_dials_it(self) -> None:
        """Neither while it is there, nor when its link was lost, nor when it has left."""
        member = self.member(max_outgoing=0)
        self.join(member, "ada")
        self.mesh.advance(60)
        for link in member.routing_table.values():
            link.owner.transport.abortConnection()
        self.mesh.advance(1)
        member.stopService()
        self.mesh.advance(3600)
        self.assertNotIn("10.9.9.9", {peer.host for peer in self.dialled})

    def test_nobody_is_told_of_it(self) -> None:
        """Its neighbours name it to nobody, whoever asks and whenever they come."""
        member = self.member(max_outgoing=0)
        self.join(member, "ada")
        dan = self.mesh.add("dan")
        self.mesh.link("dan", "ada")
        for node in self.mesh:
            node.service.factory.request_peers()
        self.mesh.advance(60)
        hosts = {host for host, _ in self.known()}
        self.assertEqual(hosts, {node.address[0] for node in self.mesh})
        self.assertNotIn(member.id, dan.peers)
        self.assertNotIn("10.9.9.9", {peer.host for peer in self.dialled})

    def test_its_own_address_is_no_answer(self) -> None:
        """
        When somebody asks the network where it lives, nobody says so, not even itself.

        0.6 would dial whatever it is told, and lose the link by which it was told when that
        fails.
        """
        mesh = self.mesh = MemoryMesh("ada", "ben")
        mesh.link("ada", "ben")
        told: list[Any] = []
        member = self.member(max_outgoing=0)
        for node in (mesh["ada"].service, mesh["ben"].service, member):
            node.factory.watch_traffic = True
            self.patch(node, "sent", lambda message, links: told.append(message.payload))
        self.join(member, "ben")
        member.send("who?")
        mesh.settle()
        # Not as an answer, which would find its way back.
        answering = mesh["ada"].service.reply_to(member.id, ("me",))
        mesh.advance(30)
        self.failureResultOf(answering, ReplyFailed)
        sub_flags = [payload[0] for payload in told]
        self.assertIn(flags.REQUEST, sub_flags)
        self.assertNotIn(flags.RESPONSE, sub_flags)

    def test_a_neighbour_answers_it(self) -> None:
        """A reply to it needs no address where the link is."""
        member = self.member(max_outgoing=0)
        heard: list[Any] = []
        member.on_message = lambda delivery: heard.append(delivery.packets)
        self.join(member, "ada")
        member.send("who?")
        self.mesh.settle()
        self.successResultOf(self.mesh["ada"].received[0].reply("me"))
        self.mesh.settle()
        self.assertEqual(heard, [(2, "me")])

    def test_it_learns_of_others(self) -> None:
        """It dials them like everybody, up to its limit, and comes back when they were gone."""
        member = self.member()
        self.join(member, "ada")
        self.mesh.advance(30)
        self.assertEqual(len(member.routing_table), 3)
        for link in member.routing_table.values():
            link.owner.transport.abortConnection()
        self.mesh.advance(60)
        self.assertEqual(len(member.routing_table), 3)

    def test_who_has_read_everything(self) -> None:
        """After a goodbye it is known of each neighbour whether it has read all of ours."""
        member = self.member(max_outgoing=0)
        self.join(member, "ada", "ben", "cyd")
        self.mesh.kill("cyd")
        self.mesh.stall("ben")
        member.send("hello")
        stopping = member.stopService()
        self.mesh.advance(30)
        self.successResultOf(stopping)
        self.assertEqual(member.factory.parted, ["10.0.0.1:4444"])
        self.assertEqual(member.factory.cut_short, ["10.0.0.2:4444"])

    def test_stopping_leaves_no_timer(self) -> None:
        """Who has left has nothing more to do."""
        mesh = self.mesh = MemoryMesh()
        member = self.member()
        member.connect("10.0.0.1", 4444).addErrback(lambda _: None)
        mesh.settle()
        self.successResultOf(member.stopService())
        mesh.advance(10)
        self.assertEqual(mesh.clock.getDelayedCalls(), [])


class AddressTests(SynchronousTestCase):
    def test_forms(self) -> None:
        """Addresses come as ``host:port``, ``[v6]:port`` or pairs."""
        self.assertEqual(to_address("192.0.2.7:4444"), ("192.0.2.7", 4444))
        self.assertEqual(to_address("[2001:db8::1]:4444"), ("2001:db8::1", 4444))
        self.assertEqual(to_address(("node.example", 1)), ("node.example", 1))

    def test_nonsense(self) -> None:
        """What could not be dialled is refused with an example."""
        for bad in ("host", "host:", ":4444", "host:http", "host:70000", ("a",), 7, ("a b", 1)):
            with self.assertRaises(BadArgument):
                to_address(bad)  # type: ignore[arg-type]

    def test_lan_address(self) -> None:
        """There is always an address, if only the loopback one."""
        self.assertRegex(lan_address(), r"^\d+\.\d+\.\d+\.\d+$")
