"""
Tests of `py2p_twisted.core.membership`: its rules one by one, and what they add up to.

`Case` is one membership whose peers are played by the test. A `World` joins any number of them
by wires on one clock; on a wire everything keeps its order, and takes a time of its own, so that
dials cross and decisions meet::

    membership <--> Host (dials, accepts, chooses between two links) <== End ==> Host <--> ...
"""

import heapq
import random
from collections import deque

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core.actions import Dial
from py2p_twisted.core.connection import State
from py2p_twisted.core.extension import Kind, write_entry
from py2p_twisted.core.links import replaces
from py2p_twisted.core.membership import (
    IDLE_TIME,
    JOIN_INTERVAL,
    LEAF_VIEW,
    MOST_JOINED,
    MOST_TRIES,
    PROBE_SOON,
    QUESTIONS,
    SHUFFLES,
    WALKS,
    Membership,
    Priority,
)
from py2p_twisted.core.settings import Settings
from py2p_twisted.core.timers import Timers
from py2p_twisted.errors import BadExtension, ProbeEnded, ViewFull
from tests import profile

profile.load()


class Link:
    """What a membership sees of a connection, and one end of a wire of the `World`."""

    def __init__(self, ident=b"", address=None, *, dial=None, now=0.0):
        self.id, self.address, self.dial, self.since = ident, address, dial, now
        self.outgoing = dial is not None
        self.state = State.OPEN

    def __repr__(self):
        return f"<Link {'to' if self.outgoing else 'from'} {self.id.decode()} {self.state.value}>"


# --- a world of memberships ------------------------------------------------------------------


class End(Link):
    """One end of a wire: what is sent on it arrives at the other end in order."""

    def __init__(self, host, dial, now):
        super().__init__(dial=dial, now=now)
        self.host, self.other = host, None
        self.state = State.GREETING
        self.coming = deque()  # what is on its way to this end
        self.last = 0.0


class Host:
    """The least around a membership that deserves to be called a node: it dials and accepts."""

    def __init__(self, world, ident, address, settings):
        self.world, self.id, self.address = world, ident, address
        self.alive = True
        self.table, self.ends, self.dials = {}, set(), {}
        self.pins, self.book = set(), {}
        self.timers = Timers()
        self.probed = 0
        self.active = {}
        self.dialled = 0
        self.serial = 0
        self.membership = Membership(
            ident,
            settings,
            self.timers,
            random.Random(world.rng.random()),
            own_address=lambda: self.address,
            send=self.send,
            dial=self.dial,
            close=lambda link, error: self.close(link),
            drain=self.drain,
            activated=self.activated,
            deactivated=self.deactivated,
            probing=self.probing,
            pinned=self.pinned,
            candidates=lambda: [(where, who) for where, who in self.book.items() if who],
        )

    @property
    def now(self):
        return self.world.now

    # what the membership asks for

    def send(self, link, kind, *fields):
        assert link.state is State.OPEN, f"{kind!r} for {link}"
        assert link in self.ends
        self.world.put(link.other, ("ext", kind, fields))

    def dial(self, address, ident=b""):
        if (
            address == self.address
            or address in self.dials
            or len(self.dials) >= 4
            or ident in self.table
            or any(end.address == address for end in self.table.values())
        ):
            return False
        self.serial += 1
        self.dialled += 1
        self.dials[address] = Dial(address, ident or None, 4.0, self.serial)
        self.world.dial(self, self.dials[address])
        return True

    def close(self, link):
        if link.state is State.CLOSED:
            return
        link.state = State.CLOSED
        self.ends.discard(link)
        self.world.put(link.other, ("fin",))
        if self.table.get(link.id) is link:
            del self.table[link.id]
            self.active.pop(link, None)
            self.membership.left(link, self.now, abnormal=False)

    def drain(self, link, error):
        link.state = State.DRAINING
        if self.table.get(link.id) is link:
            del self.table[link.id]
            self.membership.left(link, self.now, abnormal=False)
        self.timers.at(self.now + 5, lambda: self.close(link))

    def activated(self, link):
        assert link.state is State.OPEN
        assert link not in self.active
        assert link.id not in {other.id for other in self.active}, "two links to one neighbour"
        self.active[link] = None

    def deactivated(self, link):
        del self.active[link]

    def probing(self, link):
        self.probed += 1

    def pinned(self, link):
        return link.address in self.pins

    # what happens to it

    def connect(self, address):
        """The application wants this link."""
        self.pins.add(address)
        self.book.setdefault(address, b"")
        self.dial(address)

    def greet(self, end):
        self.ends.add(end)
        self.world.put(end.other, ("hand", self.id, self.address))

    def receive(self, end, what, *rest):
        if end.state is State.CLOSED:
            return
        getattr(self, "on_" + what)(end, *rest)

    def on_hand(self, end, ident, address):
        end.id, end.address = ident, address
        if end.dial is not None:
            self.dials.pop(end.dial.address, None)
            self.book[end.dial.address] = ident
            if end.dial.expected not in (None, ident):
                self.close(end)
                self.membership.dial_failed(end.dial.address, self.now)
                return
        old = self.table.get(ident)
        if old is not None and not replaces(self.id, ident, end.outgoing):
            self.set_aside(end)
            return
        end.state = State.OPEN
        self.table[ident] = end
        if old is not None:
            self.set_aside(old)
            self.membership.replaced(old, end, self.now)
            assert old not in self.active
            self.world.crossed += 1
        known = [(item.address, item.id) for item in self.table.values() if item.address]
        known += self.membership.passive.entries
        self.world.put(end.other, ("hello",))
        self.world.put(end.other, ("peers", known[:32]))

    def set_aside(self, end):
        end.state = State.DRAINING
        self.timers.at(self.now + 1, lambda: self.close(end))

    def on_hello(self, end):
        if self.table.get(end.id) is end:
            self.membership.extended(end, self.now)

    def on_peers(self, end, known):
        for address, ident in known:
            if address != self.address and len(self.book) < 512:
                self.book.setdefault(address, ident)

    def on_ext(self, end, kind, fields):
        self.membership.received(end, kind, fields, self.now)

    def on_fin(self, end, abnormal=False):
        draining = end.state is State.DRAINING
        greeting = end.state is State.GREETING
        end.state = State.CLOSED
        self.ends.discard(end)
        if self.table.get(end.id) is end:
            del self.table[end.id]
            self.active.pop(end, None)
            self.membership.left(end, self.now, abnormal=abnormal)
        if greeting and not draining and end.dial is not None:
            self.dials.pop(end.dial.address, None)
            self.membership.dial_failed(end.dial.address, self.now)

    def on_rst(self, end):
        self.on_fin(end, abnormal=True)

    def refused(self, dial):
        self.dials.pop(dial.address, None)
        self.membership.dial_failed(dial.address, self.now)

    def seek_any(self):
        """The dialler's part: a node without any link tries what it knows, one in two seconds."""
        if not self.table and not self.dials and self.book:
            address = self.world.rng.choice(list(self.book))
            self.dial(address)
        self.timers.at(self.now + 2, self.seek_any)


