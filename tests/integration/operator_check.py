"""
A node as its operator has it: processes of ``twist py2p`` and ``twistd py2p``, from a wheel that is
installed outside the tree, with real programs, logs, signals and mistakes.

Whatever has to be fast is said to be so by a bound that a busy machine keeps as well; what was
measured is printed at the end. Ports come from the system, all traffic stays on this machine.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest

from tests.integration import installed
from tests.integration.driver import HOST
from tests.integration.installed import PATIENCE, Running, new_folder, wait_until
from tests.integration.nodes import Process, ProcessTestCase

#: Seconds from SIGTERM to the end of a process.
STOP = 15.0

#: Seconds from the start of a node that is back to its place in the network.
BACK = 5.0

#: Seconds that nobody notices. Messages take thousandths.
AT_ONCE = 3.0

_JSON = "--log-format=json"

#: The number in a message that `Program.stamps` has sent, in a log of ``--debug-level=1``.
#: Neighbours with which a node is safely in: it seeks five.
ENOUGH = 3

_STAMP = re.compile(r"message received: .*payload=\(0, '(-?0x[0-9a-fp.+]+)'\)")

#: For ``--exec``: leaves its input and environment in a file, in the folder that it is told.
_KEEP = """
import json, os, sys
told = {name: value for name, value in os.environ.items() if name.startswith("PY2P_")}
path = os.path.join(sys.argv[1], told["PY2P_ID"])
with open(path + ".part", "w") as file:
    json.dump({"packets": json.loads(sys.stdin.read()), "environment": told}, file)
os.rename(path + ".part", path + ".json")
"""

#: For ``--exec``: leaves the times between which it has run, and ends as the message says.
_WORK = """
import json, os, sys, time
start = time.monotonic()
(status,) = json.loads(sys.stdin.read())
time.sleep(0.4)
with open(os.path.join(sys.argv[1], str(os.getpid()) + ".part"), "w") as file:
    json.dump([start, time.monotonic()], file)
os.rename(file.name, file.name.replace(".part", ".json"))
sys.exit(status)
"""

#: For ``--exec``: leaves its process id, and does not end. What the message says decides whether
#: it can be asked to.
_HANG = """
import json, os, signal, sys, time
if json.loads(sys.stdin.read()) == ["deaf"]:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(os.path.join(sys.argv[1], str(os.getpid())), "w").close()
time.sleep(600)
"""


def free_port(host: str = HOST) -> int:
    """A port that nobody uses at this moment, for a node that is to come back to it."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def need_ipv6() -> None:
    """Skip a test where there is no IPv6, not even on this machine's loopback."""
    try:
        free_port("::1")
    except OSError as error:
        raise SkipTest(f"this machine has no IPv6 loopback: {error.strerror}") from error


def drop_privilege() -> None:
    """Give up, for this process and its children, that root may listen on ports below 1024."""
    if os.geteuid() == 0:
        drop_from_bounding_set, net_bind_service = 24, 10  # as in linux/prctl.h, linux/capability.h
        ctypes.CDLL(None).prctl(drop_from_bounding_set, net_bind_service, 0, 0, 0)


