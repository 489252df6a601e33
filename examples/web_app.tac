"""
web_app.py in the background::

    twistd --python=examples/web_app.tac
    kill $(cat twistd.pid)

The environment says where: PORT, WEB (an endpoint), and PEERS ("192.0.2.7:4444 192.0.2.8:4444").
"""

import os
import sys

from twisted.application.service import Application
from twisted.internet import reactor

from py2p_twisted.net import MeshService

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from web_app import make_service

application = Application("notices")
make_service(
    reactor,
    MeshService(
        reactor,
        "notices",
        listen=["tcp:" + os.environ.get("PORT", "4444")],
        peers=os.environ.get("PEERS", "").split(),
    ),
    os.environ.get("WEB", "tcp:8080:interface=127.0.0.1"),
).setServiceParent(application)
