"""
The mesh socket beyond the seed document: what people then miss, and every mistake that can
be made with it.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any
from unittest import mock

import msgpack
from twisted.internet.error import CannotListenError

from py2p_twisted import base, mesh
from py2p_twisted.base import flags
from py2p_twisted.errors import (
    BadArgument,
    BlockingInReactor,
    ConnectTimeout,
    MeshClosed,
    ReplyFailed,
    WouldBlock,
)
from py2p_twisted.reactor_thread import HANDOVER_LIMIT
from tests.mesh.support import SocketTestCase
from tests.net.wires import look, mute


class SendingTests(SocketTestCase):
    def test_what_cannot_be_sent_is_named(self) -> None:
        """A packet without an encoding is a TypeError in the caller that shows it."""
        one, other = self.pair()
        for bad in ({1, 2}, bytearray(b"x"), object(), [1, {"k": object()}]):
            with self.assertRaises(TypeError):
                one.send("fine", bad)
        with self.assertRaises(TypeError) as caught:
            one.send(2**64)
        self.assertIn(str(2**64), str(caught.exception))
        one.send("still works")
        self.settle()
        self.assertEqual([msg.packets[1] for msg in other.recv(9)], ["still works"])

    def test_too_large(self) -> None:
        """More than ``max_message`` is a ValueError that names both sizes."""
        one, other = self.pair(max_message=10_000)
        with self.assertRaises(ValueError) as caught:
            one.send(b"x" * 10_000)
        self.assertIn("10092", str(caught.exception))
        self.assertIn("10000", str(caught.exception))
        one.send(b"x" * 9_000)
        self.settle()
        self.assertEqual(len(other.recv().packets[1]), 9_000)

    def test_flags_of_the_library_are_refused(self) -> None:
        """An application cannot speak in its node's name."""
        one, _ = self.pair()
        for options in (
            {"type": flags.handshake}, {"type": flags.peers}, {"type": flags.request},
            {"type": flags.response}, {"type": 0x2E}, {"flag": flags.renegotiate},
            {"flag": "broadcast"}, {"type": -1},
        ):  # fmt: skip
            with self.assertRaises(ValueError):
                one.send("x", **options)

    def test_equal_messages_are_messages(self) -> None:
        """Five equal sends within a second are five messages, also two hops away."""
        a, _b, c = self.chain(3)
        for _ in range(5):
            a.send("same")
        self.settle()
        found = c.recv(10)
        self.assertEqual([msg.packets for msg in found], [(0, "same")] * 5)
        self.assertEqual(len({msg.id for msg in found}), 5)

    def test_one_send_over_a_tick_is_one_message(self) -> None:
        """A send to many peers is stamped and encoded once."""
        a, b, c = self.chain(3)
        self.join(c, a)
        with mock.patch.object(a, "_wall", side_effect=[1_790_000_000.9] + [1_790_000_001.1] * 50):
            a.send("tick")
        self.settle()
        for sock in (b, c):
            self.assertEqual([msg.packets[1] for msg in sock.recv(9)], ["tick"])

    def test_without_peers_it_is_kept_for_the_first(self) -> None:
        """What is sent before there is a peer reaches the first who comes, for a while."""
        one, other = self.world.socket(), self.world.socket()
        one.send("too old")
        self.world.advance(56)
        one.send("early")
        one.connect(*other.out_addr)
        one.send("while connecting")
        self.settle()
        self.assertEqual([msg.packets[1] for msg in other.recv(9)], ["early", "while connecting"])

    def test_order_is_kept(self) -> None:
        """Messages of one sender over one link arrive in the order in which they were sent."""
        one, other = self.pair()
        for number in range(500):
            one.send(number)
        self.settle()
        self.assertEqual([msg.packets[1] for msg in other.recv(1000)], list(range(500)))

    def test_a_full_queue_would_block(self) -> None:
        """More than 4 MiB on their way out: ``timeout=`` says how long to wait for room."""
        one, _ = self.pair()
        chunk = b"x" * 1_000_000
        for _ in range(HANDOVER_LIMIT // len(chunk) + 1):
            one.send(chunk)
        with self.assertRaises(WouldBlock):
            one.send(chunk, timeout=0)
        self.settle()
        one.send(chunk, timeout=0)

    def test_a_wrong_sum_of_bytes_blocks_nobody(self) -> None:
        """Threads add to it without a lock: it is put right, and nobody waits for nothing."""
        one, other = self.pair()
        for wrong in (10 * HANDOVER_LIMIT, -10 * HANDOVER_LIMIT):
            one._handover._given += wrong
            one._handover._set_next_stop()
            one.send("x", timeout=0)
            self.settle()
            self.assertEqual(one._handover.waiting, 0)
            self.assertEqual(other.recv().packets[1], "x")

    def test_handler_send_with_another_sender_and_time(self) -> None:
        """``mesh_connection.send`` takes the sender and stamp that py2p's took."""
        one, other = self.pair()
        peer = next(iter(one.routing_table.values()))
        peer.send(flags.whisper, flags.whisper, "x", id=b"somebody", time=1_790_000_003)
        for odd in (b"x" * 257, 7):
            with self.assertRaises(BadArgument):
                peer.send(flags.whisper, flags.whisper, "x", id=odd)
        self.settle()
        msg = other.recv()
        self.assertEqual((msg.sender, msg.time), (b"somebody", 1_790_000_003))
        with self.assertRaises(ValueError):
            peer.send(flags.whisper)


class ReceivingTests(SocketTestCase):
    def test_a_message_knows_its_id_and_time(self) -> None:
        """Every message has an id of 32 bytes and its sender's stamp, also in base 58."""
        one, other = self.pair()
        one.send("x")
        self.settle()
        msg = other.recv()
        self.assertEqual(len(msg.id), 32)
        self.assertEqual(msg.time, 1_790_000_000)
        self.assertEqual(base.from_base_58(msg.time_58), msg.time)
        self.assertEqual(msg.msg.id, msg.id)
        self.assertEqual(msg.msg.packets, (0, one.id, msg.time, 0, "x"))

    def test_unread_messages_give_way_with_a_gap(self) -> None:
        """A full queue loses the oldest messages, and says which."""
        one, other = self.world.socket(), self.world.socket(max_waiting=10)
        gaps: list[Any] = []
        other.on("gap", lambda sock, lost: gaps.extend(msg.packets[1] for msg in lost))
        self.join(one, other)
        for number in range(13):
            one.send(number)
        self.settle()
        self.assertEqual(gaps, [0, 1, 2])
        self.assertEqual([msg.packets[1] for msg in other.recv(99)], list(range(3, 13)))
        self.assertIn("lost", " ".join(other.status["errors"]))

    def test_lost_messages_that_wait_to_be_told_are_bounded(self) -> None:
        """While a callback runs, the latest of them are kept for the next gap."""
        one, other = self.world.socket(), self.world.socket(max_waiting=10)
        gaps: list[list[Any]] = []
        other.on("gap", lambda sock, lost: gaps.append([msg.packets[1] for msg in lost]))
        self.join(one, other)
        other._worker.held = True
        for number in range(100):
            one.send(number)
            self.settle()
        other._worker.release()
        self.settle()
        told = [number for gap in gaps for number in gap]
        self.assertLessEqual(len(told), 20)
        self.assertEqual(told, sorted(set(told)))
        self.assertIn("lost", " ".join(other.status["errors"]))

    def test_the_queue_is_bounded_in_bytes_too(self) -> None:
        """Few large messages count as much as many small ones."""
        one, other = self.pair(max_waiting_bytes=30_000)
        for number in range(5):
            one.send(number, b"x" * 10_000)
        self.settle()
        self.assertEqual([msg.packets[1] for msg in other.recv(99)], [3, 4])

    def test_what_a_message_takes_in_memory_counts(self) -> None:
        """A list of empty lists is sixty times as large here as it was on the wire."""
        one, other = self.pair(max_waiting_bytes=3_000_000)
        for number in range(5):
            one.send(number, [[]] * 10_000)
        self.settle()
        self.assertEqual([msg.packets[1] for msg in other.recv(99)], [2, 3, 4])

    def test_a_sleeping_callback_loses_nothing_within_the_bound(self) -> None:
        """While a callback runs, messages wait for it, in order, up to the bound."""
        one, other = self.world.socket(), self.world.socket(max_waiting=5)
        seen: list[Any] = []
        other.register_handler(lambda msg, handler: seen.append(msg.packets[1]) or True)
        self.join(one, other)
        other._worker.held = True  # type: ignore[union-attr]
        for number in range(7):
            one.send(number)
        self.settle()
        self.assertEqual(seen, [])
        other._worker.release()  # type: ignore[union-attr]
        self.assertEqual(seen, [2, 3, 4, 5, 6])

    def test_relaying_does_not_wait_for_callbacks(self) -> None:
        """A node whose callback sleeps still passes messages on."""
        a, b, c = self.chain(3)
        b.on("message", lambda sock: None)
        b._worker.held = True  # type: ignore[union-attr]
        a.send("through")
        self.settle()
        self.assertEqual(c.recv().packets[1], "through")

    def test_nothing_waits_in_the_reactor(self) -> None:
        """Calls that wait are refused in the reactor's thread."""
        one, other = self.world.socket(), self.world.socket()
        self.patch(one._thread, "inside", lambda: True)
        connecting = one.connect("10.5.5.5", 1)
        for call in (
            lambda: one.recv(timeout=1),
            lambda: one.wait_connected(1),
            lambda: connecting.wait(1),
            lambda: connecting.exception(1),
            lambda: next(iter(one)),
        ):
            with self.assertRaises(BlockingInReactor):
                call()
        self.assertIsNone(one.recv())
        self.assertIsNotNone(other)

    def test_recv_with_a_timeout_takes_what_is_there(self) -> None:
        """``recv(timeout=)`` does not wait when there is something."""
        one, other = self.pair()
        one.send(1)
        one.send(2)
        one.send(3)
        self.settle()
        self.assertEqual(other.recv(timeout=60).packets[1], 1)
        self.assertEqual(len(other.recv(5, timeout=60)), 2)
        self.assertIsNone(other.recv(timeout=0))
        self.assertEqual(other.recv(5, timeout=0), [])


class CallbackTests(SocketTestCase):
    def test_a_callback_that_raises_costs_nothing(self) -> None:
        """The link stays, the message stays, the other callbacks run, and status tells."""
        one, other = self.world.socket(), self.world.socket()
        calls: list[str] = []

        def bad_listener(sock: Any) -> None:
            raise RuntimeError("oops in a listener")

        def bad_handler(msg: Any, handler: Any) -> None:
            raise RuntimeError("oops in a handler")

        other.on("connect", bad_listener)
        other.on("message", bad_listener)
        other.on("message", lambda sock: calls.append("listener"))
        other.register_handler(bad_handler)
        other.register_handler(lambda msg, handler: calls.append("handler"))
        with contextlib.redirect_stdout(io.StringIO()):
            self.join(one, other)
            one.send("x")
            self.settle()
        self.assertEqual(calls, ["handler", "listener"])
        self.assertEqual(other.recv().packets[1], "x")
        self.assertIn(one.id, other.routing_table)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 3)
        self.assertNotEqual(other.status, "Nominal")
        self.assertIn("oops in a handler", str(other.status))
        # Every line of a traceback stands below the word that it belongs to.
        self.assertIn("\n    Traceback", str(other.status))
        self.assertNotIn("\n  File", str(other.status))

    def test_a_callback_cannot_end_the_program(self) -> None:
        """``sys.exit()`` in a callback, and the like, is one more exception."""
        one, other = self.world.socket(), self.world.socket()
        for error in (SystemExit(3), KeyboardInterrupt(), GeneratorExit()):
            other.register_handler(mock.create_autospec(lambda msg, conn: None, side_effect=error))
        with contextlib.redirect_stdout(io.StringIO()):
            self.join(one, other)
            one.send("x")
            self.settle()
        self.assertEqual(other.recv().packets[1], "x")
        self.assertEqual(
            len(self.flushLoggedErrors(SystemExit, KeyboardInterrupt, GeneratorExit)), 3
        )

    def test_coroutine_functions_are_refused(self) -> None:
        """They would be called and never awaited, so registering one is a TypeError."""
        sock = self.world.socket()

        async def listener(conn: Any) -> None: ...

        async def handler(msg: Any, conn: Any) -> None: ...

        for register in (
            lambda: sock.on("message", listener),
            lambda: sock.once("message", listener),
            lambda: sock.register_handler(handler),
        ):
            with self.assertRaises(TypeError):
                register()

    def test_send_and_connect_inside_callbacks(self) -> None:
        """Everything may be called from a callback."""
        a, b, c = (self.world.socket() for _ in range(3))
        b.once("connect", lambda sock: sock.connect(*c.out_addr))
        c.on("message", lambda sock: sock.send("echo"))
        self.join(a, b)
        self.settle()
        a.send("call")
        self.settle()
        self.assertEqual(a.recv().packets[1], "echo")
        self.assertEqual([msg.packets[1] for msg in b.recv(5)], ["call", "echo"])


