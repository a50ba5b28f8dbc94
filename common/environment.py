"""Environment variables: read here and nowhere else."""

import os


def variable(name: str) -> str:
    """The variable's value; "" where it is not set. One that is empty counts as not set, for `NAME=` in a unit and
    `${NAME:-}` in a compose file mean that nothing was chosen."""
    return os.environ.get(name, "")  # noqa: TID251 - this is the place
