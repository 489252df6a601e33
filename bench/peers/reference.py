"""
py2p 0.6.757 itself, acknowledged, through its own public socket.

Sent as fast as it goes, py2p loses its connection: a read of 1,024 bytes that
leaves four of them is taken for a whole message, and what ``send`` cannot hand
to the kernel at once is cut off. So the sender keeps a small window of messages
outstanding, and each that arrives is acknowledged by a whisper
(``message.reply``), as a program that needs every message would do it. While a
window's frames fit into one read, neither fault can happen.

What was found to be its best, and is done here:

* Both ends work in py2p's ``message`` event, in its one thread.
* Every message is acknowledged, not every window: py2p leaves Nagle's algorithm
  on, and a second frame waits 40 ms for an answer that is not on its way.
* Messages are broadcasts, what ``send`` makes of them and ours sends too. Their
  cost grows with the number received in the last minute, since py2p rebuilds
  the set of their ids for each; the shorter the run, the kinder.

Run by an interpreter that has py2p and none of our dependencies.
"""

from __future__ import annotations

import importlib
import threading
import time
from typing import Any

from bench.worker import COUNTER, HOST, Worker, main, payload_tail

#: Seconds for the handshake to be seen at the sender.
_CONNECT_TIME = 10.0


def _make_socket() -> Any:
    return importlib.import_module("py2p.mesh").MeshSocket(HOST, 0)


def receive(worker: Worker) -> None:
    """Count messages, and acknowledge each."""
    sock = _make_socket()
    receipts, counters = worker.receipts, worker.receipts.counters

    def on_message(sock: Any) -> None:
        message = sock.recv()
        counters.append(message.packets[1][:8])
        received = len(counters)
        if received == worker.count:
            receipts.complete()
        message.reply(received)

    sock.on("message", on_message)
    worker.listening(sock.daemon.sock.getsockname()[1])
    worker.received()


def send(worker: Worker) -> None:
    """Keep a window of messages outstanding."""
    sock = _make_socket()
    sock.connect(*worker.address)
    patience = time.monotonic() + _CONNECT_TIME
    while not sock.routing_table:
        if time.monotonic() > patience:
            raise RuntimeError("py2p did not finish its handshake")
        time.sleep(0.01)

    tail, done = payload_tail(worker.size), threading.Event()
    sent = 0

    # The first window leaves from the main thread, the others from py2p's.
    sending = threading.Lock()

    def send_up_to(stop: int) -> None:
        nonlocal sent
        with sending:
            for number in range(sent, min(stop, worker.count)):
                sock.send(COUNTER.pack(number) + tail)
                sent = number + 1

    def on_message(sock: Any) -> None:
        acknowledged = sock.recv().packets[1]
        if acknowledged == worker.count:
            done.set()
        else:
            send_up_to(acknowledged + worker.window)

    def send_all() -> None:
        send_up_to(worker.window)
        done.wait()

    sock.on("message", on_message)
    worker.transfer(send_all)


if __name__ == "__main__":
    main(receive, send)
