from providers.shared.errors import not_found


def test_an_error_names_the_vm_that_is_not_there() -> None:
    error = not_found("100")
    assert (error.metadata, "There is no VM 100;" in error.message) == ({"vm": "100"}, True)
