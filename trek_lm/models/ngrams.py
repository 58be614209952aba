"""Logits from the last few characters alone, added to those of the recurrent layers.

T. Mikolov et al., Strategies for training large scale neural network language models, 2011:
hashed n-gram features trained with the network. Tables learn short contexts from few examples,
which leaves the rest to the recurrent layers.
"""

import torch
from torch import Tensor, nn

from trek_lm.models.contexts import hashes, row_of


class NGramLogits(nn.Module):
    """The sum of a table's rows of logits for the last 2, 3, ..., `longest` characters.

    N-grams with the same hash share a row. The gradient is sparse: only rows that were looked up.
    """

    def __init__(self, vocab_size: int, longest: int, rows: int, dropout: float = 0.0) -> None:
        """`rows`: of the table, a power of two. `dropout`: the fraction of looked-up rows that
        training leaves out, independently of each other; it scales up the rest.
        """
        super().__init__()
        self.lengths = range(2, longest + 1)
        self.history = longest - 1  # characters needed before the first given one
        self.rows = rows
        self.dropout = nn.Dropout(dropout)
        self.table = nn.EmbeddingBag(rows, vocab_size, mode="sum", sparse=True)
        nn.init.zeros_(self.table.weight)

    def forward(self, seen: Tensor, length: int) -> Tensor:
        """Logits `(T, B, V)` at the last T = `length` positions of `seen`.

        `seen`, as in `contexts.hashes`, has at least `history` characters before these.
        """
        found = row_of(hashes(seen, length, self.lengths), self.rows).flatten(0, 1)  # (T * B, K)
        weights = None
        if self.training and self.dropout.p:
            weights = self.dropout(torch.ones_like(found, dtype=self.table.weight.dtype))
        logits: Tensor = self.table(found, per_sample_weights=weights)
        return logits.view(length, -1, self.table.embedding_dim)
