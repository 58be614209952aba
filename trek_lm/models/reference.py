"""The LSTM and the GRU cell as the write-up prints their equations, one step at a time.

Slow, plain and readable aloud: the oracle that every fast path is held against, and with
`model.engine=reference` an engine to train with. THEORY.md beside this file asks what follows
from the equations.

The printed equations have no biases; without `b_W` and `b_U` these are the printed ones. Gates
stand one below the other in `W` and `U`, in torch's order, and the modules are torch's own with
another forward pass: names, layout and initial values of their weights are the same.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn, sigmoid, tanh
from torch.nn.functional import dropout, linear

from trek_lm.models.state import LayersState


class Weights(NamedTuple):
    """One layer's parameters: G gates of H units over an input of E numbers."""

    W: Tensor  # (G * H, E): torch's weight_ih
    U: Tensor  # (G * H, H): torch's weight_hh
    b_W: Tensor | None = None  # (G * H,): torch's bias_ih
    b_U: Tensor | None = None  # (G * H,): torch's bias_hh


class LSTMGates(NamedTuple):
    """What an LSTM cell computes before it remembers: four of `(B, H)`."""

    i: Tensor  # input gate: how much of the candidate is let in
    f: Tensor  # forget gate: how much of the old cell state is kept
    o: Tensor  # output gate: how much of the cell state is shown
    c_hat: Tensor  # candidate cell state


class GRUGates(NamedTuple):
    """What a GRU cell computes before it mixes old and new: three of `(B, H)`."""

    z: Tensor  # update gate: how much of the old state is kept
    r: Tensor  # reset gate: how much of the old state the candidate depends on
    h_hat: Tensor  # candidate state


LSTMState = tuple[Tensor, Tensor]  # hidden state h and cell state c, each (B, H)
GRUState = tuple[Tensor]  # hidden state h (B, H)


def lstm_gates(x: Tensor, h: Tensor, weights: Weights) -> LSTMGates:
    """The gates for an input x `(B, E)` after a hidden state h `(B, H)`; torch's order is ifco."""
    W, U, b_W, b_U = weights
    Wx_i, Wx_f, Wx_c, Wx_o = linear(x, W, b_W).chunk(4, dim=-1)
    Uh_i, Uh_f, Uh_c, Uh_o = linear(h, U, b_U).chunk(4, dim=-1)
    return LSTMGates(
        i=sigmoid(Wx_i + Uh_i),
        f=sigmoid(Wx_f + Uh_f),
        o=sigmoid(Wx_o + Uh_o),
        c_hat=tanh(Wx_c + Uh_c),
    )


def lstm_step(x: Tensor, state: LSTMState, weights: Weights) -> LSTMState:
    """The state after x. Hochreiter and Schmidhuber 1997, forget gate by Gers et al. 2000."""
    h, c = state
    i, f, o, c_hat = lstm_gates(x, h, weights)
    c = f * c + i * c_hat
    return o * tanh(c), c


def gru_gates(x: Tensor, h: Tensor, weights: Weights) -> GRUGates:
    """The gates for an input x `(B, E)` after a hidden state h `(B, H)`; torch's order is rzh.

    The reset gate multiplies U h, as in the write-up and in torch; in the equations of Cho et
    al. 2014 it multiplies h, inside the product with U.
    """
    W, U, b_W, b_U = weights
    Wx_r, Wx_z, Wx_h = linear(x, W, b_W).chunk(3, dim=-1)
    Uh_r, Uh_z, Uh_h = linear(h, U, b_U).chunk(3, dim=-1)
    r = sigmoid(Wx_r + Uh_r)
    return GRUGates(
        z=sigmoid(Wx_z + Uh_z),
        r=r,
        h_hat=tanh(Wx_h + r * Uh_h),
    )


def gru_step(x: Tensor, state: GRUState, weights: Weights) -> GRUState:
    """The state after x; z keeps the old state, elsewhere in the literature it lets in the
    candidate."""
    (h,) = state
    z, _, h_hat = gru_gates(x, h, weights)
    return (z * h + (1 - z) * h_hat,)


class _ReferenceRNN(nn.RNNBase):
    """What both cells have in common: layer by layer, step by step."""

    def forward(
        self, inputs: Tensor, state: LayersState | None = None
    ) -> tuple[Tensor, LayersState]:
        """Outputs `(T, B, H)` and the state after the last step, for inputs `(T, B, E)`."""
        lstm = isinstance(self, nn.LSTM)
        step: Callable[..., tuple[Tensor, ...]] = lstm_step if lstm else gru_step
        if state is None:
            zeros = inputs.new_zeros(self.num_layers, inputs.shape[1], self.hidden_size)
            state = (zeros, zeros) if lstm else zeros
        starts = zip(*((state,) if isinstance(state, Tensor) else state), strict=True)
        ends = []
        for layer, (end, weights) in enumerate(zip(starts, self.all_weights, strict=True)):
            if layer > 0:
                inputs = dropout(inputs, self.dropout, self.training)
            outputs = []
            for x in inputs:  # (B, E)
                end = step(x, end, Weights(*weights))
                outputs.append(end[0])
            inputs = torch.stack(outputs)  # (T, B, H): what the next layer is given
            ends.append(end)
        after = [torch.stack(part) for part in zip(*ends, strict=True)]
        return inputs, after[0] if isinstance(state, Tensor) else tuple(after)


class ReferenceLSTM(_ReferenceRNN, nn.LSTM):  # type: ignore[misc]
    """`torch.nn.LSTM` by `lstm_step`; in one direction, the steps first."""


class ReferenceGRU(_ReferenceRNN, nn.GRU):  # type: ignore[misc]
    """`torch.nn.GRU` by `gru_step`; in one direction, the steps first."""
