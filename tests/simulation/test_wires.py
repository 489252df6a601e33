"""Tests of `py2p_twisted.simulation.wires` and ``machine``: what connections do."""

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core.settings import Settings
from py2p_twisted.net import flow, protocol
from py2p_twisted.simulation import Simulation, wires
from tests.simulation.support import Probe, probes


class DialTests(SynchronousTestCase):
    def dial(self, **options):
        sim = Simulation(1, latency=(0.05, 0.05), **options)
        ada, ben = sim.add(2, kind=Probe)
        return sim, ada, ben

    def test_who_dials_is_connected_after_a_round_trip_the_other_half_a_one_later(self):
        sim, ada, ben = self.dial()
        ada.connect(ben.address)
        sim.run(1)
        self.assertEqual((ada.log, ben.log), ([(0.1, "opened", None)], [(0.15, "opened", None)]))
        self.assertEqual((sim.dials, sim.connections), (1, 1))

    def test_where_nobody_listens_a_dial_is_refused_after_a_round_trip(self):
        sim, ada, ben = self.dial()
        sim.kill([ben])
        ada.connect(ben.address)
        sim.run(1)
        self.assertEqual(ada.log, [(0.1, "failed", "ConnectionRefusedError")])

    def test_where_there_is_no_way_a_dial_takes_its_time(self):
        sim, ada, ben = self.dial()
        sim.power_loss([ben])
        ada.connect(ben.address)
        sim.run(5)
        self.assertEqual(ada.log, [(4.0, "failed", "ConnectTimeout")])

    def test_a_dial_during_a_cut_succeeds_when_that_ends_in_time(self):
        """Kernels repeat the request: after one second, and two more."""
        sim, ada, ben = self.dial()
        sim.partition([[ada]])
        ada.connect(ben.address)
        sim.run(2)
        sim.heal()
        sim.run(2)
        self.assertEqual(ada.log, [(3.1, "opened", None)])

    def test_who_dies_while_being_dialled_refuses(self):
        sim, ada, ben = self.dial()
        ada.connect(ben.address)
        sim.run(0.07)
        sim.kill([ben])
        sim.run(1)
        self.assertEqual(ada.told, ["failed"])

    def test_who_dies_while_dialling_leaves_nothing_behind(self):
        sim, ada, ben = self.dial()
        ada.connect(ben.address)
        sim.run(0.07)
        sim.kill([ada])
        sim.run(1)
        self.assertEqual((ben.log, ben.ends), ([], {}))

    def test_a_machine_cannot_dial_itself(self):
        """Nodes know that, but may be told so under another name."""
        sim, ada, _ = self.dial()
        ada.connect(ada.address)
        sim.run(1)
        self.assertEqual(ada.told, ["failed"])


class StreamTests(SynchronousTestCase):
    def test_what_is_written_arrives_in_order_after_the_latency(self):
        sim, ada, ben = probes()
        ada.write(b"one")
        ada.write(b"two", b"three")
        sim.run(1)
        self.assertEqual(ben.log, [(1.05, "data", b"one"), (1.05, "data", b"twothree")])

    def test_directions_have_latencies_of_their_own_within_the_range(self):
        _, ada, _ = probes(latency=(0.01, 0.1))
        drawn = {ada.end.latency, ada.end.other.latency}
        self.assertEqual(len(drawn), 2)
        self.assertTrue(all(0.01 <= latency <= 0.1 for latency in drawn), drawn)

    def test_a_bandwidth_makes_bytes_wait_for_those_before_them(self):
        sim, ada, ben = probes(bandwidth=1000.0)
        ada.write(b"x" * 500)
        ada.write(b"y" * 100)
        sim.run(1)
        self.assertEqual(ben.times("data"), [1.55, 1.65])

    def test_a_turn_is_one_write_however_many_frames_it_queued(self):
        sim, ada, ben = probes()
        for _ in range(3):
            ada.end.put((b"x",))
        ada.flush()
        sim.run(1)
        self.assertEqual(ben.log, [(1.05, "data", b"xxx")])


