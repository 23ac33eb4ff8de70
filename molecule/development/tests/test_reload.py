"""Saved code is served by every replica in place, without a lost request, and a fault shows until it is mended."""

import json
import statistics
import subprocess

import pytest
from developer import Developer, developers
from ha import Load
from stack import GATE, wait_until

TIMES = 4 if GATE else 10
# Seconds.
LIMIT = 2
# Seconds that code may need to be loaded, and be waited for.
LONG = 4
# Prints the seconds that a new process needs until it has loaded the code.
LOADING = "import time; begin = time.time(); import app.develop; print(time.time() - begin)"
# Prints a line when it begins to ask, and the time at which the answer is the wanted one.
WATCH = """import sys, time, urllib.request as http
print("asking", flush=True)
while True:
    try:
        if http.urlopen(sys.argv[1], timeout=5).read().decode() == sys.argv[2]:
            break
    except OSError:
        pass
    time.sleep(0.01)
print(time.time())"""
ROUTES = {
    "fe": '\n\napp.router.routes.append(Route("/version", lambda request: Response("%s")))\n',
    "be": '\n\n@app.get("/version")\ndef version() -> None:\n    from fastapi.responses import PlainTextResponse\n\n'
    '    return PlainTextResponse("%s")\n',
}


@pytest.fixture(scope="module")
def developer():
    return Developer(developers(engine="host", php=False)[0])


@pytest.fixture
def main(developer, tier):
    """Hand over file and text of a tier's code; what a test saves there is taken back."""
    path = developer.code[tier] / "app/main.py"
    text = developer.read(path)
    yield path, text
    developer.write(path, text)
    wait_until(lambda: developer.request().status == 200)


def save(developer, tier, path, text, version):
    """Save code that answers with a version; return after how many seconds each replica has served it."""
    watchers = []
    for container in developer.containers(tier):
        network = {"fe": "frontend", "be": "backend"}[tier]
        address = container["NetworkSettings"]["Networks"][f"{developer.name}_{network}"]["IPAddress"]
        command = ["docker", "exec", container["Id"], "python", "-c", WATCH, f"http://{address}:8000/version", version]
        watchers.append(subprocess.Popen([str(developer.home / "as"), *command], stdout=subprocess.PIPE, text=True))
    for watcher in watchers:
        assert watcher.stdout.readline() == "asking\n"
    # The time of the save is that of the file.
    developer.write(path, text + ROUTES[tier] % version)
    saved = path.stat().st_mtime
    return [float(watcher.communicate(timeout=60)[0]) - saved for watcher in watchers]


def load(developer, tier):
    """Load the code in a new process of every replica at once; return the seconds of the slowest."""
    command = [str(developer.home / "as"), "docker", "exec"]
    replicas = [[*command, item["Id"], "python", "-c", LOADING] for item in developer.containers(tier)]
    processes = [subprocess.Popen(replica, stdout=subprocess.PIPE, text=True) for replica in replicas]
    return max(float(process.communicate(timeout=60)[0]) for process in processes)


@pytest.mark.parametrize("tier", ["fe", "be"])
def test_saved_code_is_served_by_every_replica_and_no_request_is_lost(developer, tier, main, capsys):
    started = {item["Id"]: item["State"]["StartedAt"] for item in developer.containers(tier)}
    with Load(developer, rate=20) as requests, requests.event("saves") as window:
        # In turn, as how fast the machine is may change.
        pairs = [(max(save(developer, tier, *main, f"{tier} {number}")), load(developer, tier)) for number in range(TIMES)]
    seconds, loading = zip(*pairs, strict=True)
    with capsys.disabled():
        print(f"\n{tier}: a save is served by all after {statistics.median(seconds):.2f} s (median of {TIMES}),", end=" ")
        print(f"worst {max(seconds):.2f} s, code is loaded in {statistics.median(loading):.2f} s;", window.describe())
    assert max(seconds) < LIMIT
    if tier == "be":
        # Most of that is libraries, which are not loaded again.
        assert statistics.median(seconds) < statistics.median(loading)
    assert not window.failed, window.describe()
    assert {item["Id"]: item["State"]["StartedAt"] for item in developer.containers(tier)} == started


