"""The recipes: run as typed, with README's sizes; what the short ones reach is a slow proof."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate

from tests.conftest import PROJECT, Cli
from tests.runs.test_writeup import composed

# A recipe, its corpus in the folder of real ones, how many characters that one has.
RECIPES = [
    ("fast", "startrek/tos", 72),
    ("best", "startrek/tos", 72),
    ("fast_shakespeare", "tinyshakespeare", 65),
    ("best_shakespeare", "tinyshakespeare", 65),
]


@pytest.mark.parametrize(("recipe", "symbols"), [(name, symbols) for name, _, symbols in RECIPES])
def test_readme_has_their_sizes(recipe: str, symbols: int) -> None:
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(rf"^\| `{recipe}( [^`]*)?` \| ([\d,]+) \|", readme, re.MULTILINE)
    assert rows
    for overrides, size in rows:
        config = composed(f"experiment={recipe}", *overrides.split())
        model = instantiate(config.model, vocab_size=symbols, engine="torch")
        assert f"{sum(parameter.numel() for parameter in model.parameters()):,}" == size


def figures(run_cli: Cli, folder: Path, *arguments: str) -> dict[str, Any]:
    done = run_cli("train.py", *arguments, "hydra.run.dir=run", cwd=folder, timeout=1800)
    assert done.returncode == 0, done.stderr
    metrics: dict[str, Any] = json.loads((folder / "run/metrics.json").read_text())
    return metrics


@pytest.mark.parametrize(("recipe", "corpus"), [(name, corpus) for name, corpus, _ in RECIPES])
def test_each_runs(run_cli: Cli, real_data: Path, tmp_path: Path, recipe: str, corpus: str) -> None:
    """On its own corpus and split, narrower and for two steps."""
    small = ("model.hidden=16", "model.embedding=8", "trainer.max_steps=2")
    root = f"data.root={real_data / corpus}"
    metrics = figures(run_cli, tmp_path, f"experiment={recipe}", root, *small)
    assert (metrics["status"], metrics["steps"]) == ("finished", 2)
    lines = corpus == "startrek/tos"
    share = metrics["test_chars"] / sum(
        metrics[f"{part}_chars"] or 0 for part in ("train", "val", "test")
    )
    assert share == pytest.approx(0.3 if lines else 0.1, abs=0.005)
    assert (metrics["val/acc"] is not None) == lines
    assert metrics["test/acc"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "corpus", "figure", "least", "most"),
    [
        ("fast", "startrek/tos", "test/acc", 0.642, 1),
        ("fast_shakespeare", "tinyshakespeare", "test/loss", 0, 1.42),
    ],
)
def test_what_they_were_made_for(
    run_cli: Cli,
    real_data: Path,
    tmp_path: Path,
    recipe: str,
    corpus: str,
    figure: str,
    least: float,
    most: float,
) -> None:
    """The write-up's accuracy; a loss below what the best short run had before."""
    root = f"data.root={real_data / corpus}"
    metrics = figures(run_cli, tmp_path, f"experiment={recipe}", root)
    assert least <= metrics[figure] <= most
