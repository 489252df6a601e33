"""
Options that many commands have: which node they talk with, and how long they wait for it.

Times are in seconds. Source: docs/reference/commands.rst, "which node".
"""

from __future__ import annotations

import socket
import tempfile
import time
from pathlib import Path

from tests.integration.commands_check import CommandsTestCase, Ended, at, free_port
from tests.integration.driver import HOST

#: What is waited here, and what nothing takes that waits for so long only. (10 is the default.)
SHORT, LONG = "0.5", 8.0


class WhichNodeTests(CommandsTestCase):
    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.TemporaryDirectory(prefix="py2p-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def node_of(self, network: str) -> int:
        """A node where commands look by themselves; its port."""
        port = free_port()
        listen = f"--listen=tcp:{port}:interface={HOST}"
        node = self.start("node", listen, f"--network={network}", variables=self.here())
        self.await_text(lambda: node.err, "it can be talked with at")
        return port

    def here(self) -> dict[str, str]:
        """Where they look."""
        return {"XDG_RUNTIME_DIR": str(self.folder)}

    def assert_refused(self, ended: Ended, *words: str) -> None:
        """Exit code 1, and one line, which is a finding if it comes from ``doctor``."""
        if ended.out.startswith("FAIL  "):
            ended = Ended(ended.code, ended.err, ended.out)
        self.assert_failed(ended, *words)

    def test_a_node_of_a_network(self) -> None:
        """Of several nodes --network chooses one; where there is none of it, that is said."""
        ports = {name: self.node_of(name) for name in ("alerts", "weather")}
        for name in ("status", "doctor"):
            several = self.py2p(name, variables=self.here())
            self.assert_refused(several, "2 nodes run here", "alerts", "weather")
            nowhere = self.py2p(name, "--network=nowhere", variables=self.here())
            self.assert_refused(nowhere, "nowhere")
        for words in (
            ("status",), ("peers",), ("members",), ("ping", "--count=1"), ("top", "--count=1"),
            ("doctor",), ("ticket",), ("connect", f"{HOST}:{ports['weather']}"), ("reload",),
            ("bench", "--count=1", "--wait=1"),
        ):  # fmt: skip
            found = self.py2p(*words, "--network=alerts", variables=self.here())
            self.assertNotIn("no running node", found.err)
            self.assertNotIn("usage", found.err)
            self.assertIn(found.code, (0, 1, 3), found)
            if words == ("status",):
                self.assertIn("network: alerts (", found.out)
            if words[0] == "connect":
                self.assert_failed(found, "network")
            if words == ("ticket",):
                shown = self.py2p("ticket", "show", found.out.strip())
                self.assertIn("alerts", shown.out)
                self.assertIn(f"{HOST}:{ports['alerts']}", shown.out)

    def test_a_node_that_does_not_answer(self) -> None:
        """It is waited for as long as --timeout says, and there is one line."""
        path = self.folder / "deaf.sock"
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.bind(str(path))
            deaf.listen(64)
            for words in (
                ("status",), ("peers",), ("members",), ("ping",), ("doctor",), ("ticket",),
                ("connect", f"{HOST}:1"), ("reload",), ("bench", "--count=1", "--wait=1"),
            ):  # fmt: skip
                begun = time.monotonic()
                ended = self.py2p(*words, f"--control={path}", f"--timeout={SHORT}")
                self.assertLess(time.monotonic() - begun, LONG, words)
                (line,) = (ended.out or ended.err).splitlines(keepends=True)
                self.assertEqual(ended.code, 1, ended)
                self.assertIn("does not answer", line)
            # This one looks again.
            begun = time.monotonic()
            ended = self.py2p("top", "--count=1", f"--control={path}", f"--timeout={SHORT}")
            self.assertLess(time.monotonic() - begun, LONG)
            self.assert_failed(ended, "does not answer")


class ChatTests(CommandsTestCase):
    def test_how_long_joining_may_take(self) -> None:
        """Nobody is there, and after so long that is said."""
        begun = time.monotonic()
        ended = self.py2p("chat", at(free_port()), f"--timeout={SHORT}")
        self.assertLess(time.monotonic() - begun, LONG)
        self.assertEqual(ended.code, 1)
        self.assertIn("could not join", ended.err)

    def test_another_network(self) -> None:
        """Who talks belongs to --network, and to no other."""
        _, port = self.py2p_node("--network=alerts", "--control=none")
        self.assert_failed(self.py2p("chat", at(port), "--network=weather"), "another network")
        ended = self.py2p("chat", at(port), "--network=alerts", data="hello\n")
        self.assertEqual(ended.code, 0, ended)
