"""The state of an LSTM or a GRU as a list of tensors."""

from torch import Tensor

from trek_lm.models.state import LayersState


def tensors(state: LayersState) -> list[Tensor]:
    return [state] if isinstance(state, Tensor) else list(state)
