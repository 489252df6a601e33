"""
Where the blocks of a page are run: in memory, on a clock that only waiting turns.

`perform` takes a page's blocks through one session after the other. What the documents
import is replaced underneath them: sockets and services get transports in memory, and
``reactor``, ``time.sleep`` and ``asyncio.run`` ones that turn the clock. All that is between
those is the real thing.
"""

from __future__ import annotations

import asyncio
import contextlib
import doctest
import errno
import io
import random
import threading
import time
import traceback
import unittest
from collections.abc import Callable, Coroutine, Iterable, Iterator
from ipaddress import ip_address, ip_network
from typing import Any
from unittest import mock

import twisted.internet
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)

import py2p_twisted.net
import py2p_twisted.net.service
from py2p_twisted import base, mesh, reactor_thread
from py2p_twisted.core.network import Address, Network
from py2p_twisted.net.service import MeshService
from py2p_twisted.net.tls import Credentials, credentials_for
from py2p_twisted.testing.memory import MemoryNetwork
from py2p_twisted.testing.mesh import EPOCH
from tests.docs.blocks import Block
from tests.mesh.support import StillReactor, StillSocket, World

#: What this machine's LAN address is, in here.
LAN = "192.168.1.20"

#: Seconds that ``reactor.run()`` runs, and that a program may wait altogether. Then somebody
#: presses Ctrl-C, which is how programs end that wait for ever; a session must not.
PATIENCE = 60.0

#: How far the clock is turned at a time.
_STEP = 0.05

_CHECKER = doctest.OutputChecker()
_FLAGS = doctest.ELLIPSIS

