"""
What an operator types: real processes, real sockets, a terminal where it matters.

``send --wait``, ``bench``, ``top``, ``doctor`` and ``chat --control``. Times are in seconds. Source:
docs/howto/commands.rst.
"""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest

from py2p_twisted.cli import bench, findings
from tests.integration.clocks import FaketimeMissing, wrong_by
from tests.integration.commands_check import OnTerminal, at, free_port, reference
from tests.integration.control_check import ControlCheckCase
from tests.integration.driver import HOST, ORIGINAL, Node
from tests.integration.hostile import handshake, new_id
from tests.integration.reference import environment


class OperatorTestCase(ControlCheckCase):
    """Tests with nodes that can be talked with, linked to one another."""

    def meet(self, *names: str) -> tuple[list[Any], list[int], list[Path]]:
        """Nodes that are linked, by name of their sockets: processes, ports, sockets."""
        nodes, ports, paths = [], [], []
        for name in names:
            join = [f"--join={HOST}:{ports[0]}"] if ports else []
            node, port, path = self.talking(f"{name}.sock", *join)
            nodes.append(node)
            ports.append(port)
            paths.append(path)
        for path in paths:
            self.wait_for(
                lambda path=path: self.ask(path, "status")["settled"] == len(names) - 1,  # type: ignore[misc]
                "links",
                20,
            )
        return nodes, ports, paths

    def id_of(self, path: object) -> str:
        """The id of a node."""
        ident: str = self.ask(path, "status")["status"]["id"]
        return ident

    def original(self, port: int, encryption: str = "Plaintext") -> Node:
        """An original py2p 0.6 node that is linked to a node of ours."""
        node = Node(ORIGINAL, reference().python, environment())
        self.addCleanup(node.kill)
        node.start(encryption=encryption, max_outgoing=0)
        if port:
            node.ask("connect", port=port)
        return node

    def on_terminal(self, *arguments: str) -> OnTerminal:
        """A command on a terminal."""
        terminal = OnTerminal(*arguments)
        self.addCleanup(terminal.kill)
        return terminal


# --- send --wait -----------------------------------------------------------------


class WaitTests(OperatorTestCase):
    def test_complete(self) -> None:
        """All have it: through a node, and for one that joins by itself."""
        _, ports, paths = self.meet("one", "two", "three")
        ids = [self.id_of(path) for path in paths]
        ended = self.py2p("send", "--wait", "--json", f"--control={paths[0]}", "storm", "north")
        self.assertEqual((ended.code, ended.err), (0, ""))
        said = json.loads(ended.out)
        self.assertEqual(said["delivered"], sorted(ids[1:]))
        self.assertEqual((said["missing"], said["unknown"], said["complete"]), ([], [], True))
        ended = self.py2p("send", "--wait", at(ports[1]), "storm")
        self.assertEqual((ended.code, ended.err), (0, ""))
        self.assertRegex(ended.out, r"^3 members have it \(\d+ ms\)\n$")
        ended = self.py2p("send", "--wait", "--lines", at(ports[1]), data="a\nb\n")
        self.assertEqual([line[:18] for line in ended.out.splitlines()],
                         ["line 1: 3 members ", "line 2: 3 members "])  # fmt: skip

    def test_a_member_that_has_stopped(self) -> None:
        """It is named, and the exit code is 3; the others have it."""
        nodes, _, paths = self.meet("one", "two", "three")
        ids = [self.id_of(path) for path in paths]
        nodes[2].send_signal(signal.SIGSTOP)
        self.addCleanup(nodes[2].send_signal, signal.SIGCONT)
        ended = self.py2p("send", "--wait=3", f"--control={paths[0]}", "storm")
        self.assertEqual((ended.code, ended.err), (3, ""))
        self.assertRegex(ended.out, r"^1 of 2 members said that they have it \(3\.\d s\)\n")
        self.assertEqual(ended.out.splitlines()[1:], [f"missing: {ids[2]}"])

    def test_a_member_that_has_stopped_for_a_newcomer(self) -> None:
        """Who has just joined knows of it as well: others name it."""
        nodes, ports, paths = self.meet("one", "two", "three")
        ids = [self.id_of(path) for path in paths]
        nodes[2].send_signal(signal.SIGSTOP)
        self.addCleanup(nodes[2].send_signal, signal.SIGCONT)
        ended = self.py2p("send", "--wait=2", "--json", at(ports[0]), "storm")
        said = json.loads(ended.out)
        self.assertEqual((ended.code, said["delivered"]), (3, sorted(ids[:2])))
        self.assertEqual([one[:12] for one in said["missing"]], [ids[2][:12]])

    def test_nobody(self) -> None:
        """A node that is alone has nobody to ask; without a node nothing is sent."""
        _, _, path = self.talking("one.sock")
        ended = self.py2p("send", "--wait=1", f"--control={path}", "storm")
        self.assertEqual((ended.code, ended.err), (3, ""))
        self.assertIn("no member was there", ended.out)
        ended = self.py2p("send", "--wait=1", "--timeout=1", at(free_port()), "storm")
        self.assertEqual((ended.code, ended.out), (1, ""))
        self.assertIn("could not join through", ended.err)

    def test_an_original(self) -> None:
        """It was given the message, and cannot tell."""
        _, port, path = self.talking("one.sock")
        self.original(port)
        self.await_joined(path)
        ended = self.py2p("send", "--wait", "--json", f"--control={path}", "storm")
        said = json.loads(ended.out)
        self.assertEqual((ended.code, said["delivered"], len(said["unknown"])), (0, [], 1))
        ended = self.py2p("send", "--wait", at(port), "storm")
        self.assertEqual(ended.code, 0)
        self.assertRegex(ended.out, r"^1 member has it, 1 node of py2p 0\.6 cannot tell \(")

    def test_ctrl_c(self) -> None:
        nodes, _, paths = self.meet("one", "two")
        nodes[1].send_signal(signal.SIGSTOP)
        self.addCleanup(nodes[1].send_signal, signal.SIGCONT)
        terminal = self.on_terminal("send", "--wait=60", f"--control={paths[0]}", "x")
        # Each second is there for half a second or so, which a busy machine may miss.
        terminal.await_text("py2p send: waiting for receipts, ")
        self.assertIn(" s of 60 s at most", terminal.text)
        terminal.type("\x03")
        self.assertEqual(terminal.end(), 130)
        self.assertIn("py2p send: interrupted", terminal.text)
        self.assertNotIn("waiting for receipts", terminal.text)


