"""
Nodes that are told of nobody, and find each other: real processes in local networks of the test's
own; tickets; names with several addresses.

A local network here is a switch and hosts, each a network namespace::

    host 0 - eth0 --+
    host 1 - eth0 --+-- br0 of the switch
    host 2 - eth0 --+

Nothing leads out of it. Times are in seconds.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from twisted.trial.unittest import SkipTest

from py2p_twisted.core import beacon
from py2p_twisted.core.beacon import Beacon
from py2p_twisted.core.network import Network
from py2p_twisted.net.discovery import GROUP_4, PORT
from tests.integration.commands_check import _PY2P, Command, CommandsTestCase, free_port
from tests.integration.driver import HOST
from tests.integration.installed import PROJECT, new_folder
from tests.integration.namespaces import Namespace, NamespacesMissing, find_namespaces

#: Seconds in which nodes that start together find each other, on a busy machine.
SOON = 20.0

#: What the container has in the place of ``py2p``.
PROGRAM = "/opt/py2p/bin/py2p"

#: Addresses of the hosts.
FOUR = ipaddress.IPv4Network("192.0.2.0/24")

#: Sends what it is told to, as fast as it can for a while; prints how much that was.
_FLOOD = """
import socket, struct, sys, time
group, port, here, seconds = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
lines = [bytes.fromhex(line) for line in sys.stdin.read().split()]
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(here))
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for line in lines:
            sender.sendto(line, (group, port))
        count += len(lines)
        time.sleep(len(lines) / 5000)
print(count)
"""


def cpu(command: Command) -> float:
    """Seconds of processor time that a process has used."""
    after_name = Path(f"/proc/{command.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


#: Two sockets that are told of nobody.
_SOCKETS = """
import time
from py2p_twisted import mesh
from py2p_twisted.net import Discovery
ada = mesh.mesh_socket("127.0.0.1", 0, discover=True)
ben = mesh.mesh_socket("127.0.0.1", 0, discover=Discovery(["lo"]))
end = time.monotonic() + 20
while not (ada.routing_table and ben.routing_table) and time.monotonic() < end:
    time.sleep(0.05)
ada.send("storm")
print(list(ben.recv(timeout=10).packets[1:]), ben.status["discovery"]["interfaces"])
ada.close(), ben.close()
"""


class Lan:
    """
    A local network.

    :ivar hosts: its namespaces.
    """

    def __init__(self, count: int, *, four: bool = True, six: bool = True) -> None:
        """:raises NamespacesMissing: the system does not let us."""
        find_namespaces()
        self.hosts: list[Namespace] = []
        self.switch = Namespace()
        try:
            self.switch.ip("link add br0 type bridge", "link set br0 up")
            for number in range(count):
                self.add(number, four=four, six=six)
        except BaseException:
            self.close()
            raise

    def add(self, number: int, *, four: bool, six: bool) -> None:
        """Plug a host in."""
        host = Namespace()
        self.hosts.append(host)
        # Addresses of the link are used at once, without a second of asking who has them.
        off = 0 if six else 1
        host.run(
            ["sh", "-e", "-c", 'cd /proc/sys/net/ipv6/conf/default; echo 0 > accept_dad; echo "$0" > disable_ipv6', str(off)]
        )  # fmt: skip
        self.switch.ip(
            f"link add port{number} type veth peer name eth0 netns {host.pid}",
            f"link set port{number} master br0",
            f"link set port{number} up",
        )
        host.ip(
            *([f"address add {self.four(number)}/24 dev eth0"] if four else []),
            "link set eth0 up",
        )

    def four(self, number: int) -> str:
        """The IPv4 address of a host."""
        return str(FOUR[number + 1])

    def close(self) -> None:
        """Let go of it."""
        for namespace in (*self.hosts, self.switch):
            namespace.close()


class LanTestCase(CommandsTestCase):
    """Tests with nodes in a local network, each of which can be talked with."""

    def setUp(self) -> None:
        super().setUp()
        self.folder = new_folder("discovery")
        self._started = 0

    def lan(self, count: int, **families: bool) -> Lan:
        """A local network; it goes with the test."""
        try:
            lan = Lan(count, **families)
        except NamespacesMissing as reason:
            raise SkipTest(str(reason)) from reason
        self.addCleanup(lan.close)
        return lan

    def begin(
        self, host: Namespace, *arguments: str, before: tuple[str, ...] = ()
    ) -> tuple[Command, str]:
        """Start a node at a host; returns it, and where it can be talked with."""
        self._started += 1
        path = f"{self.folder}/{self._started}"
        command = [*host.enter, *before, *_PY2P, "node", f"--control={path}", *arguments]
        return self.start(command=command), path

    def ask(self, path: str, word: str = "status") -> dict[str, Any]:
        """What a node answers."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(path)
            client.sendall(json.dumps({"do": word}).encode() + b"\n")
            answer: dict[str, Any] = json.loads(client.makefile().readline())
        return answer

    def settled(self, path: str) -> int:
        """How many peers of a node are here to stay; 0 while it starts."""
        try:
            return int(self.ask(path).get("settled", 0))
        except OSError:
            return 0

    def await_settled(
        self, places: list[tuple[Command, str]], count: int, seconds: float = SOON
    ) -> None:
        """Wait until all of these have so many peers."""
        for command, path in places:
            try:
                self.wait_for(lambda path=path: self.settled(path) >= count, "peers", seconds)
            except AssertionError as error:
                raise AssertionError(f"{error}: {command.err}") from error

    def discovery(self, path: str) -> dict[str, Any]:
        """What a node says of its beacons."""
        found: dict[str, Any] = self.ask(path)["status"]["discovery"]
        return found


