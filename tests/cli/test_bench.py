"""
``py2p bench``: what it makes of outcomes, and in a network in memory.
"""

from __future__ import annotations

import json
import os
import signal
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.cli import bench, progress
from py2p_twisted.cli.bench import Measured, percentile
from py2p_twisted.cli.receipts import Outcome
from tests.cli.screen import ToyTerminal
from tests.cli.test_control import ADA, ControlTestCase


def outcome(last: float, delivered: str = "ab", missing: str = "", unknown: str = "") -> Outcome:
    """Of one message."""
    ids = (list(delivered), list(missing), list(unknown))
    return Outcome(*ids, seconds=9.0, last=last, complete=not missing)


class MeasuredTests(SynchronousTestCase):
    def test_percentiles(self) -> None:
        """By the nearest rank."""
        values = [float(number) for number in range(1, 101)]
        self.assertEqual(
            [percentile(values, part) for part in (0.5, 0.99, 1.0, 0.001)], [50, 99, 100, 1]
        )
        self.assertEqual([percentile([7.0], part) for part in (0.5, 0.99)], [7, 7])
        self.assertEqual(percentile([1.0, 2.0, 3.0], 0.5), 2)

    def test_result(self) -> None:
        """Incomplete messages count as sent, and for nothing else."""
        measured = Measured(64, busy=2.0)
        for one in (outcome(0.1), outcome(0.3, "abc", "", "x"), outcome(8.0, "a", "d\x1b")):
            measured.add(one)
        measured.silent.add("e")
        self.assertEqual(
            measured.fields,
            {
                "messages": 3, "complete": 2, "size": 64, "members": 3, "per_second": 1.0,
                "p50": 0.1, "p99": 0.3, "worst": 0.3, "missing": ["\x1b", "d"], "unknown": ["x"],
                "silent": ["e"], "interrupted": False,
            },
        )  # fmt: skip
        self.assertEqual(
            measured.lines,
            [
                "3 messages of 64 B to 3 members, 2 complete",
                "messages/s     1.0",
                "last receipt   p50 100 ms, p99 300 ms, worst 300 ms",
                "missing        \\x1b",
                "missing        d",
                "silent         e",
                "unknown        1 node of py2p 0.6",
            ],
        )

    def test_nothing(self) -> None:
        """Nobody has it, or there is no time to speak of."""
        measured = Measured(64, interrupted=True)
        measured.add(outcome(0.0, ""))
        self.assertEqual(
            measured.lines, ["1 message of 64 B to 0 members, 0 complete (interrupted)"]
        )
        self.assertIsNone(measured.fields["p50"])


