"""
Integers as base 58 text: most significant digit first, no leading zeros, 0 is ``1``.

This is the text form of node ids, request ids and protocol ids. It encodes the integer,
not the bytes, so leading zero bytes leave no trace.

Source: docs/protocol/wire.rst, "Ids".
"""

from __future__ import annotations

ALPHABET = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

_VALUES = {digit: value for value, digit in enumerate(ALPHABET)}


def encode(number: int) -> bytes:
    """
    Write a number in base 58.

    :param number: zero or more.
    :return: ASCII digits.
    :raises ValueError: the number is negative.
    :raises TypeError: it is not an integer.
    """
    if not isinstance(number, int):
        raise TypeError(f"base 58 writes integers, not {type(number).__name__}")
    if number < 0:
        raise ValueError(f"base 58 writes no negative numbers: {number}")
    digits = bytearray()
    while number:
        number, digit = divmod(number, 58)
        digits.append(ALPHABET[digit])
    digits.reverse()
    return bytes(digits) or ALPHABET[:1]


def decode(text: str | bytes | bytearray) -> int:
    """
    Read a base 58 number.

    :raises ValueError: a character is none of the 58 digits.
    """
    digits = text.encode() if isinstance(text, str) else text
    number = 0
    for digit in digits:
        value = _VALUES.get(digit)
        if value is None:
            raise ValueError(f"{chr(digit)!r} is not a base 58 digit")
        number = number * 58 + value
    return number
