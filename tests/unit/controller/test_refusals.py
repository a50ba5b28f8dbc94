from typing import Any

import pytest

from client.errors import ProviderError
from controller.convert import power_on_request, shutdown_request
from controller.refusals import in_manifest, manifest_field
from providers.core.adapter import VM
from providers.core.errors import InvalidRequest
from providers.core.settings import Settings
from providers.server import validation
from tests.unit.controller.builders import machine

LONG = "x" * 20_000
BAD = {
    "exec": ({"exec": {"command": [LONG]}}, ".exec.command"),
    "the number of arguments": ({"exec": {"command": ["x"] * 300}}, ".exec.command"),
    "a url": ({"httpGet": {"url": f"http://10.0.0.5/{LONG}"}}, ".httpGet.url"),
    "a url in parts": ({"httpGet": {"port": 80, "path": LONG}}, ".httpGet"),
    "headers": ({"httpGet": {"port": 80, "headers": {"A": LONG}}}, ".httpGet.headers"),
    "a status": ({"httpGet": {"port": 80, "expectStatus": 7}}, ".httpGet.expectStatus"),
    "a snapshot": ({"snapshot": {"name": LONG}}, ".snapshot.name"),
}
"""Hooks that the manifest's model takes and a provider refuses, with the field that is to blame."""


def _not_looked_for(name: str) -> VM:
    raise AssertionError(f"{name} is looked for, though the request is bad")


def refused(hook: Any, place: str) -> str:
    """The field of a request that a provider names for a resource with this hook, as it is told."""
    lifecycle = machine(**{place: hook}).spec.lifecycle
    settings = Settings(listen="unix:x")
    with pytest.raises(InvalidRequest) as caught:
        if place == "preStop":
            validation.shutdown(shutdown_request("id-web", lifecycle, "r", None), _not_looked_for, settings)
        else:
            validation.power_on(power_on_request("id-web", lifecycle, "r"), _not_looked_for, settings)
    return manifest_field(caught.value.violations[0].field, lifecycle)


@pytest.mark.parametrize("place", ["preStop", "postStart"])
@pytest.mark.parametrize(("hook", "field"), BAD.values(), ids=BAD)
def test_what_a_provider_refuses_of_a_hook_is_named_as_the_manifest_has_it(hook: Any, field: str, place: str) -> None:
    assert refused(hook, place) == f"spec.lifecycle.{place}{field}"


def test_one_of_several_hooks_is_named_by_its_place() -> None:
    hooks = {"hooks": [{"snapshot": {}}, {"exec": {"command": ["x"] * 300}}]}
    assert refused(hooks, "preStop") == "spec.lifecycle.preStop.hooks[1].exec.command"


@pytest.mark.parametrize(
    ("field", "written"),
    [
        ("vm", "spec.vmName"),
        ("timeout", "spec.lifecycle.gracefulShutdownTimeout"),
        ("signal_policy.resend_interval", "spec.lifecycle.signalPolicy.resendInterval"),
        ("signal_policy.order[1]", "spec.lifecycle.signalPolicy.order[1]"),
        ("guest_credentials.password", "spec.lifecycle.guestCredentialsSecretRef"),
        ("reason", "metadata.annotations.vmpower/reason"),
        ("extension", "metadata.annotations.vmpower/decision"),
        ("pre_stop", "spec.lifecycle.preStop"),
        ("request_id", "request_id"),
        ("on_behalf_of", "on_behalf_of"),
        ("", ""),
    ],
)
def test_fields_of_requests_have_places_in_manifests(field: str, written: str) -> None:
    assert manifest_field(field, machine().spec.lifecycle) == written


def test_a_refusal_says_who_mends_what() -> None:
    violations = [("timeout", "must be at most 24h"), ("reason", "must be at most 256 long")]
    told = in_manifest(ProviderError("INVALID_ARGUMENT", "?", "INVALID_REQUEST", violations=violations), machine())
    assert (told.reason, told.message) == (
        "INVALID_REQUEST",
        "spec.lifecycle.gracefulShutdownTimeout: must be at most 24h; "
        "metadata.annotations.vmpower/reason: must be at most 256 long. Mend the resource.",
    )


def test_an_error_about_no_field_stays_as_it_is() -> None:
    error = ProviderError("UNAVAILABLE", "It does not answer.")
    assert in_manifest(error, machine()) is error
