"""
Nodes that run for long: their configuration changes, their terminal is closed, they run out of files.

Real processes, real signals. Times are in seconds. Source: docs/howto/operating.rst.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import resource
import shutil
import signal
import socket
import ssl
import sys
import time
from pathlib import Path
from typing import Any

from tests.daemon.test_reload import write_certificate
from tests.integration.commands_check import PATIENCE, Command, free_port
from tests.integration.control_check import ControlCheckCase
from tests.integration.driver import HOST, moments

_TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]

#: What starts a node in front, each in its own way, and where its log goes.
RUNNERS: dict[str, tuple[list[str], str]] = {
    "py2p node": ([sys.executable, "-m", "py2p_twisted", "node"], "err"),
    "twist": ([sys.executable, "-m", "twisted", "--log-format=text", "py2p"], "out"),
    "twistd": ([*_TWISTD, "-n", "--pidfile=", "py2p"], "out"),
}

#: Files that a node has to do with, in the tests in which it gets no more.
FEW = 48

#: Seconds of processor time that a node may take while strangers knock, and nobody is let in.
IDLE = 1.0


def processor_time(pid: int) -> float:
    """Seconds that a process has worked."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class ReloadCase(ControlCheckCase):
    """Tests with nodes that have a configuration file."""

    def setUp(self) -> None:
        super().setUp()
        self.file = self.folder / "node.toml"
        self.socket = self.folder / "node.sock"

    def write(self, text: str) -> None:
        """Put a configuration into the file, as an editor does."""
        part = self.file.with_suffix(".part")
        part.write_text(f'listen = "tcp:0:interface={HOST}"\ncontrol = "{self.socket}"\n{text}')
        part.rename(self.file)

    def configured(self, text: str, runner: str = "py2p node", **how: Any) -> tuple[Command, Any]:
        """A node with such a file, once it can be talked with, and what reads its log."""
        self.write(text)
        command, stream = RUNNERS[runner]
        node = self.start(command=[*command, f"--config={self.file}"], **how)

        def look() -> str:
            return str(getattr(node, stream))

        self.await_text(look, "it can be talked with at")
        return node, look

    def limits(self) -> dict[str, Any]:
        """What holds at the moment."""
        found: dict[str, Any] = self.ask(self.socket, "status")["status"]["limits"]
        return found

    def peers(self) -> set[str]:
        """Where those live that it is linked to."""
        return {peer["address"] for peer in self.ask(self.socket, "peers")["peers"]}


