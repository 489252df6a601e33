"""Tests of `py2p_twisted.core.extension`: its frames, written, read, and refused."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core import flags
from py2p_twisted.core.extension import (
    MOST_ENTRIES,
    PAGE,
    Kind,
    need,
    read_entries,
    read_entry,
    read_ids,
    write_entry,
    write_ids,
)
from py2p_twisted.core.message import MAX_ID
from py2p_twisted.core.seen import SHORT
from py2p_twisted.errors import BadExtension
from tests import profile
from tests.core.test_connection import values

profile.load()

ENTRY = (("10.0.0.7", 4444), b"Ident")


class FieldTests(SynchronousTestCase):
    def test_the_numbers_of_the_frames_are_fixed(self):
        """They are on the wire."""
        names = [
            "HELLO", "JOIN", "FORWARD_JOIN", "NEIGHBOR", "NEIGHBOR_OK", "NEIGHBOR_NO",
            "DISCONNECT", "SHUFFLE", "SHUFFLE_REPLY", "IHAVE", "GRAFT", "PRUNE", "DIGEST",
            "DIGEST_IDS", "PING", "PONG", "NOT_HELD", "ROUTED", "ROUTED_ANSWER", "RECEIPT",
            "SURVEY", "SURVEY_ANSWER",
        ]  # fmt: skip
        self.assertEqual([kind.name for kind in Kind], names)
        self.assertEqual([int(kind) for kind in Kind], list(range(1, 23)))
        self.assertEqual((flags.EXTENSION, PAGE, MOST_ENTRIES, SHORT), (46, 1000, 32, 16))
        self.assertIn(flags.EXTENSION, flags.EXTENSIONS)

    def test_needed_fields_are_checked_and_more_may_follow(self):
        """Later versions may add some at the end."""
        self.assertEqual(need([1, b"a", "more"], int, bytes), [1, b"a", "more"])
        self.assertEqual(need([], *()), [])
        for fields in ([], [1], [b"a", 1], [True, b"a"], [1.0, b"a"], [1, "a"], [None, b"a"]):
            self.assertRaises(BadExtension, need, fields, int, bytes)

    def test_an_error_tells_little_of_what_a_peer_said(self):
        """It is logged."""
        error = self.assertRaises(BadExtension, need, ["x" * 100_000], int)
        self.assertLess(len(str(error)), 300)
        self.assertLess(len(str(self.assertRaises(BadExtension, read_ids, b"x" * 99_999))), 300)

    def test_ids_are_one_field(self):
        """A page of them at most, and whole ones."""
        idents = [bytes([number % 256]) * SHORT for number in range(PAGE)]
        for some in ([], idents[:1], idents):
            self.assertEqual(read_ids(write_ids(some)), some)
        for field in (write_ids([*idents, idents[0]]), b"x" * 15, b"x" * 17, "x" * 16, None, [b""]):
            self.assertRaises(BadExtension, read_ids, field)

    def test_entries_are_pairs_of_address_and_id(self):
        """What nobody could dial is no entry."""
        self.assertEqual(read_entry(write_entry(ENTRY)), ENTRY)
        for field in (
            None, "ab", [], [["h", 1]], [["h", 1], b"i", 3], [["h", 0], b"i"], [["h", 65536], b"i"],
            [["h", True], b"i"], [["", 1], b"i"], [["a b", 1], b"i"], [["h", 1], "i"],
            [["h", 1], b""], [["h", 1], b"i" * (MAX_ID + 1)], [["h", 1.0], b"i"], [["h"], b"i"],
        ):  # fmt: skip
            self.assertIsNone(read_entry(field), field)
        self.assertIsNotNone(read_entry([["h", 1], b"i" * MAX_ID]))

    def test_unusable_entries_are_passed_over(self):
        """A list that is too long is refused as a whole."""
        listed = [write_entry(ENTRY), None, [["h", 0], b"i"], write_entry(ENTRY)]
        self.assertEqual(read_entries(listed), [ENTRY, ENTRY])
        self.assertEqual(len(read_entries([write_entry(ENTRY)] * MOST_ENTRIES)), MOST_ENTRIES)
        for field in ([write_entry(ENTRY)] * (MOST_ENTRIES + 1), None, {}, b"", "list"):
            self.assertRaises(BadExtension, read_entries, field)

    @given(values)
    def test_whatever_a_field_holds_it_is_read_or_refused(self, value):
        """No other exception, and nothing in between."""
        read_entry(value)
        for read in (read_ids, read_entries):
            with contextlib.suppress(BadExtension):
                read(value)

    @given(st.lists(values, max_size=4))
    def test_fields_have_the_types_that_were_asked_for_or_are_refused(self, fields):
        """An `int` is no `bool`: one is an answer, the other a slip."""
        try:
            first, second = need(fields, int, bytes)[:2]
        except BadExtension:
            return
        self.assertEqual((type(first), type(second)), (int, bytes))
