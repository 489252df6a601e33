"""
What happens in a node, as browsers that watch are told.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted import __version__
from py2p_twisted.testing.memory import HIGH_WATER
from py2p_twisted.web import events as web_events
from py2p_twisted.web.events import (
    MOST_A_TICK,
    MOST_EVENT_BYTES,
    MOST_EVENTS,
    MOST_STREAMS,
    PREVIEW,
    STUCK_AFTER,
    TICK,
    preview,
)
from tests import profile
from tests.web.people import Client, WebTestCase, events, read

profile.load()


class PreviewTests(SynchronousTestCase):
    def test_what_is_shown(self) -> None:
        """A packet of each kind."""
        self.assertEqual(
            preview(["text", "", b"\x00\xff", 1, True, None, 1.5, [1, [b"", {"a": 2}]], {}]),
            ["text", "", "2 bytes: 00ff", "1", "true", "null", "1.5", "[1, [0 bytes: , {a: 2}]]", "{}"],
        )  # fmt: skip
        self.assertEqual(preview([]), [])

    def test_only_the_beginning(self) -> None:
        """However much there is."""
        self.assertEqual(preview(["x" * 10_000_000]), ["x" * PREVIEW + "…"])
        self.assertEqual(preview(["x" * PREVIEW]), ["x" * PREVIEW])
        self.assertEqual(preview(["x" * PREVIEW, "y"]), ["x" * PREVIEW, "…"])
        self.assertLessEqual(len(preview([""] * 10_000)), PREVIEW + 1)
        deep: list[Any] = []
        for _ in range(5_000):
            deep = [deep]
        self.assertEqual(preview([deep]), ["[[[[…]]]]"])

    @given(
        st.lists(
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
                lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
                max_leaves=50,
            )
        )
    )
    def test_whatever_is_sent(self, packets: list[Any]) -> None:
        """Text, and not much of it."""
        shown = preview(packets)
        self.assertLessEqual(sum(map(len, shown)), PREVIEW + 2)
        self.assertEqual(json.loads(json.dumps(shown)), shown)

    def test_no_more_work_than_needed(self) -> None:
        """A dict of lists of dicts is not read to its end either."""

        class Counted(list):  # type: ignore[type-arg]
            read = 0

            def __iter__(self) -> Any:
                for one in list.__iter__(self):
                    Counted.read += 1
                    yield one

        inner = Counted(range(10_000))
        preview([Counted([{"a": inner, "b": inner}] * 1_000)] * 1_000)
        self.assertLess(Counted.read, 2_000)


class EventTests(WebTestCase):
    def told(self, client: Client, kind: str) -> list[dict[str, Any]]:
        return [fields for one, fields in events(client.data) if one == kind]

    def test_the_first_events(self) -> None:
        """Who it is, how it is, and whom it knows, at once."""
        client = self.watch()
        answer = read(client.data)
        self.assertEqual((answer.code, answer.headers["content-type"]), (200, "text/event-stream"))
        self.assertIn(b"retry: 2000\n\n", client.data)
        self.assertEqual([kind for kind, _ in events(client.data)], ["hello", "status", "peers"])
        (hello,) = self.told(client, "hello")
        self.assertEqual(
            hello,
            {
                "id": self.ada.id.decode(), "network": "mesh", "encryption": "Plaintext",
                "address": "10.0.0.1:4444", "version": __version__, "demo": False,
                "started": hello["started"],
            },
        )  # fmt: skip
        self.assertGreater(hello["started"], 1e9)
        (status,) = self.told(client, "status")
        self.assertEqual((status["joined"], status["settled"]), (True, 1))
        self.assertEqual(status["status"]["id"], hello["id"])
        self.assertEqual(set(status["rates"].values()), {0.0})
        (peers,) = self.told(client, "peers")
        self.assertEqual([row["id"] for row in peers["peers"]], [self.mesh["ben"].id.decode()])

    def test_by_the_clock(self) -> None:
        """The status once a second, the peers every two, who is there when that is found out."""
        client = self.watch()
        client.data = b"\r\n\r\n"
        self.mesh.advance(10)
        self.assertEqual(len(self.told(client, "status")), 10)
        self.assertEqual(len(self.told(client, "peers")), 5)
        meshes = self.told(client, "mesh")
        self.assertIn(len(meshes), (4, 5))
        self.assertEqual(
            {row["id"] for row in meshes[-1]["members"]},
            {one.id.decode() for one in self.mesh},
        )

    def test_messages(self) -> None:
        """Those of others and our own, and how fast they come."""
        client = self.watch()
        client.data = b"\r\n\r\n"
        self.mesh["ben"].send("storm", b"\xff")
        self.mesh.settle()
        self.mesh["ada"].send("x" * 300, type=50)
        self.mesh.settle()
        theirs, ours = self.told(client, "message")
        ada, ben = (self.mesh[name].id.decode() for name in ("ada", "ben"))
        self.assertEqual(theirs["packets"], ["storm", "1 bytes: ff"])
        self.assertEqual((theirs["sender"], theirs["via"], theirs["own"]), (ben, ben, False))
        self.assertEqual((theirs["type"], ours["type"]), (0, 50))
        self.assertEqual(theirs["id"], self.mesh["ada"].received[0].id.hex())
        self.assertEqual(theirs["time"], self.mesh["ada"].received[0].time)
        self.assertEqual(ours["packets"], ["x" * PREVIEW + "…"])
        self.assertEqual((ours["sender"], ours["via"], ours["own"]), (ada, None, True))
        self.assertEqual(ours["id"], self.mesh["ben"].received[0].id.hex())
        self.assertGreater(ours["bytes"], 300)
        self.mesh.advance(1)
        (status,) = self.told(client, "status")
        self.assertEqual((status["rates"]["messages_in"], status["rates"]["messages_out"]), (1, 1))
        self.assertGreater(status["rates"]["bytes_in"], 50)
        self.assertGreater(status["rates"]["bytes_out"], 50)

    def test_traffic(self) -> None:
        """What has gone over links since the last time, if anything has."""
        client = self.watch()
        client.data = b"\r\n\r\n"
        (link,) = self.ada.routing_table.values()
        before = link.bytes, link.owner.outbox.sent, link.frames
        self.mesh["ben"].send("storm")
        self.mesh.advance(1.9)
        moved = [one["links"][self.mesh["ben"].id.decode()] for one in self.told(client, "traffic")]
        after = link.bytes, link.owner.outbox.sent, link.frames
        since = [new - old for new, old in zip(after, before, strict=True)]
        self.assertEqual([sum(column) for column in zip(*moved, strict=True)], since)
        self.assertNotIn([0, 0, 0], moved)
        self.assertLess(len(moved), 8)

    def test_peers_come_and_go(self) -> None:
        """Said at once, and the list of them with the next tick."""
        client = self.watch()
        client.data = b"\r\n\r\n"
        self.mesh.add("cid")
        self.mesh.link("ada", "cid")
        (up,) = self.told(client, "up")
        self.assertEqual(up["peer"], self.mesh["cid"].id.decode())
        self.mesh.advance(TICK)
        self.assertEqual(len(self.told(client, "peers")[-1]["peers"]), 2)
        self.mesh.stop("cid")
        self.mesh.advance(TICK)
        (down,) = self.told(client, "down")
        self.assertEqual((down["peer"], down["reason"]), (up["peer"], "closed by peer"))
        self.assertEqual(len(self.told(client, "peers")[-1]["peers"]), 1)
        self.ada.factory.application.missed(3, "unobtainable", "gone")
        self.mesh.settle()
        self.assertEqual(
            self.told(client, "gap"), [{"count": 3, "reason": "unobtainable", "error": "gone"}]
        )

    def test_nobody_watches(self) -> None:
        """Then there is no tick, and nobody who hears along."""
        factory = self.ada.factory
        calls = len(self.mesh.clock.getDelayedCalls())
        one, other = self.watch(), self.watch()
        self.assertIsNot(factory.application, self.ada)
        self.assertTrue(factory.watch_own)
        one.transport.loseConnection()
        self.mesh.settle()
        self.assertIsNot(factory.application, self.ada)
        other.transport.loseConnection()
        self.mesh.settle()
        self.assertIs(factory.application, self.ada)
        self.assertFalse(factory.watch_own)
        self.assertEqual(len(self.mesh.clock.getDelayedCalls()), calls)
        again = self.watch()
        self.mesh["ben"].send("x")
        self.mesh.settle()
        self.assertEqual(len(self.told(again, "message")), 1)
        self.assert_well()

    def test_put_into_words_once(self) -> None:
        """However many watch."""
        clients = [self.watch() for _ in range(3)]
        made: list[str] = []
        event = web_events.event
        self.patch(web_events, "event", lambda kind, what: made.append(kind) or event(kind, what))
        self.mesh["ben"].send("x")
        self.mesh.settle()
        self.assertEqual(made, ["message"])
        self.assertEqual([len(self.told(client, "message")) for client in clients], [1, 1, 1])

    def test_too_many(self) -> None:
        """The next is told so, and can watch when one has gone."""
        clients = [self.watch() for _ in range(MOST_STREAMS)]
        answer = self.get("/events")
        self.assertEqual((answer.code, answer.json["reason"]), (503, "too many"))
        self.assertIn("retry-after", answer.headers)
        clients[3].transport.loseConnection()
        self.mesh.settle()
        self.assertEqual(read(self.watch().data).code, 200)

    def test_more_than_anybody_can_read(self) -> None:
        """Of one moment so many messages are shown; how many were not is said."""
        client = self.watch()
        client.data = b"\r\n\r\n"
        for number in range(MOST_A_TICK + 30):
            self.mesh["ben"].send(number)
        self.mesh.settle()
        self.assertEqual(len(self.told(client, "message")), MOST_A_TICK)
        self.mesh.advance(TICK)
        self.assertEqual(self.told(client, "dropped"), [{"dropped": 30}])
        self.mesh["ben"].send("x")
        self.mesh.settle()
        self.assertEqual(len(self.told(client, "message")), MOST_A_TICK + 1)

    def stream(self) -> web_events.Stream:
        assert self.web._site is not None
        (stream,) = self.web._site.watch.streams
        return stream

    def test_one_that_does_not_read(self) -> None:
        """The newest events are kept for it, and it is told how many it has missed."""
        client = self.watch()
        client.transport.stalled = True
        stream = self.stream()
        far = client.transport.other
        for number in range(2 * MOST_EVENTS + 500):
            stream.tell(b'event: message\ndata: {"number": %d}\n\n' % number)
        self.assertLess(far.pending, HIGH_WATER + 1000)
        self.assertEqual(len(stream._waiting), MOST_EVENTS)
        client.transport.unstall()
        self.mesh.settle()
        numbers = [one["number"] for one in self.told(client, "message")]
        (dropped,) = self.told(client, "dropped")
        self.assertEqual(dropped["dropped"], 2 * MOST_EVENTS + 500 - len(numbers))
        self.assertEqual(
            numbers[-MOST_EVENTS:], list(range(MOST_EVENTS + 500, 2 * MOST_EVENTS + 500))
        )
        self.assert_well()

    def test_large_events(self) -> None:
        """Their bytes count, too; the latest is kept in any case."""
        client = self.watch()
        client.transport.stalled = True
        stream = self.stream()
        for _ in range(200):
            stream.tell(b"x" * 50_000)
        self.assertLessEqual(stream.waiting, MOST_EVENT_BYTES)
        self.assertEqual(stream.waiting, sum(map(len, stream._waiting)))
        stream.tell(b"x" * 5_000_000)
        self.assertEqual(list(map(len, stream._waiting)), [5_000_000])

    def test_one_that_never_reads(self) -> None:
        """After a minute it is hung up on."""
        client = self.watch()
        client.transport.stalled = True
        self.stream().tell(b"x" * 2 * HIGH_WATER)
        self.mesh.advance(STUCK_AFTER - 1)
        self.assertFalse(client.gone)
        self.mesh.advance(2)
        self.assertTrue(client.gone)
        self.assertIs(self.ada.factory.application, self.ada)
        self.assert_well()

    def test_the_service_stops(self) -> None:
        """All of them are parted from, at once, whether they read or not."""
        clients = [self.watch() for _ in range(3)]
        clients[1].transport.stalled = True
        assert self.web._site is not None
        list(self.web._site.watch.streams)[1].tell(b"x" * 2 * HIGH_WATER)
        stopped = self.web.stopService()
        self.mesh.advance(1.5)
        self.successResultOf(stopped)
        self.assertEqual([client.gone for client in clients], [True] * 3)
        self.assertTrue(clients[0].data.endswith(b"0\r\n\r\n"))
        self.assertIs(self.ada.factory.application, self.ada)
        self.assert_well()

    def test_a_mistake_while_telling(self) -> None:
        """It is logged, the browsers are hung up on, and the node goes on."""
        client = self.watch()
        self.patch(web_events.Watch, "_status", lambda watch: 1 / 0)
        self.mesh.advance(1.5)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertTrue(client.data.endswith(b"0\r\n\r\n"))
        self.logged.clear()
        self.assert_well()


class MembersTests(WebTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.asked: list[Deferred[Any]] = []

        def members(request: dict[str, Any]) -> Deferred[Any]:
            self.asked.append(Deferred())
            return self.asked[-1]

        assert self.web._site is not None
        self.members = self.web._site.watch.members
        self.members._words._words["members"] = members

    def test_asked_once(self) -> None:
        """Who asks meanwhile is told the same; then it is kept for a while."""
        one, other = self.members.ask(), self.members.ask()
        self.assertEqual(len(self.asked), 1)
        answer = {"members": [{}] * 200}
        self.asked[0].callback(answer)
        self.assertEqual([self.successResultOf(one), self.successResultOf(other)], [answer] * 2)
        self.assertEqual(self.successResultOf(self.members.ask()), answer)
        self.mesh.clock.advance(3.9)  # 0.02 s for each of them
        self.assertFalse(self.members.due)
        self.assertEqual(self.successResultOf(self.members.ask()), answer)
        self.mesh.clock.advance(0.2)
        self.assertTrue(self.members.due)
        self.assertNoResult(self.members.ask())
        self.assertFalse(self.members.due)
        self.assertEqual(len(self.asked), 2)

    def test_what_is_old(self) -> None:
        """Who comes back after hours is not shown who was there then."""
        client = self.watch()
        self.mesh.advance(TICK)
        self.asked[0].callback({"members": [{"id": "x"}]})
        self.mesh.settle()
        kinds = [kind for kind, _ in events(self.watch().data)]
        self.assertEqual(kinds, ["hello", "status", "peers", "mesh"])
        self.mesh.advance(3)
        # Somebody is finding out: what is known is hardly older than that.
        self.assertEqual(len(self.asked), 2)
        self.assertIn("mesh", [kind for kind, _ in events(self.watch().data)])
        assert self.web._site is not None
        for stream in list(self.web._site.watch.streams):
            stream.end()
        self.asked[1].callback({"members": [{"id": "x"}]})
        self.mesh.advance(3600)
        self.assertTrue(client.gone)
        self.assertNotIn("mesh", [kind for kind, _ in events(self.watch().data)])

    def test_what_was_found_before_it_failed(self) -> None:
        """It is not given as an answer afterwards."""
        self.members.ask()
        self.asked[0].callback({"members": []})
        self.mesh.clock.advance(3600)
        asked = self.members.ask()
        self.asked[1].errback(web_events.ControlError("busy", "too many at once"))
        self.failureResultOf(asked, web_events.ControlError)
        self.assertFalse(self.members.due)
        again = self.members.ask()
        self.assertNoResult(again)
        self.asked[2].callback({"members": [{}]})
        self.assertEqual(self.successResultOf(again), {"members": [{}]})

    def test_it_fails(self) -> None:
        """Those who wait are told; it is not asked again at once by those who watch."""
        client = self.watch()
        self.mesh.advance(TICK)
        asking = self.connect()
        asking.transport.write(b"GET /members.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.mesh.settle()
        self.assertEqual(asking.data, b"")
        self.asked[0].errback(web_events.ControlError("busy", "too many at once"))
        self.mesh.settle()
        answer = read(asking.data)
        self.assertEqual((answer.code, answer.json["reason"]), (400, "busy"))
        self.mesh.advance(1.9)
        self.assertEqual(len(self.asked), 1)
        self.mesh.advance(0.5)
        self.assertEqual(len(self.asked), 2)
        self.asked[1].callback({"members": []})
        self.mesh.settle()
        self.assertEqual(events(client.data)[-1], ("mesh", {"members": []}))
        self.assert_well()

    def test_who_asks_goes(self) -> None:
        """Nobody waits for the answer any more."""
        client = self.connect()
        client.transport.write(b"GET /members.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.mesh.settle()
        client.transport.loseConnection()
        self.mesh.settle()
        self.asked[0].callback({"members": []})
        self.assert_well()
