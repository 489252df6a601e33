"""
One hostile peer costs a node at most 32 MiB, and nobody's latency, however it behaves.

Strangers who do not introduce themselves properly, who are many, or under many names; lists of a
million addresses; and what the application does not read. What must hold afterwards: see `victim`.

Times are in seconds, sizes in bytes. Source: docs/design.rst, "Bad input" and "Limits".
"""

from __future__ import annotations

import os
import random
import socket
import time
from collections import Counter
from struct import pack
from typing import Any

from tests.integration import hostile
from tests.integration.driver import HOST, MIB
from tests.integration.hostile import Stranger
from tests.integration.nodes import ProcessTestCase
from tests.integration.victim import HURRIED, MOST_MEMORY, HostileTestCase


class HandshakeTests(HostileTestCase):
    """Nothing is taken from anybody who has not introduced himself properly."""

    def test_wrong_types(self) -> None:
        """A handshake with a field of another type is refused."""
        me = hostile.new_id()
        odd = hostile.ODD
        cases: dict[str, dict[str, Any]] = {}
        for name, value in odd.items():
            if not isinstance(value, (bytes, str)) or name in ("empty text", "long text"):
                cases[f"id: {name}"] = {"id": value}
            if not isinstance(value, (bytes, str)):
                cases[f"network: {name}"] = {"network": value}
            if not isinstance(value, list):
                cases[f"methods: {name}"] = {"methods": value}
            if type(value) is not int:
                cases[f"flag: {name}"] = {"flag": value}
            if not isinstance(value, (bytes, str)) or name == "long text":
                cases[f"sender: {name}"] = {"sender": value}
            if type(value) is not int and name != "a fraction":
                cases[f"stamp: {name}"] = {"time": value}
        cases["methods: a thousand"] = {"methods": list(range(1000))}
        frames = {name: hostile.handshake(me, **fields) for name, fields in cases.items()}
        for size in (0, 1, 3, 5, 50):
            frames[f"{size} items"] = hostile.whisper(me, hostile.HANDSHAKE, *[b"x"] * size)
        with self.attack():
            self.assert_refuses(frames, "handshake", introduced=(False,))
        self.assertEqual(self.victim.table(), {self.honest.id})

    def test_odd_addresses(self) -> None:
        """An address that nobody could dial is no reason to refuse a peer."""
        odd = [
            *hostile.ODD.values(),
            *([value, 4444] for value in hostile.ODD.values()),
            *(["127.0.0.1", value] for value in hostile.ODD.values()),
            ["127.0.0.1", 4444, 1],
            ["a b\n\0c", 4444],
        ]
        with self.attack():
            for address in odd:
                with self.stranger(introduced=False) as stranger:
                    stranger.introduce(address=address, methods=[*hostile.ODD.values()])
                    self.assert_kept(stranger, f"the address {address!r:.80}")
        self.assertEqual(self.closed_links(), Counter())

    def test_messages_before_it(self) -> None:
        """Messages of somebody who has not introduced himself are taken by nobody."""
        with self.attack():
            cases = {
                "a broadcast": hostile.broadcast(hostile.new_id(), 0, "hello"),
                "a whisper": hostile.whisper(hostile.new_id(), 0, "hello"),
                "a request": hostile.whisper(hostile.new_id(), hostile.REQUEST, b"*"),
                "a renegotiation": hostile.message(1, hostile.new_id(), 0, 1, [19]),
                "peers": hostile.whisper(hostile.new_id(), hostile.PEERS, []),
            }
            self.assert_refuses(cases, "illegal in this state", introduced=(False,))
        self.assertEqual(self.victim.ask("taken_from_others"), 0)

    def test_another_network(self) -> None:
        """Somebody from another network, or who says that he is the victim itself, is refused."""
        with self.attack():
            self.assert_refuses(
                {
                    "text": hostile.handshake(hostile.new_id(), network="x" * 5000),
                    "bytes": hostile.handshake(hostile.new_id(), network=b"\xff\xfe"),
                },
                "network mismatch",
                introduced=(False,),
            )
            ours = ("127.0.0.1", self.victim.port)
            self.assert_refuses(
                {"itself": hostile.handshake(self.victim.id, address=ours)},
                "self connection",
                introduced=(False,),
            )
            self.assert_refuses(
                {"a copy of it": hostile.handshake(self.victim.id)}, "same id", introduced=(False,)
            )

    def test_a_second_handshake(self) -> None:
        """Who introduces himself again must say the same; JavaScript nodes do."""
        with self.attack():
            stranger = self.stranger()
            stranger.send(hostile.handshake(stranger.id))
            self.assert_kept(stranger, "the same handshake again")
            stranger.send(hostile.whisper(stranger.id, hostile.HANDSHAKE, 1, 2, 3))
            self.assert_kept(stranger, "a short handshake")
            stranger.send(hostile.handshake(hostile.new_id()))
            self.assert_closed(stranger, "another id")
            stranger = self.stranger()
            stranger.send(hostile.handshake(stranger.id, methods=5))
            self.assert_closed(stranger, "methods that are a number")
        self.assertEqual(self.closed_links(), Counter({"identity changed": 1, "handshake": 1}))

    def test_renegotiation_without_end(self) -> None:
        """Eight renegotiations are understood; then it is enough."""
        with self.attack():
            stranger = self.stranger()
            for _ in range(8):
                stranger.send(hostile.message(1, stranger.id, int(time.time()), 1, [19]))
            self.assert_kept(stranger, "eight renegotiations")
            for _ in range(5000):
                if not stranger.send(hostile.message(1, stranger.id, int(time.time()), 9)):
                    break
            self.assert_closed(stranger, "thousands of renegotiations")
        self.assertEqual(self.closed_links(), Counter({"renegotiation loop": 1}))

    def test_crowd(self) -> None:
        """
        One host that opens three hundred connections, silent or under ever new names, gets what
        is set aside for strangers, and no more.
        """
        with self.attack():
            silent = [self.stranger(introduced=False) for _ in range(150)]
            named = []
            for _ in range(150):
                stranger = self.stranger(introduced=False)
                stranger.send(hostile.handshake(stranger.id))
                named.append(stranger)
            for stranger in silent:
                self.assert_closed(stranger, "a handshake that did not come")
            still = [stranger for stranger in named if not stranger.is_closed(0.01)]
            self.assertLessEqual(len(still), 64)
            for stranger in still:
                stranger.close()
        reasons = self.closed_links()
        self.assertGreaterEqual(reasons["handshake timeout"], 150)
        self.assertEqual(reasons["handshake timeout"] + reasons["too many peers"] + len(still), 300)

    def test_the_wrong_time(self) -> None:
        """
        One host that comes under several names, each with a clock that is a day ahead, does not
        keep what the victim says from reaching anybody.
        """
        self.honest.ask("gather")
        with self.attack():
            for _ in range(5):
                with self.stranger(introduced=False) as stranger:
                    stranger.introduce(time=int(time.time()) + 86_400)
                    self.assert_kept(stranger, "a clock of its own")
        self.victim.ask("send", packets=["still here"])
        self.wait_for(
            lambda: ["still here"] in self.honest.ask("gathered"), "the victim to be heard"
        )


