"""Tests of `py2p_twisted.simulation.plain`: what 0.6 does, right and wrong (R1 to R12)."""

from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core import flags
from py2p_twisted.core.message import build
from py2p_twisted.simulation import Host, Simulation
from py2p_twisted.simulation.plain import PlainHost, _frame
from py2p_twisted.simulation.scenarios import FLOOD, settings_for
from py2p_twisted.simulation.wires import WINDOW
from tests.core.support import handshake, raw, whisper
from tests.simulation.support import Probe

PLAINLY = settings_for(FLOOD)


def chain(count, *, seed=1):
    """Plain nodes in a row; they learn nothing of each other."""
    sim = Simulation(seed, settings=PLAINLY)
    machines = sim.add(count, kind=PlainHost)
    for one, other in zip(machines[1:], machines, strict=False):
        sim.join(one, other)
        sim.run(1)
    return sim, machines


def degrees(machines):
    return [len(machine.table) for machine in machines]


class Talk:
    """A plain node whose only neighbour is the test."""

    def __init__(self):
        self.sim = Simulation(1, latency=(0.01, 0.01))
        (self.node,) = self.sim.add(1, kind=PlainHost)
        self.probe = self.meet()

    def meet(self, ident=b"Peer", **said):
        (probe,) = self.sim.add(1, kind=Probe)
        probe.connect(self.node.address)
        self.sim.run(0.1)
        self.say(handshake(ident, time=self.node.stamp, **said), probe)
        return probe

    def say(self, data, probe=None):
        """Write something, and see what comes back; nothing if it hangs up."""
        probe = probe or self.probe
        probe.log.clear()
        probe.write(data)
        self.sim.run(0.1)
        return probe.told

    @property
    def stamp(self):
        return self.node.stamp


class FloodTests(SynchronousTestCase):
    def test_messages_go_along_a_chain(self):
        sim, machines = chain(5)
        sent = sim.send(machines[0], "storm")
        sim.run(2)
        self.assertEqual((sent.count, sent.hops[4]), (4, 5))

    def test_r1_nodes_that_were_told_of_each_other_stay_as_they_are(self):
        """Ids come as bytes, which their own lists are passed over for."""
        sim = Simulation(1)
        machines = sim.add(5, kind=PlainHost)
        for machine in machines[1:]:
            sim.join(machine, machines[0])
            sim.run(1)
        self.assertEqual(degrees(machines), [4, 1, 1, 1, 1])

    def test_r2_equal_messages_of_a_second_are_one(self):
        sim, machines = chain(2)
        sim.run(1 - sim.now % 1)
        first, second = sim.send(machines[0], "again"), sim.send(machines[0], "again")
        sim.run(1)
        self.assertIs(first, second)
        self.assertEqual((first.count, machines[1].duplicates), (1, 1))

    def test_r4_a_message_that_is_just_too_old_is_forgotten_at_once(self):
        talk = Talk()
        old = raw(0, "storm", time=talk.stamp - 60)
        for _ in range(3):
            talk.say(old)
        self.assertEqual(talk.sim.history.foreign, 3)
        talk.say(raw(0, "storm", time=talk.stamp - 61))
        self.assertEqual(talk.sim.history.foreign, 3)

    def test_ids_are_known_for_a_minute(self):
        talk = Talk()
        storm = raw(0, "storm", time=talk.stamp + 30)
        talk.say(storm)
        talk.sim.run(80)
        talk.say(storm)
        self.assertEqual((talk.sim.history.foreign, talk.node.duplicates), (1, 1))
        talk.sim.run(12)
        talk.say(raw(0, "another", time=talk.stamp))  # only then does it tidy up
        self.assertNotIn(storm[4:36], talk.node.memory)

    def test_r5_stamps_from_the_future_are_taken_and_kept(self):
        talk = Talk()
        storm = raw(0, "storm", time=2**40)
        talk.say(storm)
        talk.sim.run(100)
        talk.say(raw(0, "another", time=talk.stamp))
        self.assertIn(storm[4:36], talk.node.memory)

    def test_r6_whose_clock_is_a_minute_slow_is_not_heard(self):
        sim, machines = chain(2)
        sim.clock_step(machines[0], -62.0)
        sent = sim.send(machines[0], "storm")
        sim.run(1)
        self.assertEqual(sent.count, 0)

    def test_r10_messages_go_back_to_who_brought_them_but_not_to_their_origin(self):
        talk = Talk()
        self.assertEqual(talk.say(raw(0, "x", sender=b"Other", time=talk.stamp)), ["data"])
        self.assertEqual(talk.say(raw(0, "y", sender=b"Peer", time=talk.stamp)), [])

    def test_small_messages_are_compressed_and_off_the_grid(self):
        message = build(0, b"Ada", 1, (0, "storm"))
        frame = _frame(message, [flags.ZLIB])
        self.assertEqual(frame[4:6], b"\x78\x9c")
        self.assertEqual(_frame(message, [])[4:36], message.id)


