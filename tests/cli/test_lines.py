"""
Standard input and output that block, without anybody who waits for them.

The threads are real; the streams are toys, and block until a test lets them go on.
"""

from __future__ import annotations

import os
import threading
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.cli import lines
from py2p_twisted.cli.lines import FileLines, Reader, Writer
from tests.cli.members import Hand

#: What a thread of a test waits for at most, in seconds.
PATIENCE = 30.0


class FileLinesTests(SynchronousTestCase):
    """Lines of a file that is read in pieces."""

    def lines(self, *pieces: bytes) -> list[bytes]:
        """The lines of a file that is read in these pieces; the end must be one for good."""
        left = [*pieces, b""]

        def read(number: int, size: int) -> bytes:
            self.assertEqual(number, 7)
            self.assertTrue(left, "it reads on after the end")
            return left.pop(0)

        self.patch(lines, "os", SimpleNamespace(read=read))
        file = FileLines(7)
        found = list(iter(file.readline, b""))
        self.assertEqual([file.readline(), file.readline()], [b"", b""])
        return found

    def test_whole_lines(self) -> None:
        """However many come at once, each by itself."""
        self.assertEqual(self.lines(b"one\n", b"two\nthree\n"), [b"one\n", b"two\n", b"three\n"])

    def test_lines_in_pieces(self) -> None:
        self.assertEqual(self.lines(b"o", b"n", b"e\ntw", b"o\n"), [b"one\n", b"two\n"])

    def test_the_last_one_may_have_no_end(self) -> None:
        self.assertEqual(self.lines(b"one\ntw", b"o"), [b"one\n", b"two"])

    def test_nothing(self) -> None:
        self.assertEqual(self.lines(), [])

    def test_empty_lines(self) -> None:
        self.assertEqual(self.lines(b"\n\n", b"\n", b"x\r\n"), [b"\n", b"\n", b"\n", b"x\r\n"])

    def test_any_lines(self) -> None:
        """Whatever is in them, and wherever it is cut, nothing is lost or added."""

        @given(st.lists(st.binary(min_size=1).map(lambda data: data.replace(b"a", b"\n"))))
        def check(pieces: list[bytes]) -> None:
            whole = b"".join(pieces)
            found = self.lines(*pieces)
            self.assertEqual(b"".join(found), whole)
            self.assertEqual([line[:-1].count(b"\n") for line in found], [0] * len(found))
            self.assertTrue(all(line.endswith(b"\n") for line in found[:-1]))

        check()

    def test_a_real_pipe(self) -> None:
        """What is there is given at once: it does not wait for more."""
        there, pen = os.pipe()
        self.addCleanup(os.close, there)
        file = FileLines(there)
        os.write(pen, b"one\ntwo\nthr")
        self.assertEqual([file.readline(), file.readline()], [b"one\n", b"two\n"])
        os.write(pen, b"ee\n")
        self.assertEqual(file.readline(), b"three\n")
        os.close(pen)
        self.assertEqual(file.readline(), b"")


class ToyFile:
    """A file whose ``readline`` waits until there is something, or something to raise."""

    def __init__(self) -> None:
        self.reads = 0
        self._there = threading.Semaphore(0)
        self._items: list[Any] = []

    def give(self, *items: Any) -> None:
        self._items += items
        self._there.release(len(items))

    def readline(self) -> Any:
        self.reads += 1
        self._there.acquire(timeout=PATIENCE)
        item = self._items.pop(0)
        if isinstance(item, BaseException):
            raise item
        return item


class ReaderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.hand = Hand()
        self.file = ToyFile()
        self.reader = Reader(self.hand, self.file.readline)
        # A thread that still waits at the end gets something to end with.
        self.addCleanup(self.file.give, *[""] * 10)

    def test_lines_in_order(self) -> None:
        """One for each time that it was asked."""
        first, second = self.reader.next(), self.reader.next()
        self.assertNoResult(first)
        self.file.give("one", "two")
        self.hand.take()
        self.assertEqual(self.successResultOf(first), "one")
        self.assertNoResult(second)
        self.hand.take()
        self.assertEqual(self.successResultOf(second), "two")

    def test_it_reads_only_when_it_is_asked(self) -> None:
        """What stands behind the last line is for whoever reads then."""
        before = threading.active_count()
        Reader(self.hand, self.file.readline)
        self.assertEqual(threading.active_count(), before)
        self.file.give("one", "two")
        result = self.reader.next()
        self.hand.take()
        self.assertEqual((self.successResultOf(result), self.file.reads), ("one", 1))

    def test_errors(self) -> None:
        """What reading raises belongs to who has asked; the next time it may go well."""
        for error in (OSError("gone"), EOFError(), KeyboardInterrupt()):
            result = self.reader.next()
            self.file.give(error)
            self.hand.take()
            self.assertIs(self.failureResultOf(result).value, error)
        result = self.reader.next()
        self.file.give("one")
        self.hand.take()
        self.assertEqual(self.successResultOf(result), "one")

    def test_nobody_waits_any_more(self) -> None:
        """A line that comes too late is nobody's, and no error."""
        result = self.reader.next()
        result.cancel()
        self.failureResultOf(result, CancelledError)
        self.file.give("late")
        self.hand.take()

    def test_the_reactor_has_ended(self) -> None:
        """Then nobody can be told, and the thread does not complain."""
        told = threading.Event()

        class Gone:
            def callFromThread(self, call: object, *arguments: object) -> None:
                told.set()
                raise RuntimeError("the reactor has ended")

        complaints: list[Any] = []
        self.patch(threading, "excepthook", complaints.append)
        reader = Reader(Gone(), self.file.readline)
        for _ in range(2):
            reader.next()
            self.file.give("one")
            self.assertTrue(told.wait(PATIENCE))
            told.clear()
        self.assertEqual(complaints, [])

    def test_nobody_waits_for_its_thread(self) -> None:
        """A process that ends does not wait until a key is pressed."""
        self.reader.next()
        (thread,) = [one for one in threading.enumerate() if one is self.reader._thread]
        self.assertTrue(thread.daemon)


class ToyOutput:
    """
    A stream that writes as much as it is allowed to.

    :ivar texts: what was written, a piece a call.
    """

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.error: Exception | None = None
        self.begun = threading.Semaphore(0)
        self._room = threading.Semaphore(0)

    def allow(self, calls: int = 1) -> None:
        self._room.release(calls)

    def write(self, text: str) -> None:
        self.begun.release()
        self._room.acquire(timeout=PATIENCE)
        if self.error is not None:
            raise self.error
        self.texts.append(text)


class WriterTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.hand = Hand()
        self.output = ToyOutput()
        self.errors: list[Exception] = []
        self.writer = Writer(self.hand, self.output.write, self.errors.append, most=3)
        self.addCleanup(self.output.allow, 10)

    def put(self, *texts: str) -> list[bool]:
        return [self.writer.put(text) for text in texts]

    def await_begin(self) -> None:
        """Wait until it has taken what there is, and writes."""
        self.assertTrue(self.output.begun.acquire(timeout=PATIENCE))

    def drain(self) -> Deferred[None]:
        """Let it write everything."""
        done = self.writer.drained()
        self.output.allow(10)
        self.hand.take_until(lambda: done.called)
        return done

    def test_lines_in_order(self) -> None:
        """All that waits is written at once, and nobody waits for it."""
        self.put("a\n")
        self.await_begin()
        self.assertEqual(self.put("b\n", "c\n"), [True, True])
        self.successResultOf(self.drain())
        self.assertEqual(self.output.texts, ["a\n", "b\nc\n"])
        self.assertEqual((self.writer.lost, self.errors), (0, []))

    def test_drained(self) -> None:
        """Not before the last text has been written, though nothing waits."""
        self.successResultOf(self.writer.drained())
        self.put("a\n")
        self.await_begin()
        done = self.writer.drained()
        self.assertNoResult(done)
        self.put("b\n")
        self.output.allow()
        self.await_begin()
        self.assertNoResult(done)
        self.output.allow()
        self.hand.take_until(lambda: done.called)
        self.successResultOf(done)
        self.assertEqual(self.output.texts, ["a\n", "b\n"])
        self.successResultOf(self.writer.drained())

    def test_several_that_wait(self) -> None:
        """All of them are told, apart from those that do not wait any more."""
        self.put("a\n")
        waiting = [self.writer.drained() for _ in range(3)]
        waiting[1].cancel()
        self.failureResultOf(waiting[1], CancelledError)
        self.output.allow()
        self.hand.take_until(lambda: waiting[2].called)
        self.successResultOf(waiting[0])
        self.successResultOf(waiting[2])

    def test_a_reader_that_does_not_read(self) -> None:
        """Beyond the limit the oldest lines are lost, which is told and counted."""
        self.put("0")
        self.await_begin()
        self.assertEqual(self.put("1", "2", "3"), [True] * 3)
        self.assertEqual(self.put("4", "5"), [False] * 2)
        self.assertEqual(self.writer.lost, 2)
        self.drain()
        self.assertEqual(self.output.texts, ["0", "345"])
        self.assertEqual(self.put("6"), [True])

    def test_large_lines_that_wait(self) -> None:
        """They are bounded in all their size as well, not in number alone."""
        writer = Writer(self.hand, self.output.write, self.errors.append)
        line = "x" * 2**20
        writer.put("0")
        self.await_begin()
        lost = [writer.put(line) for _ in range(200)].count(False)
        self.assertGreater(lost, 50)
        self.assertEqual(writer.lost, lost)

    def test_a_stream_that_fails(self) -> None:
        """It is told once, nobody waits any longer, and what comes then vanishes."""
        self.output.error = BrokenPipeError()
        self.put("a")
        self.await_begin()
        self.put("b")
        done = self.writer.drained()
        self.output.allow()
        self.hand.take_until(lambda: done.called)
        self.assertEqual(self.errors, [self.output.error])
        self.assertEqual(self.put(*"cdefg"), [True] * 5)
        self.drain()
        self.assertEqual((self.output.texts, self.writer.lost), ([], 0))

    def test_the_failure_is_told_before_the_end(self) -> None:
        """Who waits for everything to be written knows then whether it was."""
        for asked_before in (True, False):
            self.setUp()
            self.output.error = OSError("full")
            known: list[int] = []

            def ask(known: list[int] = known) -> None:
                self.writer.drained().addCallback(lambda _: known.append(len(self.errors)))

            self.put("a")
            if asked_before:
                ask()
            self.output.allow()
            assert self.writer._thread is not None
            self.writer._thread.join(PATIENCE)
            if not asked_before:
                ask()
            self.hand.take_until(lambda known=known: known)
            self.assertEqual(known, [1])

    def test_the_reactor_has_ended(self) -> None:
        """Then nobody can be told, and the thread does not complain."""
        told = threading.Event()

        class Gone:
            def callFromThread(self, call: object, *arguments: object) -> None:
                told.set()
                raise RuntimeError("the reactor has ended")

        complaints: list[Any] = []
        self.patch(threading, "excepthook", complaints.append)
        writer = Writer(Gone(), self.output.write, self.errors.append)
        self.output.allow()
        writer.put("a")
        self.assertTrue(told.wait(PATIENCE))
        self.assertEqual(complaints, [])

    def test_nobody_waits_for_its_thread(self) -> None:
        """A process that ends does not wait for a pager."""
        before = threading.active_count()
        writer = Writer(self.hand, self.output.write, self.errors.append)
        self.assertEqual(threading.active_count(), before)
        writer.put("a")
        assert writer._thread is not None
        self.assertTrue(writer._thread.daemon)
