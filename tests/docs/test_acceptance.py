"""
docs/acceptance.rst names a test for every promise, and all of them exist.
"""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from tests.docs.blocks import ROOT
from tests.mesh import test_acceptance as seed

_ROW = re.compile(r"^   \* - (\d+)\n     - (.+?)\n     - (.+?)\n(?=   \* - |\n)", re.M | re.S)
ROWS = _ROW.findall((ROOT / "docs/acceptance.rst").read_text(encoding="utf-8"))

#: Rows about what is not there.
NOTHING_TO_SHOW = {6}


class AcceptanceTests(SynchronousTestCase):
    def test_rows(self) -> None:
        """There are 37 promises, in order, each said in a sentence."""
        self.assertEqual([int(number) for number, _, _ in ROWS], list(range(1, 38)))
        for number, promise, _ in ROWS:
            self.assertTrue(promise.rstrip().endswith((".", ")")), number)

    def test_every_named_test_exists(self) -> None:
        """Each row names one test, with the row's number in its name, and it is there."""
        for number, _, shown in ROWS:
            names = re.findall(r"``(\w+)``", shown)
            if int(number) in NOTHING_TO_SHOW:
                self.assertEqual(names, [])
                continue
            (name,) = names
            self.assertTrue(name.startswith(f"test_{int(number):02}_"), name)
            self.assertTrue(callable(getattr(seed.SeedDocumentTests, name, None)), name)

    def test_every_such_test_is_named(self) -> None:
        """No test of a promise is missing from the list."""
        shown = " ".join(text for _, _, text in ROWS)
        for name in dir(seed.SeedDocumentTests):
            if re.match(r"test_\d\d_", name):
                self.assertIn(f"``{name}``", shown)
