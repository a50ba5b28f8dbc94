"""The VMs that were migrated away from here and kept their definitions here, on disk.

A libvirtd that is restarted forgets why a domain is off. If the provider was restarted as well, such a VM would look
like one that is off, and a PowerOn would start a second copy of it on its disk.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import structlog

from common.files import replace

log = structlog.get_logger()


class MovedVMs:
    """Their ids, a line each in `file`, which is there only if there were any. What cannot be written is tried again
    with the next change."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._written = frozenset(_read(file))
        self.ids = self._written

    async def note(self, moved: Mapping[str, bool]) -> None:
        """Write down which of these VMs have moved; the others stay as they were."""
        self.ids = (self.ids - moved.keys()) | {vm_id for vm_id, away in moved.items() if away}
        if self.ids == self._written:
            return
        wanted = self.ids
        try:
            await asyncio.to_thread(_write, self._file, sorted(wanted))
            self._written = wanted
        except OSError as error:
            log.warning("which VMs were moved is not written down", file=str(self._file), error=str(error))


def _read(file: Path) -> list[str]:
    """Of a file that cannot be read nothing is known."""
    try:
        return file.read_text().split()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        log.warning("which VMs were moved cannot be read", file=str(file), error=str(error))
        return []


def _write(file: Path, ids: list[str]) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace(file, "".join(f"{vm_id}\n" for vm_id in ids), on_disk=True)
