"""
Tests of `py2p_twisted.core.mesh_ext`: mesh-ext and 0.6 together, in real nodes.

Towards whom what is said; what frames cost that make no sense; what the extension keeps through
everything that links can do; and that nobody can make it grow, or fail.
"""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core import flags
from py2p_twisted.core.actions import (
    ClockDisagreement,
    Close,
    Dial,
    Dropped,
    Gap,
    Joined,
    Left,
    Replaced,
    Settled,
)
from py2p_twisted.core.connection import State
from py2p_twisted.core.dialer import LEARNED_PAUSE
from py2p_twisted.core.extension import PAGE, VERSION, Kind
from py2p_twisted.core.policy import ExtendedPolicy, PlainPolicy
from py2p_twisted.errors import (
    BadExtension,
    ContentError,
    DuplicateConnection,
    LinkError,
    LinkUnresponsive,
    TooManyContentErrors,
    Unreachable,
    ViewFull,
)
from tests import profile
from tests.core.extended import NONCE, Mesh, Net, ext, hello
from tests.core.support import WALL, Solo, handshake, raw, whisper
from tests.core.test_connection import values

profile.load()


def place(number):
    return (f"10.0.1.{number}", 4444)


def plain_number(value):
    """A kind as it stands on the wire."""
    return int(value) if isinstance(value, Kind) else value


def probing():
    """A node with a full view, the link by which it asks a stranger, and those of its view."""
    solo = Mesh(active_view=3, probe_interval=5.0)
    view = [solo.neighbour(b"N%d" % number, address=place(number)) for number in (1, 2, 3)]
    solo.receive(view[-1], ext(Kind.SHUFFLE, b"Far", 1, [[list(place(7)), b"Seven"]]))
    for _ in range(40):
        solo.advance(0.5)
        for one in view:
            solo.receive(one, ext(99))
        if dials := [dial for dial in solo.all(Dial) if dial.address == place(7)]:
            break
    link = solo.extended(b"Seven", dial=dials[0], address=place(7))
    assert link.ext.probe
    return solo, link, view


def hellos(solo, link):
    return solo.frames(link, Kind.HELLO)


# --- hello ---------------------------------------------------------------------------


