"""
The web server of a node: what is where, and what it costs.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tempfile
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.errors import BadArgument
from py2p_twisted.net import MeshService
from py2p_twisted.testing.memory import HIGH_WATER
from py2p_twisted.web import WebService, server
from py2p_twisted.web.guard import MOST_BODY, WRONG_TOKENS
from py2p_twisted.web.server import (
    LINGER,
    MOST_CONNECTIONS,
    MOST_HEAD,
    MOST_SENDS,
    REQUEST_TIMEOUT,
    SECURITY,
    endpoint_text,
)
from tests import profile
from tests.web.people import HOST, TOKEN, WEB, Client, WebTestCase, read, request

profile.load()

EVIL = "http://evil.example"


class EndpointTests(SynchronousTestCase):
    def test_this_machine_alone(self) -> None:
        """Unless an interface is named."""
        for text, wanted in {
            "8080": "tcp:8080:interface=127.0.0.1",
            "tcp:8080": "tcp:8080:interface=127.0.0.1",
            "tcp:8080:backlog=5": "tcp:8080:backlog=5:interface=127.0.0.1",
            "tcp6:8080": "tcp6:8080:interface=\\:\\:1",
            "ssl:8080:privateKey=x": "ssl:8080:privateKey=x:interface=127.0.0.1",
            "tcp:8080:interface=0.0.0.0": "tcp:8080:interface=0.0.0.0",
            "unix:/run/x.sock": "unix:/run/x.sock",
            "tcp:port=8080": "tcp:port=8080:interface=127.0.0.1",
            "tcp: 8080": "tcp: 8080:interface=127.0.0.1",
            "tcp:interface=0.0.0.0:port=8080": "tcp:interface=0.0.0.0:port=8080",
            "haproxy:tcp:8080": "haproxy:tcp:8080:interface=127.0.0.1",
            "ssl:8080:privateKey=a\\:interface=b": "ssl:8080:privateKey=a\\:interface=b:interface=127.0.0.1",
        }.items():
            self.assertEqual(endpoint_text(text), wanted)

    def test_bad_ones(self) -> None:
        """They are refused when the service is made."""
        mesh = MeshService(Clock(), "mesh", listen=[])
        for text in ("", "x", "tcp:", "tcp:x", "udp:8080", "127.0.0.1:8080"):
            with self.assertRaises(BadArgument):
                WebService(Clock(), mesh, text)


class PageTests(WebTestCase):
    def test_the_page(self) -> None:
        """Its files, each as what it is."""
        for path, kind, part in (
            ("/", "text/html; charset=utf-8", b"<!doctype html>"),
            ("/app.js", "text/javascript; charset=utf-8", b"EventSource"),
            ("/app.css", "text/css; charset=utf-8", b"{"),
            ("/favicon.svg", "image/svg+xml", b"<svg"),
        ):
            answer = self.get(path)
            self.assertEqual((answer.code, answer.headers["content-type"]), (200, kind), path)
            self.assertIn(part, answer.body)
            self.assertEqual(int(answer.headers["content-length"]), len(answer.body))
        self.assertEqual(self.get("/?x=1").code, 200)

    def test_nothing_inline(self) -> None:
        """The page keeps to what its Content-Security-Policy lets it do."""
        page = self.get("/").body.decode()
        self.assertNotRegex(page, r"<script(?![^>]*\bsrc=)")
        self.assertNotRegex(page, r"<style|\sstyle=|\son\w+=|https?://(?!www\.w3\.org)")

    def test_read_aloud(self) -> None:
        """Nothing that is read aloud when it changes holds a number that does so each second."""
        page = self.get("/").body.decode()
        aloud = re.findall(
            r'<(\w+)[^>]*(?:aria-live|role="(?:alert|status)")[^>]*>(.*?)</\1>', page, re.S
        )
        self.assertGreater(len(aloud), 3)
        for _, inside in aloud:
            for ticking in ("lost-text", "details-list", "rate-", "facts"):
                self.assertNotIn(f'id="{ticking}', inside)

    def test_json(self) -> None:
        """The same as the control words answer."""
        status = self.get("/status.json").json
        self.assertEqual((status["joined"], status["settled"]), (True, 1))
        self.assertEqual(status["status"]["id"], self.ada.id.decode())
        (peer,) = self.get("/peers.json").json["peers"]
        self.assertEqual(peer["id"], self.mesh["ben"].id.decode())
        self.assertGreater(peer["bytes_out"], 0)
        client = self.connect()
        client.transport.write(request("GET", "/members.json"))
        self.mesh.advance(6)
        members = read(client.data).json["members"]
        self.assertEqual({row["id"] for row in members}, {one.id.decode() for one in self.mesh})

    def test_health(self) -> None:
        """503 without peers."""
        answer = self.get("/healthz")
        self.assertEqual((answer.code, answer.json["joined"]), (200, True))
        self.mesh.stop("ben")
        answer = self.get("/healthz")
        self.assertEqual((answer.code, answer.json["settled"]), (503, 0))

    def test_methods(self) -> None:
        """HEAD is GET without the body; what has no sense is refused, and how it is done is said."""
        for path in ("/", "/status.json", "/healthz", "/metrics", "/events"):
            answer = self.ask("HEAD", path)
            self.assertEqual((answer.code, answer.body), (200, b""), path)
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "X"):
            answer = self.ask(method, "/", body=b"")
            self.assertEqual((answer.code, answer.headers["allow"]), (405, "GET, HEAD"), method)
        for method in ("GET", "HEAD", "PUT"):
            answer = self.ask(method, "/send")
            self.assertEqual((answer.code, answer.headers["allow"]), (405, "POST"), method)

    def test_no_such_page(self) -> None:
        """Whatever is asked for, no other file is given away."""
        for path in (
            "/x", "//", "/index.html", "/../web/server.py", "/%2e%2e/server.py", "/app.js/",
            "/app.js%00", "/assets/app.js", "/\\app.js", "*", "/status.json/x", "http://evil/",
        ):  # fmt: skip
            answer = self.get(path)
            self.assertEqual((answer.code, answer.json["reason"]), (404, "no such page"), path)

    def test_foreign_hosts(self) -> None:
        """Everything is refused to who takes us for somebody else."""
        for path in ("/", "/status.json", "/healthz", "/metrics", "/events", "/x"):
            for host in ("evil.example", "localhost.evil.example", ""):
                answer = self.get(path, Host=host)
                self.assertEqual((answer.code, answer.json["reason"]), (403, "foreign host"))
        self.assertEqual(self.post({"packets": ["x"]}, Host="evil.example").code, 403)
        for host in ("localhost:8080", "127.0.0.1", "[::1]:80", "page.ex", "PAGE.EX:8080"):
            self.assertEqual(self.get("/", Host=host).code, 200, host)
        client = self.connect()
        client.transport.write(b"GET / HTTP/1.0\r\n\r\n")
        self.mesh.settle()
        self.assertEqual(read(client.data).code, 403)

    def test_other_sites(self) -> None:
        """Their pages can read nothing; a link from them leads to the page."""
        for said in ({"Origin": EVIL}, {"Sec_Fetch_Site": "cross-site"}):
            for path in ("/status.json", "/events", "/app.js", "/"):
                self.assertEqual(self.get(path, **said).code, 403)
        answer = self.get("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")
        self.assertEqual(answer.code, 200)
        self.assertNotIn("access-control-allow-origin", answer.headers)

    def test_a_mistake_of_ours(self) -> None:
        """It is logged, and nothing of it is shown."""
        self.patch(self.ada.factory, "traffic_of_ended", "broken")
        answer = self.get("/metrics")
        self.assertEqual((answer.code, answer.json["reason"]), (500, "internal"))
        self.assertNotIn(b"broken", answer.body)
        self.assertEqual(len(self.flushLoggedErrors()), 1)
        self.logged.clear()

    def test_not_started(self) -> None:
        """Until there is a node, there is nothing but the page."""
        self.patch(self.ada.factory, "started", False)
        self.assertEqual(self.get("/").code, 200)
        for path in ("/status.json", "/healthz", "/metrics", "/events", "/members.json"):
            answer = self.get(path)
            self.assertEqual((answer.code, answer.json["reason"]), (503, "not started"), path)
        self.assertEqual(self.post({"packets": ["x"]}).code, 503)


class SendTests(WebTestCase):
    def test_sending(self) -> None:
        """What the page sends comes, and the answer says to how many."""
        answer = self.post({"packets": ["storm", {"$base64": "AP8="}, 7]})
        self.assertEqual((answer.code, answer.json), (200, {"ok": True, "peers": 1}))
        self.assertEqual(self.mesh.inbox("ben"), [("storm", b"\x00\xff", 7)])
        self.assert_well()

    def test_confirmed(self) -> None:
        """Who has it."""
        client = self.connect()
        body = json.dumps({"packets": ["storm"], "confirm": True, "timeout": 5}).encode()
        said = {"Content-Type": "application/json", "X-Py2p-Token": TOKEN}
        client.transport.write(request("POST", "/send", said, body))
        self.mesh.advance(4)
        answer = read(client.data)
        self.assertEqual(answer.code, 200)
        self.assertEqual(answer.json["delivered"], [self.mesh["ben"].id.decode()])
        self.assertEqual((answer.json["ok"], answer.json["missing"]), (True, []))
        self.assertEqual(self.mesh.inbox("ben"), [("storm",)])

    def test_what_cannot_be_sent(self) -> None:
        """Each is answered with the reason, and nothing is sent."""
        for body in (
            b"", b"{", b"[]", b"null", b'"x"', b"\xff", b"NaN", b"[" * 60_000, b'{"packets": 1}',
            b"{}", b'{"packets": [{"$base64": 1}]}', b'{"packets": ["x"], "confirm": 1}',
            b'{"packets": ["x"], "confirm": true, "timeout": -1}',
            b'{"packets": ["x"], "confirm": true, "timeout": "x"}',
            b'{"packets": [18446744073709551616]}', b'{"packets": ["\\ud800"]}',
        ):  # fmt: skip
            answer = self.post(body)
            self.assertEqual((answer.code, answer.json["ok"]), (400, False), body[:60])
        self.assertEqual(self.mesh.inbox("ben"), [])
        self.assert_well()

    @given(st.binary(max_size=200))
    def test_whatever_is_posted(self, body: bytes) -> None:
        """An answer comes."""
        self.assertIn(self.post(body).code, (200, 400))

    def test_nothing_else(self) -> None:
        """Whispers and types of one's own are for the control endpoint."""
        self.post({"packets": ["x"], "whisper": True, "type": 99})
        (message,) = self.mesh["ben"].received
        self.assertEqual(message.packets, (0, "x"))

    def test_tokens(self) -> None:
        """Without it nothing is sent, and those who guess have to wait."""
        for token, code in (("", 401), ("wrong", 401), (TOKEN[:-1], 401), (TOKEN + "t", 401)):
            answer = self.post({"packets": ["x"]}, X_Py2p_Token=token)
            self.assertEqual(answer.code, code)
        for _ in range(WRONG_TOKENS):
            answer = self.post({"packets": ["x"]}, X_Py2p_Token="wrong")
        self.assertEqual((answer.code, answer.headers["retry-after"]), (429, "60"))
        self.assertEqual(self.post({"packets": ["x"]}).code, 429)
        self.assertEqual(self.mesh.inbox("ben"), [])
        said = [event for event in self.logged if event.get("event") == "wrong token"]
        self.assertEqual(len(said), 1)
        self.mesh.advance(61)
        self.assertEqual(self.post({"packets": ["x"]}).code, 200)

    def test_pages_of_other_sites(self) -> None:
        """They cannot send, with the token neither; what a form can send is refused."""
        for said in (
            {"Origin": EVIL}, {"Origin": "null"}, {"Origin": "http://localhost:9999"},
            {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"},
            {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"},
        ):  # fmt: skip
            answer = self.post({"packets": ["x"]}, **said)
            self.assertEqual((answer.code, answer.json["reason"]), (403, "foreign origin"))
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
            answer = self.post({"packets": ["x"]}, Content_Type=kind)
            self.assertEqual((answer.code, answer.json["reason"]), (415, "no json"))
        form = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--\r\n'
        kind = "multipart/form-data; boundary=x"
        self.assertEqual(self.post(form, Content_Type=kind).code, 415)
        self.assertEqual(self.mesh.inbox("ben"), [])
        answer = self.post(
            {"packets": ["x"]}, Origin=f"http://{HOST}", Sec_Fetch_Site="same-origin"
        )
        self.assertEqual(answer.code, 200)

    def test_too_many_at_once(self) -> None:
        """The next one is told so; those who have gone do not count for ever."""
        waiting: list[Deferred[Any]] = []

        def send(request: dict[str, Any]) -> Deferred[Any]:
            waiting.append(Deferred())
            return waiting[-1]

        assert self.web._site is not None
        self.web._site.resource._words._words["send"] = send
        clients = []
        for _ in range(MOST_SENDS):
            clients.append(self.connect())
            said = {"Content-Type": "application/json", "X-Py2p-Token": TOKEN}
            clients[-1].transport.write(request("POST", "/send", said, b'{"packets": []}'))
        self.mesh.settle()
        self.assertEqual(len(waiting), MOST_SENDS)
        answer = self.post({"packets": []})
        self.assertEqual((answer.code, answer.json["reason"]), (429, "too many"))
        clients[0].transport.loseConnection()
        self.mesh.settle()
        waiting[0].callback({"peers": 1})
        waiting[1].errback(BadArgument("no"))
        self.mesh.settle()
        self.assertEqual(read(clients[1].data).code, 400)
        said = {"Content-Type": "application/json", "X-Py2p-Token": TOKEN}
        self.connect().transport.write(request("POST", "/send", said, b'{"packets": []}'))
        self.mesh.settle()
        self.assertEqual(len(waiting), MOST_SENDS + 1)


class LimitTests(WebTestCase):
    def test_large_bodies(self) -> None:
        """They are refused when their head has come, and never kept."""
        for path in ("/send", "/", "/nothing"):
            client = self.connect()
            head = request("POST", path, {"Content-Length": str(MOST_BODY + 1)})
            client.transport.write(head)
            self.mesh.settle()
            answer = read(client.data)
            self.assertEqual((answer.code, answer.json["reason"]), (413, "too large"))
            self.assertEqual(answer.headers["connection"], "close")
            for name, value in SECURITY:
                self.assertEqual(answer.headers[name.decode().lower()], value.decode())
            (asked,) = self.channel_of(client).requests
            client.transport.write(b"x" * MOST_BODY)
            self.mesh.settle()
            self.assertEqual(asked.content.getvalue(), b"")
            self.assertFalse(client.gone)
            self.mesh.advance(LINGER + 0.1)
            self.assertTrue(client.gone)
        self.assert_well()

    def test_the_largest(self) -> None:
        """It is taken."""
        body = b'{"packets": ["%s"]}' % (b"x" * (MOST_BODY - 17))
        self.assertEqual(len(body), MOST_BODY)
        self.assertEqual(self.post(body).code, 200)
        self.assertEqual(self.post(body + b" ").code, 413)

    def test_a_large_body_that_comes_whole(self) -> None:
        """The answer has come before the end of the connection."""
        client = self.connect()
        client.transport.write(request("POST", "/send", {}, b"x" * (MOST_BODY + 10)))
        self.mesh.settle()
        self.assertEqual(read(client.data).code, 413)
        self.assertTrue(client.gone)
        self.assertEqual(client.data.count(b"HTTP/1.1"), 1)

    def test_bodies_in_pieces(self) -> None:
        """The same without a length."""
        client = self.connect()
        said = {"Transfer-Encoding": "chunked", "Content-Type": "application/json"}
        client.transport.write(request("POST", "/send", {**said, "X-Py2p-Token": TOKEN}))
        for _ in range(17):
            client.transport.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
            self.mesh.settle()
        self.assertEqual(read(client.data).code, 413)
        self.assertEqual(client.data.count(b"HTTP/1.1"), 1)
        self.mesh.advance(LINGER + 0.1)
        self.assertTrue(client.gone)
        client = self.connect()
        client.transport.write(request("POST", "/send", {**said, "X-Py2p-Token": TOKEN}))
        client.transport.write(b'f\r\n{"packets": ["x\r\n3\r\n"]}\r\n0\r\n\r\n')
        self.mesh.settle()
        self.assertEqual(read(client.data).code, 200)

    def test_waiting_for_leave(self) -> None:
        """Who asks before a body that is too large is not told to go on."""
        client = self.connect()
        said = {"Expect": "100-continue", "Content-Length": "1000000"}
        client.transport.write(request("POST", "/send", said))
        self.mesh.settle()
        self.assertTrue(client.data.startswith(b"HTTP/1.1 413 "))
        self.assertNotIn(b" 100 ", client.data)
        client = self.connect()
        client.transport.write(request("POST", "/send", {**said, "Content-Length": "10"}))
        self.mesh.settle()
        self.assertTrue(client.data.startswith(b"HTTP/1.1 100 "))

    def test_large_heads(self) -> None:
        """A head is limited in bytes and in lines."""
        for head in (
            b"GET / HTTP/1.1\r\nX: " + b"x" * MOST_HEAD + b"\r\n\r\n",
            b"GET /" + b"x" * MOST_HEAD + b" HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100 + b"\r\n",
            b"x" * 100_000,
        ):
            client = self.connect()
            client.transport.write(head)
            self.mesh.advance(LINGER + 0.1)
            self.assertTrue(client.gone)
            self.assertNotIn(b"HTTP/1.1 200", client.data)
        self.assert_well()

    def test_no_http(self) -> None:
        """It is answered, with what all answers have, and that is the end."""
        for data in (
            b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9\r\n\r\n",
            b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"POST /send HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        ):  # fmt: skip
            client = self.connect()
            client.transport.write(data)
            self.mesh.advance(LINGER + 0.1)
            self.assertTrue(client.gone, data)
            answer = read(client.data)
            self.assertEqual((answer.code, answer.json["reason"]), (400, "bad request"), data)
            self.assertIn("content-security-policy", answer.headers)
        self.assert_well()

    def test_slow_requests(self) -> None:
        """One that trickles in is not waited for, in its head or its body."""
        head = request("POST", "/send", {"Content-Length": "1000"})
        for sent in (b"GET / HT", head):
            client = self.connect()
            client.transport.write(sent)
            for _ in range(int(REQUEST_TIMEOUT) - 1):
                self.mesh.advance(1)
                client.transport.write(b"x")
            self.assertFalse(client.gone)
            self.mesh.advance(2)
            self.assertTrue(client.gone)
        self.assert_well()

    def test_idle_connections(self) -> None:
        """They are not kept, and one that has been answered is closed."""
        client = self.connect()
        self.mesh.advance(REQUEST_TIMEOUT - 1)
        self.assertFalse(client.gone)
        self.mesh.advance(2)
        self.assertTrue(client.gone)
        client = self.connect()
        answer = self.ask("GET", "/healthz", {"Connection": "keep-alive"}, client=client)
        self.assertEqual((answer.code, answer.headers["connection"]), (200, "close"))
        self.assertTrue(client.gone)

    def test_many_requests_at_once(self) -> None:
        """One is answered: who asks a thousand times, and reads nothing, fills no memory."""
        client = self.connect()
        far = client.transport.other
        client.transport.stalled = True
        client.transport.write(request("GET", "/app.js") * 1000)
        for _ in range(20):
            self.mesh.settle()
        self.assertLess(far.pending, len(self.get("/app.js").body) + 2000)
        client.transport.unstall()
        self.mesh.settle()
        self.assertEqual(client.data.count(b"HTTP/1.1"), 1)
        self.assertTrue(client.gone)

    def test_more_than_a_request(self) -> None:
        """What comes behind one is not read, whether its answer is or not."""
        for stalled in (False, True):
            client = self.watch()
            assert self.web._site is not None
            (stream,) = self.web._site.watch.streams
            if stalled:
                client.transport.stalled = True
                stream.tell(b"x" * 2 * HIGH_WATER)
            for _ in range(200):
                client.transport.write(b"x" * 10_000)
                self.mesh.settle()
            self.assertGreater(client.transport.pending, 1_900_000)
            self.assertFalse(client.gone)
            client.transport.unstall()
            before = len(client.data)
            stream.tell(b"y")
            self.mesh.settle()
            self.assertGreater(len(client.data), before)
            client.transport.abortConnection()
            self.mesh.settle()
        self.assert_well()

    def test_answers_that_are_not_read(self) -> None:
        """After a while it is hung up on."""
        client = self.connect()
        far = client.transport.other
        client.transport.stalled = True
        client.transport.write(request("GET", "/app.js"))
        self.mesh.advance(REQUEST_TIMEOUT - 1)
        self.assertFalse(far.disconnected)
        self.mesh.advance(2)
        self.assertTrue(far.disconnected)
        self.assert_well()

    def test_many_connections(self) -> None:
        """One that asks for nothing makes way; those who watch stay."""
        watching = self.watch()
        idle = [self.connect() for _ in range(MOST_CONNECTIONS - 1)]
        self.assertFalse(any(client.gone for client in idle))
        self.assertEqual(self.ask("GET", "/healthz", client=self.connect()).code, 200)
        self.assertEqual([client.gone for client in idle].index(True), 0)
        self.assertEqual(sum(client.gone for client in idle), 1)
        assert self.web._site is not None
        self.assertEqual(len(self.web._site.channels), MOST_CONNECTIONS - 1)
        self.assertFalse(watching.gone)
        self.assertEqual(self.web.refused["connections"], 1)

    def test_nothing_is_logged(self) -> None:
        """However often it is asked."""
        self.logged.clear()
        for path in ("/", "/x", "/healthz"):
            self.get(path)
            self.ask("HEAD", path)
        self.assertEqual(self.logged, [])


class LifeTests(WebTestCase):
    def service(self, **how: Any) -> WebService:
        endpoint = self.mesh.network.server(("10.0.9.8", 81))
        return WebService(self.mesh.clock, self.ada, endpoint, **how)

    def test_a_token_file(self) -> None:
        """A new token each time, for nobody else to read, and gone with the page."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = os.path.join(folder.name, "sub", "web.token")
        tokens = set()
        web = self.service(token_file=path)
        for _ in range(2):
            self.assertIs(self.successResultOf(web.start()), web)
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
            with open(path) as file:
                tokens.add(file.read().strip())
            self.successResultOf(web.stopService())
            self.assertFalse(os.path.exists(path))
        self.assertEqual([len(token) for token in tokens], [64, 64])

    def test_the_log(self) -> None:
        """Where it is, and where the token is, but not the token."""
        (event,) = [one for one in self.logged if one.get("event") == "status page"]
        self.assertEqual(event["url"], "http://10.0.9.9:80/")
        self.assertEqual((self.web.port, self.web.url), (80, "http://10.0.9.9:80/"))
        web = self.service(token=TOKEN, token_file="/run/x.token")
        web.startService()
        event = self.logged[-1]
        self.assertEqual(event["token"], "token in /run/x.token")
        self.assertNotIn(TOKEN, repr(self.logged))
        self.successResultOf(web.stopService())

    def test_urls(self) -> None:
        """What a browser on this machine is told."""
        for text, host, url in (
            ("tcp:80:interface=0.0.0.0", "0.0.0.0", "http://127.0.0.1:80/"),
            ("tcp6:80:interface=\\:\\:", "::", "http://[::1]:80/"),
            ("tcp:80:interface=10.9.9.9", "10.9.9.9", "http://10.9.9.9:80/"),
        ):
            endpoint = self.mesh.network.server((host, 80))
            self.patch(server, "serverFromString", lambda *_, made=endpoint: made)
            web = WebService(self.mesh.clock, self.ada, text)
            self.successResultOf(web.start())
            self.assertEqual(web.url, url)
            self.successResultOf(web.stopService())

    def test_no_token(self) -> None:
        """Then nothing can be sent from it."""
        self.successResultOf(self.web.stopService())
        self.web = WebService(self.mesh.clock, self.ada, self.mesh.network.server(WEB))
        self.web.startService()
        for token in ("", "None", TOKEN):
            answer = self.post({"packets": ["x"]}, X_Py2p_Token=token)
            self.assertEqual((answer.code, answer.json["reason"]), (401, "no token"))
        self.assertEqual(self.mesh.inbox("ben"), [])

    def test_the_port_is_taken(self) -> None:
        """Starting fails, and no token is written."""

        class Taken:
            def listen(self, factory: object) -> Deferred[Any]:
                return fail(CannotListenError("here", 80, OSError(98, "in use")))

        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = os.path.join(folder.name, "web.token")
        web = WebService(self.mesh.clock, self.ada, Taken(), token_file=path)  # type: ignore[arg-type]
        self.failureResultOf(web.start(), CannotListenError)
        self.assertFalse(web.running)
        self.assertFalse(os.path.exists(path))
        web.startService()
        self.assertEqual(len(self.flushLoggedErrors(CannotListenError)), 1)
        self.successResultOf(web.stopService())

    def test_the_token_cannot_be_written(self) -> None:
        """Then there is no page either, and nothing listens."""
        web = self.service(token_file="/dev/null/web.token")
        self.failureResultOf(web.start(), OSError)
        again = self.service()
        self.successResultOf(again.start())
        self.successResultOf(again.stopService())

    def test_stopping(self) -> None:
        """Idle connections are closed, others are hung up on, and no timer is left."""
        idle, half = self.connect(), self.connect()
        half.transport.write(b"GET / HT")
        stalled = self.connect()
        stalled.transport.stalled = True
        stalled.transport.write(request("GET", "/app.js") * 20)
        watching = self.watch()
        stopped = self.web.stopService()
        self.mesh.settle()
        self.mesh.advance(1.1)
        self.successResultOf(stopped)
        clients: list[Client] = [idle, half, watching]
        self.assertEqual([client.gone for client in clients], [True] * 3)
        assert self.web._site is not None
        self.assertEqual(self.web._site.channels, {})
        self.successResultOf(self.web.stopService())
        self.assert_well()
