"""A real headless Chromium for tests of pages, driven by Selenium, with axe-core's rules of accessibility.

`python tests/support/browser.py install` installs what is missing: Debian's chromium and chromium-driver (as root), and
axe-core from npm.
"""

import argparse
import atexit
import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

AXE_VERSION = "4.14.1"
AXE_FOLDER = Path(__file__).parents[2] / "build" / "axe-core"
AXE = AXE_FOLDER / "node_modules" / "axe-core" / "axe.min.js"
_PROGRAMS = {"chromium": "chromium", "chromedriver": "chromium-driver"}
_PATIENCE = 600.0  # seconds; only what hangs takes longer


def missing_programs() -> list[str]:
    """What the tests need and this machine lacks."""
    absent = [program for program in _PROGRAMS if shutil.which(program) is None]
    return absent if AXE.exists() else [*absent, "axe-core"]


class Page:
    """A page in the browser."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def resize(self, width: int, height: int = 1000) -> None:
        """Lay the page out for a screen of so many CSS pixels."""
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
        )

    def emulate(self, media: str = "", scheme: str = "light") -> None:
        """Lay the page out for `print` or the screen, in light or dark colours."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"media": media, "features": features}
        )

    def run(self, script: str, *arguments: Any) -> Any:
        """The value of a script's `return`."""
        return self.driver.execute_script(script, *arguments)

    def errors(self) -> list[str]:
        """What the console has complained about since it was last asked."""
        return [
            one["message"]
            for one in self.driver.get_log("browser")
            if one["level"] in ("SEVERE", "WARNING")
        ]

    def overflowing(self) -> list[str]:
        """What is wider than the place it has: tables, figures and the page itself."""
        return list(
            self.run(
                """
                const wide = [];
                const room = document.documentElement.clientWidth;
                if (document.documentElement.scrollWidth > room) wide.push("the page");
                for (const one of document.querySelectorAll("table, figure, .answers li, dl, pre, p, h1, h2, h3, td, th"))
                  if (one.getBoundingClientRect().right > room + 1 || one.scrollWidth > one.clientWidth + 1)
                    wide.push(one.tagName + " " + one.className + ": " + one.textContent.trim().slice(0, 60));
                return wide;
                """
            )
        )

    def violations(self) -> list[str]:
        """axe-core's findings, one line each."""
        self.run(AXE.read_text(encoding="utf-8"))
        found = self.driver.execute_async_script(
            "const done = arguments[arguments.length - 1]; axe.run().then((r) => done(r.violations));"
        )
        return [
            f"{one['id']}: {one['help']}: {node['html'][:160]} {node['failureSummary'][:300]}"
            for one in found
            for node in one["nodes"]
        ]

    def screenshot(self, path: Path) -> None:
        """The whole page as PNG."""
        size = self.run(
            "return [document.documentElement.clientWidth, document.documentElement.scrollHeight]"
        )
        clip = {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1}
        shot = self.driver.execute_cdp_cmd(
            "Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip}
        )
        path.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self) -> bytes:
        """The page as it is printed on A4."""
        printed = self.driver.execute_cdp_cmd(
            "Page.printToPDF", {"preferCSSPageSize": True, "printBackground": True}
        )
        return base64.b64decode(printed["data"])


@contextmanager
def open_page(file: Path) -> Iterator[Page]:
    """A file on a screen of 1400 pixels in light colours; all pages of a process share a browser."""
    driver = _driver()
    driver.get("about:blank")
    page = Page(driver)
    page.emulate()
    page.resize(1400)
    page.errors()
    driver.get(file.resolve().as_uri())
    yield page


@cache
def _driver() -> Any:
    """A browser with an empty profile and no network."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for argument in (
        "--headless=new",
        "--no-sandbox",  # tests may run as root
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        "--host-resolver-rules=MAP * ~NOTFOUND",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    atexit.register(driver.quit)
    driver.set_script_timeout(_PATIENCE)
    driver.set_page_load_timeout(_PATIENCE)
    driver.command_executor.client_config.timeout = _PATIENCE
    return driver


def install() -> None:
    """Install what is missing, as root on Debian or Ubuntu."""
    packages = [name for program, name in _PROGRAMS.items() if shutil.which(program) is None]
    if not AXE.exists() and shutil.which("npm") is None:
        packages.append("npm")
    if packages:
        command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages]
        subprocess.run(["apt-get", "update", "-q"], check=True)
        subprocess.run(command, check=True)
    if not AXE.exists():
        AXE_FOLDER.mkdir(parents=True, exist_ok=True)
        (AXE_FOLDER / "package.json").write_text(json.dumps({"private": True}))
        command = [
            "npm",
            "install",
            "--no-save",
            "--no-audit",
            "--no-fund",
            f"axe-core@{AXE_VERSION}",
        ]
        subprocess.run(command, check=True, cwd=AXE_FOLDER)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("verb", choices=["install"])
    parser.parse_args()
    install()
