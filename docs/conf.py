"""
How Sphinx makes a book of these pages: ``sphinx-build -n -W --keep-going -b html docs OUT``.

Nothing here asks the network: names of other projects are not looked up, and not linked.
"""

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
# The book describes the tree that it stands in, installed or not.
sys.path[:0] = [str(_HERE.parent), str(_HERE / "_ext")]

from py2p_twisted import __version__  # noqa: E402 - found by the line above

project = "py2p_twisted"
author = "The py2p_twisted authors"
copyright = author
version = release = __version__

extensions = ["sphinx.ext.autodoc", "py2p_docs"]
exclude_patterns = ["_build"]
nitpicky = True

# Docstrings say `Name`; see _ext/py2p_docs/names.py.
default_role = "name"
# Blocks that do not say what they are: diagrams, mostly.
highlight_language = "none"

# What the API refers to that is described elsewhere. Python's built-in names are known to
# Sphinx; these are the projects whose classes appear in signatures.
nitpick_ignore_regex = [
    (r"py:.*", r"(twisted|zope|pyee|OpenSSL|cryptography)\..+"),
    (r"py:.*", r"(asyncio|collections|concurrent|dataclasses|enum|ipaddress|os|random|types)\..+"),
]

autodoc_default_options = {
    "member-order": "bysource",
    "show-inheritance": True,
}
# Classes that users are given and never make: how they are made is nobody's business.
given_classes = [
    "py2p_twisted.base.Connecting",
    "py2p_twisted.base.Packets",
    "py2p_twisted.base.Pending",
    "py2p_twisted.base.Replying",
    "py2p_twisted.base.Surveying",
    "py2p_twisted.base.base_connection",
    "py2p_twisted.base.base_socket",
    "py2p_twisted.base.flags",
    "py2p_twisted.base.message",
    "py2p_twisted.core.connection.Connection",
    "py2p_twisted.core.connection.State",
    "py2p_twisted.core.message.Message",
    "py2p_twisted.mesh.Lost",
    "py2p_twisted.mesh.mesh_connection",
    "py2p_twisted.net.Delivery",
    "py2p_twisted.net.MeshProtocol",
    "py2p_twisted.net.status.Status",
    "py2p_twisted.net.tls.Credentials",
    "py2p_twisted.testing.MemoryNode",
    "py2p_twisted.testing.MemoryTransport",
]
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
# Counted before names are shortened.
python_maximum_signature_line_length = 130
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"py2p_twisted {version}"
html_short_title = "py2p_twisted"
html_copy_source = False
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_theme_options = {
    "navigation_with_keys": True,
    "light_css_variables": {
        "color-brand-primary": "#0b5d7a",
        "color-brand-content": "#0b5d7a",
    },
    "dark_css_variables": {
        "color-brand-primary": "#6cc5e0",
        "color-brand-content": "#6cc5e0",
    },
}
pygments_style = "tango"
pygments_dark_style = "monokai"
