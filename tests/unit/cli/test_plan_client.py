from pathlib import Path

from tests.unit.cli.conftest import Shell


def test_a_controller_that_does_not_answer_is_named(vmpower: Shell, tmp_path: Path) -> None:
    told = vmpower("plan", "list", "--controller", f"unix://{tmp_path}/none.sock")
    assert told.code == 5
    assert told.err.startswith(f"vmpower: No controller answers at unix://{tmp_path}/none.sock.\n")
    assert "--listen" in told.err


def test_a_controller_is_found_in_the_configuration(vmpower: Shell, own_configuration: Path, tmp_path: Path) -> None:
    own_configuration.parent.mkdir(parents=True)
    own_configuration.write_text(f'controller: {{address: "unix://{tmp_path}/own.sock"}}')
    assert "own.sock" in vmpower("plan", "list").err
