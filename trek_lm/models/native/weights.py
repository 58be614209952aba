"""A model's weights in the order in which steps.c reads them; interface.h has the structures."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from trek_lm.models.char_lm import RecurrentLM
from trek_lm.models.native.build import ffi, library


def packed(model: RecurrentLM) -> "PackedModel | None":
    """The model for steps.c, where that could be built and can step such a model.

    That is one in float32 on a CPU, of a cell and head it knows.
    """
    weight, known = model.embedding.weight, nn.Sequential | nn.Linear | nn.Dropout
    can = (
        (weight.device.type, weight.dtype) == ("cpu", torch.float32)
        and model.settings.cell in ("lstm", "gru")
        and isinstance(model.recurrent, nn.LSTM | nn.GRU)
        and all(isinstance(part, known) for part in model.head.modules())
        and len(_linears(model.head)) <= 2
    )
    lib = library("steps") if can else None
    return None if lib is None else PackedModel(model, lib)


class PackedModel:
    """The built library and a model's weights as they are now, those over states in bfloat16."""

    @torch.no_grad()
    def __init__(self, model: RecurrentLM, lib: Any) -> None:
        self.library = lib
        self._memory: list[Any] = []  # what `struct` points into
        size, gru = model.settings.hidden, model.settings.cell == "gru"
        assert isinstance(model.recurrent, nn.RNNBase)
        layers = [
            self._layer(weights, None if number else model.embedding.weight, gru=gru)
            for number, weights in enumerate(model.recurrent.all_weights)
        ]
        head = [self._linear(product) for product in _linears(model.head)]
        ngrams, matches = model.ngrams, model.matches
        lengths = [] if matches is None else matches.lengths
        self.widest = max(size, *(product["outputs"] for product in head), len(lengths))
        self.struct = ffi.new(
            "model *",
            {
                "layers": self._kept(ffi.new("packed_layer[]", layers)),
                "head": self._kept(ffi.new("matrix[]", head)),
                "ngrams": ffi.NULL if ngrams is None else self._copy(ngrams.table.weight),
                "gates": {} if matches is None else self._linear(matches.gates),
                "lengths": self._kept(ffi.new("int32_t[]", lengths)),
                "gru": gru,
                "hidden": size,
                "padded": size + size % 2,
                "count": len(layers),
                "vocab_size": model.settings.vocab_size,
                "products": len(head),
                "longest": 1 if ngrams is None else ngrams.lengths[-1],
                "ngram_rows": 0 if ngrams is None else ngrams.rows,
                "match_rows": 0 if matches is None else matches.rows,
                "history": model.history,
            },
        )

    def _layer(
        self, weights: Sequence[Tensor], inputs: Tensor | None, *, gru: bool
    ) -> dict[str, Any]:
        """`inputs` `(V, E)`: all there are, of the first layer."""
        W, U, b_W, b_U = weights
        gates = len(U) // 3 * 2 if gru else len(U)  # what follows is of a GRU's candidate
        if not gru:  # in the order i, f, o, c
            by_gate = (part.chunk(4) for part in weights)
            W, U, b_W, b_U = (torch.cat([i, f, o, c]) for i, f, c, o in by_gate)
        bias = torch.cat([b_W[:gates] + b_U[:gates], b_W[gates:]])
        own = {"own": self._matrix(U[gates:]), "own_bias": self._copy(b_U[gates:])}
        if inputs is None:
            both, below = self._matrix(W[:gates], U[:gates]), self._matrix(W[gates:])
            return {"added": self._copy(bias), "both": both, "below": below, **own}
        added = self._copy(linear(inputs, W, bias))
        return {"added": added, "both": self._matrix(U[:gates]), **own}

    def _linear(self, product: nn.Linear) -> dict[str, Any]:
        return {**self._matrix(product.weight), "bias": self._copy(product.bias)}

    def _matrix(self, *weights: Tensor) -> dict[str, Any]:
        """Weights over vectors that stand side by side, each padded to an even width."""
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
        """The same, which stays as long as this object."""
        self._memory.append(owner)
        return owner


def _linears(head: nn.Module) -> list[nn.Linear]:
    return [part for part in head.modules() if isinstance(part, nn.Linear)]
