"""A configuration that is read again: what changes at once, what waits, and mistakes."""

from __future__ import annotations

import datetime
import errno
import os
import signal
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import SSL4ServerEndpoint
from twisted.logger import LogLevel
from twisted.python.logfile import LogFile
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.control.server import ControlFactory
from py2p_twisted.control.words import Words
from py2p_twisted.core.settings import LIVE, Settings
from py2p_twisted.daemon import descriptors, logs, reload
from py2p_twisted.daemon.configuration import COMMAND_LINE, ConfigurationError, Setting
from py2p_twisted.daemon.node import NodeService
from py2p_twisted.errors import BadArgument
from py2p_twisted.net.service import MeshService
from tests.daemon.test_node import NodeTestCase


def write_certificate(path: Path, name: str) -> None:
    """A key and a certificate for it, in one file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    called = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(called)
        .issuer_name(called)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    text = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    path.write_bytes(text + certificate.public_bytes(pem))


class ReloadTestCase(NodeTestCase):
    """A node whose configuration is a file that the test writes."""

    def setUp(self) -> None:
        super().setUp()
        self.path = Path(self.mktemp()).resolve()
        self.addCleanup(logs.LEVEL.set, "info")

    def write(self, text: str) -> None:
        self.path.write_text('listen = "tcp:4444:interface=10.0.0.1"\n' + text)

    def running(self, text: str = "", **given: Any) -> NodeService:
        """A node that was started with a file."""
        self.write(text)
        node = self.make(config=str(self.path), listen=["tcp:4444:interface=10.0.0.1"], **given)
        node.privilegedStartService()
        node.startService()
        self.events.clear()
        return node

    def reloads(self) -> list[tuple[LogLevel, str]]:
        """What the log says of it."""
        lines = zip(self.named("reload"), self.texts("reload"), strict=True)
        return [(event["log_level"], text) for event, text in lines]

    def texts(self, name: str) -> list[str]:
        from twisted.logger import formatEvent

        return [formatEvent(event) for event in self.named(name)]

    def pinned(self, node: NodeService) -> set[tuple[str, int]]:
        """What is dialled for ever."""
        book = node.factory.node.dialer._book
        return {address for address, entry in book.items() if entry.pinned}


class ChangeTests(ReloadTestCase):
    def test_nothing(self) -> None:
        """It is said, once."""
        node = self.running("max-peers = 5")
        done = node.reload()
        self.assertEqual((done.changed, done.waiting, done.certificates), ((), (), ()))
        self.assertEqual(
            self.reloads(), [(LogLevel.info, "reload: the configuration is what it was")]
        )

    def test_peers(self) -> None:
        """New ones are dialled for ever, those that are gone no more; links stay."""
        node = self.running('join = ["10.0.0.2:4444", "10.0.0.3:4444"]')
        self.peer(2)
        self.network.server(("10.0.0.1", 4444)).listen(node.factory)
        self.network.advance(5)
        self.assertEqual(len(node.routing_table), 1)
        self.write('join = ["10.0.0.3:4444", "10.0.0.4:4444"]')
        fourth = self.peer(4)
        done = node.reload()
        (change,) = done.changed
        self.assertEqual(
            (change.name, change.before, change.after),
            ("join", "10.0.0.2:4444, 10.0.0.3:4444", "10.0.0.3:4444, 10.0.0.4:4444"),
        )
        self.network.advance(5)
        self.assertEqual(self.pinned(node), {("10.0.0.3", 4444), ("10.0.0.4", 4444)})
        self.assertEqual(len(node.routing_table), 2)
        self.assertIn(fourth.id, node.routing_table)
        self.assertEqual(node.reload().changed, ())

    def test_limits(self) -> None:
        """Those that can be changed are, in all parts of the node; others wait, and go on waiting."""
        node = self.running("max-peers = 5\n[limits]\nactive_view = 4")
        self.write("max-peers = 6\n[limits]\nhandshake_timeout = 3\nactive_view = 7")
        done = node.reload()
        self.assertEqual(
            [(one.name, one.before, one.after) for one in done.changed],
            [("max-peers", "5", "6"), ("limit handshake_timeout", "10", "3")],
        )
        waiting = [(one.name, one.before, one.after) for one in done.waiting]
        self.assertEqual(waiting, [("limit active_view", "4", "7")])
        settings = node.factory.node.dialer._settings
        self.assertEqual(
            (settings.max_inbound, settings.handshake_timeout, settings.active_view), (6, 3.0, 4)
        )
        self.assertEqual(node.status["limits"]["max_inbound"], 6)
        self.assertEqual(
            self.reloads(),
            [
                (LogLevel.info, "reload: max-peers is 6 now, it was 5"),
                (LogLevel.info, "reload: limit handshake_timeout is 3 now, it was 10"),
                (
                    LogLevel.warn,
                    "reload: limit active_view = 7 needs a restart, until then it is 4",
                ),
            ],
        )
        again = node.reload()
        self.assertEqual((again.changed, again.waiting), ((), done.waiting))
        # Back to what it is running with: nothing waits any more.
        self.write("max-peers = 6\n[limits]\nhandshake_timeout = 3\nactive_view = 4")
        self.assertEqual(node.reload().waiting, ())
        # A limit that is not in the file any more has its default again.
        self.write("max-peers = 6\n[limits]\nactive_view = 4")
        node.reload()
        self.assertEqual(settings.handshake_timeout, Settings().handshake_timeout)

    def test_large_numbers(self) -> None:
        """They are shown to the last digit."""
        node = self.running("[limits]\nretention_bytes = 67108864")
        self.write("[limits]\nretention_bytes = 67108865")
        (change,) = node.reload().waiting
        self.assertEqual((change.before, change.after), ("67108864", "67108865"))

    def test_levels(self) -> None:
        """Of the log, and of what goes by."""
        node = self.running()
        self.write('debug-level = 4\nlog-level = "warn"')
        levels = [(one.name, one.before, one.after) for one in node.reload().changed]
        self.assertEqual(levels, [("debug-level", "0", "4"), ("log-level", "info", "warn")])
        self.assertTrue(node.factory.watch_traffic)
        self.assertIsNotNone(node.factory.node.trace)
        written: list[Any] = []
        observer = logs.LEVEL.filter(written.append)
        observer({"log_level": LogLevel.info, "log_namespace": "x"})
        observer({"log_level": LogLevel.warn, "log_namespace": "x"})
        self.assertEqual(len(written), 1)
        self.write("")
        node.reload()
        self.assertFalse(node.factory.watch_traffic)
        self.assertIsNone(node.factory.node.trace)
        observer({"log_level": LogLevel.info, "log_namespace": "x"})
        self.assertEqual(len(written), 2)

    def test_the_command_line_stays(self) -> None:
        """And wins."""
        node = self.running("max-peers = 5", max_peers="7")
        self.write("max-peers = 6")
        self.assertEqual(node.reload().changed, ())
        self.assertEqual(node.configuration.settings["max-peers"], Setting(7, COMMAND_LINE))

    def test_what_takes_a_restart(self) -> None:
        """Whatever is not known to be safe."""
        node = self.running()
        self.write('network = "other"\nmax-message = "2 MiB"\nexec = ["/bin/cat"]\n')
        done = node.reload()
        self.assertEqual(done.changed, ())
        self.assertEqual([one.name for one in done.waiting], ["network", "max-message", "exec"])
        self.assertEqual(node.network.name, "mesh")

    def test_peers_of_another_network(self) -> None:
        """They are dialled when the node is in that network."""
        node = self.running('join = ["10.0.0.2:4444"]')
        self.write('join = ["10.0.0.3:4444"]\ntls = true')
        self.assertEqual([one.name for one in node.reload().waiting], ["join", "tls"])
        self.assertEqual(self.pinned(node), {("10.0.0.2", 4444)})
        self.write('join = ["10.0.0.3:4444"]')
        self.assertEqual([one.name for one in node.reload().changed], ["join"])

    def test_from_another_directory(self) -> None:
        """A daemon may have gone to another one since."""
        here = os.getcwd()
        self.addCleanup(os.chdir, here)
        os.chdir(self.path.parent)
        self.write("max-peers = 5")
        node = self.make(config=self.path.name)
        node.startService()
        os.chdir("/")
        self.write("max-peers = 6")
        self.assertEqual([one.name for one in node.reload().changed], ["max-peers"])

    def test_without_a_file(self) -> None:
        """There is nothing to read, and that is fine."""
        node = self.start()
        self.assertEqual(node.reload().changed, ())

    def test_only_what_is_safe(self) -> None:
        """Nobody changes another setting by accident."""
        settings = Settings()
        self.assertRaises(BadArgument, settings.change, "max_message", 2048)
        self.assertLessEqual(set(LIVE), set(Settings.__dataclass_fields__))
        # What is built to its measure when a node is made cannot be among them.
        self.assertFalse(set(LIVE) & {"seen_capacity", "retention", "book_size", "passive_view"})

    def test_more_peers_than_files(self) -> None:
        """It is said at once, not when somebody is turned away."""
        self.patch(descriptors, "limit", lambda: 300)
        node = self.running("max-peers = 5")
        self.write("max-peers = 5000")
        node.reload()
        (event,) = self.named("descriptors")
        self.assertEqual((event["log_level"], event["limit"]), (LogLevel.warn, 300))


class MistakeTests(ReloadTestCase):
    def refused(self, node: NodeService, text: str) -> str:
        """What is logged of a file that is none."""
        self.write(text)
        self.events.clear()
        before = (dict(node.configuration), node.status["limits"], self.pinned(node))
        self.assertRaises(ConfigurationError, node.reload)
        after = (dict(node.configuration), node.status["limits"], self.pinned(node))
        self.assertEqual(before, after)
        ((level, line),) = self.reloads()
        self.assertEqual(level, LogLevel.error)
        self.assertTrue(line.startswith("reload: nothing has changed: "), line)
        return line

    def test_mistakes(self) -> None:
        """Each is one line, and nothing changes, not even what stands before it."""
        node = self.running('join = ["10.0.0.2:4444"]')
        good = 'join = ["10.0.0.3:4444"]\nmax-peers = 9\n'
        for text, words in (
            ("netwrok = 1", "unknown key 'netwrok', did you mean 'network'?"),
            ('max-message = "tiny"', "max-message: expected a size"),
            ("max-message = ", "not TOML"),
            ("[limits]\ndead_after = 1", "dead_after (1 s) must be more than ping_interval (2 s)"),
            ('exec = ["/nonexistent/x"]', "no such program"),
        ):
            self.assertIn(words, self.refused(node, good + text))

    def test_a_file_that_is_gone(self) -> None:
        node = self.running()
        self.path.unlink()
        self.assertRaises(ConfigurationError, node.reload)
        self.assertIn(f"--config={self.path}: No such file", self.reloads()[0][1])


class CertificateTests(ReloadTestCase):
    def test_a_new_one(self) -> None:
        """Whoever connects from now on is shown it; a file that is damaged changes nothing."""
        pem = Path(self.mktemp()).resolve()
        write_certificate(pem, "first")
        self.write("")
        listen = f"ssl:4445:interface=10.0.0.1:privateKey={pem}"
        node = self.make(config=str(self.path), listen=["tcp:4444:interface=10.0.0.1", listen])
        self.reactor.listenSSL = lambda port, factory, **_: self.reactor.listenTCP(port, factory)
        node.startService()
        endpoint = node._listen[1]
        assert isinstance(endpoint, SSL4ServerEndpoint)
        context = endpoint._sslContextFactory
        before = context.getContext()
        write_certificate(pem, "second")
        self.assertIs(context.getContext(), before)
        self.assertEqual(node.reload().certificates, (listen,))
        fresh = context.getContext()
        self.assertIsNot(fresh, before)

        # Nonsense, a file that is gone, and a key that is not that of the certificate.
        other = pem.with_suffix(".other")
        write_certificate(other, "other")
        mixed = pem.read_text().partition("-----BEGIN CERT")[0]
        mixed += "-----BEGIN CERT" + other.read_text().partition("-----BEGIN CERT")[2]
        self.write("max-peers = 5")
        for text in ("nonsense", None, mixed):
            pem.unlink() if text is None else pem.write_text(text)
            self.events.clear()
            self.assertRaises(ConfigurationError, node.reload)
            ((level, line),) = self.reloads()
            self.assertEqual(level, LogLevel.error)
            self.assertIn(f"--listen={listen}: ", line)
            self.assertTrue(line.isprintable())
        self.assertIs(context.getContext(), fresh)
        self.assertNotEqual(node.factory.settings.max_inbound, 5)

    def test_none(self) -> None:
        """Certificates that a node makes itself are not read from anywhere."""
        node = self.running("tls = true")
        self.assertEqual(node.reload().certificates, ())


class LogFileTests(ReloadTestCase):
    def test_moved_away(self) -> None:
        """A new one is begun."""
        path = Path(self.mktemp()).resolve()
        self.patch(os, "environ", {**os.environ, logs.LOG_FILE_VARIABLE: str(path)})
        made: list[LogFile] = []
        make = LogFile.fromFullPath
        self.patch(
            logs.LogFile, "fromFullPath", lambda *a, **k: made.append(make(*a, **k)) or made[-1]
        )
        logs.json_to_file()
        self.addCleanup(made[0].close)
        node = self.running()
        path.rename(path.with_suffix(".1"))
        node.reload()
        self.assertTrue(path.exists())

    def test_a_file_that_cannot_be_opened(self) -> None:
        """What is being written is written on; it is one line."""

        def fail() -> None:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))

        self.patch(logs, "reopen", fail)
        node = self.running()
        node.reload()
        self.assertIn("the log file cannot be opened anew: Permission denied", self.said())


class WordTests(ReloadTestCase):
    def test_what_is_answered(self) -> None:
        node = self.running("max-peers = 5")
        words = Words(node)
        self.write('max-peers = 6\nnetwork = "x"')
        self.assertEqual(
            words.do("reload", {}),
            {
                "changed": [{"name": "max-peers", "before": "5", "after": "6"}],
                "waiting": [{"name": "network", "before": "mesh", "after": "x"}],
                "certificates": [],
            },
        )
        self.write("nonsense = 1")
        from py2p_twisted.control.lines import ControlError

        error = self.assertRaises(ControlError, words.do, "reload", {})
        self.assertEqual(error.reason, "bad configuration")
        self.assertIn("nothing has changed: ", str(error))

    def test_the_reference(self) -> None:
        """It has every key of the answer."""
        path = Path(reload.__file__).parents[2] / "docs/reference/control.rst"
        row = path.read_text().partition("``reload`` ")[2].partition("\n``")[0]
        for key in Words(self.running()).do("reload", {}):  # type: ignore[union-attr]
            self.assertIn(f"``{key}``", row)

    def test_a_node_without_a_configuration(self) -> None:
        """One that somebody's program is."""
        from py2p_twisted.control.lines import ControlError

        mesh = self.peer(2)
        self.assertIsInstance(mesh, MeshService)
        words = ControlFactory(self.reactor, mesh).words
        error = self.assertRaises(ControlError, words.do, "reload", {})
        self.assertEqual(error.reason, "no configuration")