# --- bench -----------------------------------------------------------------------


class BenchTests(OperatorTestCase):
    def test_two_nodes(self) -> None:
        """All messages arrive, and applications can tell them."""
        _, _, paths = self.meet("one", "two")
        listener = self.start("listen", f"--control={paths[1]}", "--count=23", "--json")
        self.await_text(lambda: listener.err, "through the node at")
        ended = self.py2p("bench", f"--control={paths[0]}", "--count=20", "--json")
        self.assertEqual(ended.code, 0, ended)
        told = json.loads(ended.out)
        self.assertEqual((told["messages"], told["complete"], told["members"]), (20, 20, 1))
        self.assertGreater(told["per_second"], 2)
        self.assertLess(told["p50"], 5.0)
        self.assertIn("every member's application is given 23 messages", ended.err)
        said = [json.loads(line) for line in listener.end().out.splitlines()]
        self.assertEqual({one["type"] for one in said}, {bench.TYPE})

    def test_a_rate(self) -> None:
        _, _, paths = self.meet("one", "two")
        ended = self.py2p(
            "bench", f"--control={paths[0]}", "--count=6", "--rate=4", "--size=5000", "--wait=5"
        )
        self.assertEqual(ended.code, 0, ended)
        self.assertIn("6 messages of 4.9 KiB to 1 member, 6 complete\n", ended.out)

    def test_ctrl_c(self) -> None:
        """The bar is gone, and what was measured is there."""
        _, _, paths = self.meet("one", "two")
        terminal = self.on_terminal("bench", f"--control={paths[0]}", "--at-once=5")
        terminal.await_text("py2p bench: [#")
        terminal.type("\x03")
        self.assertEqual(terminal.end(), 130)
        self.assertIn("(interrupted)", terminal.text)
        self.assertIn("last receipt   p50", terminal.text)
        self.assertNotIn("[#", terminal.text)


# --- top -------------------------------------------------------------------------


