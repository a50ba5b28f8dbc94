"""The control of `proxmox-500`: a script with proxmoxer. Ask each guest, then look at each every 2 s."""

import os
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from proxmoxer import ProxmoxAPI

from tests.bench.control import INTERVAL, Told, Work, tell, work
from tests.rigs.usage import rss


def main() -> None:
    """One after another, over one connection at a time."""
    todo, told = work(), Told()
    api = _connect(todo)
    guests = {row["name"]: _guest(api, row) for row in api.cluster.resources.get(type="vm")}
    told.began, busy = time.time(), time.process_time()
    for name in todo.names:
        guests[name].status.shutdown.post(timeout=100, forceStop=1)
    _wait({name: guests[name] for name in todo.names}, told)
    told.cpu, told.rss = time.process_time() - busy, rss(os.getpid(), peak=True)
    tell(told)


def _connect(todo: Work) -> Any:
    url, (user, _, token) = urlsplit(todo.url), todo.username.partition("!")
    login = {"user": user, "token_name": token, "token_value": todo.password}
    return ProxmoxAPI(url.hostname, port=url.port, verify_ssl=todo.ca, **login)


def _guest(api: Any, row: Mapping[str, Any]) -> Any:
    return api.nodes(row["node"])(row["type"])(row["vmid"])


def _wait(guests: Mapping[str, Any], told: Told) -> None:
    left = dict(guests)
    while left:
        time.sleep(INTERVAL)
        for name, guest in list(left.items()):
            if guest.status.current.get()["status"] == "stopped":
                told.off[name] = time.time()
                del left[name]


if __name__ == "__main__":
    main()
