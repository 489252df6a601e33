"""Tests of `py2p_twisted.core.dialer`: every line of its table, and what liars cannot do."""

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core.connection import Connection, State
from py2p_twisted.core.dialer import (
    ACCEPTOR_HANDICAP,
    LEARNED_PAUSE,
    LEARNED_TRIES,
    LONG_LIVED,
    LONGEST_DELAY,
    LOST_TRIES,
    MOST_AT_ONCE,
    MOST_LOST,
    MOST_OWN,
    Dialer,
)
from py2p_twisted.core.links import Links
from py2p_twisted.core.seen import SeenCache
from py2p_twisted.core.settings import Settings
from py2p_twisted.core.timers import Timers
from py2p_twisted.errors import (
    MeshClosed,
    NetworkMismatch,
    SelfConnection,
    Unreachable,
    WrongPeer,
)

REFUSED = ConnectionRefusedError()


def addresses(count, net="10.0.1"):
    """Private addresses, so that the rule about one host does not interfere."""
    return [(f"{net}.{number}", 4444) for number in range(1, count + 1)]


class Loaded:
    """A random generator that always draws the same."""

    def __init__(self, value):
        self.value = value

    def random(self):
        return self.value

    def shuffle(self, items):
        pass


class DialerCase(SynchronousTestCase):
    """A dialer alone: dials are noted, and nobody answers unless the test says so."""

    def setUp(self):
        self.build()

    def build(self, rng=None, own=("10.0.0.1", 4444), **options):
        self.now = 1000.0
        self.settings = Settings(**options)
        self.links, self.timers = Links(), Timers()
        #: (when, dial), (token, error)
        self.dials, self.failures = [], []
        self.dialer = Dialer(
            self.settings,
            self.links,
            self.timers,
            rng or Loaded(0.5),
            dial=lambda dial: self.dials.append((self.now, dial)),
            needed=lambda: (
                sum(link.outgoing for link in self.links.open) + len(self.dialer.under_way)
                < self.settings.max_outgoing
            ),
            failed=lambda token, error: self.failures.append((token, error)),
        )
        self.dialer.add_own(own)

    def advance(self, seconds):
        target = self.now + seconds
        for _ in range(10_000):
            when = self.timers.next()
            if when is None or when > target:
                self.now = target
                return
            self.now = max(self.now, when)
            self.timers.due(self.now)
        self.fail("the dialer wants to be woken without end")

    @property
    def hosts(self):
        """The hosts that were dialled, in order."""
        return [dial.address[0] for _, dial in self.dials]

    @property
    def last(self):
        return self.dials[-1][1]

    def refuse(self, dial=None, error=REFUSED):
        """A dial comes to nothing."""
        self.dialer.dial_failed(dial or self.last, error, self.now)

    def refuse_all(self, seconds, error=REFUSED):
        """Let time pass with every dial refused at once; the times of the dials."""
        target, told = self.now + seconds, len(self.dials)
        while True:
            while told < len(self.dials):
                told += 1
                self.refuse(self.dials[told - 1][1], error)
            when = self.timers.next()
            if when is None or when > target:
                self.now = target
                return [when for when, _ in self.dials]
            self.advance(max(0.0, when - self.now))

    def join(self, ident, address=None, dial=None):
        """A peer enters the table."""
        link = Connection(None, SeenCache(), self.settings, dial=dial, now=self.now)
        link.id, link.address, link.state = ident, address, State.OPEN
        self.links.join(link)
        self.tokens = self.dialer.connected(link, self.now)
        return link

    def leave(self, link, again=True):
        """A peer leaves the table."""
        self.links.forget(link)
        self.dialer.lost(link, self.now, again=again)

    def not_alone(self):
        """A peer that dialled us, so that we are not isolated."""
        return self.join(b"Company", ("10.9.9.9", 1))


class AskedTests(DialerCase):
    def test_what_the_application_asks_for_is_dialled_at_once(self):
        """With the id that must answer, and the time it may take."""
        self.dialer.connect(("10.0.1.1", 5), 1, self.now, b"Wanted")
        ((when, dial),) = self.dials
        self.assertEqual(
            (when, dial.address, dial.expected), (self.now, ("10.0.1.1", 5), b"Wanted")
        )
        self.assertEqual(dial.timeout, self.settings.dial_timeout)
        self.assertEqual(self.dialer.under_way, [("10.0.1.1", 5)])

    def test_one_attempt_gives_the_answer(self):
        """A refusal is told with its reason, and not tried again behind the caller's back."""
        self.not_alone()
        self.dialer.connect(("10.0.1.1", 5), 1, self.now)
        self.refuse()
        self.assertEqual(self.failures, [(1, REFUSED)])
        self.advance(LEARNED_PAUSE - 1)
        self.assertEqual(len(self.dials), 1)

    def test_everybody_who_asks_gets_an_answer(self):
        """One dial serves several callers."""
        for token in (1, 2, 3):
            self.dialer.connect(("10.0.1.1", 5), token, self.now)
        self.assertEqual(len(self.dials), 1)
        self.refuse()
        self.assertEqual([token for token, _ in self.failures], [1, 2, 3])

    def test_success_names_everybody_who_asked(self):
        """Once."""
        for token in (1, 2):
            self.dialer.connect(("10.0.1.1", 5), token, self.now)
        self.join(b"A", ("10.0.1.1", 5), self.last)
        self.assertEqual(self.tokens, [1, 2])
        self.join(b"A", ("10.0.1.1", 5))
        self.assertEqual(self.tokens, [])

    def test_asking_does_not_wait_for_anything(self):
        """Not for back-off, nor for dials that are under way by our own choice."""
        self.build(max_outgoing=20)
        self.dialer.learned([(address, b"") for address in addresses(9)], b"Teller", self.now)
        self.advance(1)
        self.assertEqual(len(self.dials), MOST_AT_ONCE)
        self.dialer.connect(("10.0.2.1", 5), 1, self.now)
        self.assertEqual((len(self.dials), self.last.address[0]), (MOST_AT_ONCE + 1, "10.0.2.1"))

    def test_a_peer_that_dials_us_meanwhile_is_an_answer_too(self):
        """What was asked for has come true, whoever dialled."""
        self.dialer.connect(("10.0.1.1", 5), 1, self.now)
        self.join(b"A", ("10.0.1.1", 5))
        self.assertEqual(self.tokens, [1])

    def test_another_peer_than_the_expected_one_is_no_answer(self):
        """Anybody can say that it lives at that address."""
        self.dialer.connect(("10.0.1.1", 5), 1, self.now, b"Wanted")
        self.join(b"Liar", ("10.0.1.1", 5))
        self.assertEqual(self.tokens, [])
        self.join(b"Wanted", ("10.0.1.1", 5), self.last)
        self.assertEqual(self.tokens, [1])

    def test_whoever_asks_is_judged_by_what_it_asked_for(self):
        """Also who asked while a dial for somebody else was under way."""
        address = ("10.0.1.1", 5)
        self.dialer.connect(address, 1, self.now)
        self.dialer.connect(address, 2, self.now, b"Wanted")
        self.dialer.connect(address, 3, self.now, b"A")
        self.join(b"A", address, self.last)
        self.assertEqual(self.tokens, [1, 3])
        self.assertEqual([(token, type(error)) for token, error in self.failures], [(2, WrongPeer)])

    def test_who_does_not_mind_is_not_told_of_the_wrong_peer(self):
        """Another dial begins for it, which takes whom it finds."""
        address = ("10.0.1.1", 5)
        self.dialer.connect(address, 1, self.now, b"Wanted")
        self.dialer.connect(address, 2, self.now)
        self.assertEqual(self.last.expected, b"Wanted")
        self.refuse(error=WrongPeer(b"Wanted", b"A"))
        self.assertEqual([(token, type(error)) for token, error in self.failures], [(1, WrongPeer)])
        self.assertEqual((len(self.dials), self.last.expected), (2, None))
        self.join(b"A", address, self.last)
        self.assertEqual(self.tokens, [2])


