"""
Make the README's picture of the status page: docs/_static/status-page.png.

It is a photograph, not a drawing: a real demo mesh of two dozen nodes, its page in Chromium, in the
middle of a broadcast. Takes most of a minute; from the project's folder::

    python tools/screenshot.py [--light] [--size 1200x760] [--nodes 26] [OUT]

Exit code 0 only if there is a picture of less than 300 kB, and the page had nothing to complain of.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.integration.browser import Browser  # noqa: E402 - only now it is found

OUT = ROOT / "docs/_static/status-page.png"
MOST_BYTES = 300_000

#: What is to be seen: the two have gone, and there has been something to hear.
_MESSAGES = 12
#: Seconds that it may take until then.
_PATIENCE = 120.0
#: Milliseconds after which a broadcast is half way.
_HALF_WAY = 400
#: What flows on the links is told four times a second.
_TRAFFIC = "py2p.state.dots > 4"


def main() -> int:
    """Make it; the exit code."""
    parser = argparse.ArgumentParser(description="Make the picture of the status page.")
    parser.add_argument("out", nargs="?", type=Path, default=OUT, metavar="OUT")
    parser.add_argument("--light", action="store_true", help="as it is by day")
    parser.add_argument("--size", default="1200x760", metavar="WIDTHxHEIGHT")
    parser.add_argument("--nodes", default="26", metavar="N", help="two of them are going to die")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    command = [sys.executable, "-m", "py2p_twisted", "demo", "--web", "--seed=7"]
    demo = subprocess.Popen(  # noqa: S603 - it is ours
        [*command, f"--nodes={options.nodes}"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    browser = None
    try:
        assert demo.stdout is not None  # noqa: S101
        page = next(filter(None, (re.search(r"http://\S+", line) for line in demo.stdout)))[0]
        browser = Browser(width, height)
        tab = browser.open(page, width=width, height=height, dark=not options.light)
        tab.wait(f"py2p.state.messages >= {_MESSAGES}", "messages", _PATIENCE)
        before = tab.run("py2p.state.waves")
        tab.wait(f"py2p.state.waves > {before} && py2p.state.settled", "a broadcast", _PATIENCE)
        tab.wait(_TRAFFIC, "traffic", _PATIENCE)
        tab.run(f"new Promise((done) => setTimeout(done, {_HALF_WAY}))")
        tab.screenshot(options.out)
        size = options.out.stat().st_size
        print(f"{options.out}: {size} bytes, {len(tab.run('py2p.nodes'))} nodes")
        for error in tab.errors:
            print(f"the page says: {error}", file=sys.stderr)
        return 0 if size < MOST_BYTES and not tab.errors else 1
    finally:
        if browser is not None:
            browser.close()
        demo.send_signal(signal.SIGINT)
        demo.communicate()


if __name__ == "__main__":
    sys.exit(main())
