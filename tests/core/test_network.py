"""Tests of `py2p_twisted.core.network`."""

from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core.network import Network, node_id
from py2p_twisted.errors import BadArgument
from tests.core import vectors


class NetworkTests(SynchronousTestCase):
    def test_protocol_ids_are_those_of_the_reference(self):
        """The same name and encryption give the same protocol id, so the nodes find together."""
        for entry in vectors.PROTOCOL_IDS:
            network = Network(entry["subnet"], entry["encryption"])
            self.assertEqual(network.id, entry["id"])

    def test_the_default_network_is_that_of_the_reference(self):
        """Who names no network is in ``mesh``, in plain text."""
        network = Network()
        self.assertEqual([network.name, network.encryption], vectors.DEFAULT_PROTOCOL)

    def test_node_ids_are_those_of_the_reference(self):
        """Address, network and salt make the id that 0.6 would make of them."""
        for entry in vectors.NODE_IDS:
            host, port = entry["out_addr"]
            network = Network(entry["subnet"], entry["encryption"])
            ident = node_id((host, port), network.id, entry["salt"])
            self.assertEqual(ident, entry["id"].encode())

    def test_an_unknown_encryption_is_refused(self):
        """There are two encryptions; a third word is a ``ValueError`` that names it."""
        error = self.assertRaises(ValueError, Network("mesh", "ROT13").require_known_encryption)
        self.assertIsInstance(error, BadArgument)
        self.assertIn("ROT13", str(error))

    def test_both_known_encryptions_are_accepted(self):
        """``Plaintext`` and ``SSL`` can be used."""
        for encryption in ("Plaintext", "SSL"):
            self.assertIsNone(Network("mesh", encryption).require_known_encryption())
