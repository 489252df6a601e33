"""
``py2p chat`` in a network in memory, with a toy for the terminal.
"""

from __future__ import annotations

import argparse
import builtins
import contextlib
import getpass
import io
import os
import signal
import sys
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.cli import chat
from py2p_twisted.cli.chat import Chat, Console, TerminalConsole
from py2p_twisted.cli.lines import FileLines
from py2p_twisted.cli.running import CommandFailed
from tests.cli.members import FIRST, MemberTestCase, ToyStdin, options
from tests.net.wires import look, mute

try:
    import termios
except ImportError:  # Windows
    termios = None  # type: ignore[assignment]

ADA = ("10.0.0.1", 4444)


class ToyConsole:
    """
    What is typed and shown.

    :ivar shown: the lines that were shown.
    :ivar waiting: who waits for a line; `type` gives it one.
    """

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.waiting: Deferred[str | None] | None = None
        self.error: Exception | None = None

    def read(self) -> Deferred[str | None]:
        self.waiting = Deferred()
        return self.waiting

    def type(self, line: str | None) -> None:
        """Type a line, or the end of all."""
        assert self.waiting is not None
        self.waiting.callback(line)

    def write(self, text: str) -> None:
        if self.error is not None:
            raise self.error
        assert text.endswith("\n")
        self.shown += text.split("\n")[:-1]

    def end_line(self) -> None:
        pass


