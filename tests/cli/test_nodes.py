"""
The demo's nodes: what they ask of a `MeshService`, and how they go.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.cli import nodes
from py2p_twisted.cli.nodes import LoopbackNode
from py2p_twisted.core.network import PLAINTEXT, SSL, Network


class ToyService:
    """
    Stands for a `MeshService`.

    :ivar happened: what was done to it and its transports, in order.
    """

    def __init__(self, reactor: object, network: Network, **settings: Any) -> None:
        self.reactor = reactor
        self.network = network
        self.settings = settings
        self.happened: list[str] = []
        self.id = b"id"
        self.address = ("127.0.0.1", 40001)
        self.factory = SimpleNamespace(
            started=True, routing_table={}, node=SimpleNamespace(links=[])
        )

    def link(self, name: str, frames: int = 0, duplicates: int = 0, *, table: bool = True) -> Any:
        """One more link; perhaps one that has not introduced itself yet."""
        transport = SimpleNamespace(abortConnection=lambda: self.happened.append(f"abort {name}"))
        link = SimpleNamespace(
            id=name.encode(),
            owner=SimpleNamespace(transport=transport),
            frames=frames,
            duplicates=duplicates,
        )
        self.factory.node.links.append(link)
        if table:
            self.factory.routing_table[link.id] = link
        return link

    def start(self) -> Deferred[None]:
        self.happened.append("start")
        return succeed(None)

    def stopService(self) -> Deferred[None]:
        self.happened.append("stop")
        return succeed(None)


class LoopbackNodeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(nodes, "MeshService", ToyService)

    def make(self, count: int = 12, *, tls: bool = False) -> tuple[LoopbackNode, Any]:
        """A node, and its service."""
        node = LoopbackNode("the reactor", count, tls=tls)
        return node, node._service

    def test_encryption(self) -> None:
        """``--tls`` is more than a word in the title."""
        for tls, encryption in ((False, PLAINTEXT), (True, SSL)):
            _, service = self.make(tls=tls)
            self.assertEqual(service.network.encryption, encryption)

    def test_only_this_machine_can_connect(self) -> None:
        """On a port that the system chooses."""
        _, service = self.make()
        (listen,) = service.settings["listen"]
        self.assertTrue(listen.startswith("tcp:0:interface=127.0.0.1:"), listen)

    def test_room_for_all(self) -> None:
        """Everybody joins through the first one, and that is no reason to refuse anybody."""
        _, service = self.make(200)
        self.assertIn("backlog=200", service.settings["listen"][0])
        self.assertEqual(
            (service.settings["max_inbound"], service.settings["max_half_open"]), (200, 200)
        )

    def test_dropped_like_a_process_that_was_killed(self) -> None:
        """Connections are reset before the service can say goodbye, also the youngest."""
        node, service = self.make()
        service.link("one")
        service.link("two", table=False)
        self.successResultOf(node.drop())
        self.assertEqual(service.happened, ["abort one", "abort two", "stop"])

    def test_dropped_before_it_has_started(self) -> None:
        """There is nothing to reset."""
        node, service = self.make()
        service.factory = SimpleNamespace(started=False)
        self.successResultOf(node.drop())
        self.assertEqual(service.happened, ["stop"])

    def test_leaving_in_good_order(self) -> None:
        """Nothing is reset."""
        node, service = self.make()
        service.link("one")
        self.successResultOf(node.leave())
        self.assertEqual(service.happened, ["stop"])

    def test_the_page(self) -> None:
        """One that is to show it does, at that place, and tells who is given the link the token."""
        made: list[Any] = []

        class ToyWeb:
            url = "http://127.0.0.1:8123/"

            def __init__(self, reactor: object, mesh: Any, where: str, **how: Any) -> None:
                self.mesh, self.where, self.how = mesh, where, how
                made.append(self)

            def start(self) -> Deferred[None]:
                self.mesh.happened.append("page")
                return succeed(None)

            def stopService(self) -> Deferred[None]:
                self.mesh.happened.append("no page")
                return succeed(None)

        self.patch(nodes, "WebService", ToyWeb)
        node = LoopbackNode("the reactor", 3, tls=False, web="tcp:8123")
        self.assertEqual(node.page, "")
        self.successResultOf(node.start())
        (web,) = made
        self.assertEqual((web.where, web.how["demo"]), ("tcp:8123", True))
        self.assertEqual(node.page, f"http://127.0.0.1:8123/#token={web.how['token']}")
        self.assertTrue(len(web.how["token"]) >= 16)
        self.successResultOf(node.leave())
        self.assertEqual(web.mesh.happened, ["start", "page", "no page", "stop"])
        plain, _ = self.make()
        self.successResultOf(plain.start())
        self.assertEqual((plain.page, len(made)), ("", 1))

    def test_traffic(self) -> None:
        """Of all links together."""
        node, service = self.make()
        self.assertEqual(node.traffic(), (0, 0))
        service.link("one", 5, 2)
        service.link("two", 7, 3)
        self.assertEqual(node.traffic(), (12, 5))
        self.assertEqual(set(node.peers()), {b"one", b"two"})

    def test_messages(self) -> None:
        """They come with who brought them; before anybody listens they go nowhere."""
        node, service = self.make()
        delivery = SimpleNamespace(packets=(b"whisper", "demo"), link=service.link("one"))
        service.on_message(delivery)
        got: list[object] = []
        node.on_message = lambda packets, via: got.append((packets, via))
        service.on_message(delivery)
        self.assertEqual(got, [((b"whisper", "demo"), b"one")])