def runs(pid: int) -> bool:
    """Whether there is such a process. A dead one that nobody has buried does not count."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


class Node(Running):
    """
    A node in a process of its own, which logs JSON to standard output.

    :ivar port: where it listens, once it does.
    :ivar id: its id.
    """

    def __init__(
        self,
        *options: str,
        listen: str = f"tcp:0:interface={HOST}",
        runner: tuple[str, ...] = ("twist", _JSON),
        folder: Path | None = None,
        variables: dict[str, str] | None = None,
    ) -> None:
        self.port, self.id = 0, ""
        program, *before = runner
        command = [installed.installed().program(program), *before, "py2p", f"--listen={listen}"]
        super().__init__([*command, *options], folder, variables)

    @property
    def address(self) -> str:
        """What others may give as ``--join``."""
        return f"{HOST}:{self.port}"

    def events(self, name: str) -> list[dict[str, Any]]:
        """What it has logged of one kind."""
        return [record for record in self.records if record.get("event") == name]

    def expect(self, name: str, timeout: float = PATIENCE, **fields: str) -> dict[str, Any]:
        """
        Wait until it logs an event.

        :param fields: the text of a field, or its beginning.
        :return: the first such event.
        """

        def look() -> dict[str, Any] | None:
            for event in self.events(name):
                if all(str(event.get(key)).startswith(text) for key, text in fields.items()):
                    return event
            return None

        found: dict[str, Any] = wait_until(
            look, f"{name!r} {fields or ''}", timeout, details=lambda: self.printed
        )
        return found

    def listening(self) -> Node:
        """Wait until it listens."""
        told = self.expect("listening")
        self.port, self.id = int(told["listening"].rpartition(":")[2]), told["node"]
        return self

    def stamps(self) -> list[float]:
        """The stamps of the messages that it has got so far, as it logs them; see `_STAMP`."""
        found = (_STAMP.match(record.get("text") or "") for record in self.records)
        return [float.fromhex(match[1]) for match in found if match]


class OperatorTestCase(ProcessTestCase):
    """
    Tests that run the installed programs. At the end all of them are gone, and none of them has
    printed a traceback.
    """

    def setUp(self) -> None:
        super().setUp()
        installed.installed()
        self.programs: list[Running] = []

    def tearDown(self) -> None:
        for program in self.programs:
            program.kill()
        super().tearDown()
        for program in self.programs:
            self.assertNotIn("Traceback", program.printed)

    def start(self, *options: str, **how: Any) -> Node:
        """Start a node that will be gone when the test ends; `Node.listening` waits for it."""
        node = Node(*options, **how)
        self.programs.append(node)
        return node

    def listener(self, *arguments: str) -> Running:
        """Start ``py2p listen``."""
        program = Running([installed.installed().program("py2p"), "listen", *arguments])
        self.programs.append(program)
        return program

    def background(self, node: Node, folder: Path) -> int:
        """
        Wait for a ``twistd`` that puts a node into the background. It will be gone at the end.

        :return: the node's process id.
        """
        self.assertEqual(node.wait(), 0, node.printed)
        self.assertEqual(node.printed, "")
        path = folder / "twistd.pid"
        pid = int(wait_until(lambda: path.exists() and path.read_text(), "the pid file"))

        def end() -> None:
            if runs(pid):
                os.kill(pid, signal.SIGKILL)

        self.addCleanup(end)
        return pid

    def sender(self, *nodes: Node, **options: Any) -> Process:
        """Somebody who sends: a neighbour of these nodes, and of no others."""
        (process,) = self.spawn(1, max_outgoing=0, **options)
        for node in nodes:
            process.ask("connect", port=node.port)
            node.expect("peer up", peer=process.id.decode())
        return process

    def program(self, source: str, folder: Path) -> str:
        """
        A program for ``--exec``, with a folder to leave things in.

        :return: the option.
        """
        path = new_folder("program") / "program.py"
        path.write_text(source)

        def end() -> None:
            # Of those that leave their number: a test that has failed may leave them running.
            for left in folder.iterdir():
                if left.name.isdecimal() and runs(int(left.name)):
                    os.kill(int(left.name), signal.SIGKILL)

        self.addCleanup(end)
        python = installed.installed().program("python")
        return "--exec=" + shlex.join([str(python), "-I", str(path), str(folder)])

    def left(self, folder: Path, count: int, suffix: str = ".json") -> list[Path]:
        """Wait until a program has left so many files."""

        def look() -> list[Path] | None:
            paths = sorted(folder.glob(f"*{suffix}"))
            return paths if len(paths) >= count else None

        found: list[Path] = wait_until(
            look,
            f"{count} files, there are {os.listdir(folder)}",
            details=lambda: "\n".join(program.printed for program in self.programs),
        )
        return found

    def run_py2p(
        self, runner: tuple[str, ...], *options: str, **how: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a node that is to end by itself."""
        name, *before = runner
        return installed.installed().run(name, *before, "py2p", *options, **how)


