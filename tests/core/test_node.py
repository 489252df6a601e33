"""
Tests of `py2p_twisted.core.node`: what its parts do together, towards peers of every kind.

Two nodes that choose between two connections are run through *every* order in which bytes
can reach them (`every_order`), not through some of them.
"""

from collections import Counter
from functools import partial
from itertools import combinations_with_replacement, pairwise, permutations, product
from struct import pack
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core import flags
from py2p_twisted.core.actions import (
    ClockDisagreement,
    Close,
    Confirmed,
    Connected,
    ConnectFailed,
    Dial,
    Joined,
    Left,
    Replaced,
    Replied,
    WakeAt,
)
from py2p_twisted.core.clock import ACCEPTED
from py2p_twisted.core.connection import Connection, State
from py2p_twisted.core.dialer import LED_HERE
from py2p_twisted.core.message import build
from py2p_twisted.core.network import Network
from py2p_twisted.core.node import LIST_LENGTH, UNASKED_INTERVAL, UNASKED_LENGTH
from py2p_twisted.errors import (
    BadCompression,
    BadExtension,
    ChecksumMismatch,
    ClosedByPeer,
    ContentError,
    Disconnected,
    DuplicateConnection,
    FrameTimeout,
    FrameTooLarge,
    FrameTooSmall,
    HandshakeError,
    HandshakeTimeout,
    IdentityChanged,
    IllegalInState,
    LinkError,
    LinkUnresponsive,
    MalformedMessage,
    MeshClosed,
    NetworkMismatch,
    PeerTooSlow,
    ProbeEnded,
    RenegotiationLoop,
    ReplyFailed,
    SameId,
    SelfConnection,
    TooManyContentErrors,
    TooManyPeers,
    TransportFailed,
    Unreachable,
    ViewFull,
    WrongPeer,
)
from tests.core.support import (
    MESH,
    START,
    WALL,
    Solo,
    World,
    frame,
    handshake,
    memory_peak,
    only,
    pack_body,
    raw,
    whisper,
)
from tests.core.test_connection import pieces, streams, values

#: Two ids, as numbers: the first is the smaller one.
SMALL, GREAT = b"2", b"A"


# --- every order -----------------------------------------------------------------------


class Stage(World):
    """
    Two nodes, whose events have names that stay the same in every order.

    :ivar left: how many broadcasts each still makes: one behind every event, once it has a peer.
    :ivar said: what each has broadcast.
    :ivar sleepers: nodes that may be woken whenever the test likes.
    """

    def __init__(self, *, ada=SMALL, ben=GREAT, talk=0, **options):
        super().__init__()
        self.add("ada", ident=ada, **options)
        self.add("ben", ident=ben, **options)
        self.left = Counter(ada=talk, ben=talk)
        self.said = {"ada": [], "ben": []}
        self.sleepers = set()

    def dial(self, name, other, address=None):
        """One dials the other, by its own address or another name; both ends are to be opened."""
        host, target = self[name], self[other]
        token = host.connect(address or target.address)
        self.wire(host, host.dials.popleft(), target)
        return token

    def talk(self, name, times=1):
        """Broadcast something that was never said before."""
        for _ in range(times):
            self.said[name].append((name, len(self.said[name])))
            self[name].broadcast(*self.said[name][-1])

    def names(self):
        wakings = [("wake", name) for name in sorted(self.sleepers)]
        return [name for name, _ in self.runnable()] + wakings

    def place(self, name):
        """The node at which an event happens."""
        kind, where = name
        return where if kind == "wake" else self.ends[where].host.name

    def happen(self, name):
        """One event. What it writes to a wire arrives together, as from one turn of a reactor."""
        before = [len(end.incoming) for end in self.ends]
        kind, where = name
        host = self[self.place(name)]
        if kind == "wake":
            self.sleepers.remove(where)
            host.perform(host.node.woken(self.now, host.wall))
        elif kind == "open":
            self.ends[where].open()
        else:
            self.ends[where].deliver()
        if host.wake is not None and host.wake <= self.now:
            host.perform(host.node.woken(self.now, host.wall))
        if self.left[host.name] and host.peers:
            self.left[host.name] -= 1
            self.talk(host.name)
        for end, had in zip(self.ends, before, strict=True):
            if end.host is not host and len(end.incoming) > had + 1:
                fresh = [end.incoming.pop() for _ in range(len(end.incoming) - had)][::-1]
                end.incoming.append(b"".join(filter(None, fresh)))
                if None in fresh:
                    end.incoming.append(None)


def every_order(start):
    """
    A world at rest, for every order of events that leads there, and the order.

    What happens at two different nodes does not depend on which was first: of orders that
    differ in that alone, one is tried. (Known as *sleep sets*. A world cannot be copied, so
    every order is run from the beginning.)
    """
    waiting = [([], frozenset())]
    while waiting:
        path, asleep = waiting.pop()
        path = list(path)
        world = start()
        for name in path:
            world.happen(name)
        while names := world.names():
            awake = [name for name in names if name not in asleep]
            if not awake:
                break  # has been tried in another order
            tried = set(asleep)
            for name in awake:
                away = {it for it in tried if world.place(it) != world.place(name)}
                if name is awake[0]:
                    first_asleep = frozenset(away)
                else:
                    waiting.append(([*path, name], frozenset(away)))
                tried.add(name)
            asleep = first_asleep
            world.happen(awake[0])
            path.append(awake[0])
        else:
            yield world, path


def every_moment(start):
    """A world in every state that it can be in on its way to rest, each once."""
    met = set()
    for _, path in list(every_order(start)):
        for length in range(len(path) + 1):
            beginning = path[:length]
            world = start()
            at = [(world.place(name), name) for name in beginning]
            # The state of a node follows from what happened to it, in that order.
            key = tuple(tuple(name for host, name in at if host == it) for it in world.hosts)
            if key not in met:
                met.add(key)
                for name in beginning:
                    world.happen(name)
                yield world


class TwoNodesCase(SynchronousTestCase):
    def assert_one_connection(self, world, dialled_by=None):
        """One wire is left, both ends have it in their tables, and there is nothing else."""
        ends = []
        for host in world.hosts.values():
            (link,) = world.live_links(host.name)
            self.assertIs(link.state, State.OPEN)
            self.assertEqual(list(host.node.links.table.values()), [link])
            ends.append(link.owner)
        self.assertIs(ends[0].other, ends[1])
        if dialled_by is not None:
            self.assertTrue(world[dialled_by].node.links.open[0].outgoing)

    def assert_all_heard(self, world):
        """Each has heard what the other said, all of it and once."""
        self.assertEqual(sorted(world["ada"].inbox), world.said["ben"])
        self.assertEqual(sorted(world["ben"].inbox), world.said["ada"])

    def assert_talking(self, world):
        """What is said from now on arrives, too."""
        heard = {name: len(world[name].inbox) for name in world.hosts}
        for name in world.hosts:
            world[name].broadcast("finally", name)
        world.settle()
        self.assertEqual(world["ada"].inbox[heard["ada"] :], [("finally", "ben")])
        self.assertEqual(world["ben"].inbox[heard["ben"] :], [("finally", "ada")])


class CrossedDialTests(TwoNodesCase):
    def crossed(self, **options):
        """Two nodes that have dialled each other in the same moment."""
        world = Stage(**options)
        world.tokens = {
            "ada": world.dial("ada", "ben"),
            "ben": world.dial("ben", "ada"),
        }
        return world

    def opened(self, **options):
        """The same, when all four ends have introduced themselves."""
        world = self.crossed(**options)
        for name in world.names():
            world.happen(name)
        return world

    def test_in_every_order_one_connection_is_left_and_nothing_is_lost(self):
        """Accepts, handshakes, lists, questions and messages, as they may come."""
        orders = 0
        for world, path in every_order(partial(self.crossed, talk=1)):
            orders += 1
            for name, token in world.tokens.items():
                self.assertIsInstance(world[name].outcome(token), Connection, path)
            world.advance(3.0)
            self.assertEqual(world.left.total(), 0)
            self.assert_all_heard(world)
            self.assert_one_connection(world, dialled_by="ben")
            closings = world["ada"].closings() + world["ben"].closings()
            self.assertEqual(set(closings), {DuplicateConnection}, path)
            self.assertEqual(
                [len(world[name].all(kind)) for name in world.hosts for kind in (Joined, Left)],
                [1, 0, 1, 0],
            )
        self.assertGreater(orders, 200)

    def test_in_every_order_of_the_closes_nothing_else_is_closed(self):
        """Both ends hang up after the same second, and either may notice the other first."""
        met = set()
        # Each order of the two handshakes at each end: ada has the ends 0 and 3, ben 1 and 2.
        for order in product(permutations((0, 3)), permutations((1, 2))):
            for world, path in every_order(partial(self.draining, [*order[0], *order[1]])):
                met.add(tuple(path))
                self.assert_all_heard(world)
                self.assert_one_connection(world, dialled_by="ben")
                self.assert_talking(world)
                world.advance(60.0)
                self.assert_one_connection(world, dialled_by="ben")
        self.assertEqual(len(met), 3)

    def draining(self, handshakes):
        """When everything has been said, and the second for surplus connections is over."""
        world = self.opened(talk=1)
        for number in handshakes:
            world.happen(("read", number))
        while names := world.names():
            world.happen(names[0])
        world.now += 1.0
        world.sleepers = {"ada", "ben"}
        return world

    def test_a_break_at_any_moment_is_healed(self):
        """Whichever of the two connections it strikes."""
        moments = 0
        for wire in (0, 2):
            for world in every_moment(self.opened):
                moments += 1
                for end in world.ends[wire : wire + 2]:
                    if not end.closed:
                        end.lose(Unreachable("cut"))
                world.advance(8.0)
                self.assert_one_connection(world)
                self.assert_talking(world)
        self.assertGreater(moments, 100)

    def test_a_delay_at_any_moment_is_healed(self):
        """The second for which a surplus connection is read may be too short."""
        for world in every_moment(self.opened):
            for _ in range(3):
                world.now += 0.6
                for host in world.hosts.values():
                    host.perform(host.node.woken(world.now, host.wall))
            world.advance(8.0)
            self.assert_one_connection(world)
            self.assert_talking(world)

    def test_byte_by_byte_it_is_the_same(self):
        """Nothing depends on how the stream is cut."""
        for number in (1, 7):
            world = self.crossed(talk=3)
            world.chop = lambda data, number=number: [
                data[at : at + number] for at in range(0, len(data), number)
            ]
            while names := world.names():
                world.happen(names[0])
            world.advance(3.0)
            self.assert_all_heard(world)
            self.assert_one_connection(world, dialled_by="ben")

    def test_three_connections_at_once_end_as_one(self):
        """Whoever dialled which, in every order of the handshakes at both ends."""
        for diallers in combinations_with_replacement(("ada", "ben"), 3):
            for orders in product(permutations(range(3)), repeat=2):
                for late in (False, True):
                    world = self.three(diallers, orders, late)
                    world.settle()
                    world.advance(5.0)
                    self.assert_all_heard(world)
                    self.assert_one_connection(world)

    def three(self, diallers, orders, late):
        """
        Three connections, with all handshakes read.

        :param late: whether everything else that was written is still under way.
        """
        world = Stage(talk=2)
        for number, name in enumerate(diallers):
            other = "ben" if name == "ada" else "ada"
            world.dial(name, other, (f"10.1.0.{number}", 1))
        for name in world.names():
            world.happen(name)
        for turn in range(3):
            for host, order in zip(("ada", "ben"), orders, strict=True):
                pair = world.ends[2 * order[turn] : 2 * order[turn] + 2]
                (end,) = [end for end in pair if end.host.name == host]
                world.happen(("read", world.ends.index(end)))
                if not late:
                    self.read_what_follows(world)
        return world

    def read_what_follows(self, world):
        """Everything but first handshakes."""
        while names := [
            name
            for name in world.names()
            if world.ends[name[1]].link is not None and world.ends[name[1]].link.id
        ]:
            world.happen(names[0])


