"""
``py2p node``: its options, its log, and how it ends; the node itself is a toy.
"""

from __future__ import annotations

import io
import json
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger, LogPublisher

from py2p_twisted import tap
from py2p_twisted.cli import build_parser, node
from py2p_twisted.cli.running import CommandFailed, Interrupted
from py2p_twisted.daemon import start
from py2p_twisted.daemon.options import OPTIONS
from py2p_twisted.errors import CannotStart
from tests.cli.members import MemberTestCase

#: What only ``py2p node`` has: for twist and twistd the log is an option of their own.
OWN = {"--log-format", "--help"}


class ToyService:
    """
    A node that has been set up.

    :ivar calls: what was done with it.
    """

    def __init__(self, error: Exception | None = None) -> None:
        self.calls: list[str] = []
        self.start_error: str | None = None
        self.stopped: Deferred[None] = Deferred()
        self._error = error

    def startService(self) -> None:
        self.calls.append("start")
        if self._error is not None:
            raise self._error

    def stopService(self) -> Deferred[None]:
        self.calls.append("stop")
        return self.stopped


class NodeTestCase(MemberTestCase):
    """
    Tests of the command.

    :ivar made: the configurations that nodes were made with.
    """

    def setUp(self) -> None:
        super().setUp()
        self.service = ToyService()
        self.made: list[Any] = []
        self.observers: list[Any] = []
        self.ending: Callable[[Deferred[Any]], None] = lambda doing: doing.cancel()
        self.patch(start, "make_service", self._make)
        self.patch(node, "run_reactor", self._run_node)

    def _make(self, reactor: Any, configuration: Any) -> ToyService:
        self.made.append(configuration)
        self.service.stopped = Deferred()
        return self.service

    def _run_node(self, work: Any, observer: Any = None) -> Any:
        self.observers.append(observer)
        doing = Deferred.fromCoroutine(work(self.mesh.clock))
        results: list[Any] = []
        doing.addBoth(results.append)
        if not results:
            self.ending(doing)
            self.service.stopped.callback(None)
            raise Interrupted(signal.SIGTERM)
        results[0].raiseException()


class RunTests(NodeTestCase):
    def test_until_it_is_told_to_stop(self) -> None:
        """It starts, goes on, and says goodbye; that is a good end."""
        before: list[str] = []

        def ending(doing: Deferred[Any]) -> None:
            before.extend(self.service.calls)
            doing.cancel()

        self.ending = ending
        self.assertEqual(self.main("node"), 0)
        self.assertEqual(before, ["start"])
        self.assertEqual(self.service.calls, ["start", "stop"])
        self.assertEqual((self.printed(), self.said()), ("", ""))

    def test_it_waits_for_the_goodbye(self) -> None:
        """It has not ended before the service has stopped."""
        doing = Deferred.fromCoroutine(node.stay(self.service))  # type: ignore[arg-type]
        doing.cancel()
        self.assertEqual(self.service.calls[-1], "stop")
        self.assertNoResult(doing)
        self.service.stopped.callback(None)
        self.assertIsNone(self.successResultOf(doing))

    def test_impatience(self) -> None:
        """Who does not even wait for the goodbye is not made to."""
        doing = Deferred.fromCoroutine(node.stay(self.service))  # type: ignore[arg-type]
        doing.cancel()
        doing.cancel()
        self.failureResultOf(doing, CancelledError)

    def test_it_cannot_start(self) -> None:
        """Exit code 1, and the line with what to do."""
        self.service = ToyService(CannotStart("port 4444 is in use: stop its owner"))
        self.assertEqual(self.main("node"), 1)
        self.assertEqual(self.said(), "py2p node: port 4444 is in use: stop its owner\n")

    def test_it_cannot_even_be_made(self) -> None:
        def make(reactor: Any, configuration: Any) -> Any:
            raise CannotStart("there is no program of that name")

        self.patch(start, "make_service", make)
        self.assertEqual(self.main("node"), 1)
        self.assertEqual(self.said(), "py2p node: there is no program of that name\n")

    def test_a_mistake_of_our_own(self) -> None:
        """It is not hidden."""
        self.service = ToyService(ZeroDivisionError())
        self.assertRaises(ZeroDivisionError, self.main, "node")

    def test_the_reactor_is_stopped_by_somebody(self) -> None:
        """Then it says so, as every command does."""

        def run(work: Any, observer: Any) -> Any:
            raise CommandFailed("the reactor was stopped before the work was done")

        self.patch(node, "run_reactor", run)
        self.assertEqual(self.main("node"), 1)
        self.assertIn("the reactor was stopped", self.said())


