import re

import pytest
from google.rpc import code_pb2

from tests.unit.cli.conftest import Shell
from tests.unit.cli.fake import Break, FakeProvider, refusal
from tests.unit.cli.samples import ended, running


def test_a_connection_that_breaks_while_waiting_is_taken_up_again(vmpower: Shell, provider: FakeProvider) -> None:
    provider.answers["Shutdown"] = running()
    provider.streams = [[running(), Break], [Break], [ended()]]
    done = vmpower("shutdown", "web")
    assert done.code == 0
    assert done.out.startswith("web: GRACEFUL")
    assert re.findall("The connection is lost|Connected again", done.err) == [
        "The connection is lost",
        "Connected again",
    ]


def test_a_provider_that_stays_away_exits_5_and_says_what_goes_on(
    vmpower: Shell, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.outage.RETRY_FOR", 0.0)
    provider.answers["Shutdown"] = running()
    provider.streams = [[Break]]
    done = vmpower("shutdown", "web")
    assert done.code == 5
    assert "No provider answers at" in done.err
    assert "The SHUTDOWN of web goes on without us:" in done.err
    assert "vmpower watch op-web" in done.err


def test_an_end_of_the_stream_without_a_verdict_is_a_lost_connection(vmpower: Shell, provider: FakeProvider) -> None:
    provider.answers["Shutdown"] = running()
    provider.streams = [[running()], [ended()]]
    assert vmpower("shutdown", "web").out.startswith("web: GRACEFUL")


def test_a_refused_watch_is_not_tried_again(vmpower: Shell, provider: FakeProvider) -> None:
    provider.answers["Shutdown"] = running()
    provider.streams = [[refusal(code_pb2.NOT_FOUND, "No operation is called op-web.", "OPERATION_NOT_FOUND")]]
    done = vmpower("shutdown", "web")
    assert done.code == 2
    assert "[OPERATION_NOT_FOUND]" in done.err
    assert len(provider.requests("WatchOperation")) == 1
