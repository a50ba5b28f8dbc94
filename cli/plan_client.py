"""The controller that hosts plans, as commands reach it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cli import config
from cli.errors import ExitCode, Failure, translate, usage
from client.errors import ProviderError
from client.plans import ChangeRequest, PlanClient
from client.words import short
from common.text import clean
from protos.plan.v1 import plan_pb2 as pb


async def change(controller: str, request: ChangeRequest) -> None:
    """Ask for a change of a run, and print where the run stands then.

    Raises:
        Failure: it is refused, or no controller answers.
    """
    async with connected(controller) as client:
        told = await client.call(request)
    print(clean(f"{told.summary.name}: {short(pb.Phase, told.summary.phase)}"))


@asynccontextmanager
async def connected(controller: str) -> AsyncIterator[PlanClient]:
    """A client of the controller at this address or, if empty, of the configured one.

    Raises:
        Failure: also for what goes wrong while it is used.
    """
    endpoint = config.load().controller_meant(controller)
    try:
        async with PlanClient(endpoint.address, config.tls_files(endpoint)) as client:
            yield client
    except ProviderError as error:
        raise _translated(error, endpoint.address) from None


def _translated(error: ProviderError, address: str) -> Failure:
    if error.explained and error.violations:
        return usage(f"{error.message} [{error.reason}]", *map(": ".join, error.violations))
    if error.explained:
        return translate(error, address)
    check = "Check that it runs with --listen, and that you may write to the socket."
    return Failure(f"No controller answers at {address}.", ExitCode.UNREACHABLE, [check, f"gRPC says: {error.message}"])
