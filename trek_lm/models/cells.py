"""The recurrent layers a model can be made of, by the names of their cell and their engine.

To add a cell, enter a module class here that is called as `torch.nn.LSTM` is:

    layers = Cell(input_size, hidden_size, num_layers=layers, dropout=dropout)
    outputs, state = layers(inputs, state)  # (T, B, E) to (T, B, H); state: a tensor or several

Configs and checkpoints then name it, and nothing else changes. `model.weight_drop` acts on its
parameters named `weight_hh...`. The engines of a cell compute the same with the same parameters:

- torch: PyTorch's own layers, by oneDNN on a CPU and cuDNN on a GPU.
- native: our own C for training on a CPU (`trek_lm.models.native.sequences`); elsewhere as torch.
- reference: the equations step by step (`trek_lm.models.reference`), slow.
"""

from collections.abc import Callable

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import dropout, embedding

from trek_lm.models.native.sequences import NativeGRU, NativeLSTM
from trek_lm.models.reference import ReferenceGRU, ReferenceLSTM
from trek_lm.models.state import LayersState

CELLS: dict[str, dict[str, type[nn.Module]]] = {
    "lstm": {"torch": nn.LSTM, "native": NativeLSTM, "reference": ReferenceLSTM},
    "gru": {"torch": nn.GRU, "native": NativeGRU, "reference": ReferenceGRU},
}

Weights = dict[str, Tensor]  # instead of the layers' own, by name
Before = LayersState | None  # the state before the first step; None: zeros
Outputs = tuple[Tensor, LayersState]  # (T, B, H), and the state after the last step
# Layers, weights, ids (T, B) of characters, state, their vectors (V, E), dropout on the outputs.
Call = Callable[[nn.Module, Weights, Tensor, Before, Tensor, float], Outputs]


def by_vectors(
    layers: nn.Module, weights: Weights, ids: Tensor, state: Before, vectors: Tensor, p: float
) -> Outputs:
    """Looks the ids up, runs the layers over their vectors, drops out of what comes out."""
    outputs, after = functional_call(layers, weights, (embedding(ids, vectors), state))
    return dropout(outputs, p, layers.training), after


def by_ids(
    layers: nn.Module, weights: Weights, ids: Tensor, state: Before, vectors: Tensor, p: float
) -> Outputs:
    """The same by layers that do all of it themselves."""
    own = {"vectors": vectors, "output_dropout": p}
    outputs: Outputs = functional_call(layers, weights, (ids, state), own)
    return outputs


# How the layers of each engine are called.
CALLS: dict[str, Call] = {"torch": by_vectors, "native": by_ids, "reference": by_vectors}
