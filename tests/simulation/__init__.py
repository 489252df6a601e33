"""Tests of `py2p_twisted.simulation`."""
