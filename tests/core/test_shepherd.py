"""Tests of `py2p_twisted.core.shepherd`: plain nodes, and what is done for them."""

from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core import flags
from py2p_twisted.core.actions import Close, Dial
from py2p_twisted.core.codec import decode
from py2p_twisted.core.dialer import LEARNED_PAUSE
from py2p_twisted.core.shepherd import BEFORE, GOAL, MOST_PUSHED, OLDEST_PUSHED, UNDECIDED
from py2p_twisted.errors import Unreachable
from tests.core.extended import Mesh, ext
from tests.core.support import raw, whisper


def place(number):
    return (f"10.0.1.{number}", 4444)


class ShepherdCase(SynchronousTestCase):
    """A node of ours among plain ones; nobody answers its dials unless the test does."""

    def setUp(self):
        self.build()

    def build(self, **options):
        # Nobody is to be dialled for another reason: three neighbours are enough.
        quiet = {"active_view": 3, "probe_interval": 1e6}
        self.solo = Mesh(**{**quiet, **options})
        self.shepherd = self.solo.node.mesh.shepherd

    def plain(self, number=1, **said):
        """A plain peer, known as one."""
        link = self.solo.peer(b"P%d" % number, **{"address": place(number), **said})
        self.look(UNDECIDED)
        return link

    def lose(self, link):
        """Its link breaks, and it is not dialled again by the dialler."""
        self.solo.lost(link, Unreachable("cut"))
        for address in self.solo.node.dialer.known:
            self.solo.node.dialer.forget(address)

    def back(self, number=1):
        return self.solo.peer(b"P%d" % number, address=place(number))

    def given(self, link):
        """What the application has said that a peer was given."""
        return [
            decode(message.body)[4]
            for message, receiver in self.solo.effects.written
            if receiver is link and message.flag == flags.BROADCAST
        ]

    def company(self):
        """As many neighbours as we seek; the last of them."""
        for number in (97, 98):
            self.solo.neighbour(b"C%d" % number, address=place(number))
        return self.solo.neighbour(b"Company", address=place(99))

    def look(self, seconds=12.5):
        """Let time pass; the neighbours give signs of life."""
        begun = self.solo.now
        while self.solo.now < begun + seconds:
            self.solo.advance(min(0.5, begun + seconds - self.solo.now))
            for link in self.solo.node.links.open:
                if link.ext is not None:
                    self.solo.receive(link, ext(99))

    def dials(self):
        return [dial.address for dial in self.solo.all(Dial)]

    def asked(self, link):
        return self.solo.effects.to(link, flags.REQUEST).count((flags.REQUEST, b"*"))


class PushTests(ShepherdCase):
    def test_a_plain_peer_that_is_back_gets_what_it_missed(self):
        """In order, and once."""
        self.company()
        link = self.plain()
        self.lose(link)
        for number in range(5):
            self.solo.broadcast(number)
            self.look(1.0)
        link = self.back()
        self.assertEqual(self.given(link), [0, 1, 2, 3, 4])
        self.assertEqual(self.solo.counters["pushed to plain peers"], 5)

    def test_also_what_came_shortly_before_the_break(self):
        """It was on its way, maybe. What came before that is not pushed."""
        self.company()
        link = self.plain()
        for text, seconds in (("old", 4.5), ("before", 0.5)):
            self.solo.broadcast(text)
            self.solo.advance(seconds)
        self.lose(link)
        self.solo.advance(1.0)
        self.assertEqual(self.given(self.back()), ["before"])
        self.assertEqual(BEFORE, 2.0)

    def test_sixteen_messages_at_most_the_latest(self):
        """All that is held would be a storm when links flap."""
        self.company()
        self.lose(self.plain())
        for number in range(40):
            self.solo.broadcast(number)
        self.assertEqual(self.given(self.back()), list(range(40 - MOST_PUSHED, 40)))
        self.assertEqual(MOST_PUSHED, 16)

    def test_nothing_that_plain_nodes_would_drop_for_its_age(self):
        """A message of a minute ago is none to them."""
        self.company()
        self.lose(self.plain())
        self.solo.broadcast("old")
        self.look(5.0)
        self.solo.broadcast("new")
        self.look(OLDEST_PUSHED - 2.0)
        self.assertEqual(self.given(self.back()), ["new"])
        self.assertLess(OLDEST_PUSHED, 60.0)

    def test_not_what_it_brought_itself(self):
        """It has that."""
        self.company()
        link = self.plain()
        self.solo.receive(link, raw(0, "its own", time=int(self.solo.wall)))
        self.lose(link)
        self.solo.broadcast("ours")
        self.assertEqual(self.given(self.back()), ["ours"])

    def test_what_came_from_others_as_well(self):
        """Whoever brought it."""
        company = self.company()
        self.lose(self.plain())
        self.solo.receive(company, raw(0, "theirs", time=int(self.solo.wall)))
        self.assertEqual(self.given(self.back()), ["theirs"])

    def test_who_comes_for_the_first_time_gets_nothing(self):
        """Plain nodes have no history."""
        self.company()
        self.solo.broadcast("before it came")
        self.assertEqual(self.given(self.plain()), [])

    def test_who_was_undecided_gets_nothing(self):
        """It was there for less than two seconds: nobody knows that it is plain."""
        self.company()
        self.solo.lost(self.solo.peer(b"P1", address=place(1)), Unreachable("cut"))
        self.solo.broadcast("meanwhile")
        self.assertEqual(self.given(self.back()), [])

    def test_a_second_link_to_it_does_not_push_again(self):
        """One break, one push."""
        self.company()
        self.lose(self.plain())
        self.solo.broadcast("once")
        first = self.back()
        self.solo.advance(0.5)
        second = self.back()
        self.assertEqual(sorted(self.given(first) + self.given(second)), ["once"])

    def test_flapping_costs_sixteen_messages_a_time_at_most(self):
        """Also where hundreds are held."""
        self.company()
        link = self.plain()
        for number in range(300):
            self.solo.broadcast(number)
        for _ in range(20):
            self.lose(link)
            link = self.back()
            self.assertLessEqual(len(self.given(link)), MOST_PUSHED)
            self.solo.advance(0.5)

    def test_who_has_learned_the_extension_is_not_given_anything(self):
        """After an update it is one of us: digests do that better."""
        self.company()
        link = self.plain()
        self.assertEqual(len(self.shepherd), 1)
        self.lose(link)
        self.solo.broadcast("missed")
        again = self.solo.extended(b"P1", address=place(1))
        self.assertEqual(len(self.shepherd), 0)
        self.lose(again)
        self.solo.broadcast("missed as well")
        self.assertEqual(self.given(self.back()), [])


