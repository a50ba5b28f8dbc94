"""A node of the cluster, as far as people see one: its pods are in the API, and kubectl reaches what stands for them.

    with Kubelet(cluster) as kubelet:
        kubelet.run(pod, {"controller": {"PATH": path}}, {9443: "127.0.0.1:41234"})
        cluster.kubectl("exec", "deploy/vmpower", "-c", "controller", "--", "vmpower", "list")

No containers run: the test starts programs as processes, and says with which environment a command in a container runs
and where a port leads. The streams are those of Kubernetes' own library.
"""

import json
import shutil
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.rigs.kubernetes import binaries
from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.server import Server, free_port
from tests.rigs.process import ROOT
from tests.rigs.rig import Rig

Object = dict[str, Any]


class Kubelet(Rig):
    """The node `rig`. Its pods are gone from the API at the end."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="vmp-", dir="/tmp"))
        self._file = self._folder / "pods.json"
        self._pods = dict[str, Object]()
        self._server = self._make_server()

    def start(self) -> None:
        """Start it, and tell the API where the node is."""
        self._file.write_text("{}")
        self._server.start()
        self._apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "rig"}})
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._port}},
        }
        self._set_status("node/rig", "default", status)

    def close(self) -> None:
        """End it; the node and its pods go."""
        if self._server.runs():
            self._server.kill()
        gone = ("--ignore-not-found", "--force", "--grace-period=0", "--wait=false")
        for name in self._pods:
            namespace, _, pod = name.partition("/")
            self._cluster.try_kubectl("delete", "pod", pod, "--namespace", namespace, *gone)
        self._cluster.try_kubectl("delete", "node", "rig", *gone)
        shutil.rmtree(self._folder)

    def run(self, pod: Object, environments: Mapping[str, Mapping[str, str]], ports: Mapping[int, str]) -> None:
        """Have this pod run here: its containers' environments by name, and the address that stands for each port."""
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        found = {
            "Containers": {
                container: [f"{key}={value}" for key, value in environment.items()]
                for container, environment in environments.items()
            },
            "Ports": {str(port): address for port, address in ports.items()},
        }
        self._pods[f"{namespace}/{name}"] = found
        self._file.write_text(json.dumps(self._pods))
        self._apply(pod | {"spec": pod["spec"] | {"nodeName": "rig"}})
        ready = [{"type": "Ready", "status": "True"}]
        self._set_status(f"pod/{name}", namespace, {"phase": "Running", "conditions": ready})

    def run_to_end(self, namespace: str, name: str, places: Mapping[str, str]) -> None:
        """Have the pod of this name, as soon as there is one, run to its end here; `places` stand for names in it."""
        what = (f"pod/{name}", "--namespace", namespace)
        self._cluster.kubectl("wait", "--for=create", *what, "--timeout=60s")
        pod = json.loads(self._cluster.kubectl("get", *what, "--output=json"))
        (container,) = pod["spec"]["containers"]
        args = [places.get(arg, arg) for arg in container["args"]]
        command = [sys.executable, *container["command"][1:], *args]
        done = subprocess.run(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        ended = {"exitCode": done.returncode, "message": done.stdout}
        status = {"name": container["name"], "state": {"terminated": ended}, "image": "", "imageID": "", "ready": False}
        phase = "Failed" if done.returncode else "Succeeded"
        self._set_status(what[0], namespace, {"phase": phase, "containerStatuses": [status | {"restartCount": 0}]})

    def _make_server(self) -> Server:
        certificate, key = self._cluster.folder / "tls.pem", self._cluster.folder / "tls.key"
        command = [
            str(binaries.kubelet()),
            f"--address=127.0.0.1:{self._port}",
            f"--cert={certificate}",
            f"--key={key}",
            f"--pods={self._file}",
        ]
        trust = ssl.create_default_context(cafile=self._cluster.folder / "ca.pem")
        return Server(command, self._folder / "log", self._port, "/healthz", trust)

    def _apply(self, document: Object) -> None:
        self._cluster.kubectl("apply", "-f", "-", input=json.dumps(document))

    def _set_status(self, what: str, namespace: str, status: Object) -> None:
        patch = ("--subresource=status", "--type=merge", "--patch", json.dumps({"status": status}))
        self._cluster.kubectl("patch", what, "--namespace", namespace, *patch)
