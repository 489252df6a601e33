"""
A node that is talked with: what it answers, what it tells, and that nothing disturbs it.
"""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from py2p_twisted.control import server
from py2p_twisted.control.lines import LINE, MOST_VALUES
from py2p_twisted.control.server import (
    LAST_LINE,
    MOST_CLIENTS,
    MOST_EVENT_BYTES,
    MOST_EVENTS,
    MOST_PENDING,
    TOKEN_LINE,
    TOKEN_TIMEOUT,
)
from py2p_twisted.control.words import VERSION
from py2p_twisted.core.network import Network
from py2p_twisted.errors import NetworkMismatch
from tests.control.people import Client, ControlTestCase


class AnswerTests(ControlTestCase):
    """What can be asked."""

    def test_status(self) -> None:
        """All that a node says of itself, and whether it has joined."""
        answer = self.ask(self.connect(), "status")
        status = answer.pop("status")
        self.assertEqual(answer, {"ok": True, "version": VERSION, "joined": True, "settled": 1})
        ada = self.mesh["ada"].service
        self.assertEqual(list(status), list(ada.status))
        self.assertEqual((status["id"], status["state"]), (ada.id.decode(), "Nominal"))
        self.assertEqual(len(status["peers"]), 1)

    def test_status_of_one_that_is_alone(self) -> None:
        self.mesh.stop("ben")
        answer = self.ask(self.connect(), "status")
        self.assertEqual((answer["joined"], answer["settled"]), (False, 0))

    def test_peers(self) -> None:
        """One mapping each."""
        self.mesh.advance(10)
        (peer,) = self.ask(self.connect(), "peers")["peers"]
        self.assertEqual(peer["id"], self.mesh["ben"].id.decode())
        self.assertEqual((peer["kind"], peer["outgoing"]), ("neighbour", True))
        self.assertEqual((peer["address"], peer["where"]), ("10.0.0.2:4444", "10.0.0.2:4444"))
        self.assertEqual((peer["since"], peer["bytes_waiting"], peer["drops"]), (10.0, 0, {}))
        self.assertGreater(peer["bytes_in"], 100)
        self.assertEqual(peer["rtt"], 0.0)

    def test_send(self) -> None:
        """It is a message of the node's own, to all its peers."""
        client = self.connect()
        packets = ["storm", 7, None, {"$base64": "AP8="}]
        self.assertEqual(self.ask(client, "send", packets=packets), {"ok": True, "peers": 1})
        self.assertEqual(self.mesh.inbox("ben"), [("storm", 7, None, b"\0\xff")])
        (delivery,) = self.mesh["ben"].received
        self.assertEqual((delivery.sender, delivery.packets[0]), (self.mesh["ada"].id, 0))

    def test_how_it_is_sent(self) -> None:
        """With a type, or to the neighbours alone."""
        self.mesh.add("cid")
        self.mesh.link("ben", "cid")
        client = self.connect()
        self.ask(client, "send", packets=["x"], type=48)
        self.ask(client, "send", packets=["y"], whisper=True)
        self.assertEqual([one.packets[0] for one in self.mesh["ben"].received], [48, 0])
        self.assertEqual(self.mesh.inbox("cid"), [("x",)])

    def test_receipts(self) -> None:
        """The answer comes when everybody has it, and says who that is."""
        client = self.connect()
        heard = self.say(client, {"do": "send", "packets": ["x"], "confirm": True})
        self.assertEqual(heard, [])
        self.mesh.advance(3)
        (answer,) = client.heard()
        self.assertLess(abs(answer.pop("seconds") - 1.5), 0.2)
        self.assertLess(abs(answer.pop("last") - 0.05), 0.02)  # receipts.DELAY
        self.assertEqual(
            answer,
            {
                "id": None,
                "ok": True,
                "delivered": [self.mesh["ben"].id.decode()],
                "missing": [],
                "unknown": [],
                "complete": True,
            },
        )

    def test_missing_receipts(self) -> None:
        """After the time it says who is missing."""
        client = self.connect()
        ben = self.mesh["ben"].id.decode()
        for end in self.mesh["ada"].service.routing_table.values():
            end.owner.transport.other.stalled = True
        self.say(client, {"do": "send", "packets": ["x"], "confirm": True, "timeout": 4})
        self.mesh.advance(5)
        (answer,) = client.heard()
        self.assertEqual((answer["missing"], answer["complete"]), ([ben], False))
        self.assertLess(abs(answer["seconds"] - 4), 0.1)

    def test_what_cannot_be_sent(self) -> None:
        """It says so, and goes on."""
        client = self.connect()
        deep: Any = "x"
        for _ in range(40):
            deep = [deep]
        for what, reason in (
            ({}, "bad request"),
            ({"packets": "x"}, "bad request"),
            ({"packets": [{"$base64": "x"}]}, "bad request"),
            ({"packets": [], "type": 3}, "bad request"),
            ({"packets": [], "type": True}, "bad request"),
            ({"packets": [], "type": 2**63}, "bad request"),
            ({"packets": [], "whisper": 1}, "bad request"),
            ({"packets": [], "confirm": "yes"}, "bad request"),
            ({"packets": [], "confirm": True, "timeout": "1"}, "bad argument"),
            ({"packets": [], "confirm": True, "timeout": 601}, "bad argument"),
            ({"packets": [], "confirm": True, "timeout": True}, "bad argument"),
            ({"packets": [], "confirm": True, "whisper": True}, "bad argument"),
            ({"packets": [2**70]}, "not sendable"),
            ({"packets": ["\ud800"]}, "not sendable"),
            ({"packets": [deep]}, "not sendable"),
            ({"packets": ["x" * (8 * 2**20)]}, "message too large"),
        ):
            answer = self.ask(client, "send", **what)
            self.assertEqual((answer["ok"], answer["reason"]), (False, reason), answer)
            self.assertTrue(answer["error"])
        self.assertEqual(self.ask(client, "send", packets=["x"])["ok"], True)

    def test_connect(self) -> None:
        """The answer comes when it is done."""
        self.mesh.add("cid")
        answer = self.ask(self.connect(), "connect", address="10.0.0.3:4444")
        peer = self.mesh["cid"].id.decode()
        self.assertEqual(
            answer,
            {"ok": True, "peer": peer, "address": "10.0.0.3:4444", "where": "10.0.0.3:4444"},
        )
        self.assertTrue(self.mesh.linked("ada", "cid"))

    def test_connect_in_vain(self) -> None:
        """It says why not."""
        client = self.connect()
        answer = self.ask(client, "connect", address="10.0.0.99:4444")
        self.assertEqual((answer["ok"], answer["reason"]), (False, "refused"))
        self.assertIn("10.0.0.99:4444 refuses connections", answer["error"])
        self.mesh.add("eve", network=Network("another"))
        answer = self.ask(client, "connect", address="10.0.0.3:4444")
        self.assertEqual(answer["reason"], NetworkMismatch.reason)
        for bad in (None, 7, "", "x", "x:0", "x:y", ["x", 1], ":", "x:99999", "a b:1"):
            answer = self.ask(client, "connect", address=bad)
            self.assertEqual(answer["reason"], "bad request", bad)
            self.assertTrue(answer["error"].startswith("address: "), answer)

    def test_disconnect(self) -> None:
        """By the beginning of an id; the peer does not come back."""
        client = self.connect()
        ben = self.mesh["ben"].id.decode()
        self.assertEqual(self.ask(client, "disconnect", peer=ben[:8]), {"ok": True, "peer": ben})
        self.mesh.advance(60)
        self.assertFalse(self.mesh.linked("ada", "ben"))
        for bad, reason in (
            (ben[:8], "no such peer"), (ben[:3], "bad request"), (None, "bad request"),
        ):  # fmt: skip
            self.assertEqual(self.ask(client, "disconnect", peer=bad)["reason"], reason)

    def test_ids(self) -> None:
        """What a request is called by is given back; what is no name is refused."""
        client = self.connect()
        for good in (None, 0, -1, 2**63, "", "x" * 200):
            (answer,) = self.say(client, {"id": good, "do": "peers"})
            self.assertEqual((answer["id"], answer["ok"]), (good, True))
        (answer,) = self.say(client, {"do": "peers"})
        self.assertEqual((answer["id"], answer["ok"]), (None, True))
        for bad in (True, 1.5, [], {}, "x" * 201, 2**64):
            (answer,) = self.say(client, {"id": bad, "do": "peers"})
            self.assertEqual((answer["id"], answer["reason"]), (None, "bad request"))

    def test_unknown_requests(self) -> None:
        """It is told which there are."""
        client = self.connect()
        for bad in ("stat", None, 7, [], {}, "__init__", "_send"):
            (answer,) = self.say(client, {"id": "a", "do": bad})
            self.assertEqual((answer["id"], answer["reason"]), ("a", "unknown request"))
            self.assertEqual(
                answer["error"],
                "do: expected one of status, peers, members, send, connect, disconnect, reload, "
                "ticket, listen",
            )

    def test_bad_lines(self) -> None:
        """Each is answered, and the next one is read."""
        client = self.connect()
        for bad in (
            b"{", b"x", b"[]", b"7", b'"x"', b"null", b"\xff\xfe", b"{'a': 1}", b"NaN",
            b'{"id": NaN}', b'{"id": Infinity}', b'{"a":' * 5000, b"[" * 100_000, b"\0",
            b'{"id": ' + b"9" * 5000 + b"}",
        ):  # fmt: skip
            (answer,) = self.say(client, bad + b"\n")
            self.assertEqual((answer["id"], answer["reason"]), (None, "bad json"), bad[:20])
            self.assertTrue(answer["error"].isprintable(), answer)
        self.assertEqual(self.say(client, b"\n", b" \r\n"), [])
        self.assert_well()

    def test_too_many_values(self) -> None:
        """They would take a hundred times as much memory as their text; text does not."""
        client = self.connect()
        for bad in (b"[]," * MOST_VALUES, b"[[" * MOST_VALUES, b"0," * MOST_VALUES):
            line = b'{"do": "send", "packets": [' + bad + b"0]}\n"
            (answer,) = self.say(client, line)
            self.assertEqual(answer["reason"], "too many values")
        commas = ',"\\[{' * MOST_VALUES
        self.assertEqual(self.ask(client, "send", packets=[commas])["ok"], True)
        self.assertEqual(self.mesh.inbox("ben"), [(commas,)])

    def test_not_started(self) -> None:
        """A node that is not one yet says so."""
        self.mesh["ada"].service.factory.started = False
        self.assertEqual(self.ask(self.connect(), "status")["reason"], "not started")
        self.mesh["ada"].service.factory.started = True

    def test_our_mistakes(self) -> None:
        """They are logged, and the client is told that there was one."""

        def broken(request: object) -> dict[str, Any]:
            raise ZeroDivisionError

        client = self.connect()
        for bad in (broken, lambda request: {"x": object()}):
            self.patch(self.factory.words, "_words", {"status": bad})
            self.assertEqual(self.ask(client, "status")["reason"], "internal")
        self.assertEqual(len([event for event in self.events if "log_failure" in event]), 2)
        self.assertEqual(len(self.flushLoggedErrors()), 2)

    def test_cut_anywhere(self) -> None:
        """Lines are lines however they come."""
        client = self.connect()
        data = b'{"id": 1, "do": "peers"}\n{"id": 2, "do": "peers"}\n'
        for one in range(len(data)):
            self.say(client, data[one : one + 1]) if one < len(data) - 1 else None
        client.data = b""
        answers = self.say(client, data[-1:])
        self.assertEqual([answer["id"] for answer in answers], [2])


