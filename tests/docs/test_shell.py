"""
Every command of the documents is found, and is run or has a reason not to be.

`tests.integration.shell_check` runs them.
"""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent, indent

from twisted.trial.unittest import SynchronousTestCase

from tests.docs import blocks
from tests.docs.blocks import ROOT
from tests.docs.shell import (
    File,
    ShellBlock,
    blocks_of,
    ended_as,
    excuses_of,
    in_project,
    is_in_vain,
    pages,
    parts_of,
    problems_of,
    shown_in,
)

#: All that is excused, by page and the first line of each. Whoever adds one, adds it here.
EXCUSED: dict[str, list[str]] = {
    "README.md": [
        "$ python3 -m venv .venv && .venv/bin/pip install -q '.[test]' && .venv/bin/python -m twisted.trial tests",
    ],
    "bench/README.md": [
        "$ python -m bench            # everything, under three minutes",
        "$ python -m tests.integration.reference --install .reference-env",
    ],
    "docs/howto/commands.rst": ['$ pip install "py2p_twisted[completion]"'],
    "docs/howto/discovery.rst": ["$ podman build -f contrib/container/Containerfile -t py2p ."],
    "docs/howto/examples.rst": ["crontab"],
    "docs/howto/first-network.rst": ["$ python3 -m venv ~/py2p && ~/py2p/bin/pip install ."],
    "docs/howto/monitoring.rst": [
        'args: ["node", "--listen=tcp:4444", "--join=mesh:4444", "--web=tcp:8080:interface=0.0.0.0"]',
        "scrape_configs:",
        "groups:",
    ],
    "docs/howto/troubleshooting.rst": [
        "this machine's clock disagrees with its peers' by -3600 s; stamps are corrected by that, but please set the clock",
    ],
    "docs/howto/twistd.rst": [
        "py2p.service",
        "$ python3 -m venv /opt/py2p && /opt/py2p/bin/pip install .",
        "$ podman build -f contrib/container/Containerfile -t py2p .",
        "$ docker compose -f contrib/compose/compose.yaml up --build --detach",
    ],
}


class PageTests(SynchronousTestCase):
    def test_looks(self) -> None:
        """Every block of every page is run, or is a file that is used, or is excused."""
        for page in pages():
            self.assertEqual(problems_of(page), [])

    def test_no_command_escapes(self) -> None:
        """Every line with a prompt belongs to a block that has been found."""
        commands = 0
        for page in pages():
            covered: set[int] = set()
            for block in blocks_of(page):
                piece = block.piece
                covered.update(range(piece.line, piece.line + len(piece.source.splitlines())))
            for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
                if line.lstrip().startswith("$ "):
                    self.assertIn(number, covered, f"{page.name}:{number}")
                    commands += 1

    def test_excuses(self) -> None:
        """These are excused, and no others."""
        found = {str(page.relative_to(ROOT)): excuses_of(page) for page in pages()}
        self.assertEqual({page: excuses for page, excuses in found.items() if excuses}, EXCUSED)

    def test_the_readme(self) -> None:
        """Its demos are run, in a copy of the project."""
        readme = ROOT / "README.md"
        self.assertTrue(in_project(readme))
        demos = [block for block in blocks_of(readme) if "py2p demo" in block.name]
        self.assertEqual([demo.excused for demo in demos], [False, False])


def page_of(test: SynchronousTestCase, text: str, name: str = "page.rst") -> Path:
    """A page with this text."""
    folder = Path(test.mktemp()).resolve()
    folder.mkdir(parents=True)
    page = folder / name
    page.write_text(dedent(text), encoding="utf-8")
    return page


def console(text: str, *comments: str, language: str = "console") -> str:
    """One block, with comments before it."""
    said = "".join(f".. {comment}\n" for comment in comments)
    return f"{said}\n.. code-block:: {language}\n\n{indent(dedent(text).strip(), '    ')}\n\n"


