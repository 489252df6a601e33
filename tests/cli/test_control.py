"""
``py2p status``, ``peers``, ``connect``, and ``send`` and ``listen`` with ``--control``: through a
node in memory.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectError

from py2p_twisted import cli
from py2p_twisted.cli import connect, listen, peers, send, status
from py2p_twisted.control import client
from py2p_twisted.control.places import Place, UnixPlace
from py2p_twisted.control.server import ControlFactory
from tests.cli.members import FIRST, InlineWriter, MemberTestCase
from tests.cli.screen import ToyTerminal

#: Where ada can be talked with, and ben.
ADA, BEN = "ada.sock", "ben.sock"


class ControlTestCase(MemberTestCase):
    """
    Two nodes, linked, that can be talked with.

    :ivar sockets: what listens, by path.
    """

    def setUp(self) -> None:
        super().setUp()
        self.patch(os, "environ", {**os.environ, "COLUMNS": "80"})
        os.environ.pop("XDG_RUNTIME_DIR", None)
        self.mesh.add("ben")
        self.mesh.link("ada", "ben")
        self.sockets: dict[str, tuple[str, int]] = {}
        self.factories: dict[str, ControlFactory] = {}
        for name, path in (("ada", ADA), ("ben", BEN)):
            self.offer(name, path)
        self.patch(client, "endpoint_for", self.endpoint_for)
        for module in (connect, listen, peers, send, status):
            self.use(module)
        self.addCleanup(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))

    def offer(self, name: str, path: str) -> None:
        """Have a node be talked with."""
        where = ("10.9.0.1", 1 + len(self.sockets))
        self.sockets[path] = where
        factory = ControlFactory(self.mesh.clock, self.mesh[name].service)
        self.factories[path] = factory
        self.mesh.network.server(where).listen(factory)

    def endpoint_for(self, reactor: object, where: Place, timeout: float) -> Any:
        assert isinstance(where, UnixPlace)
        if where.path in self.sockets:
            return self.mesh.network.client(("10.9.0.2", 1), self.sockets[where.path])

        class Failing:
            def connect(self, factory: object) -> Deferred[Any]:
                return fail(ConnectError(2))

        return Failing()

    def assert_line(self, code: int, expected: int, *words: str) -> None:
        """The exit code, nothing on standard output, and one line that says these words."""
        line = self.said()
        self.assertEqual((code, self.printed(), line.count("\n")), (expected, "", 1), line)
        for word in words:
            self.assertIn(word, line)


class StatusTests(ControlTestCase):
    def test_text(self) -> None:
        """What there is to know, but for what is of use to programs only."""
        self.assertEqual(self.main("status", f"--control={ADA}"), 0)
        lines = self.printed().splitlines()
        ada = self.mesh["ada"].service
        self.assertEqual(
            lines[:3], ["joined: yes, 1 peer", "state: Nominal", f"id: {ada.id.decode()}"]
        )
        names = [line.partition(":")[0] for line in lines if not line.startswith(" ")]
        left_out = ["limits", "containers"]
        self.assertEqual(names[1:], [name for name in ada.status if name not in left_out])
        self.assertEqual(self.said(), "")

    def test_hostile_text(self) -> None:
        """It is spelt."""
        self.mesh["ada"].service.errors.append("\x1b[2J\nnext")
        self.main("status", f"--control={ADA}")
        lines = self.printed().splitlines()
        self.assertEqual([line for line in lines if not line.isprintable()], [])
        self.assertIn("    \\x1b[2J", lines)

    def test_json(self) -> None:
        """All of it."""
        self.assertEqual(self.main("status", f"--control={ADA}", "--json"), 0)
        said = json.loads(self.printed())
        self.assertEqual((said["joined"], said["settled"]), (True, 1))
        self.assertEqual(set(said), {"joined", "settled", *self.mesh["ada"].service.status})

    def test_one_that_is_alone(self) -> None:
        self.mesh.stop("ben")
        self.assertEqual(self.main("status", f"--control={ADA}"), 1)
        self.assertIn("joined: no\n", self.printed())

    def test_quiet(self) -> None:
        """The exit code says it all."""
        self.assertEqual(self.main("status", "--quiet", f"--control={ADA}"), 0)
        self.assertEqual(self.main("status", "--quiet", "--control=nowhere.sock"), 1)
        self.assertEqual(self.main("status", "--quiet"), 1)
        self.mesh.stop("ben")
        self.assertEqual(self.main("status", "--quiet", f"--control={ADA}"), 1)
        self.assertEqual((self.printed(), self.said()), ("", ""))

    def test_a_node_that_does_not_answer(self) -> None:
        """As a stopped process."""
        self.mesh.network.connected = lambda near, far: setattr(far, "stalled", True)
        code = self.main("status", f"--control={ADA}", "--timeout=3")
        self.assert_line(code, 1, "py2p status: the node does not answer within 3 s")
        self.assertLess(self.mesh.clock.seconds(), 4)

    def test_watch(self) -> None:
        """Block by block where there is no terminal; Ctrl-C ends it, with one line."""
        begun = self.mesh.clock.seconds()
        self.later(0.5, self.mesh.stop, "ben")
        self.later(7, self.interrupt, signal.SIGINT)
        self.assertEqual(self.main("status", f"--control={ADA}", "--watch"), 130)
        blocks = self.printed().split("\n\n")
        self.assertEqual(
            [block.split("\n")[0] for block in blocks],
            ["joined: yes, 1 peer", "joined: no", "joined: no", "joined: no"],
        )
        self.assertEqual(self.said(), "py2p status: interrupted\n")
        self.assertLess(self.mesh.clock.seconds(), begun + 8)
        self.assertEqual(self.factories[ADA].clients, {})

    def test_watch_json(self) -> None:
        self.later(5, self.interrupt, signal.SIGINT)
        self.assertEqual(self.main("status", f"--control={ADA}", "--watch", "--json"), 130)
        self.assertEqual(
            [json.loads(line)["joined"] for line in self.printed().splitlines()], [True] * 3
        )

    def test_watch_a_node_that_is_started_again(self) -> None:
        """It says what is wrong meanwhile."""
        self.later(1, lambda: (self.factories[ADA].close(), self.sockets.pop(ADA)))
        self.later(5, self.offer, "ada", ADA)
        self.later(9, self.interrupt, signal.SIGINT)
        self.assertEqual(self.main("status", f"--control={ADA}", "--watch"), 130)
        firsts = [block.split("\n")[0] for block in self.printed().split("\n\n")]
        self.assertEqual(
            [first.partition(":")[0] for first in firsts],
            ["joined", "the node has hung up", "no running node at ada.sock", "joined", "joined"],
        )

    def test_watch_on_a_terminal(self) -> None:
        """It is drawn in place, as far as it fits."""
        terminal = ToyTerminal(60, 14)
        self.patch(status.sys, "stdout", terminal)
        os.environ["TERM"] = "xterm"
        self.patch(status, "size_of", lambda stream: os.terminal_size((60, 14)))
        self.patch(status, "can_redraw", lambda stream, environ: True)
        self.later(5, self.interrupt, signal.SIGINT)
        self.assertEqual(self.main("status", f"--control={ADA}", "--watch"), 130)
        self.assertEqual(terminal.rows[0], "joined: yes, 1 peer")
        self.assertEqual((len(terminal.rows), terminal.above, terminal.wraps), (14, [], 0))
        # Three looks, and the cursor given back.
        self.assertEqual((terminal.draws, terminal.cursor), (4, True))

    def test_usage(self) -> None:
        for arguments in (["--watch", "--quiet"], ["--json", "--quiet"], ["x"], ["--control="]):
            code = self.main("status", *arguments)
            if arguments == ["--control="]:
                self.assert_line(code, 1, "no running node found")
            else:
                self.assert_line(code, 2, "(see py2p status --help)")
        code = self.main("status", "--control=tcp:192.0.2.7:1")
        self.assert_line(code, 2, "a loopback address", "for example /run/py2p/control.sock")


class FindingTests(ControlTestCase):
    """Which node is asked when nobody says which."""

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(self.mktemp()).resolve() / "py2p"
        self.folder.mkdir(parents=True)
        os.environ["XDG_RUNTIME_DIR"] = str(self.folder.parent)

    def add(self, name: str, node: str | None) -> str:
        """A socket in the folder, of a node or of a dead process."""
        path = self.folder / name
        path.touch()
        if node is not None:
            self.offer(node, str(path))
        return str(path)

    def test_the_only_one(self) -> None:
        self.add("mesh-4444.sock", "ben")
        self.add("mesh-4445.sock", None)
        self.assertEqual(self.main("status"), 0)
        self.assertIn(self.mesh["ben"].id.decode(), self.printed())
        self.assertEqual(self.main("status", "--network=mesh"), 0)

    def test_of_a_network(self) -> None:
        """The name decides."""
        self.add("mesh-4444.sock", "ben")
        self.add("alerts-4445.sock", "ada")
        self.assertEqual(self.main("status", "--network=alerts"), 0)
        self.assertIn(self.mesh["ada"].id.decode(), self.printed())
        code = self.main("status", "--network=others")
        self.assert_line(code, 1, f"no running node found: none of network others in {self.folder}")

    def test_several(self) -> None:
        """They are named, and none is asked."""
        paths = [self.add("mesh-4444.sock", "ben"), self.add("mesh-4445.sock", "ada")]
        code = self.main("status")
        self.assert_line(code, 1, "2 nodes run here, say which with --control=PATH: ", *paths)
        self.mesh.settle()
        self.assertEqual([self.factories[path].clients for path in paths], [{}, {}])

    def test_none(self) -> None:
        """It says where it has looked, and what to do."""
        advice = "start a node with py2p node --control=PATH, and name the same PATH here"
        self.assert_line(self.main("status"), 1, f"none in {self.folder}; {advice}")
        del os.environ["XDG_RUNTIME_DIR"]
        self.assert_line(self.main("peers"), 1, "XDG_RUNTIME_DIR is not set", advice)
        code = self.main("status", "--control=x\x1b.sock")
        self.assert_line(code, 1, "no running node at x\\x1b.sock: there is no such socket", advice)

    def test_a_folder(self) -> None:
        """It stands for the socket in it."""
        path = str(self.folder / "control.sock")
        self.offer("ben", path)
        self.assertEqual(self.main("status", f"--control={self.folder}"), 0)


class PeersTests(ControlTestCase):
    def test_table(self) -> None:
        """A line each, aligned."""
        self.mesh.add("cid")
        self.mesh.link("cid", "ada")
        self.mesh.advance(90)
        self.assertEqual(self.main("peers", f"--control={ADA}"), 0)
        head, first, second = self.printed().splitlines()
        self.assertEqual(
            head.split(), ["id", "address", "kind", "rtt", "since", "in", "waiting", "dropped"]
        )
        ben, cid = (self.mesh[name].id.decode()[:8] for name in ("ben", "cid"))
        self.assertRegex(
            first, rf"^{ben}  10\.0\.0\.2:4444 > +neighbour  0\.0 ms +2 min +[\d.]+ (Ki)?B +0 B +0$"
        )
        self.assertRegex(second, rf"^{cid}  10\.0\.0\.3:\d+ < +neighbour ")
        self.assertEqual(len(first), len(head))

    def test_no_peers(self) -> None:
        """The head alone."""
        self.mesh.stop("ben")
        self.assertEqual(self.main("peers", f"--control={ADA}"), 0)
        self.assertEqual(len(self.printed().splitlines()), 1)

    def test_json(self) -> None:
        self.assertEqual(self.main("peers", f"--control={ADA}", "--json"), 0)
        (peer,) = map(json.loads, self.printed().splitlines())
        self.assertEqual((peer["id"], peer["kind"]), (self.mesh["ben"].id.decode(), "neighbour"))

    def test_units(self) -> None:
        """The largest of which there is one."""
        for seconds, text in (
            (0, "0 s"),
            (59.4, "59 s"),
            (60, "1 min"),
            (7200, "2 h"),
            (1e6, "12 d"),
        ):
            self.assertEqual(peers.span(seconds), text)
        for count, text in ((0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**31, "2.0 GiB")):
            self.assertEqual(peers.size(count), text)

    def test_hostile_peers(self) -> None:
        """Whatever they call themselves."""
        row = {
            "id": "\x1b[2J\n", "where": "a\rb", "outgoing": True, "kind": "plain", "rtt": None,
            "since": 1.0, "bytes_in": 1, "bytes_waiting": 1, "drops": {"stale": 2, "text": 3},
            "slow": True,
        }  # fmt: skip
        lines = peers.as_table([row])
        self.assertEqual([line for line in lines if not line.isprintable()], [])
        self.assertIn("plain, slow", lines[1])
        self.assertTrue(lines[1].endswith(" 5"))


class ConnectTests(ControlTestCase):
    def test_done(self) -> None:
        self.mesh.add("cid")
        self.assertEqual(self.main("connect", f"--control={ADA}", "10.0.0.3:4444"), 0)
        cid = self.mesh["cid"].id.decode()
        self.assertEqual(self.printed(), f"connected to {cid} at 10.0.0.3:4444\n")
        self.assertTrue(self.mesh.linked("ada", "cid"))

    def test_json(self) -> None:
        self.mesh.add("cid")
        self.assertEqual(self.main("connect", f"--control={ADA}", "10.0.0.3:4444", "--json"), 0)
        self.assertEqual(
            json.loads(self.printed()),
            {
                "peer": self.mesh["cid"].id.decode(),
                "address": "10.0.0.3:4444",
                "where": "10.0.0.3:4444",
            },
        )

    def test_in_vain(self) -> None:
        """It says why."""
        code = self.main("connect", f"--control={ADA}", "10.0.0.99:4444")
        self.assert_line(code, 1, "py2p connect: 10.0.0.99:4444 refuses connections")

    def test_interrupted(self) -> None:
        self.mesh.network.connected = lambda near, far: setattr(far, "stalled", True)
        self.later(1, self.interrupt, signal.SIGINT)
        self.assertEqual(self.main("connect", f"--control={ADA}", "10.0.0.3:4444"), 130)
        self.assertEqual(self.said(), "py2p connect: interrupted\n")

    def test_usage(self) -> None:
        for arguments in ([], ["x"], ["x:0"], ["a:1", "b:2"]):
            code = self.main("connect", *arguments)
            self.assert_line(code, 2, "(see py2p connect --help)")


class SendTests(ControlTestCase):
    """What a node is given to send."""

    def test_arguments(self) -> None:
        """Nobody joins; the node's peers get it, in one message."""
        self.assertEqual(self.main("send", f"--control={ADA}", "storm", "-", stdin=b"\xff"), 0)
        self.assertEqual((self.printed(), self.said()), ("", ""))
        self.assertEqual(self.inbox("ben"), [("storm", b"\xff")])
        self.assertEqual(self.members, [])
        self.mesh.settle()
        self.assertEqual(self.factories[ADA].clients, {})

    def test_lines(self) -> None:
        self.assertEqual(self.main("send", f"--control={ADA}", "--lines", stdin=b"one\ntwo"), 0)
        self.assertEqual(
            self.main("send", f"--control={ADA}", "--json", stdin=b'[1, {"$float": "inf"}]\n'), 0
        )
        self.assertEqual(self.inbox("ben"), [("one",), ("two",), (1, float("inf"))])

    def test_how(self) -> None:
        self.mesh.add("cid")
        self.mesh.link("ben", "cid")
        self.main("send", f"--control={ADA}", "--whisper", "--type=50", "x")
        self.assertEqual(self.inbox("cid"), [])
        self.assertEqual(self.mesh["ben"].received[0].packets[0], 50)

    def test_nobody_else(self) -> None:
        """A node without peers keeps it, and that is said."""
        self.mesh.stop("ben")
        self.assertEqual(self.main("send", f"--control={ADA}", "later"), 0)
        self.assertIn("py2p send: the node has no peers at the moment; it keeps", self.said())
        self.mesh.add("cid")
        self.mesh.link("cid", "ada")
        self.assertEqual(self.inbox("cid"), [("later",)])

    def test_what_cannot_be_sent(self) -> None:
        """The line is named; those before it were sent."""
        deep = "[" * 50 + "]" * 50
        for bad in ('["\\ud800"]', f"[{2**70}]", deep, "[" * 700 + "]" * 700):
            code = self.main(
                "send", f"--control={ADA}", "--json", stdin=f'["one"]\n{bad}\n["two"]\n'.encode()
            )
            self.assert_line(code, 1, "py2p send: line 2 of standard input: ")
        self.assertEqual(self.inbox("ben"), [("one",)] * 4)

    def test_a_path_needs_an_equals_sign(self) -> None:
        """Or a packet would be taken for one."""
        self.assert_line(
            self.main("send", "--control", "storm", "north"), 1, "XDG_RUNTIME_DIR is not set"
        )
        options = cli.build_parser().parse_args(["send", "--control", "storm", "--", "--control"])
        self.assertEqual(options.packets, ["storm", "--control"])
        self.assertIsNone(options.control.place)

    def test_usage(self) -> None:
        """What is said about joining makes no sense then."""
        for arguments in ([f"--join={FIRST}"], ["--tls"]):
            code = self.main("send", f"--control={ADA}", *arguments, "x")
            self.assert_line(code, 2, "does not go with it (see py2p send --help)")
            code = self.main("listen", f"--control={ADA}", *arguments)
            self.assert_line(code, 2, "does not go with it (see py2p listen --help)")

    def test_no_node(self) -> None:
        code = self.main("send", "--control=nowhere.sock", "x")
        self.assert_line(code, 1, "py2p send: no running node at nowhere.sock: there is no such")


