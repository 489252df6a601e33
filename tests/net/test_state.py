"""
The state directory: what is kept, what is read again, and what happens when that goes wrong.

The files are real ones, the nodes live on transports in memory.
"""

from __future__ import annotations

import errno
import os
import random
import stat
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import fail
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from py2p_twisted.core import state as formats
from py2p_twisted.core.network import Network
from py2p_twisted.core.node import Node
from py2p_twisted.core.seen import SeenCache
from py2p_twisted.errors import StateUnusable
from py2p_twisted.net import MeshService
from py2p_twisted.net import state as module
from py2p_twisted.net.state import (
    ADDRESSES,
    CERTIFICATE,
    FIRST_SAVE,
    IDENTITY,
    IDS,
    IDS_BEFORE,
    LOCK,
    RETRY,
    SAVE_INTERVAL,
    NodeState,
    most_bytes,
)
from py2p_twisted.net.tls import SelfMade
from py2p_twisted.testing import MemoryMesh

WALL = 1_790_000_000.0

#: A file that always is full, on Linux.
FULL = "/dev/full"


def ident(number: int) -> bytes:
    """An id like that of a message."""
    return number.to_bytes(formats.ID, "big")


class ToyNode:
    """What a state directory sees of a node."""

    def __init__(self, window: float, capacity: int) -> None:
        self.seen = SeenCache(window, capacity)
        self.known: list[tuple[tuple[str, int], bytes]] = []

    def known_peers(self) -> list[tuple[tuple[str, int], bytes]]:
        return list(self.known)


class StateTestCase(SynchronousTestCase):
    """One directory, and a clock."""

    window, capacity = 64.0, 40

    def setUp(self) -> None:
        self.clock = Clock()
        self.skew = 0.0
        self.directory = Path(self.mktemp())
        catching = capturedLogs()
        self.events = catching.__enter__()
        self.addCleanup(catching.__exit__, None, None, None)

    def state(self, **options: Any) -> NodeState:
        """A directory's user, who has not opened it."""
        made = NodeState(
            options.pop("directory", self.directory),
            Network("mesh"),
            window=self.window,
            capacity=self.capacity,
            book_size=8,
            now=self.clock.seconds,
            wall=lambda: WALL + self.clock.seconds() + self.skew,
            salt=options.pop("salt", "salt"),
        )
        self.addCleanup(made.close)
        return made

    def run_node(self, **options: Any) -> tuple[NodeState, Any]:
        """The same, with a node that has started."""
        state = self.state(**options)
        state.open()
        node: Any = ToyNode(self.window, self.capacity)
        state.start(node)
        return state, node

    def kill(self, state: NodeState) -> None:
        """End as a killed process does: the system closes its files."""
        state._release()
        state._node = None

    def add(self, state: NodeState, node: Any, *numbers: int) -> None:
        """A turn that brings some messages."""
        for number in numbers:
            node.seen.add(ident(number), self.clock.seconds())
        state.write_ids()

    def known(self, node: Any) -> set[int]:
        """The messages that a node knows."""
        return {int.from_bytes(one, "big") for one in node.seen.ids}

    def texts(self, level: Any = LogLevel.warn) -> list[str]:
        """What was logged so far at a level."""
        return [formatEvent(event) for event in self.events if event["log_level"] is level]

    def file(self, name: str) -> Path:
        return self.directory / name