class TopTests(OperatorTestCase):
    def test_lines_and_objects(self) -> None:
        _, _, paths = self.meet("one", "two")
        ended = self.py2p("top", f"--control={paths[0]}", "--count=2")
        self.assertEqual((ended.code, ended.err), (0, ""))
        self.assertEqual(len(ended.out.split("\n\n")), 2)
        ended = self.py2p("top", f"--control={paths[0]}", "--count=1", "--json", "--sort=rtt")
        (peer,) = json.loads(ended.out)["peers"]
        self.assertEqual((peer["id"], peer["kind"]), (self.id_of(paths[1]), "neighbour"))

    def test_on_a_terminal(self) -> None:
        """It is drawn in place; traffic is seen; keys sort; q leaves a terminal as it was."""
        _, _, paths = self.meet("one", "two", "three")
        terminal = self.on_terminal("top", f"--control={paths[0]}")
        terminal.await_text("sorted by in")
        self.py2p("send", "--json", f"--control={paths[1]}", data=f'["{"x" * 100_000}"]\n' * 20)
        terminal.watch(lambda: "MiB" in terminal.text or "KiB/s" in terminal.text, "traffic")
        terminal.type("n")
        terminal.await_text("sorted by id")
        for words in ("waiting", "of mesh (Plaintext), 2 peers", "sorted by"):
            self.assertEqual(terminal.text.count(words), 1)
        terminal.type("q")
        self.assertEqual(terminal.end(), 0)
        self.assertEqual(terminal.modes, terminal.before)

    def test_ctrl_c(self) -> None:
        _, _, path = self.talking("one.sock")
        terminal = self.on_terminal("top", f"--control={path}")
        terminal.await_text("0 peers")
        terminal.type("\x03")
        self.assertEqual(terminal.end(), 130)
        self.assertEqual(terminal.modes, terminal.before)
        self.assertIn("py2p top: interrupted", terminal.text)

    def test_a_node_that_is_started_again(self) -> None:
        node, port, path = self.talking("one.sock")
        watching = self.start("top", f"--control={path}")
        self.await_text(lambda: watching.out, "0 peers")
        node.send_signal(signal.SIGTERM)
        node.wait()
        self.await_text(lambda: watching.err, "no running node at")
        seen = watching.out.count("0 peers")
        self.talking("one.sock", port=port)
        self.await_text(lambda: watching.out, "0 peers", times=seen + 1)


# --- chat ------------------------------------------------------------------------


class ChatTests(OperatorTestCase):
    def test_through_a_node(self) -> None:
        """What is typed is shown once, what others say above it."""
        _, ports, paths = self.meet("one", "two")
        terminal = self.on_terminal("chat", f"--control={paths[0]}", "--name=ada")
        terminal.await_text("* through the node at")
        terminal.watch(lambda: terminal.last == "> ", "the prompt")
        terminal.type("hello\n")
        heard = self.start("listen", f"--control={paths[1]}", "--count=1")
        self.await_text(lambda: heard.err, "through the node at")
        terminal.type("again\n")
        self.assertIn("ada  again", heard.end().out)
        self.assertEqual(self.py2p("chat", at(ports[1]), "--name=ben", data="hi ada\n").code, 0)
        terminal.await_text("ben: hi ada")
        self.assertEqual(terminal.text.count("hello"), 1)
        terminal.type("\x04")
        self.assertEqual(terminal.end(), 0)
        self.assertEqual(terminal.modes, terminal.before)


# --- doctor ----------------------------------------------------------------------


class Listener:
    """Something that listens on a port of this machine, and does what it is told with who comes."""

    def __init__(self, act: Callable[[socket.socket], object], backlog: int = 8) -> None:
        self._socket = socket.create_server((HOST, 0), backlog=backlog)
        self.port: int = self._socket.getsockname()[1]
        self._act = act
        self._kept: list[socket.socket] = []
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            self._kept.append(peer)
            try:
                self._act(peer)
            except OSError:
                continue

    def close(self) -> None:
        self._socket.close()
        for one in self._kept:
            one.close()


class DoctorTestCase(OperatorTestCase):
    def doctor(self, *arguments: str, code: int) -> list[dict[str, str]]:
        """What it finds; the exit code has to be this one."""
        ended = self.py2p("doctor", *arguments, "--json")
        found = [json.loads(line) for line in ended.out.splitlines()]
        self.assertEqual((ended.code, ended.err), (code, ""), found)
        return found

    def assert_fails(self, found: list[dict[str, str]], about: str, words: str) -> None:
        """One finding is a failure, about this, and says so; and what to do."""
        (one,) = [finding for finding in found if finding["level"] == "FAIL"]
        self.assertEqual(one["about"], about, one)
        self.assertIn(words, one["what"])
        self.assertTrue(one["do"])

    def listening(self, act: Callable[[socket.socket], object], **how: Any) -> str:
        """The address of something that listens."""
        listener = Listener(act, **how)
        self.addCleanup(listener.close)
        return f"{HOST}:{listener.port}"


