"""Loss and accuracy per predicted character, summed over batches and ranks."""

import math

import torch
from torch import Tensor
from torchmetrics import Metric

from trek_lm.data.batching import IGNORE


class CharMetrics(Metric):
    """Loss (nats per character) and accuracy over predicted characters, without padding.

    Sums over batches and ranks, so that every character has the same weight. torchmetrics' own
    classes don't serve here: `MulticlassAccuracy(ignore_index=...)` selects by mask, which
    synchronizes with the device at every step, and so does `MeanMetric`'s check for NaN; without
    the check, `MeanMetric` (1.9) ignores its weights.
    """

    sums: Tensor

    def __init__(self, *, finite: bool = False) -> None:
        """`finite`: ignore batches whose loss isn't finite."""
        super().__init__()
        self.finite = finite
        self.add_state("sums", torch.zeros(3, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, loss_sum: Tensor, logits: Tensor, targets: Tensor) -> None:
        """`loss_sum`: summed over the batch's characters; logits `(T, B, V)`; targets `(T, B)`."""
        correct = (logits.argmax(-1) == targets).sum()
        characters = (targets != IGNORE).sum()
        sums = torch.stack([loss_sum.double(), correct, characters])
        self.sums += sums.masked_fill(~loss_sum.isfinite(), 0.0) if self.finite else sums

    def compute(self) -> dict[str, Tensor]:
        """`loss`, `acc`, `bpc` and `perplexity` over all ranks; every rank must call it."""
        loss, correct, characters = self.sums
        loss = loss / characters
        return {
            "loss": loss,
            "acc": correct / characters,
            "bpc": loss / math.log(2),
            "perplexity": loss.exp(),
        }

    def so_far(self) -> tuple[float, float]:
        """Loss and accuracy on this rank only, without communication."""
        loss, correct, characters = self.sums.tolist()
        characters = characters or math.nan  # if no loss so far was finite
        return loss / characters, correct / characters
