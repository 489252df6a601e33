"""Tests of `py2p_twisted.core.repair`."""

from collections import Counter
from itertools import islice

from hypothesis import settings as limits
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core.connection import State
from py2p_twisted.core.extension import Kind
from py2p_twisted.core.recent import RecentMessages
from py2p_twisted.core.repair import (
    LONGEST_ANSWER,
    PENANCE,
    SERVED,
    STRIKES,
    WINDOW,
    Repair,
)
from py2p_twisted.core.seen import SeenCache
from py2p_twisted.core.settings import Settings
from py2p_twisted.core.timers import Timers
from tests import profile
from tests.core.neighbours import Neighbour, Said, message, short_of
from tests.core.support import START

profile.load()


class Branches:
    """Takes the place of the trees."""

    def __init__(self):
        self.made = []

    def branch(self, origin, link):
        self.made.append((origin, link))


class Relayed:
    """Takes the place of the effects: what is given to whom; full after so many bytes."""

    def __init__(self):
        self.given, self.full_at, self.bytes, self.largest = [], None, 0, 0

    def relay(self, messages, links):
        (link,) = links
        self.given += [(one, link) for one in messages]
        size = sum(len(one.body) for one in messages)
        self.bytes += size
        self.largest = max(self.largest, size)
        if self.full_at is not None and self.bytes > self.full_at:
            link.congested = True


class Bench:
    """A `Repair`, and everything that it touches."""

    def __init__(self, **options):
        self.now = START
        self.seen = SeenCache()
        self.recent = RecentMessages(600, 20_000, 1 << 30)
        self.timers = Timers()
        self.counters = Counter()
        self.said, self.trees, self.effects = Said(), Branches(), Relayed()
        self.gaps, self.proved, self.completed = [], [], []
        self.repair = Repair(
            Settings(**options),
            self.seen,
            self.recent,
            self.trees,
            self.effects,
            self.timers,
            self.counters,
            send=self.said,
            decide=self.gaps.append,
            proved=self.proved.append,
            complete=self.completed.append,
        )

    def announced(self, link, messages, *, digest=False):
        self.repair.announced(link, [short_of(one) for one in messages], self.now, digest=digest)

    def comes(self, one, link):
        """A message arrives on a link."""
        link.heard = self.now
        if not self.seen.add(one.id, self.now):
            return
        self.recent.hold([one], link.id, self.now)
        if self.repair.missing:
            self.repair.obtained(one, link, self.now)

    def not_held(self, link, messages):
        self.repair.not_held(link, [short_of(one) for one in messages], self.now)

    def ends(self, link):
        link.state = State.CLOSED
        link.ext.active = False
        self.repair.gone(link, self.now)

    def advance(self, seconds):
        target = self.now + seconds
        while (when := self.timers.next()) is not None and when <= target:
            self.now = max(self.now, when)
            self.timers.due(self.now)
        self.now = target

    def asked(self, link):
        """All ids that a neighbour was asked for."""
        return self.said.ids(link, Kind.GRAFT)

    def modes(self, link):
        return [fields[1] for fields in self.said.to(link, Kind.GRAFT)]


def messages(number, start=0):
    return [message(start + index) for index in range(number)]