class DoctorNodeTests(DoctorTestCase):
    """The node on this machine."""

    def test_well(self) -> None:
        """Nothing fails. That it is dialled for that costs it no peer, and is no error of its."""
        _, _, paths = self.meet("one", "two")
        for _ in range(2):
            found = self.doctor(f"--control={paths[0]}", code=0)
            self.assertEqual([(one["level"], one["about"]) for one in found],
                             [("ok", "joined"), ("ok", "clock"), ("warn", "address"), ("ok", "address")])  # fmt: skip
        self.assertEqual(self.ask(paths[0], "status")["status"]["errors"], [])
        ended = self.py2p("doctor", f"--control={paths[0]}")
        self.assertRegex(ended.out, r"^ok    node \w{8} of network mesh \(Plaintext\) has 1 peer\n")

    def test_one_that_does_not_join(self) -> None:
        """What it tries, and why that fails."""
        port = free_port()
        _, _, path = self.talking("one.sock", f"--join={HOST}:{port}")
        self.wait_for(lambda: self.ask(path, "status")["status"]["errors"], "an error", 20)
        found = self.doctor(f"--control={path}", code=1)
        self.assert_fails(found, "joined", "has no peers")
        (error,) = [one for one in found if one["about"] == "errors"]
        self.assertIn(f"{HOST}:{port} refuses connections", error["what"])

    def test_one_of_another_network(self) -> None:
        _, port, _ = self.talking("one.sock", "--network=alerts")
        _, _, path = self.talking("two.sock", f"--join={HOST}:{port}")
        self.wait_for(lambda: self.ask(path, "status")["status"]["errors"], "an error", 20)
        found = self.doctor(f"--control={path}", code=1)
        self.assertIn("peer belongs to network", "".join(one["what"] for one in found))

    def test_an_address_that_is_not_its_own(self) -> None:
        """It advertises one where nobody listens, and one of nobody."""
        port = free_port()
        _, _, path = self.talking("one.sock", f"--advertise={HOST}:{port}")
        found = self.doctor(f"--control={path}", code=1)
        self.assertIn("it cannot be dialled where it says", found[-1]["what"])
        _, _, path = self.talking("two.sock", "--advertise=192.0.2.7:4444")
        found = self.doctor(f"--control={path}", code=1)
        (one,) = [finding for finding in found if "no address of this machine" in finding["what"]]
        self.assertEqual(one["level"], "warn")

    def test_one_that_is_full(self) -> None:
        """A limit that is reached is told."""
        _, port, path = self.talking("one.sock", "--max-peers=1")
        self.talking("two.sock", f"--join={HOST}:{port}")
        self.await_joined(path)
        found = self.doctor(f"--control={path}", code=0)
        self.assertIn("limits", [one["about"] for one in found])
        found = self.doctor(f"{HOST}:{port}", code=0)
        self.assertEqual((found[0]["level"], found[0]["about"]), ("warn", "full"))

    def test_one_that_has_stopped(self) -> None:
        node, port, path = self.talking("one.sock")
        node.send_signal(signal.SIGSTOP)
        self.addCleanup(node.send_signal, signal.SIGCONT)
        found = self.doctor(f"--control={path}", "--timeout=2", code=1)
        self.assert_fails(found, "node", "does not answer within 2 s")
        found = self.doctor(f"{HOST}:{port}", code=1)
        self.assert_fails(found, "handshake", "accepts connections, and says nothing")

    def test_no_node(self) -> None:
        found = self.doctor(f"--control={self.folder}/none.sock", code=1)
        self.assert_fails(found, "node", "no running node at")

    def test_clocks(self) -> None:
        """One that is an hour ahead."""
        try:
            variables = wrong_by("+1h")
        except FaketimeMissing as error:
            raise SkipTest(str(error)) from error
        port = free_port()
        node = self.start(
            "node", f"--listen=tcp:{port}:interface={HOST}", "--control=none", variables=variables
        )
        self.await_text(lambda: node.err, "listening on")
        self.assert_fails(self.doctor(f"{HOST}:{port}", code=1), "clock", "ahead of this machine's")


