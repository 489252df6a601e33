"""Tests of `py2p_twisted.core.trees`."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core.extension import PAGE, Kind
from py2p_twisted.core.recent import RecentMessages
from py2p_twisted.core.settings import Settings
from py2p_twisted.core.timers import Timers
from py2p_twisted.core.trees import Trees
from tests import profile
from tests.core.neighbours import Links, Neighbour, Said, message, short_of
from tests.core.support import START

profile.load()

ORIGIN = b"Origin"


class Bench:
    """`Trees`, and everything that they touch."""

    def __init__(self, *names, plain=(), **options):
        self.now = START
        self.links = Links(*(Neighbour(name) for name in names))
        for name in plain:
            link = Neighbour(name)
            link.ext = None
            self.links.open += (link,)
        self.recent = RecentMessages(600, 20_000, 1 << 30)
        self.timers, self.counters, self.said = Timers(), Counter(), Said()
        self.trees = Trees(
            Settings(**options),
            self.links,
            self.recent,
            self.timers,
            self.counters,
            send=self.said,
        )
        self.trees.relinked()

    def __getitem__(self, name):
        return next(link for link in self.links.open if link.id == name)

    def hold(self, number=0, origin=ORIGIN):
        one = message(number, origin)
        self.recent.hold([one], b"", self.now)
        return one

    def routes(self, origin=ORIGIN, count=1, came_by=None):
        return tuple(
            {link.id for link in links}
            for links in self.trees.routes(origin, count, came_by, self.now)
        )

    def pruned(self, name, origin=ORIGIN):
        self.trees.pruned(self[name], short_of(self.hold(0, origin)), self.now)

    def advance(self, seconds):
        self.now += seconds
        self.timers.due(self.now)


class RoutesTests(SynchronousTestCase):
    def test_an_origin_without_a_tree_is_flooded(self):
        """Its first messages go to everybody, plain or extended."""
        bench = Bench(b"A", b"B", plain=[b"P"])
        self.assertEqual(bench.routes(), ({b"A", b"B", b"P"}, set()))
        self.assertEqual(len(bench.trees), 0)

    def test_who_asks_for_it_gets_announcements(self):
        """Of this origin alone."""
        bench = Bench(b"A", b"B", plain=[b"P"])
        bench.pruned(b"A")
        self.assertEqual(bench.routes(), ({b"B", b"P"}, {b"A"}))
        self.assertEqual(bench.routes(b"Other"), ({b"A", b"B", b"P"}, set()))
        self.assertEqual(bench.trees.counts(), (2, 1))

    def test_the_bringer_of_a_copy_is_told(self):
        """One PRUNE for each origin, however many copies one read has brought."""
        bench = Bench(b"A", b"B")
        ours = [bench.hold(number) for number in range(5)]
        other = bench.hold(9, b"Other")
        bench.trees.repeated(bench[b"A"], [one.id for one in [*ours, other, *ours]], bench.now)
        self.assertEqual(
            bench.said.to(bench[b"A"], Kind.PRUNE), [(short_of(ours[0]),), (short_of(other),)]
        )
        self.assertEqual(bench.counters["prunes"], 2)

    def test_each_end_decides_for_what_comes_to_it(self):
        """That it need not send us messages does not mean that it needs none of ours."""
        bench = Bench(b"A", b"B")
        bench.trees.repeated(bench[b"A"], [bench.hold().id], bench.now)
        self.assertEqual(bench.routes(), ({b"A", b"B"}, set()))

    def test_it_is_told_again_if_it_goes_on(self):
        """But not of what was under way: it may have forgotten the tree meanwhile."""
        bench = Bench(b"A", b"B")
        one = bench.hold()
        for after, prunes in ((0.0, 1), (0.9, 1), (0.2, 2), (0.5, 2)):
            bench.now += after
            bench.trees.repeated(bench[b"A"], [one.id], bench.now)
            self.assertEqual(len(bench.said.to(bench[b"A"], Kind.PRUNE)), prunes)

    def test_not_everybody_is_told(self):
        """One message comes sooner from here and the next from there: somebody has to stay."""
        bench = Bench(b"A", b"B")
        first, second = message(1), message(2)
        bench.recent.hold([first], b"A", bench.now)
        bench.recent.hold([second], b"B", bench.now)
        bench.trees.repeated(bench[b"B"], [first.id], bench.now)
        bench.trees.repeated(bench[b"A"], [second.id], bench.now)
        self.assertEqual([link.id for link, _, _ in bench.said.frames], [b"B"])

    def test_nobody_is_told_for_one_that_has_gone(self):
        """Nor for what it has brought twice itself."""
        bench = Bench(b"A", b"B")
        one, other = message(1), message(2)
        bench.recent.hold([one], b"Gone", bench.now)
        bench.recent.hold([other], b"A", bench.now)
        bench.trees.repeated(bench[b"A"], [one.id, other.id], bench.now)
        self.assertEqual(bench.said.frames, [])

    def test_copies_and_prunes_of_what_is_not_held_mean_nothing(self):
        """Nobody knows their origin any more."""
        bench = Bench(b"A", b"B")
        bench.trees.repeated(bench[b"A"], [b"?" * 32], bench.now)
        bench.trees.pruned(bench[b"A"], b"?" * 16, bench.now)
        bench.trees.grafted(bench[b"A"], [b"?" * 16])
        self.assertEqual((bench.said.frames, len(bench.trees)), ([], 0))

    def test_who_brings_a_new_message_may_still_want_announcements(self):
        """What comes and what goes are different matters."""
        bench = Bench(b"A", b"B")
        bench.pruned(b"A")
        self.assertEqual(bench.routes(came_by=bench[b"A"]), ({b"B"}, {b"A"}))

    def test_who_brings_new_messages_after_it_was_told_has_forgotten_it(self):
        """It is a branch again, and others can be told instead."""
        bench = Bench(b"A", b"B")
        bench.trees.repeated(bench[b"A"], [bench.hold().id], bench.now)
        bench.now += 2.0
        bench.routes(came_by=bench[b"A"])
        late = message(7)
        bench.recent.hold([late], b"A", bench.now)
        bench.trees.repeated(bench[b"B"], [late.id], bench.now)
        self.assertEqual(len(bench.said.to(bench[b"B"], Kind.PRUNE)), 1)

    def test_a_graft_makes_a_branch(self):
        """Of the origins of the messages that are asked for."""
        bench = Bench(b"A", b"B")
        for origin in (ORIGIN, b"Other", b"Third"):
            bench.pruned(b"A", origin)
        bench.trees.grafted(
            bench[b"A"], [short_of(message(0, ORIGIN)), short_of(message(0, b"Other"))]
        )
        self.assertEqual(bench.routes()[1], set())
        self.assertEqual(bench.routes(b"Other")[1], set())
        self.assertEqual(bench.routes(b"Third")[1], {b"A"})

    def test_a_graft_of_nothing_makes_a_branch_of_everything(self):
        """A newcomer has nobody else."""
        bench = Bench(b"A", b"B")
        for origin in (ORIGIN, b"Other"):
            bench.pruned(b"A", origin)
            bench.pruned(b"B", origin)
        bench.trees.grafted(bench[b"A"], [])
        self.assertEqual(bench.routes(), ({b"A"}, {b"B"}))
        self.assertEqual(bench.routes(b"Other"), ({b"A"}, {b"B"}))

    def test_whom_we_have_asked_is_a_branch(self):
        """It sends the origin's messages again, so it can be told at once if it need not."""
        bench = Bench(b"A", b"B")
        one = bench.hold()
        bench.trees.branch(b"Elsewhere", bench[b"A"])
        bench.trees.repeated(bench[b"A"], [one.id], bench.now)
        bench.trees.branch(ORIGIN, bench[b"A"])
        bench.trees.repeated(bench[b"A"], [one.id], bench.now)
        self.assertEqual(len(bench.said.to(bench[b"A"], Kind.PRUNE)), 2)

    def test_ids_of_both_types_are_one_origin(self):
        """JavaScript nodes name themselves in text."""
        bench = Bench(b"A", b"B")
        bench.pruned(b"A", "Origin")
        self.assertEqual(bench.routes(b"Origin")[1], {b"A"})
        self.assertEqual(bench.routes("Origin")[1], {b"A"})


