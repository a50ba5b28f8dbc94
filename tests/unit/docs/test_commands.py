"""Every command of a page is typed by a test, or named with the reason why none can (tests/rigs/pages.py)."""

import re
from pathlib import Path

import pytest

from tests.rigs.page import examples
from tests.rigs.pages import NOT_RUN, RECIPES, RUN_BY, TRANSCRIPTS, left_out, pages
from tests.rigs.process import ROOT

FENCE = re.compile(r"^ *```(.*)\n((?:.*\n)*?) *```$", re.MULTILINE)
INDENTED = re.compile(
    r"^ {4}(\$|python|vmpower|vmpower-\w+|make|pytest|pip|pipx|kubectl|helm|docker|govc|pveum|grpcurl|systemctl|curl) ",
    re.MULTILINE,
)
OTHER_SHELLS = {"sh", "bash", "shell", "zsh", "shell-session"}


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_every_page_with_commands_has_a_test_that_types_them_and_no_other_page_is_named() -> None:
    assert {name(page) for page in pages() if examples(page)} == RUN_BY.keys()


@pytest.mark.parametrize("page", RUN_BY)
def test_the_test_of_a_page_is_there_and_reads_it(page: str) -> None:
    text = (ROOT / RUN_BY[page]).read_text(encoding="utf-8")
    assert re.search(rf"\b{Path(page).stem}\b", text)
    assert re.search(r"\b(examples|typed)\(", text)


@pytest.mark.parametrize("page", pages(), ids=name)
def test_commands_stand_where_their_test_finds_them(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    blocks = FENCE.findall(text)
    assert [kind for kind, _ in blocks if kind in OTHER_SHELLS] == ["sh"] * (name(page) in RECIPES)
    elsewhere = [block for kind, block in blocks if kind != "console" and re.search(r"^\$ ", block, re.MULTILINE)]
    assert len(elsewhere) == (name(page) in TRANSCRIPTS)
    assert all(block.startswith("$ ") for kind, block in blocks if kind == "console")
    assert text.count("```console") == text.count("\n```console\n")
    assert INDENTED.findall(FENCE.sub("", text)) == []


@pytest.mark.parametrize("page", RECIPES)
def test_the_test_of_a_recipe_takes_it_from_its_page(page: str) -> None:
    text = (ROOT / RECIPES[page]).read_text(encoding="utf-8")
    assert Path(page).name in text
    assert 'recipe("sh")' in text


@pytest.mark.parametrize(("page", "beginning"), [(page, one) for page, those in NOT_RUN.items() for one in those])
def test_what_is_left_out_is_on_its_page_and_has_a_reason(page: str, beginning: str) -> None:
    left = [example for example in examples(ROOT / page) if example.command.startswith(beginning)]
    assert left
    assert all(left_out(page, example) for example in left)
