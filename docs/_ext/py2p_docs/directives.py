"""
The extension proper: directives, the role of `Name`, and what autodoc is told.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.domains.python import PyXRefRole
from sphinx.environment import BuildEnvironment
from sphinx.util.docstrings import prepare_docstring
from sphinx.util.docutils import SphinxDirective
from sphinx.util.logging import getLogger

import py2p_twisted
from py2p_docs import commands, configuration, rst, tables
from py2p_docs.names import Names, attributes_last
from py2p_twisted import errors
from py2p_twisted.daemon.options import limits

log = getLogger(__name__)

PACKAGE = Path(py2p_twisted.__file__).parent

#: How docstrings name a page.
_PAGE = re.compile(r"\bdocs/([\w/-]+)\.rst\b")
_INTERFACE = re.compile(r"<InterfaceClass ([\w.]+)>")


class FromCode(SphinxDirective):
    """
    What is made of the package's code, and made anew when that changes.

    :ivar sources: the files it is made of, as patterns.
    """

    sources: Sequence[str] = ()

    def run(self) -> list[nodes.Node]:
        """Called by Sphinx."""
        for pattern in self.sources:
            for path in PACKAGE.glob(pattern):
                self.env.note_dependency(str(path))
        return self.make()

    def make(self) -> list[nodes.Node]:
        """Make it: by default from `lines`."""
        return self.parse_text_to_nodes("\n".join(self.lines()), allow_section_headings=True)

    def lines(self) -> list[str]:
        """What it is, as reStructuredText."""
        raise NotImplementedError


class CommandReference(FromCode):
    """``.. command-reference:: module:function``: all that the parser says that it makes."""

    required_arguments = 1
    sources = ("cli/*.py", "daemon/options.py")

    def lines(self) -> list[str]:
        """A section for each command."""
        module, _, name = self.arguments[0].partition(":")
        return commands.reference(getattr(importlib.import_module(module), name)())


class ConfigurationKeys(FromCode):
    """``.. configuration-keys::``: what may stand in a node's file, but for its limits."""

    sources = ("daemon/options.py",)

    def lines(self) -> list[str]:
        """A row for each key."""
        return configuration.keys()


class ConfigurationLimits(FromCode):
    """``.. configuration-limits::``: the limits that a node's file can set, with their defaults."""

    sources = ("core/settings.py", "daemon/options.py")

    def lines(self) -> list[str]:
        """A row for those that are explained together."""
        rows = [("limit", "default", "what it is")]
        for limit in tables.limits(limits()):
            named = [f"``{name}``" for name in limit.defaults]
            values = [tables.in_file(value) for value in limit.defaults.values()]
            rows.append((rst.below(named), rst.below(values), limit.meaning))
        return rst.table(rows, "30 15 55")


class Parameters(FromCode):
    """
    ``.. parameters:: setting``: numbers of the code, and why they are what they are.

    The content says ``name | unit | reason | source`` of each. With an argument, no setting from
    that one on may be left out.
    """

    optional_arguments = 1
    has_content = True
    sources = ("core/*.py", "daemon/options.py")

    def lines(self) -> list[str]:
        """A row for each."""
        rows = [("name", "value", "why", "source")]
        for name, value, reason, source in tables.parameters(self.content, *self.arguments):
            rows.append((f"``{name.rpartition('.')[2]}``", value, reason, source))
        return rst.table(rows, "22 15 45 18", name="parameters")


class Reasons(FromCode):
    """``.. reasons:: LinkError``: the words of the exceptions below one."""

    required_arguments = 1
    sources = ("errors.py",)

    def lines(self) -> list[str]:
        """A row for each word."""
        rows = [("word", "exception", "what it says")]
        for one in tables.reasons(getattr(errors, self.arguments[0])):
            exception = f"`~py2p_twisted.errors.{one.error.__name__}`"
            rows.append((f"``{one.word}``", exception, one.meaning))
        return rst.table(rows, "25 25 50")


class Exceptions(FromCode):
    """``.. exceptions:: LinkError``: the exceptions below one, in the code's order."""

    required_arguments = 1
    sources = ("errors.py",)

    def lines(self) -> list[str]:
        """Autodoc's word for each."""
        found = tables.below(getattr(errors, self.arguments[0]))
        return [f".. autoexception:: py2p_twisted.errors.{one.__name__}\n" for one in found]