class ConnectingTests(SocketTestCase):
    def test_refused(self) -> None:
        """Nobody listens: ConnectionRefusedError that names the address, and a status."""
        sock = self.world.socket()
        done = sock.connect("10.7.7.7", 7)
        self.settle()
        self.assertIsInstance(done.exception(0), ConnectionRefusedError)
        self.assertIn("10.7.7.7:7", str(done.exception(0)))
        self.assertNotEqual(sock.status, "Nominal")

    def test_silence(self) -> None:
        """Somebody listens and says nothing: HandshakeTimeout, within ten seconds."""
        from twisted.internet.protocol import Factory, Protocol

        self.world.network.server(("10.7.7.7", 7)).listen(Factory.forProtocol(Protocol))
        sock = self.world.socket()
        done = sock.connect("10.7.7.7", 7)
        self.world.advance(9)
        self.assertIn("handshake", str(done.exception(0)))

    def test_connecting_twice_changes_nothing(self) -> None:
        """A second connect to a neighbour resolves to the link that is there."""
        one, other = self.pair()
        again = one.connect(*other.out_addr)
        back = other.connect(*one.out_addr)
        self.settle()
        self.assertIs(again.result(0), one.routing_table[other.id])
        self.assertIs(back.result(0), other.routing_table[one.id])
        self.assertEqual(len(one.routing_table), 1)

    def test_unusable_addresses(self) -> None:
        """Nonsense is a ValueError at once."""
        sock = self.world.socket()
        for host, port in (("", 1), ("a b", 1), ("host", 0), ("host", 70_000), ("host", "1")):
            with self.assertRaises(ValueError):
                sock.connect(host, port)  # type: ignore[arg-type]

    def test_the_wrong_node_answers(self) -> None:
        """With an id given, another node at that address is refused."""
        one, other = self.world.socket(), self.world.socket()
        done = one.connect(*other.out_addr, id=b"somebodyelse")
        self.settle()
        self.assertIn("expected peer", str(done.exception(0)))
        self.assertFalse(one.routing_table)

    def test_wait_connected_says_why(self) -> None:
        """When there are no peers in time, the TimeoutError holds what failed lately."""
        sock = self.world.socket()
        sock.connect("10.7.7.7", 7)
        self.settle()
        with self.assertRaises(ConnectTimeout) as caught:
            sock.wait_connected(timeout=0)
        self.assertIn("refuses connections", str(caught.exception))

    def test_wait_connected_returns_the_socket(self) -> None:
        """When they are there it returns at once."""
        one, _ = self.pair()
        self.assertIs(one.wait_connected(0), one)

    def test_wait_connected_counts_peers_that_stay(self) -> None:
        """Who merely has a look is in the routing table, and no peer to wait for."""
        one, _ = self.pair(active_view=1)
        other, _ = self.pair(active_view=1)
        look(other._factory, one.out_addr, one.id)
        self.settle()
        for sock in (one, other):
            self.assertEqual(len(sock.routing_table), 2)
            with self.assertRaises(ConnectTimeout) as caught:
                sock.wait_connected(timeout=0, peers=2)
            self.assertIn("1 of 2 peers", str(caught.exception))
            self.assertIn("connected to 1 more", str(caught.exception))
            self.assertIs(sock.wait_connected(0), sock)

    def test_wait_connected_does_not_count_the_undecided(self) -> None:
        """Neither when another peer has settled."""
        one, other = self.world.socket(), self.world.socket()
        plain = self.world.socket(extensions=False)
        mute(plain._factory)
        self.join(one, plain)
        self.join(one, other)
        one.wait_connected(0)
        self.assertRaises(ConnectTimeout, one.wait_connected, timeout=0, peers=2)
        self.world.advance(2)
        one.wait_connected(0, peers=2)

    def test_wait_connected_when_a_peer_has_gone(self) -> None:
        """It counts no more."""
        one, other = self.pair()
        other.close()
        self.world.advance(1)
        self.assertRaises(ConnectTimeout, one.wait_connected, timeout=0)
        one.close()
        self.assertRaises(MeshClosed, one.wait_connected, timeout=0)

    def test_a_look_is_a_connect(self) -> None:
        """The event tells of the first peer at all: what is sent from then on is heard."""
        one, other = self.world.socket(), self.world.socket(extensions=False)
        mute(other._factory)
        seen: list[int] = []
        one.on("connect", lambda sock: seen.append(len(sock.routing_table)))
        one.connect(*other.out_addr)
        self.settle()
        self.assertEqual(seen, [1])
        self.assertRaises(ConnectTimeout, one.wait_connected, timeout=0)
        self.world.advance(2)
        self.assertIs(one.wait_connected(0), one)
        self.assertEqual(seen, [1])

    def test_a_kept_connection_is_the_peer(self) -> None:
        """Also when another connection to it has taken its place."""
        one, other = self.pair()
        kept = one.routing_table[other.id]
        for sock, there in ((other, one), (one, other)):
            sock._factory.node.dialer.connect(there.out_addr, 999, sock._factory.now())
            sock._factory.perform(sock._factory.node._decisions())
            self.world.advance(5)
        kept.send(flags.whisper, flags.whisper, "hello")
        self.settle()
        self.assertEqual(other.recv().packets, (flags.whisper, "hello"))

    def test_another_time_than_now_concerns_that_message_alone(self) -> None:
        """It does not make the node believe that its clock was set back."""
        one, other = self.pair()
        (peer,) = one.routing_table.values()
        for _ in range(2):
            peer.send(flags.broadcast, flags.broadcast, "later", time=int(one._wall()) + 100)
        one.send("now")
        self.settle()
        # Equal ones are the application's business there.
        self.assertEqual([msg.packets[1] for msg in other.recv(9)], ["later", "now"])
        one.send("on")
        self.settle()
        msgpack.unpackb(other.recv()._msg.body)  # without a counter behind it

    def test_a_mistake_in_disconnect_is_told_at_once(self) -> None:
        """And holds up nothing that is sent afterwards."""
        one, other = self.pair()
        self.assertRaises(AttributeError, one.disconnect, None)
        one.send("x")
        self.settle()
        self.assertEqual(other.recv().packets[1], "x")

    def test_disconnect_is_for_good(self) -> None:
        """``disconnect`` closes a link, until one is asked for at this end."""
        one, other = self.pair()
        third = self.world.socket()
        self.join(other, third)
        self.join(third, one)
        one.disconnect(one.routing_table[other.id])
        for _ in range(100):
            self.world.advance(1)
            self.assertEqual(list(one.routing_table), [third.id])
        other.connect(*one.out_addr)
        self.world.advance(1)
        self.assertNotIn(other.id, one.routing_table)
        self.assertEqual(one.status, "Nominal")
        done = one.connect(*other.out_addr)
        self.settle()
        self.assertEqual(done.wait(0).id, other.id)
        self.world.advance(10)
        self.assertIn(other.id, one.routing_table)

    def test_a_reply_needs_a_link(self) -> None:
        """Whoever replies to a peer that it has disconnected asks for a link by that."""
        one, other = self.pair()
        third = self.world.socket()
        self.join(other, third)
        self.join(third, one)
        one.disconnect(one.routing_table[other.id])
        self.world.advance(1)
        other.send("question")
        self.settle()
        one.recv().reply("answer")
        self.world.advance(2)
        self.assertEqual(other.recv().packets, (flags.whisper, "answer"))

    def test_directions(self) -> None:
        """``outgoing`` and ``incoming`` tell who dialled."""
        one, other = self.pair()
        self.assertEqual((list(one.outgoing), list(one.incoming)), ([other.id], []))
        self.assertEqual((list(other.outgoing), list(other.incoming)), ([], [one.id]))

    def test_peers_find_each_other(self) -> None:
        """Nodes that know only the first one learn of each other and connect."""
        first = self.world.socket(max_outgoing=4)
        others = [self.world.socket(max_outgoing=4) for _ in range(4)]
        for sock in others:
            self.join(sock, first)
        self.world.advance(3)
        for sock in others:
            self.assertGreaterEqual(len(sock.routing_table), 3)
            self.assertLessEqual(len(list(sock.outgoing)), 4)


