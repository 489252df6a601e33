"""
What came of a demo, as values: who got what when, and whether that is what was promised.

Latencies are in milliseconds, everything else in seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Sort:
    """
    What sort of nodes a demo has, in words.

    :ivar nodes: what they are.
    :ivar drop: what is done to those that are dropped, and what they are then.
    :ivar note: what has to be known about the latencies; empty: nothing.
    """

    nodes: str
    drop: str
    dropped: str
    note: str = ""


IN_PROCESS: Final = Sort("nodes", "cutting off", "dropped")
PROCESSES: Final = Sort(
    "processes",
    "kill -9",
    "killed -9",
    "each latency includes the start of a program (--exec), and its line in the log",
)


@dataclass(frozen=True, slots=True)
class Receipt:
    """
    A broadcast has arrived at a node.

    :ivar node: the node's name.
    :ivar latency: milliseconds since it was sent.
    :ivar via: the name of the neighbour that brought it.
    """

    node: str
    latency: float
    via: str


@dataclass(slots=True)
class Broadcast:
    """
    One broadcast, and what became of it.

    :ivar sender: the name of the node that sent it.
    :ivar text: what it said.
    :ivar expected: the names of those who must get it.
    :ivar receipts: who has got it, in order of arrival.
    :ivar surplus: how often each node was shown it that should not have been (again).
    :ivar copies: how many more copies came in on the links, and were dropped there.
    """

    sender: str
    text: str
    expected: tuple[str, ...]
    receipts: dict[str, Receipt] = field(default_factory=dict)
    surplus: dict[str, int] = field(default_factory=dict)
    copies: int = 0

    def record(self, receipt: Receipt) -> None:
        """An application has been shown it."""
        name = receipt.node
        if name in self.receipts or name not in self.expected:
            self.surplus[name] = self.surplus.get(name, 0) + 1
        else:
            self.receipts[name] = receipt

    @property
    def missing(self) -> list[str]:
        """Who has not got it."""
        return [name for name in self.expected if name not in self.receipts]

    @property
    def duplicates(self) -> int:
        """How often an application was shown it that had it already, or had sent it."""
        return sum(self.surplus.values())

    @property
    def worst(self) -> Receipt | None:
        """The latest receipt, if there is one."""
        return max(self.receipts.values(), key=lambda receipt: receipt.latency, default=None)


class Progress(Enum):
    """What a step of the demo has come to."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(slots=True)
class Step:
    """
    One step of the demo.

    :ivar title: one word.
    :ivar text: how far it is, or what came of it.
    """

    title: str
    text: str
    progress: Progress = Progress.RUNNING


@dataclass(frozen=True, slots=True)
class Row:
    """
    One node, as it is at the moment.

    :ivar peers: how many peers its routing table holds.
    """

    name: str
    address: tuple[str, int] | None
    peers: int
    alive: bool


@dataclass(frozen=True, slots=True)
class Healing:
    """
    Some nodes have gone without a word, and the others have made up for it.

    :ivar links_before: links of the whole mesh before.
    :ivar links_after: of those, the ones between survivors.
    :ivar links_healed: links when no more were made; ``None``: it never came to that.
    :ivar seconds: from the loss until then.
    """

    dropped: tuple[str, ...]
    links_before: int
    links_after: int
    links_healed: int | None = None
    seconds: float | None = None


