"""`torch.nn.LSTM` and `torch.nn.GRU` for training, computed by forward.c and backward.c.

Products are float32; under autocast they and the outputs are bfloat16, sums and cell states stay
float32. The modules fall back to torch's for another device or dtype, other arguments, or if there
is no compiler.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from trek_lm.models.native.build import ffi, library
from trek_lm.models.state import LayersState


class NativeRNN(nn.RNNBase):
    """The forward pass of both cells."""

    def forward(
        self,
        inputs: Tensor,
        state: LayersState | None = None,
        *,
        vectors: Tensor | None = None,
        output_dropout: float = 0.0,
    ) -> tuple[Tensor, LayersState]:
        """Outputs `(T, B, H)` and the state after the last step, for inputs `(T, B, E)`.

        With `vectors` `(V, E)` the inputs are ids `(T, B)`, which is faster: the first layer's
        product is computed once for each vector. `output_dropout` is applied to the outputs in
        training. Raises IndexError for an id outside `vectors`.
        """
        if not inputs.numel() or not self._can_run(inputs if vectors is None else vectors):
            if vectors is not None:
                inputs = functional.embedding(inputs, vectors)
            outputs, state = super().forward(inputs, state)
            return functional.dropout(outputs, output_dropout, self.training), state
        if vectors is None:
            vectors = inputs.flatten(0, 1)
            inputs = torch.arange(len(vectors)).view(inputs.shape[:2])
        elif not 0 <= int(inputs.min()) <= int(inputs.max()) < len(vectors):
            raise IndexError("index out of range in self")  # torch's message
        lstm, size = isinstance(self, nn.LSTM), (self.num_layers, inputs.shape[1], self.hidden_size)
        if state is None:
            state = (torch.zeros(size), torch.zeros(size)) if lstm else torch.zeros(size)
        h0, c0 = state if isinstance(state, tuple) else (state, None)
        for tensor in state if isinstance(state, tuple) else (state,):
            self.check_hidden_size(tensor, size)
        with torch.autocast("cpu", enabled=False):
            table = functional.linear(vectors.float(), self.all_weights[0][0])
        _, *weights = (weight for layer in self.all_weights for weight in layer)
        dropouts = (self.dropout, output_dropout) if self.training else (0.0, 0.0)
        outputs, hn, cn = _Sequences.apply(  # type: ignore[no-untyped-call]
            inputs, dropouts, table, h0, c0, None, *weights
        )
        return outputs, (hn, cn) if lstm else hn

    def _can_run(self, vectors: Tensor) -> bool:
        """Whether the C supports these layers and inputs."""
        autocast = torch.is_autocast_enabled("cpu")
        weights = (vectors, *self.parameters())
        return (
            all((w.device.type, w.dtype) == ("cpu", torch.float32) for w in weights)
            and (not autocast or torch.get_autocast_dtype("cpu") == torch.bfloat16)
            and self.bias
            and not (self.batch_first or self.bidirectional or self.proj_size)
            and library("sequences") is not None
        )


class NativeLSTM(NativeRNN, nn.LSTM):  # type: ignore[misc]
    """`torch.nn.LSTM` in C; with biases, unidirectional, time first."""


class NativeGRU(NativeRNN, nn.GRU):  # type: ignore[misc]
    """`torch.nn.GRU` in C; with biases, unidirectional, time first."""


class _Buffer:
    """Memory for one pass, from a pool to which it returns when this object is deleted.

    Getting fresh memory from the system for each step would take a tenth of the time.
    """

    free: ClassVar[dict[str, list[Tensor]]] = {}

    def __init__(self, purpose: str, size: int) -> None:
        self._pool = self.free.setdefault(purpose, [])
        self._bytes = self._pool.pop() if self._pool else torch.empty(0, dtype=torch.uint8)
        if len(self._bytes) < size:
            self._bytes = torch.empty(size, dtype=torch.uint8)
        self.address = _ptr(self._bytes)

    def __del__(self) -> None:
        self._pool.append(self._bytes)


class _Sequences(torch.autograd.Function):
    """(ids (T, B), both dropouts, table, h0, c0, all layers' weights) to (outputs, hn, cn).

    The table `(V, gates * H)` has the first layer's products W x; that layer's W is None.
    """

    @staticmethod
    def forward(
        ctx: Any,
        ids: Tensor,
        dropouts: tuple[float, float],
        table: Tensor,
        h0: Tensor,
        c0: Tensor | None,
        *weights: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        lib = library("sequences")
        bf16 = torch.is_autocast_enabled("cpu")
        layers, rows, hidden = h0.shape
        sizes = (len(ids), rows, len(table), hidden, layers, torch.get_num_threads())
        seed = int(torch.randint(2**32, ())) if any(dropouts) else 0
        shape = ffi.new("shape *", (c0 is None, bf16, *sizes, *dropouts, seed))
        ids, table = ids.long().contiguous(), table.contiguous()
        h0, c0 = h0.float().contiguous(), None if c0 is None else c0.float().contiguous()
        weights = tuple(None if weight is None else weight.contiguous() for weight in weights)
        outputs = torch.empty(*ids.shape, hidden, dtype=torch.bfloat16 if bf16 else None)
        hn, cn = torch.empty_like(h0), None if c0 is None else torch.empty_like(c0)
        arrays = ffi.new("forward_arrays *", [*map(_ptr, (ids, table, h0, c0, outputs, hn, cn))])
        ctx.tape = _Buffer("tape", lib.tape_size(shape))
        work = _Buffer("forward", lib.forward_size(shape))
        parameters = _parameters(weights, [None] * len(weights))
        lib.forward(shape, parameters, arrays, ctx.tape.address, work.address)
        ctx.shape = shape
        ctx.save_for_backward(ids, *weights)
        return outputs, hn, cn

    @staticmethod
    def backward(
        ctx: Any, outputs: Tensor, hn: Tensor, cn: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("native engine has no second derivative; use model.engine=reference")
        lib, shape = library("sequences"), ctx.shape
        ids, *weights = ctx.saved_tensors
        gradients = [None if weight is None else torch.empty_like(weight) for weight in weights]
        table = torch.empty(shape.vocab_size, len(weights[1]))
        h0 = torch.empty(shape.layers, shape.rows, shape.hidden)
        c0 = None if shape.gru else torch.empty_like(h0)
        given = [None if tensor is None else tensor.contiguous() for tensor in (outputs, hn, cn)]
        arrays = ffi.new("backward_arrays *", [*map(_ptr, (ids, *given, table, h0, c0))])
        work = _Buffer("backward", lib.backward_size(shape))
        parameters = _parameters(weights, gradients)
        lib.backward(shape, parameters, arrays, ctx.tape.address, work.address)
        return None, None, table, h0, c0, *gradients


def _parameters(weights: Sequence[Tensor | None], gradients: Sequence[Tensor | None]) -> Any:
    """The addresses of each layer's four weights and of their gradients."""
    layers = [
        [*map(_ptr, (*weights[at : at + 4], *gradients[at : at + 4]))]
        for at in range(0, len(weights), 4)
    ]
    return ffi.new("parameters[]", layers)


def _ptr(tensor: Tensor | None) -> Any:
    """The address of a tensor's data, which the caller must keep alive."""
    return ffi.NULL if tensor is None else ffi.cast("void *", tensor.data_ptr())
