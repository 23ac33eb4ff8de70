"""Load what the code imports from elsewhere, and nothing of the code: the process that does so is cloned after each save."""

import ast
from contextlib import suppress
from importlib import import_module
from pathlib import Path

CODE = Path(__file__).parent


def libraries(code: Path) -> list[str]:
    """Return the modules that files in ``code`` import at their beginning and that lie neither in it nor beside it."""
    names = set()
    for path in code.rglob("*.py"):
        # A file with a fault, or gone again.
        with suppress(OSError, SyntaxError, ValueError):
            for node in ast.parse(path.read_bytes()).body:
                if isinstance(node, ast.Import):
                    names.update(alias.name for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    names.add(node.module)
    own = {path.stem for path in code.parent.iterdir()}
    return sorted(name for name in names if name.partition(".")[0] not in own)


for library in libraries(CODE):
    # What cannot be loaded is met again by the code, which shows why.
    with suppress(Exception):
        import_module(library)
