"""The rows of docs/recipes.md: `python -m tests.benchmarks.recipes NAME... [KEY=VALUE...]`.

Trains `experiment=NAME` with seeds 1, 2 and 3 and the given overrides, such as
`data.split=episode` or `data.root=FOLDER`, as a sweep in outputs/recipes. An interrupted sweep
resumes. Prints means over seeds, with minimum and maximum in brackets, and ten lines by the model
of the first seed.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from statistics import mean
from textwrap import indent
from typing import Any

from tests.support.commands import PROJECT
from trek_lm.generation.api import CharLM
from trek_lm.runs.folder import BEST, read_metrics

SEEDS = (1, 2, 3)
# A column's name, its key in the metrics, a factor, a format, and whether to add minimum and
# maximum.
COLUMNS = {
    "parameters": ("parameters", 1, "{:,}", False),
    "characters seen": ("seen", 1e-6, "{:.1f}M", False),
    "chars/s": ("chars_per_second", 1e-3, "{:.1f}k", False),
    "training, s": ("train_seconds", 1, "{:,.0f}", True),
    "train acc": ("train/acc", 1, "{:.4f}", False),
    "val acc": ("val/acc", 1, "{:.4f}", False),
    "test acc": ("test/acc", 1, "{:.4f}", True),
    "test nats/char": ("test/loss", 1, "{:.3f}", True),
    "test bits/char": ("test/bpc", 1, "{:.3f}", True),
}


def train_seeds(recipe: str, *overrides: str, folder: str, **environment: str) -> list[Path]:
    """Trains a recipe in this folder below outputs/; returns a run's folder for each seed."""
    path = PROJECT / "outputs" / folder
    seeds = f"seed={','.join(map(str, SEEDS))}"
    command = ["train.py", "-m", f"experiment={recipe}", seeds, *overrides]
    ended = subprocess.run(
        [sys.executable, *command, f'hydra.sweep.dir="{path}"'],
        cwd=PROJECT,
        env=os.environ | environment,
        stdout=sys.stderr,
        check=False,
    )
    if ended.returncode:
        sys.exit(f"error: outputs/{folder}: some of its runs did not finish; see above")
    return [path / str(number) for number in range(len(SEEDS))]


def result_overrides(overrides: list[str]) -> list[str]:
    """The overrides that affect results: all but the corpus's folder and Hydra's own."""
    return [item for item in overrides if not item.startswith(("data.root=", "hydra"))]


def folder_name(*parts: str) -> str:
    """A folder name made of these."""
    return re.sub(r"[ ,'/]+", "_", "_".join(parts))


def spread(values: list[float], form: str = "{:.4f}") -> str:
    """The mean, with minimum and maximum in brackets if they differ."""
    if not values:
        return ""
    middle, least, largest = (form.format(f(values)) for f in (mean, min, max))
    return middle if least == largest else f"{middle} ({least} to {largest})"


def cells(runs: list[dict[str, Any]]) -> list[str]:
    """A row's cells; empty if the runs lack that split."""
    seen = [run | {"seen": run["chars_per_second"] * run["train_seconds"]} for run in runs]
    row = []
    for key, times, form, ranges in COLUMNS.values():
        values = [run[key] * times for run in seen if run[key] is not None]
        row.append(spread(values if ranges or not values else [mean(values)], form))
    return row


def main() -> None:
    overrides = [argument for argument in sys.argv[1:] if "=" in argument]
    names = [argument for argument in sys.argv[1:] if "=" not in argument]
    given = result_overrides(overrides)
    folders = {
        name: train_seeds(name, *overrides, folder=f"recipes/{folder_name(name, *given)}")
        for name in names
    }
    print("| recipe |", " | ".join(COLUMNS), "|")
    print("|---|" + "---:|" * len(COLUMNS))
    for name, runs in folders.items():
        recipe = " ".join([name, *given])
        print(f"| `{recipe}` |", " | ".join(cells([read_metrics(run) for run in runs])), "|")
    for name, runs in folders.items():
        print(f"\n{name}, seed 1, temperature 0.5:")
        lm = CharLM.load(runs[0] / BEST)
        lines = lm.generate(n=10, temperature=0.5, seed=1)
        if not lm.speakers:  # each is one text of many lines
            lines = [line for line in lines[0].splitlines() if line][:10]
        print(indent("\n".join(lines), "    "))


if __name__ == "__main__":
    main()
