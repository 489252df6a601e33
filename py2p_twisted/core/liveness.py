"""
Pings: a neighbour that has lost power says nothing, and nothing else tells that it is gone.

An extended peer from which no byte has come for ``ping_interval`` is asked for a sign of
life, and given up when none has come for ``dead_after``; never without having been asked. Any
byte is one. Before others are judged we judge ourselves: if we were late ourselves, what they
sent may lie unread, and they get another full period.

Times are in seconds. Source: docs/protocol/mesh-ext.rst, "Liveness"; the rule about one's
own delay is that of Lifeguard (Dadgar, Phillips, Currey, 2018).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from py2p_twisted.core.connection import Connection, State
from py2p_twisted.core.extension import Kind
from py2p_twisted.core.links import Links
from py2p_twisted.core.settings import Settings
from py2p_twisted.core.timers import Timer, Timers
from py2p_twisted.errors import LinkUnresponsive, MeshError

#: When we are late by more than this, others are not to blame. Source: docs/design.rst.
OWN_DELAY: Final = 1.0


class Liveness:
    """
    Asks silent peers for a sign of life.

    :ivar lag: seconds by which our own last look was late.
    """

    def __init__(
        self,
        settings: Settings,
        links: Links,
        timers: Timers,
        *,
        send: Callable[..., None],
        close: Callable[[Connection, MeshError], None],
    ) -> None:
        """
        :param send: sends an extension frame: to whom, kind, fields.
        :param close: ends a link.
        """
        self.lag = 0.0
        self._settings = settings
        self._links = links
        self._timers = timers
        self._send = send
        self._close = close
        self._timer: Timer | None = None
        self._due = 0.0
        self._lenient_until = float("-inf")

    def start(self, now: float) -> None:
        """There is somebody to be watched."""
        if self._timer is None:
            self._arm(now)

    def stop(self) -> None:
        """Nobody has to be watched any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, now: float) -> None:
        # Half the interval, so that nobody is noticed later than was promised.
        self._due = now + self._settings.ping_interval / 2
        self._timer = self._timers.at(self._due, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._timers.now
        settings = self._settings
        self.lag = now - self._due
        if self.lag > OWN_DELAY:
            self._lenient_until = now + settings.dead_after
        watched = False
        for link in self._links.open:
            ext = link.ext
            if ext is None or link.state is not State.OPEN:
                continue
            watched = True
            silent = now - link.heard
            asked = ext.ping_at is not None and ext.ping_at > link.heard
            if (
                asked
                and silent > settings.dead_after - settings.ping_interval / 2
                and now >= self._lenient_until
            ):
                self._close(link, LinkUnresponsive(settings.dead_after))
            elif silent >= settings.ping_interval - 0.001 and (
                ext.ping_at is None or now - ext.ping_at >= settings.ping_interval
            ):
                ext.ping_seq += 1
                ext.ping_at = now
                self._send(link, Kind.PING, ext.ping_seq, round(self.lag * 1000))
        if watched and self._timer is None:
            self._arm(now)

    def measure(self, link: Connection, now: float) -> None:
        """Measure the way to a new peer and back, before anything depends on it."""
        if link.ext is not None:
            link.ext.ping_seq += 1
            link.ext.ping_at = now
            self._send(link, Kind.PING, link.ext.ping_seq, 0)

    def asked(self, link: Connection, seq: int) -> None:
        """A peer asks us for a sign of life."""
        self._send(link, Kind.PONG, seq)

    def answered(self, link: Connection, seq: int, now: float) -> None:
        """A peer has answered."""
        ext = link.ext
        if ext is None or ext.ping_at is None or seq != ext.ping_seq:
            return
        # Repair waits for answers as long as the way takes: who holds back its own must not
        # have us wait for ever.
        took = min(now - ext.ping_at, self._settings.ping_interval)
        ext.ping_at = None
        ext.rtt = took if ext.rtt is None else ext.rtt + (took - ext.rtt) / 8
