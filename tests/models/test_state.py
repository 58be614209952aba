from pathlib import Path
from typing import Any

import pytest
import torch

from trek_lm.models.char_lm import RecurrentLM
from trek_lm.models.state import State, detach, move, restart, select

OPTIONS: list[dict[str, Any]] = [{}, {"ngrams": 3}, {"ngrams": 2, "matches": [3]}]


def model_of(cell: str, options: dict[str, Any]) -> RecurrentLM:
    return RecurrentLM(9, cell=cell, hidden=4, ngram_rows=16, match_rows=8, **options)


def tensors(state: State) -> list[torch.Tensor]:
    return [t for t in (*state.recurrent, state.seen, state.matches) if t is not None]


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("options", OPTIONS)
def test_lines_are_selected_along_dimension_1(cell: str, options: dict[str, Any]) -> None:
    _, state = model_of(cell, options)(torch.randint(9, (7, 3)))
    kept = select(state, [2, 0])
    for part, whole in zip(tensors(kept), tensors(state), strict=True):
        assert torch.equal(part, whole[:, [2, 0]])
    copied = move(detach(state), torch.device("cpu"))
    restart(copied, [1])
    for part, whole in zip(tensors(copied), tensors(state), strict=True):
        assert not part.requires_grad
        assert not part[:, 1].any()
        assert torch.equal(part[:, [0, 2]], whole[:, [0, 2]])


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("options", OPTIONS)
def test_state_is_saved_as_plain_data(cell: str, options: dict[str, Any], tmp_path: Path) -> None:
    _, state = model_of(cell, options)(torch.randint(9, (7, 3)))
    torch.save(detach(state)._asdict(), tmp_path / "state")
    found = State(**torch.load(tmp_path / "state", weights_only=True))
    assert [part is None for part in found] == [part is None for part in state]
    for part, whole in zip(tensors(found), tensors(state), strict=True):
        assert torch.equal(part, whole)
