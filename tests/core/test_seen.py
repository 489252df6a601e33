"""Tests of `py2p_twisted.core.seen`."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core.seen import SHORT, SeenCache


class SeenCacheTests(SynchronousTestCase):
    def test_an_id_is_new_once(self):
        """The second time it is known."""
        seen = SeenCache()
        self.assertTrue(seen.add(b"a", 0.0))
        self.assertFalse(seen.add(b"a", 1.0))
        self.assertIn(b"a", seen)
        self.assertNotIn(b"b", seen)

    def test_an_id_is_remembered_for_the_whole_window(self):
        """A copy that is late by just less than the window is still a copy."""
        seen = SeenCache(window=64.0)
        seen.add(b"a", 0.0)
        for second in range(1, 64):
            seen.add(b"%d" % second, float(second))
        self.assertFalse(seen.add(b"a", 63.9))

    def test_an_id_is_forgotten_soon_after_the_window(self):
        """Memory is given back, a bucket after the window at the latest."""
        seen = SeenCache(window=64.0)
        seen.add(b"a", 0.0)
        for second in range(1, 67):
            seen.add(b"%d" % second, float(second))
        self.assertNotIn(b"a", seen)
        self.assertIn(b"5", seen)

    def test_a_copy_does_not_make_an_id_younger(self):
        """Who repeats a message for ever cannot keep its id in memory for ever."""
        seen = SeenCache(window=64.0)
        seen.add(b"a", 0.0)
        for second in range(1, 70):
            seen.add(b"%d" % second, float(second))
            if second < 60:
                seen.add(b"a", float(second))
        self.assertNotIn(b"a", seen)

    def test_the_oldest_id_goes_when_there_are_too_many(self):
        """A flood of ids within one moment is bounded as well."""
        seen = SeenCache(window=64.0, capacity=3)
        for ident in (b"a", b"b", b"c", b"d"):
            seen.add(ident, 0.0)
        self.assertEqual(seen.ids.keys(), {b"b", b"c", b"d"})

    def test_many_ids_at_once_are_bounded_too(self):
        """However many a reader has added before it told."""
        seen = SeenCache(window=64.0, capacity=128)
        fresh = [b"%d" % number for number in range(500)]
        seen.ids.update(dict.fromkeys(fresh))
        seen.added(fresh, 0.0)
        self.assertLess(len(seen), 128)
        self.assertIn(fresh[-1], seen)
        self.assertNotIn(fresh[300], seen)

    def test_the_oldest_id_goes_across_buckets(self):
        """Capacity counts over the whole window, not by the moment."""
        seen = SeenCache(window=64.0, capacity=3)
        for second, ident in enumerate((b"a", b"b", b"c", b"d", b"e")):
            seen.add(ident, 2.0 * second)
        self.assertEqual(seen.ids.keys(), {b"c", b"d", b"e"})

    def test_everything_is_forgotten_after_a_long_silence(self):
        """The first id after a pause clears away what was before it."""
        seen = SeenCache(window=64.0)
        for number in range(100):
            seen.add(b"%d" % number, number / 10)
        seen.add(b"late", 1000.0)
        self.assertLessEqual(len(seen), 101)
        seen.add(b"later", 2000.0)
        self.assertEqual(seen.ids.keys(), {b"late", b"later"} & seen.ids.keys())
        self.assertIn(b"later", seen)
        self.assertNotIn(b"0", seen)

    def test_the_set_is_the_same_for_life(self):
        """The hot path keeps the set itself, so it must never be replaced."""
        seen = SeenCache(window=1.0, capacity=2)
        ids, shorts = seen.ids, seen.shorts
        for second in range(50):
            seen.add(b"%d" % second, float(second))
        self.assertIs(seen.ids, ids)
        self.assertIs(seen.shorts, shorts)

    def test_short_ids_come_and_go_with_the_ids(self):
        """As mesh-ext knows them: by whatever way an id comes, and whyever it goes."""
        idents = [b"%016d" % number + b"x" * 16 for number in range(10)]
        seen = SeenCache(window=64.0, capacity=4)
        seen.add(idents[0], 0.0)
        self.assertEqual(seen.shorts, {idents[0][:SHORT]})
        seen.ids.update(dict.fromkeys(idents[1:3]))
        seen.added(idents[1:3], 0.0)
        self.assertEqual(seen.shorts, {ident[:SHORT] for ident in idents[:3]})
        for ident in idents[3:]:
            seen.add(ident, 1.0)
        self.assertEqual(seen.shorts, {ident[:SHORT] for ident in seen.ids})
        self.assertNotIn(idents[0][:SHORT], seen.shorts)
        seen.add(b"late" * 8, 1000.0)
        seen.add(b"last" * 8, 2000.0)
        self.assertEqual(seen.shorts, {ident[:SHORT] for ident in seen.ids})
        self.assertNotIn(idents[-1][:SHORT], seen.shorts)


class RestartTests(SynchronousTestCase):
    """What came before a node was started anew."""

    def test_what_is_loaded_is_known(self):
        """By its id and by its short one."""
        seen = SeenCache()
        seen.load([(5.0, (b"a" * 32, b"b" * 32)), (0.0, (b"c" * 32,))], 100.0)
        for letter in (b"a", b"b", b"c"):
            self.assertFalse(seen.add(letter * 32, 101.0))
            self.assertIn(letter * SHORT, seen.shorts)
        self.assertEqual(len(seen), seen.noted)

    def test_it_is_forgotten_by_its_age(self):
        """An id that is half a window old has another half, whatever the monotonic clock shows."""
        for now in (0.0, 5000.0):
            seen = SeenCache(window=64.0)
            seen.load([(float(age), (b"-%d" % age,)) for age in range(32, 0, -1)], now)
            seen.add(b"new", now + 31)
            self.assertIn(b"-32", seen)
            for second in range(32, 40):
                seen.add(b"%d" % second, now + second)
            self.assertNotIn(b"-32", seen)
            self.assertIn(b"-20", seen)

    def test_the_same_id_twice(self):
        """An id that stands in two files counts once."""
        seen = SeenCache()
        seen.load([(2.0, (b"a", b"a")), (1.0, (b"a", b"b"))], 0.0)
        self.assertEqual((len(seen), seen.noted), (2, 2))

    def test_the_latest_are_kept(self):
        """More than it holds: the oldest are left out."""
        seen = SeenCache(capacity=3)
        seen.load([(9.0, (b"1", b"2")), (1.0, (b"3", b"4", b"5"))], 0.0)
        self.assertEqual(set(seen.ids), {b"3", b"4", b"5"})

    def test_since(self):
        """What came after a certain moment, however it came."""
        seen = SeenCache()
        seen.load([(1.0, (b"old",))], 0.0)
        before = seen.noted
        self.assertEqual(seen.since(before), [])
        seen.add(b"1", 0.0)
        seen.ids.update({b"2": None, b"3": None})
        seen.added([b"2", b"3"], 0.0)
        seen.refuse(b"of no use")
        self.assertEqual(seen.since(before), [b"1", b"2", b"3"])
        self.assertEqual(seen.since(before + 2), [b"3"])

    def test_since_longer_than_it_remembers(self):
        """What has been forgotten meanwhile is not told."""
        seen = SeenCache(capacity=64)
        for number in range(200):
            seen.add(b"%d" % number, 0.0)
        told = seen.since(0)
        self.assertEqual(told, list(seen.ids))
        self.assertEqual(told[-1], b"199")


class SeenCacheModel(RuleBasedStateMachine):
    """The cache beside a plain list of (arrival, id)."""

    @initialize(capacity=st.integers(1, 8), window=st.sampled_from([1.0, 10.0, 64.0]))
    def start(self, capacity, window):
        self.capacity, self.window, self.now = capacity, window, 0.0
        self.seen = SeenCache(window, capacity)
        self.arrivals = []

    @rule(seconds=st.floats(0, 40))
    def wait(self, seconds):
        self.now += seconds

    @rule(ident=st.sampled_from([b"%d" % number for number in range(12)]))
    def add(self, ident):
        new = self.seen.add(ident, self.now)
        known = {name for _, name in self.arrivals}
        if new:
            # Forgotten only for a reason: too old, or pushed out by younger ones.
            recent = [name for when, name in self.arrivals if self.now - when < self.window]
            assert ident not in recent[-self.capacity :]
            self.arrivals = [pair for pair in self.arrivals if pair[1] != ident]
            self.arrivals.append((self.now, ident))
        else:
            assert ident in known
        assert ident in self.seen

    @invariant()
    def is_bounded(self):
        if hasattr(self, "seen"):
            assert len(self.seen) <= self.capacity
            assert self.seen.shorts == {ident[:SHORT] for ident in self.seen.ids}
            assert self.seen.ids.keys() <= {name for _, name in self.arrivals}

    @invariant()
    def keeps_the_youngest(self):
        if hasattr(self, "seen"):
            recent = [name for when, name in self.arrivals if self.now - when < self.window]
            assert set(recent[-self.capacity :]) <= self.seen.ids.keys()


class SeenCacheModelTests(SynchronousTestCase):
    def test_the_cache_behaves_like_a_list_of_arrivals(self):
        """Whatever comes, whenever: bounded, nothing young forgotten, nothing invented."""
        case = SeenCacheModel.TestCase
        case.settings = settings(max_examples=40, stateful_step_count=40)
        case("runTest").runTest()
