"""Tests of `py2p_twisted.core.routing`: replies back along the way of their message."""

from hashlib import sha256
from itertools import pairwise

from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core import flags
from py2p_twisted.core.actions import Dropped, Replied
from py2p_twisted.core.extension import Kind
from py2p_twisted.core.message import with_appendix
from py2p_twisted.core.routing import LARGEST, LONGEST, MOST_HOPS, TOKEN
from py2p_twisted.errors import BadExtension, MeshClosed, ReplyFailed, TooManyContentErrors
from tests.core.extended import Mesh, Net, ext
from tests.core.support import WALL, frame, pack_body, whisper

T1, T2 = b"token..1", b"token..2"


def body(*packets, sub=2, flag=flags.WHISPER, sender=b"Far"):
    """A reply, as it travels."""
    return pack_body(flag, sender, WALL, sub, *packets)


class RoutingCase(SynchronousTestCase):
    """A node in the middle: ``near`` brought a message, ``far`` wants to answer it."""

    def setUp(self):
        self.build()

    def build(self, **options):
        self.solo = Mesh(**options)
        self.near = self.solo.neighbour(b"Near", address=None)
        self.far = self.solo.neighbour(b"Far", address=None)
        self.message = self.solo.said(self.near, "question", sender=b"Origin")
        self.short = self.message.id[:16]
        self.routing = self.solo.node.mesh.routing
        self.solo.actions.clear()

    def route(self, link=None, *, token=T1, target=b"Origin", short=None, hops=5, reply=None):
        """A reply comes along."""
        link = link or self.far
        short = self.short if short is None else short
        reply = body("yes") if reply is None else reply
        self.solo.receive(link, ext(Kind.ROUTED, token, target, short, hops, reply))

    def wait(self, seconds):
        """Time passes, in which the neighbours show that they are there."""
        for _ in range(int(2 * seconds)):
            self.solo.advance(0.5)
            for link in (self.near, self.far):
                self.solo.receive(link, ext(99, time=int(self.solo.wall)))

    def routed(self, link):
        return self.solo.frames(link, Kind.ROUTED)

    def answers(self, link):
        return self.solo.frames(link, Kind.ROUTED_ANSWER)

    def replied(self):
        return [(action.token, type(action.error)) for action in self.solo.all(Replied)]


