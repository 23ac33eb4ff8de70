"""A deployed stack as tests see it, found by its Compose labels."""

from __future__ import annotations

import http.client
import json
import os
import re
import ssl
import subprocess
import sys
import time
import urllib.parse
from functools import cache, cached_property
from pathlib import Path

import promises
import pytest

PROJECT = Path(__file__).parents[1]


# Set by tests/run: run the tests of the gate alone.
GATE = os.environ.get("TEST_SCOPE") == "gate"
# Scenarios whose tests share the deployment of the gate, in the order in which they run.
ORDER = ("default", "recovery", "reconverge", "ha")


def pytest_configure(config: pytest.Config) -> None:
    """Tell pytest of the marker of tests that the gate leaves out."""
    config.addinivalue_line("markers", "long: left out of the gate (make test), part of make test-all")
    config.addinivalue_line(
        "markers", "shows(*settings): names the settings that a test of the scenario alternative looks at"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, in the gate, what tests/promises.yml does not name as a part of it; what changes most comes last."""
    if not GATE:
        return
    chosen = set(promises.gate(promises.load()))
    kept, left_out = [], []
    for item in items:
        file = str(item.path.resolve().relative_to(PROJECT))
        named = not chosen.isdisjoint((file, f"{file}::{item.originalname}"))
        (kept if named and not item.get_closest_marker("long") else left_out).append(item)
    items[:] = sorted(
        kept, key=lambda item: ORDER.index(scenario) if (scenario := item.path.resolve().parts[-3]) in ORDER else 0
    )
    config.hook.pytest_deselected(items=left_out)


def run(*argv: str, check: bool = True, **options) -> subprocess.CompletedProcess:
    """Run a command and return it with its output as text; tests/run names another project to Docker, which is not meant."""
    if argv[0] == "docker":
        environment = options.pop("env", os.environ)
        options["env"] = {name: value for name, value in environment.items() if not name.startswith("COMPOSE_")}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, **options)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(argv)} exited with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


def wait_until(condition, seconds: float = 60) -> None:
    """Wait until ``condition`` is true; fail after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.1)


def changed(output: str) -> int:
    """Return how many tasks a run of a playbook has changed something with, all hosts together.

    Args:
        output: what the playbook has printed.

    Raises:
        AssertionError: the run has no recap, so it did not come to its end.
    """
    counts = re.findall(r" ok=\d+ +changed=(\d+) ", output.rpartition("PLAY RECAP")[2])
    assert counts, f"the run has no recap:\n{output[-2000:]}"
    return sum(map(int, counts))


