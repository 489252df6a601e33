"""
The core on Twisted: transports, endpoints, timers, TLS, and a service.

===============  ================================================================
``service``      `MeshService`: a node as an ``IService``, with Deferreds
``factory``      `MeshFactory`: owns the core node and so the routing table
``protocol``     `MeshProtocol`: one connection
``flow``         queues between the application, the node and its transports
``endpoints``    from addresses and names to endpoints, plain and TLS
``discovery``    nodes that find each other in the local network
``interfaces``   which interfaces this machine has
``tls``          where certificates come from
``status``       what a node says of itself
``plainjson``    packets as JSON and back
``reports``      log lines, at most one a minute for the same thing
===============  ================================================================

Everything here runs in the reactor's thread. No module imports the reactor: it is handed
to the constructors.
"""

from py2p_twisted.core.receipts import Receipt
from py2p_twisted.core.survey import Member, Survey
from py2p_twisted.core.ticket import Ticket
from py2p_twisted.net.discovery import Discovery
from py2p_twisted.net.factory import Application, MeshFactory
from py2p_twisted.net.protocol import MeshProtocol
from py2p_twisted.net.service import Delivery, MeshService

__all__ = [
    "Application",
    "Delivery",
    "Discovery",
    "Member",
    "MeshFactory",
    "MeshProtocol",
    "MeshService",
    "Receipt",
    "Survey",
    "Ticket",
]
