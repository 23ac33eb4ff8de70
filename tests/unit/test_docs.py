"""The pages lead where they say, and quote messages and files that are there."""

import ast
import functools
import re

import promises
import pytest
from stack import PROJECT

README, CONTRIBUTING = "README.md", "CONTRIBUTING.md"
PAGES = sorted([README, CONTRIBUTING, "CHANGELOG.md", *(f"docs/{path.name}" for path in PROJECT.glob("docs/*.md"))])
# What prints messages to people.
PRODUCT = ("library", "module_utils", "plugins", "roles", "playbooks", "bin")
# What a page writes for a name or a number in a message.
ANY = "…"


def text(page):
    """Return a page without its blocks of code."""
    return re.sub(r"^ *```.*?^ *```$", "", (PROJECT / page).read_text(), flags=re.MULTILINE | re.DOTALL)


def links(page):
    """Return where a page leads within the project."""
    found = re.findall(r"\]\(([^)\s]+)\)", text(page))
    return sorted({target for target in found if not re.match(r"https?:", target)})


@pytest.mark.parametrize(("page", "target"), [(page, target) for page in PAGES for target in links(page)])
def test_link_leads_to_a_file_and_a_heading(page, target):
    name, _, anchor = target.partition("#")
    path = ((PROJECT / page).parent / name).resolve() if name else PROJECT / page
    assert path.exists()
    assert path.is_relative_to(PROJECT)
    if anchor:
        assert anchor in promises.anchors(str(path.relative_to(PROJECT)))


def test_readme_is_short_and_lists_every_page():
    assert len((PROJECT / README).read_text().splitlines()) <= 200
    assert set(PAGES) - {README} <= {target.partition("#")[0] for target in links(README)}


def python_texts(source):
    """Return the texts of a program, with a mark for each value that is filled in."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else ANY for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"\{\w+\}", ANY, node.value)


@functools.cache
def messages():
    """Return all texts of the product in one, without line breaks."""
    found = [(PROJECT / "Makefile").read_text()]
    for path in (path for folder in PRODUCT for path in sorted((PROJECT / folder).rglob("*"))):
        if path.suffix == ".py":
            found += python_texts(path.read_text())
        elif path.suffix in (".yml", ".j2", ".sh"):
            # Between braces stand texts as well.
            found += [path.read_text(), re.sub(r"\{\{.*?\}\}|\$\{\w+\}|\$\w+", ANY, path.read_text(), flags=re.DOTALL)]
    return " ".join(" ".join(found).split())


def quoted(page):
    """Return the messages that the first column of the tables of a page quotes."""
    rows = re.findall(r"^\| (`[^|]*) \|", (PROJECT / page).read_text(), re.MULTILINE)
    return [re.match(r"`(.+?)`(?: |$)", row)[1] for row in rows]


def test_messages_are_quoted():
    assert len(quoted("docs/troubleshooting.md")) > 30


@pytest.mark.parametrize("message", quoted("docs/troubleshooting.md"))
def test_message_is_one_of_the_product(message):
    assert message in messages()


def paths(page):
    """Return the files and folders of the checkout that a page names as code."""
    names = re.findall(r"`([\w./{},*-]+)`", text(page))
    first = {path.name for path in PROJECT.iterdir()}
    return sorted({name for name in names if name.partition("/")[0] in first})


@pytest.mark.parametrize("name", paths(CONTRIBUTING))
def test_file_that_contributors_are_told_is_there(name):
    assert list(PROJECT.glob(name.rstrip("/")))
