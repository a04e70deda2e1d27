"""``imagelink model rollout`` and what follows it: a model version comes into service."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from imagelink._client import Client
from imagelink.cli._app import connected, fail
from imagelink.cli._output import Json, moment, print_json, print_table
from imagelink.cli._rollout_view import follow, print_rollout
from imagelink.models import (
    KeptScanAgreement,
    Rollout,
    RolloutPreview,
    RolloutState,
    VersionQuality,
)

app = typer.Typer()

RolloutId = Annotated[
    str | None,
    typer.Argument(metavar="ROLLOUT", help="The rollout's id.", show_default="the one under way"),
]
Publishers = Annotated[
    list[str] | None,
    typer.Option("--publisher", help="Switch only this publisher; repeatable."),
]
LEAST_PERCENT = 0.001
"""Of nobody at all, the server would make everybody."""


@app.command()
def rollout(
    ctx: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            metavar="VERSION_OR_FOLDER", help="The model version, or a bundle to register first."
        ),
    ],
    canary: Annotated[
        float | None,
        typer.Option(
            metavar="PERCENT",
            min=LEAST_PERCENT,
            max=100,
            help="Switch this share of the publishers once it is ready.",
        ),
    ] = None,
    publisher: Publishers = None,
    rate: Annotated[
        float, typer.Option(min=0, help="Images a second to backfill at most; 0 for no limit.")
    ] = 0.0,
    shadow: Annotated[
        float, typer.Option(min=0, max=1, help="Share of scans that it answers too, unseen.")
    ] = 0.0,
    watch: Annotated[
        bool, typer.Option("--watch/--no-watch", help="Follow it until it is ready.")
    ] = True,
    json: Json = False,
) -> None:
    """Begin to bring a model version into service, and wait until it is ready.

    With --canary or --publisher, these publishers are switched then, if the comparison of the
    versions passed. Without, nobody is switched before `activate`.
    """
    switches = canary is not None or bool(publisher)
    if switches and not watch:
        fail("Publishers are switched once the rollout is ready: leave out --no-watch.")
    with connected(ctx) as client:
        name = _version(client, model)
        started = client.start_rollout(name, max_images_per_second=rate, shadow_share=shadow)
        if not watch:
            print_rollout(started, json)
            return
        reached = follow(client, started.name, json)
        if switches:
            print_rollout(_switched(client, reached, publisher, canary), json)


@app.command()
def watch(ctx: typer.Context, rollout: RolloutId = None, json: Json = False) -> None:
    """Follow a rollout until it waits for a decision or has ended.

    The exit code is 1 if it failed. With --json, each change is a line.
    """
    with connected(ctx) as client:
        follow(client, _chosen(client, rollout), json)


@app.command()
def preview(ctx: typer.Context, rollout: RolloutId = None, json: Json = False) -> None:
    """Show how the versions compare, and what would not be recognised any more."""
    with connected(ctx) as client:
        found = client.preview_rollout(_chosen(client, rollout))
    if json:
        print_json(found)
    else:
        _print_preview(found)


@app.command()
def activate(
    ctx: typer.Context,
    rollout: RolloutId = None,
    publisher: Publishers = None,
    percent: Annotated[
        float | None,
        typer.Option(min=LEAST_PERCENT, max=100, help="Switch only this share of the publishers."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Switch them although the comparison failed.")
    ] = False,
    json: Json = False,
) -> None:
    """Switch publishers to the new version: all, or those that are given."""
    with connected(ctx) as client:
        activated = client.activate_rollout(
            _chosen(client, rollout), publishers=publisher or None, percent=percent, force=force
        )
    print_rollout(activated, json)


@app.command()
def rollback(ctx: typer.Context, rollout: RolloutId = None, json: Json = False) -> None:
    """Switch all publishers back to the former version."""
    with connected(ctx) as client:
        back = client.rollback_rollout(_chosen(client, rollout))
    print_rollout(back, json)


@app.command()
def end(ctx: typer.Context, rollout: RolloutId = None, json: Json = False) -> None:
    """End a rollout for good: the version that serves nobody loses its features."""
    with connected(ctx) as client:
        ended = client.end_rollout(_chosen(client, rollout))
    print_rollout(ended, json)


@app.command()
def pause(ctx: typer.Context, rollout: RolloutId = None, json: Json = False) -> None:
    """Let a rollout's backfill rest."""
    _set_paused(ctx, rollout, True, json)


