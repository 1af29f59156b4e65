# SPDX-License-Identifier: GPL-2.0-only
"""Headless Chromium, asked through its debugging pipe: what a reader of a page would see."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.deadline import Deadline
from harness.process import running, start

#: Nothing but the page: no updates, no account, no first-run questions.
_QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run", "--disable-extensions",
    "--disable-dev-shm-usage", "--hide-scrollbars",
)  # fmt: skip
LIMIT_S = 60.0


class Page:
    """One tab. Commands and events are those of the DevTools protocol."""

    def __init__(self, send: int, receive: int) -> None:
        self._send, self._receive = send, receive
        self._buffer = b""
        self._number = 0
        self._session = ""
        #: Addresses that the page asked for.
        self.requests: list[str] = []
        #: What the browser complained about.
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to a command; RuntimeError if the browser refuses it."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result = answer["result"]
                assert isinstance(result, dict)
                return result
            self._event(answer)

    def _event(self, message: dict[str, Any]) -> None:
        parameters = message.get("params", {})
        if message.get("method") == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        if message.get("method") == "Log.entryAdded":
            self.complaints.append(parameters["entry"]["text"])
        self.loaded = getattr(self, "loaded", False) or message.get("method") == "Page.loadEventFired"

    def _next(self) -> dict[str, Any]:
        deadline = Deadline.after(LIMIT_S)
        while b"\0" not in self._buffer:
            if not select.select([self._receive], [], [], deadline.remaining)[0]:
                raise TimeoutError("the browser says nothing")
            data = os.read(self._receive, 1 << 20)
            if not data:
                raise RuntimeError("the browser is gone")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(line)
        assert isinstance(message, dict)
        return message

    def open(self, path: Path, width: int, *, height: int = 900, dark: bool = False) -> None:
        """Load a file in a window of a size, by day or by night."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 500,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.loaded = False
        self.call("Page.navigate", url=path.resolve().as_uri())
        while not self.loaded:
            self._event(self._next())

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def screenshot(self, target: Path, *, whole: bool = False) -> None:
        """What is shown, as a PNG; `whole`: all of the page."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        target.write_bytes(base64.b64decode(data))


@contextlib.contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A browser with a profile of its own, and one page in it."""
    command_read, command_write = os.pipe()
    answer_read, answer_write = os.pipe()
    # The pipe's ends are 3 and 4 in the browser, whatever they are here.
    launcher = 'exec 3<&"$1" 4>&"$2"; shift 2; exec "$@"'
    argv = ["chromium", *_QUIET, f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"]
    words = ["bash", "-c", launcher, "bash", str(command_read), str(answer_write), *argv]
    with contextlib.ExitStack() as stack:
        for end in (command_write, answer_read):
            stack.callback(os.close, end)
        process = start(words, pass_fds=(command_read, answer_write))
        stack.enter_context(running(process))
        os.close(command_read)
        os.close(answer_write)
        yield Page(command_write, answer_read)
