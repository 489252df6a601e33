"""
What README.md, those of bench/ and examples/, and docs/ have their readers type into a shell, typed.

Each page is gone through once, from top to bottom, on real terminals; see `tests.docs` for how
pages are written. What comes back has to be what the page shows.

The tests of the runner itself come after that: it passes pages that tell the truth, and no others.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

from twisted.trial.unittest import SynchronousTestCase

from tests.docs.blocks import ROOT
from tests.docs.shell import blocks_of, pages
from tests.integration.terminals import Disguise, Patience, Screen, is_free, perform, take_turn


class PageTests(SynchronousTestCase):
    """One test for each page with commands; they are added below."""


def _test_of(page: Path) -> Callable[[PageTests], None]:
    def test(self: PageTests) -> None:
        steps, problems = perform(page)
        self.assertEqual(problems, [], "\n" + "\n".join(problems))
        self.assertGreater(steps, 0)

    test.__doc__ = f"What {page.relative_to(ROOT)} has one type shows what stands there."
    return test


for _page in pages():
    if any(not block.excused for block in blocks_of(_page)):
        _name = re.sub(r"\W", "_", str(_page.relative_to(ROOT).with_suffix("")))
        setattr(PageTests, f"test_{_name}", _test_of(_page))


class RunnerTestCase(SynchronousTestCase):
    """Pages of these tests' own. They are less patient: nothing here takes long."""

    def perform(self, text: str, patience: Patience | None = None) -> list[str]:
        """What is wrong with a page of this text."""
        page = Path(self.mktemp()).resolve()
        page.mkdir(parents=True)
        page /= "page.rst"
        page.write_text(dedent(text), encoding="utf-8")
        return perform(page, patience)[1]

    def console(self, text: str, *comments: str, patience: Patience | None = None) -> list[str]:
        """What is wrong with a page of one block."""
        return self.perform(block(text, *comments), patience)

    def assert_wrong(self, problems: list[str], *words: str) -> None:
        """There is one thing wrong, and these words are about it."""
        self.assertEqual(len(problems), 1, problems)
        for word in words:
            self.assertIn(word, problems[0])


def block(text: str, *comments: str, language: str = "console") -> str:
    """One block of a page, with comments before it."""
    said = "".join(f".. {comment}\n\n" for comment in comments)
    body = "".join(f"   {line}\n" for line in dedent(text).strip("\n").split("\n"))
    return f"{said}.. code-block:: {language}\n\n{body}\n"


#: Prints a line, and then every line that is typed, until Ctrl-C or the end of what is typed.
PARROT = """
import sys
print("ready", flush=True)
try:
    for line in sys.stdin:
        print("heard " + line.rstrip(), flush=True)
    print("nothing more")
except KeyboardInterrupt:
    print("interrupted")
"""


def file(name: str, text: str) -> str:
    """A block that is a file."""
    return block(f":caption: {name}\n\n{text.strip()}", language="python").replace("\n\n", "\n", 1)


PARROT_FILE = file("parrot.py", PARROT)


