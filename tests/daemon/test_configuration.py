"""Where every value comes from, and the one line about a value that cannot be."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core.network import Network
from py2p_twisted.core.settings import Settings
from py2p_twisted.daemon.configuration import (
    COMMAND_LINE,
    DEFAULT,
    Configuration,
    ConfigurationError,
    configure,
    unknown,
)
from py2p_twisted.daemon.options import BY_NAME, OPTIONS, limits

#: Options that may stand in a file under their own name.
KEYS = [option.name for option in OPTIONS if option.in_file and option.name != "limit"]

anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
likely = st.sampled_from(
    ["tcp:4444", "tcp:99999", "tcp:1:interface=\\", "a:1", "[::1]:1", "a\nb:1", "\x1b[2J", "'a"]
) | st.sampled_from(["8", "1MiB", "nan", "0", "5", "=", "max_outgoing=3", "seen_window=inf"])
toml_values = st.recursive(
    anything
    | likely
    | st.integers()
    | st.floats()
    | st.booleans()
    | st.datetimes()
    | st.dates()
    | st.times()
    | st.sampled_from([10**400, 2**64, -1, 0, math.nan, math.inf]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(anything, inner, max_size=3),
    max_leaves=4,
)
toml_keys = st.sampled_from([*KEYS, *(key.replace("-", "_") for key in KEYS), "limits"]) | anything
limit_tables = st.dictionaries(st.sampled_from(list(limits())) | anything, toml_values, max_size=3)
tables = st.dictionaries(toml_keys, toml_values, max_size=4) | st.builds(
    lambda table: {"limits": table}, limit_tables
)
#: From a command line: bytes that are no UTF-8 arrive as surrogates.
typed = (
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
    | likely
    | st.binary(max_size=8)
    .filter(lambda data: b"\0" not in data)
    .map(lambda data: data.decode("utf-8", "surrogateescape"))
)


def toml(value: Any) -> str:
    """A value in TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (int, float)):
        return repr(value)
    return str(value.isoformat())


class ConfigurationTestCase(SynchronousTestCase):
    def write(self, content: str | bytes, name: str = "node.toml") -> str:
        """A file with this content."""
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    def from_file(self, content: str | bytes, **given_too: Any) -> Configuration:
        return configure({"config": self.write(content), **given_too})

    def error(self, given_values: dict[str, Any]) -> str:
        """The one line that says why it cannot be."""
        text = str(self.assertRaises(ConfigurationError, configure, given_values))
        self.assert_one_line(text)
        return text

    def error_in_file(self, content: str | bytes) -> str:
        """The same for a file; the text begins with its path, which is left out."""
        path = self.write(content)
        text = self.error({"config": path})
        self.assertTrue(text.startswith(f"{path}: "), text)
        return text.removeprefix(f"{path}: ")

    def assert_one_line(self, text: str) -> None:
        self.assertTrue(text)
        self.assertEqual(len(text.splitlines()), 1, repr(text))


