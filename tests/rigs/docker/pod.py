"""A pod of the chart as a kubelet runs it: each container by `docker run`, with what the pod says and no more."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.rigs.docker.engine import Engine
from tests.rigs.docker.image import Container
from tests.rigs.rig import Rig

Object = dict[str, Any]
WRITABLE, SECRET = 0o2775, 0o440
"""What a kubelet's fsGroup makes of a volume, and the chart's `defaultMode`."""


class Pod(Rig):
    """`files`: those of the volumes that are no empty folders, by volume and name. `environment`: the cluster's."""

    def __init__(
        self, engine: Engine, spec: Object, files: Mapping[str, Mapping[str, str]], environment: Mapping[str, str]
    ) -> None:
        self._engine, self._spec, self._environment = engine, spec, environment
        self.folder = Path(tempfile.mkdtemp(prefix="vmp-", dir="/tmp"))
        self.containers = dict[str, Container]()
        for volume in spec["volumes"]:
            self._make(volume["name"], files.get(volume["name"], {}))

    def start(self) -> None:
        """Start all containers; that they serve is for the probes to say."""
        for container in self._spec["containers"]:
            self.containers[container["name"]] = Container(self._engine, *self._words(container))

    def close(self) -> None:
        """End them, and remove their volumes."""
        for container in self.containers.values():
            container.remove()
        shutil.rmtree(self.folder)

    def _make(self, volume: str, files: Mapping[str, str]) -> None:
        folder = self.folder / volume
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text)
            self._own(folder / name, SECRET)
        self._own(folder, WRITABLE)

    def _own(self, path: Path, mode: int) -> None:
        os.chown(path, 0, self._spec["securityContext"]["fsGroup"])
        path.chmod(mode)

    def _words(self, container: Object) -> list[str]:
        pod, own = self._spec["securityContext"], container["securityContext"]
        words = [
            "--network=host",
            f"--user={pod['runAsUser']}:{pod['runAsGroup']}",
            f"--group-add={pod['fsGroup']}",
            *(f"--cap-drop={name}" for name in own["capabilities"]["drop"]),
            *(["--read-only"] if own["readOnlyRootFilesystem"] else []),
            *([] if own["allowPrivilegeEscalation"] else ["--security-opt=no-new-privileges"]),
            *(f"--env={name}={value}" for name, value in self._environment.items()),
            *(f"--env={one['name']}={one['value']}" for one in container.get("env", [])),
            *(self._volume(mount) for mount in container["volumeMounts"]),
        ]
        command, *rest = container["command"]
        return [*words, f"--entrypoint={command}", container["image"], *rest, *container["args"]]

    def _volume(self, mount: Object) -> str:
        source = self.folder / mount["name"] / mount.get("subPath", "")
        if not source.exists():
            source.mkdir()
            self._own(source, WRITABLE)
        return f"--volume={source}:{mount['mountPath']}" + (":ro" if mount.get("readOnly") else "")


def passes(probe: Object) -> bool:
    """Whether a container's probe passes now, asked as kubelets ask."""
    asked = probe["grpc"]
    with grpc.insecure_channel(f"127.0.0.1:{asked['port']}") as channel:
        request = health_pb2.HealthCheckRequest(service=asked.get("service", ""))
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(request, timeout=probe.get("timeoutSeconds", 1))  # type: ignore[attr-defined]  # its stubs lack it
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