class ReplyTests(SocketTestCase):
    def test_several_replies_in_one_second(self) -> None:
        """Each of several replies to a far sender arrives, in order."""
        sockets = self.chain(4)
        sockets[0].send("ask")
        self.settle()
        msg = sockets[3].recv()
        waiting = [msg.reply("answer", number) for number in range(5)]
        self.world.advance(2)
        self.assertEqual([done.result(0) for done in waiting], [None] * 5)
        self.assertEqual([m.packets[2] for m in sockets[0].recv(9)], [0, 1, 2, 3, 4])

    def test_a_reply_to_nobody_fails_visibly(self) -> None:
        """A sender that is gone: ReplyFailed after a while, as a result, an event and a status."""
        a, b, c = self.chain(3)
        a.send("bye")
        self.settle()
        heard: list[Exception] = []
        c.on("error", lambda sock, error: heard.append(error))
        a.close()
        self.settle()
        done = c.recv().reply("too late")
        self.world.advance(11)
        self.assertIsInstance(done.exception(0), ReplyFailed)
        self.assertIsInstance(heard[-1], ReplyFailed)
        self.assertIn("no way to", str(c.status))
        self.assertEqual(c.status["replies waiting"], 0)
        self.assertIsNotNone(b)

    def test_what_cannot_be_sent_cannot_be_replied(self) -> None:
        """Mistakes in a reply are told where it is called."""
        one, other = self.pair()
        one.send("x")
        self.settle()
        msg = other.recv()
        with self.assertRaises(TypeError):
            msg.reply(object())

    def test_a_message_without_a_socket(self) -> None:
        """A message that was made by hand cannot be replied to."""
        msg = base.message(base.InternalMessage(0, b"me", (0, "x")), None)
        with self.assertRaises(ValueError):
            msg.reply("x")

    def test_a_message_in_its_wire_form(self) -> None:
        """It reads what it writes, as py2p's does: also one without any payload."""
        for payload in ((), (0, "x")):
            for methods in ((), base.compression):
                written = base.InternalMessage(2, b"me", payload, methods)
                read = base.InternalMessage.feed_string(written.string, compressions=methods)
                self.assertEqual(read.packets, (2, b"me", written.time, *payload))
                self.assertEqual((read.id, read.string), (written.id, written.string))


