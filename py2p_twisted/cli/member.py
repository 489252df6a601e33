"""
A member for as long as a command runs.

It listens nowhere: it joins through nodes that are there, is not told to anybody, and is not
missed when it has gone. Before it goes it can ask whether a neighbour has dealt with all that it
was sent.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorPluggableNameResolver
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from py2p_twisted.cli.lines import Threads
from py2p_twisted.cli.receipts import Outcome, from_receipt
from py2p_twisted.cli.running import CommandFailed
from py2p_twisted.core import flags
from py2p_twisted.core.clock import ACCEPTED
from py2p_twisted.core.connection import Connection
from py2p_twisted.core.network import PLAINTEXT, SSL, Address, Network
from py2p_twisted.core.ticket import Ticket, agree, fingerprints_of
from py2p_twisted.daemon.options import BY_NAME, address, seconds, show_address
from py2p_twisted.errors import BadArgument, MeshError, NetworkMismatch
from py2p_twisted.net import MeshService
from py2p_twisted.net.reports import printable
from py2p_twisted.net.service import join_through

#: The node that is joined through when no other is named: one on this machine.
DEFAULT_JOIN: Final = "127.0.0.1:4444"

#: Seconds without any progress after which nobody waits any longer for what was sent.
PATIENCE: Final = 20

#: Seconds after which they are asked again.
ASK_AGAIN: Final = 5

#: The same for neighbours that do speak, but about something else.
MOST: Final = 240

#: Seconds that finding out who is a member may take.
LOOK: Final = 3.0

#: Seconds that joining may take, unless told otherwise.
TIMEOUT: Final = 10.0


def option(name: str) -> Callable[[str], Any]:
    """An ``argparse`` type that reads what `daemon.options` has under this name."""
    return typed(BY_NAME[name].read, BY_NAME[name].example)


def typed(read: Callable[[Any], Any], example: str) -> Callable[[str], Any]:
    """An ``argparse`` type whose errors say what was expected, and give an example."""

    def take(value: str) -> Any:
        try:
            return read(value)
        except ValueError as error:
            raise argparse.ArgumentTypeError(
                f"expected {error}, for example {example}, not {value!r}"
            ) from error

    return take


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what every command needs that joins a network."""
    group = parser.add_argument_group("which network")
    group.add_argument(
        "--join",
        "-j",
        action="append",
        type=option("join"),
        metavar="HOST:PORT",
        help=f"a node to join through, or a ticket (may be repeated, default: {DEFAULT_JOIN})",
    )
    group.add_argument(
        "--network",
        type=option("network"),
        default=_Unsaid(BY_NAME["network"].default),
        metavar="NAME",
        help="the network's name (default: a ticket's, else %(default)s)",
    )
    group.add_argument("--tls", action="store_true", help="the network's links are encrypted")
    group.add_argument(
        "--timeout",
        type=typed(seconds, "5"),
        default=TIMEOUT,
        metavar="SECONDS",
        help="how long joining may take (default: %(default)g)",
    )


class _Unsaid(str):
    """A default that nobody has typed."""

    __slots__ = ()


def _where(options: argparse.Namespace) -> tuple[Network, list[Address]]:
    """
    Which network is joined, and through whom.

    :raises CommandFailed: a ticket is for another network.
    """
    join = options.join or [address(DEFAULT_JOIN)]
    name, tls = options.network, options.tls
    try:
        of_tickets = agree([one for one in join if isinstance(one, Ticket)])
        if of_tickets is not None:
            name = of_tickets.name if isinstance(name, _Unsaid) else name
            tls = tls or of_tickets.encryption == SSL
        network = Network(str(name), SSL if tls else PLAINTEXT)
        if of_tickets is not None:
            return join_through(network, join)
        return network, list(dict.fromkeys(join))
    except BadArgument as error:
        raise CommandFailed(f"--join: {printable(str(error))}") from error