class BenchTests(ControlTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.use(bench)
        self.mesh.advance(1)

    def bench(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """What it has measured."""
        ended = self.main("bench", f"--control={ADA}", *arguments, "--json")
        self.assertEqual(ended, code, self.err.getvalue() + self.out.getvalue())
        result: dict[str, Any] = json.loads(self.printed())
        return result

    def test_all_is_well(self) -> None:
        """What it says beforehand, what it sends, and what comes of it."""
        self.assertEqual(self.main("bench", f"--control={ADA}", "--count=25"), 0)
        self.assertEqual(
            self.said(),
            f"py2p bench: every member's application is given 28 messages of type {bench.TYPE}\n",
        )
        first, speed, times = self.printed().splitlines()
        self.assertEqual(first, "25 messages of 64 B to 1 member, 25 complete")
        self.assertRegex(speed, r"^messages/s     \d+\.\d$")
        self.assertRegex(times, r"^last receipt   p50 5\d ms, p99 \d+ ms, worst \d+ ms$")
        self.assertEqual(self.inbox("ben"), [(bytes(64),)] * 28)
        self.assertEqual({one.packets[0] for one in self.mesh["ben"].received}, {bench.TYPE})
        self.mesh.settle()
        self.assertEqual(self.factories[ADA].clients, {})

    def test_batches(self) -> None:
        """What a node waits for afterwards does not count: a batch of ten takes 50 ms."""
        begun = self.mesh.clock.seconds()
        told = self.bench("--count=20")
        self.assertLess(abs(told["per_second"] - (20 / 0.1)), 60)
        self.assertLess(abs(self.mesh.clock.seconds() - begun - 4.5), 0.4)
        begun = self.mesh.clock.seconds()
        self.bench("--count=3", "--at-once=1", "--size=1000")
        self.assertLess(abs(self.mesh.clock.seconds() - begun - 6.0), 0.4)
        self.assertEqual(len(self.inbox("ben")[-1][0]), 1000)

    def test_a_rate(self) -> None:
        """As many a second, as long as few are under way."""
        begun = self.mesh.clock.seconds()
        told = self.bench("--count=21", "--rate=5")
        self.assertLess(abs(told["per_second"] - (21 / 4.05)), 0.2)
        self.assertLess(abs(self.mesh.clock.seconds() - begun - 7.0), 0.3)
        begun = self.mesh.clock.seconds()
        self.assertEqual(self.bench("--count=40", "--rate=1000")["complete"], 40)
        self.assertLess(abs(self.mesh.clock.seconds() - begun - 6.0), 0.3)

    def test_missing(self) -> None:
        self.later(1.0, self.stall, "ben")
        told = self.bench("--count=2", "--wait=2", code=3)
        self.assertEqual(told["missing"], [self.mesh["ben"].id.decode()])
        self.assertEqual((told["messages"], told["complete"], told["p50"]), (2, 0, None))
        self.assertEqual(told["silent"], [])

    def test_one_that_has_left(self) -> None:
        """The node still knows it; that is told, and nothing waits for it afterwards."""
        self.mesh.add("cid")
        self.mesh.link("cid", "ada")
        self.mesh.advance(1)
        cid = self.mesh["cid"].id.decode()
        self.bench("--count=1")
        self.mesh.stop("cid")
        begun = self.mesh.clock.seconds()
        told = self.bench("--count=10", "--wait=3")
        self.assertEqual((told["silent"], told["missing"], told["complete"]), ([cid], [], 10))
        self.assertLess(self.mesh.clock.seconds() - begun, 6)

    def stall(self, name: str) -> None:
        """Have a node read nothing any more."""
        for link in self.mesh[name].service.routing_table.values():
            link.owner.transport.stalled = True

    def test_interrupted(self) -> None:
        """What was measured so far is printed all the same."""
        for how in ("--at-once=5", "--rate=4"):
            self.later(5.5, self.interrupt, signal.SIGINT)
            told = self.bench("--count=1000", how, code=130)
            self.assertTrue(told["interrupted"])
            self.assertEqual(told["messages"], 10, how)
            self.assertTrue(self.said().endswith("py2p bench: interrupted\n"))
            self.mesh.advance(5)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_a_node_that_does_not_answer(self) -> None:
        """As a stopped process: receipts are not waited for."""
        self.mesh.network.connected = lambda near, far: setattr(far, "stalled", True)
        begun = self.mesh.clock.seconds()
        code = self.main("bench", f"--control={ADA}", "--timeout=3", "--wait=60")
        self.assert_line(code, 1, "py2p bench: the node does not answer within 3 s")
        self.assertLess(self.mesh.clock.seconds() - begun, 3.1)

    def test_a_node_that_goes(self) -> None:
        for how in ("--at-once=5", "--rate=4"):
            self.later(4, lambda: (self.factories[ADA].close(), self.sockets.pop(ADA)))
            self.assertEqual(self.main("bench", f"--control={ADA}", "--count=100", how), 1)
            self.assertIn("py2p bench: the node has hung up", self.said())
            self.offer("ada", ADA)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_a_node_that_goes_long_before_the_next_message(self) -> None:
        """That is told when it is known."""
        self.later(2, lambda: (self.factories[ADA].close(), self.sockets.pop(ADA)))
        begun = self.mesh.clock.seconds()
        self.assertEqual(self.main("bench", f"--control={ADA}", "--rate=0.01"), 1)
        self.assertIn("py2p bench: the node has hung up", self.said())
        self.assertLess(self.mesh.clock.seconds() - begun, 4)

    def test_progress(self) -> None:
        terminal = ToyTerminal(70, 14)
        self.patch(bench.sys, "stderr", terminal)
        self.patch(progress, "can_redraw", lambda stream, environ: True)
        self.patch(progress, "size_of", lambda stream: os.terminal_size((70, 14)))
        seen: list[str] = []
        self.later(5.1, lambda: seen.append(terminal.text[-1]))
        self.assertEqual(self.main("bench", f"--control={ADA}", "--count=40"), 0)
        self.assertEqual(seen, ["py2p bench: [##########----------] 20 of 40, 5 s"])
        self.assertFalse(any("#" in row for row in terminal.text))

    def test_usage(self) -> None:
        for arguments in (
            ["x"], ["--count=0"], ["--at-once=16"], ["--rate=0"], ["--rate=x"], ["--size=-1"],
            ["--rate=1", "--at-once=2"], ["--wait=0"],
        ):  # fmt: skip
            self.assert_line(self.main("bench", *arguments), 2, "(see py2p bench --help)")
        self.assert_line(self.main("bench", "--control=x.sock"), 1, "no running node at x.sock")
