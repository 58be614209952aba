"""The recurrent layers a model can be made of: by the name of a cell and of its engine.

Either is a module class with `torch.nn.LSTM`'s interface, `(input_size, hidden_size, num_layers,
dropout)` and `(inputs (T, B, E), state) -> (outputs (T, B, H), state)`, whose state is a tensor
or a tuple of tensors. Entered here it can be named in a config and in a checkpoint. The engines
of a cell compute the same with the same parameters; weights move from one to the other.

- torch: PyTorch's own layers, by oneDNN on a CPU and cuDNN on a GPU.
- native: our own C for training on a CPU (`trek_lm.native.sequences`); elsewhere as torch.
- reference: the equations step by step (`trek_lm.models.cells`), slow.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trek_lm.models.cells import ReferenceGRU, ReferenceLSTM
from trek_lm.native.sequences import NativeGRU, NativeLSTM

State = Tensor | tuple[Tensor, ...]

CELLS: dict[str, dict[str, type[nn.Module]]] = {
    "lstm": {"torch": nn.LSTM, "native": NativeLSTM, "reference": ReferenceLSTM},
    "gru": {"torch": nn.GRU, "native": NativeGRU, "reference": ReferenceGRU},
}


def detach(state: State) -> State:
    """The same state, cut off from the graph of the steps that led to it."""
    return state.detach() if isinstance(state, Tensor) else tuple(part.detach() for part in state)


def move(state: State, device: torch.device) -> State:
    """The same state on that device, a copy of it."""
    if isinstance(state, Tensor):
        return state.to(device, copy=True)
    return tuple(part.to(device, copy=True) for part in state)


def select(state: State, rows: Sequence[int]) -> State:
    """The state of these lines of a batch, in this order."""
    if isinstance(state, Tensor):
        return state[:, rows]
    return tuple(part[:, rows] for part in state)


def restart(state: State, rows: Sequence[int]) -> None:
    """Puts these lines of a batch at a zero state, in place."""
    for part in (state,) if isinstance(state, Tensor) else state:
        part[:, rows] = 0