class SecondConnectionTests(TwoNodesCase):
    """Another connection to a peer that has been there for a while."""

    def settled(self, first, silent, **options):
        """Two nodes with a connection that has been silent for so long."""
        world = Stage(**options)
        world.dial(first, "ben" if first == "ada" else "ada", ("10.1.0.1", 1))
        world.settle()
        world.ends = [end for end in world.ends if not end.closed]
        world.now += silent
        return world

    def test_in_every_order_one_is_left_and_nothing_is_lost(self):
        """Whoever dialled which, and whether or not the old one has to prove that it is alive."""
        for first, second, silent in product(("ada", "ben"), ("ada", "ben"), (0.0, 60.0)):

            def start(first=first, second=second, silent=silent):
                world = self.settled(first, silent)
                other = "ben" if second == "ada" else "ada"
                world.token = world.dial(second, other, ("10.1.0.2", 1))
                world.left = Counter(ada=1, ben=1)
                return world

            for world, path in every_order(start):
                self.assertIsInstance(world[second].outcome(world.token), Connection, path)
                world.advance(6.0)
                self.assertEqual(world.left.total(), 0)
                self.assert_all_heard(world)
                self.assert_one_connection(world)
                # The rule: the dial of the greater id; of two by one node, the newer
                # if it is the greater one, else the older.
                newer = second == "ben"
                kept = world["ada"].node.links.open[0]
                self.assertEqual(kept.since > START, newer and silent > 0, path)

    def test_a_dead_one_gives_way_to_one_that_lives(self):
        """The peer has come back, and its own dead connection does not keep it out."""
        for back in ("ada", "ben"):
            there = "ben" if back == "ada" else "ada"
            world = self.settled("ada", 60.0)
            world.silence("ada", "ben")
            (end,) = world.between(back, there)
            end.lose(Unreachable("it was switched off"))
            world[back].dials.clear()
            token = world.dial(back, there, ("10.1.0.2", 1))
            for _ in range(3):
                world.settle()
                world.talk(back)
                world.advance(1.0)
            self.assertIsInstance(world[back].outcome(token), Connection)
            world.talk(there)
            world.advance(3.0)
            self.assert_all_heard(world)
            self.assert_one_connection(world, dialled_by=back)
            # To those who were there all the time, the peer was, too.
            self.assertEqual(len(world[there].all(Joined)), 1)
            self.assertEqual(world[there].all(Left), [])
            self.assertEqual(len(world[there].all(Replaced)), 1)
            ends = [LinkUnresponsive] if back == "ada" else [DuplicateConnection]
            self.assertEqual(world[there].closings(), ends)

    def test_one_that_died_just_now_is_found_out_as_well(self):
        """Heard a moment ago, so the new one goes; but it has to prove that it lives."""
        world = self.settled("ben", 0.0)
        world.silence("ada", "ben")
        (end,) = world.between("ada", "ben")
        end.lose(Unreachable("it was switched off"))
        world.dial("ada", "ben")
        world.advance(2.0)
        self.assertIn(LinkUnresponsive, world["ben"].closings())
        world.advance(8.0)
        self.assert_one_connection(world)
        self.assert_talking(world)

    def standby(self, **options):
        """A node with a silent peer, and a newer connection that the rule is against."""
        solo = Solo(ident=GREAT, **options)
        old = solo.peer(SMALL)
        solo.now += 60
        new = solo.peer(SMALL)
        return solo, old, new

    def test_while_the_old_one_is_asked_both_are_read(self):
        """Nothing has to wait for the answer."""
        solo, old, new = self.standby()
        self.assertIs(solo.node.links.table[SMALL], old)
        self.assertEqual(solo.effects.to(old, flags.REQUEST), [(flags.REQUEST, b"*")])
        solo.receive(new, raw(0, "meanwhile", time=int(solo.wall)))
        self.assertEqual(solo.effects.inbox, [("meanwhile",)])
        self.assertIsNone(solo.closed(new))

    def test_any_byte_is_a_sign_of_life(self):
        """Half a frame will do."""
        solo, old, new = self.standby()
        solo.advance(1.9)
        solo.receive(old, whisper(7, [])[:1])
        self.assertIs(new.state, State.DRAINING)
        solo.receive(old, whisper(7, [])[1:])
        solo.advance(5)
        self.assertIsInstance(solo.closed(new), DuplicateConnection)
        self.assertEqual((solo.closed(old), old.state), (None, State.OPEN))

    def test_without_one_the_newer_takes_its_place(self):
        """After two seconds, not before."""
        solo, old, new = self.standby(probe_timeout=2.0)
        solo.advance(1.9)
        self.assertIsNone(solo.closed(old))
        solo.advance(0.2)
        self.assertIsInstance(solo.closed(old), LinkUnresponsive)
        self.assertIs(solo.node.links.table[SMALL], new)
        self.assertEqual(solo.all(Replaced), [Replaced(old, new)])
        self.assertEqual(solo.all(Left), [])

    def test_if_the_old_one_ends_by_itself_the_newer_takes_its_place_at_once(self):
        """Broken, or closed for what came by it."""
        for end in (
            lambda solo, old: solo.lost(old, Unreachable("reset")),
            lambda solo, old: solo.receive(old, b"\0\0\0\0"),
        ):
            solo, old, new = self.standby()
            end(solo, old)
            self.assertIs(solo.node.links.table[SMALL], new)
            self.assertEqual(solo.all(Left), [])

    def test_if_the_newer_one_ends_the_old_one_still_has_to_answer(self):
        """And leaves the table if it does not."""
        solo, old, new = self.standby()
        solo.lost(new)
        self.assertIs(solo.node.links.table[SMALL], old)
        solo.advance(2.1)
        self.assertEqual([left.link for left in solo.all(Left)], [old])
        self.assertEqual(solo.node.links.table, {})

    def test_of_two_that_wait_the_newer_goes_on_waiting(self):
        """The other one is drained."""
        solo, _, second = self.standby()
        third = solo.peer(SMALL)
        self.assertIs(second.state, State.DRAINING)
        solo.advance(2.1)
        self.assertIs(solo.node.links.table[SMALL], third)
        self.assertIsInstance(solo.closed(second), DuplicateConnection)
        self.assertEqual(list(solo.node.links), [third])

    def test_who_waits_is_not_forgotten_when_a_third_one_wins(self):
        """The old one, the one on standby, and one that the rule prefers to both."""
        solo = Solo(ident=SMALL)
        old = solo.peer(GREAT)
        solo.now += 60
        token = solo.connect(("10.1.0.2", 1))
        waiting = solo.accept(solo.all(Dial)[-1])
        solo.receive(waiting, handshake(GREAT))
        self.assertIs(old.standby, waiting)
        third = solo.peer(GREAT)
        self.assertIs(solo.node.links.table[GREAT], third)
        solo.advance(5)
        self.assertEqual(list(solo.node.links), [third])
        self.assertEqual([it.link for it in solo.all(Connected) if it.token == token], [third])

    def test_a_surplus_connection_is_read_for_a_second(self):
        """Then it is closed, with what is still queued for it."""
        solo = Solo(ident=GREAT, drain_time=1.0)
        solo.peer(SMALL)
        surplus = solo.peer(SMALL)
        solo.advance(0.9)
        self.assertIsNone(solo.closed(surplus))
        solo.receive(surplus, raw(0, "late"))
        self.assertEqual(solo.effects.inbox, [("late",)])
        solo.advance(0.2)
        (close,) = [it for it in solo.all(Close) if it.link is surplus]
        self.assertEqual((type(close.error), close.flush), (DuplicateConnection, True))
        self.assertEqual(solo.all(Left), [])

    def test_a_surplus_connection_is_read_but_not_written(self):
        """Its second is for what is under way, and for nothing else."""
        solo = Solo(ident=GREAT)
        kept = solo.peer(SMALL)
        surplus = solo.peer(SMALL)
        self.assertIs(surplus.state, State.DRAINING)
        before = len(solo.effects.to(surplus))
        solo.receive(surplus, raw(0, "under way") + whisper(0, "this too"))
        solo.receive(surplus, whisper(8, b"*") + raw(8, b"rid", GREAT) + raw(9, flag=1))
        solo.broadcast("ours")
        self.assertEqual(solo.effects.inbox, [("under way",), ("this too",)])
        self.assertIn((0, "ours"), solo.effects.to(kept))
        self.assertEqual(solo.effects.to(surplus)[before:], [])


# --- who is refused ------------------------------------------------------------------------