class ClosingTests(SocketTestCase):
    def test_close_is_final_and_idempotent(self) -> None:
        """After ``close`` nothing can be sent; what arrived can still be read; peers know."""
        one, other = self.pair()
        one.send("last words")
        self.settle()
        one.close()
        one.close()
        self.settle()
        self.assertFalse(other.routing_table)
        for call in (
            lambda: one.send("x"),
            lambda: one.connect("10.0.0.2", 4444),
            lambda: one.request_peers(),
            lambda: one.reply_to(other.id, "x"),
        ):
            with self.assertRaises(RuntimeError):
                call()
        self.assertEqual(one.status["state"], "closed")
        other.close()
        self.assertEqual(other.recv().packets[1], "last words")

    def test_close_flushes(self) -> None:
        """What was sent right before ``close`` still leaves."""
        one, other = self.pair()
        for number in range(100):
            one.send(number, b"x" * 1000)
        one.close()
        self.world.advance(1)
        self.assertEqual(len(other.recv(200)), 100)

    def test_no_callback_after_close(self) -> None:
        """Callbacks that have not begun when a socket is closed never do."""
        one, other = self.pair()
        calls: list[Any] = []
        other.on("message", lambda sock: calls.append(sock))
        other._worker.held = True  # type: ignore[union-attr]
        one.send("x")
        self.settle()
        worker = other._worker
        other.close()
        worker.release()  # type: ignore[union-attr]
        self.assertEqual(calls, [])

    def test_with_closes(self) -> None:
        """A socket is a context manager."""
        with self.world.socket() as sock:
            self.assertEqual(sock.status, "Nominal")
        with self.assertRaises(MeshClosed):
            sock.send("x")

    def test_a_socket_without_its_reactor(self) -> None:
        """Where the reactor has ended, or stayed in another process, everything says so."""
        for forked in (False, True):
            one, other = self.pair()
            one.on("message", lambda sock: None)
            other.send("unread")
            self.settle()
            looking = one.reply_to(b"nobody", "x")
            self.settle()
            self.assertFalse(looking.done())
            one._thread._gone = "gone"
            one._reactor_gone(forked)
            self.assertIsInstance(looking.exception(0), MeshClosed)
            for call in (
                (one.send, "x"),
                (one.connect, "10.0.0.1", 4444),
                (one.wait_connected, 60, 5),
                (one.request_peers,),
            ):
                self.assertRaises(MeshClosed, *call)
            if not forked:
                self.assertEqual(one.recv(timeout=60).packets[1], "unread")
            self.assertRaises(MeshClosed, one.recv, timeout=60)
            self.assertRaises(MeshClosed, one.recv)
            self.assertNotEqual(one.status, "Nominal")
            one.close()
            one._thread._gone = ""

    def test_what_was_sent_leaves_before_the_reactor_stops(self) -> None:
        """A program that just ends has said what it said; a closed socket is not asked."""
        one, other = self.pair()
        self.world.socket().close()
        for number in range(9):
            one.send(number)
        # In this world everybody has the same reactor, but only the first is to end.
        del self.world.clock.triggers[1:]
        self.world.clock.stop()
        self.settle()
        self.assertEqual([msg.packets[1] for msg in other.recv(99)], list(range(9)))
        self.assertEqual(self.world.clock.triggers, [])

    def test_a_reactor_of_the_application_ends(self) -> None:
        """Whoever runs the reactor: after it nothing pretends to go on."""
        one, _ = self.pair()
        self.world.clock.stop()
        self.settle()
        self.assertRaises(MeshClosed, one.send, "x")
        self.assertRaises(MeshClosed, one.connect, "10.0.0.9", 4444)
        self.assertRaises(MeshClosed, one.recv, timeout=60)
        self.assertEqual(list(one), [])
        self.assertNotEqual(one.status, "Nominal")

    def test_closed_sockets_are_let_go(self) -> None:
        """The reactor's thread keeps no list of what has been closed."""
        one = self.world.socket()
        self.assertIn(one._reactor_gone, one._thread._watchers)
        one.close()
        self.assertNotIn(one._reactor_gone, one._thread._watchers)

    def test_pending_connections_are_told(self) -> None:
        """Who waits for a connection when the socket is closed is told so."""
        from twisted.internet.protocol import Factory, Protocol

        self.world.network.server(("10.7.7.7", 7)).listen(Factory.forProtocol(Protocol))
        sock = self.world.socket()
        done = sock.connect("10.7.7.7", 7)
        self.settle()
        sock.close()
        self.world.advance(1)
        self.assertIsInstance(done.exception(0), MeshClosed)

    def test_waiting_for_a_message_ends(self) -> None:
        """A reader that iterates is let go by ``close``."""
        sock = self.world.socket()
        sock.close()
        self.assertEqual(list(sock), [])