class World:
    """Hosts on one clock. Whatever is sent takes a random time, and keeps its order on a wire."""

    def __init__(self, seed=0, slow=0.1, **options):
        self.rng = random.Random(seed)
        self.slow = slow
        self.now = 1000.0
        # The hosts dial as they like; so views of one neighbour are possible.
        self.settings = Settings(max_outgoing=0, **options)
        self.hosts, self.at = [], {}
        self.queue, self.count = [], 0
        self.crossed = 0

    def add(self, *, leaf=False, book=()):
        number = len(self.hosts)
        address = None if leaf else (f"10.0.{number // 250}.{number % 250 + 1}", 4444)
        host = Host(self, b"N%d" % self.rng.randrange(10**9), address, self.settings)
        self.hosts.append(host)
        self.at[address] = host
        host.book.update(book)
        host.timers.at(self.now + 2 * self.rng.random(), host.seek_any)
        return host

    @property
    def living(self):
        return [host for host in self.hosts if host.alive]

    def push(self, seconds, action):
        self.count += 1
        heapq.heappush(self.queue, (self.now + seconds, self.count, action))

    def put(self, end, what):
        """Send something to an end of a wire."""
        end.coming.append(what)
        when = max(end.last, self.now + self.slow * (0.1 + 0.9 * self.rng.random()))
        end.last = when
        self.push(when - self.now, lambda: self.arrive(end))

    def arrive(self, end):
        what = end.coming.popleft()
        if end.host.alive:
            end.host.receive(end, *what)

    def dial(self, host, dial):
        def arrived():
            target = self.at.get(dial.address)
            if target is None or not target.alive or not host.alive:
                self.push(self.slow / 2, lambda: host.alive and host.refused(dial))
                return
            near, far = End(host, dial, self.now), End(target, None, self.now)
            near.other, far.other = far, near
            target.greet(far)
            host.greet(near)

        self.push(self.slow * self.rng.random(), arrived)

    def kill(self, host):
        host.alive = False
        host.membership.stop()
        for end in list(host.ends):
            self.put(end.other, ("rst",))

    def run(self, seconds):
        until = self.now + seconds
        while True:
            times = [(self.queue[0][0], None)] if self.queue else []
            for host in self.hosts:
                if host.alive and (when := host.timers.next()) is not None:
                    times.append((when, host))
            when, host = min(times, key=lambda item: item[0], default=(until, None))
            if when >= until:
                self.now = until
                return
            self.now = max(self.now, when)
            if host is None:
                heapq.heappop(self.queue)[2]()
            else:
                host.timers.due(self.now)

    def settle(self):
        """Deliver what is on its way; no deadline passes, and nobody is newly sought."""
        for host in self.hosts:
            host.membership._seek = lambda **options: None
        while self.queue:
            when, _, action = heapq.heappop(self.queue)
            self.now = max(self.now, when)
            action()
        for host in self.living:
            del host.membership._seek
            host.membership._seek()

    # what must hold

    def check(self):
        for host in self.living:
            view = host.membership.active
            assert list(view) == list(host.active), (list(view), list(host.active))
            surplus = sum(host.pinned(link) for link in view)
            assert host.membership.degree <= max(self.settings.active_view, surplus), list(view)
            for name, (size, most) in host.membership.sizes().items():
                assert size <= max(most, surplus), (name, size, most)

    def check_symmetry(self):
        self.settle()
        self.check()
        for host in self.living:
            for link in host.membership.active:
                other = link.other
                assert host.table.get(link.id) is link
                assert other.host.alive
                assert other.host.membership.is_active(other), (host.id, link, other)

    def parts(self):
        """The sizes of the parts that the living fall into by being neighbours."""
        left, sizes = set(self.living), []
        while left:
            todo, size = [left.pop()], 0
            while todo:
                host = todo.pop()
                size += 1
                for link in host.membership.active:
                    if link.other.host in left:
                        left.discard(link.other.host)
                        todo.append(link.other.host)
            sizes.append(size)
        return sorted(sizes)

    def degrees(self):
        return sorted(host.membership.degree for host in self.living)

    def join_through_one(self, count, gap=0.05):
        """That many hosts, all told to connect to the first one."""
        first = self.add()
        for _ in range(count - 1):
            self.run(2 * gap * self.rng.random())
            self.add().connect(first.address)
        return first

    def counted(self, name):
        return sum(host.membership.counters[name] for host in self.hosts)


#: What may happen to a few hosts: what, to whom, with whom, and how much later the next thing.
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(
            ["connect", "dial", "dial", "both", "both", "repair", "break", "bye", "kill", "add"]
        ),
        st.integers(0, 9),
        st.integers(0, 9),
        st.sampled_from([0.0, 0.0, 0.05, 0.3, 1.0, 7.0]),
    ),
    max_size=30,
)


