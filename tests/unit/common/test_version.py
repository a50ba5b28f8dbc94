import tomllib
from pathlib import Path

from common.version import version


def test_a_checkout_has_the_version_that_its_project_file_names() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert version() == project["version"]
