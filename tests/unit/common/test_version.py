import re
import tomllib
from pathlib import Path

import pytest

from common.version import version

ROOT = Path(__file__).parents[3]
PROGRAMS = sorted(ROOT.glob("[!.]*/**/*.py"))


def test_a_checkout_has_the_version_that_its_project_file_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert version() == project["version"]


def test_no_program_and_no_test_writes_the_version_a_second_time() -> None:
    written = re.compile(rf"(?<![\d.]){re.escape(version())}(?![\d.])")
    assert [str(path.relative_to(ROOT)) for path in PROGRAMS if written.search(path.read_text())] == []


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("**/*.md")), ids=lambda page: page.stem)
def test_a_page_names_no_other_version_of_vmpower(page: Path) -> None:
    assert set(re.findall(r"\bvmpower[: ]\(?(\d+\.\d+\.\d+)", page.read_text())) <= {version()}
