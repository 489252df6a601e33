"""
Those who hear along with a node's application.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core.message import build
from py2p_twisted.net.along import Along, hear
from py2p_twisted.net.factory import Application
from py2p_twisted.testing import MemoryMesh


class Ear(Application):
    """
    One who hears along.

    :ivar heard: the packets of messages that have come, and of our own.
    """

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def message_received(self, message: Any, link: Any) -> None:
        self.heard.append(("in", *message.payload[1:]))

    def originated(self, messages: Any) -> None:
        self.heard += [("out", *message.payload[1:]) for message in messages]


class Broken(Ear):
    """One who fails at it."""

    def message_received(self, message: Any, link: Any) -> None:
        raise ZeroDivisionError

    def originated(self, messages: Any) -> None:
        raise ZeroDivisionError


class AlongTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.mesh = MemoryMesh("ada", "ben")
        self.mesh.link("ada", "ben")
        self.factory = self.mesh["ada"].service.factory

    def say(self) -> None:
        """Something comes, and something goes."""
        self.mesh["ben"].send("in")
        self.mesh.settle()
        self.mesh["ada"].send("out")
        self.mesh.settle()

    def test_hearing(self) -> None:
        """All of them are told, and the application as before."""
        one, other = Ear(), Ear()
        leave = hear(self.factory, one)
        hear(self.factory, other)
        self.say()
        self.assertEqual(one.heard, [("in", "in"), ("out", "out")])
        self.assertEqual(self.mesh.inbox("ada"), [("in",)])
        leave()
        leave()
        self.say()
        self.assertEqual((len(one.heard), len(other.heard)), (2, 4))

    def test_own_messages_of_each_kind(self) -> None:
        """Several at once, whispers, and those that are confirmed; none twice."""
        ear = Ear()
        hear(self.factory, ear)
        ada = self.mesh["ada"]
        for number in range(3):
            ada.send(number)
        ada.send("whisper", flag=2)
        ada.send("confirm", confirm=True)
        self.mesh.advance(3)
        self.assertEqual(
            ear.heard,
            [("out", 0), ("out", 1), ("out", 2), ("out", "whisper"), ("out", "confirm")],
        )

    def test_nobody_hears(self) -> None:
        """The node is as it was."""
        before = self.factory.application
        leave = hear(self.factory, Ear())
        self.assertIsInstance(self.factory.application, Along)
        self.assertTrue(self.factory.watch_own)
        leave()
        self.assertIs(self.factory.application, before)
        self.assertFalse(self.factory.watch_own)

    def test_one_who_fails(self) -> None:
        """It is logged, and the others hear as if nothing had been."""
        ear = Ear()
        hear(self.factory, Broken())
        hear(self.factory, ear)
        self.say()
        self.assertEqual(ear.heard, [("in", "in"), ("out", "out")])
        self.assertEqual(self.mesh.inbox("ada"), [("in",)])
        self.assertEqual(self.mesh.inbox("ben"), [("out",)])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_everything_is_passed_on(self) -> None:
        """No method of an application is left out."""
        names = [name for name in vars(Application) if not name.startswith("_")]
        self.assertGreater(len(names), 10)
        for name in names:
            called: list[str] = []

            class Inner(Application):
                pass

            def call(*arguments: Any, name: str = name, called: list[str] = called) -> None:
                called.append(name)

            setattr(Inner, name, call)
            along = Along(Inner())
            along.hearing.append(Inner())
            count = getattr(Application, name).__code__.co_argcount - 1
            getattr(along, name)(*[()] * count)
            self.assertEqual(called, [name, name])


class CounterTests(SynchronousTestCase):
    def test_traffic(self) -> None:
        """What has come and gone is counted, whoever has left meanwhile."""
        mesh = MemoryMesh("ada", "ben", "cid")
        mesh.link("ada", "ben")
        mesh.link("ada", "cid")
        factory = mesh["ada"].service.factory
        for number in range(5):
            mesh["ben"].send(number, "x" * 1000)
        mesh["cid"].send("y")
        mesh["ada"].send("z")
        mesh.settle()
        self.assertEqual((factory.messages_in, factory.messages_out), (6, 1))
        (link, *_) = factory.routing_table.values()
        factory.deliver([build(0, b"x", 0, (0, number)) for number in range(3)], link)
        factory.flush()
        self.assertEqual(factory.messages_in, 9)
        links = list(factory.routing_table.values())
        before = factory.traffic
        self.assertEqual(before.bytes_in, sum(link.bytes for link in links))
        self.assertEqual(before.frames_in, sum(link.frames for link in links))
        self.assertEqual(before.bytes_out, sum(link.owner.outbox.sent for link in links))
        self.assertEqual(before.duplicates, factory.duplicates)
        self.assertGreater(before.bytes_out, 0)
        for link in links:
            factory.disconnect(link)
        mesh.settle()
        self.assertFalse(factory.routing_table)
        for late, early in zip(factory.traffic, before, strict=True):
            self.assertGreaterEqual(late, early)
