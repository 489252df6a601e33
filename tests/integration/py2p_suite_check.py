"""
The original's own test suite, run on our package.

Its modules ``test_base``, ``test_mesh`` and ``test_utils`` pass unchanged. None of their text is
kept here: it is copied, when these tests run, out of the environment where the original is
installed, into a package for the occasion::

    <temporary>/py2p/__init__.py        says that py2p.base, py2p.mesh and py2p.utils are ours
    <temporary>/py2p/test/test_*.py     the original's, as released

Besides that environment the suite wants pytest, pytest-benchmark and u-msgpack-python beside our
package. (Its fourth module that could matter, for the C extension, needs one that was never
released; chord and sync are not part of this project.)

The suite listens on fixed ports, 5100 to 5900, and mostly sleeps.
"""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.integration.reference import PROJECT, ReferenceMissing, find_reference

#: What the suite imports, and what to install for it.
_NEEDED = {
    "pytest": "pytest",
    "pytest_benchmark": "pytest-benchmark",
    "umsgpack": "u-msgpack-python",
}

#: Puts our modules where the suite looks for the original's.
_STAND_IN = """
import sys
from py2p_twisted import base, mesh, utils
for module in (base, mesh, utils):
    sys.modules[__name__ + "." + module.__name__.rpartition(".")[2]] = module
"""

#: Seconds for one part of the suite: it sleeps for most of a minute.
_TIMEOUT = 180.0

#: Where a packet to the world outside would leave this machine is asked with this address, which
#: is set aside for documentation. Nothing is sent.
_ELSEWHERE = ("198.51.100.1", 9)


def outward_address() -> str | None:
    """This machine's address in the network that it is in, or None if it is in none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_ELSEWHERE)
        except OSError:
            return None
        address: str = probe.getsockname()[0]
    return None if address.startswith("127.") else address


class SuiteTests(SynchronousTestCase):
    """Each module of the original's suite that concerns the mesh passes on our package."""

    def setUp(self) -> None:
        missing = [
            name for module, name in _NEEDED.items() if importlib.util.find_spec(module) is None
        ]
        if missing:
            raise SkipTest(
                f"py2p's own tests need {', '.join(missing)} in the environment that runs ours"
            )
        try:
            suite = find_reference().package / "test"
        except ReferenceMissing as reason:
            raise SkipTest(str(reason)) from reason

        self.directory = Path(self.mktemp()).resolve()
        package = self.directory / "py2p"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(_STAND_IN)
        (package / "test").mkdir()
        (package / "test" / "__init__.py").touch()
        for name in ("test_base.py", "test_mesh.py", "test_utils.py"):
            shutil.copy(suite / name, package / "test" / name)
        # An empty configuration, or pytest would search the folders above for one and find the
        # project's.
        (self.directory / "pytest.ini").write_text("[pytest]\n")

        self.environment = dict(os.environ)
        path = [str(self.directory), str(PROJECT), os.environ.get("PYTHONPATH", "")]
        self.environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Start pytest on a part of the suite."""
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

        def end() -> None:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

        self.addCleanup(end)
        return process

    def finish(self, process: subprocess.Popen[str]) -> None:
        """Wait for a part of the suite, which has to pass."""
        try:
            output, _ = process.communicate(timeout=_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            self.fail(f"py2p's tests did not end in {_TIMEOUT:g} s:\n{output[-10_000:]}")
        self.assertEqual(process.returncode, 0, f"py2p's tests failed:\n{output[-20_000:]}")

    def test_base(self) -> None:
        """The original's tests of ids, values, compression and messages pass on ours."""
        self.finish(self.begin("py2p/test/test_base.py"))

    def test_mesh(self) -> None:
        """
        The original's tests of propagation, refusal, handlers and replies pass on ours, plain and
        over TLS.
        """
        # Side by side, because they sleep nearly all the time; they use different ports.
        halves = [
            self.begin("py2p/test/test_mesh.py", "-k", which)
            for which in ("Plaintext", "not Plaintext")
        ]
        for half in halves:
            self.finish(half)

    def test_utils(self) -> None:
        """The original's tests of the small tools pass on ours."""
        self.finish(self.begin("py2p/test/test_utils.py", "-k", "not lan_ip"))

    def test_lan_address(self) -> None:
        """
        The original's test of the LAN address passes on ours: it is one that the machine's own
        tools list.
        """
        address = outward_address()
        if address is None:
            raise SkipTest("this machine has no address but the loopback one, which does not count")
        if shutil.which("ifconfig") is None:
            self.provide_ifconfig(address)
        self.finish(self.begin("py2p/test/test_utils.py", "-k", "lan_ip"))

    def provide_ifconfig(self, address: str) -> None:
        """Put a stand-in for ``ifconfig`` on the path: few machines still have it."""
        tools = self.directory / "tools"
        tools.mkdir()
        shim = tools / "ifconfig"
        listing = "exec ip -4 addr" if shutil.which("ip") else f"echo 'inet addr:{address}'"
        shim.write_text(f"#!/bin/sh\n{listing}\n")
        shim.chmod(0o755)
        self.environment["PATH"] = os.pathsep.join(
            [str(tools), self.environment.get("PATH", os.defpath)]
        )
