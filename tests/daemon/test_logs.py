"""Log lines as JSON: one valid object a line, whatever was logged."""

from __future__ import annotations

import ast
import io
import json
import math
import os
import re
import sys
from pathlib import Path
from socket import AF_INET
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.defer import ensureDeferred
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import (
    ILogObserver,
    LogBeginner,
    Logger,
    LogLevel,
    LogPublisher,
    capturedLogs,
    eventAsJSON,
    jsonFileLogObserver,
)
from twisted.python.failure import Failure
from twisted.python.log import LogPublisher as LegacyPublisher
from twisted.python.logfile import LogFile
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

import py2p_twisted
from py2p_twisted.core import beacon
from py2p_twisted.core.network import Network
from py2p_twisted.daemon import logs
from py2p_twisted.daemon.configuration import configure
from py2p_twisted.daemon.logs import (
    EVENTS,
    json_line,
    json_lines,
    json_to_file,
    json_to_stdout,
    quiet,
)
from py2p_twisted.daemon.node import NodeService
from py2p_twisted.net import discovery
from py2p_twisted.net.interfaces import Interface
from py2p_twisted.testing import MemoryMesh
from py2p_twisted.web import WebService
from tests.core.support import frame, pack_body
from tests.daemon.toys import HOSTILE, ToyReactor
from tests.web.people import request

PACKAGE = Path(py2p_twisted.__file__).parent

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=[]))
    | st.binary()
    | st.just(object())
    | st.just(LogLevel.warn),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=3,
)
names = st.text(min_size=1, max_size=8).filter(lambda name: not name.startswith("log_"))