class CrowdTests(HostileTestCase):
    """Many small things."""

    def test_a_million_addresses(self) -> None:
        """Of a list of a million peers nothing is used, of one of nineteen thousand very little."""
        entry = hostile.packed([["10.1.2.3", 4444], "x"])[1:]
        with self.attack():
            stranger = self.stranger()
            stranger.send(hostile.peers_list(stranger.id, entry, 1_000_000))
            self.assert_closed(stranger, "a list of a million, which inflates beyond the limit")
            stranger = self.stranger()
            stranger.send(hostile.peers_list(stranger.id, entry, 400_000))
            self.assert_kept(stranger, "a list of 400,000")
            for _ in range(20):
                addresses = [
                    [[f"10.{number >> 8}.{number & 255}.1", 4444], f"peer {number}"]
                    for number in random.sample(range(65536), 19_000)
                ]
                stranger.send(hostile.whisper(stranger.id, hostile.PEERS, addresses))
            self.assert_kept(stranger, "twenty lists of 19,000")
        self.assertEqual(self.closed_links(), Counter({"compression": 1}))
        self.assertEqual(self.dropped()["too many elements"], 1)
        self.assertLess(self.victim.ask("status")["addresses known"], 100)

    def test_many_names(self) -> None:
        """Hundreds of peers that come and go, each under a new name, leave little behind."""
        with self.attack():
            for number in range(400):
                with self.stranger(introduced=False) as stranger:
                    stranger.introduce(address=["127.0.0.1", 1024 + number])
        self.assertLessEqual(self.victim.ask("status")["addresses known"], 512)

    def test_many_small_messages(self) -> None:
        """A flood of messages of any kind is bounded in what is remembered of it."""
        with self.attack():
            stranger = self.stranger()
            for start in range(0, 60_000, 1000):
                stranger.send(
                    b"".join(
                        hostile.broadcast(stranger.id, 33, number)
                        for number in range(start, start + 1000)
                    )
                )
            self.assert_kept(stranger, "many messages")


