"""Tests of `py2p_twisted.simulation.history`: it must find what was planted, and count right."""

from types import SimpleNamespace

from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core.message import build
from py2p_twisted.simulation.history import History, quantile


def machine(index, history, **options):
    """Somebody to whom something happens."""
    known = {
        "index": index, "name": f"n{index}", "ours": True, "joined": 0.0, "died": None,
        "sim": SimpleNamespace(now=10.0),
    }  # fmt: skip
    one = SimpleNamespace(**{**known, **options})
    history.machines.append(one)
    return one


class HistoryTests(SynchronousTestCase):
    def setUp(self):
        self.history = History()
        self.ada, self.ben, self.cyd = (machine(index, self.history) for index in range(3))
        self.message = build(0, b"Ada", 1, (0, "storm"))

    def send(self, sender=None):
        return self.history.sending(self.message.id, sender or self.ada)

    def deliver(self, at, via, now=11.0):
        at.sim.now = now
        self.history.delivered(at, (self.message,), via)

    def test_a_history_in_which_all_went_well(self):
        sent = self.send()
        self.history.relayed((self.message,), 2)
        self.deliver(self.ben, self.ada, 11.0)
        self.history.relayed((self.message,), 1)
        self.deliver(self.cyd, self.ben, 12.5)
        self.assertEqual(self.history.check(), [])
        figures = self.history.figures()
        self.assertEqual((figures.sends, figures.pairs, figures.missing), (1, 2, 0))
        self.assertEqual((figures.coverage, figures.rmr), (100.0, 0.5))
        self.assertEqual((figures.mean, figures.most), (2.5, 2.5))
        self.assertEqual((figures.hops, figures.most_hops), (2, 2))
        self.assertEqual((sent.has(self.ben), sent.count), (True, 2))

    def test_copies_before_the_message_is_known_are_counted(self):
        self.history.relayed((self.message,), 3)
        self.assertEqual(self.send().copies, 3)

    def test_a_second_delivery_is_found(self):
        self.send()
        self.deliver(self.ben, self.ada)
        self.deliver(self.cyd, self.ada)
        self.deliver(self.ben, self.cyd)
        (violation,) = self.history.check()
        self.assertIn("n1 was delivered <Sent", violation)
        self.assertIn("twice", violation)

    def test_plain_nodes_may_deliver_twice(self):
        self.ben.ours = False
        self.send()
        for _ in range(2):
            self.deliver(self.ben, self.ada)
        self.assertEqual((self.history.check(complete=False), self.history.doubles), ([], 1))

    def test_a_sender_that_gets_its_own_message_is_found(self):
        self.send()
        self.deliver(self.ada, self.ben)
        self.assertIn("its own message", self.history.check(complete=False)[0])

    def test_two_sends_with_one_id_are_found(self):
        self.send()
        self.send()
        self.assertIn("with one id", self.history.check(complete=False)[0])

    def test_what_is_missing_is_found(self):
        self.send()
        self.deliver(self.ben, self.ada)
        (violation,) = self.history.check()
        self.assertIn("1 of 2 are without", violation)
        self.assertIn("n2", violation)
        self.assertEqual(self.history.check(complete=False), [])
        self.assertEqual(self.history.figures().coverage, 50.0)

    def test_what_was_lost_with_its_sender_is_owed_to_nobody(self):
        self.send()
        self.ada.died = 10.1
        self.assertEqual(self.history.check(), [])

    def test_but_if_one_has_it_all_must(self):
        self.send()
        self.ada.died = 10.1
        self.deliver(self.ben, self.ada)
        self.assertEqual(len(self.history.check()), 1)

    def test_who_joined_late_or_has_died_is_owed_nothing(self):
        self.ben.joined = 8.5
        self.cyd.died = 30.0
        self.send()
        self.assertEqual(self.history.figures().pairs, 0)
        self.assertEqual(self.history.check(), [])
        self.ben.joined = 8.0
        self.assertEqual(self.history.figures().pairs, 1)

    def test_who_came_after_the_send_may_have_it_once(self):
        sent = self.send()
        dee = machine(3, self.history)
        self.deliver(dee, self.ada)
        self.deliver(dee, self.ada)
        self.assertTrue(sent.has(dee))
        self.assertEqual(len(self.history.violations), 1)

    def test_plain_nodes_are_counted_by_themselves(self):
        self.cyd.ours = False
        self.send()
        self.deliver(self.cyd, self.ada)
        self.assertEqual(self.history.figures(plain=True).coverage, 100.0)
        self.assertEqual(self.history.figures().coverage, 0.0)

    def test_messages_that_nobody_sent_here_are_counted(self):
        self.deliver(self.ben, self.ada)
        self.assertEqual(self.history.foreign, 1)
        self.message = build(2, b"Ada", 1, (2, "yes"))
        self.deliver(self.ben, self.ada, 12.0)
        self.assertEqual(self.history.whispers, [(12.0, 1, (2, "yes"))])

    def test_gaps_are_kept(self):
        gap = SimpleNamespace(reason="retention", count=3, detail="")
        self.history.gap(self.ben, gap)
        self.assertEqual(self.history.gaps, [(10.0, 1, "retention", 3)])

    def test_violations_are_all_counted_and_some_kept(self):
        for _ in range(150):
            self.history.violation("again")
        self.assertEqual(len(self.history.check()), 101)
        self.assertEqual(self.history.check()[-1], "and 50 more")

    def test_the_digest_tells_histories_apart(self):
        before = self.history.digest()
        self.send()
        sent = self.history.digest()
        self.deliver(self.ben, self.ada)
        self.assertEqual(len({before, sent, self.history.digest()}), 3)

    def test_quantiles(self):
        self.assertEqual(quantile([], 0.5), 0.0)
        self.assertEqual(quantile([1.0, 2.0, 3.0], 0.5), 2.0)
        self.assertEqual(quantile([1.0, 2.0, 3.0], 0.99), 3.0)