class SelfConnectionTests(TwoNodesCase):
    ALIAS = ("198.51.100.7", 4444)

    def mirrored(self):
        """A node that has dialled a name of itself."""
        world = Stage()
        world.token = world.dial("ada", "ada", self.ALIAS)
        return world

    def test_in_every_order_it_is_recognised(self):
        """Both ends go, whoever asked is told, and the name is known from then on."""
        orders = 0
        for world, path in every_order(self.mirrored):
            orders += 1
            ada = world["ada"]
            self.assertIsInstance(ada.outcome(world.token), SelfConnection, path)
            self.assertLessEqual(set(ada.closings()), {SelfConnection})
            self.assertEqual((ada.all(Joined), world.live_links("ada")), ([], []))
            self.assertTrue(ada.node.dialer.is_ours(self.ALIAS))
        self.assertGreater(orders, 1)

    def test_as_accepted_and_as_dialled(self):
        """Each end by itself."""
        solo = Solo()
        accepted = solo.peer(b"Me", address=solo.node.address)
        self.assertIsInstance(solo.closed(accepted), SelfConnection)
        solo.connect(self.ALIAS)
        dialled = solo.peer("Me", dial=solo.all(Dial)[-1], address=solo.node.address)
        self.assertIsInstance(solo.closed(dialled), SelfConnection)
        self.assertEqual(solo.node.links.table, {})

    def test_another_node_with_our_id(self):
        """A copy of our state directory runs elsewhere: its address is none of ours."""
        solo = Solo()
        accepted = solo.peer(b"Me", address=("10.0.0.7", 4444))
        self.assertIsInstance(solo.closed(accepted), SameId)
        self.assertIn("a node at 10.0.0.7:4444 has the id of this one", str(solo.closed(accepted)))
        solo.connect(("10.0.0.7", 4444))
        dialled = solo.peer("Me", dial=solo.all(Dial)[-1], address=("10.0.0.7", 4444))
        self.assertIsInstance(solo.closed(dialled), SameId)
        self.assertFalse(solo.node.dialer.is_ours(("10.0.0.7", 4444)))
        self.assertEqual(solo.node.links.table, {})

    def test_the_name_is_never_dialled_again(self):
        """Not when asked, not when pinned, not because others say so."""
        for world, _ in every_order(self.mirrored):
            world.settle()
            ada, ben = world["ada"], world["ben"]
            dials = len(ada.all(Dial))
            self.assertIsInstance(ada.outcome(ada.connect(self.ALIAS)), SelfConnection)
            ada.perform(ada.node.pin(self.ALIAS, world.now, ada.wall))
            ben.connect(ada.address)
            world.settle()
            liar = [[list(self.ALIAS), "Somebody"]]
            message = build(flags.WHISPER, ben.node.id, WALL, (flags.PEERS, liar))
            ben.node.whisper([message])
            world.advance(60.0)
            self.assertEqual(len(ada.all(Dial)), dials)
            self.assertNotIn(self.ALIAS, ada.node.dialer.known)

    def test_a_pinned_name_of_ourselves_is_tried_seldom(self):
        """
        An operator who lists every node as a bootstrap address lists this one, too. But it may be
        that of a load balancer, behind which there are others as well.
        """
        solo = Solo()
        solo.note(solo.node.pin(self.ALIAS, solo.now, solo.wall))
        solo.advance(0)
        for count in (1, 2, 3):
            self.assertEqual(len(solo.all(Dial)), count)
            solo.peer(b"Me", dial=solo.all(Dial)[-1], address=solo.node.address)
            solo.advance(LED_HERE - 1)
            self.assertEqual(len(solo.all(Dial)), count)
            solo.advance(2)
        solo.peer(b"Me", dial=solo.all(Dial)[-1], address=solo.node.address)
        solo.note(solo.node.unpin(self.ALIAS, solo.now, solo.wall))
        solo.advance(3600)
        self.assertEqual(len(solo.all(Dial)), 4)
        solo.note(solo.node.pin(self.ALIAS, solo.now, solo.wall))
        solo.advance(0)
        solo.peer("Ben", dial=solo.all(Dial)[-1], address=self.ALIAS)
        self.assertEqual(len(solo.node.links.table), 1)


class OtherNetworkTests(TwoNodesCase):
    def strangers(self):
        """Two nodes of different networks, one of which has dialled the other."""
        world = Stage()
        world["ben"].node.network = Network("elsewhere")
        world.token = world.dial("ada", "ben")
        return world

    def test_both_ends_know_why(self):
        """Each has the other's word for its network and its own."""
        ours, theirs = MESH.id, Network("elsewhere").id
        for world, path in every_order(self.strangers):
            for name, pair in (("ada", (theirs, ours)), ("ben", (ours, theirs))):
                (close,) = world[name].all(Close)
                self.assertIsInstance(close.error, NetworkMismatch, path)
                self.assertEqual((close.error.theirs, close.error.ours), pair)
                self.assertTrue(close.flush)
                self.assertEqual(world[name].all(Joined) + world.live_links(name), [])
            self.assertIsInstance(world["ada"].outcome(world.token), NetworkMismatch)

    def test_nothing_that_follows_is_accepted(self):
        """Messages behind such a handshake are not ours; it is not told who is here."""
        solo = Solo()
        solo.peer(b"Ada")
        link = solo.accept()
        solo.receive(link, handshake(network="other") + raw(0, "x") + whisper(8, b"*"))
        solo.receive(link, whisper(0, "y"))
        self.assertEqual(solo.effects.inbox, [])
        self.assertEqual([payload[0] for payload in solo.effects.to(link)], [flags.HANDSHAKE])

    def test_what_was_asked_for_once_is_not_dialled_again(self):
        """Trying again changes nothing."""
        world = self.strangers()
        world.settle()
        world.advance(7200.0)
        self.assertEqual(len(world["ada"].all(Dial)), 1)


class StrangerTests(SynchronousTestCase):
    """Before somebody has introduced himself."""

    def test_nothing_is_accepted_before_the_handshake(self):
        """Not delivered, not relayed, not answered, not learned, not remembered."""
        for data in (
            raw(0, "x"),
            raw(0, ["x"]),
            whisper(0, "x"),
            whisper(2, "x"),
            whisper(8, b"*"),
            whisper(8, "*"),
            raw(8, b"rid", b"Me"),
            whisper(7, [[["10.9.9.9", 1], "Far"]]),
            raw(10, b"rid", [["10.9.9.9", 1], b"Far"]),
            raw(1, [], flag=flags.RENEGOTIATE),
            raw(9, flag=flags.RENEGOTIATE),
            raw(0x21, "x"),
        ):
            solo = Solo()
            ada, ben = solo.peer(b"Ada"), solo.peer(b"Ben")
            known = solo.node.dialer.known
            link = solo.accept()
            before = len(solo.effects.written)
            solo.receive(link, data + handshake())
            self.assertIsInstance(solo.closed(link), IllegalInState)
            self.assertEqual(solo.effects.written[before:], [])
            self.assertEqual(solo.effects.delivered, [])
            self.assertEqual(solo.node.dialer.known, known)
            self.assertEqual(set(solo.node.links.table), {b"Ada", b"Ben"})
            # And it has not spoilt the same message from somebody else.
            if data == raw(0, "x"):
                solo.receive(ada, data)
                self.assertEqual(solo.effects.inbox, [("x",)])
                self.assertEqual(solo.effects.to(ben, 0), [(0, "x")])

    def test_who_stays_silent_has_to_go(self):
        """Who dialled us after ten seconds, whom we dialled after six."""
        for dialled, seconds in ((False, 10.0), (True, 6.0)):
            solo = Solo()
            solo.connect(("10.0.0.9", 1))
            link = solo.accept(solo.all(Dial)[-1] if dialled else None)
            solo.advance(seconds - 0.1)
            self.assertIsNone(solo.closed(link))
            solo.advance(0.2)
            self.assertIsInstance(solo.closed(link), HandshakeTimeout)
            failures = [type(it.error) for it in solo.all(ConnectFailed)]
            self.assertEqual(failures, [HandshakeTimeout] if dialled else [])
            self.assertEqual(list(solo.node.links), [])

    def test_a_byte_now_and_then_is_no_handshake(self):
        """The time runs from the beginning."""
        solo = Solo()
        link = solo.accept()
        for byte in handshake()[:40]:
            solo.receive(link, bytes([byte]))
            solo.advance(0.5)
        self.assertIsInstance(solo.closed(link), HandshakeTimeout)

    def test_who_has_introduced_himself_may_be_silent(self):
        """For hours."""
        solo = Solo()
        link = solo.accept()
        solo.advance(9.9)
        solo.receive(link, handshake())
        solo.advance(7200)
        self.assertIsNone(solo.closed(link))

    def test_half_open_connections_are_capped(self):
        """The one that has kept us waiting longest goes; who is dialled does not count."""
        solo = Solo(max_half_open=3)
        solo.connect(("10.0.0.9", 1))
        dialled = solo.accept(solo.all(Dial)[-1])
        waiting = [solo.accept() for _ in range(3)]
        self.assertEqual(solo.all(Close), [])
        solo.receive(waiting[0], handshake(b"Ada"))  # makes room for one more
        waiting.append(solo.accept())
        self.assertEqual(solo.all(Close), [])
        waiting += [solo.accept() for _ in range(2)]
        self.assertEqual([it.link for it in solo.all(Close)], waiting[1:3])
        self.assertIsInstance(solo.closed(waiting[1]), HandshakeTimeout)
        self.assertIs(dialled.state, State.GREETING)
        self.assertEqual(len(solo.node.links.half_open()), 3)

    def test_another_node_than_the_expected_one_is_refused(self):
        """And is none of our peers then."""
        solo = Solo()
        solo.connect(("10.0.0.9", 1), expected=b"Ada")
        link = solo.peer(b"Eve", dial=solo.all(Dial)[-1])
        self.assertIsInstance(solo.closed(link), WrongPeer)
        self.assertEqual((solo.closed(link).expected, solo.closed(link).found), (b"Ada", b"Eve"))
        self.assertEqual([type(it.error) for it in solo.all(ConnectFailed)], [WrongPeer])
        self.assertEqual(solo.all(Joined), [])


class FullHouseTests(SynchronousTestCase):
    def test_who_is_too_many_is_told_where_to_go(self):
        """Our name, whom we know, good-bye: and all of that is still written."""
        solo = Solo(max_inbound=2)
        for number in range(2):
            solo.peer(b"Peer%d" % number, address=(f"10.0.2.{number}", 1))
        link = solo.peer(b"Late", address=("10.0.2.9", 1))
        (close,) = solo.all(Close)
        self.assertIs(close.link, link)
        self.assertIsInstance(close.error, TooManyPeers)
        self.assertTrue(close.flush)
        greeting, peers = solo.effects.to(link)
        self.assertEqual(greeting[:2], (flags.HANDSHAKE, b"Me"))
        self.assertEqual(sorted(peers[1]), [[["10.0.2.0", 1], "Peer0"], [["10.0.2.1", 1], "Peer1"]])
        self.assertNotIn(b"Late", solo.node.links.table)
        self.assertEqual(len(solo.all(Joined)), 2)

    def test_what_the_surplus_says_is_not_heard(self):
        """It is no peer."""
        solo = Solo(max_inbound=0)
        link = solo.accept()
        solo.receive(link, handshake() + raw(0, "x"))
        self.assertEqual(solo.effects.inbox, [])

    def test_only_who_dialled_us_counts(self):
        """Whom we dial is wanted; and who has gone makes room."""
        solo = Solo(max_inbound=1)
        first = solo.peer(b"Ada")
        solo.connect(("10.0.3.1", 1))
        dialled = solo.peer(b"Ben", dial=solo.all(Dial)[-1])
        self.assertEqual(set(solo.node.links.table), {b"Ada", b"Ben"})
        self.assertIsInstance(solo.closed(solo.peer(b"Cyd")), TooManyPeers)
        solo.lost(first)
        self.assertIsNone(solo.closed(solo.peer(b"Cyd")))
        self.assertIsNone(solo.closed(dialled))

    def test_a_peer_that_comes_back_is_not_too_many(self):
        """It is in the table already."""
        solo = Solo(ident=SMALL, max_inbound=1)
        solo.peer(GREAT)
        again = solo.peer(GREAT)
        self.assertIs(solo.node.links.table[GREAT], again)

    def test_newcomers_find_a_place_elsewhere(self):
        """Six nodes that know one address, where there is room for two."""
        world = World("hub", *"abcdef", max_inbound=2, max_outgoing=2)
        for name in "abcdef":
            world[name].connect(world["hub"].address)
            world.advance(1.0)
        world.advance(60.0)
        self.assertIn(TooManyPeers, world["hub"].closings())
        for host in world.hosts.values():
            self.assertLessEqual(host.node.links.inbound(), 2)
        world["a"].broadcast("storm")
        world.settle()
        for name in ("hub", *"bcdef"):
            self.assertEqual(world[name].inbox, [("storm",)], name)


