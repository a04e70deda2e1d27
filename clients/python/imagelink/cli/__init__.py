"""The ``imagelink`` command."""

from imagelink.cli import (
    _erasures,
    _images,
    _keys,
    _models,
    _publishers,
    _references,
    _rollouts,
    _shards,
)
from imagelink.cli._app import app
from imagelink.cli._assess import assess
from imagelink.cli._explain import explain
from imagelink.cli._placement import pin, placement, unpin
from imagelink.cli._register import register
from imagelink.cli._register_all import register_all
from imagelink.cli._scan import scan
from imagelink.cli._scan_stream import scan_stream

__all__ = ["app"]

app.command()(register)
app.command()(register_all)
app.command()(assess)
app.command()(scan)
app.command()(scan_stream)
app.command()(explain)
_publishers.app.command()(placement)
_publishers.app.command()(pin)
_publishers.app.command()(unpin)
app.add_typer(_references.app, name="reference")
app.add_typer(_images.app, name="image")
app.add_typer(_publishers.app, name="publisher")
app.add_typer(_keys.app, name="key")
app.add_typer(_shards.app, name="shard")
_models.app.add_typer(_rollouts.app)
app.add_typer(_models.app, name="model")
app.add_typer(_erasures.app, name="erasure")
