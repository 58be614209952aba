"""The state that a model carries from one call to the next."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

LayersState = Tensor | tuple[Tensor, ...]  # of recurrent layers: h of nn.GRU, (h, c) of nn.LSTM


class State(NamedTuple):
    """The state of B lines in parallel; dimension 1 of each tensor is the line."""

    recurrent: tuple[Tensor, ...]  # of the recurrent layers: h, of an LSTM also c; (layers, B, H)
    seen: Tensor | None = None  # (history, B): the last ids, counted from 1; 0: before the first
    matches: Tensor | None = None  # the table of `matches`, which the next call updates in place


def detach(state: State) -> State:
    """The same state, detached from the autograd graph."""
    return _each(state, Tensor.detach)


def move(state: State, device: torch.device) -> State:
    """A copy of the state on a device."""
    return _each(state, lambda tensor: tensor.to(device, copy=True))


def select(state: State, rows: Sequence[int]) -> State:
    """The state of these lines, in this order."""
    return _each(state, lambda tensor: tensor[:, rows])


def restart(state: State, rows: Sequence[int]) -> None:
    """Sets these lines to the zero state, in place."""
    for tensor in (*state.recurrent, state.seen, state.matches):
        if tensor is not None:
            tensor[:, rows] = 0


def _each(state: State, change: Callable[[Tensor], Tensor]) -> State:
    recurrent = tuple(change(tensor) for tensor in state.recurrent)
    return State(recurrent, *(None if tensor is None else change(tensor) for tensor in state[1:]))
