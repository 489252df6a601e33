"""Tests of `py2p_twisted.core.survey`: who is there, and how it is found out."""

import contextlib
import heapq
import random
from collections import Counter
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core import survey as module
from py2p_twisted.core.actions import Surveyed
from py2p_twisted.core.connection import State
from py2p_twisted.core.extension import LARGEST, PAGE, Kind
from py2p_twisted.core.survey import (
    BURST,
    DELAY,
    LEAST,
    LONGER,
    LONGEST,
    MOST,
    MOST_HOPS,
    MOST_NAMED,
    MOST_OF_ONE,
    QUIET,
    RATE,
    ROOM,
    SPACING,
    Member,
    Row,
    Survey,
    Surveys,
    read_answers,
    read_request,
)
from py2p_twisted.core.timers import Timers
from py2p_twisted.errors import BadExtension
from tests import profile
from tests.core.extended import Mesh, Net, ext
from tests.core.support import pack_body
from tests.core.test_connection import values

profile.load()

TOKEN = b"t" * 16


def row(ident=b"C", hops=2, held=0, address=("10.0.0.7", 4444), near=(), plain=(), version="1"):
    """What somebody says of itself."""
    return [ident, hops, held, list(address), list(near), list(plain), version]


class SurveyCase(SynchronousTestCase):
    """A node in the middle, with three neighbours that are played by the test."""

    def setUp(self):
        self.build()

    def build(self, **options):
        self.solo = Mesh(**options)
        self.up = self.solo.neighbour(b"Up", address=None)
        self.down = self.solo.neighbour(b"Down", address=None)
        self.side = self.solo.neighbour(b"Side", address=None)
        self.surveys = self.solo.node.mesh.surveys
        self.solo.actions.clear()

    def question(self, link=None, token=TOKEN, hops=0, timeout=5000):
        self.solo.receive(link or self.up, ext(Kind.SURVEY, token, hops, timeout))

    def tell(self, link, *rows, token=TOKEN):
        self.solo.receive(link, ext(Kind.SURVEY_ANSWER, [[token, list(rows)]]))

    def wait(self, seconds=DELAY + 0.001):
        """Time passes, in which the neighbours show that they are there."""
        while seconds > 0:
            self.solo.advance(min(0.5, seconds))
            seconds -= 0.5
            for link in self.solo.node.links.open:
                if link.ext is not None:
                    self.solo.receive(link, ext(99, time=int(self.solo.wall)))

    def questions(self, link):
        return self.solo.frames(link, Kind.SURVEY)

    def answers(self, link):
        """What was passed on to a neighbour, frame by frame."""
        return [fields[0] for fields in self.solo.frames(link, Kind.SURVEY_ANSWER)]

    def rows(self, link, token=TOKEN):
        """The rows of a survey that a neighbour was given."""
        frames = self.answers(link)
        return [one for frame in frames for key, rows in frame if key == token for one in rows]

    def ask(self, timeout=5.0):
        """The application asks."""
        token, actions = self.solo.node.survey(timeout, self.solo.now, self.solo.wall)
        self.solo.note(actions)
        return token

    def own_token(self, link=None):
        """The token of our latest survey, as a neighbour has seen it."""
        return self.questions(link or self.up)[-1][0]

    def outcome(self, token):
        found = [one.survey for one in self.solo.all(Surveyed) if one.token == token]
        self.assertLessEqual(len(found), 1)
        return found[0] if found else None

    def assert_well(self):
        for link in (self.up, self.down, self.side):
            self.assertIsNone(self.solo.closed(link))


