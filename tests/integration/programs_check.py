"""
Programs with sockets, run to their end as a user would run them.

What they print, their exit status, and that they end at all: whatever they call and when, however
they end, and whichever event loop they have.

Times are in seconds. Source: docs/design.rst, "The documented face" and "Threads".
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time

from tests.integration.nodes import ProcessTestCase, run, seconds, settings
from tests.integration.reference import PROJECT

_PRELUDE = """
import os, sys, threading, time
from py2p_twisted import base, mesh

def node(port=0, **options):
    return mesh.mesh_socket('127.0.0.1', port, **options)

def pair(**options):
    one, other = node(**options), node(**options)
    one.connect(*other.out_addr).wait(10)
    one.wait_connected(10)
    other.wait_connected(10)
    return one, other

def tell(*words):
    print(*words, flush=True)

def ended(child):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return 'it did not end'
"""


class ProgramTestCase(ProcessTestCase):
    """Programs that are run to their end."""

    def run_program(self, source: str, timeout: float = 40.0) -> subprocess.CompletedProcess[str]:
        """
        Run a program that begins with the prelude above, to whatever end; but to one.
        """
        try:
            return run(_PRELUDE + source, timeout)
        except subprocess.TimeoutExpired as expired:
            printed = [
                text.decode(errors="replace") if isinstance(text, bytes) else text or ""
                for text in (expired.stdout, expired.stderr)
            ]
            return self.fail("the program does not end; it has printed\n" + "\n".join(printed))

    def assert_prints(self, source: str, *lines: str, timeout: float = 40.0) -> None:
        """The program prints these lines, nothing else, no errors, and ends well."""
        result = self.run_program(source, timeout)
        self.assertEqual(
            (result.stdout.splitlines(), result.stderr, result.returncode), ([*lines], "", 0)
        )


class SocketProgramTests(ProgramTestCase):
    """What a program may do with its sockets, and when."""

    def test_sending_in_the_connect_callback(self) -> None:
        """Who is told of a first peer can send to it, at both ends."""
        self.assert_prints(
            """
a, b = node(), node()
a.on('connect', lambda sock: sock.send('from a'))
b.on('connect', lambda sock: sock.send('from b'))
a.connect(*b.out_addr)
tell(b.recv(timeout=10).packets)
tell(a.recv(timeout=10).packets)
""",
            "[0, 'from a']",
            "[0, 'from b']",
        )

    def test_sending_right_after_connect(self) -> None:
        """What is sent before the first peer is there reaches it."""
        self.assert_prints(
            """
a, b = node(), node()
a.send('before')
a.connect(*b.out_addr)
a.send('at once')
tell(b.recv(timeout=10).packets, b.recv(timeout=10).packets)
""",
            "[0, 'before'] [0, 'at once']",
        )

    def test_closing_in_callbacks(self) -> None:
        """A socket may be closed in any of its callbacks; none of them runs afterwards."""
        self.assert_prints(
            """
def handler(msg, connection):
    late.append('handler')
    connection.server.close()
    ended.set()
    return True

def listener(sock, *args):
    late.append('listener')
    sock.close()
    ended.set()

for place in ('handler', 'message', 'connect'):
    late, ended = [], threading.Event()
    a, b = node(), node()
    if place == 'handler':
        b.register_handler(handler)
    else:
        b.on(place, listener)
    a.connect(*b.out_addr).wait(10)
    try:
        for number in range(50):
            a.send(number)
    except RuntimeError:
        pass
    tell(place, ended.wait(10), b.status['state'])
    time.sleep(0.1)
    tell(late)
    a.close()
""",
            "handler True closed",
            "['handler']",
            "message True closed",
            "['listener']",
            "connect True closed",
            "['listener']",
        )

    def test_closing_in_the_reactors_thread(self) -> None:
        """Closing there does not wait, and closes."""
        self.assert_prints(
            """
from twisted.internet import reactor
a, b = pair()
closed = threading.Event()
reactor.callFromThread(lambda: (a.close(), closed.set()))
tell(closed.wait(10), a.status['state'])
deadline = time.monotonic() + 10
while b.routing_table and time.monotonic() < deadline:
    time.sleep(0.01)
tell(len(b.routing_table))
""",
            "True closed",
            "0",
        )

    def test_closing_twice(self) -> None:
        """Closing again, also from several threads at once, does nothing and takes no time."""
        self.assert_prints(
            """