class PinnedTests(DialerCase):
    def test_a_pinned_address_is_dialled_for_ever_with_back_off(self):
        """0.5 s, 1 s, 2 s, ... up to 15 s, and then every 15 s, a day long."""
        self.not_alone()
        self.dialer.pin(("10.0.1.1", 5), self.now)
        times = self.refuse_all(600)
        gaps = [round(b - a, 3) for a, b in itertools.pairwise(times)]
        self.assertEqual(gaps[:7], [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0])
        self.assertGreater(len(times), 40)
        before = len(times)
        self.assertGreater(len(self.refuse_all(86_400)) - before, 5000)

    def test_what_was_asked_for_is_pinned_once_it_has_been_reached(self):
        """Years later it is still dialled again when it is lost."""
        self.not_alone()
        self.dialer.connect(("10.0.1.1", 5), 1, self.now)
        link = self.join(b"A", ("10.0.1.1", 5), self.last)
        self.leave(link)
        times = self.refuse_all(3600)
        self.assertGreater(len(times), LOST_TRIES + 100)

    def test_a_pinned_address_is_not_dialled_while_it_is_connected(self):
        """Neither at that address nor when it turns out to be the same node."""
        link = self.join(b"A", ("10.0.1.1", 5))
        self.dialer.pin(("10.0.1.1", 5), self.now)
        self.advance(60)
        self.assertEqual(self.dials, [])
        self.leave(link)
        self.advance(60)
        self.assertEqual(self.hosts, ["10.0.1.1"])

    def test_a_pinned_address_is_dialled_again_when_its_node_is_lost_under_another_name(self):
        """A node behind a forwarded port announces another address than the one we know."""
        self.not_alone()
        self.dialer.pin(("gate.example", 5), self.now)
        self.advance(0)
        link = self.join(b"A", ("192.168.7.7", 4444), self.last)
        self.leave(link)
        self.advance(60)
        self.assertEqual(self.hosts[:2], ["gate.example", "gate.example"])

    def test_pinned_addresses_outnumber_what_we_seek_ourselves(self):
        """``max_outgoing`` counts what we choose, not what we were told to do."""
        self.build(max_outgoing=2)
        for number, address in enumerate(addresses(6)):
            self.dialer.pin(address, self.now)
            self.advance(0)
            self.join(b"%d" % number, address, self.last)
        self.assertEqual(len(self.dials), 6)

    def test_a_pinned_address_never_leaves_the_book(self):
        """However many others are learned."""
        self.build(book_size=20, book_share=20)
        self.not_alone()
        self.dialer.pin(("10.0.1.1", 5), self.now)
        for number in range(100):
            self.dialer.learned([((f"10.2.0.{number}", 1), b"")], b"%d" % number, self.now)
        self.assertIn(("10.0.1.1", 5), self.dialer.known)
        self.assertLessEqual(len(self.dialer.known), 20)

    def test_unpinned(self):
        """One among others again: not dialled for its own sake, and gone when others need its place."""
        self.build(book_size=4, book_share=4, max_outgoing=0)
        self.not_alone()
        self.dialer.pin(("10.0.1.1", 5), self.now)
        self.refuse_all(3)
        self.dialer.unpin(("10.0.1.1", 5))
        before = len(self.dials)
        self.advance(120)
        self.assertEqual(len(self.dials), before)
        for number in range(10):
            self.dialer.learned([((f"10.2.0.{number}", 1), b"")], b"%d" % number, self.now)
        self.assertNotIn(("10.0.1.1", 5), self.dialer.known)

    def test_unpinned_while_connected(self):
        """The link stays, and is sought again when it breaks, like any other."""
        self.not_alone()
        self.dialer.pin(("10.0.1.1", 5), self.now)
        self.advance(0)
        link = self.join(b"A", ("10.0.1.1", 5), self.last)
        self.dialer.unpin(("10.0.1.1", 5))
        self.assertIn(link, self.links.open)
        self.dialer.unpin(("10.9.9.9", 5))  # of which nobody knows
        self.leave(link)
        self.advance(60)
        self.assertGreater(len(self.hosts), 1)
        self.dialer.unpin(("10.0.1.1", 5))  # nor is it pinned

    def test_unpinned_while_dialled(self):
        """What comes of it comes; afterwards it is not dialled again."""
        self.build(max_outgoing=0)
        self.not_alone()
        self.dialer.pin(("10.0.1.1", 5), self.now)
        self.advance(0)
        self.dialer.unpin(("10.0.1.1", 5))
        before = len(self.dials)
        self.refuse_all(1)
        self.advance(120)
        self.assertLessEqual(len(self.dials) - before, 3)  # as one that was learned

    def test_a_pinned_address_of_another_network_is_tried_now_and_then(self):
        """An operator may put the other end right."""
        self.not_alone()
        self.dialer.pin(("10.0.1.1", 5), self.now)
        times = self.refuse_all(100, NetworkMismatch("a", "b"))
        gaps = {round(b - a, 3) for a, b in itertools.pairwise(times)}
        self.assertEqual(gaps, {LONGEST_DELAY})

    def test_forgetting_while_it_is_dialled_leaves_nobody_who_asked(self):
        """What comes of that dial is not what the application wants any more."""
        self.not_alone()
        self.dialer.pin(("10.0.1.1", 5), self.now)
        self.advance(0)
        link = Connection(None, SeenCache(), self.settings, dial=self.last, now=self.now)
        link.id = b"A"
        self.assertTrue(self.dialer.asked_for(link))
        self.dialer.forget(("10.0.1.1", 5))
        self.assertFalse(self.dialer.asked_for(link))
        self.refuse()
        self.assertEqual(len(self.refuse_all(LEARNED_PAUSE - 1)), 3)

    def test_forgetting_ends_it(self):
        """What the application does not want any more is not dialled again."""
        self.not_alone()
        self.dialer.pin(("10.0.1.1", 5), self.now)
        self.advance(0)
        self.refuse()
        self.dialer.forget(("10.0.1.1", 5))
        self.advance(3600)
        self.assertEqual(len(self.dials), 1)


