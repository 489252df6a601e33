"""Tests of `py2p_twisted.core.connection`."""

from hashlib import sha256
from itertools import pairwise
from random import Random
from struct import pack

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core import compression, flags
from py2p_twisted.core.connection import (
    TRANSITIONS,
    Connection,
    Kind,
    State,
    greeting,
    read_address,
    read_methods,
)
from py2p_twisted.core.framing import MAX_GREETING
from py2p_twisted.core.message import is_broadcast
from py2p_twisted.core.seen import SeenCache
from py2p_twisted.core.settings import Settings
from py2p_twisted.errors import (
    BadCompression,
    BadField,
    ChecksumMismatch,
    ContentError,
    FrameTooLarge,
    FrameTooSmall,
    HandshakeError,
    IdentityChanged,
    IllegalInState,
    LinkError,
    MalformedMessage,
    RenegotiationLoop,
    TooManyContentErrors,
)
from tests.core import vectors
from tests.core.support import (
    MESH,
    METHODS,
    START,
    WALL,
    Solo,
    frame,
    handshake,
    memory_peak,
    pack_body,
    raw,
    unwrap,
    whisper,
)


class Router:
    """Accepts everybody, and keeps what it is told."""

    relays = False

    def __init__(self, trace=None):
        self.trace = trace
        self.handshakes, self.messages, self.errors = [], [], []
        #: Raised for every message that is routed, when set.
        self.refusal = None

    def introduced(self, link, said):
        self.handshakes.append(said)
        link.agree(said)
        link.opened()

    def timely(self, stamp):
        return True

    def received_run(self, link, messages, shorts):
        self.messages += messages

    def received(self, link, message):
        if is_broadcast(message):
            link.remember(message.id)
        if self.refusal is not None:
            raise self.refusal
        self.messages.append(message)

    def dropped(self, link, error):
        self.errors.append(error)

    @property
    def packets(self):
        return [message.payload[1:] for message in self.messages]


class Link(Connection):
    """A connection that can tell its router's seen cache about a message."""

    def __init__(self, router, settings=None):
        self.cache = SeenCache()
        self.router = router
        super().__init__(router, self.cache, settings or Settings(), dial=None, now=START)

    def remember(self, ident):
        self.cache.add(ident, START)


def connection(*, opened=True, trace=None, **options):
    """A connection, by default one whose peer has introduced itself."""
    link = Link(Router(trace), Settings(**options))
    if opened:
        link.receive_data(handshake(), START)
    return link


def stored(plain):
    """A plain frame's content in a stored stream."""
    return compression.wrap_stored(plain[4:36], plain[36:])


def compressed(plain, method=flags.ZLIB):
    """A plain frame's content, compressed."""
    return compression.wrap_compressed(compression.compress(plain[4:], method), method)


