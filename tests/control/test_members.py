"""
The word ``members``: who is in a node's network.
"""

from __future__ import annotations

from py2p_twisted.core.survey import LONGEST
from tests.control.people import ControlTestCase


class MembersTests(ControlTestCase):
    def test_everybody(self) -> None:
        """The answer comes when all have answered; others do meanwhile."""
        self.mesh.advance(1)
        client = self.connect()
        (first,) = self.say(client, {"id": 1, "do": "members"}, {"id": 2, "do": "peers"})
        self.assertEqual(first["id"], 2)
        self.mesh.advance(0.2)
        (answer,) = client.heard()
        self.assertEqual((answer["id"], answer["ok"], answer["complete"]), (1, True, True))
        ids = [self.mesh[name].id.decode() for name in ("ada", "ben")]
        self.assertEqual([one["id"] for one in answer["members"]], ids)
        self.assertEqual([one["neighbours"] for one in answer["members"]], [[ids[1]], [ids[0]]])

    def test_as_long_as_is_asked_for(self) -> None:
        """Somebody does not answer."""
        self.mesh.advance(1)
        self.mesh.stall("ben")
        client = self.connect()
        self.say(client, {"id": 1, "do": "members", "timeout": 0.5})
        self.mesh.advance(0.4)
        self.assertEqual(client.heard(), [])
        self.mesh.advance(0.2)
        (answer,) = client.heard()
        self.assertEqual((len(answer["members"]), answer["complete"]), (1, False))
        self.assertEqual(answer["silent"], [self.mesh["ben"].id.decode()])

    def test_a_time_that_is_none(self) -> None:
        """It is said which; nobody is asked."""
        client = self.connect()
        for timeout in (0, -1, LONGEST + 1, "5", None, True, [], {}):
            answer = self.ask(client, "members", timeout=timeout)
            self.assertEqual((answer["ok"], answer["reason"]), (False, "bad request"), timeout)
        self.assert_well()

    def test_who_does_not_wait(self) -> None:
        """A client that goes is nobody's trouble."""
        self.mesh.stall("ben")
        client = self.connect()
        self.say(client, {"id": 1, "do": "members"})
        client.transport.loseConnection()
        self.mesh.advance(2)
        self.mesh.unstall("ben")
        self.assert_well()