class HelloTests(SynchronousTestCase):
    def test_every_peer_gets_one_with_three_packets_behind_its_kind(self):
        """What a handler reads that is written as the documents of 0.6 show is there."""
        solo = Mesh()
        link = solo.peer()
        (message,) = [
            message
            for message, to in solo.effects.written
            if to is link and message.payload[0] == flags.EXTENSION
        ]
        self.assertEqual(message.items[:3], (flags.WHISPER, b"Me", WALL))
        sub, kind, version, caps, nonce = message.payload
        self.assertEqual((sub, kind, version, caps), (0x2E, 1, VERSION, 0))
        self.assertEqual((type(nonce), len(nonce)), (bytes, 8))

    def test_it_comes_behind_the_handshake_and_before_the_list(self):
        """A list that comes without it is a plain node's; also that of a node that is full."""
        solo = Mesh(max_inbound=1)
        link = solo.accept()
        self.assertEqual(hellos(solo, link), [])
        solo.receive(link, handshake(b"A"))
        late = solo.peer(b"B")
        self.assertIsNotNone(solo.closed(late))
        for one in (link, late):
            subs = [payload[0] for payload in solo.effects.to(one)]
            self.assertEqual(subs, [flags.HANDSHAKE, flags.EXTENSION, flags.PEERS])

    def test_nobody_else_gets_it(self):
        """Who is of another network, say."""
        solo = Mesh()
        link = solo.accept()
        solo.receive(link, handshake(b"A", network=b"another"))
        self.assertEqual(hellos(solo, link), [])

    def test_who_sends_a_list_without_it_is_plain(self):
        """Known at once; who sends neither, after two seconds; who has announced it, never."""
        solo = Mesh()
        listing, silent, extended = solo.peer(b"A"), solo.peer(b"B"), solo.extended(b"C")

        def settled():
            return [action.link for action in solo.all(Settled)]

        self.assertEqual(settled(), [])
        for link in (listing, extended):
            solo.receive(link, whisper(flags.PEERS, []))
        self.assertEqual(settled(), [listing])
        solo.advance(2.0)
        self.assertEqual(settled(), [listing, silent])

    def test_who_announces_it_later_is_no_plain_node_after_all(self):
        """Such as a node that had two connections to us, and did not know yet which one stays."""
        solo = Mesh()
        link = solo.peer(b"A", address=("10.0.0.7", 4444))
        solo.receive(link, whisper(flags.PEERS, []))
        self.assertEqual(len(solo.node.mesh.shepherd), 1)
        solo.receive(link, hello())
        self.assertEqual(len(solo.node.mesh.shepherd), 0)

    def test_plain_nodes_are_not_looked_after_at_once(self):
        """The first look has its time, whenever the clock was asked last."""
        solo = Mesh()
        solo.advance(1.0)
        solo.now += 1000.0
        link = solo.peer(b"A", address=("10.0.0.7", 4444))
        asked = len(solo.effects.to(link, flags.REQUEST))
        solo.receive(link, whisper(flags.PEERS, []))
        solo.advance(1.0)
        self.assertEqual(len(solo.effects.to(link, flags.REQUEST)), asked)

    def test_once_on_each_connection_whatever_comes(self):
        """Handshakes again, hellos again, lists, questions, and messages."""
        solo = Mesh()
        link = solo.extended()
        said = (
            handshake(b"Ext"), hello(), hello(nonce=b"12345678"), hello(2, 3), raw(0, "x"),
            whisper(flags.PEERS, []), whisper(flags.REQUEST, b"*"), ext(Kind.PING, 1, 0),
        )  # fmt: skip
        for data in said * 2:
            solo.receive(link, data)
        solo.advance(4.0)
        self.assertEqual(len(hellos(solo, link)), 1)

    def test_each_connection_to_one_peer_gets_its_own(self):
        """What was announced on one says nothing on another."""
        solo = Mesh(b"2")
        first = solo.extended(b"A")
        second = solo.peer(b"A")
        self.assertIs(solo.node.links.table[b"A"], second)
        self.assertEqual([len(hellos(solo, link)) for link in (first, second)], [1, 1])
        self.assertIsNone(second.ext)

    def test_nonces_differ(self):
        """No two hellos are one message."""
        solo = Mesh()
        links = [solo.peer(b"%d" % number) for number in range(20)]
        self.assertEqual(len({hellos(solo, link)[0][2] for link in links}), 20)

    def test_a_plain_peer_gets_nothing_else_through_everything(self):
        """Joins, losses, floods, congestion, replies, lists, refused dials; for minutes."""
        solo = Mesh()
        plain = solo.peer(b"Plain", address=place(1))
        ours = [solo.neighbour(b"N%d" % number, address=place(10 + number)) for number in range(5)]
        message = solo.said(plain, "by a plain node", sender=b"Far")
        other = solo.said(ours[0], "by one of ours", sender=b"Far")
        for number in range(20):
            solo.said(ours[number % 5], number, sender=b"O%d" % (number % 3))
            solo.said(plain, ("p", number).__repr__())
            solo.broadcast(number)
            solo.advance(0.7)
            for link in ours:
                solo.receive(link, ext(99))
        for congested in (True, False):
            plain.congested = congested
            solo.broadcast("congested", congested)
            solo.note(solo.node.drained(plain, solo.now, solo.wall))
        solo.answer(b"Far", message, "one")
        solo.answer(b"Far", other, "two")
        solo.receive(ours[1], ext(Kind.ROUTED, NONCE, b"Plain", b"s" * 16, 3, b""))
        solo.receive(plain, whisper(flags.REQUEST, b"*"))
        solo.receive(plain, raw(0, "by a plain node", sender=b"Far"))  # again
        for link in ours:
            solo.lost(link, Unreachable("cut"))
            solo.advance(1.0)
        for dial in solo.all(Dial):
            solo.refuse(dial)
        solo.advance(120.0)
        again = solo.peer(b"Plain", address=place(1))
        solo.lost(plain)
        back = solo.peer(b"Plain", address=place(1))
        solo.advance(60.0)
        for link in (plain, again, back):
            sent = solo.effects.to(link, flags.EXTENSION)
            self.assertLessEqual(len(sent), 1)
            self.assertIsInstance(link.policy, PlainPolicy)
            self.assertNotIsInstance(link.policy, ExtendedPolicy)
            for message, to in solo.effects.written:
                # Nor a frame without a sender, nor off the grid.
                if to is link:
                    self.assertNotEqual(message.sender, b"")
                    self.assertEqual(len(link.policy.frame(message)) % 8, 0)

    def test_without_extensions_nothing_is_said_or_understood(self):
        """Plain 0.6, as before there was anything else."""
        solo = Solo()
        link = solo.peer()
        solo.receive(link, hello())
        solo.receive(link, ext(Kind.PING, 1, 0))
        solo.broadcast("x")
        solo.advance(60.0)
        self.assertEqual(solo.effects.to(link, flags.EXTENSION), [])
        self.assertEqual(solo.node.drops["unknown extension"], 2)
        self.assertEqual(solo.effects.inbox, [])
        self.assertIsNone(link.ext)
        self.assertIsNone(solo.closed(link))
        self.assertEqual(len(solo.node.mesh.recent), 0)

    def test_without_extensions_a_node_does_what_it_did(self):
        """Action by action and frame by frame, with and without peers that speak them."""

        def life(solo):
            link = solo.peer(b"A", address=place(1))
            other = solo.peer(b"B", address=place(2))
            solo.receive(link, whisper(flags.PEERS, [[["10.0.1.7", 1], "C"]]))
            solo.broadcast("x")
            solo.receive(link, raw(0, "y"))
            solo.advance(30.0)
            solo.lost(other, Unreachable("cut"))
            solo.reply(b"Far", "z")
            solo.advance(60.0)
            return [(message.payload, to.id) for message, to in solo.effects.written], [
                type(action) for action in solo.actions
            ]

        plain, silent = life(Solo()), life(Solo())
        self.assertEqual(plain, silent)
        self.assertNotIn(Gap, plain[1])
        self.assertFalse([it for it, _ in plain[0] if it[0] == flags.EXTENSION])

    def test_two_nodes_of_ours_without_extensions_see_plain_peers(self):
        """Real ones: one with, one without."""
        net = Net("a")
        net.add("b", extensions=False)
        net["a"].connect(net["b"].address)
        net.advance(30.0)
        net["a"].broadcast("x")
        net["b"].broadcast("y")
        net.settle()
        self.assertEqual((net["a"].inbox, net["b"].inbox), ([("y",)], [("x",)]))
        self.assertEqual(net["b"].node.drops, {"unknown extension": 1})
        self.assertEqual(net["a"].node.mesh.sizes()["active view"][0], 0)


