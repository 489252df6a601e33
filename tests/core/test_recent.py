"""Tests of `py2p_twisted.core.recent`."""

import gc

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core.codec import decode
from py2p_twisted.core.message import MAX_ID, Message, as_bytes, build
from py2p_twisted.core.recent import WEIGHT, RecentMessages
from py2p_twisted.core.seen import SHORT
from tests import profile
from tests.core.neighbours import message, short_of
from tests.core.support import Solo, raw

profile.load()

ROOM = 1 << 30


def held_weight(one):
    """Bytes that a message of our own counts with."""
    return len(one.body) + WEIGHT + 2


def kept(recent):
    """The numbers of the messages that are held, oldest first."""
    return [decode(one.body)[4] for one in recent.held.values()]


class RetentionTests(SynchronousTestCase):
    def test_what_is_held_can_be_had_by_its_short_id(self):
        """With the neighbour that brought it."""
        recent = RecentMessages(600, 100, ROOM)
        one, other = message(1), message(2)
        recent.hold([one], b"Ada", 0.0)
        held = recent.get(one.id[:SHORT])
        self.assertEqual((held.id, held.body, held.items), (one.id, one.body, one.items[:3]))
        self.assertEqual((held.via, held.frames, len(recent)), (b"Ada", None, 1))
        self.assertIsNone(recent.get(other.id[:SHORT]))

    def test_age(self):
        """For the window at least, and a bucket longer at most."""
        recent = RecentMessages(600, 10_000, ROOM)
        for second in range(700):
            recent.hold([message(second)], b"", float(second))
            recent.tidy(float(second))
            self.assertLessEqual(kept(recent)[0], max(0, second - 599))
            self.assertGreaterEqual(kept(recent)[0], second - 602)

    def test_age_in_silence(self):
        """A message of an hour ago is not given away only because nothing has come since."""
        recent = RecentMessages(600, 100, ROOM)
        recent.hold([message(1)], b"", 0.0)
        recent.tidy(599.9)
        self.assertEqual(kept(recent), [1])
        recent.tidy(600.0)
        self.assertEqual((kept(recent), recent.size), ([], 0))

    def test_age_when_messages_are_rare(self):
        """The next message does not make those before it younger."""
        recent = RecentMessages(600, 100, ROOM)
        recent.hold([message(1)], b"", 0.0)
        recent.hold([message(2)], b"", 500.0)
        recent.tidy(601.0)
        self.assertEqual(kept(recent), [2])
        recent.hold([message(3)], b"", 3600.0)
        self.assertEqual(kept(recent), [3])

    def test_number(self):
        """The oldest go, some at a time; what has come last is always there."""
        recent = RecentMessages(600, 128, ROOM)
        for number in range(1000):
            recent.hold([message(number)], b"", 0.0)
            self.assertLessEqual(len(recent), 128)
            self.assertGreaterEqual(len(recent), min(number + 1, 126))
        self.assertEqual(kept(recent), list(range(1000 - len(recent), 1000)))

    def test_number_of_one_batch(self):
        """One read may bring more than is kept."""
        recent = RecentMessages(600, 64, ROOM)
        recent.hold([message(number) for number in range(500)], b"", 0.0)
        self.assertEqual(kept(recent), list(range(500 - len(recent), 500)))
        self.assertGreaterEqual(len(recent), 63)

    def test_bytes(self):
        """As messages weigh in memory, not on the wire."""
        weight = held_weight(message(0, size=400))
        recent = RecentMessages(600, 10_000, 10 * weight)
        for number in range(100):
            recent.hold([message(number, size=400)], b"", 0.0)
            self.assertLessEqual(recent.size, 10 * weight)
            self.assertEqual(recent.size, sum(map(held_weight, recent.held.values())))
        self.assertEqual(kept(recent)[-1], 99)
        self.assertGreaterEqual(len(recent), 9)

    def test_a_message_larger_than_everything(self):
        """Is not kept, and neither is anything before it; nothing is counted wrongly."""
        recent = RecentMessages(600, 100, 1000)
        recent.hold([message(1)], b"", 0.0)
        recent.hold([message(2, size=2000)], b"", 0.0)
        self.assertEqual((len(recent), recent.size), (0, 0))
        recent.hold([message(3)], b"", 0.0)
        self.assertEqual(kept(recent), [3])

    def test_nothing_is_kept_if_nothing_may_be(self):
        """Retention can be switched off by each of its limits."""
        for limits in ((0, 100, ROOM), (600, 0, ROOM), (600, 100, 0)):
            recent = RecentMessages(*limits)
            for second in range(5):
                recent.hold([message(second)], b"", float(second))
                recent.tidy(second + 0.5)
            self.assertEqual((len(recent), recent.size), (0, 0), limits)

    def test_the_same_message_twice_is_held_once(self):
        """An application that sends its own messages as they are can do so twice."""
        recent = RecentMessages(600, 100, ROOM)
        recent.hold([message(1)], b"", 0.0)
        recent.hold([message(2), message(2), message(1)], b"", 0.0)
        self.assertEqual(kept(recent), [1, 2])
        self.assertEqual(recent.size, sum(map(held_weight, recent.held.values())))
        recent.tidy(601.0)
        self.assertEqual((len(recent), recent.size), (0, 0))

    def test_a_body_does_not_keep_the_read_alive_that_it_came_in(self):
        """A view of a large chunk becomes bytes of its own."""
        one = message(1)
        read = bytearray(one.body + bytes(100_000))
        recent = RecentMessages(600, 100, ROOM)
        recent.hold([Message(one.id, memoryview(read)[: len(one.body)], one.items)], b"", 0.0)
        read.clear()  # raises if anybody still has a view of it
        self.assertEqual(recent.get(short_of(one)).body, one.body)

    def test_the_garbage_collector_passes_over_it(self):
        """There is nothing in it that could refer to anything."""
        recent = RecentMessages(600, 100, ROOM)
        recent.hold([message(number) for number in range(10)], b"Ada", 0.0)
        gc.collect()
        self.assertFalse(gc.is_tracked(recent._held))

    def test_who_brought_it_and_whose_it_is(self):
        """Ids of any length and type; of large messages, too, without reading all of them."""
        recent = RecentMessages(600, 100, ROOM)
        for number, sender in enumerate((b"", b"Ada", "\N{SNOWMAN}" * MAX_ID, b"x" * MAX_ID)):
            for via in (b"", b"Ben", b"y" * MAX_ID):
                one = build(0, sender, 7, (0, number, via, bytes(5_000)))
                recent.hold([one], via, 0.0)
                short = short_of(one)
                self.assertEqual((recent.via(short), recent.origin(short)), (via, as_bytes(sender)))
                self.assertEqual(recent.get(short).items, one.items[:3])
                self.assertEqual(recent.get(short).via, via)
        self.assertIsNone(recent.via(b"other"))
        self.assertIsNone(recent.origin(b"other"))

    def test_ids_outlive_payloads(self):
        """What is not held any more is still known, so it cannot come back as new."""
        solo = Solo(extensions=True, retention_messages=64)
        ada = solo.peer(b"Ada")
        first = raw(0, "first")
        solo.receive(ada, first)
        for number in range(1000):
            solo.receive(ada, raw(0, number))
        self.assertLessEqual(len(solo.node.mesh.recent), 64)
        solo.receive(ada, first)
        self.assertEqual(solo.effects.inbox.count(("first",)), 1)
        self.assertGreater(len(solo.node.seen.shorts), 1000)


