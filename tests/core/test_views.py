"""Tests of `py2p_twisted.core.views`: what is remembered of nodes that are no neighbours."""

import random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core.dialer import LEARNED_PAUSE
from py2p_twisted.core.views import (
    LONELY_PAUSE,
    MOST_ATTEMPTS,
    MOST_REFUSED_PAUSE,
    PROVEN_PAUSE,
    REFUSED_PAUSE,
    Attempts,
    PassiveView,
    pick,
    sample,
)
from tests import profile

profile.load()

THERE = ("10.0.0.1", 4444)


def entry(number):
    """Where a node lives, and its id."""
    return (f"10.{number // 62500}.{number // 250 % 250}.{number % 250}", 4444), b"P%d" % number


class PassiveViewTests(SynchronousTestCase):
    def setUp(self):
        self.bad = set()
        self.view = PassiveView(
            8, random.Random(1), acceptable=lambda entry: entry[1] not in self.bad
        )

    def test_new_ones_replace_others_at_random(self):
        for number in range(100):
            self.assertTrue(self.view.add(entry(number)))
        self.assertEqual(len(self.view), 8)
        self.assertIn(b"P99", self.view)
        self.assertFalse(self.view.add(entry(99)))
        self.assertEqual(self.view.added, 101)

    def test_what_was_sent_is_replaced_first(self):
        for number in range(8):
            self.view.add(entry(number))
        self.view.add(entry(50), b"A", [b"P3", b"gone"])
        self.assertNotIn(b"P3", self.view)
        self.assertEqual(len(self.view), 8)

    def test_one_neighbour_fills_a_quarter(self):
        for number in range(6):
            self.view.add(entry(number))
        for number in range(100, 200):
            self.view.add(entry(number), b"Liar")
        left = {ident for _, ident in self.view.entries}
        self.assertGreaterEqual(left, {b"P%d" % number for number in range(6)})
        self.assertEqual(len(left), 8)

    def test_nobody_else_says_where_a_known_node_lives(self):
        self.view.add(entry(1))
        self.view.add((("10.6.6.6", 6), b"P1"), b"Liar")
        self.assertEqual(self.view.entries, [entry(1)])
        self.view.add((("10.7.7.7", 7), b"P1"))
        self.assertEqual(self.view.entries, [(("10.7.7.7", 7), b"P1")])

    def test_who_does_not_belong_there_is_not_noted(self):
        self.bad.add(b"P1")
        self.assertFalse(self.view.add(entry(1)))
        self.assertFalse(PassiveView(0, random.Random(1), acceptable=bool).add(entry(1)))

    def test_forgetting(self):
        self.view.add(entry(1))
        self.view.add((entry(1)[0], b"Other"))
        self.view.add(entry(2))
        self.view.discard(b"P2")
        self.view.discard(b"nobody")
        self.view.discard_address(entry(1)[0])
        self.assertEqual(len(self.view), 0)

    @given(
        st.integers(0, 99),
        st.integers(0, 9),
        st.lists(st.tuples(st.integers(0, 30), st.sampled_from([b"", b"A", b"B"]))),
    )
    def test_it_is_bounded_as_are_the_shares(self, seed, capacity, added):
        view = PassiveView(capacity, random.Random(seed), acceptable=lambda entry: True)
        for number, source in added:
            view.add(entry(number), source)
            self.assertLessEqual(len(view), capacity)
            for who in (b"A", b"B"):
                share = sum(source == who for _, source in view._nodes.values())
                self.assertLessEqual(share, -(-capacity // 4))

    @given(st.integers(0, 99), st.lists(st.integers(), unique=True), st.integers(0, 20))
    def test_samples(self, seed, items, count):
        drawn = sample(random.Random(seed), items, count)
        self.assertEqual(len(drawn), min(count, len(items)))
        self.assertEqual(len(set(drawn)), len(drawn))
        self.assertLessEqual(set(drawn), set(items))
        if items:
            self.assertIn(pick(random.Random(seed), items), items)


class AttemptsTests(SynchronousTestCase):
    def setUp(self):
        self.attempts = Attempts()

    def pause(self, lonely=False):
        """How long the address is left alone after what happened at 0."""
        for tenth in range(20_000):
            if self.attempts.may(THERE, tenth / 10, lonely=lonely):
                return tenth / 10
        return self.fail("for ever")

    def test_nobody_is_left_alone_without_a_reason(self):
        self.assertEqual(self.pause(), 0)

    def test_who_refuses_is_asked_ever_more_seldom(self):
        pauses = []
        for _ in range(8):
            self.attempts.refused(THERE, 0)
            pauses.append(self.pause())
        self.assertEqual(pauses[:3], [REFUSED_PAUSE, 2 * REFUSED_PAUSE, 4 * REFUSED_PAUSE])
        self.assertEqual(pauses[-1], MOST_REFUSED_PAUSE)
        self.assertEqual(self.pause(lonely=True), LONELY_PAUSE)

    def test_an_address_that_fails_may_be_a_victims(self):
        self.attempts.failed(THERE, 0)
        self.assertEqual(self.pause(), LEARNED_PAUSE)
        self.assertEqual(self.pause(lonely=True), LEARNED_PAUSE)

    def test_one_that_we_have_reached_before_may_be_behind_a_cut(self):
        self.attempts.answered(THERE)
        for _ in range(9):
            self.attempts.failed(THERE, 0)
        self.assertEqual(self.pause(), PROVEN_PAUSE)

    def test_a_change_of_the_mesh_is_a_new_chance_for_who_refused(self):
        self.attempts.refused(THERE, 0)
        self.attempts.pardon()
        self.assertEqual(self.pause(), 0)
        self.attempts.failed(THERE, 0)
        self.attempts.pardon()
        self.assertEqual(self.pause(), LEARNED_PAUSE)
        self.attempts.answered(THERE)
        self.assertEqual(self.pause(), 0)

    def test_it_is_bounded(self):
        for number in range(3 * MOST_ATTEMPTS):
            self.attempts.failed(entry(number)[0], number)
            self.attempts.answered(entry(number + 9)[0])
            self.assertLessEqual(len(self.attempts), MOST_ATTEMPTS)