class AgreementTests(SynchronousTestCase):
    """Both ends of every link agree on whether they are neighbours."""

    def happen(self, world, what, one, other):
        if what == "add":
            if len(world.hosts) < 10:
                world.add(leaf=one == 0)
        elif what == "connect":
            if other.address:
                one.connect(other.address)
        elif what in ("dial", "both"):
            for near, far in ((one, other), (other, one))[: 2 if what == "both" else 1]:
                if far.address:
                    near.dial(far.address)
        elif what == "kill":
            if len(world.living) > 2:
                world.kill(one)
        elif one.ends:
            end = world.rng.choice(sorted(one.ends, key=lambda item: (item.id, item.since)))
            if what == "repair":
                one.membership.repaired(end, world.now)
            elif what == "bye":
                one.close(end)
            else:
                world.put(end.other, ("rst",))
                world.put(end, ("rst",))

    @given(
        st.integers(0, 10**6),
        st.integers(2, 6),
        st.integers(1, 5),
        st.sampled_from([0.05, 0.5, 2.0]),
        EVENTS,
    )
    def test_views_are_symmetric_whatever_crosses(self, seed, count, view, slow, events):
        """
        Dials, questions and evictions meet on the way in any order.

        As soon as everything that was sent has arrived, without a single deadline.
        """
        world = World(seed, slow, active_view=view)
        for _ in range(count):
            world.add()
        for what, one, other, wait in events:
            living = world.living
            self.happen(world, what, living[one % len(living)], living[other % len(living)])
            world.run(wait)
            world.check()
        world.check_symmetry()
        world.run(30)
        world.check_symmetry()

    @given(
        st.integers(0, 10**6),
        st.sampled_from([0.05, 0.5, 2.0]),
        st.sampled_from(["connect", "dial"]),
        st.sampled_from(["connect", "dial"]),
        st.floats(0, 2),
    )
    def test_two_that_dial_each_other_become_neighbours(self, seed, slow, one, other, wait):
        """Whoever came first and whichever connection stays."""
        world = World(seed, slow)
        ada, ben = world.add(), world.add()
        getattr(ada, one)(ben.address)
        world.run(wait)
        getattr(ben, other)(ada.address)
        world.run(2 + 4 * slow)
        world.check_symmetry()
        self.assertEqual(world.degrees(), [1, 1])

    def test_dials_do_cross_here(self):
        """The worlds above would prove nothing otherwise."""
        crossed = 0
        for seed in range(20):
            world = World(seed, 1.0)
            ada, ben = world.add(), world.add()
            ada.dial(ben.address)
            ben.dial(ada.address)
            world.run(10)
            crossed += world.crossed
        self.assertGreater(crossed, 10)


class OverlayTests(SynchronousTestCase):
    """What the rules add up to."""

    @given(st.integers(0, 10**6), st.integers(2, 24), st.sampled_from([0.0, 0.01, 0.2]))
    @example(1, 60, 0.0)
    @example(2, 60, 0.01)
    @example(3, 60, 0.2)
    def test_all_that_join_through_one_are_connected(self, seed, count, gap):
        """In one part within ten seconds, and with enough neighbours each within a minute."""
        world = World(seed)
        world.join_through_one(count, gap)
        world.run(10)
        world.check_symmetry()
        self.assertEqual(world.parts(), [count])
        world.run(50)
        world.check_symmetry()
        self.assertEqual(world.parts(), [count])
        self.assertGreaterEqual(world.degrees()[0], min(3, count - 1))
        self.assertGreaterEqual(sum(world.degrees()) / count, min(4.5, count - 1) - 0.5)

    def test_nobody_is_a_hub(self):
        """Not even the one address that everybody knows, and not for a moment."""
        world = World(1)
        first = world.add()
        for _ in range(150):
            world.run(0.02)
            world.add().connect(first.address)
            self.assertLessEqual(first.membership.degree, 5)
        world.run(10)
        self.assertEqual(world.parts(), [151])
        self.assertEqual(world.degrees()[-1], 5)

    def test_the_survivors_of_half_find_each_other(self):
        """Within two seconds, from what they know themselves."""
        for seed in range(5):
            world = World(seed)
            world.join_through_one(60)
            world.run(40)
            for host in world.rng.sample(world.hosts, 30):
                world.kill(host)
            world.run(2)
            self.assertEqual(world.parts(), [30], f"seed {seed}")
            world.run(20)
            world.check_symmetry()
            self.assertEqual(world.parts(), [30], f"seed {seed}")
            self.assertGreaterEqual(world.degrees()[0], 3)

    def test_the_survivors_of_most_find_each_other(self):
        """When four of five are gone."""
        for seed in range(5):
            world = World(seed)
            world.join_through_one(60)
            world.run(40)
            for host in world.rng.sample(world.hosts, 48):
                world.kill(host)
            world.run(10)
            world.check_symmetry()
            self.assertEqual(world.parts(), [12], f"seed {seed}")

    def test_a_mesh_that_is_too_small_to_fill_views_is_quiet(self):
        """Everybody knows everybody: nobody is dialled, nothing is timed but shuffles and probes."""
        for count in (2, 3, 5, 6):
            world = World(count)
            world.join_through_one(count)
            world.run(120)
            dialled = [host.dialled for host in world.hosts]
            self.assertEqual(world.degrees(), [count - 1] * count)
            world.run(600)
            self.assertEqual([host.dialled for host in world.hosts], dialled)

    def test_a_mesh_whose_views_are_full_is_quiet(self):
        """Who is refused by everybody asks ever more seldom, and nobody is evicted."""
        for seed in range(4):
            world = World(seed)
            world.join_through_one(7)
            world.run(300)
            evicted, refusals = world.counted("evictions"), world.counted("refusals")
            world.run(600)
            self.assertEqual(world.counted("evictions"), evicted)
            # One node is one short: 7 times 5 is odd. Its own dials are a minute apart; besides,
            # it asks who comes as a probe.
            self.assertLess(world.counted("refusals") - refusals, 60)

    def test_probes_reach_nodes_outside_the_view(self):
        """Each node probes somebody about every twenty seconds."""
        world = World(6)
        world.join_through_one(40)
        world.run(60)
        before = sum(host.probed for host in world.hosts)
        world.run(200)
        probed = sum(host.probed for host in world.hosts) - before
        self.assertGreater(probed, 40 * 200 / 20 * 0.7)
        self.assertLess(probed, 40 * 200 / 20 * 1.3)

    def test_two_meshes_become_one_when_a_probe_finds_something(self):
        """Both have full views; a repaired link joins them all the same."""
        world = World(7)
        first = world.join_through_one(20)
        halves = [set(world.hosts)]
        second = world.add()
        for _ in range(19):
            world.run(0.05)
            world.add().connect(second.address)
        halves.append(set(world.hosts) - halves[0])
        world.run(60)
        self.assertEqual(world.parts(), [20, 20])
        first.dial(second.address)
        world.run(1)
        self.assertEqual((world.parts(), first.probed > 0), ([20, 20], True))
        link = first.table[second.id]
        first.membership.repaired(link, world.now)
        world.run(1)
        world.check_symmetry()
        self.assertEqual(world.parts(), [40])
        world.run(100)
        world.check_symmetry()
        self.assertEqual(world.parts(), [40])

    def test_leaves_come_on_top(self):
        """They seek a few neighbours, cost nobody else a place, and nobody is told of them."""
        world = World(8)
        first = world.join_through_one(20)
        world.run(30)
        leaves = []
        for _ in range(10):
            leaves.append(world.add(leaf=True))
            leaves[-1].connect(first.address)
        evictions = world.counted("evictions")
        world.run(30)
        world.check_symmetry()
        for leaf in leaves:
            self.assertIn(leaf.membership.degree, (LEAF_VIEW, LEAF_VIEW - 1))
        others = set(world.hosts) - set(leaves)
        self.assertEqual(sum(len(host.membership.active) for host in others) % 2, 0)
        known = {who for host in world.hosts for _, who in host.membership.passive.entries}
        self.assertEqual(known & {leaf.id for leaf in leaves}, set())
        self.assertEqual(world.counted("evictions"), evictions)


