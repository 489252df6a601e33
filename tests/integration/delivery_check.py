"""
Every message reaches everybody, once: real nodes, whose network is cut, who are killed, stopped, or
have wrong clocks, and who live among nodes of the original.

A node here is a process of Twisted's own ``twist py2p`` with our plugin, from the tree, which writes a
line for every message that it delivers, see `delivery.node`. Two nodes send numbered messages. When the
fault is over, each node's record must hold each number, once; what it took is printed at the end::

    west 0 1 2 3 ....|.... 41 42        sent at one side of a cut
                     |        \\
    east             |         0 .. 42  at the other side when it is over: none is missing,
                    cut                 none is there twice

What is promised to whom:

* a node that was there before gets everything that was sent meanwhile, at whatever side of a cut;
* a node that is killed and started again is a new participant: it gets everything that others still
  hold, which here is everything, and nothing twice since its start.

How long it takes is measured and printed, and hardly ever asserted: machines are noisy, and a dialler
waits up to 15 s between two attempts.

What needs root (namespaces), py2p 0.6.757, or the package faketime is skipped where that is missing.

Longer tests run by command only::

    python -m tests.integration.delivery_check --long                all of those below
    python -m tests.integration.delivery_check --long Churn          32 nodes, 10 min of churn
    python -m tests.integration.delivery_check --long Soak           30 min of all faults in turn
    python -m tests.integration.delivery_check --long LongStop       one node stopped for 30 s
    python -m tests.integration.delivery_check --long PowerLoss      half of 12 nodes fall silent
    python -m tests.integration.delivery_check --minutes 2 --long Soak     shorter

and these tests must be able to fail, which this shows: nodes that only flood, as the original does,
lose what is sent during a cut, and never tell a new participant what was said before it came::

    python -m tests.integration.delivery_check --flood Cut Kill

Times are in seconds (``time.monotonic``), sizes in bytes.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest

from tests.integration.clocks import FaketimeMissing, seconds_of, wrong_by
from tests.integration.delivery.node import FLOOD
from tests.integration.driver import HOST, Remote, decode, moments
from tests.integration.namespaces import (
    Namespace,
    NamespacesMissing,
    Sites,
    interfaces_outside,
)
from tests.integration.nodes import Process, ProcessTestCase, percentile, settings
from tests.integration.reference import (
    PROJECT,
    ReferenceMissing,
    environment,
    find_reference,
)
from tests.integration.reference_check import CODECS

_MODULE = "tests.integration.delivery.node"
_WITNESS = Path(__file__).resolve().parent / "delivery" / "witness.py"

#: The environment variable that ``--minutes`` sets.
MINUTES = "PY2P_DELIVERY_MINUTES"

#: Until everybody has everything after a fault: a dialler waits 15 s and a third more at most, and a
#: dial may take its time.
HEALING = 30.0

#: How long to wait where the test is that nothing more comes.
QUIET = 1.0

#: What a stopped peer may cost each of its neighbours. Source: docs/design.rst, "Flow control".
MOST_FOR_A_PEER = 1.5 * 1024 * 1024

MIB = 1024 * 1024


# --- Nodes -----------------------------------------------------------------------


class Recorder(Process):
    """
    A node that keeps a record.

    :ivar got: what it has delivered, as far as `look` has read: for each sender, for each number,
        when it was sent and when it came. What it sends itself is there too.
    :ivar twice: what has come more often than once.
    """

    def __init__(
        self, folder: Path, enter: Sequence[str] = (), variables: Mapping[str, str] | None = None
    ) -> None:
        """
        Start the process; `run` makes it a node.

        :param enter: what stands before the command; see `Namespace.enter`.
        :param variables: environment variables to add.
        """
        self.id, self.port = b"", 0
        self.arguments: list[str] = []
        self.got: dict[str, dict[int, tuple[float, float]]] = {}
        self.twice: list[tuple[str, int]] = []
        handle, path = tempfile.mkstemp(dir=folder, suffix=".record")
        # Open until it is killed, then it goes with this object.
        self._record = os.fdopen(handle, "rb")
        self._rest = b""
        Remote.__init__(
            self,
            [*enter, sys.executable, "-m", _MODULE, path],
            {**settings(), **(variables or {})},
            cwd=PROJECT,
        )

    def __repr__(self) -> str:
        return f"<node in process {self.pid}, port {self.port}>"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def run(self, *options: str, host: str = HOST, port: int = 0) -> Recorder:
        """Have it be a node; the rest of the options are those of ``twist py2p``."""
        self.arguments = list(options)
        listen = f"--listen=tcp:{port}:interface={host}"
        told = self.ask("run", timeout=90.0, arguments=[listen, *options])
        self.id, self.port = decode(told["id"]), told["port"]
        return self

    def peers(self) -> set[bytes]:
        """The ids in its routing table."""
        return {decode(ident) for ident in self.ask("peers")}

    def look(self) -> Recorder:
        """Read what has been added to the record."""
        *lines, self._rest = (self._rest + self._record.read()).split(b"\n")
        for line in lines:
            name, number, sent, came = line.decode().split()
            numbers = self.got.setdefault(name, {})
            if int(number) in numbers:
                self.twice.append((name, int(number)))
            else:
                numbers[int(number)] = (float(sent), float(came))
        return self

    def numbers(self, name: str) -> Collection[int]:
        """The numbers that it has got from a sender."""
        return self.got.get(name, {}).keys()


class Original(Remote):
    """A node of py2p 0.6.757 that keeps count; see `delivery.witness`."""

    def __init__(self, python: Path) -> None:
        self.id, self.port = b"", 0
        super().__init__([str(python), "-P", str(_WITNESS)], environment())

    def __repr__(self) -> str:
        return f"<py2p node on port {self.port}>"

    def start(self, **options: Any) -> Original:
        """Make the socket; takes what :meth:`Driver.start` takes."""
        told = self.ask("start", timeout=60.0, **options)
        self.id, self.port = decode(told["id"]), told["port"]
        self.ask("watch")
        return self

    def peers(self) -> set[bytes]:
        """The ids in its routing table."""
        return {decode(ident) for ident in self.ask("peers")}


def span(numbers: Iterable[int]) -> str:
    """Numbers in few words: ``3-7, 9``."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    shown = [f"{first}-{last}" if last > first else f"{first}" for first, last in runs]
    return ", ".join(shown[:8]) + (", ..." if len(shown) > 8 else "")


