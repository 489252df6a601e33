"""
Tables of the book that are read off the code.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import Any

from py2p_twisted import errors
from py2p_twisted.core.connection import TRANSITIONS, Kind
from py2p_twisted.core.settings import Settings
from py2p_twisted.daemon.options import show_size

# --- states -------------------------------------------------------------------------------


def moves() -> dict[str, list[tuple[str, str]]]:
    """
    What may come in which state, and what follows: the whole table, in the code's order.

    :return: by state, pairs of what comes and the next state, or what happens instead.
    """
    table = {}
    for state, legal in TRANSITIONS.items():
        table[state.value] = [
            (kind.value, legal[kind].value if kind in legal else "the connection ends")
            for kind in Kind
            if legal
        ] or [("anything", "is not read")]
    return table


# --- errors -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reason:
    """
    One of the words that counters and logs use.

    :ivar error: the exception that carries it.
    :ivar meaning: what its docstring begins with.
    """

    word: str
    error: type[errors.MeshError]
    meaning: str


def below(root: type[errors.MeshError]) -> list[type[errors.MeshError]]:
    """The exceptions below one that have none below themselves, in the code's order."""
    return [
        error
        for error in vars(errors).values()
        if inspect.isclass(error) and issubclass(error, root) and not error.__subclasses__()
    ]


def reasons(root: type[errors.MeshError]) -> list[Reason]:
    """The words of the exceptions below one, by the alphabet."""
    found = [Reason(error.reason, error, _first_paragraph(error)) for error in below(root)]
    return sorted(found, key=lambda reason: reason.word)


def _first_paragraph(error: type[errors.MeshError]) -> str:
    paragraph = inspect.cleandoc(error.__doc__ or "").split("\n\n")[0]
    return " ".join(paragraph.split())


# --- limits -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Limit:
    """
    Settings that are explained together.

    :ivar defaults: their names and what they are, in the code's order.
    """

    defaults: dict[str, float]
    meaning: str


def in_file(value: float) -> str:
    """A limit as it would be written into a node's file."""
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"


_COMMENT = re.compile(r" +#: ?(.*)")
_SETTING = re.compile(r" +(\w+): \w+ = ")


def limits(names: Collection[str]) -> list[Limit]:
    """What the comments in the code say of settings: each stands above one, or several."""
    defaults = Settings()
    found: list[Limit] = []
    said: list[str] = []
    for line in inspect.getsource(Settings).splitlines():
        if comment := _COMMENT.fullmatch(line):
            said.append(comment[1])
        elif setting := _SETTING.match(line):
            if said:
                found.append(Limit({}, " ".join(said)))
                said = []
            if setting[1] in names:
                found[-1].defaults[setting[1]] = getattr(defaults, setting[1])
    return [limit for limit in found if limit.defaults]


# --- parameters ---------------------------------------------------------------------------


def parameter(name: str) -> Any:
    """
    What the code says that a number is.

    :param name: a setting; or a constant, with its module in front: ``core.repair.WINDOW``.
    :raises AttributeError: there is no such.
    """
    module, _, constant = name.rpartition(".")
    if not module:
        return getattr(Settings(), name)
    return getattr(importlib.import_module(f"py2p_twisted.{module}"), constant)


def with_unit(value: Any, unit: str) -> str:
    """
    A number, or several, as people write it.

    :param unit: what stands behind it, or a pattern such as ``{} to {} s``; ``bytes`` are
        written as KiB and MiB.
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if unit == "bytes":
        return show_size(value)
    values = [f"{one:,}" if isinstance(one, int) else f"{one:g}" for one in _several(value)]
    return unit.format(*values) if "{" in unit else f"{values[0]} {unit}".strip()


def _several(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def parameters(lines: Sequence[str], first: str = "") -> list[tuple[str, str, str, str]]:
    """
    Rows of a table of numbers: what they are called, what they are, why, and who says so.

    :param lines: ``name | unit | reason | source`` for each; an indented line goes on.
    :param first: a setting: it and all that stand behind it in the code have to be there.
    :raises LookupError: one is not.
    """
    rows = []
    for item in re.split(r"\n(?=\S)", "\n".join(lines).strip()):
        name, unit, reason, source = (" ".join(cell.split()) for cell in item.split("|"))
        rows.append((name, with_unit(parameter(name), unit), reason, source))
    names = [item.name for item in fields(Settings)]
    missing = set(names[names.index(first) :] if first else ()) - {row[0] for row in rows}
    if missing:
        raise LookupError(f"nothing is said about {', '.join(sorted(missing))}")
    return rows
