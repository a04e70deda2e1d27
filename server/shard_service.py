"""The gRPC servicer of the service Shards."""

# ruff: noqa: N802 (gRPC names the methods)

from imagelink.v1 import placement_pb2

from indexing.errors import FieldInvalid
from server import conversions as convert
from server.audit import audited
from server.auth import OPERATE, Caller
from server.placement import PlacedShard, Placer, PublisherPlacement
from server.rpc import rpc

# The database's integers end there.
MAX_SHARD = 2**31 - 1


class ShardService:
    """The methods of the service Shards."""

    def __init__(self, placer: Placer) -> None:
        self._placer = placer

    @rpc(OPERATE)
    async def ListShards(
        self, request: placement_pb2.ListShardsRequest, caller: Caller
    ) -> placement_pb2.ListShardsResponse:
        """Lists the shards."""
        shards = await self._placer.list_shards()
        return placement_pb2.ListShardsResponse(shards=map(shard_message, shards))

    @rpc(OPERATE)
    @audited
    async def AddShard(
        self, request: placement_pb2.AddShardRequest, caller: Caller
    ) -> placement_pb2.Shard:
        """Adds a shard."""
        return shard_message(await self._placer.add_shard())

    @rpc(OPERATE)
    @audited
    async def DrainShard(
        self, request: placement_pb2.DrainShardRequest, caller: Caller
    ) -> placement_pb2.Shard:
        """Drains a shard."""
        shard = parsed_shard("name", request.name)
        return shard_message(await self._placer.drain_shard(shard))

    @rpc(OPERATE)
    @audited
    async def UndrainShard(
        self, request: placement_pb2.UndrainShardRequest, caller: Caller
    ) -> placement_pb2.Shard:
        """Takes back a drain."""
        shard = parsed_shard("name", request.name)
        return shard_message(await self._placer.undrain_shard(shard))

    @rpc(OPERATE)
    async def GetPlacement(
        self, request: placement_pb2.GetPlacementRequest, caller: Caller
    ) -> placement_pb2.Placement:
        """Says where a publisher's gallery lives."""
        publisher = parsed_placement("name", request.name)
        return placement_message(await self._placer.locate(publisher))

    @rpc(OPERATE)
    @audited
    async def PinPublisher(
        self, request: placement_pb2.PinPublisherRequest, caller: Caller
    ) -> placement_pb2.PinPublisherResponse:
        """Pins a publisher."""
        publisher = parsed_placement("name", request.name)
        shard = parsed_shard("shard", request.shard)
        pinned = await self._placer.pin(publisher, shard)
        return placement_pb2.PinPublisherResponse(placement=placement_message(pinned))

    @rpc(OPERATE)
    @audited
    async def UnpinPublisher(
        self, request: placement_pb2.UnpinPublisherRequest, caller: Caller
    ) -> placement_pb2.UnpinPublisherResponse:
        """Takes back a pin."""
        publisher = parsed_placement("name", request.name)
        unpinned = await self._placer.unpin(publisher)
        return placement_pb2.UnpinPublisherResponse(placement=placement_message(unpinned))


def shard_name(number: int) -> str:
    """``shards/{number}``."""
    return f"shards/{number}"


def parsed_shard(field: str, name: str) -> int:
    """The number in the name of a shard. Raises FieldInvalid."""
    (number,) = convert.parsed_name(field, name, "shards")
    if not number.isdecimal() or int(number) > MAX_SHARD:
        raise FieldInvalid(field=field, problem=f"'{name}' is not of the form shards/NUMBER.")
    return int(number)


def parsed_placement(field: str, name: str) -> str:
    """The publisher in the name of its placement. Raises FieldInvalid."""
    parent, _, last = name.rpartition("/")
    if last != "placement":
        problem = f"'{name}' is not of the form publishers/ID/placement."
        raise FieldInvalid(field=field, problem=problem)
    (publisher,) = convert.parsed_name(field, parent, "publishers")
    return publisher


def shard_message(shard: PlacedShard) -> placement_pb2.Shard:
    """A shard, and what is placed on it."""
    return placement_pb2.Shard(
        name=shard_name(shard.status.number),
        state=placement_pb2.ShardState.Value(f"SHARD_STATE_{shard.status.state.name}"),
        state_time=convert.timestamp(shard.status.state_time),
        publisher_count=shard.load.publishers,
        image_count=shard.load.images,
    )


def placement_message(placement: PublisherPlacement) -> placement_pb2.Placement:
    """Where a publisher's gallery lives."""
    return placement_pb2.Placement(
        name=f"{convert.publisher_name(placement.publisher)}/placement",
        pinned=placement.pinned,
        parts=[
            placement_pb2.GalleryPart(
                shard=shard_name(location.shard),
                part_number=location.part.number,
                part_count=location.part.count,
            )
            for location in placement.locations
        ],
        image_count=placement.images,
    )
