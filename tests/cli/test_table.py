"""
The demo's table: on every width and height it fits, and says what there is to say.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.cli.report import PROCESSES, Progress, Report, Row, Step
from py2p_twisted.cli.table import LOOKS, Line, clip, frame, length, paint
from py2p_twisted.cli.terminal import LEAST_COLUMNS, LEAST_LINES
from tests.cli.samples import begun, good, receive, stuck


def plain(lines: list[Line]) -> list[str]:
    """Lines as text."""
    return [paint(line, colour=False) for line in lines]


def seen(report: Report, width: int = 80, height: int | None = None) -> list[str]:
    """What is seen of a report."""
    return plain(frame(report, width, height))


def looks(report: Report, text: str) -> set[str]:
    """How all spans look that say this."""
    return {look for line in frame(report, 80) for span, look in line if span.strip() == text}


def killed(nodes: int) -> Report:
    """A good demo with processes."""
    report = good(nodes)
    report.sort = PROCESSES
    return report


def begun_killed() -> Report:
    """Its beginning."""
    report = begun(12)
    report.sort = PROCESSES
    return report


def spoilt() -> Report:
    """All that can go wrong in a table at once."""
    report = good(12)
    receive(report.broadcasts[0], "n12", "n05", "n05")
    del report.broadcasts[1].receipts["n07"]
    report.problem = "the broadcast of n03 has not come to n07 within 10 s"
    return report


def watched() -> Report:
    """A good demo with a status page."""
    report = good(12)
    report.page = "http://127.0.0.1:40123/#token=0123456789abcdef"
    return report


#: Every width where a form begins or ends, and some where nothing changes any more.
WIDTHS = (*range(LEAST_COLUMNS - 1, 81), *range(90, 201, 10))

REPORTS = {
    "empty": Report("TCP", 1, promised=2),
    "begun": begun(12),
    "good": good(12),
    "many": good(100),
    "stuck": stuck(12),
    "spoilt": spoilt(),
    "killed": killed(12),
    "watched": watched(),
}


class WidthTests(SynchronousTestCase):
    def test_nothing_is_wider_than_the_screen(self) -> None:
        """From the narrowest terminal that gets a table to a very wide one."""
        for name, report in REPORTS.items():
            for width in WIDTHS:
                longest = max(length(line) for line in frame(report, width))
                self.assertTrue(longest <= width, f"{name}: {longest} in {width}")

    def test_nor_on_a_screen_that_has_shrunk(self) -> None:
        """Somebody may make a window tiny while it runs."""
        for name, report in REPORTS.items():
            for width in range(1, LEAST_COLUMNS, 3):
                for height in (1, 5, None):
                    lines = frame(report, width, height)
                    self.assertTrue(all(length(line) <= width for line in lines), name)

    def test_the_full_form(self) -> None:
        """Addresses, and who brought it: 80 columns have room for that."""
        lines = seen(good(12), 79)
        self.assertEqual(
            lines[1], "node  address          peers  1st broadcast     2nd broadcast     state"
        )
        self.assertEqual(
            lines[2], "n01   127.0.0.1:40001           1.5 ms via n12                    dropped"
        )
        self.assertEqual(
            lines[4], "n03   127.0.0.1:40003      4    1.5 ms via n12  sent              alive"
        )
        self.assertEqual(
            lines[13], "n12   127.0.0.1:40012      4  sent               12.3 ms via n03  alive"
        )

    def test_the_page(self) -> None:
        """Its link stands below the title; where it has no room, nothing that leads elsewhere."""
        link, place = watched().page, "http://127.0.0.1:40123/"
        for width, shown in ((80, link), (len(link), link), (len(link) - 1, place), (30, place)):
            self.assertEqual(seen(watched(), width)[1], shown)
        for height in (10, 15, 20):
            lines = seen(watched(), 80, height)
            self.assertIn(link, lines)
            self.assertTrue(len(lines) <= height)
        self.assertNotIn("http", "\n".join(seen(watched(), 20)))

    def test_shorter_forms(self) -> None:
        """Narrower screens lose the address first, then the neighbours, then the units."""
        rows = {width: seen(good(12), width)[5] for width in (59, 50, 46, 39)}
        self.assertEqual(rows[59], "n04   :40004      4    1.5 ms n12    0.8 ms n03  alive")
        self.assertEqual(rows[50], "n04       4    1.5 ms    0.8 ms  alive")
        self.assertEqual(rows[46], rows[50])
        self.assertEqual(rows[39], "n04       4    1.5    0.8  alive")

    def test_processes(self) -> None:
        """They are called so, and killed; on every width all of that can be read."""
        lines = seen(killed(8), 79)
        self.assertEqual(lines[0], f"{'py2p demo: 8 processes over TCP on 127.0.0.1':74}2.5 s")
        self.assertEqual(
            lines[2], "n01   127.0.0.1:40001           1.5 ms via n08                    killed -9"
        )
        for width in WIDTHS:
            lines = seen(killed(12), width)
            self.assertEqual(
                [line.endswith("killed -9") for line in lines[2:5]], [True, True, False]
            )
            self.assertEqual(seen(begun_killed(), width)[1], lines[1])

    def test_what_a_latency_includes(self) -> None:
        """Where that is not the network alone it stands above the verdict, once there is one."""
        for width in (39, 79):
            lines = seen(killed(8), width)
            at = lines.index("", lines.index("") + 1)
            text = " ".join(lines[at + 1 :])
            self.assertEqual(text, f"{PROCESSES.note} {killed(8).verdict}")
            self.assertNotIn("program", " ".join(seen(begun_killed(), width)))
            self.assertNotIn("program", " ".join(seen(good(8), width)))

    def test_each_width_shows_every_cell_whole(self) -> None:
        """No node loses its state to the right margin."""
        for nodes in (4, 100):
            for width in WIDTHS:
                lines = seen(good(nodes), width)[2 : 2 + nodes]
                for line in lines:
                    self.assertRegex(line, r"^n\d+ .*(alive|dropped)$", f"{width} columns")

    def test_columns_do_not_jump(self) -> None:
        """They are as wide before the first receipt as after the last."""
        for width in WIDTHS:
            self.assertEqual(seen(begun(12), width)[1], seen(good(12), width)[1])

    def test_columns_stand_below_each_other(self) -> None:
        """Every row's state begins where its title does."""
        lines = seen(good(50), 79)[1:52]
        place = lines[0].index("state")
        self.assertEqual({line[place:] for line in lines[1:]}, {"alive", "dropped"})

    def test_the_title(self) -> None:
        """What it is, and the seconds at the right margin; narrow screens get less of it."""
        report = good(12)
        title = "py2p demo: 12 nodes over TCP on 127.0.0.1"
        self.assertEqual(seen(report, 79)[0], f"{title:74}2.5 s")
        self.assertEqual(seen(report, 47)[0], f"{'12 nodes over TCP':42}2.5 s")
        self.assertEqual(seen(report, 20)[0], "12 nodes over TCP")

    def test_steps(self) -> None:
        """In a column where there is room, else wrapped and indented."""
        self.assertIn("ok  heal       40 links, 7 to 9 a node, after 0.21 s", seen(good(12), 79))
        narrow = seen(good(12), 39)
        at = narrow.index("ok  heal: 40 links, 7 to 9 a node,")
        self.assertEqual(narrow[at + 1], "    after 0.21 s")

    def test_only_ascii(self) -> None:
        """A terminal that shows anything shows this."""
        for report in REPORTS.values():
            for line in seen(report):
                self.assertTrue(line.isascii(), line)


