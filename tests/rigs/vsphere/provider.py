"""The vSphere provider as a process, told where the rig's vCenter is."""

from pathlib import Path

from tests.rigs.process import Provider
from tests.rigs.vsphere.vcenter import VCenter


def provider(vcenter: VCenter, *args: str) -> Provider:
    """One that is allowed to run programs in guests."""
    return Provider("vsphere", "--allow-guest-exec", *flags(vcenter), *args)


def flags(vcenter: VCenter) -> list[str]:
    """What it is told of a vCenter and of its guests' login."""
    return [
        f"--url={vcenter.url}",
        f"--ca-file={vcenter.ca}",
        f"--credentials-dir={vcenter.credentials}",
        f"--guest-credentials-dir={login(vcenter.folder / 'guest-login', 'root', 'guest')}",
    ]


def login(folder: Path, username: str, password: str) -> Path:
    """A folder as a Secret with a login is mounted."""
    folder.mkdir(exist_ok=True)
    (folder / "username").write_text(username)
    (folder / "password").write_text(password)
    return folder
