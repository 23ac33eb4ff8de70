"""Filters for the load balancers: how they check servers, and what they have counted."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.stack_summary import changes, failed_requests
from ansible.module_utils.stack_trial import check_definitions, check_field


def with_before(balancers: list[dict[str, Any]], before: dict[str, str]) -> list[dict[str, Any]]:
    """Return load balancers, each with the configuration that it goes back to."""
    return [{**balancer, "before": before.get(balancer["name"], "")} for balancer in balancers]


class FilterModule:
    """The filters by the names that templates use."""

    def filters(self) -> dict[str, Any]:
        """Return them."""
        return {
            "check_definitions": check_definitions,
            "check_field": check_field,
            "failed_requests": failed_requests,
            "service_changes": changes,
            "with_before": with_before,
        }