class UnderstoodTests(SynchronousTestCase):
    """What comes from peers that say they speak the extension, or do not."""

    def setUp(self):
        self.solo = Mesh()

    def test_with_its_hello_a_peer_is_extended(self):
        """Its frames take another form, and it is asked for a sign of life."""
        link = self.solo.extended()
        self.assertIsInstance(link.policy, ExtendedPolicy)
        self.assertEqual((link.ext.version, link.ext.caps), (1, 0))
        self.assertEqual(len(self.solo.frames(link, Kind.PING)), 1)
        self.assertEqual(self.solo.effects.inbox, [])

    def test_higher_versions_are_spoken_to_in_ours(self):
        """What they add is passed over."""
        link = self.solo.peer(b"New")
        self.solo.receive(
            link, whisper(flags.EXTENSION, 1, 7, 2**63, NONCE, "more", [1], sender=b"")
        )
        self.assertEqual((link.ext.version, link.ext.caps), (7, 2**63))
        self.solo.receive(link, ext(Kind.NEIGHBOR, 1, "more"))
        self.assertTrue(link.ext.active)

    def test_no_version_at_all_is_no_announcement(self):
        """Nothing is said to such a peer."""
        for version in (0, -1):
            solo = Mesh()
            link = solo.peer()
            solo.receive(link, hello(version))
            self.assertIsNone(link.ext)
            self.assertEqual(len(solo.frames(link)), 1)

    def test_a_hello_that_makes_no_sense_costs_one_message(self):
        """The peer may be of another make."""
        bad = (
            (None, 0, NONCE), ("1", 0, NONCE), (1.0, 0, NONCE), (True, 0, NONCE), (1, None, NONCE),
            (1, 0, "12345678"), (1, 0, None), (1, [], NONCE),
        )  # fmt: skip
        for fields in bad:
            solo = Mesh()
            link = solo.peer()
            for data in (hello(*fields), whisper(flags.EXTENSION, 1), whisper(flags.EXTENSION)):
                solo.receive(link, data)
            self.assertIsNone(link.ext)
            self.assertIsNone(solo.closed(link))
            self.assertEqual(solo.node.drops[ContentError.reason] + solo.node.drops["bad field"], 3)

    def test_frames_without_a_kind_are_dropped_and_counted(self):
        """Also those of extended peers."""
        link = self.solo.extended()
        for kind in (None, "15", b"", 1.5, [], True):
            self.solo.receive(link, ext(kind))
        self.assertEqual(self.solo.node.drops["bad field"], 6)
        self.assertIsNone(self.solo.closed(link))

    def test_but_not_without_end(self):
        """As with all that makes no sense."""
        link = self.solo.extended()
        for number in range(11):
            self.solo.receive(link, ext(None, number))
        self.assertIsInstance(self.solo.closed(link), TooManyContentErrors)

    def test_unknown_kinds_are_counted_and_nothing_else(self):
        """Later versions have more."""
        link = self.solo.extended()
        before = len(self.solo.effects.written)
        for kind in (0, 23, 99, -1, 2**64 - 1):
            self.solo.receive(link, ext(kind, "anything"))
        self.assertEqual(self.solo.counters["unknown kinds"], 5)
        self.assertIsNone(self.solo.closed(link))
        self.assertEqual(len(self.solo.effects.written), before)

    def test_a_second_hello_changes_nothing(self):
        """Neither what the peer is nor what it has."""
        link = self.solo.neighbour()
        kept = link.ext
        self.solo.receive(link, hello(9, 9, b"another."))
        self.assertIs(link.ext, kept)
        self.assertEqual((kept.version, kept.active), (1, True))
        self.assertEqual(len(self.solo.frames(link, Kind.PING)), 1)

    def test_frames_before_the_hello_cost_that_link_alone(self):
        """Who has not announced the extension does not speak it."""
        other = self.solo.neighbour(b"Other", address=None)
        for kind in [kind for kind in Kind if kind is not Kind.HELLO]:
            link = self.solo.peer(b"Early%d" % kind, address=None)
            self.solo.receive(link, ext(kind, b"", b"", b"", 1, b""))
            self.assertIsInstance(self.solo.closed(link), LinkError)
            self.assertEqual(len(self.solo.frames(link)), 1)
        self.assertIsNone(self.solo.closed(other))
        self.assertTrue(other.ext.active)

    def test_flooded_frames_are_no_frames(self):
        """One message would speak to every node of the mesh in the name of its neighbour."""
        link, other = self.solo.peer(b"P"), self.solo.neighbour(b"Other", address=None)
        before = self.solo.frames(link), self.solo.frames(other)
        for fields in ((1, 1, 0, NONCE), (Kind.DISCONNECT,), (Kind.NEIGHBOR, 1), (Kind.PING, 1, 0)):
            data = raw(flags.EXTENSION, *map(plain_number, fields))
            self.solo.receive(link, data)
        self.assertIsNone(link.ext)
        self.assertEqual(self.solo.node.drops["unknown extension"], 4)
        sent = [to for message, to in self.solo.effects.written if message.sender == b"Peer"]
        self.assertEqual({to.id for to in sent}, {b"Other"})  # as all of 0.6, they go on
        self.assertEqual(self.solo.frames(link), before[0])
        self.assertEqual(self.solo.effects.inbox, [])
        self.assertIsNone(self.solo.closed(link))

    def test_no_form_of_a_number_makes_a_flooded_frame_a_frame_between_neighbours(self):
        """0.6 nodes on Python compare, so to them 5.0 is 5."""
        for sub in (5, 5.0, 7, 7.0, 8, 8.0):
            for make in (Solo, Mesh):
                solo = make()
                link, plain = solo.peer(b"P"), solo.peer(b"Q")
                had = len(solo.effects.to(plain))
                solo.receive(link, raw(sub, b"*", "x", ["10.0.0.1", 1], [1]))
                self.assertEqual(len(solo.effects.to(plain)), had, (sub, make))
                self.assertEqual(solo.effects.inbox, [])

    def test_pages_fit_whatever_the_limit_on_messages(self):
        """It is the application's, and others do not know it."""
        for limit in (1024, 4096, 16 * 1024):
            solo = Mesh(max_message=limit)
            link = solo.neighbour(address=None)
            page = b"".join(b"%16d" % number for number in range(PAGE))
            solo.receive(link, ext(Kind.DIGEST_IDS, page))
            solo.receive(link, ext(Kind.DIGEST, 1, b"x" * 1024, 0))
            self.assertIsNone(solo.closed(link), limit)

    def test_frames_with_wrong_fields_cost_the_link(self):
        """Whoever has announced the extension knows them."""
        bad = (
            (Kind.IHAVE,), (Kind.IHAVE, b"x"), (Kind.IHAVE, "x" * 16), (Kind.GRAFT, b""),
            (Kind.GRAFT, b"x" * 15, 0), (Kind.GRAFT, b"", "0"), (Kind.PRUNE,), (Kind.PRUNE, 5),
            (Kind.DIGEST, 1, b"x" * 15, 0), (Kind.DIGEST, 1, b"x" * 32, 0), (Kind.DIGEST, 1, b"", 0),
            (Kind.DIGEST, 1, b"x" * 16), (Kind.DIGEST_IDS, b"x" * 16 * (PAGE + 1)),
            (Kind.PING,), (Kind.PING, "1"), (Kind.PONG, None), (Kind.NOT_HELD, b"x"),
            (Kind.ROUTED, b"", b"", b"", 1, b""), (Kind.ROUTED_ANSWER, b"t" * 8),
            (Kind.NEIGHBOR,), (Kind.NEIGHBOR, b"1"), (Kind.FORWARD_JOIN, [], -1),
            (Kind.SHUFFLE, b"x", 1), (Kind.SHUFFLE_REPLY, b"", []),
        )  # fmt: skip
        for fields in bad:
            solo = Mesh()
            other = solo.neighbour(b"Other", address=None)
            link = solo.neighbour(b"Bad", address=None)
            solo.receive(link, ext(*fields))
            self.assertIsInstance(solo.closed(link), BadExtension, fields)
            self.assertIsNone(solo.closed(other), fields)


# --- links that come, give way, and go ---------------------------------------------------


