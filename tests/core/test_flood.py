"""Tests of `py2p_twisted.core.flood`."""

import zlib

from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core import compression
from py2p_twisted.core.codec import decode
from py2p_twisted.core.extension import Kind, read_ids
from py2p_twisted.core.message import build
from py2p_twisted.core.seen import SHORT
from tests.core.extended import Mesh, ext
from tests.core.support import WALL, Solo, World, raw, unwrap, whisper


class OneNodeTests(SynchronousTestCase):
    def heard(self, solo, link):
        """The texts of the broadcasts that were written to a peer."""
        return [payload[1] for payload in solo.effects.to(link, 0)]

    def test_a_broadcast_goes_on_to_everybody_but_the_peer_it_came_from(self):
        """And once to the application."""
        solo = Solo()
        ada, ben, cyd = (solo.peer(name) for name in (b"Ada", b"Ben", b"Cyd"))
        solo.receive(ada, raw(0, "storm"))
        self.assertEqual(
            [self.heard(solo, link) for link in (ada, ben, cyd)], [[], ["storm"], ["storm"]]
        )
        self.assertEqual(solo.effects.inbox, [("storm",)])

    def test_who_claims_to_have_sent_it_plays_no_part(self):
        """A forged sender must not keep a message from anybody."""
        solo = Solo()
        ada, ben = solo.peer(b"Ada"), solo.peer(b"Ben")
        solo.receive(ada, raw(0, "storm", sender=b"Ben"))
        self.assertEqual(self.heard(solo, ben), ["storm"])

    def test_a_message_under_our_own_name_is_a_message(self):
        """Nobody vouches for the sender; what we did not send we have not seen."""
        solo = Solo()
        ada, ben = solo.peer(b"Ada"), solo.peer(b"Ben")
        solo.receive(ada, raw(0, "storm", sender=solo.node.id))
        self.assertEqual((solo.effects.inbox, self.heard(solo, ben)), ([("storm",)], ["storm"]))

    def passed_on(self, *frames):
        """What Ben gets of the frames that Ada brings, as bytes."""
        solo = Solo()
        ada, ben = solo.peer(b"Ada"), solo.peer(b"Ben")
        solo.receive(ada, b"".join(frames))
        written = [message for message, link in solo.effects.written if link is ben]
        return [ben.policy.frame(message) for message in written if message.flag == 0]

    def test_bodies_of_others_go_on_as_they_are_in_frames_that_plain_nodes_can_read(self):
        """Whatever length they have; those that stand on the grid as they came, byte for byte."""
        frames = [raw(0, "x" * size) for size in range(16)]
        onward = self.passed_on(*frames)
        self.assertEqual([len(frame) % 8 for frame in onward], [0] * 16)
        for came, goes in zip(frames, onward, strict=True):
            if not len(came) % 8:
                self.assertEqual(goes, came)
            self.assertEqual(unwrap(goes).body, unwrap(came).body)

    def test_a_stored_stream_is_passed_on_only_if_it_is_sound(self):
        """We do not need its own checksum, but others do."""
        message = unwrap(raw(0, "x"))
        sound = compression.wrap_stored(message.id, message.body)
        end = sound.index(message.body) + len(message.body)
        damaged = sound[:end] + bytes([sound[end] ^ 1]) + sound[end + 1 :]
        self.assertEqual(self.passed_on(sound), [sound])
        (onward,) = self.passed_on(damaged)
        self.assertEqual(zlib.decompressobj().decompress(onward[4:]), message.content)

    def test_what_nobody_can_use_goes_nowhere(self):
        """Our neighbours would put the blame on us, theirs on them, and the mesh would fall apart."""
        for payload in ((8,), (8, 1, 2), (10,), (10, b"rid"), (10, 5, [["10.0.0.1", 1], "A"])):
            solo = Solo()
            ada, ben = solo.peer(b"Ada"), solo.peer(b"Ben")
            before = len(solo.effects.to(ben))
            solo.receive(ada, raw(*payload))
            self.assertEqual(solo.effects.to(ben)[before:], [], payload)
            self.assertEqual(ada.drops["bad field"], 1, payload)

    def test_a_copy_goes_nowhere(self):
        """Not to the application, not to others, whoever brings it."""
        solo = Solo()
        ada, ben = solo.peer(b"Ada"), solo.peer(b"Ben")
        for link in (ada, ada, ben):
            solo.receive(link, raw(0, "storm"))
        self.assertEqual((solo.effects.inbox, self.heard(solo, ben)), ([("storm",)], ["storm"]))
        self.assertEqual((ada.duplicates, ben.duplicates), (1, 1))

    def test_a_copy_goes_nowhere_as_long_as_its_stamp_is_accepted(self):
        """From 20 minutes before its time until 20 minutes after it, its id is known."""
        solo = Solo()
        storm = raw(0, "storm", time=int(WALL) + 20 * 60)
        for minute in range(45):
            ada = solo.peer(b"Ada")
            solo.receive(ada, storm)
            # What keeps the cache in motion.
            solo.receive(ada, raw(0, minute, time=int(solo.wall)))
            solo.lost(ada)
            solo.advance(60.0)
        self.assertEqual(solo.effects.inbox.count(("storm",)), 1)

    def test_our_own_broadcast_goes_to_everybody_and_not_to_us(self):
        """Its echo is known, and counted as a copy."""
        solo = Solo()
        ada, ben = solo.peer(b"Ada"), solo.peer(b"Ben")
        message = solo.broadcast("storm")
        self.assertEqual([self.heard(solo, link) for link in (ada, ben)], [["storm"], ["storm"]])
        solo.receive(ada, ada.policy.frame(message))
        self.assertEqual((solo.effects.inbox, ada.duplicates), ([], 1))

    def test_a_whisper_is_delivered_and_not_passed_on(self):
        """Main flag 2 ends here, and so does any that nobody knows."""
        solo = Solo()
        ada, ben = solo.peer(b"Ada"), solo.peer(b"Ben")
        solo.receive(ada, whisper(0, "psst"))
        solo.receive(ada, raw(0, "odd", flag=77))
        self.assertEqual((solo.effects.inbox, self.heard(solo, ben)), ([("psst",), ("odd",)], []))

    def test_equal_whispers_are_as_many_messages(self):
        """Only broadcasts are told apart by their ids."""
        solo = Solo()
        ada = solo.peer(b"Ada")
        solo.receive(ada, whisper(0, "psst") * 3)
        self.assertEqual(solo.effects.inbox, [("psst",)] * 3)

    def test_order_is_kept_on_a_link(self):
        """Large or small, plain or odd: what one peer sends comes, and goes on, in its order."""
        solo = Solo()
        ada, ben = solo.peer(b"Ada"), solo.peer(b"Ben")
        packets = ["a", "b", ["nested"], "c", "x" * 20_000, "d", {"k": 1}, "e", "y" * 300_000, "f"]
        solo.receive(ada, b"".join(raw(0, packet) for packet in packets))
        self.assertEqual([packet for (packet,) in solo.effects.inbox], packets)
        self.assertEqual(self.heard(solo, ben), packets)

    def test_a_broadcast_does_not_come_back_by_another_link_of_the_same_peer(self):
        """While one connection gives way to another, a peer has two."""
        solo = Solo(ident=b"2")
        old = solo.peer(b"A")
        new = solo.peer(b"A")  # dialled by the greater id: the newer one stays
        self.assertIs(solo.node.links.table[b"A"], new)
        solo.receive(old, raw(0, "in flight"))
        self.assertEqual(solo.effects.inbox, [("in flight",)])
        self.assertEqual(self.heard(solo, new), [])