# --- one membership, whose peers the test plays ----------------------------------------------

OWN = (("10.9.0.1", 4444), b"Own")


def entry(number):
    """Where a node lives, and its id."""
    return (f"10.8.0.{number}", 4444), b"P%d" % number


class Steady(random.Random):
    """Draws that do not depend on what was drawn before them: always the middle."""

    def random(self):
        return 0.5


class Case(SynchronousTestCase):
    """A membership alone: what it wants done is noted."""

    def setUp(self):
        self.build()

    def build(self, rng=None, leaf=False, **options):
        self.now = 1000.0
        self.settings = Settings(**options)
        self.timers = Timers()
        self.sent, self.dials, self.closed, self.drained = [], [], [], []
        self.activated, self.deactivated, self.probed = [], [], []
        self.pins, self.book, self.willing, self.serial = set(), [], True, 0
        self.refused_addresses = set()
        self.membership = Membership(
            OWN[1],
            self.settings,
            self.timers,
            rng or random.Random(1),
            own_address=lambda: None if leaf else OWN[0],
            send=lambda link, kind, *fields: self.sent.append((link, kind, *fields)),
            dial=self.dial,
            close=lambda link, error: self.closed.append((link, type(error))),
            drain=lambda link, error: self.drained.append((link, type(error))),
            activated=self.activated.append,
            deactivated=self.deactivated.append,
            probing=self.probed.append,
            pinned=lambda link: link in self.pins,
            candidates=lambda: self.book,
            acceptable=lambda address: address not in self.refused_addresses,
        )

    def dial(self, address, ident):
        self.dials.append((address, ident))
        return self.willing

    def advance(self, seconds):
        target = self.now + seconds
        for _ in range(10_000):
            when = self.timers.next()
            if when is None or when > target:
                self.now = target
                return
            self.now = max(self.now, when)
            self.timers.due(self.now)
        self.fail("the membership wants to be woken without end")

    def link(self, number, *, outgoing=False, leaf=False, pinned=False):
        address, ident = entry(number)
        self.serial += 1
        dial = Dial(address, None, 4.0, self.serial) if outgoing else None
        link = Link(ident, None if leaf else address, dial=dial, now=self.now)
        if pinned:
            self.pins.add(link)
        return link

    def meet(self, number, **options):
        """An extended link, on which the peer has said hello."""
        link = self.link(number, **options)
        self.membership.extended(link, self.now)
        return link

    def say(self, link, kind, *fields):
        read = [int(item) if isinstance(item, Priority) else item for item in fields]
        self.membership.received(link, kind, read, self.now)

    def neighbour(self, number, **options):
        """A link to a peer that has become a neighbour."""
        link = self.meet(number, **options)
        if options.get("outgoing"):
            self.say(link, Kind.NEIGHBOR_OK)
        else:
            self.say(link, Kind.NEIGHBOR, Priority.LOW)
        self.assertTrue(self.membership.is_active(link))
        return link

    def fill(self, count=5, **options):
        links = [self.neighbour(number, **options) for number in range(1, count + 1)]
        self.forget()
        return links

    def forget(self):
        """What has happened so far is of no interest."""
        for notes in (self.sent, self.dials, self.closed, self.drained):
            notes.clear()
        for notes in (self.activated, self.deactivated, self.probed):
            notes.clear()

    def said(self, link):
        return [tuple(frame) for to, *frame in self.sent if to is link]


