"""Our own programs as processes, as they run for users: to be started, killed and started again.

    with Provider("sim", "--world", str(path)) as provider:
        channel = grpc.insecure_channel(provider.address)
        provider.kill()
        provider.start()

All calls block.
"""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.rigs.rig import Rig
from tests.rigs.watching import wait_for_change

ROOT = Path(__file__).parents[2]
SERVING = health_pb2.HealthCheckResponse.SERVING
SERVICE = "power.v1.PowerService"
# A process that is just starting is tried again at once, not after gRPC's usual second or more. `min` is how long a try
# may take, and a machine may be busy.
QUICK = [
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 5000),
    ("grpc.max_reconnect_backoff_ms", 100),
]


def interruptible(command: Sequence[str]) -> list[str]:
    """The command with Ctrl-C (SIGINT) as a terminal's shell gives it.

    A job in the background of a script, as `make test &` may be, is started with SIGINT ignored, and all its
    children inherit that.
    """
    return ["env", "--default-signal=INT", *command]


def as_user(uid: int, gid: int, command: Sequence[str]) -> list[str]:
    """The command as that user runs it, where the tests are root's; else as the tests' own.

    Popen can set the user itself, but only between fork and exec, and gRPC, whose threads run in the tests' process,
    has handlers that may hang there. Otherwise it begins programs by vfork, which calls none of them.
    """
    if os.geteuid() != 0:
        return list(command)
    return ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", *command]


class Process:
    """A command in a process of its own. `log` has what it prints, over all its starts."""

    def __init__(self, command: list[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.command = command
        self.log = log
        self.cwd = ROOT
        self.env = dict(env or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process that runs now, or ran last."""
        if self._process is None:
            raise RuntimeError(f"{self.command} was never started")
        return self._process

    def runs(self) -> bool:
        """Whether it was started and has not ended; a frozen one runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it; one that runs already is left alone."""
        if self.runs():
            return
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.cwd,
                env=os.environ | self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C ends the tests, and they end this
            )

    def stop(self, timeout: float = 30) -> int:
        """Ask it to end (SIGTERM), wait for that, and return its exit code.

        Raises:
            subprocess.TimeoutExpired: it goes on.
        """
        self.process.terminate()
        return self.process.wait(timeout)

    def kill(self) -> None:
        """SIGKILL: it learns nothing of it."""
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        """SIGSTOP: it does nothing, and its connections stay open."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: it goes on where it was."""
        self.process.send_signal(signal.SIGCONT)

    def wait(self, timeout: float = 60) -> int:
        """Wait until it ends by itself, and return its exit code."""
        return self.process.wait(timeout)

    def output(self) -> str:
        """All that it has printed."""
        return self.log.read_text(errors="replace")


class Program(Process, Rig):
    """`python -m MODULE ARGS` in a process of its own. Leaving its context kills it.

    `folder` is its own, short enough for sockets and removed at the end.
    """

    def __init__(self, module: str, *args: str, env: Mapping[str, str] | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="vmp-", dir="/tmp"))
        super().__init__([sys.executable, "-m", module, *args], self.folder / "log", env)

    def wait_output(self, text: str, timeout: float = 60) -> None:
        """Wait until it has printed `text`.

        Raises:
            TimeoutError: it has not; the message has all that it did print.
        """
        wait_for_change(self.folder, lambda: text in self.output(), self.output, timeout)

    def close(self) -> None:
        """Kill it and remove its folder."""
        if self._process:
            self.kill()
        shutil.rmtree(self.folder)


class Provider(Program):
    """A provider on a unix socket, with a state directory that outlives its starts.

    `start` returns when the provider says SERVING of `service`, so that its hypervisor answers too.
    """

    def __init__(self, name: str, *args: str, env: Mapping[str, str] | None = None) -> None:
        super().__init__(f"providers.{name}", *args, env=env)
        self.address = f"unix://{self.folder}/provider.sock"
        self.command += ["--listen", self.address, "--state-dir", str(self.folder / "state")]

    def start(self, timeout: float = 30) -> None:
        """Start it and wait until it serves.

        Raises:
            RuntimeError: it ended, or does not serve in time; the message has what it printed.
        """
        super().start()
        if not serves(self.address, self.process.pid, timeout):
            raise RuntimeError(f"{self.command} does not serve:\n{self.output()}")


def serves(address: str, pid: int, timeout: float) -> bool:
    """Wait until a provider says SERVING of `service`; whether it does before its process has ended, in time."""
    # A connection of its own: one that is shared with a channel of the test may still lead to a killed predecessor.
    own = [*QUICK, ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(address, options=own) as channel:
        answers = health_pb2_grpc.HealthStub(channel).Watch(  # type: ignore[attr-defined]  # its stubs lack it
            health_pb2.HealthCheckRequest(service=SERVICE), timeout=timeout, wait_for_ready=True
        )
        _at_end_of(pid, answers.cancel)
        with contextlib.suppress(grpc.RpcError):
            return any(answer.status == SERVING for answer in answers)
    return False


@contextlib.contextmanager
def pidfd(pid: int) -> Iterator[int]:
    """A handle of one process, readable when it has ended, that no later process of the same number gets."""
    handle = os.pidfd_open(pid)
    try:
        yield handle
    finally:
        os.close(handle)


def wait_for_end(pid: int, timeout: float = 30) -> None:
    """Wait until a process that is no child of ours has ended; one that is gone already has."""
    with contextlib.suppress(ProcessLookupError), pidfd(pid) as process:
        if not select.select([process], [], [], timeout)[0]:
            raise TimeoutError(f"process {pid} goes on after {timeout} s")


def _at_end_of(pid: int, then: Callable[[], object]) -> None:
    # Opened here and not in the thread: the caller has not yet reaped the process, so the number is its own.
    handle = os.pidfd_open(pid)

    def follow() -> None:
        select.select([handle], [], [])
        os.close(handle)
        then()

    threading.Thread(target=follow, daemon=True).start()
