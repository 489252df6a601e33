"""
docs/protocol/mesh-ext.rst says what the code does: its kinds, its bytes, the titles it is known by.
"""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core.compression import GRID
from py2p_twisted.core.extension import VERSION, Kind
from py2p_twisted.core.framing import MAX_GREETING, FrameDecoder
from py2p_twisted.core.message import parse
from tests.docs.blocks import ROOT

TEXT = (ROOT / "docs/protocol/mesh-ext.rst").read_text(encoding="utf-8")
_TITLE = re.compile(r"^(\S.*)\n([-=~])\2+$", re.MULTILINE)


class MeshExtTests(SynchronousTestCase):
    def test_kinds(self) -> None:
        """Every kind stands in the table, with its number."""
        rows = re.findall(r"^   \* - (\d+)\n     - ``(\w+)``$", TEXT, re.MULTILINE)
        self.assertEqual(
            [(int(number), name) for number, name in rows],
            [(kind.value, kind.name) for kind in Kind],
        )

    def test_frames(self) -> None:
        """The examples are frames, every byte in its place, and read as they say."""
        frames: list[bytes] = []
        for place, digits in re.findall(
            r"^ +(\d+)  ((?:[0-9a-f]{2} ?)+?)(?:  +\S.*)?$", TEXT, re.M
        ):
            if place == "0":
                frames.append(b"")
            self.assertEqual(int(place), len(frames[-1]))
            frames[-1] += bytes.fromhex(digits)
        kinds = []
        for frame in frames:
            decoder = FrameDecoder(MAX_GREETING)
            decoder.receive_data(frame)
            chunk, start, stop = decoder.next_frame()  # type: ignore[misc]
            message = parse(chunk[start : start + 32], chunk[start + 32 : stop])
            kinds.append(message.items[4])
        self.assertEqual(kinds, [Kind.HELLO, Kind.IHAVE])
        self.assertEqual(len(frames[0]) % GRID, 0)
        self.assertIn(f"version {VERSION}\n", TEXT)

    def test_the_code_points_to_sections_that_exist(self) -> None:
        """No comment in the package names a section of this page that is not there."""
        titles = {title for title, _ in _TITLE.findall(TEXT)}
        named = set()
        for path in sorted((ROOT / "py2p_twisted").rglob("*.py")):
            text = re.sub(r"\s+", " ", path.read_text(encoding="utf-8").replace("#:", " "))
            for place in re.findall(
                r'docs/protocol/mesh-ext\.rst, ((?:"[^"]+"(?:,| and)? ?)+)', text
            ):
                named |= set(re.findall(r'"([^"]+)"', place))
        self.assertEqual(named - titles, set())
        self.assertGreater(len(named), 8)