a, b = pair()
threads = [threading.Thread(target=a.close) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(10)
start = time.monotonic()
a.close()
with b:
    b.close()
tell(a.status['state'], b.status['state'], time.monotonic() - start < 3)
""",
            "closed closed True",
        )

    def test_the_same_port_again(self) -> None:
        """A port is free as soon as its socket is closed, whatever connections it had."""
        self.assert_prints(
            """
other = node()
sock = node()
port = sock.out_addr[1]
for turn in range(15):
    sock.connect(*other.out_addr).wait(10)
    sock.close()
    sock = node(port)
tell(sock.out_addr[1] == port)
""",
            "True",
        )

    def test_using_a_closed_socket(self) -> None:
        """What needs the network is refused; what has arrived can still be read."""
        self.assert_prints(
            """
a, b = pair()
a.send('last words')
deadline = time.monotonic() + 10
while b.status['peers'] and not len(b._inbox) and time.monotonic() < deadline:
    time.sleep(0.01)
b.close()
a.close()
for call in (lambda: a.send('x'), lambda: a.connect('127.0.0.1', 9), a.request_peers,
             lambda: b.reply_to(a.id, 'x')):
    try:
        call()
    except RuntimeError as error:
        tell(error)
msg = b.recv()
tell(msg.packets)
try:
    msg.reply('x')
except RuntimeError as error:
    tell(error)
tell(b.recv(), b.recv(10), b.recv(timeout=1), list(b), dict(b.routing_table))
""",
            *["this socket is closed"] * 4,
            "[0, 'last words']",
            "this socket is closed",
            "None [] None [] {}",
        )

    def test_a_port_in_use(self) -> None:
        """A busy port is an OSError that says so, and does no harm to who has it."""
        self.assert_prints(
            """
import errno
a, b = pair()
try:
    node(a.out_addr[1])
except OSError as error:
    tell(error.errno == errno.EADDRINUSE, str(a.out_addr[1]) in str(error))
a.send('still here')
tell(b.recv(timeout=10).packets)
""",
            "True True",
            "[0, 'still here']",
        )

    def test_leaving_in_callbacks(self) -> None:
        """A callback of any kind that wants to end the program ends nothing but itself."""
        result = self.run_program(
            """
def leave(*args):
    sys.exit('from a callback')
def leave_too(msg, connection):
    raise KeyboardInterrupt('from a handler')
a, b = node(), node(max_waiting=2)
for event in ('connect', 'message', 'gap'):
    b.on(event, leave)
b.register_handler(leave_too)
a.connect(*b.out_addr).wait(10)
for number in range(4):
    a.send(number)
    deadline = time.monotonic() + 10
    while b.status['state'] != f'{[3, 5, 9, 13][number]} errors' and time.monotonic() < deadline:
        time.sleep(0.01)
tell([msg.packets[1] for msg in b.recv(9)], b.status['state'])
a.send('on')
tell(b.recv(timeout=10).packets)
"""
        )
        # Among them are the notices that py2p prints as well.
        for line in ("[2, 3] 13 errors", "[0, 'on']"):
            self.assertIn(line, result.stdout, result.stderr)
        self.assertEqual(result.returncode, 0, result.stderr)

    def test_closed_sockets_are_forgotten(self) -> None:
        """A program that makes and closes sockets for ever does not grow."""
        self.assert_prints(
            """
import gc, weakref
from twisted.logger import globalLogBeginner
# Until a program says what is to become of its log, Twisted keeps the last few events.
globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)
made = []
for turn in range(20):
    a, b = pair()
    b.on('message', lambda sock: None)
    made += [weakref.ref(a), weakref.ref(b)]
    a.close()
    b.close()
del a, b
deadline = time.monotonic() + 10
while sum(ref() is not None for ref in made) > 4 and time.monotonic() < deadline:
    time.sleep(0.1)
    gc.collect()
tell(sum(ref() is not None for ref in made) <= 4)
""",
            "True",
        )

    def test_a_thread_that_ends(self) -> None:
        """A node that was made in a thread lives on when the thread ends."""
        self.assert_prints(
            """
made = []
for _ in range(2):
    thread = threading.Thread(target=lambda: made.append(node()))
    thread.start()
    thread.join()
