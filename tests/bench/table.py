"""What a bench found: a table for people, JSON for programs, and the words both share."""

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.rigs.process import ROOT

RUN = ROOT / ".run" / "bench"
Row = Mapping[str, str | int | float]


@dataclass(frozen=True)
class Result:
    """Rows of one table; a column that a row lacks stays empty there. Units stand in the columns' names."""

    title: str
    rows: Sequence[Row]
    notes: Sequence[str] = ()


def spread(values: Sequence[float], of: str = "") -> dict[str, float]:
    """Median, 95th percentile and maximum in milliseconds, of seconds."""
    parts = statistics.quantiles(values, n=100, method="inclusive")
    found = {"p50 ms": parts[49], "p95 ms": parts[94], "max ms": max(values)}
    return {f"{of} {name}".strip(): round(value * 1000, 3) for name, value in found.items()}


def show(name: str, result: Result) -> None:
    """Print the table."""
    # A table in a file or a pipe is as wide as it needs to be.
    console = Console(width=None if os.isatty(1) else 200, highlight=False)
    columns = dict.fromkeys(column for row in result.rows for column in row)
    table = Table(title=f"{name}: {result.title}", title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left")
    for row in result.rows:
        table.add_row(*(_cell(row.get(column, "")) for column in columns))
    console.print(table)
    for note in result.notes:
        console.print(note)
    console.print()


def store(name: str, result: Result) -> Path:
    """Write `.run/bench/NAME.json`."""
    RUN.mkdir(parents=True, exist_ok=True)
    path = RUN / f"{name}.json"
    told = {"bench": name, "time": datetime.now(UTC).isoformat(timespec="seconds"), "machine": _machine()}
    path.write_text(json.dumps(told | asdict(result), indent=2) + "\n")
    return path


def _cell(value: str | int | float) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return f"{value:,}" if isinstance(value, int) else value


def _machine() -> dict[str, str | int | float | bool]:
    return {
        "cores": os.cpu_count() or 0,
        "kvm": Path("/dev/kvm").exists(),
        "load_average": os.getloadavg()[0],
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
