"""Tests of `py2p_twisted.core.receipts`: who has a message, and who does not say so."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core import receipts as module
from py2p_twisted.core.actions import Receipted
from py2p_twisted.core.extension import LARGEST, PAGE, Kind
from py2p_twisted.core.marker import MAGIC
from py2p_twisted.core.receipts import (
    EARLY,
    LONGER,
    MEMBER_FOR,
    MOST,
    MOST_EARLY,
    QUIET,
    ROOM,
    UNKNOWN_LEAST,
    Receipt,
    read_rows,
)
from py2p_twisted.errors import BadExtension
from tests import profile
from tests.core.extended import Mesh, Net, ext
from tests.core.support import WALL, frame, pack_body
from tests.core.test_connection import values

profile.load()


def marked(text, sender=b"Origin", seconds=10, nonce=b"n" * 13, sub=0, flag=0):
    """The body of a broadcast whose origin wants receipts."""
    body = pack_body(flag, sender, WALL, sub, text)
    return body + MAGIC + b"\x01" + seconds.to_bytes(2, "big") + nonce


class ReceiptsCase(SynchronousTestCase):
    """A node in the middle: ``up`` brings messages, ``down`` and ``side`` bring receipts."""

    def setUp(self):
        self.build()

    def build(self, **options):
        self.solo = Mesh(**options)
        self.up = self.solo.neighbour(b"Up", address=None)
        self.down = self.solo.neighbour(b"Down", address=None)
        self.side = self.solo.neighbour(b"Side", address=None)
        self.receipts = self.solo.node.mesh.receipts
        self.solo.actions.clear()

    def bring(self, text="storm", link=None, **options):
        """A marked message comes; its short id."""
        data = frame(marked(text, **options))
        self.solo.receive(link or self.up, data)
        return data[4:20]

    def tell(self, link, *rows):
        self.solo.receive(link, ext(Kind.RECEIPT, list(rows), time=int(self.solo.wall)))

    def wait(self, seconds=0.06):
        """Time passes, in which the neighbours show that they are there."""
        while seconds > 0:
            self.solo.advance(min(0.5, seconds))
            seconds -= 0.5
            for link in self.solo.node.links.open:
                if link.ext is not None:
                    self.solo.receive(link, ext(99, time=int(self.solo.wall)))

    def rows(self, link):
        """What was passed on to a neighbour, frame by frame."""
        return [fields[0] for fields in self.solo.frames(link, Kind.RECEIPT)]

    def told(self, link, short):
        """The ids that a neighbour was told of, in order; and those of plain nodes."""
        rows = [row for rows in self.rows(link) for row in rows if row[0] == short]
        return [one for row in rows for one in row[1]], [one for row in rows for one in row[2]]

    def confirm(self, text="ours", timeout=10.0):
        """We send something and want receipts; its token, and its short id."""
        node = self.solo.node
        message = node.composer.mark(node.composer.compose(0, 0, [text], self.solo.wall), 10)
        token, actions = node.expect_receipts(message, timeout, self.solo.now)
        self.solo.note(actions)
        self.solo.note(node.broadcast([message], self.solo.now))
        return token, message.id[:16]

    def receipt(self, token):
        found = [one.receipt for one in self.solo.all(Receipted) if one.token == token]
        self.assertLessEqual(len(found), 1)
        return found[0] if found else None


class PassingTests(ReceiptsCase):
    def test_who_delivers_a_marked_message_says_so_to_its_bringer(self):
        """After a moment, to nobody else, and once."""
        short = self.bring()
        self.assertEqual(self.solo.effects.inbox, [("storm",)])
        self.assertEqual(self.rows(self.up), [])
        self.wait()
        self.assertEqual(self.rows(self.up), [[[short, [b"Me"], [], []]]])
        self.wait(3)
        self.assertEqual(len(self.rows(self.up)), 1)
        self.assertEqual(self.rows(self.down) + self.rows(self.side), [])

    def test_it_costs_nothing_when_it_is_off(self):
        """No frame, no entry, no timer."""
        before = self.solo.node.timers.next()
        self.solo.said(self.up, "ordinary")
        self.assertEqual(self.solo.node.timers.next(), before)
        self.wait(1)
        self.assertEqual([self.rows(link) for link in (self.up, self.down, self.side)], [[]] * 3)
        self.assertEqual(len(self.receipts), 0)

    def test_plain_neighbours_are_named_as_such(self):
        """They were given it, and cannot tell."""
        self.solo.peer(b"Plain", address=None)
        short = self.bring()
        self.wait()
        self.assertEqual(self.told(self.up, short), ([b"Me"], [b"Plain"]))

    def test_receipts_of_several_go_up_in_one_frame(self):
        """Those of several messages, too: at most a frame for a link and turn."""
        one, other = self.bring("one"), self.bring("other")
        self.tell(self.down, [one, [b"C", b"D"], []], [other, [b"C"], [b"P"]])
        self.tell(self.side, [one, [b"E", b"C"], [b"P"]])
        self.wait()
        (rows,) = self.rows(self.up)
        self.assertEqual(
            rows, [[one, [b"Me", b"C", b"D", b"E"], [b"P"], []], [other, [b"Me", b"C"], [b"P"], []]]
        )

    def test_what_has_gone_up_does_not_go_again(self):
        """Receipts are sets: what comes twice says nothing new."""
        short = self.bring()
        for _ in range(3):
            self.tell(self.down, [short, [b"C"], [b"P"]])
            self.wait()
        self.tell(self.side, [short, [b"C", b"D"], [b"P"]])
        self.wait()
        self.assertEqual(self.told(self.up, short), ([b"Me", b"C", b"D"], [b"P"]))
        self.assertEqual(len(self.rows(self.up)), 2)

    def test_more_than_fits_goes_with_the_next_turns(self):
        """By number and by size, and nothing is left out."""
        for size in (4, 250):
            self.build()
            short = self.bring()
            idents = [b"%0*d" % (size, number) for number in range(1500)]
            for start in range(0, 1500, 60):
                self.tell(self.down, [short, idents[start : start + 60], []])
            self.wait(5)
            self.assertEqual(self.told(self.up, short)[0], [b"Me", *idents])
            frames = self.rows(self.up)
            self.assertGreater(len(frames), 1)
            for rows in frames:
                self.assertLessEqual(sum(len(row[1]) for row in rows), PAGE)
                self.assertLess(len(pack_body(rows)), ROOM + 200)
        self.assertLess(ROOM + 1024, LARGEST)

    def test_who_does_not_keep_up_is_told_later(self):
        """It would wait in its queue."""
        short = self.bring()
        self.up.congested = True
        self.wait(1)
        self.assertEqual(self.rows(self.up), [])
        self.up.congested = False
        self.wait()
        self.assertEqual(self.told(self.up, short)[0], [b"Me"])

    def test_nobody_waits_any_more(self):
        """Some seconds after the deadline it is forgotten."""
        short = self.bring(seconds=3)
        self.wait(3 + LONGER - 0.5)
        self.assertEqual(len(self.receipts), 1)
        self.wait(1)
        self.assertEqual(len(self.receipts), 0)
        self.tell(self.down, [short, [b"C"], []])
        self.wait()
        self.assertEqual(self.told(self.up, short)[0], [b"Me"])
        self.assertEqual(self.solo.counters["receipts too late"], 1)
        self.assertEqual(self.receipts.sizes()["ids in receipts"][0], 0)

    def test_whispers_and_what_nodes_act_on_are_not_receipted(self):
        """Nor what this node does not know: it is given to no application."""
        self.bring(flag=2)
        self.bring("*", sub=8)
        self.bring(sub=46)
        self.wait()
        self.assertEqual(self.rows(self.up), [])

    def test_a_node_that_leaves_passes_on_what_it_has(self):
        """It said that it has delivered it."""
        short = self.bring()
        self.solo.note(self.solo.node.close(self.solo.now, self.solo.wall))
        self.assertEqual(self.told(self.up, short)[0], [b"Me"])

    def test_without_the_extension_a_marker_is_nothing(self):
        """Such a node is as plain as others."""
        solo = Mesh(extensions=False)
        link = solo.peer(b"Up", address=None)
        solo.receive(link, frame(marked("storm")))
        solo.advance(1)
        self.assertEqual(solo.effects.inbox, [("storm",)])
        self.assertEqual(len(solo.node.mesh.receipts), 0)


class OtherWayTests(ReceiptsCase):
    def test_when_the_way_up_ends_everything_goes_another_way(self):
        """With our own id, so that it can be seen if that leads back."""
        short = self.bring()
        self.tell(self.down, [short, [b"C"], [b"P"]])
        self.wait()
        self.solo.lost(self.up)
        self.wait()
        # Who has brought receipts is below us.
        self.assertEqual(self.rows(self.down), [])
        self.assertEqual(self.rows(self.side), [[[short, [b"Me", b"C"], [b"P"], [[b"Me", 1]]]]])
        self.tell(self.down, [short, [b"D"], []])
        self.wait()
        self.assertEqual(self.told(self.side, short)[0], [b"Me", b"C", b"D"])

    def test_the_same_when_it_leaves_the_active_view(self):
        """It reads nothing more of what we would write."""
        short = self.bring()
        self.wait()
        self.solo.receive(self.up, ext(Kind.DISCONNECT))
        self.wait()
        self.assertEqual(self.told(self.down, short)[0], [b"Me"])

    def test_each_neighbour_is_tried_once(self):
        """Then it is given up, until there is another one."""
        short = self.bring()
        for link in (self.up, self.down, self.side):
            self.wait()
            self.assertEqual(self.told(link, short)[0], [b"Me"])
            self.solo.lost(link)
        self.wait(1)
        fresh = self.solo.neighbour(b"Fresh", address=None)
        self.wait()
        self.assertEqual(self.told(fresh, short)[0], [b"Me"])
        self.assertEqual(self.rows(fresh)[0][0][3], [[b"Me", 3]])

    def test_what_a_plain_node_has_brought_goes_to_any_neighbour(self):
        """It would not know what to do with it."""
        plain = self.solo.peer(b"Plain", address=None)
        short = self.bring(link=plain)
        self.wait()
        self.assertEqual(self.told(self.up, short), ([b"Me"], [b"Plain"]))

    def test_what_came_before_there_was_a_neighbour_waits_for_one(self):
        """As with a node that only a plain one has let in."""
        self.solo = Mesh()
        plain = self.solo.peer(b"Plain", address=None)
        short = self.bring(link=plain)
        self.wait(1)
        first = self.solo.neighbour(b"First", address=None)
        self.wait()
        self.assertEqual(self.told(first, short)[0], [b"Me"])

    def test_a_loop_of_two(self):
        """Our way up wants us to be its own: another one is found, for both."""
        short = self.bring()
        self.wait()
        self.tell(self.up, [short, [b"Up", b"B"], [], [[b"Up", 1]]])
        self.wait()
        self.assertEqual(
            self.rows(self.down),
            [[[short, [b"Me", b"Up", b"B"], [], [[b"Up", 1], [b"Me", 1]]]]],
        )

    def test_a_loop_of_two_without_another_way(self):
        """It is sent back, so that the other end looks for another way, and then refused, twice."""
        short = self.bring()
        self.wait()
        self.solo.lost(self.down)
        self.solo.lost(self.side)
        for _ in range(5):
            self.tell(self.up, [short, [b"Up", b"B"], []])
            self.wait()
        everything = [b"Me", b"Up", b"B"]
        self.assertEqual(self.told(self.up, short)[0], [b"Me", *everything * 3])
        self.assertEqual(len(self.rows(self.up)), 4)

    def test_without_a_way_up_those_below_are_told(self):
        """They take everything back, twice each at most, and look for another way."""
        short = self.bring()
        for link, ident in ((self.down, b"C"), (self.side, b"D")):
            self.tell(link, [short, [ident], [b"P"]])
        self.wait()
        for link in (self.up, self.down):
            self.solo.lost(link)
            self.wait()
        everything = [b"Me", b"C", b"D"]
        self.assertEqual(self.told(self.side, short), (everything, [b"P"]))
        self.tell(self.side, [short, [b"Me", b"C"], [], [[b"Me", 2]]])
        for _ in range(5):
            self.wait()
            self.tell(self.side, [short, [b"E"], []])
        self.assertEqual(self.told(self.side, short)[0].count(b"Me"), 4)
        fresh = self.solo.neighbour(b"Fresh", address=None)
        self.tell(fresh, [short, [b"F"], []])
        self.wait()
        self.assertEqual(set(self.told(fresh, short)[0]), {*everything, b"E", b"F"})

    def test_a_loop_of_three(self):
        """Our own id comes back from below: the next neighbour is tried."""
        short = self.bring()
        self.wait()
        self.solo.lost(self.up)
        self.wait()
        self.assertEqual(len(self.rows(self.down)), 1)
        self.tell(self.side, [short, [b"Down", b"Side", b"Me"], [], [[b"Me", 1]]])
        self.wait()
        self.assertEqual(
            self.rows(self.side), [[[short, [b"Me", b"Down", b"Side"], [], [[b"Me", 2]]]]]
        )

    def test_an_id_of_ours_that_comes_back_late_is_of_no_interest(self):
        """We have another way since; and without having changed it there is no loop."""
        short = self.bring()
        self.tell(self.side, [short, [b"Me"], [], [[b"Me", 1]]])
        self.wait()
        self.assertEqual(len(self.rows(self.up)), 1)
        self.solo.lost(self.up)
        self.solo.lost(self.down)
        self.wait()
        before = self.rows(self.side)
        fresh = self.solo.neighbour(b"Fresh", address=None)
        self.tell(fresh, [short, [b"Me"], [], [[b"Me", 1000]]])
        self.wait()
        self.assertEqual((self.rows(self.side), self.rows(fresh)), (before, []))

    def test_who_has_moved_is_passed_on_each_time(self):
        """Even if nothing else is new: whoever it is has to see it if it comes back."""
        short = self.bring()
        self.tell(self.down, [short, [b"C"], [], [[b"C", 1]]])
        self.wait()
        for turn in (1, 2, 2, 1, 3):
            self.tell(self.side, [short, [b"C"], [], [[b"C", turn]]])
            self.wait()
        moved = [row[3] for rows in self.rows(self.up) for row in rows]
        self.assertEqual(moved, [[[b"C", 1]], [[b"C", 2]], [[b"C", 3]]])

    def test_receipts_that_are_faster_than_their_message(self):
        """Who has lost its way up gives us everything before we have got the message."""
        data = frame(marked("storm"))
        self.tell(self.down, [data[4:20], [b"C"], [b"P"], [[b"C", 1]]])
        self.wait()
        self.assertEqual(len(self.receipts), 1)
        short = self.bring()
        self.wait()
        self.assertEqual(self.rows(self.up), [[[short, [b"C", b"Me"], [b"P"], [[b"C", 1]]]]])

    def test_receipts_of_messages_that_never_come_are_forgotten(self):
        """By time, and by number."""
        for number in range(MOST_EARLY + 20):
            self.tell(self.down, [b"%16d" % number, [b"C"], []])
        self.assertEqual(len(self.receipts), MOST_EARLY)
        self.wait(EARLY + 1)
        self.assertEqual(self.receipts.sizes()["receipts passed on"][0], 0)
        self.assertEqual(self.receipts.sizes()["ids in receipts"][0], 0)


class OwnTests(ReceiptsCase):
    def test_everybody_has_confirmed(self):
        """Nobody but neighbours is known: it takes a second of silence."""
        token, short = self.confirm()
        self.tell(self.up, [short, [b"Up", b"B"], [b"P"]])
        self.wait(0.5)
        self.tell(self.down, [short, [b"Down"], []])
        self.tell(self.side, [short, [b"Side", b"Me"], []])
        self.wait(0.9)
        self.assertIsNone(self.receipt(token))
        self.wait(0.2)
        receipt = self.receipt(token)
        self.assertEqual(receipt.delivered, {b"Up", b"B", b"Down", b"Side"})
        self.assertEqual((receipt.missing, receipt.unknown), (set(), {b"P"}))
        self.assertTrue(receipt.complete)
        self.assertAlmostEqual(receipt.seconds, 1.5, 1)
        self.wait(20)
        self.assertEqual(len(self.solo.all(Receipted)), 1)

    def everybody(self, *others):
        token, short = self.confirm(f"{self.solo.now}")
        self.tell(self.up, [short, [b"Up", b"Down", b"Side", *others], []])
        return token, short

    def test_who_is_known_is_waited_for(self):
        """And then there is not much to wait for."""
        self.everybody(b"B")
        self.wait(3)
        token, short = self.everybody()
        self.wait(2)
        self.assertIsNone(self.receipt(token))
        self.tell(self.up, [short, [b"B"], []])
        self.wait(QUIET - 0.05)
        self.assertIsNone(self.receipt(token))
        self.wait(0.1)
        self.assertTrue(self.receipt(token).complete)

    def test_something_new_makes_it_wait_on(self):
        """Others may follow, which nobody has known."""
        self.everybody(b"B")
        self.wait(3)
        token, short = self.everybody(b"B")
        for number in range(5):
            self.wait(0.2)
            self.tell(self.up, [short, [b"New%d" % number], []])
        self.assertIsNone(self.receipt(token))
        self.wait(QUIET + 0.05)
        self.assertEqual(len(self.receipt(token).delivered), 9)

    def test_at_the_deadline_the_missing_are_named(self):
        """Neighbours, and those that are known by their receipts."""
        self.everybody(b"B", b"C")
        self.wait(3)
        token, short = self.confirm("more", timeout=4.0)
        self.tell(self.up, [short, [b"Up", b"B", b"Side"], []])
        self.wait(3.9)
        self.assertIsNone(self.receipt(token))
        self.wait(0.2)
        receipt = self.receipt(token)
        self.assertEqual(receipt.missing, {b"Down", b"C"})
        self.assertEqual((receipt.complete, round(receipt.seconds)), (False, 4))

    def test_who_is_missing_thrice_is_forgotten(self):
        """Not before, and not who answers in between."""
        self.everybody(b"B", b"C")
        self.wait(3)
        for number in range(3):
            token, _ = self.everybody(*[b"C"] * (number == 1))
            self.wait(11)
            self.assertEqual(b"B" in self.receipt(token).missing, True)
        self.assertEqual(self.receipts.members & {b"B", b"C"}, {b"C"})

    def test_who_is_not_heard_of_for_long_is_forgotten(self):
        """It may have left in good order."""
        self.everybody(b"B")
        self.wait(MEMBER_FOR - 5)
        self.assertIn(b"B", self.receipts.members)
        self.wait(10)
        token, _ = self.everybody()
        self.wait(3)
        self.assertTrue(self.receipt(token).complete)

    def test_members_are_known_by_receipts_of_others(self):
        """That pass through here."""
        short = self.bring()
        self.tell(self.down, [short, [b"C"], []])
        token, _ = self.confirm(timeout=2.0)
        self.wait(3)
        self.assertIn(b"C", self.receipt(token).missing)

    def test_plain_nodes_alone_are_unknown(self):
        """None is missing; nothing is known of them."""
        self.solo = Mesh()
        self.solo.peer(b"Plain", address=None)
        self.receipts = self.solo.node.mesh.receipts
        token, _ = self.confirm()
        self.wait(UNKNOWN_LEAST + 0.1)
        receipt = self.receipt(token)
        self.assertEqual((receipt.unknown, receipt.delivered), ({b"Plain"}, set()))
        self.assertTrue(receipt.complete)

    def test_without_anybody_nothing_is_complete(self):
        """Until the deadline somebody may come."""
        self.solo = Mesh()
        self.receipts = self.solo.node.mesh.receipts
        token, _ = self.confirm(timeout=5.0)
        self.wait(4.9)
        self.assertIsNone(self.receipt(token))
        self.wait(0.2)
        receipt = self.receipt(token)
        self.assertEqual(
            (receipt.complete, receipt.missing, receipt.delivered), (False, set(), set())
        )

    def test_a_node_that_closes_says_what_it_knows(self):
        """Nobody waits for ever, and nobody is blamed."""
        token, short = self.confirm()
        self.tell(self.up, [short, [b"Up"], []])
        self.solo.note(self.solo.node.close(self.solo.now, self.solo.wall))
        self.assertEqual(self.receipt(token).delivered, {b"Up"})
        self.assertFalse(self.receipt(token).complete)

    def test_a_receipt_prints_shortened_ids(self):
        """They have 66 characters."""
        many = frozenset(b"%d" % number + b"y" * 65 for number in range(9))
        receipt = Receipt(many, frozenset([b"x" * 66]), frozenset(), 1.25, False)
        self.assertEqual(
            repr(receipt),
            "<Receipt incomplete after 1.2 s: 9 delivered (0yyyyyyyyy, 1yyyyyyyyy, 2yyyyyyyyy, "
            "3yyyyyyyyy, ...), 1 missing (xxxxxxxxxx), 0 unknown>",
        )
        self.assertRaises(AttributeError, setattr, receipt, "complete", True)


class CapsTests(ReceiptsCase):
    def within(self):
        for name, (size, most) in self.receipts.sizes().items():
            self.assertLessEqual(size, most, name)

    def test_messages_are_bounded(self):
        """The oldest is forgotten."""
        shorts = [self.bring(number) for number in range(MOST + 50)]
        self.within()
        self.assertEqual(len(self.receipts), MOST)
        self.tell(self.down, [shorts[0], [b"C"], []], [shorts[-1], [b"C"], []])
        self.wait(5)
        self.assertNotIn(b"C", self.told(self.up, shorts[0])[0])
        self.assertIn(b"C", self.told(self.up, shorts[-1])[0])

    def test_ids_are_bounded(self):
        """The oldest message's go, with it."""
        self.patch(module, "MOST_IDS", 500)
        shorts = [self.bring(number) for number in range(20)]
        for number, short in enumerate(shorts):
            idents = [b"%d.%d" % (number, one) for one in range(100)]
            self.tell(self.down, [short, idents, []])
            self.within()
        self.assertEqual(len(self.receipts), 4)

    def test_confirmations_are_bounded(self):
        """The oldest ends early; nobody is blamed for that."""
        self.patch(module, "MOST", 3)
        tokens = [self.confirm(number)[0] for number in range(5)]
        self.assertEqual(
            [self.receipt(token) is None for token in tokens], [False] * 2 + [True] * 3
        )
        self.assertEqual(self.receipt(tokens[0]).missing, {b"Up", b"Down", b"Side"})
        self.within()

    def test_ids_of_confirmations_are_bounded(self):
        """Anybody can invent some."""
        self.patch(module, "MOST_IDS", 500)
        token, short = self.confirm()
        for start in range(0, 1000, 100):
            self.tell(self.up, [short, [b"%d" % (start + one) for one in range(100)], []])
            self.within()
        self.assertFalse(self.receipt(token).complete)

    def test_members_are_bounded(self):
        """Those go that we have not heard of for longest."""
        self.patch(module, "MOST_MEMBERS", 10)
        _, short = self.confirm()
        self.tell(self.up, [short, [b"first", *[b"%d" % one for one in range(20)]], []])
        self.assertEqual(self.receipts.members, {b"%d" % one for one in range(10, 20)})

    def test_movers_are_bounded(self):
        """They are few, or lies."""
        self.patch(module, "MOST_MOVED", 10)
        short = self.bring()
        self.tell(self.down, [short, [], [], [[b"%d" % one, 1] for one in range(100)]])
        self.wait()
        self.assertEqual(len(self.rows(self.up)[0][0][3]), 10)