class StateTableTests(SynchronousTestCase):
    FRAMES = {
        Kind.HANDSHAKE: handshake(),
        Kind.RENEGOTIATION: raw(1, [], flag=flags.RENEGOTIATE),
        Kind.MESSAGE: whisper(0, "hello"),
    }

    def test_every_state_has_its_rows(self):
        """No state is forgotten, and only the greeting changes it."""
        self.assertEqual(set(TRANSITIONS), set(State))
        for state, rows in TRANSITIONS.items():
            for after in rows.values():
                self.assertEqual(after, State.OPEN if state is State.GREETING else state)

    def test_every_pair_does_what_the_table_says(self):
        """All twelve pairs of a state and a kind of message; a missing row ends the link."""
        for state in (State.GREETING, State.OPEN, State.DRAINING):
            for kind, data in self.FRAMES.items():
                link = connection(opened=state is not State.GREETING)
                link.state = state
                if kind in TRANSITIONS[state]:
                    link.receive_data(data, START)
                    self.assertIs(link.state, TRANSITIONS[state][kind], (state, kind))
                else:
                    self.assertRaises(IllegalInState, link.receive_data, data, START)

    def test_broadcasts_need_a_handshake_like_everything_else(self):
        """What comes before it is not delivered, however it is wrapped."""
        for data in (raw(0, "x"), stored(raw(0, "x")), compressed(raw(0, "x")), raw(5, b"A")):
            link = connection(opened=False)
            self.assertRaises(IllegalInState, link.receive_data, data, START)
            self.assertEqual(link.router.messages, [])

    def test_a_closed_connection_reads_nothing(self):
        """What a peer goes on sending is neither acted on nor kept."""
        for data in (*self.FRAMES.values(), raw(0, "x"), b"\xff" * 100, b"\0\0\x40\0" + bytes(99)):
            link = connection()
            link.state = State.CLOSED
            for _ in range(3):
                link.receive_data(data, START)
            self.assertEqual((link.router.messages, link.waiting), ([], 0))

    def test_nothing_is_read_behind_the_message_that_closed_it(self):
        """Even if it stood in the same segment."""

        class Closing(Router):
            def received(self, link, message):
                super().received(link, message)
                link.state = State.CLOSED

        link = Link(Closing())
        link.receive_data(handshake() + whisper(0, "last") + whisper(0, "late"), START)
        self.assertEqual(link.router.packets, [("last",)])

    def test_messages_behind_the_handshake_in_one_segment_are_read(self):
        """Whatever TCP puts together."""
        link = connection(opened=False)
        link.receive_data(handshake() + raw(0, "one") + whisper(0, "two"), START)
        self.assertEqual(link.router.packets, [("one",), ("two",)])


