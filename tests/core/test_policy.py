"""Tests of `py2p_twisted.core.policy`."""

import bz2
import lzma
import zlib
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core import compression, flags
from py2p_twisted.core.message import build
from py2p_twisted.core.policy import ExtendedPolicy, PlainPolicy
from tests.core.support import METHODS, WALL, unwrap


def policy(*methods):
    """The rules towards a peer that listed these methods."""
    rules = PlainPolicy()
    rules.negotiate(methods)
    return rules


def as_the_reference(frame, method=flags.ZLIB):
    """A frame's content, read as the reference reads it: plain where decompressing fails."""
    read = {
        flags.BZ2: bz2.decompress,
        flags.LZMA: lzma.decompress,
    }.get(method, lambda data: zlib.decompress(data, zlib.MAX_WBITS | 32))
    try:
        return read(frame[4:])
    except (zlib.error, lzma.LZMAError, OSError, EOFError):
        return frame[4:]


class PlainPolicyTests(SynchronousTestCase):
    def test_before_the_handshake_frames_are_plain(self):
        """Nobody knows yet what the peer can read."""
        message = build(2, b"s", WALL, (0, "x"))
        frame = PlainPolicy().frame(message)
        self.assertEqual(frame[4:], message.id + message.body)

    @given(st.binary(max_size=300))
    def test_a_peer_with_zlib_gets_frames_on_the_grid(self, packet):
        """Every total length is a multiple of eight, so that its reassembly never breaks."""
        message = build(0, b"s", WALL, (0, packet))
        frame = policy(*METHODS).frame(message)
        self.assertEqual(len(frame) % 8, 0)
        self.assertEqual(as_the_reference(frame), message.content)

    def test_small_messages_are_not_compressed(self):
        """They go as they are, or wrapped: sixteen times as fast, and hardly larger."""
        message = build(0, b"s", WALL, (0, "x" * 500))
        self.assertIn(message.body, policy(flags.ZLIB).frame(message))

    def test_large_messages_are_compressed_if_that_helps(self):
        """Text shrinks; noise goes as it is."""
        text = build(0, b"s", WALL, (0, "a storm from the north " * 1000))
        noise = build(0, b"s", WALL, (0, Random(2).randbytes(20_000)))
        rules = policy(*METHODS)
        self.assertLess(len(rules.frame(text)), text.size // 10)
        self.assertIn(noise.body, rules.frame(noise))
        for message in (text, noise):
            self.assertEqual(len(rules.frame(message)) % 8, 0)
            self.assertEqual(as_the_reference(rules.frame(message)), message.content)

    def test_a_peer_without_zlib_gets_its_own_codec(self):
        """bz2, gzip or lzma alone are understood, and stand on the grid as well."""
        for method in (flags.BZ2, flags.LZMA, flags.GZIP):
            for size in range(200, 208):
                message = build(0, b"s", WALL, (0, "x" * size))
                frame = policy(method).frame(message)
                self.assertEqual(len(frame) % 8, 0, method)
                if not (36 + message.size) % 8:
                    self.assertEqual(frame[4:], message.content)
                else:
                    self.assertEqual(as_the_reference(frame, method), message.content)
            large = build(0, b"s", WALL, (0, "a storm from the north " * 1000))
            self.assertLess(len(policy(method).frame(large)), large.size // 10)
            self.assertEqual(as_the_reference(policy(method).frame(large), method), large.content)

    def test_a_peer_without_any_codec_gets_plain_frames(self):
        """An empty list, or snappy alone."""
        message = build(0, b"s", WALL, (0, "x" * 5000))
        for methods in ((), (32,)):
            self.assertEqual(policy(*methods).frame(message)[4:], message.content)

    def test_the_last_list_counts(self):
        """A peer may change its mind by renegotiation, also to nothing."""
        message = build(0, b"s", WALL, (0, "x" * 5000))
        rules = policy(*METHODS)
        rules.negotiate((flags.BZ2,))
        self.assertEqual(rules.method, flags.BZ2)
        self.assertEqual(bz2.decompress(rules.frame(message)[4:]), message.content)
        rules.negotiate(())
        self.assertEqual(rules.frame(message)[4:], message.content)

    def test_a_frame_is_made_once_for_all_peers_of_a_kind(self):
        """A hundred peers cost one encoding, and different peers do not get each other's."""
        message = build(0, b"s", WALL, (0, "x" * 5000))
        one, two, plain = policy(*METHODS), policy(flags.ZLIB), policy()
        self.assertIs(one.frame(message), two.frame(message))
        self.assertNotEqual(one.frame(message), plain.frame(message))
        for rules in (one, plain):
            self.assertEqual(unwrap(rules.frame(message)).id, message.id)


class ExtendedPolicyTests(SynchronousTestCase):
    def setUp(self):
        self.rules = ExtendedPolicy()
        self.rules.negotiate(METHODS)

    def text(self):
        return build(0, b"s", WALL, (0, "a storm from the north " * 1000))

    @given(st.binary(max_size=300))
    def test_small_messages_go_as_they_are_at_any_length(self, packet):
        """Nothing is added to please anybody's reassembly."""
        message = build(0, b"s", WALL, (0, packet))
        self.assertEqual(self.rules.frame(message)[4:], message.content)
        self.assertEqual(self.rules.frames([message]), [self.rules.frame(message)])

    def test_large_ones_are_compressed_if_that_helps(self):
        """By the codec that both know; noise goes as it is, and so does all without a codec."""
        text, noise = self.text(), build(0, b"s", WALL, (0, Random(2).randbytes(20_001)))
        self.assertLess(len(self.rules.frame(text)), text.size // 10)
        self.assertEqual(unwrap(self.rules.frame(text)).id, text.id)
        self.assertEqual(self.rules.frame(noise)[4:], noise.content)
        for method in (flags.BZ2, flags.LZMA):
            rules = ExtendedPolicy()
            rules.negotiate((method,))
            frame = rules.frame(self.text())
            self.assertLess(len(frame), text.size // 10)
            self.assertEqual(as_the_reference(frame, method), text.content)
        without = ExtendedPolicy()
        without.negotiate(())
        self.assertEqual(without.frame(self.text())[4:], text.content)

    def test_what_came_in_one_form_goes_on_in_it(self):
        """Plain, stored or compressed: nothing is made anew."""
        message = build(0, b"s", WALL, (0, "x"))
        for method, frame in (
            (None, compression.wrap_plain(message.id, message.body)),
            (flags.ZLIB, compression.wrap_stored(message.id, message.body)),
        ):
            message.frames = {method: frame}
            self.assertIs(self.rules.frame(message), frame)
            self.assertIs(self.rules.frames([message])[0], frame)
            self.assertEqual(unwrap(frame).id, message.id)

    def test_a_form_that_the_peer_cannot_read_is_not_used(self):
        """It came by zlib, and this peer knows bz2 alone, or nothing."""
        message = self.text()
        message.frames = {flags.ZLIB: policy(*METHODS).frame(self.text())}
        for methods in ((flags.BZ2,), ()):
            rules = ExtendedPolicy()
            rules.negotiate(methods)
            frame = rules.frame(message)
            self.assertIsNot(frame, message.frames[flags.ZLIB])
            self.assertEqual(as_the_reference(frame, flags.BZ2), message.content)

    def test_plain_and_extended_peers_share_frames_only_where_both_can_read_them(self):
        """A frame off the grid of eight would cost a plain peer its link."""
        for size in range(16):
            for first_extended in (False, True):
                message = build(0, b"s", WALL, (0, "x" * size))
                plain = policy(*METHODS)
                for rules in (self.rules, plain) if first_extended else (plain, self.rules):
                    for frame in (rules.frame(message), *rules.frames([message])):
                        self.assertEqual(unwrap(frame).id, message.id)
                        self.assertTrue(rules is self.rules or not len(frame) % 8)

    def test_one_frame_for_all_extended_peers(self):
        """Also when a batch of messages is written to each."""
        other = ExtendedPolicy()
        other.negotiate((flags.ZLIB,))
        messages = [self.text(), build(0, b"s", WALL, (0, "x"))]
        for ours, theirs in zip(self.rules.frames(messages), other.frames(messages), strict=True):
            self.assertIs(ours, theirs)

    def test_tls_records_may_have_any_length(self):
        """Only plain nodes read one at a time."""
        self.assertIsNone(self.rules.record)
        self.assertEqual(self.rules.name, "mesh-ext 1")
