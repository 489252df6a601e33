"""Surveys among many nodes: everybody is found, with few frames, and true when some die."""

from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core import flags
from py2p_twisted.core.extension import Kind
from py2p_twisted.core.survey import DELAY
from py2p_twisted.simulation import Host, Simulation
from py2p_twisted.simulation.plain import PlainHost


class Counting(Host):
    """A node that counts what it writes of surveys: questions by link, answers by link and 50 ms."""

    def __init__(self, birth):
        super().__init__(birth)
        self.written = Counter()

    def send(self, message, link):
        if message.items[3] == flags.EXTENSION and message.items[4] == Kind.SURVEY:
            self.written[link, message.items[5]] += 1
        elif message.items[3:5] == (flags.EXTENSION, Kind.SURVEY_ANSWER):
            self.written[link, int(self.sim.now / DELAY)] += 1
        super().send(message, link)


class Liar(Counting):
    """A member that asks 50 times a second, and invents members by the thousand."""

    def begin(self):
        self.tokens = {}
        self.serial = 0
        self.lie()

    def send(self, message, link):
        asked = message.items[3:5] == (flags.EXTENSION, Kind.SURVEY)
        if asked and not message.items[5].isdigit():
            self.tokens[message.items[5]] = None
        super().send(message, link)

    def lie(self):
        if not self.alive:
            return
        mesh = self.node.mesh
        for link in self.node.links.open:
            if link.ext is None or not link.ext.active:
                continue
            self.serial += 1
            mesh.send(link, Kind.SURVEY, b"%016d" % self.serial, 0, 60_000)
            names = [b"%012d" % (self.serial * 20 + number) for number in range(20)]
            rows = [[name, 1, 0, [], names[:5], [], "lie"] for name in names]
            for token in (*self.tokens, b"%016d" % self.serial):
                mesh.send(link, Kind.SURVEY_ANSWER, [[token, rows]])
        self.flush()
        self.sim.call(0.02, self.lie)


class ManyTests(SynchronousTestCase):
    def test_200_nodes(self):
        """Each answers once; a link has a question each way, and an answer in 50 ms, at most."""
        sim = Simulation(seed=1)
        nodes = sim.build(200, kind=Counting, interval=0.02)
        before = sim.traffic()[0]
        sim.run(1)
        idle = sim.traffic()[0] - before
        asker = nodes[17]
        key = asker.survey()
        before = sim.traffic()[0]
        sim.run(1.5)
        survey = asker.surveys[key]
        self.assertEqual({one.id for one in survey.members}, {node.id for node in nodes})
        self.assertEqual(len(survey.members), 200)
        self.assertTrue(survey.complete)
        self.assertLess(survey.seconds, 1.5)
        self.assertEqual(max(max(node.written.values()) for node in nodes), 1)
        self.assertLess(sim.traffic()[0] - before - 1.5 * idle, 200 * 9)
        far = survey.members[-1]
        self.assertTrue(0.01 < far.rtt < survey.seconds)
        names = {node.id: {link.id[:12] for link in node.node.links.open} for node in nodes}
        for one in survey.members:
            self.assertLessEqual(set(one.neighbours), names[one.id])
        sim.check_sizes()
        self.assertEqual(sim.history.violations, [])

    def test_nodes_die_meanwhile(self):
        """It ends with the rest, and does not say that it is complete if somebody is missing."""
        sim = Simulation(seed=2)
        nodes = sim.build(60)
        asker = nodes[0]
        for _ in range(5):
            key = asker.survey()
            sim.run(0.12)
            alive = [node for node in sim.alive if node is not asker]
            victims = sim.rng("victims").sample(alive, 3)
            sim.kill(victims)
            sim.run(5)
            survey = asker.surveys[key]
            known = {one.id for one in survey.members}
            here = {node.id for node in sim.alive}
            self.assertLess(survey.seconds, 4)
            self.assertLessEqual(known - here, {node.id for node in victims})
            self.assertGreater(len(known & here), 0.5 * len(here))
            if survey.complete:
                self.assertLessEqual(here, known)
        key = asker.survey()
        sim.run(2)
        survey = asker.surveys[key]
        self.assertEqual({one.id for one in survey.members}, {node.id for node in sim.alive})
        self.assertTrue(survey.complete)

    def test_machines_without_power_are_named(self):
        """Their neighbours do not know yet; once they do, nothing is missing any more."""
        sim = Simulation(seed=3)
        nodes = sim.build(40)
        dark = nodes[10:13]
        sim.power_loss(dark)
        key = nodes[0].survey()
        sim.run(6)
        survey = nodes[0].surveys[key]
        gone = {node.id[:12] for node in dark}
        self.assertEqual((len(survey.members), survey.complete), (37, False))
        self.assertLessEqual(survey.silent, gone)
        self.assertTrue(survey.silent)
        sim.run(30)
        key = nodes[0].survey()
        sim.run(2)
        survey = nodes[0].surveys[key]
        self.assertEqual((len(survey.members), survey.complete), (37, True))

    def test_plain_nodes_are_named_and_never_asked(self):
        """They get no frame that they do not know."""
        sim = Simulation(seed=4)
        nodes = sim.build(20, kind=[Counting, PlainHost])
        ours = [node for node in nodes if isinstance(node, Counting)]
        plain = {node.id[:12] for node in nodes if isinstance(node, PlainHost)}
        key = ours[0].survey()
        sim.run(3)
        survey = ours[0].surveys[key]
        self.assertEqual({one.id for one in survey.members}, {node.id for node in ours})
        self.assertTrue(survey.complete)
        self.assertTrue(survey.plain)
        self.assertLessEqual(survey.plain, plain)
        asked = {link.id for node in ours for link, _ in node.written}
        self.assertEqual(asked & {node.id for node in nodes if isinstance(node, PlainHost)}, set())

    def test_a_liar_is_bounded(self):
        """It makes a survey long and wrong; nobody breaks a link, or holds more than it may."""
        sim = Simulation(seed=5)
        nodes = sim.build(20, kind=Counting)
        (liar,) = sim.add(1, kind=Liar)
        sim.join(liar, *nodes[:2])
        sim.run(5)
        before = sum((node.closings for node in nodes), Counter())
        for node in nodes:
            node.written.clear()
        liar.begin()
        sim.run(2)
        key = nodes[7].survey(2.0)
        sim.run(3)
        survey = nodes[7].surveys[key]
        known = {one.id for one in survey.members}
        self.assertLessEqual({node.id for node in nodes}, known)
        self.assertLess(survey.seconds, 2.1)
        self.assertGreater(sum(one.version == "lie" for one in survey.members), 0)
        ended = sum((node.closings for node in nodes), Counter()) - before
        self.assertEqual(ended["extension"], 0)
        # Each second four of the liar's, of each of its neighbours; and 16 once.
        seen = Counter(link for node in nodes for link, what in node.written if type(what) is bytes)
        self.assertLess(max(seen.values()), 5 * (16 + 4 * 5) + 5)
        self.assertGreater(sim.counters()["surveys dropped"], 200)
        sim.check_sizes()
        self.assertEqual(sim.history.violations, [])
