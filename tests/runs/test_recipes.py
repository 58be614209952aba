"""The recipes: their sizes in docs/recipes.md, a short run of each, and (slow) their results."""

import re
from pathlib import Path

import pytest
from hydra.utils import instantiate

import train
from tests.support.commands import PROJECT, Cli, RunHere, composed
from trek_lm.runs.folder import read_metrics

# A recipe, its corpus below `real_data`, the corpus's vocabulary size.
RECIPES = [
    ("fast", "startrek/tos", 72),
    ("best", "startrek/tos", 72),
    ("fast_shakespeare", "tinyshakespeare", 65),
    ("best_shakespeare", "tinyshakespeare", 65),
]


@pytest.mark.parametrize(
    ("recipe", "characters"), [(name, characters) for name, _, characters in RECIPES]
)
def test_the_docs_have_their_sizes(recipe: str, characters: int) -> None:
    page = (PROJECT / "docs/recipes.md").read_text(encoding="utf-8")
    rows = re.findall(rf"^\| `{recipe}( [^`]*)?` \| ([\d,]+) \|", page, re.MULTILINE)
    assert rows
    for overrides, size in rows:
        config = composed(f"experiment={recipe}", *overrides.split())
        model = instantiate(config.model, vocab_size=characters, engine="torch")
        assert f"{sum(parameter.numel() for parameter in model.parameters()):,}" == size


@pytest.mark.parametrize(("recipe", "corpus"), [(name, corpus) for name, corpus, _ in RECIPES])
def test_each_recipe_runs(run_here: RunHere, real_data: Path, recipe: str, corpus: str) -> None:
    """On its own corpus and split, narrower and for two steps."""
    sizes = ("model.hidden=16", "model.embedding=8", "model.ngram_rows=64", "model.match_rows=64")
    short = ("trainer.max_steps=2", "+trainer.limit_test_batches=9", "hydra.run.dir=run")
    root = f"data.root={real_data / corpus}"
    run_here(train, f"experiment={recipe}", root, *sizes, *short)
    metrics = read_metrics(Path("run"))
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
def test_short_recipes_reach_their_figures(
    run_cli: Cli,
    real_data: Path,
    tmp_path: Path,
    recipe: str,
    corpus: str,
    figure: str,
    least: float,
    most: float,
) -> None:
    """The write-up's accuracy, and a loss below the best earlier short run."""
    root = f"data.root={real_data / corpus}"
    arguments = (f"experiment={recipe}", root, "hydra.run.dir=run")
    done = run_cli("train.py", *arguments, cwd=tmp_path, timeout=1800)
    assert done.returncode == 0, done.stderr
    metrics = read_metrics(tmp_path / "run")
    assert least <= metrics[figure] <= most