class DisconnectTests(SynchronousTestCase):
    """The application wants no link with a peer any more."""

    HOME = ("10.0.0.9", 4444)

    def disconnected(self, **said):
        solo = Solo()
        solo.peer(b"Company", address=None)
        link = solo.peer(b"Ada", address=self.HOME, **said)
        solo.note(solo.node.disconnect(link, solo.now, solo.wall))
        return solo, link

    def test_the_peer_is_told_and_turned_away_when_it_comes_back(self):
        """It gets our handshake, and no more."""
        solo, link = self.disconnected()
        self.assertIsInstance(solo.closed(link), Disconnected)
        for ident in (b"Ada", "Ada"):
            again = solo.peer(ident, address=self.HOME)
            (close,) = [it for it in solo.all(Close) if it.link is again]
            self.assertEqual((type(close.error), close.flush), (Disconnected, True))
            solo.receive(again, raw(0, "x"))
            self.assertEqual([it[0] for it in solo.effects.to(again)], [flags.HANDSHAKE])
        self.assertEqual((set(solo.node.links.table), solo.effects.inbox), ({b"Company"}, []))

    def test_it_is_not_dialled_either(self):
        """Not because it was lost, and not because others say where it lives."""
        solo, _ = self.disconnected()
        company = solo.node.links.table[b"Company"]
        solo.receive(company, whisper(7, [[["10.7.0.1", 1], "Ada"], [["10.7.0.2", 1], b"Ada"]]))
        solo.advance(3600)
        self.assertEqual(solo.all(Dial), [])

    def test_until_the_application_asks_for_it(self):
        """Then everything is as it was, whoever dials next."""
        solo, _ = self.disconnected()
        token = solo.connect(self.HOME)
        link = solo.peer(b"Ada", dial=solo.all(Dial)[-1], address=self.HOME)
        self.assertEqual(solo.all(Connected), [Connected(token, link)])
        solo.lost(link)
        self.assertIsNone(solo.closed(solo.peer(b"Ada")))

    def test_a_connection_on_standby_does_not_bring_it_back(self):
        """The peer goes, with every connection that it has."""
        solo = Solo(ident=GREAT)
        old = solo.peer(SMALL)
        solo.now += 60
        waiting = solo.peer(SMALL)
        self.assertIs(old.standby, waiting)
        solo.note(solo.node.disconnect(old, solo.now, solo.wall))
        self.assertEqual(solo.node.links.table, {})
        self.assertIsInstance(solo.closed(waiting), Disconnected)
        self.assertEqual(solo.all(Replaced), [])

    def test_not_all_names_are_remembered_for_ever(self):
        """Ids cost a peer nothing; the latest are kept."""
        solo = Solo(max_outgoing=0)
        for number in range(300):
            link = solo.peer(b"Peer%d" % number, address=None)
            solo.note(solo.node.disconnect(link, solo.now, solo.wall))
        self.assertIsNone(solo.closed(solo.peer(b"Peer0")))
        self.assertIsInstance(solo.closed(solo.peer(b"Peer299")), Disconnected)


class SlowFrameTests(SynchronousTestCase):
    FRAME = raw(0, "x" * 1_000_000)

    def feed(self, chunk, every, seconds, *, first=64, **options):
        """The beginning of a large frame, and then so many bytes at a time."""
        solo = Solo(**options)
        other, link = solo.peer(b"Other"), solo.peer()
        solo.receive(link, self.FRAME[:first])
        at, begun = first, solo.now
        while solo.now - begun < seconds and solo.closed(link) is None:
            solo.advance(every)
            if solo.closed(link) is None:
                solo.receive(link, self.FRAME[at : at + chunk])
                at += chunk
        self.assertIsNone(solo.closed(other))
        return solo, link

    def test_a_byte_a_minute_is_not_enough(self):
        """Ten seconds after the frame has begun it is over."""
        solo, link = self.feed(1, 60.0, 300)
        self.assertIsInstance(solo.closed(link), FrameTimeout)
        self.assertEqual(set(solo.node.links.table), {b"Other"})

    def test_a_kilobyte_a_second_is_the_least(self):
        """Looked at every ten seconds."""
        solo, link = self.feed(1000, 1.0, 11)
        self.assertIsInstance(solo.closed(link), FrameTimeout)
        self.assertEqual(solo.now, START + 10)
        solo, link = self.feed(1100, 0.99, 50)
        self.assertIsNone(solo.closed(link))

    def test_a_minute_is_the_most(self):
        """However steadily it gets on."""
        solo, link = self.feed(1100, 0.99, 100)
        self.assertIsInstance(solo.closed(link), FrameTimeout)
        self.assertEqual(round(solo.now - START), 60)

    def test_a_frame_in_good_time_is_delivered(self):
        """And nothing is left that could end the link."""
        solo, link = self.feed(50_000, 1.0, 25)
        self.assertEqual([len(packet) for (packet,) in solo.effects.inbox], [1_000_000])
        solo.advance(3600)
        self.assertIsNone(solo.closed(link))

    def test_a_good_beginning_does_not_excuse_standing_still(self):
        """The rate is that of the last ten seconds."""
        solo = Solo()
        link = solo.peer()
        solo.receive(link, self.FRAME[:64])
        solo.advance(1.0)
        solo.receive(link, self.FRAME[64:900_000])
        solo.advance(18.9)
        self.assertIsNone(solo.closed(link))
        solo.advance(0.2)
        self.assertIsInstance(solo.closed(link), FrameTimeout)

    def test_a_busy_link_may_always_be_in_the_middle_of_a_frame(self):
        """As long as it is another one each time."""
        solo = Solo()
        link = solo.peer()
        rest = b""
        for number in range(100):
            data = raw(0, number, time=int(solo.wall))
            solo.receive(link, rest + data[:50])
            rest = data[50:]
            solo.advance(1.0)
        self.assertIsNone(solo.closed(link))
        # And the one that comes to a halt is found.
        solo.advance(20.1)
        self.assertIsInstance(solo.closed(link), FrameTimeout)

    def test_even_four_bytes_are_the_beginning_of_a_frame(self):
        """Or fewer."""
        for length in (1, 4):
            solo = Solo()
            link = solo.peer()
            solo.receive(link, self.FRAME[:length])
            solo.advance(10.1)
            self.assertIsInstance(solo.closed(link), FrameTimeout)


# --- lists of peers, requests ------------------------------------------------------------


def entries(count, net="10.7"):
    """Entries of a peers list."""
    return [
        [[f"{net}.{number // 200}.{number % 200 + 1}", 4444], f"Far{number}"]
        for number in range(count)
    ]


class TellingPeersTests(SynchronousTestCase):
    def test_a_request_is_answered_in_both_spellings(self):
        """With our routing table, without the asker; ids as text, which is all py2p can use."""
        for everybody in ("*", b"*"):
            solo = Solo()
            ada = solo.peer(b"Ada", address=("10.0.2.1", 1))
            solo.peer("Ben", address=("10.0.2.2", 2))
            solo.peer(b"Nowhere", address=None)
            before = len(solo.effects.written)
            solo.receive(ada, whisper(8, everybody))
            ((message, link),) = solo.effects.written[before:]
            self.assertIs(link, ada)
            self.assertEqual(message.flag, flags.WHISPER)
            self.assertEqual(message.payload, (flags.PEERS, [[["10.0.2.2", 2], "Ben"]]))
            self.assertEqual(solo.effects.delivered, [])

    def test_a_newcomer_is_told_without_asking(self):
        """Whom it can dial next."""
        solo = Solo()
        ada = solo.peer(b"Ada", address=("10.0.2.1", 1))
        ben = solo.peer(b"Ben", address=("10.0.2.2", 2))
        self.assertEqual(solo.effects.to(ada, flags.PEERS), [(flags.PEERS, [])])
        self.assertEqual(
            solo.effects.to(ben, flags.PEERS), [(flags.PEERS, [[["10.0.2.1", 1], "Ada"]])]
        )

    def test_a_list_is_short_and_not_always_the_same(self):
        """Of forty peers each asker is told of thirty-two."""
        solo = Solo()
        for number in range(40):
            solo.peer(b"Peer%d" % number, address=(f"10.0.2.{number}", 1))
        asker = solo.peer(b"Asker")
        for _ in range(5):
            solo.receive(asker, whisper(8, b"*"))
        told = [
            [ident for _, ident in payload[1]] for payload in solo.effects.to(asker, flags.PEERS)
        ]
        self.assertEqual([len(set(names)) for names in told], [LIST_LENGTH] * 6)
        self.assertGreater(len({tuple(names) for names in told}), 1)
        self.assertEqual(len(set().union(*told)), 40)

    def test_we_ask_in_the_spelling_that_costs_nobody_its_link(self):
        """Python 3 reference nodes hang up on the text; asked is who is left, and once."""
        solo = Solo()
        ada, ben = solo.peer(b"Ada"), solo.peer(b"Ben")
        for link in (ada, ben):
            solo.receive(link, whisper(7, []))
        solo.lost(ada)
        self.assertEqual(solo.effects.to(ben, flags.REQUEST), [(flags.REQUEST, b"*")])
        solo.note(solo.node.request_peers(solo.now, solo.wall))
        self.assertEqual(solo.effects.to(ben, flags.REQUEST), [(flags.REQUEST, b"*")] * 2)
        self.assertEqual(solo.effects.to(ada, flags.REQUEST), [])


