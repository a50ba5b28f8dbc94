"""The machine's own UUID."""

from pathlib import Path

from common.own_machine import system_uuid


def test_it_is_what_the_firmware_says(tmp_path: Path) -> None:
    (tmp_path / "product_uuid").write_text("4C4C4544-0042-3510-8054-B4C04F564433\n")
    assert system_uuid(tmp_path / "product_uuid") == "4c4c4544-0042-3510-8054-b4c04f564433"


def test_where_there_is_none_it_is_empty(tmp_path: Path) -> None:
    assert system_uuid(tmp_path / "product_uuid") == ""


def test_what_is_no_text_is_none(tmp_path: Path) -> None:
    (tmp_path / "product_uuid").write_bytes(b"\xff\xfe")
    assert system_uuid(tmp_path / "product_uuid") == ""