class CommandTests(RunnerTestCase):
    """Commands that end by themselves."""

    def test_what_is_true(self) -> None:
        """What a command prints is what stands below it."""
        self.assertEqual(
            self.console(
                r"""
                $ echo one; echo two
                one
                two
                $ true
                $ printf 'a\n\n\nb\n'
                a


                b
                $ printf 'no end'
                no end
                $ echo after
                after
                """
            ),
            [],
        )

    def test_another_output(self) -> None:
        """A line that is another, missing, or not shown is found, with its place."""
        problems = self.console("$ echo one\ntwo")
        self.assert_wrong(problems, "page.rst:3: $ echo one", "should show\ntwo\n", "shows\none")
        self.assert_wrong(self.console("$ true\ntwo"), "two")
        self.assert_wrong(self.console("$ echo one"), "one")
        self.assert_wrong(self.console("$ echo one; echo two\none"), "two")
        self.assert_wrong(self.console("$ echo two; echo one\none\ntwo"), "two")

    def test_dots(self) -> None:
        """Dots stand for a part of a line, or for any number of lines."""
        for wanted in ("one 1...\n...\nlast", "...\nlast", "one ...00\n...\n...", "..."):
            self.assertEqual(self.console(f"$ echo one 100; seq 5; echo last\n{wanted}"), [])
        for wanted in ("one ...\nlast", "...\none", "...\n1 2\n...", "one ...last"):
            self.assert_wrong(self.console(f"$ echo one 100; seq 5; echo last\n{wanted}"), "last")

    def test_statuses(self) -> None:
        """A command ends with 0, or with what the page says."""
        self.assert_wrong(self.console("$ false"), "status 0, not 1")
        self.assert_wrong(self.console("$ (exit 3)", "exits: 2"), "status 2, not 3")
        self.assert_wrong(self.console("$ true", "exits: 2"), "status 2, not 0")
        self.assertEqual(self.console("$ (exit 3)", "exits: 3"), [])
        self.assertEqual(self.console("$ true\n$ false", "exits: 1"), [])
        self.assert_wrong(self.console("$ false\n$ false", "exits: 1"), "page.rst:5")
        self.assert_wrong(self.console("$ nothing-of-that-name\n..."), "status 0, not 127")

    def test_one_shell(self) -> None:
        """What a command does to the shell is there for the next; other terminals have others."""
        page = (
            block("$ mkdir inner && cd inner\n$ where=inner")
            + block("$ basename $PWD; echo $where\nwork\n", "terminal: second")
            + block("$ basename $PWD; echo $where\ninner\ninner")
            + block("$ ls -d in*\ninner", "terminal: second")
        )
        self.assertEqual(self.perform(page), [])

    def test_longer_commands(self) -> None:
        """Commands go on behind a backslash, in a text of their own, and as the shell wants it."""
        text = r"""
            $ echo one \
            >   two
            one two
            $ cat <<'END' > file
            > $ not a command
            >
            > END
            $ cat file
            $ not a command

            $ for name in a b; do
            >   echo $name
            > done
            a
            b
            $ echo 'in
            > two'
            in
            two
            """
        self.assertEqual(
            self.console(text.replace("\n            $ not a c", "\n            ...")), []
        )
        self.assert_wrong(self.console("$ echo 'one\none"), "more of")

    def test_scripts(self) -> None:
        """Lines of a script are typed one by one; what they print does not matter."""
        script = """
            # first
            cd /
            for name in a b; do
                echo $name
            done

            cat <<END
              text
            END
            test $name$PWD = b/
            """
        self.assertEqual(self.perform(block(script, language="sh")), [])
        self.assert_wrong(self.perform(block("true\nfalse\ntrue", language="sh")), "page.rst:4")

    def test_a_terminal(self) -> None:
        """Programs see a terminal of 100 columns, and what they draw is what one sees."""
        self.assertEqual(
            self.console(
                r"""
                $ test -t 0 && test -t 1 && test -t 2 && tput cols; echo $TERM
                100
                xterm
                $ printf '\033[1mbold\033[0m 10%%\r\033[Kdone\n'
                done
                $ printf 'one\ntwo\n\033[A\033[2Kthree\n'
                one
                three
                """
            ),
            [],
        )

    def test_whose_programs(self) -> None:
        """The interpreter is ours, the home is not."""
        problems = self.console(
            "$ python -c 'import twisted, sys; print(sys.prefix)'\n...\n$ ls -A ~\n$ ls -A"
        )
        self.assertEqual(problems, [])

    def test_history(self) -> None:
        """What a shell makes of an exclamation mark, it makes of it here too."""
        self.assert_wrong(self.console('$ echo "hello!you"\nhello!you'), "event not found")

    def test_a_command_that_does_not_end(self) -> None:
        """The page is given up; what is behind is not typed."""
        problems = self.console("$ sleep 600\n$ false", patience=Patience(command=1.0))
        self.assert_wrong(problems, "page.rst:3: $ sleep 600", "does not end")

    def test_the_end_of_a_shell(self) -> None:
        """Whoever leaves a terminal gets a new one next time."""
        page = block("$ x=1\n$ exit\nexit") + block("$ echo x$x\nx")
        self.assertEqual(self.perform(page), [])


