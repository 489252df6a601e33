"""
What a node logs, and JSON lines for machines that read it.

Everything is logged with ``twisted.logger``, under these namespaces:

==========================  ============================================================
``py2p_twisted.net``        links and what comes over them: joined, up, down, refused, dropped
``py2p_twisted.service``    the service: callbacks that raise, readers that are too slow
``py2p_twisted.node``       the node as a process: where it listens, that it stops
``py2p_twisted.exec``       the programs of ``--exec``
``py2p_twisted.discovery``  ``--discover``: where it looks, whom it finds
``py2p_twisted.web``        the status page, and those who want to send from it
``py2p_twisted.debug``      what ``--debug-level`` asks for
==========================  ============================================================

``twist`` writes JSON by itself when its output is no terminal. For ``twistd`` there are two
factories for its ``--logger`` option::

    twistd -n --logger=py2p_twisted.daemon.logs.json_to_stdout py2p ...
    twistd --logger=py2p_twisted.daemon.logs.json_to_file py2p ...

A line is an object: ``time`` (RFC 3339, UTC), ``level``, ``namespace``, ``text``, and
``event``, ``peer``, ``reason`` and the like where an event has them.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import sys
import weakref
from typing import Any, Final, TextIO, cast

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
)
from twisted.python.failure import Failure
from twisted.python.logfile import LogFile

#: The file that `json_to_file` writes, in the directory where twistd was started, and an
#: environment variable that names another.
LOG_FILE: Final = "twistd.json"
LOG_FILE_VARIABLE: Final = "PY2P_LOG_FILE"

#: Bytes after which the file is put aside, and how many of those are kept.
ROTATE: Final = 10 * 2**20
ROTATED: Final = 9

#: Events the operator is to see, by the ``event`` field of their log lines.
#: Source: docs/reference/logging.rst, which a test compares with this.
EVENTS: Final = (
    "listening",
    "not started",
    "joined",
    "alone",
    "peer up",
    "peer down",
    "refused",
    "no connection",
    "dropped",
    "gap",
    "clock",
    "state",
    "discovery",
    "found",
    "exec",
    "descriptors",
    "reload",
    "status page",
    "wrong token",
    "stopping",
    "stopped",
)


def json_line(event: LogEvent) -> str:
    """
    A log event as one line of JSON.

    :return: the line, with its newline.
    """
    moment = datetime.datetime.fromtimestamp(event["log_time"], datetime.UTC)
    level = event.get("log_level", LogLevel.info)
    record: dict[str, Any] = {
        "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": level.name,
        "namespace": event.get("log_namespace", "-"),
        "text": formatEvent(event),
    }
    for key, value in event.items():
        if key.startswith("log_") or key in record or key in _LEGACY:
            continue
        if type(value) is int and value.bit_length() > _BITS:
            value = hex(value)  # Python refuses to write so many digits
        if type(value) in _PLAIN:
            record[key] = value
    failure = event.get("log_failure")
    if isinstance(failure, Failure):
        record["traceback"] = failure.getTraceback()
    return json.dumps(record, allow_nan=False, default=repr) + "\n"


_OF_PORTS: Final = re.compile(r"\S+( \(TLS\))? starting on |\(.* Port .* Closed\)")


def of_ports(event: LogEvent) -> bool:
    """
    Whether an event is what Twisted says of every port that opens and closes.

    The node says itself where it listens, and that it stops.
    """
    text = event.get("log_text")
    return (
        event.get("log_namespace") == "log_legacy"
        and isinstance(text, str)
        and _OF_PORTS.match(text) is not None
    )


#: Seconds between two lines about connections that are closed because no file may be opened any more.
PAUSE: Final = 60.0

_OF_FILES: Final = ("EMFILE", "Re-reserving EMFILE")


class _Chosen:
    """
    Which events a log of ours takes.

    Not Twisted's words about ports, and of those about connections that it cannot accept, of which
    there is one for each, the first in a while.
    """

    def __init__(self) -> None:
        self._next = float("-inf")

    def __call__(self, event: LogEvent) -> bool:
        if of_ports(event):
            return False
        text = event.get("log_format")
        if not (isinstance(text, str) and text.startswith(_OF_FILES)):
            return True
        if text.startswith("EMFILE encountered") and event["log_time"] >= self._next:
            self._next = event["log_time"] + PAUSE
            return True
        return False


#: What is taken over as it is: everything else may be large, and stands in the text.
_PLAIN: Final = (str, int, bool, type(None))

_BITS: Final = 1024

#: What Twisted's older log adds to its events.
_LEGACY: Final = ("system", "isError", "message", "format")


def json_lines(stream: TextIO | Any) -> FileLogObserver:
    """An observer that writes JSON lines to a file, without Twisted's words about ports."""
    chosen = _Chosen()
    return FileLogObserver(stream, lambda event: json_line(event) if chosen(event) else "")


def quiet(observer: ILogObserver) -> ILogObserver:
    """The same observer, without Twisted's words about ports."""

    chosen = _Chosen()

    def choose(event: LogEvent) -> None:
        if chosen(event):
            observer(event)

    return cast(ILogObserver, choose)


class Level:
    """
    The least level that is logged, as far as that is ours to say: it can be changed at any time.

    :ivar used: whether any log asks it. Those of ``twist`` and ``twistd`` do not.
    """

    def __init__(self) -> None:
        self.used = False
        self._predicate = LogLevelFilterPredicate(LogLevel.info)

    def set(self, name: str) -> None:
        """Log from this level on."""
        self._predicate.setLogLevelForNamespace("", LogLevel.levelWithName(name))

    def filter(self, observer: ILogObserver) -> ILogObserver:
        """The same observer, without what is below the level."""
        self.used = True
        return FilteringLogObserver(observer, [self._predicate])


#: Of this process.
LEVEL: Final = Level()

#: The files that `json_to_file` writes.
_FILES: Final[weakref.WeakSet[LogFile]] = weakref.WeakSet()


def reopen() -> None:
    """
    Open the files that `json_to_file` writes anew, if somebody has moved them away.

    :raises OSError: one cannot be opened; it is written on where it is.
    """
    for file in list(_FILES):
        with open(file.path, "ab"):
            pass
        file.reopen()


def json_to_stdout() -> ILogObserver:
    """For ``twistd -n --logger``: JSON lines on standard output."""
    return LEVEL.filter(json_lines(sys.stdout))


def json_to_file() -> ILogObserver:
    """
    For ``twistd --logger``: JSON lines in a file, which is put aside at 10 MiB.

    It is ``twistd.json``, or what the environment variable ``PY2P_LOG_FILE`` names. Nine
    old ones are kept.
    """
    path = os.path.abspath(os.environ.get(LOG_FILE_VARIABLE) or LOG_FILE)
    file = LogFile.fromFullPath(path, rotateLength=ROTATE, maxRotatedFiles=ROTATED)
    _FILES.add(file)
    return LEVEL.filter(json_lines(file))
