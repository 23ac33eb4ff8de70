"""Tell how a value stands in its file, because YAML reads NO, 0755, 1.10 and 12:30:45 as something else.

For the controller: Ansible notes with each key and value which line it comes from.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable
from typing import Any

import yaml


class Sources:
    """The files and the options of the command line that settings come from.

    Args:
        read: returns the text of a file, decrypted where a vault protects it.
        options: what was given with ``-e``.
    """

    def __init__(self, read: Callable[[str], str], options: Iterable[str] = ()) -> None:
        self._read = read
        # Of the very type: YAML's fast reader takes no string that Ansible has marked.
        self._options = [str(option) for option in options]
        self._scalars: dict[str | None, list[dict[tuple[int, int], str]]] = {}

    def written(self, value: Any, key: Any = None) -> str | None:
        """Return the text that was read as this value of a dictionary's ``key``; None if that is not known."""
        # true, false and nothing are there once in Python, so only their key can bear a place.
        for marked in (value, key):
            origin = _origin(marked)
            if origin is None or origin.line_num is None:
                continue
            for scalars in self._texts(origin.path):
                text = scalars.get((origin.line_num, origin.col_num))
                if text is not None and marked is key:
                    text = scalars.get((-origin.line_num, origin.col_num))
                if text is not None and _same(text, value):
                    return text
        return None

    def _texts(self, path: str | None) -> list[dict[tuple[int, int], str]]:
        """Return the unquoted scalars of a file, or of each option of the command line."""
        if path not in self._scalars:
            texts = [option for option in self._options if not option.startswith("@")]
            if path:
                try:
                    texts = [self._read(path)]
                except Exception:  # Whatever stands in the way of reading it again: then it is not known.
                    texts = []
            self._scalars[path] = [_scalars(text) for text in texts]
        return self._scalars[path]


def _compose(text: str) -> yaml.Node | None:
    """Return the root of a YAML text, as Ansible reads it.

    Raises:
        yaml.YAMLError: it is none.
    """
    with contextlib.suppress(ValueError):
        # JSON is taken first, which may have tabs.
        text = json.dumps(json.loads(text))
    return yaml.compose(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def yaml_problem(name: str, text: str, mapping: bool = False) -> str:
    """Return why a text is no YAML, with name and line; nothing if it is.

    Args:
        name: of its file, or of the option that gives it.
        text: to read.
        mapping: whether it has to be a dictionary.
    """
    try:
        root = _compose(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        begun = error.context_mark
        reason = " ".join(part for part in (error.context, error.problem) if part)
        # What has begun lines above is where the mistake is: a quote, a bracket.
        since = f" (begun in line {begun.line + 1})" if begun and mark and begun.line != mark.line else ""
        return f"{name}, line {mark.line + 1 if mark else 1}: this is no YAML: {reason}{since}; correct it."
    except yaml.YAMLError as error:
        return f"{name}: this is no YAML: {' '.join(str(error).split())}; correct it."
    if mapping and not isinstance(root, yaml.MappingNode) and not text.startswith("$ANSIBLE_VAULT;"):
        return f"{name}: variables are a dictionary; write them as name: value."
    return ""


def _origin(value: Any) -> Any:
    """Return what Ansible noted of where a value comes from, or None."""
    try:
        from ansible._internal._datatag._tags import Origin
    except ImportError:
        return None
    return Origin.get_tag(value)


def _same(text: str, value: Any) -> bool:
    """Tell whether YAML reads a text as this value."""
    try:
        read = yaml.safe_load(text)
    except yaml.YAMLError:
        return False
    return read == value and isinstance(read, bool) == isinstance(value, bool)


def _scalars(text: str) -> dict[tuple[int, int], str]:
    """Return the unquoted scalars of a YAML text by line and column, from 1; those of keys have their value under -line."""
    found: dict[tuple[int, int], str] = {}
    try:
        root = _compose(text)
    except yaml.YAMLError:
        return found
    seen, rest = set(), [root]
    while rest:
        node = rest.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        place = (node.start_mark.line + 1, node.start_mark.column + 1)
        if isinstance(node, yaml.ScalarNode) and not node.style:
            found[place] = node.value
        elif isinstance(node, yaml.SequenceNode):
            rest += node.value
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                rest += [key, value]
                if isinstance(value, yaml.ScalarNode) and not value.style:
                    line, column = key.start_mark.line + 1, key.start_mark.column + 1
                    found.setdefault((line, column), "")
                    found[(-line, column)] = value.value
    return found
