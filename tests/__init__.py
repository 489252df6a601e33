"""
The tests of py2p_twisted: ``python -m twisted.trial tests``, from the project's root.

They mirror the package. None of them opens a port, sleeps, or reads a clock; those with real
processes live in ``tests.integration`` and are run by themselves.
"""

from tests import profile

profile.load()