class Member:
    """
    A member of a network, joined and left again.

    :ivar service: the node.
    """

    def __init__(self, reactor: Any, name: str, options: argparse.Namespace, **limits: Any) -> None:
        """
        :param name: the command's, for what it says meanwhile.
        :param limits: see `Settings`.
        """
        self._reactor = reactor
        self._name = name
        network, self._join = _where(options)
        self._given: set[Connection] | None = None
        #: Beginnings of ids of nodes that are somebody's neighbours, and have not answered.
        self._silent: list[str] = []
        self._timeout: float = options.timeout
        self.service = MeshService(
            reactor,
            network,
            listen=(),
            fingerprints=fingerprints_of(options.join or ()),
            **limits,
        )
        _let_go_of_name_servers(reactor)

    async def join(self) -> str:
        """
        Join, trying again until the time is over.

        The first peer that has settled is waited for. When the time is over one that has not
        is good enough: everything is sent to it, too.

        :return: through whom.
        :raises CommandFailed: nobody could be joined through.
        """
        service = self.service
        await service.start()
        problems: dict[Address, Exception] = {}
        outcome: Deferred[None] = Deferred()

        def decided(_: object = None) -> None:
            if not outcome.called:
                outcome.callback(None)

        def note(failure: Failure, where: Address) -> None:
            problem = cast(Exception, failure.value)
            problems[where] = problem
            if hopeless():
                decided()
            elif not outcome.called and not isinstance(problem, _FINAL):
                shown = show_address(where)
                text = str(problem) if shown in str(problem) else f"{shown}: {problem}"
                print(
                    f"{self._name}: {text} (trying again, {self._timeout:g} s in all)",
                    file=sys.stderr,
                )

        def hopeless() -> bool:
            return len(problems) == len(self._join) and all(
                isinstance(one, _FINAL) for one in problems.values()
            )

        service.when_connected().addCallbacks(decided, lambda _: None)
        for one in self._join:
            service.connect(*one).addErrback(note, one)
            service.factory.pin(one)  # for later, whoever is joined through now
        timer = self._reactor.callLater(self._timeout, decided)
        try:
            await outcome
        finally:
            if timer.active():
                timer.cancel()
        offset = service.factory.node.clock.offset if service.routing_table else 0.0
        if abs(offset) > ACCEPTED:
            raise CommandFailed(
                f"this machine's clock is {abs(offset):.0f} s {'behind' if offset > 0 else 'ahead'}"
                ", so nobody would take what it sends: set the clock"
            )
        if service.routing_table:
            table = service.routing_table
            here = [link for ident, link in table.items() if ident in service.settled]
            link = (here or list(table.values()))[0]
            return str(link.owner.peer_name)
        raise CommandFailed(
            self._why_not(problems, "" if hopeless() else f" within {self._timeout:g} s")
        )

    def _why_not(self, problems: Mapping[Address, Exception], when: str) -> str:
        where = " or ".join(show_address(one) for one in self._join)
        advice = (
            "is a node running there (py2p node), with or without --tls as here? "
            "Name another one with --join=HOST:PORT"
        )
        if any(isinstance(one, NetworkMismatch) for one in problems.values()):
            advice = "it is a node of another network, see --network"
        return f"could not join through {where}{when}: {advice}"

    async def send(self, *packets: Any, flag: int = flags.BROADCAST, type: int = 0) -> None:
        """
        Send a message, and note who has been given it.

        :raises CommandFailed: nobody is there who has been given everything from the first
            message on.
        :raises LocalError: it cannot be sent.
        """
        self._note_given()
        await self.service.send(*packets, flag=flag, type=type)

    async def look_around(self, timeout: float) -> None:
        """
        Find out who is a member, so that `send_confirmed` knows whom to wait for.

        :param timeout: seconds that this may take; `LOOK` at most.
        """
        service = self.service
        try:
            survey = await service.survey(timeout=min(timeout, LOOK))
        except MeshError:
            return  # then it waits for its neighbours, and for whoever gives a receipt
        self._silent = [printable(one) for one in survey.silent]

    async def send_confirmed(self, *packets: Any, timeout: float, type: int = 0) -> Outcome:
        """
        Send a message, and find out who gets it; it must stay a member until then.

        Whoever has just joined knows its neighbours, and whom it has found by `look_around`. Others
        are counted when their receipts come, and not missed if they do not.

        :param timeout: seconds after which it says who is missing.
        :raises CommandFailed: as with `send`.
        :raises LocalError: it cannot be sent.
        """
        self._note_given()
        receipt = await self.service.send(*packets, type=type, confirm=True, timeout=timeout)
        return from_receipt(receipt, self._silent)

    def _note_given(self) -> None:
        table = set(self.service.routing_table.values())
        self._given = table if self._given is None else self._given & table
        if not self._given:
            raise CommandFailed(
                "the link is lost, and perhaps some of what was sent: send again, to another "
                "node if need be (--join=HOST:PORT)"
            )

    async def confirm(self) -> None:
        """
        Wait until a neighbour has dealt with all that was sent: with `send`, one that has
        been there from the first message on.

        :raises CommandFailed: none has: they have gone, or read nothing for a while.
        """
        factory = self.service.factory
        present = factory.routing_table.values()
        links = [link for link in present if self._given is None or link in self._given]
        if not links:
            raise CommandFailed(_NOT_CONFIRMED)
        outcome: Deferred[None] = Deferred()
        there = set(links)

        def confirmed(_: None) -> None:
            if not outcome.called:
                outcome.callback(None)

        def failed(_: Failure, link: Connection) -> None:
            there.discard(link)
            if not there and not outcome.called:
                outcome.errback(CommandFailed(_NOT_CONFIRMED))

        def ask() -> None:
            for link in list(there):
                factory.confirm(link).addCallbacks(confirmed, failed, errbackArgs=(link,))

        progress = _Progress(links, outcome, ask)
        watch = LoopingCall(progress.look)
        watch.clock = self._reactor
        watch.start(1.0).addErrback(lambda _: None)
        try:
            await outcome
        finally:
            watch.stop()

    async def leave(self) -> None:
        """Say goodbye."""
        await self.service.stopService()