class HoldingTests(SynchronousTestCase):
    """What is held for those who miss it."""

    def held(self, node):
        return [decode(message.body)[4] for message in node.mesh.recent.held.values()]

    def test_whatever_was_sent_or_relayed_is_held(self):
        """Of others and our own, to everybody or to one, large and small, once each."""
        solo = Mesh()
        ada = solo.peer(b"Ada")
        solo.receive(ada, raw(0, "theirs") + raw(0, ["nested"]) + raw(0, "theirs"))
        solo.broadcast("ours")
        alone = solo.node.composer.compose(0, 0, ("to one",), solo.wall)
        solo.node.send_to(ada, alone, solo.now)
        self.assertEqual(self.held(solo.node), ["theirs", ["nested"], "ours", "to one"])
        via = [message.via for message in solo.node.mesh.recent.held.values()]
        self.assertEqual(via, [b"Ada", b"Ada", b"", b""])

    def test_what_is_sent_under_a_name_that_nobody_takes_is_not(self):
        """Its head could not be read again."""
        solo = Mesh()
        ada = solo.neighbour(b"Ada")
        odd = build(0, b"x" * 2000, WALL, (0, "odd"))
        solo.node.send_to(ada, odd, solo.now, as_it_is=True)
        self.assertEqual(self.held(solo.node), [])
        solo.receive(ada, ext(Kind.GRAFT, odd.id[:SHORT], 0))
        self.assertEqual(solo.frames(ada, Kind.NOT_HELD), [(odd.id[:SHORT],)])

    def test_whispers_and_what_nobody_can_use_are_not(self):
        """Nobody misses them."""
        solo = Mesh()
        ada = solo.peer(b"Ada")
        solo.receive(ada, whisper(0, "psst") + raw(8) + raw(0, "old", time=WALL - 5000))
        self.assertEqual(self.held(solo.node), [])

    def test_applications_do_not_hold_frames(self):
        """Those who write them have them; what is delivered, and may be kept, is a message."""
        solo = Mesh()
        ada = solo.peer(b"Ada")
        solo.peer(b"Ben")
        solo.receive(ada, raw(0, "storm"))
        self.assertEqual([message.frames for message, _ in solo.effects.delivered], [None])

    def test_nothing_is_held_without_the_extension(self):
        """Nobody could ask for it."""
        solo = Solo()
        ada = solo.peer(b"Ada")
        solo.receive(ada, raw(0, "theirs"))
        solo.broadcast("ours")
        self.assertEqual(self.held(solo.node), [])


