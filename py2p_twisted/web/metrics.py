"""
The numbers of a node, for Prometheus.

`render` writes text format 0.0.4 and knows nothing of nodes; `of_node`, `of_process` and `of_web`
say what there is to tell. Names begin with ``py2p_``; what only ever grows ends in ``_total``.
There is nothing for single peers: they come and go, and each would be a new series for ever.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/, and docs/howto/monitoring.rst.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import twisted
from py2p_twisted import __version__
from py2p_twisted.core.network import address_text
from py2p_twisted.net.reports import printable
from py2p_twisted.net.service import MeshService
from py2p_twisted.net.status import REPAIRS, peers_of

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"

COUNTER: Final = "counter"
GAUGE: Final = "gauge"

_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")

_PAGE: Final = 4096 if resource is None else resource.getpagesize()


@dataclass(frozen=True, slots=True)
class Family:
    """
    One metric.

    :ivar name: what it is called.
    :ivar kind: `COUNTER` or `GAUGE`.
    :ivar help: what it is, in one line.
    :ivar samples: its values, with the labels of each.
    """

    name: str
    kind: str
    help: str
    samples: list[tuple[dict[str, str], float]] = field(default_factory=list)


def one(name: str, kind: str, help: str, value: float, **labels: str) -> Family:
    """A metric with one value."""
    return Family(name, kind, help, [(labels, value)])


def by(name: str, kind: str, help: str, label: str, values: Mapping[str, float]) -> Family:
    """A metric with one value for each value of a label."""
    return Family(name, kind, help, [({label: key}, value) for key, value in values.items()])


def render(families: Iterable[Family]) -> bytes:
    """
    Metrics as text.

    :raises ValueError: a name is none, or two have the same.
    """
    lines: list[str] = []
    seen: set[str] = set()
    for family in families:
        name = family.name
        if not _NAME.fullmatch(name) or name in seen:
            raise ValueError(f"no name for a metric, or there twice: {name!r}")
        if name.endswith("_total") is not (family.kind == COUNTER):
            raise ValueError(f"counters end in _total, and nothing else does: {name!r}")
        seen.add(name)
        said = family.help.replace("\\", "\\\\").replace("\n", "\\n")
        lines += [f"# HELP {name} {said}", f"# TYPE {name} {family.kind}"]
        lines += [f"{name}{_labels(labels)} {_number(value)}" for labels, value in family.samples]
    return "".join(line + "\n" for line in lines).encode("utf-8", "backslashreplace")


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    pairs = [f'{_word(name)}="{_escaped(value)}"' for name, value in labels.items()]
    return "{" + ",".join(pairs) + "}"


def _word(name: str) -> str:
    if not _NAME.fullmatch(name) or ":" in name:
        raise ValueError(f"no name for a label: {name!r}")
    return name


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if float(value).is_integer() and abs(value) < 2**53 else repr(value)


# --- a node ---------------------------------------------------------------------------------


def of_node(mesh: MeshService) -> Iterator[Family]:
    """What there is to tell of a node that has started."""
    factory = mesh.factory
    node, carried = factory.node, factory.traffic
    yield one(
        "py2p_build_info", GAUGE, "Always 1. What this node runs on.", 1,
        version=__version__, python=platform.python_version(), twisted=twisted.__version__,
    )  # fmt: skip
    yield one(
        "py2p_node_info", GAUGE, "Always 1. Who this node is.", 1,
        id=printable(node.id), network=factory.network.name,
        encryption=factory.network.encryption, address=address_text(*node.address),
    )  # fmt: skip
    yield one(
        "py2p_joined", GAUGE, "Whether a peer is here to stay: 1, or 0 when the node is alone.",
        bool(mesh.settled),
    )  # fmt: skip
    peers = peers_of(factory)
    kinds = dict.fromkeys(("neighbour", "plain", "probe", "other"), 0)
    for peer in peers:
        kinds[peer["kind"]] += 1
    yield by("py2p_peers", GAUGE, "Peers that are linked to this node.", "kind", kinds)
    yield one("py2p_settled_peers", GAUGE, "Peers that are here to stay.", len(mesh.settled))
    yield one(
        "py2p_slow_peers", GAUGE, "Peers that read too slowly at the moment.",
        sum(peer["slow"] for peer in peers),
    )  # fmt: skip
    times = [peer["rtt"] for peer in peers if peer["rtt"] is not None]
    if times:
        yield one(
            "py2p_round_trip_max_seconds", GAUGE, "There and back to the farthest peer.", max(times)
        )
    yield one("py2p_frames_received_total", COUNTER, "Frames from peers.", carried.frames_in)
    yield one(
        "py2p_duplicate_frames_received_total", COUNTER,
        "Frames from peers that had come before.", carried.duplicates,
    )  # fmt: skip
    yield one("py2p_bytes_received_total", COUNTER, "Bytes from peers.", carried.bytes_in)
    yield one("py2p_bytes_sent_total", COUNTER, "Bytes to peers.", carried.bytes_out)
    yield one(
        "py2p_messages_received_total", COUNTER, "Messages that the application was given.",
        factory.messages_in,
    )  # fmt: skip
    yield one(
        "py2p_messages_sent_total", COUNTER, "Messages that this node has sent itself.",
        factory.messages_out,
    )  # fmt: skip
    yield by(
        "py2p_dropped_messages_total", COUNTER, "Messages that were of no use, by reason.",
        "reason", node.drops,
    )  # fmt: skip
    yield by(
        "py2p_closed_links_total", COUNTER, "Links that this node has ended, by reason.", "reason",
        factory.closed_links,
    )  # fmt: skip
    yield by(
        "py2p_repairs_total", COUNTER, "Messages that did not come by themselves, by what happened.",
        "step", {name: node.counters[name] for name in REPAIRS},
    )  # fmt: skip
    yield by(
        "py2p_happened_total", COUNTER, "What else the node has counted.", "what",
        {name: count for name, count in sorted(node.counters.items()) if name not in REPAIRS},
    )  # fmt: skip
    sizes = node.sizes()
    yield by(
        "py2p_container_items", GAUGE, "How full everything is that peers can make grow.",
        "container", {name: size for name, (size, _) in sizes.items()},
    )  # fmt: skip
    yield by(
        "py2p_container_limit", GAUGE, "How full it can get.", "container",
        {name: most for name, (_, most) in sizes.items()},
    )  # fmt: skip
    yield one(
        "py2p_held_messages", GAUGE, "Messages that are held for those who ask for them.",
        len(node.mesh.recent),
    )  # fmt: skip
    yield one("py2p_held_bytes", GAUGE, "Bytes of them.", node.mesh.recent.size)
    yield one(
        "py2p_missing_messages", GAUGE, "Messages that are known to exist, and have not come.",
        len(node.mesh.repair.missing),
    )  # fmt: skip
    yield one(
        "py2p_waiting_bytes", GAUGE, "Bytes that wait for peers to read them.",
        sum(peer["bytes_waiting"] for peer in peers),
    )  # fmt: skip
    yield one(
        "py2p_send_queue_items", GAUGE, "Messages of this node's own that wait to be sent.",
        len(factory.sending.items),
    )  # fmt: skip
    yield one(
        "py2p_clock_correction_seconds", GAUGE,
        "By how much this machine's clock is wrong, as its peers have it.",
        node.composer.correction,
    )  # fmt: skip
    if mesh.state is not None:
        kept = mesh.state.status
        yield one(
            "py2p_state_trouble", GAUGE, "Whether the state directory cannot be written to.",
            kept["trouble"] != "none",
        )  # fmt: skip
        yield one(
            "py2p_state_ids_written_total", COUNTER, "Ids of messages that were written to it.",
            kept["ids written"],
        )  # fmt: skip
        yield one("py2p_state_ids_bytes", GAUGE, "Bytes of ids in it.", kept["bytes of ids"])
    programs = mesh.status.get("programs")
    if programs is not None:
        now = ("waiting", "running")
        yield by(
            "py2p_programs", GAUGE, "Programs of --exec that wait or run.", "state",
            {name: programs[name] for name in now},
        )  # fmt: skip
        yield by(
            "py2p_programs_ended_total", COUNTER, "Programs of --exec, by how they have ended.",
            "how", {name: count for name, count in programs.items() if name not in now},
        )  # fmt: skip


def of_process() -> Iterator[Family]:
    """What there is to tell of this process, as far as the system says."""
    times = os.times()
    yield one(
        "py2p_process_cpu_seconds_total", COUNTER, "Seconds of a processor's time that it has had.",
        times.user + times.system,
    )  # fmt: skip
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
        files = len(os.listdir("/proc/self/fd")) - 1  # the listing's own
    except (OSError, ValueError, IndexError):
        pass  # no Linux
    else:
        yield one("py2p_process_resident_bytes", GAUGE, "Memory of the process.", pages * _PAGE)
        yield one("py2p_process_open_fds", GAUGE, "Files and sockets that it has open.", files)
    if resource is not None:
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        yield one(
            "py2p_process_max_fds", GAUGE, "How many it may have open.",
            float("inf") if most == resource.RLIM_INFINITY else most,
        )  # fmt: skip


def of_web(
    connections: int, streams: int, waiting: int, refused: Mapping[str, int]
) -> Iterator[Family]:
    """
    What there is to tell of the status page itself.

    :param waiting: bytes that those who watch have not read.
    """
    yield one(
        "py2p_web_connections", GAUGE, "Connections to the status page, this one too.", connections
    )
    yield one("py2p_web_watchers", GAUGE, "Browsers that watch.", streams)
    yield one("py2p_web_waiting_bytes", GAUGE, "Bytes that wait for them to read.", waiting)
    yield by(
        "py2p_web_refused_total", COUNTER, "Requests to it that were refused, by reason.", "reason",
        refused,
    )  # fmt: skip


__all__ = [
    "CONTENT_TYPE",
    "COUNTER",
    "GAUGE",
    "Family",
    "by",
    "of_node",
    "of_process",
    "of_web",
    "one",
    "render",
]
