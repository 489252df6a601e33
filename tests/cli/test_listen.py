"""
``py2p listen`` in a network in memory, and what it makes of messages.
"""

from __future__ import annotations

import json
import re
import signal
import sys
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.cli import listen
from py2p_twisted.cli.listen import as_line, as_object, as_text
from py2p_twisted.net import Delivery, plainjson
from tests.cli.members import FIRST, InlineWriter, MemberTestCase
from tests.net.wires import mute

WAY = f"--join={FIRST}"

#: What harms a terminal, or the next program: line ends of every kind, sequences that clear the
#: screen and set the title, the eight-bit introducer, delete, text that runs backwards.
HOSTILE = "a\r\n\x0b\x0c\x1b[2J\x1b]0;title\x07\x00\x7f\x85\x9b31m\u200b\u2028\u2029\u202e\ufeffz"

texts = st.text(max_size=20)
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats()
scalars = texts | st.binary(max_size=20) | numbers | st.none() | st.booleans()
keys = texts | st.binary(max_size=5) | st.integers(-9, 9) | st.tuples(texts, st.booleans())
packets = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
senders = st.binary(max_size=30) | texts


def delivery(*said: Any, sender: bytes | str = b"sender", via: bytes = b"via") -> Delivery:
    """A message that has arrived."""
    made = SimpleNamespace(
        packets=(0, *said), sender=sender, id=bytes(32), time=1, link=SimpleNamespace(id=via)
    )
    return cast(Delivery, made)


class LineTests(SynchronousTestCase):
    """A message as a line for people."""

    def assert_harmless(self, text: str) -> None:
        self.assertEqual([one for one in text if not one.isprintable()], [], ascii(text))

    def test_a_line(self) -> None:
        """The time, the beginning of the sender's id, and the packets, two blanks apart."""
        line = as_line(delivery("storm", b"north", 3, None, [1, "a"], sender=b"0123456789"))
        self.assertRegex(line, r"^\d\d:\d\d:\d\d 01234567  storm  north  3  null  \[1, \"a\"\]$")

    def test_packets(self) -> None:
        """Text is shown as it is, also as bytes; everything else as JSON."""
        for packet, shown in (
            ("grüße ☃", "grüße ☃"),
            ("grüße".encode(), "grüße"),
            (b"\xff\x00", '{"$base64": "/wA="}'),
            (1.5, "1.5"),
            (float("nan"), '{"$float": "nan"}'),
            (True, "true"),
            ({"a": [None]}, '{"a": [null]}'),
            ({1: b"\xff"}, '{"$map": [[1, {"$base64": "/w=="}]]}'),
            ("", ""),
            ([], "[]"),
        ):
            self.assertEqual(as_text(packet), shown)

    def test_no_packets(self) -> None:
        """There is still a line."""
        self.assertRegex(as_line(delivery()), r"^\d\d:\d\d:\d\d sender  $")

    def test_hostile_text(self) -> None:
        """It is spelt, wherever it stands."""
        shown = as_text(HOSTILE)
        self.assertEqual(
            shown,
            r"a\r\n\x0b\x0c\x1b[2J\x1b]0;title\x07\x00\x7f\x85\x9b31m\u200b\u2028\u2029\u202e\ufeffz",
        )
        for packet in (HOSTILE.encode(), [HOSTILE], {HOSTILE: HOSTILE}, {1: HOSTILE}):
            self.assert_harmless(as_text(packet))

    def test_no_packet_is_harmful(self) -> None:
        """Whatever it holds: one line, and no control characters."""

        @given(packets)
        @example(["\x7f"])
        @example({"\x7f": "\x80\x9f\xad"})
        def check(packet: Any) -> None:
            self.assert_harmless(as_text(packet))

        check()

    def test_no_message_is_harmful(self) -> None:
        """Whoever it says it is from."""

        @given(st.lists(packets, max_size=3), senders)
        def check(said: list[Any], sender: bytes | str) -> None:
            self.assert_harmless(as_line(delivery(*said, sender=sender)))

        check()


