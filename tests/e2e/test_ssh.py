"""A host that ssh does not reach, by the real ssh: what the provider's log says of it is one sentence with who acts."""

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rigs.process import Program


def said(port: int, tmp_path: Path, **env: str) -> str:
    """Why the hypervisor is not reached, in the provider's words."""
    uri = f"qemu+ssh://root@127.0.0.1:{port}/system?no_tty=1"
    listen = ("--listen", f"unix://{tmp_path}/s", "--state-dir", str(tmp_path / "state"))
    with Program("providers.libvirt", "--uri", uri, *listen, env={"HOME": str(tmp_path), **env}) as program:
        program.wait_output("cannot be reached")
        lines = [json.loads(line) for line in program.output().splitlines()]
    (line,) = {str(each["error"]) for each in lines if "cannot be reached" in str(each.get("error"))}
    return line


@pytest.fixture
def closed() -> Iterator[int]:
    """A port of this machine at which nothing listens, and which nothing else is given meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.mark.skipif(shutil.which("ssh") is None, reason="there is no ssh here")
def test_a_host_without_sshd_is_its_operators_matter(closed: int, tmp_path: Path) -> None:
    sentence = said(closed, tmp_path)
    assert sentence.startswith(f"libvirt cannot be reached at qemu+ssh://127.0.0.1:{closed}/system?no_tty=1 (")
    assert f"connect to host 127.0.0.1 port {closed}: Connection refused" in sentence
    assert sentence.endswith("; the hypervisor's operator looks after the host and its sshd.")
    assert "\n" not in sentence


def test_a_machine_without_ssh_is_the_providers_operators_matter(closed: int, tmp_path: Path) -> None:
    sentence = said(closed, tmp_path, PATH=str(tmp_path))
    assert sentence.endswith("; the provider's operator installs ssh beside the provider.")
    assert "\n" not in sentence