class LearningPeersTests(SynchronousTestCase):
    def dialled(self, solo):
        return [dial.address for dial in solo.all(Dial)]

    def test_learned_peers_are_dialled_up_to_max_outgoing(self):
        """And the next one, when one of them is lost for good."""
        solo = Solo(max_outgoing=4)
        peer = solo.peer(b"Teller")
        solo.receive(peer, whisper(7, entries(20)))
        links, answered = [], 0
        for _ in range(10):
            solo.advance(1.0)
            for dial in solo.all(Dial)[answered:]:
                answered += 1
                ident = b"Far%d" % (int(dial.address[0].rpartition(".")[2]) - 1)
                links.append(solo.peer(ident, dial=dial, address=dial.address))
        self.assertEqual(len(links), 4)
        self.assertEqual(len(solo.node.links.table), 5)
        solo.lost(links[0])
        # Somebody else is called, though the lost one is called as well.
        solo.advance(1.0)
        self.assertGreater(len(set(self.dialled(solo))), 4)

    def test_an_id_may_be_text_or_bytes(self):
        """Both are read."""
        solo = Solo()
        peer = solo.peer()
        solo.receive(peer, whisper(7, [[["10.7.0.1", 1], "A"], [[b"10.7.0.2", 2], b"B"]]))
        solo.advance(1.0)
        self.assertEqual(sorted(self.dialled(solo)), [("10.7.0.1", 1), ("10.7.0.2", 2)])

    def test_entries_that_make_no_sense_are_passed_over(self):
        """So are those that are ourselves."""
        solo = Solo()
        peer = solo.peer()
        odd = [
            None, 5, "x", [], [1], [[], "A"], [["h"], "A"], [["h", 0], "A"], [["h", "1"], "A"],
            [["10.7.0.3", 1], None], [["10.7.0.4", 1], 5], [["10.7.0.5", 1], "x" * 257],
            [["10.7.0.6", 1], "Me"], [["10.7.0.7", 1], b"Me"], [["10.0.0.1", 4444], "A"],
            [["10.7.0.8", 1]], [["10.7.0.9", 1], "A", 0], {"a": 1}, [["10.7.0.1", 1], "A"],
        ]  # fmt: skip
        solo.receive(peer, whisper(7, odd))
        solo.advance(5.0)
        self.assertEqual(self.dialled(solo), [("10.7.0.1", 1)])
        self.assertEqual((solo.closed(peer), peer.drops), (None, {}))

    def test_the_list_behind_a_handshake_counts_as_asked_for(self):
        """Thirty-two entries are used, of any other list eight, and one such in ten seconds."""
        solo = Solo()
        peer = solo.peer(address=None)
        known = []
        for net in ("10.7", "10.8", "10.9"):
            solo.receive(peer, whisper(7, entries(40, net)))
            known.append(len(solo.node.dialer.known))
        self.assertEqual(known, [LIST_LENGTH] + [LIST_LENGTH + UNASKED_LENGTH] * 2)
        self.assertEqual(solo.node.drops, {"unasked peers list": 1})
        solo.now += UNASKED_INTERVAL
        solo.receive(peer, whisper(7, entries(3, "10.10")))
        self.assertEqual(len(solo.node.dialer.known), known[-1] + 3)

    def test_a_list_that_was_asked_for_is_used_in_full(self):
        """Once for every question."""
        solo = Solo()
        peer = solo.peer(address=None)
        solo.receive(peer, whisper(7, []))
        solo.note(solo.node.request_peers(solo.now, solo.wall))
        solo.receive(peer, whisper(7, entries(40)))
        self.assertEqual(len(solo.node.dialer.known), LIST_LENGTH)
        solo.receive(peer, whisper(7, entries(40, "10.8")))
        self.assertEqual(len(solo.node.dialer.known), LIST_LENGTH + UNASKED_LENGTH)

    def test_a_long_list_that_is_well_formed_costs_little(self):
        """Its first entries are used; the link goes on."""
        solo = Solo()
        peer = solo.peer()
        long = whisper(7, entries(19_000))
        for _ in range(3):
            solo.receive(peer, long)
            solo.now += UNASKED_INTERVAL
        self.assertLessEqual(len(solo.node.dialer.known), LIST_LENGTH + UNASKED_LENGTH)
        self.assertIsNone(solo.closed(peer))
        self.assertEqual(peer.drops, {})

    def test_a_million_addresses_cost_a_message(self):
        """They are counted before anything is built of them; the link goes on."""
        entry = pack_body(["10.7.0.1", 1], "A")
        body = (
            b"\x95\x02\xc4\x04Peer\xce"
            + pack("!I", WALL)
            + b"\x07\xdd"
            + pack("!I", 1_000_000)
            + entry * 1_000_000
        )
        data = frame(body)
        solo = Solo(max_message=2 * len(body))
        other, peer = solo.peer(b"Other"), solo.peer()
        with memory_peak() as peak:
            for at in range(0, len(data), 2**20):
                solo.receive(peer, data[at : at + 2**20])
        # The bytes themselves, twice while they are put together.
        self.assertLess(peak(), 2.2 * len(data))
        self.assertEqual(peer.drops, {"too many elements": 1})
        self.assertEqual((solo.closed(peer), solo.closed(other)), (None, None))
        self.assertEqual(len(solo.node.dialer.known), 1)  # where both say that they live
        solo.receive(peer, raw(0, "and"))
        self.assertEqual(solo.effects.inbox, [("and",)])

    def test_no_peer_fills_the_book(self):
        """However many lists it brings, in whatever time."""
        solo = Solo(max_outgoing=0)
        honest = solo.peer(b"Honest", address=None)
        solo.receive(honest, whisper(7, entries(10)))
        liar = solo.peer(b"Liar", address=None)
        for number in range(100):
            solo.receive(liar, whisper(7, entries(8, f"10.{number + 10}")))
            solo.now += UNASKED_INTERVAL
        known = solo.node.dialer.known
        self.assertEqual(len(known), 10 + solo.node.settings.book_share)
        self.assertEqual(known[:10], [(host, port) for (host, port), _ in entries(10)])

    def test_nodes_that_know_one_address_become_a_mesh(self):
        """Each of ten seeks four links; whoever falls out, the others stay together."""
        names = "abcdefghij"
        world = World(*names)
        for name in names[1:]:
            world[name].connect(world["a"].address)
            world.advance(0.5)
        world.advance(30.0)
        for name in names[1:]:
            self.assertGreaterEqual(len(world[name].peers), 4, name)
        world.remove("a")
        world.advance(30.0)
        world["j"].broadcast("storm")
        world.settle()
        for name in names[1:-1]:
            self.assertEqual(world[name].inbox, [("storm",)], name)


class RequestTests(SynchronousTestCase):
    """Who knows a certain node?"""

    def answer(self, solo, link, *request):
        before = len(solo.effects.written)
        solo.receive(link, raw(8, *request))
        return [
            (message.flag, message.payload, receiver)
            for message, receiver in solo.effects.written[before:]
            if message.payload[0] == flags.RESPONSE
        ]

    def test_we_tell_where_we_are_and_where_our_neighbours_are(self):
        """In the type in which we were asked, by the link on which we were asked."""
        solo = Solo()
        ada = solo.peer(b"Ada", address=("10.0.2.1", 1))
        ben = solo.peer("Ben", address=("10.0.2.2", 2))
        for wanted, address in (
            (b"Me", ["10.0.0.1", 4444]),
            ("Me", ["10.0.0.1", 4444]),
            (b"Ben", ["10.0.2.2", 2]),
            ("Ben", ["10.0.2.2", 2]),
        ):
            for number, request_id in enumerate(
                (b"bytes" + repr(wanted).encode(), f"text{wanted!r}")
            ):
                self.assertEqual(
                    self.answer(solo, ada, request_id, wanted),
                    [(flags.BROADCAST, (flags.RESPONSE, request_id, [address, wanted]), ada)],
                    number,
                )
        self.assertEqual(len(solo.effects.to(ben, flags.REQUEST)), 8)
        self.assertEqual(solo.effects.delivered, [])

    def test_of_whom_we_know_nothing_we_say_nothing(self):
        """The question is passed on."""
        solo = Solo()
        ada, ben = solo.peer(b"Ada"), solo.peer(b"Ben", address=None)
        for wanted in (b"Far", b"Ben", b""):
            self.assertEqual(self.answer(solo, ada, b"rid", wanted), [])
        self.assertEqual(len(solo.effects.to(ben, flags.REQUEST)), 3)

    def test_a_question_whose_answer_is_too_large_is_not_answered(self):
        """Its sender has filled a message to the brim; an answer would not fit into one."""
        solo = Solo(max_message=1024)
        ada = solo.peer(b"Ada")
        for size in range(900, 1020):
            body = pack_body(flags.BROADCAST, b"", WALL, flags.REQUEST, b"r" * size, b"Me")
            if len(body) <= 1024:
                solo.receive(ada, frame(body))
        self.assertIsNone(solo.closed(ada))

    def test_an_answer_to_nobodys_question_is_passed_on(self):
        """And dials nobody."""
        solo = Solo(max_outgoing=0)
        ada, ben = solo.peer(b"Ada"), solo.peer(b"Ben")
        response = (10, b"rid", [["10.9.9.9", 1], b"Far"])
        solo.receive(ada, raw(*response))
        self.assertEqual(
            solo.effects.to(ben, flags.RESPONSE), [(10, b"rid", [["10.9.9.9", 1], b"Far"])]
        )
        solo.advance(60)
        self.assertEqual(solo.all(Dial), [])
        self.assertEqual(solo.effects.delivered, [])


class RoutingTests(SynchronousTestCase):
    def test_a_flooded_message_about_links_is_a_broken_one(self):
        """One message must not make the whole network act on its links."""
        for payload in (
            (5, b"Eve", MESH.id, ["10.9.9.9", 1], []),
            (7, entries(5)),
            (8, "*"),
            (8, b"*"),
        ):
            solo = Solo()
            ada, ben = solo.peer(b"Ada"), solo.peer(b"Ben")
            known, before = solo.node.dialer.known, len(solo.effects.written)
            solo.receive(ada, raw(*payload))
            self.assertEqual(solo.effects.written[before:], [], payload)
            self.assertEqual(ada.drops, {"bad field": 1})
            self.assertEqual(solo.node.dialer.known, known)
            self.assertEqual((solo.closed(ada), solo.closed(ben)), (None, None))

    def test_extensions_are_passed_on_and_otherwise_ignored(self):
        """Nodes of the future may speak through us; the application does not hear them."""
        solo = Solo()
        ada, ben = solo.peer(b"Ada"), solo.peer(b"Ben")
        for sub in (0x21, 0x2F):
            solo.receive(ada, raw(sub, "x") + whisper(sub, "y"))
            self.assertEqual(solo.effects.to(ben, sub), [(sub, "x")])
        self.assertEqual((solo.effects.inbox, solo.closed(ada)), ([], None))
        self.assertEqual(solo.node.drops, {"unknown extension": 4})

    def test_everything_else_is_for_the_application(self):
        """Names without a use, numbers of its own, and what is no number."""
        solo = Solo()
        ada = solo.peer(b"Ada")
        for sub in (0, 2, 3, 6, 11, 16, 0x20, 0x30, 1000, -1, "text", None, 7.5):
            solo.receive(ada, raw(sub, "x"))
            self.assertEqual(solo.effects.delivered[-1][0].payload, (sub, "x"))
        self.assertEqual(len(solo.effects.delivered), 13)

    def test_what_is_passed_on_does_not_wait_for_the_application(self):
        """The neighbours come first."""
        solo = Solo()
        ada, _ = solo.peer(b"Ada"), solo.peer(b"Ben")
        log = []
        solo.effects.relay = lambda *_: log.append("relay")
        solo.effects.deliver = lambda *_: log.append("deliver")
        solo.receive(ada, raw(0, "storm"))
        self.assertEqual(log, ["relay", "deliver"])

    def test_last_words_are_for_one_peer(self):
        """A peer that asks again gets what was last meant for it alone, not more than once a second."""
        solo = Solo()
        ada, ben = solo.peer(b"Ada"), solo.peer(b"Ben")
        solo.reply(b"Ada", "for ada")
        solo.reply(b"Ben", "for ben")
        solo.broadcast("for all")
        for _ in range(3):
            solo.receive(ada, raw(9, flag=flags.RENEGOTIATE))
        self.assertEqual(solo.effects.to(ada, 2), [(2, "for ada")] * 2)
        self.assertEqual(solo.effects.to(ben, 2), [(2, "for ben")])
        solo.advance(1.0)
        solo.receive(ada, raw(9, flag=flags.RENEGOTIATE))
        self.assertEqual(solo.effects.to(ada, 2), [(2, "for ada")] * 3)

    def test_asking_for_a_peer_that_is_there_needs_no_dial(self):
        """By the address it names, or by the one that was dialled."""
        solo = Solo()
        link = solo.peer(b"Ada", address=("10.0.2.1", 1))
        token = solo.connect(("10.0.2.1", 1))
        self.assertEqual(solo.all(Connected), [Connected(token, link)])
        solo.connect(("10.0.2.1", 1), expected=b"Another")
        self.assertEqual(len(solo.all(Dial)), 1)

    def test_whoever_was_lost_is_reported_once(self):
        """The first and the last peer of all are told apart."""
        solo = Solo()
        ada, ben = solo.peer(b"Ada"), solo.peer(b"Ben")
        self.assertEqual([it.first for it in solo.all(Joined)], [True, False])
        for _ in range(2):
            solo.lost(ada)
        solo.note(solo.node.close_link(ben, PeerTooSlow("stuck"), solo.now, solo.wall, flush=False))
        solo.lost(ben)
        self.assertEqual(
            [(it.link, type(it.error), it.last) for it in solo.all(Left)],
            [(ada, ClosedByPeer, False), (ben, PeerTooSlow, True)],
        )
        self.assertEqual([it.link for it in solo.all(Close)], [ben])


