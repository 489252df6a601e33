"""What keeps a node from starting is found out beforehand, and said in one line."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import socket
import sys
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.daemon import start
from py2p_twisted.daemon.configuration import Configuration, configure
from py2p_twisted.daemon.node import NodeService
from py2p_twisted.errors import BadArgument, CannotStart
from py2p_twisted.net.state import fcntl
from tests.daemon.toys import ToyReactor


class ToySocket:
    """
    A socket that binds as the test wants it.

    :cvar made: all of them, as (family, what they were bound to, whether that was given back).
    :cvar fails: what `bind` raises, by port.
    :cvar no_family: a family that this machine does not have.
    """

    made: list[ToySocket]
    fails: dict[int, Exception]
    no_family: int | None

    @classmethod
    def reset(cls) -> None:
        cls.made, cls.fails, cls.no_family = [], {}, None

    def __init__(self, family: int = socket.AF_INET, kind: int = 0, *more: Any) -> None:
        if family == self.no_family:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        self.family = family
        self.bound: tuple[Any, ...] = ()
        self.listening = False
        self.closed = False
        self.options: list[tuple[int, ...]] = []
        self.made.append(self)

    def __enter__(self) -> ToySocket:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def close(self) -> None:
        self.closed = True

    def setsockopt(self, *option: int) -> None:
        self.options.append(option)

    def bind(self, address: tuple[Any, ...]) -> None:
        host, port = address[:2]
        if not 0 <= port < 65536:
            raise OverflowError("bind(): port must be 0-65535.")
        if (":" in host) != (self.family == socket.AF_INET6):
            raise socket.gaierror(-9, "Address family for hostname not supported")
        if port in self.fails:
            raise self.fails[port]
        self.bound = address

    def listen(self, backlog: int = 0) -> None:
        self.listening = True


def busy(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class StartTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        ToySocket.reset()
        self.patch(socket, "socket", ToySocket)
        self.reactor = ToyReactor()

    def configuration(self, **given: Any) -> Configuration:
        given.setdefault("listen", ["tcp:4444"])
        given.setdefault("advertise", "10.0.0.1:4444")
        return configure(given)

    def cannot(self, configuration: Configuration) -> str:
        """Why not: one line."""
        error = self.assertRaises(CannotStart, start.make_service, self.reactor, configuration)
        text = str(error)
        self.assertTrue(text.isprintable(), repr(text))
        return text

    @property
    def bound(self) -> list[tuple[Any, ...]]:
        return [probe.bound for probe in ToySocket.made]


class CheckTests(StartTestCase):
    def test_a_service(self) -> None:
        """When nothing is in the way there is a service, which has not begun to listen."""
        made = start.make_service(self.reactor, self.configuration(network="alerts"))
        self.assertIsInstance(made, NodeService)
        self.assertEqual(made.network.name, "alerts")
        self.assertEqual(self.reactor.ports, [])
        self.assertEqual(made.factory.reactor, self.reactor)

    def test_ports_are_tried(self) -> None:
        """Every port is taken for a moment, as it will be taken later, and given back."""
        start.check(
            self.reactor,
            self.configuration(
                listen=["tcp:1", "tcp:2:interface=127.0.0.1", "tcp6:3", r"tcp6:4:interface=\:\:1"]
            ),
        )
        self.assertEqual(
            [(probe.family, *probe.bound[:2]) for probe in ToySocket.made],
            [
                (socket.AF_INET, "0.0.0.0", 1),
                (socket.AF_INET, "127.0.0.1", 2),
                (socket.AF_INET6, "::", 3),
                (socket.AF_INET6, "::1", 4),
            ],
        )
        for probe in ToySocket.made:
            self.assertTrue(probe.closed and probe.listening)
            if sys.platform != "win32":
                self.assertIn((socket.SOL_SOCKET, socket.SO_REUSEADDR, 1), probe.options)

    def test_an_interface_decides(self) -> None:
        """Twisted listens on IPv6 when the interface is, whatever the string begins with."""
        start.check(self.reactor, self.configuration(listen=[r"tcp:4444:interface=\:\:1"]))
        self.assertEqual([probe.family for probe in ToySocket.made], [socket.AF_INET6])

    def test_what_is_not_tried(self) -> None:
        """Sockets that are files and others' types are left alone."""
        listen = ["tcp:0:interface=127.0.0.1", "unix:/run/py2p.sock"]
        start.check(self.reactor, self.configuration(listen=listen))
        self.assertEqual([probe.bound for probe in ToySocket.made], [("127.0.0.1", 0)])

    def test_its_own_port(self) -> None:
        """A port that the node itself has taken by another --listen is not somebody else's."""
        bind = ToySocket.bind

        def taken_from_now_on(probe: ToySocket, where: tuple[Any, ...]) -> None:
            bind(probe, where)
            ToySocket.fails[4444] = busy(errno.EADDRINUSE)

        self.patch(ToySocket, "bind", taken_from_now_on)
        text = self.cannot(self.configuration(listen=["tcp:4444", "tcp6:4444"]))
        self.assertIn("--listen=tcp:4444 has that port already", text)
        self.assertIn("tcp6:4444 alone", text)

    def test_nothing_of_that(self) -> None:
        """A node may also listen nowhere."""
        start.check(self.reactor, self.configuration(listen=[]))
        self.assertEqual(ToySocket.made, [])

    def test_over_tls(self) -> None:
        """A port that will speak TLS is tried as well."""
        ToySocket.fails[4444] = busy(errno.EADDRINUSE)
        self.assertIn("port 4444 is in use", self.cannot(self.configuration(tls=True)))

    def test_busy(self) -> None:
        """A port that somebody has: which one, and what to do."""
        ToySocket.fails[2] = busy(errno.EADDRINUSE)
        text = self.cannot(self.configuration(listen=["tcp:1", "tcp:2", "tcp:3"]))
        self.assertIn("port 2 is in use", text)
        self.assertIn("--listen", text)
        self.assertTrue(all(probe.closed for probe in ToySocket.made))

    def test_other_causes(self) -> None:
        """Privileges and addresses have lines of their own."""
        for number, words in (
            (errno.EACCES, "needs privileges"),
            (errno.EADDRNOTAVAIL, "no address of this machine"),
            (errno.EPERM, "Operation not permitted"),
        ):
            ToySocket.fails[4444] = busy(number)
            configuration = self.configuration(listen=["tcp:4444:interface=192.0.2.1"])
            self.assertIn(words, self.cannot(configuration))

    def test_an_interface_that_is_a_name(self) -> None:
        """An interface that is no address is named."""
        ToySocket.fails[4444] = socket.gaierror(-2, "Name or service not known")
        text = self.cannot(self.configuration(listen=["tcp:4444:interface=eth0"]))
        self.assertIn("Name or service not known", text)
        self.assertIn("eth0", text)

    def test_ports_that_there_are_not(self) -> None:
        """Not even a port beyond all ports gives a traceback."""
        configuration = self.configuration()
        settings = configuration.settings["listen"]
        for port in ("tcp:70000", "tcp:-1"):
            configuration.settings["listen"] = type(settings)((port,), settings.source)
            self.assertIn(port.partition(":")[2], self.cannot(configuration))

    def test_no_ipv6(self) -> None:
        """A machine without IPv6 says so."""
        ToySocket.no_family = socket.AF_INET6
        text = self.cannot(self.configuration(listen=["tcp6:4444"]))
        self.assertIn("4444", text)
        self.assertIn(os.strerror(errno.EAFNOSUPPORT), text)

    def test_endpoints_of_other_packages(self) -> None:
        """A type that nobody has, or that refuses its arguments, is named with its reason."""
        for description in ("nonesuch:4444", "ssl:4444:privateKey=/nonexistent.pem", "ssl:4444"):
            text = self.cannot(self.configuration(listen=[description]))
            self.assertTrue(text.startswith(f"--listen={description}: "), text)
            self.assertGreater(len(text), len(f"--listen={description}: "), text)

    def test_no_address_to_tell(self) -> None:
        """Who listens on nothing that others could dial is told which option says where."""
        text = self.cannot(configure({"listen": ["unix:/run/py2p.sock"]}))
        self.assertIn("--advertise", text)

    def test_programs(self) -> None:
        """A program that is not there is noticed before the first message."""
        self.assertIn("--exec=/nonexistent/run: ", self.cannot(self.configuration(exec="/nonexistent/run -v")))  # fmt: skip
        self.assertIn("no such program", self.cannot(self.configuration(exec="nonesuch-program")))

    def test_a_folder_is_no_program(self) -> None:
        """Nor is what cannot be executed one."""
        folder = self.mktemp()
        os.makedirs(folder)
        plain = os.path.join(folder, "plain")
        with open(plain, "w"):
            pass
        for path in (folder, plain):
            configuration = self.configuration(exec=f"'{os.path.abspath(path)}'")
            self.assertIn("executable", self.cannot(configuration))

    def test_programs_that_are_there(self) -> None:
        """A program is found as a shell finds it."""
        folder = os.path.abspath(self.mktemp())
        os.makedirs(folder)
        path = os.path.join(folder, "on-alert")
        with open(path, "w"):
            pass
        os.chmod(path, 0o755)
        self.patch(os, "environ", {**os.environ, "PATH": folder})
        for command in ("on-alert -v", path):
            made = start.make_service(self.reactor, self.configuration(exec=command))
            self.assertIsNotNone(made.programs)

    def test_a_state_directory(self) -> None:
        """It is tried before the process goes to the background, and free again afterwards."""
        configuration = self.configuration(**{"state-dir": self.mktemp()})
        first, second = (start.make_service(self.reactor, configuration) for _ in range(2))
        assert first.state is not None
        assert second.state is not None
        self.assertEqual(first.state.identity, second.state.identity)
        if fcntl is not None:
            second.state.open()
            self.addCleanup(second.state.close)
            self.assertIn("in use by the process", self.cannot(configuration))
        nowhere = self.configuration(**{"state-dir": "/nowhere/at/all"})
        self.assertIn("/nowhere/at/all cannot be made", self.cannot(nowhere))

    def test_what_the_service_refuses(self) -> None:
        """Missing libraries and arguments that only the service refuses are one line too."""
        for error in (BadArgument("not like this"), ImportError("pip install cryptography")):

            def refuse(*arguments: Any, error: Exception = error) -> None:
                raise error

            self.patch(start, "NodeService", refuse)
            self.assertEqual(self.cannot(self.configuration()), str(error))


class HookTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.printed: list[object] = []
        self.patch(sys, "excepthook", lambda kind, value, trace: self.printed.append(value))
        start.one_line_for_mistakes()

    def show(self, error: BaseException) -> str:
        """What the interpreter would print of an error that nobody has caught."""
        stream = io.StringIO()
        with contextlib.redirect_stderr(stream):
            sys.excepthook(type(error), error, None)
        return stream.getvalue()

    def test_one_line(self) -> None:
        """What keeps a node from starting is printed as one line, without where in Twisted."""
        text = self.show(CannotStart("port 4444 is in use"))
        self.assertEqual(text, "py2p: port 4444 is in use\n")
        self.assertEqual(self.printed, [])

    def test_everything_else(self) -> None:
        """Other errors are printed as before."""
        errors = [ValueError("a mistake of ours"), KeyboardInterrupt(), BadArgument("x")]
        for error in errors:
            self.assertEqual(self.show(error), "")
        self.assertEqual(self.printed, errors)

    def test_twice(self) -> None:
        """Two nodes in one process print a line once."""
        start.one_line_for_mistakes()
        self.assertEqual(self.show(CannotStart("no")).count("\n"), 1)
