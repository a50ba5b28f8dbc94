"""A Kubernetes API server, its etcd, and what people use with it: built or downloaded once, and never installed.

tools/go.mod says the versions. A newer one is `go get helm.sh/helm/v3@VERSION && go mod tidy` there, and likewise for
k8s.io/kubernetes, whose own go.mod replaces its staging modules: those lines move along by hand.
"""

import hashlib
import re
import subprocess
from pathlib import Path

from tests.rigs.cache import locked
from tests.rigs.go import install

HERE = Path(__file__).parent
TOOLS = HERE / "tools"
PACKAGES = ("k8s.io/kubernetes/cmd/kube-apiserver", "k8s.io/kubernetes/cmd/kubectl", "helm.sh/helm/v3/cmd/helm")


def kubernetes() -> Path:
    """The folder of `kube-apiserver`, `kubectl` and `helm`; the first call builds them, which takes some minutes."""
    flags = _flags()
    parts = (TOOLS / "go.mod").read_bytes(), (TOOLS / "go.sum").read_bytes(), flags.encode()
    digest = hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]
    return install(f"kubernetes-{digest}", PACKAGES, module=TOOLS, ldflags=flags)


def etcd() -> Path:
    """The path of the distribution's etcd; the first call downloads it."""
    with locked("etcd") as cache:
        found = subprocess.run([HERE / "etcd.sh", cache], stdout=subprocess.PIPE, text=True, check=True)
    return Path(found.stdout.strip())


def _flags() -> str:
    """Programs built from modules do not know their versions, and a chart's `kubeVersion` asks for them."""
    versions = dict(re.findall(r"^\t(k8s.io/kubernetes|helm.sh/helm/v3) (v\S+)", _mod(), re.MULTILINE))
    kube, helm = versions["k8s.io/kubernetes"], versions["helm.sh/helm/v3"]
    major, minor, _ = kube.removeprefix("v").split(".", 2)
    values = {
        "k8s.io/component-base/version.gitVersion": kube,
        "k8s.io/component-base/version.gitMajor": major,
        "k8s.io/component-base/version.gitMinor": minor,
        "helm.sh/helm/v3/internal/version.version": helm,
        "helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor": major,
        "helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor": minor,
    }
    return " ".join(["-s -w", *(f"-X {name}={value}" for name, value in values.items())])


def _mod() -> str:
    return (TOOLS / "go.mod").read_text()


if __name__ == "__main__":
    print(etcd())
    print(kubernetes())
