"""Tickets: what is written is read again, and a mistake in copying one is found."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core import base58, ticket
from py2p_twisted.core.network import PLAINTEXT, SSL, Network
from py2p_twisted.core.ticket import (
    FINGERPRINT,
    LONGEST,
    LONGEST_NAME,
    MOST_ADDRESSES,
    PREFIX,
    Ticket,
    is_ticket,
    read,
    write,
)
from py2p_twisted.errors import BadArgument

PAGE = Path(__file__).resolve().parents[2] / "docs/protocol/discovery.rst"

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
hosts = (
    st.ip_addresses().map(str)
    | st.sampled_from(["node.example", "localhost", "fe80::1%eth0", "käse.example", "a" * 253])
)  # fmt: skip
addresses = st.tuples(hosts, st.integers(1, 65535))
tickets = st.builds(
    Ticket,
    st.builds(Network, names, st.sampled_from([PLAINTEXT, SSL])),
    st.lists(addresses, min_size=1, max_size=4).map(tuple),
    st.none() | st.binary(min_size=FINGERPRINT, max_size=FINGERPRINT),
)

ALERTS = Ticket(Network("alerts", SSL), (("192.0.2.7", 4444), ("2001:db8::7", 4444)))


def forge(body: bytes) -> str:
    """A ticket with a right checksum, whatever is in it."""
    number = int.from_bytes(body + ticket._checksum(body), "big")
    return PREFIX + base58.encode(number).decode()


class RoundTripTests(SynchronousTestCase):
    @given(tickets)
    def test_what_is_written_is_read(self, made: Ticket) -> None:
        """Any ticket survives; it is one word of letters and digits, and does not look like an address."""
        text = write(made)
        self.assertEqual(read(text), made)
        self.assertRegex(text, r"^py2p1[1-9A-HJ-NP-Za-km-z]+$")
        self.assertTrue(is_ticket(text))
        self.assertEqual(str(made), text)

    def test_blanks_do_not_count(self) -> None:
        """A mail program may have put a line break into it."""
        text = write(ALERTS)
        self.assertEqual(read(f"  {text[:20]}\r\n {text[20:]}\n"), ALERTS)

    def test_addresses_are_no_tickets(self) -> None:
        """A host may be called what a ticket begins with: it has a port."""
        for text in ("py2p1abc:4444", "192.0.2.7:4444", "[2001:db8::7]:1", "", "node"):
            self.assertFalse(is_ticket(text), text)

    def test_vectors(self) -> None:
        """The tickets in the documentation are made of the bytes that stand there, and say what it says."""
        found = re.findall(
            r"^    ticket: +(\S+)\n    bytes: +([0-9a-f ]+)$", PAGE.read_text(), re.M
        )
        self.assertEqual(len(found), 3)
        said = [
            Ticket(Network("mesh"), (("192.0.2.7", 4444),)),
            ALERTS,
            Ticket(Network("alerts", SSL), (("node.example", 4444),), bytes(range(FINGERPRINT))),
        ]
        for (text, hexadecimal), wanted in zip(found, said, strict=True):
            body = bytes.fromhex(hexadecimal)
            self.assertEqual(
                text.removeprefix(PREFIX), base58.encode(int.from_bytes(body)).decode()
            )
            self.assertEqual((read(text), write(wanted)), (wanted, text))


class MistakeTests(SynchronousTestCase):
    @given(tickets, st.data())
    def test_typing_errors(self, made: Ticket, data: st.DataObject) -> None:
        """A character that is wrong, missing, doubled or swapped with its neighbour is noticed."""
        text = write(made)
        at = data.draw(st.integers(len(PREFIX), len(text) - 1))
        other = data.draw(st.sampled_from("123456789ABCDEFGHJKLMNPQRSTUVWXYZ0OIlabcxyz-_é"))
        swapped = text[: at - 1] + text[at] + text[at - 1] + text[at + 1 :]
        for wrong in (
            text[:at] + other + text[at + 1 :], text[:at] + text[at + 1 :],
            text[:at] + text[at] + text[at:], swapped, text[:at],
        ):  # fmt: skip
            if wrong != text:
                self.assertRaises(BadArgument, read, wrong)

    @given(st.text(max_size=60))
    @example("py2p1")
    @example("py2p2abc")
    @example(PREFIX + "z" * LONGEST)
    @example(" " * 10_000)
    def test_anything_else(self, text: str) -> None:
        """Any other text is refused in one sentence."""
        with self.assertRaises(BadArgument) as caught:
            read(PREFIX + text)
        self.assertTrue(str(caught.exception))
        self.assertRaises(BadArgument, read, text)

    @given(st.binary(max_size=80))
    @example(b"\x01")
    @example(b"\x01\x00\x00\x00\x01")
    @example(b"\x01\x02\x00\x01a\x01\x04\xc0\x00\x02\x07\x11\x5c")
    @example(b"\x01\x00\x00\x01a\x01\x04\xc0\x00\x02\x07\x00\x00")
    @example(b"\x01\x00\x00\x01a\x01\x09\xc0\x00\x02\x07\x11\x5c")
    @example(b"\x01\x00\x00\x01a\x01\x00\x03a b\x11\x5c")
    def test_forged(self, body: bytes) -> None:
        """What has a right checksum and makes no sense is refused as well, or is a ticket."""
        try:
            found = read(forge(b"\x01" + body))
        except BadArgument:
            return
        self.assertEqual(read(write(found)), found)

    def test_unknown_encryption(self) -> None:
        """It says so."""
        with self.assertRaises(BadArgument) as caught:
            read(forge(b"\x01\x02\x00\x01a\x01\x04\xc0\x00\x02\x07\x11\x5c"))
        self.assertIn("an encryption of an unknown kind", str(caught.exception))

    def test_another_version(self) -> None:
        """It says so, instead of something about a mistake."""
        for text in (forge(b"\x02abc"), write(ALERTS).replace("py2p1", "py2p2")):
            with self.assertRaises(BadArgument) as caught:
                read(text)
            self.assertIn("another version", str(caught.exception))

    def test_records(self) -> None:
        """A record that need not be known is skipped, another one is not."""
        body = b"\x01\x00\x00\x04mesh\x01\x04\xc0\x00\x02\x07\x11\x5c"
        plain = Ticket(Network("mesh"), (("192.0.2.7", 4444),))
        self.assertEqual(read(forge(body)), plain)
        self.assertEqual(read(forge(body + b"\x07\x02hi\x09\x00")), plain)
        for more in (b"\x80\x00", b"\x01\x02hi", b"\x07", b"\x07\x03hi"):
            self.assertRaises(BadArgument, read, forge(body + more))

    def test_what_cannot_be_said(self) -> None:
        """No name, no address, too many, none that can be dialled, another encryption."""
        mesh, here = Network("mesh"), ("192.0.2.7", 4444)
        for wrong in (
            Ticket(Network(""), (here,)),
            Ticket(Network("n" * (LONGEST_NAME + 1)), (here,)),
            Ticket(Network("\ud800"), (here,)),
            Ticket(Network("mesh", "PKE"), (here,)),
            Ticket(mesh, ()),
            Ticket(mesh, (here,) * (MOST_ADDRESSES + 1)),
            Ticket(mesh, (("192.0.2.7", 0),)),
            Ticket(mesh, (("a b", 1),)),
            Ticket(mesh, (("é" * 200, 1),)),
            Ticket(mesh, (here,), b"short"),
            Ticket(Network("n" * LONGEST_NAME), (("a" * 253, 1),) * MOST_ADDRESSES),
        ):
            self.assertRaises(BadArgument, write, wrong)


class AgreementTests(SynchronousTestCase):
    def test_one_network(self) -> None:
        """Tickets of one network may come together, of two they may not."""
        other = Ticket(Network("alerts"), ALERTS.addresses)
        self.assertIsNone(ticket.agree([]))
        self.assertEqual(ticket.agree([ALERTS, ALERTS]), ALERTS.network)
        with self.assertRaises(BadArgument) as caught:
            ticket.agree([ALERTS, other])
        self.assertIn("'alerts' (TLS) and 'alerts' (plain text)", str(caught.exception))
