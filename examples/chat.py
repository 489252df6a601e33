"""
A chat without a server: what you type goes to everybody.

Start the first node, then others, each in a terminal of its own::

    python examples/chat.py --port 4444
    python examples/chat.py --port 4445 --peer 127.0.0.1:4444

/who asks who is there. Ctrl-C ends it, and so does the end of the input (Ctrl-D).

This is an ordinary script: it reads lines in its main thread, and a callback prints messages.
"""

import argparse
import os
import sys

from py2p_twisted import base, mesh
from py2p_twisted.errors import MeshError


def address(text: str) -> tuple[str, int]:
    """Read ``host:port``."""
    host, _, port = text.rpartition(":")
    return host, int(port)


def say(line: str) -> None:
    """Print a line. Strangers' text must not move the cursor, or ring the bell."""
    print("".join(one if one.isprintable() else "?" for one in line), flush=True)


def talk(sock: mesh.mesh_socket, name: str) -> None:
    """Send line by line, until the input ends."""
    for line in map(str.strip, sys.stdin):
        if line == "/who":
            sock.send("who")
        elif line:
            sock.send("chat", name, line)


def main() -> int:
    """Join, and talk."""
    parser = argparse.ArgumentParser(description="A chat without a server.")
    parser.add_argument("--host", default="0.0.0.0", help="where to listen (everywhere)")
    parser.add_argument("--port", type=int, default=4444, help="0 takes any free port")
    parser.add_argument("--peer", type=address, metavar="HOST:PORT", help="a node to join by")
    parser.add_argument("--name", default=os.environ.get("USER", "somebody"), help="who you are")
    parser.add_argument("--ssl", action="store_true", help="keep out who reads along")
    options = parser.parse_args()

    def show(sock: mesh.mesh_socket) -> None:
        for msg in sock.recv(100):
            match list(msg.packets[1:]):  # others may send other things
                case ["chat", str(name), str(text)]:
                    say(f"{name}: {text}")
                case ["who"]:
                    msg.reply("here", options.name)
                case ["here", str(name)]:
                    say(f"* {name} is here")

    prot = base.Protocol("chat", "SSL" if options.ssl else "Plaintext")
    try:
        with mesh.mesh_socket(options.host, options.port, prot=prot) as sock:
            sock.on("message", show)
            print("listening on {}:{}".format(*sock.out_addr), flush=True)
            if options.peer:
                peer = sock.connect(*options.peer).wait(15)
                print("connected to", peer, flush=True)
            talk(sock, options.name)
    except KeyboardInterrupt:
        pass
    except (MeshError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print("left", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
