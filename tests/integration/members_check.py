"""
``py2p members`` and ``ping``: real processes, real sockets.

Times are in seconds. Source: docs/howto/commands.rst, "Through a node that runs".
"""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

from py2p_twisted import __version__
from tests.integration.commands_check import reference
from tests.integration.control_check import ControlCheckCase
from tests.integration.driver import HOST, ORIGINAL, Node
from tests.integration.reference import environment


class MembersTests(ControlCheckCase):
    def members(self, path: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
        """What ``py2p members --json`` says, and its exit code."""
        ended = self.py2p("members", f"--control={path}", "--json", *arguments)
        self.assertEqual(ended.err, "")
        answer: dict[str, Any] = json.loads(ended.out)
        return ended.code, answer

    def await_members(self, path: Path, count: int) -> dict[str, Any]:
        """Wait until so many have answered, and nobody is missing."""
        answers: list[dict[str, Any]] = []

        def there() -> bool:
            code, answer = self.members(path)
            answers.append(answer)
            return len(answer["members"]) == count and code == 0

        self.wait_for(there, f"{count} members", 30)
        return answers[-1]

    def test_a_network_of_eight(self) -> None:
        """All are found from the first; one that is stopped is named, one that is killed is not."""
        _, port, path = self.talking("one.sock")
        others = []
        ports = [port]
        for _ in range(7):
            other, port = self.py2p_node(f"--join={HOST}:{ports[-1]}")
            others.append(other)
            ports.append(port)
        answer = self.await_members(path, 8)
        rows = answer["members"]
        self.assertEqual({row["address"] for row in rows}, {f"{HOST}:{port}" for port in ports})
        self.assertEqual((rows[0]["hops"], rows[0]["rtt"]), (0, 0.0))
        ids = [row["id"] for row in rows]
        for row in rows:
            self.assertEqual(row["version"], __version__)
            self.assertLessEqual(set(row["neighbours"]), set(ids) - {row["id"]})
            self.assertTrue(row["neighbours"])
            self.assertLess(row["rtt"], 5.0)
        self.assertEqual((answer["plain"], answer["silent"]), ([], []))
        self.assertLess(answer["seconds"], 5.0)

        table = self.py2p("members", f"--control={path}")
        self.assertEqual((table.code, table.err), (0, ""))
        lines = table.out.splitlines()
        self.assertEqual({line[:8] for line in lines[1:9]}, {ident[:8] for ident in ids})
        self.assertRegex(lines[-1], r"^8 members; it took \d\.\d\d s$")

        target = next(row for row in rows if row["address"] == f"{HOST}:{ports[3]}")["id"]
        ended = self.py2p("ping", f"--control={path}", "--count=3", "--interval=0.5", target[:10])
        self.assertEqual((ended.code, ended.err), (0, ""))
        *rounds, empty, last = ended.out.splitlines()
        for number, line in enumerate(rounds, 1):
            self.assertRegex(
                line, rf"^{target[:8]} {HOST}:{ports[3]}: round={number} hops=\d time=[\d.]+ ms$"
            )
        self.assertEqual((len(rounds), empty), (3, ""))
        found = re.fullmatch(
            r".*: 3 of 3 answered, min/avg/max = ([\d.]+)/([\d.]+)/([\d.]+) ms", last
        )
        assert found is not None, last
        least, mean, most = map(float, found.groups())
        self.assertTrue(0 < least <= mean <= most < 5000)

        others[2].send_signal(signal.SIGSTOP)
        self.addCleanup(others[2].send_signal, signal.SIGCONT)
        code, answer = self.members(path, "--timeout=10")
        self.assertEqual((code, len(answer["members"]), answer["silent"]), (1, 7, [target]))
        another = next(ident for ident in ids[1:] if ident != target)
        ended = self.py2p("ping", f"--control={path}", "--count=1", "--json", target, another)
        self.assertEqual(ended.code, 1)
        *said, summary = map(json.loads, ended.out.splitlines())
        self.assertEqual(
            {row["id"]: row["answered"] for row in said}, {target: False, another: True}
        )
        self.assertEqual([one["answered"] for one in summary["summary"]], [1, 0])
        others[2].send_signal(signal.SIGCONT)
        self.await_members(path, 8)
        others[2].kill()
        others[2].wait()
        self.await_members(path, 7)

    def test_one_that_is_alone(self) -> None:
        """Everybody has answered; but there is nobody to ping."""
        _, _, path = self.talking("x.sock")
        code, answer = self.members(path)
        self.assertEqual((code, len(answer["members"])), (0, 1))
        ended = self.py2p("ping", f"--control={path}", "--count=1")
        self.assertEqual(ended, (1, "\nthere is nobody but this node\n", ""))
        self.assert_failed(
            self.py2p("members", f"--control={self.folder}/none"),
            "py2p members: no running node at",
        )

    def test_ctrl_c(self) -> None:
        """What is known is said."""
        _, port, path = self.talking("one.sock")
        self.py2p_node(f"--join={HOST}:{port}")
        self.await_members(path, 2)
        pinging = self.start("ping", f"--control={path}", "--count=0", "--interval=0.5")
        self.await_text(lambda: pinging.out, "round=2 ")
        pinging.send_signal(signal.SIGINT)
        ended = pinging.end()
        self.assertEqual((ended.code, ended.err), (130, "py2p ping: interrupted\n"))
        self.assertRegex(ended.out.splitlines()[-1], r": (\d+) of \1 answered, min/avg/max = ")

    def test_a_node_of_0_6(self) -> None:
        """It is listed, and goes on as if nothing were: surveys are not shown to it."""
        plain = Node(ORIGINAL, reference().python, environment())
        self.addCleanup(plain.kill)
        plain.start(max_outgoing=0)
        _, port, path = self.talking("one.sock", f"--join={HOST}:{plain.port}")
        _, _, other = self.talking("other.sock", f"--join={HOST}:{port}")
        self.await_joined(path)
        answer = self.await_members(path, 2)
        ident = plain.id.decode()
        self.assertEqual(answer["plain"], [ident])
        seen = self.await_members(other, 2)
        self.assertIn(seen["plain"], ([ident], [ident[:12]]))
        table = self.py2p("members", f"--control={path}").out.splitlines()
        self.assertRegex(table[3], rf"^{ident[:8]} .* py2p 0\.6$")
        self.assertRegex(table[-1], r"^2 members, 1 node of py2p 0\.6; ")
        self.assertEqual(self.py2p("ping", f"--control={path}", "--count=1", ident[:8]).code, 1)
        ended = self.py2p("send", f"--control={other}", "storm")
        self.assertEqual(ended, (0, "", ""))
        self.wait_for(lambda: plain.messages(), "the message", 20)
        self.assertEqual([packets[1:] for packets in plain.messages()], [["storm"]])
