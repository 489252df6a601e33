"""
Who has a message, in words; and ``py2p send --wait`` in a network in memory.
"""

from __future__ import annotations

import json
import os
import signal
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.cli import progress, receipts, send
from py2p_twisted.cli.receipts import Outcome
from py2p_twisted.cli.running import CommandFailed
from tests.cli.members import FIRST
from tests.cli.screen import ToyTerminal
from tests.cli.test_control import ADA, ControlTestCase


def outcome(delivered: str = "", missing: str = "", unknown: str = "") -> Outcome:
    """One with these ids, a letter each."""
    ids = (list(delivered), list(missing), list(unknown))
    return Outcome(
        *ids, seconds=1.52, last=0.042, complete=bool(not missing and (delivered or unknown))
    )


class OutcomeTests(SynchronousTestCase):
    def test_text(self) -> None:
        """It says what is known, and no more."""
        for one, text in (
            (outcome("a"), "1 member has it (42 ms)"),
            (outcome("ab"), "2 members have it (42 ms)"),
            (outcome("ab", "c"), "2 of 3 members said that they have it (1.5 s)"),
            (outcome("", "c"), "0 of 1 member said that they have it (1.5 s)"),
            (outcome("a", "", "xy"), "1 member has it, 2 nodes of py2p 0.6 cannot tell (42 ms)"),
            (outcome(), "no member was there that could say that it has it (1.5 s)"),
            (
                outcome("", "", "x"),
                "no member was there that could say that it has it, "
                "1 node of py2p 0.6 cannot tell (1.5 s)",
            ),
        ):
            self.assertEqual(one.text, text)

    def test_names(self) -> None:
        """Nothing in them can move the cursor."""
        self.assertEqual(
            outcome("a", "\x1bb", "\n").names, ["missing: \\x1b", "missing: b", "unknown: \\n"]
        )

    def test_an_old_node(self) -> None:
        """It has sent the message and answers as it always did."""
        with self.assertRaisesRegex(CommandFailed, "knows nothing of receipts"):
            receipts.from_answer({"ok": True, "peers": 1})

    def answer(self, **ids: list[str]) -> dict[str, Any]:
        """What a node says."""
        return {"delivered": [], "missing": [], "unknown": [], "seconds": 1.0, "last": 0.5,
                "complete": True, **ids}  # fmt: skip

    def test_silent(self) -> None:
        """Who was silent before is missing, unless it is known by now what has become of it."""
        answer = self.answer(delivered=["bob", "abel"], missing=["cy"], unknown=["zoe", "ab"])
        for silent, missing, complete in (
            (["abe", "ab", "bob", "c", "z"], ["cy"], True),
            (["b", "ac", "bobby"], ["ac", "bobby", "cy"], False),
            (["zz", "a"], ["cy", "zz"], False),
            ([], ["cy"], True),
        ):
            outcome = receipts.from_answer(answer, silent)
            self.assertEqual((outcome.missing, outcome.complete), (missing, complete), silent)

    def test_very_many_are_silent(self) -> None:
        """A peer can invent as many; each is not compared with each."""
        compared = [0]

        class Known(str):
            __slots__ = ()

            def startswith(self, *arguments: Any) -> bool:
                compared[0] += 1
                return super().startswith(*arguments)

        answer = self.answer(delivered=[Known(f"{number:05}") for number in range(1000)])
        outcome = receipts.from_answer(answer, [f"x{number}" for number in range(1000)])
        self.assertEqual(len(outcome.missing), 1000)
        self.assertLess(compared[0], 2001)

    def test_patience(self) -> None:
        self.assertEqual([receipts.patience(text) for text in ("", "2.5", "600")], [10, 2.5, 600])
        for text in ("0", "-1", "601", "x", "nan", "inf"):
            self.assertRaises(ValueError, receipts.patience, text)


