"""Confirmed messages at the documented face."""

from __future__ import annotations

from py2p_twisted.base import flags
from py2p_twisted.errors import MeshClosed
from tests.mesh.support import SocketTestCase


class ReceiptTests(SocketTestCase):
    def test_what_send_returns_can_be_waited_for(self) -> None:
        """It resolves to who has the message; not to wait is fine."""
        ada, ben, cyd = self.chain(3)
        self.world.advance(5)
        confirming = ada.send("storm", confirm=True)
        self.assertEqual(repr(confirming), "<Confirming, under way>")
        self.world.advance(3)
        receipt = confirming.wait(0)
        self.assertEqual(receipt.delivered, {ben.id, cyd.id})
        self.assertIn("2 delivered", repr(confirming))
        self.assertEqual(cyd.recv().packets, (flags.broadcast, "storm"))
        self.assertIsNone(ada.send("ordinary"))

    def test_the_missing_are_named(self) -> None:
        """After the timeout."""
        ada, _ben, cyd = self.chain(3)
        self.world.advance(5)
        ada.send("storm", confirm=True)
        self.world.advance(3)
        cyd.close()
        self.world.advance(1)
        confirming = ada.send("rain", confirm=True, timeout=2)
        self.world.advance(1.9)
        self.assertFalse(confirming.done())
        self.world.advance(0.2)
        self.assertEqual(confirming.wait(0).missing, {cyd.id})

    def test_mistakes(self) -> None:
        """They are told where the message is sent."""
        one, _ = self.pair()
        for options in ({"flag": flags.whisper}, {"timeout": -1}, {"type": flags.peers}):
            with self.assertRaises(ValueError):
                one.send("x", confirm=True, **options)  # type: ignore[call-overload]
        with self.assertRaises(TypeError):
            one.send(object(), confirm=True)
        confirming = one.send("x", confirm=True)
        one.close()
        self.world.advance(3)
        self.assertTrue(confirming.done())
        with self.assertRaises(MeshClosed):
            one.send("x", confirm=True)