@app.command()
def resume(ctx: typer.Context, rollout: RolloutId = None, json: Json = False) -> None:
    """Let a paused backfill go on."""
    _set_paused(ctx, rollout, False, json)


@app.command()
def rollouts(ctx: typer.Context, json: Json = False) -> None:
    """List all rollouts, the latest first."""
    with connected(ctx) as client:
        found = client.list_rollouts()
    if json:
        for each in found:
            print_json(each)
        return
    print_table(("rollout", "model", "former", "state", "since", "publishers"), map(_row, found))


def _version(client: Client, model: str) -> str:
    """The model version to roll out; that of a folder is registered first."""
    if Path(model).is_dir():
        registered = client.register_model(model)
        print(f"Registered {registered.version}.", file=sys.stderr)
        return registered.name
    if "/" in model and not model.startswith("models/"):
        fail(f"There is no folder {model}.")
    return model


def _chosen(client: Client, rollout: str | None) -> str:
    """The rollout that is named, or the one under way."""
    if rollout:
        return rollout
    under_way = next((each for each in client.list_rollouts() if not each.state.ended), None)
    if under_way is None:
        fail("No rollout is under way: name one of `imagelink model rollouts`.")
    return under_way.name


def _switched(
    client: Client, reached: Rollout, publishers: list[str] | None, percent: float | None
) -> Rollout:
    if reached.state is not RolloutState.READY:
        fail(f"Nobody was switched: the rollout is {reached.state}.")
    if not reached.gate_passed:
        fail("Nobody was switched: the comparison failed, see `imagelink model preview`.")
    return client.activate_rollout(reached.name, publishers=publishers or None, percent=percent)


def _set_paused(ctx: typer.Context, rollout: str | None, paused: bool, json: bool) -> None:
    with connected(ctx) as client:
        updated = client.update_rollout(_chosen(client, rollout), paused=paused)
    print_rollout(updated, json)


def _row(rollout: Rollout) -> tuple[object, ...]:
    versions = rollout.version, rollout.former_version
    since = moment(rollout.state_time)
    return (rollout.id, *versions, rollout.state, since, rollout.publisher_count)


def _print_preview(preview: RolloutPreview) -> None:
    print_table(
        ("version", "views", "recall", "false accepts", "calibration error", "mean time"),
        (_quality_row("former", preview.former), _quality_row("new", preview.new)),
    )
    if preview.kept_scans.scan_count:
        print(_kept_scans(preview.kept_scans))
    print("The comparison passed." if preview.passed else "The comparison failed.")
    for problem in preview.problems:
        print(f"- {problem}")
    if preview.negative_flips:
        print_table(
            ("no longer recognised", "view", "answered instead"),
            ((each.reference, each.view, each.answer) for each in preview.negative_flips),
        )


def _kept_scans(kept: KeptScanAgreement) -> str:
    return (
        f"Of {kept.scan_count:,} kept scans {kept.agreed_count:,} are answered alike, "
        f"{kept.lost_count:,} lost, {kept.changed_count:,} changed, {kept.gained_count:,} gained."
    )


def _quality_row(version: str, quality: VersionQuality) -> tuple[object, ...]:
    return (
        version,
        f"{quality.view_count:,}",
        f"{quality.recall:.1%}",
        f"{quality.false_accept_rate:.2%}",
        f"{quality.calibration_error:.3f}",
        f"{quality.mean_seconds * 1000:.1f} ms",
    )
