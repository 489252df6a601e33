"""Tests of `py2p_twisted.core.codec`."""

import contextlib
import datetime
import math
from enum import IntEnum
from hashlib import sha256
from struct import pack

import msgpack
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core import codec
from py2p_twisted.errors import (
    BadField,
    BadText,
    ContentError,
    MalformedMessage,
    NotSendable,
    RemoteError,
    TooDeep,
    TooManyElements,
)
from tests.core import vectors
from tests.core.support import memory_peak

#: [0, b"s", 0, ...: what stands before the packet that a test is about.
HEAD = b"\x94\x00\xc4\x01s\x00"

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
integers = st.integers(-(2**63), 2**64 - 1)
scalars = st.none() | st.booleans() | integers | st.floats() | text | st.binary(max_size=20)
simple = text | st.binary(max_size=8) | integers | st.booleans() | st.none()
keys = st.recursive(simple, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=4)
sendable = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(keys, inner, max_size=5)
    ),
    max_leaves=20,
)


def send(*packets):
    """A body with these packets."""
    return codec.encode((0, b"s", 0, *packets))


def decode(body):
    """What a body says, as a list."""
    return list(codec.decode(body))


def refused(*packets):
    """Whether packets cannot be sent; says less than an assertion about a megabyte would."""
    try:
        send(*packets)
    except NotSendable:
        return True
    return False


def read(*parts):
    """What a body with a packet of these bytes says."""
    return decode(HEAD + b"".join(parts))[3]


def arrived(value):
    """A sent value as its receiver sees it: tuples are lists there."""
    if isinstance(value, (list, tuple)):
        return [arrived(item) for item in value]
    if isinstance(value, dict):
        return {key: arrived(item) for key, item in value.items()}
    return value


