"""A real browser for tests, and what every view of the console has to show in it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright
from stack import PROJECT, Stack, run, wait_until

IMAGE = "webstack/browser:debian"
# Screenshots of the last run.
ARTIFACTS = PROJECT / ".artifacts"
# Milliseconds.
PATIENCE = 30000
CHARTS = 6
# Matches once the page shows containers, all of them well, and what Prometheus knows now.
WELL = "body:not(.stale):has(.tile):not(:has(.tile:not([data-level=well])))"


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def listens(port: int) -> bool:
    """Tell whether somebody listens on a port of loopback."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Run Chromium in a container with the host's network, and yield it."""
    port = free_port()
    options = ("--detach", "--rm", "--pull=never", "--network=host", "--shm-size=512m", "--memory=2g")
    identity = run("docker", "run", *options, IMAGE, f"--remote-debugging-port={port}", "about:blank").stdout.strip()
    try:
        wait_until(lambda: listens(port), 30)
        with sync_playwright() as playwright:
            yield playwright.chromium.connect_over_cdp(f"http://127.0.0.1:{port}")
    finally:
        run("docker", "rm", "--force", identity, check=False)


@contextlib.contextmanager
def console(
    browser: Browser, stack: Stack, scheme: str = "light", width: int = 1280, expected: str = "", path: str = ""
) -> Iterator[Page]:
    """Open the console and yield the page.

    Whatever the browser complains about, unless it holds what is ``expected``, or asks of others, is a failure in the end.
    """
    url = f"http://127.0.0.1:{stack.port('console')}/"
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}, has_touch=width < 600)
    page = context.new_page()
    wrong: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not (expected and expected in message.text):
            wrong.append(message.text)

    page.on("console", hear)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request", lambda request: wrong.append(request.url) if not request.url.startswith((url, "data:", "blob:")) else None
    )
    try:
        page.goto(url + path)
        yield page
    finally:
        context.close()
    assert not wrong, wrong


def accessible(page: Page) -> None:
    """Check that axe has no findings: contrast, names, roles, order of headings and the like."""
    found = Axe().run(page).response["violations"]
    assert not found, [(item["id"], [node["html"] for node in item["nodes"]][:5]) for item in found]


def keep(page: Page, name: str) -> None:
    """Keep a picture of a page that axe has no findings on."""
    accessible(page)
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"{name}.png", full_page=True)


def examine(page: Page, stack: Stack, name: str) -> None:
    """Check that a view shows every container in its place with values, all charts with lines, and keep a picture."""
    page.wait_for_selector(WELL, timeout=PATIENCE)
    # Tests that restart containers leave an alert about it behind.
    verdict, alerts = page.inner_text("#verdict"), page.locator("#alerts b").all_inner_texts()
    assert verdict.startswith("✓ All is well") != bool(alerts)
    for service in ("fe-lb", "fe", "be-lb", "be", "db"):
        tiles = page.locator(f'.service[data-service="{service}"] .tile')
        found = {tiles.nth(place).get_attribute("data-name") for place in range(tiles.count())}
        assert found == {container["Name"].lstrip("/") for container in stack.containers(service)}
        assert "MiB" in tiles.first.inner_text()
        assert "of" in page.locator(f'.service[data-service="{service}"] h3').inner_text()
    lines = page.locator(".chart:has(.scatterlayer .js-line)")
    lines.nth(CHARTS - 1).wait_for(state="attached", timeout=PATIENCE)
    assert lines.count() == page.locator(".chart").count() == CHARTS
    rows = page.locator("#containers tbody tr")
    assert rows.count() == len(stack.containers())
    for container in stack.containers("be")[:2]:
        cells = page.locator(f'#containers tr[data-name="{container["Name"].lstrip("/")}"] td').all_inner_texts()
        assert len(cells) == 10
        assert "–" not in cells, cells
    # Nothing hangs out of the window: on a phone one scrolls down, not sideways.
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    keep(page, name)
