"""Logits for the character that followed the last n characters at their previous occurrence.

The match model of text compression (M. Mahoney, Adaptive weighing of context models for lossless
data compression, 2005); the recurrent layers set its weight at each position. It can spell a name
that training never had, once the name has been read. Its table is part of the state, like the
hidden state of the recurrent layers; no weight changes.
"""

import torch
from torch import Tensor, nn

from trek_lm.models.contexts import hashes, row_of


class MatchLogits(nn.Module):
    """For each length n, adds a logit to the character that the last n characters predict.

    Each column of the batch has a table: the row of a hash of n characters holds the character
    that followed them last, and other bits of the hash, to detect the entry of another n-gram.
    """

    def __init__(self, vocab_size: int, hidden: int, lengths: list[int], rows: int) -> None:
        """`hidden`: size of the recurrent layers' outputs, from which the logits are computed;
        `rows`: of a column's table, for each length; a power of two.
        """
        super().__init__()
        self.vocab_size = vocab_size
        self.lengths = lengths
        self.history = max(lengths)  # characters needed before the first given one
        self.rows = rows
        self.gates = nn.Linear(hidden, len(lengths))
        nn.init.zeros_(self.gates.weight)
        nn.init.zeros_(self.gates.bias)

    def forward(
        self, seen: Tensor, outputs: Tensor, table: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logits `(T, B, V)` and the new table for outputs `(T, B, H)` at the last T positions.

        `seen`, as in `contexts.hashes`, has at least `history` characters before these T. The
        table is int32 `(len(lengths) * rows, B)`; None is an empty one. A given table is updated
        in place, because a copy would take longer than all the rest.
        """
        length, columns = outputs.shape[:2]
        if table is None:
            table = seen.new_zeros(len(self.lengths) * self.rows, columns, dtype=torch.int32)
        hashed = hashes(seen, length + 1, self.lengths).transpose(1, 2)  # (T + 1, K, B)
        starts = torch.arange(len(self.lengths), device=seen.device)[:, None] * self.rows
        rows = row_of(hashed, self.rows) + starts
        checks = hashed >> 18 & 2**22 - 1  # the bits below those of the row
        # 31 bits, so a non-negative int32; 9 of them hold an id from 1 to 256.
        entries = (checks[:-1] << 9 | seen[-length:, None]).int()
        entry = torch.empty_like(entries)
        for step in range(length):  # sequential: a step may read what the previous one wrote
            table.scatter_(0, rows[step], entries[step])
            torch.gather(table, 0, rows[step + 1], out=entry[step])
        found = torch.where(entry >> 9 == checks[1:], entry & 2**9 - 1, 0)  # id + 1; 0: no match
        gates = self.gates(outputs)  # (T, B, K)
        logits = gates.new_zeros(length, columns, self.vocab_size + 1)
        return logits.scatter_add(2, found.transpose(1, 2).long(), gates)[..., 1:], table
