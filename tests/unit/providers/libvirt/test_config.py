"""What the libvirt provider can be told."""

import pytest

from providers.libvirt.config import LibvirtSettings


def test_the_uri_is_the_machines_own_libvirt_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VMPOWER_URI", raising=False)
    assert LibvirtSettings.load("providers.libvirt", ["--listen", "unix:///x"]).uri == "qemu:///system"


def test_the_uri_is_a_flag_or_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMPOWER_URI", "test:///default")
    assert LibvirtSettings.load("providers.libvirt", ["--listen", "unix:///x"]).uri == "test:///default"
    named = ["--listen", "unix:///x", "--uri", "qemu:///session"]
    assert LibvirtSettings.load("providers.libvirt", named).uri == "qemu:///session"


def test_no_kind_of_call_may_have_more_than_libvirtd_carries_out_for_one_connection(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        LibvirtSettings.load("providers.libvirt", ["--listen", "unix:///x", "--max-cuts", "6"])
    assert "--max-cuts" in capsys.readouterr().err
