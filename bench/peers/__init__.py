"""
One module for each measured implementation.

Each is a program, started as ``python -m bench.peers.NAME receive|send``, that
hands two functions to :func:`bench.worker.main`. A fourth implementation is a
fourth module and one line in :data:`bench.runner.CASES`.
"""