class HandshakeTests(SynchronousTestCase):
    def introduce(self, data):
        link = connection(opened=False)
        link.receive_data(data, START)
        (said,) = link.router.handshakes
        return link, said

    def test_captured_handshakes_are_understood(self):
        """Python's, one without codecs, JavaScript's."""
        seen = []
        for vector in vectors.SMALL:
            if vector.payload[0] == flags.HANDSHAKE:
                link, said = self.introduce(vector.frame)
                _, ident, network, address, methods = vector.payload
                self.assertEqual(said.raw_id, ident, vector.name)
                self.assertEqual(type(said.raw_id), type(ident))
                self.assertEqual(said.id, ident if isinstance(ident, bytes) else ident.encode())
                self.assertEqual((said.network, said.stamp), (network, vector.time))
                self.assertEqual(said.address, tuple(address))
                self.assertEqual(said.methods, tuple(methods))
                self.assertEqual(
                    (link.id, link.raw_id, link.address), (said.id, ident, said.address)
                )
                seen.append(vector.name)
        self.assertEqual(len(seen), 3)

    def test_the_codec_follows_from_what_the_peer_lists(self):
        """zlib where it can be had, else what there is, else none."""
        for methods, wanted in (
            (METHODS, flags.ZLIB),
            ((18,), flags.LZMA),
            ((), None),
            ((32,), None),
        ):
            link, _ = self.introduce(handshake(methods=methods))
            self.assertEqual(link.policy.method, wanted)

    def test_a_repeated_handshake_is_no_news(self):
        """JavaScript nodes introduce themselves twice."""
        link = connection(opened=False)
        link.receive_data(handshake("JS") * 2, START)
        link.receive_data(handshake("JS", time=WALL + 1), START)
        self.assertEqual(len(link.router.handshakes), 1)
        self.assertIs(link.state, State.OPEN)

    def test_a_repeated_handshake_may_bring_another_address_or_codec(self):
        """The latest word counts."""
        link = connection()
        link.receive_data(handshake(address=("10.0.0.77", 7), methods=[16]), START)
        self.assertEqual((link.address, link.methods), (("10.0.0.77", 7), (16,)))
        self.assertEqual(link.policy.method, flags.BZ2)

    def test_text_and_bytes_are_one_identity(self):
        """The second of two handshakes may name the id in another type."""
        link = connection()
        link.receive_data(handshake("Peer"), START)
        self.assertEqual(link.id, b"Peer")

    def test_a_changed_id_ends_the_link(self):
        """Both ids are named."""
        link = connection()
        error = self.assertRaises(IdentityChanged, link.receive_data, handshake(b"Other"), START)
        self.assertEqual((error.was, error.now), (b"Peer", b"Other"))

    def test_a_handshake_has_five_items(self):
        """As the first message another number ends the link; later it is passed over, as in 0.6."""
        for payload in ((5,), (5, b"Peer"), (5, b"Peer", MESH.id, ["h", 1], [], 0)):
            link = connection(opened=False)
            self.assertRaises(HandshakeError, link.receive_data, whisper(*payload), START)
            link = connection()
            link.receive_data(whisper(*payload), START)
            self.assertIs(link.state, State.OPEN)

    def test_items_of_the_wrong_type_end_the_link(self):
        """Ids, the network and the codecs are what 0.6 knows, or nothing can be agreed."""
        for said in (
            {"ident": b""},
            {"ident": b"x" * 257},
            {"network": 5},
            {"network": None},
            {"methods": 5},
            {"methods": None},
            {"methods": "19"},
            {"methods": list(range(65))},
        ):
            link = connection(opened=False)
            self.assertRaises(
                (HandshakeError, BadField, LinkError), link.receive_data, handshake(**said), START
            )
            self.assertEqual(link.router.handshakes, [])
        for ident in (5, None, [b"Peer"], {b"a": 1}, True):
            data = whisper(5, ident, MESH.id, ["h", 1], [])
            link = connection(opened=False)
            self.assertRaises(HandshakeError, link.receive_data, data, START)

    def test_an_address_that_makes_no_sense_is_no_address(self):
        """The peer is welcome, it just cannot be dialled."""
        for address in (None, 5, "host", ["h"], ["h", 1, 2], ["", 1], ["h", 0], ["h", 65536],
                        ["h", -1], ["h", "1"], ["h", True], ["h", 1.0], ["a b", 1], ["a\n", 1],
                        ["a/b", 1], ["u@h", 1], ["[::1]", 1], ["h" * 254, 1], [5, 1], [None, 1]):  # fmt: skip
            link, said = self.introduce(handshake(address=address))
            self.assertIsNone(said.address, address)
            self.assertIs(link.state, State.OPEN)

    def test_addresses_of_all_kinds_are_understood(self):
        """Names, IPv4, IPv6, and hosts that came as bytes."""
        for host in ("example.org", "10.0.0.1", "fe80::1", "::1", "localhost"):
            self.assertEqual(read_address([host, 4444]), (host, 4444))
            self.assertEqual(read_address((host.encode(), 1)), (host, 1))

    def test_codecs_that_are_no_numbers_are_passed_over(self):
        """Those that are are kept in their order."""
        self.assertEqual(read_methods([19, "zlib", None, 16, True, 17.0]), (19, 16))

    def test_a_first_message_that_cannot_be_read_ends_the_link(self):
        """Nobody is to be tolerated who has not even introduced himself."""
        body = b"\x94\x02\xa1s\x00\xa1\xff"
        link = connection(opened=False)
        self.assertRaises(HandshakeError, link.receive_data, frame(body), START)
        self.assertEqual(link.router.errors, [])

    def test_a_handshake_may_come_compressed(self):
        """0.6 never does that, but takes it."""
        for method in METHODS:
            link = connection(opened=False)
            link.receive_data(compressed(handshake(), method), START)
            self.assertEqual(link.id, b"Peer")

    def test_a_first_frame_is_small(self):
        """A stranger cannot have more kept than a handshake needs; four bytes tell."""
        link = connection(opened=False)
        error = self.assertRaises(
            FrameTooLarge, link.receive_data, pack("!I", MAX_GREETING + 1), START
        )
        self.assertEqual(error.limit, MAX_GREETING)
        self.assertEqual(link.waiting, 4)

    def test_a_first_frame_does_not_inflate_either(self):
        """A bomb before the handshake is capped as tightly."""
        bomb = compression.compress(bytes(8 * 1024 * 1024), flags.ZLIB)
        self.assertLess(len(bomb), MAX_GREETING)
        link = connection(opened=False)
        with memory_peak() as peak:
            self.assertRaises(
                BadCompression, link.receive_data, compression.wrap_compressed(bomb), START
            )
        self.assertLess(peak(), 200_000)

    def test_after_the_handshake_frames_may_be_large(self):
        """Behind it in the same segment already."""
        link = connection(opened=False)
        link.receive_data(handshake() + raw(0, "x" * 100_000), START)
        self.assertEqual(len(link.router.packets[0][0]), 100_000)