class PassingTests(RoutingCase):
    def test_a_reply_goes_on_to_who_brought_the_message(self):
        """With a hop less, and otherwise as it came."""
        self.route()
        self.assertEqual(self.routed(self.near), [(T1, b"Origin", self.short, 4, body("yes"))])
        self.assertEqual(self.answers(self.far), [])
        self.assertEqual(self.solo.effects.delivered[1:], [])

    def test_the_answer_goes_back_once(self):
        """Whatever it is."""
        for arrived, token in ((1, T1), (0, T2)):
            self.route(token=token)
            for _ in range(2):
                self.solo.receive(self.near, ext(Kind.ROUTED_ANSWER, token, arrived))
            self.assertEqual(self.answers(self.far)[arrived - 1 :][-1:], [(token, arrived)])
        self.assertEqual(self.answers(self.far), [(T1, 1), (T2, 0)])
        self.assertEqual(len(self.routing), 0)

    def test_who_is_gone_is_not_told(self):
        """The answer ends here."""
        self.route()
        self.solo.lost(self.far)
        written = len(self.solo.effects.written)
        self.solo.receive(self.near, ext(Kind.ROUTED_ANSWER, T1, 1))
        self.assertEqual(len(self.solo.effects.written), written)
        self.assertEqual(len(self.routing), 0)

    def test_a_neighbour_gets_it_directly(self):
        """Whoever brought the message."""
        other = self.solo.neighbour(b"Origin", address=None)
        self.route()
        self.assertEqual(len(self.routed(other)), 1)
        self.assertEqual(self.routed(self.near), [])

    def test_a_plain_neighbour_gets_a_whisper_and_it_has_arrived(self):
        """It knows nothing of tokens."""
        plain = self.solo.peer(b"Origin", address=None)
        self.route(reply=body("yes", 5))
        self.assertEqual(self.solo.effects.to(plain, 2), [(2, "yes", 5)])
        self.assertEqual(self.answers(self.far), [(T1, 1)])
        self.assertEqual(len(self.solo.frames(plain)), 1)  # HELLO

    def test_a_reply_to_us_arrives_once(self):
        """And is answered each time, as an answer may have been lost."""
        for _ in range(3):
            self.route(target=b"Me")
        self.assertEqual(self.solo.effects.inbox[1:], [("yes",)])
        self.assertEqual(self.answers(self.far), [(T1, 1)] * 3)

    def assert_refused(self, **options):
        before = [len(self.routed(link)) for link in (self.near, self.far)]
        self.route(**options)
        link = options.get("link") or self.far
        self.assertEqual(self.answers(link)[-1], (options.get("token", T1), 0))
        self.assertEqual([len(self.routed(link)) for link in (self.near, self.far)], before)
        self.assertIsNone(self.solo.closed(link))

    def test_the_way_ends_where_the_message_is_not_held(self):
        """Any more, or at all."""
        self.assert_refused(short=b"\0" * 16)

    def test_the_way_ends_at_our_own_messages(self):
        """Their origin is here, and somebody else is meant."""
        message = self.solo.broadcast("ours")
        self.assert_refused(short=message.id[:16])

    def test_the_way_ends_where_a_link_is_gone(self):
        """Whoever brought the message is no neighbour any more."""
        self.solo.lost(self.near)
        self.route()
        self.assertEqual(self.answers(self.far), [(T1, 0)])

    def test_the_way_ends_at_a_plain_node(self):
        """It would not know what to do with it."""
        plain = self.solo.peer(b"Plain", address=None)
        message = self.solo.said(plain, "by a plain node", sender=b"Origin")
        written = len(self.solo.effects.to(plain))
        self.assert_refused(short=message.id[:16])
        self.assertEqual(len(self.solo.effects.to(plain)), written)

    def test_nothing_goes_back_to_where_it_came_from(self):
        """It would go to and fro."""
        self.assert_refused(link=self.near)
        self.assert_refused(link=self.near, target=b"Near")

    def test_hops_come_to_an_end(self):
        """With the last one, and a lie about them does not help."""
        self.assert_refused(hops=0)
        self.assert_refused(hops=-5, token=T2)
        self.route(hops=1, token=b"token..3")
        self.assertEqual(self.routed(self.near)[-1][3], 0)
        self.route(hops=2**60, token=b"token..4")
        self.assertEqual(self.routed(self.near)[-1][3], MOST_HOPS - 1)

    def test_what_comes_by_twice_has_gone_in_a_circle(self):
        """The second time it is not passed on."""
        self.route()
        other = self.solo.neighbour(b"Other", address=None)
        self.assert_refused(link=other)
        self.assertEqual(self.solo.closed(self.far), None)
        self.solo.receive(self.near, ext(Kind.ROUTED_ANSWER, T1, 1))
        self.assertEqual(self.answers(self.far), [(T1, 1)])

    def test_a_reply_of_ours_that_comes_by_has_gone_in_a_circle(self):
        """Then we know at once that it does not arrive."""
        token = self.solo.answer(b"Origin", self.message, "ours")
        (frame,) = self.routed(self.near)
        self.route(token=frame[0], short=frame[2], reply=frame[4])
        self.assertEqual(self.answers(self.far), [(frame[0], 0)])
        self.solo.receive(self.near, ext(Kind.ROUTED_ANSWER, frame[0], 1))
        self.assertEqual(self.replied(), [(token, type(None))])

    def test_who_does_not_keep_up_gets_no_replies_of_others(self):
        """They would wait in its queue."""
        self.near.congested = True
        self.assert_refused()

    def test_large_replies_are_not_passed_on(self):
        """Whoever made them should have known."""
        self.assert_refused(reply=body(b"x" * (LARGEST + TOKEN)))
        self.route(token=T2, reply=body(b"x" * (LARGEST - 100)))
        self.assertEqual(len(self.routed(self.near)), 1)

    def test_replies_on_their_way_are_bounded(self):
        """The oldest is forgotten; whoever made it will not wait for ever."""
        self.build(routed_replies=10)
        for number in range(30):
            self.route(token=b"%8d" % number)
        self.assertEqual(len(self.routing), 10)
        for number in (0, 29):
            self.solo.receive(self.near, ext(Kind.ROUTED_ANSWER, b"%8d" % number, 1))
        self.assertEqual(self.answers(self.far), [(b"%8d" % 29, 1)])

    def test_replies_that_nobody_waits_for_any_more_are_forgotten(self):
        """With the next one that comes by: no answer to them is of any use."""
        self.route(token=T1)
        self.wait(LONGEST - 1)
        self.route(token=T2)
        self.assertEqual(len(self.routing), 2)
        self.wait(1.5)
        self.route(token=b"token..3")
        self.assertEqual(list(self.routing._passed), [T2, b"token..3"])
        for token in (T1, T2):
            self.solo.receive(self.near, ext(Kind.ROUTED_ANSWER, token, 1))
        self.assertEqual(self.answers(self.far), [(T2, 1)])
        self.wait(LONGEST)
        self.route(token=b"token..4")
        self.assertEqual(len(self.routing), 1)

    def test_replies_to_us_are_remembered_within_bounds(self):
        """Those of both ways."""
        self.build(routed_replies=10)
        for number in range(50):
            self.route(target=b"Me", token=b"%8d" % number, reply=body(number))
            self.solo.receive(self.near, whisper(2, number))
        self.assertEqual(len(self.routing._taken), 10)
        self.assertEqual(len(self.routing._direct), 10)

    def test_ids_of_a_wrong_length_cost_the_link(self):
        """Nobody who speaks the extension writes such."""
        for token, short in ((b"", b"s" * 16), (b"t" * 9, b"s" * 16), (b"t" * 8, b"s" * 8)):
            self.build()
            self.route(token=token, short=short)
            self.assertIsInstance(self.solo.closed(self.far), BadExtension)

    def test_an_answer_to_nothing_is_passed_over(self):
        """It may be late."""
        self.solo.receive(self.near, ext(Kind.ROUTED_ANSWER, T1, 1))
        self.solo.receive(self.near, ext(Kind.ROUTED_ANSWER, b"", 7))
        self.assertIsNone(self.solo.closed(self.near))


