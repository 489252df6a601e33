"""
The package as it is shipped: what is in it, and what becomes of Twisted when it comes and goes.

The plugin lies in Twisted's own package ``twisted.plugins``. A distribution that brings an
``__init__.py`` there would replace Twisted's, and take it along when it is uninstalled; one that
forgets the plugin installs without a word and has no ``twistd py2p``.

pip fetches the build backend and what the package needs from wherever it is set up to.
"""

from __future__ import annotations

import configparser
import email
import re
import shutil
import sys
import tarfile
import zipfile
from email.message import Message
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

import py2p_twisted
from tests.integration.installed import (
    PATIENCE,
    RUNNING,
    SUPPORTED,
    Environment,
    build_wheel,
    built,
    copy_of_the_tree,
    fresh,
    new_folder,
    pythons,
    run,
)

PLUGIN = "twisted/plugins/py2p_plugin.py"

#: What every source distribution has to have besides the package, with one file of each folder
#: that must be there.
SHIPPED = (
    "LICENSE",
    "MANIFEST.in",
    "README.md",
    "pyproject.toml",
    "setup.cfg",
    ".ci/run",
    "bench/README.md",
    "contrib/systemd/py2p.service",
    "docs/index.rst",
    "examples/chat.py",
    "examples/alerting/crontab",
    "tests/__init__.py",
    "tests/core/vectors.json",
    "tests/integration/installed.py",
    "tools/screenshot.py",
)

#: The folders of which every file is shipped in the source distribution.
WHOLE = ("bench", "contrib", "docs", "examples", "py2p_twisted", "tests", "tools", "twisted")

#: Prints the files of an installed distribution that are missing.
_MISSING = """
from importlib.metadata import files
print([str(file) for file in files({name!r}) if not file.locate().exists()])
"""

#: Prints what of the package can be found, in any way in which Python finds things.
_LEFT = """
import importlib.util, importlib.metadata, pathlib, sys
left = [name for name in ("py2p_twisted", "twisted.plugins.py2p_plugin")
        if importlib.util.find_spec(name)]
left += [item.name for item in importlib.metadata.distributions()
         if "py2p" in (item.name or "").lower()]
left += [str(path) for path in pathlib.Path(sys.prefix).rglob("*py2p*")]
print(left)
"""

#: Prints where Twisted lies, and the names of all its plugins.
_PLUGINS = """
import twisted, twisted.plugins
from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
print(twisted.__file__, twisted.plugins.__file__)
print(*sorted(plugin.tapname for plugin in getPlugins(IServiceMaker)))
"""


def shipped_names(files: frozenset[str]) -> set[str]:
    """What of the tree belongs into a wheel."""
    wanted = {name for name in files if name.startswith("py2p_twisted/") and name.endswith(".py")}
    assets = {name for name in files if name.startswith("py2p_twisted/web/assets/")}
    return wanted | assets | {"py2p_twisted/py.typed", PLUGIN}


def wheel_names(wheel: Path) -> set[str]:
    """The files in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


def about(name: str) -> str:
    """A name in a wheel, with the folder of the metadata named without the version."""
    folder, slash, rest = name.partition("/")
    return f"dist-info{slash}{rest}" if folder.endswith(".dist-info") else name


def metadata(wheel: Path) -> Message:
    """A wheel's metadata."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_string(archive.read(name).decode("utf-8"))


def requirement(line: str) -> tuple[str, frozenset[str], str]:
    """A requirement's name with extras, its versions and its condition, without punctuation."""
    plain = "".join(line.split()).replace("'", '"').replace("_", "-").lower()
    before, _, condition = plain.partition(";")
    name = re.match(r"[a-z0-9.-]+(\[.*\])?", before)[0]
    return name, frozenset(before.removeprefix(name).split(",")), condition


