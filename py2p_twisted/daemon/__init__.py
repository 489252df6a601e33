"""
A node as a process of its own: what an operator sets, and what becomes of it.

==================  =========================================================
``options``         every option, once: name, meaning, how its value is read
``configuration``   values from the command line and a file, each with its source
``node``            the service: `MeshService`, and what the operator wants besides
``programs``        ``--exec``: a program for every message
``logs``            what is logged, and JSON lines
``reload``          the file read again while the node runs, and SIGHUP
``descriptors``     how many files may be open
``start``           from options to a service, or one line that says why not
==================  =========================================================

``py2p_twisted.tap`` (``twistd py2p`` and ``twist py2p``) and ``py2p node`` are two ways to
hand over the same options.
"""
