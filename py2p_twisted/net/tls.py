"""
Where a node's TLS contexts come from.

`SelfMade` is what ``Protocol(name, 'SSL')`` means in py2p: every node makes itself a
certificate, and nobody verifies anybody. It stops whoever reads along, **not** whoever
pretends to be somebody else. Other sources of certificates (an authority of the mesh's own)
are other classes with the same two methods.

A certificate can be kept (see `SelfMade.as_pem`), and then a ticket can name it: whoever dials by
that ticket accepts no other, see `Expecting`.

Source: docs/design.rst, "TLS".
"""

from __future__ import annotations

import datetime
import hmac
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.interfaces import IOpenSSLContextFactory
from zope.interface import implementer

from py2p_twisted.core.network import SSL, Network

if TYPE_CHECKING:
    from twisted.internet.ssl import CertificateOptions

#: Like 0.6's certificates: the name says nothing, as nobody reads it.
_NAME = "py2p.invalid"
_LIFETIME = datetime.timedelta(days=3650)


class Credentials(Protocol):
    """A source of TLS contexts, one for each end of a connection."""

    def server(self) -> CertificateOptions:
        """For connections that are accepted."""

    def client(self) -> CertificateOptions:
        """For connections that are dialled."""


class SelfMade:
    """
    Encryption without identity: a fresh EC P-256 certificate, TLS 1.2 or newer.

    The certificate and its key live in memory alone, unless somebody keeps them.

    :ivar fingerprint: SHA-256 of the certificate, 32 bytes.
    :raises ImportError: cryptography or pyOpenSSL is not installed.
    """

    def __init__(self) -> None:
        try:
            from twisted.internet.ssl import CertificateOptions
        except ImportError as error:  # pragma: no cover - both are dependencies
            raise ImportError(
                "Protocol(..., 'SSL') needs cryptography and pyOpenSSL: "
                "pip install cryptography pyopenssl"
            ) from error
        self._options = CertificateOptions
        self._take(*_make_certificate())
        # What is asked for a context at each connection, so a certificate that is loaded later counts.
        self._server = _Shown(self)
        self._client = _anybody()

    def _take(self, key: Any, certificate: Any) -> None:
        from cryptography.hazmat.primitives import hashes
        from twisted.internet.ssl import TLSVersion

        shown = self._options(
            privateKey=key, certificate=certificate, raiseMinimumTo=TLSVersion.TLSv1_2
        )
        shown.getContext()  # refuses a key that belongs to another certificate
        self.shown = shown
        self._key, self._certificate = key, certificate
        self.fingerprint: bytes = certificate.fingerprint(hashes.SHA256())

    def server(self) -> CertificateOptions:
        """For connections that are accepted."""
        return self._server  # type: ignore[return-value]

    def client(self) -> CertificateOptions:
        """For connections that are dialled."""
        return self._client

    def as_pem(self) -> bytes:
        """The certificate and its key, which is a secret."""
        from cryptography.hazmat.primitives import serialization as to

        key: bytes = self._key.private_bytes(
            to.Encoding.PEM, to.PrivateFormat.PKCS8, to.NoEncryption()
        )
        return key + bytes(self._certificate.public_bytes(to.Encoding.PEM))

    def load(self, pem: bytes) -> None:
        """
        Show the certificate that `as_pem` has given from now on.

        :raises ValueError: that is none, or not with its key.
        """
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
        from OpenSSL import SSL as OPENSSL

        try:
            self._take(load_pem_private_key(pem, None), x509.load_pem_x509_certificate(pem))
        except (ValueError, TypeError, OPENSSL.Error) as error:
            raise ValueError("no certificate with its key") from error


@implementer(IOpenSSLContextFactory)
class _Shown:
    """What a source shows at the moment; Twisted calls it a context factory."""

    def __init__(self, source: SelfMade) -> None:
        self._source = source

    def getContext(self) -> Any:
        """For one more connection."""
        return self._source.shown.getContext()


@implementer(IOpenSSLContextFactory)
class Expecting:
    """
    For connections that are dialled where one certificate is expected, whoever has signed it.

    It is what Twisted calls a context factory.
    """

    def __init__(self, fingerprint: bytes) -> None:
        """
        :param fingerprint: SHA-256 of the certificate.
        """
        from OpenSSL import SSL as OPENSSL

        self._fingerprint = fingerprint
        self._context: Any = _anybody().getContext()
        self._context.set_verify(OPENSSL.VERIFY_PEER, self._is_expected)

    def getContext(self) -> Any:
        """For one more connection."""
        return self._context

    def _is_expected(
        self, connection: Any, certificate: Any, problem: int, depth: int, is_fine: int
    ) -> bool:
        """Nobody is trusted for having signed it, so what OpenSSL says of it does not count."""
        from cryptography.hazmat.primitives import hashes

        if depth:
            return True
        found = certificate.to_cryptography().fingerprint(hashes.SHA256())
        return hmac.compare_digest(found, self._fingerprint)


def _anybody() -> CertificateOptions:
    """For connections that are dialled, when nobody looks who is at the other end."""
    from twisted.internet.ssl import CertificateOptions, TLSVersion

    return CertificateOptions(verify=False, raiseMinimumTo=TLSVersion.TLSv1_2)


@implementer(IOpenSSLContextFactory)
class Renewable:
    """
    A certificate in a file, which may be another one tomorrow: connections that are made from then
    on are shown that. It is what Twisted calls a context factory.
    """

    def __init__(self, read: Callable[[], CertificateOptions]) -> None:
        """
        :param read: reads the file, and raises what it likes when it cannot.
        """
        self._read = read
        self._current = read()

    def prepare(self) -> Callable[[], None]:
        """
        Read the file again.

        :return: has what was read be used.
        """
        fresh = self._read()

        def use() -> None:
            self._current = fresh

        return use

    def getContext(self) -> Any:
        """For one more connection."""
        return self._current.getContext()


def credentials_for(network: Network) -> Credentials | None:
    """
    The credentials that a network's encryption asks for; ``None`` for plain text.

    :raises BadArgument: nobody knows this encryption.
    :raises ImportError: it is ``SSL``, and its libraries are missing.
    """
    network.require_known_encryption()
    return SelfMade() if network.encryption == SSL else None


def _make_certificate() -> tuple[Any, Any]:
    # As cryptography's own objects: pyOpenSSL's are deprecated, though still what
    # Twisted's annotations say, hence Any.
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, _NAME)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # A day back: the other end's clock may be slow.
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return key, certificate
