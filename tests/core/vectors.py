"""
What py2p 0.6.757 really sends, frozen in ``vectors.json``.

The file writes every value with its type (``{"int": "5"}``, ``{"bin": "00ff"}``, ...), because
JSON itself cannot tell text from bytes; `value` turns that back into Python.
"""

import json
from pathlib import Path
from typing import Any

_FILE = json.loads(Path(__file__).with_name("vectors.json").read_text(encoding="utf-8"))

_READERS = {
    "str": str,
    "bin": bytes.fromhex,
    "int": int,
    "float": float,
    "bool": bool,
    "nil": lambda _: None,
    "array": lambda items: [value(item) for item in items],
    "map": lambda pairs: {value(key): value(item) for key, item in pairs},
}


def value(typed: dict[str, Any]) -> Any:
    """The Python value of a typed one."""
    ((kind, content),) = typed.items()
    return _READERS[kind](content)


class Vector:
    """
    One captured message.

    :ivar body: the MessagePack bytes; made from ``payload`` for the large ones, which the file
        describes by their hash alone.
    :ivar frame: the captured frame; ``None`` for the large ones.
    """

    def __init__(self, entry: dict[str, Any]) -> None:
        self.entry = entry
        self.name: str = entry["name"]
        self.flag: int = entry["main_flag"]
        self.sender: bytes | str = value(entry["sender"])
        self.time: int = entry["time"]
        self.compression: str = entry["compression"]
        self.id = bytes.fromhex(entry["id_sha256"])
        self.large = "payload_generator" in entry
        if self.large:
            self.payload: list[Any] = [0, bytes(i % 251 for i in range(70000))]
            self.body = self.frame = None
        else:
            self.payload = [value(item) for item in entry["payload"]]
            self.body = bytes.fromhex(entry["msgpack_hex"])
            self.frame = bytes.fromhex(entry["frame_hex"])


MESSAGES = [Vector(entry) for entry in _FILE["messages"]]
SMALL = [vector for vector in MESSAGES if not vector.large]
LARGE = [vector for vector in MESSAGES if vector.large]

TOLERATED_SENDER = value(_FILE["tolerated"]["sender"])
TOLERATED_TIME: int = _FILE["tolerated"]["time"]
TOLERATED_PAYLOAD = [value(item) for item in _FILE["tolerated"]["payload"]]
#: (name, frame, id)
TOLERATED = [
    (entry["name"], bytes.fromhex(entry["frame_hex"]), bytes.fromhex(entry["id_sha256"]))
    for entry in _FILE["tolerated"]["frames"]
]
#: (name, frame)
REJECTED = [(entry["name"], bytes.fromhex(entry["frame_hex"])) for entry in _FILE["rejected"]]

FLAGS: dict[str, int] = _FILE["flags"]
COMPRESSION_ORDER: list[str] = _FILE["compression_order"]
DEFAULT_PROTOCOL: list[str] = _FILE["default_protocol"]
PROTOCOL_IDS = _FILE["protocol_ids"]
BASE58 = [(int(entry["int"]), entry["text"]) for entry in _FILE["base58"]]
NODE_IDS = _FILE["node_ids"]
REQUEST_IDS = _FILE["request_ids"]