a, b = made
connect = []
thread = threading.Thread(target=lambda: connect.append(a.connect(*b.out_addr)))
thread.start()
thread.join()
connect[0].wait(10)
a.send('alive')
tell(b.recv(timeout=10).packets)
""",
            "[0, 'alive']",
        )

    def assert_last_words_arrive(self, last_line: str) -> None:
        """A program sends much, and then comes its last line; all of it arrives."""
        receiver = self.spawn(1)[0]
        receiver.ask("gather")
        self.assert_prints(
            f"""
sock = node()
sock.connect('127.0.0.1', {receiver.port}).wait(10)
for number in range(3000):
    sock.send(number, 'x' * 1000)
{last_line}
"""
        )
        self.wait_for(lambda: receiver.ask("count") >= 3000, "all that was sent")
        self.assertEqual(receiver.ask("pushed"), list(range(3000)))

    def test_last_words(self) -> None:
        """Closing sends what was sent before, however much it is."""
        self.assert_last_words_arrive("sock.close()")

    def test_last_words_of_the_program(self) -> None:
        """So does the end of a program that closes nothing; the seed's examples do not."""
        self.assert_last_words_arrive("")

    def test_no_room_in_the_reactors_thread(self) -> None:
        """There `send` cannot wait: it says so at once, and goes on when there is room."""
        self.assert_prints(
            """
from twisted.internet import reactor
a, b = pair()
outcome = []
def flood():
    for number in range(1000):
        try:
            a.send(os.urandom(60_000))
        except BlockingIOError as error:
            outcome.append((number, type(error).__name__))
            break
    done.set()
done = threading.Event()
reactor.callFromThread(flood)
tell(done.wait(10), outcome[0][1], 60 < outcome[0][0] < 80)
for _ in range(outcome[0][0]):
    b.recv(timeout=10)
a.send('room again')
tell(b.recv(timeout=10).packets)
""",
            "True WouldBlock True",
            "[0, 'room again']",
        )