class GreetingTests(SynchronousTestCase):
    def test_our_handshake_says_what_the_reference_says(self):
        """The captured one, from the same values: equal fields."""
        vector = next(vector for vector in vectors.SMALL if vector.name == "handshake")
        _, ident, network, address, methods = vector.payload
        message = greeting(ident, network, tuple(address), vector.time, tuple(methods))
        read = unwrap(frame(message.body))
        self.assertEqual(read.id, message.id)
        self.assertEqual((read.flag, read.sender, read.time), (vector.flag, ident, vector.time))
        self.assertEqual(list(read.payload), vector.payload)

    @given(st.integers(1, 80), st.integers(1, 65535), st.integers(1, 40))
    def test_our_handshake_stands_on_the_grid(self, id_size, port, host_size):
        """Its plain frame is a multiple of eight bytes long, whatever is in it; and we read it."""
        ident, address = b"x" * id_size, ("h" * host_size, port)
        message = greeting(ident, MESH.id, address, WALL, METHODS)
        data = frame(message.body)
        self.assertEqual(len(data) % 8, 0)
        link = connection(opened=False)
        link.receive_data(data, START)
        self.assertEqual((link.id, link.address, link.methods), (ident, address, METHODS))


class RenegotiationTests(SynchronousTestCase):
    def renegotiate(self, link, *payload, now=START):
        link.receive_data(raw(*payload, flag=flags.RENEGOTIATE), now)

    def test_a_peer_may_choose_other_codecs(self):
        """What is sent to it from then on is in a form that it listed."""
        link = connection()
        self.renegotiate(link, 1, [16])
        self.assertEqual(link.policy.method, flags.BZ2)
        self.renegotiate(link, 1, [])
        self.assertIsNone(link.policy.method)

    def test_a_peer_may_ask_for_the_last_message_again(self):
        """Once a second, however often it asks."""
        link, asked = connection(), []
        link.on_resend(asked.append)
        for seconds in (0, 0.1, 0.9, 1.0, 1.5, 2.5):
            self.renegotiate(link, 9, now=START + seconds)
        self.assertEqual(asked, [link] * 3)

    def test_who_renegotiates_without_end_is_left(self):
        """Two reference nodes did this to each other for ever."""
        link = connection(renegotiations=8)
        for _ in range(4):
            self.renegotiate(link, 1, [])
            self.renegotiate(link, 9)
        self.assertRaises(RenegotiationLoop, self.renegotiate, link, 1, [])

    def test_a_list_that_is_none_ends_the_link(self):
        """Nothing can be agreed with such a peer."""
        for methods in (5, None, "x", list(range(65))):
            self.assertRaises(LinkError, self.renegotiate, connection(), 1, methods)

    def test_what_cannot_be_understood_is_passed_over(self):
        """As 0.6 does with a list that is missing, or with another word."""
        link = connection()
        for payload in ((1,), (7,), ("x",), (None, [16]), ([1], [16])):
            self.renegotiate(link, *payload)
        self.assertEqual((link.policy.method, link.router.messages), (flags.ZLIB, []))


