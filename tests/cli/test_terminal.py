"""
Drawing in place: what is seen is the last drawing, and what was there before stays.
"""

from __future__ import annotations

import io
import os

from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.cli import terminal
from py2p_twisted.cli.table import Line
from py2p_twisted.cli.terminal import (
    LEAST_COLUMNS,
    LEAST_LINES,
    Screen,
    can_redraw,
    size_of,
    wants_colour,
)
from tests.cli.screen import ToyTerminal


def lines(*texts: str) -> list[Line]:
    """Lines of one span each."""
    return [[(text, "good")] for text in texts]


class ScreenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.terminal = ToyTerminal(20, 8)
        self.terminal.write("$ py2p demo\n")
        self.screen = Screen(self.terminal, self.terminal.size, colour=False)

    def test_the_last_drawing_is_seen(self) -> None:
        """What was drawn before is gone, also where it was longer or higher."""
        for drawing in (
            ["one"],
            ["first", "second", "third"],
            ["one line that is long", "2"][:1],
            ["a", "b", "c", "d"],
            [],
            ["end"],
        ):
            fitting = [text[:20] for text in drawing]
            self.screen.draw(lines(*fitting))
            self.assertEqual(self.terminal.text, ["$ py2p demo", *fitting])

    def test_what_was_there_before_stays(self) -> None:
        """Also when it is scrolled out of the screen."""
        for number in range(9):
            self.screen.draw(lines(*(f"{number}: line {place}" for place in range(7))))
        self.assertEqual(self.terminal.above, ["$ py2p demo"])
        self.assertEqual(self.terminal.text, [f"8: line {place}" for place in range(7)])

    def test_more_than_a_screen(self) -> None:
        """The last drawing may be higher: it can be scrolled back to, once and whole."""
        self.screen.draw(lines("a", "b"))
        self.screen.draw(lines(*(f"line {place}" for place in range(30))))
        self.screen.close()
        self.assertEqual(
            self.terminal.above + self.terminal.text,
            ["$ py2p demo", *(f"line {place}" for place in range(30))],
        )

    def test_a_line_that_fills_the_screen(self) -> None:
        """The caller says how wide; the next drawing knows how high that has become."""
        self.screen.draw(lines("x" * 20, "y" * 20))
        self.screen.draw(lines("z"))
        self.assertEqual(self.terminal.text, ["$ py2p demo", "z"])

    def test_a_terminal_that_becomes_narrower(self) -> None:
        """It wraps what it shows; the next drawing begins above all of that."""
        self.screen.draw(lines("x" * 19, "", "y" * 5))
        self.terminal.narrow(8)
        self.assertEqual(len(self.terminal.text), 2 + 3 + 1 + 1)
        self.screen.draw(lines("small"))
        self.assertEqual(self.terminal.text, ["$ py2p d", "emo", "small"])

    def test_the_cursor(self) -> None:
        """Hidden while it draws, and given back once."""
        self.assertTrue(self.terminal.cursor)
        for _ in range(2):
            self.screen.draw(lines("a"))
            self.assertFalse(self.terminal.cursor)
        self.screen.close()
        self.assertTrue(self.terminal.cursor)
        draws = self.terminal.draws
        self.screen.close()
        self.assertEqual(self.terminal.draws, draws)

    def test_closed_before_anything_was_drawn(self) -> None:
        """It writes nothing."""
        draws = self.terminal.draws
        self.screen.close()
        self.assertEqual(self.terminal.draws, draws)

    def test_ctrl_c_leaves_no_trace(self) -> None:
        """A terminal writes "^C" where the cursor is: that is wiped out."""
        self.screen.draw(lines("a"))
        self.terminal.write("^C")
        self.screen.close()
        self.assertEqual(self.terminal.text, ["$ py2p demo", "a"])
        self.terminal.write("next")
        self.assertEqual(self.terminal.text[-1], "next")

    def test_what_is_typed_meanwhile(self) -> None:
        """It is wiped out by the next drawing, where the first one is as well."""
        self.terminal.write("abc")
        self.screen.draw(lines("1", "2"))
        self.assertEqual(self.terminal.text, ["$ py2p demo", "1", "2"])
        self.terminal.write("^[OA")
        self.screen.draw(lines("3"))
        self.assertEqual(self.terminal.text, ["$ py2p demo", "3"])

    def test_one_write_for_a_drawing(self) -> None:
        """Half a drawing is never seen."""
        draws = self.terminal.draws
        self.screen.draw(lines("a", "b", "c"))
        self.assertEqual(self.terminal.draws, draws + 1)

    def test_colours(self) -> None:
        """Only if they are wanted."""
        self.screen.draw(lines("a"))
        self.assertEqual(self.terminal.looks, set())
        Screen(self.terminal, self.terminal.size, colour=True).draw(lines("a"))
        self.assertEqual(self.terminal.looks, {"32", "0"})

    def test_at_once(self) -> None:
        """Nothing waits in a buffer."""

        class Buffered(ToyTerminal):
            flushed = 0

            def flush(self) -> None:
                self.flushed = self.draws

        buffered = Buffered()
        screen = Screen(buffered, buffered.size, colour=False)
        screen.draw(lines("a"))
        self.assertEqual(buffered.flushed, 1)
        screen.close()
        self.assertEqual(buffered.flushed, 2)


