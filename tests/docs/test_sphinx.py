"""
What the book takes from the code: the extension in docs/_ext, as far as it needs no Sphinx.

The book itself is built, and looked at, by `tests.integration.docs_check`.
"""

from __future__ import annotations

import argparse
import builtins
import importlib
import os
import re
import sys
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted import errors
from py2p_twisted.cli import build_parser
from py2p_twisted.core.connection import TRANSITIONS, Kind, State
from py2p_twisted.daemon.options import OPTIONS, limits
from tests.docs.blocks import ROOT

DOCS = ROOT / "docs"
PACKAGE = ROOT / "py2p_twisted"


def extension(module: str) -> Any:
    """A module of the extension, which only Sphinx finds by itself."""
    sys.path.insert(0, str(DOCS / "_ext"))
    try:
        return importlib.import_module(f"py2p_docs.{module}")
    finally:
        sys.path.remove(str(DOCS / "_ext"))


commands = extension("commands")
configuration = extension("configuration")
names = extension("names")
tables = extension("tables")


def a_parser() -> argparse.ArgumentParser:
    """A program with a command, whose texts are full of what means something elsewhere."""
    parser = argparse.ArgumentParser(
        prog="tool",
        description="Does *this*\nand `that`_.\n\n  tool make --fast\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    below = parser.add_subparsers(title="commands", dest="command")
    make = below.add_parser("make", help="makes |things|", epilog="see --fast\n  tool make x\n")
    make.add_argument("what", help="a thing")
    make.add_argument(
        "--size", "-s", type=int, default=3, metavar="N", help="how much (%(default)s)"
    )
    make.add_argument("--from", nargs=2, metavar=("A", "B"), required=True)
    make.add_argument("--secret", help=argparse.SUPPRESS)
    group = make.add_argument_group("speed", "how fast")
    group.add_argument("--fast", action="store_true", help="or use tcp:4444 at once.")
    below.add_parser("rest")
    return parser


class CommandTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.lines: list[str] = commands.reference(a_parser())
        self.text = "\n".join(self.lines)

    def test_every_command_has_a_section(self) -> None:
        """A title for each command, and a list of them before that."""
        self.assertIn("\n.. _command-tool-make:\n\ntool make\n---------\n", self.text)
        self.assertIn("\n.. _command-tool-rest:\n\ntool rest\n---------\n", self.text)
        self.assertIn(
            "   * - :ref:`tool make <command-tool-make>`\n     - makes \\|things\\|", self.text
        )

    def test_options(self) -> None:
        """Each option stands with its values and its help, in a sentence."""
        self.assertIn(".. program:: tool make\n", self.text)
        self.assertIn("\n.. option:: --size N, -s N\n\n   How much (3).\n", self.text)
        self.assertIn("\n.. option:: --from A B\n\n   Has to be given.\n", self.text)
        self.assertIn("\n.. option:: what\n\n   A thing.\n", self.text)

    def test_groups(self) -> None:
        """A group of options has its title."""
        self.assertIn("\n.. rubric:: Speed\n\nHow fast\n\n.. option:: --fast\n", self.text)

    def test_what_is_left_out(self) -> None:
        """Hidden options, and the --help that all commands have."""
        self.assertNotIn("secret", self.text)
        self.assertNotIn("option:: -h", self.text)

    def test_texts_are_taken_literally(self) -> None:
        """Stars, quotes and the like in a help text mean themselves, and options are code."""
        self.assertIn("Does \\*this\\* and \\`that\\`\\_.\n", self.text)
        self.assertIn("\n   Or use tcp\\:4444 at once.\n", self.text)
        self.assertIn("\nSee \\ ``--fast``\\ \n", self.text)

    def test_examples(self) -> None:
        """Indented lines are what one types."""
        self.assertIn("\n.. code-block:: text\n\n   $ tool make --fast\n", self.text)

    def test_usage(self) -> None:
        """The usage does not depend on how wide somebody's terminal is."""
        self.patch(os, "environ", {"COLUMNS": "200"})
        wide = commands.reference(a_parser())
        self.patch(os, "environ", {"COLUMNS": "30"})
        self.assertEqual(commands.reference(a_parser()), wide)
        self.assertIn("   tool make [-h] [--size N] --from A B [--fast] what", wide)

    def test_ours(self) -> None:
        """Every command of py2p is there, with every option that its --help shows."""
        text = "\n".join(commands.reference(build_parser()))
        parsers = list(commands.commands(build_parser()))
        self.assertIn("py2p demo", [parser.prog for parser in parsers])
        for parser in parsers:
            section = text[text.index(f".. program:: {parser.prog}\n") :]
            section = section[: section.find("\n.. _command-")]
            shown = set(re.findall(r"^  (?:-\w[^,]*, )?(--[\w-]+)", parser.format_help(), re.M))
            for option in shown - {"--help"}:
                self.assertRegex(section, rf"\.\. option:: .*{option}\b")


class StateTests(SynchronousTestCase):
    def test_the_table_is_whole(self) -> None:
        """Every kind of thing in every state that reads, with what the code makes of it."""
        found = tables.moves()
        self.assertEqual(list(found), [state.value for state in TRANSITIONS])
        for state, legal in TRANSITIONS.items():
            rows = found[state.value]
            if not legal:
                self.assertEqual(rows, [("anything", "is not read")])
                continue
            self.assertEqual([what for what, _ in rows], [kind.value for kind in Kind])
            for kind, (_, after) in zip(Kind, rows, strict=True):
                expected = legal[kind].value if kind in legal else "the connection ends"
                self.assertEqual(after, expected)
        self.assertIn(("message", "the connection ends"), found[State.GREETING.value])

    def test_every_state_is_explained(self) -> None:
        """The page has a section for each state, to which the table's rows lead."""
        page = (DOCS / "protocol/states.rst").read_text(encoding="utf-8")
        self.assertIn("\n.. state-table::\n", page)
        for state in State:
            word = state.value
            self.assertIn(f"\n.. _state-{word}:\n\n{word}\n{'~' * len(word)}\n", page)
        for kind in Kind:
            self.assertIn(f"\n{kind.value}\n    ", page)


class ConfigurationTests(SynchronousTestCase):
    def test_every_key_is_described(self) -> None:
        """What may stand in a file stands in the book, once, with its default."""
        text = "\n".join(configuration.keys())
        wanted = [option.name for option in OPTIONS if option.in_file and option.name != "limit"]
        self.assertEqual(re.findall(r"^   \* - ``(\S+)``$", text, re.M), wanted)
        for row in (
            '``max-message``\n     - ``"8 MiB"``\n     - The largest message',
            '``listen``\n     - ``["tcp:4444"]``\n     - Where to listen',
            "``tls``\n     - ``false``\n",
            "``max-peers``\n     - ``64``\n",
            "``exec-timeout``\n     - ``60``\n",
            "``join``\n     - none\n",
        ):
            self.assertIn(row, text)
        self.assertIn('May be a list. For example ``"192.0.2.7:4444"``.\n', text)

    def test_every_limit_is_explained(self) -> None:
        """Each limit has its default from the code, and a sentence, alone or with its neighbours."""
        found = tables.limits(limits())
        named = {name: value for limit in found for name, value in limit.defaults.items()}
        self.assertEqual(named, limits())
        for limit in found:
            self.assertTrue(limit.meaning.strip().endswith("."), limit)
        (dialling,) = [limit for limit in found if "dial_timeout" in limit.defaults]
        self.assertEqual(dialling.defaults, {"dial_timeout": 4.0, "dial_handshake_timeout": 6.0})


class ReasonTests(SynchronousTestCase):
    def test_every_exception_is_described(self) -> None:
        """The page of errors has each exception, once."""
        page = (DOCS / "api/errors.rst").read_text(encoding="utf-8")
        found = re.findall(r"^\.\. autoexception:: (\w+)", page, re.M)
        for root in re.findall(r"^\.\. exceptions:: (\w+)", page, re.M):
            found += [error.__name__ for error in tables.below(getattr(errors, root))]
        there = [name for name, value in vars(errors).items() if isinstance(value, type)]
        self.assertEqual(sorted(found), sorted(there))

    def test_words_are_told_apart(self) -> None:
        """No two exceptions of a list share a word, and each says what it means."""
        reasons = tables.reasons(errors.MeshError)
        words = [reason.word for reason in reasons]
        self.assertEqual(words, sorted(set(words)))
        for reason in reasons:
            self.assertEqual(reason.word, reason.error.reason)
            self.assertTrue(reason.meaning.endswith("."), reason)


class NameTests(SynchronousTestCase):
    def index(self, source: str) -> Any:
        package = Path(self.mktemp()).resolve() / "pack"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("from pack.inside import Thing\n", encoding="utf-8")
        (package / "inside.py").write_text(source, encoding="utf-8")
        return names.Names(package)

    def test_what_is_defined(self) -> None:
        """Modules, classes, methods, attributes, arguments and constants are names."""
        known = self.index(
            "SIZE: int = 3\n"
            "class Thing:\n"
            "    kind = 1\n"
            "    def __init__(self, size):\n"
            "        self.size, self.other = size, 2\n"
            "    def act(self): pass\n"
        )
        for name in (
            "pack", "pack.inside", "inside.SIZE", "Thing", "pack.Thing", "pack.inside.Thing.kind",
            "Thing.act", "act", "other", "Thing.size", "act.self",
        ):  # fmt: skip
            self.assertIn(name, known)

    def test_what_is_not(self) -> None:
        """A name that nobody has defined is no name, nor is one in the wrong place."""
        known = self.index("class Thing:\n    def act(self):\n        local = 1\n")
        for name in ("Thin", "Thing.run", "local", "inside.act", "ack.inside", ""):
            self.assertNotIn(name, known)

    def test_references_in_docstrings(self) -> None:
        """What docstrings of the package refer to by `Name` exists, or they would say it in vain."""
        known = names.Names(PACKAGE)
        unknown = []
        for path in sorted(PACKAGE.rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            for name in re.findall(r"(?<![`:\w])`([A-Za-z_][\w.]*)`(?!`|_)", text):
                if name not in known and not hasattr(builtins, name):
                    unknown.append(f"{path.relative_to(ROOT)}: {name}")
        self.assertEqual(unknown, [])


class AttributeTests(SynchronousTestCase):
    DOCSTRING = (
        "A thing.", "", ":param name: what it is called.", ":ivar size: in bytes,", "    all of them.",
        ":ivar kind: which.", ":raises ValueError: sometimes.", "",
    )  # fmt: skip

    def test_they_stand_last(self) -> None:
        """Attributes come behind everything else, each by itself."""
        lines, named = names.attributes_last(self.DOCSTRING)
        self.assertEqual(named, ["size", "kind"])
        self.assertEqual(
            "\n".join(lines),
            "A thing.\n\n:param name: what it is called.\n:raises ValueError: sometimes.\n\n"
            "\n.. attribute:: size\n\n   in bytes,\n   all of them.\n"
            "\n.. attribute:: kind\n\n   which.\n",
        )

    def test_some_are_left_out(self) -> None:
        """Those that are described elsewhere do not appear, nor do their texts."""
        lines, named = names.attributes_last(self.DOCSTRING, {"size"})
        self.assertEqual(named, ["kind"])
        self.assertNotIn("bytes", "\n".join(lines))
        self.assertNotIn("all of them", "\n".join(lines))


class BookTests(SynchronousTestCase):
    def test_every_page_is_in_the_book(self) -> None:
        """The table of contents names every page once, and no page that is not there."""
        index = (DOCS / "index.rst").read_text(encoding="utf-8")
        listed = re.findall(r"^   ([\w/-]+)$", index, re.M)
        there = {
            path.relative_to(DOCS).with_suffix("").as_posix()
            for path in DOCS.rglob("*.rst")
            if "_build" not in path.parts
        }
        self.assertEqual(sorted(listed), sorted(there - {"index"}))

    def test_security_begins_with_what_is_not_protected(self) -> None:
        """The page says first what one has to know first."""
        text = (DOCS / "security.rst").read_text(encoding="utf-8")
        titles = re.findall(r"^(\S.*)\n-+$", text, re.M)
        self.assertEqual(titles[0], "What is not protected")