class ReadingTests(SynchronousTestCase):
    def test_tolerated_encodings_are_accepted_each_under_its_id(self):
        """Seven encodings of one message are seven messages, as in 0.6."""
        link = connection()
        for name, data, ident in vectors.TOLERATED:
            link.receive_data(data, START)
            self.assertEqual(link.router.messages[-1].id, ident, name)
            self.assertEqual(link.router.packets[-1], ("same",))
        self.assertEqual(len(link.router.messages), 7)

    def test_a_body_keeps_nothing_else_alive_that_came_with_it(self):
        """Applications keep messages. A frame that came alone stays as it is, without a copy."""
        large = raw(0, bytes(20_000))
        for data, kind in ((large, memoryview), (large + raw(0, "more" * 50), bytes)):
            link = connection()
            link.receive_data(data, START)
            self.assertIs(type(link.router.messages[0].body), kind)
            self.assertEqual(bytes(link.router.messages[0].body), data[36 : len(large)])

    def test_rejected_frames_end_the_link(self):
        """All that the reference refuses; a length that is too large only shows behind it."""
        for name, data in vectors.REJECTED:
            link = connection()
            with self.assertRaises(LinkError, msg=name):
                link.receive_data(data + whisper(0, "x"), START)
            self.assertEqual(link.router.messages, [], name)

    def test_each_rejection_has_its_reason(self):
        """For counters and logs."""
        for data, kind in (
            (pack("!I", 0), FrameTooSmall),
            (pack("!I", 0xFFFFFFFF), FrameTooLarge),
            (raw(0, "x")[:-1] + b"y", ChecksumMismatch),
            (frame(b"\x05"), MalformedMessage),
            (frame(b""), MalformedMessage),
            (frame(pack_body(0, b"s")), MalformedMessage),
            (pack("!I", 40) + b"\x78\x9c" + bytes(38), BadCompression),
            (pack("!I", 40) + b"BZh9" + bytes(36), BadCompression),
        ):
            self.assertRaises(kind, connection().receive_data, data, START)

    def test_captured_messages_come_through_in_every_wrapping(self):
        """Plain, stored, and in all four codecs: the same id and payload."""
        for vector in vectors.SMALL:
            if vector.payload[0] == flags.HANDSHAKE or vector.flag == flags.RENEGOTIATE:
                continue
            plain = frame(vector.body)
            for data in (plain, stored(plain), *(compressed(plain, method) for method in METHODS)):
                link = connection()
                link.receive_data(data, START)
                (message,) = link.router.messages
                self.assertEqual(message.id, vector.id, vector.name)
                self.assertEqual(message.payload, tuple(vector.payload), vector.name)

    def test_seventy_kilobytes_come_through_in_every_wrapping(self):
        """The large captured message."""
        vector = vectors.LARGE[0]
        plain = frame(pack_body(vector.flag, vector.sender, vector.time, *vector.payload))
        for data in (plain, stored(plain), *(compressed(plain, method) for method in METHODS)):
            link = connection()
            link.receive_data(data, START)
            (message,) = link.router.messages
            self.assertEqual(message.id, vector.id)
            self.assertEqual(message.payload, tuple(vector.payload))

    def test_a_checksum_that_looks_compressed_is_read_as_plain(self):
        """About one id in five hundred begins like a stream of some codec."""
        met, number = set(), 0
        while len(met) < 2 or number < 3000:
            number += 1
            data = raw(0, number)
            method = compression.looks_like(data, 4)
            if method is None:
                continue
            met.add(data[4])
            link = connection()
            link.receive_data(data, START)
            self.assertEqual(link.router.packets, [(number,)])
        self.assertGreater(len(met), 1)

    def test_the_largest_message_is_accepted_and_nothing_larger(self):
        """``max_message`` bounds the body, however it is wrapped."""
        limit = 4096
        room = limit - len(pack_body(0, b"Peer", WALL, 0, b"x" * 1000)) + 1000
        for extra in (0, 1):
            for random in (b"x" * (room + extra), Random(1).randbytes(room + extra)):
                plain = raw(0, random)
                for data in (plain, stored(plain), *(compressed(plain, m) for m in METHODS)):
                    link = connection(max_message=limit)
                    if extra:
                        self.assertRaises(LinkError, link.receive_data, data, START)
                        self.assertEqual(link.router.messages, [])
                    else:
                        link.receive_data(data, START)
                        self.assertEqual(link.router.packets, [(random,)])

    def test_counts_are_kept(self):
        """Frames and bytes, for the status page."""
        link = connection(opened=False)
        data = handshake() + raw(0, "x") * 2 + whisper(0, "y")
        link.receive_data(data, START + 5)
        self.assertEqual((link.frames, link.bytes, link.duplicates), (4, len(data), 1))
        self.assertEqual((link.since, link.heard), (START, START + 5))

    def test_an_unfinished_frame_can_be_seen_waiting(self):
        """Whoever watches over slow peers asks for it."""
        link, data = connection(), whisper(0, "x")
        link.receive_data(data[:10], START)
        self.assertEqual(link.waiting, 10)
        link.receive_data(data[10:], START)
        self.assertEqual(link.waiting, 0)