class VisitTests(ShepherdCase):
    def away(self, *numbers):
        """Plain nodes that have been our peers, and are not any more."""
        for number in numbers:
            self.lose(self.plain(number))
        self.solo.actions.clear()

    def test_one_plain_peer_is_asked_for_its_list_every_ten_seconds(self):
        """Give or take a quarter."""
        links = [self.plain(number) for number in range(1, 4)]
        begun = [self.asked(link) for link in links]
        for _ in range(10):
            self.look(10.0)
            for link in links:
                self.solo.receive(link, whisper(flags.PEERS, [], time=int(self.solo.wall)))
        asked = sum(self.asked(link) for link in links) - sum(begun)
        self.assertGreaterEqual(asked, 7)
        self.assertLessEqual(asked, 14)

    def test_who_is_asked_already_is_not_asked_again(self):
        """A peer that answers nothing gets no heap of questions."""
        link = self.plain()
        self.solo.receive(link, whisper(flags.PEERS, [], time=int(self.solo.wall)))
        begun = self.asked(link)
        self.look(300.0)
        self.assertEqual(self.asked(link), begun + 1)

    def test_a_plain_node_that_is_known_and_away_is_visited(self):
        """One at a time, at its address, as long as we have few of them."""
        self.company()
        self.away(1)
        self.look()
        self.assertEqual(self.dials()[:1], [place(1)])
        self.assertEqual(self.solo.counters["plain nodes visited"], 1)

    def test_one_visit_in_ten_seconds(self):
        """Whatever there are."""
        self.company()
        self.away(*range(1, 9))
        self.look(100.0)
        visits = self.solo.counters["plain nodes visited"]
        self.assertLessEqual(visits, 14)

    def test_such_a_link_stays(self):
        """A plain node whose peer hangs up has its own peers hang up."""
        self.company()
        self.away(1)
        self.look()
        (dial,) = self.solo.all(Dial)
        link = self.solo.peer(b"P1", dial=dial, address=place(1))
        many = [[list(place(number)), f"P{number}"] for number in range(2, 9)]
        self.solo.receive(link, whisper(flags.PEERS, many, time=int(self.solo.wall)))
        self.look(30.0)
        self.assertIn(link, self.solo.node.links.open)
        self.assertEqual(self.solo.all(Close), [])

    def test_with_enough_of_them_visits_are_seldom(self):
        """Four are enough, a look in six is a visit."""
        self.company()
        self.away(1)
        for number in range(10, 10 + GOAL):
            self.plain(number)
        self.solo.actions.clear()
        self.look(55.0)
        self.assertLessEqual(len(self.dials()), 1)
        self.look(30.0)
        self.assertGreaterEqual(len(self.dials()), 1)

    def test_visits_that_lead_nowhere_do_not_end_all_visits(self):
        """The dial may end as a second link to somebody who is connected by then."""
        self.company()
        self.away(*range(1, 9))
        dialled = set()
        for _ in range(12):
            before = len(self.solo.all(Dial))
            self.look()
            for dial in self.solo.all(Dial)[before:]:
                dialled.add(dial.address)
                # It has dialled us meanwhile, and its link is the one that stays.
                ident = b"P%d" % int(dial.address[0].rpartition(".")[2])
                ours = self.solo.peer(ident, address=dial.address)
                crossed = self.solo.peer(ident, dial=dial, address=dial.address)
                self.solo.lost(crossed)
                self.lose(ours)
        self.assertGreater(len(dialled), 4)

    def test_who_does_not_answer_is_forgotten(self):
        """It may have moved."""
        self.company()
        self.away(1)
        self.look()
        self.solo.refuse(self.solo.all(Dial)[0])
        self.assertEqual(len(self.shepherd), 0)

    def test_a_victim_is_called_once_in_a_quarter_of_an_hour(self):
        """However often a liar among the plain nodes names it."""
        self.company()
        liar = self.plain()
        refused = 0
        while self.solo.now < 1000.0 + LEARNED_PAUSE:
            self.look(10.0)
            entries = [[list(place(66)), f"V{self.solo.now:.0f}"]]
            self.solo.receive(liar, whisper(flags.PEERS, entries, time=int(self.solo.wall)))
            for dial in self.solo.all(Dial)[refused:]:
                refused += 1
                self.assertEqual(dial.address, place(66))
                self.solo.refuse(dial)
        # Three by the dialler, as ever.
        self.assertLessEqual(refused, 1 + 3)

    def test_who_was_disconnected_by_the_application_is_not_visited(self):
        """It wants no link between these two."""
        self.company()
        link = self.plain()
        self.solo.note(self.solo.node.disconnect(link, self.solo.now, self.solo.wall))
        self.solo.actions.clear()
        self.look(60.0)
        self.assertEqual(self.dials(), [])

    def test_names_that_a_plain_peer_tells_are_remembered(self):
        """They may be plain; those that turn out not to be are forgotten, and stay so."""
        company = self.company()
        link = self.plain()
        entries = [[list(place(5)), "P5"], [list(company.address), "Company"], [["::", 1], "x"]]
        self.solo.receive(link, whisper(flags.PEERS, entries, time=int(self.solo.wall)))
        self.assertIn(b"P5", self.shepherd._known)
        self.assertNotIn(b"x", self.shepherd._known)
        self.solo.extended(b"P5", address=place(5))
        self.solo.advance(UNDECIDED)
        self.assertNotIn(b"P5", self.shepherd._known)
        self.look(11.0)
        self.solo.receive(link, whisper(flags.PEERS, entries, time=int(self.solo.wall)))
        self.assertNotIn(b"P5", self.shepherd._known)

    def test_there_is_no_timer_without_plain_nodes(self):
        """A mesh of our own nodes has no use for any of this."""
        self.company()
        self.look(5.0)
        self.assertIsNone(self.shepherd._timer)

    def test_nobody_is_visited_by_a_node_that_has_closed(self):
        """Nor asked."""
        self.company()
        self.away(1)
        self.solo.note(self.solo.node.close(self.solo.now, self.solo.wall))
        self.solo.actions.clear()
        self.solo.advance(100.0)
        self.assertEqual(self.dials(), [])