class AnnouncedTests(SynchronousTestCase):
    def test_what_comes_by_itself_is_not_asked_for(self):
        """The usual case: a tree is faster than announcements."""
        bench, ada, ben = Bench(), Neighbour(b"Ada"), Neighbour(b"Ben")
        one = message()
        bench.announced(ada, [one])
        bench.advance(0.1)
        bench.comes(one, ben)
        bench.advance(100)
        self.assertEqual(bench.said.frames, [])
        self.assertEqual((bench.repair.missing, ada.ext.missing), ({}, 0))

    def test_what_does_not_come_is_asked_for_as_a_branch(self):
        """Mode 0: send it, and everything else of its origin from now on."""
        bench, ada = Bench(graft_timeout=0.3), Neighbour(b"Ada")
        one = message()
        bench.announced(ada, [one])
        bench.advance(0.29)
        self.assertEqual(bench.asked(ada), [])
        bench.advance(0.02)
        self.assertEqual((bench.asked(ada), bench.modes(ada)), ([short_of(one)], [0]))
        bench.comes(one, ada)
        self.assertEqual(bench.trees.made, [(b"Origin", ada)])
        self.assertEqual((bench.repair.missing, ada.ext.missing), ({}, 0))
        self.assertEqual((dict(ada.ext.asked), bench.counters["repaired"]), ({}, 1))

    def test_what_is_known_is_not_missing(self):
        """Delivered, held or refused: an id that is known is not asked for."""
        bench, ada = Bench(), Neighbour()
        one = message()
        bench.seen.add(one.id, START)
        bench.announced(ada, [one])
        bench.announced(ada, [one], digest=True)
        self.assertEqual((bench.repair.missing, bench.timers.next()), ({}, None))

    def test_the_entries_of_a_digest_are_asked_for_sooner_and_without_a_branch(self):
        """Mode 1: what was missed says nothing about where the next ones should come from."""
        bench, ada = Bench(graft_timeout=0.3, repair_timeout=0.2), Neighbour()
        one = message()
        bench.announced(ada, [one], digest=True)
        bench.advance(0.21)
        self.assertEqual((bench.asked(ada), bench.modes(ada)), ([short_of(one)], [1]))
        bench.comes(one, ada)
        self.assertEqual(bench.trees.made, [])

    def test_who_announces_it_as_well_makes_it_more_than_an_entry_of_a_digest(self):
        """A tree is broken if an announced message does not come."""
        bench, ada, ben = Bench(), Neighbour(b"Ada"), Neighbour(b"Ben")
        one = message()
        bench.announced(ada, [one], digest=True)
        bench.announced(ben, [one])
        bench.advance(0.25)
        self.assertEqual(bench.modes(ada) + bench.modes(ben), [0])

    def test_links_outside_the_view_are_never_made_branches(self):
        """A probe gives what it has. That it had something tells that the mesh was apart."""
        bench, probe = Bench(), Neighbour(active=False)
        one = message()
        bench.announced(probe, [one])
        bench.advance(0.4)
        self.assertEqual(bench.modes(probe), [1])
        bench.comes(one, probe)
        self.assertEqual((bench.proved, bench.trees.made), ([probe], []))

    def test_a_link_that_is_ending_cannot_be_asked(self):
        """What is still read from it announces nothing: the next link has a digest."""
        bench, ada = Bench(), Neighbour()
        ada.state = State.DRAINING
        bench.announced(ada, [message()])
        self.assertEqual((bench.repair.missing, ada.ext.missing), ({}, 0))


class TimeoutTests(SynchronousTestCase):
    def usual(self, bench, lag, times=100):
        """Let announcements be ahead of their messages by so much."""
        ada, ben = Neighbour(b"Ada"), Neighbour(b"Ben")
        for number in range(times):
            one = message(number, origin=b"%f" % lag)
            bench.announced(ada, [one])
            bench.advance(lag)
            bench.comes(one, ben)
            bench.advance(5)
        return bench.repair.timeout

    def test_it_is_four_times_what_is_observed(self):
        """In a mesh of short ways a broken tree is noticed soon."""
        self.assertAlmostEqual(self.usual(Bench(), 0.05), 0.2, places=3)

    def test_it_has_bounds(self):
        """Nobody can make us ask at once, nor never."""
        self.assertEqual(self.usual(Bench(), 0.0), 0.1)
        bench = Bench()
        for lag in (0.4, 1.5, 100.0):
            self.usual(bench, lag)
        self.assertEqual(bench.repair.timeout, 2.0)
        self.assertEqual(self.usual(Bench(graft_timeout=0.05), 0.0), 0.05)

    def test_it_also_grows_when_it_was_too_short(self):
        """Ways got longer than the timeout: what is asked for too early still counts."""
        bench = Bench(graft_timeout=0.3)
        self.assertAlmostEqual(self.usual(bench, 0.4), 1.6, places=3)
        bench.said.clear()
        self.usual(bench, 0.4, times=10)
        self.assertEqual(bench.said.frames, [])

    def test_what_was_asked_for_says_nothing_about_trees(self):
        """How long a neighbour takes to answer is not how long a tree takes."""
        bench, ada = Bench(), Neighbour()
        before = bench.repair.timeout
        one = message()
        bench.announced(ada, [one])
        bench.advance(0.35)
        bench.comes(one, ada)
        self.assertEqual(bench.repair.timeout, before)


