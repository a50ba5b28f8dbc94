"""The vSphere provider as a process, told where the rig's vCenter is."""

from pathlib import Path

from tests.rigs.process import Provider
from tests.rigs.vsphere.vcenter import VCenter


def vsphere_provider(vcenter: VCenter, *args: str) -> Provider:
    """A provider that is allowed to run programs in guests."""
    return Provider("vsphere", "--allow-guest-exec", *flags(vcenter), *args)


def flags(vcenter: VCenter) -> list[str]:
    """What the provider is told of a vCenter; the files with the logins are written now."""
    return [
        f"--url={vcenter.url}",
        f"--ca-file={vcenter.ca}",
        f"--credentials-dir={login(vcenter.folder / 'login', vcenter.username, vcenter.password)}",
        f"--guest-credentials-dir={login(vcenter.folder / 'guest-login', 'root', 'guest')}",
    ]


def login(folder: Path, username: str, password: str) -> Path:
    """A directory as a Secret with a login is mounted."""
    folder.mkdir(exist_ok=True)
    (folder / "username").write_text(username)
    (folder / "password").write_text(password)
    return folder
