"""Filters that turn values of settings into text, numbers and digests."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.stack_failure import seconds
from ansible.module_utils.stack_files import digest
from ansible.module_utils.stack_settings import (
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