class EventTests(ControlTestCase):
    """What those who listen are told."""

    def listen(self, *kinds: str) -> Client:
        client = self.connect()
        what = {"events": list(kinds)} if kinds else {}
        self.assertEqual(self.ask(client, "listen", **what)["ok"], True)
        return client

    def test_messages(self) -> None:
        """As `py2p listen --json` prints them, with one word more; in both ways to be told."""
        client = self.listen()
        self.mesh["ben"].send("storm", b"\xff")
        self.mesh["ben"].send("typed", type=48)
        self.mesh.settle()
        first, second = client.heard()
        one, other = self.mesh["ada"].received
        ben = self.mesh["ben"].id.decode()
        self.assertEqual(
            first,
            {
                "event": "message",
                "packets": ["storm", {"$base64": "/w=="}],
                "sender": ben,
                "via": ben,
                "id": one.id.hex(),
                "time": one.time,
                "type": 0,
            },
        )
        self.assertEqual((second["type"], second["id"]), (48, other.id.hex()))

    def test_peers(self) -> None:
        """Who comes to stay, and who goes."""
        client = self.listen()
        self.mesh.add("cid")
        self.mesh.link("ada", "cid")
        cid = self.mesh["cid"].id.decode()
        (up,) = client.heard()
        self.assertEqual(
            up,
            {"event": "up", "peer": cid, "address": "10.0.0.3:4444", "where": "10.0.0.3:4444"},
        )
        self.mesh.stop("cid")
        (down,) = client.heard()
        self.assertEqual((down["event"], down["peer"]), ("down", cid))
        self.assertEqual(down["reason"], "closed by peer")
        self.assertTrue(down["error"])

    def test_gaps(self) -> None:
        client = self.listen()
        self.mesh["ada"].service.factory.application.missed(3, "unobtainable", "3 are lost")
        self.mesh.settle()
        (gap,) = client.heard()
        self.assertEqual(
            gap, {"event": "gap", "count": 3, "reason": "unobtainable", "error": "3 are lost"}
        )

    def test_some_kinds(self) -> None:
        """Only what was asked for, and the last word counts."""
        client = self.listen("up", "down")
        self.mesh["ben"].send("x")
        self.mesh.settle()
        self.assertEqual(client.heard(), [])
        self.assertEqual(
            self.ask(client, "listen", events=["message"]), {"ok": True, "events": ["message"]}
        )
        self.mesh["ben"].send("y")
        self.mesh.settle()
        self.assertEqual([one["packets"] for one in client.heard()], [["y"]])
        for bad in ("message", ["x"], [7], 7, [["up"]]):
            self.assertEqual(self.ask(client, "listen", events=bad)["reason"], "bad request")

    def test_the_application_hears_the_same(self) -> None:
        """And stands where it stood when nobody listens any more."""
        ada = self.mesh["ada"].service
        told: list[str] = []
        ada.on_join = lambda link: told.append("join")
        ada.on_leave = lambda link, error: told.append("leave")
        ada.on_gap = lambda *what: told.append("gap")
        one, other = self.listen(), self.listen()
        self.assertIsNot(ada.factory.application, ada)
        self.mesh["ben"].send("x")
        self.mesh.add("cid")
        self.mesh.link("ada", "cid")
        self.mesh.stop("cid")
        ada.factory.application.missed(1, "r", "text")
        ada.factory.application.link_failed(ValueError("bad"), "there")
        self.assertEqual(told, ["join", "leave", "gap"])
        self.assertEqual(self.mesh.inbox("ada"), [("x",)])
        self.assertEqual(list(ada.errors)[-2:], ["text", "there: bad"])
        one.transport.loseConnection()
        self.mesh.settle()
        self.assertIsNot(ada.factory.application, ada)
        other.heard()
        self.ask(other, "listen", events=[])
        self.assertIs(ada.factory.application, ada)

    def test_another_application_in_between(self) -> None:
        """Who takes the same place later is not pushed out of it."""
        ada = self.mesh["ada"].service
        client = self.listen()
        tap = ada.factory.application

        class Other(type(tap)):  # type: ignore[misc]
            pass

        other = ada.factory.application = Other(tap)
        client.transport.loseConnection()
        self.mesh.settle()
        self.assertIs(ada.factory.application, other)
        again = self.listen("message")
        self.mesh["ben"].send("x")
        self.mesh.settle()
        self.assertEqual(len(again.heard()), 1)
        self.assert_well()

    def test_own_messages(self) -> None:
        """Shown to those who ask for it, marked, and to nobody else."""
        client, other = self.connect(), self.listen()
        self.ask(client, "listen", events=["message"], own=True)
        self.mesh["ada"].send("storm")
        self.mesh.settle()
        (event,) = client.heard()
        self.assertEqual(event["packets"], ["storm"])
        self.assertEqual((event["event"], event["own"], event["via"]), ("message", True, None))
        self.assertEqual(event["sender"], self.mesh["ada"].id.decode())
        self.mesh["ben"].send("x")
        self.mesh.settle()
        ((event,), (same,)) = client.heard(), other.heard()
        self.assertEqual(event, same)
        self.assertNotIn("own", event)
        self.assertEqual(self.ask(client, "listen", own=1)["reason"], "bad request")
        self.ask(client, "listen", events=["up"], own=True)
        self.mesh["ada"].send("storm")
        self.mesh.settle()
        self.assertEqual(client.heard(), [])
        self.assert_well()

    def test_put_into_words_once(self) -> None:
        """However many listen."""
        clients = [self.listen() for _ in range(3)]
        made: list[Any] = []
        line_of = server.line_of
        self.patch(server, "line_of", lambda value: made.append(value) or line_of(value))
        self.mesh["ben"].send("x")
        self.mesh.settle()
        self.assertEqual(len(made), 1)
        self.assertEqual([len(client.heard()) for client in clients], [1, 1, 1])

    def test_a_client_that_does_not_read(self) -> None:
        """The newest are kept for it, and it is told how many it has missed."""
        client = self.listen("message")
        client.transport.stalled = True
        text = "x" * 1000
        for number in range(MOST_EVENTS + 500):
            self.mesh["ben"].send(number, text)
            self.mesh.settle()
        far = client.transport.other
        self.assertLess(far.pending, 200_000)
        self.assertEqual(len(self.server_of(client)._events), MOST_EVENTS)
        client.transport.unstall()
        self.mesh.settle()
        heard = client.heard()
        numbers = [one["packets"][0] for one in heard if one["event"] == "message"]
        (dropped,) = [one for one in heard if one["event"] == "dropped"]
        self.assertEqual(dropped["dropped"], 1500 - len(numbers))
        self.assertEqual(numbers[-MOST_EVENTS:], list(range(500, 1500)))
        self.assertEqual(numbers, sorted(numbers))
        place = heard.index(dropped)
        self.assertEqual(heard[place + 1]["packets"][0], 500)
        # From now on it is told all.
        self.mesh["ben"].send("next")
        self.mesh.settle()
        self.assertEqual([one["packets"] for one in client.heard()], [["next"]])
        self.assert_well()

    def test_large_messages_that_are_not_read(self) -> None:
        """Bytes are counted as well, and one message may always wait."""
        client = self.listen("message")
        client.transport.stalled = True
        for _ in range(12):
            self.mesh["ben"].send("x" * 2**20)
            self.mesh.settle()
        waiting = self.server_of(client)
        self.assertLess(waiting._event_bytes, MOST_EVENT_BYTES)
        self.mesh["ben"].send("\x01" * (2 * 2**20))
        self.mesh.settle()
        self.assertEqual(len(waiting._events), 1)
        client.transport.unstall()
        self.mesh.settle()
        self.assertEqual(len(client.heard()), 3)
        self.assertEqual((waiting._event_bytes, len(waiting._events)), (0, 0))

    def test_nobody_else_is_kept_waiting(self) -> None:
        """By one that does not read."""
        deaf, other = self.listen("message"), self.listen("message")
        deaf.transport.stalled = True
        for _ in range(200):
            self.mesh["ben"].send("x" * 1000)
            self.mesh.settle()
        self.assertEqual(len(other.heard()), 200)
        self.assert_well()


