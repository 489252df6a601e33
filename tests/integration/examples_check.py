"""
The programs of examples/ as people start them, and the tutorial on real sockets.

Every program is run by the two commands that its docstring gives, except that the system chooses
the ports. All of them end with Ctrl-C, without a traceback and with exit status 0.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

#: Seconds that anything may take before a test fails.
PATIENCE = 20.0

_HOST = "127.0.0.1"
_COMMAND = re.compile(r"^ +(python examples/\S+\.py .*)$", re.MULTILINE)


def commands(example: Path) -> list[list[str]]:
    """The commands that an example's docstring gives, as arguments."""
    return [shlex.split(line) for line in _COMMAND.findall(example.read_text(encoding="utf-8"))]


class Program:
    """
    An example that runs, in a process of its own.

    :ivar lines: what it has printed so far.
    :ivar port: where it listens, once it has said so.
    """

    def __init__(self, *arguments: str) -> None:
        search = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": search},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self.port = 0
        self._news: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._news.put(line.rstrip("\n"))
        self._news.put(None)

    def expect(self, pattern: str) -> re.Match[str]:
        """
        Wait for a line.

        :raises AssertionError: it has not come in time, or will not.
        """
        until = time.monotonic() + PATIENCE
        while True:
            try:
                line = self._news.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                line = None
            if line is None:
                raise AssertionError(f"no line {pattern!r} has come; there are {self.lines}")
            self.lines.append(line)
            found = re.search(pattern, line)
            if found:
                return found

    def listening(self) -> Program:
        """Wait until it listens."""
        self.port = int(self.expect(r"^listening on .*:(\d+)$")[1])
        return self

    def type(self, text: str) -> None:
        """Write a line to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def interrupt(self) -> int:
        """Press Ctrl-C, and wait for the end."""
        self.process.send_signal(signal.SIGINT)
        return self.end()

    def end(self, timeout: float = PATIENCE) -> int:
        """Wait for the end, and read what is left to read."""
        status = self.process.wait(timeout)
        while (line := self._news.get(timeout=PATIENCE)) is not None:
            self.lines.append(line)
        return status

    def kill(self) -> None:
        """End it in any case."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            # What was typed last has not been read, perhaps.
            with contextlib.suppress(BrokenPipeError):
                stream.close()


class ExampleTestCase(SynchronousTestCase):
    def run_example(self, *arguments: str) -> Program:
        """Start an example that will be gone when the test ends."""
        program = Program(*arguments)
        self.addCleanup(program.kill)
        return program

    def pair(self, name: str, *options: str) -> tuple[Program, Program]:
        """Run an example by its two commands, on ports that the system chooses."""
        first, second = (command[1:] for command in commands(ROOT / "examples" / name))
        options = ("--host", _HOST, *options)
        first[first.index("--port") + 1] = "0"
        one = self.run_example(*first, *options).listening()
        second[second.index("--port") + 1] = "0"
        second[second.index("--peer") + 1] = f"{_HOST}:{one.port}"
        return one, self.run_example(*second, *options).listening()

    def assert_ends_well(self, *programs: Program) -> None:
        """Ctrl-C ends them in good order."""
        for program in programs:
            self.assertEqual(program.interrupt(), 0, program.lines)
            self.assertEqual(program.lines[-1], "left")
            self.assertNotIn("Traceback", "\n".join(program.lines))


class ScriptTests(ExampleTestCase):
    def test_chat(self) -> None:
        """What is typed at one node is printed at the other, both ways."""
        for options in ((), ("--ssl",)):
            one, other = self.pair("script.py", "--name", "ann", *options)
            other.expect("^connected to ")
            one.type("is anybody there?")
            other.expect(r"^ann: is anybody there\?$")
            other.type("yes, me")
            one.expect("^ann: yes, me$")
            self.assert_ends_well(other, one)

    def test_end_of_input(self) -> None:
        """Ctrl-D ends it as well, and what was typed last still arrives."""
        one, other = self.pair("script.py")
        other.expect("^connected to ")
        other.type("bye")
        other.process.stdin.close()  # type: ignore[union-attr]
        self.assertEqual(other.end(), 0)
        one.expect("^somebody: bye$")
        self.assert_ends_well(one)


class AsyncioTests(ExampleTestCase):
    def test_questions_and_answers(self) -> None:
        """Each node hears the other's answers."""
        for options in ((), ("--ssl",)):
            one, other = self.pair("asyncio_app.py", "--every", "0.2", *options)
            other.expect("^connected to ")
            for program in (one, other):
                program.expect(r"^\w{8} says: fine$")
            self.assert_ends_well(other, one)


class EmbedTests(ExampleTestCase):
    def test_reports(self) -> None:
        """Each station hears the other's reports, and that its own are heard."""
        for options in ((), ("--ssl",)):
            one, other = self.pair("embed.py", "--every", "0.2", *options)
            for program in (one, other):
                program.expect(r"^station: -?\d+\.\d degrees$")
                program.expect("^station has heard$")
            self.assert_ends_well(other)
            one.expect("^a peer less: ")
            self.assert_ends_well(one)

    def test_a_peer_that_comes_later(self) -> None:
        """A station may be started before the one that it is to join by."""
        with socket.socket() as probe:
            probe.bind((_HOST, 0))
            port = str(probe.getsockname()[1])
        common = ("examples/embed.py", "--host", _HOST, "--every", "0.2")
        early = self.run_example(*common, "--port", "0", "--peer", f"{_HOST}:{port}").listening()
        late = self.run_example(*common, "--port", port, "--name", "late").listening()
        early.expect("^late has heard$")
        self.assert_ends_well(early, late)


class MistakeTests(ExampleTestCase):
    def test_a_busy_port(self) -> None:
        """A port that is taken ends each of them with one line and exit status 1."""
        with socket.socket() as taken:
            taken.bind((_HOST, 0))
            taken.listen()
            port = str(taken.getsockname()[1])
            for example in EXAMPLES:
                program = self.run_example(str(example), "--host", _HOST, "--port", port)
                self.assertEqual(program.end(), 1)
                self.assertEqual(len(program.lines), 1, program.lines)
                self.assertIn("in use", program.lines[0])

    def test_usage(self) -> None:
        """Each explains its options, and refuses a peer that is no address."""
        for example in EXAMPLES:
            program = self.run_example(str(example), "--help")
            self.assertEqual(program.end(), 0)
            self.assertIn("--peer", "\n".join(program.lines))
            program = self.run_example(str(example), "--peer", "nonsense")
            self.assertEqual(program.end(), 2)


class TutorialTests(ExampleTestCase):
    def test_the_tutorial_on_real_sockets(self) -> None:
        """All that the tutorial shows comes true with real sockets and threads."""
        program = self.run_example("-m", "tests.docs.live", "docs/index.rst", "docs/tutorial.rst")
        status = program.end(3 * PATIENCE)
        self.assertEqual(status, 0, "\n".join(program.lines))
