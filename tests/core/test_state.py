"""Tests of `py2p_twisted.core.state`: what was written is read, and what is damaged hurts nothing else."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core import base58
from py2p_twisted.core.connection import read_address
from py2p_twisted.core.message import MAX_ID
from py2p_twisted.core.state import (
    HEAD,
    ID,
    MOST_TOGETHER,
    VERSION,
    Damaged,
    NewerVersion,
    decode_book,
    decode_identity,
    decode_ids,
    encode_book,
    encode_identity,
    encode_ids,
    latest,
    span,
    title,
    with_ages,
)

WALL = 1_790_000_000

idents = st.binary(min_size=ID, max_size=ID)
runs = st.lists(
    st.tuples(st.integers(0, 2**32 - 1), st.lists(idents, min_size=1, max_size=5)), max_size=5
)
peers = st.lists(
    st.tuples(
        st.tuples(st.text(min_size=1, max_size=253), st.integers(1, 65535)),
        st.binary(max_size=MAX_ID),
    ),
    max_size=5,
    unique_by=lambda peer: peer[0],
)


def ident(number):
    """An id like that of a message."""
    return number.to_bytes(ID, "big")


class IdentityTests(SynchronousTestCase):
    OWN = base58.encode(2**383)

    def test_what_is_written_is_read(self):
        """An id comes back as it was."""
        self.assertEqual(decode_identity(encode_identity(self.OWN)), self.OWN)

    def test_no_part_of_it_will_do(self):
        """A file that was cut short is no id: half of one would be another node's."""
        data = encode_identity(self.OWN)
        for length in range(len(data)):
            self.assertRaises(Damaged, decode_identity, data[:length])

    def test_every_flipped_bit_is_noticed(self):
        """Damage never makes another id."""
        data = encode_identity(self.OWN)
        for bit in range(8 * len(data)):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            with contextlib.suppress(Damaged, NewerVersion):
                self.assertEqual(decode_identity(bytes(flipped)), self.OWN)

    def test_a_newer_version(self):
        """What a newer version wrote is not guessed at."""
        data = encode_identity(self.OWN).replace(b" 1\n", b" 2\n", 1)
        self.assertEqual(self.assertRaises(NewerVersion, decode_identity, data).version, 2)

    @given(st.binary(max_size=200))
    def test_anything_else_is_damage(self, data):
        """Arbitrary bytes are refused, by one of two errors."""
        for given_data in (data, title("identity") + data):
            try:
                found = decode_identity(given_data)
            except (Damaged, NewerVersion):
                continue
            self.assertEqual(encode_identity(found), given_data)


class BookTests(SynchronousTestCase):
    BOOK = [(("10.0.0.1", 4444), b"ada"), (("node.example", 1), b""), (("2001:db8::7", 2), b"\xff")]

    def test_what_is_written_is_read(self):
        """Addresses and ids come back in their order."""
        self.assertEqual(decode_book(encode_book(self.BOOK, "net"), "net", 9), (self.BOOK, 0))

    @given(peers)
    def test_whatever_they_are(self, book):
        """Of any hosts and ids, those that could be dialled come back."""
        found, damaged = decode_book(encode_book(book, "net"), "net", 9)
        expected = [peer for peer in book if read_address(peer[0]) is not None]
        self.assertEqual(found, expected)
        self.assertEqual(damaged, len(book) - len(expected))

    def test_every_prefix(self):
        """Of a file that was cut short, all whole lines are used."""
        data = encode_book(self.BOOK, "net")
        for length in range(len(data)):
            found, damaged = decode_book(data[:length], "net", 9)
            self.assertEqual(found, self.BOOK[: len(found)])
            whole = data[:length].count(b"\n") - 2
            self.assertEqual(len(found), max(0, whole))
            self.assertEqual(bool(damaged), not data[:length].endswith(b"\n"))

    def test_of_another_network(self):
        """The addresses of another network are of no use, and no damage either."""
        self.assertEqual(decode_book(encode_book(self.BOOK, "other"), "net", 9), ([], 0))

    def test_no_more_than_wanted(self):
        """A file that somebody has made long fills no memory."""
        self.assertEqual(decode_book(encode_book(self.BOOK, "net"), "net", 2), (self.BOOK[:2], 0))

    def test_a_newer_version(self):
        """What a newer version wrote is not guessed at."""
        data = encode_book(self.BOOK, "net").replace(b" 1\n", b" 7\n", 1)
        self.assertRaises(NewerVersion, decode_book, data, "net", 9)

    @given(st.binary(max_size=300), st.integers(0, 300))
    def test_damage(self, noise, place):
        """Bytes that were overwritten cost the lines in which they stand."""
        data = bytearray(encode_book(self.BOOK, "net"))
        data[place : place + len(noise)] = noise
        try:
            found, _ = decode_book(bytes(data), "net", 9)
        except NewerVersion:
            return
        self.assertLessEqual(len(found), 9)
        for address, who in found:
            self.assertEqual(read_address(address), address)
            self.assertLessEqual(len(who), MAX_ID)

    def test_nonsense(self):
        """JSON that is no node: nested, of other types, endless."""
        nonsense = [b"[" * 9000, b"{}", b"1", b'["a", 1]', b'["a", "1", "x"]', b'[["a"], 1, "x"]']
        nonsense += [
            b'["a", true, "x"]',
            b'["a", 1, 2]',
            b'["a", 70000, "x"]',
            b'["a", 1, "\\u1234"]',
        ]
        data = title("addresses") + b"net\n" + b"\n".join(nonsense) + b'\n["b", 2, "x"]\n'
        self.assertEqual(decode_book(data, "net", 9), ([(("b", 2), b"x")], len(nonsense)))


