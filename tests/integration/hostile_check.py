"""
One hostile peer costs a node at most 32 MiB, and nobody's latency, whatever bytes it sends.

Random bytes, truncated and oversized frames, wrong checksums, nesting, wide arrays, and wrong types
in any field. What must hold afterwards: see `victim`.

Sizes are in bytes. Source: docs/design.rst, "Bad input".
"""

from __future__ import annotations

import random
import time
from collections import Counter
from struct import pack

from tests.integration import hostile
from tests.integration.driver import MIB
from tests.integration.victim import HostileTestCase


class FrameTests(HostileTestCase):
    """What is wrong with the stream ends the link that brings it."""

    def test_four_gigabytes(self) -> None:
        """
        A frame of 4 GiB is refused from its four size bytes, and nothing of what the stranger
        goes on sending is kept.
        """
        with self.attack():
            for introduced in (False, True):
                with self.stranger(introduced) as stranger:
                    stranger.send(b"\xff\xff\xff\xff")
                    stranger.pour(bytes(256 * 1024), 2.0)
                    self.assert_closed(stranger, "a frame of 4 GiB")
        self.assertEqual(self.closed_links(), Counter({"frame too large": 2}))

    def test_sizes_out_of_bounds(self) -> None:
        """Frames that are too large, or too small for a checksum, are refused by their size."""
        with self.attack():
            sizes = (0xFFFFFFFF, 0x80000000, 10 * MIB)
            self.assert_refuses({str(size): pack("!I", size) for size in sizes}, "frame too large")
            # Who has not introduced himself has nothing large to say.
            self.assert_refuses(
                {"a large greeting": pack("!I", hostile.MAX_GREETING + 1)},
                "frame too large",
                introduced=(False,),
            )
            sizes = (0, 1, 31)
            self.assert_refuses({str(size): pack("!I", size) for size in sizes}, "frame too small")

    def test_wrong_checksums(self) -> None:
        """A frame whose checksum does not fit ends the link, whichever bit is wrong."""
        good = hostile.whisper(hostile.new_id(), 0, "hello")
        damaged = {"another checksum": hostile.frame(bytes(32) + good[36:])}
        for bit in random.sample(range(36 * 8, len(good) * 8), 8):
            data = bytearray(good)
            data[bit // 8] ^= 1 << bit % 8
            damaged[f"bit {bit}"] = bytes(data)
        with self.attack():
            self.assert_refuses(damaged, "checksum")

    def test_wrong_checksums_of_large_frames(self) -> None:
        """A large frame with a wrong checksum is forgotten at once, however many of them come."""
        damaged = hostile.frame(bytes(32) + bytes(hostile.MAX_MESSAGE))
        with self.attack():
            self.assert_refuses(dict.fromkeys("abcdef", damaged), "checksum", introduced=(True,))

    def test_no_messages(self) -> None:
        """What has a good checksum and is no message at all ends the link: nobody relays that."""
        bodies = {
            "nothing": b"",
            "half an array": b"\x94\x02",
            "a number": b"\x07",
            "a map": b"\x81\x01\x02",
            "an array of two": b"\x92\x02\xa1x",
            "an unused byte": b"\x94\x02\xa1x\x00\xc1",
            "noise": bytes(range(0xC1, 0xC1 + 40)),
        }
        with self.attack():
            self.assert_refuses(
                {name: hostile.frame(hostile.sealed(body)) for name, body in bodies.items()},
                "malformed",
            )

    def test_random_bytes(self) -> None:
        """Random bytes end nothing but the connections that they come on."""
        noise = random.Random(20)
        with self.attack():
            for number in range(60):
                with self.stranger(introduced=number % 2 == 0) as stranger:
                    pieces = [
                        noise.randbytes(noise.choice((1, 5, 100, 3000, 70_000)))
                        for _ in range(noise.randrange(1, 6))
                    ]
                    for piece in pieces:
                        stranger.send(piece)
                    if int.from_bytes(b"".join(pieces)[:4], "big") > 16 * MIB:
                        self.assert_closed(stranger, "random bytes")
        self.assertEqual(set(self.closed_links()), {"frame too large"})

    def test_random_content(self) -> None:
        """Frames with any content at all end nothing but the connections that they come on."""
        noise = random.Random(21)
        starts = [b"", *(hostile.bomb(codec, 100)[:10] for codec in hostile.CODECS)]
        with self.attack():
            for number in range(60):
                content = noise.choice(starts) + noise.randbytes(noise.randrange(32, 5000))
                with self.stranger(introduced=number % 2 == 0) as stranger:
                    stranger.send(hostile.frame(content))
                    self.assert_closed(stranger, "random content")
        self.assertLessEqual(set(self.closed_links()), {"compression", "checksum"})
        self.assertEqual(self.closed_links().total(), 60)

    def test_truncated_frames(self) -> None:
        """Somebody who goes in the middle of a frame, wherever that is, leaves nothing behind."""
        with self.attack():
            for introduced in (False, True):
                data = hostile.handshake(hostile.new_id())
                for size in [*range(45), len(data) - 1]:
                    with self.stranger(introduced) as stranger:
                        stranger.send(data[:size])
        self.assertEqual(self.dropped(), Counter())


class ContentTests(HostileTestCase):
    """What is wrong with one message costs that message, as honest nodes relay unread."""

    def test_deep_nesting(self) -> None:
        """Nesting is followed 32 deep, however it is written."""
        with self.attack():
            self.assert_drops(hostile.as_messages(hostile.nests()), "too deep")

    def test_wide_arrays(self) -> None:
        """More elements than a message may have are counted, not built."""
        with self.attack():
            self.assert_drops(hostile.as_messages(hostile.crowds()), "too many elements")
            self.assert_drops(hostile.as_deflated(hostile.crowds()), "too many elements")

    def test_lying_headers(self) -> None:
        """Headers that promise what is not there cost nothing, and the message or the link."""
        with self.attack():
            for name, data in hostile.as_messages(hostile.lies()).items():
                with self.stranger() as stranger:
                    stranger.send(data)
                    stranger.is_served()
                    self.assertIn(
                        (self.closed_links() + self.dropped()).most_common(1)[0][0],
                        ("malformed", "too many elements"),
                        name,
                    )
        seen = self.closed_links() + self.dropped()
        self.assertEqual(set(seen), {"malformed", "too many elements"})
        self.assertEqual(seen.total(), len(hostile.lies()))

    def test_elements_within_the_limit(self) -> None:
        """As many elements as are allowed, in message after message, make nobody wait."""
        few = {
            "small maps": b"\xdd" + pack("!I", 33_000) + b"\x81\xc0\xc0" * 33_000,
            "numbers": b"\xdd" + pack("!I", 99_000) + b"\xcc\xff" * 99_000,
            "lists": b"\xdd" + pack("!I", 99_000) + b"\x90" * 99_000,
        }
        frames = [data for _ in range(20) for data in hostile.as_deflated(few).values()]
        with self.attack():
            stranger = self.stranger()
            stranger.send(b"".join(frames))
            self.assert_kept(stranger, "messages with many elements")
        self.assertEqual(self.victim.ask("taken_from_others"), len(frames))

    def test_wrong_types_in_the_header(self) -> None:
        """A message whose flag, sender or stamp is of another type is dropped."""
        flags = {name: value for name, value in hostile.ODD.items() if type(value) is not int}
        senders = {
            name: value
            for name, value in hostile.ODD.items()
            if name == "long text" or not isinstance(value, (bytes, str))
        }
        stamps = {
            name: value
            for name, value in hostile.ODD.items()
            if type(value) is not int and name != "a fraction"
        }
        now, me = int(time.time()), hostile.new_id()
        cases = {
            **{f"flag: {name}": (value, me, now, 0) for name, value in flags.items()},
            **{f"sender: {name}": (2, value, now, 0) for name, value in senders.items()},
            **{f"stamp: {name}": (2, me, value, 0) for name, value in stamps.items()},
            "no sub-flag": (2, me, now),
        }
        with self.attack():
            self.assert_drops(
                {name: hostile.message(*items) for name, items in cases.items()}, "bad field"
            )
        self.assertEqual(self.victim.ask("taken_from_others"), 0)

    def test_wrong_types_in_the_payload(self) -> None:
        """
        Sub-flags and packets may be anything; what the node itself acts on is checked, and
        nothing of it is more than an unusable message.
        """
        with self.attack():
            for kind in (*hostile.ODD.values(), 3, 4, 6, 9, 11, 33, 47):
                with self.stranger() as stranger:
                    stranger.send(hostile.whisper(stranger.id, kind, "packet"))
                    self.assert_kept(stranger, f"sub-flag {kind!r:.40}")
            for kind in (hostile.PEERS, hostile.REQUEST, 10):
                for name, value in hostile.ODD.items():
                    with self.stranger() as stranger:
                        stranger.send(hostile.whisper(stranger.id, kind))
                        stranger.send(hostile.whisper(stranger.id, kind, value))
                        stranger.send(hostile.whisper(stranger.id, kind, value, value))
                        stranger.send(hostile.whisper(stranger.id, kind, b"x", [value, value]))
                        stranger.send(hostile.whisper(stranger.id, kind, [value, [value]]))
                        stranger.send(hostile.whisper(stranger.id, kind, [[value, value]]))
                        stranger.send(hostile.whisper(stranger.id, kind, [[[value, value], b"x"]]))
                        self.assert_kept(stranger, f"sub-flag {kind} with {name}")
        self.assertEqual(
            set(self.dropped()) - {"unknown extension", "unasked peers list"}, {"bad field"}
        )
        self.assertEqual(self.closed_links(), Counter())

    def test_text_that_is_none(self) -> None:
        """A text that is not UTF-8 is dropped with its message."""
        texts = {"noise": b"\xa4\xff\xfe\xfd\xfc", "half a letter": b"\xa1\xc3"}
        texts["a surrogate"] = b"\xa3\xed\xa0\x80"
        with self.attack():
            self.assert_drops(hostile.as_messages(texts), "bad text")

    def test_too_many_of_them(self) -> None:
        """A neighbour that brings more than ten unusable messages a minute is no neighbour."""
        with self.attack():
            stranger = self.stranger()
            for _ in range(10):
                stranger.send(hostile.message(None, hostile.new_id(), int(time.time()), 0))
            self.assert_kept(stranger, "ten unusable messages")
            stranger.send(hostile.message(None, hostile.new_id(), int(time.time()), 0))
            self.assert_closed(stranger, "eleven unusable messages")
        self.assertEqual(self.closed_links(), Counter({"too many content errors": 1}))

    def test_stamps_of_another_time(self) -> None:
        """Broadcasts from another day are not taken, and nobody is blamed for bringing them."""
        with self.attack():
            stranger = self.stranger()
            for stamp in (0, -1, 2**64 - 1, -(2**63), 2**40, 2.0**60, int(time.time()) - 86_400):
                stranger.send(hostile.message(0, stranger.id, stamp, 0, "late"))
            self.assert_kept(stranger, "stamps of another time")
        self.assertEqual(self.dropped(), Counter({"stale": 7}))
        self.assertEqual(self.victim.ask("taken_from_others"), 0)
