"""
What the documents say, tried out.

Every Python block of README.md and of docs/ is run, page by page, as one session from top to
bottom. Nothing listens on a port and nobody sleeps: sockets and services get transports in
memory, waiting turns a clock, and after every statement all that can happen has happened.

A block is anything that Python code stands in: ``code-block:: python`` or ``pycon``, a literal
or doctest block with ``>>>``, a fence in Markdown, a ``literalinclude`` of a ``.py`` file. For
the rest there are comments, which the pages' readers do not see::

    .. no-run: why this cannot be run here
    .. no-live: why this cannot be run on real sockets
    .. session: the rest of the page begins anew

In Markdown they are ``<!-- no-run: ... -->``. The first two stand right before their block.
Expected output may leave out what differs from run to run as ``...``, as in doctest.

Nodes at addresses of the documentation ranges (192.0.2.7, node.example, ...) come into being
when they are dialled, and belong to the network of whoever dials.

``blocks`` finds the blocks, ``stage`` runs them in memory. `tests.integration` runs the
tutorial once more, with real sockets, and every program of examples/.
"""
