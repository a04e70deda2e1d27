"""What the client answers about archives: plain, immutable values without protobuf."""

from collections.abc import Mapping
from dataclasses import dataclass

from imagelink.errors import ImageLinkError


@dataclass(frozen=True)
class ImportResult:
    """What became of an archive; true where nothing of it failed."""

    imported_count: int
    kept_count: int
    """References that were left as they are, as their ids were registered already."""
    failures: Mapping[str, ImageLinkError]
    """By resource name, what could not be imported under the server's model, and why."""
    gallery_version: int
    """The first that has all of it."""

    def __bool__(self) -> bool:
        return not self.failures
