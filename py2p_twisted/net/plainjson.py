"""
Packets as JSON, and back, without loss.

What JSON has no form for becomes an object with one key out of three:

======================================  ================================================
packet                                  JSON
======================================  ================================================
``b"\\x00\\xff"``                         ``{"$base64": "AP8="}``
``float("nan")``, ``inf``, ``-inf``     ``{"$float": "nan"}``
a dict with keys that are no text,      ``{"$map": [[key, value], ...]}``
or with one of these three alone
======================================  ================================================

Everything else is what it looks like. Tuples arrive as lists, as on the wire.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Iterable
from typing import Any

_SPECIAL = ("$base64", "$float", "$map")


def dumps(packets: Iterable[Any]) -> str:
    """One line of ASCII: a JSON array of packets."""
    return json.dumps([to_plain(packet) for packet in packets], allow_nan=False)


def loads(line: str) -> list[Any]:
    """
    The packets in a JSON array, or in an object that has such an array under ``packets``.

    :raises ValueError: it is none; the text says why.
    """
    try:
        plain = json.loads(line, parse_constant=_refuse)
        if isinstance(plain, dict):
            plain = plain.get("packets")
        if isinstance(plain, list):
            return [from_plain(item) for item in plain]
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    raise ValueError("expected a JSON array, one item a packet")


def _refuse(word: str) -> None:
    raise ValueError(f'{word} is no JSON; write {{"$float": "nan"}} or the like')


def to_plain(value: Any) -> Any:
    """A packet as what ``json`` can write."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"$base64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(value)}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, dict):
        ambiguous = len(value) == 1 and next(iter(value)) in _SPECIAL
        if ambiguous or not all(isinstance(key, str) for key in value):
            return {"$map": [[to_plain(key), to_plain(item)] for key, item in value.items()]}
        return {key: to_plain(item) for key, item in value.items()}
    return value


def from_plain(value: Any) -> Any:
    """
    A packet from what ``json`` has read.

    :raises ValueError: an object with a dollar sign is not one of ours.
    """
    if isinstance(value, list):
        return [from_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((key, inner),) = value.items()
        if key in _SPECIAL:
            return _special(key, inner)
    return {key: from_plain(item) for key, item in value.items()}


def _special(key: str, inner: Any) -> Any:
    if key == "$base64" and isinstance(inner, str):
        try:
            return base64.b64decode(inner, validate=True)
        except binascii.Error as error:
            raise ValueError(f"$base64: {error}") from error
    if key == "$float" and inner in ("nan", "inf", "-inf"):
        return float(inner)
    pairs = inner if isinstance(inner, list) else [inner]
    if key == "$map" and all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        try:
            return {_key(from_plain(pair[0])): from_plain(pair[1]) for pair in pairs}
        except TypeError as error:
            raise ValueError(f"$map: {error}") from error
    raise ValueError(f"this is no {key}: {json.dumps(inner)[:80]}")


def _key(key: Any) -> Any:
    return tuple(_key(item) for item in key) if isinstance(key, list) else key
