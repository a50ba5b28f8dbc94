"""The real program, with a provider that speaks over a real socket."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import yaml

from protos.power.v1 import power_pb2 as pb
from tests.unit.client.fake_provider import FakeProvider, serving

ROOT = Path(__file__).parents[3]


Start = Callable[[Path], Awaitable[Process]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts the controller on a directory; nothing is left running, however a test ends."""
    started: list[Process] = []

    async def start(manifests: Path) -> Process:
        arguments = ("-m", "controller", "--manifests", str(manifests), "--state-dir", str(tmp_path / "state"))
        started.append(await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=ROOT, stderr=PIPE))
        return started[-1]

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def until(process: Process, word: str) -> None:
    """Read the log up to a line that contains `word`; every line is JSON."""
    assert process.stderr
    async with asyncio.timeout(30):
        while word not in json.dumps(json.loads(await process.stderr.readline())):
            pass


async def stop(process: Process) -> str:
    process.send_signal(signal.SIGTERM)
    _, rest = await process.communicate()
    return rest.decode()


async def test_sigterm_is_a_clean_end(start: Start, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    process = await start(tmp_path / "m")
    await until(process, "synced")
    rest = await stop(process)
    assert process.returncode == 0
    assert [json.loads(line)["event"] for line in rest.splitlines()] == ["stopped"]


async def test_a_directory_that_is_not_there_ends_it_with_a_sentence(start: Start, tmp_path: Path) -> None:
    process = await start(tmp_path / "nowhere")
    _, error = await process.communicate()
    assert process.returncode == 1
    assert "nowhere" in error.decode().splitlines()[-1]


async def test_a_manifest_becomes_one_request_and_a_status_beside_it_across_sigkill(
    start: Start, tmp_path: Path
) -> None:
    fake = FakeProvider()
    (tmp_path / "m").mkdir()
    async with serving(fake, tmp_path / "p.sock") as address:
        (tmp_path / "m/all.yaml").write_text(
            "apiVersion: infra.virtrigaud.io/v1beta1\nkind: Provider\nmetadata: {name: local}\n"
            f'spec: {{type: fake, runtime: {{endpoint: "{address}"}}}}\n---\n'
            "apiVersion: infra.virtrigaud.io/v1beta1\nkind: VirtualMachine\nmetadata: {name: web}\n"
            "spec: {providerRef: {name: local}, powerState: OffGraceful}\n"
        )
        first = await start(tmp_path / "m")
        await until(first, "ShutdownStarted")
        first.kill()
        await first.communicate()
        second = await start(tmp_path / "m")
        await until(second, "synced")
        await stop(second)
    assert len([each for each in fake.requests if isinstance(each, pb.ShutdownRequest)]) == 1
    status = yaml.safe_load((tmp_path / "state/default/VirtualMachine/web.yaml").read_text())["status"]
    assert (status["phase"], status["operation"]["id"]) == ("ShuttingDown", "op-1")
