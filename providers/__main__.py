"""`vmpower-provider TYPE ...`: one provider process. A hypervisor's library is imported only when it is asked for."""

import sys
from importlib import import_module

from common.version import version

EXTRAS = {"libvirt": "libvirt", "vsphere": "pyVmomi", "proxmox": "proxmoxer"}
"""By type, which is also the name of its extra: the module that the extra brings."""
TYPES = (*EXTRAS, "sim")
USAGE = f"usage: vmpower-provider {{{','.join(TYPES)}}} [--help] ..., or --version"


def main() -> None:
    """Start the provider that the first argument names, with the arguments after it."""
    kind = sys.argv[1] if len(sys.argv) > 1 else ""
    if kind in ("-h", "--help"):
        print(USAGE)
        return
    if kind == "--version":
        print(f"vmpower {version()}")
        return
    if kind not in TYPES:
        print(USAGE, file=sys.stderr)
        sys.exit(2)
    del sys.argv[1]
    try:
        provider = import_module(f"providers.{kind}.__main__")
    except ModuleNotFoundError as error:
        if kind not in EXTRAS or (error.name or "").partition(".")[0] != EXTRAS[kind]:
            raise
        sys.exit(f"vmpower-provider: {kind} needs the extra of that name: install vmpower[{kind}].")
    provider.main()


if __name__ == "__main__":
    main()