class SecondLinkTests(SynchronousTestCase):
    """Another connection to an extended peer. Our id is the greater or the smaller one."""

    def test_a_hello_on_standby_waits_for_the_old_link(self):
        """A frame of ours before our own hello would cost the new link."""
        solo = Mesh(b"A")
        old = solo.neighbour(b"2", address=place(2))
        solo.advance(4.0)
        new = solo.peer(b"2", address=place(2))  # incoming at the greater id: the old one stays
        self.assertIs(old.standby, new)
        solo.receive(new, hello())
        self.assertEqual(solo.frames(new), [])
        solo.advance(2.0)
        self.assertIsInstance(solo.closed(old), LinkUnresponsive)
        self.assertIs(solo.node.links.table[b"2"], new)
        frames = solo.frames(new)
        self.assertEqual(frames[0][0], Kind.HELLO)
        self.assertIn((Kind.NEIGHBOR, 1), frames)
        solo.receive(new, ext(Kind.NEIGHBOR_OK))
        self.assertEqual(list(solo.node.mesh.membership.active), [new])

    def test_a_standby_that_is_not_needed_leaves_nothing_behind(self):
        """The old link was alive."""
        solo = Mesh(b"A")
        old = solo.neighbour(b"2", address=place(2))
        solo.advance(4.0)
        new = solo.peer(b"2", address=place(2))
        solo.receive(new, hello())
        solo.receive(old, ext(99))
        self.assertIs(new.state, State.DRAINING)
        self.assertEqual(solo.frames(new), [])
        self.assertEqual(list(solo.node.mesh.membership.active), [old])
        solo.advance(1.5)
        self.assertIs(new.state, State.CLOSED)
        self.assertEqual(len(solo.node.links), 1)

    def test_a_link_that_drains_is_read_whatever_comes_on_it(self):
        """The peer had not noticed that it was replaced: nothing in flight is lost."""
        solo = Mesh(b"2")
        old = solo.peer(b"A", address=place(2))  # its hello is on its way
        new = solo.peer(b"A", address=place(2))
        self.assertIs(old.state, State.DRAINING)
        for data in (
            hello(), ext(Kind.JOIN), ext(Kind.PING, 1, 0), ext(Kind.NEIGHBOR, 1),
            ext(Kind.IHAVE, b"x" * 16), ext(Kind.DIGEST, 1, b"x" * 16, 1), raw(0, "in flight"),
        ):  # fmt: skip
            solo.receive(old, data)
        self.assertIsNone(solo.closed(old))
        self.assertEqual(solo.effects.inbox, [("in flight",)])
        self.assertEqual(list(solo.node.mesh.membership.active), [])
        solo.receive(new, hello())
        solo.receive(new, ext(Kind.NEIGHBOR, 1))
        solo.advance(1.5)
        self.assertIsInstance(solo.closed(old), DuplicateConnection)
        self.assertEqual(list(solo.node.mesh.membership.active), [new])

    def test_what_we_were_to_each_other_is_asked_for_on_the_new_link(self):
        """And the application sees one peer."""
        solo = Mesh(b"2")
        old = solo.neighbour(b"A", address=place(2))
        new = solo.peer(b"A", address=place(2))
        self.assertFalse(old.ext.active)
        solo.receive(new, hello())
        self.assertIn((1,), solo.frames(new, Kind.NEIGHBOR))
        solo.receive(new, ext(Kind.NEIGHBOR_OK))
        self.assertTrue(new.ext.active)
        self.assertEqual([len(solo.all(kind)) for kind in (Joined, Replaced, Left)], [1, 1, 0])

    def test_an_eviction_does_not_orphan_who_waits(self):
        """The old link gives way in the view while another one to its peer is on standby."""
        solo = Mesh(b"A", active_view=3)
        old = [solo.neighbour(b"%d" % number, address=place(number)) for number in (2, 3, 4)]
        solo.advance(4.0)
        waiting = [solo.peer(link.id, address=link.address) for link in old]
        self.assertEqual([link.standby for link in old], waiting)
        other = solo.extended(b"5", address=place(5))
        solo.receive(other, ext(Kind.NEIGHBOR, 1))
        self.assertTrue(other.ext.active)
        (gone,) = [link for link in old if link.state is State.DRAINING]
        solo.lost(gone)
        for link in solo.node.links:
            self.assertTrue(
                link in solo.node.links.open
                or any(link is one.standby for one in solo.node.links.open)
            )
        self.assertEqual(len(solo.node.links.open), 4)

    def test_a_peer_that_was_killed_and_is_back_is_a_neighbour_again(self):
        """Its old link hangs in the air; real nodes, the same id, a second later."""
        for names in (("a", "b"), ("b", "a")):
            net = Net(*names, "c")
            one, other = names
            net[one].connect(net[other].address)
            net.advance(3.0)
            ident = net[other].node.id
            address = net[other].address
            net.silence(one, other)
            for end in net.between(other, one):
                end.lose(Unreachable("killed"))
            del net.hosts[other]
            host = net.add(other, ident=ident)
            host.address = host.node.address = address
            net.advance(3.0)
            host.connect(net[one].address)
            net.advance(8.0)
            (link,) = host.node.links.open
            self.assertTrue(link.ext and link.ext.active, names)
            (back,) = net[one].node.links.open
            self.assertTrue(back.ext and back.ext.active, names)
            self.assertNotIn(BadExtension, host.closings() + net[one].closings())


class ProofTests(SynchronousTestCase):
    """What shows over a probe that the mesh was apart."""

    def asked(self, *shorts, mode=1):
        """What is said about being neighbours when a stranger asks for these."""
        solo, link, _ = probing()
        held = solo.broadcast("ours").id[:16]
        solo.receive(link, ext(Kind.GRAFT, b"".join(shorts).replace(b"held" * 4, held), mode))
        return solo.frames(link, Kind.NEIGHBOR), solo.counters["repairs given"]

    def test_whoever_asks_for_what_is_here_had_been_apart(self):
        """The link is kept, with high priority."""
        for mode in (0, 1):
            self.assertEqual(self.asked(b"x" * 16, b"held" * 4, mode=mode), ([(1,)], 1))

    def test_ids_that_nobody_has_prove_nothing(self):
        """A stranger cannot have us take it for a neighbour by making some up."""
        self.assertEqual(self.asked(b"x" * 16, b"y" * 16), ([], 0))
        self.assertEqual(self.asked(), ([], 0))
        self.assertEqual(self.asked(b"held" * 4, mode=2), ([], 0))


