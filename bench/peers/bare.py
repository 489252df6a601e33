"""
The ceiling: bare Twisted protocols that speak the project's frame.

::

    4 bytes    big-endian length of what follows
    32 bytes   SHA-256 of the body
    body       MessagePack array [0, sender id, unix time, 0, payload]

Measured is the least work the frame asks for. The sender reads the clock,
packs, hashes and frames each message, joins what fits into a turn of the
reactor into one write, and lets the transport pause it. The receiver cuts the
stream by offsets, checks every hash, decodes every body and keeps the payload's
counter. A message is one call at each end: ``send`` and ``received``, as the
parts of any protocol and its application are. There is no handshake, no look-up
of ids, no message object, no thread between reactor and application: a library
adds all of these, so none can reach this figure; how near it comes is the
measure.

It uses what was found fastest in plain CPython with Twisted: C msgpack with a
packer kept, slices for small bodies and views for large ones, and no attribute
look-up inside the loops.
"""

from __future__ import annotations

import struct
import threading
from hashlib import sha256
from time import time
from typing import Any

from msgpack import Packer, unpackb
from twisted.internet import reactor as installed_reactor
from twisted.internet.interfaces import IConnector, IPushProducer
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from bench.worker import COUNTER, HOST, Receipts, Worker, main, payload_tail

# Which interfaces the installed reactor provides is known when it runs only.
reactor: Any = installed_reactor

_SIZE = struct.Struct("!I")

_DIGEST_SIZE = 32

#: A sender's id has 65 or 66 characters of base 58.
_SENDER = b"9" * 66

#: Bytes per joined write. Twisted reads at most as much at a time; larger
#: writes were measured to gain nothing and to cost cache misses.
_TURN = 64 * 1024

#: From this size on, a view of a body is cheaper than a copy.
_LARGE_BODY = 16 * 1024


class Receiver(Protocol):
    """Cut, check, decode and count."""

    def __init__(self, receipts: Receipts) -> None:
        self._receipts = receipts
        self._chunks: list[bytes] = []
        self._gathered = 0
        self._needed = 0

    def dataReceived(self, data: bytes) -> None:
        """Take in one read, however it cuts the frames."""
        if self._chunks:
            # Frames larger than a read are joined once, when they are whole.
            self._chunks.append(data)
            self._gathered += len(data)
            if self._gathered < self._needed:
                return
            data = b"".join(self._chunks)
        counters = self._receipts.counters
        size_at, digest_of, decode = _SIZE.unpack_from, sha256, unpackb
        received = self.received
        view: memoryview | None = None
        start, end = 0, len(data)
        needed = _SIZE.size
        while end - start >= _SIZE.size:
            body_at = start + _SIZE.size + _DIGEST_SIZE
            frame_end = start + _SIZE.size + size_at(data, start)[0]
            if frame_end > end:
                needed = frame_end - start
                break
            body: bytes | memoryview
            if frame_end - body_at < _LARGE_BODY:
                body = data[body_at:frame_end]
            else:
                view = view or memoryview(data)
                body = view[body_at:frame_end]
            if digest_of(body).digest() != data[start + _SIZE.size : body_at]:
                raise ValueError("a frame does not match its checksum")
            received(decode(body))
            start = frame_end
        if start < end:
            self._chunks = [data[start:]]
            self._gathered, self._needed = end - start, needed
        else:
            self._chunks = []
        if len(counters) >= self._receipts.expected:
            self._receipts.complete()

    def received(self, items: list[Any]) -> None:
        """Keep the counter of one message."""
        self._receipts.counters.append(items[4][:8])


@implementer(IPushProducer)
class Sender(Protocol):
    """Encode and write until the transport asks for a pause."""

    # A TCP transport is the consumer of its producer too; no one interface
    # of Twisted's says both.
    transport: Any

    def __init__(self, size: int, count: int) -> None:
        self.connected_or_failed = threading.Event()
        self.done = threading.Event()
        self._tail = payload_tail(size)
        self._count = count
        self._next = 0
        self._per_turn = max(1, _TURN // (size + 128))
        self._paused = False
        self._pack = Packer(autoreset=True).pack
        self._parts: list[bytes] = []

    def send(self, payload: bytes) -> None:
        """Frame one message; it is written with its turn."""
        body = self._pack((0, _SENDER, int(time()), 0, payload))
        self._parts += (_SIZE.pack(_DIGEST_SIZE + len(body)), sha256(body).digest(), body)

    def connectionMade(self) -> None:
        """Tell the thread that waits."""
        self.connected_or_failed.set()

    def start(self) -> None:
        """Begin; the transport keeps the pace from here on."""
        self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)
        self.resumeProducing()

    def pauseProducing(self) -> None:
        """Stop after this write: the transport has enough."""
        self._paused = True

    def stopProducing(self) -> None:
        """Stop for good: the connection is gone."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Write turn after turn until paused, or until all is sent."""
        self._paused = False
        send, number_of, tail = self.send, COUNTER.pack, self._tail
        while not self._paused and self._next < self._count:
            stop = min(self._next + self._per_turn, self._count)
            for number in range(self._next, stop):
                send(number_of(number) + tail)
            self._next = stop
            self.transport.write(b"".join(self._parts))
            self._parts.clear()
        if self._next == self._count and not self.done.is_set():
            self.transport.unregisterProducer()
            self.done.set()


class _Receiving(Factory):
    """Let the one receiver take the one connection."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def buildProtocol(self, addr: object) -> Receiver:
        """Hand out the receiver."""
        return self._receiver


class _Sending(ClientFactory):
    """Make the one connection, and remember why it failed."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self.failure: Failure | None = None

    def buildProtocol(self, addr: object) -> Sender:
        """Hand out the sender."""
        return self._sender

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """Let the thread that waits for a connection see why there is none."""
        self.failure = reason
        self._sender.connected_or_failed.set()


def _run_reactor() -> None:
    """Run the reactor beside the conversation with the runner."""
    threading.Thread(target=reactor.run, args=(False,), daemon=True).start()


def receive(worker: Worker) -> None:
    """Accept one connection and count what comes over it."""
    factory = _Receiving(Receiver(worker.receipts))
    port = reactor.listenTCP(0, factory, interface=HOST)
    _run_reactor()
    worker.listening(port.getHost().port)
    worker.received()


def send(worker: Worker) -> None:
    """Connect and send everything."""
    sender = Sender(worker.size, worker.count)
    factory = _Sending(sender)
    reactor.connectTCP(*worker.address, factory)
    _run_reactor()
    sender.connected_or_failed.wait()
    if factory.failure is not None:
        factory.failure.raiseException()

    def send_all() -> None:
        reactor.callFromThread(sender.start)
        sender.done.wait()

    worker.transfer(send_all)


if __name__ == "__main__":
    main(receive, send)
