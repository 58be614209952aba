"""Logits by the last few characters alone, beside those of the recurrent layers.

T. Mikolov et al., Strategies for training large scale neural network language models, 2011:
hashed n-gram features trained with the network. What a short context tells, tables learn from
few examples, and the recurrent layers are left with what it doesn't tell.
"""

import torch
from torch import Tensor, nn

from trek_lm.errors import UserError

LONGEST = 8
MAX_ROWS = 2**20
BASE = 257  # of the number that n characters make; steps.c has the same
MULTIPLIER = 0x9E3779B97F4A7C15 - 2**64  # 2^64 / golden ratio, as the signed number torch has


class NGramLogits(nn.Module):
    """For each n from 2 to `longest` a table, looked up by a hash of the last n characters.

    N-grams of one hash share a row. The gradient is sparse: it has the rows that were looked up.
    """

    def __init__(self, symbols: int, longest: int, rows: int) -> None:
        """`rows`: of each table, a power of two."""
        super().__init__()
        self.longest = longest
        self.rows = rows
        # A module, by which DistributedDataParallel learns that the gradient is sparse.
        self.tables = nn.EmbeddingBag((longest - 1) * rows, symbols, mode="sum", sparse=True)
        nn.init.zeros_(self.tables.weight)

    def forward(self, ids: Tensor, history: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits `(T, B, symbols)` and the history after ids `(T, B)`.

        A history `(longest - 1, B)` is what the columns had before: ids counted from 1, and 0
        for a place before the first.
        """
        if history is None:
            history = ids.new_zeros(self.longest - 1, ids.shape[1])
        seen = torch.cat([history, ids + 1])
        number, steps = ids + 1, len(ids)
        found = []
        for before in range(1, self.longest):
            at = self.longest - 1 - before
            number = number * BASE + seen[at : at + steps]
            row = number * MULTIPLIER >> 40 & self.rows - 1
            found.append(row + (before - 1) * self.rows)
        rows = torch.stack(found, -1).flatten(0, 1)  # (T * B, longest - 1)
        return self.tables(rows).view(*ids.shape, self.tables.embedding_dim), seen[steps:]


def check(longest: object, rows: object) -> None:
    """Raises UserError, naming the key, unless there can be such tables; `longest` 0: none."""
    if not isinstance(longest, int) or longest not in (0, *range(2, LONGEST + 1)):
        raise UserError(
            f"model.ngrams={longest}: must be 0 for none, or the longest, from 2 to {LONGEST}"
        )
    if not isinstance(rows, int) or not 1 < rows <= MAX_ROWS or rows.bit_count() != 1:
        raise UserError(f"model.ngram_rows={rows}: must be a power of two, {MAX_ROWS} at most")
