"""What calls add up to: how many a second, how long each took, and how many went wrong."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.errors import BenchmarkError
from benchmarks.kill_model import percentile
from benchmarks.load import OK, REFUSED, Call


@dataclass(frozen=True, slots=True)
class Pace:
    """What became of calls: those a second that were answered, the quantiles of these, in ms, and
    the shares of all that were refused, failed, and answered wrongly."""

    per_second: float
    p50_ms: float
    p99_ms: float
    refused: float
    failed: float
    wrong: float


def pace(calls: Sequence[Call]) -> Pace:
    """Sums calls up. Raises BenchmarkError where none was answered."""
    answered = [call for call in calls if call.status == OK]
    if not answered:
        raise BenchmarkError(f"No call was answered: {sorted({call.status for call in calls})}")
    refused = sum(call.status == REFUSED for call in calls)
    end = max(call.begun + call.seconds for call in answered)
    times = [1000 * call.seconds for call in answered]
    return Pace(
        per_second=len(answered) / end,
        p50_ms=percentile(times, 0.5),
        p99_ms=percentile(times, 0.99),
        refused=refused / len(calls),
        failed=(len(calls) - len(answered) - refused) / len(calls),
        wrong=sum(not call.right for call in answered) / len(answered),
    )