class HeightTests(SynchronousTestCase):
    def test_nothing_is_higher_than_the_screen(self) -> None:
        """What is drawn again must not have been scrolled away."""
        for name, report in REPORTS.items():
            for width in (LEAST_COLUMNS - 1, 79):
                for height in (*range(32), 50):
                    count = len(frame(report, width, height))
                    self.assertTrue(count <= max(1, height), f"{name}: {count} of {height}")

    def test_all_of_it_where_there_is_room(self) -> None:
        """Nothing is left out without need."""
        report = good(12)
        whole = seen(report)
        self.assertEqual(seen(report, 80, len(whole)), whole)
        self.assertNotIn("more node", "\n".join(whole))
        self.assertEqual(len(seen(good(50))), len(whole) + 38)

    def test_twelve_nodes_fit_on_the_usual_screen(self) -> None:
        """24 lines, and the cursor's is the last of them."""
        self.assertEqual(len(seen(good(12), 79)), 23)

    def test_many_nodes(self) -> None:
        """Those that are not shown are counted, in as many lines as there are."""
        lines = seen(good(50), 79, 23)
        self.assertEqual(len(lines), 23)
        shown = [line for line in lines if line.startswith("n") and line[1].isdigit()]
        # The last one of fifty has sent the first, and n03 the second.
        self.assertEqual(len(shown), 11)
        self.assertEqual(lines[13], "... 39 more nodes: 39 alive, 1st 38 of 38, 2nd 39 of 39")

    def test_the_count_is_of_those_that_are_hidden(self) -> None:
        """Alive or not, and who of them still waits."""
        report = stuck(50)
        report.rows.reverse()
        (count,) = [line for line in seen(report, 79, 20) if line.startswith("...")]
        self.assertRegex(count, r"^\.\.\. (\d+) more nodes: \1 alive, 1st \d+ of \1$")
        expected, got = (int(count.split()[place]) for place in (-1, -3))
        self.assertEqual(expected - got, 2)
        report.rows[-1] = Row("n01", None, 0, False)
        (count,) = [line for line in seen(report, 79, 20) if line.startswith("...")]
        self.assertIn(f"{expected} more nodes: {expected - 1} alive", count)

    def test_one_line_is_better_used_for_a_node(self) -> None:
        """Nobody is told of "1 more node" where that node would fit."""
        for height in range(LEAST_LINES, 70):
            self.assertNotIn(" 1 more", "\n".join(seen(good(50), 79, height)))

    def test_a_count_that_does_not_fit(self) -> None:
        """It loses its end, at a comma."""
        (count,) = [line for line in seen(good(50), 39, 20) if line.startswith("...")]
        self.assertRegex(count, r"^\.\.\. \d+ more nodes: \d+ alive$")

    def test_the_oldest_steps_go_first(self) -> None:
        """The latest is what one looks at."""
        report = good(30)
        report.finished = False
        report.steps[-1].progress = Progress.RUNNING
        lines = seen(report, 39, LEAST_LINES - 1)
        self.assertEqual(lines[-2:], ["..  broadcast: n03 to 27 of 27 nodes,", "    worst 12.3 ms"])
        self.assertNotIn("start", "\n".join(lines))
        self.assertTrue(lines[0].startswith("30 nodes over TCP"))

    def test_steps_go_only_if_they_must(self) -> None:
        """With one line about the nodes left, the steps still have the rest."""
        for height, steps in ((20, 6), (13, 6), (12, 6), (11, 5), (10, 4)):
            lines = seen(good(30), 79, height)
            self.assertEqual(len([line for line in lines if line.startswith("ok")]), steps)
            self.assertEqual(len([line for line in lines if line.startswith("...")]), 1)

    def test_the_verdict_is_never_cut_off(self) -> None:
        """It is the last line, however little room there is."""
        for report in (good(50), stuck(12), spoilt()):
            for width in (39, 59, 79):
                for height in (*range(5, 40), None):
                    lines = seen(report, width, height)
                    at = max(place for place, line in enumerate(lines) if "verdict:" in line)
                    self.assertEqual(" ".join(lines[at:]), report.verdict)


