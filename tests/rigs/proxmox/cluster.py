"""A Proxmox VE cluster on loopback, with guests that behave as they are told: shutdown times, agents, locks, HA.

    with Cluster({"web": {"shutdown_secs": 2, "agent": "answers"}, "ct": {"kind": "lxc"}}, time_scale=0.1) as cluster:
        ...  # a client of cluster.urls, with cluster.ca, as cluster.token_id with cluster.token_secret
        cluster.set("web", ignores=True)
        assert cluster.show("web")["asked"]

The program is pve/, before PyPI's fakepve; each of its files says what PVE does there and fakepve does not. All calls
block. Seconds of the cluster are PVE's and last `time_scale` of ours; times are those of `time.time()`.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack

from tests.rigs.proxmox.certificates import certify
from tests.rigs.simulation import Simulation

Behaviour = Mapping[str, object]


class Options(TypedDict, total=False):
    """What a cluster can be told beyond its guests and nodes; DEFAULTS says what it is otherwise."""

    time_scale: float  # our seconds that one of PVE's lasts
    latency: float  # our seconds before every answer
    acl: bool  # whether whoever is not root@pam needs a `grant`; a token may what its user may
    release: int  # 9, or 8 for PVE 8.2: VM.Monitor, and agents that are told to shut down without a ping
    ha_delay: float  # between a request and what HA does
    stale_secs: float  # how old what cluster/resources says of guests may be; in PVE, 10
    refuses_early: bool  # makes a lock an HTTP error, as fakepve has it; in PVE, a task fails


DEFAULTS = Options(
    time_scale=1.0, latency=0.0, acl=False, release=9, ha_delay=10.0, stale_secs=0.0, refuses_early=False
)
SECRETS = ("user", "password", "root_password", "token_id", "token_secret")


class Cluster(Simulation):
    """A cluster and its guests. `folder` has all it ever writes.

    `guests` are behaviours by the keys that calls here know them by: vmid (else 100 and on), name (else the key), kind
    (`qemu`, `lxc`), node (else the first), count (`key-0001` and on); power (`on`, `off`, `paused`, or another run
    state of QEMU's); agent (`off`: not in the config, `answers`, `absent` and `hangs`: no ping is answered, `deaf`:
    only pings are), acpi, ignores (True, or the signal: `agent`, `acpi`, `init`); shutdown_secs, start_secs, stop_secs,
    snapshot_secs, start_error; startup (`order=1,up=5,down=180`), lock, ha (a state of the CRM), template, protection,
    hibernated, tags, pool, config (any other keys of it); agent_output (bytes kept of each of a program's outputs).

    Each of `urls` is a node's API with a certificate of its own, all signed by `ca` and pinned by `fingerprints`.
    `credentials` and `token_dir` are folders as one mounts them: `username` and `password`, `token-id` and
    `token-secret`.
    """

    def __init__(
        self, guests: Mapping[str, Behaviour], *, nodes: Sequence[str] = ("pve1", "pve2"), **options: Unpack[Options]
    ) -> None:
        super().__init__()
        self.nodes = tuple(nodes)
        self.options = Options(**(DEFAULTS | options))
        self.time_scale = self.options["time_scale"]
        self.user, self.password, self.root_password = "vmpower@pve", "Geheim-1!", "Wurzel-1!"
        self.token_id, self.token_secret = "vmpower@pve!provider", "0b0ffb06-0fcc-4a31-9c1e-6f7a4e1c2d3b"
        self.credentials, self.token_dir = self.folder / "credentials", self.folder / "token"
        self._write_credentials()
        self.ca = self.folder / "ca.pem"
        certificates = certify(nodes, self.ca)
        self.fingerprints = [certificate.fingerprint for certificate in certificates.values()]
        own = {"guests": guests, "nodes": list(nodes), "certificates": certificates}
        who = {name: getattr(self, name) for name in SECRETS}
        self.prepare([sys.executable, "-m", "tests.rigs.proxmox.pve"], own | who | self.options)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the first node's certificate, as PVE shows it: pairs of digits with colons between them."""
        return self.fingerprints[0]

    def start(self) -> None:
        """Start it; after `stop`, all its API servers are back on their ports."""
        if self.process.runs():
            self._post("endpoints", up=True)
        else:
            self.urls: list[str] = self.launch()["urls"]

    def stop(self) -> None:
        """All API servers are gone until `start`. Guests, tasks and HA go on."""
        self._post("endpoints", up=False)

    # The guests

    def show(self, key: str) -> dict[str, Any]:
        """What a guest is, and what happened to it.

        vmid, kind, node, pid, power (`running`, `stopped`, `paused`, ...), lock, ha, config, snapshots; on_at, off_at,
        off_cause (`guest`, `pve-forced`, `stop`, `ha` for what HA forced, `crash`); ends (these three of each run that
        is over, oldest first); asked (time, how and parameters of each power call on it), heard (time and signal of
        each request that reached it), execs (pid, argv and input as the program received them, started_at, ended_at,
        exitcode).
        """
        shown: dict[str, Any] = self._post("show", key=key)
        return shown

    def set(self, key: str, **behaviour: object) -> None:
        """Change how a guest behaves from now on."""
        self._post("set", key=key, behaviour=behaviour)

    def power(self, key: str, how: str) -> str | None:
        """A colleague's hand (`on`, `off`: tasks of root@pam, whose UPID is returned; `pause`, `resume`), or fate's.

        `off-by-guest`: its system powers it off; `crash`: its QEMU dies. Any other word is a run state of QEMU's.
        """
        upid: str | None = self._post("power", key=key, how=how)
        return upid

    def add(self, key: str, **behaviour: object) -> None:
        """One more guest, or many (`count`)."""
        self._post("add", key=key, behaviour=behaviour)

    def remove(self, key: str) -> None:
        """Take a guest away, also one that runs."""
        self._post("remove", key=key)

    def rename(self, key: str, name: str) -> None:
        """Give a guest another name. Here it is known by its key."""
        self._post("rename", key=key, name=name)

    def wait_off(self, key: str) -> dict[str, Any]:
        """Wait until a guest is off; what `show` then says."""
        self._post("gone", key=key)
        return self.show(key)

    def lock(self, key: str, lock: str) -> None:
        """Its config says `lock: ...`, as an action does that goes on or was interrupted."""
        self._post("lock", key=key, lock=lock)

    def unlock(self, key: str) -> None:
        """Nor does its config any more."""
        self._post("lock", key=key, lock=None)

    def hold_config_lock(self, key: str, seconds: float) -> None:
        """Hold its lock file, for which tasks wait 10 s."""
        self._post("hold_config_lock", key=key, seconds=seconds)

    def backup(self, key: str, seconds: float) -> str:
        """root@pam's vzdump: `lock: backup` for so long; its UPID."""
        upid: str = self._post("backup", key=key, seconds=seconds)
        return upid

    def migrate(self, key: str, target: str, seconds: float) -> str:
        """root@pam's migration: the lock file is held for so long, then the guest lives there; its UPID."""
        upid: str = self._post("migrate", key=key, target=target, seconds=seconds)
        return upid

    def task(self, upid: str, *, ended: bool = False) -> dict[str, Any]:
        """A task: type, id, user, status, exitstatus, log (its lines), ...; with `ended`, after its end."""
        if ended:
            self._post("ended", upid=upid)
        task: dict[str, Any] = self._post("task", upid=upid)
        return task

    # The cluster

    def omit(self, key: str, times: int | None = None) -> None:
        """cluster/resources leaves a guest out, the next so many times, or until `list_again`; its node has it."""
        self._post("omit", key=key, times=times)

    def list_again(self, key: str) -> None:
        """It does so no more."""
        self._post("list_again", key=key)

    def disarm_ha(self, mode: str) -> None:
        """HA does nothing until `arm_ha`; meanwhile it is the API that acts on what it managed (`ignore`), or nobody
        does (`freeze`)."""
        self._post("disarm_ha", mode=mode)

    def arm_ha(self) -> None:
        """HA does again as its configuration says."""
        self._post("arm_ha")

    def lose_quorum(self) -> None:
        """Starts, snapshots and requests to HA fail, and HA does nothing; all else goes on."""
        self._post("quorum", quorate=False)

    def regain_quorum(self) -> None:
        """It is whole again."""
        self._post("quorum", quorate=True)

    def node_down(self, node: str, *, forgotten: bool = True, silence: float = 0) -> None:
        """A node that the others cannot reach: 595 for its guests, which live on; its own API server is gone.

        For its first 5 minutes, `forgotten=False`: cluster/resources shows what was last known. Then all that is known
        of its guests is that there are any: their status is `unknown`, and they have no name. `silence`: the seconds
        that the others wait for it in each call, which PVE ends after 30.
        """
        self._post("node_down", node=node, forgotten=forgotten, silence=silence)

    def node_up(self, node: str) -> None:
        """It is back."""
        self._post("node_up", node=node)

    def endpoint_down(self, index: int) -> None:
        """One API server goes away, with all its connections; its node works."""
        self._post("endpoints", up=False, index=index)

    def endpoint_up(self, index: int) -> None:
        """It is back, on the same port."""
        self._post("endpoints", up=True, index=index)

    def expire_tickets(self) -> None:
        """All tickets are worth nothing: 401. Tokens are no tickets."""
        self._post("expire_tickets")

    def rotate_password(self, new: str) -> None:
        """From now on logins need the new password, which is also in `credentials`. Tickets go on."""
        self._post("rotate", user=self.user, password=new)
        self.password = new
        self._write_credentials()

    def rotate_token(self, new: str) -> None:
        """From now on the token has another secret, which is also in `token_dir`."""
        self._post("rotate_token", token_id=self.token_id, secret=new)
        self.token_secret = new
        self._write_credentials()

    def grant(self, who: str, path: str, *privileges: str) -> None:
        """Privileges on a path (`/`, `/vms`, `/vms/100`, `/pool/name`, `/nodes/pve1`) and all below it."""
        self._post("grant", who=who, path=path, privileges=privileges)

    def fail(
        self, method: str, suffix: str, status: int, message: str, times: int | None = None, *, lost: bool = False
    ) -> None:
        """Answer calls whose path ends so with an error, `times` times or for good.

        With `lost`, the call is carried out, and its answer replaced (596 is what a node's silence becomes); this is
        for one call where `times` is not given.
        """
        self._post("fail", method=method, suffix=suffix, status=status, message=message, times=times, lost=lost)

    # What clients did

    def requests(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Method, path (from `/nodes`, `/cluster`, ... on) and parameters of each call as PVE received it."""
        return [(method, path, values) for method, path, values in self._post("requests")]

    def calls(self) -> dict[str, int]:
        """How many times each was called, by `METHOD /path/of/{the}/schema`."""
        calls: dict[str, int] = self._post("calls")
        return calls

    def reset_calls(self) -> dict[str, int]:
        """The same, and begin to count and to note anew."""
        calls: dict[str, int] = self._post("reset_calls")
        return calls

    def connections(self) -> int:
        """How many were ever used, of all clients together. PVE ends each after 100 requests."""
        return int(self._post("connections"))

    # Inside

    def _write_credentials(self) -> None:
        files = {
            self.credentials: {"username": self.user, "password": self.password},
            self.token_dir: {"token-id": self.token_id, "token-secret": self.token_secret},
        }
        for folder, contents in files.items():
            folder.mkdir(exist_ok=True)
            for name, text in contents.items():
                (folder / name).write_text(text)

    def _post(self, action: str, **arguments: object) -> Any:
        return self.tell(action, arguments)
