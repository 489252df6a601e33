"""
``py2p node``, ``send``, ``listen``, ``chat`` and ``completion`` as people run them.

Real processes, real pipes, and a real pseudo terminal where one matters. At the other end is a
node whose messages a test can look at (see `nodes`), ``py2p node`` itself, or the original.

Times are in seconds. Source: docs/howto/commands.rst.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from twisted.trial.unittest import SkipTest

from tests.integration.driver import HOST, MIB, ORIGINAL, Node, NodeLost, decode, moments
from tests.integration.hostile import broadcast, handshake
from tests.integration.nodes import Process, ProcessTestCase, seconds, settings
from tests.integration.reference import (
    PROJECT,
    Reference,
    ReferenceMissing,
    environment,
    find_reference,
)

try:
    import fcntl
    import pty
    import struct
    import termios

    from tests.integration.terminals import Screen
except ImportError as error:  # Windows
    raise SkipTest("these tests need POSIX") from error

#: What anything may take before a test fails. Nearly everything takes a second.
PATIENCE = 40.0

#: How long is watched where the test is that nothing happens.
QUIET = 0.5

_PY2P = [sys.executable, "-m", "py2p_twisted"]

#: Something of each kind that can be sent.
PACKETS: list[Any] = [
    *("", "text", "grüße ☃ 𝄞", "two\nlines", "\x1b[31mred\x07", "nul\0nul", '"quoted" \\', "$x"),
    *(b"", bytes(range(256)), b"text"),
    *(0, -1, 127, 128, 2**63, 2**64 - 1, -(2**63)),
    *(0.0, -0.0, 1.5, 1e308, 5e-324, float("inf"), float("-inf"), float("nan")),
    *(None, True, False),
    *([], [1, ["a", [b"b", [None, [True]]]]]),
    *({}, {"key": "value"}, {1: 2, b"k": [None]}, {"$base64": "no"}, {"$map": 1, "b": {}}),
    {"nan": [float("nan")], "deep": {"er": {"est": b"\xff"}}},
]


class Ended(NamedTuple):
    """What has come of a command: its exit code, and what it has written."""

    code: int
    out: str
    err: str


class Command:
    """
    A ``py2p`` command. It is started at once.

    What it writes goes to files that nobody has to empty, unless something else is given.
    """

    def __init__(
        self, *arguments: str, stdin: Any = subprocess.DEVNULL, stdout: Any = None, **how: Any
    ) -> None:
        """
        :param stdout: what it has in place of the file; with ``stderr`` the same way.
        :param how: ``variables`` of its environment, and more for `subprocess.Popen`.
        """
        # They go with this object: a test may want to read them when the process is long dead.
        self._out = tempfile.TemporaryFile()  # noqa: SIM115
        self._err = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            how.pop("command", [*_PY2P, *arguments]),
            cwd=PROJECT,
            env=surroundings(**how.pop("variables", {})),
            stdin=stdin,
            stdout=self._out if stdout is None else stdout,
            stderr=how.pop("stderr", self._err),
            **how,
        )

    @property
    def out(self) -> str:
        """What it has written to standard output so far."""
        return _content(self._out).decode()

    @property
    def err(self) -> str:
        """What it has written to standard error so far."""
        return _content(self._err).decode()

    def type(self, text: str | bytes) -> None:
        """Give it something to read; it must have been started with a pipe."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode() if isinstance(text, str) else text)
        self.process.stdin.flush()

    def send_signal(self, *numbers: int) -> None:
        """Send it signals, one right after another."""
        for number in numbers:
            self.process.send_signal(number)

    def wait(self) -> int:
        """
        Its exit code.

        :raises AssertionError: it does not end.
        """
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end\n{self.out}{self.err}") from None

    def end(self) -> Ended:
        """Wait for its end."""
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        return Ended(self.wait(), self.out, self.err)

    @property
    def memory(self) -> int:
        """Bytes of memory that it has now."""
        text = Path(f"/proc/{self.process.pid}/statm").read_text()
        return int(text.split()[1]) * resource.getpagesize()

    def kill(self) -> None:
        """End it in any case."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def surroundings(**more: str) -> dict[str, str]:
    """Our own environment, but for what a terminal is like and how Python writes."""
    ours = {
        name: value
        for name, value in settings().items()
        if name not in ("COLUMNS", "LINES", "PYTHONUNBUFFERED", "PYTHONIOENCODING", "INPUTRC")
    }
    return {**ours, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TERM": "xterm", **more}


def _content(file: Any) -> bytes:
    # Read by position: the process writes through the same open file, and a seek here would move
    # its pen as well.
    number = file.fileno()
    return os.pread(number, os.fstat(number).st_size, 0)


def free_port() -> int:
    """A port that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def at(port: int) -> str:
    """The option that joins through a port of this machine."""
    return f"--join={HOST}:{port}"


class CommandsTestCase(ProcessTestCase):
    """
    Tests with commands. After each all of them are gone, and none of them has printed a
    traceback.
    """

    def setUp(self) -> None:
        super().setUp()
        self._commands: list[Command] = []

    def tearDown(self) -> None:
        for command in self._commands:
            command.kill()
        super().tearDown()
        for command in self._commands:
            self.assertNotIn("Traceback", command.err)

    def start(self, *arguments: str, **how: Any) -> Command:
        """Start a command; takes what `Command` takes."""
        command = Command(*arguments, **how)
        self._commands.append(command)
        return command

    def py2p(self, *arguments: str, data: str | bytes | None = None, **how: Any) -> Ended:
        """
        Run a command to its end.

        :param data: what it reads from a pipe; by default it has none.
        """
        if data is None:
            return self.start(*arguments, **how).end()
        with tempfile.TemporaryFile() as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.seek(0)
            return self.start(*arguments, stdin=file, **how).end()

    def node(self, **options: Any) -> Process:
        """A node that keeps what it gets."""
        (node,) = self.spawn(1, **options)
        node.ask("gather")
        return node

    def nodes(self, count: int, **options: Any) -> list[Process]:
        """Several of them."""
        nodes = self.spawn(count, **options)
        for node in nodes:
            node.ask("gather")
        return nodes

    def gathered(self, node: Process) -> list[Any]:
        """The packets of each message that a node has got."""
        messages: list[Any] = decode(node.ask("gathered"))
        return messages

    def await_gathered(self, node: Process, *messages: Sequence[Any]) -> None:
        """Wait until a node has got as many messages; they are these, in that order."""
        with contextlib.suppress(self.failureException):
            self.wait_for(lambda: node.ask("count") >= len(messages), "messages", PATIENCE)
        self.assertEqual(self.gathered(node), [list(packets) for packets in messages])

    def await_text(self, look: Callable[[], str], text: str, times: int = 1) -> None:
        """Wait until some output holds a text."""
        for _ in moments(PATIENCE, interval=0.02):
            if look().count(text) >= times:
                return
        self.fail(f"{text!r} has not come:\n{look()}")

    def listen(self, *arguments: str, **how: Any) -> Command:
        """A listener that has joined."""
        listener = self.start("listen", *arguments, **how)
        self.await_text(lambda: listener.err, "joined through")
        return listener

    def py2p_node(self, *arguments: str, port: int | None = None) -> tuple[Command, int]:
        """``py2p node``, once it listens, and its port."""
        port = port or free_port()
        node = self.start("node", f"--listen=tcp:{port}:interface={HOST}", *arguments)
        self.await_text(lambda: node.err, "listening on")
        return node, port

    def assert_failed(self, ended: Ended, *words: str) -> None:
        """Exit code 1, nothing on standard output, and one line that says these words."""
        self.assertEqual((ended.code, ended.out, ended.err.count("\n")), (1, "", 1), ended)
        for word in words:
            self.assertIn(word, ended.err)


# --- send ------------------------------------------------------------------------