class SmuggledTests(RoutingCase):
    #: What nodes act on themselves, in every form in which it is the same number.
    PRIVATE = (1, 5, 7, 8, 9, 10, *range(0x21, 0x30), True, 1.0, 5.0, 7.0, 8.0, 9.0, 10.0, 46.0)

    def test_nothing_that_nodes_act_on_can_be_smuggled_in(self):
        """Neither to us nor, in our name, to a plain neighbour."""
        for sub in self.PRIVATE:
            for target in (b"Me", b"Plain"):
                self.build()
                plain = self.solo.peer(b"Plain", address=None)
                self.solo.actions.clear()
                had = len(self.solo.effects.to(plain))
                self.route(target=target, reply=body("x", [], {}, b"*", sub=sub))
                self.assertEqual(len(self.solo.effects.to(plain)), had, (sub, target))
                self.assertEqual(self.solo.effects.inbox[1:], [])
                self.assertEqual(self.answers(self.far), [(T1, 0)])
                self.assertEqual(len(self.solo.all(Dropped)), 1)

    def test_nor_anything_that_is_no_whisper(self):
        """A broadcast would go on."""
        for flag in (0, 1, 3, 2.0, True, "2"):
            self.build()
            self.route(target=b"Me", reply=body("x", flag=flag))
            self.assertEqual(self.solo.effects.inbox[1:], [])
            self.assertEqual(self.answers(self.far), [(T1, 0)])

    def test_nor_what_is_no_message(self):
        """Any bytes."""
        for data in (b"", b"\xc1", b"junk", pack_body(2), pack_body(2, b"a", 1), b"\xc0" * 70_000):
            self.build()
            self.route(target=b"Me", reply=data)
            self.assertEqual(self.solo.effects.inbox[1:], [])
            self.assertEqual(self.answers(self.far), [(T1, 0)])
            self.assertIsNone(self.solo.closed(self.far))

    def test_applications_may_reply_with_sub_flags_of_their_own(self):
        """Those from 48 on, texts, and what is ordinary."""
        subs = (0, 2, 48, 1000, "text", b"bytes", None)
        for number, sub in enumerate(subs):
            self.route(target=b"Me", token=b"%8d" % number, reply=body(sub=sub))
        got = [message.payload[0] for message, _ in self.solo.effects.delivered[1:]]
        self.assertEqual(got, list(subs))

    def test_whoever_passes_on_has_looked(self):
        """Else it would be blamed for what others made, by whoever reads it."""
        for number in range(5):
            self.route(token=b"%8d" % number, reply=body("x", number, sub=5))
        self.assertEqual(self.routed(self.near), [])
        for number in range(5, 30):
            self.route(token=b"%8d" % number, reply=body("x", number, sub=5))
        self.assertIsInstance(self.solo.closed(self.far), TooManyContentErrors)
        self.assertIsNone(self.solo.closed(self.near))