class SignalTests(ReloadCase):
    def test_every_runner(self) -> None:
        """SIGHUP has the file read again; a mistake in it changes nothing, and is one line."""
        _, one, _ = self.talking("one.sock", "--limit=max_outgoing=0")
        _, other, _ = self.talking("other.sock", "--limit=max_outgoing=0")
        for runner in RUNNERS:
            limit = "[limits]\nmax_outgoing = 0\n"
            node, log = self.configured(f'join = ["{HOST}:{one}"]\n{limit}', runner)
            self.wait_for(lambda: self.peers() == {f"{HOST}:{one}"}, "the first peer")
            self.write(f'join = ["{HOST}:{other}"]\nmax-peers = 7\n{limit}')
            node.send_signal(signal.SIGHUP)
            # The one that is asked for no more stays.
            both = {f"{HOST}:{port}" for port in (one, other)}
            self.wait_for(lambda both=both: self.peers() == both, "both peers")  # type: ignore[misc]
            self.assertEqual(self.limits()["max_inbound"], 7)
            self.await_text(log, f"reload: join is {HOST}:{other} now, it was {HOST}:{one}")
            self.await_text(log, "reload: max-peers is 7 now, it was 64")

            self.write("max-peers = 8\nnonsense = 1\n")
            node.send_signal(signal.SIGHUP)
            self.await_text(log, "reload: nothing has changed: ")
            self.assertEqual(self.limits()["max_inbound"], 7)
            self.assertEqual(self.peers(), both)
            node.send_signal(signal.SIGTERM)
            self.assertIn(node.wait(), (0, -signal.SIGTERM), runner)
            self.await_text(log, "stopped: 2 peers have taken leave, 0 have not answered")

    def test_in_the_background(self) -> None:
        """twistd: logs rotate as ever, and one that was moved away is begun anew."""
        self.write("max-peers = 5\n")
        log = self.folder / "twistd.log"
        text = "--logger=py2p_twisted.daemon.logs.json_to_file"
        for options, rotated in (((f"--logfile={log}",), True), ((text,), False)):
            pid_file = self.folder / "pid"
            self.write("max-peers = 5\n")
            ended = self.py2p(
                command=[*_TWISTD, f"--rundir={self.folder}", f"--pidfile={pid_file}", *options,
                         "py2p", f"--config={self.file}"],
                variables={"PY2P_LOG_FILE": str(log)},
            )  # fmt: skip
            self.assertEqual(ended.code, 0, ended)
            self.await_text(lambda: _text(log), "it can be talked with")
            pid = int(pid_file.read_text())
            self.addCleanup(_end, pid)
            if rotated:
                os.kill(pid, signal.SIGUSR1)
            else:
                log.rename(log.with_suffix(".moved"))
            self.write("max-peers = 6\n")
            os.kill(pid, signal.SIGHUP)
            self.wait_for(lambda: self.limits()["max_inbound"] == 6, "the new limit")
            self.write("max-peers = 4\n")
            os.kill(pid, signal.SIGHUP)
            self.await_text(lambda: _text(log), "max-peers is 4 now")
            os.kill(pid, signal.SIGTERM)
            self.wait_for(lambda: not (self.folder / "pid").exists(), "the end")
            self.assertNotIn("Traceback", log.read_text())
            for path in self.folder.glob("twistd.*"):
                path.unlink()

    def test_many_of_them(self) -> None:
        """A hundred signals are no trouble."""
        node, log = self.configured("max-peers = 5\n")
        for number in range(100):
            self.write(f"max-peers = {10 + number}\n")
            node.send_signal(signal.SIGHUP)
        self.wait_for(lambda: self.limits()["max_inbound"] == 109, "the last one")
        self.assertNotIn("nothing has changed", log())


class TerminalTests(ReloadCase):
    """What happens to a node when the terminal it was started in is closed."""

    def in_terminal(self, *before: str) -> tuple[int, int]:
        """A node in a terminal of its own; its process id, and the terminal's other end."""
        self.write("max-peers = 5\n")
        command = [*before, *RUNNERS["py2p node"][0], f"--config={self.file}"]
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(self.folder)
            with contextlib.suppress(OSError):
                os.execvpe(command[0], command, {**os.environ, "PYTHONPATH": os.getcwd()})
            os._exit(127)
        self.addCleanup(_bury, pid)
        self.wait_for(self.socket.exists, "the socket")
        self.wait_for(self.answers, "an answer")
        return pid, terminal

    def answers(self) -> bool:
        try:
            return bool(self.ask(self.socket, "status")["ok"])
        except (OSError, ValueError):
            return False

    def test_closed(self) -> None:
        """It says goodbye, as by SIGTERM. While the terminal is open, SIGHUP is a reload."""
        self._closed()

    def test_closed_with_other_streams(self) -> None:
        """It does not matter whether anything of the node goes to the terminal."""
        self._closed("sh", "-c", 'exec "$@" < /dev/null > log 2>&1', "sh")

    def _closed(self, *before: str) -> None:
        other, port, _ = self.talking("other.sock")
        pid, terminal = self.in_terminal(*before)
        self.write(f'max-peers = 6\njoin = ["{HOST}:{port}"]\n')
        os.kill(pid, signal.SIGHUP)
        self.await_joined(self.socket)
        self.assertEqual(self.limits()["max_inbound"], 6)
        os.close(terminal)
        status = _wait(pid)
        self.assertTrue(os.WIFEXITED(status), status)
        self.assertEqual(os.WEXITSTATUS(status), 0)
        self.await_text(lambda: other.err, '"event": "peer down"')

    def test_nohup(self) -> None:
        """It stays, and is reloaded by the signal as ever."""
        if shutil.which("nohup") is None:
            raise AssertionError("nohup is part of coreutils")
        pid, terminal = self.in_terminal("nohup")
        os.close(terminal)
        time.sleep(0.5)
        self.write("max-peers = 6\n")
        os.kill(pid, signal.SIGHUP)
        self.wait_for(lambda: self.limits()["max_inbound"] == 6, "the new limit")
        os.kill(pid, signal.SIGTERM)
        _wait(pid)


