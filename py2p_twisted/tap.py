"""
``twistd py2p`` and ``twist py2p``: the options of a node for Twisted's runners.

The plugin in ``twisted/plugins/py2p_plugin.py`` names this module. Nothing here imports
the reactor before `makeService` is called, so ``twistd --reactor=...`` has its say.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import IService
from twisted.python import usage

from py2p_twisted import __version__
from py2p_twisted.daemon.configuration import Configuration, ConfigurationError, configure
from py2p_twisted.daemon.options import EXAMPLES, OPTIONS, Option
from py2p_twisted.errors import CannotStart


def _parameter(option: Option) -> Callable[[Any, str], None]:
    def take(self: Any, value: str) -> None:
        if option.repeat:
            self.given.setdefault(option.name, []).append(value)
        else:
            self.given[option.name] = value

    take.__doc__ = option.description
    return take


def _flag(option: Option) -> Callable[[Any], None]:
    def take(self: Any) -> None:
        self.given[option.name] = True

    take.__doc__ = option.description
    return take


class Options(usage.Options):
    """
    The options of a node, as ``twistd`` reads them.

    :ivar given: what was typed, by option name.
    :ivar configuration: what that, the file and the defaults come to; once parsed.
    """

    synopsis = "[options]"
    longdesc = "Run one node of a py2p mesh network: it listens, joins, relays, and stays joined."

    compData = usage.Completions(
        multiUse=[option.name for option in OPTIONS if option.repeat],
        descriptions={option.name: option.help for option in OPTIONS},
        optActions={
            option.name: usage.CompleteFiles(descr=option.metavar.lower())
            if option.files
            else usage.Completer(descr=option.metavar)
            for option in OPTIONS
            if option.metavar
        },
    )

    configuration: Configuration

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}
        self._wrong = False
        super().__init__()  # type: ignore[no-untyped-call]

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        Read the arguments.

        :raises usage.UsageError: something is wrong; one line that says what.
        """
        try:
            super().parseOptions(options)  # type: ignore[no-untyped-call]
        except usage.UsageError as error:
            self._wrong = True
            raise usage.UsageError(_with_advice(str(error))) from error

    def parseArgs(self, *arguments: str) -> None:
        """There are none but options."""
        if arguments:
            raise usage.UsageError(f"unexpected argument {arguments[0]!r}: all is said by options")

    def postOptions(self) -> None:
        """Put the configuration together; with ``--check`` print it and end the process."""
        try:
            self.configuration = configure(self.given)
        except ConfigurationError as error:
            raise usage.UsageError(str(error)) from error
        if self.given.get("check"):
            from py2p_twisted.daemon.start import check_program

            try:
                check_program(self.configuration)
            except CannotStart as error:
                raise usage.UsageError(str(error)) from error
            print(self.configuration.report())
            sys.exit(0)

    def opt_version(self) -> None:
        """print the versions of py2p_twisted and Twisted, and end"""
        from twisted import __version__ as twisted_version

        print(f"py2p_twisted {__version__}, Twisted {twisted_version}")
        sys.exit(0)

    def getUsage(self, width: int | None = None) -> str:
        """
        The help text. After a mistake a pointer to it: Twisted's runners would print all of
        it before they say what is wrong.
        """
        program = _program(self)
        if self._wrong:
            return f"{program} py2p --help shows all options."
        return super().getUsage(width) + "\n" + EXAMPLES.format(command=f"{program} py2p")


def _program(options: Any) -> str:
    """Which of Twisted's runners reads the options."""
    parent = getattr(options, "parent", None)
    return "twistd" if parent is not None and "nodaemon" in parent else "twist"


def _with_advice(text: str) -> str:
    """Add the closest option to getopt's complaint about one that there is not."""
    words = text.split()
    if len(words) > 1 and words[0] == "option" and text.endswith("not recognized"):
        known = [option.name for option in OPTIONS]
        close = difflib.get_close_matches(words[1].lstrip("-"), known, n=1, cutoff=0.5)
        if close:
            return f"unknown option {words[1]}, did you mean --{close[0]}?"
        return f"unknown option {words[1]}"
    return text


for _option in OPTIONS:
    _name = "opt_" + _option.name.replace("-", "_")
    setattr(Options, _name, _flag(_option) if _option.is_switch else _parameter(_option))
    if _option.short:
        setattr(Options, f"opt_{_option.short}", getattr(Options, _name))


def makeService(options: Options) -> IService:
    """
    The service that ``twistd`` and ``twist`` run.

    What is known to keep it from starting ends the process here, before it goes to the
    background, with one line on standard error.
    """
    from twisted.internet import reactor

    from py2p_twisted.daemon.logs import LEVEL
    from py2p_twisted.daemon.reload import on_hangup
    from py2p_twisted.daemon.start import fail_with, make_service, one_line_for_mistakes

    try:
        service = make_service(reactor, options.configuration)
    except CannotStart as error:
        sys.exit(f"{_program(options)} py2p: {error}")
    one_line_for_mistakes()
    fail_with(service)
    LEVEL.set(options.configuration["log-level"])
    on_hangup(reactor, service)
    return service


__all__ = ["Options", "makeService"]
