"""``py2p ticket``: made of what is given, shown, and used by commands that join."""

from __future__ import annotations

import argparse
import json
from typing import Any

from py2p_twisted.cli.member import _Unsaid, _where
from py2p_twisted.cli.running import CommandFailed
from py2p_twisted.core.network import SSL, Network
from py2p_twisted.core.ticket import Ticket, read
from tests.cli.members import MemberTestCase

ALERTS = Ticket(Network("alerts", SSL), (("192.0.2.7", 4444), ("2001:db8::7", 4444)))


class TicketTests(MemberTestCase):
    def refused(self, *arguments: str, code: int = 2) -> str:
        """One line on standard error, and nothing else."""
        self.assertEqual((self.main("ticket", *arguments), self.printed()), (code, ""))
        said = self.said()
        self.assertEqual(said.count("\n"), 1, said)
        self.assertTrue(said.startswith("py2p ticket: "), said)
        return said

    def test_made_of_what_is_given(self) -> None:
        """Name, encryption and addresses are in it."""
        given = ("--network=alerts", "--tls", "--join=192.0.2.7:4444", "-j", "[2001:db8::7]:4444")
        self.assertEqual(self.main("ticket", *given), 0)
        self.assertEqual(read(self.printed()), ALERTS)
        self.assertEqual(self.said(), "")
        self.assertEqual(self.main("ticket", *given, "--json"), 0)
        said = json.loads(self.printed())
        self.assertEqual(said["ticket"], str(ALERTS))
        self.assertEqual(said["addresses"], ["192.0.2.7:4444", "[2001:db8::7]:4444"])

    def test_on_this_machine_alone(self) -> None:
        """Addresses that nobody else can use are pointed out."""
        for join in ("127.0.0.1:4444", "[::1]:4444", "localhost:4444"):
            self.assertEqual(self.main("ticket", f"--join={join}"), 0)
            self.assertIn("on this machine alone", self.said())
            self.assertEqual(read(self.printed()).network, Network("mesh"))

    def test_shown(self) -> None:
        """For people, and for programs."""
        self.assertEqual(self.main("ticket", "show", str(ALERTS)), 0)
        self.assertEqual(
            self.printed(),
            "network:     alerts\nencryption:  TLS\n"
            "join:        192.0.2.7:4444\n             [2001:db8::7]:4444\n",
        )
        marked = Ticket(Network("a\x1b[2J"), ALERTS.addresses, bytes(32))
        self.assertEqual(self.main("ticket", "show", str(marked)), 0)
        printed = self.printed()
        self.assertIn("certificate: 00000000", printed)
        self.assertNotIn("\x1b", printed)

    def test_refused(self) -> None:
        """Wrong usage has exit code 2, a ticket with a mistake 1."""
        self.assertIn("a mistake", self.refused("show", str(ALERTS)[:-1], code=1))
        self.assertIn("begins with py2p1", self.refused("show", "x", code=1))
        self.refused(*["--join=192.0.2.7:1"] * 17, code=1)
        for arguments in (
            ["show"], ["hide", "x"], ["show", "a", "b"], ["--tls"], ["--join=x"],
            ["show", str(ALERTS), "--tls"], ["--join=192.0.2.7:1", "--control=/tmp/x"],
        ):  # fmt: skip
            self.refused(*arguments)


class WhereTests(MemberTestCase):
    """What commands that join make of a ticket."""

    def where(self, network: str, *join: Any, tls: bool = False) -> Any:
        return _where(argparse.Namespace(join=list(join), network=network, tls=tls))

    def test_the_ticket_says(self) -> None:
        """What is not typed comes from it."""
        network, addresses = self.where(_Unsaid("mesh"), ALERTS, ("192.0.2.9", 1))
        self.assertEqual(network, ALERTS.network)
        self.assertEqual(addresses, [*ALERTS.addresses, ("192.0.2.9", 1)])
        self.assertEqual(self.where("alerts", ALERTS)[0], ALERTS.network)

    def test_no_ticket(self) -> None:
        """Without one nothing is new."""
        network, addresses = self.where(_Unsaid("mesh"))
        self.assertEqual((network, addresses), (Network("mesh"), [("127.0.0.1", 4444)]))

    def test_another_network(self) -> None:
        """What contradicts is an error in one line."""
        plain = Ticket(Network("alerts"), ALERTS.addresses)
        for network, tls, tickets in (
            ("mesh", False, [ALERTS]), ("alerts", True, [plain]), ("alerts", False, [plain, ALERTS]),
        ):  # fmt: skip
            with self.assertRaises(CommandFailed) as caught:
                self.where(network, *tickets, tls=tls)
            self.assertTrue(str(caught.exception).startswith("--join: "))

    def test_from_the_command_line(self) -> None:
        """The parser takes tickets, and what is typed counts even if it is the default."""
        plain = str(Ticket(Network("alerts"), (("192.0.2.7", 4444),)))
        self.assertEqual(self.main("send", f"--join={plain}", "--network=mesh", "x"), 1)
        self.assertIn("for network 'alerts' (plain text), not for 'mesh'", self.said())
