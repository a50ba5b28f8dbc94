import pytest
from pydantic import TypeAdapter, ValidationError

from controller.fields import Name


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "UPPER", "a/b", "-a", "a" * 254])
def test_a_name_that_kubernetes_would_refuse_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Name).validate_python(name)
