"""
Run a page with real sockets: ``python -m tests.docs.live docs/tutorial.rst``.

Everything is as the page says, but for two things. The ports are such as the system gives,
on the loopback interface; what is printed shows those of the page. And as callbacks run in
threads of their own, what they print may come a moment later.

The exit status is 0 when the page tells the truth; if not, what is wrong is printed.
"""

from __future__ import annotations

import contextlib
import io
import re
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from py2p_twisted import base, mesh
from tests.docs.blocks import blocks_of
from tests.docs.stage import Session, matches, perform, run_source

#: Seconds that an output may take to come.
PATIENCE = 10.0

_HOST = "127.0.0.1"


class LiveSession(Session):
    """A session on the loopback interface."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"__name__": "__main__"}
        #: The port of the page -> the real one.
        self._ports: dict[int, int] = {}
        self._printed = io.StringIO()
        self._read = 0
        self._socket = self._make_class()

    def _make_class(self) -> type[mesh.mesh_socket]:
        session = self

        class mesh_socket(mesh.mesh_socket):  # noqa: N801 - as documented
            def __init__(self, addr: str, port: int, *args: Any, **options: Any) -> None:
                super().__init__(_HOST, session._ports.get(port, 0), *args, **options)
                if port:
                    listening: Any = self._service.ports[0].getHost()
                    session._ports[port] = listening.port

            def connect(self, addr: str, port: int, *args: Any) -> Any:
                if port not in session._ports:
                    session._ports[port] = _closed_port()
                return super().connect(_HOST, session._ports[port], *args)

        return mesh_socket

    @contextlib.contextmanager
    def dressed(self) -> Iterator[None]:
        """Only the sockets are replaced, for the sake of their ports."""
        with (
            mock.patch.object(mesh, "mesh_socket", self._socket),
            mock.patch.object(mesh, "MeshSocket", self._socket),
            contextlib.redirect_stdout(self._printed),
        ):
            yield

    def execute(
        self, source: str, where: str, mode: str, want: str
    ) -> tuple[BaseException | None, str]:
        """Run one statement, and wait until it has printed what it should."""
        with self.dressed():
            error = run_source(source, where, mode, self.names)
            until = time.monotonic() + PATIENCE
            while error is None and not matches(want, self._news()) and time.monotonic() < until:
                time.sleep(0.01)
            news = self._news()
        self._read = len(self._printed.getvalue())
        return error, news

    def _news(self) -> str:
        return self.shown(self._printed.getvalue()[self._read :])

    def shown(self, text: str) -> str:
        """With the ports of the page."""
        for documented, real in self._ports.items():
            text = re.sub(rf"\b{real}\b", str(documented), text)
        return text

    def close(self) -> None:
        """Close what the page has left open."""
        for value in list(self.names.values()):
            if isinstance(value, base.base_socket):
                value.close()  # type: ignore[attr-defined]


def _closed_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def main(arguments: list[str]) -> int:
    """Run the pages that are named."""
    problems: list[str] = []
    for name in arguments:
        ran, found = perform(
            blocks_of(Path(name).resolve()), LiveSession, excuses=("no-run", "no-live")
        )
        print(f"{name}: {ran} blocks, {len(found)} of their outputs differ")
        problems += found
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
