"""A control of `vsphere-200`: VMware's command line, as a shell script with `&` uses it, all VMs at once.

`vm.power -s` returns when the guest was asked; its `-wait` waits for tasks, and this makes none. So `object.collect`
waits. Its `-wait` bounds each wait, and then it ends as if all were well: what it prints counts.
"""

import os
import resource
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from tests.bench.control import Told, Work, tell, work
from tests.rigs.vsphere.govc import govc

EACH = 'govc vm.power -s "$1" >&2 && govc object.collect -wait 100s -s "vm/$1" -runtime.powerState poweredOff'


def main() -> None:
    """Two processes for each VM, one after the other; the session is kept on disk for all, as is govc's habit."""
    todo, told = work(), Told()
    environment = _environment(todo)
    subprocess.run(["govc", "about"], env=environment, stdout=subprocess.DEVNULL, check=True)  # logs in
    with ThreadPoolExecutor(len(todo.names)) as pool:
        told.began, busy = time.time(), _cpu()
        ends = pool.map(lambda name: _shut_down(name, environment), todo.names)
        told.off = {name: end for name, end in zip(todo.names, ends, strict=True) if end}
    told.cpu = _cpu() - busy
    tell(told)


def _shut_down(name: str, environment: dict[str, str]) -> float:
    """When it was known that the VM is off; 0: that was not found out."""
    command = ["/bin/sh", "-c", EACH, "sh", name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return time.time() if done.stdout.strip() == "poweredOff" else 0


def _cpu() -> float:
    """Of the processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _environment(todo: Work) -> dict[str, str]:
    return os.environ | {
        "PATH": f"{govc().parent}:{os.environ['PATH']}",
        "HOME": todo.home,
        "GOVC_URL": todo.url,
        "GOVC_USERNAME": todo.username,
        "GOVC_PASSWORD": todo.password,
        "GOVC_TLS_CA_CERTS": todo.ca,
    }


if __name__ == "__main__":
    main()