class LeavingTests(SynchronousTestCase):
    def test_who_is_evicted_is_read_to_the_end_and_left_once(self):
        """What is on its way is not lost."""
        solo = Mesh(active_view=3)
        links = [solo.neighbour(b"%d" % number, address=place(number)) for number in range(1, 5)]
        (old,) = [link for link in links if link.state is State.DRAINING]
        new = links[-1]
        self.assertEqual(solo.frames(old)[-1], (Kind.DISCONNECT,))
        solo.receive(old, raw(0, "in flight"))
        self.assertEqual(solo.effects.inbox, [("in flight",)])
        self.assertIn((0, "in flight"), solo.effects.to(new, 0))
        had = len(solo.effects.to(old))
        solo.broadcast("later")
        solo.receive(old, ext(Kind.DIGEST, 9, b"x" * 16, 1))
        solo.receive(old, ext(Kind.GRAFT, b"x" * 16, 1))
        self.assertEqual(len(solo.effects.to(old)), had)
        solo.advance(2.0)
        self.assertIsInstance(solo.closed(old), ViewFull)
        self.assertEqual([action.link for action in solo.all(Left)], [old])

    def test_a_neighbour_that_dies_is_an_abnormal_loss_however_it_ends(self):
        """A killed process says goodbye as far as its system can tell."""
        for error in (None, Unreachable("reset")):
            solo = Mesh(probe_interval=1e6)
            solo.neighbour(b"Other", address=place(1))
            link = solo.neighbour(b"Ext", address=place(2))
            solo.lost(link, error)
            self.assertEqual(solo.node.mesh.membership.counters["lost"], 1, error)

    def test_the_end_of_a_link_that_was_none_of_the_view_is_not(self):
        """The other end had a look at us."""
        solo = Mesh(probe_interval=1e6)
        link = solo.extended(b"Ext", address=place(2))
        solo.lost(link)
        self.assertEqual(solo.node.mesh.membership.counters["lost"], 0)

    def test_what_was_asked_for_outlives_a_probe(self):
        """Asking for a peer that is being probed makes it a neighbour to be kept."""
        solo, link, rest = probing()
        solo.connect(place(7))
        solo.receive(link, ext(Kind.NEIGHBOR_OK))
        for _ in range(40):
            solo.advance(0.5)
            for one in (link, *rest):
                solo.receive(one, ext(99))
        self.assertIsNone(solo.closed(link))
        self.assertIn((1,), solo.frames(link, Kind.NEIGHBOR))  # with high priority

    def test_a_failed_dial_is_told_to_whoever_wanted_it(self):
        """Nothing waits for it any more."""
        solo = Mesh()
        link = solo.neighbour(b"Ext", address=place(1))
        solo.receive(link, ext(Kind.SHUFFLE, b"Far", 1, [[list(place(7)), b"Seven"]]))
        solo.advance(1.0)
        (dial,) = [dial for dial in solo.all(Dial) if dial.address == place(7)]
        self.assertEqual(solo.node.mesh.sizes()["dials for the view"][0], 1)
        solo.refuse(dial)
        self.assertEqual(solo.node.mesh.sizes()["dials for the view"][0], 0)
        self.assertNotIn(b"Seven", solo.node.mesh.membership.passive)

    def test_a_closed_node_is_silent(self):
        """No timer, no frame, no dial."""
        solo = Mesh()
        for number in range(3):
            solo.neighbour(b"N%d" % number, address=place(number + 1))
        solo.peer(b"Plain", address=place(9))
        for number in range(10):
            solo.broadcast(number)
        solo.note(solo.node.close(solo.now, solo.wall))
        written = len(solo.effects.written)
        solo.actions.clear()
        solo.advance(1000.0)
        self.assertEqual(len(solo.effects.written), written)
        self.assertEqual(solo.all(Dial) + solo.all(Gap), [])
        self.assertIsNone(solo.node.timers.next())


