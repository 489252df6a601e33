"""
Receipts among 64 real nodes, five of which are killed while messages are under way.

The nodes live in thirteen processes: one that sends, five that are killed, and seven with the
others. Times are in seconds. Source: docs/protocol/mesh-ext.rst, "Receipts".
"""

from __future__ import annotations

import time
from typing import Any

from tests.integration.driver import decode
from tests.integration.nodes import PATIENCE, Process, ProcessTestCase, percentile

#: How many nodes there are, how many of them are killed, and in how many processes the rest live.
NODES, KILLED, CROWDS = 64, 5, 7


class ReceiptTests(ProcessTestCase):
    """Who has it is known, and who has not is named."""

    def setUp(self) -> None:
        super().setUp()
        self.origin, *self.victims = self.spawn(1 + KILLED)
        crowds = self.spawn(CROWDS)
        self.everybody = {process.id for process in (*self.victims, *crowds)}
        names: list[tuple[Process, str]] = [(one, "node") for one in (*self.victims, *crowds)]
        for number in range(NODES - 1 - len(names)):
            crowd = crowds[number % CROWDS]
            made = crowd.ask("open", name=f"n{number}")
            self.everybody.add(decode(made["id"]))
            names.append((crowd, f"n{number}"))
        self.assertEqual(len(self.everybody), NODES - 1)
        for process, name in names:
            process.ask("connect", port=self.origin.port, name=name)
        # Who is not known by then may be late with its receipt, and nobody would wait for it.
        self.wait_for(
            lambda: (
                set(map(decode, self.origin.ask("members"))) == {self.origin.id, *self.everybody}
            ),
            "everybody to answer a survey",
            timeout=3 * PATIENCE,
        )

    def confirmed(self, **arguments: Any) -> list[dict[str, Any]]:
        """The receipts of some messages of the origin."""
        self.origin.ask("begin", task="confirm", **arguments)
        return self.receipts()

    def receipts(self) -> list[dict[str, Any]]:
        """What has come of `confirm`, with ids as they are."""
        return [
            {**one, **{key: set(map(decode, one[key])) for key in ("delivered", "missing")}}
            for one in self.origin.outcome("confirm")
        ]

    def test_64_nodes(self) -> None:
        """A hundred complete sets; then five nodes die in flight, and they are those missing."""
        whole = self.confirmed(count=100, rate=25.0)
        for number, receipt in enumerate(whole):
            self.assertEqual(receipt["delivered"], self.everybody, f"message {number}")
            self.assertTrue(receipt["complete"])
        dead = {victim.id for victim in self.victims}
        self.origin.ask("begin", task="confirm", count=20, rate=20.0)
        time.sleep(0.5)
        for victim in self.victims:
            victim.kill()
        flying = self.receipts()
        for number, receipt in enumerate(flying):
            self.assertLessEqual(receipt["missing"], dead, f"message {number}")
            self.assertEqual(receipt["delivered"] | receipt["missing"], self.everybody)
        self.assertEqual(flying[0]["missing"], set(), "sent long before")
        self.assertEqual(flying[-1]["missing"], dead, "sent long after")
        self.assertFalse(flying[-1]["complete"])
        took = [one["seconds"] for one in whole]
        self.note(
            f"seconds until all {NODES - 1} have confirmed: p50 {percentile(took, 0.5):.2f}, "
            f"worst {max(took):.2f}; {sum(bool(one['missing']) for one in flying)} of "
            f"{len(flying)} name the {KILLED} that were killed"
        )