class DiallingTests(ProcessTestCase):
    """A liar's list must not make us a weapon."""

    def test_one_target(self) -> None:
        """However many peers are said to live at one address, it is not dialled often."""
        target = socket.create_server((HOST, 0))
        self.addCleanup(target.close)
        target.settimeout(0.0)
        port = target.getsockname()[1]
        seeker = self.spawn(1)[0]
        strangers = [Stranger(seeker.port) for _ in range(8)]
        for stranger in strangers:
            self.addCleanup(stranger.close)
            stranger.introduce()
            names = [[[HOST, port], hostile.new_id()] for _ in range(32)]
            stranger.send(hostile.whisper(stranger.id, hostile.PEERS, names))
        dials, until = 0, time.monotonic() + 3.0
        while time.monotonic() < until:
            try:
                connection, _ = target.accept()
            except BlockingIOError:
                time.sleep(0.01)
                continue
            dials += 1
            connection.close()
        self.assertGreaterEqual(dials, 1)
        self.assertLessEqual(dials, 3)


class UnreadTests(ProcessTestCase):
    """What the application does not read."""

    def test_wide_messages_that_nobody_reads(self) -> None:
        """
        Messages wait for an application that does not read in the memory that is set aside for
        them, whatever is in them.
        """
        limit = 16 * MIB
        idle = self.spawn(1, max_waiting_bytes=limit, **HURRIED)[0]
        before = idle.memory
        idle.forget_memory()
        packet = b"\xdd" + pack("!I", 33_000) + b"\x81\xc0\xc0" * 33_000
        stranger = Stranger(idle.port)
        self.addCleanup(stranger.close)
        stranger.introduce()
        for _ in range(30):
            stranger.send(next(iter(hostile.as_deflated({"maps": packet}).values())))
            self.assertTrue(stranger.is_served(), "the link was closed")
        grown = idle.most_memory - before
        self.note(f"{grown / MIB:.1f} MiB")
        self.assertLessEqual(grown, limit + MOST_MEMORY)


class EncryptedTests(HostileTestCase):
    """The same over TLS, where strangers can be silent in more ways."""

    encryption = "SSL"

    def test_without_tls(self) -> None:
        """Who says nothing, or does not speak TLS, disturbs nobody."""
        with self.attack():
            silent = self.stranger(introduced=False)
            for data in (hostile.handshake(hostile.new_id()), os.urandom(5000), b"\x16\x03\x01"):
                stranger = self.stranger(introduced=False)
                stranger.send(data)
                self.assert_closed(stranger, "something else than TLS", within=5.0)
            self.assert_closed(silent, "silence", within=5.0)
        self.assertLessEqual(set(self.closed_links()), {"handshake timeout", "transport"})
