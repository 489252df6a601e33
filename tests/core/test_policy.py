"""Tests of `py2p_twisted.core.policy`."""

import bz2
import lzma
import zlib
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core import flags
from py2p_twisted.core.message import build
from py2p_twisted.core.policy import PlainPolicy
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
