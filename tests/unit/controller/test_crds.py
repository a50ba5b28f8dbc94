"""The CRDs and the models say the same. What the models say is taken from the models, field by field."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from common.addresses import LOCAL
from common.durations import MAX_TIMEOUT, to_text
from controller.models import API_VERSION, KINDS
from tests.rigs.process import ROOT

Schema = dict[str, Any]
Fields = dict[str, Schema]

# YAML as kubectl reads it: a bare `Off` in an enumeration would be false here too.
CRDS = [yaml.safe_load(file.read_text("utf-8")) for file in sorted((ROOT / "controller" / "crds").glob("*.yaml"))]
BY_KIND = {crd["spec"]["names"]["kind"]: crd for crd in CRDS}
OF_KUBERNETES = {"apiVersion", "kind", "metadata"}
"""What every resource has: the API server knows it without being told."""
LIMITS = (
    "type", "pattern", "minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems", "minProperties",
    "maxProperties",
)  # fmt: skip
WORDS = {*LIMITS, "description", "enum", "format", "required", "properties", "items", "additionalProperties"}
"""All that our schemas need: no references, no logic but that of rules, no defaults (those are the provider's)."""

kinds = pytest.mark.parametrize("kind", KINDS)


def root(kind: str) -> Schema:
    (version,) = BY_KIND[kind]["spec"]["versions"]
    schema: Schema = version["schema"]["openAPIV3Schema"]
    return schema


def modelled(kind: str) -> Schema:
    """The model's own schema, in the words of the CRD."""
    schema = KINDS[kind].model_json_schema()
    whole = plain(schema, schema["$defs"])
    for name in OF_KUBERNETES:
        del whole["properties"][name]
    return whole | {"required": [name for name in whole["required"] if name not in OF_KUBERNETES]}


def plain(schema: Schema, defs: dict[str, Schema]) -> Schema:
    """Without references and without null: a field that is null in the model is left out in YAML."""
    for option in schema.get("anyOf", ()):
        if option != {"type": "null"}:
            return plain(option, defs)
    if "$ref" in schema:
        return plain(defs[schema["$ref"].rpartition("/")[2]], defs)
    found = dict(schema)
    if "const" in found:  # a word that is the only one
        found["enum"] = [found["const"]]
    if "properties" in found:
        found["properties"] = {name: plain(part, defs) for name, part in found["properties"].items()}
    for inner in ("items", "additionalProperties"):
        if isinstance(found.get(inner), dict):
            found[inner] = plain(found[inner], defs)
    return one_or_several(found) if schema.get("items") == {"$ref": "#/$defs/Hook"} else found


def one_or_several(hooks: Schema) -> Schema:
    """The models hold a list of hooks; people write one by itself, or several under `hooks`."""
    return {"type": "object", "properties": {**hooks["items"]["properties"], "hooks": hooks}}


def fields(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """All fields in and below `schema`, by paths such as spec.lifecycle.preStop.hooks[].name."""
    yield path.removeprefix("."), schema
    for name, part in schema.get("properties", {}).items():
        yield from fields(part, f"{path}.{name}")
    for inner, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(schema.get(inner), dict):
            yield from fields(schema[inner], path + mark)


def both(kind: str) -> Iterator[tuple[str, Schema, Schema]]:
    """Each field that both have: its path, the CRD's schema, the model's."""
    ours, theirs = dict(fields(root(kind))), dict(fields(modelled(kind)))
    assert ours.keys() & theirs.keys()
    return ((path, ours[path], theirs[path]) for path in ours.keys() & theirs.keys())


def rules(schema: Schema) -> str:
    return " ".join(rule["rule"] for rule in schema.get("x-kubernetes-validations", ()))


def is_read_by_a_rule(kind: str, path: str) -> bool:
    """Whether the field, or one above it, has a rule: rules may read no text or list without a limit."""
    return any(path.startswith(above) and rules(schema) for above, schema in fields(root(kind)) if above)


def test_each_kind_has_a_crd_and_each_crd_a_kind() -> None:
    assert BY_KIND.keys() == KINDS.keys()


@kinds
def test_the_group_and_version_are_the_models(kind: str) -> None:
    spec = BY_KIND[kind]["spec"]
    assert f"{spec['group']}/{spec['versions'][0]['name']}" == API_VERSION


@kinds
def test_each_field_of_a_model_is_in_the_schema(kind: str) -> None:
    assert not dict(fields(modelled(kind))).keys() - dict(fields(root(kind))).keys()


@kinds
def test_each_field_of_the_schema_is_in_a_model(kind: str) -> None:
    assert not dict(fields(root(kind))).keys() - dict(fields(modelled(kind))).keys()


@kinds
def test_the_same_fields_are_required(kind: str) -> None:
    differ = {
        path: (ours.get("required"), theirs.get("required"))
        for path, ours, theirs in both(kind)
        if set(ours.get("required", ())) != set(theirs.get("required", ()))
    }
    assert not differ


@kinds
def test_the_same_words_may_be_written(kind: str) -> None:
    differ = {
        path: (ours.get("enum"), theirs.get("enum"))
        for path, ours, theirs in both(kind)
        if ours.get("enum") != theirs.get("enum")
    }
    assert not differ


@kinds
def test_types_and_limits_of_a_model_are_the_schemas(kind: str) -> None:
    differ = {
        f"{path} {limit}": (ours.get(limit), theirs[limit])
        for path, ours, theirs in both(kind)
        for limit in LIMITS
        if limit in theirs and ours.get(limit) != theirs[limit]
    }
    assert not differ


@kinds
def test_the_schema_limits_beyond_a_model_only_the_size_of_what_rules_read(kind: str) -> None:
    beyond = {
        f"{path} {limit}": ours[limit]
        for path, ours, theirs in both(kind)
        for limit in LIMITS
        if limit in ours and limit not in theirs
        if limit not in {"maxLength", "maxItems"} or not is_read_by_a_rule(kind, path)
    }
    assert not beyond


@kinds
def test_moments_are_moments_in_both(kind: str) -> None:
    differ = {
        path
        for path, ours, theirs in both(kind)
        if (ours.get("format") == "date-time") != (theirs.get("format") == "date-time")
    }
    assert not differ


@kinds
def test_a_duration_in_a_spec_may_be_as_long_as_in_the_models(kind: str) -> None:
    longest = f"duration(self) <= duration('{to_text(MAX_TIMEOUT)}')"
    differ = {
        path
        for path, ours, theirs in both(kind)
        if path.startswith("spec") and (theirs.get("format") == "duration") != (longest in rules(ours))
    }
    assert not differ


def test_tls_is_needed_where_the_model_needs_it() -> None:
    assert f"has(self.tls) || self.endpoint.matches(r'{LOCAL.pattern}')" in rules(
        root("Provider")["properties"]["spec"]["properties"]["runtime"]
    )


@kinds
def test_each_field_is_described_in_a_sentence(kind: str) -> None:
    silent = [path for path, schema in fields(root(kind)) if not schema.get("description", "").endswith((".", "..."))]
    assert not silent


@kinds
def test_each_rule_says_what_to_do(kind: str) -> None:
    silent = [
        rule["rule"]
        for _, schema in fields(root(kind))
        for rule in schema.get("x-kubernetes-validations", ())
        if not rule.get("message")
    ]
    assert not silent


def structural_faults(path: str, schema: Schema) -> Iterator[str]:
    """Breaches of what apiextensions.k8s.io/v1 calls a structural schema, or of our own plainer form of it."""
    if schema.get("type") not in {"object", "array", "string", "integer", "number", "boolean"}:
        yield f"{path}: type is {schema.get('type')!r}"
    yield from (f"{path}: {word}" for word in schema.keys() - WORDS if not word.startswith("x-kubernetes-"))
    if ("items" in schema) != (schema.get("type") == "array"):
        yield f"{path}: items belong to an array"
    if {"properties", "additionalProperties"} <= schema.keys():
        yield f"{path}: properties and additionalProperties"
    unknown = set(schema.get("required", ())) - schema.get("properties", {}).keys()
    yield from (f"{path}: {name} is required and not there" for name in unknown)
    for key in schema.get("x-kubernetes-list-map-keys", ()):
        if key not in schema["items"]["required"]:
            yield f"{path}: {key} is a key and not required"


@kinds
def test_the_schema_is_structural(kind: str) -> None:
    assert not [fault for path, schema in fields(root(kind)) for fault in structural_faults(path, schema)]


@pytest.mark.parametrize(
    ("kind", "open_"),
    [
        ("VirtualMachine", ["spec"]),
        ("Provider", ["spec", "spec.runtime"]),
        ("PowerPlan", []),
        ("PowerRun", []),
    ],
)
def test_fields_of_others_are_kept_where_others_write_and_nowhere_else(kind: str, open_: list[str]) -> None:
    keeping = "x-kubernetes-preserve-unknown-fields"
    assert [path for path, schema in fields(root(kind)) if keeping in schema] == open_


@kinds
def test_status_is_a_subresource(kind: str) -> None:
    assert BY_KIND[kind]["spec"]["versions"][0]["subresources"] == {"status": {}}


@pytest.mark.parametrize(
    ("kind", "headings"),
    [
        ("VirtualMachine", "DESIRED STATE PHASE VERDICT REASON READY PAUSED AGE"),
        ("Provider", "TYPE READY VMS VERSION AGE"),
        ("PowerPlan", "TOTAL OTHERS AGE"),
        ("PowerRun", "PLAN PHASE SLACK ENDS AGE"),
    ],
)
def test_columns_come_in_their_order(kind: str, headings: str) -> None:
    columns = BY_KIND[kind]["spec"]["versions"][0]["additionalPrinterColumns"]
    assert " ".join(column["name"] for column in columns) == headings


@kinds
def test_each_column_shows_a_field_that_is_there(kind: str) -> None:
    known = dict(fields(root(kind))).keys() | {"metadata.creationTimestamp"}
    columns = BY_KIND[kind]["spec"]["versions"][0]["additionalPrinterColumns"]
    paths = [re.sub(r"\[\?.*?\]", "[]", column["jsonPath"].removeprefix(".")) for column in columns]
    assert set(paths) <= known


@kinds
def test_a_crd_is_small_enough_for_kubectl_apply(kind: str) -> None:
    """kubectl keeps what was applied in an annotation, of at most 256 KiB."""
    assert len(json.dumps(BY_KIND[kind])) < 256 * 1024


def test_the_spec_of_a_run_never_changes() -> None:
    assert rules(root("PowerRun")["properties"]["spec"]) == "self == oldSelf"