class PassingTests(SurveyCase):
    def test_a_question_is_answered_and_passed_on(self):
        """To all neighbours but the one that has brought it; to no plain node, and no probe."""
        plain = self.solo.peer(b"Plain", address=None)
        probe = self.solo.extended(b"Probe", address=None)
        self.wait(3)  # nothing was announced: it is a plain node
        self.question()
        for link in (self.down, self.side):
            self.assertEqual(self.questions(link), [(TOKEN, 1, 5000)])
        for link in (self.up, plain, probe):
            self.assertEqual(self.questions(link), [])
        self.assertEqual(self.answers(self.up), [])
        self.wait()
        ((token, rows),) = self.answers(self.up)[0]
        (own,) = rows
        held = own[2]
        self.assertEqual(token, TOKEN)
        names = [[b"Up", b"Down", b"Side"], [b"Plain"]]
        self.assertEqual(own, [b"Me", 1, held, ["10.0.0.1", 4444], *names, ""])
        self.assertEqual(round(held / 1e6, 3), DELAY)
        self.assertEqual(self.answers(self.down) + self.answers(self.side), [])
        self.assertEqual(self.solo.effects.inbox, [])

    def test_once(self):
        """It comes from every neighbour; also when it is long forgotten."""
        self.question()
        self.question(self.down, hops=1)
        self.question(self.side, hops=1)
        self.wait()
        self.assertEqual(len(self.rows(self.up)), 1)
        self.assertEqual(len(self.questions(self.side)), 1)
        self.wait(5 + LONGER)
        self.assertEqual(len(self.surveys), 0)
        self.question(self.down, hops=1)
        self.wait()
        self.assertEqual(len(self.questions(self.side)), 1)
        self.assertEqual((self.answers(self.down), len(self.surveys)), ([], 0))

    def test_rows_of_others_go_up_with_the_time_they_were_held(self):
        """All that have come meanwhile, of all surveys, in one frame."""
        self.question()
        self.question(token=b"u" * 16)
        self.solo.advance(0.02)
        self.tell(self.down, row(b"C", held=7_000), row(b"D", near=[b"C"], plain=[b"P"]))
        self.tell(self.side, row(b"E"), token=b"u" * 16)
        self.wait()
        (answers,) = self.answers(self.up)
        self.assertEqual([token for token, _ in answers], [TOKEN, b"u" * 16])
        found = {one[0]: one for one in answers[0][1]}
        self.assertEqual(set(found), {b"Me", b"C", b"D"})
        self.assertLess(abs(found[b"C"][2] - 37_000), 10)
        self.assertLess(abs(found[b"D"][2] - 30_000), 10)
        self.assertEqual(found[b"D"][3:], [["10.0.0.7", 4444], [b"C"], [b"P"], "1"])
        self.assertEqual([one[0] for one in answers[1][1]], [b"Me", b"E"])

    def test_what_has_gone_up_does_not_go_again(self):
        """Somebody may come twice, after a way has ended."""
        self.question()
        for link in (self.down, self.side, self.down):
            self.tell(link, row(b"C"))
            self.wait()
        self.assertEqual([one[0] for one in self.rows(self.up)], [b"Me", b"C"])

    def test_more_than_fits_goes_with_the_next_turns(self):
        """At most a frame in 50 ms; nothing is left out, and no survey keeps another waiting."""
        self.question()
        self.wait()
        idents = [b"%064d" % number for number in range(400)]
        for start in range(0, 400, 40):
            near = [b"n" * 12] * 5
            self.tell(self.down, *(row(one, near=near) for one in idents[start : start + 40]))
        self.question(self.up, token=b"u" * 16)
        self.wait(0.11)
        self.assertEqual(len(self.answers(self.up)), 3)
        self.assertEqual(len(self.rows(self.up, b"u" * 16)), 1)
        self.wait(3)
        self.assertEqual([one[0] for one in self.rows(self.up)], [b"Me", *idents])
        for answers in self.answers(self.up):
            self.assertLess(len(pack_body(answers)), ROOM + 100)

    def test_the_largest_row_fits_into_a_frame(self):
        """With as many neighbours as can be named, all that is said at its longest."""
        names = tuple(b"n" * 12 for _ in range(MOST_NAMED))
        largest = Row(b"i" * 256, 64, 3600.0, ("h" * 253, 65535), names, names, "v" * 32)
        self.assertLess(largest.size, 0.6 * ROOM)
        self.assertLess(ROOM + 1024, LARGEST)
        self.assertEqual(read_answers([[TOKEN, [largest.write(9.0)]]]), [(TOKEN, [largest])])
        wide = largest._replace(address=("\N{GRINNING FACE}" * 253, 4444), version="ä" * 32)
        smallest = Row(b"i", 1, 0.0, None, (), (), "")
        for one in (largest, wide, smallest):
            self.assertLessEqual(len(pack_body([[TOKEN, [one.write(9.0)]]])), one.size + 24)

    def test_who_does_not_keep_up_is_told_later(self):
        """It would wait in its queue."""
        self.question()
        self.up.congested = True
        self.wait(1)
        self.assertEqual(self.answers(self.up), [])
        self.up.congested = False
        self.wait()
        ((_, _, held, *_),) = self.rows(self.up)
        self.assertGreater(held, 1e6)

    def test_who_cannot_be_dialled_has_no_address(self):
        """Nor has one that says nonsense."""
        self.solo.node.address = ("10.0.0.1", 0)
        self.question()
        self.tell(self.down, row(b"C", address=()), row(b"D", address=("x", "y", 3)))
        self.wait()
        self.assertEqual([one[3] for one in self.rows(self.up)], [[]] * 3)

    def test_it_goes_only_so_far(self):
        """Somebody may lie about how far it has come."""
        self.question(hops=MOST_HOPS)
        self.question(token=b"u" * 16, hops=MOST_HOPS - 1)
        self.wait()
        self.assertEqual([key for key, *_ in self.questions(self.down)], [b"u" * 16])
        self.assertEqual(self.rows(self.up, b"u" * 16)[0][1], MOST_HOPS)
        self.assertEqual(self.rows(self.up), [])

    def test_a_node_that_leaves_passes_on_what_it_has(self):
        """It is still there."""
        self.question()
        self.solo.note(self.solo.node.close(self.solo.now, self.solo.wall))
        self.assertEqual(len(self.rows(self.up)), 1)

    def test_it_takes_no_message_and_no_application_notices(self):
        """Nothing is held, remembered or delivered."""
        before = len(self.solo.node.mesh.recent), self.solo.node.drops.copy()
        self.question()
        self.tell(self.down, row())
        self.ask()
        self.wait(3)
        after = len(self.solo.node.mesh.recent), self.solo.node.drops
        self.assertEqual(after, before)
        self.assertEqual(self.solo.effects.inbox, [])


