"""What runs on hosts runs there: nothing of it is newer than the oldest Python that docs/operations.md names."""

import ast
import re

import pytest
from stack import PROJECT

OLDEST = (3, 9)
# What came later, from "What's New" of Python 3.10 to 3.14, as far as a name or an argument tells it.
MODULES = {"tomllib", "annotationlib", "compression", "concurrent.interpreters", "string.templatelib"}
NAMES = {
    "datetime.UTC",
    "enum.StrEnum",
    "enum.ReprEnum",
    "itertools.pairwise",
    "itertools.batched",
    "contextlib.chdir",
    "contextlib.aclosing",
    "contextlib.nullcontext.__aenter__",
    "hashlib.file_digest",
    "operator.call",
    "math.cbrt",
    "math.exp2",
    "math.sumprod",
    "inspect.get_annotations",
    "warnings.deprecated",
    "typing.Self",
    "typing.Never",
    "typing.TypeAlias",
    "typing.ParamSpec",
    "typing.TypeGuard",
    "typing.assert_never",
    "typing.override",
    "types.NoneType",
    "types.UnionType",
    "sys.orig_argv",
    "sys.exception",
    "asyncio.TaskGroup",
    "asyncio.timeout",
    "asyncio.Runner",
    "os.process_cpu_count",
    "shutil.rmtree.onexc",
    "statistics.correlation",
    "random.binomialvariate",
}
BUILTINS = {"aiter", "anext", "ExceptionGroup", "BaseExceptionGroup", "EncodingWarning", "PythonFinalizationError"}
METHODS = {"hardlink_to", "bit_count", "add_note", "with_segments", "full_match", "is_junction", "copy_into", "from_uri"}
ARGUMENTS = {
    "zip": {"strict"},
    "map": {"strict"},
    "dataclass": {"slots", "kw_only", "match_args", "weakref_slot"},
    "field": {"kw_only", "doc"},
    "rmtree": {"onexc"},
    "bisect": {"key"},
    "bisect_left": {"key"},
    "bisect_right": {"key"},
    "insort": {"key"},
    "stat": {"follow_symlinks"},
    "chmod": {"follow_symlinks"},
    "exists": {"follow_symlinks"},
    "is_dir": {"follow_symlinks"},
    "is_file": {"follow_symlinks"},
    "glob": {"case_sensitive", "root_dir", "include_hidden", "recurse_symlinks"},
    "rglob": {"case_sensitive", "recurse_symlinks"},
    "relative_to": {"walk_up"},
    "read_text": {"newline"},
    "write_text": {"newline"},
    "NamedTemporaryFile": {"delete_on_close"},
    "TemporaryDirectory": {"delete", "ignore_cleanup_errors"},
    "Popen": {"process_group"},
    "run": {"process_group"},
}


def words(node):
    """Return a dotted name as it is written, or nothing."""
    return ast.unparse(node) if isinstance(node, (ast.Name, ast.Attribute)) else ""


def types(node):
    """Tell whether an expression reads as types that are joined: ``int | None``, ``dict[str, int] | str``."""
    known = {"int", "str", "bytes", "float", "bool", "dict", "list", "tuple", "set", "frozenset", "object", "Path", "Any"}
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return types(node.left) and types(node.right)
    if isinstance(node, ast.Subscript):
        node = node.value
    return (isinstance(node, ast.Constant) and node.value is None) or words(node) in known


def newer(source):
    """Yield what in a program is newer than the oldest Python."""
    tree = ast.parse(source, feature_version=OLDEST)
    annotations = {id(part) for node in ast.walk(tree) for part in annotated(node)}
    postponed = "from __future__ import annotations" in source
    imported = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            yield from [node.module] if node.module in MODULES else []
            for alias in node.names:
                imported[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    yield from NAMES & set(imported.values())
    for node in ast.walk(tree):
        if id(node) in annotations:
            if not postponed and isinstance(node, ast.BinOp):
                yield ast.unparse(node)
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr) and types(node):
            yield ast.unparse(node)
        if isinstance(node, ast.Attribute):
            yield from [words(node)] if ".".join(words(node).split(".")[-2:]) in NAMES else []
            yield from [node.attr] if node.attr in METHODS else []
        elif isinstance(node, ast.Name) and node.id in BUILTINS:
            yield node.id
        elif isinstance(node, ast.Call):
            function = words(node.func).rpartition(".")[2] or getattr(node.func, "attr", "")
            yield from {keyword.arg for keyword in node.keywords} & ARGUMENTS.get(function, set())
        elif isinstance(node, (ast.With, ast.AsyncWith)) and parenthesized(source, node):
            yield "with (...)"


def annotated(node):
    """Yield every part of the annotations of a node."""
    for name in ("annotation", "returns"):
        if getattr(node, name, None):
            yield from ast.walk(getattr(node, name))


def parenthesized(source, node):
    """Tell whether several contexts stand in one pair of parentheses, which 3.9 only takes by accident."""
    return len(node.items) > 1 and re.match(r"\s*(async\s+)?with\s*\(", source.splitlines()[node.lineno - 1]) is not None


def sources():
    """Return the programs that run on hosts: modules, what these import of the project, and the watchdog."""
    found, waiting = {}, [*PROJECT.glob("library/*.py"), *PROJECT.glob("roles/watchdog/files/*.py")]
    while waiting:
        path = waiting.pop()
        text = path.read_text(encoding="utf-8")
        found[str(path.relative_to(PROJECT))] = text
        for name in set(re.findall(r"\bstack_[a-z_]+\b", text)):
            other = PROJECT / f"module_utils/{name}.py"
            if other.exists() and str(other.relative_to(PROJECT)) not in found:
                waiting.append(other)
    return found


# On the machine that runs Ansible alone.
CONTROLLER = {f"module_utils/stack_{name}.py" for name in ("checks", "checks_files", "checks_host", "settings", "run")}


@pytest.mark.parametrize(("path", "source"), sources().items(), ids=sources())
def test_hosts_may_have_the_oldest_python(path, source):
    if path not in CONTROLLER:
        assert list(newer(source)) == []


def test_page_names_the_oldest_python():
    text = (PROJECT / "docs/operations.md").read_text(encoding="utf-8")
    assert f"The host needs Python {OLDEST[0]}.{OLDEST[1]} or later" in text


@pytest.mark.parametrize(
    "source",
    [
        "list(zip(a, b, strict=True))",
        "from datetime import UTC",
        "import datetime\nnow = datetime.datetime.now(datetime.UTC)",
        "import tomllib",
        "from itertools import pairwise",
        "isinstance(a, int | str)",
        "Answer = dict[str, int] | None",
        "def f(a: int | None): ...",
        "@dataclass(slots=True)\nclass A: ...",
        "path.stat(follow_symlinks=False)",
        "with (\n    open(a) as b,\n    open(c) as d,\n): ...",
    ],
)
def test_what_is_newer_is_found(source):
    assert list(newer(source))


@pytest.mark.parametrize("source", ["match a:\n    case 1: ...", "try: ...\nexcept* OSError: ...", "type A = int"])
def test_newer_syntax_is_found(source):
    with pytest.raises(SyntaxError):
        list(newer(source))


@pytest.mark.parametrize(
    "source",
    [
        "from __future__ import annotations\ndef f(a: int | None) -> str | None: ...",
        "a = {1} | {2}",
        "flags = os.O_RDWR | os.O_CREAT",
        "'abc'.removeprefix('a')",
        "with open(a) as b, open(c) as d: ...",
        "run(check=True)",
    ],
)
def test_what_is_as_old_is_let_pass(source):
    assert list(newer(source)) == []
