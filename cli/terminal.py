"""Consoles of rich that take a text for a text: no markup, no emoji codes, no guesses at what is worth a colour."""

from typing import IO, Any

from rich.console import Console


def console(file: IO[str], **options: Any) -> Console:
    """For all that is printed by rich; a VM named `db[/old]` or `:skull:` is called that."""
    return Console(file=file, markup=False, emoji=False, highlight=False, **options)
