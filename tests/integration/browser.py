"""
Chromium, driven over a pipe: for tests of the status page, and for its picture.

::

    this process                            chromium --headless --remote-debugging-pipe
      Page.click("#send")  --descriptor 3-->  {"id": 7, "method": "Input...", ...}\\0
                           <--descriptor 4--  {"id": 7, "result": ...}\\0   and events

The protocol is Chrome's own (https://chromedevtools.github.io/devtools-protocol/), JSON objects
that end with a zero byte. There are no threads: what the browser tells is read while something is
waited for. Every wait has an end; times are in seconds.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

#: Seconds that anything may take. A browser's start takes one, on a busy machine five.
PATIENCE = 30.0

#: What the browser is called, from place to place.
NAMES = ("chromium", "chromium-browser", "google-chrome")

#: Puts the two ends of the pipe where the browser looks for them, and becomes it. What stands
#: there is moved up first.
_BECOME = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
os.dup2(ends[0], 3)
os.dup2(ends[1], 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""

#: The page stands still for nobody, and asks nobody but the node.
_OPTIONS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-renderer-backgrounding",
    "--disable-background-timer-throttling",
    "--disable-sync",
    "--no-default-browser-check",
    "--no-first-run",
    "--no-proxy-server",
    "--hide-scrollbars",
    "--mute-audio",
    "--lang=en-US",
)


class ChromiumMissing(Exception):
    """There is no Chromium here."""


class BrowserError(Exception):
    """The browser has not done what it was told, or has ended."""


def find_chromium() -> str:
    """
    Where Chromium is.

    :raises ChromiumMissing: nowhere.
    """
    for name in NAMES:
        if found := shutil.which(name):
            return found
    raise ChromiumMissing("no chromium here: apt-get install chromium")


class Browser:
    """
    One browser, with a folder of its own. ``close`` must be called in any case.
    """

    def __init__(self, width: int = 1280, height: int = 800) -> None:
        program = find_chromium()
        self._folder = tempfile.TemporaryDirectory(
            prefix="py2p-browser-", ignore_cleanup_errors=True
        )
        to_read, self._to_browser = os.pipe()
        self._from_browser, to_write = os.pipe()
        root = ["--no-sandbox"] if os.geteuid() == 0 else []
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-S", "-E", "-c", _BECOME, str(to_read), str(to_write)),
                *(program, *_OPTIONS, *root, f"--window-size={width},{height}"),
                *(f"--user-data-dir={self._folder.name}", "about:blank"),
            ],
            pass_fds=(to_read, to_write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # What it starts ends with it.
            start_new_session=True,
        )
        os.close(to_read)
        os.close(to_write)
        self._number = 0
        self._data = b""
        self._answers: dict[int, dict[str, Any]] = {}
        self._pages: dict[str, Page] = {}
        try:
            self.version = str(self.call("Browser.getVersion")["product"])
        except BaseException:
            self.close()
            raise

    def open(self, url: str = "about:blank", **how: Any) -> Page:
        """A page in a context of its own: it shares no storage with the others."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page = Page(self, attached["sessionId"], target["targetId"])
        self._pages[attached["sessionId"]] = page
        page.prepare(**how)
        if url != "about:blank":
            page.goto(url)
        return page

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """
        Have the browser do something.

        :raises BrowserError: it does not.
        """
        self._number += 1
        number = self._number
        request: dict[str, Any] = {"id": number, "method": method, "params": params}
        if session is not None:
            request["sessionId"] = session
        data = json.dumps(request).encode() + b"\0"
        try:
            while data:
                data = data[os.write(self._to_browser, data) :]
        except OSError as error:
            raise BrowserError(f"the browser has gone: {error}") from None
        until = time.monotonic() + PATIENCE
        while number not in self._answers:
            self.listen(until - time.monotonic(), f"an answer to {method}")
        answer = self._answers.pop(number)
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error'].get('message')}")
        result: dict[str, Any] = answer["result"]
        return result

    def listen(self, seconds: float, what: str = "") -> None:
        """
        Read what the browser tells, once.

        :param what: what it must be; without it nothing need come.
        """
        ready, _, _ = select.select([self._from_browser], [], [], max(0.0, seconds))
        if not ready:
            if what:
                raise BrowserError(f"waited in vain for {what}")
            return
        data = os.read(self._from_browser, 2**20)
        if not data:
            raise BrowserError("the browser has ended")
        *said, self._data = (self._data + data).split(b"\0")
        for one in said:
            message = json.loads(one)
            if "id" in message:
                self._answers[message["id"]] = message
            elif (page := self._pages.get(message.get("sessionId", ""))) is not None:
                page.heard(message["method"], message["params"])

    def close(self) -> None:
        """End it, at once."""
        for end in (self._to_browser, self._from_browser):
            with contextlib.suppress(OSError):
                os.close(end)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, 9)
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()


