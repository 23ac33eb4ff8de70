"""Filters that turn values of settings into text, numbers and digests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils

# Modules find the project's module_utils by themselves, plugins of the controller do not.
ansible.module_utils.__path__.append(str(Path(__file__).resolve().parents[2] / "module_utils"))
from ansible.module_utils.stack_failure import seconds  # noqa: E402
from ansible.module_utils.stack_files import digest  # noqa: E402
from ansible.module_utils.stack_settings import (  # noqa: E402
    as_text,
    milliseconds,
    parse_duration,
    parse_size,
    with_defaults,
)


class FilterModule:
    """The filters by the names that templates use."""

    def filters(self) -> dict[str, Any]:
        """Return them."""
        return {
            "as_text": as_text,
            "digest": digest,
            "duration_seconds": parse_duration,
            "memory_bytes": parse_size,
            "milliseconds": milliseconds,
            "told_seconds": seconds,
            "with_defaults": with_defaults,
        }