class IdentityTests(StateTestCase):
    def test_it_is_kept(self) -> None:
        """Who starts again in the same directory is the same node."""
        state, _ = self.run_node()
        before = state.identity
        self.kill(state)
        self.assertEqual(self.run_node(salt="another")[0].identity, before)
        self.assertEqual(self.texts(), [])

    def test_each_directory_has_its_own(self) -> None:
        """Nodes of one process are different nodes."""
        one, _ = self.run_node()
        other, _ = self.run_node(directory=self.mktemp())
        self.assertNotEqual(one.identity, other.identity)

    def test_files_are_for_the_owner_alone(self) -> None:
        """Whatever the umask; and what others could read is closed to them."""
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        state, node = self.run_node()
        self.add(state, node, 1)
        state.save()
        self.assertEqual(stat.S_IMODE(self.directory.stat().st_mode), 0o700)
        for path in self.directory.iterdir():
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600, path)
        self.kill(state)
        self.file(IDENTITY).chmod(0o644)
        self.run_node()
        self.assertEqual(stat.S_IMODE(self.file(IDENTITY).stat().st_mode), 0o600)

    def test_damaged(self) -> None:
        """Then it is a new participant, says so once, and has an id that lasts."""
        state, _ = self.run_node()
        before = state.identity
        self.kill(state)
        self.file(IDENTITY).write_bytes(self.file(IDENTITY).read_bytes()[:-5])
        state, _ = self.run_node(salt="another")
        self.assertNotEqual(state.identity, before)
        (text,) = self.texts()
        self.assertIn("identity is damaged", text)
        self.assertIn("new participant", text)
        self.kill(state)
        self.assertEqual(self.run_node()[0].identity, state.identity)


class CertificateTests(StateTestCase):
    """What a node with TLS shows, kept so that a ticket can name it."""

    def kept(self) -> tuple[NodeState, SelfMade]:
        """A directory that is open, and what its node shows."""
        state, credentials = self.state(), SelfMade()
        state.open()
        state.keep_certificate(credentials)
        return state, credentials

    def test_it_is_kept(self) -> None:
        """For the owner alone."""
        state, before = self.kept()
        self.assertEqual((state.fingerprint, state.complaints), (before.fingerprint, []))
        self.kill(state)
        self.file(CERTIFICATE).chmod(0o644)
        state, after = self.kept()
        self.assertEqual(after.fingerprint, before.fingerprint)
        self.assertEqual((state.fingerprint, state.complaints), (before.fingerprint, []))
        self.assertEqual(stat.S_IMODE(self.file(CERTIFICATE).stat().st_mode), 0o600)

    def test_damaged(self) -> None:
        """It is made anew, which is said, and that one is kept."""
        state, before = self.kept()
        self.kill(state)
        self.file(CERTIFICATE).write_bytes(before.as_pem()[:-100])
        state, after = self.kept()
        self.assertNotEqual(after.fingerprint, before.fingerprint)
        self.assertEqual(state.fingerprint, after.fingerprint)
        (complaint,) = state.complaints
        self.assertIn("made anew, so tickets that name it are void", complaint)
        self.kill(state)
        self.assertEqual(self.kept()[1].fingerprint, after.fingerprint)

    def test_a_full_disk(self) -> None:
        """The node has one all the same, and no ticket names it."""
        with mock.patch.object(NodeState, "_replace", side_effect=OSError(errno.ENOSPC, "full")):
            state = self.state()
            state.identity = b"x"
            state.keep_certificate(SelfMade())
        self.assertIsNone(state.fingerprint)
        self.assertIn("the certificate is not kept", state.complaints[0])

    def test_a_network_without_tls_has_none(self) -> None:
        mesh = MemoryMesh("ada")
        mesh.add("ben", state_dir=self.directory)
        self.assertFalse(self.file(CERTIFICATE).exists())
        mesh.add("cyd", Network("mesh", "SSL"), state_dir=str(self.directory) + ".tls")
        self.assertTrue(Path(f"{self.directory}.tls", CERTIFICATE).exists())


