"""
Reading the configuration again, while the node runs.

::

    kill -HUP, py2p reload --> the file again, the command line as it was
                                   |
                                   v
                      all of it is looked at ----> a mistake: one line in the log, nothing changes
                                   |
                                   v
              what can be changed is; what cannot is named, until the node is started again

In this order: nothing is changed before everything has been found to be right.

=================  =====================================================================
changed at once    ``join``, ``max-peers``, ``log-level``, ``debug-level``, the limits in
                   `LIVE`, and the certificates that ``ssl:`` endpoints name
needs a restart    everything else
=================  =====================================================================

Links stay as they are, whatever changes: one to an address that is not in ``join`` any more, and
those beyond a ``max-peers`` that is lower now. Log files that were moved away are opened anew.

Source: docs/howto/operating.rst, "Changing the configuration".
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from twisted.logger import Logger

from py2p_twisted.core.settings import LIVE, Settings
from py2p_twisted.daemon import logs
from py2p_twisted.daemon.configuration import Configuration, ConfigurationError
from py2p_twisted.daemon.options import NAMED_SETTINGS, OPTIONS, limits
from py2p_twisted.errors import BadArgument, CannotStart
from py2p_twisted.net.reports import printable, reason_of

if TYPE_CHECKING:
    from py2p_twisted.daemon.node import NodeService

_log = Logger(namespace="py2p_twisted.node")

#: Options that are changed at once, besides the limits.
_OPTIONS: Final = ("join", "log-level", "debug-level")

#: Those that say where the others come from, or are no property of a node.
_NOT_COMPARED: Final = ("config", "check", "limit")


@dataclass(frozen=True, slots=True)
class Change:
    """
    One value that is not what it was.

    :ivar name: the option, or ``limit NAME``.
    :ivar before: as it is printed.
    :ivar after: the same.
    """

    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Reloaded:
    """
    What has come of it.

    :ivar changed: what holds now.
    :ivar waiting: what will hold when the node is started again.
    :ivar certificates: the endpoints that show new certificates to whoever connects now.
    """

    changed: tuple[Change, ...]
    waiting: tuple[Change, ...]
    certificates: tuple[str, ...] = ()


def reload(node: NodeService) -> Reloaded:
    """
    Give a node that runs the configuration that it would be started with now.

    :raises ConfigurationError: that is none; the log says so, and nothing has changed.
    """
    try:
        fresh = _read(node)
        renewals = [(text, prepare()) for text, prepare in _certificates(node)]
    except ConfigurationError as error:
        _log.error("reload: nothing has changed: {error}", event="reload", error=str(error))
        raise
    changed, waiting = _compare(node.configuration, fresh)
    for _, renew in renewals:
        renew()
    _apply(node, fresh)
    done = Reloaded(changed, waiting, tuple(text for text, _ in renewals))
    _tell(done)
    try:
        logs.reopen()
    except OSError as error:
        _log.error("the log file cannot be opened anew: {error}", error=error.strerror)
    return done


def _read(node: NodeService) -> Configuration:
    """Read it, and look for all that would keep a node from starting with it."""
    from py2p_twisted.daemon.start import check_program  # which knows of nodes, which know of this

    try:
        fresh = node.configuration.again()
        Settings.from_options(fresh.limits)
        check_program(fresh)
    except (BadArgument, CannotStart) as error:
        raise ConfigurationError(str(error)) from error
    return fresh


def _certificates(node: NodeService) -> Iterator[tuple[str, Callable[[], Callable[[], None]]]]:
    """What reads the certificates of the endpoints that name some, and then uses them."""
    for description, renewable in node.certificates:

        def prepare(
            description: str = description, renewable: Any = renewable
        ) -> Callable[[], None]:
            try:
                made: Callable[[], None] = renewable.prepare()
            except Exception as error:
                # A file that is missing, is no PEM, or does not fit the key: each of its own kind.
                text = f"--listen={description}: {reason_of(error)}"
                raise ConfigurationError(text) from error
            return made

        yield printable(description), prepare


def _compare(
    ours: Configuration, fresh: Configuration
) -> tuple[tuple[Change, ...], tuple[Change, ...]]:
    """What of it is new: that which can be changed, and the rest."""
    changed: list[Change] = []
    waiting: list[Change] = []
    for option in OPTIONS:
        if option.name in _NOT_COMPARED or ours[option.name] == fresh[option.name]:
            continue
        live = option.name in _live(ours, fresh)
        change = Change(option.name, ours.shown(option.name), fresh.shown(option.name))
        (changed if live else waiting).append(change)
    defaults = limits()
    before, after = ({**defaults, **dict(one["limit"])} for one in (ours, fresh))
    for name in defaults:
        if before[name] != after[name]:
            shown = (str(one[name]).removesuffix(".0") for one in (before, after))
            change = Change(f"limit {name}", *shown)
            (changed if name in LIVE else waiting).append(change)
    return tuple(changed), tuple(waiting)


def _live(ours: Configuration, fresh: Configuration) -> set[str]:
    """The options that can be changed at once."""
    live = {*_OPTIONS, *(name for name, field in NAMED_SETTINGS.items() if field in LIVE)}
    if ours.network != fresh.network:
        live.remove("join")  # those are nodes of the network that it will be in
    return live


def _apply(node: NodeService, fresh: Configuration) -> None:
    """Have a node be like that, as far as it can; nothing in here fails."""
    ours = node.configuration
    kept = {name: value for name, value in ours["limit"] if name not in LIVE}
    new = {name: value for name, value in fresh["limit"] if name in LIVE}
    values = {name: fresh[name] for name in _live(ours, fresh)}
    node.configuration = ours.with_values({**values, "limit": tuple({**kept, **new}.items())})
    settings = Settings.from_options(fresh.limits)
    for name in LIVE:
        node.factory.settings.change(name, getattr(settings, name))
    if "join" in values:
        node.configuration.fingerprints = node.fingerprints = fresh.fingerprints
    node.set_join(ours["join"], node.configuration["join"])
    node.set_debug_level(fresh["debug-level"])
    logs.LEVEL.set(fresh["log-level"])


def _tell(done: Reloaded) -> None:
    for change in done.changed:
        _log.info(
            "reload: {name} is {after} now, it was {before}",
            event="reload", name=change.name, before=change.before, after=change.after,
        )  # fmt: skip
    for change in done.waiting:
        _log.warn(
            "reload: {name} = {after} needs a restart, until then it is {before}",
            event="reload", name=change.name, before=change.before, after=change.after,
        )  # fmt: skip
    for description in done.certificates:
        _log.info(
            "reload: {listen} shows the certificate that its file has now",
            event="reload", listen=description,
        )  # fmt: skip
    if not (done.changed or done.waiting):
        _log.info("reload: the configuration is what it was", event="reload")


# --- the signal -----------------------------------------------------------------------------


def on_hangup(reactor: Any, node: NodeService) -> None:
    """
    Have SIGHUP reload the configuration.

    The kernel sends the same signal when a terminal is closed. Then whatever runs in it is to end,
    as it would by SIGTERM, unless it was started by ``nohup``. Either way a node says goodbye: without
    a handler the signal would end it on the spot. Where there is no SIGHUP nothing happens.
    """
    number = getattr(signal, "SIGHUP", None)
    if number is None:
        return
    ignored = signal.getsignal(number) is signal.SIG_IGN
    session = None if ignored or not _has_terminal() else os.getsid(0)

    def hung_up(_number: int, _frame: object) -> None:
        # A daemon has left the session that it was started in, and its terminal with that.
        if session is not None and os.getsid(0) == session and not _has_terminal():
            signal.raise_signal(signal.SIGTERM)
        else:
            reactor.callFromThread(_reload_by_signal, node)

    signal.signal(number, hung_up)


def _reload_by_signal(node: NodeService) -> None:
    if not node.running or not node.factory.started:
        return  # before it is a node, or when it is none any more
    with suppress(ConfigurationError):  # it has been logged
        node.reload()


def _has_terminal() -> bool:
    """Whether this process belongs to a terminal; whatever its standard streams are."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError as error:
        return error.errno == errno.EMFILE  # then nobody knows
    return True


__all__ = ["Change", "Reloaded", "on_hangup", "reload"]