class AskingTests(Case):
    def test_the_first_peer_is_asked_to_join(self):
        link = self.meet(1, outgoing=True)
        self.assertEqual(self.said(link), [(Kind.JOIN,)])
        self.assertEqual(self.activated, [])
        self.say(link, Kind.NEIGHBOR_OK)
        self.assertEqual((self.activated, self.membership.degree), ([link], 1))

    def test_others_are_asked_for_a_place_if_there_is_room(self):
        self.fill(1)
        self.assertEqual(self.said(self.meet(2, outgoing=True)), [(Kind.NEIGHBOR, Priority.LOW)])

    def test_whom_the_application_asked_for_is_asked_with_emphasis(self):
        self.fill(5)
        link = self.meet(6, outgoing=True, pinned=True)
        self.assertEqual(self.said(link), [(Kind.NEIGHBOR, Priority.HIGH)])

    def test_a_node_that_was_asked_for_once_has_no_emphasis_when_met_by_chance(self):
        """Else the node where everybody joins would change its neighbours without end."""
        self.fill(4)
        self.assertEqual(self.said(self.meet(6, pinned=True)), [(Kind.NEIGHBOR, Priority.LOW)])

    def test_a_link_that_there_is_no_room_for_serves_as_a_probe(self):
        self.fill(5)
        link = self.meet(6, outgoing=True)
        self.assertEqual((self.said(link), self.probed), ([], [link]))
        self.advance(self.settings.probe_time)
        self.assertEqual(self.closed, [(link, ProbeEnded)])

    def test_who_dials_us_is_waited_for(self):
        self.fill(5)
        link = self.meet(6)
        self.assertEqual(self.said(link), [])
        self.advance(2 * self.settings.probe_time)
        self.assertEqual(self.closed, [])
        self.advance(self.settings.handshake_timeout)
        self.assertEqual(self.closed, [(link, ViewFull)])

    def test_who_dials_us_and_says_nothing_is_asked_if_there_is_room(self):
        self.fill(3)
        link = self.meet(6)
        self.assertEqual(self.said(link), [])
        self.advance(IDLE_TIME + 1)
        self.assertEqual(self.said(link), [(Kind.NEIGHBOR, Priority.LOW)])

    def test_a_no_ends_a_link_that_was_made_to_ask(self):
        self.fill(1)
        self.membership.noted(entry(6), self.now)
        self.assertEqual(self.dials, [entry(6)])
        link = self.meet(6, outgoing=True)
        self.assertEqual(self.said(link), [(Kind.NEIGHBOR, Priority.LOW)])
        self.say(link, Kind.NEIGHBOR_NO)
        self.assertEqual(self.closed, [(link, ViewFull)])
        self.assertIn(b"P6", self.membership.passive)

    def test_a_no_makes_a_probe_of_a_link_that_was_made_for_another_reason(self):
        """A lost peer that is dialled again may have been in another part of the mesh."""
        self.fill(1)
        link = self.meet(6, outgoing=True)
        self.say(link, Kind.NEIGHBOR_NO)
        self.assertEqual((self.closed, self.probed), ([], [link]))
        self.advance(self.settings.probe_time)
        self.assertEqual(self.closed, [(link, ProbeEnded)])

    def test_no_answer_is_a_no(self):
        self.fill(1)
        link = self.meet(6, outgoing=True)
        self.advance(self.settings.dead_after)
        self.assertEqual(self.closed, [(link, ViewFull)])

    def test_two_questions_that_cross_are_two_yeses(self):
        """Neither end says anything more."""
        link = self.meet(1, outgoing=True)
        self.forget()
        self.say(link, Kind.NEIGHBOR, Priority.LOW)
        self.assertEqual((self.activated, self.sent), ([link], []))

    def test_a_yes_too_late_costs_nobody_else_a_place(self):
        self.fill(4)
        self.membership.noted(entry(6), self.now)
        late = self.meet(6, outgoing=True)
        self.neighbour(7)
        self.forget()
        self.say(late, Kind.NEIGHBOR_OK)
        self.assertEqual((self.deactivated, self.drained), ([late], [(late, ViewFull)]))
        self.assertEqual(self.said(late), [(Kind.DISCONNECT,)])

    def test_an_answer_that_nobody_asked_for_changes_nothing(self):
        self.fill(5)
        link = self.meet(6)
        self.say(link, Kind.NEIGHBOR_OK)
        self.say(link, Kind.NEIGHBOR_NO)
        self.say(self.link(7), Kind.NEIGHBOR, 1)  # has not said hello, or is drained
        self.assertEqual((self.activated, self.closed, self.sent), ([], [], []))


class AnsweringTests(Case):
    def test_a_question_is_answered_before_anything_else_is_said(self):
        """The peer must know it is a neighbour before it gets what neighbours get."""
        self.fill(1)
        link = self.meet(6)
        order = []
        self.membership._activated = lambda link: order.append(list(self.said(link)))
        self.say(link, Kind.NEIGHBOR, Priority.LOW)
        self.assertEqual(order, [[(Kind.NEIGHBOR_OK,)]])

    def test_low_priority_gets_what_is_free(self):
        self.fill(5)
        link = self.meet(6)
        for priority in (Priority.LOW, Priority.JOIN, 77):
            self.say(link, Kind.NEIGHBOR, priority)
        self.assertEqual(self.said(link), [(Kind.NEIGHBOR_NO,)] * 3)
        self.assertIn(b"P6", self.membership.passive)

    def test_somebody_gives_way_to_high_priority(self):
        """At random: all of them, in the long run."""
        gone = set()
        for seed in range(60):
            self.build(rng=random.Random(seed))
            links = self.fill(5)
            link = self.meet(6)
            self.say(link, Kind.NEIGHBOR, Priority.HIGH)
            ((victim, error),) = self.drained
            self.assertEqual(
                (error, self.deactivated, self.activated), (ViewFull, [victim], [link])
            )
            self.assertEqual(self.said(victim), [(Kind.DISCONNECT,)])
            self.assertIn(victim.id, self.membership.passive)
            self.assertEqual(self.membership.degree, 5)
            gone.add(links.index(victim))
        self.assertEqual(gone, set(range(5)))

    def test_two_that_we_have_chosen_stay(self):
        """However many strangers come."""
        own = [self.neighbour(number, outgoing=True) for number in (1, 2)]
        others = [self.neighbour(number) for number in (3, 4, 5)]
        for number in range(6, 60):
            self.say(self.meet(number), Kind.JOIN)
            self.assertEqual(self.membership.degree, 5)
        for link in own:
            self.assertTrue(self.membership.is_active(link))
        for link in others:
            self.assertFalse(self.membership.is_active(link))

    def test_whom_the_application_asked_for_stays(self):
        self.fill(5, outgoing=True, pinned=True)
        link = self.meet(6)
        self.say(link, Kind.JOIN)
        self.assertEqual((self.said(link), self.drained), ([(Kind.NEIGHBOR_NO,)], []))

    def test_more_than_fit_are_kept_only_if_the_application_asked_for_all(self):
        self.fill(5, outgoing=True, pinned=True)
        link = self.meet(6, outgoing=True, pinned=True)
        self.say(link, Kind.NEIGHBOR_OK)
        self.assertEqual((self.membership.degree, self.drained), (6, []))
        del self.membership, link
        self.build()
        self.fill(5)
        link = self.meet(6, outgoing=True, pinned=True)
        self.say(link, Kind.NEIGHBOR_OK)
        self.assertEqual((self.membership.degree, len(self.drained)), (5, 1))
        self.assertIn(link, self.membership.active)

    def test_a_leaf_comes_on_top(self):
        self.fill(5)
        leaf = self.meet(6, leaf=True)
        self.say(leaf, Kind.JOIN)
        self.assertEqual(self.sent, [(leaf, Kind.NEIGHBOR_OK)])
        self.assertEqual((len(self.membership.active), self.membership.degree), (6, 5))
        self.assertNotIn(b"P6", self.membership.passive)
        for number in range(7, 30):
            self.say(self.meet(number), Kind.JOIN)
        self.assertIn(leaf, self.membership.active)

    def test_who_is_evicted_hangs_up_and_seeks_another(self):
        links = self.fill(2)
        self.membership.noted(entry(9), self.now)
        self.forget()
        self.say(links[0], Kind.DISCONNECT)
        self.assertEqual((self.deactivated, self.closed), ([links[0]], [(links[0], ViewFull)]))
        self.assertIn(b"P1", self.membership.passive)
        self.membership.dial_failed(entry(9)[0], self.now)
        self.advance(20)
        self.assertIn(entry(1), self.dials)

    def test_a_peer_that_asks_without_end_is_a_nuisance(self):
        self.fill(5)
        link = self.meet(6)
        with self.assertRaises(BadExtension):
            for _ in range(QUESTIONS[1] + 1):
                self.say(link, Kind.NEIGHBOR, Priority.LOW)

    def test_fields_that_make_no_sense_are_an_error(self):
        (link,) = self.fill(1)
        for kind, fields in (
            (Kind.NEIGHBOR, ()),
            (Kind.NEIGHBOR, (b"1",)),
            (Kind.NEIGHBOR, (True,)),
            (Kind.FORWARD_JOIN, (write_entry(entry(7)),)),
            (Kind.FORWARD_JOIN, (b"x", 3)),
            (Kind.FORWARD_JOIN, (write_entry(entry(7)), -1)),
            (Kind.SHUFFLE, (b"P1", 3)),
            (Kind.SHUFFLE, (b"", 3, [])),
            (Kind.SHUFFLE, (b"x" * 999, 3, [])),
            (Kind.SHUFFLE, (b"P1", -3, [])),
            (Kind.SHUFFLE, (b"P1", 3, [0] * 33)),
            (Kind.SHUFFLE_REPLY, (b"P1",)),
            (Kind.SHUFFLE_REPLY, (b"", [])),
            (Kind.IHAVE, ()),
        ):
            with self.assertRaises(BadExtension, msg=f"{kind!r} {fields}"):
                self.say(link, kind, *fields)