class UnusableTests(StateTestCase):
    def refusal(self, **options: Any) -> str:
        """Why a directory cannot be used."""
        error = self.assertRaises(StateUnusable, self.state(**options).open)
        self.assertIsInstance(error, OSError)
        self.assertEqual(len(str(error).splitlines()), 1)
        return str(error)

    def test_one_at_a_time(self) -> None:
        """A second node is told which process has it, and leaves the first one alone."""
        if module.fcntl is None:
            raise SkipTest("there are no locks here")
        state, node = self.run_node()
        self.assertIn(f"in use by the process {os.getpid()}: stop it", self.refusal())
        self.add(state, node, 1)
        self.kill(state)
        self.assertEqual(self.known(self.run_node()[1]), {1})

    def test_the_end_of_one_lets_another_begin(self) -> None:
        """Closed, it is free, and names nobody."""
        state, _ = self.run_node()
        state.close()
        self.assertEqual(self.file(LOCK).read_bytes(), b"")
        self.run_node()

    def test_no_locks(self) -> None:
        """On a file system without locks it works, with a warning."""
        if module.fcntl is None:
            raise SkipTest("there are no locks here")
        with mock.patch.object(
            module.fcntl, "flock", side_effect=OSError(errno.ENOLCK, "No locks available")
        ):
            self.run_node()
        (text,) = self.texts()
        self.assertIn("cannot be locked", text)

    def test_no_directory_above_it(self) -> None:
        """A path that is mistyped makes no tree of directories."""
        self.assertIn("make the one above", self.refusal(directory=self.directory / "x/y"))

    def test_a_file(self) -> None:
        """What is no directory is said to be none."""
        self.directory.write_text("")
        self.assertIn("is no directory", self.refusal())

    def test_not_ours(self) -> None:
        """A directory that cannot be written to is refused, with what to do."""
        self.directory.mkdir()
        with mock.patch.object(os, "access", return_value=False):
            self.assertIn("let the user that runs the node own it", self.refusal())

    def test_a_newer_version(self) -> None:
        """What a newer version has written is neither read nor overwritten, whichever file it is."""
        state, node = self.run_node()
        self.add(state, node, 1)
        state.save()
        self.kill(state)
        for name in (IDENTITY, ADDRESSES, IDS):
            data = self.file(name).read_bytes()
            self.file(name).write_bytes(data.replace(b" 1\n", b" 9\n", 1))
            self.assertIn("newer version of py2p_twisted", self.refusal())
            self.assertIn("version 9", self.refusal())
            self.assertIn(b" 9\n", self.file(name).read_bytes())
            self.file(name).write_bytes(data)
        self.assertEqual(self.known(self.run_node()[1]), {1})

    def test_others_may_write(self) -> None:
        """A directory in which anybody can plant something is warned of."""
        self.directory.mkdir()
        self.directory.chmod(0o777)
        self.run_node()
        (text,) = self.texts()
        self.assertIn("others can write to it", text)

    def test_it_is_given_to_the_owner_of_the_directory(self) -> None:
        """What root makes before it becomes somebody else belongs to that somebody."""
        if not hasattr(os, "geteuid") or os.geteuid() != 0:
            raise SkipTest("only root can give files away")
        self.directory.mkdir()
        os.chown(self.directory, 12345, 12346)
        state, node = self.run_node()
        self.add(state, node, 1)
        state.save()
        for path in self.directory.iterdir():
            self.assertEqual((path.stat().st_uid, path.stat().st_gid), (12345, 12346), path)


