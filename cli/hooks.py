"""Hooks and guest credentials as people give them: options for the simple cases, YAML files for the rest."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from google.protobuf.json_format import ParseDict, ParseError

from cli import files
from cli.errors import usage
from cli.options import word
from client.words import value
from common import durations
from protos.power.v1 import power_pb2 as pb


@dataclass(frozen=True)
class HookOptions:
    """What the hook options of one command say. `timeout` and `failure` apply to all but the file's hooks."""

    execs: Sequence[str] | None
    urls: Sequence[str] | None
    snapshots: Sequence[str] | None
    file: Path | None
    timeout: timedelta | None = None
    failure: str = ""


def gather(given: HookOptions) -> list[pb.Hook]:
    """All hooks of one request in the order they run: commands, URLs, snapshots, then those of the file.

    Raises:
        Failure: a command cannot be split into words, or the file holds no hooks.
    """
    policy = word(pb.FailurePolicy, given.failure, "--hook-failure") if given.failure else None
    hooks = [pb.Hook(exec=_exec(line)) for line in given.execs or ()]
    hooks += [pb.Hook(http_get=pb.HttpGetHook(url=url)) for url in given.urls or ()]
    hooks += [pb.Hook(snapshot=pb.SnapshotHook(name=name)) for name in given.snapshots or ()]
    for hook in hooks:
        hook.failure_policy = policy or pb.FAILURE_POLICY_UNSPECIFIED
        if given.timeout is not None:
            hook.timeout.FromTimedelta(given.timeout)
    return hooks + (_from_file(given.file) if given.file else [])


def probe(exec_: str | None, port: int | None, timeout: timedelta | None) -> pb.Probe | None:
    """How it is known that a VM that was started does its work; None: nothing is said of that.

    Raises:
        Failure: both are given, neither is that needs a timeout, or the command cannot be split into words.
    """
    match exec_, port:
        case None, None if timeout is None:
            return None
        case None, int():
            asked = pb.Probe(tcp=pb.TcpProbe(port=port))
        case str(), None:
            asked = pb.Probe(exec=_exec(exec_))
        case _:
            raise usage("Give --ready-exec or --ready-tcp, one of them, and --ready-timeout with it alone.")
    if timeout is not None:
        asked.timeout.FromTimedelta(timeout)
    return asked


def credentials(file: Path) -> pb.GuestCredentials:
    """A login in the guest from a YAML file with `username` and `password`.

    Raises:
        Failure: it is not such a file. The message holds nothing of its contents.
    """
    data = files.read(file, as_written=True)
    login = data if isinstance(data, dict) else {}
    if set(login) != {"username", "password"} or not all(isinstance(text, str) for text in login.values()):
        raise usage(f"{file} must hold exactly `username` and `password`, both texts.")
    return pb.GuestCredentials(**login)


def _exec(line: str) -> pb.ExecHook:
    try:
        return pb.ExecHook(command=shlex.split(line))
    except ValueError as error:
        raise usage(f"The command {line!r} cannot be split into words: {error}.") from None


def _from_file(file: Path) -> list[pb.Hook]:
    data = files.read(file)
    entries = data if isinstance(data, list) else [data]
    return [_hook(entry, f"{file}, hook {place}") for place, entry in enumerate(entries, 1)]


def _hook(entry: Any, where: str) -> pb.Hook:
    if not isinstance(entry, dict):
        raise usage(f"{where} is not a mapping with exec, httpGet or snapshot.")
    try:
        return ParseDict(_proto_json(entry), pb.Hook())
    except (ParseError, ValueError, OverflowError) as error:
        raise usage(f"{where}: {error}") from None


def _proto_json(entry: dict[str, Any]) -> dict[str, Any]:
    """Rewrites what people write differently from proto JSON: Go durations and short enum names."""
    entry = dict(entry)
    if isinstance(length := entry.get("timeout"), str):
        entry["timeout"] = f"{durations.parse(length) / timedelta(seconds=1):.9f}s"
    for key in ("failurePolicy", "failure_policy"):
        if isinstance(policy := entry.get(key), str):
            entry[key] = value(pb.FailurePolicy, policy)
    return entry
