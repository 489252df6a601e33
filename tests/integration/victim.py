"""
A node under attack: what must hold, whatever a hostile peer does.

In every test there is a victim, in a process of its own; an honest peer in another, which
exchanges acknowledged messages with the victim all the time; and a stranger, played by the test::

    honest peer  --ping, a hundred a second-->  victim  <--whatever comes to mind--  stranger
                 <--pong----------------------

What must hold afterwards is written down once, in :meth:`HostileTestCase.attack`. What the victim
must have done with the stranger's connection stands in each test: errors of the stream or the
conversation end it, unusable messages do not until there are too many, and the victim's status
counts both by their reason.

Times are in seconds, sizes in bytes. Source: docs/design.rst, "Bad input".
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tests.integration.driver import MIB
from tests.integration.hostile import Stranger
from tests.integration.nodes import ProcessTestCase

#: What one hostile peer may cost the victim.
MOST_MEMORY = 32 * MIB

#: Address space that a victim may ask for while it is attacked, used or not; a thread takes 72 MiB
#: of it. To believe what a stranger announces is a failure here, even where memory is not touched.
MOST_ADDRESSES = 512 * MIB

#: How much slower than in calm times the slowest one in a hundred pings may be: twice, and some
#: more. The costliest message that is allowed takes a node a tenth of a second, and a ping waits
#: for one of them at each step: to be read, to be answered, to be written. What this must not hide
#: is somebody who waits for all that a stranger has sent, or for the stranger.
SLOWER, SLACK = 2.0, 0.8

#: Tests run on machines where other things happen. The bound is multiplied by how much longer the
#: victim took because it waited for a core, as the system accounts for it; by this at most.
MOST_BUSY = 8.0

#: Pings a second.
RATE = 100.0

#: Seconds of calm that the attack is compared with, and the least that an attack lasts.
CALM, ATTACK = 0.5, 0.8

#: The victim is as patient as nodes are by default, in fewer seconds.
HURRIED = {
    "handshake_timeout": 1.5,
    "progress_interval": 1.0,
    "frame_timeout": 4.0,
    # The network keeps the shape that the test gave it.
    "max_outgoing": 0,
}


class HostileTestCase(ProcessTestCase):
    """A victim, and an honest peer of it."""

    encryption = "Plaintext"

    def setUp(self) -> None:
        super().setUp()
        self.victim, self.honest = self.spawn(2, encryption=self.encryption, **HURRIED)
        self.victim.ask("answer")
        self.link(self.honest, self.victim)
        self.victim.ask("limit", extra=MOST_ADDRESSES)
        self.strangers: list[Stranger] = []

    def pings(self, seconds: float) -> Any:
        """Let the honest peer exchange messages for a while."""
        self.honest.ask("begin", task="pings", rate=RATE, seconds=seconds)
        return self.honest.outcome("pings")

    @contextlib.contextmanager
    def attack(self, memory: int = MOST_MEMORY, wait: float = 0.0) -> Iterator[None]:
        """
        While the block runs the victim is attacked. Afterwards:

        * it has needed little memory for that, and keeps no descriptor;
        * every message of the honest peer was acknowledged, once, and in good time;
        * the honest peer is in its table, and has been all the time;
        * the reason of every connection that it has ended is in its log;
        * it has not met an error that it did not expect (see `ProcessTestCase`).

        :param memory: bytes that it may cost.
        :param wait: seconds that the victim's own messages may be held up on top of that.
        """
        calm = self.pings(CALM)
        self.wait_for(
            lambda: self.victim.ask("status")["greeting"] == 0, "the victim to be at rest"
        )
        joined = self.honest.ask("connect_events")
        descriptors = self.victim.descriptors
        before = self.victim.memory
        ran, waited = self.victim.turns
        self.victim.forget_memory()
        start = time.monotonic()
        self.honest.ask("begin", task="pings", rate=RATE)

        yield

        time.sleep(max(0.0, start + ATTACK - time.monotonic()))
        self.honest.ask("stop")
        for stranger in self.strangers:
            stranger.close()
        under_attack = self.honest.outcome("pings")
        grown = self.victim.most_memory - before
        ran, waited = (
            now - then for now, then in zip(self.victim.turns, (ran, waited), strict=True)
        )
        busy = min(MOST_BUSY, 1.0 + waited / ran) if ran > 0 else 1.0
        self.note(
            f"{grown / MIB:.1f} MiB; calm {self._latencies(calm)}; attacked "
            f"{self._latencies(under_attack)}, {under_attack['sent']} pings, busy {busy:.1f}"
        )
        self.assertEqual((under_attack["lost"], under_attack["twice"]), (0, 0), "pings")
        self.assertLessEqual(grown, memory, "bytes of memory that the attack has cost")
        self.assertLessEqual(
            under_attack["p99"],
            busy * (SLOWER * calm["p99"] + SLACK) + wait,
            "seconds that the slowest hundredth of the pings has taken",
        )
        self.assertIn(self.honest.id, self.victim.table())
        self.assertIn(self.victim.id, self.honest.table())
        self.assertEqual(
            self.honest.ask("connect_events"), joined, "the honest peer has lost its link"
        )
        self.wait_for(
            lambda: self.victim.descriptors <= descriptors,
            "the victim to give back what the attack has used",
        )
        self.assertLessEqual(set(self.closed_links()), set(self.victim.ask("logged")), "the log")

    @staticmethod
    def _latencies(pings: Any) -> str:
        p50, p99, worst = (1000 * pings[name] for name in ("p50", "p99", "worst"))
        return f"p50 {p50:.1f} ms p99 {p99:.1f} ms worst {worst:.0f} ms"

    # What the victim did

    def stranger(self, introduced: bool = True, **options: Any) -> Stranger:
        """Somebody who connects to the victim."""
        stranger = Stranger(self.victim.port, **options)
        self.strangers.append(stranger)
        return stranger.introduce() if introduced else stranger

    def tearDown(self) -> None:
        for stranger in self.strangers:
            stranger.close()
        super().tearDown()

    def assert_closed(self, stranger: Stranger, what: str, within: float = 20.0) -> None:
        """The victim hangs up."""
        self.assertTrue(stranger.is_closed(within), f"the link is still there after {what}")

    def assert_kept(self, stranger: Stranger, what: str) -> None:
        """The victim has dealt with everything, and goes on talking."""
        self.assertTrue(stranger.is_served(), f"the link was closed because of {what}")

    def closed_links(self) -> Counter[str]:
        """How many connections the victim has ended, by reason."""
        return Counter(self.victim.ask("status")["closed links"])

    def dropped(self) -> Counter[str]:
        """How many messages the victim has dropped, by reason."""
        return Counter(self.victim.ask("status")["dropped messages"])

    def assert_refuses(
        self, cases: dict[str, bytes], reason: str, introduced: tuple[bool, ...] = (False, True)
    ) -> None:
        """
        Each of these ends the connection it comes on, before the handshake and after it, is
        counted under this reason and no other, and told of in the status.
        """
        before = self.closed_links()
        for name, data in cases.items():
            for known in introduced:
                with self.stranger(introduced=known) as stranger:
                    stranger.send(data)
                    self.assert_closed(stranger, name)
        expected = before + Counter({reason: len(cases) * len(introduced)})
        self.assertEqual(self.closed_links(), expected)
        self.assertTrue(self.victim.ask("status")["errors"], "the status says nothing of it")

    def assert_drops(self, cases: dict[str, bytes], reason: str) -> None:
        """
        Each of these frames is dropped and counted under this reason, and the link that it came
        on is kept.
        """
        closed, dropped = self.closed_links(), self.dropped()
        for name, data in cases.items():
            with self.stranger() as stranger:
                stranger.send(data)
                self.assert_kept(stranger, name)
        self.assertEqual(self.dropped(), dropped + Counter({reason: len(cases)}))
        self.assertEqual(self.closed_links(), closed)
