"""The recurrent layers by cell and engine: the choices of `model.cell` and `model.engine`.

To add a cell, enter a module class in `CELLS` that has the interface of `torch.nn.LSTM`:

    layers = Cell(input_size, hidden_size, num_layers=layers, dropout=dropout)
    outputs, state = layers(inputs, state)  # (T, B, E) to (T, B, H); state: a tensor or a tuple

Configs and checkpoints refer to it by its name; nothing else changes. `model.weight_drop` acts on
its parameters named `weight_hh...`. The engines of a cell have the same parameters and results:

- torch: PyTorch's layers, which use oneDNN on a CPU and cuDNN on a GPU.
- native: our C for training on a CPU (`trek_lm.models.native.sequences`); falls back to torch.
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

Weights = dict[str, Tensor]  # replace the layers' parameters of these names
Initial = LayersState | None  # the state before the first step; None: zeros
Outputs = tuple[Tensor, LayersState]  # (T, B, H), and the state after the last step
# Layers, weights, ids (T, B), state, embedding vectors (V, E), dropout on the outputs.
Run = Callable[[nn.Module, Weights, Tensor, Initial, Tensor, float], Outputs]


def run_on_vectors(
    layers: nn.Module, weights: Weights, ids: Tensor, state: Initial, vectors: Tensor, p: float
) -> Outputs:
    """Embeds the ids, runs the layers and applies dropout to their outputs."""
    outputs, after = functional_call(layers, weights, (embedding(ids, vectors), state))
    return dropout(outputs, p, layers.training), after


def run_on_ids(
    layers: nn.Module, weights: Weights, ids: Tensor, state: Initial, vectors: Tensor, p: float
) -> Outputs:
    """The same for layers that embed and drop out themselves."""
    options = {"vectors": vectors, "output_dropout": p}
    outputs: Outputs = functional_call(layers, weights, (ids, state), options)
    return outputs


RUN: dict[str, Run] = {"torch": run_on_vectors, "native": run_on_ids, "reference": run_on_vectors}
