"""
How much may wait for one peer, and how long: what every driver of a node goes by.

::

                     LOW_WATER       HIGH_WATER              QUEUE_LIMIT + the largest message
    a queue --------------|---------------|-------------------------------|------------->
                                          |  our own sends wait a while   |  extended: congested
    congested, held: <----'               |  extended, has not read for   |  plain: loses its link
    neither any more                      |  STALLED: congested           |

Who is *congested* gets nothing more, and is told later what it has missed. The queues themselves
are the drivers': `py2p_twisted.net.flow` on Twisted, `py2p_twisted.simulation.wires` in a simulation.

Sizes are in bytes, times in seconds. Source: docs/design.rst, "Flow control".
"""

from __future__ import annotations

from typing import Final

#: A queue above this makes our own sends wait. Source: docs/design.rst, "Limits".
HIGH_WATER: Final = 1024 * 1024
#: A queue that has been high is low again here.
LOW_WATER: Final = HIGH_WATER // 4
#: No frame is added to a queue that holds this much already, besides the frame that is
#: being written and one more of the largest size: two of those must not cost a link.
QUEUE_LIMIT: Final = 4 * 1024 * 1024
#: A peer whose queue is above high water gets no more when nothing has moved for this long. While
#: it reads it is given what comes, up to the limit: a burst of small messages is soon read, while
#: what is withheld has to be asked for, and is kept for so many messages only.
STALLED: Final = 1.0
#: A transport that takes nothing for this long has lost its peer. Source: docs/design.rst, "Limits".
STUCK_AFTER: Final = 60.0
#: Handed to one transport in one turn at most, so that a large message does not keep
#: small ones of other peers waiting.
TURN: Final = 256 * 1024