class ListenTests(ControlTestCase):
    """What a node hears."""

    def test_lines(self) -> None:
        """As without it, and nobody joins."""
        self.later(1, self.mesh["ben"].send, "storm", 7)
        self.assertEqual(self.main("listen", f"--control={ADA}", "--count=1"), 0)
        ben = self.mesh["ben"].id.decode()[:8]
        self.assertRegex(self.printed(), rf"^\d\d:\d\d:\d\d {ben}  storm  7\n$")
        self.assertEqual(
            self.said(), "py2p listen: through the node at 10.0.0.1:4444, which has 1 peers\n"
        )
        self.assertEqual(self.members, [])

    def test_json(self) -> None:
        """The very object that is printed without it."""
        self.later(1, self.mesh["ben"].send, "storm", b"\xff")
        self.assertEqual(self.main("listen", f"--control={ADA}", "--count=1", "--json"), 0)
        (delivery,) = self.mesh["ada"].received
        self.assertEqual(json.loads(self.printed()), listen.as_object(delivery))

    def test_too_few(self) -> None:
        self.later(1, self.mesh["ben"].send, "storm")
        code = self.main("listen", f"--control={ADA}", "--count=2", "--wait=3")
        self.assertEqual(code, 1)
        self.assertIn("1 of 2 messages have come within 3 s", self.said())
        self.assertEqual(self.main("listen", f"--control={ADA}", "--wait=3"), 0)

    def test_gaps(self) -> None:
        """What has been lost is said, wherever."""
        application = self.mesh["ada"].service.factory
        self.later(1, lambda: application.application.missed(1, "x", "one is lost"))
        self.later(2, self.interrupt, signal.SIGINT)
        self.assertEqual(self.main("listen", f"--control={ADA}"), 130)
        self.assertEqual(
            self.said().splitlines()[1:],
            ["py2p listen: gap: one is lost", "py2p listen: interrupted"],
        )

    def test_a_node_that_goes(self) -> None:
        self.later(1, lambda: self.factories[ADA].close())
        self.assertEqual(self.main("listen", f"--control={ADA}"), 1)
        self.assertIn("py2p listen: the node has hung up", self.said().splitlines()[1])

    def test_nobody_reads(self) -> None:
        self.patch(InlineWriter, "most", 1)
        for number in (1, 2, 3):
            self.later(number, self.mesh["ben"].send, "x")
        self.assertEqual(self.main("listen", f"--control={ADA}", "--count=3"), 0)
        self.assertEqual(len(self.printed().splitlines()), 1)


class HelpTests(ControlTestCase):
    def test_help(self) -> None:
        """Each explains itself, on the usual terminal."""
        for name in ("status", "peers", "connect", "send", "listen"):
            self.assertEqual(self.main(name, "--help"), 0)
            text = self.printed()
            self.assertIn("--control", text)
            self.assertIn("examples:", text)
            self.assertLess(max(map(len, text.splitlines())), 80)
        self.main("--help")
        self.assertIn("  py2p status\n", self.printed())
