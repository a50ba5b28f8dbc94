import re
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import dedent
from typing import Any, get_args

import pytest
from hypothesis import given as given_any
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from controller.models import PowerPlan, VirtualMachine, VirtualMachineSpec
from controller.sources.manifests import Reading, read

PROVIDER = "apiVersion: infra.virtrigaud.io/v1beta1\nkind: Provider\nmetadata: {name: lab}\n"
HEAD = """\
apiVersion: infra.virtrigaud.io/v1beta1
kind: VirtualMachine
metadata: {name: web}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "vm.yaml"


def given(file: Path, text: str) -> Reading:
    file.write_text(dedent(text))
    return read(file)


def told(reading: Reading) -> list[tuple[int, str]]:
    return [(problem.line, problem.field) for problem in reading.problems]


def test_on_and_off_are_words_also_without_quotes(file: Path) -> None:
    for power in ("On", "Off", "OffGraceful"):
        (manifest,) = given(file, HEAD + f"spec: {{providerRef: {{name: a}}, powerState: {power}}}").manifests
        assert isinstance(manifest.resource, VirtualMachine)
        assert manifest.resource.spec.power_state == power


def test_true_and_false_are_still_booleans(file: Path) -> None:
    text = HEAD + "spec:\n  providerRef: {name: a}\n  lifecycle: {preStop: {snapshot: {includeMemory: true}}}\n"
    (manifest,) = given(file, text).manifests
    assert isinstance(manifest.resource, VirtualMachine)
    (hook,) = manifest.resource.spec.lifecycle.pre_stop
    assert hook.snapshot
    assert hook.snapshot.include_memory is True


def test_the_seeds_own_example_with_a_script_of_several_lines_is_read(file: Path) -> None:
    text = HEAD + dedent(
        """\
        spec:
          providerRef: {name: local}
          powerState: OffGraceful
          classRef: {name: small}
          lifecycle:
            gracefulShutdownTimeout: "120s"
            preStop:
              exec:
                command:
                - "/bin/bash"
                - "-c"
                - |
                  # Save application state
                  systemctl stop my-application
                  # Sync filesystem
                  sync
        """
    )
    reading = given(file, text)
    assert (told(reading), reading.warnings) == ([], ())
    resource = reading.manifests[0].resource
    assert isinstance(resource, VirtualMachine)
    (hook,) = resource.spec.lifecycle.pre_stop
    assert hook.exec
    assert hook.exec.command[2].endswith("sync\n")


def test_how_another_controller_runs_a_provider_is_kept_without_a_word(file: Path) -> None:
    text = """\
        apiVersion: infra.virtrigaud.io/v1beta1
        kind: Provider
        metadata: {name: kvm}
        spec:
          type: libvirt
          endpoint: qemu+tls://kvm1.example/system
          credentialSecretRef: {name: login}
          runtime:
            mode: Remote
            image: registry.example/provider:v1
            tls: {enabled: true, secretRef: {name: kvm-tls}}
        """
    reading = given(file, text)
    assert (reading.problems, reading.warnings) == ((), ())
    assert reading.manifests[0].raw["runtime"]["tls"] == {"enabled": True, "secretRef": {"name": "kvm-tls"}}


def test_each_mistake_has_its_line_and_field_and_the_others_go_on(file: Path) -> None:
    text = HEAD + dedent(
        """\
        spec:
          providerRef: {name: local}
          lifecycle:
            gracefulShutdownTimeout: 25h
            preStop:
              hooks:
                - exec:
                    command: []
        ---
        apiVersion: infra.virtrigaud.io/v1beta1
        kind: Provider
        metadata: {name: local}
        spec: {type: sim, runtime: {endpoint: "unix:p.sock"}}
        """
    )
    reading = given(file, text)
    assert sorted(told(reading)) == [
        (7, "spec.lifecycle.gracefulShutdownTimeout"),
        (11, "spec.lifecycle.preStop.hooks[0].exec.command"),
    ]
    assert [manifest.resource.kind for manifest in reading.manifests] == ["Provider"]


def test_a_hook_by_itself_has_its_own_line_too(file: Path) -> None:
    text = "spec:\n  providerRef: {name: a}\n  lifecycle:\n    preStop:\n      exec:\n        command: []\n"
    assert told(given(file, HEAD + text)) == [(9, "spec.lifecycle.preStop.exec.command")]


def test_a_missing_field_is_blamed_on_what_should_hold_it(file: Path) -> None:
    reading = given(file, HEAD + "spec:\n  powerState: Off\n")
    assert told(reading) == [(4, "spec.providerRef")]
    assert str(reading.problems[0]) == f"{file}:4: spec.providerRef: is missing"


def test_a_resource_without_a_spec_is_a_mistake(file: Path) -> None:
    assert told(given(file, HEAD)) == [(1, "spec")]


@pytest.mark.parametrize(("text", "line"), [("a: [1,\nb: }", 2), ("a: b: c", 1), ("a:\n\t- b", 2), ("a: &x [*y]", 1)])
def test_what_is_not_yaml_has_a_line(file: Path, text: str, line: int) -> None:
    assert told(given(file, text)) == [(line, "")]


def test_a_tag_that_means_nothing_has_a_line_and_a_field(file: Path) -> None:
    assert told(given(file, "a: !!nothing 1")) == [(1, "a")]


@pytest.mark.parametrize("value", ["2024-19-07", "2024-01-07", "12:30:61", "9" * 5000, "!!timestamp x", "="])
def test_what_another_apis_file_holds_leaves_the_resources_beside_it_alone(file: Path, value: str) -> None:
    other = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a, annotations: {{asset-tag: {value}}}}}\n---\n"
    reading = given(file, other + HEAD + "spec: {providerRef: {name: a}}")
    assert [manifest.resource.metadata.name for manifest in reading.manifests] == ["web"]


def test_a_document_after_one_with_a_mistake_counts(file: Path) -> None:
    reading = given(file, "a: 1\na: 2\n---\n" + HEAD + "spec: {providerRef: {name: a}}\n")
    assert (told(reading), len(reading.manifests)) == ([(2, "a")], 1)


@given_any(st.binary(max_size=400) | st.text(max_size=400).map(lambda text: text.encode(errors="surrogatepass")))
def test_whatever_a_file_holds_it_is_read_or_told(data: bytes) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "any.yaml"
        file.write_bytes(data)
        reading = read(file)
    assert all(problem.line >= 1 and problem.message for problem in reading.problems)


def test_documents_before_the_broken_one_count(file: Path) -> None:
    reading = given(file, HEAD + "spec: {providerRef: {name: a}}\n---\na: [1,\nb: }\n")
    assert (len(reading.manifests), told(reading)) == (1, [(7, "")])


def test_bytes_that_are_not_utf_8_are_a_mistake(file: Path) -> None:
    file.write_bytes(b"name: \xff\xfe")
    assert told(read(file)) == [(1, "")]


def test_a_file_that_is_gone_is_a_mistake(file: Path) -> None:
    assert told(read(file)) == [(1, "")]


def test_a_key_that_is_there_twice_is_a_mistake(file: Path) -> None:
    text = HEAD + "spec:\n  powerState: On\n  providerRef: {name: a}\n  powerState: Off\n"
    assert told(given(file, text)) == [(7, "spec.powerState")]


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("- 1\n- 2", ""),
        ("just words", ""),
        ("kind: VirtualMachine", "apiVersion"),
        ("apiVersion: infra.virtrigaud.io/v1beta1", "kind"),
        ("apiVersion: infra.virtrigaud.io/v1\nkind: VirtualMachine", "apiVersion"),
    ],
)
def test_what_is_no_resource_of_ours_but_looks_like_one_is_a_mistake(file: Path, text: str, field: str) -> None:
    assert [problem.field for problem in given(file, text).problems] == [field]


@pytest.mark.parametrize(
    ("text", "others"),
    [
        ("", 0),
        ("---\n---\n", 0),
        ("apiVersion: v1\nkind: ConfigMap", 1),
        ("apiVersion: infra.virtrigaud.io/v1beta1\nkind: VMClass", 1),
        ("apiVersion: kubevirt.io/v1\nkind: VirtualMachine", 1),
        ("apiVersion: lists.example/v1\nkind: AllowList\nitems: [a, b]", 1),
    ],
)
def test_what_belongs_to_others_is_left_alone_and_counted(file: Path, text: str, others: int) -> None:
    assert given(file, text) == Reading(others=others)


SPEC = "spec: {providerRef: {name: a}}\n"


@pytest.mark.parametrize(
    "head", ["apiVersion: v1\nkind: List", "apiVersion: infra.virtrigaud.io/v1beta1\nkind: VirtualMachineList"]
)
def test_the_items_of_a_list_are_read_each_with_its_own_line(file: Path, head: str) -> None:
    item = (
        "- apiVersion: infra.virtrigaud.io/v1beta1\n  kind: VirtualMachine\n  metadata: {name: %s}\n"
        "  spec: {providerRef: {name: a}, powerState: %s}\n"
    )
    reading = given(file, f"{head}\nitems:\n" + item % ("web", "On") + item % ("db", "Sideways") + item % ("www", "On"))
    assert [(each.resource.metadata.name, each.line) for each in reading.manifests] == [("web", 4), ("www", 12)]
    assert told(reading) == [(11, "spec.powerState")]


def test_a_list_in_a_list_is_read_too(file: Path) -> None:
    about = "metadata: {name: web}, spec: {providerRef: {name: a}}"
    item = f"{{apiVersion: infra.virtrigaud.io/v1beta1, kind: VirtualMachine, {about}}}"
    text = f"apiVersion: v1\nkind: List\nitems: [{{apiVersion: v1, kind: List, items: [{item}]}}]"
    assert [each.resource.metadata.name for each in given(file, text).manifests] == ["web"]


@pytest.mark.parametrize(
    ("text", "field", "right"),
    [
        ("apiVersion: infra.virtrigaud.io/v1beta1\nkind: virtualmachine", "kind", "write VirtualMachine"),
        ("apiVersion: infra.virtrigaud.io/v1beta1\nkind: VirtualMachines", "kind", "write VirtualMachine"),
        ("apiVersion: infra.virtrigaud.io/v1beta1\nkind: PROVIDER", "kind", "write Provider"),
        ("apiVersion: Infra.Virtrigaud.io/v1beta1\nkind: Provider", "apiVersion", "write infra.virtrigaud.io/v1beta1"),
        ("apiVersion: v1beta1\nkind: VirtualMachine", "apiVersion", "write infra.virtrigaud.io/v1beta1"),
        ("apiVersion: v1\nkind: list\nitems: []", "kind", "write List"),
    ],
)
def test_a_kind_or_version_that_is_nearly_ours_is_a_mistake_that_says_what_to_write(
    file: Path, text: str, field: str, right: str
) -> None:
    (problem,) = given(file, text).problems
    assert (problem.field, right in problem.message) == (field, True)


@pytest.mark.parametrize(
    ("text", "line", "field", "place"),
    [
        (HEAD + SPEC + "powerState: Off\n", 5, "powerState", "spec"),
        (HEAD + SPEC + "preStop: {}\n", 5, "preStop", "spec.lifecycle"),
        (
            HEAD + "spec:\n  providerRef: {name: a}\n  gracefulShutdownTimeout: 5s\n",
            6,
            "spec.gracefulShutdownTimeout",
            "spec.lifecycle",
        ),
        (PROVIDER + "spec: {type: sim, tls: {caFile: ca}}\n", 4, "spec.tls", "spec.runtime"),
        (
            HEAD.replace("{name: web}", "{name: web, vmpower/paused: 'true'}") + SPEC,
            3,
            "metadata.vmpower/paused",
            "metadata.annotations",
        ),
    ],
)
def test_a_known_field_in_the_wrong_place_is_told_with_the_right_one(
    file: Path, text: str, line: int, field: str, place: str
) -> None:
    (warning,) = given(file, text).warnings
    assert (warning.line, warning.field) == (line, field)
    assert warning.message == f"has no effect here; it belongs into {place}"


def test_an_annotation_without_effect_is_told(file: Path) -> None:
    (warning,) = given(
        file, HEAD.replace("{name: web}", "{name: web, annotations: {vmpower/pause: yes}}") + SPEC
    ).warnings
    assert (warning.line, warning.field) == (3, "metadata.annotations")
    assert warning.message.startswith("vmpower/pause is not known")


def test_a_decision_in_a_manifest_is_told_to_have_no_effect(file: Path) -> None:
    written = HEAD.replace("{name: web}", "{name: web, annotations: {vmpower/decision: force}}") + SPEC
    (warning,) = given(file, written).warnings
    assert (warning.line, warning.field) == (3, "metadata.annotations.vmpower/decision")
    assert warning.message == "has no effect in a directory; decide by vmpower"


def test_yaml_for_another_purpose_is_mentioned_and_left_alone(file: Path) -> None:
    reading = given(file, "guests: {web: {}}")
    assert (reading.problems, len(reading.warnings)) == ((), 1)


def test_a_status_in_a_manifest_is_not_believed(file: Path) -> None:
    text = HEAD + "spec: {providerRef: {name: a}}\nstatus: {phase: Off}\n"
    (manifest,) = given(file, text).manifests
    assert isinstance(manifest.resource, VirtualMachine)
    assert manifest.resource.status.phase == "Pending"


def test_a_slip_of_the_pen_is_a_warning_with_its_line(file: Path) -> None:
    text = HEAD + dedent(
        """\
        spec:
          providerRef: {name: a}
          tags: [x]
          lifecycle:
            gracefulShutdownTimout: 120s
            preStop:
              exec: {command: [x], shell: true}
        """
    )
    reading = given(file, text)
    assert [(slip.line, slip.field) for slip in reading.warnings] == [
        (8, "spec.lifecycle.gracefulShutdownTimout"),
        (10, "spec.lifecycle.preStop.exec.shell"),
    ]
    assert len(reading.manifests) == 1


EXAMPLE = Path(__file__).parents[4] / "examples" / "graceful-shutdown-vm.yaml"


def fields_below(model: type[BaseModel]) -> set[str]:
    """The names of all fields in and below a model, as people write them."""
    names = set()
    for name, field in model.model_fields.items():
        names.add(to_camel(name))
        for part in _parts(field.annotation):
            names |= fields_below(part)
    return names


def _parts(annotation: Any) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return set().union(*(_parts(inner) for inner in get_args(annotation)))


def test_the_example_is_read_without_a_word() -> None:
    reading = read(EXAMPLE)
    assert (len(reading.manifests), reading.problems, reading.warnings) == (1, (), ())


@pytest.mark.parametrize("field", sorted(fields_below(VirtualMachineSpec)))
def test_the_example_shows_every_field(field: str) -> None:
    assert re.search(rf"\b{field}\b", EXAMPLE.read_text())


PLAN = """\
apiVersion: infra.virtrigaud.io/v1beta1
kind: PowerPlan
metadata: {name: night}
spec:
  budget: {total: 5m}
  tiers:
  - name: apps
    members: [{vms: [lab/web]}]
"""


def test_a_plan_is_a_manifest(file: Path) -> None:
    (manifest,) = given(file, PLAN).manifests
    assert isinstance(manifest.resource, PowerPlan)
    assert [tier.name for tier in manifest.resource.spec.tiers] == ["apps"]


def test_a_plan_that_is_half_understood_is_no_plan(file: Path) -> None:
    assert (9, "spec.tiers[0].minimun") in told(given(file, PLAN + "    minimun: 20s\n"))


def test_a_run_takes_no_field_that_is_not_known(file: Path) -> None:
    text = (
        "apiVersion: infra.virtrigaud.io/v1beta1\nkind: PowerRun\nmetadata: {name: tonight}\n"
        "spec:\n  planRef: {name: night}\n  dryRun: true\n"
    )
    assert told(given(file, text)) == [(6, "spec.dryRun")]


def test_labels_that_are_no_text_select_nothing_and_are_no_mistake(file: Path) -> None:
    text = HEAD.replace("{name: web}", "{name: web, labels: {tier: web, rank: 1}}") + "spec: {providerRef: {name: a}}"
    (manifest,) = given(file, text).manifests
    assert manifest.resource.metadata.labels == {"tier": "web"}
