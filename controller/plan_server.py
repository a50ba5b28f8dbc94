"""PlanService: what the controller hosts of plans, over gRPC, for this machine's users.

It is served on a unix socket of its owner and group (0660), or on loopback. Errors are told as those of providers are.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, NoReturn, TypeVar

import grpc
import structlog
from google.rpc import code_pb2
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from common import error_details
from common.listening import for_owner_and_group, listening
from controller import plan_convert as convert
from controller.annotations import MAX_REASON
from controller.plan_host import PlanHost
from controller.plan_terms import Asked, RunRefused
from plans.history import History
from plans.journal import line
from plans.members import Violation
from protos.plan.v1 import plan_pb2 as pb
from protos.plan.v1 import plan_pb2_grpc

SERVICE = pb.DESCRIPTOR.services_by_name["PlanService"].full_name
CODES = {
    "INVALID_REQUEST": code_pb2.INVALID_ARGUMENT,
    "PLAN_REFUSED": code_pb2.INVALID_ARGUMENT,
    "PLAN_NOT_FOUND": code_pb2.NOT_FOUND,
    "RUN_NOT_FOUND": code_pb2.NOT_FOUND,
    "RUN_ACTIVE": code_pb2.ABORTED,
    "RUN_OVER": code_pb2.FAILED_PRECONDITION,
    "RUN_RELEASED": code_pb2.FAILED_PRECONDITION,
    "NO_BRING_UP": code_pb2.FAILED_PRECONDITION,
    "NO_RECORD": code_pb2.FAILED_PRECONDITION,
    "PROVIDER_UNREACHABLE": code_pb2.UNAVAILABLE,
    "NOT_READY": code_pb2.UNAVAILABLE,
    "OWN_UNKNOWN": code_pb2.UNAVAILABLE,
}
"""By the reason of a refusal."""
FIELDS = frozenset({"INVALID_REQUEST", "PLAN_REFUSED"})
"""Reasons with a BadRequest."""

OPTIONS = {
    "grpc.so_reuseport": 0,  # two controllers at one address would each get half of the calls
    "grpc.keepalive_time_ms": 60_000,  # one whose other end is gone without a word
    "grpc.keepalive_timeout_ms": 20_000,
    "grpc.http2.min_ping_interval_without_data_ms": 1_000,  # so that clients of silent streams may ask for life
    "grpc.max_concurrent_streams": 100,
}

Context = grpc.aio.ServicerContext[Any, Any]
T = TypeVar("T")
log = structlog.get_logger()


class PlanServer:
    """Serves a host's plans at one address. Made inside a running event loop."""

    def __init__(self, address: str, host: PlanHost) -> None:
        self._address = address
        self._server = grpc.aio.server(options=list(OPTIONS.items()))
        plan_pb2_grpc.add_PlanServiceServicer_to_server(PlanService(host), self._server)
        reflection.enable_server_reflection((SERVICE, reflection.SERVICE_NAME), self._server)

    async def start(self) -> None:
        """Serve.

        Raises:
            CannotListen: another process serves at this address, or it is not an address.
        """
        with listening(self._address, "--listen"), for_owner_and_group():
            self._server.add_insecure_port(self._address)
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(None)


class PlanService(plan_pb2_grpc.PlanServiceServicer):
    """The service; docs in the contract."""

    def __init__(self, host: PlanHost) -> None:
        self._host = host

    async def ListPlans(self, request: pb.ListPlansRequest, context: Context) -> pb.ListPlansResponse:
        async def answer() -> pb.ListPlansResponse:
            plans = sorted(self._host.plans(), key=lambda each: (each.metadata.namespace, each.metadata.name))
            runs = reversed(await self._host.runs.histories())
            return pb.ListPlansResponse(plans=map(convert.plan, plans), runs=map(convert.summary, runs))

        return await _answered(answer, context)

    async def ForecastPlan(self, request: pb.ForecastPlanRequest, context: Context) -> pb.ForecastPlanResponse:
        async def answer() -> pb.ForecastPlanResponse:
            return convert.forecast(*await self._host.forecast(self._host.plan_key(request.plan)))

        return await _answered(answer, context)

    async def StartRun(self, request: pb.StartRunRequest, context: Context) -> pb.Run:
        async def answer() -> History:
            if len(request.reason) > MAX_REASON:
                raise _bad("reason", f"must be at most {MAX_REASON} characters")
            plan = self._host.plan_key(request.plan)
            return await self._host.start(Asked(plan, request.reason, request.emergency))

        return convert.run(await _answered(answer, context))

    async def WatchRun(self, request: pb.WatchRunRequest, context: Context) -> AsyncIterator[pb.WatchRunResponse]:
        async def found() -> History:
            return await self._host.runs.history(request.run)

        history = await _answered(found, context)
        async with aclosing(self._host.runs.follow(history)) as changes:
            recorded = False
            async for told in changes:
                record = [] if recorded else [history.start, *history.events]
                yield pb.WatchRunResponse(run=convert.run(history, record), events=[line(each) for each in told])
                recorded = True

    async def AbortRun(self, request: pb.AbortRunRequest, context: Context) -> pb.Run:
        return await self._changed(self._host.abort, request.run, context)

    async def ReleaseRun(self, request: pb.ReleaseRunRequest, context: Context) -> pb.Run:
        return await self._changed(self._host.release, request.run, context)

    async def BringUp(self, request: pb.BringUpRequest, context: Context) -> pb.Run:
        return await self._changed(self._host.bring_up, request.run, context)

    async def _changed(self, change: Callable[[str], Awaitable[History]], run: str, context: Context) -> pb.Run:
        async def answer() -> History:
            if not run:
                raise _bad("run", "must name a run")
            return await change(run)

        return convert.run(await _answered(answer, context))


def _bad(field: str, what: str) -> RunRefused:
    return RunRefused("INVALID_REQUEST", "The request is invalid; nothing was done.", [Violation(field, what)])


async def _answered(answer: Callable[[], Awaitable[T]], context: Context) -> T:
    """The answer; an exception becomes the status that says who acts next."""
    try:
        return await answer()
    except RunRefused as error:
        violations = error.violations if error.reason in FIELDS else None
        await _end(context, CODES[error.reason], error.message, error.reason, violations)
    except Exception:
        log.exception("a bug in vmpower")
        message = "vmpower failed; its log says how. Its operator reports it."
        await _end(context, code_pb2.INTERNAL, message, "INTERNAL_ERROR", None)


async def _end(context: Context, code: int, message: str, reason: str, violations: Any) -> NoReturn:
    status = error_details.status(code, message, reason, violations=violations)
    await context.abort_with_status(rpc_status.to_status(status))
    raise AssertionError("abort_with_status does not return")