class EndTests(ProgramTestCase):
    """However a program ends, it ends."""

    def test_the_end_of_the_program(self) -> None:
        """A program that closes nothing ends by itself, in the middle of everything."""
        with seconds() as passed:
            self.assert_prints(
                """
a, b = pair()
b.on('message', lambda sock: time.sleep(0.001))
for number in range(1000):
    a.send(number)
a.connect('127.0.0.1', 9)
tell('done')
""",
                "done",
            )
        self.assertLess(passed(), 15.0)

    def test_a_callback_that_does_not_end(self) -> None:
        """A callback that sleeps does not keep the program from ending."""
        with seconds() as passed:
            self.assert_prints(
                """
a, b = pair()
b.on('message', lambda sock: time.sleep(600))
a.send('sleep')
time.sleep(0.3)
tell('done')
""",
                "done",
            )
        self.assertLess(passed(), 15.0)

    def test_an_exception(self) -> None:
        """A program that fails ends with its own error, and none of ours."""
        for source in (
            "a, b = pair()\nraise KeyError('mine')",
            "with node():\n    raise KeyError('mine')",
        ):
            result = self.run_program(source)
            self.assertEqual((result.stdout, result.returncode), ("", 1))
            self.assertEqual(result.stderr.count("Traceback"), 1, result.stderr)
            self.assertTrue(result.stderr.endswith("KeyError: 'mine'\n"), result.stderr)

    def test_an_exit_status(self) -> None:
        """A program's exit status is its own."""
        result = self.run_program("a, b = pair()\nsys.exit(7)")
        self.assertEqual((result.stdout, result.stderr, result.returncode), ("", "", 7))

    def test_interruption(self) -> None:
        """Ctrl-C gets through to a program that waits for a message, or for a peer."""
        for waiting in (
            "node().recv(timeout=600)",
            "for message in node(): pass",
            "node().wait_connected(600)",
        ):
            program = subprocess.Popen(
                [sys.executable, "-c", f"{_PRELUDE}\ntell('ready')\n{waiting}"],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=PROJECT,
                env=settings(),
            )
            try:
                assert program.stdout is not None
                program.stdout.readline()
                time.sleep(1.0)
                program.send_signal(signal.SIGINT)
                _, errors = program.communicate(timeout=15.0)
            except subprocess.TimeoutExpired:
                self.fail(f"{waiting} cannot be interrupted")
            finally:
                program.kill()
                program.communicate()
            self.assertTrue(errors.endswith("KeyboardInterrupt\n"), errors)

    def test_fork(self) -> None:
        """
        In a child of `fork` the sockets say that they stayed behind, also when they are closed;
        the parent's live on.
        """
        self.assert_prints(
            """
a, b = pair()
b.on('message', lambda sock: None)
child = os.fork()
if not child:
    calls = dict(
        node=node, send=lambda: a.send('x'), recv=a.recv, wait=lambda: a.recv(timeout=60),
        connect=lambda: a.connect('127.0.0.1', 9),
        peers=lambda: a.wait_connected(60, peers=9), reply=lambda: a.reply_to(b'nobody', 'x'),
        ask=a.request_peers,
    )
    for name, call in calls.items():
        try:
            tell(name, call())
        except RuntimeError as error:
            tell(name, 'fork' in str(error))
    tell('fork' in a.status['state'])
    start = time.monotonic()
    a.close()
    b.close()
    tell(time.monotonic() - start < 3)
    sys.exit(3)
tell(ended(child))
a.send('still here')
heard = b.recv(timeout=10)
heard.reply('heard').wait(10)
tell(heard.packets, a.recv(timeout=10).packets)
c = node()
c.connect(*a.out_addr).wait(10)
c.send('new')
tell(a.recv(timeout=10).packets, b.recv(timeout=10).packets)
""",
            *("node True", "send True", "recv True", "wait True", "connect True"),
            *("peers True", "reply True", "ask True"),
            *["True"] * 2,
            "3",
            "[0, 'still here'] [2, 'heard']",
            "[0, 'new'] [0, 'new']",
        )

    def test_fork_in_the_middle_of_everything(self) -> None:
        """A lock that another thread holds at the moment of a fork does not stop the child."""
        self.assert_prints(
            """
a, b = pair()
heard = []
b.register_handler(lambda msg, connection: heard.append(msg.packets[1]))
done = threading.Event()
def work(number):
    turn = 0
    while not done.is_set():
        a.send(number, turn, b'x' * 5000)
        b.recv()
        turn += 1
    sent.append(turn)
sent = []
threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
for thread in threads:
    thread.start()
for turn in range(20):
    child = os.fork()
    if not child:
        refused = 0
        for call in (lambda: a.send('x'), a.recv, lambda: b.recv(timeout=60), node,
                     lambda: b.wait_connected(60, peers=9)):
            try:
                call()
            except RuntimeError:
                refused += 1
        a.close()
        b.close()
        os._exit(refused)
    status = ended(child)
    if status != 5:
        tell('in fork', turn, 'the child ended with', status)
    time.sleep(0.02)
done.set()
for thread in threads:
    thread.join(20)
deadline = time.monotonic() + 20
while len(heard) < sum(sent) and time.monotonic() < deadline:
    time.sleep(0.01)
tell(len(sent), sum(sent) > 100, len(heard) == sum(sent))
""",
            "4 True True",
        )

    def test_sockets_made_after_a_fork(self) -> None:
        """A program that forks first may make sockets in both processes."""
        self.assert_prints(
            """
child = os.fork()
a, b = pair()
a.send('hello')
heard = b.recv(timeout=10).packets
if not child:
    sys.exit(len(heard))
tell(heard, ended(child))
""",
            "[0, 'hello'] 2",
        )


