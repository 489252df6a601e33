"""
The status page of a node, and what watches it.

::

    a browser ----.                        .--- status, peers, survey
    Prometheus ---+--- HTTP --- WebService +--- what happens, as it happens
    a probe ------'       (guard)          '--- send, for who knows the token

============  ====================================================================
``server``    `WebService`: the port, its connections, and what is at which path
``guard``     who is let in: hosts, origins, tokens, sizes
``events``    what happens in the node, for browsers that watch (server-sent events)
``metrics``   the same as numbers, for Prometheus
``assets/``   the page
============  ====================================================================

Source of the paths: docs/reference/web.rst. Whoever may open the port may look; to send takes the
token. No page of another site can do either, and no client costs the node more than its limits.
"""

from py2p_twisted.web.server import WebService

__all__ = ["WebService"]
