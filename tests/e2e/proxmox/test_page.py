"""docs/proxmox.md, typed from top to bottom: a provider on the rig, whose account has what its commands give it."""

import os
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.e2e.proxmox import account
from tests.rigs.cache import cache as cached
from tests.rigs.page import Example, Result, placed, require_shown, type_all
from tests.rigs.pages import typed
from tests.rigs.process import ROOT
from tests.rigs.proxmox.cluster import Cluster

PAGE = typed("docs/proxmox.md")
SCP = '#!/bin/sh\nexec /usr/bin/scp -q -O -S "$(dirname "$0")/ssh" "$@"\n'
SSH = '#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift 2\nexec sh -c "$*"\n'
"""scp's way to the other machine, which is this one."""

pytestmark = pytest.mark.timeout(300)  # the first test types all of it


def places(cluster: Cluster, folder: str) -> dict[str, str]:
    """The page's hosts, folders and secret, and the rig's."""
    return {
        "https://pve1.example,https://pve2.example": ",".join(cluster.urls),
        "'...'": cluster.token_secret,
        "/etc/pve/pve-root-ca.pem": str(cluster.ca),
        "/etc/vmpower": f"{folder}/etc",
        "/run/vmpower": folder,
    }


def other_machine(folder: str) -> str:
    """A folder with an scp for which every host is this one."""
    programs = Path(folder, "programs")
    programs.mkdir()
    for name, text in (("scp", SCP), ("ssh", SSH)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    return str(programs)


@cache
def results() -> tuple[list[Example], list[Result]]:
    """What is typed, and what each command printed."""
    with Cluster({"web": {"agent": "answers"}}, acl=True) as cluster, TemporaryDirectory(prefix="vmp-") as folder:
        for path, privileges in account.GRANTS.items():
            cluster.grant(account.USER, path, *privileges)
        page = placed(PAGE, places(cluster, folder))
        environment = os.environ | {
            "PATH": f"{other_machine(folder)}:{ROOT}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HOME": folder,
            "XDG_STATE_HOME": folder,
            "VMPOWER_CACHE": str(cached()),
        }
        return page, type_all(page, Path(folder), environment)


@pytest.mark.parametrize("number", range(len(PAGE)))
def test_a_command_of_the_page_does_what_the_page_shows(number: int) -> None:
    page, printed = results()
    require_shown(page, number, printed[number])


def test_the_token_that_is_made_is_the_one_that_the_provider_is_given() -> None:
    (token,) = account.TOKENS
    assert f"printf '{token}' > /etc/vmpower/pve/token-id" in [example.command for example in PAGE]
