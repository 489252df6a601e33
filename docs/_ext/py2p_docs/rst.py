"""
Pieces of reStructuredText.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(
    rows: Sequence[Sequence[str]], widths: str, *, name: str = "", head: bool = True
) -> list[str]:
    """
    A table.

    :param rows: each a sequence of cells.
    :param widths: of the columns, in percent.
    :param name: what a style sheet knows it by.
    :param head: whether the first row is a heading.
    :return: its lines.
    """
    lines = [".. list-table::", f"   :widths: {widths}"]
    if head:
        lines.append("   :header-rows: 1")
    if name:
        lines.append(f"   :class: {name}")
    lines.append("")
    for row in rows:
        for number, cell in enumerate(row):
            lines.append(f"   {'  -' if number else '* -'} {cell}".rstrip())
    return [*lines, ""]


def below(texts: Iterable[str]) -> str:
    """Several texts in one cell of a table, each in a line of its own."""
    return "\n       ".join(f"| {text}" for text in texts)
