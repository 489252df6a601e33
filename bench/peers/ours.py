"""
py2p_twisted through its public socket, as a script would use it.

Nothing is tuned and nothing private is touched: a socket of its own in each
process, ``connect``, ``send`` in the main thread, ``recv`` in the main thread,
the reactor in the thread that the library keeps for it. What is measured is all
that stands between two applications: checks of what may be sent, encoding, the
hand-over between threads, the wire, the look-up of ids, the message object,
the receive queue.
"""

from __future__ import annotations

from bench.worker import COUNTER, HOST, Worker, main, payload_tail
from py2p_twisted import mesh

#: Seconds for connection and handshake.
_CONNECT_TIME = 10.0

#: Messages taken from the queue in one call.
_BATCH = 1_000

#: Seconds to sleep in ``recv`` before looking whether the runner has given up.
_NAP = 0.5


def receive(worker: Worker) -> None:
    """Take messages in batches, and wait for one where there are none."""
    sock = mesh.mesh_socket(HOST, 0)
    receipts, counters = worker.receipts, worker.receipts.counters
    worker.listening(sock.out_addr[1])
    while len(counters) < worker.count and not worker.stopping.is_set():
        message = sock.recv(timeout=_NAP)
        if message is None:
            continue
        counters.append(message.packets[1][:8])
        for message in sock.recv(_BATCH):
            counters.append(message.packets[1][:8])
    if len(counters) >= worker.count:
        receipts.complete()
    worker.received()


def send(worker: Worker) -> None:
    """Send everything; the socket's back-pressure keeps the pace."""
    sock = mesh.mesh_socket(HOST, 0)
    sock.connect(*worker.address).wait(_CONNECT_TIME)
    send_one, number_of, tail = sock.send, COUNTER.pack, payload_tail(worker.size)

    def send_all() -> None:
        for number in range(worker.count):
            send_one(number_of(number) + tail)

    worker.transfer(send_all)


if __name__ == "__main__":
    main(receive, send)
