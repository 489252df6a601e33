"""
What the demo counts, and that it says PASS only if it is true.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.cli.report import (
    PROCESSES,
    Broadcast,
    Healing,
    Receipt,
    Report,
    Row,
    many,
    some,
)
from tests.cli.samples import begun, good, receive, stuck


class BroadcastTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.broadcast = Broadcast("n04", "storm", ("n01", "n02", "n03"))

    def test_in_order_of_arrival(self) -> None:
        """Receipts stand in the order in which they came; the others are missing."""
        receive(self.broadcast, "n03", "n01")
        self.assertEqual(list(self.broadcast.receipts), ["n03", "n01"])
        self.assertEqual(self.broadcast.missing, ["n02"])
        self.assertEqual(self.broadcast.duplicates, 0)

    def test_the_second_time_counts_as_a_duplicate(self) -> None:
        """And the first one's time remains."""
        receive(self.broadcast, "n01", latency=1.0)
        receive(self.broadcast, "n01", "n01", latency=9.0)
        self.assertEqual(self.broadcast.receipts["n01"].latency, 1.0)
        self.assertEqual((self.broadcast.duplicates, self.broadcast.surplus), (2, {"n01": 2}))

    def test_whoever_should_not_get_it(self) -> None:
        """The sender itself, and whoever was gone, are no deliveries but duplicates."""
        receive(self.broadcast, "n04", "n05")
        self.assertEqual((len(self.broadcast.receipts), self.broadcast.duplicates), (0, 2))

    def test_the_worst(self) -> None:
        """The latest receipt, in whatever order they stand; there may be none."""
        self.assertIsNone(self.broadcast.worst)
        for name, latency in (("n01", 2.0), ("n02", 5.0), ("n03", 3.0)):
            receive(self.broadcast, name, latency=latency)
        self.assertEqual(self.broadcast.worst, Receipt("n02", 5.0, "n04"))


class VerdictTests(SynchronousTestCase):
    def test_all_is_well(self) -> None:
        """The numbers of both broadcasts together."""
        report = good(12)
        self.assertTrue(report.ok)
        self.assertEqual((report.got, report.expected, report.duplicates), (20, 20, 0))
        self.assertEqual(
            report.verdict,
            "verdict: PASS, 20 of 20 deliveries, 0 duplicates shown, worst latency 12.3 ms",
        )

    def test_the_worst_of_all(self) -> None:
        """Of both broadcasts, whichever it was in."""
        report = good(12)
        worst = report.worst
        assert worst is not None
        self.assertEqual((worst.node, worst.latency), ("n12", 12.34))
        report.broadcasts.reverse()
        self.assertEqual(report.worst, worst)

    def test_each_fault_alone_spoils_it(self) -> None:
        """Whatever is not as promised, it fails and says so."""

        def lose(report: Report) -> None:
            del report.broadcasts[1].receipts["n12"]

        def repeat(report: Report) -> None:
            receive(report.broadcasts[0], "n05")

        def echo(report: Report) -> None:
            receive(report.broadcasts[0], report.broadcasts[0].sender)

        def swap(report: Report) -> None:
            # As many deliveries as there must be, but not to whom they must be.
            lose(report)
            receive(report.broadcasts[1], "n01")

        def stop_early(report: Report) -> None:
            report.finished = False

        def skip_the_second(report: Report) -> None:
            report.broadcasts.pop()

        def give_up(report: Report) -> None:
            report.problem = "the mesh has not become one"

        faults: list[Callable[[Report], None]] = [
            lose, repeat, echo, swap, stop_early, skip_the_second, give_up,
        ]  # fmt: skip
        for spoil in faults:
            report = good(12)
            spoil(report)
            self.assertIs(report.ok, False, spoil.__name__)
            self.assertTrue(report.verdict.startswith("verdict: FAIL, "), spoil.__name__)
            self.assertIs(report.as_json()["ok"], False, spoil.__name__)

    def test_nothing_delivered_is_no_success(self) -> None:
        """Nor are two broadcasts that nobody was to get."""
        report = good(12)
        report.broadcasts = [Broadcast("n01", "storm", ()), Broadcast("n01", "storm", ())]
        self.assertIs(report.ok, False)
        self.assertEqual(report.verdict, "verdict: FAIL, 0 of 0 deliveries, 0 duplicates shown")

    def test_what_is_missing_can_be_counted(self) -> None:
        """In the last line as well."""
        report = stuck(12)
        self.assertEqual(
            report.verdict,
            "verdict: FAIL, 9 of 11 deliveries, 0 duplicates shown, worst latency 1.5 ms",
        )

    def test_one_of_each(self) -> None:
        """Its grammar."""
        report = begun(3)
        report.broadcasts = [Broadcast("n01", "storm", ("n02",))]
        receive(report.broadcasts[0], "n02", "n02")
        self.assertIn("1 of 1 delivery, 1 duplicate shown", report.verdict)


