"""``--exec``: programs that the test plays, well behaved and otherwise."""

from __future__ import annotations

import errno
import json
import os
import random
from typing import Any
from unittest import mock

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core.message import Message
from py2p_twisted.daemon import programs
from py2p_twisted.daemon.programs import GRACE, LINE, RETRY, Programs
from py2p_twisted.net.plainjson import loads
from tests.daemon.toys import HOSTILE, WALL, ToyProcess, ToyReactor, message

VIA = b"Ben"


class ProgramsTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = ToyReactor()
        self.programs = self.make()
        catching = capturedLogs()
        self.events = catching.__enter__()
        self.addCleanup(catching.__exit__, None, None, None)

    def make(self, *command: str, **options: Any) -> Programs:
        """A node's programs, on a reactor of toys."""
        made = Programs(
            self.reactor, command or ("on-alert", "-v"), now=self.reactor.seconds, **options
        )
        self.programs = made
        return made

    def offer(self, *packets: Any, **said: Any) -> Message:
        """A message arrives."""
        arrived = message(*packets, **said)
        self.programs.offer(arrived, VIA)
        return arrived

    @property
    def alive(self) -> list[ToyProcess]:
        return self.reactor.alive

    @property
    def texts(self) -> list[str]:
        """What was logged, in the namespace of programs."""
        return [
            formatEvent(event)
            for event in self.events
            if event["log_namespace"] == "py2p_twisted.exec"
        ]

    def assert_quiet(self) -> None:
        """Nothing is left to be done."""
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def numbers(self) -> list[int]:
        """The first packets of what programs were given, oldest first."""
        return [loads(process.stdin.decode())[0] for process in self.reactor.processes]


class GivenTests(ProgramsTestCase):
    def test_packets_on_standard_input(self) -> None:
        """A program gets one line of JSON, and then the end of its input."""
        self.offer("storm", b"\xff", {1: 2})
        (process,) = self.alive
        self.assertEqual(process.stdin, b'["storm", {"$base64": "/w=="}, {"$map": [[1, 2]]}]\n')
        self.assertTrue(process.stdin_closed)

    def test_no_packets(self) -> None:
        """A message may have nothing to say."""
        self.offer()
        self.assertEqual(self.alive[0].stdin, b"[]\n")

    def test_command(self) -> None:
        """Arguments are as they were given; nothing of a message is among them."""
        self.make("run", "a b", "$(reboot)", "")
        self.offer("; reboot", "$(reboot)", "`reboot`")
        self.assertEqual(self.alive[0].args, ["run", "a b", "$(reboot)", ""])

    def test_looked_up_each_time(self) -> None:
        """A program that is replaced while the node runs is found where it is then."""
        with mock.patch.object(
            programs.shutil, "which", side_effect=["/old/run", "/new/run", None]
        ):
            for _ in range(3):
                self.make("run")
                self.offer(1)
        self.assertEqual(
            [process.executable for process in self.reactor.processes],
            ["/old/run", "/new/run", "run"],
        )

    def test_environment(self) -> None:
        """The rest of the message stands in the environment, beside what was there."""
        self.patch(os, "environ", {"HOME": "/root", "PY2P_ID": "old"})
        self.make(metadata=lambda: {"PY2P_NETWORK": "alerts", "PY2P_NODE": "Me"})
        arrived = self.offer("x", sender=b"Ada", sub=7)
        self.assertEqual(
            self.alive[0].env,
            {
                "HOME": "/root",
                "PY2P_SENDER": "Ada",
                "PY2P_VIA": "Ben",
                "PY2P_ID": arrived.id.hex(),
                "PY2P_TIME": str(WALL),
                "PY2P_TYPE": "7",
                "PY2P_NETWORK": "alerts",
                "PY2P_NODE": "Me",
            },
        )

    def test_types(self) -> None:
        """A type is shown as JSON, unless it is too long for an environment."""
        for sub, shown in (
            (0, "0"),
            ("alert", '"alert"'),
            (b"\xff", '{"$base64": "/w=="}'),
            (None, "null"),
            ([1, 2], "[1, 2]"),
            ("x" * 254, '"' + "x" * 254 + '"'),
            ("x" * 255, ""),
            (["x"] * 10_000, ""),
        ):
            self.make()
            self.offer("x", sub=sub)
            self.assertEqual(self.alive[-1].env["PY2P_TYPE"], shown)

    def test_senders(self) -> None:
        """An id is shown as text, whatever its bytes are, and has no NUL."""
        for sender, shown in (
            (b"Ada", "Ada"),
            ("Ada", "Ada"),
            ("ä", "ä"),
            ("ä".encode(), "ä"),
            (b"\xff\xfe", "\\xff\\xfe"),
            (b"a\0b", "a\\x00b"),
            ("a\0b", "a\\x00b"),
            (b"", ""),
        ):
            self.make()
            self.offer("x", sender=sender)
            self.assertEqual(self.alive[-1].env["PY2P_SENDER"], shown)

    @given(
        sender=st.binary(max_size=20) | st.text(max_size=20),
        via=st.binary(max_size=20),
        sub=st.none() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5) | st.floats(),
        stamp=st.integers(0, 2**64 - 1) | st.floats(0, 2**63),
        packets=st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.binary()),
    )
    @example(sender="\ud800", via=b"\0", sub=0, stamp=1e300, packets=["\0\n"])
    def test_any_message(
        self, sender: bytes | str, via: bytes, sub: Any, stamp: Any, packets: list[Any]
    ) -> None:
        """Nothing that a peer may say keeps a program from being started with it."""
        self.make()
        arrived = message(*packets, sub=sub)
        arrived.items = (0, sender, stamp, sub, *packets)
        before = len(self.reactor.processes)
        self.programs.offer(arrived, via)
        (process,) = self.reactor.processes[before:]
        self.assertEqual(loads(process.stdin.decode("ascii")), packets)
        self.assertEqual(process.stdin.count(b"\n"), 1)
        self.assertEqual(self.programs.counts, {"started": 1})

    def test_a_network_with_nul(self) -> None:
        """A network's name that no environment takes does not stop all programs."""
        self.make(metadata=lambda: {"PY2P_NETWORK": "a\0b"})
        self.offer("x")
        self.assertEqual(self.programs.counts, {"started": 1})
        self.assertNotIn("\0", self.alive[0].env["PY2P_NETWORK"])


