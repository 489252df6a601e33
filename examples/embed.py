"""
A Twisted program with a mesh node in it: `MeshService`, without threads.

Start the first node, then others, each in a terminal of its own::

    python examples/embed.py --port 4444
    python examples/embed.py --port 4445 --peer 127.0.0.1:4444

Every node reports a temperature every few seconds, and acknowledges the reports of the
others. Ctrl-C ends it.
"""

from __future__ import annotations

import argparse
import random
import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from py2p_twisted.core.network import Network
from py2p_twisted.errors import ReplyFailed
from py2p_twisted.net import Delivery, MeshService


class Station:
    """
    A weather station. It is given its service, so that tests can give it another one.

    :ivar heard: the latest report of every other station, by its name.
    """

    def __init__(self, name: str, service: MeshService) -> None:
        self.name = name
        self.heard: dict[str, float] = {}
        self._service = service
        # Callbacks, for what happens now and then.
        service.on_join = lambda link: self.say("a peer more: {}", len(service.settled))
        service.on_leave = lambda link, error: self.say("a peer less: {}", error)

    def say(self, text: str, *values: object) -> None:
        """Print a line."""
        print(text.format(*values), flush=True)

    def report(self, temperature: float) -> Deferred[None]:
        """
        Tell everybody.

        The Deferred fires when the message is on its way. Whoever waits for it before the
        next one never fills a queue.
        """
        return self._service.send("report", self.name, temperature)

    async def listen(self) -> None:
        """Read messages as they come, until the service stops."""
        async for delivery in self._service.messages():
            await self.read(delivery)

    async def read(self, delivery: Delivery) -> None:
        """Deal with one message. Others may send what they like, so look twice."""
        match delivery.packets[1:]:
            case ("report", str(name), float(temperature)):
                self.heard[name] = temperature
                self.say("{}: {:.1f} degrees", name, temperature)
                try:
                    await delivery.reply("heard", self.name)
                except ReplyFailed as error:
                    self.say("{} cannot be told: {}", name, error)
            case ("heard", str(name)):
                self.say("{} has heard", name)


def address(text: str) -> tuple[str, int]:
    """Read ``host:port``."""
    host, _, port = text.rpartition(":")
    return host, int(port)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Weather stations that hear each other.")
    parser.add_argument("--host", default="0.0.0.0", help="where to listen (everywhere)")
    parser.add_argument("--port", type=int, default=4444, help="0 takes any free port")
    parser.add_argument("--peer", type=address, action="append", default=[], metavar="HOST:PORT")
    parser.add_argument("--name", default="station")
    parser.add_argument("--every", type=float, default=5.0, metavar="SECONDS")
    parser.add_argument("--ssl", action="store_true", help="keep out who reads along")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Set it all up, and run the reactor until Ctrl-C."""
    from twisted.internet import reactor as installed

    reactor: Any = installed
    options = parse(arguments)
    service = MeshService(
        reactor,
        Network("weather", "SSL" if options.ssl else "Plaintext"),
        listen=[f"tcp:{options.port}:interface={options.host}"],
        peers=options.peer,
    )
    station = Station(options.name, service)
    problems: list[str] = []

    async def begin() -> None:
        await service.start()
        station.say("listening on {}:{}", *service.address)
        # LoopingCall waits for the Deferred that its function returns.
        reporting = LoopingCall(lambda: station.report(random.uniform(-10, 30)))
        reporting.clock = reactor
        # Both last until the service stops; what they raise then is no news.
        reporting.start(options.every).addErrback(lambda _: None)
        await station.listen()

    def failed(failure: Any) -> None:
        problems.append(failure.getErrorMessage())
        if reactor.running:
            reactor.stop()
        else:
            reactor.callWhenRunning(reactor.stop)

    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    Deferred.fromCoroutine(begin()).addErrback(failed)
    reactor.run()

    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        station.say("left")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