def same(one, other):
    """Equality that tells ``1`` from ``True`` and finds NaN equal to itself."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, tuple):
        return all(map(same, one, other))
    if isinstance(one, float):
        return pack("d", one) == pack("d", other) or (math.isnan(one) and math.isnan(other))
    return one == other


def nested(depth):
    """Lists in lists, so many of them."""
    value = []
    for _ in range(depth - 1):
        value = [value]
    return value


class EncodeTests(SynchronousTestCase):
    def test_bodies_are_those_of_the_reference(self):
        """Every captured message is made again byte for byte, and has the captured id."""
        for vector in vectors.SMALL:
            body = codec.encode((vector.flag, vector.sender, vector.time, *vector.payload))
            self.assertEqual(body.hex(), vector.body.hex(), vector.name)
            self.assertEqual(sha256(body).digest(), vector.id, vector.name)

    def test_large_bodies_are_those_of_the_reference(self):
        """70 kB of bytes make a body of the captured length and hash."""
        for vector in vectors.LARGE:
            body = codec.encode((vector.flag, vector.sender, vector.time, *vector.payload))
            self.assertEqual(len(body), vector.entry["msgpack_length"])
            self.assertEqual(sha256(body).hexdigest(), vector.entry["msgpack_sha256"])

    @given(st.lists(sendable, max_size=5))
    def test_what_can_be_sent_arrives(self, packets):
        """Every value that the wire lists comes out as it went in; tuples become lists."""
        self.assertTrue(same(decode(send(*packets)), [0, b"s", 0, *arrived(packets)]))

    def test_subclasses_arrive_as_what_they_are_made_of(self):
        """An enum's member is a number, a named tuple a list."""
        colour = IntEnum("Colour", {"RED": 7})
        self.assertEqual(decode(send(colour.RED))[3:], [7])

    def test_what_has_no_encoding_is_a_type_error_that_names_it(self):
        """On the outside or deep within, the text shows the value and its type."""
        for value, name in [
            (bytearray(b"abc"), "bytearray"),
            ({1, 2}, "set"),
            (frozenset(), "frozenset"),
            (object, "type"),
            (1j, "complex"),
            (memoryview(b""), "memoryview"),
            (datetime.date(2026, 1, 1), "date"),
            (msgpack.Timestamp(5), "Timestamp"),
        ]:
            for packet in (value, [value], ("x", {"key": [value]})):
                error = self.assertRaises(NotSendable, send, packet)
                self.assertIsInstance(error, TypeError)
                self.assertIn(name, str(error))

    def test_extension_types_cannot_be_sent(self):
        """They are tuples to Python, but not to the wire."""
        for packet in (msgpack.ExtType(5, b"x"), [msgpack.ExtType(5, b"x")]):
            self.assertIn("ExtType", str(self.assertRaises(NotSendable, send, packet)))

    def test_integers_that_do_not_fit_are_named(self):
        """64 bits is what there is, signed or unsigned; the error shows the number."""
        for number in (2**64, -(2**63) - 1, 10**30):
            for packet in (number, [1, number], {"a": {"b": number}}, {number: 1}):
                self.assertIn(str(number), str(self.assertRaises(NotSendable, send, packet)))
        self.assertEqual(decode(send(2**64 - 1, -(2**63)))[3:], [2**64 - 1, -(2**63)])

    def test_lone_surrogates_cannot_be_sent(self):
        """Half a character has no UTF-8; the error shows the text."""
        for packet in ("a\udc80", ["\ud800"], {"\udfff": 1}):
            error = self.assertRaises(NotSendable, send, packet)
            self.assertIn("surrogate", str(error))
            self.assertIn("\\ud", str(error))

    def test_what_stands_in_keys_is_looked_at_as_well(self):
        """A tuple can be a key, if what it holds can be sent."""
        for key in (frozenset(), (1, frozenset()), ("a", (object,))):
            self.assertRaises(NotSendable, send, {key: 1})
        self.assertRaises(NotSendable, send, {("a", "\ud800"): 1})
        self.assertRaises(NotSendable, send, {(2**64,): 1})

    def test_packets_nest_as_deep_as_a_receiver_follows(self):
        """One level more than is read cannot be sent."""
        deepest = nested(codec.MAX_DEPTH - 1)
        self.assertEqual(decode(send(deepest))[3], deepest)
        self.assertRaises(NotSendable, send, [deepest])
        self.assertRaises(NotSendable, send, {"a": deepest})

    def test_a_list_that_holds_itself_cannot_be_sent(self):
        """It is an error, not an endless loop; nor is a list of a thousand of itself."""
        for copies in (1, 1000):
            endless = []
            endless += [endless] * copies
            self.assertRaises(NotSendable, send, endless)

    def test_a_message_holds_as_many_values_as_a_receiver_accepts(self):
        """One more cannot be sent, whether it is a packet or in a list."""
        most = codec.MAX_ELEMENTS - 4  # the array itself, and what stands before the packets
        self.assertEqual(len(decode(send(*[1.5] * most))), most + 3)
        self.assertTrue(refused(*[1.5] * (most + 1)))
        self.assertEqual(len(decode(send([1.5] * (most - 1)))[3]), most - 1)
        self.assertTrue(refused([1.5] * most))

    def test_a_refused_packet_leaves_nothing_behind(self):
        """What comes after an error is encoded as if there had been none."""
        for bad in (2**64, "\udc80", {1}, nested(99)):
            self.assertRaises(NotSendable, send, "before", bad)
            self.assertEqual(send("x"), b"\x94\x00\xc4\x01s\x00\xa1x")


