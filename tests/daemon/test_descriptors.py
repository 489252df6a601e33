"""How many files may be open: asked for, told, and compared with what is needed."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core.settings import Settings
from py2p_twisted.daemon import descriptors
from py2p_twisted.web import server
from tests.daemon.test_node import NodeTestCase


class ToyResource:
    """The system's limits, played by the test."""

    RLIMIT_NOFILE = 7
    RLIM_INFINITY = -1

    def __init__(self, soft: int, hard: int, error: Exception | None = None) -> None:
        self.limits = (soft, hard)
        self.error = error

    def getrlimit(self, which: int) -> tuple[int, int]:
        assert which == self.RLIMIT_NOFILE
        return self.limits

    def setrlimit(self, which: int, limits: tuple[int, int]) -> None:
        assert which == self.RLIMIT_NOFILE
        if self.error is not None:
            raise self.error
        self.limits = limits


class LimitTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(sys, "modules", dict(sys.modules))
        sys.modules.pop("twisted.internet.selectreactor", None)

    def raised(self, *limits: Any) -> tuple[tuple[int, int], int | None]:
        toy = ToyResource(*limits)
        self.patch(descriptors, "resource", toy)
        descriptors.raise_limit()
        return toy.limits, descriptors.limit()

    def test_raised(self) -> None:
        """Up to the hard limit, or to what a node asks for; never lowered, and told as it is."""
        most = descriptors.MOST
        for limits, soft, told in (
            ((1024, 4096), 4096, 4096),
            ((1024, 2**20), most, most),
            ((1024, -1), most, most),
            ((4096, 4096), 4096, 4096),
            ((2**20, 2**20), 2**20, 2**20),
            ((-1, -1), -1, None),
        ):
            self.assertEqual(self.raised(*limits), ((soft, limits[1]), told))

    def test_select(self) -> None:
        """Whoever waits with select can look at so many."""
        sys.modules["twisted.internet.selectreactor"] = sys
        self.assertEqual(self.raised(256, 4096), ((1024, 4096), 1024))
        self.assertEqual(self.raised(4096, 4096), ((4096, 4096), 1024))
        self.assertEqual(self.raised(-1, -1), ((-1, -1), 1024))

    def test_refused(self) -> None:
        """Then it stays as it is."""
        for error in (OSError(errno.EPERM, "no"), ValueError("not allowed")):
            self.assertEqual(self.raised(256, 4096, error), ((256, 4096), 256))

    def test_windows(self) -> None:
        """Where there are no such limits there is nothing to say."""
        self.patch(descriptors, "resource", None)
        descriptors.raise_limit()
        self.assertIsNone(descriptors.limit())

    def test_in_use(self) -> None:
        """Opening one more counts."""
        before = descriptors.in_use()
        assert before is not None
        with open(os.devnull):
            self.assertEqual(descriptors.in_use(), before + 1)

    def test_in_use_when_there_is_none_left(self) -> None:
        """To count takes one as well."""
        self.patch(descriptors, "resource", ToyResource(40, 40))

        def fail(_: str) -> list[str]:
            raise OSError(errno.EMFILE, "Too many open files")

        self.patch(os, "listdir", fail)
        self.assertEqual(descriptors.in_use(), 40)

    def test_in_use_where_nobody_tells(self) -> None:
        def fail(_: str) -> list[str]:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")

        self.patch(os, "listdir", fail)
        self.assertIsNone(descriptors.in_use())

    def test_needed(self) -> None:
        """More peers need more, and a node as it is by default is fine with what is usual."""
        self.assertLess(descriptors.needed(Settings(), 4), 256)
        few, many = (descriptors.needed(Settings(max_inbound=n), 0) for n in (10, 1000))
        self.assertEqual(many - few, 990)
        page = descriptors.needed(Settings(), 4, page=True)
        self.assertEqual(page - descriptors.needed(Settings(), 4), server.MOST_CONNECTIONS)


class NodeTests(NodeTestCase):
    def test_enough(self) -> None:
        """It is said, and shown by status."""
        self.patch(descriptors, "limit", lambda: 4096)
        node = self.start()
        self.assertEqual(self.named("descriptors"), [])
        (event,) = self.named("listening")
        self.assertEqual(event["files"], 4096)
        self.assertIn("; 4096 files may be open", self.said()[0])
        self.assertEqual(node.status["file descriptors"]["limit"], 4096)
        self.assertIn("file descriptors: open ", str(node.status))

    def test_not_enough(self) -> None:
        """What to do is said before somebody is turned away."""
        self.patch(descriptors, "limit", lambda: 256)
        self.start(max_peers="200", exec="/bin/cat")
        (event,) = self.named("descriptors")
        self.assertEqual((event["log_level"], event["peers"]), (LogLevel.warn, 200))
        self.assertIn("--max-peers=200", self.said()[-1])

    def test_no_limit(self) -> None:
        self.patch(descriptors, "limit", lambda: None)
        self.start(max_peers="100000")
        self.assertEqual(self.named("descriptors"), [])
        self.assertNotIn("files", self.said()[0])
