"""
Tests of my_app.py: three nodes in memory, and a clock that only the tests turn.

::

    cd examples && python -m twisted.trial test_my_app

No port is opened and nobody waits: half an hour in here takes a moment.
"""

from __future__ import annotations

from my_app import EVERY, MOST, PATIENCE, Watch
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.testing import MemoryMesh

NAMES = ("ann", "ben", "cyd")


class WatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Ann and cyd know each other through ben only."""
        self.mesh = MemoryMesh(*NAMES)
        self.mesh.link("ann", "ben")
        self.mesh.link("ben", "cyd")
        self.said: dict[str, list[str]] = {name: [] for name in NAMES}
        self.watches = {
            name: Watch(name, self.mesh[name].service, self.mesh.clock, self.said[name].append)
            for name in NAMES
        }

    def start(self, *names: str) -> None:
        """Have these watch, and let happen what can happen at once."""
        for name in names:
            self.watches[name].start()
            self.addCleanup(self.watches[name].stop)
        self.mesh.settle()

    def test_everybody_hears(self) -> None:
        """What one says comes to all others, once, and not to itself. No time passes."""
        before = self.mesh.clock.seconds()
        self.start("ann")
        self.assertEqual(self.said, {"ann": [], "ben": ["ann is here"], "cyd": ["ann is here"]})
        self.assertEqual(self.mesh.clock.seconds(), before)

    def test_nothing_new(self) -> None:
        """Who stays is not news: half an hour later nobody has said more."""
        self.start(*NAMES)
        self.mesh.advance(1800)
        for name in NAMES:
            others = sorted(f"{other} is here" for other in NAMES if other != name)
            self.assertEqual(sorted(self.said[name]), others)

    def test_one_is_killed(self) -> None:
        """The others find each other, although she stood between them, and both miss her."""
        self.start(*NAMES)
        self.watches["ben"].stop()
        self.mesh.kill("ben")
        self.mesh.advance(PATIENCE - EVERY / 2)
        self.assertNotIn("ben is missing", self.said["ann"])
        self.mesh.advance(EVERY)
        for name in ("ann", "cyd"):
            self.assertEqual(self.said[name][2:], ["ben is missing"])
            self.assertEqual(self.watches[name].missing, {"ben"})

    def test_a_cut(self) -> None:
        """A link that breaks is back before anybody is missed."""
        self.start(*NAMES)
        self.mesh.cut("ann", "ben")
        self.mesh.advance(3 * PATIENCE)
        self.assertNotIn("ben is missing", self.said["ann"])

    def test_back_again(self) -> None:
        """Who speaks again is there again."""
        self.start(*NAMES)
        self.watches["cyd"].stop()
        self.mesh.advance(2 * PATIENCE)
        self.assertEqual(self.said["ann"][2:], ["cyd is missing"])
        self.start("cyd")
        self.assertEqual(self.said["ann"][3:], ["cyd is here"])
        self.assertEqual(self.watches["ann"].missing, set())

    def test_nonsense(self) -> None:
        """Messages of other programs do no harm, and neither do too many names."""
        for packets in ((), ("here",), ("here", 7), ("here", "\a"), ({"here": None},)):
            self.mesh["ben"].send(*packets)
        for number in range(MOST + 5):
            self.mesh["ben"].send("here", f"n{number}")
        self.mesh.settle()
        self.assertEqual(len(self.watches["ann"].seen), MOST)
        self.assertEqual(len(self.said["ann"]), MOST)
