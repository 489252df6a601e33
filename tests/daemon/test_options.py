"""The options: one table, and readers that take what makes sense and name what they expected."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Callable
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core.settings import Settings
from py2p_twisted.daemon import options
from py2p_twisted.daemon.options import BY_NAME, NAMED_SETTINGS, OPTIONS, UnknownName

#: What may stand in a TOML file or on a command line, as Python has it.
texts = st.text(st.characters(exclude_categories=[]), max_size=30)
values = st.recursive(
    texts
    | st.integers()
    | st.floats()
    | st.booleans()
    | st.datetimes()
    | st.dates()
    | st.times()
    | st.sampled_from([10**400, -(10**400), 2**64, math.nan, math.inf]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


class ReaderTestCase(SynchronousTestCase):
    def assert_reads(self, read: Callable[[Any], Any], *pairs: tuple[Any, Any]) -> None:
        """What is given becomes what is expected, of the same type."""
        for given_value, expected in pairs:
            got = read(given_value)
            self.assertEqual((got, type(got)), (expected, type(expected)), given_value)

    def assert_refuses(self, read: Callable[[Any], Any], *bad: Any) -> None:
        """Each is refused by a `ValueError` that names what was expected, in one line."""
        for value in bad:
            try:
                got = read(value)
            except ValueError as error:
                self.assertRegex(str(error), r"^[a-zA-Z0-9].*\S$", repr(value)[:80])
                self.assertTrue(str(error).isprintable(), repr(str(error)))
                self.assertNotIn("digits", str(error), repr(value)[:80])
            else:
                self.fail(f"{value!r:.80} was read as {got!r:.80}")


class TableTests(SynchronousTestCase):
    def test_every_name_once(self) -> None:
        """No two options share a name or a letter."""
        names = [option.name for option in OPTIONS]
        letters = [option.short for option in OPTIONS if option.short]
        self.assertEqual(len(set(names)), len(names))
        self.assertEqual(len(set(letters)), len(letters))
        self.assertEqual(set(BY_NAME), set(names))
        for name in names:
            self.assertRegex(name, r"^[a-z]+(-[a-z]+)*$")

    def test_what_was_promised_is_there(self) -> None:
        """The options that the documents speak of can be set."""
        promised = (
            "listen join advertise network tls max-peers max-message exec debug-level config check"
        )
        self.assertEqual(set(promised.split()) - set(BY_NAME), set())

    def test_letters_of_twistd_stay_its_own(self) -> None:
        """``-n`` means something to whoever runs twistd."""
        self.assertNotIn("n", {option.short for option in OPTIONS})

    def test_help_is_one_sentence(self) -> None:
        """A help text begins small, ends without a full stop, and stays on its line."""
        for option in OPTIONS:
            self.assertRegex(option.help, r"^[a-z][^\n]*[^.\s]$", option.name)

    def test_each_has_what_its_kind_needs(self) -> None:
        """Whoever takes a value says what kind and gives an example; switches default to no."""
        for option in OPTIONS:
            if option.is_switch:
                self.assertEqual((option.example, option.default), ("", False), option.name)
            else:
                self.assertTrue(option.metavar.isupper() or option.metavar == "0-5", option.name)
                self.assertTrue(option.example, option.name)
            if option.repeat:
                self.assertIsInstance(option.default, tuple, option.name)

    def test_examples_are_read(self) -> None:
        """The example in an error message is one that would have worked."""
        for option in OPTIONS:
            if option.example:
                option.read(option.example)

    def test_defaults_read_as_they_are_shown(self) -> None:
        """What ``--check`` prints for a default can be typed."""
        for option in OPTIONS:
            defaults = option.default if option.repeat else (option.default,)
            for default in defaults:
                if default is None or option.is_switch or option.name == "exec-timeout":
                    continue
                self.assertEqual(option.read(option.shown(default)), default, option.name)

    def test_bounds(self) -> None:
        """Numbers have bounds that a machine can live with."""
        for name, least, most in (
            ("max-peers", 0, 100_000),
            ("exec-parallel", 1, 1000),
            ("exec-queue", 1, 1_000_000),
            ("debug-level", 0, 5),
        ):
            option = BY_NAME[name]
            self.assertEqual((option.read(least), option.read(most)), (least, most))
            for value in (least - 1, most + 1):
                self.assertRaises(ValueError, option.read, value)

    def test_files(self) -> None:
        """What names a file is completed with files."""
        named = {option.name for option in OPTIONS if option.files}
        self.assertEqual(named, {"config", "control", "exec", "state-dir"})

    def test_limits_are_the_settings(self) -> None:
        """Every setting has either an option of its own or a limit's name, and its default."""
        fields = Settings.__dataclass_fields__
        named = set(NAMED_SETTINGS.values())
        self.assertEqual(set(options.limits()) | named, set(fields))
        self.assertEqual(set(options.limits()) & named, set())
        for name, default in options.limits().items():
            self.assertEqual(default, fields[name].default)
        for option, field in NAMED_SETTINGS.items():
            self.assertEqual(BY_NAME[option].default, fields[field].default)


