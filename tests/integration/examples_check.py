"""
The programs of examples/ as people start them, and the tutorial on real sockets.

Every program is run by the two commands that its docstring gives, except that the system chooses
the ports. All of them end with Ctrl-C, without a traceback and with exit status 0. The scripts of
examples/alerting are run as cron and a node run them, with a ``sendmail`` that keeps what it gets.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import queue
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[2]
ALERTING = ROOT / "examples/alerting"

#: The programs; what tests one of them has its own test.
EXAMPLES = sorted(
    path for path in (ROOT / "examples").glob("*.py") if not path.name.startswith("test_")
)

#: Seconds that anything may take before a test fails.
PATIENCE = 20.0

_HOST = "127.0.0.1"
_COMMAND = re.compile(r"^ +(python examples/\S+\.py .*)$", re.MULTILINE)


def commands(example: Path) -> list[list[str]]:
    """The commands that an example's docstring gives, as arguments."""
    return [shlex.split(line) for line in _COMMAND.findall(example.read_text(encoding="utf-8"))]


def surroundings(**variables: str) -> dict[str, str]:
    """Our environment, in which the package can be imported from anywhere."""
    search = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": search, **variables}


def free_port() -> int:
    """A port that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


class Program:
    """
    An example that runs, in a process of its own.

    :ivar lines: what it has printed so far.
    :ivar port: where it listens, once it has said so.
    """

    def __init__(self, *arguments: str, folder: Path = ROOT, **variables: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env=surroundings(**variables),
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
    def run_example(self, *arguments: str, **how: Any) -> Program:
        """Start an example that will be gone when the test ends."""
        program = Program(*arguments, **how)
        self.addCleanup(program.kill)
        return program

    def pair(self, name: str, *options: str) -> tuple[Program, Program]:
        """Run an example by its two commands, on ports that the system chooses."""
        first, second = (command[1:] for command in commands(ROOT / "examples" / name))
        options = ("--host", _HOST, *options)
        for command in (first, second):
            if "--web" in command:
                command[command.index("--web") + 1] = str(free_port())
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


class ChatTests(ExampleTestCase):
    def test_chat(self) -> None:
        """What is typed at one node is printed at the other, both ways."""
        for options in ((), ("--ssl",)):
            one, other = self.pair("chat.py", "--name", "ann", *options)
            other.expect("^connected to ")
            one.type("is anybody there?")
            other.expect(r"^ann: is anybody there\?$")
            other.type("yes, \x1b[31mme")
            one.expect(r"^ann: yes, \?\[31mme$")
            one.type("/who")
            one.expect("^\\* ann is here$")
            self.assert_ends_well(other, one)

    def test_end_of_input(self) -> None:
        """Ctrl-D ends it as well, and what was typed last still arrives."""
        one, other = self.pair("chat.py", "--name", "somebody")
        other.expect("^connected to ")
        other.type("bye")
        other.process.stdin.close()  # type: ignore[union-attr]
        self.assertEqual(other.end(), 0)
        one.expect("^somebody: bye$")
        self.assert_ends_well(one)


class SensorTests(ExampleTestCase):
    def test_readings(self) -> None:
        """The collector reports each sensor, and another one that comes later does, too."""
        collector, sensors = self.pair("sensors.py", "--every", "0.2")
        for name in ("kitchen", "roof"):
            collector.expect(rf"^'{name}': \d+ x -?\d+\.\d \.\. -?\d+\.\d \.\. -?\d+\.\d$")
        peer = f"{_HOST}:{sensors.port}"
        common = ("examples/sensors.py", "--host", _HOST, "--port", "0", "--every", "0.2")
        late = self.run_example(*common, "--peer", peer).listening()
        late.expect("^'roof': ")
        self.assert_ends_well(sensors, collector, late)

    def test_a_collector_that_is_gone_for_a_moment(self) -> None:
        """Sensors wait for their collector, and what they measured without it arrives."""
        port = str(free_port())
        common = ("examples/sensors.py", "--host", _HOST, "--every", "0.2")
        sensor = self.run_example(
            *common, "--port", "0", "--sensor", "roof", "--peer", f"{_HOST}:{port}"
        ).listening()
        for _ in range(2):
            collector = self.run_example(*common, "--port", port).listening()
            collector.expect("^'roof': ")
            collector.kill()
        self.assert_ends_well(sensor)


class WebTests(ExampleTestCase):
    """The web server's port is looked for beforehand, as the program takes what it is given."""

    def start(self, *arguments: str) -> tuple[Program, int]:
        """One of them, and the port of its web server."""
        web = free_port()
        common = ("examples/web_app.py", "--host", _HOST, "--port", "0", "--web", str(web))
        return self.run_example(*common, *arguments).listening(), web

    def ask(self, port: int, method: str, path: str, *more: Any) -> http.client.HTTPResponse:
        """What it answers."""
        client = http.client.HTTPConnection(_HOST, port, timeout=PATIENCE)
        self.addCleanup(client.close)
        client.request(method, path, *more)
        answer = client.getresponse()
        self.addCleanup(answer.close)
        return answer

    def test_from_one_browser_to_the_others(self) -> None:
        """What is posted at one node is streamed at the other; who posts learns who has it."""
        one, web = self.start()
        other, there = self.start("--peer", f"{_HOST}:{one.port}")
        stream = self.ask(there, "GET", "/events")
        self.assertEqual(stream.getheader("content-type"), "text/event-stream")
        self.assertEqual(stream.readline(), b": here you are\n")
        # Until they have found each other there is nobody to tell.
        until = time.monotonic() + PATIENCE
        while True:
            answer = json.load(self.ask(web, "POST", "/notify", "lunch is ready ☃".encode()))
            if answer["told"] or time.monotonic() > until:
                break
        self.assertEqual(answer, {"told": 1, "missing": 0})
        while not (line := stream.readline()).startswith(b"data: "):
            self.assertTrue(line, "the stream has ended")
        self.assertEqual(json.loads(line[6:])["text"], "lunch is ready ☃")
        self.assert_ends_well(other, one)

    def test_refusals(self) -> None:
        """Too much, nothing, and other sites' pages are refused."""
        one, web = self.start()
        foreign = {"Origin": "http://example.com"}
        for body, headers, status in (
            (b"x" * 10_001, {}, 400), (b"", {}, 400), (b"x", foreign, 403),
        ):  # fmt: skip
            self.assertEqual(self.ask(web, "POST", "/notify", body, headers).status, status)
        self.assertEqual(self.ask(web, "GET", "/notify").status, 405)
        self.assert_ends_well(one)

    def test_a_busy_web_port(self) -> None:
        """The web server's port may be taken, too."""
        with socket.socket() as taken:
            taken.bind((_HOST, 0))
            taken.listen()
            web = str(taken.getsockname()[1])
            program = self.run_example(
                "examples/web_app.py", "--host", _HOST, "--port", "0", "--web", web
            )
            self.assertEqual(program.end(), 1)
        self.assertEqual(len(program.lines), 1, program.lines)
        self.assertIn("in use", program.lines[0])

    def test_twistd(self) -> None:
        """The same under twistd, from any folder, until SIGTERM."""
        folder = Path(self.mktemp()).resolve()
        folder.mkdir(parents=True)
        web = free_port()
        tac = ROOT / "examples/web_app.tac"
        program = self.run_example(
            *("-c", "from twisted.scripts.twistd import run; run()"),
            *("--nodaemon", "--pidfile=", f"--python={tac}"),
            folder=folder, PORT="0", PEERS=f"{_HOST}:{free_port()}", WEB=f"tcp:{web}:interface={_HOST}",
        )  # fmt: skip
        program.expect("Site starting on")
        self.assertEqual(self.ask(web, "POST", "/notify", b"").status, 400)
        program.process.terminate()
        program.end()
        self.assertNotIn("Traceback", "\n".join(program.lines))