class FinderTests(SynchronousTestCase):
    def block(self, text: str, *comments: str, language: str = "console") -> ShellBlock:
        """The only block of a page."""
        (block,) = blocks_of(page_of(self, console(text, *comments, language=language)))
        return block

    def test_commands_and_what_comes_back(self) -> None:
        """Lines with a prompt are commands, the others are what the one above has printed."""
        block = self.block("$ one\n1\n\n1\n$ two\n\n$ three")
        self.assertEqual([step.text for step in block.steps], ["one", "two", "three"])
        self.assertEqual([step.want for step in block.steps], [["1", "", "1"], [], []])
        self.assertEqual([step.line for step in block.steps], [4, 8, 10])
        self.assertEqual(
            (block.terminal, block.statuses(block.steps[0]), block.running), ("first", {0}, None)
        )

    def test_longer_commands(self) -> None:
        """A command goes on behind a backslash, and to the end of a text of its own."""
        for mark in ("> ", ""):
            block = self.block(
                f"$ one \\\n{mark}  two \\\n{mark}  three\nout\n"
                f"$ cat <<-'END' > file\n{mark}$ text\n{mark}\tEND\n> out"
            )
            self.assertEqual(
                [(step.text, step.want) for step in block.steps],
                [
                    ("one \\\n  two \\\n  three", ["out"]),
                    ("cat <<-'END' > file\n$ text\n\tEND", ["> out"]),
                ],
            )
        (step, other) = self.block("$ cat <<< word\nword\n$ echo $((1<<2))\n4").steps
        self.assertEqual((step.want, other.want), (["word"], ["4"]))

    def test_scripts(self) -> None:
        """A script has commands only; its comments and empty lines are none."""
        block = self.block("# why\none\n\n  two \\\n    more\ncat <<A\n# B\nA\n", language="sh")
        self.assertEqual(
            [(step.text, step.want, step.line) for step in block.steps],
            [("one", None, 5), ("  two \\\n    more", None, 7), ("cat <<A\n# B\nA", None, 9)],
        )

    def test_administrators(self) -> None:
        """Their prompt is another one; behind ours it is what programs print."""
        self.assertTrue(self.block("# systemctl start it\n# reboot").root)
        block = self.block("$ curl there\n# HELP what it is\nit 1")
        self.assertFalse(block.root)
        self.assertEqual(block.steps[0].want, ["# HELP what it is", "it 1"])

    def test_keys_and_lines(self) -> None:
        """Keys and announced lines are typed, with whatever prompt the program has."""
        block = self.block(
            "ready\n> hello\nyou: hello\nhello\n^D\nbye\n$ two\n> ^C\npress ^C",
            "terminal: chat",
            "typed: hello",
            "exits: 130",
        )
        self.assertEqual(block.first, ["ready"])
        self.assertEqual(
            [(step.kind, step.text, step.prompt, step.want) for step in block.steps],
            [
                ("line", "hello", "> ", ["you: hello", "hello"]),
                ("key", "D", "", ["bye"]),
                ("command", "two", "", []),
                ("key", "C", "> ", ["press ^C"]),
            ],
        )
        self.assertEqual(block.terminal, "chat")
        self.assertEqual([block.statuses(step) for step in block.steps], [{0}, {0}, {0}, {130}])
        (step,) = (block := self.block("^C")).steps
        self.assertEqual(block.statuses(step), {0, 130})

    def test_comments(self) -> None:
        """Comments belong to the block behind them; they may be long, and many."""
        text = """
            .. terminal: away

            Text.

            .. no-run: a reason that does not fit into one line of the page, because
               it has so many words
            .. terminal: second
            .. typed: a
            .. typed: b

            .. code-block:: console

                $ one

            .. shows: second

            ::

                text
            """
        one, two = blocks_of(page_of(self, text))
        self.assertTrue(one.piece.comments["no-run"].endswith("because it has so many words"))
        self.assertEqual((one.terminal, one.piece.comments["typed"]), ("second", "a\nb"))
        self.assertEqual((two.terminal, two.first, two.steps), ("second", ["text"], []))

    def test_markdown(self) -> None:
        """Fences work the same; comments to others do not stand between."""
        text = """
            <!-- exits: 2 -->
            <!-- the test command -->
            ```console
            $ one
            ```

            * and

              <!-- no-run: a long enough reason -->
              ```sh
              two
              ```
            """
        page = page_of(self, text, "page.md")
        one, two = blocks_of(page)
        self.assertEqual((one.name, one.statuses(one.steps[0]), one.excused), ("$ one", {2}, False))
        self.assertEqual((two.name, two.excused, two.piece.line), ("$ two", True, 12))
        self.assertTrue(in_project(page))

    def test_files(self) -> None:
        """A block with a file's name above it is that file, and no Python session."""
        page = page_of(
            self,
            """
            .. code-block:: python
                :caption: sub/app.py

                x = 1

            .. code-block:: python
                :caption: What it does

                x = 2

            .. code-block:: console
                :caption: Terminal

                $ python sub/app.py

            .. literalinclude:: page.txt
                :caption: ~/notes
                :language: text
            """,
        )
        page.with_name("page.txt").write_text("included\n")
        one, two, three = parts_of(page)
        assert isinstance(one, File)
        assert isinstance(three, File)
        self.assertEqual((one.path, one.source), ("sub/app.py", "x = 1\n"))
        self.assertIsInstance(two, ShellBlock)
        self.assertEqual((three.path, three.source), ("~/notes", "included\n"))
        self.assertEqual([block.source for block in blocks.blocks_of(page)], ["x = 2"])
        self.assertFalse(in_project(page))

    def test_excuses(self) -> None:
        """Whatever is excused is listed, but for Python, which has its own list."""
        reason = "no-run: a fine reason"
        page = page_of(
            self,
            console("$ one\n$ two", reason)
            + console("$ three")
            + console(":caption: four.toml\n\nx = 1", reason, language="toml")
            + console("x = 1\ny = 2", reason, language="toml")
            + console("x = 1", reason, language="python")
            + f".. {reason}\n\n.. literalinclude:: some/it.service\n",
        )
        self.assertEqual(excuses_of(page), ["$ one", "four.toml", "x = 1", "it.service"])


