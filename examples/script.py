"""
A chat without a server: what you type goes to everybody.

Start the first node, then others, each in a terminal of its own::

    python examples/script.py --port 4444
    python examples/script.py --port 4445 --peer 127.0.0.1:4444

This is an ordinary script. It reads lines in its main thread; messages are printed by a
callback, in the thread that the socket has for callbacks. Ctrl-C ends it, and so does the
end of the input (Ctrl-D).
"""

import argparse
import sys

from py2p_twisted import base, mesh
from py2p_twisted.errors import MeshError


def address(text: str) -> tuple[str, int]:
    """Read ``host:port``."""
    host, _, port = text.rpartition(":")
    return host, int(port)


def show(sock: mesh.mesh_socket) -> None:
    """Print what has come in. Other programs of this network may send other things."""
    for msg in sock.recv(100):
        kind, name, text = [*msg.packets[1:], None, None, None][:3]
        if kind == "chat":
            print(f"{name}: {text}", flush=True)


def main() -> int:
    """Join, and send line by line."""
    parser = argparse.ArgumentParser(description="A chat without a server.")
    parser.add_argument("--host", default="0.0.0.0", help="where to listen (everywhere)")
    parser.add_argument("--port", type=int, default=4444, help="0 takes any free port")
    parser.add_argument("--peer", type=address, metavar="HOST:PORT", help="a node to join by")
    parser.add_argument("--name", default="somebody")
    parser.add_argument("--ssl", action="store_true", help="keep out who reads along")
    options = parser.parse_args()

    prot = base.Protocol("chat", "SSL" if options.ssl else "Plaintext")
    try:
        sock = mesh.mesh_socket(options.host, options.port, prot=prot)
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    with sock:
        sock.on("message", show)
        print("listening on {}:{}".format(*sock.out_addr), flush=True)
        try:
            if options.peer:
                peer = sock.connect(*options.peer).wait(15)
                print("connected to", peer, flush=True)
            for line in sys.stdin:
                sock.send("chat", options.name, line.rstrip("\n"))
        except KeyboardInterrupt:
            pass
        except (MeshError, OSError) as error:
            print(error, file=sys.stderr)
            return 1
    print("left", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
