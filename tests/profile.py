"""
How hypothesis runs here: the same examples on every machine and every run.

A test that fails today must fail tomorrow, on the build server as at home, and a slow machine
is no failure. Whoever looks for new examples raises the number for a while::

    PY2P_EXAMPLES=2000 python -m twisted.trial tests.core
"""

import os

from hypothesis import HealthCheck, settings

#: Examples per property; enough to find each mistake that was put in to try this out.
EXAMPLES = 60


def load() -> None:
    """Make the fixed profile the one in use."""
    wanted = os.environ.get("PY2P_EXAMPLES")
    settings.register_profile(
        "py2p",
        derandomize=wanted is None,
        deadline=None,
        max_examples=int(wanted or EXAMPLES),
        database=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("py2p")