class IdsTests(StateTestCase):
    def test_they_are_known_after_a_kill(self) -> None:
        """Without anything that a killed process could not do."""
        state, node = self.run_node()
        self.add(state, node, 1, 2)
        self.add(state, node, 3)
        self.kill(state)
        self.assertEqual(self.known(self.run_node()[1]), {1, 2, 3})

    def test_one_write_for_a_turn(self) -> None:
        """However many messages it brought; none without any."""
        state, node = self.run_node()
        with mock.patch.object(os, "write", wraps=os.write) as write:
            self.add(state, node, *range(30))
            self.add(state, node)
            self.add(state, node, 5)
            self.assertEqual(write.call_count, 1)

    def test_what_is_read_is_not_written_again(self) -> None:
        """Files do not grow by being read."""
        state, node = self.run_node()
        self.add(state, node, 1)
        for _ in range(3):
            self.kill(state)
            size = self.file(IDS).stat().st_size
            state, _ = self.run_node()
            state.save()
            self.assertEqual(self.file(IDS).stat().st_size, size)

    def test_a_whole_window_is_known(self) -> None:
        """At any moment the files hold what came within the window before it."""
        state, node = self.run_node()
        for second in range(300):
            self.add(state, node, second)
            if second % 7 == 0:
                self.kill(state)
                state, node = self.run_node()
                expected = set(range(max(0, second - self.capacity + 1), second + 1))
                self.assertEqual(self.known(node), expected)
            self.clock.advance(1)

    def test_the_files_are_bounded(self) -> None:
        """By the number of ids that are remembered, however they come."""
        rng = random.Random(3)
        state, node = self.run_node()
        number = 0
        for _ in range(300):
            together = rng.choice((1, 1, 1, 5, 39))
            self.add(state, node, *range(number, number + together))
            number += together
            for name in (IDS, IDS_BEFORE):
                if self.file(name).exists():
                    self.assertLessEqual(self.file(name).stat().st_size, most_bytes(self.capacity))
        self.kill(state)
        latest = set(range(number - self.capacity, number))
        self.assertEqual(self.known(self.run_node()[1]), latest)

    def test_old_ones_go(self) -> None:
        """What is two windows old is gone from the disk, in a network where little is said, too."""
        state, node = self.run_node()
        self.add(state, node, 1)
        for number in (2, 3):
            self.clock.advance(self.window)
            self.add(state, node, number)
        self.assertNotIn(ident(1), self.file(IDS_BEFORE).read_bytes())
        self.assertIn(ident(2), self.file(IDS_BEFORE).read_bytes())
        self.assertIn(ident(3), self.file(IDS).read_bytes())

    def test_old_ones_go_however_often_it_is_killed(self) -> None:
        """A node that never runs for a whole window puts the file aside as well."""
        for number in range(30):
            state, node = self.run_node()
            self.add(state, node, number)
            self.clock.advance(self.window / 5)
            self.add(state, node, 100 + number)
            self.kill(state)
        kept = self.file(IDS_BEFORE).read_bytes() + self.file(IDS).read_bytes()
        self.assertNotIn(ident(1), kept)
        self.assertIn(ident(25), kept)

    def test_a_clock_that_was_set_loses_none(self) -> None:
        """Forwards or backwards, while it runs or while it does not."""
        for step in (10**6, -(10**6)):
            self.directory = Path(self.mktemp())
            self.skew = 0.0
            state, node = self.run_node()
            self.add(state, node, 1)
            self.skew += step
            self.add(state, node, 2)
            self.kill(state)
            self.skew += step
            state, node = self.run_node()
            for second in range(int(self.window / 2)):
                self.assertLessEqual({1, 2}, self.known(node), f"{second} s after a step of {step}")
                self.clock.advance(1)
                self.add(state, node, 100 + second)

    def test_they_are_known_for_half_a_window_more(self) -> None:
        """Even if all of them seem to be old, since the clock was set forward meanwhile."""
        self.capacity = 1000
        state, node = self.run_node()
        for second in range(10):
            self.add(state, node, second)
            self.clock.advance(1)
        self.kill(state)
        self.skew += 50
        state, node = self.run_node()
        for second in range(int(self.window / 2)):
            self.assertLessEqual(set(range(10)), self.known(node), f"after {second} s")
            self.clock.advance(1)
            node.seen.add(ident(200 + second), self.clock.seconds())

    def test_they_do_not_live_for_ever(self) -> None:
        """What was read is forgotten like everything else."""
        state, node = self.run_node()
        self.add(state, node, 1)
        self.kill(state)
        state, node = self.run_node()
        for second in range(70):
            self.clock.advance(1)
            self.add(state, node, 100 + second)
        self.assertNotIn(1, self.known(node))

    @given(st.integers(0, 1000), st.binary(max_size=100), st.sampled_from((IDS, IDS_BEFORE)))
    def test_damage(self, place: int, noise: bytes, name: str) -> None:
        """Whatever stands in the files: a node starts, knows the rest, and complains once a file."""
        self.directory = Path(self.mktemp())
        state, node = self.run_node()
        for number in range(60):
            self.add(state, node, number)
        self.kill(state)
        data = bytearray(self.file(name).read_bytes())
        data[place : place + len(noise)] = noise
        if data.startswith(b"py2p ids ") and not data.startswith(b"py2p ids 1\n"):
            return
        self.file(name).write_bytes(data)
        self.events.clear()
        state, node = self.run_node()
        self.assertLessEqual(len(self.texts()), 1)
        self.assertGreater(len(self.known(node)), self.capacity - 8)
        self.add(state, node, 1000)
        self.kill(state)
        self.assertIn(1000, self.known(self.run_node()[1]))

    def test_every_prefix(self) -> None:
        """A file that was cut short anywhere costs what was cut."""
        state, node = self.run_node()
        for number in range(5):
            self.add(state, node, number)
        self.kill(state)
        data = self.file(IDS).read_bytes()
        for length in range(len(data)):
            self.file(IDS).write_bytes(data[:length])
            state, node = self.run_node()
            self.assertEqual(self.known(node), set(range(len(self.known(node)))))
            self.add(state, node, 77)
            self.kill(state)
            state, node = self.run_node()
            self.assertIn(77, self.known(node))
            self.kill(state)

    def test_a_file_of_somebody_else(self) -> None:
        """Far longer than one of ours: its end is looked at, and it does not go on growing."""
        state, _ = self.run_node()
        self.kill(state)
        self.file(IDS).write_bytes(bytes(10**6))
        state, node = self.run_node()
        self.add(state, node, 1)
        self.assertLess(self.file(IDS).stat().st_size, most_bytes(self.capacity))
        self.kill(state)
        self.assertEqual(self.known(self.run_node()[1]), {1})


