"""Every console block of docs/kubernetes.md is run, in order, in a namespace of its own."""

import re
import shutil
import subprocess
from pathlib import Path

from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.process import ROOT

PAGE = ROOT / "docs" / "kubernetes.md"
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    lines = [line for block in BLOCK.findall(PAGE.read_text()) for line in block.splitlines()]
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


def test_each_command_of_the_page_works(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    environment = cluster.environment | {"KUBECONFIG": str(shutil.copy(cluster.kubeconfig, tmp_path))}
    script = f"kubectl config set-context --current --namespace {namespace}\n" + "\n".join(commands())
    done = subprocess.run(
        ["/bin/sh", "-ex"], input=script, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("+ kubectl ") >= len(commands())