class ProblemTests(SynchronousTestCase):
    """Pages that could not be run as they are meant."""

    def assert_problem(self, text: str, *words: str, name: str = "page.rst") -> None:
        """There is one problem, about these words; none is no problem."""
        problems = problems_of(page_of(self, text, name))
        self.assertEqual(len(problems), bool(words), problems)
        for word in words:
            self.assertIn(word, problems[0])

    def test_languages(self) -> None:
        """A block has a language that says what is to be done with it."""
        for text in ("$ ls", "pip install x", "./run it", "# reboot", "sudo reboot"):
            for language in ("text", "none"):
                self.assert_problem(console(text, language=language), "looks like", text)
            self.assert_problem(f"Like so::\n\n    {text}\n", "looks like", text)
            self.assert_problem(f"```\n{text}\n```\n", "looks like", text, name="page.md")
            self.assert_problem(console(text, "shows: first", language="text"))
        self.assert_problem(console("a -> b", language="text"))
        self.assert_problem(console("x = 1", language="python"))
        self.assert_problem(console("ls", language="powershell"), "(powershell)", "neither run")
        self.assert_problem(console("a = 1", language="toml"), "(toml)", "neither run")
        self.assert_problem(console("a = 1", "no-run: a fine reason", language="toml"))
        self.assert_problem(".. literalinclude:: x.service\n", "included", "neither run")

    def test_excuses(self) -> None:
        """An excuse says why."""
        for language in ("console", "sh", "toml"):
            self.assert_problem(console("$ ls", "no-run: because", language=language), "a reason")
            self.assert_problem(console("$ ls", "no-run: because of it", language=language))

    def test_files(self) -> None:
        """A file is in reach, and is used by a command below it or by a file that is."""
        conf = console(":caption: a/conf.toml\n\nx = 1", language="toml")
        use = console("$ run --config=a/conf.toml")
        self.assert_problem(conf + use)
        self.assert_problem(use + conf, "no command below uses a/conf.toml")
        self.assert_problem(conf + console("$ run a/conf.toml.old xconf.toml"), "no command")
        self.assert_problem(
            conf + console("$ run conf.toml", "no-run: a fine reason"), "no command"
        )
        script = console(":caption: go.py\n\nopen('a/conf.toml')", language="python")
        self.assert_problem(conf + script + console("$ python -m go"))
        self.assert_problem(script + conf + console("$ python go.py"))
        problems = problems_of(page_of(self, conf + script))
        self.assertEqual(len(problems), 2)
        for path in ("/etc/conf.toml", "../conf.toml"):
            page = conf.replace("a/conf.toml", path)
            self.assert_problem(page + use, "out of the page's reach")
            excuse = ".. no-run: nobody has it there\n"
            self.assert_problem(f"{excuse}{page}" + use)

    def test_administrators(self) -> None:
        """What needs their rights is not run."""
        self.assert_problem(console("# reboot"), "administrator")
        self.assert_problem(console("# reboot", "no-run: you would not like it"))

    def test_running(self) -> None:
        """What goes on running shows that it does, or says that it will not."""
        until = "running: until the end"
        self.assert_problem(console("$ run\nready", until))
        self.assert_problem(console("$ run", until), "has to show")
        self.assert_problem(console("$ run\n...", until), "has to show")
        self.assert_problem(console("run", until, language="sh"), "has to show")
        self.assert_problem(console("$ run", "running: silently, until the end"))
        self.assert_problem(console("$ run\nready", "running:"), "until when")
        self.assert_problem(console("ready", until), "nothing goes on running")

    def test_typed_lines(self) -> None:
        """Lines that are to be typed stand in the block, in their order."""
        self.assert_problem(console("a\n1\nb\n2", "typed: a", "typed: b"))
        self.assert_problem(console("a\n1\nb\n2", "typed: b", "typed: a"), "in order")
        self.assert_problem(console("a\n1", "typed: c"), "in order")

    def test_other_comments(self) -> None:
        """A status is a number; a block says something."""
        self.assert_problem(console("$ false", "exits: badly"), "no exit status")
        self.assert_problem(console("..."), "nothing in this block")
        self.assert_problem(console("text", "shows:", language="text"), "which terminal")


