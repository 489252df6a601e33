"""``twistd py2p`` and ``twist py2p``: their options, their help, and what they start."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import shlex
import socket
import sys
from typing import Any
from unittest import mock

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.application.service import IService
from twisted.application.twist._options import TwistOptions
from twisted.python import usage
from twisted.python._shellcomp import ZshArgumentsGenerator
from twisted.scripts.twistd import ServerOptions
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

import py2p_twisted
from py2p_twisted import tap
from py2p_twisted.daemon.configuration import COMMAND_LINE, DEFAULT
from py2p_twisted.daemon.node import NodeService
from py2p_twisted.daemon.options import BY_NAME, OPTIONS, Option, limits
from py2p_twisted.tap import Options
from tests.daemon.test_start import ToySocket, busy
from tests.daemon.toys import ToyReactor
from twisted import version as twisted_version


def under(runner: str) -> Options:
    """The options as one of Twisted's runners has them."""
    options = Options()
    options.parent = ServerOptions() if runner == "twistd" else TwistOptions()
    options.parent.subCommand = "py2p"
    return options


class TapTestCase(SynchronousTestCase):
    def parse(self, *words: str, runner: str = "twistd") -> Options:
        """Options from what was typed behind ``twistd py2p``."""
        options = under(runner)
        options.parseOptions(words)
        return options

    def mistake(self, *words: str, runner: str = "twistd") -> str:
        """The one line that is printed for a mistake."""
        options = under(runner)
        error = self.assertRaises(usage.UsageError, options.parseOptions, words)
        text = str(error)
        self.assertTrue(text.isprintable(), repr(text))
        self.assertTrue(text)
        return text

    def exits(self, *words: str) -> tuple[Any, str]:
        """The status with which the process ends, and what it has printed."""
        stream = io.StringIO()
        with contextlib.redirect_stdout(stream):
            error = self.assertRaises(SystemExit, self.parse, *words)
        return error.code, stream.getvalue()

    def help(self, runner: str = "twistd", width: int = 80) -> str:
        return under(runner).getUsage(width)


def typed(option: Option, form: str) -> list[str]:
    """An option with its example, as somebody types it."""
    if option.is_switch:
        return [form]
    if form.startswith("--"):
        return [f"{form}={option.example}"]
    return [form, option.example]


def wrong_value(option: Option) -> str:
    """What this option cannot be."""
    empty = dict.fromkeys(("network", "state-dir", "control"), "")
    return {"exec": "'", **empty}.get(option.name, ":")


