"""
The half of the benchmark that runs inside a measured process.

A worker is told what to do by its arguments and by words on its standard
input, and answers with one JSON object a line on its standard output::

    runner                 receiver                      sender
      | <---- ready, port ----+                             |
      | <---- ready ------------ (connected to port) -------+
      +------ go ------------>|  starts its CPU clock       |
      | <---- started --------+                             |
      +------ go ------------------------------------------>|  starts its clocks
      | <---- progress ...----+  <===== messages ========   |
      | <---- sent -----------------------------------------+
      | <---- result ---------+  last receipt: clocks stop  |
      +------ finish -------------------------------------->|  CPU clock stops
      | <---- result ---------------------------------------+

The sender's CPU clock runs on until the receiver has everything, because what
``send`` only queued is flushed after the last call returned. Both clocks count
the whole process, user and system, all threads (``resource.getrusage``). Wall
time runs from the sender's first ``send`` to the receiver's last receipt, on
``time.monotonic``, which the processes of one machine share.

What the benchmark itself adds to each message is the same for all: the sender
joins a counter and a constant tail, the receiver keeps the counter. Whether
every counter arrived is looked up after the clocks have stopped.

Only the standard library is used here: py2p's interpreter runs this as well.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import queue
import random
import resource
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

HOST = "127.0.0.1"

#: Every run of every case sends these very bytes.
SEED = 20160907

#: The first bytes of a payload: its number, by which a receipt is recognised.
COUNTER = struct.Struct("!Q")

#: Seconds between two progress lines. They are the only work a worker does
#: beside the transfer, and the same for all cases.
PROGRESS_INTERVAL = 0.5


def cpu_seconds() -> float:
    """Tell the processor time this process has used, all threads together."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def payload_tail(size: int) -> bytes:
    """
    Make what follows the counter in each payload of ``size`` bytes.

    Pseudo-random, so that compressing a message gains nothing (py2p compresses
    whatever it sends), and from a fixed seed, so that all cases carry the same.
    """
    return random.Random(SEED).randbytes(size - COUNTER.size)


class Receipts:
    """
    What the receiver got, and when the last of it came.

    ``counters`` is filled directly, one ``append`` a message, by whatever
    thread receives; :meth:`complete` is called by the same thread once as many
    as expected are in it.
    """

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.counters: list[bytes] = []
        self.settled = threading.Event()
        self._cpu_before = 0.0
        self._cpu = 0.0
        self._ended = 0.0

    def start(self) -> None:
        """Start the CPU clock; no message is under way yet."""
        self._cpu_before = cpu_seconds()

    def complete(self) -> None:
        """Stop the clocks: the last message is here."""
        self._ended = time.monotonic()
        self._cpu = cpu_seconds() - self._cpu_before
        self.settled.set()

    def summary(self) -> dict[str, Any]:
        """Count what arrived, and each number once for the coverage."""
        expected = {COUNTER.pack(number) for number in range(self.expected)}
        return {
            "received": len(self.counters),
            "distinct": len(expected.intersection(self.counters)),
            "ended": self._ended,
            "cpu": self._cpu,
        }


class Worker:
    """
    One end of a transfer: its task, and its conversation with the runner.

    :ivar count: messages to send, or to wait for.
    :ivar size: bytes of payload in each.
    :ivar address: where the sender finds the receiver.
    :ivar window: how many messages may be unacknowledged, for cases that
        acknowledge.
    :ivar receipts: what a receiver got.
    :ivar stopping: set when the runner gives up on a transfer that stands.
    """

    def __init__(self, task: argparse.Namespace) -> None:
        self.count: int = task.count
        self.size: int = task.size
        self.address: tuple[str, int] = (HOST, task.port)
        self.window: int = task.window
        self.stopping = threading.Event()
        self.receipts = Receipts(task.count)
        self._words: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._saying = threading.Lock()
        # A library may print (py2p does): nothing but our own lines may get
        # into the conversation, so prints go where diagnostics go.
        self._output = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        threading.Thread(target=self._listen, daemon=True).start()

    # The conversation

    def say(self, what: str, **facts: Any) -> None:
        """Tell the runner something."""
        with self._saying:
            self._output.write(json.dumps({"say": what, **facts}) + "\n")
            self._output.flush()

    def hear(self, word: str) -> None:
        """Wait for a word of the runner."""
        heard = self._words.get()
        if heard != word:
            raise RuntimeError(f"expected {word!r} from the runner, heard {heard!r}")

    def _listen(self) -> None:
        for line in sys.stdin:
            if line.strip() == "stop":
                self.stopping.set()
                self.receipts.settled.set()
            else:
                self._words.put(line.strip())
        # The runner closed the pipe, on purpose or by dying: either way no one
        # is left to measure for, and a transfer must not outlive its runner.
        os._exit(0)

    # A receiver's part

    def listening(self, port: int) -> None:
        """Announce the port, wait for the start, and let counting begin."""
        self.say("ready", port=port)
        self.hear("go")
        self.receipts.start()
        threading.Thread(target=self._report_progress, daemon=True).start()
        self.say("started")

    def _report_progress(self) -> None:
        while not self.receipts.settled.wait(PROGRESS_INTERVAL):
            self.say("progress", messages=len(self.receipts.counters))

    def received(self) -> None:
        """Wait for the last receipt, or for the runner's patience to end."""
        self.receipts.settled.wait()
        self.say("result", **self.receipts.summary())

    # A sender's part

    def transfer(self, send_all: Callable[[], None]) -> None:
        """Run ``send_all`` between the clocks, once the runner says so."""
        self.say("ready")
        self.hear("go")
        cpu_before = cpu_seconds()
        started = time.monotonic()
        send_all()
        self.say("sent")
        self.hear("finish")
        self.say("result", started=started, cpu=cpu_seconds() - cpu_before)


def main(receive: Callable[[Worker], None], send: Callable[[Worker], None]) -> None:
    """Play the role that the command line names, then stay until dismissed."""
    parser = argparse.ArgumentParser(description="one end of a measured pair")
    parser.add_argument("role", choices=["receive", "send"])
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--window", type=int, default=1)
    parser.add_argument("--limit", type=float, required=True, help="seconds to live")
    task = parser.parse_args()
    # Whatever hangs, this process ends by itself and says where it stood.
    faulthandler.dump_traceback_later(task.limit, exit=True)
    worker = Worker(task)
    try:
        (receive if task.role == "receive" else send)(worker)
    except Exception as error:
        traceback.print_exc()
        worker.say("failed", why=f"{type(error).__name__}: {error}")
    threading.Event().wait()