class BringerTests(SynchronousTestCase):
    """Whoever is told to announce must not have been the last one to bring."""

    def copy(self, bench, first, second, number=0):
        """A message comes by one link, and then by another."""
        one = message(number)
        bench.recent.hold([one], first, bench.now)
        bench.routes(came_by=bench[first])
        bench.trees.repeated(bench[second], [one.id], bench.now)
        return short_of(one)

    def test_nobody_is_told_because_of_a_link_that_is_no_neighbour(self):
        """A probe that was faster ends soon; a plain node repairs nothing."""
        bench = Bench(b"A", b"Probe", plain=[b"P"])
        bench[b"Probe"].ext.active = False
        for first in (b"Probe", b"P"):
            self.copy(bench, first, b"A", ord(first[:1]))
            self.assertEqual(bench.said.to(bench[b"A"], Kind.PRUNE), [], first)
        self.copy(bench, b"A", b"Probe", 9)
        self.assertEqual(len(bench.said.to(bench[b"Probe"], Kind.PRUNE)), 1)

    def lose(self, bench, name):
        lost = bench[name]
        bench.links.open = tuple(link for link in bench.links.open if link is not lost)
        bench.trees.gone(lost)

    def test_a_tree_that_has_lost_its_bringer_asks_for_another(self):
        """One to which we do not send these messages, if there is one; before any is missed."""
        bench = Bench(b"A", b"B", b"C")
        short = self.copy(bench, b"A", b"B")
        self.copy(bench, b"A", b"C", 1)
        bench.trees.pruned(bench[b"C"], short, bench.now)
        bench.trees.routes(ORIGIN, 1, bench[b"A"], bench.now, short)
        self.lose(bench, b"A")
        self.assertEqual(bench.said.to(bench[b"C"], Kind.GRAFT), [([short], 2)])
        self.assertEqual(bench.said.to(bench[b"B"], Kind.GRAFT), [])
        self.assertEqual(bench.counters["adoptions"], 1)
        # Its copies are those of a branch now: B is told, and C is not.
        bench.advance(5)
        self.copy(bench, b"C", b"B", 2)
        self.assertEqual(bench.said.to(bench[b"C"], Kind.PRUNE), [(short_of(message(1)),)])

    def test_not_while_there_is_another_bringer(self):
        """And not when a link goes that brought nothing."""
        bench = Bench(b"A", b"B", b"C")
        short = self.copy(bench, b"A", b"B")
        bench.trees.routes(ORIGIN, 1, bench[b"A"], bench.now, short)
        self.lose(bench, b"B")
        self.lose(bench, b"A")
        self.assertEqual(bench.counters["adoptions"], 0)

    def test_many_trees_are_asked_for_in_pages(self):
        """Frames have bounds, and a neighbour may have brought thousands of origins."""
        bench = Bench(b"A", b"B")
        for number in range(PAGE + 5):
            origin = b"%d" % number
            one = bench.hold(number, origin)
            bench.recent.hold([one], b"A", bench.now)
            one.via = b"A"
            bench.trees.repeated(bench[b"B"], [one.id], bench.now)
            bench.trees.routes(origin, 1, bench[b"A"], bench.now, short_of(one))
        self.lose(bench, b"A")
        pages = bench.said.to(bench[b"B"], Kind.GRAFT)
        self.assertEqual([len(page[0]) for page in pages], [PAGE, 5])

    def test_a_bringer_is_not_given_what_a_passer_by_was_faster_with(self):
        """
        It might get it from us first, and tell its own bringer not to send any more.

        It hears of it, for the case that nobody else has it.
        """
        bench = Bench(b"A", b"B", b"Probe", plain=[b"P"])
        bench[b"Probe"].ext.active = False
        bench.trees.relinked()
        self.copy(bench, b"A", b"B")
        for passer_by in (b"Probe", b"P"):
            self.assertEqual(bench.routes(came_by=bench[passer_by]), ({b"B", b"P"}, {b"A"}))
        self.assertEqual(bench.routes(), ({b"A", b"B", b"P"}, set()))
        self.assertEqual(bench.routes(came_by=bench[b"B"]), ({b"A", b"B", b"P"}, set()))

    def test_but_it_is_when_it_asks_or_has_gone(self):
        """Its own bringer may be gone; and who comes back is another link."""
        for forget in (
            lambda bench: bench.trees.grafted(bench[b"A"], [short_of(message(0))]),
            lambda bench: bench.trees.grafted(bench[b"A"], []),
            lambda bench: bench.trees.gone(bench[b"A"]),
        ):
            bench = Bench(b"A", b"B", b"Probe")
            bench[b"Probe"].ext.active = False
            bench.trees.relinked()
            self.copy(bench, b"A", b"B")
            forget(bench)
            self.assertEqual(bench.routes(came_by=bench[b"Probe"]), ({b"A", b"B"}, set()))

    def test_what_was_sent_with_the_question_makes_no_bringer(self):
        """Whoever asks to be our neighbour announces as soon as it knows that it is one."""
        bench = Bench(b"A", b"B")
        self.copy(bench, b"A", b"B")
        new = Neighbour(b"N")
        bench.links.open += (new,)
        bench.trees.activated(new, bench.now)
        self.copy(bench, b"N", b"A", 1)
        self.assertEqual(bench.said.to(bench[b"A"], Kind.PRUNE), [])
        bench.now += 1.1
        self.copy(bench, b"N", b"A", 2)
        self.assertEqual(len(bench.said.to(bench[b"A"], Kind.PRUNE)), 1)

    def test_a_new_link_counts_as_told(self):
        """The other end announces, as this one does; so it is no bringer."""
        bench = Bench(b"A", b"B")
        short = self.copy(bench, b"A", b"B")
        bench.trees.routes(ORIGIN, 1, bench[b"A"], bench.now, short)
        new = Neighbour(b"N")
        bench.links.open += (new,)
        bench.trees.activated(new, bench.now)
        self.lose(bench, b"A")
        self.assertEqual(bench.counters["adoptions"], 1)


