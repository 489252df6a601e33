"""Tests of `py2p_twisted.core.flags`."""

from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core import compression, flags
from tests.core import vectors


class FlagsTests(SynchronousTestCase):
    def test_the_names_mean_what_they_mean_in_the_reference(self):
        """All 32 names of 0.6 have the numbers that 0.6 gives them."""
        self.assertEqual(flags.NAMES, vectors.FLAGS)

    def test_the_constants_agree_with_the_names(self):
        """A constant of the module and the documented name are one number."""
        for name, number in flags.NAMES.items():
            constant = getattr(flags, name.upper(), number)
            self.assertEqual(constant, number, name)

    def test_codecs_are_offered_in_the_order_of_the_reference(self):
        """zlib first, as every 0.6 node lists it."""
        self.assertEqual(
            compression.METHODS, tuple(flags.NAMES[name] for name in vectors.COMPRESSION_ORDER)
        )

    def test_applications_own_numbers_are_nobody_elses(self):
        """From `FIRST_FREE` on no number of the wire is taken, by 0.6 or by extensions."""
        taken = {*flags.NAMES.values(), *flags.PRIVILEGED, *flags.EXTENSIONS}
        self.assertLess(max(taken), flags.FIRST_FREE)

    def test_extensions_do_not_use_a_number_of_0_6(self):
        """A plain node never takes an extension for something it knows."""
        self.assertEqual(set(flags.EXTENSIONS) & set(flags.NAMES.values()), set())