class ChatTestCase(MemberTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.use(chat)
        self.ada = self.mesh["ada"]
        self.console = ToyConsole()
        self.talk: Deferred[Any] | None = None

    def tearDown(self) -> None:
        if self.talk is not None:
            # A test that has failed in the middle leaves nothing that runs.
            self.talk.cancel()
            self.talk.addErrback(lambda failure: failure.trap(CancelledError))
            self.mesh.advance(10)

    def begin(self, *join: tuple[str, int], name: str = "cyd") -> Deferred[Any]:
        """Begin a conversation."""
        made = Chat(self.mesh.clock, options(*(join or [ADA])), name, self.console)  # type: ignore[arg-type]
        self.talk = Deferred.fromCoroutine(made.run())
        self.mesh.settle()
        return self.talk

    def type(self, *lines: str | None) -> list[str]:
        """Type lines, one after another; what is shown meanwhile."""
        before = len(self.console.shown)
        for line in lines:
            self.console.type(line)
            self.mesh.settle()
        return self.console.shown[before:]

    def shown_after(self, action: Any, seconds: float = 0) -> list[str]:
        """What is shown when something has happened."""
        before = len(self.console.shown)
        action()
        self.mesh.advance(seconds)
        return self.console.shown[before:]

    def leave(self) -> None:
        """Leave, which goes well."""
        assert self.talk is not None
        self.type(None)
        self.outcome(self.talk)
        self.assertEqual(self.ada.peers, set())


class TalkTests(ChatTestCase):
    def test_saying(self) -> None:
        """A line is a message of the name and the text."""
        self.begin()
        self.assertEqual(
            self.console.shown, [f"* joined through {FIRST} as cyd; Ctrl-D leaves, /help helps"]
        )
        self.assertEqual(self.type("hello", "  grüße ☃  "), [])
        self.assertEqual(self.inbox(), [("cyd", "hello"), ("cyd", "grüße ☃")])
        self.leave()

    def test_nothing_said(self) -> None:
        """Empty lines are not sent, and there is nothing that has to arrive."""
        self.begin()
        self.type("", "   ")
        self.leave()
        self.assertEqual(self.inbox(), [])

    def test_hearing(self) -> None:
        """Two texts are a name and a line; everything else is shown as listen does."""
        self.begin()
        for packets, shown in (
            (("ben", "hi"), r"^ben: hi$"),
            (("storm",), r"^\S+ \S+  storm$"),
            (("ben", 1), r"^\S+ \S+  ben  1$"),
            (("ben", b"hi"), r"^\S+ \S+  ben  hi$"),
            (("a", "b", "c"), r"^\S+ \S+  a  b  c$"),
            ((), r"^\S+ \S+  $"),
        ):
            (line,) = self.shown_after(lambda packets=packets: self.ada.send(*packets))
            self.assertRegex(line, shown)
        self.leave()

    def test_hostile_text(self) -> None:
        """Nothing that anybody says, or is called, does harm."""
        self.begin()
        evil = "\x1b[2J\r\n\x07\x9b7m\u202ex"
        (line,) = self.shown_after(lambda: self.ada.send(evil, evil))
        spelt = r"\x1b[2J\r\n\x07\x9b7m\u202ex"
        self.assertEqual(line, f"{spelt}: {spelt}")

    def test_a_name_of_ones_own(self) -> None:
        """It is sent as it is, and shown so that it does no harm."""
        self.begin(name="\x1b[31mred\n")
        self.assertIn(r" as \x1b[31mred\n; ", "\n".join(self.console.shown))
        self.type("hello")
        self.assertEqual(self.inbox(), [("\x1b[31mred\n", "hello")])
        self.leave()

    def test_commands(self) -> None:
        """They are not sent."""
        self.begin()
        self.assertEqual(self.type("/help"), [chat.HELP])
        self.assertEqual(self.type(" /peers "), [f"* {self.ada.id.decode()} at {FIRST}"])
        self.assertEqual(
            self.type("/frobnicate now"), [f"* there is no /frobnicate; {chat.HELP[2:]}"]
        )
        self.assertEqual(self.type("/"), [f"* there is no /; {chat.HELP[2:]}"])
        self.assertEqual(self.inbox(), [])
        self.leave()

    def test_a_slash(self) -> None:
        """Two of them are one that is said."""
        self.begin()
        self.type("//quit", "///", "a/b")
        self.assertEqual([line for _, line in self.inbox()], ["/quit", "//", "a/b"])
        self.leave()

    def test_leaving(self) -> None:
        """In three ways; what was said arrives before."""
        for word in ("/quit", "/q", None):
            talk = self.begin()
            self.type("bye", word)
            self.outcome(talk)
            self.assertEqual(self.ada.peers, set())
        self.assertEqual(self.inbox(), [("cyd", "bye")] * 3)

    def test_what_cannot_be_sent(self) -> None:
        """It is said, and the conversation goes on."""
        self.begin()
        for line in ("x\udcff", "x" * (8 * 2**20)):
            (shown,) = self.type(line)
            self.assertTrue(shown.startswith("* not sent: "), shown[:100])
        self.type("hello")
        self.assertEqual(self.inbox(), [("cyd", "hello")])
        self.leave()

    def test_a_name_that_cannot_be_sent(self) -> None:
        """The same for every line."""
        self.begin(name="\udcff")
        (shown,) = self.type("hello")
        self.assertTrue(shown.startswith("* not sent: "), shown)
        self.leave()


class PeerTests(ChatTestCase):
    """Those who come and go."""

    def test_coming_and_going(self) -> None:
        """Both is shown, with how many are left and the reason."""
        ben = self.mesh.add("ben")
        self.mesh.link("ben", "ada")
        up = self.shown_after(self.begin, 2)[1:]
        self.assertEqual(up, ["* peer up at 10.0.0.2:4444, 2 peers"])
        self.assertEqual(len(self.type("/peers")), 2)
        (down,) = self.shown_after(lambda: ben.service.stopService())
        self.assertEqual(
            down, "* peer down at 10.0.0.2:4444, because the peer closed the connection; 1 peer"
        )
        self.leave()

    def test_who_merely_has_a_look(self) -> None:
        """It is neither shown nor counted."""
        for name in ("ben", "dan", "eve"):
            self.mesh.add(name)
        self.begin(*(self.mesh[name].address for name in ("ada", "ben", "dan")))
        self.mesh.advance(5)
        (member,), eve = self.members, self.mesh["eve"]
        before = len(self.console.shown)
        look(member.factory, eve.address, eve.id)
        self.mesh.settle()
        self.assertIn(eve.id, member.routing_table)
        self.assertEqual(len(self.type("/peers")), 3)
        self.mesh.advance(60)
        self.assertNotIn(eve.id, member.routing_table)
        self.assertEqual(len(self.console.shown), before + 3)
        down, up = self.shown_after(lambda: self.mesh.kill("dan"))
        self.assertTrue(down.endswith("; 2 peers"), down)
        self.assertEqual(up, "* peer up at 10.0.0.4:4444, 3 peers")  # now it is wanted

    def test_who_has_not_decided(self) -> None:
        """A plain node counts when it is known to be one."""
        plain = self.mesh.add("ben", extensions=False)
        mute(plain.service.factory)
        self.begin()
        self.members[0].connect(*plain.address)
        self.mesh.settle()
        self.assertIn(plain.id, self.members[0].routing_table)
        (down,) = self.shown_after(lambda: self.mesh.kill("ada"), 1)
        self.assertTrue(down.endswith("; 0 peers; trying to get back"), down)
        up = self.shown_after(lambda: None, 1)
        self.assertEqual(up, ["* peer up at 10.0.0.2:4444, 1 peer"])

    def test_the_last_one_goes(self) -> None:
        """It is tried to get back; what is said meanwhile is said later."""
        talk = self.begin()
        (down,) = self.shown_after(lambda: self.mesh.kill("ada"))
        self.assertRegex(down, r"^\* peer down at .*; 0 peers; trying to get back$")
        self.assertEqual(self.type("anybody?", "/peers"), [])
        ben = self.mesh.add("ben")
        self.mesh.network.server(ADA).listen(ben.service.factory)
        up = self.shown_after(lambda: None, 20)
        self.assertEqual(up, [f"* peer up at {FIRST}, 1 peer"])
        self.assertEqual(self.inbox("ben"), [("cyd", "anybody?")])
        self.type(None)
        self.assertIsNone(self.outcome(talk))

    def test_nobody_has_heard_it(self) -> None:
        """That is a failure, at the end."""
        talk = self.begin()
        self.mesh.kill("ada")
        self.type("anybody?", None)
        self.assertIn("no neighbour has confirmed", self.failed(talk))

    def test_nobody_is_there_at_all(self) -> None:
        talk = self.begin(("10.0.0.99", 1))
        self.assertIn("could not join through 10.0.0.99:1", self.failed(talk))
        self.assertEqual(self.console.shown, [])

    def test_leaving_is_not_shown(self) -> None:
        """Who leaves knows that."""
        self.begin()
        self.assertEqual(self.type(None), [])


class EndTests(ChatTestCase):
    def test_cancelled(self) -> None:
        """While it waits for a line, and while it joins: it says goodbye."""
        for join in (ADA, ("10.0.0.99", 1)):
            talk = self.begin(join)
            talk.cancel()
            self.outcome(talk).trap(CancelledError)
            self.assertEqual(self.ada.peers, set())

    def test_the_reader_goes(self) -> None:
        """What cannot be shown ends it, with the reason."""
        for error in (BrokenPipeError(), OSError(28, "No space left on device")):
            talk = self.begin()
            self.console.error = error
            self.ada.send("ben", "hi")
            outcome = self.outcome(talk)
            self.assertIs(outcome.value, error)
            self.assertEqual(self.ada.peers, set())
            self.console.error = None

    def test_what_is_shown_at_the_end(self) -> None:
        """What cannot be shown then is no success either."""
        talk = self.begin()
        self.console.error = BrokenPipeError()
        self.ada.send("ben", "bye")
        self.console.type(None)
        self.assertIs(self.outcome(talk).value, self.console.error)

    def test_reading_fails(self) -> None:
        """The reason is told, after a goodbye."""
        talk = self.begin()
        error = OSError(5, "Input/output error")
        assert self.console.waiting is not None
        self.console.waiting.errback(error)
        self.assertIs(self.outcome(talk).value, error)
        self.assertEqual(self.ada.peers, set())


class CommandTests(MemberTestCase):
    """The command as it is typed, without a terminal."""

    def setUp(self) -> None:
        super().setUp()
        self.use(chat)

    def chat(self, *arguments: str, stdin: bytes = b"") -> int:
        """Type it."""
        return self.main("chat", f"--join={FIRST}", *arguments, stdin=stdin)

    def test_piped(self) -> None:
        """Every line is said."""
        self.assertEqual(self.chat("--name=ben", stdin="one\n\ngrüße\r\nlast".encode()), 0)
        self.assertEqual(self.inbox(), [("ben", "one"), ("ben", "grüße"), ("ben", "last")])
        self.assertEqual(
            self.printed(), f"* joined through {FIRST} as ben; Ctrl-D leaves, /help helps\n"
        )
        self.assertEqual(self.said(), "")

    def test_no_text(self) -> None:
        """What is no text is replaced."""
        self.assertEqual(self.chat("--name=ben", stdin=b"a\xff\xfeb\n"), 0)
        self.assertEqual(self.inbox(), [("ben", "a\ufffd\ufffdb")])

    def test_names(self) -> None:
        """One's own, the login name, or any."""
        self.patch(getpass, "getuser", lambda: "dana")
        self.assertEqual(self.chat(stdin=b"x\n"), 0)
        for error in (KeyError("uid"), OSError(), ImportError()):

            def getuser(error: Exception = error) -> str:
                raise error

            self.patch(getpass, "getuser", getuser)
            self.assertEqual(self.chat(stdin=b"x\n"), 0)
        self.assertEqual([name for name, _ in self.inbox()], ["dana", *["somebody"] * 3])

    def test_usage(self) -> None:
        for bad in ("--name=", "--name= ", "--join=x", "extra"):
            self.assertEqual(self.main("chat", bad), 2)
            line = self.said()
            self.assertEqual(line.count("\n"), 1)
            self.assertIn("(see py2p chat --help)", line)
        self.assertEqual(self.members, [])

    def test_signals(self) -> None:
        """One line, and a goodbye."""
        self.addCleanup(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))
        never: Deferred[str] = Deferred()
        self.patch(Console, "read", lambda console: never)
        self.later(1, self.interrupt, signal.SIGINT)
        self.assertEqual(self.chat(), 130)
        self.assertEqual(self.said(), "py2p chat: interrupted\n")
        self.assertEqual(self.mesh["ada"].peers, set())

    def test_nobody_has_heard_it(self) -> None:
        """Exit code 1, and one line."""
        ada = self.mesh["ada"]
        ada.service.on_join = lambda link: self.later(0.1, self.mesh.kill, "ada")

        def read(console: Console) -> Any:
            self.mesh.advance(1)
            return next(lines)

        lines = iter(["hello", None])
        self.patch(Console, "read", read)
        self.assertEqual(self.chat(), 1)
        self.assertIn("py2p chat: no neighbour has confirmed", self.said())


