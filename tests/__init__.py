"""
The tests of py2p_twisted: ``python -m twisted.trial tests``, from the project's root.

They mirror the package. None of them opens a port, sleeps, or reads a clock; those with real
processes live in ``tests.integration`` and are run by themselves.
"""

import os

from tests import profile

profile.load()

#: Else nodes would put sockets into the folder of whoever runs the tests.
os.environ.pop("XDG_RUNTIME_DIR", None)
