"""Tests of `py2p_twisted.core.replies`."""

from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core.message import build
from py2p_twisted.core.replies import Replies
from py2p_twisted.core.settings import Settings
from py2p_twisted.core.timers import Timers
from py2p_twisted.errors import MeshClosed, ReplyFailed
from tests.core.support import WALL


class RepliesTests(SynchronousTestCase):
    def setUp(self):
        self.timers = Timers()
        #: (request id, target), (address, id), (token, error)
        self.asked, self.dialled, self.done = [], [], []
        self.replies = Replies(
            b"Me",
            Settings(reply_timeout=9.0, max_replies=5),
            self.timers,
            ask=lambda *request: self.asked.append(request),
            dial=lambda *dial: self.dialled.append(dial),
            done=lambda *outcome: self.done.append(outcome),
        )

    def search(self, target, token, now=0.0):
        whisper = build(2, b"Me", WALL, (2, token))
        self.replies.search(target, token, whisper, now, WALL)
        return whisper

    def test_a_sender_is_asked_for_at_once(self):
        """The request names the sender in the type in which it named itself."""
        self.search(b"Far", 1)
        self.search("FarJS", 2)
        self.assertEqual([target for _, target in self.asked], [b"Far", "FarJS"])
        self.assertEqual([type(request) for request, _ in self.asked], [bytes, bytes])

    def test_an_answer_leads_to_a_dial_and_the_dial_to_the_replies(self):
        """All that waits for a sender goes out in order when it has become a neighbour."""
        first, second = self.search(b"Far", 1), self.search(b"Far", 2)
        self.assertTrue(self.replies.answered(self.asked[0][0], ("10.0.0.7", 1)))
        self.assertEqual(self.dialled, [(("10.0.0.7", 1), b"Far")])
        self.assertEqual(self.replies.found(b"Far"), [(1, first), (2, second)])
        self.assertEqual((len(self.replies), self.done), (0, []))

    def test_text_and_bytes_name_one_sender(self):
        """A JavaScript node's id is text on the wire, and the same id."""
        first, second = self.search("Far", 1), self.search(b"Far", 2)
        self.assertEqual(len(self.asked), 1)
        self.assertEqual(self.replies.found(b"Far"), [(1, first), (2, second)])

    def test_several_replies_in_one_second_have_requests_of_their_own(self):
        """Different senders, or one after the other to the same: no request id comes twice."""
        self.search(b"A", 1)
        self.search(b"B", 2)
        self.replies.found(b"A")
        self.search(b"A", 3)
        self.assertEqual(len({request for request, _ in self.asked}), 3)

    def test_a_request_is_repeated_once(self):
        """After a third of the time; the answer to either counts."""
        self.search(b"Far", 1)
        self.timers.due(2.9)
        self.assertEqual(len(self.asked), 1)
        self.timers.due(3.0)
        self.timers.due(8.9)
        (first, _), (second, target) = self.asked
        self.assertEqual(target, b"Far")
        self.assertNotEqual(first, second)
        for request in (first, second):
            self.assertTrue(self.replies.answered(request, ("10.0.0.7", 1)))

    def test_without_an_answer_everything_fails_in_time(self):
        """Each reply by itself, with a reason that says nobody knew."""
        self.search(b"Far", 1)
        self.search(b"Far", 2, now=5.0)
        self.timers.due(9.0)
        self.assertEqual([token for token, _ in self.done], [1, 2])
        for _, error in self.done:
            self.assertIsInstance(error, ReplyFailed)
            self.assertIn("nobody knows", str(error))
        self.assertEqual(self.replies.found(b"Far"), [])

    def test_an_address_that_does_not_answer_is_another_reason(self):
        """The text tells an unknown sender from an unreachable one."""
        self.search(b"Far", 1)
        self.replies.answered(self.asked[0][0], ("10.0.0.7", 1))
        self.timers.due(9.0)
        self.assertIn("did not answer", str(self.done[0][1]))

    def test_three_addresses_are_tried(self):
        """The first answer may be a liar's, the thousandth surely is."""
        self.search(b"Far", 1)
        for number in range(1000):
            self.replies.answered(self.asked[0][0], (f"10.0.1.{number}", 1))
        self.assertEqual(
            [host for (host, _), _ in self.dialled], ["10.0.1.0", "10.0.1.1", "10.0.1.2"]
        )

    def test_an_answer_to_somebody_elses_request_is_none_of_our_business(self):
        """Responses are flooded, so everybody sees them."""
        self.search(b"Far", 1)
        self.assertFalse(self.replies.answered(b"another", ("10.0.0.7", 1)))
        self.assertEqual(self.dialled, [])

    def test_a_late_answer_does_nothing(self):
        """When the sender was found in another way, or given up."""
        self.search(b"Far", 1)
        self.replies.found(b"Far")
        self.assertFalse(self.replies.answered(self.asked[0][0], ("10.0.0.7", 1)))
        self.assertEqual(self.dialled, [])

    def test_found_replies_do_not_fail_later(self):
        """Their deadlines are called off."""
        self.search(b"Far", 1)
        self.replies.found(b"Far")
        self.assertIsNone(self.timers.next())

    def test_too_many_replies_fail_at_once(self):
        """The number that waits is bounded; those that wait already go on waiting."""
        for token in range(1, 6):
            self.search(b"%d" % token, token)
        self.search(b"Far", 6)
        ((token, error),) = self.done
        self.assertEqual(token, 6)
        self.assertIsInstance(error, ReplyFailed)
        self.assertEqual((len(self.replies), len(self.asked)), (5, 5))

    def test_closing_gives_up_everything(self):
        """Whoever waits is told, and no deadline is left."""
        self.search(b"A", 1)
        self.search(b"B", 2)
        error = MeshClosed("closing")
        self.replies.stop(error)
        self.assertEqual(self.done, [(1, error), (2, error)])
        self.assertEqual((len(self.replies), self.timers.next()), (0, None))
