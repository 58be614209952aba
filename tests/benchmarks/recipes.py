"""The recipes' rows in README: `python -m tests.benchmarks.recipes NAME... [KEY=VALUE...]`.

Trains `experiment=NAME` with seeds 1, 2 and 3, as a sweep that goes on where it was left, in
outputs/recipes, with what else is given, such as `data.split=episode` or `data.root=FOLDER`. Gives
means over seeds, with least and largest in brackets, and ten lines by the first seed's model.
"""

import subprocess
import sys
from pathlib import Path
from statistics import mean
from textwrap import indent
from typing import Any

from tests.conftest import PROJECT
from trek_lm.generation import CharLM
from trek_lm.run_folder import BEST, read_metrics

SEEDS = "1,2,3"
# A column's name, its place in metrics.json, what it is there times, and how it is written.
COLUMNS = {
    "parameters": ("parameters", 1, "{:,}"),
    "training, s": ("train_seconds", 1, "{:.0f}"),
    "chars/s": ("chars_per_second", 1e-3, "{:.1f}k"),
    "train acc": ("train/acc", 1, "{:.4f}"),
    "val acc": ("val/acc", 1, "{:.4f}"),
    "test acc": ("test/acc", 1, "{:.4f}"),
    "test bits/char": ("test/bpc", 1, "{:.3f}"),
    "test nats": ("test/loss", 1, "{:.4f}"),
}


def trained(name: str, overrides: list[str]) -> list[Path]:
    """The folders of a recipe's runs, a seed each."""
    told = [part for part in overrides if not part.startswith("data.root=")]
    folder = PROJECT / "outputs" / "recipes" / "_".join([name, *told]).replace("/", "-")
    command = ["train.py", "-m", f"experiment={name}", f"seed={SEEDS}", *overrides]
    subprocess.run(
        [sys.executable, *command, f'hydra.sweep.dir="{folder}"'],
        cwd=PROJECT,
        stdout=sys.stderr,
        check=True,
    )
    return [folder / str(number) for number in range(SEEDS.count(",") + 1)]


def spread(values: list[float], form: str = "{:.4f}") -> str:
    """The mean, and where there are several the least and the largest."""
    if not values:
        return ""
    middle, least, largest = (form.format(f(values)) for f in (mean, min, max))
    return middle if least == largest else f"{middle} ({least} to {largest})"


def cells(runs: list[dict[str, Any]]) -> list[str]:
    """A row's figures, and the characters seen in training, in millions."""
    row = []
    for key, times, form in COLUMNS.values():
        row.append(spread([run[key] * times for run in runs if run[key] is not None], form))
    seen = mean(run["chars_per_second"] * run["train_seconds"] for run in runs)
    return [f"{seen / 1e6:.1f}M", *row]


def main() -> None:
    overrides = [argument for argument in sys.argv[1:] if "=" in argument]
    names = [argument for argument in sys.argv[1:] if "=" not in argument]
    folders = {name: trained(name, overrides) for name in names}
    print("| recipe | characters seen |", " | ".join(COLUMNS), "|")
    print("|---" * (len(COLUMNS) + 2) + "|")
    for name, runs in folders.items():
        print("|", " | ".join([name, *cells([read_metrics(run) for run in runs])]), "|")
    for name, runs in folders.items():
        print(f"\n{name}, seed 1, temperature 0.5:")
        lm = CharLM.load(runs[0] / BEST)
        for text in lm.generate(n=10 if lm.speakers else 1, temperature=0.5, seed=1):
            print(indent(text, "    "))


if __name__ == "__main__":
    main()