class OtherWayTests(SurveyCase):
    def test_when_the_way_back_ends_another_is_taken(self):
        """If it leads nearer to the asker."""
        self.question(hops=3)
        self.question(self.down, hops=4)  # behind us, for all that we know
        self.question(self.side, hops=3)
        self.solo.lost(self.up)
        self.tell(self.down, row())
        self.wait()
        self.assertEqual([one[0] for one in self.rows(self.side)], [b"Me", b"C"])
        self.assertEqual(self.rows(self.down), [])

    def test_the_same_when_it_leaves_the_active_view(self):
        self.question(hops=3)
        self.question(self.side, hops=3)
        self.solo.receive(self.up, ext(Kind.DISCONNECT))
        self.wait()
        self.assertEqual([one[0] for one in self.rows(self.side)], [b"Me"])

    def test_it_may_come_later(self):
        """The question may still be on its way to us."""
        self.question(hops=3)
        self.solo.lost(self.up)
        self.wait(0.2)
        self.assertEqual(self.rows(self.side), [])
        self.question(self.side, hops=2)
        self.tell(self.down, row())
        self.wait()
        self.assertIn(b"C", [one[0] for one in self.rows(self.side)])

    def test_without_any_nothing_is_kept_for_long(self):
        """And nothing goes to those behind us."""
        self.question(hops=3)
        self.question(self.down, hops=4)
        self.solo.lost(self.up)
        self.tell(self.down, row())
        self.wait(2)
        self.assertEqual(self.answers(self.down) + self.answers(self.side), [])
        self.wait(5)
        self.assertEqual(self.surveys.sizes()["bytes in surveys"][0], 0)