class ConfirmTests(SynchronousTestCase):
    """Whether a peer has dealt with what it was sent."""

    def setUp(self) -> None:
        self.solo = Solo()
        self.ada = self.solo.peer(b"Ada")

    def confirm(self) -> int:
        solo = self.solo
        token, actions = solo.node.confirm(self.ada, solo.now, solo.wall)
        solo.note(actions)
        return token

    def questions(self) -> list[tuple[Any, ...]]:
        asked = self.solo.effects.to(self.ada, flags.REQUEST)
        return [payload for payload in asked if payload[1] != b"*"]

    def test_both_kinds_of_nodes_can_answer(self) -> None:
        """Ours know where they live themselves, 0.6 nodes where their neighbours do."""
        self.confirm()
        first, second = self.questions()
        self.assertEqual(first[1], second[1])
        self.assertEqual({first[2], second[2]}, {b"Ada", self.solo.node.id})

    def test_an_answer(self) -> None:
        """The first answer is enough; what comes later is an answer to nobody."""
        token = self.confirm()
        answer = (flags.RESPONSE, self.questions()[0][1], [["10.0.0.1", 1], b"Ada"])
        for number in range(2):
            self.solo.receive(self.ada, raw(*answer, sender=b"Ada%d" % number))
        self.assertEqual(self.solo.all(Confirmed), [Confirmed(token, None)])

    def test_another_answer(self) -> None:
        """An answer to somebody else's question proves nothing."""
        self.confirm()
        answer = (flags.RESPONSE, b"other", [["10.0.0.1", 1], b"Ada"])
        self.solo.receive(self.ada, raw(*answer, sender=b"Ada"))
        self.assertEqual(self.solo.all(Confirmed), [])

    def test_a_link_that_ends(self) -> None:
        """Then nobody will ever know."""
        token = self.confirm()
        self.solo.lost(self.ada)
        (confirmed,) = self.solo.all(Confirmed)
        self.assertEqual((confirmed.token, type(confirmed.error)), (token, ClosedByPeer))

    def test_a_link_that_has_ended(self) -> None:
        """The same, at once."""
        self.solo.lost(self.ada)
        token = self.confirm()
        (confirmed,) = self.solo.all(Confirmed)
        self.assertEqual((confirmed.token, type(confirmed.error)), (token, Unreachable))


# --- errors ------------------------------------------------------------------------------------


#: A message for each thing that can be wrong with one, and what it is counted as.
UNUSABLE = {
    "text that is not UTF-8": (frame(b"\x95\x00\xa1s\x00\x00\xa1\xff"), "bad text"),
    "too many values": (raw(0, [0] * 100_001), "too many elements"),
    "too much nesting": (frame(b"\x95\x00\xa1s\x00\x00" + b"\x91" * 40 + b"\x00"), "too deep"),
    "a flag that is none": (raw(0, "x", flag="0"), "bad field"),
    "a sender that is none": (raw(0, "x", sender=5), "bad field"),
    "an endless sender": (raw(0, "x", sender=b"s" * 257), "bad field"),
    "a time that is none": (raw(0, "x", time="now"), "bad field"),
    "no sub-flag": (raw(), "bad field"),
    "no list": (whisper(7), "bad field"),
    "a list that is none": (whisper(7, "x"), "bad field"),
    "a table of peers": (whisper(7, {"a": 1}), "bad field"),
    "an empty request": (whisper(8), "bad field"),
    "half a request": (raw(8, b"rid"), "bad field"),
    "a request for no id": (raw(8, b"rid", 5), "bad field"),
    "an empty response": (raw(10), "bad field"),
    "half a response": (raw(10, b"rid"), "bad field"),
    "a response to no id": (raw(10, 5, [["10.9.9.9", 1], b"A"]), "bad field"),
    "a flooded list": (raw(7, []), "bad field"),
    "a message from the past": (raw(0, "x", time=WALL - ACCEPTED - 1), "stale"),
    "a message from the future": (raw(0, "x", time=WALL + ACCEPTED + 1), "stale"),
}  # fmt: skip


class ContentErrorTests(SynchronousTestCase):
    def test_each_costs_the_message_alone(self):
        """Counted by the node and at the link; what came with it is dealt with as ever."""
        for name, (data, reason) in UNUSABLE.items():
            solo = Solo()
            ada, ben = solo.peer(b"Ada"), solo.peer(b"Ben")
            solo.receive(ada, raw(0, "before") + data + raw(0, "after"))
            self.assertEqual(solo.effects.inbox, [("before",), ("after",)], name)
            self.assertEqual(solo.effects.to(ben, 0), [(0, "before"), (0, "after")], name)
            self.assertEqual((solo.node.drops, ada.drops), ({reason: 1}, {reason: 1}), name)
            self.assertEqual((solo.closed(ada), solo.closed(ben)), (None, None), name)
            # Whoever else brings it is not to blame.
            solo.receive(ben, data)
            self.assertEqual((solo.node.drops, ben.drops), ({reason: 1}, {}), name)

    def test_there_is_a_message_for_each(self):
        """No kind of content error is forgotten."""
        self.assertEqual(
            {reason for _, reason in UNUSABLE.values()},
            {kind.reason for kind in ContentError.__subclasses__()},
        )

    def test_too_many_cost_the_link_that_brings_them(self):
        """Old or future messages do not count: honest nodes of 0.6 pass those on."""
        solo = Solo(content_errors=10)
        ada, ben = solo.peer(b"Ada"), solo.peer(b"Ben")
        for number in range(50):
            solo.receive(ben, raw(0, number, time=0))
        self.assertIsNone(solo.closed(ben))
        for number in range(11):
            solo.receive(ada, raw(8, number))
        self.assertIsInstance(solo.closed(ada), TooManyContentErrors)
        self.assertEqual(set(solo.node.links.table), {b"Ben"})


def bring(data, *, opened=True):
    """A link error that some bytes are, before or after the handshake."""

    def scenario(solo):
        link = solo.peer() if opened else solo.accept()
        solo.receive(link, data)
        return link

    return scenario


def expect(ident):
    """An address that belongs to another node than was said."""

    def scenario(solo):
        solo.connect(("10.0.0.9", 1), expected=ident)
        return solo.peer(dial=solo.all(Dial)[-1])

    return scenario


def wait(data, seconds, *, opened=True):
    """Nothing more than some bytes, for some time."""

    def scenario(solo):
        link = bring(data, opened=opened)(solo)
        solo.advance(seconds)
        return link

    return scenario


def full(solo):
    """One more than there is room for."""
    solo.peer(b"Second")
    return solo.peer()


#: For each link error the core can find, how a peer comes by it.
BROKEN = {
    FrameTooLarge: bring(b"\xff" * 64),
    FrameTooSmall: bring(bytes(64)),
    ChecksumMismatch: bring(b"\0\0\0\x28" + bytes(40)),
    BadCompression: bring(b"\0\0\0\x28" + b"\x78\x9c" + b"\xff" * 38),
    MalformedMessage: bring(frame(b"\xc1")),
    IllegalInState: bring(raw(0, "x"), opened=False),
    HandshakeError: bring(whisper(5, 1, 2, 3, 4), opened=False),
    IdentityChanged: bring(handshake(b"Another")),
    WrongPeer: expect(b"Another"),
    NetworkMismatch: bring(handshake(network="other"), opened=False),
    SelfConnection: bring(handshake(b"Me", address=("10.0.0.1", 4444)), opened=False),
    SameId: bring(handshake(b"Me"), opened=False),
    HandshakeTimeout: wait(b"", 11.0, opened=False),
    FrameTimeout: wait(raw(0, "x" * 99)[:50], 11.0),
    TooManyPeers: full,
    TooManyContentErrors: bring(b"".join(whisper(8, number) for number in range(11))),
    RenegotiationLoop: bring(raw(1, [], flag=flags.RENEGOTIATE) * 9),
}


class LinkErrorTests(SynchronousTestCase):
    def test_each_costs_that_link_alone(self):
        """The reason is one typed value; others do not notice."""
        for kind, scenario in BROKEN.items():
            solo = Solo(max_inbound=2)
            other = solo.peer(b"Other", address=("10.0.0.8", 1))
            link = scenario(solo)
            (close,) = [it for it in solo.all(Close) if it.link is link]
            self.assertIs(type(close.error), kind)
            self.assertIsInstance(close.error, LinkError)
            self.assertEqual([it for it in solo.all(Close) if it.link is not link], [], kind)
            self.assertEqual(
                [it.link for it in solo.all(Left)],
                [it.link for it in solo.all(Joined) if it.link is link],
                kind,
            )
            self.assertNotIn(link, list(solo.node.links))
            # It is over: nothing is read, nothing is written, nothing reported again.
            before = len(solo.effects.to(link))
            solo.receive(link, handshake() + raw(0, "late") + whisper(8, b"*"))
            solo.lost(link)
            solo.receive(other, raw(0, "on", time=int(solo.wall)))
            solo.broadcast("ours")
            self.assertEqual(solo.effects.inbox, [("on",)], kind)
            self.assertEqual(solo.effects.to(link)[before:], [], kind)
            self.assertEqual(len([it for it in solo.all(Close) if it.link is link]), 1)

    def test_there_is_a_way_to_each(self):
        """Some are found in other tests, and two by the driver."""
        elsewhere = {DuplicateConnection, LinkUnresponsive, Disconnected}
        elsewhere |= {BadExtension, ViewFull, ProbeEnded}
        drivers = {PeerTooSlow, TransportFailed}
        self.assertEqual(set(LinkError.__subclasses__()), {*BROKEN, *elsewhere, *drivers})
        reasons = [kind.reason for kind in LinkError.__subclasses__()]
        self.assertEqual(len(reasons), len(set(reasons)))

    def test_who_is_honest_still_gets_what_was_written(self):
        """A peer of another network, ourselves, one too many; nobody who breaks the rules."""
        told = {NetworkMismatch, SameId, SelfConnection, TooManyPeers}
        for kind, scenario in BROKEN.items():
            solo = Solo(max_inbound=2)
            solo.peer(b"Other")
            link = scenario(solo)
            (close,) = [it for it in solo.all(Close) if it.link is link]
            self.assertEqual(close.flush, kind in told, kind)

    def test_what_came_before_it_is_delivered_and_passed_on(self):
        """In the same read."""
        for packet in ("quick", ["careful"]):
            solo = Solo()
            ada, ben = solo.peer(b"Ada"), solo.peer(b"Ben")
            solo.receive(ada, raw(0, packet) + b"\xff" * 8)
            self.assertIsInstance(solo.closed(ada), FrameTooLarge)
            self.assertEqual(solo.effects.inbox, [(packet,)])
            self.assertEqual(solo.effects.to(ben, 0), [(0, packet)])


