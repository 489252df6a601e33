"""
The package as its users have it: built from a clean copy of the tree, and installed into virtual
environments of its own. And programs of such an environment, as processes.

Everything is made once per run, when it is first asked for, below one temporary folder that is
removed at the end::

    built()         the wheel, the source distribution, and the copy that they were built from
    fresh(python)   an environment with what the package needs, but without the package
    installed()     an environment with the wheel, for tests that only use it

No process that is started here can see the tree: it runs in another folder, in an environment that
does not contain it, and without the variables that lead an interpreter to other code. What tells
pip where to get packages from, its own variables and its configuration, is left as it is.

Times are in seconds.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest

from tests.integration.driver import moments
from tests.integration.reference import PROJECT

#: What a program may take before a test fails. Nearly everything takes a second; the rest is for
#: busy machines.
PATIENCE = 30.0

#: What pip may take, which has to fetch what the package needs.
PIP_PATIENCE = 300.0

#: The Pythons that are supported, and looked for.
SUPPORTED = ("3.11", "3.12", "3.13")

#: The one that runs the tests.
RUNNING = "{}.{}".format(*sys.version_info)

#: Says which Python it is, if it can make virtual environments. Some systems' cannot.
_PROBE = "import ensurepip, sys, venv; print('{}.{}'.format(*sys.version_info))"

#: Calls the build backend where it is: pip has no command for source distributions.
_MAKE_SDIST = "import setuptools.build_meta, sys; setuptools.build_meta.build_sdist(sys.argv[1])"


def surroundings(**more: str) -> dict[str, str]:
    """
    The environment variables of a process, without those that lead an interpreter to other code.

    :param more: variables to add.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "PY2P_")) and name != "VIRTUAL_ENV"
    }
    return {**kept, **more}


@functools.cache
def scratch() -> Path:
    """The folder for everything, outside the tree."""
    folder = Path(tempfile.mkdtemp(prefix="py2p-installed-")).resolve()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if folder.is_relative_to(PROJECT):
        raise SkipTest(f"temporary files lie inside the tree, in {folder}")
    # Some programs run as another user.
    folder.chmod(0o755)
    return folder


def new_folder(purpose: str) -> Path:
    """An empty folder, outside the tree."""
    folder = Path(tempfile.mkdtemp(prefix=purpose + "-", dir=scratch()))
    folder.chmod(0o755)
    return folder


def run(
    command: Sequence[str | Path],
    cwd: Path,
    timeout: float = PATIENCE,
    variables: dict[str, str] | None = None,
    **how: Any,
) -> subprocess.CompletedProcess[str]:
    """
    Run a program to its end.

    :param variables: environment variables to add.
    :param how: more for `subprocess.run`.
    :raises subprocess.TimeoutExpired: it does not end.
    """
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=surroundings(**(variables or {})),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        **how,
    )


