"""Dropout on the weights of recurrent layers over their own states.

S. Merity et al., Regularizing and optimizing LSTM language models, 2018: the same weights are
dropped at all steps of a batch, so what a layer remembers is never lost within it.
"""

from torch import Tensor, nn
from torch.nn.functional import dropout


def state_weights(layers: nn.Module) -> dict[str, Tensor]:
    """The weights over own states, by the names that torch gives them: `weight_hh_l0`."""
    return {name: w for name, w in layers.named_parameters() if name.startswith("weight_hh")}


def drop_weights(layers: nn.Module, share: float) -> dict[str, Tensor]:
    """These weights with that share of them at zero, drawn anew at each call in training."""
    if not (share and layers.training):
        return {}
    return {name: dropout(weight, share) for name, weight in state_weights(layers).items()}