class TerminalTests(SynchronousTestCase):
    def test_whether_there_is_one(self) -> None:
        """The system says so, unless it has no file to say it with."""

        def failing(number: int) -> Any:
            def fail(*_: object) -> int:
                raise OSError(number, os.strerror(number))

            return fail

        for number, found in ((errno.ENXIO, False), (errno.ENOENT, False), (errno.EMFILE, True)):
            self.patch(os, "open", failing(number))
            self.assertEqual(reload._has_terminal(), found)


class SignalTests(ReloadTestCase):
    """What SIGHUP means; no signal is sent here."""

    def setUp(self) -> None:
        super().setUp()
        self.handler: Any = None
        self.before: Any = signal.SIG_DFL
        self.raised: list[int] = []
        self.closed = False

        def remember(_number: int, handler: Any) -> None:
            self.handler = handler

        self.patch(signal, "signal", remember)
        self.patch(signal, "getsignal", lambda _: self.before)
        self.patch(signal, "raise_signal", self.raised.append)
        self.session = 7
        self.patch(reload, "_has_terminal", lambda: not self.closed)
        self.patch(os, "getsid", lambda _: self.session)
        self.reactor.callFromThread = lambda call, *arguments: call(*arguments)

    def test_a_reload(self) -> None:
        """While its terminal is open, it is a request like any other."""
        node = self.running("max-peers = 5")
        self.write("max-peers = 6")
        reload.on_hangup(self.reactor, node)
        self.handler(signal.SIGHUP, None)
        self.assertEqual((node.factory.settings.max_inbound, self.raised), (6, []))
        self.write("nonsense = 1")
        self.handler(signal.SIGHUP, None)
        self.assertEqual(self.reloads()[-1][0], LogLevel.error)

    def test_its_terminal_is_closed(self) -> None:
        """Then it ends in good order, unless nohup has started it."""
        node = self.running("max-peers = 5")
        for before, raised in ((signal.SIG_DFL, [signal.SIGTERM]), (signal.SIG_IGN, [])):
            self.before, self.closed, self.raised[:] = before, False, []
            reload.on_hangup(self.reactor, node)
            self.closed = True
            self.handler(signal.SIGHUP, None)
            self.assertEqual(self.raised, raised)

    def test_a_daemon(self) -> None:
        """It has left its terminal behind, which nobody has closed."""
        reload.on_hangup(self.reactor, self.running())
        self.closed, self.session = True, 8
        self.handler(signal.SIGHUP, None)
        self.assertEqual((self.raised, len(self.reloads())), ([], 1))

    def test_no_terminal_from_the_beginning(self) -> None:
        """Under a supervisor."""
        self.closed = True
        reload.on_hangup(self.reactor, self.running())
        self.handler(signal.SIGHUP, None)
        self.assertEqual((self.raised, len(self.reloads())), ([], 1))

    def test_too_early_and_too_late(self) -> None:
        """Nothing is there to reload."""
        self.write("max-peers = 5")
        node = self.make(config=str(self.path))
        reload.on_hangup(self.reactor, node)
        self.handler(signal.SIGHUP, None)
        node.startService()
        node.stopService()
        self.events.clear()
        self.handler(signal.SIGHUP, None)
        self.assertEqual(self.reloads(), [])

    def test_no_such_signal(self) -> None:
        """On Windows."""
        self.patch(reload, "signal", object())
        reload.on_hangup(self.reactor, self.running())
