"""How a server's processes log: lines for people, and of a fault the traceback alone."""

import sys

import structlog


def configure() -> None:
    """Leaves values out of tracebacks, and colours out of files.

    By default structlog shows the variables of every frame, among which are keys and images.
    """
    *processors, _ = structlog.get_config()["processors"]
    plain = structlog.dev.ConsoleRenderer(
        colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    structlog.configure(processors=[*processors, plain])
