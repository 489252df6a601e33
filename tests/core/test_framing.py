"""Tests of `py2p_twisted.core.framing`."""

import itertools
from random import Random
from struct import pack

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core.framing import MAX_GREETING, SMALLEST_FRAME, FrameDecoder, largest_frame
from py2p_twisted.core.message import build
from py2p_twisted.core.policy import PlainPolicy
from py2p_twisted.errors import FrameTooLarge, FrameTooSmall
from tests.core.support import METHODS, WALL, memory_peak

contents = st.lists(st.binary(min_size=SMALLEST_FRAME, max_size=80), max_size=8)


def sized(content):
    """A frame with any content."""
    return pack("!I", len(content)) + content


def pull(decoder):
    """The contents of the frames that are complete."""
    return [chunk[start:stop] for chunk, start, stop in iter(decoder.next_frame, None)]


def feed(decoder, stream, step):
    """Cut a stream into pieces, and pull after each."""
    received = []
    for start in range(0, len(stream), step):
        decoder.receive_data(stream[start : start + step])
        received += pull(decoder)
    return received


class FrameDecoderTests(SynchronousTestCase):
    @given(contents, st.integers(1, 200))
    def test_segmentation_does_not_matter(self, wanted, step):
        """However TCP cuts the stream, the frames come out whole and in order."""
        decoder = FrameDecoder(limit=100)
        self.assertEqual(feed(decoder, b"".join(map(sized, wanted)), step), wanted)
        self.assertEqual(decoder.waiting, 0)

    @given(contents, st.lists(st.integers(0, 700), max_size=12))
    def test_cuts_at_any_places_do_not_matter(self, wanted, cuts):
        """Not even when pieces of very different sizes follow each other, or empty ones."""
        stream, decoder, received = b"".join(map(sized, wanted)), FrameDecoder(limit=100), []
        places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
        for start, stop in itertools.pairwise(places):
            decoder.receive_data(stream[start:stop])
            received += pull(decoder)
        self.assertEqual(received, wanted)

    def test_the_size_stands_before_the_place_that_is_handed_out(self):
        """A frame can be passed on as it was received."""
        whole = sized(bytes(range(40)))
        for step in (1, 7, 44):
            decoder, frames = FrameDecoder(limit=100), []
            for start in range(0, 44, step):
                decoder.receive_data(whole[start : start + step])
                frames += [chunk[a - 4 : b] for chunk, a, b in iter(decoder.next_frame, None)]
            self.assertEqual(frames, [whole])

    def test_an_oversized_frame_is_refused_from_its_size_alone(self):
        """Four bytes are enough; the rest is neither awaited nor kept."""
        decoder = FrameDecoder(limit=100)
        decoder.receive_data(b"\x00\x00\x00\x65")
        error = self.assertRaises(FrameTooLarge, decoder.next_frame)
        self.assertEqual((error.size, error.limit), (101, 100))

    def test_three_bytes_of_a_size_say_nothing_yet(self):
        """Nothing is refused before the size is complete."""
        decoder = FrameDecoder(limit=100)
        decoder.receive_data(b"\xff\xff\xff")
        self.assertIsNone(decoder.next_frame())
        self.assertEqual(decoder.waiting, 3)
        decoder.receive_data(b"\xff")
        self.assertRaises(FrameTooLarge, decoder.next_frame)

    def test_a_frame_too_small_for_a_checksum_is_refused(self):
        """Zero, or anything below 32, is no frame."""
        for size in (0, 1, 31):
            decoder = FrameDecoder(limit=100)
            decoder.receive_data(pack("!I", size))
            self.assertEqual(self.assertRaises(FrameTooSmall, decoder.next_frame).size, size)

    def test_frames_before_a_bad_one_still_come(self):
        """The error stands where the bad frame stands in the stream."""
        good = bytes(40)
        decoder = FrameDecoder(limit=100)
        decoder.receive_data(sized(good) * 2 + b"\xff\xff\xff\xff")
        for _ in range(2):
            chunk, start, stop = decoder.next_frame()
            self.assertEqual(chunk[start:stop], good)
        self.assertRaises(FrameTooLarge, decoder.next_frame)

    def test_tls_is_recognised(self):
        """A peer that speaks TLS to a plain node gets an error that says so."""
        for hello in (b"\x16\x03\x01\x02\x00\x01\x00", b"\x15\x03\x03\x00\x02\x02\x46"):
            decoder = FrameDecoder(MAX_GREETING)
            decoder.receive_data(hello)
            self.assertIn("TLS", str(self.assertRaises(FrameTooLarge, decoder.next_frame)))

    def test_other_large_sizes_are_not_taken_for_tls(self):
        """The hint comes only where it helps."""
        decoder = FrameDecoder(MAX_GREETING)
        decoder.receive_data(b"GET / HTTP/1.1\r\n\r\n")
        self.assertNotIn("TLS", str(self.assertRaises(FrameTooLarge, decoder.next_frame)))

    def test_the_limit_may_change_between_two_frames(self):
        """What is allowed after a handshake is allowed behind it in the same segment."""
        decoder = FrameDecoder(limit=40)
        decoder.receive_data(sized(bytes(40)) + sized(bytes(60)))
        self.assertIsNotNone(decoder.next_frame())
        decoder.limit = 60
        _chunk, start, stop = decoder.next_frame()
        self.assertEqual(stop - start, 60)

    def test_a_large_frame_is_gathered_once(self):
        """Half a megabyte in small reads costs about its size twice, not its square."""
        content = bytes(512 * 1024)
        stream = sized(content)
        chunks = [stream[start : start + 1448] for start in range(0, len(stream), 1448)]
        decoder = FrameDecoder(limit=len(content))
        with memory_peak() as peak:
            for chunk in chunks:
                decoder.receive_data(chunk)
                frame = decoder.next_frame()
        self.assertEqual(frame, (stream, 4, len(stream)))
        self.assertLess(peak(), 2.5 * len(content))

    def test_tiny_reads_do_not_blow_up_memory(self):
        """A peer that sends two bytes at a time costs what it has sent, not twenty times that."""
        size = 64 * 1024
        decoder = FrameDecoder(limit=size)
        with memory_peak() as peak:
            decoder.receive_data(pack("!I", size))
            decoder.next_frame()
            for _ in range(size // 2 - 1):
                decoder.receive_data(bytes(bytearray(2)))
                self.assertIsNone(decoder.next_frame())
        self.assertEqual(decoder.waiting, size + 2)
        self.assertLess(peak(), 3 * size)

    def test_an_announced_size_reserves_nothing(self):
        """A header that promises megabytes costs four bytes until they come."""
        decoder = FrameDecoder(limit=8 * 1024 * 1024)
        with memory_peak() as peak:
            decoder.receive_data(pack("!I", 8 * 1024 * 1024))
            self.assertIsNone(decoder.next_frame())
        self.assertLess(peak(), 4096)

    def test_frames_that_have_been_read_are_let_go(self):
        """Behind an unfinished frame nothing of the frames before it is kept."""
        decoder = FrameDecoder(limit=100_000)
        decoder.receive_data(sized(bytes(90_000)) + sized(bytes(50))[:20])
        self.assertIsNotNone(decoder.next_frame())
        self.assertIsNone(decoder.next_frame())
        self.assertEqual(decoder.waiting, 20)


class LargestFrameTests(SynchronousTestCase):
    def test_the_largest_message_fits_however_it_is_wrapped(self):
        """Noise of ``max_message`` bytes, which no codec makes smaller, is within the limit."""
        message = build(0, b"s", WALL, (0, Random(5).randbytes(200_000)))
        for methods in ((), *((method,) for method in METHODS)):
            policy = PlainPolicy()
            policy.negotiate(methods)
            size = len(policy.frame(message)) - 4
            self.assertLessEqual(size, largest_frame(message.size))
