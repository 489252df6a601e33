"""Tests of `py2p_twisted.core.timers`."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core.timers import Timers


class TimersTests(SynchronousTestCase):
    def test_nothing_happens_before_its_time(self):
        """A deadline is kept at its time, not before."""
        timers, calls = Timers(), []
        timers.at(5.0, lambda: calls.append("rang"))
        timers.due(4.999)
        self.assertEqual(calls, [])
        timers.due(5.0)
        self.assertEqual(calls, ["rang"])

    def test_a_deadline_comes_once(self):
        """What has happened does not happen again."""
        timers, calls = Timers(), []
        timer = timers.at(5.0, lambda: calls.append("rang"))
        timers.due(6.0)
        timers.due(7.0)
        self.assertEqual(calls, ["rang"])
        self.assertFalse(timer.active)

    @given(st.lists(st.integers(0, 20), max_size=30))
    def test_deadlines_come_in_their_order(self, times):
        """Earlier ones come first, and equal ones as they were set."""
        timers, calls = Timers(), []
        for number, when in enumerate(times):
            timers.at(when, lambda pair=(when, number): calls.append(pair))
        timers.due(20)
        self.assertEqual(calls, sorted((when, number) for number, when in enumerate(times)))

    def test_a_cancelled_deadline_does_not_come(self):
        """Calling one off leaves the others, and may be done twice."""
        timers, calls = Timers(), []
        unwanted = timers.at(1.0, lambda: calls.append("unwanted"))
        timers.at(2.0, lambda: calls.append("wanted"))
        unwanted.cancel()
        unwanted.cancel()
        self.assertEqual(timers.next(), 2.0)
        timers.due(3.0)
        self.assertEqual(calls, ["wanted"])

    def test_there_is_no_next_deadline_when_all_are_called_off(self):
        """Nobody has to be woken for nothing."""
        timers = Timers()
        for when in (1.0, 2.0):
            timers.at(when, self.fail).cancel()
        self.assertIsNone(timers.next())

    def test_an_action_may_set_another_deadline_that_is_due_already(self):
        """It comes in the same go, after what was due before it."""
        timers, calls = Timers(), []
        timers.at(1.0, lambda: timers.at(1.5, lambda: calls.append("second")))
        timers.at(2.0, lambda: calls.append("third"))
        timers.due(2.0)
        self.assertEqual(calls, ["second", "third"])

    def test_an_action_may_call_off_another(self):
        """Of two that are due the first may make the second needless."""
        timers, calls = Timers(), []
        second = None
        timers.at(1.0, lambda: second.cancel())
        second = timers.at(1.0, lambda: calls.append("second"))
        timers.due(1.0)
        self.assertEqual(calls, [])
