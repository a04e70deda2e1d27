"""The services that tools expect of a gRPC server."""

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)


def test_health_check_answers_that_it_serves(channel: grpc.Channel) -> None:
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_lists_and_describes_the_services(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    assert {
        "imagelink.v1.Recognition",
        "imagelink.v1.Gallery",
        "imagelink.v1.Publishers",
        "grpc.health.v1.Health",
    } <= set(database.get_services())
    described = database.FindFileContainingSymbol("imagelink.v1.Recognition")
    assert [method.name for method in described.service[0].method] == [
        "Scan",
        "ScanStream",
        "Explain",
    ]
