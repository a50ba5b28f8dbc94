from io import StringIO

import pytest

from common.closing import closed_on_failure


def test_what_was_opened_stays_open() -> None:
    with closed_on_failure(StringIO()) as opened:
        pass
    assert not opened.closed


def test_it_is_closed_when_the_block_fails() -> None:
    opened = StringIO()
    with pytest.raises(ValueError, match="no"), closed_on_failure(opened):
        raise ValueError("no")
    assert opened.closed
