"""Tests of `py2p_twisted.core.message`."""

from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core import compression
from py2p_twisted.core.message import (
    MAX_ID,
    as_bytes,
    build,
    is_broadcast,
    parse,
    with_appendix,
)
from py2p_twisted.errors import BadField, BadText, ChecksumMismatch, MalformedMessage
from tests.core import vectors
from tests.core.support import WALL, pack_body, unwrap


def parse_body(body):
    """Read a body whose checksum is right."""
    return parse(sha256(body).digest(), body)


class VectorTests(SynchronousTestCase):
    def test_our_messages_are_those_of_the_reference(self):
        """Id, body and plain frame of every captured message, from its fields alone."""
        for vector in vectors.SMALL:
            message = build(vector.flag, vector.sender, vector.time, vector.payload)
            self.assertEqual(message.id, vector.id, vector.name)
            self.assertEqual(message.body, vector.body, vector.name)
            if vector.compression == "none":
                self.assertEqual(
                    compression.wrap_plain(message.id, message.body), vector.frame, vector.name
                )

    def test_large_messages_are_those_of_the_reference(self):
        """The plain frame of 70 kB has the captured length, beginning and hash."""
        for vector in vectors.LARGE:
            message = build(vector.flag, vector.sender, vector.time, vector.payload)
            self.assertEqual(message.id, vector.id)
            if vector.compression == "none":
                frame, entry = compression.wrap_plain(message.id, message.body), vector.entry
                self.assertEqual(len(frame), entry["frame_length"])
                self.assertEqual(frame[:64].hex(), entry["frame_first_64_hex"])
                self.assertEqual(sha256(frame).hexdigest(), entry["frame_sha256"])

    def test_captured_messages_are_understood(self):
        """Flag, sender, time and payload of every captured frame."""
        for vector in vectors.SMALL:
            message = unwrap(vector.frame)
            self.assertEqual(message.id, vector.id, vector.name)
            self.assertEqual(
                (message.flag, message.sender, message.time, message.payload),
                (vector.flag, vector.sender, vector.time, tuple(vector.payload)),
                vector.name,
            )

    def test_tolerated_encodings_are_the_same_message_under_other_ids(self):
        """Long forms and bytes behind the array: equal fields, each its own id."""
        ids = set()
        for name, frame, ident in vectors.TOLERATED:
            message = unwrap(frame)
            self.assertEqual(message.id, ident, name)
            self.assertEqual(
                (message.flag, message.sender, message.time, list(message.payload)),
                (0, vectors.TOLERATED_SENDER, vectors.TOLERATED_TIME, vectors.TOLERATED_PAYLOAD),
                name,
            )
            ids.add(ident)
        self.assertEqual(len(ids), len(vectors.TOLERATED))


class ParseTests(SynchronousTestCase):
    def test_a_wrong_checksum_costs_the_link(self):
        """The stream cannot be trusted any more."""
        self.assertRaises(ChecksumMismatch, parse, bytes(32), pack_body(0, b"s", 0, 0))

    @given(st.binary(min_size=1, max_size=40), st.data())
    def test_no_flipped_bit_is_overlooked(self, packet, data):
        """A body that differs from what was hashed by one bit is refused."""
        message = build(0, b"s", WALL, (0, packet))
        body = bytearray(message.body)
        bit = data.draw(st.integers(0, 8 * len(body) - 1))
        body[bit // 8] ^= 1 << bit % 8
        self.assertRaises(ChecksumMismatch, parse, message.id, bytes(body))

    def test_fields_of_the_wrong_type_cost_the_message(self):
        """Flag, sender and time are an integer, an id and a number; anything else is unusable."""
        wrong = {
            0: ("0", b"0", 0.0, None, True, [0], {}),
            1: (5, None, [b"s"], {b"s": 1}, True, 1.5),
            2: ("0", b"0", None, True, [0], {}, float("nan"), float("inf"), -1.5, 1e300),
        }
        for place, values in wrong.items():
            for value in values:
                items = [0, b"s", WALL, 0, "x"]
                items[place] = value
                error = self.assertRaises(BadField, parse_body, pack_body(*items))
                self.assertEqual(error.message_id, sha256(pack_body(*items)).digest())

    def test_unusual_fields_are_accepted(self):
        """Text as a sender, a fraction as a time, flags that nobody knows."""
        for flag, sender, time in [(77, "js", 1.5), (-1, b"", 0), (2**64 - 1, "", -5)]:
            message = parse_body(pack_body(flag, sender, time, 0))
            self.assertEqual((message.flag, message.sender, message.time), (flag, sender, time))

    def test_an_endless_sender_costs_the_message(self):
        """Ids have a largest size, whatever their type."""
        for letter in (b"s", "s"):
            self.assertEqual(
                parse_body(pack_body(0, letter * MAX_ID, 0, 0)).sender, letter * MAX_ID
            )
            self.assertRaises(BadField, parse_body, pack_body(0, letter * (MAX_ID + 1), 0, 0))

    def test_a_message_without_a_sub_flag_costs_the_message(self):
        """Three items mean nothing; the reference would drop the link here."""
        self.assertRaises(BadField, parse_body, pack_body(0, b"s", 0))

    def test_any_sub_flag_is_accepted(self):
        """What it means is decided where it matters."""
        for sub in (0, 64, "x", None, [1], -5, 1.5):
            self.assertEqual(parse_body(pack_body(0, b"s", 0, sub)).payload, (sub,))

    def test_an_unusable_message_is_known_by_its_id(self):
        """So that the copies which other neighbours bring cost nothing."""
        body = b"\x94\x00\xa1s\x00\xa1\xff"
        self.assertEqual(
            self.assertRaises(BadText, parse_body, body).message_id, sha256(body).digest()
        )

    def test_no_message_at_all_costs_the_link(self):
        """A checksum does not make a message of it."""
        for body in (b"", b"\x05", pack_body(0, b"s"), pack_body(0, b"s", 0, 0)[:-1]):
            self.assertRaises(MalformedMessage, parse_body, body)

    def test_a_view_is_read_in_place(self):
        """And the message still hands out its content as bytes."""
        message = build(0, b"s", WALL, (0, "x"))
        parsed = parse(message.id, memoryview(message.body))
        self.assertEqual(parsed.payload, (0, "x"))
        self.assertEqual(parsed.content, message.content)


class MessageTests(SynchronousTestCase):
    def test_an_appendix_changes_the_id_and_nothing_else(self):
        """The counter of equal messages."""
        message = build(0, b"s", WALL, (0, "x"))
        other = with_appendix(message, b"\x00\x01")
        self.assertNotEqual(other.id, message.id)
        self.assertEqual(other.body, message.body + b"\x00\x01")
        self.assertEqual(parse(other.id, other.body).payload, message.payload)

    def test_ids_are_compared_as_bytes(self):
        """JavaScript nodes send theirs as text; both are one id."""
        self.assertEqual(as_bytes("3Gé"), as_bytes("3Gé".encode()))
        self.assertEqual(as_bytes(b"\xff"), b"\xff")

    def test_only_flag_zero_is_a_broadcast(self):
        """Everything else ends at its receiver."""
        flags = [flag for flag in (-1, 0, 1, 2, 77) if is_broadcast(build(flag, b"s", 0, (0,)))]
        self.assertEqual(flags, [0])