class LostTests(DialerCase):
    def lose(self, address=("10.0.1.1", 5), ident=b"A", *, lived=0.0, outgoing=True):
        """A peer that we once dialled (or that dialled us) is lost."""
        dial = None
        if outgoing:
            self.dialer.seek_peer(address, ident, self.now)
            dial = self.last
        link = self.join(ident, address, dial)
        self.advance(lived)
        self.leave(link)
        return self.now

    def test_a_lost_peer_is_dialled_fourteen_times_with_back_off(self):
        """0.5 s x 2^n, at most 15 s; then it is merely remembered."""
        self.not_alone()
        lost = self.lose()
        times = [lost, *self.refuse_all(LEARNED_PAUSE - 1)[1:]]
        gaps = [round(b - a, 3) for a, b in itertools.pairwise(times)]
        self.assertEqual(gaps, [0.5, 1.0, 2.0, 4.0, 8.0, *[15.0] * (LOST_TRIES - 5)])
        self.assertIn(("10.0.1.1", 5), self.dialer.known)

    def test_delays_vary_by_thirty_percent(self):
        """So that peers who lost each other at one moment do not meet at one moment."""
        for drawn, factor in ((0.0, 0.7), (0.999999, 1.3)):
            self.build(Loaded(drawn))
            self.not_alone()
            lost = self.lose()
            times = [lost, *self.refuse_all(300)[1:]]
            gaps = [round(b - a, 2) for a, b in itertools.pairwise(times)]
            self.assertEqual(gaps[:3], [round(0.5 * factor, 2), factor, 2 * factor])
            self.assertEqual(gaps[-1], round(LONGEST_DELAY * factor, 2))

    def test_who_had_been_dialled_waits_a_moment_longer(self):
        """The node that dialled has the head start, so that the two seldom cross."""
        self.not_alone()
        lost = self.lose(outgoing=False)
        self.advance(10)
        self.assertEqual([when - lost for when, _ in self.dials], [0.5 + ACCEPTOR_HANDICAP])

    def test_a_flapping_peer_is_dialled_less_and_less(self):
        """A link that breaks again soon after does not begin anew."""
        self.not_alone()
        waits = []
        for _ in range(7):
            lost = self.lose(lived=1.0)
            before = len(self.dials)
            while len(self.dials) == before:
                self.advance(0.25)
            waits.append(self.dials[-1][0] - lost)
            self.join(b"A", ("10.0.1.1", 5), self.last)
        self.assertEqual([round(wait, 2) for wait in waits], [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0])

    def test_who_hangs_up_after_each_greeting_is_left_alone(self):
        """It does not want us: after as many links as failures it is merely remembered."""
        self.not_alone()
        self.lose(lived=1.0)
        before = len(self.dials)
        for _ in range(LOST_TRIES + 5):
            dials = len(self.dials)
            self.advance(20)
            if len(self.dials) > dials:
                link = self.join(b"A", ("10.0.1.1", 5), self.last)
                self.advance(1)
                self.leave(link)
        self.assertEqual(len(self.dials) - before, LOST_TRIES)
        self.assertIn(("10.0.1.1", 5), self.dialer.known)

    def test_our_own_addresses_are_bounded(self):
        """Whoever sends back to us what we say, from any number of ports, fills no memory."""
        for address in addresses(MOST_OWN + 50):
            self.dialer.add_own(address)
        self.assertEqual(len(self.dialer._ours), MOST_OWN)
        self.assertTrue(self.dialer.is_ours(("10.0.0.1", 4444)))
        self.assertFalse(self.dialer.is_ours(("10.0.1.300", 4444)))

    def test_a_link_that_lived_long_begins_anew(self):
        """After half a minute the old trouble is forgotten."""
        self.not_alone()
        for _ in range(5):
            self.lose(lived=1.0)
            self.advance(20)
            self.join(b"A", ("10.0.1.1", 5), self.last)
        link = self.links.table[b"A"]
        self.advance(LONG_LIVED)
        self.leave(link)
        lost, before = self.now, len(self.dials)
        self.advance(1)
        self.assertEqual(self.dials[before][0] - lost, 0.5)

    def test_eight_lost_peers_are_dialled_the_others_remembered(self):
        """When a whole site goes down we do not knock at every door of it."""
        self.build(max_outgoing=0)
        self.not_alone()
        for number, address in enumerate(addresses(12)):
            self.leave(self.join(b"%d" % number, address))
        self.refuse_all(600)
        self.assertEqual(len(set(self.hosts)), MOST_LOST)
        self.assertEqual(len(self.dialer.known), 12 + 1)

    def test_a_peer_that_comes_back_by_itself_is_not_dialled(self):
        """Whichever address it names now."""
        for address in (("10.0.1.1", 5), ("10.0.8.8", 5)):
            self.build()
            self.not_alone()
            self.lose()
            before = len(self.dials)
            self.join(b"A", address)
            self.advance(60)
            self.assertEqual(len(self.dials), before)

    def test_peers_that_came_back_make_room_for_others(self):
        """Eight peers that are lost and found again do not use up the places for ever."""
        self.build(max_outgoing=0)
        self.not_alone()
        for number, address in enumerate(addresses(MOST_LOST)):
            self.lose(address, b"%d" % number)
            self.join(b"%d" % number, (f"10.0.8.{number}", 9))
        self.lose(("10.0.2.1", 5), b"New")
        self.advance(60)
        self.assertEqual(self.last.address, ("10.0.2.1", 5))
        self.assertEqual(self.hosts.count("10.0.2.1"), 2)

    def test_who_is_not_worth_it_is_not_dialled_again(self):
        """When the node itself is closing."""
        self.not_alone()
        self.leave(self.join(b"A", ("10.0.1.1", 5)), again=False)
        self.advance(60)
        self.assertEqual(self.dials, [])

    def test_a_lost_peer_of_another_network_is_given_up(self):
        """It was restarted with another name; trying again changes nothing."""
        self.not_alone()
        self.lose()
        self.advance(1)
        self.refuse(error=NetworkMismatch("a", "b"))
        self.advance(3600)
        self.assertEqual(len(self.dials), 2)
        self.assertNotIn(("10.0.1.1", 5), self.dialer.known)