class DoctorAddressTests(DoctorTestCase):
    """An address."""

    def test_well(self) -> None:
        _, port, path = self.talking("one.sock")
        found = self.doctor(f"localhost:{port}", code=0)
        self.assertEqual({one["level"] for one in found if "::1" not in one["what"]}, {"ok"})
        self.assertEqual(
            [one["about"] for one in found][-3:], ["connection", "clock", "round trip"]
        )
        found = self.doctor(f"{HOST}:{port}", f"--control={path}", code=1)  # it is alone
        self.assertEqual(found[-1]["about"], "identity")

    def test_an_original(self) -> None:
        node = self.original(0)
        found = self.doctor(f"{HOST}:{node.port}", code=0)
        self.assertIn("an original of py2p 0.6", found[0]["what"])

    def test_nobody(self) -> None:
        """Nobody listens; nobody knows the name; nobody answers."""
        found = self.doctor(f"{HOST}:{free_port()}", code=1)
        self.assert_fails(found, "connection", "refuses connections")
        self.assert_fails(
            self.doctor("nobody.invalid:4444", code=1), "name", "nobody knows the name"
        )
        # A queue of connections that nobody takes, and that is full.
        deaf = socket.create_server((HOST, 0), backlog=0)
        self.addCleanup(deaf.close)
        for _ in range(4):
            caller = socket.socket()
            self.addCleanup(caller.close)
            caller.setblocking(False)
            caller.connect_ex(deaf.getsockname())
        found = self.doctor(f"{HOST}:{deaf.getsockname()[1]}", code=1)
        self.assert_fails(found, "connection", "does not answer")

    def test_encryption(self) -> None:
        """Both ways, and if the network is another one besides."""
        _, plain, _ = self.talking("one.sock")
        _, secret, _ = self.talking("two.sock", "--tls", "--network=alerts")
        found = self.doctor(f"{HOST}:{plain}", "--tls", code=1)
        self.assert_fails(found, "encryption", "speaks plain text, and we speak TLS")
        found = self.doctor(f"{HOST}:{secret}", code=1)
        self.assert_fails(found, "encryption", "speaks TLS, and we speak plain text")
        self.doctor(f"{HOST}:{secret}", "--tls", "--network=alerts", code=0)
        found = self.doctor(f"{HOST}:{secret}", "--tls", code=1)
        self.assert_fails(found, "network", "and we are of mesh (SSL)")

    def test_another_network(self) -> None:
        _, port, _ = self.talking("one.sock")
        found = self.doctor(f"{HOST}:{port}", "--network=alerts", code=1)
        self.assert_fails(found, "network", "of the network mesh (Plaintext), and we are of alerts")

    def test_another_version(self) -> None:
        """It says who it is in the words of another version; or in words that nobody knows."""
        other = findings._protocol_id("mesh", "Plaintext", "0.7")
        where = self.listening(lambda peer: peer.sendall(handshake(new_id(), network=other)))
        self.assert_fails(self.doctor(where, code=1), "version", "speaks py2p 0.7")
        where = self.listening(lambda peer: peer.sendall(handshake(new_id(), network="other")))
        self.assert_fails(self.doctor(where, code=1), "network", "is of a network other")

    def test_something_else(self) -> None:
        """No py2p node: silent, talkative, in a hurry, or speaking TLS."""
        self.assert_fails(
            self.doctor(self.listening(lambda peer: None), code=1), "handshake", "says nothing"
        )
        talk = self.listening(lambda peer: peer.sendall(b"SSH-2.0-OpenSSH_9.2\r\n"))
        self.assert_fails(self.doctor(talk, code=1), "handshake", "is no py2p node")
        leave = self.listening(lambda peer: peer.close())
        self.assert_fails(self.doctor(leave, code=1), "handshake", "hangs up before")

    def test_ctrl_c(self) -> None:
        where = self.listening(lambda peer: None)
        terminal = self.on_terminal("doctor", where)
        terminal.await_text(f"py2p doctor: dialling {where}, ")
        terminal.type("\x03")
        self.assertEqual(terminal.end(), 130)
        self.assertIn("py2p doctor: interrupted", terminal.text)
