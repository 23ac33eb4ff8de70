"""What a person reads of a task that has failed without a sentence of its own, and of how long something took."""

from __future__ import annotations

import re
from typing import Any

# Lines of what a command has said that are shown.
LINES = 12
# How Ansible says that it could not fill in {{ }}.
TEMPLATE = re.compile(r"is undefined|has no attribute|in template|resolving value|Could not load '|[Tt]emplat")


def seconds(duration: Any) -> str:
    """Return how long something took, with one decimal place (``71.0 s``).

    Args:
        duration: seconds, or the ``delta`` of a task of Ansible (Python's ``str(timedelta)``): ``0:01:11.000000``,
            ``1 day, 0:00:01``.
    """
    match = re.fullmatch(r"(?:(\d+) days?, )?(\d+):(\d\d):(\d\d(?:\.\d+)?)", str(duration).strip())
    if match:
        days, hours, minutes = (int(part or 0) for part in match.groups()[:3])
        duration = ((days * 24 + hours) * 60 + minutes) * 60 + float(match[4])
    return f"{float(duration):.1f} s"


def is_template(result: dict[str, Any]) -> bool:
    """Tell whether a task may have failed because of ``{{ }}`` that means nothing to Ansible."""
    return bool(TEMPLATE.search(str(result.get("msg", ""))))


def summary(heading: str, result: dict[str, Any]) -> str:
    """Return what a task that has failed says to a person: what failed, and the end of what a command has said of it.

    Args:
        heading: what the task does.
        result: of the task, or of one item of its loop.
    """
    message = str(result.get("msg") or result.get("censored") or "").strip()
    if "rc" in result and message in ("", "non-zero return code"):
        message = f"it ended with exit code {result['rc']}"
    lines = []
    for key in ("module_stdout", "stdout", "module_stderr", "stderr"):
        said = [line.rstrip() for line in str(result.get(key) or "").splitlines() if line.strip()]
        lines += [f"  {line}" for line in said if line.strip() not in message.splitlines()][-LINES:]
    return "\n".join([*lines, f"{heading} failed: {message.rstrip('.')}. Run it again with -v to see all of it."])


# How package managers and compilers begin the line with their reason.
REASON = re.compile(r"(?:npm )?(?:ERROR|Error|error|ERR!|E|fatal)(?::| )\s*")


def build_problem(setting: str, source: str, output: str) -> str:
    """Return why an image could not be built: the line of its Dockerfile, and what the command of that line has said.

    Args:
        setting: what names the folder.
        source: the folder with the Dockerfile.
        output: what BuildKit has printed (``--progress plain``).
    """
    lines = [line.rstrip() for line in output.splitlines() if line.strip()]
    # ">>>" marks the lines of the Dockerfile that have failed.
    marked = next((match for line in lines if (match := re.match(r"\s*(\d+) \| >>> (.*)", line))), None)
    where = f", at line {marked[1]} of its Dockerfile ({marked[2].strip()})" if marked else ""
    # Between "> [3/5] RUN ...:" and dashes stands the end of what the command has said, each line after its time.
    begin = next((place + 1 for place, line in enumerate(lines) if re.match(r" > \[.*:$", line)), len(lines))
    end = next((place for place, line in enumerate(lines[begin:], begin) if line.startswith("------")), len(lines))
    said = [re.sub(r"^\d+\.\d+ ", "", line) for line in lines[begin:end]]
    errors = [line for line in said if REASON.match(line)]
    reason = REASON.sub("", errors[-1], count=1) if errors else _build_reason(lines, source)
    shown = [f"  {line}" for line in said if not errors or line != errors[-1]][-LINES:]
    sentence = f"{setting}: the image of {source} could not be built{where}: {reason.rstrip('.')}."
    return "\n".join([*shown, sentence])


def _build_reason(lines: list[str], source: str) -> str:
    """Return what BuildKit says itself of its failure."""
    failed = next((line.partition("failed to solve: ")[2] for line in reversed(lines) if "failed to solve: " in line), "")
    if not failed:
        return lines[-1].strip() if lines else "no reason given"
    if code := re.search(r"did not complete successfully: exit code: (\d+)$", failed):
        killed = ", which means that it was killed, most likely because the host has no memory left"
        return f"the command ended with exit code {code[1]}{killed * (code[1] == '137')}"
    if absent := re.search(r'"/?([^"]*)": not found$', failed):
        return f"{absent[1]} is not in {source}, or its .dockerignore leaves it out"
    return re.sub(r"^dockerfile parse error on line \d+: ", "", failed)
