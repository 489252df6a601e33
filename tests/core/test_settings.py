"""Tests of `py2p_twisted.core.settings`."""

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
