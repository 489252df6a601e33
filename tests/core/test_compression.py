"""Tests of `py2p_twisted.core.compression`."""

import bz2
import contextlib
import gzip
import lzma
import zlib
from random import Random
from struct import pack

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core import compression, flags
from py2p_twisted.core.compression import GRID, METHODS
from py2p_twisted.errors import BadCompression
from tests.core import vectors
from tests.core.support import memory_peak, unwrap

MIB = 1024 * 1024

#: How the reference decompresses, with the one-shot functions of the standard library.
AS_THE_REFERENCE = {
    flags.ZLIB: lambda data: zlib.decompress(data, zlib.MAX_WBITS | 32),
    flags.GZIP: lambda data: zlib.decompress(data, zlib.MAX_WBITS | 32),
    flags.BZ2: bz2.decompress,
    flags.LZMA: lzma.decompress,
}

#: 32 MiB of nothing, in a few kilobytes.
BOMBS = {
    flags.ZLIB: zlib.compress(bytes(32 * MIB), 1),
    flags.GZIP: gzip.compress(bytes(32 * MIB), 1),
    flags.BZ2: bz2.compress(bytes(32 * MIB), 1),
    flags.LZMA: lzma.compress(bytes(32 * MIB), preset=0),
}


def stored(content):
    """A frame with a stored stream; the content's first 32 bytes are its checksum."""
    return compression.wrap_stored(content[:32], content[32:])


class CodecTests(SynchronousTestCase):
    def test_captured_frames_of_all_codecs_are_understood(self):
        """What the reference compressed with each of its codecs is read here."""
        read = set()
        for vector in vectors.SMALL:
            if vector.compression == "none":
                continue
            message = unwrap(vector.frame)
            self.assertEqual((message.id, message.body), (vector.id, vector.body), vector.name)
            method = flags.NAMES[vector.compression]
            content = compression.decompress(vector.frame[4:], method, 4096)
            self.assertEqual(content, vector.id + vector.body)
            read.add(method)
        self.assertEqual(read, set(METHODS))

    @given(st.binary(max_size=500), st.sampled_from(METHODS))
    def test_what_is_compressed_can_be_read(self, data, method):
        """Here, and by the reference's way of reading."""
        stream = compression.compress(data, method)
        self.assertEqual(compression.decompress(stream, method, len(data)), data)
        self.assertEqual(AS_THE_REFERENCE[method](stream), data)

    def test_seventy_kilobytes_survive_every_codec(self):
        """The large captured message, both ways."""
        for vector in vectors.LARGE:
            content = vector.id + vector.payload[1]
            for method in METHODS:
                stream = compression.compress(content, method)
                self.assertLess(len(stream), 2000)
                self.assertEqual(compression.decompress(stream, method, len(content)), content)

    def test_zlib_and_gzip_read_each_other(self):
        """Their headers tell them apart, as in 0.6."""
        for written, read in ((flags.ZLIB, flags.GZIP), (flags.GZIP, flags.ZLIB)):
            stream = compression.compress(b"content", written)
            self.assertEqual(compression.decompress(stream, read, 100), b"content")

    def test_what_stands_behind_a_stream_is_ignored(self):
        """Padding is put there, for nodes that read 1,024 bytes at a time."""
        for method in METHODS:
            for padding in (bytes(7), b"\xff" * 7):
                stream = compression.compress(b"content" * 20, method) + padding
                self.assertEqual(compression.decompress(stream, method, 140), b"content" * 20)

    def test_the_reference_ignores_what_we_put_behind_a_stream(self):
        """All codecs, read the way the reference reads them, take our padding."""
        for method, read in AS_THE_REFERENCE.items():
            lengths = set()
            for size in range(400):
                content = Random(size).randbytes(size)
                stream = compression.compress(content, method)
                frame = compression.wrap_compressed(stream, method)
                lengths.add(len(frame) - 4 - len(stream))
                self.assertEqual(len(frame) % GRID, 0)
                self.assertEqual(read(frame[4:]), content, (method, size))
            # An xz stream is a multiple of four by itself.
            self.assertEqual(lengths, {0, 4} if method == flags.LZMA else set(range(GRID)))

    def test_damaged_and_cut_streams_are_refused(self):
        """Every codec notices, and every notice is the same error."""
        for method in METHODS:
            stream = compression.compress(Random(3).randbytes(300), method)
            broken = stream[:100] + bytes([stream[100] ^ 255]) + stream[101:]
            for data in (stream[:-1], stream[:50], broken, b"", b"\xff" * 40):
                self.assertRaises(BadCompression, compression.decompress, data, method, 4096)

    @given(st.binary(max_size=80), st.sampled_from(METHODS), st.integers(0, 40))
    def test_noise_is_refused_or_read(self, noise, method, kept):
        """Behind any part of a real stream, nothing but `BadCompression` comes out."""
        data = compression.compress(b"content", method)[:kept] + noise
        with contextlib.suppress(BadCompression):
            self.assertLessEqual(len(compression.decompress(data, method, 1000)), 1000)

    def test_an_unknown_method_is_our_own_mistake(self):
        """No peer can bring it about, so it is a ``ValueError``."""
        self.assertRaises(ValueError, compression.compress, b"", 32)
        self.assertRaises(ValueError, compression.decompress, b"", 32, 100)

    def test_views_can_be_decompressed(self):
        """Frames are read where they lie."""
        for method in METHODS:
            stream = memoryview(b"...." + compression.compress(b"content", method))[4:]
            self.assertEqual(compression.decompress(stream, method, 100), b"content")


