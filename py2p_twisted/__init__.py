"""
Peer-to-peer messaging without a broker: every message to every participant.

==========================  ==========================================================
``py2p_twisted.mesh``        `mesh_socket`: for scripts; no reactor, Deferred or thread in sight
``py2p_twisted.base``        ``Protocol``, ``flags``, ``message``: what goes with it
``py2p_twisted.net``         `MeshService`, `MeshFactory`: for Twisted applications
``py2p_twisted.testing``     `MemoryMesh`: a whole mesh in memory, for tests
``py2p_twisted.errors``      everything that can go wrong
==========================  ==========================================================
"""

__version__ = "0.1.0"