class SendTests(CommandsTestCase):
    """What is sent, and that nothing is said when all is well."""

    def send(self, node: Process, *arguments: str, **how: Any) -> Ended:
        return self.py2p("send", at(node.port), *arguments, **how)

    def test_arguments(self) -> None:
        """Every argument is a packet; "-" is what standard input holds, wherever it stands."""
        node = self.node()
        for arguments, data in (
            (["storm", "north"], None),
            (["", "grüße ☃", "two\nlines"], None),
            (["before", "-", "after"], "piped\n"),
            (["-"], "a\nb\n\n"),
            ([], "no argument\r\n"),
            ([], b"\xff\xfe no text\n"),
            ([], ""),
        ):
            self.assertEqual(self.send(node, *arguments, data=data), Ended(0, "", ""))
        self.await_gathered(
            node,
            ["storm", "north"],
            ["", "grüße ☃", "two\nlines"],
            ["before", "piped", "after"],
            ["a\nb\n"],
            ["no argument"],
            [b"\xff\xfe no text\n"],
            [""],
        )

    def test_arguments_that_are_no_text(self) -> None:
        """An argument that is no UTF-8 arrives as the bytes that were typed."""
        node = self.node()
        command = [*_PY2P, "send", at(node.port), b"\xff\x00"[:1] + b"x"]
        self.assertEqual(self.py2p(command=command), Ended(0, "", ""))
        self.await_gathered(node, [b"\xffx"])

    def test_through_a_shell(self) -> None:
        """As the documentation has it typed."""
        node = self.node()
        shell = ["/bin/sh", "-c", 'printf "one\\ntwo\\n" | "$@"', "sh", *_PY2P, "send"]
        self.assertEqual(
            self.py2p(command=[*shell, at(node.port), "report", "-"]), Ended(0, "", "")
        )
        self.assertEqual(self.py2p(command=[*shell, at(node.port), "--lines"]), Ended(0, "", ""))
        self.await_gathered(node, ["report", "one\ntwo"], ["one"], ["two"])

    def test_lines(self) -> None:
        """Each line is a message, the empty one and the one without an end as well; in order."""
        node = self.node()
        data = b"one\n\ntwo\r\n\xff\n" + b"%d\n" * 300 % tuple(range(300)) + b"last"
        self.assertEqual(self.send(node, "--lines", data=data), Ended(0, "", ""))
        numbers = [[str(number)] for number in range(300)]
        self.await_gathered(node, ["one"], [""], ["two"], [b"\xff\n"], *numbers, ["last"])

    def test_lines_as_they_come(self) -> None:
        """A line is sent when it has come, not when all have."""
        node = self.node()
        sender = self.start("send", "--lines", at(node.port), stdin=subprocess.PIPE)
        for count, line in enumerate(("one", "two"), 1):
            sender.type(line + "\n")
            self.wait_for(lambda count=count: node.ask("count") == count, line, PATIENCE)
        self.assertEqual(sender.end(), Ended(0, "", ""))
        self.await_gathered(node, ["one"], ["two"])

    def test_no_lines(self) -> None:
        """Nothing to send is nothing wrong."""
        node = self.node()
        for how in ("--lines", "--json"):
            self.assertEqual(self.send(node, how, data=""), Ended(0, "", ""))
        self.assertEqual(self.gathered(node), [])

    def test_json(self) -> None:
        """Each line is an array of packets, which need not be text."""
        node = self.node()
        data = '["t", 21.5, null, {"$base64": "AAEC"}]\n\n[]\n[[1, {"a": true}]]'
        self.assertEqual(self.send(node, "--json", data=data), Ended(0, "", ""))
        self.await_gathered(node, ["t", 21.5, None, b"\0\1\2"], [], [[1, {"a": True}]])

    def test_bad_json(self) -> None:
        """The line is named, and what came before it was sent."""
        for bad in ("{", '{"packet": ["x"]}', "NaN", b'["\xff"]', '[{"$base64": "?"}]', "[1e"):
            node = self.node()
            line = bad if isinstance(bad, bytes) else bad.encode()
            ended = self.send(node, "--json", data=b'["one"]\n\n' + line + b'\n["never"]\n')
            self.assert_failed(ended, "py2p send: line 3 of standard input: ")
            self.await_gathered(node, ["one"])
            node.kill()

    def test_json_that_cannot_be_sent(self) -> None:
        """The same for packets that are good JSON, and too much for a message."""
        nested = "[" * 600 + "]" * 600
        for bad in ("[1180591620717411303424]", '["\\ud800"]', f"[{nested}]"):
            node = self.node()
            ended = self.send(node, "--json", data=f'["one"]\n{bad}\n["never"]\n')
            self.assert_failed(ended, "line 2 of standard input: ")
            self.await_gathered(node, ["one"])
            node.kill()

    def test_whisper(self) -> None:
        """A whisper stays with the node that is joined through."""
        near, far = self.nodes(2)
        self.link(near, far)
        self.assertEqual(self.send(near, "--whisper", "hush"), Ended(0, "", ""))
        self.assertEqual(self.send(near, "loud"), Ended(0, "", ""))
        self.await_gathered(near, ["hush"], ["loud"])
        self.await_gathered(far, ["loud"])

    def test_tls(self) -> None:
        """A network whose links are encrypted."""
        node = self.node(encryption="SSL")
        self.assertEqual(self.send(node, "--tls", "secret"), Ended(0, "", ""))
        self.await_gathered(node, ["secret"])

    def test_a_large_message(self) -> None:
        """As large as it may be: nearly 8 MiB, plainly and over TLS."""
        text = "x" * (8 * MIB - 200)
        for options, how in (({}, []), ({"encryption": "SSL"}, ["--tls"])):
            node = self.node(**options)
            self.assertEqual(self.send(node, *how, data=text), Ended(0, "", ""))
            self.wait_for(lambda node=node: node.ask("count") == 1, "it", PATIENCE)
            node.kill()

    def test_a_message_that_is_too_large(self) -> None:
        """One line, and nothing is sent."""
        node = self.node()
        self.assert_failed(
            self.send(node, data=b"x" * (8 * MIB)), "py2p send: the message takes", "8388608"
        )
        self.assertEqual(self.gathered(node), [])

    def test_without_standard_input(self) -> None:
        """Who has closed it can still send arguments; without them it is as if it were empty."""
        node = self.node()
        shell = ["/bin/sh", "-c", 'exec "$@" <&-', "sh", *_PY2P, "send", at(node.port)]
        self.assertEqual(self.py2p(command=[*shell, "hello"]), Ended(0, "", ""))
        self.await_gathered(node, ["hello"])
        for arguments in ([], ["-"], ["--lines"]):
            ended = self.py2p(command=[*shell, *arguments])
            self.assertIn(ended.code, (0, 2), ended)
            self.assertLessEqual(ended.err.count("\n"), 1, ended)

    def test_several_ways_in(self) -> None:
        """One node that can be joined through is enough."""
        node = self.node()
        ended = self.py2p("send", at(free_port()), at(node.port), "hello")
        self.assertEqual((ended.code, ended.out), (0, ""))
        self.await_gathered(node, ["hello"])

    def test_a_name_for_an_address(self) -> None:
        """A node can be joined through by its host's name."""
        node = self.node()
        ended = self.py2p("send", f"--join=localhost:{node.port}", "hello")
        self.assertEqual(ended, Ended(0, "", ""))
        self.await_gathered(node, ["hello"])


class JoinTests(CommandsTestCase):
    """Nodes that are not there, or not right."""

    def test_nobody_listens(self) -> None:
        """It is tried again for as long as it is told to, and then said."""
        port = free_port()
        with seconds() as taken:
            ended = self.py2p("send", at(port), "--timeout=3", "hello")
        self.assertTrue(3 <= taken() < PATIENCE / 2, taken())
        self.assertEqual((ended.code, ended.out), (1, ""))
        first, last = ended.err.splitlines()
        self.assertEqual(
            first,
            f"py2p send: {HOST}:{port} refuses connections: is a node listening there? "
            "(trying again, 3 s in all)",
        )
        self.assertIn(f"py2p send: could not join through {HOST}:{port} within 3 s: ", last)
        self.assertIn("--join=HOST:PORT", last)

    def test_a_node_that_comes_up(self) -> None:
        """Who waits long enough is joined through."""
        port = free_port()
        sender = self.start("send", at(port), f"--timeout={PATIENCE:g}", "hello")
        self.await_text(lambda: sender.err, "trying again")
        node = self.node(port=port)
        self.assertEqual(sender.end().code, 0)
        self.await_gathered(node, ["hello"])

    def test_another_network(self) -> None:
        """Trying again would not help, so it is not tried."""
        node = self.node()
        for ways in ([at(node.port)], [at(node.port)] * 2):
            with seconds() as taken:
                ended = self.py2p("send", *ways, "--network=another", "--timeout=600", "hello")
            self.assertTrue(taken() < PATIENCE, taken())
            self.assert_failed(ended, f"through {HOST}:{node.port}", "another network", "--network")

    def test_tls_and_plain(self) -> None:
        """Who speaks the other one of the two is told about --tls."""
        plain, encrypted = self.node(), self.node(encryption="SSL")
        for node, options in ((plain, ["--tls"]), (encrypted, [])):
            ended = self.py2p("send", at(node.port), "--timeout=3", *options, "hello")
            self.assertEqual((ended.code, ended.out), (1, ""))
            self.assertIn("--tls", ended.err.splitlines()[-1])

    def test_something_else_listens(self) -> None:
        """A port where nobody ever says anything."""
        with socket.socket() as deaf:
            deaf.bind((HOST, 0))
            deaf.listen()
            port = deaf.getsockname()[1]
            ended = self.py2p("send", at(port), "--timeout=2", "hello")
        self.assert_failed(ended, f"could not join through {HOST}:{port} within 2 s")

    def test_an_unknown_host(self) -> None:
        """It is named."""
        ended = self.py2p("send", "--join=host.invalid:4444", "--timeout=2", "hello")
        self.assertEqual((ended.code, ended.out), (1, ""))
        self.assertIn("could not join through host.invalid:4444", ended.err.splitlines()[-1])

    def test_a_host_that_is_looked_up_for_long(self) -> None:
        """The timeout holds, and so does Ctrl-C, also while a name server does not answer."""
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(
            "import socket, time\nsocket.getaddrinfo = lambda *_, **__: time.sleep(30)\n"
        )
        path = os.pathsep.join([str(folder.resolve()), settings()["PYTHONPATH"]])
        way = ["send", "--join=slow.invalid:4444", "hello"]
        with seconds() as taken:
            ended = self.py2p(*way, "--timeout=1", variables={"PYTHONPATH": path})
        self.assert_failed(ended, "could not join through slow.invalid:4444 within 1 s")
        self.assertTrue(taken() < 20, taken())
        sender = self.start(*way, variables={"PYTHONPATH": path})
        time.sleep(3)
        with seconds() as taken:
            sender.send_signal(signal.SIGINT)
            self.assertEqual(sender.end(), Ended(130, "", "py2p send: interrupted\n"))
        self.assertTrue(taken() < 20, taken())


