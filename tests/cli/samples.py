"""
Reports as a demo leaves them, made by hand.
"""

from __future__ import annotations

from py2p_twisted.cli.report import Broadcast, Healing, Progress, Receipt, Report, Row, Step


def receive(broadcast: Broadcast, *names: str, latency: float = 1.5) -> None:
    """Some nodes are shown a broadcast."""
    for name in names:
        broadcast.record(Receipt(name, latency, broadcast.sender))


def begun(nodes: int = 12) -> Report:
    """Nodes that listen, and nothing more."""
    width = max(2, len(str(nodes)))
    report = Report("TCP", 7, promised=2)
    report.rows = [
        Row(f"n{number:0{width}}", ("127.0.0.1", 40000 + number), 4, True)
        for number in range(1, nodes + 1)
    ]
    report.steps = [Step("start", f"{nodes} nodes listen on 127.0.0.1", Progress.DONE)]
    report.elapsed = 0.25
    return report


def good(nodes: int = 12) -> Report:
    """
    A demo that went as it should: the last node sends, the first two are dropped, the third
    sends. The worst latency is 12.3 ms.
    """
    report = begun(nodes)
    names = [row.name for row in report.rows]
    first = Broadcast(names[-1], "storm from the north", tuple(names[:-1]))
    receive(first, *first.expected)
    gone, rest = names[:2], names[2:]
    second = Broadcast(rest[0], "the storm has passed", tuple(rest[1:]))
    receive(second, *second.expected[:-1], latency=0.75)
    receive(second, second.expected[-1], latency=12.34)
    report.broadcasts = [first, second]
    report.healing = Healing(tuple(gone), 44, 27, 40, 0.2125)
    report.rows = [
        Row(row.name, row.address, 0 if row.name in gone else row.peers, row.name not in gone)
        for row in report.rows
    ]
    report.steps += [
        Step("join", "44 links, 4 to 11 a node", Progress.DONE),
        Step(
            "broadcast",
            f"{first.sender} to {nodes - 1} of {nodes - 1} nodes, worst 1.5 ms",
            Progress.DONE,
        ),
        Step("drop", f"{gone[0]} and {gone[1]} gone: 44 links, now 27", Progress.DONE),
        Step("heal", "40 links, 7 to 9 a node, after 0.21 s", Progress.DONE),
        Step(
            "broadcast",
            f"{second.sender} to {nodes - 3} of {nodes - 3} nodes, worst 12.3 ms",
            Progress.DONE,
        ),
    ]
    report.elapsed = 2.5
    report.finished = True
    return report


def stuck(nodes: int = 12) -> Report:
    """A demo whose first broadcast has not come to the first two."""
    report = begun(nodes)
    names = [row.name for row in report.rows]
    broadcast = Broadcast(names[-1], "storm from the north", tuple(names[:-1]))
    receive(broadcast, *names[2:-1])
    report.broadcasts = [broadcast]
    report.steps.append(Step("broadcast", f"{names[-1]} to 9 of 11 nodes", Progress.FAILED))
    report.problem = (
        f"the broadcast of {names[-1]} has not come to {names[0]} and {names[1]} within 10 s"
    )
    return report
