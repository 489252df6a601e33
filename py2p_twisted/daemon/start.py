"""
From what was typed to a service, or to one line that says why not.

Whatever can be known before the process goes to the background is found out before that:
then ``twistd`` in the background says the same as in front.
"""

from __future__ import annotations

import atexit
import errno
import os
import shutil
import socket
import sys
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from twisted.internet.abstract import isIPv6Address
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IStreamServerEndpoint

from py2p_twisted.daemon import descriptors
from py2p_twisted.daemon.configuration import Configuration
from py2p_twisted.daemon.node import NO_ADDRESS, NodeService, why_not
from py2p_twisted.errors import BadArgument, CannotStart, StateUnusable
from py2p_twisted.net.endpoints import server_from_description


def make_service(reactor: Any, configuration: Configuration) -> NodeService:
    """
    The service of a configuration.

    :raises CannotStart: it could not be started; the text is one line with the remedy.
    """
    check(reactor, configuration)
    descriptors.raise_limit()
    try:
        service = NodeService(reactor, configuration)
        if service.state is not None:
            # For a moment, as the ports: the process may be about to go to the background.
            service.state.open()
            service.state.close()
    except (BadArgument, StateUnusable, ImportError) as error:
        raise CannotStart(str(error)) from error
    return service


def check(reactor: Any, configuration: Configuration) -> None:
    """
    Find out what would keep a node from starting.

    :raises CannotStart: something would.
    """
    check_program(configuration)
    ours: dict[int, str] = {}
    with ExitStack() as probes:
        for description in configuration["listen"]:
            try:
                endpoint = server_from_description(reactor, description, None)
            except Exception as error:
                # Of other packages' types as well, which may raise anything.
                raise CannotStart(f"--listen={description}: {error}") from error
            _try_port(endpoint, description, ours, probes)
    without = [one for one in configuration["listen"] if one.startswith("unix:")]
    if without and len(without) == len(configuration["listen"]) and not configuration["advertise"]:
        raise CannotStart(NO_ADDRESS)


def check_program(configuration: Configuration) -> None:
    """
    Look whether the program of ``exec`` is there.

    :raises CannotStart: it is not.
    """
    command = configuration["exec"]
    if command is not None and shutil.which(command[0]) is None:
        raise CannotStart(
            f"--exec={command[0]}: no such program, or it is not executable; give its whole path"
        )


def _try_port(
    endpoint: IStreamServerEndpoint, description: str, ours: dict[int, str], probes: ExitStack
) -> None:
    """
    Take a TCP port, until all have been tried.

    :param ours: the ports taken so far, with their descriptions.
    :raises CannotStart: somebody else has it, or this node itself. (Another one may still come
        in between, then the service says so when it starts.)
    """
    kind = type(endpoint).__name__
    if kind not in ("TCP4ServerEndpoint", "TCP6ServerEndpoint"):
        return
    port: int = getattr(endpoint, "_port", 0)
    host: str = getattr(endpoint, "_interface", "") or ""
    six = kind == "TCP6ServerEndpoint" or isIPv6Address(host)
    try:
        probe = probes.enter_context(socket.socket(socket.AF_INET6 if six else socket.AF_INET))
        if sys.platform != "win32":  # where it means something else
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host or ("::" if six else "0.0.0.0"), port))  # noqa: S104
        probe.listen(1)
    except (OSError, OverflowError) as error:
        if getattr(error, "errno", None) == errno.EADDRINUSE and port in ours:
            raise CannotStart(
                f"--listen={description}: --listen={ours[port]} has that port already"
                + (f"; tcp6:{port} alone takes IPv4 as well" if six else "")
            ) from error
        raise CannotStart(why_not(CannotListenError(host, port, error))) from error
    if port:
        ours[port] = description


def fail_with(service: NodeService) -> None:
    """Have this process end with exit status 1 if its node turns out not to have started."""

    def check_at_exit() -> None:
        if service.start_error is not None:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(1)

    atexit.register(check_at_exit)


def one_line_for_mistakes() -> None:
    """
    Have this process say `CannotStart` in one line when nobody catches it.

    ``twistd`` and ``twist`` let it through to the interpreter, which would print where in
    them it passed by. Everything else is printed as before.
    """
    before = sys.excepthook

    def show(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
        if isinstance(value, CannotStart):
            print(f"py2p: {value}", file=sys.stderr)
        else:
            before(kind, value, trace)

    sys.excepthook = show
