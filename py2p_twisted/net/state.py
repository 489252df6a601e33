"""
The state directory: what makes a node that is started again the same participant.

::

    identity      its id, written once
    certificate   with TLS, the certificate that it has made itself, and its key; written once
    addresses     whom it knows, written now and then, and when it stops
    ids           of what it has delivered and sent: appended to in every turn that brought some
    ids.before    the same, of the time before that
    lock          held while a node uses the directory, with its process id

Ids are *written* before the application hears of a message, and before our own go out: one ``write``
a turn, without waiting for the disk. What has been written survives the process, however that ends.
So around the very moment of a kill a message is delivered at most once. (When the *machine* loses
power, what the system had not stored yet is gone: the ids of half a minute, perhaps.)

``ids`` becomes ``ids.before`` when it holds a whole window of ids, or as many as the seen cache does;
so both together hold at least what the cache did, and neither grows beyond `most_bytes`.

A file that is damaged costs what is damaged of it, and a line in the log. When the disk is full later,
the node runs on without; what could not be written is written when there is room again, as far as the
seen cache still has it.

Everything happens in the reactor's thread, in small writes. Source: docs/howto/operating.rst.
"""

from __future__ import annotations

import errno
import os
import stat
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from twisted.logger import Logger

from py2p_twisted.core import state as formats
from py2p_twisted.core.network import Address, Network, node_id
from py2p_twisted.errors import StateUnusable
from py2p_twisted.net.reports import LogLevel, Reports, printable

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from py2p_twisted.core.node import Node
    from py2p_twisted.net.tls import SelfMade

_log = Logger(namespace="py2p_twisted.service")

IDENTITY: Final = "identity"
CERTIFICATE: Final = "certificate"
ADDRESSES: Final = "addresses"
IDS: Final = "ids"
IDS_BEFORE: Final = "ids.before"
LOCK: Final = "lock"

#: Seconds between two looks whether the addresses have changed: at first, doubled each time, and at
#: most. A node that is killed soon after its first start should find its way back, too.
FIRST_SAVE: Final = 2.0
SAVE_INTERVAL: Final = 60.0

#: Seconds between two attempts to write ids while that fails.
RETRY: Final = 1.0

#: Bytes that are read of a file which is none of ours, however long it is.
_MOST_READ: Final = 2**20

#: What is in use in this process, for children that are forked from it.
_OPEN: Final[weakref.WeakSet[NodeState]] = weakref.WeakSet()

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


def most_bytes(capacity: int) -> int:
    """How long each of the two files of ids gets at most, if every id came by itself."""
    return len(formats.title(IDS)) + capacity * (formats.HEAD + formats.ID)