class JsonTests(SynchronousTestCase):
    def test_the_whole(self) -> None:
        """The keys are an interface: programs read them."""
        report = good(4)
        report.broadcasts[0].copies = 6
        self.assertEqual(
            json.loads(json.dumps(report.as_json())),
            {
                "ok": True,
                "problem": None,
                "deliveries": {"got": 4, "expected": 4},
                "duplicates": 0,
                "worst_ms": 12.34,
                "seconds": 2.5,
                "transport": "TCP",
                "processes": False,
                "seed": 7,
                "nodes": [
                    {"node": "n01", "address": "127.0.0.1:40001", "peers": 0, "state": "dropped"},
                    {"node": "n02", "address": "127.0.0.1:40002", "peers": 0, "state": "dropped"},
                    {"node": "n03", "address": "127.0.0.1:40003", "peers": 4, "state": "alive"},
                    {"node": "n04", "address": "127.0.0.1:40004", "peers": 4, "state": "alive"},
                ],
                "broadcasts": [
                    {
                        "from": "n04",
                        "text": "storm from the north",
                        "got": 3,
                        "expected": 3,
                        "missing": [],
                        "duplicates": 0,
                        "copies_dropped_on_links": 6,
                        "receipts": [
                            {"node": "n01", "ms": 1.5, "via": "n04"},
                            {"node": "n02", "ms": 1.5, "via": "n04"},
                            {"node": "n03", "ms": 1.5, "via": "n04"},
                        ],
                    },
                    {
                        "from": "n03",
                        "text": "the storm has passed",
                        "got": 1,
                        "expected": 1,
                        "missing": [],
                        "duplicates": 0,
                        "copies_dropped_on_links": 0,
                        "receipts": [{"node": "n04", "ms": 12.34, "via": "n03"}],
                    },
                ],
                "healing": {
                    "dropped": ["n01", "n02"],
                    "links_before": 44,
                    "links_after_drop": 27,
                    "links_healed": 40,
                    "seconds": 0.212,
                },
            },
        )

    def test_processes(self) -> None:
        """They are told apart; the other words are the same for both."""
        report = good(4)
        report.sort = PROCESSES
        told = report.as_json()
        self.assertIs(told["processes"], True)
        self.assertEqual(told["nodes"][0]["state"], "dropped")

    def test_what_has_not_come_about_is_null(self) -> None:
        """A demo that ended before anything was sent, or before it healed."""
        report = begun(3)
        report.rows[0] = Row("n01", None, 0, True)
        told = json.loads(json.dumps(report.as_json()))
        self.assertEqual((told["worst_ms"], told["healing"], told["ok"]), (None, None, False))
        self.assertEqual(told["nodes"][0]["address"], None)
        self.assertEqual(told["broadcasts"], [])
        report.healing = Healing(("n01",), 3, 1)
        told = json.loads(json.dumps(report.as_json()))["healing"]
        self.assertEqual((told["links_healed"], told["seconds"]), (None, None))

    def test_why_it_failed(self) -> None:
        """The problem, and who has got nothing."""
        told = json.loads(json.dumps(stuck(12).as_json()))
        self.assertIn("within 10 s", told["problem"])
        self.assertEqual(told["deliveries"], {"got": 9, "expected": 11})
        self.assertEqual(told["broadcasts"][0]["missing"], ["n01", "n02"])

    def test_duplicates_are_counted(self) -> None:
        """For each broadcast, and together."""
        report = good(12)
        receive(report.broadcasts[0], "n02")
        receive(report.broadcasts[1], "n04", "n05")
        told = report.as_json()
        self.assertEqual(told["duplicates"], 3)
        self.assertEqual([sent["duplicates"] for sent in told["broadcasts"]], [1, 2])
        self.assertEqual(told["deliveries"], {"got": 20, "expected": 20})


class WordTests(SynchronousTestCase):
    def test_some(self) -> None:
        """A few names are all named; "1 more" would be no shorter than the name."""
        for count, text in (
            (0, ""),
            (1, "n1"),
            (2, "n1 and n2"),
            (3, "n1, n2 and n3"),
            (4, "n1, n2, n3 and n4"),
            (5, "n1, n2, n3 and 2 more"),
            (50, "n1, n2, n3 and 47 more"),
        ):
            self.assertEqual(some(f"n{number}" for number in range(1, count + 1)), text)

    def test_many(self) -> None:
        self.assertEqual(
            [many(0, "link"), many(1, "link"), many(2, "link"), many(2, "copy", "copies")],
            ["0 links", "1 link", "2 links", "2 copies"],
        )
        self.assertEqual(many(1, "copy", "copies"), "1 copy")
