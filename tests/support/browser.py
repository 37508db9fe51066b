"""A headless Chromium, driven over the DevTools protocol through two pipes: no port, no driver, no library.

The browser ends when its pipes close, so it never outlives the test, however that one ends. Every call is synchronous;
what the page reported meanwhile (console, exceptions, requests) is kept and asked for afterwards.

https://chromedevtools.github.io/devtools-protocol/ describes the methods and events named here.
"""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from hitcounter_devstack.browser import require_browser

_SWITCHES = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",  # it sees our own page only, and root may not have one
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",  # /dev/shm is small in containers
    "--disable-gpu",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
)
_START = """\
import os, sys
commands, answers = (os.dup(int(number)) for number in sys.argv[1:3])
os.dup2(commands, 3)
os.dup2(answers, 4)
for number in (3, 4):
    os.set_inheritable(number, True)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Puts the pipes where Chromium looks for them: it reads file 3 and writes file 4."""


@dataclass(frozen=True)
class Screen:
    """What the page is shown on."""

    width: int = 1280
    height: int = 900
    scale: float = 1.0
    is_dark: bool = False
    is_phone: bool = False


class Browser:
    """A running Chromium with a profile of its own in the folder."""

    def __init__(self, folder: Path) -> None:
        command_end, self._commands = os.pipe()
        self._answers, answer_end = os.pipe()
        program = str(require_browser())
        start = [sys.executable, "-c", _START, str(command_end), str(answer_end), program]
        self._log = (folder / "chromium.log").open("wb")
        self._process = subprocess.Popen(
            [*start, *_SWITCHES, f"--user-data-dir={folder / 'profile'}"],
            pass_fds=(command_end, answer_end),
            stdout=self._log,
            stderr=self._log,
            env={"HOME": str(folder), "PATH": os.defpath, "TZ": "UTC", "LANG": "C.UTF-8"},
            start_new_session=True,
        )
        os.close(command_end)
        os.close(answer_end)
        self._buffer = b""
        self._last_id = 0
        self._tabs: dict[str, Tab] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._commands)
        os.close(self._answers)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def open(self, url: str, screen: Screen | None = None) -> Tab:
        """Open the address in a new tab."""
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        tab = Tab(self, target, session)
        self._tabs[session] = tab
        for domain in ("Page", "Runtime", "Network", "Log"):
            tab.call(f"{domain}.enable")
        tab.show_on(screen or Screen())
        tab.call("Page.navigate", {"url": url})
        tab.wait_for("document.readyState === 'complete'")
        return tab

    def close_tabs(self) -> None:
        """Close every tab: what is open goes on asking."""
        for tab in self._tabs.values():
            self.call("Target.closeTarget", {"targetId": tab.target})
        self._tabs.clear()

    def call(self, method: str, parameters: Mapping[str, object] | None = None, session: str | None = None) -> Any:
        """Call a method and return its result; events that come first are handed to their tabs."""
        self._last_id += 1
        message: dict[str, object] = {"id": self._last_id, "method": method, "params": dict(parameters or {})}
        if session is not None:
            message["sessionId"] = session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read_message(timeout_seconds=30.0)
            if answer.get("id") == self._last_id:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            if answer.get("sessionId") in self._tabs:
                self._tabs[answer["sessionId"]].note(answer["method"], answer["params"])

    def _read_message(self, timeout_seconds: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            is_readable, _, _ = select.select([self._answers], [], [], timeout_seconds)
            piece = os.read(self._answers, 1 << 20) if is_readable else b""
            if not piece:
                raise AssertionError(f"Chromium does not answer; see {self._log.name}")
            self._buffer += piece
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))


@dataclass
class Tab:
    """One page in the browser, and what it reported."""

    browser: Browser
    target: str
    session: str
    complaints: list[str] = field(default_factory=list)
    """Exceptions, errors and warnings, those of the Content-Security-Policy included."""
    requests: list[str] = field(default_factory=list)
    """Every address it asked for."""

    def call(self, method: str, parameters: Mapping[str, object] | None = None) -> Any:
        """Call a method of this page."""
        return self.browser.call(method, parameters, self.session)

    def note(self, event: str, details: Mapping[str, Any]) -> None:
        """Keep what an event tells."""
        match event:
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(details["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if details["type"] in ("error", "warning", "assert"):
                self.complaints.append(json.dumps(details["args"]))
            case "Log.entryAdded" if details["entry"]["level"] in ("error", "warning"):
                self.complaints.append(f"{details['entry']['text']} {details['entry'].get('url', '')}")
            case "Network.requestWillBeSent":
                self.requests.append(details["request"]["url"])

    def show_on(self, screen: Screen) -> None:
        """Change the screen."""
        metrics = {
            "width": screen.width,
            "height": screen.height,
            "deviceScaleFactor": screen.scale,
            "mobile": screen.is_phone,
        }
        self.call("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if screen.is_dark else "light"}
        stillness = {"name": "prefers-reduced-motion", "value": "reduce"}  # no picture of a digit half-way
        self.call("Emulation.setEmulatedMedia", {"features": [scheme, stillness]})

    def evaluate(self, expression: str) -> Any:
        """Return the value of the JavaScript expression; promises are awaited."""
        parameters = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        result = self.call("Runtime.evaluate", parameters)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def text(self, selector: str) -> str:
        """Return what a reader sees of the element."""
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText"))

    def wait_for(self, expression: str, timeout_seconds: float = 15.0) -> None:
        """Wait until the JavaScript expression holds.

        Raises:
            TimeoutError: it did not.
        """
        deadline = time.monotonic() + timeout_seconds
        while not self.evaluate(f"Boolean({expression})"):
            if time.monotonic() > deadline:
                seen = self.evaluate("document.body.innerText")
                raise TimeoutError(f"not so within {timeout_seconds} s: {expression}; the page shows:\n{seen}")
            time.sleep(0.02)

    def write(self, selector: str, text: str) -> None:
        """Type the text into the field, in place of what is there."""
        self.evaluate(
            f"(field => {{ field.focus(); field.select(); }})(document.querySelector({json.dumps(selector)}))"
        )
        self.call("Input.insertText", {"text": text})

    def press_enter(self) -> None:
        """Press Enter where the focus is."""
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
        self.call("Input.dispatchKeyEvent", {"type": "keyDown", **key})
        self.call("Input.dispatchKeyEvent", {"type": "keyUp", **key})

    def take_picture(self) -> bytes:
        """Return a picture of what the screen shows, as a PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", {"format": "png"})["data"])
