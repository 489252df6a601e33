"""What ``py2p reload`` prints. It is run in tests/integration/reload_check.py."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.cli import build_parser
from py2p_twisted.cli.reload import as_lines


class LineTests(SynchronousTestCase):
    def answer(self, **what: Any) -> dict[str, Any]:
        return {"changed": [], "waiting": [], "certificates": [], **what}

    def test_nothing(self) -> None:
        self.assertEqual(as_lines(self.answer()), ["nothing has changed"])

    def test_everything(self) -> None:
        """A line for each, in the order: what holds, what will, what is shown to others."""
        change = {"name": "max-peers", "before": "5", "after": "6"}
        later = {"name": "network", "before": "a", "after": "b"}
        lines = as_lines(
            self.answer(changed=[change], waiting=[later], certificates=["ssl:1:privateKey=x"])
        )
        self.assertEqual(
            lines,
            [
                "max-peers: 5 -> 6",
                "network: a -> b, when the node is started again",
                "ssl:1:privateKey=x: the certificate was read again",
            ],
        )

    def test_nothing_moves_the_cursor(self) -> None:
        """Whatever the node has said."""
        change = {"name": "network", "before": "a", "after": "\x1b[2J\n"}
        (line,) = as_lines(self.answer(waiting=[change]))
        self.assertTrue(line.isprintable())

    def test_its_options(self) -> None:
        options = build_parser().parse_args(["reload", "--control=/x.sock", "--json"])
        self.assertTrue(options.json)
        self.assertEqual(str(options.control), "/x.sock")
