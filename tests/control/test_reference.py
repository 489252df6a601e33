"""
What docs/reference/control.rst says is so.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from py2p_twisted.control import lines, server, words
from py2p_twisted.control.events import KINDS
from tests.control.people import Client, ControlTestCase

TEXT = (Path(__file__).resolve().parents[2] / "docs/reference/control.rst").read_text("utf-8")


def rows(heading: str) -> list[str]:
    """The first cells of the table below a heading."""
    section = re.split(r"\n([A-Z]\w+)\n-+\n", TEXT)
    return re.findall(r"^``(\w+)`` ", section[section.index(heading) + 1], re.M)


class ReferenceTests(ControlTestCase):
    def test_conversations(self) -> None:
        """Each line is answered as it is written there."""
        client = self.connect()
        said = re.findall(r"^    ([<>]) (.*)$", TEXT, re.M)
        self.assertGreater(len(said), 9)
        for (way, request), (back, wanted) in zip(said[::2], said[1::2], strict=True):
            self.assertEqual((way, back), (">", "<"))
            (answer,) = self.say(client, request.encode() + b"\n")
            expected = json.loads(wanted)
            self.assertEqual(list(answer), list(expected))
            for key, value in expected.items():
                pattern = ".+".join(map(re.escape, str(value).split("...")))
                self.assertRegex(str(answer[key]), f"^{pattern}$")
        self.assertEqual(self.mesh.inbox("ben"), [("storm", "north")])

    def test_tables(self) -> None:
        """Requests, what is said of a peer, and events: all of them, and no others."""
        self.mesh.advance(1)
        client = self.connect()
        (peer,) = self.ask(client, "peers")["peers"]
        listed = rows("Requests")
        self.assertEqual(listed[1 : listed.index("id")], [*self.factory.words, "listen"])
        told = {*listed[listed.index("id") :], "duplicates"} - {"key"}
        self.assertEqual(told, set(peer))
        self.say(client, {"do": "members"})
        self.mesh.advance(1)
        (answer,) = client.heard()
        self.assertEqual(rows("Members"), list(answer["members"][0]))
        row = re.search(r"^``members``.*\n(?: .*\n)*", TEXT, re.M)
        assert row is not None
        for key in answer.keys() - {"id", "ok"}:
            self.assertIn(f"``{key}``", row[0])
        self.assertEqual(set(rows("Events")[1:]), {*KINDS, "dropped"})

    def test_answers(self) -> None:
        """The keys of each answer stand in its row."""
        self.mesh.add("cid")
        client = self.connect()
        asked: list[tuple[str, dict[str, Any]]] = [
            ("status", {}),
            ("peers", {}),
            ("send", {"packets": []}),
            ("connect", {"address": "10.0.0.3:4444"}),
            ("disconnect", {"peer": self.mesh["ben"].id.decode()}),
            ("listen", {}),
        ]
        for word, what in asked:
            row = re.search(rf"^``{word}``.*\n(?: .*\n)*", TEXT, re.M)
            assert row is not None
            for key in self.ask(client, word, **what).keys() - {"ok"}:
                self.assertIn(f"``{key}``", row[0], word)
        (answer,) = self.confirmed(client)
        row = re.search(r"^``send``.*\n(?: .*\n)*", TEXT, re.M)
        assert row is not None
        for key in answer.keys() - {"id", "ok"}:
            self.assertIn(f"``{key}``", row[0])

    def confirmed(self, client: Client) -> list[dict[str, Any]]:
        """What is answered when a message is confirmed."""
        self.say(client, {"do": "send", "packets": [], "confirm": True, "timeout": 2})
        self.mesh.advance(3)
        return client.heard()

    def test_limits(self) -> None:
        """The numbers are those of the code."""
        self.assertEqual(
            (
                lines.LINE,
                lines.MOST_VALUES,
                lines.longest_line(100) - lines.LINE,
                server.MOST_CLIENTS,
                server.MOST_PENDING,
                server.MOST_PENDING_BYTES,
                server.A_TURN,
                server.MOST_EVENTS,
                server.MOST_EVENT_BYTES,
                server.TOKEN_TIMEOUT,
                words.SHORTEST,
                server._ID,
                words.VERSION,
            ),
            (2**20, 110_000, 200, 16, 16, 2**20, 16, 1_000, 8 * 2**20, 5.0, 6, 200, 1),
        )
