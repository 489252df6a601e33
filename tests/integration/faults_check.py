"""
Networks that come back.

The original has tests of this, commented out: three nodes, all connected, of which one leaves or
one link breaks. Here they are. And two nodes that dial each other at the same moment, which left
the original without any connection four times out of six, have exactly one afterwards.

Times are in seconds. Source: docs/design.rst, "Two connections to one peer" and "Dialling".
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.integration.nodes import Process, ProcessTestCase, seconds

#: Until a link is back: the dialer waits up to fifteen seconds, and tries again.
HEALING = 40.0

#: How long to wait where the test is that nothing more comes.
QUIET = 0.3

#: State of a TCP connection in the system's table: ESTABLISHED.
_ESTABLISHED = "01"


def established(port: int) -> int:
    """
    How many connections the system has that were made to a port and accepted there, without
    those that either end has begun to close.
    """
    number = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, _, state = line.split()[1:4]
        number += state == _ESTABLISHED and int(local.rpartition(":")[2], 16) == port
    return number


class RecoveryTests(ProcessTestCase):
    """Three nodes, each the neighbour of each."""

    encryption = "Plaintext"

    def setUp(self) -> None:
        super().setUp()
        self.trio = self.spawn(3, encryption=self.encryption)
        first, second, third = self.trio
        self.link(second, first)
        self.link(third, second)
        self.wait_for_all(self.trio)
        for node in self.trio:
            node.ask("gather")
        self.assert_everyone_hears_everyone(self.trio, "before")

    def wait_for_all(self, nodes: list[Process], timeout: float = HEALING) -> None:
        """Wait until each node has exactly the others in its table, over one connection each."""
        everybody = {node.id for node in nodes}
        self.wait_for(
            lambda: all(node.table() == everybody - {node.id} for node in nodes),
            "all tables to be complete",
            timeout,
        )
        links = len(nodes) * (len(nodes) - 1) // 2
        self.wait_for(
            lambda: sum(established(node.port) for node in nodes) == links,
            f"{links} connections between {len(nodes)} nodes",
        )

    def assert_everyone_hears_everyone(self, nodes: list[Process], word: str) -> None:
        """What one node sends comes to each of the others, once."""
        for number, node in enumerate(nodes):
            node.ask("send", packets=[word, number])

        def heard(node: Process) -> list[Any]:
            return sorted(item for item in node.ask("gathered") if item[0] == word)

        for node in nodes:
            self.wait_for(
                lambda node=node: len(heard(node)) >= len(nodes) - 1, f"{node} to hear all"
            )
        time.sleep(QUIET)
        for number, node in enumerate(nodes):
            expected = [[word, other] for other in range(len(nodes)) if other != number]
            self.assertEqual(heard(node), expected, node)

    def assert_never_alone(self, nodes: Iterable[Process]) -> None:
        """None of these nodes has lost its last peer."""
        for node in nodes:
            self.assertEqual(node.ask("connect_events"), 1)

    def lost(self, node: Process) -> int:
        """How many neighbours a node has lost."""
        return int(node.ask("status")["happened"].get("lost", 0))

    def test_a_link_that_breaks(self) -> None:
        """A link that breaks is made again by itself, whoever's end breaks; nobody misses a word."""
        for number, (one, other) in enumerate(
            ((0, 1), (1, 0), (2, 1), (0, 2)),
        ):
            before = self.lost(self.trio[one])
            with seconds() as passed:
                self.trio[one].ask("cut", peer=self.trio[other].id)
                # It may be back before anybody could see it gone.
                self.wait_for(
                    lambda one=one, before=before: self.lost(self.trio[one]) > before,
                    "the link to be missed",
                    timeout=5.0,
                )
                self.trio[one].ask("send", packets=["meanwhile", number])
                self.wait_for_all(self.trio)
            self.note(f"a broken link was back after {passed():.1f} s")
        self.assert_everyone_hears_everyone(self.trio, "after")
        for number, node in enumerate(self.trio):
            senders = (0, 1, 2, 0)
            expected = [["meanwhile", turn] for turn in range(4) if senders[turn] != number]
            heard = [item for item in node.ask("gathered") if item[0] == "meanwhile"]
            self.assertEqual(heard, expected)
        self.assert_never_alone(self.trio)

    def test_all_links_break(self) -> None:
        """Three nodes that lose all their links at once find together again."""
        first, second, third = self.trio
        before = [self.lost(node) for node in self.trio]
        with seconds() as passed:
            first.ask("cut", peer=second.id)
            second.ask("cut", peer=third.id)
            third.ask("cut", peer=first.id)
            self.wait_for(
                lambda: all(
                    self.lost(node) >= lost + 2
                    for node, lost in zip(self.trio, before, strict=True)
                ),
                "all to have missed both their links",
                HEALING,
            )
            self.wait_for_all(self.trio)
        self.note(f"three broken links were back after {passed():.1f} s")
        self.assert_everyone_hears_everyone(self.trio, "after")

    def test_a_node_that_is_killed(self) -> None:
        """
        The others stay together when a node is killed, whichever it is; another one on its port
        is taken in without anybody's help.
        """
        for victim in range(3):
            port = self.trio[victim].port
            rest = [node for node in self.trio if node is not self.trio[victim]]
            self.trio[victim].kill()
            self.wait_for_all(rest, timeout=5.0)
            self.assert_everyone_hears_everyone(rest, f"without {victim}")
            with seconds() as passed:
                heir = self.spawn(1, port=port, encryption=self.encryption)[0]
                heir.ask("gather")
                self.trio[victim] = heir
                self.wait_for_all(self.trio)
            self.note(f"a new node was found after {passed():.1f} s")
            self.assert_everyone_hears_everyone(self.trio, f"with another {victim}")
            self.assert_never_alone(rest)

    def test_a_node_that_leaves(self) -> None:
        """The others stay together when a node closes; its socket may come back by itself."""
        first, second, third = self.trio
        third.ask("close")
        self.wait_for_all([first, second], timeout=5.0)
        self.assert_everyone_hears_everyone([first, second], "two")
        third.open(port=third.port, encryption=self.encryption)
        third.ask("gather")
        self.wait_for_all(self.trio)
        self.assert_never_alone([first, second])

    def test_connecting_again(self) -> None:
        """To connect to neighbours again, from both sides and many times, changes nothing."""
        for _ in range(5):
            for node in self.trio:
                for other in self.trio:
                    if other is not node:
                        node.ask("connect", port=other.port)
        self.wait_for_all(self.trio)
        self.assert_everyone_hears_everyone(self.trio, "after")
        self.assert_never_alone(self.trio)


