"""
``py2p demo`` as people run it: real processes, real nodes, real terminals.

Every run has a limit of its own. What is drawn on a pseudo terminal goes through the toy
terminal of ``tests.cli``, so that a test sees what a reader would.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import select
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.cli.screen import ToyTerminal

try:
    import fcntl
    import pty
    import resource
    import struct
    import termios
except ImportError as error:  # Windows
    raise SkipTest("the tests of the demo need POSIX") from error

ROOT = Path(__file__).resolve().parents[2]

#: Seconds that anything may take before a test fails.
PATIENCE = 60.0

_COMMAND = [sys.executable, "-m", "py2p_twisted"]
_DEMO = [*_COMMAND, "demo"]
_TWIST = ["-m", "twisted"]
_VERDICT = re.compile(
    r"verdict: PASS, (\d+) of (\d+) deliveries, 0 duplicates shown, worst latency (\d+\.\d) ms$"
)
#: What all processes of a test's demo are known by: they inherit it.
_MARK = "PY2P_DEMO_TEST"

#: The line after which processes are started.
_STARTING = "start: starting"

_RECEIPT = re.compile(r" (n\d+) at (127\.0\.0\.1:\d+) has it after +(\d+\.\d) ms, from (n\d+)$")


class Ended(NamedTuple):
    """What has come of a process."""

    stdout: str
    stderr: str
    returncode: int


def environment(**more: str) -> dict[str, str]:
    """Ours, but for what this terminal is like, and how Python writes."""
    search = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    ours = {
        key: value
        for key, value in os.environ.items()
        if key not in ("NO_COLOR", "COLUMNS", "LINES", "PYTHONUNBUFFERED")
    }
    return {**ours, "PYTHONPATH": search, "TERM": "xterm", **more}


def run(*commands: Sequence[str], **how: Any) -> list[Ended]:
    """Run some commands to their end, all at once and without a terminal."""
    processes = []
    try:
        for command in commands:
            process = subprocess.Popen(
                command,
                **{
                    "cwd": ROOT,
                    "env": environment(),
                    "stdin": subprocess.DEVNULL,
                    "stdout": subprocess.PIPE,
                    "stderr": subprocess.PIPE,
                    "text": True,
                    **how,
                },
            )
            processes.append(process)
        return [
            Ended(*process.communicate(timeout=PATIENCE), process.returncode)
            for process in processes
        ]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def demo(*options: str, **how: Any) -> Ended:
    """Run one demo to its end."""
    (ended,) = run([*_DEMO, *options], **how)
    return ended


class DemoTestCase(SynchronousTestCase):
    def popen(
        self, *options: str, env: dict[str, str] | None = None, **how: Any
    ) -> subprocess.Popen[str]:
        """Start a demo that will be gone when the test ends."""
        process = subprocess.Popen(
            [*_DEMO, *options],
            cwd=ROOT,
            env=env or environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **how,
        )

        def end() -> None:
            process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                assert stream is not None
                stream.close()

        self.addCleanup(end)
        return process

    def line(self, process: subprocess.Popen[str], word: str) -> str:
        """Read on to the line with this word."""
        assert process.stdout is not None
        # A demo that says nothing more is ended, which ends the reading.
        alarm = signal.signal(signal.SIGALRM, lambda number, frame: process.kill())
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)
        try:
            for line in process.stdout:
                if word in line:
                    return line
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, alarm)
        raise AssertionError(f"no line with {word!r} has come")


class LinesTests(DemoTestCase):
    def check(self, nodes: int, *options: str, over: str = "TCP") -> list[str]:
        """Run it; what it says must be true, and complete."""
        done = demo(*options)
        if (done.returncode, done.stderr) != (0, ""):
            self.fail(f"{done.returncode}: {done.stderr}{done.stdout[-2000:]}")
        lines = done.stdout.splitlines()
        self.assertIn(f"py2p demo: {nodes} nodes over {over} on 127.0.0.1", lines[0])

        dropped = min(2, nodes - 2)
        receipts = [found for found in map(_RECEIPT.search, lines) if found]
        first, second = receipts[: nodes - 1], receipts[nodes - 1 :]
        self.assertEqual(len({found[1] for found in first}), nodes - 1)
        self.assertEqual(len({found[1] for found in second}), nodes - dropped - 1)
        self.assertEqual(len(second), nodes - dropped - 1)
        # Every node has an address of its own.
        addresses = {found[1]: found[2] for found in receipts}
        self.assertEqual(len(set(addresses.values())), len(addresses))

        (gone,) = [line for line in lines if "drop: cutting off" in line]
        names = re.findall(r"n\d+", gone)
        self.assertEqual(len(names), dropped)
        self.assertFalse({found[1] for found in second} & set(names))
        self.assertFalse({found[4] for found in second} & set(names))

        found = _VERDICT.search(lines[-1])
        assert found, lines[-1]
        self.assertEqual(int(found[1]), len(receipts))
        self.assertEqual(int(found[2]), len(receipts))
        self.assertEqual(float(found[3]), max(float(found[3]) for found in receipts))
        return lines

    def test_twelve_nodes(self) -> None:
        """Every receipt has its line, and the last line counts them."""
        lines = self.check(12)
        titles = re.findall(r"^ +\d+\.\d\d s  (\w+): ", "\n".join(lines), re.MULTILINE)
        self.assertEqual(
            list(dict.fromkeys(titles)), ["start", "join", "broadcast", "drop", "heal", "verdict"]
        )
        (healed,) = [line for line in lines if re.search(r"heal: \d+ links, ", line)]
        self.assertRegex(healed, r"after \d+\.\d\d s$")

    def test_the_fewest(self) -> None:
        self.check(3, "--nodes", "3")

    def test_tls(self) -> None:
        self.check(6, "--nodes", "6", "--tls", over="TLS")

    def test_tls_on_the_wire(self) -> None:
        """The nodes speak it, and only if they are asked to."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        for options, speaks in ((["--tls"], True), ([], False)):
            process = self.popen("--nodes", "3", *options)
            port = int(self.line(process, "join: joining").rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port), PATIENCE) as plain:
                try:
                    with context.wrap_socket(plain) as wrapped:
                        answer = str(wrapped.version()).startswith("TLS")
                except OSError:
                    answer = False
            self.assertIs(answer, speaks)

    def test_a_seed_repeats_who_is_dropped(self) -> None:
        """And who sends."""

        command = [*_DEMO, "--nodes", "9", "--json", "--seed", "42"]
        chosen = [
            [*told["healing"]["dropped"][1:], told["broadcasts"][1]["from"]]
            for told in (json.loads(ended.stdout) for ended in run(command, command))
        ]
        self.assertEqual(chosen[0], chosen[1])


