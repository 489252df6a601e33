"""
The ``py2p`` command.

==============  ================================================================
``node``        the command ``py2p node``
``send``        ``py2p send``
``listen``      ``py2p listen``
``chat``        ``py2p chat``
``status``      ``py2p status``
``peers``       ``py2p peers``
``members``     ``py2p members``
``ping``        ``py2p ping``
``connect``     ``py2p connect``
``reload``      ``py2p reload``
``ticket``      ``py2p ticket``
``top``         ``py2p top``
``bench``       ``py2p bench``
``doctor``      ``py2p doctor``: what it asks and dials
``findings``    what that means, and what to do; pure functions
``probe``       dialling an address to have a look
``control``     what these ask a node through; ``send``, ``listen`` and ``chat`` may
``completion``  ``py2p completion``
``member``      what ``send``, ``listen`` and ``chat`` join a network with
``lines``       standard input and output, which may block
``receipts``    who has a message, for ``send`` and ``bench``
``progress``    a line that says how far a command is
``demo``        ``py2p demo``: its options, and what its numbers lead to
``scenario``    what the demo does, step by step
``nodes``       the real nodes that it does it with
``processes``   the same as real ``twist py2p`` processes
``report``      what came of it, as values
``table``       the same as lines of text; pure functions
``views``       who shows them: a live table, plain lines
``terminal``    drawing in place
``running``     the reactor, signals, and how a command ends
``simulate``    ``py2p simulate``: who plays what, in how many processes
``figures``     what came of it, as a table, as goals, and for programs; pure functions
==============  ================================================================

A command is a module with ``add_to(commands)``, which adds its parser and sets ``run``: a
function from the parsed options to an exit code.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 sent but not confirmed by everybody
(``send --wait``, ``bench``), 130 interrupted (Ctrl-C), 143 terminated (SIGTERM). Errors are one line on standard error. The reactor is imported when a command
runs, never with a module.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn, TextIO

from py2p_twisted import __version__

DONE = 0
FAILED = 1
USAGE = 2
#: A process that a signal ended, in the manner of shells.
BY_SIGNAL = 128

EXAMPLES = """\
examples:
  py2p demo --processes
  py2p node
  py2p node --listen=tcp:4445 --join=127.0.0.1:4444
  py2p listen
  py2p send storm north
  py2p status
  py2p doctor
"""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and which takes no abbreviations."""

    def __init__(self, **options: object) -> None:
        options.setdefault("allow_abbrev", False)
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**options)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Say in one line what is wrong with the arguments, and end."""
        self.exit(USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")


class CommandParser(Parser):
    """
    The parser of a command, which complains itself of what it does not know.

    :ivar may_be_bare: options that may have a value, but only behind an equals sign: what stands
        behind a blank is an argument.
    """

    may_be_bare: frozenset[str] = frozenset()

    def parse_known_args(self, args: Any = None, *arguments: Any, **options: Any) -> Any:
        """Parse; ``argparse`` would leave the rest to ``py2p``, and name the wrong help."""
        args = list(sys.argv[1:] if args is None else args)
        end = args.index("--") if "--" in args else len(args)
        args[:end] = [f"{one}=" if one in self.may_be_bare else one for one in args[:end]]
        known, unknown = super().parse_known_args(args, *arguments, **options)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return known, unknown


def build_parser() -> Parser:
    """The parser of ``py2p`` and all its commands."""
    # Commands may need Twisted, which takes a moment; whoever imports `main` need not wait.
    from py2p_twisted.cli import (
        bench,
        chat,
        completion,
        connect,
        demo,
        doctor,
        listen,
        members,
        node,
        peers,
        ping,
        reload,
        send,
        simulate,
        status,
        ticket,
        top,
    )

    parser = Parser(
        prog="py2p",
        description="Peer-to-peer messaging without a broker.",
        epilog=EXAMPLES,
    )
    parser.add_argument("--version", action="version", version=f"py2p_twisted {__version__}")
    commands = parser.add_subparsers(
        title="commands",
        dest="command",
        metavar="COMMAND",
        required=True,
        parser_class=CommandParser,
    )
    every = (
        *(demo, node, send, listen, chat, status, peers, members, ping, connect, reload, top),
        *(bench, doctor, ticket, simulate, completion),
    )
    for command in every:
        command.add_to(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command that the arguments name.

    :param arguments: without the program's name; by default those of the process.
    :return: the exit code. ``--help``, ``--version`` and wrong usage raise ``SystemExit``,
        as argparse does.
    """
    name = "py2p"
    _need_streams()
    try:
        from py2p_twisted.cli.running import CommandFailed, Interrupted

        try:
            options = build_parser().parse_args(arguments)
        except SystemExit:
            # What --help has written, while somebody can be told that it does not arrive.
            sys.stdout.flush()
            raise
        name = f"py2p {options.command}"
        try:
            code: int = options.run(options)
            # Now, while a reader that has gone can still be met with patience.
            sys.stdout.flush()
        except CommandFailed as error:
            _complain(f"{name}: {error}")
            return FAILED
        except Interrupted as error:
            return _interrupted(name, error.signal)
        return code
    except KeyboardInterrupt:
        return _interrupted(name, signal.SIGINT)
    except BrokenPipeError:
        # Whoever read has gone, as with "| head".
        _give_up_writing(sys.stdout)
        _give_up_writing(sys.stderr)
        return FAILED
    except OSError as error:
        _give_up_writing(sys.stdout)
        _complain(f"{name}: {error.strerror or error}")
        return FAILED


def _need_streams() -> None:
    """A shell can close them, and a supervisor may: then nobody wants to read anything."""
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def _complain(line: str) -> None:
    """Write a line to standard error, if that is possible."""
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        _give_up_writing(sys.stderr)


def _give_up_writing(stream: TextIO) -> None:
    """Python would complain when it flushes the stream for the last time, with exit code 120."""
    # Not the stream of a test, which has no number.
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _interrupted(name: str, number: int) -> int:
    # Whoever says it twice means the same.
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)
    word = "interrupted" if number == signal.SIGINT else "terminated"
    _complain(f"{name}: {word}")
    return BY_SIGNAL + number
