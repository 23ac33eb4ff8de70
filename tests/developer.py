"""Deployments of the scenario ``development``, each with its user, as tests see them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import yaml
from stack import PROJECT, Stack, run, wait_until

# As in molecule.yml: which users there are.
FILE = PROJECT / "molecule/development/inventory" / os.environ.get("DEVELOPMENT_INVENTORY", "hosts.yml")
INVENTORY = yaml.safe_load(FILE.read_text())["all"]["hosts"]["localhost"]
FILES = PROJECT / "molecule/development/files"
ROOT = Path(INVENTORY["development_root"])
# What performs the steps of operations.py in each tier of the sample, added to its code.
ROUTES = {
    "fe": """

async def operate(request):
    from app.operations import perform

    return JSONResponse(perform(await request.json(), HERE.parent))


app.router.routes.append(Route("/operations", operate, methods=["POST"]))
""",
    "be": """

@app.post("/operations")
def operate(steps: list[list[str]]) -> list:
    from pathlib import Path

    from app.operations import perform

    return perform(steps, Path(__file__).parents[1])
""",
}
# Sends its standard input to the service in its own container and prints the answer, in the language that is there.
ASK_PYTHON = """import sys, urllib.request as http
request = http.Request(sys.argv[1], sys.stdin.buffer.read(), {"Content-Type": "application/json"})
print(http.urlopen(request).read().decode())"""
ASK_PHP = """$options = ["method" => "POST", "content" => file_get_contents("php://stdin"), "ignore_errors" => true];
echo file_get_contents($argv[1], false, stream_context_create(["http" => $options]));"""


def as_root(*argv: str, **options) -> subprocess.CompletedProcess:
    """Run a command as root."""
    become = () if os.getuid() == 0 else ("sudo", "--non-interactive")
    return run(*become, *argv, **options)


def developers(**properties) -> list[str]:
    """Return the names of the developers that have these properties in the inventory, such as ``engine="host"``."""
    return [entry["name"] for entry in INVENTORY["developers"] if properties.items() <= entry.items()]


class Developer(Stack):
    """A user with a checkout and a deployment of it."""

    def __init__(self, name: str) -> None:
        """Look at the deployment of the developer called ``name``."""
        super().__init__(f"webstack-test-development-{name}", [])
        entry = next(entry for entry in INVENTORY["developers"] if entry["name"] == name)
        self.php, self.engine, self.uid = entry["php"], entry["engine"], entry["uid"]
        self.user, self.home = f"webstack-{name}", ROOT / name
        self.checkout = self.home / "webstack"
        self.directory = self.home / ".local/share" / self.name
        self.address = "127.0.0.1"
        self.settings = {}
        # Where the code of a tier is, in the checkout and for the operations.
        parts = ("docs/examples/php/front", "docs/examples/php/back") if self.php else ("data/fe", "data/be")
        self.code = {tier: self.checkout / part for tier, part in zip(("fe", "be"), parts, strict=True)}

    def run(self, *argv: str, check: bool = True, **options) -> subprocess.CompletedProcess:
        """Run a command in the checkout, as the developer."""
        return as_root(str(self.home / "as"), *argv, check=check, **options)

    def make(self, *goals: str, arguments: str = "", check: bool = True, **options) -> subprocess.CompletedProcess:
        """Run make with the developer's settings and further arguments of the playbook."""
        example = "-e @docs/examples/php/settings.yml " if self.php else ""
        venv = (ROOT / "venv").read_text()
        arguments = f"ARGS={example}-e @{self.home}/settings.yml {arguments}"
        return self.run(
            "env", "ANSIBLE_FORCE_COLOR=0", "make", *goals, f"VENV={venv}", arguments, check=check, **options,
        )  # fmt: skip

    def docker(self, *argv: str, check: bool = True, **options) -> subprocess.CompletedProcess:
        """Run Docker's client as the developer."""
        return self.run("docker", *argv, check=check, **options)

    def write(self, path: Path, text: str) -> None:
        """Save a file, as an editor of the developer does."""
        self.run("sh", "-c", 'cat >"$0"', str(path), input=text)

    def read(self, path: Path) -> str:
        """Return the content of a file."""
        return self.run("cat", str(path)).stdout

    def on_host(self, tier: str, steps: list) -> list:
        """Perform steps of ``operations.py`` in the code of a tier, as the developer."""
        program = (FILES / "operations.py").read_text()
        return json.loads(self.run("python3", "-c", program, str(self.code[tier]), input=json.dumps(steps)).stdout)

    def in_service(self, tier: str, steps: list, replica: int = 0) -> list:
        """Let the process that serves a tier perform steps."""
        container = sorted(self.containers(tier), key=lambda item: item["Name"])[replica]
        if self.php:
            command = ["php", "-r", ASK_PHP, "--", "http://127.0.0.1/operations.php"]
        else:
            network = {"fe": "frontend", "be": "backend"}[tier]
            address = container["NetworkSettings"]["Networks"][f"{self.name}_{network}"]["IPAddress"]
            command = ["python", "-c", ASK_PYTHON, f"http://{address}:8000/operations"]
        return json.loads(self.docker("exec", "-i", container["Id"], *command, input=json.dumps(steps)).stdout)

    def serves(self, tier: str) -> bool:
        """Tell whether every replica of a tier performs steps."""
        replicas = range(len(self.containers(tier)))
        try:
            return bool(replicas) and all(self.in_service(tier, [["whoami", "", ""]], replica) for replica in replicas)
        except (AssertionError, ValueError):
            return False

    def add_operations(self) -> None:
        """Give both tiers the route that performs steps, as somebody does who writes an application."""
        for tier, code in self.code.items():
            if self.php:
                self.write(code / "operations.php", (FILES / "operations.php").read_text())
            else:
                self.write(code / "app/operations.py", (FILES / "operations.py").read_text())
                main = self.read(code / "app/main.py")
                if "operations" not in main:
                    self.write(code / "app/main.py", main + ROUTES[tier])
            wait_until(lambda tier=tier: self.serves(tier))

    def restart(self) -> None:
        """Start all replicas again and wait until they serve."""
        self.docker("restart", *(item["Id"] for tier in ("fe", "be") for item in self.containers(tier)))
        for tier in ("fe", "be"):
            wait_until(lambda tier=tier: self.serves(tier))


DEVELOPERS = developers()
