"""
The programs of examples/ say how they are run, and that is how they can be run.
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
from types import SimpleNamespace
from typing import Any
from unittest import TestResult, mock

from twisted.trial.runner import TestLoader
from twisted.trial.unittest import SynchronousTestCase

from tests.docs.blocks import ROOT
from tests.integration.examples_check import EXAMPLES, commands


def example(test: SynchronousTestCase, name: str) -> Any:
    """A program of examples/ as a module, which is forgotten when the test ends."""
    with mock.patch.object(sys, "path", [str(ROOT / "examples"), *sys.path]):
        module = importlib.import_module(name)
    test.addCleanup(sys.modules.pop, name, None)
    return module


class ExampleTests(SynchronousTestCase):
    def test_commands(self) -> None:
        """Each docstring has two commands: the first node, and one that joins it."""
        self.assertEqual(
            [path.stem for path in EXAMPLES],
            ["asyncio_app", "chat", "embed", "my_app", "sensors", "web_app"],
        )
        for path in EXAMPLES:
            first, second = commands(path)
            self.assertEqual(first[:4], ["python", f"examples/{path.name}", "--port", "4444"])
            self.assertEqual(
                second[:6],
                ["python", f"examples/{path.name}", "--port", "4445", "--peer", "127.0.0.1:4444"],
            )
            self.assertIn("Ctrl-C ends it", ast.get_docstring(ast.parse(path.read_text())) or "")

    def test_they_use_what_is_documented(self) -> None:
        """Examples reach below the documented names nowhere."""
        for path in EXAMPLES:
            text = path.read_text(encoding="utf-8")
            self.assertFalse(re.search(r"\b(?!self\b)\w+\._[a-z]", text), path.name)

    def test_the_list_of_them(self) -> None:
        """README.md of the folder names each file in it."""
        text = (ROOT / "examples/README.md").read_text(encoding="utf-8")
        for path in (ROOT / "examples").rglob("*"):
            name = path.relative_to(ROOT / "examples").as_posix()
            if path.is_file() and not re.search("README|^_trial_temp|__pycache__", name):
                self.assertIn(f"`{name}`", text)

    def test_the_tests_of_an_application(self) -> None:
        """The example of a test passes, here as everywhere."""
        example(self, "my_app")
        tests = TestLoader().loadModule(example(self, "test_my_app"))
        result = TestResult()
        tests.run(result)
        self.assertGreater(result.testsRun, 4)
        self.assertEqual(result.failures + result.errors, [])

    def test_a_browser_that_does_not_read(self) -> None:
        """Events wait for it, so many at most, and the newest come when it reads again."""
        web_app = example(self, "web_app")
        written: list[bytes] = []
        request = SimpleNamespace(write=written.append, registerProducer=lambda *_: None)
        browser = web_app.Listener(request)
        browser.tell(b"0")
        browser.pauseProducing()
        for number in range(1, web_app.BACKLOG + 6):
            browser.tell(b"%d" % number)
        browser.pauseProducing()
        self.assertEqual(written, [b"0"])
        browser.resumeProducing()
        browser.tell(b"new")
        self.assertEqual(written[1:3], [b"6", b"7"])
        self.assertEqual(written[-1], b"new")
        self.assertEqual(len(written), web_app.BACKLOG + 2)

    def test_a_collector(self) -> None:
        """It adds up, says what is missing, and keeps no more sensors apart than it should."""
        sensors = example(self, "sensors")
        collector = sensors.Collector(SimpleNamespace(register_handler=str, on=mock.Mock()))

        def reading(*packets: Any) -> None:
            self.assertTrue(collector.take(SimpleNamespace(packets=packets), None))

        def report() -> list[str]:
            with mock.patch("builtins.print") as printed:
                collector.report()
            return [call.args[0] for call in printed.call_args_list]

        for value in (1.0, 3.0, 5.0):
            reading(sensors.READING, "roof", value)
        for packets in ((sensors.READING, "x", 1), (sensors.READING,), (0, "x", 1.0), ()):
            reading(*packets)
        collector.missed(None, SimpleNamespace(number=2))
        collector.missed(None, SimpleNamespace(number=0))
        expected = ["'roof': 3 x 1.0 .. 3.0 .. 5.0", "at least 3 readings are missing"]
        self.assertEqual(report(), expected)
        self.assertEqual(report(), [])
        for number in range(sensors.MOST + 5):
            reading(sensors.READING, f"{number}", 1.0)
        self.assertEqual(len(report()), sensors.MOST)

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
