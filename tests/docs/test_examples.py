"""
The programs of examples/ say how they are run, and that is how they can be run.
"""

from __future__ import annotations

import ast
import re

from twisted.trial.unittest import SynchronousTestCase

from tests.docs.blocks import ROOT
from tests.integration.examples_check import EXAMPLES, commands


class ExampleTests(SynchronousTestCase):
    def test_commands(self) -> None:
        """Each docstring has two commands: the first node, and one that joins it."""
        self.assertEqual([path.stem for path in EXAMPLES], ["asyncio_app", "embed", "script"])
        for path in EXAMPLES:
            first, second = commands(path)
            self.assertEqual(first, ["python", f"examples/{path.name}", "--port", "4444"])
            self.assertEqual(
                second,
                ["python", f"examples/{path.name}", "--port", "4445", "--peer", "127.0.0.1:4444"],
            )
            self.assertIn("Ctrl-C ends it", ast.get_docstring(ast.parse(path.read_text())) or "")

    def test_they_use_what_is_documented(self) -> None:
        """Examples reach below the documented names nowhere."""
        for path in EXAMPLES:
            text = path.read_text(encoding="utf-8")
            self.assertFalse(re.search(r"\b(?!self\b)\w+\._[a-z]", text), path.name)

    def test_the_tables_of_names(self) -> None:
        """Both spellings of the page about py2p are there, and are the same."""
        from py2p_twisted import base, mesh, utils

        modules = {"base": base, "mesh": mesh, "utils": utils}
        text = (ROOT / "docs/howto/from-py2p.rst").read_text(encoding="utf-8")
        rows = re.findall(r"^``(\w+)\.(\w+)`` +``(\w+)\.(\w+)``$", text, re.M)
        self.assertEqual(len(rows), 5)
        for module, name, other_module, other in rows:
            self.assertIs(getattr(modules[module], name), getattr(modules[other_module], other))
        unchanged = text[text.index("Unchanged are") : text.index("A socket has")]
        for module, name in re.findall(r"``(\w+)\.(\w+)``", unchanged):
            self.assertTrue(hasattr(modules[module], name), f"{module}.{name}")
        of_sockets = text[text.index("A socket has") : text.index("methods of\npyee")]
        sock = set(dir(mesh.mesh_socket)) | {"id", "out_addr", "protocol"}
        self.assertEqual(set(re.findall(r"``(\w+)``", of_sockets)) - sock, set())
        missing = text[text.index("What is not there") : text.index("Both in one network")]
        for name in ("requests", "waterfalls", "queue", "daemon", "handle_msg"):
            self.assertIn(f"``{name}``", missing)
            self.assertNotIn(name, sock)