# --- any bytes -----------------------------------------------------------------------------------

#: What a node acts on, with anything in it.
wild = values | st.sampled_from(["Adalbert", b"Me", "Me", [["10.9.9.9", 1], "A"], [7, [], 8]])
acted_on = st.builds(
    lambda flag, sub, packets: raw(sub, *packets, flag=flag),
    st.sampled_from([0, 1, 2]),
    st.sampled_from([1, 7, 8, 9, 10]),
    st.lists(wild | st.lists(wild, max_size=3), max_size=3),
)
noise = st.lists(streams | acted_on, max_size=4).map(b"".join)


class AnyBytesTests(SynchronousTestCase):
    @given(
        noise,
        st.lists(st.integers(0, 600), max_size=6),
        st.sampled_from(["greeting", "greeting, dialled", "open", "draining"]),
        st.booleans(),
    )
    def test_they_cost_one_link_at_most(self, stream, cuts, state, traced):
        """No exception; and what others say next arrives, once."""
        solo = Solo(content_errors=3)
        others = [solo.peer(name, address=None) for name in (b"Adalbert", b"Benedict")]
        if traced:
            solo.node.trace = lambda level, text, *arguments: text.format(*arguments)
        dial = None
        if "dialled" in state:
            solo.connect(("10.0.0.9", 1))
            dial = solo.all(Dial)[-1]
        link = solo.accept(dial)
        if "greeting" not in state:
            solo.receive(link, handshake())
        if state == "draining":
            surplus = solo.peer()
            link = link if link.state is State.DRAINING else surplus
        ours = set(solo.node.links) - set(others)
        for piece in pieces(stream, cuts):
            solo.receive(link, piece)
            solo.advance(0.1)
        solo.advance(15)
        closed = solo.all(Close)
        self.assertLessEqual({it.link for it in closed}, ours)
        self.assertEqual(len({it.link for it in closed}), len(closed))
        for it in closed:
            self.assertIsInstance(it.error, LinkError)
        for number, other in enumerate(others):
            self.assertIs(other.state, State.OPEN)
            news = ("news of", number)
            for _ in range(2):
                solo.receive(other, raw(0, *news, time=int(solo.wall)))
            self.assertEqual(solo.effects.inbox.count(news), 1)
            self.assertEqual(solo.effects.to(others[1 - number]).count((0, *news)), 1)
            self.assertEqual(solo.effects.to(other).count((0, *news)), 0)

    @given(st.lists(st.tuples(st.integers(0, 3), streams | acted_on), max_size=6))
    def test_on_several_links_at_once(self, talk):
        """Each link ends for what came by itself."""
        solo = Solo(content_errors=3)
        silent = solo.peer(b"Adalbert", address=None)
        links = [solo.peer(b"Noisy%d" % number, address=None) for number in range(3)]
        links.append(solo.accept())
        heard_from = set()
        for number, data in talk:
            heard_from.add(links[number])
            solo.receive(links[number], data)
        self.assertLessEqual({it.link for it in solo.all(Close)}, heard_from)
        solo.receive(silent, raw(0, "news of", 1))
        self.assertEqual(solo.effects.inbox.count(("news of", 1)), 1)
        for link in solo.node.links.open:
            if link is not silent:
                self.assertEqual(solo.effects.to(link).count((0, "news of", 1)), 1)


# --- clocks ----------------------------------------------------------------------------------------


class ClockTests(SynchronousTestCase):
    def test_messages_of_another_time_are_dropped_and_counted(self):
        """Twenty minutes both ways; by the quick way of reading and by the careful one."""
        for packet, offset in product(("quick", ["careful"]), (-ACCEPTED, ACCEPTED)):
            beyond = offset + (1 if offset > 0 else -1)
            solo = Solo()
            ada, ben = solo.peer(b"Ada"), solo.peer(b"Ben")
            solo.receive(ada, raw(0, packet, 1, time=WALL + offset))
            solo.receive(ada, raw(0, packet, 2, time=WALL + beyond))
            solo.receive(ben, raw(0, packet, 2, time=WALL + beyond))
            self.assertEqual(solo.effects.inbox, [(packet, 1)])
            self.assertEqual(solo.effects.to(ben, 0), [(0, packet, 1)])
            self.assertEqual((solo.node.drops, ada.drops), ({"stale": 1}, {"stale": 1}))
            self.assertEqual(ben.duplicates, 1)
            self.assertEqual((solo.closed(ada), solo.closed(ben)), (None, None))

    def test_the_time_of_a_whisper_does_not_matter(self):
        """It can come by nobody but a peer."""
        solo = Solo()
        solo.receive(solo.peer(), whisper(0, "old", time=0))
        self.assertEqual(solo.effects.inbox, [("old",)])

    def met(self, *offsets):
        """A node that has met peers whose clocks are fast by so much."""
        solo = Solo()
        for number, offset in enumerate(offsets):
            address = (f"10.0.2.{number}", 1)
            solo.connect(address)
            dial = solo.all(Dial)[-1]
            solo.peer(b"Peer%d" % number, dial=dial, time=WALL + offset, address=address)
        return solo

    def test_who_dials_us_does_not_move_our_clock(self):
        """It may come under any number of names."""
        solo = Solo()
        for number in range(9):
            solo.peer(b"Liar%d" % number, time=WALL + 86_400, address=(f"10.0.2.{number}", 1))
        self.assertEqual(solo.broadcast("x").time, WALL)
        self.assertEqual(solo.all(ClockDisagreement), [])

    def test_three_peers_correct_what_we_stamp(self):
        """Two do not. Everything that we say carries the corrected time."""
        self.assertEqual(self.met(100, 100).broadcast("x").time, WALL)
        solo = self.met(100, 100, 100)
        self.assertEqual(solo.all(ClockDisagreement), [ClockDisagreement(100)])
        self.assertEqual(solo.broadcast("x").time, WALL + 100)
        link = solo.peer(b"Late", time=WALL + 100)
        solo.receive(link, whisper(8, b"*"))
        solo.receive(link, raw(8, b"rid", b"Me"))
        stamps = {message.time for message, receiver in solo.effects.written if receiver is link}
        self.assertEqual(stamps, {WALL + 100})
        self.assertEqual(len(solo.all(ClockDisagreement)), 1)

    def test_who_agrees_with_the_others_again_stamps_its_own_time(self):
        """And says so."""
        solo = self.met(100, 100, 100, 0, 0, 0)
        self.assertEqual(
            solo.all(ClockDisagreement), [ClockDisagreement(100), ClockDisagreement(0)]
        )
        self.assertEqual(solo.broadcast("x").time, WALL)

    def test_the_correction_is_the_median_of_today(self):
        """Not that of the moment when our clock was found to be wrong."""
        solo = self.met(100, 100, 100, *[400] * 9)
        self.assertEqual(solo.node.clock.correction, 400)
        self.assertEqual(solo.broadcast("x").time, WALL + 400)

    def test_a_node_whose_clock_is_wrong_hears_everybody_and_is_heard(self):
        """By an hour and a half, in both directions."""
        for skew in (-5400, 5400):
            world = World("ada", "ben", "cyd", "dan")
            world["dan"].skew = skew
            for name in ("ada", "ben", "cyd"):
                world["dan"].connect(world[name].address)
            world.advance(5.0)
            for name in ("ada", "dan"):
                world[name].broadcast("from", name)
            world.settle()
            self.assertEqual(world["dan"].inbox, [("from", "ada")])
            self.assertEqual(sorted(world["ben"].inbox), [("from", "ada"), ("from", "dan")])

    def test_another_networks_time_is_not_ours(self):
        """Whoever is refused for that has no voice."""
        solo = Solo()
        for number in range(5):
            solo.peer(b"Peer%d" % number, time=WALL + 500, network="other")
        self.assertEqual((solo.node.clock.correction, solo.all(ClockDisagreement)), (0, []))


# --- the application's side ------------------------------------------------------------------------


def chain(*names, **options):
    """Nodes in a row, each knowing its neighbours alone."""
    world = World(*names, max_outgoing=0, **options)
    world.link(*pairwise(names))
    return world


class SendTests(SynchronousTestCase):
    def test_equal_messages_are_as_many_with_or_without_a_peer(self):
        """Some wait for the first peer; all are of one second, and all arrive at the far end."""
        world = World("ada", "ben", "cyd", max_outgoing=0)
        world.link(("ben", "cyd"))
        for _ in range(5):
            world["ada"].broadcast("tick")
        world.link(("ada", "ben"))
        for _ in range(5):
            world["ada"].broadcast("tick")
        world.settle()
        near, far = (
            [(message.id, message.time, *message.payload) for message, _ in world[name].delivered]
            for name in ("ben", "cyd")
        )
        self.assertEqual([it[1:] for it in near], [(WALL, 0, "tick")] * 10)
        self.assertEqual(len({ident for ident, *_ in near}), 10)
        self.assertEqual(near, far)

    def test_what_is_said_at_the_moment_of_joining_is_heard(self):
        """By both, whoever dialled, even over several nodes."""
        world = World("ada", "ben", "cyd", max_outgoing=0)
        world.link(("ben", "cyd"))
        world.on_joined = lambda host: host.broadcast("hello from", host.name)
        world.link(("ada", "ben"))
        self.assertEqual(world["ada"].inbox, [("hello from", "ben")])
        self.assertEqual(world["ben"].inbox, [("hello from", "ada")])
        self.assertEqual(sorted(world["cyd"].inbox), [("hello from", "ada"), ("hello from", "ben")])

    def test_a_whisper_reaches_every_neighbour_and_nobody_else(self):
        """It is not passed on."""
        world = chain("ada", "ben", "cyd")
        ben = world["ben"]
        ben.node.whisper([ben.node.composer.compose(flags.WHISPER, 0, ["psst"], ben.wall)])
        world["ada"].node.whisper(
            [world["ada"].node.composer.compose(flags.WHISPER, 0, ["ben alone"], WALL)]
        )
        world.settle()
        self.assertEqual(
            [world[name].inbox for name in ("ada", "ben", "cyd")],
            [[("psst",)], [("ben alone",)], [("psst",)]],
        )

    def test_a_message_to_one_peer_goes_there_and_its_copy_is_known(self):
        """A broadcast, too: what comes back of it is not news."""
        solo = Solo()
        ada, ben = solo.peer(b"Ada"), solo.peer(b"Ben")
        message = solo.node.composer.compose(flags.BROADCAST, 0, ["x"], solo.wall)
        solo.node.send_to(ada, message, solo.now)
        self.assertEqual((solo.effects.to(ada, 0), solo.effects.to(ben, 0)), ([(0, "x")], []))
        solo.receive(ben, ben.policy.frame(message))
        self.assertEqual((solo.effects.inbox, ben.duplicates), ([], 1))
        solo.lost(ada)
        solo.node.send_to(ada, message, solo.now)
        self.assertEqual(len(solo.effects.to(ada, 0)), 1)


