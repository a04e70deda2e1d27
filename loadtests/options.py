"""The options that a load test adds to locust's own."""

from argparse import Namespace
from typing import Any

from locust.argument_parser import LocustArgumentParser

from loadtests.mixes import EVERYDAY, MIXES
from loadtests.shapes import SHAPES
from loadtests.thresholds import Thresholds

USERS = 8
"""What a server on two cores that it shares with locust takes without haste."""


def add_options(parser: LocustArgumentParser, **_: Any) -> None:
    """Adds them; each may come from the environment, as LOADTEST_ and its name in capitals."""
    shapes = "; ".join(f"{name}: {shape.description}" for name, shape in SHAPES.items())
    _add(parser, "workload", "loadtest/workload", "Folder of `python -m loadtests prepare`.")
    _add(parser, "shape", "steady", f"Course of the load ({shapes}).", tuple(SHAPES))
    _add(parser, "mix", EVERYDAY, "Which calls users make.", tuple(MIXES))
    _add(parser, "zipf", 1.0, "Weight of the r-th publisher: 1 / r ** ZIPF; 0 for even.")
    _add(parser, "think-time", 1.0, "Mean seconds from an answer to a user's next call.")
    _add(parser, "call-timeout", 10.0, "Seconds after which a call fails.")
    _add(parser, "max-failures", 0.01, "Most calls that may fail, as a share.")
    _add(parser, "min-accuracy", 0.95, "Fewest right answers to scans, as a share.")
    _add(parser, "max-p50", 250.0, "Longest p50 of scans, in ms.")
    _add(parser, "max-p95", 800.0, "Longest p95 of scans, in ms.")
    _add(parser, "max-p99", 1500.0, "Longest p99 of scans, in ms.")
    _add(parser, "summary", "", "JSON file for measurements and verdicts.")
    # Locust's own: a shape means what it says only where users start and stop at once.
    parser.set_defaults(num_users=USERS, spawn_rate=100)


def thresholds(options: Namespace) -> Thresholds:
    """The limits that were asked for."""
    return Thresholds(
        max_failure_share=options.max_failures,
        min_accuracy=options.min_accuracy,
        max_p50=options.max_p50,
        max_p95=options.max_p95,
        max_p99=options.max_p99,
    )


def _add(
    parser: LocustArgumentParser,
    name: str,
    default: str | float,
    text: str,
    choices: tuple[str, ...] | None = None,
) -> None:
    parser.add_argument(
        f"--{name}",
        default=default,
        type=type(default),
        choices=choices,
        env_var=f"LOADTEST_{name.replace('-', '_').upper()}",
        help=text + ("" if default == "" else f" Default: {default}."),
    )