class OrderTests(ProgramsTestCase):
    def test_so_many_at_once(self) -> None:
        """No more run at once than was said; the others wait for their turn, in order."""
        self.make(parallel=2)
        for number in range(5):
            self.offer(number)
        self.assertEqual(self.numbers(), [0, 1])
        self.assertEqual(self.programs.status, {"waiting": 3, "running": 2, "started": 2})
        self.alive[1].exits()
        self.assertEqual(self.numbers(), [0, 1, 2])
        while self.alive:
            self.alive[0].exits()
        self.assertEqual(self.numbers(), [0, 1, 2, 3, 4])
        self.assertEqual(
            self.programs.status, {"waiting": 0, "running": 0, "started": 5, "exit 0": 5}
        )
        self.assert_quiet()

    def test_one_at_a_time_keeps_the_order(self) -> None:
        """With one program at a time messages are dealt with as they came."""
        self.make(parallel=1)
        for number in range(50):
            self.offer(number)
            if number % 3 == 0:
                self.alive[0].exits()
        while self.alive:
            self.alive[0].exits()
        self.assertEqual(self.numbers(), list(range(50)))

    def test_the_oldest_are_lost(self) -> None:
        """A full queue loses its oldest message: what comes now matters more."""
        self.make(parallel=1, queue=3)
        for number in range(10):
            self.offer(number)
        self.assertEqual(self.programs.status, {"waiting": 3, "running": 1, "started": 1, "lost": 6})  # fmt: skip
        while self.alive:
            self.alive[0].exits()
        self.assertEqual(self.numbers(), [0, 7, 8, 9])

    def test_losses_are_logged_once_a_minute(self) -> None:
        """A gap is a warning, and the next line says how many there were."""
        self.make(parallel=1, queue=1)
        for number in range(100):
            self.offer(number)
        self.assertEqual(len(self.texts), 1)
        self.assertIn("gap", self.texts[0])
        self.assertEqual(self.events[0]["event"], "gap")
        self.assertIs(self.events[0]["log_level"], LogLevel.warn)
        for process in self.alive:
            process.exits()
        self.reactor.advance(61)
        self.offer("fills the queue")
        self.offer("and this loses it")
        self.assertIn("97 more", self.texts[-1])

    def test_a_queue_of_bytes(self) -> None:
        """Large messages wait up to a sum of bytes, however few they are."""
        self.patch(programs, "MAX_BYTES", 100_000)
        self.make(parallel=1)
        self.offer(0)
        for number in range(1, 11):
            self.offer(number, bytes(30_000))
        self.assertEqual(self.programs.status["waiting"], 3)
        self.assertEqual(self.programs.counts["lost"], 7)

    def test_one_large_message_waits(self) -> None:
        """A single message is not lost for its size alone."""
        self.patch(programs, "MAX_BYTES", 100_000)
        self.make(parallel=1)
        self.offer(0)
        self.offer(1, bytes(200_000))
        self.assertEqual(self.programs.status["waiting"], 1)
        self.offer(2)
        self.assertEqual(self.programs.status["waiting"], 1)
        self.alive[0].exits()
        self.assertEqual(self.numbers(), [0, 2])

    def test_small_ones_weigh_as_well(self) -> None:
        """A message of many small values takes more memory than bytes, and is counted so."""
        self.patch(programs, "MAX_BYTES", 100_000)
        self.make(parallel=1)
        self.offer(0)
        for _ in range(20):
            crowd = message({number: number for number in range(200)})
            crowd.values = 401
            self.programs.offer(crowd, VIA)
        self.assertLessEqual(self.programs.status["waiting"], 2)

    def test_the_sum_stays_true(self) -> None:
        """After thousands of messages of all sizes as many fit into the queue as at first."""
        self.patch(programs, "MAX_BYTES", 100_000)
        self.make(parallel=1)
        rng = random.Random(1)
        self.offer(0)
        for _ in range(2_000):
            self.offer(1, bytes(rng.randrange(40_000)))
            if rng.random() < 0.4:
                self.alive[0].exits()
        while self.programs.status["waiting"]:
            self.alive[0].exits()
        for _ in range(20):
            self.offer(2, bytes(30_000))
        self.assertEqual(self.programs.status["waiting"], 3)

    def test_a_message_is_never_started_twice(self) -> None:
        """Whatever order things end in, each message has one program or is counted as lost."""
        rng = random.Random(2)
        self.make(parallel=3, queue=5)
        for number in range(500):
            self.offer(number)
            self.reactor.refuses = OSError("no") if rng.random() < 0.1 else None
            if self.alive and rng.random() < 0.7:
                rng.choice(self.alive).exits(rng.choice([0, 1]))
            self.reactor.advance(rng.random())
        while self.alive:
            self.alive[0].exits()
        numbers = self.numbers()
        self.assertEqual(len(set(numbers)), len(numbers))
        counts = self.programs.counts
        self.assertEqual(counts["started"], len(numbers))
        self.assertEqual(counts["started"] + counts["lost"] + counts["not started"], 500)
        self.assertEqual(counts["exit 0"] + counts["exit 1"], counts["started"])


