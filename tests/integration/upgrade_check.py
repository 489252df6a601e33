"""
A network that goes on while it is replaced, node by node.

First one of originals (py2p 0.6.757) by ours, with the steps of docs/howto/upgrading.rst; then one of
ours by ours, as when a new version was installed. Real processes over loopback. Times are in seconds.
"""

from __future__ import annotations

import contextlib
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator

from tests.integration.commands_check import PATIENCE, Command, free_port
from tests.integration.control_check import ControlCheckCase
from tests.integration.driver import HOST, ORIGINAL, OURS, Node
from tests.integration.reference_check import BROADCAST, NetworkTestCase

#: Between two messages of those that are sent all the time.
PAUSE = 0.1

#: Originals at the beginning.
MANY = 5


class FromOriginalTests(NetworkTestCase):
    """From py2p to py2p_twisted."""

    #: Who says something at each step.
    speaking = (ORIGINAL, OURS)

    #: What keeps the originals from dialling each other.
    options: dict[str, int] = {}

    def join(self, node: Node, others: list[Node]) -> None:
        """Connect a node to others, as ``join`` would."""
        for other in others:
            self.link(node, other)

    def together(self, nodes: list[Node], bridges: list[Node]) -> None:
        """Wait until each original has a link to one of those that hold the network together."""
        known = {bridge.id for bridge in bridges}

        def linked(node: Node) -> bool:
            return bool(node.peers() & known)

        self.wait_for_each([one for one in nodes if one not in bridges], linked, "be linked")

    def end(self, node: Node, how: str) -> None:
        """Have an original leave."""
        if how == "close":
            node.ask("close")
        else:
            node.kill()
        # When one has left, another asks for peers, and a third one finds that a mistake: its status
        # tells of it from then on. Source: docs/protocol/wire.rst.
        self.alive = [one for one in self.alive if one.package != ORIGINAL]

    def all_hear_all(self, nodes: list[Node], word: str) -> None:
        """
        A broadcast of each node comes to each other node once. (Who is new also gets what was said
        before, as far as that goes.)
        """

        def heard(node: Node) -> list[int]:
            return sorted(packets[2] for packets in node.messages() if packets[1] == word)

        speakers = [number for number, node in enumerate(nodes) if node.package in self.speaking]
        for number in speakers:
            # One after the other: two threads of an original that write to one link break it.
            node = nodes[number]
            node.send(word, number)
            others = [other for other in nodes if other is not node]
            self.wait_for_each(others, lambda other, n=number: n in heard(other), f"hear {node}")  # type: ignore[misc]

        def check() -> None:
            for number, node in enumerate(nodes):
                found = heard(node)
                if node.package == ORIGINAL and number in found:
                    found.remove(number)  # now and then one hears itself, as among its own
                self.assertEqual(found, [n for n in speakers if n != number], node)

        self.settle(check)

    def test_node_by_node(self) -> None:
        """
        Five originals, then two of ours beside them, then ours in place of each: at every step what
        anybody says comes to everybody else once, and what is said all the time comes to all who are
        there all the time.
        """
        nodes = self.nodes("R" * MANY, **self.options)
        for node in nodes[1:]:
            self.link(node, nodes[0])
        self.all_hear_all(nodes, "before")

        # 1. Two of ours beside them, which know them all.
        bridges = self.nodes("OO")
        self.link(bridges[1], bridges[0])
        for bridge in bridges:
            self.join(bridge, nodes)
        nodes = [*bridges, *nodes]
        self.together(nodes, bridges)
        self.all_hear_all(nodes, "beside")

        # 2. One original after the other is ended, in whatever way, and one of ours takes its place.
        for step in range(MANY):
            old = next(node for node in nodes if node.package == ORIGINAL)
            begun = time.monotonic()
            self.end(old, "close" if step % 2 else "kill")
            nodes.remove(old)
            (new,) = self.nodes("O")
            new.connect(bridges[0], wait=15.0)
            new.connect(bridges[1], wait=15.0)
            nodes.append(new)
            self.together(nodes, bridges)
            took = time.monotonic() - begun
            self.all_hear_all(nodes, f"step {step}")
            shape = Counter(node.package for node in nodes)
            print(f"step {step + 1}: {dict(shape)}, together after {took:.1f} s")
        self.assertEqual({node.package for node in nodes}, {OURS})

    def test_what_is_said_meanwhile(self) -> None:
        """While an original is replaced, nobody who stays misses anything, or gets it twice."""
        originals = self.nodes("RRR")
        for node in originals[1:]:
            self.link(node, originals[0])
        bridges = self.nodes("OO")
        self.link(bridges[1], bridges[0])
        for bridge in bridges:
            self.join(bridge, originals)
        self.together([*originals, *bridges], bridges)
        said: list[int] = []
        stop = threading.Event()

        def speak() -> None:
            while not stop.wait(PAUSE):
                bridges[0].send(len(said))
                said.append(len(said))

        speaker = threading.Thread(target=speak)
        speaker.start()
        try:
            time.sleep(1)
            self.end(originals[0], "kill")  # through which all were linked in the beginning
            (new,) = self.nodes("O")
            new.connect(bridges[1], wait=15.0)
            time.sleep(3)
        finally:
            stop.set()
            speaker.join()
        self.together([*originals[1:], *bridges], bridges)
        wanted = [[BROADCAST, number] for number in said]
        for node in (*originals[1:], bridges[1]):
            self.wait_for(lambda node=node: node.ask("count") >= len(said), f"all at {node}")  # type: ignore[misc]
            self.assertEqual(sorted(node.messages()), wanted, f"at {node}")