class JsonTests(DemoTestCase):
    def test_counts_are_consistent(self) -> None:
        """Each number is the sum of what stands below it."""
        done = demo("--json", "--nodes", "12", "--tls")
        self.assertEqual(done.returncode, 0, done.stderr)
        # For people as well.
        self.assertTrue(done.stdout.startswith("{\n"))
        told = json.loads(done.stdout)
        self.assertEqual((told["ok"], told["problem"], told["duplicates"]), (True, None, 0))
        self.assertEqual(told["transport"], "TLS")

        states = {node["node"]: node["state"] for node in told["nodes"]}
        dropped = {name for name, state in states.items() if state == "dropped"}
        self.assertEqual((len(states), len(dropped)), (12, 2))
        self.assertEqual(dropped, set(told["healing"]["dropped"]))
        for node in told["nodes"]:
            self.assertTrue(node["peers"] >= 4 or node["node"] in dropped, node)
        self.assertEqual(len({node["address"] for node in told["nodes"]}), 12)

        healing = told["healing"]
        self.assertTrue(healing["links_after_drop"] < healing["links_before"])
        self.assertTrue(healing["links_after_drop"] < healing["links_healed"])
        self.assertTrue(0 < healing["seconds"] < told["seconds"])

        receivers = [set(states), set(states) - dropped]
        for sent, there in zip(told["broadcasts"], receivers, strict=True):
            names = [receipt["node"] for receipt in sent["receipts"]]
            self.assertEqual(sorted(names), sorted(there - {sent["from"]}))
            self.assertEqual((sent["got"], sent["expected"]), (len(names), len(names)))
            self.assertEqual((sent["missing"], sent["duplicates"]), ([], 0))
            for receipt in sent["receipts"]:
                self.assertIn(receipt["via"], there - {receipt["node"]})
        both = [receipt for sent in told["broadcasts"] for receipt in sent["receipts"]]
        self.assertEqual(told["deliveries"], {"got": len(both), "expected": len(both)})
        self.assertEqual(told["worst_ms"], max(receipt["ms"] for receipt in both))
        self.assertTrue(all(receipt["ms"] > 0 for receipt in both))

        # Progress goes beside it, and comes to the same.
        verdict = _VERDICT.search(done.stderr.splitlines()[-1])
        assert verdict, done.stderr
        self.assertEqual(int(verdict[1]), len(both))

    def test_the_reader_of_progress_goes(self) -> None:
        """Then the demo ends, without a traceback anywhere."""
        process = self.popen("--json", "--nodes", "3")
        assert process.stderr is not None
        assert process.stdout is not None
        process.stderr.readline()
        process.stderr.close()
        self.assertEqual(process.wait(PATIENCE), 1)
        self.assertEqual(process.stdout.read(), "")


