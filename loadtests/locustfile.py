"""The load test: ``locust -f loadtests/locustfile.py``, from the repository's root.

``docs/load-testing.md`` tells how to use it.
"""

from argparse import Namespace
from pathlib import Path
from typing import Any

import gevent
from locust import LoadTestShape, constant, events, poisson
from locust.env import Environment
from locust.runners import STATE_STOPPED, STATE_STOPPING, MasterRunner, WorkerRunner
from rich.console import Console

from loadtests.options import add_options, thresholds
from loadtests.results import measurements, print_summary, progress, write_summary
from loadtests.shapes import SHAPES
from loadtests.thresholds import exit_code, judge
from loadtests.users import BackendService, tasks
from loadtests.workload import WorkloadError, read_workload

PROGRESS_SECONDS = 10
BROKEN = 2
"""The exit code where a task itself broke, whatever was measured."""

console = Console(highlight=False, emoji=False, markup=False)

events.init_command_line_parser.add_listener(add_options)


class CourseOfTheLoad(LoadTestShape):
    """As many users as the shape has that ``--shape`` names."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        """The users of this moment, and how many to start or stop in a second."""
        assert self.runner is not None
        options = _options(self.runner.environment)
        shape = SHAPES[options.shape]
        run_time = options.run_time or shape.run_time
        users = shape.users(self.get_run_time(), options.num_users, run_time)
        return None if users is None else (users, options.spawn_rate)


@events.init.add_listener
def load_workload(environment: Environment, **_: Any) -> None:
    """Reads what to send; ends a process that has nothing."""
    if not isinstance(environment.runner, MasterRunner):
        try:
            BackendService.workload = read_workload(Path(_options(environment).workload))
        except WorkloadError as error:
            raise SystemExit(str(error)) from error


@events.test_start.add_listener
def choose_calls(environment: Environment, **_: Any) -> None:
    """Gives users the tasks of the mix, and their pace."""
    options = _options(environment)
    think = options.think_time
    BackendService.tasks = tasks(options.mix)
    BackendService.wait_time = poisson(1 / think) if think else constant(0)


@events.test_start.add_listener
def report_progress(environment: Environment, **_: Any) -> None:
    """Says now and then how it goes, where locust's own tables are off."""
    if _options(environment).only_summary and not isinstance(environment.runner, WorkerRunner):
        gevent.spawn(_print_progress, environment)


@events.quitting.add_listener
def conclude(environment: Environment, **_: Any) -> None:
    """Compares what was measured with the thresholds, which set the exit code."""
    runner, options = environment.runner, _options(environment)
    if runner is None or isinstance(runner, WorkerRunner):
        return
    verdicts = judge(measurements(environment.stats), thresholds(options))
    environment.process_exit_code = BROKEN if runner.exceptions else exit_code(verdicts)
    print_summary(environment.stats, verdicts, console)
    for broken in runner.exceptions.values():
        console.print(f"A task broke: {broken['msg']}")
    if options.summary:
        write_summary(Path(options.summary), environment.stats, _load(options), verdicts)


def _load(options: Namespace) -> dict[str, object]:
    """What tells one load test from another."""
    names = ("shape", "mix", "think_time", "zipf", "call_timeout")
    return {"users": options.num_users} | {name: getattr(options, name) for name in names}


def _print_progress(environment: Environment) -> None:
    runner = environment.runner
    while runner is not None and runner.state not in {STATE_STOPPING, STATE_STOPPED}:
        gevent.sleep(PROGRESS_SECONDS)
        console.print(progress(environment.stats, runner.user_count))


def _options(environment: Environment) -> Namespace:
    options: Namespace | None = environment.parsed_options
    assert options is not None
    return options