class OwnTests(SurveyCase):
    def test_everybody_has_answered(self):
        """Who is named has to answer; then it is done at once."""
        token = self.ask()
        key = self.own_token()
        self.assertEqual([self.questions(link) for link in (self.up, self.down)], [
            [(key, 0, 5000)]] * 2)  # fmt: skip
        self.solo.advance(0.1)
        self.tell(self.up, row(b"Up", 1, 40_000, near=[b"Me", b"C"], plain=[b"P"]), token=key)
        self.tell(self.down, row(b"Down", 1, near=[b"Me"]), token=key)
        self.tell(self.side, row(b"Side", 1, near=[b"Me"]), token=key)
        self.assertIsNone(self.outcome(token))
        self.solo.advance(0.1)
        self.tell(self.up, row(b"C", 2, 60_000, near=[b"Up"], version="0.1.0"), token=key)
        survey = self.outcome(token)
        self.assertEqual((survey.complete, round(survey.seconds, 6)), (True, 0.2))
        me, down, side, up, far = survey.members
        near = (b"Up", b"Down", b"Side")
        self.assertEqual(me, Member(b"Me", ("10.0.0.1", 4444), 0, 0.0, near, (), ""))
        self.assertEqual([one.id for one in (down, side, up)], [b"Down", b"Side", b"Up"])
        self.assertAlmostEqual(up.rtt, 0.06)
        self.assertAlmostEqual(down.rtt, 0.1)
        self.assertAlmostEqual(far.rtt, 0.14)
        self.assertEqual((far.hops, far.address, far.version), (2, ("10.0.0.7", 4444), "0.1.0"))
        self.assertEqual((survey.plain, survey.silent), ({b"P"}, set()))
        self.wait(10)
        self.assertIsNotNone(self.outcome(token))

    def test_somebody_is_silent(self):
        """Nothing new for a while, and it ends with the others."""
        token = self.ask()
        key = self.own_token()
        self.wait(1.0)
        self.tell(self.up, row(b"Up", 1, near=[b"Me", b"x" * 12]), token=key)
        self.wait(QUIET - 0.05)
        self.assertIsNone(self.outcome(token))
        self.wait(0.1)
        survey = self.outcome(token)
        self.assertEqual([one.id for one in survey.members], [b"Me", b"Up"])
        self.assertEqual((survey.complete, survey.silent), (False, {b"Down", b"Side", b"x" * 12}))
        self.assertGreater(survey.seconds, 1.9)

    def test_nobody_answers(self):
        """As when all neighbours know no surveys; it is not waited for ever."""
        token = self.ask()
        self.wait(LEAST - 0.1)
        self.assertIsNone(self.outcome(token))
        self.wait(0.2)
        self.assertEqual(len(self.outcome(token).members), 1)

    def test_the_time_is_up(self):
        """Whoever asks says how long."""
        token = self.ask(0.3)
        self.assertEqual(self.questions(self.up)[0][2], 300)
        self.wait(0.29)
        self.assertIsNone(self.outcome(token))
        self.wait(0.02)
        self.assertFalse(self.outcome(token).complete)
        self.tell(self.up, row(), token=self.own_token())
        self.assertEqual(self.solo.counters["survey rows unasked"], 1)

    def test_alone(self):
        """There is nobody to wait for."""
        solo = Mesh()
        token, actions = solo.node.survey(5.0, solo.now, solo.wall)
        (done,) = [one for one in actions if isinstance(one, Surveyed)]
        self.assertEqual((done.token, done.survey.complete), (token, True))
        self.assertEqual([one.id for one in done.survey.members], [b"Me"])

    def test_plain_nodes_are_named_and_not_asked(self):
        """Not before it is known that they are; without the extension all are."""
        for options, known in (({}, 3.0), ({"extensions": False}, 0.0)):
            solo = Mesh(**options)
            solo.peer(b"Plain", address=None)
            for wait in (0.0, known):
                solo.advance(wait)
                _, actions = solo.node.survey(5.0, solo.now, solo.wall)
                (done,) = [one for one in actions if isinstance(one, Surveyed)]
                solo.advance(SPACING)
                expected = (b"Plain",) if wait == known else ()
                self.assertEqual(done.survey.members[0].plain, expected)
                self.assertEqual(done.survey.plain, set(expected))

    def test_several_who_ask_at_once_share_one(self):
        """Each waits as long as it has said."""
        first, short, long = self.ask(1.2), self.ask(0.2), self.ask(9.0)
        self.assertEqual(len(self.questions(self.up)), 1)
        self.wait(0.25)
        self.assertEqual([len(self.outcome(short).members)], [1])
        self.assertIsNone(self.outcome(first))
        self.wait(1.0)
        self.assertIsNotNone(self.outcome(first))
        self.assertIsNone(self.outcome(long))
        self.wait(LEAST)
        self.assertIsNotNone(self.outcome(long))

    def test_from_one_to_the_next_some_time_passes(self):
        """Or neighbours would drop them."""
        self.ask(0.1)
        self.wait(0.1)
        second, third = self.ask(), self.ask(0.1)
        self.wait(0.2)
        self.assertEqual(len(self.questions(self.up)), 1)
        early = self.outcome(third)
        self.assertEqual((len(early.members), early.complete), (1, False))
        self.wait(0.3)
        self.assertEqual(len(self.questions(self.up)), 2)
        key = self.own_token()
        self.assertNotEqual(key, self.questions(self.up)[0][0])
        for link in (self.up, self.down, self.side):
            self.tell(link, row(link.id, 1), token=key)
        self.assertTrue(self.outcome(second).complete)
        self.assertLess(RATE * SPACING * 0.99, 2.0)

    def test_our_own_question_comes_back(self):
        """From everybody; also when the survey is over."""
        token = self.ask(0.2)
        key = self.own_token()
        self.question(self.down, key, 3)
        self.wait(0.3)
        self.assertIsNotNone(self.outcome(token))
        self.question(self.side, key, 3)
        self.wait()
        self.assertEqual(self.rows(self.side, key) + self.rows(self.down, key), [])

    def test_it_was_held_for_longer_than_it_took(self):
        """Somebody lies: the time is not known."""
        token = self.ask()
        key = self.own_token()
        self.solo.advance(0.1)
        self.tell(self.up, row(b"Up", 1, 200_000), token=key)
        self.wait(3)
        self.assertIsNone(self.outcome(token).members[1].rtt)

    def test_we_are_not_a_member_twice(self):
        """Our own row, or somebody with our id, comes back."""
        token = self.ask()
        self.tell(self.up, row(b"Me", 3), row(b"Up", 1), row(b"Up", 2), token=self.own_token())
        self.wait(3)
        found = [(one.id, one.hops) for one in self.outcome(token).members]
        self.assertEqual(found, [(b"Me", 0), (b"Up", 1)])

    def test_more_neighbours_than_can_be_named(self):
        """There may be some that nobody has named, so it is waited for them."""
        token = self.ask()
        key = self.own_token()
        near = [b"n%d" % number for number in range(MOST_NAMED)]
        for link in (self.up, self.down, self.side):
            self.tell(link, row(link.id, 1, near=near if link is self.up else []), token=key)
        self.tell(self.up, *(row(one) for one in near), token=key)
        self.assertIsNone(self.outcome(token))
        self.wait(2)
        self.assertTrue(self.outcome(token).complete)

    def test_the_shortest_way_counts(self):
        """The question took a faster one; and who is named by nobody is as far as it says."""
        token = self.ask()
        key = self.own_token()
        near = [b"C"]
        self.tell(self.up, row(b"Up", 1, near=near), row(b"C", 5, near=[b"D"]), token=key)
        self.tell(self.down, row(b"Down", 1), row(b"Side", 7), row(b"X", 9, near=[b"Y"]), token=key)
        self.tell(self.up, row(b"D", 4), row(b"Y", 3), token=key)
        self.wait(2)
        found = [(one.id, one.hops) for one in self.outcome(token).members]
        self.assertEqual(found, [
            (b"Me", 0), (b"Down", 1), (b"Side", 1), (b"Up", 1), (b"C", 2), (b"D", 3), (b"Y", 3),
            (b"X", 9),
        ])  # fmt: skip

    def test_a_node_that_closes_says_what_it_knows(self):
        """Nobody waits for ever."""
        token = self.ask()
        self.tell(self.up, row(b"Up", 1), token=self.own_token())
        self.solo.note(self.solo.node.close(self.solo.now, self.solo.wall))
        survey = self.outcome(token)
        self.assertEqual((len(survey.members), survey.complete), (2, False))