class OwnTests(RoutingCase):
    """Replies of our own, to the message that ``near`` has brought."""

    def test_a_reply_is_sent_back_the_way_its_message_came(self):
        """And has arrived when the answer says so."""
        token = self.solo.answer(b"Origin", self.message, "ours")
        ((routed, target, short, hops, data),) = self.routed(self.near)
        self.assertEqual((target, short, hops), (b"Origin", self.short, MOST_HOPS))
        self.assertEqual(self.replied(), [])
        self.assertTrue(data.endswith(routed))
        message = self.solo.node.read_routed(data)
        self.assertEqual((message.sender, message.payload), (b"Me", (2, "ours")))
        self.solo.receive(self.near, ext(Kind.ROUTED_ANSWER, routed, 1))
        self.assertEqual(self.replied(), [(token, type(None))])
        self.solo.advance(60.0)
        self.assertEqual(len(self.solo.all(Replied)), 1)
        self.assertEqual(len(self.routing), 0)

    def test_equal_replies_are_several(self):
        """Each has a token of its own."""
        for _ in range(3):
            self.solo.answer(b"Origin", self.message, "same")
        frames = self.routed(self.near)
        self.assertEqual(len({frame[0] for frame in frames}), 3)
        self.assertEqual(len({sha256(frame[4]).digest() for frame in frames}), 3)

    def requests(self):
        """Who was asked where the origin lives."""
        return [
            link.id
            for message, link in self.solo.effects.written
            if message.flag == 0 and message.payload[0] == flags.REQUEST
        ]

    def test_no_answer_is_as_good_as_none(self):
        """The other way is taken, with the same message, so that it is known if it comes twice."""
        self.solo.answer(b"Origin", self.message, "ours")
        ((routed, *_, data),) = self.routed(self.near)
        self.assertEqual(self.requests(), [])
        self.solo.receive(self.near, ext(Kind.ROUTED_ANSWER, routed, 0))
        self.assertEqual(sorted(self.requests()), [b"Far", b"Near"])
        link = self.solo.peer(b"Origin", address=None)
        (sent,) = [m for m, to in self.solo.effects.written if to is link and m.payload[0] == 2]
        self.assertEqual(bytes(sent.body), data)
        self.assertEqual(len(self.solo.all(Replied)), 1)

    def silence(self, seconds):
        """Time passes, and neighbours are alive but do not answer."""
        begun = self.solo.now
        while self.solo.now < begun + seconds:
            self.solo.advance(0.5)
            for link in self.solo.node.links.open:
                self.solo.receive(link, ext(99))

    def test_silence_is_not_waited_for_without_end(self):
        """After half of the time the other way is tried."""
        self.solo.answer(b"Origin", self.message, "ours")
        self.silence(4.5)
        self.assertEqual(self.requests(), [])
        self.silence(1.0)
        self.assertEqual(sorted(self.requests()), [b"Far", b"Near"])

    def test_failure_is_told_within_the_time_for_replies(self):
        """Whichever ways were tried."""
        for answered in (False, True):
            self.build()
            token = self.solo.answer(b"Origin", self.message, "ours")
            if answered:
                self.silence(2.0)
                routed = self.routed(self.near)[0][0]
                self.solo.receive(self.near, ext(Kind.ROUTED_ANSWER, routed, 0))
            self.silence(10.5 - 2.0 * answered)
            self.assertEqual(self.replied(), [(token, ReplyFailed)])

    def test_an_answer_that_comes_too_late_changes_nothing(self):
        """One outcome for every reply."""
        self.solo.answer(b"Origin", self.message, "ours")
        routed = self.routed(self.near)[0][0]
        self.silence(30.0)
        self.assertEqual(len(self.solo.all(Replied)), 1)
        self.solo.receive(self.near, ext(Kind.ROUTED_ANSWER, routed, 1))
        self.assertEqual(len(self.solo.all(Replied)), 1)

    def test_a_lost_link_on_the_way_is_noticed_by_its_time(self):
        """The neighbour that was to pass it on has gone, and the answer with it."""
        self.solo.answer(b"Origin", self.message, "ours")
        self.solo.lost(self.near)
        self.silence(5.5)
        self.assertEqual(self.requests(), [b"Far"])

    def assert_searched(self):
        self.assertEqual(self.routed(self.near), [])
        self.assertNotEqual(self.requests(), [])

    def test_a_message_by_a_plain_node_is_answered_as_in_06(self):
        """Request, response, dial."""
        plain = self.solo.peer(b"Plain", address=None)
        message = self.solo.said(plain, "by a plain node", sender=b"Origin2")
        self.solo.answer(b"Origin2", message, "ours")
        self.assert_searched()
        self.assertEqual(len(self.solo.frames(plain)), 1)

    def test_a_message_that_is_not_held_any_more_too(self):
        """Nobody remembers which way it came."""
        self.build(retention_messages=2)
        for number in range(10):
            self.solo.said(self.near, number)
        self.solo.answer(b"Origin", self.message, "ours")
        self.assert_searched()

    def test_large_replies_have_a_connection_of_their_own(self):
        """They are not for others to carry."""
        self.solo.answer(b"Origin", self.message, b"x" * LARGEST)
        self.assert_searched()

    def test_a_reply_on_its_way_is_no_larger_than_a_message(self):
        """Others close who brings a frame beyond the limit."""
        self.build(max_message=4096)
        for size in range(3000, 4040, 10):
            self.solo.answer(b"Origin", self.message, b"x" * size)
        for message, link in self.solo.effects.written:
            if link is self.near:
                self.assertLessEqual(len(message.body), 4096)
        self.assertNotEqual(self.routed(self.near), [])

    def test_a_neighbour_is_whispered_to(self):
        """As ever."""
        token = self.solo.answer(b"Near", self.message, "ours")
        self.assertEqual(self.routed(self.near), [])
        self.assertEqual(self.replied(), [(token, type(None))])

    def test_without_knowing_what_is_answered_the_node_is_searched_for(self):
        """The application may reply to an id."""
        self.solo.reply(b"Origin", "ours")
        self.assert_searched()

    def test_replies_of_ours_are_bounded(self):
        """More of them go the other way."""
        self.build(routed_replies=5)
        for _ in range(8):
            self.solo.answer(b"Origin", self.message, "ours")
        self.assertEqual(len(self.routed(self.near)), 5)
        self.assertEqual(len(self.routing), 5)
        self.assertNotEqual(self.requests(), [])

    def test_when_the_node_closes_every_reply_has_its_outcome(self):
        """Nobody waits for ever."""
        tokens = [self.solo.answer(b"Origin", self.message, "ours") for _ in range(4)]
        self.solo.note(self.solo.node.close(self.solo.now, self.solo.wall))
        self.assertEqual(self.replied(), [(token, MeshClosed) for token in tokens])


