"""Print what a person has to read: each step as it happens, and a refusal once, as its sentences, at the very end."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path
from typing import Any

from ansible import constants, context
from ansible.executor.task_result import CallbackTaskResult
from ansible.module_utils import stack_checks, stack_failure, stack_secrets
from ansible.plugins.callback.default import CallbackModule as Default
from ansible.template import Templar

PROJECT = Path(__file__).resolve().parents[2]
DOCUMENTATION = """
name: webstack
type: stdout
short_description: What a run changes, as it happens; refusals as sentences; no secrets
description:
  - A task that changes nothing is not printed, unless it takes a while; then its name is, and how long it has taken so far.
  - A refusal (V(ansible.builtin.fail), V(ansible.builtin.assert), a module of the project) is printed once, and last.
  - Another failure is printed last as well, with the end of what the command has said.
  - C(-v) prints what Ansible's own callback does.
  - Passwords, tokens and private keys are masked in everything that Ansible prints, with C(-vvv) and C(--diff) as well.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
"""

# Seconds after which a task is named before it has ended, and of silence after which it is named again.
NAMED, SILENCE = 1.5, 3.5
# What Ansible counts for each host.
FIGURES = ("ok", "changed", "unreachable", "failures", "skipped", "rescued", "ignored")
# Seconds between two looks at the clock.
TICK = 0.25

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
    return message.strip("\n") if refuses and isinstance(message, str) and not crashed else ""


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
        self._failures: dict[str, dict[str, None]] = {}
        # Those that no author has worded.
        self._summaries: set[str] = set()
        self._banner = None
        self._begin = self._spoken = time.monotonic()
        self._playbooks = 0
        self._settings: list[tuple[dict[str, Any], Any]] = []
        # The task that runs, on how many hosts, and since when; the clock looks at it from a thread of its own.
        self._task, self._hosts, self._since = None, 0, 0.0
        self._guard = threading.RLock()
        self._clock: threading.Thread | None = None
        display, process = self._display.display, os.getpid()

        def masked(msg: Any, *arguments: Any, **options: Any) -> None:
            # Not in a worker, which hands on to this process what it displays, and must take no lock of it.
            if os.getpid() == process and self._is_heading(msg):
                return
            self._spoken = time.monotonic()
            display(self._masks.apply(msg) if isinstance(msg, str) else msg, *arguments, **options)

        self._display.display = masked

    @property
    def _terse(self) -> bool:
        """Whether a person reads what happens, not somebody who looks for the cause of something."""
        return not self._display.verbosity

    # What runs, and for how long

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Print nothing: Ansible's own callback prints the command line with -vvvv, before secrets are known."""
        self._playbooks += 1

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Learn the secrets of the play's hosts; the banner waits for a task that has something to say."""
        manager = play.get_variable_manager()
        for host in manager._inventory.get_hosts(play.hosts):
            if host.name not in self._looked_at:
                self._looked_at.add(host.name)
                variables = manager.get_vars(play=play, host=host)
                self._learn(variables, play.get_loader())
                self._settings.append((variables, play.get_loader()))
        self._play = play
        self._banner = play
        if self._terse and self._clock is None:
            self._clock = threading.Thread(target=self._watch, daemon=True)
            self._clock.start()

    def _learn(self, variables: dict[str, Any], loader: Any) -> None:
        """Mask the secrets among variables from now on."""
        templar = Templar(loader, variables)
        # Inner ones repeat those that are given.
        for name in (name for name in variables if name[:1] != "_" and stack_secrets.is_secret(name)):
            # What is not defined yet is no secret that somebody has given.
            with contextlib.suppress(Exception):
                self._masks.add(stack_secrets.secret_values(name, templar.template(variables[name])))

    def _task_start(self, task: Any, prefix: str | None = None) -> None:
        with self._guard:
            self._task, self._hosts, self._since = task, 0, time.monotonic()
        super()._task_start(task, prefix)

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """Note that a task runs."""
        with self._guard:
            self._hosts += 1
        super().v2_runner_on_start(host, task)

    def _ended(self) -> None:
        """Note that the task has ended on a host."""
        with self._guard:
            self._hosts -= 1

    def _watch(self) -> None:
        """Look at the clock until the run ends."""
        while True:
            time.sleep(TICK)
            self._tick(time.monotonic())

    def _tick(self, now: float) -> None:
        """Name a task that takes a while, and say how long it has taken when nothing else was said."""
        with self._guard:
            if not self._task:
                return
            silent = now - self._spoken >= SILENCE
            if self._last_task_banner != self._task._uuid:
                # Many short tasks one after the other are silent as well.
                if silent or (self._hosts > 0 and now - self._since >= NAMED):
                    self._print_task_banner(self._task)
            elif silent:
                self._display.display(f"  … {now - self._since:.0f} s", color=constants.COLOR_VERBOSE)

    def _heading(self, task: Any) -> str:
        """Return what a task is called, without its role."""
        name = (task.get_name() if self._last_task_name is None else self._last_task_name).strip()
        name = name.partition(" : ")[2] or name
        # A role's own check is called "Validating arguments against arg spec 'main' - What the role does."
        return name.partition(" - ")[2].rstrip(".") if name.startswith("Validating arguments") else name

    def _is_heading(self, msg: Any) -> bool:
        """Print the heading of the task that runs if that is what its plugin says; tell whether it was that."""
        with self._guard:
            if not self._terse or not self._task or self._hosts < 1 or msg != f"{self._task.name}:":
                return False
            if self._last_task_banner != self._task._uuid:
                self._print_task_banner(self._task)
            return True

    def _print_task_banner(self, task: Any) -> None:
        with self._guard:
            if self._terse:
                self._last_task_banner = task._uuid
                self._display.display(self._heading(task), color=constants.COLOR_HIGHLIGHT)
                return
            if self._banner:
                super().v2_playbook_on_play_start(self._banner)
                self._banner = None
            super()._print_task_banner(task)

    # What went well

    def v2_playbook_on_include(self, included_file: Any) -> None:
        """Say which file follows with -v only."""
        if not self._terse:
            super().v2_playbook_on_include(included_file)

    def v2_runner_retry(self, result: CallbackTaskResult) -> None:
        """Say with -v only that something is asked again; that it takes time is said anyway."""
        if not self._terse:
            super().v2_runner_retry(result)

    def v2_runner_on_skipped(self, result: CallbackTaskResult) -> None:
        """Note the end."""
        self._ended()
        super().v2_runner_on_skipped(result)

    def v2_runner_on_unreachable(self, result: CallbackTaskResult) -> None:
        """Note the end."""
        self._ended()
        super().v2_runner_on_unreachable(result)

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        """Print what changes or is said; the rest with -v only."""
        self._ended()
        if not self._terse:
            super().v2_runner_on_ok(result)
        # The items of a loop have spoken for themselves.
        elif not (result.task.loop and "results" in result.result):
            self._say(result)

    def v2_runner_item_on_ok(self, result: CallbackTaskResult) -> None:
        """Print what changes or is said; the rest with -v only."""
        if self._terse:
            self._say(result)
        else:
            super().v2_runner_item_on_ok(result)

    def _say(self, result: CallbackTaskResult) -> None:
        """Print what a task has changed or says."""
        self._handle_warnings(result.result)
        where = f"  {result.host.get_name()}" if len(self._looked_at) > 1 else ""
        if result.result.get("_ansible_verbose_always") and isinstance(result.result.get("msg"), str):
            if where:
                self._display.display(f"{where.strip()}:")
            if text := result.result["msg"].strip("\n"):
                self._display.display(text)
        elif result.result.get("_ansible_verbose_always"):
            super().v2_runner_on_ok(result)
        elif result.result.get("changed"):
            with self._guard:
                if self._last_task_banner != result.task._uuid:
                    self._print_task_banner(result.task)
            item = self._get_item_label(result.result) if "ansible_loop_var" in result.result else ""
            if where or item:
                self._display.display(f"{where}  {item}".rstrip(), color=constants.COLOR_CHANGED)

    # What failed

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        """Keep a failure for the end; with -v print all but refusals, and what is ignored."""
        self._ended()
        if ignore_errors and self._terse:
            return
        # Its items were printed or kept one by one.
        if not ignore_errors and (self._keep(result) or self._items_kept(result)):
            return
        super().v2_runner_on_failed(result, ignore_errors)

    def v2_runner_item_on_failed(self, result: CallbackTaskResult) -> None:
        """Keep a failure for the end; with -v print all but refusals."""
        if result.task.ignore_errors or not self._keep(result):
            super().v2_runner_item_on_failed(result)

    def _sentence(self, result: CallbackTaskResult, content: dict[str, Any]) -> str:
        """Return what is said of a task, or of one item of its loop, that has failed; nothing: its whole result."""
        said = sentence(content, result.task.action)
        # A setting with {{ }} that means nothing fails where it is read first, whatever that is for.
        if not said or stack_failure.is_template(content):
            said = "\n".join(self._wrong_templates()) or said
        if not said and self._terse:
            said = stack_failure.summary(self._heading(result.task), content)
            self._summaries.add(said)
        return said

    def _wrong_templates(self) -> list[str]:
        """Return a sentence for each setting that Ansible cannot fill in."""
        problems: dict[str, None] = {}
        for variables, loader in self._settings:
            templar = Templar(loader, variables)
            problems |= dict.fromkeys(stack_checks.check_templates(variables, templar.template, PROJECT))
        return list(problems)

    def _keep(self, result: CallbackTaskResult) -> bool:
        """Keep the sentences of a failure; return whether it has some."""
        if "results" in result.result:
            return False
        said = self._sentence(result, result.result)
        if said:
            # Of a failure that is told in a sentence there is nothing else to say.
            if not self._terse:
                self._handle_warnings(result.result)
            self._failures.setdefault(said, {})[result.host.get_name()] = None
        return bool(said)

    def _items_kept(self, result: CallbackTaskResult) -> bool:
        """Tell whether a loop failed with sentences alone."""
        failed = [item for item in result.result.get("results") or [] if item.get("failed")]
        return bool(failed) and all(self._sentence(result, item) for item in failed)

    def v2_playbook_on_no_hosts_matched(self) -> None:
        """Say nothing of a play that is not for this deployment."""
        if not self._terse:
            super().v2_playbook_on_no_hosts_matched()

    def v2_playbook_on_no_hosts_remaining(self) -> None:
        """Say nothing more than the failure does."""
        if not self._failures and not self._terse:
            super().v2_playbook_on_no_hosts_remaining()

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Print the recap of what went well, or what has failed; what was made good (a rescue) is left out."""
        with self._guard:
            self._task, self._hosts = None, 0
        told = {
            said: failed
            for said, hosts in self._failures.items()
            if (failed := [host for host in hosts if stats.failures.get(host)])
        }
        # What a rescue says of it stands for the task that has failed.
        if any(said not in self._summaries for said in told):
            told = {said: failed for said, failed in told.items() if said not in self._summaries}
        if not self._terse:
            super().v2_playbook_on_stats(stats)
        elif not told:
            self._recap(stats)
        for said, failed in told.items():
            where = f"{', '.join(failed)}:\n" if len(stats.processed) > 1 else ""
            self._display.display(f"{where}{said}", color=constants.COLOR_ERROR)

    def _recap(self, stats: Any) -> None:
        """Print how long the run took, and Ansible's figures for each host; after the last playbook, or where one failed."""
        summaries = {host: stats.summarize(host) for host in sorted(stats.processed)}
        last = self._playbooks >= len(context.CLIARGS.get("args") or ())
        if not last and not any(item["failures"] or item["unreachable"] for item in summaries.values()):
            return
        self._display.display(f"PLAY RECAP after {stack_failure.seconds(time.monotonic() - self._begin)}")
        width = max((len(host) for host in summaries), default=0)
        for host, item in summaries.items():
            # As Ansible's own callback writes them, which programs read.
            numbers = " ".join(f"{key.replace('failures', 'failed')}={item[key]}".ljust(len(key) + 5) for key in FIGURES)
            self._display.display(f"{host.ljust(width)} : {numbers.rstrip()}", color=constants.COLOR_OK)
