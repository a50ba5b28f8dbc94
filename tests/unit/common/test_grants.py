import pytest
from pydantic import ValidationError

from common.grants import Scope

LABELS = {"team": "a", "pool": "web", "path": "/dc/vm/team-a/web-1"}


def covers(scope: Scope, vm_id: str = "id-1", name: str = "web-1") -> bool:
    return scope.covers(vm_id, name, LABELS)


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (Scope(names=("web-1",)), True),
        (Scope(names=("db", "id-1")), True),
        (Scope(names=("web",)), False),
        (Scope(names=("WEB-1",)), False),
        (Scope(labels={"team": "a"}), True),
        (Scope(labels={"team": "b"}), False),
        (Scope(labels={"owner": ""}), False),
        (Scope(labels={"team": "a", "owner": "x"}), False),
        (Scope(pool="web"), True),
        (Scope(pool="we"), False),
        (Scope(folder="/dc/vm/team-a"), True),
        (Scope(folder="dc/vm/team-a/"), True),
        (Scope(folder="/dc/vm/team"), False),
        (Scope(folder="/dc/vm/team-a/web-1"), False),
        (Scope(names=("web-1",), pool="other"), False),
    ],
)
def test_a_vm_is_covered_that_meets_all_that_is_given(scope: Scope, expected: bool) -> None:
    assert covers(scope) is expected


def test_what_is_misspelt_is_refused_and_does_not_widen_the_scope() -> None:
    with pytest.raises(ValidationError, match="lables"):
        Scope.model_validate({"names": ["web"], "lables": {"team": "a"}})


@pytest.mark.parametrize("empty", [{}, {"names": []}, {"labels": {}}, {"pool": ""}])
def test_a_scope_that_names_nothing_is_refused(empty: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="give names, labels, pool or folder"):
        Scope.model_validate(empty)