class OutsideTests(OperatorTestCase):
    """What is tested is what is installed."""

    def test_nothing_comes_from_the_tree(self) -> None:
        """The programs below see the package that pip has installed, and no other."""
        environment = installed.installed()
        source = "import sys, py2p_twisted; print(py2p_twisted.__file__, *sys.path, sep='\\n')"
        package, *path = environment.python(source).splitlines()
        self.assertTrue(Path(package).is_relative_to(environment.packages), package)
        # The empty entry is the folder that it is run in.
        for entry in filter(None, path):
            self.assertFalse(Path(entry).resolve().is_relative_to(installed.PROJECT), entry)


class MessageTests(OperatorTestCase):
    """Two nodes, the second of which joins the first."""

    def test_a_message_reaches_a_program(self) -> None:
        """--exec runs a program: it reads the packets, and in its environment who sent them."""
        folder = new_folder("kept")
        first = self.start().listening()
        second = self.start(
            f"--join={first.address}", self.program(_KEEP, folder), "--limit=max_outgoing=0"
        ).listening()
        second.expect("joined")
        sender = self.sender(first)
        now = time.time()
        sender.ask("send", packets=["storm", 7, b"\0\xff", {"north": [1.5, None]}, "Zoë\n"])
        (path,) = self.left(folder, 1)
        told = json.loads(path.read_text())
        self.assertEqual(
            told["packets"],
            ["storm", 7, {"$base64": "AP8="}, {"north": [1.5, None]}, "Zoë\n"],
        )
        environment = told["environment"]
        self.assertLess(abs(int(environment.pop("PY2P_TIME")) - now), PATIENCE)
        self.assertRegex(environment.pop("PY2P_ID"), "^[0-9a-f]{64}$")
        self.assertEqual(
            environment,
            {
                "PY2P_SENDER": sender.id.decode(),
                "PY2P_VIA": first.id,
                "PY2P_TYPE": "0",
                "PY2P_NETWORK": "mesh",
                "PY2P_NODE": second.id,
            },
        )

    def test_the_commands(self) -> None:
        """What py2p send sends is what py2p listen prints, and what a program gets."""
        folder = new_folder("kept")
        first = self.start().listening()
        second = self.start(f"--join={first.address}", self.program(_KEEP, folder)).listening()
        second.expect("joined")
        listener = self.listener(f"--join={first.address}", "--count=1", "--json")
        wait_until(
            lambda: len(first.events("peer up")) >= 2,
            "the listener to join",
            details=lambda: listener.printed,
        )
        send = ("send", f"--join={second.address}", "storm", "north")
        sent = installed.installed().run("py2p", *send)
        self.assertEqual((sent.returncode, sent.stderr), (0, ""))
        self.assertEqual(listener.wait(), 0, listener.printed)
        (told,) = installed.records(listener.out)
        self.assertEqual(told["packets"], ["storm", "north"])
        (path,) = self.left(folder, 1)
        self.assertEqual(json.loads(path.read_text())["packets"], ["storm", "north"])

    def test_tls(self) -> None:
        """With --tls they talk as well; who speaks plain text is refused, and both say so."""
        folder = new_folder("kept")
        first = self.start("--tls").listening()
        join = f"--join={first.address}"
        second = self.start("--tls", join, self.program(_KEEP, folder)).listening()
        second.expect("joined")
        self.sender(first, encryption="SSL").ask("send", packets=["secret"])
        (path,) = self.left(folder, 1)
        self.assertEqual(json.loads(path.read_text())["packets"], ["secret"])
        plain = self.start(join).listening()
        plain.expect("no connection")
        first.expect("refused")
        self.assertEqual(plain.events("joined"), [])