class CommandTests(ReloadCase):
    def test_reload(self) -> None:
        """``py2p reload`` says what has changed, and what takes a restart."""
        self.configured("max-peers = 5\n")
        control = f"--control={self.socket}"
        self.assertEqual(self.py2p("reload", control), (0, "nothing has changed\n", ""))
        self.write('max-peers = 6\nlog-level = "warn"\nnetwork = "other"\n')
        self.assertEqual(
            self.py2p("reload", control),
            (
                0,
                "max-peers: 5 -> 6\nlog-level: info -> warn\n"
                "network: mesh -> other, when the node is started again\n",
                "",
            ),
        )
        self.write("max-peers = 5\n")
        ended = self.py2p("reload", control, "--json")
        self.assertEqual((ended.code, ended.err), (0, ""))
        self.assertEqual(
            json.loads(ended.out)["changed"],
            [
                {"name": "max-peers", "before": "6", "after": "5"},
                {"name": "log-level", "before": "warn", "after": "info"},
            ],
        )
        self.write("max-peers = none\n")
        ended = self.py2p("reload", control)
        self.assert_failed(ended, "py2p reload: nothing has changed: ", "not TOML")

    def test_no_node(self) -> None:
        self.assert_failed(self.py2p("reload", f"--control={self.socket}"), "no running node at")


class CertificateTests(ReloadCase):
    def shown(self, port: int) -> bytes:
        """The certificate that whoever connects is shown."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection((HOST, port), 10) as plain:  # noqa: SIM117
            with context.wrap_socket(plain) as wrapped:
                return wrapped.getpeercert(True) or b""

    def test_new_connections(self) -> None:
        """They are shown the new certificate; a node that is linked already stays."""
        pem = self.folder / "node.pem"
        write_certificate(pem, "first")
        port = free_port()
        self.file.write_text(
            f'listen = "ssl:{port}:interface={HOST}:privateKey={pem}"\ntls = true\n'
            f'control = "{self.socket}"\n'
        )
        node = self.start("node", f"--config={self.file}")
        self.await_text(lambda: node.err, "it can be talked with at")
        self.talking("other.sock", f"--join={HOST}:{port}", "--tls")
        self.await_joined(self.socket)
        first = self.shown(port)
        self.assertEqual(self.shown(port), first)
        write_certificate(pem, "second")
        self.assertEqual(self.shown(port), first)
        ended = self.py2p("reload", f"--control={self.socket}")
        self.assertEqual(ended.code, 0, ended)
        self.assertIn(": the certificate was read again\n", ended.out)
        second = self.shown(port)
        self.assertNotEqual(second, first)
        pem.write_text("nonsense")
        self.assertEqual(self.py2p("reload", f"--control={self.socket}").code, 1)
        self.assertEqual(self.shown(port), second)
        self.assertEqual(len(self.ask(self.socket, "peers")["peers"]), 1)


class CopyTests(ReloadCase):
    def test_copies_of_one_state_directory(self) -> None:
        """Both nodes say so, in one line, and neither takes the other's address for its own."""
        one, other = self.folder / "one", self.folder / "other"
        node, port = self.py2p_node(f"--state-dir={one}")
        self.await_text(lambda: node.err, "it can be talked with at")
        node.send_signal(signal.SIGTERM)
        node.wait()
        shutil.copytree(one, other)
        first, port = self.py2p_node(f"--state-dir={one}", port=port)
        second, second_port = self.py2p_node(f"--state-dir={other}", f"--join={HOST}:{port}")
        for command, address in ((first, second_port), (second, port)):
            self.await_text(lambda command=command: command.err, "has the id of this one")  # type: ignore[misc]
            (line,) = (one for one in command.err.splitlines() if "has the id of this one" in one)
            self.assertEqual(json.loads(line)["level"], "warn")
            self.assertIn(f"a node at {HOST}:{address} has the id", line)
        # The remedy.
        second.send_signal(signal.SIGTERM)
        second.wait()
        (other / "identity").unlink()
        self.py2p_node(f"--state-dir={other}", f"--join={HOST}:{port}")
        self.await_joined(other / "control.sock")


