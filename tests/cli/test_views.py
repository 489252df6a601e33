"""
Who shows a demo: the live table, and plain lines.
"""

from __future__ import annotations

import io

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.cli.report import Progress, Step
from py2p_twisted.cli.views import REDRAW, STILL_WAITING, Lines, Live
from tests.cli.samples import begun, good, stuck
from tests.cli.screen import ToyTerminal


class LiveTests(SynchronousTestCase):
    def live(self, columns: int = 80, rows: int = 24) -> Live:
        """A live table on a terminal of that size."""
        self.clock = Clock()
        self.terminal = ToyTerminal(columns, rows)
        return Live(self.terminal, self.terminal.size, self.clock.seconds, colour=True)

    def test_the_table(self) -> None:
        """It is drawn in place of the one before."""
        view = self.live()
        view.look(begun(12))
        self.assertEqual(self.terminal.text[-1], "ok  start      12 nodes listen on 127.0.0.1")
        self.clock.advance(1)
        view.look(good(12))
        view.finish(good(12))
        self.assertEqual(self.terminal.above, [])
        self.assertEqual(self.terminal.text[-1], good(12).verdict)
        self.assertEqual(len(self.terminal.text), 23)

    def test_what_is_said_is_not_written(self) -> None:
        """It would stand in the middle of the table."""
        view = self.live()
        view.say("start: starting")
        view.say("n01 has it", detail=True)
        self.assertEqual(self.terminal.draws, 0)

    def test_not_too_often(self) -> None:
        """Unless a step has come to its end."""
        view = self.live()
        report = begun(12)
        view.look(report)
        view.look(report)
        self.clock.advance(REDRAW / 2)
        view.look(report)
        self.assertEqual(self.terminal.draws, 1)
        self.clock.advance(REDRAW / 2)
        view.look(report)
        self.assertEqual(self.terminal.draws, 2)
        report.steps.append(Step("join", "joining"))
        view.look(report)
        self.assertEqual(self.terminal.draws, 2)
        report.steps[-1].progress = Progress.DONE
        view.look(report)
        self.assertEqual(self.terminal.draws, 3)

    def test_no_line_wraps(self) -> None:
        """And the last column stays free, also at the end."""
        for columns in (40, 47, 60, 80, 132):
            for nodes in (4, 12, 50):
                view = self.live(columns, 24)
                view.look(begun(nodes))
                self.clock.advance(1)
                view.look(good(nodes))
                view.finish(good(nodes))
                self.assertEqual(self.terminal.wraps, 0)
                shown = self.terminal.above + self.terminal.text
                self.assertTrue(max(map(len, shown)) < columns)

    def test_nothing_is_scrolled_away_before_the_end(self) -> None:
        """A table that is higher than the screen could not be drawn in place."""
        for rows in (12, 20, 24):
            view = self.live(60, rows)
            for report in (begun(50), stuck(50), good(50)):
                self.clock.advance(1)
                view.look(report)
                self.assertEqual(self.terminal.above, [], f"{rows} lines")
                self.assertTrue(len(self.terminal.text) < rows)

    def test_the_end_shows_everybody(self) -> None:
        """Also those for whom there was no room, and each of them once."""
        view = self.live(80, 24)
        for _ in range(5):
            view.look(good(50))
            self.clock.advance(1)
        view.finish(good(50))
        shown = self.terminal.above + self.terminal.text
        self.assertEqual(len(shown), 23 + 38)
        for row in good(50).rows:
            self.assertEqual(len([line for line in shown if line.startswith(row.name)]), 1)
        self.assertEqual(shown[-1], good(50).verdict)

    def test_it_follows_the_size_of_the_terminal(self) -> None:
        """A window that is made smaller gets a smaller table."""
        view = self.live(80, 24)
        view.look(good(12))
        self.terminal.narrow(50)
        self.clock.advance(1)
        view.look(good(12))
        self.assertTrue(max(map(len, self.terminal.text)) < 50)

    def test_the_cursor_comes_back(self) -> None:
        """Whether it came to an end or was told to stop."""
        view = self.live()
        view.look(begun(12))
        self.assertFalse(self.terminal.cursor)
        view.close()
        self.assertTrue(self.terminal.cursor)
        view = self.live()
        view.finish(good(12))
        self.assertTrue(self.terminal.cursor)

    def test_colours(self) -> None:
        """Only if they are wanted."""
        view = self.live()
        view.look(begun(12))
        self.assertIn("32", self.terminal.looks)
        terminal = ToyTerminal()
        Live(terminal, terminal.size, self.clock.seconds, colour=False).finish(good(12))
        self.assertEqual(terminal.looks, set())


class LinesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.stream = io.StringIO()

    def lines(self, *, details: bool = True) -> Lines:
        """A view that begins now."""
        return Lines(self.stream, self.clock.seconds, details=details)

    def written(self) -> list[str]:
        """The lines so far."""
        return self.stream.getvalue().splitlines()

    def test_each_line_has_its_time(self) -> None:
        """Seconds since the beginning; details are indented."""
        view = self.lines()
        view.say("start: starting")
        self.clock.advance(12.345)
        view.say("broadcast: n01")
        view.say("n02 has it", detail=True)
        self.assertEqual(
            self.written(),
            [
                "  0.00 s  start: starting",
                " 12.35 s  broadcast: n01",
                " 12.35 s    n02 has it",
            ],
        )

    def test_without_details(self) -> None:
        """Beside JSON they would say everything twice."""
        view = self.lines(details=False)
        view.say("broadcast: n01")
        view.say("n02 has it", detail=True)
        self.assertEqual(self.written(), ["  0.00 s  broadcast: n01"])

    def test_at_once(self) -> None:
        """Whoever reads along sees each line when it happens."""
        flushed: list[str] = []
        self.stream.flush = lambda: flushed.append(self.stream.getvalue())  # type: ignore[method-assign]
        self.lines().say("start: starting")
        self.assertEqual(flushed, ["  0.00 s  start: starting\n"])

    def test_a_long_wait(self) -> None:
        """It says how far it is, once a while and only of what is under way."""
        view = self.lines()
        report = begun(12)
        report.steps.append(Step("join", "5 of 12 nodes have joined"))
        view.say("join: joining")
        for _ in range(10):
            self.clock.advance(STILL_WAITING / 8)
            view.look(report)
        self.assertEqual(
            self.written()[1:],
            [f"  {STILL_WAITING:.2f} s  join: 5 of 12 nodes have joined ..."],
        )
        for _ in range(8):
            self.clock.advance(STILL_WAITING / 8)
            view.look(report)
        self.assertEqual(len(self.written()), 3)

    def test_nothing_under_way(self) -> None:
        """Then there is nothing to say."""
        view = self.lines()
        self.clock.advance(10)
        view.look(begun(12))
        self.assertEqual(self.written(), [])

    def test_the_verdict_is_the_last_line(self) -> None:
        for report in (good(12), stuck(12)):
            view = self.lines()
            view.look(report)
            view.finish(report)
            view.close()
            self.assertEqual(self.written()[-1], f"  0.00 s  {report.verdict}")
