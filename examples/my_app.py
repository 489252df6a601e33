"""
Who is there, and who is missing: an application as small as one can be, with tests.

Start the first node, then others, each in a terminal of its own::

    python examples/my_app.py --port 4444 --name ann
    python examples/my_app.py --port 4445 --peer 127.0.0.1:4444 --name ben

Everybody says every ten seconds that he is there. Who has not said so for thirty is missing.
Ctrl-C ends it. test_my_app.py tests it: `Watch` takes its clock and its node from outside, so a
test can hand in a clock that stands still, and a node in memory.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall, react

from py2p_twisted.net import Delivery, MeshService

#: Seconds between signs of life, and after which somebody is missing.
EVERY, PATIENCE = 10.0, 30.0

#: Names that are kept. Anybody can make up some.
MOST = 1_000


class Watch:
    """
    Says who is there.

    :ivar seen: when each was heard of last, by the clock.
    :ivar missing: the names of those that have fallen silent.
    """

    def __init__(self, name: str, service: MeshService, clock: IReactorTime, say: Any = print):
        self.name = name
        self.seen: dict[str, float] = {}
        self.missing: set[str] = set()
        self._service, self._clock, self._say = service, clock, say
        service.on_message = self.heard
        self._loop = LoopingCall(self.look)
        self._loop.clock = clock

    def start(self) -> None:
        """Begin. The service must be running."""
        self._loop.start(EVERY)

    def stop(self) -> None:
        """Say nothing any more."""
        if self._loop.running:
            self._loop.stop()

    def look(self) -> Deferred[None]:
        """Say that we are there, and who is not."""
        for name, when in self.seen.items():
            if name not in self.missing and self._clock.seconds() - when >= PATIENCE:
                self.missing.add(name)
                self._say(f"{name} is missing")
        return self._service.send("here", self.name)

    def heard(self, delivery: Delivery) -> None:
        """Somebody has said something; it need not make sense."""
        match delivery.packets[1:]:
            case ("here", str(name)) if name.isidentifier() and (
                name in self.seen or len(self.seen) < MOST
            ):
                if name not in self.seen or name in self.missing:
                    self._say(f"{name} is here")
                self.missing.discard(name)
                self.seen[name] = self._clock.seconds()


async def run(reactor: Any, options: argparse.Namespace) -> None:
    """Start, and go on until Ctrl-C."""
    where = f"tcp:{options.port}:interface={options.host}"
    service = MeshService(reactor, "watch", listen=[where], peers=options.peer)
    watch = Watch(options.name, service, reactor, lambda line: print(line, flush=True))
    try:
        await service.start()
    except CannotListenError as error:
        raise SystemExit(str(error)) from None
    print("listening on {}:{}".format(*service.address), flush=True)
    reactor.addSystemEventTrigger("before", "shutdown", watch.stop)
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.addSystemEventTrigger("after", "shutdown", lambda: print("left", flush=True))
    watch.start()
    await Deferred()


def address(text: str) -> tuple[str, int]:
    """Read ``host:port``."""
    host, _, port = text.rpartition(":")
    return host, int(port)


def main(arguments: list[str]) -> None:
    """Read the options, and run."""
    parser = argparse.ArgumentParser(description="Who is there, and who is missing.")
    parser.add_argument("--host", default="0.0.0.0", help="where to listen (everywhere)")
    parser.add_argument("--port", type=int, default=4444, help="0 takes any free port")
    parser.add_argument("--peer", type=address, action="append", default=[], metavar="HOST:PORT")
    parser.add_argument("--name", default="somebody", help="who you are")
    react(run, [parser.parse_args(arguments)])


if __name__ == "__main__":
    main(sys.argv[1:])
