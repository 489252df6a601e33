"""
Find, or install, the original: py2p 0.6.757 in a Python environment of its own.

It cannot live beside us. It runs on Python 3.11 at most (``ssl.wrap_socket`` is gone from 3.12),
brings an old ``pyee``, and pins a MessagePack that cannot read maps on Python 3.10 or newer, so a
later one is put over it: the bytes on the wire are the same.

Looked for, in this order:

1. the interpreter named by the environment variable ``PY2P_REFERENCE_PYTHON``;
2. a virtual environment in ``.reference-env/`` at the root of the project (not in version
   control).

An interpreter counts only when it has really imported the right version. To make the second one::

    python -m tests.integration.reference --install .reference-env
"""

import argparse
import functools
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

#: The release that the wire specification describes, and the last one of the 0.6 protocol.
VERSION = "0.6.757"

VARIABLE = "PY2P_REFERENCE_PYTHON"
PROJECT = Path(__file__).resolve().parents[2]
DIRECTORY = PROJECT / ".reference-env"

#: This module's name for people: when run with -m, ``__name__`` is ``__main__``.
_MODULE = "tests.integration.reference"

#: Where a relative path was meant to start from: trial works in a folder of its own later on.
_STARTED_IN = Path.cwd()

#: The newest Python minor version that the original runs on.
_PYTHON = (3, 11)

#: One pip call each. The second ignores what py2p's metadata pins, so it cannot be part of the
#: first.
_REQUIREMENTS = (
    (f"py2p=={VERSION}", "cryptography"),
    ("--no-deps", "u-msgpack-python==2.8.0"),
)

#: Imports all that the tests use, TLS included, and says what was found.
_PROBE = """
import json, ssl, umsgpack, cryptography, py2p, py2p.base, py2p.mesh
ssl.wrap_socket
print(json.dumps([py2p.__version__, py2p.__file__, umsgpack.__version__]))
"""

#: Seconds for one import of the original; a cold disk on a busy machine is slow.
_PROBE_TIMEOUT = 60.0


class ReferenceMissing(Exception):
    """There is no usable py2p 0.6.757; the text says what was tried and how to get it."""


@dataclass(frozen=True, slots=True)
class Reference:
    """An interpreter that has the original, and where its package lies."""

    python: Path
    package: Path


def environment() -> dict[str, str]:
    """
    The environment variables for processes that run the original.

    What points an interpreter at other code is left out: our own checkout on the path could
    shadow what the original imports.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def probe(python: Path) -> Reference:
    """
    Make sure that an interpreter has the original, by letting it import it.

    :raises ReferenceMissing: it does not run, or has another version.
    """
    command = [str(python), "-P", "-c", _PROBE]
    try:
        result = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_PROBE_TIMEOUT,
            env=environment(),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ReferenceMissing(f"{python} does not run: {error}") from error
    if result.returncode != 0:
        last_line = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ReferenceMissing(f"{python} cannot import py2p: {last_line}")
    version, package, packer = json.loads(result.stdout)
    if version != VERSION:
        raise ReferenceMissing(f"{python} has py2p {version}, wanted {VERSION}")
    if int(packer.split(".")[1]) < 8:
        raise ReferenceMissing(
            f"{python} has u-msgpack-python {packer}, which cannot read maps; wanted 2.8"
        )
    return Reference(python, Path(package).parent)


@functools.cache
def _reference_at(python: Path) -> Reference:
    """:func:`probe`, asked once per run: many tests want to know, and an import takes a while."""
    return probe(python)


def find_reference() -> Reference:
    """
    The original, if it is installed.

    :raises ReferenceMissing: with what to do about it.
    """
    named = os.environ.get(VARIABLE)
    if named:
        # Whoever names an interpreter means that one: no silent fall-back to another.
        return _reference_at(_STARTED_IN / named)
    python = interpreter_in(DIRECTORY)
    if not python.exists():
        raise ReferenceMissing(
            f"py2p {VERSION} is not installed: run 'python -m {_MODULE} --install "
            f"{DIRECTORY.name}' at the root of the project, or name an interpreter that has it "
            f"in {VARIABLE}"
        )
    return _reference_at(python)


def interpreter_in(directory: Path) -> Path:
    """Where a virtual environment keeps its interpreter."""
    if os.name == "nt":
        return directory / "Scripts" / "python.exe"
    return directory / "bin" / "python"


def _suitable_pythons() -> list[str]:
    """Interpreters that the original can run on, the one running this first."""
    found = [sys.executable] if sys.version_info[:2] == _PYTHON else []
    named = shutil.which("python{}.{}".format(*_PYTHON))
    return [*found, named] if named and named not in found else found


def install(directory: Path) -> Reference:
    """
    Make a virtual environment with the original in it; one that is already complete is left as it
    is.

    :raises ReferenceMissing: no suitable Python, or a step failed.
    """
    python = interpreter_in(directory)
    if python.exists():
        try:
            return probe(python)
        except ReferenceMissing:
            pass  # half made, or something else: made anew below

    failures = ["no Python {}.{} was found".format(*_PYTHON)]
    for base in _suitable_pythons():
        # Some systems ship a Python whose venv module cannot make an environment with pip, hence
        # the loop.
        steps = [[base, "-m", "venv", "--clear", str(directory)]]
        steps += [
            [str(python), "-m", "pip", "install", "--quiet", *wanted] for wanted in _REQUIREMENTS
        ]
        for step in steps:
            if subprocess.run(step, env=environment(), check=False).returncode != 0:
                failures.append(f"'{' '.join(step)}' failed")
                break
        else:
            return probe(python)
    raise ReferenceMissing(f"py2p {VERSION} could not be installed: {failures[-1]}")


def main(arguments: list[str]) -> int:
    """Say where the original is, or put it there."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {_MODULE}", description=f"Find or install py2p {VERSION}."
    )
    parser.add_argument(
        "--install", metavar="DIR", type=Path, help="make an environment with it in DIR"
    )
    options = parser.parse_args(arguments)
    try:
        reference = install(options.install) if options.install else find_reference()
    except ReferenceMissing as error:
        print(error, file=sys.stderr)
        return 1
    print(f"py2p {VERSION}: {reference.python}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
