"""The targets of the Makefile that look into a running deployment."""

import re
import subprocess

import pytest
from developer import Developer, developers


@pytest.fixture(scope="module")
def developer():
    return Developer(developers(engine="host", umask="0077", php=False)[0])


def test_logs_follow_a_service(developer):
    command = [str(developer.home / "as"), "make", "logs", "SERVICE=be", f"STACK_DIR={developer.directory}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        lines = first_lines(process.stdout, 3)
        process.terminate()
    services = {re.search(r"([a-z-]+)-[0-9]+ +\|", line)[1] for line in lines}
    assert services == {"be"}


def first_lines(stream, count):
    """Return the first lines that a container has printed; what make itself says is none of them."""
    lines = []
    while len(lines) < count:
        line = stream.readline()
        assert line, f"nothing more after {lines}"
        if "|" in line:
            lines.append(line)
    return lines


@pytest.mark.parametrize(("arguments", "service"), [((), "fe"), (("SERVICE=be",), "be")])
def test_shell_is_opened_in_a_service(developer, arguments, service):
    done = developer.make("shell", *arguments, input="id -u; umask; hostname\n")
    uid, mask, host = done.stdout.split()[-3:]
    assert (uid, mask) == (str(developer.uid), "0077")
    assert host in {item["Config"]["Hostname"] for item in developer.containers(service)}


@pytest.mark.parametrize("name", developers(engine="host", umask="0077"))
def test_number_without_a_name_has_a_home(name):
    developer = Developer(name)
    for tier in ("fe", "be"):
        # Nobody there knows the number, and the home is writable all the same.
        script = 'cd && touch home && ! getent passwd "$(id -u)" && stat --format=%u home'
        assert developer.execute(tier, "sh", "-c", script).stdout == f"{developer.uid}\n"


def test_pip_has_a_place_for_its_cache(developer):
    script = 'folder=$(pip cache dir) && mkdir -p "$folder" && touch "$folder/fetched" && echo "$folder"'
    assert developer.execute("be", "sh", "-c", script).stdout.strip().startswith("/tmp/")  # noqa: S108


def test_client_of_the_database_is_the_application(developer):
    done = developer.make("mysql", input="SELECT CURRENT_USER(), DATABASE();\n")
    assert done.stdout.split()[-2:] == ["app@%", "app"]