class DiscoverTests(LanTestCase):
    """``--discover``."""

    def assert_meet(self, lan: Lan, *arguments: str, listen: str) -> list[tuple[Command, str]]:
        nodes = [
            self.begin(host, f"--listen={listen}", "--discover", *arguments) for host in lan.hosts
        ]
        start = time.monotonic()
        self.await_settled(nodes, len(nodes) - 1)
        print(f"{len(nodes)} nodes have met after {time.monotonic() - start:.1f} s")
        return nodes

    def test_ipv4(self) -> None:
        """Three nodes of a network without IPv6 are told of nobody, and meet."""
        nodes = self.assert_meet(self.lan(3, six=False), listen="tcp:4444")
        for node, path in nodes:
            self.assertIn("at eth0 (IPv4), address 192.0.2.", node.err)
            self.assertEqual(self.discovery(path)["interfaces"], "eth0 (IPv4)")

    def test_ipv6(self) -> None:
        """The same with IPv6 alone, over addresses of the link."""
        nodes = self.assert_meet(self.lan(3, four=False), listen="tcp6:4444")
        for node, _ in nodes:
            self.assertIn("at eth0 (IPv6), address fe80::", node.err)
            self.assertNotIn("(IPv4)", node.err)

    def test_both(self) -> None:
        """With both, each other node is one peer."""
        nodes = self.assert_meet(self.lan(2), listen="tcp6:4444")
        time.sleep(1)
        self.assertEqual([self.settled(path) for _, path in nodes], [1, 1])
        self.assertEqual([self.discovery(path).get("foreign", 0) for _, path in nodes], [0, 0])

    def test_several_on_one_machine(self) -> None:
        """Several nodes on one machine share the UDP port, and meet as well."""
        (host,) = self.lan(1).hosts
        nodes = [self.begin(host, "--listen=tcp:0", "--discover") for _ in range(3)]
        self.await_settled(nodes, 2)

    def test_loopback(self) -> None:
        """Nodes that listen on the loopback interface alone look there, and nowhere else."""
        (host,) = self.lan(1).hosts
        nodes = [
            self.begin(host, f"--listen=tcp:0:interface={HOST}", "--discover") for _ in range(2)
        ]
        self.await_settled(nodes, 1)
        self.assertEqual(self.discovery(nodes[0][1])["interfaces"], "lo (IPv4)")

    def test_sockets(self) -> None:
        """``mesh_socket`` has it, too."""
        (host,) = self.lan(1).hosts
        script = self.start(command=[*host.enter, sys.executable, "-c", _SOCKETS])
        self.assertEqual(script.wait(), 0, script.err)
        self.assertEqual(script.out, "['storm'] lo (IPv4)\n")

    def test_foreign_networks(self) -> None:
        """Nodes of another network, or with TLS, are neither joined nor dialled."""
        lan = self.lan(3)
        nodes = [
            self.begin(host, "--listen=tcp:4444", "--discover", *arguments)
            for host, arguments in zip(
                lan.hosts, (["--network=red"], ["--network=blue"], ["--network=red", "--tls"]), strict=True
            )
        ]  # fmt: skip
        for node, _ in nodes:
            self.await_text(lambda node=node: node.err, "discovering nodes")
        self.wait_for(
            lambda: all(self.discovery(path).get("foreign", 0) > 3 for _, path in nodes),
            "foreign beacons", SOON,
        )  # fmt: skip
        for node, path in nodes:
            self.assertEqual(self.settled(path), 0)
            self.assertNotIn("found a node", node.err)
            self.assertNotIn("no connection", node.err)

    def test_interfaces(self) -> None:
        """One is chosen by name or address; one that comes later is used, and waited for quietly."""
        lan = self.lan(2, six=False)
        nodes = [
            self.begin(lan.hosts[0], "--listen=tcp:4444", "--discover", "--interface=late0"),
            self.begin(lan.hosts[1], "--listen=tcp:4444", "--discover", f"--interface={lan.four(1)}"),
        ]  # fmt: skip
        waiting = nodes[0][0]
        self.await_text(lambda: waiting.err, "there is no interface late0 that is up")
        self.await_text(lambda: nodes[1][0].err, "at eth0 (IPv4)")
        time.sleep(1.5)
        self.assertEqual(self.settled(nodes[0][1]), 0)
        lan.hosts[0].ip("link set eth0 down", "link set eth0 name late0", "link set late0 up")
        self.await_settled(nodes, 1, 40)
        self.assertEqual(waiting.err.count("there is no interface"), 1)
        self.assertIn("at late0 (IPv4)", waiting.err)

    def test_unplugged(self) -> None:
        """A node whose interface loses its address says so, and goes on when it has one again."""
        lan = self.lan(2, six=False)
        nodes = self.assert_meet(lan, listen="tcp:4444")
        lan.hosts[0].ip("link set eth0 down")
        self.await_text(lambda: nodes[0][0].err, "eth0 (IPv4) is gone")
        lan.hosts[0].ip("link set eth0 up")
        self.await_text(lambda: nodes[0][0].err, "discovering nodes", 2)

    def test_flood(self) -> None:
        """Hostile beacons by the thousand: the node answers at once, dials little, and stays small."""
        lan = self.lan(3, six=False)
        nodes = [self.begin(host, "--listen=tcp:4444", "--discover") for host in lan.hosts[:2]]
        self.await_settled(nodes, 1)
        victim, path = nodes[0]
        tag = beacon.network_tag(Network("mesh"))
        liars = [
            beacon.write(Beacon(f"liar{number}".encode(), 1 + number, "192.0.2.250"), tag)
            for number in range(200)
        ]
        sent = [liars[0][:-1], liars[0].replace(b'"port":1', b'"port":-1'), tag.encode() * 15]
        sent += [b"{" * 60_000, b"", b"\0" * 512, beacon.write(Beacon(b"x", 1), "f" * 32), *liars]
        before, busy = victim.memory, cpu(victim)
        flood = self.start(
            command=[*lan.hosts[2].enter, sys.executable, "-c", _FLOOD, GROUP_4, str(PORT), lan.four(2), "5"],
            stdin=self._file("\n".join(one.hex() for one in sent)),
        )  # fmt: skip
        longest, asked = 0.0, 0
        while flood.process.poll() is None:
            start = time.monotonic()
            self.assertTrue(self.ask(path)["ok"])
            longest, asked = max(longest, time.monotonic() - start), asked + 1
            time.sleep(0.05)
        told, busy = self.discovery(path), cpu(victim) - busy
        print(f"{int(flood.out)} hostile beacons in 5 s: {told}")
        print(f"they took {busy:.2f} s of processor time, an answer {longest:.3f} s at most")
        self.assertLess(busy, 2.5)
        self.assertGreater(asked, 20)
        self.assertLess(longest, 2.0)
        self.assertLess(victim.memory - before, 8 * 2**20)
        self.assertGreater(told["too many"], 100)
        self.assertGreater(told["bad"], 0)
        self.assertLess(told["new"], 30)
        self.assertEqual(self.settled(path), 1)

    def _file(self, text: str) -> Any:
        path = Path(self.folder) / "input"
        path.write_text(text)
        file = path.open("rb")
        self.addCleanup(file.close)
        return file