class EndTests(SynchronousTestCase):
    def test_a_close_lets_everything_arrive_first(self):
        sim, ada, ben = probes(bandwidth=1000.0)
        ada.write(b"x" * 500)
        ada.end.close(True)
        sim.run(1)
        self.assertEqual(ben.log[0][1:], ("data", b"x" * 500))
        self.assertEqual(ben.log[1], (1.55, "end", None))
        self.assertEqual((ada.log, ada.ends, ben.ends), ([], {}, {}))

    def test_what_comes_during_a_goodbye_is_ignored(self):
        sim, ada, ben = probes()
        ben.write(b"late")
        ada.end.close(True)
        sim.run(1)
        self.assertEqual((ada.log, ben.told), ([], ["end"]))

    def test_a_goodbye_that_takes_too_long_is_cut_short(self):
        sim, ada, ben = probes()
        sim.stop_reading(ben)
        ada.write(b"x" * wires.WINDOW, b"y")
        ada.end.close(True)
        sim.run(wires.CLOSE_TIMEOUT + 1)
        sim.resume(ben)
        self.assertEqual(ben.told, ["data", "reset"])
        self.assertEqual(ben.got, b"x" * wires.WINDOW)

    def test_an_abort_loses_what_is_under_way(self):
        sim, ada, ben = probes()
        ada.write(b"lost")
        sim.run(0.01)
        ada.end.abort()
        sim.run(1)
        self.assertEqual(ben.log[0][:2], (1.06, "reset"))
        self.assertEqual(len(ben.log), 1)

    def test_a_broken_connection_loses_what_is_under_way_both_ways(self):
        sim, ada, ben = probes()
        ada.write(b"lost")
        ben.write(b"lost")
        ada.end.break_both()
        ada.write(b"lost as well")
        sim.run(1)
        self.assertEqual((ada.told, ben.told), (["reset"], ["reset"]))

    def test_frames_break_connections_as_often_as_they_should(self):
        broken = 0
        for seed in range(200):
            sim = Simulation(seed, latency=(0.05, 0.05))
            ada, ben = sim.add(2, kind=Probe)
            ada.connect(ben.address)
            sim.run(1)
            sim.break_frames(0.05)
            ada.write(*[b"x"] * 10)
            sim.run(1)
            broken += "reset" in ben.told
            self.assertEqual("data" in ben.told, "reset" not in ben.told)
        self.assertTrue(60 <= broken <= 100, broken)  # 1 - 0.95 ** 10 is 40 %


class KillTests(SynchronousTestCase):
    def test_frames_in_flight_from_who_is_killed_are_lost(self):
        sim, ada, ben = probes()
        ada.write(b"in flight")
        sim.run(0.02)
        sim.kill([ada])
        sim.run(1)
        self.assertEqual([entry[:2] for entry in ben.log], [(1.07, "reset")])

    def test_or_arrive_if_the_kernel_had_sent_them(self):
        sim, ada, ben = probes()
        ada.write(b"in flight")
        sim.run(0.02)
        sim.kill([ada], in_flight=True)
        sim.run(1)
        self.assertEqual([entry[:2] for entry in ben.log], [(1.05, "data"), (1.07, "reset")])

    def test_what_was_on_its_way_to_the_dead_is_gone(self):
        sim, ada, ben = probes()
        ben.write(b"hello?")
        sim.kill([ada])
        sim.run(1)
        self.assertEqual((ada.log, ben.told), ([], ["reset"]))
        self.assertEqual(ada.ends, {})