class NewcomerTests(Case):
    def walks(self):
        return [(to, *rest) for to, kind, *rest in self.sent if kind is Kind.FORWARD_JOIN]

    def test_a_newcomer_is_led_to_every_other_neighbour(self):
        links = self.fill(3)
        newcomer = self.meet(6)
        self.say(newcomer, Kind.JOIN)
        self.assertEqual(
            self.walks(), [(link, write_entry(entry(6)), self.settings.join_walk) for link in links]
        )

    def test_also_when_it_had_to_be_refused(self):
        self.fill(5, outgoing=True, pinned=True)
        self.say(self.meet(6), Kind.JOIN)
        self.assertEqual(len(self.walks()), 5)

    def test_a_leaf_is_led_nowhere(self):
        self.fill(3)
        self.say(self.meet(6, leaf=True), Kind.JOIN)
        self.assertEqual(self.walks(), [])

    def test_who_joins_again_and_again_is_announced_once(self):
        self.fill(2)
        link = self.meet(6)
        for _ in range(5):
            self.say(link, Kind.JOIN)
        self.assertEqual(len(self.walks()), 2)
        self.advance(JOIN_INTERVAL)
        self.say(link, Kind.JOIN)
        self.assertEqual(len(self.walks()), 4)

    def test_a_walk_goes_on_to_another_neighbour(self):
        links = self.fill(5)
        for seed in range(20):
            self.say(links[0], Kind.FORWARD_JOIN, write_entry(entry(50 + seed)), 5)
        self.assertEqual({hops for _, _, hops in self.walks()}, {4})
        self.assertEqual({to for to, _, _ in self.walks()}, set(links[1:]))
        self.assertEqual((self.dials, len(self.membership.passive)), ([], 0))

    def test_it_is_noted_on_the_way(self):
        links = self.fill(5)
        self.say(links[0], Kind.FORWARD_JOIN, write_entry(entry(50)), self.settings.passive_walk)
        self.assertIn(b"P50", self.membership.passive)

    def test_where_it_ends_the_newcomer_is_dialled_and_somebody_gives_way(self):
        links = self.fill(5)
        self.say(links[0], Kind.FORWARD_JOIN, write_entry(entry(50)), 0)
        self.assertEqual(self.dials, [entry(50)])
        link = self.meet(50, outgoing=True)
        self.assertEqual(self.said(link), [(Kind.NEIGHBOR, Priority.JOIN)])
        self.say(link, Kind.NEIGHBOR_OK)
        self.assertEqual((self.membership.degree, len(self.drained)), (5, 1))
        self.assertIn(link, self.membership.active)

    def test_who_has_one_neighbour_is_the_end_of_every_walk(self):
        (link,) = self.fill(1)
        self.say(link, Kind.FORWARD_JOIN, write_entry(entry(50)), 6)
        self.assertEqual(self.dials, [entry(50)])

    def test_ourselves_neighbours_and_the_impossible_are_not_dialled(self):
        links = self.fill(5)
        self.refused_addresses.add(entry(51)[0])
        for field in (write_entry(OWN), write_entry(entry(2)), write_entry(entry(51)), [], [1, 2]):
            self.say(links[0], Kind.FORWARD_JOIN, field, 0)
        self.assertEqual((self.dials, len(self.membership.passive)), ([], 0))

    def test_a_stranger_leads_nobody(self):
        self.fill(5)
        self.say(self.meet(6), Kind.FORWARD_JOIN, write_entry(entry(50)), 0)
        self.assertEqual((self.dials, self.walks()), ([], []))

    def test_a_flood_of_walks_ends_here(self):
        """And fills no more than a share of what we remember."""
        links = self.fill(5)
        self.membership.passive.add(entry(200))
        for number in range(10, 10 + 150):
            self.say(links[0], Kind.FORWARD_JOIN, write_entry(entry(number)), 6)
        self.assertEqual(len(self.walks()), WALKS[1])
        self.assertLessEqual(len(self.membership.passive), 1 + 8)
        self.assertIn(b"P200", self.membership.passive)

    def test_liars_cannot_have_a_victim_dialled_twice(self):
        """Within a quarter of an hour, whatever they call it."""
        links = self.fill(5)
        (host, port), _ = entry(99)
        for number in range(2000):
            field = write_entry(((host, port), b"Fake%d" % number))
            link = links[number % 5]
            self.say(link, Kind.FORWARD_JOIN, field, 0)
            self.membership.dial_failed((host, port), self.now)
            self.advance(0.4)
        self.assertEqual([where for where, _ in self.dials], [(host, port)])


