"""`python -m providers.libvirt --listen ADDR [--uri URI]`."""

from providers.libvirt.adapter import LibvirtAdapter
from providers.libvirt.config import LibvirtSettings
from providers.server.server import run


def main() -> None:
    run(LibvirtSettings.load("providers.libvirt"), LibvirtAdapter)


if __name__ == "__main__":
    main()
