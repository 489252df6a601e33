"""
``py2p members`` and ``ping``: through a node in memory.
"""

from __future__ import annotations

import json
import signal
from typing import Any

from py2p_twisted import __version__
from py2p_twisted.cli import members, ping
from py2p_twisted.cli.ping import Tally
from tests.cli.test_control import ADA, ControlTestCase


class SurveyTestCase(ControlTestCase):
    """Three members in a row: ada, who can be talked with, ben, cid; and dan, of 0.6, at cid."""

    def setUp(self) -> None:
        super().setUp()
        self.mesh.add("cid")
        self.mesh.link("ben", "cid")
        self.mesh.add("dan", extensions=False)
        self.mesh.link("cid", "dan")
        self.mesh.advance(3)
        for module in (members, ping):
            self.use(module)

    def ident(self, name: str) -> str:
        return self.mesh[name].id.decode()


class MembersTests(SurveyTestCase):
    def test_table(self) -> None:
        """A line each, aligned, the nearest first."""
        self.assertEqual(self.main("members", f"--control={ADA}"), 0)
        head, *rows, empty, last = self.printed().splitlines()
        self.assertEqual(head.split(), ["id", "address", "hops", "round", "trip", "neighbours",
                                        "version"])  # fmt: skip
        ada, ben, cid, dan = (self.ident(name)[:8] for name in ("ada", "ben", "cid", "dan"))
        self.assertEqual(
            [row.split() for row in rows],
            [
                [ada, "10.0.0.1:4444", "0", "this", "node", "1", __version__],
                [ben, "10.0.0.2:4444", "1", "0.000", "ms", "2", __version__],
                [cid, "10.0.0.3:4444", "2", "0.000", "ms", "2", __version__],
                [dan, "-", "-", "-", "-", "py2p", "0.6"],
            ],
        )
        self.assertEqual(len({row.index("ms") for row in rows[1:3]}), 1)
        self.assertEqual(empty, "")
        self.assertRegex(last, r"^3 members, 1 node of py2p 0\.6; it took 0\.\d\d s$")
        self.assertEqual(self.said(), "")

    def test_somebody_is_silent(self) -> None:
        """It says who, and the exit code says it."""
        self.mesh.stall("cid")
        self.assertEqual(self.main("members", f"--control={ADA}"), 1)
        lines = self.printed().splitlines()
        # Nobody who has answered is linked to dan.
        self.assertEqual(
            lines[3].split(), [self.ident("cid")[:8], "-", "-", "no", "answer", "-", "-"]
        )
        self.assertRegex(lines[-1], r"^2 members, 1 without an answer; it took 1\.[56]\d s$")

    def test_alone(self) -> None:
        """Everybody has answered."""
        self.mesh.stop("ben")
        self.mesh.advance(1)
        self.assertEqual(self.main("members", f"--control={ADA}"), 0)
        self.assertEqual(len(self.printed().splitlines()), 4)

    def test_json(self) -> None:
        """One object with whole ids."""
        self.assertEqual(self.main("members", f"--control={ADA}", "--json"), 0)
        said = json.loads(self.printed())
        self.assertEqual(list(said), ["members", "plain", "silent", "seconds", "complete"])
        ids = [self.ident(name) for name in ("ada", "ben", "cid")]
        self.assertEqual([one["id"] for one in said["members"]], ids)
        self.assertEqual(said["members"][1]["neighbours"], [ids[0], ids[2]])
        # Nobody but cid knows it in full.
        self.assertEqual(said["plain"], [self.ident("dan")[:12]])
        self.assertEqual(said["members"][2]["plain"], said["plain"])

    def test_timeout(self) -> None:
        """Somebody does not answer, and there is not so much time."""
        self.mesh.stall("cid")
        begun = self.mesh.clock.seconds()
        self.assertEqual(self.main("members", f"--control={ADA}", "--timeout=0.5"), 1)
        self.assertLess(self.mesh.clock.seconds() - begun, 0.7)

    def test_a_node_that_does_not_answer(self) -> None:
        """As a stopped process: no longer than it was told, and that is what it says."""
        self.mesh.network.connected = lambda near, far: setattr(far, "stalled", True)
        for command in ("members", "ping"):
            begun = self.mesh.clock.seconds()
            code = self.main(command, f"--control={ADA}", "--timeout=0.5")
            self.assert_line(code, 1, f"py2p {command}: the node does not answer within 0.5 s\n")
            self.assertLess(self.mesh.clock.seconds() - begun, 0.6)

    def test_more_time_than_a_survey_takes(self) -> None:
        self.assertEqual(self.main("members", f"--control={ADA}", "--timeout=600"), 0)

    def test_hostile_text(self) -> None:
        """It is spelt."""
        answer = {
            "members": [
                {"id": "\x1b[2J", "address": "\n:1", "hops": 1, "rtt": None, "neighbours": [],
                 "plain": [], "version": "\x07"}
            ],
            "plain": ["\r"], "silent": ["\x00"], "seconds": 0.1, "complete": True,
        }  # fmt: skip
        lines = members.as_table(answer)
        self.assertEqual([line for line in lines if not line.isprintable()], [])

    def test_there_may_be_more(self) -> None:
        """Than are told."""
        answer: dict[str, Any] = {
            "members": [], "plain": [], "silent": [], "seconds": 0.1, "complete": False,
        }  # fmt: skip
        self.assertEqual(members.in_short(answer), "0 members, maybe more; it took 0.10 s")

    def test_a_node_that_is_not_there(self) -> None:
        for command in ("members", "ping"):
            code = self.main(command, "--control=nowhere.sock")
            self.assert_line(code, 1, f"py2p {command}: no running node at nowhere.sock")


