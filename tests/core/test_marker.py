"""Tests of `py2p_twisted.core.marker`, and of who makes and reads it."""

import msgpack
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core import flags
from py2p_twisted.core.codec import decode, end_of
from py2p_twisted.core.marker import MAGIC, MARKER, MOST_SECONDS, asked_seconds
from py2p_twisted.core.message import parse
from py2p_twisted.core.outgoing import COUNTER, Composer, OwnBroadcasts
from py2p_twisted.core.seen import SeenCache
from py2p_twisted.errors import MessageTooLarge
from tests import profile
from tests.core.support import WALL, pack_body
from tests.core.test_connection import values

profile.load()

MARK = MAGIC + b"\x01\x00\x0a" + b"n" * 13


def composer(limit=4096):
    made = Composer(b"Me", limit)
    made.random = lambda: 0.5
    return made


class ReadingTests(SynchronousTestCase):
    @given(st.lists(values, max_size=4), st.integers(1, MOST_SECONDS))
    def test_a_marker_is_found_behind_any_array(self, packets, seconds):
        """And says how long somebody waits; without it nothing is found."""
        body = pack_body(0, b"a", WALL, 0, *packets)
        mark = MAGIC + b"\x01" + seconds.to_bytes(2, "big") + b"n" * 13
        self.assertEqual(asked_seconds(body + mark), seconds)
        self.assertEqual(asked_seconds(memoryview(body + mark)), seconds)
        self.assertEqual(asked_seconds(body), 0)
        self.assertEqual(end_of(body + mark), len(body))

    def test_what_an_application_says_is_no_marker(self):
        """Even if it ends like one."""
        body = pack_body(0, b"a", WALL, 0, b"x" * 50 + MARK)
        self.assertTrue(body.endswith(MARK))
        self.assertEqual(asked_seconds(body), 0)
        self.assertEqual(asked_seconds(body + MARK), 10)

    def test_a_wrong_marker_is_none(self):
        """Another place, length, version, magic, or time: the message is an ordinary one."""
        body = pack_body(0, b"a", WALL, 0, "storm")
        for behind in (
            MARK + b"\0",
            b"\0" + MARK,
            MARK[1:],
            MARK[:-1],
            MAGIC + b"\x02" + MARK[9:],
            MAGIC.lower() + MARK[8:],
            MAGIC + b"\x01\x00\x00" + b"n" * 13,
            MAGIC + b"\x01" + (MOST_SECONDS + 1).to_bytes(2, "big") + b"n" * 13,
            b"",
        ):
            self.assertEqual(asked_seconds(body + behind), 0, behind)

    def test_no_value_begins_like_a_marker(self):
        """So no other decoder can take it for one."""
        self.assertRaises(msgpack.FormatError, msgpack.unpackb, MAGIC)


class MakingTests(SynchronousTestCase):
    def test_marked_messages_stand_on_the_grid_and_say_the_same(self):
        """A plain node gets a frame of a length that it can read."""
        for packet in (b"", b"x", b"xy", b"x" * 1001):
            plain = composer().compose(flags.BROADCAST, 0, [packet], WALL)
            marked = composer().mark(plain, 7)
            self.assertEqual((4 + 32 + marked.size) % 8, 0)
            self.assertEqual(marked.size, plain.size + MARKER)
            self.assertEqual(asked_seconds(marked.body), 7)
            self.assertEqual(tuple(parse(marked.id, marked.body).items), tuple(plain.items))
            self.assertEqual(list(decode(marked.body)), list(plain.items))

    def test_equal_messages_are_several(self):
        """Each has a nonce of its own, so none gets a counter."""
        made = composer()
        plain = made.compose(flags.BROADCAST, 0, ["storm"], WALL)
        marked = [made.mark(plain, 10) for _ in range(100)]
        self.assertEqual(len({one.id for one in marked}), 100)
        noted = OwnBroadcasts(SeenCache()).note(marked, 0.0)
        self.assertEqual([one.id for one in noted], [one.id for one in marked])

    def test_other_nodes_have_other_nonces(self):
        """Two that have one id after another and say the same in the same second."""
        one, other = composer(), composer()
        other.random = lambda: 0.25
        plain = one.compose(flags.BROADCAST, 0, ["storm"], WALL)
        self.assertNotEqual(one.mark(plain, 10).id, other.mark(plain, 10).id)

    def test_a_clock_that_was_set_back_puts_nothing_behind_a_marker(self):
        """It would not be at the end; others of that second get their counter."""
        made, own = composer(), OwnBroadcasts(SeenCache())
        own.note([made.compose(flags.BROADCAST, 0, ["late"], WALL + 9)], 0.0)
        early = made.compose(flags.BROADCAST, 0, ["early"], WALL)
        marked, counted = own.note([made.mark(early, 10), early], 0.0)
        self.assertEqual(asked_seconds(marked.body), 10)
        self.assertEqual(counted.size, early.size + COUNTER)

    def test_too_large(self):
        """With its marker it has to fit, and its error says how large it was."""
        made = composer(1024)
        plain = made.compose(flags.BROADCAST, 0, [b"x" * 990], WALL)
        error = self.assertRaises(MessageTooLarge, made.mark, plain, 10)
        self.assertIn(str(plain.size + MARKER), str(error))
        small = made.compose(flags.BROADCAST, 0, [b"x" * 900], WALL)
        self.assertEqual(made.mark(small, 10).size, small.size + MARKER)