class ObjectTests(SynchronousTestCase):
    """A message for programs."""

    def test_keys(self) -> None:
        """What there is to know of it."""
        made = SimpleNamespace(
            packets=(48, "storm", b"\xff"),
            sender=b"the sender",
            id=bytes(range(32)),
            time=1_790_000_000,
            link=SimpleNamespace(id=b"a neighbour"),
        )
        self.assertEqual(
            as_object(cast(Delivery, made)),
            {
                "packets": ["storm", {"$base64": "/w=="}],
                "sender": "the sender",
                "via": "a neighbour",
                "id": bytes(range(32)).hex(),
                "time": 1_790_000_000,
                "type": 48,
            },
        )

    def test_ids(self) -> None:
        """Whatever a peer calls itself becomes text."""
        for ident, text in ((b"a", "a"), ("ä", "ä"), (b"\xff", "\\xff"), ("ä".encode(), "ä")):
            self.assertEqual(as_object(delivery(sender=ident))["sender"], text)

    def test_there_and_back(self) -> None:
        """Every message is one line of ASCII, and its packets can be read back."""

        @given(st.lists(packets, max_size=3), senders)
        def check(said: list[Any], sender: bytes | str) -> None:
            line = json.dumps(as_object(delivery(*said, sender=sender)), allow_nan=False)
            self.assertTrue(line.isascii() and "\n" not in line)
            back = plainjson.loads(json.dumps(json.loads(line)["packets"]))
            self.assertEqual(repr(_lists(back)), repr(_lists(said)))

        check()


def _lists(value: Any) -> Any:
    """The same with lists for tuples: so they are on the wire."""
    if isinstance(value, (list, tuple)):
        return [_lists(item) for item in value]
    if isinstance(value, dict):
        return [[_lists(key), _lists(item)] for key, item in value.items()]
    return value