class AnyValueTests(SynchronousTestCase):
    @given(st.sampled_from(OPTIONS), values)
    @example(BY_NAME["exec-timeout"], 10**400)
    @example(BY_NAME["listen"], "tcp:4444:interface=a\\")
    @example(BY_NAME["listen"], "tcp6:\\")
    @example(BY_NAME["listen"], "tcp:" + "9" * 5000)
    @example(BY_NAME["max-message"], "9" * 5000)
    @example(BY_NAME["limit"], "max_replies=" + "9" * 5000)
    @example(BY_NAME["limit"], "seen_window=1e999")
    @example(BY_NAME["join"], "[::1]:" + "9" * 5000)
    @example(BY_NAME["join"], ":::")
    @example(BY_NAME["network"], "\udcff")
    @example(BY_NAME["exec"], [])
    @example(BY_NAME["exec"], ["a", "\0"])
    def test_a_value_or_a_reason(self, option: options.Option, value: Any) -> None:
        """Whatever stands behind an option, it is read or refused with a `ValueError`."""
        try:
            read = option.read(value)
        except ValueError as error:
            self.assertTrue(str(error))
        else:
            self.assertTrue(option.shown(read) or read == "", option.name)

    @given(st.sampled_from(["tcp:", "tcp6:", "unix:", "ssl:", ""]), texts)
    def test_endpoints(self, kind: str, rest: str) -> None:
        """The same for anything that begins like an endpoint."""
        try:
            self.assertEqual(options.endpoint(kind + rest), kind + rest)
        except ValueError as error:
            self.assertIn("endpoint", str(error))


class EndpointTests(ReaderTestCase):
    def test_taken(self) -> None:
        """Endpoint strings of IPv4, IPv6, interfaces, sockets, and other packages' types."""
        for value in (
            "tcp:4444",
            "tcp:0",
            "tcp:65535",
            "tcp:port=4444",
            "tcp:4444:interface=127.0.0.1",
            r"tcp:4444:interface=\:\:1",
            "tcp:4444:backlog=10",
            "tcp6:4444",
            r"tcp6:4444:interface=\:\:1",
            "unix:/run/py2p.sock",
            "ssl:4443:privateKey=key.pem",
            "systemd:domain=INET:index=0",
            "onion:4444",
        ):
            self.assertEqual(options.endpoint(value), value)

    def test_refused(self) -> None:
        """What no endpoint could be made of is refused before anything is started."""
        self.assert_refuses(
            options.endpoint,
            "",
            "4444",
            ":4444",
            "tcp",
            "tcp:",
            "tcp:http",
            "tcp:4444:4445:4446:4447",
            "tcp:4444:interfaces=127.0.0.1",
            "tcp:4444:backlog=many",
            "tcp:4444:interface=127.0.0.1\\",
            "unix:/run/py2p.sock:mode=999",
            " tcp:4444",
            "127.0.0.1:4444",
            4444,
            None,
            ["tcp:4444"],
            b"tcp:4444",
        )

    def test_ports_that_there_are_not(self) -> None:
        """A port is a number from 0 to 65535; nothing else would be noticed before it is bound."""
        self.assert_refuses(
            options.endpoint, "tcp:65536", "tcp:-1", "tcp6:99999", "tcp:port=70000", "tcp:4444444"
        )


