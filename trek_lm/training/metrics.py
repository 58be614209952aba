"""Loss and accuracy per predicted character, summed over batches and ranks."""

import math

import torch
from torch import Tensor
from torchmetrics import Metric

from trek_lm.data.batching import IGNORE


class CharMetrics(Metric):
    """Loss (nats per character) and accuracy over predicted characters, padding left out.

    Sums over all batches and ranks, so that batches of unequal size count for what they hold.
    Why not torchmetrics' own: `MulticlassAccuracy(ignore_index=...)` selects by mask, which waits
    for the device at every step, and so does `MeanMetric`'s check for NaN; told to leave the
    check out, `MeanMetric` (1.9) ignores its weights.
    """

    sums: Tensor

    def __init__(self, *, finite: bool = False) -> None:
        """`finite`: batches whose loss isn't are left out."""
        super().__init__()
        self.finite = finite
        self.add_state("sums", torch.zeros(3, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, loss_sum: Tensor, logits: Tensor, targets: Tensor) -> None:
        """`loss_sum`: over this batch's characters; logits `(T, B, V)`; targets `(T, B)`."""
        correct = (logits.argmax(-1) == targets).sum()
        characters = (targets != IGNORE).sum()
        sums = torch.stack([loss_sum.double(), correct, characters])
        self.sums += sums.masked_fill(~loss_sum.isfinite(), 0.0) if self.finite else sums

    def compute(self) -> dict[str, Tensor]:
        """`loss`, `acc`, `bpc` and `perplexity`, over all ranks: each of them must ask."""
        loss, correct, characters = self.sums
        loss = loss / characters
        return {
            "loss": loss,
            "acc": correct / characters,
            "bpc": loss / math.log(2),
            "perplexity": loss.exp(),
        }

    def so_far(self) -> tuple[float, float]:
        """Loss and accuracy of this rank alone, without asking the others."""
        loss, correct, characters = self.sums.tolist()
        characters = characters or math.nan  # where no loss so far was finite
        return loss / characters, correct / characters
