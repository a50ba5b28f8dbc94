"""Programs in the guest, by the QEMU guest agent (https://qemu.org/docs/master/interop/qemu-ga-ref.html).

The agent runs as the guest's administrator and asks for no login. It keeps up to 16 MiB of output and
returns it in one answer, of which libvirt carries some 3 MB.
"""

import base64
import json
import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import libvirt
import libvirt_qemu

from providers.core.adapter import GuestExit
from providers.core.errors import CommandFailed, ProgramMissing, VMNotFound
from providers.libvirt.domains import find, require_agent
from providers.shared import guest_agent

UNKNOWN_PROGRAM = r"Invalid parameter 'pid'|PID \S+ does not exist"
"""What older and newer agents say of a program that they do not know (qga/commands.c)."""
LOST = "The program ended, but its exit code is lost: {why}; the hook's owner lets it print less."
FORGOTTEN = (
    "its guest agent has forgotten it, for the agent was started again, or took more than 5 s to tell of the end, "
    "as with more than libvirt carries (3 MB)"
)
NO_REPLY_SECONDS = 1
"""guest-shutdown has no reply when it succeeds; a refusal comes at once."""


def shut_down(connection: Any, vm_id: str) -> None:
    """Ask the guest to power off, and return when its agent has the request, not when the guest is gone.

    libvirt notes in the domain's log that a command was sent past it, and has one error ("internal error") for
    every failure. So the agent is pinged before and after: an agent that still answers has refused, one that does
    not is going down with its guest.

    Raises:
        Locked: it has left.
    """
    try:
        _ask(connection, vm_id, "guest-ping", {})
    except libvirt.libvirtError as error:
        require_agent(find(connection, vm_id), error)
        raise
    try:
        _ask(connection, vm_id, "guest-shutdown", {"mode": "powerdown"}, NO_REPLY_SECONDS)
    except libvirt.libvirtError as error:
        obeys = error.get_error_code() == libvirt.VIR_ERR_AGENT_UNRESPONSIVE
        if not obeys and _answers(connection, vm_id):
            raise


def _answers(connection: Any, vm_id: str) -> bool:
    try:
        _ask(connection, vm_id, "guest-ping", {})
    except (libvirt.libvirtError, VMNotFound):
        return False
    return True


def start(connection: Any, vm_id: str, command: Sequence[str]) -> int:
    """Begin a program; returns its process number.

    Raises:
        ProgramMissing
    """
    path, *args = command
    try:
        reply = _ask(connection, vm_id, "guest-exec", {"path": path, "arg": args, "capture-output": True})
    except libvirt.libvirtError as error:
        if re.search(guest_agent.NOT_STARTED, str(error)):  # to libvirt an internal error like any other
            raise ProgramMissing(guest_agent.MISSING.format(said=error)) from error
        raise
    return int(reply["pid"])


def status(connection: Any, vm_id: str, pid: int) -> GuestExit | None:
    """How a program ended; None while it runs, or while that cannot be told, for its agent does not answer in time.

    Raises:
        CommandFailed: how it ended is lost.
    """
    try:
        return exit_of(_ask(connection, vm_id, "guest-exec-status", {"pid": pid}))
    except libvirt.libvirtError as error:
        if not connection.isAlive():
            raise
        if error.get_error_code() == libvirt.VIR_ERR_AGENT_UNRESPONSIVE:
            return None
        if error.get_error_code() == libvirt.VIR_ERR_RPC:
            raise CommandFailed(LOST.format(why="it printed more than libvirt carries (3 MB)")) from error
        if re.search(UNKNOWN_PROGRAM, str(error)):
            raise CommandFailed(LOST.format(why=FORGOTTEN)) from error
        raise


exit_of = partial(guest_agent.exit_of, decode=base64.b64decode)
"""Reads a guest-exec-status reply, whose bytes are in Base64."""


def _ask(
    connection: Any,
    vm_id: str,
    command: str,
    arguments: dict[str, Any],
    timeout: int = libvirt_qemu.VIR_DOMAIN_QEMU_AGENT_COMMAND_DEFAULT,
) -> dict[str, Any]:
    request = json.dumps({"execute": command, "arguments": arguments})
    reply = libvirt_qemu.qemuAgentCommand(find(connection, vm_id), request, timeout, 0)
    return dict(json.loads(reply)["return"])
