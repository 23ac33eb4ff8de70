"""Import the libraries that the code imports, and nothing of the code, in the process that reload.py clones.

The same file in data/fe and data/be: each is an image of its own, which a user replaces alone.
"""

import ast
from contextlib import suppress
from importlib import import_module
from pathlib import Path

CODE = Path(__file__).parent


def libraries(code: Path) -> list[str]:
    """Return the modules that the top level of files in ``code`` imports from outside the folder around ``code``."""
    names = set()
    for path in code.rglob("*.py"):
        # A file with a syntax error, or one that was removed meanwhile.
        with suppress(OSError, SyntaxError, ValueError):
            for node in ast.parse(path.read_bytes()).body:
                if isinstance(node, ast.Import):
                    names.update(alias.name for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    names.add(node.module)
    own = {path.stem for path in code.parent.iterdir()}
    return sorted(name for name in names if name.partition(".")[0] not in own)


for library in libraries(CODE):
    # The code imports it again, and shows the error.
    with suppress(Exception):
        import_module(library)
