"""Write the table of variables in README.md from the argument specs, or check that it is up to date."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[1]
sys.path.insert(0, str(PROJECT / "module_utils"))
from stack_settings import WIRING_MARK, read_settings  # noqa: E402

PAGE = PROJECT / "README.md"
BEGIN, END = "<!-- variables: make docs writes what follows -->\n", "<!-- end of variables -->\n"


def tables() -> str:
    """Return a table for each file of group_vars."""
    settings = read_settings(PROJECT)
    parts = []
    for path in sorted(PROJECT.glob("group_vars/all/*.yml")):
        text = path.read_text(encoding="utf-8").partition(WIRING_MARK)[0]
        title = next(line[2:].strip() for line in text.splitlines() if line.startswith("# "))
        parts.append(f"\n**{title}** `group_vars/all/{path.name}`\n\n| setting | type | default | |\n|---|---|---|---|\n")
        names = [line.partition(":")[0] for line in text.splitlines() if line[:1].isalpha()]
        for name in names:
            setting = settings[name]
            default = setting.default if isinstance(setting.default, str) else json.dumps(setting.default)
            # A vertical bar would end the cell.
            cell = default.replace("|", "\\|")
            shown = f"`{cell}`" if default else "empty"
            parts.append(f"| `{name}` | {setting.type} | {shown} | {setting.description.replace('|', '&#124;')} |\n")
    return "".join(parts) + "\n"


def page() -> str:
    """Return the README with its tables as they should be."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    return before + BEGIN + tables() + END + rest.partition(END)[2]


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the page instead of checking it")
    if parser.parse_args().write:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    if PAGE.read_text(encoding="utf-8") != page():
        print("The variables in README.md are not what the argument specs say: run make docs")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
