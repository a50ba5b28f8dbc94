"""One id, however it is written."""

import pytest

from providers.core.names import calls, canonical, is_uuid

UUID = "5012ab34-cd56-4789-9abc-def012345678"
FORMS = [
    UUID,
    UUID.upper(),
    UUID.replace("-", ""),
    UUID.replace("-", "").upper(),
    f"{{{UUID}}}",
    f"{{{UUID.upper()}}}",
    f"urn:uuid:{UUID}",
    f"URN:UUID:{UUID.upper()}",
]


@pytest.mark.parametrize("form", FORMS)
def test_a_uuid_is_the_same_in_every_form(form: str) -> None:
    assert canonical(form) == UUID
    assert is_uuid(form)


@pytest.mark.parametrize(
    "name",
    [
        "web",
        "100",
        "WEB",
        "/DC0/vm/Web",
        UUID[:-1],
        f"{UUID}0",
        f"{{{UUID}",
        f" {UUID}",
        f"{UUID}\n",
        UUID.replace("-", "_"),
        "5012-ab34cd5647899abcdef012345678",
        "5012ab34cd56-4789-9abc-def012345678",
        "\N{ARABIC-INDIC DIGIT FIVE}" * 32,
        "",
    ],
)
def test_any_other_name_is_left_as_it_is(name: str) -> None:
    assert canonical(name) == name
    assert not is_uuid(name)


@pytest.mark.parametrize("name", [*FORMS, "web", "/DC0/vm/web"])
def test_a_vm_is_called_by_each_form_of_its_id_and_by_its_names(name: str) -> None:
    assert calls(name, UUID, ("web", "/DC0/vm/web"))


@pytest.mark.parametrize("name", ["WEB", "db", UUID.replace("5", "6")])
def test_a_vm_is_called_by_nothing_else(name: str) -> None:
    assert not calls(name, UUID, ("web",))