class ParsingTests(TapTestCase):
    def test_every_option(self) -> None:
        """Each option of the table can be typed in its long and its short form."""
        for option in OPTIONS:
            if option.name in ("check", "config"):
                continue
            forms = [f"--{option.name}"] + ([f"-{option.short}"] if option.short else [])
            expected = option.read(True if option.is_switch else option.example)
            for form in forms:
                made = self.parse(*typed(option, form)).configuration
                value = made[option.name][0] if option.repeat else made[option.name]
                self.assertEqual(value, expected, form)
                self.assertEqual(made.settings[option.name].source, COMMAND_LINE, form)

    def test_a_file(self) -> None:
        """``--config`` and ``-c`` name a file; what is typed wins over it."""
        path = self.mktemp()
        with open(path, "w") as file:
            file.write('network = "alerts"\nmax-peers = 7\n')
        for words in ([f"--config={path}"], ["-c", path]):
            made = self.parse(*words, "--max-peers=9").configuration
            self.assertEqual((made["network"], made["max-peers"]), ("alerts", 9))
            self.assertEqual(made.settings["network"].source, path)

    def test_repeated(self) -> None:
        """What may be repeated is collected, short and long forms alike; of others the last counts."""
        made = self.parse(
            "-l", "tcp:1", "--listen=tcp:2", "-j", "a:1", "--join", "b:2",
            "--network=x", "--network=y", "--limit=max_outgoing=1", "--limit", "drain_time=2",
        ).configuration  # fmt: skip
        self.assertEqual(made["listen"], ("tcp:1", "tcp:2"))
        self.assertEqual(made["join"], (("a", 1), ("b", 2)))
        self.assertEqual(made["network"], "y")
        self.assertEqual(dict(made["limit"]), {"max_outgoing": 1, "drain_time": 2.0})

    def test_nothing(self) -> None:
        """Without options there is a node with defaults."""
        made = self.parse().configuration
        self.assertEqual({setting.source for setting in made.settings.values()}, {DEFAULT})

    def test_two_parsers_do_not_meet(self) -> None:
        """Options of one parser do not show up in another."""
        self.parse("--join=a:1", "--tls")
        self.assertEqual(self.parse().given, {})

    def test_beginnings(self) -> None:
        """An option may be cut short as long as it is clear which one is meant."""
        self.assertEqual(self.parse("--netw=x").configuration["network"], "x")
        self.assertIn("--exec-", self.mistake("--exec-=x"))

    def test_an_exact_name_is_no_beginning(self) -> None:
        """``--exec`` is itself, although other options begin like it."""
        self.assertEqual(self.parse("--exec=run").configuration["exec"], ("run",))

    def test_either_runner(self) -> None:
        """twistd and twist take the same command."""
        for runner in ("twistd", "twist"):
            self.assertEqual(self.parse("--network=x", runner=runner).configuration["network"], "x")

    def test_behind_the_runners_own_options(self) -> None:
        """The runners find the command, and give it what stands behind its name."""
        for parser, words in (
            (ServerOptions(), ["-n", "--pidfile=", "py2p", "--network=x"]),
            (TwistOptions(), ["--log-format=text", "py2p", "--network=x"]),
        ):
            parser.parseOptions(words)
            self.assertEqual(parser.subCommand, "py2p")
            self.assertEqual(parser.subOptions.configuration["network"], "x")
            self.assertEqual(tap._program(parser.subOptions), "twistd" if words[0] == "-n" else "twist")  # fmt: skip