class WorkTests(SynchronousTestCase):
    def one_turn_each(self, frames):
        """Frames that come with one read: how many are delivered in each turn."""
        solo = Solo()
        link = solo.peer()
        turns, data = [], b"".join(frames)
        for _ in range(99):
            before = len(solo.effects.delivered)
            solo.node.receive(link, data, solo.now, solo.wall)
            turns.append(len(solo.effects.delivered) - before)
            data = b""
            if not link.unread:
                return turns
        raise AssertionError("there is always more")

    def test_plain_messages_are_read_in_one_turn(self):
        """As many as came with one read."""
        self.assertEqual(self.one_turn_each([raw(0, number) for number in range(400)]), [400])

    def test_what_inflates_much_is_read_one_by_one(self):
        """A few bytes must not stop everything else for seconds; nothing is lost by that."""
        frames = [
            compression.wrap_compressed(
                compression.compress(unwrap(raw(0, number, bytes(200_000))).content, method), method
            )
            for number, method in enumerate(METHODS)
        ]
        self.assertEqual(self.one_turn_each([*frames, raw(0, "x")]), [1, 1, 1, 1, 1])
        self.assertEqual(self.one_turn_each([raw(0, "x"), *frames]), [2, 1, 1, 1])

    def test_what_is_nested_widely_as_well(self):
        """Building lists takes longer than reading their bytes."""
        frames = [raw(0, number, [[]] * 9_000) for number in range(3)]
        self.assertEqual(self.one_turn_each(frames), [1, 1, 1])

    def test_copies_that_inflate_as_well(self):
        """A compressed copy is known only when it has been inflated."""
        content = unwrap(raw(0, bytes(200_000))).content
        frame = compression.wrap_compressed(compression.compress(content, flags.BZ2), flags.BZ2)
        self.assertEqual(self.one_turn_each([frame] * 4), [1, 0, 0, 0])

    def test_a_closed_connection_keeps_nothing(self):
        """Neither frames that were not read, nor one that was begun."""
        solo = Solo()
        link = solo.peer()
        solo.node.receive(link, raw(0, [[]] * 9_000) + raw(0, 1)[:-1], solo.now, solo.wall)
        solo.receive(link, b"")
        self.assertGreater(link.waiting, 0)
        solo.lost(link)
        self.assertEqual((link.waiting, link.unread, link.last_sent), (0, False, None))

    def test_an_error_does_not_keep_the_frame(self):
        """It is logged and shown for long, and the frame may be large."""
        solo = Solo()
        link = solo.peer()
        solo.receive(link, frame(bytes(100_000)))
        error = solo.closed(link)
        self.assertIsNotNone(error)
        self.assertEqual((error.__traceback__, error.__context__, error.__cause__), (None,) * 3)


