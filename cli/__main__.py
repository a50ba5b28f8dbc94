"""`python -m cli`: the `vmpower` command."""

import os

# What gRPC logs, the command says in a sentence.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # noqa: TID251 - a library's variable, set for it

from cli.app import app, main
from cli.commands import decide, doctor, hosted, plan, plan_wait, read, start  # noqa: F401 - importing them registers their commands

__all__ = ["app", "main"]

if __name__ == "__main__":
    main()