class AnnouncingTests(SynchronousTestCase):
    """What goes over which link, once trees have grown."""

    def setUp(self):
        self.solo = Mesh()
        self.ada, self.ben, self.cyd = (
            self.solo.neighbour(name) for name in (b"Ada", b"Ben", b"Cyd")
        )
        self.dan = self.solo.peer(b"Dan")

    def heard(self, link):
        return [payload[1] for payload in self.solo.effects.to(link, 0)]

    def announced(self, link):
        return [
            ident for (field, *_) in self.solo.frames(link, Kind.IHAVE) for ident in read_ids(field)
        ]

    def prune(self, link, text, **options):
        """A neighbour wants the messages of an origin announced."""
        self.solo.receive(link, ext(Kind.PRUNE, raw(0, text, **options)[4 : 4 + SHORT]))

    def ident(self, text, **options):
        return raw(0, text, **options)[4 : 4 + SHORT]

    def test_the_first_of_an_origin_is_flooded(self):
        """To extended neighbours and plain ones."""
        self.solo.receive(self.ada, raw(0, 1))
        for link in (self.ben, self.cyd, self.dan):
            self.assertEqual(self.heard(link), [1])
        self.assertEqual(self.heard(self.ada), [])

    def test_then_it_goes_along_its_tree(self):
        """Announced where it was asked to; plain nodes always get it itself."""
        self.solo.receive(self.ada, raw(0, 1))
        self.prune(self.ben, 1)
        self.solo.receive(self.ada, raw(0, 2))
        self.solo.advance(0.021)
        self.assertEqual(
            [self.heard(link) for link in (self.ben, self.cyd, self.dan)], [[1], [1, 2], [1, 2]]
        )
        self.assertEqual(self.announced(self.ben), [self.ident(2)])
        self.assertEqual(self.announced(self.cyd), [])

    def test_each_origin_in_one_read_along_its_own(self):
        """And in the order in which they came."""
        self.solo.receive(self.ada, raw(0, 1))
        self.prune(self.ben, 1)
        self.solo.receive(
            self.ada, raw(0, 2) + raw(0, 3, sender=b"Other") + raw(0, 4) + raw(0, 5, sender="Peer")
        )
        self.solo.advance(0.021)
        self.assertEqual(self.heard(self.ben), [1, 3])
        self.assertEqual(
            self.announced(self.ben), [self.ident(2), self.ident(4), self.ident(5, sender="Peer")]
        )
        self.assertEqual(self.heard(self.cyd), [1, 2, 3, 4, 5])

    def test_at_the_end_of_a_branch_no_frames_are_kept(self):
        """Whoever comes back to it gets messages as they are, all the same."""
        self.solo.lost(self.dan)
        self.solo.receive(self.ada, raw(0, 1))
        self.assertTrue(self.ada.onward)
        self.prune(self.ben, 1)
        self.prune(self.cyd, 1)
        self.solo.receive(self.ada, raw(0, 2))
        self.assertFalse(self.ada.onward)
        self.solo.receive(self.ada, raw(0, 3))
        self.solo.receive(self.ben, ext(Kind.GRAFT, self.ident(3), 2))
        self.solo.receive(self.ada, raw(0, 4) + raw(0, 5))
        self.assertTrue(self.ada.onward)
        self.assertEqual(self.heard(self.ben), [1, 4, 5])
        self.assertEqual(self.solo.effects.inbox, [(1,), (2,), (3,), (4,), (5,)])

    def test_nothing_is_announced_to_who_has_brought_it(self):
        """What others bring still is, until it asks for it."""
        self.solo.receive(self.ada, raw(0, 1))
        self.prune(self.ben, 1)
        self.solo.receive(self.ben, raw(0, 2))
        self.solo.receive(self.ada, raw(0, 3))
        self.solo.advance(0.021)
        self.assertEqual((self.announced(self.ben), self.heard(self.ben)), ([self.ident(3)], [1]))

    def test_our_own_have_a_tree_as_well(self):
        """We are an origin like others."""
        first = self.solo.broadcast(1)
        self.solo.receive(self.ben, ext(Kind.PRUNE, first.id[:SHORT]))
        second = self.solo.broadcast(2)
        self.solo.advance(0.021)
        self.assertEqual((self.heard(self.ben), self.heard(self.cyd)), ([1], [1, 2]))
        self.assertEqual(self.announced(self.ben), [second.id[:SHORT]])

    def test_who_brings_a_copy_is_pruned_once_a_read(self):
        """Plain nodes never: they would not understand."""
        self.solo.receive(self.ada, raw(0, 1) + raw(0, 2))
        self.solo.receive(self.ben, raw(0, 1) + raw(0, 2))
        self.solo.receive(self.dan, raw(0, 1))
        self.assertEqual(self.solo.frames(self.ben, Kind.PRUNE), [(self.ident(1),)])
        self.assertEqual([kind for kind, *_ in self.solo.frames(self.dan)], [Kind.HELLO])

    def test_what_is_withheld_from_a_congested_neighbour_is_told_of_later(self):
        """By a digest, when it keeps up; others are not concerned."""
        digests = [len(self.solo.frames(link, Kind.DIGEST)) for link in (self.ben, self.cyd)]
        self.ben.congested = True
        self.solo.receive(self.ada, raw(0, 1))
        self.assertEqual((self.heard(self.ben), self.heard(self.cyd)), ([], [1]))
        self.ben.congested = False
        self.solo.note(self.solo.node.drained(self.ben, self.solo.now, self.solo.wall))
        after = [self.solo.frames(link, Kind.DIGEST) for link in (self.ben, self.cyd)]
        self.assertEqual([len(each) for each in after], [digests[0] + 1, digests[1]])
        self.assertEqual(after[0][-1][2], 1)
        self.solo.note(self.solo.node.drained(self.ben, self.solo.now, self.solo.wall))
        self.assertEqual(len(self.solo.frames(self.ben, Kind.DIGEST)), digests[0] + 1)

    def test_so_is_what_comes_in_the_read_that_makes_it_congested(self):
        """The first message fills its queue, and the second is of another origin."""
        self.solo.receive(self.ada, raw(0, 0))
        self.prune(self.ada, 0)  # there is a tree, so origins go one by one
        relay = self.solo.effects.relay

        def fill(messages, links):
            relay(messages, links)
            if self.ben in links:
                self.ben.congested = True

        self.patch(self.solo.effects, "relay", fill)
        self.solo.receive(self.ada, raw(0, 1) + raw(0, 2, sender=b"Other"))
        self.solo.advance(0.021)
        self.assertEqual(self.heard(self.ben), [0, 1])
        self.assertEqual(self.announced(self.ben), [])
        self.assertTrue(self.ben.ext.behind)

    def test_what_a_digest_has_brought_is_announced(self):
        """It is we who had missed it, most likely; plain nodes get it as ever."""
        self.solo.receive(self.ada, ext(Kind.DIGEST_IDS, self.ident(5)))
        self.solo.advance(0.25)
        self.solo.receive(self.ada, raw(0, 5))
        self.solo.advance(0.1)
        self.assertEqual([self.heard(link) for link in (self.ben, self.cyd)], [[], []])
        self.assertEqual(self.announced(self.ben), [self.ident(5)])
        self.assertEqual(self.announced(self.cyd), [self.ident(5)])
        self.assertEqual(self.heard(self.dan), [5])
        self.assertEqual(self.solo.effects.inbox, [(5,)])

    def test_unless_its_origin_has_a_tree(self):
        """Along which it costs nothing: half of the mesh may have missed it with us."""
        self.solo.receive(self.ada, raw(0, 1))
        self.prune(self.cyd, 1)
        self.solo.receive(self.ada, ext(Kind.DIGEST_IDS, self.ident(5)))
        self.solo.advance(0.25)
        self.solo.receive(self.ada, raw(0, 5))
        self.assertEqual(self.heard(self.ben), [1, 5])
        self.assertEqual(self.heard(self.cyd), [1])


