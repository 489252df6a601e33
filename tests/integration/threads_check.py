"""
Sockets among threads: many that send, handlers that do not return, and peers that do not read.

Each node is a process that the test drives, and may stop (`nodes`), so that none disturbs another.

Times are in seconds, sizes in bytes. Source: docs/design.rst, "The documented face" and "Flow
control".
"""

from __future__ import annotations

import time

from tests.integration.driver import MIB
from tests.integration.nodes import Process, ProcessTestCase, percentile, seconds
from tests.integration.victim import MOST_MEMORY

#: How long one `send` may wait for peers that do not read: this package gives them two seconds;
#: the rest is for the machine. Source: docs/design.rst, "Flow control".
LONGEST_SEND = 6.0

#: How long to wait where the test is that nothing more comes.
QUIET = 0.3


class StormTests(ProcessTestCase):
    """Sixteen threads that send a thousand messages each."""

    THREADS, COUNT = 16, 1000

    def assert_all_arrived(self, receiver: Process, name: str = "node", sent_by: int = 0) -> None:
        """
        Everything has come, once, and in the order in which each thread has sent it.

        :param sent_by: leave out what the socket itself has sent: that of every fourth thread,
            counted from this one; 0 for nothing.
        """
        threads = [
            number for number in range(self.THREADS) if not sent_by or number % 4 != sent_by % 4
        ]
        total = len(threads) * self.COUNT
        self.wait_for(
            lambda: receiver.ask("count", name=name) >= total,
            f"{total} messages at {receiver}",
            timeout=90.0,
        )
        heard: dict[int, list[int]] = {number: [] for number in threads}
        for number, turn in receiver.ask("gathered", name=name):
            heard[number].append(turn)
        for number, turns in heard.items():
            self.assertEqual(turns, list(range(self.COUNT)), f"thread {number} at {receiver}")

    def test_one_socket(self) -> None:
        """From one socket: 16,000 deliveries at each of two receivers, each once, in order."""
        sender, *receivers = self.spawn(3, max_outgoing=0)
        for receiver in receivers:
            receiver.ask("gather")
            self.link(sender, receiver)
        with seconds() as passed:
            took = sender.ask(
                "storm", timeout=90.0, threads=self.THREADS, count=self.COUNT, names=["node"]
            )
            for receiver in receivers:
                self.assert_all_arrived(receiver)
            self.note(
                f"{self.THREADS * self.COUNT} sends in {took:.2f} s, all of them delivered to "
                f"{len(receivers)} peers within {passed():.2f} s"
            )
        time.sleep(QUIET)
        for receiver in receivers:
            self.assertEqual(receiver.ask("count"), self.THREADS * self.COUNT)
            self.assertEqual(receiver.ask("status")["errors"], [])

    def test_four_sockets(self) -> None:
        """From four sockets of one process, whose messages the first receiver passes on."""
        hub, leaf = self.spawn(2, max_outgoing=0)
        sender = self.spawn(1, name="a", max_outgoing=0)[0]
        names = ["a", "b", "c", "d"]
        for name in names[1:]:
            sender.open(name=name, max_outgoing=0)
        # One way between any two: by several ways, what is sent first may come last.
        self.link(leaf, hub)
        for name in names:
            sender.ask("connect", name=name, port=hub.port)
            sender.ask("gather", name=name)
        for receiver in (hub, leaf):
            receiver.ask("gather")
        self.wait_for(lambda: len(hub.table()) == 5, "all to be connected")
        sender.ask("storm", timeout=90.0, threads=self.THREADS, count=self.COUNT, names=names)
        for receiver in (hub, leaf):
            self.assert_all_arrived(receiver)
        for number, name in enumerate(names):
            self.assert_all_arrived(sender, name, sent_by=number or 4)
        time.sleep(QUIET)
        for receiver in (hub, leaf):
            self.assertEqual(receiver.ask("count"), self.THREADS * self.COUNT)

    def test_large_and_small(self) -> None:
        """
        A message as large as is allowed, and short ones right behind it, arrive in this order,
        and the link stays.
        """
        sender, receiver = self.spawn(2)
        receiver.ask("gather")
        self.link(sender, receiver)
        pushed = sender.ask("push", size=8 * MIB - 1024, count=3, short=50)
        self.assertEqual((pushed["sent"], pushed["failure"]), (3 * 51, ""))
        self.wait_for(lambda: receiver.ask("count") >= 3 * 51, "all messages")
        self.assertEqual(receiver.ask("pushed"), list(range(3 * 51)))
        self.assertEqual(sender.ask("status")["closed links"], {})
        self.assertEqual(sender.ask("connect_events"), 1)


