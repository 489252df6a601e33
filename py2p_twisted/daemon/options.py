"""
Every option of a node, once.

``twistd py2p``, ``twist py2p``, ``py2p node``, the keys of a configuration file, shell
completion and the reference in the documentation are all made from `OPTIONS`. A reader
turns what was typed, or what stands in a file, into a value, or says what it expected.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from typing import Any, Final

from twisted.internet.abstract import isIPv6Address
from twisted.internet.endpoints import serverFromString

from py2p_twisted.control.places import OFF, Place, place
from py2p_twisted.core import ticket
from py2p_twisted.core.connection import read_address
from py2p_twisted.core.network import Address, address_text
from py2p_twisted.core.settings import Settings
from py2p_twisted.core.ticket import Ticket, is_ticket
from py2p_twisted.errors import BadArgument

#: Settings that have an option of their own.
NAMED_SETTINGS: Final = {"max-peers": "max_inbound", "max-message": "max_message"}

DEFAULT_LISTEN: Final = "tcp:4444"

#: From what is of interest to nearly nobody to what ends a node. Source: ``twisted.logger``.
LOG_LEVELS: Final = ("debug", "info", "warn", "error", "critical")

_LONGEST: Final = 1e9  # seconds, thirty years

_SIZE: Final = re.compile(r"([0-9]{1,18})\s*(?:([KMG])(?:i?B)?|B)?", re.IGNORECASE)
_UNITS: Final = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}

#: Endpoint types whose strings are read before anything is started. Other types, which
#: packages may add, might act while they are read.
_OWN_ENDPOINTS: Final = ("tcp", "tcp6", "unix")
_ENDPOINT: Final = re.compile(r"([A-Za-z][\w-]*):")


@dataclass(frozen=True, slots=True)
class Option:
    """
    One thing that can be set.

    :ivar name: as on the command line, without the dashes, and as a file's key.
    :ivar help: what it does; one sentence, without a full stop.
    :ivar read: makes the value from text or from what stands in a file; raises
        ``ValueError`` with what it expected.
    :ivar metavar: what stands for its value in a help text; empty for a switch.
    :ivar example: one value that makes sense.
    :ivar default: the value when nobody sets it; an empty tuple for repeatable ones
        without a default.
    :ivar repeat: it may be given several times, and is a list in a file.
    :ivar short: a letter.
    :ivar shown: how a value is printed.
    :ivar in_file: whether it may stand in a configuration file.
    :ivar files: its value names a file or a directory; for shell completion.
    """

    name: str
    help: str
    read: Callable[[Any], Any]
    metavar: str = ""
    example: str = ""
    default: Any = None
    repeat: bool = False
    short: str | None = None
    shown: Callable[[Any], str] = str
    in_file: bool = True
    files: bool = False

    @property
    def is_switch(self) -> bool:
        """Whether it takes no value on the command line."""
        return not self.metavar

    @property
    def description(self) -> str:
        """Its help, with whether it may be repeated and its default."""
        parts = ["may be repeated"] if self.repeat else []
        default = self.default[0] if self.repeat and self.default else self.default
        if not self.is_switch and default not in (None, ()):
            parts.append(f"default: {self.shown(default)}")
        return f"{self.help} ({', '.join(parts)})" if parts else self.help


# --- readers ------------------------------------------------------------------------------


def text(value: Any) -> str:
    """Any text but the empty one."""
    try:
        if isinstance(value, str) and value.strip() and value.encode("utf-8"):
            return value
    except UnicodeEncodeError:
        pass
    raise ValueError("a text")


def switch(value: Any) -> bool:
    """On or off."""
    if isinstance(value, bool):
        return value
    raise ValueError("true or false")


def endpoint(value: Any) -> str:
    """
    A string that describes where to listen, such as ``tcp:4444:interface=127.0.0.1``.

    Of Twisted's simple types all of it is checked, of others the beginning.
    """
    match = _ENDPOINT.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("an endpoint")
    if match[1] in _OWN_ENDPOINTS:
        try:
            made = serverFromString(None, value)
        except Exception as error:
            # Whatever Twisted's parser makes of it: it raises five different things.
            raise ValueError("an endpoint") from error
        if not 0 <= getattr(made, "_port", 0) < 65536:
            raise ValueError("an endpoint with a port from 0 to 65535")
    return str(value)


def address(value: Any) -> Address:
    """A host and a port: ``192.0.2.7:4444``, ``node.example:4444``, ``[2001:db8::7]:4444``."""
    found = _address(value)
    if found is None or not found[1]:
        raise ValueError("HOST:PORT")
    return found


def bootstrap(value: Any) -> Address | Ticket:
    """An address to join through, or a ticket that holds some."""
    if isinstance(value, str) and is_ticket(value):
        try:
            return ticket.read(value)
        except BadArgument as error:
            raise ValueError(f"a whole ticket; {error}") from error
    found = _address(value)
    if found is None or not found[1]:
        raise ValueError("HOST:PORT")
    return found


_INTERFACE: Final = re.compile(r"(?=.*\w)[^\s/]{1,64}")


def interface(value: Any) -> str:
    """The name of a network interface, or one of its addresses."""
    if isinstance(value, str) and value.isprintable() and _INTERFACE.fullmatch(value):
        return value
    raise ValueError("an interface's name or address")


def outward_address(value: Any) -> Address:
    """A host, and a port unless it is the one that is listened on (then 0)."""
    found = _address(value)
    if found is None and isinstance(value, str):
        found = _address(value + ":0")
    if found is None:
        raise ValueError("HOST:PORT or HOST")
    return found


_ADDRESS: Final = re.compile(
    r"(?:\[(?P<six>[^\[\]]+)\]|(?P<host>[^\[\]:\s]+)):(?P<port>[0-9]{1,5})"
)


def _address(value: Any) -> Address | None:
    match = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
    if match is None or (match["six"] and not isIPv6Address(match["six"])):
        return None
    pair = (match["six"] or match["host"], int(match["port"]))
    # Port 0 is no address, but the host has to be one all the same.
    if read_address((pair[0], pair[1] or 1)) is None:
        return None
    return pair


def number(least: int, most: int | None = None) -> Callable[[Any], int]:
    """A reader of whole numbers from ``least`` to ``most``."""
    wanted = f"a number from {least} to {most}" if most is not None else f"a number from {least} on"

    def read(value: Any) -> int:
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
            value = int(value)
        if type(value) is not int or value < least or (most is not None and value > most):
            raise ValueError(wanted)
        return value

    return read


def seconds(value: Any) -> float:
    """A positive number of seconds."""
    try:
        read = float(value)
    except (TypeError, ValueError, OverflowError):
        read = 0.0
    if isinstance(value, bool) or not 0 < read <= _LONGEST:
        raise ValueError("a number of seconds")
    return read


def message_size(value: Any) -> int:
    """Bytes, or a number with a unit: ``8 MiB``, ``512K``."""
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is not None:
        value = int(match[1]) * _UNITS[(match[2] or "").upper()]
    if type(value) is not int or not 1024 <= value <= 2**31:
        raise ValueError("a size from 1 KiB to 2 GiB")
    return value


def command_line(value: Any) -> tuple[str, ...]:
    """A program and its arguments, in a shell's quoting; in a file also as a list."""
    if isinstance(value, list) and value and all(isinstance(word, str) for word in value):
        words = value
    elif isinstance(value, str):
        try:
            words = shlex.split(value)
        except ValueError as error:
            raise ValueError("a program with its arguments, and all quotes closed") from error
    else:
        words = []
    if not words or not words[0] or any("\0" in word for word in words):
        raise ValueError("a program with its arguments")
    return tuple(words)