class StartingTests(SocketTestCase):
    def test_a_busy_port(self) -> None:
        """A port that is in use is an OSError that names it."""
        import errno

        class Busy:
            def listen(self, factory: Any) -> Any:
                from twisted.internet.defer import fail

                return fail(CannotListenError("", 4444, OSError(errno.EADDRINUSE, "in use")))

        self.patch(mesh, "server_endpoint", lambda *_: Busy())
        with self.assertRaises(OSError) as caught:
            mesh.mesh_socket("10.0.0.1", 4444, reactor=self.world.clock)
        self.assertEqual(caught.exception.errno, errno.EADDRINUSE)
        self.assertIn("10.0.0.1:4444", str(caught.exception))

    def test_unknown_encryption(self) -> None:
        """An encryption that nobody knows is a ValueError from the socket."""
        with self.assertRaises(ValueError) as caught:
            self.world.socket(prot=base.Protocol("mesh", "rot13"))
        self.assertIn("rot13", str(caught.exception))

    def test_unusable_ports_and_options(self) -> None:
        """Ports out of range and unknown options are ValueErrors."""
        for port in (-1, 65536, "4444", True):
            with self.assertRaises(ValueError):
                self.world.socket("10.0.0.1", port)
        with self.assertRaises(ValueError) as caught:
            self.world.socket(max_mesage=5)
        self.assertIn("max_message", str(caught.exception))

    def test_a_state_directory(self) -> None:
        """A program that is started again is the same node; two at once are not possible."""
        directory = self.mktemp()
        first = self.world.socket(state_dir=directory)
        self.assertEqual(first.status["state directory"]["trouble"], "none")
        with self.assertRaises(OSError) as caught:
            self.world.socket(state_dir=directory)
        self.assertIn("in use by the process", str(caught.exception))
        first._service.stopService()
        self.world.settle()
        self.assertEqual(self.world.socket(state_dir=directory).id, first.id)

    def test_nominal(self) -> None:
        """A healthy socket's status equals py2p's word for it, and is a mapping."""
        one, _ = self.pair()
        status = one.status
        self.assertEqual(status, "Nominal")
        self.assertEqual(status["state"], "Nominal")
        self.assertEqual(len(status["peers"]), 1)
        self.assertIn("peers", str(status))
        self.assertEqual(dict(status)["address"], "10.0.0.1:4444")

    def test_repr(self) -> None:
        """A socket says where it is and how many peers it has."""
        one, other = self.pair()
        self.assertEqual(repr(one), "<mesh_socket 10.0.0.1:4444, 1 peers>")
        self.assertIn(other.id.decode(), repr(one.routing_table[other.id]))
