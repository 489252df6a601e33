"""
Sensors tell collectors what they measure; any number of both, in one network.

Start a collector, then sensors (or more collectors), each in a terminal of its own::

    python examples/sensors.py --port 4444
    python examples/sensors.py --port 4445 --peer 127.0.0.1:4444 --sensor kitchen --sensor roof

Collectors print a line for each sensor, every few seconds. Either may be started first, and again: a
link that is lost is made again, and what was measured meanwhile arrives. Ctrl-C ends it.
"""

import argparse
import random
import sys
import time
from threading import Lock
from typing import Any

from py2p_twisted import base, mesh
from py2p_twisted.errors import LocalError

#: The type of our messages: any number from 0x30 on. Other types do not come to us.
READING = 0x30

#: Sensors that a collector keeps apart. Anybody can make up names.
MOST = 10_000


class Collector:
    """Adds up what has come since the last report: so much per sensor, however much that is."""

    def __init__(self, sock: mesh.mesh_socket) -> None:
        self._lock = Lock()
        self._sums: dict[str, tuple[int, float, float, float]] = {}
        self._lost = 0
        sock.register_handler(self.take)
        sock.on("gap", self.missed)

    def take(self, msg: base.message, connection: base.base_connection) -> bool:
        """A handler: what it takes needs no ``recv``, and no place in the socket's queue."""
        match list(msg.packets):
            case [type_, str(name), float(value)] if type_ == READING:
                with self._lock:
                    if name in self._sums or len(self._sums) < MOST:
                        count, least, total, most = self._sums.get(name, (0, value, 0.0, value))
                        self._sums[name] = (
                            count + 1, min(least, value), total + value, max(most, value)
                        )  # fmt: skip
        return True  # also of what we do not understand: nobody else reads it

    def missed(self, sock: mesh.mesh_socket, lost: Any) -> None:
        """We were too slow, or cut off for too long. A sum that lacks something should say so."""
        with self._lock:
            self._lost += lost.number or 1

    def report(self) -> None:
        """Print what there is, and begin anew."""
        with self._lock:
            sums, self._sums = self._sums, {}
            lost, self._lost = self._lost, 0
        for name, (count, least, total, most) in sorted(sums.items()):
            print(
                f"{name!a}: {count} x {least:.1f} .. {total / count:.1f} .. {most:.1f}", flush=True
            )
        if lost:
            print(f"at least {lost} readings are missing", flush=True)


def address(text: str) -> tuple[str, int]:
    """Read ``host:port``."""
    host, _, port = text.rpartition(":")
    return host, int(port)


def run(sock: mesh.mesh_socket, options: argparse.Namespace) -> None:
    """Measure or report, until Ctrl-C."""
    collector = None if options.sensor else Collector(sock)
    for peer in options.peer:
        sock.connect(*peer)  # not waited for: it is tried until it succeeds
    while True:
        time.sleep(options.every)
        if collector:
            collector.report()
        for name in options.sensor:
            # When the network is slower than we are, this waits. (timeout=0 would raise.)
            sock.send(name, random.gauss(20, 5), type=READING)


def main() -> int:
    """Read the options, and run."""
    parser = argparse.ArgumentParser(description="Sensors and collectors.")
    parser.add_argument("--host", default="0.0.0.0", help="where to listen (everywhere)")
    parser.add_argument("--port", type=int, default=4444, help="0 takes any free port")
    parser.add_argument("--peer", type=address, action="append", default=[], metavar="HOST:PORT")
    parser.add_argument("--sensor", action="append", default=[], metavar="NAME", help="be this one")
    parser.add_argument("--every", type=float, default=5.0, metavar="SECONDS")
    options = parser.parse_args()
    try:
        with mesh.mesh_socket(
            options.host, options.port, prot=base.Protocol("sensors", "Plaintext")
        ) as sock:
            print("listening on {}:{}".format(*sock.out_addr), flush=True)
            run(sock, options)
    except KeyboardInterrupt:
        print("left", flush=True)
    except (LocalError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