class DuplicateTests(SynchronousTestCase):
    def test_a_copy_is_dropped_however_it_is_wrapped(self):
        """By its id alone."""
        plain = raw(0, "x")
        for data in (plain, stored(plain), *(compressed(plain, method) for method in METHODS)):
            link = connection()
            link.receive_data(plain, START)
            link.receive_data(data, START)
            self.assertEqual((len(link.router.messages), link.duplicates), (1, 1))

    def test_a_copy_is_dropped_before_anything_is_hashed_or_decoded(self):
        """A known id with rubbish behind it is counted as a copy, not looked at."""
        ident = sha256(b"known").digest()
        for data in (
            pack("!I", 60) + ident + bytes(28),
            compression.wrap_stored(ident, b"\xc1" * 28),
            pack("!I", 20_032) + ident + b"\xff" * 20_000,
        ):
            link = connection()
            link.remember(ident)
            link.receive_data(data, START)
            self.assertEqual((link.router.messages, link.duplicates), ([], 1))

    def test_copies_within_one_read_are_found_as_well(self):
        """The first counts, the others do not."""
        link = connection()
        link.receive_data(raw(0, "x") * 5 + raw(0, "y") + raw(0, "x"), START)
        self.assertEqual((link.router.packets, link.duplicates), ([("x",), ("y",)], 5))


class ContentErrorTests(SynchronousTestCase):
    def broken(self, number):
        """A message whose text is no UTF-8, each under its own id."""
        return frame(b"\x95\x00\xa1s\x00\x00\xa2\xff" + bytes([number]))

    def test_a_message_that_cannot_be_used_is_dropped_and_counted(self):
        """The link goes on: honest neighbours relay what they do not check."""
        link = connection()
        link.receive_data(self.broken(1) + raw(0, "fine"), START)
        self.assertEqual(link.router.packets, [("fine",)])
        self.assertEqual([type(error).__name__ for error in link.router.errors], ["BadText"])
        self.assertEqual(link.drops, {"bad text": 1})

    def test_so_is_one_that_the_node_cannot_use(self):
        """What is wrong with a field shows only where it matters."""
        link = connection()
        link.router.refusal = BadField("no")
        link.receive_data(whisper(7), START)
        self.assertEqual(link.drops, {"bad field": 1})

    def test_copies_of_it_cost_nothing_and_blame_nobody(self):
        """Its id is remembered like any other."""
        link = connection(content_errors=1)
        for _ in range(50):
            link.receive_data(self.broken(1), START)
        self.assertEqual((link.drops, link.duplicates), ({"bad text": 1}, 49))

    def test_more_than_a_few_a_minute_end_the_link(self):
        """Ten are an honest neighbour's bad luck, the eleventh is not."""
        link = connection(content_errors=10)
        for number in range(10):
            link.receive_data(self.broken(number), START)
        self.assertRaises(TooManyContentErrors, link.receive_data, self.broken(10), START)

    def test_time_makes_good_again(self):
        """One every six seconds can go on for ever; one every five cannot."""
        for seconds, ends in ((6.0, False), (5.0, True)):
            link = connection(content_errors=10)
            try:
                for number in range(200):
                    link.receive_data(self.broken(number), START + number * seconds)
            except TooManyContentErrors:
                self.assertTrue(ends)
            else:
                self.assertFalse(ends)

    def test_without_patience_the_first_ends_the_link(self):
        """With a budget of none."""
        link = connection(content_errors=0)
        self.assertRaises(TooManyContentErrors, link.receive_data, self.broken(1), START)


# --- any bytes -------------------------------------------------------------------------

