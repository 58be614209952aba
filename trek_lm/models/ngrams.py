"""Logits by the last few characters alone, beside those of the recurrent layers.

T. Mikolov et al., Strategies for training large scale neural network language models, 2011:
hashed n-gram features trained with the network. What a short context tells, tables learn from
few examples, and the recurrent layers are left with what it doesn't tell.
"""

import torch
from torch import Tensor, nn

from trek_lm.models.contexts import hashes, row_of


class NGramLogits(nn.Module):
    """A row of logits for the last 2, 3, ... up to `longest` characters each, added up.

    N-grams of one hash share a row. The gradient is sparse: it has the rows that were looked up.
    """

    def __init__(self, vocab_size: int, longest: int, rows: int, dropout: float = 0.0) -> None:
        """`rows`: of the table, a power of two. `dropout`: the share of rows looked up in
        training that are left out, each on its own, the others scaled up.
        """
        super().__init__()
        self.lengths = range(2, longest + 1)
        self.history = longest - 1  # characters it needs to know before the first one given
        self.rows = rows
        self.dropout = nn.Dropout(dropout)
        self.table = nn.EmbeddingBag(rows, vocab_size, mode="sum", sparse=True)
        nn.init.zeros_(self.table.weight)

    def forward(self, seen: Tensor, steps: int) -> Tensor:
        """Logits `(steps, B, V)` at the last places of `seen`, as `contexts.hashes` has it,
        which begins with `history` characters before them or more.
        """
        found = row_of(hashes(seen, steps, self.lengths), self.rows).flatten(0, 1)  # (T * B, K)
        weights = None
        if self.training and self.dropout.p:
            weights = self.dropout(torch.ones_like(found, dtype=self.table.weight.dtype))
        logits: Tensor = self.table(found, per_sample_weights=weights)
        return logits.view(steps, -1, self.table.embedding_dim)