class DeliveryTestCase(ProcessTestCase):
    """
    Tests with nodes that keep records. After each all processes are gone, and none has printed a
    traceback.
    """

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(tempfile.mkdtemp(prefix="py2p-delivery-"))
        self.others: list[Remote] = []

    def tearDown(self) -> None:
        for other in self.others:
            other.kill()
        try:
            super().tearDown()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    # Nodes

    def recorders(self, count: int, **how: Any) -> list[Recorder]:
        """Start processes, which get up side by side. They are no nodes yet."""
        new = [Recorder(self.folder, **how) for _ in range(count)]
        self.processes += new
        return new

    def mesh(self, count: int, *options: str) -> list[Recorder]:
        """Start nodes on loopback: each joins the first one, and the one before it."""
        nodes = self.recorders(count)
        for number, node in enumerate(nodes):
            joins = dict.fromkeys((nodes[0], nodes[number - 1])) if number else ()
            node.run(*(f"--join={HOST}:{other.port}" for other in joins), *options)
        self.wait_for_one_network(nodes)
        return nodes

    def originals(self, count: int) -> list[Original]:
        """Start processes of the original. They have no sockets yet."""
        try:
            python = find_reference().python
        except ReferenceMissing as reason:
            raise SkipTest(str(reason)) from reason
        new = [Original(python) for _ in range(count)]
        self.others += new
        return new

    def wait_for_one_network(self, nodes: Sequence[Any], timeout: float = HEALING) -> None:
        """Wait until there is a way from each node to each other."""

        def connected() -> bool:
            tables = {node.id: node.peers() for node in nodes}
            reached, new = set(), {nodes[0].id}
            while new:
                reached |= new
                new = set().union(*(tables[ident] for ident in new)) & set(tables) - reached
            return len(reached) == len(nodes)

        self.wait_for(connected, f"{len(nodes)} nodes to be one network", timeout)

    # Messages

    def quiet(self, senders: Mapping[str, Recorder]) -> dict[str, int]:
        """End the traffic; how many messages each has sent."""
        return {name: node.ask("quiet") for name, node in senders.items()}

    def lacking(
        self, nodes: Iterable[Recorder], wanted: Mapping[str, Collection[int]]
    ) -> list[tuple[Recorder, str, set[int]]]:
        """Who has not got what."""
        found = []
        for node in nodes:
            node.look()
            for name, numbers in wanted.items():
                if missing := set(numbers) - set(node.numbers(name)):
                    found.append((node, name, missing))
        return found

    def assert_all(
        self,
        nodes: Sequence[Recorder],
        wanted: Mapping[str, Collection[int]],
        timeout: float = HEALING,
    ) -> None:
        """Each node gets each number of each sender."""
        lacking: list[tuple[Recorder, str, set[int]]] = []
        for _ in moments(timeout, 0.1):
            if not (lacking := self.lacking(nodes, wanted)):
                return
        places = {id(node): place for place, node in enumerate(nodes)}
        self.fail(
            f"after {timeout:g} s some lack messages:\n"
            + "\n".join(
                f"node {places[id(node)]} lacks {len(missing)} of {len(wanted[name])} of {name}: "
                f"{span(missing)}"
                for node, name, missing in lacking
            )
        )

    def assert_once(self, nodes: Iterable[Recorder]) -> None:
        """Nobody has got anything twice."""
        time.sleep(QUIET)
        for node in nodes:
            self.assertEqual(node.look().twice, [], f"{node} has got something twice")

    def delays(
        self,
        nodes: Iterable[Recorder],
        since: float = 0.0,
        until: float = float("inf"),
        sender: str = "",
    ) -> list[float]:
        """How long messages were under way that were sent in a span of time, by one or by all."""
        return [
            came - sent
            for node in nodes
            for name, numbers in node.look().got.items()
            for sent, came in numbers.values()
            if since <= sent < until and came != sent and sender in ("", name)
        ] or [float("nan")]


