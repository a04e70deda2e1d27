"""What a server has open besides its API."""

import re
from pathlib import Path

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


def test_the_token_is_for_the_server_alone(server: RunningServer) -> None:
    (raylet,) = (each for each in server.processes() if each.name() == "raylet")
    file = Path(raylet.environ()["RAY_AUTH_TOKEN_PATH"])
    assert len(file.read_text()) == 64
    assert file.stat().st_mode & 0o077 == 0
