"""The controller on a Kubernetes API, as a process."""

from pathlib import Path

from tests.rigs.process import Program


class KubernetesController(Program):
    """`python -m controller --kubernetes`, as whom `kubeconfig` says; `args` are further flags.

    `namespace` is the one it looks after (all, without), `lease_namespace` has its Lease, in which `identity` is
    its name.
    """

    def __init__(
        self,
        kubeconfig: Path,
        *args: str,
        namespace: str | None = None,
        lease_namespace: str | None = None,
        identity: str | None = None,
    ) -> None:
        flags = {"--namespace": namespace, "--lease-namespace": lease_namespace, "--identity": identity}
        given = [word for flag, value in flags.items() if value is not None for word in (flag, value)]
        super().__init__("controller", "--kubernetes", "--kubeconfig", str(kubeconfig), *given, *args)
