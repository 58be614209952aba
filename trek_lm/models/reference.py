"""The LSTM and the GRU cell as the write-up prints their equations, one step at a time.

Slow and plain: the tests compare every fast implementation with it, and `model.engine=reference`
trains with it. docs/theory.md answers questions about the equations.

The printed equations have no biases: leave out `b_W` and `b_U` to get them. `W` and `U` stack the
gates in torch's order. The modules are torch's with another forward pass, so the names, layout and
initial values of their weights are torch's.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn, sigmoid, tanh
from torch.nn.functional import dropout, linear

from trek_lm.models.state import LayersState


class Weights(NamedTuple):
    """The parameters of one layer with G gates of H units, for inputs of size E."""

    W: Tensor  # (G * H, E): torch's weight_ih
    U: Tensor  # (G * H, H): torch's weight_hh
    b_W: Tensor | None = None  # (G * H,): torch's bias_ih
    b_U: Tensor | None = None  # (G * H,): torch's bias_hh


class LSTMGates(NamedTuple):
    """The gates and the candidate of an LSTM cell, each `(B, H)`."""

    i: Tensor  # input gate: how much of the candidate is added to the cell state
    f: Tensor  # forget gate: how much of the old cell state is kept
    o: Tensor  # output gate: how much of the cell state goes into the hidden state
    c_hat: Tensor  # candidate cell state


class GRUGates(NamedTuple):
    """The gates and the candidate of a GRU cell, each `(B, H)`."""

    z: Tensor  # update gate: how much of the old state is kept
    r: Tensor  # reset gate: how much of the old state goes into the candidate
    h_hat: Tensor  # candidate hidden state


LSTMState = tuple[Tensor, Tensor]  # hidden state h and cell state c, each (B, H)
GRUState = tuple[Tensor]  # hidden state h (B, H)


def lstm_gates(x: Tensor, h: Tensor, weights: Weights) -> LSTMGates:
    """The gates for an input x `(B, E)` and the previous h `(B, H)`; torch's order: i, f, c, o."""
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
    """The gates for an input x `(B, E)` and the previous h `(B, H)`; torch's order: r, z, h.

    The reset gate multiplies U h, as in the write-up and in torch; Cho et al. 2014 multiply h by
    it before the product with U.
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
    """The state after x; here z keeps the old state, elsewhere it admits the candidate."""
    (h,) = state
    z, _, h_hat = gru_gates(x, h, weights)
    return (z * h + (1 - z) * h_hat,)


class _ReferenceRNN(nn.RNNBase):
    """The forward pass of both cells: layer by layer, step by step."""

    def forward(
        self, inputs: Tensor, state: LayersState | None = None
    ) -> tuple[Tensor, LayersState]:
        """Outputs `(T, B, H)` and the state after the last step, for inputs `(T, B, E)`."""
        lstm = isinstance(self, nn.LSTM)
        step: Callable[..., tuple[Tensor, ...]] = lstm_step if lstm else gru_step
        if state is None:
            zeros = inputs.new_zeros(self.num_layers, inputs.shape[1], self.hidden_size)
            state = (zeros, zeros) if lstm else zeros
        initial = zip(*((state,) if isinstance(state, Tensor) else state), strict=True)
        final = []
        for layer, (h_and_c, weights) in enumerate(zip(initial, self.all_weights, strict=True)):
            if layer > 0:
                inputs = dropout(inputs, self.dropout, self.training)
            outputs = []
            for x in inputs:  # (B, E)
                h_and_c = step(x, h_and_c, Weights(*weights))  # of a GRU: h alone
                outputs.append(h_and_c[0])
            inputs = torch.stack(outputs)  # (T, B, H): the next layer's inputs
            final.append(h_and_c)
        after = [torch.stack(tensors) for tensors in zip(*final, strict=True)]
        return inputs, after[0] if isinstance(state, Tensor) else tuple(after)


class ReferenceLSTM(_ReferenceRNN, nn.LSTM):  # type: ignore[misc]
    """`torch.nn.LSTM` with `lstm_step`; unidirectional, time first."""


class ReferenceGRU(_ReferenceRNN, nn.GRU):  # type: ignore[misc]
    """`torch.nn.GRU` with `gru_step`; unidirectional, time first."""