class AddressTests(ReaderTestCase):
    def test_taken(self) -> None:
        """A name, IPv4, or IPv6 in brackets, and a port."""
        self.assert_reads(
            options.address,
            ("192.0.2.7:4444", ("192.0.2.7", 4444)),
            ("node.example:1", ("node.example", 1)),
            ("localhost:65535", ("localhost", 65535)),
            ("[2001:db8::7]:4444", ("2001:db8::7", 4444)),
            ("[::1]:4444", ("::1", 4444)),
            ("[fe80::1%eth0]:4444", ("fe80::1%eth0", 4444)),
            ("nöde.example:4444", ("nöde.example", 4444)),
        )

    def test_refused(self) -> None:
        """What could never be dialled is refused."""
        self.assert_refuses(
            options.address,
            *("", ":", "host", "host:", ":4444", "host:http", "host:0", "host:65536", "host:-1"),
            *("host:4444:5", "::1:4444", "2001:db8::7", "[::1]", "[::1]:", "[]:4444"),
            *("a b:1", "host:44 44", "host:4444\n", "\thost:1", "a@b:1", "http://host:1"),
            *("ho\x1bst:1", "host\0:1", "x" * 254 + ":1", "host:" + "9" * 5000),
            *(4444, None, True, ["host", 4444], {"host": 1}, b"host:1", 1.5),
        )

    def test_brackets_are_for_addresses(self) -> None:
        """Brackets that do not hold an IPv6 address are a typing mistake."""
        self.assert_refuses(
            options.address, "[nonsense:x]:1", "[::1:4444", "[192.0.2.7:4]:4", "[host]]:1"
        )

    def test_outward(self) -> None:
        """What others are told to dial may leave its port to what is listened on."""
        self.assert_reads(
            options.outward_address,
            ("203.0.113.21:44565", ("203.0.113.21", 44565)),
            ("203.0.113.21", ("203.0.113.21", 0)),
            ("node.example", ("node.example", 0)),
            ("[2001:db8::7]", ("2001:db8::7", 0)),
            ("[2001:db8::7]:4444", ("2001:db8::7", 4444)),
            ("node.example:0", ("node.example", 0)),
        )

    def test_outward_refused(self) -> None:
        """A host that nobody could dial is none without a port either."""
        self.assert_refuses(
            options.outward_address,
            *("", ":", ":0", ":4444", "::1", "2001:db8::7", "a b", "host:http", "host:70000"),
            *("a/b", "@", "user@host", "http://host", "\x1b[2J", "x\0", "ho\nst", "x" * 254),
            *(4444, None, True, [], b"host"),
        )

    def test_shown_as_typed(self) -> None:
        """An address is printed in the form in which it is typed."""
        for text in ("192.0.2.7:4444", "[2001:db8::7]:4444", "node.example:1"):
            self.assertEqual(options.show_address(options.address(text)), text)
        for text in ("node.example", "[::1]"):
            self.assertEqual(options.show_address(options.outward_address(text)), text)


class NumberTests(ReaderTestCase):
    def test_whole_numbers(self) -> None:
        """Digits within the bounds, from the command line or a file."""
        read = options.number(0, 5)
        self.assert_reads(read, ("0", 0), ("5", 5), (3, 3), ("003", 3))
        self.assert_refuses(
            read,
            *("", "-1", "6", "1.0", "1e0", " 1", "1\n", "one", "0x1", "1_0", "٤", "9" * 5000),
            *(-1, 6, 1.0, True, False, None, [1], math.nan, 10**400),
        )

    def test_without_a_most(self) -> None:
        """A number may have no bound above; then the text says so."""
        read = options.number(1)
        self.assertEqual(read(10**17), 10**17)
        self.assertIn("from 1 on", str(self.assertRaises(ValueError, read, 0)))

    def test_seconds(self) -> None:
        """A time is a positive number, with or without a fraction."""
        self.assert_reads(
            options.seconds,
            *(("5", 5.0), ("0.25", 0.25), ("1e3", 1000.0), (5, 5.0), (0.5, 0.5)),
        )
        self.assert_refuses(
            options.seconds,
            *("", "0", "-1", "nan", "inf", "-inf", "1e400", "soon", "5 s", "5s", "٤x"),
            *(0, -1, 0.0, math.nan, math.inf, True, False, None, [], {}, "9" * 400),
            datetime.time(0, 0, 5),
        )

    def test_seconds_beyond_all_bounds(self) -> None:
        """A number that no float can hold is refused, like one that only infinity could."""
        self.assert_refuses(options.seconds, 10**400, -(10**400))

    def test_sizes(self) -> None:
        """Bytes, or a number with a unit in any spelling."""
        self.assert_reads(
            options.message_size,
            *(("1024", 1024), ("1K", 1024), ("1 KiB", 1024), ("8mib", 2**23), ("1MB", 2**20)),
            *(("2G", 2**31), (" 4096 ", 4096), ("4096B", 4096), (1024, 1024), (2**31, 2**31)),
        )
        self.assert_refuses(
            options.message_size,
            *("", "1023", "0", "-1", "1.5M", "3G", "1T", "MiB", "1 K i B", "1KK", "1e6", "2G1"),
            *(0, 1023, 2**31 + 1, 10**400, 2048.0, True, None, [], math.nan),
        )

    def test_sizes_of_too_many_digits(self) -> None:
        """The reason is the size, not how Python reads numbers."""
        self.assert_refuses(options.message_size, "9" * 5000, "9" * 5000 + "K")

    def test_sizes_as_shown(self) -> None:
        """A size is shown in the largest unit that leaves no fraction."""
        for size, shown in (
            (1024, "1 KiB"),
            (1025, "1025 bytes"),
            (3 * 2**19, "1536 KiB"),
            (8 * 2**20, "8 MiB"),
            (2**31, "2 GiB"),
        ):
            self.assertEqual(options.show_size(size), shown)

    def test_sizes_read_as_they_are_shown(self) -> None:
        """What is printed for a size is that size."""
        for size in (1024, 1025, 3 * 1024, 2**20, 5 * 2**20 + 1024, 8 * 2**20, 2**31):
            shown = options.show_size(size)
            self.assertEqual(options.message_size(shown.removesuffix(" bytes")), size, shown)


