"""
Run the integration tests: ``python -m tests.integration [--require-...] [NAME...]``.

Without names every ``*_check.py`` of this folder runs. A name is a module's, with or without its
``_check``, and may go on to a class or a test: ``reference``, ``reference_check.PlainTests``,
``reference.PlainTests.test_whisper_is_not_relayed``.

Tests that need the original py2p, network namespaces, faketime, or Chromium skip where these are
missing. A build that has just installed them wants to hear about that instead:
``--require-reference``, ``--require-namespaces``, ``--require-faketime`` and
``--require-chromium`` make what is missing an error.

The exit status is trial's: 0 when nothing failed.
"""

import argparse
import sys
from pathlib import Path

from tests.integration.browser import ChromiumMissing, find_chromium
from tests.integration.clocks import FaketimeMissing, find_faketime
from tests.integration.namespaces import NamespacesMissing, find_namespaces
from tests.integration.reference import ReferenceMissing, find_reference

_MISSING = (ReferenceMissing, NamespacesMissing, FaketimeMissing, ChromiumMissing)

_SUFFIX = "_check"
_HERE = Path(__file__).resolve().parent


def available() -> list[str]:
    """
    The names of all test modules here, found anew each time so that nobody has to keep a list.
    """
    return sorted(path.stem for path in _HERE.glob(f"*{_SUFFIX}.py"))


def qualified(name: str, modules: list[str]) -> str:
    """
    Turn what was typed into what trial loads.

    :raises ValueError: no module here has that name.
    """
    module, dot, rest = name.partition(".")
    for candidate in (module, module + _SUFFIX):
        if candidate in modules:
            return f"{__package__}.{candidate}{dot}{rest}"
    raise ValueError(f"no test module {name!r} here; there are: {', '.join(modules)}")


def main(arguments: list[str]) -> None:
    """Hand the chosen modules to trial, with a reporter that names each test; never returns."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.integration", description="Run the integration tests."
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="a module, class or test (default: all modules)"
    )
    parser.add_argument(
        "--require-reference",
        action="store_true",
        help="fail, instead of skipping, when the original py2p is missing",
    )
    for option, what in (
        ("--require-namespaces", "no network namespaces can be made"),
        ("--require-faketime", "faketime is missing"),
        ("--require-chromium", "Chromium is missing"),
    ):
        parser.add_argument(
            option, action="store_true", help=f"fail, instead of skipping, when {what}"
        )
    options = parser.parse_args(arguments)

    modules = available()
    try:
        targets = [qualified(name, modules) for name in options.names or modules]
        if options.require_reference:
            find_reference()
        if options.require_namespaces:
            find_namespaces()
        if options.require_faketime:
            find_faketime()
        if options.require_chromium:
            find_chromium()
    except (ValueError, *_MISSING) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")

    # Imported only now: --help and the messages above should not need Twisted.
    from twisted.scripts.trial import run

    sys.argv = ["trial", "--reporter=verbose", *targets]
    run()  # ends with SystemExit, which carries trial's own status


if __name__ == "__main__":
    main(sys.argv[1:])
