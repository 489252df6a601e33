"""
Where a node can be talked with: what is a place, and what becomes of what is there already.
"""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from py2p_twisted.control import places
from py2p_twisted.control.places import TcpPlace, UnixPlace, default_place, place, sockets_of
from py2p_twisted.errors import BadArgument

if not places.HAVE_UNIX:
    raise SkipTest("there are no Unix sockets here")

RUNTIME = {"XDG_RUNTIME_DIR": "/run/user/7"}


class ReadingTests(SynchronousTestCase):
    def test_paths(self) -> None:
        """With or without saying that it is one."""
        for text in ("/run/x.sock", "unix:/run/x.sock"):
            self.assertEqual(place(text), UnixPlace("/run/x.sock"))
        self.assertEqual(place("x.sock"), UnixPlace("x.sock"))
        self.assertEqual(str(place("x" * 103)), "x" * 103)

    def test_ports(self) -> None:
        """Of the loopback interface; each says again what it was made of."""
        token = "/run/user/7/py2p/control-4500.token"
        self.assertEqual(place("tcp:127.0.0.1:4500", RUNTIME), TcpPlace("127.0.0.1", 4500, token))
        self.assertEqual(place("tcp:localhost:4500:token=t", {}), TcpPlace("127.0.0.1", 4500, "t"))
        six = place("tcp:[::1]:4500:token=a:b", {})
        self.assertEqual(six, TcpPlace("::1", 4500, "a:b"))
        self.assertEqual(place(str(six), {}), six)

    def test_what_is_none(self) -> None:
        """One line says what was expected."""
        for text, expected in (
            ("", "a path"),
            ("unix:", "a path"),
            ("a\0b", "a path"),
            ("\ud800", "a path"),
            ("x" * 200, "bytes, which is all that a socket takes"),
            ("tcp:4500", "tcp:127.0.0.1:PORT"),
            ("tcp:127.0.0.1:0", "a port from 1 to 65535"),
            ("tcp:127.0.0.1:65536", "a port from 1 to 65535"),
            ("tcp:127.0.0.1:x", "tcp:127.0.0.1:PORT"),
            ("tcp:0.0.0.0:4500", "a loopback address"),
            ("tcp:192.0.2.7:4500", "a loopback address"),
            ("tcp:[::]:4500", "a loopback address"),
            ("tcp:node.example:4500", "a loopback address"),
            ("tcp:127.0.0.1:4500", "token=FILE"),
        ):
            error = self.assertRaises(BadArgument, place, text, {})
            self.assertIn(expected, str(error))

    def test_without_unix_sockets(self) -> None:
        """A port is asked for, and nothing is done by default."""
        self.patch(places, "HAVE_UNIX", False)
        self.assertIn("tcp:", str(self.assertRaises(BadArgument, place, "x.sock", {})))
        self.assertIsNone(default_place("/var/lib/py2p", "mesh", 4444, RUNTIME))
        self.assertEqual(sockets_of(None, RUNTIME), (None, []))

    def test_defaults(self) -> None:
        """In the node's own folder, else in the user's, else nowhere."""
        self.assertEqual(
            default_place("/var/lib/py2p", "mesh", 4444, RUNTIME),
            UnixPlace("/var/lib/py2p/control.sock"),
        )
        self.assertEqual(
            default_place(None, "mesh", 4444, RUNTIME),
            UnixPlace("/run/user/7/py2p/mesh-4444.sock", shared=True),
        )
        self.assertIsNone(default_place(None, "mesh", 4444, {}))
        self.assertIsNone(default_place(None, "mesh", 4444, {"XDG_RUNTIME_DIR": ""}))

    def test_names_of_networks(self) -> None:
        """Whatever a network is called: a file in that folder, and another for another name."""
        texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)

        def file_of(name: str) -> str:
            made = default_place(None, name, 1, RUNTIME)
            assert made is not None
            return made.path

        @given(texts, texts)
        def check(one: str, other: str) -> None:
            path = file_of(one)
            self.assertEqual(os.path.dirname(os.path.normpath(path)), "/run/user/7/py2p")
            self.assertLess(len(os.fsencode(path)), 90)
            self.assertFalse(os.path.basename(path).startswith("."))
            self.assertEqual(path == file_of(other), one == other)

        check()


