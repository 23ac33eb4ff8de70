"""The console in a real browser."""

import time

import pytest
from browser import PATIENCE, WELL, accessible, chromium, console, examine, keep
from stack import run, wait_until
from stack_history import tell


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
        for last in ("86400", "all", "900"):
            with page.expect_response(f"**/api/past?last={last}") as answer:
                page.click(f"button[data-last='{last}']")
            assert answer.value.ok
            page.wait_for_selector(f"button[data-last='{last}'][aria-pressed=true]", timeout=PATIENCE)


def test_any_time_can_be_shown_and_its_address_be_shared(stack, browser):
    with console(browser, stack) as page:
        page.wait_for_selector("#chart-cpu .js-line", timeout=PATIENCE, state="attached")
        page.fill("#begin", "2026-01-02T03:04:05")
        page.fill("#end", "2026-01-02T05:00:00")
        with page.expect_response("**/api/past?begin=*"):
            page.click("#range button[type=submit]")
        address = page.url
        shown = page.inner_text("#events")
    assert "begin=" in address
    with (
        console(browser, stack, path=f"?{address.partition('/?')[2]}") as page,
        page.expect_response("**/api/past?begin=*") as answer,
    ):
        assert answer.value.json()["end"] - answer.value.json()["begin"] == 6955
        page.wait_for_function("document.getElementById('begin').value === '2026-01-02T03:04:05'", timeout=PATIENCE)
        assert page.inner_text("#events") == shown == "Nothing has happened."


def test_end_of_a_log_opens_by_keyboard_and_the_keyboard_stays_where_it_was(stack, browser):
    name = stack.containers("fe")[0]["Name"].lstrip("/")
    with console(browser, stack) as page:
        page.wait_for_selector(WELL, timeout=PATIENCE)
        page.locator(f".tile[data-name='{name}']").focus()
        page.keyboard.press("Enter")
        page.wait_for_selector("#log[open] #log-lines:has-text('startup complete')", timeout=PATIENCE)
        accessible(page)
        page.keyboard.press("Escape")
        # The tiles are recreated with each answer.
        with page.expect_response("**/api/state"):
            pass
        page.wait_for_function(f"document.activeElement.dataset.name === '{name}'", timeout=PATIENCE)


def test_failing_and_slow_requests_are_shown_by_path(stack, browser):
    assert stack.request(path="/no/such/4711").status == 404
    with console(browser, stack) as page:
        page.wait_for_selector("#requests td:has-text('GET /no/such/…')", timeout=PATIENCE)


def test_runbook_is_served(stack, browser):
    with console(browser, stack, path="runbook#tierdown") as page:
        assert page.inner_text("#tierdown") == "TierDown"
        accessible(page)


def test_page_says_first_that_the_site_is_down_and_why(stack, browser):
    names = [container["Name"].lstrip("/") for container in stack.containers("fe")]
    begin = time.time()
    run("docker", "stop", *names)
    try:
        with console(browser, stack, "dark") as page:
            page.wait_for_selector("#verdict:has-text('The site is down: no front end runs: exited')", timeout=PATIENCE)
            assert page.get_attribute("#advice a", "href") == "/runbook#tierdown"
            wait_until(lambda: stack.request().status == 503, 10)
            # What the load balancer answers itself has no response time.
            assert "95 % within 10" not in page.inner_text("#topology")
            page.wait_for_selector("#requests td:has-text('503 ×')", timeout=PATIENCE)
            page.wait_for_selector("#advice:has-text('No replica of fe gets requests.')", timeout=PATIENCE)
            keep(page, "console-down")
    finally:
        run("docker", "start", *names)
    with console(browser, stack) as page:
        page.wait_for_selector(WELL, timeout=PATIENCE)
        for name in names:
            page.wait_for_selector(f"#events li:has-text('{name} ended and was started again')", timeout=PATIENCE)
        told = [
            event
            for event in page.evaluate("fetch('/api/past').then((answer) => answer.json())")["events"]
            if event["kind"] == "container" and event["time"] > begin
        ]
        assert len(told) == len(names)


def test_page_says_what_a_rollout_does_and_marks_it_in_every_chart(stack, browser):
    tell(stack.directory, "step", "fe: starting 2 beside 2", service="fe")
    with console(browser, stack) as page:
        try:
            page.wait_for_selector("#verdict:has-text('A change is at work: fe: starting 2 beside 2')", timeout=PATIENCE)
            page.wait_for_selector("#chart-cpu .js-line", timeout=PATIENCE, state="attached")
            keep(page, "console-roll")
        finally:
            tell(stack.directory, "rollout", "fe was scaled from 2 to 4", service="fe")
        # An alert of what another test has done may be what it says instead.
        wait_until(lambda: "A change is at work" not in page.inner_text("#verdict"), 30)
        page.wait_for_selector("#events li:has-text('fe was scaled from 2 to 4')", timeout=PATIENCE)
        marked = page.locator(".chart:has(.shapelayer path)")
        wait_until(lambda: marked.count() == page.locator(".chart").count(), 30)


def test_page_says_when_prometheus_is_away(stack, browser):
    with console(browser, stack, expected="503") as page:
        page.wait_for_selector(WELL, timeout=PATIENCE)
        prometheus = stack.container("prometheus")
        run("docker", "pause", prometheus)
        try:
            page.wait_for_selector("#verdict:has-text('Prometheus does not answer')", timeout=PATIENCE)
            assert page.inner_text("#verdict").startswith("✕ No data since ")
            assert "What is shown below is old." in page.inner_text("#verdict")
            keep(page, "console-away")
        finally:
            run("docker", "unpause", prometheus)
        # The engine looks anew whether it is healthy, within half a minute.
        wait_until(lambda: stack.containers("prometheus")[0]["State"]["Health"]["Status"] == "healthy", 60)
        page.wait_for_selector(WELL, timeout=PATIENCE)


def test_page_says_that_it_has_no_data_and_since_when(stack, browser):
    with console(browser, stack, expected="503") as page:
        page.wait_for_selector(WELL, timeout=PATIENCE)
        exporter = stack.container("container-exporter")
        run("docker", "stop", exporter)
        try:
            page.wait_for_selector(
                "#verdict:has-text('No data of the containers: container-exporter does not answer since')", timeout=PATIENCE
            )
        finally:
            run("docker", "start", exporter)
        page.wait_for_selector(WELL, timeout=PATIENCE)
