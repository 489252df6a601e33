"""
Everything that can go wrong, in one tree.

::

    MeshError
    +-- LocalError            the caller asked for something impossible
    |   +-- NotSendable         (TypeError)    a packet that the wire cannot carry
    |   +-- MessageTooLarge     (ValueError)   more than max_message bytes
    |   +-- BadArgument         (ValueError)   any other unusable argument
    |   +-- CannotStart         a node as a process cannot do what it was set up for
    |   +-- StateUnusable       (OSError)      the state directory cannot be used
    |   +-- MeshClosed          (RuntimeError) the socket or service is closed
    |   +-- WouldBlock          (BlockingIOError) no room, and no time to wait for it
    |   +-- BlockingInReactor   (RuntimeError) a waiting call in the reactor's thread
    +-- RemoteError           a peer broke the protocol
    |   +-- LinkError           costs that peer its link
    |   +-- ContentError        costs that one message
    +-- Unreachable           a peer could not be reached, nobody broke a rule

A local error is raised right where the mistake is, and is also the built-in type that
the documents promise. A remote error never reaches code that did not ask about that
very peer: it becomes a counter, a log line, and the failure of a pending ``connect``.

``reason`` is a short, stable word for counters and logs; the text is for people.

Source of the split into link and content errors: docs/design.rst, "Bad input".
"""

from __future__ import annotations


class MeshError(Exception):
    """The root of this package's exceptions."""

    #: A short stable word, for counters and structured logs.
    reason = "error"


# --- the caller's mistakes ---------------------------------------------------------


class LocalError(MeshError):
    """The caller asked for something that cannot be done."""

    reason = "local"


class NotSendable(LocalError, TypeError):
    """A packet holds a value that the wire format has no encoding for."""

    reason = "not sendable"


class MessageTooLarge(LocalError, ValueError):
    """A message is larger than this node's ``max_message``."""

    reason = "message too large"

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"the message takes up to {size} bytes on the wire, the limit (max_message) is {limit}"
        )
        self.size, self.limit = size, limit


class BadArgument(LocalError, ValueError):
    """An argument that no node could work with."""

    reason = "bad argument"


class CannotStart(LocalError):
    """
    A node that is a process of its own cannot start; the text is one line with the remedy.

    ``twistd`` shows the first 100 bytes of it, this name included, when it has gone to
    the background.
    """

    reason = "cannot start"


class StateUnusable(LocalError, OSError):
    """A node's state directory cannot be used; the text is one line that says what to do."""

    reason = "state unusable"


class MeshClosed(LocalError, RuntimeError):
    """The socket or service has been closed, or its reactor has ended."""

    reason = "closed"


class WouldBlock(LocalError, BlockingIOError):
    """The call would have to wait longer than the caller allows."""

    reason = "would block"


class BlockingInReactor(LocalError, RuntimeError):
    """A call that waits was made in the reactor's own thread, where it would wait for ever."""

    reason = "blocking call in the reactor thread"


# --- what peers do -----------------------------------------------------------------


class RemoteError(MeshError):
    """A peer broke the protocol."""

    reason = "remote"


class LinkError(RemoteError):
    """The stream or the conversation cannot go on: the link is closed."""

    reason = "link error"


class FrameTooLarge(LinkError):
    """A peer announced a frame larger than this node accepts."""

    reason = "frame too large"

    def __init__(self, size: int, limit: int, hint: str = "") -> None:
        super().__init__(f"peer announced a frame of {size} bytes, this node accepts {limit}{hint}")
        self.size, self.limit = size, limit


class FrameTooSmall(LinkError):
    """A peer announced a frame that cannot even hold a checksum."""

    reason = "frame too small"

    def __init__(self, size: int) -> None:
        super().__init__(f"peer announced a frame of {size} bytes, a checksum alone takes 32")
        self.size = size


class ChecksumMismatch(LinkError):
    """A frame's SHA-256 does not fit its bytes: the stream cannot be trusted any more."""

    reason = "checksum"

    def __init__(self) -> None:
        super().__init__("a frame's checksum does not fit its content")


class BadCompression(LinkError):
    """A compressed frame is damaged, or inflates beyond the size limit."""

    reason = "compression"


class MalformedMessage(LinkError):
    """A frame whose content is not a message at all; no honest node passes such a thing on."""

    reason = "malformed"


class IllegalInState(LinkError):
    """A message that has no row in the connection's state table."""

    reason = "illegal in this state"


class HandshakeError(LinkError):
    """A handshake that cannot be understood."""

    reason = "handshake"


class IdentityChanged(LinkError):
    """A second handshake on one connection named another id."""

    reason = "identity changed"

    def __init__(self, was: bytes, now: bytes) -> None:
        super().__init__(f"peer introduced itself as {was!r} and then as {now!r}")
        self.was, self.now = was, now


