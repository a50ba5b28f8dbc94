import socket
import stat
from pathlib import Path

import pytest

from common.listening import CannotListen, for_owner_and_group, listening, require_listenable


def said(address: str) -> str:
    with pytest.raises(CannotListen) as refused:
        require_listenable(address, "--listen")
    return str(refused.value)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::]:0", "unix-abstract:vmpower-test"])
def test_an_address_that_is_free_is_let(address: str) -> None:
    require_listenable(address, "--listen")


def test_a_new_socket_in_a_directory_that_there_is_is_let(tmp_path: Path) -> None:
    require_listenable(f"unix://{tmp_path}/p.sock", "--listen")


def test_a_socket_that_was_left_behind_is_let(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "p.sock"))
    require_listenable(f"unix://{tmp_path}/p.sock", "--listen")


def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    address = f"unix://{tmp_path}/run/p.sock"
    assert said(address) == (
        f"{address}: there is no directory {tmp_path}/run, its operator makes it; mend that or choose another --listen."
    )


def test_a_directory_that_may_not_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write into any
    assert f"may not write into {tmp_path}" in said(f"unix://{tmp_path}/p.sock")


def test_a_socket_that_is_served_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as serving:
        serving.bind(str(tmp_path / "p.sock"))
        serving.listen()
        assert "another process serves there" in said(f"unix://{tmp_path}/p.sock")


def test_a_socket_whose_process_takes_no_connections_any_more_is_told(tmp_path: Path) -> None:
    path = str(tmp_path / "p.sock")
    with socket.socket(socket.AF_UNIX) as frozen, socket.socket(socket.AF_UNIX) as waiting:
        frozen.bind(path)
        frozen.listen(0)
        waiting.connect(path)
        assert "takes no connections" in said(f"unix://{path}")


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert said(address) == f"{address}: another process listens there; mend that or choose another --listen."


def test_an_address_of_another_machine_is_told() -> None:
    assert "this machine does not have that address" in said("192.0.2.1:9443")


def test_a_host_without_an_address_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert "the host provider.example has no address here" in said("provider.example:9443")


@pytest.mark.parametrize(
    ("error", "why"),
    [(OSError("Too many open files"), "Too many open files"), (RuntimeError(), "gRPC cannot listen there")],
)
def test_what_listens_may_find_a_trouble_of_its_own(error: Exception, why: str) -> None:
    with pytest.raises(CannotListen) as refused, listening("127.0.0.1:0", "--listen"):
        raise error
    assert str(refused.value) == f"127.0.0.1:0: {why}; mend that or choose another --listen."


def test_a_socket_that_is_made_meanwhile_is_for_its_owner_and_group(tmp_path: Path) -> None:
    with for_owner_and_group(), socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "s"))
    (tmp_path / "after").touch()
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o660
