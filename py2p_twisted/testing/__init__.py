"""
A whole mesh in memory, for our tests and for yours.

`MemoryMesh` joins real nodes (`MeshService`, factories, protocols, TLS if you like) over
transports in memory, under one clock that stands still until you turn it. No ports, no
threads, no waiting: a test of an application of yours takes milliseconds and has the same
outcome every time.

>>> from py2p_twisted.testing import MemoryMesh
>>> mesh = MemoryMesh("ada", "ben", "cyd")
>>> mesh.link("ada", "ben")
>>> mesh.link("ben", "cyd")
>>> mesh["ada"].send("storm", "north")
>>> mesh.settle()
>>> mesh.inbox("cyd")
[('storm', 'north')]

Things go wrong on demand: `MemoryMesh.cut` breaks a link, `MemoryMesh.silence` lets one die
without a word, `MemoryMesh.stall` makes a node stop reading, `MemoryMesh.kill` ends it
without a goodbye, and `MemoryMesh.advance` lets time pass until the mesh has healed.

To test an application that takes a `MeshService`, give it ``mesh["ada"].service``.
"""

from py2p_twisted.testing.memory import MemoryNetwork, MemoryTransport
from py2p_twisted.testing.mesh import MemoryMesh, MemoryNode

__all__ = ["MemoryMesh", "MemoryNetwork", "MemoryNode", "MemoryTransport"]