class UnsentTests(SynchronousTestCase):
    def test_what_was_sent_before_there_was_a_peer_reaches_the_first(self):
        """In order, and only the first: it passes it on."""
        solo = Solo()
        solo.broadcast("one")
        solo.broadcast("two")
        self.assertEqual(solo.node.flood.unsent, 2)
        ada, ben = solo.peer(b"Ada"), solo.peer(b"Ben")
        self.assertEqual([payload[1] for payload in solo.effects.to(ada, 0)], ["one", "two"])
        self.assertEqual(solo.effects.to(ben, 0), [])
        self.assertEqual(solo.node.flood.unsent, 0)

    def test_old_ones_are_dropped(self):
        """0.6 nodes take nothing that is older than a minute."""
        solo = Solo(unsent_age=55.0)
        solo.broadcast("old")
        solo.now += 30
        solo.broadcast("young")
        solo.now += 26
        ada = solo.peer(b"Ada")
        self.assertEqual([payload[1] for payload in solo.effects.to(ada, 0)], ["young"])

    def test_their_number_is_bounded(self):
        """The latest ones are kept."""
        solo = Solo(unsent_messages=3)
        for number in range(10):
            solo.broadcast(number)
        ada = solo.peer(b"Ada")
        self.assertEqual([payload[1] for payload in solo.effects.to(ada, 0)], [7, 8, 9])

    def test_they_can_be_switched_off(self):
        """With no room for them, nothing is kept."""
        solo = Solo(unsent_messages=0)
        solo.broadcast("lost")
        ada = solo.peer(b"Ada")
        self.assertEqual(solo.effects.to(ada, 0), [])


