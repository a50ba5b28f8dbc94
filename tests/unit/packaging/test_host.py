"""What the unit does as root before the host goes down."""

import os
import re
import subprocess
from pathlib import Path

from tests.rigs.process import ROOT

UNIT = (ROOT / "packaging" / "systemd" / "vmpower-host.service").read_text()


def test_what_root_notes_before_the_host_goes_down_is_readable_to_the_unit_s_user(tmp_path: Path) -> None:
    (tmp_path / "vmpower").mkdir()
    (tmp_path / "systemctl").write_text("#!/bin/sh\necho stopping\n")
    (tmp_path / "systemctl").chmod(0o755)
    (script,) = re.findall(r"^ExecStop=\+sh -c '(.*?)'$", UNIT, re.DOTALL | re.MULTILINE)
    (mask,) = re.findall(r"^UMask=(\d+)$", UNIT, re.MULTILINE)  # it counts for root's commands, too
    script = script.replace("\\\n", "").replace("%t", str(tmp_path))
    path = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["sh", "-c", script], env=path, umask=int(mask, 8), check=True)
    assert (tmp_path / "vmpower" / "host-going-down").stat().st_mode & 0o444 == 0o444
