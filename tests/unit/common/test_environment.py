import pytest

from common.environment import variable


def test_a_variable_that_is_empty_counts_as_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VMPOWER_SHOP", raising=False)
    missing = variable("VMPOWER_SHOP")
    monkeypatch.setenv("VMPOWER_SHOP", "")
    assert variable("VMPOWER_SHOP") == missing == ""


def test_a_variable_that_is_set_has_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMPOWER_SHOP", "open")
    assert variable("VMPOWER_SHOP") == "open"