class _Progress:
    """Gives up on neighbours that do nothing for a while, or take nothing for a long one."""

    def __init__(
        self,
        links: Sequence[Connection],
        outcome: Deferred[None],
        ask: Callable[[], None],
    ) -> None:
        """
        :param outcome: fails when it is given up.
        :param ask: asks them, again and again: 0.6 nodes lose answers when they are busy.
        """
        self._links = links
        self._outcome = outcome
        self._ask = ask
        self._waiting = self._frames = -1
        self._taken = self._alive = self._seconds = 0

    def look(self) -> None:
        """Look once a second."""
        waiting = sum(link.owner.outbox.size for link in self._links)
        frames = sum(link.frames for link in self._links)
        if waiting != self._waiting:
            self._taken = self._alive = self._seconds
        elif frames != self._frames:
            # It is busy with others, and will come to ours.
            self._alive = self._seconds
        self._waiting, self._frames = waiting, frames
        if self._seconds % ASK_AGAIN == 0:
            self._ask()
        gone = self._seconds - self._alive >= PATIENCE or self._seconds - self._taken >= MOST
        if gone and not self._outcome.called:
            self._outcome.errback(CommandFailed(_NOT_CONFIRMED))
        self._seconds += 1


_NOT_CONFIRMED: Final = (
    "no neighbour has confirmed that it has read everything: some may have arrived; send again, "
    "to another node if need be (--join=HOST:PORT)"
)


def _let_go_of_name_servers(reactor: Any) -> None:
    """Have names looked up in daemon threads: else the process waits for them when it ends."""
    try:
        # What the reactor uses itself, with its own thread pool; it has no public name.
        from twisted.internet._resolver import GAIResolver
    except ImportError:
        return
    if IReactorPluggableNameResolver.providedBy(reactor):
        reactor.installNameResolver(GAIResolver(cast(Any, reactor), cast(Any, Threads)))


#: What trying again does not change.
_FINAL: Final = (NetworkMismatch,)
