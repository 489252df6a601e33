"""
Networks of our nodes and of the original py2p 0.6.757, in real processes over loopback.

Each test runs plain and over TLS unless it says why not. In the pictures ``O`` is one of ours and
``R`` an original; ``O - R - O`` is a chain, kept that way by forbidding both kinds to dial the
peers they learn of.

The original has defects of its own, and a test must not fail for them. What shapes the tests
below:

* a burst can break its reassembly when another *original* sends it, so bursts go from us to it,
  never between two of them;
* it drops a neighbour that asks it for peers, and asks for peers whenever it loses one: two
  originals may be neighbours only where nobody leaves;
* it keeps one far reply a second, so several at once are only asked of us;
* it sends with one call that may take only a part: over TLS whatever exceeds one record (16 KiB)
  after compression is cut off;
* it writes from two threads without a lock, the caller's and its own, which breaks TLS: before a
  test lets it send, it waits until everything has arrived that it might still be relaying;
* it dials with a limit of one second.
"""

import functools
import itertools
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.integration.driver import ORIGINAL, OURS, Node, RemoteFailure, encode, moments
from tests.integration.reference import PROJECT, ReferenceMissing, environment, find_reference

#: Seconds that anything may take before the test fails. Nearly everything takes a tenth of one;
#: the rest is for busy machines.
PATIENCE = 20.0

#: Seconds to wait where the test is that nothing more happens.
QUIET = 0.5

#: Seconds for thousands of messages: the original's cost for each grows with how many it
#: remembers.
LONG = 90.0

#: The sub-flags that an application sees in front of its packets.
BROADCAST, WHISPER = 0, 2

#: Compression methods by name, as the wire numbers them.
CODECS = {"zlib": 19, "gzip": 17, "bz2": 16, "lzma": 18}

#: Something of each type that can be sent, and both sides of each border in the encoding.
PAYLOADS: dict[str, Any] = {
    "text": [
        "",
        "plain",
        "grüße ☃ 𝄞",
        "nul\0nul",
        *("x" * size for size in (31, 32, 255, 256, 65535, 65536)),
    ],
    "bytes": [b"", bytes(range(256)), *(b"x" * size for size in (255, 256, 65535, 65536))],
    "integers": sorted(
        {2**bits - less for bits in (0, 7, 8, 16, 32, 63, 64) for less in (0, 1)} - {2**64}
    ),
    "negative integers": [
        -1,
        *(-(2**bits) - more for bits in (5, 7, 15, 31) for more in (0, 1)),
        -(2**63),
    ],
    "floats": [0.0, -0.0, 1.5, 1e308, 5e-324, float("inf"), float("-inf"), float("nan")],
    "constants": [None, True, False],
    "lists": [
        [],
        [1, ["a", [b"b", [None, [True]]]]],
        list(range(15)),
        list(range(16)),
        [0] * 65536,
    ],
    "tuples": [(), (1, ("a", (b"b",)))],
    "maps": [
        {},
        {"key": b"value", "list": [1, {"deep": None}]},
        {7: "int", b"k": "bytes", None: "none", 2.5: "float", True: "constant", "k": "text"},
        {f"key {number}": number for number in range(16)},
    ],
}


def arrived(value: Any) -> Any:
    """What a value has become when it arrives: the wire knows one kind of list."""
    if isinstance(value, (list, tuple)):
        return [arrived(item) for item in value]
    if isinstance(value, dict):
        return {key: arrived(item) for key, item in value.items()}
    return value