class WrongPeer(LinkError):
    """The node that answered is not the one that the address was said to belong to."""

    reason = "wrong peer"

    def __init__(self, expected: bytes, found: bytes) -> None:
        super().__init__(f"expected peer {expected!r}, found {found!r}")
        self.expected, self.found = expected, found


class NetworkMismatch(LinkError):
    """
    The peer belongs to another network: its ``Protocol`` (name or encryption) differs.

    :ivar theirs: the peer's protocol id, as it sent it.
    :ivar ours: this node's protocol id.
    """

    reason = "network mismatch"

    def __init__(self, theirs: str, ours: str) -> None:
        super().__init__(
            # A peer may call its network whatever it likes.
            f"peer belongs to network {ascii(theirs)[1:-1]}, this node to {ours}: "
            "both ends need the same Protocol(name, encryption)"
        )
        self.theirs, self.ours = theirs, ours


class SelfConnection(LinkError):
    """The address leads back to this very node."""

    reason = "self connection"

    def __init__(self) -> None:
        super().__init__("the address leads to this node itself")


class SameId(LinkError):
    """Another node, somewhere else, has this node's id: a state directory was copied."""

    reason = "same id"

    def __init__(self, where: str) -> None:
        super().__init__(
            f"a node at {where} has the id of this one: one of both runs with a copy of the other's "
            "state directory; stop it, delete 'identity' in the copy, and start it again"
        )


class DuplicateConnection(LinkError):
    """A second connection to a peer that is already connected; the other one stays."""

    reason = "duplicate connection"

    def __init__(self) -> None:
        super().__init__("this peer is already connected, the other connection stays")


class HandshakeTimeout(LinkError):
    """A peer did not introduce itself in time."""

    reason = "handshake timeout"

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"no handshake within {seconds:g} s: is it a py2p node, and does it use the same encryption?"
        )


class FrameTimeout(LinkError):
    """A peer started a frame and does not get on with it."""

    reason = "frame timeout"


class PeerTooSlow(LinkError):
    """A peer does not read what it is sent; its queue is full or stuck."""

    reason = "peer too slow"


class TooManyPeers(LinkError):
    """The node has as many peers as it accepts."""

    reason = "too many peers"

    def __init__(self, limit: int) -> None:
        super().__init__(f"this node accepts {limit} incoming peers and has them")


class Disconnected(LinkError):
    """The application of one of the ends wants no link between these two nodes."""

    reason = "disconnected"

    def __init__(self) -> None:
        super().__init__("this node has disconnected that peer")


class TooManyContentErrors(LinkError):
    """A neighbour brings more broken messages than an honest one would."""

    reason = "too many content errors"


class RenegotiationLoop(LinkError):
    """A peer renegotiates compression without end."""

    reason = "renegotiation loop"


class LinkUnresponsive(LinkError):
    """A link stayed silent although its peer was asked for a sign of life."""

    reason = "unresponsive"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no sign of life within {seconds:g} s after being asked for one")


class BadExtension(LinkError):
    """A mesh-ext frame that no node that has announced the extension would send."""

    reason = "extension"


class ViewFull(LinkError):
    """One of the ends of a link has as many neighbours as it keeps, and this one is not among them."""

    reason = "view full"

    def __init__(self, text: str = "the active view is full, and others are in it") -> None:
        super().__init__(text)


class ProbeEnded(LinkError):
    """A link that was made to compare what both ends have has served its purpose."""

    reason = "probe ended"

    def __init__(self) -> None:
        super().__init__("what both ends have has been compared; no link is needed")


class TransportFailed(LinkError):
    """The transport below a link failed: TLS refused, connection reset, and the like."""

    reason = "transport"


class ContentError(RemoteError):
    """One message is unusable; its link goes on, because honest neighbours relay what they do not check."""

    reason = "content error"

    #: The id of the message, when its checksum was right.
    message_id = b""


class BadText(ContentError):
    """A text in a message is not UTF-8."""

    reason = "bad text"


class TooManyElements(ContentError):
    """A message nests more elements than this node is willing to build."""

    reason = "too many elements"


class TooDeep(ContentError):
    """A message is nested more deeply than this node is willing to follow."""

    reason = "too deep"


class BadField(ContentError):
    """A field of a message has a type or value that the protocol does not know."""

    reason = "bad field"


class StaleMessage(ContentError):
    """A broadcast's time stamp is too far from the network's time."""

    reason = "stale"


# --- what simply fails ---------------------------------------------------------------


class Unreachable(MeshError):
    """A peer could not be reached, and nobody broke a rule."""

    reason = "unreachable"


class ClosedByPeer(Unreachable):
    """A peer has closed the connection in good order."""

    reason = "closed by peer"

    def __init__(self) -> None:
        super().__init__("the peer closed the connection")


class ConnectTimeout(Unreachable, TimeoutError):
    """An address did not answer in time."""

    reason = "connect timeout"


class ReplyFailed(Unreachable):
    """A reply could not be brought to the sender it was for."""

    reason = "reply failed"
