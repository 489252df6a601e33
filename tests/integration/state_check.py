"""
The state directory, at real nodes: killed again and again under traffic, and on a disk that is full.

A node is killed with SIGKILL a hundred times while three others send, and so does it. Each of its lives
writes down what it is given, see `delivery.node`; all of them together must not have anything twice::

    others   ... 41 42 43 44 45 46 47 48 49 50 ...
    lives        41 42 43|      44 45 46 47|  48 ...
                         kill              kill

Only its first life is told whom to join. What a kill may cost is what was handed over in that very
turn: an id is on the disk before the application hears of its message (docs/delivery.rst). How much
that was is printed at the end.

A disk of its own, which can be filled, takes Linux, root, and ``unshare`` and ``nsenter`` (util-linux). A
limit to the size of files stands in for it everywhere else.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest

from py2p_twisted.core import state as formats
from py2p_twisted.net.state import IDS, IDS_BEFORE
from tests.integration.delivery_check import HEALING, DeliveryTestCase, Recorder, span
from tests.integration.driver import HOST, moments
from tests.integration.nodes import PATIENCE, settings
from tests.integration.reference import PROJECT

#: Kills, and how long a life lasts at least and at most.
KILLS = 100
LIFE = (0.02, 0.3)

#: Messages a second of each of three senders.
RATE = 60.0

#: Processes that are made before they are needed: to start Python is not what is tested.
SPARES = 3

#: Bytes of a disk that is soon full.
DISK = 256 * 1024

#: Bytes of a file under the limit that stands in for a disk: some hundred ids.
LIMIT = 4096


def written(directory: Path) -> list[bytes]:
    """The ids in a state directory, as they came."""
    found: list[bytes] = []
    for name in (IDS_BEFORE, IDS):
        with contextlib.suppress(FileNotFoundError):
            for _, idents in formats.decode_ids((directory / name).read_bytes())[0]:
                found += idents
    return found


def events(text: str) -> list[dict[str, Any]]:
    """The lines of a log that are about the state directory."""
    found = []
    for line in text.replace("\x1e", "").splitlines():
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict) and record.get("event") == "state":
                found.append(record)
    return found


def level(event: dict[str, Any]) -> str:
    """A log line's level, by our own logger or by Twisted's."""
    found = event.get("level") or event["log_level"]["name"]
    assert isinstance(found, str)
    return found


class StateTestCase(DeliveryTestCase):
    """Tests with one node that keeps its state."""

    def setUp(self) -> None:
        super().setUp()
        self.state = self.folder / "state"

    def logged(self, node: Recorder) -> list[dict[str, Any]]:
        """What a node has logged about its state directory."""
        number = node._errors.fileno()
        return events(os.pread(number, os.fstat(number).st_size, 0).decode(errors="replace"))

    def warnings(self, node: Recorder) -> list[dict[str, Any]]:
        """What of that is a warning."""
        return [event for event in self.logged(node) if level(event) == "warn"]


class KillTests(StateTestCase):
    """A node that is killed a hundred times."""

    def twice(self, lives: Iterable[Recorder]) -> dict[tuple[str, int], int]:
        """What these have been given, or have sent, more often than once, taken together."""
        times: Counter[tuple[str, int]] = Counter()
        for life in lives:
            times.update(life.look().twice)
            for name, numbers in life.got.items():
                times.update((name, number) for number in numbers)
        return {message: count for message, count in times.items() if count > 1}

    def test_nothing_comes_twice(self) -> None:
        """In all its lives together it is given each message once at most, and misses hardly any."""
        rng = random.Random(4)
        others = self.mesh(3)
        spares = self.recorders(SPARES)
        options = [f"--state-dir={self.state}"]
        node = spares.pop(0).run(f"--join={HOST}:{others[0].port}", *options)
        self.wait_for_one_network([*others, node])
        ident, port = node.id, node.port
        senders = {f"other{number}": other for number, other in enumerate(others)}
        for name, other in senders.items():
            other.ask("traffic", name=name, rate=RATE)
        node.ask("traffic", name="life0", rate=RATE / 3)
        time.sleep(5.0)  # until whom it knows is on the disk
        lives = [node]
        began = time.monotonic()
        for number in range(1, KILLS + 1):
            spares += self.recorders(1)
            spare = spares.pop(0)
            spare.ask("ready", timeout=90.0)
            lives[-1].kill()
            lives.append(spare.run(*options, port=port))
            self.assertEqual(spare.id, ident)
            spare.ask("traffic", name=f"life{number}", rate=RATE / 3)
            time.sleep(rng.uniform(*LIFE))
        took = time.monotonic() - began
        sent = self.quiet(senders)
        lives[-1].ask("quiet")
        node = lives[-1]
        self.wait_for_one_network([*others, node])
        known: dict[str, set[int]] = {}
        lacking: dict[str, set[int]] = {}
        for _ in moments(HEALING, 0.5):
            for life in lives:
                for name in life.look().got:
                    known.setdefault(name, set()).update(life.numbers(name))
            lacking = {name: set(range(count)) - known[name] for name, count in sent.items()}
            if not any(lacking.values()):
                break
            if time.monotonic() - began > took + 5.0:
                break  # they were handed over when it was killed
        self.assertEqual(self.twice(lives), {})
        alive = sum(bool(set(life.got) - {f"life{place}"}) for place, life in enumerate(lives))
        lost = sum(map(len, lacking.values()))
        total = sum(sent.values())
        self.note(
            f"{KILLS} kills in {took:.0f} s; {total} messages of others, 0 twice, {lost} lost"
            + "".join(f"; {name}: {span(gone)}" for name, gone in lacking.items() if gone)
            + f"; {alive} of {len(lives)} lives were long enough to be given something"
        )
        self.assertGreater(total, 1000)
        self.assertGreater(alive, KILLS / 4)
        # Each kill can cost one turn, which is a read: seldom, and then some.
        self.assertLess(lost, total / 50)
        # What it has sent itself has reached the others, unless nobody had it yet.
        self.assert_once(others)
        self.assertEqual([self.warnings(life) for life in lives], [[]] * len(lives))
        found = written(self.state)
        self.assertEqual(len(found), len(set(found)))

    def test_without_state_it_would(self) -> None:
        """The test above can fail: without a state directory a node is given again what it had."""
        others = self.mesh(2)
        first, second = self.recorders(2)
        first.run(f"--join={HOST}:{others[0].port}")
        self.wait_for_one_network([*others, first])
        others[1].ask("send", name="news", count=20)
        self.assert_all([first], {"news": range(20)})
        first.kill()
        second.run(*first.arguments, port=first.port)
        self.assert_all([second], {"news": range(20)})
        self.assertEqual(len(self.twice([first, second])), 20)

    def test_another_port(self) -> None:
        """It is the same participant at another address, and finds its way back alone."""
        others = self.mesh(2)
        first, second = self.recorders(2)
        first.run(f"--join={HOST}:{others[0].port}", f"--state-dir={self.state}")
        self.wait_for_one_network([*others, first])
        others[1].ask("send", name="news", count=20)
        self.assert_all([first], {"news": range(20)})
        time.sleep(2.5)
        first.kill()
        others[1].ask("send", name="news", count=20)
        second.run(f"--state-dir={self.state}")
        self.assertEqual(second.id, first.id)
        self.assert_all([second], {"news": range(20, 40)})
        self.assertEqual(self.twice([first, second]), {})


class Disk:
    """
    A small file system in a mount namespace of its own.

    :ivar enter: what stands before a command that is to see it.
    """

    def __init__(self, folder: Path, size: int) -> None:
        """:raises SkipTest: the system does not let us make one."""
        for program in ("unshare", "nsenter", "mount"):
            if shutil.which(program) is None:
                raise SkipTest(f"the program {program} is missing, which is part of util-linux")
        folder.mkdir()
        script = f'mount -t tmpfs -o size={size},mode=700 tmpfs "$0" && echo here && exec cat'
        self.folder = folder
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", script, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        assert self._holder.stderr is not None
        self.enter = ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", "--"]
        if not self._holder.stdout.readline():
            told = self._holder.stderr.read().strip()
            self.close()
            raise SkipTest(f"no file system can be mounted here, which takes root: {told}")

    def run(self, *command: str) -> subprocess.CompletedProcess[bytes]:
        """Run a command that sees the disk."""
        return subprocess.run(
            [*self.enter, *command], capture_output=True, timeout=PATIENCE, check=False
        )

    def fill(self) -> None:
        """Leave no room."""
        done = self.run("dd", "if=/dev/zero", f"of={self.folder}/filler", "bs=1k")
        assert b"No space" in done.stderr, done.stderr

    def empty(self) -> None:
        """Make room again."""
        assert not self.run("rm", f"{self.folder}/filler").returncode

    def close(self) -> None:
        """Let go of it."""
        for pipe in (self._holder.stdin, self._holder.stdout, self._holder.stderr):
            if pipe is not None:
                pipe.close()
        self._holder.kill()
        self._holder.wait()


class FullDiskTests(StateTestCase):
    """A disk that has no room, for a while or for ever."""

    def test_it_runs_on(self) -> None:
        """
        Everything is delivered while the disk is full, with one warning; when there is room again,
        that is said once, and after a kill nothing comes again, of that time neither.
        """
        disk = Disk(self.folder / "disk", DISK)
        self.addCleanup(disk.close)
        (other,) = self.mesh(1)
        node, second = self.recorders(2, enter=disk.enter)
        options = [f"--join={HOST}:{other.port}", f"--state-dir={disk.folder}/state"]
        node.run(*options)
        self.wait_for_one_network([other, node])
        other.ask("send", name="news", count=50)
        self.assert_all([node], {"news": range(50)})
        disk.fill()
        for _ in range(6):
            other.ask("send", name="news", count=100)
            time.sleep(0.5)
        self.assert_all([node], {"news": range(650)})
        told = node.ask("status")["state directory"]
        self.assertIn("No space left", told["trouble"])
        (warning,) = self.warnings(node)
        self.assertIn("No space left", warning["error"])
        disk.empty()

        before = 650

        def works() -> bool:
            nonlocal before
            before = other.ask("send", name="news", count=1)
            return bool(node.ask("status")["state directory"]["trouble"] == "none")

        self.wait_for(works, "what is kept to be written again")
        self.assert_all([node], {"news": range(before)})
        told = [level(event) for event in self.logged(node)]
        self.assertEqual(told, ["info", "warn", "info"])  # opened, full, written to again
        node.kill()
        second.run(*options)
        self.wait_for_one_network([other, second])
        after = other.ask("send", name="news", count=5)
        self.assert_all([second], {"news": range(before, after)})
        self.assert_once([node, second])
        self.assertEqual(set(second.numbers("news")), set(range(before, after)))

    def test_a_limit_to_the_size_of_files(self) -> None:
        """
        The same without root: ``py2p node`` under a limit that its file of ids soon reaches runs on,
        says so once, and ends as it should.
        """
        (other,) = self.mesh(1)
        command = [sys.executable, "-m", "py2p_twisted", "node", f"--listen=tcp:0:interface={HOST}"]
        command += [f"--join={HOST}:{other.port}", f"--state-dir={self.state}"]
        command += ["--log-format=json", "--debug-level=1"]
        lines: list[str] = []
        # In units of 512 bytes. What it prints goes through a pipe, which has no size.
        with subprocess.Popen(
            ["sh", "-c", f'ulimit -f {LIMIT // 512}; exec "$@"', "sh", *command],
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            cwd=PROJECT,
            env=settings(),
            text=True,
        ) as process:
            assert process.stderr is not None
            reader = threading.Thread(target=lines.extend, args=(process.stderr,), daemon=True)
            reader.start()
            try:
                self.wait_for(lambda: bool(other.peers()), "the node to join", HEALING)
                for number in range(10):
                    other.ask("send", name=f"part{number}", count=50)
                    time.sleep(0.1)

                def heard() -> bool:
                    return sum("flag=0 payload=(0, 'delivery'" in line for line in lines) == 500

                self.wait_for(heard, "all messages to arrive", HEALING)
                process.send_signal(signal.SIGTERM)
                self.assertEqual(process.wait(PATIENCE), 0)
            finally:
                process.kill()
                reader.join(PATIENCE)
        told = events("".join(lines))
        self.assertEqual([level(event) for event in told], ["info", "warn"])
        self.assertIn("File too large", told[1]["error"])
        for name in (IDS, IDS_BEFORE):
            with contextlib.suppress(FileNotFoundError):
                self.assertLessEqual((self.state / name).stat().st_size, LIMIT)
        self.assertGreater(len(written(self.state)), 50)