class ToyReadline:
    """A terminal that is typed at."""

    def __init__(self) -> None:
        self.buffer = ""


class ConsoleTests(SynchronousTestCase):
    """How lines are read and shown."""

    def setUp(self) -> None:
        self.out = io.StringIO()
        self.patch(sys, "stdout", self.out)

    def test_without_a_terminal(self) -> None:
        """Lines, without a prompt, until there are none."""
        there, pen = os.pipe()
        self.addCleanup(os.close, there)
        os.write(pen, "one\r\n\n☃".encode())
        os.close(pen)
        console = Console(FileLines(there))
        self.assertEqual([console.read() for _ in range(5)], ["one", "", "☃", None, None])
        console.write("shown\n")
        console.end_line()
        self.assertEqual(self.out.getvalue(), "shown\n")

    def typing(self, buffer: str, action: Any) -> str | None:
        """What comes of a line that is typed, while something happens."""
        console = TerminalConsole(lambda: buffer)

        def typed(prompt: str) -> str:
            self.out.write(prompt)
            action(console)
            return "typed"

        self.patch(builtins, "input", typed)
        return console.read()

    def test_what_is_typed_stays(self) -> None:
        """What is shown takes its line, and it goes on below that."""
        line = self.typing("half a li", lambda console: console.write("shown\nmore\n"))
        self.assertEqual(line, "typed")
        self.assertEqual(self.out.getvalue(), "> \r\x1b[Kshown\nmore\n> half a li")

    def test_nothing_is_being_typed(self) -> None:
        """Then there is nothing to keep."""
        console = TerminalConsole(lambda: "old")
        console.write("shown\n")
        console.end_line()
        self.assertEqual(self.out.getvalue(), "shown\n")

    def test_a_line_that_is_left(self) -> None:
        """What is said at the end stands below it."""
        self.typing("half", lambda console: console.end_line())
        self.assertEqual(self.out.getvalue(), "> \n")

    def test_ctrl_d(self) -> None:
        """The end, also of what is being typed."""

        def end(console: TerminalConsole) -> None:
            raise EOFError

        self.assertIsNone(self.typing("", end))

    def test_which_one(self) -> None:
        """A terminal at both ends, and not a dumb one, is needed for editing."""
        self.patch(chat, "os", SimpleNamespace(environ={"TERM": "xterm"}))
        terminal, pipe = ToyStdin(b"", terminal=True), ToyStdin(b"")
        for toy in (terminal, pipe):
            self.addCleanup(toy.close)
        for stdin, stdout, term, edits in (
            (terminal, True, "xterm", True),
            (terminal, True, "dumb", False),
            (terminal, False, "xterm", False),
            (pipe, True, "xterm", False),
        ):
            chat.os.environ["TERM"] = term
            self.patch(sys, "stdin", stdin)
            self.out.isatty = lambda stdout=stdout: stdout  # type: ignore[method-assign]
            self.assertEqual(isinstance(chat.console(), TerminalConsole), edits)

    def test_without_readline(self) -> None:
        """Lines can be typed all the same."""
        self.patch(chat, "os", SimpleNamespace(environ={"TERM": "xterm"}))
        toy = ToyStdin(b"", terminal=True)
        self.addCleanup(toy.close)
        self.patch(sys, "stdin", toy)
        self.out.isatty = lambda: True  # type: ignore[method-assign]
        with _without(self, "readline"):
            console = chat.console()
        self.assertIsInstance(console, TerminalConsole)
        console._reading = True  # type: ignore[attr-defined]
        console.write("shown\n")
        self.assertEqual(self.out.getvalue(), "\r\x1b[Kshown\n> ")


