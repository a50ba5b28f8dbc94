from common.text import clean, encodable, own_words


def test_output_loses_its_escapes_and_keeps_its_letters() -> None:
    assert clean("grün\x1b[31m\x9b\tüber\n") == "grün\\x1b[31m\\x9b\tüber\n"


def test_a_validator_is_quoted_in_its_own_words() -> None:
    assert own_words("Value error, must be red") == own_words("must be red") == "must be red"


def test_half_a_surrogate_pair_becomes_its_escape() -> None:
    assert encodable("naïve \ud83d") == "naïve \\ud83d"
