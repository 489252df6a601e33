"""``--discover``, ``--interface``, and tickets among what is joined through: from words to a node."""

from __future__ import annotations

from typing import Any

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core.network import SSL, Network
from py2p_twisted.core.ticket import Ticket
from py2p_twisted.daemon.configuration import (
    COMMAND_LINE,
    DEFAULT,
    TICKET,
    ConfigurationError,
    configure,
)
from py2p_twisted.daemon.node import NodeService
from py2p_twisted.daemon.options import BY_NAME
from tests.daemon.toys import ToyReactor

ALERTS = str(Ticket(Network("alerts", SSL), (("192.0.2.7", 4444), ("node.example", 4444))))
PLAIN = str(Ticket(Network("alerts"), (("192.0.2.8", 4444),)))


class TicketTests(SynchronousTestCase):
    def configured(self, **given: Any) -> dict[str, tuple[Any, str]]:
        made = configure(given).settings
        return {name: (made[name].value, made[name].source) for name in ("join", "network", "tls")}

    def in_file(self, text: str) -> Any:
        path = self.mktemp()
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return configure({"config": path})

    def error(self, **given: Any) -> str:
        with self.assertRaises(ConfigurationError) as caught:
            configure(given)
        return str(caught.exception)

    def test_all_from_a_ticket(self) -> None:
        """Its addresses are joined through, its network is the node's; an address counts once."""
        found = self.configured(join=[ALERTS, "192.0.2.9:1", "192.0.2.7:4444"])
        addresses = (("192.0.2.7", 4444), ("node.example", 4444), ("192.0.2.9", 1))
        self.assertEqual(
            found,
            {
                "join": (addresses, COMMAND_LINE),
                "network": ("alerts", TICKET),
                "tls": (True, TICKET),
            },
        )

    def test_what_is_said_besides(self) -> None:
        """It may say the same; what it does not say comes from the ticket."""
        found = self.configured(join=[ALERTS], network="alerts")
        self.assertEqual(
            (found["network"], found["tls"]), (("alerts", COMMAND_LINE), (True, TICKET))
        )
        found = self.configured(join=[ALERTS], network="alerts", tls=True)
        self.assertEqual(found["tls"], (True, COMMAND_LINE))
        self.assertEqual(self.configured(join=["192.0.2.9:1"])["network"], ("mesh", DEFAULT))

    def test_what_contradicts(self) -> None:
        """Another name, another encryption, two tickets that disagree: one line that says so."""
        for given in (
            {"join": [ALERTS], "network": "mesh"},
            {"join": [PLAIN], "tls": True},
            {"join": [ALERTS, PLAIN]},
        ):
            text = self.error(**given)
            self.assertRegex(text, r"^join: th\w+ tickets? .*'alerts' \((TLS|plain text)\)")
        with self.assertRaises(ConfigurationError):
            self.in_file(f'join = "{ALERTS}"\ntls = false\n')

    def test_in_a_file(self) -> None:
        """A file takes them as the command line does."""
        made = self.in_file(f'join = ["{PLAIN}"]\n')
        self.assertEqual(made.network, Network("alerts"))
        self.assertEqual(made["join"], (("192.0.2.8", 4444),))

    def test_a_typing_error(self) -> None:
        """It names the ticket, and what is wrong with it."""
        text = self.error(join=[ALERTS[:-1]])
        self.assertIn(f"--join={ALERTS[:-1]}: expected a whole ticket; ", text)


class DiscoverTests(SynchronousTestCase):
    def node(self, **given: Any) -> tuple[NodeService, list[str]]:
        with capturedLogs() as events:
            node = NodeService(ToyReactor(), configure({"advertise": "10.0.0.1", **given}))
            node.privilegedStartService()
            node.stopService()
        return node, [formatEvent(event) for event in events]

    def test_on(self) -> None:
        """The interfaces come in order."""
        node, _ = self.node(discover=True, interface=["eth0", "192.0.2.7"])
        assert node.discovery is not None
        self.assertEqual(node.discovery.interfaces, ("eth0", "192.0.2.7"))
        self.assertIn("discovery", node.status)

    def test_off(self) -> None:
        """By default there is none, and to name an interface then is told to be in vain."""
        node, said = self.node(interface=["eth0"])
        self.assertIsNone(node.discovery)
        self.assertIn("--interface has no effect without --discover", said)
        _, said = self.node()
        self.assertNotIn("--interface has no effect without --discover", said)

    def test_names_of_interfaces(self) -> None:
        """Names as systems give them, and addresses; no blanks, no paths."""
        read = BY_NAME["interface"].read
        for good in ("eth0", "wlp3s0", "br-1a2b", "eth0.100", "192.0.2.7", "fe80::1", "Wi-Fi"):
            self.assertEqual(read(good), good)
        for bad in ("", " ", "a b", "/dev/eth0", ":", "a\n", "x" * 65, 7, None, ["eth0"]):
            self.assertRaises(ValueError, read, bad)
