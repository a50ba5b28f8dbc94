"""Files that tell kubectl, helm and the controller where a cluster is and who they are."""

from collections.abc import Mapping
from pathlib import Path

import yaml


def write_kubeconfig(path: Path, server: str, ca: Path, user: Mapping[str, str], namespace: str = "default") -> Path:
    """One cluster, whose certificate `ca` vouches for, and one user: {token: ...} or {tokenFile: ...}."""
    cluster = {"server": server, "certificate-authority": str(ca)}
    context = {"cluster": "rig", "user": "rig", "namespace": namespace}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "rig", "cluster": cluster}],
        "users": [{"name": "rig", "user": dict(user)}],
        "contexts": [{"name": "rig", "context": context}],
        "current-context": "rig",
    }
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path