def strict(line: str) -> dict[str, Any]:
    """The object in a line, which must be JSON as the standard has it."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    assert line.endswith("\n")
    assert line.count("\n") == 1
    assert line.isascii()
    found = json.loads(line, parse_constant=refuse)
    assert isinstance(found, dict)
    return found


class Loud:
    """Something that cannot be printed."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class LineTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.log = Logger(
            namespace="py2p_twisted.test",
            observer=lambda event: self.lines.append(strict(json_line(event))),
        )

    def test_a_line(self) -> None:
        """Time in UTC, level, namespace, text, and what the event has."""
        self.log.warn("{peer} is {state}", peer="Ada", state="slow", event="slow", count=3)
        (line,) = self.lines
        moment = line.pop("time")
        self.assertRegex(moment, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertEqual(
            line,
            {
                "level": "warn",
                "namespace": "py2p_twisted.test",
                "text": "Ada is slow",
                "peer": "Ada",
                "state": "slow",
                "event": "slow",
                "count": 3,
            },
        )

    def test_time(self) -> None:
        """A stamp is the moment of the event, to the millisecond."""
        for seconds, text in (
            (0.0, "1970-01-01T00:00:00.000Z"),
            (1_790_000_000.25, "2026-09-21T14:13:20.250Z"),
            (1_790_000_000.9996, "2026-09-21T14:13:20.999Z"),
        ):
            event = {"log_time": seconds, "log_format": "x"}
            self.assertEqual(strict(json_line(event))["time"], text)

    def test_levels(self) -> None:
        """Each level is named as Twisted names it."""
        for level in LogLevel.iterconstants():
            self.log.emit(level, "x")
        self.assertEqual(
            [line["level"] for line in self.lines], ["debug", "info", "warn", "error", "critical"]
        )

    def test_line_breaks_are_escaped(self) -> None:
        """However many lines a text has, it is one here."""
        self.log.info("{text}", text="a\nb\r\nc\u2028d\x85e\x00\x1b[2J", more="\n\n")
        self.assertEqual(self.lines[0]["text"], "a\nb\r\nc\u2028d\x85e\x00\x1b[2J")
        self.assertEqual(self.lines[0]["more"], "\n\n")

    def test_failures(self) -> None:
        """A failure brings its traceback, in the same line."""
        try:
            raise ValueError("broken\nin two")
        except ValueError:
            self.log.failure("in {callback}", callback="on_message")
        (line,) = self.lines
        self.assertEqual((line["level"], line["text"]), ("critical", "in on_message"))
        self.assertIn("ValueError: broken\nin two", line["traceback"])
        self.assertIn("test_logs.py", line["traceback"])

    def test_failures_that_are_given(self) -> None:
        """So does one that was caught elsewhere, and has no stack any more."""
        self.log.failure("later", Failure(OSError(28, "No space left on device")))
        self.assertIn("No space left", self.lines[0]["traceback"])

    def test_only_plain_fields(self) -> None:
        """Numbers, texts and switches are taken over; objects stand in the text alone."""
        self.log.info(
            "{link}", link=object(), names=["a"], table={1: 2}, data=b"\xff", flag=True, none=None
        )
        self.assertEqual(set(self.lines[0]), {"time", "level", "namespace", "text", "flag", "none"})

    def test_numbers_that_json_has_not(self) -> None:
        """Infinity and what is no number do not break a line."""
        self.log.info("{rate}", rate=math.nan, most=math.inf, least=-math.inf)
        self.assertEqual(self.lines[0]["text"], "nan")

    def test_numbers_of_many_digits(self) -> None:
        """Nor does a number that takes more digits than Python prints."""
        self.log.info("large", number=10**5000)
        self.assertEqual(self.lines[0]["text"], "large")

    def test_own_fields_stay(self) -> None:
        """An event cannot replace what every line has."""
        self.log.info("said", text="other", namespace="x", time=0)
        line = self.lines[0]
        self.assertEqual(
            (line["text"], line["level"], line["namespace"]), ("said", "info", "py2p_twisted.test")
        )
        self.assertIsInstance(line["time"], str)

    def test_broken_formats(self) -> None:
        """A format that does not fit its fields is a line as well."""
        for text in ("{nonesuch}", "{0}", "{", "{a.b.c}", "{loud}"):
            self.log.info(text, loud=Loud())
        self.assertEqual(len(self.lines), 5)
        for line in self.lines:
            self.assertTrue(line["text"])

    def test_lone_surrogates(self) -> None:
        """A text that no encoding takes is written in escapes."""
        self.log.info("{name}", name="caf\udce9")
        self.assertEqual(self.lines[0]["name"], "caf\udce9")

    def test_events_of_older_code(self) -> None:
        """What was logged in the ways of before has its line too."""
        seen: list[dict[str, Any]] = []
        publisher = LegacyPublisher(publishPublisher=LogPublisher())
        publisher._observerPublisher = LogPublisher(
            lambda event: seen.append(strict(json_line(event)))
        )
        publisher._publishPublisher = publisher._observerPublisher
        publisher.msg("hello\nthere")
        publisher.msg(format="%(a)s", a=1)
        publisher.msg("one", "two", system="-")
        self.assertEqual([line["text"] for line in seen], ["hello\nthere", "1", "one two"])

    def test_nothing_known_but_the_time(self) -> None:
        """An event of anybody's may lack everything else."""
        line = strict(json_line({"log_time": 0.0}))
        self.assertEqual((line["level"], line["namespace"]), ("info", "-"))
        self.assertIsInstance(line["text"], str)

    @given(st.dictionaries(names, values, max_size=4), st.text(max_size=20))
    @example({"isError": 1, "message": ("a",), "time": math.nan}, "{isError}")
    @example({"traceback": "x", "": 1}, "{}")
    def test_any_event(self, fields: dict[str, Any], text: str) -> None:
        """Whatever an event has, it is one valid line."""
        event = {"log_time": 1.5, "log_format": text, "log_level": LogLevel.info, **fields}
        line = strict(json_line(event))
        self.assertLessEqual({"time", "level", "namespace", "text"}, set(line))


class ObserverTests(SynchronousTestCase):
    def publish(self, observer: Any) -> None:
        """Log two lines by way of an observer, as twistd does."""
        log = Logger(namespace="py2p_twisted.test", observer=observer)
        log.info("first ä", event="joined")
        log.warn("second\nline")

    def test_streams(self) -> None:
        """Lines go to text streams and to binary ones, each written out at once."""
        for stream in (io.StringIO(), io.BytesIO()):
            self.publish(json_lines(stream))
            written = stream.getvalue()
            text = written.decode("ascii") if isinstance(written, bytes) else written
            lines = [strict(line) for line in text.splitlines(keepends=True)]
            self.assertEqual([line["text"] for line in lines], ["first ä", "second\nline"])

    def test_to_stdout(self) -> None:
        """For twistd in front: lines on standard output."""
        stream = io.StringIO()
        self.patch(sys, "stdout", stream)
        observer = json_to_stdout()
        verifyObject(ILogObserver, observer)
        self.publish(observer)
        self.assertEqual(len(stream.getvalue().splitlines()), 2)

    def folder(self) -> Path:
        """An empty one, which is the current one from now on."""
        self.files: list[LogFile] = []
        make = LogFile.fromFullPath

        class Kept(LogFile):
            @classmethod
            def fromFullPath(cls, *arguments: Any, **options: Any) -> LogFile:
                self.files.append(make(*arguments, **options))
                return self.files[-1]

        self.patch(logs, "LogFile", Kept)
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        before = os.getcwd()
        self.addCleanup(os.chdir, before)
        os.chdir(folder)
        return folder

    def read(self, path: Path) -> list[dict[str, Any]]:
        return [strict(line) for line in path.read_text("ascii").splitlines(keepends=True)]

    def test_to_file(self) -> None:
        """For twistd in the background: a file where it was started, which grows."""
        folder = self.folder()
        os.environ.pop(logs.LOG_FILE_VARIABLE, None)
        for _ in range(2):
            observer = json_to_file()
            verifyObject(ILogObserver, observer)
            self.publish(observer)
            self.files[-1].close()
        lines = self.read(folder / logs.LOG_FILE)
        self.assertEqual([line["text"] for line in lines], ["first ä", "second\nline"] * 2)

    def test_to_a_file_of_another_name(self) -> None:
        """An environment variable names another one; an empty one names none."""
        folder = self.folder()
        other = folder / "logs"
        other.mkdir()
        for name, path in (("logs/a.json", other / "a.json"), ("", folder / logs.LOG_FILE)):
            self.patch(os, "environ", {**os.environ, logs.LOG_FILE_VARIABLE: name})
            observer = json_to_file()
            self.publish(observer)
            self.files[-1].close()
            self.assertEqual(len(self.read(path)), 2)

    def test_the_file_stays_where_it_is(self) -> None:
        """A process that changes its directory later writes on to the same file."""
        folder = self.folder()
        self.patch(os, "environ", {**os.environ, logs.LOG_FILE_VARIABLE: "a.json"})
        observer = json_to_file()
        os.chdir("/")
        self.publish(observer)
        self.files[-1].rotate()
        self.publish(observer)
        self.files[-1].close()
        self.assertEqual(sorted(path.name for path in folder.iterdir()), ["a.json", "a.json.1"])

    def test_files_are_put_aside(self) -> None:
        """A file that has become large is put aside; nine of those are kept, each of whole lines."""
        self.assertEqual((logs.ROTATE, logs.ROTATED), (10 * 2**20, 9))
        folder = self.folder()
        self.patch(logs, "ROTATE", 1000)
        self.patch(os, "environ", {**os.environ, logs.LOG_FILE_VARIABLE: "a.json"})
        observer = json_to_file()
        for _ in range(200):
            self.publish(observer)
        self.files[-1].close()
        found = sorted(path.name for path in folder.iterdir())
        self.assertEqual(found, ["a.json", *(f"a.json.{number}" for number in range(1, 10))])
        for name in found:
            self.assertTrue(self.read(folder / name), name)

    def test_without_twisteds_words_about_ports(self) -> None:
        """Twisted's own lines about ports are left out, as the node says it itself; nothing else is."""
        stream = io.StringIO()
        kept: list[str] = []
        left_out = quiet(lambda event: kept.append(event["log_text"]))
        observer = json_lines(stream)
        for text, namespace in (
            ("MeshFactory starting on 4444", "log_legacy"),
            ("MeshFactory (TLS) starting on 4444", "log_legacy"),
            ("(TCP Port 4444 Closed)", "log_legacy"),
            ("Main loop terminated.", "log_legacy"),
            ("the work is starting on 4444", "log_legacy"),
            ("MeshFactory starting on 4444", "py2p_twisted.node"),
        ):
            event = {"log_time": 0.0, "log_namespace": namespace, "log_text": text}
            observer({**event, "log_format": "{log_text}"})
            left_out(event)
        expected = [
            "Main loop terminated.",
            "the work is starting on 4444",
            "MeshFactory starting on 4444",
        ]
        self.assertEqual(kept, expected)
        lines = [strict(line) for line in stream.getvalue().splitlines(keepends=True)]
        self.assertEqual([line["text"] for line in lines], expected)

    def test_twisteds_words_about_connections_it_cannot_accept(self) -> None:
        """A line a minute, not three for each of those who knock."""
        kept: list[float] = []
        left_out = quiet(lambda event: kept.append(event["log_time"]))
        stream = io.StringIO()
        observer = json_lines(stream)
        for moment in range(130):
            for text in (
                "EMFILE encountered; releasing reserved file descriptor.",
                "EMFILE recovery: Closed socket from {address}",
                "Re-reserving EMFILE recovery file descriptor.",
            ):
                event = {"log_time": float(moment), "log_format": text, "address": 1}
                left_out(event)
                observer(event)
        self.assertEqual(kept, [0.0, 60.0, 120.0])
        self.assertEqual(len(stream.getvalue().splitlines()), 3)

    def test_twisted_can_begin_with_it(self) -> None:
        """The factories make what ``--logger`` wants."""
        stream = io.StringIO()
        publisher = LogPublisher()
        beginner = LogBeginner(publisher, io.StringIO(), sys, __import__("warnings"))
        beginner.beginLoggingTo([json_lines(stream)], redirectStandardIO=False)
        Logger(observer=publisher).info("begun")
        self.assertEqual(strict(stream.getvalue())["text"], "begun")


def named_events() -> set[str]:
    """The values of all ``event=`` arguments in the package."""
    found: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "event":
                for value in ast.walk(node.value):
                    if isinstance(value, ast.Constant) and isinstance(value.value, str):
                        found.add(value.value)
    return found


class EventTests(SynchronousTestCase):
    def events(self) -> list[dict[str, Any]]:
        """What a mesh logs in which everything happens that an operator is to see."""
        with capturedLogs() as events:
            mesh = MemoryMesh("ada", "ben", max_outgoing=2)
            eve = mesh.add("eve", Network("another"))
            eve.connect(mesh["ada"]).addErrback(lambda _: None)
            mesh["ada"].service.connect("10.9.9.9", 1).addErrback(lambda _: None)
            mesh.settle()
            mesh.link("ada", "ben")
            link = mesh["ada"].service.routing_table[mesh["ben"].id]
            link.owner.dataReceived(frame(pack_body(0, b"Eve\n", 7, 0, HOSTILE)))
            self.fall_behind(mesh)
            self.turn_the_clock(mesh)
            mesh.kill("ben")
            self.run_a_program()
            self.guess_a_token(mesh)
        return events

    def guess_a_token(self, mesh: MemoryMesh) -> None:
        """Somebody wants to send from the status page."""
        where = ("10.0.9.9", 80)
        web = WebService(
            mesh.clock,
            mesh["ada"].service,
            mesh.network.server(where),
            token="x",
            token_file=HOSTILE,
        )
        web.startService()
        guess = {"Content-Type": "application/json", "X-Py2p-Token": "guess"}

        class Guesser(Protocol):
            def connectionMade(self) -> None:
                assert self.transport is not None
                self.transport.write(request("POST", "/send", guess, b"{}"))

        mesh.network.client(("10.0.9.1", 1), where).connect(Factory.forProtocol(Guesser))
        mesh.settle()

    def fall_behind(self, mesh: MemoryMesh) -> None:
        """Somebody reads messages more slowly than they come."""
        from py2p_twisted.net import service

        self.patch(service, "_BACKLOG", 1)
        reader = mesh["ada"].service.messages()
        ensureDeferred(reader.__anext__())
        for number in range(4):
            mesh["ben"].send(number)
        mesh.settle()

    def turn_the_clock(self, mesh: MemoryMesh) -> None:
        """Three nodes agree that a fourth one's clock is wrong."""
        mesh.add("late").skew = -3600
        for name in ("a", "b", "c"):
            mesh.add(name)
            mesh.link("late", name)

    def run_a_program(self) -> None:
        """A node as a process runs a program that fails, and stops."""
        reactor = ToyReactor()
        given = {"exec": "false", "advertise": "10.0.0.1", "state-dir": self.mktemp()}
        given["max-peers"] = "100000"  # more than there are file descriptors
        node = NodeService(reactor, configure({**given, "discover": True}))
        node.privilegedStartService()
        self.say_a_beacon(node)
        assert node.programs is not None
        from tests.daemon.toys import message

        node.programs.offer(message("x"), b"Ben")
        reactor.processes[0].prints(HOSTILE.encode() + b"\n")
        reactor.processes[0].exits(1)
        node.reload()
        node.stopService()
        late = NodeService(ToyReactor(), configure({"listen": ["tcp:4445"]}))
        late.start_failed(Failure(RuntimeError(HOSTILE)))

    def say_a_beacon(self, node: NodeService) -> None:
        """Somebody in the local network says what a node would."""
        assert node.discovery is not None
        liar = beacon.Beacon(b"Liar", 4444, "10.0.0.9")
        said = beacon.write(liar, beacon.network_tag(node.network))
        place = discovery._Place(Interface("eth0", 2, ("10.0.0.1",)), AF_INET, "10.0.0.1")
        node.discovery.heard(said, "10.0.0.9", place)

    def test_every_event_is_listed(self) -> None:
        """What is logged with an event's name, and what is listed, is the same."""
        self.assertEqual(named_events(), set(EVENTS))

    def test_the_reference_lists_them(self) -> None:
        """The documentation's table has every event, and no other, each with its level."""
        text = (PACKAGE.parent / "docs/reference/logging.rst").read_text()
        table = text.partition("\nEvents\n")[2].partition("\nJSON\n")[0]
        found = dict(re.findall(r"^``([a-z ]+)`` {2,}([a-z]+) ", table, re.MULTILINE))
        self.assertEqual(set(found), set(EVENTS))
        for event in self.events():
            name = event.get("event")
            if name in found and found[name] != "varies":
                self.assertEqual(event["log_level"].name, found[name], name)

    def test_the_reference_lists_namespaces(self) -> None:
        """It names every namespace that a node logs under."""
        text = (PACKAGE.parent / "docs/reference/logging.rst").read_text()
        table = text.partition("\nNamespaces\n")[2].partition("\nEvents\n")[0]
        listed = set(re.findall(r"^``([a-z0-9_.]+)``", table, re.MULTILINE))
        used = set()
        for path in PACKAGE.rglob("*.py"):
            if "cli" in path.parts:
                continue  # commands that show something log for themselves
            used |= set(re.findall(r'Logger\(namespace="([^"]+)"\)', path.read_text()))
        self.assertEqual(used - listed, set())

    def test_every_event_happens(self) -> None:
        """The tests below speak of all of them."""
        self.assertEqual({event.get("event") for event in self.events()} & set(EVENTS), set(EVENTS))

    def test_twist_writes_them(self) -> None:
        """Twisted's own JSON, which twist writes, takes every one of our events."""
        events = self.events()
        stream = io.StringIO()
        observer = jsonFileLogObserver(stream)
        for event in events:
            observer(event)
        lines = stream.getvalue().split("\x1e")[1:]
        self.assertEqual(len(lines), len(events))
        for event, line in zip(events, lines, strict=True):
            found = strict(line)
            self.assertEqual(found["log_namespace"], event["log_namespace"])
            self.assertEqual(found.get("event"), event.get("event"))
            lost = [name for name, value in found.items() if value == {"unpersistable": True}]
            self.assertEqual([name for name in lost if not name.startswith("log_")], [])
            self.assertEqual(strict(eventAsJSON(event) + "\n"), found)

    def test_we_write_them(self) -> None:
        """So do our own lines, and each has its event, and its reason if there is one."""
        for event in self.events():
            line = strict(json_line(event))
            for name in ("event", "peer", "reason", "count", "where", "error", "network"):
                self.assertEqual(line.get(name), event.get(name))
            self.assertTrue(line["text"].isprintable(), repr(line["text"]))

    def test_namespaces(self) -> None:
        """Every namespace is one that the module's introduction lists."""
        for event in self.events():
            self.assertIn(f"``{event['log_namespace']}``", logs.__doc__ or "")
