import sys
from contextlib import suppress

import pytest

from common.version import version
from providers import __main__ as command


def test_a_missing_extra_is_named_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "proxmoxer", None)
    for name in [name for name in sys.modules if name.startswith("providers.proxmox")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "argv", ["vmpower-provider", "proxmox", "--help"])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == "vmpower-provider: proxmox needs the extra of that name: install vmpower[proxmox]."


def test_a_type_that_is_not_known_is_a_mistake_of_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["vmpower-provider", "xen"])
    with pytest.raises(SystemExit):
        command.main()
    assert "libvirt,vsphere,proxmox,sim" in capsys.readouterr().err


def test_the_help_tells_a_duration_and_its_default_as_they_are_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["vmpower-provider", "sim", "--help"])
    with pytest.raises(SystemExit):
        command.main()
    told = " ".join(capsys.readouterr().out.split())
    assert "--default-timeout DURATION grace period where the request names none (default 60s)" in told
    assert "null" not in told


@pytest.mark.parametrize("arguments", [["--version"], ["sim", "--version"]])
def test_the_version_is_printed_and_nothing_is_started(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["vmpower-provider", *arguments])
    with suppress(SystemExit):
        command.main()
    assert capsys.readouterr() == (f"vmpower {version()}\n", "")