class LoopTests(ProgramTestCase):
    """Programs that have an event loop of their own."""

    def test_a_reactor_that_is_run_later(self) -> None:
        """A program that will run the reactor itself hands it to its sockets."""
        self.assert_prints(
            """
from twisted.internet import reactor
a, b = node(reactor=reactor), node(reactor=reactor)
tell(reactor.running, [thread.name for thread in threading.enumerate()])
a.on('connect', lambda sock: sock.send('from a'))
def heard(sock):
    tell(sock.recv().packets, threading.current_thread() is threading.main_thread())
    reactor.callFromThread(reactor.stop)
b.on('message', heard)
a.connect(*b.out_addr)
reactor.callLater(20, reactor.stop)
reactor.run()
start = time.monotonic()
a.close()
b.close()
tell(time.monotonic() - start < 3)
""",
            "False ['MainThread']",
            "[0, 'from a'] False",
            "True",
        )

    def test_a_reactor_that_runs(self) -> None:
        """Sockets made inside the running reactor use it; what would wait is refused there."""
        self.assert_prints(
            """
from twisted.internet import reactor
def begin():
    global a, b
    a, b = node(), node()
    connecting = a.connect(*b.out_addr)
    for call in (lambda: connecting.wait(1), lambda: a.wait_connected(1),
                 lambda: a.recv(timeout=1), lambda: list(a)):
        try:
            call()
        except RuntimeError as error:
            tell(type(error).__name__)
    connecting.add_done_callback(lambda done: reactor.callLater(0, connected, done))
def connected(done):
    tell(done.result().id == b.id, list(a.routing_table) == [b.id])
    a.send('hello')
    reactor.callLater(0.5, heard)
def heard():
    tell(b.recv().packets)
    a.close()
    b.close()
    reactor.callLater(0.2, reactor.stop)
reactor.callWhenRunning(begin)
reactor.callLater(20, reactor.stop)
reactor.run()
""",
            *["BlockingInReactor"] * 4,
            "True True",
            "[0, 'hello']",
        )

    def test_asyncio(self) -> None:
        """A connection can be awaited, and fails where it is awaited."""
        self.assert_prints(
            """
import asyncio, socket
async def main():
    a, b = node(), node()
    peer = await a.connect(*b.out_addr)
    tell(peer.id == b.id, peer is a.routing_table[b.id])
    probe = socket.socket()
    probe.bind(('127.0.0.1', 0))
    try:
        await asyncio.wait_for(a.connect(*probe.getsockname()), 10)
    except ConnectionRefusedError:
        tell('refused')
    loop, heard = asyncio.get_running_loop(), asyncio.Event()
    b.on('message', lambda sock: loop.call_soon_threadsafe(heard.set))
    a.send('hello')
    await asyncio.wait_for(heard.wait(), 10)
    tell(b.recv().packets)
asyncio.run(main())
""",
            "True True",
            "refused",
            "[0, 'hello']",
        )

    def assert_tells_the_end(self, death: str, before: str = "") -> None:
        """
        When the reactor has ended, the status says so, whoever calls or waits is told, nothing
        hangs.
        """
        self.assert_prints(
            f"""
from twisted.internet import reactor
{before}
a, b = pair()
ended = []
def wait(what):
    try:
        what()
    except Exception as error:
        ended.append(type(error).__name__)
    else:
        ended.append('returned')
waits = [lambda: a.recv(timeout=60), lambda: list(b), lambda: a.wait_connected(60, peers=9),
         lambda: a.reply_to(b'nobody', 'x').wait(60)]
threads = [threading.Thread(target=wait, args=(what,), daemon=True) for what in waits]
for thread in threads:
    thread.start()
time.sleep(0.3)
start = time.monotonic()
{death}
while a.status['state'] == 'Nominal' and time.monotonic() < start + 10:
    time.sleep(0.01)
tell('reactor' in a.status['state'])
for call in (lambda: a.send('x'), lambda: a.connect('127.0.0.1', 9), node):
    try:
        call()
    except RuntimeError as error:
        tell('reactor' in str(error))
for thread in threads:
    thread.join(5)
tell(len(ended), not any(thread.is_alive() for thread in threads))
start = time.monotonic()
a.close()
b.close()
tell(time.monotonic() - start < 3)
""",
            *["True"] * 4,
            "4 True",
            "True",
        )

    def test_a_reactor_that_is_stopped(self) -> None:
        """Somebody stops the reactor that the sockets live on."""
        self.assert_tells_the_end("reactor.callFromThread(reactor.stop)")

    def test_a_reactor_that_crashes(self) -> None:
        """The same, without any of its cleaning up."""
        self.assert_tells_the_end("reactor.callFromThread(reactor.crash)")

    def test_a_reactor_that_dies(self) -> None:
        """The reactor's thread ends by an exception that nothing catches."""
        self.assert_tells_the_end(
            "die.set(); reactor.wakeUp()",
            before="""
die = threading.Event()
def main_loop():
    while not die.is_set():
        reactor.iterate(0.05)
    raise SystemExit('the end')
reactor.mainLoop = main_loop
""",
        )

    def test_an_exception_in_the_reactor(self) -> None:
        """What is raised inside the reactor, even to end the program, ends nothing."""
        result = self.run_program(
            """
from twisted.internet import reactor
a, b = pair()
def fail(error):
    raise error
for error in (SystemExit('no'), KeyboardInterrupt('no'), MemoryError('no'), GeneratorExit()):
    reactor.callFromThread(fail, error)
    reactor.callFromThread(reactor.callLater, 0, fail, error)
time.sleep(0.3)
a.send('still here')
tell(b.recv(timeout=10).packets, a.status['state'])
"""
        )
        self.assertEqual(result.stdout, "[0, 'still here'] Nominal\n", result.stderr)
        self.assertEqual(result.returncode, 0)
