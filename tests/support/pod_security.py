"""The Pod Security Standard `restricted`, as far as a manifest shows it."""

from __future__ import annotations

from typing import Any

Body = dict[str, Any]

_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def refusals(pod: Body) -> list[str]:
    """What the Pod Security Standard `restricted` says against a pod."""
    whole = pod.get("securityContext", {})
    found = [key for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key)]
    found += [volume["name"] for volume in pod.get("volumes", []) if not (set(volume) - {"name"}) <= _VOLUMES]
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        own = container.get("securityContext", {})
        context = {**whole, **own}
        rules = {
            "runAsNonRoot": context.get("runAsNonRoot") is True and context.get("runAsUser") != 0,
            "seccompProfile": context.get("seccompProfile", {}).get("type") in {"RuntimeDefault", "Localhost"},
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
            "privileged": not own.get("privileged"),
            "capabilities": own.get("capabilities", {}) == {"drop": ["ALL"]},
            "hostPort": not any(port.get("hostPort") for port in container.get("ports", [])),
            "readOnlyRootFilesystem": own.get("readOnlyRootFilesystem") is True,  # more than the standard asks
        }
        found += [rule for rule, kept in rules.items() if not kept]
    return found