class BookTests(StateTestCase):
    BOOK = [(("10.0.0.1", 4444), b"ada"), (("node.example", 1), b"")]

    def test_it_is_kept(self) -> None:
        """Whom a node knew it knows again, in the same order."""
        state, node = self.run_node()
        node.known = self.BOOK
        state.save()
        self.kill(state)
        self.assertEqual(self.run_node()[0].peers, self.BOOK)

    def test_it_is_replaced_whole(self) -> None:
        """Who is killed in the middle of it leaves the old one."""
        state, node = self.run_node()
        node.known = self.BOOK
        state.save()
        node.known = self.BOOK[:1]
        with mock.patch.object(os, "replace", side_effect=OSError(errno.EIO, "broken")):
            state.save()
        self.kill(state)
        self.assertEqual(self.run_node()[0].peers, self.BOOK)

    def test_only_when_it_has_changed(self) -> None:
        """An idle node writes nothing."""
        state, node = self.run_node()
        node.known = self.BOOK
        state.save()
        with mock.patch.object(os, "write") as write:
            state.save()
            write.assert_not_called()

    def test_damage(self) -> None:
        """A line that makes no sense costs that line, and one warning."""
        state, node = self.run_node()
        node.known = self.BOOK
        state.save()
        self.kill(state)
        self.file(ADDRESSES).write_bytes(self.file(ADDRESSES).read_bytes()[:-2])
        self.assertEqual(self.run_node()[0].peers, self.BOOK[:1])
        (text,) = self.texts()
        self.assertIn("addresses is damaged", text)


