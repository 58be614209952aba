"""A model's weights in the order in which steps.c reads them."""

from ctypes import POINTER, Structure, c_int32, c_void_p

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from trek_lm.models.char_lm import RecurrentLM

PANEL = 32  # as in steps.h, whose structures follow


class _Matrix(Structure):
    _fields_ = (("weights", c_void_p), ("bias", c_void_p), ("outputs", c_int32), ("pairs", c_int32))


class _Layer(Structure):
    _fields_ = (
        ("added", c_void_p),
        *((name, _Matrix) for name in ("both", "below", "own")),
        ("own_bias", c_void_p),
    )


class _Model(Structure):
    _fields_ = (
        ("layers", POINTER(_Layer)),
        ("head", POINTER(_Matrix)),
        ("ngrams", c_void_p),
        ("gates", _Matrix),
        ("lengths", c_void_p),
        *((name, c_int32) for name in ("gru", "hidden", "padded", "count", "symbols", "products")),
        *((name, c_int32) for name in ("longest", "ngram_rows", "match_rows", "history")),
    )


class Weights:
    """A model's weights as they are now, those of products of states in bfloat16."""

    def __init__(self, model: RecurrentLM) -> None:
        """For a model of which `can_pack` is true."""
        self._memory: list[Tensor] = []
        self.hidden = model.spec["hidden"]
        self.padded = self.hidden + self.hidden % 2
        self.symbols = model.spec["symbols"]
        layers, head = [], []
        pack = {"lstm": self._lstm_layer, "gru": self._gru_layer}[model.spec["cell"]]
        inputs = model.embedding.weight.detach()  # (V, E)
        assert isinstance(model.recurrent, nn.RNNBase)
        for number, parameters in enumerate(model.recurrent.all_weights):
            W, U, b_W, b_U = (weight.detach() for weight in parameters)
            layers.append(pack(W, U, b_W, b_U, None if number else inputs))
        for product in _linears(model.head):
            head.append(self._linear(product))
        self.layers = len(layers)
        self.head_outputs = [matrix.outputs for matrix in head]
        ngrams, matches = model.ngrams, model.matches
        self.history = model.history
        self.lengths = [] if matches is None else matches.lengths
        self.match_rows = 0 if matches is None else matches.rows
        self.struct = _Model(
            (_Layer * len(layers))(*layers),
            (_Matrix * len(head))(*head),
            None if ngrams is None else self._kept(ngrams.table.weight.detach()),
            _Matrix() if matches is None else self._linear(matches.gates),
            self._kept(torch.tensor(self.lengths, dtype=torch.int32)),
            model.spec["cell"] == "gru",
            self.hidden,
            self.padded,
            len(layers),
            self.symbols,
            len(head),
            1 if ngrams is None else ngrams.lengths[-1],
            0 if ngrams is None else ngrams.rows,
            self.match_rows,
            self.history,
        )

    def _lstm_layer(
        self, W: Tensor, U: Tensor, b_W: Tensor, b_U: Tensor, inputs: Tensor | None
    ) -> _Layer:
        # Gates in the order i, f, o, c.
        W, U, bias = (
            torch.cat([part.chunk(4)[gate] for gate in (0, 1, 3, 2)]) for part in (W, U, b_W + b_U)
        )
        if inputs is None:
            return _Layer(self._kept(bias), self._matrix(W, U))
        return _Layer(self._kept(linear(inputs, W, bias)), self._matrix(U))

    def _gru_layer(
        self, W: Tensor, U: Tensor, b_W: Tensor, b_U: Tensor, inputs: Tensor | None
    ) -> _Layer:
        gates = 2 * self.hidden  # r and z; what follows is of the candidate
        bias = torch.cat([b_W[:gates] + b_U[:gates], b_W[gates:]])
        own, own_bias = self._matrix(U[gates:]), self._kept(b_U[gates:])
        if inputs is None:
            both = self._matrix(W[:gates], U[:gates])
            return _Layer(self._kept(bias), both, self._matrix(W[gates:]), own, own_bias)
        table = self._kept(linear(inputs, W, bias))
        return _Layer(table, self._matrix(U[:gates]), _Matrix(), own, own_bias)

    def _linear(self, product: nn.Linear) -> _Matrix:
        return self._matrix(product.weight.detach(), bias=product.bias.detach())

    def _matrix(self, *weights: Tensor, bias: Tensor | None = None) -> _Matrix:
        """Weights over vectors that stand side by side, each padded to an even width."""
        whole = torch.cat([pad(weight, (0, weight.shape[1] % 2)) for weight in weights], dim=1)
        outputs, pairs = len(whole), whole.shape[1] // 2
        whole = pad(whole, (0, 0, 0, -outputs % PANEL)).bfloat16()
        panels = whole.view(-1, PANEL, pairs, 2).transpose(1, 2)
        return _Matrix(
            self._kept(panels), None if bias is None else self._kept(bias), outputs, pairs
        )

    def _kept(self, tensor: Tensor) -> int:
        """The address of a copy of the tensor that stays as long as this object."""
        self._memory.append(tensor.clone(memory_format=torch.contiguous_format))
        return self._memory[-1].data_ptr()


def can_pack(model: RecurrentLM) -> bool:
    """Whether steps.c can step such a model: in float32 on a CPU, of a cell and head it knows."""
    weight = model.embedding.weight
    parts = [part for part in model.head.modules() if not isinstance(part, nn.Sequential)]
    return (
        (weight.device.type, weight.dtype) == ("cpu", torch.float32)
        and model.spec["cell"] in ("lstm", "gru")
        and isinstance(model.recurrent, nn.LSTM | nn.GRU)
        and all(isinstance(part, nn.Linear | nn.Dropout) for part in parts)
        and len(_linears(model.head)) <= 2
    )


def _linears(head: nn.Module) -> list[nn.Linear]:
    return [part for part in head.modules() if isinstance(part, nn.Linear)]
