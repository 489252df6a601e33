"""
Tests like those of `delivery_check` that take minutes, and run by command only; see there.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter

from tests.integration.delivery_check import (
    HEALING,
    MINUTES,
    Killing,
    SitesTestCase,
    StoppedPeerTests,
    milliseconds,
)


def minutes(usual: float) -> float:
    """How long a test is to run, in seconds."""
    return 60.0 * float(os.environ.get(MINUTES, usual))


class ChurnTests(Killing):
    """Thirty-two nodes, a tenth of which is replaced each minute."""

    def test_ten_percent_a_minute(self) -> None:
        """Those who stay have everything, once; so have those who are there at the end."""
        nodes = self.mesh(32)
        old = list(nodes)
        senders = {"one": nodes[0], "two": nodes[1]}
        for name, node in senders.items():
            node.ask("traffic", name=name, rate=5.0)
        every = 60.0 / (0.1 * len(nodes))
        began = time.monotonic()
        dead = self.churn(nodes, range(2, 32), round(minutes(10.0) / every), every)
        ended = time.monotonic()
        sent = self.quiet(senders)
        # What is older than the retention may be gone, for those who come late.
        first = {
            name: min(
                number
                for number, (when, _) in senders[name].look().got[name].items()
                if when > ended - 300
            )
            for name in senders
        }
        survivors = [node for node in nodes if node in old]
        self.assert_all(survivors, {name: range(count) for name, count in sent.items()})
        self.assert_all(nodes, {name: range(first[name], sent[name]) for name in sent})
        self.assert_once([*nodes, *dead])
        delays = self.delays(survivors, began, ended)
        self.note(
            f"{len(dead)} of {len(nodes)} replaced in {ended - began:.0f} s, "
            f"{sum(sent.values())} messages, {len(survivors)} were there all the time; p50 "
            f"{milliseconds(delays, 0.5)}, p99 {milliseconds(delays, 0.99)}, worst "
            f"{max(delays):.2f} s; {self.note_new_ones(nodes, old)}"
        )


class LongStopTests(StoppedPeerTests):
    """A node that is stopped for longer."""

    STOP = 30.0


class PowerLossTests(SitesTestCase):
    """Twelve nodes at sites of their own, half of which fall silent at one moment."""

    def test_half_of_them(self) -> None:
        """The others miss nothing, and have the last message soon after."""
        sites = self.sites(12)
        groups = self.mesh_at(sites, 1)
        nodes = [node for (node,) in groups]
        senders = {"one": nodes[0], "two": nodes[1]}
        for name, node in senders.items():
            node.ask("traffic", name=name, rate=25.0)
        time.sleep(3.0)
        lost = random.Random(757).sample(range(2, 12), 6)
        sites.cut(*lost)
        cut = time.monotonic()
        time.sleep(20.0)
        sent = self.quiet(senders)
        rest = [node for number, node in enumerate(nodes) if number not in lost]
        self.assert_all(rest, {name: range(count) for name, count in sent.items()})
        self.assert_once(rest)
        came = self.delays(rest, cut - 1, cut + 1)
        self.note(
            f"{len(lost)} of {len(nodes)} fell silent; of what was sent within a second of it "
            f"the last delivery took {max(came):.1f} s"
        )


class SoakTests(SitesTestCase, Killing):
    """Twelve nodes at four sites, to which everything happens in turn."""

    def test_everything_in_turn(self) -> None:
        """Whatever has happened, everybody has everything, once."""
        sites = self.sites(4)
        groups = self.mesh_at(sites, 3)
        nodes = [node for group in groups for node in group]
        old, dead = list(nodes), []
        senders = {"one": nodes[0], "two": nodes[3]}
        for name, node in senders.items():
            node.ask("traffic", name=name, rate=5.0)
        choice = random.Random(757)
        happened: Counter[str] = Counter()
        until = time.monotonic() + minutes(30.0)
        while time.monotonic() < until:
            fault = choice.choice(("kill", "stop", "cut", "unplug", "calm"))
            happened[fault] += 1
            place = choice.choice([2, 4, 5, 6, 7, 8, 9, 10, 11])
            site = place // 3
            if fault == "kill":
                (spare,) = self.recorders(1, enter=sites.sites[site].enter)
                spare.ask("ready", timeout=90.0)
                victim = nodes[place]
                victim.kill()
                dead.append(victim)
                nodes[place] = spare.run(
                    *victim.arguments, host=sites.addresses[site], port=victim.port
                )
            elif fault == "stop":
                nodes[place].halt()
                time.sleep(choice.uniform(1, 20))
                nodes[place].resume()
            elif fault in ("cut", "unplug"):
                getattr(sites, fault)(site)
                time.sleep(choice.uniform(1, 40))
                sites.heal() if fault == "cut" else sites.plug(site)
            time.sleep(choice.uniform(1, 10))
        time.sleep(HEALING)
        sent = self.quiet(senders)
        ended = time.monotonic()
        first = {
            name: min(
                number
                for number, (when, _) in senders[name].look().got[name].items()
                if when > ended - 300
            )
            for name in senders
        }
        survivors = [node for node in nodes if node in old]
        self.assert_all(survivors, {name: range(count) for name, count in sent.items()})
        self.assert_all(nodes, {name: range(first[name], sent[name]) for name in sent})
        self.assert_once([*nodes, *dead])
        self.note(
            f"{dict(happened)}; {sum(sent.values())} messages, {len(survivors)} of "
            f"{len(nodes)} nodes were there all the time; worst delay "
            f"{max(self.delays(survivors)):.1f} s"
        )
