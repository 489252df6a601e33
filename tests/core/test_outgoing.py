"""Tests of `py2p_twisted.core.outgoing`."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core import codec, flags
from py2p_twisted.core.compression import FRAME_HEAD
from py2p_twisted.core.message import parse
from py2p_twisted.core.outgoing import COUNTER, Composer, OwnBroadcasts
from py2p_twisted.core.seen import SeenCache
from py2p_twisted.errors import MessageTooLarge, NotSendable, RemoteError
from tests.core.support import WALL, memory_peak


def composer(limit=4096):
    return Composer(b"Me", limit)


class ComposerTests(SynchronousTestCase):
    def test_a_message_carries_our_id_and_the_second(self):
        """Flag, sender, whole seconds, packets: the array that 0.6 makes."""
        message = composer().compose(flags.BROADCAST, 0, ("storm", b"north"), WALL + 0.7)
        items = list(codec.decode(message.body))
        self.assertEqual(items, [0, b"Me", WALL, 0, "storm", b"north"])
        self.assertEqual(list(message.items), items)

    @given(st.lists(st.binary(max_size=20), max_size=20))
    def test_plain_frames_of_our_own_stand_on_the_grid(self, packets):
        """However many packets, of whatever size: the total is a multiple of eight."""
        message = composer().compose(flags.BROADCAST, 0, packets, WALL)
        self.assertEqual((4 + 32 + message.size) % 8, 0)
        self.assertEqual(parse(message.id, message.body).payload, (0, *packets))

    @given(st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.text("aä")))
    def test_a_single_value_takes_the_short_way_to_the_same_bytes(self, packet):
        """What is sent most often is put together differently, and is the same."""
        message = composer().compose(flags.BROADCAST, 0, [packet], WALL)
        same = codec.encode_aligned(flags.BROADCAST, b"Me", WALL, (0, packet), FRAME_HEAD)
        self.assertEqual(message.body, same)

    def test_single_values_that_cannot_be_sent(self):
        """The error is the same as for others."""
        for packet in (2**64, -(2**63) - 1, "\ud800", object(), bytearray(b"x"), {1}):
            error = self.assertRaises(
                NotSendable, composer().compose, flags.BROADCAST, 0, [packet], WALL
            )
            other = self.assertRaises(NotSendable, codec.encode, (0, b"Me", WALL, 0, packet))
            self.assertEqual(str(error), str(other))

    def test_a_clock_without_sense_leaves_the_grid(self):
        """Before 1970 and after 2106 the message is what it is; soon after 1970 it stands there."""
        for wall in (-5, 0, 100, 70_000, 2**32, 2**40):
            message = composer().compose(flags.BROADCAST, 0, [b"xyz"], wall)
            self.assertEqual(list(codec.decode(message.body)), [0, b"Me", wall, 0, b"xyz"])
            if 0 <= wall < 2**32:
                self.assertEqual((4 + 32 + message.size) % 8, 0)

    def test_the_correction_is_added_to_the_stamp(self):
        """A node whose clock is known to be wrong stamps the network's time."""
        maker = composer()
        maker.correction = -90
        self.assertEqual(maker.compose(flags.BROADCAST, 0, (), WALL).time, WALL - 90)

    def test_a_message_above_the_limit_is_refused_with_both_numbers(self):
        """``max_message`` counts the bytes of the body, with room for a counter."""
        size = composer().compose(0, 0, [bytes(100)], WALL).size
        self.assertEqual(composer(size + COUNTER).compose(0, 0, [bytes(100)], WALL).size, size)
        maker = composer(size + COUNTER - 1)
        error = self.assertRaises(MessageTooLarge, maker.compose, 0, 0, [bytes(100)], WALL)
        self.assertEqual((error.size, error.limit), (size + COUNTER, size + COUNTER - 1))
        self.assertIsInstance(error, ValueError)

    def test_what_cannot_be_sent_leaves_the_composer_unharmed(self):
        """After a ``TypeError`` the next message goes out as if nothing had been."""
        maker = composer()
        self.assertRaises(NotSendable, maker.compose, 0, 0, [{1, 2}], WALL)
        self.assertRaises(TypeError, maker.compose, 0, 0, [object()], WALL)
        self.assertEqual(
            maker.compose(0, 0, ["x"], WALL).id, composer().compose(0, 0, ["x"], WALL).id
        )


