"""
A mesh socket in an asyncio program: connecting, receiving and replying are awaited.

Start the first node, then others, each in a terminal of its own::

    python examples/asyncio_app.py --port 4444
    python examples/asyncio_app.py --port 4445 --peer 127.0.0.1:4444

Every node asks all others how they are, every few seconds, and prints their answers.
Ctrl-C ends it.
"""

import argparse
import asyncio
import sys

from py2p_twisted import base, mesh
from py2p_twisted.errors import MeshError, ReplyFailed


def address(text: str) -> tuple[str, int]:
    """Read ``host:port``."""
    host, _, port = text.rpartition(":")
    return host, int(port)


def inbox_of(sock: mesh.mesh_socket) -> asyncio.Queue[base.message]:
    """A queue of asyncio's that gets every message. Call this before connecting."""
    loop = asyncio.get_running_loop()
    inbox: asyncio.Queue[base.message] = asyncio.Queue()

    def pass_on(sock: mesh.mesh_socket) -> None:
        # In the socket's callback thread, hence threadsafe.
        msg = sock.recv()
        if msg is not None:
            loop.call_soon_threadsafe(inbox.put_nowait, msg)

    sock.on("message", pass_on)
    return inbox


async def ask(sock: mesh.mesh_socket, every: float) -> None:
    """Ask everybody, again and again."""
    while True:
        sock.send("how are you?")
        await asyncio.sleep(every)


async def answer(inbox: asyncio.Queue[base.message]) -> None:
    """Answer questions, and print answers."""
    while True:
        msg = await inbox.get()
        if msg.packets == [base.flags.broadcast, "how are you?"]:
            try:
                await msg.reply("fine")
            except ReplyFailed as error:
                print(f"an answer was lost: {error}", flush=True)
        elif msg.packets[0] == base.flags.whisper:
            print(f"{str(msg.sender)[2:10]} says: {msg.packets[1]}", flush=True)


async def run(options: argparse.Namespace) -> None:
    """Join, then ask and answer until cancelled."""
    prot = base.Protocol("how-are-you", "SSL" if options.ssl else "Plaintext")
    with mesh.mesh_socket(options.host, options.port, prot=prot) as sock:
        inbox = inbox_of(sock)
        print("listening on {}:{}".format(*sock.out_addr), flush=True)
        if options.peer:
            peer = await sock.connect(*options.peer)
            print("connected to", peer, flush=True)
        await asyncio.gather(ask(sock, options.every), answer(inbox))


def main() -> int:
    """Read the options, and run until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Nodes that ask each other how they are.")
    parser.add_argument("--host", default="0.0.0.0", help="where to listen (everywhere)")
    parser.add_argument("--port", type=int, default=4444, help="0 takes any free port")
    parser.add_argument("--peer", type=address, metavar="HOST:PORT", help="a node to join by")
    parser.add_argument("--every", type=float, default=5.0, metavar="SECONDS")
    parser.add_argument("--ssl", action="store_true", help="keep out who reads along")
    options = parser.parse_args()
    try:
        asyncio.run(run(options))
    except KeyboardInterrupt:
        print("left", flush=True)
    except (MeshError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
