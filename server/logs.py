"""How a server's processes log: lines for people, and of a fault the traceback alone."""

import structlog


def configure() -> None:
    """Leaves values out of tracebacks.

    By default structlog shows the variables of every frame, among which are keys and images.
    """
    *processors, _ = structlog.get_config()["processors"]
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*processors, plain])