class ReaderTests(DemoTestCase):
    """Somebody who reads along, or does not."""

    def test_head(self) -> None:
        """A pipe that is closed early ends the demo quietly, and soon."""
        process = self.popen("--nodes", "12")
        assert process.stdout is not None
        assert process.stderr is not None
        self.assertIn("py2p demo: 12 nodes", process.stdout.readline())
        process.stdout.close()
        self.assertEqual(process.wait(PATIENCE), 1)
        self.assertEqual(process.stderr.read(), "")

    def test_a_real_head(self) -> None:
        """As it is typed."""
        (done,) = run(["/bin/sh", "-c", '"$@" --nodes 3 | head -1', "sh", *_DEMO])
        self.assertEqual((done.stdout.count("\n"), done.stderr), (1, ""))

    def test_the_reader_goes_before_the_json(self) -> None:
        """Nobody gets it, so that was no success."""
        process = self.popen("--json", "--nodes", "3")
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        self.assertEqual(process.wait(PATIENCE), 1)
        self.assertIn("verdict: PASS", process.stderr.read().splitlines()[-1])

    def test_closed_streams(self) -> None:
        """Whoever closes standard output wants the exit code."""
        closing = [
            ["/bin/sh", "-c", f'exec "$@" --nodes 3 {closed}', "sh", *_DEMO]
            for closed in (">&-", "<&- >&- 2>&-")
        ]
        self.assertEqual(run(*closing), [Ended("", "", 0)] * 2)

    def test_a_full_disk(self) -> None:
        """One line says so."""
        if not os.path.exists("/dev/full"):
            raise SkipTest("no /dev/full here")
        short = [*_DEMO, "--nodes", "3"]
        with open("/dev/full", "w") as full:
            for done in run(short, [*short, "--json"], stdout=full):
                self.assertEqual(done.returncode, 1)
                self.assertEqual(done.stderr.splitlines()[-1], "py2p demo: No space left on device")
                self.assertNotIn("Traceback", done.stderr)


class SignalTests(DemoTestCase):
    def check(self, number: signal.Signals, code: int, word: str, *moments: str) -> None:
        """It ends at once, whatever it has just said."""
        for moment in moments:
            process = self.popen()
            assert process.stdout is not None
            assert process.stderr is not None
            self.line(process, moment)
            process.send_signal(number)
            self.assertEqual(process.wait(PATIENCE), code, moment)
            self.assertNotIn("the storm has passed", process.stdout.read(), moment)
            self.assertEqual(process.stderr.read(), f"py2p demo: {word}\n", moment)

    def test_sigint(self) -> None:
        self.check(
            signal.SIGINT, 130, "interrupted", "in one process", "join: joining", "heal: waiting"
        )

    def test_sigterm(self) -> None:
        """Before there is a handler a process just dies of it: for a shell that is 143 as well."""
        process = self.popen()
        process.terminate()
        self.assertIn(process.wait(PATIENCE), (-signal.SIGTERM, 143))
        self.check(signal.SIGTERM, 143, "terminated", "join: joining", "heal: waiting")

    def test_impatience(self) -> None:
        """Two signals are no more than one, and no traceback."""
        process = self.popen()
        assert process.stderr is not None
        self.line(process, "heal: waiting")
        for _ in range(3):
            process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(PATIENCE), 130)
        self.assertEqual(process.stderr.read(), "py2p demo: interrupted\n")


