"""``python -m server``: everything on one machine; with a command's name first, that command."""

import sys

from indexing.errors import DatabaseUnavailable, ImageLinkError
from server.app import run
from server.logs import configure as configure_logs
from server.maintenance import COMMANDS
from server.settings import Settings, given


def main() -> None:
    """Serves, or does what the first word says, with the settings of command line, environment, file."""
    configure_logs()
    try:
        if len(sys.argv) > 1 and sys.argv[1] in COMMANDS:
            sys.exit(COMMANDS[sys.argv[1]](sys.argv[2:]))
        run(given(Settings))
    except ImageLinkError as error:
        sys.exit(f"error: {error}{_why(error)}")


def _why(error: ImageLinkError) -> str:
    """What PostgreSQL said, in one line."""
    if not isinstance(error, DatabaseUnavailable) or error.__cause__ is None:
        return ""
    return f" ({str(error.__cause__).strip().splitlines()[0]})"


if __name__ == "__main__":
    main()
