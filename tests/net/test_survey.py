"""Surveys at the Twisted face: who is in the network, as a Deferred."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted import __version__
from py2p_twisted.core.survey import LONGEST
from py2p_twisted.errors import BadArgument, MeshClosed
from py2p_twisted.net import Member, Survey, status
from py2p_twisted.net.reports import printable
from py2p_twisted.net.status import members_of
from py2p_twisted.testing import MemoryMesh


class SurveyTests(SynchronousTestCase):
    def mesh(self, **options: Any) -> MemoryMesh:
        """Three nodes in a row."""
        mesh = MemoryMesh("ada", "ben", "cyd", **options)
        mesh.link("ada", "ben")
        mesh.link("ben", "cyd")
        mesh.advance(3)
        return mesh

    def survey(self, mesh: MemoryMesh, waiting: Deferred[Survey], seconds: float) -> Survey:
        self.assertNoResult(waiting)
        mesh.advance(seconds)
        return self.successResultOf(waiting)

    def test_everybody_answers(self) -> None:
        """Also who is no neighbour. No application notices."""
        mesh = self.mesh()
        survey = self.survey(mesh, mesh["ada"].service.survey(), 0.2)
        ada, ben, cyd = (mesh[name].id for name in ("ada", "ben", "cyd"))
        self.assertEqual(
            survey.members,
            (
                Member(ada, ("10.0.0.1", 4444), 0, 0.0, (ben[:12],), (), __version__),
                Member(
                    ben, ("10.0.0.2", 4444), 1, survey.members[1].rtt, (ada[:12], cyd[:12]), (),
                    __version__,
                ),
                Member(
                    cyd, ("10.0.0.3", 4444), 2, survey.members[2].rtt, (ben[:12],), (), __version__
                ),
            ),
        )  # fmt: skip
        for member in survey.members:
            self.assertAlmostEqual(member.rtt or 0.0, 0.0, places=4)
        self.assertTrue(survey.complete)
        self.assertLess(survey.seconds, 0.2)
        self.assertEqual([mesh.inbox(name) for name in ("ada", "ben", "cyd")], [[], [], []])

    def test_several_askers_share_one(self) -> None:
        """At one node; others have their own."""
        mesh = self.mesh()
        ada, cyd = mesh["ada"].service, mesh["cyd"].service
        waiting = [ada.survey(), ada.survey(1.0), cyd.survey()]
        counters = ada.factory.node.mesh.counters
        self.assertEqual(counters["surveys"], 1)
        mesh.advance(0.5)
        first, second, third = map(self.successResultOf, waiting)
        self.assertEqual(first, second)
        self.assertEqual([one.hops for one in third.members], [0, 1, 2])

    def test_clocks_do_not_matter(self) -> None:
        """How long something was held is no time of day."""
        mesh = self.mesh()
        mesh["ben"].skew = 800
        survey = self.survey(mesh, mesh["ada"].service.survey(), 0.2)
        self.assertTrue(survey.complete)

    def test_somebody_does_not_answer(self) -> None:
        """It takes a moment longer, and says who."""
        mesh = self.mesh()
        mesh.stall("cyd")
        survey = self.survey(mesh, mesh["ada"].service.survey(), 2)
        self.assertEqual(survey.silent, {mesh["cyd"].id[:12]})
        self.assertEqual((len(survey.members), survey.complete), (2, False))

    def test_one_that_knows_no_surveys(self) -> None:
        """As nodes of earlier versions: it counts what it does not know, and nothing breaks."""
        mesh = self.mesh()
        node = mesh["ben"].service.factory.node
        self.patch(node.mesh.surveys, "asked", lambda *arguments: None)
        survey = self.survey(mesh, mesh["ada"].service.survey(), 2)
        self.assertEqual(survey.silent, {mesh["ben"].id[:12]})
        mesh["ada"].send("storm")
        mesh.settle()
        self.assertEqual(mesh.inbox("cyd"), [("storm",)])

    def test_as_a_mapping(self) -> None:
        """Ids in full where they are known, text that is spelt."""
        mesh = self.mesh()
        dan = mesh.add("dan", extensions=False)
        mesh.link("ada", "dan")
        mesh.advance(3)
        service = mesh["ada"].service
        survey = self.survey(mesh, service.survey(), 0.2)
        ids = [mesh[name].id.decode() for name in ("ada", "ben", "cyd")]
        said = members_of(service.factory, survey)
        self.assertEqual(said["plain"], [dan.id.decode()])
        self.assertEqual(
            said["members"][0],
            {
                "id": ids[0],
                "address": "10.0.0.1:4444",
                "hops": 0,
                "rtt": 0.0,
                "neighbours": [ids[1]],
                "plain": [dan.id.decode()],
                "version": __version__,
            },
        )
        self.assertEqual(said["members"][1]["neighbours"], [ids[0], ids[2]])
        self.assertEqual((said["silent"], said["complete"]), ([], True))
        two = [
            Member(b"%b%d" % (b"x" * 12, n), None, 1, None, (b"x" * 12,), (), "\n") for n in (1, 2)
        ]
        said = members_of(service.factory, Survey((*survey.members, *two), 0.0, True))
        self.assertEqual(said["members"][-1]["neighbours"], ["x" * 12])
        self.assertEqual(said["members"][-1]["version"], "\\n")

    def test_a_long_id_is_not_multiplied(self) -> None:
        """By naming it often: as text it may be a hundred times as long as its name."""
        mesh = self.mesh()
        factory = mesh["ada"].service.factory
        long, usual = b"\x01" * 256, b"6" * 66
        one = Member(long, None, 1, None, (long[:12], usual[:12]) * 128, (), "1")
        other = Member(usual, None, 1, None, (), (), "1")
        seen: list[Any] = []
        self.patch(status, "printable", lambda text: seen.append(text) or printable(text))
        said = members_of(factory, Survey((one, other), 0.0, True))
        self.assertEqual(said["members"][0]["id"], "\\x01" * 256)
        self.assertEqual(set(said["members"][0]["neighbours"]), {"\\x01" * 12, "6" * 66})
        self.assertEqual(len(said["members"][0]["neighbours"]), 256)
        self.assertLess(len(seen), 10)

    def test_who_has_answered_before_is_known(self) -> None:
        """Also while it does not answer any more."""
        mesh = self.mesh()
        service = mesh["ada"].service
        ident = mesh["cyd"].id
        for known in (ident[:12], ident):
            mesh.stall("cyd")
            survey = self.survey(mesh, service.survey(), 2)
            self.assertEqual(members_of(service.factory, survey)["silent"], [known.decode()])
            mesh.unstall("cyd")
            mesh.advance(1)
            survey = self.survey(mesh, service.survey(), 1)
            self.assertTrue(survey.complete)

    def test_a_node_that_stops_says_what_it_knows(self) -> None:
        """Nobody waits for ever."""
        mesh = self.mesh()
        service = mesh["ada"].service
        waiting = service.survey()
        service.stopService()
        mesh.advance(1)
        self.assertFalse(self.successResultOf(waiting).complete)
        with self.assertRaises(MeshClosed):
            service.survey()

    def test_what_is_no_time_is_refused(self) -> None:
        mesh = self.mesh()
        wrong: list[Any] = [0, -1, LONGEST + 1, "5", None, True, float("nan"), 10**400]
        for timeout in wrong:
            with self.assertRaises(BadArgument):
                mesh["ada"].service.survey(timeout)

    def test_without_the_extension(self) -> None:
        """Nobody can be asked; it is said who is there."""
        mesh = MemoryMesh("ada")
        dan = mesh.add("dan", extensions=False)
        mesh.link("ada", "dan")
        mesh.advance(3)
        survey = self.successResultOf(dan.service.survey())
        (member,) = survey.members
        self.assertEqual(member.plain, (mesh["ada"].id[:12],))
        self.assertTrue(survey.complete)
