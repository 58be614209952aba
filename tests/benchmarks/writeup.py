"""The write-up's runs beside what it printed, as Markdown tables.

python -m tests.benchmarks.writeup curve FOLDER...     runs of one experiment with several seeds
python -m tests.benchmarks.writeup compare FOLDER...   a run of each experiment
"""

import sys
from itertools import accumulate
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

# Printed in the write-up, epoch by epoch: train loss and accuracy, test loss and accuracy.
PRINTED = (
    (2.38817, 0.220, 0.82465, 0.332),
    (1.67508, 0.408, 0.61761, 0.480),
    (1.33498, 0.516, 0.52836, 0.548),
    (1.18458, 0.564, 0.48539, 0.578),
    (1.10320, 0.590, 0.46330, 0.593),
    (1.05065, 0.606, 0.44813, 0.606),
    (1.01269, 0.618, 0.43816, 0.614),
    (0.98426, 0.627, 0.42868, 0.622),
    (0.96139, 0.634, 0.42056, 0.628),
    (0.94235, 0.641, 0.41566, 0.632),
    (0.92621, 0.646, 0.41269, 0.634),
    (0.91191, 0.650, 0.41150, 0.635),
    (0.89950, 0.654, 0.40863, 0.638),
    (0.88785, 0.658, 0.40693, 0.640),
    (0.87731, 0.661, 0.40540, 0.642),
)
KEYS = ("train/loss", "train/acc", "test/loss", "test/acc")


class Run(NamedTuple):
    """A run's curves, a number an epoch, and what it was."""

    name: str
    curves: dict[str, list[float]]

    @classmethod
    def read(cls, folder: str) -> "Run":
        events = EventAccumulator(folder).Reload()
        tags = (*KEYS, "train/seconds", "test/seconds")
        curves = {tag: [event.value for event in events.Scalars(tag)] for tag in tags}
        epochs = len(curves["train/loss"])
        config = OmegaConf.load(Path(folder) / ".hydra" / "config.yaml")
        optimizer = config.optim.optimizer._target_.rpartition(".")[2]
        name = f"{config.model.cell.upper()}, {optimizer} {config.optim.lr:g}"
        # After the last epoch the test part is evaluated once more.
        return cls(name, {tag: values[:epochs] for tag, values in curves.items()})

    def best_within(self, seconds: float) -> float:
        """Test accuracy after the last epoch that ended within so many seconds of training."""
        ends = accumulate(self.curves["train/seconds"])
        within = [a for a, end in zip(self.curves["test/acc"], ends, strict=True) if end <= seconds]
        return within[-1] if within else 0.0

    def epochs_to(self, accuracy: float) -> str:
        """Epochs until the test accuracy was reached."""
        reached = [n for n, acc in enumerate(self.curves["test/acc"], 1) if acc >= accuracy]
        return str(reached[0]) if reached else "never"


def curve(runs: list[Run]) -> None:
    """Epoch by epoch: printed, the mean of these runs, the span of their test accuracies."""
    print(
        "| epoch | printed: train loss | acc | test loss | acc | ours: train loss | acc |", end=""
    )
    print(" test loss | acc | lowest to highest |\n|---:" + "|---:" * 9 + "|")
    for epoch, printed in enumerate(PRINTED):
        values = {key: [run.curves[key][epoch] for run in runs] for key in KEYS}
        loss, acc, test_loss, test_acc = (mean(values[key]) for key in KEYS)
        span = values["test/acc"]
        print(f"| {epoch} | {printed[0]:.3f} | {printed[1]:.3f} | {printed[2]:.3f} |", end="")
        print(f" {printed[3]:.3f} | {loss:.3f} | {acc:.3f} | {test_loss:.3f} |", end="")
        print(f" {test_acc:.3f} | {min(span):.4f} to {max(span):.4f} |")


def compare(runs: list[Run]) -> None:
    """A row a run: at equal epochs, at equal seconds, and what an epoch takes."""
    seconds = min(sum(run.curves["train/seconds"]) for run in runs)
    print("| run | test acc, 1 epoch | 5 | 15 | train acc, 15 | epochs to 0.60 |", end="")
    print(f" test acc after {seconds:.0f} s | seconds an epoch |\n|---" + "|---:" * 7 + "|")
    for run in runs:
        test, each = run.curves["test/acc"], mean(run.curves["train/seconds"])
        print(f"| {run.name} | {test[0]:.3f} | {test[4]:.3f} | {test[14]:.3f} |", end="")
        print(f" {run.curves['train/acc'][14]:.3f} | {run.epochs_to(0.60)} |", end="")
        print(f" {run.best_within(seconds):.3f} | {each:.0f} |")


if __name__ == "__main__":
    what, *folders = sys.argv[1:]
    {"curve": curve, "compare": compare}[what]([Run.read(folder) for folder in folders])
