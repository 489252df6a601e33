"""
Extended neighbours for tests of single mechanisms: links without bytes, and what is said on them.

`Neighbour` is what the mechanisms of mesh-ext see of a connection; `Said` takes the place of
``send`` and keeps the frames, ids read.
"""

from py2p_twisted.core.connection import State
from py2p_twisted.core.extended import Extended
from py2p_twisted.core.extension import Kind, read_ids
from py2p_twisted.core.message import build
from py2p_twisted.core.seen import SHORT
from tests.core.support import START, WALL


class Neighbour:
    """An extended link, active and open."""

    def __init__(self, ident=b"Ada", *, active=True, now=START):
        self.id = ident
        self.ext = Extended(1, 0, now)
        self.ext.active = active
        self.state = State.OPEN
        self.congested = False
        self.heard = now
        self.waiting = 0

    def __repr__(self):
        return f"<Neighbour {self.id.decode()}>"


class Links:
    """The links of a node, as far as trees look at them."""

    def __init__(self, *links):
        self.open = links

    @property
    def table(self):
        return {link.id: link for link in self.open}


class Said:
    """
    What a mechanism has said to whom.

    :ivar frames: (link, kind, fields), with fields of ids as lists of ids.
    """

    def __init__(self):
        self.frames = []

    def __call__(self, link, kind, *fields):
        if kind in (Kind.IHAVE, Kind.GRAFT, Kind.DIGEST_IDS, Kind.NOT_HELD):
            fields = (read_ids(fields[0]), *fields[1:])
        self.frames.append((link, kind, fields))

    def to(self, link, kind):
        """The fields of the frames of a kind to a link."""
        return [fields for other, what, fields in self.frames if other is link and what == kind]

    def ids(self, link, kind):
        """All ids in frames of a kind to a link."""
        return [ident for fields in self.to(link, kind) for ident in fields[0]]

    def clear(self):
        self.frames.clear()


def message(number=0, origin=b"Origin", size=0):
    """A broadcast; of its own for every number."""
    return build(0, origin, WALL, (0, number, "x" * size))


def short(number):
    """A short id."""
    return b"%016d" % number


def short_of(one):
    """The short id of a message."""
    return one.id[:SHORT]