class LinkTests(CommandsTestCase):
    """Links that break while something is sent."""

    def test_a_neighbour_that_is_killed(self) -> None:
        """The next line says so, and that is all."""
        node = self.node()
        sender = self.start("send", "--lines", at(node.port), stdin=subprocess.PIPE)
        sender.type("one\n")
        self.await_gathered(node, ["one"])
        node.kill()
        time.sleep(1)
        with contextlib.suppress(BrokenPipeError):
            sender.type("two\nthree\n")
        self.assert_failed(sender.end(), "py2p send: ", "link")

    def test_a_neighbour_that_is_killed_at_the_end(self) -> None:
        """What nobody has confirmed has not arrived, as far as is known."""
        node, port = self.py2p_node()
        sender = self.start("send", "--lines", at(port), stdin=subprocess.PIPE)
        self.await_text(lambda: node.err, "peer up")
        node.send_signal(signal.SIGSTOP)
        sender.type("never read\n")
        time.sleep(QUIET)
        assert sender.process.stdin is not None
        sender.process.stdin.close()
        time.sleep(QUIET)
        node.kill()
        self.assert_failed(sender.end(), "py2p send: no neighbour has confirmed")

    def test_a_neighbour_that_comes_back_without_what_it_has_not_read(self) -> None:
        """A line that went down with a link is not told to have been read."""
        node, port = self.py2p_node()
        sender = self.start("send", "--lines", at(port), stdin=subprocess.PIPE)
        self.await_text(lambda: node.err, "peer up")
        node.send_signal(signal.SIGSTOP)
        sender.type("never read\n")
        time.sleep(QUIET)
        node.kill()
        again = self.node(port=port)
        self.wait_for(lambda: bool(again.table()), "the sender to be back", PATIENCE)
        # It may end here already, and then reads nothing more.
        with contextlib.suppress(BrokenPipeError):
            sender.type("read\n")
        ended = sender.end()
        self.assertNotIn(["never read"], self.gathered(again))
        self.assert_failed(ended, "py2p send: ")

    def test_a_neighbour_that_does_not_read(self) -> None:
        """It is waited for some seconds, and no longer."""
        node, port = self.py2p_node()
        sender = self.start("send", "--lines", at(port), stdin=subprocess.PIPE)
        self.await_text(lambda: node.err, "peer up")
        node.send_signal(signal.SIGSTOP)
        sender.type("never read\n")
        self.assert_failed(sender.end(), "py2p send: no neighbour has confirmed")

    def test_ctrl_c_while_lines_are_awaited(self) -> None:
        """The end is as good as any: one line, and the signal's code."""
        node = self.node()
        for number, code, word in (
            (signal.SIGINT, 130, "interrupted"),
            (signal.SIGTERM, 143, "terminated"),
        ):
            for how in ("--lines", "--json"):
                sender = self.start("send", how, at(node.port), stdin=subprocess.PIPE)
                sender.type('["one"]\n')
                self.wait_for(lambda: bool(node.table()), "the sender", PATIENCE)
                sender.send_signal(number)
                self.assertEqual(sender.wait(), code, sender.err)
                self.assertEqual(sender.err, f"py2p send: {word}\n")
                self.wait_for(lambda: not node.table(), "the sender to leave", PATIENCE)


class BusyTests(CommandsTestCase):
    """
    A message to a node that is sending much itself.

    A socket that is closed while something is unread resets its connection, and with it goes
    what the system has not handed over to the other end's system yet: the message, or a part of
    it.
    """

    SENDS = 30

    def check(self, node: Process, *options: str) -> None:
        """Send often, short messages and long ones by turns; each of them must arrive."""
        sent = []
        for number in range(self.SENDS):
            rest = os.urandom(100_000).hex() if number % 2 else "short"
            sent.append([f"message {number}", rest])
            ended = self.py2p("send", at(node.port), *options, f"message {number}", "-", data=rest)
            self.assertEqual(ended, Ended(0, "", ""), f"message {number}")
        self.wait_for(lambda: node.ask("count") >= self.SENDS, "the messages", PATIENCE)
        self.assertTrue(self.gathered(node) == sent, "not what was sent")

    def test_short_messages(self) -> None:
        """Thousands of them a second."""
        node = self.node()
        node.ask("begin", task="stamps", rate=3000, seconds=600)
        self.check(node)

    def test_as_much_as_goes(self) -> None:
        """The node never waits for anything but its peers."""
        node = self.node()
        node.ask("begin", task="storm", threads=1, count=10**9, names=["node"])
        self.check(node)

    def test_large_messages(self) -> None:
        """There is always something that has not been read."""
        node = self.node()
        node.ask("begin", task="push", size=20_000, count=10**9)
        self.check(node)

    def test_tls(self) -> None:
        """The same over TLS."""
        node = self.node(encryption="SSL")
        node.ask("begin", task="push", size=5_000, count=10**9)
        self.check(node, "--tls")

    def check_unread(self, node: Process, *options: str, times: int = 4) -> None:
        """
        Have a message and the goodbye sent while much is unread at both ends.

        Each of the two gets no time by turns, so it does not depend on who is faster.
        """
        node.ask("begin", task="push", size=20_000, count=10**9)
        sent = [os.urandom(200_000 if number % 2 else 10).hex() for number in range(times)]
        for line in sent:
            sender = self.start("send", "--lines", at(node.port), *options, stdin=subprocess.PIPE)
            self.wait_for(lambda: bool(node.table()), "the sender", PATIENCE)
            sender.send_signal(signal.SIGSTOP)
            time.sleep(1)
            node.halt()
            assert sender.process.stdin is not None
            # A pipe that all of it fits into.
            fcntl.fcntl(sender.process.stdin, fcntl.F_SETPIPE_SZ, MIB)
            sender.type(line)
            sender.process.stdin.close()
            sender.send_signal(signal.SIGCONT)
            time.sleep(1)
            node.resume()
            self.assertEqual(sender.end(), Ended(0, "", ""))
            self.wait_for(lambda: not node.table(), "the goodbye", PATIENCE)
        self.assertTrue(self.gathered(node) == [[line] for line in sent], "not what was sent")

    def test_much_that_is_unread(self) -> None:
        """A message arrives though it is the last thing before the end, and nobody reads then."""
        self.check_unread(self.node())

    def test_much_that_is_unread_tls(self) -> None:
        """The same over TLS."""
        self.check_unread(self.node(encryption="SSL"), "--tls", times=8)


@functools.cache
def reference() -> Reference:
    """
    The original.

    :raises SkipTest: it is not installed.
    """
    try:
        return find_reference()
    except ReferenceMissing as error:
        raise SkipTest(str(error)) from error


