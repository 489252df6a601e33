"""Surveys at the documented face."""

from __future__ import annotations

from py2p_twisted.errors import BadArgument, MeshClosed
from tests.mesh.support import SocketTestCase


class SurveyTests(SocketTestCase):
    def test_it_can_be_waited_for(self) -> None:
        """It resolves to who is there."""
        ada, ben, cyd = self.chain(3)
        self.world.advance(3)
        surveying = ada.survey()
        self.assertEqual(repr(surveying), "<Surveying, under way>")
        self.world.advance(0.5)
        survey = surveying.wait(0)
        self.assertEqual([one.id for one in survey.members], [ada.id, ben.id, cyd.id])
        self.assertEqual([one.hops for one in survey.members], [0, 1, 2])
        self.assertEqual(survey.members[2].address, cyd.out_addr)
        self.assertTrue(survey.complete)

    def test_somebody_is_silent(self) -> None:
        """After the timeout it is over."""
        ada, _ben, cyd = self.chain(3)
        self.world.advance(3)
        cyd._factory.node.mesh.surveys.asked = lambda *arguments: None  # type: ignore[method-assign]
        surveying = ada.survey(timeout=0.8)
        self.world.advance(0.7)
        self.assertFalse(surveying.done())
        self.world.advance(0.2)
        self.assertEqual(surveying.wait(0).silent, {cyd.id[:12]})

    def test_mistakes(self) -> None:
        """They are told where it is asked for."""
        one, _ = self.pair()
        for timeout in (0, 61, "x"):
            with self.assertRaises(BadArgument):
                one.survey(timeout)  # type: ignore[arg-type]
        one.close()
        with self.assertRaises(MeshClosed):
            one.survey()