class SilenceTests(SynchronousTestCase):
    def test_who_loses_power_is_noticed_by_keepalive_alone(self):
        sim, ada, ben = probes()
        sim.run(23)  # the last sign of life was a probe's answer, 4 s ago
        sim.power_loss([ada])
        sim.run(60)
        ((when, what, error),) = ben.log
        self.assertEqual(what, "reset")
        self.assertTrue(24 + 15 <= when <= 24 + 25, when)
        self.assertIn("timed out", str(error))

    def test_or_by_what_is_not_acknowledged(self):
        sim, ada, ben = probes()
        sim.power_loss([ada])
        ben.write(b"hello?")
        sim.run(60)
        self.assertEqual(ben.times("reset"), [1 + wires.USER_TIMEOUT])

    def test_what_was_under_way_at_a_power_loss_never_comes(self):
        sim, ada, ben = probes()
        ada.write(b"lost")
        sim.power_loss([ada])
        sim.run(60)
        self.assertEqual(ben.told, ["reset"])

    def test_a_restarted_machine_knows_of_no_connections(self):
        """Its kernel answers the next question with a reset."""
        sim, ada, ben = probes()
        sim.power_loss([ada])
        sim.run(2)
        sim.restart(ada)
        sim.run(10)
        self.assertEqual(ben.told, ["reset"])

    def test_a_cut_with_resets_is_noticed_at_once(self):
        sim, ada, ben = probes()
        sim.partition([[ada]])
        sim.run(1)
        self.assertEqual((ada.times("reset"), ben.times("reset")), ([1.05], [1.05]))

    def test_a_silent_cut_delays_what_is_written_until_a_retransmission(self):
        """Intervals double: 0.2, 0.4, 0.8, 1.6 s: sent at 1.0, tried at 1.2, 1.6, 2.4, 4.0."""
        sim, ada, ben = probes()
        sim.partition([[ada]], reset=False)
        ada.write(b"one")
        sim.run(0.5)
        ada.write(b"two")
        sim.run(1.5)
        self.assertEqual(ben.log, [])
        sim.heal()
        sim.run(5)
        self.assertEqual(ben.log, [(4.05, "data", b"one"), (4.05, "data", b"two")])

    def test_what_is_written_after_the_heal_waits_for_what_was_before(self):
        sim, ada, ben = probes()
        sim.partition([[ada]], reset=False)
        ada.write(b"one")
        sim.run(2)
        sim.heal()
        ada.write(b"two")
        sim.run(5)
        self.assertEqual(ben.got, b"onetwo")

    def test_in_flight_when_a_silent_cut_begins_is_not_lost(self):
        sim, ada, ben = probes()
        ada.write(b"one")
        sim.run(0.01)
        sim.partition([[ada]], reset=False)
        sim.run(1)
        self.assertEqual(ben.log, [])
        sim.heal()
        sim.run(5)
        self.assertEqual(ben.got, b"one")

    def test_a_silent_cut_of_half_a_minute_ends_connections(self):
        sim, ada, ben = probes()
        sim.partition([[ada]], reset=False)
        ada.write(b"lost")
        sim.run(30)
        sim.heal()
        sim.run(30)
        self.assertEqual((ada.told, ben.told), (["reset"], ["reset"]))

    def test_who_has_not_noticed_a_cut_learns_that_the_other_has_given_up(self):
        """What is written then is answered by a reset, and so is a keepalive probe."""
        for writes in (False, True):
            sim, ada, ben = probes()
            sim.partition([[ada]], reset=False)
            ada.write(b"lost")  # gives up at 21
            sim.run(20.5)
            self.assertEqual((ada.told, ben.told), (["reset"], []))
            sim.heal()
            if writes:
                ben.write(b"hello?")
            sim.run(11)
            self.assertEqual((ben.told, ben.got), (["reset"], b""))


