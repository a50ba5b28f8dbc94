"""The machine that this process runs on."""

from pathlib import Path

PRODUCT_UUID = Path("/sys/class/dmi/id/product_uuid")
"""By the firmware (SMBIOS, DSP0134, System Information); Linux shows it to root alone."""


def system_uuid(path: Path = PRODUCT_UUID) -> str:
    """Its UUID in lower case; empty where it has none that this user may read."""
    try:
        return path.read_text().strip().lower()
    except (OSError, UnicodeDecodeError):
        return ""
