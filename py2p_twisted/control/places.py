"""
Where a node can be talked with, and how others are kept from it.

A Unix socket has mode 0600, in a folder of mode 0700 where the folder is ours. One that a dead
process has left is replaced, one that answers is an error. Where there are no Unix sockets, a
port of the loopback interface and a token in a file of mode 0600 do the same.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import socket
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import quote

from py2p_twisted.errors import BadArgument

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

#: What switches it off.
OFF: Final = "none"

#: The name of the socket in a folder that belongs to one node.
SOCKET: Final = "control.sock"

#: The folder of ours in the one that systemd makes for each user.
_OURS: Final = "py2p"

#: Bytes of a socket's path. Source: unix(7), and the same of other systems.
_LONGEST: Final = 107 if sys.platform == "linux" else 103

#: Seconds that another node's start is waited for, which takes a moment; and between two looks.
TURN: Final = 2.0
_PAUSE: Final = 0.01

#: Characters of a network's name in a file's.
_NAME: Final = 40

HAVE_UNIX: Final = hasattr(socket, "AF_UNIX")


@dataclass(frozen=True, slots=True)
class UnixPlace:
    """
    A socket in the file system.

    :ivar path: where it is.
    :ivar shared: whether its folder is one for all nodes of a user, which only they may enter.
    """

    path: str
    shared: bool = False

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True, slots=True)
class TcpPlace:
    """
    A port of the loopback interface.

    :ivar host: its address.
    :ivar token: the file with what a client has to say first.
    """

    host: str
    port: int
    token: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp:{host}:{self.port}:token={self.token}"


Place = UnixPlace | TcpPlace

_TCP: Final = re.compile(
    r"tcp:(?P<host>\[[^\[\]]+\]|[^:\[\]]+):(?P<port>[0-9]{1,5})(?::token=(?P<token>.+))?"
)


def place(text: str, environ: Mapping[str, str] | None = None) -> Place:
    """
    Read a place: a path, ``unix:PATH``, or ``tcp:127.0.0.1:PORT[:token=FILE]``.

    :raises BadArgument: it is none; the text says what was expected.
    """
    try:
        size = len(os.fsencode(text.removeprefix("unix:")))
    except UnicodeEncodeError:
        size = 0
    if not size or "\0" in text:
        raise BadArgument("a path, or tcp:127.0.0.1:PORT")
    if text.startswith("tcp:"):
        return _tcp_place(text, environ)
    path = text.removeprefix("unix:")
    if not HAVE_UNIX:
        raise BadArgument("tcp:127.0.0.1:PORT, since there are no Unix sockets here")
    if size > _LONGEST:
        raise BadArgument(f"a path of at most {_LONGEST} bytes, which is all that a socket takes")
    return UnixPlace(path)


def _tcp_place(text: str, environ: Mapping[str, str] | None) -> TcpPlace:
    match = _TCP.fullmatch(text)
    if match is None or not 0 < int(match["port"]) < 65536:
        raise BadArgument("tcp:127.0.0.1:PORT, with a port from 1 to 65535")
    host = "127.0.0.1" if match["host"] == "localhost" else match["host"].strip("[]")
    try:
        loopback = ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise BadArgument("a loopback address, since whoever could read along could do anything")
    port = int(match["port"])
    token = match["token"]
    if token is None:
        folder = runtime_folder(environ)
        if folder is None:
            raise BadArgument("tcp:127.0.0.1:PORT:token=FILE, since XDG_RUNTIME_DIR is not set")
        token = os.path.join(folder, f"control-{port}.token")
    return TcpPlace(host, port, token)


def runtime_folder(environ: Mapping[str, str] | None = None) -> str | None:
    """
    The folder for what belongs to a user's running nodes, if the system has one.

    :param environ: default: that of this process.
    """
    environ = os.environ if environ is None else environ
    parent = environ.get("XDG_RUNTIME_DIR") or (
        environ.get("LOCALAPPDATA") if os.name == "nt" else None
    )
    return os.path.join(parent, _OURS) if parent else None


def default_place(
    state_dir: str | None, network: str, port: int, environ: Mapping[str, str] | None = None
) -> UnixPlace | None:
    """
    Where a node can be talked with when nobody has said: in its own folder, or else in the
    user's. ``None`` where there is neither.

    :param port: one that the node listens on; 0 if there is none.
    """
    if not HAVE_UNIX:
        return None
    if state_dir is not None:
        return UnixPlace(os.path.join(state_dir, SOCKET))
    folder = runtime_folder(environ)
    if folder is None:
        return None
    return UnixPlace(os.path.join(folder, f"{_file_name(network)}-{port}.sock"), shared=True)


def sockets_of(
    network: str | None, environ: Mapping[str, str] | None = None
) -> tuple[str | None, list[str]]:
    """
    Where nodes may be that have been told nothing else.

    :param network: its name; ``None``: any.
    :return: the folder, if there is one, and the sockets in it.
    """
    folder = runtime_folder(environ)
    if folder is None or not HAVE_UNIX:
        return None, []
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return folder, []
    wanted = ".*" if network is None else re.escape(_file_name(network))
    return folder, [
        os.path.join(folder, name)
        for name in names
        if re.fullmatch(rf"{wanted}-[0-9]+\.sock", name)
    ]


def _file_name(network: str) -> str:
    """A network's name as a part of a file's, which any text may be."""
    name = quote(network, safe="")
    if len(name) > _NAME or name.startswith("."):
        name = name[:_NAME].lstrip(".") + "~" + hashlib.sha256(network.encode()).hexdigest()[:8]
    return name


# --- taking a place ---------------------------------------------------------------------------


def check(where: UnixPlace) -> None:
    """
    Find out whether somebody else is at a place; nothing is changed.

    :raises BadArgument: a node answers there, or it is no socket.
    """
    if _is_there(where.path) and answers(where.path):
        raise BadArgument(
            f"a node is there already that can be talked with at {where.path}: stop it, or use "
            "another --control"
        )


@contextmanager
def taking(where: UnixPlace) -> Iterator[None]:
    """
    Make way for a socket that is bound meanwhile: nobody else can begin to use it.

    What a dead process has left is removed.

    :raises BadArgument: a node answers there, or the place is of no use.
    """
    folder = os.path.dirname(where.path) or "."
    with suppress(FileExistsError):
        os.makedirs(folder, mode=0o700)
    if where.shared:
        _check_private(folder)
    with _locked(folder):
        check(where)
        with suppress(FileNotFoundError):
            os.unlink(where.path)
        before = os.umask(0o177)
        try:
            yield
        finally:
            os.umask(before)


@contextmanager
def _locked(folder: str) -> Iterator[None]:
    """Two processes that find the same dead socket must not both replace it."""
    number = os.open(folder, os.O_RDONLY)
    try:
        if fcntl is not None:
            # Whoever has it binds a socket, and is done: nodes that are started together take turns.
            until = time.monotonic() + TURN
            while not _lock(number):
                if time.monotonic() > until:
                    raise BadArgument(f"another node is just starting in {folder}: try again")
                time.sleep(_PAUSE)
        yield
    finally:
        os.close(number)


def _lock(number: int) -> bool:
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # some network file systems have none
    return True


def _check_private(folder: str) -> None:
    found = os.stat(folder)
    if found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise BadArgument(f"{folder} is open to others: chmod 700 it, or use another --control")


def _is_there(path: str) -> bool:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(mode):
        raise BadArgument(f"{path} is there already, and is no socket: use another --control")
    return True


def answers(path: str) -> bool:
    """Whether a process listens at a socket; a full queue of its own is an answer, too."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path) not in (errno.ECONNREFUSED, errno.ENOENT)


def write_token(path: str, token: str) -> None:
    """Write a token into a file that nobody else may read."""
    folder = os.path.dirname(path) or "."
    with suppress(FileExistsError):
        os.makedirs(folder, mode=0o700)
    draft = f"{path}.{os.getpid()}"
    with suppress(FileNotFoundError):
        os.unlink(draft)
    number = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(number, "w") as file:
        file.write(token + "\n")
    os.replace(draft, path)


def read_token(path: str) -> str:
    """The token in a file."""
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read(1000).strip()


__all__ = [
    "HAVE_UNIX",
    "OFF",
    "SOCKET",
    "Place",
    "TcpPlace",
    "UnixPlace",
    "answers",
    "check",
    "default_place",
    "place",
    "read_token",
    "runtime_folder",
    "sockets_of",
    "taking",
    "write_token",
]