class OptionTests(NodeTestCase):
    def config(self, text: str) -> str:
        """A file with this content."""
        path = Path(self.mktemp())
        path.write_text(text)
        return str(path)

    def test_defaults(self) -> None:
        """What nobody sets is what the options say."""
        self.main("node")
        (made,) = self.made
        self.assertEqual(dict(made), {option.name: option.default for option in OPTIONS})

    def test_values(self) -> None:
        """In every form in which they can be typed."""
        path = self.config('network = "alerts"\ndebug_level = 2\n')
        self.main(
            *("node", "-l", "tcp:1", "--listen=tcp:2", "-j", "192.0.2.7:4444", "--tls"),
            *("-a", "192.0.2.9", "--max-peers", "3", "--limit=max_outgoing=0", "-x", "a 'b c'"),
            *("--debug-level=5", f"--config={path}"),
        )
        (made,) = self.made
        expected = {
            "listen": ("tcp:1", "tcp:2"),
            "join": (("192.0.2.7", 4444),),
            "advertise": ("192.0.2.9", 0),
            "tls": True,
            "network": "alerts",
            "debug-level": 5,
            "max-peers": 3,
            "limit": (("max_outgoing", 0),),
            "exec": ("a", "b c"),
        }
        self.assertEqual({name: made[name] for name in expected}, expected)

    def test_check(self) -> None:
        """Every value with where it comes from; nothing is started."""
        path = self.config('network = "alerts"\ntls = true\n')
        self.assertEqual(self.main("node", "--check", "-c", path, "--network=tests"), 0)
        rows = [re.split("  +", line) for line in self.printed().splitlines()]
        self.assertIn(["network", "tests", "command line"], rows)
        self.assertIn(["tls", "yes", path], rows)
        self.assertIn(["listen", "tcp:4444", "default"], rows)
        self.assertEqual((self.made, self.said()), ([], ""))

    def test_wrong_usage(self) -> None:
        """Exit code 2, and one line that says which option and what was expected."""
        path = self.config('netwrok = "alerts"\n')
        for arguments, words in (
            (["--join=nowhere"], "--join=nowhere: expected HOST:PORT, for example"),
            (["--listen", "x"], "--listen=x: expected an endpoint, for example"),
            (["--max-message=1"], "--max-message=1: expected a size"),
            (["-c", path], f"{path}: unknown key 'netwrok', did you mean 'network'?"),
            (["-c", "/nonexistent"], "--config=/nonexistent: No such file"),
            (["--limit=max_outgoin=1"], "did you mean 'max_outgoing'?"),
            (["--log-level=loud"], "--log-level=loud: expected one of debug, info, warn"),
            (["--log-format=xml"], "argument --log-format: invalid choice: 'xml'"),
            (["--tls=yes"], "argument --tls: ignored explicit argument 'yes'"),
            (["--max-pee=1"], "unrecognized arguments: --max-pee=1"),
            (["extra"], "unrecognized arguments: extra"),
        ):
            self.assertEqual(self.main("node", *arguments), 2, arguments)
            line = self.said()
            self.assertIn(words, line)
            self.assertEqual(line.count("\n"), 1, line)
            self.assertTrue(line.endswith(" (see py2p node --help)\n"), line)
        self.assertEqual((self.made, self.printed()), ([], ""))

    def test_percent_signs(self) -> None:
        """A help text that has one does not break the help."""
        self.assertEqual(self.main("node", "--help"), 0)
        for option in OPTIONS:
            shown = " ".join(self.out.getvalue().split())
            self.assertIn(f"--{option.name}", shown)

    def test_the_end_of_help(self) -> None:
        """Two complete commands, which are right."""
        self.main("node", "--help")
        lines = self.printed().rstrip("\n").splitlines()[-2:]
        for line in lines:
            words = [word.strip('"') for word in re.findall(r'(?:[^\s"]|"[^"]*")+', line)]
            self.assertEqual(words[:2], ["py2p", "node"])
            arguments = [word.replace('"', "") for word in words[1:]]
            self.assertEqual(self.main(*arguments, "--check"), 0, line)

    def test_help_fits(self) -> None:
        """On the usual terminal, apart from what is to be copied."""
        self.patch(node.sys, "stdout", self.out)
        self.main("node", "--help")
        lines = self.printed().splitlines()
        self.assertTrue(max(map(len, lines[:-3])) <= 80)

    def test_the_same_as_twistd(self) -> None:
        """Whatever one takes the other takes, long and short."""
        twisted = tap.Options()  # type: ignore[no-untyped-call]
        theirs = {f"--{name.removesuffix('=')}" for name in twisted.longOpt}
        theirs |= {f"-{letter}" for letter in twisted.shortOpt.replace(":", "")}
        commands = build_parser()._subparsers._group_actions[0]  # type: ignore[union-attr]
        parser = commands.choices["node"]  # type: ignore[index,call-overload]
        ours = {name for action in parser._actions for name in action.option_strings}
        self.assertEqual(ours - OWN - {"-h"}, theirs - OWN)