class FileTests(RunnerTestCase):
    def test_files(self) -> None:
        """What has a file's name above it is a file; with other words it is none."""
        page = (
            block(":caption: sub/conf.ini\n\n[one]\n  two = 3", language="ini")
            + block(":caption: In the first terminal\n\n$ cat sub/conf.ini\n[one]\n  two = 3")
            + block(":caption: ~/.pyrc\n\nx = 1", language="python")
            + block("$ cat ~/.pyrc\nx = 1")
        )
        self.assertEqual(self.perform(page), [])

    def test_a_file_that_nobody_uses(self) -> None:
        """Nothing is run of a page with a mistake that can be seen at once."""
        page = block(":caption: conf.ini\n\n[one]", language="ini") + block("$ false")
        self.assert_wrong(self.perform(page), "no command below uses conf.ini")

    def test_a_program(self) -> None:
        """A page's program is run by its command, and not by the tests of Python blocks."""
        page = file("hello.py", "import sys\nprint('hello', *sys.argv[1:])")
        self.assertEqual(self.perform(page + block("$ python hello.py you\nhello you")), [])


class RunningTests(RunnerTestCase):
    """Programs that go on running."""

    def parrot(self, *more: str, patience: Patience | None = None) -> list[str]:
        """What is wrong with a page that starts one and goes on."""
        start = block("$ python parrot.py\nready", "running: until it is interrupted")
        return self.perform("".join([PARROT_FILE, start, *more]), patience)

    def test_ctrl_c(self) -> None:
        """A program goes on running until Ctrl-C is pressed, and then its terminal is free."""
        self.assertEqual(self.parrot(), [])
        self.assertEqual(self.parrot(block("^C\ninterrupted\n$ echo free\nfree")), [])
        self.assert_wrong(self.parrot(block("^C\nready")), "should show\n...\nready", "interrupted")
        self.assert_wrong(self.parrot(block("^C\n...\nready")), "ready")
        self.assert_wrong(self.parrot(block("^C\ninterrupted", "exits: 130")), "status 130, not 0")

    def test_killed_by_ctrl_c(self) -> None:
        """What knows nothing of Ctrl-C dies of it."""
        start = block("$ bash -c 'echo go; exec sleep 600'\ngo", "running: until it is interrupted")
        self.assertEqual(self.perform(start), [])
        self.assertEqual(self.perform(start + block("^C", "exits: 130")), [])
        self.assertEqual(self.perform(start + block("^C")), [])
        self.assert_wrong(self.perform(start + block("^C", "exits: 0")), "status 0, not 130")
        start = start.replace("exec sleep", 'trap "exit 1" INT; sleep').replace("echo go; ", "")
        start = start.replace("sleep 600", "echo go; while :; do sleep 0.1; done")
        self.assert_wrong(self.perform(start + block("^C")), "status 0 or 130, not 1")

    def test_typing(self) -> None:
        """Lines are typed into a program, and what it answers stands below."""
        typed = "one\nheard one\ntwo three\nheard two three"
        self.assertEqual(self.parrot(block(typed, "typed: one", "typed: two three")), [])
        end = f"{typed}\n^D\nnothing more\n$ true"
        self.assertEqual(self.parrot(block(end, "typed: one", "typed: two three")), [])
        self.assert_wrong(
            self.parrot(block("one\nheard two", "typed: one"), patience=Patience(show=5)),
            "should show\n...\none\nheard two",
            "heard one",
        )

    def test_all_in_one_block(self) -> None:
        """Start, dialogue and end may be shown as the one thing they are."""
        page = PARROT_FILE + block(
            "$ python parrot.py\nready\nhello\nheard hello\n^C\ninterrupted\n$ true",
            "typed: hello",
        )
        self.assertEqual(self.perform(page), [])

    def test_prompts(self) -> None:
        """A program's own prompt stands before what is typed."""
        ask = "import time; time.sleep(0.2); print('hello', input('name> '))"
        command = f'$ python -c "{ask}"'
        self.assertEqual(self.console(f"{command}\nname> ann\nhello ann\n$ true", "typed: ann"), [])
        self.assertEqual(self.console(f"{command}\nname> ann\nhello ann", "typed: ann"), [])
        start = block(f"{command}\nname>", "running: until it is answered")
        self.assertEqual(
            self.perform(start + block("name> ann\nhello ann\n$ true", "typed: ann")), []
        )
        leave = "import signal; signal.signal(2, lambda *_: exit(130)); input('name> ')"
        start = block(f'$ python -c "{leave}"\nname>', "running: until it is answered")
        self.assertEqual(self.perform(start + block("name> ^C", "exits: 130")), [])
        self.assert_wrong(
            self.console(
                f"{command}\nwho> ann\nhello ann", "typed: ann", patience=Patience(show=3)
            ),
            "name>",
        )

    def test_the_other_terminal(self) -> None:
        """What is done at one terminal may be seen at another, a moment later."""
        page = (
            block("$ touch log; tail -f log\n", "running: silently, until it is interrupted")
            + block("$ (sleep 0.5; echo one; echo two) >> log", "terminal: second")
            + block("one\ntwo", "shows: first", language="text")
        )
        self.assertEqual(self.perform(page), [])
        page = page.replace("two", "three", 1)
        self.assert_wrong(
            self.perform(page, Patience(show=5)),
            "shown at the terminal 'first'",
            "should show\n...\none\ntwo",
            "shows\none\nthree",
        )

    def test_what_came_in_between(self) -> None:
        """A block has all that is shown, without gaps; what comes before it need not be there."""
        start = block("$ bash -c 'seq 4; exec sleep 600'\n1", "running: until it is interrupted")
        for lines in ("2\n3", "3\n4", "4", "2\n...\n4"):
            page = start + block(lines, "shows: first", language="text")
            self.assertEqual(self.perform(page), [])
        for lines in ("1", "2\n4"):
            page = start + block(lines, "shows: first", language="text")
            self.assert_wrong(self.perform(page, Patience(show=3)), "2\n3\n4")
        start = block("$ bash -c 'seq 4; exec sleep 600'\n1\n3", "running: until it is interrupted")
        self.assert_wrong(self.perform(start), "should show\n1\n3\nand shows\n1\n2\n3")

    def test_progress(self) -> None:
        """What is drawn anew in its place may take its time."""
        draw = r"for n in 1 2 3; do printf \"$n\n\033[A\"; sleep 0.2; done; echo; sleep 600"
        start = block(
            f"$ bash -c '{draw}'\n3".replace('\\"', '"'), "running: until it is interrupted"
        )
        self.assertEqual(self.perform(start), [])

    def test_missing_output(self) -> None:
        """A program that does not get ready is waited for, but not for ever."""
        start = block(
            "$ bash -c 'echo almost; exec sleep 600'\nready", "running: until it is interrupted"
        )
        self.assert_wrong(self.perform(start, Patience(show=3)), "should show\nready", "almost")
        start = start.replace("echo almost", "true")
        self.assert_wrong(self.perform(start, Patience(show=3)), "should show\nready")

    def test_an_early_end(self) -> None:
        """A program that should go on running and has ended is found, whatever it has shown."""
        comment = "running: until it is interrupted"
        self.assert_wrong(self.console("$ false\nready", comment), "has ended with status 1")
        self.assert_wrong(self.console("$ echo no\nready", comment), "has ended with status 0")
        crash = block("$ echo ready; sleep 1; (exit 7)\nready", comment)
        wait = block("$ sleep 3", "terminal: second")
        self.assert_wrong(self.perform(crash + wait), "status 0, not 7")
        self.assert_wrong(self.perform(crash + wait + block("^C")), "has ended before")
        silent = "running: silently, until it is interrupted"
        self.assert_wrong(self.console("$ true", silent), "has ended with status 0")

    def test_an_end_of_its_own(self) -> None:
        """A program that has enough ends by itself, and the next command waits for that."""
        start = block(
            "$ echo ready; sleep 1; echo done; (exit 4)\nready", "exits: 4", "running: for a second"
        )
        done = block("done", "shows: first", language="text")
        self.assertEqual(self.perform(start + done + block("$ echo next\nnext")), [])
        self.assertEqual(self.perform(start + block("$ echo next\nnext")), [])
        endless = block(
            "$ bash -c 'echo ready; exec sleep 600'\nready", "running: for ever, it seems"
        )
        self.assert_wrong(
            self.perform(endless + block("$ echo next\nnext"), Patience(show=3)), "has not ended"
        )

    def test_one_that_ignores_ctrl_c(self) -> None:
        """A program that cannot be interrupted is a mistake, and is gone all the same."""
        command = "trap '' INT; echo deaf; sleep 611"
        page = block(f'$ bash -c "{command}"\ndeaf', "running: until it is interrupted")
        patience = Patience(end=2.0)
        self.assert_wrong(self.perform(page, patience), f'$ bash -c "{command}" does not end')
        self.assert_wrong(self.perform(page + block("^C"), patience)[:1], "page.rst:", "not end")

    def test_background(self) -> None:
        """What was put into the background is interrupted at the end, and named if that fails."""
        self.assertEqual(self.console("$ sleep 612 &\n[1] ..."), [])
        deaf = "trap '' INT; touch deaf; while :; do sleep 613; done"
        ready = "$ until test -e deaf; do sleep 0.1; done"
        for command in (f'$ bash -c "{deaf}" &\n...', f'$ setsid -f bash -c "{deaf}"'):
            problems = self.console(f"{command}\n{ready}", patience=Patience(end=2.0))
            self.assertIn("bash -c", problems[0])
            self.assertIn("does not end when it is interrupted", problems[0])
        self.assertNotIn("sleep 61", _processes())

    def test_errors(self) -> None:
        """A traceback that does not stand in the page is a mistake, whenever it comes."""
        source = "import time\nprint('ready', flush=True)\ntime.sleep(600)"
        page = file("loud.py", source)
        page += block("$ python loud.py\nready", "running: until it is interrupted")
        self.assert_wrong(self.perform(page), "$ python loud.py has left an error", "Interrupt")
        page += block("^C\n...", "exits: 130")
        self.assert_wrong(self.perform(page), "shows an error that the page does not", "Interrupt")
        shown = page.replace("   ...", "   Traceback (most recent call last):\n   ...")
        self.assertEqual(self.perform(shown), [])
        caught = "import traceback\ntry:\n    1 / 0\nexcept Exception:\n    traceback.print_exc()"
        page = file("loud.py", f"{caught}\nprint('ready', flush=True)\ninput()")
        page += block("$ python loud.py\n...\nready", "running: until it is interrupted")
        self.assert_wrong(self.perform(page), "shows an error", "ZeroDivisionError")
        self.assert_wrong(
            self.perform(file("loud.py", caught) + block("$ python loud.py\n...")), "shows an error"
        )