class BombTests(SynchronousTestCase):
    def test_a_result_as_large_as_the_limit_is_accepted(self):
        """And one byte more is not."""
        for method in METHODS:
            stream = compression.compress(bytes(5000), method)
            self.assertEqual(compression.decompress(stream, method, 5000), bytes(5000))
            self.assertRaises(BadCompression, compression.decompress, stream, method, 4999)

    def test_a_bomb_costs_no_more_than_the_limit(self):
        """32 MiB in a few kilobytes: inflation stops at the limit, whatever the codec."""
        for method, bomb in BOMBS.items():
            self.assertLess(len(bomb), 200_000)
            with memory_peak() as peak:
                self.assertRaises(BadCompression, compression.decompress, bomb, method, MIB)
            self.assertLess(peak(), 6 * MIB, method)

    def test_a_bomb_in_a_bomb_is_one_bomb(self):
        """What comes out of one stream is not inflated again."""
        twice = zlib.compress(zlib.compress(bytes(MIB)))
        self.assertLess(len(compression.decompress(twice, flags.ZLIB, 4096)), 4096)

    def test_lzma_cannot_ask_for_a_huge_dictionary(self):
        """A header that wants a gigabyte of dictionary is refused, not served."""
        filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 4096}]
        stream = bytearray(lzma.compress(b"content", filters=filters))
        # The dictionary's size stands in the block header, which has a checksum of its own.
        size = stream.index(b"\x21\x01") + 2
        stream[size] = 36  # 1 GiB
        header = slice(12, 12 + (stream[12] + 1) * 4 - 4)
        stream[header.stop : header.stop + 4] = pack("<I", zlib.crc32(bytes(stream[header])))
        with memory_peak() as peak:
            error = self.assertRaises(
                BadCompression, compression.decompress, bytes(stream), flags.LZMA, MIB
            )
        self.assertIn("emory", str(error))
        self.assertLess(peak(), MIB)


class LooksLikeTests(SynchronousTestCase):
    def test_every_codec_is_recognised_by_its_first_bytes(self):
        """With any level, and lzma in both its containers."""
        for method in METHODS:
            for level in (0, 1, 6, 9):
                stream = compression.compress(b"content" * 9, method, level)
                self.assertEqual(compression.looks_like(b"...." + stream, 4), method)
        old = lzma.compress(b"content" * 9, format=lzma.FORMAT_ALONE)
        self.assertEqual(compression.looks_like(old, 0), flags.LZMA)
        self.assertEqual(compression.decompress(old, flags.LZMA, 100), b"content" * 9)

    def test_captured_plain_frames_look_plain(self):
        """No captured message is mistaken for a compressed one."""
        for vector in vectors.SMALL:
            method = compression.looks_like(vector.frame, 4)
            self.assertEqual(method, flags.NAMES.get(vector.compression), vector.name)