class LearnedTests(DialerCase):
    def learn(self, found, source=b"Teller", ident=b""):
        self.dialer.learned([(address, ident) for address in found], source, self.now)

    def test_learned_addresses_are_dialled_until_there_are_enough(self):
        """``max_outgoing`` links of our own choice, no more."""
        self.not_alone()
        self.learn(addresses(10))
        self.advance(1)
        self.assertEqual(len(self.dials), self.settings.max_outgoing)
        for number, (_, dial) in enumerate(self.dials):
            self.join(b"%d" % number, dial.address, dial)
        self.advance(3600)
        self.assertEqual(len(self.dials), self.settings.max_outgoing)

    def test_nothing_is_dialled_when_there_are_enough_already(self):
        """A list is taken note of, for later."""
        for number, address in enumerate(addresses(4, "10.0.5")):
            self.dialer.connect(address, number, self.now)
            self.join(b"%d" % number, address, self.last)
        before = len(self.dials)
        self.learn(addresses(3))
        self.advance(60)
        self.assertEqual(len(self.dials), before)
        self.assertEqual(len(set(addresses(3)) & set(self.dialer.known)), 3)

    def test_what_was_noted_is_dialled_when_a_place_becomes_free(self):
        """The book is looked through again."""
        self.build(max_outgoing=1)
        self.not_alone()
        self.dialer.connect(("10.0.5.1", 5), 1, self.now)
        link = self.join(b"A", ("10.0.5.1", 5), self.last)
        self.learn(addresses(1))
        self.advance(60)
        self.dialer.forget(("10.0.5.1", 5))
        self.links.forget(link)
        self.dialer.seek(self.now)
        self.advance(1)
        self.assertEqual(self.hosts, ["10.0.5.1", "10.0.1.1"])

    def test_three_attempts_then_a_pause_of_a_quarter_of_an_hour(self):
        """Three calls per quarter of an hour are the most that a liar can have us make."""
        self.not_alone()
        self.learn(addresses(1))
        times = self.refuse_all(3 * LEARNED_PAUSE)
        groups = [times[start : start + LEARNED_TRIES] for start in range(0, 9, LEARNED_TRIES)]
        for group in groups:
            self.assertLess(group[-1] - group[0], 60)
        for one, other in itertools.pairwise(groups):
            self.assertGreater(other[0] - one[-1], LEARNED_PAUSE - 1)

    def test_being_told_again_and_again_changes_nothing(self):
        """A hundred liars who name one victim get it no more calls than one liar."""
        self.not_alone()
        for second in range(600):
            self.learn([("10.0.1.1", 5)], source=b"%d" % second)
            self.refuse_all(1)
        self.assertEqual(len(self.dials), LEARNED_TRIES)

    def test_being_told_of_an_address_that_is_being_dialled_does_no_harm(self):
        """It is neither dialled twice nor waited for without end."""
        self.not_alone()
        self.learn(addresses(1))
        self.advance(1)
        self.learn(addresses(1))
        self.advance(60)
        self.assertEqual(len(self.dials), 1)

    def test_at_most_four_dials_are_under_way(self):
        """The fifth waits until one of them is decided."""
        self.build(max_outgoing=50)
        self.not_alone()
        self.learn(addresses(10))
        self.advance(5)
        self.assertEqual(len(self.dials), MOST_AT_ONCE)
        self.join(b"A", self.dials[0][1].address, self.dials[0][1])
        self.advance(1)
        self.assertEqual(len(self.dials), MOST_AT_ONCE + 1)

    def test_a_public_host_is_called_once_a_second(self):
        """Whatever ports of it are named."""
        self.build(max_outgoing=50)
        self.not_alone()
        self.learn([("8.8.8.8", port) for port in range(1, 4)])
        self.advance(10)
        times = [when for when, _ in self.dials]
        self.assertEqual(len(times), 3)
        self.assertGreaterEqual(min(b - a for a, b in itertools.pairwise(times)), 1.0)

    def test_a_private_host_is_exempt(self):
        """Test networks live on one machine."""
        self.build(max_outgoing=50)
        self.not_alone()
        self.learn([("10.0.1.1", port) for port in range(1, 4)])
        self.advance(0.3)
        self.assertEqual(len(self.dials), 3)

    def test_dials_are_spread_over_a_moment(self):
        """Two nodes that learn of each other at one moment would cross otherwise."""
        delays = []
        for seed in range(5):
            self.build(random.Random(seed))
            self.not_alone()
            self.learn(addresses(1))
            self.advance(1)
            delays.append(self.dials[0][0] - 1000.0)
        self.assertEqual(len(set(delays)), 5)
        self.assertLessEqual(max(delays), 0.2)

    def test_a_node_that_is_connected_already_is_not_dialled(self):
        """By its id, or by its address."""
        self.join(b"A", ("10.0.1.1", 5))
        self.learn([("10.0.1.9", 5)], ident=b"A")
        self.learn([("10.0.1.1", 5)])
        self.advance(60)
        self.assertEqual(self.dials, [])

    def test_another_network_is_not_called_again(self):
        """The address is forgotten at once."""
        self.not_alone()
        for error in (NetworkMismatch("a", "b"), SelfConnection()):
            self.learn(addresses(1))
            self.advance(1)
            self.refuse(error=error)
            self.assertNotIn(addresses(1)[0], self.dialer.known)
        self.advance(3600)
        self.assertEqual(len(self.dials), 2)


