"""
``py2p node``: a node in front, with the options of ``twistd py2p``.

Where ``twistd`` and ``twist`` are not on the path (pipx and uv put only ``py2p`` there), and
for trying things out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import textFileLogObserver

from py2p_twisted import __version__
from py2p_twisted.cli.running import CommandFailed, Interrupted
from py2p_twisted.cli.running import run as run_reactor
from py2p_twisted.daemon.configuration import ConfigurationError, configure
from py2p_twisted.daemon.options import EXAMPLES, OPTIONS
from py2p_twisted.errors import CannotStart

if TYPE_CHECKING:
    from py2p_twisted.daemon.node import NodeService

DESCRIPTION = """\
Run one node of a mesh network, in front, until it is told to stop (Ctrl-C or
SIGTERM): it listens, joins, relays, and stays joined. Events are logged to
standard error. "twist py2p" and "twistd py2p" take the same options.
"""


def add_to(commands: Any) -> None:
    """Add the command to a parser's commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "node",
        help="run a node: listen, join, relay, and stay joined",
        description=DESCRIPTION,
        epilog=EXAMPLES.format(command="py2p node"),
    )
    for option in OPTIONS:
        names = [f"--{option.name}"] + ([f"-{option.short}"] if option.short else [])
        details: dict[str, Any] = {"help": option.description.replace("%", "%%")}
        if option.is_switch:
            details |= {"action": "store_const", "const": True}
        else:
            details |= {"metavar": option.metavar, "action": "append" if option.repeat else "store"}
        parser.add_argument(*names, **details)
    parser.add_argument("--version", action="version", version=f"py2p_twisted {__version__}")
    group = parser.add_argument_group("the log")
    group.add_argument(
        "--log-format",
        choices=("text", "json"),
        help="text, or one JSON object a line (default: text on a terminal, else json)",
    )
    parser.set_defaults(run=run, parser=parser)


def run(options: argparse.Namespace) -> int:
    """
    Run the node until it is told to stop.

    :return: 0.
    """
    given = {
        option.name: value
        for option in OPTIONS
        if (value := getattr(options, option.name.replace("-", "_"))) is not None
    }
    try:
        configuration = configure(given)
    except ConfigurationError as error:
        options.parser.error(str(error))
    from py2p_twisted.daemon.reload import on_hangup
    from py2p_twisted.daemon.start import check_program, make_service

    if options.check:
        try:
            check_program(configuration)
        except CannotStart as error:
            options.parser.error(str(error))
        print(configuration.report())
        return 0
    log_format = options.log_format or ("text" if sys.stderr.isatty() else "json")
    observer = _observer(log_format, configuration["log-level"])

    # Not with the module: whoever wants another command need not wait for them.
    from twisted.internet import reactor

    try:
        service = make_service(reactor, configuration)
    except CannotStart as error:
        raise CommandFailed(str(error)) from error
    on_hangup(reactor, service)

    def work(_: Any) -> Coroutine[Deferred[Any], Any, None]:
        return stay(service)

    try:
        with suppress(Interrupted):  # which is how a node ends
            run_reactor(work, observer=observer)
    except CommandFailed:
        if service.start_error is None:
            raise
        raise CommandFailed(service.start_error) from None
    return 0


async def stay(service: NodeService) -> None:
    """
    Start a node, and stop it when this is cancelled.

    :raises CommandFailed: it cannot be started.
    """
    try:
        service.startService()
    except CannotStart as error:
        raise CommandFailed(str(error)) from error
    try:
        with suppress(CancelledError):
            await Deferred()
    finally:
        await service.stopService()


def _observer(log_format: str, level: str) -> Any:
    from py2p_twisted.daemon.logs import LEVEL, json_lines, quiet

    text = log_format == "text"
    LEVEL.set(level)
    return LEVEL.filter(quiet(textFileLogObserver(sys.stderr)) if text else json_lines(sys.stderr))
