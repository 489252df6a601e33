"""Tests of `py2p_twisted.core.liveness`: who is asked, who is given up, and who is to blame."""

from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core.actions import Left
from py2p_twisted.core.extension import Kind
from py2p_twisted.core.liveness import OWN_DELAY
from py2p_twisted.errors import LinkUnresponsive
from tests.core.extended import Mesh, ext
from tests.core.support import START


class LivenessCase(SynchronousTestCase):
    """A node with one extended neighbour, and nothing else that has it wake up soon."""

    def build(self, **options):
        # Nothing else is to happen.
        quiet = {"shuffle_interval": 1e6, "probe_interval": 1e6, "shepherd_interval": 1e6}
        self.solo = Mesh(**{**quiet, **options})
        self.link = self.solo.neighbour(address=None)
        self.pong()

    def setUp(self):
        self.build()

    def pings(self, link=None):
        return self.solo.frames(link or self.link, Kind.PING)

    def pong(self, link=None):
        """The peer answers the latest question."""
        link = link or self.link
        self.solo.receive(link, ext(Kind.PONG, self.pings(link)[-1][0]))

    def late(self, seconds):
        """Time passes, and nobody wakes the node meanwhile: its process had no turn."""
        self.solo.now += seconds
        self.solo.note(self.solo.node.woken(self.solo.now, self.solo.wall))

    def looks(self):
        """The timers that will have the node look."""
        look = self.solo.node.mesh.liveness._look
        return [
            timer
            for _, _, timer in self.solo.node.timers._heap
            if timer.active and timer.action == look
        ]

    def died(self, seconds, step=0.125):
        """The second in which the silent peer is given up, if within so many."""
        begun = self.solo.now
        while self.solo.now < begun + seconds:
            self.solo.advance(step)
            if self.solo.closed(self.link):
                return self.solo.now - begun
        return None


class SilenceTests(LivenessCase):
    def test_a_new_peer_is_measured_at_once(self):
        """Before anything depends on how long an answer takes."""
        self.build()
        self.assertEqual(len(self.pings()), 1)
        self.assertEqual(self.link.ext.rtt, 0.0)

    def test_who_is_silent_for_two_seconds_is_asked(self):
        """Not before, and within a second of it."""
        self.solo.advance(1.875)
        self.assertEqual(len(self.pings()), 1)
        self.solo.advance(1.125)
        self.assertEqual(len(self.pings()), 2)

    def test_who_answers_stays_for_ever(self):
        """An hour of silence but for the answers."""
        for _ in range(3600):
            self.solo.advance(1.0)
            if len(self.pings()) and self.link.ext.ping_at is not None:
                self.pong()
        self.assertIsNone(self.solo.closed(self.link))
        # Every two seconds or three, not more often.
        self.assertGreater(len(self.pings()), 1000)
        self.assertLess(len(self.pings()), 1900)

    def test_who_does_not_is_given_up_within_six_seconds(self):
        """Whenever in between looks it fell silent; and it was asked before."""
        for eighths in range(9):
            self.build()
            self.solo.advance(eighths / 8)
            self.solo.receive(self.link, ext(99))
            took = self.died(10)
            self.assertIsInstance(self.solo.closed(self.link), LinkUnresponsive)
            self.assertGreater(took, 5.0)
            self.assertLessEqual(took, 6.0)
            self.assertGreaterEqual(len(self.pings()), 2)

    def test_the_application_is_told(self):
        """It has left the table."""
        self.died(10)
        self.assertEqual([type(left.error) for left in self.solo.all(Left)], [LinkUnresponsive])
        self.assertEqual(self.solo.node.links.open, ())

    def test_any_byte_is_life(self):
        """Also one of a frame that takes its time."""
        self.build(progress_rate=0, frame_timeout=1e6)
        data = ext(99, b"x" * 60)
        for position in range(len(data)):
            self.solo.receive(self.link, data[position : position + 1])
            self.solo.advance(1.75)
        self.assertIsNone(self.solo.closed(self.link))
        self.assertEqual(len(self.pings()), 1)

    def test_nobody_is_given_up_without_having_been_asked(self):
        """However short the patience that was asked for: a mesh may have nothing to say."""
        for ping, dead in ((2.0, 2.5), (2.0, 3.0), (5.0, 5.5), (1.0, 1.001)):
            self.build(ping_interval=ping, dead_after=dead)
            for _ in range(200):
                before = len(self.pings())
                self.solo.advance(0.125)
                if len(self.pings()) > before:
                    self.solo.advance(ping / 8)  # an answer takes its time
                    self.pong()
            self.assertIsNone(self.solo.closed(self.link), (ping, dead))

    def test_all_that_are_silent_are_given_up_and_no_others(self):
        """Each is judged by itself."""
        others = [self.solo.neighbour(b"%d" % number, address=None) for number in range(3)]
        for _ in range(10):
            self.solo.advance(1.0)
            self.solo.receive(others[1], ext(99))
        closed = [self.solo.closed(link) is not None for link in (self.link, *others)]
        self.assertEqual(closed, [True, True, False, True])

    def test_links_that_are_no_neighbours_are_watched_as_well(self):
        """They have to be noticed, too."""
        other = self.solo.extended(b"Other", address=None)
        self.assertFalse(other.ext.active)
        self.solo.advance(6.0)
        self.assertIsInstance(self.solo.closed(other), LinkUnresponsive)


