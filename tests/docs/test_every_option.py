"""
Every command, and every option of it, is run: by a page that readers type along, or by a test.

What there is the parsers say. A page runs what stands in its console blocks, but for those that
are excused. A test runs what stands in one of its functions as text::

    Command("send", "--wait=5", ...)         send, --wait
    self.py2p_node("--control=...")          node, --control

So a function that is about several commands is believed of each of them. That an option does what it
should is for the test to say; this one finds options that nobody has thought of at all.
"""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.cli import build_parser
from py2p_twisted.tap import Options
from tests.docs.blocks import ROOT
from tests.docs.shell import blocks_of, pages

#: What tests only look at the lists of options, and run none.
NO_PROOF = ("test_every_option.py", "test_completion.py", "test_sphinx.py", "docs_check.py")

#: Those of argparse, of Twisted and of each command alike, which have tests of their own.
EVERYWHERE = {"--help", "--version"}

#: Functions of other modules of tests that run a command.
HELPERS = {"py2p_node": "node", "talking": "node"}

_OPTION = re.compile(r"(?<![\w-])(--[a-z][\w-]*)")
_RUN = re.compile(r"\b(?:py2p|python3? -m py2p_twisted) +(?:--version\b|([a-z]+))")


def _subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def every() -> dict[str, set[str]]:
    """The long options of each command, as its ``--help`` lists them."""
    found: dict[str, set[str]] = {}
    for name, parser in _subparsers(build_parser()).items():
        found[name] = {
            text
            for action in parser._actions
            if action.help != argparse.SUPPRESS
            for text in action.option_strings
            if text.startswith("--")
        } - EVERYWHERE
        # What stands for arguments, such as "demo" or "bash".
        for inner, below in _subparsers(parser).items():
            found[f"{name} {inner}"] = {
                text
                for action in below._actions
                for text in action.option_strings
                if text.startswith("--")
            } - EVERYWHERE
    return found


# --- pages --------------------------------------------------------------------------------


def in_line(line: str) -> Iterator[tuple[str, set[str]]]:
    """The commands in a line for the shell, each with its options."""
    try:
        words = list(shlex.shlex(line, posix=True, punctuation_chars=True))
    except ValueError:
        words = line.split()
    # A pipe, a semicolon or a bracket ends a command. An ampersand within quotes is no end.
    commands: list[list[str]] = [[]]
    for word in re.split(r"\s(?=[|;&()])|[|;&()]+", " ".join(words)):
        commands.append(word.split())
    for command in commands:
        text = " ".join(command)
        options = set(_OPTION.findall(text))
        for alias in ("twist", "twistd"):
            if command[:1] == [alias] and "py2p" in command:
                yield "node", options
        for name in _RUN.findall(text):
            yield name, options


@cache
def from_pages() -> dict[str, set[str]]:
    """What pages run."""
    found: dict[str, set[str]] = {}
    for page in pages():
        for block in blocks_of(page):
            if block.excused or block.root:
                continue
            for step in block.steps:
                if step.kind == "command":
                    for name, options in in_line(step.text.replace("\\\n", " ")):
                        found.setdefault(name, set()).update(options)
    return found


# --- tests --------------------------------------------------------------------------------


def texts_of(tree: ast.AST) -> list[str]:
    """The strings in a piece of code that are no docstrings."""
    idle = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in idle
    ]


def _named(tree: ast.AST) -> set[str]:
    """The commands, or words that may be some, in a function."""
    words: set[str] = set()
    for text in texts_of(tree):
        words |= {text, *text.split()[:1], *(name for name, _ in in_line(text))}
    return words


def in_module(name: str, source: str, commands: set[str]) -> dict[str, set[str]]:
    """What a test module runs, each of its functions by itself or by those that it calls."""
    of_all = set(re.findall(r"[a-z]+", name)) & commands  # test_send.py need not say it again
    functions = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    helpers: dict[str, set[str]] = {helper: {command} for helper, command in HELPERS.items()}
    for function in functions:
        helpers.setdefault(function.name, set()).update(_named(function) & commands)
    found: dict[str, set[str]] = {}
    for function in functions:
        texts = texts_of(function)
        options = {option for text in texts for option in _OPTION.findall(text)}
        ran = of_all | (_named(function) & commands)
        for call in ast.walk(function):
            if isinstance(call, ast.Call):
                called = getattr(call.func, "attr", getattr(call.func, "id", ""))
                ran |= helpers.get(called, set())
        for command in ran:
            found.setdefault(command, set()).update(options)
    return found


@cache
def from_tests() -> dict[str, set[str]]:
    """What tests run."""
    commands = set(every())
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "tests").rglob("*.py")):
        if path.name not in NO_PROOF:
            source = path.read_text(encoding="utf-8")
            for name, options in in_module(path.stem, source, commands).items():
                found.setdefault(name, set()).update(options)
    return found


class OptionTests(SynchronousTestCase):
    def test_every_command_and_option(self) -> None:
        """Each has been thought of."""
        pages, tests = from_pages(), from_tests()
        missing = []
        for name, options in every().items():
            first = name.split()[0]
            if first not in pages and first not in tests:
                missing.append(f"py2p {name}")
                continue
            run = pages.get(first, set()) | tests.get(first, set())
            missing += [f"py2p {name} {option}" for option in sorted(options - run)]
        self.assertEqual(missing, [], "never run: " + ", ".join(missing))

    def test_the_plugin(self) -> None:
        """``twist py2p`` has the options of ``py2p node``, but for those of its runner."""
        plugin = {f"--{name.rstrip('=')}" for name in Options().longOpt} - EVERYWHERE
        of_node = every()["node"]
        self.assertEqual(plugin - of_node, set())
        self.assertEqual(of_node - plugin, {"--log-format", "--log-level"} & (of_node - plugin))


class FinderTests(SynchronousTestCase):
    """The test above can fail."""

    def test_lines(self) -> None:
        """An option belongs to the command before it, up to the next."""
        for line, found in (
            ("py2p send --wait=5 storm", [("send", {"--wait"})]),
            (
                "df -h | py2p send --lines && py2p status",
                [("send", {"--lines"}), ("status", set())],
            ),
            ("(ulimit -n 60; py2p node --check)", [("node", {"--check"})]),
            ("twistd -n py2p --join=x", [("node", {"--join"})]),
            ("X=1 python -m py2p_twisted demo --tls", [("demo", {"--tls"})]),
            ("grep --wait file", []),
        ):
            self.assertEqual(list(in_line(line)), found, line)

    def test_modules(self) -> None:
        """What stands in docstrings and comments is not run, nor what another function is about."""

        def found(*lines: str, name: str = "x") -> dict[str, set[str]]:
            source = "".join(f"def f{number}():\n    {line}\n" for number, line in enumerate(lines))
            return in_module(name, source, {"send", "status"})

        told = found('"""py2p send --docs"""; run("send", "--wait=5", f"--json={x}")  # --comment')
        self.assertEqual(told, {"send": {"--wait", "--json"}})
        self.assertEqual(found('run("--wait")', 'run("send", "--json")'), {"send": {"--json"}})
        self.assertEqual(found('run("--wait")', name="test_send"), {"send": {"--wait"}})
        # By a helper.
        self.assertEqual(found('run("send", x)', 'self.f0("--wait")'), {"send": {"--wait"}})

    def test_no_help_is_taken_for_an_option(self) -> None:
        """The parsers are read: the options that everybody knows are there."""
        self.assertLessEqual({"--join", "--tls", "--network", "--json"}, every()["send"])
        self.assertTrue(Path(__file__).name in NO_PROOF)
