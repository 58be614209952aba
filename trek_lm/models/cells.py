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

from torch import nn

from trek_lm.models.native.sequences import NativeGRU, NativeLSTM
from trek_lm.models.reference import ReferenceGRU, ReferenceLSTM

CELLS: dict[str, dict[str, type[nn.Module]]] = {
    "lstm": {"torch": nn.LSTM, "native": NativeLSTM, "reference": ReferenceLSTM},
    "gru": {"torch": nn.GRU, "native": NativeGRU, "reference": ReferenceGRU},
}