@dataclass(slots=True)
class Report:
    """
    A whole demo. It grows while the demo runs.

    :ivar encryption: ``"TCP"`` or ``"TLS"``.
    :ivar seed: decides who is dropped, and who sends the second broadcast.
    :ivar promised: how many broadcasts there must be for all to be well.
    :ivar sort: what sort of nodes there are.
    :ivar page: where the status page is that shows it, with what it takes to send from there;
        empty: there is none.
    :ivar elapsed: seconds so far.
    :ivar problem: what was not reached, if anything.
    """

    encryption: str
    seed: int
    promised: int
    sort: Sort = IN_PROCESS
    rows: list[Row] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    broadcasts: list[Broadcast] = field(default_factory=list)
    healing: Healing | None = None
    page: str = ""
    elapsed: float = 0.0
    finished: bool = False
    problem: str | None = None

    @property
    def expected(self) -> int:
        """Deliveries that there must be."""
        return sum(len(broadcast.expected) for broadcast in self.broadcasts)

    @property
    def got(self) -> int:
        """Deliveries that there were, the first to each node alone."""
        return sum(len(broadcast.receipts) for broadcast in self.broadcasts)

    @property
    def duplicates(self) -> int:
        """Deliveries that should not have been."""
        return sum(broadcast.duplicates for broadcast in self.broadcasts)

    @property
    def worst(self) -> Receipt | None:
        """The latest receipt of all."""
        latest = [broadcast.worst for broadcast in self.broadcasts]
        return max(
            (receipt for receipt in latest if receipt is not None),
            key=lambda receipt: receipt.latency,
            default=None,
        )

    @property
    def ok(self) -> bool:
        """Whether everybody got every broadcast exactly once."""
        return (
            self.finished
            and self.problem is None
            and len(self.broadcasts) == self.promised
            and self.got == self.expected > 0
            and not self.duplicates
        )

    @property
    def verdict(self) -> str:
        """The last line."""
        worst = self.worst
        parts = [
            "PASS" if self.ok else "FAIL",
            f"{self.got} of {many(self.expected, 'delivery', 'deliveries')}",
            f"{many(self.duplicates, 'duplicate')} shown",
        ]
        if worst is not None:
            parts.append(f"worst latency {worst.latency:.1f} ms")
        return "verdict: " + ", ".join(parts)

    def as_json(self) -> dict[str, Any]:
        """Everything, in what JSON can hold."""
        worst = self.worst
        healing = self.healing
        return {
            "ok": self.ok,
            "problem": self.problem,
            "deliveries": {"got": self.got, "expected": self.expected},
            "duplicates": self.duplicates,
            "worst_ms": None if worst is None else round(worst.latency, 3),
            "seconds": round(self.elapsed, 3),
            "transport": self.encryption,
            "processes": self.sort is PROCESSES,
            "seed": self.seed,
            **({"page": self.page} if self.page else {}),
            "nodes": [
                {
                    "node": row.name,
                    "address": None if row.address is None else "{}:{}".format(*row.address),
                    "peers": row.peers,
                    "state": "alive" if row.alive else "dropped",
                }
                for row in self.rows
            ],
            "broadcasts": [
                {
                    "from": broadcast.sender,
                    "text": broadcast.text,
                    "got": len(broadcast.receipts),
                    "expected": len(broadcast.expected),
                    "missing": broadcast.missing,
                    "duplicates": broadcast.duplicates,
                    "copies_dropped_on_links": broadcast.copies,
                    "receipts": [
                        {
                            "node": receipt.node,
                            "ms": round(receipt.latency, 3),
                            "via": receipt.via,
                        }
                        for receipt in broadcast.receipts.values()
                    ],
                }
                for broadcast in self.broadcasts
            ],
            "healing": None
            if healing is None
            else {
                "dropped": list(healing.dropped),
                "links_before": healing.links_before,
                "links_after_drop": healing.links_after,
                "links_healed": healing.links_healed,
                "seconds": None if healing.seconds is None else round(healing.seconds, 3),
            },
        }


def some(names: Iterable[str], most: int = 3) -> str:
    """A list of names for people: ``"n01, n02, n03 and 9 more"``."""
    listed = list(names)
    if len(listed) > most + 1:
        return f"{', '.join(listed[:most])} and {len(listed) - most} more"
    if len(listed) < 2:
        return "".join(listed)
    return f"{', '.join(listed[:-1])} and {listed[-1]}"


def many(count: int, one: str, more: str = "") -> str:
    """A number of things for people: ``"1 link"``, ``"2 links"``."""
    return f"{count} {one if count == 1 else more or one + 's'}"
