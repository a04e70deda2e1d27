"""Shards and placements of the client, against a small real gRPC server."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from imagelink import (
    AsyncClient,
    Client,
    FailedPrecondition,
    GalleryPart,
    Placement,
    Shard,
    ShardState,
    Unavailable,
)
from imagelink.v1 import placement_pb2, placement_pb2_grpc

from tests.unit.fake_servers import served
from tests.unit.test_client import CODES, KEY, Server, info, lines, refuse, run

SINCE = datetime(2026, 11, 25, 12, 30, tzinfo=UTC)
IN_PARTS = [("shards/0", 0), ("shards/2", 1)]


class ShardServer(Server, placement_pb2_grpc.ShardsServicer):
    """Three shards, of which the last cannot be drained; publisher ``large`` is in two parts."""

    def ListShards(self, request: Any, context: Any) -> Any:
        self.receive("ListShards", request, context)
        shards = [a_shard("shards/0", 2), a_shard("shards/1", 4), a_shard("shards/2", 99)]
        return placement_pb2.ListShardsResponse(shards=shards)

    def AddShard(self, request: Any, context: Any) -> Any:
        self.receive("AddShard", request, context)
        return a_shard("shards/3", placement_pb2.SHARD_STATE_JOINING)

    def DrainShard(self, request: Any, context: Any) -> Any:
        self.receive("DrainShard", request, context)
        if request.name == "shards/2":
            refuse(context, CODES.FAILED_PRECONDITION, "It is the last.", info("LAST_SHARD"))
        return a_shard(request.name, placement_pb2.SHARD_STATE_DRAINING)

    def UndrainShard(self, request: Any, context: Any) -> Any:
        self.receive("UndrainShard", request, context)
        return a_shard(request.name, placement_pb2.SHARD_STATE_ACTIVE)

    def GetPlacement(self, request: Any, context: Any) -> Any:
        self.receive("GetPlacement", request, context)
        parts = [
            placement_pb2.GalleryPart(shard=shard, part_number=number, part_count=2)
            for shard, number in IN_PARTS
        ]
        return placement_pb2.Placement(name=request.name, parts=parts, image_count=250_000)

    def PinPublisher(self, request: Any, context: Any) -> Any:
        self.receive("PinPublisher", request, context)
        part = placement_pb2.GalleryPart(shard=request.shard, part_count=1)
        pinned = placement_pb2.Placement(name=request.name, pinned=True, parts=[part])
        return placement_pb2.PinPublisherResponse(placement=pinned)

    def UnpinPublisher(self, request: Any, context: Any) -> Any:
        self.receive("UnpinPublisher", request, context)
        part = placement_pb2.GalleryPart(shard="shards/1", part_count=1)
        unpinned = placement_pb2.Placement(name=request.name, parts=[part])
        return placement_pb2.UnpinPublisherResponse(placement=unpinned)


def a_shard(name: str, state: Any) -> placement_pb2.Shard:
    since = Timestamp()
    since.FromDatetime(SINCE)
    return placement_pb2.Shard(
        name=name, state=state, state_time=since, publisher_count=12, image_count=3400
    )


@pytest.fixture
def server() -> Iterator[ShardServer]:
    with served(
        ShardServer(),
        placement_pb2_grpc.add_ShardsServicer_to_server,
    ) as servicer:
        yield servicer


@pytest.fixture
def client(server: ShardServer) -> Iterator[Client]:
    with Client(server.target, key=KEY) as client:
        yield client


def test_shards_are_listed(client: Client) -> None:
    shards = client.list_shards()
    assert shards[0] == Shard("shards/0", ShardState.ACTIVE, SINCE, 12, 3400)
    assert [each.number for each in shards] == [0, 1, 2]


def test_a_state_that_the_client_does_not_know_is_unknown(client: Client) -> None:
    assert [each.state for each in client.list_shards()] == ["active", "drained", "unknown"]


def test_a_shard_is_added_drained_and_undrained(server: ShardServer, client: Client) -> None:
    assert client.add_shard().state is ShardState.JOINING
    assert client.drain_shard(1).state is ShardState.DRAINING
    assert server.last().name == "shards/1"
    assert client.undrain_shard("shards/1").state is ShardState.ACTIVE
    assert server.last().name == "shards/1"


def test_a_placement_has_its_parts(server: ShardServer, client: Client) -> None:
    assert client.get_placement("large") == Placement(
        name="publishers/large/placement",
        pinned=False,
        parts=(GalleryPart("shards/0", 0, 2), GalleryPart("shards/2", 1, 2)),
        image_count=250_000,
    )
    named = client.get_placement("publishers/large/placement")
    assert named == client.get_placement("publishers/large")


def test_a_publisher_is_pinned_and_unpinned(server: ShardServer, client: Client) -> None:
    pinned = client.pin_publisher("acme", 2)
    assert (server.last().name, server.last().shard) == ("publishers/acme/placement", "shards/2")
    assert pinned.pinned
    assert pinned.parts == (GalleryPart("shards/2", 0, 1),)
    assert not client.unpin_publisher("acme").pinned


def test_adding_a_shard_is_tried_once_and_the_rest_again(
    server: ShardServer, client: Client
) -> None:
    server.unavailable.update(["AddShard", "PinPublisher"])
    with pytest.raises(Unavailable):
        client.add_shard()
    client.pin_publisher("acme", 2)
    assert (server.calls["AddShard"], server.calls["PinPublisher"]) == (1, 2)


async def test_the_async_client_does_the_same(server: ShardServer, client: Client) -> None:
    async with AsyncClient(server.target, key=KEY) as other:
        found = await asyncio.gather(
            other.list_shards(),
            other.add_shard(),
            other.drain_shard(1),
            other.undrain_shard(1),
            other.get_placement("acme"),
            other.pin_publisher("acme", 2),
            other.unpin_publisher("acme"),
        )
    assert found == [
        client.list_shards(),
        client.add_shard(),
        client.drain_shard(1),
        client.undrain_shard(1),
        client.get_placement("acme"),
        client.pin_publisher("acme", 2),
        client.unpin_publisher("acme"),
    ]


# The commands


def test_shards_are_a_table(server: ShardServer) -> None:
    printed = run(server, "shard", "list").stdout.splitlines()
    assert printed[0].split() == ["shard", "state", "since", "publishers", "images"]
    assert printed[1].split() == ["0", "active", "2026-11-25", "12:30:00", "12", "3400"]
    assert len(printed) == 4


@pytest.mark.parametrize(
    ("command", "number", "state"),
    [(["add"], "3", "joining"), (["drain", "1"], "1", "draining"), (["undrain", 1], "1", "active")],
)
def test_a_changed_shard_is_printed(
    server: ShardServer, command: list[str], number: str, state: str
) -> None:
    printed = run(server, "shard", *command).stdout.splitlines()
    assert printed[1].split()[:2] == [number, state]
    assert lines(run(server, "shard", *command, "--json").stdout)[0]["state"] == state


def test_a_refused_drain_is_one_sentence(server: ShardServer) -> None:
    done = run(server, "shard", "drain", 2)
    assert (done.exit_code, done.stderr) == (1, "It is the last.\n")
    with Client(server.target, key=KEY) as client, pytest.raises(FailedPrecondition) as caught:
        client.drain_shard(2)
    assert caught.value.reason == "LAST_SHARD"


def test_a_placement_is_printed_part_by_part(server: ShardServer) -> None:
    printed = run(server, "publisher", "placement", "large").stdout.splitlines()
    assert [line.split() for line in printed] == [
        ["publisher", "large"],
        ["images", "250000"],
        ["pinned", "no"],
        ["shard", "part"],
        ["0", "1", "of", "2"],
        ["2", "2", "of", "2"],
    ]


def test_a_pin_is_printed(server: ShardServer) -> None:
    pinned = run(server, "publisher", "pin", "acme", "--shard", 2).stdout
    assert pinned.splitlines()[2].split() == ["pinned", "yes"]
    (unpinned,) = lines(run(server, "publisher", "unpin", "acme", "--json").stdout)
    assert unpinned["pinned"] is False
    assert unpinned["parts"] == [{"shard": "shards/1", "part_number": 0, "part_count": 1}]
