"""How a client connects: channel options, retries and credentials."""

import json
import sys
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import grpc

from imagelink import _calls, _erasure_calls, _model_calls, _session_calls, _shard_calls

Metadata: TypeAlias = tuple[tuple[str, str], ...]

MAX_MESSAGE_BYTES = 9 * 1024 * 1024
"""An image of 8 MiB, and room for what goes with it."""

METHODS = (
    *_calls.METHODS,
    *_erasure_calls.METHODS,
    *_model_calls.METHODS,
    *_session_calls.METHODS,
    *_shard_calls.METHODS,
)
"""Every method of the API."""

_RETRY_POLICY = {
    "maxAttempts": 4,
    "initialBackoff": "0.1s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}


def channel_options(target: str) -> list[tuple[str, Any]]:
    """The options of a channel to a target."""
    # Of several addresses ("ipv4:10.0.0.1:9000,10.0.0.2:9000") gRPC makes a server's name that
    # HAProxy refuses.
    _, _, addresses = target.partition(":")
    named = [("grpc.default_authority", addresses.split(",")[0])] if "," in addresses else []
    return [
        *named,
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        # A connection for each client: HAProxy takes a hundred calls at once of one, and where a
        # stream among them is read slowly, the others wait behind it.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_retries", 1),
        # A call can be retried only while its request is kept; by default, only 256 KiB are.
        ("grpc.per_rpc_retry_buffer_size", MAX_MESSAGE_BYTES),
        # A server that restarts is found again soon after it is back.
        ("grpc.max_reconnect_backoff_ms", 2_000),
        # While calls are open, a dead connection is noticed within 40 s.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.service_config", json.dumps(service_config())),
    ]


def service_config() -> dict[str, Any]:
    """Which calls are retried, and how they spread over the servers behind one name."""
    retried = [
        {"service": f"imagelink.v1.{method.service}", "method": method.name}
        for method in METHODS
        if method.retried
    ]
    return {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [{"name": retried, "retryPolicy": _RETRY_POLICY}],
    }


def tls_credentials(
    *,
    ca: str | PathLike[str] | None = None,
    certificate: str | PathLike[str] | None = None,
    private_key: str | PathLike[str] | None = None,
) -> grpc.ChannelCredentials:
    """Credentials for TLS with certificates of your own, as the ``credentials`` of a client.

    Args:
        ca: PEM file of the authorities that the server's certificate may be of; those of the
            system by default.
        certificate: PEM file of the client's certificate and those between it and its authority,
            for a gateway that asks for one (mTLS).
        private_key: PEM file of the certificate's key.

    Raises OSError for a file that cannot be read, ValueError for a certificate without its key or
    the other way round.
    """
    if (certificate is None) != (private_key is None):
        raise ValueError("A certificate and its private key go together: give both or neither.")
    files = (ca, private_key, certificate)
    return grpc.ssl_channel_credentials(*(Path(f).read_bytes() if f else None for f in files))


def channel_credentials(
    tls: bool, credentials: grpc.ChannelCredentials | None
) -> grpc.ChannelCredentials | None:
    """What secures the channel; None leaves it in plain text."""
    return credentials or (grpc.ssl_channel_credentials() if tls else None)


def call_metadata(key: str) -> Metadata:
    """The metadata that carries the API key."""
    if not key or not key.isascii() or not key.isprintable():
        raise ValueError("The API key is empty or has characters which no key has.")
    return (("authorization", f"Bearer {key}"),)


class Keyed:
    """A client, as far as what goes with each call."""

    _key: Metadata

    @property
    def _metadata(self) -> Metadata:
        """The API key, and the trace that the caller is in."""
        return self._key + _trace_context()


def _trace_context() -> Metadata:
    """The W3C headers of the current span of OpenTelemetry, which need not be installed."""
    # Who never imported it has no span.
    if "opentelemetry.trace" not in sys.modules:
        return ()
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    headers: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(headers)
    return tuple(headers.items())
