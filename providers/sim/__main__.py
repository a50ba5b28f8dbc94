"""`python -m providers.sim --listen ADDR [--script FILE] [--world FILE]`."""

import sys

from common.closing import closed_on_failure
from providers.server.server import run
from providers.sim.adapter import SimAdapter
from providers.sim.config import SimSettings
from providers.sim.script import SimError, default_script, load_script
from providers.sim.world import World


def make_adapter(settings: SimSettings) -> SimAdapter:
    """Open the world and let the script's guests in.

    Raises:
        SimError: the script or the world cannot be used.
    """
    script = load_script(settings.script) if settings.script else default_script()
    path = settings.world or settings.state_dir / "world.db"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SimError(f"The world {path} cannot be made ({error}); choose another --world or --state-dir.") from error
    with closed_on_failure(World(path)) as world:
        return SimAdapter(world, script, settings.bounds)


def main() -> None:
    try:
        run(SimSettings.load("providers.sim"), make_adapter)
    except SimError as error:
        sys.exit(f"providers.sim: {error}")


if __name__ == "__main__":
    main()