class NameTests(LanTestCase):
    """Names with several addresses."""

    def named(self, *addresses: str) -> tuple[str, ...]:
        """What stands before a command that is to know ``mesh.example`` by these addresses."""
        hosts = Path(self.folder) / f"hosts{self._started}"
        hosts.write_text("".join(f"{one} mesh.example\n" for one in addresses))
        script = 'mount --bind "$0" /etc/hosts && exec "$@"'
        return ("unshare", "--mount", "sh", "-c", script, str(hosts))

    def test_headless_service(self) -> None:
        """
        Three nodes have one command line: a name that stands for all of them, and for one that is
        dead. Each leaves itself out, and finds the others.
        """
        lan = self.lan(3, six=False)
        addresses = [lan.four(number) for number in range(3)]
        before = self.named(*addresses, "192.0.2.99")
        nodes = [
            self.begin(host, "--listen=tcp:4444", "--join=mesh.example:4444", before=before)
            for host in lan.hosts
        ]
        self.await_settled(nodes, 2, 40)

    def test_alone_at_first(self) -> None:
        """The first one finds itself alone under the name, says nothing, and finds who comes later."""
        lan = self.lan(2, six=False)
        before = self.named(lan.four(0))
        first = self.begin(
            lan.hosts[0], "--listen=tcp:4444", "--join=mesh.example:4444", before=before
        )
        self.await_text(lambda: first[0].err, "listening on")
        time.sleep(2)
        self.assertNotIn("no connection", first[0].err)
        self.assertEqual(self.ask(first[1])["status"]["errors"], [])
        hosts = Path(before[-1])
        with hosts.open("a") as file:
            file.write(f"{lan.four(1)} mesh.example\n")
        second = self.begin(lan.hosts[1], "--listen=tcp:4444")
        self.await_settled([first, second], 1, 60)


