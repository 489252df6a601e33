"""Tests of `py2p_twisted.core.outgoing`."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core import codec, flags
from py2p_twisted.core.message import parse
from py2p_twisted.core.outgoing import Composer
from py2p_twisted.errors import MessageTooLarge, NotSendable, RemoteError
from tests.core.support import WALL, memory_peak


def composer(limit=4096):
    return Composer(b"Me", limit)


class ComposerTests(SynchronousTestCase):
    def test_a_message_carries_our_id_and_the_second(self):
        """Flag, sender, whole seconds, packets: the array that 0.6 makes."""
        message = composer().compose(flags.BROADCAST, (0, "storm", b"north"), WALL + 0.7)
        items = list(codec.decode(message.body))
        self.assertEqual(items, [0, b"Me", WALL, 0, "storm", b"north"])
        self.assertEqual(list(message.items), items)

    @given(st.lists(st.sampled_from(["storm", "calm"]), max_size=30))
    def test_every_send_has_an_id_of_its_own(self, texts):
        """Equal messages in one second are as many messages, with equal packets."""
        maker = composer()
        messages = [maker.compose(flags.BROADCAST, (0, text), WALL) for text in texts]
        self.assertEqual(len({message.id for message in messages}), len(texts))
        for message, text in zip(messages, texts, strict=True):
            self.assertEqual(parse(message.id, message.body).payload, (0, text))

    def test_seventy_thousand_equal_sends_are_told_apart(self):
        """The counter grows when two bytes are used up."""
        maker = composer()
        ids = {maker.compose(flags.BROADCAST, (0,), WALL).id for _ in range(70_000)}
        self.assertEqual(len(ids), 70_000)

    def test_a_counter_stands_only_behind_equal_messages(self):
        """The first of its kind, in this second or the next, is the array and nothing else."""
        maker = composer()
        first = maker.compose(flags.BROADCAST, (0, "x"), WALL)
        second = maker.compose(flags.BROADCAST, (0, "x"), WALL)
        third = maker.compose(flags.BROADCAST, (0, "x"), WALL + 1)
        self.assertTrue(second.body.startswith(first.body))
        self.assertEqual(len(third.body), len(first.body))
        self.assertRaises(RemoteError, codec.decode, first.body[:-1])
        self.assertRaises(RemoteError, codec.decode, third.body[:-1])

    @given(st.lists(st.binary(max_size=20), max_size=20))
    def test_plain_frames_of_our_own_stand_on_the_grid(self, packets):
        """However many packets, of whatever size: the total is a multiple of eight."""
        maker = composer()
        for _ in range(3):
            message = maker.compose(flags.BROADCAST, (0, *packets), WALL)
            self.assertEqual((4 + 32 + message.size) % 8, 0)
            self.assertEqual(parse(message.id, message.body).payload, (0, *packets))

    @given(st.lists(st.integers(-5, 5), min_size=1, max_size=30))
    def test_a_clock_that_is_set_back_makes_no_message_twice(self, steps):
        """Whatever the clock does, equal packets never get an id again."""
        maker, ids = composer(), []
        for step in steps:
            ids += [maker.compose(flags.BROADCAST, (0, "x"), WALL + step).id for _ in range(2)]
        self.assertEqual(len(set(ids)), len(ids))

    def test_packets_that_end_like_a_counter_do_not_collide(self):
        """A message whose own bytes look like another one with a counter is still told apart."""
        maker = composer()
        ids = set()
        for _ in range(3):
            for packets in ((0, b""), (0, b"\x00\x00"), (0, 0, 0), (0, 0), (0,)):
                ids.add(maker.compose(flags.BROADCAST, packets, WALL).id)
        self.assertEqual(len(ids), 15)

    def test_ids_of_past_seconds_are_forgotten(self):
        """Memory holds one second's ids, however long the node runs."""
        maker = composer()
        maker.compose(flags.BROADCAST, (0, 0), WALL)
        with memory_peak() as peak:
            for second in range(1000):
                for number in range(10):
                    maker.compose(flags.BROADCAST, (0, number), WALL + second)
        self.assertLess(peak(), 1_000_000)

    def test_the_correction_is_added_to_the_stamp(self):
        """A node whose clock is known to be wrong stamps the network's time."""
        maker = composer()
        maker.correction = -90
        self.assertEqual(maker.compose(flags.BROADCAST, (0,), WALL).time, WALL - 90)

    def test_a_whisper_stays_as_it_is(self):
        """Only broadcasts are told apart by their ids, so whispers carry no counter."""
        maker = composer()
        one, two = (maker.compose(flags.WHISPER, (0, "x"), WALL) for _ in range(2))
        self.assertEqual(one.body, two.body)

    def test_a_message_above_the_limit_is_refused_with_both_numbers(self):
        """``max_message`` counts the bytes of the body, and the error names them."""
        size = composer().compose(0, (0, bytes(100)), WALL).size
        self.assertEqual(composer(size).compose(0, (0, bytes(100)), WALL).size, size)
        maker = composer(size - 1)
        error = self.assertRaises(MessageTooLarge, maker.compose, 0, (0, bytes(100)), WALL)
        self.assertEqual((error.size, error.limit), (size, size - 1))
        self.assertIsInstance(error, ValueError)

    def test_a_counter_counts_towards_the_limit(self):
        """No message of ours is larger than what an equal node accepts."""
        size = composer().compose(0, (0, bytes(100)), WALL).size
        maker = composer(size)
        maker.compose(0, (0, bytes(100)), WALL)
        error = self.assertRaises(MessageTooLarge, maker.compose, 0, (0, bytes(100)), WALL)
        self.assertGreater(error.size, error.limit)

    def test_what_cannot_be_sent_leaves_the_composer_unharmed(self):
        """After a ``TypeError`` the next message goes out as if nothing had been."""
        maker = composer()
        self.assertRaises(NotSendable, maker.compose, 0, (0, {1, 2}), WALL)
        self.assertRaises(TypeError, maker.compose, 0, (0, object()), WALL)
        self.assertEqual(
            maker.compose(0, (0, "x"), WALL).id, composer().compose(0, (0, "x"), WALL).id
        )

    def test_the_guard_is_held_while_ids_are_compared(self):
        """With a lock, threads cannot both find the same id free."""

        class Guard:
            entered = 0

            def __enter__(self):
                self.entered += 1

            def __exit__(self, *_):
                return None

        guard = Guard()
        maker = Composer(b"Me", 4096, guard)
        maker.compose(flags.BROADCAST, (0,), WALL)
        maker.compose(flags.BROADCAST, (0,), WALL)
        self.assertEqual(guard.entered, 2)
