"""Tests of `py2p_twisted.core.shuffle`: walks of addresses, and their answers."""

import random

from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core.extension import Kind, write_entry
from py2p_twisted.core.settings import Settings
from py2p_twisted.core.shuffle import MOST_ROUTES, ROUTE_TIME, Shuffles
from py2p_twisted.core.views import PassiveView
from py2p_twisted.errors import BadExtension


def entry(number):
    """Where a node lives, and its id."""
    return (f"10.0.0.{number}", 4444), b"P%d" % number


OWN = (("10.9.9.9", 4444), b"Own")


class Link:
    """A link to a neighbour."""

    def __init__(self, number):
        self.address, self.id = entry(number)


class ShufflesTests(SynchronousTestCase):
    def setUp(self):
        self.settings = Settings()
        self.links = [Link(number) for number in range(1, 6)]
        self.passive = PassiveView(30, random.Random(1), acceptable=lambda entry: True)
        self.sent = []
        self.shuffles = Shuffles(
            OWN[1],
            self.settings,
            random.Random(2),
            self.passive,
            neighbours=lambda: self.links,
            send=lambda link, *frame: self.sent.append((link, *frame)),
        )

    def walk(self, origin=b"Far", hops=4, entries=(), link=None):
        listed = [write_entry(item) for item in entries]
        self.shuffles.walked(link or self.links[0], (origin, hops, listed), 0.0)

    def answer(self, link, origin, entries, now=0.0):
        self.shuffles.answered(link, (origin, [write_entry(item) for item in entries]), now)

    def ids(self):
        return {ident for _, ident in self.passive.entries}

    def test_our_own_tells_of_us_and_some_of_each_view(self):
        for number in range(20, 40):
            self.passive.add(entry(number))
        self.shuffles.start(OWN, 0.0)
        ((target, kind, origin, hops, listed),) = self.sent
        self.assertEqual((kind, origin, hops), (Kind.SHUFFLE, OWN[1], self.settings.join_walk))
        self.assertEqual(listed[0], write_entry(OWN))
        idents = [ident for _, ident in listed]
        active = {link.id for link in self.links} & set(idents)
        self.assertEqual((len(active), len(idents)), (3, 1 + 3 + 4))
        self.assertNotIn(target.id, idents)

    def test_its_answer_replaces_what_was_sent(self):
        for number in range(20, 50):
            self.passive.add(entry(number))
        before = self.ids()
        self.shuffles.start(OWN, 0.0)
        target, _, _, _, listed = self.sent[0]
        sent = {ident for _, ident in listed} & before
        self.answer(target, OWN[1], [entry(number) for number in range(100, 104)])
        self.assertEqual(before - self.ids(), sent)
        self.assertEqual(len(self.ids() - before), 4)

    def test_one_of_others_goes_on(self):
        self.walk(hops=4, entries=[entry(60)])
        ((target, *frame),) = self.sent
        self.assertIsNot(target, self.links[0])
        self.assertEqual(frame, [Kind.SHUFFLE, b"Far", 3, [write_entry(entry(60))]])
        self.assertEqual(len(self.passive), 0)

    def test_and_its_answer_goes_back_once(self):
        self.walk()
        target = self.sent.pop()[0]
        self.answer(self.links[0] if target is not self.links[0] else self.links[1], b"Far", [])
        self.assertEqual(self.sent, [])
        self.answer(target, b"Far", [entry(70)])
        self.answer(target, b"Far", [entry(70)])
        self.assertEqual(
            self.sent, [(self.links[0], Kind.SHUFFLE_REPLY, b"Far", [write_entry(entry(70))])]
        )
        self.assertEqual((len(self.passive), len(self.shuffles)), (0, 0))

    def test_where_it_ends_both_learn(self):
        for number in range(20, 24):
            self.passive.add(entry(number))
        self.walk(hops=1, entries=[entry(60), entry(61)])
        ((target, kind, origin, listed),) = self.sent
        self.assertEqual((target, kind, origin), (self.links[0], Kind.SHUFFLE_REPLY, b"Far"))
        self.assertEqual(len(listed), 2)
        self.assertLessEqual({b"P60", b"P61"}, self.ids())
        self.assertEqual(self.shuffles.ended, 1)

    def test_it_ends_where_there_is_nobody_else(self):
        del self.links[1:]
        self.walk(hops=6)
        self.assertEqual(self.sent, [(self.links[0], Kind.SHUFFLE_REPLY, b"Far", [])])

    def test_one_that_went_in_a_circle_is_over(self):
        self.walk(origin=OWN[1])
        self.assertEqual((self.sent, len(self.shuffles)), ([], 0))

    def test_an_answer_that_is_late_or_has_nowhere_to_go_is_dropped(self):
        self.walk()
        target = self.sent.pop()[0]
        self.answer(target, b"Far", [entry(70)], ROUTE_TIME + 1)
        self.walk()
        target = self.sent.pop()[0]
        self.shuffles.gone(self.links[0])
        self.answer(target, b"Far", [entry(70)])
        self.assertEqual((self.sent, len(self.passive), len(self.shuffles)), ([], 0, 0))

    def test_no_more_is_read_or_passed_on_than_we_would_send(self):
        self.walk(hops=9999, entries=[entry(number) for number in range(50, 82)])
        _, _, _, hops, listed = self.sent[0]
        self.assertEqual((hops, len(listed)), (self.settings.join_walk - 1, 8))

    def test_alone_there_is_nobody_to_send_it_to(self):
        self.links.clear()
        self.shuffles.start(OWN, 0.0)
        self.assertEqual((self.sent, self.shuffles.started), ([], 0))

    def test_what_makes_no_sense_is_an_error(self):
        for fields in ((), (b"", 1, []), (b"F", -1, []), (b"F", 1, None), (b"F" * 999, 1, [])):
            with self.assertRaises(BadExtension):
                self.shuffles.walked(self.links[0], fields, 0.0)
        for fields in ((), (b"", []), (b"F", [1] * 33)):
            with self.assertRaises(BadExtension):
                self.shuffles.answered(self.links[0], fields, 0.0)

    def test_the_ways_of_walks_are_bounded(self):
        for number in range(2 * MOST_ROUTES):
            self.walk(origin=b"W%d" % number)
        self.assertEqual(len(self.shuffles), MOST_ROUTES)