class StateTable(FromCode):
    """``.. state-table::``: what may come in which state of a connection, and what follows."""

    sources = ("core/connection.py",)

    def make(self) -> list[nodes.Node]:
        """A row for each kind of thing; the state stands once for all of them."""
        rows = []
        for state, moves in tables.moves().items():
            first = [self._cell(f":ref:`{state} <state-{state}>`", rows=len(moves))]
            for what, after in moves:
                rows.append(nodes.row("", *first, self._cell(what), self._cell(after)))
                first = []
        head = nodes.row("", *(self._cell(text) for text in ("state", "what comes", "next state")))
        group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in head), cols=len(head))
        group += [nodes.thead("", head), nodes.tbody("", *rows)]
        return [nodes.table("", group, classes=["states"])]

    def _cell(self, text: str, rows: int = 1) -> nodes.entry:
        content, messages = self.parse_inline(text)
        cell = nodes.entry("", nodes.paragraph("", "", *content), *messages)
        if rows > 1:
            cell["morerows"] = rows - 1
        return cell


class NameRole(PyXRefRole):
    """`Name`, which docstrings are full of: the nearest thing of that name."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Called by docutils."""
        self.name = "py:obj"
        found, messages = super().run()
        for node in found:
            if isinstance(node, addnodes.pending_xref):
                # Wherever it is in the package: docstrings name things by their last name.
                node["refspecific"] = True
        return found, messages


def resolve_inner(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, content: nodes.TextElement
) -> nodes.TextElement | None:
    """A name that the API does not describe is fine as long as the code has it."""
    if node.get("refdomain") == "py" and node["reftarget"] in app.py2p_names:  # type: ignore[attr-defined]
        return content
    return None


def docstring(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Finish a docstring: links to pages, and of a class its arguments and then its attributes."""
    if what == "class" and "__init__" in vars(obj) and name not in app.config.given_classes:
        lines += prepare_docstring(obj.__init__.__doc__ or "")
    lines[:] = [_PAGE.sub(r":doc:`/\1`", line) for line in lines]
    if what not in ("class", "exception"):
        return
    left_out = {key for key, value in inspect.getmembers(obj) if isinstance(value, property)}
    left_out |= set(options.exclude_members or ())
    lines[:], named = attributes_last(lines, left_out)
    owners = [f"{owner.__module__}.{owner.__qualname__}" for owner in obj.__mro__]
    for one in named:
        if not any(f"{owner}.{one}" in app.py2p_names for owner in owners):  # type: ignore[attr-defined]
            log.warning("%s has no attribute %r, but its docstring says so", name, one)


def skip(app: Sphinx, what: str, name: str, obj: Any, skipped: bool, options: Any) -> bool | None:
    """Fields of named tuples, which a docstring describes better than Python does."""
    return True if str(getattr(obj, "__doc__", "")).startswith("Alias for field") else None


def signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, args: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """None for what users do not make; and interfaces by their names."""
    if name in app.config.given_classes:
        return "", ""
    return args and _INTERFACE.sub(r"~\1", args), returns and _INTERFACE.sub(r"~\1", returns)


def setup(app: Sphinx) -> dict[str, Any]:
    """Add it all to Sphinx."""
    app.py2p_names = Names(PACKAGE)  # type: ignore[attr-defined]
    app.add_directive("command-reference", CommandReference)
    app.add_directive("configuration-keys", ConfigurationKeys)
    app.add_directive("configuration-limits", ConfigurationLimits)
    app.add_directive("exceptions", Exceptions)
    app.add_directive("parameters", Parameters)
    app.add_directive("reasons", Reasons)
    app.add_directive("state-table", StateTable)
    app.add_config_value("given_classes", [], "env", list)
    app.add_role("name", NameRole())
    app.connect("missing-reference", resolve_inner)
    app.connect("autodoc-process-docstring", docstring)
    app.connect("autodoc-process-signature", signature)
    app.connect("autodoc-skip-member", skip)
    return {"version": py2p_twisted.__version__, "parallel_read_safe": True}