@cache
def unverified() -> ssl.SSLContext:
    """Return a context that verifies nothing; made once, because loading the authorities, unused here, takes 20 ms."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Answer:
    """What a request got: status, headers and text."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        """Read the whole response."""
        self.status = response.status
        self.headers = response.headers
        self.text = response.read().decode()

    def element(self, name: str) -> str:
        """Return the text of the element with this id, or nothing."""
        match = re.search(rf'id="{name}"[^>]*>([^<]*)<', self.text)
        return match[1].strip() if match else ""


class Stack:
    """One deployment of the project."""

    def __init__(self, name: str, inventories: list[Path]) -> None:
        """Look at the deployment called ``name`` with the settings of some inventories, the last one winning."""
        self.name = name
        self.inventories = [f"--inventory={path}" for path in inventories]

    @cached_property
    def settings(self) -> dict:
        """Every variable of the deployment, as it is written in group_vars and inventory: templates stay templates."""
        command = str(Path(sys.executable).with_name("ansible-inventory"))
        hosts = json.loads(run(command, *self.inventories, "--list").stdout)["_meta"]["hostvars"]
        return next(iter(hosts.values()))

    def text(self, setting: str) -> str:
        """Return a setting whose only template may be the name of the stack."""
        return re.sub(r"{{ *stack_name *}}", self.name, self.settings[setting])

    @cached_property
    def directory(self) -> Path:
        """Where the rendered files are."""
        return Path(self.text("stack_dir")).expanduser()

    @cached_property
    def address(self) -> str:
        """The address at which the application is published."""
        return self.model["services"]["fe-lb"]["ports"][0]["host_ip"]

    def docker(self, *argv: str, check: bool = True, **options) -> subprocess.CompletedProcess:
        """Run Docker's client on the machine that the stack is deployed to."""
        node = ()
        if self.settings.get("ansible_connection") == "community.docker.docker":
            node = ("docker", "exec", self.settings["ansible_host"])
        return run(*node, "docker", *argv, check=check, **options)

    @property
    def model(self) -> dict:
        """The rendered Compose file as Compose understands it."""
        file = str(self.directory / "docker-compose.yml")
        return json.loads(self.docker("compose", "--file", file, "config", "--format", "json").stdout)

    def containers(self, service: str = "") -> list[dict]:
        """Return what the engine knows of the containers, of one service or of all."""
        labels = [f"--filter=label=com.docker.compose.project={self.name}"]
        if service:
            labels.append(f"--filter=label=com.docker.compose.service={service}")
        ids = self.docker("ps", "--all", "--quiet", "--no-trunc", *labels).stdout.split()
        return json.loads(self.docker("inspect", *ids).stdout) if ids else []

    def ids(self) -> dict[str, str]:
        """Return the id of every container by its name."""
        return {item["Name"].lstrip("/"): item["Id"] for item in self.containers()}

    def container(self, service: str) -> str:
        """Return the id of one container of a service."""
        return self.containers(service)[0]["Id"]

    def execute(self, service: str, *argv: str, check: bool = True) -> subprocess.CompletedProcess:
        """Run a command in a container of a service."""
        return self.docker("exec", self.container(service), *argv, check=check)

    def mysql(self, statement: str, user: str = "root") -> str:
        """Return what MySQL answers to a statement of root or of the application's account."""
        secret = "database_root_password" if user == "root" else "database_password"
        script = f'MYSQL_PWD=$(cat /run/secrets/{secret}) exec mysql -N -u "$0" -e "$1"'
        return self.execute("db", "bash", "-c", script, user, statement).stdout

    def playbook(
        self,
        name: str,
        *arguments: str,
        check: bool = True,
        environment: dict[str, str] | None = None,
        before: tuple[str, ...] = (),
    ) -> subprocess.CompletedProcess:
        """Run a playbook of the project against this deployment; ``before`` it stands a command that runs it."""
        command = [*before, str(Path(sys.executable).with_name("ansible-playbook")), *self.inventories]
        settings = {"ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"}
        everything = {**os.environ, **settings, **(environment or {})}
        return run(*command, str(PROJECT / "playbooks" / name), *arguments, check=check, env=everything)

    def another(self, name: str) -> dict:
        """Return settings of another stack, which needs none of the address ranges of the engine."""
        subnets = {network: f"10.213.{40 + n // 4}.{n % 4 * 64}/26" for n, network in enumerate(self.model["networks"])}
        return {"stack_name": name, "http_port": 18999, "https_port": 18998, "network_subnets": subnets}

    def port(self, scheme: str) -> int:
        """Return the published port of http, https, Prometheus or the console."""
        edge = {"http": ("fe-lb", 8080), "https": ("fe-lb", 8443)}
        service, target = {**edge, "prometheus": ("prometheus", 9090), "console": ("console", 9091)}[scheme]
        return next(int(p["published"]) for p in self.model["services"][service]["ports"] if p["target"] == target)

    def query(self, expression: str) -> list[dict]:
        """Return the series that Prometheus has for an expression: labels (metric) and time with value (value)."""
        parameters = urllib.parse.urlencode({"query": expression})
        connection = http.client.HTTPConnection("127.0.0.1", self.port("prometheus"), timeout=10)
        try:
            connection.request("GET", f"/api/v1/query?{parameters}")
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        assert answer["status"] == "success", f"{expression}: {answer.get('error')}"
        return answer["data"]["result"]

    def values(self, expression: str, label: str = "name") -> dict[str, float]:
        """Return what Prometheus has for an expression, by a label."""
        return {series["metric"].get(label, ""): float(series["value"][1]) for series in self.query(expression)}

    def request(
        self, method: str = "GET", path: str = "/", scheme: str = "http", port: int = 0, timeout: float = 10, **options
    ) -> Answer:
        """Send one request to the edge on a connection of its own; the certificate is not verified; timeout in seconds."""
        arguments: tuple = (self.address, port or self.port(scheme))
        if scheme == "https":
            connection = http.client.HTTPSConnection(*arguments, timeout=timeout, context=unverified())
        else:
            connection = http.client.HTTPConnection(*arguments, timeout=timeout)
        try:
            connection.request(method, path, **options)
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def post_user(self, name: str, email: str, **options) -> Answer:
        """Send the form of the sample."""
        body = urllib.parse.urlencode({"name": name, "email": email})
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.request("POST", "/users", body=body, headers=headers, **options)

    def names(self, element: str, requests: int) -> set[str]:
        """Return the host names that an element of the page shows in so many requests."""
        port = self.port("http")
        return {self.request(port=port).element(element) for _ in range(requests)}


def current() -> Stack:
    """Return the deployment of the Molecule scenario that is running."""
    scenario = os.environ["MOLECULE_SCENARIO_NAME"]
    own = PROJECT / "molecule" / scenario / "inventory"
    # Settings that go with an inventory of its own stand for another machine than this one.
    shared = [] if (own / "group_vars").exists() else [PROJECT / "molecule/shared/inventory/hosts.yml"]
    return Stack(f"webstack-test-{scenario}", shared + [path for path in (own / "hosts.yml",) if path.exists()])


@pytest.fixture(scope="session", name="stack")
def deployment() -> Stack:
    """Hand tests the deployment; this module is their plugin."""
    return current()
