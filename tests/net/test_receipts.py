"""Confirmed messages at the Twisted face: who has a message, as a Deferred."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core import flags
from py2p_twisted.core.marker import MARKER, MOST_SECONDS
from py2p_twisted.errors import BadArgument, MeshClosed, MessageTooLarge, NotSendable
from py2p_twisted.net import Receipt
from py2p_twisted.testing import MemoryMesh


class ReceiptTests(SynchronousTestCase):
    def mesh(self, **options: Any) -> MemoryMesh:
        """Three nodes in a row."""
        mesh = MemoryMesh("ada", "ben", "cyd", **options)
        mesh.link("ada", "ben")
        mesh.link("ben", "cyd")
        mesh.advance(5)
        return mesh

    def receipt(self, mesh: MemoryMesh, waiting: Deferred[Receipt], seconds: float) -> Receipt:
        self.assertNoResult(waiting)
        mesh.advance(seconds)
        return self.successResultOf(waiting)

    def test_everybody_has_it(self) -> None:
        """Also who is no neighbour; it arrives as any other message does."""
        mesh = self.mesh()
        receipt = self.receipt(mesh, mesh["ada"].service.send("storm", confirm=True), 3)
        self.assertEqual(receipt.delivered, {mesh["ben"].id, mesh["cyd"].id})
        self.assertTrue(receipt.complete)
        self.assertEqual(mesh.inbox("cyd"), [("storm",)])

    def test_the_missing_are_named_in_time(self) -> None:
        """Who was there before, and reads nothing now."""
        mesh = self.mesh()
        self.receipt(mesh, mesh["ada"].service.send("storm", confirm=True), 3)
        mesh.stall("cyd")
        waiting = mesh["ada"].service.send("rain", confirm=True, timeout=2.5)
        mesh.advance(2.4)
        receipt = self.receipt(mesh, waiting, 0.2)
        self.assertEqual(receipt.missing, {mesh["cyd"].id})
        self.assertEqual((receipt.delivered, receipt.complete), ({mesh["ben"].id}, False))

    def test_plain_nodes_are_unknown(self) -> None:
        """They get the message, and cannot tell."""
        mesh = self.mesh()
        plain = mesh.add("dan", extensions=False)
        mesh.link("cyd", "dan")
        mesh.advance(3)
        receipt = self.receipt(mesh, mesh["ada"].service.send("storm", confirm=True), 3)
        self.assertEqual(receipt.unknown, {plain.id})
        self.assertEqual(receipt.delivered, {mesh["ben"].id, mesh["cyd"].id})
        self.assertEqual(mesh.inbox("dan"), [("storm",)])

    def test_a_request_travels_through_plain_nodes(self) -> None:
        """What is behind is confirmed as far as there is a way back; here there is none."""
        mesh = MemoryMesh("ada", "cyd")
        mesh.add("ben", extensions=False)
        mesh.link("ada", "ben")
        mesh.link("ben", "cyd")
        mesh.advance(3)
        receipt = self.receipt(mesh, mesh["ada"].service.send("storm", confirm=True), 3)
        self.assertEqual((receipt.delivered, receipt.unknown), (set(), {mesh["ben"].id}))
        self.assertEqual(mesh.inbox("cyd"), [("storm",)])
        receipts = mesh["cyd"].service.factory.node.mesh.receipts
        self.assertEqual(receipts.sizes()["ids in receipts"][0], 2)

    def test_the_order_of_sending_is_kept(self) -> None:
        """Confirmed messages and others."""
        mesh = self.mesh()
        for number in range(20):
            mesh["ada"].service.send(number, confirm=bool(number % 3))  # type: ignore[call-overload]
        mesh.settle()
        self.assertEqual(mesh.inbox("cyd"), [(number,) for number in range(20)])

    def test_equal_messages_are_confirmed_each(self) -> None:
        """They are several."""
        mesh = self.mesh()
        waiting = [mesh["ada"].service.send("same", confirm=True) for _ in range(5)]
        mesh.advance(3)
        for each in waiting:
            self.assertEqual(len(self.successResultOf(each).delivered), 2)
        self.assertEqual(mesh.inbox("cyd"), [("same",)] * 5)

    def test_a_node_that_stops_says_what_it_knows(self) -> None:
        """Nobody waits for ever."""
        mesh = self.mesh()
        service = mesh["ada"].service
        waiting = service.send("storm", confirm=True)
        service.stopService()
        mesh.advance(1)
        self.assertFalse(self.successResultOf(waiting).complete)
        with self.assertRaises(MeshClosed):
            service.send("x", confirm=True)

    def test_what_cannot_be_confirmed_is_refused_at_once(self) -> None:
        """Whispers, odd timeouts, nodes that speak 0.6 alone; and what cannot be sent."""
        mesh = self.mesh(max_message=2000)
        ada, plain = mesh["ada"].service, mesh.add("dan", extensions=False).service
        options: list[dict[str, Any]] = [
            {"flag": flags.WHISPER}, {"flag": "x"}, {"type": 0x2E}, {"timeout": 0},
            {"timeout": MOST_SECONDS + 1}, {"timeout": True}, {"timeout": "10"},
            {"timeout": float("nan")},
        ]  # fmt: skip
        for each in options:
            with self.assertRaises(BadArgument):
                ada.send("x", confirm=True, **each)
        with self.assertRaises(BadArgument):
            plain.send("x", confirm=True)
        with self.assertRaises(NotSendable):
            ada.send(object(), confirm=True)
        with self.assertRaises(MessageTooLarge):
            ada.send(b"x" * (2000 - MARKER), confirm=True)
        mesh.settle()
        self.assertEqual(mesh.inbox("ben"), [])