class PressureTests(SynchronousTestCase):
    def test_the_limits_are_those_of_the_product(self):
        for name in ("CLOSE_TIMEOUT", "REFUSAL_TIMEOUT", "KEEPALIVE_IDLE"):
            self.assertEqual(getattr(wires, name), getattr(protocol, name), name)
        probing = protocol.KEEPALIVE_PROBES * protocol.KEEPALIVE_INTERVAL
        self.assertEqual(wires.KEEPALIVE, protocol.KEEPALIVE_IDLE + probing)
        self.assertEqual(wires.USER_TIMEOUT, protocol.USER_TIMEOUT / 1000)

    def test_who_does_not_read_fills_the_window_then_the_outbox(self):
        sim, ada, ben = probes()
        sim.stop_reading(ben)
        chunk = b"x" * (64 * 1024)
        for _ in range(40):
            ada.write(chunk)
            sim.run(0.1)
        self.assertEqual(ada.end.written, wires.WINDOW)
        self.assertEqual(ada.end.size, 36 * len(chunk))
        self.assertEqual((ada.told, ben.log), (["congested"], []))
        sim.resume(ben)
        sim.run(5)
        self.assertEqual(ben.got, chunk * 40)
        self.assertEqual(ada.told, ["congested", "relieved"])
        self.assertEqual((ada.end.written, ada.end.size), (0, 0))

    def stopped(self, steps):
        """When what is told of a peer that does not read, with these (seconds, bytes) for it."""
        sim, ada, ben = probes()
        sim.stop_reading(ben)
        ada.write(b"x" * wires.WINDOW)
        begun = sim.now
        for when, size in steps:
            sim.run_to(begun + when)
            ada.write(bytes(size))
        sim.run(0.01)
        return [(round(when - begun, 3), what) for when, what, _ in ada.log]

    def stopped_for_real(self, steps):
        """The same of a queue of the product."""
        clock, log = Clock(), []

        def note(what):
            log.append((round(clock.seconds(), 3), what))

        outbox = flow.Outbox(
            clock,
            StringTransport(),
            flow.Pace(clock),
            lambda error: note("too slow"),
            largest=Settings().max_message,
            congestion=lambda congested: note("congested" if congested else "relieved"),
        )
        outbox.put([b"x"])
        outbox.flush()
        outbox.pauseProducing()
        for when, size in steps:
            clock.advance(when - clock.seconds())
            outbox.put([bytes(size)])
            outbox.flush()
        return log

    def test_who_does_not_read_is_told_later_by_the_same_rule_as_in_the_product(self):
        """Above high water when nothing has moved for a second; above the limit at once."""
        some, more, large = 512 * 1024, 3 * 1024 * 1024, 8 * 1024 * 1024
        for steps, expected in (
            ([(0.1, some), (5.0, some)], []),
            ([(0.1, some), (0.2, some), (0.9, some)], []),
            ([(0.1, some), (0.2, some), (1.0, some), (1.1, some)], [(1.1, "congested")]),
            ([(0.1, more), (2.0, 1), (2.5, more)], [(2.0, "congested")]),
            ([(0.1, more), (0.2, large), (0.3, more)], [(0.3, "congested")]),
            ([(0.1, more)] * 4, []),
            ([(0.1, more)] * 4 + [(0.2, 1)], [(0.2, "congested")]),
            ([(0.1, more)] * 5 + [(0.2, 1)], [(0.1, "congested")]),
            ([(0.1, more)] * 6 + [(0.2, 1)], [(0.1, "congested"), (0.2, "too slow")]),
        ):
            self.assertEqual(self.stopped(steps), expected, steps)
            self.assertEqual(self.stopped_for_real(steps), expected, steps)

    def test_a_first_large_message_after_a_silence_makes_nobody_slow(self):
        """Nothing has moved, since there was nothing to read."""
        clock, log = Clock(), []
        outbox = flow.Outbox(
            clock,
            StringTransport(),
            flow.Pace(clock),
            log.append,
            largest=Settings().max_message,
            congestion=log.append,
        )
        clock.advance(5)
        outbox.put([bytes(2 * flow.HIGH_WATER)])
        outbox.flush()
        clock.advance(0)
        self.assertEqual(log, [])

    def test_who_reads_is_given_what_comes(self):
        """Though more than high water waits: it would have to ask for what is withheld."""
        sim, ada, ben = probes()
        sim.slow(ben, 500_000.0)
        most = 0
        for _ in range(500):
            ada.write(bytes(8192))
            sim.run(0.01)
            most = max(most, ada.end.size)
        self.assertGreater(most, wires.HIGH_WATER)
        self.assertEqual(ada.log, [])

    def test_who_reads_slowly_gets_so_many_bytes_a_second(self):
        sim, ada, ben = probes()
        sim.slow(ben, 1000.0)
        for _ in range(20):
            ada.write(b"x" * 500)
        sim.run(5)
        self.assertTrue(4500 <= len(ben.got) <= 5500, len(ben.got))
        sim.resume(ben)
        self.assertEqual(len(ben.got), 10_000)

    def test_however_they_come(self):
        """Piece by piece, each when the one before has been read, but not yet dealt with."""
        sim, ada, ben = probes()
        sim.slow(ben, 1000.0)
        for _ in range(50):
            ada.write(b"x" * 500)
            sim.run(0.1)
        self.assertTrue(4500 <= len(ben.got) <= 5500, len(ben.got))

    def test_a_peer_that_takes_nothing_for_a_minute_is_too_slow(self):
        sim, ada, ben = probes()
        sim.stop_reading(ben)
        ada.write(b"x" * wires.WINDOW)
        sim.run(59)
        self.assertEqual(ada.log, [])
        sim.run(2)
        self.assertEqual(ada.told, ["too slow"])

    def test_a_queue_that_is_full_is_too_slow(self):
        sim, ada, ben = probes()
        sim.stop_reading(ben)
        chunk = b"x" * (1024 * 1024)
        written = 0
        while "too slow" not in ada.told:
            ada.write(chunk)
            sim.run(0.1)
            written += 1
        self.assertEqual(ada.told, ["congested", "too slow"])
        self.assertEqual(written, 15)  # a quarter of the first has gone out

    def test_a_suspended_process_finds_everything_when_it_wakes_up(self):
        sim, ada, ben = probes()
        sim.suspend(ben, 10)
        ada.write(b"one")
        sim.run(2)
        ada.write(b"two")
        ada.end.close(True)
        sim.run(3)
        self.assertEqual(ben.log, [])
        sim.run(8)
        self.assertEqual(ben.told, ["data", "data", "end"])
        self.assertEqual({entry[0] for entry in ben.log}, {11.0})

    def test_connections_to_a_suspended_process_are_made_by_its_kernel(self):
        sim = Simulation(1, latency=(0.05, 0.05))
        ada, ben = sim.add(2, kind=Probe)
        sim.suspend(ben, 10)
        ada.connect(ben.address)
        sim.run(1)
        ada.write(b"hello")
        sim.run(10)
        self.assertEqual(ada.times("opened"), [0.1])
        self.assertEqual((ben.told, ben.times("opened")), (["opened", "data"], [10.0]))
