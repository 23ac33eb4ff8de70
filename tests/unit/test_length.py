"""Files are short enough to be held in the head, and programs are written in Python, where they have tests."""

import jinja2
import pytest
import yaml
from stack import PROJECT

FOLDERS = ("bin", "files", "group_vars", "inventory", "library", "module_utils", "playbooks", "plugins", "roles")
PRODUCT = [
    PROJECT / "docker-compose.yml.j2",
    *(path for folder in FOLDERS for path in sorted((PROJECT / folder).rglob("*")) if path.is_file()),
]
# What others than Ansible read may have templates of their own.
ANSIBLE = [path for path in PRODUCT if path.suffix == ".yml" and not {"files", "templates"} & set(path.parts)]
CONDITIONS = {"changed_when", "failed_when", "that", "until", "when"}
LINES, EXPRESSION = 450, 3


def lines(path):
    """Return the number of lines of a file; 0 of one that is no text."""
    try:
        return len(path.read_text(encoding="utf-8").splitlines())
    except UnicodeDecodeError:
        return 0


def scalars(node, key=""):
    """Yield each scalar of a document with the key that it stands under."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            yield from scalars(value, name.value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from scalars(value, key)
    elif node is not None:
        yield key, node


def too_long(text):
    """Yield the line where each expression of Jinja begins that is too long, or is a program.

    Statements belong to texts, which are literal blocks (``|``); what a folded block or a quoted text computes with them is
    a program, however short.
    """
    for key, node in (item for document in yaml.compose_all(text, yaml.BaseLoader) for item in scalars(document)):
        source = text[node.start_mark.index : node.end_mark.index].rstrip()
        begin = node.start_mark.line + 1
        if "{%" in node.value and node.style != "|":
            yield begin
        if key in CONDITIONS and "{{" not in node.value:
            height = len(source.splitlines()) - (node.style in (">", "|"))
            if height > EXPRESSION:
                yield begin
        elif len(source.splitlines()) > EXPRESSION:
            starts = {}
            for line, kind, _ in jinja2.Environment(autoescape=True).lex(source):
                kind, _, edge = kind.rpartition("_")
                starts[kind, edge] = line
                if edge == "end" and kind in ("variable", "block") and line - starts[kind, "begin"] >= EXPRESSION:
                    yield begin + starts[kind, "begin"] - 1


def test_what_is_looked_at_is_there():
    assert len(PRODUCT) > 200
    assert len(ANSIBLE) > 80


def test_no_file_is_longer_than_a_person_holds_in_the_head():
    assert {str(path.relative_to(PROJECT)): lines(path) for path in PRODUCT if lines(path) > LINES} == {}


@pytest.mark.parametrize("path", ANSIBLE, ids=lambda path: str(path.relative_to(PROJECT)))
def test_long_expressions_and_programs_are_filters(path):
    assert list(too_long(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a: '{{ b }}'\n", []),
        ("a: >-\n  {{ b\n     | c\n     | d }}\n", []),
        ("a: >-\n  {{ b\n     | c\n     | d\n     | e }}\n", [2]),
        ('a: "{{ b\n  | c\n  | d\n  | e }}"\n', [1]),
        # Braces in it do not end it.
        ("a: >-\n  {{ {'b': {'c': 1}}\n     | c\n     | d\n     | e }}\n", [2]),
        # Many short ones are a text.
        ("a: |\n  {{ b }}\n  {{ c }}\n  {{ d }}\n  {% if e %}\n  {{ f }}\n  {% endif %}\n", []),
        ("a: |\n  text\n  {{ b\n   | c\n   | d\n   | e }}\n", [3]),
        ("a: >-\n  {%- set b = [] -%}{{ b }}\n", [1]),
        ("- when: >-\n    a\n    and b\n    and c\n    and d\n", [1]),
        ("- when: >-\n    a\n    and b\n    and c\n", []),
        ("- when:\n    - a\n    - b\n    - c\n    - d\n", []),
    ],
)
def test_what_is_too_long_is_found(text, found):
    assert list(too_long(text)) == found
