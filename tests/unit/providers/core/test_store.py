"""The file of the journal: records that cannot be read hurt nobody else."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from providers.core.model import Operation, State, Step
from providers.core.store import Store, Unreadable
from tests.unit.providers.core.test_journal import after, operation

ALL = "create_time, id"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = Store(path)
    yield store
    store.close()


def spoil(store: Store, operation_id: str, record: str = '{"of": "a newer version"}') -> None:
    with store.db:
        store.db.execute("UPDATE operations SET record = ? WHERE id = ?", (record, operation_id))


def ids(found: list[Operation]) -> list[str]:
    return [operation.id for operation in found]


def test_a_record_that_cannot_be_read_is_left_out(store: Store) -> None:
    store.commit([operation(1), operation(2)])
    spoil(store, "op-1")
    assert ids(store.many({"final = 0": ()}, ALL)) == ["op-2"]


def test_a_page_is_full_all_the_same(store: Store) -> None:
    store.commit([operation(1), operation(2), operation(3)])
    spoil(store, "op-1")
    assert ids(store.many({}, ALL, limit=2)) == ["op-2", "op-3"]


def test_asked_for_by_itself_it_is_named(store: Store) -> None:
    store.commit([operation(1)])
    spoil(store, "op-1")
    with pytest.raises(Unreadable, match="op-1"):
        store.one("id", "op-1")


def test_its_bytes_stay_where_they_are(store: Store) -> None:
    store.commit([operation(1)])
    spoil(store, "op-1", "not even JSON")
    store.many({}, ALL)
    assert store.db.execute("SELECT record FROM operations").fetchall() == [("not even JSON",)]


def test_it_is_tried_again_at_the_next_start(path: Path) -> None:
    first = Store(path)
    first.commit([operation(1)])
    (good,) = first.db.execute("SELECT record FROM operations").fetchone()
    spoil(first, "op-1")
    assert first.many({}, ALL) == []
    spoil(first, "op-1", good)
    first.close()
    second = Store(path)
    assert ids(second.many({"final = 0": ()}, ALL)) == ["op-1"]
    second.close()


def test_its_request_id_begins_nothing_new(store: Store) -> None:
    store.commit([operation(1, request_id="once")])
    spoil(store, "op-1")
    with pytest.raises(Unreadable):
        store.one("request_id", "once")


def test_text_that_no_utf8_can_hold_fails_no_record(store: Store) -> None:
    step = Step(time=after(1), state=State.PENDING, message="half a pair: \udc80")
    store.commit([operation(1, steps=(step,)), operation(2)])
    found = store.many({}, ALL)
    assert [each.message for each in found[0].steps] == ["half a pair: \\udc80"]
