"""
``py2p top``: what it makes of two looks, and in a network in memory.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.cli import top
from py2p_twisted.cli.top import Rates
from tests.cli.screen import ToyTerminal
from tests.cli.test_control import ADA, ControlTestCase


def peer(ident: str = "a", **how: Any) -> dict[str, Any]:
    """What a node says of a peer."""
    return {
        "id": ident, "where": "10.0.0.1:4", "outgoing": True, "kind": "neighbour", "rtt": 0.25,
        "since": 100.0, "frames_in": 0, "bytes_in": 0, "bytes_waiting": 0, "duplicates": 0,
        "slow": False, **how,
    }  # fmt: skip


class RatesTests(SynchronousTestCase):
    """From counters to rates."""

    def of(self, before: dict[str, Any] | None, now: dict[str, Any], seconds: float) -> Rates:
        (row,) = top.rates_of({} if before is None else {"a": before}, [now], seconds)
        return row

    def test_differences(self) -> None:
        before = peer(bytes_in=1000, bytes_out=50, frames_in=10, duplicates=4)
        row = self.of(
            before,
            peer(
                bytes_in=3000, bytes_out=60, frames_in=30, duplicates=5, since=102, bytes_waiting=9
            ),
            2.0,
        )
        self.assertEqual((row.bytes_in, row.bytes_out), (1000.0, 5.0))
        self.assertEqual((row.frames, row.duplicates), (10.0, 0.5))
        self.assertEqual((row.waiting, row.age, row.rtt), (9, 102.0, 0.25))

    def test_a_new_link(self) -> None:
        """It began with nothing, and has had less time."""
        self.assertEqual(self.of(None, peer(bytes_in=100, since=0.5), 1.0).bytes_in, 200.0)
        self.assertEqual(self.of(None, peer(bytes_in=100, since=50), 1.0).bytes_in, 100.0)
        again = self.of(peer(bytes_in=5000), peer(bytes_in=100, since=0.1), 1.0)
        self.assertEqual(again.bytes_in, 1000.0)
        self.assertEqual(self.of(None, peer(since=0.0), 0.0).bytes_in, 0.0)

    def test_an_older_node(self) -> None:
        """It does not tell what goes out."""
        self.assertIsNone(self.of(peer(), peer(since=101), 1.0).bytes_out)
        self.assertIsNone(self.of(peer(), peer(bytes_out=7, since=101), 1.0).bytes_out)
        self.assertEqual(self.of(None, peer(bytes_out=7, since=1), 1.0).bytes_out, 7.0)

    def test_order(self) -> None:
        """The largest first, what is unknown last, equal ones by id; and every key is another."""
        rows = top.rates_of(
            {},
            [
                peer("a", since=1, bytes_in=1, bytes_out=3, frames_in=1, duplicates=9, rtt=None),
                peer("b", since=2, bytes_in=7, bytes_out=1, frames_in=1, bytes_waiting=5),
                peer("c", since=3, bytes_in=7, bytes_out=2, frames_in=2, rtt=0.5),
            ],
            9.0,
        )
        for sort, order in (
            ("in", "bca"), ("out", "acb"), ("frames", "acb"), ("duplicates", "abc"),
            ("rtt", "cba"), ("waiting", "bac"), ("age", "cba"), ("id", "abc"),
        ):  # fmt: skip
            self.assertEqual("".join(row.id for row in top.in_order(rows, sort)), order, sort)
        keys = [key for key, _ in top.SORTS.values()]
        self.assertEqual(len({*keys, "q"}), len(keys) + 1)

    def test_lines(self) -> None:
        """Nothing in them moves the cursor."""
        hostile = peer("\x1b[2J\n", where="a\rb", kind="x\x07", slow=True, outgoing=False)
        lines = top.as_lines({}, top.rates_of({}, [hostile, peer("b", rtt=None)], 1.0), "id")
        texts = ["".join(text for text, _ in line) for line in lines]
        self.assertTrue(all(text.isprintable() for text in texts))
        self.assertEqual(len(texts), 4)
        self.assertIn("x\\x07, slow", texts[2])
        self.assertEqual(lines[2][0][1], "bad")
        self.assertRegex(texts[3], r"^b +10\.0\.0\.1:4 > +neighbour +0 B +- +- +0 B +0 +0 +2 min$")


class TopTests(ControlTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.use(top)
        self.mesh.advance(1)

    def say(self, when: float, count: int) -> None:
        """Have ben say something."""
        self.later(when, lambda: [self.mesh["ben"].send("x" * 1000) for _ in range(count)])

    def test_tables(self) -> None:
        """One after the other where there is no terminal; the rates are those of the last second."""
        self.say(1.5, 3)
        self.assertEqual(self.main("top", f"--control={ADA}", "--count=3"), 0)
        first, second, third = self.printed().split("\n\n")
        for block in (first, second, third):
            title, head, _ = block.strip().split("\n")
            self.assertRegex(title, r"^node \w{8} of mesh \(Plaintext\), 1 peer: in ")
            self.assertTrue(head.startswith("id"))
        frames = [
            float(block.strip().split("\n")[0].split()[-2]) for block in (first, second, third)
        ]
        self.assertLess(frames[0], 3)
        self.assertGreaterEqual(frames[1], 3)
        self.assertLess(frames[2], 3)

    def test_json(self) -> None:
        self.assertEqual(self.main("top", f"--control={ADA}", "--count=2", "--json"), 0)
        looks = [json.loads(line) for line in self.printed().splitlines()]
        self.assertEqual(len(looks), 2)
        self.assertEqual(looks[0]["id"], self.mesh["ada"].id.decode())
        self.assertEqual([one["kind"] for one in looks[1]["peers"]], ["neighbour"])

    def test_interrupted(self) -> None:
        self.later(2.5, self.interrupt, signal.SIGINT)
        self.assertEqual(self.main("top", f"--control={ADA}"), 130)
        self.assertEqual(self.said(), "py2p top: interrupted\n")
        self.assertEqual(len(self.printed().split("\n\n")), 2)
        self.mesh.settle()
        self.assertEqual(self.factories[ADA].clients, {})

    def test_a_node_that_is_started_again(self) -> None:
        """It says what is wrong meanwhile, which is no table, and no failure."""
        self.later(0.5, lambda: (self.factories[ADA].close(), self.sockets.pop(ADA)))
        self.later(2.5, self.offer, "ada", ADA)
        self.assertEqual(self.main("top", f"--control={ADA}", "--count=4"), 0)
        problems = [line[:29] for line in self.said().splitlines()]
        self.assertEqual(
            problems, ["py2p top: the node has hung up"[:29], "py2p top: no running node at "]
        )
        firsts = [block.split("\n")[0] for block in self.printed().split("\n\n")]
        self.assertEqual([one[:5] for one in firsts], ["node ", "node "])

    def test_a_node_that_does_not_answer(self) -> None:
        """As a stopped process: if it never has, the exit code is 1."""
        self.mesh.network.connected = lambda near, far: setattr(far, "stalled", True)
        arguments = ("top", f"--control={ADA}", "--count=1", "--timeout=3")
        self.assert_line(self.main(*arguments), 1, "py2p top: the node does not answer within 3 s")
        self.assertEqual(self.main(*arguments, "--json"), 1)
        self.assertEqual(json.loads(self.printed())["error"], "the node does not answer within 3 s")
        self.assertEqual(self.said(), "")

    def test_a_node_that_goes(self) -> None:
        """Before there was anything to show."""
        self.later(0.5, lambda: (self.factories[ADA].close(), self.sockets.pop(ADA)))
        code = self.main("top", f"--control={ADA}", "--count=1")
        self.assert_line(code, 1, "py2p top: the node has hung up")

    def test_no_node(self) -> None:
        code = self.main("top", "--control=nowhere.sock")
        self.assert_line(code, 1, "py2p top: no running node at nowhere.sock")

    def test_usage(self) -> None:
        for arguments in (["x"], ["--sort=colour"], ["--count=0"]):
            self.assert_line(self.main("top", *arguments), 2, "(see py2p top --help)")


class TerminalTests(ControlTestCase):
    """Drawn in place, and keys."""

    def setUp(self) -> None:
        super().setUp()
        self.use(top)
        self.terminal = ToyTerminal(90, 9)
        self.patch(top.sys, "stdout", self.terminal)
        self.patch(top, "can_redraw", lambda stream, environ: True)
        self.patch(top, "size_of", lambda stream: os.terminal_size((90, 9)))
        self.waiting: list[Deferred[bytes]] = []
        self.patch(top, "keys_unbuffered", self.keys)

    @contextmanager
    def keys(self, wanted: bool) -> Iterator[Any]:
        """Keys that are pressed with `press`."""
        self.assertTrue(wanted)

        def read() -> Deferred[bytes]:
            self.waiting.append(Deferred())
            return self.waiting[-1]

        yield read

    def press(self, keys: bytes) -> None:
        self.waiting.pop().callback(keys)

    def test_quit(self) -> None:
        """The cursor is given back, and the exit code is 0."""
        self.later(3.2, self.press, b"q")
        begun = self.mesh.clock.seconds()
        self.assertEqual(self.main("top", f"--control={ADA}"), 0)
        self.assertLess(abs(self.mesh.clock.seconds() - begun - 3.2), 0.1)
        self.assertRegex(self.terminal.rows[0], r"^node \w{8} of mesh")
        self.assertEqual(
            self.terminal.text[-1], "sorted by in; keys: i o f d r w s n sort, q leaves"
        )
        self.assertTrue(self.terminal.cursor)
        self.assertEqual((self.terminal.above, self.terminal.wraps), ([], 0))

    def test_quit_while_the_node_does_not_answer(self) -> None:
        """Nobody has to wait for that."""
        self.mesh.network.connected = lambda near, far: setattr(far, "stalled", True)
        self.later(1.5, self.press, b"q")
        begun = self.mesh.clock.seconds()
        self.assertEqual(self.main("top", f"--control={ADA}"), 0)
        self.assertLess(self.mesh.clock.seconds() - begun, 1.6)
        self.assertTrue(self.terminal.cursor)

    def test_sorting(self) -> None:
        """At once, not with the next look."""
        for name in ("cid", "dan"):
            self.mesh.add(name)
            self.mesh.link(name, "ada")
        self.mesh.advance(5)
        self.later(1.1, self.press, b"xN")
        seen: list[list[str]] = []
        self.later(1.2, lambda: seen.append(list(self.terminal.text)))
        self.later(1.3, self.press, b"q")
        self.main("top", f"--control={ADA}", "--sort=age")
        ids = sorted(self.mesh[name].id.decode()[:8] for name in ("ben", "cid", "dan"))
        self.assertEqual([row[:8] for row in seen[0][2:5]], ids)
        self.assertIn("sorted by id", seen[0][-1])

    def test_too_many_peers(self) -> None:
        """As many as there is room for, and how many more there are."""
        peers = [peer(f"p{number}") for number in range(30)]
        for factory in self.factories.values():
            factory.words._words["peers"] = lambda request: {"peers": peers}
        self.later(2.2, self.press, b"q")
        self.assertEqual(self.main("top", f"--control={ADA}"), 0)
        self.assertEqual(self.terminal.text[-2], "and 26 more peers")
        self.assertEqual(self.terminal.above, [])
