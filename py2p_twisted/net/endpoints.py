"""
From addresses to endpoints, plain and TLS.

IPv4 TLS goes through ``SSL4ServerEndpoint`` and ``SSL4ClientEndpoint``; for everything else
(IPv6, host names, endpoint strings) a plain endpoint is wrapped.
"""

from __future__ import annotations

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.endpoints import (
    HostnameEndpoint,
    SSL4ClientEndpoint,
    SSL4ServerEndpoint,
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    TCP6ClientEndpoint,
    TCP6ServerEndpoint,
    serverFromString,
    wrapClientTLS,
    wrapServerTLS,
)
from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint

from py2p_twisted.core.network import Address
from py2p_twisted.net.tls import Credentials

#: Connections that the kernel holds for us until we accept them.
BACKLOG = 128


def client_endpoint(
    reactor: object, address: Address, credentials: Credentials | None, timeout: float
) -> IStreamClientEndpoint:
    """
    The endpoint behind an address that a person typed or a peer announced.

    :param timeout: seconds for the transport to be connected.
    """
    host, port = address
    if isIPAddress(host):
        if credentials is not None:
            return SSL4ClientEndpoint(reactor, host, port, credentials.client(), timeout=timeout)
        return TCP4ClientEndpoint(reactor, host, port, timeout=timeout)
    plain: IStreamClientEndpoint
    if isIPv6Address(host):
        plain = TCP6ClientEndpoint(reactor, host, port, timeout=timeout)
    else:
        plain = HostnameEndpoint(reactor, host, port, timeout=timeout)
    return plain if credentials is None else wrapClientTLS(credentials.client(), plain)


def server_endpoint(
    reactor: object, host: str, port: int, credentials: Credentials | None
) -> IStreamServerEndpoint:
    """The endpoint that listens on an interface (an address, or a name of one) and a port."""
    if isIPv6Address(host):
        plain = TCP6ServerEndpoint(reactor, port, backlog=BACKLOG, interface=host)
        return plain if credentials is None else wrapServerTLS(credentials.server(), plain)
    if credentials is not None:
        return SSL4ServerEndpoint(
            reactor, port, credentials.server(), backlog=BACKLOG, interface=host
        )
    return TCP4ServerEndpoint(reactor, port, backlog=BACKLOG, interface=host)


def server_from_description(
    reactor: object, description: str, credentials: Credentials | None
) -> IStreamServerEndpoint:
    """
    The endpoint of an endpoint string, such as ``tcp:4444:interface=127.0.0.1``.

    Over TLS, ``tcp:`` strings are wrapped; ``ssl:`` strings bring their own certificates
    and are taken as they are.
    """
    endpoint: IStreamServerEndpoint = serverFromString(reactor, description)
    if credentials is None or description.startswith("ssl:"):
        return endpoint
    wrapped: IStreamServerEndpoint = wrapServerTLS(credentials.server(), endpoint)
    return wrapped