class CellTests(SynchronousTestCase):
    def row(self, report: Report, name: str) -> str:
        """The line of a node."""
        (line,) = [line for line in seen(report, 100) if line.startswith(f"{name} ")]
        return line

    def test_before_anything_is_sent(self) -> None:
        """There is nothing to wait for, so it does not say so."""
        self.assertRegex(self.row(begun(12), "n01"), r"^n01 +127\.0\.0\.1:40001 +4 +alive$")

    def test_before_it_listens(self) -> None:
        """There is nothing but its name; a little later there is more."""
        report = begun(3)
        report.rows[0] = Row("n01", None, 0, True)
        self.assertEqual(seen(report, 100)[2], "n01")
        report.rows[0] = Row("n01", ("127.0.0.1", 40001), 0, True)
        self.assertRegex(self.row(report, "n01"), r"^n01 +127\.0\.0\.1:40001 +0 +alive$")

    def test_waiting(self) -> None:
        """A broadcast is under way."""
        report = stuck(12)
        report.problem = None
        self.assertRegex(self.row(report, "n01"), r" 4  waiting +alive$")
        self.assertEqual(looks(report, "waiting"), {"dim"})

    def test_missing(self) -> None:
        """Nobody waits any more."""
        self.assertRegex(self.row(stuck(12), "n02"), r" 4  MISSING +alive$")
        self.assertEqual(looks(stuck(12), "MISSING"), {"bad"})

    def test_shown_more_than_once(self) -> None:
        """How often, and in red."""
        self.assertIn(" 1.5 ms via n12 x3 ", self.row(spoilt(), "n05"))
        self.assertEqual(looks(spoilt(), "1.5 ms via n12 x3"), {"bad"})

    def test_a_sender_that_heard_itself(self) -> None:
        self.assertIn("sent, RECEIVED", self.row(spoilt(), "n12"))

    def test_the_dropped(self) -> None:
        """They have no peers, and are not expected to get the second."""
        self.assertRegex(self.row(good(12), "n01"), r":40001 +1\.5 ms via n12 +dropped$")
        self.assertEqual(looks(good(12), "dropped"), {"bad"})

    def test_progress_of_steps(self) -> None:
        """Under way, done, failed."""
        report = begun(3)
        report.steps.append(Step("join", "joining", Progress.RUNNING))
        report.steps.append(Step("heal", "not healed", Progress.FAILED))
        self.assertEqual(
            seen(report)[-3:],
            [
                "ok  start      3 nodes listen on 127.0.0.1",
                "..  join       joining",
                "NO  heal       not healed",
            ],
        )
        self.assertEqual((looks(report, "ok"), looks(report, "NO")), ({"good"}, {"bad"}))

    def test_the_end(self) -> None:
        """The verdict in green; or what is wrong, and the verdict, in red."""
        report = good(12)
        self.assertEqual(looks(report, report.verdict), {"good"})
        report = stuck(12)
        self.assertEqual(looks(report, report.verdict), {"bad"})
        self.assertEqual("".join(seen(report, 200)[-2]), report.problem)

    def test_no_verdict_before_the_end(self) -> None:
        report = good(12)
        report.finished = False
        self.assertNotIn("verdict", "\n".join(seen(report)))


class LineTests(SynchronousTestCase):
    LINE: Line = [("ab", "good"), ("cde", ""), ("f  ", "bad")]

    def test_length(self) -> None:
        """Colours take no room."""
        self.assertEqual(length(self.LINE), 8)
        self.assertEqual(length([]), 0)

    def test_clip(self) -> None:
        """Looks remain; spans that have nothing left go."""
        self.assertEqual(clip(self.LINE, 4), [("ab", "good"), ("cd", "")])
        self.assertEqual(clip(self.LINE, 2), [("ab", "good")])
        self.assertEqual(clip(self.LINE, 0), [])
        self.assertEqual(clip(self.LINE, 100), self.LINE)

    def test_paint(self) -> None:
        """Each span's look begins and ends with it; without colours no sequence is left."""
        self.assertEqual(paint(self.LINE, colour=True), "\x1b[32mab\x1b[0mcde\x1b[31mf  \x1b[0m")
        self.assertEqual(paint(self.LINE, colour=False), "abcdef")

    def test_all_looks_are_known(self) -> None:
        """Every frame can be painted."""
        for report in REPORTS.values():
            for line in frame(report, 80):
                self.assertTrue({look for _, look in line} <= LOOKS.keys())
                paint(line, colour=True)
