"""
The rules towards one peer.

What may be said to a peer, and in which form, depends on what it is. Every connection has
a policy and asks it for the form of what is sent. There are two: `PlainPolicy`, for nodes that
speak 0.6 and nothing more, as far as we know; and `ExtendedPolicy`, for those that have
announced mesh-ext.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from py2p_twisted.core import compression, flags
from py2p_twisted.core.message import Message


class Policy(Protocol):
    """What a connection asks about its peer."""

    #: For status and logs.
    name: str

    #: Over TLS the peer reads one record per wake-up (see `PlainPolicy.record`), so a
    #: write must not hold more than this many bytes, unless it is a single frame.
    #: ``None``: no such limit.
    record: int | None

    def negotiate(self, methods: Sequence[int]) -> None:
        """Take note of the compression methods that the peer understands."""

    def frame(self, message: Message) -> bytes:
        """The message as a whole frame for this peer."""

    def frames(self, messages: Sequence[Message], shared: bool = True) -> list[bytes]:
        """
        Several messages, each as a whole frame for this peer.

        :param shared: whether other peers will want the same.
        """


class PlainPolicy:
    """
    The rules towards nodes that speak 0.6 and no more.

    * Nothing but 0.6 is said to them, and renegotiation is never started.
    * Every frame has a multiple of eight bytes (see `compression`). Bodies that are
      aligned go in plain frames, others in stored streams, and large ones compressed
      where that gains anything.
    * Where the peer takes no codec of ours the frame is plain, and its length what it is.
    """

    name = "plain 0.6"

    #: They read at most 1,024 bytes of a TLS record and see the rest only when more bytes
    #: arrive. Source: docs/protocol/wire.rst, "TLS".
    record: int | None = 1024

    __slots__ = ("_method",)

    def __init__(self) -> None:
        self._method: int | None = None

    @property
    def method(self) -> int | None:
        """The codec in use towards this peer, ``None`` for plain frames."""
        return self._method

    def negotiate(self, methods: Sequence[int]) -> None:
        """
        Choose the first of our methods that the peer listed.

        :param methods: from its handshake, or from a renegotiation it started.
        """
        self._method = compression.choose(compression.METHODS, methods)

    def frame(self, message: Message) -> bytes:
        """
        The message as a whole frame, made once for all peers that take the same codec.

        May be called from any thread.
        """
        method = self._method
        frames = message.frames
        if frames is None:
            frames = message.frames = {}
        frame = frames.get(method)
        if frame is None:
            frame = frames[method] = wrap(message, method)
        return frame

    def frames(self, messages: Sequence[Message], shared: bool = True) -> list[bytes]:
        """Several messages as `frame` makes them, kept only if others want the same."""
        method = self._method
        made: list[bytes] = []
        for message in messages:
            known = message.frames
            if known is not None:
                frame = known.get(method) or self.frame(message)
            else:
                frame = wrap(message, method)
                if shared:
                    message.frames = {method: frame}
            made.append(frame)
        return made


class ExtendedPolicy(PlainPolicy):
    """
    The rules towards nodes that speak mesh-ext.

    Their reassembly needs no help, so frames may have any length: what came in one form goes
    on in it, and the rest in plain frames unless compressing gains something.
    """

    name = "mesh-ext 1"
    record: int | None = None

    __slots__ = ()

    def frame(self, message: Message) -> bytes:
        """The message as a whole frame, made once for all extended peers."""
        frames = message.frames
        if frames is None:
            frames = message.frames = {}
        method = self._method
        frame = frames.get(method) or frames.get(None)
        if frame is None:
            body = message.body
            if len(body) < compression.WORTH_COMPRESSING or not compression.shrinks(body):
                frame = frames[None] = compression.wrap_plain(message.id, body)
            else:
                frame = frames[method] = wrap(message, method)
        return frame

    def frames(self, messages: Sequence[Message], shared: bool = True) -> list[bytes]:
        """Several messages as `frame` makes them."""
        made: list[bytes] = []
        method = self._method
        for message in messages:
            known = message.frames
            made.append((known and (known.get(method) or known.get(None))) or self.frame(message))
        return made


def wrap(message: Message, method: int | None) -> bytes:
    """Wrap checksum and body into a frame, with the codec if that is of use."""
    body = message.body
    size = len(body)
    if method is None:
        return compression.wrap_plain(message.id, body)
    if size < compression.WORTH_COMPRESSING or not compression.shrinks(body):
        if not (size + compression.FRAME_HEAD) % compression.GRID:
            return compression.wrap_plain(message.id, body)
        if method == flags.ZLIB:
            return compression.wrap_stored(message.id, body)
    if method == flags.ZLIB:
        # Level 1: three times as fast as the default, a few percent larger.
        return compression.wrap_compressed(compression.compress(message.content, method, level=1))
    return compression.wrap_compressed(compression.compress(message.content, method), method)
