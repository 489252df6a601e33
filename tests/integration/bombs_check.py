"""
One hostile peer costs a node at most 32 MiB, and nobody's latency, however small its frames are
and however large their content.

What must hold afterwards: see `victim`. Sizes are in bytes. Source: docs/design.rst, "Bad input".
"""

from __future__ import annotations

import os
import time
from collections import Counter

from tests.integration import hostile
from tests.integration.victim import HostileTestCase

#: What messages of the largest size may cost while they are on their way through the victim: as
#: bytes that are gathered, as a frame, as a value for the application, wrapped for the next peer.
#: They are as good as any, so this is the price of the size that is allowed, not of an attack.
MOST_IN_FLIGHT = 6 * hostile.MAX_MESSAGE


class BombTests(HostileTestCase):
    """Small frames that would become large are stopped while they grow."""

    def test_bombs(self) -> None:
        """A bomb in any codec is a broken link, and no more, before the handshake and after it."""
        bombs = {codec: hostile.frame(hostile.bomb(codec)) for codec in hostile.CODECS}
        bombs["gigabyte dictionary"] = hostile.frame(hostile.greedy_lzma())
        self.assertLess(len(bombs["bz2"]), 100)
        # Before the handshake a frame of that size is refused by the size already.
        small = {name: data for name, data in bombs.items() if len(data) < hostile.MAX_GREETING}
        with self.attack():
            # Several times: one bomb costs less than it may, and so must ten.
            for _ in range(3):
                self.assert_refuses(bombs, "compression", introduced=(True,))
                self.assert_refuses(small, "compression", introduced=(False,))

    def test_many_bombs_at_once(self) -> None:
        """A hundred bombs in one segment are one broken link: the first one ends it."""
        with self.attack():
            for codec in hostile.CODECS:
                with self.stranger() as stranger:
                    stranger.send(hostile.frame(hostile.bomb(codec)) * 100)
                    self.assert_closed(stranger, f"a hundred bombs of {codec}")
        self.assertEqual(self.closed_links(), Counter({"compression": 4}))

    def test_bombs_within_the_limit(self) -> None:
        """
        Messages that inflate to nearly what is allowed are honest as far as anybody can tell, and
        are all received and relayed; but they cost others neither memory nor time. What was
        broadcast is held for those who miss it, like everything.
        """
        with self.attack(memory=MOST_IN_FLIGHT + len(hostile.CODECS) * hostile.MAX_MESSAGE):
            for flag in (hostile.WHISPER, hostile.BROADCAST):
                for codec in hostile.CODECS:
                    stranger = self.stranger()
                    stranger.send(hostile.large_message(stranger.id, codec, flag))
                    self.assert_kept(stranger, f"a large message in {codec}")
        self.assertEqual(self.victim.ask("taken_from_others"), 8)

    def test_many_bombs_within_the_limit(self) -> None:
        """The same, dozens of them in each segment."""
        with self.attack(memory=MOST_IN_FLIGHT):
            for codec in ("zlib", "bz2", "lzma"):
                stranger = self.stranger()
                stranger.send(
                    b"".join(hostile.large_message(stranger.id, codec) for _ in range(24))
                )
                self.assert_kept(stranger, f"large messages in {codec}")
        self.assertEqual(self.victim.ask("taken_from_others"), 72)

    def test_one_bomb_again_and_again(self) -> None:
        """
        That a message is known already shows only when it is inflated; nobody waits for it. It is
        held once.
        """
        with self.attack(memory=MOST_IN_FLIGHT + hostile.MAX_MESSAGE):
            stranger = self.stranger()
            stranger.send(hostile.large_message(stranger.id, "bz2", hostile.BROADCAST) * 100)
            self.assert_kept(stranger, "the same large message again and again")
        self.assertEqual(self.victim.ask("taken_from_others"), 1)

    def test_large_messages(self) -> None:
        """
        Messages that are as large as is allowed, and not even compressed, are received and
        relayed, and cost a few times their size; the two broadcasts are held for those who miss
        them.
        """
        with self.attack(memory=MOST_IN_FLIGHT + 2 * hostile.MAX_MESSAGE):
            stranger = self.stranger()
            for flag in (hostile.WHISPER, hostile.BROADCAST) * 2:
                data = os.urandom(hostile.MAX_MESSAGE - 1024)
                stranger.send(hostile.message(flag, stranger.id, int(time.time()), 0, data))
                self.assert_kept(stranger, "a large message")
        self.assertEqual(self.victim.ask("taken_from_others"), 4)
