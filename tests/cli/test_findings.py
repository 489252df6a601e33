"""
What a doctor concludes from what was seen.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.cli import findings
from py2p_twisted.cli.findings import FAIL, OK, WARN, Finding, Own
from py2p_twisted.cli.probe import Attempt
from py2p_twisted.core.network import PLAINTEXT, SSL, Network
from py2p_twisted.core.node import Node
from py2p_twisted.errors import (
    ClosedByPeer,
    ConnectTimeout,
    FrameTooLarge,
    HandshakeTimeout,
    NetworkMismatch,
    TransportFailed,
    Unreachable,
)
from py2p_twisted.testing import MemoryMesh

MESH = Network("mesh")
WHERE = "192.0.2.7:4444"


def attempt(error: Exception | None = None, **how: Any) -> Attempt:
    """An attempt that has found a node of ours, or failed once it was connected."""
    found: dict[str, Any] = {"connected": True, "encryption": PLAINTEXT, "delay": 0.001}
    if error is None:
        found |= {"id": "a" * 66, "plain": False, "settled": True, "rtt": 0.002}
    return Attempt(WHERE, error=error, **{**found, **how})


class FindingsTestCase(SynchronousTestCase):
    def assert_found(self, found: list[Finding], *wanted: tuple[str, str, str]) -> None:
        """These levels and subjects, with texts that hold these words; nothing else."""
        self.assertEqual(
            [(one.level, one.about) for one in found], [wanted[:2] for wanted in wanted]
        )
        for one, (_, _, words) in zip(found, wanted, strict=True):
            self.assertIn(words, one.line)
            self.assertTrue(one.line.isprintable())


class AttemptTests(FindingsTestCase):
    """What came of dialling."""

    def of(self, one: Attempt, other: Attempt | None = None, **how: Any) -> list[Finding]:
        return findings.of_attempts([(one, other)], how.pop("network", MESH), Own(**how))

    def test_a_node(self) -> None:
        self.assert_found(
            self.of(attempt()),
            (OK, "connection", f"ok    {WHERE} is node aaaaaaaa, and takes us"),
            (OK, "clock", "agree"),
            (OK, "round trip", "2.0 ms"),
        )

    def test_an_original(self) -> None:
        """It is as good, and is dialled to see how far away it is."""
        self.assert_found(
            self.of(attempt(plain=True, rtt=None, ahead=70.0)),
            (OK, "connection", "an original of py2p 0.6"),
            (
                FAIL,
                "clock",
                "70 s ahead of this machine's, so messages are dropped - set the clock",
            ),
            (OK, "round trip", "1.0 ms"),
        )

    def test_one_that_is_full(self) -> None:
        for how in ({"left": ClosedByPeer()}, {}):
            self.assert_found(
                self.of(attempt(settled=False, **how))[:1],  # type: ignore[arg-type]
                (WARN, "full", "turns us away: it is full" if how else "does not take us"),
            )

    def test_one_that_falls_silent(self) -> None:
        found = self.of(attempt(plain=True, mute=True))
        self.assert_found(found[:1], (FAIL, "handshake", "is node aaaaaaaa, and says nothing more"))

    def test_ourselves(self) -> None:
        self.assert_found(
            self.of(attempt(), id="a" * 66),
            (WARN, "identity", "is the node on this machine itself - --join needs"),
        )

    def test_no_connection(self) -> None:
        for error, words in (
            (ConnectionRefusedError("x"), "refuses connections - start the node there"),
            (ConnectTimeout("x"), "does not answer - a firewall drops it"),
            (Unreachable("no route"), "cannot be reached: no route - see the network"),
        ):
            found = self.of(attempt(error, connected=False))
            self.assert_found(found, (FAIL, "connection", words))

    def test_another_encryption(self) -> None:
        """Found out by trying the other one: a node answers then, or one of another network."""
        closed = Unreachable("it closed")
        for other in (attempt(), attempt(NetworkMismatch("x", "y"))):
            self.assert_found(
                self.of(attempt(closed), other),
                (FAIL, "encryption", "speaks TLS, and we speak plain text - give --tls here"),
            )
            self.assert_found(
                self.of(attempt(TransportFailed("x"), encryption=SSL), other),
                (FAIL, "encryption", "speaks plain text, and we speak TLS - leave --tls out"),
            )

    def test_no_node(self) -> None:
        """Neither way."""
        silent, closed = HandshakeTimeout(6), Unreachable("it closed")
        for error, words in (
            (silent, "accepts connections, and says nothing"),
            (closed, "accepts connections, and hangs up before it says who it is"),
            (TransportFailed("reset"), "hangs up before it says who it is"),
            (FrameTooLarge(9**9, 5), "is no py2p node: peer announced a frame"),
        ):
            for other in (attempt(error), None):
                self.assert_found(self.of(attempt(error), other), (FAIL, "handshake", words))

    def test_what_is_tried_again(self) -> None:
        """Only where something is that might speak otherwise."""
        self.assertTrue(findings.wants_second(attempt(HandshakeTimeout(6))))
        for one in (
            attempt(),
            attempt(ConnectTimeout("x"), connected=False),
            attempt(NetworkMismatch("x", "y")),
        ):
            self.assertFalse(findings.wants_second(one))

    def test_several_addresses(self) -> None:
        """One that works is enough; the others are warnings. Without one all fail."""
        dead = (attempt(ConnectTimeout("x"), connected=False), None)
        both = findings.of_attempts([dead, (attempt(), None)], MESH, Own())
        self.assertEqual([one.level for one in both], [WARN, OK, OK, OK])
        none = findings.of_attempts([dead, dead], MESH, Own())
        self.assertEqual([one.level for one in none], [FAIL, FAIL])

    def test_names(self) -> None:
        self.assert_found(
            findings.of_name("nope", []), (FAIL, "name", "nobody knows the name nope")
        )
        self.assert_found(findings.of_name("10.0.0.1", ["10.0.0.1"]))
        self.assert_found(
            findings.of_name("a", ["10.0.0.1", "::1"]), (OK, "name", "a is 10.0.0.1, ::1")
        )


class MismatchTests(FindingsTestCase):
    """Which network it is, of which only a hash is known."""

    def of(self, theirs: str, network: Network = MESH) -> Finding:
        (found,) = findings.of_attempts(
            [(attempt(NetworkMismatch(theirs, network.id)), None)], network, Own()
        )
        return found

    def test_the_other_encryption(self) -> None:
        found = self.of(Network("mesh", SSL).id)
        self.assert_found(
            [found], (FAIL, "encryption", "of network mesh (SSL), and we are of mesh (Plaintext)")
        )

    def test_another_version(self) -> None:
        found = self.of(findings._protocol_id("mesh", SSL, "0.7"))
        self.assert_found([found], (FAIL, "version", "speaks py2p 0.7, and we speak 0.6"))

    def test_another_name(self) -> None:
        """The default one is known; of others what it says and what we are."""
        alerts = Network("al\x1berts")
        found = self.of(MESH.id, alerts)
        self.assert_found(
            [found], (FAIL, "network", f"the network mesh (Plaintext), and we are of al\\x1berts "
                      f"(Plaintext), {alerts.id} - use the same --network")
        )  # fmt: skip
        found = self.of("\x1b[2J")
        self.assert_found(
            [found], (FAIL, "network", "is of a network \\x1b[2J, and we are of mesh")
        )

    def test_the_same_ids(self) -> None:
        """As `core.network` makes them."""
        for one in (MESH, Network("ü", SSL)):
            self.assertEqual(findings._protocol_id(one.name, one.encryption, "0.6"), one.id)


class ClockTests(FindingsTestCase):
    def test_levels(self) -> None:
        """What is off by more than a peer accepts is a failure."""
        for ahead, plain, level in (
            (-0.9, False, OK), (20, True, OK), (-21, False, WARN), (60, True, WARN),
            (61, True, FAIL), (61, False, WARN), (-1200, False, WARN), (1201, False, FAIL),
        ):  # fmt: skip
            self.assertEqual(findings.of_clock(ahead, plain=plain).level, level, ahead)
        self.assertIn("30 s behind", findings.of_clock(-30).what)


class NodeTests(FindingsTestCase):
    """What a node says of itself."""

    def of(self, joined: bool = True, **status: Any) -> list[Finding]:
        whole = {"state": "Nominal", "id": "b" * 66, "network": "mesh (Plaintext)", **status}
        return findings.of_node(joined, int(joined), whole)[1:]

    def test_a_real_one(self) -> None:
        """All is well; and with whatever it says of itself, nothing breaks."""
        mesh = MemoryMesh("ada", "ben")
        mesh.link("ada", "ben")
        mesh.settle()
        status = dict(mesh["ada"].service.status)
        found = findings.of_node(True, 1, status)
        self.assert_found(
            found, (OK, "joined", "of network mesh (Plaintext) has 1 peer"), (OK, "clock", "agrees")
        )
        for junk in (None, 7, "x", ["x"], {"x": "y"}, {"stale": -1}, {"incoming links": "7"}):
            findings.of_node(False, 0, dict.fromkeys(status, junk))
        self.assertEqual(findings.of_node(False, 0, {})[0].level, FAIL)

    def test_alone(self) -> None:
        (one,) = findings.of_node(False, 0, {"dialling": ["10.0.0.1:1\x1b"]})
        self.assert_found([one], (FAIL, "joined", "has no peers - it is dialling 10.0.0.1:1\\x1b"))
        (one,) = findings.of_node(False, 0, {})
        self.assertIn("give it a node to join through with --join", one.do)

    def test_errors(self) -> None:
        """The latest of each address, five addresses at most; each with what to do."""
        errors = [
            "10.0.0.1:4: 10.0.0.1:4 refuses connections: is a node listening there?",
            "10.0.0.2:4: peer belongs to network X, this node to Y: both ends need ...",
            "10.0.0.1:4: 10.0.0.1:4 did not answer within 4 s",
            "no colon here",
        ]
        self.assert_found(
            self.of(errors=errors),
            (WARN, "errors", "lately: no colon here - see its log"),
            (
                WARN,
                "errors",
                "lately: 10.0.0.1:4 did not answer within 4 s - see whether a firewall",
            ),
            (WARN, "errors", "lately: 10.0.0.2:4: peer belongs to network X"),
        )
        self.assertEqual(len(self.of(errors=[f"{n}: x" for n in range(9)])), 5)

    def test_clock(self) -> None:
        for seconds, words in ((30, "30 s behind"), (-90, "90 s ahead")):
            self.assert_found(self.of(**{"clock correction (s)": seconds}), (WARN, "clock", words))

    def test_closed_links(self) -> None:
        """Those that tell something; most links end because others are better."""
        self.assert_found(
            self.of(**{"closed links": {"view full": 9, "network mismatch": 1, "transport": 2}}),
            (
                WARN,
                "closed links",
                "1 connection ended because the other end is of another network",
            ),
            (WARN, "closed links", "2 connections ended because the transport failed"),
        )

    def test_limits(self) -> None:
        """What is full, and should not be."""
        full = {"incoming links": "64 of 64", "half-open links": "63 of 64", "ids": "9 of 9"}
        self.assert_found(
            self.of(containers=full),
            (WARN, "limits", "a limit is reached: incoming links, 64 of 64 - raise --max-peers"),
        )
        names = Node.sizes.__code__.co_consts
        self.assertTrue(set(findings._FULL) <= set(_flat(names)), "there is no such name")

    def test_dropped_and_missed(self) -> None:
        self.assert_found(
            self.of(
                **{
                    "dropped messages": {"stale": 2, "x\x1b": 1},
                    "happened": {"unobtainable": 3, "joins": 7},
                    "state directory": {"trouble": "disk full"},
                    "state": "closed",
                }
            )[:4],
            *[
                (OK, "joined", "1 peer"),
                (WARN, "dropped", "2 messages dropped (stale) - the sender's clock is wrong"),
                (WARN, "dropped", "1 message dropped (x\\x1b)"),
                (WARN, "missed", "3 messages could not be had from anybody any more"),
            ],
        )

    def test_slow_peers(self) -> None:
        peer = {"id": "c" * 66, "where": "10.0.0.9:1", "slow": True, "bytes_waiting": 7}
        self.assert_found(
            findings.of_peers([peer, {"slow": False}, {}]),
            (WARN, "peers", "peer cccccccc at 10.0.0.9:1 reads too slowly: 7 bytes wait"),
        )

    def test_networks(self) -> None:
        for network in (MESH, Network("a (SSL) b", SSL)):
            text = f"{network.name} ({network.encryption})"
            self.assertEqual(findings.network_of({"network": text}), network)
        self.assertIsNone(findings.network_of({}))


class AddressTests(FindingsTestCase):
    """Where others are told to dial."""

    ID = "a" * 66

    def of(
        self, address: str, *peers: str, own: bool = True, one: Attempt | None = None
    ) -> list[Finding]:
        rows = [{"where": where} for where in peers]
        return findings.of_address(address, rows, own=own, ident=self.ID, attempt=one)

    def test_well(self) -> None:
        self.assert_found(
            self.of("10.0.0.1:4444", "10.0.0.2:1", one=attempt()),
            (OK, "address", "it can be dialled where it says, at 10.0.0.1:4444"),
        )

    def test_nowhere(self) -> None:
        self.assert_found(self.of("10.0.0.1:0"), (WARN, "address", "it listens nowhere"))

    def test_loopback(self) -> None:
        """It is wrong if peers are elsewhere."""
        for address in ("127.0.0.1:4444", "[::1]:4444", "localhost:4444"):
            self.assert_found(
                self.of(address, "127.0.0.1:1", "[::1]:7"),
                (WARN, "address", "it can be dialled from this machine alone"),
            )
            self.assert_found(
                self.of(address, "127.0.0.1:1", "10.0.0.2:1"),
                (FAIL, "address", "and they are on other machines"),
            )

    def test_not_ours(self) -> None:
        self.assert_found(
            self.of("192.0.2.7:1", own=False),
            (WARN, "address", "which is no address of this machine"),
        )

    def test_private(self) -> None:
        """Others come from outside, and can never dial that."""
        self.assert_found(
            self.of("10.0.0.1:4", "8.8.8.8:1"), (WARN, "address", "a private address")
        )
        self.assert_found(self.of("8.8.4.4:4", "8.8.8.8:1"))

    def test_dialled(self) -> None:
        """In vain: at an address that is ours it listens elsewhere; else it may be the router."""
        refused = attempt(ConnectionRefusedError("10.0.0.1:4 refuses"), connected=False)
        self.assert_found(
            self.of("10.0.0.1:4", one=refused),
            (FAIL, "address", "see on which interface it listens"),
        )
        found = self.of("192.0.2.7:4", own=False, one=refused)
        self.assert_found(found[1:], (WARN, "address", "some routers do not let one dial oneself"))
        other = attempt(id="b" * 66)
        self.assert_found(
            self.of("10.0.0.1:4", one=other), (FAIL, "address", "another node answers")
        )
        self.assert_found(
            self.of("10.0.0.1:4", one=attempt(HandshakeTimeout(6))),
            (FAIL, "address", "something else answers"),
        )


def _flat(consts: Any) -> list[str]:
    """All texts in the constants of a function."""
    texts: list[str] = []
    for one in consts:
        if isinstance(one, str):
            texts.append(one)
        elif isinstance(one, tuple):
            texts += _flat(one)
    return texts