class SourceTests(ConfigurationTestCase):
    def test_defaults(self) -> None:
        """What nobody sets has its default, and says so."""
        made = configure({})
        self.assertEqual(dict(made), {option.name: option.default for option in OPTIONS})
        self.assertEqual({setting.source for setting in made.settings.values()}, {DEFAULT})
        self.assertEqual(made["listen"], ("tcp:4444",))
        self.assertEqual(made.network, Network("mesh", "Plaintext"))

    def test_the_command_line_wins_over_the_file(self) -> None:
        """And the file over the defaults; each value knows where it is from."""
        path = self.write('network = "alerts"\nmax-peers = 7\n')
        made = configure({"config": path, "max-peers": "9"})
        self.assertEqual((made["network"], made["max-peers"], made["tls"]), ("alerts", 9, False))
        sources = {name: setting.source for name, setting in made.settings.items()}
        self.assertEqual(
            [sources[name] for name in ("network", "max-peers", "tls", "config")],
            [path, COMMAND_LINE, DEFAULT, COMMAND_LINE],
        )

    def test_lists_are_taken_whole(self) -> None:
        """What is repeated on the command line replaces the file's list, and the default."""
        path = self.write('listen = ["tcp:1", "tcp:2"]\njoin = "a:1"\n')
        made = configure({"config": path})
        self.assertEqual((made["listen"], made["join"]), (("tcp:1", "tcp:2"), (("a", 1),)))
        made = configure({"config": path, "listen": ["tcp:3"], "join": ["b:2", "c:3"]})
        self.assertEqual((made["listen"], made["join"]), (("tcp:3",), (("b", 2), ("c", 3))))

    def test_limits_are_taken_one_by_one(self) -> None:
        """Each limit is a thing of its own, with a source of its own."""
        path = self.write("[limits]\nmax_outgoing = 3\nseen-window = 60\n")
        made = configure(
            {"config": path, "limit": ["max_outgoing=5", "drain_time=2", "max_outgoing=6"]}
        )
        self.assertEqual(
            dict(made["limit"]), {"max_outgoing": 6, "seen_window": 60.0, "drain_time": 2.0}
        )
        rows = {name: (value, source) for name, value, source in made.rows()}
        self.assertEqual(rows["limit max_outgoing"], ("6", COMMAND_LINE))
        self.assertEqual(rows["limit seen_window"], ("60", path))
        self.assertEqual(rows["limit drain_time"], ("2", COMMAND_LINE))
        self.assertEqual(rows["limit max_replies"], ("256", DEFAULT))

    def test_limits_become_settings(self) -> None:
        """What a node is given is what was set, the options with names of their own included."""
        made = configure({"max-peers": "3", "max-message": "1MiB", "limit": ["book_size=9"]})
        self.assertEqual(made.limits, {"max_inbound": 3, "max_message": 2**20, "book_size": 9})
        self.assertEqual(Settings.from_options(configure({}).limits), Settings())

    def test_networks(self) -> None:
        """Name and encryption make the network, in which ``--tls`` means SSL."""
        made = configure({"network": "alerts", "tls": True})
        self.assertEqual(made.network, Network("alerts", "SSL"))

    def test_keys_with_either_dash(self) -> None:
        """A key may be written with dashes or underscores."""
        for key in ("exec-parallel", "exec_parallel"):
            self.assertEqual(self.from_file(f"{key} = 2\n")["exec-parallel"], 2)

    def test_every_key(self) -> None:
        """Every option but those about the file itself can stand in it."""
        lines = []
        for name in KEYS:
            option = BY_NAME[name]
            example_value = [option.example] if option.repeat else option.example or True
            lines.append(f"{name} = {toml(example_value)}")
        made = self.from_file("\n".join(lines) + "\n[limits]\nmax_outgoing = 1\n")
        self.assertEqual(
            {name for name, setting in made.settings.items() if setting.source == DEFAULT},
            {"check"},
        )
        self.assertEqual(made["exec"], ("/usr/local/bin/on-alert", "--verbose"))

    def test_a_command_as_a_list(self) -> None:
        """In a file a program's arguments need no quoting."""
        self.assertEqual(self.from_file('exec = ["run", "a b"]')["exec"], ("run", "a b"))


