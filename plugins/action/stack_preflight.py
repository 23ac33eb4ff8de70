"""Check settings on the controller, then run the module on the host and judge what it found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible.plugins.action import ActionBase

# Modules find the project's module_utils by themselves, plugins of the controller do not.
ansible.module_utils.__path__.append(str(Path(__file__).resolve().parents[2] / "module_utils"))
from ansible.module_utils import stack_checks, stack_settings  # noqa: E402


class ActionModule(ActionBase):
    """Fails with one sentence for each problem; documented in ``library/stack_preflight.py``."""

    _requires_connection = True

    def run(self, tmp: Any = None, task_vars: dict | None = None) -> dict:
        """Run the checks; the result is what the module found on the host."""
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        project = Path(arguments["project_dir"]).resolve()
        values, problems = stack_checks.refusals(
            set(task_vars), lambda name: self._templar.template(task_vars[name]), project
        )
        if problems:
            return self._refuse(result, problems)
        if arguments.get("settings_only"):
            return result
        # In a Swarm the nodes publish, and it is not known beforehand which.
        published = [] if values["stack_engine"] == "swarm" else stack_settings.published_ports(values)
        arguments["ports"] = [
            {"setting": name, "port": values[name], "address": address, "protocol": protocol}
            for name, address, protocol in published
        ]
        arguments["docker_socket"] = values["monitoring_docker_socket"]
        repository = values["backup_repository"]
        arguments["backup_repository"] = repository if repository.startswith(("/", "~")) else ""
        arguments["development"] = values["app_mode"] == "development"
        arguments["mounts"] = [
            # Relative to the checkout where that is on the same machine; as it is elsewhere.
            {**mount, "source": stack_settings.mount_source(mount["source"], str(project))}
            for mount in stack_settings.mounts(values)
        ]
        arguments["tmpfs"] = [
            {"setting": f"{tier}_tmpfs", "target": str(entry).partition(":")[0]}
            for tier in ("fe", "be")
            for entry in values[f"{tier}_tmpfs"]
        ]
        host = self._execute_module(module_args=arguments, task_vars=task_vars)
        result.update(host)
        if host.get("failed"):
            return result
        minimum = {key: stack_settings.parse_version(arguments[f"{key}_minimum"]) for key in ("engine", "compose")}
        problems = stack_checks.check_host(values, host, minimum)
        return self._refuse(result, problems) if problems else result

    @staticmethod
    def _refuse(result: dict, problems: list[str]) -> dict:
        """Return a failure that says all ``problems``, each on a line of its own."""
        result.update(failed=True, msg="\n".join(problems))
        return result
