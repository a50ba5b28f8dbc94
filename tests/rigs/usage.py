"""What a process has used so far, by the kernel's own books."""

import os
import re
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def rss(pid: int, peak: bool = False) -> float:
    """MiB of memory that it occupies now, or occupied at the most."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{'VmHWM' if peak else 'VmRSS'}:\s+(\d+) kB", status, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"process {pid} has ended")
    return round(int(found[1]) / 1024, 1)


def cpu(pid: int) -> float:
    """Seconds that all its threads computed."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / TICKS
