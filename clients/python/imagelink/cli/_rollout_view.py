"""How a rollout looks: once, and while it goes on."""

import time
from collections.abc import Iterator
from datetime import timedelta

import typer
from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from imagelink._client import Client
from imagelink.cli._output import console, moment, print_json
from imagelink.models import Rollout, RolloutState, ScanRates

INTERVAL = 1.0
"""Seconds between two looks at a rollout."""
_SETTLED = frozenset(
    {
        RolloutState.READY,
        RolloutState.ACTIVE,
        RolloutState.COMPLETED,
        RolloutState.CANCELLED,
        RolloutState.FAILED,
    }
)
_BAR_WIDTH = 60


def print_rollout(rollout: Rollout, json: bool) -> None:
    """Prints a rollout as it stands."""
    if json:
        print_json(rollout)
    else:
        console().print(_table(rollout))


def follow(client: Client, name: str, json: bool) -> Rollout:
    """Shows a rollout until it waits for a decision or has ended; exit code 1 if it failed."""
    looks = _looks(client, name)
    rollout = _print_changes(looks) if json else _show(looks)
    if rollout.state is RolloutState.FAILED:
        raise typer.Exit(1)
    return rollout


def _looks(client: Client, name: str) -> Iterator[Rollout]:
    while True:
        rollout = client.get_rollout(name)
        yield rollout
        if rollout.state in _SETTLED:
            return
        time.sleep(INTERVAL)


def _show(looks: Iterator[Rollout]) -> Rollout:
    rollout = next(looks)
    with Live(_picture(rollout), console=console(), auto_refresh=False) as live:
        for rollout in looks:
            live.update(_picture(rollout), refresh=True)
    return rollout


def _print_changes(looks: Iterator[Rollout]) -> Rollout:
    rollout = next(looks)
    print_json(rollout)
    for look in looks:
        if look != rollout:
            print_json(look)
        rollout = look
    return rollout


def _picture(rollout: Rollout) -> Group:
    table = _table(rollout)
    if rollout.state is not RolloutState.BACKFILLING:
        return Group(table)
    done, total = rollout.backfill.done_count, rollout.backfill.image_count
    return Group(table, ProgressBar(total=total, completed=done, width=_BAR_WIDTH))


def _table(rollout: Rollout) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in _fields(rollout).items():
        table.add_row(name, value)
    return table


def _fields(rollout: Rollout) -> dict[str, str]:
    paused = " (paused)" if rollout.paused else ""
    fields = {
        "rollout": rollout.id,
        "model": f"{rollout.version} in place of {rollout.former_version}",
        "state": f"{rollout.state}{paused} since {moment(rollout.state_time)}",
        "backfill": _backfill(rollout),
        "gate": _gate(rollout),
        "shadow": _shadow(rollout),
        "publishers": f"{rollout.publisher_count:,} switched",
    }
    if rollout.publisher_count:
        fields |= {"scans": _rates(rollout.rates), "hour before": _rates(rollout.former_rates)}
    if rollout.problem:
        fields["problem"] = rollout.problem
    return fields


def _backfill(rollout: Rollout) -> str:
    backfill = rollout.backfill
    parts = [f"{backfill.done_count:,} of {backfill.image_count:,} images"]
    if backfill.failed_count:
        parts.append(f"{backfill.failed_count:,} unusable")
    if rollout.state is RolloutState.BACKFILLING:
        parts.append(f"{backfill.images_per_second:.1f} a second")
        if backfill.seconds_left is not None:
            parts.append(f"{timedelta(seconds=round(backfill.seconds_left))} left")
    return ", ".join(parts)


def _gate(rollout: Rollout) -> str:
    if rollout.gate_passed is None:
        return "not compared yet"
    if rollout.gate_passed:
        return "passed"
    return "failed, but forced" if rollout.forced else "failed"


def _shadow(rollout: Rollout) -> str:
    shadow = rollout.shadow
    if not shadow.scan_count:
        return "no scans yet" if rollout.shadow_share else "off"
    return (
        f"{shadow.agreed_count:,} of {shadow.scan_count:,} scans alike "
        f"({shadow.agreed_count / shadow.scan_count:.1%}), {shadow.former_only_count:,} found "
        f"by the former version alone, {shadow.new_only_count:,} by the new one alone"
    )


def _rates(rates: ScanRates) -> str:
    if not rates.scan_count:
        return "none"
    milliseconds = rates.mean_seconds * 1000
    return f"{rates.scan_count:,}, {rates.match_rate:.1%} found something, {milliseconds:.0f} ms"