values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 70) | st.floats() | st.text(max_size=5)
    | st.binary(max_size=5) | st.sampled_from([2**64 - 1, -(2**63), "*", b"*", "127.0.0.1", MESH.id]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
#: Messages that are well-formed and otherwise anything.
odd_bodies = st.builds(
    lambda flag, sender, time, payload: pack_body(flag, sender, time, *payload),
    st.sampled_from([0, 1, 2, 2, 77, -1]) | values,
    st.sampled_from([b"Peer", "js"]) | values,
    st.sampled_from([WALL, WALL + 0.5, 0]) | values,
    st.lists(st.sampled_from([0, 1, 5, 7, 8, 9, 10, 0x21]) | values, max_size=5),
)
odd_frames = odd_bodies.map(frame) | st.binary(max_size=40).map(frame)
wrapped = st.builds(
    lambda data, wrap: wrap(data),
    odd_frames,
    st.sampled_from([lambda data: data, lambda data: data, stored, compressed]),
)
honest = st.builds(
    lambda number, wrap: wrap(raw(0, number)),
    st.integers(0, 6),
    st.sampled_from([lambda data: data, stored, compressed]),
)
streams = st.lists(
    wrapped | honest | st.just(handshake()) | st.binary(max_size=30), max_size=8
).map(b"".join)


def pieces(stream, cuts):
    """A stream, cut at these places."""
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    return [stream[start:stop] for start, stop in pairwise(places)]


def history(chunks, *, opened=True, trace=None):
    """What comes out of a connection, and how it ends."""
    link = connection(opened=opened, trace=trace, content_errors=4)
    error = None
    try:
        for chunk in chunks:
            link.receive_data(chunk, START)
    except LinkError as reason:
        error = type(reason)
    heard = [(message.id, repr(message.payload)) for message in link.router.messages]
    dropped = [type(reason) for reason in link.router.errors]
    return heard, dropped, error, link.frames, link.duplicates


class AnyBytesTests(SynchronousTestCase):
    @given(streams, st.booleans(), st.lists(st.integers(0, 400), max_size=6))
    def test_nothing_but_a_link_error_comes_out(self, stream, opened, cuts):
        """Noise, wrong types anywhere, half frames: one kind of error, or none."""
        link = connection(opened=opened)
        try:
            for piece in pieces(stream, cuts):
                link.receive_data(piece, START)
        except LinkError:
            pass

    @given(streams, st.booleans(), st.lists(st.integers(0, 400), max_size=6))
    def test_segmentation_does_not_matter(self, stream, opened, cuts):
        """The same messages, drops and end, however the stream is cut."""
        self.assertEqual(
            history(pieces(stream, cuts), opened=opened), history([stream], opened=opened)
        )

    @given(streams)
    def test_the_quick_way_does_what_the_careful_way_does(self, stream):
        """Tracing switches the quick way off; nothing else may change by it."""
        self.assertEqual(history([stream]), history([stream], trace=lambda *_: None))

    def test_no_flipped_bit_of_a_plain_frame_is_delivered(self):
        """Every single bit of it: nothing arrives but what was sent before and after."""
        data = raw(0, "storm", b"north")
        for bit in range(8 * len(data)):
            damaged = bytearray(data)
            damaged[bit // 8] ^= 1 << bit % 8
            heard, *_ = history([bytes(damaged)])
            self.assertEqual(heard, [], bit)

    def test_no_flipped_bit_of_a_wrapped_frame_changes_what_is_delivered(self):
        """Damage to the wrapping may go unnoticed; damage to the message never does."""
        plain = raw(0, "storm", b"north")
        intact, *_ = history([plain])
        for data in (stored(plain), *(compressed(plain, method) for method in METHODS)):
            for bit in range(8 * len(data)):
                damaged = bytearray(data)
                damaged[bit // 8] ^= 1 << bit % 8
                heard, *_ = history([bytes(damaged)])
                self.assertIn(heard, ([], intact), bit)

    def test_content_errors_never_come_out(self):
        """They are counted where they happen."""
        link = connection()
        link.router.refusal = ContentError("no")
        link.receive_data(whisper(0, 1) + whisper(0, 2), START)
        self.assertEqual(len(link.router.errors), 2)
