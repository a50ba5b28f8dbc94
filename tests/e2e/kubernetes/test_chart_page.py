"""The commands of deploy/helm/vmpower/README.md, on a real API: they do what the page shows."""

import os
from collections.abc import Iterator

import pytest

from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.page import Result, require_shown, type_all
from tests.rigs.pages import typed
from tests.rigs.process import ROOT

PAGE = typed("deploy/helm/vmpower/README.md")


@pytest.fixture(scope="module")
def results(cluster: Cluster) -> Iterator[list[Result]]:
    """What each command printed."""
    yield type_all(PAGE, ROOT, os.environ | cluster.environment)
    cluster.helm("uninstall", "vmpower", "--namespace", "vmpower")


@pytest.mark.parametrize("number", range(len(PAGE)))
def test_a_command_of_the_page_does_what_the_page_shows(number: int, results: list[Result]) -> None:
    require_shown(PAGE, number, results[number])
