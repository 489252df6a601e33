"""Tests of `py2p_twisted.core.links`."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core import base58
from py2p_twisted.core.actions import Dial
from py2p_twisted.core.connection import Connection
from py2p_twisted.core.links import Links, replaces
from py2p_twisted.core.seen import SeenCache
from py2p_twisted.core.settings import Settings

digits = st.sampled_from([bytes([digit]) for digit in base58.ALPHABET])
ids = (
    st.lists(digits, min_size=1, max_size=6).map(b"".join)
    | st.lists(st.sampled_from([b"1", b"2"]), min_size=1, max_size=5).map(b"".join)
    | st.binary(min_size=1, max_size=6)
)
pairs = st.tuples(ids, ids).filter(lambda pair: pair[0] != pair[1])


def connection(ident=b"", *, dial=None, address=None):
    link = Connection(None, SeenCache(), Settings(), dial=dial, now=0.0)
    link.id, link.address = ident, address
    return link


def dial(host):
    return Dial((host, 1), None, 4.0, 1)


class ReplacesTests(SynchronousTestCase):
    @given(pairs, st.booleans())
    def test_both_ends_decide_alike(self, pair, dialled_by_first):
        """Whatever the ids, and whoever dialled: both keep the new one, or both the old one."""
        one, other = pair
        self.assertEqual(
            replaces(one, other, dialled_by_first), replaces(other, one, not dialled_by_first)
        )

    @given(pairs, st.booleans())
    def test_of_crossed_dials_the_order_does_not_matter(self, pair, first_is_ours):
        """Each end may see the two in another order; the same one is left."""
        ours, theirs = pair

        def kept(first, second):
            return second if replaces(ours, theirs, second) else first

        self.assertEqual(
            kept(first_is_ours, not first_is_ours), kept(not first_is_ours, first_is_ours)
        )

    def test_the_dial_of_the_greater_id_stays(self):
        """Of two that were dialled at the same moment."""
        self.assertTrue(replaces(b"z", b"a", new_is_ours=True))
        self.assertFalse(replaces(b"z", b"a", new_is_ours=False))
        self.assertFalse(replaces(b"a", b"z", new_is_ours=True))
        self.assertTrue(replaces(b"a", b"z", new_is_ours=False))

    def test_ids_are_compared_as_numbers(self):
        """A shorter text is a smaller number, wherever it would stand in a dictionary."""
        self.assertTrue(replaces(b"211", b"zz", new_is_ours=True))
        self.assertFalse(replaces(b"zz", b"211", new_is_ours=True))

    def test_captured_ids_decide_as_the_reference_does(self):
        """For base 58 ids the rule is the reference's, by the numbers they stand for."""
        one = b"9XKvLRVxzURpyDRSywfZu9QxojoQGpEgPkQyqtUmfWyHzgWtrbjbqdSdHh81ipCEwT"
        other = b"8EUq43XYnUGuBg72eQDepZJz2X5T5GxTKFLqWsmQSb5t915K9rmmEQmaP6TCtku2Rj"
        for ours, theirs in ((one, other), (other, one)):
            mine, yours = base58.decode(ours), base58.decode(theirs)
            for outgoing in (True, False):
                # "if exactly one of (mine > theirs, outgoing) is true, the old one stays"
                old_stays = (mine > yours) != outgoing
                self.assertEqual(replaces(ours, theirs, outgoing), not old_stays)


class LinksTests(SynchronousTestCase):
    def test_a_connection_is_greeting_until_it_joins(self):
        """Only who has introduced itself stands in the routing table."""
        links, link = Links(), connection()
        links.add(link)
        self.assertEqual((list(links), len(links), links.open), ([link], 1, ()))
        link.id = b"A"
        links.join(link)
        self.assertEqual((links.table, links.open), ({b"A": link}, (link,)))
        self.assertEqual((list(links), len(links)), ([link], 1))

    def test_a_second_connection_puts_the_first_aside(self):
        """The table holds one a peer; the other one is still known, to be closed in time."""
        links, old, new = Links(), connection(b"A"), connection(b"A")
        links.join(old)
        links.join(new)
        self.assertEqual(links.table, {b"A": new})
        self.assertEqual(set(links), {old, new})
        self.assertFalse(links.forget(old))
        self.assertTrue(links.forget(new))
        self.assertEqual((list(links), links.table, links.open), ([], {}, ()))

    def test_set_aside_is_out_of_the_table(self):
        """Whether it stood in it or was still greeting."""
        links, link, other = Links(), connection(b"A"), connection(b"A")
        links.join(link)
        links.add(other)
        links.set_aside(other)
        self.assertEqual((links.open, list(links.greeting)), ((link,), []))
        links.set_aside(link)
        self.assertEqual((links.open, set(links)), ((), {link, other}))

    def test_half_open_are_the_incoming_ones_in_order(self):
        """Those we dialled ourselves are not a stranger's doing."""
        links = Links()
        first, ours, second = connection(), connection(dial=dial("h")), connection()
        for link in (first, ours, second):
            links.add(link)
        self.assertEqual(links.half_open(), [first, second])

    def test_inbound_counts_peers_that_dialled_us(self):
        """Open ones only."""
        links = Links()
        links.add(connection())
        links.join(connection(b"A"))
        links.join(connection(b"B", dial=dial("h")))
        self.assertEqual(links.inbound(), 1)

    def test_a_peer_is_found_at_the_address_it_names_and_at_the_one_we_dialled(self):
        """Both lead to it; a node behind a forwarded port has two."""
        links = Links()
        link = connection(b"A", dial=dial("dialled"), address=("named", 1))
        links.join(link)
        self.assertIs(links.at(("named", 1)), link)
        self.assertIs(links.at(("dialled", 1)), link)
        self.assertIsNone(links.at(("other", 1)))
        links.set_aside(link)
        self.assertIsNone(links.at(("named", 1)))