class ReferenceTests(CommandsTestCase):
    """Commands that join through an original py2p 0.6.757."""

    def original(self, encryption: str = "Plaintext", max_outgoing: int | None = 0) -> Node:
        """
        An original node.

        :param max_outgoing: how many nodes it dials that it hears of; as many as it likes, if
            that is ``None``.
        """
        node = Node(ORIGINAL, reference().python, environment())
        self.addCleanup(node.kill)
        node.start(encryption=encryption, max_outgoing=max_outgoing)
        return node

    def assert_sent(self, node: Node, number: int, *options: str) -> list[str]:
        """
        Send a message, a short one or a long one by turns; it must be told to have been read.

        :return: its packets.
        """
        packets = [f"message {number}", os.urandom(40_000).hex() if number % 2 else "short"]
        ended = self.py2p(
            "send", at(node.port), *options, "--timeout=30", packets[0], "-", data=packets[1]
        )
        self.assertEqual((ended.code, ended.out), (0, ""), f"{packets[0]}: {ended}")
        return packets

    def assert_arrived(self, node: Node, sent: list[list[str]]) -> None:
        """What was told to have been read has arrived, once, in that order."""

        def arrived() -> list[list[str]]:
            return [packets[1:] for packets in node.messages() if len(packets) == 3]

        self.wait_for(lambda: len(arrived()) >= len(sent), "the messages", PATIENCE)
        self.assertTrue(arrived() == sent, "not what was sent")

    def check_sends(self, node: Node, *options: str) -> None:
        """Send often; each message must have arrived whenever that was said."""
        sent = [self.assert_sent(node, number, *options) for number in range(30)]
        self.assert_arrived(node, sent)

    def check_busy(self, node: Node, encryption: str, *options: str) -> None:
        """
        The same while it passes on what another node sends.

        It does not send itself: over TLS the original breaks its own stream when two of its
        threads write.
        """
        flood = self.node(encryption=encryption)
        flood.ask("connect", port=node.port)
        flood.ask("begin", task="stamps", rate=200, seconds=600)
        self.wait_for(lambda: node.ask("count") > 50, "traffic", PATIENCE)
        self.check_sends(node, *options)
        before = node.ask("count")
        self.wait_for(lambda: node.ask("count") > before, "more traffic", PATIENCE)

    def test_quiet(self) -> None:
        """Every message that is told to have been read has arrived."""
        self.check_sends(self.original())

    def test_quiet_tls(self) -> None:
        """The same over TLS."""
        self.check_sends(self.original("SSL"), "--tls")

    def test_busy(self) -> None:
        """The same with traffic."""
        self.check_busy(self.original(), "Plaintext")

    def test_busy_tls(self) -> None:
        """The same with traffic, over TLS."""
        self.check_busy(self.original("SSL"), "SSL", "--tls")

    def test_busy_by_itself(self) -> None:
        """
        While the original sends as fast as it can.

        Its own threads then get into each other's way, and its answers can be lost. Then a send
        is not confirmed; but what is confirmed has arrived. Afterwards all is well again.
        """
        node, other = self.original(), self.node()
        # Without a neighbour it would be done at once.
        other.ask("connect", port=node.port)
        self.wait_for(lambda: bool(node.peers()), "a neighbour", PATIENCE)
        node.tell("burst", prefix="noise ", count=40_000)
        confirmed: list[list[str]] = []
        busy, number = True, 0
        while busy and number < 5:
            packets = [f"in the noise {number}", "said"]
            ended = self.py2p("send", at(node.port), *packets)
            self.assertIn(ended.code, (0, 1), ended)
            if ended.code == 0:
                confirmed.append(packets)
            number += 1
            with contextlib.suppress(NodeLost):
                node.hear("burst", 0.01)
                busy = False
        if busy:
            node.hear("burst", 240)
        confirmed.append(self.assert_sent(node, 1000))
        self.wait_for(lambda: other.ask("count") >= 40_000 + len(confirmed), "everything", PATIENCE)
        arrived = [packets for packets in self.gathered(other) if len(packets) == 2]
        missing = [packets for packets in confirmed if packets not in arrived]
        self.assertEqual(missing, [])

    def test_another_network(self) -> None:
        """It is told at once."""
        node = self.original()
        with seconds() as taken:
            ended = self.py2p("send", at(node.port), "--network=x", "--timeout=600", "hello")
        self.assertTrue(taken() < PATIENCE, taken())
        self.assert_failed(ended, "another network")

    def test_listen(self) -> None:
        """What an original says is printed, and reaches the others all the same."""
        node = self.original()
        listener = self.listen(at(node.port), "--count=2", "--json")
        node.send("storm", b"north", 1, None)
        node.send("again")
        self.assertEqual(listener.wait(), 0)
        told = [json.loads(line) for line in listener.out.splitlines()]
        self.assertEqual(
            [one["packets"] for one in told],
            [["storm", {"$base64": "bm9ydGg="}, 1, None], ["again"]],
        )
        self.assertEqual({one["sender"] for one in told}, {node.id.decode()})

    def test_a_member_is_nobody_to_dial(self) -> None:
        """An original that hears of a member from another one has no trouble with that."""
        one, other = self.original(max_outgoing=None), self.original(max_outgoing=None)
        listener = self.listen(at(one.port), "--json")
        self.wait_for(lambda: len(one.peers()) == 1, "the listener", PATIENCE)
        other.connect(one)
        self.wait_for(
            lambda: len(one.peers()) == 2 and len(other.peers()) >= 1, "the other", PATIENCE
        )
        other.send("hello")
        self.await_text(lambda: listener.out, "hello")
        self.assertEqual(other.peers(), {one.id})
        self.assertEqual([one.ask("status"), other.ask("status")], ["Nominal"] * 2)


# --- listen ----------------------------------------------------------------------


