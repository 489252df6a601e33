"""Tests of `py2p_twisted.core.clock`."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core.clock import ACCEPTED, LARGEST_CORRECTION, NetworkClock
from tests.core.support import WALL


def clock_with(*offsets):
    """A clock that has met peers whose clocks are fast by so much."""
    clock = NetworkClock()
    for number, offset in enumerate(offsets):
        clock.learn(b"%d" % number, WALL + offset, WALL)
    return clock


class NetworkClockTests(SynchronousTestCase):
    def test_two_peers_do_not_overrule_our_clock(self):
        """A correction takes three peers that agree."""
        self.assertEqual(clock_with(100, 100).correction, 0)
        self.assertEqual(clock_with(100, 100, 100).correction, 100)

    def test_small_differences_are_put_down_to_the_way(self):
        """Up to 20 s nothing is corrected."""
        self.assertEqual(clock_with(20, 20, 20).correction, 0)
        self.assertEqual(clock_with(-21, -21, -21).correction, -21)

    def test_one_liar_among_three_changes_nothing(self):
        """The median decides, so a single wild clock does not."""
        self.assertEqual(clock_with(0, 1, 80_000).correction, 0)

    def test_no_correction_goes_further_than_a_day(self):
        """Whatever peers say."""
        self.assertEqual(clock_with(*[10**9] * 5).correction, LARGEST_CORRECTION)
        self.assertEqual(clock_with(*[-(10**9)] * 5).correction, -LARGEST_CORRECTION)

    def test_only_a_peers_latest_word_counts(self):
        """A peer that introduces itself a hundred times has one voice."""
        clock = NetworkClock()
        for _ in range(100):
            clock.learn(b"liar", WALL + 5000, WALL)
        self.assertEqual(clock.correction, 0)
        clock.learn(b"a", WALL, WALL)
        clock.learn(b"b", WALL, WALL)
        self.assertEqual(clock.correction, 0)

    def test_learning_tells_when_our_clock_turns_out_wrong_and_right_again(self):
        """Each change is told once, so that it can be logged once."""
        clock = NetworkClock()
        told = [clock.learn(b"%d" % peer, WALL + 60, WALL) for peer in range(5)]
        self.assertEqual(told, [False, False, True, False, False])
        told = [clock.learn(b"%d" % peer, WALL, WALL) for peer in range(5)]
        self.assertEqual(told.count(True), 1)
        self.assertEqual(clock.correction, 0)

    def test_a_bounded_number_of_peers_is_remembered(self):
        """Those who came last decide; memory does not grow with every peer ever met."""
        clock = NetworkClock()
        for number in range(1000):
            clock.learn(b"old%d" % number, WALL + 500, WALL)
        for number in range(32):
            clock.learn(b"new%d" % number, WALL, WALL)
        self.assertEqual(clock.correction, 0)
        self.assertLessEqual(len(clock._offsets), 32)

    def test_stamps_of_twenty_minutes_are_accepted_both_ways(self):
        """Older or younger ones are not of our time."""
        clock = NetworkClock()
        for offset in (-ACCEPTED, 0, ACCEPTED):
            self.assertTrue(clock.accepts(WALL + offset, WALL))
        for offset in (-ACCEPTED - 1, ACCEPTED + 1):
            self.assertFalse(clock.accepts(WALL + offset, WALL))

    def test_with_a_wrong_clock_the_networks_time_is_accepted(self):
        """A node that is an hour off still hears everybody, and itself."""
        clock = clock_with(3600, 3600, 3600)
        self.assertTrue(clock.accepts(WALL + 3600, WALL))
        self.assertTrue(clock.accepts(WALL, WALL))
        self.assertFalse(clock.accepts(WALL - 3600, WALL))

    def test_absurd_stamps_are_refused_without_harm(self):
        """Any number that fits into a message can be asked about."""
        clock = clock_with(5, 5, 5)
        for stamp in (2**64 - 1, -(2**63), 1e300, 0):
            self.assertFalse(clock.accepts(stamp, WALL))

    @given(st.lists(st.floats(-1e12, 1e12), max_size=12), st.floats(-1000, 1000))
    def test_no_lie_makes_us_refuse_what_our_own_clock_finds_right(self, offsets, stamp):
        """Peers can widen what is accepted; they can never shut anybody out."""
        self.assertTrue(clock_with(*offsets).accepts(WALL + stamp, WALL))


class SteppedTests(SynchronousTestCase):
    """Our own clock is set while we run, or we were suspended."""

    def test_what_peers_said_is_shifted(self):
        """They have not moved: set an hour forward, we are an hour ahead of them."""
        for seconds in (3600, -3600, 61):
            clock = clock_with(0, 1, 2)
            self.assertTrue(clock.stepped(seconds))
            self.assertEqual(clock.correction, 1 - seconds)
            self.assertEqual(clock.offset, 1 - seconds)

    def test_set_right_again_nothing_is_corrected(self):
        """As far as peers can tell."""
        clock = clock_with(3600, 3600, 3600)
        self.assertTrue(clock.stepped(3600))
        self.assertEqual(clock.correction, 0)
        self.assertFalse(clock.stepped(5))
        self.assertEqual(clock.correction, 0)

    def test_our_own_stamps_go_on_without_a_break(self):
        """What we say the time is stays what it was."""
        for seconds in (500, -500, 30_000):
            clock = clock_with(3, 3, 3)
            clock.stepped(seconds)
            self.assertEqual(WALL + seconds + clock.correction, WALL + 3)

    def test_one_peer_is_enough_then(self):
        """Our clock was right by it before."""
        clock = clock_with(0)
        self.assertTrue(clock.stepped(3600))
        self.assertEqual(clock.correction, -3600)
        self.assertTrue(clock.accepts(WALL, WALL + 3600))

    def test_who_knows_nobody_believes_its_clock(self):
        """There is nothing to shift."""
        clock = NetworkClock()
        self.assertFalse(clock.stepped(3600))
        self.assertEqual(clock.correction, 0)
        self.assertTrue(clock.accepts(WALL, WALL))

    def test_after_a_suspension_the_first_peers_put_it_right(self):
        """
        Everybody's clock has gone on, not ours alone was set: dozens of peers that are only
        remembered must not outvote those that are there.
        """
        clock = clock_with(*[0] * 32)
        clock.stepped(3600)
        self.assertEqual(clock.correction, -3600)
        self.assertTrue(clock.learn(b"5", WALL + 3600, WALL + 3600))
        self.assertEqual(clock.correction, 0)
        for number in range(4):
            clock.learn(b"new%d" % number, WALL + 3600, WALL + 3600)
            self.assertEqual(clock.correction, 0)

    def test_what_peers_say_after_a_step_confirms_it(self):
        """One by one; nothing is told that is known."""
        clock = clock_with(0, 0, 0, 0)
        clock.stepped(3600)
        told = [clock.learn(b"%d" % number, WALL, WALL + 3600) for number in range(4)]
        self.assertEqual((told, clock.correction), ([False] * 4, -3600))

    def test_once_our_clock_has_proved_right_few_do_not_overrule_it(self):
        """A laptop is suspended every night; liars are not to gain by that."""
        clock = clock_with(0, 0, 0)
        clock.stepped(3600)
        clock.learn(b"0", WALL + 3600, WALL + 3600)
        for liar in (b"0", b"1"):
            clock.learn(liar, WALL, WALL + 3600)
            self.assertEqual(clock.correction, 0)

    def test_no_number_of_steps_goes_beyond_a_day(self):
        """Whatever an operator does to the clock."""
        clock = clock_with(0, 0, 0)
        for seconds in (10**9, -(10**9), 86_400, 86_400, 1e300, -1e300):
            clock.stepped(seconds)
            self.assertLessEqual(abs(clock.correction), LARGEST_CORRECTION)

    def test_what_is_remembered_of_steps_is_bounded(self):
        """As much as of peers."""
        clock = NetworkClock()
        for number in range(1000):
            clock.learn(b"%d" % number, WALL, WALL)
            clock.stepped(10)
        self.assertLessEqual(len(clock._stale), 32)
        self.assertLessEqual(clock._stale, set(clock._offsets))

    @given(st.lists(st.integers(-1000, 1000), min_size=3, max_size=9), st.integers(-30_000, 30_000))
    def test_a_step_and_back_is_no_step(self, offsets, seconds):
        """Nothing adds up."""
        clock = clock_with(*offsets)
        before = clock.correction
        clock.stepped(seconds)
        clock.stepped(-seconds)
        self.assertEqual(clock.correction, before)