class LogTests(NodeTestCase):
    """What is logged, and how."""

    def log(self, *arguments: str, terminal: bool = False) -> list[str]:
        """The lines of a log with one event of each level."""
        self.patch(self.err, "isatty", lambda: terminal)
        self.main("node", *arguments)
        log = Logger(namespace="toy", observer=self.observers[-1])
        for level in ("debug", "info", "warn", "error", "critical"):
            getattr(log, level)("{what} happened", what=level)
        return self.said().splitlines()

    def test_json(self) -> None:
        """Where there is no terminal, or when it is asked for."""
        for arguments, terminal in (([], False), (["--log-format=json"], True)):
            records = [json.loads(line) for line in self.log(*arguments, terminal=terminal)]
            self.assertEqual(
                [(record["level"], record["text"], record["namespace"]) for record in records],
                [(level, f"{level} happened", "toy") for level in
                 ("info", "warn", "error", "critical")],
            )  # fmt: skip

    def test_text(self) -> None:
        """On a terminal, or when it is asked for."""
        for arguments, terminal in (([], True), (["--log-format=text"], False)):
            lines = self.log(*arguments, terminal=terminal)
            self.assertEqual(len(lines), 4)
            self.assertRegex(lines[0], r"^\d{4}-\d\d-\d\dT\S+ \[toy#info\] info happened$")

    def test_levels(self) -> None:
        """From the one that is named on."""
        for number, level in enumerate(("debug", "info", "warn", "error", "critical")):
            self.assertEqual(len(self.log(f"--log-level={level}")), 5 - number)

    def test_namespaces(self) -> None:
        """The level holds for all of them."""
        self.log("--log-level=warn")
        for namespace in ("py2p_twisted.net", "twisted.internet", "log_legacy"):
            log = Logger(namespace=namespace, observer=self.observers[-1])
            log.info("quiet")
            log.warn("loud")
        self.assertEqual(self.said().count("loud"), 3)

    def test_nobody_reads_the_log(self) -> None:
        """The node does not end for that."""

        class Broken(io.StringIO):
            def write(self, text: str) -> int:
                raise BrokenPipeError

        self.patch(sys, "stderr", Broken())
        self.assertEqual(self.main("node", "--log-format=json"), 0)
        Logger(namespace="toy", observer=_guarded(self.observers[-1])).info("hello")


def _guarded(observer: Any) -> Any:
    """As Twisted's publisher calls an observer: what it raises is not for who logs."""
    return LogPublisher(observer)
