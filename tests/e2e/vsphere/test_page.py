"""docs/vsphere.md, typed from top to bottom on the rig's vCenter: our provider, and VMware's govc for the role."""

import os
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.rigs.cache import cache as cached
from tests.rigs.page import Example, Result, placed, require_shown, type_all
from tests.rigs.pages import typed
from tests.rigs.process import ROOT
from tests.rigs.vsphere.govc import govc
from tests.rigs.vsphere.vcenter import VCenter

VMS: dict[str, dict[str, object]] = {"web": {"datacenter": "dc", "folder": "prod"}}

pytestmark = pytest.mark.timeout(300)  # the first test types all of it; govc is built if it is not there


def places(vcenter: VCenter, folder: str) -> dict[str, str]:
    """The page's hosts and folders, and the rig's."""
    return {
        "https://vcenter.example": vcenter.url,
        "/etc/vmpower/vcenter-ca.pem": str(vcenter.ca),
        "/etc/vmpower/vcenter": str(vcenter.credentials),
        "/run/vmpower": folder,
    }


@cache
def results() -> tuple[list[Example], list[Result]]:
    """What is typed, and what each command printed."""
    with VCenter(VMS) as vcenter, TemporaryDirectory(prefix="vmp-") as folder:
        page = placed(typed("docs/vsphere.md"), places(vcenter, folder))
        environment = os.environ | {
            "PATH": f"{ROOT}:{Path(sys.executable).parent}:{govc().parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HOME": folder,
            "XDG_STATE_HOME": folder,
            "VMPOWER_CACHE": str(cached()),
            "GOVC_URL": vcenter.url,
            "GOVC_USERNAME": vcenter.username,
            "GOVC_PASSWORD": vcenter.password,
            "GOVC_TLS_CA_CERTS": str(vcenter.ca),
        }
        return page, type_all(page, Path(folder), environment)


@pytest.mark.parametrize("number", range(len(typed("docs/vsphere.md"))))
def test_a_command_of_the_page_does_what_the_page_shows(number: int) -> None:
    page, printed = results()
    require_shown(page, number, printed[number])
