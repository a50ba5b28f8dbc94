"""The end of `make run`: a table of verdicts, the guests' last words, and the same as JSON lines."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

Verdict = Mapping[str, Any]


def report(
    run: Path, verdicts: Mapping[str, Verdict | None], consoles: Mapping[str, Sequence[str]], console: Console
) -> int:
    """Print and write it all; 0 if each guest has a verdict."""
    table = Table(
        "VM", "OUTCOME", "REASON", "SIGNAL", "TIMEOUT", "ELAPSED", "HOOKS", box=box.SIMPLE_HEAD, pad_edge=False
    )
    lines = [_line(name, verdict) for name, verdict in verdicts.items() if verdict]
    for line in lines:
        table.add_row(*_cells(line))
    console.print(table)
    console.print("\nthe guests' own last words, on their consoles:")
    for name in verdicts:
        for said in [text for text in consoles[name] if text.startswith("guest ")][-3:]:
            console.print(f"  {said}")
        (run / f"{name}.console.log").write_text("\n".join(consoles[name]) + "\n")
    (run / "verdicts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    console.print("\nthe same as JSON lines: .run/verdicts.jsonl")
    return 0 if len(lines) == len(verdicts) else 1


def _line(name: str, verdict: Verdict) -> dict[str, Any]:
    return {
        "vm": name,
        "outcome": verdict["outcome"],
        "reason": verdict.get("reason", ""),
        "signal": verdict.get("signal", ""),
        "timeoutSeconds": verdict.get("timeoutSeconds"),
        "elapsedSeconds": round(verdict["durationSeconds"], 3),
        "hooks": list(verdict.get("hooks", ())),
    }


def _cells(line: Mapping[str, Any]) -> list[str]:
    colour = "green" if line["outcome"] == "GRACEFUL" else "red"
    hooks = "; ".join(f"{hook['name']} {hook['state']}, exit code {hook.get('exitCode', 0)}" for hook in line["hooks"])
    return [
        line["vm"],
        f"[{colour}]{line['outcome']}[/]",
        line["reason"],
        line["signal"],
        f"{line['timeoutSeconds']:g} s",
        f"{line['elapsedSeconds']:.1f} s",
        hooks,
    ]