class ReportTests(ConfigurationTestCase):
    def test_every_value_is_in_it(self) -> None:
        """``--check`` shows each option and each limit, its value and its source."""
        rows = configure({"join": ["a:1", "[::1]:2"], "tls": True}).rows()
        names = [name for name, _, _ in rows]
        expected = {option.name for option in OPTIONS} - {"check", "limit"}
        self.assertEqual(set(names), expected | {f"limit {name}" for name in limits()})
        self.assertEqual(
            [row[1:] for row in rows if row[0] == "join"],
            [("a:1", COMMAND_LINE), ("[::1]:2", COMMAND_LINE)],
        )
        self.assertIn(("tls", "yes", COMMAND_LINE), rows)
        self.assertIn(("advertise", "-", DEFAULT), rows)
        self.assertIn(("max-message", "8 MiB", DEFAULT), rows)
        self.assertIn(("exec-timeout", "60 s", DEFAULT), rows)

    def test_aligned(self) -> None:
        """Sources stand in one column, as long as no value is too long for that."""
        lines = configure({"network": "alerts"}).report().splitlines()
        places = {
            line.rindex(source)
            for line in lines
            for source in (DEFAULT, COMMAND_LINE)
            if line.endswith(source)
        }
        self.assertEqual(len(places), 1)
        self.assertTrue(all(line.endswith((DEFAULT, COMMAND_LINE)) for line in lines))

    def test_a_long_value_does_not_move_the_others(self) -> None:
        """One long command leaves the lines of the others as they are."""
        lines = configure({"exec": "run " + "x" * 200}).report().splitlines()
        self.assertLess(max(len(line) for line in lines if not line.startswith("exec ")), 90)

    def test_numbers_as_they_are(self) -> None:
        """No digit of a limit is lost in print."""
        made = configure(
            {"limit": ["seen_capacity=1234567", "frame_timeout=123456.7", "drain_time=0.001"]}
        )
        rows = {name: value for name, value, _ in made.rows()}
        self.assertEqual(rows["limit seen_capacity"], "1234567")
        self.assertEqual(rows["limit drain_time"], "0.001")
        self.assertEqual(float(rows["limit frame_timeout"]), 123456.7)

    def test_one_line_a_value(self) -> None:
        """A value cannot break its line, or draw on the terminal."""
        report = self.from_file('exec = ["run", "a\\nb\\u001b[2J"]').report()
        self.assertEqual(len(report.splitlines()), len(configure({}).rows()))
        self.assertNotIn("\x1b", report)


