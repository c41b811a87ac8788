"""A headless Chromium, driven by the DevTools protocol through a pipe: JSON messages that end with a zero byte."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
# WebGL on the CPU, and no requests of the browser's own.
OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--hide-scrollbars",
]


class Page:
    """A page of a new browser. As a context it closes the browser.

    requests, messages: addresses that the page asked for; errors and warnings of its console.
    """

    def __init__(self, address: str, profile: Path, width: int = 1200, height: int = 900) -> None:
        commands, self._send = os.pipe()
        self._receive, events = os.pipe()
        arguments = [*OPTIONS, "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"]
        # The browser reads from descriptor 3 and writes to 4.
        shell = f'exec "$0" "$@" 3<&{commands} 4>&{events}'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, str(BROWSER), *arguments], pass_fds=(commands, events), stderr=subprocess.DEVNULL
        )
        os.close(commands)
        os.close(events)
        self._buffer, self._count, self._session = b"", 0, ""
        self.requests: list[str] = []
        self.messages: list[str] = []
        [target] = [one for one in self("Target.getTargets")["targetInfos"] if one["type"] == "page"]
        self._session = self("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log", "DOM"):
            self(f"{domain}.enable")
        still = [{"name": "prefers-reduced-motion", "value": "reduce"}]  # WebGL on the CPU is slow
        self("Emulation.setEmulatedMedia", features=still)
        self.resize(width, height)
        self("Page.navigate", url=address)

    def __enter__(self) -> Page:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._send)  # which ends the browser
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._receive)

    def __call__(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol."""
        self._count += 1
        session = {"sessionId": self._session} if self._session else {}
        message = {"id": self._count, "method": method, "params": parameters} | session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return answer["result"]

    def resize(self, width: int, height: int) -> None:
        """Set the size of the window, in CSS pixels."""
        self("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500)

    def evaluate(self, script: str) -> Any:
        """The value of an expression, once it is resolved."""
        answer = self("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, script: str, seconds: float = 120) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not self.evaluate(f"!!({script})"):
            assert time.monotonic() < end, f"{script} did not come true: {self.text('body')} {self.messages}"
            time.sleep(0.1)

    def wait_for_text(self, selector: str, text: str, seconds: float = 120) -> None:
        """Wait until an element is there and its text contains another."""
        self.wait_for(f"document.querySelector({selector!r})?.innerText.includes({text!r})", seconds)

    def text(self, selector: str) -> str:
        """The text of an element; "" if there is none."""
        return self.evaluate(f"document.querySelector({selector!r})?.innerText ?? ''")

    def click(self, selector: str) -> None:
        """Click an element as soon as it is there."""
        self.wait_for(f"document.querySelector({selector!r})")
        self.evaluate(f"document.querySelector({selector!r}).click()")

    def upload(self, selector: str, file: Path) -> None:
        """Choose a file in an input as soon as it is there."""
        self.wait_for(f"document.querySelector({selector!r})")
        root = self("DOM.getDocument")["root"]["nodeId"]
        node = self("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self("DOM.setFileInputFiles", nodeId=node, files=[str(file.resolve())])

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Write the window, or the whole page, as PNG."""
        data = self("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            data = os.read(self._receive, 2**20)
            assert data, "the browser has ended"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(line)
        parameters = message.get("params", {})
        if message.get("method") == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        if message.get("method") == "Log.entryAdded":
            self.messages.append(f"{parameters['entry']['level']}: {parameters['entry']['text']}")
        if message.get("method") == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning"):
            self.messages.append(f"{parameters['type']}: {parameters['args']}")
        if message.get("method") == "Runtime.exceptionThrown":
            self.messages.append(f"exception: {parameters['exceptionDetails']}")
        return message
