"""
``py2p send`` in a network in memory.
"""

from __future__ import annotations

import json
import signal

from twisted.internet.defer import Deferred

from py2p_twisted.cli import send
from py2p_twisted.core.network import Network
from py2p_twisted.core.settings import Settings
from tests.cli.members import FIRST, MemberTestCase, ToyStdin

WAY = f"--join={FIRST}"


class SendTestCase(MemberTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.use(send)

    def send(self, *arguments: str, stdin: ToyStdin | bytes | None = None) -> int:
        """Type the command."""
        return self.main("send", WAY, *arguments, stdin=stdin)

    def assert_sent(self, *arguments: str, stdin: bytes | None = None) -> None:
        """It goes well, and says nothing."""
        self.assertEqual(self.send(*arguments, stdin=stdin), 0, self.err.getvalue())
        self.assertEqual((self.out.getvalue(), self.err.getvalue()), ("", ""))

    def assert_line(self, code: int, expected: int, *words: str) -> None:
        """It ended with that code, and one line that says these words."""
        line = self.said()
        self.assertEqual((code, line.count("\n"), self.out.getvalue()), (expected, 1, ""), line)
        for word in words:
            self.assertIn(word, line)


class PacketTests(SendTestCase):
    """What becomes a packet."""

    def test_arguments(self) -> None:
        """Each of them, whatever it looks like."""
        self.assert_sent("storm", "north")
        self.assert_sent("", "grüße ☃", "a\nb")
        self.assert_sent("--", "--lines", "-x")
        self.assertEqual(
            self.inbox(), [("storm", "north"), ("", "grüße ☃", "a\nb"), ("--lines", "-x")]
        )

    def test_standard_input(self) -> None:
        """It is a packet where "-" stands, and the only one without arguments."""
        self.assert_sent("a", "-", "b", stdin=b"in\n")
        self.assert_sent("-", stdin=b"in\n\n")
        self.assert_sent(stdin=b"in\r\n")
        self.assert_sent(stdin=b"")
        self.assertEqual(self.inbox(), [("a", "in", "b"), ("in\n",), ("in",), ("",)])

    def test_standard_input_is_read_only_when_it_is_meant(self) -> None:
        """It may be a terminal, or belong to somebody else."""
        stdin = ToyStdin(b"for somebody else\n", terminal=True)
        self.assertEqual(self.send("hello", stdin=stdin), 0)
        self.assertEqual(stdin.buffer.tell(), 0)
        self.assertEqual(self.inbox(), [("hello",)])

    def test_a_terminal(self) -> None:
        """What is typed there is read if that is asked for."""
        self.assertEqual(self.send("-", stdin=ToyStdin(b"typed\n", terminal=True)), 0)
        self.assertEqual(self.inbox(), [("typed",)])

    def test_no_text(self) -> None:
        """Bytes that are no UTF-8 stay as they are, to the last one."""
        self.assert_sent(stdin=b"\xff\xfe\n")
        self.assert_sent("\udcff\udcfe", "ä")
        self.assertEqual(self.inbox(), [(b"\xff\xfe\n",), (b"\xff\xfe", "ä")])

    def test_a_line_end(self) -> None:
        """The last one is left out; a carriage return is part of it, and nothing by itself."""
        for data, packet in (
            (b"a\n", "a"),
            (b"a\r\n", "a"),
            (b"a\n\n", "a\n"),
            (b"a\r\r\n", "a\r"),
            (b"\n", ""),
            (b"", ""),
            (b"a\r", "a\r"),
        ):
            self.assertEqual(send.as_packet(data), packet, data)


class LineTests(SendTestCase):
    """A message for each line."""

    def test_lines(self) -> None:
        """In order; the empty ones too, and the last one with or without its end."""
        self.assert_sent("--lines", stdin=b"one\n\n  two \r\n\xff\nlast")
        self.assertEqual(self.inbox(), [("one",), ("",), ("  two ",), (b"\xff\n",), ("last",)])

    def test_no_lines(self) -> None:
        """Nothing is sent, and nothing has to arrive."""
        self.assert_sent("--lines", stdin=b"")
        self.assert_sent("--json", stdin=b"\n \n")
        self.assertEqual(self.inbox(), [])

    def test_json(self) -> None:
        """Each line is an array of packets; empty ones separate."""
        self.assert_sent("--json", stdin=b'["a", 1.5, null]\n\n[{"$base64": "AAE="}, [true]]\n[]\n')
        self.assertEqual(self.inbox(), [("a", 1.5, None), (b"\0\1", [True]), ()])

    def test_bad_json(self) -> None:
        """The line is named; those before it were sent, those behind it are not."""
        for bad in (b"{", b'{"packet": []}', b"NaN", b'["\xff"]', b'[{"$float": "x"}]', b"7"):
            code = self.send("--json", stdin=b'["one"]\n\n' + bad + b'\n["never"]\n')
            self.assert_line(code, 1, "py2p send: line 3 of standard input: ")
        self.assertEqual(self.inbox(), [("one",)] * 6)

    def test_what_listen_has_printed(self) -> None:
        """An object is taken as well, for its packets."""
        line = b'{"packets": ["one", {"$base64": "AAEC"}], "sender": "Ada", "type": 0}\n'
        self.assertEqual(self.send("--json", stdin=line), 0)
        self.assertEqual(self.inbox(), [("one", b"\x00\x01\x02")])

    def test_json_that_no_message_can_hold(self) -> None:
        """The same: the line is named, in one line."""
        deep = json.dumps(["x"])
        for _ in range(40):
            deep = f"[{deep}]"
        for bad in ("[1180591620717411303424]", '["\\ud800"]', deep, "[" * 700 + "]" * 700):
            code = self.send("--json", stdin=f'["one"]\n{bad}\n["never"]\n'.encode())
            self.assert_line(code, 1, "line 2 of standard input: ")
        self.assertEqual(self.inbox(), [("one",)] * 4)

    def test_a_line_that_is_too_large(self) -> None:
        """The same for lines of text."""
        large = b"x" * (Settings().max_message + 1)
        lines = [b"one\n", large, b""]
        self.patch(send, "FileLines", lambda number: _Lines(lines))
        self.assert_line(self.send("--lines"), 1, "the message takes")


class _Lines:
    """Lines that are too long for a pipe that nobody reads meanwhile."""

    def __init__(self, lines: list[bytes]) -> None:
        self._lines = lines

    def readline(self) -> bytes:
        return self._lines.pop(0)


class HowTests(SendTestCase):
    def test_whisper(self) -> None:
        """The neighbour keeps it to itself."""
        self.mesh.add("ben")
        self.mesh.link("ada", "ben")
        self.assert_sent("--whisper", "hush")
        self.assert_sent("--whisper", "--lines", stdin=b"hush\n")
        self.assert_sent("loud")
        self.assertEqual(self.inbox(), [("hush",), ("hush",), ("loud",)])
        self.assertEqual(self.inbox("ben"), [("loud",)])

    def test_type(self) -> None:
        """It is what handlers find in front of the packets."""
        self.assert_sent("plain")
        self.assert_sent("--type=48", "typed")
        self.assert_sent("--type", "999999999999999999", "--whisper", "most")
        kinds = [delivery.packets[0] for delivery in self.mesh["ada"].received]
        self.assertEqual(kinds, [0, 48, 999999999999999999])

    def test_tls(self) -> None:
        """With the network's name."""
        self.mesh.add("ben", Network("alerts", "SSL"))
        code = self.main("send", "-j", "10.0.0.2:4444", "--tls", "--network=alerts", "x")
        self.assertEqual((code, self.inbox("ben")), (0, [("x",)]))

    def test_it_seeks_nobody_else(self) -> None:
        """Whom the node knows is not of interest for so short a time."""
        self.mesh.add("ben")
        self.mesh.link("ada", "ben")
        dialled: list[object] = []
        self.mesh.network.connected = lambda near, far: dialled.append(near.getPeer().host)
        given = iter([b"one\n", b""])

        def read() -> bytes:
            self.mesh.advance(60)
            return next(given)

        self.patch(send, "FileLines", lambda number: _Source(read))
        self.assert_sent("--lines")
        self.assertEqual(dialled, ["10.0.0.1"])


class UsageTests(SendTestCase):
    """What cannot be meant is answered by exit code 2 and one line."""

    def refused(self, *arguments: str, stdin: ToyStdin | bytes | None = None) -> str:
        code = self.send(*arguments, stdin=stdin)
        line = self.err.getvalue()
        self.assert_line(code, 2, "(see py2p send --help)")
        self.assertEqual(self.members, [])
        return line

    def test_nothing_to_send(self) -> None:
        """On a terminal nobody would know what is waited for."""
        line = self.refused(stdin=ToyStdin(b"", terminal=True))
        self.assertIn("nothing to send: give packets, or pipe something in", line)

    def test_lines_and_arguments(self) -> None:
        for how in ("--lines", "--json"):
            for packets in (["x"], ["-"]):
                self.assertIn("standard input, not arguments", self.refused(how, *packets))
        self.assertIn("not allowed with", self.refused("--lines", "--json"))

    def test_standard_input_twice(self) -> None:
        self.assertIn('give "-" once', self.refused("-", "x", "-"))

    def test_types(self) -> None:
        """Those that the library keeps for itself are not for applications."""
        for bad in ("0", "2", "47", "-1", "x", "9223372036854775808", ""):
            line = self.refused(f"--type={bad}", "x")
            self.assertIn("a number from 48 to 9223372036854775807, for example 48", line)


class FailureTests(SendTestCase):
    """What keeps a message from arriving is told by exit code 1."""

    def test_nobody_is_there(self) -> None:
        self.mesh.kill("ada")
        self.assertEqual(self.send("--timeout=3", "hello"), 1)
        self.assertEqual(self.mesh.clock.seconds(), 3)
        first, last = self.said().splitlines()
        self.assertIn(f"py2p send: {FIRST} refuses connections", first)
        self.assertIn(f"py2p send: could not join through {FIRST} within 3 s", last)

    def test_too_large(self) -> None:
        """Nothing is sent."""
        self.patch(send, "Member", _small(send.Member))
        code = self.send(stdin=b"x" * 2000)
        self.assert_line(code, 1, "py2p send: the message takes", "(max_message) is 1024")
        self.assertEqual(self.inbox(), [])

    def test_a_node_that_does_not_take_it(self) -> None:
        """A message that is too large for the neighbour has not been read."""
        ben = self.mesh.add("ben", max_message=1024)
        code = self.main("send", f"--join={ben.address[0]}:4444", stdin=b"\xff" * 4000)
        self.assert_line(code, 1, "py2p send: no neighbour has confirmed")

    def test_the_link_is_lost(self) -> None:
        """Lines that come then are not sent into the void."""
        given: list[bytes] = []

        def read() -> bytes:
            given.append(b"line\n")
            if len(given) == 3:
                self.mesh.kill("ada")
            return given[-1]

        self.patch(send, "FileLines", lambda number: _Source(read))
        code = self.send("--lines")
        self.assert_line(code, 1, "py2p send: ", "link")
        self.assertEqual(len(given), 3)

    def test_the_link_is_lost_and_made_again(self) -> None:
        """A line that was lost with it goes over the new one, and nobody claims to know that."""
        given: list[bytes] = []

        def read() -> bytes:
            given.append(b"line %d\n" % len(given))
            if len(given) == 1:
                self.mesh.stall("ada")
            if len(given) == 2:
                self.mesh.settle()
                self.mesh.kill("ada")
                ben = self.mesh.add("ben")
                self.mesh.network.server(("10.0.0.1", 4444)).listen(ben.service.factory)
                self.mesh.advance(30)
            return given[-1] if len(given) < 3 else b""

        self.patch(send, "FileLines", lambda number: _Source(read))
        code = self.send("--lines")
        self.assertEqual(self.inbox("ben").count(("line 0",)), 1)
        self.assert_line(code, 1, "py2p send: ")

    def test_a_neighbour_that_does_not_read(self) -> None:
        """It is given a few seconds."""
        self.mesh.network.connected = lambda near, far: self.later(1, setattr, far, "stalled", True)
        given = iter([b"one\n", b"two\n", b""])

        def read() -> bytes:
            self.mesh.advance(2)
            return next(given)

        self.patch(send, "FileLines", lambda number: _Source(read))
        self.assert_line(self.send("--lines"), 1, "no neighbour has confirmed")

    def test_signals(self) -> None:
        """While it joins, and while it waits for lines."""
        self.addCleanup(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))
        self.later(1, self.interrupt, signal.SIGINT)
        self.assertEqual(self.main("send", "--join=10.0.0.99:1", "x"), 130)
        self.assertEqual(self.said().splitlines()[1:], ["py2p send: interrupted"])

        self.later(1, self.interrupt, signal.SIGTERM)
        self.patch(send, "Reader", _Never)
        self.assertEqual(self.send("--lines"), 143)
        self.assertEqual(self.said(), "py2p send: terminated\n")
        self.assertEqual(self.mesh["ada"].peers, set())


class _Source:
    """A file whose lines are made when they are read."""

    def __init__(self, read: object) -> None:
        self.readline = read


class _Never:
    """A reader whose file never has anything."""

    def __init__(self, reactor: object, read: object) -> None:
        pass

    def next(self) -> Deferred[bytes]:
        return Deferred()


def _small(member: type) -> object:
    """A member that takes no more than the least that is possible."""

    def make(*arguments: object, **options: object) -> object:
        return member(*arguments, max_message=1024, **options)

    return make
