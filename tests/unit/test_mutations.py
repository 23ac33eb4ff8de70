"""The mutations fit the code that they break."""

import importlib.machinery
import importlib.util
import sys

import promises
import pytest
from stack import PROJECT

GATE = set(promises.gate(promises.load()))


def load():
    """Return the program, whose name has no suffix, as a module."""
    loader = importlib.machinery.SourceFileLoader("mutations", str(PROJECT / "tests/mutations"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("mutations", loader))
    # Its dataclasses look themselves up there.
    sys.modules["mutations"] = module
    loader.exec_module(module)
    return module


@pytest.mark.parametrize("mutation", load().MUTATIONS, ids=lambda mutation: mutation.name)
def test_what_a_mutation_replaces_is_there_once(mutation):
    for name, text, _ in mutation.replacements:
        path = PROJECT / name
        # The inventory of the mutation's own stack is written when it runs.
        assert path.read_text(encoding="utf-8").count(text) == 1 if path.exists() else "mutation/inventory" in name


@pytest.mark.parametrize("mutation", load().MUTATIONS, ids=lambda mutation: mutation.name)
def test_gate_runs_what_notices_a_mutation(mutation):
    function = mutation.test.partition("[")[0]
    assert {function, function.partition("::")[0]} & GATE
