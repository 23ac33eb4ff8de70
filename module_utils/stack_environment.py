"""The environment of the tools that the project runs: nothing in it steers them past the settings."""

from __future__ import annotations

import os

# What Compose, Docker's client, its builder, restic and MySQL's client read: another project, other files, another platform.
STEERING = ("BUILDKIT_", "BUILDX_", "COMPOSE_", "DOCKER_", "MYSQL_", "RESTIC_")
# Where the engine is and how its client logs in; stack_preflight looks at what they lead to.
KEPT = ("DOCKER_CERT_PATH", "DOCKER_CONFIG", "DOCKER_CONTEXT", "DOCKER_HOST", "DOCKER_TLS", "DOCKER_TLS_VERIFY")


def clean_environment(engine: str = "") -> None:
    """Remove from the environment of this process, and so of all it starts, what would steer the tools.

    Args:
        engine: address of the engine to be used, as ``DOCKER_HOST`` takes it; empty leaves the choice to Docker's client.
    """
    for name in [name for name in os.environ if name.startswith(STEERING) and name not in KEPT]:
        del os.environ[name]
    # Nor does a file .env beside the rendered ones: nothing of the project is in one.
    os.environ["COMPOSE_DISABLE_ENV_FILE"] = "true"
    if engine:
        os.environ["DOCKER_HOST"] = engine
        os.environ.pop("DOCKER_CONTEXT", None)
