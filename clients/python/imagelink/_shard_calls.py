"""The calls of the service Shards: for each, its request and the conversion of its answer."""

from datetime import UTC
from typing import Any

from imagelink._calls import Call, Method, publisher_name
from imagelink.placement import GalleryPart, Placement, Shard, ShardState
from imagelink.v1 import placement_pb2


def _shard(message: placement_pb2.Shard) -> Shard:
    return Shard(
        name=message.name,
        state=_shard_state(message.state),
        state_time=message.state_time.ToDatetime(tzinfo=UTC),
        publisher_count=message.publisher_count,
        image_count=message.image_count,
    )


def _shard_state(value: int) -> ShardState:
    names = (name for name, number in placement_pb2.ShardState.items() if number == value)
    name = next(names, "").removeprefix("SHARD_STATE_")
    return ShardState.__members__.get(name, ShardState.UNKNOWN)


def _shards(message: placement_pb2.ListShardsResponse) -> list[Shard]:
    return [_shard(item) for item in message.shards]


def _placement(message: placement_pb2.Placement) -> Placement:
    return Placement(
        name=message.name,
        pinned=message.pinned,
        parts=tuple(
            GalleryPart(part.shard, part.part_number, part.part_count) for part in message.parts
        ),
        image_count=message.image_count,
    )


def _moved(
    message: placement_pb2.PinPublisherResponse | placement_pb2.UnpinPublisherResponse,
) -> Placement:
    return _placement(message.placement)


LIST_SHARDS = Method(
    "Shards", "ListShards", placement_pb2.ListShardsResponse, _shards, retried=True
)
ADD_SHARD = Method("Shards", "AddShard", placement_pb2.Shard, _shard)
DRAIN_SHARD = Method("Shards", "DrainShard", placement_pb2.Shard, _shard, retried=True)
UNDRAIN_SHARD = Method("Shards", "UndrainShard", placement_pb2.Shard, _shard, retried=True)
GET_PLACEMENT = Method("Shards", "GetPlacement", placement_pb2.Placement, _placement, retried=True)
PIN_PUBLISHER = Method(
    "Shards", "PinPublisher", placement_pb2.PinPublisherResponse, _moved, retried=True
)
UNPIN_PUBLISHER = Method(
    "Shards", "UnpinPublisher", placement_pb2.UnpinPublisherResponse, _moved, retried=True
)

METHODS: tuple[Method[Any, Any], ...] = (
    LIST_SHARDS,
    ADD_SHARD,
    DRAIN_SHARD,
    UNDRAIN_SHARD,
    GET_PLACEMENT,
    PIN_PUBLISHER,
    UNPIN_PUBLISHER,
)


def list_shards() -> Call[list[Shard]]:
    """Lists the shards."""
    return Call(LIST_SHARDS, placement_pb2.ListShardsRequest())


def add_shard() -> Call[Shard]:
    """Adds a shard."""
    return Call(ADD_SHARD, placement_pb2.AddShardRequest())


def drain_shard(shard: int | str) -> Call[Shard]:
    """Drains a shard."""
    return Call(DRAIN_SHARD, placement_pb2.DrainShardRequest(name=shard_name(shard)))


def undrain_shard(shard: int | str) -> Call[Shard]:
    """Takes back that a shard was drained."""
    return Call(UNDRAIN_SHARD, placement_pb2.UndrainShardRequest(name=shard_name(shard)))


def get_placement(publisher: str) -> Call[Placement]:
    """Gets where a publisher's gallery lives."""
    request = placement_pb2.GetPlacementRequest(name=placement_name(publisher))
    return Call(GET_PLACEMENT, request)


def pin_publisher(publisher: str, shard: int | str) -> Call[Placement]:
    """Puts a publisher's gallery on a shard."""
    request = placement_pb2.PinPublisherRequest(
        name=placement_name(publisher), shard=shard_name(shard)
    )
    return Call(PIN_PUBLISHER, request)


def unpin_publisher(publisher: str) -> Call[Placement]:
    """Leaves it to the server again where a publisher's gallery lives."""
    request = placement_pb2.UnpinPublisherRequest(name=placement_name(publisher))
    return Call(UNPIN_PUBLISHER, request)


def shard_name(shard: int | str) -> str:
    """The resource name of a shard, given it or the number."""
    text = str(shard)
    return text if "/" in text else f"shards/{text}"


def placement_name(publisher: str) -> str:
    """The resource name of a publisher's placement, given it, the publisher's or the bare id."""
    return (
        publisher if publisher.endswith("/placement") else f"{publisher_name(publisher)}/placement"
    )