class RefreshTests(SynchronousTestCase):
    def test_after_so_many_messages(self):
        """One is flooded, and the tree grows anew."""
        bench = Bench(b"A", b"B", tree_messages=10, tree_rest=30.0)
        bench.pruned(b"A")
        bench.now += 31.0
        for _ in range(5):
            self.assertEqual(bench.routes(count=2)[1], {b"A"})
        self.assertEqual(bench.routes(), ({b"A", b"B"}, set()))
        self.assertEqual(len(bench.trees), 0)
        bench.pruned(b"A")
        self.assertEqual(bench.routes()[1], {b"A"})

    def test_but_not_too_soon(self):
        """A busy origin has its tree for a while: what is under way when it grows is flooded."""
        bench = Bench(b"A", b"B", tree_messages=10, tree_rest=30.0)
        bench.pruned(b"A")
        for _ in range(29):
            self.assertEqual(bench.routes(count=1000)[1], {b"A"})
            bench.now += 1.0
        bench.now += 2.0
        self.assertEqual(bench.routes()[1], set())

    def test_after_so_long(self):
        """From its beginning on, however busy."""
        bench = Bench(b"A", b"B", tree_age=300.0)
        bench.pruned(b"A")
        for _ in range(10):
            self.assertEqual(bench.routes()[1], {b"A"})
            bench.now += 30.0
        self.assertEqual(bench.routes()[1], {b"A"})
        bench.now += 1.0
        self.assertEqual(bench.routes()[1], set())

    def test_so_many_origins_are_remembered(self):
        """Those that were heard of last: inventing origins costs who speaks nothing."""
        bench = Bench(b"A", b"B", tree_origins=8)
        bench.pruned(b"A")
        for number in range(100):
            bench.pruned(b"A", b"%d" % number)
            self.assertEqual(bench.routes(), ({b"B"}, {b"A"}), number)
            self.assertLessEqual(len(bench.trees), 8)
        self.assertEqual(bench.routes(b"99")[1], {b"A"})
        self.assertEqual(bench.routes(b"50")[1], set())

    def test_without_room_everything_is_flooded(self):
        """Trees can be switched off."""
        bench = Bench(b"A", b"B", tree_origins=0)
        bench.pruned(b"A")
        self.assertEqual((bench.routes(), len(bench.trees)), (({b"A", b"B"}, set()), 0))