class OtherReaderTests(ReaderTestCase):
    def test_text(self) -> None:
        """Any text but an empty one."""
        self.assert_reads(options.text, ("mesh", "mesh"), ("ä b", "ä b"))
        self.assert_refuses(options.text, "", " ", "\n", None, 7, True, [], b"mesh")

    def test_text_that_cannot_be_encoded(self) -> None:
        """A name that is no UTF-8 makes no network id, so it is refused where it is typed."""
        self.assert_refuses(options.text, "\udcff", "caf\udce9")

    def test_switches(self) -> None:
        """On and off are true and false, and nothing that looks like them."""
        self.assert_reads(options.switch, (True, True), (False, False))
        self.assert_refuses(options.switch, "true", "yes", 1, 0, None, [], "")
        self.assertEqual((options.show_switch(True), options.show_switch(False)), ("yes", "no"))

    def test_command_lines(self) -> None:
        """A program and its arguments in a shell's quoting, or as a list."""
        self.assert_reads(
            options.command_line,
            ("logger -t alert", ("logger", "-t", "alert")),
            ("'/opt/my tools/run' \"a b\" c\\ d ''", ("/opt/my tools/run", "a b", "c d", "")),
            (["run", "a b", ""], ("run", "a b", "")),
            ("run # comment", ("run", "#", "comment")),
            ("run 'a\nb'", ("run", "a\nb")),
        )
        self.assert_refuses(
            options.command_line,
            *("", "   ", "''", "'' a", '"open', "a\\", "a\0b", "a 'b\0'"),
            *([], [""], ["", "a"], ["a", 1], ["a", "\0"], ("a",), None, 7, True, {}, b"a"),
        )

    def test_quotes_that_are_open(self) -> None:
        """Whoever forgets a quote is told about quotes."""
        error = self.assertRaises(ValueError, options.command_line, "run 'a b")
        self.assertIn("quotes", str(error))

    def test_limits(self) -> None:
        """A limit is a setting's name and a number of its kind."""
        self.assert_reads(
            options.limit,
            ("max_outgoing=8", ("max_outgoing", 8)),
            ("max-outgoing=8", ("max_outgoing", 8)),
            ("seen_window=1.5", ("seen_window", 1.5)),
            ("seen_window=60", ("seen_window", 60.0)),
            (" max_outgoing = 8", ("max_outgoing", 8)),
            ("drain_time=0", ("drain_time", 0.0)),
        )
        self.assert_refuses(
            options.limit,
            *("", "max_outgoing", "max_outgoing=", "max_outgoing=many", "max_outgoing=-1"),
            *("max_outgoing=8=9", "seen_window=nan", "seen_window=-1", "seen_capacity=4095"),
            *("nonesuch=1", "=1", "max_inbound=5", "max_message=5", "max_peers=5"),
            *(8, None, True, ["max_outgoing=8"], {"max_outgoing": 8}),
        )

    def test_intervals_are_positive(self) -> None:
        """A rate over no time at all is none: the first slow frame would divide by it."""
        self.assert_refuses(options.limit, "progress_interval=0")

    def test_whole_limits_say_so(self) -> None:
        """Whoever gives a fraction of a link is told that it has to be a whole number."""
        for value in ("max_outgoing=4.5", "max_outgoing=4.0"):
            error = self.assertRaises(ValueError, options.limit, value)
            self.assertIn("whole number", str(error))

    def test_limits_with_an_option(self) -> None:
        """Whoever sets a limit that has an option of its own is told its name."""
        error = self.assertRaises(ValueError, options.limit, "max_inbound=5")
        self.assertIn("--max-peers", str(error))

    def test_unknown_limits(self) -> None:
        """The error knows what there would have been."""
        error = self.assertRaises(UnknownName, options.limit, "max_outging=5")
        self.assertEqual(error.name, "max_outging")
        self.assertEqual(error.known, list(options.limits()))
        self.assertTrue(all(re.fullmatch("[a-z_]+", name) for name in error.known))