class BoundedTests(SurveyCase):
    """Whatever a neighbour does."""

    def test_questions_without_end(self):
        """More than so many are not passed on. It is no reason to hang up: they may be others'."""
        for number in range(100):
            self.question(token=b"%016d" % number)
        self.assertEqual(len(self.questions(self.down)), BURST)
        self.assertEqual(self.solo.counters["surveys dropped"], 100 - BURST)
        self.question(self.side, token=b"x" * 16)
        self.assertEqual(len(self.questions(self.down)), BURST + 1)
        self.wait(2)
        for number in range(100):
            self.question(token=b"y%015d" % number)
        self.assertLessEqual(len(self.questions(self.down)), BURST + 1 + 2 * RATE + 1)
        self.assert_well()

    def test_surveys_are_bounded(self):
        """Of one neighbour, whose oldest go; and in all."""
        for number in range(60):
            self.question(token=b"%016d" % number, timeout=60_000)
            self.wait(1 / RATE)
        self.question(self.side, token=b"x" * 16, timeout=60_000)
        self.assertEqual(len(self.surveys), MOST_OF_ONE + 1)
        self.patch(module, "MOST", 5)
        self.question(self.down, token=b"y" * 16)
        self.assertEqual(len(self.surveys), 5)
        self.wait(LONGEST + LONGER + 1)
        self.assertEqual(len(self.surveys), 0)
        self.assertEqual(self.surveys.sizes()["ids in surveys"], (0, module.MOST_IDS))
        self.assertGreater(MOST, MOST_OF_ONE)

    def test_tokens_are_bounded(self):
        self.patch(module, "MOST_SEEN", 10)
        for number in range(30):
            self.question(token=b"%016d" % number)
            self.wait(1 / RATE)
        self.assertEqual(self.surveys.sizes()["surveys seen"], (10, 10))

    def test_nobody_makes_a_survey_last(self):
        self.question(timeout=2**62)
        self.assertEqual(self.questions(self.down)[0][2], 1000 * LONGEST)
        self.wait(LONGEST + LONGER + 0.1)
        self.assertEqual(len(self.surveys), 0)

    def test_rows_of_a_survey_are_bounded(self):
        self.patch(module, "MOST_ROWS", 20)
        self.question()
        self.tell(self.down, *(row(b"%d" % number) for number in range(50)))
        self.wait(1)
        self.assertEqual(len(self.rows(self.up)), 20)
        self.assertEqual(self.solo.counters["survey rows dropped"], 31)
        self.assert_well()

    def test_ids_and_bytes_are_bounded(self):
        """The largest survey goes, and the others stay."""
        for ids, size in ((100, 100_000), (100_000, 5_000)):
            self.build()
            self.patch(module, "MOST_IDS", ids)
            self.patch(module, "MOST_BYTES", size)
            self.question(token=b"small" + b"t" * 11)
            self.question()
            for start in range(0, 200, 20):
                self.tell(self.down, *(row(b"%d" % one) for one in range(start, start + 20)))
            self.assertEqual(list(self.surveys._entries), [b"small" + b"t" * 11])
            self.assertEqual(self.surveys.sizes()["ids in surveys"][0], 1)
            for size, cap in self.surveys.sizes().values():
                self.assertLessEqual(size, cap)
            self.assert_well()

    def test_rows_that_nobody_has_asked_for(self):
        """Of surveys that are not known, or from who was not asked: they are counted."""
        self.tell(self.down, row(), row(b"D"))
        self.question()
        self.tell(self.up, row())
        self.ask()
        stranger = self.solo.extended(b"Stranger", address=None)
        self.tell(stranger, row())
        self.tell(stranger, row(), token=self.own_token())
        self.wait()
        self.assertEqual([one[0] for one in self.rows(self.up)], [b"Me"])
        self.assertEqual(self.solo.counters["survey rows unasked"], 5)
        self.assertIsNone(self.solo.closed(stranger))
        self.assert_well()

    def test_strangers_are_not_answered(self):
        """Only who is a neighbour can make the mesh say something."""
        stranger = self.solo.extended(b"Stranger", address=None)
        self.question(stranger)
        self.wait()
        self.assertEqual(self.answers(stranger) + self.questions(self.up), [])
        self.assertEqual(self.solo.counters["surveys of strangers"], 1)
        self.assertIsNone(self.solo.closed(stranger))

    def test_members_and_names_are_bounded(self):
        """A survey that is too large is not complete, though nobody is named who is not there."""
        for name, most in (("MOST_NAMES", 20), ("MOST_ROWS", 10)):
            self.build()
            self.patch(module, name, most)
            token = self.ask()
            key = self.own_token()
            self.tell(self.down, row(b"Down", 1), token=key)
            self.tell(self.side, row(b"Side", 1), token=key)
            rows = [row(b"%d" % number, near=[b"Up", b"Me"]) for number in range(30)]
            self.tell(self.up, row(b"Up", 1), *rows, token=key)
            survey = self.outcome(token)
            self.assertTrue(4 < len(survey.members) < 13)
            self.assertEqual((survey.complete, survey.silent), (False, set()))
            for size, cap in self.surveys.sizes().values():
                self.assertLessEqual(size, cap)
        self.assertIsNone(self.surveys.named(b"0"))
        self.assertEqual(self.surveys.named(b"29"), b"29")

    def test_a_link_that_is_gone_leaves_nothing(self):
        self.question()
        self.solo.lost(self.up)
        self.assertEqual(self.surveys._allowances, {})