class LinksTests(SynchronousTestCase):
    def test_a_new_link_gets_announcements_of_known_origins(self):
        """And the messages of others; it is not told."""
        bench = Bench(b"A", b"B")
        bench.pruned(b"A")
        new = Neighbour(b"N")
        bench.links.open += (new,)
        bench.trees.activated(new, bench.now)
        self.assertEqual(bench.routes(), ({b"B"}, {b"A", b"N"}))
        self.assertEqual(bench.routes(b"Other"), ({b"A", b"B", b"N"}, set()))
        self.assertEqual(bench.said.frames, [])

    def test_a_first_link_gets_everything_and_is_asked_for_everything(self):
        """Who has nobody else; links that are plain or outside the view do not count."""
        bench = Bench(b"A", plain=[b"P"])
        bench.links.open += (Neighbour(b"I", active=False),)
        bench.trees.relinked()
        bench.pruned(b"A")
        bench.trees.activated(bench[b"A"], bench.now)
        self.assertEqual(bench.said.frames, [(bench[b"A"], Kind.GRAFT, ([], 2))])
        self.assertEqual(bench.routes(), ({b"A", b"P"}, set()))

    def test_links_outside_the_view_get_nothing(self):
        """Neither messages nor announcements."""
        bench = Bench(b"A", b"B")
        bench.pruned(b"B")
        for link in bench.links.open:
            link.ext.active = False
        bench.trees.relinked()
        self.assertEqual(bench.routes(), (set(), set()))
        self.assertEqual(bench.trees.behind, ())

    def test_who_has_been_asked_to_be_a_neighbour_gets_messages(self):
        """It may say no, but they do not wait for its answer. It announces nothing yet."""
        bench = Bench(b"A", b"B")
        bench[b"A"].ext.active, bench[b"A"].ext.asking = False, True
        bench.trees.relinked()
        self.assertEqual(bench.routes(), ({b"A", b"B"}, set()))
        bench[b"A"].congested = True
        bench.trees.relinked()
        self.assertEqual((bench.routes()[0], bench.trees.behind), ({b"B"}, ()))

    def test_congested_links_get_nothing_and_are_behind(self):
        """Neither messages nor announcements, until they keep up again."""
        bench = Bench(b"A", b"B", b"C", plain=[b"P"])
        bench.pruned(b"B")
        for name in (b"A", b"B", b"P"):
            bench[name].congested = True
        bench.trees.relinked()
        self.assertEqual(bench.routes(), ({b"C", b"P"}, set()))
        self.assertEqual({link.id for link in bench.trees.behind}, {b"A", b"B"})
        bench[b"A"].congested = bench[b"B"].congested = False
        bench.trees.relinked()
        self.assertEqual(bench.routes(), ({b"A", b"C", b"P"}, {b"B"}))
        self.assertEqual(bench.trees.behind, ())

    def test_a_link_that_has_gone_is_in_no_tree(self):
        """And nothing is announced on it any more."""
        bench = Bench(b"A", b"B")
        bench.pruned(b"A")
        gone = bench[b"A"]
        bench.trees.announce([short_of(bench.hold(1))], [gone], bench.now)
        bench.links.open = (bench[b"B"],)
        bench.trees.gone(gone)
        bench.advance(1)
        self.assertEqual(bench.routes(), ({b"B"}, set()))
        self.assertEqual((bench.said.frames, bench.trees.pending), ([], 0))
        (tree,) = bench.trees._trees.values()
        self.assertEqual(tree.lazy, set())