class ListenTests(CommandsTestCase):
    """What is printed."""

    def test_count(self) -> None:
        """It ends after so many messages, and has printed each of them."""
        node = self.node()
        listener = self.listen(at(node.port), "--count=3")
        for number in range(5):
            node.ask("send", packets=["storm", number])
        self.assertEqual(listener.wait(), 0)
        lines = listener.out.splitlines()
        self.assertEqual(len(lines), 3)
        for number, line in enumerate(lines):
            self.assertRegex(line, rf"^\d\d:\d\d:\d\d {node.id.decode()[:8]}  storm  {number}$")
        self.assertEqual(listener.err, f"py2p listen: joined through {HOST}:{node.port}\n")

    def test_wait(self) -> None:
        """It ends after so long; that is a failure if messages were counted on."""
        node = self.node()
        way = at(node.port)
        listeners = [
            self.listen(way, "--wait=2"),
            self.listen(way, "--wait=2", "--count=2"),
            self.listen(way, f"--wait={PATIENCE:g}", "--count=1"),
        ]
        node.ask("send", packets=["storm"])
        with seconds() as taken:
            self.assertEqual([listener.wait() for listener in listeners], [0, 1, 0])
        self.assertTrue(taken() < PATIENCE / 2, taken())
        for listener in listeners:
            self.assertIn("  storm\n", listener.out)
        self.assertEqual(
            listeners[1].err.splitlines()[1],
            "py2p listen: 1 of 2 messages have come within 2 s",
        )

    def test_everything_there_and_back(self) -> None:
        """What ``listen --json`` prints can be sent again, and is the same then."""
        first, second = self.nodes(2)
        listener = self.listen(at(first.port), "--json", f"--count={len(PACKETS) + 1}")
        for packet in PACKETS:
            first.ask("send", packets=[packet])
        first.ask("send", packets=PACKETS)
        self.assertEqual(listener.wait(), 0)
        lines = listener.out.splitlines()
        self.assertTrue(listener.out.isascii())
        told = [json.loads(line, parse_constant=self.fail) for line in lines]
        for one in told:
            self.assertEqual(
                set(one), {"packets", "sender", "via", "id", "time", "type"}, "as documented"
            )
            self.assertEqual((one["sender"], one["via"]), (first.id.decode(), first.id.decode()))
            self.assertEqual((len(bytes.fromhex(one["id"])), one["type"]), (32, 0))
            self.assertTrue(abs(one["time"] - time.time()) < 600)
        data = "".join(json.dumps(one["packets"]) + "\n" for one in told)
        self.assertEqual(self.py2p("send", "--json", at(second.port), data=data), Ended(0, "", ""))
        self.wait_for(lambda: second.ask("count") == len(lines), "all of it", PATIENCE)
        # As the driver's encoding: there, nan is equal to nan, and -0.0 is not 0.0.
        expected = [[packet] for packet in PACKETS] + [PACKETS]
        self.assertEqual(repr(self.gathered(second)), repr([list(packets) for packets in expected]))

    def test_types(self) -> None:
        """A message's type is told."""
        node = self.node()
        listener = self.listen(at(node.port), "--json", "--count=1")
        ended = self.py2p("send", at(node.port), "--type=48", "hello")
        self.assertEqual(ended, Ended(0, "", ""))
        self.assertEqual(listener.wait(), 0)
        told = json.loads(listener.out)
        self.assertEqual((told["type"], told["packets"]), (48, ["hello"]))

    def test_hostile_text(self) -> None:
        """Nothing that a peer says or calls itself can move the cursor or end a line."""
        evil = "\x1b[2J\x1b]0;title\x07\r\n\x0b\x7f\x85\x9b31m\u2028\u202e\u200b\ud7ff"
        node = self.node()
        listeners = [
            self.listen(at(node.port), "--count=3"),
            self.listen(at(node.port), "--count=3", "--json"),
        ]
        with socket.create_connection((HOST, node.port)) as raw:
            ident = b"\x1b[31m\r\nevil\xff" * 4
            raw.sendall(handshake(ident) + broadcast(ident, 0, evil))
            for listener in listeners:
                self.await_text(lambda listener=listener: listener.out, "title")
        nested = [evil, evil.encode(), {evil: [evil]}, [evil.encode()], {1: evil}]
        for packets in ([evil], nested):
            node.ask("send", packets=packets)
        for listener in listeners:
            self.assertEqual(listener.wait(), 0)
            self.assertEqual(listener.out.count("\n"), 3)
            bad = [one for one in listener.out.replace("\n", "") if not one.isprintable()]
            self.assertEqual(bad, [])

    def test_an_encoding_without_the_characters(self) -> None:
        """Where the terminal has no such characters they are spelt."""
        node = self.node()
        for variables in (
            {"LANG": "C", "LC_ALL": "C"},
            {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
            {"PYTHONIOENCODING": "ascii:strict"},
            {"PYTHONIOENCODING": "latin-1:strict"},
        ):
            listener = self.listen(
                at(node.port), "--count=1", variables=variables, stdout=subprocess.PIPE
            )
            node.ask("send", packets=["snow ☃", "end"])
            self.assertEqual(listener.wait(), 0, listener.err)
            assert listener.process.stdout is not None
            line = listener.process.stdout.read().rstrip(b"\n")
            self.assertIn(line.rpartition(b"snow ")[2], (b"\\u2603  end", "☃  end".encode()))

    def test_an_encrypted_network(self) -> None:
        """The same over TLS."""
        node = self.node(encryption="SSL")
        listener = self.listen(at(node.port), "--tls", "--count=1")
        node.ask("send", packets=["secret"])
        self.assertEqual(listener.wait(), 0)
        self.assertIn("  secret\n", listener.out)

    def test_the_link_is_made_again(self) -> None:
        """A node that was killed and is there again is heard again."""
        node, port = self.py2p_node()
        listener = self.listen(at(port), "--count=1")
        node.kill()
        again = self.node(port=port)
        self.wait_for(lambda: bool(again.table()), "the listener to be back", PATIENCE)
        again.ask("send", packets=["back"])
        self.assertEqual(listener.wait(), 0)
        self.assertIn("  back\n", listener.out)


class ReaderTests(CommandsTestCase):
    """Who reads what ``listen`` prints, or does not."""

    def test_head(self) -> None:
        """A reader that goes away ends it, without a word."""
        node = self.node()
        shell = ["/bin/sh", "-c", '"$@" | head -1', "sh", *_PY2P, "listen", at(node.port)]
        listener = self.start(command=shell)
        self.await_text(lambda: listener.err, "joined through")
        node.ask("send", packets=["one"])
        self.await_text(lambda: listener.out, "  one\n")
        for _ in moments(PATIENCE, interval=0.1):
            if listener.process.poll() is not None:
                break
            node.ask("send", packets=["more"])
        self.assertEqual(listener.wait(), 0)
        self.assertEqual(listener.out.count("\n"), 1)
        self.assertEqual(listener.err, f"py2p listen: joined through {HOST}:{node.port}\n")

    #: With it, Python keeps nothing back that it could fail to write at the end.
    BUFFERS = ({}, {"PYTHONUNBUFFERED": "1"})

    def test_the_exit_code_when_nobody_reads(self) -> None:
        """What could not be written is no success, though it was the last that was asked for."""
        node = self.node()
        for count, variables in itertools.product((["--count=1"], []), self.BUFFERS):
            listener = self.listen(
                at(node.port), *count, stdout=subprocess.PIPE, variables=variables
            )
            assert listener.process.stdout is not None
            listener.process.stdout.close()
            node.ask("send", packets=["one"])
            self.assertEqual(listener.wait(), 1, (count, variables))
            self.assertEqual(listener.err.count("\n"), 1, listener.err)

    def test_a_full_disk(self) -> None:
        """One line says so."""
        if not os.path.exists("/dev/full"):
            raise SkipTest("no /dev/full here")
        node = self.node()
        for count, variables in itertools.product((["--count=1"], []), self.BUFFERS):
            with open("/dev/full", "w") as full:
                listener = self.listen(at(node.port), *count, stdout=full, variables=variables)
                node.ask("send", packets=["one"])
                self.assertEqual(listener.wait(), 1, (count, variables))
            self.assertEqual(
                listener.err.splitlines()[1:], ["py2p listen: No space left on device"]
            )

    def between(self, *arguments: str, **how: Any) -> tuple[Process, Process, Command]:
        """Two nodes that hear of each other by way of a listener alone."""
        one, other = self.nodes(2, max_outgoing=0)
        listener = self.start(
            "listen", at(one.port), at(other.port), *arguments, stdout=subprocess.PIPE, **how
        )
        for node in (one, other):
            self.wait_for(lambda node=node: len(node.table()) == 1, "the listener", PATIENCE)
        return one, other, listener

    def test_a_reader_that_does_not_read(self) -> None:
        """The listener stays a good neighbour, forgets the oldest lines, and says so."""
        one, other, listener = self.between()
        one.ask("storm", timeout=120, threads=1, count=40_000, names=["node"])
        self.wait_for(lambda: other.ask("count") >= 40_000, "all of it", PATIENCE * 2)
        self.assertEqual(
            self.gathered(other), [[0, number] for number in range(40_000)], "once, in order"
        )
        self.assertEqual((len(one.table()), len(other.table())), (1, 1))
        joined, gap = listener.err.splitlines()
        self.assertIn("joined through", joined)
        self.assertIn("gap", gap)
        self.assertLess(listener.memory, 200 * MIB)
        # Somebody reads on: what comes then is whole lines, the newest among them.
        one.ask("send", packets=["last"])
        assert listener.process.stdout is not None
        lines = []
        for line in listener.process.stdout:
            lines.append(line.decode().rstrip("\n"))
            if lines[-1].endswith("  last"):
                break
        numbers = [re.fullmatch(r"\S+ \S+  0  (\d+)", line) for line in lines[:-1]]
        shown = [int(found[1]) for found in numbers if found]
        self.assertEqual(len(shown), len(lines) - 1)
        self.assertEqual(shown, sorted(set(shown)))
        self.assertEqual(shown[-1], 39_999)
        self.assertLess(len(shown), 30_000)

    def test_large_messages_that_nobody_reads(self) -> None:
        """What waits for a reader is bounded in bytes as well."""
        one, other, listener = self.between()
        one.ask("push", timeout=120, size=MIB, count=300)
        self.wait_for(lambda: other.ask("count") >= 300, "all of it", PATIENCE * 2)
        self.assertLess(listener.memory, 250 * MIB)

    def test_nobody_reads_errors_either(self) -> None:
        """Who pipes both outputs into a pager must not lose the network."""
        one, other, _ = self.between(stderr=subprocess.STDOUT)
        one.ask("storm", timeout=120, threads=1, count=40_000, names=["node"])
        one.ask("send", packets=["last"])
        self.wait_for(lambda: other.ask("count") >= 40_001, "all of it", PATIENCE)
        self.assertEqual(self.gathered(other)[-1], ["last"])

    def test_ctrl_c_while_nobody_reads(self) -> None:
        """It ends at once, whatever could not be written."""
        one, _, listener = self.between()
        one.ask("storm", timeout=120, threads=1, count=5_000, names=["node"])
        with seconds() as taken:
            listener.send_signal(signal.SIGINT)
            self.assertEqual(listener.wait(), 130)
        self.assertTrue(taken() < PATIENCE / 2, taken())
        self.assertEqual(listener.err.splitlines()[-1], "py2p listen: interrupted")

    def test_all_is_written(self) -> None:
        """A reader that is slow gets everything that was asked for before it ends."""
        node = self.node()
        listener = self.listen(at(node.port), "--count=5000", stdout=subprocess.PIPE)
        node.ask("storm", timeout=120, threads=1, count=5_000, names=["node"])
        time.sleep(QUIET)
        assert listener.process.stdout is not None
        lines = listener.process.stdout.read().decode().splitlines()
        self.assertEqual(listener.wait(), 0)
        self.assertEqual([line.split()[-1] for line in lines], [*map(str, range(5000))])


class SignalTests(CommandsTestCase):
    """Whatever a command is doing, a signal ends it with one line."""

    WORDS = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated")}

    def check(self, command: Command, *numbers: signal.Signals, before: int) -> None:
        """Send signals; it ends as the first one says, after so many lines."""
        code, word = self.WORDS[numbers[0]]
        name = command.process.args[len(_PY2P)]  # type: ignore[index]
        command.send_signal(*numbers)
        self.assertEqual(command.wait(), code, command.err)
        lines = command.err.splitlines()
        self.assertEqual(lines[before:], [f"py2p {name}: {word}"])

    def test_listening(self) -> None:
        """It leaves in good order."""
        node, port = self.py2p_node()
        for numbers in ([signal.SIGINT], [signal.SIGTERM], [signal.SIGINT] * 4):
            self.check(self.listen(at(port)), *numbers, before=1)
        self.await_text(lambda: node.err, '"peer down"', 2)
        self.assertNotIn("connection was lost", node.err)

    def test_joining(self) -> None:
        """Before anybody could be joined through."""
        for arguments in (["send", "hello"], ["listen"], ["chat"]):
            for numbers in (
                [signal.SIGINT],
                [signal.SIGTERM],
                [signal.SIGINT] * 4,
                [signal.SIGTERM] * 4,
            ):
                command = self.start(*arguments, at(free_port()))
                self.await_text(lambda command=command: command.err, "trying again")
                self.check(command, *numbers, before=1)

    def test_a_handshake_that_does_not_come(self) -> None:
        """While a port is connected to that says nothing."""
        with socket.socket() as deaf:
            deaf.bind((HOST, 0))
            deaf.listen()
            deaf.settimeout(PATIENCE)
            for numbers in ([signal.SIGINT], [signal.SIGTERM] * 3):
                command = self.start("listen", at(deaf.getsockname()[1]))
                connection, _ = deaf.accept()
                with connection:
                    connection.settimeout(PATIENCE)
                    connection.recv(1)
                    self.check(command, *numbers, before=0)

    def test_leaving(self) -> None:
        """Ctrl-C while the last goodbye is said to somebody who does not read it."""
        node, port = self.py2p_node()
        command = self.start("send", "--lines", at(port), stdin=subprocess.PIPE)
        self.await_text(lambda: node.err, "peer up")
        node.send_signal(signal.SIGSTOP)
        command.type("never read\n")
        assert command.process.stdin is not None
        command.process.stdin.close()
        time.sleep(1)
        self.check(command, signal.SIGINT, signal.SIGINT, before=0)

    def test_standard_input_that_does_not_come(self) -> None:
        """While a packet is read from a pipe, before anything else is done."""
        command = self.start("send", at(free_port()), stdin=subprocess.PIPE)
        self.await_started(command)
        self.check(command, signal.SIGINT, before=0)

    def await_started(self, command: Command) -> None:
        """Wait until a command has come to read what is piped into it."""
        for _ in moments(PATIENCE, interval=0.05):
            place = Path(f"/proc/{command.process.pid}/wchan")
            if "pipe" in place.read_text():
                time.sleep(0.1)
                return
        raise SkipTest("this system does not tell what a process waits for")


# --- chat ------------------------------------------------------------------------


class OnTerminal:
    """
    A command on a pseudo terminal of 80 columns.

    :ivar screen: what the terminal shows, and has shown.
    """

    def __init__(self, *arguments: str, **variables: str) -> None:
        self.screen = Screen()
        self._ours, self._theirs = pty.openpty()
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(self._theirs)
        # No file of the user's own changes how lines are edited.
        self.process = subprocess.Popen(
            [*_PY2P, *arguments],
            cwd=PROJECT,
            env=surroundings(INPUTRC="/dev/null", **variables),
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            start_new_session=True,
            # Without that, Ctrl-C on it would go to nobody.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    @property
    def modes(self) -> list[Any]:
        """How the terminal is set now."""
        return termios.tcgetattr(self._theirs)

    @property
    def text(self) -> str:
        """What can be seen, also by scrolling back."""
        return "\n".join(row.rstrip() for row in self.screen.rows)

    @property
    def last(self) -> str:
        """The line that the cursor is in, as far as the cursor."""
        return self.screen.rows[self.screen.y][: self.screen.x]

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._ours, keys.encode())

    def watch(self, condition: Callable[[], bool], what: str = "") -> None:
        """
        Watch until a condition holds.

        :raises AssertionError: it does not come to that.
        """
        for _ in moments(PATIENCE, interval=0.01):
            self._read()
            if condition():
                return
        raise AssertionError(f"waited in vain for {what or 'a change'}:\n{self.text}")

    def await_text(self, text: str, times: int = 1) -> None:
        """Watch until this is shown."""
        self.watch(lambda: self.text.count(text) >= times, repr(text))

    def end(self) -> int:
        """Watch to the end; the exit code."""
        self.watch(lambda: self.process.poll() is not None, "its end")
        self._read()
        return self.process.wait()

    def _read(self) -> None:
        while select.select([self._ours], [], [], 0)[0]:
            self.screen.feed(os.read(self._ours, 65536))

    def kill(self) -> None:
        """End it in any case."""
        self.process.kill()
        self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)


