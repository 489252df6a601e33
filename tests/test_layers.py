"""
The floors of the package: imports point one way, the core touches nothing, and importing
any module leaves the reactor uninstalled.
"""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import py2p_twisted

PACKAGE = Path(py2p_twisted.__file__).parent
ROOT = PACKAGE.parent

#: What may import what, at run time: each floor its own modules and those listed.
MAY_IMPORT = {
    "errors": set(),
    "core": {"errors"},
    "net": {"errors", "core", ""},
    "reactor_thread": {"errors", "core", "net"},
    "base": {"errors", "core", "net", "reactor_thread"},
    "mesh": {"errors", "core", "net", "reactor_thread", "base"},
    "utils": {"net"},
    "testing": {"errors", "core", "net"},
    "simulation": {"errors", "core"},
    "control": {"errors", "core", "net"},
    "web": {"errors", "core", "net", "control", ""},
    "daemon": {"errors", "core", "net", "control", "web"},
    "tap": {"errors", "daemon", ""},
    "cli": {"errors", "core", "net", "control", "web", "daemon", "testing", "simulation", ""},
    "__main__": {"cli"},
    "": set(),
}

#: What the core must be told instead of asking for it.
OUTSIDE_WORLD = {
    "twisted", "socket", "ssl", "threading", "time", "random", "os", "logging", "asyncio",
    "select", "secrets", "uuid", "datetime", "subprocess",
}  # fmt: skip


def modules() -> list[tuple[str, Path]]:
    """Every module of the package, by its dotted name behind ``py2p_twisted``."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        found.append((".".join(parts), path))
    return found


def imports(path: Path) -> set[str]:
    """What a module imports when it runs: imports for type checkers alone do not count."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for child in node.orelse:
                visit(child)
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return found


def floor_of(module: str) -> str:
    return module.split(".")[0]


def points_back(module: str, imported: set[str]) -> set[str]:
    """Those imports that lead to a floor which a module must not know."""
    bad = set()
    for name in imported:
        if name != "py2p_twisted" and not name.startswith("py2p_twisted."):
            continue
        target = floor_of(name.removeprefix("py2p_twisted").removeprefix("."))
        if target not in MAY_IMPORT:
            target = ""  # a name of the package itself
        mine = floor_of(module)
        if target != mine and target not in MAY_IMPORT[mine]:
            bad.add(name)
    return bad


class LayerTests(SynchronousTestCase):
    def test_imports_point_one_way(self) -> None:
        """No module imports from a floor above it."""
        bad = {name: back for name, path in modules() if (back := points_back(name, imports(path)))}
        self.assertEqual(bad, {})

    def test_an_import_that_points_back_is_noticed(self) -> None:
        """The test above can fail: it tells the core from what stands on it."""
        self.assertEqual(
            points_back("core.node", {"py2p_twisted.net.factory", "py2p_twisted.core.seen"}),
            {"py2p_twisted.net.factory"},
        )

    def test_every_module_has_a_floor(self) -> None:
        """A new module at the top of the package has to be given its place."""
        self.assertEqual({floor_of(name) for name, _ in modules()} - set(MAY_IMPORT), set())

    def test_the_core_touches_nothing(self) -> None:
        """No clock, no random source, no transport, no log: all that is handed in."""
        for name, path in modules():
            if floor_of(name) in ("core", "errors"):
                used = {item.split(".")[0] for item in imports(path)}
                self.assertEqual(used & OUTSIDE_WORLD, set(), name)

    def test_the_simulation_touches_nothing_either(self) -> None:
        """What is random in it comes from a seed, so every run can be had again."""
        for name, path in modules():
            if floor_of(name) == "simulation":
                used = {item.split(".")[0] for item in imports(path)}
                self.assertEqual(used & OUTSIDE_WORLD - {"random"}, set(), name)
                text = path.read_text()
                for drawn in re.findall(r"\brandom\.(\w+)", text):
                    self.assertEqual(drawn, "Random", f"{name}: the common generator")

    def test_only_the_adapter_knows_threads(self) -> None:
        """
        Threads start in reactor_thread, and for a terminal that blocks in cli.lines; the socket
        merely locks.
        """
        using = {name for name, path in modules() if "threading" in imports(path)}
        self.assertEqual(using - {"base", "mesh"}, {"reactor_thread", "cli.lines"})
        for name in ("base", "mesh"):
            self.assertNotIn("threading.Thread(", (PACKAGE / f"{name}.py").read_text())

    def test_pyee_stays_at_the_top(self) -> None:
        """Events are the documented face's business alone."""
        using = {
            name
            for name, path in modules()
            if any(item.split(".")[0] == "pyee" for item in imports(path))
        }
        self.assertEqual(using, {"base"})

    def test_no_module_installs_a_reactor(self) -> None:
        """Importing any of our modules leaves the choice of the reactor to the program."""
        names = ["py2p_twisted" + ("." + name if name else "") for name, _ in modules()]
        names.remove("py2p_twisted.__main__") if "py2p_twisted.__main__" in names else None
        code = (
            "import importlib, sys\n"
            f"for name in {names!r}:\n"
            "    importlib.import_module(name)\n"
            "    assert 'twisted.internet.reactor' not in sys.modules, name\n"
            "print('clean')"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60
        )
        self.assertEqual(done.stdout.strip(), "clean", done.stderr)

    def test_setup_cfg_names_every_package(self) -> None:
        """Packages are listed by hand, so that none is shipped or forgotten by accident."""
        config = configparser.ConfigParser()
        config.read(ROOT / "setup.cfg")
        listed = set(config["options"]["packages"].split())
        there = {
            ".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("__init__.py")
        }
        self.assertEqual(listed, there | {"twisted.plugins"})

    def test_twisted_keeps_its_own_packages(self) -> None:
        """An ``__init__.py`` beside the plugin would replace Twisted's, and hide all of it."""
        found = sorted(path.name for path in (ROOT / "twisted").rglob("*.py"))
        self.assertEqual(found, ["py2p_plugin.py"])

    def test_the_plugin_imports_nothing_of_ours(self) -> None:
        """It is read by every twistd on the machine, whatever that is to run."""
        self.assertEqual(
            imports(ROOT / "twisted/plugins/py2p_plugin.py"),
            {"twisted.application.service", "twisted.application.service.ServiceMaker"},
        )