class NextAnnouncerTests(SynchronousTestCase):
    def setUp(self):
        self.bench = Bench()
        self.ada, self.ben, self.cyd = (Neighbour(name) for name in (b"Ada", b"Ben", b"Cyd"))
        self.one = message()
        for link in (self.ada, self.ben):
            self.bench.announced(link, [self.one])
        self.bench.advance(0.31)
        self.assertEqual(self.bench.asked(self.ada), [short_of(self.one)])
        self.assertEqual(self.bench.asked(self.ben), [])

    def nothing_is_left(self):
        for link in (self.ada, self.ben, self.cyd):
            self.assertEqual((link.ext.missing, dict(link.ext.asked)), (0, {}))
        self.assertEqual(self.bench.repair.missing, {})

    def test_after_no_answer(self):
        """Two and a half ways to it and back, or the repair timeout if that is more."""
        self.bench.advance(0.18)
        self.assertEqual(self.bench.asked(self.ben), [])
        self.bench.advance(0.03)
        self.assertEqual(self.bench.asked(self.ben), [short_of(self.one)])
        self.bench.comes(self.one, self.ben)
        self.nothing_is_left()

    def test_the_way_to_it_and_back_is_counted(self):
        """Who is far away has longer."""
        bench, ada, ben = Bench(), Neighbour(b"Ada"), Neighbour(b"Ben")
        ada.ext.rtt = 0.4
        bench.announced(ada, [self.one])
        bench.announced(ben, [self.one])
        bench.advance(0.31 + 1.0)
        self.assertEqual(bench.asked(ben), [])
        bench.advance(0.1)
        self.assertEqual(bench.asked(ben), [short_of(self.one)])

    def test_at_once_if_it_is_not_held(self):
        """An answer that says no saves the wait."""
        self.bench.not_held(self.ada, [self.one])
        self.assertEqual(self.bench.asked(self.ben), [short_of(self.one)])

    def test_at_once_if_the_link_has_gone(self):
        """Whoever was asked."""
        self.bench.ends(self.ada)
        self.assertEqual(self.bench.asked(self.ben), [short_of(self.one)])
        self.assertEqual(self.ada.ext.missing, 0)
        self.bench.ends(self.ben)
        self.nothing_is_left()

    def test_each_has_its_own_time(self):
        """That of the neighbour that was asked before does not run out on the next one."""
        self.bench.advance(0.1)
        self.ben.ext.rtt = 0.1
        self.bench.announced(self.cyd, [self.one])
        self.bench.not_held(self.ada, [self.one])  # Ben is asked now, for 0.3 s
        self.bench.advance(0.15)
        self.assertEqual(self.bench.asked(self.cyd), [])
        self.assertEqual(self.ben.ext.strikes, 0)
        self.bench.advance(0.2)
        self.assertEqual(self.bench.asked(self.cyd), [short_of(self.one)])

    def test_only_who_was_asked_can_deny(self):
        """And only what it was asked for, by now: else one asks for an id twice at a time."""
        self.bench.not_held(self.ben, [self.one])
        self.bench.not_held(self.cyd, [self.one])
        self.bench.not_held(self.ada, [message(5)])
        self.assertEqual(self.bench.asked(self.ben), [])
        many = messages(WINDOW + 10, 100)
        self.bench.announced(self.cyd, many, digest=True)
        self.bench.advance(0.2)
        waiting = many[WINDOW:]
        self.assertEqual(len(self.cyd.ext.asked), WINDOW)
        self.bench.not_held(self.cyd, waiting)
        self.assertEqual(len(self.cyd.ext.asks_waiting), 10)
        self.assertTrue(all(short_of(one) in self.bench.repair.missing for one in waiting))

    def test_a_denial_may_cross_with_the_message(self):
        """It came from somebody else meanwhile."""
        self.bench.comes(self.one, self.cyd)
        self.bench.not_held(self.ada, [self.one])
        self.bench.advance(100)
        self.assertEqual(self.bench.asked(self.ben), [])
        self.nothing_is_left()
        self.assertEqual(self.bench.gaps, [])

    def test_a_late_answer_of_the_first_ends_the_search(self):
        """Whoever brings it."""
        self.bench.advance(0.3)
        self.bench.comes(self.one, self.ada)
        self.nothing_is_left()
        self.bench.advance(100)
        self.assertEqual(len(self.bench.said.frames), 2)

    def test_who_is_asked_for_least_is_asked(self):
        """Repairs are spread over those who can do them."""
        many = messages(300, 10)
        for link in (self.ada, self.ben, self.cyd):
            self.bench.announced(link, many, digest=True)
        self.bench.advance(0.2)
        counts = [len(self.bench.asked(link)) for link in (self.ada, self.ben, self.cyd)]
        self.assertLessEqual(max(counts) - min(counts), 2)
        asked = [one for link in (self.ada, self.ben, self.cyd) for one in self.bench.asked(link)]
        self.assertGreaterEqual(set(asked), {short_of(one) for one in many})

    def test_neighbours_are_asked_before_others(self):
        """Anybody can connect to us and announce what it withholds."""
        bench = Bench()
        strangers = [Neighbour(b"X%d" % number, active=False) for number in range(20)]
        for link in (*strangers, self.ada):
            bench.announced(link, [self.one])
        bench.advance(0.31)
        self.assertEqual(bench.asked(self.ada), [short_of(self.one)])

    def test_however_many_have_announced_it_each_can_be_asked(self):
        """Liars cannot keep an honest neighbour from being remembered."""
        bench = Bench()
        liars = [Neighbour(b"X%d" % number) for number in range(20)]
        for link in (*liars, self.ada):
            bench.announced(link, [self.one])
        for _ in range(100):
            bench.advance(0.1)
            if bench.asked(self.ada):
                bench.comes(self.one, self.ada)
        self.assertEqual(bench.counters["repaired"], 1)
        self.assertEqual({link.ext.missing for link in liars}, {0})

    def test_who_has_gone_does_not_take_the_place_of_others(self):
        """Under churn, links end faster than a slow neighbour answers."""
        for number in range(20):
            link = Neighbour(b"X%d" % number)
            self.bench.announced(link, [self.one])
            self.bench.ends(link)
            self.assertEqual(link.ext.missing, 0)
        self.bench.announced(self.cyd, [self.one])
        self.bench.ends(self.ada)
        self.bench.ends(self.ben)
        self.assertEqual(self.bench.asked(self.cyd), [short_of(self.one)])

    def test_a_link_that_is_replaced_is_asked_no_more(self):
        """The node tells of it while it is still open."""
        self.bench.announced(self.cyd, [self.one])
        self.bench.said.clear()
        self.bench.repair.gone(self.ben, self.bench.now)
        self.bench.repair.gone(self.ada, self.bench.now)
        self.assertEqual([link for link, _, _ in self.bench.said.frames], [self.cyd])
        self.assertEqual((self.ada.ext.missing, self.ben.ext.missing), (0, 0))

    def test_nobody_left(self):
        """It is given up; whoever announces it again is asked again."""
        self.bench.advance(10)
        self.nothing_is_left()
        self.assertEqual(self.bench.counters["unobtainable"], 1)
        self.bench.announced(self.cyd, [self.one])
        self.bench.advance(0.5)
        self.assertEqual(self.bench.asked(self.cyd), [short_of(self.one)])