class PingTests(SurveyTestCase):
    def test_everybody(self) -> None:
        """Each time a line for each; at the end a line for each."""
        begun = self.mesh.clock.seconds()
        self.assertEqual(self.main("ping", f"--control={ADA}", "--count=3", "--interval=2"), 0)
        took = self.mesh.clock.seconds() - begun
        self.assertTrue(4 < took < 4.5, took)
        ben, cid = (f"{self.ident(name)[:8]} 10.0.0.{number}:4444" for name, number in (
            ("ben", 2), ("cid", 3)))  # fmt: skip
        self.assertEqual(
            self.printed().splitlines(),
            [
                f"{name}: round={number} hops={hops} time=0.000 ms"
                for number in (1, 2, 3)
                for name, hops in ((ben, 1), (cid, 2))
            ]
            + [""]
            + [
                f"{name}: 3 of 3 answered, min/avg/max = 0.000/0.000/0.000 ms"
                for name in (ben, cid)
            ],
        )

    def test_some(self) -> None:
        """Whose ids begin so."""
        cid = self.ident("cid")[:6]
        self.assertEqual(self.main("ping", f"--control={ADA}", "--count=2", cid), 0)
        lines = self.printed().splitlines()
        self.assertEqual([line[:6] for line in lines], [cid, cid, "", cid])

    def test_one_that_does_not_answer(self) -> None:
        """Though another does."""
        code = self.main("ping", f"--control={ADA}", "--count=2", "--json", "x0", self.ident("ben"))
        self.assertEqual(code, 1)
        rows = [json.loads(line) for line in self.printed().splitlines()]
        self.assertEqual([row["answered"] for row in rows[:-1]], [True, False] * 2)
        self.assertEqual(rows[1], {
            "round": 1, "id": "x0", "address": None, "answered": False, "hops": None, "rtt": None,
        })  # fmt: skip
        self.assertEqual(rows[-1]["rounds"], 2)
        self.assertEqual(rows[-1]["summary"][1], {
            "id": "x0", "address": None, "hops": None, "sent": 2, "answered": 0, "min": None,
            "avg": None, "max": None,
        })  # fmt: skip

    def test_one_that_stops_meanwhile(self) -> None:
        """It has answered at first."""
        self.later(0.5, self.mesh.stall, "cid")
        cid = self.ident("cid")
        self.assertEqual(self.main("ping", f"--control={ADA}", "--count=2", cid), 0)
        lines = self.printed().splitlines()
        self.assertEqual(lines[1], f"{cid[:8]} 10.0.0.3:4444: round=2 no answer")
        self.assertIn(": 1 of 2 answered, min/avg/max", lines[-1])

    def test_nobody(self) -> None:
        """But this node."""
        self.mesh.stop("ben")
        self.mesh.advance(1)
        self.assertEqual(self.main("ping", f"--control={ADA}", "--count=1"), 1)
        self.assertEqual(self.printed(), "\nthere is nobody but this node\n")

    def test_until_it_is_told_to_stop(self) -> None:
        """What is known is said."""
        self.later(10.2, self.interrupt, signal.SIGINT)
        code = self.main("ping", f"--control={ADA}", "--count=0", self.ident("ben"))
        self.assertEqual((code, self.said()), (130, "py2p ping: interrupted\n"))
        self.assertIn(": 11 of 11 answered", self.printed().splitlines()[-1])

    def test_wrong_usage(self) -> None:
        for arguments, words in (
            (["--interval=0.4"], "expected 0.5 seconds or more, for example 2, not '0.4'"),
            (["--count=-1"], "--count"),
            ([""], "an ID has one character at least"),
        ):
            self.assert_line(self.main("ping", *arguments), 2, words)

    def test_help(self) -> None:
        """Each explains itself, on the usual terminal."""
        for name in ("members", "ping"):
            self.assertEqual(self.main(name, "--help"), 0)
            text = self.printed()
            self.assertIn("examples:", text)
            self.assertLess(max(map(len, text.splitlines())), 80)


class TallyTests(SurveyTestCase):
    def answer(self, *rows: tuple[str, float | None]) -> dict[str, Any]:
        return {
            "members": [
                {"id": ident, "address": None, "hops": number, "rtt": rtt}
                for number, (ident, rtt) in enumerate((("me", 0.0), *rows))
            ]
        }

    def test_summary(self) -> None:
        """Least, mean and most; of those that are known."""
        tally = Tally([])
        for rtt in (0.002, None, 0.004):
            tally.add(self.answer(("one", rtt)))
        (one,) = tally.as_object()["summary"]
        self.assertEqual((one["min"], one["avg"], one["max"]), (0.002, 0.003, 0.004))
        self.assertEqual((one["sent"], one["answered"]), (3, 3))

    def test_members_without_end(self) -> None:
        """So many are followed."""
        self.patch(ping, "MOST", 3)
        tally = Tally([])
        for number in range(5):
            rows = tally.add(self.answer(("first", 0.1), (f"new{number}", 0.1)))
        self.assertEqual([row["id"] for row in rows], ["first", "new0", "new1"])
        self.assertEqual([row["answered"] for row in rows], [True, False, False])

    def test_one_that_is_found_later(self) -> None:
        """It was asked before, and did not answer; who was not named counts from then on."""
        for wanted, sent in ((["on", "on"], 3), ([], 2)):
            tally = Tally(wanted)
            tally.add(self.answer())
            self.assertFalse(tally.answered)
            for _ in range(2):
                tally.add(self.answer(("one", 0.1)))
            (one,) = tally.as_object()["summary"]
            self.assertEqual((one["sent"], one["answered"]), (sent, 2))
            self.assertTrue(tally.answered)