def text_of(size: int) -> str:
    """Some text that compresses well, but not to nothing, and the same each time."""
    words = random.Random(size)
    return " ".join(str(words.randrange(1000)) for _ in range(size // 3))[:size]


class NetworkTestCase(SynchronousTestCase):
    """
    Tests with nodes in processes.

    After each test every process is ended, and two things must hold whatever the test was about:
    no original that still runs has an error in its status, and none of ours has printed a
    traceback.
    """

    encryption = "Plaintext"
    maxDiff = 5000

    def setUp(self) -> None:
        try:
            self.reference = find_reference()
        except ReferenceMissing as reason:
            raise SkipTest(str(reason)) from reason
        #: All processes, and those among them whose node is still expected to be well when the
        #: test ends.
        self.spawned: list[Node] = []
        self.alive: list[Node] = []

    def tearDown(self) -> None:
        # Not left to cleanups: trial runs those before this method, which still has questions to
        # the processes.
        try:
            for node in self.spawned:
                if node.package == OURS:
                    self.assertNotIn("Traceback", node.printed(), f"{node} has met an error")
                elif node in self.alive:
                    status = node.ask("status")
                    self.assertEqual(status, "Nominal", f"{node} has met an error:\n{status}")
        finally:
            for node in self.spawned:
                node.kill()

    def spawn(self, shape: str) -> list[Node]:
        """
        Start the processes, one for each letter: O for ours, R for an original. They have no
        sockets yet.
        """
        nodes = []
        for letter in shape:
            if letter == "R":
                node = Node(ORIGINAL, self.reference.python, environment())
            else:
                # The interpreter's own settings (coverage, warnings) stay; only the way to our
                # package is added.
                path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
                node = Node(OURS, Path(sys.executable), {**os.environ, "PYTHONPATH": path})
            self.spawned.append(node)
            nodes.append(node)
        return nodes

    def nodes(self, shape: str, **options: Any) -> list[Node]:
        """Nodes that know nobody yet: one for each letter of the shape, all on the same network."""
        nodes = self.spawn(shape)
        for node in nodes:
            node.start(encryption=self.encryption, **options)
        self.alive += nodes
        return nodes

    def chain(self, shape: str) -> list[Node]:
        """Nodes in a row, each linked to the next, that dial nobody else by themselves."""
        nodes = self.nodes(shape, max_outgoing=0)
        for left, right in itertools.pairwise(nodes):
            self.link(left, right)
        return nodes

    def leave(self, node: Node, how: str) -> None:
        """Let a node leave: "close" it, or kill its process."""
        self.alive.remove(node)
        if how == "close":
            node.ask("close")
        else:
            node.kill()

    def link(self, dialler: Node, other: Node) -> None:
        """Connect two nodes and wait until both have the other in their table."""
        dialler.connect(other)
        self.wait_for(
            lambda: other.id in dialler.peers() and dialler.id in other.peers(),
            f"{dialler} and {other} to be neighbours",
        )
        if ORIGINAL in (dialler.package, other.package):
            # It fills its table, and then writes a list of its peers in its own thread.
            time.sleep(0.05)

    def wait_for(self, condition: Callable[[], bool], what: str, timeout: float = PATIENCE) -> None:
        """Look until the condition holds."""
        for _ in moments(timeout):
            if condition():
                return
        self.fail(f"waited {timeout:g} s in vain for {what}")

    def wait_for_each(
        self, nodes: Iterable[Node], condition: Callable[[Node], bool], what: str
    ) -> None:
        """Look until the condition holds for each of the nodes."""
        for node in nodes:
            self.wait_for(functools.partial(condition, node), f"{node} to {what}")

    def wait_for_count(self, node: Node, count: int, timeout: float = PATIENCE) -> None:
        """Wait until a node's application has got that many messages since its start."""
        for _ in moments(timeout):
            if (got := node.ask("count")) >= count:
                return
        self.fail(f"{node} got {got} of {count} messages in {timeout:g} s")

    def settle(self, check: Callable[[], None]) -> None:
        """Make sure that something holds, and stays so for a while."""
        for _ in moments(QUIET, interval=0.1):
            check()

    def assert_received(self, node: Node, *packets: list[Any]) -> None:
        """
        A node got exactly these messages, each once, in any order; types are compared as well as
        values.
        """
        wanted = Counter(json.dumps(encode(message)) for message in packets)
        self.wait_for_count(node, len(packets))
        got = Counter(json.dumps(encode(message)) for message in node.messages())
        self.assertEqual(got, wanted, f"at {node}")

    def assert_everyone_hears_everyone(self, nodes: list[Node], word: str = "hello") -> None:
        """
        A broadcast of each node comes to each other node once, and nobody gets anything else
        meanwhile.
        """
        before = [node.ask("count") for node in nodes]
        for number, node in enumerate(nodes):
            # One after the other: an original sends from this call and relays in a thread of its
            # own, and two threads that write to one TLS connection break it.
            node.send(word, number)
            for place, other in enumerate(nodes):
                self.wait_for_count(other, before[place] + number + (place > number))

        def check() -> None:
            for number, node in enumerate(nodes):
                heard = sorted(node.messages()[before[number] :])
                others = [
                    [BROADCAST, word, other] for other in range(len(nodes)) if other != number
                ]
                self.assertEqual(heard, others, f"at node {number}, {node}")

        self.settle(check)


class PlainTests(NetworkTestCase):
    """A mixed network without encryption."""

    # Shape

    def test_whoever_dials(self) -> None:
        """It does not matter which of the two kinds of node dials the other."""
        ours, original = self.nodes("OR")
        self.link(ours, original)
        self.assert_everyone_hears_everyone([ours, original])
        ours, original = self.nodes("OR")
        self.link(original, ours)
        self.assert_everyone_hears_everyone([ours, original])

    def test_connect_event(self) -> None:
        """
        The event 'connect' fires at both ends, once, when the first peer is there; a second peer
        is not news.
        """
        ours, original, second = self.nodes("ORO", max_outgoing=0)
        self.assertEqual([node.ask("connect_events") for node in (ours, original)], [0, 0])
        self.link(ours, original)
        self.wait_for_each(
            (ours, original), lambda node: node.ask("connect_events") == 1, "tell of it"
        )
        self.link(second, ours)
        self.settle(
            lambda: self.assertEqual(
                [node.ask("connect_events") for node in (ours, original)], [1, 1]
            )
        )

    def test_original_between_ours(self) -> None:
        """O - R - O: broadcasts pass through an original, and come to everybody once."""
        self.assert_everyone_hears_everyone(self.chain("ORO"))

    def test_ours_between_originals(self) -> None:
        """R - O - R: broadcasts pass through one of ours, and come to everybody once."""
        self.assert_everyone_hears_everyone(self.chain("ROR"))

    def test_long_chain(self) -> None:
        """R - O - O - R - O: a broadcast takes any number of steps through either kind of node."""
        self.assert_everyone_hears_everyone(self.chain("ROORO"))

    def test_full_mesh(self) -> None:
        """
        Where everybody is everybody's neighbour, each broadcast arrives over many ways and is
        told once.
        """
        first, *others = nodes = self.nodes("OROR")
        for node in others:
            self.link(node, first)
        everybody = {node.id for node in nodes}
        self.wait_for_each(
            nodes, lambda node: node.peers() == everybody - {node.id}, "know everybody"
        )
        self.assert_everyone_hears_everyone(nodes)

    def test_originals_find_each_other(self) -> None:
        """
        Two originals that know one of ours become neighbours: we tell them of each other in a way
        they understand.
        """
        first, ours, second = self.nodes("ROR")
        self.link(first, ours)
        self.link(second, ours)
        self.wait_for(
            lambda: first.id in second.peers() and second.id in first.peers(),
            "the originals to meet",
        )

    def test_ours_find_each_other(self) -> None:
        """Two of ours that know one original become neighbours."""
        first, original, second = self.nodes("ORO")
        self.link(first, original)
        self.link(second, original)
        self.wait_for(
            lambda: first.id in second.peers() and second.id in first.peers(), "ours to meet"
        )

    def test_whisper_is_not_relayed(self) -> None:
        """A whisper comes to the neighbours and goes no further; a broadcast behind it does."""
        for shape in ("ORO", "ROR"):
            near, middle, far = self.chain(shape)
            near.send("psst", flag="whisper")
            near.send("hello")
            self.assert_received(middle, [BROADCAST, "psst"], [BROADCAST, "hello"])
            self.assert_received(far, [BROADCAST, "hello"])

    # Content

    def test_sender(self) -> None:
        """A message says who sent it, not who passed it on."""
        for shape in ("ORO", "ROR"):
            near, middle, far = self.chain(shape)
            near.send("it was me")
            for node in (middle, far):
                self.wait_for_count(node, 1)
                self.assertEqual(node.senders(), [near.id])

    def test_large_messages(self) -> None:
        """A megabyte of text crosses in either direction."""
        ours, original = self.nodes("OR")
        self.link(ours, original)
        text = text_of(1_000_000)
        ours.send("from ours", text)
        self.assert_received(original, [BROADCAST, "from ours", text])
        original.send("from the original", text)
        self.assert_received(ours, [BROADCAST, "from the original", text])

    def test_large_incompressible_message(self) -> None:
        """A megabyte of noise, which no method makes smaller, crosses from ours to the original."""
        ours, original = self.nodes("OR")
        self.link(original, ours)
        noise = random.Random(1).randbytes(1_000_000)
        ours.send(noise)
        self.assert_received(original, [BROADCAST, noise])

    def test_equal_messages(self) -> None:
        """
        O - R - O: what is said five times in a second is heard five times, by an original and
        through it.
        """
        ours, original, far = self.chain("ORO")
        ours.send("knock", times=5)
        for node in (original, far):
            self.wait_for_count(node, 5)

        def check() -> None:
            for node in (original, far):
                self.assert_received(node, *[[BROADCAST, "knock"]] * 5)

        self.settle(check)

    def test_burst(self) -> None:
        """
        Three thousand short messages, sent as fast as it goes, come to the original complete and
        in order.
        """
        ours, original = self.nodes("OR")
        self.link(ours, original)
        ours.ask("burst", prefix="m", count=3000)
        self.wait_for_count(original, 3000, timeout=LONG)
        self.assertEqual(original.messages(), [[BROADCAST, f"m{number}"] for number in range(3000)])
        self.assertEqual(original.peers(), {ours.id})

    # Replies

    def test_reply_to_neighbour(self) -> None:
        """A neighbour's message is replied to directly, in either direction."""
        for shape in ("OR", "RO"):
            asker, answerer = self.nodes(shape)
            self.link(asker, answerer)
            asker.send("question")
            self.wait_for_count(answerer, 1)
            answerer.ask("reply", to="question", answers=[["yes", b"I did"], ["again"]])
            self.assert_received(asker, [WHISPER, "yes", b"I did"], [WHISPER, "again"])
            self.assertEqual(asker.senders(), [answerer.id] * 2)

    def test_reply_from_event(self) -> None:
        """A listener of the event 'message' takes the message and replies to it."""
        for shape in ("OR", "RO"):
            asker, answerer = self.nodes(shape)
            self.link(asker, answerer)
            answerer.ask("answer_event", with_=["this is an example"])
            asker.send("question")
            self.assert_received(asker, [WHISPER, "this is an example"])

    def test_reply_from_handler(self) -> None:
        """
        A handler that returns true has taken the message; it answers the sender, and the queue
        never sees it.
        """
        for shape in ("OR", "RO"):
            asker, answerer = self.nodes(shape)
            self.link(asker, answerer)
            answerer.ask("answer", to=b"test", with_=[b"success"], via="reply")
            asker.send(b"test")
            self.assert_received(asker, [WHISPER, b"success"])
            asker.send("not test")
            self.assert_received(answerer, [BROADCAST, "not test"])

    def test_answer_to_relaying_neighbour(self) -> None:
        """
        A handler may answer over the connection that it is given: to the neighbour that passed
        the message on.
        """
        for shape in ("ORO", "ROR"):
            asker, middle, answerer = self.chain(shape)
            answerer.ask("answer", to=b"test", with_=[b"success"], via="relay")
            asker.send(b"test")
            self.assert_received(middle, [BROADCAST, b"test"], [WHISPER, b"success"])

    def far_replies(self, shape: str) -> None:
        """
        The last node of a chain replies three times in a row to a message of the first, which it
        does not know.
        """
        asker, *between, answerer = self.chain(shape)
        asker.send("question")
        self.wait_for_count(answerer, 1)
        answerer.ask("reply", to="question", answers=[["one"], ["two", b"bytes"], ["three"]])
        self.assert_received(
            asker, [WHISPER, "one"], [WHISPER, "two", b"bytes"], [WHISPER, "three"]
        )
        self.assertEqual(asker.senders(), [answerer.id] * 3)
        if "R" in shape[1:]:
            # Else the replies go back the way the question came, and need no link of their own.
            self.assertIn(answerer.id, asker.peers())
        for node in between:
            self.assertIn(
                asker.id if node is between[0] else between[0].id,
                node.peers(),
                "the chain has lost a link",
            )

    def test_far_replies_ours_to_ours(self) -> None:
        """
        O - R - O: an original in the middle brings together two of ours, and every reply arrives.
        """
        self.far_replies("ORO")

    def test_far_replies_ours_to_original(self) -> None:
        """R - O - O: several replies of ours to an original that is two steps away all arrive."""
        self.far_replies("ROO")

    def test_far_replies_through_original(self) -> None:
        """R - R - O: the same where only originals stand between."""
        self.far_replies("RRO")

    def far_reply_of_original(self, shape: str) -> None:
        """An original at the end of a chain replies to the node at its start."""
        asker, *_, answerer = self.chain(shape)
        # Out of a handler, not the test's own thread: the original writes down what it wants to
        # say only after it has asked for the way, and a fast answer from us could come in
        # between.
        answerer.ask("answer", to="question", with_=["far", b"answer"], via="reply")
        asker.send("question")
        self.assert_received(asker, [WHISPER, "far", b"answer"])

    def test_far_reply_original_to_original(self) -> None:
        """R - O - R: we tell an original the way to another, for the reply that it owes."""
        self.far_reply_of_original("ROR")

    def test_far_reply_original_to_ours(self) -> None:
        """O - O - R: an original asks us the way to another of ours, dials it and is heard."""
        self.far_reply_of_original("OOR")

    def test_far_reply_original_to_ours_through_original(self) -> None:
        """O - R - R: the same where only originals stand between."""
        self.far_reply_of_original("ORR")

    # Leaving

    def leaving(self, how: str) -> None:
        """
        In the chain O - R - O an original that is linked to the last two leaves; the three go on.

        The original in the chain then asks both of ours for peers, in a spelling that other
        originals hang up on.
        """
        first, original, last = chain = self.chain("ORO")
        (leaver,) = self.nodes("R", max_outgoing=0)
        self.link(leaver, original)
        self.link(leaver, last)
        self.assert_everyone_hears_everyone([*chain, leaver], "before")

        self.leave(leaver, how)
        self.wait_for_each((original, last), lambda node: leaver.id not in node.peers(), "notice")
        self.settle(lambda: self.assertEqual(original.peers(), {first.id, last.id}))
        self.assert_everyone_hears_everyone(chain, "after")

    def test_original_closes(self) -> None:
        """An original that leaves properly costs nobody else a neighbour."""
        self.leaving("close")

    def test_original_is_killed(self) -> None:
        """An original that crashes costs nobody else a neighbour."""
        self.leaving("kill")

    def test_ours_leaves(self) -> None:
        """R - O - R - O: when ours at the end closes or crashes, those that remain keep talking."""
        for how in ("close", "kill"):
            first, middle, last, leaver = self.chain("RORO")
            self.leave(leaver, how)
            self.wait_for_each([last], lambda node: len(node.peers()) == 1, "notice")
            self.assert_everyone_hears_everyone([first, middle, last])

    def test_middle_leaves(self) -> None:
        """
        O - R - R: ours had heard of the far original from the middle one, so it still reaches it
        when that one dies.
        """
        first, middle, last = self.nodes("ORR")
        self.link(last, middle)
        self.link(first, middle)
        self.wait_for(lambda: last.id in first.peers(), "ours to dial the original it heard of")
        self.leave(middle, "kill")
        self.wait_for_each((first, last), lambda node: middle.id not in node.peers(), "notice")
        self.assert_everyone_hears_everyone([first, last])

    def test_program_ends(self) -> None:
        """
        A program whose socket was closed ends by itself, with nothing to wait for and no error.
        """
        ours, original = self.nodes("OR")
        self.link(ours, original)
        self.leave(ours, "close")
        self.assertEqual(ours.finish(timeout=PATIENCE), 0)
        self.wait_for(lambda: not original.peers(), "the original to notice")

    # Refusal

    def strangers(self) -> tuple[Node, Node]:
        """One of ours and an original, on networks with different names."""
        ours, original = nodes = self.spawn("OR")
        ours.start(subnet="mesh", encryption=self.encryption)
        original.start(subnet="mesh2", encryption=self.encryption)
        self.alive += nodes
        return ours, original

    def assert_nobody_there(self, *nodes: Node) -> None:
        """No node has a peer, or a connection that could still become one."""
        self.wait_for_each(nodes, lambda node: node.ask("awaiting") == 0, "end the connection")

        def check() -> None:
            for node in nodes:
                self.assertEqual((node.peers(), node.ask("awaiting")), (set(), 0), f"at {node}")

        self.settle(check)

    def test_other_network_is_refused(self) -> None:
        """
        Dialling a node of another network fails with the reason; there nobody notices, and both
        tables stay empty.
        """
        ours, original = self.strangers()
        failure = self.assertRaises(RemoteFailure, ours.connect, original, wait=PATIENCE)
        self.assertEqual(failure.kind, "NetworkMismatch")
        self.assert_nobody_there(ours, original)

    def test_dial_from_other_network_is_refused(self) -> None:
        """An original of another network that dials us gets nowhere, and both tables stay empty."""
        ours, original = self.strangers()
        original.connect(ours)
        self.assert_nobody_there(ours, original)
        # Neither side has come to harm: ours still takes in its own.
        (friend,) = self.nodes("R")
        self.link(friend, ours)
        self.assert_everyone_hears_everyone([friend, ours])


class TlsTests(PlainTests):
    """The same network over TLS, with each node's self-made certificate."""

    encryption = "SSL"


class PayloadTests(NetworkTestCase):
    """Every type that can be sent. (Only plain: content never meets the encryption.)"""

    def payload(self, kind: str) -> None:
        """Each value crosses in both directions, and comes out as the wire specification says."""
        ours, original = self.nodes("OR")
        self.link(ours, original)
        for number, value in enumerate(PAYLOADS[kind]):
            ours.send(kind, number, value)
            original.send(kind, number, value)
        wanted = [
            [BROADCAST, kind, number, arrived(value)] for number, value in enumerate(PAYLOADS[kind])
        ]
        self.assert_received(original, *wanted)
        self.assert_received(ours, *wanted)

    def test_text(self) -> None:
        """Text of any length and script arrives as text."""
        self.payload("text")

    def test_bytes(self) -> None:
        """Bytes of any length arrive as bytes."""
        self.payload("bytes")

    def test_integers(self) -> None:
        """Whole numbers up to 2**64 - 1 arrive as they are."""
        self.payload("integers")

    def test_negative_integers(self) -> None:
        """Whole numbers down to -2**63 arrive as they are."""
        self.payload("negative integers")

    def test_floats(self) -> None:
        """Floats arrive bit by bit, the infinite and undefined ones too."""
        self.payload("floats")

    def test_constants(self) -> None:
        """None, True and False stay what they are."""
        self.payload("constants")

    def test_lists(self) -> None:
        """Lists arrive as lists, nested or long."""
        self.payload("lists")

    def test_tuples(self) -> None:
        """Tuples arrive as lists."""
        self.payload("tuples")

    def test_maps(self) -> None:
        """Dictionaries arrive as dictionaries, in their order, with keys of any simple type."""
        self.payload("maps")

    def test_tuples_for_keys(self) -> None:
        """A dictionary that is sent with tuples for keys arrives like that, both ways."""
        ours, original = self.nodes("OR")
        self.link(ours, original)
        original.send({(1, "a"): "tuple"})
        self.assert_received(ours, [BROADCAST, {(1, "a"): "tuple"}])
        ours.send({(1, ("b",)): "tuple"})
        self.assert_received(original, [BROADCAST, {(1, ("b",)): "tuple"}])

    def test_many_packets(self) -> None:
        """A message may have no packet but one, or many, of mixed types."""
        ours, original = self.nodes("OR")
        self.link(original, ours)
        packets = ["text", b"bytes", 7, -7, 1.5, None, True, [1, [2]], {"k": b"v"}] * 10
        for sender in (ours, original):
            sender.send(*packets)
            sender.send(1)
        for receiver in (ours, original):
            self.assert_received(receiver, [BROADCAST, *packets], [BROADCAST, 1])


class CompressionTests(NetworkTestCase):
    """
    Each compression method, forced by letting the original know no other. (Only plain, like the
    payloads.)
    """

    def method(self, name: str) -> None:
        """
        Short, long and incompressible messages cross both ways, and through the original to
        another of ours.
        """
        ours, far = self.nodes("OO", max_outgoing=0)
        (original,) = self.nodes("R", max_outgoing=0, codecs=[CODECS[name]])
        self.link(ours, original)
        self.link(original, far)
        self.assertEqual(original.ask("codecs"), [[CODECS[name]]] * 2)

        contents = [
            "",
            "short",
            text_of(300_000),
            random.Random(2).randbytes(100_000),
            "x" * 1_000_000,
        ]
        for number, content in enumerate(contents):
            ours.send("ours", number, content)
            original.send("original", number, content)
        from_ours = [
            [BROADCAST, "ours", number, content] for number, content in enumerate(contents)
        ]
        from_original = [
            [BROADCAST, "original", number, content] for number, content in enumerate(contents)
        ]
        self.assert_received(original, *from_ours)
        self.assert_received(ours, *from_original)
        self.assert_received(far, *from_ours, *from_original)

        ours.ask("burst", prefix="m", count=1000)
        self.wait_for_count(original, len(contents) + 1000, timeout=LONG)
        burst = original.messages()[len(contents) :]
        self.assertEqual(burst, [[BROADCAST, f"m{number}"] for number in range(1000)])

    def test_zlib(self) -> None:
        """An original that knows only zlib."""
        self.method("zlib")

    def test_gzip(self) -> None:
        """An original that knows only gzip."""
        self.method("gzip")

    def test_bz2(self) -> None:
        """An original that knows only bz2."""
        self.method("bz2")

    def test_lzma(self) -> None:
        """An original that knows only lzma."""
        self.method("lzma")

    def test_no_method(self) -> None:
        """An original that knows no compression at all."""
        ours, far = self.nodes("OO", max_outgoing=0)
        (original,) = self.nodes("R", max_outgoing=0, codecs=[])
        self.link(ours, original)
        self.link(original, far)
        text = text_of(100_000)
        ours.send(text)
        original.send("short")
        self.assert_received(original, [BROADCAST, text])
        self.assert_received(far, [BROADCAST, text], [BROADCAST, "short"])


class EncryptionMismatchTests(NetworkTestCase):
    """One side speaks TLS and the other does not."""

    def pair(self, ours_encryption: str, original_encryption: str) -> tuple[Node, Node]:
        """One of ours and an original of the same name, but not the same encryption."""
        ours, original = nodes = self.spawn("OR")
        ours.start(encryption=ours_encryption)
        original.start(encryption=original_encryption)
        self.alive += nodes
        return ours, original

    def assert_no_link(self, ours: Node, original: Node) -> None:
        """Both tables are empty and stay so."""
        self.settle(lambda: self.assertEqual((ours.peers(), original.peers()), (set(), set())))

    def assert_dial_fails(self, dialler: Node, other: Node, kind: str) -> None:
        """The dialler learns that it failed, and that it has to do with TLS."""
        failure = self.assertRaises(RemoteFailure, dialler.connect, other, wait=PATIENCE)
        self.assertEqual(failure.kind, kind)
        self.assertIn("TLS", str(failure))

    def test_plain_dials_tls_original(self) -> None:
        """Dialling an original that speaks TLS without it fails, and says so."""
        ours, original = self.pair("Plaintext", "SSL")
        self.assert_dial_fails(ours, original, "TransportFailed")
        self.assert_no_link(ours, original)

    def test_tls_dials_plain_original(self) -> None:
        """Dialling an original that speaks no TLS with it fails, and says so."""
        ours, original = self.pair("SSL", "Plaintext")
        self.assert_dial_fails(ours, original, "TransportFailed")
        self.assert_no_link(ours, original)

    def test_plain_original_dials_tls(self) -> None:
        """A plain original that dials our TLS port gets nowhere, and we go on."""
        ours, original = self.pair("SSL", "Plaintext")
        original.connect(ours)
        self.assert_no_link(ours, original)
        (friend,) = self.spawn("R")
        friend.start(encryption="SSL")
        self.alive.append(friend)
        self.link(friend, ours)
        self.assert_everyone_hears_everyone([friend, ours])

    def test_tls_original_dials_plain(self) -> None:
        """An original that dials our plain port with TLS gets nowhere, and we go on."""
        ours, original = self.pair("Plaintext", "SSL")
        self.assertRaises(RemoteFailure, original.connect, ours)
        self.assert_no_link(ours, original)
        (friend,) = self.nodes("R")
        self.link(friend, ours)
        self.assert_everyone_hears_everyone([friend, ours])


class OriginalAloneTests(NetworkTestCase):
    """Two originals and none of ours: when these fail, the fault is not in our package."""

    def talk(self) -> None:
        """The driver and the original work together on this machine."""
        asker, answerer = self.nodes("RR")
        self.link(asker, answerer)
        self.assert_everyone_hears_everyone([asker, answerer])
        answerer.ask("reply", to="hello", answers=[["yes"]])
        self.assert_received(asker, [BROADCAST, "hello", 1], [WHISPER, "yes"])

    def test_plain(self) -> None:
        """Two originals talk without encryption."""
        self.talk()

    def test_tls(self) -> None:
        """Two originals talk over TLS."""
        self.encryption = "SSL"
        self.talk()
