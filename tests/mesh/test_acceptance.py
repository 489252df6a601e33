"""
Every promise of the seed document, line by line. The numbers are those of the checklist in
docs/acceptance.rst; where a promise needs real sockets or processes, the test of that name
stands in tests/integration.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
from typing import Any
from unittest import mock

from py2p_twisted import base, mesh
from py2p_twisted.errors import NetworkMismatch, SelfConnection
from tests.mesh.support import SocketTestCase, StillSocket


class SeedDocumentTests(SocketTestCase):
    def test_01_every_participant_gets_every_message(self) -> None:
        """A message sent at one end of a chain reaches every other node, once."""
        sockets = self.chain(5)
        sockets[0].send("storm", "north")
        self.settle()
        for sock in sockets[1:]:
            self.assertEqual([msg.packets[1:] for msg in sock.recv(10)], [("storm", "north")])
        self.assertIsNone(sockets[0].recv())

    def test_02_modules(self) -> None:
        """``mesh``, ``base`` and ``utils`` are there to be imported."""
        for name in ("mesh", "base", "utils"):
            self.assertTrue(importlib.import_module(f"py2p_twisted.{name}"))

    def test_03_a_socket_listens(self) -> None:
        """Making a socket is all it takes to be a node that others can dial."""
        one, other = self.world.socket(), self.world.socket("10.9.9.9", 4567)
        done = one.connect("10.9.9.9", 4567)
        self.settle()
        self.assertEqual(done.result(0).id, other.id)

    def test_04_any_interface_is_announced_as_the_lan_address(self) -> None:
        """``'0.0.0.0'`` takes the LAN address as outward address."""
        with mock.patch("py2p_twisted.net.service.lan_address", return_value="192.168.7.8"):
            sock = self.world.socket("0.0.0.0", 4444)
        self.assertEqual(sock.out_addr, ("192.168.7.8", 4444))

    def test_05_out_addr_is_announced(self) -> None:
        """``out_addr`` is what peers are told to dial."""
        sock = self.world.socket("10.0.0.1", 4444, out_addr=("35.24.77.21", 44565))
        other = self.world.socket("10.0.0.2", 4444)
        other.connect("10.0.0.1", 4444)
        self.settle()
        self.assertEqual(sock.out_addr, ("35.24.77.21", 44565))
        self.assertEqual(other.routing_table[sock.id].addr, ("35.24.77.21", 44565))

    def test_07_ssl(self) -> None:
        """``prot=base.Protocol('mesh', 'SSL')`` gives a network whose links are TLS."""
        one, other = self.pair(prot=base.Protocol("mesh", "SSL"))
        one.send("quietly")
        written: list[bytes] = []
        for transport in list(self.world.network._ready):
            written += transport._written
        self.settle()
        self.assertEqual(other.recv().packets, (0, "quietly"))
        self.assertNotIn(b"quietly", b"".join(written))

    def test_08_ssl_needs_cryptography(self) -> None:
        """Without its libraries, asking for SSL is an ImportError when the socket is made."""
        with (
            mock.patch.dict("sys.modules", {"twisted.internet.ssl": None}),
            self.assertRaises(ImportError) as caught,
        ):
            self.world.socket("10.0.0.1", 1, prot=base.Protocol("mesh", "SSL"))
        self.assertIn("cryptography", str(caught.exception))

    def test_09_the_default_is_plain_text(self) -> None:
        """The default network can be looked up, and is not encrypted."""
        self.assertEqual(mesh.default_protocol, ("mesh", "Plaintext"))
        self.assertEqual(self.world.socket().protocol, mesh.default_protocol)

    def test_10_another_protocol_object_cannot_connect(self) -> None:
        """Sockets of different networks refuse each other, at both ends."""
        one = self.world.socket()
        other = self.world.socket("10.8.0.1", 1, prot=base.Protocol("mesh2", "Plaintext"))
        one.connect(*other.out_addr)
        self.settle()
        self.assertEqual((dict(one.routing_table), dict(other.routing_table)), ({}, {}))
        self.assertEqual((one.awaiting_ids, other.awaiting_ids), ([], []))

    def test_11_the_failure_can_be_seen(self) -> None:
        """The document's check works, and the reason is there for who wants it."""
        one = self.world.socket()
        other = self.world.socket("10.8.0.1", 1, prot=base.Protocol("mesh2", "Plaintext"))
        heard: list[Exception] = []
        one.on("error", lambda sock, error: heard.append(error))
        connecting = one.connect(*other.out_addr)
        self.world.advance(1)
        self.assertFalse(one.routing_table)
        self.assertIsInstance(connecting.exception(0), NetworkMismatch)
        self.assertIsInstance(heard[0], NetworkMismatch)
        for sock in (one, other):
            self.assertIn("network", sock.status["errors"][0])

    def test_12_connect(self) -> None:
        """``connect`` dials a node; dialling oneself is recognised."""
        one, other = self.pair()
        self.assertIn(one.id, other.routing_table)
        to_itself = one.connect(*one.out_addr)
        self.settle()
        self.assertIsInstance(to_itself.exception(0), SelfConnection)

    def test_13_each_argument_is_a_packet(self) -> None:
        """What is sent arrives, one packet an argument, each in its own type."""
        one, other = self.pair()
        one.send("text", b"bytes", 7, None, 1.5, True, [1, "a"], {"k": b"v"})
        self.settle()
        self.assertEqual(
            other.recv().packets[1:], ("text", b"bytes", 7, None, 1.5, True, [1, "a"], {"k": b"v"})
        )

    def test_14_broadcasts_are_relayed(self) -> None:
        """``flag=flags.broadcast`` reaches nodes further away."""
        a, _b, c = self.chain(3)
        a.send("far", flag=base.flags.broadcast)
        self.settle()
        self.assertEqual(c.recv().packets, (0, "far"))

    def test_15_whispers_are_not_relayed(self) -> None:
        """``flag=flags.whisper`` reaches the neighbours and nobody else."""
        a, b, c = self.chain(3)
        a.send("near", flag=base.flags.whisper)
        self.settle()
        self.assertEqual(b.recv().packets, (0, "near"))
        self.assertIsNone(c.recv())

    def test_16_type_chooses_the_sub_flag(self) -> None:
        """``type=`` is the first packet; other types than 0 and 2 are for handlers alone."""
        one, other = self.pair()
        seen: list[Any] = []
        other.register_handler(lambda msg, handler: seen.append(msg.packets))
        one.send("x", type=0x40)
        one.send("y", type=base.flags.whisper)
        self.settle()
        self.assertEqual(seen, [(0x40, "x"), (2, "y")])
        self.assertEqual([msg.packets for msg in other.recv(5)], [(2, "y")])

    def test_17_recv_gives_a_message_or_none(self) -> None:
        """``recv()`` takes the oldest message, or says that there is none."""
        one, other = self.pair()
        self.assertIsNone(other.recv())
        one.send(1)
        one.send(2)
        self.settle()
        self.assertEqual((other.recv().packets[1], other.recv().packets[1]), (1, 2))
        self.assertIsNone(other.recv())

    def test_18_recv_of_a_number_gives_a_list(self) -> None:
        """``recv(10)`` gives up to ten messages; each can be replied to."""
        one, other = self.pair()
        self.assertEqual(other.recv(10), [])
        for number in range(12):
            one.send(number)
        self.settle()
        for msg in other.recv(10):
            msg.reply("Replying to a list")
        self.settle()
        self.assertEqual(len(other.recv(10)), 2)
        self.assertEqual(other.recv(0), [])
        self.assertEqual(other.recv(-1), [])
        self.assertEqual(len(one.recv(100)), 10)

    def test_19_packets_print_as_in_the_document(self) -> None:
        """``packets`` prints like a list, and equals tuples and lists."""
        one, other = self.pair()
        one.send("Did you get this?")
        self.settle()
        other.recv().reply(b"yes", b"I did")
        self.settle()
        packets = one.recv().packets
        self.assertEqual(str(packets), "[2, b'yes', b'I did']")
        self.assertEqual(packets, (2, b"yes", b"I did"))
        self.assertEqual(packets, [2, b"yes", b"I did"])
        self.assertIsInstance(packets, tuple)

    def test_20_messages_print_as_in_the_document(self) -> None:
        """``print(msg)`` shows type, packets and sender."""
        one, other = self.pair()
        one.send("Did you get this?")
        self.settle()
        other.recv().reply(b"yes", b"I did")
        self.settle()
        self.assertEqual(
            str(one.recv()), f"message(type=2, packets=[b'yes', b'I did'], sender={other.id!r})"
        )

    def test_21_sender(self) -> None:
        """``msg.sender`` is the id of the sender, as base 58 bytes."""
        one, other = self.pair()
        one.send("x")
        self.settle()
        sender = other.recv().sender
        self.assertEqual(sender, one.id)
        self.assertIn(len(sender), (65, 66))
        self.assertGreater(base.from_base_58(sender), 0)

    def test_22_reply_goes_to_the_sender(self) -> None:
        """``msg.reply`` answers directly, with whisper as its type."""
        a, b, c = self.chain(3)
        b.send("who?")
        self.settle()
        done = c.recv().reply("me")
        self.settle()
        self.assertIsNone(done.result(0))
        self.assertEqual(b.recv().packets, (2, "me"))
        self.assertIsNone(a.recv(2)[-1:] and a.recv())

    def test_23_reply_to_a_node_that_is_no_neighbour(self) -> None:
        """A sender several hops away is looked for, dialled, and gets its reply."""
        sockets = self.chain(4)
        sockets[0].send("anybody?")
        self.settle()
        done = sockets[3].recv().reply("here")
        self.world.advance(1)
        self.assertIsNone(done.result(0))
        self.assertEqual(sockets[0].recv().packets, (2, "here"))

    def test_24_events_in_all_their_forms(self) -> None:
        """``on``, ``once`` and the decorator form work as in pyee."""
        one, other = self.world.socket(), self.world.socket()
        calls: list[str] = []

        @one.on("connect")
        def decorated(conn: StillSocket) -> None:
            calls.append("decorated")

        one.on("connect", lambda conn: calls.append("on"))
        one.once("connect", lambda conn: calls.append("once"))
        self.join(one, other)
        self.assertEqual(sorted(calls), ["decorated", "on", "once"])
        one.remove_listener("connect", decorated)
        self.assertEqual(len(one.listeners("connect")), 1)

    def test_25_connect_fires_when_the_network_is_there(self) -> None:
        """``connect`` gets the socket, at both ends, and the peer can be used by then."""
        one, other = self.world.socket(), self.world.socket()
        tables: list[tuple[StillSocket, int]] = []
        for sock in (one, other):
            sock.on("connect", lambda conn: tables.append((conn, len(conn.routing_table))))
        one.on("connect", lambda conn: conn.send("from the callback"))
        self.join(one, other)
        self.assertEqual(sorted(tables, key=lambda item: item[0] is other), [(one, 1), (other, 1)])
        self.assertEqual(other.recv().packets[1], "from the callback")

    def test_26_connect_fires_again_after_a_failure(self) -> None:
        """A lost link comes back by itself: ``on`` hears of it again, ``once`` does not."""
        one, other = self.world.socket(), self.world.socket()
        calls: list[str] = []
        one.on("connect", lambda conn: calls.append("on"))
        one.once("connect", lambda conn: calls.append("once"))
        self.join(one, other)
        for transport in (face._link.owner.transport for face in one.routing_table.values()):
            transport.abortConnection()
        self.settle()
        self.assertFalse(one.routing_table)
        self.world.advance(3)
        self.assertIn(other.id, one.routing_table)
        self.assertEqual(calls.count("on"), 2)
        self.assertEqual(calls.count("once"), 1)

    def test_27_message_fires_for_what_no_handler_took(self) -> None:
        """``message`` gets the socket alone, and nothing for messages of the node itself."""
        one, other = self.world.socket(), self.world.socket()
        calls: list[tuple[Any, ...]] = []
        other.on("message", lambda *args: calls.append(args))
        self.join(one, other)
        self.assertEqual(calls, [])
        one.send("x")
        self.settle()
        self.assertEqual(calls, [(other,)])

    def test_28_the_callback_receives_and_replies(self) -> None:
        """The document's callback works; a second one finds nothing left and minds it not."""
        one, other = self.pair()
        rest: list[Any] = []

        def handle_msg(conn: StillSocket) -> None:
            msg = conn.recv()
            if msg is not None:
                msg.reply("this is an example")

        other.on("message", handle_msg)
        other.on("message", lambda conn: rest.append(conn.recv()))
        one.send("x")
        self.settle()
        self.assertEqual(one.recv().packets, (2, "this is an example"))
        self.assertEqual(rest, [None])

    def test_29_handlers_come_after_the_defaults(self) -> None:
        """Registered handlers never see what the node itself deals with."""
        one, other = self.world.socket(), self.world.socket()
        seen: list[Any] = []
        other.register_handler(lambda msg, handler: seen.append(msg.packets[0]))
        self.join(one, other)
        one.send("x")
        self.settle()
        self.assertEqual(seen, [0])

    def test_30_the_first_handler_that_says_true_ends_it(self) -> None:
        """Handlers are asked like ``Array.some()``: then there is no queue and no event."""
        one, other = self.pair()
        calls: list[str] = []
        other.on("message", lambda conn: calls.append("event"))
        other.register_handler(lambda msg, handler: calls.append("first"))
        other.register_handler(lambda msg, handler: calls.append("second") or msg.packets[1] == 1)
        other.register_handler(lambda msg, handler: calls.append("third"))
        one.send(1)
        self.settle()
        self.assertEqual(calls, ["first", "second"])
        self.assertIsNone(other.recv())
        calls.clear()
        one.send(2)
        self.settle()
        self.assertEqual(calls, ["first", "second", "third", "event"])

    def test_31_handlers_get_message_and_connection(self) -> None:
        """A handler gets the message and the neighbour that brought it."""
        a, b, c = self.chain(3)
        seen: list[tuple[Any, Any]] = []
        c.register_handler(lambda msg, handler: seen.append((msg, handler)))
        a.send("x")
        self.settle()
        msg, handler = seen[0]
        self.assertIsInstance(msg, base.message)
        self.assertIsInstance(handler, mesh.mesh_connection)
        self.assertEqual((msg.sender, handler.id), (a.id, b.id))
        self.assertIs(handler, c.routing_table[b.id])

    def test_32_a_handler_replies(self) -> None:
        """The document's first handler: it replies, and nothing is queued."""
        one, other = self.pair()

        def register_1(msg: base.message, handler: mesh.mesh_connection) -> bool | None:
            packets = msg.packets
            if packets[1] == b"test":
                msg.reply(b"success")
                return True
            return None

        other.register_handler(register_1)
        one.send(b"test")
        one.send(b"not a test")
        self.settle()
        self.assertEqual(one.recv().packets, (2, b"success"))
        self.assertEqual([msg.packets[1] for msg in other.recv(5)], [b"not a test"])

    def test_33_a_handler_answers_who_relayed(self) -> None:
        """The document's second handler: it answers the neighbour, not the sender."""
        a, b, c = self.chain(3)

        def register_2(msg: base.message, handler: mesh.mesh_connection) -> bool | None:
            if msg.packets[1] == b"test":
                handler.send(base.flags.whisper, base.flags.whisper, b"success")
                return True
            return None

        c.register_handler(register_2)
        a.send(b"test")
        self.settle()
        self.assertEqual([msg.packets for msg in b.recv(5)], [(0, b"test"), (2, b"success")])
        self.assertIsNone(a.recv())

    def test_34_a_handler_takes_two_arguments(self) -> None:
        """Anything but two arguments is a ValueError (three are right if one is self)."""
        sock = self.world.socket()
        for bad in (lambda: None, lambda a: None, lambda a, b, c: None, lambda *a: None):
            with self.assertRaises(ValueError):
                sock.register_handler(bad)
        with self.assertRaises(TypeError):
            sock.register_handler("no function")  # type: ignore[arg-type]
        sock.register_handler(lambda msg, handler: None)
        sock.register_handler(lambda self, msg, handler: None)

    def test_35_debug_level_5_shows_everything(self) -> None:
        """At 5 one sees entry into each handler and every message that goes in or out."""
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            one, other = self.pair(debug_level=5)
            other.register_handler(lambda msg, handler: None)
            one.send("needle")
            self.settle()
        text = printed.getvalue()
        handshake = f"payload=({base.flags.handshake}, "
        for node in (one, other):
            lines = [line for line in text.splitlines() if line.startswith(node._port_text())]
            for verb in ("sending", "message received"):
                self.assertTrue(any(verb in line and handshake in line for line in lines), verb)
        self.assertIn("sending", text)
        self.assertIn("message received", text)
        self.assertIn("checking handler", text)
        self.assertGreaterEqual(text.count("needle"), 2)

    def test_36_debug_level_can_be_changed(self) -> None:
        """``debug_level`` is an attribute, silent at 0 and set at any time."""
        one, other = self.pair()
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            one.send("quiet")
            self.settle()
            self.assertEqual(printed.getvalue(), "")
            other.debug_level = 1
            one.send("loud")
            self.settle()
        self.assertIn("loud", printed.getvalue())
        self.assertEqual(other.debug_level, 1)

    def test_37_names(self) -> None:
        """Every name of the document is there, and so are those of py2p 0.6.757."""
        for module, name in (
            (mesh, "mesh_socket"), (mesh, "mesh_connection"), (mesh, "default_protocol"),
            (base, "Protocol"), (base, "flags"), (base, "message"), (base, "base_socket"),
        ):  # fmt: skip
            self.assertTrue(hasattr(module, name), name)
        self.assertIs(mesh.MeshSocket, mesh.mesh_socket)
        self.assertIs(mesh.MeshConnection, mesh.mesh_connection)
        self.assertIs(base.Message, base.message)
        self.assertIs(base.BaseConnection, base.base_connection)
        self.assertIs(base.BaseSocket, base.base_socket)
        for name in ("packets", "reply"):
            self.assertTrue(hasattr(base.message, name))
        self.assertTrue(issubclass(mesh.mesh_socket, base.base_socket))

    def test_x40_partials_are_handlers(self) -> None:
        """``functools.partial`` objects work as handlers."""
        one, other = self.pair()
        seen: list[Any] = []

        def keep(where: list[Any], msg: base.message, handler: mesh.mesh_connection) -> None:
            where.append(msg.packets[1])

        other.register_handler(functools.partial(keep, seen))
        one.send("x")
        self.settle()
        self.assertEqual(seen, ["x"])
