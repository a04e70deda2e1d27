"""The ``imagelink`` command."""

from imagelink.cli import _keys, _publishers, _references
from imagelink.cli._app import app
from imagelink.cli._assess import assess
from imagelink.cli._explain import explain
from imagelink.cli._register import register
from imagelink.cli._scan import scan

__all__ = ["app"]

app.command()(register)
app.command()(assess)
app.command()(scan)
app.command()(explain)
app.add_typer(_references.app, name="reference")
app.add_typer(_publishers.app, name="publisher")
app.add_typer(_keys.app, name="key")