def _processes() -> str:
    names = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            names.append(place.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(names)


class DisguiseTests(RunnerTestCase):
    """Ports and addresses."""

    SERVER = "python -m http.server 4444 --bind 127.0.0.1"
    SERVES = "Serving HTTP on 127.0.0.1 port 4444 (http://127.0.0.1:4444/) ..."

    def test_ports(self) -> None:
        """A page's ports are others while it is run, and its own when it is compared."""
        get = "import urllib.request as u, pathlib; a = pathlib.Path('where.txt').read_text()"
        page = (
            block(f"$ {self.SERVER}\n{self.SERVES}", "running: until it is interrupted")
            + block(":caption: where.txt\n\nhttp://127.0.0.1:4444/where.txt", language="ini")
            + block(
                f'$ python -c "{get}; print(u.urlopen(a.strip()).read().decode())"\n'
                "http://127.0.0.1:.../where.txt\n",
                "terminal: second",
            )
            + block('127.0.0.1 - - [...] "GET /where.txt HTTP/1.1" 200 -', "shows: first")
            + block("^C\n\nKeyboard interrupt received, exiting.")
        )
        self.assertEqual(self.perform(page), [])

    def test_a_turn(self) -> None:
        """Only one page at a time has the ports that stand in it."""
        turn = take_turn(30.0)
        assert turn is not None
        self.assertIs(take_turn(0.0), None)
        turn.close()

    def test_a_busy_port(self) -> None:
        """A page's own programs can be in each other's way."""
        taken = block(f"$ {self.SERVER}\n{self.SERVES}", "running: until it is interrupted")
        again = taken.replace("running:", "terminal: second\n\n.. running:")
        self.assert_wrong(self.perform(taken + again), "page.rst:", "Address already in use")
        self.assertEqual(self.perform(taken + again.replace("4444", "4445")), [])

    def test_which_numbers(self) -> None:
        """Whole numbers of four digits from 4400 on are ports, others are not."""
        disguise = Disguise("", own=False)
        for text in ("14444", "4444.5", "0.4444", "x4444", "4544", "4444x"):
            self.assertEqual(disguise.real(text), text)
        for text in ("4444", "tcp:4444", "127.0.0.1:4444", "[::]:4445.", "4444/tcp", "--port=4444"):
            real = disguise.real(text)
            self.assertNotEqual(real, text)
            self.assertEqual(len(real), len(text))
            self.assertEqual(disguise.shown(real), text)
        self.assertEqual(disguise.real("4444 4444").split()[0], disguise.real("4444"))

    def test_own_ports(self) -> None:
        """A port is left as it is when nobody has it, for commands that name none."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            self.assertFalse(is_free(taken.getsockname()[1]))
            free = next(port for port in range(4400, 4500) if is_free(port))
            self.assertEqual(Disguise("").real(f"{free}"), f"{free}")
            taken_too = socket.create_server(("127.0.0.1", free))
            self.addCleanup(taken_too.close)
            self.assertNotEqual(Disguise("").real(f"{free}"), f"{free}")

    def test_a_pages_numbers_are_not_taken(self) -> None:
        """No port is chosen that would be another number of the page."""
        most = " ".join(str(number) for number in range(5000, 9900))
        for _ in range(5):
            self.assertGreaterEqual(int(Disguise(most, own=False).real("4444")), 9900)

    def test_addresses(self) -> None:
        """Machines of the documentation are this one."""
        disguise = Disguise("")
        self.assertEqual(disguise.real("tcp:192.0.2.7"), "tcp:127.0.2.7")
        self.assertEqual(disguise.shown("127.0.2.7 127.0.0.1"), "192.0.2.7 127.0.0.1")
        page = block(
            f"$ {self.SERVER.replace('127.0.0.1', '192.0.2.1')}\n"
            f"{self.SERVES.replace('127.0.0.1', '192.0.2.1')}",
            "running: until it is interrupted",
        )
        self.assertEqual(self.perform(page), [])


class ProjectTests(RunnerTestCase):
    def test_a_copy(self) -> None:
        """Where a page asks for it, commands are typed in a copy of the project."""
        text = block(
            "$ rm README.md && ls -1d setup.cfg tests .git .venv 2>/dev/null\nsetup.cfg\ntests",
            "project: it is about its files",
            "exits: 2",
        )
        self.assertEqual(self.perform(text), [])
        self.assertTrue((ROOT / "README.md").exists())


class ScreenTests(SynchronousTestCase):
    """What is written, and what can be seen."""

    def seen(self, *pieces: bytes) -> list[str]:
        """The lines of a screen to which this was written."""
        screen = Screen()
        for piece in pieces:
            screen.feed(piece)
        return screen.rows

    def test_lines(self) -> None:
        """Lines end with both characters; what is written over is gone."""
        self.assertEqual(self.seen(b"one\r\ntwo"), ["one", "two"])
        self.assertEqual(self.seen(b"one\rtw"), ["twe"])
        self.assertEqual(self.seen(b"one\b\bX\r\n"), ["oXe", ""])
        self.assertEqual(self.seen(b"a\tb"), ["a       b"])
        self.assertEqual(self.seen(b"x" * 300), ["x" * 300])

    def test_erasing(self) -> None:
        """The rest of a line, its beginning, all of it; and all that is below."""
        self.assertEqual(self.seen(b"three\x1b[3D\x1b[K"), ["th"])
        self.assertEqual(self.seen(b"three\x1b[3D\x1b[1K"), ["  ree"])
        self.assertEqual(self.seen(b"three\x1b[2K"), [""])
        self.assertEqual(self.seen(b"a\r\nb\r\nc\x1b[2A\r\x1b[Jd"), ["d"])
        self.assertEqual(self.seen(b"abc\x1b[2Gx\x1b[2;2Hy"), ["axc", " y"])

    def test_what_cannot_be_seen(self) -> None:
        """Colours, titles and questions leave nothing, however they are cut."""
        whole = (
            "\x1b[1;31mé\x1b[0m\x1b]0;title\x07\x1b]0;t\x1b\\\x1b[?25l\x1b(B\x1b7\x1bP1$r\x1b\\z"
        )
        data = whole.encode()
        self.assertEqual(self.seen(data), ["éz"])
        self.assertEqual(self.seen(*[data[at : at + 1] for at in range(len(data))]), ["éz"])
