"""The console in a real browser."""

import pytest
from browser import PATIENCE, WELL, chromium, console, examine
from stack import run, wait_until


@pytest.fixture(scope="module", name="browser")
def running():
    """Yield a browser."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module", autouse=True)
def requests(stack):
    """Wait until there is something to show of every container."""

    def counted():
        for _ in range(10):
            stack.request()
        return len(stack.query("container:requests:rate > 0")) == 4

    wait_until(counted, 30)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_page_shows_every_container(stack, browser, scheme, width):
    with console(browser, stack, scheme, width) as page:
        examine(page, stack, f"console-2-{scheme}-{width}")
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, background[4:-1].split(", "))) > 384) == (scheme == "light")


def test_span_of_the_charts_can_be_chosen(stack, browser):
    with console(browser, stack) as page:
        page.wait_for_selector("#chart-cpu .js-line", timeout=PATIENCE, state="attached")
        for minutes in ("1440", "15"):
            with page.expect_response(f"**/api/charts?minutes={minutes}") as answer:
                page.click(f"button[data-minutes='{minutes}']")
            assert answer.value.ok
            assert page.get_attribute(f"button[data-minutes='{minutes}']", "aria-pressed") == "true"


def test_page_says_when_prometheus_is_away(stack, browser):
    with console(browser, stack, expected="503") as page:
        page.wait_for_selector(WELL, timeout=PATIENCE)
        prometheus = stack.container("prometheus")
        run("docker", "pause", prometheus)
        try:
            page.wait_for_selector("#verdict:has-text('Prometheus does not answer')", timeout=PATIENCE)
            assert "What is shown below is old." in page.inner_text("#verdict")
        finally:
            run("docker", "unpause", prometheus)
        page.wait_for_selector(WELL, timeout=PATIENCE)
