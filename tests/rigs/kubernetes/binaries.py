"""A Kubernetes API server, its etcd, and what people use with it: built once, and never installed.

tools/go.mod says the versions; Go's own `go get` and `go mod tidy` move them, but its `replace` lines, which are those
of Kubernetes' own go.mod, move along by hand. etcd is the one that Kubernetes asks for: a distribution's may be too old
for a watch that begins with a list.
"""

import hashlib
import re
from pathlib import Path

from tests.rigs.go import install

TOOLS = Path(__file__).parent / "tools"
PACKAGES = (
    "./etcd",
    "k8s.io/kubernetes/cmd/kube-apiserver",
    "k8s.io/kubernetes/cmd/kubectl",
    "helm.sh/helm/v3/cmd/helm",
)


def programs() -> Path:
    """The folder of `etcd`, `kube-apiserver`, `kubectl` and `helm`; the first call builds them: some minutes."""
    flags = _flags()
    sources = [(TOOLS / name).read_bytes() for name in ("go.mod", "go.sum", "etcd/main.go")]
    digest = hashlib.sha256(b"\0".join([*sources, flags.encode()])).hexdigest()[:12]
    return install(f"kubernetes-{digest}", PACKAGES, module=TOOLS, ldflags=flags)


def kubelet() -> Path:
    """`kubelet`, as far as kubectl reaches one; the first call builds it: half a minute."""
    sources = [(TOOLS / name).read_bytes() for name in ("go.mod", "go.sum", "kubelet/main.go")]
    digest = hashlib.sha256(b"\0".join(sources)).hexdigest()[:12]
    return install(f"kubelet-{digest}", ("./kubelet",), module=TOOLS) / "kubelet"


def versions() -> tuple[str, str]:
    """Those of Kubernetes and of Helm, like v1.2.3."""
    mod = (TOOLS / "go.mod").read_text()
    found = dict(re.findall(r"^\t(k8s.io/kubernetes|helm.sh/helm/v3) (v\S+)", mod, re.MULTILINE))
    return found["k8s.io/kubernetes"], found["helm.sh/helm/v3"]


def _flags() -> str:
    """Programs built from modules do not know their versions, and a chart's `kubeVersion` asks for them."""
    kubernetes, helm = versions()
    major, minor, _ = kubernetes.removeprefix("v").split(".", 2)
    values = {
        "k8s.io/component-base/version.gitVersion": kubernetes,
        "k8s.io/component-base/version.gitMajor": major,
        "k8s.io/component-base/version.gitMinor": minor,
        "helm.sh/helm/v3/internal/version.version": helm,
        "helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor": major,
        "helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor": minor,
    }
    return " ".join(["-s -w", *(f"-X {name}={value}" for name, value in values.items())])


if __name__ == "__main__":
    print(programs(), kubelet())