class TicketTests(CommandsTestCase):
    """``py2p ticket``, and joining with one."""

    def test_end_to_end(self) -> None:
        """A node is asked for its ticket; with that alone others join, send and listen."""
        folder = new_folder("ticket")
        path = f"{folder}/control"
        _, port = self.py2p_node("--network=alerts", "--tls", f"--control={path}")
        made = self.py2p("ticket", f"--control={path}")
        self.assertEqual((made.code, made.out.count("\n")), (0, 1), made)
        self.assertIn("on this machine alone", made.err)
        ticket = made.out.strip()

        shown = self.py2p("ticket", "show", ticket)
        self.assertEqual(shown.code, 0, shown)
        self.assertRegex(
            shown.out, r"(?s)network: +alerts\nencryption: +TLS\njoin: .*:" + str(port)
        )
        said = json.loads(self.py2p("ticket", "show", ticket, "--json").out)
        self.assertEqual(said["ticket"], ticket)
        self.assertEqual((said["network"], said["encryption"]), ("alerts", "SSL"))
        asked = json.loads(self.py2p("ticket", f"--control={path}", "--json").out)
        self.assertEqual(asked["addresses"], said["addresses"])

        listener = self.listen(f"--join={ticket}", "--count=1")
        sent = self.py2p("send", f"--join={ticket}", "storm")
        self.assertEqual(sent.code, 0, sent)
        self.assertIn("storm", listener.end().out)
        other, _ = self.py2p_node(f"--join={ticket}")
        self.await_text(lambda: other.err, "joined network alerts")

    def test_another_certificate(self) -> None:
        """
        With a state directory the ticket names the node's certificate: who joins by it accepts no
        other at that address, however often the node is started again.
        """
        folder = new_folder("ticket")
        path, state = f"{folder}/control", folder / "state"
        node = ("--network=alerts", "--tls", f"--control={path}", f"--state-dir={state}")
        running, port = self.py2p_node(*node)
        ticket = self.py2p("ticket", f"--control={path}").out.strip()
        self.assertIn("\ncertificate: ", self.py2p("ticket", "show", ticket).out)
        self.assertEqual(self.py2p("send", f"--join={ticket}", "storm").code, 0)
        running.send_signal(signal.SIGTERM)
        running.wait()
        running, _ = self.py2p_node(*node, port=port)
        self.assertEqual(self.py2p("send", f"--join={ticket}", "storm").code, 0)
        running.send_signal(signal.SIGTERM)
        running.wait()
        (state / "certificate").unlink()
        self.py2p_node(*node, port=port)
        refused = self.py2p("send", f"--join={ticket}", "--timeout=3", "storm")
        self.assertEqual(refused.code, 1)
        self.assertRegex(refused.err, "certificate verify failed; .*: get a new ticket")
        self.assertEqual(
            self.py2p("send", f"--join={HOST}:{port}", "--network=alerts", "--tls", "x").code, 0
        )

    def test_offline(self) -> None:
        """A ticket is made of what is given, and nobody is asked."""
        made = self.py2p(
            "ticket", "--network=alerts", "--join=192.0.2.7:4444", "--join=[2001:db8::7]:4444"
        )
        self.assertEqual((made.code, made.err), (0, ""), made)
        shown = self.py2p("ticket", "show", made.out.strip())
        self.assertEqual(
            shown.out,
            "network:     alerts\nencryption:  none\n"
            "join:        192.0.2.7:4444\n             [2001:db8::7]:4444\n",
        )

    def test_mistakes(self) -> None:
        """A typing error, another network, wrong usage: one line each."""
        ticket = self.py2p("ticket", "--network=alerts", f"--join={HOST}:{free_port()}").out.strip()
        wrong = ticket[:-3] + ("x" if ticket[-3] != "x" else "y") + ticket[-2:]
        self.assert_failed(self.py2p("ticket", "show", wrong), "a mistake in it")
        self.assert_failed(
            self.py2p("send", f"--join={ticket}", "--network=mesh", "x"),
            "for network 'alerts'",
            "'mesh'",
        )
        for arguments in (
            ("node", f"--join={wrong}"),
            ("node", f"--join={ticket}", "--network=mesh"),
            ("send", f"--join={wrong}", "x"),
            ("ticket", "show"),
            ("ticket", "show", ticket, "--tls"),
            ("ticket", "--tls"),
            ("node", "--discover", "--interface=a b"),
        ):
            ended = self.py2p(*arguments)
            self.assertEqual((ended.code, ended.out, ended.err.count("\n")), (2, "", 1), ended)

    def test_configuration(self) -> None:
        """In a file, too; the network comes from the ticket."""
        ticket = self.py2p(
            "ticket", "--network=alerts", "--tls", "--join=192.0.2.7:4444"
        ).out.strip()
        path = new_folder("ticket") / "node.toml"
        path.write_text(f'join = ["{ticket}", "192.0.2.8:4444"]\n')
        shown = self.py2p("node", f"--config={path}", "--check").out
        self.assertRegex(shown, r"(?m)^network +alerts +ticket$")
        self.assertRegex(shown, r"(?m)^tls +yes +ticket$")
        self.assertEqual(
            re.findall(r"(?m)^join +(\S+)", shown), ["192.0.2.7:4444", "192.0.2.8:4444"]
        )


