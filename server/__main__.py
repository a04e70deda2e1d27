"""``python -m server``: everything on one machine."""

import sys

from pydantic import ValidationError
from pydantic_settings import CliApp

from indexing.errors import ImageLinkError
from server.app import run
from server.settings import Settings


def main() -> None:
    """Serves with the settings of the command line, the environment and the file."""
    try:
        run(_settings())
    except ImageLinkError as error:
        sys.exit(f"error: {error}")


def _settings() -> Settings:
    try:
        return CliApp.run(Settings)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        sys.exit("error: wrong settings:\n  " + "\n  ".join(lines))


if __name__ == "__main__":
    main()
