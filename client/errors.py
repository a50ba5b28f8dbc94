"""What can go wrong with a call, as one exception."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import grpc
import grpc.aio
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc_status import rpc_status


class ProviderError(Exception):
    """A call that failed. Nothing has been done to the VM, unless `connection_failed`: then the request may have
    arrived, and the same one is to be sent again.

    Attributes:
        code: the canonical gRPC code ("NOT_FOUND").
        reason: for programs, as in ErrorInfo ("VM_NOT_FOUND"); the code where the provider gives none.
        message: for people: what is wrong and who acts next.
        metadata: what a program needs to act on it ("operation_id").
        violations: what is wrong with the request: a field's path, and what it must be.
        retry_after: the seconds after which the same request is worth another attempt (RetryInfo); None: not said.
    """

    def __init__(
        self,
        code: str,
        message: str,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[tuple[str, str]] = (),
        *,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.reason = code, message, reason or code
        self.metadata, self.violations, self.retry_after = dict(metadata or {}), violations, retry_after

    @property
    def explained(self) -> bool:
        """Whether a provider said so; otherwise it is gRPC, a proxy or a server of another kind."""
        return self.reason != self.code

    @property
    def connection_failed(self) -> bool:
        """Whether no answer came: the provider may be back in a moment, and may have begun what it was asked for."""
        return not self.explained and self.code in {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"}

    @property
    def passing(self) -> bool:
        """Whether the same request may well succeed in a moment: no answer came, or the provider has too much to do."""
        return self.connection_failed or self.retry_after is not None


@contextmanager
def translated() -> Iterator[None]:
    """Raises gRPC's errors as `ProviderError`."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise _translate(error) from error
    except grpc.aio.UsageError as error:
        raise ProviderError(
            "FAILED_PRECONDITION", "The client is closed; make another one.", "CLIENT_CLOSED"
        ) from error
    except asyncio.CancelledError:  # gRPC cancels the calls of a channel that is closed
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise ProviderError("UNAVAILABLE", "The connection was closed meanwhile.") from None


def _translate(error: grpc.aio.AioRpcError) -> ProviderError:
    code, info, bad, retry = error.code().name, ErrorInfo(), BadRequest(), RetryInfo()
    with suppress(ValueError):  # details that contradict the status: a proxy rewrote one of them, so neither is trusted
        status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it has all that is read
        for detail in status.details if status else ():
            detail.Unpack(info)
            detail.Unpack(bad)
            detail.Unpack(retry)
    violations = [(violation.field, violation.description) for violation in bad.field_violations]
    after = retry.retry_delay.ToTimedelta().total_seconds() if retry.HasField("retry_delay") else None
    return ProviderError(code, error.details() or code, info.reason, info.metadata, violations, retry_after=after)