class OwnBroadcastsTests(SynchronousTestCase):
    def setUp(self):
        self.build()

    def build(self, **options):
        self.seen = SeenCache(**options)
        self.own = OwnBroadcasts(self.seen)
        self.composer = composer()

    def send(self, *payload, wall=WALL):
        """One broadcast, as it leaves the node."""
        (message,) = self.send_all([payload], wall)
        return message

    def send_all(self, payloads, wall=WALL):
        messages = [self.composer.compose(flags.BROADCAST, 0, one, wall) for one in payloads]
        return self.own.note(messages, wall - WALL)

    @given(st.lists(st.lists(st.sampled_from(["storm", "calm"]), min_size=1), max_size=10))
    def test_every_send_has_an_id_of_its_own(self, turns):
        """Equal messages in one second are as many messages, in order, with equal packets."""
        self.build()
        for texts in turns:
            messages = self.send_all([(text,) for text in texts])
            self.assertEqual(len(messages), len(texts))
            for message, text in zip(messages, texts, strict=True):
                self.assertEqual(parse(message.id, message.body).payload, (0, text))
                self.assertEqual((4 + 32 + message.size) % 8, 0)
        self.assertEqual(len(self.seen), sum(map(len, turns)))

    def test_seventy_thousand_equal_sends_are_told_apart(self):
        """However many there are: each takes the next counter, none looks for one."""
        ids = {message.id for _ in range(70) for message in self.send_all([()] * 1000)}
        self.assertEqual(len(ids), 70_000)

    def test_a_counter_stands_only_behind_equal_messages(self):
        """The first of its kind, in this second or the next, is the array and nothing else."""
        first, second, third = self.send("x"), self.send("x"), self.send("x", wall=WALL + 1)
        self.assertEqual(second.body[:-COUNTER], first.body)
        self.assertEqual(len(third.body), len(first.body))
        self.assertRaises(RemoteError, codec.decode, first.body[:-1])
        self.assertRaises(RemoteError, codec.decode, third.body[:-1])

    def test_a_second_counter_stands_behind_the_array_too(self):
        """Not behind the first one: bodies do not grow with the number of equal sends."""
        sizes = {self.send("x").size for _ in range(5)}
        self.assertEqual(max(sizes) - min(sizes), COUNTER)

    @given(st.lists(st.integers(-5, 5), min_size=1, max_size=30))
    def test_a_clock_that_is_set_back_makes_no_message_twice(self, steps):
        """Whatever the clock does, and whatever is forgotten, no id is used again."""
        self.build(capacity=2)
        ids = [self.send("x", wall=WALL + step).id for step in steps for _ in range(2)]
        self.assertEqual(len(set(ids)), len(ids))

    @given(st.lists(st.integers(1, 5), min_size=1, max_size=30), st.integers(1, 40))
    def test_more_in_a_second_than_the_cache_holds(self, batches, capacity):
        """The ids of a whole second are known, also those that the cache had to forget."""
        self.build(capacity=capacity)
        ids = []
        for number, size in enumerate(batches):
            wall = WALL + number // 10
            ids += [message.id for message in self.send_all([("x",)] + [(number,)] * size, wall)]
            # Messages of others push ours out as well.
            self.seen.add(bytes([number]), wall - WALL)
        self.assertEqual(len(set(ids)), len(ids))

    def test_a_clock_that_was_set_back_costs_no_memory(self):
        """Counters that only grow are new for ever: nothing has to be kept for them."""
        self.build(capacity=100)
        self.send("x")
        with memory_peak() as peak:
            for number in range(5_000):
                self.send(number, wall=WALL - 3600)
        self.assertLess(peak(), 400_000)

    def test_packets_that_end_like_a_counter_do_not_collide(self):
        """A message whose own bytes look like another one with a counter is still told apart."""
        ids = set()
        for _ in range(3):
            for packets in ((b"",), (b"\x00\x00",), (0, 0), (0,), ()):
                ids.add(self.send(*packets).id)
        self.assertEqual(len(ids), 15)

    def test_they_are_noted_as_seen(self):
        """What comes back is known."""
        self.assertIn(self.send("x").id, self.seen)
        self.assertIn(self.send("x").id, self.seen)

    def test_memory_is_bounded(self):
        """By the seen cache and the ids of one second, however long the node runs."""
        self.build(capacity=100)
        self.send(0)
        with memory_peak() as peak:
            for second in range(300):
                for number in range(10):
                    self.send(number % 5, wall=WALL + second)
        self.assertLess(peak(), 400_000)