class MistakeTests(ConfigurationTestCase):
    def test_wrong_values(self) -> None:
        """The line has the option as typed, what was expected, and an example that works."""
        for name, bad in (
            ("listen", ["4444"]),
            ("join", ["host"]),
            ("advertise", "host:http"),
            ("network", ""),
            ("max-peers", "many"),
            ("max-message", "1"),
            ("limit", ["max_outgoing"]),
            ("exec", "'"),
            ("exec-parallel", "0"),
            ("exec-queue", "-1"),
            ("exec-timeout", "nan"),
            ("debug-level", "6"),
        ):
            text = self.error({name: bad})
            shown = bad[0] if isinstance(bad, list) else bad
            self.assertTrue(text.startswith(f"--{name}={shown}: expected "), text)
            advice = text.partition(", for example ")[2]
            self.assertIn(f"--{name}=", advice)
            self.assertIn(BY_NAME[name].example, advice)

    def test_one_line_whatever_was_typed(self) -> None:
        """A value with line breaks or escape sequences is shown, not obeyed."""
        for value in ("a\nb:1", "a\r\nb", "\x1b[2J:1", "a\u2028b"):
            text = self.error({"join": [value]})
            self.assertTrue(text.isprintable(), repr(text))

    def test_wrong_values_in_a_file(self) -> None:
        """The line has the file, the key, and an example as it would stand there."""
        for content, start, end in (
            ("listen = 4444", "listen: expected ", 'listen = ["tcp:4444:interface=127.0.0.1"]'),
            ('join = ["a"]', "join: expected ", 'join = ["192.0.2.7:4444"]'),
            ("max_peers = 1.5", "max_peers: expected ", "max-peers = 200"),
            ("max-message = true", "max-message: expected ", 'max-message = "1MiB"'),
            ("exec-timeout = 0", "exec-timeout: expected ", "exec-timeout = 5"),
            ("network = 7", "network: expected ", 'network = "alerts"'),
            ('tls = "yes"', "tls: expected ", "true or false"),
            ("exec = [1]", "exec: expected ", '"/usr/local/bin/on-alert --verbose"'),
            ("debug-level = 2020-01-01", "debug-level: expected ", "debug-level = 5"),
        ):
            text = self.error_in_file(content)
            self.assertTrue(text.startswith(start), text)
            self.assertTrue(text.endswith(end), text)

    def test_examples_for_files_are_toml(self) -> None:
        """What is given as an example for a file can be copied into it."""
        for name in KEYS:
            if name in ("tls", "discover"):
                continue
            text = self.error_in_file(f"{name} = 2020-01-01")
            line = text.partition("for example ")[2]
            self.assertTrue(line, text)
            self.assertEqual(self.from_file(line).settings[name].source[-9:], "node.toml")

    def test_unknown_keys(self) -> None:
        """A key that nothing has is answered with the closest one, or with all."""
        for key, close in (
            ("listn", "listen"),
            ("max_peer", "max-peers"),
            ("MAX-PEERS", None),
            ("limit", "limits"),
            ("exec_timeuot", "exec-timeout"),
            ("networks", "network"),
        ):
            text = self.error_in_file(f"{key} = 1")
            self.assertTrue(text.startswith(f"unknown key {key!r}"), text)
            if close:
                self.assertTrue(text.endswith(f"did you mean {close!r}?"), text)
        text = self.error_in_file("quux = 1")
        for key in [*KEYS, "limits"]:
            self.assertIn(key, text)

    def test_what_must_not_stand_in_a_file(self) -> None:
        """A file names no other file, and asks for no check."""
        for line in ('config = "other.toml"', "check = true", "limit = 1"):
            self.assertIn("unknown key", self.error_in_file(line))

    def test_twice(self) -> None:
        """A key in both of its spellings is a mistake, whichever was meant."""
        text = self.error_in_file("max-peers = 1\nmax_peers = 2\n")
        self.assertIn("max-peers is given twice", text)

    def test_limits_twice(self) -> None:
        """The same goes for limits."""
        text = self.error_in_file("[limits]\nmax-outgoing = 1\nmax_outgoing = 2\n")
        self.assertIn("twice", text)

    def test_wrong_limits_in_a_file(self) -> None:
        """A table of numbers, with names that there are."""
        for content, words in (
            ("limits = 3", "[limits]"),
            ("limits = [1]", "[limits]"),
            ('[limits]\nmax_outgoing = "3"', "max_outgoing: expected a number"),
            ("[limits]\nmax_outgoing = true", "max_outgoing: expected a whole number"),
            ("[limits]\nextensions = 2", "extensions: expected yes or no"),
            ('[limits]\nextensions = "no"', "extensions: expected a number"),
            ("[limits]\nmax_outgoing = -1", "zero or more"),
            ("[limits]\nseen_window = nan", "zero or more"),
            ("[limits]\nseen_capacity = 1", "4096 at least"),
            ("[limits]\nmax_outging = 1", "did you mean 'max_outgoing'?"),
            ("[limits]\nmax_inbound = 1", "--max-peers"),
            ("[limits.max_outgoing]\na = 1", "expected a number"),
            ('[limits]\n"" = 1', "unknown limit ''"),
            ('[limits]\n"a=b" = 1', "unknown limit"),
        ):
            self.assertIn(words, self.error_in_file(content))

    def test_whole_limits_in_a_file(self) -> None:
        """Whoever writes a fraction where links are counted is told to write a whole number."""
        self.assertIn("whole number", self.error_in_file("[limits]\nmax_outgoing = 4.0"))

    def test_limits_keep_to_one_line(self) -> None:
        """A limit's name with a line break in it does not break the line."""
        self.assertIn("expected a number", self.error_in_file('[limits]\n"a\\nb" = "x"'))

    def test_unknown_limits_on_the_command_line(self) -> None:
        """They are answered with the closest one as well."""
        text = self.error({"limit": ["max_outging=3"]})
        self.assertIn("unknown limit 'max_outging', did you mean 'max_outgoing'?", text)

    def test_files_that_cannot_be_read(self) -> None:
        """Missing, a folder, forbidden: the line says which file and why."""
        folder = self.mktemp()
        os.makedirs(folder)
        for path, why in ((folder + "/none.toml", "No such file"), (folder, "directory")):
            text = self.error({"config": path})
            self.assertTrue(text.startswith(f"--config={path}: "), text)
            self.assertIn(why, text)
        denied = mock.patch("builtins.open", side_effect=PermissionError(13, "Permission denied"))
        with denied:
            self.assertIn("Permission denied", self.error({"config": "node.toml"}))

    def test_no_file_name(self) -> None:
        """An empty name is no file."""
        self.assertTrue(self.error({"config": ""}).startswith("--config="))

    def test_no_toml(self) -> None:
        """What is no TOML is shown with its place, whatever it is instead."""
        for content in (
            "listen: tcp:4444",
            "[limits",
            "a = 1\na = 2",
            "a = ",
            b"\xff\xfe",
            b"a = '\xff'",
            "a = '\x1b'",
            b"\0",
        ):
            self.assertIn("TOML", self.error_in_file(content))

    def test_toml_that_python_cannot_hold(self) -> None:
        """A number of thousands of digits and brackets without end are mistakes like others."""
        for content in (
            "exec-timeout = 1" + "0" * 400,
            "max-message = 1" + "0" * 400,
            "exec-timeout = 1" + "0" * 5000,
            "listen = " + "[" * 5000,
            "listen = " + "[" * 5000 + "]" * 5000,
            "x" + ".x" * 5000 + " = 1",
        ):
            self.error_in_file(content)

    def test_an_empty_file(self) -> None:
        """A file may be empty."""
        self.assertEqual(dict(self.from_file("")) | {"config": None}, dict(configure({})))

    def test_names_that_are_far_from_all(self) -> None:
        """Without a close one all names are listed."""
        self.assertEqual(unknown("key", "zzz", ["a", "b"]), "unknown key 'zzz'; there are a, b")
        self.assertEqual(unknown("key", "abc-d", ["abc_d"]), "unknown key 'abc-d', did you mean 'abc_d'?")  # fmt: skip


