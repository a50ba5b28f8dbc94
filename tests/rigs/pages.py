"""Every page with commands, and the test that types them. tests/unit/docs/test_commands.py keeps this list whole."""

from pathlib import Path

from tests.rigs.page import Example, examples
from tests.rigs.process import ROOT

RUN_BY = {
    "README.md": "tests/e2e/test_readme.py",
    "deploy/helm/vmpower/README.md": "tests/e2e/kubernetes/test_chart_page.py",
    "docs/benchmarks.md": "tests/e2e/test_repository_pages.py",
    "docs/cli.md": "tests/e2e/test_pages.py",
    "docs/conformance.md": "tests/e2e/test_repository_pages.py",
    "docs/controller.md": "tests/e2e/test_pages.py",
    "docs/docker.md": "tests/images/test_page.py",
    "docs/doctor.md": "tests/e2e/test_pages.py",
    "docs/grpcurl.md": "tests/e2e/test_pages.py",
    "docs/install.md": "tests/e2e/test_install_page.py",
    "docs/kubernetes.md": "tests/e2e/kubernetes/test_docs.py",
    "docs/monitoring.md": "tests/e2e/test_pages.py",
    "docs/plans.md": "tests/e2e/test_pages.py",
    "docs/proxmox.md": "tests/e2e/proxmox/test_page.py",
    "docs/security.md": "tests/e2e/test_pages.py",
    "docs/sim.md": "tests/e2e/test_pages.py",
    "docs/vsphere.md": "tests/e2e/vsphere/test_page.py",
}
"""The pages from the top of the tree."""

NOT_RUN = {
    "README.md": {
        "make test": "it is what runs this; a bare machine's set-up is tried by tests/bare",
    },
    "docs/benchmarks.md": {
        "make bench": "it takes twenty minutes, and measures",
        "VMPOWER_MINUTES=30 python -m tests.bench deaf-2000": "it takes half an hour",
    },
    "docs/proxmox.md": {
        "pveum": "it is on nodes of Proxmox VE alone; tests/e2e/proxmox gives the rig's account what these commands "
        "say, and nothing else",
    },
}
"""By page: how a command begins that no test types, and why."""

RECIPES = {"docs/kubernetes.md": "tests/e2e/kubernetes/test_chart_reach.py"}
"""Pages with a block of `sh`, a script whose output is not shown, and the test that takes it from there and runs it."""
TRANSCRIPTS = {"docs/kubernetes.md": "tests/e2e/test_run_k8s.py"}
"""Pages with a block of all that one program printed (`make run-k8s`), which types commands itself, and its test."""


def typed(page: str) -> list[Example]:
    """What a test types of a page."""
    return [example for example in examples(ROOT / page) if not left_out(page, example)]


def left_out(page: str, example: Example) -> str:
    """Why no test types a command; "" for those that one does."""
    reasons = NOT_RUN.get(page, {}).items()
    return next((why for beginning, why in reasons if example.command.startswith(beginning)), "")


def pages() -> list[Path]:
    """All that people read."""
    folders = ROOT.glob("*.md"), (ROOT / "docs").rglob("*.md"), (ROOT / "deploy").rglob("*.md")
    return sorted(path for found in folders for path in found)
