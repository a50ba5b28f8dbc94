"""`make run`: four guests boot, four manifests ask for OffGraceful, four verdicts tell how each went down.

Everything is real: guests of a libvirtd of our own (or of the sim, with `--hypervisor sim`), the provider on a
unix socket, the controller on this directory. What it leaves is in `.run/`; nothing keeps running.
"""

import asyncio
import sys

from examples.report import report
from examples.stage import GUESTS, RUN, controller, provider, set_up
from examples.story import all_recorded, follow_shutdowns, tell_forecast, verdict_of
from tests.rigs.process import Program

STATE = RUN / "controller"


def main() -> None:
    """Show it all; exit with 1 if a guest got no verdict."""
    chosen, console = set_up(__doc__)
    with chosen(console) as hypervisor, provider(hypervisor, console) as address:
        hypervisor.boot()
        asyncio.run(tell_forecast(address, console))
        program = Program("controller", "--manifests", "examples", "--state-dir", ".run/controller")
        with controller(program, "--manifests examples", console):
            asyncio.run(follow_shutdowns(address, all_recorded(STATE), console))
        consoles = {name: hypervisor.console(name).splitlines() for name in GUESTS}
    sys.exit(report(RUN, {name: verdict_of(STATE, name) for name in GUESTS}, consoles, console))


if __name__ == "__main__":
    main()
