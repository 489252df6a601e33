"""
Every Python block of README.md and docs/ is run, and does what the page says it does.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

from twisted.trial.unittest import SynchronousTestCase

from tests.docs.blocks import ROOT, Block, blocks_of, pages
from tests.docs.stage import perform

_EXAMPLES = ROOT / "examples"


class PageTests(SynchronousTestCase):
    """One test for each page; they are added below."""


def _test_of(page: Path) -> Callable[[PageTests], None]:
    def test(self: PageTests) -> None:
        blocks = blocks_of(page)
        ran, problems = perform(blocks)
        self.assertEqual(problems, [], "\n" + "\n".join(problems))
        excused = sum("no-run" in block.comments for block in blocks)
        included = sum(block.include is not None for block in blocks)
        self.assertEqual(ran + excused + included, len(blocks))

    test.__doc__ = f"All of {page.relative_to(ROOT)} runs, and prints what stands there."
    return test


for _page in pages():
    _name = re.sub(r"\W", "_", str(_page.relative_to(ROOT).with_suffix("")))
    setattr(PageTests, f"test_{_name}", _test_of(_page))


class CoverTests(SynchronousTestCase):
    def test_no_session_escapes(self) -> None:
        """Every line with a prompt belongs to a block that has been found."""
        for page in pages():
            covered: set[int] = set()
            for block in blocks_of(page):
                covered.update(range(block.line, block.line + len(block.source.splitlines())))
            for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
                if line.lstrip().startswith(">>>"):
                    self.assertIn(number, covered, f"{page.name}:{number}")

    def test_excuses_have_reasons(self) -> None:
        """A block that is not run says why."""
        for page in pages():
            for block in blocks_of(page):
                for word in ("no-run", "no-live"):
                    if word in block.comments:
                        self.assertGreater(len(block.comments[word]), 10, block.where)

    def test_included_code(self) -> None:
        """What pages include is there, and is an example that the integration tests run."""
        checks = (ROOT / "tests/integration/examples_check.py").read_text(encoding="utf-8")
        for page in pages():
            for block in blocks_of(page):
                if block.include is None:
                    continue
                self.assertEqual(block.include.parent, _EXAMPLES, block.where)
                self.assertIn(f'"{block.include.name}"', checks)
                self.assertTrue(block.include.exists(), block.where)
            text = page.read_text(encoding="utf-8")
            for name, part in re.findall(r"literalinclude:: (\S+)\n.*?\n +:pyobject: (\S+)", text):
                found = set(_definitions((page.parent / name).resolve()))
                self.assertIn(part, found, page.name)

    def test_the_tutorial_is_nearly_all_live(self) -> None:
        """Few of its blocks are spared on real sockets."""
        blocks = blocks_of(ROOT / "docs/tutorial.rst")
        self.assertGreater(len(blocks), 30)
        self.assertEqual(sum("no-run" in block.comments for block in blocks), 0)
        self.assertEqual(sum("no-live" in block.comments for block in blocks), 2)


def _definitions(path: Path) -> list[str]:
    """Functions, classes and methods of a file, as ``:pyobject:`` names them."""
    found = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.append(node.name)
        if isinstance(node, ast.ClassDef):
            found += [f"{node.name}.{getattr(part, 'name', '')}" for part in node.body]
    return found


def _page_of(test: SynchronousTestCase, text: str, name: str = "page.rst") -> list[Block]:
    """A page of its own, with this text."""
    page = Path(test.mktemp()).resolve()
    page.mkdir(parents=True)
    page /= name
    page.write_text(dedent(text), encoding="utf-8")
    return blocks_of(page)


class FinderTests(SynchronousTestCase):
    def test_rst(self) -> None:
        """Code blocks, literal blocks and doctest blocks are found, other code is not."""
        blocks = _page_of(
            self,
            """
            .. code-block:: python
               :caption: with an option

               one = 1

            .. code-block:: console

               $ not python

            Literally::

                >>> 2
                2

            and literally not::

                no prompt

            >>> 3
            3

            .. no-run: because it is about blocks that are not run

            .. code-block:: pycon

                >>> 4 / 0

            * in a list

              .. code-block:: python

                  five = 5
            """,
        )
        self.assertEqual(
            [block.source for block in blocks],
            ["one = 1", ">>> 2\n2", ">>> 3\n3", ">>> 4 / 0", "five = 5"],
        )
        self.assertEqual([block.line for block in blocks], [5, 13, 20, 27, 33])
        self.assertEqual(["no-run" in block.comments for block in blocks].index(True), 3)
        self.assertEqual(perform(blocks), (4, []))

    def test_markdown(self) -> None:
        """In Markdown fences are found, and comments before them."""
        blocks = _page_of(
            self,
            """
            ```sh
            not python
            ```

            ```python
            one = 1
            ```

            <!-- no-run: it would end the session -->
            ```python
            raise SystemExit(1)
            ```
            """,
            "page.md",
        )
        self.assertEqual([block.source for block in blocks], ["one = 1", "raise SystemExit(1)"])
        self.assertEqual(blocks[1].comments, {"no-run": "it would end the session"})

    def test_an_excuse_stands_right_before_its_block(self) -> None:
        """Text in between, and it is none."""
        (block,) = _page_of(
            self,
            """
            .. no-run: too far away

            Some text.

            .. code-block:: python

                x = 1
            """,
        )
        self.assertEqual(block.comments, {})


class StageTests(SynchronousTestCase):
    """The tests above can fail."""

    def problems(self, text: str) -> list[str]:
        return perform(_page_of(self, text))[1]

    def test_another_output(self) -> None:
        """What is printed has to be what the page shows, but for the dots."""
        self.assertEqual(len(self.problems(">>> 1 + 1\n3\n")), 1)
        self.assertEqual(len(self.problems(">>> 1 + 1\n")), 1)
        self.assertEqual(len(self.problems(">>> x = 1\n2\n")), 1)
        self.assertEqual(self.problems(">>> object()\n<object object at ...>\n"), [])

    def test_exceptions(self) -> None:
        """What is raised has to be what the page shows."""
        shown = "Traceback (most recent call last):\n  ...\n"
        self.assertEqual(len(self.problems(">>> {}[1]\n")), 1)
        self.assertEqual(self.problems(f">>> {{}}[1]\n{shown}KeyError: 1\n"), [])
        self.assertEqual(len(self.problems(f">>> {{}}[1]\n{shown}KeyError: 2\n")), 1)
        self.assertEqual(len(self.problems(f">>> x = 1\n{shown}KeyError: 1\n")), 1)

    def test_programs(self) -> None:
        """A program must not raise; one that waits for ever is interrupted, a session not."""
        program = ".. code-block:: python\n\n    {}\n"
        self.assertEqual(len(self.problems(program.format("1 / 0"))), 1)
        endless = "for msg in mesh.mesh_socket('127.0.0.1', 4444): pass"
        start = "from py2p_twisted import mesh"
        self.assertEqual(self.problems(program.format(f"{start}; sock = 0\n    {endless}")), [])
        self.assertEqual(len(self.problems(f">>> {start}\n>>> {endless}\n")), 1)

    def test_cases_in_a_block_are_run(self) -> None:
        """A test case that a page defines must pass, and have tests."""
        text = """
            .. code-block:: python

                from unittest import TestCase

                class Tests(TestCase):
                    def {}(self):
                        self.assertEqual(1, {})
            """
        self.assertEqual(self.problems(text.format("test_it", 1)), [])
        self.assertEqual(len(self.problems(text.format("test_it", 2))), 1)
        self.assertEqual(len(self.problems(text.format("nothing", 1))), 1)

    def test_nothing_arrives_before_it_is_waited_for(self) -> None:
        """Ports are taken, nobody answers where nobody is, and made-up nodes do."""
        text = """
            >>> from py2p_twisted import mesh
            >>> one = mesh.mesh_socket('0.0.0.0', 4444)
            >>> mesh.mesh_socket('0.0.0.0', 4444)
            Traceback (most recent call last):
              ...
            OSError: [Errno ...] cannot listen on 0.0.0.0:4444: Address already in use
            >>> one.connect('127.0.0.1', 4445).wait(10)
            Traceback (most recent call last):
              ...
            ConnectionRefusedError: 127.0.0.1:4445 refuses connections: ...
            >>> one.connect('node.example', 4445).wait(10)
            <mesh_connection ...>
            >>> one.close()
            >>> two = mesh.mesh_socket('0.0.0.0', 4444)
            """
        self.assertEqual(self.problems(text), [])

    def test_sessions_are_apart(self) -> None:
        """A new session knows none of the old one's names, and its ports are free."""
        text = """
            >>> from py2p_twisted import mesh
            >>> one = mesh.mesh_socket('127.0.0.1', 4444)

            .. session: another one

            >>> one
            Traceback (most recent call last):
              ...
            NameError: name 'one' is not defined
            """
        self.assertEqual(self.problems(text), [])
