"""`python -m tests.fuzz [--requests N] [--seed N]`: random requests to a provider; 1 if one is answered wrongly."""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.provider import fuzz, harm, provider


def main() -> int:
    """0 if each request was answered as the contract says, and nothing else came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000, help="how many")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 1_000_000, help="of the requests")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, provider(Path(folder)) as running:
        began = time.monotonic()
        found = asyncio.run(fuzz(running.address, options.requests, options.seed))
        wrong = found.wrong + harm(running, Path(folder))
    codes = ", ".join(f"{code} {count}" for code, count in found.codes.most_common())
    print(f"{options.requests} requests, seed {options.seed}, {time.monotonic() - began:.0f} s: {codes}")
    print("\n".join(wrong) or "each was answered as the contract says")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
