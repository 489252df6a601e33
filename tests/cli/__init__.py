"""Tests of the ``py2p`` command; the real thing runs in ``tests.integration.demo_check``."""