class NonsenseTests(SurveyCase):
    def test_what_makes_sense(self):
        """More may follow, from later versions."""
        self.assertEqual(read_request([TOKEN, 3, 1500, "later"]), (TOKEN, 3, 1.5))
        self.assertEqual(read_answers([]), [])
        expected = Row(b"C", 2, 0.0, ("10.0.0.7", 4444), (), (), "1")
        found = read_answers([[TOKEN, [[*row(), "later"]], "later"]])
        self.assertEqual(found, [(TOKEN, [expected])])

    def test_nonsense_costs_the_link(self):
        """Nobody who speaks the extension writes such."""
        names = [b"n"] * (MOST_NAMED + 1)
        rows = [
            None, [], row()[:6], row(b""), row("C"), row(b"x" * 257), row(hops=0), row(hops=-1),
            row(hops=MOST_HOPS + 1), row(hops=True), row(held=-1), row(held=2**62), row(held=0.5),
            row(near=names), row(plain=names), row(near=[b""]), row(near=[b"n" * 13]),
            row(plain=["n"]), row(version=b"1"), row(version="1" * 33),
            [b"C", 2, 0, None, [], [], "1"], [b"C", 2, 0, [], None, [], "1"],
        ]  # fmt: skip
        fields = [
            None, b"", {}, [None], [[]], [[TOKEN]], [[TOKEN, None]], [[b"t", []]], [["t" * 16, []]],
            [[TOKEN, [row()] * (PAGE + 1)]], [[TOKEN, []]] * (PAGE + 1),
            *([[TOKEN, [one]]] for one in rows),
        ]  # fmt: skip
        frames = [ext(Kind.SURVEY_ANSWER, field) for field in fields]
        questions = [
            (), (TOKEN,), (TOKEN, 0), (b"t", 0, 0), ("t" * 16, 0, 0), (TOKEN, -1, 0),
            (TOKEN, 0, -1), (TOKEN, 0.0, 5), (TOKEN, 0, True),
        ]  # fmt: skip
        frames += [ext(Kind.SURVEY, *fields) for fields in questions]
        for number, data in enumerate(frames):
            link = self.solo.extended(b"Bad%d" % number, address=None)
            self.solo.receive(link, data)
            self.assertIsInstance(self.solo.closed(link), BadExtension, number)
        self.assertEqual(len(self.surveys), 0)
        self.assert_well()

    @given(st.one_of(values, st.lists(st.lists(values, max_size=8), max_size=5)))
    def test_any_value_is_read_or_refused(self, field):
        """Nothing else is raised."""
        with contextlib.suppress(BadExtension):
            read_answers(field)
        with contextlib.suppress(BadExtension):
            read_answers([[TOKEN, [field]]])
        if isinstance(field, list):
            with contextlib.suppress(BadExtension):
                read_request(field)

    def test_what_is_passed_on_can_be_read(self):
        """Whatever has come in: nobody is to blame for what others have written."""
        for held in (0, 3_599_999_999):
            ((_, (one,)),) = read_answers([[TOKEN, [row(held=held, address=("", -1))]]])
            read_answers([[TOKEN, [one.write(1e9)]]])