class MyAppTests(ExampleTestCase):
    def test_watch(self) -> None:
        """Each sees the other."""
        one, other = self.pair("my_app.py")
        one.expect("^ben is here$")
        other.expect("^ann is here$")
        self.assert_ends_well(other, one)

    def test_its_tests(self) -> None:
        """They are run by the command that they give, and pass."""
        text = (ROOT / "examples/test_my_app.py").read_text(encoding="utf-8")
        self.assertIn("    cd examples && python -m twisted.trial test_my_app\n", text)
        program = self.run_example(
            *("-m", "twisted.trial", "--temp-directory", os.path.abspath(self.mktemp()), "test_my_app"),
            folder=ROOT / "examples", PYTHONDONTWRITEBYTECODE="1",
        )  # fmt: skip
        self.assertEqual(program.end(), 0, program.lines)
        self.assertRegex(program.lines[-1], r"^PASSED \(successes=\d+\)$")


class AlertTests(ExampleTestCase):
    """Cron's side, the receiver's side, and both at the two ends of a network."""

    def setUp(self) -> None:
        """A folder with what these scripts find on the path: ``py2p`` and ``sendmail``."""
        folder = tempfile.TemporaryDirectory(prefix="py2p-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.mails = self.folder / "mails"
        for name, line in (
            ("py2p", f'exec "{sys.executable}" -m py2p_twisted "$@"'),
            ("sendmail", f'cat >> "{self.mails}"'),
        ):
            script = self.folder / name
            script.write_text(f"#!/bin/sh\n{line}\n")
            script.chmod(0o700)
        self.variables = {
            "PATH": f"{self.folder}{os.pathsep}{os.environ['PATH']}",
            "ALERTS": str(self.folder),
            "MAIL_TO": "root",
        }

    def received(self, *packets: Any, **variables: str) -> subprocess.CompletedProcess[str]:
        """Have the receiver's script deal with a message, as a node does."""
        return subprocess.run(
            [sys.executable, str(ALERTING / "on_alert.py")],
            input=json.dumps(packets), text=True, capture_output=True, timeout=PATIENCE,
            env=surroundings(**{**self.variables, **variables}), check=False,
        )  # fmt: skip

    def check(self, way: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Look at a file system that is full by definition, as cron does."""
        return subprocess.run(
            ["/bin/sh", str(ALERTING / "check_disk.sh"), "/"],
            text=True, capture_output=True, timeout=PATIENCE, check=False,
            env=surroundings(**{**self.variables, "PY2P": way, "LIMIT": "0", **variables}),
        )  # fmt: skip

    def subjects(self) -> list[str]:
        """What has been mailed."""
        if not self.mails.exists():
            return []
        return re.findall("^Subject: (.*)$", self.mails.read_text(), re.M)

    def test_each_once(self) -> None:
        """An alert that is repeated is logged each time, and mailed once, until time has passed."""
        for text in ("97% full", "98% full", "99% full"):
            self.assertEqual(self.received("alert", "db1", "disk /", text).returncode, 0)
        self.received("alert", "db2", "disk /", "91% full")
        self.assertEqual(self.subjects(), ["db1: disk /: 97% full", "db2: disk /: 91% full"])
        self.assertEqual(len((self.folder / "alerts.log").read_text().splitlines()), 4)
        self.received("alert", "db1", "disk /", "99% full", REPEAT="0")
        again = "db1: disk /: 99% full (2 times since the last mail)"
        self.assertEqual(self.subjects()[2:], [again])

    def test_other_messages(self) -> None:
        """What is no alert is left alone, and no alert can write headers."""
        for packets in ((), ("chat", "ann", "hello"), ("alert", 1, 2, 3), ("alert", "x")):
            ended = self.received(*packets)
            self.assertEqual((ended.returncode, ended.stdout, ended.stderr), (0, "", ""))
        self.assertEqual(self.subjects(), [])
        self.received("alert", "db1", "x\nBcc: everybody", "y\r\n\r\nz" * 300)
        self.assertNotRegex(self.mails.read_text(), "(?m)^(Bcc|z)")
        self.assertLess(self.mails.stat().st_size, 2000)

    def test_the_mail_does_not_go(self) -> None:
        """That is told, with the alert, in one line; the next one is mailed."""
        (self.folder / "sendmail").write_text("#!/bin/sh\nexit 75\n")
        ended = self.received("alert", "db1", "disk /", "97% full")
        self.assertEqual(ended.returncode, 1)
        self.assertRegex(ended.stderr, r"^db1: disk /: 97% full: not mailed: .*75.*\n$")
        (self.folder / "sendmail").write_text(f'#!/bin/sh\ncat >> "{self.mails}"\n')
        self.received("alert", "db1", "disk /", "98% full")
        self.assertEqual(self.subjects(), ["db1: disk /: 98% full"])

    def test_all_is_well(self) -> None:
        """Nothing is printed, and no network is needed, while no disk is full."""
        ended = self.check("--join=127.0.0.1:1", LIMIT="101")
        self.assertEqual((ended.returncode, ended.stdout, ended.stderr), (0, "", ""))

    def test_from_one_end_to_the_other(self) -> None:
        """Through a node of this machine: silence when all have it, one mail for two alerts."""
        listen = f"--listen=tcp:0:interface={_HOST}"
        receiver, sender = self.folder / "receiver", self.folder / "sender"
        node = ("-m", "py2p_twisted", "node", listen, "--network=alerts", "--log-format=text")
        script = ALERTING / "on_alert.py"
        first = self.run_example(
            *node, f"--state-dir={receiver}", f"--exec={sys.executable} {script}", **self.variables
        )
        port = first.expect(r"listening on 127\.0\.0\.1:(\d+)")[1]
        second = self.run_example(*node, f"--state-dir={sender}", f"--join={_HOST}:{port}")
        second.expect("joined network alerts")
        for _ in range(2):
            ended = self.check(f"--control={sender}")
            self.assertEqual((ended.returncode, ended.stdout, ended.stderr), (0, "", ""))
        ended = self.check(f"--join={_HOST}:{port} --network=alerts")
        self.assertEqual((ended.returncode, ended.stderr), (0, ""), ended.stdout)
        until = time.monotonic() + PATIENCE
        log = self.folder / "alerts.log"
        while not log.exists() or len(log.read_text().splitlines()) < 3:
            self.assertLess(time.monotonic(), until, first.lines)
            time.sleep(0.1)
        self.assertEqual(len(self.subjects()), 1, self.subjects())
        self.assertRegex(self.subjects()[0], r": disk /: \d+% full$")
        for program in (second, first):
            self.assertEqual(program.interrupt(), 0)

    def test_nobody_is_there(self) -> None:
        """Cron is given the alert, the reason, and a status that is not 0."""
        ended = self.check(f"--join={_HOST}:{free_port()} --timeout=1")
        self.assertEqual(ended.returncode, 1)
        first, *_, last = ended.stdout.splitlines()
        self.assertRegex(first, r"^/ is \d+% full, and not everybody knows:$")
        self.assertIn("could not join", last)

    def test_the_files(self) -> None:
        """The node's file is one that a node takes; the crontab runs the script of this folder."""
        settings = tomllib.loads((ALERTING / "node.toml").read_text())
        self.assertEqual(settings["exec"].split()[-1], "/opt/py2p/alerting/on_alert.py")
        check = self.run_example(
            *("-m", "py2p_twisted", "node", "--check", f"--config={ALERTING / 'node.toml'}")
        )
        self.assertEqual(check.end(), 0, check.lines)
        (line,) = re.findall(r"^\*/5(?: \*){4} (.*)$", (ALERTING / "crontab").read_text(), re.M)
        self.assertEqual(line, "/opt/py2p/alerting/check_disk.sh")
        for script in ("check_disk.sh", "on_alert.py"):
            self.assertTrue(os.access(ALERTING / script, os.X_OK), script)


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
        port = str(free_port())
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