class LimitTests(ControlTestCase):
    """What a client can do to a node: nothing but lose its connection."""

    def test_a_line_that_is_too_long(self) -> None:
        """It is told so, and hung up on; the others stay."""
        longest = LINE + 2 * 8 * 2**20
        self.assertEqual(self.factory.longest, longest)
        one, other = self.connect(), self.connect()
        (answer,) = self.say(one, b"x" * longest + b"\n")
        self.assertEqual(answer["reason"], "bad json")
        (answer,) = self.say(one, b"x" * (longest + 1))
        self.assertEqual((answer["ok"], answer["reason"]), (False, "line too long"))
        self.assertTrue(one.gone)
        self.assertEqual(self.ask(other, "status")["ok"], True)
        self.assertEqual(list(self.factory.clients), [self.server_of(other)])

    def test_one_that_does_not_read_its_last_line(self) -> None:
        """It is not waited for."""
        client = self.connect()
        client.transport.stalled = True
        self.say(client, b"x" * (self.factory.longest + 1))
        self.mesh.advance(LAST_LINE - 1)
        self.assertFalse(client.gone)
        self.mesh.advance(2)
        self.assertTrue(client.gone)
        self.assertEqual(self.factory.clients, {})

    def test_too_many_clients(self) -> None:
        """One more is told so; when another goes there is room again."""
        clients = [self.connect() for _ in range(MOST_CLIENTS)]
        late = self.connect()
        (answer,) = late.heard()
        self.assertEqual((answer["ok"], answer["reason"]), (False, "too many clients"))
        self.assertTrue(late.gone)
        clients[3].transport.loseConnection()
        self.mesh.settle()
        self.assertEqual(self.ask(self.connect(), "peers")["ok"], True)

    def test_requests_that_take_their_time(self) -> None:
        """So many of them may be under way; no more is read meanwhile."""
        waiting: list[Deferred[dict[str, Any]]] = []

        def slow(request: object) -> Deferred[dict[str, Any]]:
            waiting.append(Deferred())
            return waiting[-1]

        self.patch(self.factory.words, "_words", {"slow": slow})
        client = self.connect()
        for number in range(3 * MOST_PENDING):
            self.say(client, {"id": number, "do": "slow"})
        self.assertEqual(len(waiting), MOST_PENDING)
        self.assertGreater(client.transport.pending, 0)
        waiting[5].callback({})
        self.mesh.settle()
        self.assertEqual(len(waiting), MOST_PENDING + 1)
        self.assertEqual([one["id"] for one in client.heard()], [5])
        for one in waiting:
            one.called or one.callback({})
        self.mesh.settle()
        for one in waiting:
            one.called or one.callback({})
        self.mesh.settle()
        self.assertEqual(len(waiting), 3 * MOST_PENDING)
        self.assertEqual(client.transport.pending, 0)

    def test_large_requests_that_take_their_time(self) -> None:
        """Their bytes count as well."""
        waiting: list[Deferred[dict[str, Any]]] = []

        def slow(request: object) -> Deferred[dict[str, Any]]:
            waiting.append(Deferred())
            return waiting[-1]

        self.patch(self.factory.words, "_words", {"slow": slow})
        client = self.connect()
        for _ in range(5):
            self.say(client, {"do": "slow", "text": "x" * 600_000})
        self.assertEqual(len(waiting), 2)

    def test_one_that_goes_while_it_waits(self) -> None:
        """What comes of it is nobody's business any more."""
        later: Deferred[dict[str, Any]] = Deferred()
        self.patch(self.factory.words, "_words", {"slow": lambda request: later})
        client = self.connect()
        self.say(client, {"do": "slow"})
        client.transport.loseConnection()
        self.mesh.settle()
        later.callback({})
        self.mesh.settle()
        self.assert_well()

    def test_answers_that_are_not_read(self) -> None:
        """No more questions are read then, and none is lost."""
        client = self.connect()
        client.transport.stalled = True
        for number in range(300):
            self.say(client, {"id": number, "do": "status"})
        far = client.transport.other
        self.assertLess(far.pending, 100_000)
        self.assertGreater(client.transport.pending, 0)
        client.transport.unstall()
        self.mesh.settle()
        self.assertEqual([one["id"] for one in client.heard()], list(range(300)))

    def test_a_flood(self) -> None:
        """The node has its turn between some requests and the next."""
        seen: list[int] = []
        count = [0]

        def counted(request: object) -> dict[str, Any]:
            count[0] += 1
            return {}

        def look() -> None:
            seen.append(count[0])
            if count[0] < 1000:
                self.mesh.clock.callLater(0, look)

        self.patch(self.factory.words, "_words", {"x": counted})
        client = self.connect()
        client.transport.write(b'{"do": "x"}\n' * 1000)
        look()
        self.mesh.settle()
        self.assertLessEqual(max(b - a for a, b in pairwise(seen)), server.A_TURN)
        self.assertEqual(len(client.heard()), 1000)

    def test_the_end(self) -> None:
        """When the endpoint closes all are hung up on."""
        clients = [self.connect() for _ in range(3)]
        clients[0].transport.stalled = True
        done: list[object] = []
        self.factory.close().addCallback(done.append)
        self.assertEqual(done, [])
        self.mesh.settle()
        self.assertEqual((done, [one.gone for one in clients]), ([None], [True] * 3))
        self.factory.close().addCallback(done.append)
        self.assertEqual(done, [None, None])

    def test_any_bytes(self) -> None:
        """Whatever comes, however it is cut: the node goes on, and so does the next client."""

        @given(st.lists(st.binary(max_size=300), max_size=5))
        @example([b'{"id": 1, "do": "listen"}\n', b'{"id":'])
        @example([b"\xff\n", b"[" * 3000 + b"\n"])
        def check(pieces: list[bytes]) -> None:
            client = self.connect()
            for piece in pieces:
                client.transport.write(piece)
                self.mesh.settle()
            self.assertTrue(all("ok" in one or "event" in one for one in client.heard()))
            client.transport.abortConnection()
            self.mesh.settle()
            self.assertEqual(self.factory.clients, {})

        check()
        self.assert_well()

    def test_any_objects(self) -> None:
        """The same for what is JSON, with the words that mean something."""
        words = st.sampled_from(
            ["id", "do", "packets", "type", "whisper", "address", "peer", "events", "token",
             "status", "peers", "send", "listen", "connect", "disconnect", "message", "$map",
             "10.0.0.1:1", "x:1"]
        )  # fmt: skip
        texts = words | st.text(max_size=8)
        values = st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
            max_leaves=10,
        )
        does = st.sampled_from(["send", "connect", "disconnect", "listen", "status"])
        requests = st.builds(
            lambda more, do: {**more, "do": do}, st.dictionaries(texts, values), does
        )

        @given(st.lists(values | requests, max_size=4))
        @example([{"do": "send", "packets": [{"$map": [[[], {}]]}]}])
        def check(said: list[Any]) -> None:
            client = self.connect()
            lines = [json.dumps(one).replace("Infinity", "1").encode() + b"\n" for one in said]
            client.transport.write(b"".join(lines))
            self.mesh.settle()
            answers = [one for one in client.heard() if "ok" in one]
            self.assertEqual(len(answers), len(said))
            self.assertNotIn("internal", [one.get("reason") for one in answers])
            client.transport.loseConnection()
            self.mesh.settle()

        check()
        self.assertEqual(self.flushLoggedErrors(), [])


