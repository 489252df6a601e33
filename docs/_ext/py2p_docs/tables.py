"""
Tables of the book that are read off the code.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection
from dataclasses import dataclass

from py2p_twisted import errors
from py2p_twisted.core.connection import TRANSITIONS, Kind
from py2p_twisted.core.settings import Settings

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
