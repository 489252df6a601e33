"""
The keys of a node's file, from the list that the command line is made of.
"""

from __future__ import annotations

from typing import Any

from py2p_docs import rst
from py2p_docs.commands import begun, plain
from py2p_twisted.daemon.options import OPTIONS, Option


def keys() -> list[str]:
    """
    What may stand in a file, but for the limits, which have a table of their own there.

    :return: lines of reStructuredText.
    """
    rows = [("key", "default", "what it is")]
    for option in OPTIONS:
        if not option.in_file or option.name == "limit":
            continue
        said = [f"{begun(plain(option.help))}."]
        if option.repeat:
            said.append("May be a list.")
        default = "none"
        if option.default not in (None, ()):
            default = f"``{_toml(option, option.default)}``"
        elif option.example:
            said.append(f'For example ``"{option.example}"``.')
        rows.append((f"``{option.name}``", default, " ".join(said)))
    return rst.table(rows, "20 20 60", name="keys")


def _toml(option: Option, value: Any) -> str:
    """A value as it would be written into the file."""
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(option, one) for one in value)}]"
    if isinstance(value, bool):
        return str(value).lower()
    shown = option.shown(value)
    if isinstance(value, float):
        return f"{value:g}"
    return shown if shown == str(value) and isinstance(value, int) else f'"{shown}"'
