"""Whatever answers on HTTP, or does not: one kind of error comes of it."""

import base64
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from controller.sources.kubernetes import api as module
from controller.sources.kubernetes.api import ApiError
from tests.unit.controller.sources.kubernetes.server import (
    Answer,
    Called,
    HttpServer,
    connect,
    document,
    html,
    refusal,
    silence,
    text,
)

Call = Callable[[Called], Awaitable[Any]]

SECRET = base64.b64encode(b"hunter2").decode()
CALLS: list[Call] = [
    Called.items,
    Called.watch,
    Called.patch,
    Called.patch_status,
    Called.create_event,
    Called.secret,
    Called.system_uuids,
]
every_call = pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)


@every_call
@pytest.mark.parametrize("code", [401, 403, 404, 409, 410, 422, 429, 500])
async def test_an_answer_that_refuses_is_an_error_with_its_code_and_words(http: Called, call: Call, code: int) -> None:
    http.answer(refusal(code, "Because", "that will not do"))
    with pytest.raises(ApiError, match="that will not do") as raised:
        await call(http)
    assert raised.value.status == code


@every_call
@pytest.mark.parametrize("code", [404, 502, 503])
async def test_a_page_in_html_from_what_stands_between_is_an_error_with_its_code(
    http: Called, call: Call, code: int
) -> None:
    http.answer(html(code))
    with pytest.raises(ApiError, match=f"HTTP {code}") as raised:
        await call(http)
    assert raised.value.status == code


@every_call
@pytest.mark.parametrize("body", ["{}", "[]", "null", '{"message": null}', '{"message": ', ""])
async def test_an_error_whose_body_says_nothing_is_told_by_its_code(http: Called, call: Call, body: str) -> None:
    http.answer(text(body, 500))
    with pytest.raises(ApiError, match=r"Internal Server Error \(HTTP 500\)"):
        await call(http)


@pytest.mark.parametrize("call", [Called.items, Called.secret, Called.system_uuids], ids=lambda call: call.__name__)
@pytest.mark.parametrize("answer", [html(200), text(""), text('{"cut": '), text("[1]")])
async def test_an_answer_that_is_none_of_an_api_server_is_an_error_without_an_answer(
    http: Called, call: Call, answer: Answer
) -> None:
    http.answer(answer)
    with pytest.raises(ApiError, match="What answers is no API server") as raised:
        await call(http)
    assert raised.value.status == 0


@every_call
async def test_a_server_that_stays_silent_is_an_error_without_an_answer(
    http: Called, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    monkeypatch.setattr(module, "CALL_TIMEOUT", 0.05)
    monkeypatch.setattr(module, "SILENCE", 0.05)
    http.answer(silence)
    with pytest.raises(ApiError, match="does not answer: TimeoutError; it is tried again") as raised:
        await call(http)
    assert raised.value.status == 0


@every_call
async def test_a_server_that_is_not_there_is_an_error_without_an_answer(
    call: Call,
) -> None:
    async with connect("http://127.0.0.1:1") as connection:
        with pytest.raises(ApiError, match="does not answer") as raised:
            await call(Called(HttpServer(), connection))
    assert raised.value.status == 0


async def test_what_the_role_lacks_is_told_to_whoever_grants_it(http: Called) -> None:
    http.answer(refusal(403, "Forbidden", 'cannot list resource "virtualmachines"'))
    with pytest.raises(ApiError) as raised:
        await http.items()
    assert str(raised.value) == (
        "cannot list resource \"virtualmachines\"; the cluster's administrator grants it in the controller's Role."
    )


@pytest.mark.parametrize("call", [Called.items, Called.watch], ids=lambda call: call.__name__)
async def test_a_server_without_our_crds_is_told_apart_from_a_missing_resource(http: Called, call: Call) -> None:
    http.answer(text("404 page not found\n", 404, "text/plain"))
    with pytest.raises(ApiError, match=r"does not know infra\.virtrigaud\.io/v1beta1; apply controller/crds"):
        await call(http)


async def test_no_error_quotes_a_secret(http: Called) -> None:
    http.answer(text(f'["{SECRET}"]'))
    with pytest.raises(ApiError) as raised:
        await http.secret()
    assert SECRET not in "".join(traceback.format_exception(raised.value))


async def test_a_namespace_that_is_being_deleted_is_told_as_that_and_not_as_a_missing_right(http: Called) -> None:
    causes = [{"reason": "NamespaceTerminating", "message": "namespace lab is being terminated"}]
    body = {"kind": "Status", "code": 403, "message": "events is forbidden", "details": {"causes": causes}}
    http.answer(document(body, 403))
    with pytest.raises(ApiError, match="the namespace is being deleted") as raised:
        await http.create_event()
    assert "Role" not in str(raised.value)