class AnnounceTests(SynchronousTestCase):
    def test_announcements_wait_for_each_other(self):
        """20 ms after the first, one frame for each link."""
        bench = Bench(b"A", b"B")
        ada, ben = bench[b"A"], bench[b"B"]
        many = [short_of(bench.hold(number)) for number in range(3)]
        bench.trees.announce(many[:1], [ada], bench.now)
        bench.advance(0.01)
        bench.trees.announce(many[1:], [ada, ben], bench.now)
        self.assertEqual((bench.said.frames, bench.trees.pending), ([], 5))
        bench.advance(0.011)
        self.assertEqual(bench.said.to(ada, Kind.IHAVE), [(many,)])
        self.assertEqual(bench.said.to(ben, Kind.IHAVE), [(many[1:],)])
        self.assertEqual((bench.trees.pending, bench.timers.next()), (0, None))
        bench.advance(1)
        bench.trees.announce(many[:1], [ben], bench.now)
        bench.advance(0.021)
        self.assertEqual(len(bench.said.to(ben, Kind.IHAVE)), 2)

    def test_who_has_just_announced_waits_longer(self):
        """Four times as long, so that there is more in a frame."""
        bench = Bench(b"A")
        ada = bench[b"A"]
        for number, wait in enumerate((0.021, 0.081)):
            bench.trees.announce([short_of(bench.hold(number))], [ada], bench.now)
            bench.advance(wait - 0.002)
            self.assertEqual(len(bench.said.frames), number)
            bench.advance(0.002)
            self.assertEqual(len(bench.said.frames), number + 1)

    def test_so_many_do_not_wait(self):
        """A full batch goes at once; others have their own time."""
        bench = Bench(b"A", b"B", announce_batch=64)
        ada, ben = bench[b"A"], bench[b"B"]
        for number in range(63):
            bench.trees.announce([short_of(bench.hold(number))], [ada], bench.now)
        bench.trees.announce([short_of(bench.hold(90))], [ben], bench.now)
        self.assertEqual(bench.said.frames, [])
        bench.trees.announce([short_of(bench.hold(63))], [ada], bench.now)
        self.assertEqual(len(bench.said.ids(ada, Kind.IHAVE)), 64)
        bench.advance(0.021)
        self.assertEqual(len(bench.said.ids(ben, Kind.IHAVE)), 1)
        self.assertEqual(len(bench.said.frames), 2)

    def test_more_than_a_page_are_several_frames(self):
        """One read may bring thousands of small messages."""
        bench = Bench(b"A")
        many = [short_of(message(number)) for number in range(2 * PAGE + 5)]
        bench.trees.announce(many, [bench[b"A"]], bench.now)
        self.assertEqual(
            [len(ids) for (ids,) in bench.said.to(bench[b"A"], Kind.IHAVE)], [PAGE, PAGE, 5]
        )
        self.assertEqual(bench.counters["announced"], 2 * PAGE + 5)

    def test_a_link_that_turns_eager_meanwhile_still_hears_of_it(self):
        """What is announced is decided when the message comes."""
        bench = Bench(b"A", b"B")
        bench.pruned(b"A")
        one = bench.hold(1)
        _, announced = bench.trees.routes(ORIGIN, 1, None, bench.now)
        bench.trees.announce([short_of(one)], announced, bench.now)
        bench.trees.grafted(bench[b"A"], [])
        bench.trees.branch(ORIGIN, bench[b"A"])
        bench.advance(0.021)
        self.assertEqual(bench.said.ids(bench[b"A"], Kind.IHAVE), [short_of(one)])

    def test_and_so_does_one_that_becomes_congested(self):
        """A few bytes more; the message itself was not withheld, so nobody is behind."""
        bench = Bench(b"A", b"B")
        bench.trees.announce([short_of(bench.hold(1))], [bench[b"A"]], bench.now)
        bench[b"A"].congested = True
        bench.trees.relinked()
        bench.advance(0.021)
        self.assertEqual(len(bench.said.ids(bench[b"A"], Kind.IHAVE)), 1)