class ListenTests(OperatorTestCase):
    """Where a node listens, and how it finds another."""

    def test_both_families(self) -> None:
        """A node listens on IPv4 and IPv6 at once, and is joined over either."""
        need_ipv6()
        # The same port twice cannot be chosen by the system.
        port = next(port for port in iter(free_port, 0) if self._is_free_on_ipv6(port))
        node = self.start(
            rf"--listen=tcp6:{port}:interface=\:\:1", listen=f"tcp:{port}:interface={HOST}"
        )
        told = node.expect("listening")
        self.assertEqual(told["listening"], f"{HOST}:{port}, [::1]:{port}")
        for address in (f"[::1]:{port}", f"{HOST}:{port}"):
            other = self.start(f"--join={address}").listening()
            other.expect("peer up", peer=told["node"], where=address)
            self.assertEqual(other.terminate(), -signal.SIGTERM)

    def _is_free_on_ipv6(self, port: int) -> bool:
        with socket.socket(socket.AF_INET6) as probe, contextlib.suppress(OSError):
            probe.bind(("::1", port))
            return True
        return False

    def test_a_peer_that_is_not_up_yet(self) -> None:
        """A node may be started before the one that it is to join: it tries again and again."""
        port = free_port()
        early = self.start(f"--join={HOST}:{port}").listening()
        early.expect("no connection", error="")
        # Long enough that the second attempt fails as well.
        time.sleep(2.5)
        late = self.start(listen=f"tcp:{port}:interface={HOST}").listening()
        joined = early.expect("joined", timeout=2 * PATIENCE)
        late.expect("peer up", peer=early.id)
        self.note(f"joined {joined['log_time'] - late.began:.1f} s after the other was started")


class BackgroundTests(OperatorTestCase):
    """twistd in the background."""

    def test_it_comes_and_goes(self) -> None:
        """
        It writes its process id and its log, does its work, and on SIGTERM it tells its peers
        before it leaves, in the midst of traffic, and takes the process id away.
        """
        folder = new_folder("twistd")
        first = self.start("--debug-level=1").listening()
        node = self.start(
            f"--join={first.address}", "--debug-level=1", runner=("twistd",), folder=folder
        )
        pid = self.background(node, folder)
        first.expect("peer up")
        log = folder / "twistd.log"
        sender = self.sender(first)
        sender.ask("begin", task="stamps", rate=50, seconds=4.0)
        wait_until(lambda: log.read_text().count("message received: ") > 50, "messages to arrive")

        began = time.monotonic()
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not runs(pid), "its end", STOP)
        took = time.monotonic() - began
        self.assertFalse((folder / "twistd.pid").exists())
        text = log.read_text()
        self.assertNotIn("Traceback", text)
        self.assertRegex(text, r"listening on 127\.0\.0\.1:\d+ in network mesh")
        self.assertIn(f"joined network mesh through {first.address}", text)
        self.assertRegex(text, r"stopping: \d+ peers are told")
        ident = first.events("peer up")[0]["peer"]
        down = first.expect("peer down", peer=ident)
        self.assertEqual(down["error"], "the peer closed the connection")
        sender.outcome("stamps")
        self.note(f"{took:.2f} s from SIGTERM to the end")

    def test_ctrl_c(self) -> None:
        """In front, Ctrl-C ends a node in the same good order, pressed once or twice."""
        first = self.start().listening()
        for times in (1, 2):
            node = self.start(f"--join={first.address}").listening()
            first.expect("peer up", peer=node.id)
            for _ in range(times):
                node.process.send_signal(signal.SIGINT)
            self.assertEqual(node.wait(STOP), -signal.SIGINT)
            down = first.expect("peer down", peer=node.id)
            self.assertEqual(down["error"], "the peer closed the connection")