class ListenTestCase(MemberTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.use(listen)
        self.ada = self.mesh["ada"]

    def listen(self, *arguments: str) -> int:
        """Type the command."""
        return self.main("listen", WAY, *arguments)

    def say(self, when: float, *messages: Any) -> None:
        """Have the node send messages of one packet each."""
        for message in messages:
            self.later(when, self.ada.send, message)


class ListenTests(ListenTestCase):
    def test_count(self) -> None:
        """It ends with the last message that was asked for, and prints no more."""
        self.say(1, "one", "two", "three", "four")
        self.assertEqual(self.listen("--count=3"), 0)
        self.assertEqual(self.mesh.clock.seconds(), 1)
        lines = self.printed().splitlines()
        self.assertEqual([line.split("  ", 1)[1] for line in lines], ["one", "two", "three"])
        self.assertEqual(self.said(), f"py2p listen: joined through {FIRST}\n")
        self.assertEqual(self.ada.peers, set())

    def test_several_at_once(self) -> None:
        """Those behind the last one are nobody's, though they came together with it."""
        self.later(1, lambda: [self.ada.send(number) for number in range(10)])
        self.assertEqual(self.listen("--count=2"), 0)
        self.assertEqual(self.printed().count("\n"), 2)

    def test_json(self) -> None:
        """One object a line."""
        self.say(1, "storm", b"\xff", float("nan"))
        self.assertEqual(self.listen("--json", "--count=3"), 0)
        told = [json.loads(line) for line in self.printed().splitlines()]
        self.assertEqual(
            [one["packets"] for one in told],
            [["storm"], [{"$base64": "/w=="}], [{"$float": "nan"}]],
        )
        for one in told:
            self.assertEqual((one["sender"], one["via"]), (self.ada.id.decode(),) * 2)

    def test_far_senders(self) -> None:
        """Who has said it is not who has brought it."""
        self.mesh.add("ben")
        self.mesh.link("ada", "ben")
        # The listener would dial it, and hear of it itself.
        self.mesh["ben"].service.ports[0].stopListening()
        self.later(1, self.mesh["ben"].send, "hello")
        self.assertEqual(self.listen("--json", "--count=1"), 0)
        told = json.loads(self.printed())
        self.assertEqual(
            (told["sender"], told["via"]), (self.mesh["ben"].id.decode(), self.ada.id.decode())
        )

    def test_wait(self) -> None:
        """It ends after so long, counted from joining, with what has come."""
        self.mesh.kill("ada")
        self.later(5, self.mesh.add, "ben")
        self.later(7, lambda: self.mesh["ben"].send("hello"))
        self.assertEqual(self.main("listen", "--join=10.0.0.2:4444", "--wait=20"), 0)
        self.assertTrue(25 <= self.mesh.clock.seconds() < 30, self.mesh.clock.seconds())
        self.assertIn("  hello\n", self.printed())

    def test_too_few(self) -> None:
        """Who has asked for more than has come is told how many have."""
        self.say(1, "one")
        self.assertEqual(self.listen("--count=3", "--wait=5"), 1)
        self.assertEqual(self.mesh.clock.seconds(), 5)
        self.assertEqual(
            self.said().splitlines()[1:],
            ["py2p listen: 1 of 3 messages have come within 5 s"],
        )
        self.assertEqual(self.printed().count("\n"), 1)

    def test_enough_in_time(self) -> None:
        """Then the time does not matter, and nobody waits for it."""
        self.say(1, "one")
        self.assertEqual(self.listen("--count=1", "--wait=5"), 0)
        self.assertEqual(self.mesh.clock.seconds(), 1)
        self.mesh.advance(60)
        self.assertEqual(self.said().count("\n"), 1)

    def test_usage(self) -> None:
        """One line each, and nothing is joined."""
        for bad, words in (
            ("--count=0", "a number from 1 on, for example 10"),
            ("--count=x", "a number from 1 on"),
            ("--wait=0", "a number of seconds, for example 60"),
            ("--wait=inf", "a number of seconds"),
            ("extra", "unrecognized arguments: extra"),
        ):
            self.assertEqual(self.listen(bad), 2)
            line = self.said()
            self.assertIn(words, line)
            self.assertEqual(line.count("\n"), 1)
        self.assertEqual(self.members, [])

    def test_nobody_is_there(self) -> None:
        self.mesh.kill("ada")
        self.assertEqual(self.listen("--timeout=2"), 1)
        self.assertIn("could not join through", self.said().splitlines()[-1])

    def test_the_link_is_made_again(self) -> None:
        """A node that comes back is heard again."""
        address = self.ada.address

        def back() -> None:
            ben = self.mesh.add("ben")
            self.mesh.network.server(address).listen(ben.service.factory)

        self.later(1, self.mesh.kill, "ada")
        self.later(20, back)
        self.later(60, lambda: self.mesh["ben"].send("back"))
        self.assertEqual(self.listen("--count=1"), 0)
        self.assertIn("  back\n", self.printed())

    def test_what_is_said_of_the_link(self) -> None:
        """That it is lost, and when there is one again: not before its peer is known to stay."""
        ben, dan = (self.mesh.add(name, extensions=False) for name in ("ben", "dan"))
        for node in (ben, dan):
            mute(node.service.factory)
        self.later(1, lambda: self.members[0].connect(*ben.address))
        self.later(1.5, lambda: self.members[0].connect(*dan.address))
        self.later(2, self.mesh.kill, "ada")
        self.later(2.9, lambda: self.assertEqual(self.err.getvalue().count("\n"), 2))
        self.later(5, lambda: ben.send("hello"))
        self.assertEqual(self.listen("--count=1"), 0)
        first, lost, again = self.said().splitlines()
        self.assertEqual(first, f"py2p listen: joined through {FIRST}")
        self.assertIn(f"the link to {FIRST} is lost", lost)
        self.assertEqual(again, "py2p listen: joined through 10.0.0.2:4444")

    def test_signals(self) -> None:
        """One line, and a goodbye."""
        self.addCleanup(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))
        for number, code, word in (
            (signal.SIGINT, 130, "interrupted"),
            (signal.SIGTERM, 143, "terminated"),
        ):
            self.later(1, self.interrupt, number)
            self.assertEqual(self.listen(), code)
            self.assertEqual(self.said().splitlines()[1:], [f"py2p listen: {word}"])
            self.assertEqual(self.ada.peers, set())


