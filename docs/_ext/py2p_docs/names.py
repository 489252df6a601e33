"""
Which names the package has.

Docstrings refer to code as `Name`. Where the API describes that name, the book links to it.
Where it does not, because it is a matter of the inside, the name has to exist all the same:
this is what knows them. It reads the source and imports nothing.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

_FIELD = re.compile(r":ivar (?P<name>\w+): *(?P<text>.*)")


class Names:
    """The names of a package, in full and from any dot on."""

    def __init__(self, package: Path) -> None:
        """
        :param package: its folder.
        """
        self._known: set[str] = set()
        for path in sorted(package.rglob("*.py")):
            parts = [package.name, *path.relative_to(package).with_suffix("").parts]
            if parts[-1] == "__init__":
                parts.pop()
            module = ".".join(parts)
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for name in {module, *(f"{module}.{name}" for name in _defined(tree))}:
                self._add(name)

    def _add(self, name: str) -> None:
        while name:
            self._known.add(name)
            name = name.partition(".")[2]

    def __contains__(self, name: object) -> bool:
        return name in self._known


def _defined(node: ast.AST, within: str = "") -> Iterator[str]:
    """What the body of a module or class defines; attributes and arguments count, too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield within + child.name
            yield from _defined(child, f"{within}{child.name}.")
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield within + child.name
            yield from _of_function(child, within)
        elif isinstance(child, ast.Assign | ast.AnnAssign | ast.ImportFrom | ast.Import):
            yield from (within + name for name in _bound(child))
        elif isinstance(child, ast.If | ast.Try | ast.With):
            yield from _defined(child, within)


def _of_function(function: ast.FunctionDef | ast.AsyncFunctionDef, within: str) -> Iterator[str]:
    arguments = function.args
    for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        yield f"{within}{function.name}.{one.arg}"
    for node in ast.walk(function):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and isinstance(node.value, ast.Name)
            and node.value.id == "self"
        ):
            yield within + node.attr


def _bound(node: ast.Assign | ast.AnnAssign | ast.ImportFrom | ast.Import) -> Iterator[str]:
    if isinstance(node, ast.ImportFrom | ast.Import):
        for alias in node.names:
            yield alias.asname or alias.name
        return
    for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
        for name in ast.walk(target):
            if isinstance(name, ast.Name):
                yield name.id


def attributes_last(
    lines: Iterable[str], left_out: Collection[str] = ()
) -> tuple[list[str], list[str]]:
    """
    A class's docstring with its ``:ivar name:`` fields as descriptions of attributes.

    They get a place of their own behind all the rest, which can be linked to; as fields of a
    list they could not.

    :param left_out: attributes that are described elsewhere.
    :return: the new docstring, and the names of the attributes that it describes.
    """
    kept: list[str] = []
    attributes: list[str] = []
    named: list[str] = []
    into = kept
    for line in lines:
        field = _FIELD.match(line)
        if field:
            name = field["name"]
            if name in left_out:
                into = []
                continue
            into = attributes
            named.append(name)
            into += ["", f".. attribute:: {name}", "", f"   {field['text']}"]
        elif into is not kept and line.startswith(" "):
            into.append("   " + line.strip())
        else:
            # Another field, or a text, that goes on behind them.
            into = kept
            kept.append(line)
    return [*kept, *attributes, ""], named