class BusyPortTests(OperatorTestCase):
    """A port that cannot be had ends a node with one line that says what to do."""

    RUNNERS = (("twist",), ("twistd", "-n"), ("twistd",))

    def assert_one_line(self, listen: str, *words: str, **how: Any) -> None:
        """Each runner ends at once, with one line that has these words in it."""
        for runner in self.RUNNERS:
            folder = new_folder("busy")
            done = self.run_py2p(runner, f"--listen={listen}", cwd=folder, **how)
            self.assertGreater(done.returncode, 0, runner)
            self.assertEqual(len(done.stderr.splitlines()), 1, (runner, done.stderr))
            self.assertNotIn("Traceback", done.stdout)
            for word in words:
                self.assertIn(word, done.stderr, runner)
            self.assertFalse((folder / "twistd.pid").exists())

    @contextlib.contextmanager
    def taken(self, host: str) -> Iterator[int]:
        """A port that somebody listens on."""
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as owner:
            owner.bind((host, 0))
            owner.listen()
            yield owner.getsockname()[1]

    def test_ipv4(self) -> None:
        """It names the port, and the option that chooses another; in front and behind alike."""
        with self.taken(HOST) as port:
            for listen in (f"tcp:{port}:interface={HOST}", f"tcp:{port}"):
                self.assert_one_line(listen, f"port {port} is in use", "--listen")

    def test_ipv6(self) -> None:
        """The same over IPv6."""
        need_ipv6()
        with self.taken("::1") as port:
            self.assert_one_line(
                rf"tcp6:{port}:interface=\:\:1", f"port {port} is in use", "--listen"
            )

    def test_found_out_late(self) -> None:
        """
        A port that is taken at the last moment is told of as well, and nothing is left behind.
        """
        # Here by the node itself: an endpoint inside another one is not tried beforehand.
        endpoint = f"tcp:{free_port()}:interface={HOST}"
        port = endpoint.split(":")[1]
        options = (f"--listen={endpoint}", f"--listen=haproxy:{endpoint}")
        for runner in self.RUNNERS:
            folder = new_folder("busy")
            done = self.run_py2p(runner, *options, cwd=folder)
            self.assertGreater(done.returncode, 0, runner)
            told = done.stderr + done.stdout
            self.assertIn(f"port {port} is in use", told)
            self.assertIn("--listen", told)
            self.assertNotIn("Traceback", told)
            self.assertFalse((folder / "twistd.pid").exists())

    def test_privileges(self) -> None:
        """A port below 1024, which not everybody may have: it says so."""
        bind = f"import socket; socket.socket().bind(({HOST!r}, 1))"
        done = installed.installed().run("python", "-c", bind, preexec_fn=drop_privilege)
        if "PermissionError" not in done.stderr:
            raise SkipTest("here everybody may listen on any port")
        self.assert_one_line(
            f"tcp:1:interface={HOST}",
            "port 1 needs privileges",
            "--listen",
            preexec_fn=drop_privilege,
        )


class MistakeTests(OperatorTestCase):
    """What is typed wrongly."""

    def assert_told(self, line: str, *options: str, **how: Any) -> None:
        """Both runners end with this line, and little else."""
        for runner in (("twist",), ("twistd", "-n")):
            done = self.run_py2p(runner, *options, **how)
            lines = [text for text in (done.stdout + done.stderr).splitlines() if text]
            self.assertGreater(done.returncode, 0, lines)
            self.assertEqual(sum(line in text for text in lines), 1, lines)
            self.assertLessEqual(len(lines), 3, lines)

    def test_options(self) -> None:
        """One line says which option is wrong and shows how it is meant."""
        for line, *options in (
            ("--join=foo: expected HOST:PORT, for example --join=192.0.2.7:4444", "--join=foo"),
            ("unknown option --lisen, did you mean --listen?", "--lisen=tcp:4444"),
            ("--listen=4444: expected an endpoint, for example --listen=tcp:4444", "--listen=4444"),
            ("--max-peers=many: expected a number from 0", "--max-peers=many"),
            ("unexpected argument 'extra'", "extra"),
        ):
            self.assert_told(line, *options)

    def test_impossible_ports(self) -> None:
        """There are no ports above 65535."""
        for runner in BusyPortTests.RUNNERS:
            done = self.run_py2p(runner, "--listen=tcp:70000")
            lines = [line for line in (done.stdout + done.stderr).splitlines() if line]
            self.assertGreater(done.returncode, 0)
            self.assertLessEqual(len(lines), 3, lines)
            self.assertEqual(sum("70000" in line for line in lines), 1, lines)

    def test_configuration(self) -> None:
        """An unknown key is answered with the closest one, a missing file with its name."""
        path = new_folder("config") / "node.toml"
        self.assert_told(f"--config={path}: No such file", f"--config={path}")
        path.write_text('lisen = ["tcp:4444"]\n')
        self.assert_told(f"{path}: unknown key 'lisen', did you mean 'listen'?", f"--config={path}")

    def test_a_program_that_is_not_there(self) -> None:
        """It is found out before the node goes to the background."""
        for runner in BusyPortTests.RUNNERS:
            done = self.run_py2p(
                runner, f"--listen=tcp:0:interface={HOST}", "--exec=/nowhere/program"
            )
            self.assertEqual(done.returncode, 1)
            self.assertIn("--exec=/nowhere/program: no such program", done.stderr)
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)

    def test_check(self) -> None:
        """--check prints each value and where it comes from, and starts nothing."""
        path = new_folder("config") / "node.toml"
        path.write_text('network = "alerts"\nmax-peers = 5\n[limits]\nmax_outgoing = 7\n')
        for runner in ("twist", "twistd"):
            done = self.run_py2p((runner,), f"--config={path}", "--max-peers=6", "--check")
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            lines = {" ".join(line.split()) for line in done.stdout.splitlines()}
            expected = {
                "listen tcp:4444 default",
                f"network alerts {path}",
                "max-peers 6 command line",
                f"limit max_outgoing 7 {path}",
            }
            self.assertEqual(expected - lines, set(), done.stdout)


