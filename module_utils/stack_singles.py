"""Services with one container, which is replaced: the database, the load balancers, monitoring."""

from __future__ import annotations

import time
from collections.abc import Callable

from ansible.module_utils.stack_haproxy import drop_state, frontend_counts, save_state
from ansible.module_utils.stack_history import tell
from ansible.module_utils.stack_project import PAUSE, Container, RolloutError, Stack, broken, names


def replace_others(
    stack: Stack, parameters: dict, model: dict, say: Callable[[str, str, str], None], check: bool
) -> list[str]:
    """Replace services that are not replicated and differ; return what was or would be done.

    Raises:
        RolloutError: the engine refused, or one is not healthy in time.
    """
    steps = []
    for other in parameters["others"]:
        name = other["name"]
        found = [container for container in stack.containers() if container.service == name]
        wanted = model[name]
        if any(c.hash == wanted["hash"] and c.image == wanted["id"] and c.status == "running" for c in found):
            continue
        running = [container for container in found if container.status == "running"]
        steps.append(f"{name}: replaced; {other['gap']}." if running else f"{name}: started.")
        if check:
            continue
        say(name, "replace", f"{name} has to be replaced: {other['gap']}" if running else f"starting {name}")
        begin = time.monotonic()
        if running and other.get("socket"):
            replace_balancer(stack, other, found, wanted, parameters["timeout"])
        else:
            stack.run(*stack.compose, "up", "--detach", "--no-deps", "--no-build", "--pull=never", name)
            if problem := unhealthy(stack, name, begin + parameters["timeout"]):
                raise RolloutError(problem)
        say(name, "replace", f"{name} is healthy after {time.monotonic() - begin:.1f} s")
        tell(stack.path, "rollout", f"{name} was {'replaced' if running else 'started'}", service=name)
    return steps


def replace_balancer(stack: Stack, other: dict, found: list[Container], wanted: dict, timeout: float) -> None:
    """Let another container take the place of a load balancer, which comes back if the new one is not healthy.

    Two of them cannot run at once: they publish the same ports and answer on the same socket. But the new one is made, and
    what it publishes that the old one does not is tried, while the old one serves.

    Raises:
        RolloutError: the old one serves, or serves again.
    """
    name = other["name"]
    old = [container for container in found if container.status == "running"]
    kept = f"{names(old)} goes on serving."
    # Of a run that was interrupted.
    stack.remove([container for container in found if container not in old])
    stack.publish(name, wanted, kept)
    known = [container.id for container in old]

    def added() -> list[Container]:
        return [item for item in stack.containers() if item.service == name and item.id not in known]

    options = ["--no-recreate", "--no-build", "--pull=never"]
    try:
        # Not `create`, which takes no scale in older releases of Compose.
        stack.run(*stack.compose, "up", "--no-start", "--no-deps", *options, f"--scale={name}={len(old) + 1}", name)
        (new,) = added()
    except (RolloutError, ValueError) as error:
        stack.remove(added())
        raise RolloutError(f"{name}: {error} {kept}") from error
    try:
        # The next process begins with the servers that this one knows.
        save_state(stack.path / other["socket"], other["definitions"])
        stack.ended.append({name: frontend_counts(stack.path / other["socket"])})
        # The listening sockets are gone as soon as a load balancer is told to stop: it does not wait for connections that
        # are merely kept open.
        stack.run("docker", "stop", "--time=1", *known)
        stack.run("docker", "start", new.id)
        failure = unhealthy(stack, name, time.monotonic() + timeout, new.id)
    except (RolloutError, OSError) as error:
        failure = f"{name}: {error}"
    if failure:
        stack.remove([new])
        stack.run("docker", "start", *known)
        back = unhealthy(stack, name, time.monotonic() + timeout, *known)
    drop_state(stack.path / other["socket"])
    if failure:
        raise RolloutError(f"{failure} {names(old)} {'does not come back' if back else 'serves again'}.")
    stack.remove(old)
    # Compose counts on; people look for the first.
    stack.run("docker", "rename", new.id, old[0].name)


def unhealthy(stack: Stack, name: str, deadline: float, *ids: str) -> str:
    """Wait until the containers of a service, or those with some ids, are healthy; return why they are not, or nothing.

    Args:
        stack: the project.
        name: the service.
        deadline: monotonic seconds.
        ids: of its containers; none: all of them.
    """
    while True:
        found = [container for container in stack.containers(*ids) if container.service == name]
        if found and all(item.status == "running" and item.health == "healthy" for item in found):
            return ""
        trouble = [item for item in found if broken(item)]
        if trouble or time.monotonic() > deadline:
            if not found:
                return f"{name}: its container is gone."
            item = (trouble or found)[0]
            return (
                f"The last lines of {item.name}:\n{stack.last_lines(item)}\n"
                f"{name}: {item.name} {broken(item) or 'was not healthy in time'}."
            )
        time.sleep(PAUSE)
