"""What a server has open besides its API."""

import re

import grpc
import pytest

from tests.e2e.harness import RunningServer


def test_ray_answers_nobody_who_lacks_its_token(server: RunningServer) -> None:
    lines = " ".join(word for process in server.processes() for word in process.cmdline())
    (address,) = set(re.findall(r"--gcs-address=(\S+)", lines))
    with grpc.insecure_channel(address) as channel:
        nodes = channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetAllNodeInfo")
        with pytest.raises(grpc.RpcError) as caught:
            nodes(b"", timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
