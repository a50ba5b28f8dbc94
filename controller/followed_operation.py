"""The operation on a VM that is followed: as its stream, or the answer of a call, told it last."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from client.errors import ProviderError
from client.power import has_ended
from controller.client import ProviderClient
from protos.power.v1 import power_pb2 as pb

LOOKED_AT = 20
"""Operations on a VM of which it is looked whether they ended unheard."""


class FollowedOperation:
    """That of one VM, one at a time; and whether another one may have ended meanwhile that nobody followed."""

    def __init__(self, *, news: Callable[[], None], lost: Callable[[str], None], broke: Callable[[], None]) -> None:
        """Told are: `news` of the stream; `lost`, the id of an operation that its provider does not know; and `broke`,
        that the stream has ended before the operation."""
        self._news, self._lost, self._broke = news, lost, broke
        self.latest: pb.Operation | None = None
        self.unheard = True
        """Whether an operation on the VM may have ended that was not followed to its end."""
        self.broken = False
        """Whether a stream has broken: its provider may have been restarted. Who sees to that resets it."""
        self._ends = deque[str](maxlen=LOOKED_AT)
        """The last operations whose end we have heard: their order by the provider's clock proves nothing."""
        self._watched: tuple[ProviderClient, str] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def active(self) -> pb.Operation | None:
        """The operation, if it has not ended as far as is known."""
        return self.latest if self.latest is not None and not has_ended(self.latest) else None

    @property
    def ended(self) -> pb.Operation | None:
        """The operation, if it has ended."""
        return self.latest if self.latest is not None and has_ended(self.latest) else None

    def hear(self, operation: pb.Operation) -> None:
        """The one that is followed is this, as it is now."""
        if self.active is not None and self.active.id != operation.id:
            self.unheard = True
        self.latest = operation

    def note(self, operation: pb.Operation) -> None:
        """What this operation says is in the status; if that is its end, it is not looked for any more."""
        if has_ended(operation) and operation.id not in self._ends:
            self._ends.append(operation.id)

    def not_noted(self, operations: Iterable[pb.Operation]) -> list[pb.Operation]:
        """Those of which no end was noted."""
        return [each for each in operations if each.id not in self._ends]

    def newer(self, known: pb.Operation | None, answer: pb.Operation) -> pb.Operation:
        """The answer of a call, or what the stream has told during the call (`known` is what it had told before):
        either may overtake the other. Unless the answer is the end, the stream counts: it tells what the answer does
        too, and what it has told already it does not tell again."""
        news = self.latest
        if news is None or news is known or news.id != answer.id or has_ended(answer):
            return answer
        return news

    def watch(self, client: ProviderClient, operation: str) -> None:
        """Follow the stream of this operation, and no other."""
        listening = self._task is not None and not self._task.done()
        if self._watched != (client, operation) or not listening:
            self.close()
            self._watched = (client, operation)
            self._task = asyncio.create_task(self._listen(client, operation))

    def drop(self) -> None:
        """Forget it: it is none of ours."""
        self.close()
        self.latest = self._watched = None
        self.unheard = True

    def close(self) -> None:
        """Stop following; the operation goes on at its provider."""
        if self._task is not None:
            self._task.cancel()

    async def _listen(self, client: ProviderClient, operation: str) -> None:
        try:
            async for told in client.stream(pb.WatchOperationRequest(id=operation)):
                if not self._knows_end_of(operation):  # it may have come as an answer, before earlier news
                    self.hear(told)
                self._news()
        except ProviderError as error:
            self.broken = True
            if error.reason == "OPERATION_NOT_FOUND":
                self._forget(operation)
        if self.ended is None:
            self._broke()

    def _knows_end_of(self, operation: str) -> bool:
        return self.ended is not None and self.ended.id == operation

    def _forget(self, operation: str) -> None:
        self._lost(operation)
        if self.latest is not None and self.latest.id == operation:
            self.latest = None
