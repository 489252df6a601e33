"""
A node that runs, and those who talk with it: real processes, real sockets.

Times are in seconds. Source: docs/reference/control.rst, docs/howto/commands.rst.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import stat
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.integration.commands_check import Command, CommandsTestCase, free_port
from tests.integration.driver import HOST
from tests.integration.reference import PROJECT

#: What the node sends is read in pieces of this size.
PIECE = 65_536


def health_check() -> list[str]:
    """What the container asks ``py2p`` for to see whether its node is well."""
    text = (PROJECT / "contrib/container/Containerfile").read_text()
    (line,) = re.findall(r"^HEALTHCHECK .*CMD (\[.*\])$", text, re.M)
    words: list[str] = json.loads(line)
    assert words[0].endswith("/py2p")
    return words[1:]


class ControlCheckCase(CommandsTestCase):
    """Tests with nodes that can be talked with, in a folder with a short name."""

    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.TemporaryDirectory(prefix="py2p-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def talking(self, name: str, *arguments: str, **how: Any) -> tuple[Command, int, Path]:
        """A node with a socket of this name, once it can be talked with; its port, the socket."""
        path = self.folder / name
        node, port = self.py2p_node(f"--control={path}", *arguments, **how)
        self.await_text(lambda: node.err, "it can be talked with at")
        return node, port, path

    def ask(self, path: object, word: str) -> dict[str, Any]:
        """What a node answers, without a command's help."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(str(path))
            client.sendall(json.dumps({"id": 1, "do": word}).encode() + b"\n")
            answer: dict[str, Any] = json.loads(client.makefile().readline())
        return answer

    def await_joined(self, path: object) -> None:
        """Wait until a node has joined."""
        self.wait_for(lambda: self.ask(path, "status")["joined"], "joined", 20)


class TwoNodesTests(ControlCheckCase):
    def test_all_commands(self) -> None:
        """Two nodes: how they are, whom they know, and what is said between them."""
        _, port, one = self.talking("one.sock")
        _, _, other = self.talking("other.sock")
        self.assertEqual(stat.S_IMODE(os.stat(one).st_mode), 0o600)
        ended = self.py2p("status", f"--control={one}", "--json")
        self.assertEqual((ended.code, ended.err), (1, ""))
        ids = {one: json.loads(ended.out)["id"]}

        ended = self.py2p("connect", f"--control={other}", f"{HOST}:{port}")
        self.assertEqual((ended.code, ended.err), (0, ""))
        self.assertRegex(ended.out, rf"^connected to \w+ at {HOST}:{port}\n$")
        self.await_joined(one)
        self.await_joined(other)
        self.assert_failed(
            self.py2p("connect", f"--control={other}", f"{HOST}:{free_port()}"),
            "py2p connect: ",
            "refuses connections",
        )

        ended = self.py2p("status", f"--control={other}")
        self.assertEqual((ended.code, ended.err), (0, ""))
        self.assertIn("joined: yes, 1 peer\n", ended.out)
        ids[other] = self.ask(other, "status")["status"]["id"]
        for here, there in ((one, other), (other, one)):
            ended = self.py2p("peers", f"--control={here}", "--json")
            (peer,) = map(json.loads, ended.out.splitlines())
            self.assertEqual((peer["id"], peer["kind"]), (ids[there], "neighbour"))
        table = self.py2p("peers", f"--control={other}").out.splitlines()
        self.assertEqual(len(table), 2)
        self.assertIn(f"{HOST}:{port} >", table[1])

        listener = self.start("listen", f"--control={one}", "--count=2", "--json")
        self.await_text(lambda: listener.err, "through the node at")
        for packets in (["storm", "north"], ["all clear"]):
            ended = self.py2p("send", f"--control={other}", *packets)
            self.assertEqual(ended, (0, "", ""))
        ended = listener.end()
        self.assertEqual(ended.code, 0)
        said = [json.loads(line) for line in ended.out.splitlines()]
        self.assertEqual([one["packets"] for one in said], [["storm", "north"], ["all clear"]])
        self.assertEqual([one["sender"] for one in said], [ids[other]] * 2)

    def test_watching(self) -> None:
        """Until Ctrl-C, which ends it with one line."""
        _, _, path = self.talking("x.sock")
        watching = self.start("status", "--watch", f"--control={path}")
        self.await_text(lambda: watching.out, "joined: no", times=2)
        watching.send_signal(signal.SIGINT)
        ended = watching.end()
        self.assertEqual((ended.code, ended.err), (130, "py2p status: interrupted\n"))


