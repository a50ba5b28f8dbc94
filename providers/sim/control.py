"""Changes a world from outside, as a colleague at the hypervisor's console would, with or without a provider.

python -m providers.sim.control --world WORLD console web
python -m providers.sim.control --world WORLD off web
python -m providers.sim.control --world WORLD set web agent=down 'locked=a backup'
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from common.text import clean
from common.yaml_reader import Fault, load
from providers.core.errors import AmbiguousName, VMNotFound, VmpowerError
from providers.sim.guest import Guest, power_state, printed
from providers.sim.script import GuestScript, SimError, explain, guest_id
from providers.sim.transitions import Transition, crash, pause, power_off, power_on, resume, save, shut_down, suspend
from providers.sim.wakeup import wake
from providers.sim.world import World

TRANSITIONS: dict[str, Transition] = {
    "on": power_on,
    "off": power_off,
    "poweroff": shut_down,
    "crash": crash,
    "pause": pause,
    "suspend": suspend,
    "save": save,
    "resume": resume,
}
"""`off` pulls the plug; `poweroff` is typed inside the guest."""


def console(world: World, name: str, _words: Sequence[str]) -> None:
    for line in printed(_pick(world, name), world.now()):
        print(clean(line))


def show(world: World, name: str, _words: Sequence[str]) -> None:
    """Print all that is kept of it as JSON: calls made, processes, snapshots, moments, script."""
    guest = _pick(world, name)
    state = TypeAdapter(Guest).dump_python(guest, mode="json")
    text = TypeAdapter(dict[str, Any]).dump_json({"power_state": power_state(guest, world.now()), **state}, indent=2)
    print(text.decode())


def rename(world: World, name: str, words: Sequence[str]) -> None:
    """Give it another name: `rename web www`."""
    if len(words) != 1:
        raise SimError("rename takes exactly one new name")
    _do(world, name, lambda guest, _now: replace(guest, name=words[0]))


def change(world: World, name: str, words: Sequence[str]) -> None:
    """Change fields of its script: `set web agent=down`; they are written as in YAML."""
    fields = _fields(words)

    def rewritten(guest: Guest, _now: float) -> Guest:
        script = guest.script.model_dump(exclude_unset=True) | fields
        return replace(guest, script=GuestScript.model_validate(script))

    _do(world, name, rewritten)


def add(world: World, name: str, words: Sequence[str]) -> None:
    """Make a new guest: `add spare power=off`."""
    script = GuestScript.model_validate(_fields(words))
    vm_id = script.id or guest_id(name)
    if world.find(vm_id):
        raise SimError(f"there is a guest with the id {vm_id} already; give the new one another id=")
    world.add(vm_id, script.name or name, script)


def remove(world: World, name: str, _words: Sequence[str]) -> None:
    """Remove it, whether or not it runs."""
    world.remove(_pick(world, name).id)


def hide(world: World, seconds: str, _words: Sequence[str]) -> None:
    """Cut all connections and let nothing answer for so many seconds: `hide 5`."""
    world.hide(float(seconds))
    world.listener("")


VERBS: dict[str, Callable[[World, str, Sequence[str]], None]] = {
    "console": console,
    "show": show,
    "rename": rename,
    "set": change,
    "add": add,
    "remove": remove,
    "hide": hide,
}


def main(args: list[str] | None = None) -> None:
    """Do one thing; exit with 1 and a sentence if it cannot be done."""
    options = _parser().parse_args(args)
    try:
        _control(options.world, options.verb, options.name, options.words)
    except ValidationError as error:
        sys.exit("\n".join(explain("control: ", problem) for problem in error.errors()))
    except (SimError, VmpowerError, Fault, ValueError) as error:
        sys.exit(f"control: {error}")


def _control(path: Path, verb: str, name: str, words: Sequence[str]) -> None:
    if not path.exists():
        raise SimError(f"{path}: there is no such world; a provider makes it at its first start")
    world = World(path)
    world.listener = lambda vm_id: wake(path, vm_id)
    try:
        if verb in TRANSITIONS:
            _do(world, name, TRANSITIONS[verb])
        else:
            VERBS[verb](world, name, words)
    finally:
        world.close()


def _do(world: World, name: str, transition: Transition) -> None:
    world.change(_pick(world, name).id, transition)


def _pick(world: World, name: str) -> Guest:
    found = world.named(name)
    if not found:
        raise VMNotFound(f"no guest is called {name}")
    if len(found) > 1:
        raise AmbiguousName(f"several guests are called {name}; name one of {[guest.id for guest in found]}")
    return found[0]


def _fields(words: Sequence[str]) -> dict[str, Any]:
    pairs = [word.partition("=") for word in words]
    return {key: load(value) if value else "" for key, _, value in pairs}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="providers.sim.control", description="Change a sim's world from outside.")
    parser.add_argument("--world", type=Path, required=True, help="the world's file")
    parser.add_argument("verb", choices=[*TRANSITIONS, *VERBS])
    parser.add_argument("name", help="the guest's name or id; for hide: seconds")
    parser.add_argument("words", nargs="*", help="for rename: the new name; for set and add: field=value")
    return parser


if __name__ == "__main__":
    main()