class AnyConfigurationTests(ConfigurationTestCase):
    def outcome(self, given_values: dict[str, Any]) -> None:
        """A configuration that can be printed, or one line."""
        try:
            made = configure(given_values)
        except ConfigurationError as error:
            self.assert_one_line(str(error))
        else:
            self.assertGreaterEqual(len(made.report().splitlines()), len(OPTIONS) - 2)
            Settings.from_options(made.limits)

    @given(tables)
    @example({"exec-timeout": 10**400})
    @example({"listen": ["tcp:1:interface=\\"]})
    @example({"listen": [], "join": []})
    @example({"limits": {"seen_window": math.inf, "max-outgoing": 10**30}})
    @example({"limits": {"handshake_timeout": 10**400}})
    @example({"limits": {"a\nb": True}})
    @example({"listen": [["tcp:1"]], "exec": [[]]})
    def test_any_table(self, table: dict[str, Any]) -> None:
        """Any TOML is a configuration or a `ConfigurationError` of one line."""
        lines = [f"{toml(key)} = {toml(value)}" for key, value in table.items()]
        self.outcome({"config": self.write("\n".join(lines))})

    @given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace")))  # fmt: skip
    def test_any_file(self, content: bytes) -> None:
        """So is whatever else stands in a file."""
        self.outcome({"config": self.write(content)})

    @given(
        st.fixed_dictionaries(
            {},
            optional={
                option.name: st.lists(typed, min_size=1, max_size=2)
                if option.repeat
                else st.just(True)
                if option.is_switch
                else typed
                for option in OPTIONS
                if option.name != "config"
            },
        )
    )
    @example({"listen": ["tcp:1:interface=a\\"]})
    @example({"join": ["a\nb"]})
    @example({"max-message": "9" * 5000})
    def test_any_command_line(self, given_values: dict[str, Any]) -> None:
        """So is whatever was typed."""
        self.outcome(given_values)

    @given(typed)
    def test_any_file_name(self, name: str) -> None:
        """And any name of a file that is not there."""
        self.outcome({"config": self.mktemp() + "/" + name})
