"""
What a node logs, and JSON lines for machines that read it.

Everything is logged with ``twisted.logger``, under these namespaces:

========================  ==============================================================
``py2p_twisted.net``      links and what comes over them: joined, up, down, refused, dropped
``py2p_twisted.service``  the service: callbacks that raise, readers that are too slow
``py2p_twisted.node``     the node as a process: where it listens, that it stops
``py2p_twisted.exec``     the programs of ``--exec``
``py2p_twisted.debug``    what ``--debug-level`` asks for
========================  ==============================================================

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
from typing import Any, Final, TextIO, cast

from twisted.logger import (
    FileLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
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
    "exec",
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


#: What is taken over as it is: everything else may be large, and stands in the text.
_PLAIN: Final = (str, int, bool, type(None))

_BITS: Final = 1024

#: What Twisted's older log adds to its events.
_LEGACY: Final = ("system", "isError", "message", "format")


def json_lines(stream: TextIO | Any) -> FileLogObserver:
    """An observer that writes JSON lines to a file, without Twisted's words about ports."""
    return FileLogObserver(stream, lambda event: "" if of_ports(event) else json_line(event))


def quiet(observer: ILogObserver) -> ILogObserver:
    """The same observer, without Twisted's words about ports."""

    def chosen(event: LogEvent) -> None:
        if not of_ports(event):
            observer(event)

    return cast(ILogObserver, chosen)


def json_to_stdout() -> ILogObserver:
    """For ``twistd -n --logger``: JSON lines on standard output."""
    return json_lines(sys.stdout)


def json_to_file() -> ILogObserver:
    """
    For ``twistd --logger``: JSON lines in a file, which is put aside at 10 MiB.

    It is ``twistd.json``, or what the environment variable ``PY2P_LOG_FILE`` names. Nine
    old ones are kept.
    """
    path = os.path.abspath(os.environ.get(LOG_FILE_VARIABLE) or LOG_FILE)
    return json_lines(LogFile.fromFullPath(path, rotateLength=ROTATE, maxRotatedFiles=ROTATED))
