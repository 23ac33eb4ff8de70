"""Print what a person has to read: what changes, and a refusal once, as its sentences, at the very end."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible import constants
from ansible.executor.task_result import CallbackTaskResult
from ansible.plugins.callback.default import CallbackModule as Default
from ansible.template import Templar

# Modules find the project's module_utils by themselves, plugins of the controller do not.
PROJECT = Path(__file__).resolve().parents[2]
ansible.module_utils.__path__.append(str(PROJECT / "module_utils"))
from ansible.module_utils import stack_secrets  # noqa: E402

DOCUMENTATION = """
name: webstack
type: stdout
short_description: Ansible's own output, with refusals as sentences and without secrets
description:
  - A refusal (V(ansible.builtin.fail), V(ansible.builtin.assert), a module of the project) is printed once, after the recap.
  - Tasks that change nothing are printed with C(-v) only.
  - Passwords, tokens and private keys are masked in everything that Ansible prints, with C(-vvv) and C(--diff) as well.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
"""

# What refuses with a sentence.
REFUSING = {"fail", "assert", "validate_argument_spec", *(path.stem for path in (PROJECT / "library").glob("*.py"))}


def sentence(result: dict[str, Any], action: str) -> str:
    """Return what a failed task says to a person, or nothing if that needs the task's whole result.

    Args:
        result: of the task, or of one item of its loop.
        action: what the task calls.
    """
    message = result.get("msg")
    # A module that ended by an error of its own says so with what Python printed.
    crashed = "module_stderr" in result or "module_stdout" in result or "rc" in result
    refuses = action.removeprefix("ansible.builtin.").removeprefix("ansible.legacy.") in REFUSING
    return message.strip() if refuses and isinstance(message, str) and not crashed else ""


class CallbackModule(Default):
    """Ansible's own output, but for what is said above."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "webstack"

    def __init__(self) -> None:
        """Mask secrets in all that is displayed from now on, by whichever part of Ansible."""
        super().__init__()
        self._masks = stack_secrets.Masks()
        self._looked_at: set[str] = set()
        self._refusals: dict[str, dict[str, None]] = {}
        self._banner = None
        display = self._display.display

        def masked(msg: Any, *arguments: Any, **options: Any) -> None:
            display(self._masks.apply(msg) if isinstance(msg, str) else msg, *arguments, **options)

        self._display.display = masked

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Print nothing: Ansible's own callback prints the command line with -vvvv, before secrets are known."""

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Learn the secrets of the play's hosts; the banner waits for a task that has something to say."""
        manager = play.get_variable_manager()
        for host in manager._inventory.get_hosts(play.hosts):
            if host.name not in self._looked_at:
                self._looked_at.add(host.name)
                self._learn(manager.get_vars(play=play, host=host), play.get_loader())
        self._play = play
        if self._display.verbosity:
            super().v2_playbook_on_play_start(play)
        else:
            self._banner = play

    def _learn(self, variables: dict[str, Any], loader: Any) -> None:
        """Mask the secrets among variables from now on."""
        templar = Templar(loader, variables)
        # Inner ones repeat those that are given.
        for name in (name for name in variables if name[:1] != "_" and stack_secrets.is_secret(name)):
            # What is not defined yet is no secret that somebody has given.
            with contextlib.suppress(Exception):
                self._masks.add(stack_secrets.secret_values(name, templar.template(variables[name])))

    def _print_task_banner(self, task: Any) -> None:
        if self._banner:
            super().v2_playbook_on_play_start(self._banner)
            self._banner = None
        super()._print_task_banner(task)

    def v2_playbook_on_include(self, included_file: Any) -> None:
        """Say which file follows with -v only."""
        if self._display.verbosity:
            super().v2_playbook_on_include(included_file)

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        """Print what changes or is said; the rest with -v only."""
        if self._silent(result):
            self._handle_warnings(result.result)
        else:
            super().v2_runner_on_ok(result)

    def v2_runner_item_on_ok(self, result: CallbackTaskResult) -> None:
        """Print what changes or is said; the rest with -v only."""
        if self._silent(result):
            self._handle_warnings(result.result)
        else:
            super().v2_runner_item_on_ok(result)

    def _silent(self, result: CallbackTaskResult) -> bool:
        """Tell whether a task that went well has nothing to say."""
        says = result.result.get("changed") or result.result.get("_ansible_verbose_always")
        return not says and not self._display.verbosity

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        """Keep a refusal for the end; print everything else, but what is ignored with -v only."""
        if ignore_errors and not self._display.verbosity:
            return
        if not ignore_errors and self._keep(result):
            return
        # Its items were printed or kept one by one.
        if not ignore_errors and self._items_refused(result):
            return
        super().v2_runner_on_failed(result, ignore_errors)

    def v2_runner_item_on_failed(self, result: CallbackTaskResult) -> None:
        """Keep a refusal for the end; print everything else."""
        if result.task.ignore_errors or not self._keep(result):
            super().v2_runner_item_on_failed(result)

    def _keep(self, result: CallbackTaskResult) -> bool:
        """Keep the sentences of a refusal; return whether it is one."""
        if "results" in result.result:
            return False
        said = sentence(result.result, result.task.action)
        if said:
            self._handle_warnings(result.result)
            self._refusals.setdefault(said, {})[result.host.get_name()] = None
        return bool(said)

    @staticmethod
    def _items_refused(result: CallbackTaskResult) -> bool:
        """Tell whether a loop failed with sentences alone."""
        failed = [item for item in result.result.get("results") or [] if item.get("failed")]
        return bool(failed) and all(sentence(item, result.task.action) for item in failed)

    def v2_playbook_on_no_hosts_remaining(self) -> None:
        """Say nothing more than the refusal does."""
        if not self._refusals:
            super().v2_playbook_on_no_hosts_remaining()

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Print the recap and then the refusals, those that were made good (a rescue) left out."""
        super().v2_playbook_on_stats(stats)
        several = len(stats.processed) > 1
        for said, hosts in self._refusals.items():
            failed = [host for host in hosts if stats.failures.get(host)]
            if failed:
                where = f"{', '.join(failed)}:\n" if several else ""
                self._display.display(f"{where}{said}", color=constants.COLOR_ERROR)
