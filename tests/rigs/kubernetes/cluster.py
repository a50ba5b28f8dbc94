"""A Kubernetes API of our own: a real etcd and a real kube-apiserver on loopback. No nodes, so no pod ever runs.

    with Cluster() as cluster:
        cluster.install_crds()
        cluster.kubectl("apply", "-f", "-", input=manifest)
        mark = cluster.mark()
        cluster.stop_api()
        cluster.start_api()
        writes = [event for event in cluster.audit(since=mark) if event.is_write]

All calls block. `mark` and `audit` read a file and so work while the API is down; no controllers run but those of
kube-apiserver itself: a deleted namespace stays Terminating, and nothing owned by what is deleted goes with it.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.rigs.kubernetes import binaries
from tests.rigs.kubernetes.audit import AuditEvent, AuditLog
from tests.rigs.kubernetes.control_plane import ControlPlane
from tests.rigs.kubernetes.kubeconfig import write_kubeconfig
from tests.rigs.polling import poll
from tests.rigs.process import ROOT
from tests.rigs.rig import Rig
from tests.rigs.watching import wait_for_change

CRDS = ROOT / "controller" / "crds"
CRDS_GO_WITHIN = "--timeout=150s"
"""An API server that was busy as it deleted the resources of a CRD waits for a minute before it tries again."""


class Cluster(Rig):
    """One API server, which may be stopped, killed or frozen and started again; `close` ends it all.

    `kubeconfig` is its administrator's; `folder` has all it ever writes. RBAC and PodSecurity are on.
    """

    def __init__(self) -> None:
        programs = binaries.programs()
        self.folder = Path(tempfile.mkdtemp(prefix="vmp-", dir="/tmp"))
        self._plane = ControlPlane(self.folder, programs)
        self._audit = AuditLog(self._plane.audit_log)
        self.kubeconfig = self._write_kubeconfig("admin", {"token": self._plane.token}, "default")

    # The servers

    def start(self) -> None:
        """Start etcd and the API; it returns when the API is ready and the namespace `default` is there.

        Raises:
            RuntimeError: one ended, or is not ready in a minute; the message has the end of its log.
        """
        self._plane.etcd.start()
        self.start_api()
        self.kubectl("wait", "--for=create", "namespace/default")

    def start_api(self) -> None:
        """Start the API where and as it was, or let a frozen one go on; it returns when it is ready.

        Raises:
            RuntimeError: it ended, or is not ready in a minute; the message has the end of its log.
        """
        if self._plane.api.runs():
            self._plane.api.thaw()
        self._plane.api.start()

    def stop_api(self, kill: bool = False) -> None:
        """End the API (SIGTERM, or SIGKILL). Everybody loses their connections and finds nobody there; etcd goes on."""
        if kill:
            self._plane.api.kill()
        else:
            self._plane.api.thaw()  # a frozen one hears no SIGTERM
            self._plane.api.stop()

    def freeze_api(self) -> None:
        """Let the API stop answering without a word (SIGSTOP): connections stay and are still made."""
        self._plane.api.freeze()

    def thaw_api(self) -> None:
        """Let a frozen API go on; it answers what was asked meanwhile."""
        self._plane.api.thaw()

    def close(self) -> None:
        """Kill both and remove every trace of them."""
        for server in (self._plane.api, self._plane.etcd):
            if server.runs():
                server.kill()
        shutil.rmtree(self.folder)

    # What people use

    @property
    def environment(self) -> dict[str, str]:
        """For a shell that is to use kubectl and helm as the administrator; nothing of the user's own counts."""
        path = f"{self._plane.programs}:{os.environ['PATH']}"
        return {"PATH": path, "HOME": str(self.folder), "KUBECONFIG": str(self.kubeconfig)}

    def kubectl(self, *args: str, input: str | None = None) -> str:  # noqa: A002 (subprocess.run calls it so)
        """What kubectl printed; `input` is its standard input.

        Raises:
            RuntimeError: it failed; the message has what it said.
        """
        return self._checked("kubectl", self.try_kubectl(*args, input=input))

    def try_kubectl(
        self,
        *args: str,
        input: str | None = None,  # noqa: A002 (subprocess.run calls it so)
    ) -> subprocess.CompletedProcess[str]:
        """kubectl as the administrator (a `--kubeconfig` among the arguments overrides), whatever comes of it."""
        return self._run("kubectl", *args, stdin=input)

    def helm(self, *args: str) -> str:
        """What helm printed.

        Raises:
            RuntimeError: it failed; the message has what it said.
        """
        return self._checked("helm", self._run("helm", *args))

    def install_crds(self) -> None:
        """Apply our CRDs and wait until their resources can be used and explained."""
        self.kubectl("apply", "-f", str(CRDS))
        self.wait_established("-f", str(CRDS))
        self._plane.api.until(self._crds_are_published)

    def wait_established(self, *crds: str) -> None:
        """Wait until the resources of these CRDs (`crd/NAME`, or `-f FILE`) can be used.

        `kubectl wait` ends with an error where it meets one that is too new to have a condition, so it is asked again.

        Raises:
            TimeoutError: they cannot be in a minute.
        """
        wait = ("wait", "--for=condition=Established", "--timeout=60s", *crds)
        poll(lambda: self.try_kubectl(*wait).returncode == 0, 60)

    def delete_crds(self, *names: str) -> None:
        """Delete these CRDs, all without names, with their resources, and wait until they are gone. Of those that are
        not there nothing is said.

        Raises:
            RuntimeError: they do not go.
        """
        self.kubectl("delete", "crd", *(names or ("--all",)), "--ignore-not-found", CRDS_GO_WITHIN)

    def wait_crds_gone(self, *names: str) -> None:
        """Wait until these CRDs, which somebody deletes, are gone.

        Raises:
            RuntimeError: they do not go.
        """
        self.kubectl("wait", "--for=delete", *(f"crd/{name}" for name in names), CRDS_GO_WITHIN)

    def service_account(self, namespace: str, name: str) -> Path:
        """A kubeconfig of a ServiceAccount that exists, for a day: its token is in a file, as in a pod."""
        token = self.folder / f"{namespace}-{name}.token"
        token.write_text(self.kubectl("create", "token", name, "--namespace", namespace, "--duration", "24h"))
        return self._write_kubeconfig(f"{namespace}-{name}", {"tokenFile": str(token)}, namespace)

    # Who asked for what

    def mark(self) -> int:
        """This moment, for `audit` and `wait_audit`."""
        return self._audit.mark()

    def audit(self, user: str | None = None, *, since: int = 0) -> list[AuditEvent]:
        """All requests that were answered since a mark, or those of one user (system:serviceaccount:NAMESPACE:NAME).

        A request is written down as its answer is sent, so one that was just answered may be missing: `wait_audit`.
        """
        return [event for event in self._audit.events(since) if user in (None, event.user)]

    def wait_audit(
        self,
        holds: Callable[[list[AuditEvent]], bool],
        user: str | None = None,
        *,
        since: int = 0,
        timeout: float = 60,
    ) -> list[AuditEvent]:
        """`audit` as soon as it `holds`.

        Raises:
            TimeoutError: it does not; the message has all there is.
        """
        wait_for_change(
            self._audit.path.parent,
            lambda: holds(self.audit(user, since=since)),
            lambda: "\n".join(map(str, self.audit(user, since=since))),
            timeout,
        )
        return self.audit(user, since=since)

    # Inside

    def _write_kubeconfig(self, name: str, user: dict[str, str], namespace: str) -> Path:
        path = self.folder / f"{name}.kubeconfig"
        return write_kubeconfig(path, self._plane.address, self._plane.ca, user, namespace)

    def _run(self, program: str, *args: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        command = [str(self._plane.programs / program), *args]
        return subprocess.run(command, env=self.environment, input=stdin, capture_output=True, text=True, check=False)

    def _checked(self, program: str, done: subprocess.CompletedProcess[str]) -> str:
        if done.returncode == 0:
            return done.stdout
        words = " ".join(done.args[1:])
        down = "" if self._plane.api.runs() else f"\nthe API server is down:\n{self._plane.api.tail()}"
        raise RuntimeError(f"{program} {words}: exit code {done.returncode}\n{done.stdout}{done.stderr}{down}")

    def _crds_are_published(self) -> bool:
        """Established ones are served at once, and described a moment later."""
        kinds = ("virtualmachine", "provider", "powerplan", "powerrun")
        return all(self.try_kubectl("explain", f"{kind}.spec").returncode == 0 for kind in kinds)
