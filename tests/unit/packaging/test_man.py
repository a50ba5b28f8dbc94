"""The man page names what there is."""

import re

from cli.__main__ import app
from tests.rigs.process import ROOT

PAGE = (ROOT / "packaging" / "man" / "vmpower.1").read_text()


def test_the_man_page_names_every_command() -> None:
    lists = re.findall(r"^\.TP\n\.BR (.*)$", PAGE.partition(".SH UNITS")[0], re.MULTILINE)
    named = {word for line in lists for word in re.findall(r"\w+", line)}
    assert named == {command.name for command in app.registered_commands}
