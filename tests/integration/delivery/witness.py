"""
A node of the original py2p that tells all that it gets, for `delivery_check`.

It runs in the original's own environment, as `driver` does, whose requests it has as well.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from driver import ORIGINAL, Driver, encode, serve

#: The first packet of what is counted; the same as in `node`, which needs more than there is here.
TAG = "delivery"

#: The sub-flag of extension frames. Source: docs/protocol/wire.rst, "Extension frames".
EXTENSION = 0x2E


class Witness(Driver):
    """`Driver`, and a handler as the original's documentation shows them."""

    def __init__(self) -> None:
        super().__init__(ORIGINAL)
        self.frames: list[Any] = []
        self._numbers: dict[str, int] = {}

    def watch(self) -> None:
        """Keep each extension frame that the handler is given, with the link that brought it."""

        def handler(message: Any, connection: Any) -> bool:
            packets = message.packets
            if packets[1] == "a word that nobody says":
                return True
            if packets[0] == EXTENSION:
                self.frames.append((connection, list(packets)))
            return False

        self.sock.register_handler(handler)

    def extension_frames(self) -> list[Any]:
        """For each link that has brought such frames: the peer's id, and their packets."""
        found: dict[int, list[Any]] = {}
        for connection, packets in self.frames:
            found.setdefault(id(connection), [encode(connection.id), []])[1].append(encode(packets))
        return list(found.values())

    def send_numbered(self, name: str) -> int:
        """
        Broadcast a numbered message.

        A message of the original is another one for each neighbour that it is made for in another
        second, so this keeps away from a second's end.

        :return: how many have been sent, ever.
        """
        while not 0.05 < time.time() % 1 < 0.9:
            time.sleep(0.02)
        number = self._numbers.get(name, 0)
        self.sock.send(TAG, name, number, time.monotonic())
        self._numbers[name] = number + 1
        return number + 1

    def deliveries(self) -> dict[str, list[int]]:
        """The numbers of all that has come, by sender, in the order of arrival."""
        self._take()
        found: dict[str, list[int]] = {}
        for message in self.taken:
            packets = message.packets
            if len(packets) > 3 and packets[1] == TAG:
                found.setdefault(packets[2], []).append(packets[3])
        return found


if __name__ == "__main__":
    serve(Witness())