class GapTests(SynchronousTestCase):
    def test_a_gap_is_told_when_somebody_has_let_it_go(self):
        """Several at once are one gap."""
        bench, ada = Bench(), Neighbour()
        many = messages(3)
        bench.announced(ada, many, digest=True)
        bench.advance(0.3)
        bench.not_held(ada, many)
        bench.advance(2)
        (gap,) = bench.gaps
        self.assertEqual(gap.count, 3)

    def test_no_gap_when_nobody_has_answered(self):
        """Liars and broken links tell nothing about messages; what is lost comes by digest."""
        bench, ada, ben = Bench(), Neighbour(b"Ada"), Neighbour(b"Ben")
        bench.announced(ada, messages(3))
        bench.announced(ben, messages(3, 10))
        bench.ends(ben)
        bench.advance(100)
        self.assertEqual((bench.gaps, bench.repair.missing), ([], {}))
        self.assertEqual(bench.counters["unobtainable"], 6)

    def test_no_gap_when_another_one_has_it(self):
        """It is not lost."""
        bench, ada, ben = Bench(), Neighbour(b"Ada"), Neighbour(b"Ben")
        one = message()
        bench.announced(ada, [one])
        bench.announced(ben, [one])
        bench.advance(0.31)
        bench.not_held(ada, [one])
        bench.comes(one, ben)
        bench.advance(100)
        self.assertEqual(bench.gaps, [])


