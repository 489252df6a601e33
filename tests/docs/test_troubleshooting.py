"""
The page about what can go wrong has every word that an operator can be shown.
"""

from __future__ import annotations

import inspect
import re

from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted import errors
from tests.docs.blocks import ROOT

PAGE = ROOT / "docs/howto/troubleshooting.rst"

#: A row of a simple table that begins with a word; a star marks ordinary life.
_ROW = re.compile(r"^``([a-z ]+)``(?: \*)?  +\S.{3}", re.M)


def words(text: str, title: str) -> set[str]:
    """The words in the table below a title, of rows that say something."""
    table = text[text.index(f"\n{title}\n~~~") :]
    table = table[: [bar.end() for bar in re.finditer("^===.*$", table, re.M)][2]]
    return set(_ROW.findall(table))


def reasons(root: type[errors.MeshError]) -> set[str]:
    """The words of an exception and all below it."""
    return {
        error.reason
        for error in vars(errors).values()
        if inspect.isclass(error) and issubclass(error, root)
    }


class TroubleTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.page = PAGE.read_text(encoding="utf-8")

    def test_every_reason(self) -> None:
        """Each has a row that says what to do, in the table it belongs to; and there are no others."""
        links = reasons(errors.LinkError) | {errors.ClosedByPeer.reason}
        dropped = reasons(errors.ContentError)
        roots = {errors.MeshError.reason, errors.LocalError.reason, errors.RemoteError.reason}
        self.assertEqual(words(self.page, "Links that end"), links)
        self.assertEqual(words(self.page, "Messages that are dropped"), dropped)
        self.assertEqual(
            words(self.page, "What your own calls raise"),
            reasons(errors.MeshError) - links - dropped - roots,
        )
        for root in roots:
            self.assertIn(f"``{root}``", self.page[self.page.rindex("====") :])

    def test_one_could_be_missing(self) -> None:
        """A row that is missing, or says nothing, is noticed."""
        title = "Messages that are dropped"
        self.assertIn("stale", words(self.page, title))
        self.assertNotIn("stale", words(re.sub("(?m)^``stale``.*$", "``stale``", self.page), title))
        self.assertNotIn("stale", words(re.sub("(?m)^``stale``.*\n", "", self.page), title))
