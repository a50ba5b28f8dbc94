"""A release of the chart whose containers' programs run as processes here, with the flags that the chart gives them.

    with Release(cluster, namespace, {"provider-lab": ["--script=/tmp/guests.yaml"]}):
        cluster.kubectl("exec", "-n", namespace, "deploy/vmpower", "-c", "controller", "--", "vmpower", "list")

What is in no pod stands elsewhere: sockets, states and mounted files in a folder, ports and Services' names at free
ports of loopback. Certificates are issued as the chart's Certificates ask, and names in them are checked as in a
cluster: the command line is told by which name it would have called.
"""

import json
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import trustme
import yaml

from tests.rigs.cache import cache
from tests.rigs.kubernetes.chart import Object, pods
from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.kubelet import Kubelet
from tests.rigs.kubernetes.server import free_port
from tests.rigs.process import ROOT, Program
from tests.rigs.rig import Rig

ENVIRONMENT = {"PATH": f"{ROOT}:{Path(sys.executable).parent}:/usr/bin:/bin", "VMPOWER_CACHE": str(cache())}
"""Where commands find `vmpower` and `python`, and the checkout's `vmpower` what it runs on."""
SERVES = {"controller": '"started"', "providers.sim": '"serving"'}
"""What a program logs once it does."""


class Release(Rig):
    """The programs of the release `vmpower`, which is installed. `more` has further flags, by container.

    `places` has, by Service and port ("vmpower.NAMESPACE.svc:9440"), where that is here.
    """

    def __init__(self, cluster: Cluster, namespace: str, more: Mapping[str, Sequence[str]] | None = None) -> None:
        self.cluster, self.namespace = cluster, namespace
        self.folder = Path(tempfile.mkdtemp(prefix="vmp-", dir="/tmp"))
        self.kubelet = Kubelet(cluster)
        self.programs = dict[str, Program]()
        self.places = dict[str, str]()
        self.authority = trustme.CA()
        self._more = more or {}
        self._stack = ExitStack()

    def start(self) -> None:
        """Start all programs, and return when each of them serves."""
        self._stack.enter_context(self.kubelet)
        running = pods(self._get("deployments"))
        for pod in running:
            self._choose_ports(pod)
        for pod in running:
            for container in pod["spec"]["containers"]:
                self._mount(pod, container)
                self._run(pod, container)
            self._tell_kubelet(pod)
        self._lead_providers_here()

    def close(self) -> None:
        """End them all, as a kubelet does; the release itself stays."""
        for program in self.programs.values():
            if program.runs():
                program.stop()
        self._stack.close()
        shutil.rmtree(self.folder)

    def here(self, text: str, pod: Object, container: Object) -> str:
        """What a container is told, as it is here."""
        own, name = self.folder / container["name"], pod["metadata"]["name"]
        paths = {"/run/vmpower": str(self.folder / "run")}
        paths |= {path: f"{own}{path}" for path in ("/etc/vmpower", "/var/lib/vmpower")}
        listens = {
            f"[::]:{place.rpartition(':')[2]}": self.places[place]
            for place in self.places
            if place.startswith(f"{name}.{self.namespace}.svc:")
        }
        instead = paths | self.places | listens
        longest_first = sorted(map(re.escape, instead), key=len, reverse=True)
        return re.sub("|".join(longest_first), lambda found: instead[found[0]], text)

    def certificate(self, name: str) -> Path:
        """A folder with ca.crt, and tls.crt and tls.key of a client with this common name."""
        return self._issue(self.folder / f"certificate-{name}", {"commonName": name})

    @contextmanager
    def test_pod(self) -> Iterator[None]:
        """While `helm test` runs: its pod does."""
        what = (self.namespace, "vmpower-test", self.places)
        runs = threading.Thread(target=self.kubelet.run_to_end, args=what)
        runs.start()
        try:
            yield
        finally:
            runs.join()

    def _choose_ports(self, pod: Object) -> None:
        for container in pod["spec"]["containers"]:
            for port in container["ports"]:
                place = f"{pod['metadata']['name']}.{self.namespace}.svc:{port['containerPort']}"
                self.places[place] = f"127.0.0.1:{free_port()}"

    def _mount(self, pod: Object, container: Object) -> None:
        """The ConfigMaps, and the certificates that cert-manager would write, with the names that it is asked for."""
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        for mount in container["volumeMounts"]:
            folder = Path(self.here(mount["mountPath"], pod, container))
            volume = volumes[mount["name"]]
            if "configMap" in volume:
                (found,) = self._get("configmaps", volume["configMap"]["name"])
                folder.mkdir(parents=True)
                for name, text in found["data"].items():
                    (folder / name).write_text(self._as_called(text, pod, container))
            elif "secret" in volume:
                (found,) = self._get("certificates.cert-manager.io", volume["secret"]["secretName"])
                self._issue(folder, found["spec"])
            elif mount["mountPath"] in {"/run/vmpower", "/var/lib/vmpower"} or "subPath" in mount:
                folder.mkdir(parents=True, exist_ok=True)

    def _as_called(self, text: str, pod: Object, container: Object) -> str:
        """The command line's configuration: at another address a provider still has to have the Service's name."""
        there, here = (yaml.safe_load(said)["providers"] for said in (text, self.here(text, pod, container)))
        for name, endpoint in here.items():
            if "tls" in endpoint:
                endpoint["tls"]["server_name"] = there[name]["address"].rpartition(":")[0]
        return yaml.safe_dump({"providers": here})

    def _issue(self, folder: Path, asked: Object) -> Path:
        """As cert-manager would, but for the address that stands for a Service here, which the controller calls."""
        names = asked.get("dnsNames", [])
        leaf = self.authority.issue_cert(*names, *(["127.0.0.1"] if names else []), common_name=asked.get("commonName"))
        folder.mkdir(parents=True)
        self.authority.cert_pem.write_to_path(folder / "ca.crt")
        leaf.cert_chain_pems[0].write_to_path(folder / "tls.crt")
        leaf.private_key_pem.write_to_path(folder / "tls.key")
        return folder

    def _run(self, pod: Object, container: Object) -> None:
        _, _, module = container["command"]
        args = [self.here(arg, pod, container) for arg in container["args"]]
        if module == "controller":
            account = self.cluster.service_account(self.namespace, pod["spec"]["serviceAccountName"])
            args.append(f"--kubeconfig={account}")
        program = Program(module, *args, *self._more.get(container["name"], ()))
        self.programs[container["name"]] = self._stack.enter_context(program)
        program.wait_output(SERVES[module])

    def _tell_kubelet(self, pod: Object) -> None:
        environments, ports = {}, {}
        for container in pod["spec"]["containers"]:
            told = {one["name"]: self.here(one["value"], pod, container) for one in container.get("env", ())}
            environments[container["name"]] = ENVIRONMENT | {"HOME": str(self.folder)} | told
            for port in container["ports"]:
                number = port["containerPort"]
                ports[number] = self.places[f"{pod['metadata']['name']}.{self.namespace}.svc:{number}"]
        self.kubelet.run(pod, environments, ports)

    def _lead_providers_here(self) -> None:
        """The controller's pod is where its Providers' sockets and Services are to be found."""
        (controller,) = (pod for pod in pods(self._get("deployments")) if pod["metadata"]["name"] == "vmpower")
        (container,) = (one for one in controller["spec"]["containers"] if one["name"] == "controller")
        manifest = self.cluster.helm("get", "manifest", "vmpower", "--namespace", self.namespace)
        for one in yaml.safe_load_all(manifest):
            if one and one["kind"] == "Provider":
                endpoint = self.here(one["spec"]["runtime"]["endpoint"], controller, container)
                patch = json.dumps({"spec": {"runtime": {"endpoint": endpoint}}})
                what = (one["metadata"]["name"], "--namespace", one["metadata"]["namespace"])
                self.cluster.kubectl("patch", "providers.infra.virtrigaud.io", *what, "--type=merge", "--patch", patch)

    def _get(self, kind: str, *names: str) -> list[Object]:
        """Those of these names, or all."""
        found: Object = json.loads(self.cluster.kubectl("get", kind, *names, "-n", self.namespace, "--output=json"))
        return list(found.get("items", [found]))
