"""Tests of `py2p_twisted.core.flood`."""

import zlib

from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core import compression
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