class CapTests(ShepherdCase):
    def test_so_many_plain_nodes_are_remembered(self):
        """The least recent one gives way."""
        self.company()
        for number in range(300):
            link = self.solo.peer(
                b"N%d" % number, address=(f"10.1.{number // 250}.{number % 250}", 1)
            )
            self.solo.advance(UNDECIDED)
            self.solo.lost(link)
        self.assertEqual(len(self.shepherd), 256)
        self.assertNotIn(b"N0", self.shepherd._known)
        self.assertIn(b"N299", self.shepherd._known)
        self.assertEqual(self.solo.node.mesh.sizes()["plain nodes known"], (256, 256))

    def test_everything_it_keeps_is_bounded(self):
        """Lists and failures without end."""
        self.company()
        for number in range(400):
            address = (f"10.2.{number // 250}.{number % 250}", 1)
            self.shepherd.heard([(address, b"H%d" % number)])
            self.shepherd._visiting[address] = 0.0
            self.shepherd.dial_failed(address)
            self.solo.extended(b"E%d" % number, address=None)
            self.solo.advance(UNDECIDED)
            (link,) = [one for one in self.solo.node.links.open if one.id == b"E%d" % number]
            self.solo.lost(link)
        for held in (self.shepherd._known, self.shepherd._failed, self.shepherd._extended):
            self.assertLessEqual(len(held), 256)
        self.assertEqual(self.shepherd._visiting, {})

    def test_who_cannot_be_dialled_is_not_remembered(self):
        """There is nothing to visit."""
        self.company()
        self.solo.peer(b"Leaf", address=None)
        self.solo.advance(UNDECIDED)
        self.assertEqual(len(self.shepherd), 0)
