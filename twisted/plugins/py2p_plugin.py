"""The ``py2p`` command of twistd and twist. No ``__init__.py`` here: it would replace Twisted's."""

from twisted.application.service import ServiceMaker

py2p = ServiceMaker(
    "py2p mesh node", "py2p_twisted.tap", "Run one node of a py2p mesh network.", "py2p"
)