class RetentionTests(SynchronousTestCase):
    def test_ids_outlive_messages(self):
        """Else a copy that somebody still holds could be taken for new."""
        solo = Mesh(seen_window=100.0)
        solo.neighbour(address=None)
        message = solo.broadcast("x")
        solo.advance(52.0)
        solo.broadcast("y")
        self.assertNotIn(message.id[:16], solo.node.mesh.recent.held)
        self.assertIn(message.id, solo.node.seen)
        solo = Mesh(seen_capacity=4096)
        for number in range(9000):
            solo.broadcast(number)
        self.assertLessEqual(set(solo.node.mesh.recent.held), solo.node.seen.shorts)

    def test_a_copy_is_known_until_so_many_others_have_come(self):
        """As docs/delivery.rst says, "How long a message is known"."""
        solo = Mesh(seen_capacity=4096)
        link = solo.neighbour(address=None)
        copy = raw(0, "x", time=int(solo.wall))
        solo.receive(link, copy)
        for others, times in ((4096 * 63 // 64 - 1, 1), (4096, 2)):
            for number in range(others):
                solo.broadcast(others, number)
            solo.receive(link, copy)
            self.assertEqual(solo.effects.inbox, [("x",)] * times)

    def test_what_is_shown_is_what_holds(self):
        """Not what was asked for: ids have to outlive messages."""
        solo = Mesh(seen_capacity=4096)
        for number in range(2500):
            solo.broadcast(number)
        held, most = solo.node.mesh.sizes()["recent messages"]
        self.assertEqual((held, most), (len(solo.node.mesh.recent), 2048))
        self.assertGreater(held, 1900)
        self.assertEqual(Mesh(retention_messages=7).node.mesh.sizes()["recent messages"], (0, 7))

    def test_a_node_that_keeps_nothing_still_relays(self):
        """With any of the three limits at zero."""
        for name in ("retention", "retention_messages", "retention_bytes"):
            solo = Mesh(**{name: 0})
            links = [solo.neighbour(ident, address=None) for ident in (b"A", b"B")]
            solo.receive(links[0], raw(0, "x"))
            solo.broadcast("y")
            solo.advance(5.0)
            solo.receive(links[1], ext(Kind.DIGEST, 1, b"x" * 16, 1))
            self.assertEqual(solo.effects.inbox, [("x",)])
            self.assertEqual(solo.effects.to(links[1], 0), [(0, "x"), (0, "y")])


class GapTests(SynchronousTestCase):
    def alone(self, seconds, **options):
        """A node whose only peer was away for so long."""
        solo = Mesh(**options)
        solo.lost(solo.neighbour(b"A", address=None), Unreachable("cut"))
        solo.advance(seconds)
        solo.neighbour(b"A", address=None)
        return solo

    def test_who_was_alone_for_longer_than_others_keep_messages_is_told(self):
        """It has missed nobody knows how much."""
        (gap,) = self.alone(601.0).all(Gap)
        self.assertEqual((gap.reason, gap.count), ("apart for too long", 0))
        self.assertIn("601 s", gap.detail)

    def test_others_keep_messages_no_longer_than_half_as_long_as_ids(self):
        """Whatever the retention that was asked for."""
        (gap,) = self.alone(101.0, seen_window=200.0).all(Gap)
        self.assertIn("for 100 s", gap.detail)
        self.assertEqual(self.alone(99.0, seen_window=200.0).all(Gap), [])

    def test_within_the_retention_nothing_is_missed(self):
        """What others keep is brought."""
        self.assertEqual(self.alone(599.0).all(Gap), [])

    def test_the_first_peer_is_no_gap(self):
        """A newcomer has missed nothing that it was promised."""
        solo = Mesh()
        solo.advance(10_000.0)
        solo.neighbour(b"A", address=None)
        self.assertEqual(solo.all(Gap), [])

    def test_it_is_told_once(self):
        """To whoever asks when the first peer is back."""
        solo = self.alone(700.0)
        solo.neighbour(b"B", address=None)
        self.assertEqual(len(solo.all(Gap)), 1)

    def test_one_peer_is_enough_not_to_be_alone(self):
        """Whatever happens to the others."""
        solo = Mesh()
        stays, goes = (solo.peer(name, address=None) for name in (b"A", b"B"))
        solo.lost(goes)
        solo.advance(700.0)
        solo.peer(b"B", address=None)
        self.assertIn(stays, solo.node.links.open)
        self.assertEqual(solo.all(Gap), [])

    def test_a_node_of_06_makes_no_promise(self):
        """It keeps nothing for others, and others nothing for it."""
        solo = Solo()
        solo.lost(solo.peer(b"A", address=None))
        solo.advance(700.0)
        solo.peer(b"A", address=None)
        self.assertEqual(solo.all(Gap), [])


# --- messages ---------------------------------------------------------------------------


class TogetherTests(SynchronousTestCase):
    """Real nodes."""

    def test_everybody_hears_everything_once(self):
        """A few nodes that find each other, plain ones among them."""
        net = Net(*"abcdef")
        for name in "xy":
            net.add(name, extensions=False)
        for name in "bcdefxy":
            net[name].connect(net["a"].address)
            net.settle()
        net.advance(10.0)
        for number in range(5):
            for name in net.hosts:
                net[name].broadcast(name, number)
                net.advance(0.1)
        net.advance(5.0)
        for name, host in net.hosts.items():
            wanted = [(it, number) for it in net.hosts if it != name for number in range(5)]
            self.assertEqual(sorted(host.inbox), sorted(wanted), name)
            self.assertNotIn(BadExtension, host.closings())

    def test_what_was_sent_to_nobody_reaches_who_comes_later(self):
        """Within the retention."""
        net = Net("a", "b")
        net["a"].broadcast("early")
        net.advance(300.0)
        net["b"].connect(net["a"].address)
        net.advance(5.0)
        self.assertEqual(net["b"].inbox, [("early",)])

    def test_what_was_sent_during_a_cut_comes_after_it(self):
        """Both ways, once, within five seconds of the first link."""
        net = Net(*"abcd")
        for name in "bcd":
            net[name].connect(net["a"].address)
            net.advance(1.0)
        net.ways = {frozenset("ab"), frozenset("cd")}
        for one in "ab":
            for other in "cd":
                net.cut(one, other)
        net["a"].broadcast("here")
        net["d"].broadcast("there")
        net.advance(30.0)
        self.assertEqual(net["d"].inbox, [])
        net.ways = None
        net.advance(25.0)
        self.assertEqual(
            [sorted(net[name].inbox) for name in "abcd"],
            [[("there",)], [("here",), ("there",)], [("here",), ("there",)], [("here",)]],
        )

    def test_a_slow_peer_hears_of_messages_and_gets_them_later(self):
        """No payloads wait for it; after it has read what waits, it is told what there is."""
        solo = Mesh()
        solo.neighbour(b"Other", address=None)
        slow = solo.neighbour(b"Slow", address=None)
        slow.congested = True
        written = len(solo.effects.to(slow))
        messages = [solo.broadcast(number) for number in range(50)]
        solo.advance(0.5)
        self.assertEqual(len(solo.effects.to(slow)), written)
        slow.congested = False
        solo.note(solo.node.drained(slow, solo.now, solo.wall))
        (frame,) = [frame for frame in solo.frames(slow, Kind.DIGEST) if frame[2] == 1]
        count, _, mutual = frame[:3]
        self.assertEqual((count, mutual), (50, 1))
        solo.receive(slow, ext(Kind.GRAFT, b"".join(it.id[:16] for it in messages), 1))
        self.assertEqual(len(solo.effects.to(slow, 0)), 50)


# --- clocks -------------------------------------------------------------------------------


class ClockTests(SynchronousTestCase):
    def skewed(self, skews, plain=()):
        net = Net()
        for number, skew in enumerate(skews):
            name = f"n{number}"
            host = net.add(name, **({"extensions": False} if number in plain else {}))
            host.skew = skew
        for number in range(1, len(skews)):
            net[f"n{number}"].connect(net["n0"].address)
            net.advance(0.5)
        net.advance(10.0)
        return net

    def assert_all_hear(self, net, text):
        had = {name: len(host.inbox) for name, host in net.hosts.items()}
        for name in net.hosts:
            net[name].broadcast(text, name)
        net.advance(5.0)
        for name, host in net.hosts.items():
            wanted = sorted((text, other) for other in net.hosts if other != name)
            self.assertEqual(sorted(host.inbox[had[name] :]), wanted, name)

    def test_a_clock_that_is_an_hour_off_hears_and_is_heard(self):
        """With three others that agree."""
        for skew in (3600.0, -3600.0):
            net = self.skewed([0.0, 0.0, 0.0, 0.0, skew])
            self.assert_all_hear(net, "hello")

    def test_the_one_where_all_came_in_as_well(self):
        """It has dialled nobody: its neighbours' pings tell it the time."""
        for skew in (3600.0, -3600.0):
            net = self.skewed([skew, 0.0, 0.0, 0.0, 0.0])
            self.assert_all_hear(net, "hello")

    def test_a_clock_that_is_set_meanwhile_makes_no_difference(self):
        """At once, and when peers have told the time again."""
        for skew in (3600.0, -3600.0):
            net = self.skewed([0.0] * 5)
            net["n2"].skew = skew
            net.advance(0.1)
            net["n2"].perform(net["n2"].node.woken(net.now, net["n2"].wall))
            self.assert_all_hear(net, "at once")
            net.advance(60.0)
            self.assert_all_hear(net, "later")
            net["n2"].skew = 0.0
            net["n2"].perform(net["n2"].node.woken(net.now, net["n2"].wall))
            self.assert_all_hear(net, "back")
            self.assertEqual(net["n2"].node.clock.correction, 0)

    def test_setting_the_clock_is_told(self):
        """The operator should know that it is wrong, and that it is right again."""
        net = self.skewed([0.0] * 5)
        host = net["n2"]
        host.actions.clear()
        host.skew = 3600.0
        net.advance(10.0)
        (told,) = host.all(ClockDisagreement)
        self.assertLess(abs(told.correction + 3600), 30)
        host.skew = 0.0
        net.advance(10.0)
        self.assertEqual([it.correction for it in host.all(ClockDisagreement)][1:], [0])

    def test_pings_refresh_what_is_known_of_a_clock(self):
        """A neighbour that sets its clock is heard of within seconds, without a new link."""
        solo = Mesh()
        links = [solo.neighbour(b"N%d" % number, address=None) for number in range(3)]
        for link in links:
            solo.receive(link, ext(Kind.PING, 1, 0, time=int(solo.wall) + 600))
        self.assertEqual(solo.node.clock.correction, 600)
        for link in links:
            solo.receive(
                link, ext(Kind.PONG, solo.frames(link, Kind.PING)[-1][0], time=int(solo.wall))
            )
        self.assertEqual(solo.node.clock.correction, 0)

    def test_only_neighbours_and_whom_we_dialled_are_asked_for_the_time(self):
        """Who dials us can do so under as many names as it likes."""
        solo = Mesh(active_view=3)
        for number in (1, 2, 3):
            solo.neighbour(b"Honest%d" % number, address=place(number))
        for number in range(10):
            link = solo.extended(b"Liar%d" % number, address=place(10 + number))
            solo.receive(link, ext(Kind.PING, 1, 0, time=WALL + 9999))
        self.assertEqual(solo.node.clock.correction, 0)


# --- hostile peers ---------------------------------------------------------------------


kinds = st.one_of(st.sampled_from([int(kind) for kind in Kind]), st.integers(-2, 40), values)
shorts = st.integers(0, 40).map(lambda count: b"".join(b"%16d" % n for n in range(count)))
likely = st.one_of(
    st.integers(-2, 40),
    st.sampled_from([0, 1, 2, 2**63, 2**64 - 1, -(2**63)]),
    st.binary(max_size=40),
    shorts,
    st.sampled_from([b"t" * 8, b"s" * 16, b"s" * 1024, b"Me", b"Good", b"Plain", b"Bad"]),
    st.lists(
        st.one_of(
            st.tuples(
                st.tuples(st.sampled_from(["10.0.2.1", "10.0.2.2", "h"]), st.integers(0, 9)).map(
                    list
                ),
                st.binary(max_size=3),
            ).map(list),
            values,
        ),
        max_size=8,
    ),
    values,
)
#: Fields that have the right types, for frames that get further.
right = {
    Kind.JOIN: st.tuples(),
    Kind.FORWARD_JOIN: st.tuples(
        st.integers(1, 99).map(lambda n: [[f"10.0.3.{n}", 1], b"%d" % n]), st.integers(0, 9)
    ),
    Kind.NEIGHBOR: st.tuples(st.integers(-1, 4)),
    Kind.SHUFFLE: st.tuples(
        st.binary(min_size=1, max_size=2),
        st.integers(0, 9),
        st.lists(st.integers(1, 99).map(lambda n: [[f"10.0.3.{n}", 1], b"%d" % n]), max_size=8),
    ),
    Kind.IHAVE: st.tuples(shorts),
    Kind.DIGEST_IDS: st.tuples(shorts),
    Kind.GRAFT: st.tuples(shorts, st.integers(-1, 4)),
    Kind.PRUNE: st.tuples(st.binary(max_size=17)),
    Kind.NOT_HELD: st.tuples(shorts),
    Kind.DIGEST: st.tuples(
        st.integers(), st.sampled_from([b"s" * 16, b"s" * 1024]), st.integers(0, 1)
    ).filter(lambda it: -(2**63) <= it[0] < 2**64),
    Kind.PING: st.tuples(st.integers(0, 3), st.integers(0, 3)),
    Kind.PONG: st.tuples(st.integers(0, 3)),
    Kind.ROUTED: st.tuples(
        st.integers(0, 9).map(lambda n: b"%8d" % n),
        st.sampled_from([b"Me", b"Good", b"Plain", b"Bad", b"Far"]),
        st.sampled_from([b"s" * 16, b"%16d" % 1]),
        st.integers(-1, 40),
        st.sampled_from([b"", b"\xc1", b"\x95\x02\xc4\x01a\x01\x02\xa1x"]),
    ),
    Kind.ROUTED_ANSWER: st.tuples(st.integers(0, 9).map(lambda n: b"%8d" % n), st.integers(0, 1)),
}
proper = st.sampled_from(sorted(right)).flatmap(
    lambda kind: right[kind].map(lambda fields: (int(kind), *fields))
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("frame"), proper),
        st.tuples(st.just("frame"), st.tuples(kinds, likely, likely, likely)),
        st.tuples(st.just("frame"), st.tuples(kinds, likely)),
        st.tuples(st.just("wait"), st.sampled_from([0.05, 0.4, 1.0])),
        st.tuples(st.just("said"), st.integers(0, 9)),
        st.tuples(st.just("sent"), st.integers(0, 9)),
        st.tuples(st.just("congested"), st.booleans()),
        st.tuples(st.just("back"), st.booleans()),
        st.tuples(st.just("refuse"), st.integers(0, 3)),
    ),
    max_size=40,
)