def milliseconds(values: list[float], share: float) -> str:
    """A percentile, for a note."""
    return f"{1000 * percentile(values, share):.1f} ms"


# --- Cuts ------------------------------------------------------------------------


class SitesTestCase(DeliveryTestCase):
    """Tests in network namespaces."""

    def sites(self, count: int) -> Sites:
        """Make sites that a router joins; they go when the test ends."""
        try:
            sites = Sites(count)
        except NamespacesMissing as reason:
            raise SkipTest(str(reason)) from reason
        self.addCleanup(sites.close)
        return sites

    def mesh_at(self, sites: Sites, each: int) -> list[list[Recorder]]:
        """
        Start nodes at each site. They join the first one and the one before them at their own
        site; of the later sites, the first one alone joins the first node of all.

        :return: the nodes of each site.
        """
        groups = [self.recorders(each, enter=site.enter) for site in sites.sites]
        entry: list[str] = []
        for group, address in zip(groups, sites.addresses, strict=True):
            for number, node in enumerate(group):
                joins = entry
                if number:
                    local = dict.fromkeys((group[0], group[number - 1]))
                    joins = [f"--join={address}:{other.port}" for other in local]
                node.run(*joins, host=address)
            entry = entry or [f"--join={address}:{group[0].port}"]
        self.wait_for_one_network([node for group in groups for node in group])
        return groups


#: Run at a site: connects to the other one, says a word a second later, and whether it was taken.
_SPEAK = """
import socket, sys, time
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10) as speaker:
    print("connected", flush=True)
    sys.stdin.readline()
    speaker.sendall(b"word")
    print("sent", flush=True)
    sys.stdin.readline()
"""

#: Run at the other: tells what it hears, and when.
_HEAR = """
import socket, time
with socket.create_server(("", 0)) as server:
    print(server.getsockname()[1], flush=True)
    hearer, _ = server.accept()
    print(hearer.recv(100), time.monotonic(), flush=True)
"""