_MADE_UP = [ip_network(text) for text in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")]


def is_made_up(host: str) -> bool:
    """Whether an address is set aside for documents, so that a node may be made up for it."""
    try:
        ip = ip_address(host)
    except ValueError:
        return host.removesuffix(".").endswith((".example", "example.com", "example.org"))
    return ip.version == 4 and any(ip in network for network in _MADE_UP)


# --- the world --------------------------------------------------------------------------------


class _Listening(dict[Address, IProtocolFactory]):
    """Who listens where; who listens everywhere is found at each of this machine's addresses."""

    def get(self, address: Address, default: Any = None) -> Any:
        host, port = address
        if host in ("localhost", LAN) or host.startswith("127."):
            default = super().get(("0.0.0.0", port), default)
        return super().get(("127.0.0.1" if host == "localhost" else host, port), default)


class StageReactor(StillReactor):
    """A reactor whose ``run`` lets a minute pass."""

    def __init__(self) -> None:
        super().__init__()
        self.network: MemoryNetwork
        self._calls = threading.Lock()
        self._stopped = False
        self._before_shutdown: list[Callable[[], Any]] = []

    def callFromThread(self, function: Callable[..., object], *args: Any) -> None:
        with self._calls:
            self.callLater(0, function, *args)

    def callWhenRunning(self, function: Callable[..., object], *args: Any) -> None:
        self.callLater(0, function, *args)

    def addSystemEventTrigger(
        self, phase: str, event: str, function: Callable[..., Any], *args: Any
    ) -> None:
        self._before_shutdown.append(lambda: function(*args))

    def removeSystemEventTrigger(self, trigger: Any) -> None:
        """It does no harm."""

    def run(self, installSignalHandlers: bool = True) -> None:
        self._stopped = False
        until = self.seconds() + PATIENCE
        while not self._stopped and self.seconds() < until:
            self.network.advance(_STEP)
        triggers, self._before_shutdown = self._before_shutdown, []
        for trigger in triggers:
            trigger()
        self.network.advance(1)

    def stop(self) -> None:
        self._stopped = True

    def listenTCP(
        self, port: int, factory: IProtocolFactory, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        endpoint = _Careful(self.network, (interface or "0.0.0.0", port))
        listening: list[Any] = []
        endpoint.listen(factory).addBoth(listening.append)
        if not hasattr(listening[0], "getHost"):
            listening[0].raiseException()
        return listening[0]  # type: ignore[no-any-return]


class _Careful:
    """A server endpoint that notices when its port is taken."""

    def __init__(
        self, network: MemoryNetwork, address: Address, credentials: Credentials | None = None
    ) -> None:
        self._network = network
        self._address = address
        self._endpoint = network.server(address, credentials)

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        if self._address in self._network._listening:
            reason = OSError(errno.EADDRINUSE, "Address already in use")
            return fail(CannotListenError(*self._address, reason))
        return self._endpoint.listen(factory)


class TurningCondition(threading.Condition):
    """A condition that nobody waits for: instead the clock is turned until it has come."""

    def __init__(self, world: StageWorld) -> None:
        super().__init__(threading.RLock())
        self._world = world
        self._told = False

    def wait(self, timeout: float | None = None) -> bool:
        self._told = False
        # A rest of next to nothing has to move the clock all the same.
        left = PATIENCE if timeout is None else max(timeout, 1e-6)
        while not self._told and left > 0:
            self._world.be_patient(min(_STEP, left))
            left -= _STEP
        return self._told

    def notify(self, n: int = 1) -> None:
        self._told = True

    def notify_all(self) -> None:
        self._told = True


class StageWorld(World):
    """A machine with a LAN address, and whatever the documents dial."""

    clock: StageReactor

    def __init__(self) -> None:
        super().__init__()
        self.clock = StageReactor()
        self.network = MemoryNetwork(self.clock)
        self.network._listening = _Listening()
        self.clock.network = self.network
        self._next_port = 50_000
        self._patience = PATIENCE
        self.made_up: list[StillSocket] = []

    def be_patient(self, seconds: float) -> None:
        """Wait, but not for ever."""
        self._patience -= seconds
        if self._patience < 0:
            self._patience = PATIENCE
            raise KeyboardInterrupt
        self.advance(seconds)

    def free_port(self) -> int:
        self._next_port += 1
        return self._next_port

    def server(self, address: Address, credentials: Credentials | None) -> IStreamServerEndpoint:
        return _Careful(self.network, address, credentials)  # type: ignore[return-value]

    def client(
        self, here: Address, there: Address, credentials: Credentials | None, network: Network
    ) -> IStreamClientEndpoint:
        """An endpoint that dials, and behind an address of the documents finds a node."""
        if is_made_up(there[0]) and self.network._listening.get(there) is None:
            prot = (network.name, network.encryption)
            self.made_up.append(
                StillSocket(self, *there, prot=prot, out_addr=there, max_outgoing=0)
            )
        return self.network.client(here, there, credentials)


# --- what the documents get -------------------------------------------------------------------


def _sockets(world: StageWorld) -> type[mesh.mesh_socket]:
    """The class that documents find as ``mesh.mesh_socket``."""

    class mesh_socket(StillSocket):  # noqa: N801 - as documented
        def __init__(self, addr: str, port: int, *args: Any, **options: Any) -> None:
            options.pop("reactor", None)
            options.setdefault("max_outgoing", mesh.max_outgoing)
            super().__init__(world, addr, port or world.free_port(), *args, **options)
            for owner, name in (
                (self, "_table_changed"), (self._inbox, "_changed"), (self._handover, "_room"),
            ):  # fmt: skip
                setattr(owner, name, TurningCondition(world))

        def _server_endpoint(
            self, addr: str, port: int, credentials: Credentials | None
        ) -> IStreamServerEndpoint:
            return world.server((addr or "0.0.0.0", port), credentials)

        def _client_endpoint(
            self, credentials: Credentials | None
        ) -> Callable[[Address, float], IStreamClientEndpoint]:
            network = Network(*self.protocol)
            return lambda there, _: world.client(self._here, there, credentials, network)

        def connect(self, *args: Any, **options: Any) -> Any:
            return self._turning(super().connect(*args, **options))

        def _reply_to(self, *args: Any, **options: Any) -> Any:
            return self._turning(super()._reply_to(*args, **options))

        def _send_confirmed(self, *args: Any, **options: Any) -> Any:
            return self._turning(super()._send_confirmed(*args, **options))

        def _turning(self, pending: Any) -> Any:
            if not pending.done():
                pending._condition = TurningCondition(world)
            return pending

    mesh_socket.__qualname__ = "mesh_socket"
    return mesh_socket


def _services(world: StageWorld) -> type[MeshService]:
    """The class that documents find as ``MeshService``."""

    class Service(MeshService):
        def __init__(self, reactor: Any, network: Any = "mesh", **options: Any) -> None:
            which = Network(network) if isinstance(network, str) else network
            credentials = credentials_for(which)
            here = (LAN, world.free_port())
            clock = world.clock
            if reactor is clock:
                options.setdefault(
                    "endpoint_for", lambda there, _: world.client(here, there, credentials, which)
                )
                for name, tool in (
                    ("now", clock.seconds), ("wall", lambda: EPOCH + clock.seconds()),
                    ("rng", random.Random(here[1])), ("salt", str(here)),
                ):  # fmt: skip
                    options.setdefault(name, tool)
            super().__init__(reactor, network, **options)

    Service.__qualname__ = Service.__name__ = "MeshService"
    return Service


class _StillLoop(asyncio.SelectorEventLoop):
    """An asyncio loop on the world's clock."""

    def __init__(self, world: StageWorld) -> None:
        super().__init__()
        self._world = world
        self._until = world.clock.seconds() + PATIENCE
        self.call_soon(self._turn)

    def time(self) -> float:
        return self._world.clock.seconds()

    def _turn(self) -> None:
        if self.time() > self._until:
            self.stop()
            return
        self._world.advance(_STEP)
        self.call_soon(self._turn)


def _run_asyncio(world: StageWorld, main: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=lambda: _StillLoop(world)) as runner:
        return runner.run(main)


# --- a session --------------------------------------------------------------------------------


class Session:
    """
    The names and the world of one page, or of a part of it.

    This one is in memory; `tests.docs.live` has another.
    """

    def __init__(self) -> None:
        self.world = StageWorld()
        self.names: dict[str, Any] = {"__name__": "__main__"}

    @contextlib.contextmanager
    def dressed(self) -> Iterator[None]:
        """What documents import is replaced in here."""
        world, clock = self.world, self.world.clock
        socket, service = _sockets(world), _services(world)
        with contextlib.ExitStack() as stack:
            for module, name, value in (
                (mesh, "mesh_socket", socket),
                (mesh, "MeshSocket", socket),
                (mesh, "monotonic", clock.seconds),
                (reactor_thread, "monotonic", clock.seconds),
                (py2p_twisted.net, "MeshService", service),
                (py2p_twisted.net.service, "MeshService", service),
                (py2p_twisted.net.service, "lan_address", lambda: LAN),
                (time, "sleep", world.advance),
                (time, "time", lambda: EPOCH + clock.seconds()),
                (asyncio, "run", lambda main: _run_asyncio(world, main)),
            ):
                stack.enter_context(mock.patch.object(module, name, value))
            stack.enter_context(mock.patch.object(twisted.internet, "reactor", clock, create=True))
            yield

    def execute(
        self, source: str, where: str, mode: str, want: str
    ) -> tuple[BaseException | None, str]:
        """
        Run one statement, or a program.

        :return: what it has raised and what it has printed.
        """
        with self.dressed(), contextlib.redirect_stdout(io.StringIO()) as printed:
            error = run_source(source, where, mode, self.names)
            self.world.settle()
        return error, printed.getvalue()

    def shown(self, text: str) -> str:
        """What was printed or raised, as the page would show it."""
        return text

    def run(self, block: Block) -> Iterator[str]:
        """Run one block; what is not as the page says comes back as texts."""
        mode = "single" if block.is_session else "exec"
        before = list(self.names.values())
        for example in block.examples():
            where = f"{block.page.name}:{block.line + example.lineno}"
            error, got = self.execute(example.source, where, mode, example.want)
            if mode == "exec" and isinstance(error, KeyboardInterrupt):
                error = None
            raised = "".join(traceback.format_exception_only(error)) if error else ""
            raised = self.shown(raised)
            if error is not None and example.exc_msg is None:
                yield f"{where}: raised {raised}{_trace(error)}"
            elif example.exc_msg is not None:
                if not _CHECKER.check_output(example.exc_msg, raised, _FLAGS):
                    yield f"{where}: should raise {example.exc_msg}and raised {raised or 'nothing'}"
            elif mode == "single" and not matches(example.want, got):
                yield f"{where}: should print\n{example.want}and printed\n{got}"
        yield from self._run_tests(before)

    def _run_tests(self, before: list[Any]) -> Iterator[str]:
        """Test cases that a block has defined are run, of course."""
        for name, value in list(self.names.items()):
            if not isinstance(value, type) or not issubclass(value, unittest.TestCase):
                continue
            if value.__module__ != "__main__" or any(value is old for old in before):
                continue
            result = unittest.TestResult()
            unittest.defaultTestLoader.loadTestsFromTestCase(value).run(result)
            if not result.testsRun:
                yield f"{name} has no tests"
            for case, text in result.failures + result.errors:
                yield f"{case} fails:\n{text}"

    def close(self) -> None:
        """End whatever the page has left running."""
        with self.dressed():
            for value in [*self.names.values(), *self.world.made_up]:
                if isinstance(value, base.base_socket):
                    value.close()  # type: ignore[attr-defined]
            self.world.settle()


def matches(want: str, got: str) -> bool:
    """Whether an output is the expected one."""
    return _CHECKER.check_output(want, got, _FLAGS)


def run_source(source: str, where: str, mode: str, names: dict[str, Any]) -> BaseException | None:
    """Execute code of a page; a program that ends by itself, and well, has raised nothing."""
    try:
        exec(compile(source, f"<{where}>", mode, dont_inherit=True), names)
    except SystemExit as end:
        return end if end.code else None
    except BaseException as error:
        return error
    return None


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_tb(error.__traceback__)[-3:])


def perform(
    blocks: Iterable[Block],
    make_session: Callable[[], Session] = Session,
    excuses: Iterable[str] = ("no-run",),
) -> tuple[int, list[str]]:
    """
    Run the blocks of a page.

    :param excuses: comments that excuse a block.
    :return: how many were run, and what was not as the page says.
    """
    problems: list[str] = []
    session, ran = make_session(), 0
    try:
        for block in blocks:
            if block.session:
                session.close()
                session = make_session()
            if block.include is None and not any(word in block.comments for word in excuses):
                problems += session.run(block)
                ran += 1
    finally:
        session.close()
    return ran, problems
