"""Filters that name images, and tell which of them have to be pulled or built."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ansible.module_utils.stack_compose import read_images
from ansible.module_utils.stack_failure import build_problem


def image_names(
    platform: dict[str, dict], applications: dict[str, dict], registry: str, prefix: str, stack: str, project: str
) -> dict[str, dict]:
    """Return, for each image, how it is called where it is pulled and where it is built.

    Args:
        platform: images of the project: ``official`` and ``debian`` name of each.
        applications: images of the user: ``image`` or ``source`` of each, perhaps the ``setting`` that names it.
        registry: prefix of pulled images.
        prefix: prefix of platform images that are built here.
        stack: prefix of application images that are built here.
        project: the checkout.
    """
    names: dict[str, dict] = {}
    for name, image in platform.items():
        context = f"files/images/{name}"
        names[name] = {
            "registry": registry_reference(image["official"], registry),
            "debian": f"{prefix}/{image['debian']}",
            "context": context,
            "digest": build_context_digest(context, project),
        }
    for name, application in applications.items():
        if application["image"]:
            reference = local_reference(registry_reference(str(application["image"]), registry))
            setting = application.get("setting", f"{name}_image")
            names[name] = {"registry": reference, "debian": reference, "setting": setting}
            continue
        source = str(Path(str(application["source"])).expanduser())
        content = build_context_digest(source, project, platform["python"])
        names[name] = {
            "registry": f"{stack}/{name}:{content}",
            "debian": f"{stack}/{name}:{content}-debian",
            "context": source,
            "digest": content,
            "application": True,
            "setting": f"{name}_source",
        }
    return names


def image_candidates(names: dict[str, dict]) -> list[str]:
    """Return every name that an image of this deployment may have."""
    return sorted({image[source] for image in names.values() for source in ("registry", "debian")})


def images_missing(names: dict[str, dict], source: str, present: dict[str, dict], refresh: bool) -> list[dict]:
    """Return the images that have to be pulled or built, in that order.

    Args:
        names: what ``image_names`` returned.
        source: ``registry`` or ``debian``.
        present: images on the host by name, with their labels.
        refresh: take all of them as missing.
    """
    builds_applications = any(image.get("application") for image in names.values())
    missing = []
    for name, image in names.items():
        if name == "python" and not builds_applications:
            continue
        reference = image[source]
        built = "context" in image and (source == "debian" or image.get("application", False))
        found = present.get(reference)
        # A platform image keeps its tag, so its label tells what it was built from.
        current = found and (not built or found["labels"].get("webstack.context") == image["digest"])
        if refresh or not current:
            missing.append({"name": name, "reference": reference, "built": built, **image})
    # What cannot be pulled shall be known before minutes go into builds; applications need python.
    return sorted(missing, key=lambda item: (item["built"], item.get("application", False)))


def image_starts(names: dict[str, dict], source: str, known: dict[str, dict], tiers: list[str]) -> dict[str, dict]:
    """Return user, entry point and command of the images of tiers, empty where they are not known.

    Args:
        names: what ``image_names`` returned.
        source: ``registry`` or ``debian``.
        known: images by their names.
        tiers: names of the tiers.
    """
    unknown = {"user": "", "entrypoint": [], "command": []}
    return {tier: known.get(names.get(tier, {}).get(source, ""), unknown) for tier in tiers}


def registry_reference(reference: str, registry: str) -> str:
    """Return an image's name with the prefix of a mirror, unless it names a registry itself."""
    first, slash, _ = reference.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return reference
    return registry + reference


def local_reference(reference: str) -> str:
    """Return an image's name as the engine lists it: with the tag that is meant if none is given."""
    if "@" in reference or ":" in reference.rpartition("/")[2]:
        return reference
    return reference + ":latest"


def build_context_digest(source: str, project: str, extra: Any = "") -> str:
    """Return 12 hex digits that change with the files of a build context, by the rules of .dockerignore.

    Args:
        source: folder with a Dockerfile; relative to ``project``.
        project: the checkout.
        extra: whatever else the image depends on, such as the name of its base.
    """
    from docker.utils.build import exclude_paths

    root = Path(project) / source
    if not root.is_dir():
        # Refused with a sentence of its own; until then any name serves.
        return "missing"
    ignore = root / ".dockerignore"
    patterns = [
        line.strip()
        for line in (ignore.read_text(encoding="utf-8").splitlines() if ignore.is_file() else [])
        if line.strip() and not line.startswith("#")
    ]
    content_digest = hashlib.sha256(json.dumps(extra, sort_keys=True).encode())
    for name in sorted(exclude_paths(str(root), patterns, dockerfile="Dockerfile")):
        path = root / name
        if path.is_symlink():
            content = b"link " + str(path.readlink()).encode()
        elif path.is_file():
            content = b"file " + (b"x " if path.stat().st_mode & 0o100 else b"- ") + path.read_bytes()
        else:
            content = b"directory"
        content_digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return content_digest.hexdigest()[:12]


class FilterModule:
    """The filters by the names that templates use."""

    def filters(self) -> dict[str, Any]:
        """Return them."""
        return {
            "build_problem": build_problem,
            "image_candidates": image_candidates,
            "image_details": read_images,
            "image_names": image_names,
            "image_starts": image_starts,
            "images_missing": images_missing,
        }
