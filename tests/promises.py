"""The promises of README.md and docs/, and the tests that prove them: read, list and check tests/promises.yml."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import yaml

PROJECT = Path(__file__).resolve().parents[1]
LIST = PROJECT / "tests" / "promises.yml"
# Program that breaks the project; a promise may name it beside tests.
MUTATIONS = "tests/mutations"
# Where the tests are of which each function has to be named, and those of which each file has to be.
DEPLOYED, UNIT = "molecule/*/tests/test_*.py", "tests/unit/test_*.py"
# Marker of tests that take too long for the gate.
LONG = "pytest.mark.long"
# The scenarios whose tests of the gate run on the deployment of the scenario gate.
SHARED = ("default", "ha", "reconverge", "recovery", "scale")


@dataclass(frozen=True)
class Promise:
    """A promise: its sentence, the page that makes it, and its tests (a file, or ``file::function``).

    ``gate`` are the cheapest tests that prove it once, ``full`` further ones. ``why`` says why there is no gate,
    ``wants`` which test is missing, for a promise without any.
    """

    says: str
    page: str
    gate: list[str] = field(default_factory=list)
    full: list[str] = field(default_factory=list)
    why: str = ""
    wants: str = ""


def load(path: Path = LIST) -> list[Promise]:
    """Return every promise, those without a test last; a TypeError names a key that is missing or unknown."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [Promise(**entry) for key in ("promises", "unproved") for entry in content.get(key) or []]


def gate(promises: list[Promise]) -> list[str]:
    """Return the tests of the gate, each once, in the order of the list; functions of a file that is named are left out."""
    tests = dict.fromkeys(test for promise in promises for test in promise.gate)
    return [test for test in tests if "::" not in test or test.partition("::")[0] not in tests]


def scenario(test: str) -> str:
    """Return the Molecule scenario of a test, ``unit`` for a unit test, or ``mutations``."""
    parts = test.partition("::")[0].split("/")
    return parts[-3 if parts[0] == "molecule" else -2] if test != MUTATIONS else "mutations"


@cache
def functions(file: str) -> dict[str, bool]:
    """Return the test functions of a file by name, and whether each is marked long whatever its parameters."""
    tree = ast.parse((PROJECT / file).read_text(encoding="utf-8"))
    whole = any(ast.unparse(node) == f"pytestmark = {LONG}" for node in tree.body if isinstance(node, ast.Assign))
    tests = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    return {test.name: whole or any(ast.unparse(mark) == LONG for mark in test.decorator_list) for test in tests}


@cache
def files_with_tests() -> tuple[str, ...]:
    """Return every file with tests, relative to the project."""
    return tuple(sorted(str(path.relative_to(PROJECT)) for glob in (DEPLOYED, UNIT) for path in PROJECT.glob(glob)))


@cache
def anchors(page: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", (PROJECT / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found: Counter[str] = Counter()
    names = set()
    for heading in re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE):
        name = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        names.add(f"{name}-{found[name]}" if found[name] else name)
        found[name] += 1
    return names


def problems_of_page(page: str) -> Iterator[str]:
    """Say what is wrong with the place that a promise names."""
    file, _, anchor = page.partition("#")
    if not re.fullmatch(r"README\.md|docs/[\w-]+\.md", file) or not (PROJECT / file).is_file():
        yield f"{file} is neither README.md nor a page of docs/."
    elif anchor and anchor not in anchors(file):
        yield f"{file} has no heading for #{anchor}."


def problems_of_test(test: str) -> Iterator[str]:
    """Say what is wrong with a test that a promise names."""
    file, _, function = test.partition("::")
    if test != MUTATIONS and file not in files_with_tests():
        yield f"{file} is no file with tests."
    elif test != MUTATIONS and not functions(file):
        yield f"{file} has no test."
    elif function and function not in functions(file):
        yield f"{file} has no test {function}."


def problems(promise: Promise) -> Iterator[str]:
    """Say what is wrong with an entry of the list."""
    if not promise.says or not promise.page:
        yield "says or page is empty."
        return
    yield from problems_of_page(promise.page)
    if promise.wants:
        if promise.gate or promise.full:
            yield "wants says that there is no test, and one is named; move it to promises."
        return
    if bool(promise.gate) == bool(promise.why):
        yield "give gate, or why there is none."
    if not promise.gate and not promise.full:
        yield "no test is named."
    named = [*promise.gate, *promise.full]
    for test, times in Counter(named).items():
        if times > 1:
            yield f"{test} is named twice."
        yield from problems_of_test(test)
    for test in promise.gate:
        file, _, function = test.partition("::")
        if test == MUTATIONS:
            yield f"{test} takes too long for the gate."
        elif not list(problems_of_test(test)):
            long = functions(file)
            if all(long[name] for name in ([function] if function else long)):
                yield f"{test} is marked long, so the gate would run nothing of it."


def unlisted(promises: list[Promise]) -> list[str]:
    """Return test files, and test functions of the Molecule scenarios, that prove no promise."""
    named = {test for promise in promises for test in (*promise.gate, *promise.full)}
    files = {test.partition("::")[0] for test in named}
    missing = [file for file in files_with_tests() if file not in files]
    for file in files_with_tests():
        if file.startswith("molecule/") and file in files - named:
            missing += [f"{file}::{name}" for name in functions(file) if f"{file}::{name}" not in named]
    return missing
