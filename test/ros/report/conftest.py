"""A made-up report, and the machine's browser to open it in."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from smvae_ros.report.write import write_report

from .made_up import write_results

# As environment/check.sh asks for them: a snap, as Ubuntu's Chromium is, cannot see the pages of the tests.
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
    """The browser that playwright has installed, else the machine's, without a window."""
    with sync_playwright() as driver:
        own = Path(driver.chromium.executable_path)
        machines = (path for name in BROWSERS if (path := which(name)) and not path.startswith("/snap/"))
        found = None if own.exists() else next(machines, None)
        assert found or own.exists(), "expected a browser: environment/check.sh --rendering names what installs one"
        # Chromium's own sandbox wants more than a container's root has; the only pages are the tests' own.
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
