"""Chromium for tests: open a page without a network, and see what it says, shows and asks for.

Spoken to over a pipe (the DevTools protocol), so that no port is opened and nothing is installed
but the browser. Where the kernel allows it, the browser runs in a network namespace of its own that
has no interface; elsewhere every host name is refused.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-default-apps",
    "--disable-extensions", "--disable-dev-shm-usage", "--hide-scrollbars", "--mute-audio",
    "--host-resolver-rules=MAP * ~NOTFOUND", "--remote-debugging-pipe",
)  # fmt: skip
PATIENCE = 60.0  # s


def find() -> str | None:
    """Return the path of a Chromium, or None. ROOFRACK_BROWSER names one by hand."""
    given = os.environ.get("ROOFRACK_BROWSER")
    return given or next((path for name in NAMES if (path := shutil.which(name))), None)


def require() -> str:
    """Return a Chromium; skip the test without one, or fail if ROOFRACK_REQUIRE_BROWSER=1."""
    path = find()
    if path is None and os.environ.get("ROOFRACK_REQUIRE_BROWSER") == "1":
        pytest.fail("ROOFRACK_REQUIRE_BROWSER=1, but no Chromium was found")
    if path is None:
        pytest.skip("needs Chromium (set ROOFRACK_BROWSER to its path)")
    return path


@dataclass
class Tab:
    """An open page. `console` collects errors and warnings, `requests` addresses asked for."""

    send: Any
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression; promises are awaited."""
        answer = self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Wait until a JavaScript expression is true."""
        end = time.monotonic() + PATIENCE
        while not self.evaluate(expression):
            if time.monotonic() > end:
                raise AssertionError(f"never true: {expression}; console: {self.console}")
            time.sleep(0.05)

    def look(self, width: int = 1200, height: int = 900, dark: bool = False) -> None:
        """Set the size of the window and the colour scheme, and wait until charts have followed."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        value = "dark" if dark else "light"
        self.send(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": value}],
        )
        self.settle()

    def settle(self) -> None:
        """Wait until all charts are drawn to the present width."""
        self.wait_for(
            "document.documentElement.dataset.charts === 'ready' && "
            "[...document.querySelectorAll('.chart')].every("
            "b => !b.clientWidth || b.dataset.width === String(b.clientWidth))"
        )

    def html(self) -> str:
        """Return the document as it stands now, after scripts ran."""
        return self.evaluate("document.documentElement.outerHTML")

    def screenshot(self, path: Path, selector: str | None = None) -> Path:
        """Save the whole page, or the first element that matches `selector`, as PNG."""
        box = (
            "document.documentElement"
            if selector is None
            else f"document.querySelector({json.dumps(selector)})"
        )
        clip = self.evaluate(
            "(r => ({x: r.left + scrollX, y: r.top + scrollY, width: r.width, height: r.height, "
            f"scale: 1}}))({box}.getBoundingClientRect())"
        )
        shot = self.send("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))
        return path


class _Pipe:
    """The DevTools protocol over two pipes: JSON messages, each ended by a zero byte."""

    def __init__(self, write: int, read: int) -> None:
        self.write, self.read, self.count, self.buffer = write, read, 0, b""
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        self.count += 1
        message: dict[str, Any] = {"id": self.count, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self.count:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.read], [], [], max(0.0, end - time.monotonic()))
            chunk = os.read(self.read, 1 << 16) if ready else b""
            if not chunk:
                raise AssertionError("the browser does not answer")
            self.buffer += chunk
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)


def _isolated() -> list[str]:
    """Return the command that takes the network away from what follows, if this system has one."""
    for command in (["unshare", "-n"], ["unshare", "-rn"]):
        if shutil.which("unshare"):
            tried = subprocess.run([*command, "true"], capture_output=True, check=False)
            if tried.returncode == 0:
                return command
    return []


@contextmanager
def _browser() -> Iterator[_Pipe]:
    """Start a Chromium with a fresh profile and no network, and end it afterwards."""
    to_browser, from_here = os.pipe()
    to_here, from_browser = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # The browser reads descriptor 3 and writes descriptor 4.
        shell = f'exec 3<&{to_browser} 4>&{from_browser}; exec "$@"'
        arguments = [*_isolated(), require(), *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(
            ["bash", "-c", shell, "browser", *arguments],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_browser)
        os.close(from_browser)
        pipe = _Pipe(from_here, to_here)
        try:
            yield pipe
            pipe.call("Browser.close")
        finally:
            os.close(from_here)
            os.close(to_here)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def open_page(
    path: Path, width: int = 1200, height: int = 900, dark: bool = False, fragment: str = ""
) -> Iterator[Tab]:
    """Open an HTML file in Chromium without a network; its charts are drawn when this returns.

    `fragment` (with its #) is a deep link into the page.

    Errors and warnings of the console are in `tab.console` (also those from before scripts ran),
    every address but the file's own in `tab.requests`.
    """
    with _browser() as pipe:
        target = pipe.call("Target.createTarget", url="about:blank")["targetId"]
        session = pipe.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

        def send(method: str, **params: Any) -> dict[str, Any]:
            answer = pipe.call(method, session, **params)
            _sort(pipe.events, tab, path)
            return answer

        tab = Tab(send)
        for domain in ("Page", "Runtime", "Log", "Network"):
            send(f"{domain}.enable")
        send(
            "Network.emulateNetworkConditions",
            offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1,
        )  # fmt: skip
        value = "dark" if dark else "light"
        send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        send(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": value}],
        )
        send("Page.navigate", url=path.resolve().as_uri() + fragment)
        tab.wait_for("document.readyState === 'complete' && location.protocol === 'file:'")
        tab.settle()
        yield tab


def _sort(events: list[dict[str, Any]], tab: Tab, path: Path) -> None:
    """Move what the browser reported into the tab's lists."""
    while events:
        event = events.pop(0)
        params = event.get("params", {})
        match event.get("method"):
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                tab.console.append(
                    " ".join(str(a.get("value", a.get("description"))) for a in params["args"])
                )
            case "Runtime.exceptionThrown":
                tab.console.append(
                    params["exceptionDetails"].get("exception", {}).get("description", "exception")
                )
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                tab.console.append(params["entry"]["text"])
            case "Network.requestWillBeSent":
                url = params["request"]["url"]
                if url != path.resolve().as_uri():
                    tab.requests.append(url)