class CrossedTests(Case):
    """Another connection to the same peer takes the place of one."""

    def test_a_neighbour_is_asked_again(self):
        old = self.neighbour(1)
        new = self.link(1, outgoing=True)
        self.forget()
        self.membership.replaced(old, new, self.now)
        self.assertEqual((self.deactivated, self.membership.degree), ([old], 0))
        self.membership.extended(new, self.now)
        self.assertEqual(self.sent, [(new, Kind.NEIGHBOR, Priority.HIGH)])
        self.say(new, Kind.NEIGHBOR, Priority.HIGH)
        self.assertEqual((self.activated, list(self.membership.active)), ([new], [new]))

    def test_what_comes_late_on_the_old_one_counts_no_more(self):
        old = self.meet(1, outgoing=True)
        new = self.link(1)
        self.membership.replaced(old, new, self.now)
        for kind in (Kind.NEIGHBOR_OK, Kind.NEIGHBOR_NO, Kind.DISCONNECT):
            self.say(old, kind)
        self.membership.left(old, self.now, abnormal=False)
        self.assertEqual((self.activated, self.closed), ([], []))
        self.forget()
        self.membership.extended(new, self.now)
        self.assertEqual(self.sent, [(new, Kind.JOIN)])

    def test_a_hello_on_the_new_one_may_come_first(self):
        old = self.neighbour(1)
        self.forget()
        new = self.meet(1)
        self.membership.replaced(old, new, self.now)
        self.membership.left(old, self.now, abnormal=False)
        self.assertEqual(self.deactivated, [old])
        self.assertEqual(self.sent, [(new, Kind.NEIGHBOR, Priority.HIGH)])

    def test_a_purpose_is_not_lost_with_our_dial(self):
        """It was for the peer, whichever connection leads there."""
        self.fill(2)
        self.membership.noted(entry(6), self.now)
        old, new = self.link(6, outgoing=True), self.link(6)
        self.membership.replaced(old, new, self.now)
        self.membership.extended(new, self.now)
        self.assertEqual(self.said(new), [(Kind.NEIGHBOR, Priority.LOW)])

    def test_nor_one_of_somebody_else(self):
        self.fill(2)
        old, new = self.link(6, outgoing=True), self.link(6)
        self.membership.replaced(old, new, self.now)
        self.membership.extended(new, self.now)
        self.assertEqual(self.said(new), [(Kind.NEIGHBOR, Priority.LOW)])

    def test_a_probe_stays_a_probe(self):
        self.fill(5)
        old, new = self.meet(6, outgoing=True), self.link(6)
        self.membership.replaced(old, new, self.now)
        self.membership.extended(new, self.now)
        self.assertEqual((self.probed, self.said(new)), ([old, new], []))
        self.advance(self.settings.probe_time)
        self.assertEqual(self.closed, [(new, ProbeEnded)])