class NonsenseTests(ReceiptsCase):
    GOOD = (b"s" * 16, [b"A"], [b"P"], [[b"A", 1]])

    def test_what_makes_sense(self):
        """The moved ones may be left out, and more may follow."""
        self.assertEqual(read_rows([]), [])
        self.assertEqual(
            read_rows([[*self.GOOD, "later"], list(self.GOOD[:3])]),
            [(b"s" * 16, [b"A"], [b"P"], [(b"A", 1)]), (b"s" * 16, [b"A"], [b"P"], [])],
        )

    def test_nonsense_costs_the_link(self):
        """Nobody who speaks the extension writes such."""
        many = [b"%d" % number for number in range(PAGE + 1)]
        bad = [
            None, b"", {}, [None], [[]], [[b"s" * 16]], [[b"s" * 16, []]], [[b"s", [], []]],
            [["s" * 16, [], []]], [[b"s" * 16, b"A", []]], [[b"s" * 16, [], b"P"]],
            [[b"s" * 16, ["A"], []]], [[b"s" * 16, [b""], []]], [[b"s" * 16, [b"x" * 257], []]],
            [[b"s" * 16, [], [1]]], [[b"s" * 16, many, []]], [[b"s" * 16, many[:501], many[:500]]],
            [[b"s" * 16, many[:501], []], [b"t" * 16, many[:500], []]],
            [[b"s" * 16, [], []]] * (PAGE + 1), [[b"s" * 16, [], [], None]],
            [[b"s" * 16, [], [], [b"A"]]], [[b"s" * 16, [], [], [[b"A"]]]],
            [[b"s" * 16, [], [], [[b"A", 0]]]], [[b"s" * 16, [], [], [[b"A", True]]]],
            [[b"s" * 16, [], [], [[b"A", 2**40]]]], [[b"s" * 16, [], [], [["A", 1]]]],
        ]  # fmt: skip
        for number, field in enumerate(bad):
            link = self.solo.extended(b"Bad%d" % number, address=None)
            self.solo.receive(link, ext(Kind.RECEIPT, field))
            self.assertIsInstance(self.solo.closed(link), BadExtension, field)
        self.assertEqual(len(self.receipts), 0)

    @given(st.one_of(values, st.lists(st.lists(values, max_size=5), max_size=5)))
    def test_any_value_is_read_or_refused(self, field):
        """Nothing else is raised."""
        with contextlib.suppress(BadExtension):
            read_rows(field)