class QuestionTests(SynchronousTestCase):
    """What a stream leads to."""

    TERM = {"TERM": "xterm"}

    def setUp(self) -> None:
        self.terminal = ToyTerminal()
        self.patch(terminal, "size_of", lambda stream: stream.size())
        self.patch(terminal.os, "name", "posix")

    def test_a_terminal(self) -> None:
        self.assertTrue(can_redraw(self.terminal, self.TERM))

    def test_a_pipe_or_a_file(self) -> None:
        self.assertFalse(can_redraw(io.StringIO(), self.TERM))

    def test_a_terminal_that_cannot_do_much(self) -> None:
        """Or that says nothing about itself."""
        for environ in ({"TERM": "dumb"}, {"TERM": ""}, {}):
            self.assertFalse(can_redraw(self.terminal, environ))

    def test_windows(self) -> None:
        """There it is not TERM that tells."""
        self.patch(terminal.os, "name", "nt")
        self.assertFalse(can_redraw(self.terminal, self.TERM))
        self.assertTrue(can_redraw(self.terminal, {"WT_SESSION": "1"}))

    def test_a_terminal_that_is_too_small(self) -> None:
        """In width or in height."""
        for columns, rows, answer in (
            (LEAST_COLUMNS, LEAST_LINES, True),
            (LEAST_COLUMNS - 1, LEAST_LINES, False),
            (LEAST_COLUMNS, LEAST_LINES - 1, False),
        ):
            small = ToyTerminal(columns, rows)
            self.assertIs(can_redraw(small, self.TERM), answer)

    def test_colour(self) -> None:
        """Any value of NO_COLOR but the empty one says no."""
        self.assertTrue(wants_colour({}))
        self.assertTrue(wants_colour({"NO_COLOR": ""}))
        self.assertFalse(wants_colour({"NO_COLOR": "1"}))
        self.assertFalse(wants_colour({"NO_COLOR": "0"}))


class SizeTests(SynchronousTestCase):
    def answer(self, size: object) -> None:
        """What the system says."""

        def get_terminal_size(number: int) -> object:
            self.assertEqual(number, 7)
            if isinstance(size, Exception):
                raise size
            return size

        self.patch(terminal.os, "get_terminal_size", get_terminal_size)

    def test_what_the_system_says(self) -> None:
        stream = ToyTerminal()
        stream.fileno = lambda: 7  # type: ignore[method-assign]
        for said, size in (
            (os.terminal_size((132, 50)), (132, 50)),
            (os.terminal_size((0, 0)), (80, 24)),
            (os.terminal_size((0, 50)), (80, 50)),
            (os.terminal_size((132, 0)), (132, 24)),
            (OSError("not a terminal"), (80, 24)),
        ):
            self.answer(said)
            self.assertEqual(tuple(size_of(stream)), size)

    def test_a_stream_without_a_number(self) -> None:
        """As in tests; or a closed one."""
        self.assertEqual(tuple(size_of(io.StringIO())), (80, 24))
        with open(os.devnull, "w") as closed:
            pass
        self.assertEqual(tuple(size_of(closed)), (80, 24))