class PlainTests(LivenessCase):
    def test_plain_nodes_are_neither_asked_nor_given_up(self):
        """0.6 has no ping."""
        solo = Mesh()
        link = solo.peer()
        solo.advance(3600.0)
        self.assertIsNone(solo.closed(link))
        self.assertEqual(len(solo.frames(link)), 1)  # HELLO

    def test_there_is_no_timer_while_nobody_is_watched(self):
        """A node alone sleeps."""
        self.assertIsNone(Mesh().node.timers.next())
        liveness = self.solo.node.mesh.liveness
        self.assertIsNotNone(liveness._timer)
        self.solo.lost(self.link)
        self.solo.advance(2.0)
        self.assertIsNone(liveness._timer)
        link = self.solo.neighbour(b"Another", address=None)
        self.solo.advance(10.0)
        self.assertIsNotNone(self.solo.closed(link))

    def test_there_is_one_timer_whoever_comes_and_goes(self):
        """Not one for every peer: looks would multiply."""
        for number in range(20):
            self.solo.lost(self.solo.neighbour(b"%d" % number, address=None))
            self.solo.advance(0.3)
            self.solo.receive(self.link, ext(99))
        self.assertEqual(len(self.looks()), 1)

    def test_a_link_that_takes_over_does_not_add_a_timer(self):
        """The one that waited for the dead one joins in the middle of a look."""
        # Ours is the greater id: of two links that the peer has dialled the old one stays.
        self.solo = Mesh(b"zzzz")
        self.link = self.solo.neighbour(b"Ext", address=None)
        self.solo.advance(4.5)
        standby = self.solo.extended(b"Ext", address=None)
        self.assertIs(self.link.standby, standby)
        self.died(2.0)
        self.assertEqual(self.solo.node.links.open, (standby,))
        self.assertEqual(len(self.looks()), 1)

    def test_nobody_is_watched_by_a_node_that_has_closed(self):
        """Nothing is left that would wake it for long."""
        self.solo.note(self.solo.node.close(self.solo.now, self.solo.wall))
        written = len(self.solo.effects.written)
        self.solo.advance(60.0)
        self.assertEqual(len(self.solo.effects.written), written)
        self.assertIsNone(self.solo.node.timers.next())


class OwnDelayTests(LivenessCase):
    def test_others_are_not_blamed_for_our_own_delay(self):
        """After ten seconds without a turn everybody gets another period to be heard."""
        self.late(10.0)
        self.assertIsNone(self.solo.closed(self.link))
        self.assertGreaterEqual(self.solo.node.mesh.liveness.lag, 9.0)
        self.assertEqual(len(self.pings()), 2)  # and is asked
        self.solo.receive(self.link, ext(99))  # what had lain unread
        self.solo.advance(1.0)
        self.assertIsNone(self.solo.closed(self.link))

    def test_after_another_period_they_are(self):
        """A dead peer is given up six seconds after our own delay."""
        self.late(10.0)
        took = self.died(20)
        self.assertGreaterEqual(took, 5.0)
        self.assertLessEqual(took, 7.0)

    def test_a_small_delay_is_no_excuse(self):
        """Up to a second is what a busy node takes."""
        self.solo.advance(4.0)
        when = self.solo.node.mesh.liveness._due
        self.late(when + OWN_DELAY - 0.001 - self.solo.now)
        self.assertLess(self.died(10), 4.0)

    def test_hours_of_suspension_cost_nobody_the_link(self):
        """What the network stack thinks of it is another matter."""
        self.late(7200.0)
        self.assertIsNone(self.solo.closed(self.link))
        self.pong()
        self.solo.advance(1.0)
        self.assertIsNone(self.solo.closed(self.link))

    def test_the_question_tells_by_how_much_we_were_late(self):
        """In milliseconds."""
        self.late(10.0)
        self.assertGreaterEqual(self.pings()[-1][1], 9000)
        self.assertEqual(self.pings()[0][1], 0)


class AnswerTests(LivenessCase):
    def test_a_question_is_answered_with_its_number(self):
        """Whatever number that is."""
        for seq in (0, -1, 2**64 - 1):
            self.solo.receive(self.link, ext(Kind.PING, seq, 0))
            self.assertEqual(self.solo.frames(self.link, Kind.PONG)[-1], (seq,))

    def test_the_way_is_measured_and_smoothed(self):
        """An eighth of every difference."""
        self.solo.advance(3.0)
        self.solo.advance(0.25)
        self.pong()
        # Asked two seconds after the last sign of life.
        self.assertEqual(self.link.ext.rtt, (self.solo.now - START - 2.0) / 8)

    def test_an_answer_counts_once_and_only_to_the_latest_question(self):
        """Repeating it, or answering older ones, would shift what is measured."""
        self.solo.advance(3.0)
        seq = self.pings()[-1][0]
        self.solo.receive(self.link, ext(Kind.PONG, seq - 1))
        self.solo.receive(self.link, ext(Kind.PONG, seq + 1))
        self.assertIsNotNone(self.link.ext.ping_at)
        self.solo.receive(self.link, ext(Kind.PONG, seq))
        measured = self.link.ext.rtt
        for _ in range(5):
            self.solo.advance(1.0)
            self.solo.receive(self.link, ext(Kind.PONG, seq))
        self.assertEqual(self.link.ext.rtt, measured)

    def test_who_holds_an_answer_back_does_not_make_us_patient(self):
        """Repair waits as long as the way takes: an hour of it would hold messages back."""
        self.build()
        other = self.solo.neighbour(b"Sly", address=None)
        for _ in range(3600):
            self.solo.advance(1.0)
            self.solo.receive(other, ext(99))
        self.solo.receive(other, ext(Kind.PONG, self.pings(other)[-1][0]))
        self.assertLessEqual(other.ext.rtt, self.solo.node.settings.ping_interval)
