"""Packs a model's weights for steps.c, into the structures of interface.h."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from trek_lm.models.char_lm import RecurrentLM
from trek_lm.models.native.build import ffi, library


def packed(model: RecurrentLM) -> "PackedModel | None":
    """The model packed for steps.c, or None if that wasn't built or doesn't support the model.

    It supports float32 models on a CPU, with a cell and a head that it knows.
    """
    weight, known = model.embedding.weight, nn.Sequential | nn.Linear | nn.Dropout
    supported = (
        (weight.device.type, weight.dtype) == ("cpu", torch.float32)
        and model.settings.cell in ("lstm", "gru")
        and isinstance(model.recurrent, nn.LSTM | nn.GRU)
        and all(isinstance(module, known) for module in model.head.modules())
        and len(_linears(model.head)) <= 2
    )
    lib = library("steps") if supported else None
    return None if lib is None else PackedModel(model, lib)


class PackedModel:
    """The built library and a copy of a model's weights, those that multiply states in bfloat16."""

    @torch.no_grad()
    def __init__(self, model: RecurrentLM, lib: Any) -> None:
        self.library = lib
        self._memory: list[Any] = []  # keeps alive what `struct` points to
        size, gru = model.settings.hidden, model.settings.cell == "gru"
        assert isinstance(model.recurrent, nn.RNNBase)
        layers = [
            self._layer(weights, None if number else model.embedding.weight, gru=gru)
            for number, weights in enumerate(model.recurrent.all_weights)
        ]
        head = [self._linear(linear) for linear in _linears(model.head)]
        ngrams, matches = model.ngrams, model.matches
        lengths = [] if matches is None else matches.lengths
        self.widest = max(size, *(matrix["outputs"] for matrix in head), len(lengths))
        self.struct = ffi.new(
            "model *",
            {
                "layers": self._kept(ffi.new("packed_layer[]", layers)),
                "head": self._kept(ffi.new("matrix[]", head)),
                "ngrams": ffi.NULL if ngrams is None else self._copy(ngrams.table.weight),
                "match_gates": {} if matches is None else self._linear(matches.gates),
                "match_lengths": self._kept(ffi.new("int32_t[]", lengths)),
                "gru": gru,
                "hidden": size,
                "padded": size + size % 2,
                "num_layers": len(layers),
                "vocab_size": model.settings.vocab_size,
                "head_layers": len(head),
                "longest_ngram": 1 if ngrams is None else ngrams.lengths[-1],
                "ngram_rows": 0 if ngrams is None else ngrams.rows,
                "match_rows": 0 if matches is None else matches.rows,
                "history": model.history,
            },
        )

    def _layer(
        self, weights: Sequence[Tensor], inputs: Tensor | None, *, gru: bool
    ) -> dict[str, Any]:
        """A `packed_layer`; `inputs` `(V, E)`: the embedding, for the first layer only."""
        W, U, b_W, b_U = weights
        gates = len(U) // 3 * 2 if gru else len(U)  # rows of the gates; a GRU's candidate follows
        if not gru:  # steps.c has the order i, f, o, c_hat
            by_gate = (weight.chunk(4) for weight in weights)
            W, U, b_W, b_U = (torch.cat([i, f, o, c]) for i, f, c, o in by_gate)
        bias = torch.cat([b_W[:gates] + b_U[:gates], b_W[gates:]])
        layer: dict[str, Any] = {"candidate_hidden": self._matrix(U[gates:])}
        layer |= {"candidate_hidden_bias": self._copy(b_U[gates:])}
        if inputs is None:
            layer |= {"candidate_input": self._matrix(W[gates:]), "bias": self._copy(bias)}
            return layer | {"gates": self._matrix(W[:gates], U[:gates])}
        bias = linear(inputs, W, bias)
        return layer | {"bias": self._copy(bias), "gates": self._matrix(U[:gates])}

    def _linear(self, layer: nn.Linear) -> dict[str, Any]:
        return {**self._matrix(layer.weight), "bias": self._copy(layer.bias)}

    def _matrix(self, *weights: Tensor) -> dict[str, Any]:
        """A `matrix` of weights for concatenated vectors, each padded to an even width."""
        whole = torch.cat([pad(weight, (0, weight.shape[1] % 2)) for weight in weights], dim=1)
        outputs, pairs, panel = len(whole), whole.shape[1] // 2, self.library.PANEL
        whole = pad(whole, (0, 0, 0, -outputs % panel)).bfloat16()
        panels = whole.view(len(whole) // panel, panel, pairs, 2).transpose(1, 2)
        return {"weights": self._copy(panels), "outputs": outputs, "pairs": pairs}

    def _copy(self, tensor: Tensor) -> Any:
        """The address of a copy of the tensor."""
        copy = self._kept(tensor.clone(memory_format=torch.contiguous_format))
        return ffi.cast("void *", copy.data_ptr())

    def _kept(self, owner: Any) -> Any:
        """Returns `owner`, and keeps it alive as long as this object."""
        self._memory.append(owner)
        return owner


def _linears(head: nn.Module) -> list[nn.Linear]:
    return [module for module in head.modules() if isinstance(module, nn.Linear)]