class AfterTests(SynchronousTestCase):
    def filled(self, *times):
        recent = RecentMessages(600, 100, ROOM)
        for number, when in enumerate(times):
            recent.hold([message(number)], b"", when)
        return recent

    def after(self, recent, when, most=16):
        return [decode(one.body)[4] for one in recent.after(when, most)]

    def test_what_came_since(self):
        """Give or take the second in which it came."""
        recent = self.filled(*[float(second) for second in range(0, 100, 2)])
        self.assertEqual(self.after(recent, 94.0), [47, 48, 49])
        self.assertEqual(self.after(recent, 93.0), [47, 48, 49])
        self.assertEqual(self.after(recent, 98.5), [])

    def test_only_the_latest(self):
        """Of too many, the oldest are left out."""
        recent = self.filled(*[float(second) for second in range(50)])
        self.assertEqual(self.after(recent, 10.0, 3), [47, 48, 49])
        self.assertEqual(self.after(recent, 10.0, 0), [])

    def test_nothing_old_after_a_silence(self):
        """A bucket ends with its last message, not with the next one."""
        recent = self.filled(0.0, 0.5, 100.0)
        self.assertEqual(self.after(recent, 50.0), [2])
        self.assertEqual(self.after(self.filled(0.0, 0.5), 50.0), [])
        self.assertEqual(self.after(self.filled(0.0, 0.5), 0.0), [0, 1])

    def test_nothing_of_nothing(self):
        """An empty store has no latest messages."""
        self.assertEqual(self.after(self.filled(), 0.0), [])


