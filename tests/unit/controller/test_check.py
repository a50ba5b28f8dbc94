"""What `--check` says of a directory, and by which code."""

from pathlib import Path

import pytest

from controller.check import Verdict, check

HEAD = "apiVersion: infra.virtrigaud.io/v1beta1\nkind: VirtualMachine\nmetadata: {name: web}\n"
GOOD = HEAD + "spec: {providerRef: {name: lab}, powerState: Off}\n"
SLIP = HEAD + "spec: {providerRef: {name: lab}, preStop: {}}\n"
PROVIDER = """apiVersion: infra.virtrigaud.io/v1beta1
kind: Provider
metadata: {name: lab}
spec: {type: sim, runtime: {endpoint: "unix:///run/p.sock"}}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """With a Provider."""
    (tmp_path / "provider.yaml").write_text(PROVIDER)
    return tmp_path


def test_nothing_is_wrong_with_good_manifests(root: Path) -> None:
    (root / "web.yaml").write_text(GOOD + "---\napiVersion: v1\nkind: ConfigMap\n")
    summary = "2 files, 2 resources, 0 errors, 0 warnings; 1 documents of other kinds are left alone"
    assert check(root) == (Verdict.FINE, [summary])


def test_an_error_is_told_by_file_line_and_field(root: Path) -> None:
    (root / "web.yaml").write_text(GOOD.replace("Off", "Sideways"))
    verdict, (error, summary) = check(root)
    assert verdict is Verdict.ERRORS
    assert error.startswith(f"{root}/web.yaml:4: error: spec.powerState: ")
    assert summary == "2 files, 1 resources, 1 errors, 0 warnings"


def test_a_warning_alone_has_a_code_of_its_own(root: Path) -> None:
    (root / "web.yaml").write_text(SLIP)
    verdict, (warning, _) = check(root)
    assert verdict is Verdict.WARNINGS
    assert warning == f"{root}/web.yaml:4: warning: spec.preStop: has no effect here; it belongs into spec.lifecycle"


def test_a_second_declaration_is_an_error(root: Path) -> None:
    (root / "a.yaml").write_text(GOOD)
    (root / "b.yaml").write_text(GOOD)
    verdict, (error, _) = check(root)
    assert (verdict, error.startswith(f"{root}/b.yaml:1: error: metadata.name: ")) == (Verdict.ERRORS, True)


def test_a_second_resource_for_one_vm_is_an_error(root: Path) -> None:
    (root / "a.yaml").write_text(GOOD)
    other = GOOD.replace("{name: web}", "{name: other}").replace("spec: {", "spec:\n  vmName: web\n  ")
    (root / "b.yaml").write_text(other.replace("}, powerState: Off}", "}\n  powerState: On"))
    verdict, (error, _) = check(root)
    assert verdict is Verdict.ERRORS
    assert error == f"{root}/b.yaml:5: error: spec.vmName: names the VM of {root}/a.yaml:1 too; one VM has one resource"


def test_a_provider_that_is_not_declared_is_an_error(root: Path) -> None:
    (root / "web.yaml").write_text(GOOD.replace("lab", "prod"))
    verdict, (error, _) = check(root)
    assert verdict is Verdict.ERRORS
    why = "No Provider 'prod' is declared; declare it or mend spec.providerRef."
    assert error == f"{root}/web.yaml:4: error: spec.providerRef: {why}"


def test_a_provider_of_another_namespace_is_meant_only_where_that_is_written(root: Path) -> None:
    away = GOOD.replace("{name: web}", "{name: web, namespace: away}")
    (root / "web.yaml").write_text(away)
    assert check(root)[0] is Verdict.ERRORS
    (root / "web.yaml").write_text(away.replace("{name: lab}", "{name: lab, namespace: default}"))
    assert check(root)[0] is Verdict.FINE


def test_an_endpoint_without_a_port_is_an_error(root: Path) -> None:
    (root / "provider.yaml").write_text(PROVIDER.replace("unix:///run/p.sock", "localhost"))
    verdict, (error, _) = check(root)
    assert verdict is Verdict.ERRORS
    why = "must be unix:///path, or host:port with a port up to 65535"
    assert error == f"{root}/provider.yaml:4: error: spec.runtime.endpoint: {why}"


def test_a_linked_directory_is_an_error(root: Path) -> None:
    (root / "linked").symlink_to("/")
    assert check(root)[0] is Verdict.ERRORS


def test_one_file_is_checked_whatever_its_name_ends_with(root: Path) -> None:
    (root / "web.manifest").write_text(GOOD.replace("Off", "Sideways"))
    (root / "other.yaml").write_text("nonsense")
    verdict, (error, summary) = check(root / "web.manifest")
    assert (verdict, summary) == (Verdict.ERRORS, "1 files, 0 resources, 1 errors, 0 warnings")
    assert error.startswith(f"{root}/web.manifest:4: error: spec.powerState: ")


def test_of_one_file_it_is_not_asked_whether_the_provider_is_declared(root: Path) -> None:
    (root / "web.yaml").write_text(GOOD.replace("lab", "elsewhere"))
    assert check(root / "web.yaml")[0] is Verdict.FINE
    assert check(root)[0] is Verdict.ERRORS


def test_what_is_no_directory_cannot_be_checked(root: Path) -> None:
    verdict, (line,) = check(root / "nowhere")
    assert (verdict, line == f"{root}/nowhere: no such file or directory; name one that can be read.") == (
        Verdict.UNREADABLE,
        True,
    )
