"""Check settings on the controller, take the stack for this run, then look at the host and judge what was found."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible import context
from ansible.module_utils import stack_checks, stack_checks_host, stack_lock, stack_run, stack_settings, stack_written
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display


class ActionModule(ActionBase):
    """Fails with one sentence for each problem; documented in ``library/stack_preflight.py``."""

    _requires_connection = True

    def run(self, tmp: Any = None, task_vars: dict | None = None) -> dict:
        """Run the checks; the result is what the module found on the host."""
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if not self._task.check_mode:
            # This is a worker of the run.
            playbooks = " ".join(Path(name).name for name in context.CLIARGS.get("args", ()))
            containers = bool(arguments.get("changes_containers", True))
            arguments["run"] = stack_run.describe(os.getppid(), playbooks, containers)
        if arguments.get("lock_only"):
            return {**result, **self._take(arguments, task_vars)} if "run" in arguments else result
        project = Path(arguments["project_dir"]).resolve()
        sources = stack_written.Sources(self._text, context.CLIARGS.get("extra_vars", ()))
        try:
            values, problems = stack_checks.refusals(
                set(task_vars), lambda name: self._templar.template(task_vars[name]), project, sources
            )
        except Exception:
            problems = stack_checks.check_templates(task_vars, self._templar.template, project)
            if not problems:
                raise
        if problems:
            return self._refuse(problems)
        if arguments.get("settings_only"):
            return result
        # In a Swarm the nodes publish, and it is not known beforehand which.
        published = [] if values["stack_engine"] == "swarm" else stack_settings.published_ports(values)
        repository = values["backup_repository"]
        publishers = stack_settings.publishers(project)
        arguments["tiers"] = stack_settings.tiers(values)
        arguments["asked"] = {
            "ports": [
                {
                    "setting": name,
                    "port": values[name],
                    "address": address,
                    "protocol": protocol,
                    "service": publishers[name],
                }
                for name, address, protocol in published
            ],
            "docker_socket": values["monitoring_docker_socket"],
            "names": [*stack_settings.networks_of(project), *stack_settings.volumes_of(project)],
            "backup_repository": repository if repository.startswith(("/", "~")) else "",
            "development": values["app_mode"] == "development",
            "mounts": [
                # Relative to the checkout where that is on the same machine; as it is elsewhere.
                {**mount, "source": stack_settings.mount_source(mount["source"], str(project))}
                for mount in stack_settings.mounts(values)
            ],
            "tmpfs": [
                {"setting": f"{tier}_tmpfs", "target": str(entry).partition(":")[0]}
                for tier in arguments["tiers"]
                for entry in values[f"{tier}_tmpfs"]
            ],
        }
        host = self._take(arguments, task_vars)
        if host.get("failed"):
            return host
        minimum = {key: stack_settings.parse_version(arguments[f"{key}_minimum"]) for key in ("engine", "compose")}
        # Whatever the mode is set to, a backup changes nothing.
        changes = arguments.get("changes_containers", True)
        confirmed = self._templar.template(task_vars.get("confirm", "")) if changes else values["stack_name"]
        problems = stack_checks_host.check_host(values, {**host, "confirm": str(confirmed)}, minimum)
        if problems and host["lock"]["new"]:
            # What follows may be a correction.
            self._release()
        return self._refuse(problems) if problems else {**result, **host}

    def _text(self, path: str) -> str:
        """Return a file that settings come from, decrypted where a vault protects it."""
        return self._loader._get_file_contents(path)[0].decode()

    def _take(self, arguments: dict, task_vars: dict) -> dict:
        """Take the stack for this run; return what the module found on the host, or a failure."""
        host = self._execute_module(module_args={**arguments, "lock_timeout": 0}, task_vars=task_vars)
        timeout = arguments.get("lock_timeout", 0)
        if host.get("lock", {}).get("other") and timeout:
            other = stack_lock.describe(host["lock"]["other"])
            Display().display(f"Waiting up to {timeout} s for another run: {other}.")
            host = self._execute_module(module_args=arguments, task_vars=task_vars)
        if host.get("failed"):
            return host
        if host["lock"]["other"]:
            return self._refuse([stack_lock.refusal(host["lock"]["other"])])
        if host["lock"]["new"]:
            self._keep(arguments["run"], host["stack_dir"], host["lock"]["made"])
        return host

    def _keep(self, run: dict, stack_dir: str, made: bool) -> None:
        """Say that the run lives as long as it does, and give the stack back at its end."""
        file, folder = shlex.quote(f"{stack_dir}/{stack_lock.RUN}"), shlex.quote(stack_dir)
        ours = f"grep -qF -e {shlex.quote(run['id'])} {file}"
        # What a refused first deployment has made for the lock goes with it.
        empty = f"; rmdir {folder}" if made else ""

        self._release = lambda: self._low_level_execute_command(f"{ours} && rm -f {file}{empty}")

        def silently(order: Callable[[], object]) -> None:
            # Nobody listens to what a process beside the run says.
            Display().verbosity = 0
            order()

        stack_run.keep(
            run["process"],
            lambda: silently(lambda: self._low_level_execute_command(f"{ours} && touch -c {file}")),
            lambda: silently(self._release),
        )

    @staticmethod
    def _refuse(problems: list[str]) -> dict:
        """Return a failure that says all ``problems``, each on a line of its own, and nothing of what was found."""
        return {"failed": True, "msg": "\n".join(problems)}
