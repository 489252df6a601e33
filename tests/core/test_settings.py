"""Tests of `py2p_twisted.core.settings`."""

from dataclasses import fields

from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core.settings import Settings
from py2p_twisted.errors import BadArgument


class SettingsTests(SynchronousTestCase):
    def test_options_become_settings(self):
        """Keyword arguments change what they name and leave the rest."""
        settings = Settings.from_options({"max_message": 4096, "drain_time": 0.5})
        self.assertEqual((settings.max_message, settings.drain_time), (4096, 0.5))
        self.assertEqual(settings.max_outgoing, Settings().max_outgoing)

    def test_what_is_counted_is_a_whole_number(self):
        """And the seen cache holds what one read can bring."""
        for options in (
            {"max_inbound": 2.5},
            {"seen_capacity": 1e5},
            {"unsent_messages": 16.0},
            {"seen_capacity": 100},
        ):
            error = self.assertRaises(BadArgument, Settings, **options)
            self.assertIn(next(iter(options)), str(error))

    def test_an_unknown_option_is_named(self):
        """A slip of the pen is a ``ValueError`` that shows what there is."""
        error = self.assertRaises(ValueError, Settings.from_options, {"max_mesage": 1})
        self.assertIn("'max_mesage'", str(error))
        self.assertIn("max_message", str(error))

    def test_what_is_no_number_from_zero_on_is_refused(self):
        """Text, truth values, negative numbers and NaN are no limits."""
        for value in ("5", True, None, -1, float("nan")):
            error = self.assertRaises(BadArgument, Settings, max_outgoing=value)
            self.assertIn("max_outgoing", str(error))

    def test_the_message_limit_stays_within_reason(self):
        """Less than a handshake needs, or more than a frame can say, cannot be asked for."""
        for value in (0, 1023, 2**31 + 1):
            self.assertRaises(BadArgument, Settings, max_message=value)
        for value in (1024, 2**31):
            self.assertEqual(Settings(max_message=value).max_message, value)

    def test_settings_do_not_change(self):
        """A running node's limits stay what its status shows."""
        with self.assertRaises(AttributeError):
            Settings().max_outgoing = 5

    def test_the_defaults_are_those_of_the_design(self):
        """Source: docs/protocol/mesh-ext.rst, "Parameters"."""
        settings = Settings()
        expected = {
            "extensions": True, "active_view": 5, "passive_view": 30, "join_walk": 6,
            "passive_walk": 3, "shuffle_interval": 30.0, "shuffle_active": 3,
            "shuffle_passive": 4, "probe_interval": 20.0, "ping_interval": 2.0,
            "dead_after": 6.0, "retention": 600.0, "retention_messages": 20_000,
            "retention_bytes": 64 * 1024 * 1024, "announce_delay": 0.02, "announce_batch": 1000,
            "graft_timeout": 0.3, "repair_timeout": 0.2, "missing_per_peer": 5000,
            "shepherd_interval": 10.0, "tree_messages": 256, "tree_age": 300.0,
            "tree_origins": 4096, "book_size": 512,
        }  # fmt: skip
        self.assertEqual({name: getattr(settings, name) for name in expected}, expected)

    def test_every_setting_is_checked(self):
        """Text, truth values, negative numbers and NaN are none, whatever its name."""
        for item in fields(Settings):
            wrong = ("5", None, -1, float("nan"), [], 1 if item.name == "extensions" else True)
            for value in wrong:
                error = self.assertRaises(BadArgument, Settings, **{item.name: value})
                self.assertIn(item.name, str(error))

    def test_what_is_counted_in_the_mesh_is_a_whole_number(self):
        """Half a neighbour is none."""
        for name in (
            "active_view", "passive_view", "join_walk", "passive_walk", "shuffle_active",
            "shuffle_passive", "retention_messages", "retention_bytes", "tree_origins",
            "tree_messages", "announce_batch", "missing_per_peer", "routed_replies",
        ):  # fmt: skip
            error = self.assertRaises(BadArgument, Settings, **{name: 2.5})
            self.assertIn(name, str(error))

    def test_what_would_stop_the_mesh_cannot_be_zero(self):
        """Or have it wake up without end."""
        for name in (
            "active_view", "announce_batch", "tree_messages", "shuffle_interval",
            "probe_interval", "ping_interval", "dead_after", "graft_timeout", "repair_timeout",
        ):  # fmt: skip
            error = self.assertRaises(BadArgument, Settings, **{name: 0})
            self.assertIn(name, str(error))

    def test_nodes_that_seek_one_neighbour_each_make_no_mesh(self):
        """They take each other's places for ever; who seeks none by itself does not."""
        error = self.assertRaises(BadArgument, Settings, active_view=1)
        self.assertIn("active_view must be 2 at least, not 1", str(error))
        self.assertIn("max_outgoing=0", str(error))
        self.assertEqual(Settings(active_view=2).active_view, 2)
        self.assertEqual(Settings(active_view=1, max_outgoing=0).active_view, 1)

    def test_messages_are_kept_for_half_as_long_as_ids_at_most(self):
        """And half as many: an id must outlive its message."""
        settings = Settings()
        self.assertEqual(settings.effective_retention, settings.retention)
        self.assertEqual(settings.effective_retention_messages, settings.retention_messages)
        settings = Settings(retention=3600, retention_messages=10**6)
        self.assertEqual(settings.effective_retention, settings.seen_window / 2)
        self.assertEqual(settings.effective_retention_messages, settings.seen_capacity // 2)

    def test_a_node_with_nothing_kept_or_asked_is_possible(self):
        """These may be zero."""
        for name in ("passive_view", "passive_walk", "retention", "routed_replies"):
            self.assertEqual(getattr(Settings(**{name: 0}), name), 0)

    def test_the_shepherd_does_not_wake_up_without_end(self):
        """Its interval is more than zero."""
        self.assertRaises(BadArgument, Settings, shepherd_interval=0)

    def test_nobody_is_given_up_before_it_is_asked(self):
        """Patience is more than the interval of questions."""
        for ping, dead in ((2, 2), (6, 2), (2, 1.9)):
            error = self.assertRaises(BadArgument, Settings, ping_interval=ping, dead_after=dead)
            self.assertIn("dead_after", str(error))
        self.assertEqual(Settings(ping_interval=1, dead_after=2.5).dead_after, 2.5)

    def test_extensions_can_be_switched_off(self):
        """And only on or off."""
        self.assertFalse(Settings(extensions=False).extensions)
        for value in (0, 1, "no", None):
            error = self.assertRaises(BadArgument, Settings, extensions=value)
            self.assertIn("extensions", str(error))
