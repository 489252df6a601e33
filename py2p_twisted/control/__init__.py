"""
Talking with a node that runs: who may, and in what words.

::

    py2p status --.                             .-- the node's own application
    py2p send  ---+-- a socket -- ControlService --- MeshService -- the network
    py2p listen --'                             '-- (a tap on what it is told)

============  ====================================================================
``places``    where the socket is: a file with mode 0600, or a loopback port and a token
``lines``     one JSON object a line: taking them apart, and what they may hold
``words``     what can be asked of a node, and what is done then
``events``    what a node tells those who listen
``server``    `ControlService`: the socket of a `MeshService`
``client``    `ControlClient`: the other end, with Deferreds
============  ====================================================================

Source of the protocol: docs/reference/control.rst. Whoever may open the socket may do
whatever the node's owner may; but nothing that is written to it, and no client that does not
read, costs the node more than that client.
"""

from py2p_twisted.control.client import ControlClient, reach
from py2p_twisted.control.lines import ControlError
from py2p_twisted.control.places import OFF, Place, TcpPlace, UnixPlace, place
from py2p_twisted.control.server import ControlService

__all__ = [
    "OFF",
    "ControlClient",
    "ControlError",
    "ControlService",
    "Place",
    "TcpPlace",
    "UnixPlace",
    "place",
    "reach",
]