class PoisonTests(DialerCase):
    #: Whom no list can make us call.
    UNWANTED = (
        ("127.0.0.1", 80), ("127.9.9.9", 80), ("::1", 80), ("localhost", 80),
        ("LocalHost.", 80), ("a.localhost", 80), ("::ffff:127.0.0.1", 80), ("127.1", 80),
        ("2130706433", 80), ("0x7f000001", 80), ("0", 80), ("0.0.0.0", 80), ("::", 80),
        ("224.0.0.1", 80), ("ff02::1", 80), ("::ffff:224.0.0.1", 80),
        ("255.255.255.255", 80), ("10.0.1.1", 25), ("10.0.0.1", 4444),
    )  # fmt: skip

    def test_some_addresses_are_never_dialled_because_somebody_says_so(self):
        """Ourselves, this machine, groups, mail servers; however they are written."""
        self.not_alone()
        for address in self.UNWANTED:
            self.dialer.learned([(address, b"")], b"Liar", self.now)
            self.advance(2)
            self.assertEqual(self.dials, [], address)

    def test_nor_when_they_come_as_answers_to_a_search(self):
        """Whoever answers a request for a node can name any address."""
        self.not_alone()
        for address in self.UNWANTED:
            self.dialer.seek_peer(address, b"Wanted", self.now)
            self.assertEqual(self.dials, [], address)

    def test_nor_when_a_peer_says_that_it_lives_there(self):
        """Not even after it has hung up, nor when there is nobody else to call."""
        for address in self.UNWANTED:
            self.build()
            self.leave(self.join(b"Liar", address))
            self.advance(600)
            self.assertEqual(self.dials, [], address)

    def test_who_lives_on_this_machine_dials_this_machine(self):
        """A mesh of processes on loopback grows like any other."""
        self.build(own=("127.0.0.1", 4444))
        self.dialer.learned(
            [(("127.0.0.1", 5555), b""), (("localhost", 6666), b"")], b"P", self.now
        )
        self.advance(1)
        self.assertEqual(len(self.dials), 2)

    def test_the_application_may_dial_what_it_likes(self):
        """The rules are for what strangers say."""
        self.dialer.connect(("127.0.0.1", 25), 1, self.now)
        self.dialer.pin(("localhost", 80), self.now)
        self.advance(0)
        self.assertEqual(sorted(self.hosts), ["127.0.0.1", "localhost"])

    def test_our_own_address_is_never_dialled(self):
        """Not when pinned, not when lost, and not when it turns out to be ours later."""
        self.dialer.pin(("10.0.0.1", 4444), self.now)
        self.dialer.pin(("10.0.1.1", 4444), self.now)
        self.dialer.add_own(("10.0.1.1", 4444))
        self.leave(self.join(b"Liar", ("10.0.0.1", 4444)))
        self.advance(600)
        self.assertEqual(self.dials, [])
        self.assertTrue(self.dialer.is_ours(("10.0.1.1", 4444)))

    def test_no_peer_fills_more_than_its_share_of_the_book(self):
        """The oldest of its own addresses go, nobody else's."""
        self.build(book_size=100, book_share=10, max_outgoing=0)
        self.not_alone()
        self.dialer.learned([(a, b"") for a in addresses(5, "10.1.1")], b"Honest", self.now)
        for address in addresses(200, "10.2.2"):
            self.dialer.learned([(address, b"")], b"Liar", self.now)
        known = self.dialer.known
        self.assertEqual(
            [a for a in known if a[0].startswith("10.2.2")], addresses(200, "10.2.2")[-10:]
        )
        self.assertEqual([a for a in known if a[0].startswith("10.1.1")], addresses(5, "10.1.1"))

    def test_the_book_is_bounded(self):
        """Whoever tells, and however much."""
        self.build(book_size=50, max_outgoing=0)
        self.not_alone()
        for source in range(100):
            self.dialer.learned(
                [(a, b"") for a in addresses(30, f"10.3.{source}")], b"%d" % source, self.now
            )
        self.assertEqual(len(self.dialer.known), 50)

    def test_a_liar_cannot_keep_us_from_a_pinned_address(self):
        """By saying, before or after, that some peer we have already lives there."""
        for before in (True, False):
            self.build()
            self.join(b"Liar", ("10.6.6.6", 1))
            lie = [(("10.0.1.1", 5), b"Liar")]
            if before:
                self.dialer.learned(lie, b"Liar", self.now)
            self.dialer.pin(("10.0.1.1", 5), self.now)
            self.dialer.learned(lie, b"Liar", self.now)
            self.advance(0)
            self.assertEqual(self.hosts, ["10.0.1.1"])
            self.refuse()
            self.dialer.learned(lie, b"Liar", self.now)
            self.advance(1)
            self.assertEqual(self.hosts, ["10.0.1.1", "10.0.1.1"])

    def test_a_search_does_not_change_who_is_expected_at_a_connected_address(self):
        """A wrong answer to a request must not cost us a peer when it has to be dialled again."""
        self.not_alone()
        self.dialer.pin(("10.0.1.1", 5), self.now)
        self.advance(0)
        link = self.join(b"A", ("10.0.1.1", 5), self.last)
        self.dialer.seek_peer(("10.0.1.1", 5), b"Another", self.now)
        self.leave(link)
        self.advance(1)
        self.assertEqual((self.last.address, self.last.expected), (("10.0.1.1", 5), None))


