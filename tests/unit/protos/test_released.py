"""The contract as it is against the contract as last released, by the check that `make lint` runs."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
BUF = Path(sys.executable).with_name("buf")
RELEASED = "protos/power/v1/released.binpb"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The contract in a tree without a history, as a tarball has it."""
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    shutil.copytree(ROOT / "protos", tmp_path / "protos")
    return tmp_path


def breaks(tree: Path, before: str = "", after: str = "") -> list[str]:
    """What the check finds once this text of the contract has become another."""
    contract = tree / "protos/power/v1/power.proto"
    text = contract.read_text()
    assert before in text
    contract.write_text(text.replace(before, after, 1))
    checked = subprocess.run(
        [BUF, "breaking", "--against", RELEASED], cwd=tree, capture_output=True, text=True, check=False
    )
    assert checked.stderr == ""
    assert checked.returncode == (100 if checked.stdout else 0)
    return checked.stdout.splitlines()


def test_the_contract_breaks_nothing_that_was_released(tree: Path) -> None:
    assert breaks(tree) == []


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ("POWER_STATE_UNKNOWN = 5;", "POWER_STATE_UNKNOWN = 6;", 'enum value "5" on enum "PowerState"'),
        ("string vm_name = 11;", "string vm_name = 99;", 'field "11" with name "vm_name" on message "Operation"'),
        ("int32 exit_code = 3;", "int64 exit_code = 3;", "exit_code"),
        ("string node = 6;", "string host = 6;", 'Field "6" with name "host" on message "VM"'),
        ("rpc ListVMs(", "rpc ListMachines(", 'RPC "ListVMs"'),
        ("returns (stream WatchVMsResponse)", "returns (WatchVMsResponse)", "streaming"),
    ],
    ids=["an enum's value", "a field's number", "a field's type", "a field's name", "a method", "a stream"],
)
def test_a_break_is_found(tree: Path, before: str, after: str, found: str) -> None:
    assert any(found in line for line in breaks(tree, before, after))


def test_what_is_new_breaks_nothing(tree: Path) -> None:
    assert breaks(tree, "string vm_name = 11;", "string vm_name = 11;\n  string note = 99;") == []
