"""Pictures for the demo and the benchmarks, drawn here so that their rights are clean."""

from benchmarks.artwork.collection import (
    KINDS,
    Artwork,
    Kind,
    capacity,
    draw_collection,
    draw_publishers,
    draw_strangers,
)

__all__ = [
    "KINDS",
    "Artwork",
    "Kind",
    "capacity",
    "draw_collection",
    "draw_publishers",
    "draw_strangers",
]
