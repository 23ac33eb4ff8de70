"""What a person reads of a build or a task that has failed, and of how long something took."""

import datetime

import pytest
import stack_failure
import yaml
from hypothesis import given
from hypothesis import strategies as st
from images_filters import FilterModule
from stack import PROJECT

HEAD = "#0 building with default\n#1 [internal] load build definition from Dockerfile\n#1 DONE 0.0s\n"
RUN = '#7 ERROR: process "/bin/sh -c {0}" did not complete: exit code: {1}\n------\n > [2/3] RUN {0}:\n{2}------\n'
EXCERPT = "Dockerfile:{0}\n-----\n   1 |     FROM x\n{1}-----\n"
SOLVE = "ERROR: failed to solve: "


def build(command, code, said, line=4):
    """Return what BuildKit 0.13 prints of a command that fails, shortened."""
    failed = f'process "/bin/sh -c {command}" did not complete successfully: exit code: {code}'
    excerpt = EXCERPT.format(line, f"   {line} | >>> RUN {command}\n")
    return HEAD + RUN.format(command, code, said) + excerpt + f"{SOLVE}{failed}\n"


PIP = "1.1 Looking in indexes: x\n1.2 ERROR: Could not find a version\n1.2 ERROR: No matching distribution found for a==1\n"


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (
            build("pip install a==1", 1, PIP),
            "at line 4 of its Dockerfile (RUN pip install a==1): No matching distribution found for a==1.",
        ),
        (build("apt-get install x", 100, "0.2 E: Unable to locate package x\n"), "): Unable to locate package x."),
        (build("npm ci", 1, "2.0 npm ERR! code ENOENT\n2.1 npm ERR! no package.json\n"), "): no package.json."),
        (build("make", 2, "0.3 main.c:1: nothing\n"), "(RUN make): the command ended with exit code 2."),
        (
            build("cc", 137, ""),
            "exit code 137, which means that it was killed, most likely because the host has no memory left.",
        ),
        (
            HEAD
            + EXCERPT.format(2, "   2 | >>> RUNN true\n")
            + f"{SOLVE}dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)\n",
            "at line 2 of its Dockerfile (RUNN true): unknown instruction: RUNN (did you mean RUN?).",
        ),
        (
            HEAD
            + "------\n > [2/2] COPY nope.txt .:\n------\n"
            + EXCERPT.format(3, "   3 | >>> COPY nope.txt .\n")
            + f'{SOLVE}failed to compute cache key: failed to calculate checksum of ref a::b: "/nope.txt": not found\n',
            "at line 3 of its Dockerfile (COPY nope.txt .): nope.txt is not in data/fe, or its .dockerignore leaves it out.",
        ),
        (HEAD + f"{SOLVE}the Dockerfile cannot be empty\n", "could not be built: the Dockerfile cannot be empty."),
        ("docker: Cannot connect to the Docker daemon", "could not be built: docker: Cannot connect to the Docker daemon."),
        ("", "could not be built: no reason given."),
    ],
)
def test_build_that_fails_names_its_setting_the_line_and_the_reason_last(output, said):
    lines = stack_failure.build_problem("fe_source", "data/fe", output).splitlines()
    assert lines[-1].startswith("fe_source: the image of data/fe could not be built")
    assert lines[-1].endswith(said)
    assert all(line.startswith("  ") for line in lines[:-1])
    assert len(lines) <= stack_failure.LINES + 1


def test_what_a_command_has_said_stands_above_its_reason():
    said = "".join(f"0.1 line {number}\n" for number in range(40))
    lines = stack_failure.build_problem("be_source", "data/be", build("x", 1, said)).splitlines()
    assert lines[:-1] == [f"  line {number}" for number in range(28, 40)]


def test_sources_of_the_user_are_named_by_their_setting():
    applications = {"fe": {"image": "", "source": "data/fe"}, "be": {"image": "", "source": "data/be"}}
    names = FilterModule().filters()["image_names"](
        {"python": {"official": "a", "debian": "b"}}, applications, "", "p", "s", PROJECT
    )
    assert [names[tier]["setting"] for tier in ("fe", "be")] == ["fe_source", "be_source"]


@given(st.timedeltas(min_value=datetime.timedelta(), max_value=datetime.timedelta(days=400)))
def test_durations_of_ansible_are_told_in_seconds_whatever_their_length(duration):
    assert stack_failure.seconds(str(duration)) == f"{duration.total_seconds():.1f} s"
    assert stack_failure.seconds(duration.total_seconds()) == f"{duration.total_seconds():.1f} s"


def test_every_duration_of_a_task_goes_through_the_one_function():
    places = [
        (path, line)
        for folder in ("roles", "playbooks")
        for path in sorted((PROJECT / folder).glob("**/*.yml"))
        for line in path.read_text().splitlines()
        if ".delta" in line or "now().timestamp() -" in line
    ]
    assert len(places) == 4
    assert [line for _, line in places if "| told_seconds }}" not in line] == []


def test_task_that_fails_says_why_at_last():
    said = stack_failure.summary("Read it", {"msg": "non-zero return code", "rc": 3, "stderr": "a\n\nb\n", "stdout": "c"})
    assert said.splitlines()[:3] == ["  c", "  a", "  b"]
    assert said.splitlines()[-1] == "Read it failed: it ended with exit code 3. Run it again with -v to see all of it."


def test_a_build_is_refused_by_its_own_task():
    tasks = yaml.safe_load((PROJECT / "roles/images/tasks/build.yml").read_text())
    build, refuse = (next(task for task in tasks if key in task) for key in ("register", "ansible.builtin.fail"))
    # Else Ansible would print the whole result of the module first.
    assert [task.get("failed_when") for task in tasks if "community.docker.docker_image_build" in task] == [False]
    assert "build_problem" in refuse["ansible.builtin.fail"]["msg"]
    assert build