class NodeState:
    """
    One node's state directory.

    :ivar directory: its path.
    :ivar identity: the node's id, once open.
    :ivar complaints: what was found wrong while opening; a line each.
    :ivar fingerprint: SHA-256 of the certificate that is kept here; ``None`` without one.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        network: Network,
        *,
        window: float,
        capacity: int,
        book_size: int,
        now: Callable[[], float],
        wall: Callable[[], float],
        salt: str,
    ) -> None:
        """
        :param window: seconds for which ids are remembered; half of them is how long one that was
            read is remembered at least.
        :param capacity: ids that are remembered.
        :param book_size: addresses that are kept.
        :param now: a monotonic clock, in seconds.
        :param wall: seconds since 1970.
        :param salt: makes the id of a new node unlike those of others.
        """
        self.directory = os.path.abspath(os.fspath(directory))
        self.identity = b""
        self.complaints: list[str] = []
        self.fingerprint: bytes | None = None
        self._network = network
        self._window = window
        self._capacity = capacity
        self._book_size = book_size
        self._now = now
        self._wall = wall
        self._salt = salt
        self._reports = Reports(_log, now)
        self._most_bytes = most_bytes(capacity)
        #: To whom new files are given; ``None``: to ourselves.
        self._owner: tuple[int, int] | None = None
        self._lock = -1
        self._file = -1
        #: Bytes of the file of ids, and since when it has been the current one.
        self._size = 0
        self._since = 0.0
        self._runs: list[formats.Run] = []
        self._peers: list[tuple[Address, bytes]] = []
        self._saved = b""
        self._node: Node | None = None
        #: What `SeenCache.noted` was when everything had been written.
        self._noted = 0
        self._written = 0
        self._retry_at = float("-inf")
        #: What cannot be done at the moment, and why.
        self._troubles: dict[str, str] = {}
        self._told = False

    # --- the beginning ------------------------------------------------------------------

    def open(self) -> None:
        """
        Take the directory, and read what is in it; a new one is made.

        :raises StateUnusable: it cannot be used; the text says what to do.
        """
        self.complaints = []
        self.fingerprint = None
        try:
            self._check_directory()
            self._take_lock()
            try:
                self._read_all()
            except BaseException:
                self._release()
                raise
        except StateUnusable:
            raise
        except formats.NewerVersion as error:
            raise StateUnusable(
                f"the state directory {self._shown} is from a newer version of py2p_twisted "
                f"({error}): use that, or another directory"
            ) from error
        except OSError as error:
            raise StateUnusable(
                f"the state directory {self._shown} cannot be used ({_reason(error)}): let the user "
                "that runs the node own it, or name another one"
            ) from error

    @property
    def _shown(self) -> str:
        return printable(self.directory)

    def _path(self, name: str) -> str:
        return os.path.join(self.directory, name)

    def _check_directory(self) -> None:
        try:
            os.mkdir(self.directory, 0o700)
        except FileExistsError:
            pass
        except FileNotFoundError as error:
            raise StateUnusable(
                f"the state directory {self._shown} cannot be made: make the one above it first"
            ) from error
        about = os.stat(self.directory)
        if not stat.S_ISDIR(about.st_mode):
            raise StateUnusable(f"{self._shown} is no directory: name another one for the state")
        if not os.access(self.directory, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if not hasattr(os, "geteuid"):
            return
        user = os.geteuid()
        if user == 0 and about.st_uid != 0:
            # Started by root to listen on a low port, as "twistd --uid" is; whose directory it is
            # will go on.
            self._owner = (about.st_uid, about.st_gid)
        elif about.st_uid not in (user, 0):
            self.complaints.append("it belongs to somebody else, who can change what is in it")
        if about.st_mode & 0o022:
            self.complaints.append("others can write to it, so they can change what is in it")

    def _take_lock(self) -> None:
        self._lock = self._create(LOCK, os.O_RDWR)
        try:
            if fcntl is not None:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(self._lock, 32).decode("ascii", "replace").strip()
            self._release()
            raise StateUnusable(
                f"the state directory {self._shown} is in use by the process "
                f"{printable(owner) or 'of another node'}: stop it, or name another directory"
            ) from None
        except OSError as error:
            # Some network file systems have none.
            self.complaints.append(
                f"it cannot be locked ({_reason(error)}), so make sure that one node alone uses it"
            )
        # On a full disk the lock holds all the same.
        with suppress(OSError):
            os.ftruncate(self._lock, 0)
            os.write(self._lock, b"%d\n" % os.getpid())
        _OPEN.add(self)

    def _release(self) -> None:
        _OPEN.discard(self)
        handles, self._file, self._lock = (self._file, self._lock), -1, -1
        for handle in handles:
            if handle >= 0:
                with suppress(OSError):
                    os.close(handle)

    def _read_all(self) -> None:
        self._read_identity()
        data = self._read(ADDRESSES, _MOST_READ)
        if data is not None:
            self._peers, damaged = formats.decode_book(data, self._network.id, self._book_size)
            if damaged:
                self._complain(ADDRESSES, f"{damaged} lines of it make no sense")
        self._runs = self._read_ids(IDS_BEFORE)
        current = self._read_ids(IDS)
        self._runs += current
        self._since = self._now() - formats.span(current)
        try:
            self._open_ids()
        except OSError as error:
            if error.errno not in _FULL:
                raise
            # Who has an id can run on a full disk, and better so than not at all.
            self.complaints.append(f"nothing can be written: {_reason(error)}")

    def _read_ids(self, name: str) -> list[formats.Run]:
        data = self._read(name, self._most_bytes)
        if data is None:
            return []
        runs, damaged = formats.decode_ids(data)
        if damaged:
            self._complain(name, f"{damaged} bytes of {len(data)} make no sense")
        return runs

    def _read_identity(self) -> None:
        data = self._read(IDENTITY, _MOST_READ)
        if data is not None:
            try:
                self.identity = formats.decode_identity(data)
                self._keep_private(IDENTITY)
                return
            except formats.Damaged as error:
                self._complain(IDENTITY, f"{error}; this node goes on as a new participant")
        self.identity = node_id((self.directory, 0), self._network.id, self._salt)
        self._replace(IDENTITY, formats.encode_identity(self.identity), sync=True)

    def keep_certificate(self, credentials: SelfMade) -> None:
        """
        Have a node show the certificate that is kept here, or keep the one that it has just made.

        Call it when the directory is open. What goes wrong is a complaint.
        """
        try:
            data = self._read(CERTIFICATE, _MOST_READ)
            if data is not None:
                try:
                    credentials.load(data)
                except ValueError as error:
                    text = f"{error}; it is made anew, so tickets that name it are void"
                    self._complain(CERTIFICATE, text)
                    data = None
            if data is None:
                self._replace(CERTIFICATE, credentials.as_pem(), sync=True)
            self._keep_private(CERTIFICATE)
        except OSError as error:
            self.complaints.append(f"the certificate is not kept: {_reason(error)}")
        else:
            self.fingerprint = credentials.fingerprint

    def _keep_private(self, name: str) -> None:
        if stat.S_IMODE(os.stat(self._path(name)).st_mode) & 0o077:
            with suppress(OSError):
                os.chmod(self._path(name), 0o600)

    def _complain(self, name: str, what: str) -> None:
        self.complaints.append(f"the file {name} is damaged: {what}")

    def _read(self, name: str, most: int) -> bytes | None:
        """The end of a file, ``None`` if there is none."""
        try:
            with open(self._path(name), "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size > most:
                    self._complain(name, f"it has {size} bytes, and {most} at most are of use")
                    file.seek(size - most)
                return file.read(most)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in (errno.EIO, errno.EISDIR):
                self._complain(name, _reason(error))
                return None
            raise

    # --- writing --------------------------------------------------------------------------

    def _create(self, name: str, flags: int) -> int:
        """Open a file for us alone, made if there is none."""
        handle = os.open(self._path(name), flags | os.O_CREAT, 0o600)
        if self._owner is not None:
            with suppress(OSError):
                os.fchown(handle, *self._owner)
        return handle

    def _replace(self, name: str, data: bytes, *, sync: bool = False) -> None:
        """Put a file in the place of another one; whoever looks sees the old one or the new one."""
        handle = self._create(name + ".new", os.O_WRONLY | os.O_TRUNC)
        try:
            _write_all(handle, data)
            if sync:
                os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(self._path(name + ".new"), self._path(name))

    def _open_ids(self) -> None:
        """Go on with the file of ids, or begin one."""
        handle = self._create(IDS, os.O_WRONLY | os.O_APPEND)
        try:
            size = os.fstat(handle).st_size
            if not size:
                try:
                    size = _write_all(handle, formats.title(IDS))
                except OSError as error:
                    # What has no title is read all the same.
                    if error.errno not in _FULL:
                        raise
                    with suppress(OSError):
                        os.ftruncate(handle, 0)
        except BaseException:
            os.close(handle)
            raise
        self._file, self._size = handle, size

    def start(self, node: Node) -> None:
        """Give a new node what it knew, and watch it from now on."""
        self._node = node
        runs = formats.latest(self._runs, self._capacity)
        now = self._now()
        node.seen.load(formats.with_ages(runs, self._wall(), self._window / 2), now)
        self._noted = node.seen.noted
        for what in self.complaints:
            _log.warn(
                "state directory {directory}: {what}",
                event="state", directory=self._shown, what=printable(what),
            )  # fmt: skip
        _log.info(
            "state directory {directory}: this node is {node}, and knows {count} addresses and the "
            "ids of {ids} messages",
            event="state", directory=self._shown, node=printable(self.identity),
            count=len(self._peers), ids=len(node.seen),
        )  # fmt: skip
        self._runs = []

    @property
    def peers(self) -> list[tuple[Address, bytes]]:
        """Whom this node knew when it ended, the best first."""
        return self._peers

    # --- ids ----------------------------------------------------------------------------------

    def write_ids(self) -> None:
        """Write the ids that have come since the last time; what goes wrong is logged."""
        node = self._node
        if node is None or node.seen.noted == self._noted:
            return
        now = self._now()
        if now < self._retry_at or self._lock < 0:
            return
        noted = node.seen.noted
        idents = node.seen.since(self._noted)
        try:
            self._append(formats.encode_ids(idents, int(self._wall())), now)
        except OSError as error:
            self._retry_at = now + RETRY
            self._fails("ids of messages", error)
            return
        self._noted = noted
        self._written += len(idents)
        if self._troubles:
            self._works("ids of messages")

    def _append(self, data: bytes, now: float) -> None:
        if self._file < 0:
            self._open_ids()
        full = self._size + len(data) > self._most_bytes
        if full or now - self._since >= self._window:
            os.close(self._file)
            self._file = -1
            # Should this fail, nothing more is written: the file must not grow for ever.
            os.replace(self._path(IDS), self._path(IDS_BEFORE))
            self._since = now
            self._open_ids()
        try:
            self._size += _write_all(self._file, data)
        except OSError:
            # A part of it may be there. A reader would pass over it, but it takes room.
            with suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise

    # --- addresses ------------------------------------------------------------------------------

    def save(self) -> None:
        """Write whom the node knows, if that has changed; what goes wrong is logged."""
        if self._node is None or self._lock < 0:
            return
        peers = self._node.known_peers()
        data = formats.encode_book(peers, self._network.id)
        try:
            if data != self._saved:
                self._replace(ADDRESSES, data)
                self._saved, self._peers = data, peers
            elif not os.path.exists(self._path(ADDRESSES)):
                self._saved = b""  # somebody has cleaned up
            if self._file >= 0 and not os.fstat(self._file).st_nlink:
                # It would go on being written, and nobody could ever read it.
                os.close(self._file)
                self._file = -1
                self._open_ids()
        except OSError as error:
            self._fails("addresses", error)
        else:
            self._works("addresses")
        self._retry_at = float("-inf")
        self.write_ids()

    def close(self) -> None:
        """Write what is left, and let others use the directory."""
        if self._lock >= 0:
            self._retry_at = float("-inf")
            self.write_ids()
            with suppress(OSError):
                os.ftruncate(self._lock, 0)
        self._release()

    def forget_files(self) -> None:
        """In a forked child: what is open belongs to the parent."""
        self._release()

    # --- what goes wrong ----------------------------------------------------------------------------

    def _fails(self, what: str, error: OSError) -> None:
        first = not self._troubles
        self._troubles[what] = _reason(error)
        if first:
            self._told = self._reports.say(
                LogLevel.warn, "state", self._shown,
                "state directory {directory}: the {what} cannot be written: {error}. The node runs "
                "on; if it ends now, it may be given again what it has had",
                event="state", directory=self._shown, what=what, error=_reason(error),
            )  # fmt: skip

    def _works(self, what: str) -> None:
        if self._troubles.pop(what, None) is None or self._troubles:
            return
        if self._told:
            self._told = False
            _log.info(
                "state directory {directory}: it can be written to again",
                event="state", directory=self._shown,
            )  # fmt: skip

    @property
    def status(self) -> dict[str, Any]:
        """What there is to know about it."""
        return {
            "directory": self._shown,
            "addresses": len(self._peers),
            "ids written": self._written,
            "bytes of ids": self._size,
            "trouble": "; ".join(f"{what}: {why}" for what, why in self._troubles.items())
            or "none",
        }


def _write_all(handle: int, data: bytes) -> int:
    """
    Write to a file.

    :return: how many bytes there were.
    :raises OSError: not all of it could be written.
    """
    written = os.write(handle, data)
    if written < len(data):
        # As much as there was room for; the next one says why.
        written += os.write(handle, data[written:])
        if written < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return written


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _forget_in_child() -> None:
    for state in list(_OPEN):
        state.forget_files()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
