"""
The other end of a control endpoint.

::

    client = await reach(reactor, place("/run/alerts/control.sock"))
    answer = await client.ask("status")
    await client.ask("send", packets=["storm", "north"])
    client.close()
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    UNIXClientEndpoint,
)
from twisted.internet.error import ConnectError
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from py2p_twisted.control.lines import ControlError, LineBuffer, line_of, parse
from py2p_twisted.control.places import Place, UnixPlace, read_token

#: Seconds that connecting, and any answer, may take, unless told otherwise.
TIMEOUT: Final = 10.0

#: Bytes of a line that a node may send: a message of `Settings.max_message` bytes may be six times
#: as long in JSON.
LONGEST: Final = 2**28


class ControlClient(Protocol):
    """
    A connection to a node's control endpoint.

    :ivar on_event: called with each event that the node tells of, once it is listened to.
    :ivar made: fires when there is a connection.
    :ivar closed: fires with the reason when the connection has ended.
    """

    def __init__(self, reactor: Any, timeout: float = TIMEOUT) -> None:
        """
        :param timeout: seconds that an answer may take.
        """
        self.on_event: Callable[[dict[str, Any]], object] = lambda event: None
        self.closed: Deferred[ControlError] = Deferred()
        self.made: Deferred[None] = Deferred()
        self._reactor = reactor
        self._timeout = timeout
        self._lines = LineBuffer(LONGEST)
        self._number = 0
        self._waiting: dict[int, Deferred[dict[str, Any]]] = {}
        self._lost: ControlError | None = None

    def ask(self, word: str, *, patience: float | None = None, **what: Any) -> Deferred[Any]:
        """
        Ask the node to do something.

        :param patience: seconds that the answer may take.
        :param what: further keys of the request.
        :return: fires with the answer's fields, or fails with `ControlError`.
        """
        if self._lost is not None:
            return fail(self._lost)
        self._number += 1
        number = self._number
        answer: Deferred[dict[str, Any]] = Deferred(lambda _: self._forget(number))
        self._waiting[number] = answer
        seconds = self._timeout if patience is None else patience
        timer = self._reactor.callLater(seconds, self._too_late, number, seconds)

        def answered(result: Any) -> Any:
            if timer.active():
                timer.cancel()
            return result

        answer.addBoth(answered)
        self.transport.write(line_of({"id": number, "do": word, **what}))  # type: ignore[union-attr]
        return answer

    def close(self) -> None:
        """Hang up."""
        if self.transport is not None:
            self.transport.loseConnection()

    def _forget(self, number: int) -> None:
        self._waiting.pop(number, None)

    def _too_late(self, number: int, seconds: float) -> None:
        answer = self._waiting.pop(number, None)
        if answer is not None:
            text = f"the node does not answer within {seconds:g} s"
            answer.errback(ControlError("no answer", text))

    # --- called by Twisted --------------------------------------------------------------

    def connectionMade(self) -> None:
        """The node is there."""
        self.made.callback(None)

    def dataReceived(self, data: bytes) -> None:
        """The node has said something."""
        try:
            self._lines.feed(data)
            while (line := self._lines.next()) is not None:
                self._heard(parse(line, most=None))
        except ControlError as error:
            self._fail(ControlError("bad answer", f"this is no node that answers: {error}"))
            self.transport.abortConnection()  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It has gone."""
        self._fail(ControlError("gone", "the node has hung up: it has stopped, or turned us away"))
        if not self.closed.called and self._lost is not None:
            self.closed.callback(self._lost)

    def _fail(self, error: ControlError) -> None:
        if self._lost is None:
            self._lost = error
        waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            answer.errback(self._lost)

    def _heard(self, said: dict[str, Any]) -> None:
        if "event" in said:
            self.on_event(said)
            return
        number = said.get("id")
        error = None
        if said.get("ok") is not True:
            error = ControlError(str(said.get("reason")), str(said.get("error")))
        answer = self._waiting.pop(number, None) if type(number) is int else None
        if answer is None:
            if error is not None and number is None:
                self._lost = error  # the last that it says
            return
        if error is None:
            answer.callback(said)
        else:
            answer.errback(error)


def endpoint_for(reactor: Any, where: Place, timeout: float) -> IStreamClientEndpoint:
    """The endpoint of a place."""
    if isinstance(where, UnixPlace):
        return UNIXClientEndpoint(reactor, where.path, timeout)
    kind = TCP6ClientEndpoint if ":" in where.host else TCP4ClientEndpoint
    made: IStreamClientEndpoint = kind(reactor, where.host, where.port, timeout)
    return made


async def reach(reactor: Any, where: Place, timeout: float = TIMEOUT) -> ControlClient:
    """
    Connect to a node.

    :param timeout: seconds that this, and later any answer, may take.
    :raises ControlError: nobody answers there; the text says why.
    """
    token = None
    if not isinstance(where, UnixPlace):
        try:
            token = read_token(where.token)
        except OSError as error:
            text = f"its token cannot be read from {where.token}: {error.strerror}"
            raise ControlError("no node", text) from None
    factory = Factory.forProtocol(lambda: ControlClient(reactor, timeout))
    factory.noisy = False
    connecting = endpoint_for(reactor, where, timeout).connect(factory)
    try:
        client: Any = await connecting
    except (ConnectError, OSError) as error:
        raise ControlError("no node", _why_not(error)) from None
    await client.made
    if token is not None:
        try:
            await client.ask("hello", token=token)
        except ControlError:
            client.close()
            raise
    return client  # type: ignore[no-any-return]


def _why_not(error: Exception) -> str:
    number = getattr(error, "osError", None)
    if number == errno.ENOENT:
        return "there is no such socket"
    if number == errno.ECONNREFUSED or isinstance(error, Refused):
        return "nobody answers there any more"
    if number in (errno.EACCES, errno.EPERM):
        return "it belongs to somebody else"
    return str(error) or type(error).__name__


__all__ = ["LONGEST", "TIMEOUT", "ControlClient", "endpoint_for", "reach"]
