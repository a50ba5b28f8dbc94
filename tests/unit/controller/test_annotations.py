from controller.annotations import mistakes, ours


def test_annotations_of_others_are_left_out() -> None:
    assert ours({"vmpower/paused": "true", "example.com/a": "b"}) == {"vmpower/paused": "true"}


def test_what_has_an_effect_is_no_mistake() -> None:
    good = {
        "vmpower/on-delete": "OffGraceful",
        "vmpower/paused": "false",
        "vmpower/rebind": "x",
        "vmpower/decision": "?",
    }
    assert list(mistakes(good)) == []


def test_a_wrong_value_is_told_with_those_that_there_are() -> None:
    (said,) = mistakes({"vmpower/on-delete": "Delete"})
    assert said == "vmpower/on-delete: 'Delete' has no effect; write OffGraceful, or remove it."


def test_a_misspelt_name_is_told_with_those_that_there_are() -> None:
    (said,) = mistakes({"vmpower/on-delte": "OffGraceful"})
    assert "vmpower/on-delete" in said


def test_a_reason_that_is_too_long_is_said_to_be_cut() -> None:
    assert list(mistakes({"vmpower/reason": "x" * 256})) == []
    (said,) = mistakes({"vmpower/reason": "x" * 257})
    assert "cut after 256 characters" in said
