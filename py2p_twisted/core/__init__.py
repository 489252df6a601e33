"""
The protocol without I/O: bytes and values in, bytes and values out.

Nothing in here touches a socket, a thread, a clock, a random source or a log; time and
randomness are arguments. So every rule is a question about values, and any number of
these nodes can run in one process on a virtual clock.

================  ==============================================================
``flags``          the numbers of the wire
``base58``         ids as text
``network``        which network a node belongs to, and what its id is
``codec``          MessagePack, checked on the way out and bounded on the way in
``compression``    four codecs, capped; padded streams for plain 0.6 peers
``framing``        a byte stream cut into frames
``message``        one message: its id, its body, its decoded fields
``policy``         the rules towards one peer
``connection``     one peer's life: greeting, handshake, renegotiation
``seen``           which ids have been here
``links``          the connections of this node, by peer
``clock``          whose clock is right
``outgoing``       stamping and encoding what the application sends
``flood``          who hears a broadcast next
``dialer``         whom to dial, and when again
``replies``        how a reply finds a sender that is not a neighbour
``timers``         a heap of deadlines
``node``           all of it put together
================  ==============================================================
"""
