"""
Who is let in.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from py2p_twisted.web import guard
from py2p_twisted.web.guard import Refused, TokenGuard, check_host, check_json, check_origin
from tests import profile

profile.load()


def headers(**said: str | list[str]) -> Headers:
    return Headers(
        {
            name.replace("_", "-"): [value] if isinstance(value, str) else value
            for name, value in said.items()
        }
    )


class HostTests(SynchronousTestCase):
    def test_who_is_let_in(self) -> None:
        """Addresses, localhost, and names that were given; ports are nobody's business."""
        for host in (
            "localhost", "LocalHost:8080", "127.0.0.1", "127.0.0.1:80", "[::1]:8080", "10.0.0.7:1",
            "[2001:db8::7]", "page.example:8080", "PAGE.example.", "localhost.",
        ):  # fmt: skip
            self.assertEqual(check_host(headers(host=host), {"page.example"}), host.lower())

    def test_who_is_not(self) -> None:
        """Names of others, whatever they look like, none at all, and two."""
        bad: list[str | list[str]] = [
            "evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example",
            "xn--localhost", "", " ", "localhost localhost", "localhost:8080:8080", "[::1", "[evil]",
            "user@localhost", "localhost/", "a" * 300, "::1", "[::1%lo]", "page.example.evil",
            ["localhost", "localhost"], [],
        ]  # fmt: skip
        for host in bad:
            with self.assertRaises(Refused) as caught:
                check_host(headers(host=host), {"page.example"})
            self.assertEqual(
                (caught.exception.code, caught.exception.reason), (403, "foreign host")
            )

    @given(st.binary(max_size=40))
    def test_whatever_is_said(self, host: bytes) -> None:
        """It is refused, or it is an address."""
        said = Headers()
        said.addRawHeader(b"host", host.replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b""))
        try:
            found = check_host(said)
        except Refused:
            return
        self.assertRegex(found, r"^([0-9.]+|\[[0-9a-f:.]+\]|localhost\.?)(:\d+)?$")


class OriginTests(SynchronousTestCase):
    HOST = "localhost:8080"

    def refused(self, changes: bool, **said: str | list[str]) -> bool:
        try:
            check_origin(headers(**said), self.HOST, changes=changes)
        except Refused as error:
            self.assertEqual((error.code, error.reason), (403, "foreign origin"))
            return True
        return False

    def test_ours(self) -> None:
        """Our own page, and those who are no browser."""
        for changes in (True, False):
            self.assertFalse(self.refused(changes))
            self.assertFalse(self.refused(changes, origin="http://localhost:8080"))
            self.assertFalse(self.refused(changes, origin="HTTPS://LOCALHOST:8080"))
            self.assertFalse(self.refused(changes, sec_fetch_site="same-origin"))
            self.assertFalse(self.refused(changes, sec_fetch_site="none"))

    def test_others(self) -> None:
        """Another site, also if it is another port of this machine."""
        for changes in (True, False):
            for origin in (
                "http://evil.example", "null", "", "http://localhost:8081", "http://localhost",
                "ftp://localhost:8080", "http://localhost:8080.evil.example", "http://127.0.0.1:8080",
            ):  # fmt: skip
                self.assertTrue(self.refused(changes, origin=origin), origin)
            for site in ("cross-site", "same-site", "", "Same-Origin"):
                self.assertTrue(self.refused(changes, sec_fetch_site=site), site)
            self.assertTrue(
                self.refused(changes, origin=["http://localhost:8080", "http://evil.example"])
            )

    def test_links(self) -> None:
        """A link of another site may lead to the page, but not do anything."""
        link = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}
        self.assertFalse(self.refused(False, **link))
        self.assertTrue(self.refused(True, **link))
        self.assertTrue(self.refused(False, **{**link, "sec_fetch_mode": "no-cors"}))


class JsonTests(SynchronousTestCase):
    def test_content_types(self) -> None:
        """What forms can send is refused."""
        check_json(headers(content_type="application/json"))
        check_json(headers(content_type="Application/JSON; charset=utf-8"))
        for kind in (
            [], "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "",
            "application/jsonp", ["application/json", "text/plain"], "text/plain;application/json",
        ):  # fmt: skip
            with self.assertRaises(Refused) as caught:
                check_json(headers(content_type=kind))
            self.assertEqual(caught.exception.code, 415)


class TokenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 1000.0
        self.guard = TokenGuard("right", lambda: self.now)

    def say(self, *tokens: str, address: str = "127.0.0.1") -> int:
        try:
            self.guard.check(headers(x_py2p_token=list(tokens)), address)
        except Refused as error:
            return error.code
        return 200

    def test_tokens(self) -> None:
        """The right one, once."""
        self.assertEqual(self.say("right"), 200)
        for wrong in ("", "wrong", "righ", "right ", "rightt", "RIGHT", "ü"):
            self.assertEqual(self.say(wrong), 401, wrong)
        self.assertEqual(self.say("right", "right"), 401)
        self.assertEqual(self.say(), 401)

    def test_no_token(self) -> None:
        """Without one nothing is right."""
        self.guard = TokenGuard(None, lambda: self.now)
        for said in ("", "None", "right"):
            self.assertEqual(self.say(said), 401)

    def test_in_constant_time(self) -> None:
        """Compared by what is made for it."""
        compared: list[tuple[bytes, bytes]] = []

        def compare(one: bytes, other: bytes) -> bool:
            compared.append((one, other))
            return False

        self.patch(guard.hmac, "compare_digest", compare)
        self.assertEqual(self.say("right"), 401)
        self.assertEqual(compared, [(b"right", b"right")])

    def test_guessing(self) -> None:
        """After ten wrong ones an address has to wait; then one more, every six seconds."""
        for _ in range(guard.WRONG_TOKENS):
            self.assertEqual(self.say("wrong"), 401)
        self.assertEqual(self.say("wrong"), 429)
        self.assertEqual(self.say("right"), 429)
        self.assertEqual(self.say("right", address="127.0.0.2"), 200)
        self.now += guard.WRONG_AGAIN
        self.assertEqual(self.say("wrong"), 401)
        self.assertEqual(self.say("wrong"), 429)
        self.now += guard.WRONG_AGAIN
        self.assertEqual(self.say("right"), 200)

    def test_networks(self) -> None:
        """Whoever has one address of IPv6 has many."""
        for number in range(guard.WRONG_TOKENS):
            self.assertEqual(self.say("wrong", address=f"2001:db8::{number:x}"), 401)
        self.assertEqual(self.say("right", address="2001:db8::ffff"), 429)
        self.assertEqual(self.say("right", address="2001:db8:1::1"), 200)

    def test_many_addresses(self) -> None:
        """What is remembered of them is limited."""
        for number in range(3000):
            self.say("wrong", address=f"10.0.{number // 250}.{number % 250}")
        self.assertLessEqual(len(self.guard._wrong), 1024)