class EncryptedRecoveryTests(RecoveryTests):
    """The same over TLS."""

    encryption = "SSL"


class CrossedDialTests(ProcessTestCase):
    """Two nodes that connect to each other at the same moment."""

    #: Rounds, and pairs in each of them.
    ROUNDS, PAIRS = 6, 10

    def test_one_connection(self) -> None:
        """
        Each of sixty times there is exactly one connection afterwards, the same one at both
        ends; and what was sent at that moment arrives, once.
        """
        left, right = self.processes = [Process(), Process()]
        names = [f"pair {number}" for number in range(self.PAIRS)]
        crossed = 0
        for turn in range(self.ROUNDS):
            for name in names:
                for node in (left, right):
                    node.open(name=name, max_outgoing=0, drain_time=0.2)
                    node.ask("gather", name=name)
            crossed += self.cross(turn, names)
            for name in names:
                for node in (left, right):
                    node.tell("close", name=name)
            for _ in names:
                for node in (left, right):
                    node.hear("close")
        self.note(f"{crossed} of {self.ROUNDS * self.PAIRS} dials have crossed")
        self.assertGreater(crossed, self.ROUNDS * self.PAIRS // 4, "this has tested nothing")

    def cross(self, turn: int, names: list[str]) -> int:
        """
        Let each pair of sockets dial each other.

        :return: how many of these dials have really crossed.
        """
        left, right = self.processes
        ports = [node.ask("ports") for node in (left, right)]
        when = time.monotonic() + 0.1
        # Each pair has its own idea of the same moment, a few milliseconds apart at most.
        left.tell("connect_at", when=when, ports=ports[1], word=turn)
        right.tell("connect_at", when=when + (turn - 3) * 0.0005, ports=ports[0], word=turn)
        for node in (left, right):
            node.hear("connect_at")
        everything = [*ports[0].values(), *ports[1].values()]
        self.wait_for(
            lambda: (
                sum(established(port) for port in everything) == len(names)
                and all(
                    len(table) == 1
                    for node in (left, right)
                    for table in node.ask("tables").values()
                )
            ),
            "one connection for each pair",
        )
        time.sleep(QUIET)
        tables = [node.ask("tables") for node in (left, right)]
        for name in names:
            one, other = tables[0][name], tables[1][name]
            self.assertEqual((len(one), len(other)), (1, 1), f"{name} in turn {turn}")
            self.assertNotEqual(one[0][1], other[0][1], "each end keeps another connection")
            self.assertEqual(
                established(ports[0][name]) + established(ports[1][name]), 1, "connections"
            )
            self.assertEqual(
                [node.ask("gathered", name=name) for node in (left, right)],
                [[["word", turn]], [["word", turn]]],
                f"what {name} has heard in turn {turn}",
            )
        return sum(
            left.ask("status", name=name)["closed links"].get("duplicate connection", 0)
            + right.ask("status", name=name)["closed links"].get("duplicate connection", 0)
            > 0
            for name in names
        )
