"""The state of recurrent layers between two calls: a tensor or a tuple, lines along dimension 1."""

from collections.abc import Sequence

import torch
from torch import Tensor

State = Tensor | tuple[Tensor, ...]


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
