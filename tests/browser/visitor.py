"""Drives the browser in terms of what a person does and sees."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver
    from selenium.webdriver.remote.webelement import WebElement

TAB, ENTER, HOME, END, LEFT, DOWN = "\ue004", "\ue007", "\ue011", "\ue010", "\ue012", "\ue015"
"""Keys by WebDriver's code points."""


class Visitor:
    """A person at the browser. ``driver`` is for everything else."""

    def __init__(self, driver: "WebDriver") -> None:
        self.driver = driver
        self._logs: dict[str, list[dict[str, Any]]] = {"browser": [], "performance": []}
        self._read_logs()
        self._logs = {kind: [] for kind in self._logs}  # what was logged before this visit

    def visit(self, url: str) -> None:
        self.driver.get(url)
        self.wait_for(lambda: self.js("return document.readyState") == "complete")

    def leave(self) -> None:
        """Leave the page and undo what ``look`` set."""
        self._read_logs()
        self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        self.driver.get("about:blank")

    def look(self, *, width: int = 1200, scheme: str = "light") -> None:
        """Use a window of ``width`` CSS pixels and a colour scheme."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def js(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str) -> "WebElement":
        return self.driver.find_element("css selector", selector)

    def find_all(self, selector: str) -> "list[WebElement]":
        return self.driver.find_elements("css selector", selector)

    def sees(self, selector: str) -> bool:
        return any(element.is_displayed() for element in self.find_all(selector))

    def reads(self, selector: str) -> str:
        return self.find(selector).text

    def press(self, keys: str) -> None:
        """Press keys wherever the focus is."""
        self.driver.switch_to.active_element.send_keys(keys)

    def focused(self) -> str:
        """Return the id of the focused element, or its tag."""
        return str(self.js("const e = document.activeElement; return e.id || e.tagName.toLowerCase()"))

    def wait_for(self, condition: Callable[[], Any], seconds: float = 40) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, self.reads("body")
            time.sleep(0.03)

    def choose(self, *paths: Path) -> None:
        self.find("#file").send_keys("\n".join(map(str, paths)))

    def drop(self, path: Path) -> None:
        """Drag a file from outside the browser and drop it on the page."""
        where = self.find("#drop").location
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            event = {"type": kind, "x": where["x"] + 9, "y": where["y"] + 9, "data": data}
            self.driver.execute_cdp_cmd("Input.dispatchDragEvent", event)

    def paste(self, path: Path) -> None:
        """Paste a file by an event, because browsers hide the clipboard from programs."""
        self.js(
            """
            const clipboardData = new DataTransfer();
            clipboardData.items.add(new File([Uint8Array.from(arguments[0])], "image", {type: arguments[1]}));
            document.body.dispatchEvent(new ClipboardEvent("paste", {clipboardData, bubbles: true}));
            """,
            list(path.read_bytes()),
            "image/jpeg",
        )

    def wait_for_result(self) -> None:
        self.wait_for(lambda: self.sees("#result") or self.sees("#trouble"))
        assert self.sees("#result"), self.reads("#trouble")
        self.wait_for(lambda: self.js("return document.getElementById('overlay').complete"))

    def wait_for_trouble(self) -> None:
        self.wait_for(lambda: self.sees("#trouble") and not self.sees("#work"))

    def complaints(self) -> list[str]:
        """Return script errors and violations of the content security policy, without failed requests."""
        self._read_logs()
        severe = [entry for entry in self._logs["browser"] if entry["level"] == "SEVERE"]
        return [entry["message"] for entry in severe if entry["source"] != "network"]

    def strange_hosts(self) -> set[str]:
        """Return other hosts that got requests."""
        self._read_logs()
        events = [json.loads(entry["message"])["message"] for entry in self._logs["performance"]]
        urls = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        # Others (data, blob, the browser's own chrome) never leave it.
        hosts = {str(urlsplit(url).hostname) for url in urls if url.startswith(("http", "ws", "ftp"))}
        return hosts - {"127.0.0.1"}

    def _read_logs(self) -> None:
        for kind, entries in self._logs.items():
            entries += self.driver.execute("getLog", {"type": kind})["value"]  # get_log has no types
