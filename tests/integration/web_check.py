"""
The status page of a node that runs: real processes, real sockets.

Times are in seconds. Source: docs/reference/web.rst.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import socket
import stat
import sys
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest

from tests.integration.commands_check import PATIENCE, Command, at, free_port
from tests.integration.control_check import ControlCheckCase
from tests.integration.driver import HOST, MIB

try:
    from prometheus_client.parser import text_string_to_metric_families
except ImportError:
    text_string_to_metric_families = None

#: Browsers that do not read, and bytes that they may cost a node together: one MiB waits for each,
#: and Python keeps some for itself. (Without a limit it would be five times as much.)
WATCHERS = 8
STUCK_COST = 30 * MIB


class Page:
    """A node's status page."""

    def __init__(self, port: int, token: Path) -> None:
        self.port = port
        self.token_file = token

    @property
    def token(self) -> str:
        return self.token_file.read_text().strip()

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, Any, bytes]:
        """Code, headers and body of an answer."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=PATIENCE)
        with contextlib.closing(connection):
            said = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, said)
            response = connection.getresponse()
            return response.status, response.headers, response.read()

    def get(self, path: str, **headers: str) -> tuple[int, Any]:
        """Code and JSON."""
        code, _, body = self.ask("GET", path, **headers)
        return code, json.loads(body)

    def send(self, what: Any, **headers: str) -> tuple[int, Any]:
        """Send as the page does."""
        said = {"Content_Type": "application/json", "X_Py2p_Token": self.token, **headers}
        code, _, body = self.ask("POST", "/send", json.dumps(what).encode(), **said)
        return code, json.loads(body)

    def watch(self, buffer: int = 0) -> socket.socket:
        """
        A browser that watches, and reads what it wants.

        :param buffer: bytes that the kernel keeps for it; 0: as usual.
        """
        client = socket.socket()
        if buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        client.settimeout(PATIENCE)
        client.connect((HOST, self.port))
        client.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return client


class WebCheckCase(ControlCheckCase):
    """Tests with nodes that have a status page."""

    def page(self, name: str, *arguments: str) -> tuple[Command, int, Page]:
        """A node with a page, the port that others join through, and its page."""
        path = self.folder / f"{name}.sock"
        node, port = self.py2p_node(f"--control={path}", "--web=0", *arguments)
        self.await_text(lambda: node.err, "status page ")
        match = re.search(r"status page http://127\.0\.0\.1:(\d+)/ \(token in (.*)\)", node.err)
        assert match is not None, node.err
        self.assertEqual(match[2], str(self.folder / f"{name}.web.token"))
        return node, port, Page(int(match[1]), Path(match[2]))

    def heard(self, client: socket.socket, *parts: bytes) -> bytes:
        """What a browser that watches is told, until all that is in it."""
        said = b""
        until = time.monotonic() + PATIENCE
        while not all(part in said for part in parts):
            self.assertLess(time.monotonic(), until, said[-2000:])
            piece = client.recv(65536)
            self.assertTrue(piece, "it was hung up on")
            said += piece
        return said

    def await_health(self, page: Page, code: int) -> None:
        self.wait_for(lambda: page.get("/healthz")[0] == code, f"healthz {code}", 20)


class PageTests(WebCheckCase):
    def test_what_there_is_to_see(self) -> None:
        """Health before and after it has joined, numbers, JSON, the page, and its end."""
        node, port, page = self.page("one", "--web-host=page.example")
        self.assertEqual(stat.S_IMODE(page.token_file.stat().st_mode), 0o600)
        code, health = page.get("/healthz")
        self.assertEqual((code, health["joined"], health["settled"]), (503, False, 0))
        other, _ = self.py2p_node(at(port))
        self.await_health(page, 200)
        self.assertTrue(page.get("/status.json")[1]["joined"])
        (peer,) = page.get("/peers.json")[1]["peers"]
        self.assertEqual(peer["kind"], "neighbour")
        code, members = page.get("/members.json")
        self.assertEqual((code, len(members["members"])), (200, 2))
        for path in ("/", "/app.js", "/app.css", "/favicon.svg"):
            code, headers, body = page.ask("GET", path)
            self.assertEqual(code, 200)
            self.assertIn("frame-ancestors 'none'", headers["Content-Security-Policy"])
            self.assertTrue(body)
        self.assertEqual(page.get("/status.json", Host="page.example:1")[0], 200)
        other.send_signal(signal.SIGTERM)
        other.wait()
        self.await_health(page, 503)

        with page.watch() as watching:
            watching.recv(100)
            begun = time.monotonic()
            node.send_signal(signal.SIGTERM)
            self.assertEqual(node.wait(), 0)
            self.assertLess(time.monotonic() - begun, 10)
            while watching.recv(65536):
                pass
        self.assertFalse(page.token_file.exists())

    def test_numbers(self) -> None:
        """What Prometheus reads, by its own reader."""
        if text_string_to_metric_families is None:
            raise SkipTest("prometheus-client is not installed")
        state = self.folder / "state"
        _, port, page = self.page("one", f"--state-dir={state}", "--exec=true")
        _, _, other = self.page("other", at(port))
        self.await_health(other, 200)
        self.await_health(page, 200)
        for number in range(5):
            self.assertEqual(other.send({"packets": [number], "confirm": True})[0], 200)
        code, headers, body = page.ask("GET", "/metrics")
        self.assertEqual((code, headers["Content-Type"][:25]), (200, "text/plain; version=0.0.4"))
        families = {one.name: one for one in text_string_to_metric_families(body.decode())}
        values = {
            sample.name: sample.value
            for family in families.values()
            for sample in family.samples
            if not sample.labels
        }
        self.assertEqual(values["py2p_messages_received_total"], 5)
        self.assertEqual((values["py2p_joined"], values["py2p_settled_peers"]), (1, 1))
        self.assertEqual(values["py2p_state_trouble"], 0)
        self.assertGreater(values["py2p_bytes_received_total"], 500)
        self.assertGreater(values["py2p_bytes_sent_total"], 100)
        self.assertGreater(values["py2p_process_open_fds"], 4)
        self.assertGreater(values["py2p_process_resident_bytes"], MIB)
        self.assertTrue(families["py2p_programs_ended"].samples)
        for family in families.values():
            self.assertTrue(family.documentation, family.name)
            self.assertTrue(family.name.startswith("py2p_"), family.name)
            self.assertIn(family.type, ("counter", "gauge"))

    def test_sending(self) -> None:
        """What is sent from it comes, and who has it is said; it is shown to those who watch."""
        _, port, page = self.page("one")
        _, _, other = self.page("other", at(port))
        self.await_health(page, 200)
        self.await_health(other, 200)
        listener = self.start("listen", f"--control={self.folder / 'other.sock'}", "--count=1")
        self.await_text(lambda: listener.err, "through the node at")
        with page.watch() as here, other.watch() as there:
            for client in (here, there):
                self.heard(client, b"event: peers")
            code, answer = page.send({"packets": ["storm", "north"], "confirm": True})
            ids = [one.get("/status.json")[1]["status"]["id"] for one in (page, other)]
            self.assertEqual((code, answer["delivered"], answer["missing"]), (200, ids[1:], []))
            self.assertIn("storm", listener.end().out)
            for client, own in ((here, b'"own": true'), (there, b'"own": false')):
                said = self.heard(client, b"event: message", own)
                self.assertIn(b'"packets": ["storm", "north"]', said)
        self.assertEqual(page.send({"packets": ["x"]}), (200, {"ok": True, "peers": 1}))

    def test_the_port_is_taken(self) -> None:
        """One line, and no node."""
        _, _, page = self.page("one")
        listen = f"--listen=tcp:{free_port()}:interface={HOST}"
        ended = self.py2p("node", listen, f"--web={page.port}")
        self.assertEqual((ended.code, ended.out), (1, ""))
        self.assertRegex(
            ended.err.splitlines()[-1],
            rf"^py2p node: --web=tcp:{page.port}: port {page.port} is in use: stop its owner or ",
        )


class RefusedTests(WebCheckCase):
    def setUp(self) -> None:
        super().setUp()
        self.node, port, self.one = self.page("one")
        _, _, self.other = self.page("other", at(port))
        self.await_health(self.one, 200)

    def test_who_is_turned_away(self) -> None:
        """Foreign names, pages of other sites, guesses, bodies that are too large; none is sent."""
        page = self.one
        packets = {"packets": ["x"]}
        for path in ("/", "/status.json", "/metrics", "/events", "/healthz"):
            self.assertEqual(page.get(path, Host="evil.example")[0], 403, path)
        self.assertEqual(page.send(packets, Host="evil.example")[0], 403)
        self.assertEqual(page.send(packets, Origin="http://evil.example")[0], 403)
        self.assertEqual(page.send(packets, Sec_Fetch_Site="cross-site")[0], 403)
        self.assertEqual(page.send(packets, Origin=f"http://{HOST}:{page.port + 1}")[0], 403)
        self.assertEqual(page.send(packets, Content_Type="text/plain")[0], 415)
        for _ in range(10):
            code, answer = page.send(packets, X_Py2p_Token="guess")
            self.assertEqual((code, answer["reason"]), (401, "wrong token"))
        self.assertEqual(page.send(packets, X_Py2p_Token="guess")[0], 429)
        self.assertEqual(page.send(packets)[0], 429)
        code, _, body = page.ask("POST", "/send", b"x" * 65_537)
        self.assertEqual((code, json.loads(body)["reason"]), (413, "too large"))
        status = self.other.get("/status.json")[1]["status"]
        self.assertEqual(status["ids remembered"], 0)
        self.assertEqual(self.node.err.count("was refused"), 1)

    def test_a_body_of_a_gigabyte(self) -> None:
        """It is refused by its length, and what is sent of it all the same is not kept."""
        before = self.node.memory
        with socket.create_connection((HOST, self.one.port), PATIENCE) as client:
            client.sendall(b"POST /send HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
            self.assertTrue(client.recv(1000).startswith(b"HTTP/1.1 413 "))
            piece, sent = b"x" * MIB, 0
            with contextlib.suppress(OSError):
                while sent < 10_000:
                    client.sendall(piece)
                    sent += 1
        self.assertLess(sent, 10_000)
        self.assertLess(self.node.memory - before, 8 * MIB)
        self.assertEqual(self.one.get("/healthz")[0], 200)

    def test_slow_requests(self) -> None:
        """A hundred that never end keep nobody out, and are over after ten seconds."""
        clients = [socket.create_connection((HOST, self.one.port), PATIENCE) for _ in range(100)]
        with contextlib.ExitStack() as stack:
            for client in clients:
                stack.enter_context(client)
                with contextlib.suppress(OSError):
                    client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
            self.assertEqual(self.one.get("/healthz")[0], 200)
            last = clients[-1]
            begun = time.monotonic()
            with contextlib.suppress(OSError):
                while True:
                    last.sendall(b"X: y\r\n")
                    time.sleep(0.5)
                    self.assertLess(time.monotonic() - begun, 20)
            self.assertLess(time.monotonic() - begun, 20)


class StuckTests(WebCheckCase):
    def test_browsers_that_do_not_read(self) -> None:
        """They cost a node no more than is kept for them, and are told what they have missed."""
        # Else it would take minutes until the kernel's own buffers are full.
        code = (
            "import sys; from py2p_twisted.web import events; events.TICK = 0.02; "
            "from py2p_twisted.cli import main; sys.exit(main(sys.argv[1:]))"
        )
        port = free_port()
        node = self.start(
            command=[
                sys.executable, "-c", code, "node", f"--listen=tcp:{port}:interface={HOST}",
                "--control=none", "--web=0", f"--state-dir={self.folder / 'state'}",
                "--limit=retention_messages=100",
            ]
        )  # fmt: skip
        self.await_text(lambda: node.err, "status page ")
        (number,) = re.findall(r"status page http://127\.0\.0\.1:(\d+)/", node.err)
        page = Page(int(number), self.folder / "state/web.token")
        self.page("other", at(port))
        self.await_health(page, 200)
        with contextlib.ExitStack() as stack:
            stuck = [stack.enter_context(page.watch(2048)) for _ in range(WATCHERS)]
            sender = stack.enter_context(socket.socket(socket.AF_UNIX))
            sender.connect(str(self.folder / "other.sock"))
            answers = sender.makefile("rb")
            line = json.dumps({"do": "send", "packets": ["x" * 190]}).encode() + b"\n"

            def send(count: int) -> None:
                """So slowly that all of it is told, see `events.MOST_A_TICK`."""
                until = time.monotonic() + 4 * PATIENCE
                for _ in range(count // 10):
                    self.assertLess(time.monotonic(), until)
                    sender.sendall(line * 10)
                    for _ in range(10):
                        self.assertIn(b'"ok": true', answers.readline())
                    time.sleep(0.005)

            send(1_000)
            before = node.memory

            def waiting() -> int:
                said = page.ask("GET", "/metrics")[2]
                (found,) = re.findall(rb"^py2p_web_waiting_bytes (\d+)$", said, re.M)
                return int(found)

            until = time.monotonic() + 4 * PATIENCE
            while waiting() <= WATCHERS * 100_000:
                self.assertLess(time.monotonic(), until, "the buffers of the system do not fill")
                send(500)
            send(5_000)
            self.assertGreater(waiting(), WATCHERS * 100_000)
            self.assertLessEqual(waiting(), WATCHERS * MIB)
            self.assertLess(node.memory - before, STUCK_COST)
            self.assertEqual(page.get("/healthz")[0], 200)
            said, most = b"", 0
            until = time.monotonic() + PATIENCE
            while most < 2_000:
                self.assertLess(time.monotonic(), until)
                said = said[-100:] + stuck[0].recv(65536)
                found = re.findall(rb'event: dropped\ndata: \{"dropped": (\d+)\}', said)
                most = max([most, *map(int, found)])
