"""Logs: one JSON object a line on stderr, also of what libraries have to say."""

import logging
import sys

import structlog

_traceback = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)  # a manifest may hold a token
_OURS: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    structlog.processors.ExceptionRenderer(_traceback),
    structlog.processors.JSONRenderer(default=str),
]
_LIBRARIES: list[structlog.typing.Processor] = [
    structlog.stdlib.ExtraAdder(),
    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
    *_OURS,
]


def configure(level: str) -> None:
    """From now on; libraries are heard from `warning` upwards."""
    structlog.configure(
        processors=_OURS,
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=_LIBRARIES))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