class TroubleTests(StateTestCase):
    def full(self) -> Any:
        """From now on the disk is full."""
        return mock.patch.object(
            os, "write", side_effect=OSError(errno.ENOSPC, "No space left on device")
        )

    def test_a_full_disk(self) -> None:
        """One warning; one line when there is room again; and then nothing is missing."""
        state, node = self.run_node()
        self.add(state, node, 1)
        node.known = BookTests.BOOK
        with self.full():
            for number in range(2, 9):
                self.add(state, node, number)
                state.save()
                self.clock.advance(RETRY / 2)
            (text,) = self.texts()
            self.assertIn("No space left on device", text)
            self.assertIn("No space left on device", state.status["trouble"])
        self.clock.advance(RETRY)
        self.assertEqual(len(self.texts()), 1)
        state.save()
        self.add(state, node, 9)
        self.assertEqual(state.status["trouble"], "none")
        self.assertIn("can be written to again", self.texts(LogLevel.info)[-1])
        self.assertEqual(len(self.texts()), 1)
        self.kill(state)
        state, node = self.run_node()
        self.assertEqual(self.known(node), set(range(1, 10)))
        self.assertEqual(state.peers, BookTests.BOOK)

    def test_it_is_not_tried_all_the_time(self) -> None:
        """A busy node on a full disk has better things to do."""
        state, node = self.run_node()
        with self.full() as write:
            for number in range(50):
                self.add(state, node, number)
            self.assertEqual(write.call_count, 1)
            self.clock.advance(RETRY)
            self.add(state, node, 50)
            self.assertEqual(write.call_count, 2)

    def test_a_part_of_a_write(self) -> None:
        """What had no room is not left there half, and comes later whole."""
        state, node = self.run_node()
        size = self.file(IDS).stat().st_size
        real = os.write
        with mock.patch.object(os, "write", side_effect=lambda to, data: real(to, data[:5])):
            self.add(state, node, 1)
        self.assertEqual(self.file(IDS).stat().st_size, size)
        self.clock.advance(RETRY)
        self.add(state, node, 2)
        self.kill(state)
        self.assertEqual(self.known(self.run_node()[1]), {1, 2})
        self.assertEqual(len(self.texts()), 1)

    def test_a_device_that_is_full(self) -> None:
        """The same with the system's own error."""
        if not os.path.exists(FULL):
            raise SkipTest("there is no /dev/full")
        state, node = self.run_node()
        os.dup2(os.open(FULL, os.O_WRONLY), state._file)
        self.add(state, node, 1)
        (text,) = self.texts()
        self.assertIn(os.strerror(errno.ENOSPC), text)

    def test_a_full_disk_from_the_beginning(self) -> None:
        """A node with an id starts; a new one cannot promise anything, and does not."""
        state, _ = self.run_node()
        before = state.identity
        self.kill(state)
        self.file(IDS).unlink()
        with self.full():
            state, node = self.run_node()
            self.assertEqual(state.identity, before)
            self.add(state, node, 1)
        self.clock.advance(RETRY)
        self.add(state, node, 2)
        self.kill(state)
        self.assertEqual(self.known(self.run_node()[1]), {1, 2})
        with self.full():
            another = self.state(directory=self.mktemp())
            self.assertIn("No space", str(self.assertRaises(StateUnusable, another.open)))

    def test_a_file_cannot_be_put_aside(self) -> None:
        """Then nothing is written any more: it must not grow for ever."""
        state, node = self.run_node()
        with mock.patch.object(
            os, "replace", side_effect=OSError(errno.EACCES, "Permission denied")
        ):
            for number in range(200):
                self.add(state, node, number)
                self.clock.advance(RETRY)
            self.assertLessEqual(self.file(IDS).stat().st_size, most_bytes(self.capacity))
            self.assertEqual(len(self.texts()), 1)
        self.add(state, node, 200)
        self.kill(state)
        latest = set(range(201 - self.capacity, 201))
        self.assertLessEqual(latest, self.known(self.run_node()[1]))

    def test_somebody_cleans_up(self) -> None:
        """A file that was deleted is made again, with what is still known."""
        state, node = self.run_node()
        node.known = BookTests.BOOK
        self.add(state, node, 1)
        state.save()
        self.file(IDS).unlink()
        self.file(ADDRESSES).unlink()
        state.save()
        state.save()
        self.add(state, node, 2)
        self.kill(state)
        state, node = self.run_node()
        self.assertIn(2, self.known(node))
        self.assertEqual(state.peers, BookTests.BOOK)

    def test_a_forked_child_holds_nothing(self) -> None:
        """A child that outlives its parent does not keep the directory from the next node."""
        if module.fcntl is None or not hasattr(os, "fork"):
            raise SkipTest("there are no locks, or no forks, here")
        state, _ = self.run_node()
        there, here = os.pipe(), os.pipe()
        child = os.fork()
        if not child:
            os.write(there[1], b"x")
            os.close(here[1])
            os.read(here[0], 1)
            os._exit(0)
        try:
            os.read(there[0], 1)
            self.kill(state)
            self.run_node()
        finally:
            for end in (*there, *here):
                os.close(end)
            os.waitpid(child, 0)


