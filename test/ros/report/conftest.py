"""A made-up report, and the machine's browser to open it in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

import pytest

from smvae_ros.report.write import write_report

from .made_up import write_results

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# The names that environment/check.sh looks for. A snap, as Ubuntu's Chromium is, cannot see the pages of the tests.
BROWSERS = ("chromium", "google-chrome", "google-chrome-stable")


@dataclass
class Opened:
    """A page in the browser, and what it said and asked for since."""

    page: Page
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of 750 sets and 24 moments."""
    return write_report(write_results(tmp_path_factory.mktemp("results") / "made_up"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Start playwright's own browser, or else the machine's, without a window; skip the test where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    with api.sync_playwright() as driver:
        own = Path(driver.chromium.executable_path)
        machines = (path for name in BROWSERS if (path := which(name)) and not path.startswith("/snap/"))
        found = None if own.exists() else next(machines, None)
        if not found and not own.exists():
            pytest.skip("no browser (Chromium or Chrome); the line that installs one: environment/check.sh --rendering")
        # Chromium's sandbox does not work for root in a container. The only pages are those of the tests.
        yield (running := driver.chromium.launch(executable_path=found, args=["--no-sandbox"]))
        running.close()


@pytest.fixture
def opens(browser: Browser) -> Iterator[Callable[..., Opened]]:
    """Opens a file and waits until it has drawn everything."""
    contexts = []

    def open_file(path: Path, ready: str = "html[data-ready]", **settings: object) -> Opened:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | settings)
        contexts.append(context)
        opened = Opened(context.new_page())
        opened.page.on("console", lambda m: opened.errors.append(m.text) if m.type in ("error", "warning") else None)
        opened.page.on("pageerror", lambda error: opened.errors.append(str(error)))
        opened.page.on("request", lambda request: opened.requests.append(request.url))
        opened.page.goto(path.as_uri())
        opened.page.wait_for_selector(ready, state="attached")
        return opened

    yield open_file
    for context in contexts:
        context.close()
