"""
Who says nothing, says it slowly, or does not listen, costs a node at most 32 MiB, and nobody's
latency.

What must hold afterwards: see `victim`. Times are in seconds, sizes in bytes. Source:
docs/design.rst, "Limits" and "Flow control".
"""

from __future__ import annotations

import time
from collections import Counter
from struct import pack

from tests.integration import hostile
from tests.integration.driver import MIB
from tests.integration.victim import MOST_MEMORY, HostileTestCase

#: How long a node's own messages wait for a peer that does not read.
#: Source: docs/design.rst, "Flow control".
PATIENCE = 2.0


class SilenceTests(HostileTestCase):
    """Who says nothing, or says it slowly, is not waited for."""

    def test_silence(self) -> None:
        """Who does not introduce himself is closed after a while; afterwards silence is golden."""
        with self.attack():
            known = self.stranger()
            self.assert_closed(self.stranger(introduced=False), "silence", within=5.0)
            self.assert_kept(known, "silence after the handshake")
        self.assertEqual(self.closed_links(), Counter({"handshake timeout": 1}))

    def test_one_byte_at_a_time(self) -> None:
        """A byte now and then is no progress, neither in a greeting nor in a frame."""
        greeting = hostile.handshake(hostile.new_id())
        frame = pack("!I", 5 * MIB) + bytes(5 * MIB)
        with self.attack():
            listened = [
                self.stranger(introduced=False).dribble(greeting, 0.1, 10.0),
                self.stranger().dribble(frame, 0.1, 10.0),
            ]
        self.assertLess(max(listened), 5.0)
        self.assertEqual(self.closed_links(), Counter({"frame timeout": 2}))

    def test_half_a_size(self) -> None:
        """Two of the four bytes of a size, and then nothing, are a frame that does not get on."""
        with self.attack():
            stranger = self.stranger()
            stranger.send(b"\0\0")
            self.assert_closed(stranger, "half a size", within=5.0)
        self.assertEqual(self.closed_links(), Counter({"frame timeout": 1}))

    def test_slow_but_steady(self) -> None:
        """A frame that gets on and does not end is given up as well."""
        with self.attack():
            stranger = self.stranger()
            stranger.send(pack("!I", 5 * MIB))
            start = time.monotonic()
            while not stranger.is_closed(0.05) and time.monotonic() - start < 15.0:
                stranger.send(bytes(500))
            self.assertLess(time.monotonic() - start, 10.0)
        self.assertEqual(self.closed_links(), Counter({"frame timeout": 1}))

    def test_a_large_frame_without_its_end(self) -> None:
        """A frame of the largest size that stops before its last byte is held, and given up."""
        with self.attack():
            stranger = self.stranger()
            stranger.send(pack("!I", hostile.MAX_MESSAGE) + bytes(hostile.MAX_MESSAGE - 1))
            self.assert_closed(stranger, "an unfinished frame")
        self.assertEqual(self.closed_links(), Counter({"frame timeout": 1}))

    def test_reading_nothing(self) -> None:
        """
        A peer that reads nothing has a short queue, and then no link; whoever sends is held up
        for two seconds at most, and everybody else gets everything.
        """
        count = 300
        self.honest.ask("gather")
        # The victim's own messages, pongs among them, wait in line behind what is held up.
        # And are held for those who miss them.
        with self.attack(wait=PATIENCE, memory=MOST_MEMORY + count * 60_000):
            stranger = self.stranger(receive_buffer=4096)
            self.victim.ask("begin", task="push", size=60_000, count=count)
            pushed = self.victim.outcome("push")
            self.wait_for(
                lambda: self.closed_links()["peer too slow"] == 1, "the stranger to be given up"
            )
            self.assert_closed(stranger, "reading nothing")
            self.wait_for(
                lambda: len(self.honest.ask("pushed")) >= count, "the honest peer to get it all"
            )
        self.assertEqual(self.honest.ask("pushed"), list(range(count)))
        self.assertEqual((pushed["sent"], pushed["failure"]), (count, ""))
        self.assertLess(pushed["longest"], PATIENCE + 3.0)

    def test_asking_and_reading_nothing(self) -> None:
        """Somebody who asks and asks, and does not read the answers, is given up as well."""
        for _ in range(30):
            # The more others the victim knows, the longer its answers.
            self.stranger()
        with self.attack():
            stranger = self.stranger(receive_buffer=4096)
            stranger.pour(hostile.whisper(stranger.id, hostile.REQUEST, b"*") * 1000, 10.0)
            self.assert_closed(stranger, "asking and reading nothing")
        self.assertEqual(self.closed_links(), Counter({"peer too slow": 1}))
