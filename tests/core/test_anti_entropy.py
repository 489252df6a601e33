"""Tests of `py2p_twisted.core.anti_entropy`."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core import anti_entropy
from py2p_twisted.core.anti_entropy import BUCKETS, BURST, FEW, AntiEntropy
from py2p_twisted.core.connection import State
from py2p_twisted.core.extension import PAGE, Kind
from py2p_twisted.core.recent import RecentMessages
from py2p_twisted.core.timers import Timers
from tests import profile
from tests.core.neighbours import Neighbour, Said, message, short_of
from tests.core.support import START

profile.load()


class CountedMessages(RecentMessages):
    """A store that counts how often it is summed up."""

    __slots__ = ("summed",)

    def __init__(self, *limits):
        super().__init__(*limits)
        self.summed = 0

    def sums(self, buckets):
        self.summed += 1
        return super().sums(buckets)


class Bench:
    """One end of a link, and what it says there."""

    def __init__(self, *messages):
        self.now = START
        self.recent = CountedMessages(600, 20_000, 1 << 30)
        self.counters, self.said, self.timers = Counter(), Said(), Timers()
        self.digests = AntiEntropy(
            self.recent,
            self.counters,
            send=self.said,
            timers=self.timers,
            now=lambda: self.now,
        )
        self.link = Neighbour()
        self.hold(*messages)

    def hold(self, *messages):
        if messages:
            self.recent.hold(messages, b"", self.now)

    def asked(self, fields):
        """A digest of the other end has come."""
        _, sums, mutual = fields[:3]
        self.digests.asked(self.link, sums, self.now, mutual=bool(mutual))

    def digest(self, *, mutual=False):
        """What we tell of us."""
        self.digests.compare(self.link, mutual=mutual)
        return self.said.to(self.link, Kind.DIGEST)[-1]

    def told(self):
        """All ids that we have told."""
        return self.said.ids(self.link, Kind.DIGEST_IDS)

    def advance(self, seconds):
        target = self.now + seconds
        while (when := self.timers.next()) is not None and when <= target:
            self.now = max(self.now, when)
            self.timers.due(self.now)
        self.now = target


def messages(number, start=0):
    return [message(start + index) for index in range(number)]


def exchange(one, other, *, mutual=False):
    """One end compares; every digest and its answer arrive."""
    one.digest(mutual=mutual)
    read = [0, 0]
    moved = True
    while moved:
        moved = False
        for index, (near, far) in enumerate([(one, other), (other, one)]):
            for _, kind, fields in near.said.frames[read[index] :]:
                read[index] += 1
                moved = True
                if kind == Kind.DIGEST:
                    far.asked(fields)


class CompareTests(SynchronousTestCase):
    def test_equal_sets_exchange_nothing(self):
        """One frame, and silence; mutual or not, few or many."""
        for number in (0, 1, FEW, FEW + 1, 2000):
            for mutual in (False, True):
                one, other = Bench(*messages(number)), Bench(*reversed(messages(number)))
                exchange(one, other, mutual=mutual)
                self.assertEqual((len(one.said.frames), other.said.frames), (1, []))
                self.assertEqual(other.counters["digests that differed"], 0)

    def test_who_is_asked_tells_what_it_has(self):
        """Not what it misses: for that it asks itself, when the link enters its view."""
        one, other = Bench(*messages(3)), Bench(*messages(5))
        exchange(one, other)
        self.assertEqual((len(one.told()), len(other.told())), (0, 5))

    def test_a_mutual_one_is_answered_by_one(self):
        """Both hear of what they miss, and it ends there."""
        one, other = Bench(*messages(3)), Bench(*messages(3, 100))
        exchange(one, other, mutual=True)
        self.assertEqual(sorted(other.told()), sorted(map(short_of, messages(3, 100))))
        self.assertEqual(sorted(one.told()), sorted(map(short_of, messages(3))))
        self.assertEqual(len(one.said.to(one.link, Kind.DIGEST)), 1)
        self.assertEqual(other.said.to(other.link, Kind.DIGEST)[0][2], 0)

    def test_few_messages_have_one_sum_and_many_have_64(self):
        """A digest is as long as it is worth."""
        self.assertEqual(len(Bench(*messages(FEW)).digest()[1]), 16)
        self.assertEqual(len(Bench(*messages(FEW + 1)).digest()[1]), 16 * BUCKETS)
        self.assertEqual(Bench(*messages(7)).digest()[0], 7)

    def test_only_buckets_that_differ_are_told(self):
        """One message more of 2,000 costs the ids of its bucket."""
        one, other = Bench(*messages(2000)), Bench(*messages(2001))
        exchange(one, other)
        late = short_of(message(2000))
        self.assertIn(late, other.told())
        self.assertEqual({ident[0] % BUCKETS for ident in other.told()}, {late[0] % BUCKETS})
        self.assertLess(len(other.told()), 100)

    def test_a_node_with_few_and_one_with_many(self):
        """Whoever asks says how; nothing is left out."""
        few, many = Bench(*messages(10, 5000)), Bench(*messages(1000))
        exchange(few, many)
        self.assertEqual(set(many.told()), set(map(short_of, messages(1000))))
        few, many = Bench(*messages(10, 5000)), Bench(*messages(1000))
        exchange(many, few)
        self.assertEqual(set(few.told()), set(map(short_of, messages(10, 5000))))

    def test_ids_come_in_pages(self):
        """Of a thousand."""
        one, other = Bench(), Bench(*messages(2500))
        exchange(one, other)
        pages = other.said.to(other.link, Kind.DIGEST_IDS)
        self.assertEqual([len(ids) for (ids,) in pages], [PAGE, PAGE, 500])

    def test_only_open_links(self):
        """Of extended peers."""
        bench = Bench(*messages(3))
        digest = Bench().digest()
        bench.link.state = State.DRAINING
        bench.digests.compare(bench.link)
        bench.asked(digest)
        self.assertEqual(bench.said.frames, [])
        bench.link.state, bench.link.ext = State.OPEN, None
        bench.digests.compare(bench.link)
        bench.asked(digest)
        self.assertEqual(bench.said.frames, [])

    def test_what_is_too_old_is_not_told(self):
        """Also when nothing has come since."""
        bench = Bench(*messages(3))
        bench.now += 601
        bench.asked(Bench(*messages(1, 50)).digest())
        self.assertEqual(bench.told(), [])

    @given(st.sets(st.integers(0, 600)), st.sets(st.integers(0, 600)))
    def test_both_hear_of_everything_that_they_miss(self, ours, theirs):
        """Whatever either has."""
        one = Bench(*map(message, sorted(ours)))
        other = Bench(*map(message, sorted(theirs)))
        exchange(one, other, mutual=True)
        self.assertLessEqual(
            {short_of(message(number)) for number in theirs - ours}, set(other.told())
        )
        self.assertLessEqual(
            {short_of(message(number)) for number in ours - theirs}, set(one.told())
        )


class CostTests(SynchronousTestCase):
    def test_sums_are_made_once_for_a_version(self):
        """However many links are compared; and anew when something has come or gone."""
        bench = Bench(*messages(1000))
        for _ in range(5):
            bench.digest()
        self.assertEqual(bench.recent.summed, 1)
        self.assertEqual(bench.digest()[1], b"".join(bench.recent.sums(BUCKETS)))
        bench.hold(message(5000))
        summed = bench.recent.summed
        self.assertEqual(bench.digest()[1], b"".join(RecentMessages.sums(bench.recent, BUCKETS)))
        self.assertEqual(bench.recent.summed, summed + 1)

    def test_a_peer_is_answered_so_often(self):
        """A few times at once, then once a second: each answer may be 320 KB."""
        bench = Bench(*messages(3))
        for number in range(100):
            bench.asked(Bench(message(1000 + number)).digest())
        self.assertEqual(len(bench.told()), 3 * BURST)
        before = len(bench.told())
        for number in range(100):
            bench.asked(Bench(message(2000 + number)).digest())
            bench.advance(0.1)
        self.assertLessEqual(len(bench.told()) - before, 3 * 10)
        self.assertGreaterEqual(len(bench.told()) - before, 3 * 8)

    def test_how_often_is_said_in_one_place(self):
        """What a new peer begins with is what anybody can have at most."""
        for burst in (2.0, 7.0):
            self.patch(anti_entropy, "BURST", burst)
            bench = Bench(*messages(3))
            for number in range(20):
                bench.asked(Bench(message(1000 + number)).digest())
            self.assertEqual(len(bench.told()), 3 * burst)

    def test_no_digest_is_forgotten(self):
        """The last one is answered when it is its turn: it may be about what was withheld."""
        bench = Bench(*messages(3))
        for _ in range(10):
            bench.asked(Bench().digest())
        told = len(bench.told())
        bench.hold(*messages(3, 10))
        last = Bench(*messages(3))
        bench.asked(last.digest())
        bench.advance(0.5)
        self.assertEqual(len(bench.told()), told)
        bench.advance(1.0)
        self.assertEqual(len(bench.told()), told + 6)
        bench.advance(100)
        self.assertEqual(len(bench.told()), told + 6)
        self.assertIsNone(bench.link.ext.digest_waiting)

    def test_one_that_was_to_be_mutual_still_is(self):
        """Even when a later one was not."""
        bench = Bench(*messages(3))
        for mutual in (False, False, False, False, True, False):
            bench.asked(Bench().digest(mutual=mutual))
        bench.advance(2)
        self.assertEqual(len(bench.said.to(bench.link, Kind.DIGEST)), 1)

    def test_a_peer_that_does_not_read_is_not_answered(self):
        """Until it does."""
        bench = Bench(*messages(3))
        bench.link.congested = True
        bench.asked(Bench().digest())
        bench.advance(10)
        self.assertEqual(bench.said.frames, [])
        bench.link.congested = False
        bench.advance(2)
        self.assertEqual(len(bench.told()), 3)

    def test_nor_one_whose_link_has_ended(self):
        """Nothing is left waiting."""
        bench = Bench(*messages(3))
        for _ in range(6):
            bench.asked(Bench().digest())
        told = len(bench.told())
        bench.link.state = State.CLOSED
        bench.advance(10)
        self.assertEqual((len(bench.told()), bench.timers.next()), (told, None))