class ServiceTests(SynchronousTestCase):
    """Whole nodes, on a network in memory."""

    def setUp(self) -> None:
        self.mesh = MemoryMesh(max_outgoing=4)
        self.directory = Path(self.mktemp())
        catching = capturedLogs()
        self.events = catching.__enter__()
        self.addCleanup(catching.__exit__, None, None, None)

    def kill(self, name: str) -> None:
        """End a node as kill -9 does: nothing is written any more, and the system closes files."""
        state = self.mesh[name].service.state
        assert state is not None
        state._release()
        state._node = None
        self.mesh.kill(name)

    def restart(self, name: str) -> Any:
        """The same directory, at another address."""
        return self.mesh.add(name, state_dir=self.directory)

    def network(self) -> None:
        """Ada, who keeps her state, and two others."""
        for name in ("ben", "cyd"):
            self.mesh.add(name)
        self.restart("ada")
        self.mesh.link("ada", "ben")
        self.mesh.link("cyd", "ben")
        self.mesh.advance(5)

    def test_nothing_comes_twice(self) -> None:
        """What was delivered before a kill is not delivered after it; what was missed is."""
        self.network()
        self.mesh["ben"].send("before")
        self.mesh.advance(1)
        self.assertEqual(self.mesh.inbox("ada"), [("before",)])
        before = self.mesh["ada"].id
        self.kill("ada")
        self.mesh["cyd"].send("meanwhile")
        self.mesh.advance(5)
        ada = self.restart("ada")
        self.mesh.advance(10)
        self.assertEqual(ada.id, before)
        self.assertEqual(self.mesh.inbox("ada"), [("meanwhile",)])

    def test_without_it_everything_comes_again(self) -> None:
        """The test above can fail."""
        for name in ("ada", "ben"):
            self.mesh.add(name)
        self.mesh.link("ada", "ben")
        self.mesh["ben"].send("before")
        self.mesh.advance(1)
        self.mesh.kill("ada")
        self.mesh.add("ada")
        self.mesh.link("ada", "ben")
        self.mesh.advance(5)
        self.assertEqual(self.mesh.inbox("ada"), [("before",)])

    def test_our_own_do_not_come_back(self) -> None:
        """What a node has sent is no news to it after a kill, and it can say the same again."""
        self.network()
        self.mesh["ada"].send("own")
        self.mesh.settle()
        self.kill("ada")
        ada = self.restart("ada")
        ada.send("own")
        self.mesh.advance(10)
        self.assertEqual(self.mesh.inbox("ada"), [])
        self.assertEqual(self.mesh.inbox("ben"), [("own",), ("own",)])
        self.assertEqual(self.mesh.inbox("cyd"), [("own",), ("own",)])

    def test_ids_are_written_before_anybody_hears(self) -> None:
        """When the application is told, and when a peer gets something, it is on the disk."""
        self.network()
        told: list[bool] = []

        def on_disk(one: bytes) -> bool:
            runs, _ = formats.decode_ids((self.directory / IDS).read_bytes())
            return any(one in found for _, found in runs)

        self.mesh["ada"].service.on_message = lambda message: told.append(on_disk(message.id))
        self.mesh["ben"].service.on_message = lambda message: told.append(on_disk(message.id))
        self.mesh["ben"].send("to ada")
        self.mesh.settle()
        self.mesh["ada"].send("to ben")
        self.mesh.settle()
        self.mesh["ben"].send(bytes(600_000))  # more than a turn may keep for the application
        self.mesh.settle()
        self.assertEqual(told, [True, True, True])

    def test_it_finds_its_way_back(self) -> None:
        """Soon after the first start already, and with no bootstrap address."""
        self.network()
        self.kill("ada")
        ada = self.restart("ada")
        self.mesh.advance(1)
        self.assertIn(self.mesh["ben"].id, ada.peers)

    def test_it_is_saved_now_and_then(self) -> None:
        """At first after two seconds, then once a minute, and when it stops."""
        ada = self.restart("ada")
        with mock.patch.object(ada.service.state, "save") as save:
            self.mesh.advance(FIRST_SAVE)
            self.assertEqual(save.call_count, 1)
            self.mesh.advance(600)
            before = save.call_count
            self.mesh.advance(10 * SAVE_INTERVAL)
            self.assertEqual(save.call_count, before + 10)
            self.mesh.stop("ada")
            self.assertEqual(save.call_count, before + 11)
        self.assertEqual((self.directory / LOCK).read_bytes(), b"")
        self.assertEqual(self.mesh.clock.getDelayedCalls(), [])

    def test_status(self) -> None:
        """It says where it keeps what; without a directory it says nothing of it."""
        self.network()
        self.mesh["ada"].send("x")
        self.mesh.advance(60)
        told = self.mesh["ada"].service.status["state directory"]
        self.assertEqual(told["directory"], os.path.abspath(self.directory))
        self.assertEqual((told["ids written"], told["trouble"]), (1, "none"))
        self.assertGreaterEqual(told["addresses"], 2)
        self.assertEqual(told["bytes of ids"], (self.directory / IDS).stat().st_size)
        self.assertNotIn("state directory", self.mesh["ben"].service.status)
        self.assertEqual(self.mesh["ada"].service.status, "Nominal")

    def test_no_state_no_cost(self) -> None:
        """Without a directory nobody is asked at the end of a turn, and nothing is written."""
        self.mesh.add("ben")
        self.assertIsNone(self.mesh["ben"].service.factory.journal)
        self.assertIsNone(self.mesh["ben"].service.state)

    def test_a_directory_that_is_taken(self) -> None:
        """The service does not start, says why, and leaves the port alone."""
        if module.fcntl is None:
            raise SkipTest("there are no locks here")
        self.restart("ada")
        second = MeshService(
            self.mesh.clock, listen=[self.mesh.network.server(("10.9.9.9", 1))],
            state_dir=self.directory,
        )  # fmt: skip
        self.failureResultOf(second.start(), StateUnusable)
        self.failureResultOf(second.start(), StateUnusable)
        self.assertRaises(StateUnusable, second.startService)
        self.successResultOf(second.stopService())

    def test_a_port_that_is_taken(self) -> None:
        """The directory is free for the next attempt."""
        taken = mock.Mock()
        taken.listen.side_effect = lambda _: fail(CannotListenError("", 1, OSError("in use")))
        first = MeshService(self.mesh.clock, listen=[taken], state_dir=self.directory)
        self.failureResultOf(first.start(), CannotListenError)
        self.restart("ada")

    def test_known_peers(self) -> None:
        """Neighbours come first, each once."""
        self.network()
        node: Node = self.mesh["ada"].service.factory.node
        known = node.known_peers()
        neighbours = {(self.mesh[name].address, self.mesh[name].id) for name in ("ben", "cyd")}
        self.assertEqual(set(known), neighbours)
        self.assertEqual(len(known), 2)