class IdsTests(SynchronousTestCase):
    @given(runs)
    def test_what_is_written_is_read(self, written):
        """Runs come back in their order, with their times."""
        data = title("ids") + b"".join(encode_ids(found, when) for when, found in written)
        self.assertEqual(decode_ids(data), (written, 0))

    def test_many_at_once(self):
        """What is too much for one run is several."""
        many = [ident(number) for number in range(MOST_TOGETHER + 1)]
        found, damaged = decode_ids(title("ids") + encode_ids(many, WALL))
        self.assertEqual([len(run) for _, run in found], [MOST_TOGETHER, 1])
        self.assertEqual([one for _, run in found for one in run], many)
        self.assertFalse(damaged)

    def test_times_that_no_clock_shows(self):
        """The time is kept within what four bytes hold."""
        for when, kept in ((-5, 0), (2**40, 2**32 - 1)):
            self.assertEqual(decode_ids(encode_ids([ident(1)], when))[0], [(kept, [ident(1)])])

    def test_every_prefix(self):
        """Of a file that was cut short, all whole runs are used."""
        data = title("ids") + b"".join(encode_ids([ident(n)], WALL) for n in range(4))
        for length in range(len(data)):
            found, damaged = decode_ids(data[:length])
            whole, rest = divmod(max(0, length - len(title("ids"))), HEAD + ID)
            self.assertEqual([run for _, run in found], [[ident(n)] for n in range(whole)])
            self.assertEqual(damaged, rest if length >= len(title("ids")) else length)

    @given(runs, runs, st.binary(max_size=200))
    def test_damage_costs_what_is_damaged(self, before, after, noise):
        """What stands before and behind it is read."""
        data = (
            title("ids")
            + b"".join(encode_ids(found, when) for when, found in before)
            + noise
            + b"".join(encode_ids(found, when) for when, found in after)
        )
        found, damaged = decode_ids(data)
        self.assertEqual(found[: len(before)], before)
        self.assertEqual(found[len(found) - len(after) :], after)
        self.assertLessEqual(damaged, len(noise))

    @given(runs, st.integers(0, 10**6))
    def test_a_flipped_bit_makes_no_id(self, written, place):
        """Nothing is read that was not written."""
        data = bytearray(
            title("ids") + b"".join(encode_ids(found, when) for when, found in written)
        )
        place %= 8 * len(data)
        data[place // 8] ^= 1 << place % 8
        try:
            found, _ = decode_ids(bytes(data))
        except NewerVersion:
            return
        self.assertGreaterEqual(len(found), len(written) - 1)
        for run in found:
            self.assertIn(run, written)

    def test_a_newer_version(self):
        """What a newer version wrote is not guessed at."""
        data = title("ids").replace(b"%d" % VERSION, b"%d" % (VERSION + 1))
        self.assertRaises(NewerVersion, decode_ids, data)

    def test_the_latest(self):
        """Of more than can be held the last are taken."""
        written = [(WALL, [ident(2 * n), ident(2 * n + 1)]) for n in range(5)]
        self.assertEqual(latest(written, 3), written[3:])
        self.assertEqual(latest(written, 99), written)
        self.assertEqual(latest([], 3), [])


class AgeTests(SynchronousTestCase):
    def ages(self, *times, wall=WALL, oldest=100.0):
        """The ages of runs that were written at these times before now."""
        written = [(WALL - before, [ident(n)]) for n, before in enumerate(times)]
        aged = with_ages(written, wall, oldest)
        self.assertEqual([run for _, run in aged], [run for _, run in written])
        return [age for age, _ in aged]

    def test_as_they_are(self):
        """With a clock that goes as it should, an age is an age."""
        self.assertEqual(self.ages(50, 20, 0), [50, 20, 0])

    def test_a_clock_that_was_set_forward(self):
        """No id is too old to be known for a while."""
        self.assertEqual(self.ages(50, 20, wall=WALL + 10**6), [100, 100])

    def test_a_clock_that_was_set_back(self):
        """What came first is no younger than what came later, and nothing is from tomorrow."""
        self.assertEqual(self.ages(50, 20, wall=WALL - 30), [20, 0])
        self.assertEqual(self.ages(-3000, 40, 10), [40, 40, 10])

    @given(runs, st.floats(0, 2**33), st.floats(0, 5000))
    def test_whatever_the_clock_did(self, written, wall, oldest):
        """Ages lie within bounds and never grow."""
        ages = [age for age, _ in with_ages(written, wall, oldest)]
        self.assertEqual(ages, sorted(ages, reverse=True))
        self.assertTrue(all(0 <= age <= oldest for age in ages))

    def test_span(self):
        """Of how long ids took to come, neither pauses nor a clock that was set make more."""
        self.assertEqual(span([]), 0)
        self.assertEqual(span([(WALL, []), (WALL + 10, []), (WALL + 10**6, []), (0, [])]), 70)
