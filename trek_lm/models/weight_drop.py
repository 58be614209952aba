"""Dropout on the recurrent weights (weight drop, DropConnect).

S. Merity et al., Regularizing and optimizing LSTM language models, 2018: the same weights are
dropped at all steps of a batch, so no step erases the hidden state.
"""

from torch import Tensor, nn
from torch.nn.functional import dropout


def recurrent_weights(layers: nn.Module) -> dict[str, Tensor]:
    """The hidden-to-hidden weights by their torch names, such as `weight_hh_l0`."""
    return {name: w for name, w in layers.named_parameters() if name.startswith("weight_hh")}


def drop_weights(layers: nn.Module, p: float) -> dict[str, Tensor]:
    """The recurrent weights with dropout p, drawn anew at each call; in evaluation none."""
    if not (p and layers.training):
        return {}
    return {name: dropout(weight, p) for name, weight in recurrent_weights(layers).items()}