class ReaderTests(ListenTestCase):
    """Who reads the lines, or does not."""

    def test_the_encoding(self) -> None:
        """What the terminal has no character for is spelt."""
        told: dict[str, str] = {}
        self.out.reconfigure = told.update  # type: ignore[attr-defined]
        self.say(1, "one")
        self.listen("--count=1")
        self.assertEqual(told, {"errors": "backslashreplace"})

    def test_a_gap(self) -> None:
        """It is said once that lines are lost, however many they are."""
        self.patch(InlineWriter, "most", 2)
        self.say(1, *range(6))
        self.assertEqual(self.listen("--count=6"), 0)
        self.assertEqual(self.printed().count("\n"), 2)
        self.assertEqual(
            self.said().splitlines()[1:],
            ["py2p listen: gap: messages are lost, nobody reads them"],
        )

    def test_a_gap_of_several(self) -> None:
        """A large message may cost more than one, and that is said as well."""

        class Full(InlineWriter):
            def put(self, line: str) -> bool:
                if "large" in line:
                    self.lost += 3
                    return False
                return super().put(line)

        self.patch(listen, "Writer", Full)
        self.say(1, "small", "large", "large")
        self.assertEqual(self.listen("--count=3"), 0)
        self.assertEqual(self.said().count("gap"), 1)

    def broken(self, error: Exception) -> None:
        """From now on standard output cannot be written to."""

        def write(text: str) -> int:
            raise error

        self.patch(self.out, "write", write)

    def test_the_reader_goes(self) -> None:
        """It ends with the next line, without a word, and says goodbye."""
        self.later(1, self.broken, BrokenPipeError())
        self.say(2, "one", "two")
        self.assertEqual(self.listen(), 1)
        self.assertEqual(self.said(), f"py2p listen: joined through {FIRST}\n")
        self.assertEqual(self.ada.peers, set())

    def test_a_full_disk(self) -> None:
        """It is said."""
        self.broken(OSError(28, "No space left on device"))
        self.say(1, "one")
        self.assertEqual(self.listen(), 1)
        self.assertEqual(self.said().splitlines()[1:], ["py2p listen: No space left on device"])

    def test_the_last_line_cannot_be_written(self) -> None:
        """As many as were asked for have come; but nobody has them."""
        self.broken(OSError(28, "No space left on device"))
        self.say(1, "one", "two")
        self.assertEqual(self.listen("--count=2"), 1)
        self.assertEqual(self.said().splitlines()[1:], ["py2p listen: No space left on device"])

    def test_it_waits_for_the_reader(self) -> None:
        """The command ends when the last line has been written, not when it has come."""
        pending: list[Deferred[None]] = []

        class SlowWriter(InlineWriter):
            def drained(self) -> Deferred[None]:
                pending.append(Deferred())
                return pending[-1]

        self.patch(listen, "Writer", SlowWriter)
        self.say(1, "one")
        self.later(30, lambda: pending.pop().callback(None))
        self.assertEqual(self.listen("--count=1"), 0)
        self.assertEqual(self.mesh.clock.seconds(), 30)

    def test_a_message_at_the_last_moment(self) -> None:
        """What comes when all has been written and it leaves is not begun any more."""
        self.patch(sys, "stdout", self.out)
        for moment in range(200):
            self.later(4 + moment / 100, self.ada.send, moment)
        self.assertEqual(self.listen("--wait=5"), 0)
        shown = [int(found) for found in re.findall(r"  (\d+)\n", self.printed())]
        self.assertEqual(shown, list(range(len(shown))))
        self.assertTrue(90 < len(shown) < 110, len(shown))
