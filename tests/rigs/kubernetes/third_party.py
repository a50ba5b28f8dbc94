"""CRDs of other projects that the chart writes resources of, from their Go modules, pinned; kept in the cache.

third_party.install(cluster)
"""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.rigs.cache import locked
from tests.rigs.go import download
from tests.rigs.kubernetes.cluster import Cluster


@dataclass(frozen=True)
class Module:
    """A version of a Go module, the checksum that go.sum would have, and the files with the CRDs."""

    version: str
    checksum: str
    files: tuple[str, ...]


MODULES = (
    Module(
        "github.com/prometheus-operator/prometheus-operator@v0.87.1",
        "h1:zjzxO10Rv3goA/GDbE3Vgf2TNhhcOp7fZbRG0Tkm3OY=",
        tuple(
            f"example/prometheus-operator-crd/monitoring.coreos.com_{plural}.yaml"
            for plural in ("podmonitors", "prometheusrules")
        ),
    ),
    Module(
        "github.com/cert-manager/cert-manager@v1.19.2",
        "h1:jSprN1h5pgNDSl7HClAmIzXuTxic/5FXJ32kbQHqjlM=",
        tuple(f"deploy/crds/cert-manager.io_{plural}.yaml" for plural in ("certificates", "issuers")),
    ),
)


def crds() -> Path:
    """The folder of the CRDs; the first call downloads them."""
    digest = hashlib.sha256(json.dumps([str(module) for module in MODULES]).encode()).hexdigest()[:12]
    with locked("third-party-crds") as cache:
        folder = cache / f"third-party-crds-{digest}"
        if not folder.exists():
            _fetch(folder)
    return folder


def install(cluster: Cluster) -> None:
    """Apply them, and wait until their resources can be used."""
    given = ("-f", str(crds()))
    cluster.kubectl("create", *given)  # `apply` would write them into an annotation, which they are too long for
    cluster.wait_established(*given)


def _fetch(folder: Path) -> None:
    half = folder.with_suffix(".half")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir()
    for module in MODULES:
        source = download(module.version, module.checksum)
        for file in module.files:
            shutil.copy(source / file, half)
    half.rename(folder)


if __name__ == "__main__":
    print(crds())
