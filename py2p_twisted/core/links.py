"""
The connections of a node: which are there, and which one stands for a peer.

::

    opened()        join()                leave()/forget()
    ---------> greeting ---------> the routing table ---------> gone
                    \\--> standby (for the one in the table, until that proves alive)
                                 \\--> draining (replaced, still read)

`replaces` is the rule for two connections between the same two nodes. Both ends apply it
to what both know, so both keep the same one. Source:
docs/protocol/wire.rst, "Two connections to one peer".
"""

from __future__ import annotations

from collections.abc import Iterator

from py2p_twisted.core import base58
from py2p_twisted.core.connection import Connection
from py2p_twisted.core.network import Address


def replaces(ours: bytes, theirs: bytes, new_is_ours: bool) -> bool:
    """
    Whether a second connection to a peer takes the place of the first.

    The connection dialled by the greater id stays, so both ends of a crossed dial keep
    the same one. When one node dialled both, the newer stays if that node has the greater
    id, else the older.

    :param ours: our node id.
    :param theirs: the peer's.
    :param new_is_ours: whether we dialled the second connection.
    """
    return _greater(ours, theirs) == new_is_ours


def _greater(one: bytes, other: bytes) -> bool:
    """
    Compare ids as the numbers they stand for.

    As text, a shorter one could sort last. An id that is no base 58 number, which only a
    foreign implementation could have, makes both ends compare the bytes; so do two ids that
    are one number (``1A`` and ``A``).
    """
    texts = (len(one), one) > (len(other), other)
    try:
        ours, theirs = base58.decode(one), base58.decode(other)
    except ValueError:
        return texts
    return ours > theirs or (ours == theirs and texts)


class Links:
    """
    All connections of one node.

    :ivar table: the routing table: one open connection for every peer id.
    :ivar open: the same connections as a tuple, rebuilt on change, for the data path.
    :ivar greeting: connections that have not introduced themselves, oldest first.
    """

    def __init__(self) -> None:
        self.table: dict[bytes, Connection] = {}
        self.open: tuple[Connection, ...] = ()
        self.greeting: dict[Connection, None] = {}
        self._others: dict[Connection, None] = {}

    def __iter__(self) -> Iterator[Connection]:
        """Every connection, in whatever state."""
        yield from tuple(self.greeting)
        yield from self.open
        yield from tuple(self._others)

    def __len__(self) -> int:
        return len(self.greeting) + len(self.table) + len(self._others)

    def add(self, link: Connection) -> None:
        """A transport has been connected."""
        self.greeting[link] = None

    def join(self, link: Connection) -> None:
        """Put a connection into the table; one that stood there goes aside."""
        old = self.table.get(link.id)
        if old is not None:
            self._others[old] = None
        self.greeting.pop(link, None)
        self._others.pop(link, None)
        self.table[link.id] = link
        self.open = tuple(self.table.values())

    def set_aside(self, link: Connection) -> None:
        """Keep a connection out of the table: it is draining, or on standby."""
        self.greeting.pop(link, None)
        self._take_out(link)
        self._others[link] = None

    def forget(self, link: Connection) -> bool:
        """
        A connection is gone.

        :return: whether it stood in the table.
        """
        self.greeting.pop(link, None)
        self._others.pop(link, None)
        return self._take_out(link)

    def _take_out(self, link: Connection) -> bool:
        if self.table.get(link.id) is not link:
            return False
        del self.table[link.id]
        self.open = tuple(self.table.values())
        return True

    def half_open(self) -> list[Connection]:
        """Incoming connections that have not introduced themselves, oldest first."""
        return [link for link in tuple(self.greeting) if not link.outgoing]

    def inbound(self) -> int:
        """Peers that dialled us."""
        return sum(not link.outgoing for link in self.open)

    def at(self, address: Address) -> Connection | None:
        """The open connection to the node that can be dialled, or was dialled, at an address."""
        for link in self.open:
            if link.address == address or (link.dial is not None and link.dial.address == address):
                return link
        return None
