"""Tests of `py2p_twisted.core.base58`."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core import base58
from tests.core import vectors


class Base58Tests(SynchronousTestCase):
    def test_numbers_are_written_as_the_reference_writes_them(self):
        """Captured numbers, up to 384 bits, have the same digits here."""
        for number, text in vectors.BASE58:
            self.assertEqual(base58.encode(number), text.encode())

    def test_numbers_are_read_from_text_bytes_and_bytearrays(self):
        """Whatever type the digits come in, the number is the same."""
        for number, text in vectors.BASE58:
            digits = text.encode()
            for form in (text, digits, bytearray(digits)):
                self.assertEqual(base58.decode(form), number)

    def test_a_seconds_stamp_is_written_like_the_reference_does(self):
        """``time_58`` of a message is the number of its second."""
        for entry in vectors.REQUEST_IDS:
            self.assertEqual(base58.encode(entry["time"]), entry["time_base58"].encode())

    @given(st.integers(0, 2**400))
    def test_what_is_written_can_be_read(self, number):
        """Any number survives the way there and back."""
        self.assertEqual(base58.decode(base58.encode(number)), number)

    def test_a_foreign_character_is_refused(self):
        """The four letters that are easily mistaken for others are no digits, nor is the rest."""
        for text in ("0", "O", "I", "l", "12 4", "12é", "\udc80"):
            self.assertRaises(ValueError, base58.decode, text)

    def test_only_numbers_from_zero_on_can_be_written(self):
        """A negative number is a ``ValueError``, what is no integer a ``TypeError``."""
        self.assertRaises(ValueError, base58.encode, -1)
        self.assertRaises(TypeError, base58.encode, "5")
        self.assertRaises(TypeError, base58.encode, 5.0)
