"""Same seed, same machine, same threads: the same weights, to the bit."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

import train
from tests.conftest import RunHere
from trek_lm.runs.folder import LAST

# Of the sizes that people train, where several threads share the work.
RICH = ("model.ngrams=4", "model.matches=[3,6]", "model.dropout=0.3", "model.weight_drop=0.2")
STREAM = ("data.batching=stream", "data.split=position")


@pytest.mark.parametrize(
    "settings",
    [
        ("model.engine=native",),
        ("model.engine=torch",),
        ("model.engine=torch", "trainer.precision=32-true", "model.layers=2"),
        ("model.engine=native", "model=gru", "optim=sgd", "model.layers=2"),
        ("model.engine=torch", "model=gru", "optim=adagrad"),
        ("model.engine=native", *RICH),
        ("model.engine=native", *RICH, *STREAM),
    ],
    ids=" ".join,
)
def test_the_same_weights(
    settings: tuple[str, ...], tmp_path: Path, run_here: RunHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def weights(name: str, seed: int) -> dict[str, Tensor]:
        short = (
            *("trainer.max_steps=8", "callbacks.dashboard=null", "data.eval_batch_size=8"),
            *("+trainer.limit_val_batches=1", "+trainer.limit_test_batches=1"),
        )
        run_here(train, *settings, *short, f"seed={seed}", f"hydra.run.dir={name}")
        content = torch.load(Path(name, LAST), weights_only=True)
        state: dict[str, Tensor] = content["state_dict"]
        return state

    first, second, other = weights("a", 7), weights("b", 7), weights("c", 8)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)