names = st.sampled_from("abcdefg")


class MeshTests(SynchronousTestCase):
    """Real nodes that give each other receipts."""

    def confirm(self, host, text, timeout=10.0):
        node, now = host.node, host.world.now
        message = node.composer.mark(node.composer.compose(0, 0, [text], host.wall), 10)
        token, actions = node.expect_receipts(message, timeout, now)
        host.perform(actions)
        host.perform(node.broadcast([message], now))
        return token

    def receipt(self, net, host, token):
        for action in host.all(Receipted):
            if action.token == token:
                named = [
                    {net.name_of(one) for one in some}
                    for some in (action.receipt.delivered, action.receipt.missing)
                ]
                return (*named, action.receipt.complete)
        return None

    def test_along_a_chain(self):
        """The farthest is known as well as the nearest."""
        net = Net(*"abcdef")
        net.chain(*"abcdef")
        token = self.confirm(net["a"], "storm")
        net.advance(3)
        self.assertEqual(self.receipt(net, net["a"], token), (set("bcdef"), set(), True))

    def test_who_dies_is_named(self):
        """Everybody else has confirmed."""
        net = Net(*"abcdef")
        net.chain(*"abcdef")
        self.confirm(net["a"], "storm")
        net.advance(3)
        net.silence("e", "f")
        token = self.confirm(net["a"], "rain", 4.0)
        net.advance(5)
        self.assertEqual(self.receipt(net, net["a"], token), (set("bcde"), {"f"}, False))

    @given(
        st.sets(st.tuples(names, names).filter(lambda pair: pair[0] < pair[1]), max_size=8),
        st.lists(st.tuples(names, names), max_size=4),
        names,
    )
    def test_links_that_end_lose_no_receipts(self, more, cuts, origin):
        """Whatever the mesh looks like, as long as it holds together by a ring."""
        net = Net(*"abcdefg")
        ring = list(zip("abcdefg", "bcdefga", strict=True))
        net.ways = {frozenset(pair) for pair in (*ring, *more)}
        for one, other in (*ring, *sorted(more)):
            net[one].connect(net[other].address)
            net.advance(0.1)
        net.advance(4.0)
        token = self.confirm(net[origin], "storm")
        net.settle()
        for one, other in cuts:
            net.cut(one, other)
            net.advance(0.03)
        net.advance(11)
        delivered, missing, complete = self.receipt(net, net[origin], token)
        got = {
            name
            for name in "abcdefg"
            if name != origin and [1 for it, _ in net[name].delivered if it.payload[1] == "storm"]
        }
        self.assertEqual((delivered, missing, complete), (got, set(), True))
        self.assertEqual(got, set("abcdefg") - {origin})