class ChatTests(CommandsTestCase):
    """``py2p chat`` on a terminal."""

    def chat(self, node: Process | None, *arguments: str, **variables: str) -> OnTerminal:
        """A chat that has joined, if there is a node to join."""
        port = free_port() if node is None else node.port
        terminal = OnTerminal("chat", at(port), *arguments, **variables)
        self.addCleanup(terminal.kill)
        if node is not None:
            terminal.await_text("* joined through")
            terminal.watch(lambda: terminal.last == "> ", "the prompt")
        return terminal

    def leave(self, terminal: OnTerminal, keys: str = "\x04", code: int = 0) -> None:
        """Leave, and see the terminal as it was before."""
        terminal.type(keys)
        self.assertEqual(terminal.end(), code, terminal.text)
        self.assertEqual(terminal.modes, terminal.before)
        self.assertNotIn("Traceback", terminal.text)

    def test_talking(self) -> None:
        """A line is a message of the name and the text; Ctrl-D leaves."""
        node = self.node()
        chat = self.chat(node, "--name=ada")
        self.assertIn(f"* joined through {HOST}:{node.port} as ada; Ctrl-D leaves", chat.text)
        chat.type("hello there\r")
        self.await_gathered(node, ["ada", "hello there"])
        chat.type("\r   \r")
        chat.type("  grüße ☃  \r")
        self.await_gathered(node, ["ada", "hello there"], ["ada", "grüße ☃"])
        self.leave(chat)
        self.wait_for(lambda: not node.table(), "the goodbye", PATIENCE)

    def test_editing(self) -> None:
        """Lines are edited, and earlier ones are called back, as in a shell."""
        node = self.node()
        chat = self.chat(node, "--name=ada")
        chat.type("wold\x1b[D\x1b[Dr\x01hello \r")
        self.await_gathered(node, ["ada", "hello world"])
        chat.type("\x1b[A!\r")
        self.await_gathered(node, ["ada", "hello world"], ["ada", "hello world!"])
        self.leave(chat)

    def test_what_comes_in(self) -> None:
        """It appears above the line that is being typed, which is kept."""
        node = self.node()
        chat = self.chat(node, "--name=ada")
        chat.type("half a li")
        chat.watch(lambda: chat.last == "> half a li", "what is typed")
        node.ask("send", packets=["ben", "hi ada"])
        node.ask("send", packets=["storm", "north", 3])
        node.ask("send", packets=["\x1b[2Jeve", "a\r\nb"])
        chat.await_text("eve")
        chat.watch(lambda: chat.last == "> half a li", "what was typed")
        rows = [row.rstrip() for row in chat.screen.rows]
        place = rows.index("ben: hi ada")
        self.assertRegex(rows[place + 1], r"^\S+ \S+  storm  north  3$")
        self.assertEqual(rows[place + 2 :], ["\\x1b[2Jeve: a\\r\\nb", "> half a li"])
        self.assertNotIn("> half a li", rows[:place])
        chat.type("ne\r")
        self.await_gathered(node, ["ada", "half a line"])
        self.leave(chat)

    def test_what_comes_in_at_an_empty_prompt(self) -> None:
        """The prompt stands below it, once."""
        node = self.node()
        chat = self.chat(node)
        for number in range(30):
            node.ask("send", packets=["ben", f"line {number}"])
        chat.await_text("ben: line 29")
        chat.watch(lambda: chat.last == "> ", "the prompt")
        rows = [row.rstrip() for row in chat.screen.rows]
        self.assertEqual(rows[-31:], [*(f"ben: line {number}" for number in range(30)), ">"])
        self.leave(chat)

    def test_commands(self) -> None:
        """What begins with a slash is for the chat, unless there are two."""
        node = self.node()
        chat = self.chat(node, "--name=ada")
        chat.type("/help\r")
        chat.await_text("* /peers lists the peers, /quit or Ctrl-D leaves")
        chat.type("/peers\r")
        chat.await_text(f"* {node.id.decode()}"[:79])
        chat.type("/frobnicate now\r")
        chat.await_text("* there is no /frobnicate")
        chat.type("/\r")
        chat.await_text("* there is no /;")
        chat.type("//quit\r")
        self.await_gathered(node, ["ada", "/quit"])
        self.leave(chat, "/quit\r")

    def test_ctrl_c(self) -> None:
        """It leaves with one line, and the terminal is as it was."""
        node = self.node()
        for typed, shown in (("", "> "), ("half a line", "> half a line"), ("sent\r", "> ")):
            chat = self.chat(node, "--name=ada")
            chat.type(typed)
            chat.watch(lambda chat=chat, shown=shown: chat.last == shown, shown)
            self.assertNotEqual(chat.modes, chat.before)
            self.leave(chat, "\x03", 130)
            self.assertIn("py2p chat: interrupted", chat.text)
        joining = self.chat(None)
        joining.await_text("trying again")
        self.leave(joining, "\x03\x03", 130)
        self.assertIn("py2p chat: interrupted", joining.text)
        self.assertNotIn("> ", joining.text)

    def test_signals(self) -> None:
        """SIGTERM, and several at once."""
        node = self.node()
        for numbers, code in (
            ([signal.SIGTERM], 143),
            ([signal.SIGINT] * 3, 130),
            ([signal.SIGTERM] * 3, 143),
        ):
            chat = self.chat(node)
            chat.type("half")
            chat.watch(lambda chat=chat: chat.last == "> half")
            for number in numbers:
                chat.process.send_signal(number)
            self.leave(chat, "", code)

    def test_the_window_is_closed(self) -> None:
        """The chat does not stay behind."""
        node = self.node()
        chat = self.chat(node)
        os.kill(chat.process.pid, signal.SIGHUP)
        self.assertEqual(chat.end(), -signal.SIGHUP)

    def test_a_peer_that_goes_and_comes(self) -> None:
        """Both is shown, with the reason."""
        node, port = self.py2p_node()
        chat = OnTerminal("chat", at(port), "--name=ada")
        self.addCleanup(chat.kill)
        chat.await_text("* joined through")
        node.kill()
        chat.await_text(f"* peer down at {HOST}:{port}, because ")
        chat.await_text("0 peers; trying to get back")
        again = self.node(port=port)
        chat.await_text(f"* peer up at {HOST}:{port}, 1 peer")
        chat.watch(lambda: chat.last == "> ", "the prompt")
        chat.type("still here\r")
        self.await_gathered(again, ["ada", "still here"])
        self.leave(chat)

    def test_nobody_has_heard_it(self) -> None:
        """What was said to nobody is told at the end."""
        node, port = self.py2p_node()
        chat = OnTerminal("chat", at(port), "--name=ada")
        self.addCleanup(chat.kill)
        chat.await_text("* joined through")
        node.kill()
        chat.await_text("* peer down")
        chat.type("anybody?\r")
        chat.watch(lambda: chat.last == "> ", "the prompt")
        self.leave(chat, "\x04", 1)
        self.assertIn("py2p chat: no neighbour has confirmed", chat.text)

    def test_odd_names(self) -> None:
        """A name is told as it is, and shown so that it does no harm."""
        node = self.node()
        odd = "\x1b[31m☃\r\n\x9b7m"
        chat = self.chat(node, f"--name={odd}")
        chat.type("hello\r")
        self.await_gathered(node, [odd, "hello"])
        other = self.chat(node, "--name=ada")
        chat.type("again\r")
        other.await_text("\\x1b[31m☃\\r\\n\\x9b7m: again")
        self.leave(other)
        # Its own terminal is not coloured, or filled with lines, either.
        self.assertIn("as \\x1b[31m☃\\r\\n\\x9b7m; Ctrl-D leaves", chat.text)
        self.leave(chat)

    def test_keys_that_are_no_text(self) -> None:
        """Whatever is typed, and whatever Python would do with it: the chat goes on."""
        for variables in ({}, {"PYTHONIOENCODING": "utf-8:strict"}):
            node = self.node()
            chat = self.chat(node, "--name=ada", **variables)
            os.write(chat._ours, b"\xff\xfe\r")
            chat.watch(lambda chat=chat: chat.last == "> ", "the prompt")
            os.write(chat._ours, b"after\r")
            self.wait_for(
                lambda node=node: ["ada", "after"] in self.gathered(node), "more", PATIENCE
            )
            self.leave(chat)