class IsolatedTests(DialerCase):
    def test_who_is_alone_tries_what_it_knows_for_ever(self):
        """Never two seconds without a call, in turn, even to those that were given up."""
        link = self.not_alone()
        self.dialer.learned([(address, b"") for address in addresses(3)], b"Teller", self.now)
        self.refuse_all(60)
        self.leave(link, again=False)
        before = len(self.dials)
        alone = self.now
        times = [when for when in self.refuse_all(600)[before:] if when > alone + 60]
        gaps = [round(b - a, 3) for a, b in itertools.pairwise(times)]
        self.assertLessEqual(max(gaps), 2.0)
        self.assertLess(len(times), 540)
        self.assertEqual(
            set(self.hosts[before:]), {host for host, _ in addresses(3)} | {"10.9.9.9"}
        )
        counts = [self.hosts[before:].count(host) for host, _ in addresses(3)]
        self.assertLess(max(counts) - min(counts), 10)

    def test_it_waits_for_the_dial_that_is_under_way(self):
        """One at a time."""
        self.dialer.learned([(address, b"") for address in addresses(3)], b"Teller", self.now)
        self.advance(0.3)
        self.refuse(self.dials[0][1])
        self.refuse(self.dials[1][1])
        under_way = len(self.dials)
        self.advance(0.1)
        self.assertEqual(len(self.dials), under_way)

    def test_it_ends_with_the_first_peer(self):
        """Then the usual rules hold again."""
        self.dialer.connect(("10.0.1.1", 5), 1, self.now)
        self.refuse()
        self.refuse_all(5)
        self.not_alone()
        before = len(self.dials)
        self.advance(60)
        self.assertEqual(len(self.dials), before)

    def test_who_knows_nobody_does_not_wake_up(self):
        """There is nothing to try."""
        self.assertIsNone(self.timers.next())


class EndTests(DialerCase):
    def test_after_the_end_nobody_is_dialled(self):
        """Pinned, lost, learned: nothing is left, and who waits is told."""
        self.dialer.pin(("10.0.1.1", 5), self.now)
        self.dialer.connect(("10.0.1.2", 5), 7, self.now)
        self.dialer.learned([(address, b"") for address in addresses(3)], b"Teller", self.now)
        error = MeshClosed("closing")
        self.dialer.stop(error)
        self.assertEqual(self.failures, [(7, error)])
        before = len(self.dials)
        self.refuse(self.dials[0][1])
        self.leave(self.join(b"A", ("10.0.1.4", 5)))
        self.advance(3600)
        self.assertEqual((len(self.dials), self.timers.next()), (before, None))

    def test_the_outcome_of_a_forgotten_dial_does_no_harm(self):
        """It may come after its address turned out to be our own, or twice."""
        self.dialer.connect(("10.0.1.1", 5), 1, self.now)
        dial = self.last
        self.refuse(dial)
        self.refuse(dial)
        self.dialer.dial_failed(None, Unreachable("gone"), self.now)
        self.assertEqual(len(self.failures), 1)


class VisitTests(DialerCase):
    """Dials that other mechanisms decide on."""

    HOME = ("10.0.1.1", 5)

    def visit(self, address=HOME, ident=b"A"):
        return self.dialer.visit(address, ident, self.now)

    def test_a_visit_is_dialled_at_once_and_whoever_answers_will_do(self):
        """The id says who should live there, not who has to."""
        self.not_alone()
        self.assertTrue(self.visit())
        ((when, dial),) = self.dials
        self.assertEqual((when, dial.address, dial.expected), (self.now, self.HOME, None))
        self.join(b"Another", self.HOME, dial)
        self.assertEqual((self.tokens, self.failures), ([], []))

    def test_it_needs_no_need(self):
        """The mechanism has its own reasons, however many links there are."""
        self.build(max_outgoing=0)
        self.not_alone()
        self.assertTrue(self.visit())

    def test_nobody_is_visited_who_is_connected(self):
        """Known by its id, by its address, or by the address that was dialled."""
        self.join(b"A", self.HOME)
        self.assertFalse(self.visit(("10.0.1.2", 5), b"A"))
        self.assertFalse(self.visit(self.HOME, b"B"))
        self.dialer.seek_peer(("10.0.1.3", 5), b"C", self.now)
        self.join(b"C", ("192.168.1.1", 9), self.last)
        before = len(self.dials)
        self.assertFalse(self.visit(("10.0.1.3", 5), b"D"))
        self.assertEqual(len(self.dials), before)

    def test_one_dial_of_an_address_at_a_time(self):
        """Whoever wants it."""
        self.dialer.connect(self.HOME, 1, self.now)
        self.assertFalse(self.visit())
        self.assertTrue(self.visit(("10.0.1.2", 5)))
        self.assertFalse(self.visit(("10.0.1.2", 5)))

    def test_at_most_four_dials_are_under_way(self):
        """By whatever choice of ours."""
        self.not_alone()
        visited = [self.visit(address, b"%d" % number) for number, address in
                   enumerate(addresses(6))]  # fmt: skip
        self.assertEqual(visited, [True] * MOST_AT_ONCE + [False] * 2)
        self.refuse(self.dials[0][1])
        self.assertTrue(self.visit(("10.0.2.9", 5), b"9"))

    def test_a_public_host_is_called_once_a_second(self):
        """Whatever ports of it are named."""
        self.not_alone()
        self.assertTrue(self.visit(("8.8.8.8", 1), b"1"))
        self.assertFalse(self.visit(("8.8.8.8", 2), b"2"))
        self.now += 1.0
        self.assertTrue(self.visit(("8.8.8.8", 2), b"2"))

    def test_nobody_is_visited_whom_no_list_could_have_us_call(self):
        """Addresses in views come from peers as well."""
        for address in PoisonTests.UNWANTED:
            self.assertFalse(self.visit(address), address)
        self.assertEqual(self.dials, [])

    def test_nobody_is_visited_after_the_end(self):
        """The node is closing."""
        self.dialer.stop(MeshClosed("closing"))
        self.assertFalse(self.visit())

    def test_who_refuses_a_visit_is_no_failure_of_anybody(self):
        """Nor is it dialled again where no links are needed."""
        self.build(max_outgoing=0)
        self.not_alone()
        self.visit()
        self.refuse()
        self.advance(3600)
        self.assertEqual((len(self.dials), self.failures), (1, []))

    def test_the_application_may_ask_for_who_is_being_visited(self):
        """It gets the outcome of that dial, and the link is its own from then on."""
        self.not_alone()
        self.visit()
        self.dialer.connect(self.HOME, 7, self.now)
        self.assertEqual(len(self.dials), 1)
        link = self.join(b"A", self.HOME, self.last)
        self.assertEqual(self.tokens, [7])
        self.assertTrue(self.dialer.is_pinned(link))

    def test_visits_do_not_fill_the_book(self):
        """The oldest that nobody has asked for give way."""
        self.build(book_size=10)
        self.not_alone()
        self.dialer.pin(("10.0.9.9", 5), self.now)
        self.advance(0)
        self.refuse()
        for number, address in enumerate(addresses(100)):
            self.visit(address, b"%d" % number)
            self.refuse()
        self.assertLessEqual(len(self.dialer.known), 10)
        self.assertIn(("10.0.9.9", 5), self.dialer.known)