class Page:
    """
    One page.

    :ivar errors: what has gone wrong in it: exceptions, and what stands in its console in red.
    :ivar requests: whatever it has asked for, as addresses.
    """

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self.browser = browser
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._session = session
        self._target = target
        self._loaded = False

    def prepare(
        self, *, width: int = 1280, height: int = 800, dark: bool = False, calm: bool = False,
        phone: bool = False, scale: float = 1.0,
    ) -> None:  # fmt: skip
        """
        Say what the page is seen on.

        :param calm: whether its user wants nothing to move.
        :param scale: how many dots of the screen a unit of width is.
        """
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Network.setCacheDisabled", cacheDisabled=True)
        self.resize(width, height, phone=phone, scale=scale)
        self.media(dark=dark, calm=calm)

    def resize(self, width: int, height: int, *, phone: bool = False, scale: float = 1.0) -> None:
        """Give the page another size, and fingers instead of a mouse."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": phone}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)

    def media(self, *, dark: bool = False, calm: bool = False) -> None:
        """What the user's system asks of pages."""
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if calm else "no-preference"},
        ]
        self.call("Emulation.setEmulatedMedia", features=features)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """See `Browser.call`."""
        return self.browser.call(method, self._session, **params)

    def heard(self, method: str, params: dict[str, Any]) -> None:
        """The browser tells something of this page."""
        match method:
            case "Page.loadEventFired":
                self._loaded = True
            case "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                thrown = details.get("exception", {}).get("description")
                self.errors.append(str(thrown or details["text"]))
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "assert", "warning"):
                said = [str(one.get("value", one.get("description"))) for one in params["args"]]
                self.errors.append(" ".join(said))
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                entry = params["entry"]
                self.errors.append(f"{entry['text']} ({entry.get('url', '')})")
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])

    def goto(self, url: str) -> None:
        """Open an address, and wait until it is loaded."""
        self._loaded = False
        answer = self.call("Page.navigate", url=url)
        if error := answer.get("errorText"):
            raise BrowserError(f"{url}: {error}")
        until = time.monotonic() + PATIENCE
        while not self._loaded:
            self.browser.listen(until - time.monotonic(), f"{url} to load")

    def run(self, script: str) -> Any:
        """
        The value of an expression in the page.

        :raises BrowserError: it throws.
        """
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise BrowserError(details.get("exception", {}).get("description") or details["text"])
        return answer["result"].get("value")

    def wait(self, script: str, what: str = "", timeout: float = PATIENCE) -> Any:
        """Look until an expression is true, and give its value."""
        until = time.monotonic() + timeout
        while not (value := self.run(script)):
            if time.monotonic() > until:
                raise BrowserError(f"waited {timeout:g} s in vain for {what or script}")
            self.browser.listen(0.05)
        return value

    def text(self, selector: str) -> str:
        """What is read there, as it is shown."""
        return str(self.run(f"document.querySelector({json.dumps(selector)}).innerText"))

    def click(self, selector: str) -> None:
        """Click in the middle of something, with the mouse."""
        x, y = self.run(
            f"(() => {{ const one = document.querySelector({json.dumps(selector)});"
            "one.scrollIntoView({block: 'nearest'}); const box = one.getBoundingClientRect();"
            "return [box.left + box.width / 2, box.top + box.height / 2]; })()"
        )
        self.click_at(x, y)

    def click_at(self, x: float, y: float) -> None:
        """Click somewhere."""
        where = {"x": x, "y": y, "button": "left", "clickCount": 1}
        self.move_to(x, y)
        self.call("Input.dispatchMouseEvent", type="mousePressed", **where)
        self.call("Input.dispatchMouseEvent", type="mouseReleased", **where)

    def move_to(self, x: float, y: float) -> None:
        """Move the mouse."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def type(self, text: str) -> None:
        """Type where the focus is."""
        self.call("Input.insertText", text=text)

    def press(self, key: str, text: str = "") -> None:
        """Press a key, such as ``Tab``; ``text`` is what it writes, such as ``\\r``."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39}
        code = {"key": key, "code": key, "windowsVirtualKeyCode": codes.get(key, 0)}
        down = {**code, "text": text} if text else code
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **down)
        self.call("Input.dispatchKeyEvent", type="keyUp", **code)

    def screenshot(self, path: Path | str) -> None:
        """A PNG of what is seen."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        Path(path).write_bytes(base64.b64decode(data))

    def close(self) -> None:
        """Close it."""
        self.browser.call("Target.closeTarget", targetId=self._target)