class LinkTests(SynchronousTestCase):
    def test_r12_one_that_leaves_empties_the_whole_network(self):
        """Whoever loses a peer sends ``'*'`` around, and is hung up on by all."""
        sim, machines = chain(5)
        self.assertEqual(degrees(machines), [1, 2, 2, 2, 1])
        sim.kill([machines[0]])
        sim.run(60)
        self.assertEqual(degrees(machines[1:]), [0, 0, 0, 0])

    def test_it_answers_bytes_and_hangs_up_on_text(self):
        talk = Talk()
        self.assertEqual(talk.say(whisper(flags.REQUEST, b"*")), ["data"])
        self.assertEqual(talk.say(whisper(flags.REQUEST, "*")), ["end"])

    def test_our_own_nodes_answer_its_text_with_a_list_that_it_uses(self):
        sim = Simulation(1, settings=PLAINLY)
        plain, *ours = [sim.add(kind=PlainHost)[0], *sim.add(5)]
        sim.join(plain, ours[0])
        for node in ours[1:]:
            sim.join(node, ours[0])
        sim.run(5)
        self.assertEqual(len(plain.table), 5)
        sim.kill(ours[:1])
        sim.run(5)
        self.assertTrue(plain.table)

    def test_it_follows_lists_whose_ids_are_text_up_to_four_links(self):
        talk = Talk()
        others = talk.sim.add(6, kind=Probe)
        entries = [[list(other.address), f"Id{other.index}"] for other in others]
        talk.say(whisper(flags.PEERS, [[list(others[0].address), b"bytes"]]))
        self.assertEqual(others[0].log, [])
        talk.say(whisper(flags.PEERS, entries))
        talk.sim.run(5)
        self.assertEqual(["opened" in other.told for other in others], [True] * 4 + [False] * 2)

    def test_it_does_nothing_else_while_it_dials(self):
        talk = Talk()
        (dark,) = talk.sim.add(1, kind=Probe)
        talk.sim.power_loss([dark])
        talk.say(whisper(flags.PEERS, [[list(dark.address), "Dark"]]))
        self.assertEqual(talk.say(whisper(flags.REQUEST, b"*")), [])
        talk.sim.run(1)
        self.assertEqual(talk.probe.told, ["data"])

    def test_unknown_sub_flags_go_to_handlers_that_read_the_next_packet(self):
        """One HELLO of two packets costs nothing; one without would cost the link."""
        talk = Talk()
        self.assertEqual(talk.say(whisper(0x2E, 1, 1)), [])
        self.assertEqual(talk.node.handled, {0x2E: 1})
        self.assertEqual(talk.say(whisper(0x2E)), ["end"])

    def test_broken_frames_cost_the_link(self):
        for bad in (raw(0, "x")[:-1] + b"?", b"\0\0\0\4oops", raw(flags.RESEND, flag=1)):
            self.assertEqual(Talk().say(bad), ["end"])

    def test_another_network_is_left_without_a_word(self):
        talk = Talk()
        talk.meet(b"Far", network="elsewhere")
        self.assertEqual(list(talk.node.table), [b"Peer"])

    def test_a_read_that_ends_four_bytes_into_a_frame_costs_the_link(self):
        first = raw(0, "x" * (1024 - 4 - len(raw(0, "x" * 400)) + 400))
        self.assertEqual(len(first), 1020)
        talk = Talk()
        storm = raw(0, "storm", time=talk.stamp)
        self.assertEqual(talk.say(first + storm), ["end"])
        talk = Talk()
        self.assertNotIn("end", talk.say(raw(0, "x" * 5) + storm))

    def test_frames_may_come_in_pieces_but_not_for_ever(self):
        talk = Talk()
        storm = raw(0, "storm", time=talk.stamp)
        talk.say(storm[:3])
        talk.say(storm[3:])
        self.assertEqual(talk.sim.history.foreign, 1)
        talk.say(storm[:30])
        talk.sim.run(59)
        self.assertEqual(talk.probe.told, [])
        talk.sim.run(3)
        self.assertEqual(talk.probe.told, ["end"])

    def test_what_does_not_fit_into_the_buffer_is_cut_off(self):
        talk = Talk()
        talk.sim.stop_reading(talk.probe)
        talk.probe.log.clear()
        for letter in b"abc":
            talk.sim.send(talk.node, talk.sim.rng(f"{letter}").randbytes(100_000))
        talk.sim.run(1)
        talk.sim.resume(talk.probe)
        self.assertTrue(WINDOW - 1000 <= len(talk.probe.got) <= WINDOW, len(talk.probe.got))

    def test_who_loses_power_is_not_noticed(self):
        """0.6 asks its kernel for no keepalive, and has no ping."""
        sim, machines = chain(2)
        sim.power_loss([machines[0]])
        sim.run(600)
        self.assertEqual(degrees(machines[1:]), [1])

    def test_crossed_connections_are_resolved_by_the_rule_or_both_lost(self):
        outcomes = set()
        for seed in range(12):
            sim = Simulation(seed)
            one, other = sim.add(2, kind=PlainHost)
            sim.join(one, other)
            sim.join(other, one)
            sim.run(5)
            outcomes.add((len(one.table), len(other.table)))
        self.assertIn((0, 0), outcomes)

    def test_replies_find_a_node_behind_another(self):
        sim, machines = chain(3)
        sim.reply(machines[0], machines[2].id, "yes")
        sim.run(5)
        self.assertEqual([entry[1:] for entry in sim.history.whispers], [(2, (2, "yes"))])


class MixedTests(SynchronousTestCase):
    def test_a_mixed_network_delivers_both_ways(self):
        sim = Simulation(3)
        machines = [sim.add(kind=kind)[0] for kind in [Host, PlainHost] * 6]
        sim.plan_joins(machines)
        sim.run(20)
        for machine in machines:
            sim.send(machine, machine.name)
        sim.run(5)
        for plain in (False, True):
            self.assertEqual(sim.history.figures(plain=plain).coverage, 100.0)
        self.assertEqual(sim.history.check(), [])
