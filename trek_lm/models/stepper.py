"""A model one character at a time, many lines side by side: any cell, on any device."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trek_lm.models.char_lm import RecurrentLM
from trek_lm.models.state import State, restart, select


class Stepper:
    """Lines side by side, each at its own state."""

    def __init__(self, model: RecurrentLM) -> None:
        """Lines at a zero state, as many as the first step has; the weights are those of now."""
        self.model = copy.deepcopy(model).eval()
        if isinstance(self.model.recurrent, nn.RNNBase):
            # A copy's weights lie apart: cuDNN would gather them at every step, with a warning.
            self.model.recurrent.flatten_parameters()
        self.state: State | None = None

    @torch.inference_mode()
    def step(self, ids: Tensor) -> Tensor:
        """Logits `(B, V)` after one more character of each line, ids `(B,)`."""
        device = self.model.embedding.weight.device
        logits: Tensor
        logits, self.state = self.model(ids.to(device).long()[None], self.state)
        return logits[0]

    @torch.inference_mode()
    def restart(self, rows: Sequence[int]) -> None:
        """Puts these lines at a zero state."""
        if self.state is not None:
            restart(self.state, rows)

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        """Goes on with these lines only, in this order."""
        if self.state is not None:
            self.state = select(self.state, rows)