class WindowTests(SynchronousTestCase):
    def test_a_neighbour_is_asked_for_so_many_at_a_time(self):
        """The rest when half of them have come; all in the end, each once."""
        bench, ada = Bench(), Neighbour()
        many = messages(3 * WINDOW)
        by_short = {short_of(one): one for one in many}
        bench.announced(ada, many, digest=True)
        bench.advance(0.21)
        self.assertEqual(len(bench.asked(ada)), WINDOW)
        answered = 0
        while answered < len(many):
            for ident in bench.asked(ada)[answered:][: WINDOW // 2]:
                bench.comes(by_short[ident], ada)
                answered += 1
                self.assertLessEqual(len(ada.ext.asked), WINDOW)
            bench.advance(0.05)
        self.assertEqual(bench.asked(ada), list(by_short))
        self.assertEqual((bench.repair.missing, ada.ext.missing), ({}, 0))

    def test_what_others_bring_makes_room_too(self):
        """Whatever becomes of what was asked for."""
        bench, ada, ben = Bench(), Neighbour(b"Ada"), Neighbour(b"Ben")
        many = messages(2 * WINDOW)
        bench.announced(ada, many, digest=True)
        bench.advance(0.21)
        for one in many[: WINDOW // 2]:
            bench.comes(one, ben)
        bench.not_held(ada, many[WINDOW // 2 : WINDOW])
        self.assertEqual(len(bench.asked(ada)), 2 * WINDOW)

    def test_who_is_answering_is_not_hurried(self):
        """Ten a timeout are progress: nobody is asked twice, and nobody is to blame."""
        bench, ada, ben = Bench(), Neighbour(b"Ada"), Neighbour(b"Ben")
        many = messages(100)
        bench.announced(ada, many, digest=True)
        bench.advance(0.21)
        bench.announced(ben, many, digest=True)
        for one in many:
            bench.advance(0.02)
            bench.comes(one, ada)
        bench.advance(100)
        self.assertEqual((bench.asked(ben), bench.counters["unanswered"]), ([], 0))

    def test_nor_who_is_in_the_middle_of_a_large_one(self):
        """Bytes of an unfinished frame are progress, for a while."""
        bench, ada, ben = Bench(), Neighbour(b"Ada"), Neighbour(b"Ben")
        one = message()
        bench.announced(ada, [one])
        bench.announced(ben, [one])
        bench.advance(0.31)
        ada.waiting = 1000
        for _ in range(50):
            ada.heard = bench.now
            bench.advance(0.1)
        self.assertEqual(bench.asked(ben), [])
        ada.waiting = 0
        bench.comes(one, ada)
        self.assertEqual(bench.repair.missing, {})

    def test_one_that_is_withheld_is_asked_of_others_whatever_else_comes(self):
        """An attacker announces everything first, and brings everything but one."""
        bench, eve, ben = Bench(), Neighbour(b"Eve"), Neighbour(b"Ben")
        one = message()
        bench.announced(eve, [one])
        bench.announced(ben, [one])
        bench.advance(0.31)
        for number in range(1, 150):
            other = message(number)
            bench.announced(eve, [other])
            bench.advance(0.1)
            eve.waiting = 100
            bench.comes(other, eve)
            if bench.asked(ben):
                break
        self.assertEqual(bench.asked(ben), [short_of(one)])
        self.assertLessEqual(bench.now, START + 0.31 + LONGEST_ANSWER + 0.5)

    def test_what_has_come_and_was_of_no_use_is_not_asked_for_again(self):
        """Its stamp was too old, say. Nobody is to blame for it."""
        bench, ada, ben = Bench(), Neighbour(b"Ada"), Neighbour(b"Ben")
        many = messages(2 * WINDOW)
        bench.announced(ada, many, digest=True)
        bench.advance(0.15)
        bench.announced(ben, many, digest=True)
        bench.advance(0.06)
        for one in many:
            bench.seen.add(one.id, bench.now)  # as the node does with what it refuses
        bench.advance(1)
        self.assertEqual((bench.repair.missing, bench.asked(ben)), ({}, bench.asked(ben)[:WINDOW]))
        self.assertEqual((ada.ext.strikes, ada.ext.missing, ben.ext.missing), (0, 0, 0))
        self.assertEqual(bench.counters["unanswered"], 0)


class LiarTests(SynchronousTestCase):
    def test_one_neighbour_can_make_so_many_missing(self):
        """More are in its next digest, for which it is asked when half of these are done."""
        bench, ada, ben = Bench(missing_per_peer=100), Neighbour(b"Ada"), Neighbour(b"Ben")
        many = messages(250)
        bench.announced(ada, many, digest=True)
        self.assertEqual((ada.ext.missing, len(bench.repair.missing)), (100, 100))
        self.assertEqual(bench.counters["announcements deferred"], 150)
        self.assertTrue(ada.ext.incomplete)
        for one in many[:49]:
            bench.comes(one, ben)
        self.assertEqual(bench.completed, [])
        bench.comes(many[49], ben)
        self.assertEqual((bench.completed, ada.ext.incomplete), ([ada], False))

    def test_in_the_end_everything_has_been_asked_for(self):
        """Round by round, with the digests that follow."""
        bench, ada = Bench(missing_per_peer=300), Neighbour()
        many = messages(2000)
        by_short = {short_of(one): one for one in many}
        bench.announced(ada, many, digest=True)
        for _ in range(1000):
            bench.advance(0.05)
            for ident in list(ada.ext.asked):
                bench.comes(by_short[ident], ada)
            if bench.completed:
                bench.completed.clear()
                bench.announced(ada, [one for one in many if one.id not in bench.seen], digest=True)
        self.assertEqual(sum(one.id in bench.seen for one in many), 2000)
        self.assertEqual(sorted(bench.asked(ada)), sorted(by_short))

    def test_what_others_have_announced_counts_as_well(self):
        """Else the memory that one peer takes would have no bound."""
        bench, ada, eve = Bench(missing_per_peer=100), Neighbour(b"Ada"), Neighbour(b"Eve")
        honest = messages(100)
        bench.announced(ada, honest)
        bench.announced(eve, messages(100, 1000))
        bench.announced(eve, honest)
        self.assertEqual(eve.ext.missing, 100)
        self.assertTrue(eve.ext.incomplete)

    def test_ids_that_do_not_exist(self):
        """However many a second, for ever: bounded, soon ignored, and others unharmed."""
        bench, eve, ada = Bench(), Neighbour(b"Eve"), Neighbour(b"Ada")
        serial = most = 0
        for second in range(120):
            for _ in range(5):
                fake = [b"%016d" % (serial + index) for index in range(1000)]
                serial += 1000
                bench.repair.announced(eve, fake, bench.now, digest=False)
                most = max(most, eve.ext.missing)
                self.assertLessEqual(len(eve.ext.asks_waiting), 10_001)
                self.assertLessEqual(len(eve.ext.asked), WINDOW)
            one = message(second, origin=b"Ada")
            bench.announced(ada, [one])
            bench.advance(0.4)
            self.assertEqual(bench.asked(ada)[-1:], [short_of(one)])
            bench.comes(one, ada)
            bench.advance(0.6)
        self.assertEqual(most, 5000)
        self.assertLess(len(bench.asked(eve)), 60_000)
        bench.advance(100)
        self.assertEqual((bench.repair.missing, eve.ext.missing), ({}, 0))
        self.assertEqual((len(eve.ext.asks_waiting), dict(eve.ext.asked)), (0, {}))

    def strike(self, bench, link, times):
        for number in range(times):
            bench.announced(link, [message(number, origin=b"Eve")])
            bench.advance(1)

    def test_who_never_delivers_is_ignored_for_a_minute_and_then_asked_for_a_digest(self):
        """In it is what it has announced meanwhile, if it exists."""
        bench, eve = Bench(), Neighbour()
        self.strike(bench, eve, STRIKES - 1)
        self.assertEqual(eve.ext.ignored_until, float("-inf"))
        self.strike(bench, eve, 1)
        self.assertGreater(eve.ext.ignored_until, bench.now)
        bench.announced(eve, messages(10))
        self.assertEqual(bench.repair.missing, {})
        bench.advance(PENANCE)
        self.assertEqual(bench.completed, [eve])
        bench.announced(eve, messages(10))
        self.assertEqual(len(bench.repair.missing), 10)

    def test_who_delivers_in_between_is_forgiven(self):
        """Only announcements in a row count."""
        bench, ada = Bench(), Neighbour()
        for number in range(10):
            self.strike(bench, ada, STRIKES - 1)
            one = message(number)
            bench.announced(ada, [one])
            bench.comes(one, ada)
        self.assertEqual(ada.ext.ignored_until, float("-inf"))

    def test_what_waits_for_a_liar_is_asked_of_others(self):
        """As far as there are others; the rest in its turn."""
        bench, eve, ada = Bench(), Neighbour(b"Eve"), Neighbour(b"Ada")
        fake = messages(5 * WINDOW, 1000)
        real = messages(20)
        bench.announced(eve, fake, digest=True)
        bench.advance(0.21)
        bench.announced(eve, real, digest=True)
        bench.advance(0.15)
        ada.ext.asked.update({b"%d" % number: 1e9 for number in range(2 * WINDOW)})  # busy, too
        ada.ext.asked.update({b"%d" % number: 1e9 for number in range(8 * WINDOW)})
        bench.announced(ada, real, digest=True)
        bench.advance(0.06)
        self.assertTrue(set(eve.ext.asks_waiting) >= {short_of(one) for one in real})
        ada.ext.asked.clear()
        bench.advance(0.5)
        self.assertGreater(eve.ext.ignored_until, bench.now)
        self.assertEqual(set(bench.asked(ada)), {short_of(one) for one in real})
        bench.advance(10)
        self.assertEqual(len(set(bench.asked(eve))), len(fake))


class ServingTests(SynchronousTestCase):
    def setUp(self):
        self.bench, self.ada = Bench(), Neighbour()

    def hold(self, number, size=0):
        many = [message(index, size=size) for index in range(number)]
        self.bench.recent.hold(many, b"", self.bench.now)
        return [short_of(one) for one in many]

    def wanted(self, shorts, link=None):
        for start in range(0, len(shorts), 1000):
            page = shorts[start : start + 1000]
            self.bench.repair.wanted(link or self.ada, page, self.bench.now)

    def given(self):
        return [short_of(one) for one, _ in self.bench.effects.given]

    def test_what_is_held_is_given_and_what_is_not_is_denied(self):
        """In the order of the question, at once."""
        held = self.hold(5)
        missing = [b"%016d" % number for number in range(1500)]
        self.wanted([*missing[:700], *held, *missing[700:]])
        self.assertEqual(self.given(), held)
        self.assertEqual(self.bench.said.ids(self.ada, Kind.NOT_HELD), missing)
        self.assertEqual(len(self.ada.ext.wanted), 0)

    def test_as_fast_as_it_reads(self):
        """Nothing while it is congested; on when it has room again."""
        held = self.hold(1000, size=10_000)
        self.bench.effects.full_at = 1_000_000
        self.wanted(held)
        self.assertTrue(self.ada.congested)
        # What waits for the peer is hardly more than what made it congested.
        self.assertLess(self.bench.effects.bytes, 1_100_000)
        self.bench.advance(10)
        self.assertLess(self.bench.effects.bytes, 1_100_000)
        while self.ada.ext.wanted:
            before = len(self.bench.effects.given)
            self.bench.effects.bytes, self.ada.congested = 0, False
            self.bench.repair.serve(self.ada, self.bench.now)
            self.assertGreater(len(self.bench.effects.given), before)
            self.assertLess(self.bench.effects.bytes, 1_100_000)
            self.bench.now += 1
        self.assertEqual(self.given(), held)

    def test_so_many_bytes_a_second(self):
        """Who reads fast and asks for everything does not get all of our bandwidth."""
        held = self.hold(50, size=1_000_000)
        self.wanted(held)
        self.assertLessEqual(self.bench.effects.bytes, SERVED + 1_100_000)
        self.bench.advance(1.0)
        self.assertLessEqual(self.bench.effects.bytes, 2 * SERVED + 1_100_000)
        self.assertGreater(self.bench.effects.bytes, 1.8 * SERVED)
        self.bench.advance(10)
        self.assertEqual(self.given(), held)
        self.assertIsNone(self.bench.timers.next())

    def test_each_neighbour_has_its_own_share(self):
        """One that asks for everything takes nothing from the next."""
        held = self.hold(20, size=1_000_000)
        ben = Neighbour(b"Ben")
        self.wanted(held)
        self.wanted(held[:2], ben)
        self.assertEqual(sum(link is ben for _, link in self.bench.effects.given), 2)

    def test_questions_are_bounded(self):
        """What does not fit is not answered, and asked of somebody else."""
        held = self.hold(10)
        self.ada.congested = True
        self.wanted([b"%016d" % number for number in range(20_000)])
        self.assertEqual(len(self.ada.ext.wanted), 5000)
        self.wanted(held)
        self.assertEqual(len(self.ada.ext.wanted), 5000)

    def test_a_link_that_ends_is_answered_no_more(self):
        """Nor woken up for."""
        self.wanted(self.hold(50, size=1_000_000))
        given = len(self.bench.effects.given)
        self.assertIsNotNone(self.bench.timers.next())
        self.bench.ends(self.ada)
        self.assertIsNone(self.bench.timers.next())
        self.wanted(self.hold(1))
        self.bench.advance(10)
        self.assertEqual(len(self.bench.effects.given), given)
        self.assertEqual(self.bench.repair._allowance, {})


class RepairModel(RuleBasedStateMachine):
    """
    Announcements, arrivals, denials, ends of links and time, in any order.

    Nothing leaks; no neighbour is asked for the same twice at a time, or when it is gone; and
    every missing message is asked for until it has come or nobody is left who announced it.
    """

    @initialize(cap=st.sampled_from([3, 20, 5000]))
    def start(self, cap):
        self.bench = Bench(missing_per_peer=cap)
        self.cap = cap
        self.links = [Neighbour(b"L%d" % number, active=number < 3) for number in range(5)]
        self.messages = messages(40)
        self.by_short = {short_of(one): one for one in self.messages}
        self.serial = 5
        self.read = 0

    link = st.integers(0, 4)
    some = st.lists(st.integers(0, 39), min_size=1, max_size=40, unique=True)

    @rule(link=link, some=some, digest=st.booleans())
    def announce(self, link, some, digest):
        self.bench.announced(self.links[link], [self.messages[one] for one in some], digest=digest)
        self.look()

    @rule(link=link, number=st.integers(0, 39))
    def arrive(self, link, number):
        self.bench.comes(self.messages[number], self.links[link])
        self.look()

    @rule(link=link, number=st.integers(1, 40))
    def answer(self, link, number):
        for ident in list(islice(self.links[link].ext.asked, number)):
            self.bench.comes(self.by_short[ident], self.links[link])
        self.look()

    @rule(number=st.integers(0, 39))
    def refuse(self, number):
        """It comes and is of no use."""
        self.bench.seen.add(self.messages[number].id, self.bench.now)

    @rule(link=link, some=some)
    def deny(self, link, some):
        self.bench.not_held(self.links[link], [self.messages[one] for one in some])
        self.look()

    @rule(link=link)
    def end(self, link):
        ended = self.links[link]
        self.bench.ends(ended)
        assert (ended.ext.missing, len(ended.ext.asked), len(ended.ext.asks_waiting)) == (0, 0, 0)
        self.links[link] = Neighbour(b"L%d" % self.serial, active=link < 3, now=self.bench.now)
        self.serial += 1
        self.look()

    @rule(link=link, active=st.booleans())
    def change(self, link, active):
        self.links[link].ext.active = active

    @rule(link=link, rtt=st.floats(0, 1))
    def measure(self, link, rtt):
        self.links[link].ext.rtt = rtt

    @rule(seconds=st.sampled_from([0.05, 0.1, 0.3, 1.0, 70.0]))
    def wait(self, seconds):
        self.bench.advance(seconds)
        self.look()

    @precondition(lambda self: hasattr(self, "bench"))
    @rule()
    def rest(self):
        """Left alone, everything is asked for and given up: nothing waits for ever."""
        self.bench.advance(60)
        assert self.bench.repair.missing == {}
        for link in self.links:
            assert (link.ext.missing, len(link.ext.asked)) == (0, 0), link
        self.look()

    def look(self):
        """Nobody is asked who has gone."""
        for link, kind, _ in self.bench.said.frames[self.read :]:
            assert kind == Kind.GRAFT
            assert link in self.links, f"{link} has gone"
        self.read = len(self.bench.said.frames)

    @invariant()
    def counts_are_true(self):
        if not hasattr(self, "bench"):
            return
        missing = self.bench.repair.missing
        pairs = Counter()
        asked = Counter()
        for ident, entry in missing.items():
            holders = [*entry.announcers, *([entry.asked] if entry.asked else ())]
            assert len(set(holders)) == len(holders)
            assert set(holders) <= set(self.links), "somebody who has gone"
            pairs.update(holders)
            if entry.asked is not None:
                ext = entry.asked.ext
                # It is asked for, or it waits because enough others are.
                asks = (ident in ext.asked) + list(ext.asks_waiting).count(ident)
                assert asks == 1
            else:
                assert ident not in asked
        for link in self.links:
            assert link.ext.missing == pairs[link] <= self.cap
            assert len(link.ext.asked) <= WINDOW
            for ident in link.ext.asked:
                assert missing[ident].asked is link
            # Whoever has been put off is asked for a digest when there is room.
            assert not link.ext.incomplete or link.ext.missing > self.cap // 2
        # Something will happen to each of them.
        assert not missing or self.bench.timers.next() is not None


class RepairModelTests(SynchronousTestCase):
    def test_whatever_happens(self):
        """No leak, no double question, nobody asked in vain, nothing forgotten."""
        case = RepairModel.TestCase
        case.settings = limits(max_examples=120, stateful_step_count=40)
        case("runTest").runTest()