class TwiceTests(RoutingCase):
    """A reply may come both ways: the answer was lost, or somebody was slow."""

    def test_first_along_the_tree_then_over_its_own_link(self):
        """It arrives once."""
        self.route(target=b"Me", reply=body("yes") + T1)
        self.solo.receive(self.near, self.direct(T1))
        self.assertEqual(self.solo.effects.inbox[1:], [("yes",)])

    def test_first_over_its_own_link_then_along_the_tree(self):
        """Somebody on the way had no turn for a while."""
        self.solo.receive(self.near, self.direct(T1))
        self.route(target=b"Me", reply=body("yes") + T1)
        self.assertEqual(self.solo.effects.inbox[1:], [("yes",)])
        self.assertEqual(self.answers(self.far), [(T1, 1)])

    def direct(self, token):
        return frame(body("yes") + token)

    def test_equal_whispers_over_a_link_of_their_own_are_several(self):
        """As they have always been."""
        for _ in range(3):
            self.solo.receive(self.near, whisper(2, "same", sender=b"Near"))
        self.assertEqual(self.solo.effects.inbox[1:], [("same",)] * 3)

    def test_equal_replies_are_several(self):
        """Their tokens differ."""
        self.route(target=b"Me", token=T1, reply=body("yes") + T1)
        self.route(target=b"Me", token=T2, reply=body("yes") + T2)
        self.assertEqual(self.solo.effects.inbox[1:], [("yes",)] * 2)

    def test_the_token_is_no_part_of_what_is_said(self):
        """It stands behind the array."""
        message = self.solo.node.composer.compose(flags.WHISPER, 2, ("yes",), WALL)
        marked = with_appendix(message, T1)
        self.assertNotEqual(marked.id, message.id)
        self.assertEqual(self.solo.node.read_routed(bytes(marked.body)).payload, (2, "yes"))