class ProcessesTests(DemoTestCase):
    """
    ``--processes``: the nodes are real ``twist py2p`` processes.

    Whatever happens to the demo, none of them may outlive it.
    """

    if not os.path.exists("/proc/self/environ"):
        skip = "processes are found in /proc"

    def setUp(self) -> None:
        mark = f"{_MARK}={secrets.token_hex(8)}"
        self.mark = mark.encode("ascii")
        self.environment = environment(**dict([mark.split("=")]))
        self.addCleanup(self.kill_all)

    def all(self) -> dict[int, list[str]]:
        """The demo and all processes that come from it: their numbers and arguments."""
        found = {}
        for place in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark in (place / "environ").read_bytes().split(b"\0"):
                    line = (place / "cmdline").read_bytes().decode("utf-8", "replace")
                    found[int(place.name)] = line.split("\0")[:-1]
            except OSError:
                pass  # it has ended meanwhile, or is another user's
        return found

    def nodes(self) -> dict[int, list[str]]:
        """The nodes among them."""
        return {number: line for number, line in self.all().items() if line[1:4] == ["-P", *_TWIST]}

    def kill_all(self) -> None:
        """For a test that has failed."""
        for number in self.all():
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)

    def some_start(self) -> None:
        """Wait until there are some."""
        until = time.monotonic() + PATIENCE
        while len(self.nodes()) < 2:
            assert time.monotonic() < until, "none has started"
            time.sleep(0.02)

    def nobody_is_left(self, moment: str) -> None:
        """All of them end."""
        left = None
        until = time.monotonic() + PATIENCE
        while left != {} and time.monotonic() < until:
            time.sleep(0.02)
            left = self.all()
        self.assertEqual(left, {}, moment)

    def start(self, *options: str, **how: Any) -> subprocess.Popen[str]:
        """Start a demo with processes."""
        return self.popen("--processes", *options, env=self.environment, **how)

    def test_eight_processes(self) -> None:
        """All that is said is true; two are gone in the end, of kill -9."""
        process = self.start()
        assert process.stdout is not None
        assert process.stderr is not None
        self.assertRegex(
            process.stdout.readline(),
            r"py2p demo: 8 processes of twist py2p over TCP on 127\.0\.0\.1 \(--seed \d+\)$",
        )
        self.assertIn("includes the start of a program", process.stdout.readline())
        lines = [self.line(process, "join: joining")]
        there = self.nodes()
        self.assertEqual(len(there), 8)
        joins = [[word for word in line if word.startswith("--join=")] for line in there.values()]
        where = lines[0].rpartition(" ")[2].strip()
        self.assertEqual(sorted(joins), [[], *[[f"--join={where}"]] * 7])
        lines.append(self.line(process, "drop: kill -9 "))
        names = re.findall(r"n\d+", lines[-1])
        self.line(process, " a node, ")
        left = self.nodes()
        self.assertEqual(len(left), 6)
        self.assertTrue(left.keys() < there.keys())
        rest = process.stdout.read().splitlines()
        self.assertEqual((process.wait(PATIENCE), process.stderr.read()), (0, ""), rest)
        receipts = [found for found in map(_RECEIPT.search, rest) if found]
        self.assertEqual(len({found[1] for found in receipts}), 5)
        self.assertEqual(len(receipts), 5)
        self.assertFalse({found[1] for found in receipts} & set(names))
        verdict = _VERDICT.search(rest[-1])
        assert verdict, rest[-1]
        self.assertEqual(verdict.groups()[:2], ("12", "12"))
        self.nobody_is_left("the end")

    def test_json(self) -> None:
        """With TLS; and what comes in is counted, as far as logs tell."""
        done = demo("--processes", "--nodes", "5", "--tls", "--json", env=self.environment)
        self.assertEqual(done.returncode, 0, done.stderr)
        told = json.loads(done.stdout)
        self.assertEqual((told["ok"], told["processes"], told["transport"]), (True, True, "TLS"))
        self.assertEqual(told["deliveries"], {"got": 6, "expected": 6})
        states = [node["state"] for node in told["nodes"]]
        self.assertEqual(states.count("dropped"), 2)
        # Everybody is linked with everybody: each link brings a copy, or the first of them.
        first, second = told["broadcasts"]
        self.assertEqual(told["healing"]["links_before"], 10)
        self.assertEqual(first["copies_dropped_on_links"], 4 * 3)
        self.assertEqual(second["copies_dropped_on_links"], 2 * 1)
        neighbours = {node["node"] for node in told["nodes"]}
        for sent in (first, second):
            for receipt in sent["receipts"]:
                self.assertIn(receipt["via"], neighbours - {receipt["node"]})
                self.assertGreater(receipt["ms"], 0)
        self.nobody_is_left("the end")

    def check(
        self, number: signal.Signals, code: int, *moments: str, times: int = 1, told: str = ""
    ) -> None:
        """It ends by a signal, and all processes with it."""
        for moment in moments:
            process = self.start("--nodes", "4")
            assert process.stderr is not None
            self.line(process, moment)
            if moment == _STARTING:
                self.some_start()
            for _ in range(times):
                process.send_signal(number)
            self.assertEqual(process.wait(PATIENCE), code, moment)
            self.assertEqual(process.stderr.read(), told, moment)
            self.nobody_is_left(moment)

    def test_sigint(self) -> None:
        """Whatever it is at."""
        told = "py2p demo: interrupted\n"
        moments = ("processes of", _STARTING, "join: joining", "broadcast:", "heal: waiting")
        self.check(signal.SIGINT, 130, *moments, told=told)

    def test_impatience(self) -> None:
        """Of somebody who presses Ctrl-C again and again."""
        told = "py2p demo: interrupted\n"
        self.check(signal.SIGINT, 130, "join: joining", "heal: waiting", times=3, told=told)

    def test_sigterm(self) -> None:
        self.check(signal.SIGTERM, 143, "broadcast:", told="py2p demo: terminated\n")

    def test_killed_itself(self) -> None:
        """With -9, or by a signal that nobody expects: somebody cleans up."""
        self.check(signal.SIGKILL, -signal.SIGKILL, _STARTING, "heal: waiting")
        self.check(signal.SIGHUP, -signal.SIGHUP, "join: joining")

    def test_the_reader_goes(self) -> None:
        """A pipe that is closed ends the demo, and them."""
        process = self.start("--nodes", "3")
        assert process.stdout is not None
        self.line(process, "join: joining")
        process.stdout.close()
        self.assertEqual(process.wait(PATIENCE), 1)
        self.nobody_is_left("the pipe is closed")

    def test_somebody_else_kills_a_node(self) -> None:
        """Then the demo fails and says so; it does not wait for what cannot come."""
        process = self.start("--nodes", "6")
        assert process.stdout is not None
        self.line(process, "join: joining")
        os.kill(max(self.nodes()), signal.SIGKILL)
        rest = process.stdout.read()
        self.assertEqual(process.wait(PATIENCE), 1, rest)
        self.assertRegex(rest, r"NOT REACHED: n\d+ .*: twist py2p was ended by signal 9\n")
        self.assertIn("verdict: FAIL", rest.splitlines()[-1])
        self.nobody_is_left("the end")

    def test_processes_that_cannot_start(self) -> None:
        """What they have written to standard error says why."""
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        (folder / "msgpack.py").write_text("raise RuntimeError('no msgpack today')\n")
        # The demo itself imports it as well, but from where it is.
        search = os.pathsep.join([str(folder), self.environment["PYTHONPATH"]])
        code = (
            "import sys, msgpack; from py2p_twisted import cli; "
            f"import os; os.environ['PYTHONPATH'] = {search!r}; sys.exit(cli.main())"
        )
        (done,) = run(
            [sys.executable, "-c", code, "demo", "--processes", "--nodes", "3"],
            env=self.environment,
        )
        self.assertEqual(done.returncode, 1, done)
        self.assertIn("NOT REACHED: n01 cannot listen: ", done.stdout)
        self.nobody_is_left("the end")


