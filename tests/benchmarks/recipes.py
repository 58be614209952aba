"""The recipes' rows in README: `python -m tests.benchmarks.recipes NAME... [KEY=VALUE...]`.

Trains `experiment=NAME` with seeds 1, 2 and 3, as a sweep that goes on where it was left, in
outputs/recipes, with what else is given, such as `data.split=episode` or `data.root=FOLDER`. Gives
means over seeds, with least and largest in brackets, and ten lines by the first seed's model.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from statistics import mean
from textwrap import indent
from typing import Any

from tests.conftest import PROJECT
from trek_lm.generation.api import CharLM
from trek_lm.runs.folder import BEST, read_metrics

SEEDS = (1, 2, 3)
# A column's name, its place in the figures, what it is there times, how it is written, and whether
# the least and the largest are given too.
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


def trained(recipe: str, *overrides: str, folder: str, **environment: str) -> list[Path]:
    """The folders of a recipe's runs, a seed each, in this one below outputs/."""
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
        sys.exit(f"error: outputs/{folder}: not all of its runs came to their end, see above")
    return [path / str(number) for number in range(len(SEEDS))]


def told(overrides: list[str]) -> list[str]:
    """What makes a run another one: all but where its corpus lies and what starts it."""
    return [part for part in overrides if not part.startswith(("data.root=", "hydra"))]


def folder_name(*parts: str) -> str:
    """The name of a folder for these."""
    return re.sub(r"[ ,'/]+", "_", "_".join(parts))


def spread(values: list[float], form: str = "{:.4f}") -> str:
    """The mean, and where there are several the least and the largest."""
    if not values:
        return ""
    middle, least, largest = (form.format(f(values)) for f in (mean, min, max))
    return middle if least == largest else f"{middle} ({least} to {largest})"


def cells(runs: list[dict[str, Any]]) -> list[str]:
    """A row's figures; nothing where the runs have no such part."""
    seen = [run | {"seen": run["chars_per_second"] * run["train_seconds"]} for run in runs]
    row = []
    for key, times, form, ranges in COLUMNS.values():
        values = [run[key] * times for run in seen if run[key] is not None]
        row.append(spread(values if ranges or not values else [mean(values)], form))
    return row


def main() -> None:
    overrides = [argument for argument in sys.argv[1:] if "=" in argument]
    names = [argument for argument in sys.argv[1:] if "=" not in argument]
    folders = {
        name: trained(name, *overrides, folder=f"recipes/{folder_name(name, *told(overrides))}")
        for name in names
    }
    print("| recipe |", " | ".join(COLUMNS), "|")
    print("|---|" + "---:|" * len(COLUMNS))
    for name, runs in folders.items():
        recipe = " ".join([name, *told(overrides)])
        print(f"| `{recipe}` |", " | ".join(cells([read_metrics(run) for run in runs])), "|")
    for name, runs in folders.items():
        print(f"\n{name}, seed 1, temperature 0.5:")
        lm = CharLM.load(runs[0] / BEST)
        lines = lm.generate(n=10, temperature=0.5, seed=1)
        if not lm.speakers:  # each is a piece of text, over many lines
            lines = [line for line in lines[0].splitlines() if line][:10]
        print(indent("\n".join(lines), "    "))


if __name__ == "__main__":
    main()
