"""What the client answers about shards: plain, immutable values without protobuf."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ShardState(StrEnum):
    """What a shard is there for."""

    JOINING = "joining"
    """It takes no publisher yet: it starts, and loads the galleries that will move to it."""
    ACTIVE = "active"
    """It has publishers."""
    DRAINING = "draining"
    """It has its publishers until their galleries are loaded elsewhere."""
    DRAINED = "drained"
    """It has no publisher."""
    UNKNOWN = "unknown"
    """The server is newer than this client and has a state which it does not know."""


@dataclass(frozen=True)
class Shard:
    """A process, with its replicas, that holds galleries in memory."""

    name: str
    """Resource name: ``shards/{number}``."""
    state: ShardState
    state_time: datetime
    """Since when it is in this state."""
    publisher_count: int
    """Publishers placed on it, those with only a part of their gallery here too."""
    image_count: int
    """Images placed on it; a gallery in parts counts as spread evenly."""

    @property
    def number(self) -> int:
        """The last part of the resource name."""
        return int(self.name.rpartition("/")[2])


@dataclass(frozen=True)
class GalleryPart:
    """A part of a publisher's gallery, and the shard that it lives on."""

    shard: str
    """Resource name: ``shards/{number}``."""
    part_number: int
    part_count: int
    """1 for a gallery that is whole."""


@dataclass(frozen=True)
class Placement:
    """Where a publisher's gallery lives."""

    name: str
    """Resource name: ``publishers/{publisher}/placement``."""
    pinned: bool
    """Whether the operator chose the shard."""
    parts: tuple[GalleryPart, ...]
    """One where the gallery is whole."""
    image_count: int