def log_level(value: Any) -> str:
    """The name of a level."""
    if value in LOG_LEVELS:
        return str(value)
    raise ValueError("one of " + ", ".join(LOG_LEVELS))


def control(value: Any) -> Place | str:
    """Where the node can be talked with: a path, a loopback port, or `OFF`."""
    if value == OFF:
        return OFF
    try:
        return place(value if isinstance(value, str) else "")
    except BadArgument as error:
        raise ValueError(str(error)) from error


def web(value: Any) -> str:
    """Where the status page is: a port of this machine, or an endpoint string."""
    if type(value) is int:
        value = str(value)
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,5}", value):
        value = f"tcp:{value}"
    try:
        return endpoint(value)
    except ValueError as error:
        raise ValueError("a port from 0 to 65535, or an endpoint") from error


_HOST_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,255}")


def host_name(value: Any) -> str:
    """A host's name, without a port."""
    if isinstance(value, str) and _HOST_NAME.fullmatch(value):
        return value
    raise ValueError("a host's name, without a port")


#: How a setting that is on or off may be written.
_SWITCHES = {
    **dict.fromkeys(("yes", "true", "on", "1"), True),
    **dict.fromkeys(("no", "false", "off", "0"), False),
}


def limit(value: Any) -> tuple[str, int | float]:
    """``NAME=VALUE``, one of the settings that are listed with `Settings`."""
    name, equals, number_text = value.partition("=") if isinstance(value, str) else ("", "", "")
    name = name.strip().replace("-", "_")
    if not equals:
        raise ValueError("NAME=VALUE")
    own = {field: option for option, field in NAMED_SETTINGS.items()}
    if name in own:
        raise ValueError(f"another name, because --{own[name]} sets {name}")
    kinds = limits()
    if name not in kinds:
        raise UnknownName(name, list(kinds))
    if isinstance(kinds[name], bool):
        if number_text.lower() not in _SWITCHES:
            raise ValueError("yes or no")
        return name, _SWITCHES[number_text.lower()]
    whole = isinstance(kinds[name], int)
    try:
        read = int(number_text) if whole else float(number_text)
        Settings.from_options({name: read})
    except ValueError as error:
        wanted = "a whole number" if whole else "a number"
        if isinstance(error, BadArgument):
            wanted = str(error)
        raise ValueError(wanted.removeprefix(f"{name} must be ").partition(", not ")[0]) from error
    return name, read