class MistakeTests(TapTestCase):
    def test_wrong_values(self) -> None:
        """The line names the option as typed, and gives an example that works."""
        for option in OPTIONS:
            if option.is_switch or option.name == "config":
                continue
            wrong = wrong_value(option)
            text = self.mistake(f"--{option.name}={wrong}")
            self.assertTrue(text.startswith(f"--{option.name}={wrong}: expected "), text)
            self.assertIn(f", for example --{option.name}=", text)
            self.assertIn(option.example, text)

    def test_examples_work_as_printed(self) -> None:
        """An example can be copied from the error message into a shell."""
        for option in OPTIONS:
            if option.is_switch or option.name == "config":
                continue
            text = self.mistake(f"--{option.name}={wrong_value(option)}")
            advice = text.rpartition("for example ")[2]
            made = self.parse(*shlex.split(advice)).configuration
            value = made[option.name][0] if option.repeat else made[option.name]
            self.assertEqual(value, option.read(option.example), advice)

    def test_a_file_that_is_not_there(self) -> None:
        """The line names the file."""
        self.assertIn("--config=/nonexistent.toml: ", self.mistake("--config=/nonexistent.toml"))

    def test_unknown_options(self) -> None:
        """An option that there is not is answered with the closest one."""
        for word, close in (
            ("--listn=tcp:1", "--listen"),
            ("--peers=3", "--max-peers"),
            ("--max-mesage=1", "--max-message"),
            ("--exec_timeout=1", "--exec-timeout"),
            ("--conf-file=x", "--config"),
            ("--debug_level", "--debug-level"),
        ):
            text = self.mistake(word)
            self.assertIn(word.partition("=")[0], text)
            self.assertTrue(text.endswith(f"did you mean {close}?"), text)

    def test_unknown_and_far_from_all(self) -> None:
        """Without a close one it is named; so is a letter."""
        self.assertEqual(self.mistake("--zzz"), "unknown option --zzz")
        self.assertEqual(self.mistake("-z"), "unknown option -z")

    def test_no_value(self) -> None:
        """An option whose value is missing is named, with an example."""
        for words in (("--join",), ("-j",), ("--tls", "--max-peers")):
            text = self.mistake(*words)
            self.assertIn(words[-1].lstrip("-"), text)
            self.assertIn("argument", text)

    def test_a_value_for_a_switch(self) -> None:
        """A switch takes no value, and says so."""
        text = self.mistake("--tls=yes")
        self.assertIn("--tls", text)
        self.assertIn("argument", text)

    def test_arguments(self) -> None:
        """Everything is said by options; what stands alone is named."""
        for words in (("4444",), ("--tls", "yes"), ("--", "--listen=tcp:1")):
            self.assertIn(repr(words[-1]), self.mistake(*words))

    def test_after_a_mistake(self) -> None:
        """The help text does not push the line about the mistake out of sight."""
        for runner in ("twistd", "twist"):
            options = under(runner)
            self.assertRaises(usage.UsageError, options.parseOptions, ["--zzz"])
            self.assertEqual(options.getUsage(), f"{runner} py2p --help shows all options.")
            self.assertLess(len(str(options).splitlines()), 4)

    @given(
        st.lists(
            st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
            | st.sampled_from([f"--{option.name}" for option in OPTIONS if option.name != "check"])
            | st.sampled_from(["-l", "-j", "--", "-", "tcp:1", "a:1", "5", "'", "--tls"]),
            max_size=4,
        )
    )
    @example(["--listen=tcp:1:interface=a\\"])
    @example(["--join", "a\nb"])
    @example(["--\n=x"])
    @example(["--exec-timeout", "9" * 5000])
    def test_any_words(self, words: list[str]) -> None:
        """Whatever is typed, it is a configuration or one line."""
        if any(word.startswith(("--h", "--v", "--c", "--_")) for word in words):
            return  # they end the process, or read files
        options = under("twistd")
        try:
            options.parseOptions(words)
        except usage.UsageError as error:
            self.assertEqual(len(str(error).splitlines()), 1, repr(str(error)))
        else:
            self.assertEqual(len(options.configuration), len(OPTIONS))


class HelpTests(TapTestCase):
    def test_every_option(self) -> None:
        """The help has each option with its letter, its meaning, and its default."""
        text = self.help()
        flat = " ".join(text.split())
        for option in OPTIONS:
            self.assertRegex(text, rf"--{option.name}[= \n]", option.name)
            if option.short:
                self.assertRegex(text, rf"-{option.short}, --{option.name}[= \n]")
            self.assertIn(option.help.rstrip(")"), flat)
        for words in ("default: tcp:4444", "default: mesh", "default: 8 MiB", "default: 60 s"):
            self.assertIn(words, flat)
        self.assertIn("may be repeated", flat)

    def test_how_to_use_it(self) -> None:
        """It begins with how to call it, and what it is for."""
        for runner in ("twistd", "twist"):
            text = str(under(runner))
            self.assertIn("py2p", text.splitlines()[0])
            self.assertIn("[options]", text.splitlines()[0])
            self.assertIn("one node of a py2p mesh network", " ".join(text.split()))

    def test_defaults_are_said_once(self) -> None:
        """An option that explains its default does not say it twice."""
        flat = " ".join(self.help().split())
        for piece in re.split(r" --(?=[a-z])", flat)[1:]:
            self.assertLessEqual(piece.count("default:"), 1, piece)

    def test_narrow(self) -> None:
        """It can be read on a narrow terminal and on a wide one."""
        for width in (40, 80, 200):
            lines = self.help(width=width).partition("A first node")[0].splitlines()
            self.assertTrue(lines)
        self.assertLess(max(map(len, self.help(width=80).splitlines())), 90)

    def test_two_complete_commands(self) -> None:
        """It ends with two commands that can be copied: a first node, and one that joins it."""
        for runner in ("twistd", "twist"):
            commands = self.help(runner).rstrip().splitlines()[-2:]
            made = []
            for command in commands:
                program, name, *words = shlex.split(command)
                self.assertEqual((program, name), (runner, "py2p"))
                made.append(self.parse(*words, runner=runner).configuration)
            first, second = made
            self.assertEqual(first["join"], ())
            port = int(first["listen"][0].partition(":")[2])
            self.assertEqual(second["join"], (("127.0.0.1", port),))
            self.assertNotEqual(first["listen"], second["listen"])
            self.assertEqual(second["exec"], ("logger", "-t", "alert"))

    def test_it_is_printed(self) -> None:
        """``--help`` prints it and ends well."""
        code, text = self.exits("--help")
        self.assertIn(code, (0, None))
        self.assertIn("--listen", text)

    def test_version(self) -> None:
        """``--version`` has both versions, ours first, and ends well."""
        code, text = self.exits("--version")
        self.assertIn(code, (0, None))
        self.assertEqual(
            text,
            f"py2p_twisted {py2p_twisted.__version__}, Twisted {twisted_version.public()}\n",
        )


