"""
The status page in Chromium: opened, looked at, typed into, while nodes come and go.

The nodes are ``py2p node`` processes, one of which shows the page. What must be true of the page is
asked of the page: of what is on it, and of ``window.py2p``, which tells what the canvas shows.
After each test there is nothing in its console, and it has asked nobody but its node.

Without Chromium these tests skip. Times are in seconds. Source: docs/howto/status-page.rst.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from twisted.trial.unittest import SkipTest

from tests.integration.browser import Browser, ChromiumMissing, Page, find_chromium
from tests.integration.commands_check import Command, free_port
from tests.integration.control_check import ControlCheckCase
from tests.integration.driver import HOST

#: Until a picture has followed what has happened: a survey every two seconds, and what it takes.
FOLLOWS = 20.0

#: What a page's console says when its node is not there. No page can keep that from it.
_REFUSED = "Failed to load resource: net::ERR_"

_ALIVE = "py2p.nodes.filter((node) => node.state === 'alive')"


class PageTestCase(ControlCheckCase):
    """
    Tests with a browser.

    :ivar page: the page that was opened last.
    :ivar url: where it is.
    :ivar token: what it takes to send from there.
    """

    def setUp(self) -> None:
        try:
            find_chromium()
        except ChromiumMissing as error:
            raise SkipTest(str(error)) from None
        super().setUp()
        self.browser = Browser()
        self.addCleanup(self.browser.close)
        self.pages: list[Page] = []
        self.url = self.token = ""
        self.web_port = free_port()
        self.others: list[tuple[Command, int, Path]] = []
        #: What may stand in the console.
        self.expected_error = "no such thing"

    def tearDown(self) -> None:
        try:
            for page in self.pages:
                unexpected = [one for one in page.errors if self.expected_error not in one]
                self.assertEqual(unexpected, [])
                for request in page.requests:
                    parts = urlsplit(request)
                    self.assertIn(parts.scheme, ("http", "about"), request)
                    if parts.scheme == "http":
                        self.assertEqual(parts.netloc, f"{HOST}:{self.web_port}", request)
        finally:
            super().tearDown()

    def shown(self, *arguments: str, port: int | None = None) -> tuple[Command, int, Path]:
        """Start the node with the page."""
        started = self.talking("shown.sock", f"--web={self.web_port}", *arguments, port=port)
        self.await_text(lambda: started[0].err, "status page http://")
        found = re.search(r"status page (http://\S+) \(token in (\S+)\)", started[0].err)
        assert found, started[0].err
        self.url, self.token = found[1], Path(found[2]).read_text().strip()
        return started

    def mesh(self, count: int) -> list[tuple[Command, int, Path]]:
        """So many nodes, the first with the page; all have joined."""
        first = self.shown()
        self.others = [
            self.talking(f"{number}.sock", f"--join={HOST}:{first[1]}")
            for number in range(2, count + 1)
        ]
        for _, _, path in (first, *self.others):
            self.await_joined(path)
        return [first, *self.others]

    def open(self, *, token: bool = False, **how: Any) -> Page:
        """Open the page."""
        page = self.browser.open(self.url + (f"#token={self.token}" if token else ""), **how)
        self.pages.append(page)
        page.wait("py2p.state.connection === 'connected'")
        return page

    def await_nodes(self, page: Page, ports: list[int], timeout: float = FOLLOWS) -> None:
        """Wait until these nodes are shown, and no others."""
        wanted = json.dumps(sorted(f"{HOST}:{port}" for port in ports))
        addresses = f"JSON.stringify({_ALIVE}.map((node) => node.address).sort())"
        try:
            page.wait(f"py2p.nodes.length === {len(ports)} && {addresses} === '{_tight(wanted)}'")
        except Exception as error:
            raise AssertionError(f"{error}: {page.run('JSON.stringify(py2p.nodes)')}") from None

    def links(self, *paths: Path) -> set[frozenset[str]]:
        """The links between neighbours, as the nodes themselves tell."""
        found = set()
        for path in paths:
            own = self.ask(path, "status")["status"]["id"]
            for row in self.ask(path, "peers")["peers"]:
                if row["kind"] in ("neighbour", "plain"):
                    found.add(frozenset((own, row["id"])))
        return found


def _tight(text: str) -> str:
    """JSON as a browser writes it."""
    return text.replace(", ", ",")


class PictureTests(PageTestCase):
    def test_all_nodes_and_links(self) -> None:
        """Six nodes: all of them, and every link between them, in the picture and in the lists."""
        nodes = self.mesh(6)
        page = self.open()
        self.await_nodes(page, [port for _, port, _ in nodes])
        paths = [path for _, _, path in nodes]

        def drawn() -> set[frozenset[str]]:
            return {frozenset((one["a"], one["b"])) for one in page.run("py2p.links")}

        self.wait_for(lambda: drawn() == self.links(*paths), "all links", FOLLOWS)
        own = self.ask(paths[0], "status")["status"]["id"]
        for link in page.run("py2p.links"):
            self.assertIs(link["own"], own in (link["a"], link["b"]))

        self.assertEqual(page.text("[data-testid=joined]"), "joined")
        self.assertEqual(page.text("[data-testid=network]"), "mesh")
        page.wait("document.querySelectorAll('#nodes tr').length === 6")
        rows = page.text("[data-testid=nodes] tbody")
        for _, port, _ in nodes:
            self.assertIn(f"{HOST}:{port}", rows)
        self.assertEqual(len(re.findall("this node", rows)), 1)
        page.wait("document.querySelector('#caption').innerText.startsWith('6 nodes, ')")
        page.click("[data-testid=tab-peers]")
        page.wait(f"document.querySelectorAll('#peers tr').length === {len(nodes) - 1}")
        # They are inside the picture, apart from each other.
        page.wait("py2p.state.settled")
        places = [(node["x"], node["y"]) for node in page.run("py2p.nodes")]
        for number, (x, y) in enumerate(places):
            self.assertTrue(0 < x < 1280 and 0 < y < 800, places)
            for u, v in places[:number]:
                self.assertGreater(abs(x - u) + abs(y - v), 20, places)

    def test_a_plain_node(self) -> None:
        """A neighbour that speaks 0.6 alone is another kind of node."""
        _, port, _ = self.shown()
        plain = self.node(extensions=False)
        plain.ask("connect", port=port)
        page = self.open()
        page.wait(f"{_ALIVE}.some((node) => node.kind === 'plain')")
        page.wait("document.querySelector('#nodes').innerText.includes('plain, py2p 0.6')")

    def test_alone(self) -> None:
        """Then the page says how that can be changed, and notices when it is."""
        _, port, path = self.shown()
        page = self.open()
        page.wait("py2p.state.joined === false")
        self.assertEqual(page.text("[data-testid=joined]"), "alone")
        self.assertIn(f"py2p node --join={HOST}:{port}", page.text("[data-testid=alone]"))
        other = self.talking("other.sock", f"--join={HOST}:{port}")
        self.await_joined(path)
        page.wait("document.querySelector('#joined').innerText === 'joined'")
        self.assertTrue(page.run("document.querySelector('#alone').hidden"))
        self.await_nodes(page, [port, other[1]])

    def test_a_node_is_killed_and_comes_back(self) -> None:
        """It is marked, then it is gone; the others make new links; it comes back."""
        nodes = self.mesh(6)
        page = self.open()
        ports = [port for _, port, _ in nodes]
        self.await_nodes(page, ports)
        victim, port, _ = nodes[3]
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        one = f"py2p.nodes.find((node) => node.address === '{HOST}:{port}')"
        page.wait(f"!{one} || {one}.state !== 'alive'", "the dead to be marked", FOLLOWS)
        page.wait(f"{one}.state === 'gone'", "the dead to be red", FOLLOWS)
        row = f"[...document.querySelectorAll('#nodes tr')].find((row) => row.innerText.includes(':{port}'))"
        page.wait(f"{row}?.dataset.state === 'gone'", "the list to say so", FOLLOWS)
        self.await_nodes(page, [other for other in ports if other != port])
        self.talking("again.sock", f"--join={HOST}:{ports[0]}", port=port)
        self.await_nodes(page, ports)
        # What is made while somebody watches glows.
        page.wait(f"py2p.links.length >= {len(ports)}")

    def test_the_node_of_the_page_is_killed(self) -> None:
        """The page says so, tries again by itself, and goes on where it was."""
        self.expected_error = _REFUSED
        nodes = self.mesh(3)
        page = self.open(token=True)
        ports = [port for _, port, _ in nodes]
        self.await_nodes(page, ports)
        self.assertTrue(page.run("document.querySelector('#lost').hidden"))
        nodes[0][0].send_signal(signal.SIGKILL)
        nodes[0][0].wait()
        page.wait("py2p.state.connection === 'lost'", "the loss to be seen", FOLLOWS)
        page.wait("document.querySelector('#joined').innerText === 'connection lost'")
        self.assertIn("connection to the node is lost", page.text("[data-testid=lost]"))
        self.assertTrue(page.run("document.querySelector('#send-text').disabled"))
        self.shown(f"--join={HOST}:{ports[1]}", port=ports[0])
        page.wait("py2p.state.connection === 'connected'", "the page to be back")
        page.wait("py2p.state.joined && py2p.state.reconnects === 1")
        self.assertTrue(page.run("document.querySelector('#lost').hidden"))
        self.await_nodes(page, ports)


class MessageTests(PageTestCase):
    def test_messages_of_others(self) -> None:
        """They appear, the newest first, as nothing but text, and as a wave."""
        nodes = self.mesh(3)
        page = self.open()
        self.await_nodes(page, [port for _, port, _ in nodes])
        hostile = "<img src=x onerror=\"document.title='caught'\"><script>x</script>"
        for packets in (["storm", "north"], [hostile]):
            ended = self.py2p("send", f"--control={nodes[2][2]}", *packets)
            self.assertEqual((ended.code, ended.err), (0, ""))
        page.wait("document.querySelectorAll('[data-testid=message]').length === 2")
        first, second = page.run(
            "[...document.querySelectorAll('[data-testid=message] .text')].map((one) => one.innerText)"
        )
        self.assertEqual(first, hostile)
        self.assertEqual(second.split(), ["storm", "north"])
        self.assertEqual(
            page.run("document.querySelectorAll('#messages :is(img, script)').length"), 0
        )
        self.assertNotEqual(page.run("document.title"), "caught")
        sender = page.text("[data-testid=message] .from")
        self.assertIn(f"{HOST}:{nodes[2][1]}", sender)
        self.assertEqual(page.run("py2p.state.waves"), 2)

    def test_two_hundred_are_shown(self) -> None:
        """No more; and while the list is held, none."""
        nodes = self.mesh(2)
        page = self.open()
        lines = "".join(f"number {number}\n" for number in range(1, 121))
        sent = 0
        for _ in range(2):
            # Slower than what is shown of one moment.
            for start in range(0, 120, 40):
                data = "".join(lines.splitlines(keepends=True)[start : start + 40])
                ended = self.py2p("send", "--lines", f"--control={nodes[1][2]}", data=data)
                self.assertEqual(ended.code, 0)
                sent += 40
                page.wait(f"py2p.state.messages >= {sent}", f"{sent} messages")
                page.run("new Promise((done) => setTimeout(done, 600))")
        page.wait("py2p.state.messages >= 240 && document.querySelector('#messages').innerText")
        self.assertEqual(page.run("document.querySelector('#messages').childElementCount"), 200)
        self.assertIn("number 120", page.text("#messages li"))
        page.click("[data-testid=pause]")
        self.py2p("send", f"--control={nodes[1][2]}", "late")
        page.wait("document.querySelector('#pause').innerText.startsWith('go on (1')")
        self.assertNotIn("late", page.text("#messages li"))
        page.click("[data-testid=pause]")
        page.wait("document.querySelector('#messages li').innerText.includes('late')")

    def test_sending(self) -> None:
        """With the token one types and clicks; everybody gets it, and receipts say so."""
        nodes = self.mesh(6)
        page = self.open(token=True)
        self.await_nodes(page, [port for _, port, _ in nodes])
        # The token is not left where others see it.
        self.assertEqual(page.run("location.hash"), "")
        listeners = [
            self.start("listen", f"--control={path}", "--count=2", "--json")
            for _, _, path in nodes[1:]
        ]
        for listener in listeners:
            self.await_text(lambda listener=listener: listener.err, "through the node at")
        page.click("[data-testid=send-text]")
        page.type("storm north")
        page.press("Enter", "\r")
        page.wait("document.querySelector('#outcome').innerText.startsWith('Sent to 5 peers')")
        page.click("[data-testid=send-confirm]")
        page.click("[data-testid=send-text]")
        page.type("all clear")
        page.click("[data-testid=send-button]")
        page.wait("document.querySelector('#outcome').dataset.delivered === '5'")
        self.assertIn("5 delivered, 0 missing, 0 unknown", page.text("[data-testid=outcome]"))
        self.assertEqual(page.run("document.querySelectorAll('#outcome li').length"), 5)
        for listener in listeners:
            ended = listener.end()
            said = [json.loads(line)["packets"] for line in ended.out.splitlines()]
            self.assertEqual(said, [["storm north"], ["all clear"]])
        page.wait("document.querySelectorAll('#messages .own').length === 2")

    def test_the_token(self) -> None:
        """Without it nobody can type; a wrong one is refused; the right one is kept in the tab."""
        self.expected_error = "401"
        self.mesh(2)
        page = self.open()
        for name in ("send-text", "send-button"):
            self.assertTrue(page.run(f"document.getElementById('{name}').disabled"))
        page.click("[data-testid=token]")
        page.type("wrong")
        page.press("Enter", "\r")
        self.assertTrue(page.run("py2p.state.unlocked"))
        page.type("x")
        page.click("[data-testid=send-button]")
        page.wait("document.querySelector('#outcome').innerText.includes('refused the token')")
        self.assertFalse(page.run("py2p.state.unlocked"))
        page.click("[data-testid=token]")
        page.type(self.token)
        page.click("[data-testid=unlock]")
        page.goto(self.url)
        page.wait("py2p.state.unlocked && py2p.state.connection === 'connected'")
        page.wait("!document.querySelector('#send-text').disabled")
        page.click("[data-testid=lock]")
        self.assertTrue(page.run("document.querySelector('#send-text').disabled"))
        self.assertIsNone(page.run("sessionStorage.getItem('py2p-token')"))


class HandsTests(PageTestCase):
    """Mouse, keyboard, telephone."""

    def test_details(self) -> None:
        """Whoever points at a node is told about it; a click keeps that, Escape ends it."""
        nodes = self.mesh(3)
        page = self.open()
        self.await_nodes(page, [port for _, port, _ in nodes])
        page.wait("py2p.state.settled")
        port = nodes[1][1]
        where = f"py2p.nodes.find((node) => node.address === '{HOST}:{port}')"
        # The view comes to rest after the nodes do.
        page.wait(
            f"(async () => {{ const at = () => {{ const one = {where};"
            "return `${Math.round(one.x)} ${Math.round(one.y)}`; }; const before = at();"
            "await new Promise((done) => setTimeout(done, 500)); return at() === before; })()",
            "the picture to rest",
        )
        node = page.run(where)
        page.move_to(node["x"], node["y"])
        page.wait(f"document.querySelector('#details').innerText.includes('{HOST}:{port}')")
        page.click_at(node["x"], node["y"])
        page.move_to(5, 5)
        self.assertFalse(page.run("document.querySelector('#details').hidden"))
        self.assertIn(node["id"], page.text("#details"))
        page.press("Escape")
        page.wait("document.querySelector('#details').hidden")
        # Without a mouse: the list does the same.
        page.run(f"document.querySelector('tr[data-node=\"{node['id']}\"] button').focus()")
        page.press("Enter", "\r")
        page.wait("!document.querySelector('#details').hidden")
        page.run("document.querySelector('#tab-nodes').focus()")
        page.press("ArrowRight")
        page.wait("!document.querySelector('#pane-peers').hidden")

        page.click("#zoom-in")
        page.wait(f"Math.abs({where}.x - {node['x']}) + Math.abs({where}.y - {node['y']}) > 3")
        page.click("[data-testid=fit]")
        page.wait(f"Math.abs({where}.x - {node['x']}) + Math.abs({where}.y - {node['y']}) < 3")

    def test_what_it_is_seen_on(self) -> None:
        """Light, dark, a telephone, someone who wants nothing to move."""
        nodes = self.mesh(2)
        page = self.open()
        ground = "getComputedStyle(document.body).backgroundColor"
        light = page.run(ground)
        page.media(dark=True)
        dark = page.run(ground)
        self.assertNotEqual(light, dark)
        for expected in (light, dark, dark):  # light, dark, as the system has it
            page.click("[data-testid=theme]")
            self.assertEqual(page.run(ground), expected)

        phone = self.open(width=360, height=740, phone=True)
        self.await_nodes(phone, [port for _, port, _ in nodes])
        self.py2p("send", f"--control={nodes[1][2]}", "x" * 500, "y " * 200)
        phone.wait("document.querySelectorAll('[data-testid=message]').length === 1")
        phone.click("[data-testid=tab-peers]")
        self.assertEqual(phone.run("document.documentElement.scrollWidth"), 360)
        wide = phone.run(
            "[...document.querySelectorAll('button, input, canvas, .card, #messages li')]"
            ".filter((one) => one.offsetParent && !one.closest('.pane'))"
            ".filter((one) => one.getBoundingClientRect().right > 360).map((one) => one.id)"
        )
        self.assertEqual(wide, [])

        calm = self.open(calm=True)
        self.await_nodes(calm, [port for _, port, _ in nodes])
        self.py2p("send", f"--control={nodes[1][2]}", "storm")
        calm.wait("py2p.state.waves === 1")
        self.assertEqual(calm.run("py2p.state.dots"), 0)
        page.wait("py2p.state.dots > 0", "traffic to be seen elsewhere")
        self.assertEqual(calm.run("py2p.state.dots"), 0)

    def test_nothing_can_be_changed_from_outside(self) -> None:
        """What tests look at is a view."""
        self.shown()
        page = self.open()
        self.assertFalse(page.run("Reflect.set(window, 'py2p', 1)"))
        self.assertFalse(page.run("Reflect.set(window.py2p, 'nodes', [])"))
        self.assertFalse(page.run("Reflect.set(py2p.nodes[0], 'kind', 'x')"))


class DemoPageTests(PageTestCase):
    """``py2p demo --web``."""

    def demo(self, *options: str) -> tuple[Command, str]:
        """Start one; it, and where its page is."""
        variables = {"XDG_RUNTIME_DIR": str(self.folder)}
        demo = self.start("demo", f"--web={self.web_port}", *options, variables=variables)
        self.await_text(lambda: demo.out, "status page of ")
        found = re.search(r"status page of n\d+: (\S+)", demo.out)
        assert found, demo.out
        return demo, found[1]

    def test_watched(self) -> None:
        """Two die before one's eyes, the mesh heals, broadcasts go on until Ctrl-C."""
        demo, self.url = self.demo("--nodes=6", "--seed=3")
        page = self.open()
        page.wait(f"{_ALIVE}.length === 6")
        self.assertFalse(page.run("document.querySelector('#demo').hidden"))
        self.assertTrue(page.run("py2p.state.unlocked"))
        page.wait("py2p.nodes.filter((node) => node.state === 'gone').length === 2")
        page.wait(f"py2p.nodes.length === 4 && {_ALIVE}.length === 4")
        page.wait("py2p.state.messages >= 4")
        self.await_text(lambda: demo.out, "came to 3 of 3 nodes")
        page.click("[data-testid=send-text]")
        page.type("from the page")
        page.click("[data-testid=send-button]")
        page.wait("document.querySelector('#outcome').innerText.startsWith('Sent to 3 peers')")
        demo.send_signal(signal.SIGINT)
        ended = demo.end()
        self.expected_error = _REFUSED
        self.assertEqual((ended.code, ended.err), (0, ""))
        self.assertRegex(ended.out.splitlines()[-1], "verdict: PASS, 8 of 8 deliveries")

    def test_processes(self) -> None:
        """The same with processes, one of which has the page; it may be opened at once."""
        opened = self.folder / "opened"
        script = self.folder / "browser.sh"
        script.write_text(f'#!/bin/sh\necho "$1" > {opened}.part; mv {opened}.part {opened}\n')
        script.chmod(0o700)
        variables = {"XDG_RUNTIME_DIR": str(self.folder), "BROWSER": f"{script} %s"}
        demo = self.start(
            *("demo", "--processes", "--nodes=4", f"--web={self.web_port}", "--open"),
            variables=variables,
        )
        self.await_text(lambda: demo.out, "status page of n04: ")
        self.wait_for(opened.exists, "it to be opened", 20)
        link = opened.read_text().strip()
        self.assertIn(f": {link}\n", demo.out)
        self.assertRegex(link, r"/#token=\w{20,}$")
        with contextlib.closing(urllib.request.urlopen(link.partition("#")[0], timeout=20)) as page:
            self.assertIn(b"<canvas", page.read())
        self.await_text(lambda: demo.out, "came to 1 of 1 node")
        demo.send_signal(signal.SIGTERM)
        ended = demo.end()
        self.assertEqual((ended.code, ended.err), (0, ""))