class RealTests(SynchronousTestCase):
    """Real nodes in a row: ``a`` says something, the last one answers."""

    def row(self, *names, plain=(), **options):
        net = Net(*[name for name in names if name not in plain], **options)
        for name in plain:
            net.add(name, extensions=False)
        net.chain(*names)
        for one, other in pairwise(names):
            self.assertIn(other, net[one].peers)
        self.assertEqual(len(net[names[0]].peers), 1)
        net[names[0]].broadcast("question")
        net.advance(1.0)
        for name in names[1:]:
            self.assertEqual(net[name].inbox, [("question",)], name)
        return net

    def outcome(self, net, name, token):
        return [type(it.error) for it in net[name].all(Replied) if it.token == token]

    def test_over_many_hops_no_connection_is_made(self):
        """Two, three, and six of them."""
        for names in ("abc", "abcd", "abcdefg"):
            net = self.row(*names)
            last = names[-1]
            net.settle()
            token = net.answer(last, "question", "answer", last)
            net.settle()
            self.assertEqual(net["a"].inbox, [("answer", last)])
            self.assertEqual(self.outcome(net, last, token), [type(None)])
            self.assertNotIn(last, net["a"].peers)
            self.assertEqual(net[last].node.mesh.counters["replies routed"], 1)
            passed = [net[name].node.mesh.counters["replies passed on"] for name in names]
            self.assertEqual(passed, [0, *[1] * (len(names) - 2), 0])
            for host in net.hosts.values():
                self.assertEqual(len(host.node.mesh.routing), 0)

    def test_everybody_answers_at_once(self):
        """Each answer arrives, once."""
        names = "abcdef"
        net = self.row(*names)
        for name in names[1:]:
            for number in range(20):
                net.answer(name, "question", name, number)
        net.advance(5.0)
        wanted = [(name, number) for name in names[1:] for number in range(20)]
        self.assertEqual(sorted(net["a"].inbox), wanted)

    def test_a_plain_node_as_the_receiver(self):
        """Its neighbour whispers to it."""
        net = self.row(*"abcd", plain="a")
        token = net.answer("d", "question", "answer")
        net.settle()
        self.assertEqual(net["a"].inbox, [("answer",)])
        self.assertEqual(self.outcome(net, "d", token), [type(None)])

    def test_a_plain_node_on_the_way(self):
        """Then as in 0.6: request, response, dial."""
        net = self.row(*"abcd", plain="c")
        net.ways = None
        token = net.answer("d", "question", "answer")
        net.advance(3.0)
        self.assertEqual(net["a"].inbox, [("answer",)])
        self.assertEqual(self.outcome(net, "d", token), [type(None)])

    def test_a_plain_node_that_answers(self):
        """As in 0.6; nobody else does anything for it."""
        net = self.row(*"abcd", plain="d")
        net.ways = None
        token = net.answer("d", "question", "answer")
        net.advance(3.0)
        self.assertEqual(net["a"].inbox, [("answer",)])
        self.assertEqual(self.outcome(net, "d", token), [type(None)])

    def test_a_way_that_has_broken_meanwhile(self):
        """The answer is no, at once, and the other way is taken."""
        net = self.row(*"abcde")
        net.ways = {frozenset("de"), frozenset("ae"), frozenset("bd")}
        net["b"].connect(net["d"].address)
        net.cut("b", "c")
        net.settle()
        token = net.answer("e", "question", "answer")
        net.advance(1.0)
        self.assertEqual(net["a"].inbox, [("answer",)])
        self.assertEqual(self.outcome(net, "e", token), [type(None)])

    def test_a_lost_answer_costs_time_and_nothing_else(self):
        """It comes over a link of its own as well, and arrives once."""
        net = self.row(*"abcd")
        net.answer("d", "question", "answer")
        net.runnable()[0][1]()  # it has come to c
        for _ in range(100):
            if net["a"].inbox:
                break
            net.runnable()[0][1]()
        self.assertEqual(net["a"].inbox, [("answer",)])
        net.cut("b", "c")
        net.ways = {frozenset("ad"), frozenset("ab"), frozenset("cd"), frozenset("bd")}
        net["b"].connect(net["d"].address)
        net.advance(20.0)
        self.assertEqual(net["a"].inbox, [("answer",)])
        self.assertEqual([it.error for it in net["d"].all(Replied)], [None])

    def test_a_slow_node_on_the_way_does_not_double_it(self):
        """It has no turn until the reply has come over a link of its own."""
        net = self.row(*"abcd")
        slow = net["b"]
        net.answer("d", "question", "answer")
        (end,) = net.between("b", "c")
        held = []
        for _ in range(100):
            while end.incoming:
                held.append(end.incoming.popleft())
            events = net.runnable()
            if not events:
                break
            events[0][1]()
        self.assertTrue(held)
        net.ways = None
        # As a node that is stopped by its debugger: alive again before it is given up.
        timers = net["d"].node.mesh.routing._own
        (own,) = timers.values()
        own.otherwise()
        timers.clear()
        net.settle()
        self.assertEqual(net["a"].inbox, [("answer",)])
        end.incoming.extend(held)
        net.settle()
        self.assertEqual(net["a"].inbox, [("answer",)])
        self.assertIn("a", slow.peers)