class HostileTests(SynchronousTestCase):
    """An extended peer that says whatever it likes, in whatever order."""

    SMALL = {
        "missing_per_peer": 20,
        "retention_messages": 30,
        "retention_bytes": 20_000,
        "tree_origins": 5,
        "routed_replies": 4,
        "passive_view": 6,
        "active_view": 3,
    }

    def assert_within_caps(self, solo):
        for name, (size, most) in solo.node.mesh.sizes().items():
            self.assertLessEqual(size, most, name)

    @given(steps)
    def test_nothing_grows_fails_or_strikes_others(self, history):
        """Only its own link can end, and only by what it did wrong."""
        solo = Mesh(**self.SMALL)
        good = solo.neighbour(b"Good", address=None)
        plain = solo.peer(b"Plain", address=None)
        bad = solo.extended(b"Bad", address=place(1))
        solo.broadcast("something")
        for what, value in history:
            if what == "frame":
                solo.receive(bad, ext(*value, time=int(solo.wall)))
            elif what == "wait":
                solo.advance(value)
                solo.receive(good, ext(99, time=int(solo.wall)))
            elif what == "said":
                solo.receive(bad, raw(0, value, sender=b"%d" % value, time=int(solo.wall)))
            elif what == "sent":
                solo.broadcast(value, b"x" * 900)
            elif what == "congested":
                bad.congested = value and bad.state is State.OPEN
                solo.note(solo.node.drained(bad, solo.now, solo.wall))
            elif what == "refuse":
                dials = [
                    dial for dial in solo.all(Dial) if dial.serial in solo.node.dialer._under_way
                ]
                if dials:
                    solo.refuse(dials[value % len(dials)])
            elif bad.state is State.CLOSED:
                bad = solo.peer(b"Bad", address=place(1))
                if value and bad.state is State.OPEN:
                    solo.receive(bad, hello())
            self.assert_within_caps(solo)
            if bad.ext is not None:
                self.assertLessEqual(bad.ext.missing, 20)
                self.assertLessEqual(len(bad.ext.wanted), 20)
        for close in solo.all(Close):
            self.assertIsInstance(close.error, LinkError)
        self.assertIsNone(solo.closed(plain))
        self.assertIsNone(solo.closed(good))
        self.assertEqual(len(solo.frames(plain)), 1)
        # And life goes on.
        solo.broadcast("finally")
        self.assertIn((0, "finally"), solo.effects.to(plain, 0))
        self.assertIn((0, "finally"), solo.effects.to(good, 0))

    def test_floods_of_every_frame_stay_within_caps(self):
        """Thousands of each, with fields that differ."""
        solo = Mesh(**self.SMALL)
        good = solo.neighbour(b"Good", address=None)
        for number in range(1500):
            bad = solo.node.links.table.get(b"Bad")
            if bad is None or bad.ext is None:
                bad = solo.neighbour(b"Bad", address=None)
            page = b"".join(b"%8d%8d" % (number, it) for it in range(50))
            entries = [[[f"10.{number // 250}.{number % 250}.1", 1], b"%d" % number]]
            for fields in (
                (Kind.IHAVE, page), (Kind.DIGEST_IDS, page), (Kind.GRAFT, page, 0),
                (Kind.PRUNE, page[:16]), (Kind.DIGEST, 1, b"%16d" % number, 1),
                (Kind.FORWARD_JOIN, entries[0], 0), (Kind.SHUFFLE, b"%d" % number, 3, entries),
                (Kind.SHUFFLE_REPLY, b"%d" % number, entries),
                (Kind.ROUTED, b"%8d" % number, b"Good", b"s" * 16, 3, b"\x94\x02\xc4\x00\x01\x02"),
            ):  # fmt: skip
                if bad.state is State.OPEN:
                    solo.receive(bad, ext(*fields, time=int(solo.wall)))
            self.assert_within_caps(solo)
            if not number % 50:
                solo.advance(0.2)
                solo.receive(good, ext(99))
        self.assertIsNone(solo.closed(good))
        held = [
            len(container)
            for container in (
                solo.node.mesh.routing._taken,
                solo.node.mesh.routing._direct,
                solo.node.mesh.routing._passed,
            )
        ]
        self.assertLessEqual(max(held), 4)

    def test_every_frame_costs_a_peer_at_most_its_own_link(self):
        """Dropped messages are said, errors are errors of links."""
        solo = Mesh()
        good = solo.neighbour(b"Good", address=None)
        for kind in range(-1, 25):
            for field in (None, 0, b"", "", [], {}, 1.5, True, b"x" * 16):
                bad = solo.neighbour(b"Bad%d" % kind, address=None)
                for count in (1, 2, 5):
                    solo.receive(bad, ext(kind, *[field] * count))
                if error := solo.closed(bad):
                    self.assertIsInstance(error, LinkError)
                solo.lost(bad)
        self.assertIsNone(solo.closed(good))
        for dropped in solo.all(Dropped):
            self.assertIn("Bad", dropped.link.id.decode())


