"""Write the tables that are generated into pages, or check that they are up to date.

Settings in docs/variables.md come from group_vars and the argument specs, the access matrix in docs/architecture.md from
tests/access_matrix.yml, what an edit touches in docs/operations.md from tests/edits.yml, the answers to the scanner of TLS
in docs/security.md from tests/audit_findings.yml, what proves each promise in docs/testing.md from tests/promises.yml.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

import promises
import runtime_checks
import yaml

PROJECT = Path(__file__).parents[1]
sys.path.insert(0, str(PROJECT / "module_utils"))
from stack_settings import WIRING_MARK, read_settings  # noqa: E402

VARIABLES = PROJECT / "docs" / "variables.md"
ARCHITECTURE = PROJECT / "docs" / "architecture.md"
OPERATIONS = PROJECT / "docs" / "operations.md"
SECURITY = PROJECT / "docs" / "security.md"
TESTING = PROJECT / "docs" / "testing.md"


def descriptions(text: str) -> dict[str, str]:
    """Return what the comment above each setting of a file of group_vars says, by its name."""
    found = re.findall(r"((?:^# .*\n)+)([a-z]\w+):", text, re.MULTILINE)
    return {name: " ".join(line[2:] for line in comment.splitlines()) for comment, name in found}


def variables() -> str:
    """Return a table of settings for each file of group_vars."""
    settings = read_settings(PROJECT)
    parts = []
    for path in sorted(PROJECT.glob("group_vars/all/*.yml")):
        text = path.read_text(encoding="utf-8").partition(WIRING_MARK)[0]
        title = next(line[2:].strip() for line in text.splitlines() if line.startswith("# "))
        heading, _, rest = title.rstrip(".").partition(": ")
        about = f"{rest[:1].upper()}{rest[1:]}. " if rest else ""
        parts.append(f"\n## {heading}\n\n{about}In `group_vars/all/{path.name}`.\n\n")
        parts.append("| setting | type | default | what it does |\n|---|---|---|---|\n")
        for name, description in descriptions(text).items():
            setting = settings[name]
            default = setting.default if isinstance(setting.default, str) else json.dumps(setting.default)
            # A vertical bar would end the cell.
            cell = default.replace("|", "\\|")
            shown = f"`{cell}`" if default else "empty"
            parts.append(f"| `{name}` | {setting.type} | {shown} | {description.replace('|', '&#124;')} |\n")
    return "".join(parts) + "\n"


def access() -> str:
    """Return the access matrix as a table."""
    entries = yaml.safe_load((PROJECT / "tests" / "access_matrix.yml").read_text(encoding="utf-8"))["allowed"]
    settings = read_settings(PROJECT)
    rows = []
    for entry in entries:
        port = entry["port"]
        shown = f"{settings[port].default} (`{port}`)" if port in settings else port
        rows.append(f"| {entry['from']} | {entry['to']} | {shown} | `{entry['network']}` | {entry['why']} |\n")
    return "\n| from | to | port | network | for |\n|---|---|---|---|---|\n" + "".join(rows) + "\n"


def edits() -> str:
    """Return what each edit touches as a table."""
    entries = yaml.safe_load((PROJECT / "tests" / "edits.yml").read_text(encoding="utf-8"))["edits"]
    rows = [
        f"| {entry['name']} | {', '.join(f'{service}: {what}' for service, what in entry['touches'].items())} |\n"
        for entry in entries
    ]
    return "\n| edit | touches |\n|---|---|\n" + "".join(rows) + "\n"


def findings() -> str:
    """Return the answers to the scanner's remarks as a table."""
    answers = yaml.safe_load((PROJECT / "tests" / "audit_findings.yml").read_text(encoding="utf-8"))
    notes = {"always": "", "self_signed": " (self-signed certificate only)", "old_library": " (older OpenSSL only)"}
    rows = [f"| `{name}`{note} | {answer} |\n" for part, note in notes.items() for name, answer in answers[part].items()]
    return "\n| remark | answer |\n|---|---|\n" + "".join(rows) + "\n"


def warnings() -> str:
    """Return the answers to warnings about the containers as a table."""
    answers = yaml.safe_load((PROJECT / "tests" / "audit_findings.yml").read_text(encoding="utf-8"))["runtime"]
    rows = [
        f"| {number} {runtime_checks.CHECKS[number][0]} | {service} | {answer} |\n"
        for number, accepted in answers.items()
        for service, answer in accepted.items()
    ]
    return "\n| check | not | answer |\n|---|---|---|\n" + "".join(rows) + "\n"


def shown(test: str) -> str:
    """Return a test in the few words of a cell."""
    file, _, function = test.partition("::")
    name = Path(file).stem.removeprefix("test_")
    words = f"{name}::{function.removeprefix('test_')}" if function else name
    return f"`{words}`" if test == promises.MUTATIONS else f"`{promises.scenario(test)}: {words}`"


def link(page: str) -> str:
    """Return a link to a page from the folder of the pages."""
    name = Path(page.partition("#")[0]).stem
    return f"[{name}]({page.removeprefix('docs/') if page.startswith('docs/') else f'../{page}'})"


def proofs() -> str:
    """Return which tests prove each promise as a table, and the promises that have none as a list."""
    entries = promises.load()
    rows = []
    for entry in entries:
        if not entry.wants:
            gate, full = ("<br>".join(map(shown, tests)) for tests in (entry.gate, entry.full))
            rows.append(f"| {entry.says} | {link(entry.page)} | {gate or entry.why} | {full} |\n")
    table = "\n| promise | page | `make test` | `make test-all`, as well |\n|---|---|---|---|\n" + "".join(rows)
    wanted = [f"- {entry.says} ({link(entry.page)}). {entry.wants}\n" for entry in entries if entry.wants]
    return table + ("\nNo test proves these yet; each says what is missing:\n\n" + "".join(wanted) if wanted else "") + "\n"


def page(path: Path, name: str, content: str) -> str:
    """Return a page in which the part between the marks of ``name`` is ``content``."""
    begin, end = f"<!-- {name}: make docs writes what follows -->\n", f"<!-- end of {name} -->\n"
    before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    return before + begin + content + end + rest.partition(end)[2]


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the tables instead of checking them")
    write = parser.parse_args().write
    code = 0
    for path, name, content in (
        (VARIABLES, "variables", variables()),
        (ARCHITECTURE, "access matrix", access()),
        (OPERATIONS, "edits", edits()),
        (SECURITY, "findings", findings()),
        (SECURITY, "warnings", warnings()),
        (TESTING, "promises", proofs()),
    ):
        wanted = page(path, name, content)
        if write:
            path.write_text(wanted, encoding="utf-8")
        elif path.read_text(encoding="utf-8") != wanted:
            print(f"The {name} in {path.relative_to(PROJECT)} is not up to date: run make docs")
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
