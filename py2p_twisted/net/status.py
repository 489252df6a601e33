"""
What a node says of itself: numbers and texts, as one mapping that can be printed.

``status == "Nominal"`` holds while nothing has gone wrong, as it did in py2p. Reading a
status is allowed from any thread: it is a copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from textwrap import indent
from typing import TYPE_CHECKING, Any, Final

from py2p_twisted.core.connection import Connection
from py2p_twisted.core.network import address_text
from py2p_twisted.core.survey import SHORT_NAME, Survey
from py2p_twisted.net.reports import printable

if TYPE_CHECKING:
    from py2p_twisted.core.node import Node
    from py2p_twisted.net.discovery import Discovery
    from py2p_twisted.net.factory import MeshFactory
    from py2p_twisted.net.state import NodeState

NOMINAL = "Nominal"

#: Characters of an id by which a neighbour is named in full. Those of py2p have 66.
LONGEST_NAME: Final = 128


class Status(Mapping[str, Any]):
    """
    A node's state at one moment.

    ``state`` is ``"Nominal"``, or says what is wrong; ``errors`` are the latest texts of
    what failed (links, dials, replies, callbacks), oldest first.
    """

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            return bool(self._values["state"] == other)
        if isinstance(other, Status):
            return self._values == other._values
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self._values["state"])

    def __repr__(self) -> str:
        return f"<Status {self._values['state']}: {len(self._values['peers'])} peers>"

    def __str__(self) -> str:
        lines = []
        for key, value in self._values.items():
            if isinstance(value, dict):
                value = ", ".join(f"{name} {number}" for name, number in value.items()) or "none"
            elif isinstance(value, list):
                value = (
                    "".join("\n" + indent(str(item).rstrip(), "    ") for item in value) or "none"
                )
            lines.append(f"{key}: {value}")
        return "\n".join(lines)


def status_of(
    factory: MeshFactory,
    *,
    errors: list[str],
    state: str = NOMINAL,
    kept: NodeState | None = None,
    discovery: Discovery | None = None,
) -> Status:
    """
    Describe a started node.

    :param errors: texts of what has failed lately.
    :param state: what is wrong with the node as a whole, if anything is.
    :param kept: what it keeps for a restart, if it does.
    :param discovery: what finds nodes in the local network, if it has been asked to.
    """
    node = factory.node
    return Status(
        {
            "state": state,
            "id": node.id.decode("latin-1"),
            "network": f"{factory.network.name} ({factory.network.encryption})",
            "address": address_text(*node.address),
            "peers": [_describe(link) for link in factory.routing_table.values()],
            "greeting": len(node.links.greeting),
            "dialling": [address_text(*address) for address in node.dialer.under_way],
            "addresses known": len(node.dialer.known),
            "neighbours": _neighbours(node),
            "trees": _trees(node),
            "duplicates received": factory.duplicates,
            "repairs": {name: node.counters[name] for name in REPAIRS if node.counters[name]},
            "ids remembered": len(node.seen),
            "messages held for others": len(node.mesh.recent),
            "bytes held for others": node.mesh.recent.size,
            "messages missing": len(node.mesh.repair.missing),
            "announcements waiting": node.mesh.trees.pending,
            "bytes waiting for peers": sum(
                link.owner.outbox.size for link in factory.routing_table.values()
            ),
            "replies waiting": len(node.replies),
            "messages waiting to be sent": len(factory.sending.items),
            "messages waiting for a first peer": node.flood.unsent,
            "clock correction (s)": node.composer.correction,
            "dropped messages": dict(node.drops),
            "closed links": dict(factory.closed_links),
            "happened": dict(sorted(node.counters.items())),
            "containers": {
                name: f"{size} of {most}" for name, (size, most) in node.sizes().items()
            },
            "limits": asdict(node.settings),
            **({"state directory": kept.status} if kept is not None else {}),
            **({"discovery": discovery.status} if discovery is not None else {}),
            "errors": errors,
        }
    )


#: What is counted of messages that did not come by themselves: asked for, and come; asked for
#: by others, and given; not to be had from anybody any more.
REPAIRS = ("grafts", "repaired", "repairs given", "unanswered", "unobtainable")


def _neighbours(node: Node) -> dict[str, int]:
    """Whom the node is linked to, by what they are to it."""
    links = node.links.open
    active = sum(link.ext is not None and link.ext.active for link in links)
    plain = sum(link.ext is None for link in links)
    return {
        "active": active,
        "passive": len(node.mesh.membership.passive),
        "plain": plain,
        "other": len(links) - active - plain,
    }


def _trees(node: Node) -> dict[str, int]:
    """What the node is part of: for all origins together."""
    eager, lazy = node.mesh.trees.counts()
    return {"origins": len(node.mesh.trees), "eager links": eager, "lazy links": lazy}


def peers_of(factory: MeshFactory) -> list[dict[str, Any]]:
    """
    The peers in a routing table, one mapping each: times in seconds, sizes in bytes.

    ``kind`` is what a peer is to the node: a ``neighbour``, a ``plain`` node of 0.6, a ``probe``
    that we have made to have a look, or an ``other`` that has not decided, or has a look itself.
    """
    now = factory.now()
    return [_row(link, now) for link in factory.routing_table.values()]


def members_of(factory: MeshFactory, survey: Survey) -> dict[str, Any]:
    """
    A survey as a mapping: times in seconds, ids as text.

    Rows name neighbours by the beginning of an id: who is known is given the whole of it, unless
    that is longer than `LONGEST_NAME`. So rows cannot make much of one long id by naming it often.
    ``plain`` are the nodes of 0.6 that somebody is linked to, and ``silent`` those who are named
    as neighbours and have not answered.
    """
    whole: dict[bytes, set[bytes]] = {}
    for ident in (*(one.id for one in survey.members), *factory.routing_table):
        whole.setdefault(ident[:SHORT_NAME], set()).add(ident)

    shown: dict[bytes, str] = {}

    def name(short: bytes) -> str:
        ids = whole.get(short) or {factory.node.mesh.surveys.named(short) or short}
        # Two ids that begin alike are made so: then it says what was said.
        (ident,) = ids if len(ids) == 1 else (short,)
        text = printable(ident)
        return text if len(text) <= LONGEST_NAME else printable(short)

    def names(short: Iterable[bytes]) -> list[str]:
        for one in short:
            if one not in shown:
                shown[one] = name(one)
        return [shown[one] for one in short]

    return {
        "members": [
            {
                "id": printable(one.id),
                "address": None if one.address is None else address_text(*one.address),
                "hops": one.hops,
                "rtt": one.rtt,
                "neighbours": names(one.neighbours),
                "plain": names(one.plain),
                "version": printable(one.version),
            }
            for one in survey.members
        ],
        "plain": sorted(names(survey.plain)),
        "silent": sorted(names(survey.silent)),
        "seconds": survey.seconds,
        "complete": survey.complete,
    }


def _row(link: Connection, now: float) -> dict[str, Any]:
    ext, outbox = link.ext, link.owner.outbox
    if ext is None:
        kind = "plain"
    elif ext.active:
        kind = "neighbour"
    else:
        kind = "probe" if ext.probe else "other"
    return {
        "id": printable(link.id),
        "address": None if link.address is None else address_text(*link.address),
        "where": link.owner.peer_name,
        "outgoing": link.outgoing,
        "kind": kind,
        "rtt": None if ext is None else ext.rtt,
        "since": now - link.since,
        "heard": now - link.heard,
        "frames_in": link.frames,
        "bytes_in": link.bytes,
        "bytes_out": outbox.sent,
        "bytes_waiting": outbox.size,
        "duplicates": link.duplicates,
        "drops": dict(link.drops),
        "slow": bool(outbox.slow or link.congested),
    }


def _describe(link: Connection) -> str:
    direction = "to" if link.outgoing else "from"
    ext = link.ext
    kind = link.policy.name
    if ext is not None:
        kind += ", a neighbour" if ext.active else ", no neighbour"
        if ext.rtt is not None:
            kind += f", {1000 * ext.rtt:.0f} ms away"
    return (
        f"{printable(link.id)} {direction} {link.owner.peer_name}, {kind}: "
        f"{link.frames} frames in, {link.duplicates} of them duplicates, "
        f"{link.owner.outbox.size} bytes waiting"
        + (", slow" if link.owner.outbox.slow else "")
        + (", told later" if link.congested else "")
    )
