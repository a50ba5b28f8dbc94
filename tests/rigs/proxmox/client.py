"""PVE's API by hand, with nothing of ours between.

    with Client(cluster) as client:
        upid = client.post("/nodes/pve1/qemu/100/status/shutdown", timeout=30)
        assert client.get(f"/nodes/pve1/tasks/{upid}/status")["status"] == "running"

`Machine` is a guest as a test sees it: what the API says of it, beside what the rig knows.
"""

import json
import ssl
from http.client import HTTPSConnection
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from tests.rigs.proxmox.cluster import Cluster


class Refused(Exception):
    """An error that PVE answered with; `reason` stands in the status line, `errors` are by parameters."""

    def __init__(self, status: int, reason: str, body: bytes) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason
        self.body = body
        self.errors: dict[str, str] = json.loads(body).get("errors", {}) if body else {}


class Client:
    """One connection to the API server of a node; it logs in with the cluster's token, or with a ticket."""

    def __init__(self, cluster: Cluster, endpoint: int = 0) -> None:
        where = urlsplit(cluster.urls[endpoint])
        trust = ssl.create_default_context(cafile=str(cluster.ca))
        self._connection = HTTPSConnection(str(where.hostname), where.port, context=trust, timeout=30)
        self._headers = {"Authorization": f"PVEAPIToken={cluster.token_id}={cluster.token_secret}"}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def log_in(self, username: str, password: str) -> str:
        """Be a user by a ticket from now on; the ticket."""
        given = self.post("/access/ticket", username=username, password=password)
        cookie = f"PVEAuthCookie={given['ticket']}"
        self._headers = {"Cookie": cookie, "CSRFPreventionToken": given["CSRFPreventionToken"]}
        return str(given["ticket"])

    def get(self, path: str, **values: object) -> Any:
        return self.call("GET", f"{path}?{_encoded(values)}")

    def post(self, path: str, **values: object) -> Any:
        """An underscore in a parameter's name stands for a hyphen."""
        return self.call("POST", path, _encoded(values))

    def send(self, path: str, **values: object) -> Any:
        """A post whose parameters are JSON."""
        named = {name.replace("_", "-"): value for name, value in values.items()}
        return self.call("POST", path, json.dumps(named), "application/json")

    def delete(self, path: str) -> Any:
        return self.call("DELETE", path)

    def call(
        self, method: str, path: str, body: str | None = None, kind: str = "application/x-www-form-urlencoded"
    ) -> Any:
        """The `data` of the answer.

        Raises:
            Refused: it is an error.
        """
        form = {"Content-Type": kind} if body is not None else {}
        self._connection.request(method, f"/api2/json{path}", body, self._headers | form)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status >= 400:
            raise Refused(answer.status, answer.reason, content)
        return json.loads(content)["data"]


class Machine:
    """A guest of the rig, by its key."""

    def __init__(self, cluster: Cluster, client: Client, key: str) -> None:
        self.cluster = cluster
        self.client = client
        self.key = key
        shown = self.shown
        self.vmid = int(shown["vmid"])
        self.path = f"/nodes/{shown['node']}/{shown['kind']}/{self.vmid}"
        self.node = shown["node"]

    @property
    def shown(self) -> dict[str, Any]:
        """What the rig knows of it."""
        return self.cluster.show(self.key)

    def asks(self, action: str, **values: object) -> str:
        """`shutdown`, `stop`, `start`, ...; the task's UPID."""
        return str(self.client.post(f"{self.path}/status/{action}", **values))

    def does(self, action: str, **values: object) -> dict[str, Any]:
        """The same; the task when it has ended."""
        return self.cluster.task(self.asks(action, **values), ended=True)

    def tasks(self, **values: object) -> list[dict[str, Any]]:
        """Its tasks, as its node lists them."""
        listed: list[dict[str, Any]] = self.client.get(f"/nodes/{self.node}/tasks", vmid=self.vmid, **values)
        return listed

    def resource(self) -> dict[str, Any]:
        """What cluster/resources says of it."""
        resources = self.client.get("/cluster/resources", type="vm")
        return next(one for one in resources if one["vmid"] == self.vmid)


def _encoded(values: dict[str, object]) -> str:
    return urlencode({name.replace("_", "-"): value for name, value in values.items()}, doseq=True)