class DecodeTests(SynchronousTestCase):
    def test_captured_bodies_are_understood(self):
        """Every captured message means here what it meant there."""
        for vector in vectors.SMALL:
            wanted = [vector.flag, vector.sender, vector.time, *arrived(vector.payload)]
            self.assertTrue(same(decode(vector.body), wanted), vector.name)

    def test_a_view_is_as_good_as_bytes(self):
        """Large frames are decoded where they lie."""
        for vector in vectors.SMALL:
            self.assertTrue(same(decode(memoryview(vector.body)), decode(vector.body)), vector.name)

    def test_bytes_behind_the_array_are_ignored(self):
        """Padding and counters stand there; only the id knows of them."""
        body = send("x", [1])
        for behind in (b"\x00", b"\x00\x01", bytes(1000), b"\xc1\xff", body):
            self.assertEqual(decode(body + behind), [0, b"s", 0, "x", [1]])

    def test_other_encodings_of_a_value_are_the_same_value(self):
        """64-bit numbers, long headers: nobody has to write the shortest form."""
        self.assertEqual(read(b"\xcf" + bytes(7) + b"\x05"), 5)
        self.assertEqual(read(b"\xdb\x00\x00\x00\x01a"), "a")
        self.assertEqual(read(b"\xdd\x00\x00\x00\x01\x07"), [7])
        self.assertEqual(read(b"\xdf\x00\x00\x00\x01\xa1a\x07"), {"a": 7})
        self.assertEqual(read(b"\xca\x3f\xc0\x00\x00"), 1.5)

    def test_wide_arrays_and_maps_are_understood(self):
        """Those that the fast way does not take, the careful one does."""
        wide = list(range(5000))
        self.assertEqual(decode(send(wide))[3], wide)
        table = dict.fromkeys(range(5000))
        self.assertEqual(decode(send(table))[3], table)

    def test_bodies_that_are_no_messages_cost_the_link(self):
        """Nothing, half a value, no array, an array too short: no honest node sends such."""
        for body in (
            b"",
            b"\xc1",
            b"\xc0",
            b"\xa5hello",
            b"\x80",
            b"\x05",
            b"\x90",
            b"\x92\x00\xa1s",
            b"\x94\x00\xa1s\x00",
            HEAD,
            HEAD + b"\xc1",
            HEAD + b"\xdb\xff\xff\xff\xffabc",
            HEAD + b"\xa5four",
            HEAD + b"\xcf\x00",
            HEAD + b"\x92\x01",
        ):
            self.assertRaises(MalformedMessage, decode, body)

    def test_text_that_is_no_utf_8_costs_the_message(self):
        """Broken bytes, and surrogates that were encoded one by one."""
        for broken in (b"\xa1\xff", b"\xa2\xc3\x28", b"\xa3\xed\xa0\x80"):
            self.assertRaises(BadText, read, broken)
            self.assertRaises(BadText, read, b"\x81", broken, b"\x01")

    def test_lists_as_keys_become_tuples(self):
        """As the reference reads them."""
        self.assertEqual(read(b"\x81\x92\x01\x91\x02\x05"), {(1, (2,)): 5})

    def test_dicts_as_keys_cost_the_message(self):
        """No language could read them."""
        for key in (b"\x80", b"\x91\x80", b"\x81\x01\x02"):
            self.assertRaises(BadField, read, b"\x81", key, b"\x05")

    def test_of_equal_keys_the_last_one_stays(self):
        """A map that names a key twice is no reason to lose a message."""
        self.assertEqual(read(b"\x82\xa1a\x01\xa1a\x02"), {"a": 2})

    def test_extension_types_of_others_are_read(self):
        """They cannot be sent, but what comes is passed on to the application."""
        self.assertEqual(read(b"\xd4\x05x"), msgpack.ExtType(5, b"x"))
        self.assertEqual(read(b"\xd6\xff\x00\x00\x00\x05"), msgpack.Timestamp(5))

    def test_impossible_time_stamps_cost_the_message(self):
        """An extension of the wrong length, or with too many nanoseconds."""
        for value in (b"\xd4\xff\x00", b"\xc7\x0c\xff\xff\xff\xff\xff" + bytes(8)):
            self.assertRaises(BadField, read, value)

    def test_nesting_is_followed_to_its_limit(self):
        """Depth 32, the message's own array included; one more costs the message."""
        levels = codec.MAX_DEPTH - 1
        self.assertEqual(read(b"\x91" * (levels - 1) + b"\x90"), nested(levels))
        self.assertRaises(TooDeep, read, b"\x91" * levels + b"\x90")
        self.assertRaises(TooDeep, read, b"\x81\x01" * levels + b"\x80")

    def test_extreme_nesting_costs_the_message_and_no_more(self):
        """A hundred or a hundred thousand levels, of lists or dicts, as values or as keys."""
        for levels in (40, 200, 900, 1023, 1024, 50_000, 90_000, 200_000):
            for value in (b"\x91", b"\x81\x01", b"\x92\x01"):
                body = value * levels + b"\x01" * (levels + 1)
                self.assertRaises(ContentError, read, body)

    def test_extreme_nesting_in_a_key_costs_the_message_and_no_more(self):
        """Keys are rebuilt by hand, and must not exhaust Python's own stack."""
        for levels in (40, 200, 900, 1015, 50_000):
            self.assertRaises(ContentError, read, b"\x81", b"\x91" * levels, b"\x01\x01")

    @given(st.lists(sendable, max_size=3), st.data())
    def test_a_body_that_is_cut_short_is_never_read(self, packets, data):
        """No part of a message is mistaken for a whole one."""
        body = send(*packets)
        length = data.draw(st.integers(0, len(body) - 1))
        self.assertRaises(RemoteError, decode, body[:length])

    @given(st.binary(max_size=60), st.integers(0, 3))
    def test_noise_is_a_remote_error_or_a_list(self, noise, head):
        """Whatever the bytes, nothing else comes out."""
        try:
            items = decode((b"", b"\x94", HEAD, HEAD + b"\x81")[head] + noise)
        except RemoteError:
            return
        self.assertGreaterEqual(len(items), 3)

    @given(st.lists(sendable, max_size=3), st.data())
    def test_a_damaged_body_is_a_remote_error_or_a_list(self, packets, data):
        """Bytes that are almost a message are no more dangerous than noise."""
        body = bytearray(send(*packets))
        for _ in range(data.draw(st.integers(1, 3))):
            body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
        with contextlib.suppress(RemoteError):
            self.assertGreaterEqual(len(decode(bytes(body))), 3)