class TLSFromOriginalTests(FromOriginalTests):
    """The same, encrypted."""

    encryption = "SSL"

    # An original writes from two threads without a lock, which breaks TLS; so they do not speak here,
    # and have few links over which they could pass on the same thing at the same time.
    speaking = (OURS,)
    options = {"max_outgoing": 0}

    def test_what_is_said_meanwhile(self) -> None:
        """Not here: an original that relays while it sends breaks TLS; see `reference_check`."""


class OurOwnTests(ControlCheckCase):
    """From one version of ours to the next."""

    def begin(self, number: int, ports: list[int]) -> Command:
        """A node as it is started each time: the same port, the same directory, the same file."""
        join = [f"--join={HOST}:{port}" for port in ports[:2] if port != ports[number]]
        node = self.start(
            "node", f"--listen=tcp:{ports[number]}:interface={HOST}", *join, "--debug-level=1",
            f"--state-dir={self.folder / str(number)}", "--log-format=text",
        )  # fmt: skip
        self.await_text(lambda: node.err, "it can be talked with at")
        return node

    @contextlib.contextmanager
    def speaking(self, port: int) -> Iterator[list[int]]:
        """Somebody who says a number every moment; those that were said."""
        sender = self.node()
        sender.ask("connect", port=port)
        said: list[int] = []
        stop = threading.Event()

        def speak() -> None:
            while not stop.wait(PAUSE):
                sender.ask("send", packets=[f"n{len(said)}n"])
                said.append(len(said))

        speaker = threading.Thread(target=speak)
        speaker.start()
        try:
            yield said
        finally:
            stop.set()
            speaker.join()

    def test_one_after_the_other(self) -> None:
        """
        Four nodes with state directories are each stopped and started while somebody speaks: each
        hears every number once, over both of its lives, and keeps its id.
        """
        ports = [free_port() for _ in range(4)]
        runs = {number: [self.begin(number, ports)] for number in range(4)}
        for number in runs:
            self.await_joined(self.folder / str(number) / "control.sock")
        # Who speaks is linked to a node that stays: what it says before it has a link is another story.
        anchor, port, path = self.talking("anchor.sock", f"--join={HOST}:{ports[3]}")
        self.await_joined(path)
        with self.speaking(port) as said:
            self.wait_for(lambda: len(said) > 10, "the first words")
            for number in range(4):
                runs[number][0].send_signal(signal.SIGTERM)
                self.assertEqual(runs[number][0].wait(), 0)
                time.sleep(1)
                runs[number].append(self.begin(number, ports))
                self.await_joined(self.folder / str(number) / "control.sock")
        self.assertIsNone(anchor.process.poll())
        for number, lives in runs.items():
            wanted = Counter(said)
            self.wait_for(
                lambda lives=lives: len(self.heard(lives)) >= len(said),  # type: ignore[misc]
                f"all {len(said)} numbers at node {number}",
                PATIENCE,
            )
            self.assertEqual(Counter(self.heard(lives)), wanted, f"at node {number}")
            ids = {
                word
                for life in lives
                for word in re.findall(r"this node is (\w+), and knows", life.err)
            }
            self.assertEqual(len(ids), 1, ids)
        print(f"{len(said)} messages, each once at each of {len(runs)} nodes")

    def heard(self, lives: list[Command]) -> list[int]:
        """The numbers that a node has logged, over all its lives."""
        return [
            int(found)
            for life in lives
            for found in re.findall(r"message received: .*payload=\(0, 'n(\d+)n'\)", life.err)
        ]