def must_run(command: Sequence[str | Path], cwd: Path, timeout: float = PIP_PATIENCE) -> str:
    """
    Run a step of the preparations.

    :return: what it has printed.
    :raises AssertionError: it has failed.
    """
    done = run(command, cwd, timeout)
    if done.returncode != 0:
        shown = " ".join(map(str, command))
        raise AssertionError(f"{shown}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


# --- Environments ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Environment:
    """
    A virtual environment.

    :ivar directory: where it lies.
    :ivar version: of its Python, such as "3.12".
    """

    directory: Path
    version: str

    def program(self, name: str) -> Path:
        """Where a program is that the environment has, or would have."""
        return self.directory / ("Scripts" if os.name == "nt" else "bin") / name

    def run(
        self, name: str, *arguments: str, cwd: Path | None = None, **how: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run one of its programs to its end, in a folder outside the tree."""
        return run([self.program(name), *arguments], cwd or new_folder("cwd"), **how)

    def python(self, source: str) -> str:
        """
        Run a piece of Python.

        :return: what it has printed.
        :raises AssertionError: it has failed.
        """
        return must_run([self.program("python"), "-c", source], new_folder("cwd"), PATIENCE)

    def pip(self, *arguments: str | Path) -> str:
        """
        Run pip.

        :raises AssertionError: it has failed.
        """
        return must_run([self.program("python"), "-m", "pip", *arguments], scratch())

    @property
    def packages(self) -> Path:
        """Its folder of installed packages."""
        return Path(self.python("import sysconfig; print(sysconfig.get_path('purelib'))").strip())


@functools.cache
def pythons() -> dict[str, Path]:
    """
    The interpreters at hand that are supported and can make virtual environments, by version.

    They are looked for in PATH and among those that pyenv has installed; the one that runs the
    tests comes first.
    """
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    folders += sorted((root / "versions").glob("*/bin"), reverse=True)
    found = {RUNNING: Path(sys.executable)}
    for version in SUPPORTED:
        candidates = [folder / f"python{version}" for folder in folders]
        for candidate in candidates:
            if version in found or not os.access(candidate, os.X_OK):
                continue
            done = run([candidate, "-c", _PROBE], scratch())
            if done.returncode == 0 and done.stdout.strip() == version:
                found[version] = candidate
    return found


def _new_environment(version: str, purpose: str) -> Environment:
    directory = scratch() / f"{purpose}-{version}"
    must_run([pythons()[version], "-m", "venv", directory], scratch())
    return Environment(directory, version)


@functools.cache
def fresh(version: str) -> Environment:
    """
    An environment with what the package requires, and without the package.

    Tests may install and uninstall there, and leave it as they found it.

    :param version: of Python; one of `pythons`.
    """
    environment = _new_environment(version, "fresh")
    # From the wheel's own metadata: what is missing there is missing here.
    environment.pip("install", "--quiet", built().wheel)
    environment.pip("uninstall", "--quiet", "--yes", "py2p_twisted")
    return environment


@functools.cache
def installed() -> Environment:
    """An environment with the wheel, which tests leave as it is."""
    # The builder has done its work; to make another environment would take as long again.
    environment = builder()
    environment.pip("install", "--quiet", built().wheel)
    return environment


# --- Distributions ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Built:
    """
    What was built.

    :ivar source: the copy of the tree that it was built from. Building leaves files there, so it
        is no copy any more.
    :ivar files: what was in that copy before, as relative paths.
    :ivar wheel: the wheel, built by pip.
    :ivar sdist: the source distribution.
    """

    source: Path
    files: frozenset[str]
    wheel: Path
    sdist: Path


def copy_of_the_tree(purpose: str) -> tuple[Path, frozenset[str]]:
    """
    Copy what is in version control, or might be, and nothing that tools have left behind.

    :return: the folder, and the files in it as relative paths.
    """
    command = ["git", "-c", f"safe.directory={PROJECT}", "ls-files"]
    try:
        done = run([*command, "-z", "-c", "-o", "--exclude-standard"], PROJECT)
    except FileNotFoundError as error:
        raise SkipTest("git, which says what belongs to the tree, is not installed") from error
    if done.returncode != 0:
        raise SkipTest(f"git cannot say what belongs to the tree: {done.stderr.strip()}")
    folder = new_folder(purpose)
    files = set()
    for name in filter(None, done.stdout.split("\0")):
        # What was just deleted is still listed.
        if (PROJECT / name).is_file():
            files.add(name)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, folder / name)
    return folder, frozenset(files)


def build_wheel(source: Path) -> Path:
    """
    Have pip build a wheel, in an environment of its own as it does for everybody.

    :param source: a folder, or a source distribution.
    """
    folder = new_folder("wheel")
    builder().pip("wheel", "--quiet", "--no-deps", f"--wheel-dir={folder}", source)
    (wheel,) = folder.glob("*.whl")
    return wheel


@functools.cache
def builder() -> Environment:
    """An environment with the build backend."""
    environment = _new_environment(RUNNING, "builder")
    environment.pip("install", "--quiet", "setuptools>=77")
    return environment


@functools.cache
def built() -> Built:
    """The wheel and the source distribution."""
    source, files = copy_of_the_tree("source")
    folder = new_folder("sdist")
    must_run([builder().program("python"), "-c", _MAKE_SDIST, folder], source)
    (sdist,) = folder.glob("*.tar.gz")
    return Built(source, files, build_wheel(source), sdist)


# --- Programs that run -----------------------------------------------------------


class Running:
    """
    A program that runs until it is ended. It is started at once.

    What it prints goes to files, which nobody has to empty and which are there when it is gone.

    :ivar folder: where it runs.
    :ivar began: when it was started, as `time.time` tells.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        folder: Path | None = None,
        variables: dict[str, str] | None = None,
    ) -> None:
        self.folder = folder or new_folder("running")
        handle, path = tempfile.mkstemp(prefix="out-", suffix=".log", dir=scratch())
        errors, errors_path = tempfile.mkstemp(prefix="err-", suffix=".log", dir=scratch())
        self._paths = (Path(path), Path(errors_path))
        self.began = time.time()
        try:
            self.process = subprocess.Popen(
                [str(word) for word in command],
                cwd=self.folder,
                env=surroundings(**(variables or {})),
                stdin=subprocess.DEVNULL,
                stdout=handle,
                stderr=errors,
            )
        finally:
            os.close(handle)
            os.close(errors)

    @property
    def out(self) -> str:
        """What it has written to standard output so far."""
        return self._paths[0].read_text(encoding="utf-8", errors="replace")

    @property
    def err(self) -> str:
        """What it has written to standard error so far."""
        return self._paths[1].read_text(encoding="utf-8", errors="replace")

    @property
    def printed(self) -> str:
        """Both."""
        return self.out + self.err

    @property
    def records(self) -> list[dict[str, Any]]:
        """The JSON objects that it has logged to standard output so far."""
        return records(self.out)

    def wait(self, timeout: float = PATIENCE) -> int:
        """
        Wait for its end.

        :return: its exit status; negative when a signal has ended it.
        :raises AssertionError: it does not end.
        """
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"still there after {timeout:g} s, having printed\n{self.printed}"
            ) from None

    def terminate(self, timeout: float = PATIENCE) -> int:
        """Ask it to end as a supervisor does, and wait for that; see `wait`."""
        self.process.terminate()
        return self.wait(timeout)

    def kill(self) -> None:
        """End it at once; may be repeated."""
        self.process.kill()
        self.process.wait()


def records(text: str) -> list[dict[str, Any]]:
    """
    The JSON objects in a log: one a line, each after the character that begins a record if it was
    Twisted who wrote them. A line that is not complete yet is left out.
    """
    lines = text.split("\n")[:-1]
    return [json.loads(line.lstrip("\x1e")) for line in lines if line.lstrip("\x1e")]


def wait_until(
    look: Callable[[], Any],
    what: str,
    timeout: float = PATIENCE,
    details: Callable[[], str] = str,
) -> Any:
    """
    Look until there is something to see.

    :param look: called again and again, until what it returns is true; that is returned.
    :param details: called for the text of the failure.
    :raises AssertionError: in vain.
    """
    for _ in moments(timeout):
        if seen := look():
            return seen
    raise AssertionError(f"waited {timeout:g} s in vain for {what}\n{details()}")
