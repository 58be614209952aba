"""The recurrent layers a model can be made of: by the name of a cell and of its engine.

Either is a module class with `torch.nn.LSTM`'s interface, `(input_size, hidden_size, num_layers,
dropout)` and `(inputs (T, B, E), state) -> (outputs (T, B, H), state)`, whose state is a tensor
or a tuple of tensors; `model.weight_drop` is for parameters named `weight_hh...`. Entered here it
can be named in a config and in a checkpoint. The engines of a cell compute the same with the same
parameters; weights move from one to the other.

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
