"""A run's learning curves as a picture."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

Records = Sequence[dict[str, float]]


def plot_curves(loss: Records, validation: Records, file: Path) -> None:
    """Draws loss and recall by training step."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([each["step"] for each in loss], [each["loss"] for each in loss])
    left.set(xlabel="step", ylabel="loss")
    steps = [each["step"] for each in validation]
    for name in [name for name in (validation[-1] if validation else {}) if name != "step"]:
        values = [each[name] for each in validation]
        right.plot(steps, values, marker=".", label=f"{name}: {values[-1]:.3f}")
    right.set(xlabel="step", ylabel="share of what is held out", ylim=(0, 1.02))
    right.legend(loc="lower right", fontsize="small")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(file, dpi=110)