class FolderTestCase(SynchronousTestCase):
    """Tests in a folder of their own, with a name that is short enough for a socket."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir(parents=True)
        here = os.open(".", os.O_RDONLY)
        self.addCleanup(os.close, here)
        os.chdir(self.folder)
        self.addCleanup(os.fchdir, here)

    def bind(self, path: str) -> socket.socket:
        """A socket that somebody listens at."""
        made = socket.socket(socket.AF_UNIX)
        self.addCleanup(made.close)
        made.bind(path)
        made.listen(1)
        return made


class TakingTests(FolderTestCase):
    def take(self, where: UnixPlace) -> socket.socket:
        with places.taking(where):
            return self.bind(where.path)

    def test_a_new_one(self) -> None:
        """Nobody else can use it, nor the folder that was made for it."""
        before = os.umask(0o022)
        self.addCleanup(os.umask, before)
        self.take(UnixPlace("new/folder/x.sock"))
        self.assertEqual(stat.S_IMODE(os.stat("new/folder/x.sock").st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(os.stat("new/folder").st_mode), 0o700)
        self.assertEqual(os.umask(0o022), 0o022)

    def test_a_dead_one(self) -> None:
        """It is replaced."""
        self.bind("x.sock").close()
        self.assertFalse(places.answers("x.sock"))
        places.check(UnixPlace("x.sock"))
        self.assertTrue(os.path.exists("x.sock"))
        self.take(UnixPlace("x.sock"))
        self.assertTrue(places.answers("x.sock"))

    def test_a_live_one(self) -> None:
        """It is named, and left alone; one with too much to do as well."""
        listening = self.bind("x.sock")
        callers = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for caller in callers:
            self.addCleanup(caller.close)
            caller.setblocking(False)
            for look in (self.take, places.check):
                error = self.assertRaises(BadArgument, look, UnixPlace("x.sock"))
                self.assertIn(
                    "a node is there already that can be talked with at x.sock", str(error)
                )
            caller.connect_ex("x.sock")
        self.assertTrue(places.answers("x.sock"))
        listening.close()

    def test_what_is_no_socket(self) -> None:
        """It is not touched."""
        Path("x.sock").write_text("precious")
        os.symlink("x.sock", "link")
        self.bind("real.sock").close()
        os.symlink("real.sock", "other")
        for path in ("x.sock", "link", "other"):
            error = self.assertRaises(BadArgument, self.take, UnixPlace(path))
            self.assertIn("is no socket", str(error))
        self.assertEqual(Path("x.sock").read_text(), "precious")

    def test_two_at_once(self) -> None:
        """Only one of them may look at the same dead socket, and replace it; the other waits."""
        self.bind("x.sock").close()
        self.patch(places, "TURN", 0.0)
        with places.taking(UnixPlace("x.sock")):
            error = self.assertRaises(BadArgument, self.take, UnixPlace("y.sock"))
        self.assertIn("another node is just starting", str(error))
        self.patch(places, "TURN", 60.0)
        before = os.umask(0o022)
        self.addCleanup(os.umask, before)
        first = places.taking(UnixPlace("x.sock"))
        first.__enter__()
        waited: list[float] = []

        def sleep(seconds: float) -> None:
            waited.append(seconds)
            first.__exit__(None, None, None)

        with mock.patch("time.sleep", sleep):
            self.take(UnixPlace("y.sock"))
        self.assertEqual(len(waited), 1)
        self.assertEqual(os.umask(0o022), 0o022)

    def test_a_folder_that_others_may_enter(self) -> None:
        """The one for all nodes of a user has to be theirs alone."""
        os.mkdir("open", 0o755)
        os.chmod("open", 0o755)
        error = self.assertRaises(BadArgument, self.take, UnixPlace("open/x.sock", shared=True))
        self.assertIn("open is open to others: chmod 700 it", str(error))
        self.take(UnixPlace("open/x.sock"))

    def test_finding(self) -> None:
        """Those of a network, or all."""
        environ = {"XDG_RUNTIME_DIR": str(self.folder)}
        folder = str(self.folder / "py2p")
        self.assertEqual(sockets_of(None, environ), (folder, []))
        os.mkdir(folder)
        for name in ("mesh-1.sock", "mesh-22.sock", "a.b-1.sock", "mesh-x-1.sock", "axb-1.sock"):
            (self.folder / "py2p" / name).touch()
        for name in ("mesh-1.token", "mesh-.sock", "control-1.token"):
            (self.folder / "py2p" / name).touch()
        found = [os.path.basename(path) for path in sockets_of("mesh", environ)[1]]
        self.assertEqual(found, ["mesh-1.sock", "mesh-22.sock"])
        self.assertEqual(len(sockets_of("a.b", environ)[1]), 1)
        self.assertEqual(len(sockets_of(None, environ)[1]), 5)
        self.assertEqual(sockets_of(None, {}), (None, []))

    def test_tokens(self) -> None:
        """In a file that nobody else may read, which is replaced at once."""
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        for token in ("one", "two"):
            places.write_token("new/x.token", token)
            self.assertEqual(places.read_token("new/x.token"), token)
        self.assertEqual(stat.S_IMODE(os.stat("new/x.token").st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(os.stat("new").st_mode), 0o700)
        self.assertEqual(os.listdir("new"), ["x.token"])