class MatchTests(SynchronousTestCase):
    """Whether a terminal shows what a page does."""

    def test_the_end(self) -> None:
        """All lines are as they should be; empty space at the end does not matter."""
        self.assertTrue(ended_as(["a", "", "b"], ["a ", "", "b", ""]))
        self.assertTrue(ended_as([], ["", ""]))
        for got in (["a"], ["a", "b"], ["b", "", "a"], ["", "a", "", "b"], ["a", "", "b", "c"]):
            self.assertFalse(ended_as(["a", "", "b"], got), got)
        self.assertFalse(ended_as(["a.c"], ["abc"]))
        self.assertFalse(ended_as(["a"], [" a"]))

    def test_dots(self) -> None:
        """Within a line they stay within it; by themselves they are as many lines as needed."""
        self.assertTrue(ended_as(["a...d"], ["abcd"]))
        self.assertTrue(ended_as(["...a..."], ["a"]))
        self.assertFalse(ended_as(["a...d"], ["a", "d"]))
        self.assertFalse(ended_as(["a..."], ["a", "b"]))
        for got in (["a", "b"], ["a", "x", "b"], ["a", "b", "b", "x", "b"]):
            self.assertTrue(ended_as(["a", "...", "b"], got), got)
        self.assertFalse(ended_as(["a", "...", "b"], ["a", "b", "c"]))
        self.assertTrue(ended_as(["..."], []))

    def test_so_far(self) -> None:
        """As few lines are taken as will do; the rest is for the next block."""
        self.assertEqual(shown_in(["a"], ["a", "a"]), (1, False))
        self.assertEqual(shown_in(["...", "b"], ["a", "b", "b"]), (2, False))
        self.assertEqual(shown_in(["a", "..."], ["a", "b"]), (1, False))
        self.assertEqual(shown_in([], ["a"]), (0, False))
        self.assertIs(shown_in(["a", "b"], ["a"]), None)
        self.assertIs(shown_in(["b"], ["a", "b"]), None)

    def test_the_line_with_the_cursor(self) -> None:
        """A line that has not ended counts if it has to, as a prompt does."""
        self.assertEqual(shown_in(["a", ">"], ["a"], "> "), (1, True))
        self.assertEqual(shown_in(["a"], ["a"], "> "), (1, False))
        self.assertIs(shown_in(["a", ">"], ["a"], "x>"), None)
        self.assertIs(shown_in(["a", ""], ["a"], ""), None)

    def test_in_vain(self) -> None:
        """What was another line will not be the right one."""
        for got in ([], ["a"], ["a", "b"], ["a", "b", "c"]):
            self.assertFalse(is_in_vain(["a", "b"], got), got)
        for got in (["b"], ["a", "c"]):
            self.assertTrue(is_in_vain(["a", "b"], got), got)
        self.assertFalse(is_in_vain(["...", "b"], ["a"]))
        self.assertTrue(is_in_vain(["a", "...", "b"], ["b"]))