class FilesTests(ReloadCase):
    """How many files a node may have open."""

    def allowed(self, soft: int, hard: int) -> Any:
        """What gives a new process these limits."""

        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

        return limit

    def test_raised(self) -> None:
        """The soft limit becomes the hard one; it is logged, and shown by ``status``."""
        _, log = self.configured("max-peers = 300\n", preexec_fn=self.allowed(128, 512))
        self.await_text(log, "; 512 files may be open")
        ended = self.py2p("status", f"--control={self.socket}")
        self.assertRegex(ended.out, r"(?m)^file descriptors: open \d+, limit 512$")
        found = self.ask(self.socket, "status")["status"]["file descriptors"]
        self.assertEqual(found["limit"], 512)
        self.assertTrue(5 < found["open"] < 40, found)

    def test_too_few(self) -> None:
        """The log says what to do, and so it does when a reload asks for more than there are."""
        node, log = self.configured("max-peers = 10\n", preexec_fn=self.allowed(256, 256))
        self.assertNotIn('"level": "warn"', log())
        self.write("max-peers = 300\n")
        node.send_signal(signal.SIGHUP)
        self.await_text(log, "are needed with --max-peers=300: have more allowed (LimitNOFILE")

    def test_none_left(self) -> None:
        """
        Strangers take all there are: the node neither dies nor spins, what is linked stays linked,
        and when they are gone all is as before.
        """
        for runner in ("py2p node", "twist"):
            with contextlib.ExitStack() as strangers:
                self._none_left(runner, strangers)

    def _none_left(self, runner: str, strangers: contextlib.ExitStack) -> None:
        friend = self.node()
        state = self.folder / f"state-{runner.partition(' ')[0]}"
        node, log = self.configured(
            f'join = ["{HOST}:{friend.port}", "{HOST}:{free_port()}"]\nstate-dir = "{state}"\n'
            # Strangers stay until they hang up, however slow this machine is.
            "[limits]\nhandshake_timeout = 120\nmax_half_open = 100\n",
            runner, preexec_fn=self.allowed(FEW, FEW),
        )  # fmt: skip
        self.await_text(log, f"{FEW} files may be open, and ")
        self.await_joined(self.socket)
        address = self.ask(self.socket, "status")["status"]["address"]
        port = int(address.rpartition(":")[2])
        with socket.socket(socket.AF_UNIX) as talking:
            # Who talks with it already can go on doing so.
            talking.settimeout(PATIENCE)
            talking.connect(str(self.socket))
            lines = talking.makefile("rw")
            refused = 0
            for _ in range(2 * FEW):
                stranger = strangers.enter_context(socket.create_connection((HOST, port), PATIENCE))
                stranger.setblocking(False)
            self.await_text(log, "EMFILE encountered")
            began, before = time.monotonic(), processor_time(node.process.pid)
            for number in range(20):
                lines.write(json.dumps({"id": number, "do": "send", "packets": [number]}) + "\n")
                lines.flush()
                self.assertTrue(json.loads(lines.readline())["ok"])
                time.sleep(0.1)
            with contextlib.suppress(OSError), socket.create_connection((HOST, port), 5) as one:
                one.settimeout(5)
                refused += one.recv(1) == b""
            self.assertEqual(refused, 1)
            took, worked = time.monotonic() - began, processor_time(node.process.pid) - before
            print(f"{runner}: {worked:.2f} s of work in {took:.1f} s without a file to open")
            self.assertLess(worked, IDLE)
            self.await_gathered(friend, *([number] for number in range(20)))
        strangers.close()
        for _ in moments(PATIENCE, interval=0.2):
            with contextlib.suppress(OSError, ValueError):
                if self.ask(self.socket, "status")["status"]["file descriptors"]["open"] < FEW / 2:
                    break
        else:
            self.fail(log())
        ended = self.py2p("send", f"--join={address}", "all clear")
        self.assertEqual(ended.code, 0, ended)
        self.wait_for(lambda: self.gathered(friend)[-1] == ["all clear"], "the message")
        node.send_signal(signal.SIGTERM)
        node.wait()
        self.assertNotIn("Unhandled", log())
        self.assertNotIn("Traceback", log())
        if runner == "py2p node":
            # One line a minute, whatever strangers do.
            self.assertLess(log().count("EMFILE"), 3)


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _wait(pid: int) -> int:
    """How a child has ended."""
    for _ in moments(PATIENCE, interval=0.05):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return status
    raise AssertionError(f"process {pid} does not end")


def _bury(pid: int) -> None:
    _end(pid)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
