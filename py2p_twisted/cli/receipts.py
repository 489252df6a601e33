"""
Who has a message: what ``send --wait`` and ``bench`` are told, whichever way they have taken.

Pure functions and values; ids are text here.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from py2p_twisted.cli.report import many
from py2p_twisted.cli.running import CommandFailed
from py2p_twisted.control.words import receipt_fields
from py2p_twisted.core.marker import MOST_SECONDS
from py2p_twisted.core.receipts import Receipt
from py2p_twisted.daemon.options import seconds
from py2p_twisted.net.reports import printable
from py2p_twisted.net.service import CONFIRM_TIMEOUT

#: Exit code: it was sent, but not everybody has said in time that they have it.
INCOMPLETE: Final = 3


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What is known of a message's way.

    :ivar delivered: ids of the members that have it.
    :ivar missing: of those that have not said so in time.
    :ivar unknown: of nodes of py2p 0.6 that were given it; they cannot tell.
    :ivar seconds: how long it took to find out.
    :ivar last: how long it took until the last receipt came.
    :ivar complete: whether somebody was there, and nobody is missing.
    """

    delivered: Sequence[str]
    missing: Sequence[str]
    unknown: Sequence[str]
    seconds: float
    last: float
    complete: bool

    @property
    def fields(self) -> dict[str, Any]:
        """All of it, for ``json``."""
        return asdict(self)

    @property
    def text(self) -> str:
        """One line for people; who is missing is named by `names`."""
        delivered, asked = len(self.delivered), len(self.delivered) + len(self.missing)
        parts = []
        if not asked:
            parts.append("no member was there that could say that it has it")
        elif self.missing:
            parts.append(f"{delivered} of {many(asked, 'member')} said that they have it")
        else:
            parts.append(f"{many(delivered, 'member')} {'has' if delivered == 1 else 'have'} it")
        if self.unknown:
            count = len(self.unknown)
            parts.append(f"{many(count, 'node')} of py2p 0.6 cannot tell")
        return f"{', '.join(parts)} ({self._taken})"

    @property
    def _taken(self) -> str:
        if self.complete and self.delivered and self.last < 1:
            return f"{1000 * self.last:.0f} ms"
        return f"{self.last if self.complete and self.delivered else self.seconds:.1f} s"

    @property
    def names(self) -> list[str]:
        """A line for each that is missing, and for each that cannot tell."""
        return [
            *(f"missing: {printable(one)}" for one in self.missing),
            *(f"unknown: {printable(one)}" for one in self.unknown),
        ]


def from_receipt(receipt: Receipt, silent: Collection[str] = ()) -> Outcome:
    """
    What a node of our own has found out.

    :param silent: ids, or their beginnings, of nodes that are there, and did not answer even before:
        who has not said by now that it has the message is missing.
    """
    return from_answer(receipt_fields(receipt), silent)


def from_answer(answer: Mapping[str, Any], silent: Collection[str] = ()) -> Outcome:
    """
    What a node has answered.

    :param silent: see `from_receipt`.
    :raises CommandFailed: it knows nothing of receipts.
    """
    try:
        outcome = Outcome(**{name: answer[name] for name in Outcome.__slots__})
        known = sorted((*outcome.delivered, *outcome.missing, *outcome.unknown))
        more = [one for one in silent if not _begins(one, known)]
        if not more:
            return outcome
        return replace(outcome, missing=sorted([*outcome.missing, *more]), complete=False)
    except KeyError:
        raise CommandFailed(
            "the node has sent it, but knows nothing of receipts: it is of an older version; "
            "start it again"
        ) from None


def _begins(start: str, known: Sequence[str]) -> bool:
    """Whether one of these begins so; in order they are, as a peer can name 100,000 of each."""
    place = bisect_left(known, start)
    return place < len(known) and known[place].startswith(start)


def patience(text: str) -> float:
    """
    How long receipts are waited for.

    :param text: empty for the default.
    :raises ValueError: no number of seconds up to `MOST_SECONDS`.
    """
    if not text:
        return CONFIRM_TIMEOUT
    value = seconds(text)
    if not 0 < value <= MOST_SECONDS:
        raise ValueError(f"seconds up to {MOST_SECONDS}")
    return value


__all__ = ["INCOMPLETE", "Outcome", "from_answer", "from_receipt", "patience"]