class TokenTests(ControlTestCase):
    """Where the file system does not keep others out."""

    token = "secret"

    def test_the_token(self) -> None:
        """It comes first, once, and then everything is as ever."""
        client = self.connect()
        (answer,) = self.say(client, {"id": 7, "do": "hello", "token": "secret"})
        self.assertEqual(answer, {"id": 7, "ok": True})
        self.assertEqual(self.ask(client, "peers")["ok"], True)
        self.mesh.advance(2 * TOKEN_TIMEOUT)
        self.assertFalse(client.gone)
        self.assertEqual(self.say(client, b"x" * 2000 + b"\n")[0]["reason"], "bad json")

    def test_a_wrong_token(self) -> None:
        """Not a word is said to whoever does not know it, and nothing of theirs is done."""
        request = b'{"do": "send", "packets": ["x"]}\n'
        for bad in (
            b'{"token": "secre"}\n', b'{"token": "secrets"}\n', b'{"token": ""}\n', b"{}\n",
            b'{"token": null}\n', b'{"token": ["secret"]}\n', b"secret\n", b"\n", b"\xff\n",
            b'{"token": "\\ud800"}\n', b"GET / HTTP/1.1\r\n", b"[" * 900 + b"\n",
            b"x" * (TOKEN_LINE + 1), request, b'"secret"\n',
        ):  # fmt: skip
            client = self.connect()
            self.assertEqual(self.say(client, bad + request), [], bad)
            self.assertTrue(client.gone, bad)
        self.assertEqual(self.mesh.inbox("ben"), [])
        self.assertEqual(self.factory.clients, {})
        self.assert_well()

    def test_nothing_is_done_before(self) -> None:
        """A request together with the token waits for that; silence is cut off."""
        client = self.connect()
        self.mesh.advance(TOKEN_TIMEOUT - 1)
        self.assertFalse(client.gone)
        self.mesh.advance(2)
        self.assertTrue(client.gone)
        client = self.connect()
        heard = self.say(client, b'{"token": "secret"}\n{"id": 2, "do": "peers"}\n')
        self.assertEqual([one["id"] for one in heard], [None, 2])

    def test_strangers_keep_nobody_out(self) -> None:
        """The oldest of them gives way."""
        strangers = [self.connect() for _ in range(MOST_CLIENTS)]
        friend = self.connect()
        self.assertEqual([one.gone for one in strangers], [True] + [False] * (MOST_CLIENTS - 1))
        self.assertEqual(self.say(friend, {"token": "secret"}), [{"id": None, "ok": True}])
        self.assertLessEqual(len(self.factory.clients), MOST_CLIENTS)
