"""The galleries of the publishers placed on one shard."""

from collections.abc import Sequence

from indexing.bundle import Bundle
from indexing.gallery_index import GalleryIndex
from indexing.search import Query, SearchResult
from indexing.segment import IndexedReference


class Shard:
    """The galleries, or parts of such, that are loaded here, all under one model version."""

    def __init__(self, bundle: Bundle) -> None:
        self.model_version = bundle.version
        self._quantizers = {
            channel: codebook.quantizers() for channel, codebook in bundle.codebooks.items()
        }
        self._galleries: dict[str, GalleryIndex] = {}

    def empty_gallery(self) -> GalleryIndex:
        """A gallery of this model version that is nobody's yet."""
        return GalleryIndex(self.model_version, self._quantizers)

    def replace(self, publisher: str, version: int, references: Sequence[IndexedReference]) -> None:
        """Sets a publisher's whole gallery."""
        gallery = self.empty_gallery()
        gallery.apply(version, references, ())
        self._galleries[publisher] = gallery

    def apply(
        self,
        publisher: str,
        version: int,
        changed: Sequence[IndexedReference],
        removed: Sequence[str],
    ) -> None:
        """Brings a publisher's gallery, which must be here, from its version to a later one."""
        self._galleries[publisher].apply(version, changed, removed)

    def search(self, query: Query) -> SearchResult:
        """Searches the query's publisher's gallery, which must be loaded."""
        return self._galleries[query.publisher].search([query])[0]
