"""Settings of a server, from the command line, the environment or ``imagelink.toml``."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import Field, NonNegativeInt, PositiveInt, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    CliApp,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from indexing.bundle import DEFAULT_BUNDLE

Given = TypeVar("Given", bound="StorageSettings")


class StorageSettings(BaseSettings):
    """Where ImageLink keeps things, from the command line, the environment or the file."""

    model_config = SettingsConfigDict(
        env_prefix="IMAGELINK_", toml_file="imagelink.toml", cli_kebab_case=True, extra="forbid"
    )

    data_dir: Path = Field(
        Path(".data"), description="Where the embedded database, images and operator key live."
    )
    database_url: SecretStr | None = Field(
        None, description="DSN of PostgreSQL 14 or later; an embedded one by default."
    )
    blob_url: str | None = Field(
        None, description="file:///, s3:// or another object store URL; DATA_DIR/blobs by default."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Command line first, then environment, then file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


class Settings(StorageSettings):
    """Serves ImageLink over gRPC: everything on this machine unless settings say otherwise.

    Each setting may also come from the environment, as IMAGELINK_ and its name in capitals, or
    from imagelink.toml in the working directory. Other commands, each with a --help of its own:
    migrate, backup, restore, erasures.
    """

    bundle: Path = Field(
        DEFAULT_BUNDLE,
        description="Folder of the model bundle to begin with; `imagelink model rollout` brings others.",
    )
    operator_key: SecretStr | None = Field(
        None, description="The operator's API key; generated into DATA_DIR/operator.key by default."
    )
    grpc_port: int = Field(9000, description="Port of the gRPC API.")
    http_port: int = Field(8000, description="Port of Ray Serve's HTTP health endpoint.")
    scanners: PositiveInt = Field(1, description="Scanner replicas.")
    shards: PositiveInt = Field(
        1, description="Gallery shards to begin with; `imagelink shard add` adds some later."
    )
    shard_replicas: PositiveInt = Field(1, description="Replicas of each gallery shard.")
    part_images: PositiveInt = Field(
        100_000,
        description="Images of one publisher on one shard; one with more is split in parts.",
    )
    batch_size: PositiveInt = Field(
        1, description="Most scans in a micro-batch: one on CPUs, dozens where a GPU embeds."
    )
    batches_at_once: PositiveInt = Field(4, description="Micro-batches a scanner works on at once.")
    max_waiting_scans: PositiveInt = Field(
        256, description="Scans that may wait in a scanner; more are refused."
    )
    longest_wait_ms: PositiveInt = Field(
        1000,
        description="Longest wait of a scan, which is refused then; half of it where a publisher's scans have waited for that long without a break.",
    )
    max_ongoing_requests: PositiveInt = Field(
        512, description="Requests of all kinds that a replica takes in at once."
    )
    max_queued_requests: PositiveInt = Field(
        256, description="Requests that may wait until a replica takes them in."
    )
    gallery_memory_mb: PositiveInt = Field(
        4096, description="Memory for galleries in each shard replica, in MB."
    )
    model_memory_mb: NonNegativeInt = Field(
        1000,
        description="Memory for model versions in each process, in MB; one that is too large is refused. 0 for no limit.",
    )
    snapshot_dir: Path | None = Field(
        None,
        description="Where shards keep galleries to start from; DATA_DIR/snapshots by default.",
    )
    bundle_dir: Path | None = Field(
        None, description="Where processes keep model bundles; DATA_DIR/bundles by default."
    )
    database_connections: int = Field(8, ge=4, description="Database connections per replica.")
    kept_scan_days: PositiveInt = Field(
        30,
        description="Longest time that photos of scans are kept, of publishers that agreed to it.",
    )
    otlp_endpoint: str | None = Field(
        None,
        pattern="^https?://[^/]+:[0-9]+$",
        description="OTLP/gRPC endpoint that takes traces, such as http://localhost:4317; none are made by default.",
    )
    trace_ratio: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Share of calls that are traced, of those whose caller does not say whether to.",
    )


def given(kind: type[Given], arguments: list[str] | None = None) -> Given:
    """The settings of the command line, the environment and the file; ends the process if wrong.

    ``arguments`` are those of the command line where they are not all that the process has.
    """
    try:
        return CliApp.run(kind, cli_args=arguments)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        sys.exit("error: wrong settings:\n  " + "\n  ".join(lines))


@dataclass(frozen=True, slots=True)
class Backends:
    """Where a running server keeps things: database DSN, blob store URL, the folders of snapshots and
    of model bundles, and the operator's key.
    """

    database_url: str
    blob_url: str
    snapshots: Path
    bundles: Path
    operator_key: str = field(repr=False)
