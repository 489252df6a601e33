"""
From addresses to endpoints, plain and TLS.

IPv4 TLS goes through ``SSL4ServerEndpoint`` and ``SSL4ClientEndpoint``; for everything else
(IPv6, host names, endpoint strings) a plain endpoint is wrapped.

A name is resolved anew whenever it is dialled, since those behind it come and go, and may have
several addresses (a headless service of Kubernetes, round-robin DNS)::

    mesh.example -> 10.0.0.5   this node itself: left out
                    10.0.0.6   tried, 0.3 s later the next one, ...; the first to answer is taken
                    10.0.0.7   and all of them are told to the address book
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, fail
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
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IProtocol,
    IProtocolFactory,
    IReactorPluggableNameResolver,
    IResolutionReceiver,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from py2p_twisted.core.network import Address
from py2p_twisted.errors import SelfConnection
from py2p_twisted.net.tls import Credentials, Expecting, Renewable

#: Connections that the kernel holds for us until we accept them.
BACKLOG = 128

#: Addresses of one name that are used: as many as one source may have in the address book.
MOST_ADDRESSES = 64

#: The same of a name that only others have named, who may have put strangers' addresses behind it.
MOST_OF_OTHERS = 4


class Names:
    """
    What somebody who dials names knows, and wants to know, of their addresses.

    By default nothing, as with `client_endpoint` of old.
    """

    def is_ours(self, address: Address) -> bool:
        """Whether an address leads to this very node, so that it is not to be dialled."""
        return False

    def is_wanted(self, name: Address) -> bool:
        """Whether a person has given a name, so that it may lead anywhere."""
        return True

    def acceptable(self, address: Address) -> bool:
        """Whether a name that others have given may lead to an address."""
        return True

    def found(self, name: Address, addresses: Sequence[Address]) -> None:
        """A name has been resolved: it has these addresses, our own ones left out."""

    def order(self, addresses: list[IAddress]) -> None:
        """
        Put addresses, our own ones among them, into the order in which they are tried; by default a
        random one.
        """
        random.shuffle(addresses)


def client_endpoint(
    reactor: object,
    address: Address,
    credentials: Credentials | None,
    timeout: float,
    names: Names | None = None,
    fingerprint: bytes | None = None,
) -> IStreamClientEndpoint:
    """
    The endpoint behind an address that a person typed or a peer announced.

    :param timeout: seconds for the transport to be connected.
    :param names: who is asked, and told, about the addresses of a name.
    :param fingerprint: over TLS, SHA-256 of the only certificate that is accepted there.
    """
    host, port = address
    context: Any = None
    if credentials is not None:
        context = credentials.client() if fingerprint is None else Expecting(fingerprint)
    if isIPAddress(host):
        if context is not None:
            return SSL4ClientEndpoint(reactor, host, port, context, timeout=timeout)
        return TCP4ClientEndpoint(reactor, host, port, timeout=timeout)
    plain: IStreamClientEndpoint
    if isIPv6Address(host):
        plain = TCP6ClientEndpoint(reactor, host, port, timeout=timeout)
    elif IReactorPluggableNameResolver.providedBy(reactor):
        plain = _NameEndpoint(reactor, address, timeout, names or Names())
    else:
        plain = HostnameEndpoint(reactor, host, port, timeout=timeout)
    return plain if context is None else wrapClientTLS(context, plain)


@implementer(IStreamClientEndpoint)
class _NameEndpoint:
    """All addresses of a name but our own, as ``HostnameEndpoint`` tries them: the first wins."""

    def __init__(self, reactor: Any, address: Address, timeout: float, names: Names) -> None:
        self._resolver = _OthersOnly(reactor.nameResolver, address, names)
        host, port = address
        self._endpoint = HostnameEndpoint(
            _Resolving(reactor, self._resolver), host, port, timeout=timeout
        )

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        connecting: Deferred[IProtocol] = self._endpoint.connect(protocolFactory)
        return connecting.addBoth(self._done).addErrback(self._why_not)

    def _done(self, result: IProtocol | Failure) -> IProtocol | Failure:
        self._resolver.over = True
        return result

    def _why_not(self, failure: Failure) -> Deferred[IProtocol]:
        return fail(SelfConnection() if self._resolver.ours_alone else failure)


@implementer(IReactorPluggableNameResolver)
class _Resolving:
    """A reactor that resolves names in another way."""

    def __init__(self, reactor: Any, resolver: IHostnameResolver) -> None:
        self._reactor = reactor
        self.nameResolver = resolver

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)


@implementer(IHostnameResolver)
class _OthersOnly:
    """
    Resolves a name, and leaves out our own addresses.

    :ivar ours_alone: whether nothing was left.
    :ivar over: whether nobody waits for the addresses any more: a resolver cannot be stopped, and
        the node that has asked may be no more.
    """

    def __init__(self, resolver: IHostnameResolver, name: Address, names: Names) -> None:
        self.ours_alone = self.over = False
        self._resolver = resolver
        self._name = name
        self._names = names

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        return self._resolver.resolveHostName(
            _Sorting(resolutionReceiver, self._sort),
            hostName,
            portNumber=portNumber,
            addressTypes=addressTypes,
            transportSemantics=transportSemantics,
        )

    def _sort(self, addresses: list[IAddress]) -> list[IAddress]:
        if self.over:
            return []
        known: list[IAddress] = list(
            {_place(one): one for one in addresses if isinstance(one, _DIALLED)}.values()
        )
        self._names.order(known)
        # To ask whose one is has its price, and a stranger's name may have thousands.
        others = (one for one in known if not self._names.is_ours(_place(one)))
        left = list(islice(others, MOST_ADDRESSES))
        self.ours_alone = bool(known) and not left
        if not self._names.is_wanted(self._name):
            usable = (one for one in left if self._names.acceptable(_place(one)))
            left = list(islice(usable, MOST_OF_OTHERS))
        if left:
            self._names.found(self._name, [_place(one) for one in left])
        return left


_DIALLED = (IPv4Address, IPv6Address)


def _place(address: Any) -> Address:
    return address.host, address.port


@implementer(IResolutionReceiver)
class _Sorting:
    """Keeps what a resolver finds until it has found everything."""

    def __init__(
        self,
        receiver: IResolutionReceiver,
        sort: Callable[[list[IAddress]], list[IAddress]],
    ) -> None:
        self._receiver = receiver
        self._sort = sort
        self._addresses: list[IAddress] = []

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        self._receiver.resolutionBegan(resolutionInProgress)

    def addressResolved(self, address: IAddress) -> None:
        self._addresses.append(address)

    def resolutionComplete(self) -> None:
        for address in self._sort(self._addresses):
            self._receiver.addressResolved(address)
        self._receiver.resolutionComplete()


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
    endpoint: Any = serverFromString(reactor, description)
    if description.startswith("ssl:"):

        def read() -> Any:
            again: Any = serverFromString(reactor, description)
            return again._sslContextFactory

        endpoint._sslContextFactory = Renewable(read)
        return endpoint  # type: ignore[no-any-return]
    if credentials is None:
        return endpoint  # type: ignore[no-any-return]
    wrapped: IStreamServerEndpoint = wrapServerTLS(credentials.server(), endpoint)
    return wrapped


def renewable(endpoint: IStreamServerEndpoint) -> Renewable | None:
    """The certificate that `server_from_description` has read from files for an endpoint, if any."""
    found = getattr(endpoint, "_sslContextFactory", None)
    return found if isinstance(found, Renewable) else None