class PlaceTests(ControlCheckCase):
    def test_the_users_folder(self) -> None:
        """Where a node is when nobody has said where: the commands find it, if it is the only."""
        variables = {"XDG_RUNTIME_DIR": str(self.folder)}
        port = free_port()
        listen = f"--listen=tcp:{port}:interface={HOST}"
        node = self.start("node", listen, "--network=alerts", variables=variables)
        self.await_text(lambda: node.err, "it can be talked with at")
        path = self.folder / "py2p" / f"alerts-{port}.sock"
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(os.stat(path.parent).st_mode), 0o700)
        ended = self.py2p("status", "--network=alerts", "--json", variables=variables)
        self.assertEqual(json.loads(ended.out)["address"], f"{HOST}:{port}")
        *words, where = health_check()
        self.assertEqual(where, "--control=/run/node/control.sock")
        ended = self.py2p(*words, f"--control={path}", variables=variables)
        self.assertEqual(ended, (1, "", ""))  # it is alone
        ended = self.py2p("send", "--control", "--network=alerts", "x", variables=variables)
        self.assertEqual(ended.code, 0)
        self.assertIn("the node has no peers at the moment", ended.err)
        ended = self.py2p("status", "--network=mesh", variables=variables)
        self.assert_failed(ended, "no running node found: none of network mesh in")
        node.send_signal(signal.SIGTERM)
        self.assertEqual(node.wait(), 0)
        self.assertFalse(path.exists())

    def test_two_nodes_at_one_socket(self) -> None:
        """The second one does not start, and says who is in its way; the first one stays."""
        _, _, path = self.talking("x.sock")
        ended = self.py2p("node", f"--listen=tcp:0:interface={HOST}", f"--control={path}")
        self.assert_failed(ended, f"a node is there already that can be talked with at {path}")
        self.assertTrue(self.ask(path, "status")["ok"])

    def test_killed_and_started_again(self) -> None:
        """The socket that a killed node has left is in nobody's way."""
        node, port, path = self.talking("x.sock")
        before = self.ask(path, "status")["status"]["id"]
        watching = self.start("status", "--watch", f"--control={path}")
        listener = self.start("listen", f"--control={path}")
        self.await_text(lambda: listener.err, "through the node at")
        self.await_text(lambda: watching.out, "joined: no")
        node.send_signal(signal.SIGKILL)
        node.wait()
        self.assertTrue(path.exists())
        self.assertEqual(listener.end().code, 1)
        self.assertIn("the node has hung up", listener.err)
        self.assert_failed(
            self.py2p("status", f"--control={path}"),
            f"no running node at {path}: nobody answers there any more; start a node",
        )
        self.assertEqual(self.py2p("status", "--quiet", f"--control={path}"), (1, "", ""))
        self.talking("x.sock", port=port)
        self.assertNotEqual(self.ask(path, "status")["status"]["id"], before)
        seen = watching.out.count("joined: no")
        self.await_text(lambda: watching.out, "joined: no", times=seen + 1)

    def test_a_port_and_a_token(self) -> None:
        """Where there are no Unix sockets: a wrong token is answered by nothing at all."""
        token, port = self.folder / "token", free_port()
        place = f"tcp:{HOST}:{port}:token={token}"
        node, _ = self.py2p_node(f"--control={place}")
        self.await_text(lambda: node.err, "it can be talked with at")
        self.assertEqual(stat.S_IMODE(token.stat().st_mode), 0o600)
        self.assertIn("joined: no\n", self.py2p("status", f"--control={place}").out)
        wrong = self.folder / "wrong"
        wrong.write_text("0" * 64)
        ended = self.py2p("status", f"--control=tcp:{HOST}:{port}:token={wrong}")
        self.assert_failed(ended, "the node has hung up")
        for said in (b'{"token": "x"}\n', b"GET / HTTP/1.1\r\n\r\n", b"x" * 5000):
            with socket.create_connection((HOST, port), 10) as stranger:
                stranger.sendall(said)
                with contextlib.suppress(ConnectionError):
                    self.assertEqual(stranger.recv(100), b"")
        self.assertIn("a client with a wrong token was turned away", node.err)
        ended = self.py2p("status", f"--control=tcp:{HOST}:{port}:token={self.folder}/none")
        self.assert_failed(ended, "its token cannot be read from")
        node.send_signal(signal.SIGTERM)
        self.assertEqual(node.wait(), 0)
        self.assertFalse(token.exists())

    def test_twist(self) -> None:
        """The plugin takes the same option."""
        path = self.folder / "x.sock"
        command = [sys.executable, "-m", "twisted", "py2p", "--listen=tcp:0:interface=127.0.0.1"]
        node = self.start(command=[*command, f"--control={path}"])
        self.wait_for(path.exists, "a socket", 20)
        self.assertTrue(self.ask(path, "status")["ok"])
        node.send_signal(signal.SIGTERM)
        self.assertIn(node.wait(), (0, -signal.SIGTERM))
        self.assertFalse(path.exists())


class GreedyTests(ControlCheckCase):
    def test_clients_that_do_not_read(self) -> None:
        """They cost the node what the documentation says, and are told what they have missed."""
        node, port, path = self.talking("x.sock")
        _, _, other = self.talking("other.sock", f"--join={HOST}:{port}")
        self.await_joined(other)
        deaf = []
        for _ in range(4):
            client = socket.socket(socket.AF_UNIX)
            self.addCleanup(client.close)
            client.settimeout(20)
            client.connect(str(path))
            client.sendall(b'{"id": 1, "do": "listen", "events": ["message"]}\n')
            self.assertIn(b'"ok": true', client.recv(PIECE))
            deaf.append(client)
        before = node.memory
        text = "x" * 20_000
        lines = "".join(f'["{number}", "{text}"]\n' for number in range(1_500))
        ended = self.py2p("send", "--json", f"--control={other}", data=lines)
        self.assertEqual(ended, (0, "", ""))
        self.assertEqual(self.py2p("send", f"--control={other}", "last"), (0, "", ""))
        # 30 MB are held for others in any case; the four share what waits for them, 8 MiB.
        self.assertLess(node.memory - before, 80 * 2**20)
        data = b""
        while b'"last"' not in data:
            piece = deaf[0].recv(PIECE)
            self.assertTrue(piece)
            data += piece
        said = [json.loads(line) for line in data.splitlines()]
        dropped = [one["dropped"] for one in said if one["event"] == "dropped"]
        messages = data.count(b'"event": "message"')
        self.assertEqual(sum(dropped) + messages, 1_501)
        self.assertGreater(sum(dropped), 500)
        self.assertTrue(self.ask(path, "status")["ok"])