class EndingTests(ProgramsTestCase):
    def test_how_they_end_is_counted(self) -> None:
        """Exit statuses and signals are counted by kind; what went wrong is logged."""
        for status, signal in ((0, None), (3, None), (3, None), (None, 9), (None, 250)):
            self.offer("x")
            self.alive[0].exits(status or 0, signal=signal)
        self.assertEqual(
            self.programs.counts,
            {"started": 5, "exit 0": 1, "exit 3": 2, "signal 9": 1, "signal 250": 1},
        )
        self.assertEqual(
            self.texts,
            [
                "on-alert ended with exit status 3",
                "on-alert was ended by SIGKILL",
                "on-alert was ended by 250",
            ],
        )
        for event in self.events:
            self.assertEqual((event["event"], event["log_level"]), ("exec", LogLevel.warn))
        self.assert_quiet()

    def test_success_is_silent(self) -> None:
        """A program that does its work says nothing in the log."""
        self.offer("x")
        self.alive[0].exits()
        self.assertEqual(self.texts, [])

    def test_a_failing_program_does_not_fill_the_log(self) -> None:
        """One line a minute for each way to fail, with the number of the others."""
        for number in range(300):
            self.offer(number)
            self.alive[0].exits(1 + number % 2)
            self.reactor.advance(0.25)
        self.assertEqual(len(self.texts), 4)
        self.assertIn("119 more", self.texts[2])

    def test_too_long(self) -> None:
        """A program that takes too long is asked to end, and that is said."""
        self.make(timeout=10)
        self.offer("x")
        (process,) = self.alive
        self.reactor.advance(9.9)
        self.assertEqual(process.signals, [])
        self.reactor.advance(0.1)
        self.assertEqual(process.signals, ["TERM"])
        process.exits(signal=15)
        self.assertEqual(self.programs.counts, {"started": 1, "timed out": 1})
        self.assertEqual(self.texts, ["on-alert was ended after 10 s"])
        self.assert_quiet()

    def test_too_long_and_stubborn(self) -> None:
        """Who ignores that is made to end; meanwhile its place is taken."""
        self.make(timeout=10, parallel=1)
        self.offer(1)
        self.offer(2)
        (process,) = self.alive
        self.reactor.advance(10)
        self.reactor.advance(GRACE)
        self.assertEqual(process.signals, ["TERM", "KILL"])
        self.assertEqual(self.alive, [process])
        process.exits(signal=9)
        self.assertEqual(self.numbers(), [1, 2])
        self.assertEqual(self.programs.counts["timed out"], 1)

    def test_in_time(self) -> None:
        """A program that ends in time is sent no signal later."""
        self.make(timeout=10)
        self.offer("x")
        (process,) = self.alive
        self.reactor.advance(9)
        process.exits()
        self.reactor.advance(100)
        self.assertEqual(process.signals, [])
        self.assert_quiet()

    def test_signals_that_are_not_allowed(self) -> None:
        """A program of another user is waited for, whatever becomes of signals to it."""
        self.make(timeout=10)
        self.offer("x")
        (process,) = self.alive
        process.denies_signals = True
        self.reactor.advance(10)
        self.reactor.advance(GRACE)
        process.exits()
        self.assertEqual(self.programs.counts["timed out"], 1)
        self.assert_quiet()

    def test_it_never_reads(self) -> None:
        """A program that does not look at its input ends like any other."""
        self.offer("x" * 1_000_000)
        self.alive[0].exits()
        self.assertEqual(self.programs.counts, {"started": 1, "exit 0": 1})
        self.assert_quiet()

    def test_over_before_it_was_given_anything(self) -> None:
        """A short program may be over before Twisted says that it was started."""
        self.reactor.at_once = 0
        self.offer("x")
        self.assertEqual(self.programs.counts, {"started": 1, "exit 0": 1})
        self.assertEqual(self.programs.status["running"], 0)
        self.reactor.advance(100)
        self.assert_quiet()
        self.assertEqual(self.texts, [])

    def test_many_that_are_over_at_once(self) -> None:
        """However short they are, all that wait have their turn."""
        self.make(parallel=1, queue=500)
        self.offer(0)
        for number in range(1, 400):
            self.offer(number)
        self.reactor.at_once = 0
        self.alive[0].exits()
        self.assertEqual(self.programs.counts, {"started": 400, "exit 0": 400})
        self.assertEqual(len({process.env["PY2P_ID"] for process in self.reactor.processes}), 400)

    def test_not_to_be_started(self) -> None:
        """A program that cannot be started costs its message and nothing else."""
        for error in (
            FileNotFoundError(2, "No such file or directory"),
            MemoryError(),
            ValueError("embedded null byte"),
        ):
            self.reactor.refuses = error
            self.offer("x")
        self.assertEqual(self.programs.counts, {"not started": 3})
        self.assertEqual(len(self.texts), 1)
        self.assertTrue(self.texts[0].startswith("on-alert cannot be started: "))
        self.assertIs(self.events[0]["log_level"], LogLevel.error)
        self.reactor.refuses = None
        self.offer("y")
        self.assertEqual(self.programs.status["running"], 1)
        self.alive[0].exits()
        self.assert_quiet()

    def test_no_room_for_a_moment(self) -> None:
        """When the system is out of processes, messages wait, and the oldest comes first."""
        self.reactor.refuses = BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        for number in range(3):
            self.offer(number)
        self.assertEqual(self.programs.status, {"waiting": 3, "running": 0})
        self.assertEqual(len(self.texts), 1)
        self.reactor.advance(RETRY)
        self.reactor.refuses = None
        self.reactor.advance(RETRY)
        self.assertEqual(self.numbers(), [0, 1, 2])
        for process in self.alive:
            process.exits()
        self.assert_quiet()

    def test_no_room_when_the_node_stops(self) -> None:
        """Then nothing is tried again."""
        self.reactor.refuses = OSError(errno.ENOMEM, "Cannot allocate memory")
        self.offer("x")
        self.successResultOf(self.programs.stop())
        self.assertEqual(self.programs.counts["lost"], 1)
        self.assert_quiet()

    def test_not_to_be_started_from_the_queue(self) -> None:
        """The same for one that has waited: those behind it are not stuck."""
        self.make(parallel=1)
        for number in range(3):
            self.offer(number)
        self.reactor.refuses = OSError("no processes left")
        self.alive[0].exits()
        self.reactor.refuses = None
        self.offer(3)
        while self.alive:
            self.alive[0].exits()
        status = self.programs.status
        self.assertEqual((status["waiting"], status["running"]), (0, 0))
        self.assertEqual(self.numbers()[-1], 3)

    def test_a_child_that_stays(self) -> None:
        """A program's own child in the background holds up nobody, and is let go of."""
        self.make(parallel=1)
        self.offer(1)
        self.offer(2)
        first = self.alive[0]
        first.exits(orphan=True)
        self.assertEqual(self.numbers(), [1, 2])
        first.prints(b"from the child\n")
        self.assertEqual(self.texts, ["on-alert: from the child"])
        self.reactor.advance(GRACE)
        self.reactor.advance(0)
        self.assertFalse(first.holds_output)
        self.alive[0].exits()
        self.assert_quiet()

    def test_children_that_stay_are_bounded(self) -> None:
        """Each that stays holds pipes, of which a process has few: there is an end to them."""
        self.make(parallel=4)
        for number in range(500):
            self.offer(number)
            for process in self.alive:
                process.exits(orphan=True)
            self.reactor.advance(0.001)
        held = [process for process in self.reactor.processes if process.holds_output]
        self.assertLess(len(held), 100)


