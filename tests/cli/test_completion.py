"""
``py2p completion``: the script comes from shtab, if that is there.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

from py2p_twisted.cli import completion
from tests.cli.members import MemberTestCase

COMMANDS = (
    "demo", "node", "send", "listen", "chat", "status", "peers", "members", "ping", "connect",
    "simulate", "completion",
)  # fmt: skip


class CompletionTests(MemberTestCase):
    def with_shtab(self, module: object) -> None:
        """Have this in the place of shtab."""
        # This one alone: other modules may be imported for the first time meanwhile.
        before = {name: sys.modules.pop(name) for name in ("shtab",) if name in sys.modules}
        self.addCleanup(sys.modules.update, before)
        self.addCleanup(sys.modules.pop, "shtab", None)
        sys.modules["shtab"] = module  # type: ignore[assignment]

    def test_each_shell(self) -> None:
        """It is made from the parser of all commands."""
        asked: list[tuple[Any, str]] = []

        def complete(parser: Any, shell: str) -> str:
            asked.append((parser, shell))
            return f"a script for {shell}"

        self.with_shtab(SimpleNamespace(complete=complete))
        for shell in ("bash", "zsh", "tcsh"):
            self.assertEqual(self.main("completion", shell), 0)
            self.assertEqual(self.printed(), f"a script for {shell}\n")
        for parser, _ in asked:
            self.assertEqual(parser.prog, "py2p")
            for command in COMMANDS:
                self.assertIn(command, parser.format_help())
        self.assertEqual(self.said(), "")

    def test_without_shtab(self) -> None:
        """One line says what to install."""
        self.with_shtab(None)
        self.assertEqual(self.main("completion", "bash"), 1)
        self.assertEqual(
            (self.printed(), self.said()),
            (
                "",
                "py2p completion: this needs the package shtab: "
                'pip install "py2p_twisted[completion]"\n',
            ),
        )

    def test_usage(self) -> None:
        """The shells are named."""
        for arguments in (["fish"], []):
            self.assertEqual(self.main("completion", *arguments), 2)
            line = self.said()
            self.assertEqual(line.count("\n"), 1)
            self.assertIn("(see py2p completion --help)", line)
        self.main("completion", "fish")
        self.assertIn("bash", self.said())

    def test_help(self) -> None:
        """It says where the script belongs."""
        self.assertEqual(self.main("completion", "--help"), 0)
        text = self.printed()
        self.assertIn(completion.EXAMPLES.strip(), text)
        self.assertIn("py2p_twisted[completion]", text)
