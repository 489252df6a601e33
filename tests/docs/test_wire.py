"""
docs/protocol/wire.rst says what the code does: its example, its tables, its numbers.
"""

from __future__ import annotations

import re
from hashlib import sha256

from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core import compression, flags
from py2p_twisted.core.codec import MAX_DEPTH, MAX_ELEMENTS
from py2p_twisted.core.compression import wrap_stored
from py2p_twisted.core.connection import TRANSITIONS
from py2p_twisted.core.framing import MAX_GREETING, FrameDecoder, largest_frame
from py2p_twisted.core.message import parse
from py2p_twisted.core.network import protocol_id
from py2p_twisted.core.settings import Settings
from tests.core import vectors
from tests.docs.blocks import ROOT

PAGE = ROOT / "docs/protocol/wire.rst"
TEXT = PAGE.read_text(encoding="utf-8")

#: The titles that comments in the package point to.
TITLES = (
    "Frames", "MessagePack", "Flags", "Ids", "Compression", "Padding", "Life of a connection",
    "Handshake", "Renegotiation", "Messages of the node", "Flooding",
    "Two connections to one peer", "TLS", "Living with py2p 0.6.757",
)  # fmt: skip

_TITLE = re.compile(r"^(?P<title>\S.*)\n(?P<line>[-=~])(?P=line)+$", re.MULTILINE)


def section(title: str) -> str:
    """What stands under a title."""
    found = list(_TITLE.finditer(TEXT))
    for match, following in zip(found, [*found[1:], None], strict=True):
        if match["title"] == title:
            return TEXT[match.end() : following.start() if following else None]
    raise AssertionError(f"no section {title!r}")


def tables(text: str) -> list[list[list[str]]]:
    """The simple tables of a text, each as its rows without the heading."""
    found: list[list[list[str]]] = []
    columns: list[slice] = []
    rules = 0
    for line in text.splitlines():
        if re.fullmatch(r"=+(  +=+)+", line.strip()):
            if rules % 3 == 0:
                starts = [match.start() for match in re.finditer("=+", line)]
                ends: list[int | None] = [*starts[1:], None]
                columns = [slice(*place) for place in zip(starts, ends, strict=True)]
                found.append([])
            rules += 1
        elif rules % 3 == 2:
            found[-1].append([line[column].strip() for column in columns])
    return found


class TableTests(SynchronousTestCase):
    def test_states(self) -> None:
        """The state table of the page is that of the code, row by row."""
        (rows,) = tables(section("Life of a connection"))
        coded = [
            [state.value, kind.value, after.value]
            for state, moves in TRANSITIONS.items()
            for kind, after in moves.items()
        ]
        self.assertEqual(rows, coded)
        for state in TRANSITIONS:
            self.assertIn(f"\n``{state.value}``\n", section("Life of a connection"))

    def test_flags(self) -> None:
        """Every number has its name, and no name is left out."""
        text = section("Flags")
        rows = [row for table in tables(text) for row in table]
        named = {(name.strip("`"), int(number)) for number, name, _ in rows if number}
        named |= {(name, int(number)) for number, name in re.findall(r"(\d+)\s``(\w+)``", text)}
        named |= {(name, int(number)) for number, name in re.findall(r"(\d+) \(``(\w+)``\)", text)}
        self.assertEqual(named, set(flags.NAMES.items()))
        self.assertIn(f"from 0 to {flags.FIRST_FREE - 1} belong", text)
        first, last = flags.EXTENSIONS[0], flags.EXTENSIONS[-1]
        self.assertIn(f"{first} to {last} (``{first:#x}`` to ``{last:#x}``)", text)

    def test_protocol_ids(self) -> None:
        """The protocol ids are right."""
        (rows,) = tables(section("Ids"))
        self.assertGreaterEqual(len(rows), 4)
        for name, encryption, ident in rows:
            self.assertEqual(ident, f"``{protocol_id(name, encryption)}``")

    def test_limits(self) -> None:
        """The defaults of the page are those of the code."""
        (rows,) = tables(section("Limits"))
        defaults = Settings()
        for name, value in rows:
            self.assertEqual(float(value), float(getattr(defaults, name.strip("`"))), name)

    def test_other_numbers(self) -> None:
        """So are the numbers that no setting changes."""
        self.assertIn(f"{MAX_ELEMENTS:,} values", section("MessagePack"))
        self.assertIn(f"at most {MAX_DEPTH}\ndeep", section("MessagePack"))
        self.assertIn(f"{MAX_GREETING:,} bytes", section("Frames"))
        self.assertIn(f"{compression.WORTH_COMPRESSING:,} bytes", section("Compression"))
        self.assertEqual(largest_frame(6400), 6400 + 6400 // 64 + 1024)
        listed = re.findall(r"zlib, gzip, bz2 and\s+lzma", section("Compression"))
        self.assertTrue(listed)
        self.assertEqual(
            compression.METHODS,
            tuple(flags.NAMES[name] for name in ("zlib", "gzip", "bz2", "lzma")),
        )


class ExampleTests(SynchronousTestCase):
    def test_the_frame(self) -> None:
        """The example is a captured frame, every byte in its place, and reads as it says."""
        lines = re.findall(r"^ +(\d+)  ((?:[0-9a-f]{2} ?)+?)  +(\S.*)$", section("Frames"), re.M)
        frame = b""
        for place, digits, _ in lines:
            self.assertEqual(int(place), len(frame))
            frame += bytes.fromhex(digits)
        (vector,) = (one for one in vectors.SMALL if one.name == "broadcast, str")
        self.assertEqual(frame, vector.frame)

        decoder = FrameDecoder(MAX_GREETING)
        decoder.receive_data(frame)
        chunk, start, stop = decoder.next_frame()  # type: ignore[misc]
        message = parse(chunk[start : start + 32], chunk[start + 32 : stop])
        self.assertEqual(message.payload, (0, "this is", "a test"))
        said = " ".join(text for _, _, text in lines)
        self.assertIn(f"time: {message.time}", said)
        self.assertIn(str(message.sender)[2:18], said)

    def test_the_stored_stream(self) -> None:
        """The padded frame of the page is what the code makes of 77 bytes."""
        body = bytes(45)
        frame = wrap_stored(sha256(body).digest(), body)
        shown = re.search(r"^ +((?:[0-9a-f]{2}|\|| )+)\| checksum.*\| ((?:00 ?)+)$", TEXT, re.M)
        assert shown is not None
        self.assertTrue(frame.startswith(bytes.fromhex(shown[1].replace("|", ""))))
        self.assertTrue(frame.endswith(bytes.fromhex(shown[2])))
        self.assertEqual(len(frame) % compression.GRID, 0)
        self.assertEqual(len(bytes.fromhex(shown[1].replace("|", ""))), 11)
        self.assertEqual(len(frame), 11 + 77 + 4 + len(bytes.fromhex(shown[2])))


class TitleTests(SynchronousTestCase):
    def test_titles(self) -> None:
        """The sections have the titles by which the code points to them."""
        for title in TITLES:
            self.assertTrue(section(title).strip(), title)

    def test_the_code_points_to_sections_that_exist(self) -> None:
        """No comment in the package names a section of this page that is not there."""
        for path in sorted((ROOT / "py2p_twisted").rglob("*.py")):
            text = re.sub(r"\s+", " ", path.read_text(encoding="utf-8"))
            for place in re.findall(r'docs/protocol/wire\.rst, ((?:"[^"]+"(?:,| and)? ?)+)', text):
                for title in re.findall(r'"([^"]+)"', place):
                    self.assertIn(title, TITLES, path.name)
