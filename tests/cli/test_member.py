"""
Joining a network for a while, and leaving it, on transports in memory.
"""

from __future__ import annotations

import argparse
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.cli.member import (
    ASK_AGAIN,
    DEFAULT_JOIN,
    MOST,
    PATIENCE,
    Member,
    _Progress,
    add_options,
    typed,
)
from py2p_twisted.cli.running import CommandFailed
from py2p_twisted.core.network import Network
from py2p_twisted.net import MeshService
from tests.cli.members import FIRST, MemberTestCase, options
from tests.net.wires import mute

ADA = ("10.0.0.1", 4444)
NOBODY = ("10.0.0.99", 4444)


class JoiningTestCase(MemberTestCase):
    def member(self, *join: tuple[str, int], **values: Any) -> Member:
        """A member that joins through these addresses."""
        return Member(self.mesh.clock, "py2p test", options(*join, **values))

    def join(self, member: Member) -> Deferred[str]:
        """Begin to join."""
        return Deferred.fromCoroutine(member.join())

    def leave(self, member: Member) -> bool:
        """Leave; whether somebody has read everything."""
        confirmed = self.outcome(Deferred.fromCoroutine(member.confirm()))
        self.outcome(Deferred.fromCoroutine(member.leave()))
        return not isinstance(confirmed, Failure)

    @property
    def now(self) -> float:
        """Seconds that have passed."""
        return self.mesh.clock.seconds()


class JoinTests(JoiningTestCase):
    def test_a_node_that_is_there(self) -> None:
        """It is joined through at once, and nothing is said."""
        member = self.member(ADA)
        self.assertEqual(self.outcome(self.join(member)), FIRST)
        self.assertEqual((self.now, self.said()), (0, ""))
        self.assertEqual(set(self.mesh["ada"].peers), {member.service.id})

    def test_the_default(self) -> None:
        """Whoever names no node means one on this machine."""
        self.mesh.network.server(("127.0.0.1", 4444)).listen(self.mesh["ada"].service.factory)
        self.assertEqual(self.outcome(self.join(self.member())), DEFAULT_JOIN)

    def test_several(self) -> None:
        """The first one that answers is enough; the others are joined as well."""
        ben = self.mesh.add("ben")
        member = self.member(NOBODY, ADA, ben.address)
        self.assertEqual(self.outcome(self.join(member)), FIRST)
        self.mesh.settle()
        self.assertEqual(len(member.service.routing_table), 2)

    def test_a_node_that_is_full(self) -> None:
        """It names others before it hangs up: one of them is joined through."""
        self.mesh.add("ben", max_inbound=1)
        self.mesh.link("ada", "ben")
        member = self.member(self.mesh["ben"].address)
        self.assertEqual(self.outcome(self.join(member)), FIRST)
        self.assertEqual(self.said(), "")

    def test_the_first_one_that_stays(self) -> None:
        """It may not be the first one that has answered."""
        ben = self.mesh.add("ben", extensions=False)
        mute(ben.service.factory)
        member = self.member(ben.address, ADA)
        self.assertEqual(self.outcome(self.join(member)), FIRST)
        self.assertEqual(next(iter(member.service.routing_table)), ben.id)

    def test_a_plain_node(self) -> None:
        """It is joined through when it is known to be one, or when there is no time for that."""
        ben = self.mesh.add("ben", extensions=False)
        for silent, timeout, taken in ((False, 10.0, 0), (True, 10.0, 2), (True, 1.0, 1)):
            if silent:
                mute(ben.service.factory)
            member, before = self.member(ben.address, timeout=timeout), self.now
            self.assertEqual(self.outcome(self.join(member)), "10.0.0.2:4444")
            self.assertEqual(self.now - before, taken)
            self.assertTrue(self.leave(member))

    def test_nobody_is_there(self) -> None:
        """It is said once, tried until the time is over, and said with what to do."""
        member = self.member(NOBODY, timeout=7.0)
        text = self.failed(self.join(member))
        self.assertEqual(self.now, 7)
        self.assertEqual(
            text,
            "could not join through 10.0.0.99:4444 within 7 s: is a node running there "
            "(py2p node), with or without --tls as here? Name another one with --join=HOST:PORT",
        )
        self.assertEqual(
            self.said(),
            "py2p test: 10.0.0.99:4444 refuses connections: is a node listening there? "
            "(trying again, 7 s in all)\n",
        )

    def test_several_that_are_not_there(self) -> None:
        """All of them are named."""
        text = self.failed(self.join(self.member(NOBODY, ("host.example", 1))))
        self.assertIn("through 10.0.0.99:4444 or host.example:1 within 10 s", text)
        self.assertEqual(self.said().count("\n"), 2)

    def test_a_node_that_comes(self) -> None:
        """Trying again finds it; it does not matter that it was not there at first."""
        self.later(5, self.mesh.add, "ben")
        member = self.member(("10.0.0.2", 4444))
        self.assertEqual(self.outcome(self.join(member)), "10.0.0.2:4444")
        self.assertTrue(5 <= self.now < 10, self.now)

    def test_another_network(self) -> None:
        """Trying again does not help: that is said at once."""
        eve = self.mesh.add("eve", Network("another"))
        text = self.failed(self.join(self.member(eve.address, timeout=600.0)))
        self.assertEqual(self.now, 0)
        self.assertEqual(
            text,
            "could not join through 10.0.0.2:4444: it is a node of another network, see --network",
        )
        self.assertEqual(self.said(), "")

    def test_another_network_that_is_named_twice(self) -> None:
        """It is the same node, and as hopeless."""
        eve = self.mesh.add("eve", Network("another"))
        self.failed(self.join(self.member(eve.address, eve.address, timeout=600.0)))
        self.assertEqual(self.now, 0)

    def test_another_network_and_the_right_one(self) -> None:
        """One mistake does not keep the others from being joined through."""
        eve = self.mesh.add("eve", Network("another"))
        self.later(3, self.mesh.add, "ben")
        member = self.member(eve.address, ("10.0.0.3", 4444))
        self.assertEqual(self.outcome(self.join(member)), "10.0.0.3:4444")

    def test_tls(self) -> None:
        """A member of an encrypted network."""
        ben = self.mesh.add("ben", Network("mesh", "SSL"))
        member = self.member(ben.address, tls=True)
        self.assertEqual(self.outcome(self.join(member)), "10.0.0.2:4444")
        self.assertTrue(self.leave(member))

    def test_tls_and_plain(self) -> None:
        """Whoever has the other one of the two is told which option that is."""
        ben = self.mesh.add("ben", Network("mesh", "SSL"))
        for where, tls in ((ben.address, False), (ADA, True)):
            text = self.failed(self.join(self.member(where, tls=tls, timeout=9.0)))
            self.assertIn("--tls", text)

    def test_somebody_who_says_nothing(self) -> None:
        """The time that joining may take holds, whatever a single attempt may."""
        self.mesh.network.connected = lambda near, far: setattr(far, "silent", True)
        text = self.failed(self.join(self.member(ADA, timeout=2.0)))
        self.assertEqual(self.now, 2)
        self.assertIn("within 2 s", text)

    def test_it_gives_up_in_the_middle(self) -> None:
        """Who does not want to join any more leaves nothing behind, and nothing is said."""
        for seconds in (0, 1, 4):
            member = self.member(NOBODY)
            joining = self.join(member)
            self.mesh.advance(seconds)
            said = self.said()
            joining.cancel()
            self.failureResultOf(joining, CancelledError)
            self.assertFalse(self.leave(member))
            self.mesh.advance(60)
            self.assertEqual(said.count("\n"), 1)
            self.assertEqual(self.said(), "")
        self.mesh["ada"].service.stopService()
        self.mesh.advance(60)
        self.assertEqual(self.mesh.clock.getDelayedCalls(), [])

    def test_the_link_breaks_at_once(self) -> None:
        """A node that hangs up right after the greeting has not been joined through."""
        member = self.member(ADA)
        connecting = self.join(member)
        self.assertEqual(self.outcome(connecting), FIRST)
        self.mesh.kill("ada")
        self.assertFalse(self.leave(member))