class PinnedTests(SynchronousTestCase):
    def test_what_the_application_asked_for_is_never_evicted(self):
        """Whoever comes with whatever urgency."""
        solo = Mesh(active_view=3)
        wanted = []
        for number in (1, 2, 3):
            solo.connect(place(number))
            dial = solo.all(Dial)[-1]
            link = solo.extended(b"W%d" % number, dial=dial, address=place(number))
            solo.receive(link, ext(Kind.NEIGHBOR_OK))
            wanted.append(link)
        for number in range(10, 20):
            link = solo.extended(b"N%d" % number, address=place(number))
            solo.receive(link, ext(Kind.NEIGHBOR, 1))
        self.assertTrue(all(link.ext.active for link in wanted))
        self.assertEqual([solo.closed(link) for link in wanted], [None] * 3)

    def test_who_is_evicted_by_the_other_end_is_left_alone_for_a_while(self):
        """It keeps others; but who is alone tries it again."""
        solo = Mesh()
        solo.neighbour(b"Other", address=None)
        solo.connect(place(1))
        (dial,) = solo.all(Dial)
        link = solo.extended(b"W", dial=dial, address=place(1))
        solo.receive(link, ext(Kind.NEIGHBOR_OK))
        solo.receive(link, ext(Kind.DISCONNECT))
        self.assertIsInstance(solo.closed(link), ViewFull)
        entry = solo.node.dialer._book[place(1)]
        self.assertEqual(entry.next, solo.now + LEARNED_PAUSE)
