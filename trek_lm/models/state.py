"""What a model carries from one call to the next."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

LayersState = Tensor | tuple[Tensor, ...]  # of recurrent layers, as torch.nn's GRU and LSTM have it


class State(NamedTuple):
    """The state of B lines side by side; in each tensor they lie along dimension 1."""

    recurrent: tuple[Tensor, ...]  # the recurrent layers': an LSTM's h and c, each (layers, B, H)
    seen: Tensor | None = None  # (history, B): the last ids, counted from 1; 0: before the first
    matches: Tensor | None = None  # the table of `matches`, which the next call writes into


def detach(state: State) -> State:
    """The same state, cut off from the graph of the steps that led to it."""
    return _each(state, Tensor.detach)


def move(state: State, device: torch.device) -> State:
    """A copy of the state, on that device."""
    return _each(state, lambda part: part.to(device, copy=True))


def select(state: State, rows: Sequence[int]) -> State:
    """The state of these lines, in this order."""
    return _each(state, lambda part: part[:, rows])


def restart(state: State, rows: Sequence[int]) -> None:
    """Puts these lines at a zero state, in place."""
    for part in (*state.recurrent, state.seen, state.matches):
        if part is not None:
            part[:, rows] = 0


def _each(state: State, change: Callable[[Tensor], Tensor]) -> State:
    recurrent = tuple(change(part) for part in state.recurrent)
    return State(recurrent, *(part if part is None else change(part) for part in state[1:]))
