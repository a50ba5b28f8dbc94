"""`python -m controller --manifests DIR --state-dir DIR`: keep VMs as their manifests want them."""

import asyncio
import logging
import signal
import sys
from contextlib import suppress

import structlog

from controller.client import GrpcClient
from controller.config import Settings
from controller.runner import Runner
from controller.source import SourceError
from controller.sources.directory import DirectorySource

log = structlog.get_logger()
_traceback = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)  # a manifest may hold a token


def main() -> None:
    """Run until SIGTERM or SIGINT; operations that are under way go on at their providers."""
    settings = Settings.load("controller")
    _configure_logs(settings.log_level)
    try:
        asyncio.run(_run(settings))
    except SourceError as error:
        sys.exit(f"controller: {error}")


async def _run(settings: Settings) -> None:
    runner = Runner(DirectorySource(settings.manifests, settings.state_dir), GrpcClient, settings.workers)
    running = asyncio.create_task(runner.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    log.info("started", manifests=str(settings.manifests), state_dir=str(settings.state_dir))
    with suppress(asyncio.CancelledError):
        await running
    log.info("stopped")


def _configure_logs(level: str) -> None:
    """One JSON object a line on stderr."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.ExceptionRenderer(_traceback),
            structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


if __name__ == "__main__":
    main()
