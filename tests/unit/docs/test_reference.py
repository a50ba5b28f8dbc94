import inspect

import pytest

from cli.errors import ExitCode
from controller.config import Settings as ControllerSettings
from docs import reference
from providers.core import errors
from providers.core.settings import Settings
from providers.libvirt.config import LibvirtSettings
from providers.server.clients import CertificateRefused, StreamAged
from providers.server.interceptor import TooManyCalls


def cells(table: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]


def test_every_reason_of_an_error_is_there_once() -> None:
    own = [vars(kind).get("reason") for _, kind in inspect.getmembers(errors, inspect.isclass)]
    listed = [reason.strip("`") for reason, *_ in reference.errors(errors.VmpowerError)]
    edge = [TooManyCalls.reason, CertificateRefused.reason, StreamAged.reason]
    assert sorted(listed) == sorted([*(str(reason) for reason in own if reason), *edge])


def test_every_error_says_who_acts() -> None:
    assert all(who for *_, who in reference.errors(errors.VmpowerError))


def test_a_counter_has_the_name_that_is_scraped_and_its_labels() -> None:
    rows = {name: (kind, labels) for name, kind, labels, _ in map(reference.metric, reference.metrics())}
    labels = "`provider`, `outcome`, `reason`, `signal`"
    assert rows["`vmpower_shutdowns_total`"] == ("counter", labels)
    assert rows["`vmpower_shutdown_duration_seconds`"] == ("histogram", "`provider`, `outcome`")
    assert rows["`vmpower_vms`"] == ("gauge", "`power_state`")


def test_every_exit_code_has_a_meaning() -> None:
    assert [(int(code), name) for code, name, _ in reference.exit_codes()] == [(one, one.name) for one in ExitCode]


def test_a_setting_has_its_flag_variable_and_default() -> None:
    row = ["`--default-timeout`", "`VMPOWER_DEFAULT_TIMEOUT`", "`1m`", "grace period where the request names none"]
    assert row in cells(reference.settings(Settings))


def test_a_provider_shows_its_own_settings_only_and_those_whose_defaults_are_its_own() -> None:
    shown = {flag: default for flag, _, default, *_ in cells(reference.settings(LibvirtSettings, Settings))}
    assert (shown["`--uri`"], shown["`--max-cuts`"]) == ("`qemu:///system`", "`3`")
    assert not {"`--listen`", "`--max-waiting`"} & shown.keys()


def test_a_default_does_not_depend_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    defaults = {flag: default for flag, _, default, *_ in cells(reference.settings(ControllerSettings))}
    assert defaults["`--state-dir`"] == "`~/.local/state/vmpower/controller`"
    assert defaults["`--identity`"] == "the host's name; outside a pod with a random end"


def test_what_markdown_would_take_for_its_own_is_escaped() -> None:
    assert cells(reference.table(("head",), [("a|b <c>",)])) == [["a\\|b &lt;c>"]]
