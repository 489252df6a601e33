"""
What the book takes from the code: a Sphinx extension.

=================  ==================================================================
``commands``       the reference of the commands, from their parsers
``configuration``  the keys of a node's file
``tables``         the table of states, the words for what goes wrong, limits, parameters
``rst``            pieces of reStructuredText
``names``          which names there are, so that `Name` in a docstring can be checked
``directives``     the same for Sphinx: the only module here that needs it
=================  ==================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    from py2p_docs import directives

    return directives.setup(app)
