"""The real Prometheus and promtool, from Debian's package: fetched once, unpacked in the cache, and never installed."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from tests.rigs.cache import locked
from tests.rigs.polling import poll
from tests.rigs.ports import free_port
from tests.rigs.process import Process
from tests.rigs.rig import Rig

PACKAGE = "prometheus"


def programs() -> Path:
    """The folder of `prometheus` and `promtool`; the first call fetches them."""
    with locked(PACKAGE) as cache:
        folder = cache / "bin" / PACKAGE
        if not folder.exists():
            _fetch(folder)
    return folder


def _fetch(folder: Path) -> None:
    print("fetching prometheus: once", file=sys.stderr, flush=True)
    sudo = ["sudo"] if os.geteuid() else []
    subprocess.run([*sudo, "apt-get", "-qq", "update"], check=True)  # packages.sh reads the lists only for its own sake
    with tempfile.TemporaryDirectory() as half:
        subprocess.run(["apt-get", "-qq", "download", PACKAGE], cwd=half, check=True, stderr=subprocess.DEVNULL)
        [package] = Path(half).glob("*.deb")
        subprocess.run(["dpkg-deb", "--extract", str(package), f"{half}/tree"], check=True)
        shutil.copytree(f"{half}/tree/usr/bin", folder.with_suffix(".half"), dirs_exist_ok=True)
    folder.with_suffix(".half").rename(folder)


class Prometheus(Process, Rig):
    """A server that scrapes these addresses each second, for as long as its context lasts."""

    def __init__(self, *targets: str, rules: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="vmp-", dir="/tmp"))
        self.address = f"127.0.0.1:{free_port()}"
        job = {"job_name": "vmpower", "static_configs": [{"targets": targets}]}
        every = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config = self.folder / "prometheus.yml"
        config.write_text(json.dumps({"global": every, "rule_files": [str(rules)], "scrape_configs": [job]}))
        listen, data = f"--web.listen-address={self.address}", f"--storage.tsdb.path={self.folder}/data"
        command = [str(programs() / "prometheus"), f"--config.file={config}", listen, data]
        super().__init__(command, self.folder / "log")
        self._targets = len(targets)

    def start(self) -> None:
        """Start it, and return when it has scraped each target."""
        super().start()
        poll(self._has_scraped_all)

    def close(self) -> None:
        """Kill it and remove what it stored."""
        if self._process:
            self.kill()
        shutil.rmtree(self.folder)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression has now, each with its labels (`metric`) and `value`."""
        parameters = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"http://{self.address}/api/v1/query?{parameters}", timeout=30) as answer:
            series: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return series

    def _has_scraped_all(self) -> bool:
        try:
            return len(self.query("up == 1")) == self._targets
        except OSError:
            return False


def main() -> None:
    """Fetch them, and print where they are."""
    print(programs())


if __name__ == "__main__":
    main()
