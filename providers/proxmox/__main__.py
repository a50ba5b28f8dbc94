"""`python -m providers.proxmox --listen ADDR --url https://pve1.example,https://pve2.example --credentials-dir DIR`."""

from providers.proxmox.adapter import ProxmoxAdapter
from providers.proxmox.config import ProxmoxSettings
from providers.server.server import run


def main() -> None:
    run(ProxmoxSettings.load("providers.proxmox"), ProxmoxAdapter)


if __name__ == "__main__":
    main()