class NamespaceTests(SitesTestCase):
    """What the tests below stand on: a cut is a cut, and nothing is left behind."""

    def python(self, site: Namespace, source: str, *arguments: str) -> subprocess.Popen[str]:
        """Run a piece of Python at a site."""
        process = subprocess.Popen(
            [*site.enter, sys.executable, "-c", source, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

        def end() -> None:
            process.kill()
            process.communicate()

        self.addCleanup(end)
        return process

    def assert_a_word_waits(self, cut: Callable[[], None], heal: Callable[[], None]) -> None:
        """What is said during a cut is neither refused nor lost: TCP brings it afterwards."""
        hearer = self.python(self.two.sites[1], _HEAR)
        assert hearer.stdout is not None
        port = hearer.stdout.readline().strip()
        speaker = self.python(self.two.sites[0], _SPEAK, self.two.addresses[1], port)
        assert speaker.stdin is not None
        assert speaker.stdout is not None
        self.assertEqual(speaker.stdout.readline(), "connected\n")
        cut()
        print(file=speaker.stdin, flush=True)
        self.assertEqual(speaker.stdout.readline(), "sent\n")
        time.sleep(1.0)
        healed = time.monotonic()
        heal()
        word, when = hearer.stdout.readline().split()
        self.assertEqual(word, "b'word'")
        self.assertGreaterEqual(float(when), healed)

    def test_a_cut_is_silent(self) -> None:
        """A connection stands through a cut, at whichever side it is made, and through a pulled plug."""
        before = interfaces_outside()
        self.two = self.sites(2)
        for sides in ((0,), (1,)):
            self.assert_a_word_waits(functools.partial(self.two.cut, *sides), self.two.heal)
        self.assert_a_word_waits(
            functools.partial(self.two.unplug, 0), functools.partial(self.two.plug, 0)
        )
        self.assertEqual(interfaces_outside(), before)

    def test_they_go_with_the_test(self) -> None:
        """When the process that has made them is killed, namespaces and nodes are gone."""
        self.sites(1)
        source = (
            "import pathlib, sys, tempfile\n"
            "from tests.integration.delivery_check import Recorder, Sites\n"
            "sites = Sites(2)\n"
            "node = Recorder(pathlib.Path(sys.argv[1]), sites.sites[0].enter)\n"
            "node.run(host=sites.addresses[0])\n"
            "node.halt()\n"
            "print(node.pid, *(site.pid for site in sites.sites), flush=True)\n"
            "sys.stdin.readline()\n"
        )
        test = subprocess.Popen(
            [sys.executable, "-c", source, str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=settings(),
            cwd=PROJECT,
        )
        try:
            assert test.stdout is not None
            pids = [int(word) for word in test.stdout.readline().split()]
            self.assertEqual(len(pids), 3)
        finally:
            test.kill()
            test.communicate()
        self.wait_for(
            lambda: not any(_lives(pid) for pid in pids), f"{pids} to end with their test"
        )


def _lives(pid: int) -> bool:
    """Whether a process runs, or is stopped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


class CutTests(SitesTestCase):
    """Twelve nodes, six at each of two sites."""

    #: How long the sites are cut off from each other.
    CUT = 30.0

    #: Messages a second from each side.
    RATE = 10.0

    def test_a_cut_of_thirty_seconds(self) -> None:
        """
        What was sent at either side during the cut is at the other side soon after it, once; and
        meanwhile each side goes on by itself.
        """
        sites = self.sites(2)
        west, east = self.mesh_at(sites, 6)
        nodes = [*west, *east]
        senders = {"west": west[1], "east": east[1]}
        for name, node in senders.items():
            node.ask("traffic", name=name, rate=self.RATE)
        time.sleep(3.0)
        sites.cut(0, 1)
        cut = time.monotonic()
        time.sleep(self.CUT)
        healed = time.monotonic()
        sites.heal()
        time.sleep(3.0)
        sent = self.quiet(senders)
        wanted = {name: range(count) for name, count in sent.items()}
        during = {
            name: {
                number
                for number, (when, _) in node.look().got[name].items()
                if cut <= when < healed
            }
            for name, node in senders.items()
        }
        for name, numbers in during.items():
            self.assertGreater(len(numbers), self.RATE * self.CUT * 0.8, name)
        # Is it really cut? Nothing comes over, and much comes around at home.
        for group, other in ((west, "east"), (east, "west")):
            for node in group:
                over = [
                    number
                    for number, (_, came) in node.look().got.get(other, {}).items()
                    if number in during[other] and came < healed
                ]
                self.assertEqual(over, [], f"this has come through the cut to {node}")
        self.assert_all(nodes, wanted, HEALING)
        self.assert_once(nodes)
        home = self.delays(west, cut, healed, "west") + self.delays(east, cut, healed, "east")
        late = [
            node.got[name][number][1] - healed
            for group, name in ((west, "east"), (east, "west"))
            for node in group
            for number in during[name]
        ]
        self.note(
            f"{sum(map(len, during.values()))} messages during the cut; the first of them was at "
            f"the other side {min(late):.1f} s after it, the last one {max(late):.1f} s, half of "
            f"all by {percentile(late, 0.5):.1f} s; at home meanwhile p50 "
            f"{milliseconds(home, 0.5)}, p99 {milliseconds(home, 0.99)}, worst {max(home):.2f} s"
        )


# --- Kills -----------------------------------------------------------------------


class Killing(DeliveryTestCase):
    """Nodes that are killed under traffic, and come back to their port."""

    def again(self, dead: Recorder, spare: Recorder) -> Recorder:
        """Kill a node, and have another process take its port with its options."""
        dead.kill()
        return spare.run(*dead.arguments, port=dead.port)

    def churn(
        self, nodes: list[Recorder], victims: Sequence[int], kills: int, every: float
    ) -> list[Recorder]:
        """
        Kill one of these nodes now and then; ``nodes`` has the new ones in their place.

        :return: those that were killed.
        """
        choice = random.Random(757)
        dead = []
        for _ in range(kills):
            began = time.monotonic()
            # Made beforehand: to start Python is not what is measured.
            (spare,) = self.recorders(1)
            spare.ask("ready", timeout=90.0)
            place = choice.choice(victims)
            dead.append(nodes[place])
            nodes[place] = self.again(nodes[place], spare)
            time.sleep(max(0.0, began + every - time.monotonic()))
        return dead

    def note_new_ones(self, nodes: Sequence[Recorder], old: Collection[Recorder]) -> str:
        """How long new participants took to get what was said before their time."""
        waits = []
        for node in nodes:
            if node not in old:
                came = [when for numbers in node.got.values() for _, when in numbers.values()]
                sent = [when for numbers in node.got.values() for when, _ in numbers.values()]
                first = min(came)
                early = [
                    came - first
                    for numbers in node.got.values()
                    for when, came in numbers.values()
                    if when < first - 1.0
                ]
                if early and sent:
                    waits.append(max(early))
        if not waits:
            return "nobody new"
        return (
            f"new ones had what was said before them {max(waits):.1f} s after their first message"
        )


class KillTests(Killing):
    """Twelve nodes, of which eight are killed in turn."""

    def test_kill_and_restart_under_traffic(self) -> None:
        """
        Ten times a node is killed and comes back at once: the others miss nothing and get nothing
        twice, and who is there at the end has all that was ever sent.
        """
        nodes = self.mesh(12)
        old = list(nodes)
        senders = {"one": nodes[0], "two": nodes[1]}
        for name, node in senders.items():
            node.ask("traffic", name=name, rate=25.0)
        time.sleep(1.0)
        began = time.monotonic()
        dead = self.churn(nodes, range(2, 10), kills=10, every=2.0)
        ended = time.monotonic()
        time.sleep(1.0)
        sent = self.quiet(senders)
        self.assertGreater(sum(sent.values()), 400)
        wanted = {name: range(count) for name, count in sent.items()}
        survivors = [node for node in nodes if node in old]
        stopped = time.monotonic()
        self.assert_all(survivors, wanted)
        took = time.monotonic() - stopped
        self.assert_all(nodes, wanted)
        self.assert_once([*nodes, *dead])
        delays = self.delays(survivors, began, ended)
        self.note(
            f"{len(dead)} kills in {ended - began:.0f} s, {sum(sent.values())} messages; the "
            f"{len(survivors)} survivors had all {took:.1f} s after the last one, p50 "
            f"{milliseconds(delays, 0.5)}, p99 {milliseconds(delays, 0.99)}, worst "
            f"{max(delays):.2f} s; {self.note_new_ones(nodes, old)}"
        )


# --- A node that is stopped --------------------------------------------------------


class StoppedPeerTests(DeliveryTestCase):
    """Eight nodes, one of which gets no time from the system for a while."""

    #: How long.
    STOP = 15.0

    RATE = 200.0

    def test_a_stopped_node(self) -> None:
        """
        It costs nobody latency or much memory; and when it goes on, it gets all that it has
        missed, once.
        """
        nodes = self.mesh(8)
        sleeper, others = nodes[4], [node for node in nodes if node is not nodes[4]]
        senders = {"one": nodes[0]}
        nodes[0].ask("traffic", name="one", rate=self.RATE, size=100)
        time.sleep(3.0)
        before = time.monotonic()
        memory = [[node.memory for node in others]]
        time.sleep(self.STOP)
        memory.append([node.memory for node in others])
        sleeper.halt()
        stopped = time.monotonic()
        neighbours = [node for node in others if sleeper.id in node.peers()]
        waiting = 0
        while time.monotonic() - stopped < self.STOP:
            waiting = max(waiting, *(node.ask("waiting", peer=sleeper.id) for node in neighbours))
            time.sleep(0.5)
        memory.append([node.memory for node in others])
        gone = sum(sleeper.id not in node.peers() for node in neighbours)
        sleeper.resume()
        resumed = time.monotonic()
        time.sleep(1.0)
        sent = self.quiet(senders)
        self.assertGreater(sent["one"], self.RATE * self.STOP)
        self.assert_all(nodes, {"one": range(sent["one"])})
        self.assert_once(nodes)
        came = [
            came - resumed
            for when, came in sleeper.got["one"].values()
            if stopped <= when < resumed
        ]
        calm, meanwhile = (
            self.delays(others, since, until)
            for since, until in ((before, stopped), (stopped, resumed))
        )
        # Everybody's caches grow with the traffic, so what a node has grown by is compared with
        # the same node's growth in the same time before.
        grown = {
            node: after - middle - (middle - first)
            for node, first, middle, after in zip(others, *memory, strict=True)
        }
        worst = max(grown[node] for node in neighbours)
        self.assertGreater(len(neighbours), 0)
        self.assertLessEqual(waiting, MOST_FOR_A_PEER)
        self.assertLess(percentile(meanwhile, 0.99), 0.25 + 5 * percentile(calm, 0.99))
        self.note(
            f"stopped for {self.STOP:g} s at {self.RATE:g} messages a second, {gone} of "
            f"{len(neighbours)} neighbours gave the link up; p99 of the others "
            f"{milliseconds(calm, 0.99)} before, {milliseconds(meanwhile, 0.99)} meanwhile (ratio "
            f"{percentile(meanwhile, 0.99) / percentile(calm, 0.99):.2f}); at most {waiting} bytes "
            f"waited for it; its neighbours' memory grew by up to {worst / MIB:+.2f} MiB more than "
            f"in as long a time before, that of the others by "
            f"{max((grown[node] for node in others if node not in neighbours), default=0) / MIB:+.2f}"
            f"; {len(came)} messages missed, the last of them came {max(came):.1f} s after it went on"
        )


# --- Wrong clocks, and nodes of the original -------------------------------------------


class WrongClocks(DeliveryTestCase):
    """Tests with nodes whose wall clocks are wrong."""

    def at(self, *offsets: str) -> list[Recorder]:
        """Start processes with clocks that are so much ahead; an empty text is a true clock."""
        try:
            variables = [wrong_by(offset) for offset in offsets]
        except FaketimeMissing as reason:
            raise SkipTest(str(reason)) from reason
        nodes = [self.recorders(1, variables=more)[0] for more in variables]
        for node, offset in zip(nodes, offsets, strict=True):
            ahead = node.ask("wall", timeout=60.0) - time.time()
            self.assertLess(abs(ahead - seconds_of(offset)), 5.0, f"{ahead:.1f} s for {offset}")
            apart = node.ask("monotonic") - time.monotonic()
            self.assertLess(abs(apart), 1.0, "faketime fakes the monotonic clock as well")
        return nodes


class MixedTestCase(DeliveryTestCase):
    """Tests with nodes of both kinds."""

    def exchange(
        self, ours: Sequence[Recorder], originals: Sequence[Original], count: int, few: int
    ) -> None:
        """
        Everybody sends, and everybody gets it all, once.

        An original writes from two threads without a lock, and forgets what it has seen in one
        while it adds to that in the other. So it sends when nothing else is under way.

        :param count: messages of each of ours, at once.
        :param few: messages of each original, one by one.
        """
        wanted: dict[str, Collection[int]] = {}
        for place, node in enumerate(ours):
            name = f"ours{place}"
            wanted[name] = range(node.ask("send", name=name, count=count))
        self.assert_everybody_has(ours, originals, wanted)
        for _ in range(few):
            for place, original in enumerate(originals):
                name = f"original{place}"
                wanted[name] = range(original.ask("send_numbered", name=name))
                self.assert_everybody_has(ours, originals, wanted)
        self.assert_once(ours)
        self.assert_everybody_has(ours, originals, wanted)

    def assert_everybody_has(
        self,
        ours: Sequence[Recorder],
        originals: Sequence[Original],
        wanted: Mapping[str, Collection[int]],
    ) -> None:
        """All these messages have come to everybody, and to the originals once."""
        self.assert_all(ours, wanted)
        for place, original in enumerate(originals):
            # What it gets of its own is not looked at: it notes what it sends only afterwards,
            # and takes what comes back before that for somebody else's.
            expected = {
                name: Counter(numbers)
                for name, numbers in wanted.items()
                if name != f"original{place}"
            }
            wrong: list[str] = []
            for _ in moments(HEALING):
                told = original.ask("deliveries")
                wrong = []
                for name, numbers in expected.items():
                    got = Counter(told.get(name, []))
                    if missing := numbers - got:
                        wrong.append(f"lacks {span(missing)} of {name}")
                    if more := got - numbers:
                        wrong.append(f"has {span(more)} of {name} twice")
                if not wrong:
                    break
            self.assertEqual(wrong, [], f"at original {place}, {original}")

    def echoes(self, originals: Sequence[Original]) -> int:
        """How many messages originals have got that were their own."""
        return sum(
            len(original.ask("deliveries").get(f"original{place}", []))
            for place, original in enumerate(originals)
        )


class ClockTests(WrongClocks, MixedTestCase):
    """Clocks that are minutes and hours wrong."""

    def test_between_ours(self) -> None:
        """Among our own nodes it does not matter what time it is."""
        nodes = self.at("", "+90s", "-61s", "+1h", "", "-1h")
        for number, node in enumerate(nodes):
            joins = dict.fromkeys((nodes[0], nodes[number - 1])) if number else ()
            node.run(*(f"--join={HOST}:{other.port}" for other in joins))
        self.wait_for_one_network(nodes)
        wanted = {
            f"clock{number}": range(node.ask("send", name=f"clock{number}", count=20))
            for number, node in enumerate(nodes)
        }
        self.assert_all(nodes, wanted)
        self.assert_once(nodes)
        self.note(f"worst delay {max(self.delays(nodes)):.2f} s")

    def test_with_originals(self) -> None:
        """
        A node that hears three right clocks is heard by nodes of the original, however wrong its
        own is; and hears them.
        """
        ours = self.at("+90s", "-61s", "+1h")
        originals = self.originals(3)
        for original in originals:
            original.start(max_outgoing=0)
        for node in ours:
            node.run(*(f"--join={HOST}:{original.port}" for original in originals))
        known = {original.id for original in originals}
        for node in ours:
            self.wait_for(lambda node=node: known <= node.peers(), f"{node} to hear three clocks")
        time.sleep(QUIET)
        self.exchange(ours, originals, count=10, few=3)


class MixedTests(MixedTestCase):
    """
    Six nodes of ours and six of the original, which speak one codec alone.

    Everybody gets what everybody sends, once; no link is lost; and each original's handlers see
    one extension frame for each link to one of ours, whose packets they can read as their
    documentation shows.
    """

    def test_zlib(self) -> None:
        """The codec that all prefer."""
        self.half_and_half("zlib")

    def test_gzip(self) -> None:
        """Another one."""
        self.half_and_half("gzip")

    def test_bz2(self) -> None:
        """A third one."""
        self.half_and_half("bz2")

    def test_lzma(self) -> None:
        """The last one."""
        self.half_and_half("lzma")

    def half_and_half(self, codec: str) -> None:
        """Have everybody send, and see that everybody has got it."""
        ours = self.recorders(6)
        originals = self.originals(6)
        for original in originals:
            original.start(max_outgoing=0, codecs=[CODECS[codec]])
        for number, node in enumerate(ours):
            joins = [originals[number].port, originals[(number + 1) % 6].port]
            joins += [ours[number - 1].port] if number else []
            node.run(*(f"--join={HOST}:{port}" for port in joins))
        nodes = [*ours, *originals]
        for number, node in enumerate(ours):
            pinned = {originals[number].id, originals[(number + 1) % 6].id}
            self.wait_for(lambda node=node, pinned=pinned: pinned <= node.peers(), "the links")
        self.wait_for_one_network(nodes)
        time.sleep(QUIET)
        ids = {original.id for original in originals}
        links = {(node.id, peer) for node in ours for peer in node.peers() & ids}

        self.exchange(ours, originals, count=20, few=3)

        still = {(node.id, peer) for node in ours for peer in node.peers() & ids}
        self.assertEqual(links - still, set(), "links to originals that were lost")
        reasons: Counter[str] = Counter()
        for node in ours:
            reasons.update(node.ask("status")["closed links"])
        for original in originals:
            self.assertEqual(original.ask("status"), "Nominal")
        seen = 0
        for original in originals:
            neighbours = original.peers() & {node.id for node in ours}
            frames = original.ask("extension_frames")
            told = [decode(ident) for ident, _ in frames]
            if FLOOD not in os.environ:
                self.assertEqual(set(told) & neighbours, neighbours, "links without a frame")
            for ident, packets in frames:
                self.assertEqual(len(packets), 1, f"{decode(ident)!r} has sent {packets}")
                self.assertGreaterEqual(len(decode(packets[0])), 3)
            seen += len(frames)
        self.note(
            f"{len(still)} links between the two kinds, {seen} extension frames seen, links that "
            f"ours have closed: {dict(reasons) or 'none'}; {self.echoes(originals)} times an "
            "original has got its own message"
        )


# --- By command ----------------------------------------------------------------------


def main(arguments: list[str]) -> None:
    """Run tests of this module, or the long ones, by how their classes' names begin."""
    parser = argparse.ArgumentParser(prog="python -m tests.integration.delivery_check")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a class, or how it begins")
    parser.add_argument("--long", action="store_true", help="the tests that take minutes")
    parser.add_argument("--minutes", type=float, help="how many, of those that can be told")
    parser.add_argument("--flood", action="store_true", help="with nodes that only flood")
    options = parser.parse_args(arguments)
    if options.flood:
        os.environ[FLOOD] = "1"
    if options.minutes is not None:
        os.environ[MINUTES] = str(options.minutes)

    # By its name: this module is called __main__ here, and trial imports it again.
    module = "tests.integration." + ("delivery.long" if options.long else "delivery_check")
    classes = [
        name
        for name, value in vars(importlib.import_module(module)).items()
        if name.endswith("Tests") and isinstance(value, type) and value.__module__ == module
    ]
    chosen = [name for name in classes if name.startswith(tuple(options.names or [""]))]
    if not chosen:
        parser.exit(2, f"{parser.prog}: there are {', '.join(classes)}\n")

    from twisted.scripts.trial import run

    sys.argv = ["trial", "--reporter=verbose", *(f"{module}.{name}" for name in chosen)]
    run()  # ends with SystemExit, which carries trial's own status


if __name__ == "__main__":
    main(sys.argv[1:])
