from common.text import clean


def test_output_loses_its_escapes_and_keeps_its_letters() -> None:
    assert clean("grün\x1b[31m\x9b\tüber\n") == "grün\\x1b[31m\\x9b\tüber\n"
