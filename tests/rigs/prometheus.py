"""The real Prometheus and promtool, from Debian's package: fetched once, unpacked in the cache, and never installed."""

import json
import shutil
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.rigs import debs
from tests.rigs.polling import poll
from tests.rigs.ports import free_port
from tests.rigs.process import Process
from tests.rigs.rig import Rig

PACKAGE = "prometheus"


def programs() -> Path:
    """The folder of `prometheus` and `promtool`; the first call fetches them."""
    return debs.programs(PACKAGE, PACKAGE)


class Prometheus(Process, Rig):
    """A server that scrapes these addresses each second, for as long as its context lasts.

    `labels`: those that a discovery has found for each of them. `relabel`: `relabel_configs`, which may read those.
    """

    def __init__(
        self,
        *targets: str,
        rules: Path,
        labels: Sequence[Mapping[str, str]] = ({},),
        relabel: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="vmp-", dir="/tmp"))
        self.address = f"127.0.0.1:{free_port()}"
        found = [{"targets": targets, "labels": one} for one in labels]
        job = {"job_name": "vmpower", "static_configs": found, "relabel_configs": relabel}
        every = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config = self.folder / "prometheus.yml"
        config.write_text(json.dumps({"global": every, "rule_files": [str(rules)], "scrape_configs": [job]}))
        listen, data = f"--web.listen-address={self.address}", f"--storage.tsdb.path={self.folder}/data"
        command = [str(programs() / "prometheus"), f"--config.file={config}", listen, data]
        super().__init__(command, self.folder / "log")
        self._targets = len(targets) * len(labels)

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