class SumsTests(SynchronousTestCase):
    def test_equal_sets_have_equal_sums(self):
        """In whatever order they came, whenever, by whomever."""
        one, other = RecentMessages(600, 1000, ROOM), RecentMessages(600, 1000, ROOM)
        messages = [message(number) for number in range(300)]
        one.hold(messages, b"Ada", 0.0)
        for number, each in enumerate(reversed(messages)):
            other.hold([each], b"Ben", float(number))
        for buckets in (1, 64, 256):
            self.assertEqual(one.sums(buckets), other.sums(buckets))
            self.assertEqual({len(each) for each in one.sums(buckets)}, {16})

    def test_a_message_changes_the_sum_of_its_bucket_alone(self):
        """And its bucket is where it is found."""
        recent = RecentMessages(600, 1000, ROOM)
        recent.hold([message(number) for number in range(300)], b"", 0.0)
        before = recent.sums(64)
        late = message(300)
        recent.hold([late], b"", 0.0)
        (changed,) = [
            number
            for number, (was, now) in enumerate(zip(before, recent.sums(64), strict=True))
            if was != now
        ]
        self.assertEqual(changed, short_of(late)[0] % 64)
        self.assertIn(short_of(late), list(recent.in_buckets({changed}, 64)))
        self.assertEqual(list(recent.in_buckets({0}, 1)), list(recent.held))

    def test_every_change_is_a_new_version(self):
        """What comes and what goes."""
        recent = RecentMessages(600, 1000, ROOM)
        versions = [recent.version]
        recent.hold([message(1)], b"", 0.0)
        versions.append(recent.version)
        recent.tidy(10.0)
        self.assertEqual(recent.version, versions[-1])
        recent.tidy(1000.0)
        versions.append(recent.version)
        self.assertEqual(len(set(versions)), 3)


class RecentModel(RuleBasedStateMachine):
    """The store beside a plain list of (arrival, message)."""

    @initialize(most=st.integers(1, 40), window=st.sampled_from([1.0, 30.0, 600.0]))
    def start(self, most, window):
        self.most, self.window, self.now, self.count = most, window, 0.0, 0
        self.room = held_weight(message(1, size=50)) * 25
        self.recent = RecentMessages(window, most, self.room)
        self.came = []

    @rule(seconds=st.floats(0, 700))
    def wait(self, seconds):
        self.now += seconds

    @rule(number=st.integers(1, 30), size=st.integers(0, 400))
    def hold(self, number, size):
        messages = [message(self.count + index, size=size) for index in range(number)]
        self.count += number
        self.recent.hold(messages, b"", self.now)
        self.came += [(self.now, one) for one in messages]

    @rule()
    def tidy(self):
        self.recent.tidy(self.now)
        young = [one for when, one in self.came if self.now - when < self.window + 1.0]
        assert set(self.recent.held) <= {one.id[:SHORT] for one in young}

    @invariant()
    def is_bounded_and_true(self):
        if not hasattr(self, "recent"):
            return
        held = list(self.recent.held.values())
        assert len(held) <= self.most
        assert self.recent.size == sum(map(held_weight, held)) <= self.room
        # The latest, without holes, in their order.
        latest = [one for _, one in self.came][len(self.came) - len(held) :]
        assert [one.id for one in held] == [one.id for one in latest]
        # What is missing is too old, or there was no room for it.
        young = [one for when, one in self.came if self.now - when < self.window]
        if len(held) < len(young):
            more = young[-len(held) - 1 :]
            share = max(1, self.most // 64)
            assert len(more) > self.most - share or sum(
                map(held_weight, more)
            ) > self.room - held_weight(more[0])

    @invariant()
    def knows_what_is_latest(self):
        if hasattr(self, "recent"):
            for when in (self.now - 10.0, self.now):
                held = {one.id for one in self.recent.after(when, 1000)}
                after = [one for _, one in self.came if one.id in held]
                wanted = [one for came, one in self.came if came >= when and one in after]
                assert [one for one in after if one in wanted] == wanted
                for came, one in self.came:
                    if one.id[:SHORT] in self.recent.held:
                        assert (one in after) or came < when
                        assert (one not in after) or came >= when - 1.0


class RecentModelTests(SynchronousTestCase):
    def test_the_store_behaves_like_a_list_of_arrivals(self):
        """Bounded in all three ways, always the latest ones, nothing counted wrongly."""
        case = RecentModel.TestCase
        case.settings = settings(max_examples=40, stateful_step_count=30)
        case("runTest").runTest()


class EdgeTests(SynchronousTestCase):
    """How far back it reaches, for those who were away."""

    def test_nothing_forgotten(self):
        """Then nobody can have missed anything that is not here."""
        recent = RecentMessages(600, 100, 1 << 20)
        self.assertEqual(recent.edge(0.0), (b"", 0.0))
        recent.hold([message(1)], b"", 0.0)
        self.assertEqual(recent.edge(50.0), (b"", 0.0))

    def test_the_latest_that_is_forgotten(self):
        """And how long ago it came, within a second or so; also when nothing else is left."""
        recent = RecentMessages(20, 100, 1 << 20)
        for number in range(30):
            recent.hold([message(number)], b"", float(number))
        for now, latest in ((29.0, 9), (100.0, 29)):
            recent.tidy(now)
            forgotten, age = recent.edge(now)
            self.assertEqual(forgotten, message(latest).id[:16])
            self.assertLess(abs(age - (now - latest)), 1.5)

    def test_what_made_room(self):
        """It counts as well."""
        recent = RecentMessages(600, 10, 1 << 20)
        for number in range(25):
            recent.hold([message(number)], b"", float(number))
        self.assertEqual(recent.edge(25.0)[0], message(14).id[:16])