names = st.sampled_from("abcdefg")


class MeshTests(SynchronousTestCase):
    """Real nodes that ask each other."""

    def ask(self, host, timeout=5.0):
        token, actions = host.node.survey(timeout, host.world.now, host.wall)
        host.perform(actions)
        return token

    def outcome(self, host, token):
        return next((one.survey for one in host.all(Surveyed) if one.token == token), None)

    def test_along_a_chain(self):
        """The farthest is known as well as the nearest, and how far it is."""
        net = Net(*"abcdef")
        net.chain(*"abcdef")
        token = self.ask(net["a"])
        net.advance(1)
        survey = self.outcome(net["a"], token)
        found = [(net.name_of(one.id), one.hops, one.address) for one in survey.members]
        self.assertEqual(found, [
            (name, number, net[name].address) for number, name in enumerate("abcdef")
        ])  # fmt: skip
        self.assertTrue(survey.complete)
        # Nothing takes any time in here but what is waited for, and that does not count.
        self.assertEqual([round(one.rtt, 3) for one in survey.members], [0.0] * 6)

    def test_through_and_to_plain_nodes_it_does_not_go(self):
        """They are named by who is linked to them."""
        net = Net(*"ab")
        net.add("p", extensions=False)
        net.add("z")
        net.chain("a", "b", "p", "z")
        token = self.ask(net["a"])
        net.advance(3)
        survey = self.outcome(net["a"], token)
        self.assertEqual([net.name_of(one.id) for one in survey.members], ["a", "b"])
        self.assertEqual((survey.plain, survey.complete), ({net["p"].node.id[:12]}, True))

    def test_who_is_silent_is_named(self):
        """A node in the middle has lost its power: it ends with the rest."""
        net = Net(*"abcd")
        net.chain(*"abcd")
        net.silence("b", "c")
        token = self.ask(net["a"])
        net.advance(4)
        survey = self.outcome(net["a"], token)
        self.assertEqual([net.name_of(one.id) for one in survey.members], ["a", "b"])
        self.assertEqual((survey.silent, survey.complete), ({net["c"].node.id[:12]}, False))

    @given(
        st.sets(st.tuples(names, names).filter(lambda pair: pair[0] < pair[1]), max_size=8),
        names,
    )
    def test_whatever_the_mesh_looks_like(self, more, asker):
        """As long as it holds together: all answer, each once, and it is complete."""
        net = Net(*"abcdefg")
        ring = list(zip("abcdefg", "bcdefga", strict=True))
        net.ways = {frozenset(pair) for pair in (*ring, *more)}
        for one, other in (*ring, *sorted(more)):
            net[one].connect(net[other].address)
            net.advance(0.1)
        net.advance(4.0)
        token = self.ask(net[asker])
        net.advance(2)
        survey = self.outcome(net[asker], token)
        self.assertEqual(sorted(net.name_of(one.id) for one in survey.members), list("abcdefg"))
        self.assertTrue(survey.complete)


