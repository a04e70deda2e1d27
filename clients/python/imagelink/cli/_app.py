"""The options before every command, and the connection that they describe."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, NoReturn

import grpc
import typer

from imagelink._channel import tls_credentials
from imagelink._client import Client
from imagelink.errors import DeadlineExceeded, ImageLinkError, Unavailable

app = typer.Typer(
    help="Registers printed pictures and recognises them in photos.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@dataclass(frozen=True)
class Certificates:
    """The PEM files of TLS with certificates of one's own."""

    ca: Path | None = None
    certificate: Path | None = None
    private_key: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials | None:
        """What a client takes; None where no file is given. Raises as ``tls_credentials``."""
        if self == Certificates():
            return None
        return tls_credentials(
            ca=self.ca, certificate=self.certificate, private_key=self.private_key
        )


@dataclass(frozen=True)
class Connection:
    """How to reach the server."""

    target: str
    key: str = field(repr=False)
    tls: bool
    certificates: Certificates
    timeout: float


@app.callback()
def main(
    ctx: typer.Context,
    target: Annotated[
        str, typer.Option(envvar="IMAGELINK_TARGET", help="The server's host:port.")
    ] = "localhost:9000",
    key: Annotated[
        str,
        typer.Option(
            envvar="IMAGELINK_KEY",
            show_default=False,
            help="The API key; the variable keeps it out of the shell's history.",
        ),
    ] = "",
    tls: Annotated[bool, typer.Option("--tls", envvar="IMAGELINK_TLS", help="Use TLS.")] = False,
    ca: Annotated[
        Path | None,
        typer.Option(envvar="IMAGELINK_CA", help="Authorities to trust, as a PEM file: uses TLS."),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(
            envvar="IMAGELINK_CERTIFICATE", help="Your certificate, as a PEM file: uses TLS."
        ),
    ] = None,
    private_key: Annotated[
        Path | None,
        typer.Option(envvar="IMAGELINK_PRIVATE_KEY", help="Its private key, as a PEM file."),
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds that a call may take.")] = 30.0,
) -> None:
    """Registers printed pictures and recognises them in photos."""
    certificates = Certificates(ca, certificate, private_key)
    ctx.obj = Connection(target, key.strip(), tls, certificates, timeout)


@contextmanager
def connected(ctx: typer.Context) -> Iterator[Client]:
    """A client for the command; its errors end the command with one sentence."""
    connection: Connection = ctx.obj
    if not connection.key:
        fail("There is no API key: set IMAGELINK_KEY or give --key.")
    try:
        with Client(
            connection.target,
            key=connection.key,
            tls=connection.tls,
            credentials=connection.certificates.credentials(),
            timeout=connection.timeout,
        ) as client:
            yield client
    except (ImageLinkError, OSError, ValueError) as error:
        fail(explain(error, connection))


def explain(error: Exception, connection: Connection) -> str:
    """An error in one sentence for people."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    if isinstance(error, Unavailable) and not error.reason:
        return f"The server at {connection.target} cannot be reached: check --target and --tls."
    if isinstance(error, DeadlineExceeded) and not error.reason:
        return f"The server gave no answer within {connection.timeout:g} s: try a longer --timeout."
    return " ".join(str(error).split())


def fail(message: str) -> NoReturn:
    """Ends the command with a sentence on stderr and exit code 1."""
    print(message, file=sys.stderr)
    raise typer.Exit(1)
