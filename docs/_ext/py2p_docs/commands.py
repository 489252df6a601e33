"""
The reference of a command line, as reStructuredText, from its ``argparse`` parser.

Texts of a parser are for terminals: they are taken literally, whatever they would mean in a
document, except that options in them are set as code, paragraphs are joined, and indented
lines become a block of their own.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

from py2p_docs import rst

#: Columns of a usage line.
WIDTH = 76

_SPECIAL = re.compile(r"([\\*`|<>_:@])")
_OPTION = re.compile(r"(?<![\w-])(--?[A-Za-z][\w-]*)")


def commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parsers of the commands below a parser, in their order, and of those below them."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in dict.fromkeys(action.choices.values()):
                yield command
                yield from commands(command)


def options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """What a command takes: options and arguments, without ``--help``, commands and secrets."""
    return [
        action
        for group in parser._action_groups
        for action in group._group_actions
        if action.help != argparse.SUPPRESS
        and not isinstance(action, argparse._SubParsersAction | argparse._HelpAction)
    ]


def reference(parser: argparse.ArgumentParser) -> list[str]:
    """
    The reference of a program: what it takes itself, and then a section for each command.

    :return: lines of reStructuredText.
    """
    lines = [*prose(parser.description), *_usage(parser)]
    below = list(commands(parser))
    if below:
        summaries = _summaries(parser)
        rows = [
            (f":ref:`{command.prog} <{label(command)}>`", plain(summaries.get(command.prog, "")))
            for command in below
        ]
        lines += rst.table(rows, "25 75", name="commands", head=False)
    lines += [*_options(parser), *prose(parser.epilog)]
    for command in below:
        lines += [f".. _{label(command)}:", "", command.prog, "-" * len(command.prog), ""]
        lines += [*prose(command.description), *_usage(command)]
        lines += [*_options(command), *prose(command.epilog)]
    return lines


def label(parser: argparse.ArgumentParser) -> str:
    """What a command's section can be referred to by."""
    return "command-" + re.sub(r"\W+", "-", parser.prog)


def plain(text: str) -> str:
    """A text in one line, with nothing in it that means something, and options as code."""
    parts = _OPTION.split(" ".join(text.split()))
    return "".join(
        f"\\ ``{part}``\\ " if place % 2 else _SPECIAL.sub(r"\\\1", part)
        for place, part in enumerate(parts)
    )


def begun(sentence: str) -> str:
    """With a capital letter."""
    return sentence[:1].upper() + sentence[1:]


def prose(text: str | None) -> list[str]:
    """The paragraphs of a text, and its indented lines as they are."""
    lines: list[str] = []
    paragraph: list[str] = []
    block: list[str] = []

    def end() -> None:
        if paragraph:
            lines.extend([begun(plain(" ".join(paragraph))), ""])
        if block:
            indent = min(len(line) - len(line.lstrip()) for line in block)
            lines.extend([".. code-block:: text", ""])
            # As in a terminal, so that it is seen what is typed.
            lines.extend(f"   $ {line[indent:]}" for line in block)
            lines.append("")
        paragraph.clear()
        block.clear()

    for line in (text or "").splitlines():
        if not line.strip():
            end()
        elif line[0].isspace():
            if paragraph:
                end()
            block.append(line)
        else:
            if block:
                end()
            paragraph.append(line)
    end()
    return lines


def _usage(parser: argparse.ArgumentParser) -> list[str]:
    formatter = parser.formatter_class(prog=parser.prog, width=WIDTH)
    formatter.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups, prefix="")
    usage = formatter.format_help().strip("\n").splitlines()
    return [".. code-block:: text", "   :class: usage", "", *("   " + one for one in usage), ""]


def _summaries(parser: argparse.ArgumentParser) -> dict[str, str]:
    """What is said of each command in the list of commands."""
    said: dict[str, str] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in action._choices_actions:
                command = action.choices[one.dest]
                said[command.prog] = one.help or ""
                said.update(_summaries(command))
    return said


def _options(parser: argparse.ArgumentParser) -> list[str]:
    formatter = parser.formatter_class(prog=parser.prog, width=WIDTH)
    lines = [f".. program:: {parser.prog}", ""]
    usual = (parser._positionals, parser._optionals)
    for group in parser._action_groups:
        here = [action for action in options(parser) if action in group._group_actions]
        if here and group not in usual:
            lines += [f".. rubric:: {begun(plain(group.title or ''))}", ""]
            lines += prose(group.description)
        for action in here:
            takes = "" if action.nargs == 0 else formatter._format_args(action, _metavar(action))
            names = [f"{name} {takes}".strip() for name in action.option_strings] or [takes]
            lines += [f".. option:: {', '.join(names)}", ""]
            said = begun(plain(formatter._expand_help(action))) if action.help else ""
            if said:
                lines += [f"   {said if said.endswith('.') else said + '.'}", ""]
            if action.required and action.option_strings:
                lines += ["   Has to be given.", ""]
    return lines


def _metavar(action: argparse.Action) -> str:
    """What stands for a value where the parser does not say."""
    return action.dest.upper() if action.option_strings else action.dest