class MeshTests(SynchronousTestCase):
    def test_in_a_triangle_everybody_is_told_once(self):
        """Each of the two receivers hears it twice and tells it once."""
        world = World("ada", "ben", "cyd")
        world.link(("ada", "ben"), ("ben", "cyd"), ("cyd", "ada"))
        world.advance(5)
        world["ada"].broadcast("storm", "north")
        world.settle()
        self.assertEqual(
            [world[name].inbox for name in ("ada", "ben", "cyd")],
            [[], [("storm", "north")], [("storm", "north")]],
        )
        copies = sum(link.duplicates for host in world.hosts.values() for link in host.node.links)
        self.assertEqual(copies, 2)

    def test_a_chain_passes_it_on_to_its_end(self):
        """The id at the last node is that of the first, byte for byte the same body."""
        world = World("ada", "ben", "cyd", "dan", max_outgoing=0)
        world.link(("ada", "ben"), ("ben", "cyd"), ("cyd", "dan"))
        sent = world["ada"].broadcast("storm", [1, {"deep": None}], 2.5)
        world.settle()
        ((got, _),) = world["dan"].delivered
        self.assertEqual((got.id, bytes(got.body)), (sent.id, sent.body))
        self.assertEqual((got.sender, got.time), (world["ada"].node.id, WALL))

    def test_equal_messages_all_arrive(self):
        """Twenty times the same in one second are twenty messages, three hops away."""
        world = World("ada", "ben", "cyd", "dan", max_outgoing=0)
        world.link(("ada", "ben"), ("ben", "cyd"), ("cyd", "dan"))
        for _ in range(20):
            world["ada"].broadcast("tick")
        world.settle()
        for name in ("ben", "cyd", "dan"):
            self.assertEqual(world[name].inbox, [("tick",)] * 20)

    def test_a_thousand_messages_from_everybody_arrive_once_each(self):
        """In a ring with a chord, whatever way they take."""
        world = World("ada", "ben", "cyd", "dan", max_outgoing=0)
        world.link(("ada", "ben"), ("ben", "cyd"), ("cyd", "dan"), ("dan", "ada"), ("ada", "cyd"))
        for number in range(50):
            for name in world.hosts:
                world[name].broadcast(name, number)
        world.settle()
        for name, host in world.hosts.items():
            wanted = [(other, n) for other in world.hosts if other != name for n in range(50)]
            self.assertEqual(sorted(host.inbox), sorted(wanted))
            for other in world.hosts:
                if other != name:
                    own = [n for sender, n in host.inbox if sender == other]
                    self.assertEqual(sorted(own), list(range(50)))
