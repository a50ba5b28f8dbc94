"""`python -m providers.vsphere --listen ADDR --url https://vcenter.example --credentials-dir DIR`."""

from providers.server.server import run
from providers.vsphere.adapter import VsphereAdapter
from providers.vsphere.config import VsphereSettings


def main() -> None:
    run(VsphereSettings.load("providers.vsphere"), VsphereAdapter)


if __name__ == "__main__":
    main()