class UsageTests(DemoTestCase):
    def test_wrong_usage(self) -> None:
        """Exit code 2, one line, at once."""
        words = {
            "demo --nodes 1": "from 3 to 200",
            "demo --nodes x": "from 3 to 200",
            "demo --nodes 65 --processes": "from 3 to 64",
            "dmo": "'demo'",
            "": "COMMAND",
        }
        ends = run(*([*_COMMAND, *arguments.split()] for arguments in words))
        for done, word in zip(ends, words.values(), strict=True):
            self.assertEqual((done.returncode, done.stdout), (2, ""), done)
            self.assertEqual(done.stderr.count("\n"), 1, done)
            self.assertIn(word, done.stderr)

    def test_open_files(self) -> None:
        """A low limit is raised if that is allowed; if not, it says what to do."""

        def limit(soft: int, hard: int) -> Callable[[], None]:
            return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

        done = demo("--nodes", "12", preexec_fn=limit(64, 220))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        done = demo("--nodes", "12", preexec_fn=limit(64, 210))
        self.assertEqual(done.returncode, 1)
        self.assertEqual(
            done.stderr,
            "py2p demo: 12 nodes need about 220 open files and this system allows 210: "
            "raise the limit (ulimit -n) or try --nodes 11\n",
        )


class OnTerminal:
    """
    A demo on a pseudo terminal.

    :ivar terminal: what it looks like now.
    :ivar seen: what it has looked like, whenever something has changed.
    """

    def __init__(self, columns: int, lines: int, *options: str, **environ: str) -> None:
        self.terminal = ToyTerminal(columns, lines)
        self.seen: list[list[str]] = []
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process = subprocess.Popen(
            [*_DEMO, *options],
            cwd=ROOT,
            env=environment(**environ),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            # Without that, Ctrl-C on it would go to nobody.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._ours, keys)

    def watch(self, word: str | None = None) -> None:
        """
        Watch until this can be seen; without a word, until the demo has ended.

        :raises AssertionError: it has not come in time, or will not.
        """
        until = time.monotonic() + PATIENCE
        while word is None or not any(word in line for line in self.terminal.text):
            ready, _, _ = select.select([self._ours], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise AssertionError(f"nothing more comes: {self.terminal.text}")
            try:
                data = os.read(self._ours, 65536)
            except OSError:  # so Linux says that nobody writes any more
                data = b""
            if not data:
                if word is None:
                    return
                raise AssertionError(f"{word!r} has not come: {self.terminal.text}")
            self.terminal.write(data.decode("ascii"))
            self.seen.append(self.terminal.text)

    def end(self) -> int:
        """Watch to the end; the exit code."""
        self.watch()
        return self.process.wait(PATIENCE)

    @property
    def whole(self) -> list[str]:
        """All that can be seen, also by scrolling back."""
        return self.terminal.above + self.terminal.text

    def kill(self) -> None:
        """End it in any case."""
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


class TerminalTests(DemoTestCase):
    def start(self, columns: int, lines: int, *options: str, **environ: str) -> OnTerminal:
        """Start a demo on a terminal of that size."""
        running = OnTerminal(columns, lines, *options, **environ)
        self.addCleanup(running.kill)
        return running

    def check(self, running: OnTerminal, nodes: int) -> None:
        """The table can be seen while it goes on, and as a whole at the end."""
        terminal = running.terminal
        running.watch("..  heal")
        self.assertEqual(terminal.above, [])
        self.assertIn(f"{nodes} nodes over TCP", terminal.text[0])
        self.assertTrue(terminal.text[1].startswith("node "))
        self.assertTrue(terminal.text[2].startswith("n01 "))
        # Both may be among those that the screen has no lines for.
        self.assertRegex("\n".join(terminal.text), r" dropped|more nodes: ")
        self.assertFalse(terminal.cursor)

        self.assertEqual(running.end(), 0)
        self.assertTrue(terminal.cursor)
        self.assertEqual(terminal.wraps, 0)
        self.assertTrue(max(map(len, running.whole)) < terminal.columns)
        # Drawn in place: each line is there once, also in what has been scrolled away.
        titles = [line for line in running.whole if f"{nodes} nodes over TCP" in line]
        self.assertEqual(len(titles), 1)
        rows = [line for line in running.whole if re.match(r"n\d+ ", line)]
        self.assertEqual(len({row.split()[0] for row in rows}), nodes)
        self.assertEqual(len(rows), nodes)
        self.assertEqual(sum(row.endswith(" dropped") for row in rows), 2)
        # Two senders; two that were gone before the second; the others have both.
        self.assertEqual(sum(row.count("sent") for row in rows), 2)
        self.assertEqual(sum(len(re.findall(r"\d ms ", row)) for row in rows), 2 * nodes - 4)
        at = max(place for place, line in enumerate(running.whole) if "verdict:" in line)
        self.assertRegex(" ".join(running.whole[at:]), _VERDICT)

    def test_80_columns(self) -> None:
        """In colour, and all on one screen."""
        running = self.start(80, 24)
        self.check(running, 12)
        self.assertEqual(running.terminal.above, [])
        self.assertTrue(running.terminal.looks >= {"1", "2", "31", "32"})
        shown = [len([line for line in text if " via n" in line]) for text in running.seen]
        self.assertIn(0, shown)
        self.assertIn(11, shown)

    def test_60_columns(self) -> None:
        """Shorter, and the nodes that there is no room for are counted."""
        running = self.start(60, 20, NO_COLOR="1")
        self.check(running, 12)
        self.assertEqual(running.terminal.looks, set())
        self.assertTrue([text for text in running.seen if "... 2 more nodes:" in "\n".join(text)])

    def test_processes(self) -> None:
        """The same table; it says how they went, and how to read the latencies."""
        running = self.start(80, 24, "--processes")
        running.watch("..  heal")
        shown = running.terminal.text
        self.assertIn("8 processes over TCP", shown[0])
        self.assertEqual(len([line for line in shown if line.endswith("killed -9")]), 2)
        self.assertEqual(running.end(), 0)
        self.assertEqual((running.terminal.wraps, running.terminal.above), (0, []))
        self.assertIn("includes the start of a program", running.terminal.text[-2])
        self.assertRegex(running.terminal.text[-1], _VERDICT)

    def test_many_nodes(self) -> None:
        """More than the screen has lines; at the end each of them is shown."""
        self.check(self.start(80, 24, "--nodes", "40"), 40)

    def test_ctrl_c(self) -> None:
        """What has been drawn stays, with one line below, and the cursor is back."""
        for moment in ("..  join", "ok  broadcast"):
            running = self.start(80, 24)
            running.watch(moment)
            running.type(b"\x03")
            self.assertEqual(running.end(), 130)
            terminal = running.terminal
            self.assertTrue(terminal.cursor)
            self.assertEqual(terminal.text[-1], "py2p demo: interrupted")
            self.assertIn("12 nodes over TCP", terminal.text[0])
            self.assertNotIn("^C", "\n".join(terminal.text))

    def test_a_terminal_that_goes_away(self) -> None:
        """Its window was closed: the demo ends, of the signal or of what it cannot write."""
        running = self.start(80, 24)
        running.watch("..  join")
        os.close(running._ours)
        running._ours = os.open(os.devnull, os.O_RDONLY)
        self.assertIn(running.process.wait(PATIENCE), (-signal.SIGHUP, 1))

    def test_terminals_that_get_lines(self) -> None:
        """The dumb, and the tiny: in lines that the terminal may wrap."""
        both = [
            self.start(100, 24, "--nodes", "3", TERM="dumb"),
            self.start(30, 24, "--nodes", "3"),
        ]
        for running in both:
            self.assertEqual(running.end(), 0)
            self.assertTrue(running.terminal.cursor)
            self.assertEqual(running.terminal.looks, set())
            # Wherever the terminal has wrapped them.
            written = "".join("".join(running.whole).split())
            self.assertEqual(written.count("hasitafter"), 3)
            self.assertIn("verdict:PASS,3of3deliveries,0duplicatesshown,worstlatency", written)
