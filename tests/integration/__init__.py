"""
Tests with real processes, real sockets and the original py2p 0.6.757.

They are slower than the unit suite and need a second Python environment, so ``python -m
twisted.trial tests`` leaves them alone: their modules end in ``_check.py``, which trial does not
collect by itself. Run them with::

    python -m tests.integration.reference --install .reference-env      # once: the original
    python -m tests.integration                                         # all that is here

All traffic stays on 127.0.0.1, or in network namespaces of the tests' own (192.0.2.0/24), every wait has a deadline, and every process is ended by the test
that started it.
"""
