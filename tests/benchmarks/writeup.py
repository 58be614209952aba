"""The recorded runs of the write-up, compared with the figures that it printed.

python -m tests.benchmarks.writeup record FOLDER...    saves these runs' curves in writeup.csv
python -m tests.benchmarks.writeup                     prints the tables of docs/writeup.md
"""

import csv
import sys
from itertools import accumulate
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from omegaconf import OmegaConf

from trek_lm.runs.folder import CONFIG, read_curves

# Printed in the write-up for each epoch: train loss and accuracy, test loss and accuracy.
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
RECORD = Path(__file__).with_suffix(".csv")
METADATA = ("cell", "optimizer", "lr", "batch", "seed", "epoch")
CURVES = ("train/loss", "train/acc", "test/loss", "test/acc", "train/seconds", "test/seconds")


class Run(NamedTuple):
    """A run's metadata and curves, one number per epoch."""

    cell: str
    optimizer: str
    lr: str
    batch: str  # lines; the batch has as many characters as they have on average
    seed: str
    curves: dict[str, list[float]]

    @property
    def name(self) -> str:
        return f"{self.cell.upper()}, {self.optimizer}"

    def within(self, seconds: float) -> float:
        """Test accuracy after the last epoch that ended within `seconds` of training."""
        ends = accumulate(self.curves["train/seconds"])
        done = [a for a, end in zip(self.curves["test/acc"], ends, strict=True) if end <= seconds]
        return done[-1] if done else 0.0

    def epochs_to(self, accuracy: float) -> int | None:
        """Epochs until this test accuracy was reached, or None."""
        reached = [n for n, acc in enumerate(self.curves["test/acc"], 1) if acc >= accuracy]
        return reached[0] if reached else None


def read(folder: str) -> Run:
    """Reads a run's folder."""
    curves = read_curves(Path(folder))
    epochs = len(curves["train/loss"])
    config = OmegaConf.load(Path(folder) / CONFIG)
    # `[:epochs]`: the test split is evaluated once more after the last epoch.
    return Run(
        config.model.cell,
        config.optim.optimizer._target_.rpartition(".")[2],
        f"{config.optim.lr:g}",
        str(config.data.batch_size),
        str(config.seed),
        {tag: [value for _, value in curves[tag][:epochs]] for tag in CURVES},
    )


def record(runs: list[Run]) -> None:
    with RECORD.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow((*METADATA, *CURVES))
        for run in runs:
            for epoch, values in enumerate(zip(*run.curves.values(), strict=True)):
                writer.writerow((*run[:5], epoch, *(f"{value:.5g}" for value in values)))


def recorded() -> list[Run]:
    """The runs in writeup.csv."""
    runs: dict[tuple[str, str, str, str, str], Run] = {}
    with RECORD.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            metadata = (row["cell"], row["optimizer"], row["lr"], row["batch"], row["seed"])
            run = runs.setdefault(metadata, Run(*metadata, {tag: [] for tag in CURVES}))
            for tag, values in run.curves.items():
                values.append(float(row[tag]))
    return list(runs.values())


def beside_printed(runs: list[Run]) -> str:
    """Per epoch: the printed figures, the mean over seeds, and each seed's test accuracy."""
    seeds = " | ".join(f"seed {run.seed}" for run in runs)
    lines = [
        "| epoch | printed: train loss | acc | test loss | acc "
        f"| ours: train loss | acc | test loss | acc | {seeds} |",
        "|---:" * (9 + len(runs)) + "|",
    ]
    for epoch, printed in enumerate(PRINTED):
        values = {tag: [run.curves[tag][epoch] for run in runs] for tag in CURVES}
        numbers = [*printed, *(mean(values[tag]) for tag in CURVES[:4]), *values["test/acc"]]
        lines.append(f"| {epoch} | " + " | ".join(f"{number:.3f}" for number in numbers) + " |")
    return "\n".join(lines)


def compared(runs: list[Run]) -> str:
    """One row per run: at equal epochs, at equal seconds, and the seconds of an epoch."""
    seconds = min(sum(run.curves["train/seconds"]) for run in runs)
    lines = [
        "| | batch | learning rate | test acc, 1 epoch | 5 epochs | 15 epochs | train acc "
        f"| epochs to 0.6 | test acc after {seconds:.0f} s | seconds an epoch |",
        "|---" + "|---:" * 9 + "|",
    ]
    for run in runs:
        test, train = run.curves["test/acc"], run.curves["train/acc"]
        lines.append(
            f"| {run.name} | {run.batch} | {run.lr} | {test[0]:.3f} | {test[4]:.3f} "
            f"| {test[-1]:.3f} | {train[-1]:.3f} | {run.epochs_to(0.6) or 'never'} "
            f"| {run.within(seconds):.3f} | {mean(run.curves['train/seconds']):.0f} |"
        )
    return "\n".join(lines)


def tables() -> tuple[str, str]:
    """From writeup.csv: all seeds of the first configuration, and one run of each one."""
    runs = recorded()
    same = [run for run in runs if run[:4] == runs[0][:4]]
    return beside_printed(same), compared([run for run in runs if run.seed == runs[0].seed])


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["record", *folders]:
            record([read(folder) for folder in folders])
        case []:
            print("\n\n".join(tables()))
        case _:
            sys.exit(__doc__)