class WheelTests(SynchronousTestCase):
    """What pip installs."""

    def test_it_contains_the_package_and_nothing_else(self) -> None:
        """Every module, the marker for type checkers and the plugin, but no tests and no docs."""
        expected = shipped_names(built().files) | {
            "dist-info/METADATA",
            "dist-info/RECORD",
            "dist-info/WHEEL",
            "dist-info/entry_points.txt",
            "dist-info/licenses/LICENSE",
            "dist-info/top_level.txt",
        }
        self.assertEqual({about(name) for name in wheel_names(built().wheel)}, expected)

    def test_it_is_the_tree(self) -> None:
        """What is in it is what was written, byte by byte."""
        with zipfile.ZipFile(built().wheel) as archive:
            for name in sorted(shipped_names(built().files)):
                self.assertEqual(archive.read(name), (built().source / name).read_bytes(), name)

    def test_metadata(self) -> None:
        """Name, version, licence, requirements and the command are what setup.cfg says."""
        setup = configparser.ConfigParser()
        setup.read(built().source / "setup.cfg")
        told = metadata(built().wheel)
        self.assertEqual(
            [told["Name"], told["Version"], told["License-Expression"], told["License-File"]],
            ["py2p_twisted", py2p_twisted.__version__, "MIT", "LICENSE"],
        )
        self.assertEqual(told["Requires-Python"], setup["options"]["python_requires"])
        wanted = {
            requirement(line) for line in setup["options"]["install_requires"].split("\n") if line
        }
        self.assertTrue(wanted)
        extras = setup["options.extras_require"]
        for extra, lines in extras.items():
            wanted |= {
                requirement(f'{line};extra=="{extra}"') for line in lines.split("\n") if line
            }
        self.assertEqual({requirement(line) for line in told.get_all("Requires-Dist")}, wanted)
        with zipfile.ZipFile(built().wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
            entries = configparser.ConfigParser()
            entries.read_string(archive.read(name).decode("utf-8"))
        self.assertEqual(
            {section: dict(entries[section]) for section in entries.sections()},
            {"console_scripts": {"py2p": "py2p_twisted.cli:main"}},
        )


class SourceDistributionTests(SynchronousTestCase):
    """What distributions of Linux begin with."""

    def unpacked(self) -> Path:
        """The contents, unpacked."""
        folder = new_folder("unpacked")
        with tarfile.open(built().sdist) as archive:
            archive.extractall(folder, filter="data")
        (inside,) = folder.iterdir()
        return inside

    def test_it_contains_all_there_is_to_read_and_to_run(self) -> None:
        """Tests, documentation, examples, benchmarks and what supervisors need, all of it."""
        inside = self.unpacked()
        there = {str(path.relative_to(inside)) for path in inside.rglob("*") if path.is_file()}
        self.assertEqual(set(SHIPPED) - there, set(), "missing")
        expected = {name for name in built().files if name.split("/")[0] in WHOLE}
        self.assertEqual({name for name in there if name.split("/")[0] in WHOLE}, expected)

    def test_its_wheel_is_the_same(self) -> None:
        """Who builds a wheel from it gets the files that are in ours."""
        wheel = build_wheel(built().sdist)
        self.assertEqual(wheel_names(wheel), wheel_names(built().wheel))


class InstallTestCase(SynchronousTestCase):
    """Tests that install the package somewhere outside the tree, and remove it again."""

    is_installed = False

    def install(self, environment: Environment, *what: str | Path) -> None:
        """Have pip install the package, and nothing besides."""
        self.addCleanup(self.uninstall, environment)
        self.is_installed = True
        environment.pip("install", "--quiet", "--no-deps", *what)

    def uninstall(self, environment: Environment) -> None:
        """Have pip uninstall it, unless that has happened."""
        if self.is_installed:
            self.is_installed = False
            environment.pip("uninstall", "--quiet", "--yes", "py2p_twisted")

    def says(self, environment: Environment, *command: str) -> str:
        """What a program prints that must succeed, without a complaint."""
        done = environment.run(*command)
        self.assertEqual((done.returncode, done.stderr), (0, ""), (command, done.stdout))
        return done.stdout

    def assert_works(self, environment: Environment) -> None:
        """Both runners of Twisted know py2p, and so does the shell."""
        ours, version = "Run one node of a py2p mesh network.", py2p_twisted.__version__
        cache = environment.packages / "twisted/plugins/dropin.cache"
        for runner in ("twistd", "twist"):
            # While nothing is cached every plugin is imported: one that imports the reactor keeps
            # others from choosing it.
            cache.unlink(missing_ok=True)
            told = self.says(environment, runner, "--reactor=asyncio", "py2p", "--version")
            self.assertIn(f"py2p_twisted {version}, Twisted ", told)
            self.assertRegex(self.says(environment, runner, "--help"), rf"\n +py2p +{ours}\n")
            self.assertIn(version, self.says(environment, runner, "py2p", "--version"))
        self.assertEqual(self.says(environment, "py2p", "--version"), f"py2p_twisted {version}\n")
        environment.python("import py2p_twisted.mesh")

    def assert_gone(self, environment: Environment) -> None:
        """Uninstalling leaves nothing of ours, and all of Twisted."""
        self.uninstall(environment)
        self.assertEqual(environment.python(_LEFT), "[]\n")
        self.assertEqual(environment.python(_MISSING.format(name="twisted")), "[]\n")
        for runner in ("twistd", "twist"):
            told = self.says(environment, runner, "--help")
            self.assertRegex(told, r"\n +web +A general-purpose web server")
            self.assertNotIn("py2p", told)
        where, names = environment.python(_PLUGINS).splitlines()
        for path in where.split():
            self.assertTrue(Path(path).is_relative_to(environment.packages), path)
        self.assertIn("web", names.split())
        self.assertNotIn("py2p", names.split())

    def check(self, version: str, *what: str | Path) -> None:
        """Install it, see that it works, and uninstall it."""
        if version not in pythons():
            raise SkipTest(f"no Python {version} that can make virtual environments is at hand")
        environment = fresh(version)
        self.install(environment, *what)
        self.assert_works(environment)
        self.assert_gone(environment)


class InstallTests(InstallTestCase):
    """pip installs it, and uninstalls it without a trace."""

    def test_wheel_on_3_11(self) -> None:
        """The wheel comes and goes on Python 3.11."""
        self.check("3.11", built().wheel)

    def test_wheel_on_3_12(self) -> None:
        """The wheel comes and goes on Python 3.12."""
        self.check("3.12", built().wheel)

    def test_wheel_on_3_13(self) -> None:
        """The wheel comes and goes on Python 3.13."""
        self.check("3.13", built().wheel)

    def test_source_distribution(self) -> None:
        """The source distribution comes and goes."""
        self.check(RUNNING, built().sdist)

    def test_editable(self) -> None:
        """So does an installation that leads to a tree, plugin included."""
        source, _ = copy_of_the_tree("editable")
        self.check(RUNNING, "--editable", source)

    def test_the_pythons_of_this_test_are_those_of_the_package(self) -> None:
        """Each Python that the package says it supports has its test above."""
        classifiers = metadata(built().wheel).get_all("Classifier")
        prefix = "Programming Language :: Python :: 3."
        said = {line.rpartition(" ")[2] for line in classifiers if line.startswith(prefix)}
        self.assertEqual(said, set(SUPPORTED))
        for version in SUPPORTED:
            self.assertTrue(hasattr(self, f"test_wheel_on_{version.replace('.', '_')}"), version)

    def test_it_brings_what_it_needs(self) -> None:
        """Nothing has to be installed by hand: pip gets all that any module imports."""
        environment = fresh(RUNNING)
        self.install(environment, built().wheel)
        self.assertIn("No broken requirements", environment.pip("check"))
        modules = sorted(
            name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            for name in shipped_names(built().files)
            if name.startswith("py2p_twisted/") and name.endswith(".py")
        )
        modules.remove("py2p_twisted.__main__")
        source = f"import importlib\nfor name in {modules}: importlib.import_module(name)"
        environment.python(source)


class TypeTests(InstallTestCase):
    """Programs that use the package can be checked against its types."""

    def test_the_marker_is_installed(self) -> None:
        """py.typed lies where type checkers look for it."""
        environment = fresh(RUNNING)
        self.install(environment, built().wheel)
        self.assertTrue((environment.packages / "py2p_twisted/py.typed").is_file())

    def test_the_page_is_installed(self) -> None:
        """The files of the status page are no Python, and lie beside what serves them."""
        environment = fresh(RUNNING)
        self.install(environment, built().wheel)
        folder = environment.packages / "py2p_twisted/web/assets"
        for name in ("index.html", "app.js", "app.css", "favicon.svg"):
            self.assertTrue((folder / name).is_file(), name)

    def test_mypy_sees_the_types(self) -> None:
        """A program with a mistake is told of it by mypy, one without is not."""
        mypy = shutil.which("mypy", path=str(Path(sys.executable).parent))
        if mypy is None:
            raise SkipTest("mypy is not installed beside the Python that runs the tests")
        environment = fresh(RUNNING)
        self.install(environment, built().wheel)
        folder = new_folder("mypy")
        python = f"--python-executable={environment.program('python')}"
        for name, line, status in (
            ("right", "text: str = get_lan_ip()", 0),
            ("wrong", "number: int = get_lan_ip(5)", 1),
        ):
            source = f"from py2p_twisted.utils import get_lan_ip\n{line}\n"
            (folder / f"{name}.py").write_text(source)
            command = [mypy, "--strict", python, "--cache-dir=/dev/null", f"{name}.py"]
            done = run(command, folder, timeout=4 * PATIENCE)
            self.assertEqual(done.returncode, status, done.stdout + done.stderr)
            if status:
                self.assertEqual(done.stdout.count("error:"), 2, done.stdout)