@contextlib.contextmanager
def _without(case: SynchronousTestCase, name: str) -> Any:
    """Let a module be missing."""
    before = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before


class TerminalTests(SynchronousTestCase):
    """The terminal is given back as it was."""

    def setUp(self) -> None:
        self.changes: list[Any] = []
        self.patch(sys, "stdin", SimpleNamespace(fileno=lambda: 7))

    def test_it_is_given_back(self) -> None:
        """However it ends."""
        if termios is None:
            self.skipTest("no terminals here")
        self.patch(termios, "tcgetattr", lambda number: ["as it was", number])
        self.patch(termios, "tcsetattr", lambda *change: self.changes.append(change))
        for error in (None, CommandFailed("x"), KeyboardInterrupt()):
            with contextlib.suppress(CommandFailed, KeyboardInterrupt), chat.terminal_restored():
                self.assertEqual(self.changes, [])
                if error is not None:
                    raise error
            self.assertEqual(self.changes, [(7, termios.TCSADRAIN, ["as it was", 7])])
            self.changes.clear()

    def test_a_terminal_that_has_gone(self) -> None:
        """Then there is nothing to give back."""
        if termios is None:
            self.skipTest("no terminals here")

        def gone(*change: object) -> None:
            raise termios.error(5, "Input/output error")

        self.patch(termios, "tcgetattr", lambda number: [])
        self.patch(termios, "tcsetattr", gone)
        with chat.terminal_restored():
            self.changes.append("done")
        self.assertEqual(self.changes, ["done"])

    def test_no_terminal(self) -> None:
        """What is raised inside is raised as it is."""
        toy = ToyStdin(b"")
        self.addCleanup(toy.close)
        for stdin in (toy, io.StringIO()):
            self.patch(sys, "stdin", stdin)
            with self.assertRaises(CommandFailed), chat.terminal_restored():
                raise CommandFailed("the reason")


class OptionTests(SynchronousTestCase):
    def test_defaults(self) -> None:
        """Nobody is anybody until they say so."""
        parser = argparse.ArgumentParser()
        chat.add_to(parser.add_subparsers())
        parsed = parser.parse_args(["chat"])
        self.assertEqual((parsed.name, parsed.join, parsed.tls), (None, None, False))