class HandlerTests(ProcessTestCase):
    """What a user's handler does costs nobody else anything."""

    def row(self) -> list[Process]:
        """Three nodes in a row: what the ends tell each other goes through the middle."""
        left, middle, right = row = self.spawn(3, max_outgoing=0)
        self.link(left, middle)
        self.link(right, middle)
        return row

    def test_a_handler_that_sleeps(self) -> None:
        """
        While a handler sleeps ten seconds its node relays at once, keeps its links and takes new
        ones; afterwards the application gets everything that has come meanwhile.
        """
        left, middle, right = self.row()
        middle.ask("misbehave", how="sleep", seconds=10.0)
        middle.ask("gather")
        right.ask("gather")
        with seconds() as passed:
            left.ask("send", packets=["sleep"])
            self.wait_for(
                lambda: "callback has been running" in middle.ask("status")["state"],
                "the status to tell of the handler",
            )
            sent = left.ask("stamps", rate=50.0, seconds=3.0)
            self.wait_for(lambda: right.ask("count") >= sent + 1, "all messages at the other end")
            late = self.spawn(1, max_outgoing=0)[0]
            self.link(late, middle)
            self.assertEqual(middle.ask("count"), 0)
            self.assertLess(passed(), 9.5, "this machine is too slow for this test")
            self.wait_for(lambda: middle.ask("count") >= sent, "the application to get it all")
        self.assertEqual(middle.ask("gathered"), right.ask("gathered")[1:])
        right_delays = right.ask("delays", first=1)
        self.note(
            f"through the sleeping node: p50 {1000 * percentile(right_delays, 0.5):.1f} ms, "
            f"worst {1000 * max(right_delays):.0f} ms"
        )
        self.assertLess(max(right_delays), 1.0)
        for node in (left, middle, right):
            self.assertEqual(node.ask("connect_events"), 1)
            self.assertEqual(node.ask("status")["closed links"], {})
            self.assertEqual(node.ask("status")["errors"], [])

    def test_a_handler_that_raises(self) -> None:
        """
        What a handler raises, be it meant to end the program, is told in the status; its message
        goes to the next handler and to the queue, other nodes get theirs, and all links stay.
        """
        self.expected_traceback = ": a mistake in a handler"
        kinds = ["ValueError", "SystemExit", "KeyboardInterrupt", "GeneratorExit", "BaseException"]
        left, middle, right = self.row()
        middle.ask("misbehave", how="raise")
        for node in (middle, right):
            node.ask("gather")
        expected = []
        for number, kind in enumerate(kinds * 4):
            expected += [["raise", kind], [number]]
            left.ask("send", packets=["raise", kind])
            left.ask("send", packets=[number])
        for node in (middle, right):
            self.wait_for(
                lambda node=node: node.ask("count") >= len(expected), "all messages at both ends"
            )
            self.assertEqual(node.ask("gathered"), expected)
        told = [text.splitlines()[-1] for text in middle.ask("status")["errors"]]
        self.assertEqual(told, [f"{kind}: a mistake in a handler" for kind in kinds * 4])
        for node in (left, middle, right):
            self.assertEqual(node.ask("connect_events"), 1)
            self.assertEqual(node.ask("status")["closed links"], {})


class SlowPeerTests(ProcessTestCase):
    """Peers that do not read."""

    def test_one_of_two(self) -> None:
        """
        With one of two receivers stopped no `send` waits long, memory stays bounded, and the
        other receiver gets everything; the stopped one loses its link, and comes back when it
        goes on.
        """
        count = 600
        sender, healthy, stopped = self.spawn(3, max_outgoing=0)
        for receiver in (healthy, stopped):
            receiver.ask("gather")
            self.link(receiver, sender)
        sender.ask("push", size=60_000, count=20)
        self.wait_for(lambda: healthy.ask("count") >= 20, "the first messages")
        before = sender.memory
        sender.forget_memory()
        stopped.halt()
        pushed = sender.ask("push", timeout=60.0, size=60_000, count=count)
        self.wait_for(lambda: healthy.ask("count") >= 20 + count, "all messages at the other peer")
        grown = sender.most_memory - before
        self.note(f"{grown / MIB:.1f} MiB, longest send {pushed['longest']:.2f} s")
        self.assertEqual((pushed["sent"], pushed["failure"]), (count, ""))
        self.assertEqual(healthy.ask("pushed")[20:], list(range(count)))
        self.assertLess(pushed["longest"], LONGEST_SEND)
        # What was sent is held for those who miss it, whoever reads it or not.
        self.assertLessEqual(grown, MOST_MEMORY + count * 60_000)
        self.assert_given_up(sender)

        stopped.resume()
        self.wait_for(
            lambda: stopped.id in sender.table() and sender.id in stopped.table(),
            "the stopped peer to come back",
            timeout=40.0,
        )
        sender.ask("send", packets=["welcome back"])
        self.wait_for(lambda: ["welcome back"] in stopped.ask("gathered"), "it to be served")
        self.assertEqual(healthy.ask("connect_events"), 1)

    def assert_given_up(self, sender: Process) -> None:
        """The peer that does not read has lost its link: to its queue, or to a ping."""

        def reasons() -> list[str]:
            closed = sender.ask("status")["closed links"]
            return sorted({"peer too slow", "unresponsive"} & set(closed))

        self.wait_for(lambda: bool(reasons()), "the peer to be given up", timeout=20.0)

    def test_the_only_one(self) -> None:
        """
        With the only receiver stopped `send` waits, with a timeout it says so, and in the end the
        receiver loses its link rather than the sender its memory.
        """
        sender, stopped = self.spawn(2, max_outgoing=0)
        stopped.ask("gather")
        self.link(stopped, sender)
        sender.ask("push", size=60_000, count=20)
        self.wait_for(lambda: stopped.ask("count") >= 20, "the first messages")
        before = sender.memory
        sender.forget_memory()
        stopped.halt()
        pushed = sender.ask("push", size=60_000, count=1000, patience=0.05)
        self.assertTrue(pushed["failure"].startswith("WouldBlock"), pushed)
        self.assertLess(pushed["longest"], 2.0)
        pushed = sender.ask("push", timeout=60.0, size=60_000, count=500)
        self.assertEqual((pushed["sent"], pushed["failure"]), (500, ""))
        self.assertLess(pushed["longest"], LONGEST_SEND)
        grown = sender.most_memory - before
        self.note(f"{grown / MIB:.1f} MiB, longest send {pushed['longest']:.2f} s")
        self.assertLessEqual(grown, MOST_MEMORY + 1500 * 60_000)
        self.assert_given_up(sender)
