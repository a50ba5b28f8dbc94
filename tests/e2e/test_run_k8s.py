"""What `make run-k8s` shows beside the verdicts, which test_run.py looks at: kubectl's own output."""

import re
import subprocess
import sys

import pytest

from tests.rigs.process import ROOT


@pytest.fixture(scope="module")
def shown() -> str:
    command = (sys.executable, "-m", "examples.run_k8s", "--hypervisor", "sim")
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=180).stdout


def test_kubectl_get_shows_each_verdict(shown: str) -> None:
    assert re.search(r"/web +OffGraceful +Off +\S+ +GRACEFUL +True", shown)
    assert re.search(r"/deaf +OffGraceful +Off +\S+ +FORCED +TIMEOUT +True", shown)


def test_the_events_tell_what_went_wrong(shown: str) -> None:
    assert re.search(r"Warning +HookFailed +broken +Hook hook-1: FAILED, exit code 3", shown)
    assert re.search(r"Warning +ForcedOff +deaf +Powered off hard, reason TIMEOUT", shown)


def test_a_vm_is_started_again(shown: str) -> None:
    assert re.search(r"^legacy +On +On +\S+ +GRACEFUL +True", shown, re.MULTILINE)
