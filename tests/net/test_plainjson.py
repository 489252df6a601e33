"""Packets as JSON, and back: nothing is lost, and nothing but JSON is written."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core import codec
from py2p_twisted.errors import NotSendable
from py2p_twisted.net.plainjson import dumps, loads

# Keys that look like ours have to come by often.
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["$base64", "$float", "$map", "$", "$$map", "nan", "AP8="]
)
integers = st.integers(-(2**63), 2**64 - 1)
scalars = st.none() | st.booleans() | integers | st.floats() | words | st.binary(max_size=12)
keys = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=4)
sendable = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
    ),
    max_leaves=15,
)
# What `json` can read, with our own words as keys.
plain = st.recursive(
    st.none() | st.booleans() | integers | st.floats() | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=3),
    max_leaves=15,
)


def arrived(value: Any) -> Any:
    """A packet as it arrives: tuples have become lists, but not where they are keys."""
    if isinstance(value, (list, tuple)):
        return [arrived(item) for item in value]
    if isinstance(value, dict):
        return {key: arrived(item) for key, item in value.items()}
    return value


def same(one: Any, other: Any) -> bool:
    """Equality that tells ``1`` from ``True`` and ``1.0``, and finds NaN equal to itself."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(other)) or str(one) == str(other)
    return bool(one == other)


def strict(line: str) -> Any:
    """JSON as the standard has it, without Python's additions."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(line, parse_constant=refuse)


class RoundTripTests(SynchronousTestCase):
    @given(st.lists(sendable, max_size=4))
    @example([{"$map": 1}, {"$base64": "x"}, {"$float": "nan"}, {"$other": 1}, {"$map": []}])
    @example([{b"a": 1, "a": 2, None: 3, (1, (2, b"")): [()], math.nan: -0.0}])
    @example([{}, [], b"", "", {(): {}}, {"": None}, 2**64 - 1, -(2**63), True, 1, 1.0])
    @example([{"$map": {"$map": {"$map": {"$base64": b"$map"}}}}])
    def test_nothing_is_lost(self, packets: list[Any]) -> None:
        """Whatever can be sent comes back as it was, tuples as lists."""
        self.assertTrue(same(loads(dumps(packets)), arrived(packets)), dumps(packets))

    @given(st.lists(sendable, max_size=4))
    def test_one_line_of_plain_ascii(self, packets: list[Any]) -> None:
        """Programs get a line that any JSON reader understands, whatever is in it."""
        line = dumps(packets)
        self.assertTrue(line.isascii() and line.isprintable(), line)
        self.assertIsInstance(strict(line), list)

    @given(st.lists(sendable, max_size=4))
    def test_what_was_sent_over_the_wire(self, packets: list[Any]) -> None:
        """A message as it has arrived survives as well."""
        items = codec.decode(codec.encode((0, b"s", 0, *packets)))[3:]
        self.assertTrue(same(loads(dumps(items)), arrived(items)))

    def test_forms(self) -> None:
        """Each form is the one that is documented."""
        for packet, form in (
            (b"\x00\xff", '{"$base64": "AP8="}'),
            (math.nan, '{"$float": "nan"}'),
            (math.inf, '{"$float": "inf"}'),
            (-math.inf, '{"$float": "-inf"}'),
            ({1: 2}, '{"$map": [[1, 2]]}'),
            ({b"k": (1, 2)}, '{"$map": [[{"$base64": "aw=="}, [1, 2]]]}'),
            ({"$map": 1}, '{"$map": [["$map", 1]]}'),
            ({"a": 1, "$map": 2}, '{"a": 1, "$map": 2}'),
            ("ä\n", '"\\u00e4\\n"'),
            (None, "null"),
            ({}, "{}"),
        ):
            self.assertEqual(dumps([packet]), f"[{form}]")

    def test_views_are_bytes(self) -> None:
        """Bytes may be any of Python's kinds of them."""
        for kind in (bytearray, memoryview):
            self.assertEqual(loads(dumps([kind(b"ab")])), [b"ab"])

    def test_as_deep_as_the_wire_goes(self) -> None:
        """What nests as deeply as a message may is no problem."""
        packet: Any = "core"
        for _ in range(codec.MAX_DEPTH - 1):
            packet = {b"k": packet} if len(repr(packet)) % 2 else [packet]
        self.assertEqual(loads(dumps([packet])), [packet])


class ReadingTests(SynchronousTestCase):
    @given(plain)
    @example([{"$map": [[[1, {}], 2]]}])
    @example([{"$map": None}])
    @example([{"$map": "ab"}])
    @example([{"$map": [[1]]}])
    @example([{"$float": 1.0}])
    @example([{"$float": ["nan"]}])
    @example([{"$base64": None}])
    @example([{"$base64": "\u00e4"}])
    def test_either_packets_or_one_error(self, value: Any) -> None:
        """Any JSON is read, or refused with a `ValueError` that says why."""
        try:
            packets = loads(json.dumps(value))
        except ValueError as error:
            self.assertTrue(str(error))
        else:
            self.assertIsInstance(packets, list)

    @given(st.text(max_size=40))
    def test_no_json_at_all(self, line: str) -> None:
        """So is whatever else stands in a line."""
        try:
            loads(line)
        except ValueError as error:
            self.assertTrue(str(error))

    def test_nonsense(self) -> None:
        """What is wrong is named."""
        for line, word in (
            ("", "Expecting value"),
            ("{}", "JSON array"),
            ('"text"', "JSON array"),
            ("null", "JSON array"),
            ("[1", "delimiter"),
            ("[NaN]", "$float"),
            ("[-Infinity]", "$float"),
            ('[{"$float": "one"}]', "$float"),
            ('[{"$base64": "A"}]', "$base64"),
            ('[{"$base64": "A?=="}]', "base64"),
            ('[{"$base64": "AP?8="}]', "base64"),
            ('[{"$base64": 7}]', "$base64"),
            ('[{"$map": {}}]', "$map"),
            ('[{"$map": [[1, 2, 3]]}]', "$map"),
            ('[{"$map": [[{}, 1]]}]', "$map"),
            ('[{"$map": [[{"$map": []}, 1]]}]', "$map"),
            ("[1" + "0" * 5000 + "]", "digits"),
        ):
            error = self.assertRaises(ValueError, loads, line)
            self.assertIn(word, str(error))
            self.assertLess(len(str(error)), 300, line[:40])

    def test_endless_nesting(self) -> None:
        """A line that nests without end is refused, however it does that."""
        for depth in (100, 300, 400, 500, 600, 700, 900, 1_000, 5_000, 100_000):
            for opening, closing in (
                ("[", "]"),
                ('[{"a":', "}]"),
                ('[{"$map":[[1,', "]]}]"),
                ('[{"$map":[[', ",1]]}]"),
            ):
                try:
                    loads(opening * depth + "1" + closing * depth)
                except ValueError as error:
                    self.assertTrue(str(error), (opening, depth))

    def test_what_cannot_be_sent_is_left_to_the_sender(self) -> None:
        """Reading takes numbers of any size; sending them says what is wrong."""
        packets = loads("[18446744073709551616]")
        self.assertEqual(packets, [2**64])
        with self.assertRaises(NotSendable):
            codec.encode((0, b"s", 0, *packets))
