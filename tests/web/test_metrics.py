"""
Numbers for Prometheus: written as its own parser reads them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

import py2p_twisted
from py2p_twisted.web.metrics import COUNTER, GAUGE, Family, by, of_process, one, render
from tests import profile
from tests.web.people import WebTestCase

try:
    from prometheus_client.parser import text_string_to_metric_families as parse
except ImportError:
    parse = None

profile.load()

ROOT = Path(py2p_twisted.__file__).resolve().parents[1]


def read(data: bytes) -> dict[str, dict[Any, float]]:
    """By metric, and by labels: the values that Prometheus would take."""
    if parse is None:
        raise SkipTest("prometheus-client is not installed")
    found: dict[str, dict[Any, float]] = {}
    for family in parse(data.decode("utf-8")):
        for sample in family.samples:
            key = tuple(sorted(sample.labels.items()))
            assert key not in found.setdefault(sample.name, {}), (sample.name, key)
            found[sample.name][key] = sample.value
    return found


class RenderTests(SynchronousTestCase):
    def test_text(self) -> None:
        """What it looks like."""
        text = render(
            [
                one("a_total", COUNTER, 'How\nmany \\ "s".', 3),
                by("b", GAUGE, "B.", "reason", {'x "y"\\\n': 0.5, "z": float("inf")}),
                Family("c", GAUGE, "C.", [({"one": "1", "two": "2"}, float("nan"))]),
                by("none", GAUGE, "Nothing.", "what", {}),
            ]
        )
        self.assertEqual(
            text.decode().splitlines(),
            [
                "# HELP a_total How\\nmany \\\\ \"s\".", "# TYPE a_total counter", "a_total 3",
                "# HELP b B.", "# TYPE b gauge", 'b{reason="x \\"y\\"\\\\\\n"} 0.5',
                'b{reason="z"} +Inf',
                "# HELP c C.", "# TYPE c gauge", 'c{one="1",two="2"} NaN',
                "# HELP none Nothing.", "# TYPE none gauge",
            ],
        )  # fmt: skip

    @given(
        st.dictionaries(st.text(max_size=20), st.floats(allow_nan=False) | st.integers(0, 2**70)),
        st.text(max_size=40),
    )
    def test_whatever_there_is(self, values: dict[str, float], help: str) -> None:
        """Labels, numbers and texts come out as they went in."""
        # (The parser splits lines where `str.splitlines` does, Prometheus at line feeds alone.)
        usual = {
            key: value for key, value in values.items() if len(key.split("\n")) == len(key.splitlines() or [""])
            and key.isprintable()
        }  # fmt: skip
        help = "".join(one for one in help if one.isprintable()).strip() or "x"
        found = read(render([by("x_total", COUNTER, help, "label", usual)]))
        self.assertEqual(
            found.get("x_total", {}),
            {(("label", key),): float(value) for key, value in usual.items()},
        )

    def test_mistakes_of_ours(self) -> None:
        """Names that Prometheus would not take."""
        for family in (
            one("a b", GAUGE, "", 1), one("", GAUGE, "", 1), one("a", COUNTER, "", 1),
            one("a_total", GAUGE, "", 1), by("a", GAUGE, "", "x-y", {"z": 1}),
            by("a", GAUGE, "", "x:y", {"z": 1}),
        ):  # fmt: skip
            with self.assertRaises(ValueError):
                render([family])
        with self.assertRaises(ValueError):
            render([one("a", GAUGE, "", 1), one("a", GAUGE, "", 2)])

    def test_process(self) -> None:
        """What Linux says of a process."""
        found = read(render(of_process()))
        if not Path("/proc/self/statm").exists():
            raise SkipTest("no Linux")
        self.assertGreater(found["py2p_process_resident_bytes"][()], 2**22)
        self.assertLess(found["py2p_process_resident_bytes"][()], 2**34)
        self.assertGreater(found["py2p_process_max_fds"][()], found["py2p_process_open_fds"][()])
        self.assertGreater(found["py2p_process_open_fds"][()], 2)
        self.assertGreater(found["py2p_process_cpu_seconds_total"][()], 0)


class NodeTests(WebTestCase):
    def metrics(self) -> dict[str, dict[Any, float]]:
        answer = self.get("/metrics")
        self.assertEqual(answer.code, 200)
        self.assertEqual(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8")
        return read(answer.body)

    def test_a_node(self) -> None:
        """What it has done is counted."""
        before = self.metrics()
        self.assertEqual(before["py2p_joined"], {(): 1.0})
        self.assertEqual(before["py2p_peers"][(("kind", "neighbour"),)], 1.0)
        self.assertEqual(before["py2p_settled_peers"], {(): 1.0})
        self.assertEqual(before["py2p_messages_received_total"], {(): 0.0})
        for number in range(3):
            self.mesh["ben"].send(number)
        self.mesh["ada"].send("x" * 5000)
        self.mesh.settle()
        now = self.metrics()
        self.assertEqual(now["py2p_messages_received_total"], {(): 3.0})
        self.assertEqual(now["py2p_messages_sent_total"], {(): 1.0})
        for name in ("bytes_received", "frames_received"):
            self.assertGreater(now[f"py2p_{name}_total"][()], before[f"py2p_{name}_total"][()])
        # It is a text that is sent compressed.
        self.assertGreater(
            now["py2p_bytes_sent_total"][()], before["py2p_bytes_sent_total"][()] + 50
        )
        self.assertGreater(now["py2p_held_bytes"][()], 5000)
        self.assertEqual(now["py2p_held_messages"], {(): 4.0})
        ids = (("container", "ids"),)
        self.assertEqual(now["py2p_container_items"][ids], 4.0)
        self.assertEqual(now["py2p_container_limit"][ids], 85_000.0)
        self.assertEqual(set(now["py2p_container_items"]), set(now["py2p_container_limit"]))
        ((labels, value),) = now["py2p_node_info"].items()
        self.assertEqual((dict(labels)["id"], value), (self.ada.id.decode(), 1.0))
        self.assertIn("py2p_process_open_fds", now)
        self.assertEqual(now["py2p_web_connections"][()], 1.0)

    def test_what_ended_stays_counted(self) -> None:
        """Counters never go back, when links end either."""
        self.mesh["ben"].send("x")
        self.mesh.settle()
        before = self.metrics()
        (link,) = self.ada.routing_table.values()
        self.ada.factory.disconnect(link)
        self.mesh.settle()
        now = self.metrics()
        for name, values in before.items():
            if name.endswith("_total"):
                for labels, value in values.items():
                    self.assertGreaterEqual(now[name][labels], value, (name, labels))
        self.assertGreater(now["py2p_bytes_received_total"][()], 0)
        self.assertEqual(now["py2p_joined"], {(): 0.0})
        self.assertEqual(sum(now["py2p_peers"].values()), 0)
        self.assertEqual(now["py2p_closed_links_total"], {(("reason", "disconnected"),): 1.0})

    def test_names_are_documented(self) -> None:
        """Each metric has its line in the book, and each that stands there is one."""
        text = (ROOT / "docs/howto/monitoring.rst").read_text("utf-8")
        listed = set(re.findall(r"^``(py2p_\w+)``", text, re.M))
        told = {
            line.split()[2]
            for line in self.get("/metrics").body.decode().splitlines()
            if line.startswith("# TYPE")
        }
        sometimes = {
            "py2p_round_trip_max_seconds", "py2p_state_trouble", "py2p_state_ids_written_total",
            "py2p_state_ids_bytes", "py2p_programs", "py2p_programs_ended_total",
        }  # fmt: skip
        self.assertEqual(told - listed, set())
        self.assertEqual(listed - told - sometimes, set())
        self.assertEqual(sometimes - listed, set())

    def test_refused(self) -> None:
        """By reason."""
        self.get("/", Host="evil.example")
        self.assertEqual(
            self.metrics()["py2p_web_refused_total"], {(("reason", "foreign host"),): 1.0}
        )


class UnstartedTests(WebTestCase):
    linked = False

    def test_alone(self) -> None:
        """A node without peers has numbers, too."""
        found = read(self.get("/metrics").body)
        self.assertEqual(found["py2p_joined"], {(): 0.0})
        self.assertEqual(json.loads(self.get("/healthz").body)["joined"], False)