class UnknownName(ValueError):
    """
    A name that nothing has.

    :ivar name: what was written.
    :ivar known: what could have been.
    """

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__("one of " + ", ".join(known))
        self.name, self.known = name, known


def limits() -> dict[str, int | float]:
    """Every setting without an option of its own, with its default."""
    own = set(NAMED_SETTINGS.values())
    return {
        item.name: item.default
        for item in fields(Settings)
        if item.name not in own and item.default is not MISSING
    }


# --- showing ------------------------------------------------------------------------------


def show_address(value: Address) -> str:
    """A host and a port as they are typed."""
    host, port = value
    return address_text(host, port) if port else address_text(host, 0).removesuffix(":0")


def show_switch(value: bool) -> str:
    """On or off, in words."""
    return "yes" if value else "no"


def show_size(value: int) -> str:
    """Bytes in the largest unit that needs no fraction."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value % size == 0:
            return f"{value // size} {unit}"
    return f"{value} bytes"


def show_seconds(value: float) -> str:
    """Seconds with their unit."""
    return f"{value:g} s"


# --- the table ----------------------------------------------------------------------------

_DEFAULTS: Final = Settings()

OPTIONS: Final = (
    Option(
        "listen",
        "where to listen, as a Twisted endpoint string; port 0 takes a free one",
        endpoint,
        metavar="ENDPOINT",
        example="tcp:4444:interface=127.0.0.1",
        default=(DEFAULT_LISTEN,),
        repeat=True,
        short="l",
    ),
    Option(
        "join",
        "a node to join through, or a ticket that names some; tried again for ever, and after "
        "every loss",
        bootstrap,
        metavar="HOST:PORT",
        example="192.0.2.7:4444",
        default=(),
        repeat=True,
        short="j",
        shown=show_address,
    ),
    Option(
        "discover",
        "find nodes of the same network in the local network, and be found by them",
        switch,
        default=False,
        shown=show_switch,
    ),
    Option(
        "interface",
        "where --discover looks: an interface's name or address (default: those that multicast "
        "or everything else is routed to)",
        interface,
        metavar="NAME",
        example="eth0",
        default=(),
        repeat=True,
    ),
    Option(
        "advertise",
        "the address that others are told to dial, when a router forwards it "
        "(default: the first one listened on, with this machine's LAN address for 0.0.0.0)",
        outward_address,
        metavar="HOST:PORT",
        example="203.0.113.21:44565",
        short="a",
        shown=show_address,
    ),
    Option(
        "network",
        "the network's name; nodes of different names refuse each other",
        text,
        metavar="NAME",
        example="alerts",
        default="mesh",
    ),
    Option(
        "tls",
        "encrypt all links; it keeps readers out, not impostors, and all nodes of a network "
        "need it alike",
        switch,
        default=False,
        shown=show_switch,
    ),
    Option(
        "max-peers",
        "incoming links to keep; who comes later is told other addresses",
        number(0, 100_000),
        metavar="N",
        example="200",
        default=_DEFAULTS.max_inbound,
    ),
    Option(
        "max-message",
        "the largest message that is sent, taken and passed on",
        message_size,
        metavar="SIZE",
        example="1MiB",
        default=_DEFAULTS.max_message,
        shown=show_size,
    ),
    Option(
        "limit",
        "set another limit of the node; --check shows them all",
        limit,
        metavar="NAME=VALUE",
        example="max_outgoing=8",
        default=(),
        repeat=True,
    ),
    Option(
        "exec",
        "a program to run for every message: packets as JSON on its standard input, the rest "
        "in its environment",
        command_line,
        metavar="COMMAND",
        example="/usr/local/bin/on-alert --verbose",
        short="x",
        shown=shlex.join,
        files=True,
    ),
    Option(
        "exec-parallel",
        "programs of --exec that run at once",
        number(1, 1000),
        metavar="N",
        example="1",
        default=4,
    ),
    Option(
        "exec-queue",
        "messages that wait for their program; beyond that the oldest are lost, and logged",
        number(1, 1_000_000),
        metavar="N",
        example="100",
        default=1000,
    ),
    Option(
        "exec-timeout",
        "seconds after which a program of --exec is ended",
        seconds,
        metavar="SECONDS",
        example="5",
        default=60.0,
        shown=show_seconds,
    ),
    Option(
        "state-dir",
        "a directory that makes a node which is started again the same participant: it keeps its "
        "id and its peers, and is given nothing twice",
        text,
        metavar="DIR",
        example="/var/lib/py2p",
        short="d",
        files=True,
    ),
    Option(
        "control",
        "where py2p status and its like can talk with the node: a path for a socket, "
        f"tcp:127.0.0.1:PORT, or {OFF} (default: control.sock in the node's own folder, else a "
        "socket in $XDG_RUNTIME_DIR/py2p)",
        control,
        metavar="PATH",
        example="/run/py2p/control.sock",
        files=True,
    ),
    Option(
        "web",
        "where the status page is, which also has numbers for Prometheus: a port, for this "
        "machine alone, or a Twisted endpoint string with an interface",
        web,
        metavar="ENDPOINT",
        example="tcp:8080:interface=192.0.2.7",
    ),
    Option(
        "web-host",
        "a further name that the status page may be asked for by, besides addresses and localhost",
        host_name,
        metavar="NAME",
        example="node1.example",
        default=(),
        repeat=True,
    ),
    Option(
        "debug-level",
        "how much more to log: 1 messages for this node, 2 what is dropped, 3 copies, 4 what "
        "goes out, 5 everything",
        number(0, 5),
        metavar="0-5",
        example="5",
        default=0,
    ),
    Option(
        "log-level",
        f"the least level that is logged: {', '.join(LOG_LEVELS)}; twist and twistd have options "
        "of their own for their logs",
        log_level,
        metavar="LEVEL",
        example="warn",
        default="info",
    ),
    Option(
        "config",
        "a TOML file with any of these options as keys; what is given here wins",
        text,
        metavar="FILE",
        example="/etc/py2p/node.toml",
        short="c",
        in_file=False,
        files=True,
    ),
    Option(
        "check",
        "print every value with where it comes from, and end",
        switch,
        default=False,
        in_file=False,
        shown=show_switch,
    ),
)

#: What every help text ends with. ``{command}`` is how the node is started there.
EXAMPLES: Final = """\
a first node, and a second one that joins it and runs a program for every message:
  {command} --listen=tcp:4444
  {command} --listen=tcp:4445 --join=127.0.0.1:4444 --exec="logger -t alert"
"""

BY_NAME: Final = {option.name: option for option in OPTIONS}