class CheckTests(TapTestCase):
    def test_every_value(self) -> None:
        """``--check`` prints every value with its source, and ends well."""
        code, text = self.exits("--check", "--network=alerts", "--join=a:1")
        self.assertEqual(code, 0)
        lines = text.splitlines()
        names = {line.split("  ")[0] for line in lines}
        expected = {option.name for option in OPTIONS} - {"check", "limit"}
        self.assertEqual(names, expected | {f"limit {name}" for name in limits()})
        for name, value, source in (
            ("network", "alerts", COMMAND_LINE),
            ("join", "a:1", COMMAND_LINE),
            ("listen", "tcp:4444", DEFAULT),
            ("limit max_outgoing", "4", DEFAULT),
        ):
            self.assertIn([name, value, source], [re.split(r" {2,}", line) for line in lines])

    def test_sources_of_files(self) -> None:
        """A value from a file has the file's name behind it."""
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("[limits]\nmax_outgoing = 1\n")
        text = self.exits("-c", path, "--check")[1]
        self.assertRegex(text, rf"limit max_outgoing +1 +{re.escape(path)}\n")

    def test_wrong_values_are_no_check(self) -> None:
        """A mistake is one line as ever, and nothing is printed."""
        stream = io.StringIO()
        with contextlib.redirect_stdout(stream):
            self.mistake("--check", "--join=a")
        self.assertEqual(stream.getvalue(), "")

    def test_nothing_is_started(self) -> None:
        """A check does not try ports, which the node that runs already may have."""
        ToySocket.reset()
        self.patch(socket, "socket", ToySocket)
        self.assertEqual(self.exits("--check", "--exec=true")[0], 0)
        self.assertEqual(ToySocket.made, [])

    def test_a_program_that_is_not_there(self) -> None:
        """It is a mistake like a wrong value."""
        self.assertIn("no such program", self.mistake("--check", "--exec=/nonexistent"))


class CompletionTests(TapTestCase):
    def test_every_value_has_a_hint(self) -> None:
        """Every option with a value is completed with what stands for it; files with files."""
        data = Options.compData
        with_values = {option.name for option in OPTIONS if option.metavar}
        self.assertEqual(set(data.optActions), with_values)
        self.assertEqual(set(data.multiUse), {option.name for option in OPTIONS if option.repeat})
        self.assertEqual(set(data.descriptions), set(BY_NAME))
        for option in OPTIONS:
            if option.metavar:
                files = isinstance(data.optActions[option.name], usage.CompleteFiles)
                self.assertEqual(files, option.files, option.name)

    def test_zsh(self) -> None:
        """Twisted makes a completion of it for the shell, every option included."""
        for runner in ("twistd", "twist"):
            stream = io.BytesIO()
            ZshArgumentsGenerator(under(runner), "py2p", stream).write()
            text = stream.getvalue().decode()
            for option in OPTIONS:
                self.assertIn(f"--{option.name}", text)
                if option.short:
                    self.assertIn(f"-{option.short}", text)


