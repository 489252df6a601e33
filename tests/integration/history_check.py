"""
Random histories of the shipping core, many of them: nothing twice, nothing missing.

Each is a network of 4 to 32 nodes on a virtual clock to which everything happens that can (see
`py2p_twisted.simulation.randomized`). The test here plays as many as have 100,000 deliveries
together, on all cores; a million, or other seeds, by command::

    python -m tests.integration.history_check --deliveries 1000000 --from 5000
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import count
from multiprocessing import get_context

from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.simulation.randomized import random_history

#: Histories that one process plays before it tells what came of them.
_BATCH = 4


def play(first: int) -> tuple[int, list[str]]:
    """Play a batch of histories: how many deliveries, and what was wrong."""
    deliveries, wrong = 0, []
    for seed in range(first, first + _BATCH):
        outcome = random_history(seed)
        deliveries += outcome.deliveries
        wrong += [f"random_history({seed}): {text}" for text in outcome.violations]
    return deliveries, wrong


def histories(wanted: int, first: int = 0) -> Iterator[tuple[int, int, list[str]]]:
    """Play until there are so many deliveries: seeds played, deliveries so far, what was wrong."""
    jobs = os.cpu_count() or 1
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        seeds = count(first, _BATCH)
        running = [pool.submit(play, next(seeds)) for _ in range(2 * jobs)]
        deliveries = done = 0
        while running:
            more, wrong = running.pop(0).result()
            deliveries += more
            done += _BATCH
            if deliveries < wanted:
                running.append(pool.submit(play, next(seeds)))
            yield done, deliveries, wrong


class HistoryTests(SynchronousTestCase):
    def test_a_hundred_thousand_deliveries(self) -> None:
        """Nobody gets anything twice, nobody misses what is owed, no container overflows."""
        deliveries = 0
        for _, deliveries, wrong in histories(100_000):  # noqa: B007
            self.assertEqual(wrong, [])
        self.assertGreaterEqual(deliveries, 100_000)


def main() -> int:
    parser = argparse.ArgumentParser(description="Play random histories.")
    parser.add_argument("--deliveries", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--from", type=int, default=0, metavar="SEED", dest="first")
    options = parser.parse_args()
    began, failed, done, deliveries = time.monotonic(), 0, 0, 0
    for done, deliveries, wrong in histories(options.deliveries, options.first):
        for text in wrong:
            print(text)
        failed += len(wrong)
        if sys.stderr.isatty():
            print(f"\r{deliveries} deliveries in {done} histories", end="", file=sys.stderr)
    print(
        f"{deliveries} deliveries in {done} histories, {failed} violations, "
        f"{time.monotonic() - began:.0f} s"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