#: What can happen to trees: (what, link, origin).
HAPPENINGS = st.tuples(
    st.sampled_from(
        ["prune", "graft", "graft all", "copy", "branch", "came", "congest", "leave", "enter"]
    ),
    st.integers(0, 3),
    st.integers(0, 2),
)


class EveryLinkTests(SynchronousTestCase):
    @given(st.lists(HAPPENINGS, max_size=60))
    def test_every_link_of_the_view_gets_each_message_in_one_way(self, happenings):
        """As itself or announced, never both; congested ones neither, and they are behind."""
        names = [b"A", b"B", b"C", b"D"]
        bench = Bench(*names, tree_messages=20, tree_origins=2)
        links = bench.links.open
        for number, (what, index, origin) in enumerate(happenings):
            link, name = links[index], b"O%d" % origin
            one = bench.hold(number, name)
            active = link.ext.active
            if what == "prune" and active:
                bench.trees.pruned(link, short_of(one), bench.now)
            elif what == "graft" and active:
                bench.trees.grafted(link, [short_of(one)])
            elif what == "graft all" and active:
                bench.trees.grafted(link, [])
            elif what == "copy" and active:
                bench.trees.repeated(link, [one.id], bench.now)
            elif what == "branch":
                bench.trees.branch(name, link)
            elif what == "came":
                bench.trees.routes(name, 1, link, bench.now)
            elif what == "congest":
                link.congested = not link.congested
                bench.trees.relinked()
            elif what == "leave" and active:
                link.ext.active = False
                bench.trees.gone(link)
            elif what == "enter" and not active:
                link.ext.active = True
                bench.trees.activated(link, bench.now)
            for number in range(3):
                eager, announced = bench.trees.routes(b"O%d" % number, 1, None, bench.now)
                behind = bench.trees.behind
                self.assertEqual(
                    sorted([*eager, *announced, *behind], key=id),
                    sorted([link for link in links if link.ext.active], key=id),
                )
                self.assertEqual(
                    set(behind), {it for it in links if it.congested and it.ext.active}
                )