class LeaveTests(JoiningTestCase):
    def joined(self, **values: Any) -> Member:
        """A member that has joined through ada."""
        member = self.member(ADA, **values)
        self.outcome(self.join(member))
        return member

    def send(self, member: Member, *packets: Any) -> None:
        """Send something, and let nothing of it arrive yet."""
        self.successResultOf(member.service.send(*packets))

    def test_somebody_has_read_it(self) -> None:
        """A neighbour that closes its end after ours has read what came before."""
        member = self.joined()
        self.send(member, "hello")
        self.assertTrue(self.leave(member))
        self.assertEqual(self.inbox(), [("hello",)])
        self.assertEqual(self.mesh["ada"].peers, set())

    def test_the_link_is_lost(self) -> None:
        """What went down with a link nobody has read, as far as is known."""
        member = self.joined()
        self.send(member, "hello")
        self.mesh.kill("ada")
        self.assertFalse(self.leave(member))

    def test_a_neighbour_that_does_not_read(self) -> None:
        """It is waited for until it counts as dead."""
        member = self.joined()
        self.mesh.stall("ada")
        self.send(member, "hello")
        self.assertFalse(self.leave(member))
        self.assertTrue(5 < self.now < PATIENCE + 10, self.now)

    def test_one_of_two(self) -> None:
        """One neighbour that has read it is enough."""
        ben = self.mesh.add("ben")
        member = self.member(ADA, ben.address)
        self.outcome(self.join(member))
        self.mesh.settle()
        self.mesh.stall("ada")
        self.send(member, "hello")
        self.assertTrue(self.leave(member))
        self.assertEqual(self.inbox("ben"), [("hello",)])

    def test_nobody_was_joined(self) -> None:
        """Leaving before anything has begun is no error either."""
        self.assertFalse(self.leave(self.member(ADA)))

    def test_nobody_dials_it(self) -> None:
        """It listens nowhere, and is dialled by nobody when it has gone."""
        member = self.joined()
        self.assertEqual(member.service.ports, [])
        self.leave(member)
        dialled: list[MeshService] = []
        self.mesh.network.connected = lambda near, far: dialled.append(near)  # type: ignore[assignment,arg-type,return-value]
        self.mesh.advance(3600)
        self.assertEqual(dialled, [])
        self.assertEqual(self.mesh["ada"].service.factory.node.dialer.known, [])


