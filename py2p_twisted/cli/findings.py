"""
What is wrong, and what to do: pure functions from what a node says of itself, and from what came of
dialling an address, to findings.

::

    status, peers --- of_node ----.
    own address ----- of_address --+--- [Finding, ...] --- lines, or JSON
    attempts -------- of_attempts -'

What a node says is not trusted to be in any form: it may be of another version. Times are in
seconds. Source: docs/howto/commands.rst, "What is wrong".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import ip_address
from typing import Any, Final

from py2p_twisted.cli.probe import Attempt
from py2p_twisted.cli.report import many
from py2p_twisted.core import base58
from py2p_twisted.core.clock import ACCEPTED, DISAGREEMENT
from py2p_twisted.core.network import PLAINTEXT, PROTOCOL_VERSION, SSL, Network
from py2p_twisted.errors import (
    ConnectTimeout,
    HandshakeTimeout,
    MeshError,
    NetworkMismatch,
    TransportFailed,
    Unreachable,
)
from py2p_twisted.net.reports import printable, reason_of

OK: Final = "ok"
WARN: Final = "warn"
FAIL: Final = "FAIL"

#: Seconds off, at which nodes of py2p 0.6 drop what is sent. Source: docs/protocol/wire.rst.
OLD_ACCEPT: Final = 60

#: Addresses whose latest failure is told.
_MOST_ERRORS: Final = 5

#: Characters of an id that are shown.
_ID: Final = 8

_SAME: Final = "use the same --network, and --tls, at both ends"


@dataclass(frozen=True, slots=True)
class Finding:
    """
    One thing that was looked at.

    :ivar level: `OK`, `WARN` or `FAIL`.
    :ivar about: what was looked at, a word that does not change.
    :ivar what: what was found.
    :ivar do: what to do about it; empty if that is nothing.
    """

    level: str
    about: str
    what: str
    do: str = ""

    @property
    def line(self) -> str:
        """For people."""
        return f"{self.level:4}  {self.what}" + (f" - {self.do}" if self.do else "")


@dataclass(frozen=True, slots=True)
class Own:
    """
    The node that runs here, as far as it is known.

    :ivar id: its id; empty: none runs.
    """

    id: str = ""


# --- what a node says of itself ---------------------------------------------------------------

#: What failed, by words in it, and what to do.
_ERRORS: Final = (
    ("refuses connections", "start the node there, or see on which address and port it listens"),
    ("did not answer within", "see whether a firewall drops it, or the machine is off"),
    ("belongs to network", _SAME),
    ("no known host", "correct the name, or see why it is not resolved"),
    ("looks like TLS", _SAME),
    ("TLS failed", _SAME),
    ("no handshake within", "see whether a py2p node listens there, with --tls as here"),
    ("before introducing itself", "see whether a py2p node listens there, with --tls as here"),
    ("before the peer introduced itself", _SAME),
    ("the address leads to this node itself", "name another node with --join"),
)

#: Ends of links that tell something, and what.
_CLOSED: Final = {
    "network mismatch": ("the other end is of another network", _SAME),
    "handshake timeout": (
        "the other end said nothing",
        "see who connects: a port scan, a health check that should ask /healthz, or --tls at one "
        "end only",
    ),
    "frame too large": (
        "the other end is no py2p node, or speaks TLS",
        "see who connects, and --tls",
    ),
    "frame too small": ("the other end is no py2p node", "see who connects"),
    "checksum": ("the stream was damaged", "see what stands between the nodes"),
    "malformed": ("the other end is no py2p node", "see who connects"),
    "too many peers": ("all places were taken", "raise --max-peers if that is too few"),
    "peer too slow": ("the other end read too slowly", "see how busy it and the network are"),
    "unresponsive": (
        "the other end had fallen silent",
        "see whether the network drops idle connections",
    ),
    "transport": ("the transport failed", "see the log of both ends"),
    "too many content errors": ("the other end brought broken messages", "see what it runs"),
    "identity changed": ("the other end changed its id", "see what it runs"),
}

#: What should not be full, and what is to be done then.
_FULL: Final = {
    "incoming links": "raise --max-peers, or name other nodes with --join elsewhere",
    "half-open links": "see who connects and says nothing",
    "messages for a first peer": "it is alone, and forgets what it was given to send: see above",
    "replies waiting": "those whom it answers cannot be found",
}

#: Messages that were dropped, by reason, and what to do.
_DROPPED: Final = {
    "stale": "the sender's clock is wrong, or this one's: set the clocks",
    "bad text": "the sender sends texts that are no UTF-8",
    "too many elements": "the sender's messages nest too much",
    "too deep": "the sender's messages nest too deeply",
    "message too large": "give all nodes the same --max-message",
}


def of_node(joined: bool, settled: int, status: Mapping[str, Any]) -> list[Finding]:
    """
    What a node's status tells.

    :param status: as the control endpoint gives it.
    """
    who = (
        f"node {printable(str(status.get('id', '?')))[:_ID]} of network {_text(status, 'network')}"
    )
    found = []
    if _text(status, "state", "Nominal") != "Nominal":
        found.append(
            Finding(FAIL, "state", f"its state is {_text(status, 'state')}", "see its log")
        )
    if joined:
        found.append(Finding(OK, "joined", f"{who} has {many(settled, 'peer')}"))
    else:
        dialling = [printable(str(one)) for one in _list(status, "dialling")]
        do = (
            f"it is dialling {', '.join(dialling[:_MOST_ERRORS])}"
            if dialling
            else "give it a node to join through with --join, or wait for others to dial it"
        )
        found.append(Finding(FAIL, "joined", f"{who} has no peers", do))
    found += _of_errors(_list(status, "errors"))
    found += _of_clock_correction(status.get("clock correction (s)"))
    for reason, count in _counts(status, "closed links"):
        if reason in _CLOSED:
            what, do = _CLOSED[reason]
            text = f"{many(count, 'connection')} ended because {what}"
            found.append(Finding(WARN, "closed links", text, do))
    for name, value in _mapping(status, "containers").items():
        match = re.fullmatch(r"(\d+) of (\d+)", str(value))
        if name in _FULL and match and 0 < int(match[2]) <= int(match[1]):
            text = f"a limit is reached: {name}, {match[0]}"
            found.append(Finding(WARN, "limits", text, _FULL[name]))
    for reason, count in _counts(status, "dropped messages"):
        do = _DROPPED.get(reason, "see its log for who has brought them")
        text = f"{many(count, 'message')} dropped ({printable(reason)})"
        found.append(Finding(WARN, "dropped", text, do))
    lost = dict(_counts(status, "happened")).get("unobtainable", 0)
    if lost:
        text = f"{many(lost, 'message')} could not be had from anybody any more"
        do = "it was cut off for longer than messages are kept"
        found.append(Finding(WARN, "missed", text, do))
    trouble = _mapping(status, "state directory").get("trouble")
    if trouble:
        text = f"the state directory cannot be written: {printable(str(trouble))}"
        found.append(Finding(WARN, "state directory", text, "make room, or mend its rights"))
    return found


def _of_errors(errors: Iterable[Any]) -> list[Finding]:
    """The latest failure at each address, the latest address first."""
    latest: dict[str, str] = {}
    for text in map(str, errors):
        where, colon, rest = text.partition(": ")
        if not colon:
            where, rest = "", text
        latest.pop(where, None)
        latest[where] = rest if where in ("", rest.split(" ", 1)[0]) else text
    found = []
    for text in list(latest.values())[: -_MOST_ERRORS - 1 : -1]:
        do = next((do for words, do in _ERRORS if words in text), "see its log")
        found.append(Finding(WARN, "errors", f"it has failed lately: {printable(text)}", do))
    return found


def _of_clock_correction(seconds: Any) -> list[Finding]:
    if not isinstance(seconds, (int, float)):
        return []
    if not seconds:
        return [Finding(OK, "clock", "its clock agrees with its peers', as far as it can tell")]
    way = "behind" if seconds > 0 else "ahead"
    text = f"its clock is {abs(seconds):.0f} s {way} of its peers'"
    return [Finding(WARN, "clock", text, "set the clock, and keep it right (NTP)")]


def of_peers(peers: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """What a node says of its peers."""
    found = []
    for peer in peers:
        if peer.get("slow"):
            text = f"peer {_peer(peer)} reads too slowly: {peer.get('bytes_waiting')} bytes wait"
            do = "see how busy that machine and the network are"
            found.append(Finding(WARN, "peers", text, do))
    return found


def of_address(
    address: str,
    peers: Sequence[Mapping[str, Any]],
    *,
    own: bool,
    ident: str,
    attempt: Attempt | None,
) -> list[Finding]:
    """
    Whether others can reach a node where it tells them to.

    :param address: what it tells them.
    :param own: whether that is an address of this machine.
    :param ident: the node's id.
    :param attempt: what came of dialling it from here.
    """
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    shown = printable(address)
    if port == "0":
        text = "it listens nowhere, so others cannot dial it: it lives from its own links"
        return [Finding(WARN, "address", text, "give it --listen if it is to be joined through")]
    found = []
    elsewhere = [peer for peer in peers if not _is_loopback(_host(peer))]
    if _is_loopback(host) and elsewhere:
        text = f"it tells others to dial {shown}, and they are on other machines"
        do = (
            "have it listen on an address that they can reach (--listen), or name one (--advertise)"
        )
        found.append(Finding(FAIL, "address", text, do))
    elif _is_loopback(host):
        text = f"it can be dialled from this machine alone, at {shown}"
        do = "give it --listen with another interface if others are to join"
        found.append(Finding(WARN, "address", text, do))
    elif not own:
        text = f"it tells others to dial {shown}, which is no address of this machine"
        do = "that is right behind a port forwarding; else name another one (--advertise)"
        found.append(Finding(WARN, "address", text, do))
    if _is_private(host) and any(_is_public(_host(peer)) for peer in peers):
        text = f"it tells others to dial {shown}, a private address, and has peers with public ones"
        do = "name an address that they can reach (--advertise), and forward its port"
        found.append(Finding(WARN, "address", text, do))
    if attempt is not None:
        found.append(_of_own_attempt(shown, attempt, ident, own=own))
    return found


def _of_own_attempt(shown: str, attempt: Attempt, ident: str, *, own: bool) -> Finding:
    if attempt.error is None:
        if attempt.id == ident:
            return Finding(OK, "address", f"it can be dialled where it says, at {shown}")
        text = f"another node answers where it says that it can be dialled, at {shown}"
        return Finding(FAIL, "address", text, "name its own address with --advertise")
    if isinstance(attempt.error, (ConnectionRefusedError, ConnectTimeout)) or not attempt.connected:
        text = f"it cannot be dialled where it says: {_why(attempt.error)}"
        do = (
            "see on which interface it listens (--listen), or name another address (--advertise)"
            if own
            else "some routers do not let one dial oneself: try from another machine, with "
            f"py2p doctor {shown}"
        )
        return Finding(FAIL if own else WARN, "address", text, do)
    text = f"something else answers where it says that it can be dialled: {_why(attempt.error)}"
    return Finding(FAIL, "address", text, "name its own address with --advertise")


# --- what came of dialling --------------------------------------------------------------------


def of_name(host: str, addresses: Sequence[str]) -> list[Finding]:
    """What a name stands for."""
    if not addresses:
        text = f"nobody knows the name {printable(host)}"
        return [Finding(FAIL, "name", text, "correct it, or see why it is not resolved")]
    if list(addresses) == [host]:
        return []
    shown = ", ".join(map(printable, addresses))
    return [Finding(OK, "name", f"{printable(host)} is {shown}")]


def wants_second(attempt: Attempt) -> bool:
    """Whether it is worth to try with, or without, TLS as well: something is there."""
    return (
        attempt.error is not None
        and attempt.connected
        and not isinstance(attempt.error, NetworkMismatch)
    )


def of_attempts(
    attempts: Sequence[tuple[Attempt, Attempt | None]], network: Network, own: Own
) -> list[Finding]:
    """
    What came of dialling an address, or all those of a name.

    :param attempts: each as the network wants it, and with the other encryption if that was tried.
    :param network: which network we belong to.
    """
    found: list[Finding] = []
    works = any(attempt.error is None for attempt, _ in attempts)
    for attempt, other in attempts:
        of_one = _of_attempt(attempt, other, network, own)
        if works:
            # One address of a name is enough to join; but each failure costs time.
            of_one = [
                Finding(WARN, one.about, one.what, one.do) if _is_dead(one) else one
                for one in of_one
            ]
        found += of_one
    return found


def _is_dead(finding: Finding) -> bool:
    return finding.level == FAIL and finding.about == "connection"


def _of_attempt(
    attempt: Attempt, other: Attempt | None, network: Network, own: Own
) -> list[Finding]:
    where, error = printable(attempt.where), attempt.error
    if error is None:
        return _of_node_there(attempt, own)
    if not attempt.connected:
        return [_of_no_connection(where, error)]
    if isinstance(error, NetworkMismatch):
        return [of_mismatch(where, error.theirs, network)]
    if other is not None and (other.error is None or isinstance(other.error, NetworkMismatch)):
        if attempt.encryption == SSL:
            what, do = (
                "speaks plain text, and we speak TLS",
                "leave --tls out here, or give it there",
            )
        else:
            what, do = (
                "speaks TLS, and we speak plain text",
                "give --tls here, or leave it out there",
            )
        return [Finding(FAIL, "encryption", f"{where} {what}", do)]
    if isinstance(error, HandshakeTimeout):
        text = f"{where} accepts connections, and says nothing"
        do = "it is no py2p node, or a process that hangs or was stopped: see what listens there"
        return [Finding(FAIL, "handshake", text, do)]
    if isinstance(error, (Unreachable, TransportFailed)):
        text = f"{where} accepts connections, and hangs up before it says who it is"
        do = "it is no py2p node, or a proxy with no node behind it: see what listens there"
        return [Finding(FAIL, "handshake", text, do)]
    text = f"what answers at {where} is no py2p node: {_why(error)}"
    return [Finding(FAIL, "handshake", text, "see what listens there, and on which port the node")]


def _of_no_connection(where: str, error: Exception) -> Finding:
    if isinstance(error, ConnectionRefusedError):
        text = f"{where} refuses connections"
        do = (
            "start the node there; if it runs, see that it listens on this port, and not on "
            "127.0.0.1 alone"
        )
    elif isinstance(error, ConnectTimeout):
        text = f"{where} does not answer"
        do = "a firewall drops it, the machine is off, or the address is wrong"
    else:
        text, do = f"{where} cannot be reached: {_why(error)}", "see the network and the routes"
    return Finding(FAIL, "connection", text, do)


def _of_node_there(attempt: Attempt, own: Own) -> list[Finding]:
    where, ident = printable(attempt.where), printable(attempt.id)[:_ID]
    if own.id and attempt.id == own.id:
        text = f"{where} is the node on this machine itself"
        return [Finding(WARN, "identity", text, "--join needs the address of another node")]
    found = []
    if attempt.mute:
        text = f"{where} is node {ident}, and says nothing more"
        do = "it hangs, or something lets its first words through alone: see its log"
        found.append(Finding(FAIL, "handshake", text, do))
    elif attempt.settled and attempt.plain:
        text = f"{where} is node {ident}, an original of py2p 0.6; it takes us"
        found.append(Finding(OK, "connection", text))
    elif attempt.settled:
        found.append(Finding(OK, "connection", f"{where} is node {ident}, and takes us"))
    elif attempt.left is not None:
        text = f"{where} is node {ident}, and turns us away: it is full, or was told to"
        do = "name another node with --join, or raise --max-peers there"
        found.append(Finding(WARN, "full", text, do))
    else:
        text = f"{where} is node {ident}, and does not take us as a neighbour"
        found.append(Finding(WARN, "full", text, "name another node with --join as well"))
    found.append(of_clock(attempt.ahead, plain=bool(attempt.plain)))
    delay = attempt.rtt if attempt.rtt is not None else attempt.delay
    found.append(Finding(OK, "round trip", f"there and back in {1000 * delay:.1f} ms"))
    return found


def of_clock(ahead: float, *, plain: bool = False) -> Finding:
    """
    How two clocks agree.

    :param ahead: seconds that theirs is ahead; stamps are whole seconds, so up to one is nothing.
    :param plain: whether the other one is a node of py2p 0.6, which takes less.
    """
    off = abs(ahead)
    if off <= DISAGREEMENT:
        return Finding(OK, "clock", f"the clocks agree to {max(1.0, off):.0f} s")
    text = f"its clock is {off:.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    do = "set the clock that is wrong, and keep it right (NTP)"
    if off > (OLD_ACCEPT if plain else ACCEPTED):
        return Finding(FAIL, "clock", f"{text}, so messages are dropped", do)
    return Finding(WARN, "clock", text, do)


def of_mismatch(where: str, theirs: str, network: Network) -> Finding:
    """
    Which other network a node belongs to, as far as that can be found out from its protocol id.

    :param theirs: what it says.
    """
    name, ours = printable(network.name), network.encryption
    for encryption in (PLAINTEXT, SSL):
        for version in (f"{major}.{minor}" for major in range(2) for minor in range(10)):
            if theirs != _protocol_id(network.name, encryption, version):
                continue
            if version != PROTOCOL_VERSION:
                text = f"{where} speaks py2p {version}, and we speak {PROTOCOL_VERSION}"
                return Finding(FAIL, "version", text, "no node speaks both: upgrade that one")
            text = f"{where} says that it is of network {name} ({encryption}), and we are of {name} ({ours})"
            return Finding(FAIL, "encryption", text, _SAME)
    guess = next(
        (
            f"the network mesh ({encryption})"
            for encryption in (PLAINTEXT, SSL)
            if theirs == Network("mesh", encryption).id
        ),
        f"a network {printable(theirs)}",
    )
    text = f"{where} is of {guess}, and we are of {name} ({ours}), {network.id}"
    return Finding(FAIL, "network", text, _SAME)


def _protocol_id(name: str, encryption: str, version: str) -> str:
    """As `core.network.protocol_id`, for any version."""
    digest = sha256(f"{name}{encryption}{version}".encode("utf-8", "replace")).digest()
    return base58.encode(int.from_bytes(digest, "big")).decode("ascii")


# --- reading what somebody says ---------------------------------------------------------------


def network_of(status: Mapping[str, Any]) -> Network | None:
    """The network that a node says it belongs to."""
    match = re.fullmatch(rf"(.*) \(({PLAINTEXT}|{SSL})\)", str(status.get("network")), re.DOTALL)
    return None if match is None else Network(match[1], match[2])


def _text(status: Mapping[str, Any], key: str, default: str = "?") -> str:
    return printable(str(status.get(key, default)))


def _list(status: Mapping[str, Any], key: str) -> list[Any]:
    value = status.get(key)
    return value if isinstance(value, list) else []


def _mapping(status: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = status.get(key)
    return value if isinstance(value, dict) else {}


def _counts(status: Mapping[str, Any], key: str) -> list[tuple[str, int]]:
    return [
        (name, count)
        for name, count in _mapping(status, key).items()
        if type(count) is int and count > 0
    ]


def _why(error: Exception) -> str:
    return reason_of(error) if isinstance(error, (MeshError, OSError)) else printable(str(error))


def _peer(peer: Mapping[str, Any]) -> str:
    return (
        f"{printable(str(peer.get('id', '?')))[:_ID]} at {printable(str(peer.get('where', '?')))}"
    )


def _host(peer: Mapping[str, Any]) -> str:
    host = str(peer.get("where", "")).rpartition(":")[0]
    return host.removeprefix("[").removesuffix("]")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_private(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_private and not address.is_loopback


def _is_public(host: str) -> bool:
    try:
        return ip_address(host).is_global
    except ValueError:
        return False


__all__ = [
    "FAIL",
    "OK",
    "WARN",
    "Finding",
    "Own",
    "network_of",
    "of_address",
    "of_attempts",
    "of_clock",
    "of_mismatch",
    "of_name",
    "of_node",
    "of_peers",
    "wants_second",
]