class MeshTests(DialerCase):
    """What the membership asks about the book, and tells it."""

    HOME = ("10.0.1.1", 5)

    def asked_for(self, ident=b"A", address=HOME):
        self.dialer.connect(address, 1, self.now)
        return self.join(ident, address, self.last)

    def test_pinned_is_what_the_application_asked_for(self):
        """By `connect` that came true, or as a bootstrap address."""
        self.assertTrue(self.dialer.is_pinned(self.asked_for()))
        self.dialer.pin(("10.0.1.2", 5), self.now)
        self.advance(0)
        self.assertTrue(self.dialer.is_pinned(self.join(b"B", ("10.0.1.2", 5), self.last)))

    def test_nothing_else_is_pinned(self):
        """What we chose ourselves, and who dials us, whatever it says where it lives."""
        self.dialer.pin(("10.0.1.2", 5), self.now)
        self.dialer.seek_peer(self.HOME, b"A", self.now)
        self.assertFalse(self.dialer.is_pinned(self.join(b"A", self.HOME, self.last)))
        self.assertFalse(self.dialer.is_pinned(self.join(b"Liar", ("10.0.1.2", 5))))

    def test_what_is_forgotten_is_pinned_no_more(self):
        """The application has disconnected it."""
        link = self.asked_for()
        self.dialer.forget(self.HOME)
        self.assertFalse(self.dialer.is_pinned(link))

    def test_candidates_are_what_may_be_dialled(self):
        """With the id of who lives there, if that is known; nobody who is being dialled."""
        self.build(max_outgoing=0)
        self.not_alone()
        self.dialer.learned([(("10.0.1.2", 5), b"B"), (("10.0.1.3", 5), b"")], b"T", self.now)
        self.dialer.connect(self.HOME, 1, self.now)
        self.dialer.pin(("127.0.0.1", 5), self.now)  # the application may, the mesh may not
        self.assertEqual(
            self.dialer.candidates(),
            [(("10.9.9.9", 1), b"Company"), (("10.0.1.2", 5), b"B"), (("10.0.1.3", 5), b"")],
        )
        self.refuse(self.dials[0][1])
        self.assertIn((self.HOME, b""), self.dialer.candidates())

    def lose(self, link, **options):
        self.links.forget(link)
        self.dialer.lost(link, self.now, **{"again": False, "full": True, **options})

    def test_who_keeps_others_is_left_alone_for_a_quarter_of_an_hour(self):
        """Also if the application has asked for it: the mesh serves it."""
        for asked in (False, True):
            self.build(max_outgoing=0)
            self.not_alone()
            if asked:
                link = self.asked_for()
            else:
                self.dialer.visit(self.HOME, b"A", self.now)
                link = self.join(b"A", self.HOME, self.last)
            self.lose(link)
            self.advance(LEARNED_PAUSE - 1)
            self.assertEqual(len(self.dials), 1)
            self.advance(2)
            # Then for who asked, whether links are needed or not.
            self.assertEqual(len(self.dials), 1 + asked)

    def test_a_look_meanwhile_counts_as_a_meeting(self):
        """It showed that there is no place: who asked waits anew."""
        self.not_alone()
        self.lose(self.asked_for())
        self.advance(LEARNED_PAUSE - 10)
        self.dialer.visit(self.HOME, b"A", self.now)
        self.lose(self.join(b"A", self.HOME, self.last))
        self.advance(LEARNED_PAUSE - 1)
        self.assertEqual(len(self.dials), 2)
        self.advance(2)
        self.assertEqual(len(self.dials), 3)

    def test_but_who_is_alone_comes_back_to_it(self):
        """Within seconds, for ever."""
        self.lose(self.asked_for())
        times = self.refuse_all(60)[1:]
        self.assertLess(times[0] - 1000.0, 3.0)
        self.assertGreater(len(times), 15)

    def test_it_is_no_loss_that_lengthens_the_back_off(self):
        """Being full is no failure."""
        self.not_alone()
        for _ in range(20):
            link = self.asked_for()
            self.lose(link)
        link = self.asked_for()
        self.leave(link)
        before = len(self.dials)
        self.advance(1.0)
        self.assertEqual(len(self.dials), before + 1)

    def test_nothing_is_left_of_an_earlier_loss(self):
        """It was being sought, came, and keeps others now."""
        self.not_alone()
        link = self.join(b"A", self.HOME)
        self.leave(link)
        link = self.join(b"A", self.HOME)
        self.lose(link)
        self.advance(60.0)
        self.assertEqual(self.dials, [])

    def test_a_pinned_address_under_another_name_is_left_alone_as_well(self):
        """It is the same node."""
        self.not_alone()
        self.dialer.pin(("gate.example", 5), self.now)
        self.advance(0)
        link = self.join(b"A", ("192.168.7.7", 4444), self.last)
        self.lose(link)
        self.advance(LEARNED_PAUSE - 1)
        self.assertEqual(len(self.dials), 1)
        self.advance(20)
        self.assertEqual(self.hosts[-1], "gate.example")

    def test_a_dial_that_is_under_way_goes_on(self):
        """Somebody asked for it meanwhile."""
        self.not_alone()
        link = self.join(b"A", self.HOME)
        self.links.forget(link)
        self.dialer.connect(self.HOME, 1, self.now)
        self.dialer.lost(link, self.now, again=False, full=True)
        self.join(b"A", self.HOME, self.last)
        self.assertEqual(self.tokens, [1])


