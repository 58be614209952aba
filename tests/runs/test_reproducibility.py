"""Same seed, machine and number of threads: the same weights, bit by bit."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

import train
from tests.support.commands import RunHere
from trek_lm.runs.folder import LAST, read_metrics

RICH = (
    *("model.ngrams=4", "model.ngram_rows=4096", "model.matches=[3,6]"),
    *("model.dropout=0.3", "model.weight_drop=0.2"),
)
STREAM = ("data.batching=stream", "data.split=position")
# Realistic sizes, so that threads share the work; few steps.
SHORT = (
    *("trainer.max_steps=8", "callbacks.dashboard=null", "data.batch_size=8"),
    *("data.eval_batch_size=8", "+trainer.limit_val_batches=1"),
    "+trainer.limit_test_batches=1",
)


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """pytest-xdist's workers have one thread each."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "settings",
    [
        ("model.engine=native",),
        ("model.engine=torch",),
        pytest.param(
            ("model.engine=torch", "trainer.precision=32-true", "model.layers=2"),
            marks=pytest.mark.slow,
        ),
        ("model.engine=native", "model=gru", "optim=sgd", "model.layers=2"),
        pytest.param(("model.engine=torch", "model=gru", "optim=adagrad"), marks=pytest.mark.slow),
        ("model.engine=native", *RICH),
        ("model.engine=native", *RICH, *STREAM),
    ],
    ids=" ".join,
)
def test_seed_determines_the_weights(settings: tuple[str, ...], run_here: RunHere) -> None:
    found: list[dict[str, Tensor]] = []
    for name, seed in (("a", 7), ("b", 7), ("c", 8))[: 3 if len(settings) == 1 else 2]:
        run_here(train, *settings, *SHORT, f"seed={seed}", f"hydra.run.dir={name}")
        assert read_metrics(Path(name))["threads"] == 2
        found.append(torch.load(Path(name, LAST), weights_only=True)["state_dict"])
    first, second, *others = found
    assert all(torch.equal(first[key], second[key]) for key in first)
    for other in others:
        assert not all(torch.equal(first[key], other[key]) for key in first)
