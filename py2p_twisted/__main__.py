"""``python -m py2p_twisted`` is the ``py2p`` command."""

import sys

from py2p_twisted.cli import main

if __name__ == "__main__":
    sys.exit(main())