class PipedChatTests(CommandsTestCase):
    """``py2p chat`` without a terminal."""

    def test_piped(self) -> None:
        """Every line arrives, the last one without its end as well."""
        node = self.node()
        lines = [f"line {number} ☃" for number in range(200)]
        ended = self.py2p("chat", at(node.port), "--name=ben", data="\n".join(["", *lines]))
        self.assertEqual((ended.code, ended.err), (0, ""))
        self.await_gathered(node, *(["ben", line] for line in lines))
        self.assertEqual(ended.out.count("\n"), 1)
        self.assertNotIn("\x1b", ended.out)
        self.assertNotIn("> ", ended.out)

    def test_the_default_name(self) -> None:
        """Who one is for the system."""
        node = self.node()
        for variables, name in (({"LOGNAME": "carol"}, "carol"), ({}, None)):
            ended = self.py2p("chat", at(node.port), data="hello", variables=variables)
            self.assertEqual(ended.code, 0)
            self.wait_for(lambda: bool(self.gathered(node)), "it", PATIENCE)
            said = self.gathered(node)[-1]
            self.assertEqual(said[1], "hello")
            self.assertTrue(said[0] == name if name else said[0], said)

    def test_listening_along(self) -> None:
        """What others say is printed, line by line."""
        node = self.node()
        chat = self.start("chat", at(node.port), stdin=subprocess.PIPE)
        self.await_text(lambda: chat.out, "joined through")
        node.ask("send", packets=["ada", "hello ben"])
        self.await_text(lambda: chat.out, "\nada: hello ben\n")
        ended = chat.end()
        self.assertEqual((ended.code, ended.err), (0, ""))

    def test_quit(self) -> None:
        """Nothing behind /quit is said, though it was piped."""
        node = self.node()
        ended = self.py2p("chat", at(node.port), "--name=ben", data="one\n/quit\ntwo\n")
        self.assertEqual(ended.code, 0)
        self.await_gathered(node, ["ben", "one"])

    def test_no_text(self) -> None:
        """What is no text is replaced, whatever Python would do with it; the rest goes on."""
        node = self.node()
        for variables in ({}, {"PYTHONIOENCODING": "utf-8:strict"}):
            ended = self.py2p(
                *("chat", at(node.port), "--name=ben"),
                data=b"one\nx\xff\xfe\ntwo\n",
                variables=variables,
            )
            self.assertEqual((ended.code, ended.err), (0, ""), ended)
        said = ["one", "x\ufffd\ufffd", "two"]
        self.await_gathered(node, *(["ben", line] for line in said * 2))

    def test_without_standard_input(self) -> None:
        """There is nothing to say then."""
        node = self.node()
        shell = ["/bin/sh", "-c", 'exec "$@" <&-', "sh", *_PY2P, "chat", at(node.port)]
        ended = self.py2p(command=shell)
        self.assertEqual((ended.code in (0, 1, 2), ended.err.count("\n") <= 1), (True, True), ended)

    def test_the_reader_goes(self) -> None:
        """Nobody reads what is shown any more: the chat ends, without a word."""
        node = self.node()
        chat = self.start("chat", at(node.port), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert chat.process.stdout is not None
        chat.process.stdout.readline()
        chat.process.stdout.close()
        for _ in moments(PATIENCE, interval=0.1):
            if chat.process.poll() is not None:
                break
            node.ask("send", packets=["ada", "hello?"])
        self.assertEqual((chat.wait(), chat.err), (1, ""))

    def test_signals(self) -> None:
        """While standard input is open, and nothing comes."""
        node = self.node()
        for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            chat = self.start("chat", at(node.port), stdin=subprocess.PIPE)
            self.await_text(lambda chat=chat: chat.out, "joined through")
            chat.send_signal(number, number)
            self.assertEqual(chat.wait(), code)
            self.assertEqual(chat.err.count("\n"), 1, chat.err)


# --- node ------------------------------------------------------------------------


class NodeTests(CommandsTestCase):
    """``py2p node``."""

    def test_stopping(self) -> None:
        """It is told to stop, tells its peers, and that is a good end."""
        for numbers in ([signal.SIGINT], [signal.SIGTERM], [signal.SIGINT] * 3):
            node, port = self.py2p_node("--log-format=json")
            peer = self.node()
            peer.ask("connect", port=port)
            self.assertEqual(len(peer.table()), 1)
            node.send_signal(*numbers)
            self.assertEqual(node.wait(), 0, node.err)
            self.wait_for(lambda peer=peer: not peer.table(), "the goodbye", PATIENCE)
            records = [json.loads(line) for line in node.err.splitlines()]
            events = [record.get("event") for record in records]
            self.assertEqual(events.count("stopping"), 1)
            self.assertEqual(node.out, "")

    def test_two_nodes(self) -> None:
        """A second one joins the first, and what is sent to one is heard at the other."""
        first, port = self.py2p_node("--log-format=text")
        second, other_port = self.py2p_node(at(port), "--log-format=text")
        self.await_text(lambda: second.err, "joined network mesh through")
        self.await_text(lambda: first.err, "peer up")
        listener = self.listen(at(port), "--count=1")
        self.assertEqual(self.py2p("send", at(other_port), "hello"), Ended(0, "", ""))
        self.assertEqual(listener.wait(), 0)
        self.assertIn("  hello\n", listener.out)

    def test_a_busy_port(self) -> None:
        """One line that says what to do."""
        _, port = self.py2p_node()
        ended = self.py2p("node", f"--listen=tcp:{port}:interface={HOST}")
        self.assert_failed(ended, f"py2p node: port {port} is in use", "--listen")

    def test_one_of_two_ports_is_busy(self) -> None:
        """The same, and the other one is free again."""
        _, port = self.py2p_node()
        free = free_port()
        ended = self.py2p("node", *(f"--listen=tcp:{one}:interface={HOST}" for one in (free, port)))
        self.assert_failed(ended, f"port {port} is in use")

    def test_wrong_usage(self) -> None:
        """Exit code 2 and one line, which names the option."""
        for arguments, words in (
            (["--join=nowhere"], ["--join=nowhere", "HOST:PORT"]),
            (["--listen=x"], ["--listen=x", "endpoint"]),
            (["--max-message=1"], ["--max-message=1", "a size"]),
            (["--frobnicate"], ["--frobnicate"]),
            (["--config=/nonexistent/file"], ["/nonexistent/file", "No such file"]),
            (["--log-level=loud"], ["--log-level", "loud"]),
            (["--limit=max_outgoin=1"], ["max_outgoing"]),
        ):
            ended = self.py2p("node", *arguments)
            self.assertEqual((ended.code, ended.out), (2, ""), ended)
            self.assertEqual(ended.err.count("\n"), 1, ended)
            self.assertIn("py2p node --help", ended.err)
            for word in words:
                self.assertIn(word, ended.err)

    def config(self, text: str) -> str:
        """A file with this content."""
        path = Path(self.mktemp()).resolve()
        path.write_text(text)
        return str(path)

    def test_check(self) -> None:
        """Every value with where it comes from; nothing is started."""
        path = self.config('network = "alerts"\njoin = ["192.0.2.7:4444"]\ntls = true\n')
        ended = self.py2p("node", "--check", f"--config={path}", "--network=tests")
        self.assertEqual((ended.code, ended.err), (0, ""))
        rows = [line.split() for line in ended.out.splitlines()]
        self.assertIn(["network", "tests", "command", "line"], rows)
        self.assertIn(["tls", "yes", path], rows)
        self.assertIn(["join", "192.0.2.7:4444", path], rows)
        self.assertIn(["listen", "tcp:4444", "default"], rows)

    def test_config(self) -> None:
        """A node is what its file says."""
        port = free_port()
        path = self.config(
            f'listen = "tcp:{port}:interface={HOST}"\nnetwork = "alerts"\ntls = true\n'
        )
        node = self.start("node", f"--config={path}", "--log-format=text")
        self.await_text(lambda: node.err, f"listening on {HOST}:{port} in network alerts (SSL)")
        ended = self.py2p("send", at(port), "--network=alerts", "--tls", "hello")
        self.assertEqual(ended, Ended(0, "", ""))

    def test_a_file_that_is_wrong(self) -> None:
        """Exit code 2, and the closest key."""
        path = self.config('netwrok = "alerts"\n')
        ended = self.py2p("node", f"--config={path}")
        self.assertEqual((ended.code, ended.out, ended.err.count("\n")), (2, "", 1), ended)
        self.assertIn("'network'", ended.err)

    def test_the_log(self) -> None:
        """JSON where there is no terminal, text if asked for; less of it, if asked for."""
        node, _ = self.py2p_node()
        for line in node.err.splitlines():
            self.assertIn("text", json.loads(line))
        plain, port = self.py2p_node("--log-format=text")
        self.assertRegex(plain.err, r"(?m)^\S+ \[py2p_twisted\.node#info\] listening on ")
        quiet = self.start(
            "node", f"--listen=tcp:0:interface={HOST}", at(port), "--log-level=error"
        )
        self.await_text(lambda: plain.err, "peer up")
        quiet.send_signal(signal.SIGTERM)
        self.assertEqual(quiet.end(), Ended(0, "", ""))

    def test_the_log_on_a_terminal(self) -> None:
        """Text."""
        terminal = OnTerminal("node", f"--listen=tcp:0:interface={HOST}")
        self.addCleanup(terminal.kill)
        terminal.await_text("[py2p_twisted.node#info] listening on")
        terminal.type("\x03")
        self.assertEqual(terminal.end(), 0)
        self.assertIn("stopping", terminal.text)

    def test_programs(self) -> None:
        """A program is run for every message, and ended with the node."""
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        got, number = folder / "got", folder / "number"
        program = f"cat > {got}; echo $$ > {number}; exec sleep 600"
        node, port = self.py2p_node(f"--exec=/bin/sh -c '{program}'")
        self.assertEqual(self.py2p("send", at(port), "hello"), Ended(0, "", ""))
        self.wait_for(lambda: number.exists() and bool(number.read_text()), "it", PATIENCE)
        self.assertEqual(json.loads(got.read_text()), ["hello"])
        node.send_signal(signal.SIGTERM)
        self.assertEqual(node.wait(), 0)
        place = Path("/proc", number.read_text().strip(), "cmdline")
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            # What has ended and is not waited for has no command line.
            self.assertNotIn(b"sleep", place.read_bytes())

    def test_the_same_options_everywhere(self) -> None:
        """What ``twist py2p`` takes ``py2p node`` takes, and the other way round."""
        twist = self.py2p(command=[sys.executable, "-m", "twisted", "py2p", "--help"])
        ours = self.py2p("node", "--help")
        self.assertEqual((twist.code, ours.code), (0, 0))

        def options(text: str) -> set[str]:
            return set(re.findall(r"(?m)^ +(?:-\w, )?(--[\w-]+)", text))

        short = re.findall(r"(?m)^ +(-\w), ", twist.out)
        for letter in short:
            self.assertRegex(ours.out, rf"[ ,]{letter}\b")
        # The log belongs to twist itself.
        self.assertEqual(options(twist.out), options(ours.out) - {"--log-format"})

    def test_help_ends_with_commands(self) -> None:
        """Two of them, complete."""
        lines = self.py2p("node", "--help").out.rstrip("\n").splitlines()
        for line in lines[-2:]:
            self.assertRegex(line, r"^  py2p node --listen=tcp:\d+")
            ended = self.py2p(command=["/bin/sh", "-c", f'exec "$@" {line[11:]} --check', "sh",
                                       *_PY2P, "node"])  # fmt: skip
            self.assertEqual((ended.code, ended.err), (0, ""))


# --- completion ------------------------------------------------------------------


class CompletionTests(CommandsTestCase):
    """``py2p completion``."""

    COMMANDS = (
        "bench",
        "chat",
        "completion",
        "connect",
        "demo",
        "doctor",
        "listen",
        "members",
        "node",
        "peers",
        "ping",
        "reload",
        "send",
        "simulate",
        "status",
        "ticket",
        "top",
    )

    def script(self, shell: str) -> str:
        try:
            import shtab  # noqa: F401
        except ImportError as error:
            raise SkipTest("shtab is not installed") from error
        ended = self.py2p("completion", shell)
        self.assertEqual((ended.code, ended.err), (0, ""))
        return ended.out

    def complete(self, *words: str) -> list[str]:
        """What bash offers for the last of these words."""
        path = Path(self.mktemp()).resolve()
        path.write_text(self.script("bash"))
        program = (
            'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); '
            'set -- $(complete -p py2p); while [ "$1" != -F ]; do shift; done; '
            '"$2" "${COMP_WORDS[0]}" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"; '
            'printf "%s\\n" "${COMPREPLY[@]}"'
        )
        bash = ["bash", "--norc", "--noprofile", "-c", program, "bash", str(path), *words]
        ended = self.py2p(command=bash)
        self.assertEqual((ended.code, ended.err), (0, ""), ended)
        return ended.out.split()

    def test_bash(self) -> None:
        """The script is one that bash understands, and completes commands and options."""
        script = self.script("bash")
        self.assertEqual(self.py2p(command=["bash", "-n"], data=script), Ended(0, "", ""))
        self.assertEqual(self.complete("py2p", "no"), ["node"])
        self.assertEqual(sorted(self.complete("py2p", "")), sorted(self.COMMANDS))
        self.assertEqual(self.complete("py2p", "node", "--max-p"), ["--max-peers"])
        self.assertEqual(self.complete("py2p", "listen", "--cou"), ["--count"])
        self.assertEqual(self.complete("py2p", "completion", "z"), ["zsh"])

    def test_zsh(self) -> None:
        """The script knows all commands."""
        script = self.script("zsh")
        self.assertTrue(script.startswith("#compdef py2p"))
        for command in self.COMMANDS:
            self.assertIn(f"\n    {command}:", script)

    def test_tcsh(self) -> None:
        """This one as well."""
        script = self.script("tcsh")
        for command in self.COMMANDS:
            self.assertIn(command, script)

    def test_without_shtab(self) -> None:
        """One line says what to install."""
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "shtab.py").write_text("raise ImportError('no shtab')\n")
        path = os.pathsep.join([str(folder.resolve()), settings()["PYTHONPATH"]])
        ended = self.py2p("completion", "bash", variables={"PYTHONPATH": path})
        self.assert_failed(ended, 'pip install "py2p_twisted[completion]"')
