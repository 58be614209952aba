"""Logits for the character that followed when the last few stood in the text before.

The match model of text compression (M. Mahoney, Adaptive weighing of context models for lossless
data compression, 2005), whose weight the recurrent layers set at each place. A name that training
never had is spelt from memory once it has been read. What is remembered is part of the state, as
what recurrent layers remember is; no weight changes by it.
"""

import torch
from torch import Tensor, nn

from trek_lm.models.contexts import hashes, row_of


class MatchLogits(nn.Module):
    """For each of some lengths n a logit, added to that of the character found by the last n.

    What was found is kept in one table a column: for the hash of n characters which one came
    next, the last time, and other bits of the hash, by which another n-gram's entry is told.
    """

    def __init__(self, vocab_size: int, hidden: int, lengths: list[int], rows: int) -> None:
        """`hidden`: size of the recurrent layers' outputs, which say what a match counts;
        `rows`: of a column's table for each length, a power of two.
        """
        super().__init__()
        self.vocab_size = vocab_size
        self.lengths = lengths
        self.history = max(lengths)  # characters it needs to know before the first one given
        self.rows = rows
        self.gates = nn.Linear(hidden, len(lengths))
        nn.init.zeros_(self.gates.weight)
        nn.init.zeros_(self.gates.bias)

    def forward(
        self, seen: Tensor, outputs: Tensor, table: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logits `(T, B, V)` and the table after outputs `(T, B, H)` of as many last places of
        `seen`, as `contexts.hashes` has it, which begins with `history` characters before
        them or more. A table is int32 `(len(lengths) * rows, B)`; none is an empty one. A
        given one is written into: copying it would take longer than all the rest.
        """
        steps, columns = outputs.shape[:2]
        if table is None:
            table = seen.new_zeros(len(self.lengths) * self.rows, columns, dtype=torch.int32)
        hashed = hashes(seen, steps + 1, self.lengths).transpose(1, 2)  # (T + 1, K, B)
        starts = torch.arange(len(self.lengths), device=seen.device)[:, None] * self.rows
        rows = row_of(hashed, self.rows) + starts
        checks = hashed >> 18 & 2**22 - 1  # of the bits below those of the row
        # 31 bits: an int32 that isn't negative, with 9 of them for an id from 1 to 256.
        entries = (checks[:-1] << 9 | seen[-steps:, None]).int()
        entry = torch.empty_like(entries)
        for step in range(steps):  # one by one: what is written here the next may find
            table.scatter_(0, rows[step], entries[step])
            torch.gather(table, 0, rows[step + 1], out=entry[step])
        found = torch.where(entry >> 9 == checks[1:], entry & 2**9 - 1, 0)  # from 1; 0: nothing
        gates = self.gates(outputs)  # (T, B, K)
        logits = gates.new_zeros(steps, columns, self.vocab_size + 1)
        return logits.scatter_add(2, found.transpose(1, 2).long(), gates)[..., 1:], table
