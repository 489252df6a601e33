"""Beacons: what is written is read again, by those of the same network, and nothing else is."""

from __future__ import annotations

import json
import re
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core.beacon import (
    LARGEST,
    BadBeacon,
    Beacon,
    Bucket,
    NotOurs,
    network_tag,
    read,
    write,
)
from py2p_twisted.core.network import Network

PAGE = Path(__file__).resolve().parents[2] / "docs/protocol/discovery.rst"

MESH = network_tag(Network("mesh"))

idents = st.text(
    "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz", min_size=1, max_size=66
)
beacons = st.builds(
    Beacon,
    idents.map(str.encode),
    st.integers(0, 65535),
    st.none() | st.ip_addresses().map(str) | st.just("node.example"),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


class BeaconTests(SynchronousTestCase):
    @given(beacons)
    def test_what_is_written_is_read(self, made: Beacon) -> None:
        """It is small, is read by its network, and by no other."""
        data = write(made, MESH)
        self.assertLess(len(data), LARGEST)
        self.assertEqual(read(data, MESH), made)
        self.assertRaises(NotOurs, read, data, network_tag(Network("mesh", "SSL")))

    def test_the_name_is_not_in_it(self) -> None:
        """What stands for a network does not say its name, and differs with name and encryption."""
        tags = {
            network_tag(Network(name, how))
            for name in ("a", "alerts")
            for how in ("SSL", "Plaintext")
        }
        self.assertEqual(len(tags), 4)
        self.assertNotIn(b"alerts", write(Beacon(b"x", 1), network_tag(Network("alerts"))))

    @given(st.binary(max_size=600))
    @example(MESH.encode())
    @example(MESH.encode() * 40)
    @example(b"[" * 400 + MESH.encode())
    @example(f'"{MESH}"'.encode())
    @example(f'{{"net":"{MESH}"}}'.encode())
    @example(f'{{"py2p":1,"net":"{MESH}","id":"x","port":{"9" * 400}}}'.encode())
    def test_anything_else(self, data: bytes) -> None:
        """Any other datagram is refused as one of two kinds."""
        self.assertRaises((NotOurs, BadBeacon), read, data, MESH)

    @given(st.sampled_from(["py2p", "net", "id", "port", "host"]), values)
    @example("port", True)
    @example("port", 1.0)
    @example("py2p", True)
    @example("py2p", 2)
    @example("id", "a\nb")
    @example("id", "é")
    @example("id", "x" * 257)
    @example("host", "a b")
    @example("host", "a" * 254)
    @example("host", "fe80::1%eth0")
    @example("host", ["192.0.2.1"])
    def test_wrong_fields(self, name: str, value: object) -> None:
        """A field of another type or range makes it useless; what is read is of the right types."""
        said = {"py2p": 1, "net": MESH, "id": "abc", "port": 4444, name: value}
        try:
            found = read(json.dumps(said).encode(), MESH)
        except (NotOurs, BadBeacon):
            return
        self.assertIs(type(found.port), int)
        self.assertIn(found.port, range(65536))
        self.assertTrue(found.ident.isalnum())
        self.assertTrue(found.host is None or not set(" %") & set(found.host))

    def test_more_fields(self) -> None:
        """A later version may say more."""
        data = write(Beacon(b"abc", 4444), MESH)[:-1] + b',"more":[1]}'
        self.assertEqual(read(data, MESH), Beacon(b"abc", 4444))

    def test_too_large(self) -> None:
        """More than a beacon may have is not even parsed."""
        data = write(Beacon(b"abc", 4444), MESH) + b" " * LARGEST
        self.assertRaises(BadBeacon, read, data, MESH)

    def test_vector(self) -> None:
        """The beacon in the documentation is the one that is sent."""
        (shown,) = re.findall(r'^    (\{"py2p":.*\})$', PAGE.read_text(), re.M)
        found = read(shown.encode(), network_tag(Network("alerts", "SSL")))
        self.assertEqual(write(found, network_tag(Network("alerts", "SSL"))).decode(), shown)
        self.assertEqual((found.port, found.host), (4444, None))


class BucketTests(SynchronousTestCase):
    def test_burst_and_rate(self) -> None:
        """So many at once, then so many a second; a clock that goes back gives none."""
        bucket = Bucket(3, 2.0, 100.0)
        self.assertEqual([bucket.take(100.0) for _ in range(4)], [True, True, True, False])
        self.assertEqual([bucket.take(101.0) for _ in range(3)], [True, True, False])
        self.assertFalse(bucket.take(50.0))
        self.assertEqual([bucket.take(1000.0) for _ in range(4)], [True, True, True, False])
