import pytest

from controller.last_known import LastKnown
from controller.source import SecretUnavailable, SourceError


class Told:
    """What is read, or why it is not."""

    def __init__(self) -> None:
        self.answer: str | Exception = "first"

    async def read(self) -> str:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def test_it_is_read_anew_each_time() -> None:
    told, known = Told(), LastKnown[str]("it")
    assert await known.read(told.read) == "first"
    told.answer = "second"
    assert await known.read(told.read) == "second"


async def test_while_it_cannot_be_read_it_is_as_it_was() -> None:
    told, known = Told(), LastKnown[str]("it")
    await known.read(told.read)
    told.answer = SourceError("away")
    assert await known.read(told.read) == "first"


async def test_what_was_never_read_is_not_known() -> None:
    told, known = Told(), LastKnown[str]("it")
    told.answer = SourceError("away")
    with pytest.raises(SourceError):
        await known.read(told.read)


async def test_what_is_there_no_more_does_not_count() -> None:
    told, known = Told(), LastKnown[str]("it")
    await known.read(told.read)
    told.answer = SecretUnavailable("gone")
    with pytest.raises(SecretUnavailable):
        await known.read(told.read)