class StoredTests(SynchronousTestCase):
    @given(st.binary(min_size=32, max_size=600))
    def test_stored_frames_stand_on_the_grid_and_can_be_read(self, content):
        """Total lengths are multiples of eight; the standard library reads what is inside."""
        frame = stored(content)
        self.assertEqual(len(frame) % GRID, 0)
        self.assertEqual(frame[:4], pack("!I", len(frame) - 4))
        self.assertEqual(zlib.decompress(frame[4:]), content)
        self.assertEqual(AS_THE_REFERENCE[flags.ZLIB](frame[4:]), content)

    @given(st.binary(min_size=32, max_size=600), st.integers(0, 20))
    def test_the_content_of_a_stored_frame_is_found_in_place(self, content, before):
        """Reading one takes no decompression."""
        frame = bytes(before) + stored(content)
        begin, end = compression.unwrap_stored(frame, before + 4, len(frame))
        self.assertEqual(frame[begin:end], content)

    def test_large_contents_take_several_blocks(self):
        """A stored block holds 65,535 bytes; what is larger is cut, and still one stream."""
        for size in (0xFFFF - 1, 0xFFFF, 0xFFFF + 1, 2 * 0xFFFF, 2 * 0xFFFF + 1, 200_000):
            content = Random(size).randbytes(size)
            frame = stored(content)
            self.assertEqual(len(frame) % GRID, 0, size)
            self.assertEqual(frame[:4], pack("!I", len(frame) - 4))
            self.assertEqual(zlib.decompress(frame[4:]), content, size)

    def test_streams_of_several_blocks_are_left_to_zlib(self):
        """Only a single block lies in one piece."""
        frame = stored(bytes(70_000))
        self.assertIsNone(compression.unwrap_stored(frame, 4, len(frame)))
        frame = stored(bytes(65_535))
        self.assertIsNotNone(compression.unwrap_stored(frame, 4, len(frame)))

    def test_what_only_looks_stored_is_not_taken_apart(self):
        """A size that contradicts itself, or reaches beyond the frame, is no stored stream."""
        frame = stored(bytes(100))
        for place in (4, 5, 6, 7, 8, 9, 10):
            damaged = bytearray(frame)
            damaged[place] ^= 4
            self.assertIsNone(compression.unwrap_stored(bytes(damaged), 4, len(frame)))
        self.assertIsNone(compression.unwrap_stored(frame, 4, 4 + 7 + 100 + 3))

    def test_compressed_frames_stand_on_the_grid(self):
        """Every codec's stream is padded behind its end."""
        for method in METHODS:
            for size in range(100, 100 + GRID):
                stream = compression.compress(Random(size).randbytes(size), method)
                frame = compression.wrap_compressed(stream)
                self.assertEqual(len(frame) % GRID, 0)
                self.assertEqual(frame[:4], pack("!I", len(frame) - 4))
                self.assertEqual(frame[4:].rstrip(b"\0"), stream.rstrip(b"\0"))

    def test_plain_frames_are_what_0_6_sends(self):
        """Captured frames, made again from their content."""
        for vector in vectors.SMALL:
            if vector.compression == "none":
                self.assertEqual(compression.wrap_plain(vector.id, vector.body), vector.frame)


class ChoiceTests(SynchronousTestCase):
    def test_the_first_of_our_own_methods_that_the_peer_listed_is_used(self):
        """Our order decides, not the peer's."""
        self.assertEqual(compression.choose(METHODS, [18, 16, 19]), flags.ZLIB)
        self.assertEqual(compression.choose(METHODS, [18, 16]), flags.BZ2)

    def test_without_a_common_method_frames_are_plain(self):
        """Snappy alone, or nothing, leaves nothing to choose."""
        for theirs in ([], [32], [99, -1]):
            self.assertIsNone(compression.choose(METHODS, theirs))

    def test_what_promises_to_shrink_is_told_from_what_does_not(self):
        """Text does, noise does not."""
        self.assertTrue(compression.shrinks(b"a storm from the north " * 1000))
        self.assertFalse(compression.shrinks(Random(1).randbytes(50_000)))