class OptionTests(MemberTestCase):
    """What all commands that join have on their command line."""

    def parse(self, *arguments: str) -> argparse.Namespace:
        """Parse arguments of a command that has nothing else."""
        parser = argparse.ArgumentParser(exit_on_error=False)
        add_options(parser)
        return parser.parse_args(arguments)

    def refused(self, *arguments: str) -> str:
        """What is said of arguments that are wrong."""
        with self.assertRaises(argparse.ArgumentError) as caught:
            self.parse(*arguments)
        return str(caught.exception)

    def test_defaults(self) -> None:
        self.assertEqual(
            vars(self.parse()), {"join": None, "network": "mesh", "tls": False, "timeout": 10.0}
        )

    def test_values(self) -> None:
        """Nodes may be named again and again."""
        parsed = self.parse(
            *("-j", "192.0.2.7:4444", "--join=[2001:db8::7]:1", "--join=node.example:65535"),
            *("--network=a b", "--tls", "--timeout=0.5"),
        )
        self.assertEqual(
            parsed.join, [("192.0.2.7", 4444), ("2001:db8::7", 1), ("node.example", 65535)]
        )
        self.assertEqual((parsed.network, parsed.tls, parsed.timeout), ("a b", True, 0.5))

    def test_wrong_values(self) -> None:
        """What was expected, with an example."""
        self.assertEqual(
            self.refused("--join=nowhere"),
            "argument --join/-j: expected HOST:PORT, for example 192.0.2.7:4444, not 'nowhere'",
        )
        for bad in ("--join=:1", "--join=a:0", "--join=a:65536", "--join=", "--join=2001:db8::7:1"):
            self.assertIn("HOST:PORT", self.refused(bad))
        for bad in ("0", "-1", "x", "nan", "inf", ""):
            self.assertIn("a number of seconds, for example 5", self.refused(f"--timeout={bad}"))
        self.assertIn("a text, for example", self.refused("--network="))

    def test_typed(self) -> None:
        """Any reader can be made a type of argparse's."""

        def even(value: str) -> int:
            if int(value) % 2:
                raise ValueError("an even number")
            return int(value)

        take = typed(even, "2")
        self.assertEqual(take("4"), 4)
        error = self.assertRaises(argparse.ArgumentTypeError, take, "3")
        self.assertEqual(str(error), "expected an even number, for example 2, not '3'")


class ProgressTests(SynchronousTestCase):
    """How long it is waited for neighbours that do not answer."""

    def setUp(self) -> None:
        self.link = SimpleNamespace(
            owner=SimpleNamespace(outbox=SimpleNamespace(size=1000)), frames=0
        )
        self.outcome: Deferred[None] = Deferred()
        self.asked: list[int] = []
        self.second = 0
        links: Any = [self.link]
        self.progress = _Progress(links, self.outcome, lambda: self.asked.append(self.second))

    def look(self, seconds: int) -> None:
        for _ in range(seconds):
            self.progress.look()
            self.second += 1

    def given_up(self) -> bool:
        if not self.outcome.called:
            return False
        self.failureResultOf(self.outcome, CommandFailed)
        return True

    def test_one_that_does_nothing(self) -> None:
        """It is given up after a while."""
        self.look(PATIENCE)
        self.assertFalse(self.given_up())
        self.look(1)
        self.assertTrue(self.given_up())

    def test_one_that_takes_what_it_is_given(self) -> None:
        """It may take its time."""
        for size in range(1000, 0, -1):
            self.link.owner.outbox.size = size
            self.look(1)
        self.assertFalse(self.given_up())

    def test_one_that_is_busy_with_others(self) -> None:
        """It has more time, but not for ever."""
        for number in range(MOST):
            self.link.frames = number
            self.look(1)
        self.assertFalse(self.given_up())
        self.link.frames += 1
        self.look(1)
        self.assertTrue(self.given_up())

    def test_it_is_asked_again(self) -> None:
        """Answers can be lost in nodes of 0.6."""
        self.look(2 * ASK_AGAIN + 1)
        self.assertEqual(self.asked, [0, ASK_AGAIN, 2 * ASK_AGAIN])
