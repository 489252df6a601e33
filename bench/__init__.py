"""
Benchmarks that anyone can run: ``python -m bench``.

The *pair*: one sender process gives one receiver process a number of distinct
messages over loopback. Three implementations take turns with the same task::

    ours   py2p_twisted through its public socket
    bare   bare Twisted protocols speaking the same frame: the ceiling
    py2p   py2p 0.6.757 in an interpreter of its own, acknowledged

``worker`` is the half that runs inside the measured processes, ``peers`` holds
one module for each implementation, ``runner`` starts the processes and takes
the figures, ``report`` turns them into a table and verdicts. ``README.md``
says what every figure means.

The *tree* (``python -m bench tree``): meshes of sixteen nodes, one with broadcast
trees and one that floods, on the same overlay. ``members`` is the measured process,
``tree`` the other half.

Nothing is imported here, because the interpreter that runs py2p imports this
package too and has none of our dependencies.
"""
