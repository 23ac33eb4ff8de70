"""How the project's modules begin and end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.stack_environment import clean_environment

T = TypeVar("T")
# Seconds between two looks.
PAUSE = 0.2


class RefusalError(Exception):
    """What a module shall do is not done, or did not come about; the text says why to a person."""


@contextlib.contextmanager
def running_module(options: dict, *refusals: type[Exception], check_mode: bool = True) -> Iterator[AnsibleModule]:
    """Yield the module that runs, which fails with the text of a refusal if there is one.

    Args:
        options: as Ansible takes them.
        refusals: errors that are one, beside ``RefusalError`` and ``OSError``.
        check_mode: whether the module supports it.
    """
    clean_environment()
    module = AnsibleModule(argument_spec=options, supports_check_mode=check_mode)
    try:
        yield module
    except (RefusalError, OSError, *refusals) as error:
        module.fail_json(msg=str(error))


def until(deadline: float, condition: Callable[[], T], what: str) -> T:
    """Return the first true value of ``condition``, asked again until ``deadline`` (monotonic seconds).

    Raises:
        RefusalError: the time is over; the text says ``what`` did not happen.
    """
    while True:
        last = None
        try:
            value = condition()
        except OSError as error:
            value, last = None, error
        if value:
            return value
        if time.monotonic() > deadline:
            raise RefusalError(what + (f" ({last})" if last else ""))
        time.sleep(PAUSE)


def difference(header: object, before: str, after: str) -> dict[str, str]:
    """Return what Ansible shows with ``--diff`` of something that differs."""
    return {"before_header": str(header), "after_header": str(header), "before": before, "after": after}
