"""
The documentation as a book: it is built without a warning, and holds what it has to.

Needs Sphinx and the book's theme: ``pip install '.[docs]'``. Nothing is asked of the network.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import subprocess
import sys
import tempfile
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted import base, errors, mesh, net, testing, utils
from py2p_twisted.cli import build_parser
from py2p_twisted.core.connection import TRANSITIONS, Kind
from py2p_twisted.core.message import Message
from py2p_twisted.core.network import Network
from py2p_twisted.core.settings import Settings
from py2p_twisted.daemon.options import OPTIONS, limits
from py2p_twisted.net.status import Status
from py2p_twisted.net.tls import Credentials, SelfMade

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

#: Seconds that building may take.
PATIENCE = 300.0

#: Names that the documented modules have from elsewhere, or that nobody but them needs.
NOT_OURS = {
    base: {"T"},
    mesh: set(),
    utils: set(),
    errors: set(),
}


def build(pages: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Make a book, as strictly as Sphinx can."""
    options = ["-n", "-W", "--keep-going", "-E", "-b", "html", "-d", str(out / "doctrees")]
    return subprocess.run(
        [sys.executable, "-m", "sphinx", *options, str(pages), str(out / "html")],
        cwd=out,
        # A proxy that nobody listens at: whoever asks the network fails.
        env={**os.environ, "https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


class Page(HTMLParser):
    """
    One page of the book.

    :ivar ids: what can be linked to.
    :ivar links: where its links lead.
    :ivar rows: the rows of its tables, each with the text of its cells.
    :ivar text: all of its text.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self._spans: list[list[Any]] = []
        self._cell: list[str] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        if said.get("id"):
            self.ids.append(str(said["id"]))
        if tag == "a" and said.get("href"):
            self.links.append(str(said["href"]))
        if tag == "table":
            self._spans = []
        if tag == "tr":
            # What stands for several rows stands in each.
            self.rows.append([text for text, left in self._spans if left > 0])
            self._spans = [[text, left - 1] for text, left in self._spans]
        if tag in ("td", "th"):
            self._cell = []
            if int(said.get("rowspan") or 1) > 1:
                self._spans = [["", int(said["rowspan"] or 1) - 1]]

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th") and self._cell is not None:
            text = " ".join("".join(self._cell).split())
            self.rows[-1].append(text)
            if self._spans and self._spans[-1][0] == "":
                self._spans[-1][0] = text
            self._cell = None

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._cell is not None:
            self._cell.append(data)


class Book:
    """
    The book, as a folder that lasts as long as this process.

    :raises AssertionError: Sphinx or the theme is missing.
    """

    def __init__(self) -> None:
        for name in ("sphinx", "furo"):
            if importlib.util.find_spec(name) is None:
                raise AssertionError(f"{name} is missing: pip install '.[docs]'")
        self._folder = tempfile.TemporaryDirectory(prefix="py2p-docs-")
        self.made = build(DOCS, Path(self._folder.name))
        self.html = Path(self._folder.name).resolve() / "html"
        self._pages: dict[str, Page] = {}

    def source(self, name: str) -> str:
        """A page, by its name without ``.html``, as it was written."""
        return (self.html / f"{name}.html").read_text(encoding="utf-8")

    def page(self, name: str) -> Page:
        """The same, read."""
        if name not in self._pages:
            self._pages[name] = Page(self.source(name))
        return self._pages[name]

    def names(self) -> list[str]:
        """The pages that are made from docs/."""
        return sorted(
            path.relative_to(DOCS).with_suffix("").as_posix()
            for path in DOCS.rglob("*.rst")
            if "_build" not in path.parts
        )


@cache
def the_book() -> Book:
    """The book, made once for all tests."""
    return Book()


class BookTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.book = the_book()


class BuildTests(BookTestCase):
    def test_there_is_no_warning(self) -> None:
        """Sphinx has nothing to complain about, and says so with its exit status."""
        self.assertEqual(self.book.made.returncode, 0, self.book.made.stdout)
        self.assertNotRegex(self.book.made.stdout, "WARNING|ERROR")

    def test_every_page_is_there(self) -> None:
        """Each page is made, has a title, and can be reached from the first."""
        contents = {link.removesuffix(".html") for link in self.book.page("index").links}
        for name in self.book.names():
            self.assertIn("<h1>", self.book.source(name))
            if name != "index":
                self.assertIn(name, contents)

    def test_links_lead_somewhere(self) -> None:
        """Every link within the book leads to a page, and to a place on it, that exist."""
        for name in self.book.names():
            here = self.book.html / f"{name}.html"
            for link in self.book.page(name).links:
                if re.match(r"[a-z]+:", link):
                    continue
                page, _, place = link.partition("#")
                target = (here.parent / page).resolve() if page else here
                self.assertTrue(target.exists(), f"{name}: {link}")
                if place and target.suffix == ".html":
                    there = target.relative_to(self.book.html).with_suffix("").as_posix()
                    self.assertIn(place, self.book.page(there).ids, f"{name}: {link}")

    def test_no_markup_is_left_over(self) -> None:
        """Readers see no backticks, roles or directives that were not understood."""
        code = re.compile(r"<pre>.*?</pre>|<code.*?</code>|<script.*?</script>", re.DOTALL)
        for name in self.book.names():
            text = code.sub("", self.book.source(name))
            for left in (r"``", r":\w+:`", r"\.\. [\w-]+::", r":ivar ", r":param "):
                found = re.search(rf".*{left}.*", text)
                self.assertIsNone(found, f"{name}: {found and found[0]}")

    def test_a_broken_page_is_noticed(self) -> None:
        """The tests above can fail: a name that nothing has ends the build."""
        pages = Path(self.mktemp()).resolve()
        (pages / "_static").mkdir(parents=True)
        (pages / "_static/book.css").touch()
        conf = (DOCS / "conf.py").read_text(encoding="utf-8")
        here = "Path(__file__).resolve().parent"
        self.assertIn(here, conf)
        (pages / "conf.py").write_text(conf.replace(here, f"Path({str(DOCS)!r})"), "utf-8")
        for name, status in (("mesh_socket", 0), ("mesh_sockets", 1)):
            (pages / "index.rst").write_text(f"Title\n=====\n\n`{name}`\n", encoding="utf-8")
            made = build(pages, pages)
            self.assertEqual(made.returncode, status, made.stdout)
            self.assertEqual("WARNING" in made.stdout, status != 0)


class StateTests(BookTestCase):
    def test_every_row(self) -> None:
        """The page of states has every state, all that can come in it, and where that leads."""
        page = self.book.page("protocol/states")
        for state, legal in TRANSITIONS.items():
            self.assertIn(f"state-{state.value}", page.ids)
            if not legal:
                self.assertIn([state.value, "anything", "is not read"], page.rows)
            for kind in Kind if legal else ():
                after = legal[kind].value if kind in legal else "the connection ends"
                self.assertIn([state.value, kind.value, after], page.rows)


class CommandTests(BookTestCase):
    def test_every_command_and_option(self) -> None:
        """Whatever --help lists of a command has a place of its own in the reference."""
        page = self.book.page("reference/commands")
        (commands,) = [one for one in build_parser()._actions if isinstance(one.choices, dict)]
        self.assertIn("demo", commands.choices or {})
        for name, parser in dict(commands.choices or {}).items():
            self.assertIn(f"command-py2p-{name}", page.ids)
            shown = re.findall(r"^  (?:-\w[^,]*, )?(--[\w-]+)", parser.format_help(), re.M)
            for option in set(shown) - {"--help"}:
                self.assertIn(f"cmdoption-py2p-{name}-{option.lstrip('-')}", page.ids)

    def test_configuration(self) -> None:
        """Every key and every limit of a node's file is on the page about it."""
        rows = self.book.page("reference/configuration").rows
        first = {cell for row in rows for cell in row[:1]}
        for option in OPTIONS:
            if option.in_file and option.name != "limit":
                self.assertIn(option.name, first)
        self.assertEqual(set(limits()) - set(" ".join(first).split()), set())


class ApiTests(BookTestCase):
    def described(self, module: str) -> set[str]:
        """What a page of the API describes, by full names."""
        return set(self.book.page(f"api/{module}").ids)

    def assert_members(self, page: str, full_name: str, of: type, *left_out: str) -> None:
        """A class is described, with all that it has itself and gives to others."""
        described = self.described(page)
        self.assertIn(full_name, described)
        for name, value in vars(of).items():
            public = not name.startswith("_") and name not in left_out
            if public and (callable(value) or isinstance(value, property | classmethod)):
                self.assertIn(f"{full_name}.{name}", described)

    def test_modules(self) -> None:
        """Each public name of the modules for scripts has its place."""
        for module in (base, mesh, utils, errors):
            page = "base" if module is utils else module.__name__.rpartition(".")[2]
            for name in _public(module) - NOT_OURS[module]:
                self.assertIn(f"{module.__name__}.{name}", self.described(page))

    def test_packages(self) -> None:
        """So has all that the packages for Twisted offer."""
        for module, page in ((net, "net"), (testing, "testing")):
            for name in module.__all__:
                self.assertIn(f"{module.__name__}.{name}", self.described(page))

    def test_members(self) -> None:
        """Methods and properties of the classes that users meet are described."""
        for page, name, of in (
            ("mesh", "mesh.mesh_socket", mesh.mesh_socket),
            ("mesh", "mesh.mesh_connection", mesh.mesh_connection),
            ("base", "base.base_socket", base.base_socket),
            ("base", "base.base_connection", base.base_connection),
            ("base", "base.message", base.message),
            ("base", "base.Pending", base.Pending),
            ("net", "net.Delivery", net.Delivery),
            ("net", "net.Application", net.Application),
            ("net", "net.MeshFactory", net.MeshFactory),
            ("net", "core.network.Network", Network),
            ("net", "core.message.Message", Message),
            ("net", "net.tls.Credentials", Credentials),
            ("testing", "testing.MemoryMesh", testing.MemoryMesh),
            ("testing", "testing.MemoryNode", testing.MemoryNode),
        ):
            self.assert_members(page, f"py2p_twisted.{name}", of)
        told = [name for name in vars(net.Application) if not name.startswith("_")]
        self.assert_members("net", "py2p_twisted.net.MeshService", net.MeshService, *told)
        for name in Settings.__dataclass_fields__:
            self.assertIn(f"py2p_twisted.core.settings.Settings.{name}", self.described("net"))
        for of in (Status, SelfMade):
            self.assertIn(f"{of.__module__}.{of.__name__}", self.described("net"))

    def test_attributes(self) -> None:
        """Attributes that docstrings name can be linked to."""
        self.assertIn("py2p_twisted.mesh.mesh_socket.out_addr", self.described("mesh"))
        self.assertIn("py2p_twisted.net.Delivery.packets", self.described("net"))

    def test_the_words_of_errors(self) -> None:
        """Each word for what goes wrong with a peer stands in the table, beside its exception."""
        rows = self.book.page("api/errors").rows
        for error in vars(errors).values():
            if not inspect.isclass(error) or not issubclass(error, errors.RemoteError):
                continue
            if not error.__subclasses__():
                found = [row for row in rows if row[:2] == [error.reason, error.__name__]]
                self.assertEqual(len(found), 1, error)


def _public(module: ModuleType) -> set[str]:
    """The names that a module defines itself and gives to others."""
    source = inspect.getsource(module)
    defined = re.findall(r"^(?:async )?(?:class|def) (\w+)|^(\w+)(?:: [^=\n]+)? = ", source, re.M)
    return {
        name
        for names in defined
        for name in names
        if name and not name.startswith("_") and name not in ("log", "logger")
    }