class LogTests(OperatorTestCase):
    """What machines read."""

    def assert_story(self, records: list[dict[str, Any]], first: Node) -> None:
        """It is logged that a node listened, joined, had a peer and lost it, and why."""
        events = [record for record in records if record.get("event")]
        self.assertEqual(
            [event["event"] for event in events[:5]],
            ["listening", "joined", "peer up", "peer down", "alone"],
        )
        listening, joined, up, down = events[:4]
        self.assertEqual((listening["network"], joined["network"]), ("mesh", "mesh"))
        self.assertEqual((joined["where"], up["where"]), (first.address, first.address))
        self.assertEqual((up["peer"], down["peer"]), (first.id, first.id))
        self.assertEqual(down["error"], "the peer closed the connection")
        self.assertTrue(down["reason"])

    def live(self, **how: Any) -> tuple[Node, Node]:
        """A node that joins another, which leaves."""
        first = self.start("--limit=max_outgoing=0").listening()
        node = self.start(f"--join={first.address}", **how)
        first.expect("peer up")
        self.assertEqual(first.terminate(), -signal.SIGTERM)
        return first, node

    def test_twist(self) -> None:
        """twist writes one JSON object a record, by itself if its output is no terminal."""
        for runner in (("twist", _JSON), ("twist",)):
            first, node = self.live(runner=runner)
            node.expect("alone")
            lines = [line for line in node.out.split("\n") if line]
            self.assertEqual({line[0] for line in lines}, {"\x1e"})
            self.assert_story(node.records, first)

    def test_twistd_in_front(self) -> None:
        """twistd does so when it is told which of our observers to use."""
        runner = ("twistd", "-n", "--logger=py2p_twisted.daemon.logs.json_to_stdout")
        first, node = self.live(runner=runner)
        down = node.expect("peer down")
        node.expect("alone")
        self.assert_story(node.records, first)
        self.assertRegex(down["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertEqual((down["level"], down["namespace"]), ("info", "py2p_twisted.net"))
        self.assertIn("because the peer closed the connection", down["text"])

    def test_twistd_in_the_background(self) -> None:
        """There it writes a file, which is where it is told to."""
        for name, variables in (
            ("twistd.json", {}),
            ("other.json", {"PY2P_LOG_FILE": "other.json"}),
        ):
            folder = new_folder("twistd")
            runner = ("twistd", "--logger=py2p_twisted.daemon.logs.json_to_file")
            first, node = self.live(runner=runner, folder=folder, variables=variables)
            pid = self.background(node, folder)
            path = folder / name
            wait_until(
                lambda path=path: path.exists() and '"alone"' in path.read_text(), "the story"
            )
            self.assert_story(installed.records(path.read_text()), first)
            os.kill(pid, signal.SIGTERM)
            wait_until(lambda pid=pid: not runs(pid), "its end", STOP)
            self.assertNotIn("Traceback", path.read_text())


class ExecTests(OperatorTestCase):
    """Programs take what they take; the mesh does not wait for them."""

    def test_so_many_at_once(self) -> None:
        """No more than --exec-parallel run at once; the others wait, and none is left out."""
        folder = new_folder("worked")
        node = self.start(self.program(_WORK, folder), "--exec-parallel=3").listening()
        sender = self.sender(node)
        for _ in range(9):
            sender.ask("send", packets=[0])
        times = [json.loads(path.read_text()) for path in self.left(folder, 9)]
        changes = sorted([(start, 1) for start, _ in times] + [(end, -1) for _, end in times])
        running, most = 0, 0
        for _, change in changes:
            running += change
            most = max(most, running)
        self.assertEqual(most, 3)
        self.assertEqual(node.events("gap"), [])

    def test_another_reactor(self) -> None:
        """They run under Twisted's other reactors too."""
        folder = new_folder("kept")
        runner = ("twist", "--reactor=asyncio", _JSON)
        node = self.start(self.program(_KEEP, folder), runner=runner).listening()
        self.sender(node).ask("send", packets=["storm"])
        self.left(folder, 1)
        self.assertEqual(node.terminate(STOP), -signal.SIGTERM)

    def test_how_they_end(self) -> None:
        """How a program has ended is logged, if it was not well."""
        folder = new_folder("worked")
        node = self.start(self.program(_WORK, folder)).listening()
        sender = self.sender(node)
        for status in (0, 3, 0):
            sender.ask("send", packets=[status])
        self.left(folder, 3)
        told = node.expect("exec", problem="ended with exit status 3")
        self.assertEqual(told["reason"], "exit 3")
        problems = [event for event in node.events("exec") if "problem" in event]
        self.assertEqual(len(problems), 1)

    def test_one_that_hangs(self) -> None:
        """After --exec-timeout a program is ended, even one that does not want to."""
        began = time.monotonic()
        hanging = []
        for word, least in (("asked", 1.0), ("deaf", 5.0)):
            folder = new_folder("hanging")
            option = self.program(_HANG, folder)
            node = self.start(option, "--exec-timeout=1", "--exec-parallel=1").listening()
            self.sender(node).ask("send", packets=[word])
            hanging.append((node, folder, least))
        for node, folder, least in hanging:
            node.expect("exec", problem="was ended after 1 s")
            self.assertGreaterEqual(time.monotonic() - began, least)
            (path,) = self.left(folder, 1, "")
            self.assertFalse(runs(int(path.name)))

    def test_the_mesh_goes_on(self) -> None:
        """
        While all programs hang, messages are passed on at once, those that wait too long are
        lost and logged, and when the node stops the programs are ended.
        """
        folder = new_folder("hanging")
        node = self.start(
            self.program(_HANG, folder), "--exec-parallel=2", "--exec-queue=3"
        ).listening()
        sender, receiver = self.sender(node), self.sender(node)
        receiver.ask("gather")
        sender.ask("begin", task="stamps", rate=20, seconds=1.0)
        sent = sender.outcome("stamps")
        self.wait_for(lambda: receiver.ask("count") == sent, "every message to arrive")
        slowest = max(receiver.ask("delays"))
        self.assertLess(slowest, AT_ONCE)
        gap = node.expect("gap")
        self.assertEqual(gap["reason"], "queue full")

        pids = [int(path.name) for path in self.left(folder, 2, "")]
        self.assertEqual(len(pids), 2)
        self.assertTrue(all(runs(pid) for pid in pids))
        began = time.monotonic()
        self.assertEqual(node.terminate(STOP), -signal.SIGTERM)
        took = time.monotonic() - began
        self.assertEqual([pid for pid in pids if runs(pid)], [])
        lost = node.expect("gap", reason="stopping")
        self.assertEqual(lost["count"], 3)
        self.note(f"passed on within {1000 * slowest:.0f} ms; stopped after {took:.1f} s")


class MeshTests(OperatorTestCase):
    """Eight nodes, one of which is killed and comes back."""

    NODES = 8

    def mesh(self) -> tuple[list[Node], list[list[str]]]:
        """
        Start the nodes: each joins the first one, and the one before it.

        :return: them, and the options that each was started with.
        """
        nodes: list[Node] = []
        options: list[list[str]] = []
        for number in range(self.NODES):
            joins = [f"--join={nodes[other].address}" for other in {0, number - 1} if nodes]
            options.append(["--debug-level=1", *joins])
            nodes.append(self.start(*options[-1]).listening())
        for node in nodes:
            node.expect("joined")
        return nodes, options

    def kill_and_restart(self, victim: int) -> None:
        """Kill a node under traffic, start it again, and see that nobody has missed anything."""
        nodes, options = self.mesh()
        entry = 1 if victim != 1 else 2
        sender = self.sender(nodes[entry])
        wall = time.time() - time.monotonic()
        sender.ask("begin", task="stamps", rate=25, seconds=10.0)
        wait_until(lambda: all(len(node.stamps()) > 20 for node in nodes), "traffic everywhere")

        port = nodes[victim].port
        nodes[victim].process.kill()
        killed = time.monotonic()
        nodes[victim].wait()
        time.sleep(0.3)
        back = self.start(*options[victim], listen=f"tcp:{port}:interface={HOST}")
        self.assertLess(back.began - wall - killed, 1.0)
        survivors = [node for number, node in enumerate(nodes) if number != victim]

        joined = back.expect("joined")
        self.assertGreaterEqual(back.expect("peer up")["count"], 1)
        wait_until(back.stamps, "the first message to the node that is back")
        heard = next(
            record["log_time"] for record in back.records if _STAMP.match(record.get("text") or "")
        )
        sent = sender.outcome("stamps")
        wait_until(lambda: len(nodes[entry].stamps()) >= sent, "the last message")
        every = set(nodes[entry].stamps())
        self.assertEqual(len(every), sent)
        later = {stamp for stamp in every if stamp > killed}
        self.assertGreater(len(later), 50)
        for node in survivors:
            wait_until(lambda node=node: later <= set(node.stamps()), "every survivor")
            counts = Counter(node.stamps())
            self.assertEqual(max(counts.values()), 1, "twice")
            self.assertEqual(set(counts) - every, set())
        # From the moment that it is in, it misses nothing either.
        in_ = max(joined["log_time"], heard) - wall
        wanted = {stamp for stamp in every if stamp > in_ + 0.5}
        self.assertGreater(len(wanted), 5)
        wait_until(lambda: wanted <= set(back.stamps()), "the node that is back")
        self.assertEqual(max(Counter(back.stamps()).values()), 1, "twice")
        # It has neighbours again: not those that it had, but enough.
        wait_until(lambda: len(back.events("peer up")) >= ENOUGH, "neighbours")
        healed = back.events("peer up")[ENOUGH - 1]["log_time"]
        first, second = joined["log_time"] - back.began, heard - back.began
        self.note(
            f"started {back.began - wall - killed:.2f} s after the kill; joined {first:.2f} s and "
            f"first message {second:.2f} s after its start, {ENOUGH} neighbours "
            f"{healed - back.began:.2f} s; {len(later)} messages after the kill"
        )
        self.assertLess(first, BACK)
        self.assertLess(second, BACK)

    def test_one_is_killed_and_comes_back(self) -> None:
        """
        The others miss nothing, and five seconds after its start the node is in the network
        again, and gets messages.
        """
        self.kill_and_restart(4)

    def test_the_first_one_is_killed_and_comes_back(self) -> None:
        """The node that all others have joined, and that joins nobody, is like any other."""
        self.kill_and_restart(0)