class Crowd:
    """
    Very many `Surveys`, and nothing else of their nodes, joined by wires that take 10 to 100 ms.

    :ivar written: how many frames were written, by link, kind, and, of answers, 50 ms.
    """

    def __init__(self, count, degree=5):
        self.rng = random.Random(1)
        self.now = 0.0
        self.events = []
        self.serial = 0
        self.outcomes = []
        self.written = Counter()
        self.timers = [Timers() for _ in range(count)]
        self.links = [SimpleNamespace(open=()) for _ in range(count)]
        self.surveys = [
            Surveys(
                b"%d" % number,
                "1",
                self.links[number],
                self.timers[number],
                Counter(),
                address=lambda: None,
                is_plain=lambda link: False,
                token=self.rng.randbytes,
                send=self.send,
                decide=self.outcomes.append,
                now=lambda: self.now,
            )
            for number in range(count)
        ]
        ends = {(one, (one + 1) % count) for one in range(count)}
        while len(ends) < count * degree / 2:
            one, other = self.rng.sample(range(count), 2)
            if (other, one) not in ends:
                ends.add((one, other))
        for one, other in ends:
            self.link(one, other)

    def link(self, one, other):
        latency = self.rng.uniform(0.01, 0.1)
        ends = [_Wire(one, other, latency), _Wire(other, one, latency)]
        for end, back in zip(ends, reversed(ends), strict=True):
            end.back = back
            self.links[end.owner].open += (end,)

    def send(self, link, kind, *fields):
        slot = int(self.now / DELAY + 1e-6) if kind == Kind.SURVEY_ANSWER else 0
        self.written[link, kind, slot] += 1
        self.at(self.now + link.latency, lambda: self.receive(link.back, kind, fields))

    def receive(self, link, kind, fields):
        surveys = self.surveys[link.owner]
        if kind == Kind.SURVEY:
            surveys.asked(link, *read_request(fields), self.now)
        else:
            surveys.received(link, read_answers(fields[0]), self.now)

    def at(self, when, action):
        self.serial += 1
        heapq.heappush(self.events, (when, self.serial, action))

    def run(self, until):
        while True:
            due = [(timers.next(), timers) for timers in self.timers if timers.next() is not None]
            timer = min(due, key=lambda one: one[0], default=(until, None))
            # All that arrives before: nothing that is received sets a timer earlier than DELAY.
            horizon = min(until, timer[0])
            if self.events and self.events[0][0] <= horizon:
                self.now, _, action = heapq.heappop(self.events)
                action()
            elif timer[1] is not None and timer[0] <= until:
                self.now = timer[0]
                timer[1].due(self.now)
            else:
                return


class _Wire:
    """One end of a link between two neighbours."""

    congested = False
    state = State.OPEN
    ext = SimpleNamespace(active=True)

    def __init__(self, owner, other, latency):
        self.owner = owner
        self.id = b"%d" % other
        self.latency = latency


class CrowdTests(SynchronousTestCase):
    def test_1000_nodes(self):
        """All answer in a second or two. A question crosses a link once each way at most."""
        crowd = Crowd(1000)
        crowd.surveys[0].ask(1, 10.0, 0.0)
        crowd.run(4.0)
        (done,) = crowd.outcomes
        survey = done.survey
        self.assertIsInstance(survey, Survey)
        self.assertEqual(len({one.id for one in survey.members}), 1000)
        self.assertTrue(survey.complete)
        self.assertLess(survey.seconds, 3.0)
        self.assertEqual(max(crowd.written.values()), 1)
        questions = sum(kind == Kind.SURVEY for _, kind, _ in crowd.written)
        self.assertLess(questions, 2 * 2500 - 999 + 1)
        # What was waited on the way does not count: the fastest way there, and back.
        for one in survey.members[1:]:
            self.assertTrue(2 * 0.01 * one.hops - 0.001 < one.rtt < 2 * 0.1 * one.hops + 0.001)
        for node in crowd.surveys:
            for size, cap in node.sizes().values():
                self.assertLessEqual(size, cap)
