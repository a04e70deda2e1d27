"""``python -m server``: everything on one machine."""

import sys

from indexing.errors import ImageLinkError
from server.app import run
from server.logs import configure as configure_logs
from server.settings import Settings, given


def main() -> None:
    """Serves with the settings of the command line, the environment and the file."""
    configure_logs()
    try:
        run(given(Settings))
    except ImageLinkError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