class RecalledTests(DialerCase):
    """Nodes that were known before this one was started anew."""

    def peers(self, count):
        return [(address, b"%d" % n) for n, address in enumerate(addresses(count))]

    def test_the_best_are_dialled_at_once(self):
        """As many as there are links to seek, in their order."""
        self.dialer.recall(self.peers(9), self.now)
        self.assertEqual(self.hosts, [f"10.0.1.{n}" for n in range(1, MOST_AT_ONCE + 1)])
        self.assertEqual(len(self.dialer.known), 9)

    def test_each_has_its_turn(self):
        """Whoever does not answer makes room for the next one, until one answers."""
        self.dialer.recall(self.peers(30), self.now)
        for number in range(30):
            self.refuse(self.dials[number][1])
        self.assertEqual(self.hosts, [address[0] for address, _ in self.peers(30)])

    def test_enough_is_enough(self):
        """With all links there are, the others are merely known."""
        self.dialer.recall(self.peers(30), self.now)
        for number, (_, dial) in enumerate(list(self.dials)):
            self.join(b"%d" % number, dial.address, dial)
        self.advance(60)
        self.assertEqual(len(self.dials), MOST_AT_ONCE)

    def test_two_addresses_of_one_node(self):
        """It is dialled at one of them at a time."""
        first, second = addresses(2)
        self.dialer.recall([(first, b"A"), (second, b"A")], self.now)
        self.assertEqual(self.hosts, [first[0]])

    def test_what_is_known_already_stays_as_it_is(self):
        """Bootstrap addresses and our own are none of them."""
        home = ("10.0.1.1", 4444)
        self.dialer.pin(home, self.now)
        self.dialer.recall([(home, b"x"), (("10.0.0.1", 4444), b"y")], self.now)
        self.assertEqual(self.dialer.candidates(), [(home, b"")])

    def test_the_worst_are_forgotten_first(self):
        """When the book is full of others, and when there were too many to begin with."""
        self.build(book_size=4, max_outgoing=0)
        peers = self.peers(6)
        self.dialer.recall(peers, self.now)
        self.assertEqual(set(self.dialer.known), {address for address, _ in peers[:4]})
        self.dialer.learned([(("10.0.2.1", 1), b"x")], b"Teller", self.now)
        self.assertNotIn(peers[3][0], self.dialer.known)
        self.assertIn(peers[0][0], self.dialer.known)

    def test_the_latest_are_worth_keeping(self):
        """What comes last into the book stands first; nothing that nobody may dial is there."""
        self.dialer.learned([(("10.0.2.1", 1), b"x"), (("10.0.2.2", 2), b"y")], b"T", self.now)
        self.dialer.pin(("127.0.0.1", 5), self.now)
        self.assertEqual(
            self.dialer.worth_keeping(),
            [(("127.0.0.1", 5), b""), (("10.0.2.2", 2), b"y"), (("10.0.2.1", 1), b"x")],
        )


events = st.lists(
    st.tuples(
        st.sampled_from(
            ["learn", "pin", "connect", "refuse", "accept", "lose", "wait", "mismatch"]
        ),
        st.integers(0, 9),
    ),
    max_size=60,
)


class AnyHistoryTests(DialerCase):
    @given(events)
    def test_no_history_breaks_the_promises(self, history):
        """Whatever happens in whatever order: bounded dials, no answer missing, no endless waking."""
        self.build(random.Random(4))
        places, waiting, told, joined = addresses(10), 0, set(), {}
        for kind, number in history:
            address, ident = places[number], b"%d" % number
            pending = [d for _, d in self.dials if d.address in self.dialer.under_way]
            pending = [d for d in pending if d.serial in self.dialer._under_way]
            if kind == "learn":
                self.dialer.learned([(address, ident)], b"Teller", self.now)
            elif kind == "pin":
                self.dialer.pin(address, self.now)
            elif kind == "connect":
                waiting += 1
                self.dialer.connect(address, waiting, self.now)
            elif kind in ("refuse", "mismatch") and pending:
                error = REFUSED if kind == "refuse" else NetworkMismatch("a", "b")
                self.refuse(pending[number % len(pending)], error)
            elif kind == "accept" and pending:
                dial = pending[number % len(pending)]
                joined[dial.address] = self.join(dial.address[0].encode(), dial.address, dial)
                told.update(self.tokens)
            elif kind == "lose" and joined:
                self.leave(joined.pop(sorted(joined)[number % len(joined)]))
            elif kind == "wait":
                self.advance(number * 3.0)
            addresses_under_way = self.dialer.under_way
            self.assertEqual(len(addresses_under_way), len(set(addresses_under_way)))
        for dial in [d for _, d in self.dials if d.serial in self.dialer._under_way]:
            self.refuse(dial)
        told.update(token for token, _ in self.failures)
        self.assertEqual(told, set(range(1, waiting + 1)))
        self.assertEqual(len(self.failures), len({token for token, _ in self.failures}))
