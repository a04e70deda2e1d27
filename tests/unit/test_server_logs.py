"""What a server logs of a fault."""

from collections.abc import Iterator

import pytest
import structlog
from imagelink.v1 import recognition_pb2

from server import logs
from server.auth import SCAN, Authenticator, Caller
from server.rpc import rpc

KEY = "il_0123456789abcdef_SECRETSECRETSECRETSECRET"


@pytest.fixture
def configured() -> Iterator[None]:
    logs.configure()
    yield
    structlog.reset_defaults()


class Context:
    """A call with a key."""

    details = ""

    def invocation_metadata(self) -> list[tuple[str, str | bytes]]:
        return [("authorization", f"Bearer {KEY}")]

    def set_code(self, code: object) -> None:
        pass

    def set_details(self, details: str) -> None:
        self.details = details

    def set_trailing_metadata(self, metadata: object) -> None:
        pass


class Anybody(Authenticator):
    """Lets everybody in."""

    def __init__(self) -> None:
        pass

    async def authenticate(self, metadata: object, roles: object) -> Caller:
        return Caller(next(iter(SCAN)), None, "k")


class Service:
    authenticator = Anybody()

    @rpc(SCAN)
    async def Scan(
        self, request: recognition_pb2.ScanRequest, caller: Caller
    ) -> recognition_pb2.ScanResponse:
        raise RuntimeError("a mistake")


@pytest.mark.usefixtures("configured")
async def test_a_fault_has_a_traceback_without_the_key_and_the_image(
    capsys: pytest.CaptureFixture[str],
) -> None:
    context = Context()
    await Service().Scan(recognition_pb2.ScanRequest(image=b"PICTURE"), context)
    told = capsys.readouterr().out
    assert "RuntimeError: a mistake" in told
    assert "in Scan" in told
    (fault,) = (word for word in context.details.split() if len(word) == 32)
    assert fault in told
    assert "SECRET" not in told
    assert "PICTURE" not in told
