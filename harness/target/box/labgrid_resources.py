# SPDX-License-Identifier: GPL-2.0-only
"""What a place of labgrid's has, as JSON: `python -m harness.target.box.labgrid_resources ENVIRONMENT PLACE`.

A process of its own: labgrid's session runs gRPC's threads, which a program that starts others does without.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from labgrid import Environment, Target, target_factory
from labgrid.remote.client import find_role_by_place
from labgrid.resource.remote import RemotePlace


def resources(environment: str, place: str) -> dict[str, Any]:
    """`resources`: class -> arguments of the first of that class; `keyfile`: of an SSHDriver, or ''.

    The place must have been acquired by this user.
    """
    env = Environment(environment)
    targets = env.config.get_targets()
    role = find_role_by_place(targets, place)
    drivers = target_factory.normalize_config(targets[role])[1] if role else {}
    logins = [arguments for arguments, _ in drivers.get("SSHDriver", {}).values()]
    keyfile = next((login["keyfile"] for login in logins if "keyfile" in login), "")
    target = Target(place, env=env)
    RemotePlace(target, name=place)
    found: dict[str, Any] = {}
    for resource in target.resources:
        entry = getattr(resource, "_remote_entry", None)
        if entry is not None:
            found.setdefault(entry.cls, dict(entry.args))
    return {"resources": found, "keyfile": env.config.resolve_path(keyfile) if keyfile else ""}


if __name__ == "__main__":
    print(json.dumps(resources(*sys.argv[1:3])))
