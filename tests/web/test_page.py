"""
The page's own program, by itself: what it makes of what a node tells, however much that is. And
how it is opened.

It runs in Node.js, where there is no page: whatever it asks of one is nothing. (That it works in a
browser is looked at in tests/integration/page_check.py.)
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from py2p_twisted.cli import demo

#: Older ones do not know all of the language.
OLDEST = 16

#: Stands for a browser: each property, call and object is nothing again. Events are read from
#: standard input, a list of names and fields; printed is what the page's own view tells then.
BROWSER = """
const nothing = () => new Proxy(function () {}, {
  get(target, key) {
    if (key === Symbol.toPrimitive) return () => 0;
    if (key === Symbol.iterator) return function* () {};
    return key in target ? target[key] : (target[key] = nothing());
  },
  set(target, key, value) { target[key] = value; return true; },
  apply: () => nothing(),
  construct: () => nothing(),
});
const elements = {}, on = {}, frames = [], timers = [];
const page = {
  document: nothing(), history: nothing(), getComputedStyle: nothing(), ResizeObserver: nothing(),
  location: { hash: "", pathname: "/", search: "" }, performance, console,
  requestAnimationFrame: (call) => frames.push(call),
  setTimeout: (call) => timers.push(call), clearTimeout() {}, setInterval() {}, addEventListener() {},
  matchMedia: () => ({ matches: false, addEventListener() {} }),
  localStorage: { getItem: () => null, setItem() {}, removeItem() {} },
  EventSource: class { addEventListener(name, call) { on[name] = call; } close() {} },
};
page.document.getElementById = (id) => elements[id] ||= nothing();
page.sessionStorage = page.localStorage;
page.window = page;
require("vm").runInNewContext(require("fs").readFileSync(process.argv[1], "utf8"), page);
for (const [name, fields] of JSON.parse(require("fs").readFileSync(0, "utf8"))) {
  on[name]({ data: JSON.stringify(fields) });
  for (const call of [...timers.splice(0), ...frames.splice(0)]) call(performance.now());
}
const { nodes, links, state } = page.py2p;
const text = (id) => String(elements[id].textContent);
console.log(JSON.stringify({ nodes, links, state, caption: text("caption"), count: text("count-nodes") }));
"""

HELLO = {
    "id": "ada", "network": "mesh", "encryption": "Plaintext", "address": "127.0.0.1:1",
    "version": "1", "started": 1.0, "demo": False,
}  # fmt: skip


def member(ident: str, *neighbours: str, hops: int = 1) -> dict[str, Any]:
    """A row of a survey."""
    return {
        "id": ident, "address": f"192.0.2.7:{hops}", "hops": hops, "rtt": 0.1, "version": "1",
        "neighbours": list(neighbours), "plain": [],
    }  # fmt: skip


def survey(*members: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The event with what a survey has found."""
    return "mesh", {"members": list(members), "plain": [], "seconds": 1.0, "complete": True}


class PageTests(SynchronousTestCase):
    def shown(self, *events: tuple[str, Any]) -> dict[str, Any]:
        """What there is in the picture after some events."""
        node = shutil.which("node")
        if node is None:
            raise SkipTest("no Node.js here")
        told = subprocess.run([node, "--version"], capture_output=True, timeout=60, check=True)
        if int(told.stdout.strip().lstrip(b"v").split(b".")[0]) < OLDEST:
            raise SkipTest(f"Node.js {OLDEST} or later is needed here")
        with resources.as_file(resources.files("py2p_twisted.web") / "assets/app.js") as path:
            ended = subprocess.run(
                [node, "-e", BROWSER, "--", str(path)],
                input=json.dumps([("hello", HELLO), *events]).encode(),
                capture_output=True,
                timeout=120,
                check=False,
            )
        self.assertEqual((ended.returncode, ended.stderr), (0, b""))
        shown: dict[str, Any] = json.loads(ended.stdout)
        return shown

    def test_a_survey(self) -> None:
        """Who has answered, who was named, and their links."""
        shown = self.shown(survey(member("ada", "ben", hops=0), member("ben", "ada", "cid")))
        states = {node["id"]: node["state"] for node in shown["nodes"]}
        self.assertEqual(states, {"ada": "alive", "ben": "alive", "cid": "silent"})
        self.assertEqual([{link["a"], link["b"]} for link in shown["links"]], [{"ben", "cid"}])
        self.assertEqual(shown["caption"], "3 nodes, 1 link")

    def test_who_goes(self) -> None:
        """Who was there and is not is gone; who was merely named was never there."""
        ada, ben = member("ada", hops=0), member("ben", "cid", "dan")
        shown = self.shown(survey(ada, ben, member("dan")), survey(ada, member("ben")))
        states = {node["id"]: node["state"] for node in shown["nodes"]}
        self.assertEqual(states, {"ada": "alive", "ben": "alive", "dan": "gone"})

    def test_hostile_names(self) -> None:
        """An id may be anything."""
        names = ["__proto__", "constructor", "", " ", "a b", "<img src=x>", "\u202e", "x" * 10_000]
        shown = self.shown(
            survey(member("ada", hops=0), *(member(name, *names) for name in names)),
            ("peers", {"peers": [{"id": name, "kind": "neighbour"} for name in names]}),
            ("traffic", {"links": {name: [1000, 1000, 1] for name in names}}),
            *(("message", {"sender": name, "via": name, "packets": [name]}) for name in names),
            *(("down", {"peer": name, "reason": name}) for name in names),
        )
        self.assertEqual({node["id"] for node in shown["nodes"]}, {"ada", *names})

    def test_more_than_can_be_drawn(self) -> None:
        """Members, or those whom one of them has named: the page says how many it does not draw."""
        crowd = [member(f"id {number}") for number in range(3000)]
        peers = {"peers": [{"id": "id 2999", "kind": "neighbour"}]}
        shown = self.shown(survey(*crowd), ("peers", peers), survey(*reversed(crowd)))
        self.assertEqual(len(shown["nodes"]), 2001)
        self.assertEqual({node["state"] for node in shown["nodes"]}, {"alive"})
        self.assertIn("id 2999", [node["id"] for node in shown["nodes"]])
        self.assertEqual(shown["caption"], "2001 nodes, 1 link; 1000 more are not drawn")
        self.assertEqual(shown["count"], "3001")
        liar = member("ben", *(f"silent {number}" for number in range(100_000)))
        shown = self.shown(survey(member("ada", hops=0), liar))
        self.assertEqual(len(shown["nodes"]), 2000)
        self.assertIn("; 98002 more are not drawn", shown["caption"])


class OpenTests(SynchronousTestCase):
    def test_files_beside_us(self) -> None:
        """``py2p demo --web --open`` runs nothing that lies in the folder one happens to be in."""
        asked: list[list[str]] = []
        opening = self.patch(demo.subprocess, "Popen", lambda command, **how: asked.append(command))
        demo._open("http://127.0.0.1:1/")
        (command,) = asked
        opening.restore()
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "webbrowser.py").write_text("open('caught', 'w')\n")
            script = folder / "browser.sh"
            script.write_text('#!/bin/sh\necho "$1" > opened\n')
            script.chmod(0o700)
            variables = {**os.environ, "BROWSER": f"{script} %s"}
            subprocess.run(command, cwd=folder, env=variables, timeout=60, check=True)
            self.assertFalse((folder / "caught").exists())
            self.assertEqual((folder / "opened").read_text(), "http://127.0.0.1:1/\n")
