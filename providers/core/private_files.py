"""Files of this user alone: a journal tells what was done to VMs, and what it says is believed at the next start."""

import os
import stat
from pathlib import Path

import structlog

ROOT = 0
OTHERS = stat.S_IRWXG | stat.S_IRWXO
WRITABLE = stat.S_IWGRP | stat.S_IWOTH

log = structlog.get_logger()


def make_private(path: Path) -> None:
    """Create a file, or take from others what they may do with it and with those that SQLite keeps beside it. A folder
    of this user that others may write to is tightened; one of another user (a volume of a pod) is left, and told.

    Raises:
        OSError: it is a link, or another user's: what is in it cannot be believed.
    """
    _tighten_folder(path.parent)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    for file in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
        if os.path.lexists(file):
            _tighten(file)


def _tighten(file: Path) -> None:
    found = file.lstat()
    if stat.S_ISLNK(found.st_mode) or found.st_uid not in {os.geteuid(), ROOT}:
        raise PermissionError(f"{file} is not a file of this user")
    if found.st_mode & OTHERS and found.st_uid == os.geteuid():
        file.chmod(stat.S_IMODE(found.st_mode) & ~OTHERS)
        log.warning("others could use this file; not any more", file=str(file), was=_octal(found))


def _tighten_folder(folder: Path) -> None:
    found = folder.stat()
    if not found.st_mode & WRITABLE:
        return
    if found.st_uid != os.geteuid():
        log.warning("others may replace files in this folder, whose owner is another", folder=str(folder))
        return
    folder.chmod(stat.S_IMODE(found.st_mode) & ~WRITABLE)
    log.warning("others could write to this folder; not any more", folder=str(folder), was=_octal(found))


def _octal(found: os.stat_result) -> str:
    return f"{stat.S_IMODE(found.st_mode):04o}"