class ReplyTests(SynchronousTestCase):
    def outcomes(self, host, *tokens):
        """What became of replies; those that have no outcome yet are left out."""
        told = {it.token: it.error for it in host.all(Replied)}
        return [told[token] for token in tokens if token in told]

    def test_a_reply_reaches_a_sender_three_hops_away(self):
        """Asked for, found, dialled, delivered; and nobody else hears of it."""
        world = chain("ada", "ben", "cyd", "dan")
        world["ada"].broadcast("anybody?")
        world.settle()
        dan = world["dan"]
        ((question, _),) = dan.delivered
        token = dan.reply(question.sender, "heard", b"you")
        self.assertEqual(self.outcomes(dan, token), [])
        world.settle()
        ((answer, link),) = world["ada"].delivered
        self.assertEqual(answer.payload, (flags.WHISPER, "heard", b"you"))
        self.assertEqual((answer.sender, link.id), (dan.node.id, dan.node.id))
        self.assertEqual(self.outcomes(dan, token), [None])
        for name in ("ben", "cyd"):
            self.assertEqual(world[name].inbox, [("anybody?",)])
        # The connection stays, so the next one needs no search.
        world.advance(60.0)
        self.assertIn("ada", dan.peers)
        dials = len(dan.all(Dial))
        dan.reply(question.sender, "again")
        world.settle()
        self.assertEqual(world["ada"].inbox[-1], ("again",))
        self.assertEqual(len(dan.all(Dial)), dials)

    def test_several_replies_in_one_second_all_arrive(self):
        """In order; to one sender, and to several at once."""
        world = chain("ada", "ben", "cyd", "dan", "eve")
        eve = world["eve"]
        tokens = []
        for number in range(5):
            for name in ("ada", "ben"):
                tokens.append(eve.reply(world[name].node.id, name, number))
        world.settle()
        for name in ("ada", "ben"):
            self.assertEqual(world[name].inbox, [(name, number) for number in range(5)])
        self.assertEqual(self.outcomes(eve, *tokens), [None] * 10)
        self.assertEqual(len(eve.node.replies), 0)

    def test_a_neighbour_needs_no_search(self):
        """Text or bytes, as it calls itself."""
        for ident in (b"Ada", "Ada"):
            solo = Solo()
            link = solo.peer(ident)
            token = solo.reply(ident, "heard")
            self.assertEqual(solo.effects.to(link, 2), [(2, "heard")])
            self.assertEqual(solo.effects.to(link, flags.REQUEST), [])
            self.assertEqual(solo.all(Replied), [Replied(token, None)])

    def test_without_an_answer_it_fails_for_everybody_to_see(self):
        """After ten seconds; nothing is kept of it."""
        world = chain("ada", "ben", "cyd")
        ada = world["ada"]
        token = ada.reply(b"Nobody", "heard")
        world.advance(9.9)
        self.assertEqual(self.outcomes(ada, token), [])
        world.advance(0.2)
        (error,) = self.outcomes(ada, token)
        self.assertIsInstance(error, ReplyFailed)
        self.assertIn("Nobody", str(error))
        self.assertEqual(len(ada.node.replies), 0)
        self.assertEqual([world[name].inbox for name in world.hosts], [[], [], []])

    def test_a_sender_that_does_not_answer_the_dial_is_another_reason(self):
        """Its neighbour still knows it."""
        world = chain("ada", "ben", "cyd")
        world.silent.add(world["ada"].address)
        token = world["cyd"].reply(world["ada"].node.id, "heard")
        world.advance(10.1)
        (error,) = self.outcomes(world["cyd"], token)
        self.assertIn("did not answer", str(error))

    def request(self, solo, link):
        """The id of the latest request."""
        return solo.effects.to(link, flags.REQUEST)[-1][1]

    def test_a_liars_address_does_not_get_the_reply(self):
        """Nor does it keep the right one from being tried."""
        solo = Solo()
        link = solo.peer(b"Ada")
        token = solo.reply(b"Far", "secret")
        rid = self.request(solo, link)
        solo.receive(link, raw(10, rid, [["10.6.6.6", 6], b"Far"]))
        liar = solo.peer(b"Eve", dial=solo.all(Dial)[-1])
        self.assertIsInstance(solo.closed(liar), WrongPeer)
        solo.receive(link, raw(10, rid, [["10.0.0.7", 7], b"Far"]))
        far = solo.peer(b"Far", dial=solo.all(Dial)[-1], address=("10.0.0.7", 7))
        self.assertEqual(solo.all(Dial)[-1].address, ("10.0.0.7", 7))
        self.assertEqual(solo.effects.to(liar, 2), [])
        self.assertEqual(solo.effects.to(far, 2), [(2, "secret")])
        self.assertEqual(solo.all(Replied), [Replied(token, None)])

    def test_an_answer_that_names_ourselves_dials_nobody(self):
        """Nor one that names nothing."""
        solo = Solo()
        link = solo.peer(b"Ada")
        solo.reply(b"Far", "x")
        rid = self.request(solo, link)
        for found in ([["10.0.0.1", 4444], b"Far"], [["", 0], b"Far"], [], None, "x", [None]):
            solo.receive(link, raw(10, rid, found))
        self.assertEqual((solo.all(Dial), solo.closed(link)), ([], None))

    def test_a_sender_that_turns_up_by_itself_gets_its_replies(self):
        """Behind our handshake and list."""
        solo = Solo()
        solo.peer(b"Ada")
        token = solo.reply("Far", "one")
        far = solo.peer("Far")
        self.assertEqual(solo.effects.to(far)[-1], (2, "one"))
        self.assertEqual(solo.all(Replied), [Replied(token, None)])
        solo.advance(60)
        self.assertEqual(len(solo.all(Replied)), 1)

    def test_a_javascript_node_is_asked_for_as_it_calls_itself(self):
        """Its id is text, and the dial expects it as such."""
        solo = Solo()
        link = solo.peer(b"Ada")
        solo.reply("Far", "x")
        self.assertEqual(solo.effects.to(link, flags.REQUEST)[-1][2], "Far")
        solo.receive(link, raw(10, self.request(solo, link), [["10.0.0.7", 7], "Far"]))
        far = solo.peer("Far", dial=solo.all(Dial)[-1])
        self.assertEqual(solo.effects.to(far, 2), [(2, "x")])


class CloseTests(SynchronousTestCase):
    def busy(self):
        """A node with connections in every state, and something of everything under way."""
        solo = Solo(ident=GREAT)
        old = solo.peer(b"3")
        solo.now += 60
        links = {
            "open": solo.peer(b"Ada"),
            "accepted": solo.accept(),
            "in a frame": solo.peer(b"Ben"),
            "asked": old,
            "on standby": solo.peer(b"3"),
            "kept": solo.peer(b"4"),
            "draining": solo.peer(b"4"),
        }
        solo.receive(links["in a frame"], raw(0, "x" * 99)[:50])
        self.assertIs(old.standby, links["on standby"])
        self.assertIs(links["draining"].state, State.DRAINING)
        solo.lost(solo.peer(b"Lost"))
        waiting = {"reply": solo.reply(b"Far", "x"), "dial": solo.connect(("10.0.5.1", 1))}
        waiting["greeting"] = solo.connect(("10.0.5.2", 1))
        links["dialled"] = solo.accept(solo.all(Dial)[-1])
        solo.note(solo.node.pin(("10.0.5.3", 1), solo.now, solo.wall))
        return solo, links, waiting

    def close(self, solo):
        return solo.note(solo.node.close(solo.now, solo.wall))

    def test_every_link_is_closed_in_good_order(self):
        """What is queued is still written, and the reason is said."""
        solo, links, _ = self.busy()
        actions = self.close(solo)
        closes = only(Close, actions)
        self.assertEqual({close.link for close in closes}, set(links.values()))
        self.assertEqual(len(closes), len(links))
        for close in closes:
            self.assertIsInstance(close.error, MeshClosed)
            self.assertTrue(close.flush)
        self.assertEqual((list(solo.node.links), solo.node.links.table), ([], {}))
        self.assertTrue(only(Left, actions)[-1].last)

    def test_everybody_who_waits_is_told(self):
        """Dials, connections without a handshake, replies; each once."""
        solo, _, waiting = self.busy()
        actions = self.close(solo)
        failed = {it.token: type(it.error) for it in only(ConnectFailed, actions)}
        self.assertEqual(failed, {waiting["dial"]: MeshClosed, waiting["greeting"]: MeshClosed})
        ((token, error),) = [(it.token, it.error) for it in only(Replied, actions)]
        self.assertEqual((token, type(error)), (waiting["reply"], MeshClosed))

    def test_no_timer_is_left(self):
        """Nobody is woken, dialled or closed any more."""
        solo, _, _ = self.busy()
        actions = self.close(solo)
        self.assertEqual(only(WakeAt, actions), [])
        self.assertIsNone(solo.node.timers.next())
        before = len(solo.actions)
        solo.advance(86_400)
        solo.note(solo.node.woken(solo.now, solo.wall))
        self.assertEqual(solo.actions[before:], [])

    def test_nothing_new_begins_while_it_closes(self):
        """No connection takes the place of another, and nothing is written."""
        solo, _, _ = self.busy()
        written = len(solo.effects.written)
        actions = self.close(solo)
        self.assertEqual(only(Joined, actions) + only(Replaced, actions), [])
        self.assertEqual(only(Dial, actions) + only(Connected, actions), [])
        self.assertEqual(solo.effects.written[written:], [])

    def test_after_it_nothing_happens(self):
        """Whatever peers, transports and the application go on doing."""
        solo, links, _ = self.busy()
        dial = solo.all(Dial)[0]
        self.close(solo)
        written, delivered = len(solo.effects.written), len(solo.effects.delivered)
        before = len(solo.actions)
        for link in links.values():
            solo.receive(link, handshake() + raw(0, "late") + whisper(8, b"*"))
            solo.lost(link)
        solo.refuse(dial)
        solo.note(solo.node.pin(("10.0.5.4", 1), solo.now, solo.wall))
        solo.note(solo.node.request_peers(solo.now, solo.wall))
        solo.note(solo.node.close(solo.now, solo.wall))
        solo.broadcast("late")
        solo.advance(3600)
        self.assertEqual(solo.actions[before:], [])
        self.assertEqual(solo.effects.written[written:], [])
        self.assertEqual(solo.effects.delivered[delivered:], [])

    def test_what_is_asked_of_it_then_fails_at_once(self):
        """A transport that arrives late is closed without a word."""
        solo = Solo()
        self.close(solo)
        solo.connect(("10.0.5.1", 1))
        solo.reply(b"Far", "x")
        link = solo.accept()
        self.assertEqual([type(it.error) for it in solo.all(ConnectFailed)], [MeshClosed])
        self.assertEqual([type(it.error) for it in solo.all(Replied)], [MeshClosed])
        self.assertIsInstance(solo.closed(link), MeshClosed)
        self.assertEqual(solo.effects.written, [])
        self.assertEqual(solo.all(Dial), [])

    def test_the_others_notice_and_heal(self):
        """Of a chain the one in the middle goes; the others have learned of each other."""
        world = World("ada", "ben", "cyd")
        world.link(("ada", "ben"), ("cyd", "ben"))
        world["ben"].close()
        world.advance(10.0)
        self.assertEqual((world["ada"].peers, world["cyd"].peers), ({"cyd"}, {"ada"}))
        world["ada"].broadcast("still here")
        world.settle()
        self.assertEqual(world["cyd"].inbox, [("still here",)])
        self.assertEqual(world["ben"].inbox, [])
