"""A real browser without a window: Debian's chromium, which selenium drives in a thread of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest

_T = TypeVar("_T")


class Browser:
    """A browser.  Its methods return Deferreds, so that the reactor runs meanwhile."""

    def __init__(self) -> None:
        """Describe a browser; `start` starts it.

        Raises:
            SkipTest: It is not installed.
        """
        program = shutil.which("chromium") or shutil.which("google-chrome")
        driver = shutil.which("chromedriver")
        if program is None or driver is None:
            raise SkipTest("chromium and chromedriver are not in PATH; they are in chromium and chromium-driver")
        self._options = webdriver.ChromeOptions()
        self._options.binary_location = program
        self._options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        for argument in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1200,900"):
            self._options.add_argument(argument)
        if os.geteuid() == 0:
            # Chromium's sandbox does not work for root.
            self._options.add_argument("--no-sandbox")
        self._service = Service(driver)
        self._driver: Any = None

    def start(self) -> Deferred[None]:
        """Start it."""

        def begin() -> None:
            self._driver = webdriver.Chrome(self._options, self._service)

        return self._run(begin)

    def stop(self) -> Deferred[None]:
        """End it."""
        return self._run(lambda: self._driver.quit() if self._driver is not None else None)

    def open(self, url: str) -> Deferred[None]:
        """Load a page."""
        return self._run(lambda: self._driver.get(url))

    def evaluate(self, script: str) -> Deferred[Any]:
        """Return the value of an expression of JavaScript."""
        return self._run(lambda: self._driver.execute_script(f"return {script}"))

    def resize(self, width: int, height: int) -> Deferred[Any]:
        """Show the page as on a screen of this size."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        return self._run(lambda: self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics))

    def prefer(self, scheme: str) -> Deferred[Any]:
        """Prefer the colours ``"light"`` or ``"dark"``."""
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        return self._run(lambda: self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media))

    def complaints(self) -> Deferred[list[str]]:
        """Return what the console has shown since the last call: errors of scripts, blocked or missing files."""
        return self._run(lambda: [each["message"] for each in self._driver.get_log("browser")])

    def screenshot(self, path: Path) -> Deferred[None]:
        """Write a picture of the page."""
        return self._run(lambda: self._driver.save_screenshot(str(path)))

    def _run(self, act: Callable[[], _T]) -> Deferred[_T]:
        return deferToThread(act)