class RefillTests(Case):
    def test_four_are_dialled_at_once(self):
        self.membership.stop()
        self.build()
        self.fill(5)
        for number in range(20, 40):
            self.membership.noted(entry(number), self.now)
        for link in list(self.membership.active):
            self.membership.left(link, self.now, abnormal=True)
        self.assertEqual(len(self.dials), 4)

    def test_one_that_fails_is_forgotten_and_the_next_one_tried(self):
        self.fill(4)
        for number in (20, 21):
            self.membership.noted(entry(number), self.now)
        (first,) = self.dials
        self.membership.dial_failed(first[0], self.now)
        self.assertNotIn(first[1], self.membership.passive)
        self.advance(3)
        self.assertEqual(set(self.dials), {entry(20), entry(21)})

    def test_with_too_few_neighbours_it_is_tried_at_once(self):
        self.fill(1)
        for number in range(20, 40):
            self.membership.passive.add(entry(number))
        self.membership.noted(entry(40), self.now)
        for _ in range(15):
            self.membership.dial_failed(self.dials[-1][0], self.now)
        self.assertEqual(len(self.dials), 4 + 15)

    def test_the_book_is_asked_when_nobody_else_is_known(self):
        (link,) = self.fill(1)
        self.book = [entry(30), OWN, entry(1)]
        self.membership.left(link, self.now, abnormal=True)
        self.assertEqual(set(self.dials), {entry(30), entry(1)})

    def test_without_neighbours_it_insists(self):
        (link,) = self.fill(1)
        self.membership.noted(entry(6), self.now)
        self.membership.left(link, self.now, abnormal=True)
        self.forget()
        link = self.meet(6, outgoing=True)
        self.assertEqual(self.said(link), [(Kind.NEIGHBOR, Priority.HIGH)])

    def test_refused_everywhere_with_two_neighbours_it_insists_in_the_end(self):
        """Two are lost too easily, and whoever gives way for us has four more."""
        self.fill(2)
        for number in range(20, 50):
            self.membership.noted(entry(number), self.now)
        told, asked = 0, []
        for _ in range(200):
            while told < len(self.dials):
                ident = self.dials[told][1]
                told += 1
                link = self.meet(int(ident[1:]), outgoing=True)
                asked += self.said(link)
                self.say(link, Kind.NEIGHBOR_NO)
            self.advance(0.25)
        self.assertEqual(asked[0], (Kind.NEIGHBOR, Priority.LOW))
        self.assertEqual(asked[-1], (Kind.NEIGHBOR, Priority.HIGH))

    def test_refused_everywhere_with_enough_neighbours_it_gives_peace(self):
        self.fill(4)
        for number in range(20, 50):
            self.membership.noted(entry(number), self.now)
        told, times = 0, []
        for _ in range(6000):
            while told < len(self.dials):
                link = self.meet(int(self.dials[told][1][1:]), outgoing=True)
                told += 1
                if self.said(link):
                    self.assertEqual(self.said(link), [(Kind.NEIGHBOR, Priority.LOW)])
                    times.append(self.now)
                    self.say(link, Kind.NEIGHBOR_NO)
            self.advance(0.1)
        self.assertLess(len(times), 25)
        self.assertGreater(times[-1] - times[-2], 30)
        # A loss changes that at once.
        told = len(self.dials)
        self.membership.left(next(iter(self.membership.active)), self.now, abnormal=True)
        self.assertGreater(len(self.dials), told)

    def test_a_dialler_that_is_busy_is_asked_again_when_it_has_ended_something(self):
        self.fill(3)
        self.willing = False
        self.membership.noted(entry(20), self.now)
        self.willing = True
        self.forget()
        self.membership.dial_failed(("10.7.7.7", 1), self.now)
        self.assertEqual(self.dials, [entry(20)])

    def test_a_node_that_is_no_extended_one_after_all_is_forgotten(self):
        self.fill(4)
        self.membership.noted(entry(20), self.now)
        self.advance(60)
        self.assertEqual(self.dials, [entry(20)])
        self.assertNotIn(b"P20", self.membership.passive)

    def test_a_leaf_seeks_fewer_and_neither_shuffles_nor_probes(self):
        self.build(leaf=True)
        self.fill(LEAF_VIEW, outgoing=True)
        self.book = [entry(30)]
        self.membership.noted(entry(20), self.now)
        self.advance(300)
        self.assertEqual((self.dials, self.sent), ([], []))
        self.assertFalse(self.membership.wants_more)

    def test_after_the_end_nothing_happens(self):
        links = self.fill(5)
        self.membership.noted(entry(20), self.now)
        self.membership.stop()
        self.membership.left(links[0], self.now, abnormal=True)
        self.membership.dial_failed(entry(20)[0], self.now)
        self.meet(7, outgoing=True)
        self.say(links[1], Kind.DISCONNECT)
        self.advance(1000)
        self.assertEqual((self.dials, self.sent, self.closed), ([], [], []))


class ProbeTests(Case):
    def setUp(self):
        self.build(rng=Steady())

    def test_somebody_outside_the_view_is_probed_now_and_then(self):
        self.fill(5)
        self.membership.noted(entry(20), self.now)
        self.advance(self.settings.probe_interval)
        self.assertEqual(self.dials, [entry(20)])
        link = self.meet(20, outgoing=True)
        self.assertEqual((self.probed, self.said(link)), ([link], []))
        self.advance(self.settings.probe_time)
        self.assertEqual(self.closed, [(link, ProbeEnded)])

    def test_and_soon_after_an_abnormal_loss(self):
        links = self.fill(5)
        self.neighbour(6, leaf=True)
        self.membership.noted(entry(20), self.now)
        self.membership.noted(entry(21), self.now)
        self.membership.left(links[0], self.now, abnormal=True)
        refill = self.dials[:]
        self.assertEqual(len(refill), 1)
        self.advance(PROBE_SOON[1])
        self.assertEqual(len(self.dials), 2)

    def test_what_it_has_repaired_is_kept(self):
        """Both views are full: somebody gives way at this end, too."""
        self.fill(5)
        link = self.meet(20, outgoing=True)
        self.membership.repaired(link, self.now)
        self.membership.repaired(link, self.now)
        self.assertEqual(self.said(link), [(Kind.NEIGHBOR, Priority.HIGH)])
        self.advance(self.settings.probe_time)
        self.say(link, Kind.NEIGHBOR_OK)
        self.assertEqual((self.closed, len(self.drained)), ([], 1))
        self.assertIn(link, self.membership.active)

    def test_nobody_is_probed_when_all_are_neighbours(self):
        links = self.fill(5)
        self.book = [entry(1), entry(2), OWN]
        self.assertEqual(len(links), 5)
        self.advance(300)
        self.assertEqual(self.dials, [])


class BoundsTests(Case):
    def test_everything_is_bounded(self):
        """A thousand peers do what they can."""
        world = random.Random(3)
        links = self.fill(5)
        for number in range(1000):
            address = (f"10.{number // 250}.{number % 250}.1", 4444)
            link = Link(b"Q%d" % number, address, now=self.now)
            self.membership.extended(link, self.now)
            self.say(link, Kind.JOIN)
            active = list(self.membership.active)
            for _ in range(3):
                source = world.choice(active)
                origin = b"W%d" % world.randrange(10**6)
                where = (f"10.77.{world.randrange(250)}.{world.randrange(250)}", 4444)
                self.say(source, Kind.SHUFFLE, origin, 6, [write_entry((where, origin))] * 32)
                if source in self.membership.active:
                    self.say(source, Kind.FORWARD_JOIN, write_entry((where, origin)), 0)
            self.membership.dial_failed(where, self.now)
            if number % 3:
                self.membership.left(link, self.now, abnormal=True)
            self.advance(0.01)
            for name, (size, most) in self.membership.sizes().items():
                self.assertLessEqual(size, most, name)
        self.assertGreater(len(links), 4)
        self.assertEqual(self.membership.sizes()["newcomers"][1], MOST_JOINED)
        self.assertLessEqual(self.membership.sizes()["dials for the view"][0], MOST_TRIES)

    def test_a_neighbour_that_sends_walks_of_addresses_without_end_is_not_listened_to(self):
        links = self.fill(5)
        for number in range(100):
            self.say(links[0], Kind.SHUFFLE, b"W%d" % number, 6, [])
        self.assertEqual(len(self.sent), SHUFFLES[1])
        self.assertEqual(self.membership.counters["limited"], 100 - SHUFFLES[1])