class ServiceTests(TapTestCase):
    def setUp(self) -> None:
        ToySocket.reset()
        self.patch(socket, "socket", ToySocket)
        self.patch(sys, "excepthook", sys.excepthook)
        self.reactor = ToyReactor()
        replaced = mock.patch("twisted.internet.reactor", self.reactor, create=True)
        replaced.start()
        self.addCleanup(replaced.stop)

    def cannot(self, *words: str, runner: str = "twistd") -> str:
        """The line with which the process ends."""
        error = self.assertRaises(SystemExit, tap.makeService, self.parse(*words, runner=runner))
        self.assertIsInstance(error.code, str)
        text = str(error.code)
        self.assertTrue(text.isprintable(), repr(text))
        self.assertTrue(text.startswith(f"{runner} py2p: "), text)
        return text

    def test_a_service(self) -> None:
        """The runner gets a service on its own reactor, which does not listen yet."""
        made = tap.makeService(self.parse("--network=alerts", "--advertise=10.0.0.1"))
        verifyObject(IService, made)
        self.assertIsInstance(made, NodeService)
        self.assertIs(made.factory.reactor, self.reactor)
        self.assertEqual(made.network.name, "alerts")
        self.assertEqual(self.reactor.ports, [])
        made.privilegedStartService()
        self.assertEqual(len(self.reactor.ports), 1)

    def test_a_busy_port(self) -> None:
        """A port that somebody has ends the process with one line that says what to do."""
        for runner in ("twistd", "twist"):
            ToySocket.fails[4444] = busy(errno.EADDRINUSE)
            text = self.cannot(runner=runner)
            self.assertIn("port 4444 is in use", text)
            self.assertIn("--listen", text)

    def test_a_port_that_becomes_busy(self) -> None:
        """When it is taken between the check and the start, the line is the same."""
        made = tap.makeService(self.parse("--advertise=10.0.0.1"))
        from tests.daemon.test_node import taken

        self.reactor.taken[4444] = taken(4444, errno.EADDRINUSE)
        stream = io.StringIO()
        try:
            made.privilegedStartService()
        except Exception as error:
            with contextlib.redirect_stderr(stream):
                sys.excepthook(type(error), error, error.__traceback__)
        self.assertEqual(len(stream.getvalue().splitlines()), 1)
        self.assertIn("port 4444 is in use", stream.getvalue())

    def test_other_reasons(self) -> None:
        """So does whatever else is known to keep a node from starting."""
        ToySocket.fails[80] = busy(errno.EACCES)
        for words, reason in (
            (("--listen=tcp:80",), "privileges"),
            (("--exec=/nonexistent",), "--exec=/nonexistent"),
            (("--listen=nonesuch:1",), "--listen=nonesuch:1"),
            (("--listen=unix:/run/py2p.sock",), "--advertise"),
        ):
            self.assertIn(reason, self.cannot(*words))

    def test_nothing_is_left_open(self) -> None:
        """What was tried is given back before the service listens."""
        tap.makeService(self.parse("-l", "tcp:1", "-l", "tcp6:2", "--advertise=10.0.0.1"))
        self.assertEqual(len(ToySocket.made), 2)
        self.assertTrue(all(probe.closed for probe in ToySocket.made))

    def test_the_folder_stays(self) -> None:
        """Making a service changes nothing about the process besides its last words."""
        before = os.getcwd()
        tap.makeService(self.parse("--advertise=10.0.0.1"))
        self.assertEqual(os.getcwd(), before)