class WaitTestCase(ControlTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.mesh.advance(1)

    def ids(self, *names: str) -> list[str]:
        return sorted(self.mesh[name].id.decode() for name in names)

    def stall(self, name: str) -> None:
        """Have a node read nothing any more, as a process that was stopped."""
        for link in self.mesh[name].service.routing_table.values():
            link.owner.transport.stalled = True

    def objects(self) -> list[dict[str, Any]]:
        """What was printed, line by line."""
        return [json.loads(line) for line in self.printed().splitlines()]

    def stall_at_message(self, name: str) -> None:
        """Have a node stop to read right when the command begins to send."""
        original = send._Sending.give

        async def give(sending: Any, *arguments: Any) -> None:
            self.stall(name)
            await original(sending, *arguments)

        self.patch(send._Sending, "give", give)


class MemberTests(WaitTestCase):
    """Who joins for it."""

    def send(self, *arguments: str, **how: Any) -> int:
        return self.main("send", f"--join={FIRST}", *arguments, **how)

    def test_all_have_it(self) -> None:
        """The node that is joined through, and who is behind it."""
        self.assertEqual(self.send("--wait", "storm", "north"), 0, self.err.getvalue())
        self.assertRegex(self.printed(), r"^2 members have it \(\d+ ms\)\n$")
        self.assertEqual(self.said(), "")
        self.assertEqual([self.inbox("ada"), self.inbox("ben")], [[("storm", "north")]] * 2)
        (left,) = self.members
        self.assertFalse(left.running)

    def test_json(self) -> None:
        """With packets from arguments one object; from standard input one for each line."""
        self.assertEqual(self.send("--wait", "--json", "storm"), 0)
        (said,) = self.objects()
        self.assertLess(abs(said.pop("seconds") - 0.4), 0.2)
        self.assertLess(abs(said.pop("last") - 0.1), 0.1)
        empty: list[str] = []
        self.assertEqual(
            said,
            {
                "delivered": self.ids("ada", "ben"),
                "missing": empty,
                "unknown": empty,
                "complete": True,
            },
        )
        self.assertEqual(self.send("--wait", "--json", stdin=b'["a"]\n\n["b"]\n'), 0)
        self.assertEqual([(one["line"], one["complete"]) for one in self.objects()],
                         [(1, True), (3, True)])  # fmt: skip

    def test_lines(self) -> None:
        """Several are under way at the same time, and told of in order."""
        begun = self.mesh.clock.seconds()
        lines = b"".join(b"%d\n" % number for number in range(25))
        self.assertEqual(self.send("--wait", "--lines", stdin=lines), 0)
        said = [line.partition(":")[0] for line in self.printed().splitlines()]
        self.assertEqual(said, [f"line {number}" for number in range(1, 26)])
        self.assertLess(self.mesh.clock.seconds() - begun, 12)

    def test_missing(self) -> None:
        """The only one that is there."""
        self.mesh.stop("ben")
        self.stall_at_message("ada")
        self.assertEqual(self.send("--wait=4", "x"), 3)
        (ada,) = self.ids("ada")
        self.assertRegex(
            self.printed(),
            rf"^0 of 1 member said that they have it \(4\.\d s\)\nmissing: {ada}\n$",
        )
        self.assertEqual(self.said(), "")

    def test_one_that_does_not_answer(self) -> None:
        """Not a neighbour: it is known because somebody else names it."""
        self.stall("ben")
        self.assertEqual(self.send("--wait=4", "x"), 3)
        (ben,) = self.ids("ben")
        self.assertRegex(
            self.printed(),
            rf"^1 of 2 members said that they have it \(\d.\d s\)\nmissing: {ben[:12]}\n$",
        )

    def test_those_that_are_waited_for(self) -> None:
        """Who has answered the survey and then falls silent is missing, by its whole id."""
        self.stall_at_message("ben")
        self.assertEqual(self.send("--wait=4", "--json", "x"), 3)
        (said,) = self.objects()
        self.assertEqual((said["delivered"], said["missing"]), (self.ids("ada"), self.ids("ben")))
        self.assertGreater(said["seconds"], 3.9)

    def test_not_sent(self) -> None:
        """Nobody could be joined, or it cannot be sent: exit code 1."""
        code = self.main("send", "--join=10.0.0.99:4444", "--timeout=3", "--wait", "x")
        self.assertEqual(code, 1)
        self.assertIn("could not join through 10.0.0.99:4444 within 3 s", self.said())
        code = self.send("--wait", "--json", stdin=b'["one"]\n["\\ud800"]\n["two"]\n')
        self.assertEqual(code, 1)
        self.assertIn("py2p send: line 2 of standard input: ", self.said())
        self.assertEqual([one["line"] for one in self.objects()], [1])
        self.assertEqual(self.inbox("ben"), [("one",)])

    def test_interrupted(self) -> None:
        self.stall_at_message("ada")
        self.later(3, self.interrupt, signal.SIGINT)
        self.assertEqual(self.send("--wait=100", "x"), 130)
        self.assertEqual(self.said(), "py2p send: interrupted\n")

    def test_usage(self) -> None:
        for arguments in (["--wait=0"], ["--wait=x"], ["--wait=601"], ["--wait", "--whisper"],
                          ["--wait", "--lines"]):  # fmt: skip
            self.assertEqual(self.send(*arguments, "x"), 2)
            self.assertIn("(see py2p send --help)", self.said())
        self.assertEqual(self.send("--json", "x"), 2)


class ThroughTests(WaitTestCase):
    """Through a node."""

    def test_all_have_it(self) -> None:
        self.assertEqual(self.main("send", f"--control={ADA}", "--wait", "x"), 0)
        self.assertRegex(self.printed(), r"^1 member has it \(\d+ ms\)\n$")
        self.assertEqual(self.inbox("ben"), [("x",)])
        self.assertEqual(self.members, [])

    def test_missing(self) -> None:
        self.stall("ben")
        code = self.main("send", f"--control={ADA}", "--wait=3", "--json", "x")
        self.assertEqual(code, 3)
        (said,) = self.objects()
        self.assertEqual((said["missing"], said["complete"]), (self.ids("ben"), False))

    def test_missing_lines(self) -> None:
        """One that is incomplete is enough."""
        self.stall("ben")
        code = self.main("send", f"--control={ADA}", "--wait=3", "--lines", stdin=b"a\nb\n")
        self.assertEqual(code, 3)
        self.assertEqual(len(self.printed().splitlines()), 4)

    def test_nobody_there(self) -> None:
        """It may be that somebody comes: it waits, and nobody has it."""
        self.mesh.stop("ben")
        self.assertEqual(self.main("send", f"--control={ADA}", "--wait=2", "x"), 3)
        self.assertEqual(
            self.printed(), "no member was there that could say that it has it (2.0 s)\n"
        )

    def test_a_node_that_does_not_answer(self) -> None:
        """It is asked who there is, before anything is sent; more is not waited for."""
        self.mesh.network.connected = lambda near, far: setattr(far, "stalled", True)
        begun = self.mesh.clock.seconds()
        code = self.main("send", f"--control={ADA}", "--wait=30", "--timeout=2", "x")
        self.assert_line(code, 1, "the node does not answer within 5 s; nothing was sent")
        self.assertLess(self.mesh.clock.seconds() - begun, 5.1)

    def test_a_node_that_stops_answering(self) -> None:
        """It has been told how long to wait, and is waited for a little longer."""
        self.later(1.0, self.hang)
        code = self.main("send", f"--control={ADA}", "--wait=3", "--timeout=2", "--lines",
                         stdin=b"a\n")  # fmt: skip
        self.assert_line(code, 1, "the node does not answer within 5 s\n")

    def hang(self) -> None:
        """Have ada's control endpoint say nothing any more."""
        for client in self.factories[ADA].clients:
            client.transport.silent = True  # type: ignore[union-attr]

    def test_a_short_timeout(self) -> None:
        """Of an answer: looking around may take longer, as it does when somebody is silent."""
        self.stall("ben")
        code = self.main("send", f"--control={ADA}", "--wait=3", "--timeout=0.5", "x")
        self.assertEqual((code, self.said()), (3, ""))

    def test_it_is_asked_who_there_is(self) -> None:
        """So a member that has never said anything to this node is missing, if it is silent."""
        self.mesh.add("cyd")
        self.mesh.link("ben", "cyd")
        self.mesh.advance(3)
        self.stall_at_message("cyd")
        self.assertEqual(self.main("send", f"--control={ADA}", "--wait=3", "--json", "x"), 3)
        (said,) = self.objects()
        self.assertEqual((said["delivered"], said["missing"]), (self.ids("ben"), self.ids("cyd")))

    def test_what_cannot_be_sent(self) -> None:
        stdin = b'["one"]\n["\\ud800"]\n'
        code = self.main("send", f"--control={ADA}", "--wait", "--json", stdin=stdin)
        self.assertEqual(code, 1)
        self.assertEqual([one["line"] for one in self.objects()], [1])
        self.assertIn("py2p send: line 2 of standard input: ", self.said())

    def test_progress(self) -> None:
        """On a terminal one line says what is waited for, and is gone in the end."""
        terminal = ToyTerminal(70, 14)
        self.patch(progress.sys, "stderr", terminal)
        self.patch(progress, "can_redraw", lambda stream, environ: True)
        self.patch(progress, "size_of", lambda stream: os.terminal_size((70, 14)))
        seen: list[str] = []
        self.later(1.2, lambda: seen.append(terminal.rows[0]))
        self.later(4.0, lambda: seen.append(terminal.rows[0]))
        self.stall("ben")
        self.assertEqual(self.main("send", f"--control={ADA}", "--wait=3", "x"), 3)
        self.assertEqual(
            seen,
            [
                "py2p send: looking around, 1 s",
                "py2p send: waiting for receipts, 2 s of 3 s at most",
            ],
        )
        self.assertEqual("".join(terminal.rows).strip(), "")

    def test_one_terminal(self) -> None:
        """Results and progress do not get in each other's way."""
        terminal = ToyTerminal(70, 14)
        for stream in ("stdout", "stderr"):
            self.patch(progress.sys, stream, terminal)
        self.patch(progress, "can_redraw", lambda stream, environ: True)
        self.patch(progress, "size_of", lambda stream: os.terminal_size((70, 14)))
        lines = b"".join(b"%d\n" % number for number in range(12))
        self.main("send", f"--control={ADA}", "--wait", "--lines", stdin=lines)
        said = [row.partition(" (")[0] for row in terminal.text]
        self.assertEqual(said, [f"line {number}: 1 member has it" for number in range(1, 13)])


class ProgressTests(SynchronousTestCase):
    def test_bar(self) -> None:
        self.assertEqual(progress.bar(0, 10), "[" + 20 * "-" + "]")
        self.assertEqual(progress.bar(5, 10), "[" + 10 * "#" + 10 * "-" + "]")
        self.assertEqual(progress.bar(10, 10), "[" + 20 * "#" + "]")