class MemoryTests(SynchronousTestCase):
    def check(self, body, error, limit):
        with memory_peak() as peak:
            self.assertRaises(error, decode, body)
        self.assertLess(peak(), limit)

    def test_four_megabytes_of_empty_lists_are_refused_before_they_are_built(self):
        """292 MiB of Python objects otherwise."""
        many = 4 * 1024 * 1024
        self.check(HEAD + b"\xdd" + pack("!I", many) + b"\x90" * many, TooManyElements, 100_000)

    def test_empty_lists_in_many_arrays_are_refused_before_they_are_built(self):
        """Nor does it help to hand them out in portions."""
        portion = b"\xdc\x7f\xff" + b"\x90" * 0x7FFF
        portions = 4 * 1024 * 1024 // len(portion)
        body = HEAD + b"\xdd" + pack("!I", portions) + portion * portions
        self.check(body, TooManyElements, 100_000)

    def test_a_header_that_claims_the_world_reserves_nothing(self):
        """Arrays and maps of four billion, a thousand of them nested."""
        for header in (b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdc\xff\xff"):
            for levels in (1, 1000):
                self.check(HEAD + header * levels, RemoteError, 3_000_000)

    def test_headers_just_below_the_quick_limit_are_bounded(self):
        """The worst that the fast way can be made to reserve: 1,000 times 256 places."""
        self.check(HEAD + b"\xdc\x01\x00" * 1000, RemoteError, 4_000_000)

    def test_one_value_more_than_allowed_is_refused(self):
        """The limit counts every value, containers and items alike."""
        items = codec.MAX_ELEMENTS - 5
        head = HEAD + b"\xdd"
        body = head + pack("!I", items) + b"\xcc\x05" * items
        self.assertEqual(len(decode(body)[3]), items)
        items += 1
        body = head + pack("!I", items) + b"\xcc\x05" * items
        self.check(body, TooManyElements, 100_000)

    def test_measuring_counts_what_decoding_builds(self):
        """For every captured message the headers tell the number of values."""

        def count(value):
            if isinstance(value, list):
                return 1 + sum(map(count, value))
            if isinstance(value, dict):
                return 1 + sum(count(key) + count(item) for key, item in value.items())
            return 1

        for vector in vectors.SMALL:
            self.assertEqual(codec.measure(vector.body), count(decode(vector.body)))