class KubernetesTests(CommandsTestCase):
    """``contrib/kubernetes``."""

    def setUp(self) -> None:
        super().setUp()
        text = (PROJECT / "contrib/kubernetes/py2p.yaml").read_text()
        self.service, self.set = yaml.safe_load_all(text)
        (self.container,) = self.set["spec"]["template"]["spec"]["containers"]

    def test_its_command(self) -> None:
        """The command line is one that the program takes, and joins through the service's name."""
        arguments = self.container["args"]
        self.assertEqual((self.container["command"], arguments[0]), ([PROGRAM], "node"))
        checked = self.py2p(*arguments, "--check")
        self.assertEqual((checked.code, checked.err), (0, ""), checked)
        meta = self.service["metadata"]
        name = f"{meta['name']}.{meta['namespace']}.svc.cluster.local:4444"
        self.assertRegex(checked.out, rf"(?m)^join +{re.escape(name)} +command line$")
        self.assertRegex(checked.out, r"(?m)^listen +tcp:4444 ")
        self.assertRegex(checked.out, r"(?m)^web +tcp:8080:")

    def test_its_parts_fit(self) -> None:
        """The service is headless and finds pods that are not ready; ports and volumes have owners."""
        service, spec = self.service["spec"], self.set["spec"]
        self.assertEqual(service["clusterIP"], "None")
        self.assertIs(service["publishNotReadyAddresses"], True)
        self.assertEqual(spec["podManagementPolicy"], "Parallel")
        self.assertEqual(spec["serviceName"], self.service["metadata"]["name"])
        labels = spec["template"]["metadata"]["labels"]
        self.assertEqual((service["selector"], spec["selector"]["matchLabels"]), (labels, labels))
        ports = {port["name"]: port["containerPort"] for port in self.container["ports"]}
        self.assertEqual(ports, {"mesh": 4444, "web": 8080})
        ready = self.container["readinessProbe"]["httpGet"]
        self.assertEqual((ready["path"], ready["port"]), ("/healthz", "web"))
        (mount,) = self.container["volumeMounts"]
        (claim,) = spec["volumeClaimTemplates"]
        self.assertEqual(mount["name"], claim["metadata"]["name"])
        (state,) = [one for one in self.container["args"] if one.startswith("--state-dir=")]
        self.assertTrue(state.startswith(f"--state-dir={mount['mountPath']}/"))
        # Else the rights of what a node keeps for itself are widened whenever a pod starts.
        security = spec["template"]["spec"]["securityContext"]
        self.assertEqual(security["fsGroupChangePolicy"], "OnRootMismatch")
        # An image that no registry has is not asked for there.
        self.assertEqual(self.container["imagePullPolicy"], "IfNotPresent")
        user = f"USER {security['runAsUser']}:"
        self.assertIn(user, (PROJECT / "contrib/container/Containerfile").read_text())
