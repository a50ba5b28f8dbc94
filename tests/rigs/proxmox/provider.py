"""The Proxmox provider as a process, told where the rig's cluster is."""

from tests.rigs.process import Provider
from tests.rigs.proxmox.cluster import Cluster


def provider(cluster: Cluster, *args: str) -> Provider:
    """One that is allowed to run programs in guests, and logs in with a token."""
    return Provider("proxmox", "--allow-guest-exec", *flags(cluster), *args)


def flags(cluster: Cluster) -> list[str]:
    """What it is told of a cluster."""
    return [
        f"--url={','.join(cluster.urls)}",
        f"--ca-file={cluster.ca}",
        f"--credentials-dir={cluster.token_dir}",
    ]
