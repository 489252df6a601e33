"""
``py2p completion``: what a shell has to know to complete ``py2p`` commands.

``twistd`` and ``twist`` complete their options in zsh by themselves.
"""

from __future__ import annotations

import argparse
from typing import Any

from py2p_twisted.cli.running import CommandFailed

DESCRIPTION = """\
Print a script that has a shell complete the commands and options of py2p.
It needs the package shtab: pip install "py2p_twisted[completion]"
"""

EXAMPLES = """\
examples:
  py2p completion bash > ~/.local/share/bash-completion/completions/py2p
  py2p completion zsh > /usr/local/share/zsh/site-functions/_py2p
"""


def add_to(commands: Any) -> None:
    """Add the command to a parser's commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "completion",
        help="print completions for a shell",
        description=DESCRIPTION,
        epilog=EXAMPLES,
    )
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="which shell")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """
    Print the script.

    :return: 0.
    """
    try:
        import shtab
    except ImportError as error:
        raise CommandFailed(
            'this needs the package shtab: pip install "py2p_twisted[completion]"'
        ) from error
    from py2p_twisted.cli import build_parser

    print(shtab.complete(build_parser(), options.shell))
    return 0
