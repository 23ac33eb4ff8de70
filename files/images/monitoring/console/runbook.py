"""The runbook as a page: docs/runbook.md, of whose Markdown it uses headings, paragraphs, code and links."""

from __future__ import annotations

import html
import re
from pathlib import Path

# Written there by the playbook.
PATH = Path("/etc/console/runbook.md")
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Runbook</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/static/console.css">
</head>
<body>
<header><p><a href="/">Back to the console</a></p></header>
<main class="text">
{body}
</main>
</body>
</html>
"""


def inline(text: str) -> str:
    """Return a paragraph's text as HTML: code, and links within the page."""
    found = r"`(?P<code>[^`]+)`|\[(?P<text>[^]`]+)\]\((?P<target>#[\w-]+)\)"
    shown = {"code": "<code>{code}</code>", "target": '<a href="{target}">{text}</a>'}
    return re.sub(found, lambda match: shown[match.lastgroup].format(**match.groupdict()), html.escape(text))


def page(text: str) -> str:
    """Return the page of a runbook; the anchor of a section is its heading in small letters."""
    body = []
    for block in re.split(r"\n\s*\n", text.strip()):
        if heading := re.fullmatch(r"(#+) +(.+)", block):
            level, title = len(heading[1]), heading[2]
            body.append(f'<h{level} id="{html.escape(title.lower())}">{inline(title)}</h{level}>')
        else:
            body.append(f"<p>{inline(block)}</p>")
    return PAGE.format(body="\n".join(body))