class OutputTests(ProgramsTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.offer("x")
        (self.process,) = self.alive

    def test_lines(self) -> None:
        """What a program prints is logged line by line, however it is cut."""
        for piece in (b"one\ntw", b"o", b"\r\n", b"three"):
            self.process.prints(piece)
        self.assertEqual(self.texts, ["on-alert: one", "on-alert: two"])
        self.process.exits()
        self.assertEqual(self.texts[2:], ["on-alert: three"])
        self.assertEqual({event["log_level"] for event in self.events}, {LogLevel.info})
        self.assertEqual({event["event"] for event in self.events}, {"exec"})

    def test_errors_are_warnings(self) -> None:
        """Standard error is a warning, and does not mix with standard output."""
        self.process.prints(b"out")
        self.process.prints(b"err\n", on=2)
        self.process.prints(b"put\n")
        self.assertEqual(
            [(event["log_level"], formatEvent(event)) for event in self.events],
            [(LogLevel.warn, "on-alert: err"), (LogLevel.info, "on-alert: output")],
        )

    def test_the_last_line_of_errors(self) -> None:
        """A last line without its end is of the kind of those before it."""
        self.process.prints(b"out")
        self.process.prints(b"err", on=2)
        self.process.exits()
        self.assertEqual(
            {formatEvent(event): event["log_level"] for event in self.events},
            {"on-alert: out": LogLevel.info, "on-alert: err": LogLevel.warn},
        )

    def test_no_utf8(self) -> None:
        """Bytes that are no text are shown as such."""
        self.process.prints(b"caf\xe9 \xff\n" + "ä\n".encode())
        self.assertEqual(self.texts, ["on-alert: caf\\xe9 \\xff", "on-alert: ä"])

    def test_formats_are_no_formats(self) -> None:
        """Braces in what it prints are braces."""
        self.process.prints(b"{program} {nonesuch} {0} {\n")
        self.assertEqual(self.texts, ["on-alert: {program} {nonesuch} {0} {"])

    def test_a_line_without_end(self) -> None:
        """Of a line that does not end its beginning is kept, and nothing else of it."""
        for _ in range(100):
            self.process.prints(b"x" * 60_000)
        self.assertEqual(self.texts, [])
        held = sum(map(len, self.process._protocol._lines.values()))
        self.assertLessEqual(held, LINE)
        self.process.prints(b"\nnext\n")
        self.assertEqual(len(self.texts), 2)
        self.assertEqual(self.texts[0], "on-alert: " + "x" * LINE)
        self.assertEqual(self.texts[1], "on-alert: next")

    def test_a_long_line_at_the_end(self) -> None:
        """The same when nothing but its end comes."""
        self.process.prints(b"y" * 10_000)
        self.process.exits()
        self.assertEqual(self.texts, ["on-alert: " + "y" * LINE])

    def test_terminals_are_safe(self) -> None:
        """What a program passes on from strangers cannot draw on the operator's terminal."""
        self.process.prints(HOSTILE.encode() + b"\n")
        self.process.prints("Grüße\tan alle\n".encode())
        for text in self.texts[:-1]:
            self.assertTrue(text.isprintable(), repr(text))
        self.assertIn("Grüße", self.texts[-1])


class StopTests(ProgramsTestCase):
    def stop(self) -> Deferred[None]:
        return self.programs.stop()

    def test_nothing_runs(self) -> None:
        """Nobody is waited for when nobody is there."""
        self.successResultOf(self.stop())
        self.successResultOf(self.stop())
        self.assertEqual(self.texts, [])
        self.assert_quiet()

    def test_those_that_run_may_finish(self) -> None:
        """Programs have a few seconds to end by themselves."""
        self.offer(1)
        self.offer(2)
        stopped = self.stop()
        self.alive[0].exits()
        self.assertNoResult(stopped)
        self.reactor.advance(GRACE - 1)
        self.alive[0].exits()
        self.successResultOf(stopped)
        self.assertEqual([process.signals for process in self.reactor.processes], [[], []])
        self.assertEqual(self.programs.counts, {"started": 2, "exit 0": 2})
        self.assert_quiet()

    def test_those_that_do_not_are_ended(self) -> None:
        """Then they are asked to end, and then made to: ten seconds altogether."""
        self.offer(1)
        stopped = self.stop()
        (process,) = self.alive
        self.reactor.advance(GRACE)
        self.assertEqual(process.signals, ["TERM"])
        self.reactor.advance(GRACE)
        self.assertEqual(process.signals, ["TERM", "KILL"])
        process.exits(signal=9)
        self.successResultOf(stopped)
        self.assert_quiet()

    def test_the_reason_is_the_true_one(self) -> None:
        """A program that is ended with the node has not run into its own time limit."""
        self.make(timeout=600)
        self.offer(1)
        self.stop()
        self.reactor.advance(GRACE)
        self.alive[0].exits(signal=15)
        self.assertEqual(len(self.texts), 1)
        self.assertNotIn("600 s", self.texts[0])
        self.assertIn("node is stopping", self.texts[0])
        self.assertEqual(self.programs.counts, {"started": 1, "stopped": 1})

    def test_who_ends_by_itself_was_not_stopped(self) -> None:
        """A program that does its work in the time that is left has done its work."""
        self.offer(1)
        self.stop()
        self.reactor.advance(GRACE)
        self.alive[0].exits()
        self.assertEqual(self.programs.counts, {"started": 1, "exit 0": 1})

    def test_what_waits_is_lost(self) -> None:
        """Messages that have not had their turn are lost, which is logged with their number."""
        self.make(parallel=1)
        for number in range(6):
            self.offer(number)
        stopped = self.stop()
        self.assertEqual(self.texts, ["gap: 5 messages were waiting for their program and are lost"])  # fmt: skip
        self.assertEqual(self.events[0]["event"], "gap")
        self.assertEqual(self.programs.status["waiting"], 0)
        self.assertEqual(self.programs.counts["lost"], 5)
        self.alive[0].exits()
        self.successResultOf(stopped)
        self.assertEqual(len(self.reactor.processes), 1)

    def test_nothing_is_started_any_more(self) -> None:
        """What comes while the node stops has no program."""
        self.offer(1)
        stopped = self.stop()
        self.offer(2)
        self.alive[0].exits()
        self.offer(3)
        self.successResultOf(stopped)
        self.assertEqual(self.programs.status["waiting"], 0)
        self.assertEqual(self.numbers(), [1])

    def test_twice(self) -> None:
        """Whoever asks again waits as long as the first, and nobody waits longer for it."""
        self.offer(1)
        first = self.stop()
        self.reactor.advance(GRACE - 1)
        second = self.stop()
        self.reactor.advance(1)
        (process,) = self.alive
        self.assertEqual(process.signals, ["TERM"])
        process.exits(signal=15)
        self.successResultOf(first)
        self.successResultOf(second)

    def test_one_that_has_been_told_already(self) -> None:
        """A program that is being ended for its time is not given more of it."""
        self.make(timeout=10)
        self.offer(1)
        self.reactor.advance(10)
        (process,) = self.alive
        self.stop()
        self.reactor.advance(GRACE)
        self.assertEqual(process.signals[-1], "KILL")
        process.exits(signal=9)
        self.assertEqual(self.programs.counts["timed out"], 1)

    def test_a_child_that_stays(self) -> None:
        """A program's child in the background does not hold up the node."""
        self.offer(1)
        stopped = self.stop()
        (process,) = self.alive
        self.reactor.advance(GRACE)
        self.reactor.advance(GRACE)
        process.exits(signal=9, orphan=True)
        self.reactor.advance(1)
        self.reactor.advance(0)
        self.successResultOf(stopped)
        self.assert_quiet()

    def test_a_child_that_stays_and_never_reads(self) -> None:
        """Not even one that holds a standard input in which there is still something."""
        self.offer("x" * 1_000_000)
        stopped = self.stop()
        (process,) = self.alive
        self.reactor.advance(GRACE)
        self.reactor.advance(GRACE)
        process.exits(signal=9, orphan=True, unread=True)
        for _ in range(10):
            self.reactor.advance(1)
        self.successResultOf(stopped)
        self.assert_quiet()

    def test_a_child_that_has_stayed(self) -> None:
        """When the node has stopped, nothing is left to be done for one that stayed before."""
        self.offer(1)
        self.alive[0].exits(orphan=True)
        stopped = self.stop()
        self.reactor.advance(0)
        self.successResultOf(stopped)
        self.assert_quiet()


class HostileTests(ProgramsTestCase):
    def test_ids_in_the_log(self) -> None:
        """An id with line breaks and escape sequences is shown, not obeyed."""
        self.make(parallel=1, queue=1)
        for sender in (HOSTILE, HOSTILE.encode()):
            self.reactor.advance(61)
            for _ in range(3):
                self.offer("x", sender=sender)
        self.assertGreater(len(self.texts), 1)
        for event in self.events:
            self.assertTrue(formatEvent(event).isprintable(), repr(formatEvent(event)))

    def test_events_are_json(self) -> None:
        """Every line of programs can be written as JSON."""
        from py2p_twisted.daemon.logs import json_line

        self.make(parallel=1, queue=1)
        for number in range(4):
            self.offer(number, sender=HOSTILE)
        self.alive[0].prints(HOSTILE.encode() + b"\xff\n")
        self.alive[0].exits(1)
        self.reactor.refuses = OSError("no\nprocesses")
        self.alive[0].exits(signal=9)
        self.offer("y")
        self.assertGreater(len(self.events), 4)
        for event in self.events:
            line = json_line(event)
            self.assertEqual(line.count("\n"), 1)
            self.assertEqual(json.loads(line)["namespace"], "py2p_twisted.exec")