@pytest.mark.parametrize("tier", ["fe", "be"])
def test_code_that_takes_long_to_load_is_waited_for(developer, tier, main):
    path, text = main
    with Load(developer, rate=20) as requests, requests.event("save") as window:
        slow = f"import time\n\ntime.sleep({LONG})\n{text}"
        seconds = save(developer, tier, path, slow, f"{tier} slow")
    assert min(seconds) > LONG
    assert not window.failed, window.describe()


@pytest.mark.parametrize("tier", ["fe", "be"])
def test_file_that_is_written_in_two_steps_shows_no_fault(developer, tier, main):
    path, text = main
    with Load(developer, rate=20) as requests, requests.event("save") as window:
        # Half of it stays for longer than changes are collected before the code is loaded.
        script = 'printf %s "$1" >"$0"; sleep 0.2; cat >>"$0"'
        developer.run("sh", "-c", script, str(path), text[: len(text) // 2], input=text[len(text) // 2 :])
    assert developer.read(path) == text
    assert not window.failed, window.describe()


@pytest.mark.parametrize("tier", ["fe", "be"])
def test_code_that_is_never_loaded_is_given_up_for_what_is_saved_next(developer, tier, main):
    path, text = main
    replicas = [item["Id"] for item in developer.containers(tier)]

    def processes():
        return [developer.docker("top", replica).stdout.count("forkserver") for replica in replicas]

    before = processes()
    developer.write(path, f'import time\n\nprint("loading for ever", flush=True)\ntime.sleep(3600)\n{text}')
    wait_until(lambda: all("loading for ever" in developer.docker("logs", replica).stdout for replica in replicas))
    assert max(save(developer, tier, path, text, f"{tier} again")) < LIMIT
    wait_until(lambda: processes() == before)


@pytest.mark.parametrize("tier", ["fe", "be"])
def test_fault_shows_until_it_is_mended(developer, tier, main):
    path, text = main
    developer.write(path, text + "\ndef broken(:\n")
    wait_until(lambda: "invalid syntax" in developer.request(headers={"Accept": "text/html"}).text, LIMIT)
    page = developer.request(headers={"Accept": "text/html"})
    assert page.status == 500
    if tier == "fe":
        # With file and line, for who has to mend it.
        assert "app/main.py" in page.text
        assert "def broken(:" in page.text
    log = developer.run("docker", "logs", "--tail", "30", developer.container(tier))
    assert "SyntaxError" in log.stdout + log.stderr
    assert {item["State"]["Status"] for item in developer.containers(tier)} == {"running"}
    developer.write(path, text)
    wait_until(lambda: all(developer.request().status == 200 for _ in range(4)), LIMIT)


@pytest.mark.parametrize("tier", ["fe"])
def test_template_is_read_each_time(developer, tier):
    path = developer.code[tier] / "app/templates/index.html"
    text = developer.read(path)
    developer.write(path, text.replace("<main", "<!-- edited --><main", 1))
    try:
        wait_until(lambda: all("<!-- edited -->" in developer.request().text for _ in range(4)), LIMIT)
    finally:
        developer.write(path, text)


def test_fault_is_told_to_programs_as_json(developer):
    path = developer.code["fe"] / "app/main.py"
    text = developer.read(path)
    developer.write(path, text + "\nraise RuntimeError('for the test')\n")
    try:
        wait_until(lambda: developer.request().status == 500, LIMIT)
        assert json.loads(developer.request().text) == {"error": "RuntimeError: for the test"}
    finally:
        developer.write(path, text)
        wait_until(lambda: developer.request().status == 200)
